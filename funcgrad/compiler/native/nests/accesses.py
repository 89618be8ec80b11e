"""Loads and stores: where they go, and by which instructions.

With lanes along an axis, an access is one element for all lanes, neighbours in memory, rows that are taken apart by
shuffles (see `rows`), or an address for each lane.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias, final

from funcgrad.compiler.native.ir.kernel import Access, Kernel, Load, Offset, Store
from funcgrad.compiler.native.machine.builder import I1, I64, Builder, Type, Value, constant
from funcgrad.compiler.native.nests.axis import Axis
from funcgrad.compiler.native.nests.nest import Nest
from funcgrad.compiler.native.nests.rows import Rows
from funcgrad.compiler.native.scalars.convert import convert, from_memory, memory_lane, to_memory
from funcgrad.compiler.native.scalars.operations import combine
from funcgrad.core.errors import InternalError
from funcgrad.core.ir import Atom, Namer
from funcgrad.core.trace import Var

Lanes: TypeAlias = list[Value]
# how many vectors ahead rows are fetched that are far apart
_AHEAD = 2


@final
@dataclass(frozen=True, slots=True)
class Here:
    """Where in the nest the code is that is being written.

    Attributes:
        entered: The axes whose loops are around it, with their indices.
        vectors: How many vectors there are of what depends on the axis of lanes.
        mask: The lanes that count; None if all do.
    """

    entered: Mapping[Axis, Value]
    vectors: int = 1
    mask: Value | None = None


@final
class Accesses:
    """Writes the loads and stores of one kernel.

    Args:
        b: Where to.
        kernel: The kernel.
        pointers: The address of each buffer.
        failed: Where to note that an index is out of bounds.
        nest: The loops.
        streamed: The buffers that are written past the cache.
        read: Gives the value of an index.

    Attributes:
        trusted: Positions that are known to be within bounds, counted from the start.
    """

    def __init__(
        self,
        b: Builder,
        kernel: Kernel,
        pointers: Mapping[Var, Value],
        failed: Value,
        nest: Nest,
        streamed: frozenset[Var],
        read: Callable[[Atom, Here], Lanes],
    ) -> None:
        self._b = b
        self._kernel = kernel
        self._failed = failed
        self._nest = nest
        self._streamed = streamed
        self._read = read
        self.trusted: set[Offset] = set()
        self._places: dict[Access, Value] = {s: pointers[s.buffer] for s in kernel.accesses}
        # how far beyond its place an access is, in elements, as far as that is known here
        self._shifts: dict[Access, int] = {s: s.view.offset for s in kernel.accesses}
        # rows of elements that were read at once, for each vector of them, and those of which some are to be written
        self._rows: dict[tuple[Var, str, int], list[Lanes]] = {}
        self._unwritten: dict[tuple[Var, str, int], dict[int, Lanes]] = {}

    def finish(self) -> None:
        """Prove that nothing was left unwritten.

        Raises:
            InternalError: Something was.
        """
        if self._unwritten:
            raise InternalError(f"a row is not written as a whole by\n{self._kernel.show(Namer())}")

    @contextmanager
    def scope(self, loop: bool) -> Iterator[None]:
        """Within a loop, or one that is written out; afterwards, places are what they were before."""
        before = dict(self._places), dict(self._shifts)
        rows = {key: list(there) for key, there in self._rows.items()}
        yield
        self._places, self._shifts = before
        if loop:
            self._rows = rows

    def advance(self, axis: Axis, i: Value, within: set[Access]) -> None:
        """Move the places of what goes along an axis on to an index of it."""
        b = self._b
        # what stands at one place goes on together, so that elements of one row have one beginning
        moved: dict[tuple[str, int, str], Value] = {}
        for s in self._kernel.accesses:
            stride = axis.strides[s]
            if s not in within or not stride:
                continue
            lane = memory_lane(s.buffer.dtype)
            if not i.text.startswith("%"):
                self._shifts[s] += int(i.text) * stride
                continue
            key = self._places[s].text, stride, lane
            if key not in moved:
                index = i if stride == 1 else b.op("mul", i, Value(str(stride), I64))
                moved[key] = b.offset(self._places[s], index, lane)
            self._places[s] = moved[key]

    def address(self, s: Access) -> Value:
        """Where an access begins, with the loops that the code is in."""
        return self._b.offset(self._places[s], self._shifts[s], memory_lane(s.buffer.dtype))

    def note(self, wrong: Value, mask: Value | None = None) -> None:
        """Note an error if something is wrong in a lane that counts."""
        b = self._b
        if wrong.type.lanes > 1:
            if mask is not None:
                wrong = b.op("and", wrong, mask)
            wrong = b.call(f"llvm.vector.reduce.or.{wrong.type.suffix}", I1, wrong)
        b.when(wrong, lambda: b.store(Value("1", I64), self._failed, 8))

    def _stride(self, s: Access, here: Here) -> int:
        along = self._nest.along
        return along.strides[s] if along is not None and along in here.entered else 0

    def load(self, s: Load, here: Here) -> Lanes:
        """What stands there: for each vector, or once."""
        b = self._b
        type = Type(memory_lane(s.buffer.dtype))
        size = int(s.buffer.dtype.itemsize)
        rows = self._rows_of(s, here)
        if rows is not None:
            return [from_memory(b, x, s.buffer.dtype) for x in self._taken_apart(s, rows, here)]
        out = []
        for place, spread in self._targets(s, here):
            x = self._spread(type.lane, place, size, here.mask, spread)
            out.append(from_memory(b, x, s.buffer.dtype))
        return out

    # ── rows of few elements, of which each lane has one

    def _rows_of(self, s: Access, here: Here) -> Rows | None:
        along = self._nest.along
        inside = along is not None and along in here.entered and here.mask is None
        return self._nest.rows.get(s) if inside else None

    def _row(self, s: Access, rows: Rows, here: Here) -> tuple[int, int, tuple[Var, str, int]]:
        """Which element of its row is meant, where the rows begin, and a key for these rows."""
        which = self._shifts[s] % rows.length
        if rows.pitch != rows.length:
            which = sum(int(here.entered[a].text) * a.strides[s] for a in rows.within)
        start = self._shifts[s] - which
        return which, start, (s.buffer, self._places[s].text, start)

    def _places_of(self, s: Access, rows: Rows, start: int, u: int) -> list[Value]:
        """Where the vectors begin that hold the rows of the lanes of a vector."""
        lanes, lane = self._nest.lanes, memory_lane(s.buffer.dtype)
        step = lanes if rows.pitch == rows.length else rows.pitch
        first = start + u * lanes * rows.pitch
        return [self._b.offset(self._places[s], first + k * step, lane) for k in range(rows.length)]

    def _taken_apart(self, s: Load, rows: Rows, here: Here) -> Lanes:
        """The elements of the lanes, from whole vectors that hold all of the rows."""
        b, size = self._b, int(s.buffer.dtype.itemsize)
        which, start, key = self._row(s, rows, here)
        type = Type(memory_lane(s.buffer.dtype), self._nest.lanes)
        there = self._rows.setdefault(key, [])
        for u in range(len(there), here.vectors):
            if rows.pitch != rows.length:
                self._prefetch(s, rows, start, u)
            there.append(b.unzip([b.load(type, place, size) for place in self._places_of(s, rows, start, u)]))
        return [there[u][which] for u in range(here.vectors)]

    def _prefetch(self, s: Load, rows: Rows, start: int, u: int) -> None:
        """Rows that are far apart come from as many pages, which the hardware does not foresee."""
        b = self._b
        b.module.declare_text("llvm.prefetch.p0", "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        for place in self._places_of(s, rows, start + _AHEAD * self._nest.lanes * rows.pitch, u):
            b.do(f"call void @llvm.prefetch.p0({place}, i32 0, i32 3, i32 1)")

    def _put_together(self, s: Store, rows: Rows, xs: Lanes, here: Here) -> None:
        """Write whole vectors when all elements of the rows are there."""
        b, size = self._b, int(s.buffer.dtype.itemsize)
        which, start, key = self._row(s, rows, here)
        row = self._unwritten.setdefault(key, {})
        row[which] = [b.splat(xs[u if len(xs) > 1 else 0], self._nest.lanes) for u in range(here.vectors)]
        if len(row) < rows.length:
            return
        del self._unwritten[key]
        for u in range(here.vectors):
            parts = b.zip([row[i][u] for i in range(rows.length)])
            for x, place in zip(parts, self._places_of(s, rows, start, u), strict=True):
                b.store(x, place, size)

    # ── other elements

    def _targets(self, s: Access, here: Here) -> list[tuple[Value, int]]:
        """For each vector its address and its stride, 0 for one element; or addresses, one for each lane.

        The stride is 1 or −1 if a mask says which lanes count.
        """
        b, lane = self._b, memory_lane(s.buffer.dtype)
        place = b.offset(self._places[s], self._shifts[s], lane)
        shifts: list[Lanes] = []
        for offset in s.offsets:
            xs = self._index(offset, here)
            if len(xs) == 1 and xs[0].type.lanes == 1:
                place = b.offset(place, self._times(xs[0], offset.stride), lane)
            else:
                shifts.append([self._times(x, offset.stride) for x in xs])
        stride, lanes = self._stride(s, here), self._nest.lanes
        if not stride and not shifts:
            return [(place, 0)]
        out = []
        for u in range(here.vectors):
            at = b.offset(place, u * lanes * stride, lane)
            if not shifts and (stride in (1, -1) or here.mask is None):
                out.append((at if stride != -1 else b.offset(at, 1 - lanes, lane), stride))
                continue
            type = Type("i64", lanes)
            index = b.op("mul", b.iota(type), constant(type, stride)) if stride else constant(type, 0)
            for shift in shifts:
                index = b.op("add", index, shift[u if len(shift) > 1 else 0])
            out.append((b.emit(f"getelementptr {lane}, {at}, {index}", Type("ptr", lanes)), 0))
        return out

    def _times(self, x: Value, stride: int) -> Value:
        return x if stride == 1 else self._b.op("mul", x, self._b.like(x, stride))

    def _index(self, offset: Offset, here: Here) -> Lanes:
        """An index as it counts from the start; a wrong one is noted, and then 0."""
        b = self._b
        out = []
        for x in self._read(offset.index, here):
            dtype = offset.index.dtype
            if x.type.lane != "i64":
                x = b.cast("sext" if dtype.kind == "i" else "zext", x, "i64")
            if offset in self.trusted:
                out.append(x)
                continue
            length = b.like(x, offset.length)
            if dtype.kind == "i":
                below = b.compare("slt", x, b.like(x, 0))
                x = b.select(below, b.op("add", x, length), x)
            if offset.clamped:
                x = b.intrinsic("smax", x, b.like(x, 0))
                out.append(b.intrinsic("smin", x, b.like(x, offset.length - offset.size)))
                continue
            wrong = b.compare("uge", x, length)
            self.note(wrong, here.mask if x.type.lanes > 1 else None)
            out.append(b.select(wrong, b.like(x, 0), x))
        return out

    def _spread(self, lane: str, place: Value, size: int, mask: Value | None, stride: int) -> Value:
        """What stands at the target of an access, or at the targets of its lanes."""
        if place.type.lanes > 1:
            return self._gather(lane, place, size, mask)
        if not stride:
            return self._b.load(Type(lane), place, size)
        if stride in (1, -1):
            return self._consecutive(lane, place, size, mask, stride)
        return self._singly(lane, self._places_apart(place, lane, stride), size)

    def _places_apart(self, place: Value, lane: str, stride: int) -> list[Value]:
        return [self._b.offset(place, i * stride, lane) for i in range(self._nest.lanes)]

    def _singly(self, lane: str, places: Sequence[Value], size: int) -> Value:
        """The elements at some places, one after the other."""
        b, type = self._b, Type(lane, len(places))
        # in many processors faster than the instruction that gathers
        x = Value("poison", type)
        for i, place in enumerate(places):
            x = b.emit(f"insertelement {x}, {b.load(Type(lane), place, size)}, i64 {i}", type)
        return x

    def _consecutive(self, lane: str, place: Value, size: int, mask: Value | None, stride: int) -> Value:
        b, lanes = self._b, self._nest.lanes
        type = Type(lane, lanes)
        order = list(range(lanes))[::-1]
        if mask is None:
            x = b.load(type, place, size)
        else:
            m = mask if stride == 1 else b.shuffle(mask, mask, order)
            name = f"llvm.masked.load.{type.suffix}.p0"
            x = self._masked(name, type, f"ptr align {size} {place.text}", m, f"{type} zeroinitializer")
        return x if stride == 1 else b.shuffle(x, x, order)

    def _masked(self, name: str, type: Type, place: str, mask: Value, rest: str) -> Value:
        self._b.module.declare_text(name, f"declare {type} @{name}(ptr, {mask.type}, {type})")
        return self._b.emit(f"call {type} @{name}({place}, {mask}, {rest})", type)

    def _gather(self, lane: str, places: Value, size: int, mask: Value | None) -> Value:
        b, type = self._b, Type(lane, places.type.lanes)
        if mask is None:
            return self._singly(lane, [b.lane(places, i) for i in range(type.lanes)], size)
        name = f"llvm.masked.gather.{type.suffix}.{places.type.suffix}"
        b.module.declare_text(name, f"declare {type} @{name}({places.type}, {mask.type}, {type})")
        at = f"{places.type} align {size} {places.text}"
        return b.emit(f"call {type} @{name}({at}, {mask}, {type} zeroinitializer)", type)

    def store(self, s: Store, values: Lanes, here: Here) -> None:
        """Write values, or combine them with what is there."""
        b = self._b
        size = int(s.buffer.dtype.itemsize)
        dtype = s.buffer.dtype
        xs = [to_memory(b, convert(b, x, s.x.dtype, dtype), dtype) for x in values]
        rows = self._rows_of(s, here)
        if rows is not None:
            self._put_together(s, rows, xs, here)
            return
        for u, (place, spread) in enumerate(self._targets(s, here)):
            x = xs[u if len(xs) > 1 else 0]
            if place.type.lanes == 1 and not spread:
                if s.combine is not None:
                    there = from_memory(b, b.load(x.type, place, size), dtype)
                    x = to_memory(b, combine(b, s.combine, there, from_memory(b, x, dtype), dtype), dtype)
                b.store(x, place, size)
                continue
            x = b.splat(x, self._nest.lanes)
            if s.combine is not None:
                there = self._spread(x.type.lane, place, size, here.mask, spread)
                both = combine(b, s.combine, from_memory(b, there, dtype), from_memory(b, x, dtype), dtype)
                x = to_memory(b, both, dtype)
            if here.mask is None and spread == 1 and s.buffer in self._streamed:
                b.store(x, place, x.type.lanes * x.type.bits // 8, b.module.streamed)
                continue
            self._write(x, place, size, here.mask, spread)

    def _write(self, x: Value, place: Value, size: int, mask: Value | None, stride: int) -> None:
        b = self._b
        if place.type.lanes > 1:
            self._scatter(x, place, size, mask)
            return
        if stride not in (1, -1):
            for i, at in enumerate(self._places_apart(place, x.type.lane, stride)):
                b.store(b.lane(x, i), at, size)
            return
        if stride == -1:
            order = list(range(x.type.lanes))[::-1]
            x = b.shuffle(x, x, order)
            mask = mask if mask is None else b.shuffle(mask, mask, order)
        if mask is None:
            b.store(x, place, size)
            return
        name = f"llvm.masked.store.{x.type.suffix}.p0"
        b.module.declare_text(name, f"declare void @{name}({x.type}, ptr, {mask.type})")
        b.do(f"call void @{name}({x}, ptr align {size} {place.text}, {mask})")

    def _scatter(self, x: Value, places: Value, size: int, mask: Value | None) -> None:
        b = self._b
        if mask is None:
            for i in range(x.type.lanes):
                b.store(b.lane(x, i), b.lane(places, i), size)
            return
        name = f"llvm.masked.scatter.{x.type.suffix}.{places.type.suffix}"
        b.module.declare_text(name, f"declare void @{name}({x.type}, {places.type}, {mask.type})")
        b.do(f"call void @{name}({x}, {places.type} align {size} {places.text}, {mask})")
