"""Rules and the engine that applies them.

A rule is three methods. ``pattern`` says whether the graph around a node has the shape the rule is
about, ``check`` says in one sentence why it must not fire there (or None), ``rewrite`` says what to
change. The engine applies a rule wherever it may until it fires no more, and writes down what fired
and what was refused. It swallows no exception.

Shared layers: a rewrite that changes a node with weights of a shared layer is only done together
with the same rewrite at all other call sites, and only when all of them end up with equal weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from .graph import Graph, Node
from .log import Log, LogEntry, layer_of

__all__ = ["Keep", "Log", "LogEntry", "Match", "Rewrite", "RewriteError", "Rule", "apply_rule"]

Keep = Callable[[Node], bool]
"""Whether a node stays the layer that it is: others may go into it, and it into no other."""


@dataclass(frozen=True)
class Match:
    """A place where a pattern was found.

    Attributes:
        anchor: the node that the pattern was asked about.
        roles: other nodes by what they are for the rule.
    """

    anchor: Node
    roles: Mapping[str, Node] = field(default_factory=dict)

    def __getitem__(self, role: str) -> Node:
        return self.roles[role]

    @property
    def nodes(self) -> list[Node]:
        """The anchor and the nodes with a role, each once."""
        return list({node.name: node for node in (self.anchor, *self.roles.values())}.values())


@dataclass(frozen=True)
class Rewrite:
    """What :meth:`sanitize.graph.Graph.replace` needs.

    Attributes:
        remove: names of nodes that go.
        add: new nodes.
        redirect: old values -> the values that replace them.
    """

    remove: Sequence[str] = ()
    add: Sequence[Node] = ()
    redirect: Mapping[str, str] = field(default_factory=dict)


class Rule(Protocol):
    """One rewrite.

    The docstring of a rule is its algebra: before -> after, with the formula of the weights.
    """

    @property
    def name(self) -> str:
        """Short and stable: it stands in logs and error messages."""

    @property
    def hardware_only(self) -> bool:
        """Whether it runs only for a target that asks for it."""

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        """Look whether the rule is about a place.

        Args:
            graph: the network.
            node: where to look.

        Returns:
            The match anchored at the node, or None when the rule is not about this place.
        """

    def check(self, graph: Graph, match: Match) -> str | None:
        """Look whether the rule may fire.

        Args:
            graph: the network.
            match: the place, of which ``pattern`` told.

        Returns:
            Why the rule must not fire here, in one sentence, or None when it may.
        """

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        """Work out the change; called only when ``check`` has nothing against it.

        Args:
            graph: the network.
            match: the place.

        Returns:
            The change.
        """


class RewriteError(RuntimeError):
    """Rules that do not come to an end, or that change the function; the message names the rule."""


def apply_rule(graph: Graph, rule: Rule, keep: Keep | None = None) -> tuple[Graph, list[LogEntry]]:
    """Apply one rule until it fires no more. ``keep``: see :func:`sanitize.sanitize_graph`.

    Returns the new graph and the log: what fired, then the refusals of the last sweep.
    """
    fired: list[LogEntry] = []
    # A rule may meet each node a few times, not for ever.
    for _ in range(len(graph) + 10):
        count = len(fired)
        refused: list[LogEntry] = []
        for name in [node.name for node in graph.nodes]:
            if name not in graph:
                continue
            match = rule.pattern(graph, graph[name])
            if match is None:
                continue
            problem, rewrites = _plan(graph, rule, match)
            combined = _combined(rewrites)
            if problem is None and keep is not None:
                problem = _not_kept(graph, match, combined, keep)
            if problem is not None:
                refused.append(_entry(rule, match, "refused", f"'{name}': {problem}"))
                continue
            before = graph
            graph = graph.replace(combined.remove, combined.add, combined.redirect)
            sentence, change = _describe(before, graph, combined)
            fired.append(_entry(rule, match, "fired", sentence, change))
        if len(fired) == count:
            return graph, fired + refused
    raise RewriteError(f"rule '{rule.name}' does not come to an end on graph '{graph.name}'")


def _not_kept(graph: Graph, match: Match, rewrite: Rewrite, keep: Keep) -> str | None:
    """Why a kept node would not stay the layer that it is, in one sentence, or None."""
    touched = [graph[name] for name in sorted(_touched(rewrite)) if name in graph]
    kept = [node.name for node in (*match.nodes, *touched) if keep(node)]
    if not kept:
        return None
    added = {node.name: node for node in rewrite.add}
    if added:
        spared = all(_stays(node, added.get(node.name), keep) for node in touched)
    else:  # one that does nothing may go, but of two equal ones neither stands for the other
        spared = all(keep(node) for node in match.nodes)
    return None if spared else f"'{kept[0]}' is kept apart from other layers"


def _stays(before: Node, after: Node | None, keep: Keep) -> bool:
    """Whether a node that is kept stays what it is, and another one takes in no kept one."""
    if keep(before):
        return after is not None and after.kind == before.kind and keep(after)
    return after is None or not keep(after)


def _describe(before: Graph, after: Graph, rewrite: Rewrite) -> tuple[str, str]:
    """What a rewrite did: with the names of the nodes, and with their kinds alone."""
    added = {node.name for node in rewrite.add}
    old = [node for node in before if node.name not in after or node.name in added]
    new = [node for node in after if node.name in added]
    sentence = ", ".join(f"'{node.name}' ({node.kind})" for node in old)
    change = _kinds(old)
    if not new:
        return f"{sentence} removed", f"{change} removed"
    if [(node.name, node.kind) for node in old] == [(node.name, node.kind) for node in new]:
        return f"{sentence} changed", f"{change} changed"
    target = ", ".join(f"'{node.name}' ({node.kind})" for node in new)
    return f"{sentence} -> {target}", f"{change} -> {_kinds(new)}"


def _kinds(nodes: Iterable[Node]) -> str:
    counts = Counter(node.kind for node in nodes)
    return ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in counts.items())


def _entry(
    rule: Rule, match: Match, outcome: Literal["fired", "refused"], sentence: str, change: str = ""
) -> LogEntry:
    names = tuple(node.name for node in match.nodes)
    source = tuple(dict.fromkeys(name for node in match.nodes for name in node.source))
    layer = layer_of(match.anchor.name, match.anchor.source)
    return LogEntry(rule.name, names, source, outcome, sentence, layer, change)


def _plan(graph: Graph, rule: Rule, match: Match) -> tuple[str | None, list[Rewrite]]:
    """(reason to refuse, rewrites): the rewrite at ``match`` with those at its sister sites."""
    problem = rule.check(graph, match)
    if problem is not None:
        return problem, []
    first = rule.rewrite(graph, match)
    shares = {node.share for node in first.add if node.share is not None and node.name in graph}
    if not shares:
        return None, [first]
    rewrites = [first]
    touched = _touched(first)
    sites = {site.name for share in shares for site in graph.sites(share)}
    for site in sorted(sites - touched):
        if site in touched:
            continue
        sister = _match_with(graph, rule, site)
        if sister is None or rule.check(graph, sister) is not None:
            return (
                f"it changes the weights of a shared layer, and at its call site '{site}' the same"
                " rewrite is not possible",
                [],
            )
        rewrite = rule.rewrite(graph, sister)
        if _touched(rewrite) & touched:
            return f"the rewrites at the call sites of a shared layer overlap at '{site}'", []
        rewrites.append(rewrite)
        touched |= _touched(rewrite)
    if not sites <= touched:
        return "it would change one call site of a shared layer without the others", []
    unequal = _unequal(node for rewrite in rewrites for node in rewrite.add)
    if unequal is not None:
        return f"the call sites of the shared layer '{unequal}' would need different weights", []
    return None, rewrites


def _touched(rewrite: Rewrite) -> set[str]:
    return {*rewrite.remove, *(node.name for node in rewrite.add)}


def _match_with(graph: Graph, rule: Rule, site: str) -> Match | None:
    """A match of the rule that involves the node ``site``."""
    for node in graph.nodes:
        match = rule.pattern(graph, node)
        if match is not None and any(part.name == site for part in match.nodes):
            return match
    return None


def _unequal(nodes: Iterable[Node]) -> str | None:
    """The share whose nodes differ in their weights, if there is one."""
    first: dict[str, Node] = {}
    for node in nodes:
        if node.share is None:
            continue
        other = first.setdefault(node.share, node)
        same = set(other.weights) == set(node.weights) and all(
            np.array_equal(value, other.weights[key]) for key, value in node.weights.items()
        )
        if not same:
            return node.share
    return None


def _combined(rewrites: Sequence[Rewrite]) -> Rewrite:
    """Several rewrites, computed on one graph, as one.

    A node that one of them adds may read a value that another one replaces, and shared nodes get
    the same weight arrays again.
    """
    if len(rewrites) == 1:
        return rewrites[0]
    first: dict[str, Node] = {}
    added: list[Node] = []
    for position, rewrite in enumerate(rewrites):
        moved = {
            old: new
            for other, part in enumerate(rewrites)
            if other != position
            for old, new in part.redirect.items()
        }
        for node in rewrite.add:
            node = node.with_(inputs=tuple(moved.get(value, value) for value in node.inputs))
            if node.share is not None:
                node = node.with_(weights=first.setdefault(node.share, node).weights)
            added.append(node)
    redirect = {old: new for rewrite in rewrites for old, new in rewrite.redirect.items()}
    return Rewrite([name for rewrite in rewrites for name in rewrite.remove], added, redirect)
