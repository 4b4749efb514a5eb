"""The layers that a rewritten model had before they were folded into others, by name.

They are known as long as the model lives; a file that it is saved to does not keep them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from .graph import Graph
from .keras_io.names import layer_name

_FORMER: WeakKeyDictionary[Any, dict[str, tuple[str, ...]]] = WeakKeyDictionary()


def former_names(model: Any) -> Mapping[str, tuple[str, ...]]:
    """Names of layers that went while ``model`` was made -> the layers that compute them now.

    Layers that did nothing, such as a Dropout, went into none. Empty for a model as it was built.
    """
    return _FORMER.get(model, {})


def remember_names(model: Any, before: Graph, after: Graph, source: Any = None) -> None:
    """Keep them for the model of the graph ``after``, which was rewritten from ``before``.

    ``source``: the Keras model that ``before`` was read from; what it has lost is lost here, too.
    """
    own = {layer.name for layer in model.layers}
    into: dict[str, list[str]] = {}
    for node in before:
        into.update({name: [] for name in (*node.source, node.name) if name not in own})
    for node in after:
        for name in node.source:
            if name in into:
                into[name].append(layer_name(node.name))
    for name, layers in former_names(source).items() if source is not None else ():
        places = [place for layer in layers for place in into.get(layer, [layer])]
        into.setdefault(name, places)
    _FORMER[model] = {name: tuple(dict.fromkeys(places)) for name, places in into.items()}
