"""Tiles: some rows times some columns, with all sums in registers while the inner size runs.

They are written for LLVM directly and compiled once per process (a few tenths of a second); `ADDRESSES` says where they
are. Functions that numba compiles get that table as an argument and call what they need by its address, so that tiles
are not compiled again into each of them, and what numba keeps on disk does not depend on where they are this time.

Every tile takes `(x, x_stride, weight, weight_stride, out, out_stride, inner)`: addresses, and strides between rows,
whose numbers are neighbours, in numbers. x and out are float32; weights may be bfloat16, and are float32 in registers.
Every sum is formed in one order that depends on the inner size alone. So a row has the same bits in whichever tile it
is computed, and whatever rows are computed with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

from s1pro.kernels.compiled import vectors as v

MOST_ROWS = 6
"""Of a tile of `product`."""

DOT_ROWS = 4
"""Of a tile of `dots`."""

PREFETCHED_ROWS = 16
"""A weight is asked for so many rows ahead. An Intel Sapphire Rapids, 32 tokens and 64 experts out of the cache: none
16.2 ms, 4 rows 14.0 ms, 8 rows 12.9 ms, 16 rows 11.7 ms."""

UNROLLED = 4
"""Steps of the inner size per turn of the loop."""

WORD = ir.IntType(64)
KIND = ir.FunctionType(ir.VoidType(), (WORD,) * 7)
LOADS = {4: v.load, 2: v.load_bfloat16}
"""By the bytes of a number."""

Body = Callable[[Any, Sequence[Any]], Sequence[Any]]


def vectors_for(rows: int) -> int:
    """Width of a wide tile in vectors: sums and weights must fit in the registers; a power of two up to 8."""
    fits = max(1, v.REGISTERS // (rows + 1))
    return min(8, 1 << (fits.bit_length() - 1))


def keys_for(rows: int) -> int:
    """The same for tiles of `dots`: as many sums as a vector has lanes are added up together."""
    return max(1, v.LANES // rows)


def _product(builder: Any, rows: int, vectors: int, size: int) -> None:
    """`out = x @ weight`, for `vectors * LANES` columns of a weight `[inner, columns]`."""
    x, x_stride, weight, weight_stride, out, out_stride, inner = builder.function.args
    row_bytes, load = builder.mul(weight_stride, WORD(size)), LOADS[size]
    ahead = builder.mul(row_bytes, WORD(PREFETCHED_ROWS))

    def body(k: Any, sums: Sequence[Any]) -> Sequence[Any]:
        line, pieces, results = builder.add(weight, builder.mul(k, row_bytes)), [], []
        for c in range(vectors):
            v.prefetch(builder, builder.add(builder.add(line, ahead), WORD(size * v.LANES * c)))
            pieces.append(load(builder, line, WORD(v.LANES * c)))
        for r in range(rows):
            number = builder.add(k, builder.mul(x_stride, WORD(r)))
            value = builder.load(v.place(builder, x, number), typ=v.FLOAT, align=v.BYTES)
            wide = v.broadcast(builder, value)
            results += [v.fma(builder, wide, piece, sums[r * vectors + c]) for c, piece in enumerate(pieces)]
        return results

    def together(step: Any, sums: Sequence[Any]) -> Sequence[Any]:
        for k in range(UNROLLED):
            sums = body(builder.add(builder.mul(step, WORD(UNROLLED)), WORD(k)), sums)
        return sums

    steps = builder.udiv(inner, WORD(UNROLLED))
    done = builder.mul(steps, WORD(UNROLLED))
    sums = _loop(builder, steps, [v.constant(0.0)] * (rows * vectors), together)
    sums = _loop(builder, builder.sub(inner, done), sums, lambda k, sums: body(builder.add(done, k), sums))
    for spot, value in enumerate(sums):
        r, c = divmod(spot, vectors)
        v.store(builder, value, out, builder.add(builder.mul(out_stride, WORD(r)), WORD(v.LANES * c)))


def _dots(builder: Any, rows: int, keys: int, size: int) -> None:
    """`out[row, key] = x[row] . weight[key]`; the inner size fills vectors."""
    x, x_stride, key, key_stride, out, out_stride, inner = builder.function.args

    def body(step: Any, sums: Sequence[Any]) -> Sequence[Any]:
        first = builder.mul(step, WORD(v.LANES))
        xs = [v.load(builder, x, builder.add(first, builder.mul(x_stride, WORD(r)))) for r in range(rows)]
        ks = [LOADS[size](builder, key, builder.add(first, builder.mul(key_stride, WORD(k)))) for k in range(keys)]
        return [v.fma(builder, xs[i // keys], ks[i % keys], value) for i, value in enumerate(sums)]

    steps = builder.udiv(inner, WORD(v.LANES))
    sums = _loop(builder, steps, [v.constant(0.0)] * (rows * keys), body)
    for r in range(rows):
        row = builder.mul(out_stride, WORD(r))
        if len(sums) < v.LANES:
            for k in range(keys):
                number = builder.add(row, WORD(k))
                builder.store(v.total(builder, sums[r * keys + k]), v.place(builder, out, number), align=v.BYTES)
        else:
            together = v.totals(builder, sums)
            lanes = ir.Constant(ir.VectorType(v.INT, keys), [*range(r * keys, (r + 1) * keys)])
            piece = builder.shuffle_vector(together, together, lanes)
            builder.store(piece, v.place(builder, out, row), align=v.BYTES)


def _loop(builder: Any, count: Any, starts: Sequence[Any], body: Body) -> Sequence[Any]:
    """Calls `body(number, values)` for 0 to count - 1, each time with the values that it returned before."""
    before, function = builder.block, builder.function
    inside, after = function.append_basic_block("inside"), function.append_basic_block("after")
    builder.cbranch(builder.icmp_unsigned(">", count, WORD(0)), inside, after)
    builder.position_at_end(inside)
    number = builder.phi(WORD)
    values = [builder.phi(start.type) for start in starts]
    results = body(number, values)
    following = builder.add(number, WORD(1))
    for phi, start, result in zip((number, *values), (WORD(0), *starts), (following, *results), strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(result, inside)
    builder.cbranch(builder.icmp_unsigned("<", following, count), inside, after)
    builder.position_at_end(after)
    finals = [builder.phi(start.type) for start in starts]
    for phi, start, result in zip(finals, starts, results, strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(result, inside)
    return finals


def _names(size: int) -> dict[str, tuple[Callable[..., None], int, int, int]]:
    """Name of each tile for weights of `size` bytes: how it is written, rows, columns and that size."""
    return {
        **{f"wide_{rows}_{size}": (_product, rows, vectors_for(rows), size) for rows in range(1, MOST_ROWS + 1)},
        **{f"narrow_{rows}_{size}": (_product, rows, 1, size) for rows in range(1, MOST_ROWS + 1)},
        **{f"dots_{rows}_{size}": (_dots, rows, keys_for(rows), size) for rows in (1, DOT_ROWS)},
        **{f"dot_{rows}_{size}": (_dots, rows, 1, size) for rows in (1, DOT_ROWS)},
    }


WRITERS = _names(4) | _names(2)

NARROW, DOTS, DOT, BFLOAT16 = 6, 12, 14, 16
"""Where kinds begin in `ADDRESSES`; `dots` and `dot` have a tile of one row and one of `DOT_ROWS`, and everything is
there again for weights in bfloat16."""


def _compiled() -> tuple[Any, np.ndarray[Any, np.dtype[np.int64]]]:
    module = ir.Module("tiles")
    for name, (write, *sizes) in WRITERS.items():
        builder = ir.IRBuilder(ir.Function(module, KIND, name).append_basic_block())
        write(builder, *sizes)
        builder.ret_void()
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    target = binding.Target.from_default_triple()
    features = binding.get_host_cpu_features().flatten()
    machine = target.create_target_machine(cpu=binding.get_host_cpu_name(), features=features, opt=3, jit=True)
    engine = binding.create_mcjit_compiler(binding.parse_assembly(str(module)), machine)
    engine.finalize_object()
    return engine, np.array([engine.get_function_address(name) for name in WRITERS], dtype=np.int64)


_engine, ADDRESSES = _compiled()


@intrinsic
def call(typing, tile, x, x_stride, weight, weight_stride, out, out_stride, inner):
    """Calls the tile at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], KIND.as_pointer())
        builder.call(pointer, arguments[1:])
        return context.get_dummy_value()

    return types.void(*(types.intp,) * 8), generate
