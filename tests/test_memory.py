"""What a derivative keeps: the values that its rules read, no longer than they are needed."""

from __future__ import annotations

import contextlib
import gc
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import funcgrad as fg

STEPS = 200
N = 12_500
ARRAY = 8 * N  # bytes
X = np.linspace(0.1, 1, N)
C = np.linspace(0.5, 1.5, N)


@pytest.fixture(autouse=True)
def counting_references_is_enough() -> Iterator[None]:
    """Without the garbage collector: nothing may wait for it."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    yield
    tracemalloc.stop()
    gc.enable()


def peak(f: Callable[[], Any]) -> float:
    """The bytes that `f` needs at most, its result included."""
    f()  # what is made once and kept (caches, imports) is made now
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    f()
    return tracemalloc.get_traced_memory()[1] - before


def held(f: Callable[[], Any]) -> tuple[Any, float]:
    """The result of `f`, and the bytes that live as long as it does."""
    f()
    before = tracemalloc.get_traced_memory()[0]
    result = f()
    return result, tracemalloc.get_traced_memory()[0] - before


def chain(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def f(x: Any) -> Any:
        for _ in range(STEPS):
            x = step(x)
        return x.sum()

    return f


# step, and the number of arrays that its pullback reads
CHAINS: dict[str, tuple[Callable[[Any], Any], int]] = {
    "sin x": (lambda x: np.sin(x), 1),
    "tanh x, by its result": (lambda x: np.tanh(x), 1),
    "exp of minus x": (lambda x: np.exp(-x), 1),
    "x²": (lambda x: x**2 * 0.9, 1),
    "x · x": (lambda x: x * x, 1),
    "x · constant": (lambda x: x * 0.99, 0),
    "x · constant array": (lambda x: x * C, 0),
    "x + array": (lambda x: x + C, 0),
    "−x": (lambda x: -x, 0),
    "a view": (lambda x: x[::-1], 0),
    "reshape and back": (lambda x: x.reshape(-1, 5).T.T.reshape(-1), 0),
}


@pytest.mark.parametrize("name", CHAINS)
def test_the_gradient_of_a_chain_needs_the_saved_values_and_ten_per_cent(name: str) -> None:
    step, saved = CHAINS[name]
    gradient = fg.grad(chain(step))
    needed = STEPS * saved * ARRAY
    bookkeeping = STEPS * 2000
    working = 6 * ARRAY
    assert peak(lambda: gradient(X)) < max(1.1 * needed, working + bookkeeping)


@pytest.mark.parametrize("name", CHAINS)
def test_a_pullback_holds_the_saved_values_and_nothing_else(name: str) -> None:
    step, saved = CHAINS[name]
    (_, pullback), bytes_held = held(lambda: fg.vjp(chain(step), X))
    assert bytes_held < 1.05 * STEPS * saved * ARRAY + 2 * ARRAY + STEPS * 2000
    if saved:
        assert bytes_held > 0.95 * STEPS * saved * ARRAY
    np.testing.assert_allclose(pullback(np.float64(1.0))[0], fg.grad(chain(step))(X))


def test_grad_lets_go_of_saved_values_as_gradients_take_their_place() -> None:
    def f(ps: Any) -> Any:
        x = 0.0
        for p in ps:
            x = np.sin(x + p)
        return x.sum()

    ps = [X] * STEPS
    # STEPS values are saved; then STEPS gradients fill up while the saved values go
    assert peak(lambda: fg.grad(f)(ps)) < 1.1 * STEPS * ARRAY
    _, pullback = fg.vjp(f, ps)
    assert peak(lambda: pullback(np.float64(1.0))) > 0.9 * STEPS * ARRAY


def test_nothing_is_left_after_a_gradient() -> None:
    f = chain(np.sin)
    for run in (
        lambda: fg.grad(f)(X),
        lambda: fg.value_and_grad(f)(X),
        lambda: fg.vjp(f, X)[1](np.float64(1.0)),
        lambda: fg.grad(lambda x: fg.grad(chain_of_two)(x).sum())(X),
        lambda: fg.hvp(chain_of_two)(X, X),
        lambda: fg.make_jaxpr(fg.grad(chain_of_two))(X),
    ):
        result, bytes_held = held(run)
        assert bytes_held < 3 * ARRAY
        del result


def chain_of_two(x: Any) -> Any:
    return (np.sin(x) * np.exp(x)).sum()


def test_nothing_is_left_after_an_exception() -> None:
    def broken(x: Any) -> Any:
        for _ in range(20):
            x = np.sin(x)
        raise KeyError

    def run() -> None:
        with contextlib.suppress(KeyError):
            fg.grad(fg.grad(broken))(X)

    assert held(run)[1] < ARRAY


def test_a_value_dies_with_the_last_rule_that_reads_it() -> None:
    values: dict[str, weakref.ref[Any]] = {}

    def f(x: Any) -> Any:
        shifted = x + 1.0
        wave = np.sin(shifted)
        bell = np.exp(wave)
        scaled = bell * 3.0
        for name, y in {"shifted": shifted, "wave": wave, "bell": bell, "scaled": scaled}.items():
            values[name] = weakref.ref(y.value)
        return scaled.sum()

    _, pullback = fg.vjp(f, X)
    # the slope of sin reads its argument, that of exp its result; a sum and a product with a constant read nothing
    assert {name for name, ref in values.items() if ref() is not None} == {"shifted", "bell"}
    del pullback
    assert {name for name, ref in values.items() if ref() is not None} == set()


def test_what_is_not_differentiated_is_not_recorded() -> None:
    def f(w: Any, x: Any) -> Any:
        for _ in range(STEPS):
            x = np.tanh(x)
        return (w * x).sum()

    assert peak(lambda: fg.grad(f)(X, X)) < 8 * ARRAY
    assert peak(lambda: fg.grad(f, 1)(X, X)) > STEPS * ARRAY


def test_the_data_of_a_product_get_no_cotangent() -> None:
    data = np.ones((2000, 50))
    w = np.ones((50, 3))
    gradient = fg.grad(lambda w, data: (data @ w).sum())
    # the cotangent of the result is 2000 × 3; one of `data` would be 2000 × 50
    assert peak(lambda: gradient(w, data)) < 0.5 * data.nbytes


# ── indexing in a loop


def sum_of_squares(x: Any) -> Any:
    total = 0.0
    for i in range(x.shape[0]):
        total = total + x[i] ** 2
    return total


LOOPS: dict[str, Callable[[Any], Any]] = {
    "elements": sum_of_squares,
    "elements, and a term of the whole": lambda x: sum_of_squares(x) + (x * x).sum(),
    "elements after a term of the whole": lambda x: (x * x).sum() + sum_of_squares(x),
    "iteration": lambda x: sum(z * z for z in x),
    "positions": lambda x: sum((x[[i, 0]] ** 2).sum() for i in range(x.shape[0])),
    "slices": lambda x: sum((x[i : i + 2] ** 2).sum() for i in range(x.shape[0])),
    "unpacked and stacked": lambda x: (np.stack([z * z for z in x])).sum(),
}


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("order", [1, 2])
def test_indexing_in_a_loop_takes_memory_in_proportion(name: str, order: int) -> None:
    f = LOOPS[name]
    gradient = fg.grad(f)
    if order == 2:
        gradient = fg.grad(lambda x: (fg.grad(f)(x) * np.arange(x.shape[0])).sum())
    small, large = (peak(lambda n=n: gradient(np.ones(n))) for n in (100, 400))
    # proportional growth is a factor of 4, an array of zeros per use would give 16
    assert large < 6 * small


@pytest.mark.parametrize("name", LOOPS)
def test_indexing_in_a_loop_makes_no_array_of_zeros_per_use(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    n = 300
    made: list[int] = []
    zeros = np.zeros

    def counted(shape: Any, *args: Any, **kwargs: Any) -> Any:
        y = zeros(shape, *args, **kwargs)
        made.append(y.size)
        return y

    monkeypatch.setattr(np, "zeros", counted)
    gradient = fg.grad(LOOPS[name])(np.ones(n))
    assert gradient.shape == (n,)
    assert sum(size >= n for size in made) <= 3


def test_closed_over_views_of_one_array_are_given_back() -> None:
    w = np.ones((3, 4))
    rows = list(w)
    for transform in (fg.grad, lambda f: lambda x: fg.vjp(f, x)[1](np.float64(1.0)), fg.make_jaxpr):
        transform(lambda x: (x * rows[0] * rows[1] * rows[0] * w).sum())(np.ones(4))
        assert w.flags.writeable
        assert all(row.flags.writeable for row in rows)
