"""Element-wise functions of the kind ``activation``: all that is known of them, one record each.

The names are the ones of Keras 3 (``keras.activations`` and ``keras.ops``), and so are the names of
the parameters. ``relu`` with an optional ceiling is a kind of its own; a ReLU with a slope or a
threshold is ``general_relu`` here. ``prelu`` has its slopes as weights. ``user`` stands for a
function that is none of these: see :mod:`sanitize.user_functions`.

Adding a function is a record in ``_activations`` or ``_arithmetic``: readers, writers, rules and
the recogniser go by these.
"""

from ._recognise import POINTS, recognised
from ._record import Emitter, Function, Tried
from ._specs import clip_spec, named_spec, power_spec, relu_spec
from ._table import (
    FUNCTIONS,
    KERAS_FUNCTIONS,
    ONNX_OPERATORS,
    TENSORFLOW_FUNCTIONS,
    apply_activation,
    is_monotonic,
    least_value,
    of_operator,
    of_tensorflow,
)

__all__ = [
    "FUNCTIONS",
    "KERAS_FUNCTIONS",
    "ONNX_OPERATORS",
    "POINTS",
    "TENSORFLOW_FUNCTIONS",
    "Emitter",
    "Function",
    "Tried",
    "apply_activation",
    "clip_spec",
    "is_monotonic",
    "least_value",
    "named_spec",
    "of_operator",
    "of_tensorflow",
    "power_spec",
    "recognised",
    "relu_spec",
]
