"""Exported programs in onnxruntime: whether they are exact, how they agree, how fast they are.

    python benchmarks/onnx_export.py [--networks resnet8 mobilenet_tiny resnet20] [--rounds N]

| table | what is compared |
|---|---|
| agreement | integers of the integer form with the program's; classes of the other forms with it |
| speed | images per second of the program's engine and of each form in onnxruntime |

Each network is quantized to 8 bits with a step per channel ("channel") and per tensor ("tensor").
The integer form is checked at every optimisation level. Images: the test images of the package, or
for resnet20 those of data/cifar10_jpeg_eval2000.npz in the folder that QUANTKERAS_SHARED names,
where the network itself is models/resnet20_cifar10.onnx.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measuring
import numpy as np
from measuring import in_fresh_process, in_turn, report

NETWORKS = ("resnet8", "mobilenet_tiny", "resnet20")
FORMS = ("integer", "qdq", "qoperator", "encodings")
LEVELS = ("DISABLE_ALL", "ENABLE_BASIC", "ENABLE_EXTENDED", "ENABLE_ALL")
ACTIVATIONS = ("channel", "tensor")
CALIBRATION = 256
BATCH = 64

Figures = dict[str, Any]
Data = tuple[np.ndarray, np.ndarray]


def shared_folder() -> Path | None:
    """The folder with reference networks, if there is one."""
    folder = os.environ.get("QUANTKERAS_SHARED")
    found = folder is not None and (Path(folder) / "models" / "resnet20_cifar10.onnx").is_file()
    return Path(folder) if folder is not None and found else None


def network(name: str) -> tuple[Any, np.ndarray, Data]:
    """Float model, calibration images, and (test images, classes)."""
    from model_zoo.demo_data import cifar10_demo

    if name != "resnet20":
        from importlib import import_module

        (train, _), test = cifar10_demo()
        model = import_module(f"model_zoo.{name}").load(classifier_activation=None)
        return model, train[:CALIBRATION], test
    from quantkeras import from_onnx

    folder = shared_folder()
    assert folder is not None
    sets = [
        np.load(folder / "data" / f"cifar10_jpeg_{part}.npz") for part in ("calib1024", "eval2000")
    ]
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    train, test = (((packed["x"] / 255 - mean) / deviation).astype(np.float32) for packed in sets)
    model = from_onnx(folder / "models" / "resnet20_cifar10.onnx")
    return model, train[:CALIBRATION], (test, sets[1]["y"])


def session(model: Any, level: str = "ENABLE_ALL") -> Any:
    """An onnxruntime session on one thread, as the program's engine is."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{level}")
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def scores(runner: Any, x: np.ndarray) -> np.ndarray:
    """The only output for all images, in batches."""
    name = runner.get_inputs()[0].name
    parts = [
        runner.run(None, {name: x[start : start + BATCH]})[0] for start in range(0, len(x), BATCH)
    ]
    return np.concatenate(parts)


def measure(name: str, activations: str, rounds: int, count: int, timed: int) -> Figures:
    """Agreement and speed of all forms of one quantized network."""
    from quantkeras import QuantizationParams, convert, export_onnx, quantize

    model, train, (x, y) = network(name)
    x, y = x[:count], np.asarray(y[:count]).reshape(-1)
    params = QuantizationParams(per_tensor_activations=activations == "tensor")
    program = convert(quantize(model, params, train))
    x = x.astype(np.float32)
    wanted = program.predict(x)
    exported = {form: export_onnx(program, format=form) for form in FORMS}
    runners = {form: session(proto) for form, proto in exported.items()}
    found = {form: scores(runner, x) for form, runner in runners.items()}
    exact = {
        level: bool((scores(session(exported["integer"], level), x) == wanted).all())
        for level in LEVELS
    }
    few = x[:timed]
    alternatives: dict[str, Callable[[], object]] = {"program": lambda: program.predict(few)}
    for form, runner in runners.items():
        alternatives[form] = lambda runner=runner: scores(runner, few)
    for function in alternatives.values():
        function()
    timings = in_turn(alternatives, rounds)
    classes = wanted.argmax(axis=1)
    return {
        "images": len(x),
        "exact": exact,
        "accuracy": {"program": float((classes == y).mean())}
        | {form: float((s.argmax(axis=1) == y).mean()) for form, s in found.items()},
        "agreement": {
            form: float((s.argmax(axis=1) == classes).mean()) for form, s in found.items()
        },
        "largest_difference": {
            form: float(abs(s - wanted).max() / abs(wanted).max()) for form, s in found.items()
        },
        "per_s": {key: len(few) / t.median_wall for key, t in timings.items()},
        "per_cpu_s": {key: len(few) / t.median_cpu for key, t in timings.items()},
        "bytes": {form: proto.ByteSize() for form, proto in exported.items()},
    }


def agreement_table(figures: dict[str, Figures]) -> None:
    rows = []
    for name, found in figures.items():
        levels = sum(found["exact"].values())
        for form in FORMS:
            exact = f"{levels} of {len(LEVELS)} levels" if form == "integer" else "-"
            rows.append(
                (
                    f"{name} ({found['images']:,})" if form == FORMS[0] else "",
                    form,
                    exact,
                    f"{100 * found['agreement'][form]:.2f} %",
                    f"{100 * found['largest_difference'][form]:.2f} %",
                    f"{100 * found['accuracy'][form]:.2f} %",
                    f"{100 * found['accuracy']['program']:.2f} %",
                    f"{found['bytes'][form] / 1024:,.0f}",
                )
            )
    header = ("network (images)", "form", "exact", "same class", "largest difference")
    notes = [
        "Exact: every score equals the program's, at each of onnxruntime's optimisation levels.",
        "Largest difference: of a score, to the largest score. encodings: the float model itself.",
    ]
    report("Agreement", (*header, "accuracy", "program's", "KiB"), rows, notes)


def speed_table(figures: dict[str, Figures]) -> None:
    engines = ("program", *FORMS)
    rows = [
        (name, *(f"{found['per_s'][e]:,.0f} / {found['per_cpu_s'][e]:,.0f}" for e in engines))
        for name, found in figures.items()
    ]
    notes = ["Images per second / per CPU second. onnxruntime on one thread; encodings: float."]
    report("Speed", ("network", *engines), rows, notes)


def main() -> None:
    """Measure what the command line asks for, print tables."""
    parser = measuring.arguments(__doc__, rounds=7)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--activations", nargs="+", choices=ACTIVATIONS, default=list(ACTIVATIONS))
    parser.add_argument("--count", type=int, default=2000, help="images compared, at most")
    parser.add_argument("--timed", type=int, default=256, help="images timed")
    chosen = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    figures = {}
    for name in chosen.networks:
        if name == "resnet20" and shared_folder() is None:
            print(f"{name}: QUANTKERAS_SHARED names no folder with it; left out\n")
            continue
        for activations in chosen.activations:
            figures[f"{name}, {activations}"] = in_fresh_process(
                measure, name, activations, chosen.rounds, chosen.count, chosen.timed
            )
    agreement_table(figures)
    speed_table(figures)
    print(measuring.machine_line())
    measuring.write_json(chosen.json, {"networks": figures})


if __name__ == "__main__":
    main()
