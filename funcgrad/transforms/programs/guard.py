"""Batches in which some examples only stand by: they are in another branch, or their loop is over.

What is computed for them is thrown away, but it must neither fail, nor go on for ever, nor put an infinity in the way
of a gradient. So they compute what the first example that takes part computes.
"""

from __future__ import annotations

from typing import final

import numpy as np

from funcgrad.core.ir import Atom, Equation, Jaxpr, Literal
from funcgrad.core.kinds import IndexMap, Scatter
from funcgrad.core.trace import Tracer, Var
from funcgrad.core.types import Array, ArrayType
from funcgrad.ops.callback import Effect
from funcgrad.ops.flow import stop_gradient
from funcgrad.ops.index import getitem
from funcgrad.ops.pointwise import select
from funcgrad.ops.reduce import ArgMax
from funcgrad.ops.shape import reshape
from funcgrad.transforms.tracing.batch import BatchTrace, repeated
from funcgrad.transforms.tracing.derived import derived
from funcgrad.transforms.tracing.stage import Stage


@derived
def guarded_jaxpr(jaxpr: Jaxpr, batched: tuple[bool, ...], n: int) -> Jaxpr:
    """The jaxpr for a stack of `n` examples of which only some take part.

    It has one more input in front: which examples do. One does at least. All outputs are stacks; what they hold for
    the others has no meaning.
    """
    stage = Stage("vmap", derived=True)
    mask = stage.enter(ArrayType((n,), np.dtype(bool)), lambda: "a mask")
    types = [ArrayType((n, *t.shape), t.dtype) if b else t for t, b in zip(jaxpr.in_types, batched, strict=True)]
    inputs = [stage.enter(t, lambda: "an input") for t in types]
    # made after the stage, so that its tracers are the inner ones
    trace = BatchTrace(stage.name, n)
    run = _Guarded(trace, mask)
    for var, x, b in zip(jaxpr.inputs, inputs, batched, strict=True):
        if b:
            run.raw[var] = trace.enter(x, lambda: "an input", var.weak)
        else:
            run.known[var] = x
    for equation in jaxpr.equations:
        stage.source = equation.source
        run.step(equation)
    stage.source = None
    left = [trace.leave(run.raw[a] if a in run.raw else run.read(a)) for a in jaxpr.outputs]
    trace.finish()
    return stage.finish([mask, *inputs], [y if b else repeated(y, n) for y, b in left])


@final
class _Guarded:
    """The values of a jaxpr on a batch.

    Attributes:
        raw: Inputs, and parts of inputs, with each example's own values.
        known: The same and all other values, where the examples that stand by have those of the first one that does
            not.
    """

    def __init__(self, trace: BatchTrace, mask: Tracer) -> None:
        self.raw: dict[Var | Literal, Array] = {}
        self.known: dict[Var | Literal, Array] = {}
        self._trace = trace
        self._mask = mask
        self._first = ArgMax(0)(mask) if trace.size else None

    def read(self, atom: Atom) -> Array:
        """A value that it is safe to compute with."""
        if isinstance(atom, Literal):
            return atom.value
        if atom not in self.known:
            self.known[atom] = self._guard(self.raw[atom])
        return self.known[atom]

    def step(self, equation: Equation) -> None:
        """Compute the results of an equation."""
        primitive, inputs = equation.primitive, equation.inputs
        if isinstance(primitive, Effect):
            # for who stands by, nothing happens
            primitive.masked(self._trace.enter(self._mask, lambda: "a mask"), *map(self.read, inputs))
            return
        # to read a part of an array, or to write one, takes no look at the rest: so the array need not be copied
        whole = bool(inputs) and inputs[0] in self.raw and _is_part(equation)
        first = [self.raw[inputs[0]]] if whole else []
        y = primitive(*first, *map(self.read, inputs[len(first) :]))
        into = self.raw if whole and isinstance(y, Tracer) and y.tracing is self._trace else self.known
        into.update(zip(equation.outputs, y if primitive.multiple else (y,), strict=True))

    def _guard(self, x: Array) -> Array:
        stack, batched = self._trace.leave(x)
        if self._first is None or not batched:
            return x
        mask = reshape(self._mask, (self._trace.size, *(1,) * (len(stack.shape) - 1)))
        own = select(mask, stack, stop_gradient(getitem(stack, self._first)))
        return self._trace.enter(own, lambda: "an input", x.weak)


def _is_part(equation: Equation) -> bool:
    """True if the result is a part of the first operand, or the operand with a part changed."""
    if not isinstance(equation.primitive, IndexMap | Scatter):
        return False
    (y,), x = equation.outputs, equation.inputs[0]
    return -1 not in y.shape and y.type.size <= x.type.size
