"""Sorting, searching in sorted arrays, and the places and values of elements.

What answers with places is piecewise constant, so its derivative is zero. How many places or values there are can
depend on the elements: `nonzero`, `unique` and their like need the values, and refuse where only types are known.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad.core.errors import UnsupportedError
from funcgrad.core.trace import Tracer, concrete
from funcgrad.core.types import Array, normalize_axis
from funcgrad.numpy._arguments import traced
from funcgrad.numpy._creation import as_array, asarray
from funcgrad.ops.index import getitem
from funcgrad.ops.order import Argsort, SearchSorted, Sort
from funcgrad.ops.refusals import refuse_count
from funcgrad.ops.shape import reshape

__all__ = ["argsort", "argwhere", "flatnonzero", "nonzero", "searchsorted", "sort", "unique"]


def sort(
    a: Array, axis: int | None = -1, kind: str | None = None, order: None = None, *, stable: bool | None = None
) -> Array:
    """The elements in ascending order along an axis. Each passes its cotangent to the place it came from.

    Equal elements keep their order in the gradient, whatever the algorithm.

    Args:
        a: The array.
        axis: The axis; None for all elements.
        kind: The algorithm, for plain arrays.
        order: Not supported for traced values.
        stable: True for a stable algorithm, for plain arrays.

    Examples:
        >>> fg.grad(lambda x: fnp.sort(x) @ np.array([1.0, 2.0, 3.0]))(np.array([7.0, 5.0, 6.0]))
        array([3., 1., 2.])
    """
    if not traced(a):
        return np.sort(a, axis, kind, order, stable=stable)  # type: ignore[arg-type]  # NumPy checks `kind`
    x, axis = _line(a, axis, "sort", order)
    return Sort(axis)(x)


def argsort(
    a: Array, axis: int | None = -1, kind: str | None = None, order: None = None, *, stable: bool | None = None
) -> Array:
    """The places of the elements in ascending order along an axis. Its derivative is zero.

    Of a traced array, equal elements keep their order.

    Args:
        a: The array.
        axis: The axis; None for all elements.
        kind: The algorithm, for plain arrays.
        order: Not supported for traced values.
        stable: True for a stable algorithm, for plain arrays: equal elements keep their order.

    Examples:
        >>> fnp.argsort(np.array([7.0, 5.0, 6.0]))
        array([1, 2, 0])
    """
    if not traced(a):
        return np.argsort(a, axis, kind, order, stable=stable)  # type: ignore[arg-type]  # NumPy checks `kind`
    x, axis = _line(a, axis, "argsort", order)
    return Argsort(axis)(x)


def _line(a: Array, axis: int | None, function: str, order: Any) -> tuple[Array, int]:
    if order is not None:
        raise UnsupportedError(
            f"{function}(..., order={order!r}) sorts by the fields of a structured array, which cannot be traced",
            f"{function}(x)",
        )
    x = as_array(a)
    if axis is None:
        return reshape(x, (x.size,)), 0
    return x, normalize_axis(axis, len(x.shape))


def searchsorted(a: Array, v: Array, side: str = "left", sorter: Array | None = None) -> Array:
    """The places at which the elements of `v` would keep a sorted vector sorted. Its derivative is zero.

    Args:
        a: A vector in ascending order.
        v: The values to place.
        side: "left" for the first such place, "right" for the last.
        sorter: The order that sorts `a`, if it is not sorted.

    Examples:
        >>> fnp.searchsorted(np.array([1.0, 2.0, 3.0]), np.array([0.5, 2.5]))
        array([0, 2])
    """
    if not traced(a, v, sorter):
        return np.searchsorted(a, v, side, sorter)  # type: ignore[call-overload]  # NumPy checks `side`
    if side not in ("left", "right"):
        raise ValueError(f"side must be 'left' or 'right', got {side!r}")
    a = asarray(a)
    return SearchSorted(side)(a if sorter is None else getitem(a, asarray(sorter)), asarray(v))


def values_of(a: Array, function: str, instead: str) -> Array:
    """The plain array under the tracers, which must be known."""
    x = as_array(a)
    value = concrete(x)
    if value is None and isinstance(x, Tracer):
        refuse_count(x, function, instead)
    return np.asarray(value)


def nonzero(a: Array) -> tuple[Array, ...]:
    """The places of the elements that are not zero, one index array for each axis. Their derivative is zero.

    Raises:
        TracedShapeError: Only the type of `a` is known, which does not say how many there are.

    Examples:
        >>> fnp.nonzero(np.array([0.0, 3.0, 4.0]))
        (array([1, 2]),)
    """
    return np.nonzero(values_of(a, "nonzero", "where(x != 0, y, z) chooses by element without counting"))


def flatnonzero(a: Array) -> Array:
    """The places of the elements that are not zero, in row-major order. Their derivative is zero.

    Raises:
        TracedShapeError: Only the type of `a` is known, which does not say how many there are.

    Examples:
        >>> fnp.flatnonzero(np.array([[0.0, 3.0], [4.0, 0.0]]))
        array([1, 2])
    """
    return np.flatnonzero(values_of(a, "flatnonzero", "where(x != 0, y, z) chooses by element without counting"))


def argwhere(a: Array) -> Array:
    """The places of the elements that are not zero, one in each row. Their derivative is zero.

    Raises:
        TracedShapeError: Only the type of `a` is known, which does not say how many there are.

    Examples:
        >>> fnp.argwhere(np.array([[0.0, 3.0], [4.0, 0.0]]))
        array([[0, 1],
               [1, 0]])
    """
    return np.argwhere(values_of(a, "argwhere", "where(x != 0, y, z) chooses by element without counting"))


def unique(
    ar: Array,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    *,
    equal_nan: bool = True,
    sorted: bool = True,
) -> Any:
    """The different elements, in ascending order. Each passes its cotangent to its first occurrence.

    Args:
        ar: The array.
        return_index: True to return the places of the first occurrences, too.
        return_inverse: True to return the places that rebuild `ar`, too.
        return_counts: True to return how often each occurs, too.
        axis: The axis along which slices are compared; by default elements are.
        equal_nan: False if each NaN is different.
        sorted: False if the order does not matter, where this version of NumPy takes it.

    Raises:
        TracedShapeError: Only the type of `ar` is known, which does not say how many there are.

    Examples:
        >>> fg.grad(lambda x: fnp.unique(x) @ np.array([1.0, 10.0]))(np.array([5.0, 2.0, 5.0]))
        array([10.,  1.,  0.])
    """
    options: dict[str, Any] = {"equal_nan": equal_nan} | ({} if sorted else {"sorted": sorted})
    if not traced(ar):
        return np.unique(ar, return_index, return_inverse, return_counts, axis, **options)  # type: ignore[call-overload]  # they tell True from False
    x = as_array(ar)
    known = values_of(x, "unique", "sort(x) has as many elements as x")
    _, first, *rest = np.unique(known, True, return_inverse, return_counts, axis, **options)  # type: ignore[call-overload]  # they tell True from False
    line = reshape(x, (x.size,)) if axis is None else x
    before = 0 if axis is None else normalize_axis(axis, len(x.shape))
    y = getitem(line, (*(slice(None),) * before, first))
    results = (y, *((first,) if return_index else ()), *rest)
    return results if len(results) > 1 else y
