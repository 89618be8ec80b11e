"""Running a program under watch: equation by equation, so that what is found can be named."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from funcgrad.core.errors import FuncgradError
from funcgrad.core.ir import Atom, Jaxpr, Literal
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

    def read(atom: Atom) -> Array:
        return atom.value if isinstance(atom, Literal) else env[atom]

    for equation in jaxpr.equations:
        primitive = equation.primitive
        xs = [read(atom) for atom in equation.inputs]
        try:
            y = primitive(*xs)
        except FuncgradError as error:
            # what ran within a program has been located there
            if equation.source is not None and not isinstance(primitive, Program):
                error.relocate(equation.source)
            raise
        ys = y if primitive.multiple else (y,)
        watch.check(primitive, ys, xs, equation.source)
        env.update(zip(equation.outputs, ys, strict=True))
    out = [read(atom) for atom in jaxpr.outputs]
    return tuple([y.copy() if isinstance(y, np.ndarray) else y for y in out])
