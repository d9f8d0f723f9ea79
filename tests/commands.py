# SPDX-License-Identifier: MIT
"""What tests of the command line share: the command in this process and in its own, small images, files of a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import toy
from click.testing import CliRunner, Result
from PIL import Image

import gmcodec
from gmcodec.archive import Archive
from gmcodec.cli.main import cli
from gmcodec.image import reading

GMCODEC = (sys.executable, "-m", "gmcodec")


def run(*args: str | Path, data: bytes | None = None) -> Result:
    """The command in this process; an exception that it does not turn into an exit code fails the test."""
    result = CliRunner().invoke(cli, [str(a) for a in args], input=data)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def shell(*args: str | Path, data: bytes = b"", **options: object) -> subprocess.CompletedProcess[bytes]:
    """The command in its own process."""
    return subprocess.run([*GMCODEC, *map(str, args)], input=data, capture_output=True, env=environment(), **options)  # type: ignore[call-overload]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(gmcodec.__file__).parent.parent)}


def photo(path: Path, height: int = 20, width: int = 30, seed: int = 0, **options: object) -> Path:
    """Write a small image that the toy model compresses."""
    rgb = toy.smooth(np.random.default_rng(seed), (3, height, width)).transpose(1, 2, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path, **options)
    return path


def photos(folder: Path) -> None:
    """Images of one size in two folders, and a larger one."""
    for i in range(3):
        photo(folder / f"a/{i}.png", 8, 9, seed=i)
    photo(folder / "b/0.ppm", 8, 9, seed=3)
    photo(folder / "b/0.png", 8, 9, seed=4)
    photo(folder / "wide.webp", 10, 300, lossless=True)


def opened(path: Path) -> Archive:
    """An archive that needs no closing."""
    return Archive(path.read_bytes())


def same(one: Path | bytes, other: Path | bytes) -> bool:
    """Same mode and pixels; TIFF and BMP come with DPI of their own."""
    a, b = reading.read(one), reading.read(other)
    return a.mode == b.mode and np.array_equal(a.data, b.data)


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
