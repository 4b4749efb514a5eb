"""Engines: how the integers of a program are computed.

``reference`` runs :class:`~quantkeras.numerics.arrays.IntArrays`, int64 throughout: the normative
result, slowly. ``blas`` carries the same integers in float32 or float64, layer by layer as the
bounds of ``program_bounds.py`` allow, and leaves the products to the BLAS that NumPy was built
with. Both refuse a program that they could not compute exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import QuantizationError
from ..numerics.arrays import IntArrays
from ..numerics.carried import CarriedArrays, Carriers
from ..numerics.hardware_kinds import Trait
from ..numerics.interval import carrier
from ..numerics.layer import (
    Arrays,
    LayerParams,
    LayerSpec,
    run_layer,
)
from .program_bounds import program_bounds
from .program_data import ProgramData
from .schedule import last_uses

Array = npt.NDArray[Any]
Tensors = dict[str, Array]

DEFAULT_ENGINE = "blas"


class Engine(Protocol):
    """Runs a program on batches of quantized inputs."""

    def run(self, inputs: Mapping[str, Array], keep: Sequence[str]) -> Tensors:
        """Run the program on a batch.

        Args:
            inputs: int64 (n, *shape) by name; n >= 1.
            keep: names of the tensors that are wanted.

        Returns:
            These, int64, by name.
        """
        ...


class Step(NamedTuple):
    """One layer, ready to run."""

    name: str
    inputs: tuple[str, ...]
    spec: LayerSpec
    params: LayerParams
    arrays: Arrays


class ReferenceEngine:
    """The normative engine: int64, straight from the definition.

    Args:
        program: what it runs.

    Raises:
        AccumulatorTooWide: for a layer that no engine computes exactly.
        QuantizationError: for one whose integers do not fit the format it declares.
    """

    def __init__(self, program: ProgramData) -> None:
        program_bounds(program)
        self._program = program
        arrays = IntArrays()
        self._steps = [
            Step(layer.name, layer.inputs, layer.spec, layer.params, arrays)
            for layer in program.layers
        ]

    def run(self, inputs: Mapping[str, Array], keep: Sequence[str]) -> Tensors:
        """Run the program on a batch, see Engine.

        Args:
            inputs: int64 (n, *shape) by name; n >= 1.
            keep: names of the tensors that are wanted.

        Returns:
            These, int64, by name.
        """
        return _run_steps(self._steps, dict(inputs), last_uses(self._program, keep))


class BlasEngine:
    """The fast engine: tensors are floats that hold the same integers.

    Args:
        program: what it runs.

    Raises:
        AccumulatorTooWide: for a layer that no engine computes exactly.
        QuantizationError: for one whose integers do not fit the format it declares, and where
            NumPy's matrix product is not exact.
    """

    def __init__(self, program: ProgramData) -> None:
        check_blas()
        bounds = program_bounds(program)
        self._program = program
        self._types = {
            entry.name: np.dtype(carrier(2 ** (entry.format.bits - 1), entry.name))
            for entry in program.inputs
        }
        self._steps = []
        for layer in program.layers:
            carriers = Carriers.proved(bounds[layer.name], layer.name)
            # Their core makes a tensor that nobody else holds: the next steps may overwrite it.
            owns = bool(layer.spec.traits & (Trait.WEIGHTED | Trait.MERGES))
            self._steps.append(
                Step(
                    layer.name,
                    layer.inputs,
                    layer.spec,
                    _in_floats(layer.params, carriers),
                    CarriedArrays(carriers, overwrite=owns),
                )
            )

    def run(self, inputs: Mapping[str, Array], keep: Sequence[str]) -> Tensors:
        """Run the program on a batch, see Engine.

        Args:
            inputs: int64 (n, *shape) by name; n >= 1.
            keep: names of the tensors that are wanted.

        Returns:
            These, int64, by name.
        """
        tensors = {name: x.astype(self._types[name]) for name, x in inputs.items()}
        kept = _run_steps(self._steps, tensors, last_uses(self._program, keep))
        return {name: x.astype(np.int64) for name, x in kept.items()}


@cache
def check_blas() -> None:
    """Compute one known product at the edge of float32, once per process.

    The proofs assume IEEE arithmetic. A BLAS set up to shorten its operands (to bfloat16, say)
    would break them without a sign, so it is refused here with QuantizationError.
    """
    # Operands of 12 bits; sums up to 4095 * 31 * 128 = 16,248,960, just below 2**24.
    rows = np.arange(64 * 128).reshape(64, 128) * 37 % 8191 - 4095
    columns = np.arange(128 * 32).reshape(128, 32) * 91 % 63 - 31
    for carried in (np.float32, np.float64):
        product = rows.astype(carried) @ columns.astype(carried)
        if not np.array_equal(product, rows @ columns):
            raise QuantizationError(
                f"NumPy's matrix product does not compute {np.dtype(carried).name} exactly here; "
                "use the engine 'reference', or a NumPy with another BLAS"
            )


def _in_floats(params: LayerParams, carriers: Carriers) -> LayerParams:
    """The same numbers, with weights and tables converted once and for all."""
    weights, table = params.weights, params.table
    if weights is not None:
        weights = np.asarray(weights).astype(carriers.product)
    if table is not None:
        table = np.asarray(table).astype(carriers.output)
    return replace(params, weights=weights, table=table)


def _run_steps(
    steps: Sequence[Step], tensors: Tensors, dropped: Sequence[Sequence[str]]
) -> Tensors:
    """Run the steps and return what was not dropped on the way."""
    for step, unused in zip(steps, dropped, strict=True):
        inputs = [tensors[name] for name in step.inputs]
        tensors[step.name] = run_layer(step.spec, step.params, inputs, step.arrays)
        for name in unused:
            del tensors[name]
    return tensors


ENGINES: dict[str, Callable[[ProgramData], Engine]] = {
    "reference": ReferenceEngine,
    "blas": BlasEngine,
}


def make_engine(name: str, program: ProgramData) -> Engine:
    """The engine of that name for a program, its proofs done."""
    if name not in ENGINES:
        raise QuantizationError(f"no engine {name!r}; there are {', '.join(sorted(ENGINES))}")
    return ENGINES[name](program)
