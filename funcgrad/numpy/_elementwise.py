"""Choices, rounding and the parts of complex numbers, element by element."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any

import numpy as np

from funcgrad.core.errors import ArgumentError, DTypeError
from funcgrad.core.trace import Tracer
from funcgrad.core.types import Array
from funcgrad.numpy._arguments import no_options, no_out
from funcgrad.numpy._creation import operand
from funcgrad.numpy._ufunc import applies, strong
from funcgrad.ops import elementwise as ew
from funcgrad.ops.array import TracedArray
from funcgrad.ops.flow import stop_gradient
from funcgrad.ops.pointwise import convert, select

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = [
    "angle",
    "around",
    "ceil",
    "clip",
    "conj",
    "conjugate",
    "copysign",
    "fix",
    "floor",
    "fmax",
    "fmin",
    "heaviside",
    "imag",
    "maximum",
    "minimum",
    "nan_to_num",
    "real",
    "rint",
    "round",
    "trunc",
    "where",
]

_BOOL = np.dtype(bool)


def where(condition: Array, x: Array | None = None, y: Array | None = None, /) -> Any:
    """`x` where the condition is true, else `y`; with one argument, the indices where it is true.

    An element that is not chosen has no part in the result: `where(x > 0, log(x), 0)` has derivative 0 at x = 0.

    Args:
        condition: Booleans; other numbers are true where they are not 0.
        x: The values where the condition is true.
        y: The values elsewhere. All three broadcast.

    Returns:
        The chosen values; or, with one argument, the same as `nonzero(condition)`.

    Raises:
        ArgumentError: Just one of `x` and `y` is given.

    Examples:
        >>> fnp.where([True, False], [1.0, 2.0], 0.0)
        array([1., 0.])
        >>> fg.grad(lambda x: fnp.where(x > 0, fnp.sqrt(x), 0.0))(0.0)
        array(0.)
    """
    if x is None and y is None:
        return np.nonzero(condition)
    if x is None or y is None:
        raise ArgumentError("where takes one argument or three; this call has two", "where(condition, x, y)")
    condition, x, y = operand(condition), operand(x), operand(y)
    if not (isinstance(x, Tracer) or isinstance(y, Tracer) or isinstance(condition, Tracer)):
        return np.where(condition, x, y)
    if getattr(condition, "dtype", None) is not _BOOL:
        condition = ew.not_equal(condition, 0)
    return select(condition, x, y)


@applies(ew.maximum)
def maximum(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The larger of two, NaN if either is NaN. Two equal ones share the cotangent, half each.

    Examples:
        >>> fnp.maximum(1.0, [0.0, 2.0])
        array([1., 2.])
    """


@applies(ew.minimum)
def minimum(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The smaller of two, NaN if either is NaN. Two equal ones share the cotangent, half each.

    Examples:
        >>> fnp.minimum(1.0, [0.0, 2.0])
        array([0., 1.])
    """


@applies(ew.fmax)
def fmax(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The larger of two, the number if one is NaN. Two equal ones share the cotangent.

    Examples:
        >>> fnp.fmax(np.nan, 2.0)
        np.float64(2.0)
    """


@applies(ew.fmin)
def fmin(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The smaller of two, the number if one is NaN. Two equal ones share the cotangent.

    Examples:
        >>> fnp.fmin(np.nan, 2.0)
        np.float64(2.0)
    """


def clip(
    a: Array,
    a_min: Array | None = None,
    a_max: Array | None = None,
    out: None = None,
    *,
    min: Array | None = None,
    max: Array | None = None,
    **options: Any,
) -> Array:
    """`a`, but not less than `a_min` and not more than `a_max`.

    The slope is 1 inside and 0 outside; at a bound the element and the bound share the cotangent, half each.

    Args:
        a: The array.
        a_min: The lower bound, or None. It broadcasts, like the upper one.
        a_max: The upper bound, or None. It wins where the bounds cross.
        out: Not supported.
        min: The same as `a_min`.
        max: The same as `a_max`.
        options: What NumPy's ufuncs take; refused for traced values, but for the defaults.

    Raises:
        ArgumentError: A bound is given by both its names.

    Examples:
        >>> fg.grad(lambda x: fnp.clip(x, 0.0, 1.0).sum())(np.array([-1.0, 0.0, 0.5, 2.0]))
        array([0. , 0.5, 1. , 0. ])
    """
    no_out("clip", out)
    if (min is not None and a_min is not None) or (max is not None and a_max is not None):
        raise ArgumentError("clip got a bound twice: min is a_min, and max is a_max", "clip(x, min=0.0, max=1.0)")
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    y = operand(a)
    if not any(isinstance(x, Tracer) for x in (y, low, high)):
        return np.clip(y, low, high, **options)
    no_options("clip", options)
    if low is not None:
        y = ew.maximum(y, operand(low))
    if high is not None:
        y = ew.minimum(y, operand(high))
    return y


def nan_to_num(
    x: Array, copy: bool = True, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Array:
    """`x` with numbers in place of NaN and infinities. The slope is 1 where `x` is kept and 0 where it is replaced.

    Args:
        x: The array.
        copy: False to write into `x`, which must then be a plain array.
        nan: What replaces NaN.
        posinf: What replaces infinity; by default the largest finite number of the dtype.
        neginf: What replaces negative infinity; by default the most negative finite number.

    Examples:
        >>> fnp.nan_to_num([1.0, np.nan, np.inf], posinf=9.0)
        array([1., 0., 9.])
    """
    x = operand(x)
    if not isinstance(x, Tracer):
        return np.nan_to_num(x, copy, nan, posinf, neginf)
    if ew.is_complex(x):
        parts = (nan_to_num(part, True, nan, posinf, neginf) for part in (ew.real(x), ew.imag(x)))
        re, im = parts
        return re + 1j * im
    if x.dtype.kind != "f":
        return strong(x)
    limits = np.finfo(x.dtype)
    high = float(limits.max) if posinf is None else posinf
    low = float(limits.min) if neginf is None else neginf
    y = select(ew.isnan(x), nan, x)
    y = select(ew.equal(x, np.inf), high, y)
    return convert(select(ew.equal(x, -np.inf), low, y), x.dtype)


@applies(ew.copysign)
def copysign(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`x1` with the sign of `x2`. The slope in `x2` is 0.

    Examples:
        >>> fnp.copysign(2.0, -3.0)
        np.float64(-2.0)
    """


@applies(ew.heaviside)
def heaviside(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """0 where `x1` is negative, 1 where it is positive, and `x2` where it is 0.

    The slope in `x1` is 0; that in `x2` is 1 where `x1` is 0.

    Examples:
        >>> fnp.heaviside([-1.0, 0.0, 1.0], 0.5)
        array([0. , 0.5, 1. ])
    """


@applies(ew.floor)
def floor(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The largest integer not above `x`. Piecewise constant: the derivative is 0.

    Examples:
        >>> fnp.floor(-1.5)
        np.float64(-2.0)
    """


@applies(ew.ceil)
def ceil(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The smallest integer not below `x`. Piecewise constant: the derivative is 0.

    Examples:
        >>> fnp.ceil(-1.5)
        np.float64(-1.0)
    """


@applies(ew.trunc)
def trunc(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The integer part of `x`. Piecewise constant: the derivative is 0.

    Examples:
        >>> fnp.trunc(-1.5)
        np.float64(-1.0)
    """


@applies(ew.rint)
def rint(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The nearest integer, the even one of two. Piecewise constant: the derivative is 0.

    Examples:
        >>> fnp.rint([0.5, 1.5])
        array([0., 2.])
    """


def fix(x: Array, out: None = None) -> Array:
    """The same as `trunc`: the integer part. Piecewise constant: the derivative is 0.

    Examples:
        >>> fnp.fix(-1.5)
        np.float64(-1.0)
    """
    return trunc(x, out)


def round(a: Array, decimals: int = 0, out: None = None) -> Array:
    """`a` rounded to `decimals` places, halves to even. Piecewise constant: the derivative is 0.

    Examples:
        >>> fnp.round(2.675, 1)
        np.float64(2.7)
    """
    no_out("round", out)
    a = stop_gradient(operand(a))
    if not isinstance(a, TracedArray):
        return np.round(a, decimals)
    if a.dtype.kind == "b" and decimals != 0:
        raise DTypeError("round: booleans have no decimals", "x.astype(float)")
    if a.dtype.kind in "iu" and decimals >= 0:
        return strong(a)
    if decimals == 0:
        return ew.rint(a)
    scale = 10.0 ** builtins.abs(decimals)
    y = ew.rint(a * scale) / scale if decimals > 0 else ew.rint(a / scale) * scale
    return convert(y, a.dtype)


def real(val: Array) -> Array:
    """The real part.

    Examples:
        >>> fnp.real(np.array([1 + 2j]))
        array([1.])
    """
    val = operand(val)
    if not isinstance(val, Tracer):
        return np.real(val)
    return ew.real(val) if ew.is_complex(val) else strong(val)


def imag(val: Array) -> Array:
    """The imaginary part; 0 for a real number.

    Examples:
        >>> fnp.imag(np.array([1 + 2j]))
        array([2.])
    """
    val = operand(val)
    if not isinstance(val, Tracer):
        return np.imag(val)
    return ew.imag(val) if ew.is_complex(val) else np.zeros(val.shape, val.dtype)


@applies(ew.conjugate)
def conjugate(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The complex conjugate.

    Examples:
        >>> fnp.conjugate(1 + 2j)
        np.complex128(1-2j)
    """


def angle(z: Array, deg: bool = False) -> Array:
    """The angle of a complex number, in (-π, π]; with `deg` in degrees.

    Examples:
        >>> fnp.angle(1j)
        np.float64(1.5707963267948966)
    """
    z = operand(z)
    if not isinstance(z, Tracer):
        return np.angle(z, deg)
    y = ew.arctan2(ew.imag(z), ew.real(z)) if ew.is_complex(z) else ew.arctan2(0, z)
    return ew.rad2deg(y) if deg else y


around = round
"""The same as `round`."""
conj = conjugate
"""The same as `conjugate`."""
