# SPDX-License-Identifier: MIT
"""Types of arrays for signatures: ``UInt8[np.ndarray, "C H W"]`` says dtype and shape, as jaxtyping writes them.

Letters name axes, and one letter in a signature is one length: B images of a batch, C channels, H rows, W columns, N
pixels or symbols, F features of a map, K logistics or entries of a row.  The tests check these types at every call
(tests/array_types.py); nothing is checked, or even imported, when the package is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import (
        Bool,
        Float32,
        Float64,
        Int,
        Int8,
        Int16,
        Int32,
        Int64,
        Integer,
        Shaped,
        UInt,
        UInt8,
        UInt16,
        UInt32,
    )
else:

    def __getattr__(name: str) -> type:
        """A name for annotations, which are never evaluated outside of the tests."""
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


__all__ = ["Bool", "Float32", "Float64", "Int", "Int8", "Int16", "Int32", "Int64", "Integer", "Shaped", "UInt", "UInt8",
           "UInt16", "UInt32"]  # fmt: skip
