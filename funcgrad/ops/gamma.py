"""The logarithm of the gamma function, its derivatives of all orders, and what is made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, final

import numpy as np

from funcgrad.core.errors import DTypeError
from funcgrad.core.kinds import Elementwise
from funcgrad.core.primitive import Masked, Wanted
from funcgrad.core.types import Array, ArrayType, Typed, show_long, type_of
from funcgrad.ops.elementwise import is_complex, of_scipy, real_dtype
from funcgrad.ops.pointwise import Binary, Unary, of_ufunc, only_where

_gammaln = of_scipy("gammaln", real_dtype)
# the largest numbers of which lgamma is finite, in SciPy and in double precision
_SCIPY_LARGEST, _LARGEST = 2.5563e305, 2.5599833278516383e305
# that of a function of two real numbers
_real_dtype_of_two = of_ufunc(np.arctan2)


def _of_real(name: str) -> Callable[[Array], Array]:
    """SciPy's function without that of complex numbers, as there are no derivatives for these."""
    function = of_scipy(name, real_dtype)

    def call(x: Array) -> Array:
        if is_complex(x):
            raise TypeError(f"{name} of complex numbers")
        return function(x)

    return call


def _lgamma(x: Array) -> Array:
    """SciPy's function, and what it is where SciPy says infinity too early: at subnormal and at very large numbers."""
    y = _gammaln(x)
    infinite = np.isinf(y)
    if not infinite.any() or y.dtype != np.float64:
        return y
    a = np.abs(np.asarray(x, np.float64))
    with np.errstate(all="ignore"):
        y = np.where(infinite & (a > 0) & (a < np.finfo(np.float64).tiny), -np.log(a), y)
        return np.where(infinite & (x > _SCIPY_LARGEST) & (x <= _LARGEST), a * (np.log(a) - 1), y)[()]


def _derivative(n: int, x: Array) -> Array:
    """The derivative of digamma of order n ≥ 1, by Hurwitz's zeta function.

    Negative numbers are reflected, as SciPy's way takes a time that grows with their size. Poles have SciPy's sign.

    Source: NIST Digital Library of Mathematical Functions, 5.15.
    """
    from scipy.special import zeta  # heavy: imported when first needed

    to = real_dtype(type_of(x))
    wide = np.asarray(x, np.float64)
    negative = wide < 0
    sign = -1 if n % 2 == 0 else 1
    with np.errstate(all="ignore"):
        y = sign * math.factorial(n) * zeta(n + 1, np.where(negative, 1 - wide, wide))
        if negative.any():
            r = wide - np.rint(wide)
            pole = (r == 0) | np.isinf(wide)
            reflected = -sign * y - math.pi ** (n + 1) * _of_cotangent(n, 1 / np.tan(math.pi * r))
            y = np.where(negative, np.where(pole, sign * math.inf, reflected), y)
        return np.asarray(y).astype(to)[()]


def _of_cotangent(n: int, c: Array) -> Array:
    """The derivative of cot πz of order n, over πⁿ, where c = cot πz."""
    *others, y = map(float, _powers(n))
    for k in reversed(others):
        y = y * c + k
    return y


@cache
def _powers(n: int) -> tuple[int, ...]:
    """The coefficients of that polynomial, as the slope of cot is −(1 + cot²)."""
    if n == 0:
        return (0, 1)
    slope = [-k * c for k, c in enumerate(_powers(n - 1))][1:]
    return tuple(a + b for a, b in zip([*slope, 0, 0], [0, 0, *slope], strict=True))


@final
@dataclass(frozen=True, slots=True)
class Polygamma(Elementwise):
    """The derivative of digamma of order n ≥ 2."""

    name: ClassVar[str] = "polygamma"
    n: int = 2

    def out_type(self, x: Typed) -> ArrayType:
        try:
            return ArrayType(x.shape, real_dtype(x))
        except TypeError:
            raise DTypeError(f"polygamma is not defined for {show_long(x)}", "convert first: x.astype(float)") from None

    def impl(self, x: Array) -> Array:
        return _derivative(self.n, x)

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (0,)

    def vjp(self, wanted: Wanted, g: Array, y: None, x: Array) -> tuple[Array | None]:
        return (None if wanted[0] is None else g * Polygamma(self.n + 1)(x),)

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Any, *xs: Array) -> tuple[Masked | None]:
        (ct,) = self.vjp(wanted, g.value, y, *xs)
        return (None if ct is None else only_where(ct, g.mask),)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return self(x)


lgamma = Unary("lgamma", _lgamma, lambda g, x: g * digamma(x), dtype=real_dtype)
digamma: Unary = Unary("digamma", _of_real("psi"), lambda g, x: g * trigamma(x), dtype=real_dtype)
trigamma: Unary = Unary("trigamma", lambda x: _derivative(1, x), lambda g, x: g * Polygamma(2)(x), dtype=real_dtype)
gamma = Unary("gamma", _of_real("gamma"), lambda g, x, y: g * (y * digamma(x)), dtype=real_dtype)
gammasgn = Unary("gammasgn", of_scipy("gammasgn", real_dtype), dtype=real_dtype)
betaln = Binary(
    "betaln",
    of_scipy("betaln", _real_dtype_of_two),
    lambda g, x1, x2: g * (digamma(x1) - digamma(x1 + x2)),
    lambda g, x1, x2: g * (digamma(x2) - digamma(x1 + x2)),
    dtype=_real_dtype_of_two,
)
