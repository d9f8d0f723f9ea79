# SPDX-License-Identifier: MIT
"""The fuzz targets run everywhere: seeds decode, and what chance makes of them gives a typed error at worst."""

from __future__ import annotations

import files
import nets
import numpy as np
import payloads
import pytest
import run
from entry import Entry

from gmcodec.errors import GmcError, UnsupportedImageError

MODULES = {"nets": nets, "payloads": payloads, "files": files}
ENTRIES = [entry for module in MODULES.values() for entry in module.ENTRIES]
each = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)


def test_every_entry_is_run():
    names = {module: tuple(entry.name for entry in MODULES[module].ENTRIES) for module in MODULES}
    assert run.ENTRIES == names


@each
def test_seeds_decode(entry: Entry):
    decoded = 0
    for seed in entry.seeds():
        try:
            entry.decode(seed)
            decoded += 1
        except UnsupportedImageError:  # a file format that does not hold all
            assert entry.name == "metadata"
    assert decoded


@each
def test_changed_seeds_decode_or_give_a_typed_error(entry: Entry):
    random, seeds = np.random.default_rng(0), list(entry.seeds())
    for number in random.permutation(len(seeds))[:25]:
        changed = bytearray(seeds[number])
        for _ in range(random.integers(1, 4)):
            changed[random.integers(len(changed))] = random.integers(256)
        for data in (bytes(changed), bytes(changed[: random.integers(len(changed))])):
            try:
                entry.decode(data)
            except GmcError:
                pass
