"""What a user can choose about quantization: for the whole model, and layer by layer.

`QuantizationParams` holds the choices for the whole model and an ordered list of `LayerOverride`s,
each for the layers whose names match a pattern; later ones win. `for_layer` puts them together.
Everything is checked when it is made, and goes to JSON and back.

Widths are in bits, sign included. Legal widths of weights and activations are 2 to 8, and 16.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from os import PathLike
from pathlib import Path
from typing import Any, Self

from quantkeras.files.json_files import parse_json, read_text
from quantkeras.files.writing import write_text
from quantkeras.quantization.layer_settings import (
    LAYER_CHECKS,
    WIDTH,
    LayerOverride,
    LayerSettings,
    covers,
)
from quantkeras.quantization.setting_checks import (
    Check,
    ParamsError,
    check_keys,
    choice,
    optional,
    texts,
    whole_number,
)

__all__ = ["LayerOverride", "LayerSettings", "ParamsError", "QuantizationParams", "chosen_params"]


def _overrides(name: str, value: Any) -> tuple[LayerOverride, ...]:
    """LayerOverrides, or their configs."""
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        raise ParamsError(f"{name} is {value!r}; it must be a list of LayerOverride.")
    return tuple(
        entry if isinstance(entry, LayerOverride) else LayerOverride.from_config(entry)
        for entry in value
    )


_MODEL_CHECKS: dict[str, Check] = {
    **LAYER_CHECKS,
    "input_weight_bits": WIDTH,
    "input_dtype": choice(("auto", "uint8", "int8", "float32")),
    "input_bits": WIDTH,
    "scale_bits": whole_number(range(1, 17), "1 to 16 bits"),
    "buffer_bits": whole_number(range(16, 33), "16 to 32 bits"),
    "last_weight_bits": optional(WIDTH),
    "last_output_bits": optional(WIDTH),
    "ranges": choice(("frozen", "moving", "learned")),
    "float_layers": texts,
    "overrides": _overrides,
}

LAST_WEIGHT_BITS = 8

_SHARED = (*LAYER_CHECKS, "scale_bits", "buffer_bits")
"""The fields that LayerSettings takes over as they are."""


@dataclass(frozen=True, kw_only=True)
class QuantizationParams:
    """How to quantize a model.

    Attributes:
        activation_bits: outputs of layers that end in an activation (ReLU, a table, ...).
        per_tensor_activations: one format per activation, instead of one per channel.
        weight_bits: weights, but for the first and the last layer.
        output_bits: outputs of layers without an activation.
        input_weight_bits: weights of the first layer, which suffers most from few bits.
        input_dtype: what the quantized model is fed. "uint8", "int8": integers as they are, format
            0 fractional bits. "float32": floats, quantized to input_bits at the door. "auto": what
            the samples are: integers that fit uint8 or int8 are taken as they are, all else is
            float32.
        input_bits: width of quantized float inputs; 8 for integer inputs.
        scale_bits: width of the integer output scales, 1 to 16; 1 allows powers of two only.
        buffer_bits: width of the accumulators of the hardware, 16 to 32. Where 16-bit activations
            or weights would overflow them, they get as many bits less as it takes, but not less
            than 8.
        last_weight_bits: weights of the last layer, which suffers as the first does; None: 8, or
            weight_bits if these are more.
        last_output_bits: output of the last layer; None keeps its accumulator, dequantized.
        weight_range: "minmax" (the largest |weight|) or "mse" (the range with the least squared
            error), per output channel.
        observer: how activation ranges are found: "minmax", "moving_average", "percentile", "mse",
            "sqnr", some with a number ("percentile:99.9"), see calibration.observers.
        ranges: activation ranges during training: "frozen" as calibrated, "moving" with the batches
            (observed anew), or "learned" by gradient descent.
        float_layers: names or globs of layers to keep in float. They go into no other layer; what
            is folded into one of them, as a BatchNormalization behind a convolution, stays float
            with it.
        overrides: LayerOverrides in order, later ones win; all stand above the settings here.

    Raises:
        ParamsError: for a value that cannot be, naming the setting.

    Example:
        ``QuantizationParams(weight_bits=4, observer="mse").with_override("head", weight_bits=8)``
    """

    activation_bits: int = 8
    per_tensor_activations: bool = False
    weight_bits: int = 8
    output_bits: int = 8
    input_weight_bits: int = 8
    input_dtype: str = "auto"
    input_bits: int = 8
    scale_bits: int = 8
    buffer_bits: int = 32
    last_weight_bits: int | None = None
    last_output_bits: int | None = None
    weight_range: str = "minmax"
    observer: str = "minmax"
    ranges: str = "frozen"
    float_layers: tuple[str, ...] = ()
    overrides: tuple[LayerOverride, ...] = ()

    def __post_init__(self) -> None:
        for field in fields(self):
            checked = _MODEL_CHECKS[field.name](field.name, getattr(self, field.name))
            object.__setattr__(self, field.name, checked)
        if self.input_dtype in ("uint8", "int8") and self.input_bits != 8:
            raise ParamsError(
                f"input_bits is {self.input_bits}, but input_dtype {self.input_dtype!r} has 8 "
                "bits. Use input_dtype='float32', or leave input_bits at 8."
            )

    def for_layer(
        self,
        name: str,
        kind: str | None = None,
        *,
        first: bool = False,
        last: bool = False,
        source: Iterable[str] = (),
    ) -> LayerSettings:
        """Put together the settings of one layer.

        Args:
            name: its name; a pattern that matches this or one of ``source`` applies.
            kind: its kind, for overrides that ask for one.
            first: it reads an input of the model.
            last: it makes an output.
            source: other names that the user may know it by (the layers that were merged into it).

        Returns:
            What holds for it.
        """
        names = (name, *source)
        values = {field: getattr(self, field) for field in _SHARED}
        if last:
            values["weight_bits"] = self.last_weight_bits or max(LAST_WEIGHT_BITS, self.weight_bits)
        if first:
            values["weight_bits"] = self.input_weight_bits
        if last:
            values["output_bits"] = self.last_output_bits
        values["float"] = any(covers(glob, n) for glob in self.float_layers for n in names)
        for override in self.overrides:
            if override.matches(names, kind or ""):
                values.update(override.settings())
        return LayerSettings(**values)

    def unmatched(self, names: Iterable[str] | Mapping[str, str | None]) -> tuple[str, ...]:
        """Find the patterns of float_layers and overrides that match none of these layers.

        Args:
            names: the layers' names, or name -> kind to have the overrides' kinds looked at too.

        Returns:
            The patterns, each once.
        """
        kinds = names if isinstance(names, Mapping) else dict.fromkeys(names)
        lost = [glob for glob in self.float_layers if not any(covers(glob, n) for n in kinds)]
        for override in self.overrides:
            if not any(override.matches([name], kind) for name, kind in kinds.items()):
                lost.append(override.pattern)
        return tuple(dict.fromkeys(lost))

    def with_override(self, pattern: str, **settings: Any) -> Self:
        """Make a copy with one more LayerOverride, which wins over those before it.

        Args:
            pattern: a layer's name, or a glob over names.
            **settings: those of LayerOverride, by name.

        Returns:
            The copy.

        Raises:
            ParamsError: for unknown settings and values that cannot be.
        """
        override = LayerOverride.from_config({"pattern": pattern, **settings})
        return replace(self, overrides=(*self.overrides, override))

    def to_config(self) -> dict[str, Any]:
        """All settings as JSON-able values."""
        config = asdict(self)
        config["float_layers"] = list(self.float_layers)
        config["overrides"] = [override.to_config() for override in self.overrides]
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Make settings of their config, the reverse of to_config.

        Args:
            config: settings by name; those that are missing take their defaults.

        Returns:
            The settings.

        Raises:
            ParamsError: for unknown keys and values that cannot be.
        """
        check_keys("Quantization parameters", config, [f.name for f in fields(cls)], [])
        return cls(**config)

    def to_json(self) -> str:
        """All settings as JSON text."""
        return json.dumps(self.to_config(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Make settings of JSON text, the reverse of to_json.

        Args:
            text: a JSON object; keys may be missing, see from_config.

        Returns:
            The settings.

        Raises:
            ParamsError: for text that is no JSON, unknown keys and values that cannot be.
        """
        try:
            config = parse_json(text)
        except ValueError as error:
            raise ParamsError(f"Quantization parameters are not valid JSON: {error}.") from error
        return cls.from_config(config)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the settings to a JSON file.

        Args:
            path: the file, which is replaced.

        Raises:
            ModelFileError: with the reason, if it can't be written.
        """
        write_text(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read the settings from a JSON file.

        Args:
            path: the file.

        Returns:
            The settings.

        Raises:
            ParamsError: for a file that is not there or cannot be read, and as from_json does.
        """
        file = Path(path)
        try:
            if file.is_file():
                return cls.from_json(read_text(file))
        except OSError as error:
            raise ParamsError(f"{str(path)!r} cannot be read: {error.strerror}") from error
        except ValueError as error:  # a ParamsError, or what is no text of a fair size
            raise ParamsError(f"{str(path)!r}: {error}") from error
        raise ParamsError(f"Quantization parameters file {str(path)!r} does not exist.")


def chosen_params(given: Any, default: QuantizationParams | None = None) -> QuantizationParams:
    """Look whether a verb was given settings.

    Args:
        given: what it was given.
        default: what None stands for; None: 8 bits everywhere.

    Returns:
        The settings.

    Raises:
        ParamsError: for anything else, such as the samples in their place.
    """
    if given is None:
        return default or QuantizationParams()
    if isinstance(given, QuantizationParams):
        return given
    remedy = "for samples write samples=..."
    if isinstance(given, Mapping):
        remedy = "write QuantizationParams.from_config(...) for a dict of settings"
    elif isinstance(given, str | PathLike):
        remedy = "write QuantizationParams.load(...) for a file of settings"
    raise ParamsError(
        f"qparams is a {type(given).__name__}; expected QuantizationParams, such as "
        f"QuantizationParams(weight_bits=4); {remedy}."
    )
