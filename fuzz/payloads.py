# SPDX-License-Identifier: MIT
"""Fuzz targets of payloads: their heads, weights of values, and lists of values."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from entry import Entry, Input
from nets import BEST, CHANNELS, combined, fixed, images, learnable, word_bytes

from gmcodec.coding import autoregressive, compressors, high_depth, value_weights
from gmcodec.models.online.model import OnlineModel
from gmcodec.progress import ignore

PAYLOADS = ("fixed", "learning", "pair", "high depth")
PAYLOAD_SHAPES = ((1, 1), (7, 20))


@functools.cache
def payload_model(kind: str, channels: int) -> Any:
    if kind == "pair":
        return OnlineModel([learnable(channels), learnable(channels, BEST, 1)], [5, 5])
    return fixed(channels) if kind == "fixed" else OnlineModel([learnable(channels)], [5])


def decode_payload(data: bytes) -> None:
    choices = Input(data)
    kind, channels, shape, threads = choices.each(PAYLOADS, CHANNELS, PAYLOAD_SHAPES, (1, 2))
    decode: Callable[..., np.ndarray] = high_depth.decode if kind == "high depth" else autoregressive.decode
    decode(choices.rest(), (channels, *shape), payload_model(kind, channels), threads, ignore)


def seeds_of_payload() -> Iterator[bytes]:
    """Payloads of one tile and of several, with and without weights of values and mirrored order."""
    for k, c, s in combined(PAYLOADS, CHANNELS, PAYLOAD_SHAPES):
        model = payload_model(PAYLOADS[k], CHANNELS[c])
        height, width = PAYLOAD_SHAPES[s]
        for planes in images(CHANNELS[c], PAYLOAD_SHAPES[s]):
            for tile in ((height, width), (-(-height // 2), -(-width // 2))):
                head = bytes([k, c, s, tile != (height, width)])
                if PAYLOADS[k] == "high depth":
                    yield head + high_depth.encode(planes[0].astype(np.uint16) * 16, model, 1, ignore, tile).data
                    continue
                for levels, mirror in ((neutral(planes), 0), (uneven(planes), 3 * (PAYLOADS[k] != "fixed"))):
                    chosen = partial(np.copy, levels)
                    found = autoregressive.encode(
                        planes[0], model, 1, ignore, tile, weight_indices=chosen, mirror=mirror
                    )
                    yield head + found.data


def neutral(planes: np.ndarray) -> np.ndarray:
    return np.full((planes.shape[1], value_weights.VALUES), value_weights.NEUTRAL_INDEX, np.uint8)


def uneven(planes: np.ndarray) -> np.ndarray:
    levels = np.tile(np.arange(value_weights.VALUES) % 15 + 1, (planes.shape[1], 1)).astype(np.uint8)
    levels[0, np.setdiff1d(np.arange(value_weights.VALUES), planes[:, 0])] = 0
    return levels


def decode_values(data: bytes) -> None:
    """Read weights of values from arbitrary words, and decode a tile with them."""
    choices = Input(data)
    mask, size = choices.choose(range(8)), choices.choose(range(256))
    words = choices.words()
    levels = value_weights.unpack(mask, words[:size], 3)
    weights = autoregressive._weights(levels)
    autoregressive.pop_words(words[size:], (1, 3, 2, 9), fixed(3), ignore, weights)


def seeds_of_values() -> Iterator[bytes]:
    for planes in images(3, (2, 9)):
        mask, words = value_weights.pack(uneven(planes))
        tile, _ = autoregressive.push_words(planes, fixed(3), ignore, autoregressive._weights(uneven(planes)))
        yield bytes([mask, len(words)]) + word_bytes(words) + word_bytes(tile)


def decode_lists(data: bytes) -> None:
    """Read lists of the 16-bit values that channels use, which are deflated here."""
    choices = Input(data)
    mask, size, rest = choices.choose(range(8)), choices.byte(), choices.rest()
    lists = high_depth.unpack_lists(mask, compressors.deflate(rest[:size], 1), 3)
    ranks = np.frombuffer(rest[size:].ljust(12, b"\0")[:12], np.uint16).reshape(3, 2, 1) % 9
    high_depth.from_ranks(ranks.copy(), lists)


def seeds_of_lists() -> Iterator[bytes]:
    used = np.array([0, 5, 70, 65535], np.uint16)
    examples: list[high_depth.ValueLists] = [[used, None, None], [used[1:], used, used[:2]]]
    for lists in examples:
        mask, packed = high_depth.pack_lists(lists)
        raw = zlib.decompress(packed, -15)
        yield bytes([mask, len(raw)]) + raw + bytes(12)


ENTRIES = (
    Entry("payload", decode_payload, seeds_of_payload),
    Entry("values", decode_values, seeds_of_values),
    Entry("lists", decode_lists, seeds_of_lists, 256),
)
