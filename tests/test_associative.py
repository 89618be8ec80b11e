"""`associative_scan`: prefixes of any associative operation, of any length, along any axis, with their derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import lax

Function = Callable[..., Any]


def normal(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape)


def prefixes(fn: Function, xs: Any, reverse: bool = False) -> Any:
    """The same, one element after another."""
    rows = [fg.tree.map(lambda x, i=i: x[i : i + 1], xs) for i in range(fg.tree.leaves(xs)[0].shape[0])]
    out = rows[-1:] if reverse else rows[:1]
    for row in rows[-2::-1] if reverse else rows[1:]:
        out.append(fn(out[-1], row))
    return fg.tree.map(lambda *parts: np.concatenate(parts), *(out[::-1] if reverse else out))


def affine(p: Any, q: Any) -> Any:
    """Composition of x ↦ a x + b, which does not commute."""
    return {"a": q["a"] * p["a"], "b": q["a"] * p["b"] + q["b"]}


def close(a: Any, b: Any) -> None:
    fg.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12), a, b)


@settings(max_examples=60)
@given(n=st.integers(1, 17), reverse=st.booleans(), compiled=st.booleans())
def test_it_combines_all_elements_up_to_each(n: int, reverse: bool, compiled: bool) -> None:
    run = lambda f, xs: (
        fg.jit(lambda xs: lax.associative_scan(f, xs, reverse))(xs)
        if compiled
        else lax.associative_scan(f, xs, reverse)
    )
    xs = {"a": normal(n, 2), "b": normal(n, 2)[:, ::-1]}
    close(run(affine, xs), prefixes(affine, xs, reverse))
    close(run(np.add, xs["a"]), np.cumsum(xs["a"][::-1], axis=0)[::-1] if reverse else np.cumsum(xs["a"], axis=0))
    close(run(np.maximum, xs["a"])[-1 if not reverse else 0], xs["a"].max(axis=0))
    matrices = normal(n, 2, 2)
    close(run(np.matmul, matrices), prefixes(np.matmul, matrices, reverse))


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
@pytest.mark.parametrize("reverse", [False, True])
def test_along_any_axis(axis: int, reverse: bool) -> None:
    x = normal(3, 4, 5)
    got = lax.associative_scan(np.multiply, x, reverse=reverse, axis=axis)
    close(got, np.flip(np.cumprod(np.flip(x, axis), axis), axis) if reverse else np.cumprod(x, axis))
    # the axis of arrays with different numbers of axes
    both = lax.associative_scan(lambda p, q: (p[0] + q[0], p[1] + q[1]), (normal(3), normal(3, 2)))
    close(both, (np.cumsum(normal(3)), np.cumsum(normal(3, 2), axis=0)))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (1,), (1, 3)])
def test_of_nothing_and_of_one_element(shape: tuple[int, ...]) -> None:
    x = np.ones(shape)
    for f in (lax.associative_scan, fg.jit(lax.associative_scan, static_argnums=0)):
        close(f(np.add, x), x)
    assert fg.grad(lambda x: lax.associative_scan(np.add, x).sum())(x).shape == shape


@settings(max_examples=20)
@given(n=st.integers(1, 9), reverse=st.booleans())
def test_its_derivatives_agree_with_central_differences(n: int, reverse: bool) -> None:
    xs = {"a": normal(n), "b": normal(n, 1)[:, 0] + 1}
    f = lambda xs: fg.tree.leaves(lax.associative_scan(affine, xs, reverse))
    fg.testing.check_grads(f, (xs,), order=2, rtol=1e-5, atol=1e-5)
    fg.testing.check_grads(fg.jit(f), (xs,), order=2, rtol=1e-5, atol=1e-5)


def test_a_batch_is_scanned_example_by_example() -> None:
    x = normal(3, 5)
    f = lambda x: lax.associative_scan(np.multiply, x)
    close(fg.vmap(f)(x), np.cumprod(x, axis=1))
    want = [fg.grad(lambda x: (f(x) ** 2).sum())(row) for row in x]
    close(fg.vmap(fg.grad(lambda x: (f(x) ** 2).sum()))(x), np.stack(want))
    close(fg.jit(fg.vmap(fg.grad(lambda x: (f(x) ** 2).sum())))(x), np.stack(want))


def test_the_function_is_called_a_logarithmic_number_of_times() -> None:
    calls: list[int] = []

    def add(a: Any, b: Any) -> Any:
        calls.append(a.shape[0])
        return a + b

    lax.associative_scan(add, np.ones(1024))
    assert len(calls) == 19  # 2 log₂ 1024 − 1
    assert sum(calls) < 2 * 1024


def test_the_dtypes_are_those_of_the_elements() -> None:
    for dtype in (np.float32, np.int8, np.complex64):
        got = lax.associative_scan(np.add, np.ones(5, dtype))
        assert got.dtype == dtype
        assert fg.jit(lambda x: lax.associative_scan(lambda a, b: a + b + 0, x))(np.ones(5, dtype)).dtype == dtype
    x = [fnp.ones(3), np.arange(3)]
    got = lax.associative_scan(lambda a, b: [a[0] * b[0], a[1] + b[1]], x)
    assert [y.dtype for y in got] == [np.float64, np.int64]
