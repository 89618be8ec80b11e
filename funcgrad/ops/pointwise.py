"""How a line of the elementwise table becomes a primitive: broadcasting, promotion, batching and masks, written once.

`Unary` and `Binary` are the two shapes of a line; `Convert` and `Select` are the elementwise operations that are not a
function of numbers alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from funcgrad.core.errors import DTypeError, ShapeError
from funcgrad.core.kinds import Elementwise
from funcgrad.core.primitive import Cotangent, Masked, Wanted
from funcgrad.core.types import (
    Array,
    ArrayType,
    DType,
    Typed,
    broadcast_shapes,
    is_inexact,
    promotable,
    promote,
    show_long,
)
from funcgrad.ops.broadcast import broadcast_to, reshape, unbroadcast, unbroadcast_mask
from funcgrad.ops.rules import Rule, adapt

_lines: dict[str, Unary | Binary] = {}
_LARGE = 4096


def table() -> dict[str, Unary | Binary]:
    """Every line of the table by name."""
    return dict(_lines)


def fit(ct: Cotangent, wanted: Typed) -> Cotangent:
    """`ct` with the shape and the dtype of the input it belongs to: summed where broadcasting repeated it."""
    if type(ct) is Masked:
        return Masked(fit(ct.value, wanted), unbroadcast_mask(ct.mask, wanted.shape))
    if ct.shape != wanted.shape:
        ct = unbroadcast(ct, wanted.shape)
    if ct.dtype is not wanted.dtype and ct.dtype != wanted.dtype:
        ct = convert(ct, wanted.dtype)
    return ct


def only_where(ct: Cotangent, mask: Array) -> Masked:
    """`ct` where the mask is true."""
    if type(ct) is Masked:
        mask = mask & ct.mask
        ct = ct.value
    return Masked(_or_zero(mask, ct), broadcast_to(mask, ct.shape))


def _carry(ct: Array, mask: Array) -> Masked:
    """`only_where` of a cotangent that is zero there already: a rule that reads nothing only scales it."""
    return Masked(ct, broadcast_to(mask, ct.shape))


def _or_zero(mask: Array, x: Array) -> Array:
    """`x` where the mask is true, else 0."""
    large = type(x) is np.ndarray is type(mask) and x.size > _LARGE and x.shape == mask.shape
    if large and x.dtype.kind == "f" and x.dtype.itemsize <= 8:
        # numpy.where takes a branch per element, which costs five times as much where the mask is irregular
        bits = mask.astype(f"i{x.dtype.itemsize}")
        np.negative(bits, out=bits)
        bits &= x.view(bits.dtype)
        return bits.view(x.dtype)
    return select(mask, x, np.zeros((), x.dtype))


def _join(types: tuple[Typed, ...], name: str) -> tuple[int, ...]:
    try:
        return broadcast_shapes(*(t.shape for t in types))
    except ValueError:
        raise ShapeError(
            f"{name}: shapes {' and '.join(str(t.shape) for t in types)} do not broadcast",
            "each axis, counted from the last, must be equal or 1: add axes with x[:, None] or x[None, :]",
        ) from None


def _batch(primitive: Elementwise, batched: tuple[bool, ...], xs: tuple[Array, ...]) -> Array:
    ndim = max(len(np.shape(x) if not b else x.shape[1:]) for b, x in zip(batched, xs, strict=True))
    return primitive(
        *(
            reshape(x, (x.shape[0], *(1,) * (ndim + 1 - len(x.shape)), *x.shape[1:])) if b else x
            for b, x in zip(batched, xs, strict=True)
        )
    )


def of_ufunc(ufunc: Any) -> Callable[..., DType]:
    """The dtype rule of a NumPy ufunc."""

    def dtype(*types: Typed) -> DType:
        resolved: DType = ufunc.resolve_dtypes((*map(promotable, types), None))[-1]
        return resolved

    return dtype


class _Line(Elementwise):
    """What a line of the table says."""

    __slots__ = ("_dtype", "constant", "impl", "keeps_weak", "name")

    impl: Callable[..., Any]

    def __init__(
        self,
        name: str,
        ufunc: Callable[..., Any],
        *,
        constant: bool = False,
        keeps_weak: bool = False,
        dtype: Callable[..., DType] | None = None,
        compute: Callable[..., Any] | None = None,
    ) -> None:
        self.name = name  # type: ignore[misc]  # each line of the table is an instance
        self.impl = compute or ufunc
        self.constant = constant
        self.keeps_weak = keeps_weak
        self._dtype = dtype or of_ufunc(ufunc)

    def out_type(self, *xs: Typed) -> ArrayType:
        shape = _join(xs, self.name)
        try:
            dtype = self._dtype(*xs)
        except TypeError:
            raise DTypeError(
                f"{self.name} is not defined for {' and '.join(map(show_long, xs))}",
                "convert first, for example x.astype(float)",
            ) from None
        return ArrayType(shape, dtype, self.keeps_weak and all(x.weak for x in xs))

    def batch(self, batched: tuple[bool, ...], *xs: Array) -> Array:
        return _batch(self, batched, xs)


@final
class Unary(_Line):
    """A function of one argument. Its pullback is `rule`; without one it is `constant`."""

    __slots__ = ("_kept", "_masking", "_rule", "_unread")

    def __init__(self, name: str, ufunc: Callable[..., Any], rule: Rule | None = None, **options: Any) -> None:
        super().__init__(name, ufunc, constant=rule is None, **options)
        self._rule, names = adapt(rule, "x")
        self._masking = only_where if names else _carry
        self._kept = ("x" in names, "y" in names)
        self._unread = Elementwise.unread(self, (None,))
        _lines[name] = self

    def reads(self, wanted: tuple[bool, ...]) -> tuple[bool, ...]:
        return self._kept

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return self._unread

    def vjp(self, wanted: Wanted, g: Array, y: Array, x: Array) -> tuple[Cotangent | None]:
        (w,) = wanted
        if w is None:
            return (None,)
        ct = self._rule(g, y, x)
        return (ct if ct.dtype is w.dtype else fit(ct, w),)

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Array, *xs: Array) -> tuple[Cotangent | None]:
        (w,) = wanted
        return (None if w is None else fit(self._masking(self._rule(g.value, y, *xs), g.mask), w),)


@final
class Binary(_Line):
    """A function of two arguments that broadcast. It has a pullback for each, or is `constant`."""

    __slots__ = ("_masking", "_names", "_rule1", "_rule2", "_unread_both", "_unread_one")

    def __init__(
        self,
        name: str,
        ufunc: Callable[..., Any],
        rule1: Rule | None = None,
        rule2: Rule | None = None,
        **options: Any,
    ) -> None:
        if (rule1 is None) != (rule2 is None):
            raise TypeError(f"{name}: give a pullback for each argument, or none at all if it is piecewise constant")
        super().__init__(name, ufunc, constant=rule1 is None, **options)
        self._rule1, names1 = adapt(rule1, "x1", "x2")
        self._rule2, names2 = adapt(rule2, "x1", "x2")
        self._names = (names1, names2)
        self._masking = (only_where if names1 else _carry, only_where if names2 else _carry)
        some = ArrayType((), np.dtype(float))
        self._unread_both = Elementwise.unread(self, (some, some))
        self._unread_one = (Elementwise.unread(self, (some, None)), Elementwise.unread(self, (None, some)))
        _lines[name] = self

    def reads(self, wanted: tuple[bool, ...]) -> tuple[bool, ...]:
        return tuple(
            any(want and letter in names for want, names in zip(wanted, self._names, strict=True))
            for letter in ("x1", "x2", "y")
        )

    def unread(self, wanted: Wanted) -> Sequence[int]:
        w1, w2 = wanted
        return self._unread_both if w1 is not None and w2 is not None else self._unread_one[w1 is None]

    def vjp(self, wanted: Wanted, g: Array, y: Array, x1: Array, x2: Array) -> tuple[Cotangent | None, ...]:
        w1, w2 = wanted
        ct1 = ct2 = None
        if w1 is not None:
            ct1 = self._rule1(g, y, x1, x2)
            if ct1.dtype is not w1.dtype or ct1.shape != w1.shape:
                ct1 = fit(ct1, w1)
        if w2 is not None:
            ct2 = self._rule2(g, y, x1, x2)
            if ct2.dtype is not w2.dtype or ct2.shape != w2.shape:
                ct2 = fit(ct2, w2)
        return ct1, ct2

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Array, *xs: Array) -> tuple[Cotangent | None, ...]:
        return tuple(
            None if w is None else fit(masking(rule(g.value, y, *xs), g.mask), w)
            for rule, masking, w in zip((self._rule1, self._rule2), self._masking, wanted, strict=True)
        )


@final
@dataclass(frozen=True, slots=True)
class Convert(Elementwise):
    """`x` with another dtype. Complex to real takes the real part."""

    name: ClassVar[str] = "convert"
    dtype: DType

    @property
    def constant(self) -> bool:  # type: ignore[override]  # follows from the dtype here
        return not is_inexact(self.dtype)

    def out_type(self, x: Typed) -> ArrayType:
        return ArrayType(x.shape, self.dtype)

    def impl(self, x: Array) -> Array:
        x = np.asarray(x)
        return (x.real if x.dtype.kind == "c" and self.dtype.kind == "f" else x).astype(self.dtype)

    def reads(self, wanted: tuple[bool, ...]) -> tuple[bool, ...]:
        return (False, False)

    def vjp(self, wanted: Wanted, g: Array, y: None, x: None) -> tuple[Array | None]:
        return (convert(g, wanted[0].dtype) if wanted[0] else None,)

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Any, *xs: Array) -> tuple[Cotangent | None, ...]:
        return (Masked(convert(g.value, wanted[0].dtype), g.mask) if wanted[0] else None,)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return self(x)


def convert(x: Array, dtype: DType) -> Array:
    """`x` as `dtype`; `x` itself where it has that dtype already and is not weak."""
    if getattr(x, "dtype", None) == dtype and not getattr(x, "weak", False):
        return x
    return Convert(dtype)(x)


@final
@dataclass(frozen=True, slots=True)
class Select(Elementwise):
    """`x1` where `c` is true, else `x2`. The branch not taken has no part in the result, whatever its value there."""

    name: ClassVar[str] = "select"

    def out_type(self, c: Typed, x1: Typed, x2: Typed) -> ArrayType:
        return ArrayType(_join((c, x1, x2), "where"), promote(x1, x2))

    def impl(self, c: Array, x1: Array, x2: Array) -> Array:
        return np.where(c, x1, x2)

    def reads(self, wanted: tuple[bool, ...]) -> tuple[bool, ...]:
        return (True, False, False, False)

    def vjp(self, wanted: Wanted, g: Array, y: None, c: Array, *xs: Array) -> tuple[Cotangent | None, ...]:
        _, w1, w2 = wanted
        return (
            None,
            None if w1 is None else fit(only_where(g, c), w1),
            None if w2 is None else fit(only_where(g, c == 0), w2),
        )

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Any, *xs: Array) -> tuple[Cotangent | None, ...]:
        c = xs[0]
        _, w1, w2 = wanted
        return (
            None,
            None if w1 is None else fit(only_where(g, c), w1),
            None if w2 is None else fit(only_where(g, c == 0), w2),
        )

    def batch(self, batched: tuple[bool, ...], *xs: Array) -> Array:
        return _batch(self, batched, xs)


select = Select()
