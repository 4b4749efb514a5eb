"""Checks of single settings: each returns the plain Python value, or says what would be legal.

Every check takes the field's name, for the message, and the value. Whole numbers may be NumPy's;
booleans, floats and text never pass for numbers.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np

from quantkeras.errors import QuantizationError

Check = Callable[[str, Any], Any]


class ParamsError(QuantizationError):
    """A setting that is not legal."""


def whole_number(legal: Collection[int], words: str) -> Check:
    """A check for whole numbers among `legal`, which `words` describes."""

    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise ParamsError(
                f"{name} is {value!r}, a {type(value).__name__}; expected a whole number, {words}."
            )
        if value not in legal:
            raise ParamsError(f"{name} is {value}; it must be {words}.")
        return int(value)

    return check


def optional(check: Check) -> Check:
    """The same check, but None passes."""
    return lambda name, value: None if value is None else check(name, value)


def choice(legal: Collection[str]) -> Check:
    """A check for one of several words."""

    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in legal:
            near = get_close_matches(str(value), legal, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ParamsError(
                f"{name} is {value!r}; it must be one of {', '.join(map(repr, legal))}.{hint}"
            )
        return value

    return check


def flag(name: str, value: Any) -> bool:
    """True or False; 0, 1 and text are refused."""
    if not isinstance(value, bool | np.bool_):
        raise ParamsError(f"{name} is {value!r}; it must be True or False.")
    return bool(value)


def text(name: str, value: Any) -> str:
    """Text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ParamsError(f"{name} is {value!r}; it must be text that is not empty.")
    return value


def texts(name: str, value: Any) -> tuple[str, ...]:
    """A list of texts; a lone text is refused, since its letters would pass for a list."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ParamsError(f"{name} is {value!r}; it must be a list of names, such as ['head'].")
    return tuple(text(f"an entry of {name}", entry) for entry in value)


def check_keys(what: str, config: Any, legal: Collection[str], needed: Collection[str]) -> None:
    """Raises unless config is a mapping with only legal keys and all the needed ones."""
    if not isinstance(config, Mapping):
        raise ParamsError(f"{what} must be a mapping of settings, got {config!r}.")
    for key in config:
        if key not in legal:
            near = get_close_matches(str(key), legal, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(legal)}."
            raise ParamsError(f"{what} has no setting {key!r}. {hint}")
    for key in needed:
        if key not in config:
            raise ParamsError(f"{what} needs the setting {key!r}.")
