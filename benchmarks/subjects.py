"""The networks that accuracy is measured on, their images, settings, and what they get right.

Networks, by name:
  resnet8        MLPerf Tiny, models/resnet8.h5 of QUANTKERAS_SHARED
  resnet20_jpeg  models/resnet20_cifar10_jpeg.onnx, on the 2,000 JPEG images
  resnet20       models/resnet20_cifar10.onnx, on the 2,000 JPEG images and on the lossless ones
  mobilenet      the package's own small MobileNetV2
  shufflenet     the package's own small ShuffleNetV2
  uneven         mobilenet, the same function, with channels between layers 2^-3 to 2^3 as large
All are calibrated on images of data/cifar10_jpeg_calib1024.npz, without labels, and tested on
data/cifar10_jpeg_eval2000.npz of QUANTKERAS_SHARED; QUANTKERAS_SHARED is needed.

Widths are `weights / activations`. `ends 8`: weights of the first and the last layer and outputs
without an activation have 8 bits, as quantkeras does by default; `all`: they have as few as the
others, as AIMET counts. Weights have one step per output channel; `per tensor` and `per channel`
are the formats of the activations, whose steps are always powers of two. The last layer gives its
accumulator.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

NETWORKS = ("resnet8", "resnet20_jpeg", "resnet20", "mobilenet", "shufflenet", "uneven")
WIDTHS = {"8/8": (8, 8), "6/6": (6, 6), "4/8": (4, 8), "4/4": (4, 4)}
BATCH = 250
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)

Test = tuple[np.ndarray, np.ndarray]


@dataclass
class Subject:
    """A float network with what prepares its images, and sets of test images by name.

    teaches: whether it was trained on JPEG images, so that it can teach others about them.
    float_rate: learning rate of Adam for more training in float: of 1e-3, 3e-4 and 1e-4 the one
    that gave the best accuracy on all 10,000 images after 200 steps of 128.
    """

    model: Any
    prepare: Callable[[np.ndarray], np.ndarray]
    tests: dict[str, Test] = field(default_factory=dict)
    teaches: bool = True
    float_rate: float = 1e-3


def normalized(images: np.ndarray) -> np.ndarray:
    """As the ResNet20 networks were trained."""
    return (images.astype(np.float32) / 255 - MEAN) / DEVIATION


def subject(name: str, shared: Path) -> Subject:
    """The network of that name with its test images."""
    from model_zoo import mobilenet_tiny, shufflenet
    from quantkeras import from_onnx, load_model

    jpeg = np.load(shared / "data" / "cifar10_jpeg_eval2000.npz")
    tests = {"JPEG": (jpeg["x"], jpeg["y"].reshape(-1))}
    if name == "resnet8":
        return Subject(load_model(shared / "models" / "resnet8.h5"), np.float32, tests, False)
    if name == "mobilenet":
        return Subject(mobilenet_tiny.load(), np.float32, tests)
    if name == "uneven":
        return Subject(uneven(mobilenet_tiny.load()), np.float32, tests)
    if name == "shufflenet":
        return Subject(shufflenet.load(), np.float32, tests)
    if name == "resnet20":
        lossless = np.load(shared / "data" / "cifar10_lossless_part.npz")
        tests["lossless"] = (lossless["x_test"], lossless["y_test"].reshape(-1))
    file = {"resnet20": "resnet20_cifar10.onnx", "resnet20_jpeg": "resnet20_cifar10_jpeg.onnx"}
    model = from_onnx(shared / "models" / file[name])
    return Subject(model, normalized, tests, name == "resnet20_jpeg", 3e-4)


def uneven(model: Any) -> Any:
    """The same function with channels of very different sizes."""
    from quantkeras.ptq.channel_links import find_links
    from quantkeras.ptq.equalization import scaled_along
    from sanitize import sanitize_graph
    from sanitize.keras_io import read_keras, write_keras

    graph, _ = sanitize_graph(read_keras(model))
    rng = np.random.default_rng(0)
    for link in find_links(graph)[0]:
        graph = scaled_along(graph, link, 2.0 ** rng.uniform(-3, 3, int(link.origin.max()) + 1))
    return write_keras(graph)


def training_images(of: Subject) -> Any:
    """Batches of the JPEG training images, mirrored and shifted at random, and their labels."""
    from model_zoo.datasets import load_cifar10
    from model_zoo.training import AugmentedImages, Recipe

    class Prepared(AugmentedImages):
        def __getitem__(self, index: int) -> Test:
            images, labels = super().__getitem__(index)
            return of.prepare(images), labels

    train, _ = load_cifar10(os.environ.get("QUANTKERAS_DATA"))
    return Prepared(*train, Recipe(epochs=0))


def add_all_images(of: Subject) -> None:
    """Test on all 10,000 JPEG images in QUANTKERAS_DATA, too."""
    from model_zoo.datasets import load_cifar10

    images, labels = load_cifar10()[1]
    of.tests["all JPEG"] = images, labels.reshape(-1)


def trained_float(of: Subject, x: Any, y: Any = None, **options: Any) -> Any:
    """A copy of the float network, trained with Adam, its rate falling along half a cosine.

    x, y and options: as for `fit`.
    """
    import keras

    from quantkeras.qat.distillation import ends_in_shares

    keras.utils.set_random_seed(0)
    model = keras.models.clone_model(of.model)
    model.set_weights(of.model.get_weights())
    model.trainable = True
    epoch = len(x) if y is None else -(-len(x) // options["batch_size"])
    steps = epoch * options.get("epochs", 1)
    schedule = keras.optimizers.schedules.CosineDecay(of.float_rate, steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=not ends_in_shares(model))
    model.compile(keras.optimizers.Adam(schedule), loss)
    model.fit(x, y, verbose=0, **options)
    return model


def settings(widths: str, ends: str, formats: str, ranges: str) -> Any:
    """QuantizationParams of a row."""
    from quantkeras import QuantizationParams

    weights, activations = WIDTHS[widths]
    everything = ends == "all"
    return QuantizationParams(
        weight_bits=weights,
        activation_bits=activations,
        input_weight_bits=weights if everything else 8,
        last_weight_bits=weights if everything else 8,
        output_bits=activations if everything else 8,
        per_tensor_activations=formats == "tensor",
        weight_range=ranges,
        observer=ranges,
    )


def choices(scores: np.ndarray) -> np.ndarray:
    """The class of each image."""
    return np.asarray(scores).reshape(len(scores), -1).argmax(axis=1)


def accuracies(model: Any, of: Subject) -> dict[str, float]:
    """Per cent right, by test set."""
    return {
        name: 100 * float(np.mean(choices(model.predict(of.prepare(x), BATCH, verbose=0)) == y))
        for name, (x, y) in of.tests.items()
    }


def of_program(quantized: Any, of: Subject) -> tuple[dict[str, float], bool]:
    """Accuracies of the integer program, and whether it chooses as the model on all images."""
    from quantkeras import convert

    program = convert(quantized)
    found, equal = {}, True
    for name, (images, labels) in of.tests.items():
        x = of.prepare(images)
        parts = [program.predict(x[i : i + BATCH]) for i in range(0, len(x), BATCH)]
        chosen = choices(np.concatenate(parts))
        found[name] = 100 * float(np.mean(chosen == labels))
        equal &= bool((chosen == choices(quantized.predict(x, BATCH, verbose=0))).all())
    return found, equal
