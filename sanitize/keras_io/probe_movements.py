"""Functions of a backend that move, reduce or combine whole tensors, understood by trying them.

A Lambda written with ``tf.transpose``, ``tf.reduce_mean`` or ``tf.concat`` shows nothing but its
results. Fed with the numbers 1, 2, 3 ... it shows where each number went.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial, reduce
from itertools import combinations, permutations
from typing import Any

import numpy as np

from ..shapes import element_count
from .call import Array, Call
from .emit import emit_reshape, emit_taken
from .trial import MAGNITUDES, many, try_function

Function = Callable[..., Any]


def read_moved(call: Call, function: Function) -> bool:
    """Emit ``function`` of one tensor (n, *shape), if it only moves numbers or adds zeros."""
    shape = call.shapes[0]
    count = element_count(shape)
    if count is None or not shape:
        return False
    x = np.arange(1, 2 * count + 1, dtype=np.float32).reshape(2, *shape)
    result = try_function(function, x) if x.size < 2**24 else None
    if result is None or result.shape[:1] != (2,):
        return False
    # The backend may leave sizes open that follow from the others.
    call.outputs = [result.shape[1:]]
    first, second = result
    if not np.array_equal(np.where(first > 0, first + x.size // 2, 0), second):
        return False
    places = first.astype(np.int64)
    if not np.array_equal(places, first) or places.min(initial=0) < 0 or places.max() > x.size // 2:
        return False
    # A mean or maximum of ascending numbers looks like one of them: others must go the same ways.
    generator = np.random.default_rng(2)
    other = generator.normal(size=x.shape) * 10.0 ** generator.uniform(-3.0, 7.0, x.shape)
    other = other.astype(np.float32)
    moved = np.append(other[0].ravel(), np.float32(0.0))[places - 1]
    again = try_function(function, other)
    if again is None or not np.array_equal(again[0], moved):
        return False
    if np.array_equal(places.ravel(), np.arange(1, x.size // 2 + 1)):
        return emit_reshape(call)
    for order in permutations(range(len(shape))):
        if np.array_equal(x[0].transpose(order), first):
            call.emit("permute", attrs={"dims": order})
            return True
    return _read_separable(call, places)


def _read_separable(call: Call, places: Array) -> bool:
    """Positions taken axis by axis, inside a border of zeros; axes of length 1 may be dropped."""
    shape, out = call.shapes[0], call.outputs[0]
    for thick in _with_ones(out, len(shape)):
        inner, border = _without_border(places.reshape(thick))
        if inner.size == 0 or (inner == 0).any():
            continue
        indices = _per_axis(inner - 1, shape)
        spatial = border[:2] if len(shape) == 3 else []
        if indices is None or any(map(any, border[len(spatial) :])):
            continue
        return _emit_separable(call, indices, spatial, thick != tuple(out))
    return False


def _with_ones(out: Any, rank: int) -> Iterator[tuple[int, ...]]:
    """``out`` with axes of length 1 put in until it has ``rank`` axes."""
    for where in combinations(range(rank), rank - len(out)) if rank >= len(out) else ():
        sizes = iter(out)
        yield tuple(1 if axis in where else next(sizes) for axis in range(rank))


def _without_border(places: Array) -> tuple[Array, list[tuple[int, int]]]:
    """The part inside the rows and columns that are all zero, and how many there are per axis."""
    border = []
    for axis in range(places.ndim):
        rest = tuple(a for a in range(places.ndim) if a != axis)
        filled = np.flatnonzero(places.any(axis=rest))
        if not filled.size:
            return places[:0], [(0, 0)] * places.ndim
        low, high = int(filled[0]), int(filled[-1]) + 1
        border.append((low, places.shape[axis] - high))
        places = places.take(range(low, high), axis=axis)
    return places, border


def _per_axis(places: Array, shape: Any) -> list[Array] | None:
    """The positions taken along each axis, when x[ix_(*positions)] is what was made."""
    coordinates = np.unravel_index(places, shape)
    corner = (0,) * places.ndim
    indices = []
    for axis, along in enumerate(coordinates):
        line: tuple[Any, ...] = (*corner[:axis], slice(None), *corner[axis + 1 :])
        indices.append(np.asarray(along[line]))
    whole = np.ravel_multi_index(np.ix_(*indices), shape)
    return indices if np.array_equal(whole, places) else None


def _emit_separable(
    call: Call, indices: list[Array], border: list[tuple[int, int]], drop: bool
) -> bool:
    shape, value = list(call.shapes[0]), call.values[0]
    size = [1, 1]
    for axis, taken in enumerate(indices):
        length = int(shape[axis] or 0)
        times = taken.size // max(length, 1)
        if np.array_equal(taken, np.arange(length)):
            continue
        repeated = np.array_equal(taken, np.repeat(np.arange(length), times))
        if repeated and axis < 2 and len(shape) == 3:
            size[axis] = times
            continue
        if not emit_taken(call, value, tuple(shape), axis, taken, prefix=f"axis{axis}"):
            call.emitted.clear()
            return False
        value, shape[axis] = call.last, taken.size
    if size != [1, 1]:
        value = call.emit("upsample", [value], {"size": tuple(size)}, suffix="repeated")
    if any(map(any, border)):
        value = call.emit("pad", [value], {"padding": tuple(border[:2])}, suffix="padded")
    return emit_reshape(call, [value]) if drop else True


_REDUCTIONS: Mapping[str, Callable[..., Any]] = {
    "global_avg_pool": np.mean,
    "global_max_pool": np.max,
}


def read_reduced(call: Call, function: Function) -> bool:
    """Emit ``function`` of one map, if it is a mean or maximum over height and width."""
    shape = call.shapes[0]
    if len(shape) != 3:
        return False
    x = many(shape)
    for kind, reduction in _REDUCTIONS.items():
        for keepdims in (False, True):
            known = partial(reduction, axis=(1, 2), keepdims=keepdims)
            if _agrees(function, known, [x]):
                call.emit(kind, attrs={"keepdims": keepdims})
                return True
    return False


def _agrees(function: Function, known: Callable[..., Array], arrays: Sequence[Array]) -> bool:
    """Whether both make the same of ``arrays`` of several magnitudes."""
    for magnitude in MAGNITUDES:
        scaled = [np.float32(magnitude) * array for array in arrays]
        result, wanted = try_function(function, *scaled), known(*scaled)
        if result is None or result.shape != wanted.shape:
            return False
        if not np.allclose(result, wanted, rtol=1e-5, atol=1e-5 * magnitude):
            return False
    return True


_MERGES: Mapping[str, Callable[..., Any]] = {
    "add": np.add,
    "multiply": np.multiply,
    "subtract": np.subtract,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


def read_merged(call: Call, function: Function) -> bool:
    """Emit ``function`` of several tensors, if it combines them number by number or joins them.

    ``function`` takes the tensors one by one.
    """
    shapes = call.shapes
    if len(shapes) < 2 or len({len(shape) for shape in shapes}) != 1:
        return False
    # Other numbers in each, so that their order shows.
    arrays = [np.float32(1.0 + 0.5 * i) * many(shape) + i for i, shape in enumerate(shapes)]
    for axis in range(len(shapes[0])):
        rest = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
        if len(rest) == 1 and _agrees(function, _joined(axis + 1), arrays):
            call.emit("concat", attrs={"axis": axis})
            return True
    try:
        np.broadcast_shapes(*(array.shape for array in arrays))
    except ValueError:
        return False
    for kind, merge in _MERGES.items():
        for step in (1, -1):
            if _agrees(function, _merged(merge, step), arrays):
                call.emit(kind, list(call.values)[::step])
                return True
    return False


def _joined(axis: int) -> Callable[..., Array]:
    return lambda *tensors: np.concatenate(tensors, axis)


def _merged(merge: Function, step: int) -> Callable[..., Array]:
    """``merge`` of all tensors from the first, or with a step of -1 from the last."""
    return lambda *tensors: np.asarray(reduce(merge, tensors[::step]))
