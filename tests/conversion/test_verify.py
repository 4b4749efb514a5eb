"""verify: exact where it should be, and where a program is wrong it says in which layer first."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest

from quantkeras.api import convert, quantize, verify
from quantkeras.calibration import calibrate
from quantkeras.errors import NonFiniteError, QuantizationError
from quantkeras.layers import InputQuantizer, QuantizedReLU
from quantkeras.numerics import Format
from quantkeras.runtime import Program

layers = keras.layers


def images(count=24, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 6, 6, 2)).astype(np.uint8)


@pytest.fixture(scope="module")
def quantized():
    """conv > pool > conv, add > flatten > dense, as scores and as probabilities."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6, 6, 2), name="image")
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(inputs)
    x = layers.MaxPooling2D(name="pool")(x)
    x = layers.Add(name="sum")([x, layers.Conv2D(4, 3, padding="same", name="second")(x)])
    scores = layers.Dense(3, name="scores")(layers.Flatten(name="flat")(x))
    outputs = [scores, layers.Softmax(name="probabilities")(scores)]
    return quantize(keras.Model(inputs, outputs, name="net"), samples=images())


@pytest.fixture(scope="module")
def program(quantized):
    return convert(quantized)


def with_layer(program, name, /, **changes):
    """A program with one layer changed; parameters of the layer by their names."""
    layer = program[name]
    own = {key: changes.pop(key) for key in list(changes) if hasattr(layer, key)}
    changed = replace(layer, params=replace(layer.params, **changes), **own)
    parts = [changed if part.name == name else part for part in program.layers]
    return Program(program.inputs, parts, program.outputs, program.float_tail, program.name)


def test_every_layer_and_prediction_is_compared(quantized, program):
    report = verify(quantized, program, images(5), batch_size=2)
    names = [layer.name for layer in report.layers]
    assert names == [
        "image",
        *(layer.name for layer in program.layers),
        "predict: scores_dequantizer",
    ]
    assert {"first", "second", "sum", "flat", "scores"} <= set(names)
    assert report.exact and report.samples == 5
    sizes = [int(np.prod(shape)) for shape in program.shapes.values()]
    assert report.elements == 5 * (sum(sizes) + 3)
    assert report.first_difference is None and report.samples_that_show_it == ()
    assert "net: exact" in str(report) and "differing" in str(report)
    config = json.loads(report.to_json())
    assert config["exact"] and config["first_difference"] is None


@pytest.mark.slow
def test_random_samples_fill_the_range_and_are_the_same_each_time(quantized, program):
    report = verify(quantized, program, num_samples=10)
    assert report.exact and report.samples == 10
    assert str(verify(quantized, program, num_samples=10)) == str(report)


@pytest.mark.slow
def test_float_inputs_by_name_a_shared_layer_and_outputs_by_name():
    keras.utils.set_random_seed(2)
    a, b = keras.Input((5, 5, 3), name="a"), keras.Input((5, 5, 3), name="b")
    conv = layers.Conv2D(3, 2, strides=2, name="shared")
    joined = layers.Concatenate(name="both")([conv(a), layers.ReLU()(conv(b))])
    features = layers.GlobalAveragePooling2D(name="features")(joined)
    outputs = {"z": layers.Dense(2, name="head")(features), "y": features}
    model = keras.Model({"b": b, "a": a}, outputs)
    rng = np.random.default_rng(0)
    samples = {name: rng.normal(size=(20, 5, 5, 3)).astype(np.float32) for name in ("a", "b")}
    quantized = quantize(model, samples=samples)
    report = verify(quantized, convert(quantized), samples)
    assert report.exact, report
    assert sum(layer.name.startswith("predict") for layer in report.layers) == 2
    assert verify(quantized, convert(quantized), num_samples=6).exact


def test_a_wrong_limit_is_found_in_its_first_layer_with_the_samples_that_show_it(
    quantized, program
):
    x = images(12, seed=3)
    right = program.run_integers(x, keep="all")
    largest = right["first"].max(axis=(1, 2, 3))
    limit = int(np.sort(largest)[-3]) - 1
    report = verify(quantized, with_layer(program, "first", qmax=limit), x, batch_size=5)
    found = report.first_difference
    assert not report.exact
    assert found.layer == "first" == report.first_layer.name
    assert report.samples_that_show_it == tuple(np.flatnonzero(largest > limit))
    assert found.sample == report.samples_that_show_it[0]
    assert found.keras == right["first"][(found.sample, *found.position)] > limit
    assert found.program == limit
    np.testing.assert_array_equal(found.inputs["image"], x[found.sample])
    np.testing.assert_array_equal(found.fed["image"], x[found.sample])
    row = report.first_layer
    assert row.differing == (right["first"] > limit).sum()
    assert row.largest == largest.max() - limit
    text = str(report)
    assert "NOT exact" in text and f"layer 'first', sample {found.sample}" in text


def test_a_difference_in_an_accumulator_is_told_in_its_integers(quantized, program):
    bias = program["scores"].params.bias.copy()
    bias[1] += 3
    report = verify(quantized, with_layer(program, "scores", bias=bias), images(4))
    found = report.first_difference
    assert (found.layer, found.position) == ("scores", (1,))
    assert found.program - found.keras == 3
    assert report.first_layer.differing == 4 and report.first_layer.largest == pytest.approx(3)
    assert [r.name for r in report.layers if r.differing] == [
        "scores",
        "predict: scores_dequantizer",
    ]


def test_a_wrong_format_is_a_difference_though_the_integers_agree(quantized, program):
    old = program["sum"].output_format
    fmt = Format(old.bits, old.signed, old.frac + 1)
    report = verify(quantized, with_layer(program, "sum", output_format=fmt), images(4))
    assert report.first_layer.name == "sum" and report.first_layer.note
    assert f"sum: format {old} in the model, {fmt} in the program" in str(report)


def test_a_wrong_input_scale_is_found_at_the_input():
    model = keras.Sequential([keras.Input((4,), name="x"), layers.Dense(2)])
    x = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    quantized = quantize(model, samples=x)
    program = convert(quantized)
    entry = replace(program.inputs[0], scale=np.float32(1.1) * program.inputs[0].scale)
    wrong = Program((entry,), program.layers, program.outputs, program.float_tail)
    report = verify(quantized, wrong, x)
    assert report.first_difference.layer == "x" and report.first_difference.inputs == {}


@pytest.mark.slow
def test_a_program_from_before_a_new_calibration(quantized):
    model = keras.models.clone_model(quantized)
    model.set_weights(quantized.get_weights())
    before = convert(model)
    calibrate(model, images() // 8)
    assert not verify(model, before, images(4)).exact
    assert verify(model, convert(model), images(4)).exact


@pytest.mark.slow
def test_json(quantized, program):
    broken = with_layer(program, "first", qmax=0)
    config = json.loads(verify(quantized, broken, images(3)).to_json())
    assert not config["exact"] and config["samples"] == 3
    assert config["layers"][0]["differing"] == 0 < config["layers"][1]["differing"]
    assert config["first_difference"]["layer"] == "first"
    assert config["samples_that_show_it"] == [0, 1, 2]


@pytest.mark.slow
def test_a_table_on_a_terminal_too(quantized, program, capsys, monkeypatch):
    report = verify(quantized, program, images(2))
    report.show()
    assert capsys.readouterr().out.strip() == str(report)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    report.show()
    assert "┃" in capsys.readouterr().out


def test_programs_of_other_models(quantized, program):
    new = {"first": "conv"}
    parts = [
        replace(
            part,
            name=new.get(part.name, part.name),
            inputs=tuple(new.get(name, name) for name in part.inputs),
        )
        for part in program.layers
    ]
    renamed = Program(program.inputs, parts, program.outputs)
    with pytest.raises(
        QuantizationError,
        match=r"does not belong to model 'net': layer 'first' is conv2d .* not there .*convert",
    ):
        verify(quantized, renamed, images(2))
    with pytest.raises(QuantizationError, match=r"takes a .* model and its Program, not str"):
        verify(quantized, "net.qkp", images(2))


def test_models_that_are_not_quantized(program):
    model = keras.Sequential([keras.Input((6, 6, 2)), layers.Flatten()])
    with pytest.raises(QuantizationError, match="no quantized layers"):
        verify(model, program)


def test_bad_samples(quantized, program):
    with pytest.raises(NonFiniteError, match=r"input 'image': NaN .* Remove or repair"):
        verify(quantized, program, np.full((2, 6, 6, 2), np.nan))
    with pytest.raises(QuantizationError, match=r"input 'image': expected samples of shape"):
        verify(quantized, program, np.zeros((2, 6, 6, 3)))


def test_sizes_that_are_not_known_cannot_be_converted():
    inputs = keras.Input((None, None, 2), name="any")
    integers = InputQuantizer(signed=False, per_channel=False, integer_input=True)(inputs)
    model = keras.Model(inputs, QuantizedReLU(name="relu")(integers))
    with pytest.raises(QuantizationError, match=r"\(None, None, 2\): a program needs known sizes"):
        convert(model)
