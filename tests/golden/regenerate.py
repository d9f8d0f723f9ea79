# SPDX-License-Identifier: MIT
"""Write the golden files of the current format version, with the shipped weights.

Run this only when FORMAT_VERSION changed, or with the names of cases to add: the files are the promise that old files
decode.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from gmcodec import archive, codec
from gmcodec.formats import gma, gmc
from gmcodec.image import metadata, near_lossless, reading, writing
from gmcodec.image.metadata import Tag
from gmcodec.image.near_lossless import Near

HERE = Path(__file__).parent


def pattern(channels: int, height: int, width: int, maximum: int = 255) -> np.ndarray:
    """A smooth picture with edges and a little texture, from integers only: [C, H, W]."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [
        (x * (5 + c) + y * 3 + (x * y) // 7 + 40 * ((x // 9 + y // 6) % 2) + (x * 31 + y * 17 + c * 11) % 5)
        % (2 * maximum)
        for c in range(channels)
    ]
    folded = np.abs(np.stack(planes) - maximum)  # a triangle wave: no wrap-around
    return folded.astype(np.uint8 if maximum < 256 else np.uint16)


def page(height: int, width: int, glyphs: int) -> np.ndarray:
    """Lines of square glyphs that come again: numbers from 0 to ``glyphs``, 0 between them; [H, W]."""
    y, x = np.mgrid[0:height, 0:width]
    number = (x // 5 * 7 + y // 6 * 3) % glyphs
    inked = (x % 5 < 4) & (y % 6 < 4) & ((number + 2) * (x % 5 + 1) * (y % 6 + 3) % 7 % 2 == 0)
    return np.where(inked, number + 1, 0)


def screen() -> reading.Planes:
    """Text on two areas, one of them half transparent, above a slope of many colours: RGBA."""
    ink, (y, x) = page(20, 30, 3), np.mgrid[0:20, 0:30]
    colours = np.array([[250, 10, 90, 20], [250, 10, 30, 60], [240, 10, 60, 200]])[:, ink]
    slope = np.stack([40 + 4 * x + y, 90 + 3 * x + 5 * (y - 9), 200 - 2 * x - 6 * (y - 9)])
    alpha = np.where(x < 18, 255, 128)[None]
    return reading.Planes(np.concatenate([np.where(y > 9, slope, colours), alpha]).astype(np.uint8), "RGBA")


def indexed() -> reading.Planes:
    """Twelve colours of a palette that is in no order."""
    colours = bytes((5 + 83 * i + 41 * c) % 256 for i in range(12) for c in range(3))
    data = ((page(21, 31, 11) * 5 + 3) % 12).astype(np.uint8)
    return reading.Planes(data[None], "P", metadata.pack({Tag.PALETTE: colours}))


def few_values() -> reading.Planes:
    """Five values of 16 bits."""
    values = np.array([65535, 300, 4660, 22136, 51966], np.uint16)
    return reading.Planes(values[page(22, 29, 4)][None], "I;16")


CASES = {
    # name: (planes, code)
    "rgb-learned": (reading.Planes(pattern(3, 19, 23), "RGB"), "local-rgb"),
    "grey-learned": (reading.Planes(pattern(1, 17, 29), "L"), "local-grey"),
    "rgba-learned": (reading.Planes(pattern(4, 11, 13), "RGBA"), "local-rgb"),
    "one-pixel": (reading.Planes(pattern(3, 1, 1), "RGB"), "local-rgb"),
    "rgb-conventional": (reading.Planes(pattern(3, 19, 23), "RGB"), "conventional"),
    "la-auto": (reading.Planes(pattern(2, 9, 14), "LA"), "auto"),
    "pixelcnnpp": (reading.Planes(pattern(3, 18, 21), "RGB"), "pixelcnnpp"),
    "local-rgb-fast": (reading.Planes(pattern(3, 19, 23), "RGB"), "local-rgb-fast"),
    # large enough for models to learn several times
    "learning-rgb-fast": (reading.Planes(pattern(3, 26, 31), "RGB"), "learning-rgb-fast"),
    "learning-rgb": (reading.Planes(pattern(4, 24, 30), "RGBA"), "learning-rgb"),
    "pair-rgb": (reading.Planes(pattern(3, 23, 34), "RGB"), "pair-rgb"),
    "learning-grey": (reading.Planes(pattern(1, 28, 33), "L"), "learning-grey"),
    "learning-rgb16-fast": (reading.Planes(pattern(3, 25, 32, 65535), "RGB;16"), "learning-rgb16-fast"),
    "learning-rgb16": (reading.Planes(pattern(4, 24, 27, 4095), "RGBA;16"), "learning-rgb16"),
    "averaged-grey": (reading.Planes(pattern(1, 27, 35), "L"), "averaged-grey"),
    "averaged-rgb16": (reading.Planes(pattern(3, 24, 31, 65535), "RGB;16"), "averaged-rgb16"),
    "learning-grey16": (reading.Planes(pattern(1, 29, 30, 16383), "I;16"), "learning-grey16"),
    "values16": (reading.Planes(pattern(1, 40, 30, 4095) * 16, "I;16"), "learning-grey16"),  # a list of them
    "bilevel": (reading.Planes(pattern(1, 15, 17) % 2, "1"), "auto"),
    "grey16": (reading.Planes(pattern(1, 13, 12, 65535), "I;16"), "auto"),
    "rgb16": (reading.Planes(pattern(3, 8, 9, 65535), "RGB;16"), "auto"),
    "graphics-rgba": (screen(), "graphics"),
    "graphics-palette": (indexed(), "graphics"),
    "graphics-bilevel": (reading.Planes(np.minimum(page(24, 33, 5), 1).astype(np.uint8)[None], "1"), "graphics"),
    "graphics-few16": (few_values(), "graphics"),
    "graphics-net-rgba": (screen(), "graphics-rgb"),
    "graphics-net-grey": (reading.Planes(pattern(1, 22, 37), "L"), "graphics-grey"),
    "near-rgba": (reading.Planes(pattern(4, 15, 21), "RGBA"), "local-rgb-fast"),
    "near-grey16": (reading.Planes(pattern(1, 19, 22, 16383), "I;16"), "learning-grey16"),
}
NEAR = {"near-rgba": Near(2), "near-grey16": Near(40)}  # how samples are rounded


def kept(name: str) -> reading.Planes:
    """What the file of a case holds."""
    planes, _ = CASES[name]
    return near_lossless.rounded(planes, NEAR[name]) if name in NEAR else planes


ARCHIVE = {
    # a group of three, a group of two, two alone
    **{f"rgb/{i}.png": reading.Planes(pattern(3, 6, 7 + i)[:, :, i:].copy(), "RGB") for i in range(3)},
    **{f"grey/{i}.png": reading.Planes(pattern(1, 8 + i, 7)[:, i:].copy(), "L") for i in range(2)},
    "wide.png": reading.Planes(pattern(3, 4, 25), "RGB"),
    "bilevel.png": CASES["bilevel"][0],
}


# a chain of a model with latents, whose first images pay for the latents of the others
CHAIN = {f"{i:02d}.png": reading.Planes(pattern(3, 8, 40)[:, :, 2 * i : 2 * i + 8].copy(), "RGB") for i in range(14)}

SETS = {"set": (ARCHIVE, None), "chain": (CHAIN, "agave")}  # images, name of the model

# two files and an image from memory
DATED = {
    name: reading.Planes(pattern(1, 9, 8)[:, :, i : i + 6].copy(), "L")
    for i, name in enumerate(("a.png", "b.png", "c"))
}


def dated(folder: Path) -> dict[str, Any]:
    """Two files with permissions and times, made in a folder, and an image from memory."""
    sources: dict[str, Any] = dict(DATED)
    for name, permissions, modified in (("a.png", 0o640, 10**18 + 500_000_001), ("b.png", 0o600, 10**18 - 10**10)):
        sources[name] = folder / name
        sources[name].write_bytes(writing.write(DATED[name], "png").data)
        os.utime(sources[name], ns=(modified, modified))
        sources[name].chmod(permissions)
    return sources


def main(names: list[str]) -> None:
    for name in [name for name in names or CASES if name in CASES]:
        planes, code = CASES[name]
        stem = HERE / f"v{gmc.FORMAT_VERSION}-{name}"
        stem.with_suffix(".gmc").write_bytes(codec.encode_planes(planes, code=code, near=NEAR.get(name)).data)
        np.save(stem.with_suffix(".npy"), kept(name).data)
    for name, (images, model) in SETS.items():
        if names and name not in names:
            continue
        archive.pack(images, HERE / f"v{gma.ARCHIVE_VERSION}-{name}.gma", model=model, force=True)
    if not names or "dated" in names:
        with tempfile.TemporaryDirectory() as folder:
            place = HERE / f"v{gma.ARCHIVE_VERSION}-dated.gma"
            archive.pack(dated(Path(folder)), place, model="local-grey", force=True)
            place.chmod(0o644)


if __name__ == "__main__":
    main(sys.argv[1:])
