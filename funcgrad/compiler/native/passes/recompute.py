"""Values that are computed again where they are read, instead of stored by one nest and loaded by another.

The slope of a tanh, 1 − y², is cheap to compute from y, which is in memory anyway for others. Stored, it would be one
more array that lives until the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, final

from funcgrad.compiler.native.ir.kernel import Compute, Fold, Load, Statement
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


class Nest(Protocol):
    """What is known of a nest that is being made."""

    domain: Shape
    body: list[Statement]
    values: dict[Var, Strides]
    stored: set[Var]

    @property
    def full(self) -> Strides:
        """The strides of a value for each index."""
        raise NotImplementedError


@final
@dataclass(frozen=True, slots=True)
class _Source:
    """What is loaded to compute a value again."""

    buffer: Var
    view: View


@final
@dataclass(slots=True)
class _Plan:
    """How a value is computed again: statements in order, whose operands may be sources."""

    steps: list[tuple[Var, Compute, list[Atom | _Source]]] = field(default_factory=list)
    sources: dict[tuple[Var, Strides, int], _Source] = field(default_factory=dict)


@final
class Recomputer:
    """Finds and writes what is to be computed again.

    Args:
        inputs: The buffers that are there from the beginning to the end.
        gone: The buffers that hold something else by now.
        load: Loads a part of a buffer in a nest.
    """

    def __init__(
        self, inputs: set[Var], gone: Container[Var], load: Callable[..., Var], homes: Mapping[Var, Nest]
    ) -> None:
        self._inputs = inputs
        self._gone = gone
        self._load = load
        self._homes = homes
        self._made: dict[Var, Compute | Load | Fold] = {}
        self._again: dict[tuple[int, Var], Var] = {}

    def note(self, s: Compute | Load | Fold) -> None:
        """Remember how a value is made."""
        self._made[s.out] = s

    def value(self, nest: Nest, x: Var, view: View) -> Var | None:
        """A value of another nest, computed again in this one for each index; None if it is better loaded."""
        if view.canonical != nest.full or view.offset or not any(nest.full):
            return None
        known = self._again.get((id(nest), x))
        if known is not None:
            return known
        plan = _Plan()
        if not self._planned(nest, x, plan, _DEPTH) or not plan.steps:
            return None
        kept = {s.buffer for s in plan.sources.values() if s.buffer not in self._inputs and size(s.buffer.shape) > 1}
        # what is loaded instead must not be more, nor keep more alive
        if len(plan.sources) > 2 or len(kept) > 1:
            return None
        return self._write(nest, plan)

    def _planned(self, nest: Nest, x: Var, plan: _Plan, depth: int) -> bool:
        """Plan to compute `x` again; False if it has to be loaded."""
        home, made = self._homes.get(x), self._made.get(x)
        if home is None or home is nest or x in home.stored or not isinstance(made, Compute) or not depth:
            return False
        same = home.domain == nest.domain and home.values[x] == nest.full
        if not same or work(made.primitive, made.inputs) > _SHORT:
            return False
        operands: list[Atom | _Source] = []
        for a in made.inputs:
            found = a if isinstance(a, Literal) else self._operand(nest, home, a, plan, depth)
            if found is None:
                return False
            operands.append(found)
        if all(x is not done for done, _, _ in plan.steps):
            plan.steps.append((x, made, operands))
        return True

    def _operand(self, nest: Nest, home: Nest, a: Var, plan: _Plan, depth: int) -> Atom | _Source | None:
        """An operand in the nest: a value that is there, what is loaded, or what is computed again before."""
        strides = home.values.get(a)
        if strides is None:
            return None
        if nest.values.get(a) == strides:
            return a
        if a in home.stored:
            return self._source(plan, a, View(home.domain, strides))
        return a if self._planned(nest, a, plan, depth - 1) else None

    def _source(self, plan: _Plan, buffer: Var, view: View) -> _Source | None:
        if buffer in self._gone:
            return None
        return plan.sources.setdefault((buffer, view.canonical, view.offset), _Source(buffer, view))

    def _write(self, nest: Nest, plan: _Plan) -> Var:
        new: dict[Var, Var] = {}
        out: Var | None = None
        for x, made, operands in plan.steps:
            atoms: list[Atom] = []
            for a in operands:
                if isinstance(a, _Source):
                    atoms.append(self._load(nest, a.buffer, a.view))
                else:
                    atoms.append(new.get(a, a) if isinstance(a, Var) else a)
            out = new[x] = Var(x.shape, x.dtype, x.weak)
            nest.body.append(Compute(out, made.primitive, tuple(atoms)))
            nest.values[out] = nest.full
            self._again[id(nest), x] = out
        assert out is not None
        return out
