"""Smooth functions whose formulas fail somewhere: `sinc` at 0, `gelu` far away. Here their derivatives do not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from funcgrad.core.kinds import Elementwise
from funcgrad.core.primitive import Masked, Wanted
from funcgrad.core.types import Array, ArrayType, Typed
from funcgrad.ops.elementwise import (
    absolute,
    add,
    cos,
    divide,
    equal,
    less,
    maximum,
    minimum,
    multiply,
    sigmoid,
    sin,
    subtract,
)
from funcgrad.ops.pointwise import Unary, in_float, only_where, select


@final
@dataclass(frozen=True, slots=True)
class Sinc(Elementwise):
    """s_n(πx), where s_n(z) = j_n(z) / zⁿ with the spherical Bessel function j_n: for n = 0 it is sin(πx) / (πx).

    The family is closed under differentiation, without a division: s_n'(z) = −z s_{n+1}(z)
    (Abramowitz and Stegun, Handbook of Mathematical Functions, 10.1.24).
    """

    name: ClassVar[str] = "sinc"
    n: int = 0

    def out_type(self, x: Typed) -> ArrayType:
        return ArrayType(x.shape, x.dtype)

    def impl(self, x: Array) -> Array:
        if self.n == 0:
            return np.sinc(x)
        from scipy.special import spherical_jn  # heavy: imported when first needed

        z = np.pi * np.asarray(x)
        small = abs(z) < 0.5
        far = np.where(small, 1, z)
        near = np.where(small, z, 0)
        y = np.where(small, self._series(near), spherical_jn(self.n, far) / far**self.n)
        return y.astype(z.dtype)[()]

    def expand(self, x: Any) -> Any:
        if self.n == 0:
            z = multiply(math.pi, x)
            return select(equal(z, 0), x.dtype.type(1), divide(sin(z), z))
        return in_float(lambda t: t.dtype, self._simple)(x) if self.n in _NEAR else None

    def _simple(self, x: Any) -> Any:
        """The power series, or the formulas of Abramowitz and Stegun, 10.1.11, where these do not cancel."""
        z = multiply(math.pi, x)
        square = multiply(z, z)
        limit, terms = _NEAR[self.n]
        coefficients = [
            (-0.5) ** k / math.factorial(k) / math.prod(range(1, 2 * (self.n + k) + 2, 2)) for k in range(terms)
        ]
        near: Any = coefficients[-1]
        for c in reversed(coefficients[:-1]):
            near = add(multiply(near, square), c)
        far = divide(subtract(sin(z), multiply(z, cos(z))), multiply(z, square))
        if self.n == 2:
            far = divide(subtract(multiply(3, far), divide(sin(z), z)), square)
        return select(less(absolute(z), limit), near, far)

    def _series(self, z: Array) -> Array:
        """The first terms of the power series of s_n, which suffice for |z| < ½."""
        term = np.ones_like(z) / math.prod(range(1, 2 * self.n + 2, 2))
        total = term
        for k in range(1, 8):
            term = term * (z * z) / (-2 * k * (2 * self.n + 2 * k + 1))
            total = total + term
        return total

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (0,)

    def vjp(self, wanted: Wanted, g: Array, y: None, x: Array) -> tuple[Array | None]:
        return (None if wanted[0] is None else g * (-(math.pi**2) * (x * Sinc(self.n + 1)(x))),)

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Any, *xs: Array) -> tuple[Masked | None]:
        (ct,) = self.vjp(wanted, g.value, y, *xs)
        return (None if ct is None else only_where(ct, g.mask),)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return self(x)


# for the first derivatives of sinc: up to where their power series are used, and how many terms that takes
_NEAR = {1: (1.5, 12), 2: (2.5, 16)}

# gelu(x) = x σ(ax + bx³). From 20 on the sigmoid is 0 or 1, and the cube must not overflow.
_A = 2 * math.sqrt(2 / math.pi)
_B = 0.044715 * _A
_FAR = 20


def _gelu(x: Array) -> Array:
    z = np.clip(x, -_FAR, _FAR)
    return x * sigmoid(z * (_A + _B * (z * z)))


def _simple_gelu(x: Array) -> Array:
    z = minimum(maximum(x, -_FAR), _FAR)
    return multiply(x, sigmoid(multiply(z, add(_A, multiply(_B, multiply(z, z))))))


def _slope_of_gelu(x: Array) -> Array:
    z = minimum(maximum(x, -_FAR), _FAR)
    square = z * z
    y = sigmoid(z * (_A + _B * square))
    return y + y * (1 - y) * (z * (_A + 3 * _B * square))


gelu = Unary("gelu", _gelu, lambda g, x: g * _slope_of_gelu(x), dtype=lambda t: t.dtype, expand=_simple_gelu)
