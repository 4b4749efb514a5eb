"""Reading the calls of a Keras model one by one, nested models and layers of layers included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras

from ..graph import Node, producer_of
from ..log import LogEntry
from .call import Call, Slot
from .keras_graph import (
    arguments_with_slots,
    called_again,
    calls_in_order,
    is_graph_model,
    side_structure,
)
from .moved import Moved, Value
from .nodes_of_calls import NodesOfCalls, unbatched
from .opaque_layers import OpaqueCall, OperationLayer
from .read_lambda import read_elementwise, read_tried
from .read_moved import moves_samples, read_moved
from .reading_check import Link, Step
from .symbolic import trace_call, trace_inside
from .understood import read_understood, unwrapped

#: The name under which conversions stand in the log.
READ = "reading"

#: Kinds that are merged with their neighbours, or cost nothing.
_FOLDABLE = frozenset(
    {"affine", "identity", "reshape", "flatten", "permute", "pad", "slice", "relu", "concat", "add"}
)


class Reader(NodesOfCalls):
    """The state of one reading.

    steps: the calls as they were read, to check them. conversions: what layers of the user's own
    were read as.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step | Link] = []
        self.conversions: list[LogEntry] = []
        # Kept, or another operation could get the identity of one that is gone.
        self.traced: list[Any] = []
        # How a value is moved, where one call did it, and the value as the model has it.
        self.movers: dict[Moved, tuple[Call, str]] = {}
        self.arranged: dict[Moved, str] = {}

    def walk(
        self, tensors: Sequence[Any], outputs: Sequence[Any], inputs: Sequence[Value], prefix: str
    ) -> list[Value]:
        """Read the calls that lead from ``tensors``, which are ``inputs``, to ``outputs``."""
        values = {id(tensor): value for tensor, value in zip(tensors, inputs, strict=True)}
        for node in calls_in_order(outputs, set(values)):
            results = self.read_call(node, values, prefix)
            for tensor, value in zip(node.outputs, results, strict=True):
                values[id(tensor)] = value
        return [values[id(tensor)] for tensor in outputs]

    def read_call(self, node: Any, values: dict[int, Value], prefix: str) -> list[Value]:
        operation, tensors = node.operation, node.input_tensors
        name = prefix + operation.name
        if is_graph_model(operation):
            return self.read_nested(node, values, name)
        args, kwargs = arguments_with_slots(node)
        given = [values[id(tensor)] for tensor in tensors]
        call = Call(
            operation,
            args,
            kwargs,
            [],
            [unbatched(tensor) for tensor in tensors],
            [keras.backend.standardize_dtype(tensor.dtype) for tensor in tensors],
            [unbatched(tensor) for tensor in node.outputs],
            len({tensor.shape[:1] for tensor in (*tensors, *node.outputs)}) == 1,
        )
        original = OpaqueCall(operation, args, dict(kwargs), tuple(call.dtypes))
        if isinstance(operation, OperationLayer):
            call = unwrapped(call)
        known, steps = set(self.nodes), len(self.steps)
        found = None
        if moves_samples(call, given):
            inputs, outputs = (
                [tensor.shape for tensor in side] for side in (tensors, node.outputs)
            )
            found = read_moved(call, given, inputs, outputs)
        results: list[Value]
        if found is not None:
            results = list(self.add_moved(call, operation, name, given, found))
        else:
            call.values = list(map(self.as_in_model, given, call.dtypes))
            results = list(self.read_layer(call, operation, name))
        # What a layer consists of is checked as a whole, against the layer.
        del self.steps[steps:]
        ids = tuple(map(id, tensors)), tuple(map(id, node.outputs))
        fresh = tuple(full for full in self.nodes if full not in known)
        self.steps.append(Step(name, original, *ids, tuple(results), fresh))
        return results

    def add_moved(
        self, call: Call, operation: Any, name: str, given: Sequence[Value], found: list[Moved]
    ) -> list[Value]:
        """Nodes for a call that moves samples or works on moved ones; its outputs.

        Those whose samples are along the first axis alone again are ordinary values.
        """
        call.results = [moved.value for moved in found]
        names = self.add_emitted(call, operation, name)
        results: list[Value] = []
        for value, moved in zip(names, found, strict=True):
            moved = replace(moved, value=value)
            results.append(value if moved.ordinary else moved)
            ordinary = [before for before in given if isinstance(before, str)]
            if len(ordinary) == len(given):
                self.movers[moved] = replace(call, values=ordinary, emitted=[], results=[]), name
        return results

    def as_in_model(self, value: Value, dtype: str) -> str:
        """The value with its axes as the model has them, by operations that are kept."""
        if isinstance(value, str):
            return value
        found = self.arranged.get(value, "")
        if found not in self.nodes:
            if value in self.movers:
                call, name = self.movers[value]
                (found,) = self.read_layer(call, call.operation, name)
            else:
                found = value.value
                name = f"{self.nodes[producer_of(found)].name}/turned"
                for layer, before, after in value.operations():
                    call = Call(layer, (Slot(0),), {}, [found], [before], [dtype], [after], False)
                    call.refuse("it moves samples from the first axis")
                    (found,) = self.add_opaque(call, layer, name)
            self.arranged[value] = found
        return found

    def read_layer(self, call: Call, operation: Any, name: str) -> list[str]:
        if read_understood(call):
            return self.add_emitted(call, operation, name)
        if trace_inside(call):
            return self.read_inside(call, name)
        return self.add_opaque(call, operation, name)

    def read_nested(self, node: Any, values: dict[int, Value], name: str) -> list[Value]:
        """A model inside the model: its own graph, or for open sizes one of the sizes it meets."""
        model = node.operation
        given = _given_tensors(node)
        tensors, outputs = keras.tree.flatten(model.inputs), keras.tree.flatten(model.outputs)
        if any(None in tensor.shape[1:] for tensor in tensors) and not any(
            None in tensor.shape[1:] for tensor in given
        ):
            sized = [keras.KerasTensor(tensor.shape, tensor.dtype) for tensor in given]
            tensors, outputs = sized, called_again(tensors, outputs, sized)
            self.traced.append((tensors, outputs))
        inputs = [values[id(tensor)] for tensor in given]
        self.steps.append(Link(tuple(map(id, given)), tuple(map(id, tensors))))
        found = self.walk(tensors, outputs, inputs, name + "/")
        self.steps.append(Link(tuple(map(id, outputs)), tuple(map(id, node.outputs))))
        return found

    def read_inside(self, call: Call, name: str) -> list[str]:
        """A Lambda or a layer of the user's own: what is inside it, or one function of numbers.

        One function is one table; several operations are better where they can be folded into
        what stands around them, or have weights.
        """
        before = self.state()
        told = len(self.conversions)
        results = self.walk_inside(call, name)
        del self.conversions[told:]
        fresh = [node for full, node in self.nodes.items() if full not in before[0]]
        layer = call.operation
        weighted = bool(layer.weights)
        whole = bool(results) and all(node.kind != "opaque" for node in fresh)
        alone = len(fresh) == 1 or all(node.kind in _FOLDABLE for node in fresh)
        if whole and (alone or weighted):
            return self.told(call, name, results, before[0])
        if results and weighted and _is_worth_opening(fresh):
            return self.told(call, name, results, before[0])
        after = self.take_back(before)
        single = not weighted and len(call.outputs) == 1  # as whatever is found by trying
        if single and (read_elementwise(call) if whole else read_tried(call)):
            known = set(self.nodes)
            return self.told(call, name, self.add_emitted(call, layer, name), known)
        if whole:
            self.take_back(after)
            return self.told(call, name, results, before[0])
        return self.add_opaque(call, layer, name)

    def told(self, call: Call, name: str, results: list[str], known: Any) -> list[str]:
        """The results, with an entry in the log about what the layer was read as."""
        fresh = tuple(full for full in self.nodes if full not in known)
        kinds = ", ".join(_function_of(self.nodes[full]) for full in fresh) or "its input"
        was = type(call.operation).__name__
        sentence = f"'{name}' ({was}) is read as {kinds}"
        entry = LogEntry(READ, fresh, (name,), "fired", sentence, name, f"{was} -> {kinds}")
        self.conversions.append(entry)
        return results

    def walk_inside(self, call: Call, name: str) -> list[str]:
        """Read the layers and operations that a layer consists of; empty where none show.

        The nodes carry the layer's name as their source, and the last one as its name.
        """
        traced = trace_call(call)
        if traced is None:
            return []
        self.traced.append(traced)
        known = set(self.nodes)
        moved = self.walk(*traced, call.values, name + "/")
        found = [self.as_in_model(v, str(t.dtype)) for v, t in zip(moved, traced[1], strict=True)]
        fresh = [full for full in self.nodes if full not in known]
        for place, full in enumerate(fresh):
            operation, suffix, _ = self.origins[full]
            self.nodes[full] = self.nodes[full].with_(source=(name,))
            # Layers inside are the same at every call; operations are made anew by each.
            held = isinstance(operation, keras.layers.Layer) and operation.weights
            self.origins[full] = (
                (operation, suffix, full)
                if held
                else (call.operation, f"{self.nodes[full].kind}{place}", name)
            )
        names = {value: self.renamed(value, name, fresh) for value in dict.fromkeys(found)}
        return [names[value] for value in found]


def _is_worth_opening(nodes: Sequence[Node]) -> bool:
    """Whether a part of what is in a layer can be quantized, and the rest stands without it.

    An operation on the layer's own variables is part of the layer: alone it would lose them.
    """
    rest = [node.attrs["call"] for node in nodes if node.kind == "opaque"]
    leaves = [leaf for call in rest for leaf in keras.tree.flatten((call.args, call.kwargs))]
    bound = any(isinstance(leaf, keras.Variable) for leaf in leaves)
    return not bound and any("kernel" in node.weights for node in nodes)


def _function_of(node: Node) -> str:
    """What a node does, for the log: the name of its function, or its kind."""
    user = node.attrs.get("user")
    if user is not None:
        return f"a table of '{user.name}'"
    return str(node.attrs.get("function", node.kind))


def _given_tensors(node: Any) -> list[Any]:
    """The tensors that a nested model is called on, in the order of its ``inputs``."""
    given = node.arguments.args[0] if node.arguments.args else node.arguments.kwargs["inputs"]
    expected = side_structure(node.operation, "input")
    if isinstance(expected, dict) and isinstance(given, dict):
        given = {key: given[key] for key in expected}
    tensors: list[Any] = keras.tree.flatten(given)
    return tensors
