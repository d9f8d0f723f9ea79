# SPDX-License-Identifier: MIT
"""gmcodec: lossless image compression with deep likelihood models and exact integer inference.

>>> import gmcodec
>>> data = gmcodec.encode("photo.png")      # bytes of a .gmc file
>>> image = gmcodec.decode(data)            # PIL image: same pixels, mode and metadata
"""

from gmcodec.errors import GmcError

__version__ = "0.1.0"
__all__ = [
    "Archive",
    "GmcError",
    "__version__",
    "cost_map",
    "decode",
    "decode_array",
    "encode",
    "info",
    "pack",
    "verify",
]

TYPE_CHECKING = False  # nothing is imported here that ``python -m gmcodec`` would look for in the current folder
if TYPE_CHECKING:
    from typing import Any

    from gmcodec.archive import Archive, pack
    from gmcodec.codec import decode, decode_array, encode, info, verify
    from gmcodec.costs import cost_map


def __getattr__(name: str) -> "Any":
    # importing gmcodec stays instant: numpy and the rest load with the first use
    if name in __all__:
        from gmcodec import archive, codec, costs

        homes = {"Archive": archive, "pack": archive, "cost_map": costs}
        return getattr(homes.get(name, codec), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
