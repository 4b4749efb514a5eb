"""Programs run: golden numbers, arrangement of inputs and outputs, input checking, accuracy."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_programs import CONV_DENSE_X, CONV_DENSE_Y, S8, U8, conv_dense, gated, two_by_two
from strategies import exact_half_up, formats

from quantkeras.errors import NonFiniteError, QuantizationError
from quantkeras.numerics import Format
from quantkeras.numerics.layer import LayerParams, LayerSpec
from quantkeras.runtime import Program, ProgramInput, ProgramLayer

ENGINES = ["reference", "blas"]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64])
def test_golden_numbers(engine: str, dtype: type) -> None:
    result = conv_dense().predict(CONV_DENSE_X.astype(dtype), engine=engine)
    assert isinstance(result, np.ndarray)
    assert result.dtype == np.float32
    assert np.array_equal(result, CONV_DENSE_Y)


@pytest.mark.parametrize("engine", ENGINES)
def test_integers_of_every_tensor(engine: str) -> None:
    integers = conv_dense().run_integers(CONV_DENSE_X, "all", engine=engine)
    assert {name: x.reshape(-1).tolist() for name, x in integers.items()} == {
        "x": [10, 20, 30, 40],
        "conv": [113],
        "flatten": [113],
        "scores": [346, -566],
    }
    assert all(x.dtype == np.int64 for x in integers.values())
    assert list(conv_dense().run_integers(CONV_DENSE_X, ["conv"])) == ["conv"]
    assert conv_dense().run_integers(CONV_DENSE_X).tolist() == [[346, -566]]


def test_several_inputs_and_outputs() -> None:
    program = two_by_two()
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-128, 128, (3, 4, 4, 2)) for _ in range(2))
    values = [a / 16, b / 8]
    total, both = program.predict(values)
    window = (a + 2 * b).reshape(3, 2, 2, 2, 2, 2).sum(axis=(2, 4))
    assert np.array_equal(total, np.clip((window + 2) >> 2, -128, 127) / 16)
    assert np.array_equal(both, np.concatenate(values, axis=-1))
    named = program.predict({"b": values[1], "a": values[0]}, as_dict=True)
    assert list(named) == ["total", "both"]
    assert np.array_equal(named["total"], total)
    integers = program.run_integers([a, b], quantized=True)
    assert np.array_equal(integers[1], np.concatenate([a, b], axis=-1))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_gated_decoder_step_by_step(engine: str) -> None:
    program = gated()
    rng = np.random.default_rng(2)
    x, gate = rng.integers(-128, 128, (2, 3, 2, 2)), rng.integers(0, 256, (2, 1, 1, 2))
    found = program.run_integers([x, gate], "all", engine=engine, quantized=True)

    def rescaled(total: np.ndarray, shift: object) -> np.ndarray:
        halves = 1 << (np.asarray(shift) - 1)
        return np.clip((total * 181 + halves) >> np.asarray(shift), -128, 127)

    assert np.array_equal(found["product"], rescaled(x * gate, 13))
    up, summed = program["up"].params, np.zeros((2, 8, 6, 2), np.int64)
    for y, z, i, j in np.ndindex(3, 2, 4, 4):
        taps = up.weights[3 - i, 3 - j].astype(int)
        summed[:, 2 * y + i, 2 * z + j] += found["product"][:, y, z] @ taps
    index = rescaled(summed[:, 1:-1, 1:-1], [9, 10]) + 128
    assert np.array_equal(found["up"], up.table[index, [0, 1]])
    assert np.array_equal(found["turned"], found["up"][:, ::-1, ::-1])
    corner = found["turned"][:, :2, :2].sum((1, 2)) * 9
    assert np.array_equal(found["mean"][:, 0, 0], rescaled(corner, 13))
    assert np.array_equal(found["repeated"], np.kron(x, np.ones((1, 2, 2, 1), int)))
    assert np.array_equal(found["largest"], np.maximum(found["mean"], found["repeated"]))
    difference = found["mean"] - found["repeated"] * [1, 2]
    assert np.array_equal(found["difference"], rescaled(difference, 8))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 100, None])
def test_the_batch_size_changes_nothing(batch_size: int | None) -> None:
    x = np.random.default_rng(1).integers(0, 256, (7, 2, 2, 1))
    expected = conv_dense().predict(x, 7, engine="reference")
    assert np.array_equal(conv_dense().predict(x, batch_size), expected)


def test_verbose_shows_a_bar_on_terminals_only(capsys: pytest.CaptureFixture[str]) -> None:
    conv_dense().predict(CONV_DENSE_X, verbose=True)
    assert capsys.readouterr() == ("", "")


# -- the two ends -----------------------------------------------------------------------------


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=5),
    st.sampled_from([None, 1 / 255, 0.1, 3.0]),
    formats(),
)
def test_inputs_are_one_float32_product_then_exact(
    values: list[float], scale: float | None, fmt: Format
) -> None:
    factor = None if scale is None else np.float32(scale)
    entry = ProgramInput("x", (), fmt, None if factor is None else np.asarray(factor))
    x = np.array(values, np.float32)
    for value, integer in zip(x, entry.quantize(x), strict=True):
        scaled = value if factor is None else value * factor
        exact = Fraction(float(scaled)) * Fraction(2) ** int(fmt.frac)
        assert integer == min(max(exact_half_up(exact), fmt.qmin), fmt.qmax)


def test_inputs_saturate_and_ties_go_up() -> None:
    entry = ProgramInput("x", (), Format(4, True, 1))
    x = np.array([-100, -4.25, -4.0, -0.25, 0.25, 0.7499999, 3.25, 100])
    assert entry.quantize(x).tolist() == [-8, -8, -8, 0, 1, 1, 7, 7]


@given(st.integers(-(2**29), 2**29), st.floats(2.0**-20, 4.0, width=32))
def test_accumulators_are_dequantized_with_one_rounding(acc: int, scale: float) -> None:
    layer = replace(conv_dense()["scores"], output_scale=np.array(scale, np.float32))
    value = layer.dequantize(np.array([acc]))[0]
    exact = Fraction(acc) * Fraction(scale)
    below, above = (np.nextafter(value, np.float32(end)) for end in (-np.inf, np.inf))
    error = abs(Fraction(float(value)) - exact)
    assert error <= min(abs(Fraction(float(v)) - exact) for v in (below, above))
    if abs(acc) < 2**24:
        assert value == np.float32(acc) * np.float32(scale)


# -- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((1, 3, 2, 1)), r"'x' has shape \(1, 3, 2, 1\), not \(n, 2, 2, 1\)"),
        (np.zeros((2, 2, 1)), r"add a batch dimension: x\[None\]"),
        (np.zeros((0, 2, 2, 1)), "'x' is empty"),
        ([], "'x' is empty"),
        (3.0, r"'x' has shape \(\)"),
        (np.array([["a"]]), "'x' holds <U1, not numbers"),
        (np.array([None]), "'x' holds object, not numbers"),
        (np.ones((1, 2, 2, 1)) * 1j, "'x' holds complex128"),
        ([[1, 2], [3]], "'x' is no regular array"),
        ({"y": np.zeros((1, 2, 2, 1))}, "inputs named y .* are x"),
    ],
)
def test_wrong_inputs_are_refused_by_name(x: object, message: str) -> None:
    with pytest.raises(QuantizationError, match=message):
        conv_dense().predict(x)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_non_finite_inputs_are_refused_with_their_sample(bad: float) -> None:
    x = np.zeros((3, 2, 2, 1))
    x[1, 0, 0, 0] = bad
    with pytest.raises(NonFiniteError, match="'x' holds 1 numbers .* first in sample 1"):
        conv_dense().predict(x)


def test_wrong_numbers_of_inputs_and_samples() -> None:
    program = two_by_two()
    x = np.zeros((2, 4, 4, 2))
    with pytest.raises(QuantizationError, match="2 inputs: give a list in the order a, b"):
        program.predict(x)
    with pytest.raises(QuantizationError, match="number of samples: {'a': 2, 'b': 1}"):
        program.predict([x, x[:1]])


def test_quantized_inputs_are_integers_in_range() -> None:
    x = np.full((1, 2, 2, 1), 256)
    with pytest.raises(QuantizationError, match=r"'x' leaves the range 0 \.\. 255"):
        conv_dense().run_integers(x, quantized=True)
    with pytest.raises(QuantizationError, match="quantized inputs are integers"):
        conv_dense().run_integers(x / 2, quantized=True)


def test_wrong_arguments() -> None:
    program = conv_dense()
    with pytest.raises(QuantizationError, match="no engine 'gpu'; there are blas, reference"):
        program.predict(CONV_DENSE_X, engine="gpu")
    for size in (0, -1, 2.5, "2", True):
        with pytest.raises(QuantizationError, match="batch_size is .*a whole number of at least 1"):
            program.predict(CONV_DENSE_X, size)
    with pytest.raises(QuantizationError, match="no layer 'relu' to keep"):
        program.run_integers(CONV_DENSE_X, "relu")
    with pytest.raises(KeyError):
        program["relu"]


def test_a_list_of_one_array_is_one_input() -> None:
    assert np.array_equal(conv_dense().predict([CONV_DENSE_X]), CONV_DENSE_Y)
    samples = [CONV_DENSE_X[0].tolist()]
    assert np.array_equal(conv_dense().predict(samples), CONV_DENSE_Y)


# -- programs that do not fit together --------------------------------------------------------


def changed(**fields: object) -> Program:
    """`conv_dense` with other fields in its last layer."""
    program = conv_dense()
    last = replace(program.layers[-1], **fields)  # type: ignore[arg-type]
    return Program(program.inputs, (*program.layers[:-1], last), (last.name,))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "conv"}, "two tensors of the program are called 'conv'"),
        ({"inputs": ("later",)}, r"'scores' reads \['later'\]"),
        ({"inputs": ()}, "'scores' reads nothing"),
        ({"inputs": ("flatten", "flatten")}, r"\(dense\) takes one input"),
        ({"spec": LayerSpec("add")}, r"\(add\) cannot have weights"),
        ({"params": LayerParams()}, r"\(dense\) has no weights"),
        ({"output_scale": None}, "raw accumulator without a scale"),
        ({"output_shape": (3,)}, r"gives shape \(2,\) from \(1,\), not \(3,\)"),
        (
            {"params": LayerParams(weights=np.ones((1, 2), int), scale=np.array(3))},
            "both scale and shift",
        ),
        (
            {"params": LayerParams(weights=np.ones((1, 2), int), input_shifts=(np.array(-1),))},
            r"input_shifts in \[-1, -1\]; 0 to 62",
        ),
    ],
)
def test_faulty_layers_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(QuantizationError, match=message):
        changed(**fields)


def test_outputs_are_layers() -> None:
    program = conv_dense()
    with pytest.raises(QuantizationError, match="output 'x' is no layer"):
        Program(program.inputs, program.layers, ("x",))
    with pytest.raises(QuantizationError, match="needs outputs"):
        Program(program.inputs, program.layers, ())


def test_a_format_that_does_not_hold_the_integers_is_refused() -> None:
    add = ProgramLayer("add", LayerSpec("add"), LayerParams(), ("a", "a"), S8, (1,))
    program = Program((ProgramInput("a", (1,), S8),), (add,), ("add",))
    with pytest.raises(QuantizationError, match=r"'add' gives integers in \[-256, 254\]"):
        program.predict(np.zeros((1, 1)))


# -- accuracy ---------------------------------------------------------------------------------


def identity_classifier(classes: int) -> Program:
    layer = ProgramLayer("scores", LayerSpec("identity"), LayerParams(), ("x",), U8, (classes,))
    return Program((ProgramInput("x", (classes,), U8),), (layer,), ("scores",))


@pytest.mark.parametrize(
    "labels", [np.array([0, 1, 2, 0]), np.array([[0], [1], [2], [0]]), np.eye(3)[[0, 1, 2, 0]]]
)
def test_accuracy(labels: np.ndarray) -> None:
    x = np.array([[9, 1, 1], [1, 9, 1], [1, 9, 1], [9, 1, 1]])
    result = identity_classifier(3).evaluate(x, labels)
    assert result == {"accuracy": 0.75, "samples": 4}


@pytest.mark.parametrize(
    ("classes", "labels", "message"),
    [
        (3, np.zeros(3), r"labels of shape \(3,\) for 2 samples of 3 classes"),
        (3, np.array([0, 3]), r"0 \.\. 2"),
        (3, np.array(["a", "b"]), "class numbers"),
        (3, np.array([0, np.nan]), "hold NaN or infinity"),
        (3, np.full((2, 3), np.nan), "hold NaN or infinity"),
        (3, np.array([0, 1.5]), r"class numbers 0 \.\. 2.*there is 1\.5"),
        (1, np.zeros(2), "one score per class"),
    ],
)
def test_labels_are_checked(classes: int, labels: np.ndarray, message: str) -> None:
    with pytest.raises(QuantizationError, match=message):
        identity_classifier(classes).evaluate(np.zeros((2, classes)), labels)


def test_accuracy_needs_one_output() -> None:
    x = np.zeros((2, 4, 4, 2))
    with pytest.raises(QuantizationError, match="one output"):
        two_by_two().evaluate([x, x], np.zeros(2))
