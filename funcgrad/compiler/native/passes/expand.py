"""Expansion: operations that the compiler has no code for, written with simpler ones that it has.

A softmax is a maximum, an exponential, a sum and a quotient: its `expand` says so in the library's own operations. The
rule runs on tracers that know their types, and each operation it applies becomes an equation, or is expanded in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import numpy as np

from funcgrad.core import config
from funcgrad.core.errors import InternalError, SourceLine
from funcgrad.core.ir import Atom, Equation, Jaxpr, Literal, check
from funcgrad.core.primitive import Primitive, out_types
from funcgrad.core.trace import Trace, Tracer, Var
from funcgrad.core.types import Array


def expand(jaxpr: Jaxpr, has_code: Callable[[Equation], bool]) -> Jaxpr:
    """The same function, where possible without the equations that the compiler has no code for.

    Args:
        jaxpr: A program. Those that its equations hold stay as they are.
        has_code: Says of an equation whether it may stay. What may not, but has no expansion, stays too.

    Returns:
        A jaxpr with the same inputs, constants and types; each new equation has the source line of the one it is for.
        The given one, if all of its equations stay.
    """
    trace = _Expanding(has_code)
    known: dict[Var, Atom] = {}

    def read(x: Atom) -> Atom:
        return known.get(x, x) if isinstance(x, Var) else x

    for equation in jaxpr.equations:
        if known:
            inputs = tuple(map(read, equation.inputs))
            equation = Equation(equation.primitive, inputs, equation.outputs, equation.source)
        atoms = trace.write(equation)
        if atoms is not equation.outputs:
            known.update(zip(equation.outputs, atoms, strict=True))
    if not known:
        return jaxpr
    expanded = Jaxpr(jaxpr.inputs, jaxpr.constants, tuple(trace.equations), tuple(map(read, jaxpr.outputs)))
    if config.CHECK:
        check(expanded)
    return expanded


@final
class _Expanding(Trace):
    """A trace on types: each operation becomes an equation, or several."""

    __slots__ = ("_has_code", "_source", "equations")

    def __init__(self, has_code: Callable[[Equation], bool]) -> None:
        super().__init__("the compiler")
        self.equations: list[Equation] = []
        self._has_code = has_code
        self._source: SourceLine | None = None

    def write(self, equation: Equation) -> tuple[Atom, ...]:
        """Write an equation or its expansion, and return what stands for its outputs."""
        if not self._has_code(equation):
            before = len(self.equations)
            self._source = equation.source
            atoms = self._expansion(equation)
            if atoms is not None:
                return atoms
            del self.equations[before:]
        self.equations.append(equation)
        return equation.outputs

    def _expansion(self, equation: Equation) -> tuple[Atom, ...] | None:
        """What stands for the outputs, after the equations for it are written; None if the primitive has no rule."""
        primitive = equation.primitive
        if type(primitive).expand is Primitive.expand:
            return None
        # an atom does all that a tracer asks of a variable
        y = primitive.expand(*[Tracer(self, x, None) for x in equation.inputs])  # type: ignore[arg-type]
        if y is None:
            return None
        atoms = tuple([_atom(part, primitive) for part in (y if primitive.multiple else (y,))])
        # a rule may be right for some types only
        same = [atom.type for atom in atoms] == [v.type for v in equation.outputs]
        return atoms if same else None

    def apply(self, primitive: Primitive, args: tuple[Array, ...]) -> Any:
        inputs = tuple([_atom(x, primitive) for x in args])
        outputs = tuple([Var(t.shape, t.dtype, t.weak) for t in out_types(primitive, inputs)])
        atoms = self.write(Equation(primitive, inputs, outputs, self._source))
        results = tuple([Tracer(self, x, None) for x in atoms])  # type: ignore[arg-type]
        return results if primitive.multiple else results[0]

    @property
    def finished(self) -> bool:
        return False

    def origin(self, var: Var) -> str:
        return "an operation of the program"


def _atom(x: Array, primitive: Primitive) -> Atom:
    if isinstance(x, Tracer):
        return x.variable
    if np.shape(x):
        raise InternalError(f"the expansion of {primitive.name} made an array of shape {np.shape(x)}")
    return Literal(x[()] if isinstance(x, np.ndarray) else x)
