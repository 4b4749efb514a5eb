"""From a plan to the quantized Keras model: layers are substituted, nothing is calibrated yet.

The quantized model is written by the same writer as every other graph: each block becomes one
``opaque`` node that holds a fresh quantized layer, inputs get an InputQuantizer, and a
Dequantizer stands wherever integers meet float nodes or leave the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import keras
import numpy as np

from sanitize.graph import Graph, Node
from sanitize.keras_io import write_keras
from sanitize.keras_io.names import layer_name
from sanitize.keras_io.own_layers import own_layers

from .. import layers as ql
from ..numerics.layer_windows import Pool, Window
from ..qmodel import layer_node
from .input_scaling import InputMap
from .params import QuantizationParams
from .plan import AVERAGES, Block, Plan
from .spreads import APART, USUAL, input_spread, joined_parts, output_spread

LEAST_TABLE_BITS, MOST_TABLE_BITS = 8, 12
"""Width of what enters the table of an element-wise function: at least, and at most."""

ELEMENTWISE_LAYERS = {
    "add": ql.QuantizedAdd,
    "subtract": ql.QuantizedSubtract,
    "multiply": ql.QuantizedMultiply,
    "maximum": ql.QuantizedMaximum,
    "minimum": ql.QuantizedMinimum,
}


def build_model(
    plan: Plan,
    qparams: QuantizationParams,
    inputs: Mapping[str, str],
    maps: Mapping[str, InputMap] = MappingProxyType({}),
) -> keras.Model:
    """The quantized model of a plan, with the float weights in place.

    All ranges, those of the weights as well, are left to the calibration.
    inputs: name of each input that gets an InputQuantizer -> "uint8", "int8" or "float32". maps:
    what becomes of some inputs before they are quantized, as the plan's graph expects.
    """
    builder = _Builder(plan, qparams, maps)
    with own_layers():
        for name in plan.inputs:
            builder.add_input(name, inputs[name])
        for node in plan.graph:
            builder.add(node)
        model = ql.as_quantized_model(write_keras(builder.finished()))
    for block, layer in builder.layers.values():
        _set_weights(layer, block)
    for name, layer in builder.mapped.items():
        layer.scale_output(1 / maps[name].scale)
        layer.offset.assign(maps[name].offset)
    return model


class _Builder:
    def __init__(
        self, plan: Plan, qparams: QuantizationParams, maps: Mapping[str, InputMap]
    ) -> None:
        self.plan = plan
        self.qparams = qparams
        self.maps = maps
        self.mapped: dict[str, Any] = {}  # the quantizers of inputs with a map, by input
        self.nodes: list[Node] = []
        self.layers: dict[str, tuple[Block, Any]] = {}  # by share or block name
        self.value: dict[str, str] = {}  # value of the float graph -> value of the quantized one
        self.dequantized: dict[str, str] = {}

    def add_input(self, name: str, dtype: str) -> None:
        node = self.plan.graph[name]
        integer = dtype in ("uint8", "int8")
        layer = ql.InputQuantizer(
            bits=self.qparams.input_bits,
            signed=dtype != "uint8",
            per_channel=not (integer or self.qparams.per_tensor_activations)
            and self.plan.keeps_channels(name),
            integer_input=integer,
            bordered=name in self.plan.bordered and not integer,
            has_offset=name in self.maps,
            range_mode="frozen" if integer else self.qparams.ranges,
            name=self._name(f"{name}/quantizer"),
        )
        if layer.per_channel:
            layer.max_spread = input_spread(self.plan, name)
        if name in self.maps:
            self.mapped[name] = layer
        self.nodes.append(layer_node(layer, f"{name}/quantizer", (name,), node.shape, (name,)))
        self.value[name] = f"{name}/quantizer"

    def _integers(self, value: str) -> str:
        """The value as integers: quantized again behind a layer that stays float."""
        if value in self.plan.requantized and value not in self.value:
            name = f"{value.replace(':', '_')}/quantizer"
            layer = ql.InputQuantizer(
                bits=self.qparams.activation_bits,
                per_channel=not self.qparams.per_tensor_activations
                and self.plan.keeps_channels(value),
                bordered=value in self.plan.bordered,
                range_mode=self.qparams.ranges,
                name=self._name(name),
            )
            if layer.per_channel:
                layer.max_spread = input_spread(self.plan, value)
            shape = self.plan.graph.shape_of(value)
            self.nodes.append(layer_node(layer, name, (value,), shape))
            self.value[value] = name
        return self.value[value]

    def add(self, node: Node) -> None:
        plan = self.plan
        block = plan.members.get(node.name)
        if block is not None:
            if node.name == block.output:
                self._add_block(block)
        elif node.name in plan.movements:
            inputs = tuple(self._integers(v) for v in node.inputs)
            self.nodes.append(node.with_(inputs=inputs))
            self.value[node.name] = node.name
        elif node.kind == "input":
            self.nodes.append(_in_float32(node))
        else:
            inputs = tuple(self._float(v) for v in node.inputs)
            self.nodes.append(node.with_(inputs=inputs))

    def _add_block(self, block: Block) -> None:
        key = block.core.share or block.name
        if key not in self.layers:
            per_channel = self.plan.keeps_channels(block.output)
            layer = quantized_layer(block, self.qparams, self._name(block.name), per_channel)
            self._limit_spread(block, layer.output_quantizer)
            self.layers[key] = (block, layer)
        inputs = tuple(self._integers(v) for v in block.core.inputs)
        source = tuple(dict.fromkeys(s for node in block.nodes for s in node.source))
        shape = self.plan.graph.shape_of(block.output)
        node = layer_node(self.layers[key][1], block.name, inputs, shape, source)
        self.nodes.append(node.with_(share=block.core.share))
        self.value[block.output] = block.name

    def _limit_spread(self, block: Block, quantizer: ql.OutputQuantizer | None) -> None:
        if quantizer is None or not quantizer.per_channel:
            return
        quantizer.max_spread = output_spread(self.plan, block)
        parts = joined_parts(self.plan.graph, block.output)
        if USUAL < quantizer.max_spread < APART and len(parts) > 1:
            quantizer.parts = parts

    def _float(self, value: str) -> str:
        """The value as floats: through a Dequantizer where it is integer."""
        if not self.plan.is_integer(value):
            return value
        if value not in self.dequantized:
            source = self.value[value]
            name = f"{source}/dequantizer"
            reasons = {} if self.dequantized else self._reasons()  # once is enough
            layer = ql.Dequantizer(reasons, name=self._name(name))
            shape = self.plan.graph.shape_of(value)
            self.nodes.append(layer_node(layer, name, (source,), shape))
            self.dequantized[value] = name
        return self.dequantized[value]

    def _reasons(self) -> dict[str, str]:
        return {self._name(entry.node.name): entry.reason for entry in self.plan.floats}

    def finished(self) -> Graph:
        graph = self.plan.graph
        outputs = tuple(self._float(value) for value in graph.outputs)
        return Graph.build(
            self.nodes,
            graph.inputs,
            outputs,
            graph.name,
            graph.input_structure,
            graph.output_structure,
        )

    @staticmethod
    def _name(wish: str) -> str:
        return layer_name(wish)


def _in_float32(node: Node) -> Node:
    """An input of floats as float32, which programs take: half precision would round before."""
    return node.with_attrs(dtype="float32") if "float" in node.attrs["dtype"] else node


def quantized_layer(
    block: Block, qparams: QuantizationParams, name: str, per_channel: bool = True
) -> Any:
    """The quantized Keras layer of a block, not built yet.

    per_channel: whether formats per channel are possible for its output.
    """
    core, settings = block.core, block.settings
    relu = block.absorbed("relu")
    pool = _pool(block)
    output = None
    function = block.absorbed("activation")
    prelu = function is not None and function.attrs["function"] == "prelu"
    if block.quantized_output:
        one_table = function is not None and not prelu
        output = ql.OutputQuantizer(
            bits=block.bits,
            signed=block.signed,
            per_channel=per_channel and not (settings.per_tensor_activations or one_table),
            bordered=block.bordered,
            range_mode=qparams.ranges,
            name="output_quantizer",
        )
    arguments: dict[str, Any] = {
        "name": name,
        "relu": relu is not None,
        "max_value": _largest_clip(relu),
        "output_quantizer": output,
        "scale_bits": settings.scale_bits,
    }
    if function is not None:
        arguments |= {
            "function": function.attrs,
            "table_quantizer": ql.OutputQuantizer(
                bits=min(max(block.bits, LEAST_TABLE_BITS), MOST_TABLE_BITS),
                signed=block.table_signed,
                per_channel=False,
                range_mode=qparams.ranges,
                name="table_quantizer",
            ),
        }
    if core.kind in AVERAGES:
        return _pooling(core, arguments)
    arguments["pool"] = pool
    if core.kind in ELEMENTWISE_LAYERS:
        return ELEMENTWISE_LAYERS[core.kind](**arguments)
    if core.kind == "concat":
        return ql.QuantizedConcatenate(axis=core.attrs["axis"] + 1, **arguments)
    if core.kind == "relu":
        return ql.QuantizedReLU(**arguments)
    if core.kind in ("activation", "max_pool"):
        return ql.QuantizedActivation(**arguments)
    arguments |= {
        "use_bias": "bias" in core.weights,
        "weight_quantizer": ql.WeightQuantizer(
            bits=settings.weight_bits,
            scale_bits=settings.scale_bits,
            method="mse" if settings.weight_range == "mse" else "max",
            range_mode=qparams.ranges,
            name="weight_quantizer",
        ),
    }
    kernel = core.weights["kernel"]
    if core.kind == "dense":
        return ql.QuantizedDense(kernel.shape[1], **arguments)
    padding = core.attrs["padding"]
    arguments |= {
        "kernel_size": kernel.shape[:2],
        "strides": core.attrs["strides"],
        "dilation_rate": core.attrs["dilation"],
        "padding": padding if isinstance(padding, str) else "valid",
    }
    if core.kind == "conv2d_transpose":
        extra = core.attrs.get("output_padding")
        return ql.QuantizedConv2DTranspose(kernel.shape[2], output_padding=extra, **arguments)
    if core.kind == "depthwise_conv2d_transpose":
        arguments |= {
            "output_padding": core.attrs.get("output_padding"),
            "depth_multiplier": kernel.shape[3],
        }
        return ql.QuantizedDepthwiseConv2DTranspose(**arguments)
    arguments |= {
        "explicit_padding": None if isinstance(padding, str) else padding,
        "has_pad_value": "pad_value" in core.weights,
    }
    if core.kind == "depthwise_conv2d":
        return ql.QuantizedDepthwiseConv2D(depth_multiplier=kernel.shape[3], **arguments)
    return ql.QuantizedConv2D(kernel.shape[3], groups=core.attrs["groups"], **arguments)


def _pooling(core: Node, arguments: dict[str, Any]) -> Any:
    if core.kind == "global_avg_pool":
        return ql.QuantizedGlobalAveragePooling2D(keepdims=core.attrs["keepdims"], **arguments)
    return ql.QuantizedAveragePooling2D(
        core.attrs["size"],
        strides=core.attrs["strides"],
        padding=core.attrs["padding"],
        **arguments,
    )


def _pool(block: Block) -> Pool | None:
    node = block.absorbed("max_pool", "avg_pool", "global_avg_pool")
    if node is None:
        return None
    if node.kind == "global_avg_pool":
        return Pool("global_average", keepdims=node.attrs["keepdims"])
    window = Window(node.attrs["size"], node.attrs["strides"], node.attrs["padding"])
    return Pool("max" if node.kind == "max_pool" else "average", window)


def _largest_clip(relu: Node | None) -> float | None:
    if relu is None:
        return None
    if "max_value" in relu.weights:
        return float(relu.weights["max_value"].max())
    value = relu.attrs.get("max_value")
    return None if value is None else float(value)


def _set_weights(layer: Any, block: Block) -> None:
    weights = block.core.weights
    if "kernel" in weights:
        layer.kernel.assign(weights["kernel"])
        if "bias" in weights:
            layer.bias.assign(weights["bias"])
        if "pad_value" in weights:
            layer.pad_value.assign(weights["pad_value"])
    function = block.absorbed("activation")
    if function is not None and "alpha" in function.weights:
        alpha = function.weights["alpha"].reshape(-1)
        layer.alpha.assign(np.broadcast_to(alpha, layer.alpha.shape))
    relu = block.absorbed("relu")
    if relu is not None and "max_value" in relu.weights:
        layer.clip_value.assign(np.broadcast_to(relu.weights["max_value"], layer.clip_value.shape))
