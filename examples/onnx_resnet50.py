"""Quantizing an ONNX ResNet50, with and without custom patterns: a walk-through.

    python examples/onnx_resnet50.py                 ResNet50, images of 224 x 224
    python examples/onnx_resnet50.py --small         the same structure, small enough to be quick
    python examples/onnx_resnet50.py --model resnet50-v1-7.onnx --samples images.npy

Hardware often takes less than the general form: no pooling by itself, one kind of padding only.
Three ways around that are shown: custom patterns, which change how ONNX nodes are read; the rules
of a target, which need no code; and doing nothing, as the integer program takes the network as is.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from resnet50_v1 import resnet_v1

from quantkeras import convert, coverage, from_onnx, quantize
from sanitize import PATTERNS, custom_pattern_scope, sanitize
from sanitize.graph import Node
from sanitize.onnx_io import OnnxNode, PatternGraph

FIRST = "resnetv17_conv0_fwd"
STEM = ("Conv", "BatchNormalization", "Relu", "MaxPool")


def identity_convolution(nodes: Sequence[OnnxNode], graph: PatternGraph) -> list[Node]:
    """A GlobalAveragePool as a convolution that changes nothing, followed by the pooling.

    For hardware that pools only behind a convolution: the two become one hardware layer.
    """
    value = nodes[0].inputs[0]
    channels = graph.shape(value)[-1]  # channels-last, like everything that is returned
    window = {"strides": (1, 1), "padding": "valid", "dilation": (1, 1), "groups": 1}
    kernel = np.eye(channels, dtype=np.float32)[None, None]  # (1, 1, in, out)
    name = graph.unique_name(f"{nodes[0].name}/identity")
    return [
        Node(name, "conv2d", (graph.value(value),), window, {"kernel": kernel}),
        Node(graph.name, "global_avg_pool", (name,), {"keepdims": True}),
    ]


def same_pads(nodes: Sequence[OnnxNode], graph: PatternGraph) -> list[Node]:
    """The chain as it is read without this pattern, but pads as Keras' "same" has them.

    For the 7 x 7 convolution that is 2 in front and 3 behind instead of 3 and 3: the picture moves
    by a pixel, which a trained network hardly minds. Its max pool likewise.
    """
    made = graph.read(nodes)
    return [
        node.with_attrs(padding="same") if node.kind in ("conv2d", "max_pool") else node
        for node in made
    ]


def first_only(nodes: Sequence[OnnxNode], graph: PatternGraph) -> list[Node] | None:
    """`same_pads` for the first convolution; None leaves all others as they are."""
    return same_pads(nodes, graph) if nodes[0].name == FIRST else None


CUSTOM = {("GlobalAveragePool",): identity_convolution, STEM: first_only}


def show_layers(quantized: Any, title: str) -> None:
    """The hardware layers at both ends of the program."""
    layers = convert(quantized).layers
    print(f"{title}: {len(layers)} layers; {coverage(quantized).summary}")
    for layer in (*layers[:2], *layers[-3:]):
        pool = f", then {layer.spec.pool.kind} pool" if layer.spec.pool else ""
        pads = f", pads {layer.spec.window.padding}" if layer.spec.window else ""
        print(f"  {layer.name} ({layer.spec.kind}{pads}{pool})")


def walk_through(model: onnx.ModelProto, samples: Any) -> dict[str, Any]:
    """All of it; samples (n, 3, height, width). Returns the quantized models by title."""
    print("Sequences of ONNX operators that become one hardware layer:")
    print(*(f"  {pattern}" for pattern in PATTERNS), sep="\n")

    # As it is: pads of 3 on all sides and the pooling behind Add and Relu are no obstacle.
    found = {"as it is": quantize(model, samples=samples, as_onnx=False)}

    # Custom patterns: for hardware that is less general.
    with custom_pattern_scope(CUSTOM):
        found["custom patterns"] = quantize(model, samples=samples, as_onnx=False)

    # The rules of a target: poolings get an identity convolution, convolutions of kernel 1 and
    # stride 2 a kernel of 3. Nothing has to be written, and the function stays exactly the same.
    float_model = sanitize(from_onnx(model), target="neuromorphic")
    images = samples.transpose(0, 2, 3, 1)
    found["rules of a target"] = quantize(float_model, samples=images)

    for title, quantized in found.items():
        show_layers(quantized, title)
    return found


def agreement(model: onnx.ModelProto, quantized: Any, samples: Any) -> float:
    """How often the quantized model's class is that of the float ONNX model."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString())
    wanted = session.run(None, {session.get_inputs()[0].name: samples})[0]
    scores = quantized.predict(samples.transpose(0, 2, 3, 1), verbose=0)
    return float((scores.argmax(-1) == wanted.argmax(-1)).mean())


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", help="an ONNX file (default: random weights)")
    parser.add_argument("--samples", help=".npy file, (n, 3, height, width) (default: noise)")
    parser.add_argument("--small", action="store_true", help="few blocks and channels")
    args = parser.parse_args(argv)
    options = {"size": 64, "blocks": (1, 1, 2, 1), "width": 8, "classes": 10} if args.small else {}
    model = onnx.load(args.model) if args.model else resnet_v1(**options)
    height, width = (dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[2:])
    if args.samples:
        samples = np.load(args.samples).astype(np.float32)
    else:
        samples = np.random.default_rng(1).normal(size=(16, 3, height, width)).astype(np.float32)
    for title, quantized in walk_through(model, samples).items():
        print(f"{title}: {100 * agreement(model, quantized, samples):.1f} % of the float classes")
    integer = quantize(model, samples=samples)
    onnx.save(integer, "resnet50_integer.onnx")
    print("resnet50_integer.onnx: the same inputs and outputs, integers in between")


if __name__ == "__main__":
    main()
