"""How much memory a program works with, besides its arguments and results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.compiler.native import runtime
from funcgrad.compiler.native.compile import with_segments
from funcgrad.compiler.native.memory import plan_memory
from funcgrad.compiler.simplify import simplify
from funcgrad.core.ir import Jaxpr

pytestmark = pytest.mark.skipif(not runtime.available(), reason="no LLVM here")
X = np.random.default_rng(0).standard_normal((40, 50))


def arena(f: Callable[..., Any], *args: Any) -> int:
    """The bytes that the one segment of a function works with, if no step needs any for itself."""
    staged = fg.make_jaxpr(f)(*args)
    _, (native,) = with_segments(simplify(Jaxpr(staged.inputs, (), staged.equations, staged.outputs)))
    return plan_memory(native.jaxpr.inputs, native.schedule, {}).total


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


def test_a_column_of_softmaxes_is_right_over_any_axis() -> None:
    for axis in (0, 1, (0, 1)):
        f = lambda x, axis=axis: (lambda e: e / fnp.sum(e, axis=axis, keepdims=True))(np.exp(x - 1))
        np.testing.assert_allclose(fg.jit(f)(X), f(X), rtol=1e-12)
