"""Adaptive rounding: less error, integers as ordinary as any, in all kinds of layers."""

import dataclasses

import keras
import numpy as np
import pytest
from exactness import as_numpy, assert_exact
from keras import layers, ops

from quantkeras import QuantizationParams, adaround, correct_bias, load_model
from quantkeras.api import quantize
from quantkeras.errors import QuantizationError
from quantkeras.layers import WeightedLayer
from quantkeras.ptq import round_adaptively
from quantkeras.ptq.blocks import blocks_of
from quantkeras.ptq.layer_by_layer import Walk
from quantkeras.ptq.linear_rows import as_kernel, as_matrices, sampled_rows
from quantkeras.qmodel import QuantizedGraph

X = np.random.default_rng(6).normal(size=(48, 8, 8, 4)).astype(np.float32)
LOW = QuantizationParams(
    weight_bits=3, input_weight_bits=3, activation_bits=4, weight_range="mse", observer="mse"
)


def network():
    keras.utils.set_random_seed(4)
    image = keras.Input((8, 8, 4))
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    y = layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    y = layers.Conv2D(8, 3, padding="same", groups=2)(y)
    x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Conv2DTranspose(6, 3, 2, padding="same", activation="relu")(x)
    x = layers.Conv2D(8, 3, 2, dilation_rate=1, use_bias=False)(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(5)(x))


def error(model, quantized):
    wanted, found = (as_numpy(m(X)) for m in (model, quantized))
    return float(np.mean((wanted - found) ** 2))


def weighted(model):
    return [layer for layer in model.layers if isinstance(layer, WeightedLayer)]


@pytest.fixture(scope="module")
def rounded():
    model = network()
    quantized = quantize(model, LOW, X)
    before = error(model, quantized)
    return model, quantized, before, round_adaptively(quantized, X)


def test_the_error_falls_and_the_program_computes_the_same(rounded):
    model, quantized, before, report = rounded
    assert error(model, quantized) < 0.35 * before
    assert all(entry.after < entry.before for entry in report.layers)
    assert "adaptive" in str(report) and str(report).count("conv2d") >= 5
    assert_exact(quantized, X[:8], graph=False)


def test_the_result_is_integers_times_steps(rounded):
    for layer in weighted(rounded[1]):
        numbers = layer.numbers()
        flat = as_numpy(layer.channel_last(ops.convert_to_tensor(layer.kernel)))
        integers = flat / as_numpy(numbers.step)
        np.testing.assert_array_equal(integers, np.round(integers))
        assert np.abs(integers).max() <= layer.weight_quantizer.qmax


@pytest.mark.slow
def test_it_survives_saving_and_can_be_trained(rounded, tmp_path):
    quantized = rounded[1]
    wanted = as_numpy(quantized(X))
    quantized.save(tmp_path / "rounded.keras")
    loaded = load_model(tmp_path / "rounded.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), wanted)
    loaded.compile(keras.optimizers.Adam(1e-3), "mse")
    targets = as_numpy(rounded[0](X))
    history = loaded.fit(X, targets, epochs=3, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert_exact(loaded, X[:4], graph=False)


@pytest.mark.slow
def test_rows_times_matrices_are_the_layer(rounded, rng):
    generator = np.random.default_rng(1)
    with Walk(quantize(rounded[0], LOW, X), X, 6) as walk:
        for step in walk:
            layer = step.layer
            matrices = as_matrices(layer, layer.kernel)
            np.testing.assert_array_equal(as_kernel(layer, matrices), as_numpy(layer.kernel))
            bias = 0 if layer.bias is None else as_numpy(layer.bias)
            step.inputs[...] = rng.normal(size=step.inputs.shape)
            exact = walk._run(lambda x, a=layer: walk._core(a, x), [step.inputs])
            step.target[...] = exact - bias
            for x, y, part in sampled_rows(step, 60, generator):
                assert part.stop <= 6 and x.shape[1] == y.shape[1]
                np.testing.assert_allclose(x @ matrices, y, atol=2e-5)


@pytest.mark.slow
def test_blocks_are_cut_where_one_value_is_alive():
    quantized = quantize(network(), LOW, X)
    found = [
        sum(isinstance(n.attrs.get("layer"), WeightedLayer) for n in block)
        for block in blocks_of(QuantizedGraph.of(quantized))
    ]
    assert found == [1, 2, 1, 1, 1]


@pytest.mark.slow
def test_blocks_are_reconstructed_and_never_get_worse():
    model = network()
    quantized = quantize(model, LOW, X)
    report = round_adaptively(quantized, X, iterations=60)
    assert [len(block.layers) for block in report.blocks] == [1, 2, 1, 1, 1]
    assert all(block.after < block.before for block in report.blocks if block.kept)
    assert any(block.kept for block in report.blocks)
    assert "block" in str(report)
    assert_exact(quantized, X[:8], graph=False)


@pytest.mark.slow
def test_several_inputs_and_outputs_and_shared_layers(rng):
    keras.utils.set_random_seed(0)
    a, b = keras.Input((6, 6, 3), name="a"), keras.Input((6, 6, 3), name="b")
    twice = layers.Conv2D(3, 3, padding="same", name="twice")
    joined = layers.Add()([twice(a), twice(b)])
    x = layers.Conv2D(4, 1, activation="relu", name="alone")(joined)
    model = keras.Model([a, b], [layers.Conv2D(2, 1)(x), layers.Conv2D(3, 1)(x)])
    samples = {name: rng.normal(size=(16, 6, 6, 3)).astype(np.float32) for name in "ab"}
    quantized = quantize(model, LOW, samples)
    report = round_adaptively(quantized, samples, iterations=20)
    reasons = [entry.reason for entry in report.layers]
    assert [bool(reason) for reason in reasons] == [True, True, False, False, False]
    assert_exact(quantized, [samples["a"], samples["b"]], graph=False)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*stay float")
def test_layers_that_stay_float_are_passed():
    model = network()
    middle = model.layers[3].name
    quantized = quantize(model, dataclasses.replace(LOW, float_layers=(middle,)), X)
    before = error(model, quantized)
    report = round_adaptively(quantized, X, iterations=3)
    assert error(model, quantized) < 0.5 * before
    assert middle not in {entry.layer for entry in report.layers}
    correct_bias(quantize(model, dataclasses.replace(LOW, float_layers=(middle,)), X), X)


def test_it_prints_and_refuses(capsys):
    with pytest.raises(QuantizationError, match="no quantized layers"):
        adaround(network(), X)
    image = keras.Input((3,))
    quantized = quantize(keras.Model(image, layers.Dense(2)(image)), LOW, X[0, 0, :, :3])
    assert adaround(quantized, X[0, 0, :, :3], verbose=True) is quantized
    assert "dense" in capsys.readouterr().out
