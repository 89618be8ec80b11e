"""Kernels that run on several threads: which, along which axis, and how their parts come together.

    short                                     loops where the kernel stands
    an axis that is not folded is long        a function of a range of it, which `parallel` calls (see `pool`)
    a folded axis is long, the others short   a function of a range of parts of a fixed number, whose results are
                                              combined in their order

A kernel of the last kind that goes over its folded axes several times is first cut into kernels that do so once.
How a kernel is cut depends on the kernel alone, so its results are the same on any number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, final

from funcgrad.compiler.native.ir.kernel import Fold, Kernel, Load, Statement, Store, operands, result
from funcgrad.compiler.native.machine.builder import I64, PTR, Builder, Value
from funcgrad.compiler.native.machine.pool import NAMES
from funcgrad.compiler.native.nests.axis import Axis
from funcgrad.compiler.native.nests.folds import Partials
from funcgrad.compiler.native.nests.loops import LoopWriter, Span, phases
from funcgrad.compiler.native.nests.nest import Nest, most_seconds, plan_nest, seconds
from funcgrad.compiler.native.nests.rows import in_blocks
from funcgrad.core.trace import Var
from funcgrad.core.views import View, contiguous, size

Externals: TypeAlias = Callable[[str], Value]

# a kernel that takes less is not worth the time that it takes to wake threads, nor a function of its own
_WORTH = 40e-6
# how long a chunk takes at least
_CHUNK = 8e-6
# an axis of fewer steps is no good to cut; folds are cut into at most so many parts
_FEW, _PARTS = 8, 64
# a kernel of so many statements leaves little to do when its folds are done
_FEW_STATEMENTS = 20
# bytes of the stack for partial results
_ROOM = 32768
# buffers of this size in bytes, or larger, do not stay in the cache, and are written past it
_STREAMED = 8 << 20


def write_kernel(
    b: Builder,
    kernel: Kernel,
    pointers: Mapping[Var, Value],
    failed: Value,
    vector_bytes: int,
    externals: Externals,
    aligned: frozenset[Var] = frozenset(),
) -> bool:
    """Write the code of a kernel.

    Args:
        b: Where to.
        kernel: The kernel; none of the axes of its domain is empty.
        pointers: The address of each buffer.
        failed: Where to note that an index is out of bounds.
        vector_bytes: The size of a vector.
        externals: Gives what the pool publishes by name, within the function that is being written.
        aligned: The buffers that are known to begin at a whole line of the cache.

    Returns:
        True if all that it does is in functions that it calls, but for a few numbers.
    """
    simple = True
    for piece in in_blocks(kernel, vector_bytes):
        nest = plan_nest(piece, vector_bytes)
        if is_long(piece, nest):
            outlined = _Outlined(b, piece, nest, pointers, failed, vector_bytes, aligned)
            simple = outlined.write(externals) and simple
        else:
            LoopWriter(b, piece, pointers, failed, nest, vector_bytes).write()
            simple = False
    return simple


def runs_on_threads(kernel: Kernel, vector_bytes: int) -> bool:
    """True if a kernel, or a part of it, is worth several threads."""
    if most_seconds(kernel) < _WORTH:
        return False
    return any(is_long(piece, plan_nest(piece, vector_bytes)) for piece in in_blocks(kernel, vector_bytes))


def is_long(kernel: Kernel, nest: Nest) -> bool:
    """True if it pays to run a kernel on several threads."""
    return seconds(kernel, nest) > _WORTH and _cut(kernel, nest) is not None


@final
@dataclass(frozen=True, slots=True)
class _Cut:
    """How a kernel is cut: along an axis, into steps of so many indices, or if it is folded, into so many parts."""

    axis: Axis
    step: int
    parts: int = 0


def _cut(kernel: Kernel, nest: Nest) -> _Cut | None:
    # the loops over short axes are written out
    outer = [_Cut(a, _step(a, nest)) for a in nest.outer if _long(a, nest) and _independent(kernel, a, nest)]
    for cut in outer:
        if cut.axis.length >= _FEW * cut.step:
            return cut
    room = _ROOM // max(1, _bytes_of_partials(kernel, nest))
    if room >= 2 and not any(s.combine or s.offsets for s in kernel.body if isinstance(s, Store)):
        for axis in (a for a in nest.inner if _long(a, nest)):
            step = _step(axis, nest)
            most = min(_PARTS, room, axis.length // step)
            if most >= _FEW:
                return _Cut(axis, step, _non_empty(-(-axis.length // step), most))
    longest = max(outer, key=lambda c: c.axis.length // c.step, default=None)
    return longest if longest is not None and longest.axis.length > longest.step else None


def _non_empty(steps: int, most: int) -> int:
    """How many parts of equal length, but for the last one, there are at most, if none is to be empty."""
    return -(-steps // -(-steps // most))


def _long(axis: Axis, nest: Nest) -> bool:
    return axis is nest.along or not axis.short


def _step(axis: Axis, nest: Nest) -> int:
    return nest.block if axis is nest.along else 1


def _bytes_of_partials(kernel: Kernel, nest: Nest) -> int:
    """For each part; an upper bound that also counts what is handed on to the next kernel."""
    return 8 * math.prod(n for _, n in _outer_lengths(nest)) * (len(kernel.body) if kernel.folded else 1)


def _outer_lengths(nest: Nest) -> Iterator[tuple[Axis, int]]:
    """The axes that are not folded, with that of lanes last, and rounded up to whole blocks."""
    for axis in sorted(nest.outer, key=lambda a: a is nest.along):
        step = _step(axis, nest)
        yield axis, -(-axis.length // step) * step


def _independent(kernel: Kernel, axis: Axis, nest: Nest) -> bool:
    """True if what is written for different indices of an axis goes to different places."""
    for s in kernel.body:
        if not isinstance(s, Store):
            continue
        if s.offsets or not _injective(s, nest):
            return False
        if s.combine and not axis.strides[s]:
            return False
    return True


def _injective(s: Store, nest: Nest) -> bool:
    """True if a store writes to each place once, or the same value again."""
    reach = 0
    moving = [(abs(a.strides[s]), a.length) for a in (*nest.outer, *nest.inner) if a.strides[s]]
    for stride, length in sorted(moving):
        if stride <= reach:
            return False
        reach += stride * (length - 1)
    return True


# ── functions


@final
class _Outlined:
    """Writes a kernel as functions of ranges, and the calls that have threads run them.

    The functions find the addresses that they work with in an array on the stack, the closure, behind which there is
    room for what they hand on.
    """

    def __init__(
        self,
        b: Builder,
        kernel: Kernel,
        nest: Nest,
        pointers: Mapping[Var, Value],
        failed: Value,
        vector_bytes: int,
        aligned: frozenset[Var],
    ) -> None:
        self._b = b
        self._module = b.module
        self._buffers = list(pointers)
        self._given = [*pointers.values(), failed]
        self._vector_bytes = vector_bytes
        self._aligned = aligned
        self._name = b.module.fresh("kernel")
        self._handed: dict[Var, int] = {}
        # the closure comes first
        self._room = -(-8 * (len(self._given) + 1) // 64) * 64
        cut = _cut(kernel, nest)
        self._kernels = _once_each(kernel, nest) if cut is not None and cut.parts else [kernel]

    def write(self, externals: Externals) -> bool:
        """Write the functions, and have them called; true if that is all."""
        simple = True
        parallel, pool = (externals(name) for name in NAMES)
        for kernel in self._kernels:
            for s in kernel.accesses:
                if s.buffer not in self._buffers and s.buffer not in self._handed:
                    self._handed[s.buffer] = self._reserve(8 * max(1, size(s.buffer.shape)))
        nests = [plan_nest(kernel, self._vector_bytes) for kernel in self._kernels]
        plans = [(kernel, nest, _cut(kernel, nest)) for kernel, nest in zip(self._kernels, nests, strict=True)]
        partials = [self._partials(kernel, nest, cut) if cut and cut.parts else None for kernel, nest, cut in plans]
        b, given = self._b, self._given
        room = b.room(self._room)
        for i, x in enumerate((*given, room)):
            b.store(x, b.offset(room, i, "ptr"), 8)
        for (kernel, nest, cut), made in zip(plans, partials, strict=True):
            if cut is None or seconds(kernel, nest) < _WORTH:
                self._writer(b, kernel, nest, [*given, room]).write()
                simple = False
                continue
            count, grain = cut.parts, 1
            if not cut.parts:
                count = cut.axis.length
                grain = math.ceil(_CHUNK / seconds(kernel, nest) * count / cut.step) * cut.step
            function = self._part(b, kernel, nest, cut, made)
            passed = f"{pool}, {function}, {room}, i64 {count}, i64 {grain}"
            b.do(f"call void {parallel.text}({passed})")
            if made is not None:
                writer = self._writer(b, kernel, nest, [*given, room])
                writer.write_joined(made.within(b, room))
                simple = simple and _is_simple(kernel, made)
        return simple

    def _partials(self, kernel: Kernel, nest: Nest, cut: _Cut) -> Partials:
        folds = tuple(s for s in kernel.body if isinstance(s, Fold))
        made = Partials(folds, cut.parts, tuple(_outer_lengths(nest)))
        return made.placed(self._reserve(made.size * cut.parts))

    def _reserve(self, bytes_: int) -> int:
        start = self._room
        self._room += -(-bytes_ // 64) * 64
        return start

    def _writer(
        self, b: Builder, kernel: Kernel, nest: Nest, closure: Sequence[Value], streamed: frozenset[Var] = frozenset()
    ) -> LoopWriter:
        *buffers, failed, room = closure
        pointers = dict(zip(self._buffers, buffers, strict=True))
        pointers |= {v: b.offset(room, at, "i8") for v, at in self._handed.items()}
        return LoopWriter(b, kernel, pointers, failed, nest, self._vector_bytes, streamed)

    def _part(self, b: Builder, kernel: Kernel, nest: Nest, cut: _Cut, partials: Partials | None) -> Value:
        """The function that runs a part of a kernel."""
        streamed = _streamed(kernel, nest)
        if streamed:
            # memory is the limit, so a step may be one vector, of which there is less code
            nest = replace(nest, unroll=1)
        special = self._function(kernel, nest, cut, partials, streamed)
        # a vector can be written past the cache only if it is aligned
        doubtful = [x for v, x in zip(self._buffers, self._given, strict=False) if v in streamed - self._aligned]
        if not doubtful:
            return special
        usual = self._function(kernel, nest, cut, partials, frozenset())
        bits = Value("0", I64)
        for x in doubtful:
            bits = b.op("or", bits, b.cast("ptrtoint", x, "i64"))
        low = b.op("and", bits, Value(str(self._vector_bytes - 1), I64))
        return b.select(b.compare("eq", low, Value("0", I64)), special, usual)

    def _function(
        self, kernel: Kernel, nest: Nest, cut: _Cut, partials: Partials | None, streamed: frozenset[Var]
    ) -> Value:
        name = self._module.fresh(f"{self._name}.")
        b = Builder(self._module)
        with b.function(name, "internal void", [("ptr", "closure"), ("i64", "start"), ("i64", "stop")]):
            closure = Value("%closure", PTR)
            count = len(self._given) + 1
            pointers = [b.load(PTR, b.offset(closure, i, "ptr"), 8) for i in range(count)]
            start, stop = Value("%start", I64), Value("%stop", I64)
            if partials is None:
                self._writer(b, kernel, nest, pointers, streamed).write(Span(cut.axis, start, stop))
            else:
                self._parts(b, kernel, nest, cut, partials.within(b, pointers[-1]), pointers)
            if streamed:
                # others may read what was written as soon as this returns
                b.do("fence seq_cst")
            b.ret()
        return Value(f"@{name}", PTR)

    def _parts(
        self, b: Builder, kernel: Kernel, nest: Nest, cut: _Cut, partials: Partials, pointers: Sequence[Value]
    ) -> None:
        steps = -(-cut.axis.length // cut.step)
        length = Value(str(-(-steps // cut.parts) * cut.step), I64)

        def part(number: Value, _: list[Value]) -> list[Value]:
            start = b.op("mul", number, length)
            stop = b.intrinsic("smin", b.op("add", start, length), Value(str(cut.axis.length), I64))
            self._writer(b, kernel, nest, pointers).write_partials(Span(cut.axis, start, stop), partials, number)
            return []

        b.loop(Value("%start", I64), Value("%stop", I64), 1, [], part)


def _is_simple(kernel: Kernel, partials: Partials) -> bool:
    """True if what is left to do with partial results is arithmetic of a few numbers of the usual sizes."""
    usual = all(
        out is None or (out.dtype.kind in "fiu" and out.dtype.itemsize >= 4) for out in map(result, kernel.body)
    )
    numbers = all(n == 1 for _, n in partials.axes) and not any(isinstance(s.how, str) for s in partials.folds)
    return usual and numbers and len(kernel.body) <= _FEW_STATEMENTS


def _streamed(kernel: Kernel, nest: Nest) -> frozenset[Var]:
    """The large buffers that a kernel writes to, one whole vector after the other."""
    found = set()
    stores = [s for s in kernel.body if isinstance(s, Store)]
    read = {s.buffer for s in kernel.body if isinstance(s, Load)}
    for s in stores:
        along, size_ = nest.along, int(s.buffer.dtype.itemsize)
        whole = along is not None and along.strides[s] == 1 and along.length % nest.lanes == 0 and not s.offsets
        whole = whole and not s.combine and s.view.offset % nest.lanes == 0
        others = [a.strides[s] for a in (*nest.outer, *nest.inner) if a is not along]
        whole = whole and all(stride % nest.lanes == 0 for stride in others)
        full = nest.lanes * size_ >= 16 and size(s.buffer.shape) * size_ >= _STREAMED
        if whole and full and s.buffer not in read and [t.buffer for t in stores].count(s.buffer) == 1:
            found.add(s.buffer)
    return frozenset(found)


# ── kernels that go over their folded axes once


def _once_each(kernel: Kernel, nest: Nest) -> list[Kernel]:
    """Kernels that do together what one does, each with one phase; they hand values on in memory."""
    planned = phases(kernel, nest)
    if len(planned) < 2 or not any(inside for _, inside in planned[1:]):
        return [kernel]
    folded = set(kernel.folded)
    left = View(kernel.domain, contiguous(tuple(1 if i in folded else n for i, n in enumerate(kernel.domain))).strides)
    rest = tuple(n for i, n in enumerate(kernel.domain) if i not in folded)
    bodies: list[list[Statement]] = []
    carried: list[Statement] = list(planned[0][0])
    for number, (_, inside) in enumerate(planned):
        after = planned[number + 1][0] if number + 1 < len(planned) else []
        bodies.append([*carried, *inside, *after])
        carried = []
    return list(_handing_on(kernel, bodies, left, rest))


def _handing_on(
    kernel: Kernel, bodies: Sequence[Sequence[Statement]], left: View, rest: tuple[int, ...]
) -> Iterator[Kernel]:
    """Each body as a kernel that stores what later ones need, and loads what it needs from earlier ones."""
    places: dict[Var, Var] = {}
    order = {id(s): i for i, s in enumerate(kernel.body)}
    for number, body in enumerate(bodies):
        own = {out for s in body if (out := result(s)) is not None}
        missing = _needed(body)
        later = set().union(*(_needed(other) for other in bodies[number + 1 :]))
        stores: list[Statement] = []
        for x in own & later:
            if x not in places:
                places[x] = Var(rest, x.dtype)
                stores.append(Store(places[x], left, x))
        stores.sort(key=lambda s: min(order[id(t)] for t in body if result(t) is s.x))  # type: ignore[union-attr]
        loads = [Load(x, places[x], left) for x in missing]
        ordered = sorted(body, key=lambda s: order[id(s)])
        folded = kernel.folded if any(isinstance(s, Fold) for s in body) else ()
        yield Kernel(kernel.domain, folded, (*loads, *ordered, *stores))


def _needed(body: Sequence[Statement]) -> dict[Var, None]:
    """The values that a body reads and does not compute, in order."""
    own = {result(s) for s in body}
    return dict.fromkeys(x for s in body for x in operands(s) if isinstance(x, Var) and x not in own)
