# SPDX-License-Identifier: MIT
"""The command line: what it writes, says and returns, and what it must never do to a user's files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from commands import names, photo, run, same
from PIL import Image

from gmcodec import codec
from gmcodec.cli import paths
from gmcodec.image import reading

pytestmark = pytest.mark.usefixtures("toy_weights")


# -- one file there and back ---------------------------------------------------------------------------------


def test_there_and_back(tmp_path: Path) -> None:
    source = photo(tmp_path / "a.png", dpi=(300, 300))
    result = run("compress", source, "--verify")
    assert result.exit_code == 0, result.output
    data = (tmp_path / "a.gmc").read_bytes()
    assert data == codec.encode(source)
    for part in ("a.png:", f"{source.stat().st_size} -> {len(data)} bytes", "% of the source", " bpd; estimate ",
                 "overhead ", "-rgb-fast, verified"):  # fmt: skip
        assert part in result.output
    result = run("decompress", tmp_path / "a.gmc", "-o", tmp_path / "back.png")
    assert result.exit_code == 0
    assert "30x20 RGB" in result.output
    assert reading.read(source) == reading.read(tmp_path / "back.png")
    assert names(tmp_path) == ["a.gmc", "a.png", "back.png"]


@pytest.mark.parametrize("code", ["learned", "conventional"])
def test_code_is_forced(tmp_path: Path, code: str) -> None:
    result = run("compress", photo(tmp_path / "a.png"), "--code", code, "--threads", "1")
    assert ("-rgb" in result.output) == (code == "learned")
    assert run("verify", tmp_path / "a.gmc").exit_code == 0


def test_a_model_by_name(tmp_path: Path) -> None:
    source = photo(tmp_path / "a.png")
    result = run("compress", source, "--model", "pixelcnnpp", "--verify")
    assert result.exit_code == 0
    assert "pixelcnnpp, verified" in result.output
    assert run("compress", source, "--model", "local-grey", "--force").exit_code == 3
    assert run("compress", source, "--model", "remote", "--force").exit_code == 2
    assert run("compress", source, "--model", "local-rgb", "--code", "learned", "--force").exit_code == 2
    Image.new("RGB", (129, 128)).save(tmp_path / "large.png")
    result = run("compress", tmp_path / "large.png", "--model", "pixelcnnpp")
    assert result.exit_code == 3
    assert "more than 16384 pixels" in result.output


def test_learned_without_a_model_is_refused(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    Image.open(tmp_path / "a.png").quantize(8).save(tmp_path / "p.png")
    result = run("compress", tmp_path / "p.png", "--code", "learned")
    assert result.exit_code == 3
    assert "no model for images of mode P" in result.output


def test_strip_drops_metadata(tmp_path: Path) -> None:
    run("compress", photo(tmp_path / "a.png", dpi=(300, 300)), "--strip", "--verify")
    assert codec.info((tmp_path / "a.gmc").read_bytes())["metadata"] == []


@pytest.mark.parametrize("suffix", ["png", "tiff", "ppm", "bmp", "webp"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    source = photo(tmp_path / "a.png")
    run("compress", source)
    assert run("decompress", tmp_path / "a.gmc", "-o", tmp_path / f"b.{suffix}").exit_code == 0
    assert same(source, tmp_path / f"b.{suffix}")
    assert run("decompress", tmp_path / "a.gmc", "--format", suffix, "-f").exit_code == 0
    assert same(source, tmp_path / f"a.{suffix}")


def test_formats_that_do_not_fit(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    Image.open(tmp_path / "a.png").convert("LA").save(tmp_path / "la.png")
    run("compress", tmp_path / "la.png")
    result = run("decompress", tmp_path / "la.gmc", "--format", "ppm")
    assert result.exit_code == 3
    assert "PPM cannot hold LA" in result.output
    assert run("decompress", tmp_path / "la.gmc", "-o", tmp_path / "x.jpg").exit_code == 2
    assert run("decompress", tmp_path / "la.gmc", "-o", tmp_path / "x.bmp", "--format", "tiff").exit_code == 2
    assert names(tmp_path) == ["a.png", "la.gmc", "la.png"]


def test_dropped_metadata_is_said(tmp_path: Path) -> None:
    run("compress", photo(tmp_path / "a.png", dpi=(300, 300)))
    result = run("decompress", tmp_path / "a.gmc", "--format", "ppm", "--quiet")
    assert "a.gmc: warning: PPM cannot hold DENSITY" in result.output


def test_a_larger_result_is_said(tmp_path: Path) -> None:
    result = run("compress", photo(tmp_path / "a.jpg", 60, 80, quality=10), "-q")
    assert result.exit_code == 0
    assert "larger than the source (a JPEG is lossy" in result.output


def test_max_pixels(tmp_path: Path) -> None:
    source = photo(tmp_path / "a.png")
    assert run("compress", source, "--max-pixels", "599").exit_code == 4
    assert run("compress", source, "--max-pixels", "600").exit_code == 0
    assert run("verify", tmp_path / "a.gmc", "--max-pixels", "599").exit_code == 4
    assert run("decompress", tmp_path / "a.gmc", "-f", "--max-pixels", "0").exit_code == 0


# -- a user's files are safe -----------------------------------------------------------------------------------


def test_existing_outputs_are_kept(tmp_path: Path) -> None:
    source = photo(tmp_path / "a.png")
    (tmp_path / "a.gmc").write_bytes(b"precious")
    result = run("compress", source)
    assert result.exit_code == 11
    assert "--force" in result.output
    assert (tmp_path / "a.gmc").read_bytes() == b"precious"
    assert run("compress", source, "--force").exit_code == 0
    assert run("verify", tmp_path / "a.gmc").exit_code == 0


def test_a_source_is_not_its_own_output(tmp_path: Path) -> None:
    source = photo(tmp_path / "a.png")
    before = source.read_bytes()
    assert run("compress", source, "-o", source, "--force").exit_code == 2
    assert source.read_bytes() == before


def test_delete(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    assert run("compress", tmp_path / "a.png", "--delete").exit_code == 0
    assert names(tmp_path) == ["a.gmc"]
    assert run("decompress", tmp_path / "a.gmc", "--delete", "--format", "tiff").exit_code == 0
    assert names(tmp_path) == ["a.tiff"]


def test_delete_only_after_the_result_was_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = photo(tmp_path / "a.png")
    other = reading.read(photo(tmp_path / "b.png", seed=5))
    monkeypatch.setattr(codec, "decode_planes", lambda *args, **options: other)
    result = run("compress", source, "--delete")
    assert result.exit_code == 1
    assert "does not decode to the same image" in result.output
    assert names(tmp_path) == ["a.png", "b.png"]


def test_delete_keeps_what_the_format_cannot_hold(tmp_path: Path) -> None:
    run("compress", photo(tmp_path / "a.png", dpi=(300, 300)))
    result = run("decompress", tmp_path / "a.gmc", "--format", "ppm", "--delete")
    assert result.exit_code == 15
    assert "written, but the source is kept: PPM cannot hold DENSITY" in result.output
    assert names(tmp_path) == ["a.gmc", "a.png", "a.ppm"]


def test_delete_needs_a_file(tmp_path: Path) -> None:
    assert run("compress", photo(tmp_path / "a.png"), "--delete", "-o", "-").exit_code == 2
    assert run("compress", tmp_path / "a.png", "--delete", "-o", os.devnull).exit_code == 1
    assert names(tmp_path) == ["a.png"]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = run("compress", photo(tmp_path / "a.png"))
    assert result.exit_code == paths.OS_ERROR
    assert f"a.png: No space left on device: {tmp_path / 'a.gmc'}\n" in result.output
    assert names(tmp_path) == ["a.png"]


def test_a_missing_folder_is_named_by_its_output(tmp_path: Path) -> None:
    result = run("compress", photo(tmp_path / "a.png"), "-o", tmp_path / "no" / "b.gmc")
    assert result.exit_code == paths.OS_ERROR
    assert f"No such file or directory: {tmp_path / 'no' / 'b.gmc'}" in result.output


def test_devices_are_written_to_and_not_replaced(tmp_path: Path) -> None:
    link = tmp_path / "null"
    link.symlink_to(os.devnull)
    assert run("compress", photo(tmp_path / "a.png"), "-o", link).exit_code == 0
    assert link.is_symlink()


# -- info, verify, models, doctor --------------------------------------------------------------------------------


def test_info(tmp_path: Path) -> None:
    run("compress", photo(tmp_path / "a.png", dpi=(300, 300)))
    result = run("info", tmp_path / "a.gmc")
    assert "30x20 RGB, 8 bits per sample" in result.output
    assert "-rgb-fast: 3 channels" in result.output
    assert "DENSITY 9 bytes" in result.output


def test_info_draws_what_pixels_cost(tmp_path: Path) -> None:
    run("compress", photo(tmp_path / "a.png"))
    a, picture = tmp_path / "a.gmc", tmp_path / "bits.png"
    result = run("info", "--map", picture, a)
    assert result.exit_code == 0, result.output
    drawn = Image.open(picture)
    assert drawn.size == (30, 20)
    scale = drawn.text["Description"].removeprefix("bits of each pixel in a .gmc file: ")
    assert scale.startswith("0 (black) to ")
    assert f"{picture}: {scale}" in result.output
    assert names(tmp_path) == ["a.gmc", "a.png", "bits.png"]
    before = picture.read_bytes()
    picture.write_bytes(b"mine")
    result = run("info", "--map", picture, a)
    assert result.exit_code == 11
    assert picture.read_bytes() == b"mine"
    result = run("info", "--map", picture, "--force", "--json", a)
    assert picture.read_bytes() == before
    said = json.loads(result.output)
    found = said.pop("map")
    assert said == {"file": str(a)} | codec.info(a.read_bytes())
    assert found["file"] == str(picture)
    assert found["mean"] == pytest.approx(8 * said["parts"][0]["bytes"] / 600, rel=0.05)
    assert found["spread"] == []
    assert run("info", "--map", tmp_path / "std.png", "-", data=a.read_bytes()).exit_code == 0
    assert (tmp_path / "std.png").read_bytes() == before


def test_info_says_what_is_spread_evenly(tmp_path: Path) -> None:
    source = photo(tmp_path / "a.png")
    for model, what in (("agave-rgb", "latents of agave-rgb"), ("ade", "noise, features and latents of ade")):
        run("compress", source, "--model", model, "-f")
        result = run("info", "-f", "--map", tmp_path / "bits.png", tmp_path / "a.gmc")
        assert f"{what}, if any, are spread evenly" in result.output
    run("compress", source, "--code", "conventional", "-f")
    result = run("info", "-f", "--map", tmp_path / "bits.png", tmp_path / "a.gmc")
    assert "does not say what a pixel costs" in result.output


def test_maps_of_several_files(tmp_path: Path) -> None:
    for name in ("a.png", "sub/a.jpg"):
        run("compress", photo(tmp_path / "in" / name), "--keep-suffix", "-o", f"{tmp_path / 'in' / name}.gmc")
    result = run("info", "-r", tmp_path / "in", "--map", tmp_path / "out/", "--json")
    assert result.exit_code == 2  # pathlib drops the slash
    result = run("info", "-r", tmp_path / "in", "--map", f"{tmp_path}/out/", "--json", "-q")
    assert result.exit_code == 0, result.output
    assert [json.loads(line)["map"]["file"] for line in result.stdout.splitlines()] == [
        str(tmp_path / "out" / name) for name in ("a.png.bits.png", "sub/a.jpg.bits.png")
    ]
    assert names(tmp_path / "out") == ["a.png.bits.png", "sub/a.jpg.bits.png"]


def test_mistakes_with_maps(tmp_path: Path) -> None:
    run("compress", photo(tmp_path / "a.png"))
    a = tmp_path / "a.gmc"
    for arguments, what in (
        (("--map", "x.png", a, a), "several inputs need a directory"),
        (("--map", "x.png", "-r", tmp_path), "several inputs need a directory"),
        (("--map", "-", a), "--map needs a file"),
        (("--map", "x.jpg", a), "is a PNG file"),
        (("--map", f"{tmp_path}/", "-"), "give --map a file name"),
        (("--threads", "2", a), "are of --map"),
        (("--force", a), "are of --map"),
    ):
        result = run("info", *arguments)
        assert result.exit_code == 2, arguments
        assert what in " ".join(result.output.split())
    assert run("info", "--max-pixels", "10", "--map", tmp_path / "x.png", a).exit_code == 4
    damaged = bytearray(a.read_bytes())
    damaged[-9] ^= 1
    (tmp_path / "b.gmc").write_bytes(damaged)
    assert run("info", "--map", tmp_path / "x.png", tmp_path / "b.gmc").exit_code == 5
    assert run("info", "--map", tmp_path / "none" / "x.png", a).exit_code == 12
    assert names(tmp_path) == ["a.gmc", "a.png", "b.gmc"]


def test_info_json(tmp_path: Path) -> None:
    run("compress", photo(tmp_path / "a.png"), photo(tmp_path / "b.png", seed=1))
    result = run("info", "--json", tmp_path / "a.gmc", tmp_path / "b.gmc")
    lines = [json.loads(line) for line in result.output.splitlines()]
    assert [line["file"] for line in lines] == [str(tmp_path / "a.gmc"), str(tmp_path / "b.gmc")]
    assert lines[0] == {"file": str(tmp_path / "a.gmc")} | codec.info((tmp_path / "a.gmc").read_bytes())


def test_verify_goes_on_after_a_bad_file(tmp_path: Path) -> None:
    run("compress", photo(tmp_path / "a.png"))
    data = bytearray((tmp_path / "a.gmc").read_bytes())
    data[-20] ^= 1
    (tmp_path / "0.gmc").write_bytes(data)
    result = run("verify", "-r", tmp_path)
    assert result.exit_code == 5
    assert "0.gmc: the file's CRC-32 is" in result.output
    assert "a.gmc: ok\n" in result.output


def test_missing_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("compress", photo(tmp_path / "a.png"))
    monkeypatch.setenv("GMCODEC_WEIGHTS", str(tmp_path / "nowhere"))
    result = run("verify", tmp_path / "a.gmc")
    assert result.exit_code == 7
    assert result.output.count("\n") == 1
    assert "not installed" in run("models").output
    assert run("doctor").exit_code == 7


def test_models() -> None:
    result = run("models")
    assert result.exit_code == 0
    assert [line.split()[:3] for line in result.output.splitlines()[2:]] == [
        ["local-rgb", "3", "16"], ["local-grey", "1", "17"], ["pixelcnnpp", "3", "18"],
        ["agave", "3", "19"], ["agave-rgb", "3", "20"], ["ade", "3", "21"], ["av-ade", "3", "22"],
        ["local-rgb-fast", "3", "23"], ["learning-rgb-fast", "3", "24"], ["learning-rgb", "3", "25"],
        ["learning-grey", "1", "26"], ["learning-rgb16-fast", "3", "27"], ["learning-rgb16", "3", "28"],
        ["learning-grey16", "1", "29"], ["pair-rgb", "3", "30"],
        ["averaged-grey", "1", "31"], ["averaged-rgb16", "3", "32"], ["averaged-grey16", "1", "33"],
        ["graphics-rgb", "3", "34"], ["graphics-grey", "1", "35"],
    ]  # fmt: skip


@pytest.mark.slow
def test_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GMCODEC_ISA", "portable")
    result = run("doctor")
    assert result.exit_code == 0, result.output
    assert "native core  portable, of " in result.output
    assert result.output.count("same file, same pixels") >= 6
    assert "billion products a second" in result.output
    assert os.environ["GMCODEC_ISA"] == "portable"
    monkeypatch.setenv("GMCODEC_ISA", "abacus")
    assert run("doctor").exit_code == 10
