# SPDX-License-Identifier: MIT
"""Compiled code is kept on disk where that can be, and made anew where it cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import gmcodec

KEPT = """
import sys, numpy as np
sys.path.insert(0, {root!r})
{first}
from gmcodec.exact import kernels
{before}
row = np.array([[3, 1, 2]], np.int64)
kernels.normalise(row[0], 6)
print(row.sum(), getattr(kernels.normalise, "_cache", None).cache_path)
"""


def compiled(folder: Path, before: str = "", first: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Compile a kernel of a copy of the package."""
    code = KEPT.format(root=str(folder), before=before, first=first)
    kept = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "PYTHONPATH", "XDG_CACHE_HOME")}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=kept | variables, cwd=folder
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what compiles a kernel."""
    source = Path(gmcodec.__file__).parent
    for name in ("__init__.py", "errors.py"):
        (tmp_path / "gmcodec").mkdir(exist_ok=True)
        shutil.copy(source / name, tmp_path / "gmcodec" / name)
    shutil.copytree(source / "exact", tmp_path / "gmcodec" / "exact", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_compiled_code_without_a_place(copy: Path) -> None:
    (copy / "gmcodec" / "exact" / "__pycache__").touch()
    done = compiled(copy, HOME=os.devnull)
    assert (done.returncode, done.stdout, done.stderr) == (0, "16384 None\n", "")
    done = compiled(copy, first="import os; os.path.expanduser = lambda path: path")  # a user without a home
    assert done.returncode == 0
    assert not (copy / "~").exists()


@pytest.mark.parametrize(
    "damage", ["code", *(pytest.param(d, marks=pytest.mark.slow) for d in ("index", "both", "folder"))]
)
def test_damaged_compiled_code(copy: Path, damage: str) -> None:
    first = compiled(copy)
    place = Path(first.stdout.split()[1])
    index, code = sorted(place.glob("kernels.normalise-*.nb?"), reverse=True)
    assert (code.suffix, index.suffix) == (".nbc", ".nbi") or (index.suffix, code.suffix) == (".nbi", ".nbc")
    for file, kinds in ((index, ("index", "both")), (code, ("code", "both"))):
        if damage in kinds:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    if damage == "folder":
        code.unlink()
        code.mkdir()  # can be neither read nor written
    done = compiled(copy)
    assert (done.returncode, done.stdout, done.stderr) == (0, first.stdout, "")
    if damage != "folder":  # it is whole again
        done = compiled(copy, before="kernels.Kept.save_overload = lambda *a: print('compiled')")
        assert done.stdout == first.stdout


@pytest.mark.parametrize(("step", "error"), [
    ("_load_index", "EOFError()"), ("_save_index", "OSError(30, 'read-only')"), ("_save_data", "OSError(28, 'full')"),
    ("_load_data", "pickle.UnpicklingError('cut')"),
])  # fmt: skip
def test_compiled_code_that_cannot_be_kept(copy: Path, step: str, error: str) -> None:
    before = (
        f"import pickle\nfrom numba.core import caching\ndef fail(*a): raise {error}\n"
        f"caching.IndexDataCacheFile.{step} = fail"
    )
    if step == "_load_data":
        compiled(copy)
    done = compiled(copy, before=before)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("16384 ")
