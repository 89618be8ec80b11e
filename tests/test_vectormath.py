"""Vector math is within 4 units in the last place of the true value, over the whole domain, in single and in double.

The true value is NumPy's in extended precision, so these tests need a platform that has it.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from funcgrad.compiler.native.machine import llvm
from funcgrad.compiler.native.machine.builder import Builder, Module, Type, Value
from funcgrad.compiler.native.vectormath import COSTS, FUNCTIONS, far
from funcgrad.ops.pointwise import table

EXTENDED = np.longdouble
pytestmark = pytest.mark.skipif(np.finfo(EXTENDED).nmant < 60, reason="long double is double here")
DTYPES = [np.float32, np.float64]
# thresholds, and what has values of its own
SPECIAL = [
    *(0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, -0.5, 1e-8, -1e-17, 1e-30, 5e-324, -5e-324, 1e-310),
    *(2.0, -2.0, 3.0, -3.0, 2.5, 0.1, 0.75, 1.5, 1 - 2.0**-53, 1 + 2.0**-52, 1 - 2.0**-24, 1 + 2.0**-23),
    *(709.78, 709.79, -708.5, -745.1, -745.2, 88.7, 88.8, -87.5, -103.9, -104.1, 1e-45, 22.5, 1023.9, 1024.0, -1075.5),
    *(710.4, 710.47, 710.48, -710.48, 89.41, 89.42, 26.5, 27.2, 27.25, 9.2, 10.05, 10.1, 3.92, 5.9, 2.0**28, 8192.0),
    *(2.0**17, 2.0**17 - 0.01, 2.0**28 - 1, 3.3e6, 1e22, 1e300, np.pi / 2, np.pi, 1e5 * np.pi),
    *(1.7976931348623157e308, 2.2250738585072014e-308, 3.4028234e38, 1.1754944e-38),
    # the double that comes closest to a multiple of π/2, and another one that comes close
    *(6381956970095103 * 2.0**797, 5.31937264832654141671e255),
]
WHOLE = np.array([-7.0, -0.25, 4.0, 5.0, 2.0**24 + 2, 2.0**53, 2.0**52 + 1])


def sigmoid(x: Any) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def erf_near(x: Any) -> Any:
    """By its power series, for |x| < ½."""
    term = total = x * 2 / np.sqrt(EXTENDED(np.arctan2(EXTENDED(0), EXTENDED(-1))))
    for n in range(1, 20):
        term = -term * x * x / n
        total = total + term / (2 * n + 1)
    return total


def erfc_far(x: Any) -> Any:
    """For x ≥ ½, by the trapezoidal rule on an integral of exp(−t²) / (t² + x²), and what that misses.

    C. Chiarella and A. Reichel, On the evaluation of integrals related to the error function, Mathematics of
    Computation 22, 1968. With steps of 0.4 the error is below 10⁻²⁶.
    """
    pi, h = EXTENDED(np.arctan2(EXTENDED(0), EXTENDED(-1))), EXTENDED(2) / 5
    total = 1 / (2 * x * x) + sum(np.exp(-((n * h) ** 2)) / ((n * h) ** 2 + x * x) for n in range(1, 22))
    missed = np.where(x < pi / h, 2 / (1 - np.exp(2 * pi * np.minimum(x, 8) / h)), 0)
    # the square with all its digits
    start = np.round(x * 64) / 64
    power = np.exp(-start * start) * np.exp(-(x - start) * (x + start))
    return 2 * h * x / pi * power * total + missed


def erf(x: Any) -> Any:
    a = np.minimum(np.abs(x), 30)
    y = np.where(a < 0.5, erf_near(np.minimum(a, 0.5)), 1 - erfc_far(np.maximum(a, 0.5)))
    return np.copysign(y, x)


def erfc(x: Any) -> Any:
    # NaN and numbers beyond 200 only go through what has no trouble with them
    a = np.abs(np.clip(x, -200, 200))
    y = np.where(a < 0.5, 1 - erf_near(np.minimum(a, 0.5)), erfc_far(np.maximum(a, 0.5)))
    return np.where(x < 0, 2 - y, y)


OWN: dict[str, Callable[..., Any]] = {"sigmoid": sigmoid, "erf": erf, "erfc": erfc}
OF_TWO = ("arctan2", "hypot", "power")
# tests/test_vectormath_mpmath.py has their true values
ELSEWHERE = ("lgamma", "digamma", "trigamma")
TRUE = {name: OWN.get(name) or getattr(np, name) for name in FUNCTIONS if name not in (*ELSEWHERE, "logaddexp")}


def sample(dtype: Any, n: int = 20_000) -> Any:
    rng = np.random.default_rng(0)
    unsigned = np.dtype(f"u{np.dtype(dtype).itemsize}")
    everywhere = rng.integers(0, 2 ** (8 * unsigned.itemsize), 2 * n, dtype=unsigned).view(dtype)
    dense = [rng.uniform(-r, r, n) for r in (800, 110, 28, 4, 1.2)]
    dense += [np.exp(rng.uniform(-40, 5, n)), 1 + rng.uniform(-1, 1, n) * 0.5 ** rng.integers(1, 50, n)]
    quarters = np.pi / 2 * np.arange(1, n)
    with np.errstate(all="ignore"):
        return np.concatenate([everywhere, *(x.astype(dtype) for x in (*dense, quarters, np.array(SPECIAL)))])


def pairs(name: str, dtype: Any, n: int = 20_000) -> tuple[Any, Any]:
    rng = np.random.default_rng(1)
    x = sample(dtype, n // 4)
    with np.errstate(all="ignore"):
        special = np.concatenate([SPECIAL, WHOLE]).astype(dtype)
    both = [(x, rng.permutation(x)), tuple(np.array([*itertools.product(special, special)]).T)]
    both.append((rng.uniform(-9, 9, n), rng.uniform(-9, 9, n)))
    if name == "power":
        base = np.concatenate(
            [np.exp(rng.uniform(-80, 80, n)), 1 + rng.uniform(-1, 1, n) * 0.5 ** rng.integers(1, 22, n)]
        )
        base = base.astype(dtype).astype(np.float64)
        base = base[base != 1]
        # up to the largest and the smallest results, and negative bases with whole exponents
        both.append((base, rng.uniform(-1, 1, base.size) * (745 if dtype == np.float64 else 104) / np.log(base)))
        both.append((rng.uniform(-9, 0, n), rng.integers(-40, 40, n)))
    first, second = (np.concatenate([np.asarray(p[i], dtype) for p in both]) for i in (0, 1))
    return first, second


def arguments(name: str, dtype: Any, n: int = 20_000) -> tuple[Any, ...]:
    return pairs(name, dtype, n) if name in (*OF_TWO, "logaddexp") else (sample(dtype, n),)


def compiled(name: str) -> Any:
    function: Any = table()[name]
    return fg.jit(lambda *xs: function(*xs))


def units_off(y: Any, true: Any) -> Any:
    """How far off `y` is, in units of the last place; infinite where a special value is another one."""
    rounded = true.astype(y.dtype)
    finite = np.isfinite(rounded)
    unit = np.spacing(np.abs(np.where(finite, rounded, 1))).astype(EXTENDED)
    off = np.abs(y.astype(EXTENDED) - true) / unit
    alike = (y == rounded) | (np.isnan(y) & np.isnan(rounded))
    return np.where(finite, np.where(np.isnan(y), np.inf, off), np.where(alike, 0, np.inf))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TRUE)
def test_a_function_is_within_four_units_in_the_last_place(name: str, dtype: Any) -> None:
    xs = arguments(name, dtype)
    f = compiled(name)
    with np.errstate(all="ignore"):
        y, true = f(*xs), TRUE[name](*[x.astype(EXTENDED) for x in xs])
        off = units_off(y, true)
    i = off.argmax()
    assert name in f.lower(*xs).as_text("kernels")
    assert off[i] <= 4, f"{name}({', '.join(repr(x[i]) for x in xs)}) is {y[i]!r}, {off[i]} units off {true[i]!r}"
    zero = y == 0
    np.testing.assert_array_equal(np.signbit(y[zero]), np.signbit(true[zero]))


def close_to_multiples() -> Any:
    """Doubles that come closer to a multiple of π/2 than all smaller ones with the same exponent."""
    digits = functools.reduce(lambda number, word: number << 64 | word, far._DIGITS)
    found = []
    for exponent in range(-20, 970, 3):
        # the denominators of the continued fraction of 2^exponent / (π/2); the first word of digits is 0
        a, b = digits << (exponent + 22), 1 << (64 * len(far._DIGITS) - 44)
        before, last = 1, 0
        while b and last < 2**53:
            found += [last * 2.0**exponent] * (last >= 2**46)
            before, last = last, a // b * last + before
            a, b = b, a % b
    return np.array([*found, *(-x for x in found)])


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_sines_keep_their_digits_close_to_multiples_of_a_quarter_turn(name: str) -> None:
    x = close_to_multiples()
    true = TRUE[name](x.astype(EXTENDED))
    assert np.abs(true).min() < 1e-17
    assert units_off(compiled(name)(x), true).max() <= 4


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [-16, -12, -6, -3, -2, -1.5, -0.5, 1.5, 2.5, 3, 4, 5, 6, 7, 11, 16, 17, 0.1, -2.75])
def test_a_power_with_a_number_is_within_four_units_in_the_last_place(n: float, dtype: Any) -> None:
    limit = abs((745 if dtype == np.float64 else 104) / n)
    exponents = np.random.default_rng(2).uniform(-limit, limit, 20_000)
    with np.errstate(all="ignore"):
        x = np.concatenate([sample(dtype, 1000), *(s * np.exp(exponents).astype(dtype) for s in (1, -1))])
        y, true = fg.jit(lambda x: x**n)(x), np.power(x.astype(EXTENDED), EXTENDED(dtype(n)))
        off = units_off(y, true)
    i = off.argmax()
    assert off[i] <= 4, f"{x[i]!r} to the power of {n} is {y[i]!r}, {off[i]} units off {true[i]!r}"
    zero = y == 0
    np.testing.assert_array_equal(np.signbit(y[zero]), np.signbit(true[zero]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_logaddexp_is_within_four_units_of_the_larger_term(dtype: Any) -> None:
    rng = np.random.default_rng(1)
    x, y = (rng.uniform(-50, 50, 20_000).astype(dtype) for _ in range(2))
    special = np.array([0.0, np.inf, -np.inf, np.nan, 1.0, -1e3], dtype)
    x, y = (np.concatenate([z, s]) for z, s in ((x, np.repeat(special, 6)), (y, np.tile(special, 6))))
    with np.errstate(all="ignore"):
        z, true = fg.jit(np.logaddexp)(x, y), np.logaddexp(x.astype(EXTENDED), y.astype(EXTENDED))
        unit = np.spacing(np.maximum(1, np.maximum(np.abs(x), np.abs(y))))
        finite = np.isfinite(true) & np.isfinite(unit)
        assert (np.abs(z - true)[finite] <= 4 * unit[finite]).all()
    np.testing.assert_array_equal(z[~np.isfinite(true)], true[~np.isfinite(true)].astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_complement_of_the_error_function_is_one_at_zero(dtype: Any) -> None:
    x = np.array([0.0, -0.0], dtype)
    np.testing.assert_array_equal(compiled("erfc")(x), [1, 1])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_result_does_not_depend_on_the_width_of_vectors(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    xs = [arguments(name, dtype, 500) for dtype in DTYPES]
    wide = [compiled(name)(*x) for x in xs]
    host = llvm.host()
    for vector_bytes in (8, 16, 32):
        monkeypatch.setattr(llvm, "host", functools.partial(replace, host, vector_bytes=vector_bytes))
        for x, y in zip(xs, wide, strict=True):
            np.testing.assert_array_equal(compiled(name)(*x), y)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_instructions_of_wide_vectors_are_for_machines_that_have_them(
    dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.linspace(0.1, 0.9, 100).astype(dtype)
    monkeypatch.setattr(llvm, "host", functools.partial(replace, llvm.host(), vector_bytes=32))
    text = fg.jit(lambda x: np.exp(x) + np.log1p(x) + np.cbrt(x) + np.power(x, x)).lower(x).as_text("llvm")
    assert "avx512" not in text


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_result_does_not_depend_on_the_place(name: str) -> None:
    xs = arguments(name, np.float64, 500)
    y = compiled(name)(*xs)
    for n in (1, 19):
        np.testing.assert_array_equal(compiled(name)(*[x[-n:] for x in xs]), y[-n:])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", [1, 2])
def test_the_derivatives_of_sinc_are_compiled_and_keep_their_digits(order: int, dtype: Any) -> None:
    f: Any = fg.numpy.sinc
    for _ in range(order):
        f = fg.grad(lambda x, f=f: f(x).sum())
    x = np.concatenate([np.linspace(-9, 9, 3001), np.linspace(-1, 1, 3001), [0.0, 1e-30]]).astype(dtype)
    z = np.pi * x.astype(EXTENDED)
    with np.errstate(all="ignore"):
        true = np.pi * (np.cos(z) / z - np.sin(z) / z**2)
        if order == 2:
            true = np.pi**2 * (2 * np.sin(z) / z**3 - 2 * np.cos(z) / z**2 - np.sin(z) / z)
    series = [-1 / 3, 1 / 30, -1 / 840, 1 / 45360]
    powers = [z ** (2 * k + 2 - order) * (2 * k + 1 if order == 2 else 1) for k in range(4)]
    near = np.pi**order * sum(EXTENDED(c) * p for c, p in zip(series, powers, strict=True))
    true = np.where(np.abs(z) < 0.05, near, true)
    jitted = fg.jit(f)
    assert " sin " in jitted.lower(x).as_text("kernels")
    np.testing.assert_allclose(jitted(x), true, rtol=0, atol=60 * np.finfo(dtype).eps * np.abs(true).max())


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
@pytest.mark.parametrize("name", ["isnan", "isinf", "isfinite"])
def test_questions_about_whole_numbers_are_compiled(name: str, dtype: Any) -> None:
    x = np.array([0, 1, 1], dtype)
    f = compiled(name)
    np.testing.assert_array_equal(f(x), getattr(np, name)(x))
    assert name in f.lower(x).as_text("kernels")


def test_every_function_is_tested() -> None:
    assert set(FUNCTIONS) == {*TRUE, *ELSEWHERE, "logaddexp"} == set(COSTS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_cost_is_about_the_number_of_instructions(name: str) -> None:
    b = Builder(Module(64))
    operands = [Value(f"%x{i}", Type("double", 8)) for i in range(2 if name in (*OF_TWO, "logaddexp") else 1)]
    FUNCTIONS[name](b, *operands)
    assert b.count == pytest.approx(COSTS[name], rel=0.2)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_half_precision_is_that_of_single_rounded(name: str) -> None:
    x = np.arange(2**16, dtype=np.uint16).view(np.float16)[::17]
    args = [x, x[::-1].copy()] if name in (*OF_TWO, "logaddexp") else [x]
    with np.errstate(all="ignore"):
        y = compiled(name)(*args)
        expected = compiled(name)(*[a.astype(np.float32) for a in args]).astype(np.float16)
    np.testing.assert_array_equal(y, expected)
