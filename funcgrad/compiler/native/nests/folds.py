"""The accumulators of a fold: how they begin, take in a value, and are combined."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from funcgrad.compiler.native.ir.kernel import Fold
from funcgrad.compiler.native.machine.builder import I64, PTR, Builder, Type, Value, constant
from funcgrad.compiler.native.nests.axis import Axis
from funcgrad.compiler.native.scalars.convert import convert, lane_of
from funcgrad.compiler.native.scalars.operations import combine, extreme, neutral
from funcgrad.core.types import DType


@final
class Folding:
    """One fold, with accumulators of so many lanes.

    An accumulator is a value; that of an argmax is a value and the number of the element it comes from.

    Attributes:
        lanes: The lanes of an accumulator.
        width: How many values it consists of.
        types: Their types.
    """

    def __init__(self, b: Builder, fold: Fold, lanes: int) -> None:
        self._b = b
        self._source = fold.x.dtype
        self._arg = fold.how if isinstance(fold.how, str) else None
        self._how: np.ufunc | None = None if isinstance(fold.how, str) else fold.how
        self._target = fold.out.dtype
        # half precision adds up in single, as NumPy does
        self._dtype: DType = self._source if self._arg else fold.out.dtype
        if self._dtype == np.float16:
            self._dtype = np.dtype(np.float32)
        lane = lane_of(self._dtype)
        assert lane is not None
        self._type = Type(lane, lanes)
        self.types = [self._type, Type("i64", lanes)][: 2 if self._arg else 1]
        self.lanes = lanes
        self.width = 2 if self._arg else 1

    def start(self) -> list[Value]:
        """The accumulator that has taken in nothing."""
        if self._arg:
            # a number that no element has: the first one is taken, whatever it is
            first = constant(self._type, extreme(self._dtype, self._arg == "argmax"))
            return [first, constant(self._type.of("i64"), -1)]
        return [constant(self._type, neutral(self._how, self._dtype))]

    def convert(self, x: Value) -> Value:
        """A value as the accumulator takes it."""
        return convert(self._b, x, self._source, self._dtype)

    def add(self, part: Sequence[Value], x: Value, number: Value | None, mask: Value | None) -> list[Value]:
        """Take in a value, in the lanes that count."""
        b = self._b
        if self._arg is None:
            assert self._how is not None
            if mask is not None:
                x = b.select(mask, x, constant(self._type, neutral(self._how, self._dtype)))
            return [combine(b, self._how, part[0], x, self._dtype)]
        assert number is not None
        number = b.splat(number, self.lanes)
        better = self._better(x, part[0])
        better = b.op("or", better, b.compare("slt", part[1], b.like(part[1], 0)))
        if mask is not None:
            better = b.op("and", better, mask)
        return [b.select(better, x, part[0]), b.select(better, number, part[1])]

    def join(self, x: Sequence[Value], y: Sequence[Value]) -> list[Value]:
        """Two accumulators as one."""
        b = self._b
        if self._arg is None:
            assert self._how is not None
            return [combine(b, self._how, x[0], y[0], self._dtype)]
        zero = b.like(y[1], 0)
        better = self._better(y[0], x[0])
        # of equal ones the first; and something rather than nothing
        worse = self._better(x[0], y[0])
        tie = b.op("and", b.op("xor", b.op("or", better, worse), b.like(better, True)), b.compare("slt", y[1], x[1]))
        better = b.op("or", better, tie)
        better = b.op("and", better, b.compare("sge", y[1], zero))
        better = b.op("or", better, b.compare("slt", x[1], zero))
        return [b.select(better, y[0], x[0]), b.select(better, y[1], x[1])]

    def _better(self, x: Value, y: Value) -> Value:
        """Whether `x` comes before `y`: it is greater, or NaN where the other is not."""
        b = self._b
        if not self._type.is_float:
            signed = "u" if self._dtype.kind in "ub" else "s"
            return b.compare(f"{signed}{'gt' if self._arg == 'argmax' else 'lt'}", x, y)
        # unordered or greater: true for a NaN on either side
        first = b.compare("ugt" if self._arg == "argmax" else "ult", x, y)
        return b.op("and", first, b.compare("ord", y, y))

    def across(self, part: Sequence[Value]) -> list[Value]:
        """The lanes of an accumulator as one."""
        b = self._b
        lanes = self.lanes
        values = list(part)
        while lanes > 1:
            half = lanes // 2
            if half == 1:
                low, high = ([b.lane(x, i) for x in values] for i in (0, 1))
            else:
                low = [b.shuffle(x, x, range(half)) for x in values]
                high = [b.shuffle(x, x, range(half, lanes)) for x in values]
            values = self.join(low, high)
            lanes = half
        return values

    def finish(self, part: Sequence[Value]) -> Value:
        """The result."""
        return part[1] if self._arg else convert(self._b, part[0], self._dtype, self._target)


@final
@dataclass(frozen=True, slots=True)
class Partials:
    """Memory for the accumulators of folds over parts of the folded axes.

    Attributes:
        folds: The folds.
        count: How many parts there are.
        axes: The axes that are not folded, and how many accumulators there are along each; lanes go along the last one.
        at: Where the memory of the part at hand begins, or that of the first.
        place: Where the memory of all parts begins, in bytes within a block.
    """

    folds: tuple[Fold, ...]
    count: int
    axes: tuple[tuple[Axis, int], ...]
    at: Value = Value("null", PTR)  # noqa: RUF009
    place: int = 0

    @property
    def size(self) -> int:
        """The bytes for each part: 8 for each value."""
        return 8 * self._one * sum(map(width_of, self.folds))

    @property
    def _one(self) -> int:
        return math.prod(n for _, n in self.axes)

    def placed(self, place: int) -> Partials:
        """The same at a place of a block."""
        return replace(self, place=place)

    def within(self, b: Builder, block: Value) -> Partials:
        """The same in a block that begins at an address."""
        return replace(self, at=b.offset(block, self.place, "i8"))

    def of(self, b: Builder, number: Value) -> Partials:
        """The memory of one part."""
        distance = b.op("mul", number, Value(str(self.size), I64))
        return replace(self, at=b.offset(self.at, distance, "i8"))

    def put(self, b: Builder, s: Fold, parts: Sequence[Sequence[Value]], entered: Mapping[Axis, Value]) -> None:
        """Leave accumulators: those of one index, or of several vectors of indices along the last axis."""
        for k, part in enumerate(parts):
            for place, x in zip(self._places(b, s, k * part[0].type.lanes, entered), part, strict=True):
                b.store(x, place, 4)

    def get(self, b: Builder, s: Fold, fold: Folding, count: int, entered: Mapping[Axis, Value]) -> list[list[Value]]:
        """The accumulators that were left."""
        return [
            [
                b.load(type, place, 4)
                for type, place in zip(fold.types, self._places(b, s, k * fold.lanes, entered), strict=True)
            ]
            for k in range(count)
        ]

    def _places(self, b: Builder, s: Fold, shift: int, entered: Mapping[Axis, Value]) -> list[Value]:
        index = Value(str(shift), I64)
        step = self._one
        for axis, n in self.axes:
            step //= n
            index = b.op("add", index, b.op("mul", entered[axis], Value(str(step), I64)))
        first = sum(map(width_of, self.folds[: self.folds.index(s)]))
        # a lane of a vector may be smaller than its room
        base = [b.offset(self.at, 8 * self._one * (first + k), "i8") for k in range(width_of(s))]
        bytes_ = [4 if type.bits <= 32 else 8 for type in folding(b, s, 1).types]
        return [b.offset(p, b.op("mul", index, Value(str(n), I64)), "i8") for p, n in zip(base, bytes_, strict=True)]


def width_of(fold: Fold) -> int:
    """Of how many values an accumulator consists."""
    return 2 if isinstance(fold.how, str) else 1


def folding(b: Builder, fold: Fold, lanes: int) -> Folding:
    """The accumulators of a fold."""
    return Folding(b, fold, lanes)
