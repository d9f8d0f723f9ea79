# SPDX-License-Identifier: MIT
"""The targets of the native library: processors, their instruction sets, and the platforms of the wheels."""

from __future__ import annotations

import platform
from dataclasses import dataclass

# Instruction sets by processor, the best first; each includes the following ones.  Flags are those of gcc and clang,
# and those of zig, which has other names and by default compiles for the machine on which it runs.
_PORTABLE = "portable"
Flags = tuple[tuple[str, ...], tuple[str, ...]]
SETS: dict[str, dict[str, Flags]] = {
    "x86_64": {
        "avx512": (("-march=x86-64-v4", "-mavx512vnni"), ("-mcpu=x86_64_v4+avx512vnni",)),
        "avx2": (("-march=x86-64-v3",), ("-mcpu=x86_64_v3",)),
        "x86_64_v2": (("-march=x86-64-v2",), ("-mcpu=x86_64_v2",)),
        _PORTABLE: (("-march=x86-64",), ("-mcpu=x86_64",)),
    },
    "aarch64": {
        "neon": ((), ("-mcpu=generic",)),
        _PORTABLE: ((), ("-mcpu=generic",)),
    },
}
OTHER_SETS: dict[str, Flags] = {_PORTABLE: ((), ("-mcpu=baseline",))}

SYSTEMS = {"Linux": "linux", "Darwin": "macos", "Windows": "windows"}
ARCHITECTURES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}
LIBRARY_NAMES = {"macos": "libgmcodec.dylib", "windows": "gmcodec.dll"}
MACOS = "11.0"  # the oldest version: the first one for Arm, also used for Intel


@dataclass(frozen=True)
class Target:
    """A processor and a system.  ``triple``: zig's name of a platform to cross-compile for, or ""."""

    arch: str
    system: str
    triple: str = ""
    tag: str = ""  # of its wheels, after "py3-none-"

    @property
    def folder(self) -> str:
        """Name of its build folder."""
        return self.triple or f"{self.arch}-{self.system}"

    @property
    def library(self) -> str:
        """File name of the library."""
        return LIBRARY_NAMES.get(self.system, "libgmcodec.so")

    @property
    def sets(self) -> dict[str, Flags]:
        """Its instruction sets with their flags, the best first."""
        return SETS.get(self.arch, OTHER_SETS)


def _macos_tag(arch: str) -> str:
    return f"macosx_{MACOS.replace('.', '_')}_{arch.replace('aarch64', 'arm64')}"


# The platforms of the wheels.  manylinux2014 has glibc 2.17; musl 1.2 is what wheels of numpy need.
SHIPPED = {
    target.triple: target
    for target in (
        *(
            Target(arch, "linux", f"{arch}-linux-gnu.2.17", f"manylinux_2_17_{arch}.manylinux2014_{arch}")
            for arch in ("x86_64", "aarch64")
        ),
        *(Target(arch, "linux", f"{arch}-linux-musl", f"musllinux_1_2_{arch}") for arch in ("x86_64", "aarch64")),
        *(Target(arch, "macos", f"{arch}-macos.{MACOS}", _macos_tag(arch)) for arch in ("x86_64", "aarch64")),
        Target("x86_64", "windows", "x86_64-windows-gnu", "win_amd64"),
    )
}


def named(triple: str) -> Target:
    """The target of one of zig's triples, such as ``aarch64-linux-musl``.  It has no tag if no wheel is made for it.

    Raises ValueError.
    """
    if triple in SHIPPED:
        return SHIPPED[triple]
    arch, _, rest = triple.partition("-")
    system = rest.partition("-")[0].partition(".")[0]
    if not rest:
        raise ValueError(f"{triple!r} is no target; for example: {', '.join(SHIPPED)}")
    return Target(arch, system, triple)


def here(arch: str = "") -> Target:
    """The target of this machine.  ``arch``: the processor that its compiler compiles for, if known."""
    machine = (arch or platform.machine()).lower()
    system = SYSTEMS.get(platform.system(), platform.system().lower())
    machine = ARCHITECTURES.get(machine, machine)
    return Target(machine, system, tag=_macos_tag(machine) if system == "macos" else "")
