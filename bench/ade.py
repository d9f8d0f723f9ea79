# SPDX-License-Identifier: MIT
"""Experiments on adaptive density estimation (thesis, chapter 5), with nets that two cores train in minutes.

python -m bench.ade CIFAR -o bench/results/ade [--steps 1000]

==============  ====================================================================================================
run             shows
==============  ====================================================================================================
vae             a Gaussian decoder of pixels, no flow: the baseline of Table 5.1, with as many weights as v-ade
v-ade           that VAE in the feature space of a flow of one scale, three checkerboards
v-ade-s2, -s3   two and three scales: Table 5.12 (b)
colours         two scales, couplings by position and colour
mixtures        features as mixtures of three Gaussians
noise           variational dequantisation
av-gde, av-ade  vae and v-ade, trained further with L_Q too: Table 5.1
gan             a vae trained with L_Q only: a GAN whose latents are drawn from the top down.  It has no bound
gan-inference   an inference net and a deviation, trained around the fixed generator of gan: Table 5.1
*-classes       v-ade, av-ade and gan for each class, with conditional weight normalisation: Table 5.6
av-ade-mbgan    av-ade with the discriminator of chapter 4, which sees mixed batches
==============  ====================================================================================================

A GAN is measured as in the thesis, by a run of its own: "we train an inference network 'around it', while keeping
the weights of the GAN generator fixed.  We also train an isotropic noise parameter" (section 5.5.1).  Two things
differ.  Each of the 12 features of a cell has a deviation, as in all other runs, while the thesis has one for all.
The generator is the vae of the first run, whose latents are drawn from the top down, while the thesis' GAN is the
non-residual net of SNGAN, for which it found such sampling "not effective" (section 5.5.2, footnote 1).  The samples of
a GAN are its means, which ``bench.draw --deviation 0`` draws.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from gmcodec.training.nets import build
from gmcodec.training.presets import CHECKERBOARD, PRESETS, SMALL_ADVERSARY, Adversary, Preset, flow_images

from .runs import Run, run_all

VAE_FEATURES = (32, 48, 64)
WIDER_VAE_FEATURES = (35, 52, 69)  # of the baseline without a flow, so that it has as many weights
LATENT_CHANNELS = 16
CLASSES = 10


def runs(steps: int) -> list[Run]:
    """All runs, in the order in which they must be trained, with the same number of steps."""
    base = replace(PRESETS["v-ade"], batch=16, steps=steps, decay_from=0.5, quantise_from=1.0, ema=0.99)

    def preset(scales: int, vae: tuple[int, ...] = VAE_FEATURES, **changes: object) -> Preset:
        values = {"mixtures": 1, "order": CHECKERBOARD, "last": ()} | changes
        return replace(base, model=flow_images(scales, 32, 2, vae, (1, 1, 1), LATENT_CHANNELS, **values))  # type: ignore[arg-type]

    colours = PRESETS["v-ade"].model.scales  # type: ignore[union-attr]
    order, last = colours[0], colours[1][len(colours[0]) :]
    plain, flow = preset(0, WIDER_VAE_FEATURES), preset(1)
    adversary = SMALL_ADVERSARY
    gan = with_adversary(plain, replace(adversary, likelihood=False, deviation=0.0))
    mixed = replace(adversary, discriminator=replace(adversary.discriminator, batch="mean"), loss="m-bgan")
    return [
        Run("vae", plain),
        Run("v-ade", flow),
        Run("v-ade-s2", preset(2)),
        Run("v-ade-s3", preset(3)),
        Run("colours", preset(2, order=order, last=last)),
        Run("mixtures", preset(2, order=order, last=last, mixtures=3)),
        Run("noise", preset(2, order=order, last=last, mixtures=3, noise=32)),
        Run("av-gde", with_adversary(plain, adversary), "vae"),
        Run("av-ade", with_adversary(flow, adversary), "v-ade"),
        Run("gan", gan),
        Run("gan-inference", generator_fixed(plain), "gan"),
        Run("v-ade-classes", of_classes(flow)),
        Run("av-ade-classes", of_classes(with_adversary(flow, adversary)), "v-ade-classes"),
        Run("gan-classes", of_classes(gan)),
        Run("gan-classes-inference", of_classes(generator_fixed(plain)), "gan-classes"),
        Run("av-ade-mbgan", with_adversary(flow, mixed), "v-ade"),
    ]


def with_adversary(preset: Preset, adversary: Adversary) -> Preset:
    """The preset with an adversary, and with learning rates at which both nets learn."""
    rates = PRESETS["av-ade"]
    return replace(preset, adversary=adversary, muon_lr=rates.muon_lr, adam_lr=rates.adam_lr)


def generator_fixed(preset: Preset) -> Preset:
    """The preset, for training of the inference net and the deviation only, by likelihood."""
    return replace(preset, generator_fixed=True)


def of_classes(preset: Preset) -> Preset:
    """The preset for images of known classes."""
    adversary = preset.adversary and preset.adversary.of_classes(CLASSES)
    return replace(preset, model=replace(preset.model, classes=CLASSES), adversary=adversary)  # type: ignore[arg-type]


def table(done: list[Run]) -> str:
    """The results of all runs in Markdown; a GAN has no bound of its own."""
    lines = [
        "| run | weights | steps | -ELBO | features | KL | noise |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for run in done:
        r, weights = run.result, sum(p.numel() for p in build(run.preset.model).parameters())
        parts = " | ".join(f"{r[name]:.4f}" if name in r else "-" for name in ("elbo", "features", "KL", "noise"))
        lines.append(f"| {run.name} | {weights:,} | {r['step']:,.0f} | {parts} |")
    return "\n".join(lines) + "\n"


@click.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True)
@click.option("--checkpoints", type=click.Path(path_type=Path), default=Path("runs/ade"), show_default=True)
@click.option("--steps", default=1000, show_default=True, help="Training steps of each run.")
@click.option("--only", help="Names of runs, separated by commas; default: all.")
def main(data: Path, out: Path, checkpoints: Path, steps: int, only: str | None) -> None:
    """Train the missing runs, then write results.json and table.md."""
    done = run_all(runs(steps), data, out, checkpoints, only)
    (out / "table.md").write_text(table(list(done.values())), "utf-8")
    click.echo(table(list(done.values())))


if __name__ == "__main__":
    main()
