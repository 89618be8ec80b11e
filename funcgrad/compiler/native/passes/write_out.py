"""Short axes, written out: a kernel without them, whose body has a copy of a statement for each index.

Points have two or three coordinates. A fold over the points, for each coordinate, goes over them once when the
coordinates are written out, and not once for each:

    for each of [1000↓, 3]:             for each of [1000↓]:
      a = load x[3i + j]                  a, b, c = load x[3i], x[3i + 1], x[3i + 2]
      s = fold add a           →          s, t, u = fold add a, add b, add c
      store s[j]                          store s[0], t[1], u[2]

And where a fold over the coordinates has become a sum of three numbers, what was one kernel that stores differences of
points, and another one that folds them over the points, can be one kernel that stores nothing between.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import final

import numpy as np

from funcgrad.compiler.identities import application_key
from funcgrad.compiler.native.ir.kernel import Compute, Fold, Kernel, Load, Offset, Statement, Store, reading
from funcgrad.compiler.native.ir.own_primitives import scalar
from funcgrad.compiler.native.ir.steps import Step, buffers_of
from funcgrad.core.ir import Atom
from funcgrad.core.trace import Var
from funcgrad.core.views import View

# the longest axis that is written out, and the most statements that may come of it
_SHORT, _LARGEST = 4, 64
# a folded axis that is longer is worth going along only once
_LONG = 8


def without_short_axes(steps: Sequence[Step], results: Sequence[Var], successors: Mapping[Var, Var]) -> list[Step]:
    """The steps, with the short axes of kernels written out where that makes two kernels one, or saves runs of a fold.

    Two are one where the second one reads what only the first one computes.

    Args:
        steps: In the order in which they run.
        results: The buffers that are read afterwards.
        successors: For a buffer the one that takes its place.
    """
    if not any(isinstance(step, Kernel) and _short_axes(step) for step in steps):
        return [*steps]
    readers: dict[Var, int] = dict.fromkeys(results, 2)
    # what takes the place of a buffer has its elements, where it writes no others
    readers |= dict.fromkeys(successors, 2)
    for step in steps:
        for v in buffers_of(step)[0]:
            readers[v] = readers.get(v, 0) + 1
    out: list[Step] = []
    for step in steps:
        before = out[-1] if out else None
        both = None
        if isinstance(before, Kernel) and isinstance(step, Kernel) and not _follows(before, step, successors):
            both = _joined(before, step, readers)
        if both is None:
            out.append(step)
        else:
            out[-1] = both
    return [_with_folds_written_out(step) if isinstance(step, Kernel) else step for step in out]


def _written_out(kernel: Kernel, axis: int) -> Kernel:
    """The kernel without an axis of its domain; as it is, if it gets too large or folds what it must not reorder."""
    if not _allowed(kernel, axis):
        return kernel
    writer = _Writer(kernel, axis)
    domain = _without(kernel.domain, axis)
    folded = tuple(i - (i > axis) for i in kernel.folded if i != axis)
    return Kernel(domain, folded, tuple(writer.body)) if len(writer.body) <= _LARGEST else kernel


def _with_folds_written_out(kernel: Kernel) -> Kernel:
    """The kernel with its short axes written out, if it has those and folds over long ones."""
    if any(kernel.domain[i] > _LONG for i in kernel.folded):
        for axis in _short_axes(kernel):
            if axis not in kernel.folded:
                kernel = _written_out(kernel, axis)
    return kernel


def _short_axes(kernel: Kernel) -> list[int]:
    """The short axes, last one first."""
    return [i for i in reversed(range(len(kernel.domain))) if 1 < kernel.domain[i] <= _SHORT]


def _allowed(kernel: Kernel, axis: int) -> bool:
    folds = [s for s in kernel.body if isinstance(s, Fold)]
    if any(isinstance(s.how, str) for s in folds):
        return False
    # of the values that go to one place, the last one stays
    if any(isinstance(s, Store) and s.offsets and not s.combine for s in kernel.body):
        return False
    # a fold of other numbers than its result is converted within, and half precision adds up in single
    plain = all(s.x.dtype == s.out.dtype != np.float16 for s in folds)
    return kernel.tile < 0 and (axis not in kernel.folded or plain)


def _without(numbers: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*numbers[:axis], *numbers[axis + 1 :])


@final
class _Writer:
    """Writes the body of a kernel without an axis."""

    def __init__(self, kernel: Kernel, axis: int) -> None:
        self._axis = axis
        self._length = kernel.domain[axis]
        self._folded = axis in kernel.folded
        # a fold over this axis alone is one no more
        self._alone = kernel.folded == (axis,)
        # of each value that differs along the axis, the copies
        self._copies: dict[Var, list[Var]] = {}
        self.body: list[Statement] = []
        for s in kernel.body:
            self._write(s)

    def _write(self, s: Statement) -> None:
        match s:
            case Load():
                if self._varies(s):
                    copies = self._copies[s.out] = [_like(s.out) for _ in range(self._length)]
                    for k, out in enumerate(copies):
                        self.body.append(Load(out, s.buffer, self._view(s.view, k), self._offsets(s.offsets, k)))
                else:
                    self.body.append(Load(s.out, s.buffer, self._view(s.view, 0), s.offsets))
            case Compute():
                if any(x in self._copies for x in s.inputs):
                    copies = self._copies[s.out] = [_like(s.out) for _ in range(self._length)]
                    for k, out in enumerate(copies):
                        self.body.append(Compute(out, s.primitive, tuple(self._copy(x, k) for x in s.inputs)))
                else:
                    self.body.append(s)
            case Fold():
                self._fold(s)
            case Store():
                # what is combined is combined as often as the axis is long
                again = self._varies(s) or s.combine is not None or s.x in self._copies
                for k in range(self._length if again else 1):
                    view, offsets = self._view(s.view, k), self._offsets(s.offsets, k)
                    self.body.append(Store(s.buffer, view, self._copy(s.x, k), offsets, s.combine))

    def _fold(self, s: Fold) -> None:
        if not self._folded:
            if s.x not in self._copies:
                self.body.append(s)
                return
            copies = self._copies[s.out] = [_like(s.out) for _ in range(self._length)]
            self.body += [Fold(out, s.how, self._copy(s.x, k)) for k, out in enumerate(copies)]
            return
        assert isinstance(s.how, np.ufunc)
        total: Atom = self._copy(s.x, 0)
        for k in range(1, self._length):
            last = self._alone and k == self._length - 1
            out = s.out if last else _like(s.out)
            self.body.append(Compute(out, scalar(s.how), (total, self._copy(s.x, k))))
            total = out
        if not self._alone:
            self.body.append(Fold(s.out, s.how, total))

    def _varies(self, s: Load | Store) -> bool:
        return bool(s.view.strides[self._axis]) or any(o.index in self._copies for o in s.offsets)

    def _view(self, view: View, k: int) -> View:
        shape, strides = _without(view.shape, self._axis), _without(view.strides, self._axis)
        return View(shape, strides, view.offset + k * view.strides[self._axis])

    def _offsets(self, offsets: tuple[Offset, ...], k: int) -> tuple[Offset, ...]:
        return tuple(replace(o, index=self._copy(o.index, k)) if o.index in self._copies else o for o in offsets)

    def _copy(self, x: Atom, k: int) -> Atom:
        return self._copies[x][k] if isinstance(x, Var) and x in self._copies else x


def _like(v: Var) -> Var:
    return Var(v.shape, v.dtype, v.weak)


def _follows(first: Kernel, second: Kernel, successors: Mapping[Var, Var]) -> bool:
    """True if the second kernel may write where the first one still reads or writes."""
    taken = set(first.buffers)
    for v in first.buffers:
        while v in successors:
            v = successors[v]
            taken.add(v)
    return any(isinstance(s, Store) and s.buffer in taken for s in second.body)


def _joined(first: Kernel, second: Kernel, readers: Mapping[Var, int]) -> Kernel | None:
    """Both kernels as one that does not store what only the second one reads; None if they do not fit together."""
    handed = _stored(first) & {s.buffer for s in second.body if isinstance(s, Load)}
    if not handed or any(readers[v] > 1 for v in handed) or not (_short_axes(first) or _short_axes(second)):
        return None
    first, second = _all_written_out(first), _all_written_out(second)
    if first.domain != second.domain or _folds(first):
        return None
    # a kernel with folds may load what it has stored in an earlier run over the folded axes; now there is one run
    own = [{s.buffer for s in k.body if isinstance(s, Load)} & _stored(k) for k in (first, second) if not _folds(k)]
    body = _passed_on((*first.body, *second.body), handed.union(*own), {v for v, n in readers.items() if n == 1})
    if body is None:
        return None
    # what is stored may take the place of what is loaded, so that comes first
    body = sorted(_each_once(body), key=lambda s: isinstance(s, Store))
    return Kernel(second.domain, second.folded, tuple(body)) if len(body) <= _LARGEST else None


def _stored(kernel: Kernel) -> set[Var]:
    return {s.buffer for s in kernel.body if isinstance(s, Store)}


def _folds(kernel: Kernel) -> bool:
    return any(isinstance(s, Fold) for s in kernel.body)


def _passed_on(body: Sequence[Statement], buffers: set[Var], here: set[Var]) -> list[Statement] | None:
    """The body in which what is stored in some buffers is passed on to where it is loaded; None if that cannot be.

    Args:
        body: The statements.
        buffers: The buffers.
        here: The buffers that nothing else loads, so that they need not be stored.
    """
    values: dict[tuple[Var, tuple[int, ...], int], Atom] = {}
    for s in body:
        if isinstance(s, Store) and s.buffer in buffers:
            if s.combine or s.offsets or s.x.dtype != s.buffer.dtype or _place(s) in values:
                return None
            values[_place(s)] = s.x
    known: set[Atom] = set()
    new: dict[Var, Atom] = {}
    out: list[Statement] = []
    for s in body:
        if isinstance(s, Load) and s.buffer in buffers:
            value = values.get(_place(s))
            if s.offsets or value is None or (isinstance(value, Var) and new.get(value, value) not in known):
                return None
            new[s.out] = new.get(value, value) if isinstance(value, Var) else value
        elif not isinstance(s, Store):
            out.append(reading(s, new))
            known.add(s.out)
        elif s.buffer not in buffers & here:
            out.append(reading(s, new))
    return out


def _each_once(body: Sequence[Statement]) -> list[Statement]:
    """The body, with each place that nothing is written to loaded once, and each operation done once."""
    written = {s.buffer for s in body if isinstance(s, Store)}
    known: dict[Hashable, Var] = {}
    new: dict[Var, Atom] = {}
    out: list[Statement] = []
    for s in body:
        s = reading(s, new)
        key: Hashable = None
        if isinstance(s, Load) and not s.offsets and s.buffer not in written:
            key = _place(s)
        elif isinstance(s, Compute):
            key = application_key(s.primitive, s.inputs, [s.out])
        found = known.setdefault(key, s.out) if key is not None and isinstance(s, Load | Compute) else None
        if isinstance(s, Load | Compute) and found is not None and found is not s.out:
            new[s.out] = found
        else:
            out.append(s)
    return out


def _place(s: Load | Store) -> tuple[Var, tuple[int, ...], int]:
    return s.buffer, s.view.canonical, s.view.offset


def _all_written_out(kernel: Kernel) -> Kernel:
    for axis in _short_axes(kernel):
        kernel = _written_out(kernel, axis)
    return kernel
