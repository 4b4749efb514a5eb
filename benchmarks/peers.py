"""Accuracy without labels next to other quantizers, in one run.

    QUANTKERAS_SHARED=... python benchmarks/peers.py [--networks resnet20_jpeg ...]
        [--aimet PYTHON] [--ai-edge PYTHON] [--iterations 1000] [--json FILE]

All begin with the same float network and the same 256 images, and are tested on the 2,000 JPEG
images; networks are those of subjects.py. Widths are `weights / activations`; all layers have the
same, the first and the last, too; weights have a step per channel. Columns:

  onnxruntime   its static quantizer, QDQ form; activations of 8 bits
  ai-edge       Google's ai-edge-quantizer, static, run by LiteRT; activations of 8 bits
  AIMET         ranges by SQNR; then with AdaRound, `--iterations` steps a layer
  quantkeras    ranges by squared error; then with adaround; the integer program of that

A dash: the quantizer has no such widths, or is not there. AIMET and ai-edge-quantizer are never
needed by quantkeras and have environments of their own, whose interpreters are given here:

    python -m venv aimet; aimet/bin/pip install aimet-onnx==2.42.0
    python -m venv ai_edge; ai_edge/bin/pip install ai-edge-quantizer ai-edge-litert tensorflow
    python benchmarks/peers.py --aimet aimet/bin/python --ai-edge ai_edge/bin/python

peer_....py have the settings of each. The second table is what each took in a process of its own,
from the float network to the quantized one without imports: seconds, and peak of the resident
memory beyond what there was before. Networks that began as ONNX are read as they are by
onnxruntime and AIMET; the others as quantkeras exports them.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import measuring
from measuring import report
from peer_runs import NETWORKS, WIDTHS, Contest, Quantizer, Run

SAMPLES = 256
COST = ("network", "widths", "quantizer", "wall s", "CPU s", "added MB")


def quantizers(aimet: str | None, ai_edge: str | None, iterations: int) -> dict[str, Any]:
    """Who takes part: name -> (quantizer, its --adaround)."""
    theirs = Quantizer("peer_aimet.py", "onnx", aimet)
    ours = Quantizer("peer_quantkeras.py", "keras")
    narrow = ("8/8", "4/8")
    return {
        "onnxruntime": (Quantizer("peer_onnxruntime.py", "onnx", widths=narrow), None),
        "ai-edge": (Quantizer("peer_ai_edge.py", "tflite", ai_edge, narrow), None),
        "AIMET": (theirs, None),
        "AIMET AdaRound": (theirs, iterations),
        "quantkeras": (ours, None),
        "quantkeras adaround": (ours, 0),
    }


def cells(run: Run | None) -> str:
    """The accuracy of what a run made."""
    return "-" if run is None else f"{run.accuracies['model']:.2f}"


def cost(network: str, widths: str, name: str, run: Run) -> tuple[str, ...]:
    """A line of the second table."""
    wall, cpu = run.seconds()
    return (network, widths, name, f"{wall:.1f}", f"{cpu:.1f}", f"{run.memory():.0f}")


def main() -> None:
    """Measure, print the tables."""
    parser = measuring.arguments(__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--widths", nargs="+", choices=list(WIDTHS), default=list(WIDTHS))
    parser.add_argument("--aimet", metavar="PYTHON", help="interpreter that has aimet-onnx")
    parser.add_argument("--ai-edge", metavar="PYTHON", help="one that has ai-edge-quantizer")
    parser.add_argument("--iterations", type=int, default=1000, help="of AIMET (default: 1000)")
    parser.add_argument("--images", type=int, help="to test (default: all)")
    chosen = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    everybody = quantizers(chosen.aimet, chosen.ai_edge, chosen.iterations)
    rows, costs, figures = [], [], []
    for network in chosen.networks:
        with tempfile.TemporaryDirectory() as folder:
            contest = Contest(network, Path(folder), SAMPLES, chosen.images)
            for widths in chosen.widths:
                runs = {
                    name: contest.run(quantizer, widths, adaround)
                    for name, (quantizer, adaround) in everybody.items()
                }
                there = {name: run for name, run in runs.items() if run is not None}
                program = there["quantkeras adaround"].accuracies["program"]
                accuracies = (f"{contest.float_accuracy:.2f}", *map(cells, runs.values()))
                rows.append((network, widths, *accuracies, f"{program:.2f}"))
                costs += [cost(network, widths, name, run) for name, run in there.items()]
                figures.append(
                    {
                        "network": network,
                        "widths": widths,
                        "float": contest.float_accuracy,
                        **{name: run.figures() for name, run in there.items()},
                    }
                )
                settings = {"iterations": chosen.iterations, "images": len(contest.labels)}
                measuring.write_json(chosen.json, {**settings, "peers": figures})
    header = ("network", "widths", "float", *everybody, "program")
    report("Without labels, next to other quantizers", header, rows)
    report("What it took", COST, costs)
    print(measuring.machine_line())


if __name__ == "__main__":
    main()
