"""Programs that NumPy runs in parts: few segments of machine code, and no copies between them and the calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.compiler.engine import Executable
from funcgrad.compiler.native.dispatch import runtime
from funcgrad.core.ir import evaluate

pytestmark = pytest.mark.skipif(not runtime.available(), reason="no LLVM here")
A = np.random.default_rng(0).standard_normal((6, 6)) + 6 * np.eye(6)
B = np.arange(6.0)


def lines(f: Callable[..., Any], *args: Any) -> list[str]:
    """What the jitted function does, one call in each line; it gives what the function gives."""
    jitted = fg.jit(f)
    for x, y in zip(fg.tree.leaves(jitted(*args)), fg.tree.leaves(f(*args)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-10)
    text = jitted.lower(*args).compile().as_text().splitlines()
    return [line.strip().partition("  # ")[2].partition("[")[0] for line in text[1:-1]]


def test_a_view_of_an_argument_goes_to_a_call_as_it_is() -> None:
    assert lines(lambda a, b: fnp.linalg.solve(a.T, b[::-1]), A, B).count("native") == 0
    assert lines(lambda a: fnp.linalg.inv(a.T[1:, 1:]), A) == ["transpose", "getitem", "inv"]


def test_a_view_of_what_a_segment_makes_is_made_outside() -> None:
    assert lines(lambda a: fnp.linalg.inv((a * 2).T), A) == ["native", "transpose", "inv"]
    # a part of it is less to hand over than all
    assert lines(lambda a: fnp.linalg.inv((a * 2)[:2, :2]), A) == ["native", "inv"]


def test_a_segment_makes_a_view_again_that_it_reads() -> None:
    f = lambda a: (fnp.linalg.inv(a.T), a.T + 1, fnp.linalg.inv(a.T) @ (a.T * 2))
    assert lines(f, A).count("native") == 2
    assert lines(lambda a: fnp.linalg.inv(a.T) + a.T, A) == ["transpose", "inv", "native"]


def test_what_arguments_alone_make_waits_for_its_reader() -> None:
    assert lines(lambda a, b: fnp.linalg.inv(a) @ np.exp(b), A, B) == ["inv", "native"]
    assert lines(lambda a, b: (fnp.linalg.inv(a) @ np.exp(b), np.exp(b)), A, B).count("native") <= 2
    logdet = fg.grad(lambda a: fnp.linalg.slogdet(a)[1])
    assert lines(logdet, A).count("native") == 1


def test_a_result_that_is_a_view_belongs_to_the_caller() -> None:
    jitted = fg.jit(lambda a: (a.T, fnp.linalg.inv(a.T), fnp.linalg.inv(a).T))
    views = jitted(A)
    for y in views:
        assert y.flags.owndata or y.base is not A
        assert not np.shares_memory(y, A)
        y[:] = 0
    np.testing.assert_allclose(jitted(A)[1], np.linalg.inv(A.T))


def test_a_long_chain_of_views_is_made_again() -> None:
    def f(x: Any) -> Any:
        y = x
        for _ in range(600):
            y = y.T[::-1]
        return fnp.linalg.inv(y) + y

    assert lines(f, A)[-2:] == ["inv", "native"]


STEPS: dict[str, Callable[[Any, Any], Any]] = {
    "transpose": lambda x, y: x.T,
    "reshape": lambda x, y: x.reshape(x.shape[::-1]),
    "flip": lambda x, y: x[::-1],
    "halve": lambda x, y: fnp.concatenate([x[: len(x) // 2]] * 2),
    "add": lambda x, y: x + y.reshape(x.shape),
    "negate": lambda x, y: -x,
    "shift": lambda x, y: x - x[:1],
    # short enough to be left to NumPy
    "sort": lambda x, y: fnp.sort(x, 0),
    "order": lambda x, y: fnp.argsort(y, 1, stable=True).reshape(x.shape) * 1.0,
    "find": lambda x, y: fnp.searchsorted(fnp.sort(x[0]), y).reshape(x.shape) + 0.5,
}


@settings(max_examples=100)
@given(steps=st.lists(st.tuples(st.sampled_from(list(STEPS)), st.integers(0, 9), st.integers(0, 9)), max_size=14))
def test_any_mixture_of_calls_and_views_computes_what_evaluation_does(steps: list[tuple[str, int, int]]) -> None:
    def f(x: Any, y: Any) -> Any:
        made = [x, y]
        for name, i, j in steps:
            made.append(STEPS[name](made[i % len(made)], made[j % len(made)]))
        return made[2:][-4:]

    args = [np.random.default_rng(1).integers(-9, 9, (4, 6)) * 1.0, np.random.default_rng(2).random((4, 6))]
    jaxpr = fg.make_jaxpr(f)(*args)
    before = [np.copy(x) for x in args]
    compiled = Executable(jaxpr)
    for _ in range(2):
        for y, expected in zip(compiled(*args), evaluate(jaxpr, args), strict=True):
            np.testing.assert_array_equal(y, expected)
            y[:] = np.nan
    for x, kept in zip(args, before, strict=True):
        np.testing.assert_array_equal(x, kept)
