"""One run of quantize_onnx: which nodes, which scales, and who writes the new operators."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from sanitize.onnx_io.protos import opset_of

from ...errors import QuantizationError
from . import onnxruntime_tool
from .activation_params import merge_clipping
from .graph_editor import GraphEditor
from .joined_outputs import leave_joined_outputs
from .model_source import inferred_types
from .node_selection import (
    DYNAMIC_EXTRAS,
    MORE_STATIC_TYPES,
    PRODUCTS,
    STATIC_TYPES,
    check_types,
    select_nodes,
)
from .number_types import AffineParams, NumberType
from .onnx_calibration import Batch, activations_of, measure
from .onnxruntime_faults import avoid_faults
from .operands import Operands
from .operator_forms import write_integer, write_qdq, write_qlinear
from .params_dictionary import checked_params, require_entries
from .products import Product, read_product
from .quantized_weights import WeightFormat


@dataclass(frozen=True)
class Form:
    """mode and static as in quantize_onnx. kind, symmetric: of activations; weights: of weights."""

    mode: str
    static: bool
    kind: NumberType
    symmetric: bool
    weights: WeightFormat

    @property
    def by_onnxruntime(self) -> bool:
        """Whether onnxruntime's static quantizers write the operators."""
        return self.static and self.mode != "integer"

    @property
    def text(self) -> str:
        return f"mode '{self.mode}', {'static' if self.static else 'dynamic'},"


@dataclass(frozen=True)
class Choice:
    """Which nodes the user means, see quantize_onnx; None: not said."""

    op_types: Sequence[str] | None
    only: Sequence[str] | None
    without: Sequence[str] | None

    @property
    def explicit(self) -> bool:
        return self.op_types is not None or self.only is not None


class Task:
    """A model, the nodes of it that are quantized, and params for the tensors that need some.

    first_batch: what the model was fed first in calibration, None without samples.
    """

    def __init__(self, model: onnx.ModelProto, form: Form, choice: Choice) -> None:
        self.model = model
        self.form = form
        self.first_batch: Batch | None = None
        self._choice = choice
        self._params: dict[str, AffineParams] = {}
        self._products: dict[str, Product] = {}
        self._nodes = self._selected()
        if form.by_onnxruntime:
            self._nodes, refused = avoid_faults(
                model, self._nodes, form.mode, form.weights.per_channel
            )
        else:
            refused = self._read_products()
        if refused:
            warnings.warn(f"These nodes stay float: {', '.join(refused)}.", stacklevel=3)

    def _read_products(self) -> list[str]:
        """Fills self._products; returns the nodes that are none, and why."""
        self._editor = GraphEditor(self.model)
        refused = []
        for node in self._nodes:
            if node.op_type not in PRODUCTS:
                continue
            found = read_product(self._editor, node)
            if isinstance(found, str):
                refused.append(f"'{node.name}' ({node.op_type}: {found})")
            else:
                self._products[node.name] = found
        return refused

    def _selected(self) -> list[onnx.NodeProto]:
        form, choice, graph = self.form, self._choice, self.model.graph
        if form.mode == "qdq" and form.weights.per_channel and opset_of(self.model) < 13:
            raise QuantizationError(
                f"'{graph.name}' uses opset {opset_of(self.model)}: with per_channel, mode 'qdq' "
                "takes opset 13 at least. Convert it: onnx.version_converter.convert_version("
                "model, 13), or choose another mode"
            )
        types = STATIC_TYPES[form.mode] if form.by_onnxruntime else PRODUCTS
        more: Sequence[str] | None = ()
        if form.by_onnxruntime:
            more = MORE_STATIC_TYPES[form.mode]
        elif form.mode == "integer" and not form.static:
            more = DYNAMIC_EXTRAS
        allowed = None if more is None else (*types, *more)
        if choice.op_types is not None:
            check_types(choice.op_types, allowed, graph, form.text)
        found = select_nodes(graph, choice.op_types or types, choice.only, choice.without)
        if choice.op_types is None and choice.only is not None:
            # A node that is named and of no type that is quantized: say so, do not leave it out.
            every = select_nodes(
                graph, [node.op_type for node in graph.node], choice.only, choice.without
            )
            check_types([node.op_type for node in every], allowed, graph, form.text)
            found = every
        return found

    def _needed(self) -> list[str]:
        """Tensors that need params, in order."""
        if self.form.by_onnxruntime:
            return activations_of(self.model, self._nodes)
        if self.form.static:
            names = [name for product in self._products.values() for name in product.activations]
        elif self.form.mode == "qlinear":
            names = [product.node.output[0] for product in self._products.values()]
        else:
            names = []
        return list(dict.fromkeys(names))

    def take_params(
        self,
        given: Mapping[str, Any] | None,
        samples: Any,
        method: str,
        num_samples: int | None,
        batch_size: int | None,
    ) -> None:
        """Zero points and scales: those given, the rest from samples."""
        form, graph = self.form, self.model.graph
        if not form.static and form.mode != "qlinear":
            if given is not None or samples is not None:
                raise QuantizationError(
                    f"{form.text} takes no scales: each run measures its own. Leave out samples "
                    "and quantization_params, or set static=True"
                )
            return
        tensors = {value.name for value in graph.input} | set(inferred_types(self.model))
        tensors |= {name for node in graph.node for name in (*node.input, *node.output) if name}
        self._params = checked_params(given or {}, form.kind, tensors)
        missing = [name for name in self._needed() if name not in self._params]
        if samples is not None:
            self._params |= measure(
                self.model, missing, samples, method, form.kind, form.symmetric,
                num_samples=num_samples, batch_size=batch_size, on_batch=self._remember,
            )  # fmt: skip
        if form.by_onnxruntime:
            self._nodes = merge_clipping(
                graph, self._nodes, self._params, form.kind, form.symmetric
            )
            if samples is None:
                self._nodes = [node for node in self._nodes if not self._may_stay_float(node)]
            elif not self._choice.explicit:
                self._nodes = leave_joined_outputs(
                    graph, self._nodes, self._params, (given or {}).keys()
                )
        require_entries(self._needed(), self._params, form.text.rstrip(",") + ":")

    def _remember(self, batch: Batch) -> None:
        self.first_batch = self.first_batch or batch

    def _may_stay_float(self, node: onnx.NodeProto) -> bool:
        """Whether the dictionary leaves out a node that nobody asked for."""
        if node.op_type in PRODUCTS or self._choice.explicit:
            return False
        return any(name not in self._params for name in activations_of(self.model, [node]))

    def run(self) -> onnx.ModelProto:
        """The quantized model."""
        if not (self._nodes if self.form.by_onnxruntime else self._products or self._others()):
            warnings.warn("No node was quantized: the model is returned in float.", stacklevel=3)
            return self.model
        if self.form.by_onnxruntime:
            return onnxruntime_tool.quantize_static(
                self.model, self.form.mode, self._nodes, self._params, self.form.kind,
                self.form.weights, self.form.symmetric,
            )  # fmt: skip
        params = self._params if self.form.static else None
        operands = Operands(self._editor, self.form.kind, self.form.weights, params)
        for node in self._editor.old:
            product = self._products.get(node.name)
            if product is None:
                self._editor.nodes.append(node)
            else:
                self._write(operands, product)
        found = self._editor.finish()
        if others := self._others():
            found = onnxruntime_tool.quantize_dynamic(found, others, self.form.weights)
        return found

    def _others(self) -> list[onnx.NodeProto]:
        """Nodes for onnxruntime's dynamic quantizer."""
        return [node for node in self._nodes if node.op_type not in PRODUCTS]

    def _write(self, operands: Operands, product: Product) -> None:
        if self.form.mode == "integer":
            write_integer(operands, product)
        elif self.form.mode == "qlinear":
            write_qlinear(operands, product, self._params[product.node.output[0]])
        else:
            write_qdq(operands, product)
