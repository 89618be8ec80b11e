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
from funcgrad.compiler.native.kernel import Kernel, Load, Store
from funcgrad.core.trace import Var
from funcgrad.core.views import size

_ALIGN = 64


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
    outputs = dict(results)
    begins: list[list[Var]] = [[] for _ in schedule.steps]
    ends: list[list[Var]] = [[] for _ in schedule.steps]
    for v, step in first.items():
        if v not in given and v not in results and v not in same:
            begins[step].append(v)
            ends[last[v]].append(v)
    arena, places, total = _packed(begins, ends, scratch)
    for v, holder in same.items():
        if holder in results:
            outputs[v] = results[holder]
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
        if not isinstance(step, Kernel) or step.folded:
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


def _fits(x: Var, s: Store, kernel: Kernel) -> bool:
    """True if the kernel reads each element of `x` just where it then writes one of the result."""
    y = s.buffer
    if x is y or x.dtype.itemsize != y.dtype.itemsize or size(x.shape) != size(y.shape):
        return False
    written = any(isinstance(t, Store) and t.buffer in (x, y) and t is not s for t in kernel.body)
    return not written and all(
        (t.view.canonical, t.view.offset) == (s.view.canonical, s.view.offset) and not t.offsets
        for t in kernel.body
        if isinstance(t, Load) and t.buffer is x
    )


def reusable(owned: Sequence[int], inputs: Sequence[Var], schedule: Schedule, memory: Memory) -> dict[int, int]:
    """Which results can be written over an argument that is given away: by their numbers.

    Nothing reads the argument any more when the memory of the result is first written to, save the elementwise step
    that does so. A program that may stop half-way overwrites nothing: it is run again by NumPy.
    """
    if any(map(_may_stop, schedule.steps)):
        return {}
    first, last = _lifetimes(schedule.steps)
    free = [i for i in owned if inputs[i] not in schedule.outputs]
    found: dict[int, int] = {}
    for place, out in enumerate(schedule.outputs):
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


def _may_stop(step: Step) -> bool:
    """True if an index may turn out to be out of bounds."""
    if isinstance(step, Product):
        return False
    return any(not o.clamped for s in step.accesses for o in s.offsets)


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
            sizes[v] = -(-max(1, size(v.shape) * v.dtype.itemsize) // _ALIGN) * _ALIGN
            offsets[v] = take(sizes[v])
        own = -(-scratch.get(i, 0) // _ALIGN) * _ALIGN
        if own:
            places[i] = take(own)
            give(places[i], own)
        for v in old:
            give(offsets[v], sizes[v])
    return offsets, places, total
