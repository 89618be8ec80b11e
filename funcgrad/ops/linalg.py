"""Linear algebra on the last two axes: inverse, linear systems, triangular systems, Cholesky; stacks broadcast.

Each pullback follows from differentiating the equation that defines the result: from A·y = b comes
A·dy + dA·y = db, so ct_b = A⁻ᵀ g and ct_A = −ct_b yᵀ. Transposes are plain, not conjugate, which for complex matrices
is the convention of this library: the pullback of a holomorphic function multiplies by its derivative.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn, final

import numpy as np

from funcgrad.core.errors import DTypeError, NotDifferentiableError, ShapeError, SingularMatrixError
from funcgrad.core.kinds import Library
from funcgrad.core.primitive import Cotangent, Wanted
from funcgrad.core.types import Array, ArrayType, DType, Typed, broadcast_shapes, show_long
from funcgrad.ops.elementwise import conjugate, is_complex
from funcgrad.ops.pointwise import fit, select
from funcgrad.ops.shape import reshape, transpose


def matrix_transpose(x: Array) -> Array:
    """`x` with its last two axes exchanged."""
    n = len(x.shape)
    return transpose(x, (*range(n - 2), n - 1, n - 2))


def adjoint(x: Array) -> Array:
    """The conjugate transpose of matrices."""
    return matrix_transpose(conjugate(x) if is_complex(x) else x)


def library_dtype(name: str, *xs: Typed) -> DType:
    """The dtype in which LAPACK computes with these arrays: integers become float64."""
    for x in xs:
        if x.dtype.char not in "fdFD" and x.dtype.kind not in "biu":
            raise DTypeError(f"{name} is not defined for {show_long(x)}", "convert first: x.astype(np.float32)")
    return np.result_type(*(x.dtype if x.dtype.kind in "fc" else np.float64 for x in xs))


def check_matrix(name: str, x: Typed) -> None:
    """Raise the user's error unless `x` is a matrix, or a stack of them."""
    if len(x.shape) < 2:
        raise ShapeError(
            f"{name}: an array of shape {x.shape} is not a matrix", "it needs two axes or more: x[None, :]"
        )


def check_square(name: str, x: Typed) -> None:
    """Raise the user's error unless `x` is a square matrix, or a stack of them."""
    check_matrix(name, x)
    if x.shape[-1] != x.shape[-2]:
        raise ShapeError(
            f"{name}: matrices must be square, but shape {x.shape} has {x.shape[-2]} rows and {x.shape[-1]} columns",
            "least squares take any shape: solve(a.T @ a, a.T @ b)" if name == "solve" else "",
        )


def align_stacks(batched: tuple[bool, ...], xs: tuple[Array, ...]) -> list[Array]:
    """Operands whose stacks broadcast once the batch axis of the batched ones is in front."""
    ndim = max(len(x.shape) - b for b, x in zip(batched, xs, strict=True))
    return [
        reshape(x, (x.shape[0], *(1,) * (ndim + 1 - len(x.shape)), *x.shape[1:])) if b else x
        for b, x in zip(batched, xs, strict=True)
    ]


def _system(name: str, x1: Typed, x2: Typed) -> ArrayType:
    """The type of the solution of `x1 @ y = x2`."""
    check_square(name, x1)
    if len(x2.shape) < 2 or x2.shape[-2] != x1.shape[-1]:
        raise ShapeError(
            f"{name}: a of shape {x1.shape} has {x1.shape[-1]} rows, but b has {(1, *x2.shape)[-2]}",
            "b is a vector (n,), a matrix (n, k), or a stack of matrices (..., n, k)",
        )
    try:
        stack = broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
    except ValueError:
        raise ShapeError(
            f"{name}: the stacks of a, {x1.shape[:-2]}, and of b, {x2.shape[:-2]}, do not broadcast",
            "each axis before the last two, counted from the last, must be equal or 1",
        ) from None
    return ArrayType((*stack, *x2.shape[-2:]), library_dtype(name, x1, x2))


def which(found: Array) -> str:
    """The first matrix of a stack that a test found: `matrix [3] of the stack`."""
    return f"matrix {np.argwhere(found)[0].tolist()} of the stack" if np.ndim(found) else "the matrix"


def refuse_completion(name: str, factor: str, x: Typed, instead: str) -> NoReturn:
    """Say that the vectors which complete a factor of `x` to a square matrix have no derivative."""
    raise NotDifferentiableError(
        f"{name}: {factor} of a matrix of shape {tuple(x.shape[-2:])} was completed to a square by an arbitrary basis, "
        "which has no derivative",
        f"{name}(a, {instead})",
    )


def _refuse_singular(name: str, x: Array) -> NoReturn:
    raise SingularMatrixError(
        f"{name}: {which(np.linalg.slogdet(x)[0] == 0)} is singular",
        f"remove dependent rows or columns, or regularise: a + 1e-6 * eye({x.shape[-1]}); "
        "pinv(a) takes singular matrices",
    )


@final
@dataclass(frozen=True, slots=True)
class Inverse(Library):
    """The inverse of square matrices."""

    name: ClassVar[str] = "inv"

    def out_type(self, x: Typed) -> ArrayType:
        check_square("inv", x)
        return ArrayType(x.shape, library_dtype("inv", x))

    def impl(self, x: Array) -> Array:
        try:
            return np.linalg.inv(x)
        except np.linalg.LinAlgError:
            self.out_type(x)
            _refuse_singular("inv", x)

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (1,)

    def vjp(self, wanted: Wanted, g: Array, y: Array, x: None) -> tuple[Cotangent | None]:
        yt = matrix_transpose(y)
        return (None if wanted[0] is None else fit(-(yt @ g @ yt), wanted[0]),)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return self(x)


inverse = Inverse()


@final
@dataclass(frozen=True, slots=True)
class Solve(Library):
    """The solution of x1 @ y = x2 for square matrices x1 and matrices x2, whose stacks broadcast."""

    name: ClassVar[str] = "solve"

    def out_type(self, x1: Typed, x2: Typed) -> ArrayType:
        return _system("solve", x1, x2)

    def impl(self, x1: Array, x2: Array) -> Array:
        try:
            return np.linalg.solve(x1, x2)
        except np.linalg.LinAlgError:
            self.out_type(x1, x2)
            _refuse_singular("solve", x1)

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (2,) if wanted[0] else (0, 2)

    def vjp(self, wanted: Wanted, g: Array, y: Array, x1: Array, x2: None) -> tuple[Cotangent | None, ...]:
        w1, w2 = wanted
        ct2 = self(matrix_transpose(x1), g)
        return (
            None if w1 is None else fit(-(ct2 @ matrix_transpose(y)), w1),
            None if w2 is None else fit(ct2, w2),
        )

    def batch(self, batched: tuple[bool, ...], *xs: Array) -> Array:
        return self(*align_stacks(batched, xs))


_solve = Solve()


def solve(x1: Array, x2: Array) -> Array:
    """`numpy.linalg.solve`: `x2` is a vector if it has one axis, else a matrix or a stack of matrices."""
    if len(x2.shape) != 1:
        return _solve(x1, x2)
    y = _solve(x1, reshape(x2, (*x2.shape, 1)))
    return reshape(y, y.shape[:-1])


@final
@dataclass(frozen=True, slots=True)
class SolveTriangular(Library):
    """The solution of op(x1) @ y = x2, where only one triangle of x1 is read. op transposes if `transposed`.

    Attributes:
        lower: The lower triangle is read, not the upper one.
        transposed: x1 is transposed after its triangle has been taken.
        unit_diagonal: The diagonal counts as ones and is not read.
    """

    name: ClassVar[str] = "solve_triangular"
    lower: bool = True
    transposed: bool = False
    unit_diagonal: bool = False

    def out_type(self, x1: Typed, x2: Typed) -> ArrayType:
        return _system("solve_triangular", x1, x2)

    def impl(self, x1: Array, x2: Array) -> Array:
        kind = self.out_type(x1, x2)
        x1, x2 = x1.astype(kind.dtype, copy=False), x2.astype(kind.dtype, copy=False)
        if 0 in kind.shape:
            return np.zeros(kind.shape, kind.dtype)
        if x1.ndim == 2 == x2.ndim:
            return self._lapack(x1, x2)
        return self._stack(x1, x2)

    def _lapack(self, x1: Array, x2: Array) -> Array:
        from scipy.linalg import lapack  # heavy: imported when first needed

        trtrs = getattr(lapack, f"{_LAPACK_PREFIX[x1.dtype.char]}trtrs")
        if x1.flags.c_contiguous:
            # read as its own transpose, row-major memory needs no copy
            y, info = trtrs(x1.T, x2, not self.lower, not self.transposed, self.unit_diagonal)
        else:
            y, info = trtrs(x1, x2, self.lower, self.transposed, self.unit_diagonal)
        if info:
            _refuse_diagonal("the matrix", info - 1)
        return y

    def _stack(self, x1: Array, x2: Array) -> Array:
        a = np.tril(x1) if self.lower else np.triu(x1)
        diagonal = np.arange(a.shape[-1])
        if self.unit_diagonal:
            a[..., diagonal, diagonal] = 1
        zero = a[..., diagonal, diagonal] == 0
        if zero.any():
            *_, i = np.argwhere(zero)[0]
            _refuse_diagonal(which(zero.any(-1)), i)
        if self.transposed:
            a = a.swapaxes(-1, -2)
        if self.lower == self.transposed:
            return np.linalg.solve(a, x2)
        # turned by half a turn it is upper triangular, for which the elimination has nothing to do
        return np.linalg.solve(a[..., ::-1, ::-1], x2[..., ::-1, :])[..., ::-1, :]

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (2,) if wanted[0] else (0, 2)

    def vjp(self, wanted: Wanted, g: Array, y: Array, x1: Array, x2: None) -> tuple[Cotangent | None, ...]:
        w1, w2 = wanted
        ct2 = SolveTriangular(self.lower, not self.transposed, self.unit_diagonal)(x1, g)
        ct1 = None
        if w1 is not None:
            full = y @ matrix_transpose(ct2) if self.transposed else ct2 @ matrix_transpose(y)
            ct1 = fit(select(self._triangle(w1.shape[-1]), -full, np.zeros((), full.dtype)), w1)
        return (ct1, None if w2 is None else fit(ct2, w2))

    def _triangle(self, n: int) -> Array:
        """Where x1 is read."""
        lower = np.tri(n, k=-1 if self.unit_diagonal else 0, dtype=bool)
        return lower if self.lower else lower.T

    def batch(self, batched: tuple[bool, ...], *xs: Array) -> Array:
        return self(*align_stacks(batched, xs))


_LAPACK_PREFIX = {"f": "s", "d": "d", "F": "c", "D": "z"}


def _refuse_diagonal(matrix: str, i: int) -> NoReturn:
    raise SingularMatrixError(
        f"solve_triangular: {matrix} is singular: its diagonal element {i} is zero",
        "a triangular matrix has an inverse if no element of its diagonal is zero",
    )


def solve_triangular(
    x1: Array, x2: Array, *, lower: bool = False, transposed: bool = False, unit_diagonal: bool = False
) -> Array:
    """The solution of a triangular system; `x2` is a vector if it has one axis, as in `solve`."""
    primitive = SolveTriangular(lower, transposed, unit_diagonal)
    if len(x2.shape) != 1:
        return primitive(x1, x2)
    y = primitive(x1, reshape(x2, (*x2.shape, 1)))
    return reshape(y, y.shape[:-1])


@final
@dataclass(frozen=True, slots=True)
class Cholesky(Library):
    """The lower triangular L with L Lᴴ = x, of a Hermitian positive definite x of which the lower triangle is read.

    The gradient is Hermitian: that of a function of Hermitian matrices. (I. Murray, Differentiation of the Cholesky
    decomposition, arXiv:1602.07527, eq. 10.)
    """

    name: ClassVar[str] = "cholesky"

    def out_type(self, x: Typed) -> ArrayType:
        check_square("cholesky", x)
        return ArrayType(x.shape, library_dtype("cholesky", x))

    def impl(self, x: Array) -> Array:
        try:
            return np.linalg.cholesky(x)
        except np.linalg.LinAlgError:
            self.out_type(x)
            _refuse_indefinite(x)

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (1,)

    def vjp(self, wanted: Wanted, g: Array, y: Array, x: None) -> tuple[Cotangent | None]:
        (w,) = wanted
        if w is None:
            return (None,)
        n = w.shape[-1]
        back = SolveTriangular(lower=True, transposed=True)
        half = (np.tri(n) - np.eye(n) / 2).astype(y.dtype)
        left = back(y, (matrix_transpose(y) @ g) * half)
        full = matrix_transpose(back(conjugate(y) if is_complex(y) else y, matrix_transpose(left)))
        return (fit((full + adjoint(full)) / 2, w),)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return self(x)


cholesky = Cholesky()


def _refuse_indefinite(x: Array) -> NoReturn:
    n = x.shape[-1]
    indefinite = np.reshape([_is_indefinite(a) for a in x.reshape(-1, n, n)], x.shape[:-2])
    a = x[tuple(np.argwhere(indefinite)[0])]
    # once a leading minor has no factorization, no larger one has
    k = 1 + bisect_left(range(1, n), True, key=lambda k: _is_indefinite(a[:k, :k]))
    raise SingularMatrixError(
        f"cholesky: {which(indefinite)} is not positive definite (leading minor {k})",
        "it must be Hermitian with positive eigenvalues: a = (a + a.T) / 2 makes it Hermitian, "
        f"a + 1e-6 * eye({n}) adds to its eigenvalues",
    )


def _is_indefinite(x: Array) -> bool:
    try:
        np.linalg.cholesky(x)
    except np.linalg.LinAlgError:
        return True
    return False


@final
@dataclass(frozen=True, slots=True)
class Qr(Library):
    """Q with orthonormal columns and upper triangular R with x = Q R, of matrices that have no more columns than rows.

    Attributes:
        full: A third result completes Q to a square by columns that are orthogonal to x. It has no derivative: it is
            an arbitrary basis.
    """

    name: ClassVar[str] = "qr"
    multiple: ClassVar[bool] = True
    full: bool = False

    def out_type(self, x: Typed) -> tuple[ArrayType, ...]:
        check_matrix("qr", x)
        *stack, m, n = x.shape
        shapes = [(m, n), (n, n), (m, m - n)]
        dtype = library_dtype("qr", x)
        return tuple(ArrayType((*stack, *shape), dtype) for shape in shapes[: 2 + self.full])

    def impl(self, x: Array) -> tuple[Array, ...]:
        n = x.shape[-1]
        if not self.full:
            q, r = np.linalg.qr(x)
            return q, r
        q, r = np.linalg.qr(x, "complete")
        return q[..., :n], r[..., :n, :], q[..., n:]

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (1,)

    def vjp(self, wanted: Wanted, g: Any, y: Any, x: None) -> tuple[Cotangent | None]:
        """Qᴴ dA R⁻¹ is Qᴴ dQ, which is skew-Hermitian, plus dR R⁻¹, which is triangular with a real diagonal."""
        (w,) = wanted
        g_q, g_r, *g_rest = g
        if w is None:
            return (None,)
        if g_rest and g_rest[0] is not None:
            refuse_completion("qr", "Q", w, 'mode="reduced"')
        q, r, *_ = y
        n = w.shape[-1]
        upper = 0.0 if g_r is None else g_r @ matrix_transpose(r)
        turn = 0.0 if g_q is None else matrix_transpose(q) @ g_q
        both = upper - turn
        half = (np.tri(n) - np.eye(n) / 2).astype(r.dtype)
        inner = both - half * (both - adjoint(both))
        ct = (conjugate(q) if is_complex(q) else q) @ inner
        ct = ct if g_q is None else ct + g_q
        return (fit(matrix_transpose(SolveTriangular(lower=False)(r, matrix_transpose(ct))), w),)

    def batch(self, batched: tuple[bool, ...], x: Array) -> tuple[Array, ...]:
        ys: tuple[Array, ...] = self(x)
        return ys
