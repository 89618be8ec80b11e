"""The work of a first call grows with the number of equations, and no faster."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from funcgrad.compiler.native.dispatch import runtime

pytestmark = pytest.mark.skipif(not runtime.available(), reason="no LLVM here")
X = np.linspace(0.1, 0.9, 16)
W = np.eye(16)


def steps(n: int) -> Callable[..., Any]:
    def f(x: Any) -> Any:
        for _ in range(n):
            x = x + 0.001 * np.sin(x)
        return np.sum(x)

    return f


def layers(n: int) -> Callable[..., Any]:
    def f(x: Any) -> Any:
        for _ in range(n):
            x = np.tanh(W @ x) + x
        return np.sum(x)

    return f


def ratios(n: int) -> Callable[..., Any]:
    def f(x: Any) -> Any:
        for _ in range(n):
            x = np.exp(x - np.max(x)) / np.sum(x)
        return np.sum(x)

    return f


# with how many of its steps a program is long: its nests are cut
PROGRAMS: dict[str, tuple[Callable[[int], Callable[..., Any]], int]] = {
    "steps": (steps, 100),
    "gradient of steps": (lambda n: fg.grad(steps(n)), 100),
    "gradient of layers": (lambda n: fg.grad(layers(n)), 20),
    "gradient of ratios": (lambda n: fg.grad(ratios(n)), 20),
}


def instructions(f: Callable[..., Any]) -> int:
    return fg.jit(f).lower(X).as_text("llvm").count("\n")


def calls(f: Callable[..., Any]) -> int:
    """How many functions Python calls for a first call."""
    count = 0

    def counted(frame: Any, event: str, arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        fg.jit(f).lower(X).compile()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("name", PROGRAMS)
def test_code_grows_with_the_number_of_equations(name: str) -> None:
    program, n = PROGRAMS[name]
    small, large = instructions(program(n)), instructions(program(3 * n))
    assert large < 3.2 * small


def test_a_long_program_has_few_instructions_for_each_equation() -> None:
    f = fg.jit(steps(1000)).lower(X)
    # a product, a sum and the call of a sine, for two vectors each
    assert f.as_text("llvm").count("\n") < 3 * len(f.jaxpr.equations)


@pytest.mark.parametrize("name", PROGRAMS)
def test_python_works_as_long_as_there_are_equations(name: str) -> None:
    program, n = PROGRAMS[name]
    calls(program(n))
    first, second, third = (calls(program(m * n)) for m in (1, 2, 4))
    assert third - second < 2.3 * (second - first)


def test_the_loops_of_equal_layers_are_written_once() -> None:
    text = fg.jit(fg.grad(layers(30))).lower(X).as_text("llvm")
    assert 1 <= len(re.findall(r"= call .* @fg\.tanh", text)) < 10
    assert len(re.findall("call void @kernel", text)) > 30


def test_loops_that_differ_in_a_number_are_not_taken_for_equal() -> None:
    def f(x: Any) -> Any:
        for a in (0.0, -0.0, 1.0, 2.0, 0.0, -0.0):
            x = x[::-1] * 2.0 + np.tanh(W @ np.copysign(x, a) + a) * a
        return x

    x = np.concatenate([-X[:8], X[8:]])
    np.testing.assert_allclose(fg.jit(f)(x), f(x), rtol=1e-13)
