# SPDX-License-Identifier: MIT
"""A plugin with which Pillow opens and saves ``.gmc`` after this module is imported.

>>> import gmcodec.pillow_plugin
>>> image = Image.open("photo.gmc")     # reads the header; pixels are decoded when they are first used
>>> image.save("copy.gmc")              # options: code, effort, strip, threads, near, near_alpha,
...                                     # and icc_profile, exif, xmp, dpi

Pillow empties an existing file before it calls a plugin. ``Image.save`` is therefore wrapped for files of this format,
so that a save that fails leaves the file unchanged. Files of other formats go to Pillow's own method.
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
_ENCODE_OPTIONS = ("code", "effort", "strip", "threads", "near", "near_alpha")


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(b"gmc")


class GmcImageFile(ImageFile.ImageFile):
    """A .gmc file whose header has been read and whose checksum has been verified; pixels are decoded later."""

    format = FORMAT
    format_description = "gmcodec lossless image"
    _data: bytes | None = None  # the bytes of the file, until its pixels are decoded

    def _open(self) -> None:
        from gmcodec.formats import gmc
        from gmcodec.image import metadata, pillow_info  # here, so that numpy is loaded with the first .gmc file

        assert self.fp is not None
        data = self.fp.read()
        try:
            # Image.open applies Pillow's own limit of pixels
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
        """Decode the pixels, once.  Raises OSError for damaged data, as Pillow's own plugins do."""
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
    metadata = {name: options[name] for name in _METADATA_OPTIONS if options.get(name) is not None}
    if metadata:
        image = image.copy()  # the caller's ``info`` must not change
        image.info.update({k: v.tobytes() if isinstance(v, Image.Exif) else v for k, v in metadata.items()})
    encode_options = {name: options[name] for name in _ENCODE_OPTIONS if name in options}
    try:
        fp.write(codec.encode(image, **encode_options))
    except GmcError as error:
        raise OSError(f"cannot write this image as {FORMAT}: {error}") from error


# -- a save that fails leaves the file unchanged ---------------------------------------------------------


def _safely(save: Callable[..., None]) -> Callable[..., None]:
    """``Image.save`` that writes .gmc files through a temporary file, and other files as before."""

    @functools.wraps(save)
    def wrapped(self: Image.Image, fp: Any, format: str | None = None, **params: Any) -> None:
        path = _gmc_path(fp, format)
        if path is None:
            save(self, fp, format, **params)
            return
        encoded = io.BytesIO()
        save(self, encoded, FORMAT, **params)
        _replace(path, encoded.getvalue())

    wrapped._gmcodec = True  # type: ignore[attr-defined]
    return wrapped


def _gmc_path(fp: Any, format: str | None) -> Path | None:
    """The path of the file to write if it is a .gmc file, but not a pipe, a device or an open file."""
    if not isinstance(fp, str | bytes | os.PathLike):
        return None
    path = Path(os.fsdecode(fp))
    extension = Image.EXTENSION.get(path.suffix.lower())
    if (format.upper() if format else extension) != FORMAT or (path.exists() and not path.is_file()):
        return None
    return Path(os.path.realpath(path))  # so that a link stays a link


def _replace(path: Path, data: bytes) -> None:
    before = attributes(path)
    if before is not None and not os.access(path.parent, os.W_OK):  # a temporary file cannot be created
        path.write_bytes(data)
        return

    def finish(temporary: Path) -> None:
        if before is not None:
            set_permissions(temporary, before.st_mode & PERMISSIONS)

    permissions = 0o666 if before is None else 0o600
    with write_then_rename(path, permissions=permissions, before_rename=finish, sync=False) as file:
        file.write(data)


if not hasattr(Image.Image.save, "_gmcodec"):  # once, even if this module is imported again
    Image.Image.save = _safely(Image.Image.save)  # type: ignore[method-assign]
Image.register_open(FORMAT, GmcImageFile, _accept)
Image.register_save(FORMAT, _save)
Image.register_extension(FORMAT, ".gmc")
Image.register_mime(FORMAT, "image/x-gmc")
