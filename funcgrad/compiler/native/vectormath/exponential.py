"""Exponentials, lane by lane and without branches.

x = k·ln 2 + r with |r| ≤ ½ ln 2, and exp x = 2ᵏ exp r, where exp r = 1 + r + r² P(r). P is the polynomial of its degree
with the smallest greatest error (Remez), which leaves some 2⁻⁵⁶ of the result in double and 2⁻²⁷ in single precision.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from funcgrad.compiler.native.machine.builder import Builder, Value
from funcgrad.compiler.native.vectormath.arithmetic import clamped, polynomial, rounded
from funcgrad.compiler.native.vectormath.scaling import power_of_two, scaled

_TAIL = {
    "double": (
        0.5000000000000001, 0.16666666666666674, 0.041666666666624164, 0.008333333333322219, 0.0013888888917194745,
        0.00019841269886553776, 2.4801521325238575e-05, 2.7557242378626813e-06, 2.762007460442189e-07,
        2.511003416938439e-08,
    ),
    "float": (0.500000003, 0.16666577, 0.0416663753, 0.0083631728, 0.00139411087),
}  # fmt: skip
# tanh r = r + r³ P(r²) for |r| ≤ ¼ ln 2
_TANGENT = {
    "double": (
        -0.3333333333333249, 0.13333333332785624, -0.05396825278499793, 0.021869370921637068, -0.008857315278020283,
        0.0034449138400361877,
    ),
    "float": (-0.333333228, 0.133311874, -0.0527279956),
}  # fmt: skip
# ln 2 in two parts of one sign, of which the first has so few digits that k times it is exact
LN2 = {
    "double": (0.6931471805592082, 7.371002565167799e-13),
    "float": (0.693145751953125, 1.4286068203094173e-06),
}
# beyond these, exp is 0 and infinite
_RANGE = {"double": (-746.0, 710.0), "float": (-104.0, 89.0)}
# of numbers closer to 0, expm1 is the number itself
TINY = {"double": 2.0**-54, "float": 2.0**-25}


def reduced(b: Builder, x: Value) -> tuple[Value, Value]:
    """K and r of x = k·ln 2 + r."""
    k, _ = rounded(b, x, 1 / math.log(2))
    high, low = LN2[x.type.lane]
    r = b.fma(k, b.like(x, -high), x)
    return k, b.fma(k, b.like(x, -low), r)


def exp_near_zero(b: Builder, r: Value) -> Value:
    """The exponential of r for |r| ≤ ½ ln 2."""
    tail = polynomial(b, r, (1.0, *_TAIL[r.type.lane]))
    return b.fma(r, tail, b.like(r, 1))


def expm1_near_zero(b: Builder, r: Value) -> Value:
    """The exponential of r, less 1, for |r| ≤ ½ ln 2."""
    return b.fma(b.op("fmul", r, r), polynomial(b, r, _TAIL[r.type.lane]), r)


def exp(b: Builder, x: Value) -> Value:
    """The exponential."""
    k, r = reduced(b, clamped(b, x, *_RANGE[x.type.lane]))
    return scaled(b, exp_near_zero(b, r), k)


def exp2(b: Builder, x: Value) -> Value:
    """The power of 2."""
    z = clamped(b, x, *((-1080.0, 1030.0) if x.type.lane == "double" else (-155.0, 130.0)))
    k, _ = rounded(b, z, 1.0)
    r = b.op("fmul", b.op("fsub", z, k), b.like(x, math.log(2)))
    return scaled(b, exp_near_zero(b, r), k)


def expm1(b: Builder, x: Value) -> Value:
    """eˣ − 1, without the loss of digits near 0: 2ᵏ (exp r − 1) + (2ᵏ − 1)."""
    lane = x.type.lane
    k, r = reduced(b, clamped(b, x, *((-40.0, 710.0) if lane == "double" else (-20.0, 89.0))))
    # half of it, since 2ᵏ may be just too large
    half = power_of_two(b, k, 1)
    y = b.fma(half, expm1_near_zero(b, r), b.op("fsub", half, b.like(x, 0.5)))
    y = b.op("fadd", y, y)
    tiny = b.compare("olt", b.intrinsic("fabs", x), b.like(x, TINY[lane]))
    return b.select(tiny, x, y)


def sigmoid(b: Builder, x: Value) -> Value:
    """1 / (1 + e⁻ˣ) = 2ᵏ (1 + t) / ((1 − t) + 2ᵏ (1 + t))."""
    low, _ = _RANGE[x.type.lane]
    # beyond 40, where the result is 1, and where 2ᵏ is no normal number, it is nothing beside 1
    k, t = half_tangent(b, b.op("fmul", clamped(b, x, low, 40.0), b.like(x, 0.5)), LN2[x.type.lane])
    one = b.like(x, 1)
    least = b.like(x, -1000.0 if x.type.lane == "double" else -120.0)
    power = power_of_two(b, b.select(b.compare("olt", k, least), least, k))
    top = b.op("fadd", one, t)
    return scaled(b, b.op("fdiv", top, b.fma(power, top, b.op("fsub", one, t))), k)


def half_tangent(b: Builder, x: Value, ln2: Sequence[float]) -> tuple[Value, Value]:
    """K and t of e²ˣ = 2ᵏ (1 + t) / (1 − t), from x: for x = ½ k·ln 2 + r it is tanh r.

    For what divides by something with e²ˣ: t takes fewer terms than an exponential.

    Args:
        b: Where to write the code.
        x: The argument.
        ln2: Numbers whose sum is ln 2.
    """
    k, _ = rounded(b, x, 2 / math.log(2))
    r = x
    for part in ln2:
        r = b.fma(k, b.like(x, -part / 2), r)
    square = b.op("fmul", r, r)
    return k, b.fma(b.op("fmul", r, square), polynomial(b, square, _TANGENT[x.type.lane]), r)
