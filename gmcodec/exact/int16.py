# SPDX-License-Identifier: MIT
"""Products of int16 matrices with int32 sums, compiled for the processor at hand.

Processors multiply pairs of 16-bit integers and add the two products in one instruction (x86: pmaddwd, or vpdpwssd,
which adds to the sum as well).  BLAS has no such product and compilers do not find it in loops, so the innermost loop
is written as LLVM's vector operations, without naming a processor: where the instruction is missing, code is slower
but the same integers.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

from .kernels import jit

LANES = 8  # columns of a matrix are filled up to a multiple of this
ROWS, VECTORS = 4, 3  # of the largest tile: its 12 vectors of sums, 3 of weights and 1 of inputs fill 16 registers
CHUNK = 64  # rows for which inputs stay in a core's cache while weights pass


def _widest() -> int:
    """int32 sums in the processor's longest vector."""
    try:
        return 16 if binding.get_host_cpu_features().get("avx512bw") else LANES
    except RuntimeError:  # a processor that LLVM cannot name
        return LANES


WIDE = _widest()


def pack(weight: np.ndarray) -> np.ndarray:
    """Weights [M, K] as int16 [pairs, columns, 2]: K in pairs, M filled up with zeros to whole vectors."""
    m, k = weight.shape
    padded = np.zeros((-(-m // LANES) * LANES, -(-k // 2) * 2), np.int16)
    padded[:m, :k] = weight
    return np.ascontiguousarray(padded.reshape(len(padded), -1, 2).transpose(1, 0, 2))


_LITTLE = sys.byteorder == "little"


@jit
def pair_of(first, second):
    """An int32 that is both int16 in memory, the first before the second: one store that vectorises."""
    if _LITTLE:
        return (np.int32(first) & np.int32(0xFFFF)) | (np.int32(second) << np.int32(16))
    return (np.int32(second) & np.int32(0xFFFF)) | (np.int32(first) << np.int32(16))


def _tile(vectors: int, lanes: int) -> Any:
    """out[:rows, :columns] = x[:rows] @ weight[:, :columns], each array from an offset in elements on; as many columns
    as the vectors have lanes.

    ``rows`` is ROWS or 1.
    """

    @intrinsic
    def product(typingctx, rows, x, x_at, x_row, x_pair, weight, weight_at, weight_row, pairs, out, out_at, out_row):  # type: ignore[no-untyped-def]
        size = types.intp
        signature = types.void(size, x, size, size, size, weight, size, size, size, out, size, size)

        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            many = builder.icmp_signed("==", args[0], ir.Constant(args[0].type, ROWS))
            with builder.if_else(many) as (then, otherwise):
                with then:
                    _emit(context, builder, sig.args[1:], args[1:], ROWS, vectors, lanes)
                with otherwise:
                    _emit(context, builder, sig.args[1:], args[1:], 1, vectors, lanes)
            return context.get_dummy_value()

        return signature, emit

    return product


def _emit(context: Any, builder: Any, kinds: Any, args: Any, rows: int, vectors: int, size: int) -> None:
    """The loop over pairs, in LLVM's language."""
    i16, i32, i64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
    shorts, products, sums = ir.VectorType(i16, 2 * size), ir.VectorType(i32, 2 * size), ir.VectorType(i32, size)
    x, x_at, x_row, x_pair, weight, weight_at, weight_row, pairs, out, out_at, out_row = args

    def number(value: int) -> Any:
        return ir.Constant(i64, value)

    def start(array: Any, kind: Any, element: Any, at: Any) -> Any:
        data = context.make_array(kind)(context, builder, array).data
        return builder.gep(builder.bitcast(data, element.as_pointer()), [at])

    def load(pointer: Any, at: Any, kind: Any) -> Any:
        loaded = builder.load(builder.bitcast(builder.gep(pointer, [at]), kind.as_pointer()))
        loaded.align = 2
        return loaded

    def lanes(vector: Any, numbers: Any) -> Any:
        mask = ir.Constant(ir.VectorType(i32, size), list(numbers))
        return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)

    def pair_sums(a: Any, b: Any) -> Any:
        """a[2i] * b[2i] + a[2i+1] * b[2i+1], written so that LLVM finds its instruction."""
        each = builder.mul(a, b)
        return builder.add(lanes(each, range(0, 2 * size, 2)), lanes(each, range(1, 2 * size, 2)))

    weight = start(weight, kinds[4], i16, weight_at)
    inputs = [start(x, kinds[0], i16, builder.add(x_at, builder.mul(x_row, number(r)))) for r in range(rows)]
    before, loop, after = builder.block, builder.append_basic_block("pairs"), builder.append_basic_block("done")
    builder.branch(loop)
    builder.position_at_end(loop)
    pair = builder.phi(i64)
    pair.add_incoming(number(0), before)
    totals = [[builder.phi(sums) for _ in range(vectors)] for _ in range(rows)]
    at = builder.mul(pair, weight_row)
    columns = [
        builder.sext(load(weight, builder.add(at, number(2 * size * v)), shorts), products) for v in range(vectors)
    ]
    for source, row in zip(inputs, totals, strict=True):
        both = load(source, builder.mul(pair, x_pair), i32)
        first = builder.insert_element(ir.Constant(sums, ir.Undefined), both, ir.Constant(i32, 0))
        spread = builder.sext(builder.bitcast(lanes(first, [0] * size), shorts), products)
        for column, total in zip(columns, row, strict=True):
            total.add_incoming(ir.Constant(sums, [0] * size), before)
            total.add_incoming(builder.add(total, pair_sums(spread, column)), loop)
    following = builder.add(pair, number(1))
    pair.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, pairs), loop, after)
    builder.position_at_end(after)
    for r, row in enumerate(totals):
        target = start(out, kinds[8], i32, builder.add(out_at, builder.mul(out_row, number(r))))
        for v, total in enumerate(row):
            place = builder.bitcast(builder.gep(target, [number(size * v)]), sums.as_pointer())
            builder.store(total.incomings[1][0], place).align = 4


_three, _two, _one = (_tile(vectors, WIDE) for vectors in (3, 2, 1))
_rest = _tile(1, LANES)


@jit
def _rows(x, row, pair, weight, column, vectors, first, last, out):
    """Rows first to last - 1 of out, as many long vectors of columns from ``column`` on, or for 0 one of LANES."""
    pairs, wide, m = weight.shape[0], 2 * weight.shape[1], out.shape[1]
    n = first
    while n < last:
        rows = ROWS if n + ROWS <= last else 1
        if vectors == 3:
            _three(rows, x, n * row, row, pair, weight, 2 * column, wide, pairs, out, n * m + column, m)
        elif vectors == 2:
            _two(rows, x, n * row, row, pair, weight, 2 * column, wide, pairs, out, n * m + column, m)
        elif vectors == 1:
            _one(rows, x, n * row, row, pair, weight, 2 * column, wide, pairs, out, n * m + column, m)
        else:
            _rest(rows, x, n * row, row, pair, weight, 2 * column, wide, pairs, out, n * m + column, m)
        n += rows


@jit
def _multiply(x, row, pair, weight, out):
    """``multiply``; a row of x and a pair of its columns lie so many elements behind the one before."""
    rows, columns = out.shape
    for first in range(0, rows, CHUNK):
        last = min(first + CHUNK, rows)
        column = 0
        while column < columns:
            left = (columns - column) // WIDE
            vectors = 2 if left == 4 else min(VECTORS, left)  # 4 are better halved than cut to 3 and 1
            _rows(x, row, pair, weight, column, vectors, first, last, out)
            column += vectors * WIDE if vectors else LANES


@jit
def multiply(x, weight, out):
    """out int32 [N, columns] = x int16 [N, 2 * pairs] times what ``pack`` made; contiguous arrays, sums below 2**31."""
    _multiply(x, x.shape[1], 2, weight, out)


@jit
def multiply_pairs(left, right, out):
    """out int32 [M, K]: sums over all pairs of ``pair_of``, left int32 [pairs, M] times right int32 [pairs, K]."""
    _multiply(left, 2, 2 * left.shape[1], right, out)
