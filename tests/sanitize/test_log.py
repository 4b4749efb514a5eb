"""The log of a rewrite: one line per rule and reason, in the names of the user's layers."""

import json

import keras
import pytest
from keras import layers

from sanitize import Log, LogEntry, read_keras, sanitize, sanitize_graph
from sanitize.log import layer_of, shortened


def network():
    """Three normalizations that fold, and a dropout."""
    image = keras.Input((8, 8, 3), name="image")
    x = image
    for index in range(3):
        x = layers.Conv2D(4, 3, padding="same", name=f"conv{index}")(x)
        x = layers.BatchNormalization(name=f"norm{index}")(x)
        x = layers.ReLU(name=f"relu{index}")(x)
    x = layers.Dropout(0.5, name="dropout")(x)
    return keras.Model(image, layers.Flatten(name="flat")(x))


@pytest.fixture(scope="module")
def log():
    return sanitize_graph(read_keras(network()))[1]


def row(log, rule, every=False):
    return [cells for cells in log.rows(every) if cells[1] == rule]


def test_a_rule_that_fired_often_is_one_line(log):
    (cells,) = row(log, "fold into producer")
    assert cells == (
        "norm0, norm1, norm2",
        "fold into producer",
        "3",
        "conv2d, batchnorm -> conv2d",
    )


def test_every_entry_has_a_line_of_its_own_if_asked(log):
    found = row(log, "fold into producer", every=True)
    assert [cells[0] for cells in found] == ["norm0", "norm1", "norm2"]
    assert found[0][3] == "'conv0' (conv2d), 'norm0' (batchnorm) -> 'conv0' (conv2d)"


def test_what_was_removed_and_changed_is_said(log):
    (cells,) = row(log, "drop identity")
    assert cells[0] == "dropout" and cells[3] == "'dropout' (identity) removed"


def test_refusals_for_the_same_reason_are_one_line_without_names():
    sentence = "'head{0}': the value of 'pad{0}' is an output of the network"
    entries = [
        LogEntry("pads", (f"head{i}",), (f"head{i}",), "refused", sentence.format(i), f"head{i}")
        for i in range(2)
    ]
    other = LogEntry("pads", ("end",), ("end",), "refused", "'end': it has no size", "end")
    log = Log((*entries, other))
    told = "refused: the value of '...' is an output of the network"
    assert log.rows() == [
        ("head0, head1", "pads", "2", told),
        ("end", "pads", "1", "refused: 'end': it has no size"),
    ]
    assert log.rows(every=True)[1][3] == f"refused: {entries[1].sentence}"
    assert log.summary == "0 rewrites by 0 rules, 3 refused"


def test_the_table_ends_in_the_totals(log):
    lines = str(log).splitlines()
    assert lines[0].split("  ")[0] == "layer" and set(lines[1]) == {"-"}
    assert lines[-1] == log.summary
    fired, refused = len(log.fired), len(log.refused)
    assert log.summary == f"{fired} rewrites by {len(log.counts())} rules, {refused} refused"
    assert Log().table() == "nothing to rewrite"


def test_the_rules_at_a_layer(log):
    assert "fold into producer" in log.rules_at("norm1")
    assert log.rules_at("dropout") == ("drop identity",)
    assert log.rules_at("flat") == ()


def test_a_log_goes_to_json_and_back(log):
    assert Log.from_config(json.loads(json.dumps(log.to_config()))) == log


def test_many_kinds_of_change_are_counted():
    entries = [
        LogEntry("r", ("n",), ("n",), "fired", f"'n' ({kind})", f"n{i}", f"{kind} changed")
        for i, kind in enumerate(["a", "b", "b", "c", "d", "e"])
    ]
    (cells,) = Log(tuple(entries)).rows()
    assert cells[3] == "2 x b changed; 1 x a changed; 1 x c changed; 2 others"


def test_sanitize_prints_the_table(capsys):
    sanitize(network(), verbose=True)
    out = capsys.readouterr().out
    assert "norm0, norm1, norm2" in out and "rewrites by" in out
    sanitize(network(), verbose=2)
    assert "'norm1' (batchnorm) -> 'conv1' (conv2d)" in capsys.readouterr().out


def test_names_are_shortened_to_a_width():
    assert shortened(["a", "b", "a"]) == "a, b"
    assert shortened(["first", "second", "third"], width=10) == "first and 2 more"
    assert shortened(["x" * 50, "y"], width=10) == f"{'x' * 50} and 1 more"


def test_the_layer_that_a_node_is_named_after():
    assert layer_of("inner/conv", ("pad", "inner/conv")) == "inner/conv"
    assert layer_of("conv/softmax", ("other", "conv")) == "conv"
    assert layer_of("made", ("conv", "pad")) == "conv"
    assert layer_of("made", ()) == "made"
