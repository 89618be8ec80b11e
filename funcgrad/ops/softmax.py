"""The normalized exponentials: softmax, its logarithm, and the logarithm of its denominator.

All subtract the largest element first, so nothing overflows. Where infinities meet, the values are the limits: of
several infinite elements each takes an equal part, and no other element takes any. They are primitives, not
compositions, because the limits of a composition's derivatives are not those of its parts (0 · inf), and because the
pullback needs one array where a composition would keep three.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from funcgrad.core.kinds import Library, Reduction
from funcgrad.core.primitive import Masked, Wanted
from funcgrad.core.types import Array, ArrayType, Typed
from funcgrad.ops.broadcast import Sum
from funcgrad.ops.elementwise import add, divide, equal, exp, isinf, log, multiply, subtract
from funcgrad.ops.pointwise import only_where, select
from funcgrad.ops.reduce import Axes, Max, folded, kept
from funcgrad.ops.shape import behind_batch, reshape


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


def _exponents(x: Array, axes: Axes) -> tuple[Array, Array]:
    """`x` less its largest element, as an expansion, and that element. Infinite elements are 0 apart.

    Where all are −inf, all exponents are 0: the caller corrects the sum, of which there are fewer.
    """
    top = reshape(Max(axes)(x), kept(x.shape, axes))
    return select(equal(x, top), x.dtype.type(0), subtract(x, top)), top


def _total(y: Array, axes: Axes) -> Array:
    return reshape(Sum(axes)(y), kept(y.shape, axes))


def _reached(mask: Array, axes: Axes) -> Array:
    """Where a cotangent arrives: all along `axes` from an element that is not structurally zero."""
    return reshape(Sum(axes)(mask), kept(mask.shape, axes)) != 0


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

    def expand(self, x: Any) -> Any:
        if 0 in x.shape:
            return log(Sum(self.axes)(exp(x)))
        top = Max(self.axes)(x)
        # from an infinite one nothing is subtracted: exp gives 0 or inf then, and log gives back −inf or inf
        shift = select(isinf(top), x.dtype.type(0), top)
        y = subtract(x, reshape(shift, kept(x.shape, self.axes)))
        return add(log(Sum(self.axes)(exp(y))), shift)

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (0,)

    def vjp(self, wanted: Wanted, g: Array, y: None, x: Array) -> tuple[Array | None]:
        (w,) = wanted
        return (None if w is None else reshape(g, kept(w.shape, self.axes)) * Softmax(self.axes, 0.0)(x),)

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Any, *xs: Array) -> tuple[Masked | None]:
        (ct,) = self.vjp(wanted, g.value, y, *xs)
        return (None if ct is None else only_where(ct, reshape(g.mask, kept(ct.shape, self.axes))),)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return LogSumExp(behind_batch(self.axes))(x)


@final
@dataclass(frozen=True, slots=True)
class Softmax(Library):
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

    def expand(self, x: Any) -> Any:
        if 0 in x.shape:
            return x
        exponents, top = _exponents(x, self.axes)
        y = exp(exponents)
        none = math.inf if self.nothing == 0 else 1 / self.nothing
        total = select(equal(top, -math.inf), x.dtype.type(none), _total(y, self.axes))
        # one quotient for all elements: a product is rounded once more, but takes a fraction of the time
        return multiply(y, divide(x.dtype.type(1), total))

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (1,)

    def vjp(self, wanted: Wanted, g: Array, y: Array, x: None) -> tuple[Array | None]:
        (w,) = wanted
        if w is None:
            return (None,)
        part = g * y
        return (part - y * reshape(Sum(self.axes)(part), kept(w.shape, self.axes)),)

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Any, *xs: Array) -> tuple[Masked | None]:
        (ct,) = self.vjp(wanted, g.value, y, *xs)
        return (None if ct is None else only_where(ct, _reached(g.mask, self.axes)),)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return Softmax(behind_batch(self.axes), self.nothing)(x)


@final
@dataclass(frozen=True, slots=True)
class LogSoftmax(Library):
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

    def expand(self, x: Any) -> Any:
        if 0 in x.shape:
            return x
        y, top = _exponents(x, self.axes)
        none = equal(top, -math.inf)
        return subtract(y, select(none, x.dtype.type(math.nan), log(_total(exp(y), self.axes))))

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (1,)

    def vjp(self, wanted: Wanted, g: Array, y: Array, x: None) -> tuple[Array | None]:
        (w,) = wanted
        return (None if w is None else g - exp(y) * reshape(Sum(self.axes)(g), kept(w.shape, self.axes)),)

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Any, *xs: Array) -> tuple[Masked | None]:
        (ct,) = self.vjp(wanted, g.value, y, *xs)
        return (None if ct is None else only_where(ct, _reached(g.mask, self.axes)),)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return LogSoftmax(behind_batch(self.axes))(x)
