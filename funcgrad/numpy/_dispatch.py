"""NumPy's own functions on traced values: each does what the function of the same name here does."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from funcgrad.core.types import Array
from funcgrad.numpy._creation import asarray
from funcgrad.numpy._cumulative import cumprod, cumsum
from funcgrad.numpy._reductions import all, any, max, min, prod, sum
from funcgrad.ops.array import implements
from funcgrad.ops.shape import reshape

_REDUCE: dict[np.ufunc, Callable[..., Any]] = {
    np.add: sum,
    np.multiply: prod,
    np.maximum: max,
    np.minimum: min,
    np.logical_and: all,
    np.logical_or: any,
}
_ACCUMULATE: dict[np.ufunc, Callable[..., Any]] = {np.add: cumsum, np.multiply: cumprod}


def register(ours: ModuleType, theirs: ModuleType) -> None:
    """Make the functions of NumPy's module `theirs` accept traced values: by those of the same name in `ours`."""
    for name in ours.__all__:
        function, numpy_function = getattr(ours, name), getattr(theirs, name, None)
        if isinstance(function, FunctionType) and callable(numpy_function):
            implements(numpy_function)(function)
        if isinstance(function, FunctionType) and isinstance(numpy_function, np.ufunc) and numpy_function.nin == 2:
            implements(numpy_function, "outer")(_outer(function))


def register_methods() -> None:
    """Make `numpy.add.reduce` and its like accept traced values."""
    for ufunc, function in _REDUCE.items():
        implements(ufunc, "reduce")(_along_first_axis(function))
    for ufunc, function in _ACCUMULATE.items():
        implements(ufunc, "accumulate")(_along_first_axis(function))


def _along_first_axis(function: Callable[..., Any]) -> Callable[..., Any]:
    def method(array: Array, axis: int | tuple[int, ...] | None = 0, **options: Any) -> Array:
        return function(array, axis=axis, **{key: value for key, value in options.items() if value is not None})

    return method


def _outer(function: Callable[..., Any]) -> Callable[..., Any]:
    def method(x1: Array, x2: Array, /, **options: Any) -> Array:
        x1, x2 = asarray(x1), asarray(x2)
        return function(reshape(x1, x1.shape + (1,) * len(x2.shape)), x2, **options)

    return method
