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


def pairs(x: Any) -> Any:
    d = x[None, :, :] - x[:, None, :]
    return fnp.sum(1 / np.sqrt(fnp.sum(d * d, axis=2) + 0.01))


def nearest(centers: Any, x: Any) -> Any:
    d = x[:, None, :] - centers
    return fnp.sum(fnp.min(fnp.sum(d * d, axis=2), axis=1))


def test_differences_of_all_pairs_are_computed_again_and_not_kept() -> None:
    """A gradient needs them along three axes; what is kept is one number for each pair, or two."""
    x = X[:, :3]
    number = 8 * len(x) ** 2
    assert arena(fg.grad(pairs), x) < 1.2 * number
    np.testing.assert_allclose(fg.jit(fg.grad(pairs))(x), fg.grad(pairs)(x), rtol=1e-9)
    centers, points = X[:10, :4], np.random.default_rng(3).standard_normal((300, 4))
    number = 8 * len(centers) * len(points)
    assert arena(fg.grad(nearest), centers, points) < 1.2 * (number + number / 8)
    np.testing.assert_allclose(fg.jit(fg.grad(nearest))(centers, points), fg.grad(nearest)(centers, points), rtol=1e-9)


def test_a_smaller_value_is_kept_in_place_of_a_larger_one() -> None:
    """The cotangent of each difference, of which there are three for each pair, is made of one number and it."""

    def f(x: Any) -> Any:
        d = x[None, :, :] - x[:, None, :]
        scaled = d / fnp.sum(d * d + 1, axis=2, keepdims=True) * 2.0
        forces = np.exp(-fnp.sum(d * d, axis=2))[:, :, None] * d
        return fnp.sum(forces, axis=0), fnp.sum(forces, axis=1), fnp.sum(scaled, axis=0)

    x = X[:, :3]
    number = 8 * len(x) ** 2
    assert arena(lambda x: f(x)[:2], x) < 1.2 * number
    for got, expected in zip(fg.jit(f)(x), f(x), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_what_is_made_of_arguments_joins_the_loops_of_other_operands() -> None:
    def f(m: Any, x: Any) -> Any:
        r = np.sqrt(fnp.sum((x[None, :, :] - x[:, None, :]) ** 2, axis=2) + 0.01)
        return m[:, None] * m / r

    args = X[:, 0], X[:, 1:4]
    kernels = fg.jit(f).lower(*args).as_text("kernels")
    assert kernels.count("for each") == 1, kernels
    np.testing.assert_allclose(fg.jit(f)(*args), f(*args), rtol=1e-12)


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("written", [True, False])
def test_a_value_is_computed_again_from_what_it_was_made_of(name: str, written: bool) -> None:
    view = VIEWS[name]

    def f(x: Any) -> Any:
        t = np.sin(x)
        d = 2 * t + x[:1]
        folded = fnp.sum(d * d, axis=0)
        after = fg.at(t)[1:3].set(7.0) if written else t[::-1]
        return view(d) + folded, after, fnp.max(view(d) * after, axis=1)

    x = X[:, :40]
    for got, expected in zip(fg.jit(f)(x), f(x), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9)


def drawn(seed: int) -> Callable[..., Any]:
    """A function of a few points in which pairs of them, folds, views and overwritten arrays meet by chance."""

    def f(x: Any) -> Any:
        random = np.random.default_rng(seed)
        n = len(x)
        d = x[None] - x[:, None]
        pool = [x, 2 * x, d, fnp.sum(x, axis=1)]
        for _ in range(10):
            a = pool[random.integers(len(pool))]
            like = [b for b in pool if b.shape == a.shape]
            b, axis = like[random.integers(len(like))], int(random.integers(a.ndim))
            steps: list[Callable[[], Any]] = [
                lambda a=a, b=b: a * b - 1, lambda a=a, b=b: a - b / 2, lambda a=a: np.sin(a), lambda a=a: 1 - 2 * a,
                lambda a=a, axis=axis: fnp.sum(a, axis=axis) / 8, lambda a=a, axis=axis: fnp.flip(a, axis),
                lambda a=a: fg.at(a)[1:].set(a[:-1] * 3), lambda a=a: fnp.swapaxes(a, 0, -1),
                lambda a=a: a[:, :1, None] * d if a.shape[0] == n and a.ndim == 2 else a + 1,
            ]  # fmt: skip
            made = steps[random.integers(len(steps))]()
            pool += [made] if made.ndim else [pool[0] * made]
        return pool[-4:]

    return f


@pytest.mark.parametrize("seed", range(30))
def test_what_is_computed_again_is_the_same_wherever_it_is_read(seed: int) -> None:
    f, x = drawn(seed), X[:9, :4] / 4
    for g in (f, fg.grad(lambda x: sum(np.sin(y).sum() for y in f(x)))):
        for got, expected in zip(*(fg.tree.leaves(h(x)) for h in (fg.jit(g), g)), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-9 * (1 + np.max(np.abs(expected))))


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
