"""Operators with a window over height and width: convolutions and poolings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..shapes import same_pads
from ..spread_kernels import spread_kernel
from .layout import PICTURE, SEQUENCE, Tensor
from .state import NotUnderstood, Reading, needs_float
from .view import OnnxNode

Array = NDArray[Any]
Pair = tuple[int, int]
Pads = tuple[Pair, Pair]


@dataclass(frozen=True)
class Picture:
    """A value of ours with the shape (h, w, c); a sequence (t, c) is held as (1, t, c)."""

    value: str
    shape: tuple[int, ...]
    sequence: bool

    @property
    def size(self) -> Pair:
        """(height, width)."""
        return self.shape[0], self.shape[1]


def as_picture(r: Reading, name: str) -> Picture:
    """The ONNX value (n, c, h, w) or (n, c, t) as a picture."""
    tensor = r.tensor(name)
    needs_float(tensor)
    if tensor.rank == 4:
        tensor = r.arranged(tensor, PICTURE)
        return Picture(tensor.value, tensor.shape, False)
    if tensor.rank == 3:
        r.sequences = True
        tensor = r.arranged(tensor, SEQUENCE)
        value = r.emit("reshape", [tensor.value], {"shape": (1, *tensor.shape)}, suffix="expand")
        return Picture(value, r.shape_of(value), True)
    raise NotUnderstood(f"its input has {tensor.rank - 2} spatial axes, not one or two")


def from_picture(r: Reading, picture: Picture, value: str) -> Tensor:
    """Our value (h, w, c), made from ``picture``, as an ONNX value of the same rank."""
    if not picture.sequence:
        return r.made(value, PICTURE)
    shape = r.shape_of(value)
    return r.made(r.emit("reshape", [value], {"shape": shape[1:]}, suffix="squeeze"), SEQUENCE)


def pair_of(picture: Picture, numbers: Sequence[int] | None, default: int) -> Pair:
    """One number per axis; a sequence has one axis, to which a first of ``default`` is added."""
    values = tuple(int(n) for n in numbers) if numbers else ()
    if not values:
        return default, default
    if picture.sequence:
        values = (default, *values)
    if len(values) != 2:
        raise NotUnderstood(f"{values} is not one number per spatial axis")
    return values[0], values[1]


def pads_of(node: OnnxNode, picture: Picture, kernel: Pair, strides: Pair, dilation: Pair) -> Pads:
    """((top, bottom), (left, right)) from ``pads`` or ``auto_pad``."""
    auto = node.get("auto_pad", "NOTSET")
    if auto == "VALID":
        return ((0, 0), (0, 0))
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pairs = [
            same_pads(picture.size[axis], kernel[axis], strides[axis], dilation[axis])
            for axis in (0, 1)
        ]
        if auto == "SAME_LOWER":
            pairs = [(after, before) for before, after in pairs]
        return pairs[0], pairs[1]
    numbers = [int(n) for n in node.get("pads", ())]
    if not numbers:
        return ((0, 0), (0, 0))
    half = len(numbers) // 2
    begin, end = pair_of(picture, numbers[:half], 0), pair_of(picture, numbers[half:], 0)
    if min(numbers) < 0:
        raise NotUnderstood(f"its pads {numbers} are negative")
    return (begin[0], end[0]), (begin[1], end[1])


def trimmed(
    pads: Pads, size: Pair, kernel: Pair, strides: Pair, dilation: Pair, ceil: bool = False
) -> Pads:
    """``pads`` with as much behind as the windows use: less than given, or with ``ceil`` more."""
    result = []
    for axis in (0, 1):
        before, after = pads[axis]
        span = (kernel[axis] - 1) * dilation[axis] + 1
        room = size[axis] + before + after - span
        if room < 0 and not ceil:
            raise NotUnderstood(f"a window of {span} does not fit into {size[axis]} plus its pads")
        count = (-(-room // strides[axis]) if ceil else room // strides[axis]) + 1
        # A window must not start behind the picture.
        if ceil and (count - 1) * strides[axis] >= size[axis] + before:
            count -= 1
        result.append((before, max((count - 1) * strides[axis] + span - size[axis] - before, 0)))
    return result[0], result[1]


def named(pads: Pads, size: Pair, kernel: Pair, strides: Pair, dilation: Pair = (1, 1)) -> Any:
    """``pads`` as "valid" or "same" where they are that."""
    if pads == ((0, 0), (0, 0)):
        return "valid"
    same = tuple(same_pads(size[a], kernel[a], strides[a], dilation[a]) for a in (0, 1))
    return "same" if pads == same else pads


def _kernel(r: Reading, node: OnnxNode, picture: Picture) -> tuple[Array, Array | None]:
    """(out, in, kh, kw) as ONNX has it, and the bias."""
    kernel, bias = r.constant(node.input(1)), r.optional(node, 2)
    return (kernel[:, :, None] if picture.sequence else kernel), bias


def _never_both(kernel: Array, strides: Pair, dilation: Pair) -> tuple[Array, Pair]:
    """Kernel (out, in, kh, kw) and dilation of a convolution that Keras has a layer for: not
    strides and dilation at once.
    """
    if max(strides) == 1 or max(dilation) == 1:
        return kernel, dilation
    return spread_kernel(kernel.transpose(2, 3, 0, 1), dilation).transpose(2, 3, 0, 1), (1, 1)


def conv(r: Reading, node: OnnxNode) -> Tensor:
    picture = as_picture(r, node.input(0))
    kernel, bias = _kernel(r, node, picture)
    groups = int(node.get("group", 1))
    strides = pair_of(picture, node.get("strides"), 1)
    dilation = pair_of(picture, node.get("dilations"), 1)
    depthwise = groups > 1 and groups == picture.shape[2]
    if not depthwise:
        kernel, dilation = _never_both(kernel, strides, dilation)
    size: Pair = (kernel.shape[2], kernel.shape[3])
    pads = trimmed(
        pads_of(node, picture, size, strides, dilation), picture.size, size, strides, dilation
    )
    attrs = {
        "strides": strides,
        "padding": named(pads, picture.size, size, strides, dilation),
        "dilation": dilation,
    }
    if depthwise:
        depth = kernel.reshape(groups, -1, *size).transpose(2, 3, 0, 1)
        weights = {"kernel": depth, "bias": bias}
        if picture.sequence:  # TensorFlow has no kernel for unequal strides on every processor
            attrs["strides"] = (strides[1], strides[1])
        value = r.emit("depthwise_conv2d", [picture.value], attrs, weights)
    else:
        weights = {"kernel": kernel.transpose(2, 3, 1, 0), "bias": bias}
        value = r.emit("conv2d", [picture.value], {**attrs, "groups": groups}, weights)
    r.kernels[value] = (node.input(1), node.input(2))
    return from_picture(r, picture, value)


def conv_transpose(r: Reading, node: OnnxNode) -> Tensor:
    picture = as_picture(r, node.input(0))
    kernel, bias = _kernel(r, node, picture)
    groups = int(node.get("group", 1))
    strides = pair_of(picture, node.get("strides"), 1)
    dilation = pair_of(picture, node.get("dilations"), 1)
    if not groups == len(kernel) > 1:
        kernel, dilation = _never_both(kernel, strides, dilation)
    extra = pair_of(picture, node.get("output_padding"), 0)
    size: Pair = (kernel.shape[2], kernel.shape[3])
    span = tuple((size[a] - 1) * dilation[a] + 1 for a in (0, 1))
    full = tuple((picture.size[a] - 1) * strides[a] + span[a] for a in (0, 1))
    begin, out = _transposed_frame(node, picture, strides, extra, full)
    fits = all(out[a] == picture.size[a] * strides[a] for a in (0, 1))
    # 'same' cuts max(span - stride, 0) // 2 in front; zeros behind the kernel make the span fit.
    wanted = [max(2 * begin[a] + strides[a], span[a]) if begin[a] else span[a] for a in (0, 1)]
    cut = all(max(wanted[a] - strides[a], 0) // 2 == begin[a] for a in (0, 1))
    attrs: dict[str, Any] = {"strides": strides, "dilation": dilation}
    if fits and cut and dilation == (1, 1):
        kernel = np.pad(kernel, ((0, 0), (0, 0), *((0, wanted[a] - size[a]) for a in (0, 1))))
        attrs["padding"] = "same"
        crop = None
    else:
        beyond = tuple(max(begin[a] + out[a] - full[a], 0) for a in (0, 1))
        attrs["padding"] = "valid"
        if beyond != (0, 0) or any(span[a] < strides[a] for a in (0, 1)):
            attrs["output_padding"] = beyond
        crop = tuple((begin[a], begin[a] + out[a], 1) for a in (0, 1))
    value = _emit_transposed(r, picture, kernel, bias, groups, attrs)
    r.kernels[value] = (node.input(1), node.input(2))
    if crop is not None and r.shape_of(value)[:2] != out:
        value = r.emit("slice", [value], {"slices": (*crop, (0, None, 1))}, suffix="crop")
    return from_picture(r, picture, value)


def _transposed_frame(
    node: OnnxNode, picture: Picture, strides: Pair, extra: Pair, full: tuple[int, ...]
) -> tuple[Pair, Pair]:
    """What is cut off in front of the full result, and how much is kept, per axis."""
    auto = node.get("auto_pad", "NOTSET")
    shape = node.get("output_shape")
    if shape or auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [picture.size[a] * strides[a] for a in (0, 1)]
        if shape:
            wanted = list(pair_of(picture, shape[-2:] if not picture.sequence else shape[-1:], 1))
        begin = []
        for axis in (0, 1):
            total = max(full[axis] + extra[axis] - wanted[axis], 0)
            upper = auto == "SAME_UPPER"
            begin.append(total // 2 if upper else total - total // 2)
        return (begin[0], begin[1]), (wanted[0], wanted[1])
    (top, bottom), (left, right) = pads_of(node, picture, (1, 1), (1, 1), (1, 1))
    out = (full[0] + extra[0] - top - bottom, full[1] + extra[1] - left - right)
    return (top, left), out


def _emit_transposed(
    r: Reading, picture: Picture, kernel: Array, bias: Array | None, groups: int, attrs: Any
) -> str:
    """kernel: (in, out/groups, kh, kw)."""
    inputs, outputs = kernel.shape[:2]
    if groups == inputs and groups > 1:
        weights = {"kernel": kernel.transpose(2, 3, 0, 1), "bias": bias}
        return r.emit("depthwise_conv2d_transpose", [picture.value], attrs, weights)
    if groups == 1:
        weights = {"kernel": kernel.transpose(2, 3, 1, 0), "bias": bias}
        return r.emit("conv2d_transpose", [picture.value], attrs, weights)
    parts = []
    step = inputs // groups
    for group in range(groups):
        slices = ((0, None, 1), (0, None, 1), (group * step, (group + 1) * step, 1))
        part = r.emit("slice", [picture.value], {"slices": slices}, suffix="split")
        weights = {
            "kernel": kernel[group * step : (group + 1) * step].transpose(2, 3, 1, 0),
            "bias": None if bias is None else bias[group * outputs : (group + 1) * outputs],
        }
        parts.append(r.emit("conv2d_transpose", [part], attrs, weights, suffix="group"))
    return r.emit("concat", parts, {"axis": 2})


def max_pool(r: Reading, node: OnnxNode) -> Tensor:
    if len(node.outputs) > 1 and r.graph.uses(node.outputs[1]):
        raise NotUnderstood("somebody reads the indices it makes")
    picture = as_picture(r, node.input(0))
    size, strides, pads, ceil = _pool_window(node, picture)
    pads = trimmed(pads, picture.size, size, strides, (1, 1), ceil)
    attrs = {
        "size": size,
        "strides": strides,
        "padding": named(pads, picture.size, size, strides),
    }
    return from_picture(r, picture, r.emit("max_pool", [picture.value], attrs))


def average_pool(r: Reading, node: OnnxNode) -> Tensor:
    picture = as_picture(r, node.input(0))
    size, strides, pads, ceil = _pool_window(node, picture)
    used = trimmed(pads, picture.size, size, strides, (1, 1), ceil)
    value, height_width = picture.value, picture.size
    if node.get("count_include_pad", 0) and pads != ((0, 0), (0, 0)):
        # What ceil_mode adds behind the pads is not counted.
        after = [min(pads[axis][1], used[axis][1]) for axis in (0, 1)]
        inner = tuple((pads[axis][0], after[axis]) for axis in (0, 1))
        value = r.emit("pad", [value], {"padding": inner}, suffix="pad")
        used = (0, used[0][1] - after[0]), (0, used[1][1] - after[1])
        height_width = (r.shape_of(value)[0], r.shape_of(value)[1])
    attrs = {
        "size": size,
        "strides": strides,
        "padding": named(used, height_width, size, strides),
    }
    return from_picture(r, picture, r.emit("avg_pool", [value], attrs))


def _pool_window(node: OnnxNode, picture: Picture) -> tuple[Pair, Pair, Pads, bool]:
    """(size, strides, pads, whether the output size is rounded up)."""
    if node.get("storage_order", 0) or set(node.get("dilations", ())) - {1}:
        raise NotUnderstood("it is a pooling with dilation")
    size = pair_of(picture, node.get("kernel_shape"), 1)
    strides = pair_of(picture, node.get("strides"), 1)
    pads = pads_of(node, picture, size, strides, (1, 1))
    ceil = bool(node.get("ceil_mode", 0)) and node.get("auto_pad", "NOTSET") == "NOTSET"
    return size, strides, pads, ceil


def global_pool(kind: str) -> Any:
    def read(r: Reading, node: OnnxNode) -> Tensor:
        picture = as_picture(r, node.input(0))
        return from_picture(r, picture, r.emit(kind, [picture.value], {"keepdims": True}))

    return read


WINDOW_OPERATORS = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": global_pool("global_avg_pool"),
    "GlobalMaxPool": global_pool("global_max_pool"),
}
