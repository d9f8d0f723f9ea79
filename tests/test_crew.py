# SPDX-License-Identifier: MIT
"""Threads in one compiled loop: they wait for one another, and take every task once."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmcodec.exact import crew, kernels
from gmcodec.exact.kernels import jit


@jit
def relay(shared, hand, rounds):
    """Every round each adds to what its neighbour wrote in the round before; returns its last number."""
    gate, values = shared
    rank, ranks = hand
    for round_ in range(rounds):
        before = values[round_ % 2, (rank + 1) % ranks]
        values[(round_ + 1) % 2, rank] = before + rank + 1
        crew.meet(gate, ranks)
    return values[rounds % 2, rank]


@jit
def tasks(shared, hand, rounds):
    """Every round they share the same tasks; counts how often each was taken."""
    gate, taken = shared
    _, ranks = hand
    for round_ in range(rounds):
        crew.meet(gate, ranks)
        while True:
            task = crew.task(gate, ranks)
            if task >= taken.shape[1]:
                break
            taken[round_, task] += 1
    crew.meet(gate, ranks)
    return 0


def hands(ranks: int) -> list[tuple[int, int]]:
    return [(rank, ranks) for rank in range(ranks)]


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_nobody_is_ahead_or_behind(ranks):
    rounds, values = 500, np.zeros((2, ranks), np.int64)
    expected = np.zeros(ranks, np.int64)
    for _ in range(rounds):
        expected = np.roll(expected, -1) + np.arange(1, ranks + 1)
    with ThreadPoolExecutor(4) as pool:
        found = crew.work(relay, (crew.gate(), values), hands(ranks), pool, rounds)
    assert found == expected.tolist()


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_every_task_is_taken_once_a_round(ranks):
    taken = np.zeros((300, 7), np.int64)
    with ThreadPoolExecutor(4) as pool:
        crew.work(tasks, (crew.gate(), taken), hands(ranks), pool, len(taken))
    assert (taken == 1).all()


@given(st.integers(0, 500), st.integers(1, 6), st.sampled_from([1, 4, 8]))
def test_shares_are_all_of_it_in_whole_parts(count, ranks, whole):
    parts = [crew.share(count, rank, ranks, whole) for rank in range(ranks)]
    assert parts[0][0] == 0
    assert parts[-1][1] == count
    assert all(end == begin for (_, end), (begin, _) in itertools.pairwise(parts))
    assert all(begin % whole == 0 for begin, end in parts if begin < end)


def test_compiled_code_is_kept_by_the_sources_it_was_made_from():
    """An index of other sources is another file, since numba could not even read it."""
    kept = kernels.normalise._cache._cache_file
    assert kernels.STAMP in kept._index_name
    assert kernels.STAMP in kept._index_path
    assert kernels.STAMP in kept._data_name_pattern
