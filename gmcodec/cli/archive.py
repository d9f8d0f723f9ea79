# SPDX-License-Identifier: MIT
"""The commands on archives: pack, unpack, list."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gmcodec.cli import jobs, paths
from gmcodec.cli.console import (
    POSITIVE,
    ProgressBar,
    check_model_name,
    combined,
    effort_option,
    print_error,
    print_stderr,
    report_skipped,
    times_option,
)
from gmcodec.cli.paths import Options, printable
from gmcodec.errors import GmcError, MemberNameError
from gmcodec.files import naming, set_times, write_then_rename
from gmcodec.progress import Progress
from gmcodec.threads import interruptible

if TYPE_CHECKING:
    from gmcodec.archive import Archive, Packed
    from gmcodec.formats.gma import Attributes

ARCHIVE_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
archive_options = combined(
    click.option("--threads", type=POSITIVE, metavar="N", help="Threads  [default: all]."),
    click.option("--max-pixels", type=click.IntRange(min=0), metavar="N",
                 help="Refuse images of more pixels; 0 lifts the limit."),
    times_option,
    click.option("-f", "--force", is_flag=True, help="Overwrite outputs."),
    click.option("-q", "--quiet", is_flag=True, help="Show errors and warnings only."),
)  # fmt: skip


class ArchiveProgress(Progress):
    """Shows images on a progress bar and errors on standard error; ``code`` is the exit code of the first error."""

    def __init__(self, bar: ProgressBar) -> None:
        super().__init__(bar)
        self.bar, self.code, self.failures, self.current = bar, 0, 0, ""  # current: the image at hand, for messages

    def images(self, count: int) -> None:
        for _ in range(count):
            self.bar.file_done()

    def failed(self, names: Sequence[str], error: GmcError | OSError) -> None:
        message, code = jobs.failure(error, Path(self.current) if self.current else None)
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        self.bar.print(f"gmcodec: {self.current or printable(names[0])}{more}: {message}", err=True)
        self.code, self.failures = self.code or code, self.failures + len(names)

    def warn(self, text: str) -> None:
        """A warning about the image at hand."""
        self.bar.print(f"gmcodec: {f'{self.current}: ' if self.current else ''}warning: {text}", err=True)


@contextmanager
def _shown_progress(images: int, quiet: bool) -> Iterator[ArchiveProgress]:
    """Show progress and the package's warnings; afterwards exit with the code of the first failure, if any."""
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
        print_error(f"error: {jobs.one_line(error)}")
    if progress.code:
        click.get_current_context().exit(progress.code)


# -- pack and unpack -------------------------------------------------------------------------------------


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE|FOLDER...")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The archive, NAME.gma.")
@click.option("--append", is_flag=True, help="Add to the archive if it exists.")
@click.option("--strip", is_flag=True, help="Drop ICC, EXIF, XMP, text, DPI and gamma.")
@click.option("--first", is_flag=True, help="Take the first of several frames or pages.")
@click.option("--strict", is_flag=True, help="Leave out images of which anything would be lost.")
@click.option("--model", metavar="NAME", callback=check_model_name,
              help="Model for small images, see gmcodec models  [default: the best].")  # fmt: skip
@effort_option
@archive_options
def pack(files: Sequence[str], output: Path, append: bool, strip: bool, first: bool, strict: bool,
         model: str | None, effort: str, threads: int | None, max_pixels: int | None, times: bool, force: bool,
         quiet: bool) -> None:  # fmt: skip
    """Pack images, and all images in and below folders, into one archive.

    Small images (up to 128x128 pixels, grey or RGB, without metadata) of equal size are coded together, all others as
    compress does. Names are paths below the folders given. All files that are left out are named, with the reason.
    The archive keeps permissions and, without --no-times, times; only users who can read all images can read it.
    The bpd reported is that of the whole archive, the estimate is the model's own.
    """
    if paths.STDIO in files or str(output) == paths.STDIO:
        raise click.UsageError("pack reads files and writes a file: - cannot be used")
    inputs = paths.collect(files, True, paths.reason_not_image)
    members = _members(inputs)
    if not members and not inputs.errors:
        print_stderr("nothing to do: no suitable files found")
        return
    from gmcodec import archive

    if not quiet:
        report_skipped(inputs, None)
    limit = jobs.pixel_limit(Options(max_pixels=max_pixels))
    with _shown_progress(len(members), quiet) as progress:
        for error in inputs.errors:
            progress.failed([str(error.filename)], error)

        def sources() -> Iterator[tuple[str, Path]]:
            for name, path in members.items():
                progress.current = printable(path)
                yield name, path
            progress.current = ""

        packed = archive.pack(
            sources(), output, model=model, effort=effort, strip=strip, first=first, strict=strict, times=times,
            append=append, force=force, threads=threads, max_pixels=limit, progress=progress,
        )  # fmt: skip
        for line in _describe(packed) if not quiet else ():
            progress.bar.print(f"{printable(output)}: {line}", err=False)
        if progress.failures:
            progress.bar.print(
                f"gmcodec: {progress.failures} of {len(members)} images are NOT in the archive", err=True
            )


def _members(inputs: paths.Inputs) -> dict[str, Path]:
    """Files by the names of their members.  Raises UsageError if two files would have the same name."""
    members: dict[str, Path] = {}
    for source in inputs.sources:
        assert source.path is not None
        name = source.relative.as_posix()
        if (other := members.setdefault(name, source.path)) is not source.path:
            raise click.UsageError(f"{printable(other)} and {source.name} would both be called {printable(name)}: "
                                   "pack a folder that holds both")  # fmt: skip
    return members


def _describe(packed: Packed) -> list[str]:
    """Lines on what pack wrote: sizes, the model's estimate and the overhead."""
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
@click.argument("archive", type=ARCHIVE_FILE)
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Write to this folder  [default: one beside the archive, with its name].")  # fmt: skip
@archive_options
def unpack(archive: Path, names: Sequence[str], output: Path | None, threads: int | None, max_pixels: int | None,
           times: bool, force: bool, quiet: bool) -> None:  # fmt: skip
    """Restore all images of an archive, or those that the NAMEs (of images or folders) choose, as PNG.

    Images that PNG cannot hold become TIFF. The restored images get the times of the packed ones, and their permissions
    as far as the umask grants them.
    """
    if output is None and not archive.suffix:
        raise click.UsageError(f"name the folder to unpack {printable(archive)} to with -o")
    folder = archive.with_suffix("") if output is None else output
    from gmcodec.image import writing

    with naming(archive), _opened(archive, threads, max_pixels) as opened:
        wanted = _selected(opened.names, names)
        formats = {member.name: paths.default_format(member.mode) for member in opened.members}
        outputs = {name: folder / output for name, output in output_names(formats).items() if name in wanted}
        for path in outputs.values():
            jobs.refuse_to_overwrite(path, force)
        with _shown_progress(len(wanted), quiet) as progress:
            for name, planes in opened.items(wanted, progress=progress):
                progress.current = printable(name)
                data, lost = interruptible(partial(writing.write, planes, formats[name]), progress.bar)
                if lost:
                    progress.warn(f"{formats[name].upper()} cannot hold {', '.join(lost)}")
                _write(outputs[name], data, force, opened.attributes(name), times)
                progress.current = ""
            if not quiet:
                progress.bar.print(f"{printable(folder)}: {len(wanted) - progress.failures} images", err=False)


def _opened(path: Path, threads: int | None, max_pixels: int | None) -> Archive:
    from gmcodec.archive import Archive

    return Archive(path, threads=threads, max_pixels=jobs.pixel_limit(Options(max_pixels=max_pixels)))


def _selected(have: Iterable[str], names: Sequence[str]) -> set[str]:
    """The members that ``names`` choose, without names all.  Raises MemberNameError for a name that chooses none."""
    have, wanted = list(have), set()
    for name in names:
        found = {member for member in have if member == name or member.startswith(name.rstrip("/") + "/")}
        if not found:
            raise MemberNameError(f"the archive does not hold {name!r}")
        wanted |= found
    return wanted if names else set(have)


def output_names(formats: Mapping[str, str]) -> dict[str, str]:
    """Paths of unpacked members, from their names and formats.

    a/b.webp -> a/b.png, but a/b.webp.png if another member would become a/b.png too.
    """
    ends = {name: paths.UNPACKED_SUFFIX.get(format, format) for name, format in formats.items()}
    short = {n: f"{Path(paths.gmc_name(Path(n))).stem}.{end}" for n, end in ends.items()}
    paths_by_name = {name: str(Path(name).with_name(last)) for name, last in short.items()}
    counts = Counter(paths_by_name.values())
    return {
        name: f"{name}.{ends[name]}" if counts[path] > 1 and path != str(Path(name)) else path
        for name, path in paths_by_name.items()
    }


def _write(path: Path, data: bytes, force: bool, kept: Attributes, times: bool) -> None:
    """Write an unpacked image with its permissions and times; by a temporary file, so that it is never incomplete."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def finish(temporary: Path) -> None:
        if times and kept.modified is not None:
            set_times(temporary, kept.modified, kept.modified)
        jobs.refuse_to_overwrite(path, force)  # again: the file system may take two names for the same

    permissions = 0o666 if kept.permissions is None else kept.permissions
    with write_then_rename(path, permissions=permissions, before_rename=finish, sync=False) as file:
        file.write(data)


# -- list ------------------------------------------------------------------------------------------------


@click.command("list")
@click.argument("archive", type=ARCHIVE_FILE)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def list_members(archive: Path, as_json: bool) -> None:
    """Show the contents of an archive without decoding it.

    The bytes of images that are coded together are divided evenly among them.
    """
    with naming(archive), _opened(archive, None, 0) as opened:
        content: dict[str, Any] = {
            "file": str(archive),
            "bytes": opened.size,
            "images": len(opened),
            "dimensions": opened.dimensions,
            "bits_per_dimension": 8 * opened.size / opened.dimensions if len(opened) else None,
            "blocks": len(opened.blocks),
            "members": [vars(member) for member in sorted(opened.members, key=lambda member: member.name)],
        }
    if as_json:
        click.echo(json.dumps(content))
        return
    widest = max((len(printable(member["name"])) for member in content["members"]), default=0)
    for member in content["members"]:
        size = f"{member['width']}x{member['height']}"
        click.echo(f"{printable(member['name']):{widest}}  {size:>11}  {member['mode']:7} {member['code']:12} "
                   f"{member['bytes']:11.1f}")  # fmt: skip
    rate = f", {content['bits_per_dimension']:.4f} bpd" if content["images"] else ""
    click.echo(f"{content['images']} images in {content['blocks']} blocks, {content['bytes']} bytes{rate}")
