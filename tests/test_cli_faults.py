"""The command line where something is wrong around it: names, terminals, signals, backends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from quantkeras.cli import main
from quantkeras.errors import QuantizationError
from quantkeras.numerics import Format
from quantkeras.numerics.layer import LayerParams, LayerSpec
from quantkeras.onnx import export_onnx
from quantkeras.runtime import Program, ProgramInput, ProgramLayer

COMMAND = [sys.executable, "-m", "quantkeras"]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a program of one layer."""
    fmt = Format(8, False, 0)
    layer = ProgramLayer("y", LayerSpec("identity"), LayerParams(), ("x",), fmt, (2,))
    path = tmp_path_factory.mktemp("program") / "net.qkp"
    Program((ProgramInput("x", (2,), fmt),), (layer,), ("y",), name="größe").save(path)
    return path


def error_of(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What a command that fails says, in its one line."""
    assert main([str(word) for word in words]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    return said.err.removeprefix("quantkeras: error: ").strip()


@pytest.mark.parametrize(
    "command", ["summary", "convert", "quantize", "export", "plot", "sanitize"]
)
@pytest.mark.parametrize("name", ["", ".", "/"])
def test_names_that_name_nothing(command: str, name: str, capsys) -> None:
    found = error_of(capsys, command, "-m", name)
    assert found.startswith("--model takes the name of a file, not")


def test_names_of_the_greatest_length(tmp_path: Path, program: Path, capsys) -> None:
    longest = tmp_path / ("x" * 251 + ".qkp")
    longest.write_bytes(program.read_bytes())
    assert main(["summary", "-m", str(longest)]) == 0
    capsys.readouterr()
    assert "File name too long" in error_of(capsys, "export", "-m", tmp_path / ("x" * 300))
    assert "File name too long" in error_of(
        capsys, "run", "-m", program, "-sa", tmp_path / "x.npz", "-o", tmp_path / f"{'y' * 300}.npz"
    )


def test_tflite_is_not_read(tmp_path: Path, capsys) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(b"\x1c\0\0\0TFL3" + b"\0" * 20)
    for command in ("quantize", "export", "summary", "onnx-quantize"):
        assert "is a TFLite model, which is not read" in error_of(capsys, command, "-m", path)


def test_settings_that_cannot_be(program: Path, capsys) -> None:
    assert "-5 iterations" in error_of(capsys, "quantize", "-m", "a.keras", "--adaround", "-5")
    onnx = program.with_name("net.onnx")
    onnx.write_bytes(b"")
    assert "not 'a/b'" in error_of(capsys, "onnx-quantize", "-m", onnx, "--mode", "a/b")
    assert "not 99" in error_of(capsys, "export", "-m", program, "--opset", 99, "-o", onnx)
    with pytest.raises(QuantizationError, match="opset is 1 to"):
        export_onnx(Program.load(program), opset=0)


# -- the world around it ----------------------------------------------------------------------


def run(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **options.pop("env", {})}  # type: ignore[dict-item]
    return subprocess.run(
        [*COMMAND, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        **options,  # type: ignore[call-overload]
    )


def test_terminals_that_know_ascii_alone(program: Path) -> None:
    result = run("summary", "-m", program, env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
    assert (result.returncode, result.stderr) == (0, "")
    assert "gr??e" in result.stdout


@pytest.mark.slow
def test_a_closed_standard_output(program: Path) -> None:
    words = " ".join([*COMMAND, "summary", "-m", str(program)])
    for redirected in (">&-", "| true"):
        result = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {words} {redirected}"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (result.returncode, result.stderr) == (0, ""), redirected


def test_a_backend_that_is_not_installed(tmp_path: Path) -> None:
    (tmp_path / "net.keras").write_bytes(b"PK")
    environment = {"KERAS_BACKEND": "nope", "TF_CPP_MIN_LOG_LEVEL": "3"}
    result = run("summary", "-m", tmp_path / "net.keras", env=environment)
    assert result.returncode == 2
    assert result.stderr.startswith("quantkeras: error: Keras cannot be imported with its backend")
    assert result.stderr.count("\n") == 1


def test_ctrl_c_while_it_starts(program: Path) -> None:
    for delay in (0.0, 0.1):
        words = ["-X", "importtime", "-m", "quantkeras", "summary", "-m", str(program)]
        with subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True) as child:
            assert child.stderr is not None
            # The first import of the command line is done, and most are to come.
            said = next(line for line in child.stderr if line.endswith(" argparse\n"))
            time.sleep(delay)
            child.send_signal(signal.SIGINT)
            said += child.stderr.read()
        assert "Traceback" not in said
        # By the signal itself where Python was ending already and no longer hears it.
        assert child.returncode in (0, 130, -signal.SIGINT)


def test_negative_iterations() -> None:
    from quantkeras.ptq.adaptive_rounding import round_adaptively

    with pytest.raises(QuantizationError, match="-5 iterations"):
        round_adaptively(None, np.zeros(1), -5)  # type: ignore[arg-type]
