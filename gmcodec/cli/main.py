# SPDX-License-Identifier: MIT
"""The command ``gmcodec``.  A command parses, calls one function and reports; files are the business
of ``cli_files`` and ``cli_work``.

Exit codes: 0, 2 for a usage error, an error's ``exit_code`` (errors.py), 12 for what the operating system
refuses, 130 for Ctrl-C, 143 for SIGTERM, 141 for a closed pipe.  Of several files the first failure's.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from gmcodec import __version__
from gmcodec.cli import archive as cli_archive
from gmcodec.cli import bench as cli_bench
from gmcodec.cli import doctor, paths
from gmcodec.cli import jobs as cli_work
from gmcodec.cli.console import (
    NUMBER,
    ProgressBar,
    effort_option,
    known_model,
    report_skipped,
    say_error,
    tell,
    times_option,
    together,
)
from gmcodec.cli.exit import INTERRUPTED, heeding_signals, leave, missing, prepare_streams, reported
from gmcodec.cli.jobs import failure, log_to
from gmcodec.cli.paths import FORMATS, Found, Job, Options
from gmcodec.errors import OutputExistsError, TrainingError, WeightsError

SHOW_SKIPPED = 10  # of one kind; others are counted

# -- errors -----------------------------------------------------------------------------------------------


class Cli(click.Group):
    """Errors that a user can meet become one line and an exit code."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with reported():  # --version and --help print here
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with reported(), heeding_signals():
            return super().invoke(ctx)


# -- the four commands on files ------------------------------------------------------------------------------


# inputs and options of all commands on files; of those that code pixels; of those that write files
common = together(
    click.argument("files", nargs=-1, required=True, metavar="FILE..."),
    click.option("-r", "--recursive", is_flag=True, help="Take all files below directories."),
    click.option("-q", "--quiet", is_flag=True, help="Show errors and warnings only."),
    click.option("-v", "--verbose", is_flag=True, help="Show all messages and every skipped file."),
)
working = together(
    click.option("-j", "--jobs", type=NUMBER, default=1, metavar="N",
                 help="Files worked on at a time, in processes that share the threads."),
    click.option("--threads", type=NUMBER, metavar="N", help="Threads for a file  [default: all]."),
    click.option("--max-pixels", type=click.IntRange(min=0), metavar="N",
                 help="Refuse images of more pixels; 0 lifts the limit."),
)  # fmt: skip
writing = together(
    click.option("-o", "--output", metavar="PATH",
                 help="File, directory (existing, or PATH/), or - for standard output."),
    click.option("-f", "--force", is_flag=True, help="Overwrite outputs; write to a terminal."),
    click.option("--skip-existing", is_flag=True,
                 help="Go on with a run that was cut off: skip files whose output is there and fits."),
    click.option("--keep/--delete", "keep", default=True,
                 help="Delete each source once its result was read back and compared, and holds all of it  "
                      "[default: keep]."),
    click.option("--strict", is_flag=True, help="Write nothing where something of a source would not be kept."),
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
@common
@working
@writing
@click.option("--code", type=click.Choice(["auto", "learned", "conventional"]), default="auto",
              help="Kind of code [default: auto, the smallest].")  # fmt: skip
@click.option("--model", metavar="NAME", callback=known_model, help="Code with this model only, see gmcodec models.")
@effort_option
@click.option("--strip", is_flag=True, help="Drop ICC, EXIF, XMP, text, DPI and gamma.")
@click.option("--first", is_flag=True, help="Of several frames or pages take the first.")
@click.option("--verify", is_flag=True, help="Decode what was written and compare.")
@click.option("--keep-suffix", is_flag=True, help="Write a.png.gmc, not a.gmc.")
def compress(files: Sequence[str], output: str | None, recursive: bool, model: str | None, **rest: Any) -> None:
    """Compress images into .gmc files.

    Each report gives the sizes, bits per dimension (bpd) of the file, the model's own estimate, what the
    file has beyond it (header, checksums, metadata, rounding), and the codes used. In directories, files
    are taken by their suffix and the others are reported.
    """
    if model and rest["code"] != "auto":
        raise click.UsageError("--model and --code exclude one another")
    if rest["effort"] != "default" and (model or rest["code"] == "conventional"):
        raise click.UsageError("--effort says which models are tried: with --model or --code conventional none are")
    options = _options({**rest, "code": model or rest["code"]})
    found = paths.collect(files, recursive, paths.reason_not_image)

    def name(source: paths.Source) -> str:
        return paths.gmc_name(source.relative, options.keep_suffix)

    jobs = paths.plan("compress", found, output, name, options)
    _run(jobs, found, rest)


@cli.command()
@common
@working
@writing
@click.option("--format", type=click.Choice(sorted(set(FORMATS.values()))),
              help="Format of the images [default: from -o, else png, or tiff for CMYK and LAB].")  # fmt: skip
@click.option("--strip", is_flag=True, help="Leave out metadata.")
def decompress(files: Sequence[str], output: str | None, recursive: bool, format: str | None, **rest: Any) -> None:
    """Restore images from .gmc files, pixels and metadata.

    A format that cannot hold an image exactly is refused; PNG holds all but CMYK and LAB, TIFF all.
    """
    options = replace(_options(rest), format=paths.format_of(output, format))
    found = paths.collect(files, recursive, paths.reason_not_gmc)

    def name(source: paths.Source) -> str:
        return paths.image_name(source.relative, options.format or paths.format_of_source(source))

    jobs = paths.plan("decompress", found, output, name, options)
    _run(jobs, found, rest)


@cli.command()
@common
@working
def verify(files: Sequence[str], recursive: bool, **rest: Any) -> None:
    """Decode .gmc files, or archives, and check every checksum; "ok" for each good one."""
    options = _options(rest)
    found = paths.collect(files, recursive, paths.reason_not_gmc)
    _run([Job("verify", source, options) for source in found.sources], found, rest)


@cli.command()
@common
@working
@click.option("--json", "as_json", is_flag=True, help="One JSON object a file, one file a line.")
@click.option("--map", "costs", metavar="PATH",
              help="Decode, and draw what each pixel cost: a PNG file, or directory (existing, or PATH/).")  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Overwrite pictures.")
def info(files: Sequence[str], recursive: bool, as_json: bool, costs: str | None, **rest: Any) -> None:
    """Say what .gmc files hold, without decoding them.

    With --map, files are decoded, and a picture shows what each pixel cost, all its channels together: black is
    nothing, white the most but for one pixel in two hundred. What a code does not know pixel by pixel is spread
    evenly, and said.
    """
    options = replace(_options(rest), json=as_json, times=False)
    if costs is None and (options.threads or options.jobs > 1 or options.max_pixels is not None or options.force):
        raise click.UsageError("--threads, --jobs, --max-pixels and --force are of --map")
    found = paths.collect(files, recursive, paths.reason_not_gmc)
    if costs is None:
        jobs = [Job("info", source, options) for source in found.sources]
    else:
        jobs = paths.plan_maps(found, costs, options)
    _run(jobs, found, rest)


def _options(rest: dict[str, Any]) -> Options:
    names = ("code", "effort", "strip", "strict", "first", "threads", "jobs", "max_pixels", "verify", "force",
             "verbose", "keep_suffix", "skip_existing", "times")  # fmt: skip
    if rest.get("skip_existing") and rest["force"]:
        raise click.UsageError("--skip-existing and --force exclude one another")
    return Options(delete=not rest.get("keep", True), **{name: rest[name] for name in names if name in rest})


def _run(jobs: list[Job], found: Found, rest: dict[str, Any]) -> None:
    """Do the jobs, report each, exit with the code of the first failure."""
    quiet, whole = rest["quiet"], bool(jobs) and jobs[0].action == "info"
    writes = bool(jobs) and jobs[0].action in ("compress", "decompress") and jobs[0].output is None
    if writes and sys.stdout.isatty() and not jobs[0].options.force:
        raise click.UsageError("refusing to write an image to a terminal; use -o FILE, or --force")
    if writes and "stdout" in missing:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF), cli_work.OUTPUT)
    code = skipped = 0
    for error in (*found.errors, *found.collisions):
        message, first = failure(error)
        say_error(message)
        code = code or first
    if not quiet:
        report_skipped(found, SHOW_SKIPPED if not rest["verbose"] else None)
        if not jobs and not found.errors:
            tell("nothing to do: no suitable files found")
    bar = ProgressBar(len(jobs), quiet)
    # closing the outcomes ends the workers when an exception leaves the loop
    with closing(bar), closing(cli_work.run(jobs, rest.get("jobs", 1), bar)) as outcomes:
        for job, outcome in zip(jobs, outcomes, strict=True):
            bar.file_done()
            skipped += outcome.skipped
            name = job.source.name
            for text in outcome.warnings:
                bar.say(f"gmcodec: {name}: warning: {text}", err=True)
            if outcome.error is not None:
                bar.say(f"gmcodec: {name}: {outcome.error}", err=True)
                code = code or outcome.code
            for line in outcome.lines if whole or not quiet else ():
                bar.say(line if whole else f"{name}: {line}", err=writes)
    if skipped and not quiet:
        tell(f"skipped, already done: {skipped} file{'s' * (skipped != 1)}")
    if code:
        click.get_current_context().exit(code)


# -- models, train, freeze -----------------------------------------------------------------------------------


@cli.command()
def models() -> None:
    """List the learned models and whether their weights are installed."""
    from gmcodec.models import registry

    click.echo(f"weights in {paths.shown(registry.folder())}")
    row = "{:17} {:>8} {:>4}  {:8} {:>9} {:>10}".format
    click.echo(row("name", "channels", "form", "weights", "bytes", "parameters"))
    for entry in registry.ENTRIES:
        try:
            loaded = registry.load(entry.method)
            count = sum(layer.weight.size + layer.bias.size for layer in loaded.model.layers.values())
            size = sum(path.stat().st_size for path in registry.paths(entry))
            values: tuple = loaded.weights_id.hex(), size, count
        except WeightsError as error:
            values = "-", "-", f"- not installed: {cli_work.one_line(error)}"
        click.echo(row(entry.name, entry.channels, entry.method, *values))


def _need_torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise TrainingError("training needs torch: pip install gmcodec[train]") from error
    return torch


EXISTING, ANY = click.Path(exists=True, path_type=Path), click.Path(path_type=Path)
LEARNT_FROM = (
    "Images to learn from: a folder, or one file.  Presets for small images read mosaics of them, "
    "and of a folder only files named train*."
)
MEASURED = "Images to measure on: a folder, or one file."
learning = together(
    click.option("--data", type=EXISTING, required=True, help=LEARNT_FROM),
    click.option("--val", "validation", type=EXISTING, help=MEASURED),
    click.option("--val-last", type=NUMBER, help="Hold out the last N images of --data instead, and measure on them."),
    click.option("-q", "--quiet", is_flag=True, help="No progress bar."),
)


def _measured_on(validation: Path | None, val_last: int | None) -> Path | int:
    measured = validation or val_last
    if measured is None or (validation and val_last):
        raise click.UsageError("say what to measure on: either --val or --val-last")
    return measured


@cli.command()
@click.argument("preset")
@learning
@click.option("--out", type=ANY, required=True, help="Folder of the run: checkpoint and weights.")
@click.option("--resume", is_flag=True, help="Continue from the checkpoint in --out.")
@click.option(
    "--init",
    type=EXISTING,
    multiple=True,
    help="Start from float weights of the same architecture; of AGAVE also from its parts, one after the other.",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--bf16/--fp32", "bf16", default=None, help="Precision of matrix products  [default: the faster one].")
@click.option("--compile", "compiled", is_flag=True, help="Compile the loss; on a GPU the whole net.")
@click.option("--steps", type=NUMBER, help="Length of the schedule, instead of the preset's.")
@click.option(
    "--minutes", type=click.FloatRange(0, min_open=True), help="Pass through the schedule in so many minutes."
)
@click.option("--batch", type=NUMBER, help="Patches a step, instead of the preset's.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), default=1.0, help="Factor of learning rates.")
def train(preset: str, data: Path, validation: Path | None, val_last: int | None, out: Path, resume: bool,
          init: tuple[Path, ...], device: str, bf16: bool | None, compiled: bool, steps: int | None,
          minutes: float | None, batch: int | None, rate: float, quiet: bool) -> None:  # fmt: skip
    """Train the model of PRESET; Ctrl-C stops after the step, --resume continues."""
    torch = _need_torch()
    from gmcodec.training.presets import PRESETS

    if preset not in PRESETS:
        raise click.UsageError(f"unknown preset {preset!r}; choose from {', '.join(PRESETS)}")
    if steps and minutes:
        raise click.UsageError("either --steps or --minutes")
    if init and resume:
        raise click.UsageError("--resume goes on from the checkpoint: leave out --init")
    measured = _measured_on(validation, val_last)
    if device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("no CUDA device can be used here; leave out --device")
    if (out / "checkpoint.pt").exists() and not resume:
        raise OutputExistsError(f"{paths.shown(out)} holds a run; --resume continues it, or choose another --out")
    from tqdm import tqdm

    from gmcodec.training.trainers import trainer as make_trainer

    planned = PRESETS[preset]
    given: dict[str, Any] = {name: n for name, n in (("steps", steps), ("batch", batch)) if n is not None}
    given |= {"muon_lr": planned.muon_lr * rate, "adam_lr": planned.adam_lr * rate}
    with log_to(lambda text: say_error(f"warning: {text}"), verbose=False):
        trainer = make_trainer(
            replace(planned, **given), data, measured, out, device=device, bf16=bf16,
            compiled=compiled, minutes=minutes, progress=not quiet and sys.stderr.isatty(), init=init,
        )  # fmt: skip
        if compiled and device == "cpu" and trainer.net.mixture is None:
            raise click.UsageError(f"there is nothing of {preset} that --compile makes faster on a processor")
        if resume:
            trainer.resume()
        finished = trainer.run(report=(lambda text: None) if quiet else tqdm.write)
    if trainer.history:
        click.echo("step {}: training {:.4f}, validation {:.4f} bits per dimension".format(*trainer.history[-1]))
    click.echo(f"float weights: {paths.shown(out / 'float.safetensors')}")
    if not finished:
        tell(f"stopped at step {trainer.step} of {trainer.preset.steps}; --resume continues")
        click.get_current_context().exit(INTERRUPTED)


@cli.command()
@click.argument("weights", type=EXISTING, nargs=-1, required=True)
@learning
@click.option("-o", "--output", type=ANY, required=True, help="Frozen weights, a .safetensors file.")
@click.option(
    "--base",
    help="The model whose weights AGAVE's decoder shares, or the one that codes the first images beside a flow.",
)
@click.option("--label", type=click.IntRange(0), help="The class, where the net depends on classes.")
@click.option("-f", "--force", is_flag=True, help="Overwrite the output.")
def freeze(weights: tuple[Path, ...], data: Path, validation: Path | None, val_last: int | None, output: Path,
           base: str | None, label: int | None, force: bool, quiet: bool) -> None:  # fmt: skip
    """Turn float WEIGHTS into integers and measure what that costs.

    AGAVE trained with a decoder that stays as it is does not keep it: its weights are given second.
    """
    measured = _measured_on(validation, val_last)
    cli_work.refuse_to_overwrite(output, force)
    _need_torch()
    from gmcodec.training.freezing import freeze_file

    with log_to(lambda text: say_error(f"warning: {text}"), verbose=False):
        report = freeze_file(weights, data, measured, output, not quiet and sys.stderr.isatty(), base, label)
    click.echo(f"float {report.float_bpsp:.4f}, frozen {report.frozen_bpsp:.4f} bits per dimension "
               f"({report.cost_percent:+.2f}%)")  # fmt: skip
    click.echo(f"{paths.shown(output)}: {report.bytes} bytes, weights {report.weights_id.hex()}")


@cli.command()
@click.argument("model")
@click.option("-o", "--output", type=ANY, required=True, help="The picture, a PNG file.")
@click.option("--rows", type=NUMBER, default=8, show_default=True)
@click.option("--columns", type=NUMBER, default=8, show_default=True, help="Images a row.")
@click.option("--size", type=NUMBER, default=32, show_default=True, help="Side of an image, pixels.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--from", "source", type=EXISTING, help="A mosaic: reconstruct its first images, one a row.")
@click.option("-f", "--force", is_flag=True, help="Overwrite the output.")
def sample(model: str, output: Path, rows: int, columns: int, size: int, seed: int, source: Path | None,
           force: bool) -> None:  # fmt: skip
    """Draw pictures with MODEL, which has seen random bits only.

    Of a model with latents, a row shows what one drawing of the latents says, and images that have it in common; with
    --from, before them the image that the latents stand for.
    """
    cli_work.refuse_to_overwrite(output, force)
    from PIL import Image

    from gmcodec.files import replacing
    from gmcodec.sampling import draw

    try:
        page = draw(model, rows, columns, size, seed, source)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with replacing(output, append=False, force=force) as file:
        Image.fromarray(page.squeeze()).save(file, "PNG")
    click.echo(f"{paths.shown(output)}: {rows} x {columns} images of {size}x{size} from {model}")


for command in (cli_archive.pack, cli_archive.unpack, cli_archive.list_members, cli_bench.bench, doctor.doctor):
    cli.add_command(command)


def main() -> None:
    """Entry point."""
    prepare_streams()
    try:
        cli(prog_name="gmcodec")
    except SystemExit as leaving:
        leave(leaving.code)
        raise
    except OSError:  # standard error does not even take what is wrong with the command
        sys.exit(2)
