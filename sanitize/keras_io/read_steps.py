"""TimeDistributed: what a layer does at every step of (t, ...), as one layer over all steps.

Layers along the last axis and functions of single numbers do the same with an axis more; those that
move numbers within a step become a reshape or a permute that leaves the axis of the steps alone.
"""

from __future__ import annotations

import keras

from .call import Call, Slot
from .read_layers import NOTHING_AT_INFERENCE, layer_entry

layers = keras.layers

ALONG_THE_LAST_AXIS = (
    layers.Dense,
    layers.Activation,
    layers.BatchNormalization,
    layers.ELU,
    layers.LeakyReLU,
    layers.ReLU,
    layers.Rescaling,
    layers.Softmax,
    *NOTHING_AT_INFERENCE,
)


def read_steps(call: Call) -> bool:
    """Read a TimeDistributed whose layer, or layers in a row, can be read at all steps at once."""
    if not call.only_one_tensor or len(call.args) != 1 or len(call.shapes[0]) < 2:
        return False
    inside, shape = call.operation.layer, call.shapes[0]
    parts = []
    for layer in inside.layers if isinstance(inside, keras.Sequential) else [inside]:
        out = (shape[0], *layer.compute_output_shape((None, *shape[1:]))[1:])
        part = Call(layer, (Slot(0),), {}, [""], [shape], call.dtypes, [out], True)
        if not _read_step(part):
            return call.refuse(
                f"it does '{layer.name}' ({type(layer).__name__}) at every step, and only Dense,"
                " BatchNormalization, functions and Reshape are known there"
            )
        parts.append(part)
        shape = out
    for part in parts:
        _append(call, part)
    return True


def _append(call: Call, part: Call) -> None:
    """Emit what was emitted for one layer, which reads what the last one gives."""
    names = {"": call.last if call.emitted else call.values[0]}
    for place, node in enumerate(part.emitted):
        inputs = [names[value] for value in node.inputs]
        suffix = "/".join(filter(None, (part.operation.name, node.suffix)))
        names[f"\0{place}"] = call.emit(node.kind, inputs, node.attrs, node.weights, suffix)


def _read_step(part: Call) -> bool:
    layer, shape = part.operation, part.outputs[0]
    if isinstance(layer, layers.Permute):
        part.emit("permute", attrs={"dims": (0, *layer.dims)})
        return True
    if isinstance(layer, layers.Flatten | layers.Reshape):
        if shape.count(None) > 1:
            return False
        part.emit("reshape", attrs={"shape": shape})
        return True
    entry = layer_entry(layer) if isinstance(layer, ALONG_THE_LAST_AXIS) else None
    # Axes that are counted from the front would be others here.
    axis = getattr(layer, "axis", -1)
    return entry is not None and axis in (-1, [-1], (-1,)) and entry(part)
