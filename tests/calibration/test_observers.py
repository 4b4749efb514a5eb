"""Observers: what they find does not depend on how the values arrive, and is what it should be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from parameters import slow

from quantkeras.calibration.histogram import OCTAVES, Histogram, mantissa_bits_for
from quantkeras.calibration.observers import (
    MinMaxObserver,
    MovingAverageObserver,
    MseObserver,
    PercentileObserver,
    make_observer,
)
from quantkeras.errors import NonFiniteError, QuantizationError

SPECS = ("minmax", "moving_average", "percentile", "mse", "sqnr")
FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
BATCHES = hnp.arrays(np.float32, st.tuples(st.integers(2, 24), st.integers(1, 3)), elements=FLOAT32)


def quantize(x, r, bits, signed, power_of_two=False):
    """x in the format whose range is r, as range_search defines it."""
    levels = 2 ** (bits - 1 if signed else bits)
    step = r / (levels if power_of_two else levels - 1)
    return np.clip(np.floor(x / step + 0.5), -levels if signed else 0, levels - 1) * step


def squared_error(x, r, bits, signed, power_of_two=False):
    return float(np.mean((quantize(x, r, bits, signed, power_of_two) - x) ** 2))


def half_counts(histogram):
    return [histogram.density(sign).counts for sign in (1, -1)]


# --- independence of batches and order ---------------------------------------------------------


@given(BATCHES, st.randoms(use_true_random=False), st.booleans())
def test_split_and_order_do_not_matter(x, random, per_channel):
    """One batch in order, or any cuts of any permutation: the same extremes, counts and ranges."""
    order = list(range(len(x)))
    random.shuffle(order)
    cut = random.randrange(1, len(x))
    pieces = [x[order[:cut]], x[order[cut:]]]
    for spec in ("minmax", "percentile", "mse"):
        whole, parts = make_observer(spec, per_channel), make_observer(spec, per_channel)
        whole.update(x)
        for piece in pieces:
            parts.update(piece)
        assert np.array_equal(whole.ranges().minimum, parts.ranges().minimum)
        assert np.array_equal(whole.ranges().maximum, parts.ranges().maximum)
        if spec != "minmax":
            for one, other in zip(
                half_counts(whole.histogram), half_counts(parts.histogram), strict=True
            ):
                assert np.array_equal(one, other)
        for signed in (False, True):
            assert np.array_equal(whole.range(8, signed), parts.range(8, signed))


@given(BATCHES)
def test_histogram_counts_every_value_in_its_bin(x):
    histogram = Histogram(x.shape[1])
    for row in x:
        histogram.update(row[None], row, row)
    positive, negative = histogram.density(1), histogram.density(-1)
    total = positive.counts.sum(axis=1) + negative.counts.sum(axis=1)
    assert np.array_equal(total, np.full(x.shape[1], len(x)))
    for c in range(x.shape[1]):
        small = positive.edges[c, 1]
        for sign, half in ((1, positive), (-1, negative)):
            values = np.sort(sign * x[:, c][sign * x[:, c] > 0].astype(np.float64))
            edges, counts = half.edges[c], half.counts[c]
            last = np.flatnonzero(counts)[-1] if counts.any() else 0
            for j in np.flatnonzero(counts[1:]) + 1:
                inside = (values >= edges[j]) & (
                    (values <= edges[j + 1]) if j == last else (values < edges[j + 1])
                )
                assert inside.sum() == counts[j]
        peak = float(np.abs(x[:, c]).max())
        assert peak < 1e-30 or small <= peak * 2.0 ** (2 - OCTAVES)  # subnormals have fewer bits


def test_an_outlier_leaves_the_rest_finely_divided():
    rng = np.random.default_rng(1)
    x = rng.normal(size=4000).astype(np.float32)
    observer = PercentileObserver(90.0)
    observer.update(x)
    before = observer.range(8, True)
    observer.update(np.array([10000.0], np.float32))
    assert observer.range(8, True) == pytest.approx(before, rel=0.02)


def test_moving_average_follows_its_recurrence():
    observer = MovingAverageObserver(0.75, per_channel=True)
    observer.update(np.array([[1.0, -2.0], [3.0, 5.0]]))
    observer.update(np.array([[7.0, 1.0], [5.0, 1.0]]))
    ranges = observer.ranges()
    np.testing.assert_allclose(ranges.minimum, [0.75 * 1 + 0.25 * 5, -0.75 * 2 + 0.25 * 1])
    np.testing.assert_allclose(ranges.maximum, [0.75 * 3 + 0.25 * 7, 0.75 * 5 + 0.25 * 1])
    np.testing.assert_allclose(observer.range(8, True), ranges.max_abs)


# --- values ------------------------------------------------------------------------------------


def test_minmax_range_by_sign():
    observer = MinMaxObserver()
    observer.update(np.array([[-3.0, 0.5], [1.25, 0.0]]))
    assert observer.range(8, signed=True) == 3.0
    assert observer.range(8, signed=False) == 1.25
    assert observer.range(8, signed=False, power_of_two=True) == 2.0
    assert observer.ranges().minimum == -3.0 and observer.ranges().maximum == 1.25
    assert observer.range(8, True).shape == () and observer.range(8, True).dtype == np.float64


@given(BATCHES, st.sampled_from([50.0, 90.0, 99.0, 99.99, 100.0]), st.booleans())
def test_percentile_is_within_a_bin_of_the_sample_percentile(x, percentile, signed):
    observer = PercentileObserver(percentile)
    observer.update(x)
    magnitudes = (np.abs(x) if signed else np.maximum(x, 0)).astype(np.float64)
    expected = np.percentile(magnitudes, percentile, method="inverted_cdf")
    if percentile == 100.0:
        assert observer.range(8, signed) == (expected if expected > 0 else 1.0)
    elif expected > np.abs(x).max() * 2.0 ** (2 - OCTAVES):
        width = 2.0 ** -mantissa_bits_for(1)
        assert observer.range(8, signed) == pytest.approx(expected, rel=width)
    else:  # the percentile is zero, or as good as: the few others set the range
        assert observer.range(8, signed) > 0


DISTRIBUTIONS = {
    "normal": lambda rng: rng.normal(size=20000),
    "relu": lambda rng: np.maximum(rng.normal(size=20000), 0),
    "laplace": lambda rng: rng.laplace(size=20000),
    "uniform": lambda rng: rng.uniform(-1, 1, size=20000),
    "relu6": lambda rng: np.clip(rng.normal(3, 4, size=20000), 0, 6),
    "outliers": lambda rng: np.concatenate([rng.normal(size=20000), [60.0, -80.0]]),
    "small": lambda rng: 1e-6 * rng.standard_t(3, size=20000),
}


@pytest.mark.parametrize("bits", [4, *slow(2, 8)])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_mse_against_brute_force(name, bits, signed):
    """No range on a fine grid has a sample error noticeably below that of the range found."""
    x = DISTRIBUTIONS[name](np.random.default_rng(7)).astype(np.float32)
    x = x if signed else np.maximum(x, 0)
    observer = MseObserver()
    for batch in np.array_split(x, 7):
        observer.update(batch)
    found = squared_error(x, observer.range(bits, signed), bits, signed)
    grid = np.abs(x).max() * np.geomspace(2.0**-8, 1.0, 400)
    best = min(squared_error(x, r, bits, signed) for r in grid)
    assert found <= best * 1.01
    powers = observer.range(bits, signed, power_of_two=True)
    assert np.log2(powers) == np.round(np.log2(powers))
    top = np.ceil(np.log2(np.abs(x).max()))
    best = min(squared_error(x, 2.0 ** (top - k), bits, signed, True) for k in range(-1, 10))
    assert squared_error(x, powers, bits, signed, True) <= best * 1.001


def test_mse_range_never_exceeds_the_peak_and_sqnr_clips_less():
    x = np.random.default_rng(3).laplace(size=(5000, 4)).astype(np.float32)
    ranges = {}
    for spec in ("mse", "sqnr", "minmax"):
        observer = make_observer(spec, per_channel=True)
        observer.update(x)
        ranges[spec] = observer.range(4, True)
    assert np.all(ranges["mse"] < ranges["sqnr"]) and np.all(ranges["sqnr"] <= ranges["minmax"])


@pytest.mark.slow
def test_mse_of_channels_equals_that_of_each_alone():
    x = np.random.default_rng(5).standard_t(4, size=(2000, 206)).astype(np.float32)
    x[:, 7] *= 1000
    x[:, 8] = np.maximum(x[:, 8], 0)
    together = MseObserver(per_channel=True)
    together.update(x)
    for c in (7, 8, 205):
        # The same fineness as for 206 channels.
        alone = MseObserver(per_channel=True)
        alone.update(np.repeat(x[:, c : c + 1], 206, axis=1))
        np.testing.assert_allclose(together.range(6, True)[c], alone.range(6, True)[0], rtol=1e-9)


# --- corner cases ------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", SPECS)
def test_silent_channels_take_the_largest_range(spec):
    observer = make_observer(spec, per_channel=True)
    x = np.zeros((16, 5, 3), np.float32)
    observer.update(x)
    assert np.array_equal(observer.range(8, False), [1.0, 1.0, 1.0])
    x[..., 1], x[..., 2] = 0.5, -2.0
    for _ in range(300):
        observer.update(x)
    signed, unsigned = observer.range(8, True), observer.range(8, False)
    assert signed[0] == signed[2] and unsigned[0] == unsigned[2] == unsigned[1]


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("scale", [1e-45, 1e-38, 1e-3, 1.0, 1e30, 3e38])
def test_any_magnitude(spec, scale):
    x = (np.linspace(-1, 1, 64) * scale).astype(np.float32)
    observer = make_observer(spec)
    observer.update(x)
    peak = float(np.abs(x).max())
    for signed in (True, False):
        assert 0 < observer.range(8, signed) <= peak * 1.0000001


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.float16, np.float64, np.bool_])
@pytest.mark.parametrize("spec", ["minmax", "mse"])
def test_dtypes(spec, dtype):
    x = np.array([[0, 1], [3, 100]]).astype(dtype)
    observer = make_observer(spec, per_channel=True)
    observer.update(x)
    np.testing.assert_array_equal(observer.ranges().maximum, x.max(axis=0).astype(float))


def test_memory_is_bounded_for_many_channels_and_samples():
    observer = MseObserver(per_channel=True)
    x = np.random.default_rng(0).normal(size=(8, 2048)).astype(np.float32)
    observer.update(x)
    size = observer.histogram.nbytes
    for _ in range(20):
        observer.update(2.0 * x)
    assert observer.histogram.nbytes == size <= 6 * 2**20


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(spec, bad):
    x = np.ones((4, 3), np.float32)
    x[2, 1] = bad
    observer = make_observer(spec, per_channel=True, label="conv1")
    with pytest.raises(NonFiniteError, match="conv1: NaN or infinity in channel 1"):
        observer.update(x)


def test_too_large_for_float32():
    with pytest.raises(NonFiniteError, match="float32"):
        make_observer("mse").update(np.array([1e300]))


def test_refusals():
    observer = make_observer("minmax", per_channel=True, label="dense")
    with pytest.raises(QuantizationError, match="dense: no batch was observed"):
        observer.range(8, True)
    with pytest.raises(QuantizationError, match=r"n > 0, got shape \(4,\)"):
        observer.update(np.ones(4))
    with pytest.raises(QuantizationError, match="got shape"):
        observer.update(np.ones((0, 4)))
    with pytest.raises(QuantizationError, match="dtype <U1"):
        observer.update(np.array([["a"]]))
    observer.update(np.ones((2, 4)))
    with pytest.raises(QuantizationError, match="got 3 channels after batches of 4"):
        observer.update(np.ones((2, 3)))
    with pytest.raises(QuantizationError, match="at least 2"):
        observer.range(1, True)


# --- making them -------------------------------------------------------------------------------


def test_specs_with_numbers():
    assert make_observer("percentile:99.5").percentile == 99.5
    assert make_observer("percentile").percentile == 99.99
    assert make_observer("moving_average:0.5").momentum == 0.5
    assert make_observer("mse").clip_weight == 1.0
    assert make_observer("sqnr").clip_weight == 3.0


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("minmx", "Did you mean 'minmax'"),
        ("minmax:3", "takes no number"),
        ("percentile:lots", "'lots' is not a number"),
        ("percentile:0", r"must be in \(0, 100\]"),
        ("percentile:nan", r"must be in \(0, 100\]"),
        ("moving_average:1", r"must be in \[0, 1\)"),
        ("sqnr:0.5", "1 or more"),
        (7, "a name, an Observer or a function"),
        (lambda: 3, "returned 3"),
    ],
)
def test_bad_specs(spec, message):
    with pytest.raises(QuantizationError, match=message):
        make_observer(spec)


def test_an_instance_is_a_pattern_and_a_factory_makes_new_ones():
    pattern = PercentileObserver(95.0)
    one, two = make_observer(pattern, True, "a"), make_observer(pattern, False, "b")
    assert one is not pattern and one is not two
    assert one.percentile == two.percentile == 95.0 and one.per_channel and not two.per_channel
    made = make_observer(lambda: MovingAverageObserver(0.5), True, "c")
    assert made.momentum == 0.5 and made.per_channel and made.label == "c"
