"""Backbones inside other models, as users build them for transfer learning."""

import keras
import numpy as np
import pytest
from float_networks import (
    assert_reads,
    assert_sanitizes,
    predictions,
    random_batch,
    randomized,
    relative_error,
)
from keras import layers, ops
from parameters import slow

from sanitize import read_keras, write_keras

PICTURE = (16, 16, 3)
PREPROCESSING = {
    "rescaling": lambda: layers.Rescaling(1 / 127.5, offset=-1.0),
    "per channel": lambda: layers.Rescaling([0.1, 0.2, 0.3], offset=[-1.0, 0.0, 1.0]),
    "lambda": lambda: layers.Lambda(lambda x: x / 127.5 - 1.0),
    "of applications": lambda: layers.Lambda(keras.applications.mobilenet_v2.preprocess_input),
    "caffe": lambda: layers.Lambda(keras.applications.resnet50.preprocess_input),
    "torch": lambda: layers.Lambda(keras.applications.densenet.preprocess_input),
}


def block(x, filters, strides):
    y = layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)(x)
    y = layers.ReLU(6.0)(layers.BatchNormalization()(y))
    y = layers.BatchNormalization()(layers.Conv2D(filters, 1, use_bias=False)(y))
    return layers.Add()([x, y]) if strides == 1 and x.shape[-1] == filters else y


def backbone(pooling=None, name="backbone"):
    """A small network of the shape of MobileNetV2."""
    x = image = keras.Input(PICTURE)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = block(block(x, 8, 1), 12, 2)
    x = layers.Activation("hard_silu")(x)
    if pooling == "avg":
        x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, x, name=name)


@pytest.mark.parametrize(
    "name", ["rescaling", "of applications", "torch", *slow("per channel", "lambda", "caffe")]
)
def test_sequential_with_preprocessing_and_a_head(name):
    model = keras.Sequential(
        [
            keras.Input(PICTURE),
            PREPROCESSING[name](),
            backbone(),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.2),
            layers.Dense(5, activation="softmax"),
        ]
    )
    graph = assert_reads(randomized(model))
    assert "backbone/stem" in graph
    assert graph["backbone/stem"].source == ("backbone/stem",)
    result, _ = assert_sanitizes(model)
    kinds = {node.kind for node in result}
    assert not {"opaque", "batchnorm", "affine"} & kinds


def test_pooling_inside_the_backbone():
    model = keras.Sequential([keras.Input(PICTURE), backbone("avg"), layers.Dense(3)])
    assert_sanitizes(randomized(model))


def test_sequential_that_gets_its_shape_late():
    model = keras.Sequential([layers.Rescaling(1 / 255), backbone("avg"), layers.Dense(3)])
    model.build((None, *PICTURE))
    assert_reads(randomized(model))


def test_augmentation_in_a_model_of_its_own():
    augmentation = keras.Sequential(
        [layers.RandomFlip("horizontal"), layers.RandomRotation(0.1), layers.RandomZoom(0.1)],
        name="augmentation",
    )
    x = image = keras.Input(PICTURE)
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(augmentation(x))
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(backbone()(x, training=False)))
    graph = assert_reads(randomized(keras.Model(image, layers.Dense(5)(x))))
    assert sum(node.name.startswith("augmentation/") for node in graph) == 3
    result, _ = assert_sanitizes(keras.Model(image, layers.Dense(5)(x)))
    assert not any(node.kind == "identity" for node in result)


def test_frozen_backbone_called_in_inference_mode():
    inner = backbone()
    inner.trainable = False
    image = keras.Input(PICTURE)
    x = layers.GlobalMaxPooling2D()(inner(image, training=False))
    assert_sanitizes(randomized(keras.Model(image, layers.Dense(5)(x))))


def test_nested_twice():
    image = keras.Input(PICTURE)
    middle = keras.Model(image, backbone()(layers.Rescaling(1 / 255)(image)), name="middle")
    outer = keras.Sequential([keras.Input(PICTURE), middle, layers.Flatten(), layers.Dense(2)])
    graph = assert_reads(randomized(outer))
    assert graph["middle/backbone/stem"].source == ("middle/backbone/stem",)
    written = write_keras(graph)
    assert "middle_backbone_stem" in {layer.name for layer in written.layers}
    assert_sanitizes(outer)


@pytest.mark.slow
def test_one_backbone_for_two_pictures():
    inner = backbone("avg")
    a, b = keras.Input(PICTURE, name="a"), keras.Input(PICTURE, name="b")
    distance = ops.abs(inner(a) - inner(b))
    model = randomized(keras.Model([a, b], layers.Dense(1, activation="sigmoid")(distance)))
    graph = assert_reads(model)
    sites = graph.sites("backbone/stem")
    assert [site.name for site in sites] == ["backbone/stem", "backbone/stem_1"]
    assert sites[0].weights["kernel"] is sites[1].weights["kernel"]
    result, _ = assert_sanitizes(model)
    written = write_keras(result)
    x = random_batch(model)
    assert relative_error(predictions(model, x), predictions(written, x)) < 2e-5
    assert sum(layer.name.startswith("backbone_stem") for layer in written.layers) == 1


def test_an_inner_model_cut_out_of_a_larger_one():
    whole = backbone()
    cut = keras.Model(whole.input, whole.get_layer("stem").output, name="cut")
    model = keras.Sequential([keras.Input(PICTURE), cut, layers.Flatten()])
    graph = assert_reads(randomized(model))
    assert [node.kind for node in graph] == ["input", "conv2d", "flatten"]


AT_INFERENCE = {
    "RandomBrightness": (0.2,),
    "RandomColorDegeneration": (0.2,),
    "RandomContrast": (0.2,),
    "RandomCrop": (16, 16),
    "RandomErasing": (),
    "RandomFlip": (),
    "RandomGaussianBlur": (),
    "RandomGrayscale": (),
    "RandomHue": (0.2,),
    "RandomInvert": (),
    "RandomPerspective": (),
    "RandomPosterization": (4,),
    "RandomRotation": (0.2,),
    "RandomSaturation": (0.2,),
    "RandomSharpness": (0.2,),
    "RandomShear": (0.2,),
    "RandomTranslation": (0.2, 0.2),
    "RandomZoom": (0.2,),
    "ActivityRegularization": (0.1,),
    "AlphaDropout": (0.2,),
    "Dropout": (0.2,),
    "GaussianDropout": (0.2,),
    "GaussianNoise": (0.2,),
    "SpatialDropout2D": (0.2,),
    "MixUp": (),
    "CutMix": (),
    "RandAugment": (),
    "AugMix": (),
}


@pytest.mark.parametrize("name", AT_INFERENCE)
def test_layers_for_training_do_nothing(name):
    if not hasattr(layers, name):
        pytest.skip(f"this Keras has no {name}")
    layer = getattr(layers, name)(*AT_INFERENCE[name])
    model = keras.Sequential([keras.Input(PICTURE), layer])
    graph = read_keras(model)
    assert graph.nodes[-1].kind == "identity"
    x = np.random.default_rng(0).uniform(0, 255, (2, *PICTURE)).astype(np.float32)
    np.testing.assert_array_equal(predictions(model, [x])[0], x)


@pytest.mark.parametrize("layer", [
    layers.Permute((3, 1, 2)), layers.Reshape((-1, 3)), layers.Reshape((4, -1)),
    layers.ReLU(2.0, 0.1, 0.5), layers.ReLU(threshold=0.5),
    layers.ReLU(negative_slope=0.3, max_value=1.0), layers.Softmax(), layers.Softmax(axis=1),
    layers.Resizing(16, 16), layers.CenterCrop(9, 10), layers.LeakyReLU(0.1), layers.ELU(0.5),
    layers.AveragePooling2D((3, 2), padding="same"), layers.UpSampling2D((2, 1)),
], ids=lambda layer: type(layer).__name__)  # fmt: skip
def test_other_layers(layer):
    assert_reads(keras.Sequential([keras.Input(PICTURE), layer]))
