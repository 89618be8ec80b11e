"""How a line of the elementwise table becomes a function that is called as NumPy's ufunc of the same name.

A declaration gives the signature and the docstring; the body is the same for all, and `applies` supplies it:

    @applies(ew.sin)
    def sin(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
        '''The sine of `x`, an angle in radians.'''
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from funcgrad.core.errors import UnsupportedError
from funcgrad.core.trace import Tracer
from funcgrad.core.types import Array, promotable, type_of
from funcgrad.numpy._creation import asarray
from funcgrad.ops.array import TracedArray
from funcgrad.ops.pointwise import Binary, Unary, convert

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

F = TypeVar("F", bound=Callable[..., Any])

# The classes of what a primitive takes as it is; anything else goes through `operand`.
READY = frozenset({TracedArray, np.ndarray, bool, int, float, complex, *np.sctypeDict.values()})


def operand(x: Array) -> Array:
    """`x` as a primitive takes it: a list as an array, an array as it is."""
    return x if type(x) in READY or isinstance(x, np.ndarray | np.generic) else asarray(x)


def operands(*xs: Array) -> Sequence[Array]:
    """Each of `xs` as a primitive takes it."""
    return [operand(x) for x in xs]


def strong(x: Array) -> Array:
    """`x` with a dtype of its own: NumPy's functions, unlike operators, never return a Python number."""
    return convert(x, x.dtype) if isinstance(x, Tracer) and x.weak else x


def refuse(name: str, out: Any, where: Any = True) -> None:
    """Raise for the arguments of NumPy's functions that have no meaning here.

    Raises:
        UnsupportedError: `out` or `where` is given.
    """
    if out is not None:
        raise UnsupportedError(f"{name}(..., out=...) would write into an array in place", f"out = {name}(...)")
    if where is not True:
        raise UnsupportedError(
            f"{name}(..., where=...) would leave elements without a value", f"where(condition, {name}(...), otherwise)"
        )


def applies(primitive: Unary | Binary) -> Callable[[F], F]:
    """Decorator: what is declared here applies `primitive`, as NumPy's ufunc of the same name does."""
    body = _unary if isinstance(primitive, Unary) else _binary

    def define(declared: F) -> F:
        return cast(F, update_wrapper(body(primitive, getattr(np, declared.__name__)), declared))

    return define


def _unary(primitive: Any, ufunc: np.ufunc) -> Callable[..., Any]:
    keeps_weak = primitive.keeps_weak

    def apply(x: Array, /, out: Any = None, *, where: Any = True, dtype: Any = None) -> Array:
        if x.__class__ is TracedArray and out is None and where is True and dtype is None:
            y = x.tracing.apply(primitive, (x,))
            return strong(y) if keeps_weak and y.__class__ is TracedArray and y.variable.weak else y
        return _general(primitive, ufunc, (x,), out, where, dtype)

    return apply


def _binary(primitive: Any, ufunc: np.ufunc) -> Callable[..., Any]:
    keeps_weak = primitive.keeps_weak

    def apply(x1: Array, x2: Array, /, out: Any = None, *, where: Any = True, dtype: Any = None) -> Array:
        if (
            (x1.__class__ is TracedArray or x2.__class__ is TracedArray)
            and (x1.__class__ in READY and x2.__class__ in READY)
            and (out is None and where is True and dtype is None)
        ):
            y = primitive(x1, x2)
            return strong(y) if keeps_weak and y.__class__ is TracedArray and y.variable.weak else y
        return _general(primitive, ufunc, (x1, x2), out, where, dtype)

    return apply


def _general(
    primitive: Any, ufunc: np.ufunc, xs: Sequence[Array], out: Any, where: Any, dtype: DTypeLike | None
) -> Array:
    refuse(ufunc.__name__, out, where)
    xs = operands(*xs)
    if any(isinstance(x, Tracer) for x in xs):
        return strong(primitive(*(xs if dtype is None else in_loop(ufunc, xs, dtype))))
    try:
        return ufunc(*xs, dtype=dtype)
    except (ValueError, TypeError) as error:
        return primitive.explain(error, xs)


def in_loop(ufunc: np.ufunc, xs: Sequence[Array], dtype: DTypeLike | None = None) -> Sequence[Array]:
    """The arguments of a ufunc with the dtypes in which it computes, given the dtype of its result."""
    types = (*(promotable(type_of(x)) for x in xs), None)
    result = None if dtype is None else np.dtype(dtype)
    loop = ufunc.resolve_dtypes(types, signature=(*(None,) * len(xs), result))
    return [convert(x, t) for x, t in zip(xs, loop, strict=False)]
