"""Outputs of exported models have the names that they have in the network that was quantized."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
from keras import layers
from onnx_harness import model, node, random_arrays, run, weights

import quantkeras as qk
from quantkeras.onnx import export_onnx
from quantkeras.onnx.output_names import name_outputs


def network(first: str = "prob", second: str = "score") -> onnx.ModelProto:
    """Two outputs: a softmax and the ReLU in front of it, which joins its Gemm."""
    nodes = [
        node("Gemm", "x w", "h"),
        node("Relu", "h", "r"),
        node("Gemm", "r w2", "z"),
        node("Relu", "z", second),
        node("Softmax", second, first, axis=1),
    ]
    constants = {"w": weights(6, 5), "w2": weights(5, 3)}
    return model(nodes, {"x": ("n", 6)}, constants, outputs=[first, second])


def output_names(proto: onnx.ModelProto) -> list[str]:
    return [entry.name for entry in proto.graph.output]


@pytest.mark.slow
def test_an_onnx_model_that_went_through_a_keras_file_has_its_outputs(tmp_path: Path) -> None:
    proto = network()
    samples = random_arrays(proto, 16)["x"]
    imported = qk.from_onnx(proto)
    assert imported.output_names == ["prob", "score"]
    loaded = qk.load_model(qk.save_model(imported, tmp_path / "float.keras"))
    quantized = qk.quantize(loaded, samples=samples)
    again = qk.load_model(qk.save_model(quantized, tmp_path / "quantized.keras"))
    wanted = quantized(samples)
    for form in ("integer", "qdq", "qoperator", "encodings"):
        exported = export_onnx(again, format=form)
        assert output_names(exported) == ["prob", "score"]
        found = run(exported, {"x": samples})
        for one, other in zip(found, wanted, strict=True):
            assert np.allclose(one, other, atol=0.1 if form != "integer" else 1e-6)


def test_names_that_keras_has_not_are_kept_by_a_quantized_model(tmp_path: Path) -> None:
    proto = network("/prob/out:0", "scöres")
    samples = random_arrays(proto, 16)["x"]
    assert qk.from_onnx(proto).output_names == ["_prob_out_0", "sc_res"]
    quantized = qk.quantize(proto, samples=samples, as_onnx=False)
    loaded = qk.load_model(qk.save_model(quantized, tmp_path / "quantized.h5"))
    assert output_names(export_onnx(loaded)) == ["/prob/out:0", "scöres"]
    assert output_names(qk.quantize(proto, samples=samples)) == ["/prob/out:0", "scöres"]


def test_an_operator_that_stays_has_the_name_of_the_output() -> None:
    nodes = [node("Conv", "x w", "c"), node("Resize", "c _ s", "big", mode="linear")]
    constants = {"w": weights(3, 3, 1, 1), "s": np.array([1, 1, 2, 2], np.float32)}
    proto = model(nodes, {"x": ("n", 3, 4, 5)}, constants, outputs=["big"])
    imported = qk.from_onnx(proto)
    assert imported.output_names == ["big"]
    x = random_arrays(proto)["x"]
    found = np.asarray(imported(x.transpose(0, 2, 3, 1)))
    assert np.allclose(found.transpose(0, 3, 1, 2), run(proto, {"x": x})[0], atol=1e-5)


def test_a_function_that_joined_its_layer_names_the_output_of_a_keras_model() -> None:
    x = keras.Input((6,), name="x")
    first = layers.ReLU(name="features")(layers.Dense(4, name="fc")(x))
    quantized = qk.quantize(
        keras.Model(x, {"f": first, "y": layers.Dense(2, name="head")(first)}),
        samples=np.linspace(-1, 1, 96, dtype=np.float32).reshape(16, 6),
    )
    assert output_names(export_onnx(quantized)) == ["features", "head"]
    # A program knows its own layers only.
    assert output_names(export_onnx(qk.convert(quantized))) == ["fc", "head"]


def graph() -> Any:
    nodes = [
        onnx.helper.make_node("Relu", ["x"], ["a"]),
        onnx.helper.make_node("Abs", ["a"], ["b"]),
    ]
    infos = [onnx.helper.make_tensor_value_info(n, 1, ["n"]) for n in ("x", "a", "b")]
    return onnx.helper.make_graph(nodes, "net", infos[:1], infos[1:])


@pytest.mark.parametrize(
    ("names", "given"),
    [
        (["one", "two"], ["one", "two"]),
        (["x", "two"], ["a", "two"]),
        (["same", "same"], ["same", "b"]),
        (["b", "a"], ["a", "b"]),
        ([], ["a", "b"]),
    ],
)
def test_a_name_that_another_tensor_has_is_not_given(names: list[str], given: list[str]) -> None:
    found = graph()
    name_outputs(found, ["a", "b"], names)
    assert [entry.name for entry in found.output] == given
    assert found.node[1].input[0] == given[0] and found.node[1].output[0] == given[1]
