# SPDX-License-Identifier: MIT
"""Archives: what goes in comes out, grouped or not; the same bytes however they are made; damage and interruptions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import toy
from PIL import Image

import gmcodec
from gmcodec import archive, codec
from gmcodec.archive import Archive, pack
from gmcodec.errors import (
    ChecksumError,
    GmcError,
    GmcFormatError,
    ImageTooLargeError,
    MemberNameError,
    OutputExistsError,
    TruncatedFileError,
    UnknownModelError,
    WeightsError,
)
from gmcodec.formats import gma
from gmcodec.formats.gma import GROUP, SINGLE
from gmcodec.image.modes import MODES
from gmcodec.image.planes import Planes
from gmcodec.models import registry
from gmcodec.progress import Progress, Stoppable
from gmcodec.threads import in_order

pytestmark = pytest.mark.usefixtures("toy_weights")


def smooth(seed: int, channels: int = 3, height: int = 8, width: int = 9) -> Planes:
    data = toy.smooth(np.random.default_rng(seed), (channels, height, width))
    return Planes(data, {1: "L", 3: "RGB"}[channels])


def of_mode(mode: str, seed: int = 0) -> Planes:
    shape = (MODES[mode].channels, 6, 7)
    high = {1: 2, 8: 256, 16: 65536}[MODES[mode].depth]
    dtype = np.uint16 if MODES[mode].depth == 16 else np.uint8
    return Planes(np.random.default_rng(seed).integers(0, high, shape).astype(dtype), mode)


def mixed() -> dict[str, Planes]:
    """Groups of both kinds, other modes, names in folders, metadata."""
    images = {f"rgb/{i:02d}.png": smooth(i) for i in range(7)}
    images |= {f"grey/{i:02d}.png": smooth(i, 1) for i in range(5)}
    images |= {f"modes/{mode}": of_mode(mode) for mode in ("P", "RGBA", "I;16")}
    images["one of its size"] = smooth(1, 3, 5, 4)
    images["resolution.png"] = Planes(smooth(3).data, "RGB", smooth_metadata())
    return images


def smooth_metadata() -> tuple[tuple[int, bytes], ...]:
    image = Image.fromarray(smooth(0).data.transpose(1, 2, 0))
    image.info["dpi"] = (300, 300)
    return codec.to_planes(image).metadata


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, toy_folder: Path) -> tuple[dict[str, Planes], Path]:
    """The mixed images and their archive, made once."""
    path = tmp_path_factory.mktemp("packed") / "mixed.gma"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(registry.WEIGHTS_VARIABLE, str(toy_folder))
        pack(mixed(), path, threads=1)
    return mixed(), path


def load(path: Path) -> Archive:
    """An archive that needs no closing."""
    return Archive(path.read_bytes())


# -- there and back ----------------------------------------------------------------------------------------


def test_there_and_back(packed):
    images, path = packed
    with Archive(path) as opened:
        assert sorted(opened.names) == sorted(images)
        assert len(opened) == len(images)
        assert "rgb/00.png" in opened
        assert dict(opened.items()) == images
        for name in images:
            assert opened.planes(name) == images[name]
    assert dict(load(path).items()) == images


def test_what_is_coded_together(packed):
    with Archive(packed[1]) as opened:
        groups = [block for block in opened.blocks if block.kind == GROUP]
        assert {(block.mode, len(block.names)) for block in groups} == {("RGB", 7), ("L", 5)}
        assert all(member.kind == ("group" if "/0" in member.name else "single") for member in opened.members)
        member = next(member for member in opened.members if member.name == "rgb/03.png")
        assert (member.width, member.height, member.mode, member.code) == (9, 8, "RGB", "local-rgb")
        total = sum(block.length for block in opened.blocks)
        assert sum(member.bytes for member in opened.members) == pytest.approx(total)


def test_some_members(packed):
    images, path = packed
    with Archive(path) as opened:
        wanted = ["grey/04.png", "rgb/02.png", "modes/P"]
        assert dict(opened.items(wanted)) == {name: images[name] for name in wanted}
        assert list(opened.items([])) == []
        for read in (opened.planes, opened.__getitem__, lambda name: list(opened.items([name]))):
            with pytest.raises(MemberNameError, match="nothing like this"):
                read("nothing like this")


def test_images_come_back_as_pillow_images(packed):
    with Archive(packed[1]) as opened:
        assert opened["grey/01.png"].mode == "L"
        assert opened["resolution.png"].info["dpi"][0] == pytest.approx(300, abs=0.01)
        assert np.array_equal(np.asarray(opened["rgb/01.png"]), smooth(1).data.transpose(1, 2, 0))


def test_the_package_offers_both(tmp_path):
    report = gmcodec.pack([("a", smooth(0)), ("b", smooth(1))], tmp_path / "a.gma")
    with gmcodec.Archive(tmp_path / "a.gma") as opened:
        assert list(opened) == ["a", "b"]
    assert (report.images, report.groups, report.grouped) == (2, 1, 2)


def test_the_report_adds_up(tmp_path):
    images = {f"{i:03d}.png": smooth(i) for i in range(10)}
    report = pack(images, tmp_path / "a.gma")
    assert report.bytes == report.added_bytes == (tmp_path / "a.gma").stat().st_size
    assert report.dimensions == 10 * 8 * 9 * 3
    assert report.bits_per_dimension == 8 * report.bytes / report.dimensions
    # head, index, and of the group: weights, two CRCs, the coder's rounding
    assert abs(report.bytes - report.index_bytes - 4 - 12 - report.estimated_bits / 8) < 12
    assert report.index_bytes < 10 * 3 + 60
    alone = sum(len(codec.encode_planes(planes, code="learned").data) for planes in images.values())
    assert report.bytes < alone - 10 * 12


def test_threads_never_change_bytes(packed, tmp_path, monkeypatch):
    pack(mixed(), tmp_path / "a.gma", threads=3)
    assert (tmp_path / "a.gma").read_bytes() == packed[1].read_bytes()
    monkeypatch.setattr(archive, "GROUP_PIXELS", 150)  # groups of two; images of more pixels take turns
    images = {name: planes for name, planes in mixed().items() if name.startswith(("rgb", "grey", "modes/P"))}
    for count in (1, 2):
        pack(images, tmp_path / f"{count}.gma", threads=count)
    assert (tmp_path / "1.gma").read_bytes() == (tmp_path / "2.gma").read_bytes()
    with Archive(tmp_path / "1.gma", threads=2) as opened:
        assert len([block for block in opened.blocks if block.kind == GROUP]) == 3 + 2
        assert dict(opened.items()) == images


def test_waiting_images_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "WAITING_PIXELS", 300)
    images = {f"{i}": smooth(i, 1, 4, 5 + i % 4) for i in range(40)}
    pack(images, tmp_path / "a.gma")
    with Archive(tmp_path / "a.gma") as opened:
        assert max(len(block.names) * block.pixels for block in opened.blocks) < 400
        assert dict(opened.items()) == images


def test_what_costs_less_alone_leaves_its_group(tmp_path):
    images = {f"{i}": smooth(i, 3, 32, 32) for i in range(4)}
    images["noise"] = Planes(np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8), "RGB")
    stripes = np.where(np.arange(32) % 2, 255, 0).astype(np.uint8)
    images["stripes"] = Planes(np.broadcast_to(stripes, (3, 32, 32)).copy(), "RGB")
    pack(images, tmp_path / "a.gma")
    with Archive(tmp_path / "a.gma") as opened:
        assert [block.names for block in opened.blocks] == [("0", "1", "2", "3"), ("noise",), ("stripes",)]
        assert dict(opened.items()) == images
    pack({name: images[name] for name in ("0", "noise", "stripes")}, tmp_path / "b.gma")
    with Archive(tmp_path / "b.gma") as opened:
        assert [block.kind for block in opened.blocks] == [SINGLE] * 3


def test_metadata_and_strip(tmp_path):
    image = Image.fromarray(smooth(0).data.transpose(1, 2, 0))
    image.info["dpi"] = (300, 300)
    report = pack({"a": image, "b": image}, tmp_path / "a.gma")
    assert (report.grouped, report.with_metadata) == (0, 2)
    report = pack({"a": image, "b": image}, tmp_path / "a.gma", strip=True, force=True)
    assert (report.grouped, report.with_metadata) == (2, 0)


def methods(path: Path) -> set[int]:
    with Archive(path) as opened:
        return {block.method for block in opened.blocks if block.kind == GROUP}


def test_a_group_is_coded_with_the_model_that_needs_fewer_bits(tmp_path, monkeypatch):
    images = {str(i): smooth(i) for i in range(20)}
    sizes = {}
    for entry in registry.ENTRIES:
        if (entry.channels, entry.codes_groups) == (3, True):
            packed = pack(images, tmp_path / f"{entry.name}.gma", model=entry.name)
            assert methods(tmp_path / f"{entry.name}.gma") == {entry.method}
            if not entry.opt_in:
                sizes[packed.bytes] = entry.method
    assert pack(images, tmp_path / "best.gma").bytes == min(sizes)
    assert methods(tmp_path / "best.gma") == {sizes[min(sizes)]}
    with Archive(tmp_path / "pixelcnnpp.gma") as opened:
        assert all(opened.planes(name) == planes for name, planes in images.items())


def test_a_model_that_does_not_take_the_size_is_left_out(tmp_path, monkeypatch):
    entries = [e if e.name != "pixelcnnpp" else registry.Entry(18, "pixelcnnpp", 3, 71) for e in registry.ENTRIES]
    pack({"a": smooth(0), "b": smooth(1)}, tmp_path / "large.gma", model="pixelcnnpp")
    monkeypatch.setattr(registry, "ENTRIES", tuple(entries))
    monkeypatch.setattr(registry, "BY_METHOD", {e.method: e for e in entries})
    registry._load.cache_clear()
    pack({"a": smooth(0), "b": smooth(1)}, tmp_path / "a.gma", model="pixelcnnpp")
    assert methods(tmp_path / "a.gma") == {16}
    with Archive(tmp_path / "large.gma") as opened, pytest.raises(UnknownModelError, match="72 pixels"):
        opened.planes("a")
    registry._load.cache_clear()


def test_a_model_that_is_not_installed_is_not_tried(tmp_path, monkeypatch):
    folder = toy.write_weights(tmp_path)
    (folder / "pixelcnnpp.safetensors").unlink()
    monkeypatch.setenv(registry.WEIGHTS_VARIABLE, str(folder))
    pack({"a": smooth(0), "b": smooth(1)}, tmp_path / "a.gma")
    assert methods(tmp_path / "a.gma") == {16}
    with pytest.raises(WeightsError, match="pixelcnnpp"):
        pack({"a": smooth(0)}, tmp_path / "b.gma", model="pixelcnnpp")


def test_a_flow_makes_chains(tmp_path, monkeypatch):
    """The toy is a poor one: some images are smaller alone."""
    images = {f"{i:02d}": smooth(i, 3, 8, 8) for i in range(40)}
    for limit in (2**21, 20 * 64):
        monkeypatch.setattr("gmcodec.archive.FLOW_PIXELS", limit)
        path = tmp_path / f"{limit}.gma"
        assert pack(images, path, model="ade").grouped > 0
        with Archive(path) as opened:
            assert dict(opened.items()) == images
            assert registry.named("ade").entry.method in {block.method for block in opened.blocks}


def test_a_model_with_latents_makes_chains(tmp_path, monkeypatch):
    images = {f"{i:02d}": smooth(i, 3, 8, 8) for i in range(40)}
    packed = pack(images, tmp_path / "set.gma", model="agave")
    assert packed.grouped == 40
    assert packed.groups == 1
    with Archive(tmp_path / "set.gma") as opened:
        assert dict(opened.items()) == images
        assert opened.planes("07") == images["07"]
        (block,) = opened.blocks
        assert block.method == registry.named("agave").entry.method
    data = (tmp_path / "set.gma").read_bytes()
    group = gma.read_group(data[block.offset : block.offset + block.length])
    assert 0 < group.payload[0] < 20  # images that paid for the latents of the others
    assert 8 * len(group.payload) == pytest.approx(packed.estimated_bits, abs=128)
    monkeypatch.setattr("gmcodec.archive.CHAIN_PIXELS", 10 * 64)
    assert pack(images, tmp_path / "more.gma", model="agave").groups == 4
    with Archive(tmp_path / "more.gma") as opened:
        assert dict(opened.items()) == images


def test_a_model_by_name(tmp_path):
    assert pack({"a": smooth(0), "b": smooth(1)}, tmp_path / "a.gma", model="local-rgb").grouped == 2
    with pytest.raises(ValueError, match="choose from"):
        pack({"a": smooth(0)}, tmp_path / "b.gma", model="remote")
    assert not (tmp_path / "b.gma").exists()


# -- append ------------------------------------------------------------------------------------------------


def test_append(packed, tmp_path):
    path, images = tmp_path / "a.gma", {f"new/{i}": smooth(50 + i) for i in range(3)}
    report = pack(packed[0], path, append=True)  # there is none yet
    before = path.read_bytes()
    assert before == packed[1].read_bytes()
    report = pack(images, path, append=True)
    after = path.read_bytes()
    assert after.startswith(before)
    assert (report.bytes, report.added_bytes, report.images) == (len(after), len(after) - len(before), 3)
    assert report.dimensions == load(path).dimensions
    assert dict(load(path).items()) == packed[0] | images
    assert dict(Archive(after[: len(before)]).items()) == packed[0]
    pack({"last": smooth(1)}, path, append=True)
    assert dict(load(path).items()) == packed[0] | images | {"last": smooth(1)}


def test_append_refuses_names_that_are_taken_and_damaged_archives(tmp_path):
    path = tmp_path / "a.gma"
    pack({"a": smooth(0)}, path)
    before = path.read_bytes()
    with pytest.raises(MemberNameError, match="already holds 'a'"):
        pack({"b": smooth(1), "a": smooth(1)}, path, append=True)
    assert path.read_bytes() == before
    path.write_bytes(before[:-1])
    with pytest.raises(TruncatedFileError):
        pack({"b": smooth(1)}, path, append=True)
    assert path.read_bytes() == before[:-1]


# -- a user's files are safe -------------------------------------------------------------------------------


def test_existing_files_are_kept(tmp_path):
    path = tmp_path / "a.gma"
    path.write_bytes(b"precious")
    with pytest.raises(OutputExistsError):
        pack({"a": smooth(0)}, path)
    with pytest.raises(OutputExistsError):
        pack({"a": smooth(0)}, tmp_path, force=True)
    assert path.read_bytes() == b"precious"
    pack({"a": smooth(0)}, path, force=True)
    assert load(path).names == ["a"]
    assert [p.name for p in tmp_path.iterdir()] == ["a.gma"]


class Interrupting(Progress):
    """Ctrl-C when the first image is written."""

    def images(self, count: int) -> None:
        raise KeyboardInterrupt


class Stopping(Progress):
    """Ctrl-C in the middle of a group, from the thread that codes it."""

    def advance(self, pixels: int) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("progress", [Interrupting(), Stopping()])
def test_an_interruption_leaves_the_old_archive_or_none(tmp_path, progress):
    path = tmp_path / "a.gma"
    with pytest.raises(KeyboardInterrupt):
        pack(mixed(), path, progress=progress)
    assert list(tmp_path.iterdir()) == []
    pack({"a": smooth(0)}, path)
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        pack(mixed(), path, append=True, progress=progress)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.gma"]


def test_two_programs_do_not_overwrite_one_another(tmp_path):
    path = tmp_path / "a.gma"

    class Other(Progress):
        def images(self, count: int) -> None:
            path.write_bytes(b"of another program")

    with pytest.raises(OutputExistsError, match="meanwhile"):
        pack({"a": smooth(0)}, path, progress=Other())
    assert path.read_bytes() == b"of another program"


def test_images_that_cannot_be_read(tmp_path):
    failures = []

    class Noting(Progress):
        def failed(self, names, error) -> None:
            failures.append((*names, type(error).__name__))

    (tmp_path / "damaged.png").write_bytes(b"damaged")
    Image.new("L", (11, 10)).save(tmp_path / "large.png")
    sources = [("a", smooth(0)), ("d", tmp_path / "damaged.png"), ("m", tmp_path / "missing"), ("../x", smooth(1)),
               ("large", tmp_path / "large.png"), ("a", smooth(1))]  # fmt: skip
    for stop in range(1, 6):
        with pytest.raises((GmcError, OSError)):
            pack([sources[stop], sources[0], sources[0]], tmp_path / "a.gma", max_pixels=100)
    pack(sources, tmp_path / "a.gma", progress=Noting(), max_pixels=100)
    assert failures == [("d", "ImageReadError"), ("m", "FileNotFoundError"), ("../x", "MemberNameError"),
                        ("large", "ImageTooLargeError"), ("a", "MemberNameError")]  # fmt: skip
    assert dict(load(tmp_path / "a.gma").items()) == {"a": smooth(0)}
    with pytest.raises(GmcError, match="no image"):
        pack({"d": tmp_path / "damaged.png"}, tmp_path / "b.gma", progress=Noting())
    assert not (tmp_path / "b.gma").exists()


# -- damage ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, toy_folder: Path) -> bytes:
    """The bytes of an archive of a group of two and a single."""
    path = tmp_path_factory.mktemp("small") / "small.gma"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(registry.WEIGHTS_VARIABLE, str(toy_folder))
        pack({"a": smooth(0, 1, 3, 4), "b": smooth(1, 1, 3, 4), "c": of_mode("P")}, path)
    return path.read_bytes()


def read_all(data: bytes) -> dict[str, Planes]:
    opened = Archive(data, threads=1)
    return {name: opened.planes(name) for name in opened}


def test_every_truncation_is_refused(small):
    assert len(read_all(small)) == 3
    for cut in range(len(small)):
        with pytest.raises(GmcFormatError):
            read_all(small[:cut])


def test_every_flipped_bit_is_refused(small):
    assert {block.kind for block in Archive(small).blocks} == {SINGLE, GROUP}
    for bit in range(8 * len(small)):
        damaged = bytearray(small)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(GmcError):
            read_all(bytes(damaged))


def test_damage_leaves_other_blocks_readable(packed):
    images, path = packed
    data = bytearray(path.read_bytes())
    block = next(block for block in load(path).blocks if block.mode == "L" and block.kind == GROUP)
    data[block.offset + block.length // 2] ^= 1
    lost = []

    class Noting(Progress):
        def failed(self, names, error) -> None:
            assert isinstance(error, ChecksumError)
            lost.extend(names)

    opened = Archive(bytes(data))
    rest = dict(opened.items(progress=Noting()))
    assert sorted(lost) == sorted(block.names)
    assert rest == {name: planes for name, planes in images.items() if name not in lost}
    with pytest.raises(ChecksumError):
        list(opened.items())


def relabelled(data: bytes, name: str, **changes: object) -> bytes:
    """The block of a member in an archive of one section described differently, all checksums correct."""
    blocks = Archive(data).blocks
    changed = [gma.Block(**vars(b) | changes) if name in b.names else b for b in blocks]
    end = blocks[-1].offset + blocks[-1].length
    return data[:end] + gma.write_index(changed, 4)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"method": 16}, UnknownModelError),  # codes RGB
        ({"method": 1}, UnknownModelError),
        ({"method": 255}, UnknownModelError),
        ({"kind": 9}, UnknownModelError),
        ({"crcs": (0, 0)}, ChecksumError),
        ({"width": 3, "height": 4}, GmcFormatError),
        ({"width": 5}, GmcFormatError),
    ],
)
def test_consistent_lies_about_a_group(small, changes, error):
    opened = Archive(relabelled(small, "a", **changes))
    assert len(opened.members) == 3
    with pytest.raises(error):
        opened.planes("a")
    assert opened.planes("c") == of_mode("P")


@pytest.mark.parametrize("changes", [{"width": 6}, {"width": 700}, {"mode_id": 2}])
def test_consistent_lies_about_a_single(tmp_path, changes):
    pack({"c": of_mode("P")}, tmp_path / "a.gma")
    opened = Archive(relabelled((tmp_path / "a.gma").read_bytes(), "c", **changes))
    with pytest.raises(GmcError):
        opened.planes("c")


def test_other_weights_are_refused(small, tmp_path, monkeypatch):
    monkeypatch.setenv(registry.WEIGHTS_VARIABLE, str(toy.write_weights(tmp_path, seed=9)))
    with pytest.raises(WeightsError, match="needs weights"):
        Archive(small).planes("a")


def test_max_pixels(small):
    opened = Archive(small, max_pixels=12)
    assert opened.planes("a") == smooth(0, 1, 3, 4)
    with pytest.raises(ImageTooLargeError):
        opened.planes("c")


def test_results_come_in_order_and_errors_end_the_work():
    assert list(in_order((lambda i=i: i * i for i in range(50)), 3, Stoppable(print))) == [i * i for i in range(50)]
    started = []

    def jobs():
        for i in range(50):
            started.append(i)
            yield lambda i=i: 1 // (5 - i)

    with pytest.raises(ZeroDivisionError):
        list(in_order(jobs(), 2, Stoppable(print)))
    assert len(started) < 12
