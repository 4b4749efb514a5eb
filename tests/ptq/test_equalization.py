"""Cross-layer equalization: same function, equal ranges, and nothing is done silently."""

import keras
import numpy as np
import pytest
from exactness import as_numpy, assert_exact
from keras import layers
from parameters import slow

from quantkeras import QuantizationParams, mixed_precision
from quantkeras.api import quantize
from quantkeras.layers import WeightedLayer
from quantkeras.ptq import equalize, equalize_graph
from quantkeras.ptq.absorb import batchnorm_moments
from quantkeras.ptq.channel_links import find_links, input_range, magnitudes, output_range
from quantkeras.ptq.equalization import scaled_along
from sanitize import evaluate, sanitize_graph
from sanitize.keras_io import read_keras, write_keras

X = np.random.default_rng(3).normal(size=(6, 8, 8, 3)).astype(np.float32)


def unbalanced(model, octaves=4.0):
    """Kernels and biases whose channels differ by orders of magnitude."""
    rng = np.random.default_rng(8)
    for layer in model.layers:
        weights = layer.get_weights()
        if isinstance(layer, layers.BatchNormalization):
            size = len(weights[0])
            spread = 2.0 ** rng.uniform(-octaves / 2, octaves / 2, (3, size))
            new = [*spread[:1], rng.normal(size=size), 0.2 * rng.normal(size=size), *spread[1:2]]
            layer.set_weights(new)
        elif weights and not isinstance(layer, layers.PReLU):
            spread = 2.0 ** rng.uniform(-octaves, octaves, weights[0].shape[-1])
            if weights[0].ndim == 4 and isinstance(layer, layers.DepthwiseConv2D):
                spread = 2.0 ** rng.uniform(-octaves, octaves, weights[0].shape[2:])
            bias = [0.3 * rng.normal(size=w.shape) for w in weights[1:]]
            layer.set_weights([weights[0] * spread, *bias])
    return model


def sequential(*stack, shape=(8, 8, 3)):
    keras.utils.set_random_seed(2)
    return unbalanced(keras.Sequential([keras.Input(shape), *stack]))


def conv(filters=5, size=3, **kwargs):
    return layers.Conv2D(filters, size, **{"padding": "same", **kwargs})


def prelu():
    return layers.PReLU(shared_axes=(1, 2), alpha_initializer=keras.initializers.Constant(0.2))


def concatenated():
    """Branches of other layers and sizes, one with a clip of its own and all with one behind."""
    keras.utils.set_random_seed(2)
    image = keras.Input((8, 8, 3))
    first = layers.MaxPooling2D()(layers.ReLU(6.0)(conv(4)(image)))
    second = layers.MaxPooling2D()(prelu()(conv(5)(image)))
    both = layers.Concatenate()([first, second, layers.AveragePooling2D(2)(image)])
    x = conv(6)(layers.ReLU(6.0)(layers.UpSampling2D()(both)))
    return unbalanced(keras.Model(image, conv(3)(layers.ReLU()(x))))


NETWORKS = {
    "concatenation": concatenated,
    "convolutions": lambda: sequential(conv(), layers.ReLU(), conv(), layers.ReLU(), conv()),
    "batch normalizations": lambda: sequential(
        conv(), layers.BatchNormalization(), layers.ReLU(), conv(), layers.BatchNormalization()
    ),
    "relu6": lambda: sequential(conv(), layers.ReLU(6.0), conv(6), layers.ReLU(6.0), conv()),
    "slopes": lambda: sequential(conv(), prelu(), conv(), layers.LeakyReLU(0.1), conv()),
    "depthwise": lambda: sequential(
        conv(), layers.ReLU(6.0), layers.DepthwiseConv2D(3, depth_multiplier=2), layers.ReLU(),
        conv(4, 1), layers.ReLU(), conv(),
    ),
    "pools": lambda: sequential(
        conv(), layers.ReLU(6.0), layers.MaxPooling2D(), conv(), layers.AveragePooling2D(2),
        conv(), layers.ReLU(), layers.GlobalAveragePooling2D(), layers.Dense(4),
    ),
    "flatten": lambda: sequential(
        conv(4), layers.ReLU(6.0), layers.MaxPooling2D(4), layers.Flatten(),
        layers.Dense(6, activation="relu"), layers.Dense(3),
    ),
    "moved channels": lambda: sequential(
        conv(4), layers.Permute((3, 1, 2)), layers.Flatten(), layers.Dense(6), layers.Dense(3)
    ),
    "groups": lambda: sequential(
        conv(4), layers.ReLU(), conv(6, groups=2), layers.ReLU(), conv(4)
    ),
    "transposed": lambda: sequential(
        conv(4), layers.ReLU(), layers.Conv2DTranspose(5, 3, 2), layers.ReLU(), conv(4)
    ),
    "padding values": lambda: sequential(
        conv(4, 1), layers.BatchNormalization(), layers.Rescaling(2.0, 0.5), conv(4), conv(4)
    ),
}  # fmt: skip


QUICK = ("batch normalizations", "concatenation", "transposed")


@pytest.mark.parametrize("name", [*QUICK, *slow(*(name for name in NETWORKS if name not in QUICK))])
def test_the_function_is_unchanged_and_the_ranges_are_equal(name):
    model = NETWORKS[name]()
    equalized = equalize(model)
    wanted, found = (as_numpy(m(X * 3)) for m in (model, equalized))
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()
    graph, _ = sanitize_graph(read_keras(model))
    _, report = equalize_graph(graph)
    done = [link for link in report.links if not link.reason]
    assert done and max(link.before for link in done) > 2
    assert max(link.after for link in done) < 1.01, str(report)


def test_a_triple_has_the_closed_form_of_the_paper():
    model = sequential(conv(4), layers.ReLU(), layers.DepthwiseConv2D(3), layers.ReLU(), conv(4))
    graph, _ = sanitize_graph(read_keras(model))
    sizes = [magnitudes(node) for node in graph if "kernel" in node.weights]
    product = output_range(sizes[0]) * output_range(sizes[1]) * input_range(sizes[2])
    equalized, _ = equalize_graph(graph)
    after = [magnitudes(node) for node in equalized if "kernel" in node.weights]
    found = [output_range(after[0]), output_range(after[1]), input_range(after[2])]
    for ranges in found:
        np.testing.assert_allclose(ranges, np.cbrt(product), rtol=2e-3)


def test_a_clip_stays_a_clip_per_channel_in_one_hardware_layer():
    model = NETWORKS["relu6"]()
    inside = as_numpy(keras.Model(model.inputs[0], model.layers[1].output)(X * 3))
    assert inside.max() == 6.0  # the clip matters
    equalized = equalize(model)
    quantized = quantize(equalized, samples=X * 3)
    clipping = [x for x in quantized.layers if isinstance(x, WeightedLayer) and x.clips]
    assert len(clipping) == 2
    assert all(np.ptp(np.asarray(layer.clip_value)) > 0 for layer in clipping)
    program = assert_exact(quantized, X * 3, graph=False)
    assert len(program.layers) == 3


def test_each_branch_of_a_concatenation_has_a_link_to_its_channels():
    graph, _ = sanitize_graph(read_keras(concatenated()))
    links, reasons = find_links(graph)
    assert len(links) == 3 and len(reasons) == 1
    first, second = (link.origin for link in links[:2])
    np.testing.assert_array_equal(first, [0, 1, 2, 3, *[-1] * 8])
    np.testing.assert_array_equal(second, [*[-1] * 4, 0, 1, 2, 3, 4, *[-1] * 3])


def test_one_pass_is_not_enough_and_not_all():
    model = NETWORKS["convolutions"]()
    graph, _ = sanitize_graph(read_keras(model))
    _, report = equalize_graph(graph)
    assert report.rounds > 2
    assert all(abs(np.log(link.after)) < 5e-3 for link in report.links if not link.reason)


def high_bias(padding="valid", *between):
    """A ReLU that never clips, with channels far above zero, in front of a convolution."""
    model = sequential(
        conv(4), layers.BatchNormalization(), layers.ReLU(), *between, conv(4, padding=padding),
        layers.ReLU(), conv(2),
    )  # fmt: skip
    norm = model.layers[1]
    weights = norm.get_weights()
    weights[0], weights[1] = np.array([0.4, 0.5, 0.3, 0.2]), np.array([9.0, 12.0, 0.1, 7.0])
    weights[2:] = [np.zeros(4), np.ones(4)]
    norm.set_weights(weights)
    x = as_numpy(keras.Model(model.inputs[0], model.layers[0].output)(X))
    norm.set_weights([*weights[:2], x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))])
    return model


def test_high_biases_are_absorbed():
    model = high_bias()
    values = as_numpy(keras.Model(model.inputs[0], model.layers[1].output)(X))
    bound = np.maximum(0, np.array([9.0, 12.0, 0.1, 7.0]) - 3 * np.array([0.4, 0.5, 0.3, 0.2]))
    equalized = equalize(model, absorb_bias=True)
    raw = read_keras(model)
    graph, _ = sanitize_graph(raw)
    absorbed, report = equalize_graph(graph, batchnorm_moments(raw, graph))
    assert report.links[0].absorbed == 3
    wanted = evaluate(graph, X, dtype=np.float64)
    found = evaluate(absorbed, X, dtype=np.float64)
    # Values beyond three deviations differ; where there are none, all pixels are equal.
    beyond = ((values < bound) & (bound > 0)).any(axis=-1)
    touched = np.zeros_like(beyond)
    for n, i, j in np.argwhere(beyond):
        touched[n, max(i - 2, 0) : i + 3, max(j - 2, 0) : j + 3] = True
    touched = touched[:, 1:-1, 1:-1]
    gap = np.abs(found - wanted)[~touched]
    assert gap.max() < 1e-5 * np.abs(wanted).max()
    np.testing.assert_allclose(as_numpy(equalized(X)), found, atol=1e-3)
    assert_exact(quantize(equalized, samples=X), X, graph=False)


def test_absorbing_never_brings_a_sign_to_the_input_of_a_padded_layer():
    """Zeros around it would stand for less than zero; a higher padding gives way to zero."""
    for shift, absorbed in ((0.0, 0), (4.0, 3)):
        model = high_bias("same", layers.Rescaling(1.0, -shift))
        raw = read_keras(model)
        graph, _ = sanitize_graph(raw)
        result, report = equalize_graph(graph, batchnorm_moments(raw, graph))
        assert report.links[0].absorbed == absorbed
        padding = [n.weights["pad_value"] for n in result if "pad_value" in n.weights]
        assert all((values >= 0).all() for values in padding)
        assert bool(padding) == (shift > 0)


def test_a_normalization_in_front_says_nothing_of_the_output():
    model = sequential(
        layers.ReLU(), layers.BatchNormalization(), conv(4), layers.ReLU(), conv(4),
        layers.BatchNormalization(), layers.ReLU(), conv(3),
    )  # fmt: skip
    raw = read_keras(model)
    graph, _ = sanitize_graph(raw)
    found = batchnorm_moments(raw, graph)
    convolutions = [node.name for node in graph if node.kind == "conv2d"]
    assert list(found) == convolutions[1:2]
    norm = model.layers[5]
    np.testing.assert_allclose(found[convolutions[1]].mean, norm.beta, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[convolutions[1]].deviation, np.abs(norm.gamma), rtol=1e-4)


def test_values_with_other_readers_and_shared_layers_are_left_alone():
    keras.utils.set_random_seed(1)
    image = keras.Input((8, 8, 3))
    twice = conv(4, name="twice")
    x = conv(4, name="fork")(image)
    y = layers.Add()([twice(layers.ReLU()(x)), twice(x)])
    model = unbalanced(keras.Model(image, [conv(3, name="head")(y), layers.Softmax()(y)]))
    graph, _ = sanitize_graph(read_keras(model))
    equalized, report = equalize_graph(graph)
    assert all(link.reason for link in report.links)
    assert "read by" in report.links[0].reason and "shared" in str(report)
    before, after = (evaluate(g, X) for g in (graph, equalized))
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


def test_dead_channels_are_left_alone():
    model = NETWORKS["convolutions"]()
    first = model.layers[0]
    kernel, bias = first.get_weights()
    kernel[..., 1], kernel[..., 2] = 0.0, 1e-12
    first.set_weights([kernel, bias])
    wanted, found = (as_numpy(m(X)) for m in (model, equalize(model)))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


def test_it_prints_one_line_per_layer(capsys):
    equalize(NETWORKS["pools"](), verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert sum("conv2d" in line or "dense" in line for line in lines) == 4


@pytest.mark.slow
def test_an_onnx_convolution_without_group_attribute_is_one(tmp_path):
    onnx = pytest.importorskip("onnx")
    from sanitize.onnx_io import read_onnx

    rng = np.random.default_rng(0)
    helper, tensors = onnx.helper, []
    nodes, value = [], "x"
    for i in range(3):
        spread = 2.0 ** rng.uniform(-4, 4, (4, 1, 1, 1))
        kernel = (spread * rng.normal(size=(4, 4, 3, 3))).astype(np.float32)
        tensors.append(onnx.numpy_helper.from_array(kernel, f"w{i}"))
        nodes.append(helper.make_node("Conv", [value, f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"]))
        value = f"r{i}"
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, 4, 6, 6])
        for name in ("x", "r2")
    ]
    net = helper.make_graph(nodes, "net", ends[:1], ends[1:], tensors)
    model = helper.make_model(net, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    graph, _ = sanitize_graph(read_onnx(model))
    equalized, report = equalize_graph(graph)
    assert sum(not link.reason for link in report.links) == 2
    assert max(link.after for link in report.links) < 1.01
    x = rng.normal(size=(2, *graph[graph.inputs[0]].shape)).astype(np.float32)
    wanted, found = (as_numpy(m(x)) for m in (write_keras(graph), write_keras(equalized)))
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
    found = as_numpy(equalize(model)(x))
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
    params = mixed_precision(model, x, 0.7, widths=((4, 8), (8, 8)))
    assert {o.weight_bits for o in params.overrides} == {4, 8}


@pytest.mark.slow
def test_a_depthwise_network_is_saved():
    """Per-channel steps of weights do not help against unequal *input* channels."""
    from model_zoo import cifar10_demo, mobilenet_tiny

    (images, _), (x, y) = cifar10_demo()
    x, y = x[:300].astype(np.float32), y[:300].reshape(-1)
    graph, _ = sanitize_graph(read_keras(mobilenet_tiny.load()))
    rng = np.random.default_rng(0)
    for link in find_links(graph)[0]:
        factors = 2.0 ** rng.uniform(-3, 3, int(link.origin.max()) + 1)
        graph = scaled_along(graph, link, factors)
    unequal = write_keras(graph)

    def accuracy(model):
        return 100 * float(np.mean(as_numpy(model(x)).argmax(axis=1) == y))

    params = QuantizationParams(weight_bits=4, weight_range="mse")
    calibration = images[:128].astype(np.float32)
    as_it_is = accuracy(quantize(unequal, params, calibration))
    saved = accuracy(quantize(equalize(unequal), params, calibration))
    assert as_it_is < accuracy(unequal) - 30
    assert saved > accuracy(unequal) - 10


def test_factors_cross_a_padding_of_moved_channels():
    model = sequential(
        conv(4), layers.Permute((3, 1, 2)), layers.ZeroPadding2D(1), layers.Flatten(),
        layers.Dense(2), shape=(3, 4, 3),
    )  # fmt: skip
    graph = read_keras(model)
    (link,) = find_links(graph)[0]
    assert set(link.origin) == {0, 1, 2, 3} and link.origin.size == 6 * 5 * 4
    equalized, _ = equalize_graph(graph)
    x = np.random.default_rng(4).normal(size=(2, 3, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(evaluate(equalized, x), evaluate(graph, x), rtol=1e-4, atol=1e-4)
