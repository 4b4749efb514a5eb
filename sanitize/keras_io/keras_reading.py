"""read_keras: a Keras model (Sequential, functional, subclassed, nested) as a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from ..graph import Graph
from ..log import LogEntry
from .keras_graph import leaf_positions, side_structure
from .reader import Reader
from .reading_check import check_reading
from .symbolic import symbolic_model


@dataclass(frozen=True)
class Reading:
    """A model as it was read.

    model: the functional model whose calls were read, the one given or one of the same layers.
    conversions: what Lambdas and layers of the user's own were read as.
    """

    graph: Graph
    model: Any
    conversions: tuple[LogEntry, ...] = ()


def read_keras(model: Any, verify: bool = False, shapes: Any = None) -> Graph:
    """Read the graph of a Keras model; see :func:`read_model`, which also tells how it was read.

    Args:
        model: a Sequential or functional model, or any that takes symbolic tensors.
        verify: run what was read against the model on random inputs.
        shapes: unbatched, of the inputs where the model leaves sizes open or is no functional one.

    Returns:
        The graph.

    Raises:
        TypeError: for what is no model.
        sanitize.GraphError: for a model whose call cannot be read.
        sanitize.keras_io.reading_check.ReadingError: naming the layer, where the graph computes
            something else than the model.
    """
    return read_model(model, verify, shapes).graph


def read_model(model: Any, verify: bool = False, shapes: Any = None, dtypes: Any = None) -> Reading:
    """The graph of a Sequential or functional model, or of any that takes symbolic tensors.

    Nested models are flattened, their nodes named 'inner/layer'; so are layers of the user's own
    that are written with Keras layers and operations. A layer that is called several times gives
    several nodes with one ``share`` and the same weight arrays. A layer or operation that the graph
    has no kind for becomes an ``opaque`` node with the live object in ``attrs["layer"]``.

    ``verify``: run what was read against the model on random inputs. ``shapes``, ``dtypes``: of the
    inputs, where the model leaves sizes open or is no functional one, see
    :func:`~sanitize.keras_io.symbolic.symbolic_model`. Raises TypeError for what is no model,
    GraphError for a model whose call cannot be read, and ReadingError, naming the layer, where the
    graph computes something else than the model.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"a keras.Model is read here, not a {type(model).__name__}; load Keras files first, "
            "and read ONNX models with read_onnx"
        )
    model = symbolic_model(model, shapes, dtypes)
    reader = Reader()
    tensors = keras.tree.flatten(model.inputs)
    inputs = [reader.add_input(tensor) for tensor in tensors]
    results = keras.tree.flatten(model.outputs)
    found = reader.walk(tensors, results, inputs, "")
    dtypes = [keras.backend.standardize_dtype(tensor.dtype) for tensor in results]
    outputs = list(map(reader.as_in_model, found, dtypes))
    nodes = reader.finished_nodes()
    graph = Graph.build(
        nodes,
        inputs,
        outputs,
        model.name,
        leaf_positions(side_structure(model, "input")),
        leaf_positions(side_structure(model, "output")),
    )
    if verify:
        check_reading(reader.steps, nodes, list(zip(tensors, inputs, strict=True)))
    return Reading(graph, model, tuple(reader.conversions))
