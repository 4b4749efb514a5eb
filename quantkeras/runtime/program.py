"""The integer program: hardware layers in order, with the verbs to run, describe and save it.

A :class:`Program` is plain data and needs NumPy alone. Each of its layers is one
:func:`~quantkeras.numerics.layer.run_layer`, computed by one of the engines of ``engines.py``;
its data and the classes of its parts are in ``program_data.py`` and ``parts.py``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import check, execution, storage, summary
from .engines import DEFAULT_ENGINE, Engine, make_engine
from .parts import Array, FloatTail
from .program_data import ProgramData

Outputs = Array | list[Array] | dict[str, Array]


@dataclass(frozen=True, eq=False, repr=False)
class Program(ProgramData):
    """Hardware layers in topological order; inputs and outputs by name.

    A program is not changed after it is made: engines keep what they proved about it.

    Attributes:
        inputs: what it is fed, in order.
        layers: each behind those that it reads.
        outputs: names of layers, in order.
        float_tail: what the user's model computes in float, behind them or in front of the first.
        name: of the program, for messages.

    Raises:
        QuantizationError: if the parts do not fit together.

    Example:
        ``Program.load("net.qkp").predict(x)``
    """

    def __post_init__(self) -> None:
        for field in ("inputs", "layers", "outputs"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        object.__setattr__(self, "float_tail", tuple(FloatTail(*t) for t in self.float_tail))
        check.check_program(self)
        object.__setattr__(self, "_engines", {})
        object.__setattr__(self, "_told", set())  # inputs that were warned of

    # -- running -----------------------------------------------------------------------------

    def engine(self, name: str = DEFAULT_ENGINE) -> Engine:
        """Make an engine that runs this program, or take the one that was made before.

        Args:
            name: one of ENGINES: "blas", or "reference", the normative one.

        Returns:
            The engine, its proofs done.

        Raises:
            QuantizationError: for another name, and where the engine cannot be exact.
            AccumulatorTooWide: for a layer that no engine computes exactly.
        """
        engines: dict[str, Engine] = self.__dict__["_engines"]
        if name not in engines:
            engines[name] = make_engine(name, self)
        return engines[name]

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: bool | int = False,
        *,
        engine: str = DEFAULT_ENGINE,
        as_dict: bool = False,
    ) -> Outputs:
        """Compute the outputs for samples, in float32.

        Args:
            x: an array (n, *shape), for several inputs a list in their order or a dict by name.
            batch_size: samples at a time, None chooses.
            verbose: a progress bar, on a terminal.
            engine: one of ENGINES; all give the same numbers.
            as_dict: outputs by name.

        Returns:
            One array (n, *output_shape), or a list of them if there are several outputs.

        Raises:
            QuantizationError: naming the input that is wrong, and for fractions that rounding to
                the integers of an integer input leaves next to nothing of.
            NonFiniteError: for an input with NaN or infinity.

        Warns:
            InputMismatchWarning: once, of data that are prepared in another way than the
                calibration samples were.
        """
        told, runner = self.__dict__["_told"], self.engine(engine)
        integers = execution.run(self, x, runner, batch_size, verbose, self.outputs, False, told)
        values = {name: self[name].dequantize(integers[name]) for name in self.outputs}
        return _arranged(values, self.outputs, as_dict)

    def run_integers(
        self,
        x: Any,
        keep: str | Sequence[str] | None = None,
        batch_size: int | None = None,
        *,
        engine: str = DEFAULT_ENGINE,
        quantized: bool = False,
    ) -> Outputs:
        """Compute the integers of the outputs, or of any tensors, for samples.

        Args:
            x: as for `predict`.
            keep: ``"all"``, or names of layers and inputs whose integers are wanted; None: outputs.
            batch_size: samples at a time, None chooses.
            engine: one of ENGINES; all give the same numbers.
            quantized: x holds integers of the input formats already.

        Returns:
            Int64 outputs arranged as in `predict`; with ``keep`` a dict of its tensors by name.

        Raises:
            QuantizationError: for a name in ``keep`` that is not there, and as `predict` does.
        """
        names = check.kept_names(self, keep)
        integers = execution.run(self, x, self.engine(engine), batch_size, False, names, quantized)
        return integers if keep is not None else _arranged(integers, self.outputs, False)

    def evaluate(
        self, x: Any, y: Any, batch_size: int | None = None, verbose: bool | int = False
    ) -> dict[str, float]:
        """Measure the top-1 accuracy of a classifier with one output.

        Args:
            x: as for `predict`.
            y: class numbers (n,) or (n, 1), or one-hot rows (n, classes).
            batch_size: samples at a time, None chooses.
            verbose: a progress bar, on a terminal.

        Returns:
            ``{"accuracy": ..., "samples": ...}``, the former in 0..1.

        Raises:
            QuantizationError: for other labels, for NaN among them, and as `predict` does.
        """
        values = self.predict(x, batch_size, verbose)
        return execution.top1(values, np.asarray(y))

    # -- describing, saving ------------------------------------------------------------------

    def summary(
        self, print_fn: Callable[[str], object] | None = None, accumulator_bits: int = 32
    ) -> None:
        """Print a table of the layers: shapes, bits, work, memory and accumulators.

        Args:
            print_fn: called with each line of text; without it the table goes to the terminal, with
                rich if that is installed.
            accumulator_bits: what the headroom is counted to.
        """
        summary.show(self, print_fn, accumulator_bits)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the program to one file, replacing what is there in one step.

        Args:
            path: the file, by custom with the suffix ``.qkp``.

        Raises:
            ModelFileError: for a file that cannot be written.
        """
        storage.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Program:
        """Read a program that `save` wrote.

        Args:
            path: the file.

        Returns:
            The program, which gives the same integers.

        Raises:
            ModelFileError: for any other file.
        """
        return storage.load(path, cls)


def _arranged(values: dict[str, Array], names: Sequence[str], as_dict: bool) -> Outputs:
    ordered = {name: values[name] for name in names}
    if as_dict:
        return ordered
    arrays = list(ordered.values())
    return arrays[0] if len(arrays) == 1 else arrays
