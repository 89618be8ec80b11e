"""Sorting as code: by the digits of the numbers, from the last one to the first.

The bits of a number, with some of them turned over, are a whole number without a sign of the same order. Of its bytes,
the last one counts first: the numbers are moved to where those with this byte belong, in their order, and so on up to
the first byte (Knuth, The Art of Computer Programming, volume 3, section 5.2.5). That takes time in proportion to their
count, and equal ones keep their order. A byte that is the same in all is left out.

NaN comes last, as in NumPy, and loses what its bits say. To the order of places, 0 and −0 are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import numpy as np

from funcgrad.compiler.native.lines.lines import Stream, each, prefixes, split, streams
from funcgrad.compiler.native.machine.builder import I32, I64, Builder, Type, Value, constant
from funcgrad.compiler.native.scalars.convert import lane_of
from funcgrad.core.ir import Equation
from funcgrad.core.kinds import Sorting
from funcgrad.core.types import DType, Shape
from funcgrad.core.views import View, contiguous

# lines of up to so many elements are sorted by NumPy: here, the counts take longer than all else
FEW = 512
_DIGITS = 256
_ALIGN = 64


def has_code(equation: Equation) -> bool:
    """True if there is code for a sort of these values."""
    primitive = equation.primitive
    assert isinstance(primitive, Sorting)
    (x,) = equation.inputs
    # places are counted with 32 bits
    return lane_of(x.dtype) is not None and FEW < x.shape[primitive.axis] < 1 << 31


def scratch_bytes(primitive: Sorting, dtype: DType, view: View) -> int:
    """The memory that a sort needs for itself."""
    return sum(_blocks(primitive, dtype, view.shape))


def _blocks(primitive: Sorting, dtype: DType, shape: Shape) -> list[int]:
    """The sizes of the tables of counts, of the keys twice, and of the places twice, if those are wanted.

    One copy of the keys may be where the result will be.
    """
    n = shape[primitive.axis]
    kept = not primitive.places and contiguous(shape).strides[primitive.axis] == 1
    sizes = [dtype.itemsize * _DIGITS * 4, n * dtype.itemsize, 0 if kept else n * dtype.itemsize]
    if primitive.places:
        sizes += [n * 4] * 2
    return [-(-size // _ALIGN) * _ALIGN for size in sizes]


def emit(
    b: Builder,
    primitive: Sorting,
    operand: tuple[Value, DType, View],
    out: tuple[Value, DType],
    scratch: Value,
    vector_bytes: int,
) -> None:
    """Write the loops of a sort.

    Args:
        b: Where to.
        primitive: The operation.
        operand: The address of the buffer, the dtype and the view of what is sorted; no axis is empty.
        out: The address and the dtype of the result, which has a buffer of its own.
        scratch: The memory that the sort has for itself.
        vector_bytes: The size of a vector.
    """
    pointer, dtype, view = operand
    views = [view, contiguous(view.shape)]
    axes = split(view.shape, views, primitive.axis)
    x, y = streams(b, [(pointer, dtype), out], views, axes, False)
    blocks = []
    for block in _blocks(primitive, dtype, view.shape):
        blocks.append(scratch if block else None)
        scratch = b.offset(scratch, block, "i8")
    writer = _Writer(b, primitive, dtype, axes[0].length, blocks, vector_bytes)

    def lines(axis: int, x: Stream, y: Stream) -> None:
        if axis == len(axes):
            writer.line(x, y)
        else:
            each(b, axes[axis].length, lambda i: lines(axis + 1, x.at(b, axis, i), y.at(b, axis, i)))

    lines(1, x, y)


@final
class _Writer:
    """Writes the code that sorts one line of `n` elements, in blocks of memory; None is that of the result."""

    def __init__(
        self,
        b: Builder,
        primitive: Sorting,
        dtype: DType,
        n: int,
        blocks: Sequence[Value | None],
        vector_bytes: int,
    ) -> None:
        self._b = b
        self._n = n
        self._places = primitive.places
        self._dtype = dtype
        self._bits = 8 * dtype.itemsize
        self._key = Type(f"i{self._bits}")
        self._blocks = blocks
        self._vector_bytes = vector_bytes

    def line(self, x: Stream, out: Stream) -> None:
        """Sort the elements of `x`."""
        counts, other, keys, *places = (out.pointer if block is None else block for block in self._blocks)
        self._clear(counts)
        self._count(x, counts, keys, places)
        first = [keys, other, *places]
        last = self._b.loop(0, self._dtype.itemsize, 1, first, lambda p, there: self._digit(p, counts, there))
        if self._places:
            self._finish(last[2], I32, out, lambda i: self._b.cast("zext", i, "i64"))
        else:
            self._finish(last[0], self._key, out, self._value)

    def _clear(self, counts: Value) -> None:
        b, type = self._b, Type("i32", self._vector_bytes // 4)
        every = self._dtype.itemsize * _DIGITS
        b.loop(0, every, type.lanes, (), lambda i, _: self._store(constant(type, 0), b.offset(counts, i, "i32"), 4))

    def _store(self, x: Value, place: Value, align: int) -> Sequence[Value]:
        self._b.store(x, place, align)
        return ()

    # ── keys

    def _order(self, x: Value) -> Value:
        """The bits of an element as a number without a sign that is ordered as the elements are."""
        b, kind = self._b, self._dtype.kind
        if kind in "ub":
            return x
        top = -(1 << (self._bits - 1))
        sign = b.like(x, top)
        if kind == "i":
            return b.op("xor", x, sign)
        largest = int(np.array(np.inf, self._dtype).view(f"i{self._dtype.itemsize}"))
        size = b.op("and", x, b.like(x, ~top))
        nan = b.compare("ugt", size, b.like(x, largest))
        x = b.select(nan, b.like(x, ~top), x)
        if self._places:
            x = b.select(b.compare("eq", size, b.like(x, 0)), b.like(x, 0), x)
        # all bits of a negative number are turned over, the sign of a positive one
        flips = b.op("or", b.op("ashr", x, b.like(x, self._bits - 1)), sign)
        return b.op("xor", x, flips)

    def _value(self, key: Value) -> Value:
        """The bits of an element from its key."""
        b, kind = self._b, self._dtype.kind
        if kind in "ub":
            return key
        sign = b.like(key, -(1 << (self._bits - 1)))
        if kind == "i":
            return b.op("xor", key, sign)
        positive = b.compare("slt", key, b.like(key, 0))
        return b.op("xor", key, b.select(positive, sign, b.like(key, -1)))

    def _slot(self, table: Value, key: Value, shift: Value) -> Value:
        """Where in a table of counts the digit of a key counts."""
        b = self._b
        digit = b.op("and", b.op("lshr", key, shift), b.like(key, _DIGITS - 1))
        return b.offset(table, digit if self._bits == 64 else b.cast("zext", digit, "i64"), "i32")

    # ── steps

    def _count(self, x: Stream, counts: Value, keys: Value, places: Sequence[Value]) -> None:
        """Write the keys, and how often each digit is there at each place."""
        b, size = self._b, self._dtype.itemsize

        def one(i: Value) -> None:
            key = self._order(b.load(self._key, x.at(b, 0, i).pointer, size))
            b.store(key, b.offset(keys, i, self._key.lane), size)
            if places:
                b.store(b.cast("trunc", i, "i32"), b.offset(places[0], i, "i32"), 4)
            for p in range(size):
                table = b.offset(counts, p * _DIGITS, "i32")
                slot = self._slot(table, key, constant(self._key, 8 * p))
                b.store(b.op("add", b.load(I32, slot, 4), constant(I32, 1)), slot, 4)

        each(b, self._n, one)

    def _digit(self, p: Value, counts: Value, there: list[Value]) -> list[Value]:
        """Order by one digit, unless it is the same in all; what is sorted comes before what is free."""
        b = self._b
        table = b.offset(counts, b.op("mul", p, constant(I64, _DIGITS)), "i32")
        shift = b.op("mul", p, constant(I64, 8))
        if self._bits < 64:
            shift = b.cast("trunc", shift, self._key.lane)
        first = b.load(self._key, there[0], self._dtype.itemsize)
        alike = b.compare("eq", b.load(I32, self._slot(table, first, shift), 4), constant(I32, self._n))

        def ordered() -> list[Value]:
            self._sums(table)
            each(b, self._n, lambda i: self._move(i, table, shift, there))
            return [there[k ^ 1] for k in range(len(there))]

        return b.branch(alike, lambda: there, ordered)

    def _sums(self, table: Value) -> None:
        """Where the elements with each digit begin, from how many there are."""
        b, type = self._b, Type("i32", self._vector_bytes // 4)

        def step(d: Value, before: list[Value]) -> list[Value]:
            slot = b.offset(table, d, "i32")
            counts = b.load(type, slot, 4)
            ends = b.op("add", prefixes(b, counts, lambda x, y: b.op("add", x, y)), before[0])
            b.store(b.op("sub", ends, counts), slot, 4)
            return [b.shuffle(ends, ends, [type.lanes - 1] * type.lanes)]

        b.loop(0, _DIGITS, type.lanes, [constant(type, 0)], step)

    def _move(self, i: Value, table: Value, shift: Value, there: Sequence[Value]) -> None:
        b, size = self._b, self._dtype.itemsize
        key = b.load(self._key, b.offset(there[0], i, self._key.lane), size)
        slot = self._slot(table, key, shift)
        place = b.load(I32, slot, 4)
        b.store(b.op("add", place, constant(I32, 1)), slot, 4)
        to = b.cast("zext", place, "i64")
        b.store(key, b.offset(there[1], to, self._key.lane), size)
        if self._places:
            b.store(b.load(I32, b.offset(there[2], i, "i32"), 4), b.offset(there[3], to, "i32"), 4)

    def _finish(self, last: Value, type: Type, out: Stream, result: Callable[[Value], Value]) -> None:
        """Write the result."""
        b, size = self._b, out.dtype.itemsize
        lanes = self._vector_bytes // size if out.strides[0] == 1 else 1

        def some(i: Value | int, lanes: int) -> None:
            x = b.load(Type(type.lane, lanes), b.offset(last, i, type.lane), type.bits // 8)
            b.store(result(x), out.at(b, 0, i).pointer, size)

        whole = self._n - self._n % lanes

        def step(i: Value, _: list[Value]) -> Sequence[Value]:
            some(i, lanes)
            return ()

        b.loop(0, whole, lanes, (), step)
        for k in range(whole, self._n):
            some(k, 1)
