"""Reads many damaged files of one kind, within limits, and reports what it should not have met.

A program of its own, since a limit on memory holds for a whole process:
``python reading.py KIND COUNT SEED FOLDER`` prints one line a fault, then a line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import resource
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import damage
import numpy as np

SECONDS = 20
"""For one file."""
ROOM = 3 * 2**29
"""Bytes of memory above what the libraries take themselves."""

Kind = tuple[
    Callable[[Path], bytes], Callable[[bytes, random.Random], bytes], Callable[[Path], Any]
]


def mixed(
    inside: Callable[[bytes, random.Random], bytes],
) -> Callable[[bytes, random.Random], bytes]:
    """Damage of the bytes for one file of three, else of the contents."""

    def change(data: bytes, rng: random.Random) -> bytes:
        return damage.damaged_bytes(data, rng) if rng.random() < 0.33 else inside(data, rng)

    return change


def inside_json(data: bytes, rng: random.Random) -> bytes:
    return json.dumps(damage.damaged_value(json.loads(data), rng)).encode()


def inside_zip(*members: str) -> Callable[[bytes, random.Random], bytes]:
    return lambda data, rng: damage.damaged_zip(data, members, rng)


# -- programs, settings, samples ----------------------------------------------------------------


def make_program(path: Path) -> bytes:
    from small_programs import conv_dense, two_by_two

    (two_by_two if "2" in path.stem else conv_dense)().save(path)
    return path.read_bytes()


def read_program(path: Path) -> None:
    from quantkeras.runtime import Program

    program = Program.load(path)
    program.summary(print_fn=lambda line: None)
    elements = sum(math.prod(shape) for shape in program.shapes.values())
    weights = sum(
        np.size(layer.params.weights) * math.prod(layer.output_shape)
        for layer in program.layers
        if layer.params.weights is not None
    )
    if elements < 2**20 and weights < 2**26:  # larger ones may run for long
        program.predict([np.ones((1, *entry.shape), np.float32) for entry in program.inputs])


def make_params(path: Path) -> bytes:
    from quantkeras.quantization.params import QuantizationParams

    params = QuantizationParams(weight_bits=4, float_layers=("head*",), observer="percentile:99.9")
    params.with_override("conv", weight_bits=6).save(path)
    return path.read_bytes()


def read_params(path: Path) -> None:
    from quantkeras.quantization.params import QuantizationParams

    QuantizationParams.load(path).for_layer("conv", first=True)


def make_encodings(path: Path) -> bytes:
    from quantkeras.onnx.encodings import VERSIONS, Encoding, encodings_document

    entries = [
        Encoding("x", 8, False, np.asarray(0.5), np.asarray(3)),
        Encoding("y", 8, True, np.asarray([0.5, 0.25]), np.asarray([0, 0]), 0),
        Encoding("w", 4, True, np.asarray([0.5, 0.25]), np.asarray([0, 0]), 0, is_param=True),
    ]
    version = VERSIONS[len(path.stem) % len(VERSIONS)]
    path.write_text(json.dumps(encodings_document(entries, version)))
    return path.read_bytes()


def read_encodings(path: Path) -> None:
    from quantkeras.onnx import encoding_observers

    for name, observer in encoding_observers(path).items():
        seen = observer.fresh(per_channel=False, label=name)
        seen.update(np.zeros((4, 2), np.float32))


def make_samples(path: Path) -> bytes:
    np.savez_compressed(path, x=np.ones((9, 4, 2), "f4"), y=np.arange(9))
    return path.read_bytes()


def read_samples(path: Path) -> None:
    from quantkeras.calibration.batches import InputSpec
    from quantkeras.calibration.samples import iterate_samples
    from quantkeras.cli.run_data import find_labels, open_inputs

    specs = [InputSpec("x", (4, 2))]
    for _ in iterate_samples(path, specs, 4):
        pass
    found = open_inputs(path, specs, None, 4)
    find_labels(None, path, found.key, found.count)


# -- models -------------------------------------------------------------------------------------


def make_keras(path: Path) -> bytes:
    import keras

    from quantkeras import quantize, save_model

    keras.utils.set_random_seed(1)
    inputs = keras.Input((6, 6, 2))
    hidden = keras.layers.Conv2D(3, 3, activation="relu", padding="same")(inputs)
    hidden = keras.layers.Add()([hidden, keras.layers.DepthwiseConv2D(3, padding="same")(hidden)])
    hidden = keras.layers.AveragePooling2D(3, strides=2, padding="same")(hidden)
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(hidden)))
    if "2" in path.stem:
        x = np.random.default_rng(0).normal(size=(8, 6, 6, 2)).astype("float32")
        model = quantize(model, samples=x)
    save_model(model, path)
    return path.read_bytes()


def inside_hdf5(data: bytes, rng: random.Random) -> bytes:
    """Damage of the description, or of one of the lists of names."""
    import h5py

    path = Path(f"scratch-{os.getpid()}.h5")
    path.write_bytes(data)
    with h5py.File(path, "r+") as file:
        text = json.loads(file.attrs["model_config"])
        del file.attrs["model_config"]
        file.attrs["model_config"] = json.dumps(damage.damaged_value(text, rng))
    return path.read_bytes()


def copy_of_keras2(path: Path) -> bytes:
    """A file that Keras 2 wrote."""
    folder = Path(__file__).resolve().parents[1] / "fixtures" / "keras2"
    return (folder / "branches.h5").read_bytes()


def read_model(path: Path) -> None:
    from quantkeras import load_model

    load_model(path)


def make_onnx(path: Path) -> bytes:
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(0)
    constants = {
        "w": rng.normal(size=(4, 2, 3, 3)).astype("f4"),
        "b": rng.normal(size=4).astype("f4"),
        "v": rng.normal(size=(4, 3)).astype("f4"),
        "s": np.array([0, -1]),
        "half": np.array([0.5], "f4"),
        "to": np.array([4]),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Expand", ["half", "to"], ["e"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["m"], ["g"]),
        helper.make_node("Reshape", ["g", "s"], ["f"]),
        helper.make_node("Mul", ["f", "e"], ["h"]),
        helper.make_node("MatMul", ["h", "v"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, ["N", 2, 8, 8])],
        [helper.make_tensor_value_info("y", 1, ["N", 3])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(made.SerializeToString())


def inside_onnx(data: bytes, rng: random.Random) -> bytes:
    """One field of the model's messages set to something else."""
    import onnx

    model = onnx.ModelProto.FromString(data)
    graph = model.graph
    way = rng.randrange(7)
    node, tensor = rng.choice(graph.node), rng.choice(graph.initializer)
    number = rng.choice([0, 1, -1, 2, 2**20, 2**31 - 1, 2**40, -(2**40)])
    if way == 0 and node.attribute:
        attribute = rng.choice(node.attribute)
        attribute.ints[:] = [number for _ in attribute.ints]
    elif way == 1 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = number
    elif way == 2:
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.array([number] * 2), tensor.name))
    elif way == 3:
        node.op_type = rng.choice(["Tile", "Pad", "Loop", "Range", "Resize", "Concat", "ReduceSum"])
    elif way == 4 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(["", "x", "y", "w", "é"])
    elif way == 5:
        graph.input[0].type.tensor_type.shape.dim[rng.randrange(4)].dim_value = number
    else:
        del rng.choice([graph.node, graph.initializer, graph.output, model.opset_import])[0]
    return bytes(model.SerializeToString())


def read_onnx(path: Path) -> None:
    from quantkeras.errors import QuantizationError
    from quantkeras.onnx.runtime_quantizer.model_source import inferred_types, load_model
    from sanitize.onnx_io import read_onnx as read

    with contextlib.suppress(QuantizationError):
        inferred_types(load_model(path))
    read(path)


KINDS: dict[str, Kind] = {
    "net.qkp": (make_program, mixed(inside_zip("program.json")), read_program),
    "net2.qkp": (make_program, mixed(inside_zip("program.json")), read_program),
    "params.json": (make_params, mixed(inside_json), read_params),
    "a.encodings": (make_encodings, mixed(inside_json), read_encodings),
    "ab.encodings": (make_encodings, mixed(inside_json), read_encodings),
    "abc.encodings": (make_encodings, mixed(inside_json), read_encodings),
    "x.npz": (make_samples, mixed(inside_zip()), read_samples),
    "net.keras": (make_keras, mixed(inside_zip("config.json", "metadata.json")), read_model),
    "net2.keras": (make_keras, mixed(inside_zip("config.json", "metadata.json")), read_model),
    "net.h5": (copy_of_keras2, mixed(inside_hdf5), read_model),
    "net2.h5": (make_keras, mixed(inside_hdf5), read_model),
    "net.onnx": (make_onnx, mixed(inside_onnx), read_onnx),
}
"""Name of a file -> what writes a whole one, what damages it, what reads it."""


def main(name: str, count: int, seed: int, folder: str) -> None:
    """Reads `count` damaged files called `name`; the whole one first, for what imports take."""
    from quantkeras.errors import QuantizationError
    from sanitize.graph import GraphError
    from sanitize.match import RewriteError
    from sanitize.onnx_errors import OnnxError

    os.chdir(folder)
    make, change, read = KINDS[name]
    path, rng = Path(name), random.Random(seed)
    whole = make(path)
    path.write_bytes(whole)
    read(path)
    warnings.simplefilter("ignore")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, taken + ROOM))

    def too_late(number: int, frame: Any) -> None:
        raise TimeoutError(f"still reading after {SECONDS} s")

    signal.signal(signal.SIGALRM, too_late)
    refused = 0
    for index in range(count):
        path.write_bytes(change(whole, rng))
        signal.alarm(SECONDS)
        try:
            read(path)
        except (QuantizationError, GraphError, RewriteError, OnnxError):
            refused += 1
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}"
            print(f"fault: file {index} of {name}: {type(error).__name__}: {error} ({where})"[:400])
            Path(f"fault-{index}-{name}").write_bytes(path.read_bytes())
        finally:
            signal.alarm(0)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    print(json.dumps({"refused": refused, "read": count - refused, "grown": grown}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
