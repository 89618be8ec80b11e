"""Indices that the program computes, in loops of single elements: whether those of a whole block are within bounds.

One index costs a look at its sign, a look at its size and a note, which is most of what a scatter does. So a block of
them is looked at first, with vectors. Where all count from the start and none is out of bounds, as nearly always, the
loop takes them as they stand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import final

from funcgrad.compiler.native.ir.kernel import Kernel, Load, Offset
from funcgrad.compiler.native.machine.builder import I1, I64, Builder, Type, Value, constant
from funcgrad.compiler.native.nests.axis import Axis
from funcgrad.compiler.native.scalars.convert import memory_lane
from funcgrad.core.trace import Var

BLOCK = 256
"""So many indices are looked at together."""
UNROLL = 4
"""So many of them one step of the loop takes."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """An index that stands in memory, one beside the other along an axis.

    Attributes:
        load: Where it is read.
        offset: Where it goes.
    """

    load: Load
    offset: Offset


def checkable(kernel: Kernel, axis: Axis) -> list[Checked]:
    """The indices that can be looked at in blocks of a loop over this axis; none if it is too short for that."""
    if axis.length < BLOCK:
        return []
    loads = {s.out: s for s in kernel.body if isinstance(s, Load) and not s.offsets and axis.strides[s] == 1}
    return [
        Checked(loads[o.index], o)
        for s in kernel.accesses
        for o in s.offsets
        if not o.clamped and isinstance(o.index, Var) and o.index in loads and o.index.dtype.kind in "iu"
    ]


def in_blocks(
    b: Builder,
    length: int,
    checked: Sequence[Checked],
    places: Sequence[Value],
    vector_bytes: int,
    body: Callable[[Value], None],
    trusting: Callable[[Callable[[], None]], None],
) -> int:
    """A loop over whole blocks of indices, and where it ends.

    Args:
        b: Where to.
        length: How many indices there are.
        checked: The indices.
        places: The address of the first of each.
        vector_bytes: The size of a vector.
        body: Writes what is done at one number of the loop.
        trusting: Runs what it is given while the writer of `body` takes the indices to be within bounds.
    """

    def trusted(start: Value, stop: Value) -> list[Value]:
        trusting(lambda: _each(b, start, stop, UNROLL, body))
        return []

    def careful(start: Value, stop: Value) -> list[Value]:
        _each(b, start, stop, 1, body)
        return []

    def block(start: Value, _: list[Value]) -> list[Value]:
        stop = b.op("add", start, constant(I64, BLOCK))
        there = [b.offset(p, start, memory_lane(c.load.buffer.dtype)) for c, p in zip(checked, places, strict=True)]
        b.branch(
            _all_within(b, checked, there, vector_bytes), lambda: trusted(start, stop), lambda: careful(start, stop)
        )
        return []

    whole = length - length % BLOCK
    b.loop(0, whole, BLOCK, (), block)
    return whole


def _each(b: Builder, start: Value, stop: Value, unroll: int, body: Callable[[Value], None]) -> None:
    def step(i: Value, _: list[Value]) -> list[Value]:
        for u in range(unroll):
            body(b.op("add", i, constant(I64, u)) if u else i)
        return []

    b.loop(start, stop, unroll, (), step)


def _all_within(b: Builder, checked: Sequence[Checked], places: Sequence[Value], vector_bytes: int) -> Value:
    """True if each index of the block at these addresses is at least 0 and less than the length."""
    good = []
    for c, start in zip(checked, places, strict=True):
        dtype = c.offset.index.dtype
        bits = 8 * dtype.itemsize
        # as a number without a sign, a negative one is larger than any that is positive
        limit = min(c.offset.length, 1 << (bits - 1 if dtype.kind == "i" else bits))
        if limit < 1 << bits:
            good.append(b.compare("ult", _largest(b, c, start, vector_bytes), _unsigned(bits, limit)))
    return reduce(lambda x, y: b.op("and", x, y), good) if good else constant(I1, True)


def _unsigned(bits: int, n: int) -> Value:
    return constant(Type(f"i{bits}"), n - (1 << bits) if n >> (bits - 1) else n)


def _largest(b: Builder, c: Checked, start: Value, vector_bytes: int) -> Value:
    """The largest of the next indices, as numbers without a sign."""
    dtype = c.offset.index.dtype
    lane, lanes = memory_lane(dtype), vector_bytes // dtype.itemsize
    type = Type(lane, lanes)
    unroll = min(UNROLL, BLOCK // lanes)

    def step(i: Value, most: list[Value]) -> list[Value]:
        there = b.offset(start, i, lane)
        loaded = [b.load(type, b.offset(there, u * lanes, lane), dtype.itemsize) for u in range(unroll)]
        return [b.intrinsic("umax", m, x) for m, x in zip(most, loaded, strict=True)]

    parts = b.loop(0, BLOCK, unroll * lanes, [constant(type, 0)] * unroll, step)
    while len(parts) > 1:
        half = len(parts) // 2
        parts = [b.intrinsic("umax", x, y) for x, y in zip(parts[:half], parts[half:], strict=True)]
    return b.call(f"llvm.vector.reduce.umax.{type.suffix}", Type(lane), parts[0])
