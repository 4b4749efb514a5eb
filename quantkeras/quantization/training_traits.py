"""What of a float network concerns its training: frozen layers, regularizers, constraints.

A quantized layer takes them over from the layer that it is made of. Where other layers were folded
into a kernel, a penalty on it would be another one, and a constraint another limit: these are left
out, and who trains the model is told so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from sanitize.graph import Graph

from ..layers import HardwareLayer, WeightedLayer
from .plan import Block, Plan
from .provenance import quantized_name

UNTRAINED = (
    "The float network looks untrained: its biases are zero and its batch normalizations as they "
    "begin, or it has neither and its kernels are what their initializers gave. Weights and "
    "activations will leave the ranges that were calibrated, which are frozen. Train with moving "
    "or learned ranges (set_ranges(model, 'moving')), or train the float network first and "
    "quantize it then."
)

KERNELS = ("kernel", "depthwise", "pointwise", "bias")
"""What the weights of Keras's layers are called in the names of their settings."""


def looks_untrained(graph: Graph, objects: Mapping[str, Any]) -> bool:
    """Whether all biases and batch normalizations of a float network are as they begin, or all
    kernels where it has neither. objects: its layers, by name.
    """
    seen = False
    for node in graph:
        bias = [node.weights["bias"]] if "bias" in node.weights else []
        zeros, ones = bias, []
        if node.kind == "batchnorm":
            zeros = [node.weights[key] for key in ("beta", "mean") if key in node.weights]
            ones = [node.weights[key] for key in ("gamma", "variance") if key in node.weights]
        if any(array.any() for array in zeros) or any((array != 1).any() for array in ones):
            return False
        seen = seen or bool(zeros or ones)
    return seen or _begin_as_initialized(objects.values())


def _begin_as_initialized(layers: Iterable[Any]) -> bool:
    """Whether all kernels are what their initializers give. Those of layers from files do not
    give the same again.
    """
    kernels = []
    for layer in layers:
        kernel = getattr(layer, "kernel", None)
        if isinstance(layer, keras.layers.Layer) and isinstance(kernel, keras.Variable):
            name = "kernel" if hasattr(layer, "kernel_initializer") else "depthwise"
            kernels.append((kernel, getattr(layer, f"{name}_initializer", None)))
    # The smallest first: a single kernel that was trained is enough.
    kernels.sort(key=lambda found: int(np.prod(found[0].shape)))
    return bool(kernels) and all(_is_initial(*found) for found in kernels)


def _is_initial(kernel: keras.Variable, initializer: Any) -> bool:
    if not isinstance(getattr(initializer, "seed", None), int):
        return False  # another each time, or always the same
    wanted = initializer(kernel.shape, dtype=kernel.dtype)
    return np.array_equal(*map(keras.ops.convert_to_numpy, (kernel, wanted)))


def take_over(plan: Plan, model: keras.Model, objects: Mapping[str, Any]) -> tuple[str, ...]:
    """Give the layers of a fresh quantized model what those of the float one have for training.

    objects: the float layers, by name. Returns what had to be left out, in a sentence if anything.
    """
    lost: dict[str, None] = {}
    sites: dict[str, list[Block]] = {}  # a layer that is shared has several, and the first name
    for block in plan.blocks.values():
        sites.setdefault(block.core.share or block.name, []).append(block)
    for blocks in sites.values():
        layer = model.get_layer(quantized_name(blocks[0].name))
        nodes = [node for block in blocks for node in block.nodes]
        names = dict.fromkeys(name for node in nodes for name in node.source)
        sources = [objects[name] for name in names if name in objects]
        trained = [x for x in sources if isinstance(x, keras.layers.Layer) and x.weights]
        if trained and not any(source.trainable for source in trained):
            layer.trainable = False
        elif trained and not trained[0].trainable:
            lost[f"trainable=False of {trained[0].name!r}"] = None
        for source in trained:
            lost.update(dict.fromkeys(_weight_settings(layer, source)))
        for source in sources:
            if getattr(source, "activity_regularizer", None) is not None:
                lost[f"activity_regularizer of {source.name!r}"] = None
    if not lost:
        return ()
    return (
        "Not in the quantized model, since layers are merged and rescaled: "
        f"{', '.join(lost)}. Add such terms to the loss if the training depends on them.",
    )


def _weight_settings(layer: HardwareLayer, source: Any) -> Iterable[str]:
    """Take over regularizers and constraints; yields those that cannot be."""
    for name in KERNELS:
        regularizer = getattr(source, f"{name}_regularizer", None)
        constraint = getattr(source, f"{name}_constraint", None)
        if regularizer is None and constraint is None:
            continue
        own = _same_weight(layer, _weight_of(source, name))
        if regularizer is not None:
            if own is None:
                yield f"{name}_regularizer of {source.name!r}"
            else:
                _set(layer, own, "regularizer", regularizer)
        if constraint is not None:
            # Kernels are rescaled to fill ranges: only a limit at zero stays where it is.
            if own is None or not isinstance(constraint, keras.constraints.NonNeg):
                yield f"{name}_constraint of {source.name!r}"
            else:
                _set(layer, own, "constraint", constraint)


def _weight_of(source: Any, name: str) -> Any:
    """The weight of a float layer that the settings ``{name}_...`` are of."""
    if name in ("kernel", "bias"):
        return getattr(source, name, None)
    return getattr(source, f"{name}_kernel", getattr(source, "kernel", None))


def _same_weight(layer: HardwareLayer, weight: Any) -> str | None:
    """Which weight of the quantized layer, "kernel" or "bias", has the very same numbers."""
    if weight is None or not isinstance(layer, WeightedLayer):
        return None
    wanted = np.asarray(keras.ops.convert_to_numpy(weight))
    for name in ("kernel", "bias"):
        own = getattr(layer, name)
        if own is not None and np.array_equal(keras.ops.convert_to_numpy(own), wanted):
            return name
    return None


def _set(layer: HardwareLayer, weight: str, setting: str, value: Any) -> None:
    depthwise = weight == "kernel" and hasattr(layer, f"depthwise_{setting}")
    setattr(layer, f"{'depthwise' if depthwise else weight}_{setting}", value)
    setattr(getattr(layer, weight), setting, value)
