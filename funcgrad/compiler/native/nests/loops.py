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

from funcgrad.compiler.native.ir.kernel import (
    Access,
    Compute,
    Fold,
    Kernel,
    Load,
    Statement,
    Store,
    operands,
    reads,
)
from funcgrad.compiler.native.machine.builder import I64, Builder, Type, Value, constant
from funcgrad.compiler.native.nests import positions
from funcgrad.compiler.native.nests.accesses import Accesses, Here, Lanes
from funcgrad.compiler.native.nests.axis import Axis
from funcgrad.compiler.native.nests.folds import Folding, Partials, folding
from funcgrad.compiler.native.nests.nest import Nest
from funcgrad.compiler.native.scalars.convert import constant_of
from funcgrad.compiler.native.scalars.operations import code, overflow
from funcgrad.core.ir import Atom, Literal
from funcgrad.core.trace import Var

# of a loop: it is called with the index and with what is carried, and returns what is carried on
Body: TypeAlias = Callable[[Value, list[Value]], list[Value]]


@final
@dataclass(frozen=True, slots=True)
class Span:
    """The part of an axis that is gone through, between two indices that are known when the program runs.

    It is not empty. Along the axis of lanes it begins with a whole block, and ends with one, or at the end of the axis.
    """

    axis: Axis
    start: Value
    stop: Value


@final
class LoopWriter:
    """Writes the loops of one kernel.

    Args:
        b: Where to.
        kernel: The kernel; none of the axes of its domain is empty.
        pointers: The address of each buffer.
        failed: Where to note that an index is out of bounds.
        nest: Its loops.
        vector_bytes: The size of a vector.
        streamed: The buffers that are written past the cache; the nest begins to write to them at a whole vector.
    """

    def __init__(
        self,
        b: Builder,
        kernel: Kernel,
        pointers: Mapping[Var, Value],
        failed: Value,
        nest: Nest,
        vector_bytes: int,
        streamed: frozenset[Var] = frozenset(),
    ) -> None:
        self._b = b
        self._kernel = kernel
        self._vector_bytes = vector_bytes
        self.nest = nest
        self._span: Span | None = None
        self._accesses = Accesses(b, kernel, pointers, failed, nest, streamed, self._read)
        self._folds: dict[Var, Folding] = {}
        # what is in scope
        self._values: dict[Var, Lanes] = {}
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
        self._outer(0, Here({}))
        self._accesses.finish()

    # ── the loops over the axes that are not folded

    def _outer(self, depth: int, here: Here) -> None:
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

    def _loop(self, axis: Axis, here: Here, within: set[Access], body: Callable[[Here], None]) -> None:
        """Run `body` for each index of an axis that is not folded."""

        def step(i: Value, vectors: int, mask: Value | None) -> None:
            with self._scope(axis):
                self._accesses.advance(axis, i, within)
                entered = {**here.entered, axis: i}
                if axis is self.nest.along:
                    body(Here(entered, vectors, mask))
                else:
                    body(replace(here, entered=entered))

        def body_of(vectors: int, masked: bool) -> Callable[[Value, list[Value]], list[Value]]:
            def run(i: Value, _: list[Value]) -> list[Value]:
                step(i, vectors, self._mask(i, axis.length) if masked else None)
                return []

            return run

        if axis is not self.nest.along:
            self._singly(axis, body_of(1, False))
        else:
            self._whole(axis, [], body_of(self.nest.unroll, False))
            self._rest(axis, [], body_of(1, True))

    def _singly(self, axis: Axis, body: Body) -> None:
        """One index after the other; the innermost loop takes positions that are within bounds as they stand."""
        innermost = axis is self.nest.outer[-1] and not self.nest.inner and self._span is None
        checked = positions.checkable(self._kernel, axis) if innermost and not axis.short else []
        if not checked:
            self._over(axis, [], body)
            return
        places = [self._accesses.address(c.load) for c in checked]

        def trusting(run: Callable[[], None]) -> None:
            self._accesses.trusted = {c.offset for c in checked}
            run()
            self._accesses.trusted = set()

        def single(i: Value) -> None:
            body(i, [])

        whole = positions.in_blocks(self._b, axis.length, checked, places, self._vector_bytes, single, trusting)
        if whole < axis.length:
            self._run(whole, axis.length, 1, [], body)

    def _parts(self, axis: Axis) -> tuple[int, int, bool]:
        """The size of a block, where the last whole one ends, and whether something is left."""
        block = self.nest.block
        whole = axis.length - axis.length % block
        return block, whole, whole < axis.length

    def _over(self, axis: Axis, carried: list[Value], body: Body) -> list[Value]:
        """Run a body for each index of an axis, or of the span of it."""
        span = self._span
        if axis.short:
            for i in range(axis.length):
                carried = body(Value(str(i), I64), carried)
            return carried
        if span is None or span.axis is not axis:
            return self._run(0, axis.length, 1, carried, body)
        return self._b.loop(span.start, span.stop, 1, carried, body)

    def _whole(self, axis: Axis, carried: list[Value], body: Body) -> list[Value]:
        """Run a body for each whole block of the axis of lanes."""
        block, whole, rest = self._parts(axis)
        span = self._span
        if not whole:
            return carried
        if span is None or span.axis is not axis:
            return self._run(0, whole, block, carried, body)
        if not rest:
            return self._b.loop(span.start, span.stop, block, carried, body)
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
            if stop - start <= step:
                return body(Value(str(start), I64), carried)
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

    @contextmanager
    def _scope(self, axis: Axis) -> Iterator[None]:
        values = dict(self._values)
        with self._accesses.scope(loop=axis is self.nest.along or not axis.short):
            yield
        self._values = values

    # ── the loops over the folded axes

    def _inner(self, body: Sequence[Statement], here: Here) -> None:
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

    def _join(self, body: Sequence[Statement], here: Here) -> None:
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
        self, depth: int, body: Sequence[Statement], here: Here, folds: Sequence[Fold], carried: list[Value]
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
            with self._scope(axis):
                self._accesses.advance(axis, i, within)
                entered = {**here.entered, axis: i}
                deeper = replace(here, entered=entered)
                if axis is self.nest.along:
                    deeper = Here(entered, vectors, mask)
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

    def _accumulate(self, folds: Sequence[Fold], here: Here, carried: list[Value]) -> list[Value]:
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

    def _number(self, here: Here, u: int) -> Value:
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

    def _statement(self, s: Statement, here: Here) -> None:
        match s:
            case Load():
                self._values[s.out] = self._accesses.load(s, here)
            case Compute():
                self._values[s.out] = self._compute(s, here)
            case Store():
                self._accesses.store(s, self._read(s.x, here), here)

    def _read(self, x: Atom, here: Here) -> Lanes:
        if isinstance(x, Literal):
            return [constant_of(x)]
        return self._values[x][: max(1, here.vectors)]

    def _compute(self, s: Compute, here: Here) -> Lanes:
        inputs = [self._read(x, here) for x in s.inputs]
        count = max(map(len, inputs))
        for wrong in overflow(self._b, s.primitive, [x[0] for x in inputs], s.inputs):
            self._accesses.note(wrong)
        out = []
        for u in range(count):
            xs = [x[u if len(x) > 1 else 0] for x in inputs]
            lanes = max(x.type.lanes for x in xs)
            xs = [self._b.splat(x, lanes) for x in xs]
            out.append(code(self._b, s.primitive, xs, s.inputs, s.out))
        return out


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
