"""One vector register as a value in compiled code.

LLVM turns loops of numba into vector code only behind run-time checks that arrays don't overlap,
which fail for work in place: plain loops over the gates were ten times slower. Here a register's
width is part of a type instead::

    v = load(array, at)            # `lanes(array)` numbers from flat element `at` on
    store(array, at, tanh(array, v * splat(array, 0.5)))

With ``NUMBA_DISABLE_JIT=1`` a vector is a numpy array of that length and the same code runs.
"""

# ruff: noqa: ARG001, PLW0108 (numba reads the signatures and wants each as it stands)

from __future__ import annotations

import math
import operator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from llvmlite import binding, ir
from numba import config, types
from numba.extending import intrinsic, models, overload, register_model

from gru_optuna.training.engines.compiled.compiler import compiled

Array: TypeAlias = npt.NDArray[Any]


def _vector_bytes() -> int:
    features = binding.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx2") else 16


VECTOR_BYTES = _vector_bytes()


def lanes_of(dtype: npt.DTypeLike) -> int:
    """V, how many numbers of `dtype` one vector register holds."""
    return VECTOR_BYTES // np.dtype(dtype).itemsize


class Vector(types.Type):  # type: ignore[misc]  # numba has no stubs
    """The numba type of a vector of `dtype`."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        self.lanes = VECTOR_BYTES // (dtype.bitwidth // 8)
        super().__init__(name=f"Vector({dtype})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Vector) -> None:
        scalar = ir.FloatType() if kind.dtype.bitwidth == 32 else ir.DoubleType()
        super().__init__(manager, kind, ir.VectorType(scalar, kind.lanes))


def emit_splat(builder: Any, scalar: Any, vector: Any) -> Any:
    """Emits a vector with `scalar` in every lane."""
    undefined = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undefined, scalar, ir.IntType(32)(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(one, undefined, zeros)


def _emit_address(context: Any, builder: Any, kind: Any, array: Any, at: Any, vector: Any) -> Any:
    element = builder.gep(context.make_array(kind)(context, builder, array).data, [at])
    return builder.bitcast(element, vector.as_pointer())


# An intrinsic returns its signature and the function that emits its code. An overload and what it
# returns must have equal parameters, annotations included: hence neither has any.


@intrinsic  # type: ignore[untyped-decorator]
def _lanes(_typing: Any, array: Any) -> Any:
    def codegen(_context: Any, _builder: Any, _signature: Any, _args: Any) -> Any:
        return ir.Constant(ir.IntType(types.intp.bitwidth), Vector(array.dtype).lanes)

    return types.intp(array), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _load(_typing: Any, array: Any, at: Any) -> Any:
    kind = Vector(array.dtype)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = context.get_value_type(kind)
        pointer = _emit_address(context, builder, array, args[0], args[1], vector)
        return builder.load(pointer, align=array.dtype.bitwidth // 8)

    return kind(array, types.intp), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _store(_typing: Any, array: Any, at: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = context.get_value_type(value)
        pointer = _emit_address(context, builder, array, args[0], args[1], vector)
        builder.store(args[2], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _splat(_typing: Any, array: Any, value: Any) -> Any:
    kind = Vector(array.dtype)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return emit_splat(builder, args[1], context.get_value_type(kind))

    return kind(array, array.dtype), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _clamp(_typing: Any, value: Any, low: Any, high: Any) -> Any:
    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        x, lowest, highest = args
        # Ordered comparisons are false for NaN, so NaN passes: a diverged trial must be noticed.
        x = builder.select(builder.fcmp_ordered("<", x, lowest), lowest, x)
        return builder.select(builder.fcmp_ordered(">", x, highest), highest, x)

    return value(value, value, value), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _tanh_by_lane(_typing: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        result = args[0]
        scalar = value.dtype(value.dtype)
        for lane in range(value.lanes):
            index = ir.IntType(32)(lane)
            element = builder.extract_element(args[0], index)
            element = context.compile_internal(builder, lambda x: math.tanh(x), scalar, [element])
            result = builder.insert_element(result, element, index)
        return result

    return value(value), codegen


def _define(function: Any, instruction: str) -> None:
    @intrinsic  # type: ignore[untyped-decorator]
    def apply(_typing: Any, left: Any, right: Any) -> Any:
        def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            # "contract" allows a fused multiply-add, and nothing else.
            return getattr(builder, instruction)(*args, flags=("contract",))

        return left(left, left), codegen

    @overload(function)
    def implementation(left, right):  # type: ignore[no-untyped-def]
        if isinstance(left, Vector) and left == right:
            return lambda left, right: apply(left, right)
        return None


for _function, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _define(_function, _instruction)


# A rational approximation, because without Intel's SVML numba has no vector form of tanh or exp.
# Coefficients of Eigen's ptanh_float (MathFunctionsImpl.h): odd numerator, even denominator, on
# [-7.9, 7.9]; outside, tanh is ±1 in float32.
_LIMIT = np.float32(7.90531110763549805)
_P = (-2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08,
      1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03)  # fmt: skip
_Q = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)


@compiled()
def _tanh_rational(array: Array, x: Any) -> Any:
    x = clamp(x, splat(array, -_LIMIT), splat(array, _LIMIT))
    s = x * x
    p = splat(array, _P[0]) * s + splat(array, _P[1])
    p = p * s + splat(array, _P[2])
    p = p * s + splat(array, _P[3])
    p = p * s + splat(array, _P[4])
    p = p * s + splat(array, _P[5])
    p = p * s + splat(array, _P[6])
    q = splat(array, _Q[0]) * s + splat(array, _Q[1])
    q = q * s + splat(array, _Q[2])
    q = q * s + splat(array, _Q[3])
    return x * p / q


def _tanh_slow(array: Array, x: Array) -> Array:
    return np.tanh(x)


@overload(_tanh_slow)
def _tanh_fast(array, x):  # type: ignore[no-untyped-def]
    # float64 takes the C library's tanh, so that comparisons with torch hold to 1e-9.
    if array.dtype == types.float32:
        return lambda array, x: _tanh_rational(array, x)
    return lambda array, x: _tanh_by_lane(x)


if config.DISABLE_JIT:

    def lanes(array: Array) -> int:
        return lanes_of(array.dtype)

    def load(array: Array, at: int) -> Any:
        return array.reshape(-1)[at : at + lanes(array)].copy()

    def store(array: Array, at: int, value: Any) -> None:
        array.reshape(-1)[at : at + lanes(array)] = value

    def splat(array: Array, value: Any) -> Any:
        return np.full(lanes(array), value, array.dtype)

    def clamp(value: Any, low: Any, high: Any) -> Any:
        return np.clip(value, low, high)

else:
    lanes, load, store, splat, clamp = _lanes, _load, _store, _splat, _clamp


@compiled()
def tanh(array: Array, x: Any) -> Any:
    """The tanh of a vector with numbers like `array`'s: in float32 to 3e-7; NaN stays NaN."""
    return _tanh_slow(array, x)


@compiled()
def sigmoid(array: Array, x: Any) -> Any:
    """``1 / (1 + exp(-x))``, as ``(1 + tanh(x / 2)) / 2``, which can't overflow."""
    half = splat(array, 0.5)
    return half + half * tanh(array, half * x)
