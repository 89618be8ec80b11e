"""Looking into programs that run: printing a value, or calling a function with it."""

from __future__ import annotations

import builtins
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import numpy as np

from funcgrad import tree as pytree
from funcgrad.core.errors import ArgumentError, shown, user_line
from funcgrad.core.trace import Tracer
from funcgrad.core.types import Array
from funcgrad.ops.callback import Effect
from funcgrad.transforms.tracing.arguments import function_name

__all__ = ["callback", "print"]


def callback(callback: Callable[..., Any], *args: Any, ordered: bool = False, **kwargs: Any) -> None:
    """Call a function with the values of traced arrays, for what it does: to collect them, to log them, to plot them.

    With known values, as under `grad`, it is called at once; a program of `jit` or of a loop calls it in each run,
    and is never rid of it, be there a traced value among the arguments or not. It is called in the forward pass alone,
    and under `vmap` once for each example.

    Args:
        callback: Called with the arguments, with an ndarray of its own in place of each array. What it returns is
            dropped.
        args: Anything; arrays in pytrees are found.
        ordered: Accepted as in JAX. Calls always happen in the order of the program.
        kwargs: The same, by name.

    Examples:
        >>> import funcgrad as fg
        >>> seen = []
        >>> @fg.jit
        ... def f(x):
        ...     fg.debug.callback(seen.append, x)
        ...     return x**2
        >>> y = f(2.0), f(3.0)
        >>> seen
        [array(2.), array(3.)]
    """
    if not callable(callback):
        raise ArgumentError(f"debug.callback takes a function, got {shown(callback)}", "debug.callback(seen.append, x)")
    _act(function_name(callback), callback, args, kwargs)


def print(fmt: str, *args: Any, ordered: bool = False, **kwargs: Any) -> None:
    """Print the values of traced arrays, when the program runs.

    It acts when and as often as `callback` does: in each run of a program, in the forward pass alone, once for each
    example of a `vmap`.

    Args:
        fmt: As for `str.format`: `"{} {x:.3f}"`. A format of numbers holds for each element of an array.
        args: What the places of the format string refer to; arrays in pytrees are found.
        ordered: Accepted as in JAX. Lines always come in the order of the program.
        kwargs: The same, by name.

    Raises:
        ArgumentError: The format string does not fit the arguments. This is found while tracing.

    Examples:
        >>> import numpy as np
        >>> import funcgrad as fg
        >>> @fg.jit
        ... def f(x):
        ...     fg.debug.print("x = {x:.2f}, squared {}", x**2, x=x)
        ...     return x**2
        >>> y = f(np.array([1.0, 2.0]))
        x = [1.00 2.00], squared [1. 4.]
    """
    if not isinstance(fmt, str):
        raise ArgumentError(f"debug.print takes a format string first, got {shown(fmt)}", 'debug.print("{}", x)')
    _formatted(fmt, *pytree.map(_standin, (args, kwargs)))
    _act(repr(fmt), lambda *xs, **named: builtins.print(_formatted(fmt, xs, named)), args, kwargs)


def _standin(x: Any) -> Any:
    """Zeros for a traced value: what shows whether a format fits."""
    return np.broadcast_to(np.zeros((), x.dtype), x.shape)[()] if isinstance(x, Tracer) else x


def _act(label: str, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Call `f` now, or write the call into the program."""
    leaves, structure = pytree.flatten((args, kwargs))
    places = [i for i, x in enumerate(leaves) if isinstance(x, np.ndarray | np.generic | Tracer)]
    operands = [leaves[i] for i in places]
    rest = [None if i in places else x for i, x in enumerate(leaves)]

    def act(*xs: Array) -> None:
        values = list(rest)
        for i, x in zip(places, xs, strict=True):
            values[i] = x
        args, kwargs = pytree.unflatten(structure, values)
        f(*args, **kwargs)

    Effect(label, act, site=user_line())(*operands)


@final
class _Formatter(string.Formatter):
    """`str.format`, which applies the format of a number to each element of an array, and wants each argument used."""

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if key not in (*range(len(args)), *kwargs):
            raise ValueError(f"there is no argument {key!r}")
        return super().get_value(key, args, kwargs)

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, np.ndarray) and value.shape and format_spec:
            return np.array2string(value, formatter={"all": lambda x: format(x, format_spec)})
        text: str = super().format_field(value, format_spec)
        return text

    def check_unused_args(self, used: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        unused = [key for key in (*range(len(args)), *kwargs) if key not in used]
        if unused:
            raise ValueError(f"nothing refers to argument {unused[0]!r}")


def _formatted(fmt: str, args: Sequence[Any], kwargs: dict[str, Any]) -> str:
    # a scalar is printed as a number, also within a container
    args, kwargs = pytree.map(lambda x: x[()] if isinstance(x, np.ndarray) else x, (tuple(args), kwargs))
    try:
        return _Formatter().vformat(fmt, args, kwargs)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ArgumentError(
            f"debug.print: the format string {fmt!r} does not fit its arguments: {error}",
            'a place for each argument, as for str.format: debug.print("{} {x:.3f}", y, x=x)',
        ) from None
