# SPDX-License-Identifier: MIT
"""Compare with JPEG XL -e 7 on images of 12 to 16 bits, simulated from photographs of 8 bits.

python -m bench.high_depth PHOTOS/val --every 7

Each photograph is converted to linear light and reduced to half its size by means of four pixels, which gives it more
than 8 bits.  Then a sensor is simulated: shot noise of 30,000 electrons at white, read noise of 4 electrons, a black
level of 3 %.  There is no demosaicking and no denoising.

    raw12, raw14   output of the analogue-to-digital converter, linear
    raw14 x 4      raw14 shifted to 16 bits, as many programs do
    developed16    raw14 without the black level, with the curve of sRGB, 16 bits
"""

from __future__ import annotations

from pathlib import Path

import click
import imagecodecs
import numpy as np

import gmcodec
from gmcodec.training.data import load_folder

MATERIALS = ("raw12", "raw14", "raw14 x 4", "developed16")
FULL_WELL, READ_NOISE = 30000, 4.0  # electrons
BLACK_LEVEL, WHITE_LEVEL = 0.03, 0.98  # fractions of the largest value


def linear(image: np.ndarray) -> np.ndarray:
    """sRGB, uint8 -> linear light in 0..1."""
    x = image / 255
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def develop(x: np.ndarray) -> np.ndarray:
    """Linear light in 0..1 -> sRGB in 0..1."""
    return np.where(x <= 0.0031308, x * 12.92, 1.055 * np.maximum(x, 1e-9) ** (1 / 2.4) - 0.055)


def halve(x: np.ndarray) -> np.ndarray:
    """Means of 2x2 pixels: [C, H, W] -> [C, H // 2, W // 2]."""
    c, height, width = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(c, height // 2, 2, width // 2, 2).mean((2, 4))


def simulate(image: np.ndarray, material: str, seed: int) -> np.ndarray:
    """A photograph as one of MATERIALS: uint8 [C, H, W] -> uint16 [C, H // 2, W // 2]."""
    random = np.random.default_rng(seed)
    light = halve(linear(image))
    electrons = random.poisson(light * FULL_WELL) + random.normal(0, READ_NOISE, light.shape)
    top = 2 ** (12 if material == "raw12" else 14) - 1
    raw = np.clip(np.rint((electrons / FULL_WELL * (WHITE_LEVEL - BLACK_LEVEL) + BLACK_LEVEL) * top), 0, top)
    if material == "developed16":
        return np.rint(develop(np.clip((raw / top - BLACK_LEVEL) / (WHITE_LEVEL - BLACK_LEVEL), 0, 1)) * 65535).astype(
            np.uint16
        )
    return (raw * (4 if material == "raw14 x 4" else 1)).astype(np.uint16)


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--every", default=7, show_default=True, help="Take every Nth photograph of the folder.")
def main(folder: Path, every: int) -> None:
    """Print bits per sample of JPEG XL, and the size of other files relative to that.

    Every file is decoded and compared.
    """
    click.echo("| material | JPEG XL -e 7, bpsp | conventional methods | gmcodec fast | gmcodec best |")
    click.echo("|---|---:|---:|---:|---:|")
    images = load_folder(folder, 3)[::every]
    for material in MATERIALS:
        for colours in ("RGB", "grey"):
            sizes, samples = np.zeros(4), 0
            for seed, image in enumerate(images):
                planes = simulate(image, material, seed)
                array = np.ascontiguousarray(planes.transpose(1, 2, 0) if colours == "RGB" else planes[1])
                files = [gmcodec.encode(array, code="conventional")]
                files += [gmcodec.encode(array, effort=effort) for effort in ("fast", "best")]
                for file in files:
                    if not np.array_equal(gmcodec.decode_array(file), array):
                        raise click.ClickException("a file does not decode to its image")
                other = imagecodecs.jpegxl_encode(array, lossless=True, effort=7)
                if not np.array_equal(imagecodecs.jpegxl_decode(other), array):
                    raise click.ClickException("JPEG XL does not decode to its image")
                sizes, samples = sizes + [len(f) for f in (other, *files)], samples + array.size
            changes = " | ".join(f"{100 * (s / sizes[0] - 1):+.2f} %" for s in sizes[1:])
            click.echo(f"| {material}, {colours} | {8 * sizes[0] / samples:.3f} | {changes} |")


if __name__ == "__main__":
    main()
