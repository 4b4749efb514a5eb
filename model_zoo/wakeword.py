"""A wake-word network for streamed sound: convolutions over time only. Architecture only.

The input is a spectrogram laid out as (frames, 1, bands): bands are channels, so that every
convolution is a depthwise one of 3x1 or 5x1 followed by a 1x1. No padding: an output frame depends
on a fixed number of input frames, which is what streaming needs.
"""

from __future__ import annotations

import keras
from keras import layers

# (frames of the depthwise kernel, filters of the 1x1 convolution)
BLOCKS = ((3, 64), (5, 64), (5, 96), (5, 96))


def build(
    classes: int = 3,
    classifier_activation: str | None = "softmax",
    frames: int = 30,
    bands: int = 40,
) -> keras.Model:
    """The network with random weights: (frames, 1, bands) log energies to (classes,).

    frames: more than 14, the frames that the convolutions consume; ValueError otherwise.
    """
    consumed = sum(kernel - 1 for kernel, _ in BLOCKS)
    if frames <= consumed:
        raise ValueError(
            f"{frames} frames are too few: the convolutions consume {consumed}; give more frames"
        )
    spectrogram = layers.Input((frames, 1, bands), name="spectrogram")
    x = spectrogram
    for index, (kernel, filters) in enumerate(BLOCKS, start=1):
        x = layers.DepthwiseConv2D(
            (kernel, 1), depthwise_initializer="he_normal", name=f"block{index}_depthwise"
        )(x)
        x = layers.Conv2D(
            filters, 1, use_bias=False,
            kernel_initializer="he_normal", name=f"block{index}_pointwise",
        )(x)  # fmt: skip
        x = layers.BatchNormalization(name=f"block{index}_bn")(x)
        x = layers.ReLU(name=f"block{index}_relu")(x)
        x = layers.Dropout(0.2, name=f"block{index}_dropout")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(classes, activation=classifier_activation, name="classifier")(x)
    return keras.Model(spectrogram, x, name="wakeword")
