"""Sorting as machine code: NumPy's order, with equal elements in the order in which they were."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.compiler.native.dispatch import runtime
from funcgrad.compiler.native.lines.sorting import FEW
from tests.jitted import native

pytestmark = pytest.mark.skipif(not runtime.available(), reason="no LLVM here")
N = FEW + 89
DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1.0, -1.0, 6e-8, -6e-8]


def values(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Any:
    """Numbers of every size, many of them more than once."""
    rng = np.random.default_rng(seed)
    if dtype[0] == "f":
        x = rng.standard_normal(shape) * 2.0 ** rng.integers(-12, 12, shape)
        return np.where(rng.random(shape) < 0.2, rng.choice(SPECIAL, shape), x).astype(dtype)
    bits = rng.integers(0, 256, (*shape, np.dtype(dtype).itemsize)).astype(np.uint8).view(dtype)[..., 0]
    return bits & 1 == 1 if dtype == "?" else np.where(rng.random(shape) < 0.2, np.array(7, dtype), bits)


def agree(x: Any, axis: int = -1) -> None:
    np.testing.assert_array_equal(native(lambda x: fnp.sort(x, axis), x)(x), np.sort(x, axis))
    places = native(lambda x: fnp.argsort(x, axis, stable=True), x)(x)
    assert places.dtype == np.intp
    np.testing.assert_array_equal(places, np.argsort(x, axis, kind="stable"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype: str) -> None:
    for n in (FEW + 1, N, 5000):
        agree(values((n,), dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_lines_that_are_sorted_already_or_all_the_same(dtype: str) -> None:
    x = np.sort(values((N,), dtype))
    for line in (x, x[::-1].copy(), np.full(N, x[3]), np.repeat(x[-1:], N), np.repeat(x[:1], N)):
        agree(line)


@settings(max_examples=30)
@given(
    picks=st.lists(st.sampled_from(SPECIAL), min_size=1, max_size=6),
    dtype=st.sampled_from(["f2", "f4", "f8"]),
    seed=st.integers(0, 99),
)
def test_lines_of_few_different_values(picks: list[float], dtype: str, seed: int) -> None:
    agree(np.random.default_rng(seed).choice(picks, N).astype(dtype))


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8"])
def test_any_axis_and_any_view(dtype: str) -> None:
    x = values((3, N, 2), dtype)
    agree(x, 1)
    agree(np.ascontiguousarray(x.transpose(1, 0, 2)), 0)
    agree(np.ascontiguousarray(x.transpose(0, 2, 1)), 2)
    views: list[Callable[[Any], Any]] = [
        lambda x: x[::-1, ::-1],
        lambda x: x[:, 1:].transpose(1, 2, 0),
        lambda x: fnp.broadcast_to(x[:1, :, :1], x.shape),
        lambda x: x + x,
        lambda x: x.reshape(-1),
    ]
    for view in views:
        axis = 0 if view(x).shape[0] > FEW else 1
        f = partial(lambda view, axis, x: fnp.sort(view(x), axis), view, axis)
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(native(f, x)(x), np.sort(view(x), axis))


def test_short_lines_are_left_to_numpy() -> None:
    for n in (0, 1, 2, FEW):
        x = values((2, n), "f8")
        np.testing.assert_array_equal(fg.jit(fnp.sort)(x), np.sort(x))
        np.testing.assert_array_equal(fg.jit(fnp.argsort)(x), np.argsort(x, kind="stable"))


def test_quantiles_are_machine_code() -> None:
    x = np.random.default_rng(0).standard_normal((N, 3))
    for f, plain in (
        (lambda x: fnp.median(x), np.median),
        (lambda x: fnp.median(x, axis=0), partial(np.median, axis=0)),
        (lambda x: fnp.quantile(x, 0.3, axis=0), partial(np.quantile, q=0.3, axis=0)),
        (lambda x: fnp.percentile(x[:, 0], 99.0), lambda x: np.percentile(x[:, 0], 99.0)),
    ):
        np.testing.assert_allclose(native(f, x)(x), plain(x), rtol=1e-15)
        some = np.where(np.arange(N * 3).reshape(N, 3) == 5, np.nan, x)
        np.testing.assert_allclose(fg.jit(f)(some), plain(some), rtol=1e-15)


def test_gradients_go_where_the_elements_come_from() -> None:
    rng = np.random.default_rng(0)
    w = rng.standard_normal(N)
    for x in (rng.standard_normal(N), rng.integers(0, 5, N) * 1.0, np.where(rng.random(N) < 0.5, 0.0, -0.0)):
        expected = np.empty(N)
        expected[np.argsort(x, kind="stable")] = w
        np.testing.assert_array_equal(native(fg.grad(lambda x: fnp.sort(x) @ w), x)(x), expected)
        for f in (fnp.median, lambda x: fnp.quantile(x, 0.77)):
            np.testing.assert_allclose(native(fg.grad(f), x)(x), fg.grad(f)(x), rtol=1e-14)
    hessian = fg.grad(lambda x: (fg.grad(lambda x: (fnp.sort(x) ** 3) @ w)(x) * w).sum())
    np.testing.assert_allclose(native(hessian, x)(x), hessian(x), rtol=1e-14)


def test_what_was_sorted_stays() -> None:
    x = values((N,), "f8")
    before = x.copy()
    y, places, rest = native(lambda x: (fnp.sort(x), fnp.argsort(x * 2, stable=True), x + 1), x)(x)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(x[places], y)
    np.testing.assert_array_equal(rest, x + 1)
