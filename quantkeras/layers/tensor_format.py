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

from sanitize.keras_io.opaque import OperationLayer

from ..errors import QuantizationError
from ..numerics.formats import Format

Tensor = Any


@dataclass(frozen=True)
class TensorFormat:
    """Format of a tensor: ``value = integer * lsb()``.

    integers: gives (bits, signed); shape: unbatched shape of the tensor; lsb: gives the power of
    two that one integer step is worth, a float32 tensor that is scalar, (channels,) or of the
    full unbatched shape; lsb_shape: its shape; producers: names of the layers whose quantizers
    decide it.
    """

    integers: Callable[[], tuple[int, bool]]
    shape: tuple[int | None, ...]
    lsb: Callable[[], Tensor]
    lsb_shape: tuple[int | None, ...]
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
        """:attr:`lsb` for a tensor of this format, not worked out again if it was left there."""
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
    """Format of a symbolic tensor, or None if it is float (no quantized layer produced it)."""
    operation, node_index, _ = tensor._keras_history
    own = getattr(operation, "output_format", None)
    if own is not None:
        found: TensorFormat | None = own(tuple(tensor.shape[1:]))
        return found
    move = _moved(operation)
    if move is None:
        return None
    sources = operation._inbound_nodes[node_index].arguments.keras_tensors
    source = format_of(sources[0])
    if source is None:
        return None
    shape = tuple(tensor.shape[1:])
    symbol = keras.KerasTensor(source.lsb_shape)
    return replace(
        source,
        shape=shape,
        lsb=lambda: move(source.lsb(), source.shape, shape),
        lsb_shape=tuple(move(symbol, source.shape, shape).shape),
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


def _keep(array: Tensor, source: Sequence[int | None], target: Sequence[int | None]) -> Tensor:
    del source, target
    return array


def _keep_channels(
    array: Tensor, source: Sequence[int | None], target: Sequence[int | None]
) -> Tensor:
    """For layers that join or add positions: they need one format per channel or tensor."""
    if len(array.shape) > 1:
        raise QuantizationError(
            f"a tensor of shape {tuple(source)} is pooled or padded, but its formats differ by "
            "position (its channels were moved); quantize it per tensor, with per_channel=False"
        )
    return _keep(array, source, target)


def _reshaped(array: Tensor, source: Sequence[int | None], target: Sequence[int | None]) -> Tensor:
    if array.shape in ((), (1,)) or (len(array.shape) == 1 and source[-1] == target[-1]):
        return array
    return ops.reshape(ops.broadcast_to(array, source), target)


def _moved(operation: Any) -> Callable[..., Tensor] | None:
    """How a per-channel array follows a layer that only moves values; None for any other layer.

    The result maps (array, input shape, output shape) to the array for the output.
    """
    layers = keras.layers
    if isinstance(operation, layers.Flatten | layers.Reshape):
        return _reshaped
    if isinstance(operation, layers.Permute):
        order = [d - 1 for d in operation.dims]

        def permuted(array: Tensor, source: Sequence[int], target: Sequence[int]) -> Tensor:
            del target
            if array.shape in ((), (1,)) or (order[-1] == len(order) - 1 and len(array.shape) == 1):
                return array
            return ops.transpose(ops.broadcast_to(array, source), order)

        return permuted
    if isinstance(operation, OperationLayer) and type(operation.operation).__name__ == "GetItem":
        (_, key), _ = operation.arguments.value
        return _sliced(tuple(key)[1:])
    if isinstance(operation, layers.Cropping2D):
        (top, bottom), (left, right) = operation.cropping
        return _sliced((slice(top, -bottom or None), slice(left, -right or None), slice(None)))
    if isinstance(operation, _POSITIONS_JOINING):
        return _keep_channels
    if isinstance(operation, _VALUE_KEEPING):
        return _keep
    if (
        isinstance(operation, layers.Activation)
        and operation.activation is keras.activations.linear
    ):
        return _keep
    return None


def _sliced(key: tuple[Any, ...]) -> Callable[..., Tensor]:
    """key: what follows the batch in ``x[:, ...]``, one entry per axis."""

    def sliced(array: Tensor, source: Sequence[int], target: Sequence[int]) -> Tensor:
        if array.shape in ((), (1,)):
            return array
        if len(array.shape) == 1 and isinstance(key[-1], slice):
            return array[key[-1:]]
        del target
        return ops.broadcast_to(array, source)[key]

    return sliced


_VALUE_KEEPING = (
    keras.layers.Dropout,
    keras.layers.SpatialDropout2D,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
)

_POSITIONS_JOINING = (
    keras.layers.MaxPooling2D,
    keras.layers.ZeroPadding2D,
    keras.layers.UpSampling2D,
)
