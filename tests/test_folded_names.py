"""Names of layers that sanitize or equalize fold into others, given to what comes behind."""

import keras
import numpy as np
import pytest
from keras import layers
from parameters import slow

import quantkeras as qk
from quantkeras import QuantizationParams
from quantkeras.cli import main
from quantkeras.errors import QuantizationError
from sanitize import sanitize

KEPT = QuantizationParams(float_layers=("norm",))
X = np.random.default_rng(0).normal(1, 1, (8, 6, 6, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    generator = np.random.default_rng(1)
    x = image = keras.Input((6, 6, 3))
    norm = layers.BatchNormalization(name="norm")
    x = norm(layers.Conv2D(4, 3, name="conv")(x))
    x = layers.Conv2D(4, 3, name="other")(layers.ReLU(name="relu")(x))
    x = layers.Dropout(0.5, name="drop")(layers.GlobalAveragePooling2D(name="pool")(x))
    made = keras.Model(image, layers.Dense(2, name="head")(x))
    norm.set_weights([generator.uniform(0.5, 2, 4) for _ in range(4)])
    return made


@pytest.mark.parametrize(
    "rewrite",
    [sanitize, qk.equalize, *slow(lambda model: qk.equalize(sanitize(model)))],
    ids=["sanitize", "equalize", "both"],
)
def test_a_folded_layer_is_found_where_it_went(model, rewrite):
    made = rewrite(model)
    for params in (KEPT, QuantizationParams().with_override("nor*", weight_bits=6)):
        with pytest.raises(QuantizationError, match="the layer 'norm' .* folded into 'conv' when"):
            qk.quantize(made, params, X)
    with pytest.raises(QuantizationError, match="no layer is named 'nrom'"):
        qk.quantize(made, QuantizationParams(float_layers=("nrom",)), X)
    quantized = qk.quantize(made, QuantizationParams(float_layers=("drop", "conv")), X)
    assert qk.coverage(quantized)["conv"].status == "float"


@pytest.mark.slow
def test_equalize_leaves_alone_what_is_to_stay_float(model):
    made = qk.equalize(model, qparams=KEPT)
    np.testing.assert_allclose(made(X), model(X), atol=1e-5)
    quantized = qk.quantize(made, KEPT, X)
    assert [layer.name for layer in qk.coverage(quantized).layers if layer.status == "float"] == [
        "norm"
    ]
    for part in qk.convert_parts(quantized):
        assert qk.verify(quantized, part, X).exact


@pytest.mark.slow
def test_equalized_on_the_way(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model.save("net.keras")
    np.savez("x.npz", x=X)
    words = "quantize -m net.keras -sa x.npz -o q.keras --equalize --float_layers norm"
    assert main(words.split()) == 0
    assert qk.coverage(qk.load_model("q.keras"))["norm"].status == "float"


@pytest.mark.slow
def test_auto_quantize_equalizes_around_it(model):
    scores = iter([9.0, 0.0, 0.0, 0.0, 9.0])  # of the float model and of the first four ways
    quantized, ladder = qk.auto_quantize(model, X, qparams=KEPT, eval_fn=lambda _: next(scores))
    assert ladder.reached and "equalized" in ladder.chosen
    assert qk.coverage(quantized)["norm"].status == "float"
