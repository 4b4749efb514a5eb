"""DS-CNN for keyword spotting, as in MLPerf Tiny: architecture only.

A 10x4 convolution with strides 2x2 over 49 frames of 10 cepstral coefficients, four separable
blocks of 64 filters, average pooling over the whole map, Flatten and Dense.
"""

from __future__ import annotations

import keras
from keras import layers


def build(
    classes: int = 12,
    classifier_activation: str | None = "softmax",
    filters: int = 64,
    blocks: int = 4,
) -> keras.Model:
    """The network with random weights: (49, 10, 1) cepstral coefficients to (classes,)."""
    spectrum = layers.Input((49, 10, 1), name="spectrum")
    x = layers.Conv2D(
        filters, (10, 4), (2, 2), "same", kernel_initializer="he_normal", name="stem_conv"
    )(spectrum)
    x = _normalized(x, "stem")
    x = layers.Dropout(0.2, name="stem_dropout")(x)
    for index in range(1, blocks + 1):
        x = layers.DepthwiseConv2D(
            3, padding="same", depthwise_initializer="he_normal", name=f"block{index}_depthwise"
        )(x)
        x = _normalized(x, f"block{index}_depthwise")
        x = layers.Conv2D(
            filters, 1, kernel_initializer="he_normal", name=f"block{index}_pointwise"
        )(x)
        x = _normalized(x, f"block{index}_pointwise")
    x = layers.Dropout(0.4, name="dropout")(x)
    x = layers.AveragePooling2D(x.shape[1:3], name="pool")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(classes, activation=classifier_activation, name="classifier")(x)
    return keras.Model(spectrum, x, name="ds_cnn")


def _normalized(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
