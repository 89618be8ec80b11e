"""Branches as a program: of several jaxprs with the same operands and results, one runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from funcgrad.compiler.engine import runner
from funcgrad.core.flow import Branched
from funcgrad.core.ir import Jaxpr, with_outputs
from funcgrad.core.kinds import Program
from funcgrad.core.primitive import Cotangent, Wanted
from funcgrad.core.types import Array, ArrayType, Typed
from funcgrad.ops.broadcast import batch_length
from funcgrad.ops.pointwise import convert, select
from funcgrad.ops.reduce import AnyTrue
from funcgrad.ops.shape import reshape
from funcgrad.transforms.programs.call import check_inputs, marked, quiet
from funcgrad.transforms.programs.guard import guarded_jaxpr
from funcgrad.transforms.programs.joint import ABSENT, Pattern, as_kind, gathered, kinds_and_arrays
from funcgrad.transforms.programs.split import halves, save_everything
from funcgrad.transforms.tracing.batch import batch_jaxpr
from funcgrad.transforms.tracing.derived import derived
from funcgrad.transforms.tracing.stage import Stage


@final
@dataclass(frozen=True, slots=True)
class Cond(Program):
    """The branch whose number is the first operand, applied to the other operands."""

    name: ClassVar[str] = "cond"
    branches: tuple[Jaxpr, ...]

    @property
    def effect(self) -> bool:  # type: ignore[override]  # follows from the jaxprs here
        return any(branch.effect for branch in self.branches)

    @property
    def flow(self) -> Branched:
        return Branched(self.branches)

    def pruned(self, used: tuple[bool, ...]) -> tuple[Cond, tuple[bool, ...]]:
        return Cond(tuple(with_outputs(branch, used) for branch in self.branches)), used

    def out_type(self, index: Typed, *xs: Typed) -> tuple[ArrayType, ...]:
        for branch in self.branches:
            check_inputs("cond", branch, xs)
        return self.branches[0].out_types

    @quiet
    def impl(self, index: Array, *xs: Array) -> tuple[Array, ...]:
        return tuple(runner(self.branches[int(index)])(*xs))

    def forward(self, wanted: Wanted, index: Array, *xs: Array) -> tuple[tuple[Array, ...], Sequence[Array]]:
        cut = _branch_halves(self.branches, tuple(w is not None for w in wanted[1:]))
        ys = Cond(cut.forward)(index, *xs)
        n = len(self.branches[0].outputs)
        return ys[:n], [index, *(xs[i] for i in cut.passed), *ys[n:]]

    def vjp(self, wanted: Wanted, g: Any, index: Array, *residuals: Array) -> tuple[Cotangent | None, ...]:
        cut = _branch_halves(self.branches, tuple(w is not None for w in wanted[1:]))
        pattern, gs = cut.entering(g)
        backward, results = cut.backward(pattern)
        return (None, *gathered(results, Cond(backward)(index, *residuals, *gs)))

    def batch(self, batched: tuple[bool, ...], index: Array, *xs: Array) -> tuple[Any, ...]:
        n = batch_length(batched, (index, *xs))
        flags = batched[1:]
        if batched[0]:
            return self._chosen(index, xs, flags, n)
        each = [batch_jaxpr(branch, flags, n)[1] for branch in self.branches]
        out = tuple(map(any, zip(*each, strict=True)))
        return marked(Cond(tuple(batch_jaxpr(b, flags, n, out)[0] for b in self.branches))(index, *xs), out)

    def _chosen(self, index: Array, xs: Sequence[Array], flags: Sequence[bool], n: int) -> tuple[Array, ...]:
        """Each example has its own branch: those that some want run, and each example takes the results of its own."""
        out: list[Array] = []
        for number, branch in enumerate(self.branches):
            here = index == number
            guarded = guarded_jaxpr(branch, tuple(flags), n)
            wanted = convert(AnyTrue((0,))(here), np.dtype(np.int64))
            ys = Cond((_idle(guarded), guarded))(wanted, here, *xs)
            masks = [reshape(here, (n, *(1,) * (len(y.shape) - 1))) for y in ys]
            out = [select(m, y, x) for m, y, x in zip(masks, ys, out, strict=True)] if number else list(ys)
        return tuple(out)


@final
class _BranchHalves:
    """Branches, each cut in two, so that all take and give the same: each has places of its own for what it saves."""

    def __init__(self, branches: tuple[Jaxpr, ...], wanted: tuple[bool, ...]) -> None:
        self._cuts = [halves(branch, wanted, save_everything, False) for branch in branches]
        self.passed = tuple(sorted({i for cut in self._cuts for i in cut.passed}))
        count = len(branches[0].outputs)
        self._saved = [cut.forward.out_types[count:] for cut in self._cuts]
        self.forward = tuple(self._forward_of(number, count) for number in range(len(branches)))
        self._backward: dict[Pattern, tuple[tuple[Jaxpr, ...], Pattern]] = {}
        self._full = tuple(map(max, zip(*(cut.full for cut in self._cuts), strict=True)))

    def _forward_of(self, number: int, count: int) -> Jaxpr:
        forward = self._cuts[number].forward
        stage = Stage("cond", derived=True)
        xs = [stage.enter(t, lambda: "an operand") for t in forward.in_types]
        out = stage.replay(forward, xs)
        saved = [
            out[count:] if branch == number else [_nothing(t) for t in types]
            for branch, types in enumerate(self._saved)
        ]
        return stage.finish(xs, [*out[:count], *(y for part in saved for y in part)])

    def entering(self, gs: Sequence[Cotangent | None]) -> tuple[Pattern, list[Array]]:
        """The pattern of these cotangents, and the arrays they consist of."""
        return kinds_and_arrays([g if kind else None for g, kind in zip(gs, self._full, strict=True)])

    def backward(self, pattern: Pattern) -> tuple[tuple[Jaxpr, ...], Pattern]:
        """The backward halves for cotangents of this pattern, and the kinds of their results."""
        known = self._backward.get(pattern)
        if known is None:
            known = self._backward[pattern] = self._backward_for(pattern)
        return known

    def _backward_for(self, pattern: Pattern) -> tuple[tuple[Jaxpr, ...], Pattern]:
        mine = [
            tuple(kind if full else ABSENT for kind, full in zip(pattern, cut.full, strict=True)) for cut in self._cuts
        ]
        each = [cut.backward(own).results for cut, own in zip(self._cuts, mine, strict=True)]
        results = tuple(map(max, zip(*each, strict=True)))
        return tuple(self._backward_of(i, own, pattern, results) for i, own in enumerate(mine)), results

    def _backward_of(self, number: int, own: Pattern, pattern: Pattern, results: Pattern) -> Jaxpr:
        cut = self._cuts[number]
        stage = Stage("cond", derived=True)
        passed = [stage.enter(cut.forward.in_types[i], lambda: "an operand") for i in self.passed]
        saved = [[stage.enter(t, lambda: "a residual") for t in types] for types in self._saved]
        gs = []
        for kind, t in zip(pattern, cut.forward.out_types, strict=False):
            types = [ArrayType(t.shape, t.dtype), ArrayType(t.shape, np.dtype(bool))][:kind]
            gs.append([stage.enter(t, lambda: "a cotangent") for t in types])
        residuals = [*(passed[self.passed.index(i)] for i in cut.passed), *saved[number]]
        taken = [g for parts, kind in zip(gs, own, strict=True) for g in parts[:kind]]
        backward = cut.backward(own)
        cts = gathered(backward.results, stage.replay(backward.jaxpr, [*residuals, *taken]))
        out = [
            array
            for ct, kind, t in zip(cts, results, cut.forward.in_types, strict=True)
            for array in as_kind(ct, kind, t)
        ]
        inputs = [*passed, *(r for part in saved for r in part), *(g for parts in gs for g in parts)]
        return stage.finish(inputs, out)


@derived
def _idle(jaxpr: Jaxpr) -> Jaxpr:
    """What takes and gives the same as `jaxpr`, and computes nothing."""
    stage = Stage("cond", derived=True)
    inputs = [stage.enter(t, lambda: "an operand") for t in jaxpr.in_types]
    return stage.finish(inputs, list(map(_nothing, jaxpr.out_types)))


def _nothing(t: ArrayType) -> Array:
    """A value of a type, to fill the place of what another branch saves."""
    zero = np.zeros((), t.dtype)
    return zero.item() if t.weak else np.broadcast_to(zero, t.shape)


@derived
def _branch_halves(branches: tuple[Jaxpr, ...], wanted: tuple[bool, ...]) -> _BranchHalves:
    return _BranchHalves(branches, wanted)
