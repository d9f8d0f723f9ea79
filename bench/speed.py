# SPDX-License-Identifier: MIT
"""Speed and memory: whole processes, throughput inside a process, and where the time goes.

python -m bench.speed IMAGE... [--large FOLDER]

For each IMAGE: ``gmcodec compress`` and ``decompress`` as whole processes (start-up included, compiled-kernel
caches warm), median of five runs and peak memory.  ``--large`` adds a
24-megapixel picture, a mosaic of the folder's photographs.
"""

from __future__ import annotations

import cProfile
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np

from gmcodec import codec, pixels
from gmcodec.coding import autoregressive
from gmcodec.models import registry

RUNS = 5
GROUPS = {  # function name -> what it is part of
    "net": {"<lambda>", "product", "hidden", "residual", "output", "features"},
    "tables": {"high_rows", "low_rows", "observe", "open_channel", "softmax"},
    "coder": {"encode_reverse", "decode"},
}


def process(arguments: list[str]) -> tuple[float, float]:
    """Seconds and peak MiB of one ``gmcodec`` process."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "gmcodec", *arguments], stdout=subprocess.DEVNULL)  # noqa: S603
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"gmcodec {arguments} failed with {child.returncode}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def whole_processes(path: Path, pixels_in: int, runs: int, warm_up: bool = True) -> None:
    """Print compress and decompress of one file as whole processes, start-up included."""
    with tempfile.TemporaryDirectory() as folder:
        packed, back = f"{folder}/a.gmc", f"{folder}/a.png"
        for verb, arguments in (("compress", [str(path), "-o", packed]), ("decompress", [packed, "-o", back])):
            command = [verb, *arguments, "--force", "--quiet"]
            if warm_up:
                process(command)
            seconds, memory = zip(*(process(command) for _ in range(runs)), strict=True)
            middle = statistics.median(seconds)
            click.echo(
                f"{path.name}: {verb} as a whole process, median {middle:.2f} s ({min(seconds):.2f} to "
                f"{max(seconds):.2f}), {pixels_in / 1e6 / middle:.3f} Mpixel/s, peak {max(memory):.0f} MiB"
            )


def inside(name: str, planes: pixels.Planes, runs: int) -> None:
    """Print throughput inside a running process."""
    encode, decode = [], []
    for _ in range(runs):
        start = time.perf_counter()
        data = codec.encode_planes(planes).data
        middle = time.perf_counter()
        same = codec.decode_planes(data) == planes
        decode.append(time.perf_counter() - middle)
        encode.append(middle - start)
        if not same:
            raise AssertionError(f"{name} did not come back")
    mega = planes.height * planes.width / 1e6
    click.echo(f"{name} ({planes.width}x{planes.height}), in process: encode {mega / statistics.median(encode):.3f}, "
               f"decode {mega / statistics.median(decode):.3f} Mpixel/s")  # fmt: skip


def shares(planes: pixels.Planes) -> None:
    """Print where the time goes, one thread, one tile."""
    model = registry.for_channels(planes.channels).pixels
    tile = planes.data[None, :, :256, :768].copy()
    words, _ = autoregressive.push_words(tile, model, lambda n: None)
    with codec.single_threaded_blas():
        for verb, work in (
            ("encode", lambda: autoregressive.push_words(tile, model, lambda n: None)),
            ("decode", lambda: autoregressive.pop_words(words, tile.shape, model, lambda n: None)),
        ):
            profile = cProfile.Profile()
            profile.runcall(work)
            spent: dict[str, float] = {}
            for (_, _, function), (_, _, own, _, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
                # built-in methods are named like "<method 'decode' of 'builtins.AnsCoder' objects>"
                name_only = function.split("'")[1] if "'" in function else function
                group = next((g for g, names in GROUPS.items() if name_only in names), "Python")
                spent[group] = spent.get(group, 0.0) + own
            total = sum(spent.values())
            text = ", ".join(f"{g} {100 * spent.get(g, 0) / total:.0f} %" for g in (*GROUPS, "Python"))
            click.echo(f"{verb}, share of time in one thread: {text}")


def mosaic(folder: Path, width: int = 6000, height: int = 4000) -> pixels.Planes:
    """A 24-megapixel picture from the photographs of a folder, laid out in rows."""
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in {".png", ".webp"})
    out = np.zeros((3, height, width), np.uint8)
    y = number = 0
    while y < height:
        x = tallest = 0
        while x < width:
            data = pixels.read(paths[number % len(paths)], strip=True).data[:, : height - y, : width - x]
            out[:, y : y + data.shape[1], x : x + data.shape[2]] = data[:3]
            x, tallest, number = x + data.shape[2], max(tallest, data.shape[1]), number + 1
        y += tallest
    return pixels.Planes(out, "RGB")


@click.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--large", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Photographs for a mosaic."
)
@click.option("--runs", default=RUNS, show_default=True)
def main(images: tuple[Path, ...], large: Path | None, runs: int) -> None:
    """Measure speed and memory."""
    for path in images:
        planes = pixels.read(path, strip=True)
        whole_processes(path, planes.height * planes.width, runs)
        inside(path.name, planes, runs)
        shares(planes)
    if large:
        planes = mosaic(large)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "mosaic.png"
            path.write_bytes(pixels.write_png(planes))
            whole_processes(path, planes.height * planes.width, 1, warm_up=False)


if __name__ == "__main__":
    main()
