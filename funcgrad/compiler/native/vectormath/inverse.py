"""Inverse trigonometric functions: odd polynomials on a small interval, and identities that lead there.

The polynomials are those with the smallest greatest error (Remez), 2⁻⁵⁵ of the result in double, 2⁻²⁶ in single.
"""

from __future__ import annotations

from funcgrad.compiler.native.machine.builder import Builder, Value
from funcgrad.compiler.native.vectormath.arithmetic import bits, polynomial

# arctan x = x + x³ P(x²) for |x| ≤ 1
_ARCTAN = {
    "double": (
        -0.33333333333331994, 0.1999999999977486, -0.14285714272356, 0.11111110705554499, -0.09090901657956159,
        0.07692217317892343, -0.06665892163976812, 0.05877475044009399, -0.05239888465285493, 0.046758964011765214,
        -0.04097066098150831, 0.034145247076657476, -0.025930705007133802, 0.017084042813861076,
        -0.00926528181629904, 0.0039003914432182265, -0.0011807487208368374, 0.00022684474496000598,
        -2.066191048211388e-05,
    ),
    "float": (
        -0.333331669, 0.199941366, -0.14214205, 0.106789286, -0.0758056271, 0.0435534646, -0.0165811996, 0.00297460838,
    ),
}  # fmt: skip
# arcsin x = x + x³ P(x²) for |x| ≤ ½
_ARCSIN = {
    "double": (
        0.16666666666665383, 0.07500000000343023, 0.04464285682350264, 0.03038195933037482, 0.022371753545044993,
        0.017359770773723405, 0.013884601759373331, 0.012173258053718678, 0.006510942996081529, 0.019573667919887277,
        -0.016293711115316297, 0.03195872465326715,
    ),
    "float": (0.166667539, 0.0749524244, 0.0454770333, 0.0241478792, 0.0422181303),
}  # fmt: skip
# π/2, and what is left of it when it is rounded
_HALF_PI = {
    "double": (1.5707963267948966, 6.123233995736766e-17),
    "float": (1.5707963705062866, -4.371138828673793e-08),
}
_HUGE = {"double": 2.0**1000, "float": 2.0**120}


def _odd(b: Builder, x: Value, square: Value, tail: dict[str, tuple[float, ...]]) -> Value:
    """What comes on top of x in an odd polynomial."""
    return b.op("fmul", b.op("fmul", x, square), polynomial(b, square, tail[x.type.lane]))


def arctan(b: Builder, x: Value) -> Value:
    """The arc tangent; for |x| > 1 it is π/2 less that of 1/|x|."""
    a = b.intrinsic("fabs", x)
    beyond = b.compare("ogt", a, b.like(x, 1))
    t = b.select(beyond, b.op("fdiv", b.like(x, -1), a), a)
    high, low = _HALF_PI[x.type.lane]
    zero = b.like(x, 0)
    tail = b.op("fadd", b.select(beyond, b.like(x, low), zero), _odd(b, t, b.op("fmul", t, t), _ARCTAN))
    y = b.op("fadd", b.select(beyond, b.like(x, high), zero), b.op("fadd", t, tail))
    return b.intrinsic("copysign", y, x)


def arctan2(b: Builder, y: Value, x: Value) -> Value:
    """The angle of the point (x, y): that of a point between 0 and π/4, turned and mirrored."""
    lane = x.type.lane
    across, up = b.intrinsic("fabs", x), b.intrinsic("fabs", y)
    steep = b.compare("ogt", up, across)
    small, large = b.select(steep, across, up), b.select(steep, up, across)
    t = b.op("fdiv", small, large)
    # 0/0 is a direction here, and so is ∞/∞
    same = b.compare("oeq", small, large)
    t = b.select(same, b.select(b.compare("oeq", large, b.like(x, 0)), b.like(x, 0), b.like(x, 1)), t)
    left = bits(b, x)
    left = b.compare("slt", left, b.like(left, 0))
    # the angle is quarter + t or quarter − t, for a quarter of 0, π/2 or π
    high, low = (b.select(steep, b.like(x, p), b.select(left, b.like(x, 2 * p), b.like(x, 0))) for p in _HALF_PI[lane])
    back = b.op("xor", steep, left)
    t = b.select(back, b.negative(t), t)
    tail = b.op("fadd", low, _odd(b, t, b.op("fmul", t, t), _ARCTAN))
    z = b.op("fadd", high, b.op("fadd", t, tail))
    z = b.intrinsic("copysign", z, y)
    return b.select(b.compare("uno", x, y), b.op("fadd", x, y), z)


def arcsin(b: Builder, x: Value) -> Value:
    """The arc sine; for |x| > ½ it is π/2 − 2 arcsin √((1 − |x|)/2)."""
    a = b.intrinsic("fabs", x)
    beyond, t, tail = _to_small(b, a)
    high, low = _HALF_PI[x.type.lane]
    two = b.like(x, -2)
    far = b.op("fadd", b.like(x, high), b.fma(two, t, b.fma(two, tail, b.like(x, low))))
    return b.intrinsic("copysign", b.select(beyond, far, b.op("fadd", t, tail)), x)


def arccos(b: Builder, x: Value) -> Value:
    """The arc cosine: π/2 − arcsin x; for x > ½ it is 2 arcsin √((1 − x)/2), and for x < −½ that of −x from π."""
    a = b.intrinsic("fabs", x)
    beyond, t, tail = _to_small(b, a)
    high, low = (b.like(x, part) for part in _HALF_PI[x.type.lane])
    # twice for |x| > ½
    t = b.select(beyond, b.op("fadd", t, t), b.negative(t))
    tail = b.select(beyond, b.op("fadd", tail, tail), b.negative(tail))
    # for negative x: what is subtracted from π, or added to π/2
    left = b.compare("olt", x, b.like(x, 0))
    t, tail = (b.select(left, b.negative(v), v) for v in (t, tail))
    zero = b.like(x, 0)
    right = b.select(beyond, zero, high)
    rest = b.select(beyond, zero, low)
    full = b.op("and", beyond, left)
    right = b.select(full, b.op("fadd", high, high), right)
    rest = b.select(full, b.op("fadd", low, low), rest)
    return b.op("fadd", right, b.op("fadd", t, b.op("fadd", tail, rest)))


def _to_small(b: Builder, a: Value) -> tuple[Value, Value, Value]:
    """Whether a > ½, and the arc sine of a, or of √((1 − a)/2) for such a, in two parts."""
    beyond = b.compare("ogt", a, b.like(a, 0.5))
    half = b.fma(a, b.like(a, -0.5), b.like(a, 0.5))
    square = b.select(beyond, half, b.op("fmul", a, a))
    t = b.select(beyond, b.intrinsic("sqrt", half), a)
    return beyond, t, _odd(b, t, square, _ARCSIN)
