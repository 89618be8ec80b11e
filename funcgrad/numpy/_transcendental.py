"""Exponentials, logarithms, trigonometric and hyperbolic functions, element by element."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from funcgrad.core.trace import Tracer
from funcgrad.core.types import Array, is_inexact
from funcgrad.numpy._creation import operand
from funcgrad.numpy._ufunc import applies, composed
from funcgrad.ops import elementwise as ew
from funcgrad.ops.pointwise import convert
from funcgrad.ops.special import Sinc

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = [
    "acos",
    "acosh",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cos",
    "cosh",
    "deg2rad",
    "degrees",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "logaddexp2",
    "rad2deg",
    "radians",
    "sin",
    "sinc",
    "sinh",
    "tan",
    "tanh",
]

_LN2 = math.log(2)


@applies(ew.exp)
def exp(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The exponential: e to the power `x`.

    Examples:
        >>> fnp.exp(1.0)
        np.float64(2.718281828459045)
    """


@applies(ew.exp2)
def exp2(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The power of two: 2 to the power `x`.

    Examples:
        >>> fnp.exp2(3.0)
        np.float64(8.0)
    """


@applies(ew.expm1)
def expm1(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`exp(x) - 1`, exact also where `x` is small.

    Examples:
        >>> fnp.expm1(1e-20)
        np.float64(1e-20)
    """


@applies(ew.log)
def log(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The natural logarithm. Its slope at 0 is infinite.

    Examples:
        >>> fg.grad(fnp.log)(4.0)
        array(0.25)
    """


@applies(ew.log2)
def log2(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The logarithm to base 2.

    Examples:
        >>> fnp.log2(8.0)
        np.float64(3.0)
    """


@applies(ew.log10)
def log10(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The logarithm to base 10.

    Examples:
        >>> fnp.log10(100.0)
        np.float64(2.0)
    """


@applies(ew.log1p)
def log1p(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`log(1 + x)`, exact also where `x` is small.

    Examples:
        >>> fnp.log1p(1e-20)
        np.float64(1e-20)
    """


@applies(ew.logaddexp)
def logaddexp(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`log(exp(x1) + exp(x2))` without overflow.

    The slopes add up to 1; they are 1/2 each for two equal arguments, infinite ones included.

    Examples:
        >>> fnp.logaddexp(1000.0, 1000.0)
        np.float64(1000.6931471805599)
    """


@composed
def logaddexp2(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`log2(2**x1 + 2**x2)` without overflow.

    Examples:
        >>> fnp.logaddexp2(3.0, 3.0)
        np.float64(4.0)
    """
    return ew.logaddexp(x1 * _LN2, x2 * _LN2) / _LN2


@applies(ew.sin)
def sin(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The sine of an angle in radians.

    Examples:
        >>> fg.grad(fnp.sin)(0.0)
        array(1.)
    """


@applies(ew.cos)
def cos(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The cosine of an angle in radians.

    Examples:
        >>> fnp.cos(np.pi)
        np.float64(-1.0)
    """


@applies(ew.tan)
def tan(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The tangent of an angle in radians.

    Examples:
        >>> fg.grad(fnp.tan)(0.0)
        array(1.)
    """


@applies(ew.arcsin)
def arcsin(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The angle in [-π/2, π/2] whose sine is `x`.

    Examples:
        >>> fnp.arcsin(1.0)
        np.float64(1.5707963267948966)
    """


@applies(ew.arccos)
def arccos(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The angle in [0, π] whose cosine is `x`.

    Examples:
        >>> fnp.arccos(1.0)
        np.float64(0.0)
    """


@applies(ew.arctan)
def arctan(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The angle in [-π/2, π/2] whose tangent is `x`.

    Examples:
        >>> fnp.arctan(np.inf)
        np.float64(1.5707963267948966)
    """


@applies(ew.arctan2)
def arctan2(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The angle in [-π, π] of the point with y = `x1` and x = `x2`. Both slopes at the origin are 0.

    Examples:
        >>> fnp.arctan2(0.0, -1.0)
        np.float64(3.141592653589793)
    """


@applies(ew.sinh)
def sinh(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The hyperbolic sine.

    Examples:
        >>> fg.grad(fnp.sinh)(0.0)
        array(1.)
    """


@applies(ew.cosh)
def cosh(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The hyperbolic cosine.

    Examples:
        >>> fnp.cosh(0.0)
        np.float64(1.0)
    """


@applies(ew.tanh)
def tanh(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The hyperbolic tangent.

    Examples:
        >>> fg.grad(fnp.tanh)(0.0)
        array(1.)
    """


@applies(ew.arcsinh)
def arcsinh(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The number whose hyperbolic sine is `x`.

    Examples:
        >>> fg.grad(fnp.arcsinh)(0.0)
        array(1.)
    """


@applies(ew.arccosh)
def arccosh(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The non-negative number whose hyperbolic cosine is `x`.

    Examples:
        >>> fnp.arccosh(1.0)
        np.float64(0.0)
    """


@applies(ew.arctanh)
def arctanh(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The number whose hyperbolic tangent is `x`.

    Examples:
        >>> fg.grad(fnp.arctanh)(0.0)
        array(1.)
    """


@applies(ew.deg2rad)
def deg2rad(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """An angle in degrees, in radians.

    Examples:
        >>> fnp.deg2rad(180.0)
        np.float64(3.141592653589793)
    """


@applies(ew.rad2deg)
def rad2deg(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """An angle in radians, in degrees.

    Examples:
        >>> fnp.rad2deg(np.pi)
        np.float64(180.0)
    """


def sinc(x: Array) -> Array:
    """`sin(πx) / (πx)`, and 1 at 0, where it is smooth.

    Examples:
        >>> fg.grad(fg.grad(fnp.sinc))(0.0)
        array(-3.28986813)
    """
    x = operand(x)
    if not isinstance(x, Tracer):
        return np.sinc(x)
    return Sinc()(convert(x, x.dtype if is_inexact(x.dtype) else np.dtype(float)))


acos = arccos
"""The same as `arccos`."""
acosh = arccosh
"""The same as `arccosh`."""
asin = arcsin
"""The same as `arcsin`."""
asinh = arcsinh
"""The same as `arcsinh`."""
atan = arctan
"""The same as `arctan`."""
atan2 = arctan2
"""The same as `arctan2`."""
atanh = arctanh
"""The same as `arctanh`."""
degrees = rad2deg
"""The same as `rad2deg`."""
radians = deg2rad
"""The same as `deg2rad`."""
