"""Branches and loops that data decide about: read as what they are for a batch of one."""

import keras
import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx_harness import model, node

import quantkeras as qk
from sanitize import evaluate
from sanitize.onnx_io import OnnxError, import_onnx, write_onnx

SHAPE = (3, 4, 5)


@pytest.fixture(scope="module")
def values():
    return np.random.default_rng(0).normal(size=(8, *SHAPE)).astype(np.float32)


def graph(*ops, outputs=None):
    names = outputs or [ops[-1].output[0]]
    kinds = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    return helper.make_graph(list(ops), "branch", [], kinds)


def branches(read="x"):
    then = graph(node("Relu", read, "a"), node("Add", "a c", "b"))
    return {"then_branch": then, "else_branch": graph(node("Neg", read, "d"))}


def conditional(*deciding, read="x", front=(), shape=("n", *SHAPE), **options):
    """An If behind the nodes that make ``yes``, on the numbers ``z`` and ``c``."""
    constants = {"z": np.float32(0.05), "c": np.float32(0.5), "flat": np.array([-1]),
                 "first": np.array(0), "ax": np.array([0])}  # fmt: skip
    nodes = [*front, *deciding, node("If", "yes", "y", **branches(read))]
    proto = model(nodes, {"x": shape}, constants, **options)
    whole = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    proto.graph.output[0].CopyFrom(whole)
    return proto


def one_at_a_time(proto, values, axis=0):
    """What onnxruntime makes of one sample after the other, joined along the samples."""
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    parts = np.split(values, values.shape[axis], axis)
    return np.concatenate([session.run(None, {"x": part})[0] for part in parts], axis)


def check(proto, values, axis=0):
    """The import runs as the model does on one sample at a time, and so does what is written."""
    wanted = one_at_a_time(proto, values, axis)
    imported = import_onnx(proto)
    given, out = imported.inputs[0], imported.outputs[0]
    ours = given.from_onnx(values)
    found = evaluate(imported.graph, ours)
    np.testing.assert_allclose(out.to_onnx(found), wanted, rtol=1e-5, atol=1e-5)
    session = onnxruntime.InferenceSession(write_onnx(imported.graph).SerializeToString())
    pictures = ours.ndim == 4  # which are written channels first
    (written,) = session.run(None, {"x": ours.transpose(0, 3, 1, 2) if pictures else ours})
    written = written.transpose(0, 2, 3, 1) if pictures else written
    np.testing.assert_allclose(written, found, rtol=1e-5, atol=1e-5)
    return [entry.kind for entry in imported.graph if entry.kind != "input"]


MEAN = (node("ReduceMean", "x", "m", keepdims=0), node("Greater", "m z", "yes"))
DECIDING = {
    "mean": MEAN,
    "kept axes": (node("ReduceMax", "x", "m", keepdims=1), node("Sub", "m z", "s"),
                  node("ReduceMax", "s", "t", keepdims=0), node("Greater", "t z", "yes")),
    "all in a row": (node("Reshape", "x flat", "r"), node("ReduceMean", "r", "m", keepdims=0),
                     node("Greater", "m z", "yes")),
    "first sample": (node("Gather", "x first", "r", axis=0),
                     node("ReduceMean", "r", "m", keepdims=0), node("Greater", "m z", "yes")),
    "one per sample": (node("Reshape", "x whole", "r"), node("ReduceMean", "r", "m", axes=[1]),
                       node("Greater", "m z", "g"), node("Squeeze", "g", "yes")),
    "spelled out": (node("ReduceMean", "x", "m", keepdims=0), node("Sigmoid", "m", "s"),
                    node("Mul", "m s", "t"), node("Greater", "t z", "yes")),
}  # fmt: skip


@pytest.mark.parametrize("name", DECIDING)
def test_a_branch_that_data_decide_about(name, values):
    proto = conditional(*DECIDING[name])
    proto.graph.initializer.add().CopyFrom(
        helper.make_tensor("whole", TensorProto.INT64, [2], [0, -1])
    )
    assert check(proto, values)[-1] == "opaque"


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_in_every_opset(opset, values):
    assert check(conditional(*MEAN, opset=opset), values) == ["opaque"]


def test_what_is_in_front_stays_integer(values):
    front = [node("Conv", "x w", "r"), node("Relu", "r", "h")]
    mean = (node("ReduceMean", "h", "m", keepdims=0), node("Greater", "m z", "yes"))
    proto = conditional(*mean, read="h", front=front)
    kernel = np.random.default_rng(1).normal(size=(3, 3, 1, 1)).astype(np.float32)
    proto.graph.initializer.add().CopyFrom(
        helper.make_tensor("w", TensorProto.FLOAT, kernel.shape, kernel.ravel())
    )
    assert check(proto, values) == ["conv2d", "relu", "opaque"]
    with pytest.warns(UserWarning, match="an If that decides by data, run sample by sample"):
        quantized = qk.quantize(proto, samples=values)
    session = onnxruntime.InferenceSession(quantized.SerializeToString())
    (found,) = session.run(None, {"x": values})
    np.testing.assert_allclose(found, one_at_a_time(proto, values), atol=0.1)


def test_as_a_keras_model(values, tmp_path):
    proto = conditional(*MEAN)
    network = qk.from_onnx(proto)
    network.save(tmp_path / "net.keras")
    loaded = keras.models.load_model(tmp_path / "net.keras")
    found = np.asarray(loaded(values.transpose(0, 2, 3, 1))).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, one_at_a_time(proto, values), atol=1e-5)


def test_samples_along_another_axis(values):
    steps = np.ascontiguousarray(values[:, 0].transpose(1, 0, 2))
    assert check(conditional(*MEAN, shape=(4, "batch", 5)), steps, 1)[-1] == "opaque"


def loop(value, go, **infos):
    number = helper.make_tensor_value_info
    ops = [node("Mul", "v half", value), *go]
    return helper.make_graph(
        ops, "body",
        [number("i", TensorProto.INT64, []), number("g", TensorProto.BOOL, []),
         number("v", TensorProto.FLOAT, None)],
        [number("on", TensorProto.BOOL, []), number(value, TensorProto.FLOAT, None)],
    )  # fmt: skip


LOOPS = {
    "while": ([], "_ yes x", [node("ReduceMax", "w", "top", keepdims=0),
                              node("Greater", "top z", "on")]),
    "count": ([node("ReduceMax", "x", "m", keepdims=0), node("Cast", "m", "count", to=7)],
              "count yes x", [node("Identity", "g", "on")]),
}  # fmt: skip


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_that_data_decide_about(name, values):
    nodes, given, go = LOOPS[name]
    constants = {"yes": np.array(True), "half": np.float32(0.5), "z": np.float32(0.3)}
    proto = model([*nodes, node("Loop", given, "y", body=loop("w", go))],
                  {"x": ("n", *SHAPE)}, constants)  # fmt: skip
    proto.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", *SHAPE])
    )
    assert check(proto, values * np.arange(1, 9, dtype=np.float32).reshape(8, 1, 1, 1)) == [
        "opaque"
    ]


def test_a_loop_that_does_not_end_for_zeros(values):
    go = [node("ReduceMax", "w", "top", keepdims=0), node("Less", "top z", "on")]
    constants = {"yes": np.array(True), "half": np.float32(1.5), "z": np.float32(8.0)}
    proto = model([node("Loop", "_ yes x", "y", body=loop("w", go))],
                  {"x": ("n", *SHAPE)}, constants)  # fmt: skip
    proto.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", *SHAPE])
    )
    assert check(proto, np.abs(values)) == ["opaque"]


def test_a_known_branch_that_reads_what_is_one_for_all_samples(values):
    then = graph(node("Sub", "x m", "a"))
    last = node("If", "yes", "y", then_branch=then, else_branch=graph(node("Neg", "x", "d")))
    nodes = [node("ReduceMean", "x", "m", keepdims=0), last]
    proto = model(nodes, {"x": ("n", *SHAPE)}, {"yes": np.array(True)})
    whole = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", *SHAPE])
    proto.graph.output[0].CopyFrom(whole)
    assert check(proto, values) == ["opaque"]


def test_branches_of_other_shapes_are_refused():
    proto = conditional(*MEAN)
    other = graph(node("ReduceMean", "x", "d", axes=[2], keepdims=0))
    (attribute,) = [item for item in proto.graph.node[-1].attribute if item.name == "else_branch"]
    attribute.g.CopyFrom(other)
    with pytest.raises(OnnxError, match=r"'If_y' \(If\) decides by data, and makes the shape"):
        import_onnx(proto)


def test_a_model_that_decides_for_several_samples_is_refused():
    with pytest.raises(OnnxError, match=r"'If_y' \(If\) decides by data, for the 2 samples"):
        import_onnx(conditional(*MEAN, shape=(2, *SHAPE)))
    assert import_onnx(conditional(*MEAN, shape=(1, *SHAPE))).alone


def test_an_output_without_samples_is_refused():
    then = graph(node("ReduceSum", "x", "a", keepdims=0))
    other = graph(node("ReduceMean", "x", "d", keepdims=0))
    last = node("If", "yes", "y", then_branch=then, else_branch=other)
    proto = model([*MEAN, last], {"x": ("n", *SHAPE)}, {"z": np.float32(0.0)})
    with pytest.raises(OnnxError, match=r"shape \(\) of a batch of one, in which no axis"):
        import_onnx(proto)


def test_what_else_mixes_samples_is_still_refused():
    nodes = [node("ReduceMean", "x", "m", keepdims=0), node("Sub", "x m", "y")]
    with pytest.raises(OnnxError, match="samples depend on each other"):
        import_onnx(model(nodes, {"x": ("n", *SHAPE)}))
