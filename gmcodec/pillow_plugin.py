# SPDX-License-Identifier: MIT
"""Pillow opens and saves ``.gmc`` once this module is imported.

>>> import gmcodec.pillow_plugin
>>> image = Image.open("photo.gmc")     # reads the header; pixels are decoded when they are first used
>>> image.save("copy.gmc")              # options: code, strip, threads, and icc_profile, exif, xmp, dpi

Pillow empties an existing file before it asks a plugin for the new bytes. ``Image.save`` is therefore wrapped for files
of this format: a save that fails leaves the file as it was. Everything else goes to Pillow's own method.
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from PIL import Image, ImageFile

from gmcodec.errors import GmcError
from gmcodec.files import PERMISSIONS, attributes, set_permissions, write_then_rename
from gmcodec.image.modes import MODES_BY_ID

FORMAT = "GMC"
_METADATA_OPTIONS = ("icc_profile", "exif", "xmp", "dpi")


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(b"gmc")


class GmcImageFile(ImageFile.ImageFile):
    """A .gmc file whose header has been read; checksums of the file are verified, pixels are not decoded."""

    format = FORMAT
    format_description = "gmcodec lossless image"
    _data: bytes | None = None  # the file, until its pixels are decoded

    def _open(self) -> None:
        from gmcodec.formats import gmc
        from gmcodec.image import (
            metadata,
            pillow_info,  # numpy loads with the first .gmc file
        )

        assert self.fp is not None
        data = self.fp.read()
        try:
            # Image.open applies Pillow's own limit to the size
            header = gmc.unpack(data, max_pixels=None)
            mode = MODES_BY_ID[header.mode_id]
            tags = metadata.unpack(header.metadata, mode.name)
        except GmcError as error:
            raise SyntaxError(f"not a usable .gmc file: {error}") from error
        if mode.depth == 16 and mode.name != "I;16":
            raise SyntaxError(f"Pillow cannot hold {mode.name} images; use gmcodec.decode_array")
        self._data, self._mode, self._size = data, mode.name, (header.width, header.height)
        self.info.update(pillow_info.to_info(tags, mode.name))

    def load(self) -> Any:
        """Decode, once.  Raises OSError, as Pillow's own plugins do for damaged data."""
        if self._data is not None:
            from gmcodec import codec
            from gmcodec.image import reading

            try:
                image = reading.to_image(codec.decode_planes(self._data, max_pixels=None))
            except GmcError as error:
                raise OSError(str(error)) from error
            self.im, self.palette, self._data = image.im, image.palette, None
            if self.fp and self._exclusive_fp:
                self.fp.close()
            self.fp = None
        return super().load()


def _save(image: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    from gmcodec import codec

    options = dict(getattr(image, "encoderinfo", {}))
    given = {name: options[name] for name in _METADATA_OPTIONS if options.get(name) is not None}
    if given:
        image = image.copy()  # the caller's info stays as it is
        image.info.update({k: v.tobytes() if isinstance(v, Image.Exif) else v for k, v in given.items()})
    kept = {name: options[name] for name in ("code", "effort", "strip", "threads") if name in options}
    try:
        fp.write(codec.encode(image, **kept))
    except GmcError as error:
        raise OSError(f"cannot write this image as {FORMAT}: {error}") from error


# -- a save that fails leaves the file as it was ---------------------------------------------------------


def _safely(save: Callable[..., None]) -> Callable[..., None]:
    """``Image.save`` that writes .gmc files by way of a temporary file; of all others it does what it did."""

    @functools.wraps(save)
    def wrapped(self: Image.Image, fp: Any, format: str | None = None, **params: Any) -> None:
        place = _place(fp, format)
        if place is None:
            save(self, fp, format, **params)
            return
        made = io.BytesIO()
        save(self, made, FORMAT, **params)
        _replace(place, made.getvalue())

    wrapped._gmcodec = True  # type: ignore[attr-defined]
    return wrapped


def _place(fp: Any, format: str | None) -> Path | None:
    """The file that is to be written, if it is one of this format: not a pipe, a device or an open file."""
    if not isinstance(fp, str | bytes | os.PathLike):
        return None
    place = Path(os.fsdecode(fp))
    extension = Image.EXTENSION.get(place.suffix.lower())
    if (format.upper() if format else extension) != FORMAT or (place.exists() and not place.is_file()):
        return None
    return Path(os.path.realpath(place))  # a link stays one


def _replace(place: Path, data: bytes) -> None:
    before = attributes(place)
    if before is not None and not os.access(place.parent, os.W_OK):  # no room for a temporary file
        place.write_bytes(data)
        return

    def finish(temporary: Path) -> None:
        if before is not None:
            set_permissions(temporary, before.st_mode & PERMISSIONS)

    permissions = 0o666 if before is None else 0o600
    with write_then_rename(place, permissions=permissions, before_rename=finish, sync=False) as file:
        file.write(data)


if not hasattr(Image.Image.save, "_gmcodec"):  # once, however often this module is imported
    Image.Image.save = _safely(Image.Image.save)  # type: ignore[method-assign]
Image.register_open(FORMAT, GmcImageFile, _accept)
Image.register_save(FORMAT, _save)
Image.register_extension(FORMAT, ".gmc")
Image.register_mime(FORMAT, "image/x-gmc")
