# SPDX-License-Identifier: MIT
"""What --skip-existing takes for done: outputs of a run that was cut off, told by their headers.

Whether the pixels are the same only decoding would print_stderr; the command ``verify`` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gmcodec.cli.paths import Job, printable
from gmcodec.errors import GmcError, OutputExistsError

if TYPE_CHECKING:
    from gmcodec.formats.gmc import Header


def is_done(job: Job) -> bool:
    """Whether the output exists already.  Raises OutputExistsError if it cannot come from the job's source."""
    if job.output is None or not job.output.is_file():
        return False
    why = (_not_compressed if job.action == "compress" else _not_decompressed)(job)
    if why:
        raise OutputExistsError(f"{printable(job.output)} exists, but {why}; --force overwrites it")
    return True


def _not_compressed(job: Job) -> str | None:
    """Why the output cannot be the source's .gmc file; None if it can."""
    from gmcodec.image.reading import read_size

    source, output = job.source.path, job.output
    assert output is not None
    if source is None:
        return "cannot be compared with standard input"
    if source.stat().st_mtime_ns > output.stat().st_mtime_ns:
        return "is older than its source"
    try:
        header = _header(output.read_bytes())
    except GmcError as error:
        return f"is no complete .gmc file ({error})"
    found = (header.near.most, header.near.alpha) if header.near else (0, False)
    if found != (job.options.near, job.options.near_alpha):
        return f"its samples may differ by {found[0]}, not by {job.options.near}"
    return _differs(read_size(source.read_bytes()), (header.width, header.height))


def _not_decompressed(job: Job) -> str | None:
    """Why the output cannot be the source's image; None if it can."""
    if job.source.path is None:
        return "cannot be compared with standard input"
    from gmcodec.image.reading import read_size

    assert job.output is not None
    header = _header(job.source.path.read_bytes())
    try:
        size = read_size(job.output.read_bytes())
    except GmcError as error:
        return f"is no image ({error})"
    return _differs((header.width, header.height), size)


def _header(raw: bytes) -> Header:
    from gmcodec.formats import gmc

    return gmc.unpack(raw, max_pixels=None)


def _differs(source: tuple[int, int], output: tuple[int, int]) -> str | None:
    if sorted(source) == sorted(output):  # reading may rotate a TIFF
        return None
    return "has {}x{} pixels, its source {}x{}".format(*output, *source)
