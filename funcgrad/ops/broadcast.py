"""Broadcast and sum, each the other's pullback: the copy gate adds its cotangents, the add gate copies its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from funcgrad.core.errors import ShapeError
from funcgrad.core.kinds import IndexMap, Reduction
from funcgrad.core.primitive import Cotangent, Masked, Wanted, masked_linear
from funcgrad.core.types import Array, ArrayType, Shape, Typed, type_of
from funcgrad.core.views import View
from funcgrad.ops.shape import behind_batch, reshape

# Up to this many elements a filled array costs less than the view that numpy.broadcast_to makes.
_FILL_BELOW = 4096


@final
@dataclass(frozen=True, slots=True)
class BroadcastTo(IndexMap):
    """`x` repeated along new leading axes and along its axes of length 1: `numpy.broadcast_to`."""

    name: ClassVar[str] = "broadcast_to"
    shape: Shape

    def out_type(self, x: Typed) -> ArrayType:
        tail = self.shape[len(self.shape) - len(x.shape) :]
        if len(x.shape) > len(self.shape) or any(n not in (1, m) for n, m in zip(x.shape, tail, strict=True)):
            raise ShapeError(
                f"an array of shape {x.shape} does not broadcast to {self.shape}",
                "each axis, counted from the last, must be equal or 1: add axes with x[:, None] or reshape",
            )
        return ArrayType(self.shape, x.dtype)

    def impl(self, x: Array) -> Array:
        if math.prod(self.shape) <= _FILL_BELOW:
            y = np.empty(self.shape, x.dtype if x.__class__ is np.ndarray else type_of(x).dtype)
            y[...] = x
            return y
        return np.broadcast_to(x, self.shape)

    def view(self, x: View) -> View:
        return x.broadcast(self.shape)

    def vjp(self, wanted: Wanted, g: Array, y: None, x: None) -> tuple[Array | None]:
        return (unbroadcast(g, wanted[0].shape) if wanted[0] else None,)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        n, *shape = x.shape
        aligned = reshape(x, (n, *(1,) * (len(self.shape) - len(shape)), *shape))
        return BroadcastTo((n, *self.shape))(aligned)


@final
@dataclass(frozen=True, slots=True)
class Sum(Reduction):
    """The sum over `axes`, which disappear. Small integers add up as NumPy's do, in the platform's int."""

    name: ClassVar[str] = "sum"
    fold: ClassVar[np.ufunc] = np.add
    fresh = True
    axes: tuple[int, ...]

    def out_type(self, x: Typed) -> ArrayType:
        shape = tuple(n for i, n in enumerate(x.shape) if i not in self.axes)
        return ArrayType(shape, np.add.reduce(np.empty(0, x.dtype)).dtype)

    def impl(self, x: Array) -> Array:
        return np.add.reduce(x, self.axes)

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (0, 1)

    def vjp(self, wanted: Wanted, g: Array, y: None, x: None) -> tuple[Array | None]:
        if wanted[0] is None:
            return (None,)
        shape = wanted[0].shape
        if g.shape:
            g = reshape(g, tuple([1 if i in self.axes else n for i, n in enumerate(shape)]))
        return (broadcast_to(g, shape),)

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Any, *xs: Array) -> tuple[Cotangent | None, ...]:
        return masked_linear(self, wanted, g, y, xs)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return Sum(behind_batch(self.axes))(x)


def broadcast_to(x: Array, shape: Shape) -> Array:
    """`x` broadcast to `shape`; `x` itself where it has that shape already."""
    return x if x.shape == shape else BroadcastTo(shape)(x)


def stacked(batched: Sequence[bool], xs: Sequence[Array], n: int | None = None) -> tuple[Array, ...]:
    """`xs` with the batch axis in front, of length `n`: the unbatched ones are broadcast along it."""
    if n is None:
        n = batch_length(batched, xs)
    return tuple(x if b else broadcast_to(x, (n, *x.shape)) for x, b in zip(xs, batched, strict=True))


def batch_length(batched: Sequence[bool], xs: Sequence[Array]) -> int:
    """The length of the batch axis."""
    n: int = next(x.shape[0] for x, b in zip(xs, batched, strict=True) if b)
    return n


def unbroadcast(g: Array, shape: Shape) -> Array:
    """The pullback of broadcasting from `shape`: the sum over the axes that broadcasting repeated."""
    lead = len(g.shape) - len(shape)
    axes = (*range(lead), *(i for i, n in enumerate(shape, lead) if n == 1 != g.shape[i]))
    return reshape(Sum(axes)(g) if axes else g, shape)


def unbroadcast_mask(mask: Array, shape: Shape) -> Array:
    """Where the sum that `unbroadcast` takes has a term that is not structurally zero."""
    return mask if mask.shape == shape else unbroadcast(mask, shape) != 0
