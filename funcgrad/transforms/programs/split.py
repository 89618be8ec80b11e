"""The two halves of a differentiated jaxpr, for everything that holds one: calls, branches, loops.

The forward and the backward pass are staged together, as one jaxpr of the inputs and of the cotangents of the outputs.
Cut where the cotangents enter: what depends on them is the backward half, the rest the forward half, and a value that
crosses the cut is a residual. A policy decides, value by value, whether a residual is saved or computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias, final

from funcgrad.compiler.simplify import simplify
from funcgrad.core import config
from funcgrad.core.errors import InternalError
from funcgrad.core.ir import Atom, Equation, Jaxpr, Literal, check, live
from funcgrad.core.kinds import IndexMap
from funcgrad.core.primitive import Cotangent, Primitive
from funcgrad.core.trace import Var
from funcgrad.core.types import Array, ArrayType
from funcgrad.ops.flow import Named
from funcgrad.transforms.programs.joint import PLAIN, Joint, Pattern, kinds_and_arrays, stage_joint
from funcgrad.transforms.tracing.derived import derived

Policy: TypeAlias = Callable[[Primitive, ArrayType], bool]
"""Says of a value, by the primitive that computes it and its type, whether to save it for the backward pass."""


def save_everything(primitive: Primitive, t: ArrayType) -> bool:
    """Save what the backward pass reads."""
    return True


def save_nothing(primitive: Primitive, t: ArrayType) -> bool:
    """Compute everything again from the inputs."""
    return False


class Backward(NamedTuple):
    """A backward half.

    Attributes:
        jaxpr: From the residuals, the cotangents that its pattern names, and the sums to which it adds, to cotangents
            of wanted inputs.
        results: For each input the kind of its cotangent: absent, plain, or masked (then two outputs: value, mask).
    """

    jaxpr: Jaxpr
    results: Pattern


@final
class Halves:
    """A jaxpr, cut in two for differentiation with respect to some of its inputs.

    Args:
        jaxpr: Without constants.
        wanted: For each input whether its cotangent is wanted.
        policy: What to save; everything that is read if nothing is said.
        stacks: False if arrays of unknown length (what a while loop saved) cannot be residuals.
        summed: The numbers of the inputs whose cotangents are added to what was there before.

    Attributes:
        forward: The jaxpr from the inputs to the outputs, followed by those residuals that it computes.
        passed: The numbers of the inputs that are residuals as they are. They come before the computed ones.
        full: The pattern with a cotangent for each output that depends on the wanted inputs.
    """

    def __init__(
        self, jaxpr: Jaxpr, wanted: tuple[bool, ...], policy: Policy, stacks: bool, summed: tuple[int, ...]
    ) -> None:
        self._jaxpr = jaxpr
        self._wanted = wanted
        self._policy = policy
        self._stacks = stacks
        self._summed = summed
        cut = _Cut(self._joint(None))
        self.full = cut.joint.patterns[0]
        passed, computed = cut.residuals(cut.needs(0), self._saves)
        self.passed = tuple(cut.inputs.index(var) for var in passed)
        self.forward = cut.forward(computed)
        self._backward = {self.full: self._backward_of(cut, 0, passed, computed)}

    def entering(self, gs: Sequence[Cotangent | None]) -> tuple[Pattern, list[Array]]:
        """The pattern of these cotangents of the outputs, and the arrays they consist of."""
        return kinds_and_arrays([g if kind else None for g, kind in zip(gs, self.full, strict=True)])

    def backward(self, pattern: Pattern) -> Backward:
        """The backward half for cotangents of this pattern."""
        known = self._backward.get(pattern)
        if known is None:
            cut = _Cut(self._joint([self.full, pattern]))
            passed, computed = cut.residuals(cut.needs(0), self._saves)
            if [v.type for v in computed] != list(self.forward.out_types[len(self._jaxpr.outputs) :]):
                raise InternalError(f"staged twice, the same program saves other residuals\n{self._jaxpr!r}")
            known = self._backward[pattern] = self._backward_of(cut, 1, passed, computed)
        return known

    def _joint(self, patterns: Sequence[Pattern] | None) -> Joint:
        return stage_joint(self._jaxpr, self._wanted, self._summed, patterns)

    def _saves(self, primitive: Primitive, t: ArrayType) -> bool:
        if not self._stacks and -1 in t.shape:
            return False
        return self._policy(primitive, t)

    def _backward_of(self, cut: _Cut, number: int, passed: list[Var], computed: list[Var]) -> Backward:
        jaxpr = cut.backward(number, passed, computed)
        if config.CHECK:
            check(jaxpr)
            check(self.forward)
        return Backward(jaxpr, cut.joint.results[number])


class _Cut:
    """A joint jaxpr, cut where the cotangents enter."""

    def __init__(self, joint: Joint) -> None:
        self.joint = joint
        self.inputs = joint.jaxpr.inputs[: joint.inputs]
        self.known: dict[Var, Equation] = {}
        self._early: list[Equation] = []
        self._late: list[Equation] = []
        known: set[Atom] = set(self.inputs)
        for equation in _read_by_name(joint.jaxpr.equations, frozenset(self.inputs)):
            if all(isinstance(atom, Literal) or atom in known for atom in equation.inputs):
                self._early.append(equation)
                known.update(equation.outputs)
                self.known.update(dict.fromkeys(equation.outputs, equation))
            else:
                self._late.append(equation)
        self._known_vars = known
        self._masks = self._mask_logic()

    def _mask_logic(self) -> set[Var]:
        """What only walks back compute, from bools and integers alone.

        How masks are combined depends on which cotangents have some, so what they consist of is saved. A mask that
        positions make is as large as the array that they are in.
        """
        used = {v for e in live(self._early, self.joint.jaxpr.outputs[: self.joint.outputs]) for v in e.outputs}
        found: set[Var] = set()
        for equation in self._early:
            if used.isdisjoint(equation.outputs) and all(
                isinstance(x, Literal) or x.dtype.kind in "biu" or x in found for x in equation.inputs
            ):
                found.update(equation.outputs)
        return found

    def _cotangents(self, number: int) -> tuple[Atom, ...]:
        """The cotangents that the walk back of this number arrives at."""
        start = self.joint.outputs + sum(map(sum, self.joint.results[:number]))
        return self.joint.jaxpr.outputs[start : start + sum(self.joint.results[number])]

    def _entering(self, number: int) -> tuple[Var, ...]:
        """The cotangents and sums that it starts from."""
        counts = [sum(pattern) + self.joint.sums for pattern in self.joint.patterns]
        start = self.joint.inputs + sum(counts[:number])
        return self.joint.jaxpr.inputs[start : start + counts[number]]

    def needs(self, number: int) -> list[Var]:
        """The known values that the walk back of this number reads, each once."""
        cts = self._cotangents(number)
        found: dict[Var, None] = {}
        for equation in live(self._late, cts):
            found.update(dict.fromkeys(a for a in equation.inputs if isinstance(a, Var) and a in self._known_vars))
        found.update(dict.fromkeys(a for a in cts if isinstance(a, Var) and a in self._known_vars))
        return list(found)

    def residuals(self, needs: list[Var], saves: Policy) -> tuple[list[Var], list[Var]]:
        """What crosses the cut: inputs as they are, and computed values."""
        passed: dict[Var, None] = {}
        computed: dict[Var, None] = {}
        again: set[int] = set()
        todo = needs[::-1]
        while todo:
            var = todo.pop()
            equation = self.known.get(var)
            if equation is None:
                passed[var] = None
            elif self._is_saved(equation, saves):
                computed[var] = None
            elif id(equation) not in again:
                again.add(id(equation))
                todo += [atom for atom in equation.inputs if isinstance(atom, Var)]
        return list(passed), list(computed)

    def _is_saved(self, equation: Equation, saves: Policy) -> bool:
        if _is_cheap(equation) or not self._masks.isdisjoint(equation.outputs):
            return False
        return all(saves(equation.primitive, v.type) for v in equation.outputs)

    def forward(self, computed: list[Var]) -> Jaxpr:
        """From the inputs to the outputs and what the forward half computes for the backward half."""
        outputs = (*self.joint.jaxpr.outputs[: self.joint.outputs], *computed)
        return Jaxpr(self.inputs, (), tuple(live(self._early, outputs)), outputs)

    def backward(self, number: int, passed: list[Var], computed: list[Var]) -> Jaxpr:
        """From the residuals and the cotangents to cotangents; what is not a residual is computed again."""
        gs = self._entering(number)
        cts = self._cotangents(number)
        late = list(live(self._late, cts))
        have = {*passed, *computed}
        read = [a for e in late for a in e.inputs if isinstance(a, Var)] + [a for a in cts if isinstance(a, Var)]
        again = live([e for e in self._early if not e.primitive.effect], read, have)
        missing = {a for e in again for a in e.inputs if isinstance(a, Var)} & set(self.inputs) - have
        missing |= set(read) & set(self.inputs) - have
        if missing:
            raise InternalError("a backward pass reads an input that was not saved")
        return Jaxpr((*passed, *computed, *gs), (), (*again, *late), cts)


def _read_by_name(equations: Sequence[Equation], inputs: Container[Atom]) -> Iterator[Equation]:
    """The equations, reading a value that has a name by that name from there on: one array is saved, and not two.

    An input is there already, so its name is not read.
    """
    read: dict[Atom, Atom] = {}
    for equation in equations:
        if not read.keys().isdisjoint(equation.inputs):
            equation = replace(equation, inputs=tuple([read.get(x, x) for x in equation.inputs]))
        if isinstance(equation.primitive, Named):
            (x,), (name,) = equation.inputs, equation.outputs
            if x in inputs:
                read[name] = x
            else:
                read = {x: name, **{y: name if z is x else z for y, z in read.items()}}
        yield equation


def _is_cheap(equation: Equation) -> bool:
    """True if the value is only a view or a repetition of its input, so that saving the input is never worse."""
    if not isinstance(equation.primitive, IndexMap) or isinstance(equation.primitive, Named):
        return False
    (out,) = equation.outputs
    read = sum(atom.type.size for atom in equation.inputs)
    return -1 not in out.shape and out.type.size >= read


@derived
def halves(
    jaxpr: Jaxpr,
    wanted: tuple[bool, ...],
    policy: Policy = save_everything,
    stacks: bool = True,
    summed: tuple[int, ...] = (),
) -> Halves:
    """The two halves of `jaxpr`, made once; see `Halves`."""
    return Halves(jaxpr, wanted, policy, stacks, summed)


class CustomHalves(NamedTuple):
    """The halves that a custom rule gives; see `Halves`."""

    forward: Jaxpr
    passed: tuple[int, ...]
    backward: Jaxpr


def cut_custom(jaxpr: Jaxpr, inputs: int, outputs: int) -> CustomHalves:
    """The halves of a joint jaxpr that a custom rule gave: behind these inputs and outputs come the cotangents."""
    gs, cts = len(jaxpr.inputs) - inputs, len(jaxpr.outputs) - outputs
    cut = _Cut(Joint(simplify(jaxpr), inputs, outputs, 0, [(PLAIN,) * gs], [(PLAIN,) * cts]))
    passed, computed = cut.residuals(cut.needs(0), save_everything)
    forward = cut.forward(computed)
    return CustomHalves(forward, tuple(map(cut.inputs.index, passed)), cut.backward(0, passed, computed))
