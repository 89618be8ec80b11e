"""The power x**y = 2^(y·log₂|x|), with the signs and the special values of C99 (annex F.9.4.4).

The exponent may be as large as 1024, so the logarithm has to have ten digits more than the result. In single precision,
double has them. In double, the logarithm is a sum of two numbers: log₂ m = s (C₀ + C₁ s² + s⁴ Q(s²)) with
s = (m − 1) / (m + 1), where all but Q is computed with the digits that rounding takes away. Q is the polynomial of its
degree with the smallest greatest error (Remez).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

from funcgrad.compiler.native.machine.builder import Builder, Value
from funcgrad.compiler.native.vectormath.arithmetic import (
    clamped,
    in_double,
    instead,
    polynomial,
    product,
    rounded,
    sum_of_ordered,
)
from funcgrad.compiler.native.vectormath.exponential import exp_near_zero
from funcgrad.compiler.native.vectormath.scaling import power_of_two, scaled, split

_T = TypeVar("_T")
# whole exponents up to this take less as products
_MOST = 16
# 2 / ln 2 and 2 / (3 ln 2), and what is left of them when they are rounded
_C0 = (2.8853900817779268, 4.0710547481862066e-17)
_C1 = (0.9617966939259756, 5.0577616648125907e-17)
_Q = (
    0.5770780163558766, 0.4121985829850343, 0.3205989187329835, 0.26230645727544205, 0.22203361247339953,
    0.19025110011063606, 0.19852061759443856,
)  # fmt: skip
# log₂ m in single precision
_SHORT = (2.885390081836112, 0.9617966217118827, 0.5770923473293533, 0.4112062715381213, 0.3483929305731435)
# eʳ for |r| ≤ ½ ln 2 in single precision
_SHORT_EXP = (1.0, 1.0, 0.500000003, 0.16666577, 0.0416663753, 0.0083631728, 0.00139411087)


def power(b: Builder, x: Value, y: Value) -> Value:
    """`x` to the power of `y`."""
    z = _of_absolute_single(b, x, y) if x.type.lane == "float" else _of_absolute(b, x, y)
    return _special(b, x, y, z)


def is_short(n: float) -> bool:
    """True if the power with this number takes only a few products and roots."""
    return 0 < abs(n) <= _MOST if n.is_integer() else n in (-1.5, -0.5, 0.5, 1.5, 2.5)


def power_of_number(b: Builder, x: Value, n: float) -> Value | None:
    """`x` to the power of a number that is part of the program, where that takes less than `power`; else None."""
    if not is_short(n):
        return None
    if n.is_integer():
        return _whole_single(b, x, int(n)) if x.type.lane == "float" else _whole(b, x, int(n))
    # √−∞ is NaN, but −∞ to such a power is what ∞ is
    x = instead(b, x, -math.inf, x, math.inf)
    root = b.intrinsic("sqrt", x)
    if n < 0:
        top = b.like(x, 1) if n == -0.5 else b.op("fdiv", b.like(x, 1), b.intrinsic("fabs", x))
        return b.op("fdiv", top, b.intrinsic("fabs", root))
    if n == 0.5:
        return b.intrinsic("fabs", root)
    if n == 1.5:
        return b.op("fmul", x, root)
    return b.op("fmul", b.op("fmul", x, x), b.intrinsic("fabs", root))


def _whole_single(b: Builder, x: Value, n: int) -> Value:
    y = _repeated(in_double(b, x), abs(n), lambda x, y: b.op("fmul", x, y))
    return b.cast("fptrunc", b.op("fdiv", b.like(y, 1), y) if n < 0 else y, "float")


def _whole(b: Builder, x: Value, n: int) -> Value:
    """Products of two numbers each, which together have twice the digits."""
    low = b.like(x, 0)
    if n < 0:
        inverse = b.op("fdiv", b.like(x, 1), x)
        x, low = inverse, b.op("fmul", b.fma(b.negative(inverse), x, b.like(x, 1)), inverse)

    def times(x: tuple[Value, Value], y: tuple[Value, Value]) -> tuple[Value, Value]:
        high, lost = product(b, x[0], y[0])
        return high, b.fma(x[0], y[1], b.fma(x[1], y[0], lost))

    high, low = _repeated((x, low), abs(n), times)
    # the sum of −0 and 0 is 0
    y = b.intrinsic("copysign", b.op("fadd", high, low), high)
    # where the product is infinite, what is left of it may be NaN
    return b.select(b.compare("uno", y, y), high, y)


def _repeated(x: _T, n: int, times: Callable[[_T, _T], _T]) -> _T:
    """The product of n times `x`, by squares."""
    y = x
    for digit in f"{n:b}"[1:]:
        y = times(y, y)
        if digit == "1":
            y = times(y, x)
    return y


def _of_absolute(b: Builder, x: Value, y: Value) -> Value:
    """|x|**y in double, where this is no special value."""
    high, low = _log2(b, x)
    p, rest = product(b, y, high)
    rest = b.fma(y, low, rest)
    # where the result is 0 or infinite, what is left of the product may be NaN
    inside = b.compare("olt", b.intrinsic("fabs", p), b.like(p, 1100))
    rest = b.select(inside, rest, b.like(p, 0))
    p = clamped(b, p, -1100, 1100)
    k, _ = rounded(b, p, 1)
    r = b.op("fmul", b.op("fadd", b.op("fsub", p, k), rest), b.like(p, math.log(2)))
    return scaled(b, exp_near_zero(b, r), k)


def _log2(b: Builder, x: Value) -> tuple[Value, Value]:
    """The logarithm of |x| to base 2, in two parts."""
    m, minus_k = split(b, x, signed=True)
    s, s_low = _ratio(b, b.op("fsub", m, b.like(x, 1)))
    u, u_low = product(b, s, s)
    u_low = b.fma(b.op("fadd", s, s), s_low, u_low)
    t, t_low = sum_of_ordered(b, b.like(x, _C1[0]), b.op("fmul", u, polynomial(b, u, _Q)))
    t_low = b.op("fadd", t_low, b.like(x, _C1[1]))
    v, v_low = product(b, u, t)
    v_low = b.fma(u, t_low, b.fma(u_low, t, v_low))
    c, c_low = sum_of_ordered(b, b.like(x, _C0[0]), v)
    c_low = b.op("fadd", c_low, b.op("fadd", v_low, b.like(x, _C0[1])))
    z, z_low = product(b, s, c)
    z_low = b.fma(s, c_low, b.fma(s_low, c, z_low))
    high, rest = sum_of_ordered(b, b.negative(minus_k), z)
    return high, b.op("fadd", rest, z_low)


def _ratio(b: Builder, f: Value) -> tuple[Value, Value]:
    """F / (2 + f) in two parts."""
    bottom, lost = sum_of_ordered(b, b.like(f, 2), f)
    inverse = b.op("fdiv", b.like(f, 1), bottom)
    s = b.op("fmul", f, inverse)
    rest = b.fma(b.negative(s), lost, b.fma(b.negative(s), bottom, f))
    return s, b.op("fmul", rest, inverse)


def _of_absolute_single(b: Builder, x: Value, y: Value) -> Value:
    m, minus_k, y = (in_double(b, v) for v in (*split(b, x, signed=True), y))
    f = b.op("fsub", m, b.like(m, 1))
    s = b.op("fdiv", f, b.op("fadd", f, b.like(f, 2)))
    z = b.fma(s, polynomial(b, b.op("fmul", s, s), _SHORT), b.negative(minus_k))
    p = clamped(b, b.op("fmul", y, z), -200, 200)
    k, _ = rounded(b, p, 1)
    r = b.op("fmul", b.op("fsub", p, k), b.like(p, math.log(2)))
    return b.cast("fptrunc", b.op("fmul", polynomial(b, r, _SHORT_EXP), power_of_two(b, k)), "float")


def _special(b: Builder, x: Value, y: Value, z: Value) -> Value:
    """The result, from that for |x|."""
    a = b.intrinsic("fabs", x)
    half = b.op("fmul", y, b.like(y, 0.5))
    whole = b.compare("oeq", b.intrinsic("rint", y), y)
    even = b.compare("oeq", b.intrinsic("rint", half), half)
    z = b.select(b.op("and", whole, b.op("xor", even, b.like(even, True))), b.intrinsic("copysign", z, x), z)
    # a negative number has a power that is a fraction only where it is infinite
    negative = b.op("and", b.compare("olt", x, b.like(x, 0)), b.compare("olt", a, b.like(x, math.inf)))
    z = b.select(b.op("and", negative, b.op("xor", whole, b.like(whole, True))), b.like(z, math.nan), z)
    # 1 even for NaN
    unit = b.op("and", b.compare("oeq", a, b.like(x, 1)), _is_infinite(b, y))
    one = b.op("or", b.op("or", b.compare("oeq", y, b.like(y, 0)), b.compare("oeq", x, b.like(x, 1))), unit)
    return b.select(one, b.like(z, 1), z)


def _is_infinite(b: Builder, x: Value) -> Value:
    return b.compare("oeq", b.intrinsic("fabs", x), b.like(x, math.inf))
