"""What is wrong with a model file, and what to do about it, in one sentence."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quantkeras.errors import ModelFileError

_FOREIGN = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x93NUM": "a NumPy array",
    b"\x1f\x8b": "a gzip archive",
}


def is_tflite(start: bytes) -> bool:
    """Whether a file that begins so is a TFLite model."""
    return start[4:8] == b"TFL3"


def describe_foreign(path: Path, start: bytes) -> str:
    """What a file that is neither HDF5 nor zip seems to be, from its first bytes and its name."""
    if not start:
        return f"{path} is empty"
    if is_tflite(start):
        return (
            f"{path} is a TFLite model, which is not read: load the Keras or ONNX model that it "
            "was made of"
        )
    if path.suffix.lower() == ".onnx":
        return f"{path} is an ONNX model: load it with onnx.load"
    known = next((what for mark, what in _FOREIGN.items() if start.startswith(mark)), None)
    seems = f"seems to be {known}" if known else "begins like neither HDF5 (.h5) nor zip (.keras)"
    return f"{path} is no Keras model: it {seems}"


@contextmanager
def explained(path: Path, compile: bool) -> Iterator[None]:
    """Turns what Keras and h5py raise while loading into one short ModelFileError.

    A file may ask for any layer with any settings, and each fails in its own way.
    """
    try:
        yield
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error.__cause__
    except Exception as error:
        text = str(error)
        if "safe_mode" in text:
            remedy = (
                "it holds a Lambda layer, which is Python code: if you trust where the file "
                "comes from, load it with safe_mode=False"
            )
        elif "Unknown layer" in text or "Could not locate" in text:
            remedy = (
                f"{first_line(error)} Register the class with "
                "keras.saving.register_keras_serializable, or pass it in custom_objects"
            )
        elif isinstance(error, NameError):
            remedy = (
                f"{first_line(error)}: Python code in the file uses a name that Keras does not "
                "save with it; import it inside that code, or make the code a function or layer "
                "class registered with keras.saving.register_keras_serializable"
            )
        else:
            remedy = first_line(error)
            remedy += "; without its training settings (compile=False) it may load" * compile
        raise ModelFileError(f"{path} cannot be loaded: {remedy}") from error


def first_line(error: BaseException) -> str:
    """The first line of a message; of Keras's, which quote whole configurations, the cause."""
    text = str(error.args[0] if error.args else error).rpartition("Exception encountered: ")[2]
    if text.startswith("Exception encountered when calling"):
        # What the layer's own code said stands below, in bold.
        text = re.sub("\x1b\\[[0-9;]*m", "", text.partition("\n")[2])
    first = next(iter(text.strip().splitlines()), type(error).__name__)
    return first if len(first) <= 200 else f"{first[:200]}..."
