"""The engine, the log, shared layers, verification, and whole networks."""

import keras
import numpy as np
import pytest
from float_networks import (
    assert_sanitizes,
    kinds,
    mobilenet_like,
    predictions,
    random_batch,
    randomized,
    relative_error,
    resnet_like,
    sequential,
)
from keras import layers

from sanitize import Graph, Node, sanitize, sanitize_graph
from sanitize.keras_io import read_keras
from sanitize.match import Match, Rewrite, RewriteError, apply_rule
from sanitize.pipeline import rules_for
from sanitize.rules.batchnorm import FoldIntoProducer


def test_resnet_becomes_convolutions_and_relus():
    graph, log = assert_sanitizes(resnet_like())
    assert set(kinds(graph)) == {"conv2d", "relu", "add", "global_avg_pool", "dense", "softmax"}
    assert log.refused == ()


def test_mobilenet_becomes_convolutions_and_relus():
    graph, _ = assert_sanitizes(mobilenet_like())
    assert set(kinds(graph)) == {
        "conv2d", "depthwise_conv2d", "relu", "global_avg_pool", "flatten", "softmax",
    }  # fmt: skip
    assert np.allclose(graph.nodes[1].weights["pad_value"], 127.5)


def test_sanitize_returns_a_model_and_prints_its_log(capsys):
    model = resnet_like()
    result = sanitize(model, verbose=True)
    x = random_batch(model)
    assert relative_error(predictions(model, x), predictions(result, x)) < 1e-5
    assert "conv2d, batchnorm -> conv2d" in capsys.readouterr().out
    assert not any(isinstance(layer, layers.BatchNormalization) for layer in result.layers)
    assert len(model.layers) == len(resnet_like().layers)


def test_the_log_names_layers_and_reasons():
    x = keras.Input((4,))
    y = layers.BatchNormalization(name="bn")(layers.ReLU(name="act")(x))
    model = randomized(keras.Model(x, y))
    _, log = sanitize_graph(read_keras(model), rules=[FoldIntoProducer()])
    (entry,) = log.refused
    assert entry.nodes == ("bn", "act") and entry.source == ("bn", "act")
    assert entry.sentence == "'bn': its input comes from 'act' (relu), which has no weights"
    assert str(entry) == f"refused fold into producer: {entry.sentence}"


def test_every_rule_has_a_name_of_its_own_and_an_algebra():
    rules = rules_for("neuromorphic")
    assert len({rule.name for rule in rules}) == len(rules)
    assert all(type(rule).__doc__ for rule in rules)
    general = rules_for()
    assert not any(rule.hardware_only for rule in general)
    assert all(rule.hardware_only for rule in rules[len(general) :])


class TestSharedLayers:
    """A layer called several times keeps one set of weights."""

    def test_both_sites_fold_alike(self):
        conv, norm = layers.Conv2D(4, 3), layers.BatchNormalization()
        a, b = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
        outputs = [layers.ReLU()(norm(conv(x))) for x in (a, b)]
        model = randomized(keras.Model([a, b], layers.Concatenate()(outputs)))
        graph, _ = assert_sanitizes(model, {"fold into producer": 1})
        sites = [node for node in graph if node.kind == "conv2d"]
        assert sites[0].share == sites[1].share is not None
        assert sites[0].weights["kernel"] is sites[1].weights["kernel"]

    def test_chained_sites_fold_alike(self):
        conv, norm = layers.Conv2D(3, 3, padding="same"), layers.BatchNormalization()
        x = image = keras.Input((8, 8, 3))
        for _ in range(3):
            x = norm(conv(x))
        graph, _ = assert_sanitizes(randomized(keras.Model(image, x)), {"fold into producer": 1})
        assert kinds(graph) == ["conv2d"] * 3

    def test_different_followers_are_refused(self):
        conv = layers.Conv2D(4, 3, name="c")
        a, b = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
        outputs = [layers.BatchNormalization(gamma_initializer="ones")(conv(x)) for x in (a, b)]
        model = randomized(keras.Model([a, b], outputs))
        _, log = sanitize_graph(read_keras(model), rules=[FoldIntoProducer()])
        assert log.fired == ()
        assert "would need different weights" in log.refused[0].sentence

    def test_one_site_without_the_follower_is_refused(self):
        conv = layers.Conv2D(4, 3, name="c")
        a, b = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
        model = keras.Model([a, b], [layers.BatchNormalization()(conv(a)), conv(b)])
        _, log = sanitize_graph(read_keras(randomized(model)), rules=[FoldIntoProducer()])
        assert "at its call site 'c_1' the same rewrite is not possible" in log.refused[0].sentence

    def test_activation_of_a_shared_layer_splits_everywhere(self):
        conv = layers.Conv2D(3, 3, padding="same", activation="relu")
        x = image = keras.Input((8, 8, 3))
        model = randomized(keras.Model(image, conv(conv(x))))
        graph, _ = assert_sanitizes(model, {"split activation": 1})
        assert kinds(graph) == ["conv2d", "relu", "conv2d", "relu"]

    def test_nested_model_used_twice(self):
        inner = keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                layers.ZeroPadding2D(1),
                layers.Conv2D(4, 3, strides=2, activation="relu"),
                layers.BatchNormalization(),
                layers.Conv2D(2, 3, padding="same"),
                layers.BatchNormalization(),
            ],
            name="inner",
        )
        a, b = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
        model = randomized(keras.Model([a, b], layers.Add()([inner(a), inner(b)])))
        graph, _ = assert_sanitizes(model)
        assert sorted(kinds(graph)) == ["add", *["conv2d"] * 4, "relu", "relu"]


class Wrong:
    """relu(x) -> x, which is not the same."""

    name = "wrong on purpose"
    hardware_only = False

    def pattern(self, graph, node):
        return Match(node) if node.kind == "relu" else None

    def check(self, graph, match):
        return None

    def rewrite(self, graph, match):
        return Rewrite([match.anchor.name], [], {match.anchor.name: match.anchor.inputs[0]})


class Endless:
    """relu(x) -> relu(x), for ever."""

    name = "endless"
    hardware_only = False

    def pattern(self, graph, node):
        return Match(node) if node.kind == "relu" else None

    def check(self, graph, match):
        return None

    def rewrite(self, graph, match):
        return Rewrite(add=[match.anchor])


class Broken(Wrong):
    """Raises, as a rule with a fault in it would."""

    name = "broken"

    def check(self, graph, match):
        raise ZeroDivisionError("inside a rule")


def test_verification_names_the_rule_that_changed_the_function():
    graph = read_keras(sequential(layers.Conv2D(4, 3, activation="relu")))
    with pytest.raises(RewriteError, match="'wrong on purpose' changed what graph"):
        sanitize_graph(graph, rules=[*rules_for(), Wrong()])
    result, _ = sanitize_graph(graph, rules=[*rules_for(), Wrong()], verify=False)
    assert kinds(result) == ["conv2d"]


def test_verification_sees_through_a_saturated_softmax():
    model = sequential(
        layers.Flatten(), layers.Dense(4), layers.ReLU(), layers.Softmax(), shape=(4, 4, 3)
    )
    with pytest.raises(RewriteError, match="wrong on purpose"):
        sanitize_graph(read_keras(model), rules=[Wrong()])


def test_exceptions_in_rules_are_not_swallowed():
    graph = read_keras(sequential(layers.ReLU()))
    with pytest.raises(ZeroDivisionError, match="inside a rule"):
        sanitize_graph(graph, rules=[Broken()])


def test_rules_that_never_end_are_an_error():
    graph = read_keras(sequential(layers.ReLU()))
    with pytest.raises(RewriteError, match="'endless' does not come to an end"):
        apply_rule(graph, Endless())


def test_sanitizing_is_idempotent():
    for build in (resnet_like, mobilenet_like):
        graph, _ = sanitize_graph(read_keras(build()))
        again, log = sanitize_graph(graph)
        assert log.fired == () and [n.name for n in again] == [n.name for n in graph]


def test_graphs_without_keras_are_sanitized_too():
    generator = np.random.default_rng(0)
    weights = {"kernel": generator.normal(size=(4, 3)).astype(np.float32)}
    graph = Graph.build(
        [
            Node("x", "input", attrs={"dtype": "float32"}, shape=(4,)),
            Node("d", "dense", ("x",), {"activation": {"kind": "relu"}}, weights),
        ],
        ["x"],
        ["d"],
    )
    result, log = sanitize_graph(graph)
    assert kinds(result) == ["dense", "relu"] and log.counts() == {"split activation": 1}
