"""Transcendental functions are compiled once, for all programs together."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from funcgrad.compiler.native.dispatch import runtime
from funcgrad.compiler.native.machine import llvm
from funcgrad.compiler.native.scalars import shared
from funcgrad.compiler.native.vectormath import FUNCTIONS

pytestmark = pytest.mark.skipif(not runtime.available(), reason="no LLVM here")
X = np.linspace(0.1, 2.0, 37)


def llvm_text(f: Callable[..., Any], *args: Any) -> str:
    return fg.jit(f).lower(*args).as_text("llvm")


def test_a_program_calls_a_function_and_has_no_copy_of_it() -> None:
    text = llvm_text(lambda x: np.sin(np.sin(np.sin(x))), X)
    assert len(text.splitlines()) < 60
    assert "fma" not in text


def test_programs_call_the_same_function() -> None:
    first, second = (shared.addresses(llvm_text(f, X)) for f in (np.sin, lambda x: np.sin(x) + np.cos(x)))
    assert len(second) == 2 * len(first) > 0
    assert first.items() <= second.items()


def test_a_function_that_is_known_is_not_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llvm.config, "CACHE", False)
    compiled: list[str] = []
    compile_text = llvm.compile_text

    def counted(text: str, level: int = 2) -> bytes:
        compiled.append(text)
        return compile_text(text, level)

    fg.jit(np.tanh)(X)
    monkeypatch.setattr(llvm, "compile_text", counted)
    fg.jit(lambda x: 1 - np.tanh(2 * x))(X)
    assert len(compiled) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 8, 16, 33])
def test_the_number_of_lanes_does_not_change_a_result(n: int, dtype: Any) -> None:
    x = np.linspace(0.1, 2.0, 33).astype(dtype)
    f = fg.jit(lambda x: (np.sin(x), np.tanh(x), np.log1p(x), np.exp(x), np.logaddexp(x, 1 - x)))
    for part, whole in zip(f(x[:n]), f(x), strict=True):
        np.testing.assert_array_equal(part, whole[:n])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_a_module_of_its_own(name: str) -> None:
    operands = len(inspect.signature(FUNCTIONS[name]).parameters) - 1
    for suffix in ("f64", "f32", "v2f64", "v8f32"):
        symbol = f"fg.{name}.{suffix}"
        assert llvm.load_text(shared.text_of(symbol, operands), symbol).address
