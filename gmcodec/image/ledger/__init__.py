# SPDX-License-Identifier: MIT
"""What image files hold beside their pixels, format by format; ``account`` is the way in.

base.py has the ledger itself; png, jpeg, tiff, bmp, pnm, gif, riff (WebP), jp2, heif (AVIF, too), jxl, tga and small
(QOI, SGI, PCX) walk over files of their formats.  boxes has what jp2, heif and jxl share.
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
    """The account of a whole file of a format, by Pillow's name of it, closed: every byte has a claim.

    Never raises for malformed files: what a walk does not understand is lost, and whether the pixels can be read at
    all is for the decoder to say.
    """
    module, function = _MODULES[format]
    ledger = Ledger(raw)
    getattr(import_module(f"{__name__}.{module}"), function)(ledger)
    return ledger.close()
