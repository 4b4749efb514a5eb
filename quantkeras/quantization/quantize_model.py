"""From a float model to a calibrated quantized one: the steps of :func:`quantize` in order."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sanitize import sanitize_graph
from sanitize.graph import Graph
from sanitize.log import Log

from ..calibration import calibrate_on
from ..calibration.fed_kinds import decided_kind, warn_of_prepared
from ..calibration.sample_shapes import SampleShapes
from ..errors import NonFiniteError, QuantizationError
from ..qmodel import QuantizedGraph
from ..report import coverage
from .accumulator_fit import fit_accumulators
from .borders import unfold_borders
from .build import build_model
from .decide import make_plan, stays_float
from .float_network import FloatNetwork, float_network, is_onnx
from .input_scaling import InputMap, fitting_maps, open_maps
from .output_losses import BYTES, ROWS, is_watched, warn_of_losses
from .params import LayerOverride, QuantizationParams, chosen_params
from .plan import Plan
from .provenance import add_hint, attach, chosen_observers, quantized_name, trace
from .training_traits import UNTRAINED, looks_untrained, take_over
from .vanished_weights import warn_of_vanished_weights

SPLIT = (
    "Layers with weights of their own in each place, as the inputs that they read lie too far "
    "apart for one: {}. Training changes them one by one."
)

LISTED = 10
"""So many nodes of an ONNX model are named that stay float because of another."""


def quantize(
    model: Any,
    qparams: QuantizationParams | None = None,
    samples: Any = None,
    num_samples: int | None = 1024,
    batch_size: int | None = None,
    epochs: int = 1,
    observer: Any = None,
    strict: bool = False,
    verbose: bool = False,
    as_onnx: bool | str | None = None,
    shapes: Any = None,
    verify: bool = True,
) -> Any:
    """Make a quantized model of a float one, which is not changed.

    Of a Keras model it makes a Keras model, which can be trained; of an ONNX model an
    onnx.ModelProto of integer operators, with the layers that stay float behind them.

    Args:
        model: a Keras model, or an ONNX model: a ModelProto, its bytes, or the path of an .onnx
            file.
        qparams: bits and other choices; None: 8 bits.
        samples: calibration data, see :func:`calibrate`. None draws random ones, with a warning:
            what samples decide, as whether inputs are integers, is then left to the first
            ``calibrate``. For the Keras model of an ONNX model, either order of axes.
        num_samples: at most that many per epoch, None for all.
        batch_size: samples at a time, None chooses.
        epochs: passes over the samples; a generator can give one only.
        observer: overrides that of qparams and its overrides; for what it names, if it is a dict
            from layer names to observers.
        strict: raise instead of warn when a layer has to stay float.
        verbose: print what became of each layer, see :func:`coverage`.
        as_onnx: whether an onnx.ModelProto is returned; None: if an ONNX model was given. True is
            the format "integer"; others by name, see :func:`~quantkeras.onnx.export_onnx`. False
            gives the Keras model of an ONNX model, images of which are channels-last.
        shapes: sizes behind the batch of inputs that leave them open: a tuple for the only input,
            or a dict by name; those of an ONNX model in its order. None: those of the samples.
        verify: run what was read, and what sanitizing made of it, against the model on random
            inputs.

    Returns:
        The quantized keras.Model, or an onnx.ModelProto, whose inputs and outputs are those of the
        ONNX model that was given.

    Raises:
        QuantizationError: for what is no model, a quantized one and one in which nothing can be
            quantized, bad samples, names in qparams that no layer has and, if strict, a layer that
            has to stay float.
        NonFiniteError: for weights that are NaN or infinite.
        quantkeras.quantization.params.ParamsError: for qparams that are none.
        AccumulatorTooWide: for accumulators that 8 bits are too many for.
        sanitize.GraphError: for a Keras model that cannot be read.
        sanitize.keras_io.reading_check.ReadingError: if what was read computes something else than
            the model; it names the layer.
        sanitize.match.RewriteError: if what sanitizing made of it does; it names the rule.
        sanitize.onnx_io.OnnxError: for an ONNX model that cannot be read.
        FileNotFoundError: for a path that leads nowhere.

    Warns:
        QuantizationLossWarning: where an output keeps less than 20 dB of signal to noise on the
            samples, unless some bits are fewer than 8.

    Example:
        ``quantized = quantize(model, QuantizationParams(weight_bits=4), samples=x)``
    """
    qparams = chosen_params(qparams)
    peeked = SampleShapes(samples)
    network = float_network(model, shapes, peeked, verify)
    samples = peeked.samples
    keep = stays_float(qparams)
    graph, log = sanitize_graph(network.graph, verify=verify, keep=keep)
    log = Log((*network.conversions, *log.entries))
    _check_weights(graph)
    plan = make_plan(graph, qparams)
    _report_plan(plan, network, qparams, strict)
    random_range = {name: _plausible_range(graph, name, qparams) for name in graph.inputs}
    stream = network.open_samples(samples, num_samples, batch_size, epochs, random_range)
    dtypes = {
        name: decided_kind(qparams, None if samples is None else stream.dtypes[name])
        for name in graph.inputs
    }
    maps: dict[str, InputMap] = {}
    apart: list[str] = []
    if not qparams.per_tensor_activations:
        given = observer if isinstance(observer, Mapping) else {}
        names = [
            name
            for name in plan.inputs
            if dtypes[name] == "float32"
            # A range that is given is one of the inputs as they are.
            and isinstance(given.get(quantized_name(f"{name}/quantizer"), ""), str)
        ]
        if samples is None:
            graph, maps = open_maps(network.graph, graph, names, keep)
        else:
            graph, maps = fitting_maps(network.graph, graph, names, stream, keep)
        apart = _split_shares(plan.graph, graph)
        plan = make_plan(graph, qparams) if maps else plan
    plan = _plan_for_inputs(plan, qparams, dtypes)
    quantized = build_model(plan, qparams, dtypes, maps)
    reading = QuantizedGraph.of(quantized)
    observers = chosen_observers(plan, qparams)
    if isinstance(observer, str):
        qparams, observers = replace(qparams, observer=observer), {}
    elif isinstance(observer, Mapping):
        observers |= {name: kind for name, kind in observer.items() if isinstance(kind, str)}
    made = replace(
        trace(network.layers, plan, log),
        params=qparams,
        observers=observers,
        outputs=network.outputs,
    )
    hints = take_over(plan, quantized, network.objects)
    if apart:
        hints = (*hints, SPLIT.format(", ".join(map(repr, apart))))
    attach(quantized, replace(made, provisional=samples is None, hints=hints))
    if qparams.ranges == "frozen" and looks_untrained(network.graph, network.objects):
        add_hint(quantized, UNTRAINED)
    if samples is not None:
        warn_of_prepared(network.graph, stream.peek(ROWS, BYTES))
    watched = stream.peek(ROWS, BYTES) if samples is not None and is_watched(qparams) else []
    calibrate_on(reading, stream, observer, fresh=True, fill=samples is not None)
    fit_accumulators(reading, qparams.buffer_bits)
    warn_of_vanished_weights(quantized)
    if watched:
        warn_of_losses(reading, watched)
    if verbose:
        coverage(reading).show()
    if is_onnx(model) if as_onnx is None else as_onnx:
        from ..onnx.whole_model import export_whole

        form = as_onnx if isinstance(as_onnx, str) else "integer"
        return export_whole(reading, form, network.onnx)
    return quantized


def _plan_for_inputs(plan: Plan, qparams: QuantizationParams, dtypes: Mapping[str, str]) -> Plan:
    """The plan, or another one where inputs are integers already and can't hold what is put around
    them: their range is given.
    """
    ranges = {"uint8": (0, 255), "int8": (-128, 127)}
    limits = {name: ranges[kind] for name, kind in dtypes.items() if kind in ranges}
    graph = unfold_borders(plan.graph, limits)
    return plan if graph is plan.graph else make_plan(graph, qparams)


def _split_shares(before: Graph, after: Graph) -> list[str]:
    """Layers that have one set of weights in all places no more, as the user calls them."""
    found = [n for n in before if n.share is not None and n.name in after]
    gone = [n for n in found if after[n.name].share is None]
    return list(dict.fromkeys(n.source[0] if n.source else n.name for n in gone))


def _check_weights(graph: Graph) -> None:
    for node in graph:
        for name, array in node.weights.items():
            if not np.isfinite(array).all():
                layer = "', '".join(node.source) or node.name
                raise NonFiniteError(
                    f"layer '{layer}': its {name} holds NaN or infinity. Train the model again or "
                    "repair the weights before quantizing."
                )


def _report_plan(
    plan: Plan, network: FloatNetwork, qparams: QuantizationParams, strict: bool
) -> None:
    """Errors and the one warning about what cannot be quantized."""
    if not plan.blocks:
        reasons = "; ".join(f"{f.node.name!r}: {f.reason}" for f in plan.floats[:3])
        raise QuantizationError(f"nothing in model {plan.graph.name!r} can be quantized: {reasons}")
    # A layer that does nothing has gone, but its name is no mistake.
    kinds: dict[str, str | None] = dict.fromkeys(network.layers)
    for node in (*network.graph, *plan.graph):
        kinds.update(dict.fromkeys((node.name, *node.source), node.kind))
    _check_names(qparams.unmatched(kinds), network.former)
    if not plan.stops:
        return
    named = {f.node.name: network.described(f.node) for f in plan.floats}
    listed = "; ".join(f"{named[f.node.name]}: {f.reason}" for f in plan.stops)
    behind = [named[f.node.name] for f in plan.floats if f.is_consequence]
    if network.onnx is not None and behind:
        more = [f"{len(behind) - LISTED} more"] if len(behind) > LISTED else []
        listed += f". Behind: {', '.join([*behind[:LISTED], *more])}"
    message = f"{len(plan.stops)} layer(s) stay float, and {len(behind)} behind them: {listed}. "
    if strict:
        raise QuantizationError(
            f"{message}Replace them, name them in float_layers, or quantize without strict."
        )
    message += "The quantized model runs; convert() covers it up to its Dequantizer."
    warnings.warn(message, stacklevel=3)


def _check_names(unmatched: Sequence[str], former: Mapping[str, tuple[str, ...]]) -> None:
    """An error for patterns that name no layer, or one that others compute now; those that did
    nothing and have gone are no mistake.
    """
    lost = []
    for pattern in unmatched:
        match = LayerOverride(pattern, float=True)
        found = {name: into for name, into in former.items() if match.matches([name])}
        folded = [(name, into) for name, into in found.items() if into]
        if folded:
            name, into = folded[0]
            raise QuantizationError(
                f"the layer {name!r} (float_layers or overrides) was folded into "
                f"{', '.join(map(repr, into))} when sanitize or equalize made this model: name "
                f"{'that' if len(into) == 1 else 'those'} instead, or quantize the model as it was "
                "before; equalize(..., qparams=) leaves layers that stay float as they are"
            )
        if not found:
            lost.append(pattern)
    if lost:
        raise QuantizationError(
            f"no layer is named {', '.join(map(repr, lost))} (float_layers or overrides); "
            "check the names with model.summary()"
        )


def _plausible_range(
    graph: Graph, name: str, qparams: QuantizationParams
) -> tuple[int, int] | tuple[float, float]:
    """What random samples of an input may look like: images for 1 or 3 channels, else -1..1."""
    shape = graph[name].shape
    if qparams.input_dtype == "int8":
        return (-128, 127)
    images = len(shape) == 3 and shape[-1] in (1, 3)
    if qparams.input_dtype == "uint8" or (qparams.input_dtype == "auto" and images):
        return (0, 255)
    return (-1.0, 1.0)
