"""Random hardware layers with inputs, and a slow reader of the layer equation.

:func:`layer_cases` draws a layer with everything it needs to run; :func:`naive_layer` computes it
one number at a time with Python integers and loops, from the text of the equation.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st
from strategies import exact_half_up

from quantkeras.numerics import Format
from quantkeras.numerics.layer import LayerParams, LayerSpec, Pool, Window


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
def layer_cases(draw: st.DrawFn, kinds: tuple[str, ...] | None = None) -> LayerCase:
    """Layers of every kind with steps, widths, shifts and inputs of all sorts."""
    kind = draw(
        st.sampled_from(
            kinds or ("conv2d", "depthwise_conv2d", "dense", "add", "concat", "identity")
        )
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    extreme = draw(st.booleans())
    height, width = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    groups = draw(st.integers(1, 2)) if kind == "conv2d" else 1
    channels = groups * draw(st.integers(1, 3))
    flat = kind == "dense" and draw(st.booleans())
    shape = (channels,) if flat else (height, width, channels)
    count = draw(st.integers(2, 3)) if kind in ("add", "concat") else 1
    formats = [Format(draw(st.integers(2, 16)), draw(st.booleans()), 0) for _ in range(count)]
    inputs = [_integers(rng, f.qmin, f.qmax, (2, *shape), extreme) for f in formats]
    shifts = [
        rng.integers(0, 6, (channels,)) if draw(st.booleans()) else None for _ in range(count)
    ]
    params = LayerParams(input_shifts=tuple(shifts) if draw(st.booleans()) else ())
    window = None
    cout = channels * count if kind == "concat" else channels
    if kind in ("conv2d", "depthwise_conv2d"):
        window = draw(windows(height, width))
        size = window.size
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
    core = LayerSpec(kind, window, groups, relu=relu)
    pool = None if flat else draw(_pools(*_map(core, height, width)))
    spec = LayerSpec(kind, window, groups, pool, relu)
    if draw(st.booleans()) or draw(st.booleans()):
        bits = draw(st.integers(2, 16))
        output = Format(bits, draw(st.booleans()), 0)
        params.scale = rng.integers(1, 2 ** draw(st.integers(1, 16)), (cout,))
        params.shift = rng.integers(-3, draw(st.integers(-2, 40)), (cout,))
        params.qmin, params.qmax = output.qmin, output.qmax
        if bits <= 8 and draw(st.booleans()):
            params.table = rng.integers(-128, 128, 2**bits)
    return LayerCase(spec, params, formats, inputs)


def _map(spec: LayerSpec, height: int, width: int) -> tuple[int, int]:
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


# -- the slow reader --------------------------------------------------------------------------


def naive_layer(case: LayerCase) -> np.ndarray:
    """Output (n, ...) of the layer as Python integers in an object array."""
    results = [
        _naive_sample(case.spec, case.params, [x[i].astype(object) for x in case.inputs])
        for i in range(len(case.inputs[0]))
    ]
    return np.stack(results)


def _naive_sample(spec: LayerSpec, params: LayerParams, xs: list[np.ndarray]) -> np.ndarray:
    shifts = params.input_shifts or (None,) * len(xs)
    xs = [
        x if s is None else x * 2 ** np.asarray(s, object) for x, s in zip(xs, shifts, strict=True)
    ]
    acc = _naive_core(spec, params, xs)
    if params.bias is not None:
        shift = 0 if params.bias_shift is None else np.asarray(params.bias_shift, object)
        acc = acc + np.asarray(params.bias, object) * 2**shift
    if spec.pool is not None and spec.pool.kind == "max":
        acc = _naive_pool(acc, spec.pool.window, max)
    if spec.relu:
        acc = np.maximum(acc, 0)
        if params.max_value is not None:
            acc = np.minimum(acc, np.asarray(params.max_value, object))
    if spec.pool is not None and spec.pool.kind == "average":
        acc = _naive_pool(acc, spec.pool.window, sum)
    if spec.pool is not None and spec.pool.kind == "global_average":
        acc = acc.sum(axis=(0, 1), keepdims=spec.pool.keepdims)
    if params.scale is not None:
        acc = _naive_rescale(acc, params)
    if params.table is not None:
        entries = [int(params.table[int(v) - params.qmin]) for v in acc.reshape(-1)]
        acc = np.array(entries, object).reshape(acc.shape)
    return acc


def _naive_core(spec: LayerSpec, params: LayerParams, xs: list[np.ndarray]) -> np.ndarray:
    if spec.kind == "add":
        return sum(xs[1:], xs[0])
    if spec.kind == "concat":
        return np.concatenate(xs, axis=spec.axis)
    if spec.kind == "dense":
        return xs[0] @ params.weights.astype(object)
    if spec.kind in ("conv2d", "depthwise_conv2d"):
        return _naive_conv(spec, params, xs[0])
    return xs[0]


def _naive_conv(spec: LayerSpec, params: LayerParams, x: np.ndarray) -> np.ndarray:
    window, w = spec.window, params.weights
    assert window is not None
    height, width, cin = x.shape
    (top, _), (left, _) = window.pads((height, width))
    oh, ow = window.output_size((height, width))
    pad = [0] * cin if params.pad_value is None else [int(v) for v in params.pad_value]
    depthwise = spec.kind == "depthwise_conv2d"
    cout = cin * w.shape[3] if depthwise else w.shape[3]
    out = np.zeros((oh, ow, cout), object)
    for r, s, o in np.ndindex(oh, ow, cout):
        if depthwise:
            taps = [(o // w.shape[3], 0, o % w.shape[3])]
        else:
            depth, first = w.shape[2], o // (cout // spec.groups) * w.shape[2]
            taps = [(first + k, k, o) for k in range(depth)]
        for i, j, (c, k, last) in itertools.product(range(w.shape[0]), range(w.shape[1]), taps):
            y = r * window.strides[0] + i * window.dilation[0] - top
            z = s * window.strides[1] + j * window.dilation[1] - left
            inside = 0 <= y < height and 0 <= z < width
            value = x[y, z, c] if inside else pad[c]
            weight = w[i, j, c, last] if depthwise else w[i, j, k, last]
            out[r, s, o] += value * int(weight)
    return out


def _naive_pool(x: np.ndarray, window: Any, reduce: Any) -> np.ndarray:
    height, width, channels = x.shape
    (top, _), (left, _) = window.pads((height, width))
    oh, ow = window.output_size((height, width))
    out = np.zeros((oh, ow, channels), object)
    for r, s, c in np.ndindex(oh, ow, channels):
        rows = range(r * window.strides[0] - top, r * window.strides[0] - top + window.size[0])
        columns = range(s * window.strides[1] - left, s * window.strides[1] - left + window.size[1])
        out[r, s, c] = reduce(
            x[y, z, c]
            for y, z in itertools.product(rows, columns)
            if 0 <= y < height and 0 <= z < width
        )
    return out


def _naive_rescale(acc: np.ndarray, params: LayerParams) -> np.ndarray:
    scale = np.broadcast_to(np.asarray(params.scale, object), acc.shape)
    shift = np.broadcast_to(np.asarray(params.shift, object), acc.shape)
    out = np.zeros(acc.shape, object)
    for index in np.ndindex(*acc.shape):
        exact = Fraction(int(acc[index]) * int(scale[index])) / Fraction(2) ** int(shift[index])
        out[index] = min(max(exact_half_up(exact), params.qmin), params.qmax)
    return out
