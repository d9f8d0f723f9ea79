# SPDX-License-Identifier: MIT
"""Copy measured tables and file trees into the README and the pages of docs/.

python -m bench.readme

The lines between ``<!-- table: bench/results/kodak/table.md -->`` and ``<!-- end -->`` become the table in that file;
those between ``<!-- tree: gmcodec -->`` and ``<!-- end -->`` become the list of sources in that folder, each with its
first sentence (tree.py).  ``--check``, which the tests run, changes nothing, and fails if anything differs.
"""

from __future__ import annotations

import re
from pathlib import Path

import click

from bench.tree import tree

ROOT = Path(__file__).parent.parent
MARKED = re.compile(r"(<!-- (table|tree): (\S+) -->\n)(.*?)(<!-- end -->)", re.S)


def pages(root: Path = ROOT) -> list[Path]:
    """The README and the pages of docs/."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def table(path: Path) -> str:
    """The lines of a Markdown file that are part of tables."""
    return "".join(f"{line}\n" for line in path.read_text("utf-8").splitlines() if line.startswith("|"))


def filled(text: str, root: Path = ROOT) -> str:
    """``text`` with every table as in its file, and every tree as in its folder."""

    def fill(found: re.Match[str]) -> str:
        path = root / found[3]
        return found[1] + (table(path) if found[2] == "table" else f"```text\n{tree(path)}```\n") + found[5]

    return MARKED.sub(fill, text)


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; fail if anything would change.")
def main(check: bool) -> None:
    """Fill the README and the pages of docs/ with measured tables and file trees."""
    count, changed = 0, []
    for page in pages():
        before = page.read_text("utf-8")
        after = filled(before)
        count += len(MARKED.findall(after))
        if after != before:
            changed.append(str(page.relative_to(ROOT)))
            if not check:
                page.write_text(after, "utf-8")
    if check and changed:
        raise click.ClickException(f"out of date: {', '.join(changed)}; python -m bench.readme fills them in")
    click.echo(f"{count} tables and trees, " + (f"changed: {', '.join(changed)}" if changed else "all up to date"))


if __name__ == "__main__":
    main()
