"""AIMET's part of a comparison: aimet-onnx, ranges by SQNR, AdaRound. See peer_steps.py.

MODEL is an .onnx file. An environment for it:

    python -m venv aimet; aimet/bin/pip install aimet-onnx==2.42.0

Its default settings: weights per channel, activations per tensor, steps of any size. Its steps are
those of its documentation: batch normalizations folded, rounding, then the ranges of activations.
What follows the last weighted layer stays float, as it does in quantkeras: with few bits the
classes would often be equal. The classes are those of its simulation.
"""

from __future__ import annotations

from collections.abc import Iterator

import aimet_onnx
import numpy as np
import onnx
import torch
import torch._dynamo  # its optimizers import it late, as time and memory of the rounding
from aimet_onnx.batch_norm_fold import fold_all_batch_norms_to_weight
from peer_steps import Task, task

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
SEED = 0


def scores(model: onnx.ModelProto) -> Iterator[str]:
    """Names of the tensors from the outputs back to the last weighted layers."""
    producers = {name: node for node in model.graph.node for name in node.output}
    names = [output.name for output in model.graph.output]
    while names:
        name = names.pop()
        yield name
        node = producers.get(name)
        if node is not None and node.op_type not in WEIGHTED:
            names += [source for source in node.input if source in producers]


def simulation(of: Task) -> aimet_onnx.QuantizationSimModel:
    """The network with quantizers that have no ranges yet."""
    model = onnx.load(of.model)
    fold_all_batch_norms_to_weight(model)
    floats = list(scores(model))
    made = aimet_onnx.QuantizationSimModel(
        model,
        param_type=f"int{of.weights}",
        activation_type=f"int{of.activations}",
        quant_scheme="tf_enhanced",
    )
    for name in floats:
        if name in made.qc_quantize_op_dict:
            made.qc_quantize_op_dict[name].enabled = False
    return made


def main() -> None:
    """Quantize, write the result."""
    of = task(__doc__)
    torch.manual_seed(SEED)
    np.random.seed(SEED)
    sim = of.step("prepare", lambda: simulation(of))
    name = sim.session.get_inputs()[0].name
    batches = [{name: batch} for batch in of.batches()]
    if of.adaround is not None:
        of.step("round", lambda: aimet_onnx.apply_adaround(sim, batches, of.adaround))
    of.step("ranges", lambda: sim.compute_encodings(batches))
    of.write(model=of.classes(lambda images: sim.session.run(None, {name: images})[0]))


if __name__ == "__main__":
    main()
