"""Writing files so that an old one stays until the new one is whole.

Every file that quantkeras leaves behind goes through :func:`replacing`. What is written lies in a
folder of its own beside its place, so that any number of threads and processes may write the same
file, and is moved there in one step: whoever reads sees the old file or the new one.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from ..errors import ModelFileError

_PREFIX = ".saving-"

_ENDING_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Signals that end a process without a word to Python, unless it listens."""

_unfinished: set[tuple[int, str]] = set()
"""(process, folder) of what is being written: a forked child leaves its parent's alone."""


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A file to write, of the same name in a folder of its own; it becomes `path` at the end.

    If anything fails, `path` is what it was, and nothing is left: also after Ctrl-C, and after
    SIGTERM or SIGHUP in the main thread. A link stays a link: what it points to is replaced. The
    new file has the permissions of the old one; a first one has the usual ones of the process.
    Files that the writer puts beside the yielded one come along, before it.

    Raises ModelFileError, with the reason, where the file cannot be written.
    """
    path = Path(path)
    try:
        target = _real(path)
        old = target.stat() if target.exists() else None
        with _folder_beside(target) as folder:
            yield folder / target.name
            written = sorted(folder.iterdir(), key=lambda file: file.name == target.name)
            for file in written:
                _finish(file, old if file.name == target.name else None)
            for file in written:
                os.replace(file, target.with_name(file.name))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModelFileError(f"{path} cannot be written: {reason}") from error


def write_text(path: Path, text: str) -> None:
    """A text file in UTF-8 with one line end at its end."""
    with replacing(path) as temporary:
        temporary.write_text(text.rstrip("\n") + "\n", encoding="utf-8")


def reserve(path: Path, size: int) -> None:
    """Raises OSError where a new file `path` of `size` bytes finds no room.

    For writers that do not survive a full disk themselves.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    with open(path, "wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, max(1, size))
        except OSError as error:
            # Some file systems cannot tell; the writer will.
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
        finally:
            file.truncate(0)


def _real(path: Path) -> Path:
    """Where the file lies, links followed. Raises OSError where no ordinary file can lie there."""
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if target.is_dir():
        raise OSError(errno.EISDIR, "it is a folder")
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "it is a device or a pipe, not an ordinary file")
    if not target.parent.is_dir():
        reason = errno.ENOTDIR if target.parent.exists() else errno.ENOENT
        link = f" (it is a link to {target})" if path.is_symlink() else ""
        raise OSError(reason, os.strerror(reason) + link)
    return target


@contextmanager
def _folder_beside(target: Path) -> Iterator[Path]:
    """A folder on the same disk as target, removed at the end, whatever the end is."""
    folder = target.with_name(f"{_PREFIX}{secrets.token_hex(8)}")
    entry = os.getpid(), str(folder)
    with _removing_when_ended():
        _unfinished.add(entry)  # first: a signal may come as soon as it is there
        try:
            folder.mkdir(0o700)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            _unfinished.discard(entry)


def _finish(file: Path, old: os.stat_result | None) -> None:
    """Owner and permissions as the old file had them, and the contents on the disk."""
    if old is not None:
        with suppress(OSError):  # to give a file away takes rights that few have
            os.chown(file, old.st_uid, old.st_gid)
        os.chmod(file, stat.S_IMODE(old.st_mode))
    handle = os.open(file, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# -- what else ends a process -----------------------------------------------------------------


@contextmanager
def _removing_when_ended() -> Iterator[None]:
    """Listens to the signals that would end the process, where nobody else does.

    Python lets only the main thread listen.
    """
    heard = []
    if threading.current_thread() is threading.main_thread():
        heard = [s for s in _ENDING_SIGNALS if signal.getsignal(s) is signal.SIG_DFL]
    try:
        for number in heard:
            signal.signal(number, _end)
        yield
    finally:
        for number in heard:
            if signal.getsignal(number) is _end:
                signal.signal(number, signal.SIG_DFL)


def _end(number: int, frame: FrameType | None) -> None:
    """Removes what is unfinished and ends as the signal would have."""
    for process, folder in list(_unfinished):
        if process == os.getpid():
            shutil.rmtree(folder, ignore_errors=True)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
