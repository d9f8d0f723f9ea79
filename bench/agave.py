# SPDX-License-Identifier: MIT
"""Experiments on AGAVE's auxiliary loss (thesis, section 3.4), with nets that two cores can train.

python -m bench.agave CIFAR -o bench/results/agave [--steps 1000]

=============  =======================================================================================================
run            shows
=============  =======================================================================================================
lambda-1..12   KL, reconstruction and their sum for growing weights of the KL term: Figure 3.4.  The figure of the VAE
               is that of the factored decoder of the same net, KL + auxiliary term
pixelcnnpp     the same decoder without latents: AGAVE should not need more bits
y-...          other auxiliary images at lambda = 8: section 3.4.5, Figure 3.8 b
dropped        lambda-8, trained three times as long without the auxiliary term: its KL collapses, section 3.4.4
=============  =======================================================================================================

All figures are float bounds in bits per dimension on the last 2,000 training images, which no run learns from.  An
interrupted run is continued, and finished runs are kept: call the same command again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from gmcodec.models.agave.config import AgaveConfig
from gmcodec.training.presets import PRESETS, SMALL_DECODER, Objective

from .runs import Run, run_all

STRENGTHS = (1, 2, 4, 8, 12)
AUXILIARY_IMAGES: dict[str, dict[str, Any]] = {
    "y-32-colours": {"levels": 32},
    "y-16x16": {"auxiliary": 2},
    "y-8x8": {"auxiliary": 4},
    "y-4-bit-grey": {"levels": 16, "grey": True},
}


def runs(steps: int) -> list[Run]:
    """All runs, in the order in which they must be trained, with the same number of steps."""
    small = replace(PRESETS["agave-small"], steps=steps)
    model = small.model
    assert isinstance(model, AgaveConfig)
    found = [Run(f"lambda-{n}", replace(small, objective=Objective(float(n)))) for n in STRENGTHS]
    found.append(Run("pixelcnnpp", replace(small, model=SMALL_DECODER, objective=None)))
    found += [Run(name, replace(small, model=replace(model, **changes))) for name, changes in AUXILIARY_IMAGES.items()]
    found.append(Run("dropped", replace(small, steps=3 * steps, objective=Objective(1.0, auxiliary=False)), "lambda-8"))
    return found


def table(done: list[Run]) -> str:
    """The results of all runs in Markdown."""
    lines = [
        "| run | steps | AGAVE, -ELBO | image given z | KL | VAE, -ELBO | y given z |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for run in done:
        r, objective = run.result, run.preset.objective
        model = run.preset.model
        cells = [run.name, f"{r['step']:,.0f}", f"{r['elbo']:.4f}"]
        if isinstance(model, AgaveConfig):
            same = model.levels == 256 and model.auxiliary == 1 and not model.grey  # y is the image
            vae = f"{r['kl'] + r['auxiliary']:.4f}" if same and objective and objective.auxiliary else "-"
            cells += [f"{r['primary']:.4f}", f"{r['kl']:.4f}", vae, f"{r['auxiliary']:.4f}"]
        else:
            cells += ["-"] * 4
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(done: dict[str, Run], out: Path) -> None:
    """Figures 3.4, 3.7 and 3.8 b, as SVG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    def save(name: str, x: str, y: str) -> None:
        pyplot.xlabel(x)
        pyplot.ylabel(y)
        pyplot.legend()
        pyplot.grid(alpha=0.3)
        pyplot.tight_layout()
        pyplot.savefig(out / f"{name}.svg", metadata={"Date": None})
        pyplot.close()

    strengths = [n for n in STRENGTHS if f"lambda-{n}" in done]
    if strengths:
        found = [done[f"lambda-{n}"].result for n in strengths]
        pyplot.figure(figsize=(12, 4))  # one panel for each, because the scales differ
        for panel, name, part in ((1, "VAE", "auxiliary"), (2, "AGAVE", "primary")):
            pyplot.subplot(1, 3, panel)
            both = [r["kl"] + r[part] for r in found]
            pyplot.plot(strengths, both, "o-", label=f"{name}, KL + reconstruction")
            pyplot.plot(strengths, [r[part] for r in found], "o--", label=f"{name}, reconstruction")
            if name == "AGAVE" and "pixelcnnpp" in done:
                pyplot.axhline(done["pixelcnnpp"].result["elbo"], color="grey", lw=1, label="decoder without latents")
            pyplot.xlabel("lambda")
            pyplot.ylabel("bits per dimension")
            pyplot.legend()
            pyplot.grid(alpha=0.3)
        pyplot.subplot(1, 3, 3)
        pyplot.plot(strengths, [r["kl"] for r in found], "^-", label="KL")
        save("strength", "lambda", "bits per dimension")
    if {"dropped", "lambda-8"} <= done.keys():
        pyplot.figure(figsize=(6, 4))
        before, after = done["lambda-8"].curve, done["dropped"].curve
        pyplot.plot([p["step"] for p in before], [p["kl"] for p in before], label="with the auxiliary term")
        start = before[-1]["step"]
        pyplot.plot([start + p["step"] for p in after], [p["kl"] for p in after], label="after it was dropped")
        save("collapse", "step", "KL, bits per dimension")
    others = [name for name in ("lambda-8", *AUXILIARY_IMAGES) if name in done]
    if len(others) > 1:
        pyplot.figure(figsize=(6, 4))
        pyplot.bar(others, [done[name].result["elbo"] for name in others], label="AGAVE, lambda 8, by auxiliary image")
        values = [done[name].result["elbo"] for name in others]
        pyplot.ylim(min(values) - 0.05, max(values) + 0.05)
        save("auxiliary", "", "bits per dimension")


@click.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True)
@click.option("--checkpoints", type=click.Path(path_type=Path), default=Path("runs/agave"), show_default=True)
@click.option("--steps", default=PRESETS["agave-small"].steps, show_default=True, help="Training steps of each run.")
@click.option("--only", help="Names of runs, separated by commas; default: all.")
def main(data: Path, out: Path, checkpoints: Path, steps: int, only: str | None) -> None:
    """Train the missing runs, then write results.json, table.md and the plots."""
    done = run_all(runs(steps), data, out, checkpoints, only)
    (out / "table.md").write_text(table(list(done.values())), "utf-8")
    plot(done, out)
    click.echo(table(list(done.values())))


if __name__ == "__main__":
    main()
