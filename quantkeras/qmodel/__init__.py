"""Quantized Keras models as those see them who look at more than one layer at a time."""

from .reading import QuantizedGraph, layer_node, layer_of, rounding_layer

__all__ = ["QuantizedGraph", "layer_node", "layer_of", "rounding_layer"]
