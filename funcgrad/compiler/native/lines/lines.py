"""Lines: what an operation along one axis of an array reads and writes, one line after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import final

from funcgrad.compiler.native.machine.builder import I64, Builder, Value
from funcgrad.compiler.native.scalars.convert import memory_lane
from funcgrad.core.types import DType, Shape
from funcgrad.core.views import View


@final
@dataclass(frozen=True, slots=True)
class Stream:
    """A view of a buffer that is read or written line by line.

    Attributes:
        pointer: The address of its first element.
        dtype: What stands there.
        strides: Along each axis.
    """

    pointer: Value
    dtype: DType
    strides: tuple[int, ...]

    @property
    def lane(self) -> str:
        """The type of an element in memory."""
        return memory_lane(self.dtype)

    def at(self, b: Builder, axis: int, index: Value | int) -> Stream:
        """The same at an index of an axis."""
        stride = self.strides[axis]
        if not stride:
            return self
        if isinstance(index, int):
            shift: Value | int = index * stride
        else:
            shift = index if stride == 1 else b.op("mul", index, Value(str(stride), I64))
        return replace(self, pointer=b.offset(self.pointer, shift, self.lane))


@final
@dataclass(frozen=True, slots=True)
class Axis:
    """An axis, with a stride for each view."""

    length: int
    strides: tuple[int, ...]


def split(shape: Shape, views: Sequence[View], along: int, reverse: bool = False) -> list[Axis]:
    """The axis of the lines, in running order, and behind it the others, as few as may be."""
    axes = [Axis(n, tuple(v.canonical[i] for v in views)) for i, n in enumerate(shape)]
    line = axes.pop(along)
    others: list[Axis] = []
    for axis in axes:
        if axis.length == 1:
            continue
        if others and all(s == t * axis.length for s, t in zip(others[-1].strides, axis.strides, strict=True)):
            axis = Axis(others.pop().length * axis.length, axis.strides)
        others.append(axis)
    sign = -1 if reverse else 1
    return [Axis(line.length, tuple(sign * s for s in line.strides)), *others]


def streams(
    b: Builder, buffers: Sequence[tuple[Value, DType]], views: Sequence[View], axes: Sequence[Axis], reverse: bool
) -> list[Stream]:
    """The views as streams over these axes, from the first element in running order on."""
    out = []
    for k, ((pointer, dtype), view) in enumerate(zip(buffers, views, strict=True)):
        first = view.offset + ((1 - axes[0].length) * axes[0].strides[k] if reverse else 0)
        strides = tuple(axis.strides[k] for axis in axes)
        out.append(Stream(b.offset(pointer, first, memory_lane(dtype)), dtype, strides))
    return out


def each(b: Builder, length: int, body: Callable[[Value], object]) -> None:
    """Run `body` for each index."""

    def step(i: Value, _: list[Value]) -> Sequence[Value]:
        body(i)
        return ()

    b.loop(0, length, 1, (), step)


def prefixes(b: Builder, y: Value, fold: Callable[[Value, Value], Value]) -> Value:
    """The running folds of the lanes of a vector.

    They are made by halves: the fold of the first half is folded into each element of the second one (Sklansky,
    Conditional-sum addition logic, IRE Transactions on Electronic Computers 9, 1960).
    """
    lanes = y.type.lanes
    half = 1
    while half < lanes:
        # the last element of each first half, for all of its second half
        order = [(j & ~(2 * half - 1)) + half - 1 if j & half else j for j in range(lanes)]
        second = ", ".join(f"i1 {'true' if j & half else 'false'}" for j in range(lanes))
        y = b.select(Value(f"<{second}>", y.type.of("i1")), fold(b.shuffle(y, y, order), y), y)
        half *= 2
    return y
