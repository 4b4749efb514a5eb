"""Names of layers that every backend takes."""

from __future__ import annotations

import re


def scope_name(name: str) -> str:
    """``name`` in letters, digits and ``_ . > -`` only, and "/" between nested names.

    TensorFlow opens a scope of a layer's name, and refuses other characters, though a Keras input
    or a layer of an ONNX model may have them.
    """
    return re.sub(r"[^A-Za-z0-9_.>/-]", "_", name)


def layer_name(name: str) -> str:
    """The name of the Keras layer of a node: nested names are joined by "_"."""
    return scope_name(name).replace("/", "_")
