# SPDX-License-Identifier: MIT
"""The command ``gmcodec bench``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from gmcodec.cli.console import POSITIVE, print_stderr
from gmcodec.errors import BenchError
from gmcodec.files import naming


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="FOLDER...",
                type=click.Path(exists=True, path_type=Path))  # fmt: skip
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), default=Path("bench-results"),
              show_default=True, help="Folder for results.json, table.md, report.html and plots.")  # fmt: skip
@click.option("--codecs", metavar="A,B", default="",
              help="Codecs by name, where * matches anything; all: the very slow ones too.")  # fmt: skip
@click.option("--quick", is_flag=True, help="Three images of each set, fast codecs only.")
@click.option("--limit", type=POSITIVE, metavar="N", help="The first N images of each set.")
@click.option("--tiles", type=POSITIVE, metavar="SIDE", help="Cut each image into squares of SIDE pixels.")
@click.option("--grey", is_flag=True, help="Convert to grey (Pillow's L) first.")
@click.option("--repeat", type=POSITIVE, default=1, show_default=True, metavar="N", help="Time everything N times.")
@click.option("--threads", type=POSITIVE, metavar="N", help="Threads for codecs that accept a number  [default: all].")
@click.option("--memory/--no-memory", default=True, help="Measure peak memory, in a process for each codec.")
@click.option("--resume", is_flag=True, help="Continue the run in --output.")
@click.option("-f", "--force", is_flag=True, help="Overwrite the run in --output.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no table.")
def bench(paths: tuple[Path, ...], output: Path, codecs: str, threads: int | None, resume: bool, force: bool,
          quiet: bool, **rest: Any) -> None:  # fmt: skip
    """Measure gmcodec and other lossless codecs on the images of each FOLDER (or file).

    A size counts only after the file was decoded and compared. --resume continues an interrupted run.
    """
    if resume and force:
        raise click.UsageError("--resume and --force exclude one another")
    _need_extra()
    from tqdm import tqdm

    from gmcodec.bench import report, run, tables
    from gmcodec.codec import available_threads

    names = tuple(name.strip() for name in codecs.split(",") if name.strip())
    settings = run.Settings(paths, names, threads=threads or available_threads(), **rest)
    with tqdm(unit=" images", delay=1, leave=False, disable=quiet or not sys.stderr.isatty()) as bar:

        def announce(text: str) -> None:
            bar.set_description(text, refresh=False)
            bar.update()

        with naming(output):
            results = run.run(settings, output, resume=resume, force=force, announce=announce)
            report.write(results, output)
    if not quiet:
        click.echo(tables.markdown(results))
    print_stderr(f"written: {output / 'report.html'}")


def _need_extra() -> None:
    """Raise BenchError unless the packages that every run needs are installed."""
    try:
        import imagecodecs  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise BenchError(f"the benchmark needs {error.name}: pip install gmcodec[bench]") from error
