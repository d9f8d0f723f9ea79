# SPDX-License-Identifier: MIT
"""Files that change whole or not at all: written beside their place, then renamed.

Until a new file is complete, only its owner can read it where it stands for private files.  Permissions and times that
a file system refuses are worth a warning, not a failure.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from gmcodec.errors import OutputExistsError

PERMISSIONS = 0o777  # the bits of a mode that are copied: set-user-id and the like are not
log = logging.getLogger("gmcodec")


def temporary_beside(place: Path) -> Path:
    """A new name in the folder of ``place``."""
    return place.with_name(f".gmcodec-{secrets.token_hex(6)}.part")


def create(path: Path, permissions: int = 0o666) -> BinaryIO:
    """A new file to write and read, with at most these permissions from its first byte on; the umask holds."""
    return open(path, "x+b", opener=lambda name, flags: os.open(name, flags, permissions))


@contextmanager
def naming(place: Path | str, temporary: Path | None = None) -> Iterator[None]:
    """An OSError that names no file, or the temporary one, gets the name ``place``, which the user knows."""
    try:
        yield
    except OSError as error:
        if error.filename is None or str(error.filename) == str(temporary):
            error.filename, error.filename2 = str(place), None
        raise


@contextmanager
def write_then_rename(
    place: Path,
    *,
    permissions: int = 0o666,
    temporary: Path | None = None,
    before_rename: Callable[[Path], None] = lambda temporary: None,
    sync: bool = True,
) -> Iterator[BinaryIO]:
    """A temporary file that takes the place of ``place`` when the block ends without an error.

    permissions    of the temporary file, at most
    temporary      its path; default: a new name in the same folder
    before_rename  told its path once it is complete and closed; what this raises keeps ``place`` as it was
    sync           wait until the bytes are on the disk
    """
    temporary = temporary or temporary_beside(place)
    try:
        with naming(place, temporary):
            with create(temporary, permissions) as file:
                yield file
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            before_rename(temporary)
            os.replace(temporary, place)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing(
    place: Path, append: bool, force: bool, permissions: Callable[[], int | None] = lambda: None
) -> Iterator[BinaryIO]:
    """``write_then_rename`` for work that takes long: to append to a copy, or to overwrite only where that was asked.

    ``permissions`` is called when the work is done: what the file may have at most, or None for no limit.  Raises
    OutputExistsError.
    """
    old = _state(place)
    if old is not None and not place.is_file():
        raise OutputExistsError(f"{place} exists and is no file")
    if old is not None and not (append or force):
        raise OutputExistsError(f"{place} exists; --force overwrites it, --append adds to it")

    def finish(temporary: Path) -> None:
        if _state(place) != old:
            raise OutputExistsError(f"{place} was changed by another program meanwhile; nothing was written")
        usual = place.stat().st_mode & PERMISSIONS if append and old is not None else usual_permissions()
        most = permissions()
        # the owner could read all that went into it
        set_permissions(temporary, usual if most is None else usual & most | stat.S_IRUSR)

    with write_then_rename(place, permissions=0o600, before_rename=finish) as file:
        if append and old is not None:
            with open(place, "rb") as source:
                shutil.copyfileobj(source, file)
        yield file


def _state(place: Path) -> tuple[int, ...] | None:
    """Changes when the file does; None where there is none."""
    try:
        state = place.stat()
    except FileNotFoundError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns


# -- permissions and times -------------------------------------------------------------------------------


def attributes(path: Path | None) -> os.stat_result | None:
    """The permissions and times of a regular file; None for anything else."""
    try:
        state = None if path is None else path.stat()
    except OSError:
        return None  # reading the file will give the error
    return state if state is not None and stat.S_ISREG(state.st_mode) else None


def copy_attributes(source: os.stat_result | None, target: Path, times: bool) -> None:
    """Give ``target`` the permissions of ``source`` and, with ``times``, its times."""
    if source is None:
        return
    if times:
        set_times(target, source.st_atime_ns, source.st_mtime_ns)
    set_permissions(target, source.st_mode & PERMISSIONS)


def set_times(target: Path, accessed: int, modified: int) -> None:
    """Set times in nanoseconds since 1970."""
    try:
        os.utime(target, ns=(accessed, modified))
    except (OSError, OverflowError) as error:
        log.warning("its time cannot be set: %s", getattr(error, "strerror", None) or error)


def set_permissions(target: Path, permissions: int) -> None:
    """Set the bits of PERMISSIONS."""
    try:
        os.chmod(target, permissions)
    except OSError as error:
        log.warning("its permissions cannot be set: %s", error.strerror or error)


def usual_permissions() -> int:
    """The permissions of a new file of this process."""
    mask = os.umask(0o077)  # there is no other way to ask; what is created meanwhile is private
    os.umask(mask)
    return 0o666 & ~mask
