"""Norms of vectors and matrices, and the condition number that follows from them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funcgrad.core.errors import ArgumentError
from funcgrad.core.types import Array, normalize_axes, normalize_axis
from funcgrad.numpy._arguments import restore, traced
from funcgrad.numpy._creation import asarray
from funcgrad.ops.broadcast import Sum
from funcgrad.ops.det import inverse_transposed
from funcgrad.ops.elementwise import absolute, imag, is_complex, isnan, real, sqrt, square
from funcgrad.ops.linalg import check_square, matrix_transpose
from funcgrad.ops.pointwise import convert, select
from funcgrad.ops.reduce import Max, Min
from funcgrad.ops.shape import transpose
from funcgrad.ops.spectral import svdvals

__all__ = ["cond", "matrix_norm", "norm", "vector_norm"]

Axes = tuple[int, ...]


def norm(x: Array, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Array:
    """The norm of vectors or of matrices. At zero its gradient is zero; equal largest elements share theirs.

    The p-norm with 1 < p < 2 has an infinite second derivative where an element is zero (for complex elements: NaN).

    Args:
        x: The array.
        ord: For vectors inf, -inf, 0, or any number p, with 2 as the default. For matrices 1, -1, inf, -inf, "fro",
            the default, or of the singular values the largest (2), the smallest (-2) or the sum ("nuc").
        axis: The axis of the vectors, or the two axes of the matrices. By default all of `x` is one vector or matrix.
        keepdims: True to keep the axes, with length 1.

    Raises:
        ArgumentError: There is no such norm.

    Examples:
        >>> fg.grad(fnp.linalg.norm)(np.array([3.0, 4.0]))
        array([0.6, 0.8])
        >>> fg.grad(fnp.linalg.norm)(np.zeros(2))
        array([0., 0.])
    """
    if not traced(x):
        return np.linalg.norm(x, ord, axis, keepdims)
    x = _inexact(x)
    if axis is None:
        axes = tuple(range(x.ndim))
        flat = ord is None or (ord in ("f", "fro") and x.ndim == 2) or (ord == 2 and x.ndim == 1)
        if flat:
            return restore(_vector_norm(x, 2, axes), x.shape, axes, keepdims)
    else:
        axes = tuple(normalize_axis(i, x.ndim) for i in (axis if isinstance(axis, tuple) else (axis,)))
    if len(axes) == 1:
        return restore(_vector_norm(x, 2 if ord is None else ord, axes), x.shape, axes, keepdims)
    if len(axes) == 2:
        return restore(_matrix_norm(x, "fro" if ord is None else ord, axes), x.shape, axes, keepdims)
    raise ArgumentError(
        f"norm: ord={ord!r} of {len(axes)} axes, but a vector has one axis and a matrix two",
        "name the axes with axis=..., or leave ord away for the square root of the sum of squares",
    )


def vector_norm(x: Array, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Array:
    """The norm of vectors that extend over one axis, several, or all.

    Args:
        x: The array.
        axis: The axis or axes of the vectors; all by default.
        keepdims: True to keep the axes, with length 1.
        ord: inf, -inf, 0, or any number p.

    Examples:
        >>> fnp.linalg.vector_norm(np.array([[3.0, 4.0], [6.0, 8.0]]), axis=1)
        array([ 5., 10.])
    """
    if not traced(x):
        return np.linalg.vector_norm(x, axis=axis, keepdims=keepdims, ord=ord)
    x = _inexact(x)
    axes = normalize_axes(axis, x.ndim)
    return restore(_vector_norm(x, ord, axes), x.shape, axes, keepdims)


def matrix_norm(x: Array, /, *, keepdims: bool = False, ord: Any = "fro") -> Array:
    """The norm of the matrices in the last two axes.

    Args:
        x: A matrix, or a stack of them.
        keepdims: True to keep the axes, with length 1.
        ord: "fro", 1, -1, inf, -inf, 2, -2 or "nuc", as in `norm`.

    Examples:
        >>> float(fnp.linalg.matrix_norm(np.array([[1.0, -2.0], [3.0, 4.0]]), ord=1))
        6.0
    """
    if not traced(x):
        return np.linalg.matrix_norm(x, keepdims=keepdims, ord=ord)
    return norm(x, ord, (-2, -1), keepdims)


def cond(x: Array, p: Any = None) -> Array:
    """The condition number norm(x, p) · norm(inv(x), p): how much solving with `x` magnifies errors; inf if singular.

    Args:
        x: A matrix, or a stack of them; square unless `p` is None, 2 or -2.
        p: The norm: None or 2 for the largest singular value over the smallest, -2 for its inverse, or 1, -1, inf,
            -inf, "fro", "nuc".

    Raises:
        ShapeError: The matrices are not square.
        LinAlgError: The matrices are empty.

    Examples:
        >>> float(fnp.linalg.cond(np.array([[4.0, 0.0], [0.0, 2.0]])))
        2.0
        >>> fg.grad(fnp.linalg.cond)(np.array([[4.0, 0.0], [0.0, 2.0]]))
        array([[ 0.5,  0. ],
               [ 0. , -1. ]])
    """
    if not traced(x):
        return np.linalg.cond(x, p)
    x = _inexact(x)
    if 0 in x.shape[-2:]:
        raise np.linalg.LinAlgError("cond is not defined on empty arrays")
    if p not in (None, 2, -2):
        check_square("cond", x)
    if p in (None, 2, -2, "nuc"):
        y = _cond_from(svdvals(x), p)
    else:
        y = matrix_norm(x, ord=p) * matrix_norm(matrix_transpose(inverse_transposed(x)), ord=p)
    known = Sum((x.ndim - 2, x.ndim - 1))(isnan(x)) == 0
    return select(isnan(y) & known, y.dtype.type(math.inf), y)


def _cond_from(s: Array, p: Any) -> Array:
    """The condition number from singular values: infinite where one that divides is zero."""
    axes = (len(s.shape) - 1,)
    zero = s == 0
    nonzero = select(zero, s.dtype.type(1), s)
    if p == -2:
        y, zero = s[..., -1] / nonzero[..., 0], zero[..., 0]
    elif p == "nuc":
        y, zero = Sum(axes)(s) * Sum(axes)(1 / nonzero), zero[..., -1]
    else:
        y, zero = s[..., 0] / nonzero[..., -1], zero[..., -1]
    return select(zero, y.dtype.type(math.inf), y)


def _inexact(x: Array) -> Array:
    x = asarray(x)
    return x if x.dtype.kind in "fc" else convert(x, np.dtype(float))


def _vector_norm(x: Array, ord: Any, axes: Axes) -> Array:
    if not isinstance(ord, int | float | np.number):
        raise ArgumentError(
            f"norm: vectors have no norm of order {ord!r}",
            'a number, inf or -inf; or axis=(i, j) for "fro" and "nuc" of matrices',
        )
    if ord == 2:
        # x · x and not |x|²: it has derivatives at zero
        total = Sum(axes)(square(real(x)) + square(imag(x)) if is_complex(x) else square(x))
        return _zero_at_zero(total, sqrt(total))
    if ord == 0:
        return Sum(axes)(convert(x != 0, real(x).dtype))
    size = absolute(x) if is_complex(x) or not 1 < ord < 2 else _absolute_with_slope(x)
    if math.isinf(ord):
        return _largest(size, axes) if ord > 0 else Min(axes)(size)
    if ord == 1:
        return Sum(axes)(size)
    powers = size ** float(ord)
    if ord < 0:
        return Sum(axes)(powers) ** (1 / float(ord))
    if ord < 1:
        powers = _zero_at_zero(size, powers)
    total = Sum(axes)(powers)
    return _zero_at_zero(total, total ** (1 / float(ord)))


def _absolute_with_slope(x: Array) -> Array:
    """The absolute value, with slope 1 at 0, and not 0: there |x|^p has second derivative inf · slope² if p < 2."""
    return x * select(x < 0, x.dtype.type(-1), x.dtype.type(1))


def _zero_at_zero(x: Array, y: Array) -> Array:
    """`y`, which is 0 where `x` is: there as a constant, so that an infinite slope has no part in the gradient."""
    return select(x == 0, np.zeros((), y.dtype), y)


def _largest(size: Array, axes: Axes) -> Array:
    """The largest of sizes, 0 of none."""
    if any(size.shape[i] == 0 for i in axes):
        return Sum(axes)(size)
    return Max(axes)(size)


def _matrix_norm(x: Array, ord: Any, axes: Axes) -> Array:
    row, column = axes
    if row == column:
        raise ArgumentError(f"norm: axis={axes} names an axis twice", "a matrix has two axes")
    if ord in ("fro", "f"):
        return _vector_norm(x, 2, axes)
    if ord in (2, -2, "nuc"):
        return _spectral_norm(x, ord, axes)
    if ord not in (1, -1, math.inf, -math.inf):
        raise ArgumentError(
            f"norm: matrices have no norm of order {ord!r}", 'one of "fro", "nuc", 1, -1, 2, -2, inf, -inf'
        )
    summed, compared = (row, column) if abs(ord) == 1 else (column, row)
    sums = Sum((summed,))(absolute(x))
    left = compared - (compared > summed)
    return _largest(sums, (left,)) if ord > 0 else Min((left,))(sums)


def _spectral_norm(x: Array, ord: Any, axes: Axes) -> Array:
    others = tuple(i for i in range(x.ndim) if i not in axes)
    s = svdvals(transpose(x, (*others, *axes)))
    last = (len(others),)
    y = Sum(last)(s) if ord == "nuc" else _largest(s, last) if ord == 2 else Min(last)(s)
    return _zero_at_zero(y, y)
