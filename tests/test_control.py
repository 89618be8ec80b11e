"""Control flow is Python's: what `cond`, `switch`, `scan`, `fori_loop`, `while_loop` and `map` compute, and refuse.

Where values are known they run as Python would; staged they compute the same. Their derivatives are in test_loops.py.
"""

from __future__ import annotations

import warnings
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

X = np.array([0.5, -1.0, 2.0])

# ways to run a function of one array that must not matter
WAYS: dict[str, Callable[[Function], Function]] = {
    "eager": lambda f: f,
    "vjp": lambda f: lambda x: fg.vjp(f, x)[0],
    "jit": fg.jit,
    "jit vjp": lambda f: fg.jit(lambda x: fg.vjp(f, x)[0]),
    "vmap": lambda f: lambda x: fg.tree.map(lambda y: np.asarray(y)[0], fg.vmap(f)(np.stack([x, x + 1]))),
}
ways = pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))


def same(got: Any, want: Any, dtypes: bool = True) -> None:
    """Equal trees of arrays of equal values and dtypes."""
    assert fg.tree.structure(got) == fg.tree.structure(want)
    for a, b in zip(fg.tree.leaves(got), fg.tree.leaves(want), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-12)
        assert np.shape(a) == np.shape(b)
        assert not dtypes or np.asarray(a).dtype == np.asarray(b).dtype


# ── scan


def python_scan(f: Function, init: Any, xs: Any, length: int, reverse: bool = False) -> Any:
    carry, ys = init, []
    for i in range(length)[::-1] if reverse else range(length):
        carry, y = f(carry, fg.tree.map(lambda x, i=i: x[i], xs))
        ys.append(y)
    columns = ys[::-1] if reverse else ys
    return carry, fg.tree.map(lambda *column: np.stack(column), *columns)


def pytree_step(carry: Any, x: Any) -> Any:
    total = carry["total"] * x["scale"] + x["row"].sum()
    return {"total": total, "last": (x["row"], carry["last"][1] + 1)}, (total, [x["row"] * total, None])


@ways
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("unroll", [1, 2, 7, True])
def test_scan_carries_and_stacks_pytrees(way: Any, reverse: bool, unroll: int) -> None:
    xs = {"scale": np.array([1.0, 2.0, -1.0, 0.5]), "row": np.arange(12.0).reshape(4, 3)}
    init = {"total": np.float64(1.0), "last": (np.zeros(3), 0)}

    def f(x: Any) -> Any:
        return lax.scan(pytree_step, init, {**xs, "row": xs["row"] * x}, reverse=reverse, unroll=unroll)

    same(way(f)(X), python_scan(pytree_step, init, {**xs, "row": xs["row"] * X}, 4, reverse))


@ways
@pytest.mark.parametrize("length", [1, 2, 5])
def test_scan_without_arrays_takes_as_many_steps_as_it_is_told(way: Any, length: int) -> None:
    f = lambda x: lax.scan(lambda c, nothing: (c * x + (nothing is None), c.sum()), x, length=length)
    same(way(f)(X), python_scan(lambda c, _: (c * X + 1, c.sum()), X, None, length))


@ways
@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_of_no_steps_returns_its_carry_and_stacks_of_nothing(way: Any, reverse: bool) -> None:
    def f(x: Any) -> Any:
        return lax.scan(lambda c, row: (c + row, {"y": c * row, "n": 1}), x, np.zeros((0, 3)), reverse=reverse)

    carry, ys = way(f)(X)
    same(carry, X)
    assert (ys["y"].shape, ys["y"].dtype) == ((0, 3), np.float64)
    assert (ys["n"].shape, ys["n"].dtype) == ((0,), np.int64)


@pytest.mark.parametrize("outer", [lambda f: f, fg.jit], ids=["eager", "jit"])
def test_a_scan_of_no_steps_has_a_gradient(outer: Any) -> None:
    def f(x: Any, xs: Any) -> Any:
        last, ys = lax.scan(lambda c, row: (c * row, c * c), x, xs)
        return (last * X).sum() + ys.sum()

    gx, gxs = outer(fg.grad(f, (0, 1)))(X, np.zeros((0, 3)))
    same(gx, X)
    assert gxs.shape == (0, 3)
    rows = outer(fg.vmap(fg.grad(f), (0, None)))(np.stack([X, X]), np.zeros((0, 3)))
    same(rows, np.stack([X, X]))


@ways
def test_a_carry_of_nothing_and_results_of_nothing(way: Any) -> None:
    same(way(lambda x: lax.scan(lambda c, xi: (c, xi * 2), (), x))(X), ((), 2 * X))
    same(way(lambda x: lax.scan(lambda c, xi: (c + xi, None), 0.0, x))(X), (np.float64(1.5), None))


def test_the_results_of_a_reversed_scan_stand_at_the_places_of_their_elements() -> None:
    for f in (lax.scan, fg.jit(lax.scan, static_argnums=0, static_argnames="reverse")):
        last, sums = f(lambda c, x: (c + x, c + x), 0.0, np.array([1.0, 2.0, 3.0]), reverse=True)
        same((last, sums), (np.float64(6.0), np.array([6.0, 5.0, 3.0])))


# ── dtypes


@ways
def test_a_weak_carry_takes_the_dtype_of_what_it_meets(way: Any) -> None:
    for zero in (0, 0.0):
        total, before = way(lambda x, zero=zero: lax.scan(lambda c, xi: (c + xi, c), zero, x))(X.astype(np.float32))
        assert total.dtype == before.dtype == np.float32
    total = way(lambda x: lax.fori_loop(0, 3, lambda i, c: c + x[i], 0.0))(X.astype(np.float32))
    assert total.dtype == np.float32


@ways
def test_a_strong_carry_keeps_its_dtype(way: Any) -> None:
    f = lambda x: lax.scan(lambda c, xi: (c + 0.5, c * 2), x[0], None, 2)
    total, doubled = way(f)(X.astype(np.float32))
    assert total.dtype == doubled.dtype == np.float32


def test_a_counter_stays_an_integer() -> None:
    f = lambda x: lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * 2), (0, x))
    for run in (f, fg.jit(f)):
        count, y = run(np.float32(1.5))
        assert count == 3
        assert isinstance(count, int)
        assert y == 12.0
        assert y.dtype == np.float32


# ── fori_loop


@ways
@settings(max_examples=15)
@given(first=st.integers(-3, 3), last=st.integers(-3, 4))
def test_fori_loop_is_a_for_loop(way: Any, first: int, last: int) -> None:
    want = X
    for i in range(first, last):
        want = want * 0.5 + i
    body = lambda i, y: y * 0.5 + i
    same(way(lambda x: lax.fori_loop(first, last, body, x))(X), want)
    # bounds that nobody knows while tracing
    shift = lambda x: (x[0] * 0).astype(int)
    same(way(lambda x: lax.fori_loop(first + shift(x), last + shift(x), body, x))(X), want)


def test_fori_loop_takes_bounds_of_other_integer_types() -> None:
    f = lambda n, x: lax.fori_loop(np.int8(0), n, lambda i, y: y + i, x)
    for n in (3, np.int32(3), np.uint8(3), np.array(3)):
        assert f(n, 1.0) == fg.jit(f)(n, 1.0) == 4.0


# ── while_loop


@ways
def test_a_while_loop_that_never_starts_returns_its_carry(way: Any) -> None:
    f = lambda x: lax.while_loop(lambda s: s["n"] < 0, lambda s: {"n": s["n"] + 1, "x": s["x"] * 2}, {"n": 0, "x": x})
    same(way(f)(X)["x"], X)


@ways
def test_a_while_loop_carries_a_pytree_until_its_condition_fails(way: Any) -> None:
    f = lambda x: lax.while_loop(
        lambda s: (s["p"] ** 2).sum() < 100.0, lambda s: {"n": s["n"] + 1, "p": s["p"] * 1.5 + x}, {"n": 0, "p": x}
    )
    n, p = 0, X
    while (p**2).sum() < 100.0:
        n, p = n + 1, p * 1.5 + X
    got = way(f)(X)
    assert got["n"] == n
    same(got["p"], p)


@ways
@pytest.mark.parametrize("every", [1, 3, 100])
def test_checkpoint_every_changes_no_value(way: Any, every: int) -> None:
    def f(x: Any, every: int | None) -> Any:
        y = lax.while_loop(lambda y: y.sum() < 40, lambda y: y * 1.3 + x * x, x, checkpoint_every=every)
        z, zs = lax.scan(lambda c, k: (np.sin(c) + k * x, c), y, np.arange(7.0), reverse=True, checkpoint_every=every)
        return z, zs, lax.fori_loop(0, 5, lambda i, c: c * x + i, z, checkpoint_every=every)

    same(way(lambda x: f(x, every))(X), f(X, None))


# ── cond and switch


@ways
@pytest.mark.parametrize("shift", [-5.0, 5.0])
def test_cond_takes_one_of_two_branches(way: Any, shift: float) -> None:
    def f(x: Any) -> Any:
        chosen = lax.cond(
            x[0] + shift > 0, lambda p, q: {"a": p, "b": (q, 1)}, lambda p, q: {"a": q, "b": (p, 2)}, x, -x
        )
        return chosen, lax.cond(x[0] + shift > 0, lambda: x.sum(), lambda: x.prod())

    a, b = (X, -X) if shift > 0 else (-X, X)
    same(way(f)(X), ({"a": a, "b": (b, 1 if shift > 0 else 2)}, X.sum() if shift > 0 else X.prod()))


@pytest.mark.parametrize("pred", [True, False, 2, 0, -1, 0.0, 0.5, np.nan, np.bool_(True), np.int8(0), np.array(3.0)])
def test_a_number_is_a_condition_as_in_python(pred: Any) -> None:
    f = lambda p: lax.cond(p, lambda: 1.0, lambda: -1.0)
    want = 1.0 if pred else -1.0
    assert f(pred) == want
    assert fg.jit(f)(pred) == want
    assert fg.vmap(f)(np.array([pred, pred]))[1] == want


def test_under_vmap_each_example_takes_its_own_branch() -> None:
    f = lambda i, x: lax.switch(i, [lambda x: x, lambda x: x * 10, lambda x: x * 0], x)
    same(fg.vmap(f)(np.array([2, 0, 1, 1]), np.arange(1.0, 5.0)), np.array([0.0, 2.0, 30.0, 40.0]))
    same(fg.vmap(f, (None, 0))(1, X), X * 10)
    same(fg.vmap(f, (0, None))(np.array([2, 0, 1]), 3.0), np.array([0.0, 3.0, 30.0]))


@pytest.mark.parametrize("i", [-1, 2, 100])
def test_there_is_no_branch_out_of_range(i: int) -> None:
    f = lambda i: lax.switch(i, [lambda: 1.0, lambda: 2.0])
    for run in (
        lambda: f(i),
        lambda: fg.jit(f)(i),
        lambda: fg.vmap(f)(np.array([0, i, 1])),
        lambda: fg.jit(f)(np.int8(i)),
    ):
        with pytest.raises(IndexError, match=rf"there is no branch {i} among 2(.|\n)*clip\(index, 0, 1\)"):
            run()


def test_branches_may_give_python_numbers_where_the_other_gives_arrays() -> None:
    f = lambda p, x: lax.cond(p, lambda: x, lambda: 0.0)
    for p in (True, False):
        y = fg.jit(f)(p, np.float32(1.5))
        assert y.dtype == np.float32
        assert y == 1.5 * p


# ── map


@ways
@pytest.mark.parametrize("batch_size", [None, 1, 2, 3, 4, 10])
def test_map_stacks_the_results_for_each_element(way: Any, batch_size: int | None) -> None:
    xs = np.arange(9.0).reshape(3, 3)
    f = lambda x: lax.map(
        lambda row: {"y": row["a"] * x, "s": row["b"].sum()}, {"a": xs, "b": xs}, batch_size=batch_size
    )
    same(way(f)(X), {"y": xs * X, "s": xs.sum(axis=1)})


@pytest.mark.parametrize("batch_size", [None, 2])
def test_map_over_nothing(batch_size: int | None) -> None:
    for f in (lax.map, fg.jit(lax.map, static_argnums=0, static_argnames="batch_size")):
        got = f(lambda row: (row.sum(), row), np.zeros((0, 3)), batch_size=batch_size)
        assert [y.shape for y in got] == [(0,), (0, 3)]


# ── where values are known, loops and branches run as Python would


def each_loop(body: Callable[[Any], Any], x: Any) -> list[Any]:
    """Four loops of three steps each."""
    return [
        lax.scan(lambda c, _: (body(c), None), x, None, 3)[0],
        lax.fori_loop(0, 3, lambda i, c: body(c), x),
        lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, body(s[1])), (0, x))[1],
        lax.map(lambda i: body(x) * i, np.arange(3.0))[-1] / 2,
    ]


@pytest.mark.parametrize(
    "outer", [lambda f: f, fg.grad, lambda f: fg.grad(fg.grad(f))], ids=["eager", "grad", "grad grad"]
)
def test_a_body_may_use_values_and_is_called_once_for_each_step(outer: Any) -> None:
    seen: list[float] = []

    def body(c: Any) -> Any:
        seen.append(float(fg.stop_gradient(c)))
        return c * c if c > 1 else c + 1  # Python's own branch

    for i in range(4):
        seen.clear()
        outer(lambda x, i=i: each_loop(body, x)[i])(1.0)
        assert seen[-3:] in ([1.0, 2.0, 4.0], [1.0, 1.0, 1.0])
        assert len(seen) == 12


def test_only_the_branch_that_is_taken_is_called() -> None:
    f = lambda x: lax.cond(x > 0, lambda x: x * 2, lambda x: {}["not called"], x)
    assert f(3.0) == 6.0
    assert fg.grad(f)(3.0) == 2.0
    g = lambda i, x: lax.switch(i, [lambda x: {}["not called"], lambda x: x * 2], x)
    assert fg.grad(g, 1)(1, 3.0) == 2.0


def test_a_body_that_takes_no_step_is_not_called() -> None:
    def boom(*args: Any) -> Any:
        raise AssertionError("called")

    assert lax.fori_loop(2, 2, boom, 1.5) == 1.5
    assert fg.grad(lambda x: lax.fori_loop(3, 2, boom, x))(1.5) == 1.0
    assert fg.grad(lambda x: lax.while_loop(lambda c: c > 2, boom, x))(1.5) == 1.0


def test_in_a_program_a_loop_is_staged_from_its_first_step_on() -> None:
    calls: list[Any] = []

    def f(x: Any) -> Any:
        def body(c: Any) -> Any:
            calls.append(c)
            return c * x

        return each_loop(body, 1.0)

    # whatever the carry starts from: each of the three loops and the map calls its body once
    assert fg.jit(f)(2.0) == [8.0, 8.0, 8.0, 2.0]
    assert len(calls) == 4
    assert not any(isinstance(c, float) for c in calls[:3])


def test_a_switched_over_loop_takes_one_step_with_values_and_is_staged_once() -> None:
    kinds: list[bool] = []

    def body(c: Any, x: Any) -> Any:
        kinds.append(isinstance(c, float))
        return c * x, c

    x = np.array([2.0, 3.0])
    last, ys = fg.vmap(lambda x: lax.scan(lambda c, _: body(c, x), 1.0, None, 5))(x)
    assert kinds == [True, False]
    same((last, ys), (x**5, x[:, None] ** np.arange(5)))
    kinds.clear()
    last, ys = fg.vmap(lambda x: lax.scan(lambda c, _: body(c, x), 1.0, None, 5, reverse=True))(x)
    same((last, ys), (x**5, x[:, None] ** np.arange(5)[::-1]))


def test_a_body_may_print_and_warn_without_being_staged() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fg.grad(lambda x: lax.fori_loop(0, 3, lambda i, c: warnings.warn(str(i), stacklevel=2) or c * x, 1.0))(2.0)
    assert [str(w.message) for w in caught] == ["0", "1", "2"]


# ── what a branch does, it does only where it is taken


@pytest.mark.parametrize("outer", [lambda f: f, fg.jit, lambda f: lambda x: fg.vmap(f)(np.stack([x, x]))[0]])
def test_a_branch_that_is_not_taken_may_not_fail(outer: Any) -> None:
    table = np.arange(3.0)
    inside = lambda i: lax.cond(i < 3, lambda: fnp.take(table, i), lambda: -1.0)
    passed = lambda i: lax.cond(i < 3, lambda i: fnp.take(table, i), lambda i: -1.0, i)
    for f in (inside, passed):
        assert outer(f)(np.int64(2)) == 2.0
        assert outer(f)(np.int64(3)) == -1.0


def test_nor_may_it_fail_for_the_examples_that_take_another() -> None:
    table = np.arange(3.0)
    f = lambda i: lax.cond(i < 3, lambda: fnp.take(table, i), lambda: -1.0)
    same(fg.vmap(f)(np.array([0, 7, 2])), np.array([0.0, -1.0, 2.0]))
    same(fg.vmap(f)(np.array([9, 7])), np.array([-1.0, -1.0]))
    definite = lambda a: lax.cond(a[0, 0] > 0, fnp.linalg.cholesky, lambda a: a, a)
    same(fg.vmap(definite)(np.stack([4 * np.eye(2), -np.eye(2)])), np.stack([2 * np.eye(2), -np.eye(2)]))
    # a loop that would not end
    down = lambda n: lax.cond(n > 0, lambda n: lax.while_loop(lambda n: n != 0, lambda n: n - 1, n), lambda n: n, n)
    same(fg.vmap(down)(np.array([3, -2, 0, 1])), np.array([0, -2, 0, 0]))


def test_an_example_whose_loop_is_over_may_not_fail() -> None:
    data, starts, counts = np.arange(6.0), np.array([0, 1, 4]), np.array([1, 5, 2])
    total = lambda s, n: lax.fori_loop(0, n, lambda i, c: c + fnp.take(data, s + i), 0.0)
    same(fg.vmap(total)(starts, counts), np.array([0.0, 15.0, 9.0]))
    gradient = fg.grad(
        lambda d: fg.vmap(lambda s, n: lax.fori_loop(0, n, lambda i, c: c + d[s + i], 0.0))(starts, counts).sum()
    )
    same(gradient(data), np.array([1.0, 1.0, 1.0, 1.0, 2.0, 2.0]))


# ── an exception leaves nothing behind


@pytest.mark.parametrize("outer", [lambda f: f, fg.jit, fg.grad, lambda f: fg.jit(fg.grad(f)), fg.checkpoint])
def test_after_an_exception_all_works_as_before(outer: Any) -> None:
    def boom(*args: Any) -> Any:
        raise KeyError("boom")

    failing = [
        lambda x: lax.scan(boom, x, None, 3)[0],
        lambda x: lax.while_loop(boom, lambda c: c, x),
        lambda x: lax.while_loop(lambda c: c < 3, boom, x),
        lambda x: lax.cond(x > 0, boom, boom, x),
        lambda x: lax.cond(x > 0, lambda: lax.cond(x > 1, boom, boom), boom),
        fg.checkpoint(boom),
    ]
    good = lambda x: lax.cond(x > 0, lambda: lax.fori_loop(0, 3, lambda i, c: c * x, x), lambda: x)
    for f in failing:
        with pytest.raises(KeyError, match="boom"):
            outer(f)(1.5)
        assert fg.jit(fg.grad(good))(1.5) == 4 * 1.5**3
        assert fg.vmap(good)(np.array([1.0, -1.0])).tolist() == [1.0, -1.0]


# ── what other programs ran into


def test_branches_that_only_return_what_they_close_over() -> None:
    def chosen(p: Any, x: Any, y: Any) -> Any:
        return lax.cond(p, lambda: x, lambda: y)

    assert [fg.jit(chosen)(p, 1.0, 2.0) for p in (True, False)] == [1.0, 2.0]
    same(fg.vmap(chosen)(np.array([True, False]), np.ones(2), 2 * np.ones(2)), np.array([1.0, 2.0]))
    pair = fg.jit(lambda p, x, y, z: lax.cond(p, lambda: (x, y), lambda: (z, x)))
    assert [pair(p, 1.0, 2.0, 3.0) for p in (True, False)] == [(1.0, 2.0), (3.0, 1.0)]

    def switched(i: Any, x: Any, y: Any, z: Any) -> Any:
        return lax.switch(i, [lambda: x, lambda: y, lambda: z])

    same(
        fg.vmap(switched)(np.array([2, 0, 1]), np.full(3, 1.0), np.full(3, 2.0), np.full(3, 3.0)),
        np.array([3.0, 1.0, 2.0]),
    )


def test_bisection_in_a_batch() -> None:
    def root(a: Any) -> Any:
        def halve(i: Any, interval: Any) -> Any:
            low, high = interval
            middle = (low + high) / 2
            return lax.cond(middle * middle < a, lambda: (middle, high), lambda: (low, middle))

        return lax.fori_loop(0, 60, halve, (0.0, a + 1))[0]

    a = np.array([2.0, 9.0, 0.25])
    for f in (fg.vmap(root), fg.jit(fg.vmap(root)), fg.vmap(fg.jit(root))):
        np.testing.assert_allclose(f(a), a**0.5, rtol=1e-12)


@pytest.mark.parametrize("transformation", [lambda f: f, fg.jit], ids=["eager", "jit"])
def test_a_bool_that_is_carried_or_passed_is_one_of_numpy(transformation: Any) -> None:
    flags = transformation(
        lambda x: lax.fori_loop(0, 3, lambda i, c: (np.where(~c[1], c[0] + x, c[0]), c[1]), (0.0, True))
    )
    assert flags(1.0)[0] == 0.0
    assert transformation(lambda x: lax.cond(True, lambda d: np.where(~d, x, -x), lambda d: x, True))(1.0) == -1.0
    assert (
        transformation(lambda x: lax.while_loop(lambda s: ~s[1], lambda s: (s[0] + x, s[0] > 3), (1.0, False)))(1.0)[0]
        == 5
    )


@pytest.mark.parametrize("transformation", [lambda f: f, fg.jit, fg.grad], ids=["eager", "jit", "grad"])
def test_a_number_that_a_loop_starts_from_takes_the_type_of_what_comes_out(transformation: Any) -> None:
    def scanned(x: Any) -> Any:
        return lax.scan(lambda c, _: (c * x, c), 1, None, 3)[0]

    assert transformation(lambda x: lax.fori_loop(0, 3, lambda i, s: s + x, 0))(2.0) == (
        3 if transformation is fg.grad else 6
    )
    assert transformation(scanned)(2.0) == (12 if transformation is fg.grad else 8)
    assert transformation(lambda x: lax.while_loop(lambda c: c < 10, lambda c: c + x, 0))(2.5) == (
        4 if transformation is fg.grad else 10
    )
