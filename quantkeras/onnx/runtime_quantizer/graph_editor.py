"""Writing the nodes of a model anew: unique names, constants found and added, leftovers removed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from numpy.typing import NDArray

from sanitize.onnx_io.builder import GraphBuilder
from sanitize.onnx_io.protos import all_names, opset_of, uses_of, uses_of_node

from .model_source import inferred_types

Array = NDArray[Any]


class GraphEditor(GraphBuilder):
    """Takes a model's nodes out, to put back those that stay and what replaces the others.

    Nodes are put in the order of computation. Values keep their names; what is new gets a name
    that nothing else has. uses: how often each value was read when the model came.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__(all_names(model.graph))
        self.model = model
        self.graph = model.graph
        self.opset = opset_of(model)
        self.types = inferred_types(model)
        self.old = list(model.graph.node)
        self.uses = uses_of(model.graph, self.old)
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}

    # -- reading ------------------------------------------------------------------------------

    def constant(self, name: str) -> Array | None:
        """The array of an initializer, None for values that are computed."""
        if name not in self._tensors:
            return None
        return np.asarray(onnx.numpy_helper.to_array(self._tensors[name]))

    def is_float(self, name: str) -> bool:
        """Whether a value is known to be of type float32."""
        known = self.types.get(name)
        return known is not None and known.elem_type == onnx.TensorProto.FLOAT

    # -- writing ------------------------------------------------------------------------------

    def node(
        self,
        op: str,
        inputs: Sequence[str],
        base: str,
        output: str | None = None,
        domain: str = "",
        attributes: Iterable[onnx.AttributeProto] = (),
        **more: Any,
    ) -> str:
        """Add a node of one output, and return the name of that.

        base: what names are made of. output: a name that exists, if the value is to have it.
        attributes, more: those taken from another node, and others.
        """
        return self.several(op, inputs, base, [output], domain, attributes, **more)[0]

    def several(
        self,
        op: str,
        inputs: Sequence[str],
        base: str,
        outputs: Sequence[str | None],
        domain: str = "",
        attributes: Iterable[onnx.AttributeProto] = (),
        **more: Any,
    ) -> list[str]:
        """Add a node of several outputs, and return their names; None: a new one."""
        label = self.unique(f"{base}_{op}")
        names = [
            given if given is not None else self.unique(f"{label}_out{index or ''}")
            for index, given in enumerate(outputs)
        ]
        self.add_node(op, inputs, names, label, domain=domain, **more)
        self.nodes[-1].attribute.extend(attributes)
        return names

    def use_domain(self, domain: str, version: int = 1) -> None:
        """Say that nodes of the domain are used."""
        if all(entry.domain != domain for entry in self.model.opset_import):
            self.model.opset_import.append(onnx.helper.make_opsetid(domain, version))

    def finish(self) -> onnx.ModelProto:
        """The model with the nodes that were put in, without constants that nothing reads now.

        What nothing read when the model came stays: it was not ours to remove.
        """
        uses = uses_of(self.graph, self.nodes)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        for index in reversed(range(len(self.graph.initializer))):
            name = self.graph.initializer[index].name
            if self.uses[name] and not uses[name]:
                del self.graph.initializer[index]
        self.graph.initializer.extend(new for new in self.initializers if uses[new.name])
        # Values in between that are no longer there.
        made = {name for node in self.nodes for name in node.output}
        infos = [info for info in self.graph.value_info if info.name in made]
        del self.graph.value_info[:]
        self.graph.value_info.extend(infos)
        return self.model


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put each node behind those that make what it reads, also within graphs of its own.

    onnxruntime's tool sorts by the inputs of nodes alone: a branch moves before what it reads.
    """
    makers = {name: node for node in graph.node for name in node.output if name}
    done: set[str] = set()
    found: list[onnx.NodeProto] = []
    for last in graph.node:
        waiting = [last]
        while waiting:
            node = waiting[-1]
            if done.issuperset(node.output):
                waiting.pop()
                continue
            before = [makers[name] for name in uses_of_node(node) if name in makers]
            missing = [maker for maker in before if not done.issuperset(maker.output)]
            if missing:
                waiting += missing
                continue
            waiting.pop()
            done.update(node.output)
            found.append(node)
    del graph.node[:]
    graph.node.extend(found)
