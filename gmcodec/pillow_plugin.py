# SPDX-License-Identifier: MIT
"""Pillow opens and saves ``.gmc`` once this module is imported.

>>> import gmcodec.pillow_plugin
>>> image = Image.open("photo.gmc")     # reads the header; pixels are decoded when they are first used
>>> image.save("copy.gmc")              # options: code, strip, threads, and icc_profile, exif, xmp, dpi
"""

from __future__ import annotations

from typing import IO, Any

from PIL import Image, ImageFile

from .errors import GmcError

FORMAT = "GMC"
_METADATA = ("icc_profile", "exif", "xmp", "dpi")


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(b"gmc")


class GmcImageFile(ImageFile.ImageFile):
    """A .gmc file whose header has been read; checksums of the file are verified, pixels are not decoded."""

    format = FORMAT
    format_description = "gmcodec lossless image"
    _data: bytes | None = None  # the file, until its pixels are decoded

    def _open(self) -> None:
        from . import container, metadata, pillow_info, pixels  # numpy loads with the first .gmc file

        assert self.fp is not None
        data = self.fp.read()
        try:
            # Image.open applies Pillow's own limit to the size
            header = container.unpack(data, max_pixels=None)
            mode = next(m for m in pixels.MODES.values() if m.id == header.mode_id)
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
            from . import codec, pixels

            try:
                image = pixels.to_image(codec.decode_planes(self._data, max_pixels=None))
            except GmcError as error:
                raise OSError(str(error)) from error
            self.im, self.palette, self._data = image.im, image.palette, None
            if self.fp and self._exclusive_fp:
                self.fp.close()
            self.fp = None
        return super().load()


def _save(image: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    from . import codec

    options = dict(getattr(image, "encoderinfo", {}))
    given = {name: options[name] for name in _METADATA if options.get(name) is not None}
    if given:
        image = image.copy()  # the caller's info stays as it is
        image.info.update({k: v.tobytes() if isinstance(v, Image.Exif) else v for k, v in given.items()})
    kept = {name: options[name] for name in ("code", "effort", "strip", "threads") if name in options}
    try:
        fp.write(codec.encode(image, **kept))
    except GmcError as error:
        raise OSError(f"cannot write this image as {FORMAT}: {error}") from error


Image.register_open(FORMAT, GmcImageFile, _accept)
Image.register_save(FORMAT, _save)
Image.register_extension(FORMAT, ".gmc")
Image.register_mime(FORMAT, "image/x-gmc")
