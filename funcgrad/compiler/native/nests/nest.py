"""How a kernel is run: which loops, in which order, and along which axis the lanes of a vector go.

Axes along which every access goes on as it does along the next one become one axis. The lanes go along the axis that
makes the kernel cheapest, by a simple count of instructions: where most accesses have stride 1, and few lanes idle.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import final

from funcgrad.compiler.native.ir.kernel import Access, Compute, Fold, Kernel, Load, Statement, Store, operands, result
from funcgrad.compiler.native.nests.axis import Axis
from funcgrad.compiler.native.nests.rows import TILE, Rows, rows_of
from funcgrad.compiler.native.vectormath import cost
from funcgrad.core.trace import Var
from funcgrad.core.views import size

# in instructions: what an element costs that is gathered or scattered, and what a fold of the lanes of a vector does
_GATHERED = 1.5
_ACROSS = 10
# seconds of a vector instruction, and bytes per second from memory
_INSTRUCTION, _BANDWIDTH = 0.4e-9, 30e9
# so many elements are gathered or scattered at a time, at most: each of them is written out
_SINGLES = 16


@final
@dataclass(frozen=True, slots=True, eq=False)
class Nest:
    """The loops of a kernel.

    Attributes:
        outer: Those over the axes that are not folded, outermost first.
        inner: Those over the folded axes.
        along: The axis along which lanes go; None if there is none.
        lanes: How many.
        unroll: How many vectors one step of that loop handles.
        depends: The axes that each value, and each store, depends on.
        rows: The rows of those accesses that go from row to row.
    """

    outer: list[Axis]
    inner: list[Axis]
    along: Axis | None
    lanes: int
    unroll: int
    depends: dict[Var | Store, frozenset[Axis]]
    rows: Mapping[Access, Rows] = field(default_factory=dict)

    @property
    def block(self) -> int:
        """How many indices of the axis of lanes one step handles."""
        return self.lanes * self.unroll


@lru_cache(maxsize=8)  # whether a kernel is worth threads is asked before its code is written, and then again
def plan_nest(kernel: Kernel, vector_bytes: int) -> Nest:
    """Choose the loops for a machine whose vectors have so many bytes."""
    axes = _axes(kernel)
    outer = _merged([axes[i] for i in range(len(axes)) if i not in kernel.folded])
    inner = _merged([axes[i] for i in kernel.folded])
    depends = _dependences(kernel, [*outer, *inner])
    most = vector_bytes // max((_bytes(s, depends) for s in kernel.body), default=8)
    most = min(most, TILE) if kernel.tile >= 0 else most
    along = _cheapest(kernel, outer, inner, depends, most)
    if along is None:
        return Nest(outer, inner, None, 1, 1, depends)
    lanes = min(most, 1 << (along.length - 1).bit_length())
    if _singles(kernel, along, lanes, outer, inner, depends):
        lanes = min(lanes, _SINGLES)
    outer = _ordered(kernel, outer, inner, along, lanes)
    if along in inner:
        inner = [*(a for a in inner if a is not along), along]
    # each lane that is gathered takes instructions of its own
    apart = lanes * _singles(kernel, along, lanes, outer, inner, depends)
    unroll = _unroll(kernel, along, lanes, depends, apart)
    found = {s: rows_of(kernel, s, along, lanes, outer, inner) for s in kernel.accesses}
    rows = {s: row for s, row in found.items() if row is not None}
    return Nest(outer, inner, along, lanes, unroll, depends, rows)


def _axes(kernel: Kernel) -> list[Axis]:
    rank = 1
    ranks = {}
    for i in reversed(kernel.folded):
        ranks[i] = rank
        rank *= kernel.domain[i]
    accesses = kernel.accesses
    return [
        Axis(n, {a: a.view.strides[i] for a in accesses}, ranks.get(i, 0), i == kernel.tile)
        for i, n in enumerate(kernel.domain)
    ]


def _merged(axes: Sequence[Axis]) -> list[Axis]:
    out: list[Axis] = []
    for axis in axes:
        if axis.length == 1:
            continue
        if out and out[-1].merges(axis):
            axis = Axis(out.pop().length * axis.length, axis.strides, axis.rank)
        out.append(axis)
    return out


def _dependences(kernel: Kernel, axes: Sequence[Axis]) -> dict[Var | Store, frozenset[Axis]]:
    folded = {a for a in axes if a.rank}
    depends: dict[Var | Store, frozenset[Axis]] = {}
    for s in kernel.body:
        on: set[Axis] = set()
        for x in operands(s):
            if isinstance(x, Var):
                on |= depends[x]
        if isinstance(s, Load | Store):
            on |= {a for a in axes if a.strides[s]}
        if isinstance(s, Fold):
            on -= folded
        if isinstance(s, Store):
            depends[s] = frozenset(axes if s.combine else on)
        else:
            depends[s.out] = frozenset(on)
    return depends


def _bytes(s: Statement, depends: Mapping[Var | Store, frozenset[Axis]]) -> int:
    out = result(s)
    return 1 if out is None or not depends[out] else int(out.dtype.itemsize)


def _weight(s: Statement) -> float:
    if isinstance(s, Compute):
        return cost(s.primitive.name, s.inputs)
    return 1.0


def _cheapest(
    kernel: Kernel,
    outer: Sequence[Axis],
    inner: Sequence[Axis],
    depends: Mapping[Var | Store, frozenset[Axis]],
    most: int,
) -> Axis | None:
    ordered = any(isinstance(s, Fold) and isinstance(s.how, str) for s in kernel.body)
    best, least = None, _cost(kernel, None, 1, outer, inner, depends)
    for axis in [*reversed(inner), *reversed(outer)]:
        if any(isinstance(s, Store) and s.combine and _varies(s, axis, depends) for s in kernel.body):
            continue
        if ordered and axis.rank and axis is not inner[-1]:
            continue
        cost = _cost(kernel, axis, most, outer, inner, depends)
        if cost < least:
            best, least = axis, cost
    return best


def _varies(s: Store, axis: Axis, depends: Mapping[Var | Store, frozenset[Axis]]) -> bool:
    """True if lanes along this axis may write to the same place."""
    return not axis.strides[s] or any(isinstance(o.index, Var) and axis in depends[o.index] for o in s.offsets)


def _cost(
    kernel: Kernel,
    axis: Axis | None,
    most: int,
    outer: Sequence[Axis],
    inner: Sequence[Axis],
    depends: Mapping[Var | Store, frozenset[Axis]],
) -> float:
    """About how many instructions the kernel takes with lanes along this axis."""
    lanes = 1 if axis is None else min(most, 1 << (axis.length - 1).bit_length())
    steps = 1.0 if axis is None else math.ceil(axis.length / lanes) / axis.length
    total = 0.0
    for s in kernel.body:
        on = set(depends[s] if isinstance(s, Store) else depends[s.out])
        if isinstance(s, Fold):
            on |= set(inner)
        runs = math.prod(a.length for a in on)
        if axis is None or axis not in on:
            total += runs * _weight(s)
        elif isinstance(s, Load | Store) and (rows := rows_of(kernel, s, axis, lanes, outer, inner)):
            # a row serves all loops within that of the lanes
            loads = rows.length if axis in inner else 1
            total += runs * steps * (loads + rows.cost)
        elif isinstance(s, Load | Store) and not _consecutive(s, axis, depends):
            total += runs * _GATHERED
        else:
            total += runs * steps * _weight(s)
        if isinstance(s, Fold) and axis is not None and axis.rank:
            total += _ACROSS * math.prod(a.length for a in outer)
    return total


@lru_cache(maxsize=8)
def seconds(kernel: Kernel, nest: Nest) -> float:
    """About how long the loops of a kernel take on one core."""
    least = _cost(kernel, nest.along, nest.lanes, nest.outer, nest.inner, nest.depends)
    moved = 0
    for s in kernel.accesses:
        elements = math.prod(a.length for a in (*nest.outer, *nest.inner) if a.strides[s])
        moved += int(s.buffer.dtype.itemsize) * elements
    return max(least * _INSTRUCTION, moved / _BANDWIDTH)


def most_seconds(kernel: Kernel) -> float:
    """A bound on how long a kernel takes, which is quickly found: with one lane at a time."""
    each = sum(_weight(s) + (_ACROSS if isinstance(s, Fold) else 2 * _GATHERED) for s in kernel.body)
    return size(kernel.domain) * each * _INSTRUCTION


def _consecutive(s: Access, axis: Axis, depends: Mapping[Var | Store, frozenset[Axis]]) -> bool:
    """True if lanes along this axis are neighbours in memory, or one place."""
    return axis.strides[s] in (0, 1, -1) and not any(
        isinstance(o.index, Var) and axis in depends[o.index] for o in s.offsets
    )


def _ordered(kernel: Kernel, outer: list[Axis], inner: Sequence[Axis], along: Axis, lanes: int) -> list[Axis]:
    """The outer loops, the one with lanes last; but outside of a loop along which some access is consecutive.

    There, the lines of memory that are gathered from serve several steps of the inner loop, and so do rows.
    """
    if along not in outer:
        return outer
    rest = [a for a in outer if a is not along]
    askew = [s for s in kernel.accesses if along.strides[s] not in (0, 1, -1)]
    rows = [row for s in askew if (row := rows_of(kernel, s, along, lanes, outer, inner))]
    within = {a for row in rows for a in row.within}
    beneath = [a for a in rest if a in within or any(a.strides[s] in (1, -1) for s in askew)]
    return [*(a for a in rest if a not in beneath), along, *beneath]


def _singles(
    kernel: Kernel,
    axis: Axis,
    lanes: int,
    outer: Sequence[Axis],
    inner: Sequence[Axis],
    depends: Mapping[Var | Store, frozenset[Axis]],
) -> int:
    """How many accesses gather or scatter lanes along this axis."""
    askew = [s for s in kernel.accesses if not _consecutive(s, axis, depends)]
    return sum(rows_of(kernel, s, axis, lanes, outer, inner) is None for s in askew)


def _unroll(kernel: Kernel, along: Axis, lanes: int, depends: Mapping[Var | Store, frozenset[Axis]], apart: int) -> int:
    """More vectors at a time for short bodies, and for those of folds, where each step waits for the one before."""
    work = apart + sum(_weight(s) * _copies(s, along, depends) for s in _within(kernel, along, depends))
    folds = any(isinstance(s, Fold) for s in kernel.body)
    wanted = 4 if work <= (12 if folds else 6) else 2 if work <= 24 else 1
    # whole vectors that are left have a mask, with which the processor gathers slowly
    while wanted > 1 and (along.length < wanted * lanes or (apart and along.length % (wanted * lanes) >= lanes)):
        wanted //= 2
    return wanted


def _copies(s: Statement, along: Axis, depends: Mapping[Var | Store, frozenset[Axis]]) -> int:
    """How often a statement is written out for one vector."""
    on = depends[s] if isinstance(s, Store) else depends[s.out]
    return math.prod(a.length for a in on if a is not along and a.short)


def _within(kernel: Kernel, along: Axis, depends: Mapping[Var | Store, frozenset[Axis]]) -> Iterator[Statement]:
    for s in kernel.body:
        if along in (depends[s] if isinstance(s, Store) else depends[s.out]) or isinstance(s, Fold):
            yield s
