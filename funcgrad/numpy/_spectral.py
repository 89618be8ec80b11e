"""Factorizations with orthonormal vectors (of eigenvalues, of singular values, QR), and what rests on them."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from funcgrad.core.errors import ArgumentError, ShapeError, TracedShapeError
from funcgrad.core.trace import concrete
from funcgrad.core.types import Array
from funcgrad.numpy._arguments import traced
from funcgrad.numpy._creation import asarray
from funcgrad.numpy._reductions import any as any_
from funcgrad.ops import linalg as ops
from funcgrad.ops import spectral
from funcgrad.ops.broadcast import Sum
from funcgrad.ops.elementwise import absolute, square
from funcgrad.ops.join import concatenate
from funcgrad.ops.pointwise import convert
from funcgrad.ops.reduce import Max
from funcgrad.ops.shape import reshape

__all__ = ["eigh", "eigvalsh", "lstsq", "matrix_rank", "pinv", "qr", "svd", "svdvals"]

_MISSING: Any = object()


class EighResult(NamedTuple):
    """The result of `eigh`."""

    eigenvalues: Array
    eigenvectors: Array


class SVDResult(NamedTuple):
    """The result of `svd`: a = U · diag(S) · Vh."""

    U: Array
    S: Array
    Vh: Array


class QRResult(NamedTuple):
    """The result of `qr`: a = Q · R."""

    Q: Array
    R: Array


def eigh(a: Array, UPLO: str = "L") -> EighResult:
    """The eigenvalues, ascending, and the eigenvectors of Hermitian matrices.

    Only one triangle of `a` is read. The gradient is symmetric (Hermitian): that of a function of such matrices.

    Some of the eigenvectors is arbitrary: the sign or complex phase of each, and the basis in the common space of equal
    eigenvalues. A loss that depends on a phase or on that basis has no derivative: its gradient is NaN. One that sees
    the space as a whole, as `v @ v.T` does for the v of some eigenvalue, has one. One that joins equal eigenvalues to
    their vectors, as `(v * f(w)) @ v.T` does, gets NaN, though a derivative may exist: w and v at that point do not
    tell it. `a + 1e-6 * diag(arange(n))` parts equal eigenvalues.

    Args:
        a: A Hermitian matrix `(n, n)`, or a stack of them.
        UPLO: "L" to read the lower triangle, "U" for the upper one.

    Returns:
        A named tuple with the fields `eigenvalues`, `(..., n)`, and `eigenvectors`, `(..., n, n)`, by columns.

    Raises:
        LinAlgError: An element is infinite or NaN.
        ShapeError: The matrices are not square.

    Examples:
        >>> fnp.linalg.eigh(np.array([[2.0, 0.0], [0.0, 1.0]])).eigenvalues
        array([1., 2.])
        >>> top = lambda a: (fnp.linalg.eigh(a).eigenvectors[:, -1] ** 4).sum()
        >>> fg.grad(top)(np.array([[2.0, 1.0], [1.0, 2.0]])).round(9) + 0.0
        array([[0., 0.],
               [0., 0.]])
    """
    return EighResult(*spectral.Eigh(_lower("eigh", UPLO))(asarray(a)))


def eigvalsh(a: Array, UPLO: str = "L") -> Array:
    """The eigenvalues of Hermitian matrices, ascending. One triangle is read; the gradient is symmetric, as in `eigh`.

    Equal eigenvalues take the vectors that LAPACK chose. If the loss is symmetric in them, every choice gives the same
    gradient; the second derivative there is NaN.

    Args:
        a: A Hermitian matrix `(n, n)`, or a stack of them.
        UPLO: "L" to read the lower triangle, "U" for the upper one.

    Raises:
        LinAlgError: An element is infinite or NaN.
        ShapeError: The matrices are not square.

    Examples:
        >>> fg.grad(lambda a: fnp.linalg.eigvalsh(a).max())(np.array([[2.0, 0.0], [0.0, 1.0]]))
        array([[1., 0.],
               [0., 0.]])
    """
    return spectral.Eigvalsh(_lower("eigvalsh", UPLO))(asarray(a))


def _lower(function: str, uplo: str) -> bool:
    if uplo.upper() not in ("L", "U"):
        raise ArgumentError(f"{function}: UPLO={uplo!r} names no triangle", '"L" for the lower one, "U" for the upper')
    return uplo.upper() == "L"


def svd(a: Array, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False) -> Any:
    """The singular value decomposition a = U · diag(S) · Vh, with S descending.

    The vectors of equal singular values are as arbitrary as those of equal eigenvalues: see `eigh` for what that means
    for gradients. U @ Vh, which does not depend on the choice, has its gradient there too.

    Args:
        a: A matrix `(m, n)`, or a stack of them.
        full_matrices: True to complete U and Vh to square matrices. Unless `a` is square, the one that was completed
            has no derivative.
        compute_uv: False for the singular values alone.
        hermitian: True if `a` is Hermitian, which NumPy uses for speed. The gradient then is symmetric, as in `eigh`.

    Returns:
        A named tuple with the fields `U`, `S` and `Vh`, or `S` alone.

    Raises:
        LinAlgError: An element is infinite or NaN.
        NotDifferentiableError: The gradient goes through a factor that was completed.

    Examples:
        >>> u, s, vh = fnp.linalg.svd(np.array([[0.0, 3.0], [2.0, 0.0], [0.0, 0.0]]), full_matrices=False)
        >>> s
        array([3., 2.])
        >>> polar = lambda a: (lambda u, s, vh: (u @ vh)[0, 1])(*fnp.linalg.svd(a))
        >>> fg.grad(polar)(np.eye(2))
        array([[ 0. ,  0.5],
               [-0.5,  0. ]])
    """
    plain = not traced(a)
    a = asarray(a)
    if hermitian and plain:
        if not compute_uv:
            return np.linalg.svd(a, compute_uv=False, hermitian=True)
        return SVDResult(*np.linalg.svd(a, full_matrices, hermitian=True))
    if hermitian:
        a = _symmetrized("svd", a)
    if not compute_uv:
        return spectral.svdvals(a)
    if not full_matrices or len(a.shape) < 2 or a.shape[-1] == a.shape[-2]:
        return SVDResult(*spectral.svd(a))
    u, s, vh, rest = spectral.Svd(full=True)(a)
    if a.shape[-2] > a.shape[-1]:
        return SVDResult(concatenate([u, rest], len(a.shape) - 1), s, vh)
    return SVDResult(u, s, concatenate([vh, rest], len(a.shape) - 2))


def _symmetrized(function: str, a: Array) -> Array:
    """`a`, which is Hermitian, so that the gradient is so, too."""
    ops.check_square(function, a)
    return (a + ops.adjoint(a)) / 2


def svdvals(x: Array, /) -> Array:
    """The singular values, descending.

    Equal ones take the vectors that LAPACK chose, as equal eigenvalues do in `eigvalsh`.

    Args:
        x: A matrix `(m, n)`, or a stack of them.

    Raises:
        LinAlgError: An element is infinite or NaN.

    Examples:
        >>> fg.grad(lambda a: fnp.linalg.svdvals(a)[0])(np.array([[3.0, 0.0], [0.0, -4.0]])) + 0.0
        array([[ 0.,  0.],
               [ 0., -1.]])
    """
    return spectral.svdvals(asarray(x))


def qr(a: Array, mode: Literal["reduced", "complete", "r", "raw"] = "reduced") -> Any:
    """The factors a = Q · R, with orthonormal columns in Q and an upper triangular R.

    Args:
        a: A matrix `(m, n)`, or a stack of them. Where a gradient is taken, its first min(m, n) columns are
            independent.
        mode: "reduced"; "complete" for a square Q, which has no derivative if m > n; "r" for R alone; "raw", for plain
            arrays only, for LAPACK's reflectors.

    Returns:
        A named tuple with the fields `Q` and `R`, or R alone.

    Raises:
        NotDifferentiableError: The gradient goes through a Q that was completed.
        LinAlgError: The columns are dependent, so that the gradient does not exist.

    Examples:
        >>> fg.grad(lambda a: fnp.linalg.qr(a).R[0, 0])(np.array([[3.0, 1.0], [4.0, 2.0]])).round(9) + 0.0
        array([[-0.6,  0. ],
               [-0.8,  0. ]])
    """
    if not traced(a):
        y = np.linalg.qr(asarray(a), mode)
        return QRResult(*y) if mode in ("reduced", "complete") else y
    if mode == "raw" or mode not in ("reduced", "complete", "r"):
        raise ArgumentError(f"qr: traced values have no mode={mode!r}", 'one of "reduced", "complete", "r"')
    a = asarray(a)
    ops.check_matrix("qr", a)
    *stack, m, n = a.shape
    end = len(stack)
    if m < n:
        # R has as many columns as the matrix, of which the first m determine Q
        q, r = ops.Qr()(a[..., :m])
        r = concatenate([r, ops.adjoint(q) @ a[..., m:]], end + 1)
    elif m > n and mode == "complete":
        q, r, rest = ops.Qr(full=True)(a)
        q = concatenate([q, rest], end + 1)
        r = concatenate([r, np.zeros((*stack, m - n, n), r.dtype)], end)
    else:
        q, r = ops.Qr()(a)
    return r if mode == "r" else QRResult(q, r)


def pinv(a: Array, rcond: Any = None, hermitian: bool = False, *, rtol: Any = _MISSING) -> Array:
    """The pseudoinverse (Moore and Penrose): the inverse as far as there is one.

    The gradient is that along matrices of the same rank; where the rank changes, the pseudoinverse jumps.

    Args:
        a: A matrix `(m, n)`, or a stack of them.
        rcond: Singular values up to this part of the largest count as zero; 1e-15 if nothing is said.
        hermitian: True if `a` is Hermitian, which NumPy uses for speed. The gradient then is symmetric, as in `eigh`.
        rtol: The same as `rcond`, but None stands for max(m, n) · eps.

    Raises:
        ArgumentError: Both `rcond` and `rtol` are given.
        LinAlgError: An element is infinite or NaN.

    Examples:
        >>> fnp.linalg.pinv(np.array([[2.0, 0.0], [0.0, 0.0]]))
        array([[0.5, 0. ],
               [0. , 0. ]])
        >>> fg.grad(lambda a: fnp.linalg.pinv(a)[0, 0])(np.array([[2.0, 0.0], [0.0, 0.0]]))
        array([[-0.25,  0.  ],
               [ 0.  ,  0.  ]])
    """
    if rcond is not None and rtol is not _MISSING:
        raise ArgumentError(
            f"pinv: rcond={rcond} and rtol={rtol} are two names of the same argument", "pinv(a, rtol=...)"
        )
    plain = not traced(a)
    a = asarray(a)
    if rcond is None:
        rcond = 1e-15 if rtol is _MISSING else _rounding(a) if rtol is None else rtol
    if plain and hermitian:
        return np.linalg.pinv(a, rcond, hermitian)
    if hermitian:
        a = _symmetrized("pinv", a)
    return spectral.pinv(a, asarray(rcond))


def _rounding(a: Array) -> float:
    """The part of the largest singular value below which the others may be nothing but rounding."""
    dtype = ops.library_dtype("pinv", a)
    return float(max(a.shape[-2:], default=0) * np.finfo(dtype).eps)


def matrix_rank(A: Array, tol: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Array:
    """The number of singular values above a tolerance; piecewise constant, so its derivative is zero.

    Args:
        A: A matrix `(m, n)`, or a stack of them. With fewer axes: 0 if all elements are zero, else 1.
        tol: The tolerance.
        hermitian: True if `A` is Hermitian, which NumPy uses for speed.
        rtol: The tolerance as a part of the largest singular value; max(m, n) · eps if nothing is said.

    Raises:
        ArgumentError: Both `tol` and `rtol` are given.
        LinAlgError: An element is infinite or NaN.

    Examples:
        >>> int(fnp.linalg.matrix_rank(np.array([[1.0, 2.0], [2.0, 4.0]])))
        1
    """
    if rtol is not None and tol is not None:
        raise ArgumentError(f"matrix_rank: both tol={tol} and rtol={rtol} are given", "matrix_rank(a, rtol=...)")
    if not traced(A):
        return np.linalg.matrix_rank(A, tol, hermitian, rtol=rtol)
    A = asarray(A)
    if len(A.shape) < 2:
        return convert(any_(A != 0), np.dtype(np.intp))
    s = spectral.svdvals(A)
    if 0 in s.shape[-1:]:
        return np.zeros(s.shape[:-1], np.intp)[()]
    if tol is None:
        relative = _rounding(A) if rtol is None else _extend(rtol)
        tol = reshape(Max((len(s.shape) - 1,))(s), (*s.shape[:-1], 1)) * relative
    else:
        tol = _extend(tol)
    return Sum((len(s.shape) - 1,))(s > tol)


def _extend(x: Any) -> Array:
    x = asarray(x)
    return reshape(x, (*x.shape, 1))


def lstsq(a: Array, b: Array, rcond: float | None = None) -> tuple[Array, Array, Any, Array]:
    """The x with the least sum of squares in a @ x − b, and of those the smallest.

    Args:
        a: A matrix `(m, n)`.
        b: A vector `(m,)` or a matrix `(m, k)`.
        rcond: Singular values up to this part of the largest count as zero; max(m, n) · eps if nothing is said.

    Returns:
        x, `(n,)` or `(n, k)`; the sums of squares of the residuals, `(1,)` or `(k,)`, empty unless m > n and the rank
        is n; the rank of `a`; and its singular values.

    Raises:
        ShapeError: The shapes do not fit.
        LinAlgError: An element is infinite or NaN.
        TracedShapeError: Only the type of `a` is known, so its rank, on which shapes depend, is not.

    Examples:
        >>> x = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
        >>> fit = lambda y: fnp.linalg.lstsq(x, y)[0]
        >>> fit(np.array([1.0, 3.0, 5.0])).round(9)
        array([1., 2.])
        >>> fg.grad(lambda y: fit(y)[1])(np.array([1.0, 3.0, 5.0])).round(9) + 0.0
        array([-0.5,  0. ,  0.5])
    """
    if not traced(a, b):
        return np.linalg.lstsq(a, b, rcond)
    a, b = asarray(a), asarray(b)
    if len(a.shape) != 2 or len(b.shape) not in (1, 2) or a.shape[0] != b.shape[0]:
        raise ShapeError(
            f"lstsq: a of shape {a.shape} and b of shape {b.shape} do not fit", "a is (m, n), and b is (m,) or (m, k)"
        )
    m, n = a.shape
    cutoff = _rounding(a) if rcond is None else rcond if rcond >= 0 else float(np.finfo(a.dtype).eps)
    x = spectral.pinv(a, asarray(cutoff)) @ b
    s = spectral.svdvals(a)
    rank = concrete(matrix_rank(a, rtol=cutoff))
    if rank is None:
        raise TracedShapeError(
            "lstsq: the shape of the residuals depends on the rank of a, of which only the type is known",
            "pinv(a) @ b is the solution",
        )
    if rank == n < m:
        rest = absolute(b - a @ x)
        residuals = Sum((0,))(square(rest if len(b.shape) == 2 else reshape(rest, (m, 1))))
    else:
        residuals = np.empty(0, s.dtype)
    return x, residuals, rank, s
