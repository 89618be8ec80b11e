"""Where each buffer of a routine lives: in an argument, in a result, or in the arena.

The arena is one block of memory. A buffer takes a part of it from the step that writes it first to the step that reads
it last; parts of buffers that are never alive together may overlap. Several buffers, one after the other, may be one
and the same place: an elementwise step writes its result over an operand that nobody reads any more, an array of which
some elements are overwritten stays where it is, and so does what a loop carries.

An array whose length is unknown is a cell of the arena, which holds the address of memory that grows.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from funcgrad.compiler.native.ir.kernel import Fold, Kernel, Load, Store, operands
from funcgrad.compiler.native.ir.steps import Loop, Routine, Step, buffers_of
from funcgrad.core.ir import Atom
from funcgrad.core.trace import Var
from funcgrad.core.views import size

_ALIGN = 64
CELL = 16
"""The bytes of a cell."""
# in bytes: what is smaller is no matter
_LARGE = 1 << 14


@final
@dataclass(frozen=True, slots=True)
class Memory:
    """The places of buffers.

    Attributes:
        inputs: For each buffer that is an argument, its number.
        outputs: For each buffer that is a result, its number.
        arena: For all others the offset in the arena, in bytes.
        scratch: For each step that needs memory for itself, the offset of that in the arena.
        total: The size of the arena in bytes.
        kept: The results, by number, that are in the memory of the argument they are paired with.
        overwritten: The arguments, by number, that are written to.
        cells: The buffers of unknown length.
    """

    inputs: Mapping[Var, int]
    outputs: Mapping[Var, int]
    arena: Mapping[Var, int]
    scratch: Mapping[int, int]
    total: int
    kept: frozenset[int]
    overwritten: frozenset[int]
    cells: tuple[Var, ...]


def plan_memory(routine: Routine, scratch: Mapping[int, int], kept: Mapping[Routine, frozenset[int]]) -> Memory:
    """Find a place for every buffer.

    Args:
        routine: What is planned for.
        scratch: For some steps, by number, the bytes they need for themselves.
        kept: For the body of each loop in it, the carries that stay where they are.
    """
    chains = _Chains(routine, kept)
    inputs = {v: i for i, v in enumerate(routine.inputs)}
    results = {v: k for k, v in enumerate(routine.schedule.outputs)}
    outputs: dict[Var, int] = {}
    alive: dict[Var, tuple[int, int]] = {}
    members: dict[Var, list[Var]] = {}
    overwritten, stays = set(), set()
    for chain in chains.all():
        head, tail = chain[0], chain[-1]
        if head in chains.inputs:
            inputs.update(dict.fromkeys(chain, chains.inputs[head]))
            overwritten |= {chains.inputs[head]} if len(chain) > 1 else set()
            stays |= {results[tail]} if tail in results else set()
        elif tail in results:
            outputs.update(dict.fromkeys(chain, results[tail]))
        else:
            alive[tail] = min(chains.first[v] for v in chain), max(chains.last[v] for v in chain)
            members[tail] = chain
    for tail, place in _before_results(alive, results, chains).items():
        outputs.update(dict.fromkeys(members[tail], place))
        del alive[tail]
    cells = tuple(v for v in alive if is_cell(v))
    for v in cells:
        # what is to be given back must be known from the beginning to the end
        alive[v] = 0, len(routine.schedule.steps) - 1
    places, own, total = _packed(alive, scratch, len(routine.schedule.steps))
    arena = {v: offset for tail, offset in places.items() for v in members[tail]}
    return Memory(inputs, outputs, arena, own, total, frozenset(stays), frozenset(overwritten), cells)


def is_cell(v: Var) -> bool:
    """True for a buffer whose length is unknown."""
    return bool(v.shape) and v.shape[0] < 0


def bytes_of(v: Var) -> int:
    """The size of a buffer."""
    return CELL if is_cell(v) else size(v.shape) * v.dtype.itemsize


@final
class _Chains:
    """Which buffers are one place, one after the other."""

    def __init__(self, routine: Routine, kept: Mapping[Routine, frozenset[int]]) -> None:
        schedule = routine.schedule
        self.inputs = {v: i for i, v in enumerate(routine.inputs)}
        self._results = set(schedule.outputs)
        self._pairs = {routine.inputs[i]: schedule.outputs[k] for i, k in routine.pairs}
        self.first, self.last = _lifetimes(schedule.steps)
        self._next: dict[Var, Var] = {}
        # for what has a predecessor, some earlier buffer of its chain
        self._up: dict[Var, Var] = {}
        for x, y in schedule.successors.items():
            if y in self.first:
                self._link(x, y)
        for i, step in enumerate(schedule.steps):
            if isinstance(step, Kernel):
                (self._share_folding if step.folded else self._share_kernel)(i, step)
            elif isinstance(step, Loop):
                self._share_loop(i, step, kept[step.body])
        self._share_pairs()

    def all(self) -> Iterator[list[Var]]:
        """The chains, first buffer first; most consist of one buffer."""
        # an argument may be a result and have no step
        for head in dict.fromkeys((*self.first, *self._pairs)):
            if head in self._up:
                continue
            chain = [head]
            while chain[-1] in self._next:
                chain.append(self._next[chain[-1]])
            yield chain

    def _link(self, x: Var, y: Var) -> None:
        self._next[x] = y
        self._up[y] = x

    def head(self, x: Var) -> Var:
        """The first buffer of a chain."""
        while x in self._up:
            above = self._up[x]
            # the way is shorter next time
            self._up[x] = self._up.get(above, above)
            x = above
        return x

    def _ends(self, x: Var, i: int, into: Var) -> bool:
        """True if a step that reads `x` as the last one may write `into` there."""
        if self.last[x] != i or x in self._results or x in self._next or into in self._up:
            return False
        head = self.head(x)
        return head not in self.inputs or self._pairs.get(head) is into

    def _share_kernel(self, i: int, kernel: Kernel) -> None:
        reads, _ = buffers_of(kernel)
        for s in kernel.body:
            if not isinstance(s, Store) or s.combine or s.offsets:
                continue
            # a buffer that is there already, or is not all written here, holds something else
            if self.first[s.buffer] < i or size(kernel.domain) != size(s.buffer.shape):
                continue
            for x in reads:
                if self._ends(x, i, s.buffer) and _fits(x, s, kernel):
                    self._link(x, s.buffer)
                    break

    def _share_folding(self, i: int, kernel: Kernel) -> None:
        """In a nest with folds, results take the places of what nobody reads any more.

        Such a result is written in the last phase that reads the buffer: there, each element is read before it is
        written over.
        """
        loads: dict[Var, list[Load]] = {}
        stores: dict[Var, list[Store]] = {}
        for s in kernel.accesses:
            if isinstance(s, Load):
                loads.setdefault(s.buffer, []).append(s)
            else:
                stores.setdefault(s.buffer, []).append(s)
        single = [ts[0] for v, ts in stores.items() if len(ts) == 1 and self.first[v] == i and v not in loads]
        phase = _phases(kernel) if single else {}
        for x, ts in loads.items():
            own = stores.get(x, [])
            apart = own and (len(own) > 1 or own[0].view.canonical != ts[0].view.canonical)
            if not single or len(ts) > 1 or apart:
                continue
            reached, end = _reached(kernel, ts[0], phase)
            for s in single:
                there = size(kernel.domain) == size(s.buffer.shape) and s.x in reached and phase[s] >= end
                free = not s.combine and not s.offsets and self._ends(x, i, s.buffer)
                if there and free and _fits(x, s, kernel, own[0] if own else None):
                    self._link(x, s.buffer)
                    break

    def _share_loop(self, i: int, loop: Loop, kept: frozenset[int]) -> None:
        roots = loop.roots
        for k in sorted(kept):
            block, v = loop.init[k], loop.carried[k]
            whole = block.offset == 0 and bytes_of(block.root) == bytes_of(v)
            if whole and roots.count(block.root) == 1 and self._ends(block.root, i, v):
                self._link(block.root, v)

    def _share_pairs(self) -> None:
        """The carry of a loop stays where it is, if the old one is read to the end before the new one is written."""
        for x, y in self._pairs.items():
            free = x is not y and x not in self._next and y not in self._up
            if free and self.last.get(x, -1) < self.first.get(y, -1):
                self._link(x, y)


def _before_results(
    alive: Mapping[Var, tuple[int, int]], results: Mapping[Var, int], chains: _Chains
) -> dict[Var, int]:
    """For some buffers the result in whose memory they are before that is written; a small one has place anywhere."""
    hosts = {chain[-1]: min(chains.first.get(v, 0) for v in chain) for chain in chains.all() if chain[-1] in results}
    hosts = {v: begin for v, begin in hosts.items() if bytes_of(v) >= _LARGE and chains.head(v) not in chains.inputs}
    taken = {v: [(begin, math.inf)] for v, begin in hosts.items()}
    places: dict[Var, int] = {}
    for x in sorted((v for v in alive if bytes_of(v) >= _LARGE), key=bytes_of, reverse=True):
        start, end = alive[x]
        for host in sorted(hosts, key=bytes_of):
            apart = all(end < begin or last < start for begin, last in taken[host])
            if bytes_of(x) <= bytes_of(host) and apart:
                taken[host].append((start, end))
                places[x] = results[host]
                break
    return places


def _lifetimes(steps: Sequence[Step]) -> tuple[dict[Var, int], dict[Var, int]]:
    first: dict[Var, int] = {}
    last: dict[Var, int] = {}
    for i, step in enumerate(steps):
        for v in (part for parts in buffers_of(step) for part in parts):
            first.setdefault(v, i)
            last[v] = i
    return first, last


def _phases(kernel: Kernel) -> dict[Var | Store, int]:
    """For each value and store how many folds have to end before it: in which run over the folded axes it is."""
    phase: dict[Var | Store, int] = {}
    folds = {s.out for s in kernel.body if isinstance(s, Fold)}
    for s in kernel.body:
        number = max((phase[x] + (x in folds) for x in operands(s) if isinstance(x, Var)), default=0)
        phase[s if isinstance(s, Store) else s.out] = number
    return phase


def _reached(kernel: Kernel, load: Load, phase: Mapping[Var | Store, int]) -> tuple[set[Atom], int]:
    """The values that are computed of what is loaded, short of folds, and the last phase that needs it."""
    reached: set[Atom] = {load.out}
    end = 0
    for s in kernel.body:
        if any(x in reached for x in operands(s)):
            if isinstance(s, Fold | Store):
                end = max(end, phase[s if isinstance(s, Store) else s.out])
            else:
                reached.add(s.out)
    return reached, end


def _fits(x: Var, s: Store, kernel: Kernel, own: Store | None = None) -> bool:
    """True if the kernel reads each element of `x`, which only `own` writes, where it then writes one of the result."""
    y = s.buffer
    if x is y or x.dtype.itemsize != y.dtype.itemsize or size(x.shape) != size(y.shape):
        return False
    written = any(isinstance(t, Store) and t.buffer in (x, y) and t not in (s, own) for t in kernel.body)
    return not written and all(
        (t.view.canonical, t.view.offset) == (s.view.canonical, s.view.offset) and not t.offsets
        for t in kernel.body
        if isinstance(t, Load) and t.buffer is x
    )


def reusable(owned: Sequence[int], routine: Routine, memory: Memory) -> dict[int, int]:
    """Which results can be written over an argument that is given away: by their numbers.

    Nothing reads the argument any more when the memory of the result is first written to, save the elementwise step
    that does so.
    """
    inputs, schedule = routine.inputs, routine.schedule
    first, last = _lifetimes(schedule.steps)
    free = [i for i in owned if inputs[i] not in schedule.outputs]
    found: dict[int, int] = {}
    # a buffer has the size of the result that it becomes, and maybe another shape
    for place, out in enumerate(routine.jaxpr.outputs):
        within = [v for v, there in memory.outputs.items() if there == place]
        begin = min((first[v] for v in within if v in first), default=0)
        for i in free:
            x = inputs[i]
            alike = (x.shape, x.dtype) == (out.shape, out.dtype) and x.shape
            if alike and (last.get(x, -1) < begin or _written_over(x, within, schedule.steps[begin], last[x] == begin)):
                found[place] = i
                free.remove(i)
                break
    return found


def _written_over(x: Var, within: Sequence[Var], step: Step, last: bool) -> bool:
    """True if a step reads an argument for the last time, just where it writes the first of some buffers."""
    if not last or not isinstance(step, Kernel) or step.folded:
        return False
    stores = [s for s in step.body if isinstance(s, Store) and s.buffer in within]
    if len(stores) != 1:
        return False
    (s,) = stores
    whole = not s.combine and not s.offsets and size(step.domain) == size(s.buffer.shape)
    return whole and s.buffer not in buffers_of(step)[0] and _fits(x, s, step)


def _packed(
    alive: Mapping[Var, tuple[int, int]], scratch: Mapping[int, int], steps: int
) -> tuple[dict[Var, int], dict[int, int], int]:
    """First fit, in the order of the steps."""
    begins: list[list[Var]] = [[] for _ in range(steps)]
    ends: list[list[Var]] = [[] for _ in range(steps)]
    for v, (start, end) in alive.items():
        begins[start].append(v)
        ends[end].append(v)
    free: list[tuple[int, int]] = []
    total = 0
    offsets: dict[Var, int] = {}
    sizes: dict[Var, int] = {}
    places: dict[int, int] = {}

    def take(count: int) -> int:
        nonlocal total
        for k, (start, length) in enumerate(free):
            if length >= count:
                free[k : k + 1] = [(start + count, length - count)] if length > count else []
                return start
        start = total
        if free and free[-1][0] + free[-1][1] == total:
            start = free.pop()[0]
        total = start + count
        return start

    def give(start: int, length: int) -> None:
        k = bisect.bisect(free, (start, length))
        free.insert(k, (start, length))
        for left in (k, k - 1):
            if 0 <= left < len(free) - 1 and sum(free[left]) == free[left + 1][0]:
                free[left : left + 2] = [(free[left][0], free[left][1] + free[left + 1][1])]

    for i, (new, old) in enumerate(zip(begins, ends, strict=True)):
        for v in new:
            sizes[v] = -(-max(1, bytes_of(v)) // _ALIGN) * _ALIGN
            offsets[v] = take(sizes[v])
        own = -(-scratch.get(i, 0) // _ALIGN) * _ALIGN
        if own:
            places[i] = take(own)
            give(places[i], own)
        for v in old:
            give(offsets[v], sizes[v])
    return offsets, places, total
