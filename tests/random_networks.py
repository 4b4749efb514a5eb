"""Random small float networks for property tests: a drawn plan that prints, and its Keras model.

Whatever layer stands behind whatever other one: branches, shared layers, nested models with outputs
that nobody reads, several inputs and outputs. A step that does not fit where it stands (a window
larger than its map, nothing of the same shape to add) is left out.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from hypothesis import assume, note
from hypothesis import strategies as st
from keras import layers
from network_steps import MERGES, STEPS, Choices

from quantkeras import QuantizationParams, quantize
from quantkeras.errors import AccumulatorTooWide, QuantizationError

TAILS: dict[str, list[Any]] = {
    "map": [],
    "mean": [layers.GlobalAveragePooling2D, lambda: layers.Dense(4)],
    "maximum": [layers.GlobalMaxPooling2D, lambda: layers.Dense(4)],
    "flat": [
        layers.Flatten,
        lambda: layers.Dense(5, activation="relu"),
        layers.BatchNormalization,
        lambda: layers.Dense(3),
    ],
    "functions": [layers.Flatten, lambda: layers.Dense(6), layers.PReLU, lambda: layers.Dense(3)],
    "folded": [
        layers.Flatten,
        lambda: layers.Dense(12),
        lambda: layers.Reshape((2, 2, 3)),
        lambda: layers.Conv2D(2, 2),
    ],
    "classes": [layers.GlobalAveragePooling2D, lambda: layers.Dense(3, activation="softmax")],
    "sigmoid": [lambda: layers.Conv2D(1, 1, activation="sigmoid")],
}


@dataclass(frozen=True)
class Network:
    """The plan of a network: its text says all that is needed to build it again.

    steps: (kind, number that Choices are made from); inputs: 1, 2 maps, or 3, a vector as well;
    outputs: that of the tail, and up to two earlier values; seed: of weights and samples.
    """

    steps: tuple[tuple[str, int], ...]
    tail: str
    inputs: int
    outputs: int
    seed: int

    def build(self) -> Any:
        """The Keras model with random weights."""
        keras.utils.set_random_seed(self.seed)
        inputs = [keras.Input((8, 7, 3), name="first")]
        values: list[Any] = [inputs[0]]
        if self.inputs > 1:
            inputs.append(keras.Input((8, 7, 3), name="second"))
            values.append(layers.Conv2D(3, 3, padding="same")(inputs[1]))
            values.append(layers.Add()(values))
        if self.inputs > 2:
            inputs.append(keras.Input((5,), name="third"))
            gate = layers.Reshape((1, 1, 3))(layers.Dense(3, activation="sigmoid")(inputs[2]))
            values.append(layers.Multiply()([values[-1], gate]))
        called: list[tuple[Any, Any]] = []
        for kind, number in self.steps:
            value = _next_value(kind, Choices(number), values, called)
            if value is not None:
                values.append(value)
        outputs = [values[-1]]
        for make in TAILS[self.tail]:
            outputs.append(make()(outputs[-1]))
        ends = [outputs[-1], layers.Conv2D(2, 1)(values[-1]), values[len(values) // 2]]
        model = keras.Model(
            inputs if self.inputs > 1 else inputs[0],
            ends[: self.outputs] if self.outputs > 1 else ends[0],
        )
        _randomize(model, self.seed)
        return model

    def samples(self, count: int = 6) -> list[np.ndarray]:
        """Inputs in the order of the model's, with channels of unlike sizes."""
        rng = np.random.default_rng(self.seed)
        shapes = [(count, 8, 7, 3), (count, 8, 7, 3), (count, 5)][: self.inputs]
        sizes = np.array([1.0, 0.2, 3.0, 0.5, 1.0])
        return [(rng.normal(size=s) * sizes[: s[-1]]).astype(np.float32) for s in shapes]


def _next_value(
    kind: str, take: Choices, values: list[Any], called: list[tuple[Any, Any]]
) -> Any | None:
    """The value that a step makes; called: layers and the shapes that they were called on."""
    x = values[-1]
    if kind == "branch":
        return take(*values)
    if kind == "shared":
        fitting = [layer for layer, shape in called if shape == x.shape]
        return take(*fitting)(x) if fitting else None
    if kind in MERGES:
        return _merged(kind, take, values)
    step = STEPS[kind](x, take)
    if step is None:
        return None
    if isinstance(step, keras.Layer) or kind == "nested":
        called.append((step, x.shape))
    return step(x)


def _merged(kind: str, take: Choices, values: list[Any]) -> Any | None:
    """The newest value joined with earlier ones, if their shapes allow."""
    x = values[-1]
    dims = slice(1, 3) if kind == "concat" else slice(1, None)
    others = [v for v in values if v is not x and v.shape[dims] == x.shape[dims]]
    if not others:
        return None
    joined = [x, take(*others)]
    if kind != "subtract" and take(False, False, True):
        joined.append(take(*others, x))
    return MERGES[kind]()(joined if take(True, False) else joined[::-1])


def _randomize(model: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        value = rng.normal(size=weight.shape) * 0.7
        if "variance" in weight.path:
            value = np.abs(value) + 0.3
        elif len(weight.shape) > 1:
            value = value / np.sqrt(np.prod(weight.shape[:-1]))
        weight.assign(value)


def networks(longest: int = 8) -> st.SearchStrategy[Network]:
    """Networks of up to that many steps."""
    kinds = sorted([*STEPS, *MERGES, "branch", "shared"])
    step = st.tuples(st.sampled_from(kinds), st.integers(0, 2**20))
    return st.builds(
        Network,
        st.lists(step, min_size=1, max_size=longest).map(tuple),
        st.sampled_from(sorted(TAILS)),
        st.sampled_from([1, 1, 2, 3]),
        st.sampled_from([1, 1, 2, 3]),
        st.integers(0, 999),
    )


#: Strategies for the bits and formats of QuantizationParams, narrow and wide ones.
WIDTHS = {
    "weight_bits": st.sampled_from([2, 4, 8, 8, 16]),
    "activation_bits": st.sampled_from([3, 4, 8, 8, 16]),
    "output_bits": st.sampled_from([4, 8, 8, 16]),
    "per_tensor_activations": st.booleans(),
    "last_output_bits": st.sampled_from([None, None, 8, 16]),
    "input_bits": st.sampled_from([4, 8, 8, 16]),
    "scale_bits": st.sampled_from([1, 4, 8, 8, 16]),
}


@dataclass
class Attempts:
    """Quantizes drawn networks and counts those that cannot be: they are no examples."""

    quantized: int = 0
    refused: int = 0

    def quantize(
        self, network: Network, params: QuantizationParams
    ) -> tuple[Any, Any, list[np.ndarray]]:
        """The float model, the quantized one, and its samples in the order of its inputs."""
        note(f"{network}\n{params}")
        model, samples = network.build(), network.samples()
        with warnings.catch_warnings():
            # What no rule could fold, or a slope per position: the rest is still integer.
            warnings.filterwarnings("ignore", message=r".*stay float")
            try:
                quantized = quantize(model, params, samples if len(samples) > 1 else samples[0])
            except QuantizationError as error:
                # 16 bits everywhere are refused as they should be.
                assert isinstance(error, AccumulatorTooWide) or "nothing in model" in str(error)
                self.refused += 1
                assume(False)
        self.quantized += 1
        return model, quantized, samples


@contextmanager
def mostly_quantized(share: float = 0.75) -> Iterator[Attempts]:
    """A property test that says nothing of most networks fails."""
    attempts = Attempts()
    yield attempts
    assert attempts.quantized >= share * (attempts.quantized + attempts.refused) - 1, attempts
