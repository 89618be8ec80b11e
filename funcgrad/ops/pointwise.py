"""How a line of the elementwise table becomes a primitive: broadcasting, promotion, batching and masks, written once.

`Unary` and `Binary` are the two shapes of a line; `Convert` and `Select` are the elementwise operations that are not a
function of numbers alone. A rule of the table says what it reads by the names of its parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, TypeAlias, final

import numpy as np

from funcgrad.core.errors import DTypeError, ShapeError
from funcgrad.core.kinds import Elementwise
from funcgrad.core.primitive import Cotangent, Masked, Wanted
from funcgrad.core.types import (
    Array,
    ArrayType,
    DType,
    Typed,
    beyond_int64,
    broadcast_shapes,
    is_inexact,
    promotable,
    promote,
    refuse_beyond,
    show_long,
    type_of,
)
from funcgrad.ops.broadcast import broadcast_to, unbroadcast, unbroadcast_mask
from funcgrad.ops.shape import reshape

Rule: TypeAlias = Callable[..., Any]

# A rule with some of the letters, as a function of all of them. Written out, since each call is on the hot path.
_UNARY: dict[tuple[str, ...], Callable[[Rule], Rule]] = {
    (): lambda rule: lambda g, y, x: rule(g),
    ("x",): lambda rule: lambda g, y, x: rule(g, x),
    ("y",): lambda rule: lambda g, y, x: rule(g, y),
    ("x", "y"): lambda rule: lambda g, y, x: rule(g, x=x, y=y),
}
_BINARY: dict[tuple[str, ...], Callable[[Rule], Rule]] = {
    (): lambda rule: lambda g, y, x1, x2: rule(g),
    ("x1",): lambda rule: lambda g, y, x1, x2: rule(g, x1),
    ("x2",): lambda rule: lambda g, y, x1, x2: rule(g, x2),
    ("y",): lambda rule: lambda g, y, x1, x2: rule(g, y),
    ("x1", "x2"): lambda rule: lambda g, y, x1, x2: rule(g, x1=x1, x2=x2),
    ("x1", "y"): lambda rule: lambda g, y, x1, x2: rule(g, x1=x1, y=y),
    ("x2", "y"): lambda rule: lambda g, y, x1, x2: rule(g, x2=x2, y=y),
    ("x1", "x2", "y"): lambda rule: lambda g, y, x1, x2: rule(g, x1=x1, x2=x2, y=y),
}
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
    return select(mask, x, x.dtype.type(0))


def _join(types: tuple[Typed, ...], name: str) -> tuple[int, ...]:
    try:
        return broadcast_shapes(*[t.shape for t in types])
    except ValueError:
        raise ShapeError(
            f"{name}: shapes {' and '.join(str(t.shape) for t in types)} do not broadcast",
            "each axis, counted from the last, must be equal or 1: add axes with x[:, None] or x[None, :]",
        ) from None


def _batch(primitive: Elementwise, batched: tuple[bool, ...], xs: tuple[Array, ...]) -> Array:
    # axes of length 1 behind the batch axis, so that those of one example meet those of the others
    depths = [len(x.shape) if b else len(getattr(x, "shape", ())) + 1 for b, x in zip(batched, xs, strict=True)]
    depth = max(depths)
    return primitive(
        *[
            reshape(x, (x.shape[0], *(1,) * (depth - d), *x.shape[1:])) if b and d < depth else x
            for b, x, d in zip(batched, xs, depths, strict=True)
        ]
    )


def of_ufunc(ufunc: Any) -> Callable[..., DType]:
    """The dtype rule of a NumPy ufunc."""

    # without a bound: there are few dtypes
    @cache
    def resolved(*types: Any) -> DType:
        out: DType = ufunc.resolve_dtypes((*types, None))[-1]
        return out

    def dtype(*types: Typed) -> DType:
        return resolved(*[promotable(t) for t in types])

    return dtype


def _adapt(rule: Rule | None, *letters: str) -> tuple[Rule, tuple[str, ...]]:
    """`rule` as a function of (g, y, *letters), and the letters that it reads.

    Raises:
        TypeError: The rule names something else than g, y and the letters of its arguments.
    """
    if rule is None:
        return _no_rule, ()
    code = rule.__code__
    names = tuple(sorted(code.co_varnames[: code.co_argcount]))
    adapters = _UNARY if len(letters) == 1 else _BINARY
    reads = tuple(name for name in names if name != "g")
    if "g" not in names or reads not in adapters:
        raise TypeError(f"a rule takes g and any of {', '.join((*letters, 'y'))}; this one takes {', '.join(names)}")
    return adapters[reads](rule), reads


def _no_rule(*args: Any) -> Any:
    raise AssertionError("a constant operation is never recorded, so its pullback is never asked for")


def _no_expansion(*xs: Any) -> None:
    return None


def _places_of_others(letters: tuple[str, ...], names: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(i for i, letter in enumerate(letters) if letter not in names)


class _Line(Elementwise):
    """What a line of the table says."""

    __slots__ = ("_dtype", "constant", "expand", "fresh", "impl", "in_place", "keeps_weak", "name", "ufunc")

    impl: Callable[..., Any]
    expand: Callable[..., Any]

    def __init__(
        self,
        name: str,
        ufunc: Callable[..., Any],
        *,
        constant: bool = False,
        keeps_weak: bool = False,
        dtype: Callable[..., DType] | None = None,
        compute: Callable[..., Any] | None = None,
        in_place: bool = True,
        expand: Callable[..., Any] | None = None,
    ) -> None:
        self.name = name  # type: ignore[misc]  # each line of the table is an instance
        self.impl = compute or ufunc
        self.expand = expand or _no_expansion
        self.ufunc = ufunc if isinstance(ufunc, np.ufunc) else None
        self.fresh = self.ufunc is not None
        self.in_place = self.fresh and in_place
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

    __slots__ = ("_masking", "_rule", "_unread")

    def __init__(self, name: str, ufunc: Callable[..., Any], rule: Rule | None = None, **options: Any) -> None:
        super().__init__(name, ufunc, constant=rule is None, **options)
        self._rule, names = _adapt(rule, "x")
        self._masking = only_where if names else _carry
        self._unread = _places_of_others(("y", "x"), names)
        _lines[name] = self

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

    __slots__ = ("_masking", "_rule1", "_rule2", "_unread_both", "_unread_one")

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
        self._rule1, names1 = _adapt(rule1, "x1", "x2")
        self._rule2, names2 = _adapt(rule2, "x1", "x2")
        self._masking = (only_where if names1 else _carry, only_where if names2 else _carry)
        letters = ("y", "x1", "x2")
        self._unread_both = _places_of_others(letters, (*names1, *names2))
        self._unread_one = (_places_of_others(letters, names1), _places_of_others(letters, names2))
        _lines[name] = self

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
    fresh = True
    dtype: DType

    @property
    def constant(self) -> bool:  # type: ignore[override]  # follows from the dtype here
        return not is_inexact(self.dtype)

    def out_type(self, x: Typed) -> ArrayType:
        return ArrayType(x.shape, self.dtype)

    def impl(self, x: Array) -> Array:
        if x.__class__ is int:
            _check_holds(self.dtype, x)
        x = np.asarray(x)
        return (x.real if x.dtype.kind == "c" and self.dtype.kind == "f" else x).astype(self.dtype)

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (0, 1)

    def vjp(self, wanted: Wanted, g: Array, y: None, x: None) -> tuple[Array | None]:
        return (convert(g, wanted[0].dtype) if wanted[0] else None,)

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Any, *xs: Array) -> tuple[Cotangent | None, ...]:
        return (Masked(convert(g.value, wanted[0].dtype), g.mask) if wanted[0] else None,)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return self(x)


def _chosen(x: int, other: Array, taken: Any) -> int:
    """An operand of a selection, or 0 for one that is nowhere taken and that its dtype could not hold."""
    if not beyond_int64(x):
        return x
    if taken:
        _check_holds(promote(type_of(x), type_of(other)), x)
    return x if taken else 0


def _check_holds(dtype: DType, x: int) -> None:
    """Refuse a Python int that an integer dtype cannot hold because it is no int64: NumPy would let it wrap around."""
    if beyond_int64(x) and dtype.kind in "iu" and not (dtype == np.uint64 and 0 <= x < 2**64):
        refuse_beyond(x, f"a number that becomes {dtype.name}")


def convert(x: Array, dtype: DType) -> Array:
    """`x` as `dtype`; `x` itself where it has that dtype already and is not weak."""
    # the dtype comes first: NumPy takes `None == dtype("float64")` for true
    if hasattr(x, "dtype") and x.dtype == dtype and not getattr(x, "weak", False):
        return x
    return Convert(dtype)(x)


@final
@dataclass(frozen=True, slots=True)
class Select(Elementwise):
    """`x1` where `c` is true, else `x2`. The branch not taken has no part in the result, whatever its value there."""

    name: ClassVar[str] = "select"
    fresh = True

    def out_type(self, c: Typed, x1: Typed, x2: Typed) -> ArrayType:
        return ArrayType(_join((c, x1, x2), "where"), promote(x1, x2))

    def impl(self, c: Array, x1: Array, x2: Array) -> Array:
        if x1.__class__ is int:
            x1 = _chosen(x1, x2, np.any(c))
        if x2.__class__ is int:
            x2 = _chosen(x2, x1, not np.all(c))
        return np.where(c, x1, x2)

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (0, 2, 3)

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


def in_float(dtype: Callable[..., DType], f: Callable[..., Any]) -> Callable[..., Any]:
    """`f` as an expansion: of arguments that are converted to the dtype of the result.

    Half precision is computed in single precision and rounded once, as NumPy and SciPy do.
    """

    def expand(*xs: Any) -> Any:
        to = dtype(*map(type_of, xs))
        wide = np.dtype(np.float32) if to == np.float16 else to
        return convert(f(*[convert(x, wide) for x in xs]), to)

    return expand
