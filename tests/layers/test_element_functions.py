"""Tables against float64, and their gradients against differences."""

from functools import cache

import numpy as np
import pytest
import tensorflow as tf
import test_function_layers as cases
from exactness import as_numpy
from parameters import slow
from test_function_layers import (
    FEW,
    NAMES,
    OTHERS,
    all_beside,
    attributes,
    side_by_side_functions,
)

from quantkeras.conversion import convert
from quantkeras.errors import QuantizationError
from quantkeras.layers import exact_ops as exact
from quantkeras.layers.element_function import (
    HIGHEST_EXPONENT,
    LOWEST_EXPONENT,
    check_exponent,
    minimum_of,
    value_rows,
)
from sanitize.functions import apply_activation


@cache
def program_of(names):
    return convert(side_by_side_functions(names)[0])


def half_up(x):
    return np.floor(x) + (x - np.floor(x) >= 0.5)


@pytest.mark.parametrize("name", [*FEW, *slow(*OTHERS)])
def test_every_entry_is_the_function_rounded_once(name):
    """round(float32(f(i * lsb)) / output_lsb): float32 is the only thing between f and its entry.

    Rounding f to float32 moves it by 2**-25 of itself, so an entry may differ from the one of
    float64 only where f / output_lsb lies that close to a tie.
    """
    model, _ = side_by_side_functions(all_beside(name))
    layer = model.get_layer(name)
    table = program_of(all_beside(name))[name].params.table
    entering, leaving = layer.table_quantizer, layer.output_quantizer
    integers = np.arange(entering.qmin, entering.qmax + 1)
    assert table.shape == integers.shape
    x = integers * as_numpy(entering.lsb()).astype(np.float64)
    with np.errstate(all="ignore"):
        values = apply_activation(attributes(name), {}, x)
    defined = np.isfinite(values)
    lsb = as_numpy(leaving.lsb()).astype(np.float64)

    def entries(values):
        return np.clip(half_up(values / lsb), leaving.qmin, leaving.qmax)

    with np.errstate(over="ignore"):
        wanted = entries(values[defined].astype(np.float32).astype(np.float64))
    np.testing.assert_array_equal(table[defined], wanted)
    exact_entries = entries(values[defined])
    scaled = values[defined] / lsb
    from_tie = np.abs(scaled - np.floor(scaled) - 0.5)
    excused = from_tie <= np.abs(scaled) * 2.0**-24
    assert ((table[defined] == exact_entries) | excused).all()
    assert (table[np.isnan(values)] == np.clip(0, leaving.qmin, leaving.qmax)).all()


def test_every_entry_of_a_prelu():
    case = cases.TestPrelu()
    model = case.model()
    layer = model.get_layer("layer")
    params = convert(model)["layer"].params
    integers = np.arange(layer.table_quantizer.qmin, layer.table_quantizer.qmax + 1)
    x = (integers * as_numpy(layer.table_quantizer.lsb()))[:, None].astype(np.float32)
    alpha = as_numpy(layer.alpha)
    values = np.where(x > 0, x, alpha * x)
    assert values.dtype == np.float32
    quantizer = layer.output_quantizer
    wanted = np.clip(half_up(values / as_numpy(quantizer.lsb())), quantizer.qmin, quantizer.qmax)
    np.testing.assert_array_equal(params.table, wanted)
    assert params.table.shape == (256, 3)


@pytest.mark.parametrize("name", NAMES)
def test_slopes_are_those_of_the_function(name):
    """Central differences over half a step, where no kink or pole lies between."""
    attrs = attributes(name)
    rows = value_rows(tuple(sorted(attrs.items())), 8, True)
    row = -5 - LOWEST_EXPONENT
    x = np.arange(-128, 128) * 2.0**-5

    def f(x):
        with np.errstate(all="ignore"):
            return apply_activation(attrs, {}, x)

    def slope(h):
        with np.errstate(all="ignore"):
            return (f(x + h) - f(x - h)) / (2 * h)

    fine, coarse = slope(2.0**-14), slope(2.0**-12)
    with np.errstate(invalid="ignore"):
        smooth = np.isfinite(fine) & (np.abs(fine - coarse) <= 1e-3 * (1 + np.abs(fine)))
    assert smooth.sum() > 100
    np.testing.assert_allclose(rows.slopes[row][smooth], fine[smooth], rtol=5e-3, atol=5e-3)


def test_the_gradient_of_a_look_up_is_the_slope_of_the_function():
    rows = value_rows((("function", "silu"),), 8, True)
    row = -4 - LOWEST_EXPONENT
    table, slopes = tf.constant(rows.values[row]), tf.constant(rows.slopes[row])
    y = tf.constant(np.arange(-128, 128, 5, dtype=np.float32)[:, None])
    weights = tf.constant(np.linspace(0.5, 2, y.shape[0], dtype=np.float32)[:, None])
    x = y * 2.0**-4
    with tf.GradientTape() as tape:
        tape.watch(x)
        looked_up = exact.look_up_through(x, y, table, slopes, -128)
        total = tf.reduce_sum(looked_up * weights)
    np.testing.assert_array_equal(as_numpy(looked_up)[:, 0], rows.values[row][::5])
    found = as_numpy(tape.gradient(total, x))
    points, h = as_numpy(x).astype(np.float64), 1e-5

    def silu(x):
        return x / (1 + np.exp(-x))

    wanted = (silu(points + h) - silu(points - h)) / (2 * h) * as_numpy(weights)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_table_per_channel_looks_up_each_channel_in_its_column():
    table = np.arange(24, dtype=np.float32).reshape(8, 3)
    y = np.random.default_rng(2).integers(-4, 4, (5, 2, 3))
    wanted = table[y + 4, np.arange(3)]
    np.testing.assert_array_equal(as_numpy(exact.look_up(y.astype(np.float32), table, -4)), wanted)


def test_rows_are_the_function_at_every_step():
    for bits, signed in ((8, True), (12, False)):
        rows = value_rows((("function", "sigmoid"),), bits, signed)
        low = -(2 ** (bits - 1)) if signed else 0
        integers = np.arange(low, low + 2**bits)
        for exponent in (LOWEST_EXPONENT, -7, 0, HIGHEST_EXPONENT):
            x = integers * 2.0**exponent
            wanted = (0.5 * (1 + np.tanh(x / 2))).astype(np.float32)
            np.testing.assert_array_equal(rows.values[exponent - LOWEST_EXPONENT], wanted)


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_finite_everywhere(name):
    rows = value_rows(tuple(sorted(attributes(name).items())), 8, True)
    assert np.isfinite(rows.values).all() and np.isfinite(rows.slopes).all()


def test_minima():
    assert minimum_of({"function": "sigmoid"}) == 0
    assert minimum_of({"function": "softplus"}) == 0
    assert minimum_of({"function": "cos"}) < 0
    assert minimum_of({"function": "tanh"}) == -1
    assert minimum_of({"function": "tanh"}, unsigned_input=True) == 0
    assert -0.28 < minimum_of({"function": "silu"}) < -0.27
    assert minimum_of({"function": "prelu"}) == -np.inf
    assert minimum_of({"function": "prelu"}, unsigned_input=True) == 0
    assert minimum_of({"function": "log"}) < 0


def test_steps_that_no_table_is_made_for():
    check_exponent(HIGHEST_EXPONENT, "fine")
    for exponent in (HIGHEST_EXPONENT + 1, LOWEST_EXPONENT - 1):
        with pytest.raises(QuantizationError, match=rf"'far': steps of 2\*\*{exponent} enter its"):
            check_exponent(exponent, "far")
