"""Eigenvalues and eigenvectors of Hermitian matrices, singular values and vectors, and the pseudoinverse.

Differentiating A = V w Vᴴ, with the vectors staying orthonormal, gives dw = diag(Vᴴ dA V) and dV = V Ω, where Ω is
Vᴴ dA V divided by the gaps wⱼ − wᵢ. The singular value decomposition U s Vᴴ has two such rotations. Their sum is
divided by sⱼ − sᵢ; their difference, which is all that the product U Vᴴ depends on, by sⱼ + sᵢ. (Compare M. Giles, An
extended collection of matrix derivative results, 2008, sections 3.1 and 3.2.)

Equal eigenvalues have no vectors of their own: any basis of their common space will do, and a gap of zero leaves the
turn within that space undetermined. Three kinds of losses meet there, which the cotangents tell apart:

- one that depends on the basis (as on the sign of a single vector, or on its phase): it has no derivative, NaN;
- one that sees the space as a whole, as the projector on it does: a turn within it changes nothing, 0;
- one that joins vectors to their values, as the matrix function V f(w) Vᴴ does: it has a derivative, f′(w) times the
  cotangent, but f′ is not to be had from the cotangents at this one basis: NaN, and not 0, which would be wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn, final

import numpy as np

from funcgrad.core.errors import SingularMatrixError
from funcgrad.core.kinds import Library
from funcgrad.core.primitive import Cotangent, Wanted
from funcgrad.core.types import Array, ArrayType, DType, Typed
from funcgrad.ops.broadcast import broadcast_to
from funcgrad.ops.elementwise import absolute, conjugate, is_complex
from funcgrad.ops.linalg import (
    adjoint,
    check_matrix,
    check_square,
    library_dtype,
    matrix_transpose,
    refuse_completion,
    which,
)
from funcgrad.ops.pointwise import fit, select
from funcgrad.ops.reduce import Max
from funcgrad.ops.shape import reshape


def _refuse(name: str, x: Array) -> NoReturn:
    bad = ~np.isfinite(x).all((-1, -2))
    if bad.any():
        what = f"{name}: {which(bad)} has elements that are infinite or NaN"
        raise SingularMatrixError(what, "find them with numpy.argwhere(~numpy.isfinite(a))")
    raise SingularMatrixError(f"{name}: LAPACK's iteration did not converge", "scale the matrix: a / abs(a).max()")


def _real(dtype: DType) -> DType:
    return np.empty(0, dtype).real.dtype


def _conj(x: Array) -> Array:
    return conjugate(x) if is_complex(x) else x


def _row(x: Array) -> Array:
    return reshape(x, (*x.shape[:-1], 1, x.shape[-1]))


def _column(x: Array) -> Array:
    return reshape(x, (*x.shape, 1))


def _largest(x: Array) -> Array:
    """The largest absolute value of each vector, as a matrix of one element."""
    return reshape(Max((len(x.shape) - 1,))(absolute(x)), (*x.shape[:-1], 1, 1))


def _sizes(x: Array) -> Array:
    """The largest absolute value of each column, as a row."""
    return _row(Max((len(x.shape) - 2,))(absolute(x)))


def _skew(x: Array) -> Array:
    return (x - adjoint(x)) / 2


def _loose(dtype: DType) -> float:
    """Up to this part of the largest, cotangents count as equal: users compute them with more than one rounding."""
    return math.sqrt(np.finfo(dtype).eps)


def _over_gap(top: Array, gap: Array, own: Array, largest: Array, noise: Array, joined: Array | None) -> Array:
    """The quotients top / gap, and what the module's docstring says where the gap is zero to rounding.

    Where values are equal compared with all others, but not with one another (the noise in a null space), a numerator
    that is nothing but rounding counts as the zero that it stands for.

    Args:
        top: For each pair, how the loss changes when its vectors turn.
        gap: What the turn is divided by.
        own: The size of the values in the pair.
        largest: The size of the largest value.
        noise: The size of the cotangents that `top` was computed from.
        joined: Pairs whose values and vectors enter the loss together.
    """
    eps = float(np.finfo(gap.dtype).eps)
    tolerance = 8 * math.sqrt(max(top.shape[-2:])) * eps
    gap_size, top_size = absolute(gap), absolute(top)
    equal = gap_size <= tolerance * own
    zero = (gap_size <= tolerance * largest) & (top_size <= tolerance * noise) | equal
    undefined = equal & (top_size > _loose(gap.dtype) * noise)
    if joined is not None:
        undefined = undefined | (equal & joined)
    y = select(zero, np.zeros((), top.dtype), top / select(equal, np.ones((), gap.dtype), gap))
    return select(undefined, top.dtype.type(math.nan), y)


def _turn(q: Array, values: Array, noise: Array, g_values: Array | None) -> Array:
    """The part of the pullback that is divided by differences of values. `q` pairs the vectors with their cotangent."""
    sizes = absolute(values)
    joined = None
    if g_values is not None:
        loose = _loose(values.dtype)
        differ = absolute(_row(g_values) - _column(g_values)) > loose * _largest(g_values)
        joined = (differ | (absolute(q) > loose * noise)) & ~np.eye(q.shape[-1], dtype=bool)
    return _over_gap(
        _skew(q), _row(values) - _column(values), _row(sizes) + _column(sizes), _largest(values), noise, joined
    )


def _with_diagonal(x: Array, diagonal: Array | None) -> Array:
    if diagonal is None:
        return x
    return x + _row(diagonal) * np.eye(diagonal.shape[-1], dtype=diagonal.dtype)


@final
@dataclass(frozen=True, slots=True)
class Eigh(Library):
    """The eigenvalues, ascending, and eigenvectors of Hermitian matrices, of which one triangle is read.

    The gradient is Hermitian: that of a function of Hermitian matrices.
    """

    name: ClassVar[str] = "eigh"
    multiple: ClassVar[bool] = True
    lower: bool = True

    def out_type(self, x: Typed) -> tuple[ArrayType, ArrayType]:
        check_square("eigh", x)
        dtype = library_dtype("eigh", x)
        return ArrayType(x.shape[:-1], _real(dtype)), ArrayType(x.shape, dtype)

    def impl(self, x: Array) -> tuple[Array, Array]:
        try:
            values, vectors = np.linalg.eigh(x, "L" if self.lower else "U")
        except np.linalg.LinAlgError:
            self.out_type(x)
            _refuse("eigh", x)
        return values, vectors

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (1,)

    def vjp(self, wanted: Wanted, g: Any, y: Any, x: None) -> tuple[Cotangent | None]:
        (w,) = wanted
        if w is None:
            return (None,)
        g_values, g_vectors = g
        values, vectors = y
        if g_vectors is None:
            return (_from_values(w, g_values, vectors),)
        if w.shape[-1] == 0:
            return (np.zeros(w.shape, w.dtype),)
        transposed = matrix_transpose(vectors)
        size = _sizes(g_vectors)
        inner = _turn(transposed @ g_vectors, values, size + matrix_transpose(size), g_values)
        ct = _conj(vectors) @ _with_diagonal(inner, g_values) @ transposed
        return (fit((ct + adjoint(ct)) / 2, w),)

    def batch(self, batched: tuple[bool, ...], x: Array) -> tuple[Array, Array]:
        ys: tuple[Array, Array] = self(x)
        return ys


def _from_values(w: Typed, g_values: Array, vectors: Array) -> Cotangent:
    ct = (_conj(vectors) * _row(g_values)) @ matrix_transpose(vectors)
    return fit((ct + adjoint(ct)) / 2, w)


@final
@dataclass(frozen=True, slots=True)
class Eigvalsh(Library):
    """The eigenvalues of `Eigh` alone. The pullback computes the vectors."""

    name: ClassVar[str] = "eigvalsh"
    lower: bool = True

    def out_type(self, x: Typed) -> ArrayType:
        check_square("eigvalsh", x)
        return ArrayType(x.shape[:-1], _real(library_dtype("eigvalsh", x)))

    def impl(self, x: Array) -> Array:
        try:
            return np.linalg.eigvalsh(x, "L" if self.lower else "U")
        except np.linalg.LinAlgError:
            self.out_type(x)
            _refuse("eigvalsh", x)

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (0,)

    def vjp(self, wanted: Wanted, g: Array, y: None, x: Array) -> tuple[Cotangent | None]:
        (w,) = wanted
        return (None if w is None else _from_values(w, g, Eigh(self.lower)(x)[1]),)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return self(x)


@final
@dataclass(frozen=True, slots=True)
class Svd(Library):
    """U, s and Vᴴ with x = U s Vᴴ and s descending.

    Attributes:
        full: A fourth result completes the longer one of U (by columns) and Vᴴ (by rows) to a square. It has no
            derivative: it is an arbitrary basis.
    """

    name: ClassVar[str] = "svd"
    multiple: ClassVar[bool] = True
    full: bool = False

    def out_type(self, x: Typed) -> tuple[ArrayType, ...]:
        check_matrix("svd", x)
        *stack, m, n = x.shape
        k = min(m, n)
        dtype = library_dtype("svd", x)
        shapes = [(m, k), (k, n)]
        if self.full:
            shapes.append((m, m - k) if m > n else (n - k, n))
        u, v, *rest = (ArrayType((*stack, *shape), dtype) for shape in shapes)
        return u, ArrayType((*stack, k), _real(dtype)), v, *rest

    def impl(self, x: Array) -> tuple[Array, ...]:
        try:
            u, s, vh = np.linalg.svd(x, full_matrices=self.full)
        except np.linalg.LinAlgError:
            self.out_type(x)
            _refuse("svd", x)
        if not self.full:
            return u, s, vh
        k = s.shape[-1]
        rest = u[..., k:] if u.shape[-1] > k else vh[..., k:, :]
        return u[..., :k], s, vh[..., :k, :], rest

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (1,)

    def vjp(self, wanted: Wanted, g: Any, y: Any, x: None) -> tuple[Cotangent | None]:
        (w,) = wanted
        if w is None:
            return (None,)
        g_u, g_s, g_vh, *g_rest = g
        u, s, vh, *_ = y
        if g_rest and g_rest[0] is not None:
            refuse_completion("svd", "U" if w.shape[-2] > w.shape[-1] else "Vh", w, "full_matrices=False")
        if 0 in w.shape[-2:]:
            return (np.zeros(w.shape, w.dtype),)
        if g_u is None and g_vh is None:
            return (_from_singular_values(w, u, g_s, vh),)
        return (fit(_svd_pullback((g_u, g_s, g_vh), u, s, vh), w),)

    def batch(self, batched: tuple[bool, ...], x: Array) -> tuple[Array, ...]:
        ys: tuple[Array, ...] = self(x)
        return ys


def _from_singular_values(w: Typed, u: Array, g_s: Array, vh: Array) -> Cotangent:
    return fit((_conj(u) * _row(g_s)) @ _conj(vh), w)


def _svd_pullback(g: tuple[Array | None, Array | None, Array | None], u: Array, s: Array, vh: Array) -> Array:
    """The pullback where vectors have a cotangent."""
    g_u, g_s, g_vh = g
    v, g_v = adjoint(vh), None if g_vh is None else adjoint(g_vh)
    q_u, size_u = _paired(u, g_u)
    q_v, size_v = _paired(v, g_v)
    size = size_u + size_v
    noise = size + matrix_transpose(size)
    total = _row(s) + _column(s)
    used = None if g_s is None else absolute(_row(g_s)) > _loose(s.dtype) * _largest(g_s)
    joined = used | matrix_transpose(used) if used is not None and is_complex(u) else None
    inner = _turn(q_u + q_v, s, noise, g_s)
    inner = inner + _over_gap(_skew(q_u - q_v), total, total, _largest(s), noise, joined)
    ct = _with_diagonal(inner, g_s) @ _conj(vh)
    if g_v is not None and v.shape[-2] > v.shape[-1]:
        ct = ct + adjoint(_outside(v, q_v, g_v, s, used))
    ct = _conj(u) @ ct
    if g_u is not None and u.shape[-2] > u.shape[-1]:
        ct = ct + _outside(u, q_u, g_u, s, used) @ _conj(vh)
    return ct


def _paired(x: Array, g: Array | None) -> tuple[Array, Array]:
    """The products of the vectors with their cotangent, and the size of that for each vector."""
    return (0.0, 0.0) if g is None else (matrix_transpose(x) @ g, _sizes(g))


def _outside(x: Array, q: Array, g: Array, s: Array, used: Array | None) -> Array:
    """The part of a cotangent that turns vectors out of the space that they span."""
    return _over_gap(g - _conj(x) @ q, _row(s), _row(s), _largest(s), _sizes(g), used)


@final
@dataclass(frozen=True, slots=True)
class Svdvals(Library):
    """The singular values of `Svd` alone. The pullback computes the vectors."""

    name: ClassVar[str] = "svdvals"

    def out_type(self, x: Typed) -> ArrayType:
        check_matrix("svdvals", x)
        return ArrayType((*x.shape[:-2], min(x.shape[-2:])), _real(library_dtype("svdvals", x)))

    def impl(self, x: Array) -> Array:
        try:
            return np.linalg.svd(x, compute_uv=False)
        except np.linalg.LinAlgError:
            self.out_type(x)
            _refuse("svdvals", x)

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (0,)

    def vjp(self, wanted: Wanted, g: Array, y: None, x: Array) -> tuple[Cotangent | None]:
        (w,) = wanted
        if w is None:
            return (None,)
        u, _, vh = svd(x)
        return (_from_singular_values(w, u, g, vh),)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return self(x)


svd = Svd()
svdvals = Svdvals()


@final
@dataclass(frozen=True, slots=True)
class Pinv(Library):
    """The pseudoinverse P of x, without the singular values up to `cutoff` times the largest.

    Its derivative is that along matrices of the same rank; others have none. (G. Golub and V. Pereyra, The
    differentiation of pseudo-inverses, 1973, eq. 4.12.)
    """

    name: ClassVar[str] = "pinv"

    def out_type(self, x: Typed, cutoff: Typed) -> ArrayType:
        check_matrix("pinv", x)
        *stack, m, n = x.shape
        return ArrayType((*stack, n, m), library_dtype("pinv", x))

    def impl(self, x: Array, cutoff: Array) -> Array:
        if 0 in x.shape[-2:]:
            kind = self.out_type(x, cutoff)
            return np.empty(kind.shape, kind.dtype)
        try:
            return np.linalg.pinv(x, cutoff)
        except np.linalg.LinAlgError:
            self.out_type(x, cutoff)
            _refuse("pinv", x)

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (2,) if wanted[0] else (0, 1, 2)

    def vjp(self, wanted: Wanted, g: Array, y: Array, x: Array, cutoff: None) -> tuple[Cotangent | None, ...]:
        w, w_cutoff = wanted
        ct = None
        if w is not None:
            transposed, adjoined, ct_y = matrix_transpose(y), adjoint(y), matrix_transpose(g)
            rows = (ct_y - x @ (y @ ct_y)) @ (y @ adjoined)
            columns = (adjoined @ y) @ (ct_y - (ct_y @ y) @ x)
            ct = fit(_conj(rows + columns) - transposed @ g @ transposed, w)
        return ct, None if w_cutoff is None else np.zeros(w_cutoff.shape, w_cutoff.dtype)

    def batch(self, batched: tuple[bool, ...], x: Array, cutoff: Array) -> Array:
        if not batched[0]:
            x = broadcast_to(x, (cutoff.shape[0], *x.shape))
        if batched[1]:
            n, *shape = cutoff.shape
            cutoff = reshape(cutoff, (n, *(1,) * (len(x.shape) - 3 - len(shape)), *shape))
        return self(x, cutoff)


pinv = Pinv()
