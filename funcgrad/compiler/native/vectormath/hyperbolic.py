"""Hyperbolic functions and their inverses, from exponentials and logarithms of |x|."""

from __future__ import annotations

import math

from funcgrad.compiler.native.machine.builder import Builder, Value
from funcgrad.compiler.native.vectormath.arithmetic import at_most
from funcgrad.compiler.native.vectormath.exponential import TINY, exp_near_zero, expm1_near_zero, half_tangent, reduced
from funcgrad.compiler.native.vectormath.logarithm import log1p
from funcgrad.compiler.native.vectormath.scaling import power_of_two, scaled

# where cosh is infinite
_FAR = {"double": 710.5, "float": 89.5}
# from here on, 1 + x² is x² but for rounding
_LARGE = {"double": 2.0**28, "float": 2.0**13}


def tanh(b: Builder, x: Value) -> Value:
    """The hyperbolic tangent: (e²ˣ − 1) / (e²ˣ + 1) = (2ᵏ − 1 + t (2ᵏ + 1)) / (2ᵏ + 1 + t (2ᵏ − 1))."""
    a = at_most(b, b.intrinsic("fabs", x), 22.0 if x.type.lane == "double" else 10.0)
    # one number: where k is large, an error of k·ln 2 is nothing in the result
    k, t = half_tangent(b, a, [math.log(2)])
    power = power_of_two(b, k)
    less, more = b.op("fsub", power, b.like(x, 1)), b.op("fadd", power, b.like(x, 1))
    return b.intrinsic("copysign", b.op("fdiv", b.fma(t, more, less), b.fma(t, less, more)), x)


def sinh(b: Builder, x: Value) -> Value:
    """The hyperbolic sine: with e = exp|x| − 1 it is (e + e / (e + 1)) / 2."""
    a = b.intrinsic("fabs", x)
    k, r = reduced(b, at_most(b, a, _FAR[x.type.lane]))
    # a quarter of e, since 2ᵏ may be too large
    power = power_of_two(b, k, 2)
    e = b.fma(power, expm1_near_zero(b, r), b.op("fsub", power, b.like(x, 0.25)))
    y = b.op("fadd", e, b.op("fdiv", e, b.fma(e, b.like(x, 4), b.like(x, 1))))
    y = b.intrinsic("copysign", b.op("fadd", y, y), x)
    return b.select(b.compare("olt", a, b.like(x, TINY[x.type.lane])), x, y)


def cosh(b: Builder, x: Value) -> Value:
    """The hyperbolic cosine: with e = exp|x| / 2 it is e + 1 / 4e."""
    k, r = reduced(b, at_most(b, b.intrinsic("fabs", x), _FAR[x.type.lane]))
    e = scaled(b, exp_near_zero(b, r), b.op("fsub", k, b.like(k, 1)))
    return b.op("fadd", e, b.op("fdiv", b.like(x, 0.25), e))


def arcsinh(b: Builder, x: Value) -> Value:
    """The inverse hyperbolic sine: log(a + √(a² + 1)) = log1p(a + a² / (1 + √(a² + 1))) for a = |x|."""
    a = b.intrinsic("fabs", x)
    one = b.like(x, 1)
    root = b.intrinsic("sqrt", b.fma(a, a, one))
    z = b.op("fadd", a, b.op("fdiv", b.op("fmul", a, a), b.op("fadd", one, root)))
    return b.intrinsic("copysign", _log1p_unless_large(b, a, z), x)


def arccosh(b: Builder, x: Value) -> Value:
    """The inverse hyperbolic cosine: log(x + √(x² − 1)) = log1p(t + √(2t + t²)) for t = x − 1."""
    t = b.op("fsub", x, b.like(x, 1))
    z = b.op("fadd", t, b.intrinsic("sqrt", b.fma(t, t, b.op("fadd", t, t))))
    y = _log1p_unless_large(b, x, z)
    return b.select(b.compare("olt", t, b.like(x, 0)), b.like(x, math.nan), y)


def arctanh(b: Builder, x: Value) -> Value:
    """The inverse hyperbolic tangent: log1p(2a / (1 − a)) / 2 for a = |x|."""
    a = b.intrinsic("fabs", x)
    z = b.op("fdiv", b.op("fadd", a, a), b.op("fsub", b.like(x, 1), a))
    return b.intrinsic("copysign", b.op("fmul", log1p(b, z), b.like(x, 0.5)), x)


def _log1p_unless_large(b: Builder, x: Value, z: Value) -> Value:
    """log1p(z), or log x + log 2 where x is so large that this is the same."""
    large = b.compare("oge", x, b.like(x, _LARGE[x.type.lane]))
    y = log1p(b, b.select(large, b.op("fsub", x, b.like(x, 1)), z))
    return b.op("fadd", y, b.select(large, b.like(x, math.log(2)), b.like(x, 0)))
