"""A network's description as Keras 2 wrote it, rewritten so that Keras 3 reads the same network.

`upgrade(model_config)` takes and returns the JSON value of the .h5 attribute `model_config`:
{"class_name": ..., "config": {...}}. Remedies, each a table or function here or,
where it concerns the connections, in `graph`:

| what Keras 2 wrote | what Keras 3 gets |
|---|---|
| settings that no longer exist (`groups` of a depthwise convolution, `time_major`) | nothing |
| settings or classes under an old name, or in another notation | the new name, one notation |
| activation "hard_sigmoid", which Keras 3 computes with another slope | Keras 2's, by name |
| a mixed-precision policy object | its name |
| the input shape among the settings of a Sequential model's first layer | an InputLayer |
| calls of an inner model counted from 1 (0 was the model's own creation) | counted from 0 |
| TensorFlow functions (TFOpLambda, SlicingOpLambda) | native layers, see `ops` |
| tensors among the keyword arguments of a layer call | the same in Keras 3's notation |
| a list of one input or of one output | that tensor itself, as Keras 2 meant it |
| layer names with "/" | with "_" |
"""

import copy
from collections.abc import Container, Iterator, Mapping
from typing import Any

import keras

from quantkeras.errors import ModelFileError
from quantkeras.files.keras2.keras2_graph import MODELS, Config, keras3_name, upgrade_graph

_ANY = object()
_CONVOLUTION = {"groups": 1}
_SEPARABLE = {
    "groups": 1,
    "kernel_initializer": _ANY,
    "kernel_regularizer": _ANY,
    "kernel_constraint": _ANY,
}
_RECURRENT = {"time_major": False}
_SPATIAL_DROPOUT = {"trainable": _ANY, "noise_shape": None}

_DROPPED: Mapping[str, Mapping[str, Any]] = {
    "Conv1DTranspose": _CONVOLUTION,
    "Conv2DTranspose": _CONVOLUTION,
    "Conv3DTranspose": _CONVOLUTION,
    "DepthwiseConv1D": _CONVOLUTION,
    "DepthwiseConv2D": _CONVOLUTION,
    "SeparableConv1D": _SEPARABLE,
    "SeparableConv2D": _SEPARABLE,
    "SpatialDropout1D": _SPATIAL_DROPOUT,
    "SpatialDropout2D": _SPATIAL_DROPOUT,
    "SpatialDropout3D": _SPATIAL_DROPOUT,
    "GRU": _RECURRENT,
    "LSTM": _RECURRENT,
    "RNN": _RECURRENT,
    "SimpleRNN": _RECURRENT,
    "MultiHeadAttention": {
        "query_shape": _ANY,
        "key_shape": _ANY,
        "value_shape": _ANY,
        "softmax_robust_masking": False,
    },
}
"""Class -> setting that Keras 3 does not know -> the only value it may be dropped with."""

_DROPPED_ANYWHERE = {"rng_type": _ANY}

_RENAMED_CLASSES = {
    "Model": "Functional",
    "SyncBatchNormalization": "BatchNormalization",
    "Experimental>SyncBatchNormalization": "BatchNormalization",
    # x where it is above theta, else 0; Keras 3's ReLU with a threshold is the same.
    "ThresholdedReLU": "ReLU",
}
_RENAMED_SETTINGS = {
    "LeakyReLU": {"alpha": "negative_slope"},
    "ReLU": {"theta": "threshold"},
}
_ACTIVATIONS = {"hard_sigmoid": "quantkeras>keras2_hard_sigmoid"}
_INNER_LAYERS = ("layer", "cell", "forward_layer", "backward_layer")


def upgrade(model_config: Config) -> Config:
    """The same network in words Keras 3 reads; the argument is left as it is.

    Raises ModelFileError, naming every layer for which there is no remedy.
    """
    refusals: list[str] = []
    upgraded = _upgrade_layer(copy.deepcopy(model_config), refusals)
    if refusals:
        raise ModelFileError(
            f"Keras 3 has no equivalent for {len(refusals)} layer(s) of this Keras 2 network: "
            + "; ".join(refusals)
            + ". Rebuild these with layers in Keras 2 and save again, or export the network to ONNX"
        )
    return upgraded


def with_packages(network: Any, custom_objects: Mapping[str, Any]) -> dict[str, Any]:
    """custom_objects with the names that `network` has for them: "fn" serves "package>fn", too."""
    found = dict(custom_objects)
    for name in _registered_names(network):
        short = name.rpartition(">")[2]
        if name not in found and short in custom_objects:
            found[name] = custom_objects[short]
    return found


def with_names_for_functions(value: Any, names: Container[str]) -> Any:
    """A network in which each function among `names` is written as its name alone.

    Late Keras 2 writes {"class_name": "function", "config": name, ...}, and Keras 3 would look for
    it in a module only.
    """
    if isinstance(value, list):
        return [with_names_for_functions(inner, names) for inner in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == "function" and isinstance(value.get("config"), str):
        return value["config"] if value["config"] in names else value
    return {key: with_names_for_functions(inner, names) for key, inner in value.items()}


def _registered_names(value: Any) -> Iterator[str]:
    """The names with a package in the class names and functions of a network."""
    if isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _registered_names(inner)
    elif isinstance(value, str) and ">" in value:
        yield value


def _upgrade_layer(layer: Config, refusals: list[str]) -> Config:
    """One layer or model, and all that is inside it."""
    layer["class_name"] = _RENAMED_CLASSES.get(layer["class_name"], layer["class_name"])
    class_name = layer["class_name"]
    # The earliest Keras 2 files keep a Sequential model as the bare list of its layers.
    if isinstance(layer["config"], list):
        layer["config"] = {"name": layer.get("name", "sequential"), "layers": layer["config"]}
    config = layer["config"]
    for holder in (layer, config):
        if isinstance(holder.get("name"), str):
            holder["name"] = keras3_name(holder["name"])
    if class_name in MODELS:
        if class_name == "Sequential":
            _add_input_layer(config["layers"])
        config["layers"] = [
            _upgrade_layer(_in_old_notation(inner), refusals) for inner in config["layers"]
        ]
        if class_name == "Functional":
            upgrade_graph(config, refusals)
        return layer
    for inner in _INNER_LAYERS:
        if isinstance(config.get(inner), dict):
            config[inner] = _in_new_notation(_upgrade_layer(config[inner], refusals))
    _upgrade_settings(class_name, config, refusals)
    return layer


def _in_old_notation(layer: Config) -> Config:
    """A layer of a model without what late Keras 2 adds: its settings are in the old notation."""
    class_name = layer.get("registered_name") or layer["class_name"]
    added = ("module", "registered_name", "build_config", "compile_config")
    kept = {key: value for key, value in layer.items() if key not in added}
    return {**kept, "class_name": class_name}


def _in_new_notation(layer: Config) -> Config:
    """A layer inside a wrapper, with the module that late Keras 2 and Keras 3 look it up in."""
    class_name = layer["class_name"]
    if class_name in MODELS:
        module, class_name = "keras", "Sequential" if class_name == "Sequential" else "Model"
    elif hasattr(keras.layers, class_name):
        module = "keras.layers"
    else:
        return layer
    return {**layer, "module": module, "class_name": class_name, "registered_name": class_name}


def _add_input_layer(layers: list[Config]) -> None:
    """Writes a Sequential model's input shape, a setting of its first layer, as an InputLayer."""
    shape = layers[0]["config"].get("batch_input_shape") if layers else None
    if shape is not None and layers[0]["class_name"] != "InputLayer":
        dtype = layers[0]["config"].get("dtype", "float32")
        config = {"batch_input_shape": shape, "dtype": dtype, "name": "input"}
        layers.insert(0, {"class_name": "InputLayer", "config": config})


def _upgrade_settings(class_name: str, config: Config, refusals: list[str]) -> None:
    """The settings of one ordinary layer, in place."""
    if class_name != "InputLayer":
        config.pop("batch_input_shape", None)
    for setting, allowed in {**_DROPPED_ANYWHERE, **_DROPPED.get(class_name, {})}.items():
        value = config.pop(setting, allowed)
        if allowed is not _ANY and value != allowed:
            refusals.append(f"{config.get('name')} ({class_name}: {setting}={value})")
    for old, new in _RENAMED_SETTINGS.get(class_name, {}).items():
        if old in config:
            config[new] = config.pop(old)
    for setting in ("activation", "recurrent_activation"):
        if isinstance(config.get(setting), str):
            config[setting] = _ACTIVATIONS.get(config[setting], config[setting])
    axis = config.get("axis")
    if isinstance(axis, list) and len(axis) == 1:
        config["axis"] = axis[0]
    if isinstance(config.get("dtype"), dict):
        config["dtype"] = config["dtype"]["config"]["name"]
