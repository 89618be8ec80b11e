"""Exponentials and logarithms, and what is made of them, lane by lane and without branches.

exp: x = k·ln 2 + r with |r| ≤ ½ ln 2, and exp x = 2ᵏ exp r, where exp r is its Taylor polynomial: the first term left
out is below 2⁻⁵⁷ (2⁻²⁷ in single precision). log: x = 2ᵏ m with ½√2 ≤ m < √2, and log m = 2 artanh s with
s = (m − 1) / (m + 1), by the polynomial of P. T. P. Tang and the authors of fdlibm (Sun Microsystems, 1993, e_log.c).
"""

from __future__ import annotations

import math

from funcgrad.compiler.native.builder import Builder, Value

# the coefficients of log in s²
_LOG64 = (
    0.6666666666666735130, 0.3999999999940941908, 0.2857142874366239149, 0.2222219843214978396,
    0.1818357216161805012, 0.1531383769920937332, 0.1479819860511658591,
)  # fmt: skip
_LOG32 = (0.66666662693, 0.40000972152, 0.28498786688, 0.24279078841)
# ln 2 in two parts, of which the first has so few digits that k times it is exact
_LN2 = {
    "double": (6.93147180369123816490e-01, 1.90821492927058770002e-10),
    "float": (6.9313812256e-01, 9.0580006145e-06),
}
_DIGITS = {"double": 52, "float": 23}
_BIAS = {"double": 1023, "float": 127}
# beyond these, exp is 0 and infinite
_RANGE = {"double": (-746.0, 710.0), "float": (-104.0, 89.0)}


def polynomial(b: Builder, x: Value, coefficients: tuple[float, ...]) -> Value:
    """The polynomial c₀ + c₁ x + c₂ x² + … at x."""
    y = b.like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        y = b.fma(y, x, b.like(x, c))
    return y


def _power_of_two(b: Builder, k: Value, lane: str) -> Value:
    """2ᵏ for an integer exponent of a normal number."""
    bits = b.op("shl", b.op("add", k, b.like(k, _BIAS[lane])), b.like(k, _DIGITS[lane]))
    return b.cast("bitcast", bits, lane)


def _clamped(b: Builder, x: Value, low: float, high: float) -> Value:
    x = b.select(b.compare("olt", x, b.like(x, low)), b.like(x, low), x)
    return b.select(b.compare("ogt", x, b.like(x, high)), b.like(x, high), x)


def _reduced(b: Builder, x: Value) -> tuple[Value, Value]:
    """K and r of x = k·ln 2 + r."""
    k = b.intrinsic("rint", b.op("fmul", x, b.like(x, 1 / math.log(2))))
    high, low = _LN2[x.type.lane]
    r = b.fma(k, b.like(x, -high), x)
    return k, b.fma(k, b.like(x, -low), r)


def _expm1_near_zero(b: Builder, r: Value) -> Value:
    """The exponential of r, less 1, for |r| ≤ ½ ln 2."""
    terms = 13 if r.type.lane == "double" else 8
    tail = polynomial(b, r, tuple(1 / math.factorial(n) for n in range(2, terms + 1)))
    return b.fma(b.op("fmul", r, r), tail, r)


def _scaled(b: Builder, y: Value, k: Value) -> Value:
    """2ᵏ y, in two steps, since 2ᵏ itself may be no normal number."""
    lane = y.type.lane
    whole = b.cast("fptosi", k, f"i{y.type.bits}")
    half = b.op("ashr", whole, b.like(whole, 1))
    y = b.op("fmul", y, _power_of_two(b, half, lane))
    return b.op("fmul", y, _power_of_two(b, b.op("sub", whole, half), lane))


def _unless_nan(b: Builder, x: Value, y: Value) -> Value:
    return b.select(b.compare("uno", x, x), x, y)


def exp(b: Builder, x: Value) -> Value:
    """The exponential."""
    k, r = _reduced(b, _clamped(b, x, *_RANGE[x.type.lane]))
    y = b.op("fadd", _expm1_near_zero(b, r), b.like(x, 1))
    return _unless_nan(b, x, _scaled(b, y, k))


def exp2(b: Builder, x: Value) -> Value:
    """The power of 2."""
    low, high = (-1080.0, 1030.0) if x.type.lane == "double" else (-155.0, 130.0)
    z = _clamped(b, x, low, high)
    k = b.intrinsic("rint", z)
    r = b.op("fmul", b.op("fsub", z, k), b.like(x, math.log(2)))
    y = b.op("fadd", _expm1_near_zero(b, r), b.like(x, 1))
    return _unless_nan(b, x, _scaled(b, y, k))


def expm1(b: Builder, x: Value) -> Value:
    """eˣ − 1, without the loss of digits near 0: 2ᵏ (exp r − 1) + (2ᵏ − 1)."""
    lane = x.type.lane
    low, high = (-40.0, 710.0) if lane == "double" else (-20.0, 89.0)
    k, r = _reduced(b, _clamped(b, x, low, high))
    # half of it, since 2ᵏ may be just too large
    whole = b.cast("fptosi", k, f"i{x.type.bits}")
    half = _power_of_two(b, b.op("sub", whole, b.like(whole, 1)), lane)
    y = b.fma(half, _expm1_near_zero(b, r), b.op("fsub", half, b.like(x, 0.5)))
    y = b.op("fadd", y, y)
    # for k = 0 the sum with 0 would lose the sign of −0
    y = b.select(b.compare("oeq", x, b.like(x, 0)), x, y)
    return _unless_nan(b, x, y)


def tanh(b: Builder, x: Value) -> Value:
    """The hyperbolic tangent: with e = exp(2|x|) − 1 it is e / (e + 2)."""
    far = b.like(x, 22.0 if x.type.lane == "double" else 10.0)
    a = b.intrinsic("fabs", x)
    a = b.select(b.compare("olt", a, far), a, far)
    e = expm1(b, b.op("fadd", a, a))
    y = b.op("fdiv", e, b.op("fadd", e, b.like(x, 2)))
    return _unless_nan(b, x, b.intrinsic("copysign", y, x))


def sigmoid(b: Builder, x: Value) -> Value:
    """1 / (1 + e⁻ˣ), from the exponential that does not overflow."""
    e = exp(b, b.negative(b.intrinsic("fabs", x)))
    one = b.like(x, 1)
    top = b.select(b.compare("olt", x, b.like(x, 0)), e, one)
    return b.op("fdiv", top, b.op("fadd", one, e))


def log(b: Builder, x: Value) -> Value:
    """The natural logarithm."""
    lane = x.type.lane
    integer, digits = f"i{x.type.bits}", _DIGITS[lane]
    small = b.compare("olt", x, b.like(x, 2.0 ** (1 - _BIAS[lane])))
    z = b.select(small, b.op("fmul", x, b.like(x, 2.0 ** (digits + 2))), x)
    bits = b.cast("bitcast", z, integer)
    # the exponent of z / (½√2), rounded down, and z without it
    root = {"double": 0x3FE6A09E667F3BCD, "float": 0x3F3504F3}[lane]
    shifted = b.op("sub", bits, b.like(bits, root))
    exponent = b.op("ashr", shifted, b.like(bits, digits))
    m = b.cast("bitcast", b.op("sub", bits, b.op("shl", exponent, b.like(bits, digits))), lane)
    k = b.cast("sitofp", exponent, lane)
    k = b.select(small, b.op("fsub", k, b.like(x, digits + 2)), k)
    f = b.op("fsub", m, b.like(x, 1))
    s = b.op("fdiv", f, b.op("fadd", f, b.like(x, 2)))
    square = b.op("fmul", s, s)
    tail = b.op("fmul", square, polynomial(b, square, _LOG64 if lane == "double" else _LOG32))
    half = b.op("fmul", b.op("fmul", f, f), b.like(x, 0.5))
    high, low = _LN2[lane]
    # log m = f − (f²/2 − s (f²/2 + tail)), with the parts of k·ln 2 added to what they resemble
    y = b.fma(k, b.like(x, low), b.op("fmul", s, b.op("fadd", half, tail)))
    y = b.op("fsub", f, b.op("fsub", half, y))
    y = b.fma(k, b.like(x, high), y)
    y = b.select(b.compare("oeq", x, b.like(x, math.inf)), x, y)
    y = b.select(b.compare("oeq", x, b.like(x, 0)), b.like(x, -math.inf), y)
    return b.select(b.compare("ult", x, b.like(x, 0)), b.like(x, math.nan), y)


def log1p(b: Builder, x: Value) -> Value:
    """log(1 + x), with what the sum has lost given back (W. Kahan's correction): −((u − 1) − x) / u for u = 1 + x."""
    one = b.like(x, 1)
    u = b.op("fadd", one, x)
    lost = b.op("fdiv", b.op("fsub", b.op("fsub", u, one), x), u)
    ordinary = b.op(
        "and", b.compare("olt", b.intrinsic("fabs", x), b.like(x, math.inf)), b.compare("une", u, b.like(x, 0))
    )
    y = b.op("fsub", log(b, u), b.select(ordinary, lost, b.like(x, 0)))
    # keeps −0 and subnormal numbers
    return b.select(b.compare("oeq", u, one), x, y)


def logaddexp(b: Builder, x: Value, y: Value) -> Value:
    """log(eˣ + eʸ): the larger one, plus log1p of the exponential of the distance."""
    larger = b.select(b.compare("oge", x, y), x, y)
    distance = b.intrinsic("fabs", b.op("fsub", x, y))
    z = b.op("fadd", larger, log1p(b, exp(b, b.negative(distance))))
    z = b.select(b.compare("oeq", x, y), b.op("fadd", x, b.like(x, math.log(2))), z)
    return b.select(b.compare("uno", x, y), b.op("fadd", x, y), z)
