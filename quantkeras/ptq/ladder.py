"""auto_quantize: from the cheapest way to quantize to the dearest, until one is good enough.

The rungs, each a whole way from the float model to a quantized one:

1. ranges from the extremes ("minmax");
2. ranges of least squared error ("mse");
3. 2 with corrected biases;
4. 3 after cross-layer equalization;
5. adaptive rounding layer by layer, of the better of 2 and 4's float models;
6. the same block by block;
7. more bits where they help most: mixed precision with 5 at every trial.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import keras

from ..errors import QuantizationError
from ..quantization.params import QuantizationParams, chosen_params
from ..quantization.quantize_model import quantize
from ..terminal.text_tables import plain_table
from .adaptive_rounding import adaround
from .bias_correction import correct_bias
from .bit_widths import mixed_precision
from .equalization import equalize
from .scores import agreement, as_keras

Judge = Callable[[keras.Model], float]
Rung = tuple[str, Callable[[], keras.Model]]

BLOCK_ITERATIONS = 300


@dataclass(frozen=True)
class LadderStep:
    """One way tried.

    Attributes:
        method: what was done, in a few words.
        score: of its model.
        drop: how far that is below the float model.
        seconds: that it took.
    """

    method: str
    score: float
    drop: float
    seconds: float


@dataclass(frozen=True)
class Ladder:
    """What was tried, in order.

    Attributes:
        float_score: of the float model.
        steps: one for each way.
        chosen: method of the model that was returned.
        reached: whether its drop is small enough.
    """

    float_score: float
    steps: tuple[LadderStep, ...]
    chosen: str
    reached: bool

    HEADER = ("method", "score", "drop", "seconds", "")

    def rows(self) -> list[tuple[str, ...]]:
        """The cells of the table under HEADER."""
        rows: list[tuple[str, ...]] = [("float", f"{self.float_score:.2f}", "", "", "")]
        for step in self.steps:
            mark = "chosen" if step.method == self.chosen else ""
            cells = (f"{step.score:.2f}", f"{step.drop:.2f}", f"{step.seconds:.1f}", mark)
            rows.append((step.method, *cells))
        return rows

    def __str__(self) -> str:
        return "\n".join(plain_table(self.HEADER, self.rows(), left=1))


def auto_quantize(
    model: Any,
    samples: Any,
    max_drop: float = 1.0,
    eval_fn: Judge | None = None,
    qparams: QuantizationParams | None = None,
    wider: tuple[tuple[int, int], ...] = ((4, 8), (8, 8)),
    verbose: bool = False,
) -> tuple[keras.Model, Ladder]:
    """Quantize a float model as simply as is good enough.

    Args:
        model: a Keras model, or an ONNX model (images then are channels-last).
        samples: unlabelled data, as for ``calibrate``.
        max_drop: how far below the float model's score the quantized one may be.
        eval_fn: takes a model, float or quantized, and gives a number, the larger the better, such
            as the accuracy in per cent. None: per cent of the samples on which it makes the choice
            of the float model (for outputs that are no classes, the signal-to-noise ratio in dB,
            and max_drop counts down from 100 dB).
        qparams: bits and all else but the ranges.
        wider: widths (weight bits, activation bits) that mixed precision may give to layers,
            besides those of qparams.
        verbose: print each step as it is done.

    Returns:
        (quantized model, ladder of what was tried). If nothing is good enough it is the best model,
        and ``ladder.reached`` is False.

    Raises:
        QuantizationError: as ``quantize`` does.
    """
    model = as_keras(model)
    start = chosen_params(qparams)
    judge = agreement(model, samples) if eval_fn is None else eval_fn
    float_score = judge(model)
    steps: list[LadderStep] = []
    best: tuple[float, str, keras.Model] | None = None
    climb = _Climb(model, samples, start, max_drop, judge, wider)
    for method, build in climb.rungs():
        began = time.perf_counter()
        try:
            quantized = build()
        except QuantizationError:
            if best is None:
                raise
            continue  # mixed precision found no widths, and an earlier model is at hand
        score = judge(quantized)
        steps.append(LadderStep(method, score, float_score - score, time.perf_counter() - began))
        climb.scores[method] = score
        if verbose:
            print(f"{method}: {score:.2f}, float {float_score:.2f}")
        if best is None or score > best[0]:
            best = score, method, quantized
        if float_score - score <= max_drop:
            break
    assert best is not None
    reached = float_score - best[0] <= max_drop
    return best[2], Ladder(float_score, tuple(steps), best[1], reached)


EXTREMES, SQUARED, BIASES, EQUALIZED, LAYERS, BLOCKS, MIXED = (
    "min-max ranges",
    "mse ranges",
    "mse, biases corrected",
    "mse, equalized, biases corrected",
    "adaptive rounding",
    "adaptive rounding of blocks",
    "mixed precision, adaptive rounding",
)


class _Climb:
    def __init__(
        self,
        model: keras.Model,
        samples: Any,
        start: QuantizationParams,
        max_drop: float,
        judge: Judge,
        wider: tuple[tuple[int, int], ...],
    ) -> None:
        self.model = model
        self.samples = samples
        self.extremes = replace(start, weight_range="minmax", observer="minmax")
        self.squared = replace(start, weight_range="mse", observer="mse")
        self.max_drop = max_drop
        self.judge = judge
        self.wider = wider
        self.scores: dict[str, float] = {}

    def rungs(self) -> Iterator[Rung]:
        """The ways in order; later ones look at the scores of earlier ones."""
        yield EXTREMES, lambda: quantize(self.model, self.extremes, self.samples)
        yield SQUARED, lambda: self._squared(self.model)
        yield BIASES, lambda: correct_bias(self._squared(self.model), self.samples)
        equalized = equalize(self.model, qparams=self.squared)
        yield EQUALIZED, lambda: correct_bias(self._squared(equalized), self.samples)
        better = self.scores.get(EQUALIZED, -math.inf) > self.scores.get(BIASES, -math.inf)
        source = equalized if better else self.model
        yield LAYERS, lambda: adaround(self._squared(source), self.samples)
        yield (
            BLOCKS,
            lambda: adaround(self._squared(source), self.samples, iterations=BLOCK_ITERATIONS),
        )
        yield MIXED, lambda: self._mixed(source)

    def _squared(self, model: keras.Model) -> keras.Model:
        return quantize(model, self.squared, self.samples)

    def _mixed(self, source: keras.Model) -> keras.Model:
        own = self.squared.weight_bits, self.squared.activation_bits
        widths = tuple(dict.fromkeys((own, *self.wider)))

        def rounded(quantized: keras.Model) -> keras.Model:
            return adaround(quantized, self.samples)

        params = mixed_precision(
            source,
            self.samples,
            self.max_drop,
            "accuracy",
            widths,
            self.squared,
            self.judge,
            rounded,
        )
        return rounded(quantize(source, params, self.samples))
