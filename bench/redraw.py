# SPDX-License-Identifier: MIT
"""Draw the plots of finished benchmarks again, from their results.

python -m bench.redraw bench/results/curve bench/results/kodak

In each FOLDER that ``gmcodec bench`` wrote, existing plots are replaced, also inside report.html.  Nothing is measured,
and tables and results.json do not change.  For sets of more than 1,000 images results.json has no rows, so their plot
of each image does not change either.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from html import escape
from pathlib import Path

import click

from gmcodec.bench import plots, report


def redraw(folder: Path) -> list[Path]:
    """Replace the plots of a folder.  Returns the files that were replaced."""
    replaced = []
    page = (folder / "report.html").read_text("utf-8")
    with tempfile.TemporaryDirectory() as temporary:
        for result, figures in report.read(folder):
            drawn = plots.draw(result, figures, Path(temporary) / report.slug(result.name))
            for name, svg in drawn.items():
                label = re.escape(f'aria-label="{escape(name)}, {escape(result.name)}">')
                page = re.sub(rf"({label}).*?(?=</figure>)", lambda found, svg=svg: found[1] + svg, page, flags=re.S)  # type: ignore[misc]
        for path in sorted(Path(temporary).iterdir()):
            if (folder / path.name).exists():
                shutil.copyfile(path, folder / path.name)
                replaced.append(folder / path.name)
    (folder / "report.html").write_text(page, "utf-8")
    return replaced


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(folders: tuple[Path, ...]) -> None:
    """Draw the plots in FOLDERS again."""
    for folder in folders:
        click.echo("\n".join(map(str, redraw(folder))))


if __name__ == "__main__":
    main()
