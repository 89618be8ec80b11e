"""Logarithms, lane by lane and without branches.

x = 2ᵏ m with ¾ ≤ m < 3/2, and log x = k·ln 2 + log(1 + f) with f = m − 1. In double, log(1 + f) = 2 artanh s with
s = f / (2 + f), which is f − (f²/2 − s (f²/2 + R)) for 2 artanh s = s (2 + R), where R is a polynomial of s²: like this
f enters without an error (fdlibm, Sun Microsystems, 1993, e_log.c). In single, log(1 + f) = f − f²/2 + f³ P(f) takes
less time. The polynomials are those with the smallest greatest error (Remez), 2⁻⁵⁶ and 2⁻²⁷ of the result.

Infinities, zeros and NaN need no code: they are in k.
"""

from __future__ import annotations

import math

from funcgrad.compiler.native.machine.builder import Builder, Value
from funcgrad.compiler.native.vectormath.arithmetic import instead, polynomial, sum_of_ordered
from funcgrad.compiler.native.vectormath.exponential import LN2, exp
from funcgrad.compiler.native.vectormath.scaling import scaled, split

_IN_SQUARE = (
    0.6666666666667271, 0.39999999996161667, 0.2857142939528054, 0.22222138502934896, 0.1818635599201408,
    0.15250190473794165, 0.15368174123450387,
)  # fmt: skip
_BEHIND_SQUARE = (
    0.333334491, -0.250000958, 0.199908624, -0.166473145, 0.14478388, -0.131611621, 0.104629741, -0.0450745027,
)  # fmt: skip
# log₁₀ 2 in two parts of one sign, of which the first has so few digits that k times it is exact
_LOG10_2 = {
    "double": (0.30102999566361177, 3.694239077158931e-13),
    "float": (0.301025390625, 4.605038981195214e-06),
}
# log₁₀ e, and what is left of it when it is rounded
_LOG10_E = {
    "double": (0.4342944819032518, 1.098319650216765e-17),
    "float": (0.4342944920063019, -1.0103050052231683e-08),
}


def _near_one(b: Builder, f: Value) -> tuple[Value, Value]:
    """`f` and how much larger it is than log(1 + f), for −¼ ≤ f < ½."""
    half = b.op("fmul", b.op("fmul", f, f), b.like(f, 0.5))
    if f.type.lane == "float":
        cube = b.op("fmul", f, b.op("fmul", f, f))
        return f, b.fma(b.negative(cube), polynomial(b, f, _BEHIND_SQUARE), half)
    s = b.op("fdiv", f, b.op("fadd", f, b.like(f, 2)))
    square = b.op("fmul", s, s)
    rest = b.fma(square, polynomial(b, square, _IN_SQUARE), half)
    return f, b.fma(b.negative(s), rest, half)


def _joined(b: Builder, f: Value, minus_k: Value) -> Value:
    """The logarithm of 2ᵏ (1 + f)."""
    high, low = LN2[f.type.lane]
    # −k is 0, and not −0, for k = 0: so the sign of f = −0 stays
    f, less = _near_one(b, f)
    less = b.fma(minus_k, b.like(f, low), less)
    return b.fma(minus_k, b.like(f, -high), b.op("fsub", f, less))


def _fraction(b: Builder, x: Value) -> tuple[Value, Value]:
    m, minus_k = split(b, x)
    return b.op("fsub", m, b.like(x, 1)), minus_k


def log(b: Builder, x: Value) -> Value:
    """The natural logarithm."""
    return _joined(b, *_fraction(b, x))


def log_in_parts(b: Builder, x: Value) -> tuple[Value, Value]:
    """The natural logarithm of a finite x > 0, and what rounding has taken from it."""
    f, minus_k = _fraction(b, x)
    high, low = LN2[x.type.lane]
    f, less = _near_one(b, f)
    y, lost = sum_of_ordered(b, b.op("fmul", minus_k, b.like(f, -high)), f)
    return sum_of_ordered(b, y, b.op("fsub", lost, b.fma(minus_k, b.like(f, low), less)))


def log2(b: Builder, x: Value) -> Value:
    """The logarithm to base 2."""
    f, minus_k = _fraction(b, x)
    f, less = _near_one(b, f)
    return b.fma(b.op("fsub", f, less), b.like(f, 1 / math.log(2)), b.negative(minus_k))


def log10(b: Builder, x: Value) -> Value:
    """The logarithm to base 10."""
    f, minus_k = _fraction(b, x)
    f, less = _near_one(b, f)
    near = b.op("fsub", f, less)
    (high, low), (unit, rest) = _LOG10_2[x.type.lane], _LOG10_E[x.type.lane]
    y = b.fma(near, b.like(f, rest), b.op("fmul", minus_k, b.like(f, -low)))
    return b.fma(minus_k, b.like(f, -high), b.fma(near, b.like(f, unit), y))


def log1p(b: Builder, x: Value) -> Value:
    """log(1 + x), from f = 2⁻ᵏ x + (2⁻ᵏ − 1) with the k of 1 + x."""
    _, minus_k = split(b, b.op("fadd", x, b.like(x, 1)))
    # where k is infinite, so is the result, or f would be NaN
    bounded = b.select(b.compare("oeq", b.intrinsic("fabs", minus_k), b.like(x, math.inf)), b.like(x, 0), minus_k)
    one = b.like(x, 1)
    scale = scaled(b, one, bounded)
    # −(1 − 1) is −0, to which −0 may be added
    f = b.fma(x, scale, b.negative(b.op("fsub", one, scale)))
    y = _joined(b, f, minus_k)
    return instead(b, x, math.inf, y, math.inf)


def logaddexp(b: Builder, x: Value, y: Value) -> Value:
    """log(eˣ + eʸ): the larger one, plus log1p of the exponential of the distance."""
    larger = b.select(b.compare("oge", x, y), x, y)
    distance = b.intrinsic("fabs", b.op("fsub", x, y))
    z = b.op("fadd", larger, log1p_of_part(b, exp(b, b.negative(distance))))
    z = b.select(b.compare("oeq", x, y), b.op("fadd", x, b.like(x, math.log(2))), z)
    return b.select(b.compare("uno", x, y), b.op("fadd", x, y), z)


def log1p_of_part(b: Builder, x: Value) -> Value:
    """log(1 + x) for 0 ≤ x ≤ 1, where k is 0 or 1."""
    over = b.compare("oge", x, b.like(x, 0.5))
    f = b.select(over, b.fma(x, b.like(x, 0.5), b.like(x, -0.5)), x)
    return _joined(b, f, b.select(over, b.like(x, -1), b.like(x, 0)))
