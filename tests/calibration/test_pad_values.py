"""An offset folded into a padded convolution: the format of its input holds the padding value."""

import keras
import numpy as np
import pytest
from exactness import as_numpy, assert_exact
from keras import layers
from parameters import slow, slow_rows

from quantkeras import QuantizationParams, load_model
from quantkeras.api import quantize
from quantkeras.calibration import calibrate
from quantkeras.layers import OutputQuantizer
from quantkeras.qat import set_ranges


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(21).normal(size=(8, 10, 10, 3)).astype(np.float32)


def conv(filters=4, size=3, **kwargs):
    return layers.Conv2D(filters, size, **{"padding": "same", **kwargs})


def network(*stack, shape=(10, 10, 3)):
    """A network with biases and batch statistics that are not the ones of a fresh model."""
    keras.utils.set_random_seed(4)
    model = keras.Sequential([keras.Input(shape), *stack])
    return settled(model)


def settled(model):
    rng = np.random.default_rng(6)
    for layer in model.layers:
        weights = layer.get_weights()
        if isinstance(layer, layers.BatchNormalization):
            shape = weights[0].shape
            bounds = ((0.5, 1.5), (-0.3, 0.6), (-0.3, 0.3), (0.3, 2.0))
            layer.set_weights([rng.uniform(*each, shape) for each in bounds])
        elif weights:
            layer.set_weights([weights[0], *(rng.normal(0, 0.1, w.shape) for w in weights[1:])])
    return model


def offset(value):
    return layers.Rescaling(1.0, value)


def two_readers():
    keras.utils.set_random_seed(4)
    image = keras.Input((10, 10, 3))
    x = conv(activation="relu")(image)
    return settled(keras.Model(image, [conv()(offset(0.4)(x)), conv()(offset(-3.0)(x))]))


def shared():
    keras.utils.set_random_seed(4)
    image = keras.Input((10, 10, 3))
    twice = conv(3, activation="relu")
    x = twice(image)
    y = conv(3)(offset(0.5)(x))
    return settled(keras.Model(image, layers.Add()([conv(3)(twice(y)), y])))


NETWORKS = {
    "offset": lambda: network(conv(), layers.ReLU(), offset(0.3), conv()),
    "negative offset": lambda: network(conv(), layers.ReLU(), offset(-0.3), conv()),
    "normalization": lambda: network(
        conv(activation="relu"), layers.BatchNormalization(), conv(), layers.ReLU()
    ),
    "far beyond a signed range": lambda: network(conv(activation="tanh"), offset(9.0), conv()),
    "depthwise": lambda: network(
        conv(), layers.ReLU(), offset(0.3), layers.DepthwiseConv2D(3, padding="same")
    ),
    "dilated": lambda: network(conv(activation="relu"), offset(0.3), conv(dilation_rate=2)),
    "explicit": lambda: network(
        conv(activation="relu"), offset(0.3),
        layers.ZeroPadding2D(((2, 0), (1, 2))), conv(padding="valid", strides=2),
    ),
    "behind movements": lambda: network(
        conv(activation="relu"), layers.MaxPooling2D(2), layers.UpSampling2D(2),
        layers.BatchNormalization(), conv(),
    ),
    "in one dimension": lambda: network(
        layers.Reshape((100, 3)), layers.Conv1D(4, 3, padding="same", activation="relu"),
        layers.BatchNormalization(), layers.Conv1D(3, 3, padding="same"),
    ),
    "of the input": lambda: network(
        layers.Normalization(mean=[4, 0, -5], variance=[1, 2, 1]), conv()
    ),
    "two readers": two_readers,
    "shared layer": shared,
}  # fmt: skip


def padded_layers(model):
    return [layer for layer in model.layers if getattr(layer, "has_pad_value", False)]


def assert_held(model):
    """The padding that is used is the one that was wanted, rounded to the input's grid."""
    found = padded_layers(model)
    assert found
    for layer in found:
        numbers = layer.numbers()
        wanted, used = as_numpy(layer.pad_value), as_numpy(numbers.qpad_value)
        step = as_numpy(numbers.input_lsbs[0])
        assert (np.abs(used - wanted) <= 0.501 * step).all(), (layer.name, wanted, used, step)


def decibels(wanted, found):
    """SQNR of what two pixels or more inside is, and of the border."""
    border = np.ones(wanted.shape[1:3], bool)
    border[2:-2, 2:-2] = False
    signal, noise = wanted**2, (wanted - found) ** 2
    return [10 * np.log10(signal[:, a].mean() / noise[:, a].mean()) for a in (~border, border)]


QUICK = ("offset", "behind movements")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*QUICK, *slow(*sorted(NETWORKS.keys() - set(QUICK)))])
def test_the_format_of_the_input_holds_the_padding(name, images):
    model = NETWORKS[name]()
    quantized = quantize(model, samples=images)
    assert_held(quantized)
    assert_exact(quantized, images[:2], graph=False)
    outputs = [keras.tree.flatten(m(images)) for m in (model, quantized)]
    for wanted, found in zip(*outputs, strict=True):
        if wanted.ndim == 4:
            inside, border = decibels(as_numpy(wanted), as_numpy(found))
            assert border > inside - 4 and border > 25, (inside, border)


@pytest.mark.parametrize(
    ("observer", "per_tensor"),
    [("mse", False), ("percentile:90", True), *slow_rows(("mse", True), ("percentile:90", False))],
)
def test_observers_that_clip_leave_the_padding(observer, per_tensor, images):
    settings = QuantizationParams(observer=observer, per_tensor_activations=per_tensor)
    model = network(conv(activation="relu"), layers.BatchNormalization(), conv())
    assert_held(quantize(model, settings, samples=images))


def test_integer_inputs_that_cannot_hold_it_are_shifted_by_a_layer_of_their_own(images):
    pixels = np.clip(60 * images + 128, 0, 255).astype(np.uint8)
    fits = network(layers.Rescaling(1 / 127.5, -1.0), conv())
    beyond = network(layers.Rescaling(1 / 127.5, 0.5), conv())
    assert_held(quantize(fits, samples=pixels))
    quantized = quantize(beyond, samples=pixels)
    assert not padded_layers(quantized) and len(quantized.layers) == 5
    assert_exact(quantized, pixels[:2], graph=False)
    inside, border = decibels(as_numpy(beyond(pixels)), as_numpy(quantized(pixels)))
    assert border > inside - 4 and border > 25


@pytest.mark.slow
def test_no_later_step_takes_the_padding_away(images, tmp_path):
    model = network(conv(activation="relu"), layers.BatchNormalization(), conv())
    quantized = quantize(model, samples=images)
    calibrate(quantized, images / 8)
    assert_held(quantized)
    quantizer = quantized.layers[2].output_quantizer
    for mode in ("moving", "learned"):
        set_ranges(quantized, mode)
        quantizer.log2_range.assign(quantizer.log2_range - 6.0)
        assert_held(quantized)
    assert_exact(quantized, images[:2], graph=False)
    quantized.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert_held(loaded)
    np.testing.assert_array_equal(loaded(images), quantized(images))


def test_a_range_that_reaches_to_the_padding_still_learns():
    tensorflow = pytest.importorskip("tensorflow")
    quantizer = OutputQuantizer(bordered=True, range_mode="learned")
    quantizer.build((None, 4, 4, 2))
    quantizer.set_range(np.array([1.0, 3.0]))
    quantizer.set_border(np.array([-5.0, 0.0]), np.zeros(2))
    np.testing.assert_array_equal(as_numpy(quantizer.lsb()) * 128, [8.0, 4.0])
    with tensorflow.GradientTape() as tape:
        loss = tensorflow.reduce_sum(quantizer.lsb())
    assert (as_numpy(tape.gradient(loss, quantizer.log2_range.value)) > 0).all()


def test_graphs_have_no_border_where_nothing_is_folded(images):
    plain = quantize(network(conv(activation="relu"), conv()), samples=images)
    assert not padded_layers(plain)
    assert not any(w.name == "least_exponent" for w in plain.weights)
