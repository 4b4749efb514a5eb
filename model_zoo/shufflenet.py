"""A small ShuffleNetV2 for CIFAR-10: channel split, depthwise convolutions, channel shuffle.

Half of the channels pass a block untouched, the other half goes through 1x1, depthwise 3x3 and 1x1
convolutions; both halves are concatenated and interleaved. Split, concatenation and shuffle are
slices, Concatenate, Reshape and Permute: no Lambda. Raw images go in: (32, 32, 3), 0..255.

After N. Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design",
2018.

    python -m model_zoo.shufflenet train --data DIR
"""

from __future__ import annotations

import keras
from keras import layers

from model_zoo import training
from model_zoo.datasets import load_cifar10

# The depthwise convolutions gain nothing from bfloat16 on a CPU.
RECIPE = training.Recipe(epochs=16, precision="float32")

STEM_FILTERS, HEAD_FILTERS = 24, 256

# (channels, blocks) of each stage; the first block of a stage halves the image.
STAGES = ((48, 3), (96, 4))


def build(classes: int = 10, classifier_activation: str | None = "softmax") -> keras.Model:
    """The network with random weights: (32, 32, 3) in 0..255 to (classes,).

    classifier_activation: None for logits.
    """
    image = layers.Input((32, 32, 3), name="image")
    x = layers.Rescaling(1 / 255, name="rescaling")(image)
    x = _convolution(x, STEM_FILTERS, 3, "stem")
    for stage, (channels, blocks) in enumerate(STAGES, start=1):
        x = _downsampling_block(x, channels, f"stage{stage}_1")
        for block in range(2, blocks + 1):
            x = _block(x, f"stage{stage}_{block}")
    x = _convolution(x, HEAD_FILTERS, 1, "head")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(classes, activation=classifier_activation, name="classifier")(x)
    return keras.Model(image, x, name="shufflenet")


def load(classifier_activation: str | None = "softmax") -> keras.Model:
    """The network with the trained weights of the package."""
    return training.load(build, "shufflenet", classifier_activation)


def _convolution(x: keras.KerasTensor, filters: int, kernel: int, name: str) -> keras.KerasTensor:
    x = layers.Conv2D(
        filters, kernel, padding="same", use_bias=False,
        kernel_initializer="he_normal", name=f"{name}_conv",
    )(x)  # fmt: skip
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def _depthwise(x: keras.KerasTensor, strides: int, name: str) -> keras.KerasTensor:
    x = layers.DepthwiseConv2D(
        3, strides, "same", use_bias=False,
        depthwise_initializer="he_normal", name=f"{name}_depthwise",
    )(x)  # fmt: skip
    return layers.BatchNormalization(name=f"{name}_depthwise_bn")(x)


def _block(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Split, transform the second half, join, shuffle: the shape stays."""
    half = x.shape[-1] // 2
    kept, y = x[..., :half], x[..., half:]
    y = _convolution(y, half, 1, f"{name}_a")
    y = _depthwise(y, 1, name)
    y = _convolution(y, half, 1, f"{name}_b")
    return _shuffle(layers.Concatenate(name=f"{name}_concat")([kept, y]), name)


def _downsampling_block(x: keras.KerasTensor, filters: int, name: str) -> keras.KerasTensor:
    """Both branches see the whole input and halve height and width."""
    half = filters // 2
    left = _depthwise(x, 2, f"{name}_left")
    left = _convolution(left, half, 1, f"{name}_left")
    right = _convolution(x, half, 1, f"{name}_a")
    right = _depthwise(right, 2, f"{name}_right")
    right = _convolution(right, half, 1, f"{name}_b")
    return _shuffle(layers.Concatenate(name=f"{name}_concat")([left, right]), name)


def _shuffle(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Interleave the two halves of the channels: a0 a1 .. b0 b1 .. becomes a0 b0 a1 b1 .."""
    height, width, channels = x.shape[1:]
    x = layers.Reshape((height, width, 2, channels // 2), name=f"{name}_halves")(x)
    x = layers.Permute((1, 2, 4, 3), name=f"{name}_swap")(x)
    return layers.Reshape((height, width, channels), name=f"{name}_shuffled")(x)


if __name__ == "__main__":
    training.command_line("shufflenet", build, load_cifar10, RECIPE)
