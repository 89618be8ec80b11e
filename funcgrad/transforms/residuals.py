"""What a function saves for its backward pass, read off the tape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import CellType
from typing import Any, NamedTuple, final

import numpy as np

from funcgrad import tree as pytree
from funcgrad.core.errors import SourceLine
from funcgrad.core.ir import Equation, Jaxpr
from funcgrad.core.kinds import Program
from funcgrad.core.primitive import Differentiable
from funcgrad.core.trace import Tracer, Var, concrete
from funcgrad.core.types import Array, ArrayType, show_long, type_of
from funcgrad.ops.array import TracedArray
from funcgrad.transforms.inputs import Input, describe_input
from funcgrad.transforms.programs.branch import Cond
from funcgrad.transforms.programs.call import Call
from funcgrad.transforms.programs.loops import Scan, While
from funcgrad.transforms.tracing.arguments import Selection, function_name
from funcgrad.transforms.tracing.stage import Stage
from funcgrad.transforms.tracing.tape import Record, Tape


class Residual(NamedTuple):
    """An array that is kept for the backward pass.

    Attributes:
        type: Its shape and dtype.
        nbytes: The memory that it takes; 0 for a view of one that comes before it.
        origin: Where it comes from.
    """

    type: ArrayType
    nbytes: int
    origin: str


def saved_residuals(f: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Residual]:
    """The arrays that the backward pass of `f(*args, **kwargs)` keeps, in the order of the forward pass.

    All floating-point and complex arrays among the arguments count as differentiated. An array that is kept for several
    operations is listed once.

    Args:
        f: A function of pytrees of arrays.
        args: Its arguments, with values: the function is evaluated.
        kwargs: More of them.

    Returns:
        For each array its type, its size in bytes, and its origin.

    Examples:
        >>> import numpy as np
        >>> import funcgrad as fg
        >>> [r.origin.partition(",")[0] for r in fg.saved_residuals(lambda x: np.sin(np.exp(x)), np.ones(3))]
        ['output of exp']
    """
    selection = Selection("saved_residuals", f, None, None)
    inputs: list[Input] = []
    tape = _Listening(
        f"saved_residuals({function_name(f)})", TracedArray, lambda number: describe_input(inputs, selection, number)
    )
    tape.lines = {}
    places: list[int | str] = [*range(len(args)), *kwargs]
    try:
        entered = []
        for place, x in zip(places, (*args, *kwargs.values()), strict=True):
            inputs.append(Input(place, x))
            entered.append(inputs[-1].enter(tape))
        f(*entered[: len(args)], **dict(zip(kwargs, entered[len(args) :], strict=True)))
        records = tape.finish()
    finally:
        tape.held.release()
    return _Account(tape).of(records)


def print_saved_residuals(f: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Print what `saved_residuals` lists, a line for each array, and the sum of their sizes.

    Examples:
        >>> import numpy as np
        >>> import funcgrad as fg
        >>> fg.print_saved_residuals(lambda x, y: x * np.sin(y), np.ones(3), np.ones(3))
        float64[3]  24 bytes  argument 'y'
        float64[3]  24 bytes  argument 'x'
        float64[3]  24 bytes  output of sin, at ...
        total: 72 bytes
    """
    found = saved_residuals(f, *args, **kwargs)
    types = [show_long(r.type) for r in found]
    sizes = [f"{r.nbytes:,} bytes" for r in found]
    for t, size, r in zip(types, sizes, found, strict=True):
        print(f"{t:<{max(map(len, types))}}  {size:>{max(map(len, sizes))}}  {r.origin}")
    print(f"total: {sum(r.nbytes for r in found):,} bytes")


@final
class _Listening(Tape):
    """A tape that remembers, for what is recorded by a forward rule, the arguments."""

    __slots__ = ("calls",)

    def __init__(self, name: str, tracer: type[Tracer], describe: Callable[[int], str]) -> None:
        super().__init__(name, tracer, describe)
        self.calls: dict[int, tuple[list[Var | None], list[Array]]] = {}

    def record(self, primitive: Differentiable, inputs: list[Var | None], args: list[Array]) -> tuple[Array, ...]:
        place = len(self.records)
        out = super().record(primitive, inputs, args)
        if len(self.records) > place:
            self.calls[place] = (inputs, args)
        return out


class _Account:
    """Goes through records, and lists each array once."""

    def __init__(self, tape: _Listening) -> None:
        self._tape = tape
        self._made: dict[Var, str] = {}
        self._seen: dict[int, Array] = {}
        self._counted: set[int] = set()

    def of(self, records: Sequence[Record]) -> list[Residual]:
        """What these records keep."""
        found = []
        for place, (primitive, inputs, saved, out) in enumerate(records):
            outs = out if isinstance(out, tuple) else (out,)
            at = _at(self._tape.line(outs[0]) if outs else None)
            if place in self._tape.calls:
                kept = self._of_call(primitive, saved, *self._tape.calls[place], at)
            else:
                kept = self._of_operation(primitive.name, inputs, saved, at)
            for x, origin in kept:
                residual = self._listed(concrete(x), origin)
                if residual is not None:
                    found.append(residual)
            self._made.update(dict.fromkeys(outs, f"output of {primitive.name}{at}"))
        return found

    def _origin(self, var: Var | None) -> str:
        """Where the value of a variable comes from."""
        if var is None:
            return "a constant"
        return self._made.get(var) or self._tape.origin(var)

    def _of_operation(
        self, name: str, inputs: Sequence[Var | None], saved: Sequence[Array], at: str
    ) -> Iterator[tuple[Array, str]]:
        for x, var in zip(saved[1:], inputs, strict=True):
            yield x, self._origin(var)
        y = saved[0]
        for part in y if isinstance(y, tuple) else (y,):
            yield part, f"output of {name}{at}"

    def _of_call(
        self, primitive: Any, saved: Sequence[Array], inputs: Sequence[Var | None], args: Sequence[Array], at: str
    ) -> Iterator[tuple[Array, str]]:
        if not isinstance(primitive, Program):
            given = {id(x): self._origin(var) for x, var in zip(args, inputs, strict=True)}
            for x in (x for kept in saved for x in _arrays_of(kept)):
                yield x, given.get(id(x), f"saved by the rule of {primitive.name}{at}")
            return
        # staged, the forward rule shows which equation each residual comes from
        stage = Stage("saved_residuals", derived=True)
        entered = [stage.enter(type_of(x), lambda: "an operand") for x in args]
        _, residuals = primitive.forward(inputs, *entered)
        operands = {t.variable: self._origin(var) for t, var in zip(entered, inputs, strict=True)}
        for x, r in zip(saved, residuals, strict=True):
            var = r.variable if isinstance(r, Tracer) else None
            made = "a constant" if var is None else operands.get(var) or _made_by(stage.equations, var)
            yield x, made or f"saved by {primitive.name}{at}"

    def _listed(self, x: Any, origin: str) -> Residual | None:
        """The residual, unless it is listed already or no array."""
        if x is None or id(x) in self._seen or (origin == "a constant" and not isinstance(x, np.ndarray)):
            return None
        self._seen[id(x)] = x
        t = type_of(x)
        root = x
        while isinstance(root, np.ndarray) and isinstance(root.base, np.ndarray):
            root = root.base
        size = 0 if id(root) in self._counted else min(t.size * t.dtype.itemsize, getattr(root, "nbytes", 8))
        self._counted.add(id(root))
        return Residual(ArrayType(t.shape, t.dtype), size, origin)


def _arrays_of(x: Any) -> list[Array]:
    """The arrays of a pytree, and those that a function, as a custom rule gives it, closes over."""
    leaves = pytree.leaves(x)
    closures = [getattr(leaf, "__closure__", None) or () for leaf in leaves]
    cells = [cell.cell_contents for closure in closures for cell in closure if cell != CellType()]
    within = [y for y in pytree.leaves(cells) if not callable(y)]
    return [y for y in (*leaves, *within) if isinstance(y, np.ndarray | np.generic | Tracer)]


def _at(line: SourceLine | None) -> str:
    return "" if line is None else f", at {line}"


def _made_by(equations: Sequence[Equation], var: Var) -> str | None:
    """The equation that computes a variable, looked for within programs."""
    equation = next((e for e in equations if var in e.outputs), None)
    if equation is None:
        return None
    for body in _bodies(equation.primitive):
        atom = body.outputs[equation.outputs.index(var)]
        if isinstance(atom, Var):
            loop = ", for each step" if isinstance(equation.primitive, Scan | While) else ""
            made = _made_by(body.equations, atom)
            if made is not None or atom in body.inputs:
                return f"{made or f'the carry of {equation.primitive.name}'}{loop}"
    return f"output of {equation.primitive.name}{_at(equation.source)}"


def _bodies(primitive: Any) -> Sequence[Jaxpr]:
    if isinstance(primitive, Call):
        return (primitive.jaxpr,)
    if isinstance(primitive, Scan | While):
        return (primitive.body,)
    return primitive.branches if isinstance(primitive, Cond) else ()
