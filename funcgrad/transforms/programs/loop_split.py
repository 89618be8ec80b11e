"""The two halves of a loop's body: what a step saves, and what the step of the backward pass does with it.

A constant of the loop, and what is computed from constants alone, is saved once and not by every step; what is
scanned over is there already. The cotangents of the constants are sums over all steps, to which each step adds in
place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, final

import numpy as np

from funcgrad.core.ir import Equation, Jaxpr, Literal, live
from funcgrad.core.primitive import plain
from funcgrad.core.trace import Var
from funcgrad.core.types import Array, ArrayType, is_inexact
from funcgrad.ops.flow import Weaken
from funcgrad.transforms.programs.call import Call
from funcgrad.transforms.programs.joint import Pattern, as_kind, gathered, kinds_and_arrays
from funcgrad.transforms.programs.split import halves, save_everything
from funcgrad.transforms.tracing.derived import derived
from funcgrad.transforms.tracing.stage import Stage


class LoopBackward(NamedTuple):
    """The body of the backward pass of a loop.

    Attributes:
        jaxpr: From what is kept; the sums for the constants and the cotangents of the carry, which it carries; what is
            scanned over, and the cotangents of the results.
        results: For each scanned array the kind of its cotangent.
    """

    jaxpr: Jaxpr
    results: Pattern


@final
class LoopHalves:
    """The body of a loop, cut in two.

    Args:
        body: From the constants, the carry and the scanned slices, to the carry and the results of a step.
        consts: For each constant whether its cotangent is wanted.
        init: For each initial carry likewise.
        xs: For each scanned array likewise.

    Attributes:
        carry: How many values are carried.
        carried: For each carry the type of its cotangent, None where it depends on nothing that is wanted.
        active: The same without None.
        forward: The body of the forward pass: its last results are what it saves in every step.
        kept: How many residuals are the same in every step. They come first.
    """

    def __init__(self, body: Jaxpr, consts: tuple[bool, ...], init: tuple[bool, ...], xs: tuple[bool, ...]) -> None:
        self.carry = len(init)
        self._first_x = len(consts) + len(init)
        active = _active(body, consts, init, xs)
        types = body.in_types[len(consts) : self._first_x]
        self.carried = tuple(_strong(t) if a else None for t, a in zip(types, active, strict=True))
        self.active = [t for t in self.carried if t is not None]
        summed = tuple(i for i, w in enumerate(consts) if w)
        cut = halves(body, (*consts, *active, *xs), save_everything, False, summed)
        self._cut = cut
        self._wanted = (consts, xs)
        self._backward: dict[tuple[Pattern, Pattern], LoopBackward] = {}
        computed = cut.forward.outputs[len(body.outputs) :]
        fixed = _depending_only_on(cut.forward, cut.forward.inputs[: len(consts)])
        # where each residual of the body is found: ("const", i), ("once", i), ("x", i) or ("step", i)
        self._places: list[tuple[str, int]] = []
        steps: list[Any] = []
        once: list[Any] = []
        for i in cut.passed:
            if i < len(consts):
                self._places.append(("const", i))
            elif i >= self._first_x:
                self._places.append(("x", i - self._first_x))
            else:
                self._places.append(("step", len(steps)))
                steps.append(cut.forward.inputs[i])
        for atom in computed:
            group = once if isinstance(atom, Literal) or atom in fixed else steps
            self._places.append(("once" if group is once else "step", len(group)))
            group.append(atom)
        self._once = _part(cut.forward, cut.forward.inputs[: len(consts)], once)
        self.forward = _part(cut.forward, cut.forward.inputs, [*cut.forward.outputs[: len(body.outputs)], *steps])
        self._count = {kind: [i for k, i in self._places if k == kind] for kind in ("const", "once", "x", "step")}
        self.kept = len(self._count["const"]) + len(self._count["once"])

    def residuals(self, consts: Sequence[Array], xs: Sequence[Array], steps: Sequence[Array]) -> list[Array]:
        """What the backward pass reads: what is the same in every step, then what is scanned over."""
        once = Call("once", self._once)(*consts) if self._once.outputs else ()
        return [*(consts[i] for i in self._count["const"]), *once, *(xs[i] for i in self._count["x"]), *steps]

    def backward(self, ends: Pattern, given: Pattern) -> LoopBackward:
        """The body of the backward pass.

        Args:
            ends: For each carry that depends on what is wanted, whether its cotangent is carried with a mask.
            given: For each result of a step the kind of its cotangent.
        """
        known = self._backward.get((ends, given))
        if known is None:
            known = self._backward[ends, given] = self._backward_for(ends, given)
        return known

    def _backward_for(self, ends: Pattern, given: Pattern) -> LoopBackward:
        cut, (consts, xs) = self._cut, self._wanted
        stage = Stage("a backward pass", derived=True)

        def enter(types: Sequence[ArrayType]) -> list[Any]:
            return [stage.enter(t, lambda: "a value") for t in types]

        types = {kind: [self._type(kind, i) for i in range_] for kind, range_ in self._count.items()}
        kept = {kind: enter(types[kind]) for kind in ("const", "once")}
        sums = enter([_strong(t) for t, w in zip(cut.forward.in_types, consts, strict=False) if w])
        carried = enter(_arrays_of(self.active, ends))
        kept |= {kind: enter(types[kind]) for kind in ("x", "step")}
        gs = enter(_arrays_of(cut.forward.out_types[self.carry : len(cut.full)], given))
        inputs = [*kept["const"], *kept["once"], *sums, *carried, *kept["x"], *kept["step"], *gs]

        at = iter(gathered(ends, carried))
        entering = [*(None if t is None else next(at) for t in self.carried), *gathered(given, gs)]
        pattern, arrays = cut.entering(entering)
        backward = cut.backward(pattern)
        out = stage.replay(backward.jaxpr, [*self._residuals(kept), *arrays, *sums])
        cts = gathered(backward.results, out)
        new_sums = [plain(ct) for ct, w in zip(cts, consts, strict=False) if w]
        starts = [ct for ct, t in zip(cts[len(consts) : self._first_x], self.carried, strict=True) if t is not None]
        new = [array for ct, t, kind in zip(starts, self.active, ends, strict=True) for array in as_kind(ct, kind, t)]
        results, of_xs = kinds_and_arrays([ct if w else None for ct, w in zip(cts[self._first_x :], xs, strict=True)])
        return LoopBackward(stage.finish(inputs, [*new_sums, *new, *of_xs]), results)

    def _residuals(self, kept: dict[str, list[Array]]) -> list[Array]:
        """The residuals of the body, from where they are found."""
        # a stack has lost the weakness of its elements
        weak = [t.weak for t in self.forward.out_types[len(self._cut.full) :]]
        steps = [Weaken()(x) if w else x for x, w in zip(kept["step"], weak, strict=True)]
        where = {kind: iter(values) for kind, values in {**kept, "step": steps}.items()}
        return [next(where[kind]) for kind, _ in self._places]

    def _type(self, kind: str, i: int) -> ArrayType:
        if kind == "const":
            return self._cut.forward.in_types[i]
        if kind == "x":
            return self._cut.forward.in_types[self._first_x + i]
        if kind == "once":
            return self._once.out_types[i]
        t = self.forward.out_types[len(self._cut.full) + i]
        return ArrayType(t.shape, t.dtype)


@derived
def loop_halves(body: Jaxpr, consts: tuple[bool, ...], init: tuple[bool, ...], xs: tuple[bool, ...]) -> LoopHalves:
    """The two halves of a loop's body, made once; see `LoopHalves`."""
    return LoopHalves(body, consts, init, xs)


def _arrays_of(types: Sequence[ArrayType], kinds: Pattern) -> list[ArrayType]:
    """The types of the arrays that cotangents of these kinds consist of."""
    return [
        part
        for t, kind in zip(types, kinds, strict=True)
        for part in [_strong(t), ArrayType(t.shape, np.dtype(bool))][:kind]
    ]


def _strong(t: ArrayType) -> ArrayType:
    return ArrayType(t.shape, t.dtype)


def _active(body: Jaxpr, consts: Sequence[bool], init: Sequence[bool], xs: Sequence[bool]) -> tuple[bool, ...]:
    """Which carries depend on what is wanted, after any number of steps."""
    active = tuple(init)
    while True:
        reached = {v for v, w in zip(body.inputs, (*consts, *active, *xs), strict=True) if w and is_inexact(v.dtype)}
        for equation in body.equations:
            if not equation.primitive.constant and not reached.isdisjoint(
                atom for atom in equation.inputs if isinstance(atom, Var)
            ):
                reached.update(v for v in equation.outputs if is_inexact(v.dtype))
        out = body.outputs[: len(active)]
        after = tuple(a or (isinstance(y, Var) and y in reached) for a, y in zip(active, out, strict=True))
        if after == active:
            return active
        active = after


def _depending_only_on(jaxpr: Jaxpr, inputs: Sequence[Var]) -> set[Var]:
    """The variables that can be computed from these inputs alone."""
    known = set(inputs)
    for equation in jaxpr.equations:
        if not equation.primitive.effect and all(isinstance(a, Literal) or a in known for a in equation.inputs):
            known.update(equation.outputs)
    return known


def _part(jaxpr: Jaxpr, inputs: Sequence[Var], outputs: Sequence[Any]) -> Jaxpr:
    """The part of a jaxpr that leads from these inputs to these outputs."""
    equations: Sequence[Equation] = jaxpr.equations
    if len(inputs) < len(jaxpr.inputs):
        equations = [e for e in equations if not e.primitive.effect]
    return Jaxpr(tuple(inputs), (), tuple(live(equations, outputs)), tuple(outputs))
