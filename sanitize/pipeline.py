"""sanitize: the ordered list of rules, run to a fixed point, and checked against the original.

The order is the documentation: each group prepares for the next. Rules that always apply come
first; those that run only for a target that asks for them follow in :func:`hardware_rules`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .graph import Graph
from .match import Keep, Log, LogEntry, RewriteError, Rule, apply_rule
from .rewriting_check import (
    NOISE_FACTOR,
    TOLERANCE,
    largest_differences,
    random_inputs,
    run_for_comparison,
    saturated,
)
from .rules.activation import ReluBehindMaxPool, SplitActivation
from .rules.batchnorm import FoldIntoConsumer, FoldIntoProducer, NormToDepthwise
from .rules.clip import ChannelClip
from .rules.concat import (
    MultiplyByTwo,
    SplitAdd,
    SplitConcat,
    SplitMaximum,
    SplitMinimum,
    SubtractToAdd,
)
from .rules.formulas import FunctionFromArithmetic
from .rules.hardware_kernels import (
    OddKernels,
    SplitGroups,
    SplitStridedDepthwise,
    WideStridedKernels,
)
from .rules.hardware_layers import (
    AveragePoolToDepthwise,
    IdentityConvolution,
    UpsampleToTranspose,
)
from .rules.identity import DropIdentity, MergeDuplicates
from .rules.kernels import DenseToConv, DepthwiseOfOne, GroupsToDepthwise
from .rules.padding import MergePads, PadIntoConv, PadIntoMaxPool
from .rules.permutes import PermuteBehindElementwise
from .rules.pooling import (
    FlattenIntoGlobalPool,
    GlobalMaxPool,
    ReshapeIntoGlobalPool,
    WholeAveragePool,
)
from .rules.rescaling import MergeAffine
from .rules.reshape import (
    FlattenIsEnough,
    MergePermutes,
    MergeReshapes,
    PermuteIsReshape,
    ReshapeBehindElementwise,
    ReshapeBehindMerge,
)
from .target import Target, find_target


def general_rules() -> list[Rule]:
    """The rules that always apply, in their order."""
    return [
        # One operation per node, and none that does nothing.
        SplitActivation(),
        DropIdentity(),
        MergeDuplicates(),
        # Functions written out by hand, before their constants are folded elsewhere.
        FunctionFromArithmetic(),
        ChannelClip(),
        # Fewer movements of data.
        MergeReshapes(),
        FlattenIsEnough(),
        ReshapeBehindElementwise(),
        ReshapeBehindMerge(),
        MergePermutes(),
        PermuteBehindElementwise(),
        PermuteIsReshape(),
        WholeAveragePool(),
        FlattenIntoGlobalPool(),
        ReshapeIntoGlobalPool(),
        # Padding belongs to the window that needs it.
        MergePads(),
        PadIntoConv(),
        PadIntoMaxPool(),
        # Layers of the plainest kind.
        GroupsToDepthwise(),
        DepthwiseOfOne(),
        DenseToConv(),
        SubtractToAdd(),
        MultiplyByTwo(),
        GlobalMaxPool(),
        # Affine maps and batch normalizations go into weights: backwards, else forwards.
        MergeAffine(),
        FoldIntoProducer(),
        FoldIntoConsumer(),
        NormToDepthwise(),
        # The order of a hardware layer: core, max pool, activation.
        ReluBehindMaxPool(),
    ]


def hardware_rules(target: Target) -> list[Rule]:
    """The rules that the limits of ``target`` ask for, in their order; none for a generic one."""
    wanted: list[tuple[bool, Rule]] = [
        # Operations with few inputs.
        (target.add_inputs is not None, SplitAdd(target.add_inputs or 2)),
        (target.concat_inputs is not None, SplitConcat(target.concat_inputs or 2)),
        (target.extremum_inputs is not None, SplitMaximum(target.extremum_inputs or 2)),
        (target.extremum_inputs is not None, SplitMinimum(target.extremum_inputs or 2)),
        # Convolutions instead of other operations.
        (not target.upsampling, UpsampleToTranspose()),
        (not target.average_pool, AveragePoolToDepthwise()),
        (not target.groups, SplitGroups()),
        # Kernels and strides.
        (
            target.largest_strided_depthwise is not None,
            SplitStridedDepthwise(target.largest_strided_depthwise or 3),
        ),
        (target.odd_kernels, OddKernels()),
        (
            target.smallest_strided_kernel is not None,
            WideStridedKernels(target.smallest_strided_kernel or 3),
        ),
        # Last, when it is known what stands alone.
        (target.identity_convs, IdentityConvolution()),
    ]
    return [rule for asked_for, rule in wanted if asked_for]


def rules_for(target: Target | str | None = None) -> list[Rule]:
    """All rules in their order; ``target``, or its name, adds those that its limits ask for."""
    return [*general_rules(), *hardware_rules(find_target(target))]


#: A target that asks for every hardware-only rule.
_EVERYTHING = Target("everything", 2, 2, True, 2, False, 3, 3, False, False, True)


@dataclass(frozen=True)
class RuleRow:
    """One line of the table of rules.

    Attributes:
        name: the rule's.
        when: "always" or "hardware only".
        algebra: before -> after.
    """

    name: str
    when: str
    algebra: str


def rules_table() -> list[RuleRow]:
    """Every rule in its order, with the first paragraph of its docstring: before -> after."""
    rows = []
    for rule in [*general_rules(), *hardware_rules(_EVERYTHING)]:
        first = (type(rule).__doc__ or "").strip().split("\n\n")[0]
        when = "hardware only" if rule.hardware_only else "always"
        rows.append(RuleRow(rule.name, when, " ".join(first.split())))
    return rows


def sanitize_graph(
    graph: Graph,
    target: Target | str | None = None,
    verify: bool = True,
    seed: int = 0,
    rules: Sequence[Rule] | None = None,
    keep: Keep | None = None,
) -> tuple[Graph, Log]:
    """Rewrite a graph into the form that integer hardware can run.

    Rules run in order, all of them again until none fires.

    Args:
        graph: the network, which is not changed.
        target: a Target or the name of one (``sanitize.TARGETS``); without one only the rules that
            always apply run.
        verify: compare the result with the original on random inputs.
        seed: of these inputs.
        rules: others in place of the target's.
        keep: says of a node whether it stays the layer that it is: what may go into it, as a batch
            normalization into a convolution, does so, but it goes into no other and does not become
            another kind.

    Returns:
        The graph, and the log of what fired and what was refused.

    Raises:
        RewriteError: naming the rule that changed the function, or those that undo each other.
        ValueError: for a target that there is not.
    """
    ordered = list(rules_for(target) if rules is None else rules)
    stages: list[tuple[str, Graph]] = [("", graph)]
    fired: list[LogEntry] = []
    # Two or three rounds are usual; this many means that rules undo each other.
    for _ in range(50):
        refused: list[LogEntry] = []
        before = len(fired)
        for rule in ordered:
            graph, entries = apply_rule(graph, rule, keep)
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

    ``stages``: (name of the rule, graph behind it), the original first. Where the original itself
    gives other numbers in float32 than in float64, several times as much is allowed for this
    sample: a network that magnifies the rounding of activations does the same with that of weights.
    """
    original = stages[0][1]
    inputs = random_inputs(original, seed)
    wanted: dict[tuple[bool, ...], list[NDArray[Any]]] = {}

    def differences(graph: Graph, dtype: Any = np.float64) -> NDArray[Any]:
        pairs = zip(saturated(original), saturated(graph), strict=True)
        strip = tuple(before and after for before, after in pairs)
        if strip not in wanted:
            wanted[strip] = run_for_comparison(original, inputs, strip)
        found = run_for_comparison(graph, inputs, strip, dtype)
        return largest_differences(wanted[strip], found)

    if differences(stages[-1][1]).max() <= TOLERANCE:
        return
    allowed = np.maximum(TOLERANCE, NOISE_FACTOR * differences(original, np.float32))
    for name, graph in stages[1:]:
        gaps = differences(graph)
        if (gaps > allowed).any():
            gap = float(gaps[gaps > allowed].max())
            raise RewriteError(
                f"rule '{name}' changed what graph '{graph.name}' computes: outputs differ by"
                f" {gap:.2e} of their size. This is a fault of the rule; sanitize with"
                " verify=False does not check, or leave the rule out"
            )


def sanitize(
    model: Any,
    target: Target | str | None = None,
    verify: bool = True,
    verbose: bool | int = False,
    shapes: Any = None,
) -> Any:
    """Make a float keras.Model that computes the same in a form that quantizes well.

    See :func:`sanitize_graph`.

    Args:
        model: a Keras model, which is not changed.
        target: a Target or the name of one, for the rules that its limits ask for.
        verify: whether what was read and what was rewritten is compared with the model on random
            inputs.
        verbose: print what was rewritten, what was not, and why; 2 lists every single place.
        shapes: unbatched, of the inputs where the model leaves sizes open.

    Returns:
        The new model.

    Raises:
        TypeError: for what is no model.
        sanitize.GraphError: for a model whose call cannot be read.
        sanitize.keras_io.reading_check.ReadingError: if what was read computes something else.
        RewriteError: if what was rewritten does; it names the rule.
        ValueError: for a target that there is not.
    """
    from .former_names import remember_names
    from .keras_io import write_keras
    from .keras_io.keras_reading import read_model

    reading = read_model(model, verify, shapes)
    graph, log = sanitize_graph(reading.graph, target, verify)
    if verbose:
        print(Log((*reading.conversions, *log.entries)).table(every=verbose > 1))
    made = write_keras(graph)
    remember_names(made, reading.graph, graph, model)
    return made
