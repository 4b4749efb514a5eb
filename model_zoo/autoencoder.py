"""A dense auto-encoder for anomaly detection in sound, as in MLPerf Tiny: architecture only.

640-128-128-128-128-8-128-128-128-128-640; all but the last layer with BatchNormalization and ReLU.
The reconstruction error is the anomaly score.
"""

from __future__ import annotations

import keras
from keras import layers


def build(features: int = 640, units: int = 128, depth: int = 4, code: int = 8) -> keras.Model:
    """The network with random weights: (features,) log energies to (features,).

    depth: layers of `units` on either side of the `code` layer.
    """
    frame = layers.Input((features,), name="frame")
    x = frame
    for index, count in enumerate([units] * depth + [code] + [units] * depth, start=1):
        x = layers.Dense(count, kernel_initializer="he_normal", name=f"dense{index}")(x)
        x = layers.BatchNormalization(name=f"dense{index}_bn")(x)
        x = layers.ReLU(name=f"dense{index}_relu")(x)
    x = layers.Dense(features, name="reconstruction")(x)
    return keras.Model(frame, x, name="autoencoder")
