"""With FUNCGRAD_CHECK=1, results of machine code are compared with NumPy's: mistakes are found, rounding is excused."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.compiler import checked as module
from funcgrad.compiler.checked import Checked
from funcgrad.compiler.native import compile as native
from funcgrad.core import config

X = np.array([1.0, 2.0, -3.0])


def compared(f: Any, args: Any, *ys: Any) -> Any:
    """The outcome for a program that computes `ys` where it should compute f."""
    return Checked(fg.make_jaxpr(f)(*args), lambda *xs: tuple(ys), frozenset())(*args)


@pytest.mark.parametrize("error", [1e-12, -1.0, np.nan, np.inf])
def test_a_wrong_number_is_found(error: float) -> None:
    y = np.sin(X) * X
    assert compared(lambda x: np.sin(x) * x, [X], y)[0] is y
    wrong = y.copy()
    wrong[1] += error
    with pytest.raises(fg.errors.InternalError, match=r"output 0 of 1 .* at \[1\], but NumPy gives .*1 of 3(?s:.)*sin"):
        compared(lambda x: np.sin(x) * x, [X], wrong)


def test_the_output_is_named() -> None:
    with pytest.raises(fg.errors.InternalError, match="output 1 of 2"):
        compared(lambda x: (x + 1, x + 2), [X], X + 1, X + 3)


@pytest.mark.parametrize("f", [lambda n: n + 1, lambda n: n > 1], ids=["integers", "truth"])
def test_integers_and_truth_values_are_compared_exactly(f: Any) -> None:
    n = np.array([1, 2, 3])
    y = f(n)
    wrong = y.copy()
    wrong[0] = 1 - wrong[0]
    compared(f, [n], y)
    with pytest.raises(fg.errors.InternalError):
        compared(f, [n], wrong)


def test_other_types_are_found() -> None:
    for wrong in ((X + 1).astype(np.float32), (X + 1)[:2], (X + 1)[None]):
        with pytest.raises(fg.errors.InternalError, match=r"is float.*but NumPy gives float64\[3\]"):
            compared(lambda x: x + 1, [X], wrong)


def test_rounding_is_excused_where_it_matters_much() -> None:
    x = np.random.default_rng(0).normal(size=1000)

    def cancels(x: Any) -> Any:
        return fnp.sum(x * 1e8) - fnp.sum(x[::-1] * 1e8)

    compared(cancels, [x], np.float64(1e-6))
    with pytest.raises(fg.errors.InternalError):
        compared(cancels, [x], np.float64(1e-1))

    def jumps(x: Any) -> Any:
        return fnp.floor(fnp.sum(x / fnp.sum(x)) * 7.0)

    compared(jumps, [x], np.float64(6.0))
    compared(jumps, [x], np.float64(7.0))
    with pytest.raises(fg.errors.InternalError):
        compared(jumps, [x], np.float64(1000.0))


def test_the_largest_numbers_may_change_as_much_as_they_like() -> None:
    # the sine of such a number is anything, and a margin on top of that is infinite
    compared(lambda x: np.sin(x) * 1.7e308, [np.array([1e300, 1e301])], np.array([0.0, 1.0]))


def test_an_argument_that_is_overwritten_is_compared_with_what_it_was() -> None:
    def run(x: Any) -> tuple[Any, ...]:
        x += 1
        return (x,)

    x = X.copy()
    (y,) = Checked(fg.make_jaxpr(lambda x: x + 1)(x), run, frozenset({0}))(x)
    assert y is x


def test_the_error_is_that_of_the_program() -> None:
    def run(*args: Any) -> tuple[Any, ...]:
        raise KeyError("from the program")

    with pytest.raises(KeyError, match="from the program"):
        Checked(fg.make_jaxpr(lambda x, i: x[i])(X, 1), run, frozenset())(X, 7)


@pytest.mark.parametrize(("first", "times"), [(False, 3), (True, 1)])
def test_compiled_functions_are_compared(monkeypatch: pytest.MonkeyPatch, first: bool, times: int) -> None:
    seen: list[str] = []
    evaluate = module.evaluate_with

    def compare(noise: Any, jaxpr: Any, args: Any) -> Any:
        seen.append(repr(jaxpr))
        return evaluate(noise, jaxpr, args)

    monkeypatch.setattr(module, "evaluate_with", compare)
    monkeypatch.setattr(config, "CHECK", True)
    monkeypatch.setattr(config, "CHECK_FIRST", first)
    # a program of its own for each case
    f = fg.jit(lambda x: np.sin(x) * times)
    for _ in range(3):
        np.testing.assert_allclose(f(X), np.sin(X) * times)
    assert len(seen) == times and "sin" in seen[0]


def test_a_wrong_compiler_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "CHECK", True)
    make = native.runtime.bind
    monkeypatch.setattr(native.runtime, "bind", lambda *a: lambda *xs: tuple(y + 1e-9 for y in make(*a)(*xs)))
    with pytest.raises(fg.errors.InternalError, match="but NumPy gives"):
        fg.jit(lambda x: np.sin(x) * 2)(X)


def test_it_is_switched_on_by_the_environment() -> None:
    code = (
        "import funcgrad as fg, numpy as np; f = fg.jit(np.sin); [f(np.ones(3)) for _ in range(4)]; "
        "print(f._cache.gates.clock[0])"
    )
    counts = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "FUNCGRAD_CHECK": on},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for on in ("1", "0")
    ]
    assert counts[0] == "0" and int(counts[1]) > 0


def test_nothing_is_compared_while_numpy_computes_for_a_comparison() -> None:
    assert module.reference() is None
    inner = fg.jit(lambda x: np.sin(x) + 1)
    compared(lambda x: inner(x) * 2, [X], (np.sin(X) + 1) * 2)
    assert module.reference() is None
