"""Sine, cosine and tangent: x = n·π + r with |r| ≤ π/2, and the sine of r, which is that of x but for the sign.

For the cosine, n is half of an odd number. For the tangent, it is half of any number, |r| ≤ π/4, and the result is
sin r / cos r for whole n, else −cos r / sin r. n·π is subtracted in three parts, by products whose sum is rounded once;
the first of these differences is exact, and the others keep what is left of r where x is close to a multiple of
π, for |x| up to 2¹⁷ in single and 2²⁸ in double precision. If one of the lanes is larger, all of them go to `far`.

The sine of r is r + r³ P(r²), and the cosine 1 − r²/2 + r⁴ Q(r²), with those polynomials of their degrees that have
the smallest greatest error (Remez).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from funcgrad.compiler.native.machine.builder import Builder, Value
from funcgrad.compiler.native.vectormath.arithmetic import (
    LARGE,
    bits,
    parity_as_sign,
    polynomial,
    rounded,
    where_some,
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
# for |r| ≤ π/4, the tails of sine and cosine
_SHORT_TAILS = {
    "double": (
        (
            -0.16666666666666624, 0.008333333333320233, -0.00019841269828044857, 2.7557313074945964e-06,
            -2.5050660775061284e-08, 1.5891116116738247e-10,
        ),
        (
            0.041666666666666574, -0.0013888888888870363, 2.48015872871483e-05, -2.7557313682078527e-07,
            2.087563265774092e-09, -1.135497968959071e-11,
        ),
    ),
    "float": ((-0.166666534, 0.00833208573, -0.000195050496), (0.0416666436, -0.00138872146, 2.44214853e-05)),
}  # fmt: skip
_FAR = {"double": 2.0**28, "float": 2.0**17}


def sin(b: Builder, x: Value) -> Value:
    """The sine."""
    near = _near_sine(b, x)
    (r,) = _unless_far(b, x, [near], lambda: [far(b, x, cosine=False)])
    return _sine(b, r, _TAIL[x.type.lane])


def cos(b: Builder, x: Value) -> Value:
    """The cosine."""
    near = _near_cosine(b, x)
    (r,) = _unless_far(b, x, [near], lambda: [far(b, x, cosine=True)])
    return _sine(b, r, _TAIL[x.type.lane])


def tan(b: Builder, x: Value) -> Value:
    """The tangent."""
    n, shifted = rounded(b, x, 2 / math.pi)
    near = [_less(b, x, n, 0.5), b.cast("trunc", bits(b, shifted), "i1")]
    r, odd = _unless_far(b, x, near, lambda: _far_tangent(b, x))
    of_sine, of_cosine = _SHORT_TAILS[x.type.lane]
    square = b.op("fmul", r, r)
    sine = _sine(b, r, of_sine)
    cosine = polynomial(b, square, (1.0, -0.5, *of_cosine))
    return b.op("fdiv", b.select(odd, b.negative(cosine), sine), b.select(odd, sine, cosine))


def _sine(b: Builder, r: Value, tail: Sequence[float]) -> Value:
    square = b.op("fmul", r, r)
    y = b.fma(b.op("fmul", r, square), polynomial(b, square, tail), r)
    # for −0
    return b.intrinsic("copysign", y, r)


def _unless_far(b: Builder, x: Value, near: list[Value], beyond: Callable[[], list[Value]]) -> list[Value]:
    """`near`, but what `beyond` gives for those lanes that are large."""
    large = b.compare("oge", b.intrinsic("fabs", x), b.like(x, _FAR[x.type.lane]))
    return where_some(b, large, beyond, near)


def _less(b: Builder, x: Value, n: Value, factor: float) -> Value:
    """X less n times π times the factor."""
    for part in _PI[x.type.lane]:
        x = b.fma(n, b.like(x, -part * factor), x)
    return x


def _near_sine(b: Builder, x: Value) -> Value:
    n, shifted = rounded(b, x, 1 / math.pi)
    return with_sign_flipped(b, _less(b, x, n, 1), parity_as_sign(b, shifted))


def _near_cosine(b: Builder, x: Value) -> Value:
    large = b.like(x, LARGE[x.type.lane])
    shifted = b.op("fadd", b.fma(x, b.like(x, 1 / math.pi), b.like(x, -0.5)), large)
    twice = b.fma(b.op("fsub", shifted, large), b.like(x, 2), b.like(x, 1))
    return with_sign_flipped(b, _less(b, b.negative(x), twice, -0.5), parity_as_sign(b, shifted))


def _far_tangent(b: Builder, x: Value) -> list[Value]:
    """`r`, and whether n is odd, from what has the sine, and what has the cosine of x as its sine.

    One of these is r, but for the sign, and the other one is larger.
    """
    sine, cosine = far(b, x, cosine=False), far(b, x, cosine=True)
    a, c = b.intrinsic("fabs", sine), b.intrinsic("fabs", cosine)
    odd = b.compare("ogt", a, c)
    whole = b.op("xor", bits(b, sine), bits(b, cosine))
    sign = b.op("and", whole, b.like(whole, -(1 << (whole.type.bits - 1))))
    r = with_sign_flipped(b, b.select(odd, c, a), sign)
    return [b.select(odd, b.negative(r), r), odd]
