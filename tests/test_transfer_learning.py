"""The usual shape of transfer learning: preprocessing, a nested backbone, a head of one's own."""

import keras
import numpy as np
import pytest
from exactness import assert_exact
from keras import layers
from parameters import slow

from model_zoo.batchnorm_statistics import randomize_batchnorm
from quantkeras import coverage, load_model, quantize, save_model
from quantkeras.layers import WeightedLayer

SHAPE = (32, 32, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (16, *SHAPE), np.uint8)


def backbone(pooling=None):
    """The beginning of a MobileNet: its kinds of layers, once each."""
    image = keras.Input(SHAPE)
    x = image
    for layer in (
        layers.Conv2D(8, 3, 2, padding="same", use_bias=False),
        layers.ZeroPadding2D(((0, 1), (0, 1))),
        layers.DepthwiseConv2D(3, 2, use_bias=False),
        layers.Conv2D(12, 1, use_bias=False),
    ):
        x = layer(x)
        if not isinstance(layer, layers.ZeroPadding2D):
            x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    if pooling:
        x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, x, name="backbone")


def with_statistics(model):
    randomize_batchnorm(model, 0, IMAGES.astype(np.float32))
    return model


def agreement(model, quantized):
    """Correlation of the outputs of the two models, eagerly."""
    x = IMAGES.astype(np.float32)
    both = [np.ravel(np.asarray(m(x, training=False))) for m in (model, quantized)]
    return np.corrcoef(*both)[0, 1]


@pytest.mark.slow
def test_sequential_with_a_nested_backbone(tmp_path):
    keras.utils.set_random_seed(0)
    base = backbone()
    base.trainable = False
    model = keras.Sequential(
        [
            keras.Input(SHAPE, name="photo"),
            layers.RandomFlip("horizontal"),
            layers.RandomRotation(0.1),
            layers.RandomZoom(0.1),
            layers.Rescaling(1 / 127.5, offset=-1.0, name="to_range"),
            base,
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dropout(0.2, name="dropout"),
            layers.Dense(16, activation="relu", name="hidden"),
            layers.Dense(5, name="classes"),
        ]
    )
    quantized = quantize(with_statistics(model), samples=IMAGES, strict=True)
    program = assert_exact(quantized, IMAGES[:2].astype(np.float32), graph=False)
    assert {layer.status for layer in coverage(quantized).layers} <= {
        "input",
        "integer",
        "removed",
    }
    assert program.inputs[0].name == "photo"
    assert agreement(model, quantized) > 0.9
    again = load_model(save_model(quantized, tmp_path / "photo.keras"))
    x = IMAGES[:2].astype(np.float32)
    np.testing.assert_array_equal(
        np.asarray(again(x, training=False)), np.asarray(quantized(x, training=False))
    )


@pytest.mark.slow
@pytest.mark.parametrize("augmentation", ["inside", *slow("apart")])
def test_functional_with_a_backbone_called_for_inference(augmentation):
    keras.utils.set_random_seed(1)
    flips = [layers.RandomFlip(), layers.RandomContrast(0.2)]
    x = photo = keras.Input(SHAPE, name="photo")
    if augmentation == "inside":
        for layer in flips:
            x = layer(x)
    else:
        x = keras.Sequential([keras.Input(SHAPE), *flips], name="augmentation")(x)
    x = keras.applications.mobilenet.preprocess_input(x)
    x = backbone("avg")(x, training=False)
    x = layers.Dense(3, activation="softmax", name="classes")(layers.Dropout(0.5)(x))
    model = with_statistics(keras.Model(photo, x))
    quantized = quantize(model, samples=IMAGES, strict=True)
    report = coverage(quantized)
    assert [layer.name for layer in report.layers if layer.status in ("float", "partly")] == [
        "classes"
    ]
    assert "softmax" in report["classes"].reason
    end = quantized.layers[-2].output
    assert_exact(keras.Model(quantized.input, end), IMAGES[:2].astype(np.float32), graph=False)


@pytest.mark.slow
def test_two_pictures_through_one_backbone():
    keras.utils.set_random_seed(2)
    base = backbone("avg")
    left, right = (keras.Input(SHAPE, name=name) for name in ("left", "right"))
    scaled = [layers.Rescaling(1 / 255)(photo) for photo in (left, right)]
    apart = layers.Subtract()([base(x) for x in scaled])
    model = keras.Model([left, right], layers.Dense(2)(apart))
    pair = [IMAGES.astype(np.float32), IMAGES[::-1].astype(np.float32)]
    randomize_batchnorm(model, 0, pair)
    quantized = quantize(model, samples=pair, strict=True)
    weighted = [layer for layer in quantized.layers if isinstance(layer, WeightedLayer)]
    assert len(weighted) == 4, "the backbone's layers are shared"
    assert_exact(quantized, [x[:2] for x in pair], graph=False)
