"""The architectures that ship inside the onnx package, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
from onnx import numpy_helper

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
NAMES = (
    "bvlc_alexnet",
    "densenet121",
    "inception_v1",
    "inception_v2",
    "resnet50",
    "shufflenet",
    "squeezenet",
    "vgg19",
    "zfnet512",
)
#: Their fully connected layers hold more than 200 MB.
LARGE = ("bvlc_alexnet", "vgg19", "zfnet512")


def architecture(name: str, opset: int = 13, seed: int = 0) -> Any:
    """The ModelProto ``light_<name>.onnx`` in ``opset``.

    The files hold shapes only, as ConstantOfShape nodes; kernels become random numbers that keep
    the size of a signal, vectors (biases, normalizations) numbers between 0.5 and 1.5.
    """
    model = onnx.load(str(LIGHT / f"light_{name}.onnx"))
    graph = model.graph
    generator = np.random.default_rng(seed)
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes, weights = [], []
    for node in graph.node:
        if node.op_type != "ConstantOfShape":
            nodes.append(node)
            continue
        shape = tuple(int(size) for size in shapes[node.input[0]])
        if len(shape) > 1:
            array = generator.standard_normal(shape, np.float32) / np.sqrt(np.prod(shape[1:]))
        else:
            array = generator.uniform(0.5, 1.5, shape)
        weights.append(numpy_helper.from_array(array.astype(np.float32), node.output[0]))
    read = {name for node in nodes for name in node.input}
    made = {tensor.name for tensor in weights}
    constants = [*(tensor for tensor in graph.initializer if tensor.name in read), *weights]
    inputs = [value for value in graph.input if value.name in read - made - set(shapes)]
    light = onnx.helper.make_graph(nodes, graph.name, inputs, list(graph.output), constants)
    imports = [onnx.helper.make_opsetid("", model.opset_import[0].version)]
    full = onnx.helper.make_model(light, opset_imports=imports, ir_version=8)
    return onnx.version_converter.convert_version(full, opset)
