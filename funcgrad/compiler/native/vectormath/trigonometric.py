"""Sine, cosine and tangent: x = n·π + r with |r| ≤ π/2, and the sine of r, which is that of x but for the sign.

For the cosine, n is half of an odd number. n·π is subtracted in three parts, by multiplications whose sum is rounded
once; the first of these differences is exact, and the others keep what is left of r where x is close to a multiple of
π, for |x| up to 2¹⁷ in single and 2²⁸ in double precision. If one of the lanes is larger, all of them go to `far`.

The sine of r is r + r³ P(r²), with the P of its degree that has the smallest greatest error (Remez).
"""

from __future__ import annotations

import math

from funcgrad.compiler.native.builder import I1, Builder, Value
from funcgrad.compiler.native.vectormath.arithmetic import (
    LARGE,
    parity_as_sign,
    polynomial,
    rounded,
    with_sign_flipped,
)
from funcgrad.compiler.native.vectormath.far import far

# in parts of one sign, so that −0 stays
_PI = {
    "double": (3.141592653589793, 1.224646799147353e-16, 2.1657133478438278e-32),
    "float": (3.141592502593994, 1.5099578831723193e-07, 1.078060505991553e-14),
}
_TAIL = {
    "double": (
        -0.16666666666666666, 0.008333333333333193, -0.000198412698412085, 2.755731921101065e-06,
        -2.5052106860912372e-08, 1.605893909412148e-10, -7.642975219018525e-13, 2.721000132872005e-15,
    ),
    "float": (-0.166666586, 0.00833303977, -0.000198075612, 2.60107961e-06),
}  # fmt: skip
_FAR = {"double": 2.0**28, "float": 2.0**17}


def sin(b: Builder, x: Value) -> Value:
    """The sine."""
    return _sine(b, _reduced(b, x, False))


def cos(b: Builder, x: Value) -> Value:
    """The cosine."""
    return _sine(b, _reduced(b, x, True))


def tan(b: Builder, x: Value) -> Value:
    """The tangent."""
    return b.op("fdiv", sin(b, x), cos(b, x))


def _sine(b: Builder, r: Value) -> Value:
    """The sine for |r| ≤ π/2."""
    square = b.op("fmul", r, r)
    y = b.fma(b.op("fmul", r, square), polynomial(b, square, _TAIL[r.type.lane]), r)
    # for −0
    return b.intrinsic("copysign", y, r)


def _reduced(b: Builder, x: Value, cosine: bool) -> Value:
    """What has the same sine as x, or the sine that is the cosine of x, between −π/2 and π/2."""
    near = _near_cosine(b, x) if cosine else _near_sine(b, x)
    beyond = b.compare("oge", b.intrinsic("fabs", x), b.like(x, _FAR[x.type.lane]))
    some = b.call(f"llvm.vector.reduce.or.{beyond.type.suffix}", I1, beyond) if x.type.lanes > 1 else beyond
    return b.branch(some, lambda: [b.select(beyond, far(b, x, cosine), near)], lambda: [near])[0]


def _near_sine(b: Builder, x: Value) -> Value:
    n, shifted = rounded(b, x, 1 / math.pi)
    r = x
    for part in _PI[x.type.lane]:
        r = b.fma(n, b.like(x, -part), r)
    return with_sign_flipped(b, r, parity_as_sign(b, shifted))


def _near_cosine(b: Builder, x: Value) -> Value:
    large = b.like(x, LARGE[x.type.lane])
    shifted = b.op("fadd", b.fma(x, b.like(x, 1 / math.pi), b.like(x, -0.5)), large)
    twice = b.fma(b.op("fsub", shifted, large), b.like(x, 2), b.like(x, 1))
    r = b.negative(x)
    for part in _PI[x.type.lane]:
        r = b.fma(twice, b.like(x, part / 2), r)
    return with_sign_flipped(b, r, parity_as_sign(b, shifted))
