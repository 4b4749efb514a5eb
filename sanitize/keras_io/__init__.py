"""Keras models to graphs and back: the only place of the package that knows Keras."""

from .read import read_keras
from .write import write_keras

__all__ = ["read_keras", "write_keras"]
