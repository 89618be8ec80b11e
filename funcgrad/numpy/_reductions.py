"""Reductions: sum, prod, max, min, any, all, where the largest stands, and counting.

All take an axis, several, or None for all axes. Without a traced argument they are NumPy's own functions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from funcgrad.core.errors import ArgumentError
from funcgrad.core.primitive import Primitive
from funcgrad.core.trace import Tracer
from funcgrad.core.types import Array, Axis
from funcgrad.numpy._arguments import given, no_out, reduced_axes, restore, traced
from funcgrad.numpy._creation import as_array, asarray
from funcgrad.ops.array import as_dtype
from funcgrad.ops.broadcast import Sum, broadcast_to
from funcgrad.ops.elementwise import maximum, minimum, not_equal
from funcgrad.ops.pointwise import convert, select
from funcgrad.ops.reduce import AllTrue, AnyTrue, ArgMax, ArgMin, Max, Min, Prod, folded

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = [
    "all",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "count_nonzero",
    "max",
    "min",
    "prod",
    "ptp",
    "sum",
]


# Making a primitive costs about as much as applying it to a small array.
sum_over = functools.cache(Sum)
_prod_over = functools.cache(Prod)
_max_over = functools.cache(Max)
_min_over = functools.cache(Min)


def sum(
    a: Array,
    axis: Axis = None,
    dtype: DTypeLike | None = None,
    out: None = None,
    keepdims: bool = False,
    initial: Array | None = None,
    where: Array = True,
) -> Array:
    """The sum over axes.

    Args:
        a: The array.
        axis: The axis or axes that are summed over; all by default.
        dtype: The dtype to add up in, and of the result.
        out: Not supported.
        keepdims: True to keep the axes, with length 1.
        initial: A value to start from.
        where: Which elements take part; what stands in the other places has no part in the gradient.

    Examples:
        >>> fnp.sum(np.array([[1.0, 2.0], [3.0, 4.0]]), axis=0)
        array([4., 6.])
        >>> fg.grad(fnp.sum)(np.array([1.0, 2.0]))
        array([1., 1.])
    """
    no_out("sum", out)
    if not traced(a, initial, where):
        return np.sum(a, axis, dtype, None, keepdims, where=where, **given("initial", initial))
    x = as_array(a)
    axes = reduced_axes(axis, x)
    x = filled(x, where, 0)
    y = sum_over(axes)(x if dtype is None else convert(x, as_dtype(dtype)))
    if initial is not None:
        y = y + asarray(initial, y.dtype)
    return restore(y, x.shape, axes, keepdims)


def prod(
    a: Array,
    axis: Axis = None,
    dtype: DTypeLike | None = None,
    out: None = None,
    keepdims: bool = False,
    initial: Array | None = None,
    where: Array = True,
) -> Array:
    """The product over axes. The gradient does not divide: it is right where elements are zero, at every order.

    Args:
        a: The array.
        axis: The axis or axes that are multiplied over; all by default.
        dtype: The dtype to multiply in, and of the result.
        out: Not supported.
        keepdims: True to keep the axes, with length 1.
        initial: A value to start from.
        where: Which elements take part.

    Examples:
        >>> fg.grad(fnp.prod)(np.array([0.0, 2.0, 3.0]))
        array([6., 0., 0.])
    """
    no_out("prod", out)
    if not traced(a, initial, where):
        return np.prod(a, axis, dtype, None, keepdims, where=where, **given("initial", initial))
    x = as_array(a)
    axes = reduced_axes(axis, x)
    x = filled(x, where, 1)
    y = _prod_over(axes)(x if dtype is None else convert(x, as_dtype(dtype)))
    if initial is not None:
        y = y * asarray(initial, y.dtype)
    return restore(y, x.shape, axes, keepdims)


def max(
    a: Array,
    axis: Axis = None,
    out: None = None,
    keepdims: bool = False,
    initial: Array | None = None,
    where: Array = True,
) -> Array:
    """The largest element over axes. Equal ones share the gradient; where the result is NaN, all of it is NaN.

    Args:
        a: The array.
        axis: The axis or axes that are searched; all by default.
        out: Not supported.
        keepdims: True to keep the axes, with length 1.
        initial: The result is at least this; needed with `where` and for an empty array.
        where: Which elements take part.

    Raises:
        ValueError: There are no elements, or a `where` without `initial`.

    Examples:
        >>> fg.grad(fnp.max)(np.array([1.0, 3.0, 3.0, 2.0]))
        array([0. , 0.5, 0.5, 0. ])
    """
    no_out("max", out)
    if not traced(a, initial, where):
        return np.max(a, axis, None, keepdims, where=where, **given("initial", initial))
    return _extremum("max", _max_over, maximum, a, axis, keepdims, initial, where)


def min(
    a: Array,
    axis: Axis = None,
    out: None = None,
    keepdims: bool = False,
    initial: Array | None = None,
    where: Array = True,
) -> Array:
    """The smallest element over axes. Equal ones share the gradient; where the result is NaN, all of it is NaN.

    Args:
        a: The array.
        axis: The axis or axes that are searched; all by default.
        out: Not supported.
        keepdims: True to keep the axes, with length 1.
        initial: The result is at most this; needed with `where` and for an empty array.
        where: Which elements take part.

    Raises:
        ValueError: There are no elements, or a `where` without `initial`.

    Examples:
        >>> fg.grad(fnp.min)(np.array([3.0, 1.0, 2.0]))
        array([0., 1., 0.])
    """
    no_out("min", out)
    if not traced(a, initial, where):
        return np.min(a, axis, None, keepdims, where=where, **given("initial", initial))
    return _extremum("min", _min_over, minimum, a, axis, keepdims, initial, where)


def _extremum(
    name: str,
    over: Callable[[tuple[int, ...]], Primitive],
    of_two: Callable[..., Array],
    a: Array,
    axis: Axis,
    keepdims: bool,
    initial: Array | None,
    where: Array,
) -> Array:
    x = as_array(a)
    axes = reduced_axes(axis, x)
    if initial is None:
        if where is not True:
            raise ArgumentError(
                f"{name} with where= needs a value for the case that no element takes part",
                f"{name}(x, where=mask, initial={'-' if name == 'max' else ''}fnp.inf)",
            )
        return restore(over(axes)(x), x.shape, axes, keepdims)
    start = asarray(initial, x.dtype)
    x = filled(x, where, start)
    shape = folded(x.shape, axes)
    empty = 0 in x.shape and 0 not in shape
    y = broadcast_to(start, shape) if empty else of_two(over(axes)(x), start)
    return restore(y, x.shape, axes, keepdims)


def amax(
    a: Array,
    axis: Axis = None,
    out: None = None,
    keepdims: bool = False,
    initial: Array | None = None,
    where: Array = True,
) -> Array:
    """The same as `max`.

    Examples:
        >>> int(fnp.amax(np.array([1, 3, 2])))
        3
    """
    return max(a, axis, out, keepdims, initial, where)


def amin(
    a: Array,
    axis: Axis = None,
    out: None = None,
    keepdims: bool = False,
    initial: Array | None = None,
    where: Array = True,
) -> Array:
    """The same as `min`.

    Examples:
        >>> int(fnp.amin(np.array([1, 3, 2])))
        1
    """
    return min(a, axis, out, keepdims, initial, where)


def ptp(a: Array, axis: Axis = None, out: None = None, keepdims: bool = False) -> Array:
    """The largest element minus the smallest.

    Args:
        a: The array.
        axis: The axis or axes that are searched; all by default.
        out: Not supported.
        keepdims: True to keep the axes, with length 1.

    Examples:
        >>> fg.grad(fnp.ptp)(np.array([1.0, 4.0, 2.0]))
        array([-1.,  1.,  0.])
    """
    no_out("ptp", out)
    if not traced(a):
        return np.ptp(a, axis, None, keepdims)
    x = as_array(a)
    return max(x, axis, None, keepdims) - min(x, axis, None, keepdims)


def any(a: Array, axis: Axis = None, out: None = None, keepdims: bool = False, *, where: Array = True) -> Array:
    """Whether one of the elements over axes is true. Its derivative is zero.

    Args:
        a: The array; a number is true if it is not zero.
        axis: The axis or axes that are searched; all by default.
        out: Not supported.
        keepdims: True to keep the axes, with length 1.
        where: Which elements take part.

    Examples:
        >>> fnp.any(np.array([[True, False], [False, False]]), axis=1)
        array([ True, False])
    """
    no_out("any", out)
    if not traced(a, where):
        return np.any(a, axis, None, keepdims, where=where)
    x = as_array(a)
    axes = reduced_axes(axis, x)
    return restore(AnyTrue(axes)(filled(x, where, 0)), x.shape, axes, keepdims)


def all(a: Array, axis: Axis = None, out: None = None, keepdims: bool = False, *, where: Array = True) -> Array:
    """Whether all elements over axes are true. Its derivative is zero.

    Args:
        a: The array; a number is true if it is not zero.
        axis: The axis or axes that are searched; all by default.
        out: Not supported.
        keepdims: True to keep the axes, with length 1.
        where: Which elements take part.

    Examples:
        >>> fnp.all(np.array([[True, False], [True, True]]), axis=1)
        array([False,  True])
    """
    no_out("all", out)
    if not traced(a, where):
        return np.all(a, axis, None, keepdims, where=where)
    x = as_array(a)
    axes = reduced_axes(axis, x)
    return restore(AllTrue(axes)(filled(x, where, 1)), x.shape, axes, keepdims)


def argmax(a: Array, axis: int | None = None, out: None = None, *, keepdims: bool = False) -> Array:
    """The place of the first of the largest elements. It is piecewise constant: its derivative is zero.

    Args:
        a: The array.
        axis: The axis that is searched; by default all elements, in row-major order.
        out: Not supported.
        keepdims: True to keep the axis, with length 1.

    Raises:
        ValueError: There are no elements.

    Examples:
        >>> int(fnp.argmax(np.array([1.0, 3.0, 2.0])))
        1
    """
    no_out("argmax", out)
    if not traced(a):
        return np.argmax(a, axis, keepdims=keepdims)
    return _place(ArgMax, a, axis, keepdims)


def argmin(a: Array, axis: int | None = None, out: None = None, *, keepdims: bool = False) -> Array:
    """The place of the first of the smallest elements. It is piecewise constant: its derivative is zero.

    Args:
        a: The array.
        axis: The axis that is searched; by default all elements, in row-major order.
        out: Not supported.
        keepdims: True to keep the axis, with length 1.

    Raises:
        ValueError: There are no elements.

    Examples:
        >>> int(fnp.argmin(np.array([2.0, 3.0, 1.0])))
        2
    """
    no_out("argmin", out)
    if not traced(a):
        return np.argmin(a, axis, keepdims=keepdims)
    return _place(ArgMin, a, axis, keepdims)


def _place(primitive: Callable[[int | None], Primitive], a: Array, axis: int | None, keepdims: bool) -> Array:
    x = as_array(a)
    axes = reduced_axes(axis, x)
    one = None if axis is None or not axes else axes[0]
    return restore(primitive(one)(x), x.shape, axes, keepdims)


def count_nonzero(a: Array, axis: Axis = None, *, keepdims: bool = False) -> Array:
    """How many elements are not zero. Its derivative is zero.

    Args:
        a: The array.
        axis: The axis or axes that are counted over; all by default.
        keepdims: True to keep the axes, with length 1.

    Examples:
        >>> fnp.count_nonzero(np.array([[0, 1], [2, 3]]), axis=1)
        array([1, 2])
    """
    if not traced(a):
        return np.count_nonzero(a, axis, keepdims=keepdims)
    present = not_equal(as_array(a), 0)
    if not isinstance(present, Tracer):
        return np.count_nonzero(present, axis, keepdims=keepdims)
    return sum(present, axis, keepdims=keepdims)


def filled(x: Array, where: Array, fill: Any) -> Array:
    """`x` with `fill` in the places that do not take part. What stands there has no part in the gradient either."""
    if where is True:
        return x
    return select(broadcast_to(asarray(where), x.shape), x, convert(fill, x.dtype))
