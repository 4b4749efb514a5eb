"""read_keras: a Keras model (Sequential, functional, nested) as a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from ..graph import Graph, Node
from ..shapes import Shape
from .call import Call, Slot
from .keras_graph import (
    arguments_with_slots,
    calls_in_order,
    is_graph_model,
    leaf_positions,
    side_structure,
)
from .opaque import OpaqueCall, OperationLayer
from .read_lambda import read_elementwise_lambda, read_tried_lambda, trace_lambda
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
        leaf_positions(side_structure(model, "input")),
        leaf_positions(side_structure(model, "output")),
    )


def _unbatched(tensor: Any) -> Shape:
    return tuple(tensor.shape[1:])


class _Reader:
    """The state of one reading: nodes so far, and which layer each came from."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        # Per node: the layer object and the part of it, to find shared layers at the end.
        self.origins: dict[str, tuple[Any, str, str]] = {}
        # Weights by operation, so that call sites share them; the operations that were traced
        # are kept, or another one could get the identity of one that is gone.
        self.arrays: dict[tuple[int, str, str], Any] = {}
        self.traced: list[Any] = []

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
        for node in calls_in_order(outputs, set(values)):
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
        args, kwargs = arguments_with_slots(node)
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
            return self.add_emitted(call, operation, name)
        if isinstance(operation, keras.layers.Lambda):
            return self.read_lambda(call, name)
        return self.add_opaque(call, operation, name)

    def read_lambda(self, call: Call, name: str) -> list[str]:
        """A Lambda that is no known function: the operations in it, or one function of numbers.

        One function is one table; several operations are better where they can be folded into
        what stands around them.
        """
        before = dict(self.nodes), dict(self.origins), dict(self.arrays)
        results = self.walk_lambda(call, name)
        fresh = [node for full, node in self.nodes.items() if full not in before[0]]
        if results and (len(fresh) == 1 or all(node.kind in _FOLDABLE for node in fresh)):
            return results
        after = self.nodes, self.origins, self.arrays
        self.nodes, self.origins, self.arrays = before
        if read_elementwise_lambda(call) if results else read_tried_lambda(call):
            return self.add_emitted(call, call.operation, name)
        if results:
            self.nodes, self.origins, self.arrays = after
            return results
        return self.add_opaque(call, call.operation, name)

    def walk_lambda(self, call: Call, name: str) -> list[str]:
        """Read the Keras operations that a Lambda consists of; empty when not all are understood.

        The nodes carry the Lambda's name as their source, and the last one as its name.
        """
        traced = trace_lambda(call)
        if traced is None:
            return []
        self.traced.append(traced)
        known = set(self.nodes)
        values = {id(tensor): value for tensor, value in zip(traced[0], call.values, strict=True)}
        for node in calls_in_order(traced[1], set(values)):
            results = self.read_call(node, values, name + "/")
            for tensor, value in zip(node.outputs, results, strict=True):
                values[id(tensor)] = value
        fresh = [full for full in self.nodes if full not in known]
        if any(self.nodes[full].kind == "opaque" for full in fresh):
            return []
        for full in fresh:
            self.nodes[full] = self.nodes[full].with_(source=(name,))
            self.origins[full] = (call.operation, full, name)
        return [self.renamed(values[id(tensor)], name, fresh) for tensor in traced[1]]

    def renamed(self, value: str, name: str, fresh: Sequence[str]) -> str:
        """Give the node behind ``value`` the Lambda's name, if it is the last one of its nodes."""
        if value not in fresh or any(value in self.nodes[full].inputs for full in fresh):
            return value
        final = self.unique(name)
        self.nodes[final] = self.nodes.pop(value).with_(name=final)
        self.origins[final] = self.origins.pop(value)
        return final

    def inner_inputs(self, node: Any, values: dict[int, str]) -> list[str]:
        """Values for the inputs of a nested model, in the order of its ``inputs``."""
        given = node.arguments.args[0] if node.arguments.args else node.arguments.kwargs["inputs"]
        expected = side_structure(node.operation, "input")
        if isinstance(expected, dict) and isinstance(given, dict):
            given = {key: given[key] for key in expected}
        return [values[id(tensor)] for tensor in keras.tree.flatten(given)]

    def add_emitted(self, call: Call, operation: Any, name: str) -> list[str]:
        """Turn what an entry emitted into nodes; the values of the call's outputs.

        The last node carries the layer's own name, where it is the only one that is returned.
        """
        made: list[str] = []
        final = self.unique(name)
        for position, part in enumerate(call.emitted):
            last = position == len(call.emitted) - 1 and not call.results
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
        if call.results:
            return [made[int(value[1:])] for value in call.results]
        return made[-1:]

    def add_opaque(self, call: Call, operation: Any, name: str) -> list[str]:
        full = self.unique(name)
        layer = call.operation
        attrs = {
            "layer": layer,
            "call": OpaqueCall(layer, call.args, dict(call.kwargs), tuple(call.dtypes)),
            "shapes": tuple(call.outputs),
            "reason": call.reason or _not_known(layer),
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


#: Kinds that are merged with their neighbours, or cost nothing.
_FOLDABLE = frozenset(
    {"affine", "identity", "reshape", "flatten", "permute", "pad", "slice", "relu", "concat", "add"}
)


def _not_known(operation: Any) -> str:
    what = "layers" if isinstance(operation, keras.layers.Layer) else "operations"
    return f"{type(operation).__name__} is not among the {what} that are understood"


def _read_understood(call: Call) -> bool:
    """Let the entry for the operation read the call; False when nothing understands it."""
    if not call.values:
        return call.refuse("it has no input tensor")
    if not call.batched:
        return call.refuse("it changes the batch dimension, or mixes batches of different sizes")
    if not isinstance(call.operation, keras.layers.Layer):
        entry = OPERATIONS.get(type(call.operation).__name__)
        known = type(call.operation).__module__.partition(".")[0] == "keras"
        return known and entry is not None and entry(call)
    # training=False and mask=None say nothing new; any other keyword may change the meaning.
    for keyword, value in call.kwargs.items():
        if value is not None and value is not False:
            given = "a tensor" if isinstance(value, Slot) else value
            return call.refuse(f"it is called with {keyword}={given}")
    entry = layer_entry(call.operation)
    return entry is not None and entry(call)
