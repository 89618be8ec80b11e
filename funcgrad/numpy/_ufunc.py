"""How a function is called as NumPy's ufunc of the same name is.

A line of the elementwise table is only declared: the declaration gives the docstring and the arguments that have a
meaning here, and `applies` supplies the body, which is the same for all.

    @applies(ew.sin)
    def sin(x: Array, /, out: None = None, *, dtype: DTypeLike | None = None) -> Array:
        '''The sine of `x`, an angle in radians.'''

What else a ufunc takes (`where`, `casting`, `order`, `subok`, `signature`) is passed on for plain arrays, and refused
for traced ones unless it is the default.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from funcgrad.core.errors import DTypeError, shown
from funcgrad.core.trace import Tracer
from funcgrad.core.types import Array, promotable, show_long, type_of
from funcgrad.numpy._arguments import no_options, no_out
from funcgrad.numpy._creation import READY, operands
from funcgrad.ops.array import TracedArray, as_dtype
from funcgrad.ops.pointwise import Binary, Unary, convert

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

F = TypeVar("F", bound=Callable[..., Any])


def strong(x: Array) -> Array:
    """`x` with a dtype of its own: NumPy's functions, unlike operators, never return a Python number."""
    return convert(x, x.dtype) if isinstance(x, Tracer) and x.weak else x


def _signature(*arguments: str, out: Any = None, **options: Any) -> inspect.Signature:
    options |= {"casting": "same_kind", "order": "K", "dtype": None, "subok": True, "signature": None}
    kinds = inspect.Parameter
    return inspect.Signature(
        [
            *(kinds(name, kinds.POSITIONAL_ONLY) for name in arguments),
            kinds("out", kinds.POSITIONAL_OR_KEYWORD, default=out),
            *(kinds(name, kinds.KEYWORD_ONLY, default=value) for name, value in options.items()),
        ]
    )


_UNARY = _signature("x", where=True)
_BINARY = _signature("x1", "x2", where=True)
_PAIR = _signature("x1", "x2", out=(None, None), where=True)
_CORE = _signature("x1", "x2", axes=np._NoValue, axis=np._NoValue, keepdims=False)


def _signed(function: F, signature: inspect.Signature) -> F:
    function.__signature__ = signature  # type: ignore[attr-defined]  # what `inspect` and `help` look at
    return function


def generalized(function: F) -> F:
    """Decorator: this function takes the arguments of a generalized ufunc, whose core dimensions are contracted."""
    return _signed(function, _CORE)


def applies(primitive: Unary | Binary) -> Callable[[F], F]:
    """Decorator: what is declared here applies `primitive`, as NumPy's ufunc of the same name does."""
    body, signature = (_unary, _UNARY) if isinstance(primitive, Unary) else (_binary, _BINARY)

    def define(declared: F) -> F:
        return cast(F, _signed(update_wrapper(body(primitive, getattr(np, declared.__name__)), declared), signature))

    return define


def _unary(primitive: Any, ufunc: np.ufunc) -> Callable[..., Any]:
    keeps_weak = primitive.keeps_weak

    def apply(x: Array, /, out: Any = None, *, dtype: Any = None, **options: Any) -> Array:
        if x.__class__ is TracedArray and out is None and dtype is None and not options:
            y = x.tracing.apply(primitive, (x,))
            return strong(y) if keeps_weak and y.__class__ is TracedArray and y.variable.weak else y
        return _general(primitive, ufunc, (x,), out, dtype, options)

    return apply


def _binary(primitive: Any, ufunc: np.ufunc) -> Callable[..., Any]:
    keeps_weak = primitive.keeps_weak

    def apply(x1: Array, x2: Array, /, out: Any = None, *, dtype: Any = None, **options: Any) -> Array:
        if (
            (x1.__class__ is TracedArray or x2.__class__ is TracedArray)
            and (x1.__class__ in READY and x2.__class__ in READY)
            and (out is None and dtype is None and not options)
        ):
            y = primitive(x1, x2)
            return strong(y) if keeps_weak and y.__class__ is TracedArray and y.variable.weak else y
        return _general(primitive, ufunc, (x1, x2), out, dtype, options)

    return apply


def _general(
    primitive: Any, ufunc: np.ufunc, xs: Sequence[Array], out: Any, dtype: DTypeLike | None, options: dict[str, Any]
) -> Array:
    xs = operands(*xs)
    if _refusing(ufunc, xs, out, options):
        return strong(primitive(*(xs if dtype is None else in_loop(ufunc, xs, dtype))))
    try:
        return ufunc(*xs, dtype=dtype, **options)
    except (ValueError, TypeError) as error:
        return primitive.explain(error, xs)


def _refusing(ufunc: np.ufunc, xs: Sequence[Array], out: Any, options: dict[str, Any]) -> bool:
    """Whether one of `xs` is traced; raises for the arguments that have no meaning then, or never have."""
    no_out(ufunc.__name__, out)
    some = any(isinstance(x, Tracer) for x in xs)
    no_options(ufunc.__name__, options if some else {"where": options.get("where", True)})
    for x in xs if some else ():
        if isinstance(x, np.ndarray) and x.dtype.kind not in "biufcmM":
            raise DTypeError(
                f"{ufunc.__name__} takes numbers, but one of its arguments is {shown(x.item() if x.ndim == 0 else x)}",
                f"{ufunc.__name__} of numbers, or of arrays of them",
            )
    return some


def in_loop(ufunc: np.ufunc, xs: Sequence[Array], dtype: DTypeLike | None = None) -> Sequence[Array]:
    """The arguments of a ufunc with the dtypes in which it computes, given the dtype of its result.

    Raises:
        DTypeError: It does not compute in such dtypes.
    """
    types = (*(promotable(type_of(x)) for x in xs), *(None,) * ufunc.nout)
    result = None if dtype is None else as_dtype(dtype)
    try:
        loop = ufunc.resolve_dtypes(types, signature=(*(None,) * ufunc.nin, *(result,) * ufunc.nout))
    except TypeError as error:
        given = " and ".join(show_long(type_of(x)) for x in xs)
        to = "" if result is None else f" with a result of {result}"
        raise DTypeError(
            f"{ufunc.__name__} does not take {given}{to}", f"convert first: {ufunc.__name__}(x.astype(float))"
        ) from error
    return [convert(x, t) for x, t in zip(xs, loop, strict=False)]


def composed(function: F) -> F:
    """Decorator: this function of operands, in the dtypes that NumPy's ufunc computes in, stands for that ufunc."""
    ufunc: np.ufunc = getattr(np, function.__name__)
    signature = _UNARY if ufunc.nin == 1 else _BINARY if ufunc.nout == 1 else _PAIR
    return cast(F, _signed(update_wrapper(stands_for(ufunc, function), function), signature))


def stands_for(ufunc: np.ufunc, function: Callable[..., Any]) -> Callable[..., Any]:
    """What is called as `ufunc`, and on traced values applies `function`, in the dtypes that `ufunc` computes in."""
    nothing = None if ufunc.nout == 1 else (None,) * ufunc.nout

    def apply(*args: Array, out: Any = nothing, dtype: Any = None, **options: Any) -> Any:
        xs, rest = operands(*args[: ufunc.nin]), args[ufunc.nin :]
        out = rest[0] if rest else out
        if _refusing(ufunc, xs, None if isinstance(out, tuple) and out == nothing else out, options):
            return function(*in_loop(ufunc, xs, dtype))
        return ufunc(*xs, dtype=dtype, **options)

    return apply
