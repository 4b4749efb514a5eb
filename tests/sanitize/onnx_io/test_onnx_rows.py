"""Samples along another axis than the first, and merged with other axes, where each row of these is
computed alone.
"""

import numpy as np
import pytest
from onnx_harness import check, model, node

from sanitize.onnx_io import OnnxError, import_onnx

SEQUENCE = {"x": ("batch", 5, 6)}
APART = node("Reshape", "z apart", "y")


def f(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


CONSTANTS = {
    "rows": np.array([-1, 6]),
    "apart": np.array([-1, 5, 6]),
    "w": f(6, 6),
    "b": f(6),
    "one": f(1, 6),
    "half": np.float32(0.5),
    "variance": np.abs(f(6)) + 0.5,
    "axis": np.array([1]),
    "pick": np.array(2),
    "slopes": np.array([0.1] * 3 + [0.3] * 3),
}

#: What is done to the rows "r" (n*5, 6): nodes that make "z", and what kinds they become.
ROWWISE = {
    "gemm": ([node("Gemm", "r w b", "z", transB=1, alpha=0.5)], ["dense"]),
    "matmul": ([node("MatMul", "r w", "m"), node("Add", "m b", "z")], ["dense"]),
    "constant": ([node("Mul", "r one", "m"), node("Sub", "half m", "z")], ["affine", "affine"]),
    "batchnorm": ([node("BatchNormalization", "r w0 b b variance", "z")], ["batchnorm"]),
    "softmax": ([node("Softmax", "r", "z", axis=1)], ["softmax"]),
    "prelu": ([node("PRelu", "r slopes", "z")], ["activation"]),
    "silu": ([node("Sigmoid", "r", "s"), node("Mul", "r s", "z")], ["activation"]),
    "two": ([node("MatMul", "r w", "m"), node("Relu", "m", "n"), node("Add", "n r", "z")],
            ["dense", "relu", "add"]),
    "turned": ([node("Transpose", "r", "t", perm=[1, 0]), node("Relu", "t", "u"),
                node("Transpose", "u", "z", perm=[1, 0])], ["relu"]),
    "parts": ([node("Split", "r", "p q", axis=1), node("Tanh", "q", "s"),
               node("Concat", "p s", "z", axis=-1)], ["slice", "slice", "activation", "concat"]),
    "wider": ([node("Reshape", "r wide", "a"), node("Gather", "a pick", "g", axis=1),
               node("MatMul", "g w2", "z")], ["reshape", "slice", "dense"]),
}  # fmt: skip


@pytest.mark.parametrize("label", ROWWISE)
def test_rows_of_samples_and_steps(label):
    nodes, kinds = ROWWISE[label]
    constants = {**CONSTANTS, "w0": f(6), "wide": np.array([-1, 3, 2]), "w2": f(2, 6)}
    imported = check(
        [node("Reshape", "x rows", "r"), *nodes, APART], SEQUENCE, constants, tolerance=2e-5
    )
    assert [part.kind for part in imported.graph][1:] == kinds
    assert imported.graph.shape_of(imported.outputs[0].value) == (5, 6)


def test_merged_samples_in_a_shape_that_the_model_computes():
    nodes = [
        node("Reshape", "x rows", "r"),
        node("MatMul", "r w", "z"),
        node("Shape", "z", "s"),
        node("Div", "s five", "d"),
        node("Concat", "first rest", "shape", axis=0),
        node("Gather", "d zero", "first", axis=0),
        node("Reshape", "z shape", "y"),
    ]
    nodes[4], nodes[5] = nodes[5], nodes[4]
    numbers = {"five": np.array([5, 1]), "zero": np.array([0]), "rest": np.array([5, 6])}
    check(nodes, SEQUENCE, {**CONSTANTS, **numbers})


@pytest.mark.parametrize("count", ["batch", 1, 3])
def test_time_in_front_of_the_samples(count):
    nodes = [
        node("Flatten", "x", "r", axis=2),
        node("Gemm", "r w b", "g"),
        node("Relu", "g", "z"),
        node("Reshape", "z back", "y"),
    ]
    size = -1 if count == "batch" else count
    constants = {**CONSTANTS, "back": np.array([5, size, 6])}
    imported = check(
        [node("Transpose", "i", "x", perm=[1, 0, 2]), *nodes], {"i": (count, 5, 6)}, constants
    )
    assert imported.outputs[0].order == (1, 0, 2)


@pytest.mark.parametrize(
    ("shape", "order"),
    [((5, "batch", 6), (1, 0, 2)), (("time", "N", 6), (1, 0, 2)), ((5, 6, "batch"), (2, 0, 1)),
     ((1, "batch", 6), (1, 0, 2)), (("n", 5, 6), (0, 1, 2))],
)  # fmt: skip
def test_the_axis_that_is_called_batch_counts_samples(shape, order):
    kept = [5 if size == "time" else size for size in shape]
    imported = check([node("Tanh", "x", "y")], {"x": kept}) if "time" not in shape else import_onnx(
        model([node("Tanh", "x", "y")], {"x": shape}), shapes={"x": (5, 6)}
    )  # fmt: skip
    assert imported.inputs[0].order == imported.outputs[0].order == order


def test_one_letter_behind_one_sample_is_no_batch():
    with pytest.raises(OnnxError, match=r"axis 1 of the input 'x' has the size 'N'"):
        import_onnx(model([node("Tanh", "x", "y")], {"x": (1, "N", 3)}))


@pytest.mark.parametrize("count", ["batch", 1, 2])
def test_recurrent_layers_tell_which_axis_counts_samples(count):
    nodes = [
        node("Relu", "x", "a"),
        node("GRU", "a gates again", "all last", hidden_size=4),
        node("Squeeze", "all axis", "s"),
        node("MatMul", "s w", "y"),
    ]
    constants = {"gates": f(1, 12, 6), "again": f(1, 12, 4), "axis": np.array([1]), "w": f(4, 3)}
    imported = check(nodes, {"x": (5, count, 6)}, constants, keras=False, tolerance=1e-4)
    assert imported.inputs[0].order == imported.outputs[0].order == (1, 0, 2)


@pytest.mark.parametrize("time_first", [False, True])
def test_heads_of_attention_counted_with_the_samples(time_first):
    """As PyTorch writes them: products of two values are kept, per sample and head."""
    split = [5, -1, 3] if time_first else [-1, 2, 5, 3]
    order = [1, 0, 2] if time_first else [0, 1, 2]
    nodes = [
        node("Reshape", "x split", "s"),
        *([] if time_first else [node("Reshape", "s heads", "h")]),
        node("Transpose", "s" if time_first else "h", "q", perm=order),
        node("Transpose", "q", "k", perm=[0, 2, 1]),
        node("MatMul", "q k", "a"), node("Mul", "a scale", "b"), node("Softmax", "b", "p", axis=2),
        node("MatMul", "p q", "o"),
        node("Reshape", "o apart", "y"),
    ]  # fmt: skip
    constants = {"split": np.array(split), "heads": np.array([-1, 5, 3]), "scale": f(1, 1, 1),
                 "apart": np.array([-1, 2, 5, 3])}  # fmt: skip
    shape = (5, "batch", 6) if time_first else ("batch", 2, 15)
    imported = check(nodes, {"x": shape}, constants, keras=False)
    kinds = [part.kind for part in imported.graph]
    assert kinds.count("opaque") == 2 and "softmax" in kinds


def test_pictures_whose_samples_come_last():
    nodes = [node("Transpose", "x", "t", perm=[3, 0, 1, 2]), node("Conv", "t k", "c"),
             node("Relu", "c", "y")]  # fmt: skip
    imported = check(nodes, {"x": (3, 7, 6, "batch")}, {"k": f(4, 3, 3, 3)})
    assert imported.inputs[0].order == (3, 1, 2, 0)
    assert [part.kind for part in imported.graph][1:] == ["conv2d", "relu"]


REFUSED = {
    "Conv": ([node("Reshape", "x maps", "r"), node("Conv", "r k", "y")], "'Conv_y' .*axis 1 of"),
    "softmax over rows": (
        [node("Reshape", "x rows", "r"), node("Softmax", "r", "y", axis=0)], "rows together",
    ),
    "positions": (
        [node("Reshape", "x rows", "r"), node("Add", "r places", "z"), APART], "other rows",
    ),
    "other rows": (
        [node("Reshape", "x rows", "r"), node("Reshape", "x half_rows", "s"),
         node("MatMul", "s w3", "t"), node("Add", "r t", "y")], "something else",
    ),
    "sum": ([node("Reshape", "x rows", "r"), node("ReduceSum", "r axis0", "y")], "not known"),
    "matrix in front": (
        [node("Transpose", "x", "t", perm=[0, 2, 1]), node("Reshape", "t rows5", "r"),
         node("MatMul", "left r", "y")], "rows together",
    ),
    "output": ([node("Reshape", "x rows", "y")], "output 'y' has the samples and axis 1 of"),
}  # fmt: skip


@pytest.mark.parametrize("label", REFUSED)
def test_what_works_on_rows_together_is_refused(label):
    nodes, message = REFUSED[label]
    constants = {
        **CONSTANTS, "maps": np.array([-1, 1, 2, 3]), "k": f(2, 1, 1, 1), "places": f(10, 6),
        "half_rows": np.array([-1, 3]), "w3": f(3, 6), "axis0": np.array([0]),
        "rows5": np.array([-1, 5]), "left": f(2, 12),
    }  # fmt: skip
    count = 2 if label in ("positions", "matrix in front") else "batch"
    with pytest.raises(OnnxError, match=message):
        import_onnx(model(nodes, {"x": (count, 5, 6)}, constants))
