"""A report as one HTML file that opens without a network: figures inside, light and dark, any width."""

import html
import re

from experiments import figures
from experiments.document import Chart, Document, Section, Table

_VARIABLES = {
    figures.INK: "--ink",
    figures.MUTED: "--muted",
    figures.GRID: "--grid",
    figures.BLUE: "--first",
    figures.ORANGE: "--second",
    figures.PAPER: "--paper",
}
_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --muted: #5d6672; --grid: #dfe3e8; --first: #1f5a99;
  --second: #b4540a; --paper: #ffffff; --ground: #f5f6f8; --mark: #fff3d6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7eaee; --muted: #a3acb8; --grid: #343a43;
  --first: #7fb5f0; --second: #f2a35e; --paper: #1a1e24; --ground: #101317; --mark: #4a3a12; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 74rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 1rem 0; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 0 0 .5rem; }
nav a, a { color: var(--first); }
nav ul { padding: 0; display: flex; flex-wrap: wrap; gap: .2rem 1rem; list-style: none; }
ul { padding-left: 1.2rem; }
li { margin: .2rem 0; overflow-wrap: anywhere; }
section > figure { background: var(--paper); border: 1px solid var(--grid); border-radius: 8px;
  padding: 1rem; margin: 1rem 0; }
figcaption { color: var(--muted); font-size: .9rem; margin-top: .6rem; max-width: 46rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: left; border-bottom: 1px solid var(--grid); vertical-align: top; }
td.long { min-width: 16rem; overflow-wrap: anywhere; }
th { white-space: nowrap; font-weight: 600; }
td { white-space: nowrap; } td.long { white-space: normal; }
.number { text-align: right; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--paper); }
svg { display: block; width: 100%; max-width: 42rem; height: auto; }
.mark { background: var(--mark); border-radius: 8px; padding: .7rem 1rem; }
@media (max-width: 480px) { main { padding: .6rem; } section > figure { padding: .6rem; }
  th, td { padding: .3rem .4rem; } th:first-child, td:first-child { min-width: 6rem; max-width: 9rem;
  white-space: normal; overflow-wrap: break-word; } }
"""
_LONG = 40
"""Letters from which a cell may break over lines."""


def page(document: Document) -> str:
    """The whole document as one HTML text; it names no other file and no address."""
    mark = f'<p class="mark"><strong>Simulated.</strong> {_text(document.simulated)}</p>'
    links = "".join(
        f'<li><a href="#part-{place}">{_text(section.title)}</a></li>'
        for place, section in enumerate(document.sections)
    )
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_text(document.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>",
            f"<h1>{_text(document.title)}</h1>",
            mark if document.simulated else "",
            _bullets(document.lead),
            f'<nav aria-label="Parts"><ul>{links}</ul></nav>',
            *(_section(place, section) for place, section in enumerate(document.sections)),
            "</main>\n</body>\n</html>\n",
        ]
    )


def inline(svg: str, alt: str) -> str:
    """An SVG as it may stand inside a page: colours by name, no prologue, no address, described in words."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", body)
    body = body.replace("xlink:href", "href")
    body = re.sub(
        r'<g id="[^"]*">', "<g>", body
    )  # several figures have the same ids for what nothing points to
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    head = f'<svg role="img" aria-label="{html.escape(alt, quote=True)}"'
    return re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body)
    ).replace("<svg", head, 1)


def _section(place: int, section: Section) -> str:
    parts = [f'<section id="part-{place}">\n<h2>{_text(section.title)}</h2>', _bullets(section.sentences)]
    parts += [_chart(part) if isinstance(part, Chart) else _table(part) for part in section.parts]
    return "\n".join([*(part for part in parts if part), "</section>"])


def _chart(chart: Chart) -> str:
    return (
        f"<figure>\n<h3>{_text(chart.title)}</h3>\n{inline(chart.svg, chart.alt)}\n"
        f"<figcaption>{_text(chart.caption)}</figcaption>\n</figure>"
    )


def _table(table: Table) -> str:
    shown = table.shown or table
    kinds = ["number" if is_number else "" for is_number in shown.numeric()]
    head = "".join(
        f'<th scope="col" class="{kind}">{_text(column.name)}</th>'
        for column, kind in zip(shown.columns, kinds, strict=True)
    )
    rows = "\n".join(
        f"<tr>{''.join(_cell(text, kind) for text, kind in zip(row, kinds, strict=True))}</tr>"
        for row in shown.texts()
    )
    return (
        f'<figure>\n<h3>{_text(table.title)}</h3>\n<div class="scroll" tabindex="0">\n<table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>\n"
        f"<figcaption>{_text(table.caption)} Whole values: {_text(table.name)}.csv.</figcaption>\n</figure>"
    )


def _cell(text: str, kind: str) -> str:
    kind = "long" if len(text) > _LONG else kind
    return f'<td class="{kind}">{_text(text)}</td>' if kind else f"<td>{_text(text)}</td>"


def _bullets(sentences: tuple[str, ...]) -> str:
    return f"<ul>{''.join(f'<li>{_text(one)}</li>' for one in sentences)}</ul>" if sentences else ""


def _text(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
