# SPDX-License-Identifier: MIT
"""Images of 12 to 16 bits, made from photographs of 8 as a camera would, against JPEG XL -e 7.

python -m bench.deep PHOTOS/val --every 7

Each photograph is taken to linear light and reduced to half its size by the mean of four pixels, which is what gives it
more than 8 bits; then a sensor is simulated: shot noise of 30,000 electrons at white, read noise of 4, a black level
of 3 %. No demosaicking, no denoising.

    raw12, raw14   what the converter gives, linear
    raw14 x 4      the same moved up to 16 bits, as many programs do
    developed16    of 14 bits: black level taken off, sRGB's curve, 16 bits
"""

from __future__ import annotations

from pathlib import Path

import click
import imagecodecs
import numpy as np

import gmcodec
from gmcodec.training.data import load_folder

KINDS = ("raw12", "raw14", "raw14 x 4", "developed16")
WELL, READ, BLACK, WHITE = 30000, 4.0, 0.03, 0.98


def linear(image: np.ndarray) -> np.ndarray:
    """uint8 of sRGB -> linear light in 0..1."""
    x = image / 255
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def developed(x: np.ndarray) -> np.ndarray:
    """Linear light -> sRGB, both in 0..1."""
    return np.where(x <= 0.0031308, x * 12.92, 1.055 * np.maximum(x, 1e-9) ** (1 / 2.4) - 0.055)


def halved(x: np.ndarray) -> np.ndarray:
    """[C, H, W] -> [C, H // 2, W // 2], means of four."""
    c, height, width = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(c, height // 2, 2, width // 2, 2).mean((2, 4))


def simulated(image: np.ndarray, kind: str, seed: int) -> np.ndarray:
    """uint8 [C, H, W] -> uint16 [C, H // 2, W // 2] of one of KINDS."""
    random = np.random.default_rng(seed)
    light = halved(linear(image))
    electrons = random.poisson(light * WELL) + random.normal(0, READ, light.shape)
    top = 2 ** (12 if kind == "raw12" else 14) - 1
    raw = np.clip(np.rint((electrons / WELL * (WHITE - BLACK) + BLACK) * top), 0, top)
    if kind == "developed16":
        return np.rint(developed(np.clip((raw / top - BLACK) / (WHITE - BLACK), 0, 1)) * 65535).astype(np.uint16)
    return (raw * (4 if kind == "raw14 x 4" else 1)).astype(np.uint16)


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--every", default=7, show_default=True, help="Take every so many photographs of the folder.")
def main(folder: Path, every: int) -> None:
    """Print bits per sample of JPEG XL, and in percent what others need; every file is decoded and compared."""
    click.echo("| material | JPEG XL -e 7, bpsp | conventional forms | gmcodec fast | gmcodec best |")
    click.echo("|---|---:|---:|---:|---:|")
    images = load_folder(folder, 3)[::every]
    for kind in KINDS:
        for colours in ("RGB", "grey"):
            sizes, samples = np.zeros(4), 0
            for seed, image in enumerate(images):
                planes = simulated(image, kind, seed)
                array = np.ascontiguousarray(planes.transpose(1, 2, 0) if colours == "RGB" else planes[1])
                files = [gmcodec.encode(array, code="conventional")]
                files += [gmcodec.encode(array, effort=effort) for effort in ("fast", "best")]
                for file in files:
                    if not np.array_equal(gmcodec.decode_array(file), array):
                        raise click.ClickException("a file did not come back as it was")
                other = imagecodecs.jpegxl_encode(array, lossless=True, effort=7)
                if not np.array_equal(imagecodecs.jpegxl_decode(other), array):
                    raise click.ClickException("JPEG XL did not give the image back")
                sizes, samples = sizes + [len(f) for f in (other, *files)], samples + array.size
            changes = " | ".join(f"{100 * (s / sizes[0] - 1):+.2f} %" for s in sizes[1:])
            click.echo(f"| {kind}, {colours} | {8 * sizes[0] / samples:.3f} | {changes} |")


if __name__ == "__main__":
    main()
