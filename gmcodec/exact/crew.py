# SPDX-License-Identifier: MIT
"""Several threads in one compiled loop: they share arrays, each does its part of a step, and wait for one another.

::

    rank 0   part of a step | meet | rank 0 alone | meet | part of the next step ...
    rank 1   part of a step | meet |              | meet | part of the next step ...

A ``gate`` is what they share, and ``work`` starts them.  How many there are never changes what is computed: every
number is computed by one of them, in the same way.  Waiting spins, since steps take less than a millisecond, and
sleeps where that takes longer: other programs may need the processor that the late one waits for.  Threads that slept
sooner cost a third of the speed: there are three meetings in every batch that is learned from.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .kernels import jit

SPINS = 200_000  # before other programs are let run: about a tenth of a millisecond
PAUSE = 30  # microseconds that a thread sleeps then
ARRIVED, MEETINGS, TASK = 0, 8, 16  # places in a gate, on cache lines of their own
_CAN_SLEEP = binding.address_of_symbol("usleep") is not None
_I64 = ir.IntType(64)


def gate() -> np.ndarray:
    """A new gate."""
    return np.zeros(24, np.int64)


def _place(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    return builder.gep(context.make_array(kind)(context, builder, array).data, [at])


@intrinsic
def _add(typingctx: Any, array: Any, at: Any, value: Any) -> Any:
    """Add to an int64, atomically; what it was."""
    signature = types.int64(array, types.intp, types.int64)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", _place(context, builder, sig.args[0], args[0], args[1]), args[2], "seq_cst")

    return signature, emit


@intrinsic
def _load(typingctx: Any, array: Any, at: Any) -> Any:
    """Read an int64 that others write."""
    signature = types.int64(array, types.intp)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load_atomic(_place(context, builder, sig.args[0], args[0], args[1]), "seq_cst", 8)

    return signature, emit


@intrinsic
def _let_others(typingctx: Any) -> Any:
    """Let other programs run, where the system has a call for it."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if _CAN_SLEEP:
            kind, micro = ir.FunctionType(ir.IntType(32), [ir.IntType(32)]), ir.Constant(ir.IntType(32), PAUSE)
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "usleep"), [micro])
        return context.get_dummy_value()

    return types.void(), emit


@jit
def meet(gate, ranks):
    """Wait until all have come here.  What any wrote before, all see afterwards; tasks begin anew."""
    if ranks == 1:
        gate[TASK] = 0
        return
    meeting: Any = _load(gate, MEETINGS)  # type: ignore[call-arg]
    if _add(gate, ARRIVED, 1) == ranks - 1:
        _add(gate, ARRIVED, -ranks)
        _add(gate, TASK, -_load(gate, TASK))
        _add(gate, MEETINGS, 1)
        return
    spins = 0
    while _load(gate, MEETINGS) == meeting:
        spins += 1
        if spins >= SPINS:
            _let_others()


@jit
def task(gate, ranks):
    """The number of a task that nobody else has taken since they met."""
    if ranks == 1:
        gate[TASK] += 1
        return gate[TASK] - 1
    return _add(gate, TASK, 1)  # type: ignore[call-arg]


@jit
def share(count, rank, ranks, whole):
    """First and end of a rank's part of ``count`` things, in multiples of ``whole``."""
    each = -(-count // (ranks * whole)) * whole
    return min(count, rank * each), min(count, (rank + 1) * each)


def work(loop: Any, shared: Any, hands: Sequence[Any], pool: Executor | None, *arguments: Any) -> list[Any]:
    """What ``loop(shared, hand, *arguments)`` gives every hand, side by side: the first in this thread.

    The others run in a pool of theirs alone: one that had to wait for a thread would keep all waiting.
    """
    others = [pool.submit(loop, shared, hand, *arguments) for hand in hands[1:]] if pool else []
    return [loop(shared, hands[0], *arguments), *(other.result() for other in others)]
