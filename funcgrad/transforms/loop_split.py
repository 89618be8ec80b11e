"""The two halves of a loop's body: what a step saves, and what the step of the backward pass does with it.

A constant of the loop, and what is computed from constants alone, is saved once and not by every step; what is
scanned over is there already. The cotangents of the constants are sums over all steps, to which each step adds in
place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np

from funcgrad.core.ir import Equation, Jaxpr, Literal, live
from funcgrad.core.primitive import plain
from funcgrad.core.trace import Var
from funcgrad.core.types import Array, ArrayType, is_inexact
from funcgrad.ops.flow import Weaken
from funcgrad.transforms.call import Call
from funcgrad.transforms.derived import derived
from funcgrad.transforms.joint import gathered
from funcgrad.transforms.split import halves, save_everything
from funcgrad.transforms.stage import Stage


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
        forward: The body of the forward pass: its last results are what it saves in every step.
        kept: How many residuals are the same in every step. They come first.
    """

    def __init__(self, body: Jaxpr, consts: tuple[bool, ...], init: tuple[bool, ...], xs: tuple[bool, ...]) -> None:
        self.carry = len(init)
        self._first_x = len(consts) + len(init)
        active = _active(body, consts, init, xs)
        types = body.in_types[len(consts) : self._first_x]
        self.carried = tuple(ArrayType(t.shape, t.dtype) if a else None for t, a in zip(types, active, strict=True))
        summed = tuple(i for i, w in enumerate(consts) if w)
        cut = halves(body, (*consts, *active, *xs), save_everything, False, summed)
        self._cut = cut
        self._wanted = (consts, xs)
        self._backward: dict[tuple[bool, ...], tuple[Jaxpr, tuple[bool, ...]]] = {}
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

    def backward(self, given: tuple[bool, ...]) -> tuple[Jaxpr, tuple[bool, ...]]:
        """The body of the backward pass.

        Args:
            given: For each result of a step whether it has a cotangent.

        Returns:
            The body: from what is kept; the sums for the constants and the cotangents of the carry, which it carries;
            what is scanned over, and the cotangents of the results. And for each scanned array whether the body has a
            result for its cotangent.
        """
        known = self._backward.get(given)
        if known is None:
            known = self._backward[given] = self._backward_for(given)
        return known

    def _backward_for(self, given: tuple[bool, ...]) -> tuple[Jaxpr, tuple[bool, ...]]:
        cut, (consts, xs) = self._cut, self._wanted
        stage = Stage("a backward pass", derived=True)

        def enter(types: Sequence[Any]) -> list[Any]:
            return [stage.enter(ArrayType(t.shape, t.dtype, t.weak), lambda: "a value") for t in types]

        types = {kind: [self._type(kind, i) for i in range_] for kind, range_ in self._count.items()}
        kept = {"const": enter(types["const"]), "once": enter(types["once"])}
        sums = enter([_strong(t) for t, w in zip(cut.forward.in_types, consts, strict=False) if w])
        carried = enter([t for t in self.carried if t is not None])
        kept |= {"x": enter(types["x"]), "step": enter(types["step"])}
        results = cut.full[self.carry :]
        outputs = cut.forward.out_types[self.carry : self.carry + len(results)]
        gs = enter([_strong(t) for t, g in zip(outputs, given, strict=True) if g])
        inputs = [*kept["const"], *kept["once"], *sums, *carried, *kept["x"], *kept["step"], *gs]

        at, of = iter(carried), iter(gs)
        ends = [None if t is None else next(at) for t in self.carried]
        pattern, arrays = cut.entering([*ends, *(next(of) if g else None for g in given)])
        backward = cut.backward(pattern)
        # a stack has lost the weakness of its elements
        weak = [t.weak for t in self.forward.out_types[len(cut.full) :]]
        kept["step"] = [Weaken()(x) if w else x for x, w in zip(kept["step"], weak, strict=True)]
        where = {kind: iter(values) for kind, values in kept.items()}
        residuals = [next(where[kind]) for kind, _ in self._places]
        out = stage.replay(backward.jaxpr, [*residuals, *arrays, *sums])
        cts = [plain(ct) for ct in gathered(backward.results, out)]
        new_sums = [ct for ct, w in zip(cts, consts, strict=False) if w]
        new_carried = [
            np.broadcast_to(np.zeros((), t.dtype), t.shape) if ct is None else ct
            for ct, t in zip(cts[len(consts) : self._first_x], self.carried, strict=True)
            if t is not None
        ]
        of_xs = [ct if w else None for ct, w in zip(cts[self._first_x :], xs, strict=True)]
        jaxpr = stage.finish(inputs, [*new_sums, *new_carried, *(ct for ct in of_xs if ct is not None)])
        return jaxpr, tuple(ct is not None for ct in of_xs)

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
