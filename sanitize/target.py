"""What a piece of hardware asks of a graph beyond the general form."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """Limits that call for hardware-only rules; None or False means that there is no limit.

    ``add_inputs``, ``concat_inputs``: the most inputs of one add or concatenation (at least 2).
    ``odd_kernels``: convolution kernels with padding must have odd sizes.
    """

    name: str = "generic"
    add_inputs: int | None = None
    concat_inputs: int | None = None
    odd_kernels: bool = False

    def __post_init__(self) -> None:
        for label in ("add_inputs", "concat_inputs"):
            limit = getattr(self, label)
            if limit is not None and limit < 2:
                raise ValueError(f"target '{self.name}': {label} is {limit}; it must be at least 2")
