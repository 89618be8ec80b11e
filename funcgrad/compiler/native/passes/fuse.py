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
from typing import final

from funcgrad.compiler.native.ir.kernel import Compute, Fold, Load, Offset, Store
from funcgrad.compiler.native.ir.own_primitives import Lowered
from funcgrad.compiler.native.ir.steps import Block, Branch, Call, Lines, Loop, Product, Routine, Schedule, Slices, Step
from funcgrad.compiler.native.lines.running import readable
from funcgrad.compiler.native.nests.repeated import append
from funcgrad.compiler.native.passes.groups import Group, Operand, finished, same
from funcgrad.compiler.native.passes.recompute import Recomputer
from funcgrad.compiler.native.passes.write_out import without_short_axes
from funcgrad.core.flow import Branched, Called, Looped
from funcgrad.core.ir import Atom, Equation, Jaxpr, Literal, last_reads
from funcgrad.core.kinds import Contraction, Elementwise, IndexMap, Reduction, Running, Scatter, Sorting
from funcgrad.core.trace import Var
from funcgrad.core.types import Shape
from funcgrad.core.views import Places, Position, View, Writing, contiguous, size

# a nest with more statements than this is cut, so that the time LLVM takes grows with the program and not faster
_LARGEST = 300


def fuse(jaxpr: Jaxpr, pairs: Sequence[tuple[int, int]] = ()) -> Schedule:
    """The schedule of a program all of whose operations have native code.

    Args:
        jaxpr: The program.
        pairs: Inputs and outputs, by position, that may be one buffer: such an input belongs to the program, which may
            overwrite it.
    """
    return _Fuser(jaxpr, pairs, {}).schedule


@final
class _Fuser:
    def __init__(
        self,
        jaxpr: Jaxpr,
        pairs: Sequence[tuple[int, int]],
        routines: dict[tuple[Jaxpr, Sequence[tuple[int, int]]], Routine],
    ) -> None:
        inputs = jaxpr.inputs
        self._routines = routines
        self._inputs = set(inputs)
        # what is there before the first step, and stays
        self._ready = set(inputs)
        # for an input that may be overwritten, the output that may be the same buffer
        self._pairs = {inputs[i]: k for i, k in pairs}
        self._places: dict[Var, tuple[Var, View]] = {v: (v, contiguous(v.shape)) for v in inputs}
        # by the buffer, the number of the step after which it is there
        self._made: dict[Var, int] = dict.fromkeys(inputs, -1)
        self._first: list[Group] = []
        self._steps: list[Group | Step] = []
        self._latest: dict[Shape, Group] = {}
        self._group_of: dict[Var, Group] = {}
        # the number of the equation that reads a variable last, and of the last one that reads from a buffer
        self._last = last_reads(jaxpr)
        self._until: dict[Var, float] = {v: self._last.get(v, -1) for v in inputs}
        self._number = 0
        self._successors: dict[Var, Var] = {}
        self._recomputer = Recomputer(self._ready, self._successors, self._group_of, self._load, self._define)
        # for a buffer that goes on in the memory of an input, that input
        self._given: dict[Var, Var] = {v: v for v in inputs}
        for self._number, equation in enumerate(jaxpr.equations):
            self._add(equation)
        self.schedule: Schedule = self._finish(jaxpr.outputs)

    # ── equations

    def _add(self, equation: Equation) -> None:
        """Put an equation into a step."""
        primitive = equation.primitive
        match primitive:
            case Elementwise():
                self._elementwise(equation)
            case Reduction():
                self._reduction(equation)
            case Contraction():
                self._product(equation)
            case Running() | Sorting():
                self._lines(equation, primitive)
            case IndexMap() | Scatter():
                self._moved(equation)
            case Lowered():
                self._flow(equation, primitive)
            case _:
                raise AssertionError(primitive)
        for out in equation.outputs:
            root, _ = self._places.setdefault(out, (out, contiguous(out.shape)))
            self._until[root] = max(self._until.get(root, -1), self._last.get(out, -1))

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
        atom = self._read(group, operand, same)
        self._define(group, Fold(out, primitive.fold, atom), group.left)

    def _folding_group(self, x: Operand, shape: Shape, axes: tuple[int, ...]) -> Group:
        for group in self._candidates(shape, [x.root] if x.root else []):
            if group.folded not in (None, axes) or group.domain != shape:
                continue
            if not self._readable(group, x, same):
                continue
            group.folded = axes
            return group
        return self._new_group(shape, axes)

    def _product(self, equation: Equation) -> None:
        places = []
        for x in equation.inputs:
            root, view = self._places[self._variable(x)]
            self._store(root)
            places.append((root, view))
        (out,) = equation.outputs
        self._made[out] = len(self._steps)
        self._steps.append(Product(equation, (places[0], places[1])))

    def _lines(self, equation: Equation, primitive: Running | Sorting) -> None:
        places = []
        for x in equation.inputs:
            x = self._variable(x)
            root, view = self._places[x]
            if isinstance(primitive, Running) and not readable(view, primitive.axis):
                root, view = self._copied(x)
            self._store(root)
            places.append((root, view))
        self._made[equation.outputs[0]] = len(self._steps)
        self._steps.append(Lines(equation, tuple(places)))

    def _moved(self, equation: Equation) -> None:
        primitive = equation.primitive
        (out,) = equation.outputs
        shapes = [x.shape for x in equation.inputs]
        if isinstance(primitive, IndexMap):
            x = self._variable(equation.inputs[0])
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
        if written.base is not None and not any(size(w.places.view.shape) for w in written.writings):
            # nothing is written, so it is the array that it begins with
            root, view = self._places[self._variable(equation.inputs[written.base])]
            self._places[out] = root, view.broadcast(out.shape)
            return
        in_place = self._begin(equation, written.base, written.writings)
        for writing in written.writings:
            self._write(out, equation, writing, in_place)

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
        self, group: Group, positions: Sequence[tuple[Position, Atom, View]], over: Callable[[View], View]
    ) -> tuple[Offset, ...]:
        out = []
        for p, index, view in positions:
            atom = index if isinstance(index, Literal) else self._load(group, index, over(view))
            out.append(Offset(atom, p.length, p.stride, p.clamped, p.size))
        return tuple(out)

    # ── writing at places of a buffer

    def _begin(self, equation: Equation, base: int | None, writings: Sequence[Writing]) -> bool:
        """Give the buffer of a result what it begins with; True if that stands in its memory already."""
        (out,) = equation.outputs
        self._places[out] = (out, contiguous(out.shape))
        covered = sum(size(w.places.view.shape) for w in writings if w.combine is None and not w.places.positions)
        if base is None and covered >= size(out.shape):
            self._made[out] = -1
            return False
        group = Group(-1, out.shape, None)
        if base is None:
            self._first.append(group)
            value: Atom = Literal(out.dtype.type(0))
        else:
            root, view = self._places[self._variable(equation.inputs[base])]
            self._store(root)
            if self._overwritable(root, view, equation, base):
                self._successors[root] = out
                self._made[out] = self._made[root]
                if root in self._given:
                    self._given[out] = self._given[root]
                return True
            if root in self._inputs:
                self._first.append(group)
            else:
                group = self._new_group(out.shape, None)
                self._latest.pop(out.shape)
            value = self._load(group, root, view.broadcast(out.shape))
        group.body.append(Store(out, contiguous(out.shape), value))
        self._made[out] = group.number
        return False

    def _overwritable(self, root: Var, view: View, equation: Equation, base: int) -> bool:
        """True if nobody reads a buffer after this equation, which may therefore write its result there."""
        (out,) = equation.outputs
        if not view.whole or view.shape != out.shape or root.dtype != out.dtype or size(root.shape) != size(out.shape):
            return False
        given = self._given.get(root)
        if self._until[root] > self._number or (given is not None and given not in self._pairs):
            return False
        others = [x for i, x in enumerate(equation.inputs) if i != base and isinstance(x, Var)]
        return all(self._places[x][0] is not root for x in others)

    def _write(self, out: Var, equation: Equation, writing: Writing, in_place: bool) -> None:
        x = equation.inputs[writing.operand]
        shape = writing.places.view.shape
        operand = self._operand(x, shape)
        positions = [(p, *self._position(equation, p)) for p in writing.places.positions]
        least = self._made[out]
        if writing.combine is None and not positions and not in_place:
            group, _, over = self._place_for(shape, [operand], exact=True, least=least)
        else:
            # the order in which it writes matters, so nothing else goes along; nor may it run before what reads the
            # memory that it writes to
            group, over = self._new_group(shape, None), same
            self._latest.pop(shape)
        atom = self._read(group, operand, over)
        offsets = self._offsets(group, positions, over)
        group.body.append(Store(out, over(writing.places.view), atom, offsets, writing.combine))
        self._made[out] = max(least, group.number)

    # ── operands

    def _operand(self, x: Atom, shape: Shape) -> Operand:
        if isinstance(x, Literal):
            return Operand(x)
        root, view = self._places[x]
        return Operand(x, root, view.broadcast(shape))

    def _read(self, group: Group, x: Operand, over: Callable[[View], View]) -> Atom:
        if x.root is None or x.view is None:
            return x.atom
        view = over(x.view)
        if x.root in group.values:
            return x.root
        again = self._recomputer.value(group, x.root, view)
        return self._load(group, x.root, view) if again is None else again

    def _load(self, group: Group, root: Var, view: View) -> Var:
        self._store(root)
        key = (root, view.canonical, view.offset)
        known = group.loads.get(key)
        if known is None:
            known = group.loads[key] = Var((), root.dtype, root.weak)
            place = View(view.shape, view.canonical, view.offset)
            group.sources[known] = root, place
            group.body.append(Load(known, root, place))
        return known

    def _whole(self, x: Atom) -> Var:
        """The buffer that an array is all of."""
        x = self._variable(x)
        root, view = self._places[x]
        return root if view.whole and size(view.shape) == size(root.shape) else self._copied(x)[0]

    def _block(self, x: Atom) -> Block:
        """An array as consecutive elements of a buffer."""
        x = self._variable(x)
        root, view = self._places[x]
        if view.canonical != contiguous(view.shape).strides:
            root, view = self._copied(x)
        self._store(root)
        return Block(root, view.offset)

    def _slices(self, x: Atom) -> Slices:
        """An array as one block for each index of its first axis."""
        x = self._variable(x)
        root, view = self._places[x]
        if view.canonical[1:] != contiguous(view.shape[1:]).strides:
            root, view = self._copied(x)
        self._store(root)
        return Slices(root, view.offset, view.strides[0] if view.shape[0] != 1 else 0)

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

    def _variable(self, x: Atom) -> Var:
        return self._fill(x) if isinstance(x, Literal) else x

    def _fill(self, x: Literal) -> Var:
        """A number in a buffer."""
        out = Var((), x.dtype)
        group = Group(-1, (), None)
        group.body.append(Store(out, contiguous(()), x))
        self._first.append(group)
        self._ready.add(out)
        self._made[out] = -1
        self._places[out] = (out, contiguous(()))
        return out

    # ── groups

    def _place_for(
        self, shape: Shape, xs: Sequence[Operand], buffers: Sequence[Var] = (), exact: bool = False, least: int = -1
    ) -> tuple[Group, tuple[int, ...], Callable[[View], View]]:
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
        return group, group.full, same

    def _readable(self, group: Group, x: Operand, over: Callable[[View], View]) -> bool:
        if x.root is None or x.view is None:
            return True
        strides = group.values.get(x.root)
        if strides is None:
            there = self._made[x.root] < group.number
            return there or self._recomputer.possible(group, x.root, over(x.view))
        view = over(x.view)
        return view.canonical == strides and view.offset == 0

    def _candidates(self, shape: Shape, roots: Sequence[Var], least: int = -1) -> list[Group]:
        """The nests that an operation might join: that of its last operand, and the last one over its shape.

        What is made of inputs can be made again in the nest of another operand.
        """
        fixed = [root for root in roots if not self._recomputer.movable(root)]
        last = max((self._made[root] for root in fixed or roots), default=-1)
        found = []
        if last >= 0:
            step = self._steps[last]
            if isinstance(step, Group) and any(root in step.values for root in roots):
                found.append(step)
        latest = self._latest.get(shape)
        if latest is not None and latest not in found:
            found.append(latest)
        return [g for g in found if g.number >= max(last, least) and len(g.body) < _LARGEST]

    def _new_group(self, domain: Shape, folded: tuple[int, ...] | None) -> Group:
        group = Group(len(self._steps), domain, folded)
        self._steps.append(group)
        self._latest[domain] = group
        return group

    def _define(self, group: Group, s: Compute | Fold | Load, strides: tuple[int, ...]) -> None:
        group.body.append(s)
        self._recomputer.note(group, s)
        group.values[s.out] = strides
        self._made[s.out] = group.number
        self._group_of[s.out] = group

    def _store(self, v: Var) -> None:
        """Have a value in a buffer, since somebody reads it from there."""
        group = self._group_of.get(v)
        if group is not None:
            group.stored.add(v)

    # ── programs

    def _flow(self, equation: Equation, primitive: Lowered) -> None:
        atoms, outputs = equation.inputs, equation.outputs
        step: Step
        match primitive.flow:
            case Called() as flow:
                blocks = tuple(self._block(atoms[i]) for i in flow.operands)
                step = Call(self._routine(flow.jaxpr), blocks, outputs)
            case Branched() as flow:
                number, *others = (self._block(x) for x in atoms)
                step = Branch(number, tuple(map(self._routine, flow.branches)), tuple(others), outputs)
            case Looped() as flow:
                step = self._loop(flow, atoms, outputs)
        self._made.update(dict.fromkeys(outputs, len(self._steps)))
        self._steps.append(step)

    def _loop(self, flow: Looped, atoms: Sequence[Atom], outputs: tuple[Var, ...]) -> Loop:
        consts, init, asked = (
            tuple(self._block(atoms[i]) for i in positions)
            for positions in (flow.consts, flow.init, flow.condition_consts)
        )
        carry = len(init)
        return Loop(
            self._routine(flow.body, tuple((len(consts) + k, k) for k in range(carry))),
            consts,
            init,
            tuple(self._slices(atoms[i]) for i in flow.scanned),
            outputs[:carry],
            outputs[carry:],
            flow.reverse,
            flow.length,
            None if flow.steps is None else self._block(atoms[flow.steps]),
            None if flow.condition is None else self._routine(flow.condition),
            asked,
        )

    def _routine(self, jaxpr: Jaxpr, pairs: tuple[tuple[int, int], ...] = ()) -> Routine:
        key = (jaxpr, pairs)
        if key not in self._routines:
            self._routines[key] = Routine(jaxpr, _Fuser(jaxpr, pairs, self._routines).schedule, pairs)
        return self._routines[key]

    # ── the end

    def _finish(self, outputs: Sequence[Atom]) -> Schedule:
        """All steps, when there are no more equations."""
        buffers: list[Var] = []
        for k, x in enumerate(outputs):
            v = self._variable(x)
            root, view = self._places[v]
            given = self._given.get(root)
            foreign = given is not None and self._pairs.get(given) != k
            if foreign or root in buffers or not view.whole or size(view.shape) != size(root.shape):
                root, _ = self._copied(v)
            self._store(root)
            buffers.append(root)
        made: list[Step] = []
        for step in (*self._first, *self._steps):
            if isinstance(step, Group):
                if 0 not in step.domain and (kernel := finished(step)).body:
                    made.append(kernel)
            elif not isinstance(step, Lines) or 0 not in step.out.shape:
                made.append(step)
        steps: list[Step] = []
        for step in without_short_axes(made, buffers, self._successors):
            append(steps, step)
        return Schedule(steps, buffers, self._successors)
