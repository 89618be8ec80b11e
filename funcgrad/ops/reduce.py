"""Reductions besides the sum: the largest, the product, any and all, and where the largest stands.

All fold `axes` away. The pullback of a maximum routes the cotangent to the elements that attain it, in equal parts; the
pullback of a product multiplies by the product of the other elements, without dividing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from funcgrad.core.errors import ShapeError
from funcgrad.core.kinds import Reduction
from funcgrad.core.primitive import Cotangent, Masked, Wanted
from funcgrad.core.types import Array, ArrayType, Shape, Typed
from funcgrad.ops.broadcast import Sum, broadcast_to
from funcgrad.ops.cumulative import CumProd
from funcgrad.ops.pointwise import convert, only_where, select
from funcgrad.ops.shape import behind_batch, inverse, reshape, transpose

Axes = tuple[int, ...]


def kept(shape: Shape, axes: Axes) -> Shape:
    """`shape` with length 1 along `axes`: what `keepdims` leaves of it."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def folded(shape: Shape, axes: Axes) -> Shape:
    """`shape` without `axes`."""
    return tuple(n for i, n in enumerate(shape) if i not in axes)


class _Extremum(Reduction):
    """What `max` and `min` share. Where the result is NaN, so is the gradient of all elements that went into it."""

    __slots__ = ()
    axes: Axes

    def out_type(self, x: Typed) -> ArrayType:
        shape = folded(x.shape, self.axes)
        if 0 in x.shape and 0 not in shape:
            raise ShapeError(
                f"{self.name} of no elements: an array of shape {x.shape} is empty along axis {self.axes}, "
                f"and {self.name} has no neutral element",
                f"give a value to start from: {self.name}(x, initial=0.0); or skip the empty case: if x.size",
            )
        return ArrayType(shape, x.dtype)

    def vjp(self, wanted: Wanted, g: Array, y: Array, x: Array) -> tuple[Masked | None]:
        (w,) = wanted
        if w is None:
            return (None,)
        column = kept(w.shape, self.axes)
        y, g = reshape(y, column), reshape(g, column)
        missing = y != y
        chosen = (x == y) | missing
        count = reshape(Sum(self.axes)(chosen), column)
        share = select(missing, g.dtype.type(np.nan), convert(g / count, g.dtype))
        return (only_where(broadcast_to(share, w.shape), chosen),)

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Array, *xs: Array) -> tuple[Masked | None]:
        (ct,) = self.vjp(wanted, g.value, y, *xs)
        if ct is None:
            return (None,)
        return (only_where(ct, reshape(g.mask, kept(ct.shape, self.axes))),)


@final
@dataclass(frozen=True, slots=True)
class Max(_Extremum):
    """The largest element over `axes`."""

    name: ClassVar[str] = "max"
    fold: ClassVar[np.ufunc] = np.maximum
    axes: Axes

    def impl(self, x: Array) -> Array:
        return np.maximum.reduce(x, self.axes)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return Max(behind_batch(self.axes))(x)


@final
@dataclass(frozen=True, slots=True)
class Min(_Extremum):
    """The smallest element over `axes`."""

    name: ClassVar[str] = "min"
    fold: ClassVar[np.ufunc] = np.minimum
    axes: Axes

    def impl(self, x: Array) -> Array:
        return np.minimum.reduce(x, self.axes)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return Min(behind_batch(self.axes))(x)


@final
@dataclass(frozen=True, slots=True)
class Prod(Reduction):
    """The product over `axes`."""

    name: ClassVar[str] = "prod"
    fold: ClassVar[np.ufunc] = np.multiply
    axes: Axes

    def out_type(self, x: Typed) -> ArrayType:
        return ArrayType(folded(x.shape, self.axes), np.multiply.reduce(np.empty(0, x.dtype)).dtype)

    def impl(self, x: Array) -> Array:
        return np.multiply.reduce(x, self.axes)

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (0,) if self.axes else (0, 1)

    def vjp(self, wanted: Wanted, g: Array, y: None, x: Array) -> tuple[Array | None]:
        if wanted[0] is None or not self.axes:
            return (None if wanted[0] is None else g,)
        return (reshape(g, kept(wanted[0].shape, self.axes)) * _product_of_others(x, self.axes),)

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Any, *xs: Array) -> tuple[Cotangent | None, ...]:
        (ct,) = self.vjp(wanted, g.value, y, *xs)
        if ct is None:
            return (None,)
        return (only_where(ct, reshape(g.mask, kept(ct.shape, self.axes))),)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return Prod(behind_batch(self.axes))(x)


def _product_of_others(x: Array, axes: Axes) -> Array:
    """For each element the product of all others over `axes`: of those before it and those behind it."""
    order = (*(i for i in range(len(x.shape)) if i not in axes), *axes)
    moved = transpose(x, order)
    rest = moved.shape[: len(order) - len(axes)]
    line = reshape(moved, (*rest, math.prod(x.shape[i] for i in axes)))
    others = CumProd(len(rest), exclusive=True)(line) * CumProd(len(rest), reverse=True, exclusive=True)(line)
    return transpose(reshape(others, moved.shape), inverse(order))


@final
@dataclass(frozen=True, slots=True)
class AnyTrue(Reduction):
    """Whether one of the elements over `axes` is true (not zero)."""

    name: ClassVar[str] = "any"
    fold: ClassVar[np.ufunc] = np.logical_or
    constant = True
    axes: Axes

    def out_type(self, x: Typed) -> ArrayType:
        return ArrayType(folded(x.shape, self.axes), np.dtype(bool))

    def impl(self, x: Array) -> Array:
        return np.logical_or.reduce(x, self.axes)

    def vjp(self, wanted: Wanted, g: Array, y: Array, x: Array) -> tuple[None]:
        return (None,)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return AnyTrue(behind_batch(self.axes))(x)


@final
@dataclass(frozen=True, slots=True)
class AllTrue(Reduction):
    """Whether all elements over `axes` are true (not zero)."""

    name: ClassVar[str] = "all"
    fold: ClassVar[np.ufunc] = np.logical_and
    constant = True
    axes: Axes

    def out_type(self, x: Typed) -> ArrayType:
        return ArrayType(folded(x.shape, self.axes), np.dtype(bool))

    def impl(self, x: Array) -> Array:
        return np.logical_and.reduce(x, self.axes)

    def vjp(self, wanted: Wanted, g: Array, y: Array, x: Array) -> tuple[None]:
        return (None,)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return AllTrue(behind_batch(self.axes))(x)


class _ArgExtremum(Reduction):
    """What `argmax` and `argmin` share. `axis` is None for the place among all elements in row-major order."""

    __slots__ = ()
    constant = True
    axis: int | None

    def folded(self, ndim: int) -> Axes:
        return tuple(range(ndim)) if self.axis is None else (self.axis,)

    def out_type(self, x: Typed) -> ArrayType:
        axes = self.folded(len(x.shape))
        shape = folded(x.shape, axes)
        if 0 in x.shape and 0 not in shape:
            raise ShapeError(
                f"{self.name} of no elements: an array of shape {x.shape} is empty along axis {axes}",
                "skip the empty case: if x.size",
            )
        return ArrayType(shape, np.dtype(np.intp))

    def vjp(self, wanted: Wanted, g: Array, y: Array, x: Array) -> tuple[None]:
        return (None,)


@final
@dataclass(frozen=True, slots=True)
class ArgMax(_ArgExtremum):
    """The place of the first of the largest elements along `axis`."""

    name: ClassVar[str] = "argmax"
    fold: ClassVar[str] = "argmax"
    axis: int | None

    def impl(self, x: Array) -> Array:
        return np.argmax(x, self.axis)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return ArgMax(1)(_rows(x)) if self.axis is None else ArgMax(self.axis + 1)(x)


@final
@dataclass(frozen=True, slots=True)
class ArgMin(_ArgExtremum):
    """The place of the first of the smallest elements along `axis`."""

    name: ClassVar[str] = "argmin"
    fold: ClassVar[str] = "argmin"
    axis: int | None

    def impl(self, x: Array) -> Array:
        return np.argmin(x, self.axis)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return ArgMin(1)(_rows(x)) if self.axis is None else ArgMin(self.axis + 1)(x)


def _rows(x: Array) -> Array:
    return reshape(x, (x.shape[0], math.prod(x.shape[1:])))
