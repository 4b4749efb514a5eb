"""How long quantize, predict, training and import take, next to the float model.

    python benchmarks/speed.py [--only quantize predict train import] [--rounds N]

| table | what is compared | goal |
|---|---|---|
| quantize | the first `quantize()` of a process: layers built, 256 samples seen | 5 s, 10 s |
| predict | quantized and float `predict` at batch 32; the integer program beside them | 1.5 times |
| train | a training step of the quantized and of the float model at batch 32 | 1.5 times |
| import | `import quantkeras` and its verbs, beyond `import keras` | 0.3 s |

A LiteRT model of 8 bits (TensorFlow's own converter and runtime) stands beside quantize and
predict where TensorFlow has it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import litert
import measuring
import numpy as np
from measuring import Timings, in_fresh_process, in_turn, report, timed, verdict

BATCH = 32
SAMPLES = 256
NETWORKS = ("resnet8", "vww_mobilenet", "ds_cnn", "autoencoder")
TIMES_AS_MANY = {"autoencoder": 8}
"""Samples of predict in small networks: fewer would only time what each call costs at all."""
QUANTIZE_GOALS = {"resnet8": 5.0, "vww_mobilenet": 10.0}
RATIO_GOAL = 1.5
IMPORT_GOAL = 0.3

Figures = dict[str, Any]


def network(name: str, count: int) -> tuple[Any, np.ndarray]:
    """A network of the zoo, with statistics as after training, and samples (count, ...)."""
    from importlib import import_module

    import keras

    from model_zoo.batchnorm_statistics import randomize_batchnorm

    keras.utils.set_random_seed(0)
    module = import_module(f"model_zoo.{name}")
    model = module.load() if name == "resnet8" else module.build()
    rng = np.random.default_rng(0)
    shape = (count, *model.input_shape[1:])
    images = shape[-1] == 3
    x = rng.integers(0, 256, shape, np.uint8) if images else rng.normal(size=shape)
    x = x if images else x.astype(np.float32)
    if name != "resnet8":
        randomize_batchnorm(model, inputs=x[:BATCH].astype(np.float32))
    return model, x


# -- quantize ----------------------------------------------------------------------------------


def first_quantize(name: str, samples: int) -> tuple[float, float]:
    """(wall, CPU) seconds of the first quantize of a process, all modules imported."""
    from quantkeras import quantize

    model, x = network(name, samples)
    return timed(lambda: quantize(model, samples=x))


def first_litert(name: str, samples: int) -> tuple[float, float] | None:
    """(wall, CPU) seconds of the LiteRT converter for the same job; None without it."""
    if not litert.available():
        return None
    model, x = network(name, samples)
    return timed(lambda: litert.convert(model, x))


def quantize_table(networks: list[str], rounds: int, samples: int, peer: bool) -> Figures:
    names = [name for name in networks if name in QUANTIZE_GOALS]
    found = {name: Timings() for name in names}
    other = {name: Timings() for name in names}
    for _ in range(rounds):
        for name in names:
            found[name].add(in_fresh_process(first_quantize, name, samples))
            seconds = in_fresh_process(first_litert, name, samples) if peer else None
            if seconds is not None:
                other[name].add(seconds)
    rows, figures = [], {}
    for name in names:
        lite = f"{other[name].median_wall:.2f}" if other[name].wall else "-"
        goal = QUANTIZE_GOALS[name]
        wall, cpu = found[name].median_wall, found[name].median_cpu
        rows.append((name, f"{wall:.2f}", f"{cpu:.2f}", lite, f"{goal:g}", verdict(wall, goal)))
        figures[name] = {"wall_s": wall, "cpu_s": cpu, "goal_s": goal}
        if other[name].wall:
            figures[name] |= {"litert_wall_s": other[name].median_wall}
    header = ("quantize", "wall s", "CPU s", "LiteRT wall s", "goal s", "")
    report(f"First quantize of a process, {samples} samples", header, rows)
    return figures


# -- predict -----------------------------------------------------------------------------------


def predict_row(name: str, rounds: int, count: int, peer: bool) -> Figures:
    """Float, quantized, program and LiteRT on the same samples."""
    from quantkeras import convert, quantize

    count *= TIMES_AS_MANY.get(name, 1)
    model, x = network(name, count)
    quantized = quantize(model, samples=x[:SAMPLES])
    program = convert(quantized)
    x = x.astype(np.float32)
    alternatives: dict[str, Callable[[], object]] = {
        "float": lambda: model.predict(x, BATCH, verbose=0),
        "quantized": lambda: quantized.predict(x, BATCH, verbose=0),
        "program": lambda: program.predict(x),
    }
    if peer and litert.available():
        run = litert.runner(litert.convert(model, x[:SAMPLES]), BATCH)
        alternatives["LiteRT"] = lambda: run(x)
    first = {key: timed(function) for key, function in alternatives.items()}
    found = in_turn(alternatives, rounds)
    wall, cpu = found["quantized"].ratios(found["float"])
    rates = {key: count / t.median_wall for key, t in found.items()}
    cpu_rates = {key: count / t.median_cpu for key, t in found.items()}
    return {
        "samples": count,
        "wall_ratio": wall,
        "cpu_ratio": cpu,
        "per_s": rates,
        "per_cpu_s": cpu_rates,
        "first_call_cpu_s": {key: seconds[1] for key, seconds in first.items()},
    }


def predict_table(networks: list[str], rounds: int, count: int, peer: bool) -> Figures:
    figures = {name: in_fresh_process(predict_row, name, rounds, count, peer) for name in networks}
    engines = list(next(iter(figures.values()))["per_s"])
    rows = []
    for name, found in figures.items():
        per = [f"{found['per_s'][e]:,.0f} / {found['per_cpu_s'][e]:,.0f}" for e in engines]
        ratio = f"{found['wall_ratio']:.2f} / {found['cpu_ratio']:.2f}"
        first = found["first_call_cpu_s"]
        started = f"{first['quantized']:.1f} / {first['float']:.1f}"
        rows.append((name, ratio, verdict(found["cpu_ratio"], RATIO_GOAL), *per, started))
    header = ("predict", "wall / CPU ratio", "", *engines, "first call")
    notes = [
        f"Ratio of quantized to float predict, goal {RATIO_GOAL:g} (CPU); batch {BATCH}, {count} "
        f"samples (autoencoder {TIMES_AS_MANY['autoencoder'] * count}).",
        "Engines: samples per second / per CPU second. First call: CPU seconds, quantized / float.",
    ]
    report("predict", header, rows, notes)
    return figures


# -- training ----------------------------------------------------------------------------------


def train_row(name: str, rounds: int, steps: int) -> Figures:
    """A training step of the float model and of quantized ones, frozen and learned ranges."""
    import keras

    from quantkeras import QuantizationParams, quantize

    model, x = network(name, BATCH)
    feed = x.astype(np.float32)
    target = np.asarray(model.predict(feed, verbose=0))
    models = {"float": model}
    for ranges in ("frozen", "learned"):
        models[ranges] = quantize(model, QuantizationParams(ranges=ranges), x)

    def several(trained: Any) -> Callable[[], None]:
        def run() -> None:
            for _ in range(steps):
                trained.train_on_batch(feed, target)

        return run

    first = {}
    for key, trained in models.items():
        trained.compile(keras.optimizers.Adam(1e-5), "mse")
        first[key] = timed(lambda trained=trained: trained.train_on_batch(feed, target))
    found = in_turn({key: several(trained) for key, trained in models.items()}, rounds)
    return {
        "ratios": {key: found[key].ratios(found["float"]) for key in ("frozen", "learned")},
        "cpu_ms": {key: 1e3 * t.median_cpu / steps for key, t in found.items()},
        "first_call_cpu_s": {key: seconds[1] for key, seconds in first.items()},
    }


def train_table(networks: list[str], rounds: int, steps: int) -> Figures:
    figures = {name: in_fresh_process(train_row, name, rounds, steps) for name in networks}
    rows = []
    for name, found in figures.items():
        pairs = [f"{w:.2f} / {c:.2f}" for w, c in found["ratios"].values()]
        first = found["first_call_cpu_s"]
        rows.append(
            (
                name,
                pairs[0],
                verdict(found["ratios"]["frozen"][1], RATIO_GOAL),
                pairs[1],
                f"{found['cpu_ms']['float']:.1f}",
                f"{found['cpu_ms']['frozen']:.1f}",
                f"{first['frozen']:.1f} / {first['float']:.1f}",
            )
        )
    header = (
        "training step", "frozen ranges", "", "learned ranges", "float CPU ms", "frozen CPU ms",
        "first step",
    )  # fmt: skip
    notes = [
        f"Ratios to the float step, wall / CPU, goal {RATIO_GOAL:g} (CPU); Adam, batch {BATCH}. "
        "First step: CPU seconds, frozen / float."
    ]
    report("Training step", header, rows, notes)
    return figures


# -- import ------------------------------------------------------------------------------------

IMPORT = """
import time, keras
wall, cpu = time.perf_counter(), time.process_time()
import quantkeras
bare = time.perf_counter() - wall, time.process_time() - cpu
quantkeras.quantize, quantkeras.Program, quantkeras.verify
print(*bare, time.perf_counter() - wall, time.process_time() - cpu)
"""


def import_table(rounds: int) -> Figures:
    bare, verbs = Timings(), Timings()
    for _ in range(rounds):
        out = subprocess.run(
            [sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True
        ).stdout
        seconds = [float(word) for word in out.split()[-4:]]
        bare.add((seconds[0], seconds[1]))
        verbs.add((seconds[2], seconds[3]))
    rows = [
        (what, f"{t.median_wall:.3f}", f"{t.median_cpu:.3f}", verdict(t.median_wall, IMPORT_GOAL))
        for what, t in (("import quantkeras", bare), ("and its verbs", verbs))
    ]
    header = ("beyond import keras", "wall s", "CPU s", "")
    report("Import", header, rows, [f"Goal: {IMPORT_GOAL:g} s."])
    return {
        "import_wall_s": bare.median_wall,
        "verbs_wall_s": verbs.median_wall,
        "verbs_cpu_s": verbs.median_cpu,
    }


def main() -> None:
    """Measure what the command line asks for, print tables."""
    tables = ("quantize", "predict", "train", "import")
    parser = measuring.arguments(__doc__, rounds=9)
    parser.add_argument("--only", nargs="+", choices=tables, default=list(tables))
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--count", type=int, default=512, help=f"of predict; a multiple of {BATCH}")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="samples of quantize")
    parser.add_argument("--steps", type=int, default=5, help="of training in a round")
    parser.add_argument("--no-peer", action="store_true", help="leave LiteRT out")
    chosen = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    networks, rounds, peer = chosen.networks, chosen.rounds, not chosen.no_peer
    measure: dict[str, Callable[[], Figures]] = {
        "quantize": lambda: quantize_table(networks, max(1, rounds // 3), chosen.samples, peer),
        "predict": lambda: predict_table(networks, rounds, chosen.count, peer),
        "train": lambda: train_table(networks, rounds, chosen.steps),
        "import": lambda: import_table(max(1, rounds // 3)),
    }
    figures = {name: measure[name]() for name in chosen.only}
    print(measuring.machine_line())
    measuring.write_json(chosen.json, figures)


if __name__ == "__main__":
    main()
