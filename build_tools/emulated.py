# SPDX-License-Identifier: MIT
"""Check the wheel for 64-bit Arm on this machine, under ``qemu-aarch64``.

With each instruction set it must decode every golden file to the same pixels, and encode a photograph to the same bytes
as this processor.  Needs Debian or Ubuntu with ``qemu-user`` installed, and ``pip install "setuptools>=77" ziglang``.
Nothing is installed on the system: the Arm Python and its libraries are unpacked into ``build/emulated/``.

    build/emulated/root/     Debian's packages for arm64, unpacked
    build/emulated/site/     the wheel and its requirements for aarch64; constriction_standin.py replaces constriction,
                             which has no wheel for Linux on Arm
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import compiler
import targets
import wheels

EMULATED = compiler.ROOT / "build" / "emulated"
ARM_TARGET = targets.SHIPPED["aarch64-linux-gnu.2.17"]
DEBIAN_LIBRARIES = (
    "libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libffi8", "libbz2-1.0", "liblzma5", "libssl3",
    "libuuid1",
)  # fmt: skip
PLATFORMS = ("manylinux2014", "manylinux_2_17", "manylinux_2_27", "manylinux_2_28")

REPORT_ISAS = """
import ctypes, gmcodec, pathlib, platform
library = ctypes.CDLL(str(pathlib.Path(gmcodec.__file__).parent / "native" / "libgmcodec.so"))
library.gm_isas.restype = ctypes.c_char_p
print(platform.machine(), library.gm_isas().decode())
"""

DECODE_GOLDEN = """
import os, pathlib, sys, time
import numpy as np
from gmcodec import archive, codec
golden = pathlib.Path(sys.argv[1])
sys.path.append(str(golden))
from regenerate import DATED, SETS
count = 0
for path in sorted(golden.glob("*.gm[ac]")):
    start = time.perf_counter()
    if path.suffix == ".gmc":
        planes, frozen = codec.decode_planes(path.read_bytes()), np.load(path.with_suffix(".npy"))
        same = planes.data.dtype == frozen.dtype and np.array_equal(planes.data, frozen)
    else:
        with archive.Archive(path) as opened:
            same = dict(opened.items()) == {**SETS, "dated": (DATED, None)}[path.stem.split("-")[1]][0]
    print(f"  {path.name:28} {'same' if same else 'DIFFERENT'} {time.perf_counter() - start:6.1f} s", flush=True)
    if not same:
        sys.exit(f"{path.name} decodes to other pixels with {os.environ['GMCODEC_ISA']}")
    count += 1
print(f"  {count} golden files decode to their frozen pixels with {os.environ['GMCODEC_ISA']}")
"""

ENCODE_PHOTO = """
import hashlib, pathlib, sys
import numpy as np
from PIL import Image
from gmcodec import codec
photo = Image.open(pathlib.Path(sys.argv[1]).parent.parent / "examples" / "photo.png").convert("RGB")
for effort in ("fast", "default"):  # a net that is fitted to the picture, and one that learns while it codes
    data = codec.encode(np.asarray(photo.crop((100, 100, 360, 300))), effort=effort)
    print(f"  {effort:8} {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")
"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Decode and encode with the library for 64-bit Arm, emulated.")
    parser.add_argument("--fresh", action="store_true", help="fetch the Arm packages again")
    parser.add_argument("--load-only", action="store_true", help="only check that the library loads")
    options = parser.parse_args(arguments)
    if options.fresh:
        shutil.rmtree(EMULATED, ignore_errors=True)
    if not (emulator := shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")):
        sys.exit("qemu-aarch64 is not installed: apt install qemu-user")
    try:
        python = unpacked_python(EMULATED / "root")
        unpacked_wheel(EMULATED / "site", python.name.removeprefix("python"))
        names = emulate(emulator, python, REPORT_ISAS).strip()
        print_line(f"the library loads: {names}")
        if options.load_only:
            return
        here = run(sys.executable, "-c", ENCODE_PHOTO, str(compiler.ROOT / "tests" / "golden"), cwd=compiler.ROOT)
        for isa in names.split()[-1].split(","):
            start = time.perf_counter()
            emulate(emulator, python, DECODE_GOLDEN, isa, show=True)
            if (there := emulate(emulator, python, ENCODE_PHOTO, isa)) != here:
                sys.exit(f"other bytes with {isa}:\n{there}than here:\n{here}")
            print_line(f"  the same bytes of a photograph as here:\n{there.rstrip()}")
            print_line(f"{isa}: {time.perf_counter() - start:.0f} s, start-up included")
    except (compiler.BuildError, subprocess.CalledProcessError) as error:
        sys.exit(f"{error}\n{getattr(error, 'stderr', None) or ''}".strip())


def print_line(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run(*command: str, cwd: Path | None = None) -> str:
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


def unpacked_python(root: Path) -> Path:
    """The binary of Debian's Python for arm64.  apt uses this system's list of sources, but a folder of its own."""
    if found := next(iter(sorted(root.glob("usr/bin/python3.*[0-9]"))), None):
        return found
    state = EMULATED / "apt"
    packages = state / "packages"
    for folder in (state / "lists" / "partial", state / "cache" / "archives" / "partial", packages, root):
        folder.mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "",
        "Dir::State": str(state),
        "Dir::State::status": str(state / "status"),
        "Dir::Cache": str(state / "cache"),
    }
    apt = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]
    run("apt-get", *apt, "--quiet", "update")
    shown = run("apt-cache", *apt, "show", "--no-all-versions", "python3-minimal")
    (version,) = (line.split()[1] for line in shown.splitlines() if line.startswith("Version:"))
    python = f"python{'.'.join(version.split('.')[:2])}"
    names = (f"{python}-minimal", f"lib{python}-minimal", f"lib{python}-stdlib", *DEBIAN_LIBRARIES)
    run("apt-get", *apt, "--quiet", "download", *names, cwd=packages)
    for package in sorted(packages.glob("*.deb")):
        run("dpkg", "--extract", str(package), str(root))
    shutil.rmtree(state)
    return root / "usr" / "bin" / python


def unpacked_wheel(site: Path, version: str) -> None:
    """Build the wheel, and unpack it and its requirements for Arm into ``site``."""
    wheel = wheels.make(ARM_TARGET, EMULATED)
    if wrong := wheels.problems(wheel, ARM_TARGET):
        raise compiler.BuildError("\n".join(wrong))
    platforms = [f"--platform={name}_aarch64" for name in PLATFORMS]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade", "--no-deps",
           "--only-binary=:all:", f"--python-version={version}", *platforms]  # fmt: skip
    shutil.rmtree(site / "gmcodec", ignore_errors=True)
    run(*pip, f"--target={site}", str(wheel))
    needed = [name for name in requirements(wheel) if not name.startswith("constriction")]
    if (site / "needed").exists() and (site / "needed").read_text("utf-8") == "\n".join(needed):
        return
    run(*pip, f"--target={site}", *needed)
    shutil.copy(Path(__file__).with_name("constriction_standin.py"), site / "constriction.py")
    (site / "needed").write_text("\n".join(needed), "utf-8")


def requirements(wheel: Path) -> list[str]:
    """The requirements of a wheel, without extras.  Those of gmcodec have no requirements of their own."""
    with zipfile.ZipFile(wheel) as opened:
        (name,) = [name for name in opened.namelist() if name.endswith(".dist-info/METADATA")]
        lines = opened.read(name).decode().splitlines()
    return [line.partition(":")[2].strip() for line in lines if line.startswith("Requires-Dist:") and ";" not in line]


def emulate(emulator: str, python: Path, code: str, isa: str = "", show: bool = False) -> str:
    """Run code in the Arm Python, without access to this machine's Python or the package's sources.

    Returns the output, or with ``show`` prints it.
    """
    root = python.parent.parent.parent
    keep = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    paths = {"PYTHONHOME": str(root / "usr"), "PYTHONPATH": str(EMULATED / "site"), "PATH": "/nowhere"}
    environment = {**keep, **paths, "GMCODEC_ISA": isa, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [emulator, "-L", str(root), str(python), "-s", "-c", code, str(compiler.ROOT / "tests" / "golden")]
    if show:
        subprocess.run(command, cwd=EMULATED, env=environment, check=True)
        return ""
    return subprocess.run(command, cwd=EMULATED, env=environment, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
