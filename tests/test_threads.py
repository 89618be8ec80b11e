"""Traces live in the data, not in the thread: nothing is shared, nothing has to be restored."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from funcgrad.core.ir import evaluate

THREADS = 8


@pytest.fixture(autouse=True)
def threads_alternate_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(tasks: list[Callable[[], Any]]) -> list[Any]:
    """The results of the tasks, which start at the same moment in threads of their own."""
    barrier = threading.Barrier(len(tasks))

    def run(task: Callable[[], Any]) -> Any:
        barrier.wait()
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return [future.result() for future in [pool.submit(run, task) for task in tasks]]


def same(a: Any, b: Any) -> None:
    leaves_a, leaves_b = fg.tree.leaves(a), fg.tree.leaves(b)
    assert len(leaves_a) == len(leaves_b)
    for x, y in zip(leaves_a, leaves_b, strict=True):
        np.testing.assert_array_equal(x, y)


def loss(p: Any, x: Any) -> Any:
    for w in p["layers"]:
        x = np.tanh(x @ w)
    return (x**2).sum() + sum(p["bias"][i] ** 2 for i in range(3))


def params(seed: int) -> Any:
    random = np.random.default_rng(seed)
    return {"layers": list(random.normal(size=(3, 4, 4))), "bias": random.normal(size=3)}


def jobs(seed: int) -> list[Callable[[], Any]]:
    """Different transformations of different functions, nested ones among them."""
    p, x = params(seed), np.random.default_rng(seed).normal(size=(5, 4))
    v = np.random.default_rng(seed).normal(size=4)
    jaxpr = fg.make_jaxpr(lambda z: np.sin(z * v).sum())(v)
    return [
        lambda: fg.grad(loss)(p, x),
        lambda: fg.value_and_grad(loss, (0, 1))(p, x),
        lambda: fg.grad(lambda z: (fg.grad(loss, 1)(p, z) ** 2).sum())(x),
        lambda: fg.hvp(lambda z: loss(p, z))(x, x),
        lambda: fg.grad(fg.grad(fg.grad(lambda t: np.sin(t * v).sum())))(0.5),
        lambda: fg.vjp(lambda z: (np.exp(z), z[::-1]), v)[1]((v, v)),
        lambda: fg.grad(lambda z: evaluate(jaxpr, [z])[0])(v),
        lambda: fg.grad(lambda z: z[0] * fg.grad(lambda y: (z * y).sum())(z).sum())(v),
    ]


def test_threads_that_differentiate_different_functions_get_what_one_thread_gets() -> None:
    tasks = [jobs(seed)[seed % THREADS] for seed in range(THREADS)]
    serial = [task() for task in tasks]
    for _ in range(10):
        same(together(tasks), serial)


def test_threads_may_call_one_pullback_at_the_same_time() -> None:
    x = np.linspace(0, 1, 20)
    _, pullback = fg.vjp(lambda z: np.cumsum(np.sin(z) * z[0]) + z[5] ** 2, x)
    rows = np.random.default_rng(0).normal(size=(THREADS, 20))
    serial = [pullback(row) for row in rows]
    for _ in range(10):
        same(together([lambda row=row: pullback(row) for row in rows]), serial)


def test_threads_may_share_one_gradient_function() -> None:
    gradient = fg.grad(lambda p, x: loss(p, x))
    points = [(params(seed), np.ones((2, 4)) * seed) for seed in range(THREADS)]
    serial = [gradient(*point) for point in points]
    for _ in range(5):
        same(together([lambda point=point: gradient(*point) for point in points]), serial)


def test_a_thread_started_inside_a_function_may_work_on_its_traced_values() -> None:
    def f(x: Any) -> Any:
        parts = together([lambda i=i: np.sin(x[i]) * x.sum() for i in range(THREADS)])
        return sum(parts)

    x = np.linspace(0, 1, THREADS)
    expected = np.cos(x) * x.sum() + np.sin(x).sum()
    np.testing.assert_allclose(fg.grad(f)(x), expected, rtol=1e-12)


def test_an_exception_in_one_thread_does_not_disturb_the_others() -> None:
    def broken(x: Any) -> Any:
        for _ in range(20):
            x = np.sin(x) * 1.5
        raise KeyError("broken")

    def fails() -> str:
        with pytest.raises(KeyError):
            fg.grad(fg.grad(broken))(0.5)
        return "failed"

    p, x = params(0), np.ones((5, 4))
    expected = fg.grad(loss)(p, x)
    results = together([fails if i % 2 else lambda: fg.grad(loss)(p, x) for i in range(THREADS)])
    assert results[1::2] == ["failed"] * (THREADS // 2)
    for result in results[::2]:
        same(result, expected)


def test_a_value_leaked_to_another_thread_is_found_out() -> None:
    kept: list[Any] = []
    fg.grad(lambda x: (kept.append(x * 2), x)[1])(3.0)

    def use() -> None:
        with pytest.raises(fg.errors.LeakedTracerError, match="used in sin"):
            np.sin(kept[0])

    together([use] * THREADS)
    assert fg.grad(np.square)(3.0) == 6.0
