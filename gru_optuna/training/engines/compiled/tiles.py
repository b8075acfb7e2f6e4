"""Register tiles: the matrix products of the recurrence, without a BLAS call.

A BLAS packs and checks its operands at every call. The recurrence multiplies by the same
weights at every step, so here they are packed once per update into *panels*, and the inner
loop is emitted as vector instructions. A single primitive serves all products::

    C[i, :] (+)= sum_k A[i, k] * B[k, :]          i < rows,  C[i, :] = two or three vectors

The sums stay in registers until all of ``k`` is added: this is the inner kernel of every fast
BLAS (Goto & van de Geijn 2008). ``A`` has free strides, so that it may be a transpose; rows of
``B`` and ``C`` are contiguous. Measured with AVX-512: 100 to 115 GFLOP/s on one core, 1.0 to 1.4
times the better of OpenBLAS and MKL (``benchmarks/LOG.md``, experiment 2).

With ``NUMBA_DISABLE_JIT=1`` the same functions run as numpy slices.
"""

# ruff: noqa: ARG001 (numba reads the signatures and wants each as it stands)

from __future__ import annotations

from platform import machine
from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from gru_optuna.training.engines.compiled.compiler import compiled
from gru_optuna.training.engines.compiled.vectors import VECTOR_BYTES, Array, emit_splat, lanes_of

if TYPE_CHECKING:
    from collections.abc import Callable

# Sums and operands must fit into the registers, or every addition goes through memory. Three
# vectors for each row take 8 * 3 of the 32 registers of AVX-512 and NEON, or 4 * 3 of the 16 of
# AVX2 and SSE, and leave some for B's three vectors and A's number.
_MANY_REGISTERS = VECTOR_BYTES == 64 or machine() in ("aarch64", "arm64")
TILE_ROWS = 8 if _MANY_REGISTERS else 4


def _tile(rows: int, vectors: int) -> Callable[..., None]:
    """A tile of `rows` by `vectors`, with the parameters of `multiply` below."""

    @intrinsic  # type: ignore[untyped-decorator]
    def tile(
        _typing: Any, c: Any, c_at: Any, c_row: Any, a: Any, a_at: Any, a_row: Any, a_k: Any,
        a_block: Any, b: Any, b_at: Any, b_k: Any, blocks: Any, depth: Any, add: Any,
    ) -> Any:  # fmt: skip
        lanes = VECTOR_BYTES // (c.dtype.bitwidth // 8)
        size = c.dtype.bitwidth // 8

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            (c_, c_at, c_row, a_, a_at, a_row, a_k, a_block, b_, b_at, b_k,
             blocks, depth, add) = args  # fmt: skip
            scalar = context.get_value_type(c.dtype)
            vector = ir.VectorType(scalar, lanes)
            index = ir.IntType(types.intp.bitwidth)

            def data(kind: Any, value: Any, at: Any) -> Any:
                return builder.gep(context.make_array(kind)(context, builder, value).data, [at])

            def vector_at(base: Any, v: int) -> Any:
                pointer = builder.gep(base, [ir.Constant(index, v * lanes)])
                return builder.bitcast(pointer, vector.as_pointer())

            c0, a0, b0 = data(c, c_, c_at), data(a, a_, a_at), data(b, b_, b_at)
            c_rows = [builder.gep(c0, [builder.mul(c_row, index(i))]) for i in range(rows)]
            # Each sum is a variable on the stack, which LLVM's mem2reg turns into a register.
            sums = [
                [cgutils.alloca_once(builder, vector) for _ in range(vectors)] for _ in range(rows)
            ]
            zero = ir.Constant(vector, [0.0] * lanes)
            with builder.if_else(builder.icmp_signed("!=", add, ir.Constant(add.type, 0))) as (
                then,
                otherwise,
            ):
                with then:
                    for i in range(rows):
                        for v in range(vectors):
                            start = builder.load(vector_at(c_rows[i], v), align=size)
                            builder.store(start, sums[i][v])
                with otherwise:
                    for i in range(rows):
                        for v in range(vectors):
                            builder.store(zero, sums[i][v])
            with cgutils.for_range(builder, blocks) as outer:
                a1 = builder.gep(a0, [builder.mul(outer.index, a_block)])
                b1 = builder.gep(b0, [builder.mul(builder.mul(outer.index, depth), b_k)])
                with cgutils.for_range(builder, depth) as inner:
                    b2 = builder.gep(b1, [builder.mul(inner.index, b_k)])
                    a2 = builder.gep(a1, [builder.mul(inner.index, a_k)])
                    right = [builder.load(vector_at(b2, v), align=size) for v in range(vectors)]
                    for i in range(rows):
                        left = builder.load(builder.gep(a2, [builder.mul(a_row, index(i))]))
                        splat = emit_splat(builder, left, vector)
                        for v in range(vectors):
                            # "contract" allows a fused multiply-add: one instruction, one
                            # rounding. Other liberties would make results depend on the compiler.
                            product = builder.fmul(splat, right[v], flags=("contract",))
                            total = builder.load(sums[i][v])
                            total = builder.fadd(total, product, flags=("contract",))
                            builder.store(total, sums[i][v])
            for i in range(rows):
                for v in range(vectors):
                    value = builder.load(sums[i][v])
                    builder.store(value, vector_at(c_rows[i], v), align=size)
            return context.get_dummy_value()

        n = types.intp
        return types.void(c, n, n, a, n, n, n, n, b, n, n, n, n, types.boolean), codegen

    def tile_in_numpy(
        c: Array, c_at: int, c_row: int, a: Array, a_at: int, a_row: int, a_k: int,
        a_block: int, b: Array, b_at: int, b_k: int, blocks: int, depth: int, add: bool,
    ) -> None:  # fmt: skip
        width = vectors * lanes_of(c.dtype)
        i, o, k = np.arange(rows), np.arange(blocks), np.arange(depth)
        left = a.reshape(-1)[
            a_at + i[:, None, None] * a_row + o[:, None] * a_block + k * a_k
        ].reshape(rows, -1)
        right = b.reshape(-1)[b_at + np.arange(blocks * depth)[:, None] * b_k + np.arange(width)]
        flat = c.reshape(-1)
        at = c_at + i[:, None] * c_row + np.arange(width)
        flat[at] = left @ right + (flat[at] if add else 0)

    return tile_in_numpy if config.DISABLE_JIT else tile


def _multiply(vectors: int) -> Callable[..., None]:
    tile_8, tile_4, tile_2, tile_1 = (_tile(rows, vectors) for rows in (8, 4, 2, 1))

    @compiled()
    def multiply(
        c: Array, c_at: int, c_row: int, a: Array, a_at: int, a_row: int, a_k: int,
        a_block: int, b: Array, b_at: int, b_k: int, rows: int, blocks: int, depth: int,
        add: bool,
    ) -> None:  # fmt: skip
        """Sets `c` to the product of `a` and a panel of vectors, or adds it to `c`.

        Every operand is a C-contiguous array, the element in it to start at, and strides in
        elements. The sum runs over ``blocks * depth`` terms: ``a`` advances by `a_k` from term
        to term and by `a_block` from block to block, ``b`` by `b_k` throughout.

        Rows that are left over take smaller tiles. A row's sum is the same in each of them, so
        results don't depend on how many rows train together.
        """
        i = 0
        if TILE_ROWS >= 8:
            while i + 8 <= rows:
                tile_8(c, c_at + i * c_row, c_row, a, a_at + i * a_row, a_row, a_k, a_block,
                       b, b_at, b_k, blocks, depth, add)  # fmt: skip
                i += 8
        while i + 4 <= rows:
            tile_4(c, c_at + i * c_row, c_row, a, a_at + i * a_row, a_row, a_k, a_block,
                   b, b_at, b_k, blocks, depth, add)  # fmt: skip
            i += 4
        if i + 2 <= rows:
            tile_2(c, c_at + i * c_row, c_row, a, a_at + i * a_row, a_row, a_k, a_block,
                   b, b_at, b_k, blocks, depth, add)  # fmt: skip
            i += 2
        if i < rows:
            tile_1(c, c_at + i * c_row, c_row, a, a_at + i * a_row, a_row, a_k, a_block,
                   b, b_at, b_k, blocks, depth, add)  # fmt: skip

    return multiply


multiply_by_two, multiply_by_three = _multiply(2), _multiply(3)
