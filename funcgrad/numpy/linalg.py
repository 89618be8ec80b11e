"""Linear algebra: `funcgrad.numpy.linalg` has the names and signatures of `numpy.linalg`.

Stacks of matrices take the last two axes as the matrix, and broadcast. A matrix that has no result (a singular one to
invert, an indefinite one to factorize) raises `LinAlgError`.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.linalg import LinAlgError

from funcgrad.core.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.core.types import Array
from funcgrad.numpy import _contraction, _diagonal
from funcgrad.numpy._arguments import no_out, traced
from funcgrad.numpy._creation import asarray
from funcgrad.numpy._norms import cond, matrix_norm, norm, vector_norm
from funcgrad.numpy._shape import matrix_transpose
from funcgrad.numpy._spectral import eigh, eigvalsh, lstsq, matrix_rank, pinv, qr, svd, svdvals
from funcgrad.ops import det as determinants
from funcgrad.ops import linalg as ops
from funcgrad.ops.broadcast import broadcast_to

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = [
    "LinAlgError",
    "cholesky",
    "cond",
    "det",
    "diagonal",
    "eigh",
    "eigvalsh",
    "inv",
    "lstsq",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "multi_dot",
    "norm",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "tensordot",
    "trace",
    "vecdot",
    "vector_norm",
]


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


def matrix_power(a: Array, n: int) -> Array:
    """The product of `n` times the matrix `a`; for a negative `n` of its inverse.

    Args:
        a: A square matrix, or a stack of them.
        n: The exponent. The result takes about log₂ n products.

    Raises:
        DTypeError: `n` is not an integer.
        LinAlgError: `n` is negative and a matrix is singular.
        ShapeError: The matrices are not square.

    Examples:
        >>> fnp.linalg.matrix_power(np.array([[1.0, 1.0], [1.0, 0.0]]), 10)
        array([[89., 55.],
               [55., 34.]])
    """
    try:
        n = operator.index(n)
    except TypeError:
        raise DTypeError(f"matrix_power: the exponent {n!r} is not an integer", "matrix_power(a, 2)") from None
    plain = not traced(a)
    a = asarray(a)
    ops.check_square("matrix_power", a)
    if n < 0:
        a, n = inv(a), -n
    if plain:
        return np.linalg.matrix_power(a, n)
    if n == 0:
        return broadcast_to(np.eye(a.shape[-1], dtype=a.dtype), a.shape)
    square, y = a, None
    while n:
        n, odd = divmod(n, 2)
        if odd:
            y = square if y is None else y @ square
        if n:
            square = square @ square
    return y


def multi_dot(arrays: Sequence[Array], *, out: None = None) -> Array:
    """The product of several matrices, in the order that takes the fewest multiplications.

    Args:
        arrays: Two matrices or more. The first may be a vector, as a row, and the last, as a column.
        out: Only None.

    Raises:
        ArgumentError: There are fewer than two arrays.
        ShapeError: The shapes do not fit.

    Examples:
        >>> fnp.linalg.multi_dot([np.ones((2, 9)), np.ones((9, 9)), np.ones(9)])
        array([81., 81.])
    """
    no_out("multi_dot", out)
    xs = [asarray(x) for x in arrays]
    if len(xs) < 2:
        raise ArgumentError(f"multi_dot needs two arrays or more, got {len(xs)}", "multi_dot([a, b])")
    for i, x in enumerate(xs):
        if len(x.shape) != 2 and (len(x.shape) != 1 or 0 < i < len(xs) - 1):
            raise ShapeError(
                f"multi_dot: array {i} of {len(xs)} has shape {x.shape}",
                "matrices, of which the first and the last may be vectors",
            )
    shapes = [x.shape for x in xs]
    inner = [shape[0] for shape in shapes[1:]]
    lengths = [shapes[0][0] if len(shapes[0]) == 2 else 1, *inner, shapes[-1][1] if len(shapes[-1]) == 2 else 1]
    return _product(xs, _splits(lengths), 0, len(xs) - 1)


def _splits(lengths: list[int]) -> dict[tuple[int, int], int]:
    """Where to split the product of matrices i to j, matrix i having shape (lengths[i], lengths[i + 1]).

    Source:
        Cormen, Leiserson, Rivest, Stein, "Introduction to Algorithms" (2009), section 15.2.
    """
    count = len(lengths) - 1
    costs = {(i, i): 0 for i in range(count)}
    splits = {}
    for width in range(1, count):
        for i in range(count - width):
            j = i + width
            costs[i, j], splits[i, j] = min(
                (costs[i, k] + costs[k + 1, j] + lengths[i] * lengths[k + 1] * lengths[j + 1], k) for k in range(i, j)
            )
    return splits


def _product(xs: list[Array], splits: dict[tuple[int, int], int], i: int, j: int) -> Array:
    if i == j:
        return xs[i]
    k = splits[i, j]
    return _contraction.matmul(_product(xs, splits, i, k), _product(xs, splits, k + 1, j))
