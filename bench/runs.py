# SPDX-License-Identifier: MIT
"""The training runs of an experiment, one after the other.  Interrupted runs are continued, finished ones are kept.

All figures are float bounds in bits per dimension on the last 2,000 training images, which no run learns from.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

from gmcodec.files import write_then_rename
from gmcodec.models.ade.config import AdeConfig
from gmcodec.models.agave.config import AgaveConfig
from gmcodec.training.adversarial import AdversarialTrainer
from gmcodec.training.data import Batch
from gmcodec.training.loop import Trainer
from gmcodec.training.losses import bits_per_dimension
from gmcodec.training.nets import config_kind, preset_from_dict
from gmcodec.training.presets import Preset

from . import HELD_OUT_IMAGES

VALIDATE_EVERY = 200  # steps between two points of a curve


@dataclass
class Run:
    """A training run and its result: bits per dimension at the end and along the way."""

    name: str
    preset: Preset
    start: str | None = None  # the run whose weights it starts from
    result: dict[str, float] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)

    @property
    def has_bound(self) -> bool:
        """Whether its bound means anything, that is, whether its inference net learns from likelihood."""
        return not self.preset.adversary or self.preset.adversary.likelihood


class BoundTrainer(Trainer):
    """A trainer that records the parts of the bound at every validation."""

    curve: list[dict[str, float]]

    def validate(self, whole: bool = True) -> float:
        found = self.average(whole)
        self.curve.append({"step": self.step} | found)
        return found["elbo"]

    def measure(self, batch: Batch) -> tuple[dict[str, float], int]:
        images = batch.images
        if isinstance(self.preset.model, AgaveConfig):
            return bits_per_dimension(self.ema.terms(images), images[0].numel()), len(batch)
        if isinstance(self.preset.model, AdeConfig):
            terms = self.ema.terms(images, **batch.condition)
            parts = {"elbo": terms.bound, **terms.parts}
            return {name: float(bits.mean()) / images[0].numel() for name, bits in parts.items()}, len(batch)
        found, count = super().measure(batch)
        return {"elbo": found["bpsp"]}, count


class AdversarialBoundTrainer(BoundTrainer, AdversarialTrainer):
    """An adversarial trainer that records the parts of the bound."""


def train(run: Run, data: Path, checkpoints: Path) -> None:
    """Train a run, or continue it."""
    folder = checkpoints / run.name
    init = [checkpoints / run.start / "float.safetensors"] if run.start else []
    kind = AdversarialBoundTrainer if run.preset.adversary else BoundTrainer
    trainer = kind(run.preset, data, HELD_OUT_IMAGES, folder, compiled=True, init=init)
    curve = folder / "curve.json"
    trainer.curve = []
    if (folder / "checkpoint.pt").exists():
        trainer.resume()
        trainer.curve = json.loads(curve.read_text("utf-8"))
    else:
        trainer.validate(whole=False)
    try:
        finished = trainer.run(
            validate_every=VALIDATE_EVERY, save_every=60, report=lambda text: click.echo(f"{run.name}: {text}")
        )
    finally:
        folder.mkdir(parents=True, exist_ok=True)
        curve.write_text(json.dumps(trainer.curve), "utf-8")
    if not finished:
        raise click.Abort
    run.curve = trainer.curve if run.has_bound else []
    run.result = {"seconds": trainer.seconds} | (trainer.curve[-1] if run.has_bound else {"step": trainer.step})


def run_all(all_runs: list[Run], data: Path, out: Path, checkpoints: Path, only: str | None) -> dict[str, Run]:
    """Train the missing runs among those that ``only`` names, or among all.  Returns finished runs by name.

    After every run results.json in ``out`` is written.  Raises UsageError if it contains a run with other settings.
    """
    wanted = only.split(",") if only else [run.name for run in all_runs]
    if unknown := set(wanted) - {run.name for run in all_runs}:
        raise click.UsageError(f"unknown runs: {', '.join(sorted(unknown))}")
    out.mkdir(parents=True, exist_ok=True)
    path = out / "results.json"
    saved = json.loads(path.read_text("utf-8")) if path.exists() else {}
    done: dict[str, Run] = {}
    for run in all_runs:
        if run.name in saved:
            if _preset(run, saved[run.name]["preset"]) != run.preset:
                raise click.UsageError(f"{path} holds {run.name} with other settings: choose another --out")
            run.result, run.curve = saved[run.name]["result"], saved[run.name]["curve"]
        elif run.name in wanted:
            train(run, data, checkpoints)
            saved[run.name] = {"preset": asdict(run.preset), "result": run.result, "curve": run.curve}
            with write_then_rename(path) as file:
                file.write(json.dumps(saved, indent=1).encode())
        else:
            continue
        done[run.name] = run
    return done


def _preset(run: Run, saved: dict[str, Any]) -> Preset | None:
    """The preset of a run in results.json, if it is for the same kind of net."""
    try:
        return preset_from_dict({**saved, "kind": config_kind(run.preset.model)})
    except (KeyError, TypeError, ValueError):
        return None
