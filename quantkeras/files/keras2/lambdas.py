"""Lambda layers of a Keras 2 file: Python code, which ran with TensorFlow at hand as `tf`.

`lambda_layer(safe_mode)` is what to look the class "Lambda" up as while such a file is read. The
layers it makes are plain Keras 3 Lambda layers.
"""

import base64
import binascii
import marshal
import types
from typing import Any

import keras


def lambda_layer(safe_mode: bool) -> type:
    """A class whose `from_config` makes the Lambda layer that Keras 2 described.

    safe_mode: refuse Python code, with a ValueError that names safe_mode.
    """

    class Keras2Lambda(keras.layers.Lambda):
        @classmethod
        def from_config(
            cls, config: dict[str, Any], custom_objects: Any = None, safe_mode: Any = None
        ) -> keras.layers.Lambda:
            return _layer(dict(config), not refuse)

    refuse = safe_mode
    return Keras2Lambda


def _layer(config: dict[str, Any], trusted: bool) -> keras.layers.Lambda:
    function = config["function"]
    if isinstance(function, str):
        # A function by its name: what Keras knows by that name, or the user has registered.
        found: Any = keras.activations.get(function)
    elif not trusted:
        raise ValueError(
            f"Lambda layer '{config.get('name')}' is Python code, which safe_mode refuses"
        )
    else:
        found = _function(function)
    shape = config.get("output_shape")
    fixed = tuple(shape) if isinstance(shape, list) and _are_sizes(shape) else None
    return keras.layers.Lambda(
        found,
        output_shape=fixed,
        arguments=config.get("arguments") or {},
        name=config.get("name"),
        dtype=config.get("dtype"),
    )


def _are_sizes(shape: list[Any]) -> bool:
    return all(size is None or isinstance(size, int) for size in shape)


def _function(dumped: Any) -> types.FunctionType:
    """A Python function from [byte code in base 64, defaults, closure]."""
    if isinstance(dumped, dict):
        inner = dumped.get("config", dumped)
        dumped = [inner.get("code"), inner.get("defaults"), inner.get("closure")]
    code, defaults, closure = dumped
    try:
        compiled = marshal.loads(base64.b64decode(code))
    except (binascii.Error, ValueError, EOFError, TypeError) as error:
        raise ValueError(
            "its byte code is of another version of Python; load the network with the Python that"
            " wrote it, or write this layer as a class"
        ) from error
    cells = tuple(types.CellType(value) for value in closure or ())
    return types.FunctionType(
        compiled,
        _names(),
        name=compiled.co_name,
        argdefs=tuple(defaults) if defaults else None,
        closure=cells or None,
    )


def _names() -> dict[str, Any]:
    """The modules that code in a Lambda may name as Keras 2 let it."""
    import numpy as np

    names: dict[str, Any] = {"keras": keras, "np": np, "numpy": np, "ops": keras.ops}
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        names |= {"tf": tf, "tensorflow": tf}
    return names
