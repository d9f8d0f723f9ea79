# SPDX-License-Identifier: MIT
"""Frozen files decode to their frozen pixels, and encoding gives the frozen bytes again."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from places import GOLDEN

from gmcodec import archive, codec, native
from gmcodec.formats import gma, gmc

sys.path.insert(0, str(GOLDEN))
from regenerate import CASES, DATED, NEAR, SETS, dated, kept

FILES = sorted(GOLDEN.glob("*.gmc"))


def test_there_are_golden_files() -> None:
    current = {p.stem for p in FILES if p.stem.startswith(f"v{gmc.FORMAT_VERSION}-")}
    assert current == {f"v{gmc.FORMAT_VERSION}-{name}" for name in CASES}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_decodes_to_frozen_pixels(path: Path) -> None:
    planes = codec.decode_planes(path.read_bytes())
    frozen = np.load(path.with_suffix(".npy"))
    assert planes.data.dtype == frozen.dtype
    assert np.array_equal(planes.data, frozen)


@pytest.mark.parametrize("name", CASES)
def test_pixels_of_the_cases_are_the_frozen_ones(name: str) -> None:
    assert np.array_equal(np.load(GOLDEN / f"v{gmc.FORMAT_VERSION}-{name}.npy"), kept(name).data)


@pytest.mark.parametrize("isa", native.isas())
@pytest.mark.parametrize(
    "name", [n for n, (_, code) in CASES.items() if code not in ("auto", "conventional") and n != "values16"]
)
def test_learned_bytes_are_frozen(name: str, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # conventional methods and lists of values may change with the version of zlib or libwebp; learned bytes may not
    monkeypatch.setenv(native.ISA_VARIABLE, isa)
    planes, code = CASES[name]
    frozen = gmc.unpack((GOLDEN / f"v{gmc.FORMAT_VERSION}-{name}.gmc").read_bytes())
    made = gmc.unpack(codec.encode_planes(planes, code=code, near=NEAR.get(name)).data)
    assert made.parts[0] == frozen.parts[0]


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.gma")), ids=lambda p: p.stem)
def test_archives_decode_to_their_images(path: Path) -> None:
    with archive.Archive(path) as opened:
        assert dict(opened.items()) == {**SETS, "dated": (DATED, None)}[path.stem.split("-")[1]][0]


def test_attributes_of_files_are_frozen(tmp_path: Path) -> None:
    path = GOLDEN / "v2-dated.gma"
    with archive.Archive(path) as opened:
        assert [(member.name, member.permissions, member.modified) for member in opened.members] == [
            ("a.png", 0o640, 1_000_000_000.5), ("b.png", 0o600, 999_999_990.0), ("c", None, None),
        ]  # fmt: skip
        assert opened.attributes("a.png").modified == 1_000_000_000_500_000_001
    archive.pack(dated(tmp_path), tmp_path / "set.gma", model="local-grey")
    with archive.Archive(tmp_path / "set.gma") as made, archive.Archive(path) as opened:
        assert made.members == opened.members


@pytest.mark.parametrize("isa", ["", "portable"])  # others: files of one image
@pytest.mark.parametrize("version", gma.VERSIONS)
@pytest.mark.parametrize("name", SETS)
def test_groups_are_frozen(tmp_path: Path, name: str, version: int, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # the index is deflated and may change with the version of zlib
    monkeypatch.setenv(native.ISA_VARIABLE, isa)
    frozen = (GOLDEN / f"v{version}-{name}.gma").read_bytes()
    images, model = SETS[name]
    archive.pack(images, tmp_path / "set.gma", model=model)
    made = (tmp_path / "set.gma").read_bytes()
    groups = 0
    for old, new in zip(archive.Archive(frozen).blocks, archive.Archive(made).blocks, strict=True):
        assert old.names == new.names
        if old.kind == gma.GROUP:
            assert (old.method, old.crcs) == (new.method, new.crcs)
            assert frozen[old.offset :][: old.length] == made[new.offset :][: new.length]
            groups += 1
    assert groups == {"set": 2, "chain": 1}[name]
