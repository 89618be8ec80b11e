"""Vector math beside true values that are computed with 200 bits, by a library that shares nothing with it.

A function is within 4 units in the last place: near zeros and poles, at the ends of its domain, where results are
subnormal, for sines of huge angles. Between the poles at negative integers, lgamma and digamma are sums of two terms
that cancel. There, units are those of the larger one of the result, of the function at |x|, and of 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest
import scipy.special

import funcgrad as fg
from funcgrad.compiler.native.vectormath import FUNCTIONS
from funcgrad.ops import gamma
from tests.test_vectormath import SPECIAL

Formula = Callable[..., Any]
DTYPES = [np.float32, np.float64]


def real(f: Formula) -> Formula:
    """NaN where there is only a complex value, and None at poles whose sign is that of zero."""

    def value(*xs: Any) -> Any:
        try:
            y = f(*xs)
        except (ZeroDivisionError, ValueError):
            return None
        return mp.nan if isinstance(y, mp.mpc) and y.imag else mp.re(y)

    return value


def settled(f: Formula) -> Formula:
    """For functions whose value, as a float, does not change beyond ±20 000."""
    return lambda x: f(min(max(x, mp.mpf(-20_000)), mp.mpf(20_000)))


def is_pole(x: Any) -> bool:
    return bool(x <= 0 and x == mp.floor(x))


def lgamma(x: Any) -> Any:
    """By its reflection, as mpmath has no function for the real part alone."""
    if is_pole(x):
        return mp.inf
    return mp.loggamma(x) if x > 0 else mp.log(mp.pi / abs(mp.sin(mp.pi * x))) - mp.loggamma(1 - x)


def digamma(x: Any) -> Any:
    if x == 0:
        raise ZeroDivisionError
    if is_pole(x):
        return mp.nan
    return mp.digamma(x) if x > 0 else mp.digamma(1 - x) - mp.pi * mp.cot(mp.pi * x)


def trigamma(x: Any) -> Any:
    if is_pole(x):
        return mp.inf
    return mp.zeta(2, x) if x > 0 else (mp.pi / mp.sin(mp.pi * x)) ** 2 - mp.zeta(2, 1 - x)


def rsqrt(x: Any) -> Any:
    return 1 / np.sqrt(x)


def softplus(x: Any) -> Any:
    return mp.log1p(mp.exp(x)) if x < 1000 else x


def cbrt(x: Any) -> Any:
    return mp.sign(x) * mp.cbrt(abs(x))


UNARY: dict[str, tuple[Callable[..., Any], Formula]] = {
    "exp": (np.exp, settled(mp.exp)),
    "exp2": (np.exp2, settled(lambda x: mp.mpf(2) ** x)),
    "expm1": (np.expm1, settled(mp.expm1)),
    "log": (np.log, mp.log),
    "log2": (np.log2, lambda x: mp.log(x) / mp.log(2)),
    "log10": (np.log10, mp.log10),
    "log1p": (np.log1p, mp.log1p),
    "sin": (np.sin, mp.sin),
    "cos": (np.cos, mp.cos),
    "tan": (np.tan, mp.tan),
    "arcsin": (np.arcsin, mp.asin),
    "arccos": (np.arccos, mp.acos),
    "arctan": (np.arctan, mp.atan),
    "sinh": (np.sinh, settled(mp.sinh)),
    "cosh": (np.cosh, settled(mp.cosh)),
    "tanh": (np.tanh, settled(mp.tanh)),
    "arcsinh": (np.arcsinh, mp.asinh),
    "arccosh": (np.arccosh, mp.acosh),
    "arctanh": (np.arctanh, mp.atanh),
    "sqrt": (np.sqrt, mp.sqrt),
    "rsqrt": (rsqrt, lambda x: 1 / mp.sqrt(x)),
    "cbrt": (np.cbrt, cbrt),
    "erf": (scipy.special.erf, settled(mp.erf)),
    "erfc": (scipy.special.erfc, settled(mp.erfc)),
    "lgamma": (scipy.special.gammaln, lgamma),
    "digamma": (scipy.special.psi, digamma),
    "trigamma": (gamma.trigamma, trigamma),
    "sigmoid": (fg.nn.sigmoid, settled(lambda x: 1 / (1 + mp.exp(-x)))),
    "softplus": (fg.nn.softplus, softplus),
}
BINARY: dict[str, tuple[Callable[..., Any], Formula]] = {
    "arctan2": (np.arctan2, mp.atan2),
    "power": (np.power, mp.power),
    "hypot": (np.hypot, mp.hypot),
}
# the largest numbers of which lgamma is finite, and the next one
LARGEST = [2.5564e305, 2.559983327851638e305, 2.5599833278516383e305, 2.5599833278516387e305]
# where to look closer: at zeros, at poles, where another formula begins
NEAR: dict[str, list[float]] = {
    "lgamma": [0.7, 1.0, 2.0, 2.5, *LARGEST, -1.0, -2.0, -2.4570247382208006, -3.0, -20.0],
    "digamma": [1.0, 1.4616321449683622, 2.5, -0.5040830082644554, -1.0, -1.5734984731623904, -9.0],
    "trigamma": [1.0, -1.0, -6.0],
    "erf": [0.5, 1.0, 3.95],
    "erfc": [0.5, 26.5, 10.05],
    "arccosh": [1.0],
    "arctanh": [1.0, -1.0],
    "log1p": [-1.0],
    "softplus": [-700.0, -80.0],
}
CANCELLING = ("lgamma", "digamma")


def sample(name: str, dtype: Any) -> Any:
    """All exponents; ordinary numbers; close to 1, to quarters of a turn, and to what is special about the function."""
    rng = np.random.default_rng(0)
    n = 60
    bits = np.dtype(f"u{np.dtype(dtype).itemsize}")
    everywhere = rng.integers(0, 2 ** (8 * bits.itemsize), 2 * n, dtype=bits).view(dtype)
    scattered = [rng.uniform(-r, r, n) for r in (800, 100, 30, 4, 1.2)]
    close = 1 + rng.uniform(-1, 1, n) * 0.5 ** rng.integers(1, 50, n)
    at = [c + rng.uniform(-1, 1, n) * 0.5 ** rng.integers(3, 40, n) for c in NEAR.get(name, ())]
    quarters = np.pi / 2 * np.concatenate([np.arange(1, n), 2.0 ** rng.integers(10, 1000, n // 2)])
    with np.errstate(all="ignore"):
        x = np.concatenate(
            [everywhere, *(y.astype(dtype) for y in (*scattered, close, *at, quarters, np.array(SPECIAL)))]
        )
    return x[np.isfinite(x)]


def pairs(dtype: Any) -> tuple[Any, Any]:
    rng = np.random.default_rng(1)
    x = sample("", dtype)
    base = np.exp(rng.uniform(-60, 60, x.size)).astype(dtype)
    largest = 709 if dtype == np.float64 else 88
    exponent = rng.uniform(-largest, largest, x.size) / np.log(base.astype(float))
    whole = rng.integers(-20, 20, x.size)
    first = [x, base, -base, rng.uniform(-9, 9, x.size)]
    second = [rng.permutation(x), exponent, whole, rng.uniform(-9, 9, x.size)]
    with np.errstate(all="ignore"):
        one, two = (np.concatenate([y.astype(dtype) for y in ys])[::2] for ys in (first, second))
    # mpmath has no −0
    there = (one != 0) & (two != 0)
    return one[there], two[there]


def units_off(y: Any, true: Any, scale: Any) -> float:
    """How far off a number is, in units in the last place of the scale."""
    dtype = y.dtype.type
    with np.errstate(over="ignore"):
        rounded, unit = dtype(float(true)), np.spacing(dtype(float(scale)))
    if not (np.isfinite(rounded) and np.isfinite(y)):
        return 0.0 if y == rounded or (np.isnan(y) and np.isnan(rounded)) else np.inf
    return float(abs(mp.mpf(float(y)) - true) / float(unit))


def scale_of(name: str, value: Formula, true: Any, *xs: Any) -> Any:
    if name in CANCELLING and xs[0] < 0 and mp.isfinite(true):
        return max(abs(true), abs(value(-xs[0])), mp.mpf(1))
    return abs(true)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*UNARY, *BINARY])
def test_a_function_is_within_four_units_of_the_true_value(name: str, dtype: Any) -> None:
    f, value = (UNARY | BINARY)[name]
    xs = (sample(name, dtype),) if name in UNARY else pairs(dtype)
    ys = fg.jit(lambda *xs: f(*xs))(*xs)
    value = real(value)
    worst: tuple[float, tuple[Any, ...]] = (0.0, ())
    tested = 0
    with mp.workprec(200):
        for y, *x in zip(ys, *xs, strict=True):
            arguments = [mp.mpf(float(z)) for z in x]
            true = value(*arguments)
            if true is not None:
                tested += 1
                worst = max(worst, (units_off(y, true, scale_of(name, value, true, *arguments)), (*x, y, true)))
    assert tested > 0.9 * ys.size
    assert worst[0] <= 4, f"{name}{worst[1][:-2]} is {worst[1][-2]!r}, {worst[0]} units off {worst[1][-1]}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_sines_of_huge_angles_keep_their_digits(name: str, dtype: Any) -> None:
    f, value = UNARY[name]
    largest = 1023 if dtype == np.float64 else 127
    x = (np.random.default_rng(2).uniform(-1, 1, 300) * 2.0 ** np.linspace(15, largest, 300)).astype(dtype)
    with mp.workprec(1200):
        true = [value(mp.mpf(float(z))) for z in x]
        assert max(units_off(y, t, abs(t)) for y, t in zip(fg.jit(f)(x), true, strict=True)) <= 4


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UNARY)
def test_zeros_infinities_and_nan_give_what_evaluation_gives(name: str, dtype: Any) -> None:
    f, _ = UNARY[name]
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, -2.0], dtype)
    with np.errstate(all="ignore"):
        expected = f(x)
        y = fg.jit(lambda x: f(x))(x)
    exact = np.isnan(expected) | np.isinf(expected) | (expected == 0)
    np.testing.assert_array_equal(y[exact], expected[exact])
    zero = expected == 0
    np.testing.assert_array_equal(np.signbit(y[zero]), np.signbit(expected[zero]))


@pytest.mark.parametrize("name", ["lgamma", "digamma", "trigamma"])
def test_subnormal_and_largest_numbers_have_no_wrong_value(name: str) -> None:
    f, value = getattr(gamma, name), UNARY[name][1]
    x = np.array([5e-324, -5e-324, 1e-310, -1e-310, 2e-308, *LARGEST])
    with np.errstate(all="ignore"), mp.workprec(200):
        true = np.array([float(value(mp.mpf(z))) for z in x])
        np.testing.assert_allclose(f(x), true, rtol=1e-15)
        np.testing.assert_allclose(fg.jit(f)(x), true, rtol=1e-15)


def test_every_function_is_tested() -> None:
    assert set(FUNCTIONS) - {*UNARY, *BINARY} == {"logaddexp"}
