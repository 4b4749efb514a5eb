"""QuantizationParams: legal values only, overrides in order, JSON both ways."""

import json
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantkeras.errors import QuantizationError
from quantkeras.quantization.params import LayerOverride, LayerSettings, QuantizationParams

WIDTHS = st.sampled_from([2, 3, 4, 5, 6, 7, 8, 16])
OBSERVERS = st.sampled_from(["minmax", "mse", "percentile:99.9", "moving_average:0.5", "sqnr"])
RANGES = st.sampled_from(["minmax", "mse"])
GIVEN = {
    "weight_bits": WIDTHS,
    "activation_bits": WIDTHS,
    "output_bits": WIDTHS,
    "per_tensor_activations": st.booleans(),
    "weight_range": RANGES,
    "observer": OBSERVERS,
}
OVERRIDES = st.builds(
    lambda pattern, kind, settings: LayerOverride(pattern, kind, **settings),
    st.sampled_from(["*", "conv_?", "head", "block[12]"]),
    st.sampled_from([None, "conv2d", "*conv*"]),
    st.fixed_dictionaries({"float": st.booleans()}, optional=GIVEN),
)
PARAMS = st.builds(
    QuantizationParams,
    **GIVEN,
    input_weight_bits=WIDTHS,
    input_dtype=st.sampled_from(["auto", "float32"]),
    input_bits=WIDTHS,
    scale_bits=st.integers(1, 16),
    buffer_bits=st.integers(16, 32),
    last_weight_bits=st.none() | WIDTHS,
    last_output_bits=st.none() | WIDTHS,
    ranges=st.sampled_from(["frozen", "moving", "learned"]),
    float_layers=st.lists(st.sampled_from(["a", "b*"])),
    overrides=st.lists(OVERRIDES, max_size=3),
)


@given(PARAMS)
def test_json_both_ways(params):
    assert QuantizationParams.from_json(params.to_json()) == params
    assert QuantizationParams.from_config(json.loads(json.dumps(params.to_config()))) == params
    assert hash(QuantizationParams.from_config(params.to_config())) == hash(params)


def test_files(tmp_path):
    params = QuantizationParams(weight_bits=4, overrides=[LayerOverride("head", weight_bits=8)])
    params.save(tmp_path / "p.json")
    assert QuantizationParams.load(tmp_path / "p.json") == params
    with pytest.raises(QuantizationError, match=r"gone.json' does not exist"):
        QuantizationParams.load(tmp_path / "gone.json")
    (tmp_path / "bad.json").write_text("{weight_bits: 4}")
    with pytest.raises(QuantizationError, match=r"bad.json': .* not valid JSON"):
        QuantizationParams.load(tmp_path / "bad.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(QuantizationError, match=r"binary.json'"):
        QuantizationParams.load(tmp_path / "binary.json")


def test_defaults():
    assert QuantizationParams().for_layer("conv", "conv2d") == LayerSettings(
        weight_bits=8,
        activation_bits=8,
        output_bits=8,
        per_tensor_activations=False,
        weight_range="minmax",
        observer="minmax",
        float=False,
        scale_bits=8,
        buffer_bits=32,
    )
    assert QuantizationParams().for_layer("head", last=True).output_bits is None


def test_immutable_and_plain_numbers():
    params = QuantizationParams(weight_bits=np.int64(4), per_tensor_activations=np.True_)
    assert type(params.weight_bits) is int and params.per_tensor_activations is True
    with pytest.raises(FrozenInstanceError):
        params.weight_bits = 2


# --- per layer ---------------------------------------------------------------------------------


def test_first_and_last_layer():
    params = QuantizationParams(weight_bits=4, input_weight_bits=8, last_output_bits=16)
    assert params.for_layer("a", first=True).weight_bits == 8
    assert params.for_layer("b").weight_bits == 4
    assert params.for_layer("c", last=True).weight_bits == 8
    assert replace(params, weight_bits=16).for_layer("c", last=True).weight_bits == 16
    lasting = replace(params, last_weight_bits=6)
    assert lasting.for_layer("c", last=True).weight_bits == 6
    assert lasting.for_layer("c").weight_bits == 4
    assert lasting.for_layer("c", first=True, last=True).weight_bits == 8
    assert params.for_layer("c", last=True).output_bits == 16
    forced = params.with_override("*", weight_bits=2, output_bits=5)
    assert forced.for_layer("a", first=True).weight_bits == 2
    assert forced.for_layer("c", last=True).output_bits == 5


def test_later_overrides_win_and_untouched_settings_stay():
    params = QuantizationParams(
        observer="mse",
        overrides=[
            LayerOverride("conv*", weight_bits=4, activation_bits=4),
            LayerOverride("conv_2", weight_bits=6),
            {"pattern": "*", "kind": "depthwise*", "weight_bits": 8},
        ],
    )
    assert params.for_layer("conv_1", "conv2d").weight_bits == 4
    second = params.for_layer("conv_2", "conv2d")
    assert (second.weight_bits, second.activation_bits, second.observer) == (6, 4, "mse")
    assert params.for_layer("conv_3", "depthwise_conv2d").weight_bits == 8
    assert params.for_layer("conv_3").weight_bits == 4  # no kind: overrides with a kind pass by
    assert params.for_layer("dense").weight_bits == 8


def test_float_layers_and_their_exceptions():
    params = QuantizationParams(
        float_layers=["head*"], overrides=[LayerOverride("head_2", float=False)]
    )
    assert params.for_layer("head_1").float
    assert not params.for_layer("head_2").float and not params.for_layer("body").float


def test_names_match_to_the_letter_case_and_sources():
    params = QuantizationParams().with_override("conv[1]", weight_bits=4)
    assert params.for_layer("conv[1]").weight_bits == 4  # the name itself
    assert params.for_layer("conv1").weight_bits == 4  # the glob
    assert params.for_layer("Conv1").weight_bits == 8
    assert params.for_layer("merged", source=("bn", "conv1")).weight_bits == 4


def test_unmatched_patterns():
    params = QuantizationParams(
        float_layers=["head", "tail"],
        overrides=[
            LayerOverride("conv*", weight_bits=4),
            LayerOverride("dense*", kind="conv2d", weight_bits=4),
            LayerOverride("typo", weight_bits=4),
            LayerOverride("typo", activation_bits=4),
        ],
    )
    assert params.unmatched(["conv1", "dense", "head"]) == ("tail", "typo")
    kinds = {"conv1": "conv2d", "dense": "dense", "head": None}
    assert params.unmatched(kinds) == ("tail", "dense*", "typo")


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "activation_bits",
        "weight_bits",
        "output_bits",
        "input_weight_bits",
        "last_weight_bits",
        "last_output_bits",
    ],
)
@pytest.mark.parametrize("value", [1, 0, -4, 9, 15, 17, 32, True, 8.0, "8", np.float32(8)])
def test_bad_widths(name, value):
    with pytest.raises(QuantizationError, match=f"{name} is .*2 to 8, or 16 bits"):
        QuantizationParams(**{name: value})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight_bits": None}, "weight_bits is None, a NoneType; expected a whole number"),
        ({"scale_bits": 17}, "scale_bits is 17; it must be 1 to 16 bits"),
        ({"buffer_bits": 8}, "buffer_bits is 8; it must be 16 to 32 bits"),
        ({"per_tensor_activations": 1}, "is 1; it must be True or False"),
        ({"input_dtype": "unit8"}, "'auto', 'uint8', 'int8', 'float32'. Did you mean 'uint8'"),
        ({"input_dtype": "int8", "input_bits": 4}, "input_bits is 4, but input_dtype 'int8' has 8"),
        ({"weight_range": "max"}, "weight_range is 'max'; it must be one of 'minmax', 'mse'"),
        ({"ranges": None}, "ranges is None"),
        ({"observer": "minmx"}, "observer is 'minmx'.*Did you mean 'minmax'"),
        ({"observer": "percentile:101"}, r"must be in \(0, 100\]"),
        ({"observer": 3}, "observer is 3; it must be text"),
        ({"float_layers": "head"}, r"must be a list of names"),
        ({"float_layers": [3]}, "an entry of float_layers is 3"),
        ({"overrides": LayerOverride("a", weight_bits=4)}, "must be a list of LayerOverride"),
        ({"overrides": ["a"]}, "An override must be a mapping"),
        ({"overrides": [{"pattern": "a", "weight_bit": 4}]}, "Did you mean 'weight_bits'"),
        ({"overrides": [{"weight_bits": 4}]}, "needs the setting 'pattern'"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(QuantizationError, match=message):
        QuantizationParams(**settings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pattern": "a"}, "sets nothing"),
        ({"pattern": "", "weight_bits": 4}, "LayerOverride.pattern is ''"),
        ({"pattern": "a", "kind": 3, "weight_bits": 4}, "LayerOverride.kind is 3"),
        ({"pattern": "a", "weight_bits": 9}, "LayerOverride.weight_bits is 9"),
        ({"pattern": "a", "float": 1}, "LayerOverride.float is 1"),
        ({"pattern": "a", "observer": "x"}, "LayerOverride.observer is 'x'"),
    ],
)
def test_bad_overrides(arguments, message):
    with pytest.raises(QuantizationError, match=message):
        LayerOverride(**arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"weight_bit": 4}', "no setting 'weight_bit'. Did you mean 'weight_bits'"),
        ('{"zzz": 4}', "There are: activation_bits"),
        ("[1]", r"must be a mapping of settings, got \[1\]"),
        ("{", "not valid JSON"),
    ],
)
def test_bad_json(text, message):
    with pytest.raises(QuantizationError, match=message):
        QuantizationParams.from_json(text)
