"""make_plan: which node joins which hardware layer, what is quantized, what stays float and why."""

import keras
from keras import layers

from quantkeras.params import QuantizationParams
from quantkeras.plan import Plan, make_plan
from sanitize import sanitize_graph
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


def test_what_stays_float_says_why():
    plan = planned(
        sequential(
            layers.Conv2D(4, 3, name="a"),
            layers.AveragePooling2D(3, 2, padding="same", name="border"),
            layers.Conv2D(4, 3, name="b"),
        )
    )
    reasons = {entry.node.name: entry.reason for entry in plan.floats}
    assert "padded border" in reasons["border"]
    assert reasons["b"] == "behind 'border', which is float"
    assert [entry.node.name for entry in plan.stops] == ["border"]


def test_a_function_at_the_end_is_expected():
    plan = planned(sequential(layers.Conv2D(4, 3), layers.Flatten(), layers.Softmax()))
    assert plan.stops == ()


def test_first_and_last_layers_have_settings_of_their_own():
    model = sequential(layers.Conv2D(4, 3, name="a"), layers.Flatten(), layers.Dense(2, name="b"))
    plan = planned(model, weight_bits=4, input_weight_bits=8, last_output_bits=6)
    assert plan.blocks["a"].settings.weight_bits == 8
    assert plan.blocks["b"].settings.weight_bits == 4
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
