"""What belongs to the elements of a tensor (fracs, scales, steps, moments), behind a movement.

A movement is a layer that puts the numbers of its input elsewhere. Here it is run on the numbers of
the elements of an array, so that what belongs to them goes where they go, by the definition.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import QuantizationError
from .arrays import IntArrays
from .hardware_kinds import Trait
from .layer import LayerParams, LayerSpec, run_layer
from .layer_shapes import fixed_shape
from .layer_windows import Pads, Window

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]


def carry(array: Array, movement: LayerSpec, shape: Sequence[int | None]) -> Array:
    """The array behind a movement of a tensor of the unbatched ``shape``.

    array: broadcastable to ``shape``. The result is broadcastable to the shape of the output, and
    has no leading axes along which it is the same. Padding takes what its nearest element has, as
    zeros are zeros in any step. Raises QuantizationError where a pool would join elements that have
    not the same, and where the sizes would have to be known.
    """
    array = without_leading(array)
    places = places_behind(array.shape, movement, shape)
    return array if places is None else without_leading(array.reshape(-1)[places])


def without_leading(array: Array) -> Array:
    """The array without the leading axes along which it is the same."""
    while array.ndim > 1 and (array == array[:1]).all():
        array = array[0]
    return array


def places_behind(
    array: tuple[int, ...], movement: LayerSpec, shape: Sequence[int | None]
) -> Indices | None:
    """Where in a flattened array of that shape :func:`carry` finds what the output has.

    None if the array serves the output as it is.
    """
    places = np.arange(math.prod(array)).reshape(array)
    if places.size == 1 or (None in shape and _keeps_channels(array, movement, shape)):
        return None
    core = movement
    alone = places.ndim == 1 and Trait.VIEWS not in movement.traits
    if alone and (movement.kind != "permute" or None in shape):  # one position serves for all
        full = places.reshape((1,) * (len(shape) - 1) + array)
        cuts = ((0, None, 1),) * (len(shape) - 1) + movement.slices[-1:]
        core = replace(movement, slices=cuts)
    else:
        full = np.broadcast_to(places, fixed_shape(shape))
    found = without_leading(run_layer(core, LayerParams(), [full[None]], _Places())[0])
    return None if np.array_equal(found, places) else found


def _keeps_channels(
    array: tuple[int, ...], movement: LayerSpec, shape: Sequence[int | None]
) -> bool:
    """Whether a reshape leaves one element per channel where it is, whatever the other sizes."""
    return movement.kind == "reshape" and array == tuple(shape[-1:]) == movement.shape[-1:]


class _Places(IntArrays):
    """Movements of places: see :func:`carry` for those that bring new elements or join some."""

    def pad(self, x: Array, pads: Pads) -> Array:
        return np.pad(x, ((0, 0), *pads, (0, 0)), mode="edge")

    def max_pool(self, x: Array, window: Window) -> Array:
        if (x != x[:, :1, :1]).any():
            raise QuantizationError(
                f"a tensor of shape {x.shape[1:]} is pooled, but its formats differ by position "
                "(its channels were moved); quantize it per tensor, with per_channel=False"
            )
        return x[:, :1, :1]
