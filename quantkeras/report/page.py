"""A coverage as one HTML page: no script, style, font or picture comes from anywhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from string import Template

from sanitize.log import Log

from .covered_parts import Status
from .layer_coverage import LayerCoverage

STATUSES: tuple[Status, ...] = ("integer", "partly", "float", "removed")
"""Those that a bar shows, from left to right."""

HEADER = (
    "layer",
    "type",
    "status",
    "became",
    "weights",
    "output",
    "accumulator",
    "remark",
    "rules",
)

PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem; padding: 0 1rem;
  color: #1c2430; background: #fff; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.bar { display: flex; height: 1.1rem; min-width: 12rem; border-radius: 3px; overflow: hidden; }
.integer { background: #3b8f5a; } .partly { background: #d2b13c; }
.float { background: #cf6a3f; } .removed { background: #b9c0c9; }
.legend span { display: inline-block; margin-right: 1.2rem; }
.legend i { display: inline-block; width: .8rem; height: .8rem; margin-right: .35rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { text-align: left; padding: .2rem .7rem .2rem 0; border-bottom: 1px solid #e3e6ea;
  vertical-align: top; white-space: nowrap; }
td:last-child, td.long { white-space: normal; }
th[data-column] { cursor: pointer; }
th[data-column]::after { content: " \\2195"; color: #9aa3ad; }
td.status { color: #fff; padding: .2rem .5rem; border-radius: 3px; }
td.input { color: inherit; }
@media (prefers-color-scheme: dark) {
  body { color: #dfe4ea; background: #14181d; } th, td { border-color: #2c333b; }
}
</style>
</head>
<body>
<h1>$title</h1>
<p>$summary</p>
$notes
<div class="bar">$bar</div>
<p class="legend">$legend</p>
<h2>By type of layer</h2>
<table>
$types
</table>
<h2>Layers</h2>
<div class="scroll"><table class="sortable">
$layers
</table></div>
<h2>Rewrites before quantization</h2>
<p>$rewrites</p>
<div class="scroll"><table>
$log
</table></div>
<details><summary>Every single place</summary><div class="scroll"><table class="sortable">
$places
</table></div></details>
<script>
for (const head of document.querySelectorAll("table.sortable th")) {
  head.dataset.column = head.cellIndex;
  head.addEventListener("click", () => {
    const body = head.closest("table").tBodies[0];
    const text = row => row.cells[head.cellIndex].textContent;
    const sign = head.dataset.up === "1" ? -1 : 1;
    head.dataset.up = sign === 1 ? "1" : "0";
    const rows = [...body.rows];
    rows.sort((a, b) => sign * text(a).localeCompare(text(b), undefined, {numeric: true}));
    body.append(...rows);
  });
}
</script>
</body>
</html>
""")


def coverage_page(
    title: str,
    texts: Sequence[str],
    counts: Mapping[Status, int],
    layers: Sequence[LayerCoverage],
    log: Log,
) -> str:
    """The page; names and reasons are escaped. texts: the summary, and what stands below it."""
    return PAGE.substitute(
        title=escape(title),
        summary=escape(texts[0]),
        notes="\n".join(f"<p>{escape(line)}</p>" for line in texts[1:]),
        bar=_bar([counts[status] for status in STATUSES]),
        legend=" ".join(
            f'<span><i class="{status}"></i>{status} {counts[status]}</span>' for status in STATUSES
        ),
        types=_types(layers),
        layers=_layers(layers),
        rewrites=escape(log.summary),
        log=_table(log.HEADER, log.rows()),
        places=_table(log.HEADER, log.rows(every=True)),
    )


def _bar(counts: Sequence[int]) -> str:
    """A bar whose pieces are as long as the numbers of layers of each status."""
    return "".join(
        f'<div class="{status}" style="flex:{count}" title="{status}: {count}"></div>'
        for status, count in zip(STATUSES, counts, strict=True)
        if count
    )


def _types(layers: Sequence[LayerCoverage]) -> str:
    """One bar per type of layer, the commonest type first."""
    found: dict[str, dict[Status, int]] = {}
    for layer in layers:
        if layer.status in STATUSES:
            counts = found.setdefault(layer.type, dict.fromkeys(STATUSES, 0))
            counts[layer.status] += 1
    ordered = sorted(found.items(), key=lambda item: -sum(item[1].values()))
    return "\n".join(
        f"<tr><td>{escape(kind)}</td><td>{sum(counts.values())}</td>"
        f'<td><div class="bar">{_bar(list(counts.values()))}</div></td></tr>'
        for kind, counts in ordered
    )


def _layers(layers: Sequence[LayerCoverage]) -> str:
    rows = []
    for layer in layers:
        name, kind, became, weights, output, accumulator, _ = map(escape, layer.cells())
        rows.append(
            f'<tr><td>{name}</td><td>{kind}</td><td class="status {layer.status}">{layer.status}'
            f"</td><td>{became}</td><td>{weights}</td><td>{output}</td><td>{accumulator}</td>"
            f'<td class="long">{escape(layer.reason)}</td>'
            f"<td>{escape(', '.join(layer.rules))}</td></tr>"
        )
    return f"{_head(HEADER)}<tbody>\n" + "\n".join(rows) + "\n</tbody>"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in cells) for cells in rows]
    return f"{_head(header)}<tbody>\n" + "\n".join(f"<tr>{x}</tr>" for x in lines) + "\n</tbody>"


def _head(header: Sequence[str]) -> str:
    return f"<thead><tr>{''.join(f'<th>{escape(name)}</th>' for name in header)}</tr></thead>\n"
