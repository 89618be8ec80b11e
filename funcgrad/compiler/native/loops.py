"""A kernel as LLVM code: loops, vectors, accumulators.

    for each outer axis
        what depends on these axes only
        for each phase
            for each folded axis
                the body, which ends in accumulators and stores
            what depends on folds

The loop along which the lanes of vectors go runs in two parts: whole blocks of several vectors, then single vectors of
which a mask says how much counts. Everything is known when the code is written: shapes, strides, and so which of the
parts there are.

A sum has several accumulators, a fixed number for each kernel, that are added up pairwise at the end: the order does
not depend on the values, and the error grows with the length of a lane only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias, final

from funcgrad.compiler.native.builder import I1, I64, Builder, Type, Value, constant
from funcgrad.compiler.native.folds import Folding, Partials, folding
from funcgrad.compiler.native.kernel import Compute, Fold, Kernel, Load, Offset, Statement, Store, operands, reads
from funcgrad.compiler.native.nest import SHORT, Access, Axis, Nest
from funcgrad.compiler.native.scalars import code, combine
from funcgrad.compiler.native.scalars_convert import constant_of, convert, from_memory, memory_lane, to_memory
from funcgrad.core.ir import Atom, Literal
from funcgrad.core.trace import Var

Lanes: TypeAlias = list[Value]
# of a loop: it is called with the index and with what is carried, and returns what is carried on
Body: TypeAlias = Callable[[Value, list[Value]], list[Value]]


@final
@dataclass(frozen=True, slots=True)
class Span:
    """The part of an axis that is gone through, between two indices that are known when the program runs.

    Along the axis of lanes it begins with a whole block, and ends with one, or at the end of the axis.
    """

    axis: Axis
    start: Value
    stop: Value


@final
@dataclass(frozen=True, slots=True)
class _Here:
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
class LoopWriter:
    """Writes the loops of one kernel.

    Args:
        b: Where to.
        kernel: The kernel; none of the axes of its domain is empty.
        pointers: The address of each buffer.
        failed: Where to note that an index is out of bounds.
        nest: Its loops.
        streamed: The buffers that are written past the cache; the nest begins to write to them at a whole vector.
    """

    def __init__(
        self,
        b: Builder,
        kernel: Kernel,
        pointers: Mapping[Var, Value],
        failed: Value,
        nest: Nest,
        streamed: frozenset[Var] = frozenset(),
    ) -> None:
        self._b = b
        self._kernel = kernel
        self._buffers = pointers
        self._failed = failed
        self.nest = nest
        self._streamed = streamed
        self._span: Span | None = None
        self._folds: dict[Var, Folding] = {}
        # what is in scope
        self._values: dict[Var, Lanes] = {}
        self._places: dict[Access, Value] = {}
        # how far beyond its place an access is, in elements, as far as that is known here
        self._shifts: dict[Access, int] = {}
        # rows of elements that were read at once, for each vector of them, and those of which some are to be written
        self._rows: dict[tuple[Var, str, int], list[Lanes]] = {}
        self._unwritten: dict[tuple[Var, str, int], dict[int, Lanes]] = {}
        self._phases = phases(kernel, self.nest)
        self._partials: Partials | None = None
        self._joining = False

    def write(self, span: Span | None = None) -> None:
        """All of it, or the part of a span."""
        self._span = span
        self._begin()

    def write_partials(self, span: Span, partials: Partials, number: Value) -> None:
        """Of a kernel with one phase of folds: leave in memory what the folds over a part of a folded axis come to."""
        self._span, self._partials = span, partials.of(self._b, number)
        self._begin()

    def write_joined(self, partials: Partials) -> None:
        """The rest of the kernel, when all parts have left their partial results."""
        self._partials, self._joining = partials, True
        self._begin()

    def _begin(self) -> None:
        for s in self._kernel.accesses:
            self._places[s] = self._buffers[s.buffer]
            self._shifts[s] = s.view.offset
        self._outer(0, _Here({}))

    # ── the loops over the axes that are not folded

    def _outer(self, depth: int, here: _Here) -> None:
        loops = self.nest.outer
        first, _ = self._phases[0]
        for s in first:
            if self._depth(s, loops) == depth:
                self._statement(s, here)
        if depth < len(loops):
            within = {s for s in self._kernel.accesses if loops[depth].strides[s]}
            self._loop(loops[depth], here, within, lambda deeper: self._outer(depth + 1, deeper))
            return
        for number, (before, inside) in enumerate(self._phases):
            for s in before if number else ():
                self._statement(s, here)
            if inside and self._joining:
                self._join(inside, here)
            elif inside:
                self._inner(inside, here)
            if self._partials is not None and not self._joining:
                return

    def _depth(self, s: Statement, loops: Sequence[Axis]) -> int:
        on = self.nest.depends[s if isinstance(s, Store) else s.out]
        return max((i + 1 for i, axis in enumerate(loops) if axis in on), default=0)

    def _loop(self, axis: Axis, here: _Here, within: set[Access], body: Callable[[_Here], None]) -> None:
        """Run `body` for each index of an axis that is not folded."""

        def step(i: Value, vectors: int, mask: Value | None) -> None:
            with self._scope():
                self._advance(axis, i, within)
                entered = {**here.entered, axis: i}
                if axis is self.nest.along:
                    body(_Here(entered, vectors, mask))
                else:
                    body(replace(here, entered=entered))

        def body_of(vectors: int, masked: bool) -> Callable[[Value, list[Value]], list[Value]]:
            def run(i: Value, _: list[Value]) -> list[Value]:
                step(i, vectors, self._mask(i, axis.length) if masked else None)
                return []

            return run

        if axis is not self.nest.along:
            self._over(axis, [], body_of(1, False))
        else:
            self._whole(axis, [], body_of(self.nest.unroll, False))
            self._rest(axis, [], body_of(1, True))

    def _parts(self, axis: Axis) -> tuple[int, int, bool]:
        """The size of a block, where the last whole one ends, and whether something is left."""
        block = self.nest.block
        whole = axis.length - axis.length % block
        return block, whole, whole < axis.length

    def _over(self, axis: Axis, carried: list[Value], body: Body) -> list[Value]:
        """Run a body for each index of an axis, or of the span of it."""
        span = self._span
        if span is None or span.axis is not axis:
            return self._run(0, axis.length, 1, carried, body)
        return self._run(span.start, span.stop, 1, carried, body)

    def _whole(self, axis: Axis, carried: list[Value], body: Body) -> list[Value]:
        """Run a body for each whole block of the axis of lanes."""
        block, whole, _ = self._parts(axis)
        span = self._span
        if not whole:
            return carried
        if span is None or span.axis is not axis:
            return self._run(0, whole, block, carried, body)
        stop = self._b.intrinsic("smin", span.stop, Value(str(whole), I64))
        return self._run(span.start, stop, block, carried, body)

    def _rest(self, axis: Axis, carried: list[Value], body: Body) -> list[Value]:
        """Run a body for each vector behind the last whole block of the axis of lanes."""
        _, whole, rest = self._parts(axis)
        span, b = self._span, self._b
        if not rest:
            return carried
        if span is None or span.axis is not axis:
            return self._run(whole, axis.length, self.nest.lanes, carried, body)
        there = b.compare("slt", Value(str(whole), I64), span.stop)
        run = partial(self._run, whole, axis.length, self.nest.lanes, carried, body)
        return b.branch(there, run, lambda: carried)

    def _run(self, start: Value | int, stop: Value | int, step: int, carried: list[Value], body: Body) -> list[Value]:
        b = self._b
        if isinstance(start, int) and isinstance(stop, int):
            if stop - start <= step * (SHORT if step == 1 else 1):
                for i in range(start, stop, step):
                    carried = body(Value(str(i), I64), carried)
                return carried
            return b.loop(start, stop, step, carried, body)
        first, last = (Value(str(n), I64) if isinstance(n, int) else n for n in (start, stop))
        some = b.compare("slt", first, last)
        return b.branch(some, lambda: b.loop(first, last, step, carried, body), lambda: carried)

    def _mask(self, i: Value, length: int) -> Value | None:
        if length % self.nest.lanes == 0:
            return None
        b, lanes = self._b, self.nest.lanes
        left = b.op("sub", Value(str(length), I64), i)
        narrow = b.cast("trunc", left, "i32")
        return b.compare("sgt", b.splat(narrow, lanes), b.iota(Type("i32", lanes)))

    def _advance(self, axis: Axis, i: Value, within: set[Access]) -> None:
        """Move the places of what goes along an axis on to an index of it."""
        b = self._b
        for s in self._kernel.accesses:
            stride = axis.strides[s]
            if s not in within or not stride:
                continue
            lane = memory_lane(s.buffer.dtype)
            if not i.text.startswith("%"):
                self._shifts[s] += int(i.text) * stride
                continue
            index = i if stride == 1 else b.op("mul", i, Value(str(stride), I64))
            self._places[s] = b.offset(self._places[s], index, lane)

    @contextmanager
    def _scope(self) -> Iterator[None]:
        before = dict(self._values), dict(self._places), dict(self._shifts)
        rows = {key: list(there) for key, there in self._rows.items()}
        yield
        self._values, self._places, self._shifts = before
        self._rows = rows

    # ── the loops over the folded axes

    def _inner(self, body: Sequence[Statement], here: _Here) -> None:
        folds = [s for s in body if isinstance(s, Fold)]
        vectors = here.vectors if self.nest.along not in self.nest.inner else 1
        start: list[Value] = []
        for s in folds:
            self._folds[s.out] = fold = folding(self._b, s, self._lanes_of(s))
            start += fold.start() * (vectors if fold.lanes > 1 else 1)
        out = self._inner_loop(0, body, here, folds, start)
        for s in folds:
            fold = self._folds[s.out]
            count = vectors if fold.lanes > 1 else 1
            parts = [[out.pop(0) for _ in range(fold.width)] for _ in range(count)]
            if fold.lanes > 1 and self.nest.along in self.nest.inner:
                parts = [fold.across(parts[0])]
            if self._partials is not None:
                self._partials.put(self._b, s, parts, here.entered)
                continue
            self._values[s.out] = [fold.finish(part) for part in parts]

    def _join(self, body: Sequence[Statement], here: _Here) -> None:
        """Combine the partial results of folds, in the order of the parts."""
        assert self._partials is not None
        b, partials = self._b, self._partials
        for s in body:
            if not isinstance(s, Fold):
                continue
            lanes = self._lanes_of(s) if self.nest.along not in self.nest.inner else 1
            fold = folding(b, s, lanes)
            out = fold.start() * (here.vectors if lanes > 1 else 1)
            add = partial(_taken_in, b, fold, partials, s, here.entered)
            out = b.loop(0, partials.count, 1, out, add)
            self._values[s.out] = [fold.finish(out[k : k + fold.width]) for k in range(0, len(out), fold.width)]

    def _lanes_of(self, s: Fold) -> int:
        """The lanes of an accumulator."""
        along = self.nest.along
        if along is None:
            return 1
        on = self.nest.depends[s.x] if isinstance(s.x, Var) else frozenset()
        return self.nest.lanes if along in on or along in self.nest.inner else 1

    def _inner_loop(
        self, depth: int, body: Sequence[Statement], here: _Here, folds: Sequence[Fold], carried: list[Value]
    ) -> list[Value]:
        """The code within `depth` of the folded loops; it takes the accumulators and returns what becomes of them."""
        loops = self.nest.inner
        for s in body:
            if not isinstance(s, Fold) and self._depth(s, loops) == depth and (depth or self._varies(s)):
                self._statement(s, here)
        if depth == len(loops):
            return self._accumulate(folds, here, carried)
        axis = loops[depth]
        within = {s for s in body if isinstance(s, Load | Store)}

        def step(i: Value, there: list[Value], vectors: int, mask: Value | None) -> list[Value]:
            with self._scope():
                self._advance(axis, i, within)
                entered = {**here.entered, axis: i}
                deeper = replace(here, entered=entered)
                if axis is self.nest.along:
                    deeper = _Here(entered, vectors, mask)
                return self._inner_loop(depth + 1, body, deeper, folds, there)

        if axis is self.nest.along:
            return self._folded_lanes(axis, folds, carried, step)
        return self._over(axis, carried, lambda i, there: step(i, there, 1, None))

    def _varies(self, s: Statement) -> bool:
        return bool(self.nest.depends[s if isinstance(s, Store) else s.out] & set(self.nest.inner))

    def _folded_lanes(
        self,
        axis: Axis,
        folds: Sequence[Fold],
        carried: list[Value],
        step: Callable[[Value, list[Value], int, Value | None], list[Value]],
    ) -> list[Value]:
        _, whole, _ = self._parts(axis)
        unroll = self.nest.unroll
        if whole:
            # the accumulators of the first vector of each block go on, those of the others begin anew
            wide: list[Value] = []
            for k, s in enumerate(folds):
                fold = self._folds[s.out]
                at = sum(self._folds[t.out].width for t in folds[:k])
                wide += carried[at : at + fold.width]
                wide += fold.start() * (unroll - 1)
            out = self._whole(axis, wide, lambda i, there: step(i, there, unroll, None))
            carried = []
            for s in folds:
                fold = self._folds[s.out]
                parts = [[out.pop(0) for _ in range(fold.width)] for _ in range(unroll)]
                while len(parts) > 1:
                    half = len(parts) // 2
                    parts = [fold.join(x, y) for x, y in zip(parts[:half], parts[half:], strict=True)]
                carried += parts[0]
        return self._rest(axis, carried, lambda i, there: step(i, there, 1, self._mask(i, axis.length)))

    def _accumulate(self, folds: Sequence[Fold], here: _Here, carried: list[Value]) -> list[Value]:
        out: list[Value] = []
        carried = list(carried)
        for s in folds:
            fold = self._folds[s.out]
            count = here.vectors if fold.lanes > 1 else 1
            xs = self._read(s.x, here)
            for u in range(count):
                part = [carried.pop(0) for _ in range(fold.width)]
                x = xs[u if len(xs) > 1 else 0]
                x = fold.convert(x)
                x = x if x.type.lanes == fold.lanes else self._b.splat(x, fold.lanes)
                index = self._number(here, u) if fold.width > 1 else None
                mask = here.mask if self.nest.along in self.nest.inner and fold.lanes > 1 else None
                out += fold.add(part, x, index, mask)
        return out

    def _number(self, here: _Here, u: int) -> Value:
        """The number of the folded element that is at hand, in row-major order."""
        b = self._b
        total = Value("0", I64)
        for axis in self.nest.inner:
            i = here.entered[axis]
            total = b.op("add", total, b.op("mul", i, Value(str(axis.rank), I64)))
        along = self.nest.along
        if along is None or not along.rank:
            return total
        lanes = self.nest.lanes
        ranks = b.op("mul", b.iota(Type("i64", lanes)), constant(Type("i64", lanes), along.rank))
        first = b.op("add", total, Value(str(u * lanes * along.rank), I64))
        return b.op("add", b.splat(first, lanes), ranks)

    # ── statements

    def _statement(self, s: Statement, here: _Here) -> None:
        match s:
            case Load():
                self._values[s.out] = self._load(s, here)
            case Compute():
                self._values[s.out] = self._compute(s, here)
            case Store():
                self._store(s, here)

    def _read(self, x: Atom, here: _Here) -> Lanes:
        if isinstance(x, Literal):
            return [constant_of(x)]
        return self._values[x][: max(1, here.vectors)]

    def _compute(self, s: Compute, here: _Here) -> Lanes:
        inputs = [self._read(x, here) for x in s.inputs]
        count = max(map(len, inputs))
        out = []
        for u in range(count):
            xs = [x[u if len(x) > 1 else 0] for x in inputs]
            lanes = max(x.type.lanes for x in xs)
            xs = [self._b.splat(x, lanes) for x in xs]
            out.append(code(self._b, s.primitive, xs, s.inputs, s.out))
        return out

    def _stride(self, s: Access, here: _Here) -> int:
        along = self.nest.along
        return along.strides[s] if along is not None and along in here.entered else 0

    def _load(self, s: Load, here: _Here) -> Lanes:
        b = self._b
        type = Type(memory_lane(s.buffer.dtype))
        size = int(s.buffer.dtype.itemsize)
        if self._is_interleaved(s, here):
            return [from_memory(b, x, s.buffer.dtype) for x in self._deinterleaved(s, type, size, here.vectors)]
        out = []
        for place, spread in self._targets(s, here):
            if place.type.lanes > 1:
                mask = here.mask or constant(Type("i1", place.type.lanes), True)
                x = self._gather(type.lane, place, size, mask)
            elif spread:
                x = self._consecutive(s, type.lane, place, size, here.mask, spread)
            else:
                x = b.load(type, place, size)
            out.append(from_memory(b, x, s.buffer.dtype))
        return out

    # ── rows of few elements, of which each lane has one

    def _is_interleaved(self, s: Access, here: _Here) -> bool:
        along = self.nest.along
        inside = along is not None and along in here.entered and here.mask is None
        return inside and bool(self.nest.interleaved.get(s))

    def _row(self, s: Access) -> tuple[int, int, int, tuple[Var, str, int]]:
        """The length of a row, which element of it is meant, where the rows begin, and a key for these rows."""
        length = self.nest.interleaved[s]
        which = self._shifts[s] % length
        start = self._shifts[s] - which
        return length, which, start, (s.buffer, self._places[s].text, start)

    def _deinterleaved(self, s: Load, type: Type, size: int, vectors: int) -> Lanes:
        """The elements of the lanes, from whole vectors that hold all of the rows."""
        b, lanes = self._b, self.nest.lanes
        length, which, start, key = self._row(s)
        rows = self._rows.setdefault(key, [])
        for u in range(len(rows), vectors):
            places = [b.offset(self._places[s], start + (u * length + k) * lanes, type.lane) for k in range(length)]
            rows.append(b.unzip([b.load(Type(type.lane, lanes), place, size) for place in places]))
        return [rows[u][which] for u in range(vectors)]

    def _interleave(self, s: Store, xs: Lanes, size: int, vectors: int) -> None:
        """Write whole vectors when all elements of the rows are there."""
        b, lanes = self._b, self.nest.lanes
        length, which, start, key = self._row(s)
        row = self._unwritten.setdefault(key, {})
        row[which] = [b.splat(xs[u if len(xs) > 1 else 0], lanes) for u in range(vectors)]
        if len(row) < length:
            return
        del self._unwritten[key]
        for u in range(vectors):
            for k, x in enumerate(b.zip([row[i][u] for i in range(length)])):
                b.store(x, b.offset(self._places[s], start + (u * length + k) * lanes, x.type.lane), size)

    def _targets(self, s: Access, here: _Here) -> list[tuple[Value, int]]:
        """For each vector its address and its stride: 1, −1, or 0 for one element; or addresses, one for each lane."""
        b, lane = self._b, memory_lane(s.buffer.dtype)
        place = b.offset(self._places[s], self._shifts[s], lane)
        shifts: list[Lanes] = []
        for offset in s.offsets:
            xs = self._index(offset, here)
            if len(xs) == 1 and xs[0].type.lanes == 1:
                place = b.offset(place, self._times(xs[0], offset.stride), lane)
            else:
                shifts.append([self._times(x, offset.stride) for x in xs])
        stride, lanes = self._stride(s, here), self.nest.lanes
        if not stride and not shifts:
            return [(place, 0)]
        out = []
        for u in range(here.vectors):
            at = b.offset(place, u * lanes * stride, lane)
            if stride in (1, -1) and not shifts:
                out.append((at if stride == 1 else b.offset(at, 1 - lanes, lane), stride))
                continue
            type = Type("i64", lanes)
            index = b.op("mul", b.iota(type), constant(type, stride)) if stride else constant(type, 0)
            for shift in shifts:
                index = b.op("add", index, shift[u if len(shift) > 1 else 0])
            out.append((b.emit(f"getelementptr {lane}, {at}, {index}", Type("ptr", lanes)), 0))
        return out

    def _times(self, x: Value, stride: int) -> Value:
        return x if stride == 1 else self._b.op("mul", x, self._b.like(x, stride))

    def _index(self, offset: Offset, here: _Here) -> Lanes:
        """An index as it counts from the start; a wrong one is noted, and then 0."""
        b = self._b
        out = []
        for x in self._read(offset.index, here):
            dtype = offset.index.dtype
            if x.type.lane != "i64":
                x = b.cast("sext" if dtype.kind == "i" else "zext", x, "i64")
            length = b.like(x, offset.length)
            if dtype.kind == "i":
                below = b.compare("slt", x, b.like(x, 0))
                x = b.select(below, b.op("add", x, length), x)
            if offset.clamped:
                x = b.intrinsic("smax", x, b.like(x, 0))
                out.append(b.intrinsic("smin", x, b.like(x, offset.length - offset.size)))
                continue
            wrong = b.compare("uge", x, length)
            self._note(wrong, here.mask if x.type.lanes > 1 else None)
            out.append(b.select(wrong, b.like(x, 0), x))
        return out

    def _note(self, wrong: Value, mask: Value | None) -> None:
        b = self._b
        if wrong.type.lanes > 1:
            if mask is not None:
                wrong = b.op("and", wrong, mask)
            wrong = b.call(f"llvm.vector.reduce.or.{wrong.type.suffix}", I1, wrong)
        b.when(wrong, lambda: b.store(Value("1", I64), self._failed, 8))

    def _consecutive(self, s: Access, lane: str, place: Value, size: int, mask: Value | None, stride: int) -> Value:
        b, lanes = self._b, self.nest.lanes
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

    def _gather(self, lane: str, places: Value, size: int, mask: Value) -> Value:
        type = Type(lane, places.type.lanes)
        name = f"llvm.masked.gather.{type.suffix}.{places.type.suffix}"
        self._b.module.declare_text(name, f"declare {type} @{name}({places.type}, {mask.type}, {type})")
        at = f"{places.type} align {size} {places.text}"
        return self._b.emit(f"call {type} @{name}({at}, {mask}, {type} zeroinitializer)", type)

    def _store(self, s: Store, here: _Here) -> None:
        b = self._b
        size = int(s.buffer.dtype.itemsize)
        dtype = s.buffer.dtype
        xs = [to_memory(b, convert(b, x, s.x.dtype, dtype), dtype) for x in self._read(s.x, here)]
        if self._is_interleaved(s, here):
            self._interleave(s, xs, size, here.vectors)
            return
        for u, (place, spread) in enumerate(self._targets(s, here)):
            x = xs[u if len(xs) > 1 else 0]
            if place.type.lanes == 1 and not spread:
                if s.combine is not None:
                    there = from_memory(b, b.load(x.type, place, size), dtype)
                    x = to_memory(b, combine(b, s.combine, there, from_memory(b, x, dtype), dtype), dtype)
                b.store(x, place, size)
                continue
            x = b.splat(x, self.nest.lanes)
            if s.combine is not None:
                mask = here.mask or constant(Type("i1", x.type.lanes), True)
                if place.type.lanes > 1:
                    there = self._gather(x.type.lane, place, size, mask)
                else:
                    there = self._consecutive(s, x.type.lane, place, size, here.mask, spread)
                both = combine(b, s.combine, from_memory(b, there, dtype), from_memory(b, x, dtype), dtype)
                x = to_memory(b, both, dtype)
            if here.mask is None and spread == 1 and s.buffer in self._streamed:
                b.store(x, place, x.type.lanes * x.type.bits // 8, b.module.streamed)
                continue
            self._write(x, place, size, here.mask, spread)

    def _write(self, x: Value, place: Value, size: int, mask: Value | None, stride: int) -> None:
        b = self._b
        if place.type.lanes > 1:
            mask = mask or constant(Type("i1", x.type.lanes), True)
            name = f"llvm.masked.scatter.{x.type.suffix}.{place.type.suffix}"
            b.module.declare_text(name, f"declare void @{name}({x.type}, {place.type}, {mask.type})")
            b.do(f"call void @{name}({x}, {place.type} align {size} {place.text}, {mask})")
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


def _taken_in(
    b: Builder,
    fold: Folding,
    partials: Partials,
    s: Fold,
    entered: Mapping[Axis, Value],
    number: Value,
    there: list[Value],
) -> list[Value]:
    """Accumulators with what one part has left."""
    width = fold.width
    parts = partials.of(b, number).get(b, s, fold, len(there) // width, entered)
    return [x for k, part in enumerate(parts) for x in fold.join(there[k * width : (k + 1) * width], part)]


def phases(kernel: Kernel, nest: Nest) -> list[tuple[list[Statement], list[Statement]]]:
    """For each phase what is computed before its folded loops, and what within them."""
    inner = set(nest.inner)
    phase: dict[Var, int] = {}
    folds = {s.out for s in kernel.body if isinstance(s, Fold)}
    before: dict[int, list[Statement]] = {}
    ends: dict[int, list[Statement]] = {}
    for s in kernel.body:
        number = max((phase[x] + (x in folds) for x in operands(s) if isinstance(x, Var)), default=0)
        if not isinstance(s, Store):
            phase[s.out] = number
        within = isinstance(s, Fold) or bool(nest.depends[s if isinstance(s, Store) else s.out] & inner)
        if not within:
            before.setdefault(number, []).append(s)
        elif isinstance(s, Fold | Store):
            ends.setdefault(number, []).append(s)
    outside = {s.out for group in before.values() for s in group if not isinstance(s, Store)} | folds
    out = []
    for number in range(max((*before, *ends), default=0) + 1):
        last = ends.get(number, [])
        wanted = {x for s in last for x in operands(s) if isinstance(x, Var)} - outside
        needed = {id(s) for s in (*_reaching(kernel.body, wanted, outside), *last)}
        out.append((before.get(number, []), [s for s in kernel.body if id(s) in needed]))
    return out


def _reaching(body: Sequence[Statement], wanted: set[Var], have: set[Var]) -> list[Statement]:
    return reads([s for s in body if isinstance(s, Store) or s.out not in have], wanted)
