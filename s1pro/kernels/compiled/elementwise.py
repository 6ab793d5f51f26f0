"""Passes over rows of float32, for compiled functions: addresses, and counts that are multiples of LANES."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from s1pro.kernels.compiled import vectors as v
from s1pro.kernels.compiled.jit import jit


@jit
def keep(array):
    """Keeps an array up to here: numba frees it behind the last use of its name, whoever still has its address."""
    return array.size


def _each(builder: Any, count: Any, body: Callable[[Any], None]) -> None:
    """Calls `body` with the number of the first lane of each vector."""
    with cgutils.for_range(builder, builder.udiv(count, count.type(v.LANES)), intp=count.type) as loop:
        body(builder.mul(loop.index, count.type(v.LANES)))


def _fold(builder: Any, count: Any, start: float, step: Callable[[Any, Any], Any]) -> Any:
    """A vector that `step(vector, number)` replaces for each vector of numbers."""
    kept = cgutils.alloca_once_value(builder, v.constant(start))
    _each(builder, count, lambda first: builder.store(step(builder.load(kept, typ=v.VECTOR), first), kept))
    return builder.load(kept, typ=v.VECTOR)


@intrinsic
def swiglu(typing, gate, up, count, weight):
    """`gate = silu(gate) * up * weight`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        gate, up, count, weight = arguments
        scale, one = v.broadcast(builder, weight), v.constant(1.0)

        def body(first: Any) -> None:
            x = v.load(builder, gate, first)
            silu = builder.fdiv(x, builder.fadd(one, v.exp(builder, builder.fneg(x))))
            v.store(builder, builder.fmul(builder.fmul(silu, v.load(builder, up, first)), scale), gate, first)

        _each(builder, count, body)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.float32), generate


@intrinsic
def exp_from(typing, x, count, shift):
    """`x = exp(x - shift)`; returns the sum."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, count, shift = arguments
        offset = v.broadcast(builder, shift)

        def step(sums: Any, first: Any) -> Any:
            result = v.exp(builder, builder.fsub(v.load(builder, x, first), offset))
            v.store(builder, result, x, first)
            return builder.fadd(sums, result)

        return v.total(builder, _fold(builder, count, 0.0, step))

    return types.float32(types.intp, types.intp, types.float32), generate


@intrinsic
def largest(typing, x, count):
    """The largest number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, count = arguments
        best = _fold(builder, count, float("-inf"), lambda b, first: v.larger(builder, b, v.load(builder, x, first)))
        return v.largest(builder, best)

    return types.float32(types.intp, types.intp), generate


@intrinsic
def sum_of_squares(typing, x, count):
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, count = arguments

        def step(sums: Any, first: Any) -> Any:
            numbers = v.load(builder, x, first)
            return v.fma(builder, numbers, numbers, sums)

        return v.total(builder, _fold(builder, count, 0.0, step))

    return types.float32(types.intp, types.intp), generate


@intrinsic
def scaled(typing, x, weight, scale, out, count):
    """`out = x * scale * weight`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, weight, scale, out, count = arguments
        factor = v.broadcast(builder, scale)

        def body(first: Any) -> None:
            unit = builder.fmul(v.load(builder, x, first), factor)
            v.store(builder, builder.fmul(unit, v.load(builder, weight, first)), out, first)

        _each(builder, count, body)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.float32, types.intp, types.intp), generate


@intrinsic
def added(typing, x, out, count):
    """`out += x`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, out, count = arguments

        def body(first: Any) -> None:
            v.store(builder, builder.fadd(v.load(builder, out, first), v.load(builder, x, first)), out, first)

        _each(builder, count, body)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), generate


@intrinsic
def filled(typing, out, value, count):
    """`out = value`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        out, value, count = arguments
        wide = v.broadcast(builder, value)
        _each(builder, count, lambda first: v.store(builder, wide, out, first))
        return context.get_dummy_value()

    return types.void(types.intp, types.float32, types.intp), generate


@intrinsic
def read(typing, x):
    """The number at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], v.POINTER), typ=v.FLOAT, align=v.BYTES)

    return types.float32(types.intp), generate


@intrinsic
def read_bfloat16(typing, x):
    """The bfloat16 number at an address, as float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        half = builder.load(builder.inttoptr(arguments[0], v.POINTER), typ=ir.IntType(16), align=2)
        return builder.bitcast(builder.shl(builder.zext(half, v.INT), v.INT(16)), v.FLOAT)

    return types.float32(types.intp), generate


@intrinsic
def to_bfloat16(typing, value):
    """A number as bfloat16, rounded to even, as a 16-bit integer."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = builder.bitcast(arguments[0], v.INT)
        odd = builder.and_(builder.lshr(bits, v.INT(16)), v.INT(1))
        rounded = builder.add(bits, builder.add(odd, v.INT(0x7FFF)))
        return builder.trunc(builder.lshr(rounded, v.INT(16)), ir.IntType(16))

    return types.int16(types.float32), generate


@intrinsic
def write(typing, value, out):
    """Puts a number at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, out = arguments
        builder.store(value, builder.inttoptr(out, v.POINTER), align=v.BYTES)
        return context.get_dummy_value()

    return types.void(types.float32, types.intp), generate
