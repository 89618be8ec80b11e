"""Quotients that are integers, and remainders: `floor_divide`, `remainder` and `fmod`, of integers and of floats.

A processor has no vector division of integers, but one of floats: of integers with at most 32 bits, the rounded
quotient of floats with more than twice as many digits has the integer part of the exact one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funcgrad.compiler.native.machine.builder import Builder, Type, Value
from funcgrad.compiler.native.scalars.convert import INT32, convert
from funcgrad.core.types import DType


def floor_divide(b: Builder, dtype: DType, x: Value, y: Value, number: Any) -> Value:
    """`x // y`; `number` is the value of `y` if that is known, else None."""
    if dtype.kind == "f":
        return _floor_divide_floats(b, x, y)
    shift = _log2(number)
    if shift is not None:
        return b.op("ashr" if dtype.kind == "i" else "lshr", x, b.like(x, shift))
    if dtype.itemsize == 8:
        return _floor_divide_wide(b, dtype, x, y, number)
    u, v = (_as_float(b, z, dtype) for z in (x, y))
    q = b.op("fdiv", u, v)
    if dtype.kind == "i":
        q = b.intrinsic("floor", q)
    if dtype == INT32 and number in (None, -1):
        # the one quotient that does not fit wraps around
        q = b.select(b.compare("oeq", q, b.like(q, 2.0**31)), b.like(q, -(2.0**31)), q)
    return _unless_zero(b, y, number, _from_float(b, q, dtype))


def remainder(b: Builder, dtype: DType, x: Value, y: Value, number: Any) -> Value:
    """`x % y`, with the sign of `y`."""
    if dtype.kind == "f":
        return _remainder_of_floats(b, x, y)
    if _log2(number) is not None:
        return b.op("and", x, b.like(x, int(number) - 1))
    if dtype.itemsize == 8:
        return _remainder_wide(b, dtype, x, y, number)
    return _remainder_narrow(b, dtype, x, y, number, "floor")


def fmod(b: Builder, dtype: DType, x: Value, y: Value, number: Any) -> Value:
    """What is left of `x`, with its sign, when multiples of `y` are taken away."""
    if dtype.kind == "f":
        return _fmod(b, x, y)
    if dtype.itemsize == 8:
        safe, _ = _divisor(b, dtype, y, number)
        return b.op("srem" if dtype.kind == "i" else "urem", x, safe)
    return _remainder_narrow(b, dtype, x, y, number, "trunc")


def _log2(number: Any) -> int | None:
    """The exponent of a power of 2; None for all other numbers."""
    n = 0 if number is None else int(number)
    return n.bit_length() - 1 if n > 0 and n & (n - 1) == 0 else None


def _unless_zero(b: Builder, y: Value, number: Any, result: Value) -> Value:
    """NumPy's quotient by 0, and the remainder, is 0; the `result` there is poison, which a select keeps out."""
    if number is not None and number != 0:
        return result
    return b.select(b.compare("eq", y, b.like(y, 0)), b.like(y, 0), result)


# ── integers of at most 32 bits, as floats


def _as_float(b: Builder, x: Value, dtype: DType) -> Value:
    return convert(b, x, dtype, np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64))


def _from_float(b: Builder, x: Value, dtype: DType) -> Value:
    """An integer that is known to fit; else poison."""
    if dtype.itemsize == 4:
        return b.cast("fptosi" if dtype.kind == "i" else "fptoui", x, "i32")
    return b.cast("trunc", b.cast("fptosi", x, "i32"), f"i{8 * dtype.itemsize}")


def _remainder_narrow(b: Builder, dtype: DType, x: Value, y: Value, number: Any, rounding: str) -> Value:
    u, v = (_as_float(b, z, dtype) for z in (x, y))
    q = b.intrinsic(rounding if dtype.kind == "i" else "trunc", b.op("fdiv", u, v))
    # both are exact
    r = b.op("fsub", u, b.op("fmul", q, v))
    return _unless_zero(b, y, number, _from_float(b, r, dtype))


# ── integers of 64 bits


def _divisor(b: Builder, dtype: DType, y: Value, number: Any) -> tuple[Value, Value | None]:
    """A divisor that no processor traps at, 1 in place of 0 and −1; and where it differs, None if nowhere."""
    one = b.like(y, 1)
    if number is not None and number not in (0, -1):
        return y, None
    if dtype.kind == "u":
        special = b.compare("eq", y, b.like(y, 0))
    else:
        # the least integer divided by −1 traps as well
        special = b.compare("ult", b.op("add", y, one), b.like(y, 2))
    return b.select(special, one, y), special


def _floor_divide_wide(b: Builder, dtype: DType, x: Value, y: Value, number: Any) -> Value:
    safe, special = _divisor(b, dtype, y, number)
    if dtype.kind == "u":
        q = b.op("udiv", x, safe)
        return q if special is None else b.select(special, b.like(q, 0), q)
    q = b.op("sdiv", x, safe)
    r = b.op("sub", x, b.op("mul", q, safe))
    q = b.op("add", q, b.cast("sext", _has_wrong_sign(b, r, safe, number), "i64"))
    # x · 0 = 0 and x · −1 are what is wanted there
    return q if special is None else b.select(special, b.op("mul", x, y), q)


def _remainder_wide(b: Builder, dtype: DType, x: Value, y: Value, number: Any) -> Value:
    safe, _ = _divisor(b, dtype, y, number)
    if dtype.kind == "u":
        return b.op("urem", x, safe)
    r = b.op("srem", x, safe)
    return b.op("add", r, b.select(_has_wrong_sign(b, r, safe, number), safe, b.like(r, 0)))


def _has_wrong_sign(b: Builder, r: Value, y: Value, number: Any) -> Value:
    """Whether a remainder, if it is not 0, has the other sign than the divisor."""
    zero = b.like(r, 0)
    if number is not None and number not in (0, -1):
        return b.compare("slt" if number > 0 else "sgt", r, zero)
    return b.op("and", b.compare("ne", r, zero), b.compare("slt", b.op("xor", r, y), zero))


# ── floats


def _fmod(b: Builder, x: Value, y: Value) -> Value:
    """`fmod` of the C library: exact. A function of the module, since it is long."""
    lanes = x.type.lanes
    type = Type("double", lanes)
    name = f"fmod_{type.suffix}"
    b.module.once(name, lambda: _write_fmod(Builder(b.module), name, type))
    narrow = x.type.lane == "float"
    if narrow:
        # in double precision the quotient of two floats does not overflow
        x, y = (b.cast("fpext", z, "double") for z in (x, y))
    r = b.emit(f"call {type} @{name}({x}, {y})", type)
    return b.cast("fptrunc", r, "float") if narrow else r


def _write_fmod(b: Builder, name: str, type: Type) -> None:
    with b.function(name, str(type), [(str(type), "x"), (str(type), "y")], "private"):
        x, y = Value("%x", type), Value("%y", type)
        a, d = b.intrinsic("fabs", x), b.intrinsic("fabs", y)
        defined = b.op("and", b.compare("one", a, b.like(a, math.inf)), b.compare("one", d, b.like(d, 0)))
        r = b.select(defined, a, b.like(a, math.nan))
        r, _ = _reduce(b, r, d)
        below = b.compare("olt", r, b.like(r, 0))
        r = b.select(below, b.op("fadd", r, d), r)
        b.ret(b.intrinsic("copysign", r, x))


def _reduce(b: Builder, r: Value, d: Value) -> list[Value]:
    """Take multiples of d away from r until |r| < d.

    With q the rounded quotient r / d, or its integer part, r − q·d is a float: no digit is lost, and 52 binary digits
    of the quotient are done with. If q overflows, multiples of 2⁶⁰⁰·d are taken away first.
    """
    more: list[Value] = []

    def unfinished(carried: list[Value]) -> Value:
        c = b.compare("oge", b.intrinsic("fabs", carried[0]), d)
        more[:] = [c]
        return any_lane(b, c)

    def step(carried: list[Value]) -> list[Value]:
        r, unit = carried
        q = b.intrinsic("trunc", b.op("fdiv", r, unit))
        overflow = b.compare("oeq", b.intrinsic("fabs", q), b.like(q, math.inf))
        less = b.select(more[0], b.fma(b.negative(q), unit, r), r)
        return [b.select(overflow, r, less), b.select(overflow, b.op("fmul", unit, b.like(unit, 2.0**600)), d)]

    return b.loop_while([r, d], unfinished, step)


def any_lane(b: Builder, c: Value) -> Value:
    """Whether a condition holds in one lane at least."""
    if c.type.lanes == 1:
        return c
    return b.call(f"llvm.vector.reduce.or.{c.type.suffix}", Type("i1"), c)


def _with_sign(b: Builder, m: Value, y: Value) -> tuple[Value, Value]:
    """A remainder with the sign of `y`, and whether it had that before; 0 counts as having it."""
    signed = b.intrinsic("copysign", m, y)
    return signed, b.compare("oeq", m, signed)


def _remainder_of_floats(b: Builder, x: Value, y: Value) -> Value:
    m = _fmod(b, x, y)
    signed, same = _with_sign(b, m, y)
    return b.select(same, signed, b.op("fadd", m, y))


def _floor_divide_floats(b: Builder, x: Value, y: Value) -> Value:
    """Python's algorithm, which NumPy follows: the quotient without its remainder is an integer but for rounding."""
    m = _fmod(b, x, y)
    _, same = _with_sign(b, m, y)
    zero = b.like(x, 0)
    whole = b.op("fdiv", b.op("fsub", x, m), y)
    whole = b.select(same, whole, b.op("fsub", whole, b.like(x, 1)))
    below = b.intrinsic("floor", whole)
    far = b.compare("ogt", b.op("fsub", whole, below), b.like(x, 0.5))
    nearest = b.select(far, b.op("fadd", below, b.like(x, 1)), below)
    ratio = b.op("fdiv", x, y)
    nearest = b.select(b.compare("oeq", whole, zero), b.intrinsic("copysign", zero, ratio), nearest)
    return b.select(b.compare("oeq", y, zero), ratio, nearest)
