"""The command line: `quantkeras COMMAND ...`; every command is a module of `quantkeras.cli`.

Exit status: 0, 1 if `verify` found a difference, 2 for an error (one line on standard error), 130
after Ctrl-C. Options may be written with hyphens or underscores.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from sanitize.graph import GraphError
from sanitize.match import RewriteError
from sanitize.onnx_errors import OnnxError

from .._version import __version__
from ..errors import QuantizationError
from . import (
    convert_command as convert,
)
from . import (
    export_command as export,
)
from . import (
    onnx_quantize_command as onnx_quantize,
)
from . import (
    plot_command as plot,
)
from . import (
    quantize_command as quantize,
)
from . import (
    report_command as report,
)
from . import (
    run_command as run,
)
from . import (
    sanitize_command as sanitize,
)
from . import (
    summary_command as summary,
)
from . import (
    verify_command as verify,
)
from . import (
    version_command as version,
)

COMMANDS = {
    "quantize": quantize,
    "convert": convert,
    "run": run,
    "summary": summary,
    "verify": verify,
    "sanitize": sanitize,
    "report": report,
    "plot": plot,
    "export": export,
    "onnx-quantize": onnx_quantize,
    "version": version,
}
"""Name -> module with HELP, EXAMPLES, add_arguments(parser) and execute(args) -> exit status."""

EXAMPLES = """\
examples:
  quantkeras quantize -m net.h5 -sa samples.npz -o net_8bit.h5
  quantkeras convert -m net_8bit.h5 -o net.qkp
  quantkeras verify -m net_8bit.h5 -p net.qkp
  quantkeras run -m net.qkp -sa test.npz"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; argv: the words behind the program's name. Returns the exit status."""
    # Before anything imports TensorFlow; who wants its messages sets the variable.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _prepare_streams()
    words = [_with_underscores(word) for word in (sys.argv[1:] if argv is None else argv)]
    try:
        args = make_parser().parse_args(words)
        _check_names(args)
        with _warnings_in_one_line():
            status: int = args.execute(args)
            sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Whoever read the output has gone (`quantkeras summary ... | head`): no fault of ours, but
        # Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return _failed(what)
    except (QuantizationError, GraphError, RewriteError, OnnxError) as error:
        return _failed(str(error))
    except KeyboardInterrupt:
        print("quantkeras: interrupted", file=sys.stderr)
        return 130


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(
        prog="quantkeras",
        description="Trained networks to integers: quantize, convert, verify and run them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"quantkeras {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=f"{module.HELP[0].upper()}{module.HELP[1:]}.",
            epilog=f"examples:\n{module.EXAMPLES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(execute=module.execute)
    return parser


_UNICODE = ("utf-8", "utf8", "utf-16", "utf-32")


class UsageError(QuantizationError):
    """Words on the command line that make no command."""


class _Parser(argparse.ArgumentParser):
    """Reports a mistake in one line; argparse would print the usage as well."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def _prepare_streams() -> None:
    """Streams that take any text, also where there is none (`>&-`) or it knows ASCII alone."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            # A file that is opened later would take its number, and get what libraries print.
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() not in _UNICODE:
            stream.reconfigure(errors="replace")


def _check_names(args: argparse.Namespace) -> None:
    """Every path that was given has a name: '' and '.' have none."""
    for option, value in vars(args).items():
        if isinstance(value, Path) and not value.name:
            raise UsageError(f"--{option} takes the name of a file, not {str(value)!r}")


def _with_underscores(word: str) -> str:
    """An option --like-this as --like_this; other words, and values behind `=`, as they are."""
    if not word.startswith("--"):
        return word
    name, equals, value = word[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"


def _failed(message: str) -> int:
    print(f"quantkeras: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Warnings for users without the source line that gave them; those for developers not."""

    def show(message: Warning | str, *args: Any, **kwargs: Any) -> None:
        print(f"quantkeras: warning: {' '.join(str(message).split())}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = show
        yield
