"""A plain multilayer perceptron for MNIST: 784-128-64-10, BatchNormalization and ReLU.

Raw images go in: (28, 28, 1) or (28, 28), 0..255; the network divides by 255 itself.

    python -m model_zoo.mlp train --data DIR
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from model_zoo import training
from model_zoo.datasets import load_mnist

RECIPE = training.Recipe(epochs=20, flip=False, shift=1, precision="float32")


def build(
    classes: int = 10,
    classifier_activation: str | None = "softmax",
    units: Sequence[int] = (128, 64),
) -> keras.Model:
    """The perceptron with random weights: (28, 28, 1) in 0..255 to (classes,).

    classifier_activation: None for logits. units: of the hidden layers.
    """
    image = layers.Input((28, 28, 1), name="image")
    x = layers.Rescaling(1 / 255, name="rescaling")(image)
    x = layers.Flatten(name="flatten")(x)
    for index, count in enumerate(units, start=1):
        x = layers.Dense(
            count, use_bias=False, kernel_initializer="he_normal", name=f"dense{index}"
        )(x)
        x = layers.BatchNormalization(name=f"dense{index}_bn")(x)
        x = layers.ReLU(name=f"dense{index}_relu")(x)
    x = layers.Dense(classes, activation=classifier_activation, name="classifier")(x)
    return keras.Model(image, x, name="mlp")


def load(classifier_activation: str | None = "softmax") -> keras.Model:
    """The perceptron with the trained weights of the package."""
    return training.load(build, "mlp", classifier_activation)


if __name__ == "__main__":
    training.command_line("mlp", build, load_mnist, RECIPE)
