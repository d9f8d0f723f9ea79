# SPDX-License-Identifier: MIT
"""Products of int16 matrices with int32 sums, compiled for the processor at hand.

Processors multiply pairs of 16-bit integers and add the two products in one instruction (x86: pmaddwd, or vpdpwssd,
which adds to the sum as well).  BLAS has no such product and compilers do not find it in loops, so the innermost loop
is written as LLVM's vector operations, without naming a processor: where the instruction is missing, code is slower
but the same integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .kernels import jit

LANES = 8  # int32 sums in a vector
ROWS, VECTORS = 4, 3  # of the largest tile: its 12 vectors of sums, 3 of weights and 1 of inputs fill 16 registers
CHUNK = 64  # rows for which inputs stay in a core's cache while weights pass


def pack(weight: np.ndarray) -> np.ndarray:
    """Weights [M, K] as int16 [pairs, columns, 2]: K in pairs, M filled up with zeros to whole vectors."""
    m, k = weight.shape
    padded = np.zeros((-(-m // LANES) * LANES, -(-k // 2) * 2), np.int16)
    padded[:m, :k] = weight
    return np.ascontiguousarray(padded.reshape(len(padded), -1, 2).transpose(1, 0, 2))


def _tile(vectors: int) -> Any:
    """out[:rows, :8 * vectors] = x[:rows] @ weight[:, :8 * vectors], each array from an offset in elements on.

    ``rows`` is ROWS or 1.
    """

    @intrinsic
    def product(typingctx, rows, x, x_at, x_row, weight, weight_at, weight_row, pairs, out, out_at, out_row):  # type: ignore[no-untyped-def]
        size = types.intp
        signature = types.void(size, x, size, size, weight, size, size, size, out, size, size)

        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            many = builder.icmp_signed("==", args[0], ir.Constant(args[0].type, ROWS))
            with builder.if_else(many) as (then, otherwise):
                with then:
                    _emit(context, builder, sig.args[1:], args[1:], ROWS, vectors)
                with otherwise:
                    _emit(context, builder, sig.args[1:], args[1:], 1, vectors)
            return context.get_dummy_value()

        return signature, emit

    return product


def _emit(context: Any, builder: Any, kinds: Any, args: Any, rows: int, vectors: int) -> None:
    """The loop over pairs, in LLVM's language."""
    i16, i32, i64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
    shorts, products, sums = ir.VectorType(i16, 2 * LANES), ir.VectorType(i32, 2 * LANES), ir.VectorType(i32, LANES)
    x, x_at, x_row, weight, weight_at, weight_row, pairs, out, out_at, out_row = args

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
        mask = ir.Constant(ir.VectorType(i32, LANES), list(numbers))
        return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)

    def pair_sums(a: Any, b: Any) -> Any:
        """a[2i] * b[2i] + a[2i+1] * b[2i+1], written so that LLVM finds its instruction."""
        each = builder.mul(a, b)
        return builder.add(lanes(each, range(0, 2 * LANES, 2)), lanes(each, range(1, 2 * LANES, 2)))

    weight = start(weight, kinds[3], i16, weight_at)
    inputs = [start(x, kinds[0], i16, builder.add(x_at, builder.mul(x_row, number(r)))) for r in range(rows)]
    before, loop, after = builder.block, builder.append_basic_block("pairs"), builder.append_basic_block("done")
    builder.branch(loop)
    builder.position_at_end(loop)
    pair = builder.phi(i64)
    pair.add_incoming(number(0), before)
    totals = [[builder.phi(sums) for _ in range(vectors)] for _ in range(rows)]
    at = builder.mul(pair, weight_row)
    columns = [
        builder.sext(load(weight, builder.add(at, number(2 * LANES * v)), shorts), products) for v in range(vectors)
    ]
    for source, row in zip(inputs, totals, strict=True):
        both = load(source, builder.shl(pair, number(1)), i32)
        first = builder.insert_element(ir.Constant(sums, ir.Undefined), both, ir.Constant(i32, 0))
        spread = builder.sext(builder.bitcast(lanes(first, [0] * LANES), shorts), products)
        for column, total in zip(columns, row, strict=True):
            total.add_incoming(ir.Constant(sums, [0] * LANES), before)
            total.add_incoming(builder.add(total, pair_sums(spread, column)), loop)
    following = builder.add(pair, number(1))
    pair.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, pairs), loop, after)
    builder.position_at_end(after)
    for r, row in enumerate(totals):
        target = start(out, kinds[7], i32, builder.add(out_at, builder.mul(out_row, number(r))))
        for v, total in enumerate(row):
            place = builder.bitcast(builder.gep(target, [number(LANES * v)]), sums.as_pointer())
            builder.store(total.incomings[1][0], place).align = 4


_three, _two, _one = (_tile(vectors) for vectors in (3, 2, 1))


@jit
def _rows(x, weight, column, vectors, first, last, out):
    """Rows first to last - 1 of out, as many vectors of columns from ``column`` on."""
    pairs, wide, k, m = weight.shape[0], 2 * weight.shape[1], x.shape[1], out.shape[1]
    n = first
    while n < last:
        rows = ROWS if n + ROWS <= last else 1
        if vectors == 3:
            _three(rows, x, n * k, k, weight, 2 * column, wide, pairs, out, n * m + column, m)
        elif vectors == 2:
            _two(rows, x, n * k, k, weight, 2 * column, wide, pairs, out, n * m + column, m)
        else:
            _one(rows, x, n * k, k, weight, 2 * column, wide, pairs, out, n * m + column, m)
        n += rows


@jit
def multiply(x, weight, out):
    """out int32 [N, columns] = x int16 [N, 2 * pairs] times what ``pack`` made; contiguous arrays, sums below 2**31."""
    rows, columns = out.shape
    for first in range(0, rows, CHUNK):
        last = min(first + CHUNK, rows)
        column = 0
        while column < columns:
            left = (columns - column) // LANES
            vectors = 2 if left == 4 else min(VECTORS, left)  # 4 are better halved than cut to 3 and 1
            _rows(x, weight, column, vectors, first, last, out)
            column += vectors * LANES
