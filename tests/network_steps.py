"""What the layers of random small networks may be: see random_networks.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import layers

LARGEST_MAP = 120
"""Pixels beyond which nothing grows any more: the tests are to be fast."""
FUNCTIONS = (
    "relu", "relu6", "silu", "gelu", "sigmoid", "tanh", "hard_sigmoid", "hard_silu", "elu", "selu",
    "softplus", "softsign", "mish", "leaky_relu",
)  # fmt: skip
MERGES = {
    "add": layers.Add,
    "concat": layers.Concatenate,
    "multiply": layers.Multiply,
    "subtract": layers.Subtract,
    "maximum": layers.Maximum,
    "minimum": layers.Minimum,
    "average": layers.Average,
}
SLICES = (
    (slice(None), slice(1, None)),
    (slice(None), slice(None), slice(None, None, 2)),
    (..., slice(None, None, -1)),
    (..., slice(0, 2)),
    (slice(None), slice(None, None, -1), slice(-3, -1)),
    (slice(None), slice(None), slice(1, 2)),
)


class Choices:
    """Choices out of one number, each independent of those before it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, *options: Any) -> Any:
        self.number, place = divmod(self.number, len(options))
        return options[place]

    def pair(self, *options: Any) -> tuple[Any, Any]:
        return self(*options), self(*options)


def _conv(x: Any, take: Choices) -> Any:
    groups = take(1, 1, math.gcd(x.shape[-1], 12))
    size, strides = take.pair(1, 3, 2), take((1, 1), (2, 2), take.pair(1, 2, 3))
    dilation = take((1, 1), (1, 1), take.pair(1, 2)) if strides == (1, 1) else (1, 1)
    return _window(
        x,
        layers.Conv2D,
        [1 + (k - 1) * d for k, d in zip(size, dilation, strict=True)],
        take("same", "valid"),
        filters=groups * take(3, 2, 1),
        kernel_size=size,
        strides=strides,
        dilation_rate=dilation,
        groups=groups,
        use_bias=take(True, True, False),
        activation=take(None, take(*FUNCTIONS), None),
    )


def _depthwise(x: Any, take: Choices) -> Any:
    size, padding = take.pair(3, 1, 2), take("same", "valid")
    return _window(
        x,
        layers.DepthwiseConv2D,
        size,
        padding,
        kernel_size=size,
        strides=take(1, 2),
        depth_multiplier=take(1, 2),
        activation=take(None, "relu", "silu"),
    )


def _separable(x: Any, take: Choices) -> Any:
    return layers.SeparableConv2D(
        take(3, 4), take(3, 2), take(1, 2), "same", depth_multiplier=take(1, 2),
        activation=take(None, "relu", "tanh"),
    )  # fmt: skip


def _transposed(x: Any, take: Choices) -> Any:
    if x.shape[1] * x.shape[2] > LARGEST_MAP // 2:
        return None
    strides = take(1, 2, 3)
    size = take(2, 3, 1, 4)
    return layers.Conv2DTranspose(
        take(2, 3),
        size,
        strides=strides,
        padding=take("same", "valid"),
        output_padding=take(None, strides - 1) if size >= strides > 1 else None,
        activation=take(None, "relu", "elu"),
    )


def _pool(kind: Any) -> Callable[[Any, Choices], Any]:
    def make(x: Any, take: Choices) -> Any:
        size, strides = take.pair(2, 3, 1), take(None, 1, 2, take.pair(1, 2, 3))
        return _window(x, kind, size, take("same", "valid"), pool_size=size, strides=strides)

    return make


def _window(x: Any, kind: Any, size: Any, padding: str, **arguments: Any) -> Any:
    """The layer, if its window fits on the map."""
    fits = padding == "same" or all(a <= b for a, b in zip(size, x.shape[1:3], strict=True))
    return kind(padding=padding, **arguments) if fits else None


def _slice(x: Any, take: Choices) -> Any:
    key = take(*SLICES)
    return (lambda x: x[key]) if min(x.shape[1:3]) >= 4 else None


def _upsample(x: Any, take: Choices) -> Any:
    small = x.shape[1] * x.shape[2] <= LARGEST_MAP // 2
    return layers.UpSampling2D(take.pair(2, 1, 3)) if small else None


def _arithmetic(x: Any, take: Choices) -> Any:
    return take(lambda x: x * 0.75 + 0.3, lambda x: 1.0 - x, lambda x: -x, lambda x: x / 4.0)


def _squeeze_excite(x: Any, take: Choices) -> Any:
    """A gate per channel."""
    pool, keepdims = take(layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D), take(0, 1)
    middle, last = take("relu", "silu"), take("sigmoid", "hard_sigmoid", "tanh")
    reshaped, first = take(True, False), take(True, False)

    def block(x: Any) -> Any:
        gate = layers.Dense(2, activation=middle)(pool(keepdims=bool(keepdims))(x))
        gate = layers.Dense(x.shape[-1], activation=last)(gate)
        if reshaped or not keepdims:
            gate = layers.Reshape((1, 1, x.shape[-1]))(gate)
        return layers.Multiply()([gate, x] if first else [x, gate])

    return block


def _attention(x: Any, take: Choices) -> Any:
    """A gate per position."""
    gate = layers.Conv2D(1, take(1, 2, 3), padding="same", activation=take(None, "sigmoid"))
    return lambda x: layers.Multiply()([x, gate(x)])


def _square(x: Any, take: Choices) -> Any:
    """Both inputs of a layer are one value; tanh, so that powers of powers remain small."""
    kind = take("multiply", "add", "subtract", "maximum")

    def block(x: Any) -> Any:
        y = layers.Activation("tanh")(x)
        return MERGES[kind]()([y, y])

    return block


def _sequence(x: Any, take: Choices) -> Any:
    """Rows one after the other as a sequence, and back."""
    size, padding, dilation = take(1, 2, 3), take("same", "causal"), take(1, 2)
    function, pooled = take(None, *FUNCTIONS), take(True, False)

    def block(x: Any) -> Any:
        h, w, c = x.shape[1:]
        y = layers.Reshape((h * w, c))(x)
        y = layers.Conv1D(c, size, padding=padding, dilation_rate=dilation)(y)
        y = layers.Activation(function)(layers.BatchNormalization()(y))
        y = layers.MaxPooling1D(2, 1, padding="same")(y) if pooled else y
        return layers.Reshape((h, w, c))(y)

    return block


def _nested(x: Any, take: Choices) -> Any:
    """A model of its own; nobody reads its second output."""
    inner = keras.Input(x.shape[1:])
    body = layers.Conv2D(3, 1, activation=take(*FUNCTIONS))(inner)
    unused = layers.Conv2D(2, 1, activation="tanh")(body)
    joined = layers.Concatenate()([body, inner])
    model = keras.Model(inner, [joined, unused])
    return lambda x: model(x)[0]


STEPS: dict[str, Callable[[Any, Choices], Any]] = {
    "conv": _conv,
    "conv again": _conv,
    "depthwise": _depthwise,
    "separable": _separable,
    "transposed": _transposed,
    "dense": lambda x, take: layers.Dense(take(3, 4), activation=take(None, *FUNCTIONS)),
    "norm": lambda x, take: layers.BatchNormalization(
        center=take(True, False), scale=take(True, True, False)
    ),
    "norm again": lambda x, take: layers.BatchNormalization(),
    "rescaling": lambda x, take: layers.Rescaling(take(0.5, -0.3, 1.7), take(0.0, 0.2, -0.6)),
    "arithmetic": _arithmetic,
    "relu": lambda x, take: layers.ReLU(take(None, 6.0, 1.0, 0.3)),
    "function": lambda x, take: layers.Activation(take(*FUNCTIONS)),
    "leaky": lambda x, take: layers.LeakyReLU(take(0.1, 0.3, 0.9)),
    "prelu": lambda x, take: layers.PReLU(shared_axes=take([1, 2], [1, 2], [1, 2], None)),
    "max pool": _pool(layers.MaxPooling2D),
    "average pool": _pool(layers.AveragePooling2D),
    "pad": lambda x, take: layers.ZeroPadding2D((take.pair(1, 0, 2), take.pair(1, 0, 2))),
    "crop": lambda x, take: (
        layers.Cropping2D((take.pair(1, 0), take.pair(1, 0))) if min(x.shape[1:3]) > 3 else None
    ),
    "slice": _slice,
    "upsample": _upsample,
    "permute": lambda x, take: layers.Permute(take((2, 1, 3), (1, 2, 3), (3, 1, 2), (1, 3, 2))),
    "dropout": lambda x, take: layers.Dropout(0.2),
    "squeeze excite": _squeeze_excite,
    "attention": _attention,
    "square": _square,
    "sequence": _sequence,
    "nested": _nested,
}
"""What a step may be on a map (h, w, c): makes what is called on it, or None where it does not fit.
Other kinds of steps: those in MERGES join the newest value with earlier ones; "branch" goes on
from an earlier value; "shared" calls a layer again that was called on the same shape."""
