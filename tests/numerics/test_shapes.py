"""Shapes of layers worked out by hand, and the inputs that do not fit."""

import pytest

from quantkeras.errors import QuantizationError
from quantkeras.numerics.layer import LayerSpec
from quantkeras.numerics.layer_shapes import fixed_shape, output_shape
from quantkeras.numerics.layer_windows import Pool, Window


@pytest.mark.parametrize(
    ("spec", "shapes", "expected"),
    [
        (LayerSpec("multiply"), [(4, 5, 3), (1, 1, 3)], (4, 5, 3)),
        (LayerSpec("multiply"), [(4, 5, 1), (4, 5, 3)], (4, 5, 3)),
        (LayerSpec("subtract"), [(1, 5, 1), (4, 1, 3)], (4, 5, 3)),
        (LayerSpec("maximum"), [(7,), (7,), (1,)], (7,)),
        (LayerSpec("add"), [(4, None, 3), (4, 5, 3)], (4, None, 3)),
        (LayerSpec("concat", axis=0), [(4, 5, 3), (2, 5, 3)], (6, 5, 3)),
        (LayerSpec("concat"), [(None, 3), (None, 4)], (None, 7)),
        (
            LayerSpec("slice", slices=((0, 2, 1), (1, None, 2), (2, None, -1))),
            [(4, 6, 3)],
            (2, 3, 3),
        ),
        (LayerSpec("slice", slices=((-3, None, 1),)), [(10,)], (3,)),
        (LayerSpec("upsample", size=(2, 3)), [(4, 5, 3)], (8, 15, 3)),
        (LayerSpec("reshape", shape=(-1, 4)), [(4, 6)], (6, 4)),
        (LayerSpec("reshape", shape=(-1, 4)), [(None, 6)], (None, 4)),
        (LayerSpec("flatten"), [(4, 5, 3)], (60,)),
        (LayerSpec("flatten"), [(None, 3)], (None,)),
        (LayerSpec("pad", pads=((1, 0), (2, 3))), [(4, None, 3)], (5, None, 3)),
        (LayerSpec("permute", dims=(1, 0)), [(4, None)], (None, 4)),
        (LayerSpec("identity", pool=Pool("global_average")), [(4, 5, 3)], (3,)),
    ],
)
def test_output_shapes(spec: LayerSpec, shapes, expected) -> None:
    assert output_shape(spec, shapes, None) == expected


def test_a_transposed_convolution_grows_the_map() -> None:
    window = Window((4, 4), padding=((2, 2), (1, 3)), input_dilation=(2, 2))
    assert output_shape(LayerSpec("conv2d", window), [(5, 7, 3)], 8) == (10, 14, 8)


@pytest.mark.parametrize(
    ("spec", "shapes", "message"),
    [
        (LayerSpec("multiply"), [(4, 5, 3), (3,)], "not the same number of axes"),
        (LayerSpec("add"), [(4, 5, 3), (2, 5, 3)], "do not broadcast to one shape"),
        (LayerSpec("minimum"), [(4,), (1,), (2,)], r"shapes \(4,\), \(1,\), \(2,\) do not"),
        (LayerSpec("concat"), [(4, 5), (3, 5)], "differ beside the axis 1"),
        (LayerSpec("concat"), [(4, 5), (4, 5, 1)], "differ beside the axis 1"),
        (LayerSpec("slice", slices=((0, 1, 1),)), [(4, 5)], "one .* for each axis"),
        (LayerSpec("slice", slices=((0, 1, 0),)), [(4,)], "a step other than 0"),
        (LayerSpec("slice", slices=((3, 1, 1),)), [(4,)], r"nothing is left of shape \(4,\)"),
        (LayerSpec("slice", slices=((0, 1, 1),)), [(None,)], "must all be known"),
        (LayerSpec("upsample", size=(2, 2)), [(4, 5)], r"not \(height, width, channels\)"),
        (LayerSpec("upsample", size=(0, 2)), [(4, 5, 1)], "nothing is left"),
        (LayerSpec("pad"), [(4, 5)], r"not \(height, width, channels\)"),
        (LayerSpec("conv2d", Window((3, 3))), [(2, 5, 1)], "nothing is left"),
        (LayerSpec("conv2d", Window((3, 3))), [(None, 5, 1)], "height and width must be known"),
        (LayerSpec("reshape", shape=(4, 4)), [(5, 3)], "does not fill"),
        (LayerSpec("reshape", shape=(-1, 4)), [(5, 3)], "does not fill"),
        (LayerSpec("reshape", shape=(-1, -1)), [(5, 3)], "does not fill"),
        (LayerSpec("permute", dims=(0, 0)), [(5, 3)], "no order of the axes"),
        (LayerSpec("identity", pool=Pool("global_average")), [(3,)], r"shape \(3,\), not \(height"),
    ],
)
def test_what_does_not_fit(spec: LayerSpec, shapes, message: str) -> None:
    with pytest.raises(QuantizationError, match=message):
        output_shape(spec, shapes, 2)


def test_fixed_shapes() -> None:
    assert fixed_shape([4, 5]) == (4, 5)
    with pytest.raises(QuantizationError, match="'x' has the shape"):
        fixed_shape((None, 3), "'x'")
