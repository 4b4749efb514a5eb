"""The one table of what nodes of a float graph there are.

=================  ===========================================================================
kind               attributes, weights; meaning
=================  ===========================================================================
conv2d             strides, padding, dilation, groups; kernel (kh, kw, cin/groups, cout), [bias],
                   [pad_value (cin,)]: the value that stands in the padding, 0 unless given
depthwise_conv2d   strides, padding, dilation; kernel (kh, kw, c, m), [bias (c*m,)], [pad_value]
conv2d_transpose   strides, padding, output_padding, dilation; kernel (kh, kw, cout, cin), [bias]
depthwise_conv2d_  strides, padding, output_padding, dilation; kernel (kh, kw, c, m), [bias (c*m,)]
transpose
dense              kernel (in, out), [bias]; works on the last axis
batchnorm          epsilon; mean, variance, [gamma], [beta]; last axis, inference statistics
affine             scale, offset: x * scale + offset, both broadcast against the unbatched shape
relu               [max_value]: clip(x, 0, max_value); max_value may be a weight per channel
activation         function and its parameters: see ``sanitize.functions``
max_pool           size, strides, padding; padding counts as minus infinity
avg_pool           size, strides, padding; padding is not counted in the mean
global_*_pool      keepdims
concat             axis
slice              slices: (start, stop, step) per axis; squeeze: axes of length 1 to drop
permute            dims: order of the unbatched axes
pad                padding ((top, bottom), (left, right)) with [value], else with zeros
upsample           size: nearest neighbour
opaque             call: a callable from a list of arrays to a list of arrays
=================  ===========================================================================

Padding is "same" (the odd element goes behind), "valid" or ((top, bottom), (left, right)). Nodes
with weights may carry a fused ``activation`` attribute: {"kind": ..., attributes of that kind}.

What a kind is to the passes is told by its traits: nothing else lists kinds by what they have in
common. Adding a kind is a row here, with its functions in :mod:`sanitize.windows` or
:mod:`sanitize.kind_runs` and in :mod:`sanitize.kind_shapes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Flag, auto
from typing import Any

import numpy as np

from . import kind_runs as runs
from . import kind_shapes as shapes
from . import windows
from .shapes import Shape

WeightShapes = Mapping[str, Sequence[int]]
InferShape = Callable[[Mapping[str, Any], WeightShapes, Sequence[Shape]], Shape]


class Trait(Flag):
    """What kinds have in common."""

    NONE = 0
    LINEAR = auto()
    """Sums of products with a kernel, and a bias."""
    DEPTHWISE = auto()
    """Linear, and every channel by itself."""
    SLIDES = auto()
    """A window, of a kernel or a pool, that slides over a padded map: see `shapes.window_of`."""
    CONVOLVES = LINEAR | SLIDES
    AFFINE = auto()
    """x * scale + offset, of constants."""
    ELEMENTWISE = auto()
    """Each element of the one input by itself."""
    JOINS = auto()
    """Element-wise, of two inputs or more."""
    AVERAGES = auto()
    MAXIMA = auto()
    GLOBAL = auto()
    """Pools of the whole map."""
    MOVES = auto()
    """Numbers of the input and constants, in other places: nothing is computed."""
    REARRANGES = auto()
    """Moves that keep every number, once."""
    RESHAPES = auto()
    """Rearranges that keep the order of the numbers, too."""
    KEEPS_SIGN = auto()
    """Never negative if no input is."""
    NEVER_NEGATIVE = auto()


@dataclass(frozen=True)
class Kind:
    """A kind of node.

    inputs: how many it takes; least: so many or more. needed, optional: names of its weights.
    """

    run: windows.Run
    infer_shape: InferShape
    traits: Trait = Trait.NONE
    needed: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    inputs: int = 1
    or_more: bool = False

    def shape(
        self, attrs: Mapping[str, Any], weights: WeightShapes, inputs: Sequence[Shape]
    ) -> Shape:
        """Unbatched shape of the output; ``weights`` maps names to shapes. Raises ValueError."""
        if not inputs:
            raise ValueError("it has no input")
        if self.or_more and len(inputs) < self.inputs:
            raise ValueError("it needs at least two inputs")
        if not self.or_more and len(inputs) != self.inputs:
            raise ValueError(f"it takes one input, not {len(inputs)}")
        return self.infer_shape(attrs, weights, inputs)


def _told_by_the_node(*_: Any) -> Any:
    raise TypeError("what inputs and opaque layers are stands in their nodes")


def _join(function: np.ufunc, traits: Trait = Trait.NONE) -> Kind:
    return Kind(
        runs.fold(function), shapes.join_shape, Trait.JOINS | traits, inputs=2, or_more=True
    )


_POOL = Trait.SLIDES | Trait.KEEPS_SIGN
_GLOBAL = Trait.GLOBAL | Trait.KEEPS_SIGN
_MOVE = Trait.MOVES | Trait.KEEPS_SIGN
_REARRANGE = _MOVE | Trait.REARRANGES
_RESHAPE = _REARRANGE | Trait.RESHAPES

KINDS: Mapping[str, Kind] = {
    "input": Kind(_told_by_the_node, _told_by_the_node, inputs=0),
    "conv2d": Kind(
        windows.conv2d, shapes.conv2d_shape, Trait.CONVOLVES, ("kernel",), ("bias", "pad_value")
    ),
    "depthwise_conv2d": Kind(
        windows.depthwise_conv2d,
        shapes.depthwise_conv2d_shape,
        Trait.CONVOLVES | Trait.DEPTHWISE,
        ("kernel",),
        ("bias", "pad_value"),
    ),
    "conv2d_transpose": Kind(
        windows.conv2d_transpose,
        shapes.conv2d_transpose_shape,
        Trait.LINEAR,
        ("kernel",),
        ("bias",),
    ),
    "depthwise_conv2d_transpose": Kind(
        windows.depthwise_conv2d_transpose,
        shapes.depthwise_conv2d_transpose_shape,
        Trait.LINEAR | Trait.DEPTHWISE,
        ("kernel",),
        ("bias",),
    ),
    "dense": Kind(runs.dense, shapes.dense_shape, Trait.LINEAR, ("kernel",), ("bias",)),
    "batchnorm": Kind(
        runs.batchnorm,
        shapes.same_shape,
        Trait.AFFINE | Trait.ELEMENTWISE,
        ("mean", "variance"),
        ("gamma", "beta"),
    ),
    "affine": Kind(
        runs.affine, shapes.same_shape, Trait.AFFINE | Trait.ELEMENTWISE, ("scale", "offset")
    ),
    "relu": Kind(
        runs.relu,
        shapes.same_shape,
        Trait.ELEMENTWISE | Trait.NEVER_NEGATIVE,
        optional=("max_value",),
    ),
    "activation": Kind(runs.activation, shapes.same_shape, Trait.ELEMENTWISE, optional=("alpha",)),
    "softmax": Kind(runs.softmax, shapes.same_shape, Trait.NEVER_NEGATIVE),
    "max_pool": Kind(windows.max_pool, shapes.pool_shape, _POOL | Trait.MAXIMA),
    "avg_pool": Kind(windows.avg_pool, shapes.pool_shape, _POOL | Trait.AVERAGES),
    "global_avg_pool": Kind(
        windows.global_avg_pool, shapes.global_pool_shape, _GLOBAL | Trait.AVERAGES
    ),
    "global_max_pool": Kind(
        windows.global_max_pool, shapes.global_pool_shape, _GLOBAL | Trait.MAXIMA
    ),
    "add": _join(np.add, Trait.KEEPS_SIGN),
    "subtract": _join(np.subtract),
    "multiply": _join(np.multiply, Trait.KEEPS_SIGN),
    "maximum": _join(np.maximum, Trait.KEEPS_SIGN),
    "minimum": _join(np.minimum, Trait.KEEPS_SIGN),
    "concat": Kind(runs.concat, shapes.concat_shape, Trait.KEEPS_SIGN, or_more=True),
    "flatten": Kind(runs.flatten, shapes.flatten_shape, _RESHAPE),
    "reshape": Kind(runs.reshape, shapes.reshape_shape, _RESHAPE),
    "permute": Kind(runs.permute, shapes.permute_shape, _REARRANGE),
    "pad": Kind(runs.pad, shapes.pad_shape, Trait.MOVES),
    "upsample": Kind(runs.upsample, shapes.upsample_shape, _MOVE),
    "slice": Kind(runs.slice_, shapes.slice_shape, _MOVE),
    "identity": Kind(runs.identity, shapes.same_shape, _REARRANGE),
    "opaque": Kind(_told_by_the_node, _told_by_the_node, or_more=True),
}
"""By name."""


def kinds_with(traits: Trait) -> frozenset[str]:
    """Names of the kinds with all of these traits."""
    return frozenset(name for name, kind in KINDS.items() if traits in kind.traits)


#: Kinds that combine two or more values.
MERGES = kinds_with(Trait.JOINS) | {"concat"}
