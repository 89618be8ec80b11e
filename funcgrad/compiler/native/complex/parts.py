"""Complex numbers as pairs of reals: a program without them, for a code generator that knows reals only.

A complex value is known by its parts, by the buffer in which it stands, or by both; each is made of the other where it
is first needed. Buffers are those of `moves`: an argument of the program and a result, what is gathered from
and what is scattered into. All other values stay apart, in registers or in buffers of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import cast, final

import numpy as np

from funcgrad.compiler.native.complex.moves import (
    Join,
    Mover,
    PairView,
    PairWritten,
    Part,
    PartTaken,
    Repeat,
    separable,
    written_by,
)
from funcgrad.compiler.native.complex.products import Factor, multiplied
from funcgrad.compiler.native.complex.scalars import NEEDS, RULES, Pair, Rule, power_rule, truth
from funcgrad.compiler.native.ir.own_primitives import FMA, SELECT, Converted, Lowered, scalar
from funcgrad.compiler.native.scalars.convert import lane_of
from funcgrad.compiler.native.vectormath import FUNCTIONS
from funcgrad.core import config
from funcgrad.core.errors import InternalError, SourceLine
from funcgrad.core.flow import jaxprs_of, with_jaxprs
from funcgrad.core.ir import Atom, Equation, Jaxpr, Literal, check, live
from funcgrad.core.kinds import Contraction, Elementwise, IndexMap, Reduction, Running, Scatter
from funcgrad.core.primitive import Primitive, out_types
from funcgrad.core.trace import Var
from funcgrad.core.types import DType, Shape, Typed, promotable
from funcgrad.core.views import View, contiguous

_PARTS: dict[DType, DType] = {
    np.dtype(np.complex64): np.dtype(np.float32),
    np.dtype(np.complex128): np.dtype(np.float64),
}
_LIBRARY = __name__.partition(".")[0]
_BOOL = np.dtype(bool)


def part_dtype(dtype: DType) -> DType | None:
    """The dtype of the parts of a complex dtype; None for one that has no native code, and for others."""
    return _PARTS.get(dtype)


def is_complex(equation: Equation) -> bool:
    """True if complex numbers go in or come out."""
    return any(x.dtype.kind == "c" for x in (*equation.inputs, *equation.outputs))


def has_rule(equation: Equation) -> bool:
    """True if an equation with complex numbers can be written without; what moves elements must be native itself."""
    if not all(x.dtype in _PARTS or lane_of(x.dtype) for x in (*equation.inputs, *equation.outputs)):
        return False
    primitive, (out, *_) = equation.primitive, equation.outputs
    match primitive:
        case Elementwise():
            return _named(primitive) in ("convert", "select") or _rule(equation) is not None
        case Reduction():
            nothing = 0 in equation.inputs[0].shape and 0 not in out.shape
            return primitive.fold in (np.add, np.logical_or, np.logical_and) and not nothing
        case Contraction():
            return True
        case Running():
            return primitive.fold is np.add and not primitive.scaled and equation.inputs[0].dtype == out.dtype
        case IndexMap() | Scatter():
            return _moves(equation, primitive)
    return False


def _moves(equation: Equation, primitive: Mover) -> bool:
    shapes = [x.shape for x in equation.inputs]
    if isinstance(primitive, IndexMap) and (
        primitive.view(contiguous(shapes[0])) is not None or primitive.taken(*shapes) is not None
    ):
        return True
    return separable(written_by(primitive, shapes))


def without_complex(jaxpr: Jaxpr) -> Jaxpr:
    """The same program on buffers of real and imaginary parts, which are the memory of complex arguments and results.

    Args:
        jaxpr: A program each of whose equations has real numbers only, or a rule, or runs such programs.
    """
    return _Programs().split(jaxpr)


@final
class _Programs:
    """Splits programs and those that they hold, each once: what two operations hold stays one."""

    def __init__(self) -> None:
        self._known: dict[Jaxpr, Jaxpr] = {}

    def split(self, jaxpr: Jaxpr) -> Jaxpr:
        """The program without complex numbers; the given one, if it has none."""
        if jaxpr not in self._known:
            self._known[jaxpr] = self._new(jaxpr) if self._involved(jaxpr) else jaxpr
        return self._known[jaxpr]

    def _involved(self, jaxpr: Jaxpr) -> bool:
        values = (*jaxpr.inputs, *jaxpr.outputs)
        return any(x.dtype.kind == "c" for x in values) or any(map(self._rewrites, jaxpr.equations))

    def _rewrites(self, equation: Equation) -> bool:
        primitive = equation.primitive
        inside = jaxprs_of(primitive.flow) if isinstance(primitive, Lowered) else ()
        return is_complex(equation) or any(self.split(inner) is not inner for inner in inside)

    def _new(self, jaxpr: Jaxpr) -> Jaxpr:
        splitter = _Splitter(self)
        inputs = tuple([splitter.argument(v) for v in jaxpr.inputs])
        for equation in jaxpr.equations:
            splitter.add(equation)
        outputs = tuple([splitter.result(x) for x in jaxpr.outputs])
        split = Jaxpr(inputs, (), tuple(live(splitter.equations, outputs)), outputs)
        if config.CHECK:
            check(split)
        return split


def _named(primitive: Elementwise) -> str | None:
    """The name of an operation of the library; None for those of others, which may mean something else by it."""
    return primitive.name if type(primitive).__module__.partition(".")[0] == _LIBRARY else None


def _rule(equation: Equation) -> Rule | None:
    primitive = equation.primitive
    assert isinstance(primitive, Elementwise)
    name = _named(primitive)
    if name == "power" and primitive.ufunc is np.power:
        exponent = equation.inputs[1]
        return power_rule(exponent.value) if isinstance(exponent, Literal) else None
    ufunc, rule = RULES.get(name or "", (None, None))
    if rule is None or primitive.ufunc is not ufunc or any(f not in FUNCTIONS for f in NEEDS.get(name or "", ())):
        return None
    return rule


@final
class _Complex:
    """What is known of a complex value; the rest is made when it is asked for.

    Attributes:
        layout: Which complex elements of its buffer it consists of.
    """

    __slots__ = ("_buffer", "_make_buffer", "_make_parts", "_parts", "layout")

    def __init__(
        self,
        layout: View,
        parts: Pair | None = None,
        buffer: Var | None = None,
        make_parts: Callable[[], Pair] | None = None,
        make_buffer: Callable[[], Var] | None = None,
    ) -> None:
        self.layout = layout
        self._parts = parts
        self._buffer = buffer
        self._make_parts = make_parts
        self._make_buffer = make_buffer

    @property
    def parts(self) -> Pair:
        """The real and the imaginary part, each of which may be broadcast."""
        if self._parts is None:
            assert self._make_parts is not None
            self._parts = self._make_parts()
        return self._parts

    @property
    def buffer(self) -> Var:
        """The two beside each other."""
        if self._buffer is None:
            assert self._make_buffer is not None
            self._buffer = self._make_buffer()
        return self._buffer


@final
class _Splitter:
    """Writes the equations of parts.

    Args:
        programs: Splits the programs that operations hold.

    Attributes:
        equations: What is written so far.
        dtype: The dtype of the parts at hand.
    """

    def __init__(self, programs: _Programs) -> None:
        self.equations: list[Equation] = []
        self._programs = programs
        self.dtype: DType = np.dtype(float)
        self._known: dict[Var, _Complex] = {}
        self._source: SourceLine | None = None

    # ── operations on reals

    def write(self, primitive: Primitive, *xs: Atom) -> Var:
        """The result of an operation."""
        t = out_types(primitive, xs)[0]
        out = Var(t.shape, t.dtype, t.weak)
        self.equations.append(Equation(primitive, xs, (out,), self._source))
        return out

    def __call__(self, f: np.ufunc, *xs: Atom | float) -> Atom:
        """The result of a NumPy function; numbers are taken as of the dtype."""
        atoms = [x if isinstance(x, Var | Literal) else self.number(x) for x in xs]
        if all(isinstance(x, Literal) for x in atoms):
            with np.errstate(all="ignore"):
                return Literal(f(*(cast(Literal, x).value for x in atoms)))
        return self.write(scalar(f), *atoms)

    def fma(self, x: Atom, y: Atom, z: Atom) -> Atom:
        """`x·y + z`, rounded once."""
        return self.write(FMA, x, y, z)

    def number(self, x: float) -> Literal:
        """A number of the dtype."""
        return Literal(self.dtype.type(x))

    def select(self, c: Atom, x: Atom | float, y: Atom | float) -> Atom:
        """`x` where `c`, else `y`."""
        x, y = (z if isinstance(z, Var | Literal) else self.number(z) for z in (x, y))
        if isinstance(c, Literal):
            return x if c.value else y
        return self.write(SELECT, c, x, y)

    def convert(self, x: Atom, dtype: DType) -> Atom:
        """A real as another dtype."""
        if isinstance(x, Literal):
            return Literal(np.asarray(x.value).astype(dtype)[()])
        return x if x.dtype == dtype and not x.weak else self.write(Converted(dtype), x)

    def full(self, x: Atom, shape: Shape) -> Atom:
        """A part that may be broadcast as an array of its shape."""
        return x if isinstance(x, Var) and x.shape == shape else self.write(Repeat(shape), x)

    # ── complex values

    def argument(self, v: Var) -> Var:
        """What stands for an argument of the program, or for a result of one that it runs."""
        if v.dtype not in _PARTS:
            return v
        buffer = Var((*v.shape, 2), _PARTS[v.dtype])
        self._known[v] = self._of_buffer(buffer)
        return buffer

    def result(self, x: Atom) -> Atom:
        """What stands for a result of the program, or for an argument of one that it runs."""
        return self._value(x).buffer if x.dtype.kind == "c" else x

    def _of_buffer(self, buffer: Var) -> _Complex:
        layout = contiguous(buffer.shape[:-1])
        return _Complex(layout, None, buffer, lambda: (self.write(Part(0), buffer), self.write(Part(1), buffer)))

    def _of_parts(self, parts: Pair, shape: Shape) -> _Complex:
        return _Complex(contiguous(shape), parts, make_buffer=lambda: self.write(Join(shape), *parts))

    def _value(self, x: Atom) -> _Complex:
        """A complex variable or number."""
        if isinstance(x, Var):
            return self._known[x]
        z = np.asarray(x.value)[()]
        return self._of_parts((Literal(z.real), Literal(z.imag)), ())

    def _as_pair(self, x: Atom, dtype: DType) -> Pair:
        """Any operand as a complex one whose parts have this dtype."""
        if x.dtype.kind != "c":
            return self.convert(x, dtype), Literal(dtype.type(0))
        real, imag = self._value(x).parts
        return self.convert(real, dtype), self.convert(imag, dtype)

    def _as_complex(self, x: Atom, dtype: DType) -> _Complex:
        if x.dtype.kind == "c" and _PARTS[x.dtype] == dtype:
            return self._value(x)
        return self._of_parts(self._as_pair(x, dtype), x.shape)

    # ── equations

    def add(self, equation: Equation) -> None:
        """Write an equation, as it is or in parts."""
        self._source = equation.source
        if isinstance(equation.primitive, Lowered):
            self._program(equation, equation.primitive)
            return
        if not is_complex(equation):
            self.equations.append(equation)
            return
        (out,) = equation.outputs
        y = self._rewritten(equation, out)
        if isinstance(y, _Complex):
            self._known[out] = y
            return
        # under the name by which the program knows it
        self.equations.append(Equation(Repeat(out.shape, out.weak), (y,), (out,), self._source))

    def _rewritten(self, equation: Equation, out: Var) -> _Complex | Atom:
        primitive = equation.primitive
        match primitive:
            case Elementwise():
                return self._elementwise(equation, primitive, out)
            case Reduction():
                return self._reduction(equation, primitive, out)
            case Running():
                real, imag = (
                    self.write(primitive, self.full(p, out.shape)) for p in self._value(equation.inputs[0]).parts
                )
                return self._of_parts((real, imag), out.shape)
            case Contraction():
                return self._product(equation, primitive, out)
            case IndexMap() | Scatter():
                return self._moved(equation, primitive, out)
        raise InternalError(f"{primitive.show()} has no rule for complex numbers")

    def _program(self, equation: Equation, primitive: Lowered) -> None:
        """A program that runs others: an operand is a buffer for a buffer, so all stands where it stood."""
        inputs = tuple([self.result(x) for x in equation.inputs])
        outputs = tuple([self.argument(v) for v in equation.outputs])
        flow = with_jaxprs(primitive.flow, self._programs.split)
        split = replace(primitive, lowered=flow, types=tuple(v.type for v in outputs))
        self.equations.append(Equation(split, inputs, outputs, self._source))

    def _elementwise(self, equation: Equation, primitive: Elementwise, out: Var) -> _Complex | Atom:
        name = _named(primitive)
        if name == "convert":
            return self._converted(equation.inputs[0], out)
        if name == "select":
            return self._selected(equation, out)
        rule = _rule(equation)
        assert rule is not None
        inputs = equation.inputs[:1] if name == "power" else equation.inputs
        common = _common(primitive, equation.inputs)
        if common == _BOOL:
            # NumPy's logic asks operands of different dtypes one by one
            return self.write(primitive, *(self._truth(x) if x.dtype.kind == "c" else x for x in inputs))
        self.dtype = _PARTS[common]
        y = rule(self, *(self._as_pair(x, self.dtype) for x in inputs))
        return self._of_parts(y, out.shape) if isinstance(y, tuple) else y

    def _converted(self, x: Atom, out: Var) -> _Complex | Atom:
        if out.dtype.kind == "c":
            return self._as_complex(x, _PARTS[out.dtype])
        parts = self._value(x).parts
        self.dtype = parts[0].dtype
        return self._truth(x) if out.dtype == _BOOL else self.convert(parts[0], out.dtype)

    def _selected(self, equation: Equation, out: Var) -> _Complex | Atom:
        c, *xs = equation.inputs
        if c.dtype.kind == "c":
            c = self._truth(c)
        if out.dtype.kind != "c":
            return self.write(SELECT, c, *(self.convert(x, out.dtype) for x in xs))
        dtype = _PARTS[out.dtype]
        x1, x2 = (self._as_pair(x, dtype) for x in xs)
        parts = (self.select(c, x1[0], x2[0]), self.select(c, x1[1], x2[1]))
        return self._of_parts(parts, out.shape)

    def _truth(self, x: Atom) -> Atom:
        parts = self._value(x).parts
        self.dtype = parts[0].dtype
        return truth(self, parts)

    def _reduction(self, equation: Equation, primitive: Reduction, out: Var) -> _Complex | Atom:
        (x,) = equation.inputs
        if primitive.fold is not np.add:
            return self.write(primitive, self.full(self._truth(x), x.shape))
        real, imag = (self.full(part, x.shape) for part in self._value(x).parts)
        return self._of_parts((self.write(primitive, real), self.write(primitive, imag)), out.shape)

    def _product(self, equation: Equation, primitive: Contraction, out: Var) -> _Complex:
        dtype = _PARTS[out.dtype]
        self.dtype = dtype
        x1, x2 = (self._factor(x, dtype) for x in equation.inputs)
        y = multiplied(self, primitive.terms, x1, x2)
        return self._of_parts(y, out.shape) if isinstance(y, tuple) else self._of_buffer(y)

    def _factor(self, x: Atom, dtype: DType) -> Factor:
        z = self._as_complex(x, dtype)
        return Factor(x.shape, z.layout, lambda: z.parts, lambda: z.buffer, x.dtype.kind != "c")

    # ── moves

    def _moved(self, equation: Equation, primitive: Mover, out: Var) -> _Complex | Atom:
        xs = equation.inputs
        shapes = [x.shape for x in xs]
        if isinstance(primitive, IndexMap):
            whole = contiguous(shapes[0])
            view = primitive.view(whole)
            if view is not None:
                x = self._as_complex(xs[0], _PARTS[out.dtype])
                return x if view == whole else self._view(primitive, x, shapes[0], out.shape)
            if primitive.taken(*shapes) is not None:
                buffer = self._as_complex(xs[0], _PARTS[out.dtype]).buffer
                real, imag = (self.write(PartTaken(primitive, k), buffer, *xs[1:]) for k in (0, 1))
                return self._of_parts((real, imag), out.shape)
        return self._written(primitive, xs, out)

    def _view(self, primitive: IndexMap, x: _Complex, shape: Shape, to: Shape) -> _Complex:
        return _Complex(
            # what is no view is copied
            primitive.view(x.layout) or contiguous(to),
            make_parts=lambda: cast(Pair, tuple(self.write(primitive, self.full(p, shape)) for p in x.parts)),
            make_buffer=lambda: self.write(PairView(primitive), x.buffer),
        )

    def _written(self, primitive: Mover, xs: Sequence[Atom], out: Var) -> _Complex:
        dtype = _PARTS[out.dtype]
        shapes = tuple([x.shape for x in xs])
        written = written_by(primitive, shapes)
        values = {w.operand for w in written.writings}
        operands: list[Atom] = []
        for i, x in enumerate(xs):
            if i in values:
                operands += self._as_pair(x, dtype)
            else:
                operands.append(self._as_complex(x, dtype).buffer if i == written.base else x)
        return self._of_buffer(self.write(PairWritten(primitive, shapes, out.shape), *operands))


def _common(primitive: Elementwise, inputs: Iterable[Typed]) -> DType:
    """The complex dtype in which NumPy computes."""
    if primitive.ufunc is None:
        return next(x.dtype for x in inputs)
    dtype: DType = primitive.ufunc.resolve_dtypes((*map(promotable, inputs), None))[0]
    return dtype
