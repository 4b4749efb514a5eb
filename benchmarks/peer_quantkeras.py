"""quantkeras's own part of a comparison, in a process like those of the others. See peer_steps.py.

MODEL is a .keras file. Ranges by squared error; weights per channel; activations per channel with
steps that are powers of two. All layers have the same bits, the first and the last, too; the last
one gives its accumulator. `--adaround 0` rounds layer by layer, more are gradient steps for each
block of layers after that. The classes are those of the Keras model and of the integer program.
"""

from __future__ import annotations

from typing import Any

from peer_steps import Task, task
from subjects import settings

from quantkeras import adaround, convert, load_model, quantize


def quantized(model: Any, of: Task) -> Any:
    """The quantized Keras model, rounded to the nearest."""
    params = settings(f"{of.weights}/{of.activations}", "all", "channel", "mse")
    return quantize(model, params, of.samples)


def main() -> None:
    """Quantize, write the result."""
    of = task(__doc__)
    floats = load_model(of.model)
    model = of.step("ranges", lambda: quantized(floats, of))
    iterations = of.adaround
    if iterations is not None:
        of.step("round", lambda: adaround(model, of.samples, iterations, num_samples=None))
    program = convert(model)
    of.write(
        model=of.classes(lambda images: model.predict(images, verbose=0)),
        program=of.classes(program.predict),
    )


if __name__ == "__main__":
    main()
