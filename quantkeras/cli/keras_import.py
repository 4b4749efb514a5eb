"""Keras without the noise: TensorFlow's first messages heed no setting."""

from __future__ import annotations

import os
import sys

from ..errors import QuantizationError


def import_keras() -> None:
    """Import Keras and its backend; what they print meanwhile is dropped.

    Messages stay where TF_CPP_MIN_LOG_LEVEL was set to less than 3 to see them.
    """
    if "keras" in sys.modules or os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "3":
        return
    # They come from C++, which writes to the file descriptor, before logging is set up.
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 2)
        import keras  # noqa: F401
    except (ImportError, ValueError) as error:
        backend = os.environ.get("KERAS_BACKEND")
        chosen = f"its backend {backend!r} (KERAS_BACKEND)" if backend else "its backend"
        raise QuantizationError(
            f"Keras cannot be imported with {chosen}: {error}. Install it, or choose another: "
            "tensorflow, jax or torch"
        ) from error
    finally:
        os.dup2(saved, 2)
        os.close(saved)
