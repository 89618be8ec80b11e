"""Derivatives of loops and branches: right to any order, linear in the steps, and zero where nothing is chosen."""

from __future__ import annotations

import functools
import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import lax
from funcgrad.core import config
from funcgrad.core.ir import Jaxpr
from funcgrad.core.kinds import Program
from funcgrad.ops.index import IndexAdd
from funcgrad.transforms.programs.loops import Scan, While
from tests.jitted import working_memory

Function = Callable[..., Any]
X = np.array([0.5, -1.0, 2.0])


def close(a: Any, b: Any, rtol: float = 1e-9) -> None:
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=1e-12)


def programs_in(jaxpr: Jaxpr) -> list[Program]:
    """The loops, branches and calls of a jaxpr, inner ones included."""
    found: list[Program] = []
    for equation in jaxpr.equations:
        if isinstance(equation.primitive, Program):
            found.append(equation.primitive)
            for slot in equation.primitive.__slots__:
                value = getattr(equation.primitive, slot)
                for part in value if isinstance(value, tuple) else (value,):
                    found += programs_in(part) if isinstance(part, Jaxpr) else []
    return found


def size(jaxpr: Jaxpr) -> int:
    """The number of equations, inner ones included."""
    return len(str(jaxpr).splitlines())


def peak(f: Function, *args: Any) -> int:
    """The greatest number of bytes that a call needs at once, beyond its arguments."""
    f(*args)
    tracemalloc.start()
    try:
        f(*args)
        traced = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # machine code works in memory that is there from the call before
    return traced + (working_memory(f, *args) if hasattr(f, "lower") else 0)


# ── the derivatives


@pytest.mark.parametrize("order", range(4))
@pytest.mark.parametrize("way", ["eager", "inner jit", "outer jit", "vmap"])
def test_newton_s_iteration_is_differentiated_to_any_order(order: int, way: str) -> None:
    def root(a: Any) -> Any:
        return lax.while_loop(lambda y: abs(y * y - a) > 1e-14, lambda y: (y + a / y) / 2, a)

    f: Function = fg.jit(root) if way == "inner jit" else root
    for _ in range(order):
        f = fg.grad(f)
    f = fg.jit(f) if way == "outer jit" else fg.vmap(f) if way == "vmap" else f
    coefficient = [1.0, 1 / 2, -1 / 4, 3 / 8][order]
    for a in (2.0, 9.0):
        want = coefficient * a ** (0.5 - order)
        close(f(np.array([a, 3.0]))[0] if way == "vmap" else f(a), want, rtol=1e-6)


@settings(max_examples=30)
@given(counts=st.lists(st.integers(0, 6), min_size=1, max_size=4), reverse=st.booleans())
def test_examples_that_take_different_numbers_of_steps_have_their_own_gradients(
    counts: list[int], reverse: bool
) -> None:
    rows = np.random.default_rng(0).standard_normal((len(counts), 6))

    def f(row: Any, n: Any) -> Any:
        def body(s: Any) -> Any:
            i, c = s
            return i + 1, np.sin(c) * row[i] + c

        total = lax.while_loop(lambda s: s[0] < n, body, (0, row[5]))[1]
        return total * lax.fori_loop(0, n, lambda i, c: c + row[5 - i if reverse else i] * c, row.sum())

    want = [fg.grad(f)(row, n) for row, n in zip(rows, counts, strict=True)]
    close(fg.vmap(fg.grad(f))(rows, np.array(counts)), want)
    close(fg.vmap(fg.grad(fg.jit(f)))(rows, np.array(counts)), want)
    close(fg.jit(fg.grad(lambda rows: fg.vmap(f)(rows, np.array(counts)).sum()))(rows), want)


@pytest.mark.parametrize("outer", [lambda f: f, fg.jit], ids=["eager", "jit"])
def test_the_gradient_flows_to_everything_a_loop_reads(outer: Any) -> None:
    def f(start: Any, rows: Any, scale: Any, table: Any) -> Any:
        def step(carry: Any, row: Any) -> Any:
            i, unused, c = carry
            c = np.tanh(c * scale + row) + table[i % 2]
            return (i + 1, unused, c), (c * c, unused)

        (_, unused, last), (squares, repeated) = lax.scan(step, (0, start[0], start), rows)
        return last.sum() + (squares * rows).sum() + 2 * unused + repeated.sum()

    random = np.random.default_rng(0)
    args = X, random.standard_normal((4, 3)), np.float64(0.7), random.standard_normal(2)
    fg.testing.check_grads(outer(f), args, order=2, rtol=1e-5, atol=1e-5)
    close(outer(fg.grad(f))(*args), fg.grad(f)(*args))


@pytest.mark.parametrize("every", [1, 3, 7, 100])
@pytest.mark.parametrize("outer", [lambda f: f, fg.jit], ids=["eager", "jit"])
def test_checkpoint_every_changes_no_derivative(every: int, outer: Any) -> None:
    def f(x: Any, every: int | None) -> Any:
        y = lax.while_loop(lambda y: (y * y).sum() < 40, lambda y: y * 1.3 + x * x / 9, x, checkpoint_every=every)
        z, zs = lax.scan(lambda c, k: (np.sin(c) + k * x, c), y, np.arange(7.0), reverse=True, checkpoint_every=every)
        return (zs * zs).sum() + lax.fori_loop(0, 5, lambda i, c: c * x + i, z, checkpoint_every=every).sum()

    close(outer(fg.grad(lambda x: f(x, every)))(X), fg.grad(lambda x: f(x, None))(X))
    close(outer(fg.hvp(lambda x: f(x, every)))(X[::-1], X), fg.hvp(lambda x: f(x, None))(X[::-1], X))


def test_a_loop_through_integers_and_bools_has_derivative_zero_there() -> None:
    def f(x: Any) -> Any:
        n, flag, y = lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[2] > 1, s[2] * 2), (0, False, x))
        return y * n + np.where(flag, y, -y)

    assert fg.jit(fg.grad(f))(1.0) == 32.0
    assert fg.grad(f)(1.0) == 32.0


# ── linear in the number of steps


def recurrent(n: int, width: int) -> tuple[Function, Any, Any]:
    weights = 0.5 * np.eye(width)

    def f(x: Any, xs: Any) -> Any:
        return lax.scan(lambda h, xi: (np.tanh(weights @ h + xi * x), None), x, xs)[0].sum()

    return f, np.ones(width), np.random.default_rng(0).standard_normal((n, width))


def until(x: Any, n: Any) -> Any:
    return lax.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, np.sin(s[1]) * x), (0, x))[1].sum()


def test_the_gradient_of_a_scan_takes_memory_in_proportion_to_its_steps() -> None:
    width = 64
    for n in (50, 200, 800):
        f, x, xs = recurrent(n, width)
        # one array for each step is saved; the weights, which are 64 times as large, once
        assert peak(fg.jit(fg.grad(f)), x, xs) < 3 * n * width * 8 + 100_000


def test_the_gradient_of_a_while_loop_takes_memory_in_proportion_to_its_steps() -> None:
    gradient = fg.jit(fg.grad(until))
    for n in (50, 200, 800):
        # stacks double when they are full
        assert peak(gradient, np.ones(64), n) < 6 * n * 64 * 8 + 100_000


@pytest.mark.parametrize("order", [1, 2])
def test_the_program_of_a_gradient_does_not_grow_with_the_number_of_steps(order: int) -> None:
    sizes = []
    for n in (3, 10, 1000):
        f, x, xs = recurrent(n, 2)
        g = fg.grad(f) if order == 1 else fg.grad(lambda x, xs: fg.grad(f)(x, xs).sum())  # noqa: B023  # used in the same round
        sizes.append(size(fg.make_jaxpr(g)(x, xs)))
    assert len(set(sizes)) == 1


def test_the_backward_pass_of_a_loop_is_one_loop_of_as_many_steps() -> None:
    f, x, xs = recurrent(7, 2)
    forward, backward = (p for p in programs_in(fg.make_jaxpr(fg.grad(f))(x, xs)) if isinstance(p, Scan))
    assert (forward.length, backward.length) == (7, 7)
    assert backward.reverse
    forward, backward = programs_in(fg.make_jaxpr(fg.grad(until))(X, 7))
    assert isinstance(forward, While)
    assert isinstance(backward, Scan)
    assert backward.length is None


def test_to_read_an_element_of_a_constant_costs_one_element_in_the_backward_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(config, "CHECK", False)  # a check computes all of it once more

    def f(x: Any) -> Any:
        return lax.fori_loop(0, 100, lambda i, c: np.sin(c) * x[i], 1.0)

    x = np.ones(100_000)
    (*_, backward) = (p for p in programs_in(fg.make_jaxpr(fg.grad(f))(x)) if isinstance(p, Scan))
    (add,) = (e.primitive for e in backward.body.equations if isinstance(e.primitive, IndexAdd))
    assert add.onto
    # the sum, and what is returned: no array of that size for each step
    assert peak(fg.jit(fg.grad(f)), x) < 3 * x.nbytes


@pytest.mark.parametrize("read", [0.0, 1.0])
def test_to_write_an_element_of_the_carry_saves_no_copy_of_it(read: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "CHECK", False)

    def f(x: Any) -> Any:
        written = lambda i, c: c[i - 1] * x[i] if read else x[i] * x[i]
        return lax.fori_loop(1, 100, lambda i, c: fg.at(c)[i].set(written(i, c)), x)[99]

    x = np.full(10_000, 1.01)
    close(fg.jit(fg.grad(f))(x)[99], 1.01**99 if read else 2.02)
    assert peak(fg.jit(fg.grad(f)), x) < 8 * x.nbytes


def test_checkpoint_every_lowers_the_peak() -> None:
    def f(x: Any, every: int | None) -> Any:
        return lax.scan(lambda c, _: (np.sin(c) * np.cos(c), None), x, None, 400, checkpoint_every=every)[0].sum()

    def g(x: Any, every: int | None) -> Any:
        return lax.while_loop(lambda s: s[0] < 400, lambda s: (s[0] + 1, np.sin(s[1])), (0, x), checkpoint_every=every)[
            1
        ].sum()

    x = np.ones(1000)
    for loop in (f, g):
        every_step, some = (peak(fg.jit(fg.grad(lambda x, e=e, loop=loop: loop(x, e))), x) for e in (None, 20))
        assert 4 * some < every_step


def test_a_loop_of_no_steps_and_one_of_many_have_one_program() -> None:
    gradient = fg.jit(fg.grad(until))
    for n in (0, 1, 5, 100):
        y = X.copy()
        for _ in range(n):
            y = np.sin(y) * X
        fg.testing.check_grads(lambda x, n=n: until(x, n), (X,))
        close(gradient(X, n), fg.grad(until)(X, n))
    assert gradient.cache_info().currsize == 1


# ── traced once

TRACED: dict[str, Function] = {
    "scan": lambda f, x: lax.scan(lambda c, xi: (f(c) * xi, None), x[0], x)[0],
    "while": lambda f, x: lax.while_loop(lambda c: c < 5.0, f, x[0]),
    "the condition": lambda f, x: lax.while_loop(lambda c: f(c) < 9.0, lambda c: 2 * c, x[0]),
    "cond": lambda f, x: lax.cond(x[0] > 0, f, np.cos, x[0]),
    "the other branch": lambda f, x: lax.cond(x[0] > 0, np.cos, f, x[0]),
    "fori": lambda f, x: lax.fori_loop(0, 3, lambda i, c: f(c) * x[i], x[0]),
    "dynamic fori": lambda f, x: lax.fori_loop(0, x[0].astype(int), lambda i, c: f(c), x[0]),
    "map": lambda f, x: lax.map(f, x).sum(),
    "checkpoint": lambda f, x: fg.checkpoint(f)(x[0]),
    "jit": lambda f, x: fg.jit(f)(x[0]),
    "vmap": lambda f, x: fg.vmap(f)(x).sum(),
    "loops in loops": lambda f, x: lax.scan(
        lambda c, xi: (lax.while_loop(lambda c: c < 5.0, lambda c: lax.cond(xi > 0, f, np.cos, c), c), None), x[0], x
    )[0],
}


@pytest.mark.parametrize("name", TRACED)
def test_a_function_is_called_once_however_often_it_is_transformed_and_runs(name: str) -> None:
    calls: list[Any] = []

    def f(x: Any) -> Any:
        calls.append(x)
        return 2 * x

    g = functools.partial(TRACED[name], f)
    x = np.ones(3)
    for transform in (
        lambda g: fg.jit(g),
        lambda g: fg.jit(fg.grad(g)),
        lambda g: fg.grad(fg.jit(g)),
        lambda g: lambda x: fg.jit(fg.hvp(g))(x, x),
        lambda g: lambda x: fg.jit(fg.vmap(fg.grad(g)))(np.stack([x, x])),
        lambda g: lambda x: fg.vmap(fg.grad(fg.jit(g)))(np.stack([x, x])),
    ):
        calls.clear()
        transform(g)(x)
        assert len(calls) == 1


# ── where nothing is chosen, the derivative is zero

SAFE: dict[str, Function] = {
    "jit": lambda x: np.where(x > 0, fg.jit(np.log)(x), 0.0).sum(),
    "inside a jit": fg.jit(lambda x: np.where(x > 0, np.log(x), 0.0).sum()),
    "checkpoint": lambda x: np.where(x > 0, fg.checkpoint(np.log)(x), 0.0).sum(),
    "inside a scan": lambda x: lax.scan(lambda c, xi: (c + np.where(xi > 0, np.log(xi), 0.0), None), 0.0, x)[0],
    "stacked by a scan": lambda x: np.where(x > 0, lax.scan(lambda c, xi: (c, np.log(xi)), 0, x)[1], 0.0).sum(),
    "around a scan": lambda x: np.where(x > 0, lax.scan(lambda c, _: (np.log(c), None), x, None, 1)[0], 0.0).sum(),
    "around a while loop": lambda x: np.where(
        x > 0, lax.while_loop(lambda s: s[0] < 1, lambda s: (s[0] + 1, np.log(s[1])), (0, x))[1], 0.0
    ).sum(),
    "around a branch": lambda x: np.where(x > 0, lax.cond(x.sum() > 0, np.log, np.exp, x), 0.0).sum(),
    "the branch": lambda x: lax.map(lambda v: lax.cond(v > 0, np.log, lambda v: v * 0, v), x).sum(),
    "a branch that closes over x": lambda x: lax.map(
        lambda v: lax.cond(v > 0, lambda: np.log(v), lambda: 0.0), x
    ).sum(),
    "a switch": lambda x: lax.map(lambda v: lax.switch((v > 0).astype(int), [lambda v: 0.0, np.log], v), x).sum(),
    "a vmapped branch": lambda x: fg.vmap(lambda v: lax.cond(v > 0, np.log, lambda v: v * 0, v))(x).sum(),
    "a vmapped closure": lambda x: fg.vmap(lambda v: lax.cond(v > 0, lambda: np.log(v), lambda: 0.0))(x).sum(),
}


@pytest.mark.parametrize("name", SAFE)
@pytest.mark.parametrize("way", ["grad", "jit grad", "grad jit", "vmap grad"])
def test_what_is_not_chosen_has_no_slope(name: str, way: str) -> None:
    f = SAFE[name]
    x = np.array([2.0, 0.0, 0.5])
    outer: dict[str, Function] = {
        "grad": fg.grad(f),
        "jit grad": fg.jit(fg.grad(f)),
        "grad jit": fg.grad(fg.jit(f)),
        "vmap grad": lambda x: fg.vmap(fg.grad(f))(np.stack([x, x]))[1],
    }
    with np.errstate(divide="ignore"):
        close(outer[way](x), [0.5, 0.0, 2.0])


def test_a_mask_does_not_choose_either() -> None:
    with np.errstate(divide="ignore"):
        close(fg.grad(lambda x: fg.jit(np.log)(x)[x > 0].sum())(np.array([2.0, 0.0, 0.5])), [0.5, 0.0, 2.0])


@pytest.mark.parametrize("name", ["jit", "inside a scan", "around a scan", "around a while loop", "a vmapped branch"])
def test_nor_has_it_a_curvature(name: str) -> None:
    with np.errstate(divide="ignore"):
        close(fg.jit(fg.hvp(SAFE[name]))(np.ones(3), np.array([2.0, 0.0, 0.5])), [-0.25, 0.0, -4.0])


def test_a_loop_of_no_steps_does_not_depend_on_what_it_closes_over() -> None:
    def f(x: Any, n: Any) -> Any:
        by_while = lax.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, s[1] * np.log(x)), (0, 2.0))[1]
        return by_while + lax.fori_loop(0, n, lambda i, c: c + np.sqrt(x), 0.0)

    with np.errstate(divide="ignore"):
        assert fg.jit(fg.grad(f))(0.0, 0) == 0.0
        assert fg.grad(fg.jit(f))(0.0, 0) == fg.grad(f)(0.0, 0) == 0.0
    close(fg.jit(fg.grad(f))(2.0, 1), 1.0 + 0.5 / np.sqrt(2.0))


def test_what_meets_a_zero_cotangent_by_value_is_not_forgotten() -> None:
    # (log x · (x − 1))″ = 1/x + 1/x² = 2 at 1, where the cotangent of log x is 0
    f = fg.jit(lambda x: lax.scan(lambda c, _: (np.log(x) * (x - 1) + c, None), 0 * x, None, 1)[0])
    close(fg.grad(fg.grad(f))(1.0), 2.0)
    # (√x)² has slope 1 at 0 only as a limit: here it is NaN, and no quiet 0
    with np.errstate(divide="ignore", invalid="ignore"):
        assert math.isnan(fg.jit(fg.grad(lambda x: lax.fori_loop(0, 1, lambda i, c: np.sqrt(c) ** 2, x)))(0.0))


def test_a_batch_of_no_examples() -> None:
    f = lambda x: lax.cond(x > 0, lambda x: lax.fori_loop(0, (x * 2).astype(int), lambda i, c: c * x, x), np.exp, x)
    assert fg.vmap(f)(np.zeros(0)).shape == (0,)
    assert fg.vmap(fg.grad(f))(np.zeros(0)).shape == (0,)
    assert fg.jit(fg.vmap(fg.grad(f)))(np.zeros(0)).shape == (0,)
    assert fnp.asarray(fg.vmap(fg.grad(fg.jit(f)))(np.zeros(0))).dtype == np.float64
