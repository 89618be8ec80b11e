"""Joining, splitting and repeating arrays. The pullback of each part is the part of the cotangent that it became."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad.core.errors import ArgumentError, ShapeError
from funcgrad.core.trace import Tracer
from funcgrad.core.types import Array, normalize_axis
from funcgrad.numpy._arguments import no_out
from funcgrad.numpy._creation import asarray
from funcgrad.numpy._shape import atleast_1d, atleast_2d, atleast_3d, expand_dims, ravel, shape_of, static_int
from funcgrad.ops import broadcast as ops
from funcgrad.ops.array import cast
from funcgrad.ops.index import getitem
from funcgrad.ops.join import concatenate as join
from funcgrad.ops.shape import reshape

__all__ = [
    "array_split",
    "column_stack",
    "concat",
    "concatenate",
    "dstack",
    "hsplit",
    "hstack",
    "repeat",
    "split",
    "stack",
    "tile",
    "unstack",
    "vsplit",
    "vstack",
]


def concatenate(
    arrays: Sequence[Array], /, axis: int | None = 0, out: None = None, *, dtype: Any = None, casting: str = "same_kind"
) -> Array:
    """Arrays joined along an axis. The pullback of each part is a slice of the cotangent.

    Args:
        arrays: They agree in all other axes.
        axis: The axis; None joins the flattened arrays.
        out: Not supported.
        dtype: The dtype of the result, by default the common one.
        casting: Which conversions to `dtype` are allowed.

    Raises:
        ShapeError: The shapes do not fit.

    Examples:
        >>> fnp.concatenate([np.array([1.0]), np.array([2.0, 3.0])])
        array([1., 2., 3.])
    """
    no_out("concatenate", out)
    parts = [asarray(a) for a in (arrays if not isinstance(arrays, Tracer) else list(arrays))]
    if not parts:
        raise ShapeError("concatenate needs one array or more", "check that the list is not empty")
    if axis is None:
        parts, axis = [ravel(a) for a in parts], 0
    if dtype is not None:
        parts = [cast(a, dtype, casting) for a in parts]
    return join(parts, normalize_axis(axis, max(1, len(parts[0].shape))))


def stack(
    arrays: Sequence[Array], axis: int = 0, out: None = None, *, dtype: Any = None, casting: str = "same_kind"
) -> Array:
    """Arrays of one shape joined along a new axis.

    Args:
        arrays: The arrays.
        axis: Where the new axis stands.
        out: Not supported.
        dtype: The dtype of the result, by default the common one.
        casting: Which conversions to `dtype` are allowed.

    Raises:
        ShapeError: The shapes differ.

    Examples:
        >>> fnp.stack([np.array([1.0, 2.0]), np.array([3.0, 4.0])], axis=1)
        array([[1., 3.],
               [2., 4.]])
    """
    parts = [asarray(a) for a in arrays]
    shapes = {a.shape for a in parts}
    if len(shapes) > 1:
        raise ShapeError(
            f"stack: the arrays have different shapes, {', '.join(map(str, sorted(shapes)))}",
            "arrays of different lengths: concatenate(arrays)",
        )
    return concatenate([expand_dims(a, axis) for a in parts], axis, out, dtype=dtype, casting=casting)


def vstack(tup: Sequence[Array], *, dtype: Any = None, casting: str = "same_kind") -> Array:
    """Arrays joined along the first axis; vectors count as rows.

    Examples:
        >>> fnp.vstack([np.array([1.0, 2.0]), np.array([3.0, 4.0])])
        array([[1., 2.],
               [3., 4.]])
    """
    return concatenate([atleast_2d(a) for a in tup], 0, dtype=dtype, casting=casting)


def hstack(tup: Sequence[Array], *, dtype: Any = None, casting: str = "same_kind") -> Array:
    """Arrays joined along the second axis; vectors along their only one.

    Examples:
        >>> fnp.hstack([np.array([1.0]), np.array([2.0, 3.0])])
        array([1., 2., 3.])
    """
    parts = [atleast_1d(a) for a in tup]
    return concatenate(parts, 0 if parts and len(parts[0].shape) == 1 else 1, dtype=dtype, casting=casting)


def dstack(tup: Sequence[Array]) -> Array:
    """Arrays joined along the third axis.

    Examples:
        >>> fnp.dstack([np.ones((2, 3)), np.ones((2, 3))]).shape
        (2, 3, 2)
    """
    return concatenate([atleast_3d(a) for a in tup], 2)


def column_stack(tup: Sequence[Array]) -> Array:
    """Vectors as the columns of a matrix; matrices are joined as they are.

    Examples:
        >>> fnp.column_stack([np.array([1.0, 2.0]), np.array([3.0, 4.0])])
        array([[1., 3.],
               [2., 4.]])
    """
    parts = [asarray(a) for a in tup]
    return concatenate([expand_dims(atleast_1d(a), 1) if len(a.shape) < 2 else a for a in parts], 1)


def array_split(ary: Array, indices_or_sections: Any, axis: int = 0) -> list[Array]:
    """The array cut along an axis, into parts whose lengths may differ by one.

    Args:
        ary: The array.
        indices_or_sections: The number of parts, or the places to cut at.
        axis: The axis.

    Examples:
        >>> fnp.array_split(np.arange(3.0), 2)
        [array([0., 1.]), array([2.])]
    """
    ary = asarray(ary)
    axis = normalize_axis(axis, len(ary.shape))
    n = ary.shape[axis]
    if np.ndim(indices_or_sections) == 0:
        parts = static_int(indices_or_sections, "the number of parts")
        if parts <= 0:
            raise ArgumentError(f"split into {parts} parts", "the number of parts must be positive")
        cuts = [sum(n // parts + (j < n % parts) for j in range(i)) for i in range(1, parts)]
    else:
        cuts = [static_int(i, "a place to cut at") for i in indices_or_sections]
    before = (slice(None),) * axis
    bounds = zip([0, *cuts], [*cuts, n], strict=True)
    return [getitem(ary, (*before, slice(start, stop))) for start, stop in bounds]


def split(ary: Array, indices_or_sections: Any, axis: int = 0) -> list[Array]:
    """The array cut along an axis, into equal parts or at given places.

    Args:
        ary: The array.
        indices_or_sections: The number of parts, or the places to cut at.
        axis: The axis.

    Raises:
        ShapeError: The axis does not divide into that many equal parts.

    Examples:
        >>> fnp.split(np.arange(4.0), 2)
        [array([0., 1.]), array([2., 3.])]
    """
    ary = asarray(ary)
    n = ary.shape[normalize_axis(axis, len(ary.shape))]
    if np.ndim(indices_or_sections) == 0 and indices_or_sections > 0 and n % indices_or_sections:
        raise ShapeError(
            f"split: an axis of length {n} does not divide into {indices_or_sections} equal parts",
            "array_split allows parts of different lengths",
        )
    return array_split(ary, indices_or_sections, axis)


def hsplit(ary: Array, indices_or_sections: Any) -> list[Array]:
    """`split` along the second axis, or the only one.

    Examples:
        >>> [part.shape for part in fnp.hsplit(np.ones((2, 4)), 2)]
        [(2, 2), (2, 2)]
    """
    return split(ary, indices_or_sections, 0 if len(np.shape(ary)) == 1 else 1)


def vsplit(ary: Array, indices_or_sections: Any) -> list[Array]:
    """`split` along the first axis of an array with two or more.

    Examples:
        >>> [part.shape for part in fnp.vsplit(np.ones((4, 2)), 2)]
        [(2, 2), (2, 2)]
    """
    if np.ndim(ary) < 2:
        raise ShapeError(
            f"vsplit needs two axes or more; the shape is {np.shape(ary)}", "split(x, parts) cuts a vector"
        )
    return split(ary, indices_or_sections, 0)


def unstack(x: Array, /, *, axis: int = 0) -> tuple[Array, ...]:
    """The array's parts along an axis, which disappears.

    Examples:
        >>> fnp.unstack(np.array([[1.0, 2.0], [3.0, 4.0]]))
        (array([1., 2.]), array([3., 4.]))
    """
    x = asarray(x)
    axis = normalize_axis(axis, len(x.shape))
    before = (slice(None),) * axis
    return tuple(getitem(x, (*before, i)) for i in range(x.shape[axis]))


def tile(A: Array, reps: int | Sequence[int]) -> Array:
    """The whole array repeated along each axis.

    Args:
        A: The array.
        reps: How often, for each axis; a single number counts for the last.

    Examples:
        >>> fnp.tile(np.array([1.0, 2.0]), 2)
        array([1., 2., 1., 2.])
    """
    A = asarray(A)
    counts = shape_of(reps)
    ndim = max(len(counts), len(A.shape))
    counts = (1,) * (ndim - len(counts)) + counts
    shape = (1,) * (ndim - len(A.shape)) + A.shape
    interleaved = reshape(A, tuple(n for length in shape for n in (1, length)))
    spread = ops.broadcast_to(interleaved, tuple(n for pair in zip(counts, shape, strict=True) for n in pair))
    y = reshape(spread, tuple(c * n for c, n in zip(counts, shape, strict=True)))
    return y.copy() if y is A else y


def repeat(a: Array, repeats: int | Sequence[int], axis: int | None = None) -> Array:
    """Each element repeated.

    Args:
        a: The array.
        repeats: How often: a number, or one for each element along the axis.
        axis: The axis; None repeats the elements of the flattened array.

    Raises:
        TracedShapeError: `repeats` is a traced value: the length of the result would depend on it.

    Examples:
        >>> fnp.repeat(np.array([1.0, 2.0]), 2)
        array([1., 1., 2., 2.])
    """
    if isinstance(repeats, Tracer):
        static_int(repeats, "repeats")
    a = asarray(a)
    if axis is None:
        a, axis = ravel(a), 0
    axis = normalize_axis(axis, len(a.shape))
    places = np.repeat(np.arange(a.shape[axis]), repeats)
    return getitem(a, (*(slice(None),) * axis, places))


concat = concatenate
"""The same as `concatenate`."""
