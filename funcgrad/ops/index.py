"""Indexing: reading with `x[index]`, and its adjoint, the scatter-add.

A boolean mask becomes the positions of its True elements. The cotangent of `x[index]` stays lazy: all those of one `x`
are collected and scattered into one buffer when it is needed, so that n uses of `x[i]` cost O(n), at every order of
differentiation.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn, final

import numpy as np

from funcgrad.core.errors import OutOfBoundsError, ShapeError
from funcgrad.core.kinds import IndexMap, Scatter
from funcgrad.core.primitive import Cotangent, LazyCotangent, Masked, Primitive, Structured, Wanted, masked_linear
from funcgrad.core.trace import Tracer, concrete
from funcgrad.core.types import Array, ArrayType, DType, Shape, Typed
from funcgrad.core.views import Places, View, Writing, Written, contiguous
from funcgrad.ops.broadcast import batch_length, stacked
from funcgrad.ops.entries import (
    ARRAY,
    Entries,
    advanced_place,
    check_entries,
    entry_key,
    fill,
    places,
    result_shape,
    show_index,
)
from funcgrad.ops.refusals import refuse_mask
from funcgrad.ops.shape import inverse, move_axis, reshape, transpose


class Indexed(Primitive):
    """What reading and writing at an index share: equality by content, and how it prints."""

    __slots__ = ()
    entries: Entries

    def __hash__(self) -> int:
        return hash((type(self), tuple(map(entry_key, self.entries))))

    def indexed(self, args: Any) -> Shape:
        """The shape of the array that the index is one of."""
        return np.shape(args[0])

    def explain(self, error: Exception, args: Any) -> NoReturn:
        try:
            Primitive.explain(self, error, args)
        except IndexError as plain:
            if isinstance(plain, OutOfBoundsError):
                raise
            raise OutOfBoundsError(
                f"x[{show_index(self.entries)}] of an array of shape {self.indexed(args)}: {plain}",
                "indices run from -n to n-1 along an axis of length n; numpy.clip(i, 0, n - 1) keeps one inside",
            ) from None


@final
@dataclass(frozen=True, slots=True)
class GetItem(Indexed, IndexMap):
    """`x[index]`, for any index that NumPy takes.

    Args:
        entries: Ints, slices, None, and `ARRAY` for each further operand.
        selects: True if the operands came from a boolean mask: what the mask leaves out is structurally zero in the
            cotangent, as it is for `where`.
    """

    name: ClassVar[str] = "getitem"
    entries: Entries
    selects: bool = False

    __hash__ = Indexed.__hash__

    def out_type(self, x: Typed, *arrays: Typed) -> ArrayType:
        check_entries(self.entries, x.shape)
        return ArrayType(result_shape(x.shape, self.entries, [a.shape for a in arrays]), x.dtype)

    def impl(self, x: Array, *arrays: Array) -> Array:
        return x[fill(self.entries, arrays)]

    def view(self, x: View) -> View | None:
        return None if ARRAY in self.entries else places(self.entries, x).view

    def taken(self, *shapes: Shape) -> Places:
        return places(self.entries, contiguous(shapes[0]), 1, shapes[1:])

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (0, 1)

    def vjp(self, wanted: Wanted, g: Array, y: None, x: None, *arrays: Array) -> tuple[Cotangent | None, ...]:
        nothing = (None,) * len(arrays)
        if wanted[0] is None:
            return (None, *nothing)
        update = (self.entries, arrays, g, self.selects)
        return (Scattered(wanted[0], [update]), *nothing)

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Any, *xs: Array) -> tuple[Cotangent | None, ...]:
        if wanted[0] is None:
            return (None,) * len(xs)
        mask = IndexAdd(wanted[0].shape, (self.entries,), (len(xs) - 1,))(*xs[1:], g.mask) != 0
        value = IndexAdd(wanted[0].shape, (self.entries,), (len(xs) - 1,))(*xs[1:], g.value)
        return (Masked(value, mask), *(None,) * (len(xs) - 1))

    def batch(self, batched: tuple[bool, ...], x: Array, *arrays: Array) -> Array:
        n = batch_length(batched, (x, *arrays))
        if not any(batched[1:]) and (not arrays or advanced_place(self.entries)[1]):
            return GetItem((slice(None), *self.entries), self.selects)(x, *arrays)
        if not batched[0]:
            # one array for all: nothing is repeated, and the batch axis stands where those of the index arrays do
            y = GetItem(self.entries, self.selects)(x, *_aligned(arrays, batched[1:]))
            return move_axis(y, advanced_place(self.entries)[0], 0)
        entries, arrays, order = batch_positions(n, self.entries, arrays, batched[1:], x.shape[1:])
        return transpose(GetItem(entries, self.selects)(x, *arrays), order)

    def show(self) -> str:
        return f"getitem[{show_index(self.entries)}]"


def _depth(arrays: tuple[Array, ...], batched: tuple[bool, ...]) -> int:
    """How many axes the index arrays of one example broadcast to."""
    return max((len(a.shape) - b for a, b in zip(arrays, batched, strict=True)), default=0)


def _aligned(arrays: tuple[Array, ...], batched: tuple[bool, ...]) -> tuple[Array, ...]:
    """The index arrays with axes of length 1 behind the batch axis, where one example has fewer axes than another."""
    depth = _depth(arrays, batched)
    return tuple(
        reshape(a, (a.shape[0], *(1,) * (depth + 1 - len(a.shape)), *a.shape[1:])) if b else a
        for a, b in zip(arrays, batched, strict=True)
    )


def batch_positions(
    n: int, entries: Entries, arrays: tuple[Array, ...], batched: tuple[bool, ...], shape: Shape
) -> tuple[Entries, tuple[Array, ...], tuple[int, ...]]:
    """The index with the batch axis as one more index array, so that each element of the batch has its own positions.

    The axes of the index arrays then come first. `order` puts the result's axes where the unbatched result has them,
    behind the batch axis.
    """
    depth = _depth(arrays, batched)
    aligned = _aligned(arrays, batched)
    rows = np.arange(n).reshape((n, *(1,) * depth))
    place, _ = advanced_place(entries)
    rest = len(result_shape(shape, entries, [a.shape[b:] for a, b in zip(arrays, batched, strict=True)])) - depth
    behind = list(range(1 + depth, 1 + depth + rest))
    order = (0, *behind[:place], *range(1, 1 + depth), *behind[place:])
    return (ARRAY, *entries), (rows, *aligned), order


@final
@dataclass(frozen=True, slots=True)
class IndexAdd(Indexed, Scatter):
    """Zeros of a shape, with arrays added at indices: the adjoint of any number of `getitem`s of one array.

    The operands are, for each index, its position arrays and then the values. Equal positions add up.

    Args:
        shape: The shape of the result.
        indices: The entries of each index.
        counts: How many position arrays each index has.
        onto: True if the first operand is an array to add to, in place of zeros.
    """

    name: ClassVar[str] = "index_add"
    fresh = True
    shape: Shape
    indices: tuple[Entries, ...]
    counts: tuple[int, ...]
    onto: bool = False

    @property
    def entries(self) -> Entries:  # type: ignore[override]  # all of them, for printing and hashing
        return tuple(entry for entries in self.indices for entry in entries)

    __hash__ = Indexed.__hash__

    def split(self, operands: tuple[Any, ...]) -> list[tuple[Entries, tuple[Any, ...], Any]]:
        """The operands as a list of (entries, arrays, values)."""
        out = []
        start = int(self.onto)
        for entries, count in zip(self.indices, self.counts, strict=True):
            out.append((entries, operands[start : start + count], operands[start + count]))
            start += count + 1
        return out

    def out_type(self, *operands: Typed) -> ArrayType:
        updates = self.split(operands)
        for entries, arrays, g in updates:
            check_entries(entries, self.shape)
            expected = result_shape(self.shape, entries, [a.shape for a in arrays])
            if g.shape != expected:
                raise ShapeError(f"index_add of values of shape {g.shape} at an index that takes {expected}")
        if self.onto and operands[0].shape != self.shape:
            raise ShapeError(f"index_add onto an array of shape {operands[0].shape}, not {self.shape}")
        return ArrayType(self.shape, operands[0].dtype if self.onto else _common_dtype(updates))

    def indexed(self, args: Any) -> Shape:
        return self.shape

    def impl(self, *operands: Array) -> Array:
        if self.onto:
            return self.overwrite(np.array(operands[0]), *operands[1:])
        return self._add(np.zeros(self.shape, _common_dtype(self.split(operands))), operands)

    def overwrite(self, x: Array, *rest: Array) -> Array:
        return self._add(x, (x, *rest)) if self.onto else self.impl(x, *rest)

    def written(self, *shapes: Shape) -> Written:
        writings = []
        first = int(self.onto)
        for entries, arrays, _ in self.split(shapes):
            where = places(entries, contiguous(self.shape), first, arrays)
            first += len(arrays) + 1
            writings.append(Writing(first - 1, where, np.add))
        return Written(0 if self.onto else None, tuple(writings))

    def _add(self, y: Array, operands: tuple[Array, ...]) -> Array:
        for entries, arrays, g in self.split(operands):
            if any(np.ndim(a) for a in arrays):
                np.add.at(y, fill(entries, arrays), g)
            else:  # one position: nothing to add up, and several times as fast
                y[fill(entries, arrays)] += g
        return y

    def unread(self, wanted: Wanted) -> Sequence[int]:
        ends = itertools.accumulate((count + 1 for count in self.counts), initial=int(self.onto))
        return (0, *range(1, 1 + self.onto), *itertools.islice(ends, 1, None))

    def vjp(self, wanted: Wanted, g: Array, y: None, *operands: Array) -> tuple[Array | None, ...]:
        out: list[Array | None] = [None if w is None else g for w in wanted[: int(self.onto)]]
        for (entries, arrays, _), (_, _, w) in zip(self.split(operands), self.split(tuple(wanted)), strict=True):
            out += [None] * len(arrays)
            out.append(None if w is None else GetItem(entries)(g, *arrays))
        return tuple(out)

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Any, *xs: Array) -> tuple[Cotangent | None, ...]:
        return masked_linear(self, wanted, g, y, xs)

    def batch(self, batched: tuple[bool, ...], *operands: Array) -> Array:
        n = batch_length(batched, operands)
        indices: list[Entries] = []
        flat: list[Array] = [*stacked(batched[: int(self.onto)], operands[: int(self.onto)], n)]
        for (entries, arrays, g), (_, array_flags, g_flag) in zip(
            self.split(operands), self.split(batched), strict=True
        ):
            (g,) = stacked((g_flag,), (g,), n)
            if arrays:
                entries, arrays, order = batch_positions(n, entries, arrays, array_flags, self.shape)
                g = transpose(g, inverse(order))
            else:
                entries = (slice(None), *entries)
            indices.append(entries)
            flat += [*arrays, g]
        counts = tuple(c + (entries[0] is ARRAY) for c, entries in zip(self.counts, indices, strict=True))
        return IndexAdd((n, *self.shape), tuple(indices), counts, self.onto)(*flat)

    def show(self) -> str:
        onto = "onto " if self.onto else ""
        return f"index_add[{onto}{'; '.join(map(show_index, self.indices))}]"


def _common_dtype(updates: list[tuple[Entries, tuple[Any, ...], Any]]) -> DType:
    dtypes = {g.dtype for _, _, g in updates}
    dtype = dtypes.pop() if len(dtypes) == 1 else np.result_type(*dtypes)
    return np.dtype(np.int64) if dtype.kind == "b" else dtype


class Scattered(LazyCotangent):
    """The cotangent of an array that was indexed: the updates, not yet scattered, and what came from other uses."""

    __slots__ = ("of", "updates", "whole")

    def __init__(self, of: Typed, updates: list[tuple[Entries, tuple[Array, ...], Array, bool]]) -> None:
        self.of = of
        self.updates = updates
        self.whole: Array | None = None

    def dense(self) -> Array | Masked:
        operands: list[Array] = []
        for _, arrays, g, _ in self.updates:
            operands += [*arrays, g]
        indices = tuple(entries for entries, _, _, _ in self.updates)
        counts = tuple(len(arrays) for _, arrays, _, _ in self.updates)
        if self.whole is not None:
            dtype = np.result_type(*(g.dtype for _, _, g, _ in self.updates))
            if self.whole.dtype == dtype:
                return IndexAdd(self.of.shape, indices, counts, True)(self.whole, *operands)
            return self.whole + IndexAdd(self.of.shape, indices, counts)(*operands)
        y = IndexAdd(self.of.shape, indices, counts)(*operands)
        if not all(selects for _, _, _, selects in self.updates):
            return y
        ones: list[Array] = []
        for _, arrays, g, _ in self.updates:
            ones += [*arrays, np.ones(g.shape, bool)]
        return Masked(y, IndexAdd(self.of.shape, indices, counts)(*ones) != 0)

    def plus(self, other: Cotangent) -> LazyCotangent | None:
        if isinstance(other, Scattered):
            self.updates += other.updates
            other = other.whole
        elif isinstance(other, Masked) and not all(selects for _, _, _, selects in self.updates):
            other = other.value  # the sum has no mask
        elif isinstance(other, Structured):
            return None
        if other is not None:
            self.whole = other if self.whole is None else self.whole + other
        return self


def parse(shape: Shape, index: Any) -> tuple[Entries, tuple[Array, ...], bool]:
    """An index as NumPy takes it, split into entries, position arrays, and whether a mask selected them."""
    items = index if isinstance(index, tuple) else (index,)
    items = tuple(_prepare(item) for item in items)
    used = sum(_axes_of(item) for item in items)
    if not any(item is Ellipsis for item in items):
        items = (*items, Ellipsis)
    if sum(item is Ellipsis for item in items) > 1:
        raise OutOfBoundsError("an index can only have a single ellipsis ('...')", "write ':' for the other axes")
    entries: list[Any] = []
    arrays: list[Array] = []
    selects = False
    for item in items:
        if item is Ellipsis:
            entries += [slice(None)] * (len(shape) - used) or [Ellipsis] * bool(arrays)
        elif _is_mask(item):
            check_mask(item, shape, sum(entry is not None for entry in entries))
            positions = np.nonzero(item)
            entries += [ARRAY] * len(positions)
            arrays += positions
            selects = True
        elif hasattr(item, "shape"):
            entries.append(ARRAY)
            arrays.append(item)
        else:
            entries.append(item)
    while entries and (entries[-1] is Ellipsis or entries[-1] == slice(None)):
        entries.pop()
    return tuple(entries), tuple(arrays), selects and all(item is Ellipsis or _is_mask(item) for item in items)


def _is_mask(item: Any) -> bool:
    return hasattr(item, "dtype") and item.dtype.kind == "b"


def _axes_of(item: Any) -> int:
    if item is None or item is Ellipsis:
        return 0
    return len(item.shape) if _is_mask(item) else 1


def check_mask(mask: Array, shape: Shape, axis: int) -> None:
    """Refuse a mask that does not have the shape of the axes it selects from, the first of which is `axis`."""
    if mask.shape != shape[axis : axis + len(mask.shape)]:
        raise OutOfBoundsError(
            f"the boolean index has shape {mask.shape}, but the axes it indexes have {shape[axis : axis + mask.ndim]}",
            "a mask must have the shape of what it selects from: x[x > 0]",
        )


def _prepare(item: Any) -> Any:
    """One entry of an index: a Python int, a slice of ints, None, Ellipsis, or an array of ints or bools."""
    if item is None or item is Ellipsis or type(item) is int:
        return item
    if isinstance(item, slice):
        return slice(*(None if part is None else operator.index(part) for part in (item.start, item.stop, item.step)))
    if isinstance(item, Tracer):
        if item.dtype.kind == "b":
            value = concrete(item)
            if value is None:
                refuse_mask(item)
            return np.asarray(value)
        _check_kind(item.dtype, item)
        return item
    if isinstance(item, bool | np.bool_):
        raise OutOfBoundsError(
            f"x[{item}] indexes a traced value with a single bool", "x[None] adds an axis; x[:0] is empty"
        )
    if isinstance(item, int | np.integer):
        return int(item)
    array = np.asarray(item)
    if array.size == 0 and isinstance(item, list | tuple):
        array = array.astype(np.intp)
    _check_kind(array.dtype, item)
    return array


def _check_kind(dtype: DType, item: Any) -> None:
    if dtype.kind not in "iub":
        raise OutOfBoundsError(
            f"{item!r} cannot be an index",
            "only integers, slices (`:`), ellipsis (`...`), None and integer or boolean arrays are valid indices",
        )


# Making a primitive costs as much as applying it to a small array, and few indices are used once.
_cached_getitem = functools.lru_cache(maxsize=1024)(lambda *key: GetItem((slice(*key),)))
_cached_element = functools.lru_cache(maxsize=1024)(lambda i: GetItem((i,)))


def getitem(x: Array, index: Any) -> Array:
    """`x[index]`, for plain and traced `x` and any index that NumPy takes."""
    if x.shape:
        if index.__class__ is int:
            return _cached_element(index)(x)
        if index.__class__ is slice:
            key = (index.start, index.stop, index.step)
            if all(part is None or part.__class__ is int for part in key):
                return _cached_getitem(*key)(x)
    if index.__class__ is bool or (_is_mask(index) and not index.shape):
        if isinstance(index, Tracer) and concrete(index) is None:
            refuse_mask(index)
        # a single bool adds an axis, of length 1 or 0
        return getitem(reshape(x, (1, *x.shape)), np.asarray([bool(index)]))
    entries, arrays, selects = parse(x.shape, index)
    if not arrays and not entries:
        return x
    return GetItem(entries, selects)(x, *arrays)


def diagonal(x: Array, offset: int, axis1: int, axis2: int) -> Array:
    """The elements (i, i + offset) of the matrices that `axis1` and `axis2` span, along a new last axis.

    In row-major order they lie at equal distances, so they are one slice.
    """
    rest = [axis for axis in range(len(x.shape)) if axis not in (axis1, axis2)]
    x = transpose(x, (*rest, axis1, axis2))
    m, n = x.shape[-2:]
    length = max(0, min(m + min(offset, 0), n - max(offset, 0)))
    start = (offset if offset >= 0 else -offset * n) if length else 0
    flat = reshape(x, (*x.shape[:-2], m * n))
    return getitem(flat, (Ellipsis, slice(start, start + length * (n + 1), n + 1)))
