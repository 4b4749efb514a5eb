"""The law: predict of a quantized model and of its program are the same, whatever the network."""

import warnings

import keras
import pytest
from exactness import assert_exact
from hypothesis import Phase, given, note, settings
from hypothesis import strategies as st
from random_networks import Network, networks

from quantkeras.api import quantize
from quantkeras.conversion import convert
from quantkeras.errors import AccumulatorTooWide, QuantizationError
from quantkeras.layers import Dequantizer
from quantkeras.params import QuantizationParams

PARAMS = st.builds(
    QuantizationParams,
    weight_bits=st.sampled_from([2, 4, 8, 8, 16]),
    activation_bits=st.sampled_from([3, 4, 8, 8, 16]),
    output_bits=st.sampled_from([4, 8, 8, 16]),
    per_tensor_activations=st.booleans(),
    last_output_bits=st.sampled_from([None, None, 8, 16]),
    input_bits=st.sampled_from([4, 8, 8, 16]),
    scale_bits=st.sampled_from([1, 4, 8, 8, 16]),
    weight_range=st.sampled_from(["minmax", "mse"]),
)


#: A network that fails is printed as drawn: making it smaller takes minutes.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)


def check(network: Network, params: QuantizationParams, graph: bool) -> None:
    note(f"{network}\n{params}")
    model, samples = network.build(), network.samples()
    feed = samples if len(samples) > 1 else samples[0]
    with warnings.catch_warnings():
        # A softmax in the middle, or what no rule could fold: the rest is still exact.
        warnings.filterwarnings("ignore", message=r".*stay float")
        try:
            quantized = quantize(model, params, feed)
        except AccumulatorTooWide:
            return  # 16 bits everywhere, refused as it should be
        except QuantizationError as error:
            assert "nothing in model" in str(error)
            return
    if convert(quantized).float_tail:
        # The float tail is not in the program: compare what comes before it.
        assert_exact(without_tail(quantized), feed, graph=graph, eager=not graph)
    else:
        assert_exact(quantized, feed, graph=graph, eager=not graph)


def without_tail(model):
    """The model up to its Dequantizers."""
    ends = [layer.output for layer in model.layers if isinstance(layer, Dequantizer)]
    return keras.Model(model.input, ends)


@settings(max_examples=15, phases=PHASES)
@given(networks, PARAMS)
def test_random_networks_eagerly(network, params):
    check(network, params, graph=False)


@settings(max_examples=5, phases=PHASES)
@given(networks)
def test_random_networks_in_graph(network):
    check(network, QuantizationParams(), graph=True)


@pytest.mark.slow
@settings(max_examples=200, phases=PHASES)
@given(networks, PARAMS)
def test_many_random_networks(network, params):
    check(network, params, graph=True)
