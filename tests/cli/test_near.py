# SPDX-License-Identifier: MIT
"""``compress --near``: what it says, what it refuses, and that it never takes the place of a lossless file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import photo, run

from gmcodec import codec
from gmcodec.image import reading

pytestmark = pytest.mark.usefixtures("toy_weights")


def test_samples_stay_within_the_bound(tmp_path: Path) -> None:
    source = photo(tmp_path / "a.png")
    result = run("compress", source, "--near", "2", "--verify")
    assert result.exit_code == 0, result.output
    assert "; samples differ by at most 2, PSNR " in result.output
    assert result.output.endswith(" dB, verified\n")
    planes, found = reading.read(source), codec.decode_planes((tmp_path / "a.gmc").read_bytes())
    assert np.abs(planes.data.astype(int) - found.data).max() == 2
    assert "  near      samples may differ by 2\n" in run("info", tmp_path / "a.gmc").output
    assert '"near": 2, "near_alpha": false' in run("info", "--json", tmp_path / "a.gmc").output
    assert run("verify", tmp_path / "a.gmc").exit_code == 0


def test_a_lossless_file_says_nothing_of_it(tmp_path: Path) -> None:
    result = run("compress", photo(tmp_path / "a.png"))
    assert "differ" not in result.output
    assert "near" not in run("info", tmp_path / "a.gmc").output


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--near", "1", "--delete"), "--lossy-ok allows it"),
        (("--near", "1", "--strict"), "exclude one another"),
        (("--near-alpha",), "needs --near"),
        (("--near", "-1"), "Invalid value for '--near'"),
    ],
)
def test_what_is_refused(tmp_path: Path, options: tuple[str, ...], why: str) -> None:
    result = run("compress", photo(tmp_path / "a.png"), *options)
    assert result.exit_code == 2
    assert why in result.output
    assert not (tmp_path / "a.gmc").exists()


def test_a_bound_that_is_too_large_is_told_in_one_line(tmp_path: Path) -> None:
    result = run("compress", photo(tmp_path / "a.png"), "--near", "128")
    assert result.exit_code == 3
    assert "samples of 8 bits may differ by 1 to 127, not 128" in result.output
    assert result.output.count("\n") == 1


def test_delete_when_it_is_allowed(tmp_path: Path) -> None:
    source = photo(tmp_path / "a.png")
    before = reading.read(source)
    assert run("compress", source, "--near", "1", "--delete", "--lossy-ok").exit_code == 0
    assert not source.exists()
    found = codec.decode_planes((tmp_path / "a.gmc").read_bytes())
    assert np.abs(before.data.astype(int) - found.data).max() == 1


def test_a_lossy_file_is_not_taken_for_a_lossless_one(tmp_path: Path) -> None:
    source = photo(tmp_path / "a.png")
    assert run("compress", source, "--near", "1").exit_code == 0
    result = run("compress", source, "--skip-existing")
    assert result.exit_code != 0
    assert "its samples may differ by 1, not by 0" in result.output
    assert run("compress", source, "--near", "1", "--skip-existing").exit_code == 0
