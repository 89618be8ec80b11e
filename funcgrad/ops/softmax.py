"""The normalized exponentials: softmax, its logarithm, and the logarithm of its denominator.

All subtract the largest element first, so nothing overflows. Where infinities meet, the values are the limits: of
several infinite elements each takes an equal part, and no other element takes any. They are primitives, not
compositions, because the limits of a composition's derivatives are not those of its parts (0 · inf), and because the
pullback needs one array where a composition would keep three.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from funcgrad.core.kinds import Reduction
from funcgrad.core.primitive import Masked, Wanted
from funcgrad.core.types import Array, ArrayType, Typed
from funcgrad.ops.broadcast import Sum, broadcast_to, reshape
from funcgrad.ops.elementwise import exp
from funcgrad.ops.pointwise import select
from funcgrad.ops.reduce import Axes, folded, kept


def _shifted(x: Array, axes: Axes) -> tuple[Array, Array, bool]:
    """`x` less its largest element, that element, and whether all of those are finite.

    Infinite elements are 0 apart, and all others infinitely far from them.
    """
    top = np.maximum.reduce(x, axes, keepdims=True, initial=-np.inf)
    if np.isfinite(top).all():
        return np.subtract(x, top), top, True
    apart = x - np.where(np.isinf(top), x.dtype.type(0), top)
    infinite = np.where(x == np.inf, x.dtype.type(0), x.dtype.type(-np.inf))
    return np.where(top == np.inf, infinite, apart), top, False


def _next(axes: Axes) -> Axes:
    return tuple(axis + 1 for axis in axes)


def _restrict(ct: Array | None, mask: Array) -> tuple[Masked | None]:
    """`ct` where the mask, which broadcasts, is true."""
    if ct is None:
        return (None,)
    mask = broadcast_to(mask, ct.shape)
    return (Masked(select(mask, ct, np.zeros((), ct.dtype)), mask),)


@final
@dataclass(frozen=True, slots=True)
class LogSumExp(Reduction):
    """log Σ exp(x) over `axes`."""

    name: ClassVar[str] = "logsumexp"
    axes: Axes

    def out_type(self, x: Typed) -> ArrayType:
        return ArrayType(folded(x.shape, self.axes), x.dtype)

    def impl(self, x: Array) -> Array:
        y, top, finite = _shifted(x, self.axes)
        total = np.add.reduce(np.exp(y), self.axes)
        top = top.reshape(total.shape)
        if finite:
            return np.log(total) + top
        return np.where(total == 0, top, np.log(np.where(total == 0, 1, total)) + top)[()]

    def reads(self, wanted: tuple[bool, ...]) -> tuple[bool, ...]:
        return (True, False)

    def vjp(self, wanted: Wanted, g: Array, y: None, x: Array) -> tuple[Array | None]:
        (w,) = wanted
        return (None if w is None else reshape(g, kept(w.shape, self.axes)) * Softmax(self.axes, 0.0)(x),)

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Any, *xs: Array) -> tuple[Masked | None]:
        (ct,) = self.vjp(wanted, g.value, y, *xs)
        return _restrict(ct, reshape(g.mask, kept(ct.shape, self.axes)) if ct is not None else g.mask)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return LogSumExp(_next(self.axes))(x)


@final
@dataclass(frozen=True, slots=True)
class Softmax(Reduction):
    """exp(x) / Σ exp(x) over `axes`; `nothing` where all elements are −inf, so that no sum could be 1."""

    name: ClassVar[str] = "softmax"
    axes: Axes
    nothing: float

    def out_type(self, x: Typed) -> ArrayType:
        return ArrayType(x.shape, x.dtype)

    def impl(self, x: Array) -> Array:
        y, _, finite = _shifted(x, self.axes)
        y = np.exp(y)
        total = np.add.reduce(y, self.axes, keepdims=True)
        if finite:
            return np.divide(y, total)
        return np.where(total == 0, y.dtype.type(self.nothing), y / np.where(total == 0, 1, total))

    def reads(self, wanted: tuple[bool, ...]) -> tuple[bool, ...]:
        return (False, True)

    def vjp(self, wanted: Wanted, g: Array, y: Array, x: None) -> tuple[Array | None]:
        (w,) = wanted
        if w is None:
            return (None,)
        part = g * y
        return (part - y * reshape(Sum(self.axes)(part), kept(w.shape, self.axes)),)

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Any, *xs: Array) -> tuple[Masked | None]:
        (ct,) = self.vjp(wanted, g.value, y, *xs)
        return _restrict(ct, reshape(Sum(self.axes)(g.mask), kept(g.mask.shape, self.axes)) != 0)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return Softmax(_next(self.axes), self.nothing)(x)


@final
@dataclass(frozen=True, slots=True)
class LogSoftmax(Reduction):
    """x − log Σ exp(x) over `axes`, without the loss of digits that the difference would bring."""

    name: ClassVar[str] = "log_softmax"
    axes: Axes

    def out_type(self, x: Typed) -> ArrayType:
        return ArrayType(x.shape, x.dtype)

    def impl(self, x: Array) -> Array:
        y, _, finite = _shifted(x, self.axes)
        total = np.add.reduce(np.exp(y), self.axes, keepdims=True)
        if finite:
            return np.subtract(y, np.log(total))
        return np.where(total == 0, x.dtype.type(np.nan), y - np.log(np.where(total == 0, 1, total)))

    def reads(self, wanted: tuple[bool, ...]) -> tuple[bool, ...]:
        return (False, True)

    def vjp(self, wanted: Wanted, g: Array, y: Array, x: None) -> tuple[Array | None]:
        (w,) = wanted
        return (None if w is None else g - exp(y) * reshape(Sum(self.axes)(g), kept(w.shape, self.axes)),)

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Any, *xs: Array) -> tuple[Masked | None]:
        (ct,) = self.vjp(wanted, g.value, y, *xs)
        return _restrict(ct, reshape(Sum(self.axes)(g.mask), kept(g.mask.shape, self.axes)) != 0)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return LogSoftmax(_next(self.axes))(x)
