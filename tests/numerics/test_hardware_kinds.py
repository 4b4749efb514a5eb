"""The table of kinds of hardware layers: none is forgotten, and traits are what they compute."""

from __future__ import annotations

import numpy as np
import pytest

from quantkeras.numerics.arrays import IntArrays
from quantkeras.numerics.bounds import layer_bounds
from quantkeras.numerics.hardware_kinds import KINDS, Trait, kinds_with
from quantkeras.numerics.interval import Interval
from quantkeras.numerics.layer import LayerParams, LayerSpec, run_layer
from quantkeras.numerics.layer_shapes import output_shape
from quantkeras.numerics.layer_windows import Window

MAP = (4, 6, 3)
WINDOW = Window((3, 2), (2, 1), "same")
SPECS = {
    "conv2d": LayerSpec("conv2d", window=WINDOW),
    "depthwise_conv2d": LayerSpec("depthwise_conv2d", window=WINDOW),
    "concat": LayerSpec("concat", axis=1),
    "reshape": LayerSpec("reshape", shape=(6, -1)),
    "permute": LayerSpec("permute", dims=(1, 2, 0)),
    "pad": LayerSpec("pad", pads=((1, 0), (2, 1))),
    "slice": LayerSpec("slice", slices=((1, None, 1), (4, None, -2), (0, None, 1))),
    "upsample": LayerSpec("upsample", size=(2, 3)),
}
WEIGHTS = {"conv2d": (3, 2, 3, 5), "depthwise_conv2d": (3, 2, 3, 2), "dense": (3, 5)}


def case_of(kind: str, rng: np.random.Generator) -> tuple[LayerSpec, LayerParams, list[np.ndarray]]:
    traits = KINDS[kind]
    shape = WEIGHTS.get(kind)
    assert (shape is not None) == (Trait.WEIGHTED in traits)
    weights = None if shape is None else rng.integers(-7, 8, shape)
    inputs = [rng.integers(1, 100, (2, *MAP)) for _ in range(1 + (Trait.MERGES in traits))]
    return SPECS.get(kind, LayerSpec(kind)), LayerParams(weights=weights), inputs


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_runs_and_has_its_shape_and_its_bound(kind: str, rng) -> None:
    spec, params, inputs = case_of(kind, rng)
    assert (spec.window is not None) == (Trait.WINDOWED in spec.traits)
    y = run_layer(spec, params, inputs, IntArrays())
    channels = y.shape[-1] if Trait.WEIGHTED in spec.traits else None
    assert output_shape(spec, [MAP] * len(inputs), channels) == y.shape[1:]
    bounds = layer_bounds(spec, params, [Interval(1, 99)] * len(inputs), [MAP] * len(inputs), kind)
    assert bounds.output.lo <= y.min() and y.max() <= bounds.output.hi


@pytest.mark.parametrize("kind", kinds_with(Trait.PASSES))
def test_what_passes_is_not_computed(kind: str, rng) -> None:
    spec, params, inputs = case_of(kind, rng)
    y = run_layer(spec, params, inputs, IntArrays())
    assert set(y.ravel()) <= {0}.union(*(x.ravel() for x in inputs))
    if Trait.VIEWS in spec.traits:
        np.testing.assert_array_equal(y.ravel(), inputs[0].ravel())


@pytest.mark.parametrize("kind", kinds_with(Trait.ELEMENTWISE))
def test_what_is_elementwise_sees_no_neighbour(kind: str, rng) -> None:
    spec, params, inputs = case_of(kind, rng)
    y = run_layer(spec, params, inputs, IntArrays())
    inputs[0][:, 1, 2] += 100
    changed = run_layer(spec, params, inputs, IntArrays()) != y
    changed[:, 1, 2] = False
    assert not changed.any()
