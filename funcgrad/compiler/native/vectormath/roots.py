"""Cube root and hypotenuse."""

from __future__ import annotations

import math

from funcgrad.compiler.native.machine.builder import Builder, Value
from funcgrad.compiler.native.vectormath.arithmetic import polynomial, product, rounded
from funcgrad.compiler.native.vectormath.scaling import power_of_two, split

# m^(−1/3) to 14 digits for ¾ ≤ m < 3/2
_INVERSE = (1.8380828033772856, -1.7212390681785152, 1.360863669704246, -0.5772029679731616, 0.09945796384190873)
# numbers whose squares are far from the limits of the exponent, and what takes others there
_SQUARABLE = {"double": (2.0**-400, 2.0**500, 2.0**600), "float": (2.0**-40, 2.0**60, 2.0**86)}


def cbrt(b: Builder, x: Value) -> Value:
    """The cube root: with 2^(3q) z = x it is 2^q y, where a polynomial and Newton's method give y = z^(1/3)."""
    m, minus_k = split(b, x, signed=True)
    minus_q, _ = rounded(b, minus_k, 1 / 3)
    left = b.fma(minus_q, b.like(x, -3), minus_k)
    # −k = −3q + left, where left is −1, 0 or 1
    down, up = (b.compare("oeq", left, b.like(x, n)) for n in (1, -1))
    z = b.op("fmul", m, b.select(down, b.like(x, 0.5), b.select(up, b.like(x, 2), b.like(x, 1))))
    factor = b.select(down, b.like(x, 2 ** (1 / 3)), b.select(up, b.like(x, 0.5 ** (1 / 3)), b.like(x, 1)))
    inverse = b.op("fmul", polynomial(b, m, _INVERSE), factor)
    if x.type.lane == "double":
        cube = b.op("fmul", b.op("fmul", inverse, inverse), inverse)
        third = b.op("fmul", inverse, b.like(x, 1 / 3))
        inverse = b.fma(third, b.fma(b.negative(z), cube, b.like(x, 1)), inverse)
    # y³ = z once more, where z − y³ has all its digits
    square = b.op("fmul", inverse, inverse)
    y = b.op("fmul", z, square)
    high, low = product(b, y, y)
    rest = b.fma(b.negative(low), y, b.fma(b.negative(high), y, z))
    y = b.fma(b.op("fmul", rest, square), b.like(x, 1 / 3), y)
    y = b.op("fmul", y, power_of_two(b, b.negative(minus_q)))
    finite = b.compare("olt", b.intrinsic("fabs", x), b.like(x, math.inf))
    ordinary = b.op("and", finite, b.compare("une", x, b.like(x, 0)))
    return b.select(ordinary, b.intrinsic("copysign", y, x), x)


def hypot(b: Builder, x: Value, y: Value) -> Value:
    """√(x² + y²), without squares that are too large or too small; ∞ if one of them is infinite."""
    x, y = b.intrinsic("fabs", x), b.intrinsic("fabs", y)
    larger = b.select(b.compare("ogt", x, y), x, y)
    small, large, factor = _SQUARABLE[x.type.lane]
    tiny, huge = b.compare("olt", larger, b.like(x, small)), b.compare("ogt", larger, b.like(x, large))

    def chosen(at_tiny: float, at_huge: float) -> Value:
        return b.select(tiny, b.like(x, at_tiny), b.select(huge, b.like(x, at_huge), b.like(x, 1)))

    scale = chosen(factor, 1 / factor)
    z, w = b.op("fmul", x, scale), b.op("fmul", y, scale)
    root = b.intrinsic("sqrt", b.fma(z, z, b.op("fmul", w, w)))
    root = b.op("fmul", root, chosen(1 / factor, factor))
    infinite = b.op("or", *(b.compare("oeq", v, b.like(x, math.inf)) for v in (x, y)))
    return b.select(infinite, b.like(x, math.inf), root)
