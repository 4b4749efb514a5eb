"""Mixed precision within budgets, and the ladder of auto_quantize."""

import keras
import numpy as np
import pytest
from keras import layers

from quantkeras import QuantizationParams, auto_quantize, convert, mixed_precision
from quantkeras.api import quantize
from quantkeras.errors import QuantizationError
from quantkeras.ptq import ladder
from quantkeras.ptq.bit_widths import Choice, _useful
from quantkeras.ptq.scores import agreement
from quantkeras.runtime.costs import program_costs

X = np.random.default_rng(6).normal(size=(64, 6, 6, 3)).astype(np.float32)
WIDTHS = ((2, 3), (4, 4), (8, 8))


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(4)
    image = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, activation="relu", name="first")(image)
    x = layers.Conv2D(12, 3, activation="relu", name="second")(x)
    return keras.Model(image, layers.Dense(4, name="head")(layers.Flatten()(x)))


def weight_bytes(model, params):
    return program_costs(convert(quantize(model, params, X))).weight_bytes


@pytest.mark.slow
def test_a_share_of_the_size(model, capsys):
    full = weight_bytes(model, QuantizationParams())
    previous = None
    for budget in (1.0, 0.6, 0.4):
        params = mixed_precision(model, X, budget, widths=WIDTHS, verbose=True)
        size = weight_bytes(model, params)
        assert size <= budget * full and (previous is None or size < previous)
        previous = size
    assert "bytes of weights" in capsys.readouterr().out
    absolute = mixed_precision(model, X, 0.6 * full, widths=WIDTHS)
    assert absolute == mixed_precision(model, X, 0.6, widths=WIDTHS)


@pytest.mark.slow
def test_bits_go_where_they_help_most(model):
    params = mixed_precision(model, X, 0.5, "work", widths=WIDTHS)
    score = agreement(model, X)
    mixed = score(quantize(model, params, X))
    narrow = QuantizationParams(weight_bits=2, input_weight_bits=2, activation_bits=3)
    assert mixed > score(quantize(model, narrow, X))
    assert len({(o.weight_bits, o.activation_bits) for o in params.overrides}) > 1


@pytest.mark.slow
def test_a_budget_that_cannot_be(model):
    with pytest.raises(QuantizationError, match="the least is"):
        mixed_precision(model, X, 0.01, widths=WIDTHS)
    with pytest.raises(QuantizationError, match="metric is 'speed'"):
        mixed_precision(model, X, 0.5, "speed", widths=WIDTHS)
    with pytest.raises(QuantizationError, match="at least one pair"):
        mixed_precision(model, X, 0.5, widths=())


@pytest.mark.slow
def test_accuracy_raises_bits_until_it_is_kept(model):
    score = agreement(model, X)
    drops = {}
    for drop in (40.0, 2.0):
        params = mixed_precision(model, X, drop, "accuracy", widths=WIDTHS)
        assert score(quantize(model, params, X)) >= 100 - drop
        drops[drop] = weight_bytes(model, params)
    assert drops[40.0] < drops[2.0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*stay float")
def test_layers_stay_float_where_no_width_is_enough(model):
    score = agreement(model, X)
    params = mixed_precision(model, X, 12.0, "accuracy", widths=((3, 8),))
    assert params.float_layers
    assert score(quantize(model, params, X)) >= 88
    with pytest.raises(QuantizationError, match="no choice of widths and float layers"):
        mixed_precision(model, X, -1.0, "accuracy", widths=((3, 8),))


def test_widths_that_only_cost_are_not_used():
    choices = [Choice((4, 4), 5.0, 4, 4), Choice((4, 8), 6.0, 4, 8), Choice((8, 8), 1.0, 8, 8)]
    assert [c.widths for c in _useful(choices, "size")] == [(8, 8), (4, 4)]
    assert [c.widths for c in _useful(choices, "work")] == [(8, 8), (4, 4)]


def test_the_score_of_what_is_no_choice_is_a_ratio():
    image = keras.Input((6, 6, 3))
    model = keras.Model(image, layers.Conv2D(3, 1, use_bias=False)(image))
    score = agreement(model, X)
    assert score(model) == 100.0
    half = keras.models.clone_model(model)
    half.set_weights([0.9 * w for w in model.get_weights()])
    assert score(half) == pytest.approx(20.0, abs=1e-3)


def test_the_ladder_stops_at_the_first_that_is_good_enough(model):
    quantized, tried = auto_quantize(model, X, max_drop=10.0)
    assert tried.reached and [s.method for s in tried.steps] == [ladder.EXTREMES]
    assert agreement(model, X)(quantized) == tried.steps[0].score >= 90


@pytest.mark.slow
def test_the_ladder_to_its_end(model, monkeypatch, capsys):
    monkeypatch.setattr(ladder, "BLOCK_ITERATIONS", 30)
    params = QuantizationParams(weight_bits=2, input_weight_bits=2, activation_bits=3)
    quantized, tried = auto_quantize(
        model, X, max_drop=5.0, qparams=params, wider=((8, 8),), verbose=True
    )
    methods = [step.method for step in tried.steps]
    assert methods[0] == ladder.EXTREMES and methods == [
        ladder.EXTREMES, ladder.SQUARED, ladder.BIASES, ladder.EQUALIZED, ladder.LAYERS,
        ladder.BLOCKS, ladder.MIXED,
    ][: len(methods)]  # fmt: skip
    assert tried.reached and tried.steps[-1].drop <= 5.0  # three of 64 samples
    assert tried.chosen == methods[-1] in str(tried)
    assert agreement(model, X)(quantized) == tried.steps[-1].score
    assert ladder.SQUARED in capsys.readouterr().out


@pytest.mark.slow
def test_a_judge_of_the_user_and_a_goal_out_of_reach(model, monkeypatch):
    monkeypatch.setattr(ladder, "BLOCK_ITERATIONS", 2)
    score = agreement(model, X)
    _, tried = auto_quantize(model, X, max_drop=-1.0, eval_fn=score, wider=((8, 8),))
    assert not tried.reached and tried.float_score == 100.0
    assert tried.chosen in [step.method for step in tried.steps]
