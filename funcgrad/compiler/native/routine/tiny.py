"""Tiny programs: every element of every array is a number in a register of its own.

The body of a loop over a few numbers, such as a step of an integrator, has no loop nests: they would be a few elements
long, and what one writes the next would read from memory. Here an array is a list of values, so that moving elements
costs nothing, and each operation is written once for each element.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias, final

import numpy as np

from funcgrad.compiler.native.ir.own_primitives import Lowered
from funcgrad.compiler.native.machine.builder import I1, I64, Builder, Type, Value
from funcgrad.compiler.native.passes.groups import work
from funcgrad.compiler.native.routine.part import Part
from funcgrad.compiler.native.scalars.convert import (
    constant_of,
    convert,
    from_memory,
    lane_of,
    memory_lane,
    scalar_constant,
    to_memory,
)
from funcgrad.compiler.native.scalars.operations import code, combine, overflow
from funcgrad.core.flow import Branched, Called, Looped, jaxprs_of
from funcgrad.core.ir import Atom, Equation, Jaxpr, Literal
from funcgrad.core.kinds import Contraction, Elementwise, IndexMap, Reduction, Scatter
from funcgrad.core.trace import Var
from funcgrad.core.types import DType, Shape
from funcgrad.core.views import Places, View, Written, contiguous, size

# The elements of an array, those of one that a long function is applied to (from there on vectors are faster), and the
# operations of a program.
_ELEMENTS, _DEAR, _OPERATIONS = 9, 4, 600
# instructions of a long function
_LONG = 12


@final
@dataclass(frozen=True, slots=True)
class InMemory:
    """An array that stands in memory, from an address on."""

    pointer: Value
    view: View
    dtype: DType


Elements: TypeAlias = list[Value] | InMemory


# ── what is tiny


def tables(jaxpr: Jaxpr) -> set[Var]:
    """The inputs that have to be in memory: they are large, or read at places that the program computes."""
    found = {v for v in jaxpr.inputs if size(v.shape) > _ELEMENTS}
    for equation in jaxpr.equations:
        primitive = equation.primitive
        if isinstance(primitive, IndexMap) and equation.inputs and isinstance(x := equation.inputs[0], Var):
            shapes = [y.shape for y in equation.inputs]
            if primitive.view(contiguous(x.shape)) is None and primitive.taken(*shapes) is not None:
                found.add(x)
    return found


@lru_cache(maxsize=4096)
def operations(jaxpr: Jaxpr, in_memory: frozenset[int] = frozenset()) -> int | None:
    """The number of scalar operations of a program; None if it is not tiny.

    Args:
        jaxpr: The program.
        in_memory: Which of its inputs, by position, are in memory.
    """
    read = tables(jaxpr)
    if not read <= {jaxpr.inputs[i] for i in in_memory} or any(x in read for x in jaxpr.outputs):
        return None
    total = 0
    for equation in jaxpr.equations:
        n = _operations(equation, read)
        if n is None or (total := total + n) > _OPERATIONS:
            return None
    return total


def _operations(equation: Equation, read: set[Var]) -> int | None:
    primitive, outputs = equation.primitive, equation.outputs
    values = (*equation.inputs, *outputs)
    if any(lane_of(x.dtype) is None or x.dtype == np.float16 or 0 in x.shape or -1 in x.shape for x in values):
        return None
    large = any(size(v.shape) > _ELEMENTS for v in outputs)
    if large or (not isinstance(primitive, IndexMap) and any(x in read for x in equation.inputs)):
        return None
    match primitive:
        case Elementwise():
            n = size(outputs[0].shape)
            each = work(primitive, equation.inputs)
            return None if each > _LONG and n > _DEAR else n * each
        case Reduction():
            return None if primitive.fold is None or isinstance(primitive.fold, str) else size(equation.inputs[0].shape)
        case Contraction():
            n = math.prod(_lengths(primitive, equation.inputs).values())
            return 2 * n if n <= _ELEMENTS**2 else None
        case IndexMap():
            return _moves(equation, primitive, read)
        case Scatter():
            return _writes(primitive.written(*(x.shape for x in equation.inputs)))
        case Lowered():
            return _flows(primitive)
    return None


def _lengths(primitive: Contraction, inputs: Sequence[Atom]) -> dict[str, int]:
    shapes = (n for x in inputs for n in x.shape)
    return dict(zip("".join(primitive.terms[:2]), shapes, strict=True))


def _moves(equation: Equation, primitive: IndexMap, read: set[Var]) -> int | None:
    shapes = [x.shape for x in equation.inputs]
    if not shapes or any(x in read for x in equation.inputs[1:]):
        return None
    if primitive.view(contiguous(shapes[0])) is not None:
        return 0
    places = primitive.taken(*shapes)
    if places is not None:
        # of several places at once, each would be a value of its own
        return None if any(equation.inputs[p.operand].shape for p in places.positions) else 4
    return None if equation.inputs[0] in read else _writes(primitive.written(*shapes))


def _writes(written: Written | None) -> int | None:
    """The operations of what is written to places that are known beforehand."""
    if written is None or any(w.places.positions for w in written.writings):
        return None
    return sum(size(w.places.view.shape) for w in written.writings if w.combine is not None)


def _flows(primitive: Lowered) -> int | None:
    if isinstance(primitive.flow, Looped):
        return None
    found = [operations(jaxpr) for jaxpr in jaxprs_of(primitive.flow)]
    return None if None in found else sum(n or 0 for n in found)


# ── code


def load(b: Builder, x: InMemory) -> list[Value]:
    """The elements of an array in memory."""
    lane = Type(memory_lane(x.dtype))
    found = []
    for place in places_of(x.view):
        y = b.load(lane, b.offset(x.pointer, place, lane.lane), int(x.dtype.itemsize))
        found.append(from_memory(b, y, x.dtype))
    return found


def store(b: Builder, pointer: Value, xs: Sequence[Value], dtype: DType) -> None:
    """Write the elements of an array to memory, one after the other."""
    lane = memory_lane(dtype)
    for i, x in enumerate(xs):
        b.store(to_memory(b, x, dtype), b.offset(pointer, i, lane), int(dtype.itemsize))


@lru_cache(maxsize=4096)
def places_of(view: View) -> tuple[int, ...]:
    """The places of the elements of a view, in order."""
    steps = zip(view.shape, view.strides, strict=True)
    offsets = itertools.product(*([i * stride for i in range(n)] for n, stride in steps))
    return tuple(view.offset + sum(index) for index in offsets)


def write(part: Part, jaxpr: Jaxpr, inputs: Sequence[Elements]) -> list[list[Value]]:
    """Write a tiny program.

    Args:
        part: Where to.
        jaxpr: The program.
        inputs: Its arguments. An array that is in memory is read where it is needed.

    Returns:
        The elements of the results.
    """
    return _Writer(part, jaxpr, inputs).outputs


@final
class _Writer:
    def __init__(self, part: Part, jaxpr: Jaxpr, inputs: Sequence[Elements]) -> None:
        self._part = part
        self._b = part.b
        self._known: dict[Var, Elements] = dict(zip(jaxpr.inputs, inputs, strict=True))
        for equation in jaxpr.equations:
            self._known.update(zip(equation.outputs, self._results(equation), strict=True))
        self.outputs = [self._elements(x) for x in jaxpr.outputs]

    def _elements(self, x: Atom) -> list[Value]:
        if isinstance(x, Literal):
            return [constant_of(x)]
        known = self._known[x]
        if isinstance(known, InMemory):
            known = self._known[x] = load(self._b, known)
        return known

    def _over(self, x: Atom, shape: Shape) -> list[Value]:
        """The elements of an operand over the axes of an operation."""
        xs = self._elements(x)
        return [xs[i] for i in places_of(contiguous(x.shape).broadcast(shape))]

    def _results(self, equation: Equation) -> list[list[Value]]:
        primitive = equation.primitive
        match primitive:
            case Elementwise():
                return [self._elementwise(equation, primitive)]
            case Reduction():
                return [self._reduction(equation, primitive)]
            case Contraction():
                return [self._contraction(equation, primitive)]
            case IndexMap():
                return [self._moved(equation, primitive)]
            case Scatter():
                return [self._written(equation, primitive)]
            case Lowered():
                return self._flow(equation, primitive)
        raise AssertionError(primitive)

    def _elementwise(self, equation: Equation, primitive: Elementwise) -> list[Value]:
        (out,) = equation.outputs
        operands = [self._over(x, out.shape) for x in equation.inputs]
        # a Python integer that a dtype does not hold is the same one for all elements
        for wrong in overflow(self._b, primitive, [xs[0] for xs in operands], equation.inputs):
            self._b.when(wrong, lambda: self._part.fail(1))
        return [code(self._b, primitive, xs, equation.inputs, out) for xs in zip(*operands, strict=True)]

    def _reduction(self, equation: Equation, primitive: Reduction) -> list[Value]:
        (x,), (out,) = equation.inputs, equation.outputs
        how = primitive.fold
        assert isinstance(how, np.ufunc)
        axes = primitive.folded(len(x.shape))
        left = tuple(0 if i in axes else stride for i, stride in enumerate(_kept_strides(x.shape, axes)))
        found: dict[int, Value] = {}
        for value, place in zip(self._elements(x), places_of(View(x.shape, left)), strict=True):
            value = convert(self._b, value, x.dtype, out.dtype)
            found[place] = combine(self._b, how, found[place], value, out.dtype) if place in found else value
        return [found[i] for i in range(size(out.shape))]

    def _contraction(self, equation: Equation, primitive: Contraction) -> list[Value]:
        (out,) = equation.outputs
        lengths = _lengths(primitive, equation.inputs)
        operands = [self._elements(x) for x in equation.inputs]
        strides = [_letter_strides(term, lengths) for term in primitive.terms]
        kind = out.dtype.kind
        times, plus = ("fmul", "fadd") if kind == "f" else ("and", "or") if kind == "b" else ("mul", "add")
        found: dict[int, Value] = {}
        for index in itertools.product(*(range(n) for n in lengths.values())):
            at = [sum(i * s.get(c, 0) for c, i in zip(lengths, index, strict=True)) for s in strides]
            product = self._b.op(times, operands[0][at[0]], operands[1][at[1]])
            found[at[2]] = self._b.op(plus, found[at[2]], product) if at[2] in found else product
        nothing = scalar_constant(out.dtype.type(0), out.dtype)
        return [found.get(i, nothing) for i in range(size(out.shape))]

    # ── elements that move

    def _moved(self, equation: Equation, primitive: IndexMap) -> list[Value]:
        shapes = [x.shape for x in equation.inputs]
        first = equation.inputs[0]
        moved = primitive.view(contiguous(first.shape))
        if moved is not None:
            known = self._known[first] if isinstance(first, Var) else None
            through = primitive.view(known.view) if isinstance(known, InMemory) else None
            if isinstance(known, InMemory) and through is not None:
                return load(self._b, InMemory(known.pointer, through, known.dtype))
            xs = self._elements(first)
            return [xs[i] for i in places_of(moved)]
        places = primitive.taken(*shapes)
        return self._written(equation, primitive) if places is None else self._taken(equation, places)

    def _written(self, equation: Equation, primitive: IndexMap | Scatter) -> list[Value]:
        (out,) = equation.outputs
        written = primitive.written(*(x.shape for x in equation.inputs))
        assert written is not None
        zero = scalar_constant(out.dtype.type(0), out.dtype)
        base = None if written.base is None else equation.inputs[written.base]
        found = [zero] * size(out.shape) if base is None else self._converted(self._over(base, out.shape), base, out)
        for writing in written.writings:
            x = equation.inputs[writing.operand]
            view = writing.places.view
            for place, value in zip(places_of(view), self._converted(self._over(x, view.shape), x, out), strict=True):
                there, how = found[place], writing.combine
                found[place] = value if how is None else combine(self._b, how, there, value, out.dtype)
        return found

    def _converted(self, xs: Sequence[Value], x: Atom, out: Var) -> list[Value]:
        return [convert(self._b, value, x.dtype, out.dtype) for value in xs]

    def _taken(self, equation: Equation, places: Places) -> list[Value]:
        """Elements of an array in memory, at places that are computed here."""
        b = self._b
        source = equation.inputs[0]
        assert isinstance(source, Var)
        array = self._known[source]
        assert isinstance(array, InMemory)
        pointer = array.pointer
        lane = memory_lane(array.dtype)
        for p in places.positions:
            index = equation.inputs[p.operand]
            (x,) = self._elements(index)
            i = self._position(x, index.dtype, p.length, p.size, p.clamped)
            pointer = b.offset(pointer, b.op("mul", i, Value(str(p.stride), I64)), lane)
        return load(b, InMemory(pointer, places.view, array.dtype))

    def _position(self, x: Value, dtype: DType, length: int, room: int, clamped: bool) -> Value:
        """An index as it counts from the start, within bounds; that it was not is noted."""
        b = self._b
        if x.type.lane != "i64":
            x = b.cast("sext" if dtype.kind == "i" else "zext", x, "i64")
        count = b.like(x, length)
        if dtype.kind == "i":
            x = b.select(b.compare("slt", x, b.like(x, 0)), b.op("add", x, count), x)
        if clamped:
            return b.intrinsic("smin", b.intrinsic("smax", x, b.like(x, 0)), b.like(x, length - room))
        wrong = b.compare("uge", x, count)
        b.when(wrong, lambda: self._part.fail(1))
        return b.select(wrong, b.like(x, 0), x)

    # ── programs

    def _flow(self, equation: Equation, primitive: Lowered) -> list[list[Value]]:
        match primitive.flow:
            case Called() as flow:
                return write(self._part, flow.jaxpr, [self._elements(equation.inputs[i]) for i in flow.operands])
            case Branched() as flow:
                return self._branch(equation, flow)
        raise AssertionError(primitive)

    def _branch(self, equation: Equation, flow: Branched) -> list[list[Value]]:
        b = self._b
        index, *rest = equation.inputs
        (number,) = self._elements(index)
        operands = [self._elements(x) for x in rest]
        counts = [size(v.shape) for v in equation.outputs]

        def choose(k: int) -> list[Value]:
            if k == len(flow.branches):
                self._part.fail(1)
                zeros = [(scalar_constant(v.dtype.type(0), v.dtype), size(v.shape)) for v in equation.outputs]
                return [zero for zero, n in zeros for _ in range(n)]

            def here() -> list[Value]:
                return [x for xs in write(self._part, flow.branches[k], operands) for x in xs]

            chosen = number if number.type == I1 and k else b.compare("eq", number, b.like(number, k))
            return b.branch(chosen, here, lambda: choose(k + 1))

        flat = iter(choose(0))
        return [[next(flat) for _ in range(n)] for n in counts]


def _kept_strides(shape: Shape, axes: Sequence[int]) -> tuple[int, ...]:
    return contiguous(tuple(1 if i in axes else n for i, n in enumerate(shape))).strides


def _letter_strides(term: str, lengths: dict[str, int]) -> dict[str, int]:
    return dict(zip(term, contiguous(tuple(lengths[c] for c in term)).strides, strict=True))
