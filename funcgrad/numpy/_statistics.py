"""Statistics: mean, variance, standard deviation, averages with weights, median and quantiles.

The variance is computed in two passes, as NumPy does. Without a traced argument all are NumPy's own functions.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from funcgrad.core.errors import ArgumentError, ShapeError, UnsupportedError
from funcgrad.core.trace import Tracer, concrete
from funcgrad.core.types import Array, Axis, DType, is_inexact, normalize_axis
from funcgrad.numpy._arguments import given, no_out, reduced_axes, restore, traced
from funcgrad.numpy._creation import as_array, asarray
from funcgrad.numpy._reductions import filled, sum_over
from funcgrad.ops.array import as_dtype
from funcgrad.ops.broadcast import broadcast_to
from funcgrad.ops.elementwise import ceil, floor, imag, is_complex, isnan, maximum, real, rint, sqrt, square
from funcgrad.ops.index import getitem
from funcgrad.ops.order import Sort
from funcgrad.ops.pointwise import convert, select
from funcgrad.ops.reduce import folded, kept
from funcgrad.ops.shape import reshape, transpose

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["average", "mean", "median", "percentile", "quantile", "std", "var"]

_FLOAT64 = np.dtype(np.float64)
_FLOAT32 = np.dtype(np.float32)
_FLOAT16 = np.dtype(np.float16)


def mean(
    a: Array,
    axis: Axis = None,
    dtype: DTypeLike | None = None,
    out: None = None,
    keepdims: bool = False,
    *,
    where: Array = True,
) -> Array:
    """The mean over axes. Integers give float64; float16 is added up in float32.

    Args:
        a: The array.
        axis: The axis or axes that are averaged over; all by default.
        dtype: The dtype to compute in, and of the result.
        out: Not supported.
        keepdims: True to keep the axes, with length 1.
        where: Which elements take part; what stands in the other places has no part in the gradient.

    Examples:
        >>> fg.grad(fnp.mean)(np.array([1.0, 2.0, 3.0, 6.0]))
        array([0.25, 0.25, 0.25, 0.25])
    """
    no_out("mean", out)
    if not traced(a, where):
        return np.mean(a, axis, dtype, None, keepdims, where=where)
    x = as_array(a)
    axes = reduced_axes(axis, x)
    dtype = None if dtype is None else as_dtype(dtype)
    count = count_of(x, axes, where)
    _warn_where(count, 0, "Mean of empty slice")
    total = sum_over(axes)(convert(filled(x, where, 0), _adding_dtype(x.dtype, dtype)))
    y = _divide(total, count)
    if dtype is None and x.dtype == _FLOAT16:
        y = convert(y, _FLOAT16)
    return restore(y, x.shape, axes, keepdims)


def _adding_dtype(dtype: DType, asked: DType | None, half: DType = _FLOAT32) -> DType:
    if asked is not None:
        return asked
    return half if dtype == _FLOAT16 else dtype if is_inexact(dtype) else _FLOAT64


def count_of(x: Array, axes: tuple[int, ...], where: Array) -> Array:
    """How many elements take part in each mean: an int, or an array if `where` decides."""
    if where is True:
        return math.prod(x.shape[axis] for axis in axes)
    return sum_over(axes)(broadcast_to(asarray(where), x.shape))


def _divide(total: Array, count: Array) -> Array:
    """`total / count` in the dtype of `total`."""
    # NumPy divides by the count as an int64, which a float32 does not hold beyond 2**24
    if type(count) is int and count > 2**24:
        count = np.int64(count)
    return convert(total / count, total.dtype)


def _warn_where(count: Array, least: float, message: str) -> None:
    """Warn as NumPy does where no more than `least` elements take part."""
    if count <= least if type(count) is int else not isinstance(count, Tracer) and np.any(count <= least):
        warnings.warn(message, RuntimeWarning, stacklevel=3)


def var(
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
    """The variance over axes: the mean square distance from the mean, in two passes.

    Args:
        a: The array, real or complex.
        axis: The axis or axes that are folded; all by default.
        dtype: The dtype to compute in, and of the result.
        out: Not supported.
        ddof: The sum of squares is divided by n − ddof; 1 gives the unbiased estimate.
        keepdims: True to keep the axes, with length 1.
        where: Which elements take part.
        mean: The mean, if it is known, with the folded axes kept. It is not differentiated through `a` then.
        correction: Another name of `ddof`.

    Examples:
        >>> fg.grad(fnp.var)(np.array([1.0, 2.0, 6.0]))
        array([-1.33333333, -0.66666667,  2.        ])
    """
    no_out("var", out)
    ddof = degrees_of_freedom(ddof, correction)
    if not traced(a, where, mean):
        return np.var(a, axis, dtype, None, ddof, keepdims, where=where, **given("mean", mean))
    x = as_array(a)
    axes = reduced_axes(axis, x)
    column = kept(x.shape, axes)
    wide = _adding_dtype(x.dtype, None if dtype is None else as_dtype(dtype), half=_FLOAT16)
    count = count_of(x, axes, where)
    _warn_where(count, ddof, "Degrees of freedom <= 0 for slice")
    if mean is None:
        total = sum_over(axes)(convert(filled(x, where, 0), wide))
        mean = reshape(_divide(total, count), column)
    distance = filled(x - mean, where, 0)
    if is_complex(distance):
        squares = square(real(distance)) + square(imag(distance))
        wide = squares.dtype if dtype is None else wide
    else:
        squares = square(distance)
    total = sum_over(axes)(convert(squares, wide))
    free = max(count - ddof, 0) if type(count) is int else maximum(count - ddof, 0)
    return restore(_divide(total, free), x.shape, axes, keepdims)


def degrees_of_freedom(ddof: float, correction: float | None) -> float:
    """`ddof`, by whichever of its two names it was given."""
    if correction is None:
        return ddof
    if ddof != 0:
        raise ArgumentError(
            f"ddof={ddof} and correction={correction} are two names of the same argument", "give one of them"
        )
    return correction


def std(
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
    """The standard deviation over axes. Where it is zero (equal elements, a single one), so is its gradient.

    Args:
        a: The array, real or complex.
        axis: The axis or axes that are folded; all by default.
        dtype: The dtype to compute in, and of the result.
        out: Not supported.
        ddof: The sum of squares is divided by n − ddof; 1 gives the unbiased estimate.
        keepdims: True to keep the axes, with length 1.
        where: Which elements take part.
        mean: The mean, if it is known, with the folded axes kept. It is not differentiated through `a` then.
        correction: Another name of `ddof`.

    Examples:
        >>> fg.grad(fnp.std)(np.array([1.0, 3.0]))
        array([-0.5,  0.5])
    """
    no_out("std", out)
    ddof = degrees_of_freedom(ddof, correction)
    if not traced(a, where, mean):
        return np.std(a, axis, dtype, None, ddof, keepdims, where=where, **given("mean", mean))
    return root_of_variance(var(a, axis, dtype, None, ddof, keepdims, where=where, mean=mean))


def root_of_variance(variance: Array) -> Array:
    """The square root of a variance, with a finite slope at 0, where the gradient of the variance is zero.

    So the gradient is zero there. A `where` would do the same at twice the cost: its mask goes all the way back.
    """
    zero = variance == 0
    return sqrt(variance + zero) - zero


def average(
    a: Array, axis: Axis = None, weights: Array | None = None, returned: bool = False, *, keepdims: bool = False
) -> Any:
    """The mean with weights, which need not add up to 1. It is differentiable in both.

    Args:
        a: The array.
        axis: The axis or axes that are averaged over; all by default.
        weights: As many as `a` has elements along `axis`, or one for each element of `a`. Equal by default.
        returned: True to return the sum of the weights, too.
        keepdims: True to keep the axes, with length 1.

    Returns:
        The mean; with `returned` a pair of it and the sum of the weights.

    Raises:
        ZeroDivisionError: The weights add up to zero.

    Examples:
        >>> float(fnp.average(np.array([1.0, 4.0]), weights=np.array([2.0, 1.0])))
        2.0
        >>> fg.grad(lambda w: fnp.average(np.array([1.0, 4.0]), weights=w))(np.array([2.0, 1.0]))
        array([-0.33333333,  0.66666667])
    """
    if not traced(a, weights):
        return np.average(a, axis, weights, returned, keepdims=keepdims)  # type: ignore[call-overload]  # they tell True from False
    x = as_array(a)
    axes = reduced_axes(axis, x)
    if weights is None:
        y = mean(x, axes, keepdims=keepdims)
        total = np.full(y.shape, count_of(x, axes, True), y.dtype)
        return (y, total) if returned else y
    w = _aligned(asarray(weights), x, axis)
    dtype = np.result_type(x.dtype, w.dtype, *(() if is_inexact(x.dtype) else (_FLOAT64,)))
    x, w = convert(x, dtype), convert(w, dtype)
    total = restore(sum_over(axes)(w), x.shape, axes, keepdims)
    if np.any(concrete(total) == 0):
        raise ZeroDivisionError("average: the weights sum to zero, so they cannot be normalized")
    y = restore(sum_over(axes)(x * w), x.shape, axes, keepdims) / total
    return (y, total) if returned else y


def _aligned(w: Array, x: Array, axis: Axis) -> Array:
    """Weights with the shape of `x`."""
    if w.shape == x.shape:
        return w
    axes = () if axis is None else tuple(normalize_axis(i, len(x.shape)) for i in np.atleast_1d(axis))
    if axis is None or w.shape != tuple(x.shape[i] for i in axes):
        raise ShapeError(
            f"average of an array of shape {x.shape} over axis {axis} got weights of shape {w.shape}",
            "give one weight for each element along axis, or one for each element of the array",
        )
    w = transpose(w, tuple(sorted(range(len(axes)), key=axes.__getitem__)))
    return broadcast_to(reshape(w, tuple(n if i in axes else 1 for i, n in enumerate(x.shape))), x.shape)


def median(
    a: Array, axis: Axis = None, out: None = None, overwrite_input: bool = False, keepdims: bool = False
) -> Array:
    """The middle of the sorted elements, or the mean of the two in the middle, which share the gradient.

    Where an element is NaN, the result is NaN and so is its gradient.

    Args:
        a: The array.
        axis: The axis or axes that are folded; all by default.
        out: Not supported.
        overwrite_input: Ignored: a traced array is never overwritten.
        keepdims: True to keep the axes, with length 1.

    Examples:
        >>> fg.grad(fnp.median)(np.array([7.0, 1.0, 3.0, 4.0]))
        array([0. , 0. , 0.5, 0.5])
    """
    no_out("median", out)
    if not traced(a):
        return np.median(a, axis, None, overwrite_input, keepdims)
    x = as_array(a)
    axes = reduced_axes(axis, x)
    s = _sorted_in_front(x, axes)
    n = s.shape[0]
    if n == 0:
        return mean(x, axes, keepdims=keepdims)
    middle = mean(getitem(s, slice((n - 1) // 2, n // 2 + 1)), 0)
    return restore(_nan_where_missing(middle, s), x.shape, axes, keepdims)


def _sorted_in_front(x: Array, axes: tuple[int, ...]) -> Array:
    """The elements over `axes`, sorted, along a new first axis."""
    order = (*axes, *(i for i in range(len(x.shape)) if i not in axes))
    lines = (math.prod(x.shape[axis] for axis in axes), *folded(x.shape, axes))
    return Sort(0)(reshape(transpose(x, order), lines))


def _nan_where_missing(y: Array, s: Array) -> Array:
    """`y`, and NaN with a gradient of NaN where one of the sorted elements is NaN."""
    if not is_inexact(s.dtype):
        return y
    # NaN sorts to the end. The sum depends on all elements, so that NaN reaches all their gradients.
    missing = isnan(getitem(s, -1))
    with np.errstate(all="ignore"):
        undefined = sum_over((0,))(s) * s.dtype.type(np.nan)
    return select(missing, undefined, y)


# The place of quantile q among n sorted elements is n·q + α + q·(1 − α − β) − 1 (Hyndman and Fan 1996, equation 4).
_ALPHA_BETA = {
    "linear": (1.0, 1.0),
    "interpolated_inverted_cdf": (0.0, 1.0),
    "hazen": (0.5, 0.5),
    "weibull": (0.0, 0.0),
    "median_unbiased": (1 / 3, 1 / 3),
    "normal_unbiased": (3 / 8, 3 / 8),
}
_ROUNDED: dict[str, Callable[[Array], Array]] = {
    "lower": floor,
    "higher": ceil,
    "nearest": rint,
    "midpoint": lambda place: 0.5 * (floor(place) + ceil(place)),
}


def quantile(
    a: Array,
    q: Array,
    axis: Axis = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: None = None,
) -> Array:
    """The value below which the fraction `q` of the elements lies. It is differentiable in both.

    Where an element is NaN, the result is NaN and so is its gradient.

    Args:
        a: The array.
        q: The fraction, between 0 and 1, or an array of fractions.
        axis: The axis or axes that are folded; all by default.
        out: Not supported.
        overwrite_input: Ignored: a traced array is never overwritten.
        method: What to do between two elements: "linear", "lower", "higher", "nearest", "midpoint", "hazen",
            "weibull", "median_unbiased", "normal_unbiased" or "interpolated_inverted_cdf".
        keepdims: True to keep the axes, with length 1.
        weights: Not supported for traced values.

    Returns:
        The quantiles; the axes of `q` come first.

    Raises:
        ValueError: `q` lies outside of [0, 1], or `a` is empty.

    Examples:
        >>> fg.grad(lambda x: fnp.quantile(x, 0.25))(np.array([3.0, 1.0, 2.0]))
        array([0. , 0.5, 0.5])
    """
    no_out("quantile", out)
    if not traced(a, q, weights):
        return np.quantile(a, q, axis, None, overwrite_input, method, keepdims, **given("weights", weights))  # type: ignore[call-overload]  # NumPy checks `method`
    x = as_array(a)
    _check_quantile(x, q, method, weights)
    axes = reduced_axes(axis, x)
    s = _sorted_in_front(x, axes)
    # NumPy computes with a Python number in the dtype of the array
    q = asarray(q, x.dtype if type(q) in (int, float) and x.dtype.kind == "f" else None)
    n, rest = s.shape[0], len(s.shape) - 1
    place = _place(n, q, method)
    below = floor(place)
    low = getitem(s, convert(below, np.dtype(np.intp)))
    y = low
    if method not in ("lower", "higher", "nearest"):
        high = getitem(s, convert(_at_most(below + 1, n - 1), np.dtype(np.intp)))
        y = _between(low, high, reshape(place - below, (*q.shape, *(1,) * rest)))
    y = _nan_where_missing(y, s)
    return reshape(y, (*q.shape, *kept(x.shape, axes))) if keepdims else y


def _between(low: Array, high: Array, t: Array) -> Array:
    """The point at `t` of the way from `low` to `high`, measured from the nearer one, as NumPy does."""
    gap = high - low
    return select(t < 0.5, low + gap * t, high - gap * (1 - t))


def _at_most(x: Array, bound: int) -> Array:
    return select(x > bound, np.asarray(bound, x.dtype), x)


def _place(n: int, q: Array, method: str) -> Array:
    """Where quantile `q` of `n` sorted elements lies, counted from 0; between two elements if it is not whole."""
    if method in _ROUNDED:
        return _ROUNDED[method](q * (n - 1))
    alpha, beta = _ALPHA_BETA[method]
    place = q * (n - 1) if method == "linear" else n * q + (alpha + q * (1 - alpha - beta)) - 1
    place = select(place < 0, np.zeros((), place.dtype), place)
    return _at_most(place, n - 1)


def _check_quantile(x: Array, q: Array, method: str, weights: Any) -> None:
    if weights is not None:
        raise UnsupportedError(
            "quantile with weights has no implementation for traced values", "leave weights away, or repeat elements"
        )
    if method not in _ALPHA_BETA and method not in _ROUNDED:
        raise UnsupportedError(
            f"quantile has no method {method!r} for traced values",
            f"use one of {', '.join(map(repr, (*_ALPHA_BETA, *_ROUNDED)))}",
        )
    if is_complex(x):
        raise ArgumentError("quantile needs an order of the elements, which complex numbers lack", "use abs(x)")
    if 0 in x.shape:
        raise ArgumentError(f"quantile of no elements: the array has shape {x.shape}", "skip the empty case: if x.size")
    if not traced(q) and not np.all((np.asarray(q) >= 0) & (np.asarray(q) <= 1)):
        raise ArgumentError(f"quantiles must be in the range [0, 1], got {q}", "percentile(x, q) takes percents")


def percentile(
    a: Array,
    q: Array,
    axis: Axis = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: None = None,
) -> Array:
    """The value below which `q` percent of the elements lie: `quantile` of q / 100.

    Args:
        a: The array.
        q: The percentage, between 0 and 100, or an array of them.
        axis: The axis or axes that are folded; all by default.
        out: Not supported.
        overwrite_input: Ignored: a traced array is never overwritten.
        method: What to do between two elements; see `quantile`.
        keepdims: True to keep the axes, with length 1.
        weights: Not supported for traced values.

    Examples:
        >>> float(fnp.percentile(np.array([1.0, 2.0, 4.0]), 75))
        3.0
    """
    no_out("percentile", out)
    if not traced(a, q, weights):
        return np.percentile(a, q, axis, None, overwrite_input, method, keepdims, **given("weights", weights))  # type: ignore[call-overload]  # NumPy checks `method`
    x = as_array(a)
    q = asarray(q, x.dtype if type(q) in (int, float) and x.dtype.kind == "f" else None) / 100
    return quantile(x, q, axis, None, overwrite_input, method, keepdims, weights=weights)
