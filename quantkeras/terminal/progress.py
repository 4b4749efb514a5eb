"""Progress bars: on a terminal and nowhere else, and without tqdm not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def progress_bar(
    total: int | None, label: str, enabled: bool = True
) -> Iterator[Callable[[int], object]]:
    """A bar that counts to `total` (None: unknown); yields the function that advances it.

    Nothing is shown where standard error is not a terminal.
    """
    if not enabled:
        yield _ignore
        return
    try:
        from tqdm import tqdm
    except ImportError:  # the bar is a comfort: the runtime needs NumPy alone
        yield _ignore
        return
    # disable=None: tqdm itself looks whether it writes to a terminal.
    with tqdm(total=total, desc=label, disable=None, leave=False) as bar:
        yield bar.update


def progress(iterable: Iterable[T], total: int | None = None, title: str = "") -> Iterator[T]:
    """The items of iterable, while a bar titled `title` counts them up to `total` (if known)."""
    with progress_bar(total, title) as advance:
        for item in iterable:
            yield item
            advance(1)


def _ignore(count: int) -> None:
    """Advances no bar."""
