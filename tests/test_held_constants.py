"""Arrays that the backward pass will read cannot change under it, and are given back as they were."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import funcgrad as fg

ONES = np.ones(3)


def test_a_constant_that_a_rule_reads_cannot_be_written_to_inside_the_function() -> None:
    buffer = np.arange(3.0)

    def f(x: Any) -> Any:
        y = (x * buffer).sum()
        buffer[:] = 7.0
        return y

    with pytest.raises(ValueError, match="read-only"):
        fg.grad(f)(ONES)
    assert buffer.flags.writeable
    np.testing.assert_array_equal(buffer, np.arange(3.0))


def test_the_base_of_a_constant_is_held_too() -> None:
    base = np.arange(6.0)

    def f(x: Any) -> Any:
        y = (x * base[:3]).sum()
        base[0] = 7.0
        return y

    with pytest.raises(ValueError, match="read-only"):
        fg.grad(f)(ONES)
    assert base.flags.writeable


def test_a_constant_that_no_rule_reads_may_change() -> None:
    buffer = np.arange(3.0)

    def f(x: Any) -> Any:
        y = (x + buffer).sum()
        buffer[:] = 7.0
        return y

    np.testing.assert_array_equal(fg.grad(f)(ONES), ONES)


def test_a_constant_is_writeable_again_after_a_nested_gradient() -> None:
    buffer = np.arange(3.0)
    inner = fg.grad(lambda x: (x**3 * buffer).sum())
    fg.grad(lambda x: (inner(x) * buffer).sum())(ONES)
    assert buffer.flags.writeable


def test_a_read_only_constant_stays_read_only() -> None:
    constant = np.arange(3.0)
    constant.flags.writeable = False
    np.testing.assert_array_equal(fg.grad(lambda x: (x * constant).sum())(ONES), constant)
    assert not constant.flags.writeable


def test_a_constant_may_change_between_vjp_and_its_pullback() -> None:
    base = np.arange(6.0)
    _, pullback = fg.vjp(lambda x: x * base[:3], ONES)
    base[:] = 9.0
    np.testing.assert_array_equal(pullback(ONES)[0], [0.0, 1.0, 2.0])


def test_what_stop_gradient_returns_cannot_be_written_into_the_tape() -> None:
    def f(x: Any) -> Any:
        y = 2 * x
        fg.stop_gradient(y)[0] = 100.0
        return (y * y).sum()

    with pytest.raises(ValueError, match="read-only"):
        fg.grad(f)(ONES)
