"""The law: predict of a quantized model and of its program are the same, whatever the network.

And what the quantized model means without rounding is still the float model.
"""

import keras
import numpy as np
import pytest
from exactness import as_numpy, assert_exact, without_tail
from hypothesis import given
from hypothesis import strategies as st
from random_networks import WIDTHS, mostly_quantized, networks
from strategies import examples

from quantkeras.api import quantize
from quantkeras.conversion import convert
from quantkeras.qmodel.views import float_view
from quantkeras.quantization.params import QuantizationParams
from sanitize import evaluate, sanitize_graph
from sanitize.keras_io import read_keras

PARAMS = st.builds(
    QuantizationParams,
    **WIDTHS,
    weight_range=st.sampled_from(["minmax", "mse"]),
    ranges=st.sampled_from(["frozen", "frozen", "moving", "learned"]),
)


def check(attempts, network, params, graph):
    model, quantized, samples = attempts.quantize(network, params)
    feed = samples if len(samples) > 1 else samples[0]
    check_sanitized(model, samples)
    if params.scale_bits >= 8:
        check_meaning(model, quantized, feed)
    if convert(quantized).float_tail:
        # The float tail is not in the program: compare what comes before it.
        quantized = without_tail(quantized)
    assert_exact(quantized, feed, graph=graph, eager=not graph)


def outputs_of(model, feed):
    return [as_numpy(y) for y in keras.tree.flatten(model(feed, training=False))]


def assert_close(wanted, found, tolerance):
    for a, b in zip(wanted, found, strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= tolerance * max(np.abs(a).max(), 1e-3)


def check_sanitized(model, samples):
    """The rules keep the function."""
    graph, _ = sanitize_graph(read_keras(model))
    wanted = outputs_of(model, samples if len(samples) > 1 else samples[0])
    assert_close(wanted, keras.tree.flatten(evaluate(graph, samples)), 1e-3)


def check_meaning(model, quantized, feed):
    """Blocks, filled ranges and all: without rounding it is the float model.

    But for the 1/n of average poolings, which has scale_bits bits.
    """
    found = outputs_of(float_view(quantized), feed)
    assert_close(outputs_of(model, feed), found, 0.05)


def test_a_list_feeds_the_program_in_the_order_of_the_model():
    """Though the second input is the first that a layer reads."""
    inputs = [keras.Input((4, 4, 2), name=name) for name in ("first", "second")]
    x = keras.layers.Conv2D(2, 3, padding="same")(inputs[1])
    model = keras.Model(inputs, keras.layers.Subtract()([x, inputs[0]]))
    rng = np.random.default_rng(0)
    samples = [rng.normal(size=(8, 4, 4, 2)).astype(np.float32) for _ in inputs]
    program = assert_exact(quantize(model, samples=samples), samples)
    assert [entry.name for entry in program.inputs] == ["first", "second"]


def test_random_networks_eagerly():
    with mostly_quantized() as attempts:

        @examples(3, 40)
        @given(networks(), PARAMS)
        def run(network, params):
            check(attempts, network, params, graph=False)

        run()


@pytest.mark.slow
def test_random_networks_in_graph():
    with mostly_quantized() as attempts:

        @examples(2, 200)
        @given(networks(), PARAMS)
        def run(network, params):
            check(attempts, network, params, graph=True)

        run()
