# SPDX-License-Identifier: MIT
"""Check the symbols of the native library.

The same sources are compiled once for each instruction set.  An inline function that the compiler does not inline
becomes a *weak* symbol, and of several weak symbols with the same name the linker keeps an arbitrary one:

    avx512-coder.o:   W clamp()   with AVX-512 instructions   <- kept
    portable-coder.o: W clamp()   without                     <- dropped: the portable coder crashes on older processors

Therefore every symbol of an object file must be private to the file, or contain the name of its set, that is, be
inside ``namespace gm::<set>``.  Only ELF files are checked, because all platforms compile the same sources.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

EXPORTED = {"gm_isas", "gm_open"}
_SYMTAB, _DYNSYM = 2, 11
_LOCAL, _WEAK = 0, 2
_UNDEFINED = 0


@dataclass(frozen=True)
class Symbol:
    """A symbol that is visible outside of its file."""

    name: str
    binding: int
    defined: bool

    @property
    def weak(self) -> bool:
        """Whether the linker may replace it by another: weak, or "unique", as gcc marks some inline variables."""
        return self.binding != _LOCAL and self.binding >= _WEAK


def is_elf(path: Path) -> bool:
    """Whether this is a 64-bit little-endian ELF file."""
    with path.open("rb") as file:
        return file.read(6) == b"\x7fELF\x02\x01"


def symbols(path: Path, dynamic: bool = False) -> list[Symbol]:
    """The visible symbols of an object file or, with ``dynamic``, those that a library exports and imports."""
    data = path.read_bytes()
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    # a section: name, type, flags, address, offset, size, link, info, alignment, size of an entry
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, table + size * index) for index in range(count)]
    found = []
    for section in sections:
        if section[1] != (_DYNSYM if dynamic else _SYMTAB):
            continue
        start = sections[section[6]][4]
        for at in range(section[4], section[4] + section[5], 24):
            name, info, _, index, _, _ = struct.unpack_from("<IBBHQQ", data, at)
            if info >> 4 != _LOCAL:
                text = data[start + name : data.index(b"\0", start + name)].decode()
                found.append(Symbol(text, info >> 4, index != _UNDEFINED))
    return found


def mangled(isa: str) -> str:
    """The part of a mangled name that stands for ``namespace gm::<isa>``."""
    return f"2gm{len(isa)}{isa}"


def check_object(path: Path, isa: str) -> list[str]:
    """Errors of an object file of an instruction set; ``isa`` is "" for one that is independent of them."""
    wrong = []
    for symbol in symbols(path):
        if not symbol.defined:
            if symbol.name.startswith(("_Znw", "_Zna", "_Zdl", "_Zda", "_ZSt", "_ZNSt", "_ZNKSt", "__cxa_")):
                wrong.append(f"{path.name} needs the C++ library: {symbol.name}")
        elif isa and mangled(isa) not in symbol.name:
            wrong.append(f"{path.name} defines {symbol.name} outside gm::{isa}: other sets might use it")
        elif not isa and symbol.weak:
            wrong.append(f"{path.name} defines the weak symbol {symbol.name}")
    return wrong


def check_library(path: Path) -> list[str]:
    """Errors of a linked library."""
    defined = [symbol for symbol in symbols(path, dynamic=True) if symbol.defined]
    wrong = [f"{path.name} defines the weak symbol {symbol.name}" for symbol in defined if symbol.weak]
    if (names := {symbol.name for symbol in defined}) != EXPORTED:
        wrong.append(f"{path.name} exports {', '.join(sorted(names)) or 'nothing'}; not {', '.join(sorted(EXPORTED))}")
    return wrong
