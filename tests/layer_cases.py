"""Random hardware layers with everything they need to run: :func:`layer_cases`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from quantkeras.numerics import Format
from quantkeras.numerics.hardware_kinds import Trait, kinds_with
from quantkeras.numerics.layer import LayerParams, LayerSpec
from quantkeras.numerics.layer_windows import Pool, Window


@dataclass
class LayerCase:
    """A layer, the formats of its inputs, and int64 inputs within them (n, *shape)."""

    spec: LayerSpec
    params: LayerParams
    formats: list[Format]
    inputs: list[np.ndarray]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [x.shape[1:] for x in self.inputs]


def windows(height: int, width: int, dilated: bool = True) -> st.SearchStrategy[Window]:
    """Windows that fit a map of that size."""

    def make(size: tuple[int, int], strides: Any, padding: Any, dilation: Any) -> Window:
        window = Window(size, strides, padding, dilation if dilated else (1, 1))
        while window.extent(0) > height or window.extent(1) > width:
            if window.dilation != (1, 1):
                window = Window(window.size, strides, padding, (1, 1))
            else:
                smaller = (min(window.size[0], height), min(window.size[1], width))
                window = Window(smaller, strides, padding)
        if not isinstance(padding, str):
            pads = tuple(
                (min(a, n - 1), min(b, n - 1))
                for (a, b), n in zip(padding, window.size, strict=True)
            )
            window = Window(window.size, strides, pads, window.dilation)  # type: ignore[arg-type]
        return window

    one_to_three, one_to_two, pad = st.integers(1, 3), st.integers(1, 2), st.integers(0, 2)
    explicit = st.tuples(st.tuples(pad, pad), st.tuples(pad, pad))
    return st.builds(
        make,
        st.tuples(one_to_three, one_to_three),
        st.tuples(one_to_three, one_to_three),
        st.one_of(st.sampled_from(["same", "valid"]), explicit),
        st.tuples(one_to_two, one_to_two),
    )


@st.composite
def transposed_windows(draw: st.DrawFn, height: int, width: int) -> Window:
    """Windows over a map of that size with zeros between its pixels, mostly of stride 1."""
    pair, one = st.tuples(st.integers(1, 3), st.integers(1, 3)), st.just((1, 1))
    pad = st.integers(0, 4)
    window = Window(
        draw(st.tuples(st.integers(1, 4), st.integers(1, 4))),
        draw(st.one_of(one, one, pair)),
        draw(st.tuples(st.tuples(pad, pad), st.tuples(pad, pad))),
        draw(st.one_of(one, one, pair)),
        draw(pair),
    )
    pads = [list(ends) for ends in window.pads((height, width))]
    for axis, length in enumerate((height, width)):
        missing = window.extent(axis) - window.widened(axis, length) - sum(pads[axis])
        pads[axis][draw(st.integers(0, 1))] += max(missing, 0)
    top, left = (tuple(ends) for ends in pads)
    return replace(window, padding=(top, left))


def merged_shapes(draw: st.DrawFn, kind: str, shape: tuple[int, ...], count: int) -> list[Any]:
    """Shapes of the inputs of a layer with several; element-wise kinds may broadcast one."""
    if kind not in kinds_with(Trait.ELEMENTWISE) or draw(st.booleans()):
        return [shape] * count
    height, width, channels = shape
    smaller = draw(st.sampled_from([(1, 1, channels), (height, width, 1), (1, width, 1)]))
    shapes = [shape] * (count - 1)
    shapes.insert(draw(st.integers(0, count - 1)), smaller)
    return shapes


def random_slices(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """A (start, stop, step) of each axis that leaves something, also backward ones."""
    slices = []
    for size in shape:
        first, last = sorted(draw(st.tuples(*[st.integers(0, size - 1)] * 2)))
        step = draw(st.integers(1, 3))
        forward = (first, draw(st.sampled_from([last + 1, last + 1 - size or None])), step)
        backward = (last, first - 1 if first else None, -step)
        slices.append(draw(st.sampled_from([forward, backward])))
    return tuple(slices)


ALL_KINDS = (
    *kinds_with(Trait.WEIGHTED), *kinds_with(Trait.MERGES), "identity", "slice", "upsample"
)  # fmt: skip


@st.composite
def layer_cases(draw: st.DrawFn, kinds: tuple[str, ...] | None = None) -> LayerCase:
    """Layers of every kind with steps, widths, shifts and inputs of all sorts."""
    kind = draw(st.sampled_from(kinds or ALL_KINDS))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    extreme = draw(st.booleans())
    height, width = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    groups = draw(st.integers(1, 2)) if kind == "conv2d" else 1
    channels = groups * draw(st.integers(1, 3))
    flat = kind == "dense" and draw(st.booleans())
    shape = (channels,) if flat else (height, width, channels)
    count = 1
    if kind in kinds_with(Trait.MERGES):
        count = 2 if kind in ("multiply", "subtract") else draw(st.integers(2, 3))
    widest = 12 if kind == "multiply" else 16
    formats = [Format(draw(st.integers(2, widest)), draw(st.booleans()), 0) for _ in range(count)]
    shapes = merged_shapes(draw, kind, shape, count)
    inputs = [
        _integers(rng, f.qmin, f.qmax, (2, *s), extreme)
        for f, s in zip(formats, shapes, strict=True)
    ]
    shifts = [rng.integers(0, 6, (s[-1],)) if draw(st.booleans()) else None for s in shapes]
    params = LayerParams(input_shifts=tuple(shifts) if draw(st.booleans()) else ())
    core = LayerSpec(kind, None, groups)
    cout = channels * count if kind == "concat" else channels
    if kind in ("conv2d", "depthwise_conv2d"):
        window = draw(st.one_of(windows(height, width), transposed_windows(height, width)))
        core, size = replace(core, window=window), window.size
        last = groups * draw(st.integers(1, 3)) if kind == "conv2d" else draw(st.integers(1, 2))
        cout = last if kind == "conv2d" else channels * last
        weight_shape: tuple[int, ...] = (*size, channels // groups, last)
        if draw(st.booleans()):
            params.pad_value = _integers(rng, formats[0].qmin, formats[0].qmax, (channels,), False)
    elif kind == "dense":
        cout = draw(st.integers(1, 4))
        weight_shape = (channels, cout)
    else:
        weight_shape = ()
    if kind == "slice":
        core = replace(core, slices=random_slices(draw, shape))
        cout = len(range(channels)[slice(*core.slices[-1])])
    elif kind == "upsample":
        core = replace(core, size=draw(st.tuples(st.integers(1, 3), st.integers(1, 2))))
    if weight_shape:
        top = 2 ** (draw(st.integers(2, 12)) - 1) - 1
        params.weights = _integers(rng, -top, top, weight_shape, extreme)
    if draw(st.booleans()):
        params.bias = rng.integers(-(2**20), 2**20, (cout,))
        if draw(st.booleans()):
            params.bias_shift = rng.integers(0, 5, (cout,))
    relu = draw(st.booleans())
    if relu and draw(st.booleans()):
        params.max_value = rng.integers(0, 2**16, (cout,))
    spec = replace(core, relu=relu)
    if not flat:
        spec = replace(spec, pool=draw(_pools(*_map(core, height, width))))
    if draw(st.booleans()) or draw(st.booleans()):
        bits = draw(st.integers(2, 16))
        output = Format(bits, draw(st.booleans()), 0)
        params.scale = rng.integers(1, 2 ** draw(st.integers(1, 14)), (cout,))
        params.shift = rng.integers(-2, draw(st.integers(-1, 40)), (cout,))
        params.qmin, params.qmax = output.qmin, output.qmax
        if bits <= 8 and draw(st.booleans()):
            size = draw(st.sampled_from([(2**bits,), (2**bits, cout)]))
            params.table = rng.integers(-128, 128, size)
    return LayerCase(spec, params, formats, inputs)


def _map(spec: LayerSpec, height: int, width: int) -> tuple[int, int]:
    """Height and width of what the core of a layer gives."""
    if spec.kind == "slice":
        rows, columns = (
            range(n)[slice(*s)] for n, s in zip((height, width), spec.slices[:2], strict=True)
        )
        return len(rows), len(columns)
    if spec.kind == "upsample":
        return height * spec.size[0], width * spec.size[1]
    return (height, width) if spec.window is None else spec.window.output_size((height, width))


def _pools(height: int, width: int) -> st.SearchStrategy[Pool | None]:
    sliding = windows(height, width, dilated=False)
    return st.one_of(
        st.none(),
        st.builds(Pool, st.sampled_from(["max", "average"]), sliding),
        st.builds(Pool, st.just("global_average"), st.none(), st.booleans()),
    )


def _integers(
    rng: np.random.Generator, low: int, high: int, shape: tuple[int, ...], extreme: bool
) -> np.ndarray:
    """Integers in low .. high; extreme: at the ends only, where sums are largest."""
    if extreme:
        return rng.choice(np.array([low, high], np.int64), shape)
    return rng.integers(low, high + 1, shape)
