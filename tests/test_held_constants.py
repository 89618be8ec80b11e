"""Arrays that the backward pass will read cannot change under it, and are given back as they were."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from funcgrad.core.errors import HeldArrayError
from funcgrad.transforms.tracing import hold

ONES = np.ones(3)


@pytest.fixture(autouse=True)
def nothing_stays_held() -> Any:
    yield
    assert hold._held == {}


def test_a_constant_that_a_rule_reads_cannot_be_written_to_inside_the_function() -> None:
    buffer = np.arange(3.0)

    def f(x: Any) -> Any:
        y = (x * buffer).sum()
        buffer[:] = 7.0
        return y

    with pytest.raises(HeldArrayError, match=r"grad\(f\).* needs(.|\n)*buffer\[:\] = 7.0(.|\n)*Fix: .*copy\(\)"):
        fg.grad(f)(ONES)
    assert buffer.flags.writeable
    np.testing.assert_array_equal(buffer, np.arange(3.0))


def test_the_base_of_a_constant_is_held_too() -> None:
    base = np.arange(6.0)

    def f(x: Any) -> Any:
        y = (x * base[:3]).sum()
        base[0] = 7.0
        return y

    with pytest.raises(HeldArrayError):
        fg.grad(f)(ONES)
    assert base.flags.writeable


def test_the_base_of_a_read_only_view_is_held_too() -> None:
    base = np.arange(3.0)

    def f(x: Any) -> Any:
        y = (x * np.broadcast_to(base, (2, 3))).sum()
        base[0] = 7.0
        return y

    with pytest.raises(HeldArrayError):
        fg.grad(f)(ONES)
    assert base.flags.writeable


def test_an_outer_tape_goes_on_holding_what_an_inner_one_lets_go() -> None:
    buffer = np.arange(3.0)

    def f(x: Any) -> Any:
        g = fg.grad(lambda y: x * (y * buffer).sum())(ONES)
        buffer[:] = 100.0
        return g.sum()

    with pytest.raises(HeldArrayError):
        fg.grad(f)(2.0)
    assert buffer.flags.writeable


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


@pytest.mark.parametrize("view", [lambda base: base[:3], lambda base: np.broadcast_to(base[:3], (3,))])
def test_a_constant_may_change_between_vjp_and_its_pullback(view: Any) -> None:
    base = np.arange(6.0)
    _, pullback = fg.vjp(lambda x: x * view(base), ONES)
    base[:] = 9.0
    np.testing.assert_array_equal(pullback(ONES)[0], [0.0, 1.0, 2.0])


def test_what_stop_gradient_returns_cannot_be_written_into_the_tape() -> None:
    def f(x: Any) -> Any:
        y = 2 * x
        fg.stop_gradient(y)[0] = 100.0
        return (y * y).sum()

    with pytest.raises(ValueError, match="read-only"):
        fg.grad(f)(ONES)


def test_threads_that_hold_views_of_one_array_give_it_back_together() -> None:
    base = np.arange(6.0)
    views = base[:3], base[3:]
    together = threading.Barrier(2)

    def work(view: Any) -> None:
        def f(x: Any) -> Any:
            y = (x * view).sum()
            together.wait()
            return y

        for _ in range(50):
            np.testing.assert_array_equal(fg.grad(f)(ONES), view)

    threads = [threading.Thread(target=work, args=(view,)) for view in views]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert base.flags.writeable
    assert all(view.flags.writeable for view in views)
