"""Keras models to graphs and back: the only place of the package that knows Keras."""

from .keras_reading import read_keras
from .keras_writing import write_keras

__all__ = ["read_keras", "write_keras"]
