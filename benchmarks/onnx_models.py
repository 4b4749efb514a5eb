"""Do the networks that ship with the package onnx become integers, exactly?

    python benchmarks/onnx_models.py [--models resnet50 ...] [--files net.onnx ...] [--json FILE]

The package has nine classic architectures without their weights (onnx/backend/test/data/light);
they get random ones here. Each is imported, quantized with 8 bits on random images, converted,
compared with its program in every integer of every layer, and the program exported as integer ONNX.
`import` is the largest difference between the imported graph and onnxruntime, in parts of the
largest output (in front of a softmax, which hides differences); `nodes` counts ONNX nodes that data
flow through, `integer` and `float` those of them; `hardware` layers of the program; `onnx` says
whether onnxruntime gives the program's numbers.
"""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path
from typing import Any

import measuring
from measuring import in_fresh_process, report
from onnx_architectures import NAMES, architecture

SAMPLES = 4
"""Images to calibrate on; the first is compared."""

HEADER = (
    "model", "nodes", "integer", "float", "hardware", "import", "exact", "onnx", "seconds",
    "float remainder",
)  # fmt: skip


def measured(name: str, path: str | None = None) -> dict[str, Any]:
    """Everything about one network; call in a process of its own."""
    import numpy as np
    import onnxruntime

    from quantkeras import convert, coverage, quantize, verify
    from quantkeras.onnx import export_onnx
    from quantkeras.quantization.float_network import float_network

    start = time.perf_counter()
    model: Any = architecture(name) if path is None else path
    network = float_network(model)
    assert network.onnx is not None
    (port,) = network.onnx.inputs
    shape = network.graph.shape_of(port.value)
    images = np.random.default_rng(0).normal(size=(SAMPLES, *shape)).astype(np.float32)
    difference = _import_difference(model, network, images[:1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the table says what stays float
        quantized = quantize(network, samples=images)
    program = convert(quantized)
    exact = verify(quantized, program, images[:1]).exact
    covered = coverage(quantized)
    counts = covered.counts()
    written = export_onnx(program, input_layout="nchw")
    session = onnxruntime.InferenceSession(written.SerializeToString())
    result = session.run(None, {program.inputs[0].name: images[:1].transpose(0, 3, 1, 2)})[0]
    target = np.asarray(program.predict(images[:1]))
    target = target.transpose(0, 3, 1, 2) if target.ndim == 4 else target
    floats = [f"{x.name} ({x.type})" for x in covered.layers if x.status in ("float", "partly")]
    return {
        "nodes": covered.total,
        "integer": counts["integer"],
        "float": counts["float"] + counts["partly"],
        "hardware": len(program.layers),
        "import": difference,
        "exact": bool(exact),
        "equal": bool(np.array_equal(result, target)),
        "seconds": time.perf_counter() - start,
        "floats": floats,
    }


def _import_difference(model: Any, network: Any, images: Any) -> float:
    import numpy as np
    import onnx
    import onnxruntime

    from sanitize import evaluate

    proto = onnx.ModelProto()
    proto.CopyFrom(onnx.load(model) if isinstance(model, str) else model)
    port, compared, kept = network.onnx.inputs[0], proto.graph.output[0].name, None
    # In front of a softmax at the end.
    last = next((node for node in network.graph if node.kind == "softmax"), None)
    node = next((node for node in proto.graph.node if node.op_type == "Softmax"), None)
    if last is not None and node is not None:
        compared, kept = node.input[0], last.inputs[0]
        proto.graph.output.append(onnx.ValueInfoProto(name=compared))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    wanted = session.run([compared], {port.name: port.to_onnx(images)})[0].ravel()
    if kept is None:
        found = network.onnx.outputs[0].to_onnx(evaluate(network.graph, images)).ravel()
    else:
        found = evaluate(network.graph, images, keep=[kept])[kept].ravel()
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def main() -> None:
    """Measure, print the table."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    parser = measuring.arguments(__doc__)
    parser.add_argument("--models", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--files", nargs="+", type=Path, metavar="FILE", help="these instead")
    chosen = parser.parse_args()
    todo = [(name, None) for name in chosen.models]
    if chosen.files:
        todo = [(path.stem, str(path)) for path in chosen.files]
    rows, figures = [], []
    for name, path in todo:
        found = in_fresh_process(measured, name, path)
        figures.append({"model": name, **found})
        rows.append(
            (
                name,
                *(str(found[key]) for key in ("nodes", "integer", "float", "hardware")),
                f"{found['import']:.0e}",
                "yes" if found["exact"] else "NO",
                "equal" if found["equal"] else "NOT EQUAL",
                f"{found['seconds']:.0f}",
                ", ".join(found["floats"][:3]),
            )
        )
        print(*rows[-1], flush=True)
    report("ONNX models as integer programs, 8 bits", HEADER, rows)
    print(measuring.machine_line())
    measuring.write_json(chosen.json, {"onnx_models": figures})


if __name__ == "__main__":
    main()
