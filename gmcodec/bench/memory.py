# SPDX-License-Identifier: MIT
"""Peak memory of a codec, measured in a fresh process that reads one image, encodes and decodes it.

    python -m gmcodec.bench.memory CODEC IMAGE.npy THREADS     prints bytes

The figure is the largest resident size of the whole process, including Python, numpy, the codec's libraries and the
image.  With BASELINE as its codec, the process neither encodes nor decodes.
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
        # not ru_maxrss, which a process inherits from its parent on Linux
        status = Path("/proc/self/status").read_text("ascii")
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def of_codec(name: str, image: np.ndarray, threads: int) -> int | None:
    """Peak memory in bytes of a codec on an image, [H, W] or [H, W, C]; None if the process fails."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.npy"
        np.save(path, image)
        command = safe_path.command(f"from {__name__} import main; main(*sys.argv[1:])", name, str(path), str(threads))
        environment = safe_path.environment()
        done = subprocess.run(command, capture_output=True, text=True, env=environment)  # noqa: S603
    return int(done.stdout) if done.returncode == 0 else None


def main(name: str, path: str, threads: str) -> None:
    """The fresh process: encode and decode the array in the file ``path``, then print the peak memory."""
    image = np.load(path)
    if name != BASELINE:
        from gmcodec.bench.catalogue import by_name

        encode, decode = by_name(name).open(int(threads))
        decode(encode(image).data)
    sys.stdout.write(f"{peak_bytes()}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
