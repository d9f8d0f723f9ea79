# SPDX-License-Identifier: MIT
"""Images to .gmc bytes and back, with toy weights: every mode, every option, and damage of all kinds."""

import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import toy
from PIL import Image
from places import ROOT
from samples import text_picture

import gmcodec
from gmcodec import effort as effort_module
from gmcodec.codec import decode_planes, encode_planes
from gmcodec.coding import conventional, reduction
from gmcodec.errors import (
    ChecksumError,
    GmcError,
    GmcFormatError,
    ImageReadError,
    ImageTooLargeError,
    NotAGmcFileError,
    TruncatedFileError,
    UnknownModelError,
    UnsupportedImageError,
    UnsupportedVersionError,
    WeightsError,
)
from gmcodec.formats import gmc
from gmcodec.formats.gmc import Part
from gmcodec.image import reading, writing
from gmcodec.image.modes import MODES
from gmcodec.image.planes import Planes
from gmcodec.models import registry

pytestmark = pytest.mark.usefixtures("toy_weights")
LEARNED = effort_module.LEARNED_CHANNELS
TRIED = {entry.name for entry in registry.models_of_effort(3, "best")}
SIZES = [(1, 1), (1, 9), (8, 1), (13, 17)]


def smooth(channels: int, height: int = 24, width: int = 24, seed: int = 0) -> np.ndarray:
    """uint8 [C, H, W] that the toy model codes well."""
    return toy.smooth(np.random.default_rng(seed), (channels, height, width))


def planes_of(mode: str, size: tuple[int, int] = (13, 17), seed: int = 0) -> Planes:
    """Smooth samples of any mode, a random palette for P."""
    spec = MODES[mode]
    data = smooth(spec.channels, *size, seed)
    if spec.depth == 16:
        low = np.random.default_rng(seed).integers(0, 256, data.shape, dtype=np.uint16)
        data = data.astype(np.uint16) << 8 | low
    if mode == "1":
        data = data >> 7
    if mode != "P":
        return Planes(data, mode)
    image = Image.fromarray(data[0] % 40)
    image.putpalette(bytes(range(120)), "RGB")
    return reading.from_image(image)


def array_of(planes: np.ndarray) -> np.ndarray:
    """[H, W, C] of [C, H, W]."""
    return np.ascontiguousarray(planes.transpose(1, 2, 0))


@pytest.fixture(scope="module")
def small(toy_folder) -> bytes:
    """A small learned RGBA file: a learned and a conventional part."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GMCODEC_WEIGHTS", str(toy_folder))
        return encode_planes(planes_of("RGBA", (5, 7)), code="learned", effort="fast").data


# -- round trips ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", effort_module.CODES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES)
def test_every_mode_comes_back(mode, size, code):
    planes = planes_of(mode, size)
    if code == "learned" and mode not in LEARNED:
        with pytest.raises(UnsupportedImageError, match="no learned model"):
            encode_planes(planes, code=code)
        return
    if code == "graphics" and not reduction.reductions(planes.data, planes.depth, None):
        with pytest.raises(UnsupportedImageError, match="many values"):
            encode_planes(planes, code=code)
        return
    made = encode_planes(planes, code=code, threads=1)
    assert decode_planes(made.data, threads=2) == planes
    assert made.dimensions == planes.data.size
    assert made.bits_per_dimension == 8 * len(made.data) / planes.data.size
    assert made.estimated_bits / 8 < len(made.data)
    parts = 2 if mode in effort_module.COLOUR_AND_BLACK_MODES else 1  # that are learned
    assert len(made.data) < made.estimated_bits / 8 + 60 * parts + sum(len(value) for _, value in planes.metadata)
    assert sum(channels for _, channels, _ in made.parts) == planes.channels
    assert any(name.startswith(("local-", "learning-")) for name, *_ in made.parts) or code != "learned"
    gmcodec.verify(made.data)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_pillow_images_come_back(mode):
    image = reading.to_image(planes_of(mode))
    again = gmcodec.decode(gmcodec.encode(image))
    assert (again.mode, again.size, again.tobytes()) == (image.mode, image.size, image.tobytes())
    assert again.getpalette() == image.getpalette()


@pytest.mark.parametrize("channels", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_arrays_come_back(channels, dtype):
    array = array_of(smooth(max(channels, 1), 9, 11)).astype(dtype) * (257 if dtype == np.uint16 else 1)
    array = array.astype(dtype) if channels else array[:, :, 0].astype(dtype)
    again = gmcodec.decode_array(gmcodec.encode(array))
    assert again.dtype == dtype
    assert np.array_equal(again, array[:, :, 0] if channels == 1 else array)


def test_flipped_and_strided_arrays_come_back():
    array = array_of(smooth(3, 20, 30))
    for view in (array[::-1], array[:, ::-2], array.transpose(1, 0, 2), array[..., ::-1]):
        assert np.array_equal(gmcodec.decode_array(gmcodec.encode(view)), view)


def test_all_kinds_of_sources(tmp_path):
    planes = planes_of("RGB")
    png = writing.write_png(planes)
    path = tmp_path / "image.png"
    path.write_bytes(png)
    image = reading.to_image(planes)
    made = {gmcodec.encode(source) for source in (path, str(path), png, io.BytesIO(png), planes, image)}
    made.add(gmcodec.encode(array_of(planes.data)))
    assert len(made) == 1


def test_colours_under_transparency_come_back():
    planes = planes_of("RGBA")
    planes.data[3] = 0
    assert decode_planes(encode_planes(planes).data) == planes


def test_sixteen_bit_colours_need_decode_array():
    data = encode_planes(planes_of("RGB;16")).data
    with pytest.raises(UnsupportedImageError):
        gmcodec.decode(data)
    assert gmcodec.decode_array(data).dtype == np.uint16


def test_metadata_is_kept_or_stripped():
    image = reading.to_image(planes_of("RGB"))
    image.info.update(dpi=(72, 72), icc_profile=b"profile" * 9)
    kept, stripped = gmcodec.encode(image), gmcodec.encode(image, strip=True)
    again = gmcodec.decode(kept)
    assert again.info["icc_profile"] == b"profile" * 9
    assert again.info["dpi"] == pytest.approx((72, 72))
    assert gmcodec.decode(stripped).info == {}
    assert len(stripped) < len(kept)
    assert gmcodec.decode(stripped).tobytes() == again.tobytes()


def test_threads_never_change_the_bytes():
    # two tiles from 2**17 pixels
    planes = Planes(np.tile(smooth(1, 64, 64), (1, 4, 8)), "L")
    one, two = (encode_planes(planes, code="learned", threads=t).data for t in (1, 2))
    assert one == two
    assert decode_planes(one, threads=2) == planes


def test_progress_reaches_the_number_of_pixels(small):
    counts: list[int] = []
    encode_planes(planes_of("RGB"), code="learned", progress=counts.append)
    assert sum(counts) == 13 * 17
    counts.clear()
    gmcodec.verify(small, progress=counts.append)
    assert sum(counts) == 35


# -- the effort_module of codes -------------------------------------------------------------------------------


def picture(kind: str) -> Planes:
    random = np.random.default_rng(3)
    if kind == "smooth":
        return Planes(smooth(3, 48, 48), "RGB")
    if kind == "large smooth":
        return Planes(smooth(3, 140, 130), "RGB")
    if kind == "huge smooth":  # more than one tile
        return Planes(smooth(3, 380, 350), "RGB")
    if kind == "large flat":
        return Planes(np.full((3, 140, 130), 9, np.uint8), "RGB")
    if kind == "large noise":
        return Planes(random.integers(0, 256, (1, 140, 130), dtype=np.uint8), "L")
    if kind == "noise":
        return Planes(random.integers(0, 256, (3, 30, 30), dtype=np.uint8), "RGB")
    if kind == "few colours":
        return Planes(np.repeat(random.integers(0, 2, (1, 40, 40), dtype=np.uint8) * 200, 3, 0), "RGB")
    if kind == "text":
        return Planes(text_picture(200, 260), "RGB")
    if kind == "gradient":
        return Planes(np.tile(np.arange(50, dtype=np.uint8), (1, 40, 1)), "L")
    return planes_of("RGBA", (30, 30))


@pytest.mark.parametrize(
    "kind",
    ["smooth", "large smooth", "large flat", "large noise", "noise", "few colours", "gradient", "with alpha"],
)
def test_never_larger_than_the_best_conventional_form(kind):
    planes = picture(kind)
    made = encode_planes(planes)
    assert decode_planes(made.data) == planes
    assert len(made.data) <= len(conventional.encode(planes.data, planes.depth, "best")[1]) + 32
    assert len(made.data) <= len(encode_planes(planes, code="conventional").data)


def test_each_code_is_chosen_where_it_wins(monkeypatch):
    monkeypatch.delenv("GMCODEC_WEIGHTS")  # the shipped ones, since toy weights know nothing of photographs
    photograph = gmcodec.codec.to_planes(ROOT / "examples" / "photo.png").data[:, 200:350, 300:440]
    for data in (photograph, photograph[:, :64, :64]):
        assert encode_planes(Planes(data, "RGB")).parts[0][0] in TRIED
        assert [name for name, *_ in encode_planes(Planes(data, "RGB"), effort="fast").parts] == ["local-rgb-fast"]
    assert encode_planes(picture("few colours")).parts[0][0] in conventional.METHODS.values()  # noise of one bit
    assert [name for name, *_ in encode_planes(picture("text"), effort="fast").parts] == ["graphics"]
    assert [name for name, *_ in encode_planes(picture("text")).parts] == ["graphics-rgb"]


def test_an_unknown_code_is_a_value_error():
    with pytest.raises(ValueError, match="code must be"):
        gmcodec.encode(np.zeros((2, 2), np.uint8), code="best")


def test_forced_learned_is_learned_even_where_it_loses():
    made = encode_planes(picture("noise"), code="learned")
    assert [name for name, *_ in made.parts] == [made.parts[0][0]]
    assert made.parts[0][0] in TRIED
    assert decode_planes(made.data) == picture("noise")


SLOW = pytest.param((420, 340), "auto", marks=pytest.mark.slow)  # WebP's slowest setting on a texture


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize(
    ("size", "code"),
    [
        ((7, 9), "auto"),
        ((110, 90), "auto"),
        SLOW,
        ((7, 9), "learned"),
        ((300, 260), "learned"),
        pytest.param((420, 340), "learned", marks=pytest.mark.slow),
    ],
)
def test_a_higher_effort_is_never_larger(mode, size, code):
    planes, before = planes_of(mode, size), None
    for effort in effort_module.EFFORTS:
        made = encode_planes(planes, effort=effort, code=code)
        assert decode_planes(made.data) == planes
        assert before is None or len(made.data) <= before
        before = len(made.data)


@pytest.mark.parametrize(("largest", "mirrors"), [(1 << 20, (0, 1, 2, 3)), (0, (0,))])
@pytest.mark.parametrize("sure", [1e9, -1e9])
def test_efforts_try_what_they_say(monkeypatch, largest, mirrors, sure):
    """Each includes those below it, but for a first model of which a sample says that it is beaten; a pair is mirrored
    as suits its small member.
    """
    tried: dict[tuple[str, int], int] = {}
    coded = effort_module._encode

    def watched(colours, entry, levels, threads, progress, mirror):
        found = coded(colours, entry, levels, threads, progress, mirror)
        tried[entry.name, mirror] = effort_module._bytes(found)
        return found

    monkeypatch.setattr(effort_module, "_encode", watched)
    monkeypatch.setattr(effort_module, "MIRROR_PIXELS", largest)
    monkeypatch.setattr(effort_module, "CONFIDENCE_SIGMAS", sure)
    small, learning = [("local-rgb-fast", 0)], [("learning-rgb-fast", mirror) for mirror in mirrors]
    after = small if sure > 0 else []
    for effort, expected in (("fast", []), ("default", learning[:1]), ("best", learning)):
        tried.clear()
        made = encode_planes(picture("huge smooth"), effort=effort)
        best = [("pair-rgb", min(learning, key=tried.__getitem__)[1])] if effort == "best" else []
        assert list(tried) == expected + best + (small if effort == "fast" else after)
        assert made.parts[0][0] == min(tried, key=tried.__getitem__)[0]
    with pytest.raises(ValueError, match="effort must be"):
        encode_planes(picture("smooth"), effort="slow")


def test_a_model_by_its_name():
    planes = planes_of("LA", (13, 17))
    smallest = encode_planes(planes, code="learned")
    assert encode_planes(planes, code=smallest.parts[0][0]).data == smallest.data
    assert len(encode_planes(planes, code="local-grey").data) >= len(smallest.data)
    for mode in ("RGB", "P", "I;16"):
        with pytest.raises(UnsupportedImageError, match="local-grey does not code mode"):
            encode_planes(planes_of(mode), code="local-grey")


@pytest.mark.parametrize(("size", "allowed"), [((12, 16), {"agave", "agave-rgb"}), ((150, 120), {"agave-rgb"})])
def test_a_family_of_models(size, allowed):
    """The smallest of those that take the image; alpha beside it."""
    planes = planes_of("RGBA", size)
    made = encode_planes(planes, code="agave")
    assert made.parts[0][0] in allowed
    assert made.parts[1][:2] == encode_planes(planes, code="learned").parts[1][:2]
    assert decode_planes(made.data) == planes
    if len(allowed) > 1:
        assert len(made.data) <= len(encode_planes(planes, code="agave-rgb").data)
    with pytest.raises(UnsupportedImageError, match="agave does not code mode L"):
        encode_planes(planes_of("L", size), code="agave")


@pytest.mark.parametrize("size", [(12, 16), (150, 121)])
def test_a_flow_and_its_base(size):
    planes = planes_of("RGBA", size)
    made = encode_planes(planes, code="ade")
    assert made.parts[0][0] == "ade"
    assert decode_planes(made.data) == planes
    assert len(made.data) <= len(encode_planes(planes, code="local-rgb").data) + 8


def test_a_family_is_those_of_it_that_are_installed(tmp_path, toy_folder, monkeypatch):
    for name in ("local-rgb", "agave-rgb"):
        (tmp_path / f"{name}.safetensors").write_bytes((toy_folder / f"{name}.safetensors").read_bytes())
    monkeypatch.setenv("GMCODEC_WEIGHTS", str(tmp_path))
    assert encode_planes(planes_of("RGB"), code="agave").parts[0][0] == "agave-rgb"
    (tmp_path / "agave-rgb.safetensors").unlink()
    with pytest.raises(WeightsError, match="cannot be read"):
        encode_planes(planes_of("RGB"), code="agave")
    # weights that name themselves as those that they need
    data = (toy_folder / "agave-rgb.safetensors").read_bytes()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "local-rgb.safetensors").write_bytes(data)
    monkeypatch.setenv("GMCODEC_WEIGHTS", str(tmp_path / "other"))
    with pytest.raises(WeightsError, match="names itself"):
        encode_planes(planes_of("RGB"), code="local-rgb")


# -- info ----------------------------------------------------------------------------------------------


def test_info_says_what_is_in_the_file(small, toy_folder):
    told = gmcodec.info(small)
    assert json.loads(json.dumps(told)) == told
    wanted = {"width": 7, "height": 5, "mode": "RGBA", "channels": 4, "bit_depth": 8, "format_version": 1}
    assert {key: told[key] for key in wanted} == wanted
    assert told["bytes"] == len(small)
    assert told["bits_per_dimension"] == 8 * len(small) / 140
    learned, alpha = told["parts"]
    assert (learned["code"], learned["channels"]) == ("local-rgb-fast", 3)
    assert (alpha["channels"], "weights" in alpha) == (1, False)
    assert told["header_bytes"] + learned["bytes"] + alpha["bytes"] == len(small)
    assert told["metadata"] == []
    assert told["pixels_crc32"] == f"{gmc.pixels_crc(planes_of('RGBA', (5, 7)).data):08x}"
    assert learned["weights"] == gmc.unpack(small).parts[0].weights_id.hex()


def test_info_does_not_need_weights(small, monkeypatch, tmp_path):
    monkeypatch.setenv("GMCODEC_WEIGHTS", str(tmp_path))
    assert gmcodec.info(small)["parts"][0]["code"] == "local-rgb-fast"


# -- damage --------------------------------------------------------------------------------------------


def test_every_truncation_is_refused(small):
    for cut in range(len(small)):
        with pytest.raises(GmcFormatError):
            decode_planes(small[:cut])
    with pytest.raises(GmcFormatError):
        decode_planes(small + b"\0")


def test_every_flipped_bit_is_refused(small):
    for position in range(8 * len(small)):
        broken = bytearray(small)
        broken[position // 8] ^= 1 << position % 8
        with pytest.raises(GmcError):
            decode_planes(bytes(broken))


def resealed(data: bytes, **changes) -> bytes:
    """``data`` with header fields replaced and its file checksum right."""
    return gmc.pack(dataclasses.replace(gmc.unpack(data), **changes))


def test_damaged_payloads_with_right_file_checksums_are_refused(small):
    # what a file that was made to harm looks like: only the pixels' checksum is left
    header = gmc.unpack(small)
    random = np.random.default_rng(0)
    for _ in range(150):
        number = int(random.integers(2))
        part = header.parts[number]
        payload = bytearray(part.payload)
        for _ in range(int(random.integers(1, 4))):
            payload[random.integers(len(payload))] ^= 1 << random.integers(8)
        if random.random() < 0.2:
            del payload[random.integers(len(payload)) :]
        if bytes(payload) == part.payload:
            continue
        parts = list(header.parts)
        parts[number] = dataclasses.replace(part, payload=bytes(payload))
        with pytest.raises(GmcFormatError):
            decode_planes(resealed(small, parts=tuple(parts)))


def test_a_learned_payload_that_ends_in_a_zero_word_is_refused():
    part = Part(17, 1, b"\x02\x02\x01\0\0\0\0", gmc.unpack(grey_file()).parts[0].weights_id)
    with pytest.raises(GmcFormatError):
        decode_planes(resealed(grey_file(), parts=(part,)))


def grey_file() -> bytes:
    return encode_planes(Planes(smooth(1, 2, 2), "L"), code="learned").data


def test_wrong_pixels_are_a_checksum_error(small):
    header = gmc.unpack(small)
    with pytest.raises(ChecksumError, match="pixels"):
        decode_planes(resealed(small, pixels_crc=header.pixels_crc ^ 1))
    other = gmc.unpack(encode_planes(planes_of("RGBA", (5, 7), seed=1), code="learned").data)
    with pytest.raises(ChecksumError, match="pixels"):
        decode_planes(resealed(small, parts=other.parts))


def test_not_a_file_at_all():
    for data in (b"", b"gm", b"\x89PNG\r\n\x1a\n", b"\0" * 100):
        with pytest.raises((NotAGmcFileError, TruncatedFileError)):
            gmcodec.decode(data)


def test_a_later_version_is_told(small):
    with pytest.raises(UnsupportedVersionError):
        gmcodec.decode(small[:3] + bytes([small[3] + 1]) + small[4:])


@pytest.mark.parametrize("method", [6, 15, 99, 255])
def test_an_unknown_form_is_told(small, method):
    old = gmc.unpack(small).parts[0]
    part = dataclasses.replace(old, method=method, weights_id=old.weights_id if method >= 16 else b"")
    data = resealed(small, parts=(part, gmc.unpack(small).parts[1]))
    with pytest.raises(UnknownModelError, match=str(method)):
        gmcodec.decode(data)
    assert gmcodec.info(data)["parts"][0]["code"] == f"unknown ({method})"


def test_a_model_of_other_channels_is_refused(small):
    first, alpha = gmc.unpack(small).parts
    grey = gmc.unpack(grey_file()).parts[0]
    wrong = dataclasses.replace(first, method=17, weights_id=grey.weights_id)
    with pytest.raises(UnknownModelError, match="channels"):
        gmcodec.decode(resealed(small, parts=(wrong, alpha)))


# -- weights -------------------------------------------------------------------------------------------


def test_other_weights_are_refused(small, monkeypatch, tmp_path):
    toy.write_weights(tmp_path, seed=1)
    monkeypatch.setenv("GMCODEC_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match="the file needs weights"):
        gmcodec.decode(small)


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "folder"])
def test_missing_or_damaged_weights_are_told(small, monkeypatch, tmp_path, damage):
    toy.write_weights(tmp_path)
    path = tmp_path / "local-rgb-fast.safetensors"
    data = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes(data[:-1] if damage == "cut" else b"")
    monkeypatch.setenv("GMCODEC_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError):
        gmcodec.decode(small)
    with pytest.raises(WeightsError):
        gmcodec.encode(smooth(3).transpose(1, 2, 0), code="learned")
    # what needs no weights works without
    data = gmcodec.encode(smooth(3).transpose(1, 2, 0), code="conventional")
    assert np.array_equal(gmcodec.decode_array(data), smooth(3).transpose(1, 2, 0))


# -- limits --------------------------------------------------------------------------------------------


def test_images_above_the_limit_are_refused_before_any_work(small):
    for limited in (gmcodec.decode, gmcodec.decode_array, gmcodec.verify):
        with pytest.raises(ImageTooLargeError):
            limited(small, max_pixels=34)
        limited(small, max_pixels=35)
    assert gmcodec.decode(small, max_pixels=None).size == (7, 5)
    png = writing.write_png(planes_of("RGB"))
    with pytest.raises(ImageTooLargeError):
        gmcodec.encode(png, max_pixels=13 * 17 - 1)


@pytest.mark.parametrize("sides", [(2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (20_000, 20_000)])
def test_bombs_are_refused(small, sides):
    data = resealed(small, width=sides[0], height=sides[1])
    with pytest.raises(ImageTooLargeError):
        gmcodec.decode(data)
    assert gmcodec.info(data)["width"] == sides[0]


def test_a_claim_within_the_limit_is_refused_by_the_payload(small):
    with pytest.raises(GmcFormatError):
        gmcodec.decode(resealed(small, width=70, height=5))


@pytest.mark.parametrize("source", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_told(source):
    with pytest.raises(ImageReadError):
        gmcodec.encode(source)


@pytest.mark.parametrize("array", [np.zeros((2, 2)), np.zeros((0, 2), np.uint8), np.zeros((2, 2, 5), np.uint8)])
def test_unsupported_arrays_are_told(array):
    with pytest.raises(UnsupportedImageError):
        gmcodec.encode(array)


# -- without torch -------------------------------------------------------------------------------------

SCRIPT = """
import sys
sys.modules["torch"] = None
import numpy, gmcodec
array = gmcodec.decode_array(open(sys.argv[1], "rb").read())
numpy.save(sys.argv[2], array)
sys.stdout.write(gmcodec.encode(array, code="learned").hex())
assert sys.modules["torch"] is None
"""


@pytest.mark.parametrize("isa", ["", "portable"])
def test_a_process_without_torch_decodes_to_equal_pixels_and_encodes_equal_bytes(tmp_path, isa):
    planes = planes_of("RGB", (40, 33))
    data = encode_planes(planes, code="learned").data
    (tmp_path / "a.gmc").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, tmp_path / "a.gmc", tmp_path / "a.npy"],
        capture_output=True, text=True, check=False, cwd=Path(gmcodec.__file__).parents[1],
        env=os.environ | {"GMCODEC_ISA": isa},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.load(tmp_path / "a.npy"), array_of(planes.data))
    assert done.stdout == data.hex()
