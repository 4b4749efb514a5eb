"""Small float ONNX models, and what is asked of them in several tests."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, NotImplemented


def weights(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def model(nodes, inputs, outputs, constants, opset=13, ir_version=8, domains=(), checked=True):
    """A checked model; inputs, outputs: {name: shape}, floats."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in inputs.items()],
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in outputs.items()],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    made = helper.make_model(graph, opset_imports=imports, ir_version=ir_version)
    if checked:
        onnx.checker.check_model(made)
    return made


def node(op, inputs, outputs, name=None, **attributes):
    return helper.make_node(
        op, inputs, outputs, name if name is not None else outputs[0], **attributes
    )


def conv_net(opset=13, groups=2):
    """Conv (padded, strided), Relu, grouped Conv without a bias, pooling, Gemm, MatMul, Add."""
    constants = {
        "w1": weights(8, 3, 3, 3) / 4,
        "b1": weights(8),
        "w2": weights(6, 8 // groups, 3, 3) / 4,
        "w3": weights(5, 6) / 2,
        "b3": weights(5),
        "w4": weights(5, 4),
        "b4": weights(4),
    }
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "w2"], ["c2"], group=groups, auto_pad="SAME_UPPER"),
        node("GlobalAveragePool", ["c2"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "w3", "b3"], ["g"], transB=1, alpha=0.5, beta=2.0),
        node("Relu", ["g"], ["r2"]),
        node("MatMul", ["r2", "w4"], ["m"]),
        node("Add", ["m", "b4"], ["y"]),
    ]
    return model(nodes, {"x": ["n", 3, 8, 8]}, {"y": ["n", 4]}, constants, opset)


def images(count=16):
    return np.random.default_rng(5).normal(size=(count, 3, 8, 8)).astype(np.float32)


def run(proto, feeds, also=(), exact=False):
    """Outputs in onnxruntime; also: values in between, which come last. exact: as written."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for name in also:
        copy.graph.output.append(onnx.ValueInfoProto(name=name))
    try:
        session = _session(copy, exact, "1")
    except (Fail, NotImplemented):  # its rewriting of int8 weights does not know all models
        session = _session(copy, exact, "0")
    feeds = feeds if isinstance(feeds, dict) else {session.get_inputs()[0].name: feeds}
    return session.run(None, feeds)


def _session(proto, exact, precision):
    """precision: "1" for products of int8 by uint8 that do not saturate, on every processor."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.x64quantprecision", precision)
    if exact:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    providers = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=providers)


def operators(proto):
    return [found.op_type for found in proto.graph.node]


def relative_error(found, wanted):
    """Root of the mean squared error, relative to that of what was wanted."""
    return float(np.sqrt(np.mean((found - wanted) ** 2) / np.mean(wanted**2)))


class Reader:
    """Batches one by one, as onnxruntime's calibration reads them."""

    def __init__(self, *batches):
        self.left = list(batches)

    def get_next(self):
        return self.left.pop(0) if self.left else None
