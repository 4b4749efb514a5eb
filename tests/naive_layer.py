"""A slow reader of the layer equation, one number at a time with Python integers and loops.

It is written from the text of the equation and shares no code with what it judges.
"""

from __future__ import annotations

import itertools
import math
import operator
from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np
from layer_cases import LayerCase
from strategies import exact_half_up

from quantkeras.numerics.layer import LayerParams, LayerSpec


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
        acc = _naive_pool(acc, spec.pool.window, sum) * _naive_factors(acc, spec.pool.window)
    if spec.pool is not None and spec.pool.kind == "global_average":
        acc = acc.sum(axis=(0, 1), keepdims=spec.pool.keepdims)
    if params.scale is not None:
        acc = _naive_rescale(acc, params)
    if params.table is not None:
        looked_up = np.zeros(acc.shape, object)
        for index in np.ndindex(*acc.shape):
            entry = params.table[int(acc[index]) - params.qmin]
            looked_up[index] = int(entry if entry.ndim == 0 else entry[index[-1]])
        acc = looked_up
    return acc


NAIVE_ELEMENTWISE = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "maximum": max,
    "minimum": min,
}


def _naive_core(spec: LayerSpec, params: LayerParams, xs: list[np.ndarray]) -> np.ndarray:
    if spec.kind in NAIVE_ELEMENTWISE:
        return reduce(np.frompyfunc(NAIVE_ELEMENTWISE[spec.kind], 2, 1), xs)
    if spec.kind == "concat":
        return np.concatenate(xs, axis=spec.axis)
    if spec.kind == "dense":
        return xs[0] @ params.weights.astype(object)
    if spec.kind in ("conv2d", "depthwise_conv2d"):
        return _naive_conv(spec, params, xs[0])
    if spec.kind == "slice":
        places = [list(range(n)[slice(*s)]) for n, s in zip(xs[0].shape, spec.slices, strict=True)]
        return xs[0][np.ix_(*places)]
    if spec.kind == "upsample":
        height, width = xs[0].shape[0] * spec.size[0], xs[0].shape[1] * spec.size[1]
        rows, columns = np.indices((height, width))
        return xs[0][rows // spec.size[0], columns // spec.size[1]]
    return xs[0]


def _naive_conv(spec: LayerSpec, params: LayerParams, x: np.ndarray) -> np.ndarray:
    window, w = spec.window, params.weights
    assert window is not None
    height, width, cin = x.shape
    (top, _), (left, _) = window.pads((height, width))
    oh, ow = window.output_size((height, width))
    apart = window.input_dilation
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
            (y, between), (z, beside) = divmod(y, apart[0]), divmod(z, apart[1])
            # Beyond the last pixel no zeros stand between pixels: it is the border.
            inside = 0 <= y < height - (between > 0) and 0 <= z < width - (beside > 0)
            value = pad[c]
            if inside:
                value = 0 if between or beside else x[y, z, c]
            weight = w[i, j, c, last] if depthwise else w[i, j, k, last]
            out[r, s, o] += value * int(weight)
    return out


def _naive_pool(x: np.ndarray, window: Any, function: Any) -> np.ndarray:
    height, width, channels = x.shape
    (top, _), (left, _) = window.pads((height, width))
    oh, ow = window.output_size((height, width))
    out = np.zeros((oh, ow, channels), object)
    for r, s, c in np.ndindex(oh, ow, channels):
        rows = range(r * window.strides[0] - top, r * window.strides[0] - top + window.size[0])
        columns = range(s * window.strides[1] - left, s * window.strides[1] - left + window.size[1])
        out[r, s, c] = function(
            x[y, z, c]
            for y, z in itertools.product(rows, columns)
            if 0 <= y < height and 0 <= z < width
        )
    return out


def _naive_factors(x: np.ndarray, window: Any) -> np.ndarray:
    """By what a sum is multiplied where its window reaches over the border."""
    counts = _naive_pool(np.ones((*x.shape[:2], 1), object), window, sum)
    return math.lcm(*counts.flat) // counts


def _naive_rescale(acc: np.ndarray, params: LayerParams) -> np.ndarray:
    scale = np.broadcast_to(np.asarray(params.scale, object), acc.shape)
    shift = np.broadcast_to(np.asarray(params.shift, object), acc.shape)
    out = np.zeros(acc.shape, object)
    for index in np.ndindex(*acc.shape):
        exact = Fraction(int(acc[index]) * int(scale[index])) / Fraction(2) ** int(shift[index])
        out[index] = min(max(exact_half_up(exact), params.qmin), params.qmax)
    return out
