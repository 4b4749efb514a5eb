"""Graphs that layers of one description share while TensorFlow traces a model.

Networks repeat their layers, and TensorFlow takes about a millisecond for each of the fifty to
hundred operations of one. So what a layer computes is traced as a function of its inputs, their
steps and the layer's variables, once for all layers that differ in nothing else, in this model and
in the ones to come. A layer that is alone in its kind is traced in place, which costs less. The
operations are the same ones in the end: TensorFlow puts the body of the function where it is
called.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from threading import Lock
from typing import Any

import keras
from keras import ops

Tensor = Any
Function = Callable[..., list[Tensor]]

CAPACITY = 256
"""So many descriptions are remembered, those used last."""

_NONE_YET = object()


class SharedGraphs:
    """Concrete functions by what they depend on; the first call of a kind gets none."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._graphs: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = Lock()

    def run(
        self,
        key: Hashable,
        function: Function,
        batches: Sequence[Tensor],
        others: Sequence[Tensor],
        variables: Sequence[keras.Variable],
    ) -> list[Tensor]:
        """``function(*batches, *others)``, which reads the variables, to be called in a trace.

        key: all else that it depends on. batches: tensors that may come with any number of
        samples.
        """
        specs = [_spec(x, any_batch=True) for x in batches]
        specs += [_spec(x) for x in (*others, *variables)]
        key = (key, *((tuple(spec.shape), spec.dtype.name) for spec in specs))
        graph = self._graph(key)
        if graph is _NONE_YET:
            graph = _traced(function, specs, variables)
            self._keep(key, graph)
        if graph is None:
            return function(*batches, *others)
        values = [ops.convert_to_tensor(variable) for variable in variables]
        return list(graph(*batches, *others, *values))

    def _graph(self, key: Hashable) -> Any:
        """The graph; None for the first call, and _NONE_YET for the second."""
        with self._lock:
            known = key in self._graphs
            graph = self._graphs.setdefault(key, _NONE_YET)
            self._graphs.move_to_end(key)
            if len(self._graphs) > self._capacity:
                self._graphs.popitem(last=False)
            return graph if known else None

    def _keep(self, key: Hashable, graph: Any) -> None:
        with self._lock:
            self._graphs[key] = graph


def tracing(tensors: Sequence[Tensor]) -> bool:
    """Whether TensorFlow traces a function now, for one replica, and knows the tensors' ranks."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    if not tf.inside_function() or tf.distribute.get_strategy().num_replicas_in_sync > 1:
        return False
    return all(x.shape.rank is not None for x in tensors)


def _spec(x: Any, any_batch: bool = False) -> Any:
    import tensorflow as tf

    shape = tuple(x.shape)
    return tf.TensorSpec((None, *shape[1:]) if any_batch else shape, x.dtype)


def _traced(
    function: Function, specs: Sequence[Any], variables: Sequence[keras.Variable]
) -> Any | None:
    """The concrete function; None if it holds on to something that others would not share."""
    import tensorflow as tf

    count = len(specs) - len(variables)

    def stateless(*tensors: Tensor) -> list[Tensor]:
        state = list(zip(variables, tensors[count:], strict=True))
        with keras.StatelessScope(state_mapping=state):
            return function(*tensors[:count])

    with tf.init_scope():
        graph = tf.function(stateless, autograph=False).get_concrete_function(*specs)
    return None if graph.captured_inputs else graph
