# SPDX-License-Identifier: MIT
"""LANES numbers side by side, for compiled loops: LLVM's vector operations on parts of contiguous arrays.

Compilers do not vectorise short loops over arrays that might overlap, so the few operations that matter are written
down.  Places are in elements of the flattened array.  Nothing here rounds on numbers that exact code may hold: see the
callers for why results stay integers, or integers times a power of two, below 2**53.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 8
_F64, _I16, _I32, _I64 = ir.DoubleType(), ir.IntType(16), ir.IntType(32), ir.IntType(64)
_DOUBLES, _INTS = ir.VectorType(_F64, LANES), ir.VectorType(_I32, LANES)
_PAIRS, _PRODUCTS = ir.VectorType(_I16, 2 * LANES), ir.VectorType(_I32, 2 * LANES)


class _Arrays:
    """Addresses in arrays that an intrinsic is called with."""

    def __init__(self, context: Any, builder: Any) -> None:
        self.context, self.builder = context, builder

    def pointer(self, array: Any, kind: Any, element: Any, at: Any, vector: Any) -> Any:
        data = self.context.make_array(kind)(self.context, self.builder, array).data
        place = self.builder.gep(self.builder.bitcast(data, element.as_pointer()), [at])
        return self.builder.bitcast(place, vector.as_pointer())

    def load(self, array: Any, kind: Any, element: Any, at: Any, vector: Any) -> Any:
        loaded = self.builder.load(self.pointer(array, kind, element, at, vector))
        loaded.align = element.width // 8 if isinstance(element, ir.IntType) else 8
        return loaded

    def store(self, value: Any, array: Any, kind: Any, element: Any, at: Any, vector: Any) -> None:
        stored = self.builder.store(value, self.pointer(array, kind, element, at, vector))
        stored.align = element.width // 8 if isinstance(element, ir.IntType) else 8

    def floor(self, vector: Any) -> Any:
        kind = ir.FunctionType(_DOUBLES, [_DOUBLES])
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.floor.v{LANES}f64")
        return self.builder.call(function, [vector])

    def spread(self, scalar: Any) -> Any:
        first = self.builder.insert_element(ir.Constant(_DOUBLES, ir.Undefined), scalar, ir.Constant(_I32, 0))
        mask = ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)
        return self.builder.shuffle_vector(first, ir.Constant(_DOUBLES, ir.Undefined), mask)


_SIZE, _DOUBLE = types.intp, types.float64


@intrinsic
def subtract_product(typingctx, out, out_at, a, a_at, b, b_at):  # type: ignore[no-untyped-def]
    """out -= a * b, float64."""
    signature = types.void(out, _SIZE, a, _SIZE, b, _SIZE)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        arrays, kinds = _Arrays(context, builder), sig.args
        found = [arrays.load(args[i], kinds[i], _F64, args[i + 1], _DOUBLES) for i in (0, 2, 4)]
        result = builder.fsub(found[0], builder.fmul(found[1], found[2]))
        arrays.store(result, args[0], kinds[0], _F64, args[1], _DOUBLES)
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def floor_scaled(typingctx, out, out_at, a, a_at, factor):  # type: ignore[no-untyped-def]
    """out = floor(a * factor), float64; one factor."""
    signature = types.void(out, _SIZE, a, _SIZE, _DOUBLE)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        arrays, kinds = _Arrays(context, builder), sig.args
        found = arrays.load(args[2], kinds[2], _F64, args[3], _DOUBLES)
        result = arrays.floor(builder.fmul(found, arrays.spread(args[4])))
        arrays.store(result, args[0], kinds[0], _F64, args[1], _DOUBLES)
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def floor_product(typingctx, out, out_at, a, a_at, b, b_at, factor):  # type: ignore[no-untyped-def]
    """out = floor(a * b * factor), float64; one factor."""
    signature = types.void(out, _SIZE, a, _SIZE, b, _SIZE, _DOUBLE)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        arrays, kinds = _Arrays(context, builder), sig.args
        found = [arrays.load(args[i], kinds[i], _F64, args[i + 1], _DOUBLES) for i in (2, 4)]
        result = arrays.floor(builder.fmul(builder.fmul(*found), arrays.spread(args[6])))
        arrays.store(result, args[0], kinds[0], _F64, args[1], _DOUBLES)
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def floor_integers(typingctx, out, out_at, a, a_at, scale, factor):  # type: ignore[no-untyped-def]
    """out = floor(a * scale) * factor, float64 of a int32; one factor, scale from its array's first LANES."""
    signature = types.void(out, _SIZE, a, _SIZE, scale, _DOUBLE)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        arrays, kinds = _Arrays(context, builder), sig.args
        found = builder.sitofp(arrays.load(args[2], kinds[2], _I32, args[3], _INTS), _DOUBLES)
        scale = arrays.load(args[4], kinds[4], _F64, ir.Constant(_I64, 0), _DOUBLES)
        result = builder.fmul(arrays.floor(builder.fmul(found, scale)), arrays.spread(args[5]))
        arrays.store(result, args[0], kinds[0], _F64, args[1], _DOUBLES)
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def add_pairs(typingctx, out, out_at, a, a_at, b, b_at, row, rows):  # type: ignore[no-untyped-def]
    """out int32 [LANES] += the sum over ``rows`` of a[2i] b[2i] + a[2i + 1] b[2i + 1], int16 [2 * LANES] each.

    Rows of a and b are ``row`` elements apart, and there is one at least.
    """
    signature = types.void(out, _SIZE, a, _SIZE, b, _SIZE, _SIZE, _SIZE)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        arrays, kinds = _Arrays(context, builder), sig.args
        out, out_at, a, a_at, b, b_at, row, rows = args
        begun = arrays.load(out, kinds[0], _I32, out_at, _INTS)
        before, loop, after = builder.block, builder.append_basic_block("rows"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        number, total = builder.phi(_I64), builder.phi(_INTS)
        place = builder.mul(number, row)
        left = arrays.load(a, kinds[2], _I16, builder.add(a_at, place), _PAIRS)
        right = arrays.load(b, kinds[4], _I16, builder.add(b_at, place), _PAIRS)
        each = builder.mul(builder.sext(left, _PRODUCTS), builder.sext(right, _PRODUCTS))
        undefined = ir.Constant(_PRODUCTS, ir.Undefined)
        even, odd = (
            builder.shuffle_vector(each, undefined, ir.Constant(_INTS, list(range(first, 2 * LANES, 2))))
            for first in range(2)
        )
        result, following = builder.add(total, builder.add(even, odd)), builder.add(number, ir.Constant(_I64, 1))
        number.add_incoming(ir.Constant(_I64, 0), before)
        number.add_incoming(following, loop)
        total.add_incoming(begun, before)
        total.add_incoming(result, loop)
        builder.cbranch(builder.icmp_signed("<", following, rows), loop, after)
        builder.position_at_end(after)
        arrays.store(result, out, kinds[0], _I32, out_at, _INTS)
        return context.get_dummy_value()

    return signature, emit
