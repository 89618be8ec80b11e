"""Pad and concatenate, whose pullbacks are slices."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from funcgrad.core.errors import ShapeError
from funcgrad.core.kinds import IndexMap
from funcgrad.core.primitive import Wanted
from funcgrad.core.types import Array, ArrayType, Shape, Typed, promote
from funcgrad.core.views import Writing, Written, contiguous
from funcgrad.ops.broadcast import stacked
from funcgrad.ops.entries import places
from funcgrad.ops.index import getitem
from funcgrad.ops.pointwise import fit

Padding = tuple[tuple[int, int], ...]


@final
@dataclass(frozen=True, slots=True)
class Pad(IndexMap):
    """`x` with zeros around it: `padding` gives the number before and after, for each axis."""

    name: ClassVar[str] = "pad"
    fresh = True
    padding: Padding

    def out_type(self, x: Typed) -> ArrayType:
        if len(self.padding) != len(x.shape) or min(map(min, self.padding), default=0) < 0:
            raise ShapeError(
                f"padding {self.padding} does not fit an array of shape {x.shape}",
                "give a pair of non-negative numbers for each axis: ((before, after), ...)",
            )
        return ArrayType(tuple(a + n + b for n, (a, b) in zip(x.shape, self.padding, strict=True)), x.dtype)

    def impl(self, x: Array) -> Array:
        y = np.zeros(self.out_type(x).shape, x.dtype)
        y[self._inside(x.shape)] = x
        return y

    def written(self, *shapes: Shape) -> Written:
        (shape,) = shapes
        whole = contiguous(tuple([a + n + b for n, (a, b) in zip(shape, self.padding, strict=True)]))
        return Written(None, (Writing(0, places(self._inside(shape), whole)),))

    def _inside(self, shape: tuple[int, ...]) -> tuple[slice, ...]:
        return tuple(slice(a, a + n) for n, (a, _) in zip(shape, self.padding, strict=True))

    def vjp(self, wanted: Wanted, g: Array, y: None, x: None) -> tuple[Array | None]:
        return (getitem(g, self._inside(wanted[0].shape)) if wanted[0] else None,)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return Pad(((0, 0), *self.padding))(x)


@final
@dataclass(frozen=True, slots=True)
class Concatenate(IndexMap):
    """Arrays joined along `axis`; they agree in all other axes."""

    name: ClassVar[str] = "concatenate"
    fresh = True
    axis: int
    lengths: tuple[int, ...]

    def out_type(self, *xs: Typed) -> ArrayType:
        first = xs[0].shape
        rest = {x.shape[: self.axis] + x.shape[self.axis + 1 :] for x in xs}
        if any(len(x.shape) != len(first) for x in xs) or len(rest) > 1:
            raise ShapeError(
                f"concatenate along axis {self.axis}: shapes {', '.join(str(x.shape) for x in xs)} do not fit",
                "all axes but the one that is joined must be equal; stack(...) joins along a new axis",
            )
        length = sum(x.shape[self.axis] for x in xs)
        return ArrayType((*first[: self.axis], length, *first[self.axis + 1 :]), promote(*xs))

    def impl(self, *xs: Array) -> Array:
        return np.concatenate(xs, self.axis)

    def written(self, *shapes: Shape) -> Written:
        lengths = [shape[self.axis] for shape in shapes]
        before, behind = shapes[0][: self.axis], shapes[0][self.axis + 1 :]
        whole = contiguous((*before, sum(lengths), *behind))
        stops = itertools.accumulate(lengths)
        pieces = [(*[slice(None)] * self.axis, slice(stop - n, stop)) for n, stop in zip(lengths, stops, strict=True)]
        return Written(None, tuple([Writing(i, places(piece, whole)) for i, piece in enumerate(pieces)]))

    def vjp(self, wanted: Wanted, g: Array, y: None, *xs: None) -> tuple[Array | None, ...]:
        before = (slice(None),) * self.axis
        stops = itertools.accumulate(self.lengths)
        return tuple(
            None if w is None else fit(getitem(g, (*before, slice(stop - n, stop))), w)
            for w, n, stop in zip(wanted, self.lengths, stops, strict=True)
        )

    def batch(self, batched: tuple[bool, ...], *xs: Array) -> Array:
        return Concatenate(self.axis + 1, self.lengths)(*stacked(batched, xs))


def concatenate(xs: Sequence[Array], axis: int) -> Array:
    """The arrays `xs` joined along `axis`, counted from the front."""
    for x in xs:
        if not x.shape:
            raise ShapeError(
                "concatenate got a 0-d array, which has no axis to join along", "stack(...) joins scalars into a vector"
            )
    lengths = tuple(x.shape[axis] if axis < len(x.shape) else 0 for x in xs)
    return Concatenate(axis, lengths)(*xs)
