"""Random matrices for the tests of linear algebra, and how a function of them is held to NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import funcgrad as fg
from funcgrad.testing import check_grads

random = np.random.default_rng(0)
_START = random.bit_generator.state


def start_again() -> None:
    """The same numbers from here on, whatever ran before."""
    random.bit_generator.state = _START


def normal(*shape: int) -> np.ndarray:
    return random.standard_normal(shape)


def regular(*shape: int) -> np.ndarray:
    """Matrices that are far from singular."""
    return normal(*shape) / 2 + 3 * np.eye(shape[-1])


def complex_normal(*shape: int) -> np.ndarray:
    return normal(*shape) + 1j * normal(*shape)


def agrees(f: Callable[..., Any], reference: Callable[..., Any], *xs: Any, order: int = 2) -> None:
    """The traced value is NumPy's in shape, dtype and value; derivatives match central differences."""
    y, expected = fg.vjp(f, *xs)[0], reference(*xs)
    assert np.shape(y) == np.shape(expected)
    assert y.dtype == expected.dtype
    assert fg.eval_shape(f, *xs) == fg.ShapeDtypeStruct(expected.shape, expected.dtype)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    check_grads(f, xs, order=order)
