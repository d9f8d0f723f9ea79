# SPDX-License-Identifier: MIT
"""The results of a run as files: results.json, table.md, plots, and report.html, a page without external resources."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import asdict, replace
from html import escape
from pathlib import Path
from typing import Any

from gmcodec.bench import plots, tables
from gmcodec.bench.codecs import OURS
from gmcodec.bench.measure import Row
from gmcodec.bench.run import Results, SetResult
from gmcodec.bench.summary import Figures, Spread, summarise

MAX_LISTED_IMAGES = 200  # the page lists the images of sets up to this size
MAX_SAVED_IMAGES = 1000  # results.json has the rows of sets up to this size; rows.jsonl has all

CSS = """
:root { color-scheme: light dark; --faint: color-mix(in srgb, currentColor 18%, transparent); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 3rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--faint); white-space: nowrap; }
th { vertical-align: bottom; white-space: normal; }
tr > :first-child { text-align: left; font-weight: inherit; white-space: nowrap; }
tr.ours { font-weight: 700; background: var(--faint); }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-size: .9rem; } svg { width: 100%; height: auto; }
.maps { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(18rem, 100%), 1fr)); gap: 1rem; }
.maps img { width: 100%; max-width: 24rem; image-rendering: pixelated; }
dt { font-weight: 600; } dd { margin: 0 0 .4rem 1rem; }
summary { cursor: pointer; margin: 1rem 0; }
"""


def write(results: Results, folder: Path) -> None:
    """Write all files of a run into ``folder``."""
    summaries = [summarise(result) for result in results.sets]
    sections = []
    for result, figures in zip(results.sets, summaries, strict=True):
        drawn = plots.draw(result, figures, folder / slug(result.name))
        sections.append(_section(result, figures, drawn))
    (folder / "results.json").write_text(json.dumps(_as_json(results, summaries), indent=1) + "\n", "utf-8")
    (folder / "table.md").write_text(tables.markdown(results), "utf-8")
    (folder / "report.html").write_text(_page(results, sections), "utf-8")


def slug(name: str) -> str:
    """A set's name in a form that file names can start with."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower() or "set"


def _as_json(results: Results, summaries: list[list[Figures]]) -> dict:
    sets = []
    for result, figures in zip(results.sets, summaries, strict=True):
        kept = result.rows if result.images <= MAX_SAVED_IMAGES else []
        plain = asdict(replace(result, rows=[], maps=[])) | {"rows": [row.as_json() for row in kept]}
        del plain["maps"]
        sets.append({"summary": [asdict(f) for f in figures], **plain})
    return {
        **results.conditions,
        "settings": results.settings,
        "codecs": results.codecs,
        "missing": results.missing,
        "not_measured": results.not_chosen,
        "sets": sets,
    }


def read(folder: Path) -> list[tuple[SetResult, list[Figures]]]:
    """Sets and figures of a finished run, from its results.json; large sets have no rows there."""
    found = []
    for values in json.loads((folder / "results.json").read_text("utf-8"))["sets"]:
        figures = [_figures(each) for each in values["summary"]]
        plain = {name: value for name, value in values.items() if name != "summary"}
        rows = [Row.from_json(row) for row in values["rows"]]
        found.append((SetResult(**plain | {"rows": rows}), figures))
    return found


def _figures(values: dict[str, Any]) -> Figures:
    speeds = {name: values[name] and Spread(**values[name]) for name in ("encode", "decode")}
    return Figures(**values | speeds | {"problems": [tuple(problem) for problem in values["problems"]]})


# -- the page ---------------------------------------------------------------------------------------------------


def _page(results: Results, sections: list[str]) -> str:
    settings = "".join(f"<dt>{escape(n)}</dt><dd>{escape(s)}</dd>" for n, s in results.codecs.items())
    versions = ", ".join(f"{n} {v}" for n, v in results.conditions["versions"].items())
    about = "".join(f"<p>{escape(line)}</p>" for line in tables.about(results))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>gmcodec: benchmark</title>
<style>{CSS}</style>
</head>
<body>
<header><h1>gmcodec beside other lossless codecs</h1>{about}</header>
<main>
{"".join(sections)}
<section><h2>Settings</h2><dl>{settings}</dl><p>Versions: {escape(versions)}. System: {
        escape(results.conditions["machine"]["system"])
    }.</p></section>
</main>
</body>
</html>
"""


def _section(result: SetResult, figures: list[Figures], drawn: dict[str, str]) -> str:
    head = [list(tables.HEADINGS)]
    body = [(f.codec == OURS, tables.cells(f)) for f in figures]
    notes = "".join(f"<li>{escape(note)}</li>" for note in tables.notes(result, figures))
    shown = "".join(
        f'<figure role="img" aria-label="{escape(name)}, {escape(result.name)}">{svg}</figure>'
        for name, svg in drawn.items()
    )
    return f"""<section>
<h2>{escape(tables.title(result))}</h2>
{_table(head[0], body)}
<ul>{notes}</ul>
<div class="plots">{shown}</div>
{_maps(result)}
{_each_image(result, figures)}
</section>
"""


def _table(head: list[str], body: list[tuple[bool, list[str]]]) -> str:
    rows = []
    for ours, (first, *rest) in body:
        kind = ' class="ours"' if ours else ""
        rows.append(f'<tr{kind}><th scope="row">{escape(first)}</th>' + "".join(f"<td>{escape(c)}</td>" for c in rest))
    top = "".join(f'<th scope="col">{escape(h)}</th>' for h in head)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _maps(result: SetResult) -> str:
    """What the pixels of the first images cost."""
    shown = "".join(
        f'<figure><img alt="What the pixels of {escape(drawn.image)} cost" '
        f'src="data:image/png;base64,{base64.b64encode(drawn.png).decode()}">'
        f"<figcaption>{escape(drawn.image)}: {escape(drawn.scale)}</figcaption></figure>"
        for drawn in result.maps
    )
    head = "<h3>What each pixel costs in gmcodec's default code, all channels together</h3>"
    return f'{head}<div class="maps">{shown}</div>' if shown else ""


def _each_image(result: SetResult, figures: list[Figures]) -> str:
    """A table of the bytes of every image, which the page shows on demand."""
    if result.images > MAX_LISTED_IMAGES:
        return f"<p>Bytes of each of the {result.images:,} images: rows.jsonl.</p>"
    codecs = [f.codec for f in figures if not f.archive]
    counts = {f.codec: f.bytes is not None for f in figures}
    by_image: dict[str, dict[str, str]] = {}
    for row in result.rows:
        size = f"{row.bytes:,}" if row.bytes is not None and counts[row.codec] else tables.NO_VALUE
        by_image.setdefault(row.image, {})[row.codec] = size
    body = [(False, [image, *(sizes.get(c, tables.NO_VALUE) for c in codecs)]) for image, sizes in by_image.items()]
    return f"<details><summary>Bytes of each image</summary>{_table(['image', *codecs], body)}</details>"
