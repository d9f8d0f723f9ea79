# SPDX-License-Identifier: MIT
"""Measure speed and memory: of whole processes, inside a process, and of the parts of a model.

python -m bench.speed IMAGE... [--large FOLDER]

For each IMAGE and effort, ``gmcodec compress`` and ``decompress`` run as whole processes, with start-up and with files
in the system's cache: median of five runs and peak memory.  ``--large`` adds a picture of 24 megapixels, a mosaic of
the folder's photographs.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from gmcodec import codec
from gmcodec import effort as choice
from gmcodec.coding import autoregressive
from gmcodec.coding.tiles import squares
from gmcodec.image import reading, writing
from gmcodec.models import registry
from gmcodec.models.local.model import LocalModel
from gmcodec.progress import ignore

PROCESS_RUNS = 5  # of which the median counts
THREAD_COUNTS = (1, 2, 4)


def process(arguments: list[str]) -> tuple[float, float]:
    """Seconds and peak MiB of one ``gmcodec`` process."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "gmcodec", *arguments], stdout=subprocess.DEVNULL)  # noqa: S603
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"gmcodec {arguments} failed with {child.returncode}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def whole_processes(path: Path, pixels_in: int, effort: str, runs: int, warm_up: bool = True) -> None:
    """Print time and memory of compress and decompress of a file as whole processes, start-up included."""
    with tempfile.TemporaryDirectory() as folder:
        packed, back = f"{folder}/a.gmc", f"{folder}/a.png"
        compress = [str(path), "-o", packed, "--effort", effort]
        for verb, arguments in (("compress", compress), ("decompress", [packed, "-o", back])):
            command = [verb, *arguments, "--force", "--quiet"]
            if warm_up:
                process(command)
            seconds, memory = zip(*(process(command) for _ in range(runs)), strict=True)
            middle = statistics.median(seconds)
            click.echo(
                f"{path.name}, {effort}: {verb} as a whole process, median {middle:.2f} s ({min(seconds):.2f} to "
                f"{max(seconds):.2f}), {pixels_in / 1e6 / middle:.3f} Mpixel/s, peak {max(memory):.0f} MiB"
            )


def in_process(name: str, planes: reading.Planes, effort: str, runs: int, threads: int) -> None:
    """Print throughput in_process a running process."""
    encode, decode = [], []
    for _ in range(runs):
        start = time.perf_counter()
        data = codec.encode_planes(planes, effort=effort, threads=threads).data
        middle = time.perf_counter()
        same = codec.decode_planes(data, threads=threads) == planes
        decode.append(time.perf_counter() - middle)
        encode.append(middle - start)
        if not same:
            raise AssertionError(f"{name} does not decode to its image")
    mega = planes.height * planes.width / 1e6
    there, back = mega / statistics.median(encode), mega / statistics.median(decode)
    size, processors = f"{planes.width}x{planes.height}", codec.available_threads()
    click.echo(
        f"{name} ({size}), {effort}, in process, {threads} threads on {processors} processors: encode {there:.3f}, "
        f"decode {back:.3f} Mpixel/s"
    )


def time_by_part(planes: reading.Planes, entry: registry.Entry) -> None:
    """Print the time of net and features, coder, and learning, for one tile in one thread."""
    model: Any = registry.load(entry.method).model
    if len(entry.members) > 1:
        click.echo(f"{entry.name} takes the time of its members: {', '.join(name for name, _ in entry.members)}")
        return
    plain: LocalModel = model.members[0] if entry.members else model
    tile = planes.data[:, :256, :768].copy()
    coder: Any = plain.tile_coder
    work: dict[str, Callable[[], object]] = {
        "net": lambda: coder.evaluate(tile),
        "encode": lambda: coder.push_words(tile, ignore, None),
    }
    words, _ = coder.push_words(tile, ignore, None)
    work["decode"] = lambda: coder.pop_words(words, *tile.shape[1:], ignore, None)
    if entry.members:
        learner: Any = model.tile_coder
        work["learn"] = lambda: learner.intervals(tile, ignore)
    work["fit"] = lambda: plain.fit(squares(tile, autoregressive.FIT_SQUARES), tile[0].size)
    seconds = {name: _fastest(run) for name, run in work.items()}
    net = seconds["net"] / tile[0].size * 1e6
    for verb in ("encode", "decode"):
        each = seconds[verb] / tile[0].size * 1e6
        click.echo(f"{entry.name}, {verb}, one thread: {each:.2f} us a pixel, of them net and features {net:.2f} "
                   f"({100 * net / each:.0f} %), frequencies and coder {each - net:.2f}")  # fmt: skip
    if entry.members:
        learnt = (seconds["learn"] - seconds["encode"]) / tile[0].size * 1e6
        click.echo(f"{entry.name} learns: {learnt:.2f} us a pixel more")
    else:
        click.echo(f"{entry.name}, fit to an image: {seconds['fit']:.2f} s")


def _fastest(run: Callable[[], object]) -> float:
    """Seconds of the fastest of three runs, after one for warming up."""
    run()
    found = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return min(found)


def mosaic(folder: Path, width: int = 6000, height: int = 4000) -> reading.Planes:
    """A picture of 24 megapixels from the photographs of a folder, laid out in rows."""
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in {".png", ".webp"})
    out = np.zeros((3, height, width), np.uint8)
    y = number = 0
    while y < height:
        x = tallest = 0
        while x < width:
            data = reading.read(paths[number % len(paths)], strip=True).data[:, : height - y, : width - x]
            out[:, y : y + data.shape[1], x : x + data.shape[2]] = data[:3]
            x, tallest, number = x + data.shape[2], max(tallest, data.shape[1]), number + 1
        y += tallest
    return reading.Planes(out, "RGB")


@click.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--large", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Photographs for a mosaic."
)
@click.option(
    "--runs", default=PROCESS_RUNS, show_default=True, help="Runs of whole processes on IMAGES; the mosaic has one."
)
def main(images: tuple[Path, ...], large: Path | None, runs: int) -> None:
    """Measure speed and memory."""
    for path in images:
        planes = reading.read(path, strip=True)
        for effort in choice.EFFORTS:
            whole_processes(path, planes.height * planes.width, effort, runs)
            for threads in THREAD_COUNTS:
                in_process(path.name, planes, effort, runs, threads)
        for entry in registry.models_of_effort(planes.channels, "best"):
            time_by_part(planes, entry)
    if large:
        planes = mosaic(large)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "mosaic.png"
            path.write_bytes(writing.write_png(planes))
            for effort in choice.EFFORTS:
                whole_processes(path, planes.height * planes.width, effort, 1, warm_up=False)


if __name__ == "__main__":
    main()
