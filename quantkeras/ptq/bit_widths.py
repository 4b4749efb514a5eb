"""Bit widths layer by layer: as few as a budget allows, where they hurt least.

For each width the whole model is quantized once, and each layer's noise at the outputs measured
with all others in float (:func:`.sensitivities.sensitivity`). Noise powers add up, so widths can be
chosen by their sums: from the widest for all, again and again the layer is narrowed that saves the
most for the noise that it adds. This gives one path from the widest to the narrowest model. A
budget of size or work is a point on it; one of accuracy is searched for, with the model quantized
and judged at each point tried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras

from sanitize import sanitize_graph
from sanitize.keras_io import read_keras

from ..conversion.convert import integer_program
from ..errors import QuantizationError
from ..layers import WeightedLayer
from ..quantization.decide import stays_float
from ..quantization.params import QuantizationParams, chosen_params
from ..quantization.provenance import quantized_name
from ..quantization.quantize_model import quantize
from ..runtime.costs import program_costs
from ..terminal.text_tables import plain_table
from .scores import agreement, as_keras
from .sensitivities import sensitivity

Judge = Callable[[keras.Model], float]
Widths = tuple[int, int]

METRICS = ("size", "work", "accuracy")


@dataclass(frozen=True)
class Choice:
    """One layer on one width (weight bits, activation bits). noise: that it adds to the outputs,
    alone; size: bytes of weights; work: multiply-accumulates times both widths, in bit operations.
    """

    widths: Widths
    noise: float
    size: float
    work: float


@dataclass(frozen=True)
class PrecisionPlan:
    """Widths of the layers with weights, by name, and what they cost in all.

    Attributes:
        widths: name of a layer -> (weight bits, activation bits).
        noise: that they add to the outputs.
        size: bytes of weights.
        work: multiply-accumulates times both widths, in bit operations.
        floats: layers that stay float.
        score: of the judge, None where none was asked.
    """

    widths: Mapping[str, Widths]
    noise: float
    size: float
    work: float
    floats: tuple[str, ...] = ()
    score: float | None = None

    HEADER = ("layer", "weight bits", "activation bits")

    def __str__(self) -> str:
        rows = [(name, str(w), str(a)) for name, (w, a) in self.widths.items()]
        rows += [(name, "float", "float") for name in self.floats]
        table = plain_table(self.HEADER, rows, left=1)
        total = f"{self.size:.0f} bytes of weights, {self.work:.3g} bit operations"
        return "\n".join([*table, total])

    def params(self, start: QuantizationParams, names: Mapping[str, str]) -> QuantizationParams:
        """The settings for ``quantize``; names: of the quantized layers -> of the float ones."""
        floats = (names[name] for name in self.floats)
        result = replace(start, float_layers=(*start.float_layers, *floats))
        for name, (weights, activations) in self.widths.items():
            settings = {"weight_bits": weights, "activation_bits": activations}
            result = result.with_override(names[name], **settings)
        return result


def mixed_precision(
    model: Any,
    samples: Any,
    budget: float,
    metric: str = "size",
    widths: Sequence[Widths] = ((4, 4), (4, 8), (8, 8)),
    qparams: QuantizationParams | None = None,
    eval_fn: Judge | None = None,
    improve: Callable[[keras.Model], keras.Model] | None = None,
    num_samples: int | None = 128,
    verbose: bool = False,
) -> QuantizationParams:
    """Choose bit widths for each layer of a float model.

    Args:
        model: a Keras model, or an ONNX model (images then are channels-last).
        samples: unlabelled data, as for ``calibrate``; all of them calibrate.
        budget: what the metric may come to. A budget of at most 1 is a share of the cost at the
            widest widths; that of "accuracy" is the largest drop of ``eval_fn`` from the float
            model.
        metric: "size", bytes of the weights, "work", multiply-accumulates times the bits of weights
            and of activations, or "accuracy": where the widest widths are not enough for it, the
            most sensitive layers stay float.
        widths: allowed pairs (weight bits, activation bits).
        qparams: all other settings.
        eval_fn: takes a model, float or quantized, and gives a number, the larger the better; None:
            per cent of the samples on which it makes the choice of the float model.
        improve: what is done to a quantized model before it is judged, such as ``correct_bias``.
        num_samples: for the sensitivities, None for all.
        verbose: print the widths.

    Returns:
        Settings for ``quantize``.

    Raises:
        QuantizationError: for a budget that cannot be kept, and bad arguments.

    Example:
        ``quantize(model, mixed_precision(model, x, budget=0.6), samples=x)``
    """
    model = as_keras(model)
    search = _Search(model, samples, widths, qparams, num_samples)
    if metric == "accuracy":
        judge = agreement(model, samples) if eval_fn is None else eval_fn
        plan = search.within_drop(budget, judge, improve or (lambda quantized: quantized))
    elif metric in METRICS:
        plan = search.within_cost(metric, budget)
    else:
        raise QuantizationError(f"metric is {metric!r}; it must be one of {', '.join(METRICS)}")
    if verbose:
        print(plan)
    return plan.params(search.qparams, search.names)


class _Search:
    def __init__(
        self,
        model: keras.Model,
        samples: Any,
        widths: Sequence[Widths],
        qparams: QuantizationParams | None,
        num_samples: int | None,
    ) -> None:
        if not widths:
            raise QuantizationError("widths is empty; give at least one pair of bit widths")
        self.model = model
        self.samples = samples
        default = QuantizationParams(weight_range="mse", observer="mse")
        self.qparams = chosen_params(qparams, default)
        self.choices: dict[str, list[Choice]] = {}
        for pair in widths:
            self._measure((int(pair[0]), int(pair[1])), num_samples)
        graph, _ = sanitize_graph(read_keras(model), keep=stays_float(self.qparams))
        present = {quantized_name(node.name): node.name for node in graph}
        self.names = {name: present.get(name, name) for name in self.choices}

    def _measure(self, pair: Widths, num_samples: int | None) -> None:
        """Each layer on these widths; the ends keep theirs only where overrides say so."""
        weights, activations = pair
        params = replace(
            self.qparams,
            weight_bits=weights,
            input_weight_bits=weights,
            last_weight_bits=weights,
            activation_bits=activations,
        )
        quantized = quantize(self.model, params, self.samples)
        report = sensitivity(quantized, self.samples, num_samples=num_samples)
        noise = {entry.layer: entry.noise for entry in report.layers}
        layers = [layer for layer in quantized.layers if isinstance(layer, WeightedLayer)]
        weighted = {layer.name: layer for layer in layers}
        for cost in program_costs(integer_program(quantized)).layers:
            layer = weighted.get(cost.layer.name)
            if layer is not None:
                size = cost.weights * weights / 8
                work = float(cost.macs) * weights * activations
                choice = Choice(pair, noise[layer.name], size, work)
                self.choices.setdefault(layer.name, []).append(choice)

    def path(self, cost: str) -> list[PrecisionPlan]:
        """Plans from the widest to the narrowest; each step has the least noise for its saving."""
        ordered = {name: _useful(choices, cost) for name, choices in self.choices.items()}
        at = dict.fromkeys(ordered, 0)
        plans = [self._plan({name: ordered[name][i] for name, i in at.items()})]
        while True:
            steps = []
            for name, i in at.items():
                for j in range(i + 1, len(ordered[name])):
                    wide, narrow = ordered[name][i], ordered[name][j]
                    saving = getattr(wide, cost) - getattr(narrow, cost)
                    steps.append(((narrow.noise - wide.noise) / saving, name, j))
            if not steps:
                return plans
            _, name, j = min(steps)
            at[name] = j
            plans.append(self._plan({key: ordered[key][i] for key, i in at.items()}))

    def _plan(self, chosen: Mapping[str, Choice]) -> PrecisionPlan:
        totals = (
            sum(getattr(c, what) for c in chosen.values()) for what in ("noise", "size", "work")
        )
        return PrecisionPlan({name: c.widths for name, c in chosen.items()}, *totals)

    def within_cost(self, cost: str, budget: float) -> PrecisionPlan:
        """The first plan of the path that costs no more."""
        plans = self.path(cost)
        limit = budget * getattr(plans[0], cost) if budget <= 1 else budget
        for plan in plans:
            if getattr(plan, cost) <= limit * (1 + 1e-9):
                return plan
        least = getattr(plans[-1], cost)
        raise QuantizationError(
            f"no choice of widths has a {cost} of {limit:.4g}: the least is {least:.4g}. "
            "Allow a larger budget or narrower widths."
        )

    def within_drop(
        self, drop: float, judge: Judge, improve: Callable[[keras.Model], keras.Model]
    ) -> PrecisionPlan:
        """The narrowest plan found whose score is at most ``drop`` below the float model's."""
        least = judge(self.model) - drop

        def scored(plan: PrecisionPlan) -> PrecisionPlan:
            params = plan.params(self.qparams, self.names)
            quantized = improve(quantize(self.model, params, self.samples))
            return replace(plan, score=judge(quantized))

        plans = self.path("work")
        good, bad = scored(plans[0]), len(plans)
        if (good.score or 0.0) < least:
            return self._with_floats(plans[0], least, scored)
        low = 0
        while bad - low > 1:
            middle = (low + bad) // 2
            found = scored(plans[middle])
            if (found.score or 0.0) >= least:
                low, good = middle, found
            else:
                bad = middle
        return good

    def _with_floats(
        self, plan: PrecisionPlan, least: float, scored: Callable[[PrecisionPlan], PrecisionPlan]
    ) -> PrecisionPlan:
        noise = {
            name: next(c.noise for c in choices if c.widths == plan.widths[name])
            for name, choices in self.choices.items()
        }
        worst_first = sorted(noise, key=lambda name: -noise[name])
        for count in range(1, len(worst_first)):
            floats = tuple(worst_first[:count])
            kept = {name: w for name, w in plan.widths.items() if name not in floats}
            found = scored(replace(plan, widths=kept, floats=floats))
            if (found.score or 0.0) >= least:
                return found
        raise QuantizationError(
            f"no choice of widths and float layers reaches a score of {least:.4g}; allow a larger "
            "drop or wider widths"
        )


def _useful(choices: Sequence[Choice], cost: str) -> list[Choice]:
    """From the dearest to the cheapest, without those that are dearer and noisier than another."""
    ordered = sorted(choices, key=lambda c: (getattr(c, cost), c.noise))
    kept: list[Choice] = []
    for choice in ordered:
        last = kept[-1] if kept else None
        dearer = last is None or getattr(choice, cost) > getattr(last, cost)
        if dearer and (last is None or choice.noise < last.noise):
            kept.append(choice)
    return kept[::-1]
