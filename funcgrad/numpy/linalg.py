"""Linear algebra: `funcgrad.numpy.linalg` has the names and signatures of `numpy.linalg`.

Stacks of matrices take the last two axes as the matrix, and broadcast. A matrix that has no result (a singular one to
invert, an indefinite one to factorize) raises `LinAlgError`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.linalg import LinAlgError

from funcgrad.core.errors import ArgumentError, ShapeError, UnsupportedError
from funcgrad.core.types import Array, normalize_axes, normalize_axis
from funcgrad.numpy import _contraction, _diagonal
from funcgrad.numpy._arguments import restore, traced
from funcgrad.numpy._creation import asarray
from funcgrad.numpy._shape import matrix_transpose
from funcgrad.ops import det as determinants
from funcgrad.ops import linalg as ops
from funcgrad.ops.broadcast import Sum
from funcgrad.ops.elementwise import absolute, imag, is_complex, real, sqrt, square
from funcgrad.ops.pointwise import convert, select
from funcgrad.ops.reduce import Max, Min

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = [
    "LinAlgError",
    "cholesky",
    "det",
    "diagonal",
    "inv",
    "matmul",
    "matrix_norm",
    "matrix_transpose",
    "norm",
    "outer",
    "slogdet",
    "solve",
    "tensordot",
    "trace",
    "vecdot",
    "vector_norm",
]

Axes = tuple[int, ...]


class SlogdetResult(NamedTuple):
    """The result of `slogdet`: det = sign · exp(logabsdet)."""

    sign: Array
    logabsdet: Array


def inv(a: Array) -> Array:
    """The inverse of square matrices.

    Args:
        a: A matrix `(n, n)`, or a stack of them.

    Raises:
        LinAlgError: A matrix is singular.
        ShapeError: The matrices are not square.

    Examples:
        >>> fnp.linalg.inv(np.array([[2.0, 0.0], [0.0, 4.0]]))
        array([[0.5 , 0.  ],
               [0.  , 0.25]])
    """
    return ops.inverse(asarray(a))


def solve(a: Array, b: Array) -> Array:
    """The solution y of a @ y = b.

    Args:
        a: A square matrix `(n, n)`, or a stack of them.
        b: A vector `(n,)`, a matrix `(n, k)`, or a stack of matrices. With one axis it is a vector, else matrices.

    Raises:
        LinAlgError: A matrix is singular.
        ShapeError: The shapes do not fit.

    Examples:
        >>> a, b = np.array([[2.0, 0.0], [0.0, 4.0]]), np.array([1.0, 1.0])
        >>> fnp.linalg.solve(a, b)
        array([0.5 , 0.25])
        >>> fg.grad(lambda b: fnp.linalg.solve(a, b).sum())(b)
        array([0.5 , 0.25])
    """
    return ops.solve(asarray(a), asarray(b))


def det(a: Array) -> Array:
    """The determinant. Its derivatives of every order are right at singular matrices too.

    Args:
        a: A matrix `(n, n)`, or a stack of them.

    Raises:
        ShapeError: The matrices are not square.

    Examples:
        >>> fg.grad(fnp.linalg.det)(np.array([[1.0, 2.0], [2.0, 4.0]])).round(9)
        array([[ 4., -2.],
               [-2.,  1.]])
    """
    return determinants.det(asarray(a))


def slogdet(a: Array) -> SlogdetResult:
    """The sign of the determinant, and the logarithm of its absolute value, which does not overflow.

    At a singular matrix the logarithm is -inf, and its gradient is infinite.

    Args:
        a: A matrix `(n, n)`, or a stack of them.

    Returns:
        A named tuple with the fields `sign` and `logabsdet`.

    Raises:
        ShapeError: The matrices are not square.

    Examples:
        >>> fg.grad(lambda a: fnp.linalg.slogdet(a).logabsdet)(np.array([[2.0, 0.0], [0.0, 4.0]]))
        array([[0.5 , 0.  ],
               [0.  , 0.25]])
    """
    return SlogdetResult(*determinants.slogdet(asarray(a)))


def cholesky(a: Array, /, *, upper: bool = False) -> Array:
    """The lower triangular L with a = L Lᴴ, or with `upper` the upper triangular U with a = Uᴴ U.

    Only that triangle of `a` is read. The gradient is symmetric: that of a function of symmetric matrices.

    Args:
        a: A Hermitian positive definite matrix `(n, n)`, or a stack of them.
        upper: True for the upper factor.

    Raises:
        LinAlgError: A matrix is not positive definite.
        ShapeError: The matrices are not square.

    Examples:
        >>> fnp.linalg.cholesky(np.array([[4.0, 2.0], [2.0, 5.0]]))
        array([[2., 0.],
               [1., 2.]])
    """
    a = asarray(a)
    if not upper:
        return ops.cholesky(a)
    if len(a.shape) < 2:
        ops.check_square("cholesky", a)
    return ops.adjoint(ops.cholesky(ops.adjoint(a)))


def norm(x: Array, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Array:
    """The norm of vectors or of matrices. At zero its gradient is zero; equal largest elements share theirs.

    Args:
        x: The array.
        ord: For vectors inf, -inf, 0, or any number p, with 2 as the default. For matrices 1, -1, inf, -inf or
            "fro", the default; 2, -2 and "nuc" have no derivative here yet.
        axis: The axis of the vectors, or the two axes of the matrices. By default all of `x` is one vector or matrix.
        keepdims: True to keep the axes, with length 1.

    Raises:
        ArgumentError: There is no such norm.
        UnsupportedError: `ord` is 2, -2 or "nuc" for traced matrices.

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
        ord: "fro", 1, -1, inf or -inf; 2, -2 and "nuc" have no derivative here yet.

    Examples:
        >>> float(fnp.linalg.matrix_norm(np.array([[1.0, -2.0], [3.0, 4.0]]), ord=1))
        6.0
    """
    if not traced(x):
        return np.linalg.matrix_norm(x, keepdims=keepdims, ord=ord)
    return norm(x, ord, (-2, -1), keepdims)


def trace(x: Array, /, *, offset: int = 0, dtype: DTypeLike | None = None) -> Array:
    """The sum of a diagonal of the matrices in the last two axes.

    Examples:
        >>> fnp.linalg.trace(np.ones((3, 2, 2)))
        array([2., 2., 2.])
    """
    return _diagonal.trace(x, offset, -2, -1, dtype)


def diagonal(x: Array, /, *, offset: int = 0) -> Array:
    """A diagonal of the matrices in the last two axes.

    Examples:
        >>> fnp.linalg.diagonal(np.array([[[1.0, 2.0], [3.0, 4.0]]]))
        array([[1., 4.]])
    """
    return _diagonal.diagonal(x, offset, -2, -1)


def outer(x1: Array, x2: Array, /) -> Array:
    """The matrix of all products of an element of the vector `x1` with one of the vector `x2`.

    Examples:
        >>> fnp.linalg.outer(np.array([1.0, 2.0]), np.array([1.0, 10.0]))
        array([[ 1., 10.],
               [ 2., 20.]])
    """
    x1, x2 = asarray(x1), asarray(x2)
    if not len(x1.shape) == len(x2.shape) == 1:
        raise ShapeError(f"outer: shapes {x1.shape} and {x2.shape} are not those of vectors", "fnp.outer flattens")
    return _contraction.outer(x1, x2)


def matmul(x1: Array, x2: Array, /) -> Array:
    """The matrix product: `funcgrad.numpy.matmul`.

    Examples:
        >>> fnp.linalg.matmul(np.ones((2, 3)), np.ones(3))
        array([3., 3.])
    """
    return _contraction.matmul(x1, x2)


def vecdot(x1: Array, x2: Array, /, *, axis: int = -1) -> Array:
    """The sum of conj(x1) · x2 over `axis`: `funcgrad.numpy.vecdot`.

    Examples:
        >>> float(fnp.linalg.vecdot(np.array([1.0, 2.0]), np.array([3.0, 4.0])))
        11.0
    """
    return _contraction.vecdot(x1, x2, axis=axis)


def tensordot(x1: Array, x2: Array, /, *, axes: Any = 2) -> Array:
    """The products of two arrays, summed over pairs of axes: `funcgrad.numpy.tensordot`.

    Examples:
        >>> fnp.linalg.tensordot(np.ones((2, 3)), np.ones((3, 4)), axes=1).shape
        (2, 4)
    """
    return _contraction.tensordot(x1, x2, axes)


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
    size = absolute(x)
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
        raise UnsupportedError(
            f"norm: ord={ord!r} of matrices needs singular values, which have no derivative here yet",
            'norm(x, "fro"), or norm(stop_gradient(x), ...) if it may count as a constant',
        )
    if ord not in (1, -1, math.inf, -math.inf):
        raise ArgumentError(f"norm: matrices have no norm of order {ord!r}", 'one of "fro", 1, -1, inf, -inf')
    summed, compared = (row, column) if abs(ord) == 1 else (column, row)
    sums = Sum((summed,))(absolute(x))
    left = compared - (compared > summed)
    return _largest(sums, (left,)) if ord > 0 else Min((left,))(sums)
