# SPDX-License-Identifier: MIT
"""Ways to multiply integer matrices that all give the integers of ops.product.

========  ==========================  =======================================================
name      products                    exact because
========  ==========================  =======================================================
int64     numpy int64                 the specification
float64   BLAS float64                every partial sum is an integer below 2**53
float32   BLAS float32                ... below 2**24; a layer that is not is cut, or uses float64
int16     compiled, int32 sums        sums stay below 2**31; a layer for which that is not proved uses
                                      float64
int8      torch int8 x int8 -> int32  activations as two int8 limbs; needs a self-test, because
                                      some old processors saturate intermediate sums; a layer with
                                      wider weights uses float32
========  ==========================  =======================================================

int16 is chosen unless a short measurement finds float32 or int8 clearly faster, or ``GMCODEC_EVALUATOR=float64`` names
one.  int8 takes part only in a process that has imported torch already, since importing it takes longer than coding an
image.  All pass ``self_test`` before they are used.
"""

from __future__ import annotations

import functools
import itertools
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import EvaluatorError
from . import int16, ops
from .ops import FLOAT32_BOUND, INT32_BOUND, Layer

VARIABLE = "GMCODEC_EVALUATOR"
CLEARLY = 1.15  # faster than the first candidate, to be preferred to it

# A prepared layer: maps activations [N, K] of the evaluator's dtype to W x, [N, M], exact integers.
Product = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Evaluator:
    """``dtype`` holds activations; ``prepare`` turns a layer into a function from x to W x."""

    name: str
    dtype: Any
    prepare: Callable[[Layer], Product]


def _int64(layer: Layer) -> Product:
    return lambda x: ops.product(layer, x)


def _converted(prepare: Callable[[Layer], Product], layer: Layer, dtype: Any) -> Product:
    """Another evaluator's product for a layer that one cannot do; ``dtype`` is the other one's."""
    wide = prepare(layer)
    return lambda x: wide(x.astype(dtype))


def _float64(layer: Layer) -> Product:
    weight = np.ascontiguousarray(layer.weight.T, np.float64)
    return lambda x: np.matmul(x, weight)


def _float32(layer: Layer) -> Product:
    weight = np.ascontiguousarray(layer.weight.T, np.float32)
    if layer.product_bound < FLOAT32_BOUND:
        return lambda x: np.matmul(x, weight)
    cuts = _float32_cuts(layer)
    if cuts is None:
        return _converted(_float64, layer, np.float64)

    def product(x: np.ndarray) -> np.ndarray:
        acc = np.zeros((len(x), weight.shape[1]))
        for first, last in itertools.pairwise(cuts):
            acc += np.matmul(x[:, first:last], weight[first:last])
        return acc

    return product


def _float32_cuts(layer: Layer) -> list[int] | None:
    """Where to cut the inputs into a few runs, each with products below the float32 bound; None if float64 is faster.

    The runs' products, exact each, are added up in float64.
    """
    columns = layer.weight.shape[1]
    for parts in (2, 3, 4):
        cuts = [columns * n // parts for n in range(parts + 1)]
        runs = [replace(layer, weight=layer.weight[:, a:b]) for a, b in itertools.pairwise(cuts)]
        if all(run.product_bound < FLOAT32_BOUND for run in runs):
            return cuts
    return None


def _int16(layer: Layer) -> Product:
    outputs, inputs = layer.weight.shape
    if layer.product_bound >= INT32_BOUND or layer.input_limit >= 2**15:
        return _converted(_float64, layer, np.float64)
    weight = int16.pack(layer.weight)

    def product(x: np.ndarray) -> np.ndarray:
        if inputs % 2:
            x = np.pad(x, ((0, 0), (0, 1)))
        acc = np.empty((len(x), weight.shape[1]), np.int32)
        int16.multiply(np.ascontiguousarray(x), weight, acc)
        return acc if acc.shape[1] == outputs else np.ascontiguousarray(acc[:, :outputs])

    return product


def _int8(layer: Layer) -> Product:
    # the high limb must fit; torch 2.13 multiplies by matrices of one column wrongly
    if layer.weight.dtype != np.int8 or layer.input_limit >= 2**14 - 64 or layer.weight.shape[1] == 1:
        return _converted(_float32, layer, np.float32)  # or float64, if its bound asks for it
    import torch

    weight = torch.from_numpy(np.ascontiguousarray(layer.weight)).t()

    def product(x: np.ndarray) -> np.ndarray:
        # x = 128 * high + low with low in -64..63, so both limbs fit int8 while |x| < 2**14 - 64
        high = (x + 64) >> 7
        low = torch.from_numpy((x - (high << 7)).astype(np.int8))
        acc = torch._int_mm(low, weight)
        if layer.input_limit > 63:
            acc += torch._int_mm(torch.from_numpy(high.astype(np.int8)), weight) << 7
        return acc.numpy()

    return product


EVALUATORS = {
    e.name: e
    for e in (
        Evaluator("int64", np.int64, _int64),
        Evaluator("float64", np.float64, _float64),
        Evaluator("float32", np.float32, _float32),
        Evaluator("int16", np.int16, _int16),
        Evaluator("int8", np.int32, _int8),
    )
}


def _available(name: str) -> bool:
    if name != "int8":
        return True
    try:
        import torch
    except ImportError:
        return False
    return hasattr(torch, "_int_mm")


@functools.cache
def _trials() -> list[tuple[Layer, np.ndarray, np.ndarray]]:
    """Layers, inputs and the specification's products: extreme and random ones of several shapes."""
    random, trials = np.random.default_rng(0), []
    for n, k, m, limit in ((1, 1, 1, 2047), (3, 216, 160, 128), (33, 160, 160, 2047), (257, 160, 50, 2047)):
        ones = np.ones(m, np.int32)
        extreme = np.where(random.random((m, k)) < 0.5, -127, 127)
        for weight in (extreme, np.full((m, k), 127), random.integers(-127, 128, (m, k))):
            layer = Layer(weight.astype(np.int8), ones, ones, ones, limit)
            for x in (np.full((n, k), limit), np.full((n, k), -limit), random.integers(-limit, limit + 1, (n, k))):
                trials.append((layer, x, ops.product(layer, x)))
    return trials


@functools.cache
def self_test(name: str) -> bool:
    """Compare with the specification on extreme and random products of several shapes."""
    run, dtype = EVALUATORS[name].prepare, EVALUATORS[name].dtype
    return all(np.array_equal(run(layer)(x.astype(dtype)), expected) for layer, x, expected in _trials())


@functools.cache
def _choose(wanted: str, torch_loaded: bool) -> tuple[str, str]:
    if wanted:
        if wanted not in EVALUATORS:
            raise EvaluatorError(f"{VARIABLE}={wanted}: unknown, choose from {', '.join(EVALUATORS)}")
        if not _available(wanted):
            raise EvaluatorError(f"{VARIABLE}={wanted}: torch is not installed")
        if not self_test(wanted):
            raise EvaluatorError(f"{VARIABLE}={wanted}: gives wrong products on this machine")
        return wanted, f"forced by {VARIABLE}"
    candidates = ["int16", "float32"] + (["int8"] if torch_loaded and _available("int8") else [])
    speed = {name: 0.0 for name in candidates if self_test(name)}
    for _ in range(3 if len(speed) > 1 else 0):
        # the best of several short runs, in turn, at a decoder's batch size, of a layer that float32 has to cut, as
        # the slow ones are: other load must not decide
        for name in speed:
            speed[name] = max(speed[name], measure(name, rows=128, width=320, seconds=0.01))
    if speed:
        first, fastest = next(iter(speed)), max(speed, key=lambda name: speed[name])
        chosen = fastest if speed[fastest] > CLEARLY * speed[first] else first  # short runs are noisy
        return chosen, f"exact, and the fastest here of {', '.join(speed)}, or as good as that"
    if self_test("float64"):
        return "float64", "float32 and int16 failed their self-test on this machine"
    return "int64", "the faster ones failed their self-test on this machine"


def choose() -> tuple[Evaluator, str]:
    """The evaluator to use and why.  Raises EvaluatorError when a forced one cannot be used."""
    name, why = _choose(os.environ.get(VARIABLE, ""), "torch" in sys.modules)
    return EVALUATORS[name], why


def measure(name: str, rows: int = 4096, width: int = 160, seconds: float = 0.2) -> float:
    """Speed of one evaluator in one thread, as coding uses it, in multiply-and-add operations times two a second."""
    from threadpoolctl import threadpool_limits

    random = np.random.default_rng(0)
    ones = np.ones(width, np.int32)
    layer = Layer(random.integers(-60, 61, (width, width)).astype(np.int8), ones, ones, ones, 2047)
    run = EVALUATORS[name].prepare(layer)
    x = random.integers(-2047, 2048, (rows, width)).astype(EVALUATORS[name].dtype)
    with threadpool_limits(1, user_api="blas"):
        run(x)
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            run(x)
            count += 1
        return 2 * rows * width * width * count / (time.perf_counter() - start)
