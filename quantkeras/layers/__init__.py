"""Quantized Keras layers and quantizers."""

from .hardware_layer import HardwareLayer
from .kinds import (
    QuantizedAdd,
    QuantizedAveragePooling2D,
    QuantizedConcatenate,
    QuantizedConv2D,
    QuantizedDense,
    QuantizedDepthwiseConv2D,
    QuantizedGlobalAveragePooling2D,
    QuantizedReLU,
    choose_carriers,
    quantizers_of,
)
from .numbers import LayerNumbers
from .quantizers import (
    RANGE_MODES,
    Dequantizer,
    InputQuantizer,
    OutputQuantizer,
    WeightQuantizer,
)
from .tensor_format import TensorFormat, format_of
from .weighted_layer import WeightedLayer

__all__ = [
    "RANGE_MODES",
    "Dequantizer",
    "HardwareLayer",
    "InputQuantizer",
    "LayerNumbers",
    "OutputQuantizer",
    "QuantizedAdd",
    "QuantizedAveragePooling2D",
    "QuantizedConcatenate",
    "QuantizedConv2D",
    "QuantizedDense",
    "QuantizedDepthwiseConv2D",
    "QuantizedGlobalAveragePooling2D",
    "QuantizedReLU",
    "TensorFormat",
    "WeightQuantizer",
    "WeightedLayer",
    "choose_carriers",
    "format_of",
    "quantizers_of",
]
