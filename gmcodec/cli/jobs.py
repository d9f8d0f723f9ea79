# SPDX-License-Identifier: MIT
"""The work of the command line on each file, one after the other or in several processes.

Nothing here prints.  Heavy modules load inside functions, so that ``gmcodec --help`` is instant.
"""

from __future__ import annotations

import functools
import json
import logging
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmcodec.cli.paths import OS_ERROR, Job, Options, default_format, printable
from gmcodec.errors import GmcError, NotAGmcFileError, NotKeptError, OutputExistsError, UnsupportedImageError
from gmcodec.files import attributes, copy_attributes, naming, write_then_rename
from gmcodec.progress import Progress
from gmcodec.threads import interruptible

if TYPE_CHECKING:
    from gmcodec.image.planes import Planes


# -- reading and writing ---------------------------------------------------------------------------------


ARCHIVE_MAGIC = b"gma"  # the first bytes of an archive
STDOUT_NAME = "standard output"  # in errors, in place of a file's name


def _read(job: Job) -> bytes:
    return sys.stdin.buffer.read() if job.source.path is None else job.source.path.read_bytes()


def _refuse_archive(raw: bytes) -> None:
    if raw[:3] == ARCHIVE_MAGIC:
        raise NotAGmcFileError("is an archive: see gmcodec list, gmcodec unpack")


def refuse_to_overwrite(path: Path | None, force: bool) -> None:
    """Raise OutputExistsError for a directory, or without ``force`` for a file; devices and pipes are allowed."""
    if path is not None and (path.is_dir() or (path.is_file() and not force)):
        raise OutputExistsError(f"{printable(path)} exists" + ("" if path.is_dir() else "; --force overwrites it"))


def _naming_output(write: Callable[..., None]) -> Callable[..., None]:
    """Errors of the operating system while a result is written name the output, not the temporary file."""

    @functools.wraps(write)
    def named(job: Job, *rest: Any) -> None:
        with naming(STDOUT_NAME if job.output is None else job.output, job.temporary):
            write(job, *rest)

    return named


@_naming_output
def _write(job: Job, data: bytes, check: Callable[[bytes], None] | None = None) -> None:
    """Write a result to a temporary file, ``check`` what was written, and rename it; so no output is incomplete."""
    if job.output is None or job.temporary is None:
        if check:
            check(data)
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    if job.output.exists() and not job.output.is_file():  # a device or pipe: renaming would destroy it
        if job.options.delete:
            raise GmcError(f"{printable(job.output)} cannot be read back, so the source cannot be deleted")
        if check:
            check(data)
        job.output.write_bytes(data)
        return
    if job.make_folders:
        job.output.parent.mkdir(parents=True, exist_ok=True)
    output = job.output

    def finish(temporary: Path) -> None:
        if check:
            check(temporary.read_bytes())
        copy_attributes(job.state, temporary, job.options.times)
        refuse_to_overwrite(output, job.options.force)  # again, because the work took time

    private = 0o666 if job.state is None else 0o600
    with write_then_rename(output, permissions=private, temporary=job.temporary, before_rename=finish) as file:
        file.write(data)


def _source_state(job: Job) -> Any:
    """A value that changes when the source file does; None for standard input."""
    if job.source.path is None:
        return None
    state = job.source.path.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns


def _delete_source(job: Job, before: Any) -> None:
    if job.source.path is None:
        return
    if _source_state(job) != before:
        raise GmcError("changed while it was compressed or decompressed, so it is kept")
    job.source.path.unlink()


# -- the work on one file --------------------------------------------------------------------------------


def pixel_limit(options: Options) -> int | None:
    from gmcodec.image.modes import DEFAULT_MAX_PIXELS

    return DEFAULT_MAX_PIXELS if options.max_pixels is None else options.max_pixels or None


def _threads(options: Options) -> int:
    from gmcodec.codec import available_threads

    return options.threads or max(1, available_threads() // options.jobs)


def _compress(job: Job, progress: Progress) -> list[str]:
    from gmcodec import codec, effort
    from gmcodec.image import near_lossless

    options, before = job.options, _source_state(job)
    raw = _read(job)
    planes = codec.to_planes(raw, strip=options.strip, max_pixels=pixel_limit(options), first=options.first)
    lost = codec.losses(planes)
    if options.strict or not options.delete:  # with --delete the error below reports losses
        codec.report_losses(planes, options.strict)
    if options.code == "learned" and planes.mode not in effort.LEARNED_CHANNELS:
        raise UnsupportedImageError(f"there is no model for images of mode {planes.mode}; leave out --code")
    area = planes.width * planes.height
    progress.start("compressing", area)
    near = codec.near_of(options.near, options.near_alpha)
    encoded = codec.encode_planes(
        planes, code=options.code, effort=options.effort, threads=_threads(options), progress=progress, near=near
    )
    expected = near_lossless.rounded(planes, near) if near else planes

    def check(written: bytes) -> None:
        progress.start("verifying", area)
        if codec.decode_planes(written, threads=_threads(options), max_pixels=None, progress=progress) != expected:
            raise GmcError("does not decode to the same image, so nothing was written: please report this")

    _write(job, encoded.data, check if options.verify or options.delete else None)
    if options.delete and lost:
        raise NotKeptError(f"written, but the source is kept, because the result lacks this: {lost}")
    if options.delete:
        _delete_source(job, before)
    if len(encoded.data) > len(raw):
        lossy = " (a JPEG is lossy: its decoded pixels, kept exactly, take more)" if raw[:2] == b"\xff\xd8" else ""
        logging.getLogger("gmcodec").warning("the result is larger than the source%s", lossy)
    near_text = ""
    if near:
        largest, psnr = near_lossless.difference(planes, expected)
        near_text = f"; samples differ by at most {largest}, PSNR {psnr:.2f} dB"
    verified = ", verified" if options.verify or options.delete else ""
    return [_describe(encoded, planes, len(raw)) + near_text + verified]


def _describe(encoded: Any, planes: Planes, source_bytes: int) -> str:
    """Sizes of a result: file, model's own estimate, and the overhead, their difference."""
    size, estimate = len(encoded.data), encoded.estimated_bits / 8
    over = size - estimate
    percent = f" (+{100 * over / estimate:.2f}%)" if estimate else ""
    metadata = sum(len(value) for _, value in planes.metadata)
    return (
        f"{source_bytes} -> {size} bytes ({100 * size / source_bytes:.1f}% of the source), "
        f"{encoded.bits_per_dimension:.4f} bpd; estimate {encoded.estimated_bits / encoded.dimensions:.4f} bpd, "
        f"overhead {over:.1f} bytes{percent}{f', {metadata} of them metadata' if metadata else ''}; "
        + " + ".join(name for name, _, _ in encoded.parts)
    )


def _decompress(job: Job, progress: Progress) -> list[str]:
    from gmcodec.image import reading, writing

    before, options = _source_state(job), job.options
    raw = _read(job)
    planes = _decode(raw, job, progress)
    format = options.format or default_format(planes.mode)
    data, missing = writing.write(reading.strip(planes) if options.strip else planes, format)
    lost = f"{format.upper()} cannot hold {', '.join(missing)}"
    if missing and options.strict:
        raise NotKeptError(lost)
    if missing and not options.delete:
        logging.getLogger("gmcodec").warning("%s", lost)

    def check(written: bytes) -> None:
        if written != data:
            raise GmcError("differs from what was written when it is read back: please report this")

    _write(job, data, check if options.delete else None)
    if options.delete and missing:
        raise NotKeptError(f"written, but the source is kept: {lost}")
    if options.delete:
        _delete_source(job, before)
    return [f"{len(raw)} -> {len(data)} bytes, {planes.width}x{planes.height} {planes.mode}"]


def _decode(raw: bytes, job: Job, progress: Progress) -> Planes:
    from gmcodec import codec
    from gmcodec.formats import gmc

    _refuse_archive(raw)
    limit = pixel_limit(job.options)
    progress.start("decoding", gmc.unpack(raw, max_pixels=limit).pixels)
    return codec.decode_planes(raw, threads=_threads(job.options), max_pixels=limit, progress=progress)


def _verify(job: Job, progress: Progress) -> list[str]:
    raw = _read(job)
    if raw[:3] == ARCHIVE_MAGIC:
        return _verify_archive(raw, job, progress)
    _decode(raw, job, progress)
    return ["ok"]


def _verify_archive(raw: bytes, job: Job, progress: Progress) -> list[str]:
    from gmcodec.archive import Archive

    archive = Archive(raw, threads=_threads(job.options), max_pixels=pixel_limit(job.options))
    progress.start("decoding", sum(block.pixels * len(block.names) for block in archive.blocks))
    return [f"ok, {sum(1 for _ in archive.items(progress=progress))} images"]


def _info(job: Job, progress: Progress) -> list[str]:
    from gmcodec import codec

    _refuse_archive(raw := _read(job))
    said, lines = codec.info(raw), list[str]()
    if job.output is not None:
        said["map"], lines = _map(raw, job, progress)
    if job.options.json:
        return [json.dumps({"file": str(job.source.path or "-")} | said)]
    parts = [f"{p['code']}: {p['channels']} channels, {p['bytes']} bytes"
             + (f", weights {p['weights']}" if "weights" in p else "") for p in said["parts"]]  # fmt: skip
    metadata = ", ".join(f"{m['kind']} {m['bytes']} bytes" for m in said["metadata"]) or "none"
    return [
        job.source.name,
        f"  image     {said['width']}x{said['height']} {said['mode']}, {said['bit_depth']} bits per sample",
        *(
            [f"  near      samples may differ by {said['near']}{', alpha too' if said['near_alpha'] else ''}"]
            if said["near"]
            else []
        ),
        f"  size      {said['bytes']} bytes, {said['bits_per_dimension']:.4f} bits per dimension",
        *(f"  part      {part}" for part in parts),
        f"  metadata  {metadata}",
        f"  header    {said['header_bytes']} bytes",
        f"  format    version {said['format_version']}, CRC-32 of the pixels {said['pixels_crc32']}",
        *lines,
    ]


def _map(raw: bytes, job: Job, progress: Progress) -> tuple[dict[str, Any], list[str]]:
    """Draw what pixels cost into the job's output; what is to be said of it, as plain values and in lines."""
    from gmcodec import costs
    from gmcodec.formats import gmc

    limit = pixel_limit(job.options)
    progress.start("decoding", 2 * gmc.unpack(raw, max_pixels=limit).pixels)
    found = costs.cost_map(raw, threads=_threads(job.options), max_pixels=limit, progress=progress)
    drawn, notes = costs.picture(found), costs.spread_evenly(raw)
    _write(job, drawn.png())
    name = printable(job.output or "")
    values = {"file": str(job.output), "white": drawn.end, "mean": drawn.mean, "most": drawn.most, "spread": notes}
    return values, [f"  map       {name}: {drawn.scale}", *(f"            {note}" for note in notes)]


ACTIONS = {"compress": _compress, "decompress": _decompress, "verify": _verify, "info": _info}


# -- all files -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """The result of a job: lines to print, or the error and its exit code."""

    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    error: str | None = None
    code: int = 0
    skipped: bool = False


@contextmanager
def log_to(receive: Callable[[str], Any], verbose: bool) -> Iterator[None]:
    """Within the block ``receive`` gets the warnings of the package's log, with ``verbose`` all messages."""
    least = logging.DEBUG if verbose else logging.WARNING
    log, handler = logging.getLogger("gmcodec"), logging.Handler(least)
    handler.emit = lambda record: receive(one_line(record.getMessage()))  # type: ignore[method-assign]
    level = log.level
    log.addHandler(handler)
    log.setLevel(least)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def one_line(text: object) -> str:
    """A message without line breaks."""
    return " ".join(str(text).split())


def failure(error: Exception, path: Path | None = None) -> tuple[str, int]:
    """Message in one line, and exit code, of an error that a user can meet; the message does not name ``path``."""
    if isinstance(error, GmcError):
        return one_line(error), error.exit_code
    if isinstance(error, OSError):
        about = (
            "" if error.filename is None or error.filename in (path, str(path)) else f": {printable(error.filename)}"
        )
        return one_line((error.strerror or error) if error.errno else error) + about, OS_ERROR
    return "not enough memory", 1


def _is_done(job: Job) -> bool:
    from gmcodec.cli import resume

    return resume.is_done(job)


def attempt(job: Job, progress: Progress | None = None) -> Outcome:
    """Do a job; errors that a user can meet become part of the outcome."""
    warnings: list[str] = []
    with log_to(warnings.append, job.options.verbose):
        try:
            if job.options.skip_existing and _is_done(job):
                return Outcome(skipped=True)
            refuse_to_overwrite(job.output, job.options.force)
            job = replace(job, state=attributes(job.source.path))
            return Outcome(ACTIONS[job.action](job, progress or Progress()), warnings)
        except BrokenPipeError:
            raise
        except (GmcError, OSError, MemoryError) as error:
            message, code = failure(error, job.source.path)
            return Outcome([], warnings, message, code)


def run(jobs: Sequence[Job], workers: int, progress: Progress) -> Generator[Outcome, None, None]:
    """Outcomes in the order of the jobs.  If ``workers`` is more than one, this many processes work.

    After a signal no temporary files are left.
    """
    workers = min(workers, len(jobs))
    jobs = [replace(job, options=replace(job.options, jobs=workers)) for job in jobs]  # workers share the threads
    if workers > 1:
        yield from _run_processes(jobs, workers)
        return
    for job in jobs:
        yield _attempt_here(job, progress)


def _attempt_here(job: Job, progress: Progress) -> Outcome:
    """``attempt`` in another thread, so that signals end it at once."""
    try:
        return interruptible(lambda: attempt(job, progress), progress)
    except BaseException:
        if job.temporary is not None:
            job.temporary.unlink(missing_ok=True)
        raise


def _run_processes(jobs: Sequence[Job], workers: int) -> Generator[Outcome, None, None]:
    from gmcodec.cli.workers import run_in_processes

    for outcome in run_in_processes(attempt, [(job, job.temporary) for job in jobs], workers):
        yield outcome or Outcome(error="a worker process died, perhaps for lack of memory", code=1)
