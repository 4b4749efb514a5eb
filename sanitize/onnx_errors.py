"""What goes wrong with ONNX models; apart from their reader, which needs the package onnx."""


class OnnxError(ValueError):
    """An ONNX model that cannot be read; the message names the node, the reason and the remedy."""


class PatternError(OnnxError):
    """A custom pattern with a key or a result that cannot be used; the message names it."""
