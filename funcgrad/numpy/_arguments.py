"""What NumPy's functions do with their arguments: which are traced, which are refused, and what an `axis` means."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from funcgrad.core.errors import UnsupportedError
from funcgrad.core.trace import Tracer
from funcgrad.core.types import Array, Shape, normalize_axes
from funcgrad.ops.reduce import kept
from funcgrad.ops.shape import Reshape


def traced(*xs: Any) -> bool:
    """Whether one of the arguments is traced, or a list that holds a traced value."""
    for x in xs:  # noqa: SIM110  # a generator costs more than all of this
        if isinstance(x, Tracer) or (type(x) in (list, tuple) and traced(*x)):
            return True
    return False


def no_out(function: str, out: Any) -> None:
    """Refuse an `out` argument.

    Raises:
        UnsupportedError: There is one.
    """
    if out is not None:
        raise UnsupportedError(
            f"{function}(..., out=...) would write its result into an array in place, where its derivative is lost",
            f"leave `out` away and use the result: y = {function}(x)",
        )


# what NumPy's ufuncs take besides, and its default; the last three are those of the generalized ones
_DEFAULTS: dict[str, Any] = {
    "where": True,
    "casting": "same_kind",
    "order": "K",
    "dtype": None,
    "subok": True,
    "signature": None,
    "axes": np._NoValue,
    "axis": np._NoValue,
    "keepdims": False,
}


def no_options(function: str, options: dict[str, Any]) -> None:
    """Refuse the further arguments of a ufunc, unless they say what holds without them.

    Raises:
        UnsupportedError: One does not.
    """
    for name, value in options.items():
        if name not in _DEFAULTS:
            raise UnsupportedError(f"{function} takes no argument {name!r}, here or in NumPy", f"{function}(x)")
        default = _DEFAULTS[name]
        if value is not default and not (isinstance(value, str) and value == default):
            raise UnsupportedError(
                f"{function}(..., {name}={value!r}) has no meaning on traced values; only its default has",
                _INSTEAD.get(name, "leave `{name}` away: {function}(x)").format(name=name, function=function),
            )


_INSTEAD = {
    "where": "where(condition, {function}(...), otherwise)",
    "casting": "convert first: {function}(x.astype(dtype))",
    "dtype": "{function}(x).astype(dtype)",
    "signature": "convert first: {function}(x.astype(dtype))",
    "keepdims": "expand_dims({function}(x), axis)",
}


def reduced_axes(axis: Any, x: Array) -> tuple[int, ...]:
    """The axes that a reduction of `x` folds."""
    return (_known_axes if type(axis) in _HASHABLE else _axes)(axis, len(x.shape))


def _axes(axis: Any, ndim: int) -> tuple[int, ...]:
    # NumPy's reductions take axis 0 and -1 of a 0-d array
    return () if ndim == 0 and axis in (0, -1) else normalize_axes(axis, ndim)


_HASHABLE = (type(None), int, tuple)
_known_axes = functools.lru_cache(_axes)


def restore(y: Array, shape: Shape, axes: tuple[int, ...], keepdims: bool) -> Array:
    """The result of folding `axes`, which stay with length 1 if `keepdims`."""
    return _unfold(shape, axes)(y) if keepdims else y


@functools.lru_cache(maxsize=1024)
def _unfold(shape: Shape, axes: tuple[int, ...]) -> Reshape:
    return Reshape(kept(shape, axes))


def given(name: str, value: Any) -> dict[str, Any]:
    """An argument to be passed on to a NumPy function, which marks a missing one differently than by None."""
    return {} if value is None else {name: value}
