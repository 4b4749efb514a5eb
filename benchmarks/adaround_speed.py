"""Time and memory of adaptive rounding next to AIMET's AdaRound, in one run.

    QUANTKERAS_SHARED=... python benchmarks/adaround_speed.py --aimet PYTHON [--rounds 3]
        [--network resnet20_jpeg] [--iterations 1000 200] [--own 0] [--json FILE]

Both begin with the same float network and the same 256 images, all layers with the same bits, each
time in a fresh process (see peers.py for an environment of AIMET's own). `iterations`: of AIMET, a
layer; of quantkeras, steps of gradient descent for each block after rounding layer by layer, 0 for
none. Times and memory are those of the rounding alone, then those from the float network to the
quantized one, without imports: medians over the rounds. Memory is the peak of the resident memory
beyond what there was before. Accuracy is that on the 2,000 JPEG images: of the simulation, of
quantkeras's integer program.

Goals: at most half of AIMET's time with its first number of iterations, and less than 300 MB.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import measuring
from measuring import report
from peer_runs import NETWORKS, WIDTHS, Contest, Quantizer, Run
from peers import SAMPLES

HEADER = (
    "widths", "by", "iterations", "wall s", "CPU s", "added MB", "all: wall s", "added MB",
    "accuracy", "time to AIMET's", "time", "memory",
)  # fmt: skip
TIME, MEMORY = 0.5, 300.0


def median(runs: list[Run]) -> dict[str, Any]:
    """Medians over the rounds, and the accuracy, which is the same in all of them."""
    seconds = [run.seconds("round") for run in runs]
    return {
        "wall_s": statistics.median(wall for wall, _ in seconds),
        "cpu_s": statistics.median(cpu for _, cpu in seconds),
        "added_mb": statistics.median(run.memory("round") for run in runs),
        "all_wall_s": statistics.median(run.seconds()[0] for run in runs),
        "all_added_mb": statistics.median(run.memory() for run in runs),
        "accuracy": runs[0].accuracies.get("program", runs[0].accuracies["model"]),
    }


def measured(
    contest: Contest, widths: str, rivals: list[tuple[str, Quantizer, int]], rounds: int
) -> list[dict[str, Any]]:
    """One entry for each rival, the first of which is AIMET: run in turn, ``rounds`` times."""
    runs: list[list[Run]] = [[] for _ in rivals]
    for _ in range(rounds):
        for (_, by, iterations), made in zip(rivals, runs, strict=True):
            run = contest.run(by, widths, iterations)
            if run is not None:
                made.append(run)
    found = []
    for (name, _, iterations), made in zip(rivals, runs, strict=True):
        entry = {"widths": widths, "by": name, "iterations": iterations, **median(made)}
        base, own = (statistics.median(r.seconds("round")[0] for r in x) for x in (runs[0], made))
        found.append({**entry, "ratio": own / base})
    return found


def cells(entry: dict[str, Any]) -> tuple[str, ...]:
    """An entry as a line of the table."""
    names = ("wall_s", "cpu_s", "added_mb", "all_wall_s", "all_added_mb")
    line = [entry["widths"], entry["by"], str(entry["iterations"])]
    line += [f"{entry[name]:.1f}" for name in names]
    line += [f"{entry['accuracy']:.2f}", f"{entry['ratio']:.2f}"]
    if entry["by"] != "quantkeras":
        return (*line, "", "")
    goals = (entry["ratio"], TIME), (entry["added_mb"], MEMORY)
    return (*line, *(measuring.verdict(value, goal) for value, goal in goals))


def main() -> None:
    """Measure, print the table."""
    parser = measuring.arguments(__doc__, rounds=1)
    parser.add_argument("--aimet", metavar="PYTHON", required=True, help="has aimet-onnx")
    parser.add_argument("--network", choices=NETWORKS, default="resnet20_jpeg")
    parser.add_argument("--widths", nargs="+", choices=list(WIDTHS), default=["4/8", "4/4"])
    parser.add_argument("--iterations", nargs="+", type=int, default=[1000, 200], help="of AIMET")
    parser.add_argument("--own", nargs="+", type=int, default=[0], help="of quantkeras (default 0)")
    parser.add_argument("--images", type=int, help="to test (default: all)")
    chosen = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    theirs = Quantizer("peer_aimet.py", "onnx", chosen.aimet)
    ours = Quantizer("peer_quantkeras.py", "keras")
    rivals = [("AIMET", theirs, count) for count in chosen.iterations]
    rivals += [("quantkeras", ours, count) for count in chosen.own]
    figures: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        contest = Contest(chosen.network, Path(folder), SAMPLES, chosen.images)
        for widths in chosen.widths:
            figures += measured(contest, widths, rivals, chosen.rounds)
            measuring.write_json(chosen.json, {"network": chosen.network, "adaround": figures})
    note = f"{chosen.network}, float {contest.float_accuracy:.2f}; rounds: {chosen.rounds}"
    report("Adaptive rounding", HEADER, [cells(entry) for entry in figures], [note])
    print(measuring.machine_line())


if __name__ == "__main__":
    main()
