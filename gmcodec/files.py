# SPDX-License-Identifier: MIT
"""Atomic writes: a file is written under a temporary name in the same folder, then renamed.

An archive may hold private files, so only its owner can read it until it is complete.  If a file system refuses
permissions or times, that is logged as a warning and is no failure.
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

PERMISSIONS = 0o777  # the bits of a mode that are copied: not set-user-id and the like
log = logging.getLogger("gmcodec")


def temporary_beside(place: Path) -> Path:
    """A new name in the folder of ``place``."""
    return place.with_name(f".gmcodec-{secrets.token_hex(6)}.part")


def create(path: Path, permissions: int = 0o666) -> BinaryIO:
    """Open a new file for writing and reading; from the start it has at most these permissions, less the umask."""
    return open(path, "x+b", opener=lambda name, flags: os.open(name, flags, permissions))


@contextmanager
def naming(target: Path | str, temporary: Path | None = None) -> Iterator[None]:
    """Name ``target``, which the user knows, in an OSError that names no file or the temporary one."""
    try:
        yield
    except OSError as error:
        if error.filename is None or str(error.filename) == str(temporary):
            error.filename, error.filename2 = str(target), None
        raise


@contextmanager
def write_then_rename(
    target: Path,
    *,
    permissions: int = 0o666,
    temporary: Path | None = None,
    before_rename: Callable[[Path], None] = lambda temporary: None,
    sync: bool = True,
) -> Iterator[BinaryIO]:
    """A temporary file that replaces ``target`` when the block ends without an error.

    permissions    of the temporary file, at most
    temporary      its path; default: a new name in the same folder
    before_rename  called with its path once it is complete and closed; if this raises, ``target`` stays as it was
    sync           wait until the bytes are on the disk
    """
    temporary = temporary or temporary_beside(target)
    try:
        with naming(target, temporary):
            with create(temporary, permissions) as file:
                yield file
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            before_rename(temporary)
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing(
    target: Path, append: bool, force: bool, permissions: Callable[[], int | None] = lambda: None
) -> Iterator[BinaryIO]:
    """``write_then_rename`` for long work, which refuses to overwrite a file unless told to.

    append       write behind a copy of ``target`` if it exists
    force        overwrite ``target`` if it exists
    permissions  called when the work is done: the permissions that the file may have at most; None: no limit

    Raises OutputExistsError, also when another program changed ``target`` meanwhile.
    """
    old = _state(target)
    if old is not None and not target.is_file():
        raise OutputExistsError(f"{target} exists and is no file")
    if old is not None and not (append or force):
        raise OutputExistsError(f"{target} exists; --force overwrites it, --append adds to it")

    def finish(temporary: Path) -> None:
        if _state(target) != old:
            raise OutputExistsError(f"{target} was changed by another program meanwhile; nothing was written")
        usual = target.stat().st_mode & PERMISSIONS if append and old is not None else usual_permissions()
        limit = permissions()
        # the owner may always read: they could read every file that went in
        set_permissions(temporary, usual if limit is None else usual & limit | stat.S_IRUSR)

    with write_then_rename(target, permissions=0o600, before_rename=finish) as file:
        if append and old is not None:
            with open(target, "rb") as source:
                shutil.copyfileobj(source, file)
        yield file


def _state(place: Path) -> tuple[int, ...] | None:
    """Inode, size and time of a file: they differ once it has changed.  None if there is no file."""
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
        return None  # reading the file will raise the error
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
    mask = os.umask(0o077)  # setting is the only way to ask; a file that is created meanwhile is private
    os.umask(mask)
    return 0o666 & ~mask
