"""Convolutions over widened inputs: what they mean, what they cost, and what they can reach."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_cases import transposed_windows

from quantkeras.errors import QuantizationError
from quantkeras.numerics import Format, Interval, carried
from quantkeras.numerics.arrays import IntArrays
from quantkeras.numerics.bounds import layer_bounds
from quantkeras.numerics.carried import CarriedArrays, Carriers
from quantkeras.numerics.layer import LayerParams, LayerSpec, run_layer
from quantkeras.numerics.layer_windows import Window

FLOATS = CarriedArrays(Carriers(product="float64", total="float64"))


def scatter(x: np.ndarray, kernel: np.ndarray, strides: tuple[int, int]) -> np.ndarray:
    """The textbook's transposed convolution of x (h, w, cin): every pixel adds its kernel
    (kh, kw, cin, cout) to the output, uncropped.
    """
    (h, w, cin), (kh, kw, _, cout) = x.shape, kernel.shape
    out = np.zeros(((h - 1) * strides[0] + kh, (w - 1) * strides[1] + kw, cout), np.int64)
    for y, z, c, i, j, o in np.ndindex(h, w, cin, kh, kw, cout):
        out[y * strides[0] + i, z * strides[1] + j, o] += x[y, z, c] * kernel[i, j, c, o]
    return out


@st.composite
def transposed(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, Window, np.ndarray]:
    """Input (h, w, cin), kernel as the textbook has it, window, and the textbook's output.

    The output is cropped by fewer rows and columns than the kernel has, or longer by zeros.
    """
    small = st.tuples(st.integers(1, 4), st.integers(1, 4))
    size, strides, kernel_size = draw(small), draw(small), draw(small)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = rng.integers(-128, 128, (*size, draw(st.integers(1, 3))))
    kernel = rng.integers(-127, 128, (*kernel_size, x.shape[-1], draw(st.integers(1, 3))))
    expected, pads = scatter(x, kernel, strides), []
    for axis, k in enumerate(kernel_size):
        before = draw(st.integers(0, k - 1))
        room = expected.shape[axis] - before - 1  # one row is left
        after = draw(st.integers(-3, min(k - 1, room)))
        pads.append((k - 1 - before, k - 1 - after))
        index = np.arange(before, expected.shape[axis] - after)
        widths = [(0, 0)] * 3
        widths[axis] = (0, max(-after, 0))
        expected = np.pad(expected, widths).take(index, axis)
    window = Window(kernel_size, (1, 1), (pads[0], pads[1]), input_dilation=strides)
    return x, kernel, window, expected


@pytest.mark.parametrize("arrays", [IntArrays(), FLOATS])
@given(case=transposed())
def test_it_is_the_transposed_convolution_by_the_flipped_kernel(arrays, case) -> None:
    x, kernel, window, expected = case
    found = arrays.conv2d(x[None], kernel[::-1, ::-1], window, 1, None)
    assert window.output_size(x.shape) == expected.shape[:2]
    assert np.array_equal(found[0], expected)


@pytest.mark.parametrize("arrays", [IntArrays(), FLOATS])
@given(case=transposed())
def test_depthwise_and_grouped_ones_treat_channels_on_their_own(arrays, case) -> None:
    x, kernel, window, _ = case
    x = np.concatenate([x, x[::-1, ::-1] + 1], axis=-1)
    channels = x.shape[-1]
    taps = np.concatenate([kernel, 1 - kernel], axis=2)  # (kh, kw, c, m)
    flipped = taps[::-1, ::-1]
    single = [
        IntArrays().conv2d(x[None, :, :, c : c + 1], flipped[:, :, c : c + 1], window, 1, None)
        for c in range(channels)
    ]
    found = arrays.depthwise_conv2d(x[None], flipped, window, None)
    assert np.array_equal(found, np.concatenate(single, axis=-1))
    half = channels // 2
    grouped = np.concatenate([kernel, 1 - kernel], axis=3)[::-1, ::-1]
    parts = [
        IntArrays().conv2d(x[None, :, :, s], grouped[..., o], window, 1, None)
        for s, o in (
            (slice(0, half), slice(0, kernel.shape[3])),
            (slice(half, None), slice(kernel.shape[3], None)),
        )
    ]
    found = arrays.conv2d(x[None], grouped, window, 2, None)
    assert np.array_equal(found, np.concatenate(parts, axis=-1))


# -- the fast twin ------------------------------------------------------------------------------


@given(st.integers(1, 9), st.integers(1, 7), st.data())
def test_phases_are_the_taps_that_meet_pixels(height, width, data) -> None:
    drawn = data.draw(transposed_windows(height, width))
    pads = drawn.pads((height, width))
    grown = tuple(
        (top, bottom + (n - 1) * (d - 1))
        for (top, bottom), n, d in zip(pads, drawn.size, drawn.dilation, strict=True)
    )
    window = Window(drawn.size, (1, 1), grown, input_dilation=drawn.input_dilation)
    for axis, length in enumerate((height, width)):
        stride, before = window.input_dilation[axis], grown[axis][0]
        count, size = window.output_size((height, width))[axis], window.size[axis]
        seen = {}
        for phase in window.phases(axis, length):
            for index, position in enumerate(range(phase.first, count, stride)):
                taps = range(size)[phase.taps]
                seen[position] = [(tap, phase.start + index + k) for k, tap in enumerate(taps)]
        for position in range(count):
            places = [(tap, position + tap - before) for tap in range(size)]
            expected = [(tap, place // stride) for tap, place in places if place % stride == 0]
            assert seen.pop(position) == expected
        assert not seen


def test_the_fast_twin_multiplies_by_pixels_only(monkeypatch: pytest.MonkeyPatch) -> None:
    work = []

    def counted(rows: np.ndarray, matrix: np.ndarray, out: np.ndarray) -> np.ndarray:
        work.append(rows.size * matrix.shape[1])
        return np.matmul(rows, matrix, out=out)

    monkeypatch.setattr(carried, "matmul", counted)
    x, weights = np.ones((1, 6, 5, 3)), np.ones((4, 4, 3, 2))
    window = Window((4, 4), padding=((2, 2), (2, 2)), input_dilation=(2, 2))
    assert FLOATS.conv2d(x, weights, window, 1, None).shape == (1, 12, 10, 2)
    assert sum(work) == 6 * 5 * weights.size


# -- bounds -------------------------------------------------------------------------------------


def reachable(
    spec: LayerSpec, params: LayerParams, fmt: Format, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest accumulator per channel, from the answer to each input pixel alone."""
    impulses = np.eye(int(np.prod(shape)), dtype=np.int64).reshape(-1, *shape)
    silence = run_layer(spec, params, [np.zeros((1, *shape), np.int64)], IntArrays())
    answers = run_layer(spec, params, [impulses], IntArrays()) - silence
    ends = (fmt.qmin * answers, fmt.qmax * answers)
    low = silence[0] + np.minimum(*ends).sum(axis=0)
    high = silence[0] + np.maximum(*ends).sum(axis=0)
    return low.min(axis=(0, 1)), high.max(axis=(0, 1))


@pytest.mark.parametrize("kind", ["conv2d", "depthwise_conv2d"])
@given(st.data())
def test_bounds_hold_what_any_position_reaches(kind, data) -> None:
    window = data.draw(transposed_windows(4, 5))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    last, fmt = 3, Format(4, data.draw(st.booleans()), 0)
    cout = last if kind == "conv2d" else 2 * last
    params = LayerParams(
        weights=rng.integers(-127, 128, (*window.size, 2, last)),
        bias=rng.integers(-500, 500, cout),
        bias_shift=rng.integers(0, 3, cout),
    )
    spec = LayerSpec(kind, window)
    bound = layer_bounds(spec, params, [Interval.of_format(fmt)], [(4, 5, 2)], "up").accumulator
    low, high = reachable(spec, params, fmt, (4, 5, 2))
    assert (bound.lo <= low).all()
    assert (bound.hi >= high).all()


@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (2, 3), (4, 1), (5, 5)])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 4), (4, 3)])
def test_bounds_are_reached_where_the_whole_kernel_fits(
    strides: tuple[int, int], size: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    params = LayerParams(weights=rng.integers(-127, 128, (*size, 2, 3)))
    pads = tuple((n - 1, n - 1) for n in size)
    spec = LayerSpec("conv2d", Window(size, padding=pads, input_dilation=strides))
    fmt, shape = Format(4, True, 0), (5, 5, 2)
    bounds = layer_bounds(spec, params, [Interval.of_format(fmt)], [shape], "up")
    low, high = reachable(spec, params, fmt, shape)
    np.testing.assert_array_equal(bounds.accumulator.lo, low)
    np.testing.assert_array_equal(bounds.accumulator.hi, high)


def test_a_wide_kernel_stays_in_float32_where_few_of_its_taps_meet() -> None:
    # 255 * 127 * 4 * 4 * 128 is beyond 2**24, the quarter of it that meets at stride 2 is not.
    window = Window((4, 4), padding=((3, 3), (3, 3)), input_dilation=(2, 2))
    params = LayerParams(weights=np.full((4, 4, 128, 1), 127, np.int8))
    seen = [Interval.of_format(Format(8, False, 0))]
    for used, carrier in ((window, "float32"), (Window((4, 4)), "float64")):
        bounds = layer_bounds(LayerSpec("conv2d", used), params, seen, [(8, 8, 128)], "up")
        assert Carriers.proved(bounds, "up").product == carrier


@pytest.mark.parametrize("pads", [((0, 0), (0, 0)), ((1, 1), (1, 1))])
@pytest.mark.parametrize("arrays", [IntArrays(), FLOATS])
def test_zeros_between_pixels_are_no_padding(arrays, pads) -> None:
    # Inputs are at least 5 and the border is 6, but a single tap meets a pixel of 5.
    window = Window((2, 2), padding=pads, input_dilation=(2, 2))
    params = LayerParams(weights=np.ones((2, 2, 1, 1), np.int64), pad_value=np.array([6]))
    spec, x = LayerSpec("conv2d", window), np.full((1, 2, 2, 1), 5)
    bound = layer_bounds(spec, params, [Interval(5, 9)], [(2, 2, 1)], "up").accumulator
    found = run_layer(spec, params, [x], arrays)
    assert found.min() == 5
    assert found.max() == (5 if pads == ((0, 0), (0, 0)) else 23)  # 6 + 6 + 6 + 5 in a corner
    assert bound.contains(found.astype(np.int64))


# -- windows ------------------------------------------------------------------------------------


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4))
def test_tap_groups_are_what_positions_see(stride: int, dilation: int, size: int) -> None:
    window = Window((size, 1), dilation=(dilation, 1), input_dilation=(stride, 1))
    groups = {tuple(range(size)[group]) for group in window.tap_groups(0)}
    met = {
        tuple(tap for tap in range(size) if (first + tap * dilation) % stride == 0)
        for first in range(stride)
    }
    assert met == groups


@pytest.mark.parametrize(
    "fields",
    [
        {"padding": "same", "input_dilation": (2, 1)},
        {"padding": "full"},
        {"padding": ((0, 0), (-1, 0))},
    ],
)
def test_windows_that_say_nothing_are_refused(fields: dict) -> None:
    with pytest.raises(QuantizationError, match="no window has the padding"):
        Window((3, 3), **fields)


def test_the_output_is_as_long_as_the_widened_input_and_its_padding_allow() -> None:
    window = Window((3, 2), padding=((1, 2), (0, 0)), input_dilation=(2, 3))
    # 4 pixels and 3 zeros, 3 more around; 5 pixels and 8 zeros.
    assert window.output_size((4, 5)) == (7 + 3 - 2, 13 - 1)
    for strides, dilation in itertools.product([(1, 2), (3, 1)], repeat=2):
        window = Window((2, 2), strides, ((1, 0), (0, 2)), dilation, (3, 2))
        found = IntArrays().conv2d(np.ones((1, 4, 5, 1)), np.ones((2, 2, 1, 1)), window, 1, None)
        assert found.shape[1:3] == window.output_size((4, 5))
