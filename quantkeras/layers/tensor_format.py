"""Which fixed-point format a symbolic Keras tensor has, found by looking at what produced it.

Between quantized layers flow ordinary float tensors. When a functional model is built (by
``quantize``, ``load_model``, ``clone_model`` or by hand), each quantized layer asks
:func:`format_of` about its symbolic inputs and keeps the answer: a :class:`TensorFormat` that
reads the producer's variables each time it is needed, so that moving ranges are followed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import ops

from sanitize.keras_io.opaque_layers import OperationLayer

from ..numerics.carry import places_behind
from ..numerics.formats import Format
from ..numerics.layer import LayerSpec
from ..numerics.layer_windows import Pool, Window

Tensor = Any
Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class TensorFormat:
    """Format of a tensor: ``value = integer * lsb()``.

    Attributes:
        integers: gives (bits, signed).
        shape: unbatched shape of the tensor.
        lsb: gives the power of two that one integer step is worth, a float32 tensor that is scalar,
            (channels,) or of the full unbatched shape.
        lsb_shape: its shape.
        producers: names of the layers whose quantizers decide it.
        spread: how many bits the steps of channels lie apart at most, None if that is not bounded.
    """

    integers: Callable[[], tuple[int, bool]]
    shape: tuple[int | None, ...]
    lsb: Callable[[], Tensor]
    lsb_shape: tuple[int, ...]
    producers: tuple[str, ...]
    spread: int | None = None

    @property
    def bits(self) -> int:
        """Width of the integers, sign included."""
        return self.integers()[0]

    @property
    def signed(self) -> bool:
        """Whether the integers have a sign."""
        return self.integers()[1]

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest integer."""
        bits, signed = self.integers()
        return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)

    @property
    def largest(self) -> int:
        """The largest magnitude of an integer of this format."""
        low, high = self.limits
        return max(-low, high)

    def lsb_of(self, values: Tensor) -> Tensor:
        """Look up :attr:`lsb` for a tensor, not worked out again if it was left there.

        Args:
            values: a tensor of this format.

        Returns:
            What one integer step is worth.
        """
        source, lsb = getattr(values, _MARK, (None, None))
        return lsb if source == self.lsb else self.lsb()

    def numpy(self) -> Format:
        """The present format as plain integers."""
        lsb = np.asarray(keras.ops.convert_to_numpy(self.lsb()), np.float64)
        return Format(self.bits, self.signed, 1 - np.frexp(lsb)[1].astype(np.int64))


_MARK = "_quantkeras_lsb"


def with_lsb(values: Tensor, source: Callable[[], Tensor], lsb: Tensor) -> Tensor:
    """Leave on a tensor what one step of it is worth, for :meth:`TensorFormat.lsb_of`.

    source: what gave lsb. Each layer would work out the steps of its inputs again, which is a
    large part of the graph that a first ``predict`` has to trace.
    """
    with contextlib.suppress(AttributeError):  # the arrays of some backends take none
        setattr(values, _MARK, (source, lsb))
    return values


def format_of(tensor: Any) -> TensorFormat | None:
    """Look up the format of a symbolic tensor.

    Args:
        tensor: of a functional model.

    Returns:
        The format, or None if it is float (no quantized layer produced it).
    """
    operation, node_index, _ = tensor._keras_history
    shape = tuple(tensor.shape[1:])
    own: Callable[[Shape], TensorFormat] | None = getattr(operation, "output_format", None)
    if own is not None:
        return own(shape)
    movements = _movements(operation, shape)
    if not movements:
        return None
    found = format_of(operation._inbound_nodes[node_index].arguments.keras_tensors[0])
    for movement, behind in movements:
        found = None if found is None else _carried(found, movement, behind)
    return found


def _carried(source: TensorFormat, movement: LayerSpec, shape: Shape) -> TensorFormat:
    """Format of a tensor of ``shape`` that a movement makes of the source."""
    places = places_behind(source.lsb_shape, movement, source.shape)
    if places is None:
        return replace(source, shape=shape)
    return replace(
        source, shape=shape, lsb=lambda: ops.take(source.lsb(), places), lsb_shape=places.shape
    )


def join_formats(formats: Sequence[TensorFormat]) -> TensorFormat:
    """The format into which every call site of a shared layer aligns its input without loss."""
    if len(formats) == 1:
        return formats[0]

    def integers() -> tuple[int, bool]:
        signed = any(f.signed for f in formats)
        return max(f.bits + (signed and not f.signed) for f in formats), signed

    def lsb() -> Tensor:
        smallest = formats[0].lsb()
        for other in formats[1:]:
            smallest = ops.minimum(smallest, other.lsb())
        return smallest

    producers = tuple(dict.fromkeys(name for f in formats for name in f.producers))
    widest = max((f.lsb_shape for f in formats), key=lambda shape: (len(shape), shape[-1] or 0))
    return TensorFormat(integers, formats[0].shape, lsb, widest, producers)


def _movements(operation: Any, shape: Shape) -> list[tuple[LayerSpec, Shape]]:
    """What a layer that only moves values does: movements and their output shapes, the last of
    which is ``shape``. Empty for any other layer.
    """
    layers = keras.layers
    target = tuple(-1 if size is None else size for size in shape)
    if isinstance(operation, layers.Flatten | layers.Reshape):
        return [(LayerSpec("reshape", shape=target), shape)]
    if isinstance(operation, layers.Permute):
        return [(LayerSpec("permute", dims=tuple(d - 1 for d in operation.dims)), shape)]
    if isinstance(operation, layers.Cropping2D):
        crop = ((start, -end or None, 1) for start, end in operation.cropping)
        return [(LayerSpec("slice", slices=(*crop, (0, None, 1))), shape)]
    if isinstance(operation, OperationLayer) and type(operation.operation).__name__ == "GetItem":
        (_, (_, *key)), _ = operation.arguments.value
        return _slices(key, shape)
    if isinstance(operation, layers.ZeroPadding2D):
        return [(LayerSpec("pad", pads=operation.padding), shape)]
    if isinstance(operation, layers.UpSampling2D):
        return [(LayerSpec("upsample", size=operation.size), shape)]
    if isinstance(operation, layers.MaxPooling2D):
        window = Window(operation.pool_size, operation.strides, operation.padding)
        return [(LayerSpec("identity", pool=Pool("max", window)), shape)]
    linear = getattr(operation, "activation", None) is keras.activations.linear
    if isinstance(operation, _VALUE_KEEPING) or (
        isinstance(operation, layers.Activation) and linear
    ):
        return [(LayerSpec("identity"), shape)]
    return []


def _slices(key: Sequence[Any], shape: Shape) -> list[tuple[LayerSpec, Shape]]:
    """key: what follows the batch in ``x[:, ...]``, one entry per axis; numbers drop theirs."""
    slices: list[Any] = []
    cut: list[int | None] = []
    rest = list(shape)
    for entry in key:
        if isinstance(entry, slice):
            slices.append((entry.start, entry.stop, entry.step))
            cut.append(rest.pop(0))
        else:
            slices.append((entry, entry + 1 or None, 1))
            cut.append(1)
    steps: list[tuple[LayerSpec, Shape]] = [(LayerSpec("slice", slices=tuple(slices)), tuple(cut))]
    if len(cut) > len(shape):
        target = tuple(-1 if size is None else size for size in shape)
        steps.append((LayerSpec("reshape", shape=target), shape))
    return steps


_VALUE_KEEPING = (
    keras.layers.Dropout,
    keras.layers.SpatialDropout2D,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
)
