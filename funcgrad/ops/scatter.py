"""Writing at an index without mutation: `x.at[index].set(v)` and its relatives.

What was overwritten has no part in the result, so its cotangent is structurally zero; among equal positions the last
value wins, and the pullback knows which one that was.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NoReturn, final

import numpy as np

from funcgrad.core.errors import DTypeError, MutationError, NotDifferentiableError, ShapeError
from funcgrad.core.kinds import Scatter
from funcgrad.core.primitive import Cotangent, Masked, Wanted
from funcgrad.core.trace import Tracer, concrete
from funcgrad.core.types import Array, ArrayType, Shape, Typed, broadcast_shapes, is_inexact, show_long, type_of
from funcgrad.core.views import Writing, Written, contiguous
from funcgrad.ops import elementwise as ew
from funcgrad.ops.broadcast import batch_length, broadcast_to, stacked
from funcgrad.ops.entries import Entries, fill, places, result_shape
from funcgrad.ops.index import GetItem, Indexed, batch_positions, check_mask, getitem, parse
from funcgrad.ops.pointwise import convert, only_where, select
from funcgrad.ops.refusals import refuse_values
from funcgrad.ops.shape import inverse, reshape, transpose


@dataclass(frozen=True, slots=True)
class _Write(Indexed, Scatter):
    """A copy of `x` in which the elements at an index are combined with `v`.

    Args:
        entries: As for `getitem`.
    """

    method: ClassVar[str]
    combine: ClassVar[np.ufunc | None] = None
    fresh = True
    entries: Entries

    __hash__ = Indexed.__hash__

    def out_type(self, x: Typed, v: Typed, *arrays: Typed) -> ArrayType:
        expected = GetItem(self.entries).out_type(x, *arrays).shape
        if v.shape != expected:
            raise ShapeError(f"x.at[...].{self.method} of shape {v.shape} at an index of shape {expected}")
        return ArrayType(x.shape, x.dtype)

    def impl(self, x: Array, v: Array, *arrays: Array) -> Array:
        return self.overwrite(np.array(x), v, *arrays)

    @abstractmethod
    def overwrite(self, x: Array, v: Array, *arrays: Array) -> Array: ...

    def written(self, *shapes: Shape) -> Written:
        where = places(self.entries, contiguous(shapes[0]), 2, shapes[2:])
        return Written(0, (Writing(1, where, self.combine),))

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Any, *xs: Array) -> tuple[Cotangent | None, ...]:
        ct_x, ct_v, *nothing = self.vjp(wanted, g.value, y, *xs)
        return (
            None if ct_x is None else only_where(ct_x, g.mask),
            None if ct_v is None else only_where(ct_v, self._read(g.mask, xs[2:])),
            *nothing,
        )

    def _index(self, arrays: tuple[Array, ...]) -> Any:
        return fill(self.entries, arrays) or ...

    def _read(self, g: Array, arrays: tuple[Array, ...]) -> Array:
        return GetItem(self.entries)(g, *arrays)

    def batch(self, batched: tuple[bool, ...], x: Array, v: Array, *arrays: Array) -> Array:
        n = batch_length(batched, (x, v, *arrays))
        x, v = stacked(batched[:2], (x, v), n)
        if not arrays:
            return replace(self, entries=(slice(None), *self.entries))(x, v)
        entries, arrays, order = batch_positions(n, self.entries, arrays, batched[2:], x.shape[1:])
        return replace(self, entries=entries)(x, transpose(v, inverse(order)), *arrays)


@final
@dataclass(frozen=True, slots=True)
class ScatterSet(_Write):
    """A copy of `x` with `v` at the index; of equal positions the last one counts."""

    name: ClassVar[str] = "scatter_set"
    method: ClassVar[str] = "set"

    __hash__ = Indexed.__hash__

    def overwrite(self, x: Array, v: Array, *arrays: Array) -> Array:
        x[fill(self.entries, arrays)] = v
        return x

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (0, 1, 2)

    def vjp(self, wanted: Wanted, g: Array, y: None, x: None, v: None, *arrays: Array) -> tuple[Cotangent | None, ...]:
        w_x, w_v, *_ = wanted
        # first, so that nobody reads `g` any more when it is written to
        ct_v = None if w_v is None else self._last(self._read(g, arrays), g.shape, arrays)
        ct_x = None if w_x is None else self._untouched(g, arrays)
        return (ct_x, ct_v, *(None,) * len(arrays))

    def _untouched(self, g: Array, arrays: tuple[Array, ...]) -> Masked:
        """The cotangent of `x`: zero where it is written over."""
        written = result_shape(g.shape, self.entries, [a.shape for a in arrays])
        nothing = np.broadcast_to(np.zeros((), g.dtype), written)
        everywhere, nowhere = np.broadcast_to(np.True_, g.shape), np.broadcast_to(np.False_, written)
        return Masked(self(g, nothing, *arrays), self(everywhere, nowhere, *arrays))

    def _last(self, ct: Array, shape: Shape, arrays: tuple[Array, ...]) -> Cotangent:
        """The cotangent of those values that no later one has written over."""
        if not any(math.prod(a.shape) > 1 for a in arrays):
            return ct
        order = np.arange(1, 1 + math.prod(ct.shape)).reshape(ct.shape)
        last = self(np.zeros(shape, order.dtype), order, *arrays)
        return only_where(ct, self._read(last, arrays) == order)


@final
@dataclass(frozen=True, slots=True)
class ScatterAdd(_Write):
    """A copy of `x` with `v` added at the index; equal positions add up."""

    name: ClassVar[str] = "scatter_add"
    method: ClassVar[str] = "add"
    combine: ClassVar[np.ufunc] = np.add

    __hash__ = Indexed.__hash__

    def overwrite(self, x: Array, v: Array, *arrays: Array) -> Array:
        if arrays:
            np.add.at(x, fill(self.entries, arrays), v)
        else:
            x[self.entries] += v
        return x

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (0, 1, 2)

    def vjp(self, wanted: Wanted, g: Array, y: None, x: None, v: None, *arrays: Array) -> tuple[Cotangent | None, ...]:
        w_x, w_v, *_ = wanted
        ct_v = None if w_v is None else self._read(g, arrays)
        return (None if w_x is None else g, ct_v, *(None,) * len(arrays))


@final
@dataclass(frozen=True, slots=True)
class ScatterMultiply(_Write):
    """A copy of `x` multiplied by `v` at the index; at equal positions by all of their values."""

    name: ClassVar[str] = "scatter_multiply"
    method: ClassVar[str] = "multiply"
    combine: ClassVar[np.ufunc] = np.multiply

    __hash__ = Indexed.__hash__

    def overwrite(self, x: Array, v: Array, *arrays: Array) -> Array:
        np.multiply.at(x, self._index(arrays), v)
        return x

    def unread(self, wanted: Wanted) -> Sequence[int]:
        w_x, w_v, *_ = wanted
        return (0, 2) if w_x is None else (0, 1) if w_v is None else (0,)

    def vjp(
        self, wanted: Wanted, g: Array, y: None, x: Array, v: Array, *arrays: Array
    ) -> tuple[Cotangent | None, ...]:
        w_x, w_v, *_ = wanted
        if w_v is not None and arrays and not _distinct(g.shape, self.entries, arrays):
            raise NotDifferentiableError(
                "x.at[index].multiply(v) with an index that repeats a position has no derivative here",
                "make the positions distinct, or multiply the factors first",
            )
        ct_v = None if w_v is None else self._read(g * x, arrays)
        return (None if w_x is None else self(g, v, *arrays), ct_v, *(None,) * len(arrays))


@dataclass(frozen=True, slots=True)
class _WriteExtremum(_Write):
    """What `ScatterMin` and `ScatterMax` share: those that attain the result take equal parts of the cotangent."""

    __hash__ = Indexed.__hash__

    def vjp(
        self, wanted: Wanted, g: Array, y: Array, x: Array, v: Array, *arrays: Array
    ) -> tuple[Cotangent | None, ...]:
        w_x, w_v, *_ = wanted
        mine, theirs = x == y, v == self._read(y, arrays)
        add = ScatterAdd(self.entries)
        winners = add(convert(mine, y.dtype), convert(theirs, y.dtype), *arrays)
        share = g / select(winners == 0, 1, winners)
        ct_v = None if w_v is None else only_where(self._read(share, arrays), theirs)
        return (None if w_x is None else only_where(share, mine), ct_v, *(None,) * len(arrays))


@final
@dataclass(frozen=True, slots=True)
class ScatterMin(_WriteExtremum):
    """A copy of `x` with the smallest of `x` and the values of `v` at the index."""

    name: ClassVar[str] = "scatter_min"
    method: ClassVar[str] = "min"
    combine: ClassVar[np.ufunc] = np.minimum

    __hash__ = Indexed.__hash__

    def overwrite(self, x: Array, v: Array, *arrays: Array) -> Array:
        np.minimum.at(x, self._index(arrays), v)
        return x


@final
@dataclass(frozen=True, slots=True)
class ScatterMax(_WriteExtremum):
    """A copy of `x` with the largest of `x` and the values of `v` at the index."""

    name: ClassVar[str] = "scatter_max"
    method: ClassVar[str] = "max"
    combine: ClassVar[np.ufunc] = np.maximum

    __hash__ = Indexed.__hash__

    def overwrite(self, x: Array, v: Array, *arrays: Array) -> Array:
        np.maximum.at(x, self._index(arrays), v)
        return x


def _distinct(shape: tuple[int, ...], entries: Entries, arrays: tuple[Array, ...]) -> bool:
    """True if no position is written twice; False too where the positions are not known."""
    if all(math.prod(a.shape) <= 1 for a in arrays):
        return True
    if any(isinstance(a, Tracer) for a in arrays):
        return False
    places = np.arange(int(np.prod(shape))).reshape(shape)[fill(entries, arrays)]
    return np.unique(places).size == places.size


def _array(x: Array) -> Array:
    return x if isinstance(x, Tracer) else np.asarray(x)


def held_as(x: Array, v: Array, call: str) -> Array:
    """`v` in the dtype of `x`, into which `call` is to write it.

    Raises:
        DTypeError: `x` cannot hold such values.
    """
    given = type_of(v)
    if (is_inexact(given.dtype) and not is_inexact(x.dtype)) or given.dtype.kind == "c" != x.dtype.kind:
        raise DTypeError(
            f"{call.format(x='x')}: v is {show_long(given)}, which an x of {x.dtype.name} cannot hold",
            call.format(x=f"x.astype({given.dtype.name})"),
        )
    return convert(v, x.dtype)


def _uncounted_mask(shape: Shape, index: Any) -> tuple[Array, int] | None:
    """The mask in an index that is a mask and nothing else, and the axis it begins at.

    None if the mask is known and has axes: then it stands for positions.
    """
    items = index if isinstance(index, tuple) else (index,)
    masks = [
        i for i, item in enumerate(items) if isinstance(item, bool) or (hasattr(item, "dtype") and item.dtype == "?")
    ]
    if len(masks) != 1:
        return None
    (place,) = masks
    mask = _array(items[place])
    others = (*items[:place], *items[place + 1 :])
    if (mask.shape and concrete(mask) is not None) or not all(map(_takes_all, others)):
        return None
    from_behind = any(item is Ellipsis for item in items[:place])
    axis = len(shape) - mask.ndim - len(items[place + 1 :]) if from_behind else place
    check_mask(mask, shape, axis)
    return mask, axis


def _takes_all(item: Any) -> bool:
    return item is Ellipsis or (isinstance(item, slice) and item == slice(None))


def _where(mask: Array, axis: int, x: Array, v: Array, operation: type[_Write]) -> Array:
    """What `operation` does at a mask, without counting: every element is combined, and those it selects are taken."""
    before, after = x.shape[:axis], x.shape[axis + mask.ndim :]
    shape = (*before, 1, *after)
    try:
        fits = broadcast_shapes(v.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits and isinstance(mask, Tracer):
        refuse_values(mask, f"x.at[mask].{operation.method}(v)", v)
    v = reshape(broadcast_to(v, shape), (*before, *(1,) * mask.ndim, *after))
    chosen = reshape(mask, (*mask.shape, *(1,) * len(after)))
    return select(chosen, _COMBINED[operation](x, v), x)


_COMBINED: dict[type[_Write], Callable[[Array, Array], Array]] = {
    ScatterSet: lambda x, v: v,
    ScatterAdd: ew.add,
    ScatterMultiply: ew.multiply,
    ScatterMin: ew.minimum,
    ScatterMax: ew.maximum,
}


@final
class At:
    """`at(x)[index]`: the place where a copy of `x` is to be changed.

    Args:
        x: A plain or a traced array.
    """

    __slots__ = ("_x",)

    def __init__(self, x: Array) -> None:
        self._x = x

    def __getitem__(self, index: Any) -> Update:
        return Update(self._x, index)

    def __setitem__(self, index: Any, v: Array) -> NoReturn:
        raise MutationError("x.at[index] = v would change x in place", "x = x.at[index].set(v)")

    def __getattr__(self, name: str) -> NoReturn:
        if name in ("set", "add", "subtract", "multiply", "divide", "min", "max", "get"):
            raise MutationError(f"x.at.{name}(v) lacks the index", f"x.at[index].{name}(v); x.at[...] takes all of x")
        raise AttributeError(f"x.at has no attribute {name!r}; write x.at[index].set(v)")


@final
class Update:
    """`at(x)[index]`, which knows how to change a copy of `x` there. Values broadcast to the shape of `x[index]`."""

    __slots__ = ("_index", "_x")

    def __init__(self, x: Array, index: Any) -> None:
        self._x = _array(x)
        self._index = index

    def get(self) -> Array:
        """`x[index]`, for a plain `x` and a traced index too."""
        return getitem(self._x, self._index)

    def set(self, v: Array) -> Array:
        """A copy of `x` with `v` at the index; of equal positions the last one counts."""
        return self._write(ScatterSet, v)

    def add(self, v: Array) -> Array:
        """A copy of `x` with `v` added at the index; equal positions add up."""
        return self._write(ScatterAdd, v)

    def subtract(self, v: Array) -> Array:
        """A copy of `x` with `v` subtracted at the index; equal positions add up."""
        return self._write(ScatterAdd, -_array(v))

    def multiply(self, v: Array) -> Array:
        """A copy of `x` multiplied by `v` at the index."""
        return self._write(ScatterMultiply, v)

    def divide(self, v: Array) -> Array:
        """A copy of `x` divided by `v` at the index."""
        return self._write(ScatterMultiply, 1 / _array(v))

    def min(self, v: Array) -> Array:
        """A copy of `x` with the smaller of `x` and `v` at the index."""
        return self._write(ScatterMin, v)

    def max(self, v: Array) -> Array:
        """A copy of `x` with the larger of `x` and `v` at the index."""
        return self._write(ScatterMax, v)

    def _write(self, operation: type[_Write], v: Array) -> Array:
        x = self._x
        mask = _uncounted_mask(x.shape, self._index)
        v = held_as(x, _array(v), f"{{x}}.at[index].{operation.method}(v)")
        if mask is not None:
            return _where(*mask, x, v, operation)
        entries, arrays, _ = parse(x.shape, self._index)
        shape = GetItem(entries).out_type(type_of(x), *map(type_of, arrays)).shape
        return operation(entries)(x, broadcast_to(v, shape), *arrays)


def at(x: Array) -> At:
    """The place to write at, for plain and traced arrays alike; nothing is changed in place.

    Args:
        x: An array.

    Returns:
        An object with `at(x)[index].set(v)`, `.add`, `.subtract`, `.multiply`, `.divide`, `.min`, `.max` and `.get()`.
        Each returns a new array of the shape and dtype of `x`. Where only the type of a mask is known, as under `jit`,
        one value for all that it selects can be written.

    Raises:
        OutOfBoundsError: The index does not fit `x`.
        ShapeError: The values do not broadcast to the shape of `x[index]`.
        DTypeError: `x` cannot hold the values, such as floats in an integer array.

    Examples:
        >>> import numpy as np
        >>> import funcgrad as fg
        >>> fg.at(np.zeros(3))[[0, 0, 2]].add(1.0)
        array([2., 0., 1.])
        >>> fg.grad(lambda x: (x.at[0].set(0.0) ** 2).sum())(np.array([1.0, 2.0]))
        array([0., 4.])
    """
    return At(x)
