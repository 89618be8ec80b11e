"""Tracer, Trace and dispatch: how an operation finds the transformation that handles it.

Tracing follows the data. A `Tracer` stands for a value that depends on the inputs of a transformation; everything
else stays plain NumPy. Each `Trace` takes a fresh level from one counter, and an operation on several tracers belongs
to the highest level among them, the innermost transformation; the others are constants to it.

There are two exceptions. What the branch of a `cond` does with values from outside must not happen where the branch is
not taken, so while a branch is staged, it takes over the operations on abstract tracers of the traces around it. And
an effect happens where it stands, whatever its data depend on: in each step of a loop, in each call of a program.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, final

from funcgrad.core.types import Array, ArrayType, DType, Shape, native

if TYPE_CHECKING:
    from funcgrad.core.errors import SourceLine
    from funcgrad.core.primitive import Primitive

# counting on is atomic, so threads never share a level
_next_level = itertools.count(1).__next__
_branch: ContextVar[Trace | None] = ContextVar("_branch", default=None)
_staging: ContextVar[Trace | None] = ContextVar("_staging", default=None)


@final
class Var:
    """A variable of the IR: a name for one array, with its type. Two variables are equal if they are the same.

    Attributes:
        memo: What the trace that made it keeps with it, as long as there is a tracer; unset where it keeps nothing.
    """

    __slots__ = ("dtype", "memo", "shape", "weak")

    memo: Any

    def __init__(self, shape: Shape, dtype: DType, weak: bool = False) -> None:
        self.shape = shape
        self.dtype = dtype if dtype.isnative else native(dtype)
        self.weak = weak

    @property
    def type(self) -> ArrayType:
        """The type as a value of its own, which compares by content."""
        return ArrayType(self.shape, self.dtype, self.weak)


class Trace(ABC):
    """One run of one transformation: it decides what an operation on its tracers does.

    Args:
        name: What error messages call it, such as `grad(loss)`.

    Attributes:
        because: Why its tracers have no value, if they have none: messages read "inside jit(f) ...".
    """

    __slots__ = ("level", "name")

    because: ClassVar[str] = "only its type is known"

    def __init__(self, name: str) -> None:
        self.level = _next_level()
        self.name = name

    @abstractmethod
    def apply(self, primitive: Primitive, args: tuple[Array, ...]) -> Any:
        """Handle `primitive(*args)`, or hand it to a trace with a higher level that has a tracer in `args`."""

    @property
    @abstractmethod
    def finished(self) -> bool:
        """True once the traced function has returned: a tracer that is used from then on has leaked."""

    def lift(self, x: Array) -> Array:
        """A scalar that a rule starts from, as a part of what is traced if there is a program to be part of."""
        return x

    def numbers(self, var: Var) -> Array | None:
        """The values of all examples where `var` stands for one of a batch; None where the trace has no values."""
        return None

    def line(self, var: Var) -> SourceLine | None:
        """The line of user code that made `var`, as far as the trace remembers."""
        return None

    @abstractmethod
    def origin(self, var: Var) -> str:
        """The arguments of the traced function that `var` depends on: `argument 'x'`."""

    def settings(self, var: Var) -> Sequence[str]:
        """The arguments that `var` depends on, where all of them are scalars and so could be static."""
        return ()

    def made(self, var: Var) -> SourceLine | None:
        """The line of user code that made `var`, where it is known."""
        return None


@contextmanager
def branch(trace: Trace) -> Iterator[None]:
    """While it lasts, a branch is staged by `trace`."""
    token = _branch.set(trace)
    try:
        yield
    finally:
        _branch.reset(token)


@contextmanager
def staging(trace: Trace) -> Iterator[None]:
    """While it lasts, `trace` is the innermost one that writes a program: effects are a part of that."""
    token = _staging.set(trace)
    try:
        yield
    finally:
        _staging.reset(token)


def staged_by() -> Trace | None:
    """The innermost trace that is writing a program."""
    return _staging.get()


def taken_over(trace: Trace, primitive: Primitive) -> Trace | None:
    """The trace inside of `trace` that an operation belongs to by its place, and not by its data."""
    inner = _staging.get() if primitive.effect else _branch.get()
    return inner if inner is not None and inner.level > trace.level else None


class Tracer:
    """A value on its way through a transformation. `value` is its array, or None where only the type is known.

    The value may itself be a tracer, of an outer transformation.
    """

    __slots__ = ("tracing", "value", "variable")

    def __init__(self, tracing: Trace, variable: Var, value: Array | None) -> None:
        self.tracing = tracing
        self.variable = variable
        self.value = value

    @property
    def shape(self) -> Shape:
        """The length of each axis."""
        return self.variable.shape

    @property
    def dtype(self) -> DType:
        """The NumPy dtype of the elements."""
        return self.variable.dtype

    @property
    def weak(self) -> bool:
        """True where a Python scalar gave the dtype (NEP 50)."""
        return self.variable.weak

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.variable.shape)


def concrete(x: Array) -> Array | None:
    """The plain array under any number of tracers; None where only the type is known."""
    while isinstance(x, Tracer):
        x = x.value
    return x


def is_abstract(leaves: Iterable[Any]) -> bool:
    """True if one of these is a tracer of which only the type is known."""
    return any(isinstance(x, Tracer) and concrete(x) is None for x in leaves)
