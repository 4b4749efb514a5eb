"""Accumulators that training has made wider than those that the model was fitted to."""

from __future__ import annotations

import warnings

import keras

from ..errors import AccumulatorWarning
from ..layers import WeightedLayer, hardware_layers_of
from ..quantization.provenance import params_of
from ..runtime import Program
from ..runtime.costs import program_costs

ALWAYS_FIT = 25
"""What float32 carries fits in so many bits."""
LISTED = 3


def warn_of_wide_accumulators(model: keras.Model, program: Program, stacklevel: int = 3) -> None:
    """Warn of layers that need more bits than the model was fitted to when it was quantized.

    program: of the model. Nothing is said of models whose settings are not known.
    """
    params = params_of(model)
    if params is None:
        return
    layers = hardware_layers_of(model)
    wide = [x for x in layers if isinstance(x, WeightedLayer) and x.carrier == "float64"]
    if params.buffer_bits > ALWAYS_FIT and not wide:
        return
    costs = program_costs(program).layers
    found = [cost for cost in costs if cost.accumulator_bits > params.buffer_bits]
    if found:
        told = "; ".join(
            f"{x.layer.name!r} needs {x.accumulator_bits} bits" for x in found[:LISTED]
        )
        more = f"; and {len(found) - LISTED} more" if len(found) > LISTED else ""
        warnings.warn(
            f"accumulators of {params.buffer_bits} bits (buffer_bits), to which the model was "
            f"fitted when it was quantized, can overflow by now, as training changed weights or "
            f"ranges: {told}{more}. The program stays exact in every engine here; for hardware, "
            "calibrate the trained model again (calibrate(model, samples)), which fits it once "
            "more, and bits above 8 are given up where they have to be.",
            AccumulatorWarning,
            stacklevel=stacklevel,
        )
