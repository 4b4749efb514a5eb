"""What kinds without a window compute, in NumPy; those with one are in :mod:`sanitize.windows`.

Every function takes (attrs, weights, inputs) with batched arrays, (n, *shape) each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .functions import apply_activation
from .windows import Run, pad_hw, with_bias

Array = NDArray[Any]


def dense(attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]) -> Array:
    return with_bias(inputs[0] @ weights["kernel"], weights)


def batchnorm(attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]) -> Array:
    scale = 1.0 / np.sqrt(weights["variance"] + np.asarray(attrs["epsilon"], inputs[0].dtype))
    if "gamma" in weights:
        scale = scale * weights["gamma"]
    result = (inputs[0] - weights["mean"]) * scale
    return np.asarray(result + weights["beta"] if "beta" in weights else result)


def relu(attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]) -> Array:
    result = np.maximum(inputs[0], 0)
    ceiling = weights.get("max_value", attrs.get("max_value"))
    return result if ceiling is None else np.minimum(result, ceiling)


def softmax(attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]) -> Array:
    axis = attrs["axis"] + 1
    powers = np.exp(inputs[0] - inputs[0].max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


def fold(function: Callable[[Array, Array], Array]) -> Run:
    """An element-wise function of two arrays applied from left to right."""

    def run(attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]) -> Array:
        result: Array = inputs[0]
        for other in inputs[1:]:
            result = function(result, other)
        return result

    return run


def slice_(attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]) -> Array:
    cut = inputs[0][(slice(None), *(slice(*limits) for limits in attrs["slices"]))]
    drop = tuple(axis + 1 for axis in attrs.get("squeeze", ()))
    return np.squeeze(cut, axis=drop) if drop else cut


def reshape(attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]) -> Array:
    # At most one unknown size can be worked out; the batch size is taken from the data.
    target = [-1 if size is None else size for size in attrs["shape"]]
    return inputs[0].reshape(inputs[0].shape[0], *target)


def affine(attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]) -> Array:
    return np.asarray(inputs[0] * weights["scale"] + weights["offset"])


def activation(
    attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]
) -> Array:
    return apply_activation(attrs, weights, inputs[0])


def concat(attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]) -> Array:
    return np.concatenate(inputs, axis=attrs["axis"] + 1)


def flatten(attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]) -> Array:
    return inputs[0].reshape(inputs[0].shape[0], -1)


def permute(attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]) -> Array:
    return inputs[0].transpose(0, *(axis + 1 for axis in attrs["dims"]))


def pad(attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]) -> Array:
    return pad_hw(inputs[0], attrs["padding"], attrs.get("value", 0.0))


def upsample(attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]) -> Array:
    return inputs[0].repeat(attrs["size"][0], axis=1).repeat(attrs["size"][1], axis=2)


def identity(attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]) -> Array:
    return inputs[0]
