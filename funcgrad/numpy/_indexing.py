"""Reading elements by position: take and its relatives. `x[index]` itself works on traced arrays as on plain ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad.core.errors import ArgumentError, OutOfBoundsError, ShapeError
from funcgrad.core.types import Array, normalize_axis
from funcgrad.numpy._arguments import no_out
from funcgrad.numpy._creation import asarray, astype
from funcgrad.numpy._shape import ravel
from funcgrad.numpy._sorting import values_of
from funcgrad.ops.index import getitem
from funcgrad.ops.scatter import At

__all__ = ["compress", "delete", "extract", "ix_", "put_along_axis", "take", "take_along_axis"]


def take(a: Array, indices: Array, axis: int | None = None, out: None = None, mode: str = "raise") -> Array:
    """Elements by position along an axis. The pullback adds up where a position occurs more than once.

    Args:
        a: The array.
        indices: Integer positions, of any shape; negative ones count from the end.
        axis: The axis; None takes from the flattened array.
        out: Not supported.
        mode: "raise", "wrap" or "clip" for positions outside the axis.

    Raises:
        OutOfBoundsError: A position lies outside the axis, with `mode="raise"`.

    Examples:
        >>> fnp.take(np.array([10.0, 20.0, 30.0]), [0, 2, 0])
        array([10., 30., 10.])
    """
    no_out("take", out)
    a, indices = asarray(a), asarray(indices)
    if indices.dtype.kind == "b":
        indices = astype(indices, np.intp)  # positions 0 and 1 here, not a mask as in a[indices]
    if axis is None:
        a, axis = ravel(a), 0
    axis = normalize_axis(axis, len(a.shape))
    n = a.shape[axis]
    if mode == "wrap":
        indices = indices % n
    elif mode == "clip":
        indices = np.clip(indices, 0, n - 1)
    elif mode != "raise":
        raise ArgumentError(f"take: mode={mode!r} is not 'raise', 'wrap' or 'clip'", "mode='clip'")
    return getitem(a, (*(slice(None),) * axis, indices))


def take_along_axis(arr: Array, indices: Array, axis: int | None = -1) -> Array:
    """Elements by position along an axis, with positions of their own for each line, as `argsort` gives them.

    Args:
        arr: The array.
        indices: Integer positions, with as many axes as `arr`; the other axes broadcast.
        axis: The axis; None takes from the flattened array.

    Raises:
        ShapeError: The numbers of axes differ.
        OutOfBoundsError: A position lies outside the axis.

    Examples:
        >>> x = np.array([[3.0, 1.0, 2.0]])
        >>> fnp.take_along_axis(x, np.argsort(x, axis=1), axis=1)
        array([[1., 2., 3.]])
    """
    arr, indices = asarray(arr), asarray(indices)
    if axis is None:
        arr, axis = ravel(arr), 0
    return getitem(arr, _along(arr, indices, axis))


def _along(arr: Array, indices: Array, axis: int) -> tuple[Array, ...]:
    ndim = len(arr.shape)
    if len(indices.shape) != ndim:
        raise ShapeError(
            f"take_along_axis: the indices have shape {indices.shape}, but the array has shape {arr.shape}",
            "give both the same number of axes: indices[..., None]",
        )
    axis = normalize_axis(axis, ndim)
    if indices.dtype.kind not in "iu":
        raise OutOfBoundsError(
            f"take_along_axis: the indices are {indices.dtype.name}, not integers",
            "np.argsort and its like give integers",
        )
    return tuple(
        indices if i == axis else np.arange(n).reshape((-1,) + (1,) * (ndim - 1 - i)) for i, n in enumerate(arr.shape)
    )


def put_along_axis(arr: Array, indices: Array, values: Array, axis: int | None) -> Array:
    """A copy of `arr` with values written by position along an axis; NumPy's function of this name writes in place.

    Args:
        arr: The array.
        indices: As for `take_along_axis`.
        values: What to write; it broadcasts to the indices.
        axis: The axis; None writes to the flattened array.

    Raises:
        ShapeError: The numbers of axes differ.

    Examples:
        >>> fnp.put_along_axis(np.zeros((1, 3)), np.array([[2]]), 5.0, axis=1)
        array([[0., 0., 5.]])
    """
    arr, indices = asarray(arr), asarray(indices)
    if axis is None:
        return put_along_axis(ravel(arr), indices, values, 0).reshape(arr.shape)
    return At(arr)[_along(arr, indices, axis)].set(values)


def compress(condition: Array, a: Array, axis: int | None = None, out: None = None) -> Array:
    """The parts along an axis where a condition holds.

    Args:
        condition: A vector of bools, which may be shorter than the axis.
        a: The array.
        axis: The axis; None takes from the flattened array.
        out: Not supported.

    Raises:
        TracedShapeError: Only the type of `condition` is known, which does not say how many parts there are.

    Examples:
        >>> fnp.compress([True, False, True], np.array([1.0, 2.0, 3.0]))
        array([1., 3.])
    """
    condition = values_of(condition, "compress", "where(condition, a, 0) keeps the length")
    if condition.ndim != 1:
        raise ShapeError(f"compress: the condition has shape {condition.shape}, not one axis", "a[mask] takes a mask")
    no_out("compress", out)
    a = asarray(a)
    if axis is None:
        a, axis = ravel(a), 0
    axis = normalize_axis(axis, len(a.shape))
    length = a.shape[axis]
    if condition[length:].any():
        raise OutOfBoundsError(
            f"compress: the condition has {condition.size} elements and is true beyond the axis of length {length}",
            f"condition[:{length}]",
        )
    mask = np.zeros(length, bool)
    mask[: condition.size] = condition[:length]
    return _where_true(a, mask, axis)


def _where_true(a: Array, mask: Array, axis: int) -> Array:
    """The parts along `axis` that a mask selects; a mask, unlike positions, leaves what is out of it out of account."""
    return getitem(a, (*(slice(None),) * axis, mask))


def extract(condition: Array, arr: Array) -> Array:
    """The elements where a condition holds, as a vector.

    Examples:
        >>> fnp.extract(np.array([True, False]), np.array([1.0, 2.0]))
        array([1.])
    """
    condition = values_of(condition, "extract", "where(condition, arr, 0) keeps the length")
    return compress(np.ravel(condition), ravel(arr))


def delete(arr: Array, obj: Any, axis: int | None = None) -> Array:
    """The array without some parts along an axis.

    Args:
        arr: The array.
        obj: An int, a slice, or a list of positions to leave out.
        axis: The axis; None takes from the flattened array.

    Examples:
        >>> fnp.delete(np.array([1.0, 2.0, 3.0]), 1)
        array([1., 3.])
    """
    arr = asarray(arr)
    if axis is None:
        arr, axis = ravel(arr), 0
    axis = normalize_axis(axis, len(arr.shape))
    kept = np.zeros(arr.shape[axis], bool)
    kept[np.delete(np.arange(arr.shape[axis]), obj)] = True
    return _where_true(arr, kept, axis)


def ix_(*args: Array) -> tuple[Array, ...]:
    """Index arrays for a grid: `x[fnp.ix_([0, 2], [1])]` takes rows 0 and 2 of column 1.

    Examples:
        >>> np.arange(6.0).reshape(3, 2)[fnp.ix_([0, 2], [1])]
        array([[1.],
               [5.]])
    """
    return np.ix_(*(np.asarray(a) for a in args))
