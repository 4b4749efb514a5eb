"""Random small networks: the laws hold for layers in any order, not only for usual ones."""

import keras
import pytest
from float_networks import predictions, relative_error
from hypothesis import given, note
from parameters import slow
from random_networks import Network, networks
from strategies import examples

from sanitize import differences, evaluate, sanitize_graph
from sanitize.keras_io import read_keras, write_keras


def check(network: Network, target: str | None) -> None:
    """Read, rewritten and written it computes the same, and nothing is left to rewrite."""
    note(f"{network}\ntarget {target}")
    model, inputs = network.build(), network.samples()
    wanted = predictions(model, inputs)
    graph = read_keras(model)
    note(str(graph))
    assert relative_error(wanted, keras.tree.flatten(evaluate(graph, inputs))) < 1e-5
    result, log = sanitize_graph(graph, target)
    note(f"{log}\n{result}")
    found = keras.tree.flatten(evaluate(result, inputs))
    assert relative_error(wanted, found) < 2e-4
    written = write_keras(result)
    assert relative_error(wanted, predictions(written, inputs)) < 2e-4
    again, log = sanitize_graph(result, target)
    assert log.fired == () and differences(again, result) == []


@pytest.mark.parametrize("target", [None, "neuromorphic", *slow("generic", "pairwise")])
def test_sanitizing_keeps_the_function(target):
    @examples(3, 200)
    @given(networks(12))
    def run(network):
        check(network, target)

    run()
