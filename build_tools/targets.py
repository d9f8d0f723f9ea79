# SPDX-License-Identifier: MIT
"""What the native library is compiled for: processors, their instruction sets, the platforms of the wheels."""

from __future__ import annotations

import platform
from dataclasses import dataclass

# Instruction sets by processor, the best first; each includes those behind it.  Flags: of gcc and clang, and of zig,
# which has names of its own and would otherwise compile for the machine that it runs on.
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
OTHER: dict[str, Flags] = {_PORTABLE: ((), ("-mcpu=baseline",))}

SYSTEMS = {"Linux": "linux", "Darwin": "macos", "Windows": "windows"}
ARCHITECTURES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}
LIBRARIES = {"macos": "libgmcodec.dylib", "windows": "gmcodec.dll"}
MACOS = "11.0"  # the oldest for Arm; one number for both


@dataclass(frozen=True)
class Target:
    """A processor and a system; with a triple, as zig names it, to compile for from anywhere."""

    arch: str
    system: str
    triple: str = ""
    tag: str = ""  # of its wheels, after "py3-none-"

    @property
    def folder(self) -> str:
        return self.triple or f"{self.arch}-{self.system}"

    @property
    def library(self) -> str:
        return LIBRARIES.get(self.system, "libgmcodec.so")

    @property
    def sets(self) -> dict[str, Flags]:
        return SETS.get(self.arch, OTHER)


def _macos_tag(arch: str) -> str:
    return f"macosx_{MACOS.replace('.', '_')}_{arch.replace('aarch64', 'arm64')}"


# The platforms of the wheels.  glibc 2.17 is that of manylinux2014; musl's 1.2 is the one that wheels of numpy ask for.
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
    """The target of a triple as zig writes it, such as ``aarch64-linux-musl``; without a wheel it has no tag."""
    if triple in SHIPPED:
        return SHIPPED[triple]
    arch, _, rest = triple.partition("-")
    system = rest.partition("-")[0].partition(".")[0]
    if not rest:
        raise ValueError(f"{triple!r} is no target; for example: {', '.join(SHIPPED)}")
    return Target(arch, system, triple)


def here(arch: str = "") -> Target:
    """This machine; ``arch`` is what its compiler makes code for, if it says so."""
    machine = (arch or platform.machine()).lower()
    system = SYSTEMS.get(platform.system(), platform.system().lower())
    machine = ARCHITECTURES.get(machine, machine)
    return Target(machine, system, tag=_macos_tag(machine) if system == "macos" else "")
