# SPDX-License-Identifier: MIT
"""Near-lossless files beside JPEG XL and JPEG-LS.

python -m bench.near FOLDER [-k K]... [--effort EFFORT] [--every N]

Every file is decoded and compared with its source: no sample may differ by more than K.  JPEG XL codes the same rounded
pixels losslessly.  JPEG-LS codes the levels' indices after its colour transform, which keeps the bound too, or, where
that is smaller, the pixels in its own near-lossless mode, which has no transform that would keep the bound.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import imagecodecs
import numpy as np

from gmcodec import codec, effort
from gmcodec.bench import catalogue
from gmcodec.image import near_lossless, reading
from gmcodec.image.near_lossless import Near
from gmcodec.image.planes import Planes


def ours(planes: Planes, near: Near, level: str) -> tuple[int, float, float]:
    """Bytes without metadata, and the seconds to encode and to decode."""
    start = time.perf_counter()
    data = codec.encode_planes(planes, effort=level, near=near).data
    middle = time.perf_counter()
    found = codec.decode_planes(data)
    end = time.perf_counter()
    if near_lossless.difference(planes, found)[0] > near.most:
        raise click.ClickException(f"a sample differs by more than {near.most}")
    return len(data), middle - start, end - middle


def size(name: str, image: np.ndarray) -> int:
    """Bytes of a lossless file of [H, W, C] by another codec, decoded and compared."""
    encode, decode = catalogue.by_name(name).open(codec.available_threads())
    data = encode(image).data
    if not np.array_equal(decode(data), image):
        raise click.ClickException(f"{name} gave other pixels")
    return len(data)


def jpeg_ls(planes: Planes, near: Near) -> int:
    image = np.ascontiguousarray(reading.to_array(planes))
    indices = ((image.astype(np.int64) + near.most) // near.step).astype(image.dtype)
    plain = [np.ascontiguousarray(plane) for plane in np.atleast_3d(image).transpose(2, 0, 1)]
    streams = [imagecodecs.jpegls_encode(plane, level=near.most) for plane in plain]
    return min(size("JPEG-LS subtract-green", indices), sum(map(len, streams)))


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-k", "bounds", type=click.IntRange(min=1), multiple=True, default=(1, 2, 3), show_default=True)
@click.option("--effort", "level", type=click.Choice(effort.EFFORTS), default="default", show_default=True)
@click.option("--every", type=click.IntRange(min=1), default=1, show_default=True, help="Take every N-th image.")
def main(folder: Path, bounds: tuple[int, ...], level: str, every: int) -> None:
    """Print bytes, bits a sample and speed for the images of FOLDER."""
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".png", ".webp", ".ppm", ".tif"))[::every]
    totals = {most: np.zeros(5) for most in bounds}
    samples = pixels = 0
    for path in paths:
        planes = reading.read(path, strip=True)
        samples, pixels = samples + planes.data.size, pixels + planes.height * planes.width
        for most in bounds:
            near = Near(most)
            rounded = np.ascontiguousarray(reading.to_array(near_lossless.rounded(planes, near)))
            others = size("JPEG XL -e 7", rounded), jpeg_ls(planes, near)
            totals[most] += (*ours(planes, near, level), *others)
    click.echo("| K | gmcodec, bytes | bits a sample | JPEG XL -e 7 | JPEG-LS | against them | Mpixel/s |")
    click.echo("|---|---:|---:|---:|---:|---:|---:|")
    for most, (mine, encode, decode, jpeg_xl, other) in totals.items():
        click.echo(
            f"| {most} | {int(mine):,} | {8 * mine / samples:.3f} | {int(jpeg_xl):,} | {int(other):,} |"
            f" {mine / jpeg_xl - 1:+.1%}, {mine / other - 1:+.1%} |"
            f" {pixels / encode / 1e6:.2f}, {pixels / decode / 1e6:.2f} |"
        )


if __name__ == "__main__":
    main()
