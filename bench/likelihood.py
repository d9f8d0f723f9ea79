# SPDX-License-Identifier: MIT
"""Measure a model on small images or on tiles: float likelihood, frozen estimate, and the bytes of an archive.

python -m bench.likelihood MODEL MOSAIC... [--float WEIGHTS] [--tiles 32] [--importance 150]

The archive is written, read back and compared; its bits per dimension are those of the whole file.  ``--float``, which
needs torch, adds the float likelihood.  For models with latents this is the negative ELBO with its parts, and with
``--importance`` also the importance-weighted bound with this number of samples (thesis, eq. 2.64); a sample of a flow
consists of latents and of the noise below the grey levels.  For a frozen flow the negative ELBO of every image is
printed too, because the first images of an archive have no latents.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

import gmcodec
from gmcodec import archive, codec
from gmcodec.bench.images import open_sets
from gmcodec.coding import flow
from gmcodec.image import reading
from gmcodec.models import registry
from gmcodec.models.ade.model import AdeModel

EVALUATION_BATCH = 100  # images evaluated at once


def float_bits(weights: tuple[Path, ...], images: list[np.ndarray], importance: int | None) -> dict[str, float]:
    """Bits of images uint8 [H, W, C] under a float net, in float32, and their parts by name."""
    import torch

    from gmcodec.models.ade.float import Ade
    from gmcodec.models.agave.float import Agave, importance_bits
    from gmcodec.training.freezing import bits, prepared
    from gmcodec.training.nets import load_whole

    net = load_whole(weights).eval()
    latent = isinstance(net, Agave | Ade)
    if importance and not latent:
        raise click.UsageError(f"--importance is a bound of models with latents, and {weights[0]} has none")
    if isinstance(net, Ade) and net.config.classes:
        raise click.UsageError(f"{weights[0]} depends on classes, and mosaics are measured without their labels")
    torch.manual_seed(0)
    total: dict[str, float] = {}

    def add(parts: dict[str, float]) -> None:
        for name, part in parts.items():
            total[name] = total.get(name, 0.0) + part

    for start in tqdm(range(0, len(images), EVALUATION_BATCH), desc="float"):
        planes = np.stack(images[start : start + EVALUATION_BATCH]).transpose(0, 3, 1, 2)
        if not latent:
            add({"float": bits(net, planes)})
            continue
        batch = prepared(net, planes)
        with torch.no_grad():
            terms = net.terms(batch)
        parts = {"-ELBO": terms.bound, **terms.parts}
        if importance:
            parts[f"IW {importance}"] = importance_bits(net, batch, importance)
        add({name: part.double().sum().item() for name, part in parts.items()})
    return total


def frozen_parts(model: AdeModel, images: list[np.ndarray]) -> dict[str, float]:
    """Bits of images uint8 [H, W, C] under a frozen flow, each with noise and latents, and their parts by name."""
    parts: dict[str, float] = {"-ELBO": 0.0}
    for start in tqdm(range(0, len(images), EVALUATION_BATCH), desc="frozen"):
        pushed = flow.trial(model, np.stack(images[start : start + EVALUATION_BATCH]).transpose(0, 3, 1, 2))
        for name, bits in {"-ELBO": pushed.bits, **pushed.parts}.items():
            parts[name] = parts.get(name, 0.0) + float(bits.sum())
        parts["borrowed"] = parts.get("borrowed", 0.0) + pushed.borrowed
    return parts


@click.command()
@click.argument("model")
@click.argument("mosaics", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--float",
    "weights",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    help="Float weights; of AGAVE with a fixed decoder, those of the decoder second.",
)
@click.option("--tiles", default=32, show_default=True, help="Side of the images in the mosaics.")
@click.option("--last", type=click.IntRange(1), help="The last N images only.")
@click.option(
    "--importance",
    type=click.IntRange(1),
    help="Also the importance-weighted bound of --float with this number of samples.",
)
@click.option("--only-float", is_flag=True, help="Make no archive.")
@click.option("--threads", type=click.IntRange(1), help="Threads for the archive  [default: all].")
def main(
    model: str, mosaics: tuple[Path, ...], weights: tuple[Path, ...], tiles: int, last: int | None,
    importance: int | None, only_float: bool, threads: int | None,
) -> None:  # fmt: skip
    """Print float, frozen and file bits per dimension of MODEL on the images in MOSAICS."""
    if not weights and (importance or only_float):
        raise click.UsageError(f"{'--importance' if importance else '--only-float'} needs --float")
    if only_float and threads:
        raise click.UsageError("--threads is for the archive, and --only-float makes none")
    images = [image for found in open_sets(list(mosaics), False, tiles, None) for _, image in found]
    images = images[-last:] if last else images
    samples = sum(image.size for image in images)
    click.echo(f"{len(images)} images, {samples} dimensions; gmcodec {gmcodec.__version__}")
    for name, bits in (float_bits(weights, images, importance) if weights else {}).items():
        click.echo(f"{name:8} {bits / samples:.4f} bits per dimension")
    if only_float:
        return
    loaded = registry.named(model)
    if isinstance(loaded.model, AdeModel):
        for name, bits in frozen_parts(loaded.model, images).items():
            click.echo(f"frozen   {name}: {bits / samples:.4f} bits per dimension")
    names = [f"{number:06d}" for number in range(len(images))]
    with tempfile.TemporaryDirectory() as folder:
        path, start = Path(folder) / "set.gma", time.perf_counter()
        packed = archive.pack(zip(names, images, strict=True), path, model=model, threads=threads)
        encoding, start = time.perf_counter() - start, time.perf_counter()
        with archive.Archive(path, threads=threads) as opened:
            back = {name: reading.to_array(planes) for name, planes in opened.items()}
        decoding = time.perf_counter() - start
    if len(back) != len(images) or not all(np.array_equal(back[n], i) for n, i in zip(names, images, strict=True)):
        raise click.ClickException("the decoded images are not those of the set")
    click.echo(f"frozen   {packed.estimated_bits / samples:.4f} bits per dimension, {packed.grouped} of them in groups")
    click.echo(
        f"archive  {packed.bits_per_dimension:.4f} bits per dimension, {packed.bytes} bytes, decoded and compared"
    )
    for verb, seconds in (("encode", encoding), ("decode", decoding)):
        click.echo(
            f"{verb}   {seconds:.1f} s, {len(images) / seconds:.1f} images/s, "
            f"{samples / 3 / seconds / 1e6:.3f} Mpixel/s, {threads or codec.available_threads()} threads"
        )


if __name__ == "__main__":
    main()
