"""The demo with few images and one epoch: its table, its files, its verdict, its silence."""

import re
import subprocess
import sys

import numpy as np
import pytest

import quantkeras as qk
from model_zoo import demo
from quantkeras.conversion import LayerResult, VerifyReport

FEW = ["--train-images", "60", "--test-images", "40", "--compared", "8", "--epochs", "1"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The process, run from elsewhere into a pipe, and the folder with its files."""
    folder = tmp_path_factory.mktemp("demo")
    words = [sys.executable, "-m", "model_zoo.demo", *FEW, "--keep", "made/here"]
    root = str(demo.Path(demo.__file__).parents[1])
    environment = {**demo.os.environ, "PYTHONPATH": root}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return done, folder / "made" / "here"


@pytest.mark.slow
def test_it_prints_one_table_and_nothing_else(finished):
    done, _ = finished
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    title, header, rule, *rows = done.stdout.splitlines()
    assert title.startswith("ResNet8") and header.split()[:2] == ["ResNet8", "accuracy"]
    assert set(rule) == {"-"}
    names = ["float", "8/8/8 quantized", "8/8/8 program", "8/4/4 quantized", "8/4/4 retrained"]
    for row, name in zip(rows, [*names, "8/4/4 program"], strict=False):
        assert row.startswith(name) and re.search(r" \d+\.\d%", row), row
    assert rows[0].split()[2] == f"{4 * 78426:,}"
    assert "The integers agree" in done.stdout


@pytest.mark.slow
def test_its_files_are_what_the_table_says(finished):
    done, folder = finished
    for bits, name in (("8/8/8", "resnet8_i8_w8_a8"), ("8/4/4", "resnet8_i8_w4_a4")):
        size = (folder / f"{name}.qkp").stat().st_size
        assert re.search(rf"{bits} program .* {size:,} ", done.stdout)
        program = qk.Program.load(folder / f"{name}.qkp")
        with np.load(folder / "images.npz") as images:
            accuracy = program.evaluate(images["x_test"], images["y_test"])["accuracy"]
        assert re.search(rf"{bits} program +{accuracy:.1%}", done.stdout)
    assert {path.suffix for path in folder.iterdir()} == {".h5", ".qkp", ".keras", ".npz"}


@pytest.mark.slow
def test_a_difference_is_told_and_is_an_error(monkeypatch, capsys):
    wrong = VerifyReport("net", (LayerResult("conv", 10, 3, 1.0, "uint8.3", (1,), None),), 2)

    def run(self):
        return [demo.Row("float", 0.5, 100), demo.Row("8/8/8 program", 0.25, 50, wrong)]

    monkeypatch.setattr(demo.Demo, "run", run)
    assert demo.main(FEW) == 1
    out = capsys.readouterr().out
    assert "do NOT agree" in out and "net: NOT exact" in out
    assert re.search(r"8/8/8 program +25\.0% +50 +10 +3", out)
