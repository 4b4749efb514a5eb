"""read_keras: a Keras model (Sequential, functional, nested) as a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from ..graph import Graph, Node
from ..shapes import Shape
from .call import Call, Slot
from .opaque import OpaqueCall, OperationLayer
from .read_layers import layer_entry
from .read_operations import OPERATIONS


def read_keras(model: Any) -> Graph:
    """The graph of a built Sequential or functional model.

    Nested models are flattened, their nodes named 'inner/layer'. A layer that is called several
    times gives several nodes with one ``share`` and the same weight arrays. A layer or operation
    that the graph has no kind for becomes an ``opaque`` node with the live object in
    ``attrs["layer"]``. Raises TypeError for a model without a graph (a subclass of Model with its
    own ``call``, or one that is not built).
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"read_keras takes a keras.Model, not {type(model).__name__}")
    if not is_graph_model(model):
        raise TypeError(
            f"model '{model.name}' has no layer graph (it is a subclass with its own call, or a"
            " Sequential that is not built); build it, or make a functional model of it"
        )
    reader = _Reader()
    inputs = [reader.add_input(tensor) for tensor in keras.tree.flatten(model.inputs)]
    outputs = reader.walk(model, inputs, "")
    return Graph.build(
        reader.finished_nodes(),
        inputs,
        outputs,
        model.name,
        _positions(_structure(model, "input")),
        _positions(_structure(model, "output")),
    )


def is_graph_model(layer: Any) -> bool:
    """Whether ``layer`` is a model whose computation is a graph of layers that can be walked."""
    if isinstance(layer, keras.Sequential):
        return type(layer).call is keras.Sequential.call and layer.built and bool(layer.inputs)
    if not isinstance(layer, keras.Model) or type(layer).call is keras.Model.call:
        return False
    return type(layer).call is _FUNCTIONAL_CALL


def _functional_call() -> Any:
    tensor = keras.Input((1,))
    return type(keras.Model(tensor, tensor)).call


_FUNCTIONAL_CALL = _functional_call()


def _structure(model: Any, side: str) -> Any:
    """The inputs or outputs of a model as it nests them; a Sequential has one of each."""
    if isinstance(model, keras.Sequential):
        return getattr(model, side + "s")[0]
    return getattr(model, side)


def _positions(structure: Any) -> Any:
    """The same nesting with the position of each leaf in the flattened order."""
    count = iter(range(len(keras.tree.flatten(structure))))
    nested = keras.tree.map_structure(lambda leaf: next(count), structure)
    return dict(nested) if isinstance(nested, dict) else nested


def _unbatched(tensor: Any) -> Shape:
    return tuple(tensor.shape[1:])


class _Reader:
    """The state of one reading: nodes so far, and which layer each came from."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        # Per node: the layer object and the part of it, to find shared layers at the end.
        self.origins: dict[str, tuple[Any, str, str]] = {}
        self.arrays: dict[tuple[int, str, str], Any] = {}

    def unique(self, wish: str) -> str:
        wish = wish.replace(":", "_") or "node"
        name, count = wish, 0
        while name in self.nodes:
            count += 1
            name = f"{wish}_{count}"
        return name

    def add_input(self, tensor: Any) -> str:
        name = self.unique(tensor._keras_history.operation.name)
        attrs = {"dtype": keras.backend.standardize_dtype(tensor.dtype)}
        self.nodes[name] = Node(name, "input", (), attrs, {}, _unbatched(tensor), (name,))
        return name

    def walk(self, model: Any, inputs: Sequence[str], prefix: str) -> list[str]:
        """Read the graph of ``model`` fed with the values ``inputs``; the values it returns."""
        values: dict[int, str] = {}
        for tensor, value in zip(keras.tree.flatten(model.inputs), inputs, strict=True):
            values[id(tensor)] = value
        outputs = keras.tree.flatten(model.outputs)
        for node in _calls_in_order(outputs, set(values)):
            results = self.read_call(node, values, prefix)
            for tensor, value in zip(node.outputs, results, strict=True):
                values[id(tensor)] = value
        return [values[id(tensor)] for tensor in outputs]

    def read_call(self, node: Any, values: dict[int, str], prefix: str) -> list[str]:
        operation, tensors = node.operation, node.input_tensors
        name = prefix + operation.name
        incoming = [values[id(tensor)] for tensor in tensors]
        if is_graph_model(operation):
            return self.walk(operation, self.inner_inputs(node, values), name + "/")
        args, kwargs = _with_slots(node)
        call = Call(
            operation,
            args,
            kwargs,
            incoming,
            [_unbatched(tensor) for tensor in tensors],
            [keras.backend.standardize_dtype(tensor.dtype) for tensor in tensors],
            [_unbatched(tensor) for tensor in node.outputs],
            len({tensor.shape[:1] for tensor in (*tensors, *node.outputs)}) == 1,
        )
        if isinstance(operation, OperationLayer):
            call = _unwrapped(call)
        if _read_understood(call):
            return [self.add_emitted(call, operation, name)]
        return self.add_opaque(call, operation, name)

    def inner_inputs(self, node: Any, values: dict[int, str]) -> list[str]:
        """Values for the inputs of a nested model, in the order of its ``inputs``."""
        given = node.arguments.args[0] if node.arguments.args else node.arguments.kwargs["inputs"]
        expected = _structure(node.operation, "input")
        if isinstance(expected, dict) and isinstance(given, dict):
            given = {key: given[key] for key in expected}
        return [values[id(tensor)] for tensor in keras.tree.flatten(given)]

    def add_emitted(self, call: Call, operation: Any, name: str) -> str:
        """Turn what an entry emitted into nodes; the last one carries the layer's own name."""
        made: list[str] = []
        final = self.unique(name)
        for position, part in enumerate(call.emitted):
            last = position == len(call.emitted) - 1
            full = final if last else self.unique(f"{final}/{part.suffix}")
            inputs = tuple(
                made[int(value[1:])] if value.startswith("\0") else value for value in part.inputs
            )
            weights = {
                key: self.arrays.setdefault((id(operation), part.suffix, key), array)
                for key, array in part.weights.items()
            }
            self.nodes[full] = Node(full, part.kind, inputs, part.attrs, weights, (), (name,))
            self.origins[full] = (operation, part.suffix, name)
            made.append(full)
        return made[-1]

    def add_opaque(self, call: Call, operation: Any, name: str) -> list[str]:
        full = self.unique(name)
        layer = call.operation
        attrs = {
            "layer": layer,
            "call": OpaqueCall(layer, call.args, dict(call.kwargs), tuple(call.dtypes)),
            "shapes": tuple(call.outputs),
        }
        shape = call.outputs[0]
        self.nodes[full] = Node(full, "opaque", tuple(call.values), attrs, {}, shape, (name,))
        self.origins[full] = (operation, "", name)
        rest = [f"{full}:{index}" for index in range(1, len(call.outputs))]
        return [full, *rest]

    def finished_nodes(self) -> list[Node]:
        """All nodes, with ``share`` set where one layer with weights has several call sites."""
        sites: dict[tuple[int, str], list[str]] = {}
        for full, (operation, suffix, _) in self.origins.items():
            if isinstance(operation, keras.layers.Layer) and operation.weights:
                node = self.nodes[full]
                if node.weights or node.kind == "opaque":
                    sites.setdefault((id(operation), suffix), []).append(full)
        for (_, suffix), names in sites.items():
            if len(names) > 1:
                share = self.origins[names[0]][2] + (f"/{suffix}" if suffix else "")
                for full in names:
                    self.nodes[full] = self.nodes[full].with_(share=share)
        return list(self.nodes.values())


def _calls_in_order(outputs: Sequence[Any], known: set[int]) -> list[Any]:
    """The call records that the output tensors need, producers first.

    ``_keras_history`` and ``_inbound_nodes`` are the only way that Keras offers from a tensor to
    the call that made it; this function is the one place that reads them.
    """
    order: dict[int, Any] = {}
    stack = [(tensor, False) for tensor in reversed(outputs)]
    while stack:
        tensor, ready = stack.pop()
        if id(tensor) in known:
            continue
        history = tensor._keras_history
        node = history.operation._inbound_nodes[history.node_index]
        if id(node) in order:
            continue
        if ready:
            order[id(node)] = node
        else:
            stack.append((tensor, True))
            stack += [(parent, False) for parent in reversed(node.input_tensors)]
    return list(order.values())


def _with_slots(node: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The call's arguments with tensors replaced by slots, numbered in flattened order."""
    count = iter(range(len(node.input_tensors)))

    def slot(leaf: Any) -> Any:
        return Slot(next(count)) if isinstance(leaf, keras.KerasTensor) else leaf

    args, kwargs = keras.tree.map_structure(slot, (node.arguments.args, node.arguments.kwargs))
    return tuple(args), dict(kwargs)


def _unwrapped(call: Call) -> Call:
    """The call of the operation inside an OperationLayer."""

    def fill(part: Any) -> Any:
        if isinstance(part, dict):
            if set(part) == {"slot"}:
                return Slot(part["slot"])
            return {key: fill(value) for key, value in part.items()}
        if isinstance(part, (list, tuple)):
            return type(part)(fill(value) for value in part)
        return part

    args, kwargs = fill(call.operation.arguments.value)
    return Call(
        call.operation.operation,
        tuple(args),
        kwargs,
        call.values,
        call.shapes,
        call.dtypes,
        call.outputs,
        call.batched,
    )


def _read_understood(call: Call) -> bool:
    """Let the entry for the operation read the call; False when nothing understands it."""
    if not call.batched or not call.values:
        return False
    if not isinstance(call.operation, keras.layers.Layer):
        entry = OPERATIONS.get(type(call.operation).__name__)
        known = type(call.operation).__module__.partition(".")[0] == "keras"
        return known and entry is not None and entry(call)
    # training=False and mask=None say nothing new; any other keyword may change the meaning.
    if any(value is not None and value is not False for value in call.kwargs.values()):
        return False
    entry = layer_entry(call.operation)
    return entry is not None and entry(call)
