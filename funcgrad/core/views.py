"""Views: which elements of a buffer an array consists of, as numbers that a compiler can calculate with.

A buffer holds the elements of one array in row-major order. Element [i, j, …] of a view stands at place
`offset + i·strides[0] + j·strides[1] + …` of it. Offsets and strides count elements.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from funcgrad.core.types import Shape


@final
@dataclass(frozen=True, slots=True)
class View:
    """Elements of a buffer, in a shape."""

    shape: Shape
    strides: tuple[int, ...]
    offset: int = 0

    @property
    def whole(self) -> bool:
        """True if these are all elements of a buffer of this size, in their order."""
        return self.offset == 0 and self.canonical == contiguous(self.shape).strides

    @property
    def canonical(self) -> tuple[int, ...]:
        """The strides, with 0 along axes of length 1, which no index goes along."""
        if 1 not in self.shape:
            return self.strides
        return tuple([0 if n == 1 else stride for n, stride in zip(self.shape, self.strides, strict=True)])

    def broadcast(self, shape: Shape) -> View:
        """The same elements, repeated along new leading axes and along axes of length 1."""
        if shape == self.shape and 1 not in shape:
            return self
        lead = len(shape) - len(self.shape)
        strides = [0 if n == 1 else stride for n, stride in zip(self.shape, self.strides, strict=True)]
        return View(shape, (*(0,) * lead, *strides), self.offset)

    def reshape(self, shape: Shape) -> View | None:
        """The same elements in row-major order in another shape; None if they are not evenly spaced there."""
        if self.whole or 0 in shape:
            return View(shape, contiguous(shape).strides, self.offset)
        return _reshaped(self, shape)


def contiguous(shape: Shape) -> View:
    """All elements of a buffer, with 0 as the stride of axes of length 1."""
    strides = []
    step = 1
    for n in reversed(shape):
        strides.append(0 if n == 1 else step)
        step *= n
    return View(shape, tuple(strides[::-1]))


def _reshaped(x: View, shape: Shape) -> View | None:
    """Match runs of axes whose lengths multiply to the same number; within a run, the old axes must be one line."""
    old = [(n, stride) for n, stride in zip(x.shape, x.strides, strict=True) if n != 1]
    strides = [0] * len(shape)
    i = 0
    new = [axis for axis, n in enumerate(shape) if n != 1]
    while new:
        run = [new.pop(0)]
        length, there = shape[run[0]], old[i][0]
        first = i
        i += 1
        while length != there:
            if length < there:
                run.append(new.pop(0))
                length *= shape[run[-1]]
            else:
                there *= old[i][0]
                i += 1
        if any(old[k][1] != old[k + 1][0] * old[k + 1][1] for k in range(first, i - 1)):
            return None
        step = old[i - 1][1]
        for axis in reversed(run):
            strides[axis] = step
            step *= shape[axis]
    return View(shape, tuple(strides), x.offset)


@final
@dataclass(frozen=True, slots=True)
class Position:
    """An index that is known only when the program runs.

    Attributes:
        operand: Which operand of the operation holds it.
        view: The elements of that operand, over the axes of what is read or written.
        length: How many places there are along the axis: the index is one of 0 … length − 1, or −length … −1.
        stride: How far apart they are in the buffer.
        clamped: True if an index outside is taken to the nearest place; else it is an error.
        size: How many places are meant, from the index on. A clamped one leaves room for them: after `length` is added
            to a negative index, it is taken into 0 … length − size.
    """

    operand: int
    view: View
    length: int
    stride: int
    clamped: bool = False
    size: int = 1


@final
@dataclass(frozen=True, slots=True)
class Places:
    """Elements of a buffer, some of whose indices are known only when the program runs.

    Attributes:
        view: Where they stand if those indices are 0.
        positions: Those indices: each adds `index · stride`.
    """

    view: View
    positions: tuple[Position, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class Writing:
    """An operand whose elements go to places of a result.

    Attributes:
        operand: Which operand it is.
        places: Where its elements go, over its own axes.
        combine: How they are combined with what is there; None to replace it. Of equal places the last one counts,
            or all do.
    """

    operand: int
    places: Places
    combine: np.ufunc | None = None


@final
@dataclass(frozen=True, slots=True)
class Written:
    """A new array, as elements that are written one after the other.

    Attributes:
        base: The operand of whose elements the array consists at first, as values of the result's dtype; None for
            zeros.
        writings: What is written, in order, as values of the result's dtype.
    """

    base: int | None
    writings: tuple[Writing, ...]


def size(shape: Shape) -> int:
    """The number of elements."""
    return math.prod(shape)
