"""Sorting is a permutation, so its pullback is the inverse permutation; places are constants."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.core.ir import evaluate
from funcgrad.transforms.tracing.stage import stage

DTYPES = st.sampled_from(["?", "i1", "i8", "f2", "f4", "f8", "c16"])
A = np.array


def staged(f: Any, *args: Any) -> Any:
    return evaluate(stage(f, args, {})[0], args)[0]


def same(got: Any, expected: Any) -> None:
    assert np.asarray(got).dtype == np.asarray(expected).dtype
    np.testing.assert_array_equal(got, expected, strict=True)


@st.composite
def arrays(draw: st.DrawFn, dtypes: st.SearchStrategy[str] = DTYPES) -> Any:
    dtype = np.dtype(draw(dtypes))
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4))
    values = np.random.default_rng(draw(st.integers(0, 10**6))).integers(0, 5, shape)
    x = values.astype(dtype)
    if dtype.kind == "f":
        x = np.where(values == 4, dtype.type(np.nan), x)
    return x


@settings(max_examples=50)
@given(data=st.data())
def test_sorting_is_numpys(data: st.DataObject) -> None:
    x = data.draw(arrays())
    axis = data.draw(st.none() | st.sampled_from(range(-x.ndim, x.ndim)))
    same(staged(lambda x: fnp.sort(x, axis), x), np.sort(x, axis))
    same(staged(lambda x: fnp.argsort(x, axis, stable=True), x), np.argsort(x, axis, stable=True))
    same(staged(lambda x: fnp.argsort(x, axis), x), np.argsort(x, axis))
    same(fnp.sort(x, axis), np.sort(x, axis))
    same(fnp.argsort(x, axis, "stable"), np.argsort(x, axis, "stable"))
    if x.dtype.kind in "fc":
        same(fg.vjp(lambda x: fnp.sort(x, axis), x)[0], np.sort(x, axis))
        same(fg.vjp(lambda x: np.sort(x, axis), x)[0], np.sort(x, axis))


@settings(max_examples=50)
@given(data=st.data())
def test_the_pullback_of_sorting_undoes_the_permutation(data: st.DataObject) -> None:
    x = data.draw(arrays(st.sampled_from(["f4", "f8"])))
    axis = data.draw(st.sampled_from(range(x.ndim)))
    y, pullback = fg.vjp(lambda x: fnp.sort(x, axis), x)
    same(pullback(y)[0], x)


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), axis=st.sampled_from([None, 0, 1, -1]))
def test_the_pullback_of_sorting_agrees_with_central_differences_at_two_orders(seed: int, axis: int | None) -> None:
    x = np.random.default_rng(seed).permutation(12).reshape(3, 4) + 0.5
    fg.testing.check_grads(lambda x: fnp.sort(x * x, axis) ** 2, (x,), order=2)


@pytest.mark.parametrize("sort", [fnp.sort, np.sort])
def test_ties_keep_their_order_in_the_gradient(sort: Any) -> None:
    np.testing.assert_array_equal(fg.grad(lambda x: sort(x) @ A([1.0, 2.0, 3.0]))(A([2.0, 1.0, 2.0])), [2, 1, 3])


def test_what_is_not_selected_after_sorting_has_no_part_in_the_gradient() -> None:
    def f(x: Any) -> Any:
        return fnp.where(A([False, True]), fnp.sort(fnp.sqrt(x)), 0.0).sum()

    np.testing.assert_array_equal(fg.grad(f)(A([4.0, 0.0])), [0.25, 0])


@settings(max_examples=50)
@given(data=st.data(), side=st.sampled_from(["left", "right"]))
def test_searching_is_numpys(data: st.DataObject, side: str) -> None:
    a = np.sort(data.draw(arrays(st.just("f8"))).ravel())
    v = data.draw(arrays(st.just("f8")))
    sorter = np.random.default_rng(0).permutation(a.size)
    shuffled = np.empty_like(a)
    shuffled[sorter] = a
    expected = np.searchsorted(a, v, side)
    same(staged(lambda a, v: fnp.searchsorted(a, v, side), a, v), expected)
    same(staged(lambda a, v: fnp.searchsorted(a, v, side, sorter), shuffled, v), expected)
    same(fnp.searchsorted(a, v, side), expected)


def test_searching_is_a_constant_under_grad() -> None:
    def f(x: Any) -> Any:
        places = fnp.searchsorted(x, A([0.5, 1.5]))
        assert type(places) is np.ndarray
        return x[places].sum()

    np.testing.assert_array_equal(fg.grad(f)(A([0.0, 1.0, 2.0])), [0, 1, 1])


@settings(max_examples=50)
@given(data=st.data())
def test_unique_is_numpys(data: st.DataObject) -> None:
    x = data.draw(arrays(st.just("f8")))
    flags = data.draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    axis = data.draw(st.none() | st.sampled_from(range(x.ndim))) if x.size else None
    expected = np.unique(x, *flags, axis)
    aux: list[Any] = []

    def f(x: Any) -> Any:
        out = fnp.unique(x, *flags, axis)
        first, *rest = out if isinstance(out, tuple) else (out,)
        aux.extend(rest)
        return first

    y, _ = fg.vjp(f, x)
    for got, known in zip((y, *aux), expected if isinstance(expected, tuple) else (expected,), strict=True):
        same(got, known)


def test_unique_passes_the_gradient_to_the_first_occurrence() -> None:
    weights = A([1.0, 10.0])
    np.testing.assert_array_equal(fg.grad(lambda x: fnp.unique(x) @ weights)(A([5.0, 2.0, 5.0])), [10, 1, 0])
    rows = A([[2.0, 1.0], [0.0, 3.0], [2.0, 1.0]])
    g = fg.grad(lambda x: weights @ fnp.unique(x, axis=0) @ A([1.0, 2.0]))(rows)
    np.testing.assert_array_equal(g, [[10, 20], [1, 2], [0, 0]])


def test_places_of_elements_are_constants_under_grad() -> None:
    def f(x: Any) -> Any:
        (i,) = fnp.nonzero(x)
        same(i, A([0, 2]))
        same(fnp.flatnonzero(x), A([0, 2]))
        same(fnp.argwhere(x), A([[0], [2]]))
        same(x.nonzero()[0], i)
        return (x[i] ** 2).sum()

    np.testing.assert_array_equal(fg.grad(f)(A([1.0, 0.0, 3.0])), [2, 0, 6])


@pytest.mark.parametrize("name", ["nonzero", "flatnonzero", "argwhere", "unique"])
def test_a_length_that_depends_on_values_is_refused_where_only_types_are_known(name: str) -> None:
    with pytest.raises(TypeError, match=rf"how many elements {name}\(x\) returns depends on the values.*\n.*\n  Fix:"):
        fg.make_jaxpr(getattr(fnp, name))(A([1.0, 0.0]))


def test_sorting_along_an_axis_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="axis 1 is out of bounds"):
        fg.grad(lambda x: fnp.sort(x, 1).sum())(A([1.0, 0.0]))
    with pytest.raises(TypeError, match="fields of a structured array"):
        fg.grad(lambda x: fnp.sort(x, order="name").sum())(A([1.0, 0.0]))


def test_a_traced_array_is_not_sorted_in_place() -> None:
    with pytest.raises(TypeError, match=r"x = funcgrad.numpy.sort\(x\)"):
        fg.grad(lambda x: x.sort())(A([1.0, 0.0]))
