"""Arithmetic and powers, element by element.

A function that is one line of the elementwise table is declared, not written out: see `applies`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from funcgrad.core.types import Array
from funcgrad.numpy._ufunc import applies, composed
from funcgrad.ops import elementwise as ew

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = [
    "abs",
    "absolute",
    "add",
    "cbrt",
    "divide",
    "divmod",
    "fabs",
    "float_power",
    "floor_divide",
    "fmod",
    "hypot",
    "mod",
    "multiply",
    "negative",
    "positive",
    "pow",
    "power",
    "reciprocal",
    "remainder",
    "sign",
    "sqrt",
    "square",
    "subtract",
    "true_divide",
]


@applies(ew.add)
def add(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`x1 + x2`, by element.

    Examples:
        >>> fnp.add(1.0, 2.0)
        np.float64(3.0)
    """


@applies(ew.subtract)
def subtract(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`x1 - x2`, by element.

    Examples:
        >>> fnp.subtract(1.0, 2.0)
        np.float64(-1.0)
    """


@applies(ew.multiply)
def multiply(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`x1 * x2`, by element.

    Examples:
        >>> fnp.multiply(2.0, 3.0)
        np.float64(6.0)
    """


@applies(ew.divide)
def divide(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`x1 / x2`, by element.

    Examples:
        >>> fnp.divide(1, 2)
        np.float64(0.5)
    """


@applies(ew.floor_divide)
def floor_divide(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`x1 // x2`, by element: the quotient rounded down. Piecewise constant.

    Examples:
        >>> fnp.floor_divide(-7, 2)
        np.int64(-4)
    """


@applies(ew.remainder)
def remainder(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`x1 % x2`, by element: what is left of `x1`, with the sign of `x2`.

    The slopes are 1 and -floor(x1 / x2).

    Examples:
        >>> fnp.remainder(-5.5, 2.0)
        np.float64(0.5)
    """


@applies(ew.fmod)
def fmod(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """What division rounded toward zero leaves of `x1`, with the sign of `x1`.

    Examples:
        >>> fnp.fmod(-5.5, 2.0)
        np.float64(-1.5)
    """


@composed
def divmod(
    x1: Array, x2: Array, /, out: tuple[None, None] = (None, None), *, dtype: DTypeLike | None = None
) -> tuple[Array, Array]:
    """The pair `x1 // x2`, `x1 % x2`.

    Examples:
        >>> fnp.divmod(-7, 2)
        (np.int64(-4), np.int64(1))
    """
    return ew.floor_divide(x1, x2), ew.remainder(x1, x2)


@applies(ew.power)
def power(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`x1` to the power `x2`, by element.

    The slope in `x2` is NaN where `x1` is negative; both slopes of `0**0` are 0, and so is that of `0**x2` in `x2`.

    Examples:
        >>> fg.grad(lambda x: fnp.power(x, 3))(2.0)
        array(12.)
    """


@composed
def float_power(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`x1` to the power `x2`, in double precision at least.

    Examples:
        >>> fnp.float_power(2, -1)
        np.float64(0.5)
    """
    return ew.power(x1, x2)


@applies(ew.negative)
def negative(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`-x`, by element.

    Examples:
        >>> fnp.negative(2.0)
        np.float64(-2.0)
    """


@applies(ew.positive)
def positive(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`+x`, by element.

    Examples:
        >>> fnp.positive(2.0)
        np.float64(2.0)
    """


@applies(ew.absolute)
def absolute(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The absolute value. Its slope at 0 is 0, for complex `x` too.

    Examples:
        >>> fnp.absolute(-2.0)
        np.float64(2.0)
    """


@applies(ew.fabs)
def fabs(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The absolute value of a real number, as floating point. Its slope at 0 is 0.

    Examples:
        >>> fnp.fabs(-2)
        np.float64(2.0)
    """


@composed
def sign(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """-1, 0 or 1 by the sign of `x`, with derivative 0; for complex `x` the direction `x / abs(x)`, 0 at 0.

    Examples:
        >>> fnp.sign([-2.0, 0.0, 3.0])
        array([-1.,  0.,  1.])
    """
    return ew.direction(x) if ew.is_complex(x) else ew.sign(x)


@applies(ew.square)
def square(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`x * x`, by element.

    Examples:
        >>> fg.grad(fnp.square)(3.0)
        array(6.)
    """


@applies(ew.sqrt)
def sqrt(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The square root. Its slope at 0 is infinite.

    Examples:
        >>> fg.grad(fnp.sqrt)(4.0)
        array(0.25)
    """


@applies(ew.cbrt)
def cbrt(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """The cube root. Its slope at 0 is infinite.

    Examples:
        >>> fnp.cbrt(-8.0)
        np.float64(-2.0)
    """


@applies(ew.reciprocal)
def reciprocal(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`1 / x`, by element.

    Examples:
        >>> fnp.reciprocal(4.0)
        np.float64(0.25)
    """


@applies(ew.hypot)
def hypot(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
    """`sqrt(x1**2 + x2**2)` without overflow. Both slopes at (0, 0) are 0.

    Examples:
        >>> fnp.hypot(3.0, 4.0)
        np.float64(5.0)
    """


abs = absolute
"""The same as `absolute`."""
mod = remainder
"""The same as `remainder`."""
pow = power
"""The same as `power`."""
true_divide = divide
"""The same as `divide`."""
