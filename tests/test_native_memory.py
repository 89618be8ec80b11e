"""How much memory a program works with, besides its arguments and results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.compiler.native.compile import with_segments
from funcgrad.compiler.native.dispatch import runtime
from funcgrad.compiler.native.ir.steps import Routine
from funcgrad.compiler.native.routine.memory import plan_memory
from funcgrad.compiler.simplify import simplify
from funcgrad.core.ir import Jaxpr

pytestmark = pytest.mark.skipif(not runtime.available(), reason="no LLVM here")
X = np.random.default_rng(0).standard_normal((40, 50))


def arena(f: Callable[..., Any], *args: Any) -> int:
    """The bytes that the one segment of a function works with, if no step needs any for itself."""
    staged = fg.make_jaxpr(f)(*args)
    _, (native,) = with_segments(simplify(Jaxpr(staged.inputs, (), staged.equations, staged.outputs)))
    return plan_memory(Routine(native.jaxpr, native.schedule), {}, {}).total


def loss(x: Any) -> Any:
    return fg.nn.logsumexp(x, axis=1).sum()


IN_PLACE: dict[str, Callable[..., Any]] = {
    "a chain": lambda x: np.exp(x * 2) / 3 + x,
    "a softmax": lambda x: fg.nn.softmax(x, axis=1),
    "the gradient of a logsumexp": fg.grad(loss),
    "a logarithm of a softmax": lambda x: fg.nn.log_softmax(x, axis=1) * 2,
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_what_can_be_computed_in_the_memory_of_the_result_is(name: str) -> None:
    f = IN_PLACE[name]
    assert arena(f, X) <= 64 * X.shape[1]
    np.testing.assert_allclose(fg.jit(f)(X), f(X), rtol=1e-12)


def test_a_value_that_is_read_again_is_not_written_over() -> None:
    def f(x: Any) -> Any:
        e = np.exp(x)
        y = e / e.sum(axis=1, keepdims=True)
        return y, (e * y).sum(axis=1), (e - y.max(axis=1, keepdims=True)).sum(axis=1)

    for got, expected in zip(fg.jit(f)(X), f(X), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, (0, 1)])
def test_a_softmax_is_right_over_any_axis(axis: Any) -> None:
    def f(x: Any) -> Any:
        e = np.exp(x - 1)
        return e / fnp.sum(e, axis=axis, keepdims=True)

    np.testing.assert_allclose(fg.jit(f)(X), f(X), rtol=1e-12)


def test_the_slope_of_a_layer_is_computed_again_and_not_kept() -> None:
    w = np.random.default_rng(1).standard_normal((50, 50))

    def network(w: Any, x: Any) -> Any:
        for _ in range(3):
            x = np.tanh(x @ w)
        return (x**2).sum()

    gradient = fg.grad(network)
    # three layers, the cotangents of one, and a product of the size of the weights
    assert arena(gradient, w, X) <= 6 * X.nbytes
    np.testing.assert_allclose(fg.jit(gradient)(w, X), gradient(w, X), rtol=1e-9)


VIEWS: dict[str, Callable[..., Any]] = {
    "transposed": lambda y: y.T,
    "in reverse": lambda y: y[::-1],
    "a row": lambda y: y[0],
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_value_that_is_computed_again_is_also_read_at_other_places(name: str) -> None:
    view = VIEWS[name]

    def f(x: Any) -> Any:
        t = np.tanh(x)
        p = t @ t
        slope = 1 - t * t
        return p + slope + view(slope)

    x = X[:, :40]
    np.testing.assert_allclose(fg.jit(f)(x), f(x), rtol=1e-9)


def test_memory_of_a_result_serves_before_the_result_is_there() -> None:
    x = np.random.default_rng(2).standard_normal((200, 200))
    f = lambda x: ((x @ x) @ x).sum(axis=0) * x
    # of the two products that are there at once, one is in the result
    assert arena(f, x) < 1.5 * x.nbytes
    np.testing.assert_allclose(fg.jit(f)(x), f(x), rtol=1e-9)


NOTHING_WRITTEN: dict[str, Callable[..., Any]] = {
    "and that is all": lambda x: fg.at(np.sin(x))[:0].set(x[40:]),
    "before something is": lambda x: fg.at(fg.at(np.sin(x))[:0].set(x[40:]))[1].set(0.0),
    "after something was": lambda x: fg.at(fg.at(np.sin(x))[1].add(2.0))[40:].add(x[:0]),
    "in a loop": lambda x: fg.lax.fori_loop(0, 3, lambda i, c: (fg.at(c[0] + c[1])[:0].set(c[1][:0]), c[0]), (x, x)),
    "to what a loop carries": lambda x: fg.lax.fori_loop(
        0, 3, lambda i, c: (fg.at(c[1])[:0].add(c[0][:0]), c[0]), (x, 2 * x)
    ),
}


@pytest.mark.parametrize("name", NOTHING_WRITTEN)
def test_an_array_is_what_it_was_if_nothing_is_written_to_it(name: str) -> None:
    f = NOTHING_WRITTEN[name]
    for g in (f, fg.grad(lambda x: sum((y * y).sum() for y in fg.tree.leaves(f(x))))):
        for got, expected in zip(*(fg.tree.leaves(h(X)) for h in (fg.jit(g), g)), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-9)
