"""What is chosen for single layers: overrides by pattern, and what then holds for one of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any, Self

from quantkeras.calibration.observers import observer_template
from quantkeras.errors import QuantizationError
from quantkeras.quantization.setting_checks import (
    Check,
    ParamsError,
    check_keys,
    choice,
    flag,
    optional,
    text,
    whole_number,
)


def covers(glob: str, name: str) -> bool:
    """Whether glob is this name, to the letter, or a pattern that covers it."""
    return glob == name or fnmatchcase(name, glob)


def _observer(name: str, value: Any) -> str:
    """The spec of an observer, such as "percentile:99.9"."""
    try:
        observer_template(text(name, value))
    except ParamsError:
        raise
    except QuantizationError as error:
        raise ParamsError(f"{name} is {value!r}: {error}") from error
    return str(value)


WIDTH = whole_number((2, 3, 4, 5, 6, 7, 8, 16), "2 to 8, or 16 bits")

LAYER_CHECKS: dict[str, Check] = {
    "weight_bits": WIDTH,
    "activation_bits": WIDTH,
    "output_bits": WIDTH,
    "per_tensor_activations": flag,
    "weight_range": choice(("minmax", "mse")),
    "observer": _observer,
}
"""Settings that an override can give as well."""


@dataclass(frozen=True)
class LayerSettings:
    """What holds for one layer, all overrides applied.

    Attributes:
        weight_bits: of the kernel.
        activation_bits: of the output if it follows an activation such as ReLU.
        output_bits: of the output otherwise, None if the accumulator itself is the output (the last
            layer).
        per_tensor_activations: as in QuantizationParams, and so are all that follow but float.
        weight_range: see there.
        observer: see there.
        float: the layer is not quantized, and the rest does not matter.
        scale_bits: see there.
        buffer_bits: see there.
    """

    weight_bits: int
    activation_bits: int
    output_bits: int | None
    per_tensor_activations: bool
    weight_range: str
    observer: str
    float: bool
    scale_bits: int
    buffer_bits: int


@dataclass(frozen=True)
class LayerOverride:
    """Settings for the layers whose name matches `pattern`; None leaves a setting as it was.

    Attributes:
        pattern: a layer's name, or a glob (`*`, `?`, `[...]`) over names, case matters.
        kind: only layers of this kind ("conv2d", "depthwise_conv2d", "dense", "add", ...), also a
            glob.
        weight_bits: stands above input_weight_bits and last_weight_bits.
        activation_bits: as in QuantizationParams, and so are all that follow but float.
        output_bits: for the last layer, gives its output a width.
        per_tensor_activations: see there.
        weight_range: see there.
        observer: see there.
        float: True keeps the layer in float, False quantizes it although `float_layers` names it.

    Raises:
        ParamsError: for a value that cannot be, and if nothing is set.
    """

    pattern: str
    kind: str | None = None
    weight_bits: int | None = None
    activation_bits: int | None = None
    output_bits: int | None = None
    per_tensor_activations: bool | None = None
    weight_range: str | None = None
    observer: str | None = None
    float: bool | None = None

    def __post_init__(self) -> None:
        text("LayerOverride.pattern", self.pattern)
        optional(text)("LayerOverride.kind", self.kind)
        given = self.settings()
        if not given:
            raise ParamsError(f"LayerOverride({self.pattern!r}) sets nothing: give it a setting.")
        for name, value in given.items():
            check: Check = LAYER_CHECKS.get(name, flag)
            object.__setattr__(self, name, check(f"LayerOverride.{name}", value))

    def settings(self) -> dict[str, Any]:
        """The settings that are given, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)[2:]}
        return {name: value for name, value in values.items() if value is not None}

    def matches(self, names: Iterable[str], kind: str | None = None) -> bool:
        """Whether this is for a layer.

        Args:
            names: what the layer is called; one that matches is enough.
            kind: the layer's; None is not looked at.

        Returns:
            True if it is.
        """
        if self.kind is not None and kind is not None and not covers(self.kind, kind):
            return False
        return any(covers(self.pattern, name) for name in names)

    def to_config(self) -> dict[str, Any]:
        """JSON-able: the pattern, the kind if given, the settings that are given."""
        kind = {} if self.kind is None else {"kind": self.kind}
        return {"pattern": self.pattern, **kind, **self.settings()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Make one of its config, the reverse of to_config.

        Args:
            config: the pattern, and settings by name.

        Returns:
            The override.

        Raises:
            ParamsError: for unknown and missing keys, and values that cannot be.
        """
        check_keys("An override", config, [f.name for f in fields(cls)], ["pattern"])
        return cls(**config)
