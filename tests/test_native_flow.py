"""Branches, loops and calls as machine code: the same as step by step, whatever is carried, however often, and how."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import lax
from funcgrad.compiler.native import compile as native
from funcgrad.compiler.native.ir.steps import Branch, Call, Loop, Schedule, Step, routines_of

pytestmark = pytest.mark.skipif(not native.usable(), reason="no machine code here")

X = np.linspace(0.1, 0.9, 12)


def steps_of(schedule: Schedule) -> list[Step]:
    """All steps, also those of what is called."""
    found: list[Step] = []
    for step in schedule.steps:
        found += [step, *(inner for routine in routines_of(step) for inner in steps_of(routine.schedule))]
    return found


def compiled_steps(f: Any, *args: Any) -> list[Step]:
    """The steps of the one segment that a function is."""
    executable = fg.jit(f).lower(*args)._found.program.compile()
    assert executable.native is not None, executable.as_text()
    return steps_of(executable.native.schedule)


def agrees(f: Callable[..., Any], *args: Any, kind: type[Step] | None = Loop, rtol: float = 1e-12) -> None:
    """Machine code, all of it in one segment, gives what the function gives step by step."""
    if kind is not None:
        assert any(isinstance(step, kind) for step in compiled_steps(f, *args))
    got = fg.jit(f)(*args)
    with fg.disable_jit():
        expected = f(*args)
    for x, y in zip(fg.tree.leaves(got), fg.tree.leaves(expected), strict=True):
        assert np.asarray(x).dtype == np.asarray(y).dtype
        np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-14)


# ── what is carried


@pytest.mark.parametrize("n", [0, 1, 2, 3, 8, 9])
@pytest.mark.parametrize("size", [1, 3, 40])
def test_carries_may_change_places(n: int, size: int) -> None:
    x = np.arange(float(size))

    def f(x: Any) -> Any:
        return lax.fori_loop(0, n, lambda i, c: (c[1], c[2], c[0] + c[1]), (x, x + 1, 2 * x))

    agrees(f, x)


@pytest.mark.parametrize("size", [2, 40])
def test_a_carry_may_stay_as_it_is_or_become_a_number(size: int) -> None:
    x = np.arange(float(size))

    def f(x: Any) -> Any:
        return lax.scan(lambda c, _: ((c[0], fnp.zeros_like(c[1]), c[0] + c[2]), c[1]), (x, x + 1, x), None, 5)

    agrees(f, x)


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint8, np.bool_])
@pytest.mark.parametrize("size", [2, 40])
def test_carries_have_any_dtype(dtype: Any, size: int) -> None:
    x = (np.arange(size) % 2).astype(dtype)
    agrees(lambda x: lax.fori_loop(0, 4, lambda i, c: ~c if dtype is np.bool_ else c + c, x), x)


def test_elements_of_a_carry_are_written_in_place() -> None:
    def f(x: Any) -> Any:
        return lax.fori_loop(1, len(X), lambda i, c: fg.at(c)[i].set(0.5 * c[i - 1] + c[i]), x)

    (loop,) = (s for s in compiled_steps(f, X) if isinstance(s, Loop))
    # no nest of the body runs over the whole carry
    assert all(0 in s.domain or np.prod(s.domain) == 1 for s in loop.body.schedule.steps if hasattr(s, "domain"))
    agrees(f, X)
    np.testing.assert_array_equal(X, np.linspace(0.1, 0.9, 12))


def test_what_is_read_after_an_element_was_written_is_what_was_there_before() -> None:
    def both(i: Any, c: Any) -> Any:
        new = fg.at(c)[i].set(10.0)
        return new + c[i] + c

    def shifted(i: Any, c: Any) -> Any:
        return fg.at(c)[1:].set(c[:-1] * 1.5)

    def twice(i: Any, c: Any) -> Any:
        return fg.at(fg.at(c)[i].add(1.0))[0].multiply(c[i])

    for step in (both, shifted, twice):
        agrees(lambda x, step=step: lax.fori_loop(0, 6, step, x), X)


def test_two_carries_that_begin_with_one_array_are_two() -> None:
    def f(x: Any) -> Any:
        return lax.fori_loop(0, 5, lambda i, c: (fg.at(c[0])[i].set(0.0), fg.at(c[1])[i].add(c[0][i])), (x, x))

    agrees(f, X)
    agrees(lambda x: f(2 * x), X)


def test_an_array_that_is_no_longer_needed_is_written_in_place_outside_of_loops() -> None:
    def f(x: Any) -> Any:
        y = 2 * x
        return fg.at(fg.at(y)[3].set(0.0))[4].add(1.0), x[3]

    agrees(f, X, kind=None)
    nests = [s for s in compiled_steps(f, X) if getattr(s, "domain", None) == (12,)]
    assert len(nests) == 1


# ── how often


@pytest.mark.parametrize("n", [0, 1, 5])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("width", [2, 30])
def test_slices_are_read_and_results_are_stacked(n: int, reverse: bool, width: int) -> None:
    xs = np.arange(float(n * width)).reshape(n, width)

    def f(c: Any, xs: Any) -> Any:
        return lax.scan(lambda c, x: (c + x, c * x), c, xs, reverse=reverse)

    agrees(f, np.ones(width), xs)
    agrees(lambda c, xs: f(c, xs[::-1]), np.ones(width), xs)
    agrees(lambda c, xs: f(c, xs.T), np.ones(width), np.ascontiguousarray(xs.T))


def test_slices_may_be_one_and_the_same() -> None:
    agrees(lambda x: lax.scan(lambda c, y: (c + y, c[0]), x, fnp.broadcast_to(x, (4, 12))), X)


@pytest.mark.parametrize("size", [1, 20])
def test_a_condition_ends_a_loop(size: int) -> None:
    x = np.linspace(1.0, 2.0, size)

    def f(x: Any, limit: Any) -> Any:
        return lax.while_loop(lambda c: c[1].sum() < limit, lambda c: (c[0] + 1, c[1] * 1.5), (0, x))

    for limit in (-1.0, 10.0, 1e6):
        agrees(f, x, limit)


@pytest.mark.parametrize("size", [1, 20])
@pytest.mark.parametrize("steps", [0, 1, 8, 9, 100])
def test_what_a_loop_of_unknown_length_saves_grows(size: int, steps: int) -> None:
    x = np.linspace(0.5, 1.0, size)

    def f(x: Any, n: Any) -> Any:
        return lax.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, np.sin(c[1]) + 0.1 * c[1]), (0, x))[1].sum()

    agrees(fg.grad(f), x, steps)
    agrees(fg.grad(lambda x, n: (fg.grad(f)(x, n) ** 2).sum()), x, steps, rtol=1e-9)


def test_loops_nest() -> None:
    def f(x: Any) -> Any:
        def outer(i: Any, c: Any) -> Any:
            inner = lax.fori_loop(0, i, lambda j, d: fg.at(d)[j].add(c[i]), c)
            return lax.while_loop(lambda d: d.sum() < 5.0, lambda d: d * 1.1, inner)

        return lax.fori_loop(0, 5, outer, x)

    agrees(f, X)
    agrees(fg.grad(lambda x: f(x).sum()), X, rtol=1e-10)


# ── branches and calls


@pytest.mark.parametrize("size", [1, 20])
def test_one_of_several_branches_runs(size: int) -> None:
    x = np.linspace(0.5, 1.0, size)
    branches = [np.sin, lambda x: x, lambda x: x * np.arange(1.0, size + 1), lambda x: 0 * x]

    def f(i: Any, x: Any) -> Any:
        return lax.switch(i, branches, x)

    for i in range(4):
        agrees(f, i, x, kind=Branch)
        agrees(fg.grad(lambda x, i: f(i, x).sum()), x, i, kind=Branch)
        agrees(lambda x, i: lax.fori_loop(0, 3, lambda k, c: f((i + k) % 4, c), x), x, i)


def test_a_number_without_a_branch_is_an_error_of_numpy() -> None:
    f = fg.jit(lambda i, x: lax.switch(i, [np.sin, np.cos], x))
    for i in (-1, 2):
        with pytest.raises(IndexError, match=r"2 branches|branch"):
            f(i, X)
    np.testing.assert_allclose(f(1, X), np.cos(X), rtol=1e-15)


def test_arrays_of_a_body_and_custom_rules_are_a_part_of_it() -> None:
    @fg.custom_vjp
    def double(x: Any) -> Any:
        return 2 * x + np.array([0.0, 1.0, 2.0])

    double.defvjp(lambda x: (double(x), None), lambda _, g: (3 * g,))

    def f(x: Any) -> Any:
        return lax.fori_loop(0, 4, lambda i, c: 0.1 * double(c) + np.array([3.0, 2.0, 1.0]), x)

    agrees(f, X[:3])
    agrees(fg.grad(lambda x: f(x).sum()), X[:3])


def test_a_checkpoint_is_called() -> None:
    f = fg.checkpoint(lambda x: np.exp(np.sin(x)))
    agrees(fg.grad(lambda x: f(f(x)).sum()), X, kind=Call)
    agrees(fg.grad(lambda x: lax.fori_loop(0, 3, lambda i, c: f(c), x).sum()), X)


# ── what goes wrong


@pytest.mark.parametrize("size", [3, 40])
def test_an_index_out_of_bounds_in_a_loop_is_told(size: int) -> None:
    x = np.arange(float(size))

    @fg.jit
    def f(x: Any, n: Any) -> Any:
        return lax.fori_loop(0, n, lambda i, c: c + x[i], x)

    np.testing.assert_array_equal(f(x, size), x + x.sum())
    with pytest.raises(IndexError, match=rf"index {size} is out of bounds for axis 0 with size {size}"):
        f(x, size + 1)


def test_a_python_integer_that_a_dtype_does_not_hold_is_told_in_a_loop() -> None:
    f = fg.jit(lambda x, n: lax.fori_loop(0, 3, lambda i, c: c + n, x))
    x = np.zeros(2, np.int8)
    np.testing.assert_array_equal(f(x, 5), np.full(2, 15, np.int8))
    with pytest.raises(OverflowError):
        f(x, 1000)


def test_a_loop_that_would_not_end_after_an_error_ends() -> None:
    # the index that is out of bounds is the one that would have ended it
    @fg.jit
    def f(x: Any) -> Any:
        return lax.while_loop(lambda c: x[c[0]] < 100.0, lambda c: (c[0] + 1, c[1]), (0, x))[0]

    with pytest.raises(IndexError, match="index 12 is out of bounds"):
        f(X)


def test_other_threads_run_while_a_loop_does() -> None:
    f = fg.jit(lambda n: lax.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, np.sin(c[1])), (0, 1.0))[1])
    f(1)
    counted, done = [0], threading.Event()

    def count() -> None:
        while not done.is_set():
            counted[0] += 1

    thread = threading.Thread(target=count)
    thread.start()
    before = counted[0]
    f(5_000_000)
    while_running = counted[0] - before
    done.set()
    thread.join()
    assert while_running > 1000


def test_a_batch_of_loops_of_unknown_length_is_machine_code_in_its_gradient_too() -> None:
    def root(a: Any) -> Any:
        more = lambda c: abs(c[0] * c[0] - c[1]) > 1e-10
        return lax.while_loop(more, lambda c: (0.5 * (c[0] + c[1] / c[0]), c[1]), (a, a))[0]

    agrees(fg.vmap(fg.grad(root)), np.array([0.5, 2.0, 3.0, 9.0]))
