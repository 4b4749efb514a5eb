"""The connections of a functional model, from Keras 2's notation to Keras 3's.

Keras 2 writes each call of a layer as a *node*: a list of [layer, call, output, keyword arguments],
"output number `output` of call number `call` of `layer`". The first three are a *reference*.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

from quantkeras.files.keras2.calls import CannotReplace, OpCall, Replacement, Tensor
from quantkeras.files.keras2.ops import replacement
from quantkeras.files.keras2.shape_values import ShapeValues

Config = dict[str, Any]

MODELS = ("Functional", "Sequential")
_FUNCTIONS = ("TFOpLambda", "SlicingOpLambda")


def keras3_name(name: str) -> str:
    """The name under which Keras 3 has a layer: it allows no "/"."""
    return name.replace("/", "_")


def upgrade_graph(config: Config, refusals: list[str]) -> None:
    """The connections of a functional model, in place; its layers are upgraded already."""
    for ends in ("input_layers", "output_layers"):
        if isinstance(config[ends], list) and len(config[ends]) == 1:
            config[ends] = config[ends][0]
    _rename_references(config)
    layers = {layer["name"]: layer for layer in config["layers"]}
    _count_calls_from_zero(config, layers)
    reasons: dict[str, str] = {}
    inputs = list(_leaves(config["input_layers"]))
    sizes = ShapeValues(config, lambda end: _needed([end, *inputs], layers))
    for layer in config["layers"]:
        if layer["class_name"] in _FUNCTIONS:
            try:
                _replace_function(layer, layers, sizes)
            except CannotReplace as reason:
                function = layer["config"]["function"]
                reasons[layer["name"]] = f"{layer['name']} (tf.{function}: {reason})"
        else:
            layer["inbound_nodes"] = [
                _with_keyword_tensors(node, layers) for node in layer["inbound_nodes"]
            ]
    # The batch size, computed only for a reshape that no longer asks for it, goes unused.
    used = _used_layers(config, layers)
    config["layers"] = [layer for layer in config["layers"] if layer["name"] in used]
    refusals += [reason for name, reason in reasons.items() if name in used]


def _rename_references(config: Config) -> None:
    for reference in _references(config):
        reference[0] = keras3_name(reference[0])


def _count_calls_from_zero(config: Config, layers: Mapping[str, Config]) -> None:
    """Numbers the calls of inner models from 0, where Keras 2 counted their creation as 0.

    Every call in the file is used by something, so the smallest number met is that of the first.
    """
    inner = {name for name, layer in layers.items() if layer["class_name"] in MODELS}
    references = [reference for reference in _references(config) if reference[0] in inner]
    first: dict[str, int] = {}
    for name, node, *_ in references:
        first[name] = min(node, first.get(name, node))
    for reference in references:
        reference[1] -= first[reference[0]]
    # Keras 3 itself takes 1 off where an output of the network is an inner functional model's.
    for reference in _leaves(config["output_layers"]):
        if layers[reference[0]]["class_name"] == "Functional":
            reference[1] += 1


def _references(config: Config) -> Iterator[list[Any]]:
    """Every [layer, call, output, ...] list of a functional model, to be edited in place."""
    names = {layer["name"] for layer in config["layers"]}
    for layer in config["layers"]:
        yield from _find_references(layer["inbound_nodes"], names)
    yield from _leaves(config["input_layers"])
    yield from _leaves(config["output_layers"])


def _find_references(value: Any, names: Container[str]) -> Iterator[list[Any]]:
    """The references anywhere inside the nested lists and dictionaries of `value`."""
    if _is_reference(value, names):
        yield value
        value = value[3:]
    if isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _find_references(inner, names)


def _is_reference(value: Any, names: Container[str]) -> bool:
    """Whether `value` is [layer name, call, output] or [layer name, call, output, arguments]."""
    return (
        isinstance(value, list)
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and isinstance(value[1], int)
        and keras3_name(value[0]) in names
    )


def _leaves(value: Any) -> Iterator[list[Any]]:
    """The [layer, call, output] lists of `input_layers` or `output_layers`, however nested."""
    if isinstance(value, list) and value and isinstance(value[0], str):
        yield value
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _leaves(inner)


def _replace_function(layer: Config, layers: Mapping[str, Config], sizes: ShapeValues) -> None:
    """Turns a TFOpLambda or SlicingOpLambda into a native layer of the same name, in place."""
    function = layer["config"]["function"]
    if len(layer["inbound_nodes"]) == 1:
        sizes.learn(layer["name"], _parse_call(function, layer["inbound_nodes"][0], layers))
        if sizes.knows(layer["name"]):
            raise CannotReplace("it computes sizes, which are known")
    calls = [_parse_call(function, node, layers, sizes) for node in layer["inbound_nodes"]]
    found = [replacement(sizes.with_rest(call)) for call in calls]
    if any((f.class_name, f.config) != (found[0].class_name, found[0].config) for f in found):
        raise CannotReplace("it is called several times with different arguments")
    layer["class_name"] = found[0].class_name
    layer["config"] = {
        "name": layer["name"],
        "dtype": layer["config"].get("dtype", "float32"),
        **found[0].config,
    }
    layer["inbound_nodes"] = [_node(f) for f in found]


def _node(found: Replacement) -> list[Any]:
    return [[tensor.layer, tensor.node, tensor.index, {}] for tensor in found.inputs]


def _parse_call(
    function: str,
    node: list[Any],
    layers: Mapping[str, Config],
    sizes: ShapeValues | None = None,
) -> OpCall:
    """A node of a function layer: [tensor or constant, arguments], or a list of such.

    sizes: what is known of tensors that are sizes; those become constants.
    """

    def value(item: Any) -> Any:
        if _is_reference(item, layers):
            found = Tensor(*item[:3])
            return found if sizes is None else sizes.constant(found)
        if isinstance(item, list) and item and item[0] == "_CONSTANT_VALUE":
            return item[2]
        return [value(inner) for inner in item] if isinstance(item, list) else item

    single = isinstance(node[0], str)
    arguments = (node if single else node[0])[3]
    rest = {name: value(item) for name, item in arguments.items()}
    return OpCall(function, value(node[:3]) if single else [value(n[:3]) for n in node], rest)


def _with_keyword_tensors(node: Any, layers: Mapping[str, Config]) -> Any:
    """A call of an ordinary layer; in Keras 3's notation if keyword arguments hold tensors."""
    arguments = node[0][3] if len(node[0]) > 3 else {}
    if not any(_is_reference(item, layers) for item in arguments.values()):
        return node

    def keras_tensor(reference: list[Any]) -> Config:
        # The shape is a placeholder: Keras 3 takes the tensor itself from the layer named.
        history = {"shape": [None], "dtype": "float32", "keras_history": reference[:3]}
        return {"class_name": "__keras_tensor__", "config": history}

    first = [keras_tensor(reference) for reference in node]
    rest = {
        name: keras_tensor(item) if _is_reference(item, layers) else item
        for name, item in arguments.items()
    }
    return {"args": [first[0] if len(first) == 1 else first], "kwargs": rest}


def _used_layers(config: Config, layers: Mapping[str, Config]) -> set[str]:
    """Names of the layers that an output of the model needs, and of its inputs."""
    inputs = list(_leaves(config["input_layers"]))
    return _needed([*inputs, *_leaves(config["output_layers"])], layers)


def _needed(references: Iterable[list[Any]], layers: Mapping[str, Config]) -> set[str]:
    """Names of the layers that these tensors come from, and all in front of them."""
    used: set[str] = set()
    waiting = [reference[0] for reference in references]
    while waiting:
        name = waiting.pop()
        if name not in used:
            used.add(name)
            nodes = layers[name]["inbound_nodes"]
            waiting += [reference[0] for reference in _find_references(nodes, layers)]
    return used
