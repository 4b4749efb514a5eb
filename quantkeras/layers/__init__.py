"""Quantized Keras layers and quantizers."""

from .activation_ranges import PART_SPREAD, RANGE_MODES, OutputQuantizer
from .element_function import ElementFunction
from .hardware_layer import HardwareLayer
from .inventory import (
    check_quantized,
    choose_carriers,
    forget_compiled,
    hardware_layers_of,
    is_quantized,
    layers_of,
    quantizers_of,
)
from .layer_numbers import LayerNumbers
from .live_batchnorm import LiveBatchNorm
from .merges import (
    ElementwiseLayer,
    QuantizedAdd,
    QuantizedConcatenate,
    QuantizedMaximum,
    QuantizedMinimum,
    QuantizedMultiply,
    QuantizedSubtract,
)
from .program_input import program_input
from .quantized_model import QuantizedModel, as_quantized_model, unwatched
from .quantizers import Dequantizer, InputQuantizer
from .resizing import resized
from .standalone import (
    QuantizedActivation,
    QuantizedAveragePooling2D,
    QuantizedGlobalAveragePooling2D,
    QuantizedReLU,
)
from .tensor_format import TensorFormat, format_of
from .weight_quantizer import WeightQuantizer
from .weighted_kinds import (
    QuantizedConv2D,
    QuantizedConv2DTranspose,
    QuantizedDense,
    QuantizedDepthwiseConv2D,
    QuantizedDepthwiseConv2DTranspose,
)
from .weighted_layer import WeightedLayer

__all__ = [
    "Dequantizer",
    "ElementFunction",
    "ElementwiseLayer",
    "HardwareLayer",
    "InputQuantizer",
    "LayerNumbers",
    "LiveBatchNorm",
    "OutputQuantizer",
    "QuantizedActivation",
    "QuantizedAdd",
    "QuantizedAveragePooling2D",
    "QuantizedConcatenate",
    "QuantizedConv2D",
    "QuantizedConv2DTranspose",
    "QuantizedDense",
    "QuantizedDepthwiseConv2D",
    "QuantizedDepthwiseConv2DTranspose",
    "QuantizedGlobalAveragePooling2D",
    "QuantizedMaximum",
    "QuantizedMinimum",
    "QuantizedModel",
    "QuantizedMultiply",
    "QuantizedReLU",
    "QuantizedSubtract",
    "PART_SPREAD",
    "RANGE_MODES",
    "TensorFormat",
    "WeightQuantizer",
    "WeightedLayer",
    "as_quantized_model",
    "check_quantized",
    "choose_carriers",
    "forget_compiled",
    "hardware_layers_of",
    "is_quantized",
    "layers_of",
    "format_of",
    "program_input",
    "resized",
    "quantizers_of",
    "unwatched",
]
