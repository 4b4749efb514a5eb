"""Random small networks: the laws hold for layers in any order, not only for usual ones."""

from typing import Any

import keras
import numpy as np
from float_networks import assert_sanitizes, predictions, random_batch, relative_error
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from sanitize import evaluate
from sanitize.keras_io import read_keras

#: What a step may be on a map (h, w, c); the numbers come from the draw.
STEPS = [
    lambda n: layers.Conv2D(2 + n % 3, 1 + n % 3, padding=("same", "valid")[n % 2]),
    lambda n: layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
    lambda n: layers.DepthwiseConv2D(1 + n % 3, padding="same", depth_multiplier=1 + n % 2),
    lambda n: layers.BatchNormalization(center=n % 2 == 0, scale=n % 3 != 0),
    lambda n: layers.ReLU((None, 6.0, 1.0)[n % 3]),
    lambda n: layers.Activation(("silu", "sigmoid", "leaky_relu", "tanh")[n % 4]),
    lambda n: layers.MaxPooling2D(1 + n % 3, 1 + n % 2, padding="same"),
    lambda n: layers.AveragePooling2D(1 + n % 3, 1 + n % 2, padding="same"),
    lambda n: layers.ZeroPadding2D(((n % 2, 1), (0, n % 3))),
    lambda n: layers.Rescaling(0.5 + n / 10, n / 7 - 0.5),
    lambda n: layers.Dropout(0.2),
    lambda n: layers.UpSampling2D((1, 2)),
    lambda n: layers.Dense(3),
]
steps = st.lists(st.tuples(st.integers(0, len(STEPS) - 1), st.integers(0, 11)), max_size=8)


def network(drawn: list[tuple[int, int]], branch: int, tail: int, seed: int) -> Any:
    """The steps one after the other; a value in the middle is read again if its shape allows."""
    image = keras.Input((7, 6, 3))
    values = [image]
    for kind, number in drawn:
        # A window without padding may not fit into a small map.
        if kind == 0 and min(values[-1].shape[1:3]) < 4:
            continue
        values.append(STEPS[kind](number)(values[-1]))
    x, other = values[-1], values[branch % len(values)]
    if other.shape == x.shape:
        x = layers.Add()([x, other])
    if tail == 1:
        x = layers.Dense(4, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    elif tail == 2:
        x = layers.BatchNormalization()(layers.Dense(4)(layers.Flatten()(x)))
    model = keras.Model(image, x)
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        value = generator.normal(size=weight.shape)
        weight.assign(np.abs(value) + 0.3 if "variance" in weight.path else value * 0.6)
    return model


@settings(max_examples=25)
@given(steps, st.integers(0, 8), st.integers(0, 2), st.integers(0, 99))
def test_reading_and_sanitizing_keep_the_function(drawn, branch, tail, seed):
    model = network(drawn, branch, tail, seed)
    inputs = random_batch(model)
    wanted = predictions(model, inputs)
    assert relative_error(wanted, [evaluate(read_keras(model), inputs)]) < 1e-5
    assert_sanitizes(model, tolerance=2e-4)
