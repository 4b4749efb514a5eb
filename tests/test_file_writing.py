"""All or nothing: what is on the disk after a save, and after one that fails or is ended."""

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from quantkeras.errors import ModelFileError
from quantkeras.files.writing import replacing, reserve, write_text
from quantkeras.quantization.params import QuantizationParams

PROGRAM = """
import sys, time
from pathlib import Path
from quantkeras.files.writing import replacing
try:
    with replacing(Path(sys.argv[1])) as temporary:
        temporary.write_text("half")
        print("writing", flush=True)
        time.sleep(60)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    file = tmp_path / "net.txt"
    file.write_text("old")
    return file


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_the_old_file_and_nothing_else(place: Path, ending: signal.Signals) -> None:
    words = [sys.executable, "-c", PROGRAM, str(place)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        assert len(names(place.parent)) == 2
        process.send_signal(ending)
    assert process.returncode == (130 if ending is signal.SIGINT else -ending)
    assert (names(place.parent), place.read_text()) == (["net.txt"], "old")


def test_a_handler_of_the_users_stays(place: Path) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with replacing(place) as temporary:
            temporary.write_text("new")
            os.kill(os.getpid(), signal.SIGTERM)
        assert heard == [signal.SIGTERM]
        assert place.read_text() == "new"
    finally:
        signal.signal(signal.SIGTERM, before)
    with replacing(place) as temporary:
        temporary.write_text("newer")
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt, OSError])
def test_a_fault_leaves_the_old_file(place: Path, fault: type[BaseException]) -> None:
    seen = ModelFileError if fault is OSError else fault
    with pytest.raises(seen, match="gone"), replacing(place) as temporary:
        temporary.write_text("half")
        raise fault("gone")
    assert (names(place.parent), place.read_text()) == (["net.txt"], "old")


def test_threads_that_write_one_file(place: Path) -> None:
    texts = [f"{letter * 5000}\n" for letter in "abcd"]
    seen: list[str] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(place.read_text())
            time.sleep(0.0005)

    def write(text: str) -> None:
        for _ in range(10):
            write_text(place, text)

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=[text]) for text in texts]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert set(seen) <= {"old", *texts}
    assert names(place.parent) == ["net.txt"]


def test_permissions_are_kept_and_first_ones_are_the_usual(place: Path) -> None:
    place.chmod(0o640)
    write_text(place, "new")
    assert stat.S_IMODE(place.stat().st_mode) == 0o640
    usual = place.with_name("usual")
    usual.write_text("")
    write_text(place.with_name("first"), "new")
    assert place.with_name("first").stat().st_mode == usual.stat().st_mode


def test_links(place: Path) -> None:
    link, chain = place.with_name("link"), place.with_name("chain")
    link.symlink_to(place)
    chain.symlink_to("link")
    write_text(chain, "new")
    assert (chain.is_symlink(), link.is_symlink(), place.read_text()) == (True, True, "new\n")
    dangling = place.with_name("dangling")
    dangling.symlink_to("first")
    write_text(dangling, "new")
    assert dangling.is_symlink() and place.with_name("first").read_text() == "new\n"
    astray = place.with_name("astray")
    astray.symlink_to("absent/first")
    with pytest.raises(ModelFileError, match=r"No such file .*it is a link to .*absent"):
        write_text(astray, "new")
    loop = place.with_name("loop")
    loop.symlink_to("loop")
    with pytest.raises(ModelFileError, match="loop cannot be written: .*symbolic links"):
        write_text(loop, "new")


def test_places_where_nothing_can_be_written(place: Path) -> None:
    fifo = place.with_name("fifo")
    os.mkfifo(fifo)
    for path, reason in (
        (place.parent, "it is a folder"),
        (fifo, "it is a device or a pipe"),
        (place / "inside", "Not a directory"),
        (place.parent / "absent" / "x", "No such file or directory"),
        (place.with_name("x" * 256), "File name too long"),
    ):
        with pytest.raises(ModelFileError, match=f"cannot be written: {reason}"):
            write_text(path, "new")
    assert names(place.parent) == ["fifo", "net.txt"]


def test_the_longest_name_that_there_is(place: Path) -> None:
    write_text(place.with_name("x" * 255), "new")
    assert place.with_name("x" * 255).read_text() == "new\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_of_somebody_else(place: Path) -> None:
    place.parent.chmod(0o500)
    try:
        with pytest.raises(ModelFileError, match=r"net\.txt cannot be written: Permission denied"):
            write_text(place, "new")
    finally:
        place.parent.chmod(0o700)
    assert place.read_text() == "old"


def test_what_a_writer_puts_beside_the_file_comes_along(place: Path) -> None:
    with replacing(place) as temporary:
        temporary.write_text("new")
        temporary.with_name("net.txt.data").write_text("weights")
    assert names(place.parent) == ["net.txt", "net.txt.data"]


def test_settings_are_written_at_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelFileError, match="No space left"):
        QuantizationParams(weight_bits=4).save(place)
    assert place.read_text() == "old"


def test_room_is_asked_for(place: Path) -> None:
    reserve(place.with_name("small"), 1000)
    assert place.with_name("small").stat().st_size == 0
    with pytest.raises(OSError, match=r"No space left|too large"):
        reserve(place.with_name("large"), 2**62)
