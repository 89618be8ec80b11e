"""Running folds as code: each element of a line is made of the one before it.

Where the line is not the last axis, the lanes of vectors go across lines, and each line is computed in order. Along the
last axis an order of additions that has no chain of n steps is faster: the lanes of one vector are folded by halves,
then comes what was before them. So the error grows with the number of vectors and not of elements, and a running sum of
numbers that are not negative never decreases, as rounding preserves order.

What is not associative in its range is computed in order: products of floats, whose parts may overflow or vanish where
the product does not; half precision, which is rounded to so few digits that the order is seen; and recurrences. A line
of sums that are not all finite is computed again, in order, so that it is infinite or NaN where it should be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import final

import numpy as np

from funcgrad.compiler.native.lines.lines import Stream, each, prefixes, split, streams
from funcgrad.compiler.native.machine.builder import I1, Builder, Type, Value, constant
from funcgrad.compiler.native.scalars.convert import convert, from_memory, lane_of, to_memory
from funcgrad.compiler.native.scalars.operations import combine, neutral
from funcgrad.core.ir import Equation
from funcgrad.core.kinds import Running
from funcgrad.core.types import DType
from funcgrad.core.views import View, contiguous

_FOLDS = (np.add, np.multiply, np.maximum, np.minimum)
# so many vectors of one line across lines stay in registers; wider ones are read back from memory, row by row
_IN_REGISTERS = 8
# so many elements of a line are written one after the other, without a loop
_SHORT = 8


def has_code(equation: Equation) -> bool:
    """True if there is code for a running operation on values of these dtypes."""
    primitive = equation.primitive
    assert isinstance(primitive, Running)
    return primitive.fold in _FOLDS and all(lane_of(x.dtype) is not None for x in (*equation.inputs, *equation.outputs))


def readable(view: View, axis: int) -> bool:
    """True if an operand may be read where it stands: its last axis is one piece of memory, or one element.

    Args:
        view: The operand.
        axis: That of the lines, which may lie backwards.
    """
    last = max((i for i, n in enumerate(view.shape) if n != 1), default=axis)
    return view.canonical[last] in ((0, 1, -1) if last == axis else (0, 1))


def emit(
    b: Builder,
    primitive: Running,
    operands: Sequence[tuple[Value, DType, View]],
    out: tuple[Value, DType],
    vector_bytes: int,
) -> None:
    """Write the loops of a running operation.

    Args:
        b: Where to.
        primitive: The operation.
        operands: The address of the buffer, the dtype and the view of each operand; no axis is empty.
        out: The address and the dtype of the result, which has a buffer of its own.
        vector_bytes: The size of a vector.
    """
    shape = operands[0][2].shape
    views = [*(view for _, _, view in operands), contiguous(shape)]
    axes = split(shape, views, primitive.axis, primitive.reverse)
    buffers = [*((pointer, dtype) for pointer, dtype, _ in operands), out]
    there = streams(b, buffers, views, axes, primitive.reverse)
    lengths = tuple(axis.length for axis in axes)
    across = len(axes) > 1 and axes[-1].strides[-1] == 1
    _Writer(b, primitive, lengths, across, vector_bytes).loops(1, there)


@final
class _Writer:
    """Writes the code of one operation, of which the last stream is the result.

    Args:
        b: Where to.
        primitive: The operation.
        lengths: That of the lines, and those of the axes across them.
        across: True if the lanes of vectors go along the last of these.
        vector_bytes: The size of a vector.
    """

    def __init__(
        self, b: Builder, primitive: Running, lengths: tuple[int, ...], across: bool, vector_bytes: int
    ) -> None:
        self._b = b
        self._primitive = primitive
        self._lengths = lengths
        self._across = across
        self._vector_bytes = vector_bytes

    def loops(self, axis: int, streams: Sequence[Stream]) -> None:
        """The loops over the axes from this one on, and the lines within."""
        if axis < len(self._lengths) - self._across:
            each(
                self._b, self._lengths[axis], lambda i: self.loops(axis + 1, [s.at(self._b, axis, i) for s in streams])
            )
            return
        length = self._lengths[0]
        if self._primitive.exclusive:
            self._begin(streams[-1])
            length -= 1
            streams = [*streams[:-1], streams[-1].at(self._b, 0, 1)]
        if length and self._across:
            self._rows(length, streams)
        elif length:
            self._line(length, streams)

    # ── elements

    def _first(self, dtype: DType, lanes: int) -> Value:
        """What a line begins with, before its first element."""
        lane = lane_of(dtype)
        assert lane is not None
        # a sum that begins with nothing is 0, whose sign is that of no number
        start = 0 if self._primitive.fold is np.add else neutral(self._primitive.fold, dtype)
        return constant(Type(lane, lanes), start)

    def _read(self, s: Stream, lanes: int) -> Value:
        """So many elements, as they are computed with in the result's dtype."""
        b = self._b
        single = lanes == 1 or not s.strides[-1]
        x = b.load(Type(s.lane, 1 if single else lanes), s.pointer, s.dtype.itemsize)
        return b.splat(from_memory(b, x, s.dtype), lanes)

    def _write(self, x: Value, s: Stream) -> None:
        self._b.store(to_memory(self._b, x, s.dtype), s.pointer, s.dtype.itemsize)

    def _next(self, before: Value | None, streams: Sequence[Stream], lanes: int) -> Value:
        """The element behind `before`, written to the result; None for nothing."""
        b, out = self._b, streams[-1]
        *factors, x = (convert(b, self._read(s, lanes), s.dtype, out.dtype) for s in streams[:-1])
        if before is None and (factors or self._primitive.exclusive):
            before = self._first(out.dtype, lanes)
        for a in factors:
            assert before is not None
            before = combine(b, np.multiply, a, before, out.dtype)
        y = x if before is None else combine(b, self._primitive.fold, before, x, out.dtype)
        self._write(y, out)
        return y

    # ── lanes across lines

    def _begin(self, out: Stream) -> None:
        if self._across:
            self._columns([out], lambda part, lanes: self._write(self._first(out.dtype, lanes), part[-1]))
        else:
            self._write(self._first(out.dtype, 1), out)

    def _most(self, dtype: DType) -> int:
        return max(1, self._vector_bytes // dtype.itemsize)

    def _pieces(self, start: int, stop: int, most: int) -> list[tuple[int, int]]:
        """Vectors that cover a row: where each begins, and its lanes."""
        out = []
        while start < stop:
            lanes = min(most, 1 << ((stop - start).bit_length() - 1))
            out.append((start, lanes))
            start += lanes
        return out

    def _columns(self, streams: Sequence[Stream], body: Callable[[list[Stream], int], object]) -> None:
        """Run `body` for all vectors of a row."""
        b, width, last = self._b, self._lengths[-1], len(self._lengths) - 1
        most = self._most(streams[-1].dtype)
        whole = width - width % most if width >= 2 * most else 0

        def step(j: Value, _: list[Value]) -> Sequence[Value]:
            body([s.at(b, last, j) for s in streams], most)
            return ()

        if whole:
            b.loop(0, whole, most, (), step)
        for at, lanes in self._pieces(whole, width, most):
            body([s.at(b, last, at) for s in streams], lanes)

    def _rows(self, length: int, streams: Sequence[Stream]) -> None:
        b, out = self._b, streams[-1]
        pieces = self._pieces(0, self._lengths[-1], self._most(out.dtype))
        if len(pieces) <= _IN_REGISTERS:
            last = len(self._lengths) - 1

            def row(there: Sequence[Stream], before: Sequence[Value | None]) -> list[Value]:
                return [
                    self._next(x, [s.at(b, last, at) for s in there], lanes)
                    for x, (at, lanes) in zip(before, pieces, strict=True)
                ]

            carried = row(streams, [None] * len(pieces))
            if length > 1:
                b.loop(1, length, 1, carried, lambda i, before: row([s.at(b, 0, i) for s in streams], before))
            return
        self._columns(streams, lambda part, lanes: self._next(None, part, lanes))
        if length > 1:
            above, below = [out], [*(s.at(b, 0, 1) for s in streams)]
            each(b, length - 1, lambda i: self._row([s.at(b, 0, i) for s in (*above, *below)]))

    def _row(self, streams: Sequence[Stream]) -> None:
        """One row of the result, from the one before it, which is the first stream."""
        self._columns(streams, lambda part, lanes: self._next(self._read(part[0], lanes), part[1:], lanes))

    # ── one line

    def _line(self, length: int, streams: Sequence[Stream]) -> None:
        out = streams[-1]
        lanes = min(self._most(out.dtype), 1 << (length.bit_length() - 1))
        if lanes == 1 or not self._in_blocks(streams):
            self._in_order(0, length, None, streams)
            return
        before, odd = self._blocks(length, lanes, streams)
        whole = length - length % lanes
        if whole < length:
            self._in_order(whole, length, before, streams)
        if odd is not None:
            self._b.when(odd, lambda: self._in_order(0, length, None, streams))

    def _in_order(self, start: int, stop: int, before: Value | None, streams: Sequence[Stream]) -> None:
        """Elements one after the other."""
        b = self._b
        if stop - start <= _SHORT:
            for i in range(start, stop):
                before = self._next(before, [s.at(b, 0, i) for s in streams], 1)
            return
        if before is None:
            before = self._next(None, [s.at(b, 0, start) for s in streams], 1)
            start += 1
        b.loop(start, stop, 1, [before], lambda i, y: [self._next(y[0], [s.at(b, 0, i) for s in streams], 1)])

    def _in_blocks(self, streams: Sequence[Stream]) -> bool:
        """True if the order does not matter, up to rounding, and the elements stand side by side."""
        fold, dtype = self._primitive.fold, streams[-1].dtype
        if self._primitive.scaled or dtype == np.float16 or (fold is np.multiply and dtype.kind == "f"):
            return False
        return dtype.kind != "b" and all(s.strides[0] in (1, -1) for s in streams)

    def _blocks(self, length: int, lanes: int, streams: Sequence[Stream]) -> tuple[Value, Value | None]:
        """The whole blocks of a line; what comes before the rest of it, and whether some sum is not finite."""
        b, dtype = self._b, streams[-1].dtype
        summed = self._primitive.fold is np.add and dtype.kind == "f"
        lane = lane_of(dtype)
        assert lane is not None
        start = constant(Type(lane, lanes), neutral(self._primitive.fold, dtype))
        carried = [start, constant(start.type, 0)] if summed else [start]

        def block(i: Value, there: list[Value]) -> list[Value]:
            at = [s.at(b, 0, i) for s in streams]
            return self._after(there, self._prefix(at, lanes), streams[-1], at[-1])

        carried = b.loop(0, length - length % lanes, lanes, carried, block)
        return b.lane(carried[0], 0), (self._any_odd(carried[1]) if summed else None)

    def _any_odd(self, noted: Value) -> Value:
        """True if some lane is not zero."""
        odd = self._b.compare("une", noted, self._b.like(noted, 0))
        return self._b.call(f"llvm.vector.reduce.or.{odd.type.suffix}", I1, odd)

    def _order(self, s: Stream, lanes: int) -> list[int]:
        """The lane of each element of a block, which lies backwards in memory if the stride is negative."""
        return list(range(lanes)) if s.strides[0] == 1 else list(range(lanes))[::-1]

    def _behind(self, s: Stream, lanes: int) -> Stream:
        """The block as it lies in memory, from its first address on."""
        return s if s.strides[0] == 1 else replace(s, pointer=self._b.offset(s.pointer, 1 - lanes, s.lane))

    def _prefix(self, streams: Sequence[Stream], lanes: int) -> Value:
        """The running folds within a block, by halves."""
        b, (x, out) = self._b, streams
        y = b.load(Type(x.lane, lanes), self._behind(x, lanes).pointer, x.dtype.itemsize)
        y = convert(b, from_memory(b, y, x.dtype), x.dtype, out.dtype)
        if x.strides[0] == -1:
            y = b.shuffle(y, y, self._order(x, lanes))
        return prefixes(b, y, lambda first, second: combine(b, self._primitive.fold, first, second, out.dtype))

    def _after(self, carried: Sequence[Value], part: Value, out: Stream, at: Stream) -> list[Value]:
        """A block with what comes before it: written, and what then comes before the next one."""
        b, lanes = self._b, part.type.lanes
        y = combine(b, self._primitive.fold, carried[0], part, out.dtype)
        last = combine(b, self._primitive.fold, carried[0], b.shuffle(part, part, [lanes - 1] * lanes), out.dtype)
        stored = y if out.strides[0] == 1 else b.shuffle(y, y, self._order(out, lanes))
        self._write(stored, self._behind(at, lanes))
        if len(carried) == 1:
            return [last]
        # 0 times a number is 0, but NaN if that is infinite
        return [last, b.op("fadd", carried[1], b.op("fmul", y, b.like(y, 0)))]
