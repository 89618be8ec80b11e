"""Slices whose place is computed: their size belongs to the program, their start is a value.

A start is clamped so that the slice lies inside the array, since a compiled program could not take a shorter one; a
negative start counts from the end. Reading and writing a slice are each other's pullback: the cotangent of what was
read is written into zeros, and what was written over has no part in the result.

Source: the operations and their names are those of XLA, https://openxla.org/xla/operation_semantics#dynamicslice.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from funcgrad.core.errors import DTypeError, ShapeError
from funcgrad.core.kinds import IndexMap, Scatter
from funcgrad.core.primitive import Cotangent, Masked, Wanted
from funcgrad.core.trace import Tracer
from funcgrad.core.types import Array, ArrayType, Shape, Typed, normalize_axis, show_long
from funcgrad.core.views import Places, Position, View, Writing, Written, contiguous
from funcgrad.ops import elementwise as ew
from funcgrad.ops.broadcast import batch_length, stacked
from funcgrad.ops.entries import ARRAY, Entries, advanced_place
from funcgrad.ops.index import GetItem, Scattered
from funcgrad.ops.pointwise import convert, only_where, select
from funcgrad.ops.scatter import ScatterSet, held_as
from funcgrad.ops.shape import inverse, reshape, transpose


@final
@dataclass(frozen=True, slots=True)
class DynamicSlice(IndexMap):
    """The slice of `x` with `sizes` elements along its axes that begins at `starts`, or as close to it as fits."""

    name: ClassVar[str] = "dynamic_slice"
    sizes: Shape

    def out_type(self, x: Typed, *starts: Typed) -> ArrayType:
        _check(self.name, x, self.sizes, starts)
        return ArrayType(self.sizes, x.dtype)

    def impl(self, x: Array, *starts: Array) -> Array:
        return x[_box(x.shape, self.sizes, starts)]

    def taken(self, *shapes: Shape) -> Places:
        return _places(shapes[0], self.sizes, 1)

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (0, 1)

    def vjp(self, wanted: Wanted, g: Array, y: None, x: None, *starts: Array) -> tuple[Cotangent | None, ...]:
        nothing = (None,) * len(starts)
        (w, *_) = wanted
        if w is None:
            return (None, *nothing)
        if not any(isinstance(start, Tracer) for start in starts):
            # many slices of one array are collected and added into one buffer
            return (Scattered(w, [(_box(w.shape, self.sizes, starts), (), g, False)]), *nothing)
        return (DynamicUpdateSlice(self.sizes)(np.zeros(w.shape, g.dtype), g, *starts), *nothing)

    def batch(self, batched: tuple[bool, ...], x: Array, *starts: Array) -> Array:
        n = batch_length(batched, (x, *starts))
        shape = x.shape[batched[0] :]
        starts, own = _settled(shape, self.sizes, starts, batched[1:])
        if not own:
            return DynamicSlice((n, *self.sizes))(*stacked(batched[:1], (x,), n), 0, *starts)
        entries, arrays, order = _positions(shape, self.sizes, starts, n, batched[0])
        return transpose(GetItem(entries)(x, *arrays), order)


@final
@dataclass(frozen=True, slots=True)
class DynamicUpdateSlice(Scatter):
    """A copy of `x` with the slice of `sizes` elements that begins at `starts` replaced by `v`."""

    name: ClassVar[str] = "dynamic_update_slice"
    fresh = True
    sizes: Shape

    def out_type(self, x: Typed, v: Typed, *starts: Typed) -> ArrayType:
        _check(self.name, x, v.shape, starts)
        if v.shape != self.sizes:
            raise ShapeError(f"{self.name}: the update has shape {v.shape}, not {self.sizes}")
        return ArrayType(x.shape, x.dtype)

    def impl(self, x: Array, v: Array, *starts: Array) -> Array:
        return self.overwrite(np.array(x), v, *starts)

    def overwrite(self, x: Array, v: Array, *starts: Array) -> Array:
        if v.shape != self.sizes:
            raise ValueError("the update is not of the size of the slice")
        x[_box(x.shape, self.sizes, starts)] = v
        return x

    def written(self, *shapes: Shape) -> Written:
        return Written(0, (Writing(1, _places(shapes[0], self.sizes, 2)),))

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (0, 1, 2)

    def vjp(self, wanted: Wanted, g: Array, y: None, x: None, v: None, *starts: Array) -> tuple[Cotangent | None, ...]:
        w_x, w_v, *_ = wanted
        # first, so that nobody reads `g` any more when it is written to
        ct_v = None if w_v is None else DynamicSlice(self.sizes)(g, *starts)
        ct_x = None if w_x is None else self._untouched(g, starts)
        return (ct_x, ct_v, *(None,) * len(starts))

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Any, *xs: Array) -> tuple[Cotangent | None, ...]:
        ct_x, ct_v, *nothing = self.vjp(wanted, g.value, y, *xs)
        mask = None if ct_v is None else DynamicSlice(self.sizes)(g.mask, *xs[2:])
        return (
            None if ct_x is None else only_where(ct_x, g.mask),
            None if ct_v is None else only_where(ct_v, mask),
            *nothing,
        )

    def _untouched(self, g: Array, starts: tuple[Array, ...]) -> Masked:
        """The cotangent of `x`: zero where it is written over."""
        nothing = np.broadcast_to(np.zeros((), g.dtype), self.sizes)
        everywhere, nowhere = np.broadcast_to(np.True_, g.shape), np.broadcast_to(np.False_, self.sizes)
        return Masked(self(g, nothing, *starts), self(everywhere, nowhere, *starts))

    def batch(self, batched: tuple[bool, ...], x: Array, v: Array, *starts: Array) -> Array:
        n = batch_length(batched, (x, v, *starts))
        x, v = stacked(batched[:2], (x, v), n)
        starts, own = _settled(x.shape[1:], self.sizes, starts, batched[2:])
        if not own:
            return DynamicUpdateSlice((n, *self.sizes))(x, v, 0, *starts)
        entries, arrays, order = _positions(x.shape[1:], self.sizes, starts, n, True)
        return ScatterSet(entries)(x, transpose(v, inverse(order)), *arrays)


def _box(shape: Shape, sizes: Shape, starts: Sequence[Array]) -> Entries:
    """The slice as an index, for starts that are known. What does not fit is a `ValueError`: see `_check`."""
    box = []
    for n, size, start in zip(shape, sizes, starts, strict=True):
        i = operator.index(start)
        last = n - size
        if last < 0 or size < 0 or isinstance(start, bool):
            raise ValueError("the slice does not fit, or the start is no position")
        i = max(0, min(i + n if i < 0 else i, last))
        box.append(slice(i, i + size))
    return tuple(box)


def _places(shape: Shape, sizes: Shape, first: int) -> Places:
    """The slice in a buffer; operand `first` is the start along axis 0, and those along the other axes follow."""
    strides = contiguous(shape).strides
    everywhere = contiguous(()).broadcast(sizes)
    positions = [
        Position(first + axis, everywhere, n, strides[axis], True, size)
        for axis, (n, size) in enumerate(zip(shape, sizes, strict=True))
        if size < n
    ]
    return Places(View(sizes, strides), tuple(positions))


def _settled(
    shape: Shape, sizes: Shape, starts: Sequence[Array], batched: Sequence[bool]
) -> tuple[tuple[Array, ...], bool]:
    """The starts, 0 where the slice is as long as the axis; and whether any other differs from row to row."""
    whole = [size == m for size, m in zip(sizes, shape, strict=True)]
    own = any(b and not w for b, w in zip(batched, whole, strict=True))
    return tuple(0 if w else start for start, w in zip(starts, whole, strict=True)), own


def _positions(
    shape: Shape, sizes: Shape, starts: Sequence[Array], n: int, rows: bool
) -> tuple[Entries, tuple[Array, ...], tuple[int, ...]]:
    """The index that takes a slice of its own for each element of a batch: index arrays, but `:` for a whole axis.

    Args:
        shape: That of `x`, without a batch axis.
        sizes: Those of the slice.
        starts: Scalars, or vectors of length `n`.
        n: The length of the batch.
        rows: True if `x` has a batch axis.

    Returns:
        The entries of the index, its arrays, and the order of axes that puts those of the result in their places,
        behind the batch axis.
    """
    moving = [axis for axis, (m, size) in enumerate(zip(shape, sizes, strict=True)) if size != m]
    arrays = [np.arange(n).reshape((n, *(1,) * len(moving)))] if rows else []
    for j, axis in enumerate(moving):
        start = _clamped(starts[axis], shape[axis], sizes[axis])
        offsets = np.arange(sizes[axis]).reshape((sizes[axis], *(1,) * (len(moving) - 1 - j)))
        arrays.append((reshape(start, (n, *(1,) * len(moving))) if start.shape else start) + offsets)
    entries = (*(ARRAY,) * rows, *(ARRAY if axis in moving else slice(None) for axis in range(len(shape))))
    place, _ = advanced_place(entries)
    whole = [axis for axis in range(len(shape)) if axis not in moving]
    block = range(place, place + 1 + len(moving))
    rest = [i for i in range(1 + len(shape)) if i not in block]
    found = dict(zip((*moving, *whole), (*block[1:], *rest), strict=True))
    return entries, tuple(arrays), (place, *(found[axis] for axis in range(len(shape))))


def _clamped(start: Array, n: int, size: int) -> Array:
    start = convert(start, np.dtype(np.int64))
    return ew.minimum(ew.maximum(select(start < 0, start + n, start), 0), n - size)


def _check(name: str, x: Typed, sizes: Shape, starts: Sequence[Typed]) -> None:
    """Refuse a slice that does not fit, and starts that are no positions."""
    if len(sizes) != len(x.shape) or any(not 0 <= size <= n for size, n in zip(sizes, x.shape, strict=True)):
        raise ShapeError(
            f"{name}: a slice of shape {sizes} does not fit into an array of shape {x.shape}",
            f"give one size for each of the {len(x.shape)} axes, at most as large as the axis",
        )
    if len(starts) != len(x.shape):
        raise ShapeError(
            f"{name}: {len(starts)} start indices for an array of shape {x.shape}: {len(x.shape)} axes",
            f"give one start for each axis: ({', '.join(['0'] * len(x.shape))}{',' * (len(x.shape) == 1)})",
        )
    for axis, start in enumerate(starts):
        if start.shape or start.dtype.kind not in "iu":
            raise DTypeError(
                f"{name}: the start index of axis {axis} is {show_long(start)}, not an integer scalar",
                "convert it first: start.astype(int)" if not start.shape else "take one element of it: start[0]",
            )


def _array(x: Array) -> Array:
    return x if isinstance(x, Tracer) else np.asarray(x)


def _scalars(name: str, starts: Array | Sequence[Array]) -> list[Array]:
    """The start indices one by one."""
    if len(getattr(starts, "shape", (0,))) != 1 or not hasattr(starts, "__iter__"):
        raise ShapeError(
            f"{name}: start_indices must be a sequence or a vector of integers, one for each axis, got {starts!r}",
            "(start,) for an array with one axis",
        )
    return list(starts)


def _sizes(sizes: Sequence[int]) -> Shape:
    if not hasattr(sizes, "__iter__"):
        raise ShapeError(f"dynamic_slice: slice_sizes must be a sequence of ints, got {sizes!r}", f"({sizes!r},)")
    return tuple(map(operator.index, sizes))


def _whole(x: Array, axis: int, start: Array) -> list[Array]:
    """The starts of a slice that is whole along all axes but one."""
    starts: list[Array] = [0] * len(x.shape)
    starts[axis] = start
    return starts


def dynamic_slice(operand: Array, start_indices: Array | Sequence[Array], slice_sizes: Sequence[int]) -> Array:
    """The slice of an array that begins where values say; its size is fixed.

    Where `x[i:i + n]` would need `i` while the function is traced, `dynamic_slice(x, (i,), (n,))` does not.

    Args:
        operand: An array.
        start_indices: One integer for each axis, traced or not: a sequence of scalars or a vector. A negative one
            counts from the end. Then each is clamped so that the slice lies inside the array: with `n` elements along
            an axis the last start is `n - size`.
        slice_sizes: The length of the slice along each axis: Python ints.

    Returns:
        An array of shape `slice_sizes`.

    Raises:
        ShapeError: The slice is larger than the array, or there is not one start and one size for each axis.
        DTypeError: A start is not an integer scalar.

    Examples:
        >>> from funcgrad import lax
        >>> x = np.arange(12.0).reshape(3, 4)
        >>> lax.dynamic_slice(x, (1, -2), (2, 2))
        array([[ 6.,  7.],
               [10., 11.]])
        >>> lax.dynamic_slice(np.arange(5), (4,), (3,))
        array([2, 3, 4])
    """
    x = _array(operand)
    return DynamicSlice(_sizes(slice_sizes))(x, *_scalars("dynamic_slice", start_indices))


def dynamic_update_slice(operand: Array, update: Array, start_indices: Array | Sequence[Array]) -> Array:
    """A copy of an array in which a slice, which begins where values say, is replaced.

    Args:
        operand: An array.
        update: What to write, with as many axes as `operand`.
        start_indices: As for `dynamic_slice`: the update is moved until it lies inside the array.

    Returns:
        An array of the shape and dtype of `operand`.

    Raises:
        ShapeError: The update is larger than the array, or there is not one start for each axis.
        DTypeError: A start is not an integer scalar, or the array cannot hold the values.

    Examples:
        >>> from funcgrad import lax
        >>> lax.dynamic_update_slice(np.zeros(5), np.ones(2), (1,))
        array([0., 1., 1., 0., 0.])
        >>> lax.dynamic_update_slice(np.zeros(5), np.ones(2), (4,))
        array([0., 0., 0., 1., 1.])
    """
    x, v = _array(operand), _array(update)
    v = held_as(x, v, "dynamic_update_slice({x}, v, starts)")
    return DynamicUpdateSlice(v.shape)(x, v, *_scalars("dynamic_update_slice", start_indices))


def dynamic_index_in_dim(operand: Array, index: Array, axis: int = 0, keepdims: bool = True) -> Array:
    """`dynamic_slice` of one element along one axis, and of all along the others.

    Args:
        operand: An array.
        index: An integer scalar, traced or not. It is clamped, where `x[index]` raises an `IndexError`.
        axis: The axis along which `index` counts.
        keepdims: False to drop the axis, which has length 1.

    Raises:
        AxisError: `operand` has no such axis.
        DTypeError: `index` is not an integer scalar.

    Examples:
        >>> from funcgrad import lax
        >>> lax.dynamic_index_in_dim(np.arange(6).reshape(2, 3), 1)
        array([[3, 4, 5]])
        >>> lax.dynamic_index_in_dim(np.arange(6).reshape(2, 3), -1, axis=1, keepdims=False)
        array([2, 5])
    """
    x = _array(operand)
    axis = normalize_axis(axis, len(x.shape))
    y = dynamic_slice_in_dim(x, index, 1, axis)
    return y if keepdims else reshape(y, (*y.shape[:axis], *y.shape[axis + 1 :]))


def dynamic_slice_in_dim(operand: Array, start_index: Array, slice_size: int, axis: int = 0) -> Array:
    """`dynamic_slice` along one axis, and of all elements along the others.

    Args:
        operand: An array.
        start_index: An integer scalar, traced or not, as for `dynamic_slice`.
        slice_size: The length of the slice along the axis.
        axis: The axis.

    Raises:
        AxisError: `operand` has no such axis.
        ShapeError: The slice is larger than the array.
        DTypeError: `start_index` is not an integer scalar.

    Examples:
        >>> from funcgrad import lax
        >>> lax.dynamic_slice_in_dim(np.arange(6).reshape(2, 3), 1, 2, axis=1)
        array([[1, 2],
               [4, 5]])
    """
    x = _array(operand)
    axis = normalize_axis(axis, len(x.shape))
    sizes = (*x.shape[:axis], operator.index(slice_size), *x.shape[axis + 1 :])
    return DynamicSlice(sizes)(x, *_whole(x, axis, start_index))


def dynamic_update_slice_in_dim(operand: Array, update: Array, start_index: Array, axis: int) -> Array:
    """`dynamic_update_slice` along one axis; along the others the update begins at 0.

    Args:
        operand: An array.
        update: What to write, with as many axes as `operand`.
        start_index: An integer scalar, traced or not, as for `dynamic_slice`.
        axis: The axis.

    Raises:
        AxisError: `operand` has no such axis.
        ShapeError: The update is larger than the array.
        DTypeError: `start_index` is not an integer scalar, or the array cannot hold the values.

    Examples:
        >>> from funcgrad import lax
        >>> lax.dynamic_update_slice_in_dim(np.zeros((2, 3)), np.ones((2, 1)), 2, axis=1)
        array([[0., 0., 1.],
               [0., 0., 1.]])
    """
    x = _array(operand)
    return dynamic_update_slice(x, update, _whole(x, normalize_axis(axis, len(x.shape)), start_index))


def dynamic_update_index_in_dim(operand: Array, update: Array, index: Array, axis: int) -> Array:
    """A copy of an array with what stands at one index of one axis replaced.

    Args:
        operand: An array.
        update: What to write, with or without the axis.
        index: An integer scalar, traced or not. It is clamped, where `x.at[index]` raises an `IndexError`.
        axis: The axis along which `index` counts.

    Raises:
        AxisError: `operand` has no such axis.
        ShapeError: The update is larger than the array.
        DTypeError: `index` is not an integer scalar, or the array cannot hold the values.

    Examples:
        >>> from funcgrad import lax
        >>> lax.dynamic_update_index_in_dim(np.zeros((2, 3)), np.ones(3), 1, axis=0)
        array([[0., 0., 0.],
               [1., 1., 1.]])
    """
    x, v = _array(operand), _array(update)
    axis = normalize_axis(axis, len(x.shape))
    if len(v.shape) == len(x.shape) - 1:
        v = reshape(v, (*v.shape[:axis], 1, *v.shape[axis:]))
    return dynamic_update_slice_in_dim(x, v, index, axis)
