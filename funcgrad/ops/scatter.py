"""Writing at an index without mutation: `x.at[index].set(v)` and its relatives.

What was overwritten has no part in the result, so its cotangent is structurally zero; among equal positions the last
value wins, and the pullback knows which one that was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn, final

import numpy as np

from funcgrad.core.errors import DTypeError, MutationError, NotDifferentiableError, ShapeError
from funcgrad.core.primitive import Cotangent, Masked, Wanted
from funcgrad.core.trace import Tracer
from funcgrad.core.types import Array, ArrayType, Typed, is_inexact, show_long, type_of
from funcgrad.ops.broadcast import broadcast_to
from funcgrad.ops.index import (
    Entries,
    GetItem,
    IndexAdd,
    Indexed,
    batch_positions,
    fill,
    parse,
    result_shape,
)
from funcgrad.ops.pointwise import convert, select
from funcgrad.ops.shape import transpose

_WRITE: dict[str, Callable[..., Any]] = {"multiply": np.multiply.at, "min": np.minimum.at, "max": np.maximum.at}


@final
@dataclass(frozen=True, slots=True)
class Scatter(Indexed):
    """A copy of `x` in which the elements at an index are combined with `v`.

    Args:
        mode: `set`, `add`, `multiply`, `min` or `max`.
        entries: As for `getitem`.
    """

    name: ClassVar[str] = "scatter"
    mode: str
    entries: Entries

    __hash__ = Indexed.__hash__

    def out_type(self, x: Typed, v: Typed, *arrays: Typed) -> ArrayType:
        expected = GetItem(self.entries).out_type(x, *arrays).shape
        if v.shape != expected:
            raise ShapeError(f"x.at[...].{self.mode} of shape {v.shape} at an index of shape {expected}")
        return ArrayType(x.shape, x.dtype)

    def impl(self, x: Array, v: Array, *arrays: Array) -> Array:
        y = np.array(x)
        index = fill(self.entries, arrays)
        if self.mode == "set":
            y[index] = v
        elif self.mode == "add" and not arrays:
            y[index] += v
        elif self.mode == "add":
            np.add.at(y, index, v)
        else:
            _WRITE[self.mode](y, index if index else ..., v)
        return y

    def reads(self, wanted: tuple[bool, ...]) -> tuple[bool, ...]:
        values = self.mode in ("multiply", "min", "max")
        return (values, values, *(True,) * (len(wanted) - 2), values)

    def vjp(
        self, wanted: Wanted, g: Array, y: Array, x: Array, v: Array, *arrays: Array
    ) -> tuple[Cotangent | None, ...]:
        rule = {"set": self._pull_set, "add": self._pull_add, "multiply": self._pull_multiply}
        ct_x, ct_v = rule.get(self.mode, self._pull_extreme)(wanted, g, y, x, v, arrays)
        return (
            None if wanted[0] is None else ct_x,
            None if wanted[1] is None else ct_v,
            *(None,) * len(arrays),
        )

    def _read(self, g: Array, arrays: tuple[Array, ...]) -> Array:
        return GetItem(self.entries)(g, *arrays)

    def _pull_set(
        self, wanted: Wanted, g: Array, y: None, x: None, v: None, arrays: tuple[Array, ...]
    ) -> tuple[Cotangent, Cotangent]:
        shape = result_shape(g.shape, self.entries, [a.shape for a in arrays])
        kept = Scatter("set", self.entries)(np.ones(g.shape, bool), np.zeros(shape, bool), *arrays)
        ct_v = self._read(g, arrays)
        if arrays:
            order = np.arange(1, 1 + int(np.prod(shape))).reshape(shape)
            last = Scatter("set", self.entries)(np.zeros(g.shape, order.dtype), order, *arrays)
            won = self._read(last, arrays) == order
            ct_v = Masked(select(won, ct_v, 0), won)
        return Masked(select(kept, g, 0), kept), ct_v

    def _pull_add(
        self, wanted: Wanted, g: Array, y: None, x: None, v: None, arrays: tuple[Array, ...]
    ) -> tuple[Cotangent, Cotangent]:
        return g, self._read(g, arrays)

    def _pull_multiply(
        self, wanted: Wanted, g: Array, y: Array, x: Array, v: Array, arrays: tuple[Array, ...]
    ) -> tuple[Cotangent, Cotangent]:
        if arrays and not _distinct(x.shape, self.entries, arrays):
            raise NotDifferentiableError(
                "x.at[index].multiply(v) with an index that repeats a position has no derivative here",
                "make the positions distinct, or multiply the factors first",
            )
        return Scatter("multiply", self.entries)(g, v, *arrays), self._read(g * x, arrays)

    def _pull_extreme(
        self, wanted: Wanted, g: Array, y: Array, x: Array, v: Array, arrays: tuple[Array, ...]
    ) -> tuple[Cotangent, Cotangent]:
        mine = convert(x == y, y.dtype)
        theirs = convert(v == self._read(y, arrays), y.dtype)
        winners = mine + IndexAdd(y.shape, (self.entries,), (len(arrays),))(*arrays, theirs)
        share = g / select(winners == 0, 1, winners)
        ct_v = self._read(share, arrays)
        return Masked(select(mine != 0, share, 0), mine != 0), Masked(select(theirs != 0, ct_v, 0), theirs != 0)

    def batch(self, batched: tuple[bool, ...], x: Array, v: Array, *arrays: Array) -> Array:
        n = next(a.shape[0] for a, b in zip((x, v, *arrays), batched, strict=True) if b)
        x = x if batched[0] else broadcast_to(x, (n, *x.shape))
        v = v if batched[1] else broadcast_to(v, (n, *v.shape))
        if not arrays:
            return Scatter(self.mode, (slice(None), *self.entries))(x, v)
        entries, arrays, order = batch_positions(n, self.entries, arrays, batched[2:], x.shape[1:])
        inverse = tuple(sorted(range(len(order)), key=order.__getitem__))
        return Scatter(self.mode, entries)(x, transpose(v, inverse), *arrays)


def _distinct(shape: tuple[int, ...], entries: Entries, arrays: tuple[Array, ...]) -> bool:
    """True if no position is written twice; False too where the positions are not known."""
    if any(isinstance(a, Tracer) for a in arrays):
        return False
    places = np.arange(int(np.prod(shape))).reshape(shape)[fill(entries, arrays)]
    return np.unique(places).size == places.size


def _array(x: Array) -> Array:
    return x if isinstance(x, Tracer) else np.asarray(x)


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
        """`x[index]`."""
        return self._x[self._index]

    def set(self, v: Array) -> Array:
        """A copy of `x` with `v` at the index; of equal positions the last one counts."""
        return self._scatter("set", v)

    def add(self, v: Array) -> Array:
        """A copy of `x` with `v` added at the index; equal positions add up."""
        return self._scatter("add", v)

    def subtract(self, v: Array) -> Array:
        """A copy of `x` with `v` subtracted at the index; equal positions add up."""
        return self._scatter("add", -_array(v))

    def multiply(self, v: Array) -> Array:
        """A copy of `x` multiplied by `v` at the index."""
        return self._scatter("multiply", v)

    def divide(self, v: Array) -> Array:
        """A copy of `x` divided by `v` at the index."""
        return self._scatter("multiply", 1 / _array(v))

    def min(self, v: Array) -> Array:
        """A copy of `x` with the smaller of `x` and `v` at the index."""
        return self._scatter("min", v)

    def max(self, v: Array) -> Array:
        """A copy of `x` with the larger of `x` and `v` at the index."""
        return self._scatter("max", v)

    def _scatter(self, mode: str, v: Array) -> Array:
        x = self._x
        v = _array(v)
        given = type_of(v)
        if (is_inexact(given.dtype) and not is_inexact(x.dtype)) or given.dtype.kind == "c" != x.dtype.kind:
            raise DTypeError(
                f"x.at[index].{mode}(v): v is {show_long(given)}, which an x of {x.dtype.name} cannot hold",
                f"x.astype({given.dtype.name}).at[index].{mode}(v)",
            )
        entries, arrays, _ = parse(x.shape, self._index)
        shape = GetItem(entries).out_type(type_of(x), *map(type_of, arrays)).shape
        return Scatter(mode, entries)(x, broadcast_to(convert(v, x.dtype), shape), *arrays)


def at(x: Array) -> At:
    """The place to write at, for plain and traced arrays alike; nothing is changed in place.

    Args:
        x: An array.

    Returns:
        An object with `at(x)[index].set(v)`, `.add`, `.subtract`, `.multiply`, `.divide`, `.min`, `.max` and `.get()`.
        Each returns a new array of the shape and dtype of `x`.

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
