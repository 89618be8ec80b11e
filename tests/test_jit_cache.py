"""The cache of jit: what it keeps, when it warns, and what threads see of it."""

from __future__ import annotations

import functools
import gc
import logging
import re
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from tests.jitted import MATRIX, VECTOR, Counted, W, loss

# ── the cache


def test_the_cache_is_bounded_and_forgets_what_was_not_used_for_the_longest_time() -> None:
    f = Counted(lambda x: x + 1)
    jitted = fg.jit(f.jitted.__wrapped__, cache_size=2)
    jitted(np.ones(1))
    jitted(np.ones(2))
    jitted(np.ones(1))
    jitted(np.ones(3))  # forgets the program for two elements
    assert jitted.cache_info() == (1, 3, 2, 2)
    jitted(np.ones(1))
    assert f.calls == 3
    np.testing.assert_array_equal(jitted(np.ones(2)), [2, 2])
    assert f.calls == 4
    assert jitted.cache_info() == (2, 4, 2, 2)


def test_clear_cache_forgets() -> None:
    f = Counted(lambda x, s: x + s)
    jitted = f.jitted
    jitted(1.0, 2.0)
    jitted.clear_cache()
    assert jitted.cache_info() == (0, 0, 256, 0)
    assert jitted(1.0, 2.0) == 3
    fg.clear_caches()
    assert jitted(1.0, 2.0) == 3
    assert f.calls == 3


def test_a_jitted_function_that_nobody_refers_to_goes_away_with_what_it_closes_over() -> None:
    def use() -> weakref.ref[Any]:
        w = np.ones(1000)
        f = fg.jit(lambda x: x * w)
        f(1.0)
        fg.make_jaxpr(fg.grad(lambda x: f(x).sum()))(1.0)
        return weakref.ref(w)

    alive = use()
    gc.collect()
    assert alive() is None


# ── retraces

RETRACES: dict[str, tuple[Callable[[], Any], Callable[[int], tuple[Any, ...]], str]] = {
    "shape": (
        lambda: fg.jit(lambda p, x: x),
        lambda i: ({"w": [1.0, np.ones(i)]}, 2.0),
        "the shape of argument 'p' leaf ['w'][1] keeps changing, as from (18,) to (19,) | pad it | mask",
    ),
    "static value": (
        lambda: fg.jit(lambda x, n: x, static_argnames="n"),
        lambda i: (1.0, i),
        "the static value of argument 'n' keeps changing, as from 18 to 19 | make it a normal argument",
    ),
    "static function": (
        lambda: fg.jit(lambda g, x: g(x), static_argnums=0),
        lambda i: (lambda x: x, 1.0),
        "the static value of argument 'g' keeps changing | define it once, outside of the loop",
    ),
    "structure": (
        lambda: fg.jit(lambda p: p),
        lambda i: ({f"w{j}": 1.0 for j in range(i + 1)},),
        "the structure of argument 'p' keeps changing | same keys",
    ),
}


@pytest.mark.parametrize(("make", "args", "words"), RETRACES.values(), ids=RETRACES)
def test_what_keeps_changing_is_named_once(make: Any, args: Any, words: str) -> None:
    f = make()
    for i in range(19):
        f(*args(i))
    with pytest.warns(fg.errors.RetraceWarning) as caught:
        f(*args(19))
    message = str(caught[0].message)
    assert message.startswith("jit(<lambda>) has been traced 20 times: ")
    for part in words.split(" | "):
        assert part in message
    assert caught[0].filename == __file__
    for i in range(30):
        f(*args(20 + i))


def test_a_function_that_closes_over_traced_values_again_and_again_is_warned_of() -> None:
    held: list[Any] = [None]
    f = fg.jit(lambda x: x * held[0])

    def outer(w: Any) -> Any:
        held[0] = w
        return f(3.0)

    with pytest.warns(fg.errors.RetraceWarning, match="closes over a traced value"):
        for _ in range(20):
            fg.grad(outer)(1.0)


def test_compiles_are_logged_with_their_reason(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    f = fg.jit(lambda x, y, n=1: np.sin(x), static_argnames="n")
    with fg.log_compiles():
        f(VECTOR, {"a": 1.0})
        f(VECTOR, {"a": 2.0})
        f(np.ones(4), {"a": 1.0})
        f(VECTOR, {"b": 1.0})
        f(VECTOR, {"a": 1.0}, 2)
        f(VECTOR, {"a": 1})
        f(VECTOR, y={"a": 1})
    lines = capsys.readouterr().out.splitlines()
    times = re.compile(r"jit\(<lambda>\): 1 equation staged in \d+\.\d ms, compiled in \d+\.\d ms; .+")
    assert all(times.fullmatch(line) for line in lines)
    assert [line.partition("; ")[2] for line in lines] == [
        "this is the first call",
        "the shape of argument 'x' is (4,), was (3,)",
        "the structure of argument 'y' is {'b': *}, was {'a': *}",
        "the static value of argument 'n' is 2, was 1",
        "the dtype of argument 'y' leaf ['a'] is that of a Python int, was that of a Python float",
        "the way of passing argument 'y' is by name, was by position",
    ]
    with caplog.at_level(logging.INFO, "funcgrad"):
        f(np.ones(5), {"a": 1.0})
    assert "the shape of argument 'x' is (5,), was (3,)" in caplog.text
    assert capsys.readouterr().out == ""
    lines = []
    with fg.log_compiles(lines.append):
        f(np.ones(6), {"a": 1.0})
    assert len(lines) == 1


# ── threads


def together(tasks: list[Callable[[], Any]]) -> list[Any]:
    """The results of the tasks, which start at the same moment in threads of their own."""
    barrier = threading.Barrier(len(tasks))

    def run(task: Callable[[], Any]) -> Any:
        barrier.wait()
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return [future.result() for future in [pool.submit(run, task) for task in tasks]]


@pytest.mark.parametrize("nested", [False, True])
def test_first_calls_from_many_threads_stage_once(nested: bool) -> None:
    def long(x: Any) -> Any:
        for _ in range(50):
            x = np.sin(x) * 1.5
        return x

    expected = long(VECTOR)
    for _ in range(5):
        counted = Counted(long)
        inner = counted.jitted
        jitted = fg.jit(lambda x, inner=inner: inner(x), static_argnames="inner") if nested else inner
        tasks = [functools.partial(f, VECTOR) for f in (jitted, inner) * 4]
        for y in together(tasks):
            np.testing.assert_array_equal(y, expected)
        assert counted.calls == 1


def test_threads_with_different_signatures_stage_each_once() -> None:
    counted = Counted(lambda x: x * 2)
    jitted = counted.jitted
    results = together([lambda i=i: jitted(np.ones(i % 4)) for i in range(8)])
    assert [y.shape for y in results] == [(i % 4,) for i in range(8)]
    assert counted.calls == 4
    assert jitted.cache_info() == (4, 4, 256, 4)


def test_if_staging_fails_in_one_thread_the_others_try_themselves() -> None:
    lock = threading.Lock()
    calls = []

    @fg.jit
    def f(x: Any) -> Any:
        with lock:
            calls.append(None)
            first = len(calls) <= 3
        if first:
            raise KeyError("broken")
        return x + 1

    def attempt() -> Any:
        try:
            return f(1.0)
        except KeyError:
            return "failed"

    results = together([attempt] * 8)
    assert results.count("failed") == 3
    assert results.count(2.0) == 5
    assert len(calls) == 4


def test_threads_that_stage_functions_which_call_each_other_do_not_wait_for_ever() -> None:
    @fg.jit(static_argnums=1)
    def even(x: Any, n: int) -> Any:
        return x if n == 0 else 2 * odd(x, n - 1)

    @fg.jit(static_argnums=1)
    def odd(x: Any, n: int) -> Any:
        return x if n == 0 else 3 * even(x, n - 1)

    results = together([functools.partial(f, 1.0, n) for f in (even, odd) for n in (6, 5, 4, 3)])
    assert results == [216, 72, 36, 12, 216, 108, 36, 18]
    assert even.cache_info().misses + odd.cache_info().misses == 14


def test_gradients_of_one_jitted_function_in_many_threads() -> None:
    f = fg.jit(loss)
    expected = fg.grad(loss)(W, MATRIX)
    for g in together([lambda: fg.grad(f)(W, MATRIX)] * 8):
        np.testing.assert_allclose(g, expected, rtol=1e-12)
