"""The examples of README.md do what they say: its code and its commands, in order, in one folder.

Blocks marked `python` run in one namespace, as typed into one session; in blocks marked `sh` the
lines that begin with `quantkeras` run as commands.
"""

import re
import shlex
import warnings
from pathlib import Path

import pytest

from quantkeras.cli import main

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_block(language: str, text: str, line: int, names: dict) -> None:
    if language == "sh":
        for command in text.splitlines():
            program, *words = shlex.split(command, comments=True)
            assert program == "quantkeras" and main(words) == 0, command
    else:
        # Blank lines in front, so that a traceback names the line of README.md.
        exec(compile("\n" * line + text, str(README), "exec"), names)


def test_the_examples_run_without_a_warning(tmp_path, monkeypatch, capsys):
    pytest.importorskip("PIL")
    monkeypatch.chdir(tmp_path)
    readme = README.read_text(encoding="utf-8")
    names: dict = {}
    languages = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        for found in BLOCK.finditer(readme):
            languages.append(found[1])
            run_block(found[1], found[2], readme.count("\n", 0, found.start(2)), names)
    assert languages.count("python") >= 5 and "sh" in languages
    messages = [str(entry.message) for entry in caught if entry.category is UserWarning]
    assert messages == []
    out = capsys.readouterr().out
    assert "classifier" in out and "exact" in out
    assert {path.name for path in tmp_path.iterdir()} == {
        "resnet8_4bit.h5", "resnet8_4bit.qkp", "resnet8.keras", "images.npz", "net.h5", "net.qkp",
        "report.html", "net.dot", "clean.keras", "clean.html", "clean.dot", "net.html", "net.json",
        "resnet8.dot",
    }  # fmt: skip


def test_what_the_readme_points_to_is_there():
    readme = README.read_text(encoding="utf-8")
    for path in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (README.parent / path).is_file(), path
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:`|    )make ([a-z-]+)", readme):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for folder in re.findall(r"^\| `([a-z_/]+)` \|", readme, re.MULTILINE):
        assert (README.parent / folder / "__init__.py").is_file(), folder
