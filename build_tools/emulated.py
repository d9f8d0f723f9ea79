# SPDX-License-Identifier: MIT
"""The wheel for 64-bit Arm on this machine, under ``qemu-aarch64``, with each instruction set: it decodes every golden
file to the same pixels, and makes the same bytes of a photograph as this processor.

Needs Debian or Ubuntu with ``qemu-user`` installed, and ``pip install "setuptools>=77" ziglang``.  Nothing is installed
on the system: the Arm Python and its libraries are unpacked under ``build/emulated/``, and are kept there.

    build/emulated/root/     Debian's packages for arm64, unpacked
    build/emulated/site/     the wheel and what it depends on, for aarch64; constriction has no wheel for Linux on Arm,
                             and is replaced by constriction_standin.py
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

HOME = compiler.ROOT / "build" / "emulated"
TARGET = targets.SHIPPED["aarch64-linux-gnu.2.17"]
LIBRARIES = ("libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libffi8", "libbz2-1.0", "liblzma5", "libssl3",
             "libuuid1")  # fmt: skip
PLATFORMS = ("manylinux2014", "manylinux_2_17", "manylinux_2_27", "manylinux_2_28")

ISAS = """
import ctypes, gmcodec, pathlib, platform
library = ctypes.CDLL(str(pathlib.Path(gmcodec.__file__).parent / "native" / "libgmcodec.so"))
library.gm_isas.restype = ctypes.c_char_p
print(platform.machine(), library.gm_isas().decode())
"""

GOLDEN = """
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

ENCODED = """
import hashlib, pathlib, sys
import numpy as np
from PIL import Image
from gmcodec import codec
photo = Image.open(pathlib.Path(sys.argv[1]).parent.parent / "examples" / "photo.png").convert("RGB")
for effort in ("fast", "default"):  # fitted to the picture; learning from it
    data = codec.encode(np.asarray(photo.crop((100, 100, 360, 300))), effort=effort)
    print(f"  {effort:8} {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")
"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Decode and encode with the library for 64-bit Arm, emulated.")
    parser.add_argument("--fresh", action="store_true", help="fetch the Arm packages again")
    parser.add_argument("--load-only", action="store_true", help="only see that the library loads")
    options = parser.parse_args(arguments)
    if options.fresh:
        shutil.rmtree(HOME, ignore_errors=True)
    if not (emulator := shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")):
        sys.exit("qemu-aarch64 is not installed: apt install qemu-user")
    try:
        python = unpacked_python(HOME / "root")
        unpacked_wheel(HOME / "site", python.name.removeprefix("python"))
        names = emulate(emulator, python, ISAS).strip()
        say(f"the library loads: {names}")
        if options.load_only:
            return
        here = run(sys.executable, "-c", ENCODED, str(compiler.ROOT / "tests" / "golden"), cwd=compiler.ROOT)
        for isa in names.split()[-1].split(","):
            start = time.perf_counter()
            emulate(emulator, python, GOLDEN, isa, show=True)
            if (there := emulate(emulator, python, ENCODED, isa)) != here:
                sys.exit(f"other bytes with {isa}:\n{there}than here:\n{here}")
            say(f"  the same bytes of a photograph as here:\n{there.rstrip()}")
            say(f"{isa}: {time.perf_counter() - start:.0f} s, start-up included")
    except (compiler.BuildError, subprocess.CalledProcessError) as error:
        sys.exit(f"{error}\n{getattr(error, 'stderr', None) or ''}".strip())


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run(*command: str, cwd: Path | None = None) -> str:
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


def unpacked_python(root: Path) -> Path:
    """Debian's Python for arm64: its binary.  apt works in a folder of its own, with this system's list of sources."""
    if found := next(iter(sorted(root.glob("usr/bin/python3.*[0-9]"))), None):
        return found
    state = HOME / "apt"
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
    names = (f"{python}-minimal", f"lib{python}-minimal", f"lib{python}-stdlib", *LIBRARIES)
    run("apt-get", *apt, "--quiet", "download", *names, cwd=packages)
    for package in sorted(packages.glob("*.deb")):
        run("dpkg", "--extract", str(package), str(root))
    shutil.rmtree(state)
    return root / "usr" / "bin" / python


def unpacked_wheel(site: Path, version: str) -> None:
    """The wheel as it is now, and what it depends on, for Arm."""
    wheel = wheels.make(TARGET, HOME)
    if wrong := wheels.problems(wheel, TARGET):
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
    """What a wheel needs, without its extras and without what that needs in turn: nothing, for those of gmcodec."""
    with zipfile.ZipFile(wheel) as opened:
        (name,) = [name for name in opened.namelist() if name.endswith(".dist-info/METADATA")]
        lines = opened.read(name).decode().splitlines()
    return [line.partition(":")[2].strip() for line in lines if line.startswith("Requires-Dist:") and ";" not in line]


def emulate(emulator: str, python: Path, code: str, isa: str = "", show: bool = False) -> str:
    """Run code in the Arm Python, with nothing of this machine's Python around it, nor the package's sources."""
    root = python.parent.parent.parent
    keep = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    paths = {"PYTHONHOME": str(root / "usr"), "PYTHONPATH": str(HOME / "site"), "PATH": "/nowhere"}
    environment = {**keep, **paths, "GMCODEC_ISA": isa, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [emulator, "-L", str(root), str(python), "-s", "-c", code, str(compiler.ROOT / "tests" / "golden")]
    if show:
        subprocess.run(command, cwd=HOME, env=environment, check=True)
        return ""
    return subprocess.run(command, cwd=HOME, env=environment, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
