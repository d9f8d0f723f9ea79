# SPDX-License-Identifier: MIT
"""Ledgers of image files: an account of all bytes, which finds metadata and names what would be lost.

Call ``account``.  base.py defines the ledger.  png, jpeg, tiff, bmp, pnm, gif, riff (WebP), jp2, heif (AVIF too), jxl,
tga and small (QOI, SGI, PCX) parse files of their formats; boxes.py is shared by jp2, heif and jxl.
"""

from __future__ import annotations

from importlib import import_module

from gmcodec.image.ledger.base import Claim, Fate, Ledger, Loss

__all__ = ["Claim", "Fate", "Ledger", "Loss", "account"]

_MODULES = {  # Pillow's name of the format: module and function
    "PNG": ("png", "account"),
    "JPEG": ("jpeg", "account"),
    "MPO": ("jpeg", "account"),
    "TIFF": ("tiff", "account"),
    "BMP": ("bmp", "account"),
    "DIB": ("bmp", "account"),
    "PPM": ("pnm", "account"),
    "GIF": ("gif", "account"),
    "WEBP": ("riff", "account"),
    "JPEG2000": ("jp2", "account"),
    "AVIF": ("heif", "account_avif"),
    "HEIF": ("heif", "account_heif"),
    "JXL": ("jxl", "account"),
    "TGA": ("tga", "account"),
    "SGI": ("small", "account_sgi"),
    "QOI": ("small", "account_qoi"),
    "PCX": ("small", "account_pcx"),
}


def account(format: str, raw: bytes) -> Ledger:
    """The ledger of a whole file, in which every byte has a claim.  ``format``: Pillow's name of the format.

    It does not raise for malformed files: parts that are not understood are lost, and the decoder reports whether the
    pixels can be read.
    """
    module, function = _MODULES[format]
    ledger = Ledger(raw)
    getattr(import_module(f"{__name__}.{module}"), function)(ledger)
    return ledger.close()
