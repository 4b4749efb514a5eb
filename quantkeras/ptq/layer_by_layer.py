"""A walk through a quantized model, layer by layer, with its float meaning beside it.

Methods that change one layer after the other need, at each layer with weights, what enters it in
the quantized model (with all changes made so far) and what the float model has there. A walk keeps
both for a fixed set of samples, each value only until its last reader has had it; values that take
more than MEMORY together lie in files.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from sanitize.graph import Node, producer_of

from ..calibration import open_samples
from ..errors import QuantizationError
from ..layers import WeightedLayer, unwatched
from ..layers.keras_arrays import FloatArrays
from ..numerics.layer import LayerParams, LayerSpec, run_layer
from ..qmodel import QuantizedGraph, layer_of
from ..qmodel.views import compute_node

Array = NDArray[np.float32]

BATCH = 64
MEMORY = 192 * 2**20
"""Bytes of activations that are kept in memory; the rest lies in temporary files."""


@dataclass(frozen=True)
class Step:
    """One call of a layer with weights. inputs: what the quantized model feeds it, (n, ...);
    target: its output in the float model before pooling and activation, (n, ..., c).
    """

    node: Node
    layer: WeightedLayer
    inputs: Array
    target: Array


class Walk:
    """Steps through the layers with weights of a quantized model; a context manager.

    samples, num_samples: as for ``calibrate``. The float meaning is that of the weights at the
    beginning. A layer may be changed while its step is the current one. A shared layer has one
    step per call site.
    """

    def __init__(self, model: Any, samples: Any, num_samples: int | None) -> None:
        reading = QuantizedGraph.of(model)
        self.samples = gathered(reading.model, samples, num_samples)
        self._count = len(next(iter(self.samples.values())))
        self._wanted = needed_nodes(reading)
        self._params = float_parameters(reading)
        self._folder = tempfile.TemporaryDirectory(prefix="quantkeras-", ignore_cleanup_errors=True)
        self._in_memory = 0
        self._files = 0

    def __enter__(self) -> Walk:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._folder.cleanup()

    @property
    def layers(self) -> int:
        """How many layers with weights there are."""
        return len(self._params)

    def __iter__(self) -> Iterator[Step]:
        values: dict[str, tuple[Array, Array]] = {}
        waiting = {
            name: sum(producer_of(v) == name for n in self._wanted for v in n.inputs)
            for name in (node.name for node in self._wanted)
        }
        for node in self._wanted:
            pairs = [values[producer_of(v)] for v in node.inputs]
            layer = layer_of(node, WeightedLayer)
            if node.kind == "input":
                array = self.samples[node.name]
                values[node.name] = array, array
            elif layer is not None:
                target = self._run(lambda x, a=layer: self._core(a, x), [pairs[0][1]])
                yield Step(node, layer, pairs[0][0], target)
                if waiting[node.name]:
                    exact = self._run(exact_call(node), [pairs[0][0]])
                    values[node.name] = exact, self._run(lambda y, a=layer: _rest(a, y), [target])
                self._free([target])
            else:
                values[node.name] = (
                    self._run(exact_call(node), [exact for exact, _ in pairs]),
                    self._run(float_call(node, self._params), [true for _, true in pairs]),
                )
            for value in node.inputs:
                name = producer_of(value)
                waiting[name] -= 1
                if not waiting[name]:
                    self._free(values.pop(name))

    def _core(self, layer: WeightedLayer, x: Any) -> Any:
        return core_values(layer, x, self._params[id(layer)])

    def _run(self, function: Callable[..., Any], arrays: Sequence[Array]) -> Array:
        return in_batches(function, arrays, self._space, self._count)

    def _space(self, shape: tuple[int, ...]) -> Array:
        size = 4 * int(np.prod(shape))
        if self._in_memory + size <= MEMORY:
            self._in_memory += size
            return np.empty(shape, np.float32)
        self._files += 1
        path = Path(self._folder.name, f"{self._files}.bin")
        return np.memmap(path, np.float32, "w+", shape=shape)

    def _free(self, arrays: Sequence[Array]) -> None:
        for array in arrays:
            if isinstance(array, np.memmap):
                Path(str(array.filename)).unlink(missing_ok=True)
            elif not any(array is x for x in self.samples.values()):
                self._in_memory -= array.nbytes


def float_parameters(reading: QuantizedGraph) -> dict[int, LayerParams]:
    """The present weights and biases of all layers with weights, by ``id`` of the layer."""

    def copy(tensor: Any) -> Any:  # that no assignment to a variable reaches
        return None if tensor is None else np.array(ops.convert_to_numpy(tensor))

    params = {id(layer): layer.float_params() for _, layer in reading.weighted()}
    return {
        key: LayerParams(copy(p.weights), copy(p.bias), pad_value=copy(p.pad_value))
        for key, p in params.items()
    }


def core_values(layer: WeightedLayer, x: Any, params: LayerParams) -> Any:
    """Output of a layer before pooling and activation, for float weights in ``params``."""
    alone = LayerParams(weights=params.weights, bias=params.bias, pad_value=params.pad_value)
    return run_layer(layer.core_spec(), alone, [x], FloatArrays())


def quantized_params(layer: WeightedLayer) -> LayerParams:
    """The weights that the integers of a layer stand for, as values, for :func:`core_values`."""
    numbers = layer.numbers()
    integers = layer.weight_quantizer.integers(layer.flat_kernel(), numbers.step)
    weights = layer.core_kernel(layer.kernel_shaped(integers * numbers.step))
    bias = None if numbers.qbias is None else numbers.qbias * numbers.lsb * numbers.step
    return LayerParams(weights=weights, bias=bias, pad_value=numbers.qpad_value)


def _rest(layer: WeightedLayer, core: Any) -> Any:
    """What the float meaning of a layer does behind its core."""
    spec = LayerSpec("identity", pool=layer.pool, relu=layer.relu)
    clip = LayerParams(max_value=layer.clip_value if layer.clips else None)
    y = run_layer(spec, clip, [core], FloatArrays())
    return y if layer.function is None else layer.float_function(y)


def exact_call(node: Node) -> Callable[..., Any]:
    """What a node computes in the quantized model, from its inputs as arguments."""
    return lambda *xs: compute_node(node, xs, lambda layer: layer.call)[node.name]


def float_call(node: Node, params: Mapping[int, LayerParams]) -> Callable[..., Any]:
    """What a node computes in the float model; params: see :func:`float_parameters`."""

    def compute(layer: Any) -> Any:
        if id(layer) in params:
            return weighted_call(layer, params[id(layer)])
        return layer.float_call

    return lambda *xs: compute_node(node, xs, compute)[node.name]


def weighted_call(layer: WeightedLayer, params: LayerParams) -> Callable[[Any], Any]:
    """The float meaning of a layer with the weights and bias of ``params``."""
    return lambda x: _rest(layer, core_values(layer, x, params))


def in_batches(
    function: Callable[..., Any],
    arrays: Sequence[Array],
    space: Callable[[tuple[int, ...]], Array] = lambda shape: np.empty(shape, np.float32),
    count: int | None = None,
) -> Array:
    """The function of all samples, batch by batch, in an array that ``space`` makes.

    count: of the samples, of which arrays may have several rows each, as the result may.
    """
    count, result, rows = count or len(arrays[0]), None, 1
    for start in range(0, count, BATCH):
        stop = min(start + BATCH, count)
        ends = [(start * len(a) // count, stop * len(a) // count) for a in arrays]
        parts = [np.asarray(a[i:j]) for a, (i, j) in zip(arrays, ends, strict=True)]
        part = np.asarray(ops.convert_to_numpy(function(*parts)), np.float32)
        if result is None:
            rows = len(part) // (stop - start)
            result = space((count * rows, *part.shape[1:]))
        result[start * rows : stop * rows] = part
    assert result is not None
    return result


def needed_nodes(reading: QuantizedGraph) -> list[Node]:
    """The nodes that some layer with weights depends on, and these, in order."""
    found = reading.graph.needed(node.name for node, _ in reading.weighted())
    several = [value for node in found for value in node.inputs if value != producer_of(value)]
    if several:
        raise QuantizationError(
            f"'{producer_of(several[0])}' stays float and has several outputs, with quantized "
            "layers behind it: keep these float as well (float_layers)"
        )
    return found


def gathered(model: keras.Model, samples: Any, num_samples: int | None) -> dict[str, Array]:
    """All samples by input name, (n, ...)."""
    batches = list(open_samples(model, samples, num_samples, None, 1))
    return {
        name: np.concatenate([np.asarray(batch[name], np.float32) for batch in batches])
        for name in batches[0]
    }


def predicted(model: keras.Model, arrays: Sequence[Array]) -> list[NDArray[Any]]:
    """The outputs of a model as a flat list; arrays: one per input, in order."""
    structure = keras.tree.pack_sequence_as(model.input, list(arrays))
    with unwatched(model):
        if len(arrays[0]) <= BATCH:  # compiling takes longer than a batch
            found = model(structure, training=False)
        else:
            found = model.predict(structure, BATCH, verbose=0)
    return [keras.ops.convert_to_numpy(y) for y in keras.tree.flatten(found)]
