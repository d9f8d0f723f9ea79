# SPDX-License-Identifier: MIT
"""The commands on archives: pack, unpack, list.  cli/main.py adds them to ``gmcodec``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gmcodec.cli import jobs
from gmcodec.cli import paths as cli_files
from gmcodec.cli.console import (
    NUMBER,
    ProgressBar,
    effort_option,
    known_model,
    report_skipped,
    say_error,
    tell,
    times_option,
    together,
)
from gmcodec.cli.paths import Options, shown
from gmcodec.errors import GmcError, MemberNameError
from gmcodec.files import naming, set_times, write_then_rename
from gmcodec.progress import Progress
from gmcodec.threads import interruptible

if TYPE_CHECKING:
    from gmcodec.archive import Archive, Packed
    from gmcodec.formats.gma import Attributes

EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
working = together(
    click.option("--threads", type=NUMBER, metavar="N", help="Threads  [default: all]."),
    click.option("--max-pixels", type=click.IntRange(min=0), metavar="N",
                 help="Refuse images of more pixels; 0 lifts the limit."),
    times_option,
    click.option("-f", "--force", is_flag=True, help="Overwrite outputs."),
    click.option("-q", "--quiet", is_flag=True, help="Show errors and warnings only."),
)  # fmt: skip


class ArchiveProgress(Progress):
    """Images on a progress bar, errors on standard error; ``code`` is the exit code of the first."""

    def __init__(self, bar: ProgressBar) -> None:
        super().__init__(bar)
        self.bar, self.code, self.failures, self.now = bar, 0, 0, ""

    def images(self, count: int) -> None:
        for _ in range(count):
            self.bar.file_done()

    def failed(self, names: Sequence[str], error: GmcError | OSError) -> None:
        message, code = jobs.failure(error, Path(self.now) if self.now else None)
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        self.bar.say(f"gmcodec: {self.now or shown(names[0])}{more}: {message}", err=True)
        self.code, self.failures = self.code or code, self.failures + len(names)

    def warn(self, text: str) -> None:
        """A warning about the image at hand."""
        self.bar.say(f"gmcodec: {f'{self.now}: ' if self.now else ''}warning: {text}", err=True)


@contextmanager
def _shown_progress(images: int, quiet: bool) -> Iterator[ArchiveProgress]:
    """A bar and the package's warnings meanwhile; afterwards the exit code of the first failure, if any."""
    bar = ProgressBar(images, quiet)
    progress = ArchiveProgress(bar)
    try:
        with (
            closing(bar),
            jobs.log_to(progress.warn, verbose=False),
        ):
            yield progress
    except GmcError as error:
        if not progress.code:
            raise
        say_error(f"error: {jobs.one_line(error)}")
    if progress.code:
        click.get_current_context().exit(progress.code)


# -- pack and unpack -------------------------------------------------------------------------------------


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE|FOLDER...")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The archive, NAME.gma.")
@click.option("--append", is_flag=True, help="Add to the archive if it exists.")
@click.option("--strip", is_flag=True, help="Drop ICC, EXIF, XMP, text, DPI and gamma.")
@click.option("--first", is_flag=True, help="Of several frames or pages take the first.")
@click.option("--strict", is_flag=True, help="Leave out images of which something would not be kept.")
@click.option("--model", metavar="NAME", callback=known_model,
              help="Model of small images, see gmcodec models  [default: the best].")  # fmt: skip
@effort_option
@working
def pack(files: Sequence[str], output: Path, append: bool, strip: bool, first: bool, strict: bool,
         model: str | None, effort: str, threads: int | None, max_pixels: int | None, times: bool, force: bool,
         quiet: bool) -> None:  # fmt: skip
    """Pack images, and all images below folders, into one archive.

    Small images (up to 128x128 pixels, grey or RGB, without metadata) of equal size are coded together; all others
    as compress does. Names are paths below the folders given. All files that are left out are named, with the reason.
    Permissions and, without --no-times, times go along; nobody may read the archive who could not read all its images.
    The bpd reported is that of the whole archive; estimate: the model's own.
    """
    if cli_files.STDIO in files or str(output) == cli_files.STDIO:
        raise click.UsageError("an archive is made of files, and is one: - will not do")
    found = cli_files.collect(files, True, cli_files.reason_not_image)
    paths = _named(found)
    if not paths and not found.errors:
        tell("nothing to do: no suitable files found")
        return
    from gmcodec import archive

    if not quiet:
        report_skipped(found, None)
    limit = jobs.pixel_limit(Options(max_pixels=max_pixels))
    with _shown_progress(len(paths), quiet) as progress:
        for error in found.errors:
            progress.failed([str(error.filename)], error)

        def sources() -> Iterator[tuple[str, Path]]:
            for name, path in paths.items():
                progress.now = shown(path)
                yield name, path
            progress.now = ""

        packed = archive.pack(
            sources(), output, model=model, effort=effort, strip=strip, first=first, strict=strict, times=times,
            append=append, force=force, threads=threads, max_pixels=limit, progress=progress,
        )  # fmt: skip
        for line in _describe(packed) if not quiet else ():
            progress.bar.say(f"{shown(output)}: {line}", err=False)
        if progress.failures:
            progress.bar.say(f"gmcodec: {progress.failures} of {len(paths)} images are NOT in the archive", err=True)


def _named(found: cli_files.Found) -> dict[str, Path]:
    """Names of the members and their files.  UsageError when two files would have one name."""
    paths: dict[str, Path] = {}
    for source in found.sources:
        assert source.path is not None
        name = source.relative.as_posix()
        if (other := paths.setdefault(name, source.path)) is not source.path:
            raise click.UsageError(f"{shown(other)} and {source.name} would both be called {shown(name)}: "
                                   "pack a folder that holds both")  # fmt: skip
    return paths


def _describe(packed: Packed) -> list[str]:
    """What pack did: sizes, and where the bytes beyond the model's estimate went."""
    p = packed
    over = p.added_bytes - p.estimated_bits / 8
    lines = [
        f"{p.images} images -> {p.added_bytes} bytes, {8 * p.added_bytes / p.added_dimensions:.4f} bpd; "
        f"estimate {p.estimated_bits / p.added_dimensions:.4f} bpd, overhead {over:.1f} bytes "
        f"({over / p.images:.2f} an image, {p.index_bytes / p.images:.2f} of them the index)",
        f"{p.grouped} in {p.groups} group{'s' * (p.groups != 1)}, {p.images - p.grouped} alone"
        + (f", {p.with_metadata} of them small but with metadata (--strip drops it)" if p.with_metadata else ""),
    ]
    if p.added_bytes != p.bytes:
        lines.append(f"now {p.bytes} bytes, {p.bits_per_dimension:.4f} bpd")
    return lines


@click.command()
@click.argument("archive", type=EXISTING)
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Where to  [default: a folder beside the archive, named like it].")  # fmt: skip
@working
def unpack(archive: Path, names: Sequence[str], output: Path | None, threads: int | None, max_pixels: int | None,
           times: bool, force: bool, quiet: bool) -> None:  # fmt: skip
    """Restore all images of an archive, or those of the NAMEs (of images, or of folders in it), as PNG.

    Images that PNG cannot hold become TIFF. The images have the permissions of those that were packed, as far as the
    umask grants them, and their times.
    """
    if output is None and not archive.suffix:
        raise click.UsageError(f"name the folder to unpack {shown(archive)} to with -o")
    folder = archive.with_suffix("") if output is None else output
    from gmcodec.image import writing

    with naming(archive), _opened(archive, threads, max_pixels) as opened:
        wanted = _selected(opened.names, names)
        formats = {member.name: cli_files.format_for(member.mode) for member in opened.members}
        places = {name: folder / place for name, place in place_names(formats).items() if name in wanted}
        for place in places.values():
            jobs.refuse_to_overwrite(place, force)
        with _shown_progress(len(wanted), quiet) as progress:
            for name, planes in opened.items(wanted, progress=progress):
                progress.now = shown(name)
                data, lost = interruptible(partial(writing.write, planes, formats[name]), progress.bar)
                if lost:
                    progress.warn(f"{formats[name].upper()} cannot hold {', '.join(lost)}")
                _write(places[name], data, force, opened.attributes(name), times)
                progress.now = ""
            if not quiet:
                progress.bar.say(f"{shown(folder)}: {len(wanted) - progress.failures} images", err=False)


def _opened(path: Path, threads: int | None, max_pixels: int | None) -> Archive:
    from gmcodec.archive import Archive

    return Archive(path, threads=threads, max_pixels=jobs.pixel_limit(Options(max_pixels=max_pixels)))


def _selected(have: Iterable[str], names: Sequence[str]) -> set[str]:
    """Members that the names stand for, all if there are none.  MemberNameError for a name that fits nothing."""
    have, wanted = list(have), set()
    for name in names:
        found = {member for member in have if member == name or member.startswith(name.rstrip("/") + "/")}
        if not found:
            raise MemberNameError(f"the archive does not hold {name!r}")
        wanted |= found
    return wanted if names else set(have)


def place_names(formats: Mapping[str, str]) -> dict[str, str]:
    """Where members, given with their formats, are unpacked to.

    a/b.webp -> a/b.png, but a/b.webp.png if another b would be there, too.
    """
    ends = {name: cli_files.SHORT.get(format, format) for name, format in formats.items()}
    short = {n: f"{Path(cli_files.gmc_name(Path(n))).stem}.{end}" for n, end in ends.items()}
    places = {name: str(Path(name).with_name(last)) for name, last in short.items()}
    claims: dict[str, int] = {}
    for place in places.values():
        claims[place] = claims.get(place, 0) + 1
    return {
        name: f"{name}.{ends[name]}" if claims[place] > 1 and place != str(Path(name)) else place
        for name, place in places.items()
    }


def _write(place: Path, data: bytes, force: bool, kept: Attributes, times: bool) -> None:
    """By way of a temporary file: a picture is complete or not there."""
    place.parent.mkdir(parents=True, exist_ok=True)

    def finish(temporary: Path) -> None:
        if times and kept.modified is not None:
            set_times(temporary, kept.modified, kept.modified)
        jobs.refuse_to_overwrite(place, force)  # again: two names may be one to the file system

    permissions = 0o666 if kept.permissions is None else kept.permissions
    with write_then_rename(place, permissions=permissions, before_rename=finish, sync=False) as file:
        file.write(data)


# -- list ------------------------------------------------------------------------------------------------


@click.command("list")
@click.argument("archive", type=EXISTING)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def list_members(archive: Path, as_json: bool) -> None:
    """Say what an archive holds, without decoding it; bytes are an even share of those coded together."""
    with naming(archive), _opened(archive, None, 0) as opened:
        said: dict[str, Any] = {
            "file": str(archive),
            "bytes": opened.size,
            "images": len(opened),
            "dimensions": opened.dimensions,
            "bits_per_dimension": 8 * opened.size / opened.dimensions if len(opened) else None,
            "blocks": len(opened.blocks),
            "members": [vars(member) for member in sorted(opened.members, key=lambda member: member.name)],
        }
    if as_json:
        click.echo(json.dumps(said))
        return
    widest = max((len(shown(member["name"])) for member in said["members"]), default=0)
    for member in said["members"]:
        size = f"{member['width']}x{member['height']}"
        click.echo(f"{shown(member['name']):{widest}}  {size:>11}  {member['mode']:7} {member['code']:12} "
                   f"{member['bytes']:11.1f}")  # fmt: skip
    rate = f", {said['bits_per_dimension']:.4f} bpd" if said["images"] else ""
    click.echo(f"{said['images']} images in {said['blocks']} blocks, {said['bytes']} bytes{rate}")
