"""make_plan: which node joins which hardware layer, what is quantized, what stays float and why."""

import keras
import numpy as np
from keras import layers

from quantkeras.quantization.decide import make_plan
from quantkeras.quantization.params import QuantizationParams
from quantkeras.quantization.plan import FloatCause, Plan
from sanitize import sanitize_graph
from sanitize.graph import Graph, Node
from sanitize.keras_io import read_keras


def planned(model, **settings) -> Plan:
    graph, _ = sanitize_graph(read_keras(model))
    return make_plan(graph, QuantizationParams(**settings))


def chains(plan):
    return {name: [node.kind for node in block.nodes] for name, block in plan.blocks.items()}


def sequential(*parts, shape=(12, 12, 3)):
    return keras.Sequential([keras.Input(shape, name="image"), *parts])


def test_a_block_takes_pool_relu_and_average_in_the_order_of_the_hardware():
    plan = planned(
        sequential(
            layers.Conv2D(4, 3, name="a"),
            layers.MaxPooling2D(2),
            layers.ReLU(6.0),
            layers.Conv2D(4, 3, name="b", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, name="head"),
        )
    )
    assert chains(plan) == {
        "a": ["conv2d", "max_pool", "relu"],
        "b": ["conv2d", "relu", "global_avg_pool"],
        "head": ["dense"],
    }
    assert not plan.blocks["a"].signed and plan.blocks["a"].quantized_output
    assert not plan.blocks["head"].quantized_output
    assert "a: conv2d > max_pool > relu w8 -> uint8" in str(plan)
    assert "head: dense w8 -> accumulator" in str(plan)


def test_max_and_average_pooling_do_not_share_a_layer():
    plan = planned(
        sequential(
            layers.Conv2D(4, 3, name="a"),
            layers.MaxPooling2D(2),
            layers.AveragePooling2D(2, name="average"),
            layers.Conv2D(2, 1),
        )
    )
    assert chains(plan)["a"] == ["conv2d", "max_pool"]
    assert chains(plan)["average"] == ["avg_pool"]


def test_a_value_with_two_readers_ends_its_block():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(3, 1, name="a")(image)
    y = layers.Add(name="sum")([layers.ReLU(name="relu")(x), x])
    plan = planned(keras.Model(image, layers.Conv2D(2, 1)(y)))
    assert chains(plan)["a"] == ["conv2d"]
    assert chains(plan)["relu"] == ["relu"]
    assert plan.blocks["a"].signed and plan.blocks["a"].quantized_output


def test_unsigned_travels_through_movements_and_merges():
    a = keras.Input((8, 8, 3))
    x = layers.Conv2D(3, 1, activation="relu")(a)
    y = layers.MaxPooling2D(1)(layers.Conv2D(3, 1, activation="relu")(a))
    z = layers.Concatenate(name="both")([x, y])
    plan = planned(keras.Model(a, layers.Conv2D(2, 1)(z)))
    assert not plan.blocks["both"].signed


def test_call_sites_of_a_shared_layer_end_alike():
    a, b = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    shared = layers.Conv2D(3, 3, name="shared")
    x = layers.Add()([layers.ReLU()(shared(a)), shared(b)])
    plan = planned(keras.Model([a, b], layers.Conv2D(2, 1)(x)))
    sites = [block for block in plan.blocks.values() if block.core.share]
    assert len(sites) == 2
    assert all([node.kind for node in block.nodes] == ["conv2d"] for block in sites)


def reasons(plan):
    return {entry.node.name: entry.reason for entry in plan.floats}


def test_what_stays_float_says_why():
    plan = planned(
        sequential(
            layers.Conv2D(4, 3, name="a"),
            layers.PReLU(name="slopes"),
            layers.Conv2D(4, 3, name="b"),
        )
    )
    assert reasons(plan) == {
        "slopes": "its slope differs between positions, and tables between channels only",
        "b": "behind 'slopes', which is float",
    }
    assert [entry.cause for entry in plan.floats] == [FloatCause.SLOPES, FloatCause.BEHIND]
    assert [entry.node.name for entry in plan.stops] == ["slopes"]


def of_nodes(*nodes, **settings) -> Plan:
    """The plan of a graph written by hand, as sanitize would not leave it."""
    image = Node("image", "input", (), {"dtype": "float32"}, {}, (8, 8, 3))
    return make_plan(
        Graph.build([image, *nodes], ["image"], [nodes[-1].name], "by_hand", "image", None),
        QuantizationParams(**settings),
    )


def conv(name, source, shape=(8, 8, 3)):
    kernel = np.ones((1, 1, 3, shape[-1]), np.float32)
    attrs = {"strides": (1, 1), "padding": "same", "dilation": (1, 1), "groups": 1}
    return Node(name, "conv2d", (source,), attrs, {"kernel": kernel}, shape)


def test_what_no_hardware_layer_does():
    pad = {"padding": ((1, 1), (1, 1)), "value": 2.5}
    plan = of_nodes(
        conv("a", "image"), Node("framed", "pad", ("a",), pad, {}, (10, 10, 3)), conv("b", "framed")
    )
    assert reasons(plan)["framed"] == "it pads with 2.5, and integers with zeros only"
    three = Node("product", "multiply", ("a", "a", "a"), {}, {}, (8, 8, 3))
    plan = of_nodes(conv("a", "image"), three, conv("b", "product"))
    assert reasons(plan)["product"] == "it takes 3 inputs, and a hardware layer two"
    ones = np.ones(3, np.float32)
    statistics = {"mean": ones, "variance": ones}
    norm = Node("norm", "batchnorm", ("a",), {"epsilon": 0.1}, statistics, (8, 8, 3))
    assert "could not be folded" in reasons(of_nodes(conv("a", "image"), norm))["norm"]
    affine = Node("scaled", "affine", ("a",), {}, {"scale": ones, "offset": ones}, (8, 8, 3))
    assert reasons(of_nodes(conv("a", "image"), affine))["scaled"] == "affine has no integer form"


def test_sizes_have_to_be_fixed():
    plan = planned(sequential(layers.Conv2D(4, 3, name="a"), shape=(None, 12, 3)))
    assert not plan.blocks
    assert "is not fixed; give the model a fixed input size" in reasons(plan)["a"]


def test_a_function_at_the_end_is_expected():
    plan = planned(sequential(layers.Conv2D(4, 3), layers.Flatten(), layers.Softmax()))
    assert plan.stops == ()
    plan = planned(sequential(layers.Conv2D(1, 3, name="a", activation="sigmoid")))
    assert chains(plan) == {"a": ["conv2d"]} and plan.stops == ()
    assert not plan.blocks["a"].quantized_output
    assert "at the end of the model" in next(iter(reasons(plan).values()))


def test_a_function_joins_the_block_before_it():
    plan = planned(
        sequential(
            layers.Conv2D(4, 3, name="a", activation="silu"),
            layers.DepthwiseConv2D(3, name="b"),
            layers.MaxPooling2D(2),
            layers.LeakyReLU(0.1),
            layers.Conv2D(4, 1, name="c"),
            layers.AveragePooling2D(2, padding="same"),
            layers.Activation("sigmoid"),
            layers.Flatten(),
            layers.Dense(4, name="d"),
            layers.PReLU(),
            layers.Dense(3, name="head"),
        )
    )
    assert chains(plan) == {
        "a": ["conv2d", "activation"],
        "b": ["depthwise_conv2d", "max_pool", "activation"],
        "c": ["conv2d", "avg_pool", "activation"],
        "d": ["dense", "activation"],
        "head": ["dense"],
    }
    signs = {name: (block.table_signed, block.signed) for name, block in plan.blocks.items()}
    assert signs["a"] == (True, True) and signs["c"] == (True, False)
    assert "c: conv2d > avg_pool > activation w8 -> uint8" in str(plan)


def test_a_function_stands_alone_where_the_hardware_has_another_order():
    image = keras.Input((12, 12, 3))
    x = layers.Conv2D(4, 3, name="a", activation="relu")(image)
    x = layers.Activation("tanh", name="behind_relu")(x)
    x = layers.Conv2D(4, 3, name="b")(x)
    y = layers.Activation("silu", name="twice_read")(x)
    x = layers.Add(name="sum")([x, y])
    x = layers.Conv2D(4, 1, name="c", activation="silu")(x)
    x = layers.MaxPooling2D(2)(x)  # silu also decreases: the pool cannot go before it
    x = layers.Activation("silu", name="again")(x)
    plan = planned(keras.Model(image, layers.Conv2D(2, 1, name="head")(x)))
    assert chains(plan) == {
        "a": ["conv2d", "relu"],
        "behind_relu": ["activation"],
        "b": ["conv2d"],
        "twice_read": ["activation"],
        "sum": ["add"],
        "c": ["conv2d", "activation"],
        "again": ["activation"],
        "head": ["conv2d"],
    }
    behind = plan.blocks["behind_relu"]
    assert not behind.table_signed and not behind.signed  # tanh of what is never negative


def test_a_function_that_only_floats_read_still_has_a_format():
    """What leaves a table has some width, even where no integers read it."""
    image = keras.Input((12, 12, 3))
    x = layers.Conv2D(4, 3, name="a", activation="silu")(image)
    plan = planned(keras.Model(image, layers.Dense(3)(layers.Softmax()(x))), activation_bits=6)
    assert plan.blocks["a"].quantized_output and plan.blocks["a"].bits == 6


def test_what_a_table_gives_has_the_width_of_activations():
    model = sequential(layers.Conv2D(4, 3, name="a", activation="silu"), layers.Conv2D(4, 3))
    plan = planned(model, activation_bits=5, output_bits=7)
    assert plan.blocks["a"].bits == 5 and plan.blocks["a"].signed


def test_call_sites_with_unlike_functions_share_the_core_only():
    """Slopes are weights: two PReLU layers are the same kind, but not the same function."""
    image = keras.Input((8, 8, 3))
    shared = layers.Conv2D(3, 3, padding="same")
    x = image
    for slope in (0.1, 0.3):
        slopes = layers.PReLU(keras.initializers.Constant(slope), shared_axes=[1, 2])
        x = slopes(shared(x))
    plan = planned(keras.Model(image, layers.Conv2D(2, 1)(x)))
    assert [list(c) for c in chains(plan).values()] == [
        ["conv2d"],
        ["activation"],
        ["conv2d"],
        ["activation"],
        ["conv2d"],
    ]


def test_slices_and_upsampling_are_movements():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="a", activation="relu")(image)
    x = layers.UpSampling2D(2)(layers.Cropping2D(1)(x)[..., ::-1])
    joined = layers.Concatenate(name="both")([x[:, :, :4], x[:, :, 4:]])
    plan = planned(keras.Model(image, layers.Conv2D(2, 1, name="head")(joined)))
    assert list(plan.blocks) == ["a", "both", "head"]
    kinds = sorted(plan.graph[name].kind for name in plan.movements)
    assert set(kinds) == {"slice", "upsample"} and plan.floats == ()
    assert not plan.blocks["both"].signed  # unsigned travels through them
    assert plan.keeps_channels("a")


def test_a_max_pool_with_explicit_padding_that_nothing_takes_in_is_a_block():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="a")(image)
    pooled = layers.MaxPooling2D(3, 2, name="pool")(layers.ZeroPadding2D(1)(x))
    small = layers.Conv2D(4, 3, strides=2, padding="same", name="b")(x)
    plan = planned(keras.Model(image, layers.Add(name="sum")([pooled, small])))
    assert chains(plan)["pool"] == ["max_pool"]
    assert not plan.blocks["pool"].signed


def test_first_and_last_layers_have_settings_of_their_own():
    model = sequential(layers.Conv2D(4, 3, name="a"), layers.Flatten(), layers.Dense(2, name="b"))
    plan = planned(
        model, weight_bits=4, input_weight_bits=8, last_weight_bits=5, last_output_bits=6
    )
    assert plan.blocks["a"].settings.weight_bits == 8
    assert plan.blocks["b"].settings.weight_bits == 5
    assert plan.blocks["b"].quantized_output and plan.blocks["b"].bits == 6


def test_formats_per_channel_where_channels_stay():
    plan = planned(
        sequential(
            layers.Conv2D(4, 3, name="a"),
            layers.Permute((3, 1, 2)),
            layers.MaxPooling2D(2),
            layers.Conv2D(4, 1, name="b"),
            layers.MaxPooling2D(2, 1),
            layers.Flatten(),
            layers.Dense(2),
        )
    )
    assert not plan.keeps_channels(plan.blocks["a"].output)
    assert plan.keeps_channels(plan.blocks["b"].output)


def test_formats_per_channel_travel_with_slices_but_not_through_what_repeats_moved_channels():
    parts = {"slice": layers.Cropping2D(1), "upsample": layers.UpSampling2D(2)}
    kept = {}
    for kind, part in parts.items():
        plan = planned(
            sequential(
                layers.Conv2D(4, 3, name="a"), layers.Permute((3, 1, 2)), part, layers.Conv2D(4, 1)
            )
        )
        assert any(plan.graph[name].kind == kind for name in plan.movements)
        kept[kind] = plan.keeps_channels("a")
    assert kept == {"slice": True, "upsample": False}
