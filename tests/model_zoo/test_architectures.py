"""Every architecture of the zoo builds, has the size it promises and survives saving."""

import importlib
from types import ModuleType

import keras
import numpy as np
import pytest
from keras import layers
from parameters import slow

import model_zoo
from model_zoo.batchnorm_statistics import randomize_batchnorm

# name: (input shape, output shape, parameters at least, at most)
EXPECTED = {
    "resnet8": ((32, 32, 3), (10,), 77_000, 79_000),
    "mobilenet_tiny": ((32, 32, 3), (10,), 100_000, 250_000),
    "mlp": ((28, 28, 1), (10,), 100_000, 125_000),
    "shufflenet": ((32, 32, 3), (10,), 40_000, 250_000),
    "vww_mobilenet": ((96, 96, 3), (2,), 215_000, 230_000),
    "wakeword": ((30, 1, 40), (3,), 20_000, 60_000),
    "ds_cnn": ((49, 10, 1), (12,), 22_000, 26_000),
    "autoencoder": ((640,), (640,), 260_000, 275_000),
}
BIG = ("mobilenet_tiny", "shufflenet", "vww_mobilenet")


def module(name: str) -> ModuleType:
    return importlib.import_module(f"model_zoo.{name}")


def random_inputs(model: keras.Model, count: int = 8) -> np.ndarray:
    x = np.random.default_rng(0).random((count, *model.input_shape[1:]))
    takes_bytes = any(isinstance(layer, layers.Rescaling) for layer in model.layers)
    return (x * 255 if takes_bytes else x).astype(np.float32)


def test_every_architecture_is_listed_here():
    assert set(model_zoo.ARCHITECTURES) == set(EXPECTED)


@pytest.mark.parametrize(
    "name",
    [*(name for name in EXPECTED if name not in BIG), *slow(*BIG)],
)
def test_shapes_and_number_of_parameters(name):
    input_shape, output_shape, least, most = EXPECTED[name]
    model = module(name).build()
    assert model.name == name
    assert model.input_shape == (None, *input_shape)
    assert model.output_shape == (None, *output_shape)
    assert least <= model.count_params() <= most


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ds_cnn", *slow(*sorted(EXPECTED.keys() - {"ds_cnn"}))])
def test_a_saved_network_computes_the_same(name, tmp_path):
    model = module(name).build()
    x = random_inputs(model)
    randomize_batchnorm(model, seed=1, inputs=x)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    expected = model(x, training=False)
    np.testing.assert_array_equal(loaded(x, training=False), expected)
    assert np.ptp(np.asarray(expected), axis=0).max() > 1e-3, "the output does not depend on x"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EXPECTED if name != "autoencoder"])
def test_without_classifier_activation_the_network_gives_logits(name):
    network = module(name)
    probabilities, logits = network.build(), network.build(classifier_activation=None)
    logits.set_weights(probabilities.get_weights())
    x = random_inputs(probabilities)
    np.testing.assert_allclose(
        keras.ops.softmax(logits(x, training=False)), probabilities(x, training=False), atol=1e-5
    )


@pytest.mark.slow
def test_the_networks_cover_what_they_are_here_for():
    kinds = {name: [type(x).__name__ for x in module(name).build().layers] for name in EXPECTED}
    assert kinds["resnet8"].count("Add") == 3
    assert kinds["mobilenet_tiny"].count("DepthwiseConv2D") == 8
    assert kinds["mobilenet_tiny"].count("Add") == 4
    assert kinds["vww_mobilenet"].count("DepthwiseConv2D") == 13
    assert kinds["shufflenet"].count("Permute") == kinds["shufflenet"].count("Concatenate") == 7
    assert not any("Lambda" in layer for names in kinds.values() for layer in names)
    kernels = [x.kernel_size for x in module("wakeword").build().layers if "depthwise" in x.name]
    assert set(kernels) == {(3, 1), (5, 1)}
    stem = module("ds_cnn").build().get_layer("stem_conv")
    assert (stem.kernel_size, stem.strides) == ((10, 4), (2, 2))


def test_channel_shuffle_interleaves_the_halves():
    x = keras.Input((2, 2, 6))
    shuffle = keras.Model(x, module("shufflenet")._shuffle(x, "s"))
    values = np.arange(6, dtype=np.float32) * np.ones((1, 2, 2, 1), np.float32)
    np.testing.assert_array_equal(shuffle(values)[0, 1, 1], [0, 3, 1, 4, 2, 5])


def test_wakeword_refuses_too_few_frames():
    with pytest.raises(ValueError, match="14 frames are too few"):
        module("wakeword").build(frames=14)
