"""Loops as programs: `Scan`, whose steps are counted before, and `While`, which finds out when to stop.

Both carry values from step to step and may stack a result of each step. The backward pass of either is a scan that
runs the other way over what the steps saved. A while loop saves onto stacks that grow; an array of that kind has the
unknown length -1 in its type, and only loops use it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, final

import numpy as np

from funcgrad.compiler.engine import runner
from funcgrad.core.flow import Looped
from funcgrad.core.ir import Jaxpr, with_outputs
from funcgrad.core.kinds import Program
from funcgrad.core.primitive import Cotangent, Masked, Wanted
from funcgrad.core.trace import Tracer
from funcgrad.core.types import Array, ArrayType, Typed
from funcgrad.ops.broadcast import batch_length, broadcast_to, stacked
from funcgrad.ops.pointwise import select
from funcgrad.ops.reduce import AnyTrue, Max
from funcgrad.ops.shape import move_axis, reshape
from funcgrad.transforms.programs.call import Call, check_inputs, marked, quiet
from funcgrad.transforms.programs.guard import guarded_jaxpr
from funcgrad.transforms.programs.joint import MASKED, PLAIN, as_kind, gathered, kinds_and_arrays
from funcgrad.transforms.programs.loop_split import LoopHalves, loop_halves
from funcgrad.transforms.tracing.batch import batch_jaxpr
from funcgrad.transforms.tracing.derived import derived
from funcgrad.transforms.tracing.stage import Stage

UNKNOWN = -1


class Parts(NamedTuple):
    """The operands of a scan."""

    steps: Sequence[Any]
    consts: Sequence[Any]
    init: Sequence[Any]
    xs: Sequence[Any]


@final
@dataclass(frozen=True, slots=True)
class Scan(Program):
    """A body, applied to each element of some arrays in turn.

    The operands are the number of steps (where `length` is unknown), the constants, the initial carry, and the arrays
    that are scanned over. The results are the last carry and the stacked results of the steps.

    Args:
        length: The number of steps; None where only a run tells, and an operand says it.
        consts: How many operands are the same in each step.
        carry: How many are carried from step to step.
        reverse: True to begin with the last step.
        unroll: How many steps a compiler may write out in a row.
        body: From the constants, the carry and a slice of each array, to the carry and the results of the step.
    """

    name: ClassVar[str] = "scan"
    length: int | None
    consts: int
    carry: int
    reverse: bool
    unroll: int = field(repr=False)
    body: Jaxpr

    @property
    def effect(self) -> bool:  # type: ignore[override]  # follows from the jaxpr here
        return self.body.effect

    @property
    def flow(self) -> Looped:
        steps, consts, init, xs = self.parts(range(int(self.length is None) + len(self.body.inputs)))
        said = steps[0] if steps else None
        return Looped(self.body, tuple(consts), tuple(init), tuple(xs), self.reverse, self.length, said)

    def pruned(self, used: tuple[bool, ...]) -> tuple[Scan, tuple[bool, ...]]:
        there = (*(True,) * self.carry, *used[self.carry :])
        return replace(self, body=with_outputs(self.body, there)), there

    def parts(self, operands: Sequence[Any]) -> Parts:
        """The operands by role."""
        a = int(self.length is None)
        b, c = a + self.consts, a + self.consts + self.carry
        return Parts(operands[:a], operands[a:b], operands[b:c], operands[c:])

    def out_type(self, *operands: Typed) -> tuple[ArrayType, ...]:
        _, consts, init, xs = self.parts(operands)
        slices = [ArrayType(x.shape[1:], x.dtype) for x in xs]
        check_inputs("scan", self.body, [*consts, *init, *slices])
        n = UNKNOWN if self.length is None else self.length
        ys = [ArrayType((n, *t.shape), t.dtype) for t in self.body.out_types[self.carry :]]
        return (*self.body.out_types[: self.carry], *ys)

    @quiet
    def impl(self, *operands: Array) -> tuple[Array, ...]:
        steps, consts, init, xs = self.parts(operands)
        n = int(steps[0]) if self.length is None else self.length
        run = _Run(self.body, consts, init)
        results = [np.empty((n, *t.shape), t.dtype) for t in self.body.out_types[self.carry :]]
        for i in reversed(range(n)) if self.reverse else range(n):
            for result, y in zip(results, run.step([x[i] for x in xs]), strict=True):
                result[i] = y
        return (*run.finish(), *results)

    def forward(self, wanted: Wanted, *operands: Array) -> tuple[tuple[Array, ...], Sequence[Array]]:
        steps, consts, init, xs = self.parts(operands)
        cut = self._halves(wanted)
        scan = Scan(self.length, self.consts, self.carry, self.reverse, self.unroll, cut.forward)
        ys = scan(*steps, *consts, *init, *xs)
        n = len(self.body.outputs)
        return ys[:n], [*steps, *cut.residuals(consts, xs, ys[n:])]

    def vjp(self, wanted: Wanted, g: Any, *residuals: Array) -> tuple[Cotangent | None, ...]:
        steps = int(self.length is None)
        parts = self.parts(wanted)
        backward = self._halves(wanted)
        cts = go_back(
            backward, parts, g, self.length, residuals[:steps], residuals[steps:], not self.reverse, self.unroll
        )
        return (*[None] * steps, *cts)

    def _halves(self, wanted: Wanted) -> LoopHalves:
        _, consts, init, xs = self.parts([w is not None for w in wanted])
        return loop_halves(self.body, tuple(consts), tuple(init), tuple(xs))

    def batch(self, batched: tuple[bool, ...], *operands: Array) -> tuple[Any, ...]:
        n = batch_length(batched, operands)
        flags = self.parts(batched)
        steps, consts, init, xs = self.parts(operands)
        xs = [move_axis(x, 0, 1) if b else x for x, b in zip(xs, flags.xs, strict=True)]
        if any(flags.steps):
            return self._batch_ragged(n, flags, Parts(steps, consts, init, xs))
        carried, body, out = _batched_body(self.body, n, flags, [False] * self.carry)
        init = _batched_carry(init, flags.init, carried, n)
        scan = Scan(self.length, self.consts, self.carry, self.reverse, self.unroll, body)
        ys = scan(*steps, *consts, *init, *xs)
        return _batched_results(ys, out, self.carry)

    def _batch_ragged(self, n: int, flags: Parts, operands: Parts) -> tuple[Any, ...]:
        """Each example has its own number of steps: the batch goes on to the greatest, and those that are over wait."""
        (lengths,), consts, init, xs = operands
        last = Max((0,))(lengths) if n else np.int64(0)
        everything = [True] * self.carry
        body = guarded_jaxpr(self.body, (*flags.consts, *everything, *flags.xs), n)
        init = _batched_carry(init, flags.init, everything, n)
        counted = _ragged_body(body, self.consts, self.carry, n, -1 if self.reverse else 1)
        scan = Scan(None, self.consts + 1, self.carry + 1, self.reverse, self.unroll, counted)
        ys = scan(last, lengths, *consts, last - 1 if self.reverse else np.int64(0), *init, *xs)
        return _batched_results(ys[1:], [True] * len(self.body.outputs), self.carry)


@final
@dataclass(frozen=True, slots=True)
class While(Program):
    """A body, applied as long as a condition holds.

    The operands are the constants of the condition, those of the body, and the initial carry. The results are the last
    carry and, in arrays of a length that only a run tells, the results of the steps.

    Args:
        cond_consts: How many operands are constants of the condition.
        body_consts: How many are constants of the body.
        cond: From its constants and the carry to one bool.
        body: From its constants and the carry to the next carry, and the results of the step.
    """

    name: ClassVar[str] = "while"
    cond_consts: int
    body_consts: int
    cond: Jaxpr
    body: Jaxpr

    @property
    def effect(self) -> bool:  # type: ignore[override]  # follows from the jaxprs here
        return self.cond.effect or self.body.effect

    @property
    def carry(self) -> int:
        """How many values are carried from step to step."""
        return len(self.body.inputs) - self.body_consts

    @property
    def flow(self) -> Looped:
        asked, consts, init = self.parts(range(self.cond_consts + len(self.body.inputs)))
        return Looped(self.body, tuple(consts), tuple(init), condition=self.cond, condition_consts=tuple(asked))

    def pruned(self, used: tuple[bool, ...]) -> tuple[While, tuple[bool, ...]]:
        there = (*(True,) * self.carry, *used[self.carry :])
        return replace(self, body=with_outputs(self.body, there)), there

    def parts(self, operands: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
        """The operands by role: constants of the condition, constants of the body, carry."""
        a, b = self.cond_consts, self.cond_consts + self.body_consts
        return operands[:a], operands[a:b], operands[b:]

    def out_type(self, *operands: Typed) -> tuple[ArrayType, ...]:
        cond_consts, consts, init = self.parts(operands)
        check_inputs("while", self.cond, [*cond_consts, *init])
        check_inputs("while", self.body, [*consts, *init])
        ys = [ArrayType((UNKNOWN, *t.shape), t.dtype) for t in self.body.out_types[self.carry :]]
        return (*self.body.out_types[: self.carry], *ys)

    @quiet
    def impl(self, *operands: Array) -> tuple[Array, ...]:
        cond_consts, consts, init = self.parts(operands)
        cond = runner(self.cond)
        run = _Run(self.body, consts, init)
        results = [_Stack(t) for t in self.body.out_types[self.carry :]]
        while cond(*cond_consts, *run.carry)[0]:
            for result, y in zip(results, run.step(()), strict=True):
                result.push(y)
        return (*run.finish(), *(result.array() for result in results))

    def forward(self, wanted: Wanted, *operands: Array) -> tuple[tuple[Array, ...], Sequence[Array]]:
        cond_consts, consts, init = self.parts(operands)
        cut = self._halves(wanted)
        cond, body = _counted(self.cond, cut.forward, self.cond_consts, self.body_consts)
        loop = While(self.cond_consts, self.body_consts, cond, body)
        steps, *ys = loop(*cond_consts, *consts, np.int64(0), *init)
        n = len(self.body.outputs)
        return tuple(ys[:n]), [steps, *cut.residuals(consts, (), ys[n:])]

    def vjp(self, wanted: Wanted, g: Any, *residuals: Array) -> tuple[Cotangent | None, ...]:
        cond_consts, consts, init = self.parts(wanted)
        cts = go_back(self._halves(wanted), Parts((), consts, init, ()), g, None, residuals[:1], residuals[1:], True, 1)
        return (*[None] * len(cond_consts), *cts)

    def _halves(self, wanted: Wanted) -> LoopHalves:
        _, consts, init = self.parts([w is not None for w in wanted])
        return loop_halves(self.body, tuple(consts), tuple(init), ())

    def batch(self, batched: tuple[bool, ...], *operands: Array) -> tuple[Any, ...]:
        n = batch_length(batched, operands)
        cond_flags, const_flags, init_flags = self.parts(batched)
        cond_consts, consts, init = self.parts(operands)
        flags = Parts((), const_flags, init_flags, ())
        carried, body, out = _batched_body(self.body, n, flags, [False] * self.carry)
        cond, (each,) = batch_jaxpr(self.cond, (*cond_flags, *carried), n)
        if each:
            return self._batch_masked(n, cond_flags, flags, cond_consts, consts, init)
        init = _batched_carry(init, init_flags, carried, n)
        ys = While(self.cond_consts, self.body_consts, cond, body)(*cond_consts, *consts, *init)
        return _batched_results(ys, out, self.carry)

    def _batch_masked(
        self,
        n: int,
        cond_flags: Sequence[bool],
        flags: Parts,
        cond_consts: Sequence[Array],
        consts: Sequence[Array],
        init: Sequence[Array],
    ) -> tuple[Any, ...]:
        """Each example stops when it wants to: the batch goes on until all have, and those that are over wait."""
        everything = [True] * self.carry
        body = guarded_jaxpr(self.body, (*flags.consts, *everything), n)
        cond, _ = batch_jaxpr(self.cond, (*cond_flags, *everything), n, everything=True)
        init = _batched_carry(init, flags.init, everything, n)
        going = Call("while", cond)(*cond_consts, *init)
        any_going, masked = _masked_body(cond, body, self.cond_consts, self.body_consts, self.carry, n)
        loop = While(0, self.cond_consts + self.body_consts, any_going, masked)
        ys = loop(*cond_consts, *consts, *going, *init)
        return _batched_results(ys[1:], [True] * len(self.body.outputs), self.carry)


class _Run:
    """A body that is run step by step. What it may overwrite of its carry is its own."""

    def __init__(self, body: Jaxpr, consts: Sequence[Array], init: Sequence[Array]) -> None:
        first = len(consts)
        self._run = runner(body, tuple(range(first, first + len(init))))
        self._consts = consts
        self._init = init
        self.carry = [
            x.copy() if first + i in self._run.reused and isinstance(x, np.ndarray) else x for i, x in enumerate(init)
        ]

    def step(self, xs: Iterable[Array]) -> Sequence[Array]:
        """Take a step; the results that are not carried on."""
        out = self._run(*self._consts, *self.carry, *xs)
        n = len(self.carry)
        self.carry = list(out[:n])
        return out[n:]

    def finish(self) -> list[Array]:
        """The carry, in memory of its own."""
        given = [x for x in self._init if isinstance(x, np.ndarray)]
        return [
            y.copy() if isinstance(y, np.ndarray) and any(np.may_share_memory(x, y) for x in given) else y
            for y in self.carry
        ]


class _Stack:
    """An array that grows at its end: its memory doubles when it is full."""

    def __init__(self, t: ArrayType) -> None:
        self._array = np.empty((8, *t.shape), t.dtype)
        self._count = 0

    def push(self, x: Array) -> None:
        """Append an element."""
        if self._count == len(self._array):
            self._array.resize((2 * self._count, *self._array.shape[1:]), refcheck=False)
        self._array[self._count] = x
        self._count += 1

    def array(self) -> Array:
        """What was pushed."""
        self._array.resize((self._count, *self._array.shape[1:]), refcheck=False)
        return self._array


def go_back(
    cut: LoopHalves,
    wanted: Parts,
    g: Sequence[Cotangent | None],
    length: int | None,
    steps: Sequence[Array],
    residuals: Sequence[Array],
    reverse: bool,
    unroll: int,
) -> tuple[Cotangent | None, ...]:
    """The cotangents of the constants, the initial carry and the scanned arrays: a scan over the residuals."""
    given, arrays = kinds_and_arrays(g[cut.carry :])
    # where one has a mask, all do that can: nothing is lost if what has no cotangent is zero by structure
    masked = any(isinstance(part, Masked) for part in g)
    ends = [end for end, t in zip(g, cut.carried, strict=False) if t is not None]
    kinds = tuple(MASKED if masked and (end is None or isinstance(end, Masked)) else PLAIN for end in ends)
    body, results = cut.backward(kinds, given)
    sums = [_zeros(w) for w in wanted.consts if w is not None]
    carried = [x for end, kind, t in zip(ends, kinds, cut.active, strict=True) for x in as_kind(end, kind, t)]
    scan = Scan(length, cut.kept, len(sums) + len(carried), reverse, unroll, body)
    out = scan(*steps, *residuals[: cut.kept], *sums, *carried, *residuals[cut.kept :], *arrays)
    new_sums = iter(out)
    consts = [None if w is None else _unless_idle(next(new_sums), length, steps) for w in wanted.consts]
    starts = iter(gathered(kinds, out[len(sums) :]))
    init = [next(starts) if t is not None else None for t in cut.carried]
    init = [None if w is None else ct for w, ct in zip(wanted.init, init, strict=True)]
    return (*consts, *init, *gathered(results, out[len(sums) + len(carried) :]))


def _unless_idle(ct: Array, length: int | None, steps: Sequence[Array]) -> Cotangent | None:
    """The cotangent of a constant, which a loop of no steps does not depend on."""
    if length == 0:
        return None
    return Masked(ct, broadcast_to(steps[0] > 0, ct.shape)) if steps else ct


def _zeros(t: Typed) -> Array:
    """Zeros that take no memory."""
    return np.broadcast_to(np.zeros((), t.dtype), t.shape)


def _batched_body(
    body: Jaxpr, n: int, flags: Parts, carried: Sequence[bool]
) -> tuple[list[bool], Jaxpr, tuple[bool, ...]]:
    """Which carries depend on the batch, after any number of steps; the body on stacks; and which results it stacks."""
    count = len(carried)
    carried = [a or b for a, b in zip(carried, flags.init, strict=True)]
    while True:
        must = [*carried, *[False] * (len(body.outputs) - count)]
        stacks, out = batch_jaxpr(body, (*flags.consts, *carried, *flags.xs), n, must)
        if list(out[:count]) == carried:
            return carried, stacks, out
        carried = list(out[:count])


def _batched_carry(init: Sequence[Array], flags: Sequence[bool], carried: Sequence[bool], n: int) -> list[Array]:
    return [
        x if b or not wanted else stacked((False,), (x if isinstance(x, Tracer) else np.asarray(x),), n)[0]
        for x, b, wanted in zip(init, flags, carried, strict=True)
    ]


def _batched_results(ys: Sequence[Array], out: Sequence[bool], carry: int) -> tuple[Any, ...]:
    """The results with the batch axis in front: those of the steps have the axis of the steps there."""
    moved = [move_axis(y, 1, 0) if b and i >= carry else y for i, (y, b) in enumerate(zip(ys, out, strict=True))]
    return marked(moved, out)


def _of_examples(mask: Array, x: Array) -> Array:
    """A mask with one element for each example, to be used with a stack `x`."""
    return reshape(mask, (*mask.shape, *(1,) * (len(x.shape) - 1)))


def _where_going(going: Array, new: Sequence[Array], old: Sequence[Array]) -> list[Array]:
    return [select(_of_examples(going, x), x, y) for x, y in zip(new, old, strict=True)]


@derived
def _ragged_body(body: Jaxpr, consts: int, carry: int, n: int, step: int) -> Jaxpr:
    """A guarded body that asks how many steps each example takes, and carries the number of this one."""
    stage = Stage("scan", derived=True)
    lengths = stage.enter(ArrayType((n,), np.dtype(np.int64)), lambda: "the lengths")
    entered = [stage.enter(t, lambda: "an operand") for t in body.in_types[1 : 1 + consts]]
    i = stage.enter(ArrayType((), np.dtype(np.int64)), lambda: "the step")
    entered += [stage.enter(t, lambda: "an operand") for t in body.in_types[1 + consts :]]
    old, going = entered[consts : consts + carry], i < lengths
    out = stage.replay(body, [going, *entered])
    new = _where_going(going, out[:carry], old)
    inputs = [lengths, *entered[:consts], i, *entered[consts:]]
    return stage.finish(inputs, [i + np.int64(step), *new, *out[carry:]])


@derived
def _masked_body(
    cond: Jaxpr, body: Jaxpr, cond_consts: int, body_consts: int, carry: int, n: int
) -> tuple[Jaxpr, Jaxpr]:
    """The condition and the body of a batched loop that carries along which examples go on; the body is guarded."""
    mask = ArrayType((n,), np.dtype(bool))
    carried = body.in_types[1 + body_consts :]
    ask = Stage("while", derived=True)
    going, *rest = [ask.enter(t, lambda: "an operand") for t in (mask, *carried)]
    any_going = ask.finish([going, *rest], [AnyTrue((0,))(going)])
    stage = Stage("while", derived=True)
    shared = [stage.enter(t, lambda: "a constant") for t in cond.in_types[:cond_consts]]
    consts = [stage.enter(t, lambda: "a constant") for t in body.in_types[1 : 1 + body_consts]]
    going = stage.enter(mask, lambda: "which go on")
    old = [stage.enter(t, lambda: "an operand") for t in carried]
    out = stage.replay(body, [going, *consts, *old])
    new = _where_going(going, out[:carry], old)
    (still,) = stage.replay(cond, [*shared, *new])
    return any_going, stage.finish([*shared, *consts, going, *old], [going & still, *new, *out[carry:]])


@derived
def _counted(cond: Jaxpr, body: Jaxpr, cond_consts: int, body_consts: int) -> tuple[Jaxpr, Jaxpr]:
    """The condition and the body of a loop that counts its steps in its first carry."""
    counter = ArrayType((), np.dtype(np.int64))
    ask = Stage("while", derived=True)
    consts = [ask.enter(t, lambda: "a constant") for t in cond.in_types[:cond_consts]]
    i = ask.enter(counter, lambda: "the step")
    carry = [ask.enter(t, lambda: "an operand") for t in cond.in_types[cond_consts:]]
    asked = ask.finish([*consts, i, *carry], ask.replay(cond, [*consts, *carry]))
    stage = Stage("while", derived=True)
    consts = [stage.enter(t, lambda: "a constant") for t in body.in_types[:body_consts]]
    i = stage.enter(counter, lambda: "the step")
    carry = [stage.enter(t, lambda: "an operand") for t in body.in_types[body_consts:]]
    out = stage.replay(body, [*consts, *carry])
    return asked, stage.finish([*consts, i, *carry], [i + np.int64(1), *out])
