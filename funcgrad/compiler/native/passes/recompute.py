"""Values that are computed again where they are read, instead of stored by one nest and loaded by another.

The slope of a tanh, 1 − y², is cheap to compute from y, which is in memory anyway for others. Stored, it would be one
more array that lives until the backward pass. A difference of all pairs, x[i] − x[j], is read from two short arrays
whenever it is wanted, and a gradient wants it several times.

The nest that reads a value may have other axes than the one that computed it first: those along which the value
varies have to be there, wherever they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, final

from funcgrad.compiler.native.ir.kernel import Compute, Fold, Load
from funcgrad.compiler.native.passes.groups import work
from funcgrad.core.ir import Atom, Literal
from funcgrad.core.trace import Var
from funcgrad.core.types import Shape
from funcgrad.core.views import View, size

Strides: TypeAlias = tuple[int, ...]

# at most so many operations are done again for one value
_DEPTH = 4
# of so many instructions each
_SHORT = 4
# at most so many arrays are read for that, of which two are large; one is small if the value has so many times its size
_SOURCES, _LARGE, _SMALLER = 4, 2, 4
# one that is so many times smaller is stored instead of the value
_LESS = 2


class Nest(Protocol):
    """What is known of a nest that is being made."""

    number: int
    domain: Shape
    folded: tuple[int, ...] | None
    values: dict[Var, Strides]
    stored: set[Var]
    sources: dict[Var, tuple[Var, View]]


@final
@dataclass(frozen=True, slots=True)
class _Source:
    """What is loaded to compute a value again."""

    buffer: Var
    view: View


@final
@dataclass(slots=True)
class _Plan:
    """How a value is computed again: statements in order, whose operands may be sources.

    Attributes:
        extent: How many different elements the value has.
        steps: The statements.
        sources: What is loaded for them.
    """

    extent: int
    steps: list[tuple[Var, Compute, Strides, list[Atom | _Source]]] = field(default_factory=list)
    sources: dict[tuple[Var, Strides, int], _Source] = field(default_factory=dict)


@final
class Recomputer:
    """Finds and writes what is to be computed again.

    Args:
        ready: The buffers that are there from the beginning to the end.
        gone: The buffers that hold something else by now.
        homes: For each value, the nest that computes it.
        load: Loads a part of a buffer in a nest.
        define: Puts a statement into a nest.
    """

    def __init__(
        self,
        ready: set[Var],
        gone: Container[Var],
        homes: Mapping[Var, Nest],
        load: Callable[..., Var],
        define: Callable[..., None],
    ) -> None:
        self._ready = ready
        self._gone = gone
        self._homes = homes
        self._load = load
        self._define = define
        self._made: dict[Var, Compute | Load | Fold] = {}
        self._again: dict[tuple[int, Var, Strides], Var] = {}
        # by the value that is made of inputs alone, how many operations it is away from them
        self._depth: dict[Var, int] = {}

    def note(self, nest: Nest, s: Compute | Load | Fold) -> None:
        """Remember how a value of a nest is made."""
        self._made[s.out] = s
        if not isinstance(s, Compute) or work(s.primitive, s.inputs) > _SHORT:
            return
        depths = [0 if isinstance(a, Literal) else self._away(nest, a) for a in s.inputs]
        self._depth[s.out] = 1 + max(depths, default=0)

    def _away(self, nest: Nest, a: Var) -> int:
        if a in nest.sources:
            return 0 if nest.sources[a][0] in self._ready else _DEPTH
        return self._depth.get(a, _DEPTH)

    def movable(self, x: Var) -> bool:
        """True if a value is made of inputs by few operations, so that any nest might compute it again."""
        return self._depth.get(x, _DEPTH + 1) <= _DEPTH

    def possible(self, nest: Nest, x: Var, view: View) -> bool:
        """True if `value` computes a value again in a nest, even if that runs before the one that computed it."""
        return self._plan(nest, x, view) is not None

    def value(self, nest: Nest, x: Var, view: View) -> Var | None:
        """A value of another nest, computed again in this one for each index; None if it is better loaded."""
        known = self._again.get((id(nest), x, view.canonical))
        if known is not None and not view.offset:
            return known
        plan = self._plan(nest, x, view)
        return None if plan is None else self._write(nest, plan)

    def _plan(self, nest: Nest, x: Var, view: View) -> _Plan | None:
        strides = view.canonical
        home = self._homes.get(x)
        if home is None or view.offset or not any(strides):
            return None
        axes = _axes(home, home.values[x], nest, strides)
        if axes is None:
            return None
        plan = _Plan(_extent(nest, strides))
        if not self._planned(nest, home, axes, x, plan, _DEPTH):
            return None
        # what is loaded instead must not be more, nor keep more alive
        large = [s for s in plan.sources.values() if size(s.buffer.shape) * _SMALLER > plan.extent]
        kept = [s for s in large if s.buffer not in self._ready]
        if len(plan.sources) > _SOURCES or len(large) > _LARGE or len({s.buffer for s in kept}) > 1:
            return None
        return plan

    def _planned(self, nest: Nest, home: Nest, axes: list[int], x: Var, plan: _Plan, depth: int) -> bool:
        """Plan to compute `x` again; False if it has to be loaded.

        Args:
            nest: Where to.
            home: The nest that computes it first.
            axes: For each axis of that, the one of the nest; −1 where there is none.
            x: The value.
            plan: What the plan is added to.
            depth: How many operations may be done again.
        """
        made = self._made.get(x)
        there = x in home.stored and home.number < nest.number
        if home is nest or there or not isinstance(made, Compute) or not depth:
            return False
        strides = _moved(home.values[x], nest, axes)
        if strides is None or work(made.primitive, made.inputs) > _SHORT:
            return False
        operands: list[Atom | _Source] = []
        for a in made.inputs:
            found = a if isinstance(a, Literal) else self._operand(nest, home, axes, a, plan, depth)
            if found is None:
                return False
            operands.append(found)
        if all(x is not done for done, _, _, _ in plan.steps):
            plan.steps.append((x, made, strides, operands))
        return True

    def _operand(
        self, nest: Nest, home: Nest, axes: list[int], a: Var, plan: _Plan, depth: int
    ) -> Atom | _Source | None:
        """An operand in the nest: a value that is there, what is loaded, or what is computed again before."""
        source = home.sources.get(a)
        if source is not None:
            buffer, view = source
            moved = _moved(view.canonical, nest, axes)
            early = buffer in self._ready or home.number < nest.number
            if moved is None or not early:
                return None
            return self._source(plan, buffer, View(nest.domain, moved, view.offset))
        if a not in home.values:
            return None
        strides = _moved(home.values[a], nest, axes)
        if strides is None:
            return None
        known = self._again.get((id(nest), a, strides))
        if known is not None:
            return known
        if a in home.stored and home.number < nest.number:
            return self._source(plan, a, View(nest.domain, strides))
        steps, sources = len(plan.steps), dict(plan.sources)
        if self._planned(nest, home, axes, a, plan, depth - 1):
            return a
        # what was planned on the way is not needed
        del plan.steps[steps:]
        plan.sources = sources
        # what is stored for this is less than what is not
        less = home.number < nest.number and _extent(nest, strides) * _LESS <= plan.extent
        return self._source(plan, a, View(nest.domain, strides)) if less else None

    def _source(self, plan: _Plan, buffer: Var, view: View) -> _Source | None:
        if buffer in self._gone:
            return None
        return plan.sources.setdefault((buffer, view.canonical, view.offset), _Source(buffer, view))

    def _write(self, nest: Nest, plan: _Plan) -> Var:
        new: dict[Var, Var] = {}
        out: Var | None = None
        for x, made, strides, operands in plan.steps:
            known = self._again.get((id(nest), x, strides))
            if known is not None:
                out = new[x] = known
                continue
            atoms: list[Atom] = []
            for a in operands:
                if isinstance(a, _Source):
                    atoms.append(self._load(nest, a.buffer, a.view))
                else:
                    atoms.append(new.get(a, a) if isinstance(a, Var) else a)
            out = new[x] = Var(x.shape, x.dtype, x.weak)
            self._define(nest, Compute(out, made.primitive, tuple(atoms)), strides)
            self._again[id(nest), x, strides] = out
        assert out is not None
        return out


def _axes(home: Nest, there: Strides, nest: Nest, here: Strides) -> list[int] | None:
    """For each axis of a nest the one of another along which a value goes the same way; −1 where it does not vary.

    None if there is no such axis, or one along which it would be computed again and again.
    """
    if home.domain == nest.domain and there == here:
        return list(range(len(here)))
    found = {(n, stride): i for i, (n, stride) in enumerate(zip(nest.domain, here, strict=True)) if stride}
    axes = [found.get((n, stride), -1) for n, stride in zip(home.domain, there, strict=True)]
    varies = [i for i, stride in enumerate(there) if stride]
    folded = nest.folded or ()
    repeated = any(n != 1 and not here[i] and i not in folded for i, n in enumerate(nest.domain))
    if len(found) != len(varies) or repeated or any(axes[i] < 0 for i in varies):
        return None
    return axes


def _moved(strides: Strides, nest: Nest, axes: list[int]) -> Strides | None:
    """Strides over the axes of another nest; None if they go along one that it has not."""
    out = [0] * len(nest.domain)
    for axis, stride in zip(axes, strides, strict=True):
        if stride and axis < 0:
            return None
        if stride:
            out[axis] = stride
    return tuple(out)


def _extent(nest: Nest, strides: Strides) -> int:
    """How many different elements a value with these strides has."""
    return math.prod(n for n, stride in zip(nest.domain, strides, strict=True) if stride)
