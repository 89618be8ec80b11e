"""Comparisons, logic and tests, element by element: their derivative is zero wherever it exists."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from funcgrad.core.errors import DTypeError
from funcgrad.core.trace import Tracer, concrete
from funcgrad.core.types import Array, promote, type_of
from funcgrad.numpy._arguments import no_out
from funcgrad.numpy._creation import asarray, operand
from funcgrad.numpy._ufunc import applies
from funcgrad.ops import elementwise as ew
from funcgrad.ops.flow import stop_gradient
from funcgrad.ops.pointwise import convert

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = [
    "allclose",
    "array_equal",
    "bitwise_and",
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_not",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "equal",
    "greater",
    "greater_equal",
    "invert",
    "isclose",
    "isfinite",
    "isinf",
    "isnan",
    "isneginf",
    "isposinf",
    "left_shift",
    "less",
    "less_equal",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "not_equal",
    "right_shift",
    "signbit",
]


@applies(ew.equal)
def equal(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`x1 == x2`, by element.

    Examples:
        >>> fnp.equal([1, 2], 1)
        array([ True, False])
    """


@applies(ew.not_equal)
def not_equal(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`x1 != x2`, by element.

    Examples:
        >>> fnp.not_equal([1, 2], 1)
        array([False,  True])
    """


@applies(ew.less)
def less(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`x1 < x2`, by element.

    Examples:
        >>> fnp.less([1, 2], 2)
        array([ True, False])
    """


@applies(ew.less_equal)
def less_equal(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`x1 <= x2`, by element.

    Examples:
        >>> fnp.less_equal([1, 2], 1)
        array([ True, False])
    """


@applies(ew.greater)
def greater(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`x1 > x2`, by element.

    Examples:
        >>> fnp.greater([1, 2], 1)
        array([False,  True])
    """


@applies(ew.greater_equal)
def greater_equal(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`x1 >= x2`, by element.

    Examples:
        >>> fnp.greater_equal([1, 2], 2)
        array([False,  True])
    """


@applies(ew.logical_and)
def logical_and(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """Whether both are true, by element.

    Examples:
        >>> fnp.logical_and([True, True], [True, False])
        array([ True, False])
    """


@applies(ew.logical_or)
def logical_or(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """Whether at least one is true, by element.

    Examples:
        >>> fnp.logical_or([True, False], [False, False])
        array([ True, False])
    """


@applies(ew.logical_xor)
def logical_xor(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """Whether exactly one is true, by element.

    Examples:
        >>> fnp.logical_xor([True, True], [True, False])
        array([False,  True])
    """


@applies(ew.logical_not)
def logical_not(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """Whether `x` is false, by element.

    Examples:
        >>> fnp.logical_not([True, False])
        array([False,  True])
    """


@applies(ew.bitwise_and)
def bitwise_and(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`x1 & x2`, by element.

    Examples:
        >>> fnp.bitwise_and(6, 3)
        np.int64(2)
    """


@applies(ew.bitwise_or)
def bitwise_or(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`x1 | x2`, by element.

    Examples:
        >>> fnp.bitwise_or(6, 3)
        np.int64(7)
    """


@applies(ew.bitwise_xor)
def bitwise_xor(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`x1 ^ x2`, by element.

    Examples:
        >>> fnp.bitwise_xor(6, 3)
        np.int64(5)
    """


@applies(ew.bitwise_not)
def invert(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`~x`, by element.

    Examples:
        >>> fnp.invert(5)
        np.int64(-6)
    """


@applies(ew.left_shift)
def left_shift(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`x1 << x2`, by element.

    Examples:
        >>> fnp.left_shift(1, 4)
        np.int64(16)
    """


@applies(ew.right_shift)
def right_shift(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`x1 >> x2`, by element.

    Examples:
        >>> fnp.right_shift(16, 3)
        np.int64(2)
    """


@applies(ew.isnan)
def isnan(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """Whether `x` is NaN, by element.

    Examples:
        >>> fnp.isnan([1.0, np.nan])
        array([False,  True])
    """


@applies(ew.isinf)
def isinf(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """Whether `x` is infinite, by element.

    Examples:
        >>> fnp.isinf([1.0, -np.inf])
        array([False,  True])
    """


@applies(ew.isfinite)
def isfinite(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """Whether `x` is neither infinite nor NaN, by element.

    Examples:
        >>> fnp.isfinite([1.0, np.inf])
        array([ True, False])
    """


@applies(ew.signbit)
def signbit(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """Whether the sign of `x` is set, by element; that of -0.0 is.

    Examples:
        >>> fnp.signbit([1.0, -0.0])
        array([False,  True])
    """


def isposinf(x: Array, out: None = None) -> Array:
    """Whether `x` is infinity, by element.

    Examples:
        >>> fnp.isposinf([1.0, np.inf, -np.inf])
        array([False,  True, False])
    """
    no_out("isposinf", out)
    return ew.equal(_ordered(x, "isposinf"), np.inf)


def isneginf(x: Array, out: None = None) -> Array:
    """Whether `x` is negative infinity, by element.

    Examples:
        >>> fnp.isneginf([1.0, np.inf, -np.inf])
        array([False, False,  True])
    """
    no_out("isneginf", out)
    return ew.equal(_ordered(x, "isneginf"), -np.inf)


def _ordered(x: Array, name: str) -> Array:
    x = operand(x)
    if ew.is_complex(x):
        raise DTypeError(f"{name} is not defined for complex numbers, which have no order", f"{name}(x.real)")
    return x


def isclose(a: Array, b: Array, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Array:
    """Whether two numbers are close: `abs(a - b) <= atol + rtol * abs(b)`, by element.

    Args:
        a: One array.
        b: The other, by which the difference is measured.
        rtol: The relative tolerance.
        atol: The absolute tolerance.
        equal_nan: True if NaN is close to NaN.

    Examples:
        >>> fnp.isclose(1.0, [1.0 + 1e-9, 1.1])
        array([ True, False])
    """
    a, b = stop_gradient(operand(a)), stop_gradient(operand(b))
    if not (isinstance(a, Tracer) or isinstance(b, Tracer)):
        try:
            return np.isclose(a, b, rtol, atol, equal_nan)
        except (ValueError, TypeError) as error:
            return ew.less_equal.explain(error, (a, b))
    b = convert(b, promote(type_of(b), type_of(1.0)))
    near = ew.less_equal(ew.absolute(ew.subtract(a, b)), atol + rtol * ew.absolute(b))
    close = (near & ew.isfinite(b)) | ew.equal(a, b)
    return close | (ew.isnan(a) & ew.isnan(b)) if equal_nan else close


def allclose(a: Array, b: Array, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Array:
    """Whether all elements are close: see `isclose`. A bool, or a traced one where only types are known.

    Args:
        a: One array.
        b: The other, by which the difference is measured.
        rtol: The relative tolerance.
        atol: The absolute tolerance.
        equal_nan: True if NaN is close to NaN.

    Examples:
        >>> fnp.allclose([1.0, 2.0], [1.0, 2.0 + 1e-9])
        True
    """
    return _answer(isclose(a, b, rtol, atol, equal_nan).all())


def array_equal(a1: Array, a2: Array, equal_nan: bool = False) -> Array:
    """Whether two arrays have the same shape and the same elements; with `equal_nan` NaN equals NaN.

    A bool, or a traced one where only types are known.

    Examples:
        >>> fnp.array_equal([1, 2], [1, 2])
        True
    """
    a1, a2 = stop_gradient(asarray(a1)), stop_gradient(asarray(a2))
    if a1.shape != a2.shape:
        return False
    same = ew.equal(a1, a2)
    return _answer((same | (ew.not_equal(a1, a1) & ew.not_equal(a2, a2)) if equal_nan else same).all())


def _answer(y: Array) -> Array:
    return y if concrete(y) is None else bool(y)


bitwise_invert = invert
"""The same as `invert`."""
bitwise_not = invert
"""The same as `invert`."""
bitwise_left_shift = left_shift
"""The same as `left_shift`."""
bitwise_right_shift = right_shift
"""The same as `right_shift`."""
