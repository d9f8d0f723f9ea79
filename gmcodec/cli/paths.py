# SPDX-License-Identifier: MIT
"""Files of the command line: the inputs that the arguments name, and where results go.

    names --collect--> sources --plan--> jobs --jobs.run--> outcomes, in the order of the jobs

Nothing here prints.  Heavy modules load inside functions, so that ``gmcodec --help`` is instant.
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
OS_ERROR = 12  # exit code for errors of the operating system
SUFFIX = ".gmc"
IMAGE_SUFFIXES = frozenset(
    ".png .apng .jpg .jpeg .jpe .jfif .tif .tiff .bmp .dib .gif .ppm .pgm .pbm .pnm .webp .jp2 .j2k .jpx .jpf "
    ".qoi .sgi .rgb .rgba .bw .pcx .avif .tga .icb .vda .vst .heic .heif .hif .jxl".split()
)
FORMAT_BY_SUFFIX = {  # formats that decompress writes, by the suffix of the output
    ".png": "png", ".tiff": "tiff", ".tif": "tiff", ".ppm": "ppm", ".pgm": "ppm", ".pbm": "ppm", ".pnm": "ppm",
    ".bmp": "bmp", ".webp": "webp",
}  # fmt: skip


# -- which files -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """An input.  ``path`` is None for standard input; ``relative`` is its path below the folder that was given."""

    path: Path | None
    relative: Path

    @property
    def name(self) -> str:
        """The input in messages."""
        return "stdin" if self.path is None else printable(self.path)


@dataclass
class Inputs:
    """The inputs in order, and the files of folders that are none of them."""

    sources: list[Source] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)  # path and reason
    collisions: list[OutputExistsError] = field(default_factory=list)  # sources with the output of another source
    errors: list[OSError] = field(default_factory=list)
    from_folder: bool = False


def printable(path: Path | str) -> str:
    """A file name that every terminal can print."""
    return click.format_filename(path)


def reason_not_image(path: Path) -> str | None:
    """Why compress skips a file of a folder, judged by its name; None if it does not."""
    if path.suffix.lower() == SUFFIX:
        return f"already {SUFFIX}"
    return None if path.suffix.lower() in IMAGE_SUFFIXES else "not an image"


def reason_not_gmc(path: Path) -> str | None:
    """Why the commands on .gmc files skip a file of a folder, judged by its name; None if they do not."""
    return None if path.suffix.lower() == SUFFIX else f"not a {SUFFIX} file"


def collect(names: Sequence[str], recursive: bool, reason: Callable[[Path], str | None]) -> Inputs:
    """The inputs for the arguments ``names``: files, with ``recursive`` also all files of folders, or "-".

    Raises UsageError for a folder without ``recursive``, and for "-" together with others.
    """
    inputs = Inputs()
    if STDIO in names and len(names) > 1:
        raise click.UsageError("- (standard input) must be the only input")
    for name in names:
        path = Path(name)
        if name == STDIO:
            inputs.sources.append(Source(None, Path(STDIO)))
        elif not path.is_dir():
            inputs.sources.append(Source(path, Path(path.name)))
        elif recursive:
            inputs.from_folder = True
            _walk(path, reason, inputs)
        else:
            raise click.UsageError(f"{printable(path)} is a directory: add -r to take all files in it")
    return inputs


def _walk(root: Path, reason: Callable[[Path], str | None], inputs: Inputs) -> None:
    # links to folders are not followed, because they may form a loop
    for folder, folders, files in os.walk(root, followlinks=False, onerror=inputs.errors.append):
        folders.sort()
        here = Path(folder)
        inputs.skipped += [(printable(here / f), "a link to a directory") for f in folders if (here / f).is_symlink()]
        for path in (here / file for file in sorted(files)):
            why = reason(path) if path.is_file() else "not a regular file"
            if why is None:
                inputs.sources.append(Source(path, path.relative_to(root)))
            else:
                inputs.skipped.append((printable(path), why))


# -- where results go ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    """Options of the commands on files.

    max_pixels  None for the default, 0 for no limit
    jobs        number of files at a time
    threads     for each file; None divides the processors among the jobs
    """

    code: str = "auto"
    near: int = 0
    near_alpha: bool = False
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
    format: str = ""  # that decompress writes; "": the default format for the image
    json: bool = False
    verbose: bool = False


@dataclass(frozen=True)
class Job:
    """The work on one file, which can be pickled.  ``output`` is None for standard output, or if there is none."""

    action: str
    source: Source
    options: Options
    output: Path | None = None
    temporary: Path | None = None  # in the same folder as the output, and renamed to it when complete
    make_folders: bool = False
    state: os.stat_result | None = None  # of the source before the work, if it is a regular file


def gmc_name(path: Path, keep_suffix: bool = False) -> str:
    """Name of a .gmc file: photo.png -> photo.gmc, photo.v2 -> photo.v2.gmc, with ``keep_suffix`` photo.png.gmc."""
    drop = path.suffix.lower() in IMAGE_SUFFIXES and not keep_suffix
    return path.with_suffix(SUFFIX).name if drop else path.name + SUFFIX


def image_name(path: Path, format: str) -> str:
    """Name of a decoded image: photo.gmc, photo.png.gmc -> photo.png; photo.jpg.gmc -> photo.jpg.png."""
    name = Path(without_suffix(path))
    return name.name if FORMAT_BY_SUFFIX.get(name.suffix.lower()) == format else f"{name}.{format}"


def without_suffix(path: Path) -> str:
    """photo.gmc -> photo, photo.png.gmc -> photo.png."""
    return path.stem if path.suffix.lower() == SUFFIX else path.name


UNPACKED_SUFFIX = {"tiff": "tif"}  # suffixes of unpacked files that differ from the name of their format


def default_format(mode: str) -> str:
    """The format of decoded images of a mode, if no other is asked for."""
    return "tiff" if mode in PRINT_MODES else "png"


def chosen_format(output: str | None, format: str | None) -> str:
    """The format that -o and --format choose; "" if they leave it to the image (``default_format``).

    Raises UsageError if they disagree, or if -o has the suffix of no lossless format.
    """
    name = Path(output or "")
    if output in (None, STDIO) or not name.suffix or _is_folder(output or ""):
        return format or ""
    deduced = FORMAT_BY_SUFFIX.get(name.suffix.lower())
    if deduced is None and format is None:
        raise click.UsageError(f"decompress cannot write {name.suffix} losslessly; choose a format with --format")
    if format and deduced not in (None, format):
        raise click.UsageError(f"-o {printable(name)} does not fit --format {format}")
    return format or deduced or ""


def default_format_of_file(source: Source) -> str:
    """The default format for the image of a .gmc file, by the file's first bytes."""
    try:
        with open(source.path or os.devnull, "rb") as file:
            head = file.read(5)
    except OSError:
        head = b""  # reading the file will give the error
    mode = MODES_BY_ID.get(head[4] & 31) if head[:3] == b"gmc" and len(head) == 5 else None
    return default_format(mode.name if mode else "")


def plan(action: str, inputs: Inputs, output: str | None, name: Callable[[Source], str], options: Options) -> list[Job]:
    """The jobs for all inputs.  If several have the same output, the first one gets it and the others become errors.

    output  the argument of -o: a file, a folder, "-", or None for the folder of each source
    name    gives the name of a source's output

    Raises UsageError if outputs cannot be determined.
    """
    sources = inputs.sources
    if not sources:
        return []
    if output == STDIO or (output is None and sources[0].path is None):
        if len(sources) > 1:
            raise click.UsageError("standard output can take one file only")
        if options.delete:
            raise click.UsageError("--delete needs an output file that can be read back")
        return [Job(action, sources[0], options)]
    folder = None
    if output is not None and (inputs.from_folder or _is_folder(output)):
        folder = Path(output)
    elif output is not None and len(sources) > 1:
        raise click.UsageError(f"several inputs need a directory: -o {printable(output)}/")
    jobs: dict[str, Job] = {}
    for source in sources:
        target = _target(source, folder, output, name(source))
        job = Job(action, source, options, target, temporary_beside(target), folder is not None)
        other = jobs.setdefault(os.path.realpath(target), job)
        if other is not job and os.path.realpath(other.source.path or "") != os.path.realpath(source.path or ""):
            keep = action == "compress" and not options.keep_suffix
            help = "--keep-suffix keeps them apart" if keep else "-o names another place"
            inputs.collisions.append(OutputExistsError(
                f"{source.name}: would be written to {printable(target)}, as {other.source.name} is; {help}"
            ))  # fmt: skip
    return list(jobs.values())


def plan_maps(inputs: Inputs, output: str, options: Options) -> list[Job]:
    """Jobs of ``info`` that draw the bits of each pixel into a PNG file or into a folder.  Raises UsageError."""
    if output == STDIO:
        raise click.UsageError("--map needs a file, because standard output shows the other information")
    folder = _is_folder(output)
    if not folder and (inputs.from_folder or len(inputs.sources) > 1):
        raise click.UsageError(f"several inputs need a directory: --map {printable(output)}/")
    if folder and any(source.path is None for source in inputs.sources):
        raise click.UsageError("standard input has no name: give --map a file name")
    if not folder and Path(output).suffix.lower() != ".png":
        shown = printable(output)
        raise click.UsageError(f"the picture of --map is a PNG file: {shown}.png, or {shown}/")
    return plan("info", inputs, output, lambda source: f"{without_suffix(source.relative)}.bits.png", options)


def _target(source: Source, folder: Path | None, output: str | None, name: str) -> Path:
    """The output of a source.  Raises UsageError if there is none, or if it is the source itself."""
    if folder is not None:
        if source.path is None:
            raise click.UsageError("standard input has no name: give -o a file name")
        target = folder / source.relative.with_name(name)
    elif output is not None:
        target = Path(output)
    else:
        assert source.path is not None
        target = source.path.with_name(name)
    if source.path is not None and target.exists() and source.path.exists() and target.samefile(source.path):
        raise click.UsageError(f"{source.name} would be replaced by its own result")
    return target


def _is_folder(output: str) -> bool:
    return output.endswith(("/", os.sep)) or os.path.isdir(output)
