"""Running sums, products and recurrences as machine code: in NumPy's order, or in one that is more exact."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.compiler.engine import Executable
from funcgrad.compiler.native.dispatch import runtime
from funcgrad.core.kinds import Running
from funcgrad.ops.cumulative import CumProd, CumSum, Recurrence
from tests.jitted import native

pytestmark = pytest.mark.skipif(not runtime.available(), reason="no LLVM here")
DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]
# of these lengths some fill no vector, some fill several, and some leave a rest
LENGTHS = [1, 2, 3, 7, 8, 9, 16, 33, 67, 300]
VIEWS: dict[str, Callable[[Any], Any]] = {
    "whole": lambda x: x,
    "transposed": lambda x: x.T,
    "reversed": lambda x: x[..., ::-1],
    "turned over": lambda x: x[::-1],
    "strided": lambda x: x[..., ::3],
    "a part": lambda x: x[1:, 2:],
    "broadcast": lambda x: fnp.broadcast_to(x[..., :1], x.shape),
    "computed": lambda x: x + x,
}


def values(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    if dtype[0] == "f":
        return rng.uniform(0.5, 1.5, shape).astype(dtype) * rng.choice([-1, 1], shape).astype(dtype)
    return rng.integers(0, 2 if dtype == "?" else 100, shape).astype(dtype)


def in_order(primitive: Running, shape: tuple[int, ...], dtype: str) -> bool:
    """True if machine code computes one element after the other, or the order is not seen."""
    last = all(n == 1 for n in shape[primitive.axis + 1 :])
    return not (last and dtype in ("f4", "f8") and isinstance(primitive, CumSum))


def agree(primitive: Running, *xs: Any) -> None:
    with np.errstate(all="ignore"):
        expected = primitive.impl(*xs)
        y = native(lambda *xs: primitive(*xs), *xs)(*xs)
    assert y.dtype == expected.dtype
    if in_order(primitive, y.shape, xs[-1].dtype.str[1:]):
        np.testing.assert_array_equal(y, expected)
        return
    few = 4 * np.finfo(y.dtype).eps * np.add.accumulate(np.abs(expected), primitive.axis).max(initial=1)
    np.testing.assert_allclose(y, expected, rtol=0, atol=few)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("primitive", [CumSum(0), CumSum(0, True), CumProd(0), CumProd(0, True, True)])
def test_vectors_of_every_dtype(primitive: Running, dtype: str) -> None:
    for n in LENGTHS:
        agree(primitive, values((n,), dtype))


@settings(max_examples=60)
@given(
    shape=st.lists(st.sampled_from([0, 1, 2, 3, 5, 8, 17, 70]), min_size=1, max_size=3).map(tuple),
    dtype=st.sampled_from(DTYPES),
    kind=st.sampled_from([CumSum, CumProd, Recurrence]),
    reverse=st.booleans(),
    exclusive=st.booleans(),
    data=st.data(),
)
def test_any_axis_of_any_shape(
    shape: tuple[int, ...], dtype: str, kind: Any, reverse: bool, exclusive: bool, data: Any
) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    options = (exclusive,) if kind is CumProd else ()
    xs = [values(shape, dtype, seed) for seed in range(2 if kind is Recurrence else 1)]
    agree(kind(axis, reverse, *options), *xs)


def test_a_recurrence_of_two_dtypes_converts_before_it_computes() -> None:
    for first, second in itertools.product(["?", "i4", "f2", "f4"], ["i1", "u8", "f4", "f8"]):
        agree(Recurrence(0), values((37,), first), values((37,), second, 1))
        agree(Recurrence(0, True), values((5, 37), first), values((5, 37), second, 1))


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("reverse", [False, True])
def test_an_operand_may_be_any_view(view: str, reverse: bool) -> None:
    x = np.random.default_rng(0).integers(-9, 9, (37, 41)).astype(float)
    for axis in (0, 1):
        for primitive in (CumSum(axis, reverse), Recurrence(axis, reverse)):
            f = partial(lambda p, x: p(*[VIEWS[view](x)] * (2 if p.scaled else 1)), primitive)
            with np.errstate(all="ignore"):
                np.testing.assert_array_equal(native(f, x)(x), f(x))


def test_wide_rows_are_read_back_from_memory() -> None:
    for width in (65, 1024, 1031):
        for primitive in (CumSum(0), CumSum(0, True), CumProd(0, True, True)):
            agree(primitive, values((9, width), "f8"))
            agree(primitive, values((3, 5, width), "f4"))
        agree(Recurrence(0), values((9, width), "f2"), values((9, width), "f2", 1))


@given(n=st.integers(1, 400), scale=st.integers(-9, 9), seed=st.integers(0, 99), reverse=st.booleans())
def test_a_running_sum_of_what_is_not_negative_never_decreases(n: int, scale: int, seed: int, reverse: bool) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.random(n) * 10.0 ** rng.integers(-abs(scale), abs(scale) + 1, n)).astype(np.float32)
    y = native(CumSum(0, reverse), x)(x)
    assert np.all(np.diff(y[::-1] if reverse else y) >= 0)


def test_a_long_running_sum_is_more_exact_than_in_order() -> None:
    x = np.random.default_rng(0).random(100_003).astype(np.float32)
    true = np.cumsum(x.astype(np.longdouble))
    error, in_order = (np.max(np.abs(y - true) / true) for y in (fg.jit(fnp.cumsum)(x), np.cumsum(x)))
    assert error < in_order / 2


@settings(max_examples=60)
@given(
    odd=st.lists(st.sampled_from([np.inf, -np.inf, np.nan, 1.5e308, -1.5e308]), min_size=1, max_size=4),
    places=st.lists(st.integers(0, 99), min_size=4, max_size=4),
    reverse=st.booleans(),
)
def test_infinity_and_nan_are_where_the_order_has_them(odd: list[float], places: list[int], reverse: bool) -> None:
    x = np.random.default_rng(0).standard_normal((3, 100))
    for value, place in zip(odd, places, strict=False):
        x[1, place] = value
    with np.errstate(all="ignore"):
        y, expected = native(CumSum(1, reverse), x)(x), CumSum(1, reverse).impl(x)
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(expected))
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    products = np.exp2(np.random.default_rng(1).uniform(-600, 600, 100))
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(native(CumProd(0), products)(products), np.cumprod(products))


def test_no_element_and_one_element() -> None:
    for shape in [(0,), (0, 3), (3, 0), (1,), (1, 3), (3, 1)]:
        for axis in range(len(shape)):
            for primitive in (CumSum(axis), CumProd(axis, False, True)):
                agree(primitive, values(shape, "f8"))
            agree(Recurrence(axis), values(shape, "f8"), values(shape, "f8"))


def test_the_first_of_negative_zeros_is_kept() -> None:
    x = np.full(20, -0.0)
    assert np.signbit(native(fnp.cumsum, x)(x)).all() and np.signbit(np.cumsum(x)).all()


def test_gradients_are_machine_code() -> None:
    x = np.random.default_rng(0).standard_normal((6, 50))
    w = np.random.default_rng(1).standard_normal((6, 50))
    for axis, running in itertools.product((0, 1), (fnp.cumsum, fnp.cumprod)):
        f = partial(lambda run, axis, x: (run(x * x, axis) * w).sum(), running, axis)
        np.testing.assert_allclose(native(fg.grad(f), x)(x), fg.grad(f)(x), rtol=1e-10, atol=1e-10)
    fg.testing.check_grads(fg.jit(lambda x: fnp.cumprod(x, 1)), (x[:, :9],))


def test_other_steps_read_and_make_what_runs() -> None:
    x = np.random.default_rng(0).random((40, 30))

    def f(x: Any) -> Any:
        y = fnp.cumsum(np.exp(x), axis=1)
        return y / y[:, -1:], y.sum(axis=0), y @ x.T, fnp.cumsum(y.T, axis=0)

    for got, expected in zip(native(f, x)(x), f(x), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_what_a_result_is_made_of_stays() -> None:
    x = np.random.default_rng(0).random(1000)
    before = x.copy()
    compiled = Executable(fg.make_jaxpr(fnp.cumsum)(x), owned=(0,))
    compiled(x)
    np.testing.assert_array_equal(x, before)
