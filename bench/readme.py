# SPDX-License-Identifier: MIT
"""Copy measured tables into the README.

python -m bench.readme

The lines between ``<!-- table: bench/results/kodak/table.md -->`` and ``<!-- end -->`` are replaced by the table in
that file.  ``--check``, which the tests run, fails if they differ.
"""

from __future__ import annotations

import re
from pathlib import Path

import click

ROOT = Path(__file__).parent.parent
TABLE = re.compile(r"(<!-- table: (\S+) -->\n)(.*?)(<!-- end -->)", re.S)


def table(path: Path) -> str:
    """The lines of a Markdown file that are part of tables."""
    return "".join(f"{line}\n" for line in path.read_text("utf-8").splitlines() if line.startswith("|"))


def filled(text: str, root: Path = ROOT) -> str:
    """``text`` with every table as in its file."""
    return TABLE.sub(lambda found: found[1] + table(root / found[2]) + found[4], text)


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; fail if anything would change.")
def main(check: bool) -> None:
    """Copy measured tables into the README."""
    readme = ROOT / "README.md"
    before = readme.read_text("utf-8")
    after = filled(before)
    if check and after != before:
        raise click.ClickException("a table of the README is not the measured one: python -m bench.readme")
    if not check:
        readme.write_text(after, "utf-8")
    click.echo(f"{len(TABLE.findall(after))} tables, {'as measured' if after == before else 'README.md changed'}")


if __name__ == "__main__":
    main()
