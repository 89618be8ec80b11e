"""Simplification: the same function in fewer equations.

One pass forward rewrites each equation as it comes, on inputs that are simple already: calls are replaced by what they
call, operations on numbers by their result, and what an identity of the table or an earlier equation gives is not
computed again. One pass backward then drops what nothing reads. Both take time linear in the number of equations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, final

import numpy as np

from funcgrad.compiler.identities import (
    OF_ANY_LENGTH,
    READS_THROUGH,
    TABLE,
    Term,
    application_key,
    key_of,
    same_type,
    unrepeated,
)
from funcgrad.core import config
from funcgrad.core.errors import SourceLine
from funcgrad.core.ir import Atom, Equation, Jaxpr, Literal, check, live
from funcgrad.core.kinds import Elementwise, IndexMap, Program, Reduction
from funcgrad.core.primitive import Primitive, out_types
from funcgrad.core.trace import Var
from funcgrad.core.types import type_of

# what an operation on integers of Python gives has to be an integer of NumPy
_LARGEST_INT = 2**63


def simplify(jaxpr: Jaxpr) -> Jaxpr:
    """The same function in fewer equations, with the same inputs and types.

    Its outputs are the same, bit for bit, wherever it does not depend on the memory layout of an array in what order
    numbers are added. Equations with an effect stay, once each, in order.
    """
    rewriter = _Rewriter()
    outputs = rewriter.rewrite(jaxpr)
    simplified = Jaxpr(jaxpr.inputs, jaxpr.constants, tuple(live(rewriter.equations, outputs)), outputs)
    if config.CHECK:
        check(simplified)
    return simplified


@final
class _Frame:
    """A jaxpr that is being read: the equations to come, and the atoms that stand for its variables."""

    __slots__ = ("caller", "equations", "jaxpr", "known")

    def __init__(self, jaxpr: Jaxpr, known: dict[Var, Atom], caller: Equation | None) -> None:
        self.jaxpr = jaxpr
        self.equations: Iterator[Equation] = iter(jaxpr.equations)
        self.known = known
        self.caller = caller

    def atom(self, x: Atom) -> Atom:
        return self.known.get(x, x) if isinstance(x, Var) else x


@final
class _Rewriter:
    """The pass forward."""

    __slots__ = ("_earlier", "_made", "equations")

    def __init__(self) -> None:
        self.equations: list[Equation] = []
        self._made: dict[Var, Equation] = {}
        self._earlier: dict[Any, tuple[Var, ...]] = {}

    def rewrite(self, jaxpr: Jaxpr) -> tuple[Atom, ...]:
        """Rewrite all equations, and return the outputs."""
        frames = [_Frame(jaxpr, {}, None)]
        while True:
            frame = frames[-1]
            equation = next(frame.equations, None)
            if equation is None:
                frames.pop()
                values = tuple(map(frame.atom, frame.jaxpr.outputs))
                if frame.caller is None:
                    return values
                frames[-1].known.update(zip(frame.caller.outputs, values, strict=True))
                continue
            inputs = tuple(map(frame.atom, equation.inputs))
            primitive = equation.primitive
            called = primitive.inlined if isinstance(primitive, Program) else None
            if called is not None:
                frames.append(_Frame(called, dict(zip(called.inputs, inputs, strict=True)), equation))
                continue
            outputs = equation.outputs
            if frame.caller is not None:
                # the same jaxpr may be called again
                outputs = tuple(Var(v.shape, v.dtype, v.weak) for v in outputs)
            source = equation.source or (frame.caller.source if frame.caller else None)
            results = self._write(primitive, inputs, outputs, source)
            frame.known.update(zip(equation.outputs, results, strict=True))

    def _write(
        self, primitive: Primitive, inputs: tuple[Atom, ...], outputs: tuple[Var, ...], source: SourceLine | None
    ) -> tuple[Atom, ...]:
        """The outputs of an operation: those of a new equation, unless they are known."""
        if not primitive.effect:
            if not primitive.multiple:
                simplest = self._simplest(Term(primitive, inputs, outputs[0].type, self._made))
                if not isinstance(simplest, Term):
                    return (simplest,)
                primitive, inputs = simplest.primitive, simplest.inputs
            key = application_key(primitive, inputs, outputs)
            if key is not None:
                earlier = self._earlier.setdefault(key, outputs)
                if earlier is not outputs:
                    return earlier
        equation = Equation(primitive, inputs, outputs, source)
        self.equations.append(equation)
        if not primitive.multiple:
            self._made[outputs[0]] = equation
        return outputs

    def _simplest(self, term: Term) -> Atom | Term:
        while True:
            value = _folded(term)
            if value is not None:
                return value
            better = _improved(term)
            if not isinstance(better, Term):
                return term if better is None else better
            term = better


def _improved(term: Term) -> Atom | Term | None:
    """What an identity says."""
    key = key_of(term.primitive)
    rules = TABLE.get(key, ())
    if key in READS_THROUGH:
        rules = (*rules, unrepeated)
    for x in (term.type, *term.inputs):
        # a length may be unknown, and then equal types are not known to be
        if x.shape and min(x.shape) < 0:
            rules = OF_ANY_LENGTH.get(key, ())
    for rule in rules:
        better = rule(term)
        if better is None:
            continue
        if isinstance(better, Term):
            if same_type(out_types(better.primitive, better.inputs)[0], term.type):
                return better
        elif same_type(better, term.type):
            return better
    return None


def _folded(term: Term) -> Literal | None:
    """The value of an operation on literals, if it is a number, and computing it neither warns nor fails."""
    primitive, inputs = term.primitive, term.inputs
    if not inputs or term.type.shape:
        return None
    values = [x.value for x in inputs if isinstance(x, Literal)]
    if len(values) < len(inputs) or not isinstance(primitive, Elementwise | IndexMap | Reduction):
        return None
    try:
        with np.errstate(all="raise"):
            y = primitive.impl(*values)
    except Exception:  # whatever it is, it is for the run to raise
        return None
    if isinstance(y, np.ndarray):
        y = y[()]
    if y.__class__ is int and not -_LARGEST_INT <= y < _LARGEST_INT:
        return None
    return Literal(y) if type_of(y) == term.type else None
