"""Models whose reports the tests of this folder read."""

import warnings

import keras
import numpy as np
from keras import layers

from quantkeras.api import quantize


class RunningSum(layers.Layer):
    """A layer that nobody here knows."""

    def call(self, x):
        return keras.ops.cumsum(x, axis=1)


def classifier():
    """Something of everything: folded, merged, moved, dropped, split, and a softmax at the end."""
    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8, 3), name="image")
    x = layers.ZeroPadding2D(1, name="pad")(image)
    x = layers.Conv2D(4, 3, use_bias=False, name="conv")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.Dropout(0.5, name="dropout")(x)
    x = layers.SeparableConv2D(6, 3, activation="relu", name="separable")(x)
    x = layers.Flatten(name="flat")(x)
    x = layers.Dense(3, activation="softmax", name="head")(x)
    return keras.Model(image, x, name="net")


def images(shape=(8, 8, 3), count=6):
    return np.random.default_rng(0).integers(0, 256, (count, *shape)).astype(np.uint8)


def quantized(model, **options):
    """Quantized with random images, whatever stays float."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return quantize(model, samples=images(tuple(model.input_shape[1:])), **options)
