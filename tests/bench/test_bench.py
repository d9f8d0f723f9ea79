# SPDX-License-Identifier: MIT
"""The benchmark: right numbers, nothing counted that did not come back, runs that go on, and what it leaves behind."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toy
from click.testing import CliRunner
from PIL import Image
from places import ROOT

import gmcodec
from gmcodec import errors
from gmcodec.cli.main import cli

pytest.importorskip("imagecodecs")
pytest.importorskip("matplotlib")

from gmcodec.bench import archive, catalogue, codecs, competitors, images, measure, report, run, summary, tables

pytestmark = pytest.mark.usefixtures("toy_weights")

FAST = "PNG,JPEG XL -e 3,gmcodec"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small photographs, so to speak, and a file that is none."""
    made = tmp_path_factory.mktemp("set")
    random = np.random.default_rng(5)
    for name, shape in (("a", (3, 24, 40)), ("b", (3, 17, 9))):
        Image.fromarray(toy.smooth(random, shape).transpose(1, 2, 0)).save(made / f"{name}.png")
    (made / "broken.png").write_bytes(b"no image")
    (made / "notes.txt").write_text("not looked at")
    return made


def plain(image: np.ndarray) -> codecs.Compressed:
    return codecs.Compressed(image.tobytes())


def made_up(name: str, decode=None, **changes) -> codecs.Codec:
    """A codec that stores pixels as they are, of images of 24x40 RGB."""
    decode = decode or (lambda data: np.frombuffer(data, np.uint8).reshape(24, 40, 3))
    return replace(codecs.Codec(name, "made up", lambda threads: (plain, decode)), **changes)


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch):
    """Replace all codecs of the benchmark."""

    def use(*found: codecs.Codec) -> None:
        monkeypatch.setattr(catalogue, "all_codecs", lambda: list(found))
        monkeypatch.setattr(run, "all_codecs", lambda: list(found))

    return use


def settings(*paths: Path, **changes) -> run.Settings:
    return run.Settings(paths, memory=False, threads=1, **changes)


# -- the command ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_quick_run_leaves_everything(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = CliRunner().invoke(cli, ["bench", str(folder), "--quick", "--codecs", FAST, "-o", str(out)])
    assert done.exit_code == 0, done.output
    found = json.loads((out / "results.json").read_text())
    (result,) = found["sets"]
    sizes = {(r["image"], r["codec"]): r["bytes"] for r in result["rows"]}
    assert len(sizes) == 6
    for name in ("a.png", "b.png"):
        image = np.asarray(Image.open(folder / name))
        png = io.BytesIO()
        Image.fromarray(image).save(png, "PNG", optimize=True)
        assert sizes[name, "PNG"] == len(png.getvalue())
        assert sizes[name, "gmcodec"] == len(gmcodec.encode(image))
    totals = {f["codec"]: f for f in result["summary"]}
    assert totals["PNG"]["bytes"] == sizes["a.png", "PNG"] + sizes["b.png", "PNG"]
    assert totals["PNG"]["bpsp"] == pytest.approx(8 * totals["PNG"]["bytes"] / (3 * (24 * 40 + 17 * 9)))
    assert totals["PNG"]["ours_against"] == pytest.approx(totals["gmcodec"]["bytes"] / totals["PNG"]["bytes"] - 1)
    assert totals["gmcodec"]["estimated_bpsp"] < totals["gmcodec"]["bpsp"]
    assert all(f["peak_memory"] > 10 << 20 for f in totals.values())
    assert result["skipped"][0][0] == "broken.png"
    assert found["versions"]["numpy"] == np.__version__
    assert {"machine", "commit", "source", "settings", "not_measured"} <= set(found)
    assert f"| **gmcodec** | **{totals['gmcodec']['bytes']:,}** |" in (out / "table.md").read_text()
    for kind in ("encode", "decode", "scatter"):
        assert (out / f"{report.slug(folder.name)}-{kind}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (out / f"{report.slug(folder.name)}-{kind}.svg").read_text()


@pytest.mark.slow
def test_the_page_needs_nothing_else(folder: Path, tmp_path: Path) -> None:
    results = run.run(settings(folder, codecs=("png", "qoi", "jpeg xl -e 3", "gmcodec")), tmp_path / "out")
    report.write(results, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<svg") == 3
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#|data:)""", page)
    shown = re.findall(r'src="data:image/png;base64,([^"]*)"><figcaption>([^:]*): ([^<]*)<', page)
    assert [(image, scale.split(" bits")[0][:9]) for _, image, scale in shown] == [
        ("a.png", "0 (black)"),
        ("b.png", "0 (black)"),
    ]
    assert Image.open(io.BytesIO(base64.b64decode(shown[0][0]))).size == (40, 24)
    assert "maps" not in json.loads((tmp_path / "out" / "results.json").read_text())["sets"][0]
    assert "@import" not in page
    assert "a.png" in page


def test_help_is_fast_and_light() -> None:
    code = (
        "import sys; from gmcodec.cli.main import cli; cli(['bench', '-h'], standalone_mode=False); print(*sys.modules)"
    )
    before = os.times()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = os.times()  # processor time: the machine may be busy
    assert after.children_user + after.children_system - before.children_user - before.children_system < 1
    assert "--resume" in done.stdout
    assert not {"numpy", "imagecodecs", "matplotlib"} & set(done.stdout.split())


@pytest.mark.parametrize("absent", ["imagecodecs", "matplotlib"])
def test_without_the_extra(absent: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    done = CliRunner().invoke(cli, ["bench", str(folder)])
    assert done.exit_code == errors.BenchError.exit_code
    assert "gmcodec[bench]" in done.output


def test_from_a_checkout() -> None:
    root = ROOT
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--help"], cwd=root, capture_output=True, text=True, check=True
    )
    assert "gmcodec bench" in done.stdout


# -- what counts ------------------------------------------------------------------------------------------------


def test_a_lying_codec_is_caught(folder: Path, tmp_path: Path, only) -> None:
    def lie(data: bytes) -> np.ndarray:
        image = np.frombuffer(data, np.uint8).reshape(24, 40, 3).copy()
        image[5, 5, 1] ^= 1
        return image

    only(made_up("honest"), made_up("liar", lie))
    results = run.run(settings(folder / "a.png"), tmp_path)
    honest, liar = summary.summarise(results.sets[0])
    assert honest.bytes == 24 * 40 * 3
    assert liar.bytes is liar.bpsp is liar.encode is None
    assert not liar.lossless
    assert "| liar | not lossless here | -" in tables.markdown(results)
    assert all(r.bytes is None for r in results.sets[0].rows if r.codec == "liar")


def test_one_changed_image_and_no_size_counts(folder: Path, tmp_path: Path, only) -> None:
    only(made_up("rounds", lambda data: np.frombuffer(data, np.uint8).reshape(24, 40, 3) & 254))
    flat = tmp_path / "flat.png"
    Image.fromarray(np.full((24, 40, 3), 8, np.uint8)).save(flat)
    Image.fromarray(np.full((24, 40, 3), 9, np.uint8)).save(tmp_path / "odd.png")
    results = run.run(settings(tmp_path), tmp_path / "out")
    assert [r.status for r in results.sets[0].rows] == [measure.OK, measure.DIFFERS]
    assert summary.summarise(results.sets[0])[0].bytes is None


def test_a_failure_is_told_per_image(folder: Path, tmp_path: Path, only) -> None:
    only(made_up("fixed size"))
    results = run.run(settings(folder), tmp_path)
    (figures,) = summary.summarise(results.sets[0])
    assert (figures.measured, figures.images, figures.bytes) == (1, 2, 24 * 40 * 3)
    text = tables.markdown(results)
    assert "fixed size (1 of 2 images)" in text
    assert "b.png: ValueError" in text


def test_a_codec_that_is_not_there_is_listed(folder: Path, tmp_path: Path, only) -> None:
    def absent(threads: int) -> codecs.EncodeDecode:
        raise ImportError("No module named 'rare'")

    only(made_up("plain"), made_up("rare", open=absent), made_up("slow", extra=True))
    results = run.run(settings(folder), tmp_path)
    assert results.missing == {"rare": "No module named 'rare'"}
    assert results.not_chosen == ["slow"]
    assert "Missing here: rare (No module named 'rare')." in tables.markdown(results)


def test_same_pixels() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    rgb = np.dstack([grey] * 3)
    opaque = np.dstack([rgb, np.full_like(grey, 255)])
    assert codecs.same_pixels(grey, rgb)
    assert codecs.same_pixels(opaque, rgb)
    assert codecs.same_pixels(rgb, grey)
    assert not codecs.same_pixels(grey, rgb + np.uint8([0, 0, 1]))
    assert not codecs.same_pixels(opaque - np.uint8([0, 0, 0, 1]), rgb)
    assert not codecs.same_pixels(grey, grey.astype(np.uint16))
    assert not codecs.same_pixels(grey, grey.T)


@pytest.mark.parametrize("name", [c.name for c in competitors.COMPETITORS])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_competitor_is_lossless(name: str, channels: int) -> None:
    try:
        encode, decode = catalogue.by_name(name).open(2)
    except ImportError as error:
        pytest.skip(str(error))
    image = toy.smooth(np.random.default_rng(2), (channels, 19, 22)).transpose(1, 2, 0).squeeze()
    assert codecs.same_pixels(image, decode(encode(image).data))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [3, 4])
def test_the_colour_transform_is_reversible(dtype: type, channels: int) -> None:
    image = np.random.default_rng(3).integers(0, np.iinfo(dtype).max, (9, 8, channels), dtype, endpoint=True)
    assert np.array_equal(competitors.add_green(competitors.subtract_green(image)), image)


# -- which images, which codecs -----------------------------------------------------------------------------------


def test_tiles_and_limit(folder: Path) -> None:
    (cut,) = images.open_sets([folder / "a.png"], grey=False, tiles=10, limit=5)
    found = list(cut)
    assert [name for name, _ in found] == [f"a.png[{n}]" for n in range(5)]
    whole = np.asarray(Image.open(folder / "a.png"))
    assert np.array_equal(found[4][1], whole[10:20, :10])


def test_palette_and_grey(tmp_path: Path) -> None:
    image = Image.fromarray(toy.smooth(np.random.default_rng(1), (3, 8, 8)).transpose(1, 2, 0))
    image.convert("P").save(tmp_path / "p.png")
    assert np.array_equal(images.load(tmp_path / "p.png", False), np.asarray(image.convert("P").convert("RGB")))
    assert images.load(tmp_path / "p.png", True).shape == (8, 8)


def test_choosing_codecs() -> None:
    assert [c.name for c in catalogue.choose(["jpeg xl -e ?", "qoi"], False)][-2:] == ["JPEG XL -e 9", "QOI"]
    assert not any(c.extra for c in catalogue.choose([], False))
    assert all(c.quick for c in catalogue.choose([], True))
    assert len(catalogue.choose(["all"], False)) == len(catalogue.all_codecs())
    with pytest.raises(errors.BenchError, match="nonesuch"):
        catalogue.choose(["nonesuch"], False)


def test_every_model_of_the_registry_is_a_codec() -> None:
    from gmcodec.models import registry

    names = {c.name for c in catalogue.all_codecs()}
    assert {f"gmcodec {entry.name}" for entry in registry.ENTRIES} < names


# -- going on --------------------------------------------------------------------------------------------------------


def test_a_run_that_was_cut_off_goes_on(folder: Path, tmp_path: Path, only) -> None:
    seen: list[tuple[int, int]] = []

    def open_counting(threads: int) -> codecs.EncodeDecode:
        def encode(image: np.ndarray) -> codecs.Compressed:
            seen.append(image.shape[:2])
            return plain(image)

        shapes = {24 * 40 * 3: (24, 40, 3), 17 * 9 * 3: (17, 9, 3)}
        return encode, lambda data: np.frombuffer(data, np.uint8).reshape(shapes[len(data)])

    only(made_up("counting", open=open_counting))
    whole = run.run(settings(folder), tmp_path)
    rows = tmp_path / "rows.jsonl"
    lines = rows.read_text().splitlines()
    rows.write_text("\n".join(lines[:2]) + "\n" + lines[2][:20])  # cut off while the last row was written
    seen.clear()
    again = run.run(settings(folder), tmp_path, resume=True)
    assert seen[1:] == [(17, 9)]  # but for the warm-up
    assert [(r.image, r.bytes) for r in again.sets[0].rows] == [(r.image, r.bytes) for r in whole.sets[0].rows]
    assert again.sets[0].rows[0] == whole.sets[0].rows[0]
    assert len(rows.read_text().splitlines()) == 3


def test_another_version_does_not_go_on(folder: Path, tmp_path: Path, only, monkeypatch: pytest.MonkeyPatch) -> None:
    only(made_up("plain"))
    run.run(settings(folder), tmp_path)
    monkeypatch.setattr(run.machine, "_commit", lambda: "another")
    with pytest.raises(errors.BenchError, match="commit"):
        run.run(settings(folder), tmp_path, resume=True)
    with pytest.raises(errors.OutputExistsError):
        run.run(settings(folder), tmp_path)
    run.run(settings(folder), tmp_path, force=True)


def test_order_rotates_and_repeats(folder: Path, tmp_path: Path, only) -> None:
    order: list[str] = []

    def noting(name: str) -> codecs.Codec:
        def encode(image: np.ndarray) -> codecs.Compressed:
            order.append(name)
            return plain(image)

        _, decode = made_up(name).open(1)
        return made_up(name, open=lambda threads: (encode, decode))

    only(noting("a"), noting("b"), noting("c"))
    results = run.run(settings(folder / "a.png", repeat=2), tmp_path)
    assert order[3:] == ["a", "b", "c", "b", "c", "a"]
    assert all(len(r.encode_s) == len(r.decode_s) == 2 for r in results.sets[0].rows)


# -- archives --------------------------------------------------------------------------------------------------------


class Heap:
    """An archive that is images one after another, of 24x40 and 17x9 RGB."""

    name, settings = "heap", "made up"

    def encode_set(self, images: Sequence[np.ndarray], threads: int) -> codecs.Compressed:
        return codecs.Compressed(b"".join(image.tobytes() for image in images))

    def decode_set(self, data: bytes, threads: int) -> list[np.ndarray]:
        flat = np.frombuffer(data, np.uint8)
        return [flat[:2880].reshape(24, 40, 3), flat[2880:].reshape(17, 9, 3)]


class Forgetful(Heap):
    name = "forgetful"

    def decode_set(self, data: bytes, threads: int) -> list[np.ndarray]:
        return super().decode_set(data, threads)[:1]


def test_archives(folder: Path, tmp_path: Path, only, monkeypatch: pytest.MonkeyPatch) -> None:
    only(made_up("plain"))
    monkeypatch.setattr(archive, "ARCHIVES", [Heap(), Forgetful()])
    monkeypatch.setattr(run, "ARCHIVES", archive.ARCHIVES)
    named = settings(folder, codecs=("plain", "heap", "forgetful"))
    results = run.run(named, tmp_path)
    _, heap, forgetful = summary.summarise(results.sets[0])
    assert heap.archive
    assert heap.bytes == 3 * (24 * 40 + 17 * 9)
    assert heap.bpsp == 8
    assert forgetful.bytes is None
    again = run.run(named, tmp_path, resume=True)
    assert again.sets[0].rows == results.sets[0].rows
    alone = run.run(settings(folder, codecs=("heap",)), tmp_path, resume=True)
    assert [r.codec for r in alone.sets[0].rows] == ["heap"]


def test_the_archive_of_gmcodec_is_measured_on_small_images(folder: Path, tmp_path: Path, only) -> None:
    only(made_up("plain"))
    whole = run.run(settings(folder), tmp_path / "whole")
    assert {r.codec for r in whole.sets[0].rows} == {"plain"}
    cut = run.run(settings(folder, tiles=8), tmp_path / "cut")
    *rows, row = cut.sets[0].rows
    assert {r.codec for r in rows} == {"plain"}
    assert (row.codec, row.status, row.image) == ("gmcodec archive", "ok", archive.WHOLE_SET)
    assert 0 < row.estimated_bits / 8 < row.bytes < row.samples
