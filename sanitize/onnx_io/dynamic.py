"""Integer products whose inputs are quantized as they come, as the float products that they are.

Files "dynamically quantized" by a runtime compute the step of every activation from the numbers of
the batch at hand: DynamicQuantizeLinear, MatMulInteger or ConvInteger, Cast, Mul by the steps. But
for the rounding to 8 bits this is the product of the activation with the weights on their grid, and
so it is read: for each sample alone, and in a form that can be quantized with steps of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from numpy.typing import NDArray

from .protos import label_of
from .view import wrapped

_PRODUCTS = {"MatMulInteger": "MatMul", "ConvInteger": "Conv"}
_QUANTIZER = "DynamicQuantizeLinear"


@dataclass(frozen=True)
class FloatForm:
    """A model, and the names of the integer products that are float ones in it."""

    model: onnx.ModelProto
    products: tuple[str, ...]


def float_form(model: onnx.ModelProto) -> FloatForm:
    """The model without each DynamicQuantizeLinear that feeds integer products alone, whose weights
    are constants and whose results are multiplied by its step.
    """
    if not any(node.op_type == _QUANTIZER for node in model.graph.node):
        return FloatForm(model, ())
    view = _View(model.graph)
    quantizers = [node for node in view.nodes if view.feeds_products(node)]
    made: dict[str, onnx.NodeProto | None] = {}
    constants: list[onnx.TensorProto] = []
    for quantizer in quantizers:
        values, step = quantizer.output[0], quantizer.output[1]
        made[values] = None
        constants.append(onnx.numpy_helper.from_array(np.float32(1.0), step))
        for product in view.readers(values):
            output = product.output[0]
            kernel = f"{output}/kernel"
            constants.append(onnx.numpy_helper.from_array(view.kernel(product), kernel))
            operator = _PRODUCTS[product.op_type]
            inputs = [quantizer.input[0], kernel]
            floats = onnx.helper.make_node(operator, inputs, [output], product.name)
            floats.attribute.extend(product.attribute)
            made[output] = floats
            (cast,) = view.readers(output)
            made[cast.output[0]] = onnx.helper.make_node(
                "Identity", cast.input, cast.output, cast.name
            )
    result = onnx.ModelProto()
    result.CopyFrom(model)
    nodes = [made.get(node.output[0], node) for node in view.nodes]
    del result.graph.node[:]
    result.graph.node.extend(node for node in nodes if node is not None)
    result.graph.initializer.extend(constants)
    # Types of what were integers.
    del result.graph.value_info[:]
    read = (product for node in quantizers for product in view.readers(node.output[0]))
    return FloatForm(result, tuple(label_of(product) for product in read))


class _View:
    """The nodes of a graph, who reads which value, and what is constant."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes = list(graph.node)
        self._outputs = {entry.name for entry in graph.output}
        self._arrays = {tensor.name: tensor for tensor in graph.initializer}
        self._fixed = set(self._arrays)
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for position, node in enumerate(self.nodes):
            reads = wrapped(node, position).reads
            for name in reads:
                self._readers.setdefault(name, []).append(node)
            if all(name in self._fixed for name in reads):
                self._fixed.update(node.output)

    def readers(self, name: str) -> list[onnx.NodeProto]:
        """The nodes that read a value; graphs within them count."""
        return self._readers.get(name, [])

    def kernel(self, product: onnx.NodeProto) -> NDArray[np.float32]:
        """The weights of an integer product less their zero point."""
        names = (*product.input, "", "")
        array = np.asarray(onnx.numpy_helper.to_array(self._arrays[names[1]]), np.float32)
        if not names[3]:
            return array
        zero = onnx.numpy_helper.to_array(self._arrays[names[3]]).astype(np.float32)
        if product.op_type == "ConvInteger" and zero.size > 1:
            zero = zero.reshape(-1, *(1,) * (array.ndim - 1))
        return np.asarray(array - (zero if zero.size > 1 else zero.reshape(())))

    def feeds_products(self, node: onnx.NodeProto) -> bool:
        """Whether a node is a DynamicQuantizeLinear that can be left out."""
        if node.op_type != _QUANTIZER or node.domain not in ("", "ai.onnx"):
            return False
        values, step, zero = node.output
        products = self.readers(values)
        if self._outputs & {values, step, zero} or not products:
            return False
        if not all(self._is_product(product, values, zero) for product in products):
            return False
        named = {product.output[0] for product in products}
        if any(product.output[0] not in named for product in self.readers(zero)):
            return False
        casts = {self.readers(name)[0].output[0] for name in named}
        steps = {step}
        for reader in self.readers(step):
            others = [name for name in reader.input if name != step]
            if reader.op_type == "Mul" and len(others) == 1 and others[0] in self._fixed:
                steps.add(reader.output[0])
        return not self._outputs & (steps | casts) and self._only_meet(steps, casts)

    def _is_product(self, node: onnx.NodeProto, values: str, zero: str) -> bool:
        names = [*node.input, "", ""][:4]
        readers = self.readers(node.output[0])
        return (
            node.op_type in _PRODUCTS
            and node.domain in ("", "ai.onnx")
            and (names[0], names[2]) == (values, zero)
            and names[1] in self._arrays
            and (not names[3] or names[3] in self._arrays)
            and node.output[0] not in self._outputs
            and [reader.op_type for reader in readers] == ["Cast"]
            and _number(readers[0], "to") == onnx.TensorProto.FLOAT
        )

    def _only_meet(self, steps: set[str], casts: set[str]) -> bool:
        """Whether products are multiplied by their step, and steps by nothing else that varies."""
        for name in (*steps, *casts):
            for reader in self.readers(name):
                given = set(reader.input)
                met = len(given & steps) == 1 and len(given & casts) == 1
                constant = name in steps and reader.output[0] in steps
                if reader.op_type != "Mul" or not (met or constant):
                    return False
        return all(self.readers(cast) for cast in casts)


def _number(node: onnx.NodeProto, attribute: str) -> Any:
    return next((item.i for item in node.attribute if item.name == attribute), None)
