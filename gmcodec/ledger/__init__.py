# SPDX-License-Identifier: MIT
"""What image files hold beside their pixels, format by format; ``account`` is the way in.

base.py has the ledger itself; png, jpeg, tiff, bmp, pnm, gif, riff (WebP), boxes (JPEG 2000, AVIF, HEIF, JPEG XL) and
small (TGA, SGI, QOI, PCX) walk over files of their formats.
"""

from __future__ import annotations

from importlib import import_module

from .base import Claim, Fate, Ledger, Loss

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
    "JPEG2000": ("boxes", "account_jp2"),
    "AVIF": ("boxes", "account_heif"),
    "HEIF": ("boxes", "account_heif"),
    "JXL": ("boxes", "account_jxl"),
    "TGA": ("small", "account_tga"),
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
