"""The graph that Keras keeps of a model: its calls in order, their arguments, its nesting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from .call import Slot


def is_graph_model(layer: Any) -> bool:
    """Whether ``layer`` is a model whose computation is a graph of layers that can be walked."""
    if isinstance(layer, keras.Sequential):
        return type(layer).call is keras.Sequential.call and layer.built and bool(layer.inputs)
    if not isinstance(layer, keras.Model) or type(layer).call is keras.Model.call:
        return False
    return type(layer).call is _FUNCTIONAL_CALL


def _functional_call() -> Any:
    tensor = keras.Input((1,))
    return type(keras.Model(tensor, tensor)).call


_FUNCTIONAL_CALL = _functional_call()


def side_structure(model: Any, side: str) -> Any:
    """The inputs or outputs of a model as it nests them; a Sequential has one of each."""
    if isinstance(model, keras.Sequential):
        return getattr(model, side + "s")[0]
    return getattr(model, side)


def leaf_positions(structure: Any) -> Any:
    """The same nesting with the position of each leaf in the flattened order."""
    count = iter(range(len(keras.tree.flatten(structure))))
    nested = keras.tree.map_structure(lambda leaf: next(count), structure)
    return dict(nested) if isinstance(nested, dict) else nested


def calls_in_order(outputs: Sequence[Any], known: set[int]) -> list[Any]:
    """The call records that the output tensors need, producers first.

    ``_keras_history`` and ``_inbound_nodes`` are the only way that Keras offers from a tensor to
    the call that made it; this function is the one place that reads them.
    """
    order: dict[int, Any] = {}
    stack = [(tensor, False) for tensor in reversed(outputs)]
    while stack:
        tensor, ready = stack.pop()
        if id(tensor) in known:
            continue
        history = tensor._keras_history
        node = history.operation._inbound_nodes[history.node_index]
        if id(node) in order:
            continue
        if ready:
            order[id(node)] = node
        else:
            stack.append((tensor, True))
            stack += [(parent, False) for parent in reversed(node.input_tensors)]
    return list(order.values())


def called_again(tensors: Sequence[Any], outputs: Sequence[Any], fresh: Sequence[Any]) -> list[Any]:
    """The calls that lead from ``tensors`` to ``outputs``, made once more on ``fresh`` tensors.

    The layers are the same, so that sizes which were open become those of ``fresh``.
    """
    values = {id(old): new for old, new in zip(tensors, fresh, strict=True)}

    def fill(leaf: Any) -> Any:
        return values[id(leaf)] if isinstance(leaf, keras.KerasTensor) else leaf

    for node in calls_in_order(outputs, set(values)):
        given = (node.arguments.args, node.arguments.kwargs)
        args, kwargs = keras.tree.map_structure(fill, given)
        results = keras.tree.flatten(node.operation(*args, **kwargs))
        for old, new in zip(node.outputs, results, strict=True):
            values[id(old)] = new
    return [values[id(tensor)] for tensor in outputs]


def arguments_with_slots(node: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The call's arguments with tensors replaced by slots, numbered in flattened order.

    At inference Keras overrules a ``training=True`` of the graph.
    """
    count = iter(range(len(node.input_tensors)))

    def slot(leaf: Any) -> Any:
        return Slot(next(count)) if isinstance(leaf, keras.KerasTensor) else leaf

    args, kwargs = keras.tree.map_structure(slot, (node.arguments.args, node.arguments.kwargs))
    kwargs = {key: False if key == "training" else value for key, value in kwargs.items()}
    return tuple(args), kwargs
