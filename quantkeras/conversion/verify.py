"""verify: do the Keras model and the integer program give the same numbers, layer by layer?

Both run on the same samples. Of every hardware layer the value that Keras computes, float32, is
compared with what the program's integer is worth, float32 as well: where the formats agree, equal
values are equal integers, and no rounding stands between. The result is told in integers: values
divided by the layer's lsb.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sanitize.graph import Graph, Node, producer_of

from ..errors import QuantizationError
from ..layers import Dequantizer, HardwareLayer, InputQuantizer
from ..numerics.formats import Format
from ..qmodel import QuantizedGraph, layer_of
from ..qmodel.running import compiled_step
from ..qmodel.views import view
from ..runtime import Program, ProgramInput, ProgramLayer
from ..runtime.fed import check_fed
from ..terminal.progress import progress_bar
from .convert import integer_program
from .verify_report import FirstDifference, LayerResult, VerifyReport, plain_number
from .verify_samples import open_for_both, pieces

Array = npt.NDArray[Any]


def verify(
    qmodel: Any,
    program: Program,
    samples: Any = None,
    num_samples: int | None = 256,
    batch_size: int | None = None,
) -> VerifyReport:
    """Compare a quantized model with its program on the integers of every hardware layer.

    Also compared: what ``qmodel.predict`` returns, for outputs that are dequantized integers.

    Args:
        qmodel: the model or its reading, see :class:`~quantkeras.qmodel.QuantizedGraph`.
        program: what ``convert`` made of it.
        samples: as for `calibrate`; None draws random ones that fill the ranges of the inputs, and
            somewhat more.
        num_samples: at most so many, None for all.
        batch_size: samples at a time, None chooses; less where the tensors of all layers would take
            too much memory.

    Returns:
        The comparison, layer by layer; ``exact`` says whether all integers agree.

    Raises:
        QuantizationError: if the program was not made from this model, and for bad samples.

    Warns:
        InputMismatchWarning: of samples that are prepared in another way than those of the
            calibration.

    Example:
        ``assert verify(quantized, convert(quantized), x).exact``
    """
    if not isinstance(program, Program):
        raise QuantizationError(
            f"verify takes a quantized model and its Program, not {type(program).__name__}; "
            "make it with convert(model), or read a file with Program.load"
        )
    reading = QuantizedGraph.of(qmodel)
    graph, qmodel = reading.graph, reading.model
    expected = integer_program(reading, _part_of(reading, program))
    check_same_structure(qmodel.name, expected, program)
    # A layer of the model that takes two of the program has no value between them.
    known = [name for name in program.shapes if name in graph]
    comparisons = [_Comparison.of(expected, program, name) for name in known]
    values = [_keras_value(graph, c.tensor) for c in comparisons]
    outputs = _predicted(graph, program)
    ends = {c.tensor: c for c in comparisons}
    predictions = {
        index: _Comparison(f"predict: {name}", tensor, *ends[tensor].measures())
        for index, (name, tensor) in outputs.items()
    }
    fed_inside = [entry.name for entry in program.inputs if entry.name not in graph.inputs]
    model = view(graph, lambda layer: layer.call, [*values, *fed_inside])
    step = compiled_step(model)
    predict = compiled_step(qmodel) if predictions else None
    stream = open_for_both(graph, program, samples, num_samples, batch_size)
    done, told = 0, set[str]()
    entries = [entry for entry in program.inputs if entry.name in graph.inputs]
    with progress_bar(num_samples, "verifying") as advance:
        for batch in pieces(stream, program):
            if samples is not None:
                check_fed(entries, batch, told)
            fed = [np.asarray(batch[name], np.float32) for name in graph.inputs]
            found = step(fed)
            batch = batch | dict(zip(fed_inside, found[len(values) :], strict=True))
            integers = program.run_integers(
                {entry.name: batch[entry.name] for entry in program.inputs}, keep="all"
            )
            assert isinstance(integers, dict)
            for comparison, value in zip(comparisons, found, strict=False):
                comparison.update(done, value, integers, batch)
            if predict is not None:
                found = predict(fed)
                for index, comparison in predictions.items():
                    comparison.update(done, found[index], integers, batch)
            done += len(fed[0])
            advance(len(fed[0]))
    rows = [comparison.result() for comparison in (*comparisons, *predictions.values())]
    return VerifyReport(qmodel.name, tuple(rows), done)


def _part_of(reading: QuantizedGraph, program: Program) -> int:
    """Which integer part of a model a program was made of, by its inputs."""
    parts = reading.parts()
    for name in (entry.name for entry in program.inputs):
        readers = _readers(reading.graph, name)
        found = [parts[n.name] for n in readers if layer_of(n, InputQuantizer) and n.name in parts]
        if found:
            return min(found)
    return 0


def check_same_structure(model: str, expected: Program, program: Program) -> None:
    """Raise QuantizationError unless both programs have the same tensors and connections."""

    def described(of: Program) -> Iterator[tuple[str, str]]:
        for entry in of.inputs:
            yield f"input {entry.name!r}", f"shape {tuple(entry.shape)}"
        for layer in of.layers:
            reads = f"of {', '.join(layer.inputs)}"
            yield f"layer {layer.name!r}", f"{layer.spec.kind} {reads}, shape {layer.output_shape}"
        for name in of.outputs:
            yield f"output {name!r}", "there"

    wanted, got = dict(described(expected)), dict(described(program))
    for thing in (*wanted, *got):
        if wanted.get(thing) != got.get(thing):
            raise QuantizationError(
                f"program {program.name!r} does not belong to model {model!r}: {thing} is "
                f"{wanted.get(thing, 'not there')} in the model and "
                f"{got.get(thing, 'not there')} in the program; convert the model again"
            )


# -- one tensor -------------------------------------------------------------------------------


@dataclass(eq=False)
class _Comparison:
    """Collects what is found about one tensor of the program.

    unit: what one integer step is worth in the model; program_unit: in the program. Both float64,
    broadcastable to the unbatched shape. reads: tensors that the layer reads.
    """

    name: str
    tensor: str
    unit: Array
    program_unit: Array
    reads: tuple[str, ...]
    format: str
    note: str
    elements: int = 0
    differing: int = 0
    largest: float = 0.0
    samples: list[int] = field(default_factory=list)
    first: FirstDifference | None = None

    @classmethod
    def of(cls, expected: Program, program: Program, name: str) -> _Comparison:
        """For the tensor of that name of the program, and of the one that convert makes now."""
        wanted, got = _part(expected, name), _part(program, name)
        reads = got.inputs if isinstance(got, ProgramLayer) else ()
        text, note = _describe(wanted), ""
        if not _same_format(wanted, got):
            note = f"format {text} in the model, {_describe(got)} in the program"
        return cls(name, name, _unit(wanted), _unit(got), reads, text, note)

    def measures(self) -> tuple[Array, Array, tuple[str, ...], str, str]:
        """What another comparison of the same tensor needs."""
        return self.unit, self.program_unit, (self.tensor,), self.format, self.note

    def update(
        self, start: int, value: Array, integers: Mapping[str, Array], batch: Mapping[str, Array]
    ) -> None:
        """Take in a batch whose first sample is number ``start``; value: float32 of Keras."""
        worth = (integers[self.tensor] * self.program_unit).astype(np.float32)
        self.elements += value.size
        # NaN of a broken model counts as a difference, too.
        differs = ~(value.reshape(worth.shape) == worth)
        if not differs.any():
            return
        steps = value.reshape(worth.shape).astype(np.float64) / self.unit
        others = worth.astype(np.float64) / self.unit
        self.differing += int(differs.sum())
        gap = np.abs(steps - others)[differs]
        self.largest = max(self.largest, float(np.nan_to_num(gap, nan=np.inf).max()))
        shown = np.flatnonzero(differs.reshape(len(differs), -1).any(axis=1))
        self.samples += (shown + start).tolist()
        if self.first is None:
            place = tuple(np.argwhere(differs)[0].tolist())
            row = place[0]
            self.first = FirstDifference(
                self.name,
                start + row,
                place[1:],
                self._integer(steps[place]),
                self._integer(others[place]),
                {name: integers[name][row].copy() for name in self.reads},
                {name: np.array(array[row]) for name, array in batch.items()},
            )

    def _integer(self, steps: float) -> int | float:
        """The integer behind a value; float32 values of accumulators give it but for noise."""
        nearest = np.floor(steps + 0.5)
        return plain_number(nearest if abs(steps - nearest) < 2.0**-10 else steps)

    def result(self) -> LayerResult:
        return LayerResult(
            self.name,
            self.elements,
            self.differing,
            self.largest,
            self.format,
            tuple(self.samples),
            self.first,
            self.note,
        )


def _part(program: Program, name: str) -> ProgramInput | ProgramLayer:
    return next((entry for entry in program.inputs if entry.name == name), None) or program[name]


def _format(part: ProgramInput | ProgramLayer) -> Format | None:
    return part.format if isinstance(part, ProgramInput) else part.output_format


def _unit(part: ProgramInput | ProgramLayer) -> Array:
    """What one integer step is worth, float64."""
    found = _format(part)
    if found is not None:
        return found.lsb
    assert isinstance(part, ProgramLayer)
    if part.output_scale is None:
        raise QuantizationError(
            f"layer {part.name!r} of the program gives an accumulator without a scale: it has no "
            "value to compare; convert the model again"
        )
    return part.output_scale.astype(np.float64)


def _describe(part: ProgramInput | ProgramLayer) -> str:
    found = _format(part)
    return "accumulator" if found is None else str(found)


def _same_format(a: ProgramInput | ProgramLayer, b: ProgramInput | ProgramLayer) -> bool:
    left, right = _format(a), _format(b)
    if left is None or right is None:
        return left is right and np.array_equal(_unit(a), _unit(b))
    shape = a.shape if isinstance(a, ProgramInput) else a.output_shape
    return left.broadcast_to(shape) == right.broadcast_to(shape)


# -- where the values are in the Keras model --------------------------------------------------


def _keras_value(graph: Graph, tensor: str) -> str:
    """The value of the model's graph that is this tensor of the program."""
    quantizers = [n for n in _readers(graph, tensor) if layer_of(n, InputQuantizer)]
    return quantizers[0].name if quantizers else tensor


def _readers(graph: Graph, value: str) -> list[Node]:
    """The nodes that read just this value, not another output of the node that makes it."""
    return [node for node in graph.consumers(value) if value in node.inputs]


def _predicted(graph: Graph, program: Program) -> dict[int, tuple[str, str]]:
    """Model outputs that are dequantized integers: position -> (name, tensor of the program)."""
    found = {}
    for index, value in enumerate(graph.outputs):
        name = producer_of(value)
        while graph[name].kind == "identity":
            name = producer_of(graph[name].inputs[0])
        if not layer_of(graph[name], Dequantizer):
            continue
        output = name
        while name not in program.shapes and not layer_of(graph[name], HardwareLayer):
            name = producer_of(graph[name].inputs[0])
        if name in program.shapes:
            found[index] = (output, name)
    return found
