"""The shape of arrays and the order of their axes and elements.

None of these computes an element; the pullback of each puts the cotangent's elements back where they came from.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from funcgrad.core.errors import ArgumentError, ShapeError, TracedShapeError, UnsupportedError
from funcgrad.core.trace import Tracer, concrete
from funcgrad.core.types import Array, Shape, broadcast_shapes, normalize_axes, normalize_axis, type_of
from funcgrad.numpy._creation import asarray
from funcgrad.ops import broadcast as ops
from funcgrad.ops.index import getitem
from funcgrad.ops.join import concatenate as join
from funcgrad.ops.shape import Flip, Reshape
from funcgrad.ops.shape import move_axis as move_one_axis
from funcgrad.ops.shape import reshape as with_shape
from funcgrad.ops.shape import transpose as reorder

__all__ = [
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "broadcast_arrays",
    "broadcast_to",
    "expand_dims",
    "flip",
    "fliplr",
    "flipud",
    "matrix_transpose",
    "moveaxis",
    "permute_dims",
    "ravel",
    "reshape",
    "roll",
    "rollaxis",
    "rot90",
    "squeeze",
    "swapaxes",
    "transpose",
]


def static_int(value: Any, what: str) -> int:
    """A Python int, where a traced one cannot serve."""
    if isinstance(value, Tracer) and concrete(value) is not None:
        raise TracedShapeError(
            f"{what} depends on {value.tracing.origin(value.variable) or 'a traced value'}; "
            f"shapes must be known while {value.tracing.name} is traced",
            "pass a Python int: make the argument static, or close over it instead of differentiating it",
        )
    return operator.index(value)


def shape_of(shape: Any) -> Shape:
    items = shape if isinstance(shape, tuple | list | np.ndarray) else (shape,)
    return tuple(static_int(n, "a length in the shape") for n in items)


def reshape(a: Array, /, shape: Any, order: str = "C", *, copy: bool | None = None) -> Array:
    """The same elements in another shape.

    Args:
        a: The array.
        shape: The new shape, an int or a tuple; one length may be -1 and follows from the others.
        order: "C" for row-major order of the elements, "F" for column-major.
        copy: True for a copy even where a view would do.

    Raises:
        ShapeError: The number of elements differs.
        TracedShapeError: A length is a traced value.

    Examples:
        >>> fnp.reshape(np.arange(4.0), (2, -1))
        array([[0., 1.],
               [2., 3.]])
    """
    a = asarray(a)
    new = shape_of(shape)
    if -1 in new:
        known = 1
        for n in new:
            known *= n if n != -1 else 1
        if new.count(-1) > 1 or (known == 0 or a.size % known):
            raise ShapeError(
                f"an array of shape {a.shape} ({a.size} elements) cannot be reshaped to {new}",
                "one length may be -1, and the others must divide the number of elements",
            )
        new = tuple(a.size // known if n == -1 else n for n in new)
    if order not in ("C", "A", "F"):
        raise ArgumentError(f"reshape: order={order!r} is not 'C', 'F' or 'A'", "order='C'")
    if not isinstance(a, Tracer):
        Reshape(new).out_type(type_of(a))  # says what is wrong better than NumPy
        return np.asarray(np.reshape(a, new, order=cast(Any, order)), copy=copy)
    if order == "A":
        order = _layout(a)
    if order == "F":
        return reorder(with_shape(reorder(a), new[::-1]))
    return with_shape(a, new)


def ravel(a: Array, order: str = "C") -> Array:
    """The elements in one axis.

    Args:
        a: The array.
        order: "C" for row-major, "F" for column-major.

    Examples:
        >>> fnp.ravel(np.array([[1.0, 2.0], [3.0, 4.0]]))
        array([1., 2., 3., 4.])
    """
    a = asarray(a)
    if not isinstance(a, Tracer):
        return np.ravel(a, cast(Any, order))
    return reshape(a, math.prod(a.shape), _layout(a) if order == "K" else order)


def _layout(a: Tracer) -> str:
    """The order in which the elements of a traced array lie in memory: "C" or "F"."""
    value = concrete(a)
    flags = None if value is None else np.asarray(value).flags
    if flags is None or flags.c_contiguous:
        return "C"
    if flags.f_contiguous:
        return "F"
    raise UnsupportedError(
        "the order of the elements in memory is neither that of rows nor that of columns", "order='C' or order='F'"
    )


def transpose(a: Array, axes: Sequence[int] | None = None) -> Array:
    """The axes in another order, by default reversed.

    Args:
        a: The array.
        axes: Axis `i` of the result is axis `axes[i]` of `a`.

    Raises:
        ShapeError: `axes` does not name each axis once.

    Examples:
        >>> fnp.transpose(np.ones((2, 3, 4)), (2, 0, 1)).shape
        (4, 2, 3)
    """
    a = asarray(a)
    if axes is None:
        return reorder(a)
    ndim = len(a.shape)
    if len(axes) != ndim:
        raise ShapeError(f"transpose: axes={tuple(axes)} for an array with {ndim} axes", "name each axis once")
    return reorder(a, tuple(normalize_axis(axis, ndim) for axis in axes))


def permute_dims(a: Array, axes: Sequence[int] | None = None) -> Array:
    """`transpose`, under the name of the array API standard.

    Examples:
        >>> fnp.permute_dims(np.ones((2, 3))).shape
        (3, 2)
    """
    return transpose(a, axes)


def matrix_transpose(x: Array, /) -> Array:
    """The last two axes exchanged.

    Raises:
        ShapeError: There are fewer than two axes.

    Examples:
        >>> fnp.matrix_transpose(np.ones((5, 2, 3))).shape
        (5, 3, 2)
    """
    if len(x.shape) < 2:
        raise ShapeError(f"matrix_transpose needs two axes or more; the shape is {x.shape}", "x[:, None] adds an axis")
    return swapaxes(x, -1, -2)


def swapaxes(a: Array, axis1: int, axis2: int) -> Array:
    """Two axes exchanged.

    Examples:
        >>> fnp.swapaxes(np.ones((2, 3, 4)), 0, 2).shape
        (4, 3, 2)
    """
    a = asarray(a)
    order = list(range(len(a.shape)))
    i, j = (normalize_axis(axis, len(order)) for axis in (axis1, axis2))
    order[i], order[j] = order[j], order[i]
    return reorder(a, tuple(order))


def moveaxis(a: Array, source: int | Sequence[int], destination: int | Sequence[int]) -> Array:
    """Axes moved to other places; the rest keep their order.

    Args:
        a: The array.
        source: The axes to move.
        destination: Where each of them goes.

    Raises:
        ArgumentError: `source` and `destination` differ in number, or name an axis twice.

    Examples:
        >>> fnp.moveaxis(np.ones((2, 3, 4)), 0, -1).shape
        (3, 4, 2)
    """
    a = asarray(a)
    ndim = len(a.shape)
    sources, targets = (
        [normalize_axis(axis, ndim) for axis in ((axes,) if np.ndim(axes) == 0 else axes)]  # type: ignore[union-attr]
        for axes in (source, destination)
    )
    if len(sources) != len(targets) or len({*sources}) < len(sources) or len({*targets}) < len(targets):
        raise ArgumentError(
            f"moveaxis: source={source} and destination={destination} do not pair up", "name each axis once in both"
        )
    order = [axis for axis in range(ndim) if axis not in sources]
    for target, axis in sorted(zip(targets, sources, strict=True)):
        order.insert(target, axis)
    return reorder(a, tuple(order))


def rollaxis(a: Array, axis: int, start: int = 0) -> Array:
    """One axis moved in front of another; `moveaxis` is easier to read.

    Examples:
        >>> fnp.rollaxis(np.ones((2, 3, 4)), 2).shape
        (4, 2, 3)
    """
    a = asarray(a)
    ndim = len(a.shape)
    source = normalize_axis(axis, ndim)
    target = start + ndim if start < 0 else start  # NumPy's: -1 is in front of the last axis, not behind it
    normalize_axis(target, ndim + 1, "start")
    return move_one_axis(a, source, target - (source < target))


def expand_dims(a: Array, axis: int | Sequence[int]) -> Array:
    """New axes of length 1.

    Args:
        a: The array.
        axis: Where they stand in the result.

    Examples:
        >>> fnp.expand_dims(np.ones(3), 0).shape
        (1, 3)
    """
    a = asarray(a)
    axes = (axis,) if isinstance(axis, int | np.integer) else tuple(axis)
    ndim = len(a.shape) + len(axes)
    places = normalize_axes(axes, ndim)
    rest = iter(a.shape)
    return with_shape(a, tuple(1 if i in places else next(rest) for i in range(ndim)))


def squeeze(a: Array, axis: int | Sequence[int] | None = None) -> Array:
    """Axes of length 1 taken away.

    Args:
        a: The array.
        axis: Which; all of them by default.

    Raises:
        ShapeError: An axis is longer than 1.

    Examples:
        >>> fnp.squeeze(np.ones((1, 3, 1))).shape
        (3,)
    """
    a = asarray(a)
    ones = tuple(i for i, n in enumerate(a.shape) if n == 1)
    axes = ones if axis is None else normalize_axes(tuple(axis) if isinstance(axis, Sequence) else axis, len(a.shape))
    if not set(axes) <= set(ones):
        raise ShapeError(
            f"squeeze: axis={axis} of an array of shape {a.shape} is longer than 1", "squeeze axes of length 1 only"
        )
    return with_shape(a, tuple(n for i, n in enumerate(a.shape) if i not in axes))


def broadcast_to(array: Array, shape: Any, subok: bool = False) -> Array:
    """The array repeated along new leading axes and along axes of length 1. The pullback sums over them.

    Args:
        array: The array.
        shape: The shape of the result.
        subok: Ignored; there for NumPy's signature.

    Raises:
        ShapeError: The array does not broadcast to this shape.

    Examples:
        >>> fnp.broadcast_to(np.array([1.0, 2.0]), (2, 2))
        array([[1., 2.],
               [1., 2.]])
    """
    array, shape = asarray(array), shape_of(shape)
    if isinstance(array, Tracer):
        return ops.broadcast_to(array, shape)
    ops.BroadcastTo(shape).out_type(type_of(array))
    return np.broadcast_to(array, shape)


def broadcast_arrays(*args: Array, subok: bool = False) -> tuple[Array, ...]:
    """The arrays, broadcast to their common shape.

    Raises:
        ShapeError: They have none.

    Examples:
        >>> [x.shape for x in fnp.broadcast_arrays(np.ones((3, 1)), np.ones(2))]
        [(3, 2), (3, 2)]
    """
    arrays = [asarray(a) for a in args]
    try:
        shape = broadcast_shapes(*(a.shape for a in arrays))
    except ValueError:
        raise ShapeError(
            f"broadcast_arrays: shapes {', '.join(str(a.shape) for a in arrays)} do not broadcast",
            "each axis, counted from the last, must be equal or 1",
        ) from None
    return tuple(broadcast_to(a, shape) for a in arrays)


def atleast_1d(*arys: Array) -> Any:
    """The array with one axis or more; several arrays give a tuple.

    Examples:
        >>> fnp.atleast_1d(2.0)
        array([2.])
    """
    return _each([with_shape(a, (1,)) if not a.shape else a for a in map(asarray, arys)])


def atleast_2d(*arys: Array) -> Any:
    """The array with two axes or more: a vector becomes a row; several arrays give a tuple.

    Examples:
        >>> fnp.atleast_2d(np.ones(3)).shape
        (1, 3)
    """
    return _each([with_shape(a, (1,) * (2 - len(a.shape)) + a.shape) for a in map(asarray, arys)])


def atleast_3d(*arys: Array) -> Any:
    """The array with three axes or more; several arrays give a tuple.

    Examples:
        >>> fnp.atleast_3d(np.ones((2, 3))).shape
        (2, 3, 1)
    """
    return _each([with_shape(a, _with_three_axes(a.shape)) for a in map(asarray, arys)])


def _with_three_axes(shape: Shape) -> Shape:
    if len(shape) == 1:
        return (1, *shape, 1)
    return shape + (1,) * (3 - len(shape))


def _each(arrays: list[Array]) -> Any:
    return arrays[0] if len(arrays) == 1 else tuple(arrays)


def flip(m: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """The elements in reverse order along axes, by default all.

    Examples:
        >>> fnp.flip(np.array([1.0, 2.0, 3.0]))
        array([3., 2., 1.])
    """
    m = asarray(m)
    return Flip(normalize_axes(axis, len(m.shape)))(m)


def fliplr(m: Array) -> Array:
    """The columns in reverse order.

    Examples:
        >>> fnp.fliplr(np.array([[1.0, 2.0]]))
        array([[2., 1.]])
    """
    return flip(m, 1)


def flipud(m: Array) -> Array:
    """The rows in reverse order.

    Examples:
        >>> fnp.flipud(np.array([[1.0], [2.0]]))
        array([[2.],
               [1.]])
    """
    return flip(m, 0)


def rot90(m: Array, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Array:
    """The array turned by a right angle, `k` times, in the plane of two axes.

    Examples:
        >>> fnp.rot90(np.array([[1.0, 2.0], [3.0, 4.0]]))
        array([[2., 4.],
               [1., 3.]])
    """
    m = asarray(m)
    first, second = (normalize_axis(axis, len(m.shape)) for axis in axes)
    if first == second:
        raise ArgumentError(f"rot90: axes={axes} must differ", "axes=(0, 1)")
    if k % 4 == 0:
        return getitem(m, ...)
    if k % 4 == 2:
        return flip(m, (first, second))
    return swapaxes(flip(m, second), first, second) if k % 4 == 1 else flip(swapaxes(m, first, second), second)


def roll(a: Array, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Array:
    """The elements shifted along axes; what leaves at the end comes in at the beginning.

    Args:
        a: The array.
        shift: By how many places, for each axis.
        axis: The axes; None rolls the flattened array and restores its shape.

    Examples:
        >>> fnp.roll(np.array([1.0, 2.0, 3.0]), 1)
        array([3., 1., 2.])
    """
    a = asarray(a)
    if axis is None:
        return with_shape(roll(ravel(a), shift, 0), a.shape)
    shifts, axes = np.broadcast_arrays(np.atleast_1d(np.asarray(shift)), np.atleast_1d(np.asarray(axis)))
    for by, along in zip(shifts.tolist(), axes.tolist(), strict=True):
        i = normalize_axis(along, len(a.shape))
        n = a.shape[i]
        cut = -by % n if n else 0
        if cut:
            before = (slice(None),) * i
            a = join([getitem(a, (*before, slice(cut, None))), getitem(a, (*before, slice(None, cut)))], i)
    return a
