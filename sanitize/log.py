"""What rules did to a graph and what they refused, in the names of the user's layers.

An entry is one decision at one place. A :class:`Log` prints as a table with one line per rule and
per reason to refuse; ``table(every=True)`` has one line per entry.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

#: Names in a cell of the table, in letters; the rest of them is counted.
NAMES_WIDTH = 40
#: Different changes that the line of one rule tells.
CHANGES = 3


@dataclass(frozen=True)
class LogEntry:
    """One decision: which rule, where, and why.

    Attributes:
        rule: its name.
        nodes: at which nodes.
        source: the layers of the user's model that these stand for.
        outcome: "fired" or "refused".
        sentence: what was done, or why not.
        layer: the user's layer in the middle of it.
        change: kinds before and after, without names, such as ``conv2d, batchnorm -> conv2d``;
            empty for a refusal.
    """

    rule: str
    nodes: tuple[str, ...]
    source: tuple[str, ...]
    outcome: Literal["fired", "refused"]
    sentence: str
    layer: str = ""
    change: str = ""

    def __str__(self) -> str:
        return f"{self.outcome:7} {self.rule}: {self.sentence}"

    @property
    def told(self) -> str:
        """What the table says of this entry alone."""
        return self.sentence if self.outcome == "fired" else f"refused: {self.sentence}"


@dataclass(frozen=True)
class Log:
    """Everything that fired, in order, and the refusals that stand in the final graph.

    Attributes:
        entries: the decisions.
    """

    entries: tuple[LogEntry, ...] = ()

    HEADER = ("layer", "rule", "times", "what happened, or why it was refused")

    @property
    def fired(self) -> tuple[LogEntry, ...]:
        """What was done."""
        return tuple(entry for entry in self.entries if entry.outcome == "fired")

    @property
    def refused(self) -> tuple[LogEntry, ...]:
        """What was not."""
        return tuple(entry for entry in self.entries if entry.outcome == "refused")

    def counts(self) -> dict[str, int]:
        """How many times each rule fired."""
        return dict(Counter(entry.rule for entry in self.fired))

    def rules_at(self, layer: str) -> tuple[str, ...]:
        """Find the rules that fired on a layer.

        Args:
            layer: its name in the user's model.

        Returns:
            Names of rules in order, each once.
        """
        return tuple(dict.fromkeys(entry.rule for entry in self.fired if layer in entry.source))

    @property
    def summary(self) -> str:
        """The totals in one line."""
        fired, refused = len(self.fired), len(self.refused)
        if not self.entries:
            return "nothing to rewrite"
        rules = len(self.counts())
        return (
            f"{fired} rewrite{'s' * (fired != 1)} by {rules} rule{'s' * (rules != 1)}, "
            f"{refused} refused"
        )

    def rows(self, every: bool = False) -> list[tuple[str, str, str, str]]:
        """Make the cells of the table under HEADER.

        Args:
            every: one row per entry, nothing put together.

        Returns:
            Rows of (layers, rule, times, what was done).
        """
        if every:
            return [(e.layer, e.rule, "1", e.told) for e in self.entries]
        groups: dict[tuple[str, str, str], list[LogEntry]] = {}
        for entry in self.entries:
            reason = "" if entry.outcome == "fired" else without_names(entry.sentence)
            groups.setdefault((entry.outcome, entry.rule, reason), []).append(entry)
        return [
            (shortened([e.layer for e in group]), rule, str(len(group)), _told_of(group, reason))
            for (_, rule, reason), group in groups.items()
        ]

    def table(self, every: bool = False) -> str:
        """Write the table as text, totals below.

        Args:
            every: one row per entry, nothing put together.

        Returns:
            The lines of the table.
        """
        rows = self.rows(every)
        return "\n".join([*(_aligned([self.HEADER, *rows]) if rows else []), self.summary])

    def __str__(self) -> str:
        return self.table()

    def to_config(self) -> list[dict[str, Any]]:
        """The entries as JSON-able values."""
        return [asdict(entry) for entry in self.entries]

    @classmethod
    def from_config(cls, config: Iterable[Mapping[str, Any]]) -> Log:
        """Make a log of its config, the reverse of to_config.

        Args:
            config: the entries.

        Returns:
            The log.
        """
        entries = []
        for entry in config:
            values: dict[str, Any] = dict(entry)
            for key in ("nodes", "source"):
                values[key] = tuple(values[key])
            entries.append(LogEntry(**values))
        return cls(tuple(entries))


def layer_of(node: str, source: Sequence[str]) -> str:
    """Which of the user's layers behind a node the node is named after, or was made for."""
    named = [layer for layer in source if node == layer or node.startswith(f"{layer}/")]
    return max(named, key=len) if named else (*source, node)[0]


def without_names(sentence: str) -> str:
    """A sentence with '...' for every name in quotation marks: alike for like reasons."""
    return re.sub(r"'[^']*'", "'...'", sentence)


def shortened(names: Sequence[str], width: int = NAMES_WIDTH) -> str:
    """``a, b and 50 more``: as many different names as fit the width, at least one."""
    different = list(dict.fromkeys(names))
    shown = different[:1]
    for name in different[1:]:
        if len(", ".join([*shown, name])) > width:
            break
        shown.append(name)
    more = len(different) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _told_of(group: Sequence[LogEntry], reason: str) -> str:
    """What the table says of several entries of one rule. reason: of a refusal, without names."""
    if len(group) == 1:
        return group[0].told
    if reason:
        return f"refused: {reason.removeprefix(chr(39) + '...' + chr(39) + ': ')}"
    changes = Counter(entry.change for entry in group).most_common()
    parts = [f"{count} x {text}" if len(changes) > 1 else text for text, count in changes]
    others = sum(count for _, count in changes[CHANGES:])
    return "; ".join(parts[:CHANGES]) + (f"; {others} others" if others else "")


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with all columns aligned to the left, and a rule under the first."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, cells, widths)).rstrip() for cells in rows]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]
