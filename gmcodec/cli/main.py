# SPDX-License-Identifier: MIT
"""The command ``gmcodec`` and its commands on files: compress, decompress, verify, info.

A command parses its arguments, calls one function and reports the result.  paths.py finds the files, jobs.py works on
them.  Exit codes: 0; 2 for a usage error; an error's ``exit_code`` (errors.py); 12 for errors of the operating system;
130 for Ctrl-C; 143 for SIGTERM; 141 for a closed pipe.  Of several files the first failure determines the code.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import click

from gmcodec import __version__
from gmcodec.cli import archive, bench, doctor, jobs, models, paths, training
from gmcodec.cli.console import (
    POSITIVE,
    ProgressBar,
    check_model_name,
    combined,
    effort_option,
    print_error,
    print_stderr,
    report_skipped,
    times_option,
)
from gmcodec.cli.exit import (
    closed_streams,
    errors_as_exit_codes,
    exit_after_signal,
    prepare_streams,
    signals_as_exceptions,
)
from gmcodec.cli.paths import FORMAT_BY_SUFFIX, Inputs, Job, Options

MAX_SHOWN_SKIPPED = 10  # skipped files of one reason that are named without --verbose


class Cli(click.Group):
    """A group of commands in which errors that a user can meet become one line and an exit code."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """As in click; --version and --help print here."""
        with errors_as_exit_codes():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """As in click."""
        with errors_as_exit_codes(), signals_as_exceptions():
            return super().invoke(ctx)


# arguments and options of all commands on files, of those that code pixels, and of those that write files
input_options = combined(
    click.argument("files", nargs=-1, required=True, metavar="FILE..."),
    click.option("-r", "--recursive", is_flag=True, help="Take all files in and below directories."),
    click.option("-q", "--quiet", is_flag=True, help="Show errors and warnings only."),
    click.option("-v", "--verbose", is_flag=True, help="Show all messages and every skipped file."),
)
coding_options = combined(
    click.option("-j", "--jobs", type=POSITIVE, default=1, metavar="N",
                 help="Work on N files at a time, in processes that share the threads."),
    click.option("--threads", type=POSITIVE, metavar="N", help="Threads for each file  [default: all]."),
    click.option("--max-pixels", type=click.IntRange(min=0), metavar="N",
                 help="Refuse images of more pixels; 0 lifts the limit."),
)  # fmt: skip
output_options = combined(
    click.option("-o", "--output", metavar="PATH",
                 help="File, directory (existing, or PATH/), or - for standard output."),
    click.option("-f", "--force", is_flag=True, help="Overwrite outputs; write to a terminal."),
    click.option("--skip-existing", is_flag=True,
                 help="Continue an interrupted run: skip files whose output exists and fits."),
    click.option("--keep/--delete", "keep", default=True,
                 help="Delete each source after its result was read back and compared, if nothing was lost  "
                      "[default: keep]."),
    click.option("--strict", is_flag=True, help="Write no result that would lose anything of its source."),
    times_option,
)  # fmt: skip


@click.group(cls=Cli, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="gmcodec")
def cli() -> None:
    """Lossless image compression with learned models.

    \b
    gmcodec compress photo.png        writes photo.gmc
    gmcodec decompress photo.gmc      writes photo.png: same pixels and metadata
    gmcodec compress - < a > b        standard input to standard output
    gmcodec pack FOLDER -o set.gma    many images into one archive
    """


@cli.command()
@input_options
@coding_options
@output_options
@click.option("--code", type=click.Choice(["auto", "learned", "graphics", "conventional"]), default="auto",
              help="Methods to try [default: auto, all].")  # fmt: skip
@click.option("--model", metavar="NAME", callback=check_model_name, help="Use this model only, see gmcodec models.")
@effort_option
@click.option(
    "--near",
    type=click.IntRange(min=0),
    default=0,
    metavar="K",
    help="Near-lossless: samples may differ by up to K  [default: 0, lossless].",
)
@click.option("--near-alpha", is_flag=True, help="With --near, alpha may differ as well.")
@click.option("--lossy-ok", is_flag=True, help="Allow --delete with --near.")
@click.option("--strip", is_flag=True, help="Drop ICC, EXIF, XMP, text, DPI and gamma.")
@click.option("--first", is_flag=True, help="Take the first of several frames or pages.")
@click.option("--verify", is_flag=True, help="Decode the result and compare.")
@click.option("--keep-suffix", is_flag=True, help="Write a.png.gmc, not a.gmc.")
def compress(files: Sequence[str], output: str | None, recursive: bool, model: str | None, **rest: Any) -> None:
    """Compress images into .gmc files.

    Each report gives the sizes, bits per dimension (bpd) of the file, the model's own estimate, what the
    file has beyond it (header, checksums, metadata, rounding), and the methods used. In directories, files
    are taken by their suffix, and the others are named.
    """
    if model and rest["code"] != "auto":
        raise click.UsageError("--model and --code exclude one another")
    if rest["effort"] != "default" and (model or rest["code"] == "conventional"):
        raise click.UsageError("--effort chooses among models: leave it out with --model or --code conventional")
    if rest["near"] and rest["strict"]:
        raise click.UsageError("--near and --strict exclude one another")
    if rest["near"] and not rest["keep"] and not rest["lossy_ok"]:
        raise click.UsageError("--delete with --near deletes what cannot be had back: --lossy-ok allows it")
    if rest["near_alpha"] and not rest["near"]:
        raise click.UsageError("--near-alpha needs --near")
    options = _options({**rest, "code": model or rest["code"]})
    inputs = paths.collect(files, recursive, paths.reason_not_image)

    def name(source: paths.Source) -> str:
        return paths.gmc_name(source.relative, options.keep_suffix)

    _run(paths.plan("compress", inputs, output, name, options), inputs, rest)


@cli.command()
@input_options
@coding_options
@output_options
@click.option("--format", type=click.Choice(sorted(set(FORMAT_BY_SUFFIX.values()))),
              help="Format of the images [default: from -o, else png, or tiff for CMYK and LAB].")  # fmt: skip
@click.option("--strip", is_flag=True, help="Leave out metadata.")
def decompress(files: Sequence[str], output: str | None, recursive: bool, format: str | None, **rest: Any) -> None:
    """Restore images from .gmc files, with pixels and metadata.

    A format that cannot hold an image exactly is refused. PNG holds all images except CMYK and LAB, TIFF holds all.
    """
    options = replace(_options(rest), format=paths.chosen_format(output, format))
    inputs = paths.collect(files, recursive, paths.reason_not_gmc)

    def name(source: paths.Source) -> str:
        return paths.image_name(source.relative, options.format or paths.default_format_of_file(source))

    _run(paths.plan("decompress", inputs, output, name, options), inputs, rest)


@cli.command()
@input_options
@coding_options
def verify(files: Sequence[str], recursive: bool, **rest: Any) -> None:
    """Decode .gmc files or archives and verify every checksum; print "ok" for each good one."""
    options = _options(rest)
    inputs = paths.collect(files, recursive, paths.reason_not_gmc)
    _run([Job("verify", source, options) for source in inputs.sources], inputs, rest)


@cli.command()
@input_options
@coding_options
@click.option("--json", "as_json", is_flag=True, help="Print a line with a JSON object for each file.")
@click.option("--map", "costs", metavar="PATH",
              help="Decode, and draw what each pixel cost: a PNG file, or directory (existing, or PATH/).")  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Overwrite pictures.")
def info(files: Sequence[str], recursive: bool, as_json: bool, costs: str | None, **rest: Any) -> None:
    """Show the contents of .gmc files without decoding them.

    With --map, files are decoded, and a picture shows what each pixel cost, all its channels together: black is
    nothing, white the most but for one pixel in two hundred. What a code does not know pixel by pixel is spread
    evenly, and said.
    """
    options = replace(_options(rest), json=as_json, times=False)
    if costs is None and (options.threads or options.jobs > 1 or options.max_pixels is not None or options.force):
        raise click.UsageError("--threads, --jobs, --max-pixels and --force are of --map")
    inputs = paths.collect(files, recursive, paths.reason_not_gmc)
    if costs is None:
        planned = [Job("info", source, options) for source in inputs.sources]
    else:
        planned = paths.plan_maps(inputs, costs, options)
    _run(planned, inputs, rest)


def _options(rest: dict[str, Any]) -> Options:
    names = ("code", "effort", "strip", "strict", "first", "threads", "jobs", "max_pixels", "verify", "force",
             "verbose", "keep_suffix", "skip_existing", "times", "near", "near_alpha")  # fmt: skip
    if rest.get("skip_existing") and rest["force"]:
        raise click.UsageError("--skip-existing and --force exclude one another")
    return Options(delete=not rest.get("keep", True), **{name: rest[name] for name in names if name in rest})


def _run(planned: list[Job], inputs: Inputs, rest: dict[str, Any]) -> None:
    """Do the jobs, report each, and exit with the code of the first failure."""
    quiet, is_info = rest["quiet"], bool(planned) and planned[0].action == "info"
    to_stdout = _writes_to_stdout(planned)
    code = skipped = 0
    for error in (*inputs.errors, *inputs.collisions):
        message, exit_code = jobs.failure(error)
        print_error(message)
        code = code or exit_code
    if not quiet:
        report_skipped(inputs, MAX_SHOWN_SKIPPED if not rest["verbose"] else None)
        if not planned and not inputs.errors:
            print_stderr("nothing to do: no suitable files found")
    bar = ProgressBar(len(planned), quiet)
    # closing the outcomes ends the workers if an exception leaves the loop
    with closing(bar), closing(jobs.run(planned, rest.get("jobs", 1), bar)) as outcomes:
        for job, outcome in zip(planned, outcomes, strict=True):
            bar.file_done()
            skipped += outcome.skipped
            name = job.source.name
            for text in outcome.warnings:
                bar.print(f"gmcodec: {name}: warning: {text}", err=True)
            if outcome.error is not None:
                bar.print(f"gmcodec: {name}: {outcome.error}", err=True)
                code = code or outcome.code
            for line in outcome.lines if is_info or not quiet else ():
                bar.print(line if is_info else f"{name}: {line}", err=to_stdout)
    if skipped and not quiet:
        print_stderr(f"skipped, already done: {skipped} file{'s' * (skipped != 1)}")
    if code:
        click.get_current_context().exit(code)


def _writes_to_stdout(planned: list[Job]) -> bool:
    """Whether an image goes to standard output.  Raises UsageError for a terminal, OSError for a closed stream."""
    if not planned or planned[0].action not in ("compress", "decompress") or planned[0].output is not None:
        return False
    if sys.stdout.isatty() and not planned[0].options.force:
        raise click.UsageError("refusing to write an image to a terminal; use -o FILE, or --force")
    if "stdout" in closed_streams:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF), jobs.STDOUT_NAME)
    return True


for command in (
    models.models, training.train, training.freeze, models.sample, archive.pack, archive.unpack, archive.list_members,
    bench.bench, doctor.doctor,
):  # fmt: skip
    cli.add_command(command)


def main() -> None:
    """Entry point."""
    prepare_streams()
    try:
        cli(prog_name="gmcodec")
    except SystemExit as error:
        exit_after_signal(error.code)
        raise
    except OSError:  # click could not write its usage error to standard error
        sys.exit(2)
