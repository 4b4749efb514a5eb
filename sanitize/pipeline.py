"""sanitize: the ordered list of rules, run to a fixed point, and checked against the original.

The order is the documentation: each group prepares for the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from .graph import Graph
from .match import Log, LogEntry, RewriteError, Rule, apply_rule
from .rules.activation import (
    HardSigmoidFromArithmetic,
    HardSiluFromArithmetic,
    ReluBehindMaxPool,
    SiluFromProduct,
    SplitActivation,
)
from .rules.batchnorm import FoldIntoConsumer, FoldIntoProducer, NormToDepthwise
from .rules.concat import SplitAdd, SplitConcat, SubtractToAdd
from .rules.identity import DropIdentity, MergeDuplicates
from .rules.kernels import DenseToConv, DepthwiseOfOne, GroupsToDepthwise, OddKernels
from .rules.padding import MergePads, PadIntoConv, PadIntoMaxPool
from .rules.pooling import FlattenIntoGlobalPool, ReshapeIntoGlobalPool, WholeAveragePool
from .rules.rescaling import MergeAffine
from .rules.reshape import FlattenIsEnough, MergePermutes, MergeReshapes, ReshapeBehindElementwise
from .target import Target
from .verify import TOLERANCE, largest_difference, random_inputs, run_for_comparison, saturated


def rules_for(target: Target | None = None) -> list[Rule]:
    """All rules in their order; ``target`` adds the rules that its limits ask for."""
    rules: list[Rule] = [
        # One operation per node, and none that does nothing.
        SplitActivation(),
        DropIdentity(),
        MergeDuplicates(),
        # Functions written out by hand, before their constants are folded elsewhere.
        HardSigmoidFromArithmetic(),
        HardSiluFromArithmetic(),
        SiluFromProduct(),
        # Fewer movements of data.
        MergeReshapes(),
        FlattenIsEnough(),
        ReshapeBehindElementwise(),
        MergePermutes(),
        WholeAveragePool(),
        FlattenIntoGlobalPool(),
        ReshapeIntoGlobalPool(),
        # Padding belongs to the window that needs it.
        MergePads(),
        PadIntoConv(),
        PadIntoMaxPool(),
        # Kernels of the plainest kind.
        GroupsToDepthwise(),
        DepthwiseOfOne(),
        DenseToConv(),
        SubtractToAdd(),
        # Affine maps and batch normalizations go into weights: backwards, else forwards.
        MergeAffine(),
        FoldIntoProducer(),
        FoldIntoConsumer(),
        NormToDepthwise(),
        # The order of a hardware layer: core, max pool, activation.
        ReluBehindMaxPool(),
    ]
    if target is not None:
        if target.add_inputs is not None:
            rules.append(SplitAdd(target.add_inputs))
        if target.concat_inputs is not None:
            rules.append(SplitConcat(target.concat_inputs))
        if target.odd_kernels:
            rules.append(OddKernels())
    return rules


def sanitize_graph(
    graph: Graph,
    target: Target | None = None,
    verify: bool = True,
    seed: int = 0,
    rules: Sequence[Rule] | None = None,
) -> tuple[Graph, Log]:
    """Rewrite ``graph`` into the form that integer hardware can run.

    Rules run in order, all of them again until none fires. With ``verify`` the result is compared
    with the original on random inputs made from ``seed``; a RewriteError names the rule that
    changed the function. Returns the graph and the log of what fired and what was refused.
    """
    ordered = list(rules_for(target) if rules is None else rules)
    stages: list[tuple[str, Graph]] = [("", graph)]
    fired: list[LogEntry] = []
    # Two or three rounds are usual; this many means that rules undo each other.
    for _ in range(50):
        refused: list[LogEntry] = []
        before = len(fired)
        for rule in ordered:
            graph, entries = apply_rule(graph, rule)
            news = [entry for entry in entries if entry.outcome == "fired"]
            refused += [entry for entry in entries if entry.outcome == "refused"]
            if news:
                fired += news
                stages.append((rule.name, graph))
        if len(fired) == before:
            break
    else:
        names = sorted({entry.rule for entry in fired[-20:]})
        raise RewriteError(f"the rules {names} undo each other on graph '{graph.name}'")
    if verify:
        check_stages(stages, seed)
    return graph, Log((*fired, *refused))


def check_stages(stages: Sequence[tuple[str, Graph]], seed: int = 0) -> None:
    """Raise RewriteError, naming the first rule whose result computes something else.

    ``stages``: (name of the rule, graph behind it), the original first.
    """
    original = stages[0][1]
    inputs = random_inputs(original, seed)
    wanted: dict[tuple[bool, ...], list[NDArray[Any]]] = {}

    def difference(graph: Graph) -> float:
        pairs = zip(saturated(original), saturated(graph), strict=True)
        strip = tuple(before and after for before, after in pairs)
        if strip not in wanted:
            wanted[strip] = run_for_comparison(original, inputs, strip)
        return largest_difference(wanted[strip], run_for_comparison(graph, inputs, strip))

    if difference(stages[-1][1]) <= TOLERANCE:
        return
    for name, graph in stages[1:]:
        gap = difference(graph)
        if gap > TOLERANCE:
            raise RewriteError(
                f"rule '{name}' changed what graph '{graph.name}' computes: outputs differ by"
                f" {gap:.2e} of their size. This is a fault of the rule; sanitize with"
                " verify=False does not check, or leave the rule out"
            )


def sanitize(
    model: Any,
    target: Target | None = None,
    verify: bool = True,
    verbose: bool = False,
) -> Any:
    """A float keras.Model that computes the same as ``model`` in a form that quantizes well.

    ``verbose`` prints what was rewritten, what was not, and why. See :func:`sanitize_graph`.
    """
    from .keras_io import read_keras, write_keras

    graph, log = sanitize_graph(read_keras(model), target, verify)
    if verbose:
        print(log)
    return write_keras(graph)
