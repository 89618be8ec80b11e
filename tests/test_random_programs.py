"""Random functions: machine code computes what NumPy does, values and derivatives, wherever the arguments lie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import funcgrad as fg
from tests import forms
from tests.random_functions import RandomFunction, functions, whole_numbers

Array = Any
# around the numbers of lanes of a vector, and of several
SIDES = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 9, 15, 17, 33])


def examples(n: int) -> settings:
    """So many programs, however long one takes."""
    return settings(max_examples=n, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@st.composite
def arguments(draw: st.DrawFn, whole: bool) -> list[Array]:
    """A matrix, a vector and a number, in any layout."""
    m, n = draw(SIDES), draw(SIDES)
    dtypes = ["f8", "f4", "i8", "i4", "i1", "?", "f2", "u1"] if whole else [draw(st.sampled_from(["f8", "f8", "f4"]))]
    shapes: list[tuple[int, ...]] = [(), (n,), (m, n)]
    if draw(st.booleans()):
        shapes.append((2, n, m) if m * n < 200 else (0, n))
    seed = draw(st.integers(0, 1000))
    out = []
    for i, shape in enumerate(shapes):
        dtype = draw(st.sampled_from(dtypes))
        x = whole_numbers(seed + i, dtype, shape)
        if not whole:
            x = np.asarray(np.random.default_rng([seed, i]).standard_normal(shape)).astype(dtype)
        out.append(draw(forms.laid_out(x)))
    return out


def agree(got: Any, expected: Any, rtol: float) -> None:
    """Exactly, or to this many digits of the largest element."""
    for x, y in zip(fg.tree.leaves(got), fg.tree.leaves(expected), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert (x.shape, x.dtype.newbyteorder("=")) == (y.shape, y.dtype.newbyteorder("="))
        if rtol == 0 or y.dtype.kind not in "f":
            np.testing.assert_array_equal(x, y)
            continue
        digits = max(rtol, 1e4 * float(np.finfo(y.dtype).eps))
        scale = np.max(np.abs(y), initial=0, where=np.isfinite(y))
        np.testing.assert_allclose(x, y, rtol=digits, atol=digits * (1 + scale), equal_nan=True)


def compare(f: Callable[..., Any], g: Callable[..., Any], args: list[Array], rtol: float) -> None:
    """What two functions make of the arguments, which neither of them changes."""
    before = [np.copy(x) for x in args]
    # of what is computed in single precision at some place
    if rtol and any(x.dtype.itemsize == 4 and x.dtype.kind == "f" for x in args):
        rtol = 2e-3
    with np.errstate(all="ignore"):
        agree(f(*args), g(*args), rtol)
    for x, y in zip(args, before, strict=True):
        np.testing.assert_array_equal(x, y)


def gradient_of(f: Callable[..., Any], args: list[Array]) -> Callable[..., Any] | None:
    """The gradient by those arguments that are floats; None if there are none."""
    places = tuple(i for i, x in enumerate(args) if x.dtype.kind == "f")
    return fg.grad(f, places) if places else None


@examples(80)
@given(f=functions(whole=True), args=arguments(whole=True))
def test_a_function_of_whole_numbers_is_computed_exactly(f: RandomFunction, args: list[Array]) -> None:
    compare(fg.jit(f), f, args, 0)


@examples(50)
@given(f=functions(whole=False), args=arguments(whole=False))
def test_a_smooth_function_is_computed_but_for_rounding(f: RandomFunction, args: list[Array]) -> None:
    compare(fg.jit(f), f, args, 1e-9)


@examples(40)
@given(f=functions(whole=False, steps=6), args=arguments(whole=False))
def test_so_is_its_gradient(f: RandomFunction, args: list[Array]) -> None:
    gradient = gradient_of(f.loss, args)
    assert gradient is not None
    compare(fg.jit(gradient), gradient, args, 1e-8)
    compound = gradient_of(fg.jit(f.loss), args)
    assert compound is not None
    compare(compound, gradient, args, 1e-8)


@examples(40)
@given(f=functions(whole=True, steps=6), args=arguments(whole=True))
def test_the_gradient_of_a_function_of_whole_numbers_is_the_same(f: RandomFunction, args: list[Array]) -> None:
    gradient = gradient_of(f.loss, args)
    if gradient is not None:
        compare(fg.jit(gradient), gradient, args, 1e-9)
