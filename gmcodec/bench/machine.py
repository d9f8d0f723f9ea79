# SPDX-License-Identifier: MIT
"""The conditions of a benchmark, under which its figures hold: the machine and all versions."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from gmcodec import __version__, codec
from gmcodec.models import registry

PACKAGES = ("numpy", "pillow", "constriction", "imagecodecs", "pyoxipng", "pillow-heif", "matplotlib")
PACKAGE = Path(codec.__file__).parent


def conditions() -> dict[str, Any]:
    """The conditions as plain values, for JSON."""
    return {
        "machine": {
            "processor": _processor(),
            "architecture": platform.machine(),
            "usable_cores": codec.available_threads(),
            "system": platform.platform(),
        },
        "versions": {"gmcodec": __version__, "python": platform.python_version(), **_packages(), **_libraries()},
        "commit": _commit(),
        "source": _source_hash(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _libraries() -> dict[str, str]:
    """Versions of the C libraries in imagecodecs and Pillow."""
    import imagecodecs
    from PIL import features

    wanted = ("libjxl", "charls", "openjpeg", "libavif", "qoi")
    found = dict(text.rpartition("-")[::2] for text in imagecodecs.version().split(", "))
    libraries = {name: found[name] for name in wanted if name in found}
    return libraries | {"libwebp (Pillow)": features.version("webp") or "none"}


def _commit() -> str:
    """The commit of a checkout, marked if the working tree differs; empty for an installed package."""
    git = shutil.which("git")
    if git is None or not (PACKAGE.parent / ".git").exists():
        return ""
    ask = {"capture_output": True, "text": True, "cwd": PACKAGE.parent}
    head = subprocess.run([git, "rev-parse", "HEAD"], **ask)  # type: ignore[call-overload]  # noqa: S603
    changes = subprocess.run([git, "status", "--porcelain", "gmcodec"], **ask)  # type: ignore[call-overload]  # noqa: S603
    return head.stdout.strip() + (" with changes" if changes.stdout.strip() else "")


def _source_hash() -> str:
    """A hash of everything that determines gmcodec's bytes and speed: weights, and modules of the codec itself."""
    found = hashlib.sha256()
    modules = (p for p in PACKAGE.rglob("*.py") if p.relative_to(PACKAGE).parts[0] not in ("bench", "training"))
    for path in sorted([*modules, *registry.folder().glob("*.safetensors")]):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]
