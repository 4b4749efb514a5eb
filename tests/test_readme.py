"""The examples of README.md and docs/ do what they say: code and commands, in order, in one folder.

Blocks marked `python` run in one namespace, as typed into one session; in blocks marked `sh` the
lines that begin with `quantkeras` run as commands.
"""

import re
import shlex
import warnings
from pathlib import Path

import pytest

from quantkeras.cli import main

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
WITHOUT_EXAMPLES = {"architecture"}
PAGES = sorted(p for p in (ROOT / "docs").glob("*.md") if p.stem not in WITHOUT_EXAMPLES)
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_page(page: Path) -> tuple[list[str], list[str]]:
    """Languages of the blocks of a page, and the user warnings that they gave."""
    text = page.read_text(encoding="utf-8")
    names: dict = {}
    languages = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        for found in BLOCK.finditer(text):
            languages.append(found[1])
            run_block(page, found[1], found[2], text.count("\n", 0, found.start(2)), names)
    return languages, [str(entry.message) for entry in caught if entry.category is UserWarning]


def run_block(page: Path, language: str, text: str, line: int, names: dict) -> None:
    if language == "sh":
        for command in text.splitlines():
            program, *words = shlex.split(command, comments=True)
            assert program == "quantkeras" and main(words) == 0, command
    else:
        # Blank lines in front, so that a traceback names the line of the page.
        exec(compile("\n" * line + text, str(page), "exec"), names)


@pytest.mark.slow
def test_the_examples_run_without_a_warning(tmp_path, monkeypatch, capsys):
    pytest.importorskip("PIL")
    monkeypatch.chdir(tmp_path)
    languages, messages = run_page(README)
    assert languages.count("python") >= 5 and "sh" in languages
    assert messages == []
    out = capsys.readouterr().out
    assert "classifier" in out and "exact" in out
    assert {path.name for path in tmp_path.iterdir()} == {
        "resnet8_4bit.h5", "resnet8_4bit.qkp", "resnet8.keras", "images.npz", "net.h5", "net.qkp",
        "report.html", "net.dot", "clean.keras", "clean.html", "clean.dot", "net.html", "net.json",
        "resnet8.dot", "net.onnx",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_of_the_other_pages_run(page, tmp_path, monkeypatch):
    pytest.importorskip("PIL")
    monkeypatch.chdir(tmp_path)
    languages, messages = run_page(page)
    assert "python" in languages and messages == []


def test_what_the_readme_points_to_is_there():
    readme = README.read_text(encoding="utf-8")
    for path in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (README.parent / path).is_file(), path
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:`|    )make ([a-z-]+)", readme):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for folder in re.findall(r"^\| `([a-z_/]+)` \|", readme, re.MULTILINE):
        assert (README.parent / folder / "__init__.py").is_file(), folder
