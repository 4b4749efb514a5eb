"""MobileNetV1 of width 0.25 for visual wake words, as in MLPerf Tiny: architecture only.

A strided 3x3 convolution and 13 separable blocks (depthwise 3x3, then 1x1, each with
BatchNormalization and ReLU), average pooling over the whole 3x3 map, Flatten and Dense.
"""

from __future__ import annotations

import keras
from keras import layers

# (filters at width 1, strides) of the separable blocks.
BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip


def build(
    classes: int = 2,
    classifier_activation: str | None = "softmax",
    size: int = 96,
    width: float = 0.25,
) -> keras.Model:
    """The network with random weights: (size, size, 3), RGB in 0..1, to (classes,).

    size: a multiple of 32. width: factor on all numbers of filters.
    """
    image = layers.Input((size, size, 3), name="image")
    x = layers.Conv2D(
        int(32 * width), 3, 2, "same", kernel_initializer="he_normal", name="stem_conv"
    )(image)
    x = _normalized(x, "stem")
    for index, (filters, strides) in enumerate(BLOCKS, start=1):
        x = layers.DepthwiseConv2D(
            3, strides, "same", depthwise_initializer="he_normal", name=f"block{index}_depthwise"
        )(x)
        x = _normalized(x, f"block{index}_depthwise")
        x = layers.Conv2D(
            int(filters * width), 1, kernel_initializer="he_normal", name=f"block{index}_pointwise"
        )(x)
        x = _normalized(x, f"block{index}_pointwise")
    x = layers.AveragePooling2D(x.shape[1:3], name="pool")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(classes, activation=classifier_activation, name="classifier")(x)
    return keras.Model(image, x, name="vww_mobilenet")


def _normalized(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
