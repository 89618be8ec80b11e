"""Whose memory is it? What a program may overwrite, what it must copy, and when each value is let go of.

Every array lives in the buffer of one *root*: itself, or the array that it is a view of. A buffer belongs to the
program if an equation has made it, or if the caller has given it away. Where the last value in such a buffer dies, the
equation that reads it may write its result there.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.lib.array_utils import byte_bounds

from funcgrad.core.ir import Equation, Jaxpr
from funcgrad.core.kinds import Elementwise, IndexMap, Scatter
from funcgrad.core.primitive import Primitive
from funcgrad.core.trace import Var


@final
class Handover(enum.Enum):
    """How an output becomes the caller's own."""

    AS_IS = "it is a buffer of its own"
    TIDY = "it may be a part of a buffer"
    UNSHARE = "it may be a view of an input"
    COPY = "its buffer goes elsewhere"


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of each value.

    Attributes:
        dead: For each equation, the variables that nothing reads after it.
        targets: For each equation, the place of the operand whose memory takes the result, or None.
        roots: The variable that each variable shares memory with.
        handovers: For each output, how it is handed over.
        reused: The positions of the inputs whose memory is written to or handed on.
    """

    dead: list[list[Var]]
    targets: list[int | None]
    roots: dict[Var, Var]
    handovers: list[Handover]
    reused: frozenset[int]


def plan_buffers(jaxpr: Jaxpr, owned: Sequence[int]) -> Plan:
    """Decide for every value of a program where it lives, and for how long."""
    given = {jaxpr.inputs[i]: i for i in owned}
    roots = _roots(jaxpr)
    dead, ends = _lifetimes(jaxpr, roots)
    views = {v for equation in jaxpr.equations if _is_view(equation.primitive) for v in equation.outputs}
    # what is not the program's to write to
    foreign = {v for v in jaxpr.inputs if v not in given} | _held(jaxpr) | _escaped(jaxpr, roots)
    targets: list[int | None] = []
    reused = set()
    for i, equation in enumerate(jaxpr.equations):
        free = {v for v in _operands(equation) if roots[v] not in foreign and ends[roots[v]] == i}
        target = next(_targets(equation, free, views), None)
        targets.append(target)
        if target is not None:
            root = roots[equation.inputs[target]]  # type: ignore[index]  # a target is a variable
            if root in given:
                reused.add(given[root])
    handovers, handed = _handovers(jaxpr, roots, given, views)
    return Plan(dead, targets, roots, handovers, frozenset(reused | handed))


def may_overwrite(args: Sequence[Any], places: frozenset[int]) -> bool:
    """True if the arguments in these places can be written over by machine code, and share no memory with any other."""
    arrays = [x for x in args if isinstance(x, np.ndarray)]
    for i in places:
        x = args[i]
        if type(x) is not np.ndarray or not x.flags.carray or x.dtype is not np.dtype(x.dtype.type):
            return False
    if all(x.base is None for x in arrays):
        return len({id(x) for x in arrays}) == len(arrays)
    given = {id(args[i]) for i in places}
    spans = sorted((*byte_bounds(x), id(x) in given) for x in arrays if x.size)
    end, end_of_given = 0, 0
    for low, high, is_given in spans:
        if low < (end if is_given else end_of_given):
            return False
        end = max(end, high)
        end_of_given = max(end_of_given, high) if is_given else end_of_given
    return True


def in_place(primitive: Primitive) -> Callable[..., Any] | None:
    """The function that takes the place of `impl` and may write into an operand; None if there is none."""
    if isinstance(primitive, Elementwise):
        return primitive.ufunc if primitive.in_place else None
    if isinstance(primitive, Scatter) and type(primitive).overwrite is not Scatter.overwrite:
        return primitive.overwrite
    return None


def _roots(jaxpr: Jaxpr) -> dict[Var, Var]:
    roots = {v: v for v in jaxpr.inputs}
    for equation in jaxpr.equations:
        primitive = equation.primitive
        source = equation.inputs[0] if _is_view(primitive) and equation.inputs else None
        for v in equation.outputs:
            roots[v] = roots[source] if isinstance(source, Var) else v
    return roots


def _is_view(primitive: Primitive) -> bool:
    return isinstance(primitive, IndexMap) and not primitive.fresh


def _held(jaxpr: Jaxpr) -> set[Var]:
    """The arrays that belong to a primitive."""
    return {
        v
        for equation in jaxpr.equations
        if _is_view(equation.primitive) and not equation.inputs
        for v in equation.outputs
    }


def _escaped(jaxpr: Jaxpr, roots: dict[Var, Var]) -> set[Var]:
    """The roots that a view might be of, though it should not."""
    return {
        roots[x]
        for equation in jaxpr.equations
        if _is_view(equation.primitive)
        for x in _operands(equation)
        if x is not equation.inputs[0]
    }


def _operands(equation: Equation) -> list[Var]:
    return [x for x in equation.inputs if isinstance(x, Var)]


def _lifetimes(jaxpr: Jaxpr, roots: dict[Var, Var]) -> tuple[list[list[Var]], dict[Var, int]]:
    """The variables that die with each equation, and for each root the equation with which its whole buffer does."""
    end = len(jaxpr.equations)
    last: dict[Var, int] = dict.fromkeys(jaxpr.inputs, -1)
    for i, equation in enumerate(jaxpr.equations):
        last.update(dict.fromkeys(equation.outputs, i))
        last.update((x, i) for x in equation.inputs if isinstance(x, Var))
    last.update((x, end) for x in jaxpr.outputs if isinstance(x, Var))
    dead: list[list[Var]] = [[] for _ in range(end)]
    ends: dict[Var, int] = {}
    for v, i in last.items():
        ends[roots[v]] = max(i, ends.get(roots[v], i))
        if 0 <= i < end:
            dead[i].append(v)
    return dead, ends


def _targets(equation: Equation, free: set[Var], views: set[Var]) -> Iterator[int]:
    """The places of the operands that the equation may overwrite."""
    primitive = equation.primitive
    if in_place(primitive) is None:
        return
    (y,) = equation.outputs
    if not y.shape or min(y.shape) < 0:
        return
    computes = isinstance(primitive, Elementwise)
    if computes and y.dtype.kind == "c":
        # NumPy's products of complex numbers round otherwise in place
        return
    # a view may be read-only: who overwrites looks, but NumPy's `out` does not
    refused = views if computes else set()
    for place, x in enumerate(equation.inputs if computes else equation.inputs[:1]):
        if x in free and x not in refused and x.shape == y.shape and x.dtype == y.dtype:
            yield place


def _handovers(
    jaxpr: Jaxpr, roots: dict[Var, Var], given: dict[Var, int], views: set[Var]
) -> tuple[list[Handover], set[int]]:
    """How each output is handed over, and the positions of the inputs whose memory is handed on."""
    inputs = set(jaxpr.inputs)
    held = _held(jaxpr)
    written = {v for e in jaxpr.equations if isinstance(e.primitive, Scatter) for v in e.outputs}
    keeper: dict[Var, int] = {}
    for i, x in enumerate(jaxpr.outputs):
        # of several outputs in one buffer, the one that is all of it keeps it
        if isinstance(x, Var) and (roots[x] not in keeper or (x is roots[x] and jaxpr.outputs[keeper[x]] is not x)):
            keeper[roots[x]] = i
    out = []
    handed = set()
    for i, x in enumerate(jaxpr.outputs):
        if not isinstance(x, Var):
            out.append(Handover.COPY if isinstance(x.value, np.ndarray) else Handover.AS_IS)
            continue
        root = roots[x]
        if keeper[root] != i or root in held or (x in inputs and x not in given):
            out.append(Handover.COPY)
        elif root in inputs and root not in given:
            out.append(Handover.UNSHARE)
        else:
            out.append(Handover.TIDY if x in views or x in written or x in given else Handover.AS_IS)
            if root in given:
                handed.add(given[root])
    return out, handed
