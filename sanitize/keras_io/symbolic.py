"""Calling models and layers on symbolic tensors, so that what they compute shows as a graph.

A subclass of Model, a layer that holds layers and a Lambda written with Keras operations are Python
functions. Called on a tensor without numbers they leave a record of every layer and operation that
they use, with the same weights. Functions of a backend (``tf.``, ``jax.``, ``torch.``), branches
that ask for numbers and the like do not take such tensors: then there is no record.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from ..graph import GraphError
from ..shapes import Shape
from .call import Call, Slot
from .keras_graph import called_again, calls_in_order, is_graph_model, side_structure
from .trial import UNFIT

#: Where the layers that are opened do not come from: those of Keras stand for themselves.
_CLOSED = ("keras", "quantkeras", "sanitize")

#: Sizes of the batch to try: any, and one, for code that computes with the size of the batch.
_BATCHES = (None, 1)


def trace_inside(call: Call) -> bool:
    """Whether to look inside the layer of a call: a Lambda, or a layer of the user's own."""
    layer = call.operation
    if not isinstance(layer, keras.layers.Layer) or not call.values or not call.batched:
        return False
    if isinstance(layer.dtype_policy, keras.dtype_policies.QuantizedDTypePolicy):
        return False
    own = type(layer).__module__.partition(".")[0] not in _CLOSED
    return own or isinstance(layer, keras.layers.Lambda)


def trace_call(call: Call) -> tuple[list[Any], list[Any]] | None:
    """Symbolic inputs and outputs of what a layer computes inside; None where it shows nothing."""
    for batch in _BATCHES:
        inputs = [
            keras.KerasTensor((batch, *shape), dtype)
            for shape, dtype in zip(call.shapes, call.dtypes, strict=True)
        ]

        def fill(leaf: Any, tensors: Sequence[Any] = inputs) -> Any:
            return tensors[leaf.index] if isinstance(leaf, Slot) else leaf

        args, kwargs = keras.tree.map_structure(fill, (call.args, dict(call.kwargs)))
        try:
            # Inside a scope nothing that a call may change is changed.
            with keras.StatelessScope():
                results = call.operation.call(*args, **_at_inference(call.operation.call, kwargs))
        except UNFIT:
            continue
        outputs = keras.tree.flatten(results)
        symbolic = all(isinstance(tensor, keras.KerasTensor) for tensor in outputs)
        if symbolic and _same_shapes([tensor.shape for tensor in outputs], call.outputs, batch):
            _name_operations(inputs, outputs)
            return inputs, outputs
    return None


def _name_operations(inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Name bare operations by their order: Keras counts on through all that was ever called.

    So a model that is read twice has the same names twice.
    """
    calls = calls_in_order(outputs, {id(tensor) for tensor in inputs})
    operations = list({id(node.operation): node.operation for node in calls}.values())
    bare = [op for op in operations if not isinstance(op, keras.layers.Layer)]
    taken = {op.name for op in operations if isinstance(op, keras.layers.Layer)}
    for operation in bare:
        wish = re.sub(r"_\d+$", "", operation.name)
        name, count = wish, 0
        while name in taken:
            count += 1
            name = f"{wish}_{count}"
        operation.name = name
        taken.add(name)


def _at_inference(function: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    if "training" in kwargs or "training" not in inspect.signature(function).parameters:
        return dict(kwargs)
    return {**kwargs, "training": False}


def _same_shapes(found: Sequence[Any], wanted: Sequence[Shape], batch: int | None) -> bool:
    return len(found) == len(wanted) and all(
        tuple(shape[:1]) == (batch,) and tuple(shape[1:]) == tuple(other)
        for shape, other in zip(found, wanted, strict=True)
    )


def symbolic_model(model: Any, shapes: Any = None, dtypes: Any = None) -> Any:
    """A functional model of the same layers and weights as ``model``, for inputs of these shapes.

    ``shapes``: unbatched, nested as the model takes its inputs: a tuple, or a list or dict of them;
    None: those that the model was built with. ``dtypes``: one for all inputs, or a dict by name;
    None: those of the model, or float32. A model that is not built yet is built.

    Returns ``model`` itself if it is functional and its sizes are known and are those of
    ``shapes``. Raises GraphError for a model that cannot be called on a symbolic tensor.
    """
    if is_graph_model(model) and shapes is None:
        return model
    if is_graph_model(model):
        return _of_other_sizes(model, shapes)
    if isinstance(model, keras.Sequential):
        return _built_sequential(model, shapes)
    shapes = _known_shapes(model) if shapes is None else shapes
    reasons = []
    for batch in _BATCHES:
        inputs = _symbolic_inputs(shapes, dtypes, batch)
        try:
            if not model.built:
                model(inputs)
            outputs = model.call(inputs, **_at_inference(model.call, {}))
            _name_operations(keras.tree.flatten(inputs), keras.tree.flatten(outputs))
            return keras.Model(inputs, outputs, name=model.name)
        except UNFIT as error:
            reasons.append(str(error).strip().splitlines()[0] if str(error) else repr(error))
    raise GraphError(
        f"model '{model.name}' ({type(model).__name__}) cannot be read: its call does not work on"
        f" a symbolic tensor ({reasons[-1]}). Write its call with Keras layers and keras.ops, or"
        " make a functional model of it"
    )


def _of_other_sizes(model: Any, shapes: Any) -> Any:
    """A functional model of the same layers whose inputs have the sizes ``shapes``."""
    tensors, outputs = keras.tree.flatten(model.inputs), keras.tree.flatten(model.outputs)
    given = _in_order(tensors, shapes)
    own = [tuple(tensor.shape[1:]) for tensor in tensors]
    if given == own:
        return model
    for shape, sizes, tensor in zip(given, own, tensors, strict=True):
        if len(shape) != len(sizes) or any(
            size not in (None, number) for size, number in zip(sizes, shape, strict=True)
        ):
            name = tensor._keras_history.operation.name
            raise GraphError(
                f"shapes= gives {shape} for the input '{name}' of model '{model.name}', which"
                f" takes {sizes} behind the batch"
            )
    fresh = [
        keras.Input(
            shape,
            batch_size=tensor.shape[0],
            dtype=tensor.dtype,
            name=tensor._keras_history.operation.name,
        )
        for tensor, shape in zip(tensors, given, strict=True)
    ]
    try:
        results = called_again(tensors, outputs, fresh)
    except UNFIT as error:
        raise GraphError(
            f"model '{model.name}' does not take the sizes {given}: {error}"
        ) from error
    return keras.Model(
        keras.tree.pack_sequence_as(side_structure(model, "input"), fresh),
        keras.tree.pack_sequence_as(side_structure(model, "output"), results),
        name=model.name,
    )


def _built_sequential(model: Any, shapes: Any) -> Any:
    if shapes is None:
        raise GraphError(
            f"model '{model.name}' is a Sequential that is not built: begin it with a keras.Input,"
            " call it once, or give shapes="
        )
    if not model.layers:
        raise GraphError(f"model '{model.name}' is a Sequential without layers")
    try:
        model.build((None, *shapes))
    except UNFIT as error:
        raise GraphError(
            f"model '{model.name}' cannot be built for inputs of shape {shapes}: {error}"
        ) from error
    return symbolic_model(model)


def _known_shapes(model: Any) -> Any:
    """The unbatched shapes that a model was built with, nested as its ``call`` takes them."""
    config = (model.get_build_config() or {}) if model.built else {}
    found = config.get("input_shape")
    if found is None and len(config.get("shapes_dict", {})) == 1:
        (found,) = config["shapes_dict"].values()
    if found is None:
        raise GraphError(
            f"model '{model.name}' ({type(model).__name__}) is a subclass with its own call, and"
            " the shapes of its inputs are not known: call it once, or give shapes="
        )
    return _unbatched(found)


def _unbatched(shape: Any) -> Any:
    if isinstance(shape, Mapping):
        return {key: _unbatched(part) for key, part in shape.items()}
    if any(isinstance(part, (list, tuple)) for part in shape):
        return [_unbatched(part) for part in shape]
    return tuple(shape[1:])


def _symbolic_inputs(shapes: Any, dtypes: Any, batch: int | None) -> Any:
    """keras.Input tensors of ``shapes``, nested alike."""
    if isinstance(shapes, Mapping):
        return {
            name: _symbolic_input(shape, dtypes, batch, str(name)) for name, shape in shapes.items()
        }
    if isinstance(shapes, list):
        return [
            _symbolic_input(shape, dtypes, batch, f"input_{index}")
            for index, shape in enumerate(shapes)
        ]
    return _symbolic_input(shapes, dtypes, batch, "input")


def _symbolic_input(shape: Any, dtypes: Any, batch: int | None, name: str) -> Any:
    dtype = dtypes.get(name) if isinstance(dtypes, Mapping) else dtypes
    return keras.Input(tuple(shape), batch_size=batch, dtype=dtype, name=name)


def _in_order(tensors: Sequence[Any], shapes: Any) -> list[Any]:
    """One shape per input tensor, of a tuple, a list, or a dict by the names of the inputs."""
    names = [tensor._keras_history.operation.name for tensor in tensors]
    if isinstance(shapes, Mapping):
        unknown = sorted(set(shapes) - set(names))
        if unknown:
            raise GraphError(f"shapes= names {unknown}, but the inputs are {names}")
        own = [tuple(tensor.shape[1:]) for tensor in tensors]
        return [tuple(shapes.get(name, shape)) for name, shape in zip(names, own, strict=True)]
    listed = shapes if isinstance(shapes, list) else [shapes]
    if len(listed) != len(names):
        raise GraphError(f"shapes= has {len(listed)} shapes for the inputs {names}")
    return [tuple(shape) for shape in listed]
