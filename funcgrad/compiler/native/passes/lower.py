"""Programs, made ready for code: the jaxprs that an operation holds are expanded and simplified, down to the last.

An operation is lowered if there is code for all that its jaxprs do; else it stays, and its `impl` runs it, with
machine code for the parts. Arrays that are part of a body become operands of the operation around it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final
from weakref import WeakKeyDictionary

from funcgrad.compiler.native.passes.expand import expand
from funcgrad.compiler.simplify import simplify
from funcgrad.compiler.untraced import Untraced
from funcgrad.core.flow import Branched, Called, Flow, Looped
from funcgrad.core.ir import Equation, Jaxpr
from funcgrad.core.kinds import Program
from funcgrad.core.trace import Var
from funcgrad.core.types import Array, ArrayType, Typed

HasCode = Callable[[Equation], bool]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Lowered(Untraced, Program):
    """A program all of which there is code for.

    Args:
        original: The operation itself.
        lowered: What it does, in jaxprs that have code. Its operands are those of the operation, then some arrays.
        operands: How many there are of the former.
        types: Its results.
    """

    name: ClassVar[str] = "lowered"
    original: Program
    lowered: Flow
    operands: int
    types: tuple[ArrayType, ...]

    @property
    def flow(self) -> Flow:
        return self.lowered

    def out_type(self, *xs: Typed) -> tuple[ArrayType, ...]:
        return self.types

    def impl(self, *xs: Array) -> tuple[Array, ...]:
        y: tuple[Array, ...] = self.original.impl(*xs[: self.operands])
        return y

    def show(self) -> str:
        return self.original.show()


def lower(jaxpr: Jaxpr, has_code: HasCode) -> Jaxpr:
    """The same function, with lowered operations in place of the programs that can be."""
    if not any(isinstance(equation.primitive, Program) for equation in jaxpr.equations):
        return jaxpr
    equations: list[Equation] = []
    for equation in jaxpr.equations:
        primitive = equation.primitive
        flow = primitive.flow if isinstance(primitive, Program) and not primitive.effect else None
        lowered = None if flow is None else _lowered(equation, flow, has_code)
        equations += [equation] if lowered is None else lowered
    return Jaxpr(jaxpr.inputs, jaxpr.constants, tuple(equations), jaxpr.outputs)


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Form:
    """A jaxpr that has code, and the equations for its last inputs, which need no operands."""

    jaxpr: Jaxpr
    given: tuple[Equation, ...]

    @property
    def own(self) -> tuple[Var, ...]:
        """The inputs of the jaxpr it was made of."""
        return self.jaxpr.inputs[: len(self.jaxpr.inputs) - len(self.given)]


_forms: WeakKeyDictionary[Jaxpr, _Form | None] = WeakKeyDictionary()


def _form(jaxpr: Jaxpr, has_code: HasCode) -> _Form | None:
    if jaxpr not in _forms:
        _forms[jaxpr] = _new_form(jaxpr, has_code)
    return _forms[jaxpr]


def _new_form(jaxpr: Jaxpr, has_code: HasCode) -> _Form | None:
    lowered = simplify(lower(expand(simplify(jaxpr), has_code), has_code))
    given = tuple(e for e in lowered.equations if not e.inputs and not e.primitive.effect)
    rest = tuple(e for e in lowered.equations if e.inputs or e.primitive.effect)
    if not all(map(has_code, rest)):
        return None
    inputs = (*lowered.inputs, *(v for e in given for v in e.outputs))
    return _Form(Jaxpr(inputs, (), rest, lowered.outputs), given)


def _lowered(equation: Equation, flow: Flow, has_code: HasCode) -> list[Equation] | None:
    """The equations that stand for a program: arrays that it needs, and the lowered operation."""
    forms: list[_Form] = []
    for jaxpr in _jaxprs(flow):
        form = _form(jaxpr, has_code)
        if form is None:
            return None
        forms.append(form)
    count = len(equation.inputs)
    given = [_anew(e) for form in forms for e in form.given]
    extra, start = [], count
    for form in forms:
        extra.append(tuple(range(start, start + len(form.given))))
        start += len(form.given)
    assert isinstance(equation.primitive, Program)
    types = tuple(v.type for v in equation.outputs)
    operation = Lowered(equation.primitive, _with(flow, forms, extra), count, types)
    inputs = (*equation.inputs, *(v for e in given for v in e.outputs))
    return [*given, Equation(operation, inputs, equation.outputs, equation.source)]


def _jaxprs(flow: Flow) -> Sequence[Jaxpr]:
    match flow:
        case Called():
            return (flow.jaxpr,)
        case Branched():
            return flow.branches
        case Looped():
            return (flow.body,) if flow.condition is None else (flow.body, flow.condition)


def _anew(equation: Equation) -> Equation:
    """The same equation for variables of its own: the form may be used more than once."""
    outputs = tuple(Var(v.shape, v.dtype, v.weak) for v in equation.outputs)
    return Equation(equation.primitive, (), outputs, equation.source)


def _with(flow: Flow, forms: Sequence[_Form], extra: Sequence[tuple[int, ...]]) -> Flow:
    """The flow of the forms, each of which takes its extra operands."""
    match flow:
        case Called():
            return Called(forms[0].jaxpr, (*flow.operands, *extra[0]))
        case Branched():
            return Branched(tuple(_padded(i, forms) for i in range(len(forms))))
        case Looped():
            body = _constants_first(forms[0], len(flow.consts))
            flow = replace(flow, body=body, consts=(*flow.consts, *extra[0]))
            if flow.condition is None:
                return flow
            condition = _constants_first(forms[1], len(flow.condition_consts))
            return replace(flow, condition=condition, condition_consts=(*flow.condition_consts, *extra[1]))


def _padded(i: int, forms: Sequence[_Form]) -> Jaxpr:
    """One of several branches, taking what any of them takes."""
    jaxpr = forms[i].jaxpr
    inputs = list(forms[i].own)
    for k, form in enumerate(forms):
        others = form.jaxpr.inputs[len(form.own) :]
        inputs += others if k == i else [Var(v.shape, v.dtype, v.weak) for v in others]
    return Jaxpr(tuple(inputs), (), jaxpr.equations, jaxpr.outputs)


def _constants_first(form: _Form, consts: int) -> Jaxpr:
    """The form with its extra inputs behind the other constants."""
    jaxpr, own = form.jaxpr, form.own
    inputs = (*own[:consts], *jaxpr.inputs[len(own) :], *own[consts:])
    return Jaxpr(inputs, (), jaxpr.equations, jaxpr.outputs)
