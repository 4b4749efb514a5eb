"""The rewriting of a Keras 2 network's description, remedy by remedy."""

import copy

import pytest

from quantkeras.errors import ModelFileError
from quantkeras.files.keras2.config import upgrade


def layer(class_name, name, *inputs, **config):
    """A layer called once on the named layers' first outputs."""
    nodes = [[[name_in, 0, 0, {}] for name_in in inputs]] if inputs else []
    return {
        "class_name": class_name,
        "name": name,
        "config": {"name": name, **config},
        "inbound_nodes": nodes,
    }


def function(name, tf_name, node):
    """A TensorFlow function in the graph, with its one node as Keras 2 writes it."""
    config = {"name": name, "function": tf_name, "dtype": "float32"}
    return {"class_name": "TFOpLambda", "name": name, "config": config, "inbound_nodes": [node]}


def functional(*layers, outputs, inputs=(("in", 0, 0),)):
    config = {
        "name": "net",
        "layers": list(layers),
        "input_layers": [list(i) for i in inputs],
        "output_layers": [list(o) for o in outputs],
    }
    return {"class_name": "Functional", "config": config}


def start():
    return layer("InputLayer", "in", batch_input_shape=[None, 4])


def upgraded_layer(model_config, name):
    layers = upgrade(model_config)["config"]["layers"]
    return next(found for found in layers if found["name"] == name)


def one_layer(class_name, **config):
    network = functional(start(), layer(class_name, "x", "in", **config), outputs=[("x", 0, 0)])
    return upgraded_layer(network, "x")


def test_the_argument_is_left_alone():
    network = functional(
        start(), layer("DepthwiseConv2D", "x", "in", groups=1), outputs=[("x", 0, 0)]
    )
    before = copy.deepcopy(network)
    upgrade(network)
    assert network == before


@pytest.mark.parametrize(
    ("class_name", "setting", "value"),
    [
        ("DepthwiseConv2D", "groups", 1),
        ("Conv2DTranspose", "groups", 1),
        ("SeparableConv2D", "kernel_regularizer", None),
        ("LSTM", "time_major", False),
        ("RandomFlip", "rng_type", "stateful"),
    ],
)
def test_settings_of_the_past_are_dropped(class_name, setting, value):
    assert setting not in one_layer(class_name, **{setting: value})["config"]


def test_a_setting_that_means_something_is_not_dropped_silently():
    with pytest.raises(ModelFileError, match=r"x \(LSTM: time_major=True\)"):
        one_layer("LSTM", time_major=True)


def test_renamed_classes_and_settings():
    assert one_layer("SyncBatchNormalization")["class_name"] == "BatchNormalization"
    assert one_layer("LeakyReLU", alpha=0.1)["config"]["negative_slope"] == 0.1
    policy = {"class_name": "Policy", "config": {"name": "mixed_float16"}}
    assert one_layer("Dense", dtype=policy)["config"]["dtype"] == "mixed_float16"


def test_the_old_hard_sigmoid_keeps_its_slope():
    config = one_layer("LSTM", activation="tanh", recurrent_activation="hard_sigmoid")["config"]
    assert config["recurrent_activation"] == "quantkeras>keras2_hard_sigmoid"
    assert config["activation"] == "tanh"


def test_calls_of_inner_models_are_counted_from_zero():
    inner = functional(start(), layer("Dense", "d", "in"), outputs=[("d", 0, 0)])
    inner |= {"name": "inner", "inbound_nodes": [[["in", 0, 0, {}]], [["inner", 1, 0, {}]]]}
    network = functional(
        start(),
        inner,
        {**layer("Add", "sum"), "inbound_nodes": [[["inner", 1, 0, {}], ["inner", 2, 0, {}]]]},
        outputs=[("sum", 0, 0), ("inner", 2, 0)],
    )
    assert upgraded_layer(network, "inner")["inbound_nodes"][1] == [["inner", 0, 0, {}]]
    nodes = upgraded_layer(network, "sum")["inbound_nodes"]
    assert nodes == [[["inner", 0, 0, {}], ["inner", 1, 0, {}]]]
    # Keras 3 itself takes one off an output of the network that is an inner functional model's.
    assert upgrade(network)["config"]["output_layers"] == [["sum", 0, 0], ["inner", 2, 0]]


def test_calls_of_inner_models_already_counted_from_zero_stay():
    inner = {"class_name": "Sequential", "name": "inner", "config": {"name": "inner", "layers": []}}
    inner["inbound_nodes"] = [[["in", 0, 0, {}]]]
    network = functional(start(), inner, layer("ReLU", "r", "inner"), outputs=[("r", 0, 0)])
    assert upgraded_layer(network, "r")["inbound_nodes"] == [[["inner", 0, 0, {}]]]


def test_functions_become_layers_of_the_same_name():
    network = functional(
        start(),
        layer("Dense", "d", "in"),
        function("tf.add", "math.add", ["in", 0, 0, {"y": ["d", 0, 0], "name": None}]),
        function("tf.scale", "math.multiply", ["_CONSTANT_VALUE", -1, 3, {"y": ["tf.add", 0, 0]}]),
        outputs=[("tf.scale", 0, 0)],
    )
    found = upgraded_layer(network, "tf.add")
    assert found["class_name"] == "Add"
    assert found["inbound_nodes"] == [[["in", 0, 0, {}], ["d", 0, 0, {}]]]
    found = upgraded_layer(network, "tf.scale")
    assert (found["class_name"], found["config"]["scale"]) == ("Rescaling", 3)
    assert found["inbound_nodes"] == [[["tf.add", 0, 0, {}]]]


def test_functions_that_nothing_needs_are_no_obstacle():
    shape = [["tf.item", 0, 0], 2, 2]
    network = functional(
        start(),
        function("tf.shape", "compat.v1.shape", ["in", 0, 0, {}]),
        function("tf.item", "__operators__.getitem", ["tf.shape", 0, 0, {"slice_spec": 0}]),
        function("tf.reshape", "reshape", ["in", 0, 0, {"shape": shape}]),
        outputs=[("tf.reshape", 0, 0)],
    )
    assert [found["name"] for found in upgrade(network)["config"]["layers"]] == ["in", "tf.reshape"]
    assert upgraded_layer(network, "tf.reshape")["config"]["target_shape"] == [2, 2]


def test_slashes_leave_names_and_references():
    network = functional(
        start(),
        layer("Dense", "block/a", "in"),
        function("tf.add", "math.add", ["in", 0, 0, {"y": ["block/a", 0, 0]}]),
        outputs=[("tf.add", 0, 0)],
    )
    assert upgraded_layer(network, "block_a")["config"]["name"] == "block_a"
    nodes = upgraded_layer(network, "tf.add")["inbound_nodes"]
    assert nodes == [[["in", 0, 0, {}], ["block_a", 0, 0, {}]]]


def test_a_single_input_or_output_is_no_list():
    config = upgrade(functional(start(), outputs=[("in", 0, 0)]))["config"]
    assert config["input_layers"] == config["output_layers"] == ["in", 0, 0]


def test_sequential_as_a_bare_list_with_the_shape_in_its_first_layer():
    network = {"class_name": "Sequential", "config": [layer("Dense", "d", batch_input_shape=[2])]}
    layers = upgrade(network)["config"]["layers"]
    assert [found["class_name"] for found in layers] == ["InputLayer", "Dense"]
    assert layers[0]["config"]["batch_input_shape"] == [2]
    assert "batch_input_shape" not in layers[1]["config"]
