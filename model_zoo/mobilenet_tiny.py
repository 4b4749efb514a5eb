"""A small MobileNetV2 for CIFAR-10: inverted residuals, depthwise 3x3 convolutions, ReLU6.

Each block widens its input by a 1x1 convolution, filters every channel by itself, and narrows the
result by a linear 1x1 convolution; where strides and widths allow, its input is added. Raw images
go in: (32, 32, 3), 0..255; the first layer maps them to -1..1.

After M. Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018, with
strides cut down for images of 32 pixels.

    python -m model_zoo.mobilenet_tiny train --data DIR
"""

from __future__ import annotations

import keras
from keras import layers

from model_zoo import training
from model_zoo.datasets import load_cifar10

# The depthwise convolutions gain nothing from bfloat16 on a CPU.
RECIPE = training.Recipe(epochs=18, precision="float32")

# (expansion, output channels, repeats, strides of the first)
BLOCKS = ((1, 16, 1, 2), (3, 24, 2, 1), (4, 40, 2, 2), (4, 64, 3, 1))
STEM_FILTERS, HEAD_FILTERS = 16, 192


def build(classes: int = 10, classifier_activation: str | None = "softmax") -> keras.Model:
    """The network with random weights: (32, 32, 3) in 0..255 to (classes,).

    classifier_activation: None for logits.
    """
    image = layers.Input((32, 32, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="rescaling")(image)
    x = _normalized(_convolution(STEM_FILTERS, 3, "stem_conv")(x), "stem")
    for stage, (expansion, filters, repeats, strides) in enumerate(BLOCKS, start=1):
        for repeat in range(repeats):
            name = f"block{stage}_{repeat + 1}"
            x = _inverted_residual(x, expansion, filters, strides if repeat == 0 else 1, name)
    x = _normalized(_convolution(HEAD_FILTERS, 1, "head_conv")(x), "head")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(classes, activation=classifier_activation, name="classifier")(x)
    return keras.Model(image, x, name="mobilenet_tiny")


def load(classifier_activation: str | None = "softmax") -> keras.Model:
    """The network with the trained weights of the package."""
    return training.load(build, "mobilenet_tiny", classifier_activation)


def _convolution(filters: int, kernel: int, name: str) -> layers.Conv2D:
    return layers.Conv2D(
        filters, kernel, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
    )


def _normalized(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.ReLU(max_value=6.0, name=f"{name}_relu6")(x)


def _inverted_residual(
    x: keras.KerasTensor, expansion: int, filters: int, strides: int, name: str
) -> keras.KerasTensor:
    channels = x.shape[-1]
    y = x
    if expansion != 1:
        y = _normalized(
            _convolution(expansion * channels, 1, f"{name}_expand")(y), f"{name}_expand"
        )
    y = layers.DepthwiseConv2D(
        3, strides, "same", use_bias=False,
        depthwise_initializer="he_normal", name=f"{name}_depthwise",
    )(y)  # fmt: skip
    y = _normalized(y, f"{name}_depthwise")
    y = _convolution(filters, 1, f"{name}_project")(y)
    y = layers.BatchNormalization(name=f"{name}_project_bn")(y)
    if strides == 1 and filters == channels:
        y = layers.Add(name=f"{name}_add")([x, y])
    return y


if __name__ == "__main__":
    training.command_line("mobilenet_tiny", build, load_cifar10, RECIPE)
