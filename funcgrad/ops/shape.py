"""Transpose and flip: elements change places, and the pullback puts the cotangent's elements back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from funcgrad.core.errors import ShapeError
from funcgrad.core.kinds import IndexMap
from funcgrad.core.primitive import Wanted
from funcgrad.core.types import Array, ArrayType, Typed


@final
@dataclass(frozen=True, slots=True)
class Transpose(IndexMap):
    """The axes in another order: axis `i` of the result is axis `axes[i]` of `x`."""

    name: ClassVar[str] = "transpose"
    axes: tuple[int, ...]

    def out_type(self, x: Typed) -> ArrayType:
        if sorted(self.axes) != list(range(len(x.shape))):
            raise ShapeError(
                f"axes={self.axes} is not an order of the {len(x.shape)} axes of an array of shape {x.shape}",
                "name each axis once, as in x.transpose(1, 0)",
            )
        return ArrayType(tuple(x.shape[axis] for axis in self.axes), x.dtype)

    def impl(self, x: Array) -> Array:
        return np.asarray(x).transpose(self.axes)

    def vjp(self, wanted: Wanted, g: Array, y: None, x: None) -> tuple[Array | None]:
        inverse = tuple(sorted(range(len(self.axes)), key=self.axes.__getitem__))
        return (Transpose(inverse)(g) if wanted[0] else None,)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return Transpose((0, *(axis + 1 for axis in self.axes)))(x)


def transpose(x: Array, axes: tuple[int, ...] | None = None) -> Array:
    """The axes of `x` in the order `axes`, or reversed; `x` itself where nothing moves."""
    if axes is None:
        axes = tuple(range(len(x.shape)))[::-1]
    return x if axes == tuple(range(len(axes))) and len(axes) == len(x.shape) else Transpose(axes)(x)


def move_axis(x: Array, source: int, target: int) -> Array:
    """`x` with axis `source` at place `target`, both counted from the front."""
    order = [axis for axis in range(len(x.shape)) if axis != source]
    order.insert(target, source)
    return transpose(x, tuple(order))


@final
@dataclass(frozen=True, slots=True)
class Flip(IndexMap):
    """The elements in reverse order along `axes`."""

    name: ClassVar[str] = "flip"
    axes: tuple[int, ...]

    def out_type(self, x: Typed) -> ArrayType:
        return ArrayType(x.shape, x.dtype)

    def impl(self, x: Array) -> Array:
        return np.flip(x, self.axes)

    def vjp(self, wanted: Wanted, g: Array, y: None, x: None) -> tuple[Array | None]:
        return (self(g) if wanted[0] else None,)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return Flip(tuple(axis + 1 for axis in self.axes))(x)
