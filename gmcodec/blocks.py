# SPDX-License-Identifier: MIT
"""The blocks of an archive: single images, and groups of small ones that one model codes together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gmcodec import codec, coders
from gmcodec.coders import coder_of
from gmcodec.errors import ChecksumError, GmcFormatError, UnknownModelError
from gmcodec.formats import gma, gmc
from gmcodec.formats.gma import GROUP, SINGLE, Block, Group
from gmcodec.formats.gmc import Part, pixels_crc
from gmcodec.image.modes import MODES
from gmcodec.image.planes import Planes
from gmcodec.progress import Progress, without_pixels

if TYPE_CHECKING:
    from gmcodec.models.registry import Loaded

TRIAL_COUNT = 16  # images of a group on which models are compared
SINGLE_BYTES = 26  # of a single small image beyond its payload, in the container and in the index


@dataclass(frozen=True)
class EncodedBlock:
    block: Block
    data: bytes
    estimated_bits: float


def encode_single(name: str, planes: Planes, effort: str, threads: int, progress: Progress) -> list[EncodedBlock]:
    coded = codec.encode_planes(planes, effort=effort, threads=threads, progress=progress)
    method = gmc.unpack(coded.data, max_pixels=None).parts[0].method
    block = Block(SINGLE, MODES[planes.mode].id, method, planes.width, planes.height, len(coded.data), (name,))
    return [EncodedBlock(block, coded.data, coded.estimated_bits)]


def decode_single(block: Block, data: bytes, threads: int, progress: Progress) -> list[Planes]:
    planes = codec.decode_planes(data, threads=threads, max_pixels=block.pixels, progress=progress)
    if (planes.mode, planes.width, planes.height) != (block.mode, block.width, block.height):
        raise GmcFormatError(f"{block.names[0]!r} is not the image that the index promises")
    return [planes]


def encode_group(
    names: list[str], images: list[Planes], models: list[Loaded], effort: str, progress: Progress
) -> list[EncodedBlock]:
    """A group with the best of ``models``; images that cost less alone (flat, drawings, noise) follow as singles."""
    from gmcodec.coding import conventional

    samples = np.stack([planes.data for planes in images])
    silent = without_pixels(progress)
    loaded = _best(models, samples, silent)
    payload, bits = coder_of(loaded).encode_group(samples, progress)
    quick = [conventional.quick_size(image, 8, silent) + SINGLE_BYTES for image in samples]
    stay = np.flatnonzero(bits / 8 <= quick)
    if len(stay) < 2:
        stay = stay[:0]
    coded = []
    if len(stay):
        if len(stay) < len(images):
            samples = samples[stay]
            payload, bits = coder_of(loaded).encode_group(samples, progress)
        data = gma.write_group(Group(loaded.weights_id, payload, _crc(samples)))
        mode, width, height = MODES[images[0].mode].id, images[0].width, images[0].height
        crcs = tuple(pixels_crc(image) & 0xFFFF for image in samples)
        members = tuple(names[i] for i in stay)
        block = Block(GROUP, mode, loaded.entry.method, width, height, len(data), members, crcs)
        coded.append(EncodedBlock(block, data, float(bits.sum())))
    for i in sorted({*range(len(images))} - {*stay.tolist()}):
        coded += encode_single(names[i], images[i], effort, 1, progress)
    return coded


def _best(models: list[Loaded], samples: np.ndarray, progress: Callable[[int], None]) -> Loaded:
    """The model that takes the fewest bits for a sample of the images uint8 [B, C, H, W]."""
    from gmcodec.coding import autoregressive

    if len(models) == 1:
        return models[0]
    trial = samples[:: -(-len(samples) // TRIAL_COUNT)]
    bits = [autoregressive.push_words(trial, coder_of(loaded).model, progress)[1].sum() for loaded in models]
    return models[int(np.argmin(bits))]


def decode_group(block: Block, data: bytes, progress: Progress) -> list[Planes]:
    group = gma.read_group(data)
    if block.method < gmc.FIRST_LEARNED_METHOD:
        raise UnknownModelError(f"a group cannot have the conventional method {block.method}")
    codec.check_method(Part(block.method, block.channels, b"", group.weights_id), block.width * block.height)
    shape = (len(block.names), block.channels, block.height, block.width)
    samples = coders.load(block.method).decode_group(group.payload, shape, progress)
    if _crc(samples) != group.pixels_crc:
        raise ChecksumError("the decoded pixels of a group do not match their checksum")
    for name, image, crc in zip(block.names, samples, block.crcs, strict=True):
        if pixels_crc(image) & 0xFFFF != crc:
            raise ChecksumError(f"the decoded pixels of {name!r} do not match their checksum")
    return [Planes(image, block.mode) for image in samples]


def _crc(samples: np.ndarray) -> int:
    """CRC-32 of uint8 [B, C, H, W]."""
    return pixels_crc(samples.reshape(-1, *samples.shape[2:]))
