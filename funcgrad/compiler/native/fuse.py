"""From equations to kernels: which operations share a loop nest, and which values are stored.

Operations that move elements are read through: each variable has a place, a view of the buffer that its elements stand
in. The others are taken in order, and each joins the nest of one of its operands if it runs over the same domain, reads
the values of that nest where they are computed, and all else that it reads is there by then. The nests are numbered,
and values go from lower numbers to higher ones only, so their order is found as they are made, in one pass.

In a nest with folded axes there are two levels: values for each index of the domain, and values for each index of what
is left when the folded axes are gone. So a softmax is one nest: its maximum and its sum are folds, and what follows
them runs over the same row again, while that is still in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

from funcgrad.compiler.native.kernel import Compute, Fold, Kernel, Load, Offset, Statement, Store, operands
from funcgrad.compiler.native.recompute import Recomputer
from funcgrad.core.ir import Atom, Equation, Literal, Namer
from funcgrad.core.kinds import Contraction, Elementwise, IndexMap, Reduction, Scatter
from funcgrad.core.trace import Var
from funcgrad.core.types import Shape
from funcgrad.core.views import Places, Position, View, Writing, contiguous, size

# a nest with more statements than this is cut, so that the time LLVM takes grows with the program and not faster
_LARGEST = 300
# functions of so many instructions are computed once and stored, not computed again in each phase
_DEAR = 4
_LONG = frozenset(
    {"exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "arcsin", "arccos", "arctan"}
    | {"arctan2", "sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh", "power", "erf", "erfc", "sigmoid"}
    | {"softplus", "logaddexp", "cbrt", "hypot", "divide", "sqrt"}
)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """A contraction, of two views of buffers."""

    equation: Equation
    operands: tuple[tuple[Var, View], tuple[Var, View]]

    @property
    def out(self) -> Var:
        """The result, which is a buffer of its own."""
        return self.equation.outputs[0]

    def show(self, name: Namer) -> str:
        """As text."""
        factors = " ".join(f"{name(root)}{list(view.shape)}" for root, view in self.operands)
        return f"{name(self.out)} = {self.equation.primitive.show()} {factors}"


Step: TypeAlias = Kernel | Product


@final
@dataclass(frozen=True, slots=True)
class Schedule:
    """Steps in the order in which they run.

    Attributes:
        steps: The steps.
        outputs: For each output the buffer that it is all of.
    """

    steps: list[Step]
    outputs: list[Var]


@final
class _Group:
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
            return self.full, _same
        if size(shape) == size(self.domain) and all(v.whole or not any(v.canonical) for v in views):
            return self.full, lambda v: View(
                self.domain, self.full if any(v.canonical) else _zeros(self.domain), v.offset
            )
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


def _same(view: View) -> View:
    return view


def _zeros(shape: Shape) -> tuple[int, ...]:
    return (0,) * len(shape)


@final
@dataclass(frozen=True, slots=True)
class _Operand:
    """An operand over the axes of an operation: a number, or a view of a buffer."""

    atom: Atom
    root: Var | None = None
    view: View | None = None


def fuse(inputs: Sequence[Var], equations: Sequence[Equation], outputs: Sequence[Var]) -> Schedule:
    """The schedule of a program all of whose operations have native code."""
    fuser = _Fuser(inputs)
    for equation in equations:
        fuser.add(equation)
    return fuser.finish(outputs)


@final
class _Fuser:
    def __init__(self, inputs: Sequence[Var]) -> None:
        self._inputs = set(inputs)
        self._places: dict[Var, tuple[Var, View]] = {v: (v, contiguous(v.shape)) for v in inputs}
        # by the buffer, the number of the step after which it is there
        self._made: dict[Var, int] = dict.fromkeys(inputs, -1)
        self._first: list[_Group] = []
        self._steps: list[_Group | Product] = []
        self._latest: dict[Shape, _Group] = {}
        self._group_of: dict[Var, _Group] = {}
        self._recomputer = Recomputer(self._inputs, _LONG, self._load, self._group_of)

    # ── equations

    def add(self, equation: Equation) -> None:
        """Put an equation into a step."""
        primitive = equation.primitive
        (out,) = equation.outputs
        match primitive:
            case Elementwise():
                self._elementwise(equation)
            case Reduction():
                self._reduction(equation)
            case Contraction():
                self._product(equation)
            case IndexMap() | Scatter():
                self._moved(equation)
            case _:
                raise AssertionError(primitive)
        self._places.setdefault(out, (out, contiguous(out.shape)))

    def _elementwise(self, equation: Equation) -> None:
        (out,) = equation.outputs
        xs = [self._operand(x, out.shape) for x in equation.inputs]
        group, strides, over = self._place_for(out.shape, xs)
        atoms = tuple(self._read(group, x, over) for x in xs)
        assert isinstance(equation.primitive, Elementwise)
        self._define(group, Compute(out, equation.primitive, atoms), strides)

    def _reduction(self, equation: Equation) -> None:
        (out,) = equation.outputs
        (x,) = equation.inputs
        primitive = equation.primitive
        assert isinstance(primitive, Reduction) and primitive.fold is not None
        axes = tuple(sorted(primitive.folded(len(x.shape))))
        operand = self._operand(x, x.shape)
        group = self._folding_group(operand, x.shape, axes)
        atom = self._read(group, operand, _same)
        self._define(group, Fold(out, primitive.fold, atom), group.left)

    def _folding_group(self, x: _Operand, shape: Shape, axes: tuple[int, ...]) -> _Group:
        for group in self._candidates(shape, [x.root] if x.root else []):
            if group.folded not in (None, axes) or group.domain != shape:
                continue
            if not self._readable(group, x, _same):
                continue
            group.folded = axes
            return group
        return self._new_group(shape, axes)

    def _product(self, equation: Equation) -> None:
        places = []
        for x in equation.inputs:
            if isinstance(x, Literal):
                x = self._fill(x)
            root, view = self._places[x]
            self._store(root)
            places.append((root, view))
        (out,) = equation.outputs
        self._made[out] = len(self._steps)
        self._steps.append(Product(equation, (places[0], places[1])))

    def _moved(self, equation: Equation) -> None:
        primitive = equation.primitive
        (out,) = equation.outputs
        shapes = [x.shape for x in equation.inputs]
        if isinstance(primitive, IndexMap):
            x = equation.inputs[0]
            if isinstance(x, Literal):
                x = self._fill(x)
            root, view = self._places[x]
            moved = primitive.view(view)
            if moved is None and primitive.view(contiguous(x.shape)) is not None:
                root, view = self._copied(x)
                moved = primitive.view(view)
            if moved is not None:
                self._places[out] = (root, moved)
                return
            places = primitive.taken(*shapes)
            if places is not None:
                self._taken(equation, places)
                return
        assert isinstance(primitive, IndexMap | Scatter)
        written = primitive.written(*shapes)
        assert written is not None
        self._begin(equation, written.base, written.writings)
        for writing in written.writings:
            self._write(out, equation, writing)

    def _taken(self, equation: Equation, places: Places) -> None:
        (out,) = equation.outputs
        source = self._whole(equation.inputs[0])
        self._store(source)
        positions = [(p, *self._position(equation, p)) for p in places.positions]
        buffers = [source, *(x for _, x, _ in positions if isinstance(x, Var))]
        group, strides, over = self._place_for(out.shape, [], buffers, exact=True)
        offsets = self._offsets(group, positions, over)
        self._define(group, Load(out, source, over(places.view), offsets), strides)

    def _position(self, equation: Equation, p: Position) -> tuple[Atom, View]:
        index = equation.inputs[p.operand]
        if isinstance(index, Literal):
            return index, p.view
        root, view = self._places[index]
        if not index.shape:
            self._store(root)
            return root, View(p.view.shape, p.view.strides, view.offset)
        if not view.whole:
            root, view = self._copied(index)
        self._store(root)
        return root, p.view

    def _offsets(
        self, group: _Group, positions: Sequence[tuple[Position, Atom, View]], over: Callable[[View], View]
    ) -> tuple[Offset, ...]:
        out = []
        for p, index, view in positions:
            atom = index if isinstance(index, Literal) else self._load(group, index, over(view))
            out.append(Offset(atom, p.length, p.stride, p.clamped, p.size))
        return tuple(out)

    # ── writing at places of a buffer

    def _begin(self, equation: Equation, base: int | None, writings: Sequence[Writing]) -> None:
        """Give the buffer of a result what it begins with."""
        (out,) = equation.outputs
        self._places[out] = (out, contiguous(out.shape))
        covered = sum(size(w.places.view.shape) for w in writings if w.combine is None and not w.places.positions)
        if base is None and covered >= size(out.shape):
            self._made[out] = -1
            return
        group = _Group(-1, out.shape, None)
        if base is None:
            self._first.append(group)
            value: Atom = Literal(out.dtype.type(0))
        else:
            x = equation.inputs[base]
            if isinstance(x, Literal):
                x = self._fill(x)
            root, view = self._places[x]
            self._store(root)
            if root in self._inputs:
                self._first.append(group)
            else:
                group = self._new_group(out.shape, None)
                self._latest.pop(out.shape)
            value = self._load(group, root, view.broadcast(out.shape))
        group.body.append(Store(out, contiguous(out.shape), value))
        self._made[out] = group.number

    def _write(self, out: Var, equation: Equation, writing: Writing) -> None:
        x = equation.inputs[writing.operand]
        shape = writing.places.view.shape
        operand = self._operand(x, shape)
        positions = [(p, *self._position(equation, p)) for p in writing.places.positions]
        least = self._made[out]
        if writing.combine is None and not positions:
            group, _, over = self._place_for(shape, [operand], exact=True, least=least)
        else:
            # the order in which it writes matters, so nothing else goes along
            group, over = self._new_group(shape, None), _same
            self._latest.pop(shape)
        atom = self._read(group, operand, over)
        offsets = self._offsets(group, positions, over)
        group.body.append(Store(out, over(writing.places.view), atom, offsets, writing.combine))
        self._made[out] = max(least, group.number)

    # ── operands

    def _operand(self, x: Atom, shape: Shape) -> _Operand:
        if isinstance(x, Literal):
            return _Operand(x)
        root, view = self._places[x]
        return _Operand(x, root, view.broadcast(shape))

    def _read(self, group: _Group, x: _Operand, over: Callable[[View], View]) -> Atom:
        if x.root is None or x.view is None:
            return x.atom
        view = over(x.view)
        if x.root in group.values:
            return x.root
        again = self._recomputer.value(group, x.root, view)
        return self._load(group, x.root, view) if again is None else again

    def _load(self, group: _Group, root: Var, view: View) -> Var:
        self._store(root)
        key = (root, view.canonical, view.offset)
        known = group.loads.get(key)
        if known is None:
            known = group.loads[key] = Var((), root.dtype, root.weak)
            load = Load(known, root, View(view.shape, view.canonical, view.offset))
            group.body.append(load)
            self._recomputer.note(load)
        return known

    def _whole(self, x: Atom) -> Var:
        """The buffer that an array is all of."""
        if isinstance(x, Literal):
            x = self._fill(x)
        root, view = self._places[x]
        return root if view.whole and size(view.shape) == size(root.shape) else self._copied(x)[0]

    def _copied(self, x: Var) -> tuple[Var, View]:
        """A place of its own for an array that is a view."""
        root, view = self._places[x]
        out = Var(x.shape, x.dtype)
        group, strides, over = self._place_for(x.shape, [], [root], exact=True)
        self._store(root)
        self._define(group, Load(out, root, over(view)), strides)
        self._places[out] = (out, contiguous(out.shape))
        self._store(out)
        return self._places[out]

    def _fill(self, x: Literal) -> Var:
        """A number in a buffer."""
        out = Var((), x.dtype)
        group = _Group(-1, (), None)
        group.body.append(Store(out, contiguous(()), x))
        self._first.append(group)
        self._made[out] = -1
        self._places[out] = (out, contiguous(()))
        return out

    # ── groups

    def _place_for(
        self, shape: Shape, xs: Sequence[_Operand], buffers: Sequence[Var] = (), exact: bool = False, least: int = -1
    ) -> tuple[_Group, tuple[int, ...], Callable[[View], View]]:
        """The nest for an operation over `shape`, the strides of its result there, and how views go over its domain.

        Args:
            shape: The shape.
            xs: What it reads.
            buffers: What it reads that has to be in memory.
            exact: True if the views need the axes of the shape.
            least: The first step that it may be a part of.
        """
        views = [x.view for x in xs if x.view is not None]
        roots = [*(x.root for x in xs if x.root is not None), *buffers]
        for group in self._candidates(shape, roots, least):
            if exact and group.domain != shape:
                continue
            fit = group.fit(shape, views)
            if fit is None:
                continue
            strides, over = fit
            there = all(self._made[root] < group.number for root in buffers)
            if there and all(self._readable(group, x, over) for x in xs):
                return group, strides, over
        group = self._new_group(shape, None)
        return group, group.full, _same

    def _readable(self, group: _Group, x: _Operand, over: Callable[[View], View]) -> bool:
        if x.root is None or x.view is None:
            return True
        strides = group.values.get(x.root)
        if strides is None:
            return self._made[x.root] < group.number
        view = over(x.view)
        return view.canonical == strides and view.offset == 0

    def _candidates(self, shape: Shape, roots: Sequence[Var], least: int = -1) -> list[_Group]:
        """The nests that an operation might join: that of its last operand, and the last one over its shape."""
        last = max((self._made[root] for root in roots), default=-1)
        found = []
        if last >= 0:
            step = self._steps[last]
            if isinstance(step, _Group) and any(root in step.values for root in roots):
                found.append(step)
        latest = self._latest.get(shape)
        if latest is not None and latest not in found:
            found.append(latest)
        return [g for g in found if g.number >= max(last, least) and len(g.body) < _LARGEST]

    def _new_group(self, domain: Shape, folded: tuple[int, ...] | None) -> _Group:
        group = _Group(len(self._steps), domain, folded)
        self._steps.append(group)
        self._latest[domain] = group
        return group

    def _define(self, group: _Group, s: Compute | Fold | Load, strides: tuple[int, ...]) -> None:
        group.body.append(s)
        self._recomputer.note(s)
        group.values[s.out] = strides
        self._made[s.out] = group.number
        self._group_of[s.out] = group

    def _store(self, v: Var) -> None:
        """Have a value in a buffer, since somebody reads it from there."""
        group = self._group_of.get(v)
        if group is not None:
            group.stored.add(v)

    # ── the end

    def finish(self, outputs: Sequence[Var]) -> Schedule:
        """All steps, when there are no more equations."""
        buffers: list[Var] = []
        for v in outputs:
            root, view = self._places[v]
            if root in self._inputs or root in buffers or not view.whole or size(view.shape) != size(root.shape):
                root, _ = self._copied(v)
            self._store(root)
            buffers.append(root)
        steps: list[Step] = []
        for step in (*self._first, *self._steps):
            if isinstance(step, Product):
                steps.append(step)
            elif 0 not in step.domain:
                steps.append(_finished(step))
        return Schedule(steps, buffers)


def _finished(group: _Group) -> Kernel:
    folded = tuple(group.folded or ())
    group.body = _used(group)
    body = _spilled(group)
    stores = [Store(v, View(group.domain, group.values[v]), v) for v in group.values if v in group.stored]
    return Kernel(group.domain, folded, (*body, *stores))


def _used(group: _Group) -> list[Statement]:
    """The body without what is computed for others only, which have computed it again."""
    needed: set[Atom] = set(group.stored)
    kept: list[Statement] = []
    for s in reversed(group.body):
        if isinstance(s, Store) or s.out in needed:
            kept.append(s)
            needed.update(operands(s))
    return kept[::-1]


def _spilled(group: _Group) -> list[Statement]:
    """The body in which no dear value is computed in two phases: the second one loads it."""
    if not group.folded:
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
            s = _with(s, late)
        out.append(s)
        if not isinstance(s, Store):
            phase[s.out] = number
            cost[s.out] = 0 if isinstance(s, Fold) else _weight(s) + sum(cost.get(x, 0) for x in xs)
            if _outer(group, s.out):
                cost[s.out] = 0
    return out


def _outer(group: _Group, v: Var) -> bool:
    return group.values.get(v) == group.left


def _weight(s: Statement) -> int:
    if isinstance(s, Compute):
        return 10 if s.primitive.name in _LONG else 1
    return 5 if isinstance(s, Load) and s.offsets else 1


def _with(s: Statement, new: dict[Var, Var]) -> Statement:
    def swap(x: Atom) -> Atom:
        return new.get(x, x) if isinstance(x, Var) else x

    match s:
        case Compute():
            return Compute(s.out, s.primitive, tuple(map(swap, s.inputs)))
        case Fold():
            return Fold(s.out, s.how, swap(s.x))
        case Store():
            return Store(s.buffer, s.view, swap(s.x), s.offsets, s.combine)
    return s
