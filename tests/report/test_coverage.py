"""coverage: what became of each layer of the user's model, in the user's names."""

import json

import keras
import numpy as np
import pytest
from keras import layers
from reported_models import RunningSum, classifier, images, quantized

from quantkeras.api import convert, load_model, quantize, save_model
from quantkeras.errors import ModelFileError, QuantizationError
from quantkeras.quantization.decide import make_plan
from quantkeras.quantization.params import QuantizationParams
from quantkeras.quantization.provenance import Provenance, provenance_of
from quantkeras.report import coverage, planned_coverage
from sanitize import read_keras, sanitize_graph


@pytest.fixture(scope="module")
def model():
    return quantized(classifier())


@pytest.fixture(scope="module")
def report(model):
    return coverage(model)


def test_every_layer_of_the_user_has_a_row_in_order(report):
    assert [layer.name for layer in report.layers] == [
        "image", "pad", "conv", "norm", "relu", "dropout", "separable", "flat", "head",
    ]  # fmt: skip
    assert report["norm"].type == "BatchNormalization"
    statuses = {layer.name: layer.status for layer in report.layers}
    assert statuses == {
        "image": "input",
        "pad": "integer",
        "conv": "integer",
        "norm": "integer",
        "relu": "integer",
        "dropout": "removed",
        "separable": "integer",
        "flat": "integer",
        "head": "partly",
    }


def test_a_row_says_what_the_layer_became(report):
    assert report["conv"].became == "conv2d+relu"
    assert report["norm"].became == report["pad"].became == "merged into conv"
    assert report["dropout"].became == "removed"
    assert report["dropout"].reason == "drop identity"
    assert report["separable"].became == "depthwise_conv2d, conv2d+relu"
    assert report["flat"].became == "flatten"
    assert report["head"].became == "dense, softmax"
    assert report["head"].reason == "softmax at the end"
    assert report["norm"].rules == ("fold into producer",)


def test_a_row_has_the_numbers_of_the_hardware(model, report):
    program = convert(model)
    assert report["image"].output == "uint8.8"
    assert report["conv"].weights == "int8 per channel"
    assert report["conv"].output == str(program["conv"].output_format)
    assert report["flat"].output.startswith("uint8.")
    (conv,) = report["conv"].parts
    assert 9 < conv.accumulator_bits < 32 and report["conv"].accumulator.endswith(" bits")
    assert report["norm"].weights == report["norm"].output == ""
    assert coverage(model, program) == report
    assert coverage(model, accumulators=False)["conv"].accumulator == ""


def test_bits_are_those_of_each_layer():
    params = QuantizationParams(weight_bits=4, activation_bits=5)
    found = coverage(quantized(classifier(), qparams=params))
    assert found["conv"].weights == "int8 per channel"
    assert found["separable"].weights == "int4 per channel"
    assert found["conv"].output.startswith("uint5.")


def test_totals(report):
    assert report.total == 7 and not report.complete
    assert report.summary == (
        "6 of 7 layers integer; float in part: head (softmax at the end); removed: dropout"
    )
    assert str(report).splitlines()[-1] == report.summary


def test_a_model_without_a_float_end_is_complete():
    image = keras.Input((8, 8, 3))
    outputs = layers.Dense(3, name="scores")(layers.Flatten(name="flat")(image))
    found = coverage(quantized(keras.Model(image, outputs)))
    assert found.complete and found.summary == "2 of 2 layers integer"
    assert found["scores"].output == "accumulator"


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_saved_and_loaded_model_reports_the_same(suffix, model, report, tmp_path):
    save_model(model, tmp_path / f"net{suffix}")
    assert coverage(load_model(tmp_path / f"net{suffix}")) == report


def test_a_cloned_and_a_trained_model_still_know(model):
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert coverage(clone)["norm"].became == "merged into conv"


def test_layers_that_stay_float_say_why():
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, name="conv")(image)
    x = RunningSum(name="mine")(x)
    x = layers.Flatten(name="flat")(x)
    outputs = layers.Dense(3, name="head")(x)
    made = quantized(keras.Model(image, outputs))
    found = coverage(made)
    assert (found["mine"].status, found["mine"].type) == ("float", "RunningSum")
    assert found["mine"].became == "RunningSum" and "RunningSum has no integer form" in str(found)
    assert found["head"].reason.startswith("behind 'flat'") or "behind" in found["head"].reason
    assert found.summary.startswith("1 of 4 layers integer; float: mine (RunningSum has no")
    assert found.summary.endswith("and 2 more")
    assert [layer.name for layer in found.layers if layer.follows] == ["flat", "head"]
    assert coverage(keras.models.clone_model(made)).summary == found.summary
    config = provenance_of(made).to_config()
    del config["following"]  # files of before causes were kept
    assert Provenance.from_config(config).floats == provenance_of(made).floats
    asked = QuantizationParams(float_layers=("head",))
    found = coverage(quantized(classifier(), qparams=asked))
    assert found["head"].reason.startswith("kept in float as asked")


def test_nested_and_shared_layers_have_the_users_names():
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, padding="same", name="conv"),
            layers.BatchNormalization(name="norm"),
        ],
        name="backbone",
    )
    image, other = keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")
    shared = layers.Conv2D(3, 1, name="shared")
    y = layers.Add(name="sum")([inner(shared(image)), inner(shared(other))])
    y = layers.Dense(2, name="head")(layers.Flatten(name="flat")(y))
    siamese = keras.Model([image, other], y)
    fed = {"left": images(), "right": images()}
    found = coverage(quantize(siamese, samples=fed))
    names = [layer.name for layer in found.layers if layer.status != "input"]
    assert sorted(names) == ["backbone/conv", "backbone/norm", "flat", "head", "shared", "sum"]
    assert found["backbone/norm"].became == "merged into backbone/conv"
    assert found["shared"].weights == "int8 per channel"
    assert found.complete


def test_a_sequential_model_and_its_input_are_named():
    parts = [layers.Conv2D(4, 3, name="conv"), layers.Flatten(name="flat"), layers.Dense(2)]
    model = keras.Sequential([keras.Input((8, 8, 3), name="picture"), *parts])
    found = coverage(quantized(model))
    assert [layer.name for layer in found.layers][:3] == ["picture", "conv", "flat"]
    assert found["picture"].output == "uint8.8"


def test_without_a_record_each_layer_stands_for_itself(model):
    cut = keras.Model(model.inputs, model.get_layer("conv").output)
    found = coverage(cut)
    assert found["conv"].became == "conv2d+relu" and found.summary == "1 of 1 layers integer"


def test_what_a_plan_will_make():
    model = classifier()
    graph, log = sanitize_graph(read_keras(model))
    found = planned_coverage(model, make_plan(graph, QuantizationParams()), log)
    assert found.summary.startswith("if quantized, 6 of 7 layers integer")
    assert found["conv"].became == "conv2d+relu" and found["conv"].output == "uint8"
    assert found["norm"].became == "merged into conv"


def test_provenance_goes_to_json_and_back(model):
    found = provenance_of(model)
    assert Provenance.from_config(json.loads(json.dumps(found.to_config()))) == found
    assert found.sources["conv"] == ("conv", "pad", "norm", "relu")


def test_a_float_model_has_no_coverage():
    with pytest.raises(QuantizationError, match="'net' has no quantized layers.*quantize first"):
        coverage(classifier())
    with pytest.raises(QuantizationError, match="takes a quantized keras.Model, not ndarray"):
        coverage(np.zeros(3))


def test_files(report, tmp_path):
    report.save(tmp_path / "r.json")
    config = json.loads((tmp_path / "r.json").read_text())
    assert config["counts"]["integer"] == 6 and config["summary"] == report.summary
    (conv,) = [layer for layer in config["layers"] if layer["name"] == "conv"]
    assert conv["parts"][0]["weight_bits"] == 8 and conv["became"] == "conv2d+relu"
    assert len(config["log"]) == len(report.log.entries)
    report.save(tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text().startswith("<!DOCTYPE html>")
    with pytest.raises(ModelFileError, match=r"r\.txt: a report is written as \*\.json or"):
        report.save(tmp_path / "r.txt")


@pytest.mark.slow
def test_quantize_prints_it_if_asked(capsys):
    model = classifier()
    quantized(model)
    assert capsys.readouterr().out == ""
    quantized(model, verbose=True)
    out = capsys.readouterr().out
    assert "merged into conv" in out and "6 of 7 layers integer" in out
