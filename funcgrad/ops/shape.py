"""Reshape, transpose and flip: elements change places, and the pullback puts the cotangent's elements back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from funcgrad.core.errors import ShapeError
from funcgrad.core.kinds import IndexMap
from funcgrad.core.primitive import Wanted
from funcgrad.core.types import Array, ArrayType, Shape, Typed
from funcgrad.core.views import View


@final
@dataclass(frozen=True, slots=True)
class Reshape(IndexMap):
    """The same elements, in row-major order, in another shape."""

    name: ClassVar[str] = "reshape"
    shape: Shape

    def out_type(self, x: Typed) -> ArrayType:
        before, after = math.prod(x.shape), math.prod(self.shape)
        if before != after:
            raise ShapeError(
                f"an array of shape {x.shape} ({before} elements) cannot be reshaped to {self.shape} ({after})",
                "the number of elements must stay the same; one length may be -1 and follows from the others",
            )
        return ArrayType(self.shape, x.dtype)

    def impl(self, x: Array) -> Array:
        return np.asarray(x).reshape(self.shape)

    def view(self, x: View) -> View | None:
        return x.reshape(self.shape)

    def vjp(self, wanted: Wanted, g: Array, y: None, x: None) -> tuple[Array | None]:
        return (Reshape(wanted[0].shape)(g) if wanted[0] else None,)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return Reshape((x.shape[0], *self.shape))(x)


def reshape(x: Array, shape: Shape) -> Array:
    """`x` in another shape; `x` itself where it has that shape already."""
    return x if x.shape == shape else Reshape(shape)(x)


def inverse(order: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes `order`."""
    return tuple(sorted(range(len(order)), key=order.__getitem__))


def behind_batch(axes: Sequence[int]) -> tuple[int, ...]:
    """The same axes of a stack of arrays, whose axis 0 is the batch."""
    return tuple([axis + 1 for axis in axes])


def check_axis(name: str, axis: int, x: Typed) -> None:
    """Refuse an axis that `x` lacks."""
    if not 0 <= axis < len(x.shape):
        raise ShapeError(
            f"{name} along axis {axis} of an array of shape {x.shape}, which has {len(x.shape)} axes",
            "x.ravel() makes one axis of all elements",
        )


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

    def view(self, x: View) -> View:
        return View(tuple([x.shape[i] for i in self.axes]), tuple([x.strides[i] for i in self.axes]), x.offset)

    def vjp(self, wanted: Wanted, g: Array, y: None, x: None) -> tuple[Array | None]:
        return (Transpose(inverse(self.axes))(g) if wanted[0] else None,)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return Transpose((0, *behind_batch(self.axes)))(x)


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

    def view(self, x: View) -> View:
        strides, offset = list(x.strides), x.offset
        for axis in self.axes:
            offset += max(x.shape[axis] - 1, 0) * strides[axis]
            strides[axis] = -strides[axis]
        return View(x.shape, tuple(strides), offset)

    def vjp(self, wanted: Wanted, g: Array, y: None, x: None) -> tuple[Array | None]:
        return (self(g) if wanted[0] else None,)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return Flip(behind_batch(self.axes))(x)
