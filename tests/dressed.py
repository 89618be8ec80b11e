"""Applications of primitives, dressed for machine code: other dtypes, longer axes, special values, odd layouts.

And how close to evaluation the result has to be: equal bit for bit where NumPy's own result is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from funcgrad.core.kinds import Contraction, Elementwise, IndexMap, Library, Program, Reduction, Running, Scatter
from funcgrad.core.primitive import Primitive, Unbatched, out_types
from funcgrad.core.types import type_of
from funcgrad.ops.pointwise import Convert, table
from tests import forms
from tests.cases.base import Case

Array = Any
Shape = tuple[int, ...]
# The results of all other elementwise functions are rounded in one step, or not at all. Those that are written with
# several others lose a few digits more, and so does NumPy with complex numbers.
_ROUNDED = """
    power cbrt hypot exp exp2 expm1 log log2 log10 log1p logaddexp xlogy logit sigmoid softplus erf erfc sin cos tan
    arcsin arccos arctan arctan2 sinh cosh tanh arcsinh arccosh arctanh gelu trigamma
"""
ROUNDED = frozenset(_ROUNDED.split())
# SciPy's far tail has an error of several hundred units in the last place, and is 0 where it is subnormal
ULPS = {"erfc": 600.0}
# Near their poles and zeros, SciPy's results are as far off as if the argument were.
SLOPES = {"lgamma": "digamma", "digamma": "trigamma"}
# where −0.0 meets 0.0, what NumPy answers depends on how it was compiled
UNSIGNED = frozenset({"maximum", "minimum", "fmax", "fmin", "relu", "max", "min", "scatter_max", "scatter_min"})
# they add up or multiply, in an order that is not NumPy's
SUMMED = frozenset({"sum", "prod", "cumsum", "cumprod", "contract", "recurrence"})
# the functions that users call convert before they apply them
FLOATING = frozenset({"gelu", "softmax", "log_softmax", "logsumexp"})
# Python numbers have no other dtypes, nor have the numbers of branches other values
FIXED = frozenset({"weaken", "branch_index"})
# arguments of any value will do
_FREE = (Elementwise, Reduction, IndexMap, Scatter, Contraction, Running)


@dataclass(frozen=True)
class Dressed:
    """A function that applies a primitive, perhaps in a batch, and its arguments.

    Attributes:
        primitive: The primitive.
        f: The function.
        args: The arguments.
        plain: The same, as ordinary arrays.
    """

    primitive: Primitive
    f: Callable[..., Any]
    args: tuple[Any, ...]
    plain: tuple[Any, ...]

    def agree(self, got: Sequence[Any], expected: Sequence[Any]) -> None:
        """What two ways to compute the function have given is the same, as far as NumPy's result is exact."""
        name = self.primitive.name
        for i, (a, b) in enumerate(zip(got, expected, strict=True)):
            forms.assert_same_form(a, b)
            if name in SUMMED and np.asarray(b).dtype.kind in "fc":
                terms = max(int(np.size(x)) for x in self.plain)
                forms.assert_rounded(a, b, terms, self._scale(i))
            elif name in SLOPES:
                assert_close_for_a_close_argument(a, b, self.plain[0], table()[SLOPES[name]])
            elif name in ROUNDED or (name in ("absolute", "direction") and np.asarray(self.plain[0]).dtype.kind == "c"):
                if name == "erfc":
                    a, b = (np.where(np.abs(y) < np.finfo(np.asarray(y).dtype).tiny, 0, y) for y in (a, b))
                forms.assert_ulps(a, b, ULPS.get(name, 32 if np.asarray(b).dtype.kind == "c" else 10))
            elif isinstance(self.primitive, _FREE) and name not in (*FLOATING, "sinc"):
                forms.assert_equal(a, b, signs=name not in UNSIGNED)
            else:
                assert_rounded_alike(a, b)

    def _scale(self, i: int) -> Array:
        """The sum of the absolute values of all terms: each of these functions grows with its arguments."""
        wide = [np.abs(x).astype(float) if np.asarray(x).dtype.kind in "fciu" else x for x in self.plain]
        with np.errstate(all="ignore"):
            y = self.f(*[np.where(np.isfinite(x), x, 0) for x in wide])
        return (y if self.primitive.multiple else (y,))[i]


def assert_close_for_a_close_argument(a: Any, b: Any, x: Any, slope: Callable[..., Any]) -> None:
    """Equal but for rounding of the argument and of the result."""
    with np.errstate(all="ignore"):
        bound = np.abs(b) + np.abs(x * slope(np.asarray(x, np.float64))) + 1
        near = np.abs(np.subtract(a, b, dtype=np.float64)) <= 16 * np.finfo(np.asarray(b).dtype).eps * bound
    assert np.all((near & np.isfinite(b)) | (a == b) | (np.isnan(a) & np.isnan(b))), (a, b)


def assert_rounded_alike(a: Any, b: Any) -> None:
    """Equal but for rounding: machine code has its own exponentials, and its own order of adding up."""
    if np.asarray(b).dtype.kind not in "fc":
        np.testing.assert_array_equal(a, b)
        return
    finite = np.where(np.isfinite(b), np.abs(b), 0)
    few = 16 * np.finfo(np.asarray(b).dtype).eps
    np.testing.assert_allclose(a, b, rtol=few, atol=few * np.max(finite, initial=0), equal_nan=True)


@st.composite
def dressed(draw: st.DrawFn, case: Case) -> Dressed:
    """An application of the primitive of a case."""
    primitive, args = case.primitive, case.args
    f: Callable[..., Any] = primitive
    if isinstance(primitive, _FREE) and primitive.name not in FIXED:
        primitive, shapes = _reshaped(draw, primitive, args)
        args = _converted(draw, primitive, args, shapes)
        f = primitive
    if args and not isinstance(primitive, Elementwise | Program) and draw(st.booleans()):
        f, args = _batched(draw, case, primitive, args)
    # numbers of Python are for those that stand for a function of NumPy
    form = forms.formed if isinstance(f, Elementwise | Library | Reduction) else forms.laid_out
    given = tuple(draw(form(x)) if isinstance(x, np.ndarray) else x for x in args)
    if isinstance(primitive, Program):
        given = tuple(
            x.astype(x.dtype.newbyteorder("="), copy=False) if isinstance(x, np.ndarray) else x for x in given
        )
    return Dressed(primitive, f, given, tuple(x if np.ndim(x) == 0 else np.array(x) for x in given))


def _reshaped(draw: st.DrawFn, primitive: Primitive, args: Sequence[Any]) -> tuple[Primitive, list[Shape]]:
    """The primitive over longer axes, if its shapes are free."""
    if isinstance(primitive, Elementwise):
        shape = draw(forms.shapes())
        return primitive, [draw(forms.broadcast_to(shape)) for _ in args]
    if isinstance(primitive, Reduction) and "axes" in type(primitive).__dataclass_fields__:  # type: ignore[attr-defined]
        shape = draw(forms.shapes())
        axes = tuple(i for i, n in enumerate(shape) if n and draw(st.booleans()))
        return replace(primitive, axes=axes), [shape]  # type: ignore[type-var]
    return primitive, [np.shape(x) for x in args]


def _converted(draw: st.DrawFn, primitive: Primitive, args: Sequence[Any], shapes: Sequence[Shape]) -> tuple[Any, ...]:
    """Arguments of other dtypes, with special values among them; positions stay what they are."""
    free = isinstance(primitive, Elementwise | Reduction | Contraction | Running)
    places = [i for i, x in enumerate(args) if free or np.asarray(x).dtype.kind == "f"]
    # what is written is of the dtype of what it is written into
    same = not free or draw(st.booleans())
    choice = st.sampled_from(dtypes_for(primitive))
    first = draw(choice)
    dtypes = {i: first if same else draw(choice) for i in places}
    # infinite complex numbers are multiplied in more than one way
    inexact = "c" in first + "".join(dtypes.values()) and not isinstance(primitive, IndexMap)
    # and the derivatives of sinc, which nobody sees by themselves, have limits that a product makes NaN
    some = 0.0 if inexact or primitive.name == "sinc" else draw(st.sampled_from([0.0, 0.1, 0.5]))
    seed = draw(st.integers(0, 2**16))
    bound = (
        np.inf
        if not summed(primitive)
        else 2.0
        if "prod" in primitive.name or primitive.name == "recurrence"
        else 100.0
    )
    fallback = "f8"
    for chosen in (dtypes, dict.fromkeys(places, first), dict.fromkeys(places, "i8"), dict.fromkeys(places, fallback)):
        out = [
            forms.numbers(seed + i, chosen[i], shape, some, bound) if i in chosen else _position(draw, x)
            for i, (x, shape) in enumerate(zip(args, shapes, strict=True))
        ]
        try:
            out_types(primitive, [type_of(x) for x in out])
        except TypeError:
            continue
        return tuple(out)
    return tuple(args)


def dtypes_for(primitive: Primitive) -> list[str]:
    """The dtypes to try."""
    if primitive.name == "sinc":
        # evaluated in half precision, πx is rounded before its sine is taken
        return forms.FLOATS[:2]
    if primitive.name in FLOATING:
        return forms.FLOATS
    # NumPy warns of a complex number that becomes a real one
    return forms.REAL if isinstance(primitive, Convert) and primitive.dtype.kind != "c" else forms.DTYPES


def summed(primitive: Primitive) -> bool:
    """True if the result depends on the order in which it is computed."""
    return primitive.name in SUMMED


def _position(draw: st.DrawFn, x: Any) -> Any:
    """An index or a mask, in a dtype that holds it."""
    x = np.asarray(x)
    if x.dtype.kind not in "iu":
        return x
    signs = forms.INTEGERS if np.all(x >= 0) else forms.INTEGERS[:4]
    dtype = np.dtype(draw(st.sampled_from(signs)))
    return x.astype(dtype) if np.all(x <= np.iinfo(dtype).max) else x


def _batched(
    draw: st.DrawFn, case: Case, primitive: Primitive, args: Sequence[Any]
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The primitive in a batch, of a length at which vectors end or blocks do."""
    flags = draw(st.tuples(*(st.booleans() for _ in args)).filter(any))
    n = draw(st.sampled_from([1, 3, 5, 8, 9, 17] if isinstance(primitive, Library) else [1, 3, 5, 8, 9, 17, 33, 67]))

    def stacked(i: int, x: Any) -> Any:
        x = np.asarray(x)
        if i in case.others:
            return np.stack([np.asarray(case.others[i][k % len(case.others[i])]) for k in range(n)])
        factors = (1 + np.arange(n) % 3).reshape((n, *(1 for _ in x.shape)))
        with np.errstate(all="ignore"):
            return (x * factors).astype(x.dtype) if x.dtype.kind in "fc" else np.stack([x] * n)

    def batched(*xs: Any) -> Any:
        y = primitive.batch(flags, *xs)
        return tuple(map(_unmarked, y)) if primitive.multiple else _unmarked(y)

    return batched, tuple(stacked(i, x) if b else x for i, (x, b) in enumerate(zip(args, flags, strict=True)))


def _unmarked(y: Any) -> Any:
    return y.value if isinstance(y, Unbatched) else y
