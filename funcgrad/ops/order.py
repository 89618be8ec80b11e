"""Sorting. To sort is to permute, so the pullback undoes the permutation.

`Permute` moves the elements of each line along an axis; its pullback is the same with `inverse` turned over. Among
equal elements the stable order decides which of them gets which part of the cotangent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from funcgrad.core.errors import ShapeError
from funcgrad.core.kinds import IndexMap, Library, Sorting
from funcgrad.core.primitive import Cotangent, Masked, Wanted
from funcgrad.core.types import Array, ArrayType, Shape, Typed
from funcgrad.core.views import Places, Position, View, Writing, Written, contiguous
from funcgrad.ops.broadcast import Sum, stacked
from funcgrad.ops.pointwise import convert
from funcgrad.ops.shape import check_axis, reshape


@final
@dataclass(frozen=True, slots=True)
class Sort(Sorting):
    """The elements along `axis` in ascending order."""

    name: ClassVar[str] = "sort"
    axis: int

    def out_type(self, x: Typed) -> ArrayType:
        check_axis(self.name, self.axis, x)
        return ArrayType(x.shape, x.dtype)

    def impl(self, x: Array) -> Array:
        return np.sort(x, self.axis)

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (0,)

    def vjp(self, wanted: Wanted, g: Array, y: None, x: Array) -> tuple[Array | None]:
        if wanted[0] is None:
            return (None,)
        return (Permute(self.axis, inverse=True)(g, Argsort(self.axis)(x)),)

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Any, *xs: Array) -> tuple[Cotangent | None, ...]:
        if wanted[0] is None:
            return (None,)
        order = Argsort(self.axis)(*xs)
        unsort = Permute(self.axis, inverse=True)
        return (Masked(unsort(g.value, order), unsort(g.mask, order)),)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return Sort(self.axis + 1)(x)


@final
@dataclass(frozen=True, slots=True)
class Argsort(Sorting):
    """The places that the elements along `axis` have in `x`, in ascending order; equal elements keep their order."""

    name: ClassVar[str] = "argsort"
    constant = True
    places: ClassVar[bool] = True
    axis: int

    def out_type(self, x: Typed) -> ArrayType:
        check_axis(self.name, self.axis, x)
        return ArrayType(x.shape, np.dtype(np.intp))

    def impl(self, x: Array) -> Array:
        return np.argsort(x, self.axis, kind="stable")

    def vjp(self, wanted: Wanted, g: Array, y: Array, x: Array) -> tuple[None]:
        return (None,)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return Argsort(self.axis + 1)(x)


@final
@dataclass(frozen=True, slots=True)
class Permute(IndexMap):
    """y[i] = x[order[i]] along `axis`, or y[order[i]] = x[i] if `inverse`; each line of `order` is a permutation."""

    name: ClassVar[str] = "permute"
    axis: int
    inverse: bool = False

    def out_type(self, x: Typed, order: Typed) -> ArrayType:
        check_axis(self.name, self.axis, x)
        if x.shape != order.shape:
            raise ShapeError(
                f"permute: an array of shape {x.shape} with an order of shape {order.shape}", "make the shapes equal"
            )
        return ArrayType(x.shape, x.dtype)

    def impl(self, x: Array, order: Array) -> Array:
        if x.shape != order.shape:
            raise ValueError("shapes differ")
        index = _grid(x.shape)
        index[self.axis] = order
        if not self.inverse:
            return x[tuple(index)]
        y = np.empty(x.shape, x.dtype)
        y[tuple(index)] = x
        return y

    def taken(self, *shapes: Shape) -> Places | None:
        return None if self.inverse else self._places(shapes[0])

    def written(self, *shapes: Shape) -> Written | None:
        return Written(None, (Writing(0, self._places(shapes[0])),)) if self.inverse else None

    def _places(self, shape: Shape) -> Places:
        whole = contiguous(shape)
        position = Position(1, whole, shape[self.axis], whole.strides[self.axis])
        along = (*whole.strides[: self.axis], 0, *whole.strides[self.axis + 1 :])
        return Places(View(shape, along), (position,))

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (0, 1)

    def vjp(self, wanted: Wanted, g: Array, y: None, x: None, order: Array) -> tuple[Array | None, None]:
        return (Permute(self.axis, not self.inverse)(g, order) if wanted[0] else None, None)

    def batch(self, batched: tuple[bool, ...], *xs: Array) -> Array:
        return Permute(self.axis + 1, self.inverse)(*stacked(batched, xs))


@final
@dataclass(frozen=True, slots=True)
class SearchSorted(Library):
    """For each element of `v` the number of elements of the sorted vector `a` before it.

    With `side` "left" those smaller than it, with "right" the equal ones too.
    """

    name: ClassVar[str] = "searchsorted"
    constant = True
    side: str = "left"

    def out_type(self, a: Typed, v: Typed) -> ArrayType:
        if len(a.shape) != 1:
            raise ShapeError(f"searchsorted looks in a sorted vector, but a has shape {a.shape}", "pass a.ravel()")
        return ArrayType(v.shape, np.dtype(np.intp))

    def impl(self, a: Array, v: Array) -> Array:
        return np.searchsorted(a, v, self.side)  # type: ignore[call-overload]  # the stubs want a literal

    def vjp(self, wanted: Wanted, g: Array, y: Array, a: Array, v: Array) -> tuple[None, None]:
        return (None, None)

    def batch(self, batched: tuple[bool, ...], a: Array, v: Array) -> Array:
        if not batched[0]:
            return self(a, v)
        n, length = a.shape
        (v,) = stacked(batched[1:], (v,), n)
        a = reshape(a, (n, *(1,) * (len(v.shape) - 1), length))
        v = reshape(v, (*v.shape, 1))
        # NaN sorts behind every number
        before = a < v if self.side == "left" else a <= v
        after = (v != v) & (a == a) if self.side == "left" else v != v
        return convert(Sum((len(v.shape) - 1,))(before | after), np.dtype(np.intp))


def _grid(shape: Shape) -> list[Array]:
    """Positions along each axis, so that indexing with all of them gives the array itself."""
    return [np.arange(n).reshape((n, *(1,) * (len(shape) - i - 1))) for i, n in enumerate(shape)]
