"""Both array namespaces against the slow reader of the layer equation."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from layer_cases import LayerCase, layer_cases
from naive_layer import naive_layer

from quantkeras.errors import AccumulatorTooWide, QuantizationError
from quantkeras.numerics import Format, Interval
from quantkeras.numerics.arrays import IntArrays
from quantkeras.numerics.bounds import LayerBounds, layer_bounds
from quantkeras.numerics.carried import CarriedArrays, Carriers
from quantkeras.numerics.layer import LayerParams, LayerSpec, run_layer
from quantkeras.numerics.layer_windows import Pool, Window


def bounds_of(case: LayerCase) -> LayerBounds:
    inputs = [Interval.of_format(f) for f in case.formats]
    return layer_bounds(case.spec, case.params, inputs, case.shapes, "layer")


def run_carried(case: LayerCase, overwrite: bool | None = None) -> np.ndarray:
    carriers = Carriers.proved(bounds_of(case), "layer")
    own = case.spec.kind != "identity" if overwrite is None else overwrite
    inputs = [x.astype(np.float32) for x in case.inputs]
    return run_layer(case.spec, case.params, inputs, CarriedArrays(carriers, own))


@given(layer_cases())
def test_int_arrays_compute_the_equation(case: LayerCase) -> None:
    result = run_layer(case.spec, case.params, case.inputs, IntArrays())
    assert result.dtype == np.int64
    expected = naive_layer(case)
    assert result.shape == expected.shape
    assert (result == expected).all()


@given(layer_cases())
def test_carried_arrays_give_the_same_integers(case: LayerCase) -> None:
    expected = run_layer(case.spec, case.params, case.inputs, IntArrays())
    before = [x.copy() for x in case.inputs]
    result = run_carried(case)
    assert result.dtype.kind == "f"
    assert result.shape == expected.shape
    assert np.array_equal(result.astype(np.int64), expected)
    for x, copy in zip(case.inputs, before, strict=True):
        assert np.array_equal(x, copy)


@given(layer_cases())
def test_every_output_lies_within_the_bounds(case: LayerCase) -> None:
    output = run_layer(case.spec, case.params, case.inputs, IntArrays())
    assert bounds_of(case).output.contains(output)


def wide_conv(bits: int, taps: int) -> LayerCase:
    """One output whose accumulator is (2**bits - 1) * 127 * taps."""
    fmt = Format(bits, False, 0)
    x = np.full((1, 1, 1, taps), fmt.qmax, np.int64)
    params = LayerParams(weights=np.full((1, 1, taps, 1), 127))
    return LayerCase(LayerSpec("conv2d", Window((1, 1))), params, [fmt], [x])


@pytest.mark.parametrize(
    ("bits", "taps", "carrier"),
    [(8, 518, "float32"), (8, 519, "float64"), (16, 2, "float32"), (16, 3, "float64")],
)
def test_the_carrier_follows_the_bound(bits: int, taps: int, carrier: str) -> None:
    # 255 * 127 * 518 = 16,775,430 < 2**24 = 16,777,216 < 255 * 127 * 519
    case = wide_conv(bits, taps)
    assert Carriers.proved(bounds_of(case), "layer").product == carrier
    result = run_carried(case)
    assert result.dtype == carrier
    assert int(result[0, 0, 0, 0]) == (2**bits - 1) * 127 * taps


def test_sums_beyond_float64_are_refused_by_name() -> None:
    case = wide_conv(16, 4)
    case.params.input_shifts = (np.array([30]),)
    with pytest.raises(AccumulatorTooWide, match="'layer'"):
        bounds_of(case)


def test_a_rescale_beyond_64_bits_is_refused() -> None:
    case = wide_conv(8, 2)
    case.params.scale, case.params.shift = np.array([255]), np.array([-41])
    case.params.qmin, case.params.qmax = 0, 255
    with pytest.raises(AccumulatorTooWide, match="64 bits"):
        bounds_of(case)


@given(st.integers(-(2**31), 2**31), st.integers(2**21, 2**24), st.integers(-4, 60))
@example(2**31 - 1, 2**22 + 1, 1)
def test_wide_rescales_fall_back_to_int64(acc: int, scale: int, shift: int) -> None:
    fmt = Format(32, True, 0)
    params = LayerParams(
        scale=np.array([scale]), shift=np.array([shift]), qmin=fmt.qmin, qmax=fmt.qmax
    )
    x = np.array([[min(acc, fmt.qmax)]])
    case = LayerCase(LayerSpec("identity"), params, [fmt], [x])
    expected = naive_layer(case)
    carriers = Carriers.proved(bounds_of(case), "layer")
    result = run_layer(case.spec, params, [x.astype(np.float64)], CarriedArrays(carriers))
    assert np.array_equal(result.astype(np.int64), expected.astype(np.int64))


@pytest.mark.parametrize(("shift", "mode"), [(52, "float64"), (53, "float64"), (54, "int64")])
def test_the_half_counts_in_the_proof_of_the_rescale(shift: int, mode: str) -> None:
    # The half is 2**(shift - 1): with shift 54 its sum with the product needs 54 bits.
    fmt = Format(8, False, 0)
    params = LayerParams(scale=np.array([1]), shift=np.array([shift]), qmin=0, qmax=255)
    case = LayerCase(LayerSpec("identity"), params, [fmt], [np.array([[255]])])
    assert Carriers.proved(bounds_of(case), "layer").rescale == mode
    assert run_carried(case, overwrite=False) == 0


def test_a_wide_average_pool_is_summed_in_float64_behind_a_float32_convolution() -> None:
    case = wide_conv(8, 500)
    case.inputs = [np.broadcast_to(case.inputs[0], (1, 4, 4, 500)).copy()]
    case.spec = LayerSpec("conv2d", Window((1, 1)), pool=Pool("global_average"))
    carriers = Carriers.proved(bounds_of(case), "layer")
    assert (carriers.product, carriers.total) == ("float32", "float64")
    assert int(run_carried(case)[0, 0]) == 16 * 255 * 127 * 500


@pytest.mark.parametrize(
    ("kind", "bits", "carrier"),
    [
        ("multiply", (12, 12), "float32"),  # 4095 * 4095 is below 2**24
        ("multiply", (12, 13), "float64"),
        ("subtract", (24, 24), "float32"),
        ("subtract", (24, 25), "float64"),
        ("maximum", (24, 16), "float32"),
        ("minimum", (25, 2), "float64"),
    ],
)
def test_the_carrier_of_an_elementwise_layer(kind, bits: tuple[int, int], carrier: str) -> None:
    formats = [Format(b, False, 0) for b in bits]
    for ends in ((1, 1), (1, 0), (0, 1)):
        x = [np.array([[f.qmax if end else 0]]) for f, end in zip(formats, ends, strict=True)]
        case = LayerCase(LayerSpec(kind), LayerParams(), formats, x)
        carriers = Carriers.proved(bounds_of(case), "layer")
        assert carriers.product == carrier
        found = run_layer(
            case.spec, case.params, [v.astype(float) for v in x], CarriedArrays(carriers)
        )
        assert found.dtype == carrier
        assert np.array_equal(found.astype(np.int64), naive_layer(case))


def test_products_beyond_float64_are_refused_by_name() -> None:
    formats = [Format(27, False, 0)] * 2
    case = LayerCase(LayerSpec("multiply"), LayerParams(), formats, [np.array([[1]])] * 2)
    with pytest.raises(AccumulatorTooWide, match="'layer'"):
        bounds_of(case)


@pytest.mark.parametrize("second", [(1, 1, 4), (5, 6, 1), (1, 6, 1), (1, 1, 1)])
@pytest.mark.parametrize("turned", [False, True])
def test_a_gate_is_one_number_for_each_channel_or_position(second, turned: bool) -> None:
    rng = np.random.default_rng(2)
    x, gate = rng.integers(-128, 128, (2, 5, 6, 4)), rng.integers(0, 256, (2, *second))
    params = LayerParams(scale=np.array(200), shift=np.array(16), qmin=-128, qmax=127)
    formats, inputs = [Format(8, True, 0), Format(8, False, 0)], [x, gate]
    if turned:
        formats, inputs = formats[::-1], inputs[::-1]
    case = LayerCase(LayerSpec("multiply"), params, formats, inputs)
    expected = np.clip((x * gate * 200 + 2**15) >> 16, -128, 127)
    assert np.array_equal(run_layer(case.spec, params, inputs, IntArrays()), expected)
    assert np.array_equal(run_carried(case), expected)


# -- look-up tables -----------------------------------------------------------------------------


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("shape", [(3, 50, 40, 7), (40_000, 7), (2, 7)])
@pytest.mark.parametrize("bits", [8, 16])
def test_tables_of_any_size_on_maps_of_any_size(bits: int, shape, per_channel: bool) -> None:
    rng = np.random.default_rng(3)
    fmt = Format(bits, True, 0)
    size = (2**bits, 7) if per_channel else (2**bits,)
    params = LayerParams(qmin=fmt.qmin, qmax=fmt.qmax, table=rng.integers(-999, 999, size))
    x = rng.integers(fmt.qmin, fmt.qmax + 1, shape)
    case = LayerCase(LayerSpec("identity"), params, [fmt], [x])
    channels = np.arange(7) if per_channel else None
    index = x - fmt.qmin
    expected = params.table[index] if channels is None else params.table[index, channels]
    assert np.array_equal(run_layer(case.spec, params, [x], IntArrays()), expected)
    assert np.array_equal(run_carried(case, overwrite=False), expected)


def test_maps_that_are_not_contiguous_are_looked_up_too() -> None:
    fmt = Format(8, False, 0)
    table = np.arange(256)[:, None] * [1, -1, 2]
    x = np.random.default_rng(4).integers(0, 256, (2, 4, 3, 5)).transpose(0, 1, 3, 2)
    case = LayerCase(LayerSpec("identity"), LayerParams(qmax=255, table=table), [fmt], [x])
    assert np.array_equal(run_carried(case, overwrite=False), x * [1, -1, 2])


def test_a_table_without_an_entry_for_what_comes_is_refused() -> None:
    x = [np.array([[3]])]
    params = LayerParams(qmin=0, qmax=7, table=np.arange(8))
    fits = LayerCase(LayerSpec("identity"), params, [Format(3, False, 0)], x)
    assert bounds_of(fits).output.hi == 7
    with pytest.raises(QuantizationError, match=r"'layer': integers in \[-4, 3\] enter a table"):
        bounds_of(LayerCase(LayerSpec("identity"), params, [Format(3, True, 0)], x))


def test_large_maps_are_convolved_in_pieces() -> None:
    rng = np.random.default_rng(0)
    fmt = Format(8, False, 0)
    window = Window((3, 3), (1, 1), "same")
    params = LayerParams(weights=rng.integers(-127, 128, (3, 3, 32, 4)))
    x = rng.integers(0, 256, (2, 70, 61, 32))
    case = LayerCase(LayerSpec("conv2d", window), params, [fmt], [x])
    expected = run_layer(case.spec, params, [x], IntArrays())
    assert np.array_equal(run_carried(case).astype(np.int64), expected)


def test_rescale_takes_one_scale_per_element_too() -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(-128, 128, (2, 3, 4, 5))
    params = LayerParams(
        scale=rng.integers(128, 256, (3, 4, 5)),
        shift=rng.integers(6, 10, (5,)),
        qmin=-128,
        qmax=127,
    )
    case = LayerCase(LayerSpec("identity"), params, [Format(8, True, 0)], [x])
    expected = naive_layer(case)
    assert np.array_equal(run_layer(case.spec, params, [x], IntArrays()), expected)
    assert np.array_equal(run_carried(case, overwrite=False), expected.astype(np.float32))
