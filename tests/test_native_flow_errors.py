"""Machine code that meets an error comes to its end, whatever the numbers are that it goes on with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from funcgrad import lax

Array = Any


def approached(x: Array, start: Array) -> Array:
    """A loop that does not end for x = 0."""
    return lax.while_loop(lambda c: c.sum() < 10, lambda c: c + x, start)


def counted(x: Array, start: Array) -> Array:
    """A number of steps that is known when the program runs."""
    return lax.fori_loop(0, (1 / x).astype(int), lambda i, c: c + x, start)


def differentiated(x: Array, start: Array) -> Array:
    """What a loop of unknown length saves."""
    return fg.grad(lambda y: lax.while_loop(lambda c: c.sum() < 10, lambda c: c * y + x, start).sum())(x)


def in_a_loop(x: Array, start: Array) -> Array:
    return lax.fori_loop(0, 3, lambda i, c: approached(x, 0 * c), start)


@pytest.mark.parametrize("size", [1, 50])
@pytest.mark.parametrize("loop", [approached, counted, differentiated, in_a_loop])
def test_a_loop_ends_that_depends_on_an_element_that_is_not_there(loop: Callable[..., Array], size: int) -> None:
    f = fg.jit(lambda values, i: loop(values[i], np.zeros(size)))
    values = np.array([0.0, 1.0, 2.0])
    with pytest.raises(IndexError, match="index 3 is out of bounds"):
        f(values, 3)
    np.testing.assert_allclose(f(values, 1), loop(values[1], np.zeros(size)))


def test_a_loop_ends_that_depends_on_a_branch_that_is_not_there() -> None:
    branches = [lambda: np.zeros(50), lambda: np.ones(50)]
    f = fg.jit(lambda number: approached(lax.switch(number, branches), np.zeros(50)))
    with pytest.raises(IndexError):
        f(2)
    np.testing.assert_array_equal(f(1), np.ones(50))
