# SPDX-License-Identifier: MIT
"""Peak memory of a codec: a fresh process that loads it, reads one image, encodes and decodes it.

    python -m gmcodec.bench.memory CODEC IMAGE.npy THREADS     prints bytes

The figure is the largest resident size of that whole process: Python, numpy, the codec's libraries and the image
are in it.  BASELINE as the codec measures what is there without any codec.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from gmcodec import safe_path

BASELINE = "(no codec)"


def peak_bytes() -> int:
    """The largest resident size of this process so far."""
    try:
        # not ru_maxrss: on Linux a process inherits that from its parent
        status = Path("/proc/self/status").read_text("ascii")
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def of_codec(name: str, image: np.ndarray, threads: int) -> int | None:
    """Peak memory of a codec on an image, in bytes; None where it cannot be measured."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.npy"
        np.save(path, image)
        command = safe_path.command(f"from {__name__} import main; main(*sys.argv[1:])", name, str(path), str(threads))
        environment = safe_path.environment()
        done = subprocess.run(command, capture_output=True, text=True, env=environment)  # noqa: S603
    return int(done.stdout) if done.returncode == 0 else None


def main(name: str, path: str, threads: str) -> None:
    """What the fresh process does."""
    image = np.load(path)
    if name != BASELINE:
        from gmcodec.bench.codecs import by_name

        encode, decode = by_name(name).open(int(threads))
        decode(encode(image).data)
    sys.stdout.write(f"{peak_bytes()}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
