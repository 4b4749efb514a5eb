"""plot_graph: the text of the drawing, and what is said where no picture can be made."""

import re
import subprocess
import sys
from types import ModuleType

import pytest
from reported_models import classifier, quantized

from quantkeras.report import plot_graph
from quantkeras.report.plot import COLOURS, PlotError, dot_text
from sanitize import read_keras, sanitize_graph
from sanitize.graph import Graph, Node


@pytest.fixture(scope="module")
def model():
    return quantized(classifier())


def text(model, tmp_path, **options):
    plot_graph(model, tmp_path / "net.dot", **options)
    return (tmp_path / "net.dot").read_text()


def node(drawing, name):
    """The attributes of the node of that name."""
    (line,) = [x for x in drawing.splitlines() if f'[label="{name}\\n' in x]
    return line


def test_nodes_have_name_kind_shape_and_state(model, tmp_path):
    drawing = text(model, tmp_path)
    conv = node(drawing, "conv")
    assert re.search(r'"conv\\nconv2d\+relu  w8\\n8x8x4  uint8\.', conv)
    assert COLOURS["integer"] in conv
    assert COLOURS["integer"] in node(drawing, "flat")
    assert COLOURS["float"] in node(drawing, "head_softmax")
    assert COLOURS["input"] in node(drawing, "image_quantizer")
    assert COLOURS["boundary"] in node(drawing, "head_dequantizer")


def test_edges_join_producers_and_consumers(model, tmp_path):
    graph = read_keras(model)
    drawing = text(model, tmp_path)
    assert drawing.count(" -> ") == sum(len(node.inputs) for node in graph)
    first, second = (node(drawing, name).split()[0] for name in ("image_quantizer", "conv"))
    assert f"{first} -> {second} [" in drawing


def test_a_float_model_is_plain(tmp_path):
    drawing = text(classifier(), tmp_path)
    assert COLOURS["plain"] in node(drawing, "norm")
    assert COLOURS["integer"] not in drawing and COLOURS["float"] not in drawing


def test_before_and_after_stand_beside_each_other(tmp_path):
    before = read_keras(classifier())
    after, _ = sanitize_graph(before)
    drawing = text(after, tmp_path, before=before, titles=("before", "after"))
    left, right = drawing.split("subgraph cluster_1")
    assert 'label="before"' in left and 'label="after"' in right
    assert 'label="norm\\n' in left and 'label="norm\\n' not in right
    names = re.findall(r"^    (\w+) \[label", drawing, re.MULTILINE)
    assert len(names) == len(set(names)) == len(before) + len(after)


def test_names_are_quoted():
    inputs = Node('a"b\\', "input", attrs={"dtype": "float32"}, shape=(2,))
    graph = Graph.build([inputs], [inputs.name], [inputs.name])
    assert r'label="a\"b\\\ninput\n2"' in dot_text([("t", graph)])


def test_the_direction(tmp_path):
    assert "rankdir=LR;" in text(classifier(), tmp_path, direction="LR")
    with pytest.raises(PlotError, match="direction is 'up'; it must be 'TB' or 'LR'"):
        text(classifier(), tmp_path, direction="up")


class Graphviz(ModuleType):
    """Stands for the package: pipe gives what it was asked for, or raises."""

    class ExecutableNotFound(RuntimeError):
        pass

    def __init__(self, fault=None):
        super().__init__("graphviz")
        self.fault = fault

    def pipe(self, engine, suffix, data):
        if self.fault is not None:
            raise self.fault
        return b"%s %s %s" % (engine.encode(), suffix.encode(), data[:7])


def test_pictures_come_from_dot(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "graphviz", Graphviz())
    plot_graph(classifier(), tmp_path / "net.PNG")
    assert (tmp_path / "net.PNG").read_bytes() == b"dot png digraph"


@pytest.mark.parametrize(
    ("package", "pattern"),
    [
        (None, r"needs the Python package graphviz: pip install 'quantkeras\[plots\]'; a \*\.dot"),
        (Graphviz(Graphviz.ExecutableNotFound()), r"needs the program dot of Graphviz"),
        (
            Graphviz(subprocess.CalledProcessError(1, "dot", stderr=b"no plugin\n")),
            r"the program dot made no \*\.svg: no plugin$",
        ),
    ],
    ids=["no package", "no program", "a failure"],
)
def test_what_is_missing_is_named_and_the_old_file_stays(package, pattern, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "graphviz", package)
    (tmp_path / "net.svg").write_text("old")
    with pytest.raises(PlotError, match=pattern):
        plot_graph(classifier(), tmp_path / "net.svg")
    assert (tmp_path / "net.svg").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_other_names_are_refused(tmp_path):
    with pytest.raises(PlotError, match=r"net\.jpg: a drawing is written as \*\.dot, \*\.gv, "):
        plot_graph(classifier(), tmp_path / "net.jpg")
