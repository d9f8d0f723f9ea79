# SPDX-License-Identifier: MIT
"""Permissions and times of files: what goes along, what nobody else may read."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import opened, photo, photos, run
from places import GOLDEN

pytestmark = pytest.mark.usefixtures("toy_weights")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of one size in two folders, and a larger one."""
    photos(tmp_path / "set")
    return tmp_path / "set"


def permissions(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def dated(path: Path, mode: int, modified: int = 1_234_567_890_123_456_789) -> Path:
    os.utime(path, ns=(modified, modified))
    path.chmod(mode)
    return path


def attributes(path: Path) -> tuple[int, int]:
    return path.stat().st_mode & 0o7777, path.stat().st_mtime_ns


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o666])
def test_permissions_and_times_go_along(tmp_path: Path, mode: int) -> None:
    source = dated(photo(tmp_path / "a.png"), mode)
    assert run("compress", source, "--verify").exit_code == 0
    assert attributes(tmp_path / "a.gmc") == attributes(source)
    source.unlink()
    dated(tmp_path / "a.gmc", 0o640, 987_654_321)
    assert run("decompress", tmp_path / "a.gmc").exit_code == 0
    assert attributes(source) == (0o640, 987_654_321)


def test_set_user_id_does_not_go_along(tmp_path: Path) -> None:
    source = dated(photo(tmp_path / "a.png"), 0o6755)
    run("compress", source)
    assert attributes(tmp_path / "a.gmc")[0] == 0o755


def test_without_times(tmp_path: Path) -> None:
    source = dated(photo(tmp_path / "a.png"), 0o640)
    run("compress", source, "--no-times")
    assert attributes(tmp_path / "a.gmc")[0] == 0o640
    assert (tmp_path / "a.gmc").stat().st_mtime > time.time() - 1000


def test_a_file_that_is_replaced_gets_the_permissions_of_the_source(tmp_path: Path) -> None:
    source = dated(photo(tmp_path / "a.png"), 0o600)
    (tmp_path / "a.gmc").write_bytes(b"old")
    dated(tmp_path / "a.gmc", 0o644)
    assert run("compress", source, "--force").exit_code == 0
    assert attributes(tmp_path / "a.gmc") == attributes(source)


def test_nobody_else_reads_a_result_that_is_being_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append(os.fstat(descriptor).st_mode & 0o777))
    run("compress", dated(photo(tmp_path / "a.png"), 0o604))
    assert seen == [0o600]


def test_standard_input_has_no_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        data = photo(tmp_path / "a.png").read_bytes()
        assert run("compress", "-", "-o", tmp_path / "b.gmc", data=data).exit_code == 0
    finally:
        os.umask(before)
    assert attributes(tmp_path / "b.gmc")[0] == 0o640


def test_file_systems_without_permissions_are_worth_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    source = photo(tmp_path / "a.png")
    monkeypatch.setattr(os, "chmod", refuse)
    monkeypatch.setattr(os, "utime", refuse)
    result = run("compress", source)
    assert result.exit_code == 0
    assert "warning: its time cannot be set: Operation not permitted\n" in result.output
    assert "warning: its permissions cannot be set: Operation not permitted\n" in result.output
    assert (tmp_path / "a.gmc").exists()


# -- archives -----------------------------------------------------------------------------------------------


def test_an_archive_keeps_permissions_and_times(folder: Path, tmp_path: Path) -> None:
    dated(folder / "a/0.png", 0o640, 1_234_567_890_123_456_789)
    dated(folder / "a/1.png", 0o444, -1_500_000_000)
    dated(folder / "wide.webp", 0o604, 2_000_000_000_000_000_001)
    run("pack", folder, "-o", tmp_path / "x.gma")
    assert permissions(tmp_path / "x.gma") == 0o400  # 640 & 444 & 604
    assert run("unpack", tmp_path / "x.gma").exit_code == 0
    for packed, unpacked in (("a/0.png", "a/0.png"), ("a/1.png", "a/1.png"), ("wide.webp", "wide.png")):
        assert permissions(tmp_path / "x" / unpacked) == permissions(folder / packed)
        assert (tmp_path / "x" / unpacked).stat().st_mtime_ns == (folder / packed).stat().st_mtime_ns
    run("unpack", tmp_path / "x.gma", "-o", tmp_path / "now", "--no-times")
    assert permissions(tmp_path / "now/a/0.png") == 0o640
    assert (tmp_path / "now/a/0.png").stat().st_mtime > time.time() - 1000


def test_an_archive_without_times(folder: Path, tmp_path: Path) -> None:
    dated(folder / "a/0.png", 0o640, 10**18)
    run("pack", folder / "a", "-o", tmp_path / "x.gma", "--no-times")
    member = opened(tmp_path / "x.gma").members[0]
    assert (member.modified, member.permissions) == (None, 0o640)
    run("unpack", tmp_path / "x.gma")
    assert (tmp_path / "x/0.png").stat().st_mtime > time.time() - 1000


def test_an_archive_is_as_private_as_its_images(folder: Path, tmp_path: Path) -> None:
    run("pack", folder / "a", "-o", tmp_path / "x.gma")
    assert permissions(tmp_path / "x.gma") == 0o644
    (folder / "b/0.png").chmod(0o600)
    run("pack", folder / "b", "-o", tmp_path / "y.gma")
    assert permissions(tmp_path / "y.gma") == 0o600
    run("pack", folder / "b/0.png", "-o", tmp_path / "x.gma", "--append")
    assert run("pack", folder / "b/0.ppm", "-o", tmp_path / "x.gma", "--append").exit_code == 0
    run("pack", folder / "wide.webp", "-o", tmp_path / "y.gma", "--append")
    assert permissions(tmp_path / "y.gma") == 0o600
    run("pack", folder / "wide.webp", "-o", tmp_path / "y.gma", "--force")
    assert permissions(tmp_path / "y.gma") == 0o644


def test_nobody_else_reads_an_archive_that_is_being_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append(os.fstat(descriptor).st_mode & 0o777))
    run("pack", folder / "a", "-o", tmp_path / "x.gma")
    assert seen == [0o600]


def test_the_umask_holds(tmp_path: Path) -> None:
    """Of what an archive says only what the user grants to new files is set, and nothing but permissions."""
    path = photo(tmp_path / "set/a.png", 8, 9)
    path.chmod(0o6777)
    run("pack", path, "-o", tmp_path / "x.gma")
    assert permissions(tmp_path / "x.gma") == 0o644
    assert opened(tmp_path / "x.gma").members[0].permissions == 0o777
    run("unpack", tmp_path / "x.gma")
    assert permissions(tmp_path / "x/a.png") == 0o755


def test_an_archive_of_version_1_is_appended_to(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "v1-set.gma", tmp_path / "x.gma")
    source = dated(photo(tmp_path / "new.png", 8, 9), 0o600)
    assert run("pack", source, "-o", tmp_path / "x.gma", "--append").exit_code == 0
    assert (tmp_path / "x.gma").read_bytes().startswith((GOLDEN / "v1-set.gma").read_bytes())
    assert permissions(tmp_path / "x.gma") == 0o600
    members = opened(tmp_path / "x.gma").members
    assert [(member.permissions, member.modified) for member in members[:-1]] == [(None, None)] * (len(members) - 1)
    assert (members[-1].permissions, members[-1].modified) == (0o600, 1_234_567_890_123_456_789 / 1e9)
    assert run("unpack", tmp_path / "x.gma", "new.png").exit_code == 0
    assert attributes(tmp_path / "x/new.png") == attributes(source)
