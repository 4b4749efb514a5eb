"""Random small float networks for property tests: a drawn plan, printable, and its Keras model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from hypothesis import strategies as st
from keras import layers

MAP_STEPS: list[Any] = [
    lambda n: layers.Conv2D(2 + n % 3, 1 + n % 3, padding=("same", "valid")[n % 2]),
    lambda n: layers.Conv2D(4, (3, 2), strides=(1 + n % 2, 1 + n % 3), padding="same"),
    lambda n: layers.Conv2D(3, 2, dilation_rate=(1, 2), activation="relu", padding="same"),
    lambda n: layers.DepthwiseConv2D(1 + n % 3, padding="same", depth_multiplier=1 + n % 2),
    lambda n: layers.SeparableConv2D(3 + n % 2, 3, padding="same", activation="relu"),
    lambda n: layers.BatchNormalization(center=n % 2 == 0, scale=n % 3 != 0),
    lambda n: layers.ReLU((None, 6.0, 1.0, 0.3)[n % 4]),
    lambda n: layers.MaxPooling2D(1 + n % 3, 1 + n % 2, padding="same"),
    lambda n: layers.AveragePooling2D((1 + n % 2, 2), 1 + n % 2),
    lambda n: layers.ZeroPadding2D(((n % 2, 1), (0, n % 3))),
    lambda n: layers.Rescaling(0.5 + n / 10, n / 7 - 0.5),
    lambda n: layers.Dropout(0.2),
    lambda n: layers.Dense(3 + n % 2),
    lambda n: layers.Permute(((1, 2, 3), (2, 1, 3), (3, 1, 2), (1, 3, 2))[n % 4]),
    lambda n: layers.Activation("relu"),
]
"""What a step may be on a map (h, w, c); n is a drawn number."""

TAILS: list[Any] = [
    [],
    [layers.GlobalAveragePooling2D, lambda: layers.Dense(4)],
    [layers.Flatten, lambda: layers.Dense(5, activation="relu"), lambda: layers.Dense(3)],
    [layers.Flatten, lambda: layers.Dense(12), lambda: layers.Reshape((2, 2, 3)),
     lambda: layers.Conv2D(2, 2)],
    [layers.GlobalAveragePooling2D, lambda: layers.Dense(3, activation="softmax")],
]  # fmt: skip


@dataclass(frozen=True)
class Network:
    """The plan of a network: its text says all that is needed to build it again.

    steps: (kind, number) pairs; merges: how two values are joined after a step, by step number;
    inputs: 1 or 2; outputs: 1 or 2; nested: the middle stands in a model of its own; shared: one
    convolution is called twice.
    """

    steps: tuple[tuple[int, int], ...]
    merges: tuple[tuple[int, int, bool], ...]
    tail: int
    two_inputs: bool
    two_outputs: bool
    nested: bool
    shared: bool
    seed: int

    def build(self) -> Any:
        """The Keras model with random weights."""
        keras.utils.set_random_seed(self.seed)
        inputs = [keras.Input((8, 7, 3), name="first")]
        values: list[Any] = [inputs[0]]
        if self.two_inputs:
            inputs.append(keras.Input((8, 7, 3), name="second"))
            values.append(layers.Conv2D(3, 3, padding="same")(inputs[1]))
            values.append(layers.Add()(values))
        merges = {position: (back, concat) for position, back, concat in self.merges}
        for position, (kind, number) in enumerate(self.steps):
            x = values[-1]
            if min(x.shape[1:3]) < 4 and kind in (0, 8):
                continue
            layer = MAP_STEPS[kind](number)
            y = layer(x)
            if self.shared and isinstance(layer, layers.Conv2D) and y.shape == x.shape:
                y = layer(y)
            values.append(y)
            if position in merges:
                back, concat = merges[position]
                values += _merged(values, back, concat)
        x = values[-1]
        if self.nested:
            inner = keras.Input(x.shape[1:])
            body = layers.Conv2D(3, 1, activation="relu")(inner)
            x = keras.Model(inner, layers.Concatenate()([body, inner]), name="inside")(x)
        outputs = [x]
        for make in TAILS[self.tail]:
            outputs.append(make()(outputs[-1]))
        middle = [layers.Conv2D(2, 1)(values[-1])] if self.two_outputs else []
        ends = [outputs[-1], *middle]
        model = keras.Model(
            inputs if self.two_inputs else inputs[0], ends if self.two_outputs else ends[0]
        )
        _randomize(model, self.seed)
        return model

    def samples(self, count: int = 6) -> list[np.ndarray]:
        """Inputs in the order of the model's, with channels of unlike sizes."""
        rng = np.random.default_rng(self.seed)
        sizes = np.array([1.0, 0.2, 3.0])
        shape = (count, 8, 7, 3)
        arrays = [rng.normal(size=shape) * sizes for _ in range(1 + self.two_inputs)]
        return [array.astype(np.float32) for array in arrays]


def _merged(values: list[Any], back: int, concat: bool) -> list[Any]:
    """The newest value joined with an earlier one, if their shapes allow."""
    x = values[-1]
    for other in values[-2 - back :: -1]:
        if concat and other.shape[1:3] == x.shape[1:3]:
            return [layers.Concatenate()([x, other])]
        if other.shape == x.shape and other is not x:
            return [layers.Add()([x, other])]
    return []


def _randomize(model: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        value = rng.normal(size=weight.shape)
        if "variance" in weight.path:
            value = np.abs(value) + 0.3
        elif len(weight.shape) > 1:
            value = value / np.sqrt(np.prod(weight.shape[:-1]))
        weight.assign(value * 0.7 if "variance" not in weight.path else value)


networks = st.builds(
    Network,
    st.lists(
        st.tuples(st.integers(0, len(MAP_STEPS) - 1), st.integers(0, 11)), min_size=1, max_size=6
    ).map(tuple),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.booleans()), max_size=3).map(tuple),
    st.integers(0, len(TAILS) - 1),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(0, 999),
)
