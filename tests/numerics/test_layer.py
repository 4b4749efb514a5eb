"""The static half of a hardware layer: windows, shapes, JSON, and the movements."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_cases import LayerCase, layer_cases, windows

from quantkeras.numerics.arrays import IntArrays, pad_map, views
from quantkeras.numerics.carried import CarriedArrays, Carriers
from quantkeras.numerics.layer import LayerParams, LayerSpec, run_layer
from quantkeras.numerics.layer_shapes import output_shape
from quantkeras.numerics.layer_windows import Pool, Window


@given(layer_cases())
def test_specs_survive_json(case: LayerCase) -> None:
    config = json.loads(json.dumps(case.spec.to_config()))
    assert LayerSpec.from_config(config) == case.spec


@given(layer_cases())
def test_output_shape_is_what_comes_out(case: LayerCase) -> None:
    result = run_layer(case.spec, case.params, case.inputs, IntArrays())
    weights = case.params.weights
    channels = None if weights is None else result.shape[-1]
    assert output_shape(case.spec, case.shapes, channels) == result.shape[1:]


@pytest.mark.parametrize(
    ("length", "size", "stride", "dilation", "pads"),
    [
        # TensorFlow's "same": ceil(length / stride) positions, the odd zero at the end.
        (5, 3, 1, 1, (1, 1)),
        (4, 2, 1, 1, (0, 1)),
        (32, 3, 2, 1, (0, 1)),
        (33, 3, 2, 1, (1, 1)),
        (7, 3, 1, 2, (2, 2)),
        (8, 1, 2, 1, (0, 0)),
        (2, 5, 3, 1, (1, 2)),
    ],
)
def test_same_padding(
    length: int, size: int, stride: int, dilation: int, pads: tuple[int, int]
) -> None:
    window = Window((size, 1), (stride, 1), "same", (dilation, 1))
    assert window.pads((length, 1)) == (pads, (0, 0))
    assert window.output_size((length, 1))[0] == -(-length // stride)


@given(st.integers(1, 7), st.integers(1, 7), st.data())
def test_views_are_the_elements_under_the_window(h: int, w: int, data: st.DataObject) -> None:
    window = data.draw(windows(h, w))
    x = np.arange(2 * h * w * 2).reshape(2, h, w, 2) + 1
    padded = pad_map(x, window.pads((h, w)), 0)
    seen = views(padded, window)
    assert seen.shape[1:3] == window.output_size((h, w))
    n, r, s, i, j, c = (data.draw(st.integers(0, size - 1)) for size in seen.shape)
    y = r * window.strides[0] + i * window.dilation[0]
    z = s * window.strides[1] + j * window.dilation[1]
    assert seen[n, r, s, i, j, c] == padded[n, y, z, c]


def test_padding_takes_one_value_per_channel() -> None:
    x = np.ones((1, 1, 1, 2), np.int64)
    padded = pad_map(x, ((1, 0), (0, 2)), np.array([7, 9]))
    assert padded.shape == (1, 2, 3, 2)
    assert padded[0, :, :, 0].tolist() == [[7, 7, 7], [1, 7, 7]]
    assert padded[0, :, :, 1].tolist() == [[9, 9, 9], [1, 9, 9]]


MOVEMENTS = [
    (LayerSpec("flatten"), lambda x: x.reshape(2, -1)),
    (LayerSpec("reshape", shape=(6, 4)), lambda x: x.reshape(2, 6, 4)),
    (LayerSpec("permute", dims=(2, 0, 1)), lambda x: x.transpose(0, 3, 1, 2)),
    (
        LayerSpec("pad", pads=((1, 2), (0, 3))),
        lambda x: np.pad(x, ((0, 0), (1, 2), (0, 3), (0, 0))),
    ),
    (
        LayerSpec("slice", slices=((1, None, -1), (0, 3, 2), (-3, -1, 1))),
        lambda x: np.stack([x[:, 1], x[:, 0]], axis=1)[:, :, [0, 2]][..., [1, 2]],
    ),
    (
        LayerSpec("upsample", size=(2, 3)),
        lambda x: x[:, [0, 0, 1, 1]][:, :, [0, 0, 0, 1, 1, 1, 2, 2, 2]],
    ),
]


@pytest.mark.parametrize("arrays", [IntArrays(), CarriedArrays(Carriers())])
@pytest.mark.parametrize(("spec", "expected"), MOVEMENTS)
def test_movements(spec: LayerSpec, expected, arrays) -> None:
    x = np.random.default_rng(0).integers(-9, 9, (2, 2, 3, 4))
    assert np.array_equal(run_layer(spec, LayerParams(), [x], arrays), expected(x))
    assert LayerSpec.from_config(json.loads(json.dumps(spec.to_config()))) == spec


@pytest.mark.parametrize(
    "spec",
    [
        LayerSpec("slice", slices=((0, 4, 1), (3, None, -2))),
        LayerSpec("upsample", size=(2, 1)),
        LayerSpec("conv2d", Window((3, 2), padding=((1, 0), (2, 2)), input_dilation=(2, 3))),
        LayerSpec("multiply", pool=Pool("average", Window((3, 3), (2, 2), "same")), relu=True),
    ],
)
def test_specs_say_only_what_they_need(spec: LayerSpec) -> None:
    config = json.loads(json.dumps(spec.to_config()))
    assert LayerSpec.from_config(config) == spec
    assert set(config) <= {"kind", "slices", "size", "window", "pool", "relu"}


def test_windows_written_before_there_were_transposed_convolutions() -> None:
    config = {"size": [3, 3], "strides": [1, 1], "padding": "same", "dilation": [1, 1]}
    assert Window.from_config(config) == Window((3, 3), padding="same")


@pytest.mark.parametrize("arrays", [IntArrays(), CarriedArrays(Carriers())])
def test_padding_never_wins_a_max_pool(arrays) -> None:
    x = np.full((1, 3, 3, 1), -5)
    spec = LayerSpec("identity", pool=Pool("max", Window((2, 2), (2, 2), "same")))
    assert (run_layer(spec, LayerParams(), [x.astype(np.float32)], arrays) == -5).all()


@pytest.mark.parametrize("arrays", [IntArrays(), CarriedArrays(Carriers())])
def test_steps_stand_in_the_order_of_the_equation(arrays) -> None:
    # -3, 1 | * 2 + 5: -1, 7 | relu up to 6: 0, 6 | summed: 6 | * 3 >> 2, half up: 5 | table: 50
    spec = LayerSpec(
        "conv2d", Window((1, 1)), relu=True, pool=Pool("average", Window((1, 2), (1, 2)))
    )
    params = LayerParams(
        weights=np.array([[[[2]]]]),
        bias=np.array([5]),
        max_value=np.array([6]),
        scale=np.array([3]),
        shift=np.array([2]),
        qmin=0,
        qmax=7,
        table=np.arange(8) * 10,
    )
    x = np.array([-3, 1]).reshape(1, 1, 2, 1)
    assert run_layer(spec, params, [x.astype(np.int64)], arrays).item() == 50


def test_an_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'lstm'"):
        LayerSpec("lstm")
