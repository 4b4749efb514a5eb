"""Lambda layers and layers of the user's own that hold no weights: what they are found to do."""

from __future__ import annotations

from .call import Call, Slot
from .emit import emit_affine, emit_spec
from .probe import probe_affine, probe_elementwise, probe_softmax
from .probe_movements import read_merged, read_moved, read_reduced
from .user import elementwise_fault, probed_spec


def read_tried(call: Call) -> bool:
    """Emit what a layer is found to do by trying it: a function, a movement, a merge."""
    layer = call.operation
    if call.only_one_tensor:
        return (
            _read_named(call)
            or read_moved(call, layer)
            or read_reduced(call, layer)
            or _read_table(call)
        )
    whole = call.args[0] if call.args else None
    in_order = isinstance(whole, (list, tuple)) and [
        part.index if isinstance(part, Slot) else None for part in whole
    ] == list(range(len(call.values)))
    if in_order and read_merged(call, lambda *tensors: layer(list(tensors))):
        return True
    return call.refuse("its function of several tensors is none that is known")


def read_elementwise(call: Call) -> bool:
    """Emit a layer as one function of numbers, if it is found element-wise."""
    return call.only_one_tensor and (_read_named(call) or _read_table(call))


def _read_named(call: Call) -> bool:
    """A known function of numbers or an affine map, by agreeing with it near zero and far out."""
    layer, shape = call.operation, call.shapes[0]
    if call.outputs[0] != shape:
        return False
    spec = probe_elementwise(layer, shape)
    if spec is None and None not in shape:
        spec = probe_softmax(layer, shape)
    if spec is not None:
        return emit_spec(call, spec)
    affine = probe_affine(layer, shape)
    return affine is not None and emit_affine(call, *affine)


def _read_table(call: Call) -> bool:
    """A function of the user's, of which nothing but its numbers is known."""
    layer, shape = call.operation, call.shapes[0]
    fault = elementwise_fault(layer, shape)
    if fault is not None:
        return call.refuse(f"its function {fault}")
    return emit_spec(call, probed_spec(layer, shape))
