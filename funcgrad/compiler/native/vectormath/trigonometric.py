"""Sine and cosine: x = k·π/2 + r with |r| ≤ π/4, and the polynomial of the sine or of the cosine of r.

π/2 is subtracted in three parts, by multiplications whose sum is rounded once, which is exact enough up to |x| = 2²⁰.
If one of the lanes is larger, all of them go to the library of the C compiler, which knows π to a thousand digits.
The polynomials are those of fdlibm (Sun Microsystems, 1993, k_sin.c and k_cos.c).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from funcgrad.compiler.native.builder import I1, Builder, Value
from funcgrad.compiler.native.vectormath.exponential import polynomial

_PARTS = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591833e-33)
_SINE = (
    -1.66666666666666324348e-01, 8.33333333332248946124e-03, -1.98412698298579493134e-04,
    2.75573137070700676789e-06, -2.50507602534068634195e-08, 1.58969099521155010221e-10,
)  # fmt: skip
_COSINE = (
    4.16666666666666019037e-02, -1.38888888888741095749e-03, 2.48015872894767294178e-05,
    -2.75573143513906633035e-07, 2.08757232129817482790e-09, -1.13596475577881948265e-11,
)  # fmt: skip
_FAR = 2.0**20


def sin(b: Builder, x: Value) -> Value:
    """The sine."""
    return _in_double(b, x, "sin", 0)


def cos(b: Builder, x: Value) -> Value:
    """The cosine: the sine a quarter of a turn on."""
    return _in_double(b, x, "cos", 1)


def _in_double(b: Builder, x: Value, name: str, quarter: int) -> Value:
    if x.type.lane == "float":
        return b.cast("fptrunc", _in_double(b, b.cast("fpext", x, "double"), name, quarter), "float")
    far = b.compare("ogt", b.intrinsic("fabs", x), b.like(x, _FAR))
    if x.type.lanes > 1:
        far = b.call(f"llvm.vector.reduce.or.{far.type.suffix}", I1, far)
    near: Callable[[], list[Value]] = lambda: [_near(b, x, quarter)]
    return b.branch(far, lambda: [b.intrinsic(name, x)], near)[0]


def _near(b: Builder, x: Value, quarter: int) -> Value:
    k = b.intrinsic("rint", b.op("fmul", x, b.like(x, 2 / math.pi)))
    r = x
    for part in _PARTS:
        r = b.fma(k, b.like(x, -part), r)
    turn = b.cast("fptosi", k, "i64")
    if quarter:
        turn = b.op("add", turn, b.like(turn, quarter))
    z = b.op("fmul", r, r)
    sine = b.fma(b.op("fmul", z, r), polynomial(b, z, _SINE), r)
    half = b.op("fmul", z, b.like(x, 0.5))
    rest = b.op("fsub", b.like(x, 1), half)
    lost = b.op("fsub", b.op("fsub", b.like(x, 1), rest), half)
    cosine = b.op("fadd", rest, b.fma(b.op("fmul", z, z), polynomial(b, z, _COSINE), lost))
    odd = b.cast("trunc", turn, "i1")
    y = b.select(odd, cosine, sine)
    # bit 1 of the number of quarters is the sign
    sign = b.op("shl", b.op("and", turn, b.like(turn, 2)), b.like(turn, 62))
    y = b.cast("bitcast", b.op("xor", b.cast("bitcast", y, "i64"), sign), "double")
    if not quarter:
        y = b.select(b.compare("oeq", x, b.like(x, 0)), x, y)
    # an infinity goes the long way, a NaN comes here
    return b.select(b.compare("uno", x, x), x, y)
