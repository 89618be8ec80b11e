"""Machine code in every dtype: half precision, integers of all widths, and what meets a number of Python."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.compiler.native.dispatch import runtime

pytestmark = pytest.mark.skipif(not runtime.available(), reason="no LLVM here")
INTEGERS = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]
FLOATS = ["f2", "f4", "f8"]


def agree(f: Callable[..., Any], *args: Any) -> None:
    """Equal bit for bit, save that NaN is NaN; and computed by machine code alone."""
    with np.errstate(all="ignore"):
        expected = f(*args)
    lines = fg.jit(f).lower(*args).compile().as_text().splitlines()
    assert not lines[0].startswith("def") or not [x for x in lines if " = " in x and "native" not in x]
    for x, y in zip(fg.tree.leaves(fg.jit(f)(*args)), fg.tree.leaves(expected), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)
        if x.dtype.kind == "f":
            number = ~np.isnan(y)
            np.testing.assert_array_equal(np.signbit(x)[number], np.signbit(y)[number])


def values(dtype: str) -> Any:
    """The ends of the range, small numbers, and for floats what is no number."""
    if dtype == "?":
        return np.array([True, False])
    if dtype in FLOATS:
        return np.array([0.0, -0.0, 1, -1.5, 2.5, 3, np.nan, np.inf, -np.inf, 1e-7, 60000], dtype)
    info = np.iinfo(dtype)
    ends = [info.min, info.min + 1, info.max - 1, info.max]
    return np.array([*ends, 0, 1, 2, 3, 7, 8, 31, 63, 100, *([-1, -2, -7] if info.min else [])], dtype)


def pairs(dtype1: str, dtype2: str) -> tuple[Any, Any]:
    x, y = values(dtype1), values(dtype2)
    return np.repeat(x, y.size), np.tile(y, x.size)


# ── half precision

HALVES = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
OF_HALVES: dict[str, Callable[..., Any]] = {
    "exact": lambda x: (-x, abs(x), np.sign(x), np.floor(x), np.ceil(x), np.rint(x), np.trunc(x), np.positive(x)),
    "rounded": lambda x: (np.sqrt(x), np.square(x), np.reciprocal(x), x + 1, x * 0.1, x / 3, x - 0.3),
    "powers": lambda x: (x**2, x**0.5, x**-1, x**1),
    "questions": lambda x: (np.isnan(x), np.isinf(x), np.isfinite(x), np.signbit(x), x > 0.1, x == x),
    "wider": lambda x: (x.astype("f4"), x.astype("f8")),
    "choices": lambda x: (fg.nn.relu(x), np.where(x < 1, x, 1)),
}


@pytest.mark.parametrize("name", OF_HALVES)
def test_each_half_gives_what_numpy_gives(name: str) -> None:
    agree(OF_HALVES[name], HALVES)


@pytest.mark.parametrize("name", INTEGERS)
def test_halves_become_integers(name: str) -> None:
    info = np.iinfo(name)
    inside = HALVES[(HALVES.astype(float) > info.min - 1) & (HALVES.astype(float) < info.max + 1)]
    agree(lambda x: (x.astype(name), x.astype(bool)), inside)


def test_operations_on_two_halves_are_rounded_once() -> None:
    rng = np.random.default_rng(0)
    x, y = (rng.integers(0, 1 << 16, 100_000).astype(np.uint16).view(np.float16) for _ in range(2))
    agree(lambda x, y: (x + y, x - y, x * y, x / y, x < y, x == y, np.copysign(x, y), np.fmod(x, y), x // y), x, y)


def test_a_wider_number_becomes_the_nearest_half() -> None:
    positive = HALVES[:31744].astype(float)
    between = (positive[:-1] + positive[1:]) / 2
    for x in (positive, between, np.nextafter(between, np.inf), np.nextafter(between, 0), np.array([65519.9, 65520])):
        agree(lambda x: (x.astype("f2"), (-x).astype("f2"), x.astype("f4").astype("f2")), x)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 100, 1000, 20_000])
def test_halves_are_added_in_single_precision(n: int) -> None:
    x = np.random.default_rng(n).standard_normal((n, 3)).astype("f2")
    exact = x.astype(float).sum(axis=0)
    error = np.abs(x.astype(float)).sum(axis=0) * 2.0**-20 + np.abs(exact) * 2.0**-11
    assert (np.abs(fg.jit(lambda x: x.sum(axis=0))(x) - exact) <= error).all()
    agree(lambda x: (x.sum(), x.mean(), x.max(), x.min()), x[:, 0].copy())


# ── conversions


@pytest.mark.parametrize("source", ["?", *INTEGERS])
def test_integers_become_each_other_and_floats(source: str) -> None:
    if source == "?":
        x = values(source)
    else:
        info = np.iinfo(source)
        x = np.random.default_rng(0).integers(info.min, info.max, 3000, source, endpoint=True)
        x = np.concatenate([x, x >> 3, x >> (8 * x.itemsize // 2), values(source)])
    agree(lambda x: tuple([x.astype(target) for target in ("?", *INTEGERS, *FLOATS)]), x)


@pytest.mark.parametrize("target", INTEGERS)
@pytest.mark.parametrize("source", ["f4", "f8"])
def test_floats_become_integers_as_far_as_these_hold_them(source: str, target: str) -> None:
    info = np.iinfo(target)
    near = [s * 2.0**k + e for k in (7, 8, 15, 16, 31, 32, 63) for s in (1, -1) for e in (-1, -0.5, 0, 0.5)]
    rng = np.random.default_rng(0)
    many = np.array([*near, *(rng.standard_normal(2000) * 2.0 ** rng.uniform(-3, 64, 2000)), 0.0, -0.0, -0.9]).astype(
        source
    )
    inside = many[
        (many > float(info.min) - 1 if info.bits < 64 else many >= float(info.min))
        & (many < 2.0 ** (info.bits - (info.min < 0)))
    ]
    agree(lambda x: x.astype(target), inside)


# ── integers

OPERATIONS: dict[str, Callable[..., Any]] = {
    "arithmetic": lambda x, y: (np.add(x, y), np.multiply(x, y)),
    "difference": np.subtract,
    "quotients": lambda x, y: (x / y, np.floor_divide(x, y), np.remainder(x, y), np.fmod(x, y)),
    "comparisons": lambda x, y: (x < y, x <= y, x == y, x != y, x >= y, x > y),
    "choices": lambda x, y: (np.where(x > y, x, y), np.logical_and(x, y), np.logical_xor(x, y)),
    "bits": lambda x, y: (x & y, x | y, x ^ y),
    "shifts": lambda x, y: (x << y, x >> y),
    "extremes": lambda x, y: (np.maximum(x, y), np.minimum(x, y)),
}


@pytest.mark.parametrize("dtype2", ["?", *INTEGERS, *FLOATS])
@pytest.mark.parametrize("dtype1", ["?", *INTEGERS, *FLOATS])
def test_two_dtypes_meet_as_in_numpy(dtype1: str, dtype2: str) -> None:
    x, y = pairs(dtype1, dtype2)
    for name, f in OPERATIONS.items():
        if name == "extremes" and {dtype1, dtype2} & set(FLOATS):
            # NumPy's choice among 0 and −0 depends on where in the array they stand
            keep = (x != 0) | (y != 0)
            agree(f, x[keep], y[keep])
            continue
        try:
            with np.errstate(all="ignore"):
                f(x, y)
        except TypeError:
            with pytest.raises(TypeError):
                fg.jit(f)(x, y)
            continue
        agree(f, x, y)


@pytest.mark.parametrize("dtype", ["?", *INTEGERS])
def test_functions_of_an_integer(dtype: str) -> None:
    x = values(dtype)
    agree(lambda x: (abs(x), ~x, np.sqrt(x), x / 2, x * 2.5, x.sum(), x.prod(), x.max(), x.min(), x.any()), x)
    if dtype != "?":
        agree(lambda x: (fnp.argmax(x), fnp.argmin(x), x.reshape(-1, 1).sum(axis=0)), x)
        agree(lambda x: (-x, np.sign(x), np.square(x), x**2, x**3, x**0, np.floor(x), x @ x), x)
        agree(lambda x: tuple([op(x, n) for op in (operator.floordiv, operator.mod) for n in (1, 2, 3, 7, 0)]), x)
        agree(lambda x: (x << 3, x >> 3, x << 70, x >> 70, 3 << (x & 7)), x)
    if dtype[0] == "i":
        agree(lambda x: (x // -3, x % -3, x // -1, x % -1), x)


# ── numbers of Python


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("n", [0, 5, -1, 127, 128, 255, 256, -1000, 70_000, -(2**40), 2**63 - 1])
def test_an_array_of_integers_is_compared_with_any_integer_of_python(dtype: str, n: int) -> None:
    f = lambda x, n: (x < n, x <= n, x == n, x != n, x >= n, x > n, n < x)
    x = values(dtype)
    agree(f, x, n)
    agree(lambda x: f(x, n), x)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("n", [3, -3, 200, 40_000, -(2**40)])
def test_an_integer_of_python_that_does_not_fit_is_refused_as_numpy_refuses_it(dtype: str, n: int) -> None:
    x, info = values(dtype), np.iinfo(dtype)
    for f in (operator.add, operator.floordiv, operator.and_, np.maximum):
        if info.min <= n <= info.max:
            agree(f, x, n)
            agree(lambda x, f=f: f(n, x), x)
            continue
        for compute in (lambda f=f: fg.jit(f)(x, n), lambda f=f: fg.jit(lambda x: f(x, n))(x)):
            with pytest.raises(OverflowError, match="out of bounds"):
                compute()


@pytest.mark.parametrize("dtype", [*FLOATS, "c8", "c16", "u8", "i8"])
@pytest.mark.parametrize("n", [2**63, 2**64, -(2**63) - 1, 2**80 + 1])
def test_an_integer_beyond_int64_is_the_number_that_numpy_takes_it_for(dtype: str, n: int) -> None:
    x = np.array([0, 1, 3], dtype)
    functions: list[Callable[[Any], Any]] = [lambda x: x / n]
    if dtype not in ("i8", "u8"):
        functions += [lambda x: n - x, lambda x: x == n, lambda x: n == x]
        functions += [lambda x: fnp.where(x == 1, x, n), lambda x: fg.at(x)[1].set(n)]
    if dtype in FLOATS:
        functions += [lambda x: x < n, lambda x: fnp.clip(x, -n, n)]
    for f in functions:
        with np.errstate(over="ignore"):
            agree(f, x)


def test_an_integer_of_64_bits_is_one_beside_uint64() -> None:
    x = np.array([0, 1, 2**63 + 5], np.uint64)
    for f in (lambda x: x + 2**63, lambda x: x < 2**63, lambda x: x ^ (2**64 - 1)):
        agree(f, x)
    np.testing.assert_array_equal(fg.jit(lambda x: x < 2**64)(x), [True] * 3)
    np.testing.assert_array_equal(fg.jit(lambda x: x < 2**63)(np.array([2**62])), [True])
    np.testing.assert_array_equal(fg.jit(lambda x: x == -(2**63) - 1)(np.array([2**63 - 1])), [False])


BEYOND: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "add": (lambda n: n + n, (2**62,)),
    "subtract": (lambda n: -2 - n, (2**63 - 1,)),
    "multiply": (lambda n: n * n, (2**40,)),
    "negative": (lambda n: -n, (-(2**63),)),
    "absolute": (lambda n: abs(n), (-(2**63),)),
    "floor_divide": (lambda n, m: n // m, (-(2**63), -1)),
    "power": (lambda n: n**5, (-(10**7),)),
    "left_shift": (lambda n: n << 3, (2**61,)),
    "left_shift by much": (lambda n, m: n << m, (1, 64)),
    "several": (lambda n: ((n + 1) * n - 3) % 1000, (2**50,)),
    "bits": (lambda n: ((n * n) & (n + 5), (n * n) >> 70, n * n ^ 3, ~(n * n), n * n | 1), (2**40,)),
}


@pytest.mark.parametrize(("f", "args"), BEYOND.values(), ids=BEYOND)
def test_integers_of_python_are_exact(f: Callable[..., Any], args: tuple[int, ...]) -> None:
    compiled = fg.jit(f)
    small = tuple(1 + abs(n) % 7 for n in args)
    for given in (small, args, small, args, args):
        y = compiled(*given)
        assert y == f(*given) and [type(z) for z in fg.tree.leaves(y)] == [int] * len(fg.tree.leaves(y))


def test_the_least_and_the_largest_integer_are_within_bounds() -> None:
    least, most = -(2**63), 2**63 - 1
    f = fg.jit(lambda n, m: (n + m, n - m, n * m, n // m, -m, n**1, n**0, m << 62))
    assert f(least, 1) == (least + 1, least - 1, least, least, -1, least, 1, 2**62)
    assert f(most, 1) == (2**63, most - 1, most, most, -1, most, 1, 2**62)
    assert f(-(2**31), 2**32)[2] == least


def test_an_integer_of_python_that_has_grown_is_used_as_a_float_or_refused() -> None:
    f = fg.jit(lambda n, x: x * (n * n))
    np.testing.assert_array_equal(f(2**40, np.ones(9)), np.full(9, 2.0**80))
    np.testing.assert_array_equal(f(2**40, np.ones(9, np.float32)), np.full(9, 2.0**80, np.float32))
    assert fg.jit(lambda n: fnp.where(n < 10, n * n, 0))(2**40) == 0
    with pytest.raises(OverflowError):
        f(2**40, np.ones(9, int))
    with pytest.raises(fg.errors.RangeError, match=f"a number that becomes int64 is {2**63}, a Python int"):
        fg.jit(lambda n: fnp.where(n > 0, n + n, 0))(2**62)
    with pytest.raises(fg.errors.RangeError, match=f"a number that becomes int64 is {2**63}, a Python int"):
        fg.jit(lambda n: fnp.reshape(n + n, (1,)))(2**62)


def test_an_integer_of_python_that_grows_in_a_loop_is_refused() -> None:
    power = fg.jit(lambda n: fg.lax.fori_loop(0, n, lambda i, y: y * 10, 1))
    assert power(18) == 10**18
    with pytest.raises(fg.errors.RangeError, match=f"is {10**19}, a Python int"):
        power(30)


def test_integers_of_numpy_and_arrays_wrap_around() -> None:
    f = fg.jit(lambda x: x * x)
    assert f(np.array([2**40]))[0] == f(np.int64(2**40)) == 0


def test_an_integer_that_no_double_holds_is_refused_as_numpy_refuses_it() -> None:
    with pytest.raises(OverflowError, match="too large to convert to float"):
        fg.jit(lambda x: x * 10**400)(np.ones(2))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", [0.1, 1e-30, 2**24 + 1, 3])
def test_a_number_of_python_takes_the_dtype_of_an_array_of_floats(dtype: str, n: Any) -> None:
    x = np.random.default_rng(0).standard_normal(999).astype(dtype)
    f = lambda x, n: (x * n, x / n, x + n, x - n, x < n)
    with np.errstate(over="ignore"):
        agree(f, x, n)
        agree(lambda x: f(x, n), x)
