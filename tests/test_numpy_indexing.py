"""take and its relatives: each gives what NumPy's function of its name gives, and its pullback adds up what it took."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.core.ir import evaluate
from funcgrad.numpy import _indexing
from funcgrad.transforms.tracing.stage import stage
from tests.test_numpy_shape import DTYPES, Call, numbers, same


def arrays(min_dims: int = 1, min_side: int = 1) -> st.SearchStrategy[Any]:
    shapes = hnp.array_shapes(min_dims=min_dims, max_dims=3, min_side=min_side, max_side=3)
    return st.builds(numbers, shapes, st.sampled_from(DTYPES))


def positions(n: int, shape: st.SearchStrategy[tuple[int, ...]], beyond: int = 0) -> st.SearchStrategy[Any]:
    dtype = st.sampled_from([np.int64, np.int8])
    return dtype.flatmap(lambda t: hnp.arrays(t, shape, elements=st.integers(-n - beyond, n - 1 + beyond)))


any_shape = hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3)


@st.composite
def take(draw: st.DrawFn) -> Call:
    x = draw(arrays(0))
    axis = draw(st.none() | st.integers(-x.ndim, x.ndim - 1)) if x.ndim else None
    n = x.size if axis is None else x.shape[axis]
    mode = draw(st.sampled_from(["raise", "wrap", "clip"]))
    places = draw(positions(n, any_shape, 0 if mode == "raise" else 4))
    kind = draw(st.sampled_from(["array", "list", "number"]))
    where: Any = (
        places if kind == "array" or not places.size else places.tolist() if kind == "list" else int(places.flat[0])
    )
    return Call((x,), lambda m, x: m.take(x, where, axis, mode=mode))


@st.composite
def along(draw: st.DrawFn) -> tuple[Any, Any, int | None]:
    """An array, positions that fit along an axis, and the axis."""
    x = draw(arrays())
    axis = draw(st.none() | st.integers(-x.ndim, x.ndim - 1))
    if axis is None:
        return x, draw(positions(x.size, st.tuples(st.integers(0, 3)))), None
    shape = [draw(st.sampled_from([1, n])) for n in x.shape]
    shape[axis] = draw(st.integers(0, 3))
    return x, draw(positions(x.shape[axis], st.just(tuple(shape)))), axis


@st.composite
def take_along_axis(draw: st.DrawFn) -> Call:
    x, places, axis = draw(along())
    return Call((x,), lambda m, x: m.take_along_axis(x, places, axis))


@st.composite
def compress(draw: st.DrawFn) -> Call:
    x = draw(arrays())
    axis = draw(st.none() | st.integers(-x.ndim, x.ndim - 1))
    n = x.size if axis is None else x.shape[axis]
    condition = draw(hnp.arrays(bool, st.integers(0, n)))
    return Call((x,), lambda m, x: m.compress(condition.tolist(), x, axis))


@st.composite
def extract(draw: st.DrawFn) -> Call:
    x = draw(arrays(0, 0))
    condition = draw(hnp.arrays(bool, x.shape))
    return Call((x,), lambda m, x: m.extract(condition, x))


@st.composite
def delete(draw: st.DrawFn) -> Call:
    x = draw(arrays())
    axis = draw(st.none() | st.integers(-x.ndim, x.ndim - 1))
    n = x.size if axis is None else x.shape[axis]
    some = draw(positions(n, st.tuples(st.integers(0, 3))))
    where = draw(
        st.integers(-n, n - 1) | st.slices(n) | st.just(some) | st.just(some.tolist()) | hnp.arrays(bool, (n,))
    )
    return Call((x,), lambda m, x: m.delete(x, where, axis))


@st.composite
def ix_(draw: st.DrawFn) -> Call:
    x = draw(arrays(2))
    rows = draw(positions(x.shape[0], st.tuples(st.integers(1, 3))))
    columns = draw(hnp.arrays(bool, (x.shape[1],)))
    return Call((x,), lambda m, x: x[m.ix_(rows.tolist(), columns)])


CALLS: dict[str, st.SearchStrategy[Call]] = {
    "take": take(),
    "take_along_axis": take_along_axis(),
    "compress": compress(),
    "extract": extract(),
    "delete": delete(),
    "ix_": ix_(),
}
names = pytest.mark.parametrize("name", CALLS)
some = settings(max_examples=50)


def test_every_function_of_the_family_is_tested() -> None:
    assert {*CALLS, "put_along_axis"} == set(_indexing.__all__)


@names
@some
@given(data=st.data())
def test_a_call_is_numpys_on_plain_and_traced_arrays_and_on_types(name: str, data: st.DataObject) -> None:
    call = data.draw(CALLS[name])
    expected = call.apply(np, *call.arrays)
    same(call.apply(fnp, *call.arrays), expected)
    for namespace in (fnp, np):
        same(fg.vjp(lambda *xs, m=namespace: call.apply(m, *xs), *call.arrays)[0], expected)
    jaxpr, _ = stage(lambda *xs: call.apply(fnp, *xs), call.arrays, {})
    same(evaluate(jaxpr, call.arrays)[0], expected)
    (t,) = jaxpr.out_types
    assert (t.shape, t.dtype) == (np.shape(expected), np.asarray(expected).dtype)


@names
@some
@given(data=st.data())
def test_the_pullback_is_the_adjoint(name: str, data: st.DataObject) -> None:
    call = data.draw(CALLS[name])
    (x,) = (x.real.astype(float) for x in call.arrays)
    y, pullback = fg.vjp(lambda x: call.apply(fnp, x), x)
    g = np.asarray(numbers(np.shape(y), start=3))
    (pulled,) = pullback(g)
    np.testing.assert_allclose((g * y).sum(), (pulled * x).sum(), rtol=1e-12)
    # in every direction: what a position gets is what all that was taken from it weighs
    source = call.apply(np, np.arange(x.size, dtype=float).reshape(x.shape)).astype(int)
    weights = np.bincount(np.ravel(source), np.ravel(g), minlength=x.size)
    np.testing.assert_allclose(pulled, weights.reshape(x.shape), atol=1e-12)


@names
@settings(max_examples=15)
@given(data=st.data())
def test_the_gradient_agrees_with_central_differences(name: str, data: st.DataObject) -> None:
    call = data.draw(CALLS[name])
    (x,) = (x.real.astype(float) for x in call.arrays)
    fg.testing.check_grads(lambda x: np.sin(call.apply(fnp, x)), (x,), order=2)


@some
@given(drawn=along(), seed=st.integers(0, 99))
def test_put_along_axis_returns_what_numpy_writes(drawn: Any, seed: int) -> None:
    x, places, axis = drawn
    x = x.real.astype(float)
    values = np.random.default_rng(seed).normal(size=places.shape)
    expected = x.copy()
    np.put_along_axis(expected, places, values, axis)
    before = x.copy()
    same(fnp.put_along_axis(x, places, values, axis), expected)
    same(x, before)
    put = lambda x, v: fnp.put_along_axis(x, places, v, axis)
    same(fg.vjp(put, x, values)[0], expected)
    fg.testing.check_grads(put, (x, values), order=2, atol=1e-5)


def test_positions_may_be_traced() -> None:
    x, i = numbers((3, 2)), np.array([2, 0, 2])
    jaxpr, _ = stage(lambda x, i: (fnp.take(x, i, axis=0), fnp.take(x, i, mode="clip"), x[i, 0]), (x, i), {})
    for y, expected in zip(evaluate(jaxpr, [x, i]), (x[i], np.take(x, i), x[i, 0]), strict=True):
        same(y, expected)
    table = [10.0, 20.0, 30.0]
    jaxpr, _ = stage(lambda i: fnp.take(table, i), (2,), {})
    assert evaluate(jaxpr, [2]) == [30.0]


def test_bools_are_positions_to_take_and_a_mask_in_brackets() -> None:
    x = np.array([10.0, 20.0, 30.0])
    same(fnp.take(x, [True, False, True]), np.take(x, [True, False, True]))
    same(fg.grad(lambda x: fnp.take(x, [True, False, True]).sum())(x), np.array([1.0, 2.0, 0.0]))
    same(fg.grad(lambda x: x[[True, False, True]].sum())(x), np.array([1.0, 0.0, 1.0]))


def test_floats_are_no_positions() -> None:
    with pytest.raises(fg.errors.OutOfBoundsError, match="cannot be an index"):
        fnp.take(np.ones(3), [0.5])


def test_lists_may_hold_traced_values() -> None:
    assert fg.grad(lambda x: fnp.take([x, 2 * x, 1.0], [1, 1, 0]).sum())(3.0) == 5.0
    assert fg.grad(lambda x: fnp.delete([x, x * x], 0).sum())(3.0) == 6.0


def test_methods_do_what_the_functions_do() -> None:
    x = numbers((2, 3))
    for way in (lambda x: x.take([2, 0]), lambda x: x.take([[0], [1]], axis=1), lambda x: x.take(-1)):
        same(fg.vjp(way, x)[0], way(x))


REFUSED: dict[str, tuple[Callable[..., Any], Any]] = {
    "take outside": (lambda m, x: m.take(x, 6), IndexError),
    "take outside along an axis": (lambda m, x: m.take(x, [-4], axis=1), IndexError),
    "take along no axis": (lambda m, x: m.take(x, 0, axis=2), np.exceptions.AxisError),
    "take in an unknown mode": (lambda m, x: m.take(x, 0, mode="nearest"), ValueError),
    "take_along_axis outside": (lambda m, x: m.take_along_axis(x, np.array([[3]]), 1), IndexError),
    "take_along_axis with other axes": (lambda m, x: m.take_along_axis(x, np.array([0]), 1), ValueError),
    "take_along_axis that does not fit": (lambda m, x: m.take_along_axis(x, np.zeros((3, 1), int), 1), IndexError),
    "take_along_axis by floats": (lambda m, x: m.take_along_axis(x, np.zeros((2, 1)), 1), IndexError),
    "compress outside": (lambda m, x: m.compress([True] * 4, x, axis=1), IndexError),
    "compress by a matrix": (lambda m, x: m.compress(np.ones((2, 3), bool), x), ValueError),
    "delete outside": (lambda m, x: m.delete(x, 3, axis=1), IndexError),
    "delete along no axis": (lambda m, x: m.delete(x, 0, axis=2), np.exceptions.AxisError),
    "delete by a mask of another length": (lambda m, x: m.delete(x, np.array([True]), axis=1), ValueError),
    "ix_ of a matrix": (lambda m, x: m.ix_(np.ones((2, 2), int)), ValueError),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_numpy_refuses_is_refused_with_the_same_exception(name: str) -> None:
    do, error = REFUSED[name]
    x = numbers((2, 3))
    with pytest.raises(error):
        do(np, x)
    with pytest.raises(error):
        do(fnp, x)
    with pytest.raises(error):
        fg.vjp(lambda x: do(fnp, x), x)


@pytest.mark.parametrize("do", [lambda x: fnp.take(x, 0, out=x), lambda x: fnp.compress([True], x, out=x)])
def test_out_is_refused(do: Callable[[Any], Any]) -> None:
    with pytest.raises(fg.errors.UnsupportedError, match="out="):
        do(np.ones(3))
