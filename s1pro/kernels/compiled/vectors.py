"""Vectors of float32 for functions that numba compiles: the building blocks of the other modules here.

LLVM finds vectors in plain loops by itself. It does not keep the sums of a product in registers, nor ask for a weight
before it is needed, nor replace the exponential function by arithmetic. Where that counts the loop is written for LLVM
directly, with the functions below. They take an `IRBuilder` first; `number` counts float32 from an address.

`LANES` numbers are one register: 16 with AVX-512, 8 with AVX2, 4 with NEON.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import factorial, log
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils

FLOAT, INT, POINTER = ir.FloatType(), ir.IntType(32), ir.PointerType()
BYTES = 4


def _lanes_and_registers() -> tuple[int, int]:
    features = binding.get_host_cpu_features()
    if features.get("avx512f"):
        return 16, 32
    if features.get("avx2") and features.get("fma"):
        return 8, 16
    if features.get("neon"):
        return 4, 32
    return 0, 0


LANES, REGISTERS = _lanes_and_registers()
"""0 on a processor of another kind: nothing in this package may be called then."""

VECTOR = ir.VectorType(FLOAT, max(LANES, 1))
INTS = ir.VectorType(INT, max(LANES, 1))

SMALLEST_EXPONENT = -87.0
"""Below it exp would not be a normal number; it becomes 1.6e-38."""

LARGEST_EXPONENT = 88.0

ROUNDING = 1.5 * 2**23

LN2_HIGH = 0.693359375
"""ln 2 in two parts: the first has few bits, so that its product with a whole number is exact."""

LN2_LOW = log(2) - LN2_HIGH


def constant(value: float) -> Any:
    return ir.Constant(VECTOR, [value] * LANES)


def place(builder: Any, address: Any, number: Any) -> Any:
    """Pointer to a number."""
    return builder.inttoptr(builder.add(address, builder.mul(number, number.type(BYTES))), POINTER)


def load(builder: Any, address: Any, number: Any) -> Any:
    return builder.load(place(builder, address, number), typ=VECTOR, align=BYTES)


def load_bfloat16(builder: Any, address: Any, number: Any) -> Any:
    """As float32: bfloat16 is its upper half."""
    halves = ir.VectorType(ir.IntType(16), LANES)
    place = builder.inttoptr(builder.add(address, builder.mul(number, number.type(2))), POINTER)
    bits = builder.zext(builder.load(place, typ=halves, align=2), INTS)
    return builder.bitcast(builder.shl(bits, ir.Constant(INTS, [16] * LANES)), VECTOR)


def store(builder: Any, value: Any, address: Any, number: Any) -> None:
    builder.store(value, place(builder, address, number), align=BYTES)


def broadcast(builder: Any, value: Any) -> Any:
    """One number in all lanes."""
    nothing, first = ir.Constant(VECTOR, ir.Undefined), ir.Constant(INTS, [0] * LANES)
    return builder.shuffle_vector(builder.insert_element(nothing, value, INT(0)), nothing, first)


def fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """`a * b + c` with one rounding."""
    return _call(builder, f"llvm.fma.v{LANES}f32", VECTOR, a, b, c)


def totals(builder: Any, values: Sequence[Any]) -> Any:
    """A vector with the sums of the lanes of LANES vectors, in their order; each is formed in the same order.

    Two vectors become one whose first half has sums of pairs of the one and whose second half those of the other, and
    so on: one addition and two moves per vector, where a vector by itself needs four of both.
    """
    pieces, width = list(values), LANES
    while width > 1:
        width //= 2
        starts = range(0, LANES, 2 * width)
        low = [i for start in starts for first in (start, LANES + start) for i in range(first, first + width)]
        masks = [ir.Constant(INTS, lanes) for lanes in (low, [i + width for i in low])]
        half = len(pieces) // 2
        pieces = [
            builder.fadd(*(builder.shuffle_vector(a, b, mask) for mask in masks))
            for a, b in zip(pieces[:half], pieces[half:], strict=True)
        ]
    return pieces[0]


def total(builder: Any, value: Any) -> Any:
    """The sum of all lanes: halves are added until one number is left."""
    return _reduced(builder, value, builder.fadd)


def largest(builder: Any, value: Any) -> Any:
    """The largest of all lanes."""
    return _reduced(builder, value, partial(larger, builder))


def larger(builder: Any, a: Any, b: Any) -> Any:
    """Lane by lane."""
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _reduced(builder: Any, value: Any, combine: Callable[[Any, Any], Any]) -> Any:
    width, nothing = LANES, ir.Constant(VECTOR, ir.Undefined)
    while width > 1:
        width //= 2
        lanes = [*range(width, 2 * width), *range(LANES - width)]
        value = combine(value, builder.shuffle_vector(value, nothing, ir.Constant(INTS, lanes)))
    return builder.extract_element(value, INT(0))


def prefetch(builder: Any, address: Any) -> None:
    """Asks for the memory there, which will be read more than once."""
    kind = ir.FunctionType(ir.VoidType(), (POINTER, INT, INT, INT))
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, (builder.inttoptr(address, POINTER), INT(0), INT(3), INT(1)))


def exp(builder: Any, x: Any) -> Any:
    """The exponential function, within three units in the last place; what is not a number stays so.

    x is n ln 2 + r with a whole number n, so that |r| <= ln 2 / 2; exp(r) is eight terms of its series, and 2^n is put
    together from its bits. Adding 1.5 * 2^23 rounds to a whole number, which then is in the lowest bits of the sum.
    """
    x = builder.select(builder.fcmp_ordered("<", x, constant(SMALLEST_EXPONENT)), constant(SMALLEST_EXPONENT), x)
    x = builder.select(builder.fcmp_ordered(">", x, constant(LARGEST_EXPONENT)), constant(LARGEST_EXPONENT), x)
    shifted = fma(builder, x, constant(1 / log(2)), constant(ROUNDING))
    whole = builder.fsub(shifted, constant(ROUNDING))
    rest = fma(builder, whole, constant(-LN2_HIGH), x)
    rest = fma(builder, whole, constant(-LN2_LOW), rest)
    series = constant(1 / factorial(7))
    for power in range(6, -1, -1):
        series = fma(builder, series, rest, constant(1 / factorial(power)))
    biased = builder.add(builder.bitcast(shifted, INTS), ir.Constant(INTS, [127] * LANES))
    bits = builder.shl(biased, ir.Constant(INTS, [23] * LANES))
    return builder.fmul(series, builder.bitcast(bits, VECTOR))


def _call(builder: Any, name: str, kind: Any, *arguments: Any) -> Any:
    function_type = ir.FunctionType(kind, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), arguments)
