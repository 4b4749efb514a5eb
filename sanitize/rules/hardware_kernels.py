"""Hardware only: kernels, strides and groups that a target does not take, as ones that it takes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import Graph, Node
from ..kinds import Trait
from ..match import Match, Rewrite
from ..shapes import window_of, window_output, window_pads
from .linear import explicit_pads, same_or_explicit

_UNKNOWN_SIZE = "its input size is not known, and so is what 'same' means for it"


def _window(node: Node) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """(kernel size, strides, dilation) of a convolution."""
    shapes = {key: value.shape for key, value in node.weights.items()}
    _, size, strides, dilation = window_of(node.attrs, shapes)
    return size, strides, dilation


def _widened(graph: Graph, node: Node, wanted: tuple[int, int]) -> Node:
    """The convolution with zeros around its kernel up to the size ``wanted``.

    A zero in front goes with one more pad (dilated) in front, a zero behind with one behind. They
    are put where they make the padding 'same', else in equal numbers on both sides (the odd one in
    front).
    """
    size, strides, dilation = _window(node)
    pads = explicit_pads(graph, node)
    area = graph.shape_of(node.inputs[0])[:2]
    same = window_pads("same", area, wanted, strides, dilation)
    fill, wider = [], []
    for axis in (0, 1):
        missing, step = wanted[axis] - size[axis], dilation[axis]
        before, after = pads[axis]
        fronts = [(missing + 1) // 2, *range(missing + 1)]
        choices = [(f, (before + f * step, after + (missing - f) * step)) for f in fronts]
        fitting = [choice for choice in choices if same is not None and choice[1] == same[axis]]
        front, sides = (fitting or choices)[0]
        fill.append((front, missing - front))
        wider.append(sides)
    kernel = np.pad(node.weights["kernel"], [*fill, (0, 0), (0, 0)])
    padding = same_or_explicit(tuple(wider), area, wanted, strides, dilation)
    return node.with_attrs(padding=padding).with_weights(kernel=kernel)


class OddKernels:
    """A padded convolution with an even kernel  ->  the same with a row or column of zeros.

    The zeros go in front, with one more pad in front, or behind, with one more pad behind:
    whichever makes the padding 'same', else in front.
    """

    name = "odd kernels"
    hardware_only = True

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if Trait.CONVOLVES not in node.traits:
            return None
        if all(size % 2 for size in node.weights["kernel"].shape[:2]):
            return None
        return Match(node) if node.attrs["padding"] != "valid" else None

    def check(self, graph: Graph, match: Match) -> str | None:
        return _UNKNOWN_SIZE if explicit_pads(graph, match.anchor) is None else None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        size, _, _ = _window(match.anchor)
        odd = (size[0] + 1 - size[0] % 2, size[1] + 1 - size[1] % 2)
        return Rewrite(add=[_widened(graph, match.anchor, odd)])


class WideStridedKernels:
    """A kernel of 1 that skips pixels (stride 2 or more)  ->  a kernel of 3 with zeros around it.

    On an even size with stride 2, 'same' pads (0, 1) and the one tap is the first of three; on an
    odd size it pads (1, 1) and the tap is the middle one.
    """

    name = "kernel 1 with a stride to kernel 3"
    hardware_only = True

    def __init__(self, smallest: int = 3) -> None:
        self.smallest = smallest

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if Trait.CONVOLVES not in node.traits:
            return None
        size, strides, _ = _window(node)
        narrow = any(
            k < self.smallest and k % 2 and s > 1 for k, s in zip(size, strides, strict=True)
        )
        return Match(node) if narrow else None

    def check(self, graph: Graph, match: Match) -> str | None:
        return _UNKNOWN_SIZE if explicit_pads(graph, match.anchor) is None else None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        size, strides, _ = _window(match.anchor)
        height, width = (
            max(k, self.smallest) if s > 1 else k for k, s in zip(size, strides, strict=True)
        )
        return Rewrite(add=[_widened(graph, match.anchor, (height, width))])


class SplitStridedDepthwise:
    """depthwise k x k, stride s  ->  depthwise k x k, stride 1  >  identity 3 x 3, stride s.

    The second one keeps every s-th pixel: its kernel has a single 1, on the tap that 'same' padding
    puts on the first pixel. For kernels larger than a target takes with a stride.
    """

    name = "split strided depthwise"
    hardware_only = True

    def __init__(self, largest: int = 3) -> None:
        self.largest = largest

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if node.kind != "depthwise_conv2d":
            return None
        size, strides, _ = _window(node)
        return Match(node) if max(size) > self.largest and max(strides) > 1 else None

    def check(self, graph: Graph, match: Match) -> str | None:
        if "activation" in match.anchor.attrs:
            return "it has an activation of its own"
        return _UNKNOWN_SIZE if explicit_pads(graph, match.anchor) is None else None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node = match.anchor
        size, strides, dilation = _window(node)
        pads = explicit_pads(graph, node)
        area = graph.shape_of(node.inputs[0])
        padding = same_or_explicit(pads, area, size, (1, 1), dilation)
        name = graph.unique_name(f"{node.name}/dense")
        share = None if node.share is None else f"{node.share}/dense"
        first = node.with_attrs(strides=(1, 1), padding=padding).with_(name=name, share=share)
        sizes = window_output(pads, area[:2], size, (1, 1), dilation)
        same = window_pads("same", sizes, (3, 3), strides)
        top, left = (1, 1) if same is None else (same[0][0], same[1][0])
        channels = node.weights["kernel"].shape[2] * node.weights["kernel"].shape[3]
        kernel = np.zeros((3, 3, channels, 1), np.float32)
        kernel[top, left] = 1.0
        attrs = {
            "strides": strides,
            "padding": ((1, 1), (1, 1)) if same is None else "same",
            "dilation": (1, 1),
        }
        second = Node(node.name, node.kind, (name,), attrs, {"kernel": kernel}, source=node.source)
        return Rewrite(add=[first, second])


class SplitGroups:
    """conv2d with g groups  ->  g slices of the channels, g convolutions, one concatenation.

    kernel (kh, kw, cin / g, cout): group i reads input channels i * cin / g and on, and makes
    output channels i * cout / g and on.
    """

    name = "split groups"
    hardware_only = True

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        grouped = node.kind == "conv2d" and node.attrs["groups"] > 1
        return Match(node) if grouped else None

    def check(self, graph: Graph, match: Match) -> str | None:
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node, added = match.anchor, []
        groups, kernel = node.attrs["groups"], node.weights["kernel"]
        inside, outside = kernel.shape[2], kernel.shape[3] // groups
        whole = (0, None, 1)
        parts: list[str] = []
        for group in range(groups):
            cut = slice(group * inside, (group + 1) * inside)
            made = slice(group * outside, (group + 1) * outside)
            names = [
                graph.unique_name(f"{node.name}/{what}_{group}") for what in ("channels", "group")
            ]
            attrs: dict[str, Any] = {"slices": (whole, whole, (cut.start, cut.stop, 1))}
            added.append(Node(names[0], "slice", node.inputs, attrs, source=node.source))
            share = None if node.share is None else f"{node.share}/group_{group}"
            part = node.with_(name=names[1], inputs=(names[0],), share=share)
            part = part.with_attrs(groups=1).with_weights(kernel=kernel[..., made])
            for key, which in (("bias", made), ("pad_value", cut)):
                if key in node.weights:
                    part = part.with_weights(**{key: node.weights[key][which]})
            added.append(part)
            parts.append(names[1])
        joined = Node(node.name, "concat", tuple(parts), {"axis": 2}, source=node.source)
        return Rewrite(add=[*added, joined])
