"""Where the parts of complex numbers stand, as operations that move elements.

A complex buffer of shape S is a buffer of floats of shape (*S, 2), of twice as many elements. Its real parts are a view
of it, with twice the strides, and so are its imaginary parts, one place behind. What is done to the places of complex
numbers is done to those of their parts.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NoReturn, final

import numpy as np

from funcgrad.compiler.untraced import Untraced
from funcgrad.core.errors import InternalError
from funcgrad.core.kinds import IndexMap, Scatter
from funcgrad.core.types import Array, ArrayType, Shape, Typed
from funcgrad.core.views import Places, Position, View, Writing, Written, contiguous

Mover = IndexMap | Scatter


class _Move(Untraced, IndexMap):
    """A move of elements that the compiler itself has put into a program."""

    __slots__ = ()

    @abstractmethod
    def out_type(self, *xs: Typed) -> ArrayType:
        """The type of the result."""

    def impl(self, *xs: Array) -> NoReturn:
        raise InternalError(f"{self.name} is for machine code alone")


@final
@dataclass(frozen=True, slots=True)
class Part(_Move):
    """The real parts (0) or the imaginary parts (1) of a complex buffer."""

    name: ClassVar[str] = "part"
    index: int

    def out_type(self, *xs: Typed) -> ArrayType:
        return ArrayType(xs[0].shape[:-1], xs[0].dtype)

    def view(self, x: View) -> View:
        return View(x.shape[:-1], x.strides[:-1], x.offset + self.index * x.strides[-1])


@final
@dataclass(frozen=True, slots=True)
class Join(_Move):
    """A complex buffer of this shape of its real and its imaginary parts, each of which may be broadcast."""

    name: ClassVar[str] = "join"
    shape: Shape

    def out_type(self, *xs: Typed) -> ArrayType:
        return ArrayType((*self.shape, 2), xs[0].dtype)

    def written(self, *shapes: Shape) -> Written:
        whole = Places(contiguous(self.shape))
        return Written(None, (Writing(0, _of_part(whole, 0)), Writing(1, _of_part(whole, 1))))


@final
@dataclass(frozen=True, slots=True)
class Repeat(_Move):
    """An array broadcast to a shape; weak, if the number is that it stands for."""

    name: ClassVar[str] = "repeat"
    shape: Shape
    weak: bool = False

    def out_type(self, *xs: Typed) -> ArrayType:
        return ArrayType(self.shape, xs[0].dtype, self.weak)

    def view(self, x: View) -> View:
        return x.broadcast(self.shape)


@final
@dataclass(frozen=True, slots=True)
class Arrange(_Move):
    """The axes of an array in another order; along a new one, whose number is None, it is repeated."""

    name: ClassVar[str] = "arrange"
    axes: tuple[int | None, ...]
    shape: Shape

    def out_type(self, *xs: Typed) -> ArrayType:
        return ArrayType(self.shape, xs[0].dtype)

    def view(self, x: View) -> View:
        return View(self.shape, tuple(0 if i is None else x.strides[i] for i in self.axes), x.offset)


@final
@dataclass(frozen=True, slots=True)
class Pick(_Move):
    """The elements at fixed indices of the first and of the last axis."""

    name: ClassVar[str] = "pick"
    first: int
    last: int

    def out_type(self, *xs: Typed) -> ArrayType:
        return ArrayType(xs[0].shape[1:-1], xs[0].dtype)

    def view(self, x: View) -> View:
        offset = x.offset + self.first * x.strides[0] + self.last * x.strides[-1]
        return View(x.shape[1:-1], x.strides[1:-1], offset)


@final
@dataclass(frozen=True, slots=True)
class Lay(_Move):
    """Arrays of one shape, laid out in a new one.

    Attributes:
        shape: The shape of the result.
        views: For each operand, which elements of the result it becomes.
    """

    name: ClassVar[str] = "lay"
    shape: Shape
    views: tuple[View, ...]

    def out_type(self, *xs: Typed) -> ArrayType:
        return ArrayType(self.shape, xs[0].dtype)

    def written(self, *shapes: Shape) -> Written:
        return Written(None, tuple(Writing(i, Places(view)) for i, view in enumerate(self.views)))

    def show(self) -> str:
        return f"{self.name}[{self.shape}]"


@final
@dataclass(frozen=True, slots=True)
class PairView(_Move):
    """What a move does to a complex buffer, if its result is a view."""

    name: ClassVar[str] = "pair_view"
    move: IndexMap

    def out_type(self, *xs: Typed) -> ArrayType:
        moved = self.view(contiguous(xs[0].shape))
        if moved is None:
            raise InternalError(f"{self.move.show()} gives no view of {xs[0].shape}")
        return ArrayType(moved.shape, xs[0].dtype)

    def view(self, x: View) -> View | None:
        moved = self.move.view(View(x.shape[:-1], x.strides[:-1], x.offset))
        return moved and View((*moved.shape, 2), (*moved.strides, x.strides[-1]), moved.offset)

    def show(self) -> str:
        return f"{self.name}[{self.move.show()}]"


@final
@dataclass(frozen=True, slots=True)
class PartTaken(_Move):
    """One part of the elements that a move takes from a complex buffer at positions that are operands."""

    name: ClassVar[str] = "part_taken"
    move: IndexMap
    index: int

    def out_type(self, *xs: Typed) -> ArrayType:
        return ArrayType(self.taken(*(x.shape for x in xs)).view.shape, xs[0].dtype)

    def taken(self, *shapes: Shape) -> Places:
        places = self.move.taken(shapes[0][:-1], *shapes[1:])
        if places is None:
            raise InternalError(f"{self.move.show()} takes nothing at positions")
        return _of_part(places, self.index)

    def show(self) -> str:
        return f"{self.name}[{self.move.show()}, {self.index}]"


@final
@dataclass(frozen=True, slots=True)
class PairWritten(_Move):
    """A complex buffer that a move writes elements into.

    Its operands are those of the move, save that a complex buffer stands for the operand that the result begins with,
    and real and imaginary parts for each operand that is written.

    Attributes:
        move: The move.
        shapes: Those of its operands.
    """

    name: ClassVar[str] = "pair_written"
    move: Mover
    shapes: tuple[Shape, ...]
    shape: Shape

    def out_type(self, *xs: Typed) -> ArrayType:
        written = written_by(self.move, self.shapes)
        first = written.writings[0].operand if written.base is None else written.base
        return ArrayType((*self.shape, 2), xs[self._numbers(written)[first]].dtype)

    def written(self, *shapes: Shape) -> Written:
        written = written_by(self.move, self.shapes)
        number = self._numbers(written)
        writings = []
        for w in written.writings:
            positions = tuple(replace(p, operand=number[p.operand]) for p in w.places.positions)
            places = Places(w.places.view, positions)
            writings += [Writing(number[w.operand] + k, _of_part(places, k), w.combine) for k in (0, 1)]
        return Written(None if written.base is None else number[written.base], tuple(writings))

    def _numbers(self, written: Written) -> list[int]:
        """For each operand of the move, which one of these operands it is, or the first of two."""
        twice = {w.operand for w in written.writings}
        numbers, count = [], 0
        for i in range(len(self.shapes)):
            numbers.append(count)
            count += 1 + (i in twice)
        return numbers

    def show(self) -> str:
        return f"{self.name}[{self.move.show()}]"


def written_by(move: Mover, shapes: Sequence[Shape]) -> Written:
    """What a move writes; it must be one that does."""
    written = move.written(*shapes)
    if written is None:
        raise InternalError(f"{move.show()} writes nothing")
    return written


def separable(written: Written) -> bool:
    """True if parts may be written each on its own."""
    return all(w.combine in (None, np.add) for w in written.writings)


def _of_part(places: Places, index: int) -> Places:
    """The places of the real or the imaginary parts of what stands at these places."""
    view = places.view
    doubled = View(view.shape, tuple(2 * stride for stride in view.strides), 2 * view.offset + index)
    return Places(doubled, tuple(_doubled(p) for p in places.positions))


def _doubled(p: Position) -> Position:
    return replace(p, stride=2 * p.stride)
