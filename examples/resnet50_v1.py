"""ResNet50 as the ONNX model zoo has it (version 1-7): its structure, with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

PREFIX = "resnetv17"
BLOCKS = (3, 4, 6, 3)
"""Bottleneck blocks per stage: those of ResNet50."""


def resnet_v1(
    size: int = 224,
    blocks: Sequence[int] = BLOCKS,
    width: int = 64,
    classes: int = 1000,
    seed: int = 0,
) -> onnx.ModelProto:
    """A bottleneck ResNet with images (N, 3, size, size), exported by MXNet's conventions.

    The first convolution and the max pool have pads on all four sides; where a stage begins the
    stride is in convolutions of kernel 1; every convolution is followed by a BatchNormalization.
    width: channels of the first convolution.
    """
    net = _Net(seed)
    x = net.convolution("data", "conv0", width, 7, stride=2, channels=3)
    x = net.relu(x, "relu0")
    x = net.node(
        "MaxPool", [x], "pool0_fwd", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]
    )
    channels = width
    for stage, count in enumerate(blocks, 1):
        wide = width * 2 ** (stage - 1)
        for block in range(count):
            stride = 2 if block == 0 and stage > 1 else 1
            x = net.block(x, stage, channels, wide, stride, block == 0)
            channels = 4 * wide
    x = net.node("GlobalAveragePool", [x], "pool1_fwd")
    x = net.node("Flatten", [x], "flatten0")
    kernel = net.constant("dense0_weight", net.random(classes, channels) / np.sqrt(channels))
    bias = net.constant("dense0_bias", np.zeros(classes))
    net.node("Gemm", [x, kernel, bias], "dense0_fwd", transB=1)
    return net.model(size, classes)


class _Net:
    """The nodes and constants so far."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.counts: dict[int, int] = {}

    def random(self, *shape: int) -> Any:
        return self.generator.standard_normal(shape)

    def constant(self, name: str, array: Any) -> str:
        full = f"{PREFIX}_{name}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, np.float32), full))
        return full

    def node(self, op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        full = f"{PREFIX}_{name}"
        self.nodes.append(helper.make_node(op, inputs, [full], name=full, **attributes))
        return full

    def relu(self, x: str, name: str) -> str:
        return self.node("Relu", [x], f"{name}_fwd")

    def convolution(
        self,
        x: str,
        name: str,
        filters: int,
        kernel: int,
        stride: int = 1,
        channels: int = 0,
        bias: bool = False,
        gain: float = 1.0,
    ) -> str:
        """A convolution with its BatchNormalization."""
        fan_in = channels * kernel**2
        weights = np.sqrt(2 / fan_in) * self.random(filters, channels, kernel, kernel)
        given = [x, self.constant(f"{name}_weight", weights)]
        if bias:
            given.append(self.constant(f"{name}_bias", 0.1 * self.random(filters)))
        pads = [kernel // 2] * 4
        x = self.node(
            "Conv",
            given,
            f"{name}_fwd",
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=pads,
            dilations=[1, 1],
            group=1,
        )
        norm = name.replace("conv", "batchnorm")
        numbers = (
            ("gamma", gain * self.generator.uniform(0.5, 1.5, filters)),
            ("beta", 0.1 * self.random(filters)),
            ("running_mean", 0.1 * self.random(filters)),
            ("running_var", self.generator.uniform(0.5, 1.5, filters)),
        )
        stored = [self.constant(f"{norm}_{key}", array) for key, array in numbers]
        return self.node("BatchNormalization", [x, *stored], f"{norm}_fwd", epsilon=1e-5)

    def block(
        self, x: str, stage: int, channels: int, wide: int, stride: int, projected: bool
    ) -> str:
        """1x1, 3x3, 1x1 convolutions and the shortcut around them."""
        count = self.counts.get(stage, 0)
        self.counts[stage] = count + 1
        first = 0 if count == 0 else 3 * count + 1
        names = [f"stage{stage}_conv{first + i}" for i in range(4)]
        y = self.convolution(x, names[0], wide, 1, stride, channels, bias=True)
        y = self.relu(y, f"stage{stage}_relu{2 * count}")
        y = self.convolution(y, names[1], wide, 3, 1, wide)
        y = self.relu(y, f"stage{stage}_relu{2 * count + 1}")
        y = self.convolution(y, names[2], 4 * wide, 1, 1, wide, bias=True, gain=0.4)
        if projected:
            x = self.convolution(x, names[3], 4 * wide, 1, stride, channels)
        total = self.node("Add", [y, x], f"stage{stage}__plus{count}")
        return self.relu(total, f"stage{stage}_activation{count}")

    def model(self, size: int, classes: int) -> onnx.ModelProto:
        image = helper.make_tensor_value_info("data", 1, ["N", 3, size, size])
        scores = helper.make_tensor_value_info(f"{PREFIX}_dense0_fwd", 1, ["N", classes])
        graph = helper.make_graph(self.nodes, PREFIX, [image], [scores], self.constants)
        imports = [helper.make_opsetid("", 13)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=8)
        onnx.checker.check_model(model)
        return model
