# SPDX-License-Identifier: MIT
"""Files of the command line: which ones, and where results go.

    names --collect--> sources --plan--> jobs --cli_work.run--> outcomes, in the order of the jobs

Nothing here prints. Heavy modules load inside functions, so that ``gmcodec --help`` is instant.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from gmcodec.errors import OutputExistsError
from gmcodec.files import temporary_beside
from gmcodec.image.modes import MODES_BY_ID, PRINT_MODES

STDIO = "-"
OS_ERROR = 12  # exit code for what the operating system refuses
SUFFIX = ".gmc"
IMAGE_SUFFIXES = frozenset(
    ".png .apng .jpg .jpeg .jpe .jfif .tif .tiff .bmp .dib .gif .ppm .pgm .pbm .pnm .webp .jp2 .j2k .jpx .jpf "
    ".qoi .sgi .rgb .rgba .bw .pcx .avif .tga .icb .vda .vst .heic .heif .hif .jxl".split()
)
FORMATS = {  # of decompress: suffix of the output -> format
    ".png": "png", ".tiff": "tiff", ".tif": "tiff", ".ppm": "ppm", ".pgm": "ppm", ".pbm": "ppm", ".pnm": "ppm",
    ".bmp": "bmp", ".webp": "webp",
}  # fmt: skip


# -- which files -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """An input; ``path`` is None for standard input, ``relative`` its place below an output folder."""

    path: Path | None
    relative: Path

    @property
    def name(self) -> str:
        return "stdin" if self.path is None else shown(self.path)


@dataclass
class Found:
    """Inputs in order, and what was met in folders but is none: path and reason."""

    sources: list[Source] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    collisions: list[OutputExistsError] = field(default_factory=list)  # sources whose place another one has
    errors: list[OSError] = field(default_factory=list)
    from_folder: bool = False


def shown(path: Path | str) -> str:
    """A file name that every terminal can print."""
    return click.format_filename(path)


def reason_not_image(path: Path) -> str | None:
    """Why a file met in a folder is not compressed, judged by its name; None if it is."""
    if path.suffix.lower() == SUFFIX:
        return f"already {SUFFIX}"
    return None if path.suffix.lower() in IMAGE_SUFFIXES else "not an image"


def reason_not_gmc(path: Path) -> str | None:
    return None if path.suffix.lower() == SUFFIX else f"not a {SUFFIX} file"


def collect(names: Sequence[str], recursive: bool, reason: Callable[[Path], str | None]) -> Found:
    """Inputs that the names stand for.  UsageError for a folder without -r, or - beside others."""
    found = Found()
    if STDIO in names and len(names) > 1:
        raise click.UsageError("- (standard input) must be the only input")
    for name in names:
        path = Path(name)
        if name == STDIO:
            found.sources.append(Source(None, Path(STDIO)))
        elif not path.is_dir():
            found.sources.append(Source(path, Path(path.name)))
        elif recursive:
            found.from_folder = True
            _walk(path, reason, found)
        else:
            raise click.UsageError(f"{shown(path)} is a directory: add -r for all files below it")
    return found


def _walk(root: Path, reason: Callable[[Path], str | None], found: Found) -> None:
    # linked folders are not entered: links may form a loop
    for folder, folders, files in os.walk(root, followlinks=False, onerror=found.errors.append):
        folders.sort()
        here = Path(folder)
        found.skipped += [(shown(here / f), "a link to a directory") for f in folders if (here / f).is_symlink()]
        for path in (here / file for file in sorted(files)):
            why = reason(path) if path.is_file() else "not a regular file"
            if why is None:
                found.sources.append(Source(path, path.relative_to(root)))
            else:
                found.skipped.append((shown(path), why))


# -- where results go ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    """What the commands were asked for.  ``max_pixels``: None for the default, 0 for no limit.

    ``jobs`` are at work at a time; ``threads`` of each: None for a fair share of the processors.
    """

    code: str = "auto"
    effort: str = "default"
    strip: bool = False
    strict: bool = False
    first: bool = False
    threads: int | None = None
    jobs: int = 1
    max_pixels: int | None = None
    verify: bool = False
    delete: bool = False
    force: bool = False
    keep_suffix: bool = False
    skip_existing: bool = False
    times: bool = True
    format: str = ""  # of decompress; "": what suits the image
    json: bool = False
    verbose: bool = False


@dataclass(frozen=True)
class Job:
    """Work on one file; can be sent to another process.  ``output`` None: standard output, or none at all."""

    action: str
    source: Source
    options: Options
    output: Path | None = None
    temporary: Path | None = None  # beside the output, renamed to it once complete
    make_folders: bool = False
    state: os.stat_result | None = None  # of the source before the work, if it is a file


def gmc_name(path: Path, keep_suffix: bool = False) -> str:
    """photo.png -> photo.gmc, photo.v2 -> photo.v2.gmc; photo.png.gmc to keep the suffix."""
    drop = path.suffix.lower() in IMAGE_SUFFIXES and not keep_suffix
    return path.with_suffix(SUFFIX).name if drop else path.name + SUFFIX


def image_name(path: Path, format: str) -> str:
    """photo.gmc, photo.png.gmc -> photo.png; photo.jpg.gmc -> photo.jpg.png."""
    name = Path(without_suffix(path))
    return name.name if FORMATS.get(name.suffix.lower()) == format else f"{name}.{format}"


def without_suffix(path: Path) -> str:
    """photo.gmc -> photo, photo.png.gmc -> photo.png."""
    return path.stem if path.suffix.lower() == SUFFIX else path.name


SHORT = {"tiff": "tif"}  # what files of a format are called, if not like it


def format_for(mode: str) -> str:
    """The format that holds images of a mode exactly when nobody asks for another."""
    return "tiff" if mode in PRINT_MODES else "png"


def format_of(output: str | None, format: str | None) -> str:
    """The format of decompress from -o and --format; "" when they leave it to the image (``format_for``).

    UsageError when they disagree or neither is lossless.
    """
    name = Path(output or "")
    if output in (None, STDIO) or not name.suffix or _is_folder(output or ""):
        return format or ""
    deduced = FORMATS.get(name.suffix.lower())
    if deduced is None and format is None:
        raise click.UsageError(f"{name.suffix} is not a lossless format of decompress; choose one with --format")
    if format and deduced not in (None, format):
        raise click.UsageError(f"-o {shown(name)} does not fit --format {format}")
    return format or deduced or ""


def format_of_source(source: Source) -> str:
    """The format that holds the image of a .gmc file, by the file's first bytes."""
    try:
        with open(source.path or os.devnull, "rb") as file:
            head = file.read(5)
    except OSError:
        head = b""  # what is wrong with it will be said when it is read
    mode = MODES_BY_ID.get(head[4] & 31) if head[:3] == b"gmc" and len(head) == 5 else None
    return format_for(mode.name if mode else "")


def plan(action: str, found: Found, output: str | None, name: Callable[[Source], str], options: Options) -> list[Job]:
    """Jobs with their outputs; of several with one output the first, the others become errors.

    name    what the output of a source is called

    UsageError when the places are not clear.
    """
    sources = found.sources
    if not sources:
        return []
    if output == STDIO or (output is None and sources[0].path is None):
        if len(sources) > 1:
            raise click.UsageError("standard output holds one file, not several")
        if options.delete:
            raise click.UsageError("--delete needs an output file that can be read back")
        return [Job(action, sources[0], options)]
    folder = None
    if output is not None and (found.from_folder or _is_folder(output)):
        folder = Path(output)
    elif output is not None and len(sources) > 1:
        raise click.UsageError(f"several inputs need a directory: -o {shown(output)}/")
    jobs: dict[str, Job] = {}
    for source in sources:
        if source.path is None and folder is not None:
            raise click.UsageError("standard input has no name: give -o a file name")
        if folder is not None:
            place = folder / source.relative.with_name(name(source))
        elif output is not None:
            place = Path(output)
        else:
            assert source.path is not None
            place = source.path.with_name(name(source))
        if source.path is not None and place.exists() and source.path.exists() and place.samefile(source.path):
            raise click.UsageError(f"{source.name} would be replaced by its own result")
        temporary = temporary_beside(place)
        job = Job(action, source, options, place, temporary, folder is not None)
        other = jobs.setdefault(os.path.realpath(place), job)
        if other is not job and os.path.realpath(other.source.path or "") != os.path.realpath(source.path or ""):
            keep = action == "compress" and not options.keep_suffix
            help = "--keep-suffix keeps them apart" if keep else "-o names another place"
            found.collisions.append(OutputExistsError(
                f"{source.name}: would be written to {shown(place)}, as {other.source.name} is; {help}"
            ))  # fmt: skip
    return list(jobs.values())


def plan_maps(found: Found, output: str, options: Options) -> list[Job]:
    """Jobs of info that draw what pixels cost into a PNG file, or a folder.  UsageError when the place is not clear."""
    if output == STDIO:
        raise click.UsageError("--map needs a file: standard output is for what info says")
    folder = _is_folder(output)
    if not folder and (found.from_folder or len(found.sources) > 1):
        raise click.UsageError(f"several inputs need a directory: --map {shown(output)}/")
    if folder and any(source.path is None for source in found.sources):
        raise click.UsageError("standard input has no name: give --map a file name")
    if not folder and Path(output).suffix.lower() != ".png":
        raise click.UsageError(f"the picture of --map is a PNG file: {shown(output)}.png, or {shown(output)}/")
    return plan("info", found, output, lambda source: f"{without_suffix(source.relative)}.bits.png", options)


def _is_folder(output: str) -> bool:
    return output.endswith(("/", os.sep)) or os.path.isdir(output)
