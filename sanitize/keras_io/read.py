"""read_keras: a Keras model (Sequential, functional, subclassed, nested) as a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from ..graph import Graph, Node
from ..log import LogEntry
from ..shapes import Shape
from .call import Call
from .keras_graph import (
    arguments_with_slots,
    called_again,
    calls_in_order,
    is_graph_model,
    leaf_positions,
    side_structure,
)
from .names import scope_name
from .opaque import OpaqueCall, OperationLayer
from .read_lambda import read_elementwise, read_tried
from .reading_check import Link, Step, check_reading
from .symbolic import symbolic_model, trace_call, trace_inside
from .understood import read_understood, unwrapped


@dataclass(frozen=True)
class Reading:
    """A model as it was read.

    model: the functional model whose calls were read, the one given or one of the same layers.
    conversions: what Lambdas and layers of the user's own were read as.
    """

    graph: Graph
    model: Any
    conversions: tuple[LogEntry, ...] = ()


def read_keras(model: Any, verify: bool = False, shapes: Any = None) -> Graph:
    """The graph of a Keras model; see :func:`read_model`, which also tells how it was read."""
    return read_model(model, verify, shapes).graph


def read_model(model: Any, verify: bool = False, shapes: Any = None, dtypes: Any = None) -> Reading:
    """The graph of a Sequential or functional model, or of any that takes symbolic tensors.

    Nested models are flattened, their nodes named 'inner/layer'; so are layers of the user's own
    that are written with Keras layers and operations. A layer that is called several times gives
    several nodes with one ``share`` and the same weight arrays. A layer or operation that the graph
    has no kind for becomes an ``opaque`` node with the live object in ``attrs["layer"]``.

    ``verify``: run what was read against the model on random inputs. ``shapes``, ``dtypes``: of the
    inputs, where the model leaves sizes open or is no functional one, see
    :func:`~sanitize.keras_io.symbolic.symbolic_model`. Raises TypeError for what is no model,
    GraphError for a model whose call cannot be read, and ReadingError, naming the layer, where the
    graph computes something else than the model.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"a keras.Model is read here, not a {type(model).__name__}; load Keras files first, "
            "and read ONNX models with read_onnx"
        )
    model = symbolic_model(model, shapes, dtypes)
    reader = _Reader()
    tensors = keras.tree.flatten(model.inputs)
    inputs = [reader.add_input(tensor) for tensor in tensors]
    outputs = reader.walk(tensors, keras.tree.flatten(model.outputs), inputs, "")
    nodes = reader.finished_nodes()
    graph = Graph.build(
        nodes,
        inputs,
        outputs,
        model.name,
        leaf_positions(side_structure(model, "input")),
        leaf_positions(side_structure(model, "output")),
    )
    if verify:
        check_reading(reader.steps, nodes, list(zip(tensors, inputs, strict=True)))
    return Reading(graph, model, tuple(reader.conversions))


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
        self.steps: list[Step | Link] = []
        self.conversions: list[LogEntry] = []

    def unique(self, wish: str) -> str:
        """A name that no node has: like ``wish``, as far as graphs and backends can name it."""
        wish = wish.replace(":", "_") or "node"
        name, count = wish, 0
        while name in self.nodes:
            count += 1
            name = f"{wish}_{count}"
        return name

    def add_input(self, tensor: Any) -> str:
        own = tensor._keras_history.operation.name
        name = self.unique(own)
        attrs = {"dtype": keras.backend.standardize_dtype(tensor.dtype)}
        self.nodes[name] = Node(name, "input", (), attrs, {}, _unbatched(tensor), (own,))
        return name

    def walk(
        self, tensors: Sequence[Any], outputs: Sequence[Any], inputs: Sequence[str], prefix: str
    ) -> list[str]:
        """Read the calls that lead from ``tensors``, which are ``inputs``, to ``outputs``."""
        values = {id(tensor): value for tensor, value in zip(tensors, inputs, strict=True)}
        for node in calls_in_order(outputs, set(values)):
            results = self.read_call(node, values, prefix)
            for tensor, value in zip(node.outputs, results, strict=True):
                values[id(tensor)] = value
        return [values[id(tensor)] for tensor in outputs]

    def read_call(self, node: Any, values: dict[int, str], prefix: str) -> list[str]:
        operation, tensors = node.operation, node.input_tensors
        name = prefix + operation.name
        if is_graph_model(operation):
            return self.read_nested(node, values, name)
        args, kwargs = arguments_with_slots(node)
        call = Call(
            operation,
            args,
            kwargs,
            [values[id(tensor)] for tensor in tensors],
            [_unbatched(tensor) for tensor in tensors],
            [keras.backend.standardize_dtype(tensor.dtype) for tensor in tensors],
            [_unbatched(tensor) for tensor in node.outputs],
            len({tensor.shape[:1] for tensor in (*tensors, *node.outputs)}) == 1,
        )
        original = OpaqueCall(operation, args, dict(kwargs), tuple(call.dtypes))
        if isinstance(operation, OperationLayer):
            call = unwrapped(call)
        known, steps = set(self.nodes), len(self.steps)
        results = self.read_layer(call, operation, name)
        # What a layer consists of is checked as a whole, against the layer.
        del self.steps[steps:]
        ids = tuple(map(id, tensors)), tuple(map(id, node.outputs))
        fresh = tuple(full for full in self.nodes if full not in known)
        self.steps.append(Step(name, original, *ids, tuple(results), fresh))
        return results

    def read_layer(self, call: Call, operation: Any, name: str) -> list[str]:
        if read_understood(call):
            return self.add_emitted(call, operation, name)
        if trace_inside(call):
            return self.read_inside(call, name)
        return self.add_opaque(call, operation, name)

    def read_nested(self, node: Any, values: dict[int, str], name: str) -> list[str]:
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
        before = dict(self.nodes), dict(self.origins), dict(self.arrays)
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
        after = self.nodes, self.origins, self.arrays
        self.nodes, self.origins, self.arrays = before
        single = not weighted and len(call.outputs) == 1  # as whatever is found by trying
        if single and (read_elementwise(call) if whole else read_tried(call)):
            known = set(self.nodes)
            return self.told(call, name, self.add_emitted(call, layer, name), known)
        if whole:
            self.nodes, self.origins, self.arrays = after
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
        found = self.walk(*traced, call.values, name + "/")
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

    def renamed(self, value: str, name: str, fresh: Sequence[str]) -> str:
        """Give the node behind ``value`` the layer's name, if it is the last one of its nodes."""
        if value not in fresh or any(value in node.inputs for node in self.nodes.values()):
            return value
        if self.nodes[value].output_count > 1:
            return value
        final = self.unique(scope_name(name))
        self.nodes[final] = self.nodes.pop(value).with_(name=final)
        self.origins[final] = self.origins.pop(value)
        return final

    def add_emitted(self, call: Call, operation: Any, name: str) -> list[str]:
        """Turn what an entry emitted into nodes; the values of the call's outputs.

        The last node without a suffix carries the layer's own name, where one node is returned.
        """
        made: list[str] = []
        final = self.unique(scope_name(name))
        plain = [place for place, part in enumerate(call.emitted) if not part.suffix]
        main = -1 if call.results else plain[-1] if plain else len(call.emitted) - 1
        for position, part in enumerate(call.emitted):
            full = final if position == main else self.unique(f"{final}/{part.suffix}")
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
        full = self.unique(scope_name(name))
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


#: The name under which conversions stand in the log.
READ = "reading"

#: Kinds that are merged with their neighbours, or cost nothing.
_FOLDABLE = frozenset(
    {"affine", "identity", "reshape", "flatten", "permute", "pad", "slice", "relu", "concat", "add"}
)


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


def _not_known(operation: Any) -> str:
    what = "layers" if isinstance(operation, keras.layers.Layer) else "operations"
    return f"{type(operation).__name__} is not among the {what} that are understood"
