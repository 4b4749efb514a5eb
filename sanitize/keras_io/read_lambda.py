"""Lambda layers: the Keras operations in them, or what they are found to do."""

from __future__ import annotations

from typing import Any

import keras

from .call import Call, Slot
from .emit import emit_spec
from .probe_movements import read_merged, read_moved, read_reduced
from .trial import UNFIT
from .user import elementwise_fault, probed_spec


def trace_lambda(call: Call) -> tuple[list[Any], list[Any]] | None:
    """Symbolic inputs and outputs of a Lambda written with Keras operations; None for others.

    Functions of a backend (``tf.``, ``jax.``, ``torch.``) do not take symbolic tensors.
    """
    inputs = [
        keras.KerasTensor((None, *shape), dtype)
        for shape, dtype in zip(call.shapes, call.dtypes, strict=True)
    ]

    def fill(leaf: Any) -> Any:
        return inputs[leaf.index] if isinstance(leaf, Slot) else leaf

    try:
        results = call.operation.call(*keras.tree.map_structure(fill, call.args))
    except UNFIT:
        return None
    outputs = keras.tree.flatten(results)
    if not all(isinstance(tensor, keras.KerasTensor) for tensor in outputs):
        return None
    if [tuple(tensor.shape[1:]) for tensor in outputs] != [tuple(s) for s in call.outputs]:
        return None
    return inputs, outputs


def read_tried_lambda(call: Call) -> bool:
    """Emit what a Lambda is found to do by trying it: a movement, a merge, a function."""
    layer = call.operation
    if call.only_one_tensor:
        return read_moved(call, layer) or read_reduced(call, layer) or read_elementwise_lambda(call)
    whole = call.args[0] if call.args else None
    in_order = isinstance(whole, (list, tuple)) and [
        part.index if isinstance(part, Slot) else None for part in whole
    ] == list(range(len(call.values)))
    if in_order and read_merged(call, lambda *tensors: layer(list(tensors))):
        return True
    return call.refuse("its function of several tensors is none that is known")


def read_elementwise_lambda(call: Call) -> bool:
    """Emit a Lambda as a function of the user's, if it is found element-wise."""
    layer, shape = call.operation, call.shapes[0]
    if not call.only_one_tensor:
        return False
    fault = elementwise_fault(layer, shape)
    if fault is not None:
        return call.refuse(f"its function {fault}")
    return emit_spec(call, probed_spec(layer, shape))
