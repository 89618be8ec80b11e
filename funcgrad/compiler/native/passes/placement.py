"""Where the equations of a program run that has calls of NumPy between its segments: what is not worth a segment.

A call of NumPy takes a view as it is. So what only moves elements on the way to such a call, or from it to a result, is
left to NumPy, which makes a view and copies nothing; a segment that reads the same view makes it once more, which is
index arithmetic there. And what is made of the arguments alone is made where it is read, so that it need not be stored
for a later segment.
"""

from __future__ import annotations

from collections.abc import Sequence

from funcgrad.core.ir import Equation, Jaxpr
from funcgrad.core.kinds import IndexMap
from funcgrad.core.trace import Var
from funcgrad.core.views import contiguous, size


def views_for_numpy(jaxpr: Jaxpr, code: Sequence[bool]) -> set[int]:
    """The equations, by number, that make a view for or of a call of NumPy, and are left to NumPy themselves.

    Args:
        jaxpr: The program.
        code: For each equation whether there is native code for it.
    """
    roots: dict[Var, Var] = {}
    native: set[Var] = set()
    called: set[Var] = set()
    for equation, flag in zip(jaxpr.equations, code, strict=True):
        if flag and _is_view(equation):
            (out,), x = equation.outputs, equation.inputs[0]
            roots[out] = roots.get(x, x) if isinstance(x, Var) else out
        else:
            (native if flag else called).update(equation.outputs)
    found = set()
    # what NumPy makes, it can hand over as a view, too
    taken = {x for x in jaxpr.outputs if isinstance(x, Var) and roots.get(x) in called}
    for i in reversed(range(len(code))):
        equation = jaxpr.equations[i]
        if code[i]:
            out = equation.outputs[0]
            # a part of what a segment makes is less to hand over than all of it
            apart = out in roots and (roots[out] not in native or size(out.shape) == size(roots[out].shape))
            if not apart or out not in taken:
                continue
            found.add(i)
        taken.update(_read(equation))
    return found


def _is_view(equation: Equation) -> bool:
    primitive = equation.primitive
    if not isinstance(primitive, IndexMap) or primitive.fresh or not equation.inputs:
        return False
    return primitive.view(contiguous(equation.inputs[0].shape)) is not None


def _read(equation: Equation) -> list[Var]:
    return [x for x in equation.inputs if isinstance(x, Var)]


def delayed(jaxpr: Jaxpr, code: Sequence[bool], views: set[int], layers: Sequence[int]) -> list[int]:
    """The layers, where what is made of arguments alone is as late as what reads it.

    Args:
        jaxpr: The program.
        code: For each equation whether there is native code for it.
        views: Those that are left to NumPy all the same.
        layers: For each equation the first layer that it can be in.
    """
    inputs = set(jaxpr.inputs)
    free = set(inputs)
    for i, equation in enumerate(jaxpr.equations):
        if code[i] and free.issuperset(_read(equation)):
            free.update(equation.outputs)
    out = list(layers)
    first = {x: -1 for x in jaxpr.outputs if isinstance(x, Var)}
    for i in reversed(range(len(code))):
        equation = jaxpr.equations[i]
        read = _read(equation)
        # an array of unknown length stays in the segment where it is made
        known = all(n >= 0 for x in (*read, *equation.outputs) for n in x.shape)
        if code[i] and known and i not in views and free.issuperset(read):
            kept = sum(size(x.shape) for x in read if x not in inputs)
            latest = min((first[v] for v in equation.outputs if v in first), default=-1)
            if latest > out[i] and kept <= sum(size(v.shape) for v in equation.outputs):
                out[i] = latest
        for x in read:
            first[x] = min(first.get(x, out[i]), out[i])
    return out


def with_views(equations: Sequence[Equation], makers: dict[Var, Equation]) -> list[Equation]:
    """The equations of a segment, and those of the views that they read.

    Args:
        equations: In order.
        makers: By the view, the equation that makes it of what is there.
    """
    out: list[Equation] = []
    made: set[Var] = set()
    for equation in equations:
        waiting = [equation]
        while waiting:
            missing = [makers[x] for x in _read(waiting[-1]) if x in makers and x not in made]
            waiting += missing
            if not missing:
                ready = waiting.pop()
                if made.isdisjoint(ready.outputs):
                    out.append(ready)
                    made.update(ready.outputs)
    return out
