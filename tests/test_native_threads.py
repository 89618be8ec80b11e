"""Loops on several threads compute what one thread does, bit for bit, whoever calls them and whatever else goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.compiler.native.dispatch import recycle, runtime
from funcgrad.compiler.native.machine import pool

pytestmark = pytest.mark.skipif(not runtime.available(), reason="no LLVM here")
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="loops run on one thread there")
RNG = np.random.default_rng(0)
LONG = RNG.standard_normal(1_000_003)
WIDE = RNG.standard_normal((301, 3001))
NARROW = {n: RNG.standard_normal((60_001, n)) for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 33)}


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = fg.get_num_threads()
    yield
    fg.set_num_threads(before)


def on_any_number(f: Callable[..., Any], *args: Any, rtol: float = 1e-10) -> str:
    """Compare a jitted function on 1, 2, 3 and 7 threads with itself, and with NumPy; its LLVM code."""
    jitted = fg.jit(f)
    results = []
    for n in (1, 2, 3, 7):
        fg.set_num_threads(n)
        results.append([np.asarray(x) for x in fg.tree.leaves(jitted(*args))])
    for other in results[1:]:
        for x, y in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(x, y)
    with np.errstate(all="ignore"):
        expected = fg.tree.leaves(f(*args))
    for x, y in zip(results[0], expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol, equal_nan=True)
    return jitted.lower(*args).as_text("llvm")


def is_cut(text: str) -> bool:
    return "define internal void @kernel" in text


# ── results

LINES: dict[str, Callable[[Any], Any]] = {
    "a map": lambda x: fnp.sin(x) * x + 1,
    "reversed": lambda x: fnp.exp(x[::-1]) + x,
    "a strided slice": lambda x: fnp.exp(x[1::2]) * 2,
    "sums": lambda x: (x.sum(), (x * x).mean(), x.var(), fnp.prod(1 + 1e-9 * x)),
    "extremes": lambda x: (x.max(), x.min(), fnp.argmax(x), fnp.argmin(x)),
    "truths": lambda x: (fnp.any(x > 9), fnp.all(x < 9), fnp.sum(x > 0)),
    "several passes": lambda x: fg.nn.softmax(x),
    "a pass that needs the sums of two": lambda x: (x - x.mean()) / fnp.sqrt(x.var() + 1e-5),
    "writes at a place": lambda x: fg.at(fnp.exp(x))[7].set(3.0) + 1,
    "joined": lambda x: fnp.exp(fnp.concatenate([x, -x])) + 0,
    "taken": lambda x: fnp.sin(x)[fnp.arange(x.size)[::-1]] * 2,
}


@pytest.mark.parametrize("name", LINES)
def test_long_lines_are_cut(name: str) -> None:
    assert is_cut(on_any_number(LINES[name], LONG))


@pytest.mark.parametrize("dtype", ["f2", "f4", "i1", "i4", "u2", "i8"])
def test_every_dtype_has_partial_results(dtype: str) -> None:
    x = (LONG * 10).astype(dtype)
    with np.errstate(all="ignore"):
        on_any_number(lambda x: (x.max(), fnp.argmin(x), x + x, fnp.any(x > 3)), x)
    if dtype[0] != "f":
        on_any_number(lambda x: (x.sum(), fnp.prod(x // 3)), x)
        assert is_cut(on_any_number(lambda x: (x.max(), fnp.sum(fnp.sin(x.astype(float)))), x))


@pytest.mark.parametrize("vectors", [3009, 3073, 3521, 3969, 8000])
@pytest.mark.parametrize("more", [0, 1, 7])
def test_no_part_of_a_sum_is_counted_twice(vectors: int, more: int) -> None:
    def f(x: Any) -> Any:
        for _ in range(10):
            x = fnp.exp(0 * x)
        return fnp.sum(x)

    for lanes in (2, 4, 8):
        x = np.zeros(lanes * vectors + more)
        assert fg.jit(f)(x) == x.size


@pytest.mark.parametrize("axis", [0, 1, None])
@pytest.mark.parametrize("order", ["C", "F"])
def test_reductions_of_matrices(axis: int | None, order: Any) -> None:
    def f(x: Any) -> Any:
        centred = x - x.mean(axis=axis, keepdims=True)
        return fnp.argmax(x, axis=axis), centred / fnp.sqrt(x.var(axis=axis, keepdims=True)), fg.nn.softmax(x, axis)

    assert is_cut(on_any_number(f, np.asarray(WIDE, order=order)))
    assert is_cut(on_any_number(lambda x: f(x.T[::-1]), WIDE))


@pytest.mark.parametrize("n", NARROW)
@pytest.mark.parametrize("axis", [0, 1])
def test_reductions_of_narrow_matrices(n: int, axis: int) -> None:
    def f(x: Any) -> Any:
        return x.sum(axis=axis), fnp.argmin(x, axis=axis), x / fnp.sqrt((x * x).sum(axis=axis, keepdims=True)), x[::-1]

    on_any_number(f, NARROW[n])
    on_any_number(lambda x: f(fnp.sin(x) * x), NARROW[n].astype(np.float32), rtol=1e-3)


def test_scattered_additions_are_not_cut() -> None:
    places = RNG.integers(0, 10, LONG.size)
    on_any_number(lambda x: fg.at(fnp.zeros(10))[places].add(x), LONG)
    on_any_number(fg.grad(lambda x: fnp.sum(x[places] ** 2)), LONG)


def test_an_index_out_of_bounds_is_noticed_by_any_thread() -> None:
    fg.set_num_threads(3)
    places = np.zeros(300_000, int)
    f = fg.jit(lambda x, i: fnp.exp(x[i]) + fnp.sin(x[i]))
    f(LONG, places)
    for k in (0, 123_456, 299_999):
        wrong = places.copy()
        wrong[k] = LONG.size
        with pytest.raises(IndexError, match="out of bounds"):
            f(LONG, wrong)
    f(LONG, places)


def test_short_loops_stay_where_they_are() -> None:
    assert not is_cut(fg.jit(lambda x: fnp.sin(x).sum()).lower(np.ones(100)).as_text("llvm"))


# ── rows of few elements


@pytest.mark.parametrize("dtype", ["f8", "f4", "i2"])
@pytest.mark.parametrize("rows", [1, 3, 8, 17, 64, 1000, 1003])
@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 8, 9, 10, 12, 16])
def test_rows_are_taken_apart_and_put_together(n: int, rows: int, dtype: str) -> None:
    x, y = (RNG.integers(-9, 9, (rows, n)).astype(dtype) for _ in range(2))

    def f(x: Any, y: Any) -> Any:
        total = (x * y).sum(axis=1)
        return total, x + total[:, None].astype(dtype), x[:, 1] - y[:, 0]

    for a, b in zip(fg.jit(f)(x, y), f(x, y), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rows", [5, 64, 1001])
def test_small_matrices_are_rows_of_rows(rows: int) -> None:
    m, x = RNG.integers(-9, 9, (rows, 3, 3)) * 1.0, RNG.integers(-9, 9, (rows, 3)) * 1.0
    f = lambda m, x: (
        fnp.einsum("nij,nj->ni", m, x),
        m + m.swapaxes(1, 2),
        fnp.einsum("ni,nj->nij", x, x),
        m[:, ::-1] * x[:, None],
        m[::-1] - 2 * m,
    )
    for a, b in zip(fg.jit(f)(m, x), f(m, x), strict=True):
        np.testing.assert_array_equal(a, b)


def test_rows_that_begin_within_rows() -> None:
    x = RNG.standard_normal((1000, 4))
    for f in (
        lambda x: x[:, 1:3] * 2,
        lambda x: x[:, ::2] + x[:, 1::2],
        lambda x: x[1:, 3] + x[:-1, 0],
        lambda x: fnp.stack([x[:, 0], x[:, 1] * 2, x[:, 2]], axis=1),
        lambda x: fnp.concatenate([x[:, :1], x], axis=1) * 2,
        lambda x: x.reshape(-1)[2:].reshape(-1, 2)[:, 0] + 1,
    ):
        np.testing.assert_array_equal(fg.jit(f)(x), f(x))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,), (2000, 0, 3)])
def test_nothing_is_cut_into_nothing(shape: tuple[int, ...]) -> None:
    x = np.zeros(shape)
    on_any_number(lambda x: (x + 1, x.sum(axis=-1), x.sum()), x)


# ── the pool


@POSIX
def test_threads_share_the_work() -> None:
    fg.set_num_threads(3)
    f = fg.jit(lambda x: fnp.exp(fnp.sin(x)) + 0.5)
    for _ in range(20):
        f(LONG)
    assert pool.started() >= 2


def test_several_callers_get_the_same() -> None:
    fg.set_num_threads(3)
    f = fg.jit(lambda x: (fnp.exp(x) * x, x.sum(), fnp.argmax(x)))
    expected = f(LONG)
    wrong: list[int] = []

    def call() -> None:
        for _ in range(10):
            for x, y in zip(f(LONG), expected, strict=True):
                if not np.array_equal(x, y):
                    wrong.append(1)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


@pytest.mark.parametrize("n", [0, -1, 2.0, "2", True, 10**9])
def test_a_number_of_threads_is_a_positive_integer(n: Any) -> None:
    with pytest.raises(fg.errors.ArgumentError, match="number of threads"):
        fg.set_num_threads(n)


def run(code: str, **environment: str) -> str:
    """The output of a program, which ends by itself."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_environment_says_how_many() -> None:
    code = "import funcgrad as fg; print(fg.get_num_threads())"
    assert run(code, FUNCGRAD_NUM_THREADS="5") == "5"
    assert run(code, FUNCGRAD_NUM_THREADS="", OMP_NUM_THREADS="1") == "1"
    code = """
        import funcgrad as fg
        try:
            fg.get_num_threads()
        except fg.errors.ArgumentError as error:
            print(error)
    """
    assert "FUNCGRAD_NUM_THREADS is 'many'" in run(code, FUNCGRAD_NUM_THREADS="many")


LOOP = """
    import numpy as np, os, sys, threading
    import funcgrad as fg, funcgrad.numpy as fnp
    fg.set_num_threads(3)
    x = np.linspace(0, 1, 300_000)
    f = fg.jit(lambda x: (fnp.exp(fnp.sin(x)) * x).sum())
    y = [f(x) for _ in range(3)][0]
"""
# From the third call on, a call is machine code only. In the first ones it goes through optree, whose C++ code ends the
# process if the interpreter ends a thread there.


@POSIX
def test_the_process_ends_while_threads_wait() -> None:
    assert run(LOOP + "    print('end')") == "end"
    run(LOOP + "    threading.Thread(target=lambda: [f(x) for _ in range(10**9)], daemon=True).start()")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_makes_threads_of_its_own() -> None:
    code = """
    import warnings
    from funcgrad.compiler.native.machine import pool
    warnings.simplefilter("ignore")
    for _ in range(3):
        child = os.fork()
        if not child:
            fresh = pool.started()
            same = all(f(x) == y for _ in range(50))
            os._exit(0 if same and not fresh and pool.started() == 2 else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert f(x) == y
    print("done")
    """
    assert run(LOOP + code) == "done"


# ── memory of results


def test_memory_of_large_results_is_used_again() -> None:
    fg.clear_caches()
    f = fg.jit(lambda x: x + 1)
    y = f(LONG)
    address = y.ctypes.data
    assert y.flags.owndata
    assert y.flags.writeable
    assert address % 64 == 0
    del y
    assert recycle.held() >= LONG.nbytes
    z = f(LONG)
    assert z.ctypes.data == address
    w = f(LONG)
    assert w.ctypes.data != address
    np.testing.assert_array_equal(z, w)


def test_recycled_memory_is_returned() -> None:
    fg.jit(lambda x: x + 1)(LONG)
    fg.clear_caches()
    assert recycle.held() == 0


def test_a_result_may_be_resized_and_outlive_its_function() -> None:
    y = fg.jit(lambda x: x + 1)(LONG)
    expected = LONG + 1
    fg.clear_caches()
    y.resize(LONG.size * 3, refcheck=False)
    np.testing.assert_array_equal(y[: LONG.size], expected)
    np.testing.assert_array_equal(y[LONG.size :], 0)
    y.resize(1000, refcheck=False)
    np.testing.assert_array_equal(y, expected[:1000])


def test_kept_memory_has_a_limit() -> None:
    for n in range(1, 60):
        fg.jit(lambda x: x + 1)(np.zeros(n * 100_000))
    assert 0 < recycle.held() <= 256 << 20


@pytest.mark.parametrize("shift", [0, 1])
def test_results_larger_than_the_cache_are_written_past_it(shift: int) -> None:
    x = RNG.standard_normal(1_200_000 * 2)
    y = np.empty(x.size + 16)
    f = lambda x: fnp.where(x > 0, x, -2 * x)
    assert "nontemporal" in fg.jit(f).lower(x).as_text("llvm")
    on_any_number(f, x)
    on_any_number(lambda x: (x[shift:], x[::-1] * 2, x * 3), x)
    del y


# ── blocks of matrices


@pytest.mark.parametrize("dtype", ["f8", "f4", "i1", "i8"])
@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (15, 33), (32, 64), (40, 41), (129, 70), (300, 301)])
def test_rows_are_read_along_columns_in_blocks(shape: tuple[int, int], dtype: str) -> None:
    n, m = shape
    x, y = RNG.integers(-9, 9, (n, m)).astype(dtype), RNG.integers(-9, 9, (m, n)).astype(dtype)
    for f in (
        lambda x, y: x + y.T,
        lambda x, y: (y.T * 2, x - 1),
        lambda x, y: (x + y.T) * (x - y.T),
        lambda x, y: y[::-1].T - x[:, ::-1],
        lambda x, y: y.T[1:] + x[:-1],
    ):
        expected = fg.tree.leaves(f(x, y))
        for got, wanted in zip(fg.tree.leaves(fg.jit(f)(x, y)), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("axes", [(2, 1, 0), (0, 2, 1), (1, 0, 2), (2, 0, 1), (1, 2, 0)])
def test_three_axes_in_any_order(axes: tuple[int, ...]) -> None:
    z = RNG.standard_normal((33, 40, 50))
    on_any_number(lambda z: (z.transpose(axes) + 1, z[::-1].transpose(axes)[1:] * 2, fnp.exp(z).transpose(axes) * 2), z)
