"""Running a program under watch: equation by equation, so that what is found can be named.

In a backward pass, what was found waits until it is seen to reach a result. It may be masked on the way there: the
slope of a logarithm at 0, where another branch was chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad.core.errors import FuncgradError, NaNError, SourceLine
from funcgrad.core.ir import Atom, Equation, Jaxpr, Literal
from funcgrad.core.kinds import Program
from funcgrad.core.trace import Var
from funcgrad.core.types import Array
from funcgrad.core.watch import Watch


def run_watched(jaxpr: Jaxpr, args: Sequence[Array], watch: Watch) -> tuple[Array, ...]:
    """The outputs for these inputs, as arrays of their own.

    Raises:
        NaNError: An equation gives what is watched for.
    """
    env: dict[Var, Array] = dict(zip(jaxpr.inputs, args, strict=True))
    # for what a pullback has computed, the pullback; and by its id, what there is to say of it
    made: dict[Var, SourceLine] = {}
    found: dict[int, NaNError] = {}

    def read(atom: Atom, reader: SourceLine | None) -> Array:
        if isinstance(atom, Literal):
            return atom.value
        x = env[atom]
        maker = made.get(atom)
        if maker is not None and maker is not reader and id(maker) in found and watch.spoils(x):
            if reader is None or not reader.pulled:
                raise found[id(maker)]
            found.setdefault(id(reader), found[id(maker)])
        return x

    for equation in jaxpr.equations:
        primitive, line = equation.primitive, equation.source
        xs = [read(atom, line) for atom in equation.inputs]
        y = _applied(equation, xs)
        ys = y if primitive.multiple else (y,)
        env.update(zip(equation.outputs, ys, strict=True))
        try:
            watch.check(primitive, ys, xs, line)
        except NaNError as error:
            if line is None or not line.pulled:
                raise
            found.setdefault(id(line), error.with_traceback(None))
        if line is not None and line.pulled:
            made.update(dict.fromkeys(equation.outputs, line))
    out = [read(atom, None) for atom in jaxpr.outputs]
    return tuple([y.copy() if isinstance(y, np.ndarray) else y for y in out])


def _applied(equation: Equation, xs: Sequence[Array]) -> Any:
    try:
        return equation.primitive(*xs)
    except FuncgradError as error:
        # what ran within a program has been located there
        if equation.source is not None and not isinstance(equation.primitive, Program):
            error.relocate(equation.source)
        raise
