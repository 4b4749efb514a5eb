"""What a piece of hardware asks of a graph beyond the general form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """Limits that call for hardware-only rules; the defaults are no limits at all.

    Attributes:
        name: of the target.
        add_inputs: the most inputs of one add, at least 2; None: any number.
        concat_inputs: those of one concatenation.
        odd_kernels: convolution kernels with padding must have odd sizes.
        extremum_inputs: the most inputs of one maximum or minimum.
        groups: whether there are convolutions with groups (that are not depthwise).
        largest_strided_depthwise: the largest kernel of a depthwise convolution with a stride, at
            least 3; None: any.
        smallest_strided_kernel: the smallest odd kernel of a convolution with a stride; None: any.
        upsampling: whether there is nearest upsampling; else it is a transposed convolution.
        average_pool: whether there are average pools but for the global one; else those without
            padding are depthwise convolutions.
        identity_convs: pools and activations must belong to a convolution in front of them.

    Raises:
        ValueError: for a limit that no network can keep.
    """

    name: str = "generic"
    add_inputs: int | None = None
    concat_inputs: int | None = None
    odd_kernels: bool = False
    extremum_inputs: int | None = None
    groups: bool = True
    largest_strided_depthwise: int | None = None
    smallest_strided_kernel: int | None = None
    upsampling: bool = True
    average_pool: bool = True
    identity_convs: bool = False

    def __post_init__(self) -> None:
        for label in ("add_inputs", "concat_inputs", "extremum_inputs"):
            limit = getattr(self, label)
            if limit is not None and limit < 2:
                raise ValueError(f"target '{self.name}': {label} is {limit}; it must be at least 2")
        largest, smallest = self.largest_strided_depthwise, self.smallest_strided_kernel
        if largest is not None and largest < 3:
            raise ValueError(
                f"target '{self.name}': largest_strided_depthwise is {largest}; the kernel that"
                " keeps every second pixel has size 3"
            )
        if smallest is not None and smallest % 2 == 0:
            raise ValueError(
                f"target '{self.name}': smallest_strided_kernel is {smallest}; it must be odd"
            )


#: Targets by name. "generic" takes everything that a hardware layer can be. "pairwise" is an
#: accelerator whose element-wise unit and concatenation read two tensors at a time and whose
#: convolutions know no groups. "neuromorphic" is an event-based processor: everything happens in
#: convolutions, of odd kernels, strided ones of size 3.
TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        Target(),
        Target("pairwise", add_inputs=2, concat_inputs=2, extremum_inputs=2, groups=False),
        Target(
            "neuromorphic",
            add_inputs=2,
            concat_inputs=2,
            extremum_inputs=2,
            odd_kernels=True,
            groups=False,
            largest_strided_depthwise=3,
            smallest_strided_kernel=3,
            upsampling=False,
            average_pool=False,
            identity_convs=True,
        ),
    )
}


def find_target(target: Target | str | None) -> Target:
    """The target itself, the one of that name, or the generic one for None."""
    if target is None:
        return TARGETS["generic"]
    if isinstance(target, Target):
        return target
    if target not in TARGETS:
        raise ValueError(f"no target is named '{target}'; there are {sorted(TARGETS)}")
    return TARGETS[target]
