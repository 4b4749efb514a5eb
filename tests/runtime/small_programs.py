"""Programs to test the runtime with: two worked out by hand, and one around any layer."""

from __future__ import annotations

import numpy as np
from layer_cases import LayerCase

from quantkeras.numerics import Format
from quantkeras.numerics.layer import LayerParams, LayerSpec
from quantkeras.numerics.layer_shapes import output_shape
from quantkeras.numerics.layer_windows import Pool, Window
from quantkeras.runtime import FloatTail, Program, ProgramInput, ProgramLayer

U8 = Format(8, False, 0)
S8 = Format(8, True, 4)


def conv_dense() -> Program:
    """conv2d+relu -> flatten -> dense (accumulator): one input (2, 2, 1), one output (2,).

    For x = [[10, 20], [30, 40]]: 10 - 2*20 + 3*30 + 4*40 + 5 = 225, and 225 * 128 / 256 = 112.5
    is 113; dense: 113 * 3 + 7 = 346 and 113 * -5 - 1 = -566, worth 173.0 and -141.5.
    """
    conv = ProgramLayer(
        "conv",
        LayerSpec("conv2d", Window((2, 2)), relu=True),
        LayerParams(
            weights=np.array([1, -2, 3, 4], np.int8).reshape(2, 2, 1, 1),
            bias=np.array([5]),
            scale=np.array([128]),
            shift=np.array([8]),
            qmin=0,
            qmax=255,
        ),
        ("x",),
        Format(8, False, 1),
        (1, 1, 1),
        source=("conv", "bn", "relu"),
        weight_bits=4,
    )
    flatten = ProgramLayer(
        "flatten", LayerSpec("flatten"), LayerParams(), ("conv",), Format(8, False, 1), (1,)
    )
    dense = ProgramLayer(
        "scores",
        LayerSpec("dense"),
        LayerParams(weights=np.array([[3, -5]], np.int8), bias=np.array([7, -1])),
        ("flatten",),
        None,
        (2,),
        np.array([0.5, 0.25], np.float32),
        weight_bits=8,
    )
    return Program(
        (ProgramInput("x", (2, 2, 1), U8),),
        (conv, flatten, dense),
        ("scores",),
        (FloatTail("probabilities", "Softmax", "it has no integer form"),),
        "tiny",
    )


CONV_DENSE_X = np.array([[10, 20], [30, 40]]).reshape(1, 2, 2, 1)
CONV_DENSE_Y = np.array([[173.0, -141.5]], np.float32)


def two_by_two() -> Program:
    """Inputs a, b (4, 4, 2): their sum pooled (2, 2, 2), and their concatenation (4, 4, 4).

    b is coarser by one bit than a: it is shifted left before the sum.
    """
    total = ProgramLayer(
        "total",
        LayerSpec("add", pool=Pool("average", Window((2, 2), (2, 2)))),
        LayerParams(
            input_shifts=(None, np.array(1)),
            scale=np.array(1),
            shift=np.array(2),
            qmin=-128,
            qmax=127,
        ),
        ("a", "b"),
        S8,
        (2, 2, 2),
    )
    both = ProgramLayer(
        "both",
        LayerSpec("concat"),
        LayerParams(),
        ("a", "b"),
        Format(8, True, np.array([4, 4, 3, 3])),
        (4, 4, 4),
    )
    inputs = (ProgramInput("a", (4, 4, 2), S8), ProgramInput("b", (4, 4, 2), S8.with_frac(3)))
    return Program(inputs, (total, both), ("total", "both"), name="pair")


def gated() -> Program:
    """A gated decoder: x (3, 2, 2) and gate (1, 1, 2) to (6, 4, 2), one of every newer step.

    x is multiplied by the gate, upsampled by a transposed convolution of stride 2 that ends in a
    table per channel, turned around by a slice, averaged over its padded border, and the larger
    of that and x repeated is one output; their difference is the other.
    """
    rng = np.random.default_rng(7)
    whole = (0, None, 1)
    rescale = {"scale": np.array(181), "qmin": -128, "qmax": 127}

    def layer(
        name: str, spec: LayerSpec, reads: tuple[str, ...], **numbers: object
    ) -> ProgramLayer:
        shape = (3, 2, 2) if name == "product" else (6, 4, 2)
        params = LayerParams(**numbers)  # type: ignore[arg-type]
        return ProgramLayer(name, spec, params, reads, S8, shape)

    window = Window((4, 4), padding=((2, 2), (2, 2)), input_dilation=(2, 2))
    pool = Pool("average", Window((3, 3), padding="same"))
    layers = (
        layer("product", LayerSpec("multiply"), ("x", "gate"), shift=np.array(13), **rescale),
        layer(
            "up",
            LayerSpec("conv2d", window),
            ("product",),
            weights=rng.integers(-7, 8, (4, 4, 2, 2)).astype(np.int8),
            table=rng.integers(-128, 128, (256, 2)).astype(np.int8),
            shift=np.array([9, 10]),
            **rescale,
        ),
        layer("turned", LayerSpec("slice", slices=((5, None, -1), (3, None, -1), whole)), ("up",)),
        layer("mean", LayerSpec("identity", pool=pool), ("turned",), shift=np.array(13), **rescale),
        layer("repeated", LayerSpec("upsample", size=(2, 2)), ("x",)),
        layer("largest", LayerSpec("maximum"), ("mean", "repeated")),
        layer(
            "difference",
            LayerSpec("subtract"),
            ("mean", "repeated"),
            shift=np.array(8),
            input_shifts=(None, np.array([0, 1])),
            **rescale,
        ),
    )
    inputs = (ProgramInput("x", (3, 2, 2), S8), ProgramInput("gate", (1, 1, 2), U8))
    return Program(inputs, layers, ("largest", "difference"), name="gated")


def one_layer(case: LayerCase) -> Program:
    """The case as a program; its output is left raw, or has a format wide enough."""
    inputs = tuple(
        ProgramInput(f"x{i}", shape, fmt)
        for i, (shape, fmt) in enumerate(zip(case.shapes, case.formats, strict=True))
    )
    weights = case.params.weights
    channels = None
    if weights is not None:
        depthwise = case.spec.kind == "depthwise_conv2d"
        channels = weights.shape[3] * weights.shape[2] if depthwise else weights.shape[-1]
    shape = output_shape(case.spec, case.shapes, channels)
    layer = ProgramLayer(
        "layer",
        case.spec,
        case.params,
        tuple(entry.name for entry in inputs),
        None,
        shape,  # type: ignore[arg-type]
        np.float32(1) * np.ones(shape[-1:], np.float32),  # type: ignore[arg-type]
    )
    return Program(inputs, (layer,), ("layer",))
