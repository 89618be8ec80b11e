"""Determinants, with derivatives of any order that are right at singular matrices too.

The determinant is a polynomial in the elements, so it has derivatives everywhere, though the usual det(x)·x⁻ᵀ has none
where x is singular. All of them are one primitive: M(x; d1, ..., dk), the gradient of the k-th derivative of det in the
directions d1 ... dk. M(x) is the cofactor matrix. Differentiating M once more only adds a direction,

    ∇ₓ ⟨g, M(x; d1 ... dk)⟩ = M(x; d1 ... dk, g),

and since it is linear and symmetric in the directions, the pullback to dᵢ is M with g in the place of dᵢ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from funcgrad.core.kinds import Library
from funcgrad.core.primitive import Cotangent, Wanted
from funcgrad.core.types import Array, ArrayType, Typed, broadcast_shapes
from funcgrad.ops.elementwise import imag
from funcgrad.ops.linalg import align_stacks, check_square, library_dtype, matrix_transpose
from funcgrad.ops.pointwise import fit
from funcgrad.ops.shape import reshape


@final
@dataclass(frozen=True, slots=True)
class Det(Library):
    """The determinant."""

    name: ClassVar[str] = "det"

    def out_type(self, x: Typed) -> ArrayType:
        check_square("det", x)
        return ArrayType(x.shape[:-2], library_dtype("det", x))

    def impl(self, x: Array) -> Array:
        return np.linalg.det(x)

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (0,)

    def vjp(self, wanted: Wanted, g: Array, y: None, x: Array) -> tuple[Cotangent | None]:
        (w,) = wanted
        return (None if w is None else fit(reshape(g, (*g.shape, 1, 1)) * cofactors(x), w),)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return self(x)


det = Det()


@final
@dataclass(frozen=True, slots=True)
class Cofactors(Library):
    """M(x; d1, ..., dk): the gradient of the k-th derivative of det at `x` in the directions d1 ... dk."""

    name: ClassVar[str] = "cofactors"

    def out_type(self, x: Typed, *directions: Typed) -> ArrayType:
        check_square("cofactors", x)
        shape = broadcast_shapes(x.shape, *(d.shape for d in directions))
        return ArrayType(shape, library_dtype("cofactors", x, *directions))

    def impl(self, x: Array, *directions: Array) -> Array:
        kind = self.out_type(x, *directions)
        if len(directions) >= x.shape[-1]:
            return np.zeros(kind.shape, kind.dtype)
        finite = np.isfinite(x).all((-1, -2), keepdims=True)
        y = _gradient(np.where(finite, x, 0).astype(kind.dtype), [d.astype(kind.dtype) for d in directions])
        return np.where(finite, y, kind.dtype.type(np.nan))

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (0,)

    def vjp(self, wanted: Wanted, g: Array, y: None, x: Array, *directions: Array) -> tuple[Cotangent | None, ...]:
        ct_x = None if wanted[0] is None else fit(self(x, *directions, g), wanted[0])
        return (
            ct_x,
            *(
                None if w is None else fit(self(x, *directions[:i], g, *directions[i + 1 :]), w)
                for i, w in enumerate(wanted[1:])
            ),
        )

    def batch(self, batched: tuple[bool, ...], *xs: Array) -> Array:
        return self(*align_stacks(batched, xs))


cofactors = Cofactors()


def _gradient(x: Array, directions: list[Array]) -> Array:
    """M(x; d1, ..., dk) for finite matrices."""
    if not directions:
        return _cofactors(x)
    if len(directions) == 1:
        return _derivative(x, directions[0])
    *others, d = directions
    # M(x + t·d; others) is a polynomial in t of degree below n: n points on a circle give its linear coefficient
    # without error of method (Cauchy's formula), best on a circle where t·d is as large as x.
    n = x.shape[-1]
    size, reach = (np.linalg.norm(a, axis=(-1, -2), keepdims=True) for a in (x, d))
    radius = np.where(size > 0, size, 1) / np.where(reach > 0, reach, 1)
    points = np.exp(2j * np.pi / n * np.arange(n))
    y = sum(_gradient(x + point * radius * d, others) / point for point in points) / (n * radius)
    return (y if x.dtype.kind == "c" else y.real).astype(x.dtype)


def _cofactors(x: Array) -> Array:
    """det(x) · x⁻ᵀ: both come from the same elimination, so their errors cancel however close to singular x is."""
    try:
        inverse = np.linalg.inv(x)
    except np.linalg.LinAlgError:
        return _singular_cofactors(x)
    y = np.linalg.det(x)[..., None, None] * inverse.swapaxes(-1, -2)
    return y if np.isfinite(y).all() else _singular_cofactors(x)


def _singular_cofactors(x: Array) -> Array:
    """The cofactors of U S V are those of U, S and V multiplied; those of S are the products of all other values."""
    u, s, v = np.linalg.svd(x)
    zero, nonzero, product = _factors(s)
    others = np.where(zero.sum(-1, keepdims=True) - zero == 0, product / nonzero, 0)
    scale = (np.linalg.det(u) * np.linalg.det(v))[..., None, None]
    return scale * ((np.conj(u) * others[..., None, :]) @ np.conj(v))


def _derivative(x: Array, d: Array) -> Array:
    """M(x; d). In the basis of the singular vectors only the minors of two diagonal places are left."""
    u, s, v = np.linalg.svd(x)
    zero, nonzero, product = _factors(s)
    zeros_left = zero.sum(-1)[..., None, None] - zero[..., :, None] - zero[..., None, :]
    pairs = nonzero[..., :, None] * nonzero[..., None, :]
    others = np.where((zeros_left == 0) & ~np.eye(s.shape[-1], dtype=bool), product[..., None] / pairs, 0)
    h = np.conj(u).swapaxes(-1, -2) @ d @ np.conj(v).swapaxes(-1, -2)
    q = -(others * h).swapaxes(-1, -2)
    diagonal = np.arange(s.shape[-1])
    q[..., diagonal, diagonal] = (others @ h[..., diagonal, diagonal, None])[..., 0]
    scale = (np.linalg.det(u) * np.linalg.det(v))[..., None, None]
    return scale * (np.conj(u) @ q @ np.conj(v))


def _factors(s: Array) -> tuple[Array, Array, Array]:
    """Which singular values are zero, all with 1 in place of zero, and the product of those."""
    zero = s == 0
    nonzero = np.where(zero, 1, s)
    return zero.astype(int), nonzero, np.prod(nonzero, -1, keepdims=True)


@final
@dataclass(frozen=True, slots=True)
class Slogdet(Library):
    """The sign of the determinant, and the logarithm of its absolute value."""

    name: ClassVar[str] = "slogdet"
    multiple: ClassVar[bool] = True

    def out_type(self, x: Typed) -> tuple[ArrayType, ArrayType]:
        check_square("slogdet", x)
        dtype = library_dtype("slogdet", x)
        return ArrayType(x.shape[:-2], dtype), ArrayType(x.shape[:-2], np.empty(0, dtype).real.dtype)

    def impl(self, x: Array) -> tuple[Array, Array]:
        sign, logdet = np.linalg.slogdet(x)
        return sign, logdet

    def unread(self, wanted: Wanted) -> Sequence[int]:
        (w,) = wanted
        return () if w is not None and w.dtype.kind == "c" else (0,)

    def vjp(self, wanted: Wanted, g: Any, y: Any, x: Array) -> tuple[Cotangent | None]:
        """The derivative of log det = log|det| + i·arg det is x⁻ᵀ; the sign is exp(i·arg det)."""
        (w,) = wanted
        g_sign, g_log = g
        factor = g_log
        if g_sign is not None and w is not None and w.dtype.kind == "c":
            turn = imag(g_sign * y[0]) * 1j
            factor = turn if factor is None else factor + turn
        if w is None or factor is None:
            return (None,)
        return (fit(reshape(factor, (*factor.shape, 1, 1)) * inverse_transposed(x), w),)

    def batch(self, batched: tuple[bool, ...], x: Array) -> tuple[Array, Array]:
        ys: tuple[Array, Array] = self(x)
        return ys


slogdet = Slogdet()


@final
@dataclass(frozen=True, slots=True)
class InverseTransposed(Library):
    """x⁻ᵀ, the gradient of log|det x|; where x is singular, cofactors / 0: infinite with the right signs."""

    name: ClassVar[str] = "inverse_transposed"

    def out_type(self, x: Typed) -> ArrayType:
        check_square("inverse_transposed", x)
        return ArrayType(x.shape, library_dtype("inverse_transposed", x))

    def impl(self, x: Array) -> Array:
        try:
            return np.linalg.inv(x).swapaxes(-1, -2)
        except np.linalg.LinAlgError:
            singular = np.linalg.slogdet(x)[0] == 0
        y = np.linalg.inv(np.where(singular[..., None, None], np.eye(x.shape[-1], dtype=x.dtype), x)).swapaxes(-1, -2)
        with np.errstate(divide="ignore", invalid="ignore"):
            y[singular] = cofactors(x[singular]) / np.zeros((), y.dtype)
        return y

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (1,)

    def vjp(self, wanted: Wanted, g: Array, y: Array, x: None) -> tuple[Cotangent | None]:
        return (None if wanted[0] is None else fit(-(y @ matrix_transpose(g) @ y), wanted[0]),)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return self(x)


inverse_transposed = InverseTransposed()
