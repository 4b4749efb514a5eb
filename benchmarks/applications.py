"""Does every convolutional network of keras.applications become integers, exactly?

    python benchmarks/applications.py [--models MobileNetV2 ...] [--samples N] [--json FILE]

Each network is built at a small input size with random weights and BatchNormalization statistics,
sanitized, quantized with 8 bits on random pictures, converted, and compared with its program in
every integer of every layer. `sanitize` is the largest difference between the logits of the float
model and of its sanitized copy, in parts of the largest, both in float64. `noise` is the same for
the model itself with each weight one rounding of float32 off: deep random networks magnify that,
and the sanitized weights are float32, too. `layers`, `integer` and `float` count layers of the
network, nested ones too; `hardware` those of the program.
"""

from __future__ import annotations

import os
import time
import warnings
from dataclasses import replace
from typing import Any

import measuring
from measuring import in_fresh_process, report

SIZES = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}
"""Height and width of the images where 32 is not enough."""

NETWORKS = (
    "Xception", "VGG16", "VGG19", "ResNet50", "ResNet101", "ResNet152", "ResNet50V2",
    "ResNet101V2", "ResNet152V2", "InceptionV3", "InceptionResNetV2", "MobileNet", "MobileNetV2",
    "MobileNetV3Small", "MobileNetV3Large", "DenseNet121", "DenseNet169", "DenseNet201",
    "NASNetMobile", "NASNetLarge", "EfficientNetB0", "EfficientNetB1", "EfficientNetB2",
    "EfficientNetB3", "EfficientNetB4", "EfficientNetB5", "EfficientNetB6", "EfficientNetB7",
    "EfficientNetV2B0", "EfficientNetV2B1", "EfficientNetV2B2", "EfficientNetV2B3",
    "EfficientNetV2S", "EfficientNetV2M", "EfficientNetV2L",
)  # fmt: skip
CLASSES = 10
GOAL = 1e-4
HEADER = ("model", "layers", "integer", "float", "hardware", "sanitize", "noise", "exact",
          "seconds", "")  # fmt: skip


def application(name: str) -> dict[str, Any]:
    """Build one network and measure all of it; call in a process of its own."""
    import keras
    import numpy as np

    from model_zoo.batchnorm_statistics import patch_images, randomize_batchnorm
    from quantkeras import convert, coverage, quantize, verify

    keras.utils.set_random_seed(0)
    size = SIZES.get(name, 32)
    images = patch_images(64, size)
    build = getattr(keras.applications, name)
    model = build(weights=None, input_shape=(size, size, 3), classes=CLASSES)
    randomize_batchnorm(model, 0, images.astype(np.float32))
    start = time.perf_counter()
    error, noise = _sanitize_error(model, images[:2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the table says what stays float
        quantized = quantize(model, samples=images[:16])
    program = convert(quantized)
    verified = verify(quantized, program, images[16:18])
    report = coverage(quantized)
    counts = report.counts()
    return {
        "model": name,
        "layers": len(report.layers),
        "float": counts.get("float", 0) + counts.get("partly", 0),
        "integer": counts.get("integer", 0),
        "hardware": len(program.layers),
        "error": error,
        "noise": noise,
        "exact": verified.exact,
        "elements": verified.elements,
        "seconds": time.perf_counter() - start,
        "float_layers": [layer.name for layer in report.layers if layer.reason],
    }


def _sanitize_error(model: Any, images: Any) -> tuple[float, float]:
    """How far the logits of the sanitized Keras model are from those of the model, and how far
    those of the model are from its own with each weight one rounding off; all in float64.
    """
    import numpy as np

    from quantkeras import sanitize
    from sanitize.keras_io import read_keras
    from sanitize.rewriting_check import largest_differences, run_for_comparison, saturated

    rng = np.random.default_rng(0)

    def moved(weight: Any) -> Any:
        return weight * (1 + 2.0**-24 * rng.uniform(-1, 1, weight.shape))

    graph = read_keras(model)
    noisy = graph.with_nodes(
        replace(node, weights={name: moved(w) for name, w in node.weights.items()})
        for node in graph
    )
    found = [
        run_for_comparison(each, dict.fromkeys(each.inputs, images), saturated(each))
        for each in (graph, read_keras(sanitize(model)), noisy)
    ]
    error, noise = (float(largest_differences(found[0], other).max()) for other in found[1:])
    return error, noise


def _verdict(found: dict[str, Any]) -> str:
    if not found["exact"] or found["error"] > max(GOAL, 2 * found["noise"]):
        return "MISSED"
    return "met" if found["error"] <= GOAL else "noise"


def main() -> None:
    """Measure, print the table."""
    parser = measuring.arguments(__doc__)
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=NETWORKS)
    chosen = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    rows, figures = [], []
    for name in chosen.models:
        found = in_fresh_process(application, name)
        figures.append(found)
        rows.append(
            (
                name,
                str(found["layers"]),
                str(found["integer"]),
                str(found["float"]),
                str(found["hardware"]),
                f"{found['error']:.0e}",
                f"{found['noise']:.0e}",
                "yes" if found["exact"] else "NO",
                f"{found['seconds']:.0f}",
                _verdict(found),
            )
        )
        print(*rows[-1], flush=True)
    report("keras.applications as integer programs, 8 bits", HEADER, rows)
    print(measuring.machine_line())
    measuring.write_json(chosen.json, {"applications": figures})


if __name__ == "__main__":
    main()
