r"""ResNet8 for CIFAR-10: the image classification network of MLPerf Tiny, 78,426 parameters.

A 3x3 convolution of 16 filters and three residual stacks of 16, 32 and 64; the last two halve the
image, with a 1x1 convolution on their shortcut. Raw images go in: (32, 32, 3), 0..255, no
preprocessing; the first layer divides by 255.

The weights of the package come from a training and a second, shorter one that goes on from it:

    python -m model_zoo.resnet8 train --data DIR --out first.keras
    python -m model_zoo.resnet8 train --data DIR --start first.keras --epochs 12 \
        --learning-rate 0.05 --shift 3 --seed 1
"""

from __future__ import annotations

import keras
from keras import layers

from model_zoo import training
from model_zoo.datasets import load_cifar10

RECIPE = training.Recipe(epochs=32)


def build(
    classes: int = 10,
    classifier_activation: str | None = "softmax",
    filters: tuple[int, int, int] = (16, 32, 64),
) -> keras.Model:
    """ResNet8 with random weights: (32, 32, 3) in 0..255 to (classes,).

    classifier_activation: None for logits. filters: of the three stacks.
    """
    image = layers.Input((32, 32, 3), name="image")
    x = layers.Rescaling(1 / 255, name="rescaling")(image)
    x = _conv(x, filters[0], 1, "stem")
    x = layers.ReLU(name="stem_relu")(x)
    for index, width in enumerate(filters):
        x = _stack(x, width, 1 if index == 0 else 2, f"stack{index + 1}")
    x = layers.AveragePooling2D(x.shape[1:3], name="pool")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(classes, activation=classifier_activation, name="classifier")(x)
    return keras.Model(image, x, name="resnet8")


def load(classifier_activation: str | None = "softmax") -> keras.Model:
    """ResNet8 with the trained weights of the package."""
    return training.load(build, "resnet8", classifier_activation)


def _conv(x: keras.KerasTensor, filters: int, strides: int, name: str) -> keras.KerasTensor:
    """A 3x3 convolution and its BatchNormalization."""
    x = layers.Conv2D(
        filters, 3, strides, "same", use_bias=False,
        kernel_initializer="he_normal", name=f"{name}_conv",
    )(x)  # fmt: skip
    return layers.BatchNormalization(name=f"{name}_bn")(x)


def _stack(x: keras.KerasTensor, filters: int, strides: int, name: str) -> keras.KerasTensor:
    """Two convolutions beside a shortcut, added."""
    y = _conv(x, filters, strides, f"{name}_a")
    y = layers.ReLU(name=f"{name}_a_relu")(y)
    y = _conv(y, filters, 1, f"{name}_b")
    if strides != 1:
        x = layers.Conv2D(
            filters, 1, strides, kernel_initializer="he_normal", name=f"{name}_shortcut"
        )(x)
    x = layers.Add(name=f"{name}_add")([x, y])
    return layers.ReLU(name=f"{name}_relu")(x)


if __name__ == "__main__":
    training.command_line("resnet8", build, load_cifar10, RECIPE)
