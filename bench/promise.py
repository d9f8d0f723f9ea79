# SPDX-License-Identifier: MIT
"""Check a promise of the README: files of images without a palette are as small as lossless WebP at its slowest.

python -m bench.promise FOLDER

Every image is coded with the default effort and without metadata, decoded and compared.  WebP has quality 100 and
method 6, and keeps the colours of transparent pixels.  Images that WebP cannot hold (16 bits, inks), damaged files, and
images with a palette, whose colours and order gmcodec keeps, are left out and named.
"""

from __future__ import annotations

import io
from pathlib import Path

import click
import numpy as np
from PIL import Image

from gmcodec import codec
from gmcodec.errors import GmcError
from gmcodec.image import reading

MARGIN_BYTES = 32  # by which a file may be larger
COMPARED_MODES = ("1", "L", "LA", "RGB", "RGBA")  # other modes are left out


def webp_bytes(planes: reading.Planes) -> int:
    """Size of the WebP file of an image."""
    order = {"LA": [0, 0, 0, 1]}.get(planes.mode, [*range(planes.channels)])
    samples = planes.data[order].transpose(1, 2, 0) * np.uint8(255 if planes.mode == "1" else 1)
    image = Image.fromarray(np.ascontiguousarray(samples[:, :, 0] if len(order) == 1 else samples))
    out = io.BytesIO()
    image.save(out, "WEBP", lossless=True, quality=100, method=6, exact=True)
    return len(out.getvalue())


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Compare files of the images in FOLDER with WebP."""
    ours = theirs = count = 0
    above = []
    for path in sorted(folder.iterdir()):
        try:
            planes = reading.read(path, strip=True)
        except GmcError as error:
            click.echo(f"left out: {path.name}: {error}")
            continue
        if planes.mode not in COMPARED_MODES:
            click.echo(f"left out: {path.name}: mode {planes.mode}")
            continue
        data = codec.encode_planes(planes).data
        if codec.decode_planes(data) != planes:
            raise click.ClickException(f"{path.name} does not decode to its image")
        size = webp_bytes(planes)
        ours, theirs, count = ours + len(data), theirs + size, count + 1
        if len(data) > size + MARGIN_BYTES:
            above.append(f"{path.name} ({len(data)} against {size})")
    click.echo(
        f"{count} images: gmcodec {ours} bytes, WebP {theirs}; more than {MARGIN_BYTES} bytes above: {len(above)}"
    )
    for line in above:
        click.echo(f"  {line}")


if __name__ == "__main__":
    main()
