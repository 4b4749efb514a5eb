"""Reading a model file whose inputs may leave sizes open."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .input_shapes import SHAPES_HELP, given_shapes

if TYPE_CHECKING:
    from sanitize.keras_io.keras_reading import Reading


def add_size_options(parser: argparse.ArgumentParser) -> None:
    """The options that say the sizes which a model leaves open."""
    add = parser.add_argument
    add("--shapes", nargs="+", metavar="SHAPE", help=SHAPES_HELP)
    add("-sa", "--samples", type=Path, metavar="NPZ", help=".npz or .npy: sizes of open inputs")


def read_file(args: argparse.Namespace, verify: bool) -> Reading:
    """The model in the file ``args.model``; verify: held to what it computes.

    A Keras model may keep sizes open where neither option is given; an ONNX model then raises
    SampleError, which names them.
    """
    from sanitize.keras_io.keras_reading import read_model

    from ..api import load_model
    from ..calibration.sample_shapes import SampleShapes
    from ..onnx.onnx_models import keras_model
    from ..quantization.float_network import is_onnx, keras_shapes, onnx_network, onnx_shapes

    shapes, samples = given_shapes(args.shapes), SampleShapes(args.samples)
    if is_onnx(args.model):
        network = onnx_network(args.model, shapes=onnx_shapes(shapes, samples))
        return read_model(keras_model(network, args.model), verify)
    model = load_model(args.model)
    sizes, dtypes = keras_shapes(model, shapes, None if args.samples is None else samples)
    return read_model(model, verify, sizes, dtypes)
