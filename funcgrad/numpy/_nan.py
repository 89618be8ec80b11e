"""Reductions that leave NaN out. What stands in a NaN's place has no part in the result: its gradient is zero."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from funcgrad.core.trace import Tracer
from funcgrad.core.types import Array, Axis, is_inexact
from funcgrad.numpy import _reductions as reductions
from funcgrad.numpy import _statistics as statistics
from funcgrad.numpy._arguments import given, no_out, reduced_axes, restore, traced
from funcgrad.numpy._creation import as_array, asarray
from funcgrad.numpy._reductions import filled
from funcgrad.ops.elementwise import isnan, logical_and, logical_not
from funcgrad.ops.pointwise import select

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["nanmax", "nanmean", "nanmin", "nanprod", "nanstd", "nansum", "nanvar"]


def _present(x: Array, where: Array = True) -> Array:
    """Where `x` takes part: not NaN, and `where` says so."""
    if not is_inexact(x.dtype):
        return where
    present = logical_not(isnan(x))
    return present if where is True else logical_and(present, asarray(where))


def nansum(
    a: Array,
    axis: Axis = None,
    dtype: DTypeLike | None = None,
    out: None = None,
    keepdims: bool = False,
    initial: Array | None = None,
    where: Array = True,
) -> Array:
    """The sum over axes of the elements that are not NaN. The arguments are those of `sum`.

    Args:
        a: The array.
        axis: The axis or axes that are summed over; all by default.
        dtype: The dtype to add up in, and of the result.
        out: Not supported.
        keepdims: True to keep the axes, with length 1.
        initial: A value to start from.
        where: Which elements take part.

    Examples:
        >>> fg.grad(fnp.nansum)(np.array([1.0, np.nan, 2.0]))
        array([1., 0., 1.])
    """
    no_out("nansum", out)
    if not traced(a, initial, where):
        return np.nansum(a, axis, dtype, None, keepdims, where=where, **given("initial", initial))
    x = as_array(a)
    x = filled(x, _present(x), 0)
    return reductions.sum(x, axis, dtype, None, keepdims, initial, where)


def nanprod(
    a: Array,
    axis: Axis = None,
    dtype: DTypeLike | None = None,
    out: None = None,
    keepdims: bool = False,
    initial: Array | None = None,
    where: Array = True,
) -> Array:
    """The product over axes of the elements that are not NaN. The arguments are those of `prod`.

    Args:
        a: The array.
        axis: The axis or axes that are multiplied over; all by default.
        dtype: The dtype to multiply in, and of the result.
        out: Not supported.
        keepdims: True to keep the axes, with length 1.
        initial: A value to start from.
        where: Which elements take part.

    Examples:
        >>> fg.grad(fnp.nanprod)(np.array([2.0, np.nan, 5.0]))
        array([5., 0., 2.])
    """
    no_out("nanprod", out)
    if not traced(a, initial, where):
        return np.nanprod(a, axis, dtype, None, keepdims, where=where, **given("initial", initial))
    x = as_array(a)
    x = filled(x, _present(x), 1)
    return reductions.prod(x, axis, dtype, None, keepdims, initial, where)


def nanmax(
    a: Array,
    axis: Axis = None,
    out: None = None,
    keepdims: bool = False,
    initial: Array | None = None,
    where: Array = True,
) -> Array:
    """The largest element over axes that is not NaN. Of only NaN it is NaN, with a gradient of zero.

    Args:
        a: The array.
        axis: The axis or axes that are searched; all by default.
        out: Not supported.
        keepdims: True to keep the axes, with length 1.
        initial: The result is at least this.
        where: Which elements take part.

    Examples:
        >>> fg.grad(fnp.nanmax)(np.array([1.0, np.nan, 2.0]))
        array([0., 0., 1.])
    """
    no_out("nanmax", out)
    if not traced(a, initial, where):
        return np.nanmax(a, axis, None, keepdims, where=where, **given("initial", initial))
    return _extremum(reductions.max, -np.inf, a, axis, keepdims, initial, where)


def nanmin(
    a: Array,
    axis: Axis = None,
    out: None = None,
    keepdims: bool = False,
    initial: Array | None = None,
    where: Array = True,
) -> Array:
    """The smallest element over axes that is not NaN. Of only NaN it is NaN, with a gradient of zero.

    Args:
        a: The array.
        axis: The axis or axes that are searched; all by default.
        out: Not supported.
        keepdims: True to keep the axes, with length 1.
        initial: The result is at most this.
        where: Which elements take part.

    Examples:
        >>> fg.grad(fnp.nanmin)(np.array([1.0, np.nan, 2.0]))
        array([1., 0., 0.])
    """
    no_out("nanmin", out)
    if not traced(a, initial, where):
        return np.nanmin(a, axis, None, keepdims, where=where, **given("initial", initial))
    return _extremum(reductions.min, np.inf, a, axis, keepdims, initial, where)


def _extremum(
    function: Callable[..., Array],
    neutral: float,
    a: Array,
    axis: Axis,
    keepdims: bool,
    initial: Array | None,
    where: Array,
) -> Array:
    x = as_array(a)
    if not is_inexact(x.dtype):
        return function(x, axis, None, keepdims, initial, where)
    present = _present(x)
    y = function(filled(x, present, neutral), axis, None, keepdims, initial, where)
    if initial is not None:
        return y
    nothing = logical_not(reductions.any(present, axis, keepdims=keepdims))
    _warn_if(nothing, "All-NaN slice encountered")
    return select(nothing, x.dtype.type(np.nan), y)


def _warn_if(condition: Array, message: str) -> None:
    if not isinstance(condition, Tracer) and np.any(condition):
        warnings.warn(message, RuntimeWarning, stacklevel=4)


def nanmean(
    a: Array,
    axis: Axis = None,
    dtype: DTypeLike | None = None,
    out: None = None,
    keepdims: bool = False,
    *,
    where: Array = True,
) -> Array:
    """The mean over axes of the elements that are not NaN. The arguments are those of `mean`.

    Args:
        a: The array.
        axis: The axis or axes that are averaged over; all by default.
        dtype: The dtype to compute in, and of the result.
        out: Not supported.
        keepdims: True to keep the axes, with length 1.
        where: Which elements take part.

    Examples:
        >>> fg.grad(fnp.nanmean)(np.array([1.0, np.nan, 2.0]))
        array([0.5, 0. , 0.5])
    """
    no_out("nanmean", out)
    if not traced(a, where):
        return np.nanmean(a, axis, dtype, None, keepdims, where=where)
    x = as_array(a)
    with np.errstate(invalid="ignore"):
        return statistics.mean(x, axis, dtype, None, keepdims, where=_present(x, where))


def nanvar(
    a: Array,
    axis: Axis = None,
    dtype: DTypeLike | None = None,
    out: None = None,
    ddof: float = 0,
    keepdims: bool = False,
    *,
    where: Array = True,
    mean: Array | None = None,
    correction: float | None = None,
) -> Array:
    """The variance over axes of the elements that are not NaN; NaN where `ddof` leaves none. See `var`.

    Args:
        a: The array.
        axis: The axis or axes that are folded; all by default.
        dtype: The dtype to compute in, and of the result.
        out: Not supported.
        ddof: The sum of squares is divided by n − ddof.
        keepdims: True to keep the axes, with length 1.
        where: Which elements take part.
        mean: The mean, if it is known, with the folded axes kept.
        correction: Another name of `ddof`.

    Examples:
        >>> fg.grad(fnp.nanvar)(np.array([1.0, np.nan, 3.0]))
        array([-1.,  0.,  1.])
    """
    no_out("nanvar", out)
    ddof = statistics.degrees_of_freedom(ddof, correction)
    if not traced(a, where, mean):
        return np.nanvar(a, axis, dtype, None, ddof, keepdims, where=where, **given("mean", mean))
    x = as_array(a)
    present = _present(x, where)
    with np.errstate(invalid="ignore", divide="ignore"):
        y = statistics.var(x, axis, dtype, None, ddof, keepdims, where=present, mean=mean)
    if present is True:
        return y
    axes = reduced_axes(axis, x)
    enough = restore(statistics.count_of(x, axes, present), x.shape, axes, keepdims) > ddof
    return select(enough, y, y.dtype.type(np.nan))


def nanstd(
    a: Array,
    axis: Axis = None,
    dtype: DTypeLike | None = None,
    out: None = None,
    ddof: float = 0,
    keepdims: bool = False,
    *,
    where: Array = True,
    mean: Array | None = None,
    correction: float | None = None,
) -> Array:
    """The standard deviation over axes of the elements that are not NaN. See `nanvar`.

    Args:
        a: The array.
        axis: The axis or axes that are folded; all by default.
        dtype: The dtype to compute in, and of the result.
        out: Not supported.
        ddof: The sum of squares is divided by n − ddof.
        keepdims: True to keep the axes, with length 1.
        where: Which elements take part.
        mean: The mean, if it is known, with the folded axes kept.
        correction: Another name of `ddof`.

    Examples:
        >>> fg.grad(fnp.nanstd)(np.array([1.0, np.nan, 3.0]))
        array([-0.5,  0. ,  0.5])
    """
    no_out("nanstd", out)
    ddof = statistics.degrees_of_freedom(ddof, correction)
    if not traced(a, where, mean):
        return np.nanstd(a, axis, dtype, None, ddof, keepdims, where=where, **given("mean", mean))
    return statistics.root_of_variance(nanvar(a, axis, dtype, None, ddof, keepdims, where=where, mean=mean))
