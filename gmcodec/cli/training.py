# SPDX-License-Identifier: MIT
"""The commands ``train`` and ``freeze``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from gmcodec.cli.console import POSITIVE, combined, print_error, print_stderr
from gmcodec.cli.exit import INTERRUPTED
from gmcodec.cli.jobs import log_to, refuse_to_overwrite
from gmcodec.cli.paths import printable
from gmcodec.errors import OutputExistsError, TrainingError


def _need_torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise TrainingError("training needs torch: pip install gmcodec[train]") from error
    return torch


EXISTING, ANY = click.Path(exists=True, path_type=Path), click.Path(path_type=Path)
data_options = combined(
    click.option("--data", type=EXISTING, required=True,
                 help="Training images: a folder, or one file.  Presets for small images read mosaics of them, and in "
                      "a folder only files named train*."),
    click.option("--val", "validation", type=EXISTING, help="Validation images: a folder, or one file."),
    click.option("--val-last", type=POSITIVE, help="Hold out the last N images of --data for validation instead."),
    click.option("-q", "--quiet", is_flag=True, help="No progress bar."),
)  # fmt: skip


def _validation(validation: Path | None, val_last: int | None) -> Path | int:
    """The validation images, as ``training.data.load`` takes them.  Raises UsageError."""
    chosen = validation or val_last
    if chosen is None or (validation and val_last):
        raise click.UsageError("say which images to validate on: either --val or --val-last")
    return chosen


@click.command()
@click.argument("preset")
@data_options
@click.option("--out", type=ANY, required=True, help="Folder of the run: checkpoint and weights.")
@click.option("--resume", is_flag=True, help="Continue from the checkpoint in --out.")
@click.option(
    "--init",
    type=EXISTING,
    multiple=True,
    help="Start from float weights of the same architecture, or for AGAVE from the weights of its parts; repeatable.",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--bf16/--fp32", "bf16", default=None, help="Precision of matrix products  [default: the faster one].")
@click.option("--compile", "compiled", is_flag=True, help="Compile the loss; on a GPU the whole net.")
@click.option("--steps", type=POSITIVE, help="Length of the schedule, instead of the preset's.")
@click.option(
    "--minutes", type=click.FloatRange(0, min_open=True), help="Spread the schedule over this time instead of --steps."
)
@click.option("--batch", type=POSITIVE, help="Patches in a step, instead of the preset's.")
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
        raise click.UsageError("--resume continues from the checkpoint: leave out --init")
    images = _validation(validation, val_last)
    if device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("no CUDA device can be used here; leave out --device")
    if (out / "checkpoint.pt").exists() and not resume:
        raise OutputExistsError(f"{printable(out)} holds a run; --resume continues it, or choose another --out")
    from tqdm import tqdm

    from gmcodec.training.trainers import trainer as make_trainer

    planned = PRESETS[preset]
    changes: dict[str, Any] = {name: n for name, n in (("steps", steps), ("batch", batch)) if n is not None}
    changes |= {"muon_lr": planned.muon_lr * rate, "adam_lr": planned.adam_lr * rate}
    with log_to(lambda text: print_error(f"warning: {text}"), verbose=False):
        trainer = make_trainer(
            replace(planned, **changes), data, images, out, device=device, bf16=bf16,
            compiled=compiled, minutes=minutes, progress=not quiet and sys.stderr.isatty(), init=init,
        )  # fmt: skip
        if compiled and device == "cpu" and trainer.net.mixture is None:
            raise click.UsageError(f"--compile cannot make {preset} faster on a processor")
        if resume:
            trainer.resume()
        finished = trainer.run(report=(lambda text: None) if quiet else tqdm.write)
    if trainer.history:
        click.echo("step {}: training {:.4f}, validation {:.4f} bits per dimension".format(*trainer.history[-1]))
    click.echo(f"float weights: {printable(out / 'float.safetensors')}")
    if not finished:
        print_stderr(f"stopped at step {trainer.step} of {trainer.preset.steps}; --resume continues")
        click.get_current_context().exit(INTERRUPTED)


@click.command()
@click.argument("weights", type=EXISTING, nargs=-1, required=True)
@data_options
@click.option("-o", "--output", type=ANY, required=True, help="Frozen weights, a .safetensors file.")
@click.option(
    "--base",
    help="AGAVE: the model whose weights the decoder shares.  A flow: the model that codes the first images.",
)
@click.option("--label", type=click.IntRange(0), help="The class to freeze the net for, if it depends on classes.")
@click.option("-f", "--force", is_flag=True, help="Overwrite the output.")
def freeze(weights: tuple[Path, ...], data: Path, validation: Path | None, val_last: int | None, output: Path,
           base: str | None, label: int | None, force: bool, quiet: bool) -> None:  # fmt: skip
    """Turn float WEIGHTS into integers and measure what that costs.

    If AGAVE was trained with a fixed decoder, its file lacks the decoder's weights: give their file second.
    """
    images = _validation(validation, val_last)
    refuse_to_overwrite(output, force)
    _need_torch()
    from gmcodec.training.freezing import freeze_file

    with log_to(lambda text: print_error(f"warning: {text}"), verbose=False):
        report = freeze_file(weights, data, images, output, not quiet and sys.stderr.isatty(), base, label)
    click.echo(f"float {report.float_bpsp:.4f}, frozen {report.frozen_bpsp:.4f} bits per dimension "
               f"({report.cost_percent:+.2f}%)")  # fmt: skip
    click.echo(f"{printable(output)}: {report.bytes} bytes, weights {report.weights_id.hex()}")
