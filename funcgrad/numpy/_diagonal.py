"""Diagonals and triangles of matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from funcgrad.core.errors import ArgumentError, ShapeError
from funcgrad.core.types import Array, normalize_axis
from funcgrad.numpy._arguments import no_out, traced
from funcgrad.numpy._creation import asarray
from funcgrad.ops import index as ops
from funcgrad.ops.array import as_dtype
from funcgrad.ops.broadcast import Sum
from funcgrad.ops.join import Pad
from funcgrad.ops.pointwise import convert, select

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["diag", "diagonal", "trace", "tri", "tril", "triu"]


def diagonal(a: Array, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Array:
    """The elements (i, i + offset) of the matrices that two axes span, along a new last axis.

    Args:
        a: An array with two axes or more.
        offset: How far above the main diagonal; negative for below.
        axis1: The axis of the rows.
        axis2: The axis of the columns.

    Examples:
        >>> fg.grad(lambda m: fnp.diagonal(m).sum())(np.ones((2, 2)))
        array([[1., 0.],
               [0., 1.]])
    """
    if not traced(a):
        return np.diagonal(a, offset, axis1, axis2)
    x = asarray(a)
    if x.ndim < 2:
        raise ShapeError(
            f"diagonal: an array of shape {x.shape} is not a matrix", "diag(v) is the matrix of a vector v"
        )
    axis1, axis2 = (normalize_axis(axis, x.ndim) for axis in (axis1, axis2))
    if axis1 == axis2:
        raise ArgumentError(f"diagonal: axis1 and axis2 are both {axis1}", "name two different axes")
    return ops.diagonal(x, offset, axis1, axis2)


def trace(
    a: Array, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: DTypeLike | None = None, out: None = None
) -> Array:
    """The sum of a diagonal.

    Args:
        a: An array with two axes or more.
        offset: How far above the main diagonal; negative for below.
        axis1: The axis of the rows.
        axis2: The axis of the columns.
        dtype: The dtype to add up in, and of the result.
        out: Not supported.

    Examples:
        >>> fg.grad(fnp.trace)(np.ones((2, 2)))
        array([[1., 0.],
               [0., 1.]])
    """
    no_out("trace", out)
    if not traced(a):
        return np.trace(a, offset, axis1, axis2, dtype)
    x = diagonal(a, offset, axis1, axis2)
    return Sum((x.ndim - 1,))(x if dtype is None else convert(x, as_dtype(dtype)))


def diag(v: Array, k: int = 0) -> Array:
    """The k-th diagonal of a matrix; or the matrix with the vector `v` on its k-th diagonal.

    Examples:
        >>> fnp.diag(np.array([1.0, 2.0]))
        array([[1., 0.],
               [0., 2.]])
    """
    if not traced(v):
        return np.diag(v, k)
    x = asarray(v)
    if x.ndim == 2:
        return ops.diagonal(x, k, 0, 1)
    if x.ndim != 1:
        raise ShapeError(
            f"diag: an array of shape {x.shape} is neither a vector nor a matrix",
            "diagonal(x, axis1=-2, axis2=-1) takes stacks of matrices",
        )
    n = x.shape[0] + abs(k)
    row = Pad(((max(k, 0), max(-k, 0)),))(x) if k else x
    return select(np.eye(n, n, k, bool), row, np.zeros((), x.dtype))


def tri(N: int, M: int | None = None, k: int = 0, dtype: DTypeLike = float) -> Array:
    """An N × M matrix of ones on and below the k-th diagonal, and zeros above: `numpy.tri`.

    Examples:
        >>> fnp.tri(2, 3)
        array([[1., 0., 0.],
               [1., 1., 0.]])
    """
    return np.tri(N, M, k, dtype)


def tril(m: Array, k: int = 0) -> Array:
    """The matrices `m` with zeros above their k-th diagonal.

    Examples:
        >>> fg.grad(lambda m: fnp.tril(m).sum())(np.ones((2, 2)))
        array([[1., 0.],
               [1., 1.]])
    """
    if not traced(m):
        return np.tril(m, k)
    x = asarray(m)
    return select(_lower("tril", x, k), x, np.zeros((), x.dtype))


def triu(m: Array, k: int = 0) -> Array:
    """The matrices `m` with zeros below their k-th diagonal.

    Examples:
        >>> fg.grad(lambda m: fnp.triu(m).sum())(np.ones((2, 2)))
        array([[1., 1.],
               [0., 1.]])
    """
    if not traced(m):
        return np.triu(m, k)
    x = asarray(m)
    return select(_lower("triu", x, k - 1), np.zeros((), x.dtype), x)


def _lower(name: str, x: Array, k: int) -> Array:
    if not x.shape:
        raise ShapeError(f"{name}: a scalar is not a matrix")
    return np.tri(x.shape[-2:][0], x.shape[-1], k, bool)
