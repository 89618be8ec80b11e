"""Running sums and products along an axis, and the linear recurrence in which their pullbacks close.

`Recurrence` computes e[i] = a[i−1]·e[i−1] + b[i−1] from e[0] = 0. Its pullback is the same recurrence, run the other
way. The pullback of a running product is made of running products and recurrences: it never divides by `x`, so it is
right where `x` is zero, at every order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from funcgrad.core.errors import ShapeError
from funcgrad.core.kinds import Running
from funcgrad.core.primitive import Cotangent, Masked, Wanted, masked_linear
from funcgrad.core.types import Array, ArrayType, Typed
from funcgrad.ops.broadcast import stacked
from funcgrad.ops.pointwise import only_where
from funcgrad.ops.shape import check_axis


def _slice(axis: int, *bounds: int | None) -> tuple[slice, ...]:
    """The index of `x[bounds]` along `axis`."""
    return (*(slice(None),) * axis, slice(*bounds))


def _turn(x: Array, axis: int, reverse: bool) -> Array:
    return x[_slice(axis, None, None, -1)] if reverse else x


@final
@dataclass(frozen=True, slots=True)
class CumSum(Running):
    """The sums of the first one, two, three … elements along `axis`; from the end if `reverse`."""

    name: ClassVar[str] = "cumsum"
    fold: ClassVar[np.ufunc] = np.add
    axis: int
    reverse: bool = False

    def out_type(self, x: Typed) -> ArrayType:
        check_axis(self.name, self.axis, x)
        return ArrayType(x.shape, np.add.reduce(np.empty(0, x.dtype)).dtype)

    def impl(self, x: Array) -> Array:
        y = np.add.accumulate(_turn(x, self.axis, self.reverse), self.axis)
        return _turn(y, self.axis, self.reverse)

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (0, 1)

    def vjp(self, wanted: Wanted, g: Array, y: None, x: None) -> tuple[Array | None]:
        return (CumSum(self.axis, not self.reverse)(g) if wanted[0] else None,)

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Any, *xs: Array) -> tuple[Cotangent | None, ...]:
        return masked_linear(self, wanted, g, y, xs)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return CumSum(self.axis + 1, self.reverse)(x)


@final
@dataclass(frozen=True, slots=True)
class CumProd(Running):
    """The products of the first one, two, three … elements along `axis`; from the end if `reverse`.

    If `exclusive`, element `i` of the result is the product of the elements before `x[i]`, which starts at 1.
    """

    name: ClassVar[str] = "cumprod"
    fold: ClassVar[np.ufunc] = np.multiply
    axis: int
    reverse: bool = False
    exclusive: bool = False

    def out_type(self, x: Typed) -> ArrayType:
        check_axis(self.name, self.axis, x)
        return ArrayType(x.shape, np.multiply.reduce(np.empty(0, x.dtype)).dtype)

    def impl(self, x: Array) -> Array:
        x = _turn(x, self.axis, self.reverse)
        if self.exclusive:
            y = np.empty(x.shape, np.multiply.reduce(np.empty(0, x.dtype)).dtype)
            y[_slice(self.axis, 1)] = 1
            np.multiply.accumulate(x[_slice(self.axis, -1)], self.axis, out=y[_slice(self.axis, 1, None)])
        else:
            y = np.multiply.accumulate(x, self.axis)
        return _turn(y, self.axis, self.reverse)

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return () if self.exclusive else (0,)

    def vjp(self, wanted: Wanted, g: Array, y: Array | None, x: Array) -> tuple[Array | None]:
        if wanted[0] is None:
            return (None,)
        back = Recurrence(self.axis, not self.reverse)
        if self.exclusive:
            return (y * back(x, g),)
        return (CumProd(self.axis, self.reverse, exclusive=True)(x) * (g + back(x, x * g)),)

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Any, *xs: Array) -> tuple[Cotangent | None, ...]:
        (ct,) = self.vjp(wanted, g.value, y, *xs)
        if ct is None:
            return (None,)
        # `exclusive` depends on less than this says: too few structural zeros are safe, too many are not
        mask = CumSum(self.axis, not self.reverse)(g.mask) != 0
        return (only_where(ct, mask),)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return CumProd(self.axis + 1, self.reverse, self.exclusive)(x)


@final
@dataclass(frozen=True, slots=True)
class Recurrence(Running):
    """e[i] = a[i−1]·e[i−1] + b[i−1] along `axis` with e[0] = 0; from the end if `reverse`."""

    name: ClassVar[str] = "recurrence"
    fold: ClassVar[np.ufunc] = np.add
    exclusive = True
    scaled: ClassVar[bool] = True
    axis: int
    reverse: bool = False

    def out_type(self, a: Typed, b: Typed) -> ArrayType:
        check_axis(self.name, self.axis, a)
        if a.shape != b.shape:
            raise ShapeError(f"recurrence: the factors have shape {a.shape} and the terms {b.shape}", "make them equal")
        return ArrayType(b.shape, np.result_type(a.dtype, b.dtype))

    def impl(self, a: Array, b: Array) -> Array:
        if a.shape != b.shape:
            raise ValueError("shapes differ")
        e = np.zeros(b.shape, np.result_type(a, b))
        # views in running order, with the axis in front: what is written to the last one is written to `e`
        a, b, run = (_turn(x, self.axis, self.reverse).swapaxes(0, self.axis) for x in (a, b, e))
        for i in range(1, len(run)):
            run[i] = a[i - 1] * run[i - 1] + b[i - 1]
        return e

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (2,) if wanted[0] else (0, 2)

    def vjp(self, wanted: Wanted, g: Array, y: Array | None, a: Array, b: None) -> tuple[Array | None, ...]:
        back = Recurrence(self.axis, not self.reverse)(a, g)
        return (back * y if wanted[0] else None, back if wanted[1] else None)

    def batch(self, batched: tuple[bool, ...], *xs: Array) -> Array:
        return Recurrence(self.axis + 1, self.reverse)(*stacked(batched, xs))
