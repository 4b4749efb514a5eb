"""The HTML page: whole by itself, well formed, and nothing of a name gets into its code."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from reported_models import classifier, quantized

from quantkeras.report import Coverage, LayerCoverage, coverage

VOID = {"meta", "br", "link", "img"}


class Outline(HTMLParser):
    """Checks that tags close in order; collects the texts of cells and all attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)
        if tag == "td":
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        if "td" in self.open:
            self.cells[-1] += data


def outline(page):
    found = Outline()
    found.feed(page)
    found.close()
    assert found.open == []
    return found


@pytest.fixture(scope="module")
def report():
    return coverage(quantized(classifier()))


def test_it_has_all_rows_the_totals_and_the_log(report):
    found = outline(report.to_html())
    for layer in report.layers:
        assert layer.name in found.cells and layer.type in found.cells
    assert "fold into producer" in found.cells
    assert report.summary in report.to_html()
    assert report.log.summary in report.to_html()


def test_it_needs_nothing_from_elsewhere(report):
    page = report.to_html()
    assert not re.search(r"https?:|//[a-z]|@import|url\(", page)
    assert outline(page).attributes.isdisjoint({"src", "href"})


def test_the_bar_is_as_long_as_the_counts(report):
    page = report.to_html()
    assert 'class="integer" style="flex:6"' in page and 'class="partly" style="flex:1"' in page
    assert 'class="float"' not in page.split('class="legend"')[0].split("<body>")[1]


def test_names_are_escaped():
    bad = "<script>alert('$x & \"y\"')</script>"
    layer = LayerCoverage(bad, bad, "float", reason=bad, rules=(bad,))
    page = Coverage(bad, (layer,), notes=(bad,)).to_html()
    assert "<script>alert" not in page
    assert bad in outline(page).cells


def test_a_plan_says_that_it_is_one(report):
    page = replace(report, planned=True).to_html()
    assert "<title>Plan for net</title>" in page and "if quantized, 6 of 7" in page
