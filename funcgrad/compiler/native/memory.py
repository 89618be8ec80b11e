"""Where each buffer of a program lives: in an argument, in a result, or in the arena.

The arena is one block of memory. A buffer takes a part of it from the step that writes it first to the step that reads
it last; parts of buffers that are never alive together may overlap. An elementwise step writes its result over an
operand that nobody reads any more.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from funcgrad.compiler.native.fuse import Product, Schedule, Step
from funcgrad.compiler.native.kernel import Fold, Kernel, Load, Store, operands
from funcgrad.core.ir import Atom
from funcgrad.core.trace import Var
from funcgrad.core.views import size

_ALIGN = 64
# in bytes: what is smaller is no matter
_LARGE = 1 << 14
# a step after all others
_LAST = 1 << 60


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
    """

    inputs: Mapping[Var, int]
    outputs: Mapping[Var, int]
    arena: Mapping[Var, int]
    scratch: Mapping[int, int]
    total: int


def plan_memory(inputs: Sequence[Var], schedule: Schedule, scratch: Mapping[int, int]) -> Memory:
    """Find a place for every buffer.

    Args:
        inputs: The arguments.
        schedule: The steps.
        scratch: For some steps, by number, the bytes they need for themselves.
    """
    given = {v: i for i, v in enumerate(inputs)}
    results = {v: i for i, v in enumerate(schedule.outputs)}
    first, last = _lifetimes(schedule.steps)
    same = _shared(schedule.steps, given, results, first, last)
    for v, holder in same.items():
        first[holder] = min(first[holder], first[v])
    early = _before_results([v for v in first if v not in given and v not in same], results, first, last)
    outputs = {**results, **early}
    begins: list[list[Var]] = [[] for _ in schedule.steps]
    ends: list[list[Var]] = [[] for _ in schedule.steps]
    for v, step in first.items():
        if v not in given and v not in outputs and v not in same:
            begins[step].append(v)
            ends[last[v]].append(v)
    arena, places, total = _packed(begins, ends, scratch)
    for v, holder in same.items():
        if holder in outputs:
            outputs[v] = outputs[holder]
        else:
            arena[v] = arena[holder]
    return Memory(given, outputs, arena, places, total)


def buffers_of(step: Step) -> tuple[set[Var], set[Var]]:
    """The buffers that a step reads, and those it writes."""
    if isinstance(step, Product):
        return {root for root, _ in step.operands}, {step.out}
    reads = {s.buffer for s in step.body if isinstance(s, Load)}
    writes = {s.buffer for s in step.body if isinstance(s, Store)}
    return reads, writes


def _lifetimes(steps: Sequence[Step]) -> tuple[dict[Var, int], dict[Var, int]]:
    first: dict[Var, int] = {}
    last: dict[Var, int] = {}
    for i, step in enumerate(steps):
        reads, writes = buffers_of(step)
        for v in (*reads, *writes):
            first.setdefault(v, i)
            last[v] = i
    return first, last


def _shared(
    steps: Sequence[Step],
    given: Mapping[Var, int],
    results: Mapping[Var, int],
    first: Mapping[Var, int],
    last: Mapping[Var, int],
) -> dict[Var, Var]:
    """For each buffer whose memory is that of a later result of an elementwise step, that result, at the end of all."""
    same: dict[Var, Var] = {}
    for i, step in enumerate(steps):
        if not isinstance(step, Kernel):
            continue
        if step.folded:
            same.update(_written_over(step, i, given, results, first, last))
            continue
        taken = set()
        for s in step.body:
            if not isinstance(s, Store) or s.combine or s.offsets or s.buffer in taken:
                continue
            # a buffer that is there already, or is not all written here, holds something else
            if first[s.buffer] < i or size(step.domain) != size(s.buffer.shape):
                continue
            for x in buffers_of(step)[0]:
                dies = last[x] == i and x not in given and x not in results and x not in same
                if dies and _fits(x, s, step):
                    same[x] = s.buffer
                    taken.add(s.buffer)
                    break
    # a result may itself go into a later one
    for v in reversed(list(same)):
        same[v] = same.get(same[v], same[v])
    return same


def _before_results(
    buffers: Sequence[Var], results: Mapping[Var, int], first: Mapping[Var, int], last: Mapping[Var, int]
) -> dict[Var, int]:
    """For some buffers the result in whose memory they are before that is written; a small one has place anywhere."""
    places: dict[Var, int] = {}
    taken: dict[Var, list[tuple[int, int]]] = {v: [(first.get(v, 0), _LAST)] for v in results}
    hosts = sorted((v for v in results if _bytes(v) >= _LARGE), key=_bytes)
    for x in sorted((v for v in buffers if v not in results and _bytes(v) >= _LARGE), key=_bytes, reverse=True):
        for host in hosts:
            apart = all(last[x] < begin or end < first[x] for begin, end in taken[host])
            if _bytes(x) <= _bytes(host) and apart:
                taken[host].append((first[x], last[x]))
                places[x] = results[host]
                break
    return places


def _bytes(v: Var) -> int:
    return size(v.shape) * int(v.dtype.itemsize)


def _written_over(
    kernel: Kernel,
    number: int,
    given: Mapping[Var, int],
    results: Mapping[Var, int],
    first: Mapping[Var, int],
    last: Mapping[Var, int],
) -> dict[Var, Var]:
    """In a nest with folds, the buffers that nobody reads any more, each with the result that takes its place.

    That is written in the last phase that reads the buffer: there, each element is read before it is written over.
    """
    loads: dict[Var, list[Load]] = {}
    stores: dict[Var, list[Store]] = {}
    for s in kernel.body:
        if isinstance(s, Load):
            loads.setdefault(s.buffer, []).append(s)
        elif isinstance(s, Store):
            stores.setdefault(s.buffer, []).append(s)
    single = [ts[0] for v, ts in stores.items() if len(ts) == 1 and first[v] == number]
    dying = [v for v, ts in loads.items() if len(ts) == 1 and last[v] == number and v not in given and v not in results]
    same: dict[Var, Var] = {}
    if not single or not dying:
        return same
    phase = _phases(kernel)
    for x in dying:
        own = stores.get(x, [])
        if own and (len(own) > 1 or own[0].view.canonical != loads[x][0].view.canonical):
            continue
        reached, end = _reached(kernel, loads[x][0], phase)
        for s in single:
            free = s.buffer not in loads and s.buffer not in same.values() and not s.combine and not s.offsets
            there = size(kernel.domain) == size(s.buffer.shape) and s.x in reached and phase[s] >= end
            if free and there and _fits(x, s, kernel, own[0] if own else None):
                same[x] = s.buffer
                break
    return same


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


def _packed(
    begins: Sequence[Sequence[Var]], ends: Sequence[Sequence[Var]], scratch: Mapping[int, int]
) -> tuple[dict[Var, int], dict[int, int], int]:
    """First fit, in the order of the steps."""
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
            sizes[v] = -(-max(1, _bytes(v)) // _ALIGN) * _ALIGN
            offsets[v] = take(sizes[v])
        own = -(-scratch.get(i, 0) // _ALIGN) * _ALIGN
        if own:
            places[i] = take(own)
            give(places[i], own)
        for v in old:
            give(offsets[v], sizes[v])
    return offsets, places, total
