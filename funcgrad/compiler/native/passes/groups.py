"""A nest in the making: what stands in its loops, and how it becomes a kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from funcgrad.compiler.native.ir.kernel import Compute, Fold, Kernel, Load, Statement, Store, operands, reading
from funcgrad.compiler.native.vectormath import cost
from funcgrad.core.ir import Atom
from funcgrad.core.kinds import Elementwise
from funcgrad.core.trace import Var
from funcgrad.core.types import Shape
from funcgrad.core.views import View, contiguous, size

# functions of so many instructions are computed once and stored, not computed again in each phase
_DEAR = 4
_SLOW = {"divide": 10, "sqrt": 10}


@final
class Group:
    """A nest that is being made."""

    def __init__(self, number: int, domain: Shape, folded: tuple[int, ...] | None) -> None:
        self.number = number
        self.domain = domain
        self.folded = folded
        self.body: list[Statement] = []
        # each value with its strides over the domain
        self.values: dict[Var, tuple[int, ...]] = {}
        self.stored: set[Var] = set()
        self.loads: dict[tuple[Var, tuple[int, ...], int], Var] = {}
        # for each value that is loaded, where from
        self.sources: dict[Var, tuple[Var, View]] = {}

    @property
    def full(self) -> tuple[int, ...]:
        """The strides of a value for each index."""
        return contiguous(self.domain).strides

    @property
    def left(self) -> tuple[int, ...]:
        """The strides of a value for each index of what folding leaves."""
        folded = self.folded or ()
        return contiguous(tuple(1 if i in folded else n for i, n in enumerate(self.domain))).strides

    def fit(self, shape: Shape, views: Sequence[View]) -> tuple[tuple[int, ...], Callable[[View], View]] | None:
        """How an operation over `shape` runs in this nest: the strides of its result, and its views over the domain."""
        if shape == self.domain:
            return self.full, same
        if size(shape) == size(self.domain) and all(v.whole or not any(v.canonical) for v in views):
            return self.full, self._flat
        if self.folded is None:
            return None
        rest = [i for i, n in enumerate(self.domain) if n != 1 and i not in self.folded]
        axes = [i for i, n in enumerate(shape) if n != 1]
        if [self.domain[i] for i in rest] != [shape[i] for i in axes]:
            return None

        def spread(v: View) -> View:
            strides = [0] * len(self.domain)
            for i, axis in zip(rest, axes, strict=True):
                strides[i] = v.strides[axis]
            return View(self.domain, tuple(strides), v.offset)

        return self.left, spread

    def _flat(self, v: View) -> View:
        return View(self.domain, self.full if any(v.canonical) else _zeros(self.domain), v.offset)


def same(view: View) -> View:
    return view


def _zeros(shape: Shape) -> tuple[int, ...]:
    return (0,) * len(shape)


@final
@dataclass(frozen=True, slots=True)
class Operand:
    """An operand over the axes of an operation: a number, or a view of a buffer."""

    atom: Atom
    root: Var | None = None
    view: View | None = None


def finished(group: Group) -> Kernel:
    folded = tuple(group.folded or ())
    group.body = _used(group)
    body = _spilled(group)
    stores = [Store(v, View(group.domain, group.values[v]), v) for v in group.values if v in group.stored]
    return Kernel(group.domain, folded, (*body, *stores))


def _used(group: Group) -> list[Statement]:
    """The body without what is computed for others only, which have computed it again."""
    needed: set[Atom] = set(group.stored)
    kept: list[Statement] = []
    for s in reversed(group.body):
        if isinstance(s, Store) or s.out in needed:
            kept.append(s)
            needed.update(operands(s))
    return kept[::-1]


def _spilled(group: Group) -> list[Statement]:
    """The body in which no dear value is computed in two phases: the second one loads it."""
    # a fold over axes of one index has one phase
    if all(group.domain[i] == 1 for i in group.folded or ()):
        return group.body
    folds = {s.out for s in group.body if isinstance(s, Fold)}
    phase: dict[Var, int] = {}
    cost: dict[Var, int] = {}
    spilled: dict[Var, Var] = {}
    out: list[Statement] = []
    for s in group.body:
        xs = [x for x in operands(s) if isinstance(x, Var)]
        number = max((phase[x] + (x in folds) for x in xs), default=0)
        late = {
            x: spilled.setdefault(x, Var((), x.dtype, x.weak))
            for x in xs
            if x not in folds and phase[x] < number and cost[x] > _DEAR
        }
        for x, again in late.items():
            if again not in phase:
                out.append(Load(again, x, View(group.domain, group.values[x])))
                phase[again], cost[again] = number, 1
                group.stored.add(x)
        if late:
            s = reading(s, late)
        out.append(s)
        if not isinstance(s, Store):
            phase[s.out] = number
            cost[s.out] = 0 if isinstance(s, Fold) else _weight(s) + sum(cost.get(x, 0) for x in xs)
            if _outer(group, s.out):
                cost[s.out] = 0
    return out


def _outer(group: Group, v: Var) -> bool:
    return group.values.get(v) == group.left


def work(primitive: Elementwise, inputs: Sequence[Atom]) -> int:
    """About how many instructions an operation on an element takes."""
    return _SLOW.get(primitive.name) or cost(primitive.name, inputs)


def _weight(s: Statement) -> int:
    if isinstance(s, Compute):
        return work(s.primitive, s.inputs)
    return 5 if isinstance(s, Load) and s.offsets else 1
