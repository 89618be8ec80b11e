"""Compiled functions of several operations: whatever the dtype, the shape and the memory of an argument, the result is
that of the function, and belongs to the caller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import lax
from tests import forms

Array = Any


def called(f: Callable[..., Any], *args: Any) -> tuple[list[Any], list[Any]]:
    """What the compiled function and the function itself return, after it was seen that no argument changes."""
    before = [np.copy(x) for x in args]
    compiled = fg.jit(f)
    with np.errstate(all="ignore"):
        got, again, expected = (fg.tree.leaves(g(*args)) for g in (compiled, compiled, f))
    for x, y in zip(args, before, strict=True):
        np.testing.assert_array_equal(x, y)
    for a, b, c in zip(got, again, expected, strict=True):
        forms.assert_same_form(a, c)
        np.testing.assert_array_equal(a, b)
        for x in (*args, *again):
            assert not np.shares_memory(a, x)
    return got, expected


# ── in every dtype, layout and shape


def moved(x: Array, y: Array) -> Any:
    """Nothing is computed: elements are repeated, cut out, reversed and joined."""
    flat = fnp.ravel(x)
    both = fnp.concatenate([flat, fnp.ravel(y)[::-2], flat[1:3]])
    return x[::-1], fnp.transpose(x), fnp.broadcast_to(x, (2, *x.shape)), both, y[..., None], x[::2], x[..., ::-1]


def computed(x: Array, y: Array) -> Any:
    """One step of rounding at the most: each result is exact."""
    z = fnp.where(x == y, x, y)
    return z, fnp.maximum(x, y) + 0, x * y, (x != 0) & (y != 0), fnp.transpose(x + y) * 2, (x + y)[..., None], x[:1] * y


def folded(x: Array, y: Array) -> Any:
    """Over some of the axes, and what follows runs over them again."""
    m = x.max(axis=-1, keepdims=True)
    return m, fnp.where(x == m, y, x), x.min(axis=0), (x != y).any(axis=0), fnp.argmax(x, axis=-1), fnp.argmin(x)


@pytest.mark.parametrize("f", [moved, computed, folded])
@settings(max_examples=60)
@given(data=st.data(), shape=forms.shapes(min_dims=1, max_dims=3))
def test_a_function_does_not_depend_on_how_its_arguments_lie_in_memory(f: Any, data: st.DataObject, shape: Any) -> None:
    dtype = data.draw(st.sampled_from(forms.DTYPES if f is moved else forms.REAL))
    if f is folded:
        shape = tuple(max(n, 1) for n in shape)
    x, y = (data.draw(forms.arrays(dtype, shape)) for _ in range(2))
    for a, b in zip(*called(f, x, y), strict=True):
        forms.assert_equal(a, b, signs=f is moved)


@settings(max_examples=60)
@given(data=st.data(), shape=forms.shapes(min_dims=1, max_dims=3, empty=False))
def test_a_sum_is_as_exact_in_every_layout(data: st.DataObject, shape: Any) -> None:
    dtype = data.draw(st.sampled_from(forms.REAL))
    x = data.draw(forms.arrays(dtype, shape, bound=100.0))
    axis = data.draw(st.none() | st.integers(0, len(shape) - 1))

    def f(x: Array) -> Any:
        return x.sum(axis=axis), (x * x).sum(axis=axis), fnp.cumsum(x, axis=-1)

    plain = np.where(np.isfinite(x), x, 0).astype(float)
    scales = [abs(plain).sum(axis=axis), (plain**2).sum(axis=axis), np.cumsum(abs(plain), axis=-1)]
    for a, b, scale in zip(*called(f, x), scales, strict=True):
        forms.assert_rounded(a, b, x.size, scale)


@settings(max_examples=60)
@given(data=st.data())
def test_a_product_of_matrices_may_lie_in_memory_as_it_likes(data: st.DataObject) -> None:
    lengths = st.sampled_from([0, 1, 2, 5, 16, 17, 33])
    m, k, n = (data.draw(lengths) for _ in range(3))
    stack = data.draw(st.sampled_from([(), (), (3,), (2, 1)]))
    dtype = data.draw(st.sampled_from([*forms.FLOATS, *forms.INTEGERS, "c8"]))
    x, y = (data.draw(forms.arrays(dtype, shape, bound=100.0)) for shape in ((*stack, m, k), (k, n)))
    x, y = (np.where(np.isfinite(z), z, 1).astype(z.dtype) if np.dtype(dtype).kind in "fc" else z for z in (x, y))

    def f(x: Array, y: Array) -> Any:
        return x @ y, fnp.swapaxes(x @ y, -1, -2) + x[..., :1, 0][..., None] if m and k else x

    wide = [np.abs(z).astype(float) for z in (x, y)]
    scale = wide[0] @ wide[1]
    got, expected = called(f, x, y)
    forms.assert_rounded(got[0], expected[0], k, scale)


# ── what is special about some forms


def swapped(x: Array) -> Array:
    return x.astype(x.dtype.newbyteorder("S"))


CONTROL: dict[str, Callable[[Array], Any]] = {
    "scan": lambda x: lax.scan(lambda c, row: (c * row + 1, c.sum()), x[0], x),
    "while": lambda x: lax.while_loop(lambda c: c.sum() < 50, lambda c: c[::-1] + 1, x),
    "cond": lambda x: lax.cond(x[0, 0] < 1, lambda y: y * 2, lambda y: y, x),
    "call": lambda x: fg.jit(lambda y: (y, y.sum(), y.T))(x),
}


@pytest.mark.parametrize("name", CONTROL)
def test_swapped_bytes_are_no_other_type(name: str) -> None:
    f, x = CONTROL[name], np.arange(6.0).reshape(2, 3)
    for g in (f, fg.jit(f), fg.vmap(lambda row: fg.tree.map(fnp.sum, f(fnp.stack([row, row]))))):
        for a, b in zip(fg.tree.leaves(g(swapped(x))), fg.tree.leaves(g(x)), strict=True):
            np.testing.assert_array_equal(a, b)
    loss = lambda x: sum(leaf.sum() for leaf in fg.tree.leaves(f(x)))
    for g in (fg.grad(loss), fg.jit(fg.grad(loss)), fg.grad(fg.jit(loss))):
        np.testing.assert_array_equal(g(swapped(x)), g(x))


@pytest.mark.parametrize("x", [np.array(2.5), np.float64(2.5), np.array(2.5, ">f8"), np.array(1 + 2j), np.array([[3]])])
def test_a_result_without_axes_is_a_number_whatever_runs(x: Array) -> None:
    functions = [
        lambda x: x, lambda x: x * 1, lambda x: fnp.sort(x.reshape(1))[0], lambda x: x.reshape(()),
        lambda x: lax.cond(True, lambda y: y, lambda y: y, x),
    ]  # fmt: skip
    for f in functions[1:] if np.ndim(x) == 0 else functions[2:4]:
        y = fg.jit(f)(x)
        assert isinstance(y, np.generic), (f, y)
        assert y == x


def test_numbers_of_python_stay_what_they_are() -> None:
    f = fg.jit(lambda a, b, c: (a + 1, b * 2, -c, a == 1, a / 2))
    types = [type(y) for y in f(1, 2.5, 1j)]
    assert types == [int, float, complex, np.bool_, float]
    assert f(1, 2.5, 1j) == (2, 5.0, -1j, True, 0.5)
    with pytest.raises(OverflowError):
        f(2**70, 2.5, 1j)
