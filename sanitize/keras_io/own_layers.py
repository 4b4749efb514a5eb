"""Layers of our own making have float32 and channels last, whatever the user's defaults are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras


@contextmanager
def own_layers() -> Iterator[None]:
    """Layers and models that are made meanwhile compute in float32, with channels last.

    Half precision would round on the way. The policy and the order of axes that hold elsewhere are
    put back.
    """
    policy, order = keras.config.dtype_policy(), keras.config.image_data_format()
    keras.config.set_dtype_policy("float32")
    keras.config.set_image_data_format("channels_last")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)
        keras.config.set_image_data_format(order)
