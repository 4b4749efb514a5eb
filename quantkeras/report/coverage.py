"""Which layers of the user's model are integer, which are float and why, in the user's names."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

from sanitize.log import Log, shortened

from ..conversion import convert_parts
from ..errors import ModelFileError, QuantizationError
from ..files.writing import write_text
from ..qmodel import QuantizedGraph
from ..quantization.params import QuantizationParams
from ..quantization.plan import Plan
from ..quantization.provenance import INPUT, Provenance, layer_types, provenance_of, trace
from ..runtime import Program
from ..runtime.costs import program_costs
from ..terminal.text_tables import plain_table, print_table
from .covered_parts import FLOAT, Part, Status, parts_of_graph, parts_of_plan
from .layer_coverage import LayerCoverage
from .page import coverage_page

HEADER = ("layer", "type", "became", "weights", "output", "accumulator", "remark")
LISTED = 5
"""Layers that the totals name one by one."""


@dataclass(frozen=True)
class Coverage:
    """What became of each layer of a model; see :func:`coverage`.

    Attributes:
        model: the model's name.
        layers: in the order of the user's model.
        log: the rewrites before quantization.
        added: layers of the quantized model that stand for none of the user's.
        notes: what stands below the table.
        planned: nothing is quantized yet, and this is what quantize would do.
        params: the settings that the model was quantized with, None if they are not known.
    """

    model: str
    layers: tuple[LayerCoverage, ...]
    log: Log = field(default_factory=Log)
    added: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    planned: bool = False
    params: QuantizationParams | None = None

    def __getitem__(self, name: str) -> LayerCoverage:
        """The layer of that name."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)

    def counts(self) -> dict[Status, int]:
        """How many layers have each status, all of them named."""
        found = Counter(layer.status for layer in self.layers)
        order: tuple[Status, ...] = ("integer", "partly", "float", "removed", "input")
        return {status: found[status] for status in order}

    @property
    def total(self) -> int:
        """Layers that compute something: all but inputs and removed ones."""
        counts = self.counts()
        return counts["integer"] + counts["partly"] + counts["float"]

    @property
    def complete(self) -> bool:
        """Whether no layer is float, not even in part."""
        return self.counts()["integer"] == self.total

    @property
    def summary(self) -> str:
        """The totals in one line: ``53 of 54 layers integer; float: end (softmax at the end)``."""
        counts = self.counts()
        parts = [f"{counts['integer']} of {self.total} layers integer"]
        for status, label in (("partly", "float in part"), ("float", "float")):
            layers = [layer for layer in self.layers if layer.status == status]
            # Those that only follow another float layer tell nothing new.
            causes = [x for x in layers if not x.follows] or layers
            if layers:
                named = ", ".join(f"{x.name} ({x.reason})" for x in causes[:LISTED])
                more = len(layers) - len(causes[:LISTED])
                parts.append(f"{label}: {named}" + (f" and {more} more" if more else ""))
        if counts["removed"]:
            removed = [layer.name for layer in self.layers if layer.status == "removed"]
            parts.append(f"removed: {shortened(removed)}")
        return ("if quantized, " if self.planned else "") + "; ".join(parts)

    @property
    def footer(self) -> list[str]:
        """What stands below the table, the totals first."""
        added = [f"added by rules: {shortened(self.added, 80)}"] if self.added else []
        return [self.summary, *added, *self.notes]

    def __str__(self) -> str:
        rows = [layer.cells() for layer in self.layers]
        return "\n".join([self.model, *plain_table(HEADER, rows, len(HEADER)), *self.footer])

    def show(self) -> None:
        """Print the table, with rich on a terminal."""
        rows = [layer.cells() for layer in self.layers]
        print_table(self.model, HEADER, rows, self.footer, len(HEADER))

    def to_config(self) -> dict[str, Any]:
        """All of it as JSON-able values."""
        return {
            "model": self.model,
            "summary": self.summary,
            "counts": self.counts(),
            "layers": [layer.to_config() for layer in self.layers],
            "added": list(self.added),
            "notes": list(self.notes),
            "params": None if self.params is None else self.params.to_config(),
            "log": self.log.to_config(),
        }

    def to_json(self) -> str:
        """All of it as JSON text."""
        return json.dumps(self.to_config(), indent=2)

    def to_html(self) -> str:
        """A page that needs nothing else: totals, the table, which sorts, and the log."""
        title = f"{'Plan for' if self.planned else 'Quantization of'} {self.model}"
        return coverage_page(title, self.footer, self.counts(), self.layers, self.log)

    def save(self, path: str | PathLike[str]) -> None:
        """Write it to a file.

        Args:
            path: its name, *.json or *.html.

        Raises:
            ModelFileError: for any other name, and for a file that cannot be written.
        """
        file = Path(path)
        writers = {".json": self.to_json, ".html": self.to_html, ".htm": self.to_html}
        if file.suffix.lower() not in writers:
            raise ModelFileError(f"{file}: a report is written as *.json or *.html")
        write_text(file, writers[file.suffix.lower()]())


def coverage(model: Any, program: Program | None = None, accumulators: bool = True) -> Coverage:
    """Tell what became of each layer of the model that was quantized to ``model``.

    Args:
        model: the quantized model, which may have been loaded, or its reading.
        program: the model's, if there is one already.
        accumulators: say how many bits they need, which takes the programs of its parts; it is
            converted for that unless ``program`` gives the one it has.

    Returns:
        The report: ``show()`` prints it, ``save()`` writes it to JSON or HTML.

    Raises:
        QuantizationError: for a model without quantized layers.
    """
    reading = QuantizedGraph.of(model)
    notes: tuple[str, ...] = ()
    bits: dict[str, int] = {}
    if accumulators:
        try:
            programs = convert_parts(reading) if program is None else [program]
            costs = [cost for part in programs for cost in program_costs(part).layers]
            bits = {cost.layer.name: cost.accumulator_bits for cost in costs}
        except QuantizationError as error:
            notes = (f"widths of accumulators are not known: {error}",)
    parts: dict[str, Part] = {}
    for node_part in parts_of_graph(reading.graph, bits).values():
        parts[node_part.name] = _widest(parts.get(node_part.name), node_part)
    found = provenance_of(reading.model)
    return replace(_assembled(reading.model.name, found, parts), notes=notes, params=found.params)


def planned_coverage(model: Any, plan: Plan, log: Log) -> Coverage:
    """Tell what a plan for a float model will make of its layers; formats are not known yet.

    Args:
        model: the float model.
        plan: the plan.
        log: the rewrites before it.

    Returns:
        The report.
    """
    found = _assembled(model.name, trace(dict(layer_types(model)), plan, log), parts_of_plan(plan))
    return replace(found, planned=True)


def _widest(one: Part | None, other: Part) -> Part:
    """The part of several call sites of one layer: with the accumulator that serves them all."""
    if one is None or (one.accumulator_bits or 0) < (other.accumulator_bits or 0):
        return other
    return one


def _assembled(name: str, provenance: Provenance, parts: Mapping[str, Part]) -> Coverage:
    """parts: the layers of the quantized model, by name."""
    homes: dict[str, list[str]] = {}
    for part, source in provenance.sources.items():
        for layer in source:
            homes.setdefault(layer, []).append(part)
    layers = tuple(
        _layer(layer, kind, homes.get(layer, []), provenance, parts)
        for layer, kind in provenance.layers.items()
    )
    known = {part for part, source in provenance.sources.items() if source}
    added = tuple(p.name for p in parts.values() if p.state == "integer" and p.name not in known)
    return Coverage(name, layers, provenance.log, added)


def _layer(
    name: str, kind: str, homes: Iterable[str], provenance: Provenance, parts: Mapping[str, Part]
) -> LayerCoverage:
    """homes: the layers of the quantized model that do its work."""
    homes = list(homes)
    rules = provenance.log.rules_at(name)
    present = [parts[home] for home in homes if home in parts]
    own = tuple(part for part in present if provenance.sources[part.name][0] == name)
    others = [provenance.sources[part.name][0] for part in present if part not in own]
    merged = tuple(dict.fromkeys(others))
    if kind == INPUT:
        inputs = own or (Part(name, "input", "input", output=FLOAT),)
        return LayerCoverage(name, kind, "input", inputs, (), "", rules)
    if not present:
        reason = ", ".join(rules[-1:]) or "it computes nothing"
        if homes:
            reason = "it is no longer in the quantized model"
        return LayerCoverage(name, kind, "removed", (), (), reason, rules)
    floats = [part for part in present if part.state == "float"]
    reasons = dict.fromkeys(
        provenance.floats.get(part.name, "it is float in the model") for part in floats
    )
    status: Status = "integer"
    if floats:
        status = "float" if len(floats) == len(present) else "partly"
    follows = bool(floats) and floats[0].name in provenance.following
    return LayerCoverage(name, kind, status, own, merged, "; ".join(reasons), rules, follows)
