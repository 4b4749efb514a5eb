"""`quantkeras version`: of quantkeras and what it stands on."""

from __future__ import annotations

import argparse
import platform
from importlib import metadata

from .._version import __version__

HELP = "show the versions of quantkeras, Keras and NumPy"
EXAMPLES = "  quantkeras version"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command has no options."""


def execute(args: argparse.Namespace) -> int:
    """Print them; nothing is imported for it."""
    print(f"quantkeras {__version__}")
    for name in ("keras", "tensorflow", "numpy"):
        try:
            print(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            print(f"{name} is not installed")
    print(f"python {platform.python_version()}")
    return 0
