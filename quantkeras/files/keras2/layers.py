"""What a Keras 2 graph can contain and Keras 3 has no layer for: slices and the old hard sigmoid.

Both are registered with Keras, so a network that holds them can be saved and loaded again wherever
this module has been imported (`quantkeras.load_model` does).

`application_layers` adds what networks of keras.applications hold and Keras keeps to itself.
"""

import sys
from typing import Any

import keras
import numpy as np
from keras import ops

Index = tuple[Any, ...]


@keras.saving.register_keras_serializable(package="quantkeras")
def keras2_hard_sigmoid(x: Any) -> Any:
    """clip(0.2 * x + 0.5, 0, 1), Keras 2's hard sigmoid; that of Keras 3 is relu6(x + 3) / 6."""
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


@keras.saving.register_keras_serializable(package="quantkeras")
class Slice(keras.layers.Layer):
    """y = x[index]: basic NumPy indexing; the batch axis is kept whole.

    index: one entry per axis from the batch axis on. An entry is [start, stop, step] with None for
    an open end, an integer (takes one position and drops the axis), "newaxis", or "..." for as many
    whole axes as are left.
    """

    def __init__(self, index: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.index = [_plain(entry) for entry in index]
        if not self.index or self.index[0] not in ("...", [None, None, None]):
            raise ValueError(
                f"Slice '{self.name}': index {self.index} cuts the batch axis; its first entry "
                'must be "..." or [null, null, null]'
            )

    def call(self, inputs: Any) -> Any:
        """inputs: (batch, ...); returns inputs[index]."""
        entries = _python_index(self.index, len(inputs.shape))
        axis = 0
        for position, entry in enumerate(entries):
            if entry is None:
                continue
            # PyTorch has no negative steps: those axes are reordered by position instead.
            if isinstance(entry, slice) and (entry.step or 1) < 0:
                positions = np.arange(inputs.shape[axis], dtype="int32")[entry]
                inputs = ops.take(inputs, positions, axis=axis)
                entries[position] = slice(None)
            axis += 1
        return inputs[tuple(entries)]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "index": self.index}


def application_layers() -> dict[str, Any]:
    """Layers by the names under which .h5 files of keras.applications ask for them."""
    home = sys.modules[keras.applications.InceptionResNetV2.__module__]
    scale = getattr(home, "CustomScaleLayer", None)
    names = ("CustomScaleLayer", "Custom>CustomScaleLayer")
    return {} if scale is None else dict.fromkeys(names, scale)


def _plain(entry: Any) -> Any:
    """The entry as JSON has it: Keras hands lists back as its own tracked lists or tuples."""
    return list(entry) if isinstance(entry, list | tuple) else entry


def _python_index(index: list[Any], rank: int) -> list[Any]:
    """One slice, integer or None per entry, with "..." written out for a tensor of `rank` axes."""
    named = sum(entry not in ("newaxis", "...") for entry in index)
    entries: list[Any] = []
    for entry in index:
        if entry == "...":
            entries += [slice(None)] * (rank - named)
        elif entry == "newaxis":
            entries.append(None)
        else:
            entries.append(slice(*entry) if isinstance(entry, list) else entry)
    return entries
