# SPDX-License-Identifier: MIT
"""``gmcodec doctor``: the versions of this installation, its speed, and a small image coded with every model."""

from __future__ import annotations

import os
import time

import click

from gmcodec import __version__
from gmcodec.cli.models import show_models
from gmcodec.errors import NativeError, WeightsError

ROWS, WIDTH = 1024, 160  # of the matrix products that are timed
SECONDS = 0.1


@click.command()
def doctor() -> None:
    """Show versions and speed, and code a small image with every model and instruction set."""
    from gmcodec import native

    _show_versions()
    sets = native.isas()
    click.echo(f"native core  {native.core().isa}, of {', '.join(sets)}")
    for isa in sets:
        click.echo(f"  {isa:12} {products_per_second(isa) / 1e9:.0f} billion products a second in one thread")
    show_models()
    same, missing = _try_coding(sets)
    if missing:
        raise WeightsError(f"no weights for {', '.join(missing)}: images that need them cannot be coded")
    if not same:
        raise NativeError("not all instruction sets give the same files here; see above")
    click.echo("all is well")


def _show_versions() -> None:
    import platform
    from importlib import metadata

    from gmcodec.codec import available_threads

    click.echo(f"gmcodec {__version__}, Python {platform.python_version()}, {platform.platform()}, "
               f"{available_threads()} processors")  # fmt: skip
    for package in ("numpy", "constriction", "pillow", "safetensors", "torch"):
        try:
            click.echo(f"{package:12} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            click.echo(f"{package:12} not installed" + (" (only training needs it)" if package == "torch" else ""))


def products_per_second(isa: str) -> float:
    """Speed of matrix products of int16 in one thread, multiplications per second."""
    import numpy as np

    from gmcodec import native
    from gmcodec.exact.ops import Layer

    random, ones = np.random.default_rng(0), np.ones(WIDTH, np.int32)
    weight = random.integers(-60, 61, (WIDTH, WIDTH)).astype(np.int16)
    layer = native.core(isa).layer(Layer(weight, ones, ones, ones, 2047))
    x = random.integers(-2047, 2048, (ROWS, WIDTH)).astype(np.int16)
    layer.sums(x)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        layer.sums(x)
        count += 1
    return ROWS * WIDTH * WIDTH * count / (time.perf_counter() - start)


def _try_coding(sets: list[str]) -> tuple[bool, list[str]]:
    """Code an image with every model and instruction set.

    Returns whether all sets give the same file and the same image, and the models that are not installed.
    """
    import numpy as np

    from gmcodec import codec, native
    from gmcodec.models import registry

    missing, same, saved = [], True, os.environ.get(native.ISA_VARIABLE)
    wave = (120 + 100 * np.sin(np.arange(48 * 40 * 3).reshape(48, 40, 3) / 37)).astype(np.uint8)
    row = f"round trip   {{:{max(len(e.name) for e in registry.ENTRIES)}}} {{:{max(map(len, sets))}}} {{:>6}} bytes"
    for entry in registry.ENTRIES:
        side = 48 if entry.max_pixels is None else 12  # models for small images are slow
        image = wave[:side, :side, : entry.channels]
        planes, files = codec.to_planes(image if entry.depth == 8 else image * np.uint16(97)), set()
        try:
            for isa in sets:
                os.environ[native.ISA_VARIABLE], start = isa, time.perf_counter()
                files.add(data := codec.encode_planes(planes, code=entry.name, threads=1).data)
                good = codec.decode_planes(data, threads=1) == planes and len(files) == 1
                same = same and good
                seconds = time.perf_counter() - start
                verdict = "same file, same pixels" if good else "DIFFERENT"
                click.echo(f"{row.format(entry.name, isa, len(data))}  {seconds:5.2f} s  {verdict}")
        except WeightsError:
            missing.append(entry.name)
        finally:
            os.environ.pop(native.ISA_VARIABLE, None)
            os.environ.update({native.ISA_VARIABLE: saved} if saved else {})
    return same, missing
