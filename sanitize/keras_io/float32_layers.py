"""Layers of our own making compute in float32, whatever the user's dtype policy is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras


@contextmanager
def float32_layers() -> Iterator[None]:
    """Layers and models that are made meanwhile compute in float32.

    Half precision would round on the way; the policy is the thread's own, and it is put back.
    """
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)
