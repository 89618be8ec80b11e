"""Batching: one run of a function for a whole stack of examples.

A tracer stands for one example, of which only the type is known; what is computed with it is computed for all of them
at once, by the batching rule of each primitive. The batch axis is always in front. A value that does not depend on
the batch is no tracer: it stays what it is, and is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NoReturn, final

import numpy as np

from funcgrad.core import config
from funcgrad.core.errors import FuncgradError, InternalError, SourceLine, user_line
from funcgrad.core.ir import Jaxpr
from funcgrad.core.primitive import Primitive, Unbatched, out_types
from funcgrad.core.trace import Trace, Tracer, Var, taken_over
from funcgrad.core.types import PYTHON_SCALARS, Array, ArrayType, Shape, native, plain_array, show, type_of
from funcgrad.core.watch import watching
from funcgrad.ops.array import TracedArray
from funcgrad.ops.broadcast import broadcast_to
from funcgrad.ops.pointwise import convert
from funcgrad.ops.refusals import refuse_leak
from funcgrad.transforms.tracing.derived import derived
from funcgrad.transforms.tracing.stage import Stage


@final
class BatchTrace(Trace):
    """A trace without values: its tracers stand for one example, and their variables remember the whole stack.

    Args:
        name: What error messages call it, such as `vmap(f)`.
        size: The number of examples.
    """

    __slots__ = ("_finished", "_lines", "_names", "_watch", "size")

    because: ClassVar[str] = (
        "only its type is known: vmap gives every element of the batch its own answer; one Python if cannot take both"
    )

    def __init__(self, name: str, size: int) -> None:
        super().__init__(name)
        self.size = size
        self._names: list[Callable[[], str]] = []
        self._finished = False
        self._watch = watching()
        # by id: a variable holds its stack, and must not be kept
        self._lines: dict[int, SourceLine | None] = {}

    def enter(self, x: Array, name: Callable[[], str], weak: bool = False) -> Tracer:
        """A tracer for one element of the stack `x`, whose batch axis is in front; messages call it `name()`."""
        reached = 1 << len(self._names)
        self._names.append(name)
        return self._tracer(x, reached, weak)

    def _tracer(self, stack: Array, reached: int, weak: bool = False) -> Tracer:
        var = Var(stack.shape[1:], stack.dtype, weak)
        # the stack, and the numbers of the inputs that it depends on, as bits
        var.memo = (stack, reached)
        return TracedArray(self, var, None)

    def apply(self, primitive: Primitive, args: tuple[Array, ...]) -> Any:
        """Compute for all examples at once."""
        flags: list[bool] = []
        values: list[Array] = []
        depends = 0
        weak = False
        for x in args:
            if isinstance(x, Tracer):
                if x.tracing is self:
                    var = x.variable
                    stack, reached = var.memo
                    depends |= reached
                    weak = weak or var.weak
                    flags.append(True)
                    values.append(stack)
                    continue
                if x.tracing.level > self.level:
                    return x.tracing.apply(primitive, args)
            elif x.__class__ is not np.ndarray and x.__class__ not in PYTHON_SCALARS and not isinstance(x, np.generic):
                x = plain_array(x)
            flags.append(False)
            values.append(x)
        if self._finished:
            refuse_leak(next(x for x in args if isinstance(x, Tracer) and x.tracing is self), primitive.name)
        branch = taken_over(self, primitive)
        if branch is not None:
            return branch.apply(primitive, args)
        expected: tuple[ArrayType, ...] = ()
        # without examples, nothing else would notice what does not fit
        if weak or primitive.multiple or not self.size or config.CHECK:
            expected = out_types(primitive, [type_of(x) for x in args])
        try:
            y = primitive.batch(tuple(flags), *values)
        except (ValueError, TypeError, IndexError) as error:
            self._explain(primitive, error, args)
        if self._watch is not None and (line := user_line()) and not line.pulled:
            ys = [p.value if p.__class__ is Unbatched else p for p in (y if primitive.multiple else (y,))]
            self._watch.check(primitive, ys, values, line)
        if not (expected or primitive.multiple):
            return self._noted(self._tracer(y, depends))
        parts = self._as_expected(primitive, y if primitive.multiple else (y,), expected, weak)
        outs = [
            p.value if p.__class__ is Unbatched else self._noted(self._tracer(p, depends, t.weak))
            for p, t in zip(parts, expected, strict=True)
        ]
        return tuple(outs) if primitive.multiple else outs[0]

    def _noted(self, tracer: Tracer) -> Tracer:
        """The tracer, whose line is remembered if somebody watches."""
        if self._watch is not None:
            self._lines[id(tracer.variable)] = user_line()
        return tracer

    def _as_expected(
        self, primitive: Primitive, parts: Sequence[Any], expected: Sequence[ArrayType], weak: bool
    ) -> list[Any]:
        """The results with the types that one example has: the stack of a weak scalar has lost its weakness."""
        parts = list(parts)
        for i, (part, t) in enumerate(zip(parts, expected, strict=True)):
            if part.__class__ is Unbatched:
                continue
            if weak:
                part = parts[i] = convert(part, t.dtype)
            if not _has_shape(part, (self.size, *t.shape)) or native(part.dtype) != t.dtype:
                raise InternalError(
                    f"the batching rule of {primitive.show()} gives {show(type_of(part))} for {self.size} examples "
                    f"of {show(t)}"
                )
        return parts

    def _explain(self, primitive: Primitive, error: Exception, args: tuple[Array, ...]) -> NoReturn:
        """Raise the error that one example would raise, if it is one of types; the batch axis is not the user's."""
        try:
            primitive.out_type(*map(type_of, args))
        except FuncgradError as better:
            raise better from None
        if not hasattr(error, "__notes__"):
            error.add_note(f"In {self.name}, axis 0 of shapes and positions is the batch axis.")
        raise error

    def leave(self, x: Array) -> tuple[Array, bool]:
        """The stack behind a tracer, and True; anything else as it is, and False."""
        if isinstance(x, Tracer) and x.tracing is self:
            return x.variable.memo[0], True
        return x, False

    def finish(self) -> None:
        """End the trace: a tracer that is used from now on has leaked."""
        self._finished = True

    @property
    def finished(self) -> bool:
        """True once the traced function has returned."""
        return self._finished

    def numbers(self, var: Var) -> Array | None:
        """The whole stack."""
        return var.memo[0]

    def line(self, var: Var) -> SourceLine | None:
        """The line of user code that made `var`, if somebody watches; None for an input."""
        return self._lines.get(id(var))

    def origin(self, var: Var) -> str:
        """The inputs that `var` depends on, as error messages call them."""
        _, reached = var.memo
        return ", ".join(name() for i, name in enumerate(self._names) if reached >> i & 1)


def _has_shape(x: Array, shape: Shape) -> bool:
    """True if `x` has this shape, in which -1 is any length."""
    return len(x.shape) == len(shape) and all(n in (m, -1) for m, n in zip(x.shape, shape, strict=True))


def repeated(x: Array, n: int) -> Array:
    """A stack of `n` times `x`, perhaps as a view that cannot be written into."""
    x = x if isinstance(x, Tracer) else np.asarray(x)
    return broadcast_to(x, (n, *x.shape))


def batch_jaxpr(
    jaxpr: Jaxpr, batched: Sequence[bool], n: int, everything: bool | Sequence[bool] = ()
) -> tuple[Jaxpr, tuple[bool, ...]]:
    """The jaxpr that does for a stack of `n` examples what `jaxpr` does for one.

    Args:
        jaxpr: Without constants.
        batched: For each input whether it is a stack, with the batch axis in front.
        n: The length of the batch axis.
        everything: For each output whether it must be a stack, or True for all of them; what does not depend on the
            batch is then repeated. None must if nothing is said.

    Returns:
        The jaxpr, without constants, and for each output whether it is a stack. The same object for the same question.
    """
    count = len(jaxpr.outputs)
    must = (everything,) * count if isinstance(everything, bool) else tuple(everything) or (False,) * count
    return _batch_jaxpr(jaxpr, tuple(batched), n, must)


@derived
def _batch_jaxpr(
    jaxpr: Jaxpr, batched: tuple[bool, ...], n: int, must: tuple[bool, ...]
) -> tuple[Jaxpr, tuple[bool, ...]]:
    stage = Stage("vmap", derived=True)
    types = [ArrayType((n, *t.shape), t.dtype) if b else t for t, b in zip(jaxpr.in_types, batched, strict=True)]
    inputs = [stage.enter(t, lambda: "an input") for t in types]
    # made after the stage, so that its tracers are the inner ones
    trace = BatchTrace(stage.name, n)
    args = [
        trace.enter(x, lambda: "an input", t.weak) if b else x
        for x, t, b in zip(inputs, jaxpr.in_types, batched, strict=True)
    ]
    left = [trace.leave(y) for y in stage.replay(jaxpr, args)]
    outs = [repeated(y, n) if m and not b else y for (y, b), m in zip(left, must, strict=True)]
    trace.finish()
    return stage.finish(inputs, outs), tuple([b or m for (_, b), m in zip(left, must, strict=True)])
