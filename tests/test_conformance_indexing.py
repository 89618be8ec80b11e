"""Corner cases of reading and writing by index: repeated, empty and outlying positions, masks, and every kind of index.

Every row is checked eagerly and, where the shapes do not depend on values, through the jaxpr of the gradient.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.core.ir import evaluate

X = np.array([10.0, 20.0, 30.0])
ZEROS = np.zeros(3)


class Row(NamedTuple):
    """A function of arrays, a point, its value there, and the gradients of its sum, weighted by 1, 2, 3, …"""

    name: str
    f: Callable[..., Any]
    point: tuple[Any, ...]
    value: Any
    gradient: tuple[Any, ...]


def rows(*table: tuple[Any, ...]) -> Any:
    return pytest.mark.parametrize("row", [pytest.param(Row(*row), id=row[0]) for row in table])


def weighted(y: Any) -> Any:
    return (y * (1.0 + np.arange(y.size)).reshape(y.shape)).sum()


@rows(
    ("repeated positions", lambda x: x[[0, 0, 1]], (X,), [10, 10, 20], ([3, 3, 0],)),
    ("repeated negative positions", lambda x: x[[-1, 2, 0]], (X,), [30, 30, 10], ([3, 0, 3],)),
    ("a list as an index", lambda x: x[[0, 1]], (X,), [10, 20], ([1, 2, 0],)),
    ("an empty slice", lambda x: x[:0], (X,), [], ([0, 0, 0],)),
    ("no positions", lambda x: x[[]], (X,), [], ([0, 0, 0],)),
    ("an empty array of positions", lambda x: x[np.array([], int)], (X,), [], ([0, 0, 0],)),
    ("nothing selected", lambda x: x[x > 99], (X,), [], ([0, 0, 0],)),
    ("everything", lambda x: x[...], (X,), [10, 20, 30], ([1, 2, 3],)),
    ("the empty index", lambda x: x[()], (X,), [10, 20, 30], ([1, 2, 3],)),
    ("the empty index of a number", lambda x: x[()], (np.array(5.0),), 5, (1,)),
    ("a number with a new axis", lambda x: x[None], (np.array(5.0),), [5], (1,)),
    ("a mask of no axes", lambda x: x[:, None][x > 15, 0], (X,), [20, 30], ([0, 1, 2],)),
    ("numpy integers", lambda x: x[np.int32(1)] * x[np.int64(-1) :], (X,), [600], ([0, 30, 20],)),
    ("unsigned positions", lambda x: x[np.array([2, 0], np.uint8)], (X,), [30, 10], ([2, 0, 1],)),
    ("argmax, then take", lambda x: x[np.argmax(x)] * 2, (X,), 60, ([0, 0, 2],)),
    ("sorted by argsort", lambda x: x[np.argsort(-x)], (X,), [30, 20, 10], ([3, 2, 1],)),
    ("set, repeated: the last wins", lambda v: fg.at(ZEROS)[[0, 0]].set(v), (X[:2],), [20, 0, 0], ([0, 1],)),
    ("set, what was there", lambda x: fg.at(x)[[0, 0]].set(1.0), (X,), [1, 20, 30], ([0, 2, 3],)),
    ("add, repeated", lambda x, v: fg.at(x)[[0, 0]].add(v), (X, X[:2]), [40, 20, 30], ([1, 2, 3], [1, 1])),
    ("subtract", lambda x, v: fg.at(x)[1:].subtract(v), (X, np.array(5.0)), [10, 15, 25], ([1, 2, 3], -5)),
    ("multiply", lambda x, v: fg.at(x)[1].multiply(v), (X, np.array(2.0)), [10, 40, 30], ([1, 4, 3], 40)),
    ("divide", lambda x, v: fg.at(x)[1].divide(v), (X, np.array(2.0)), [10, 10, 30], ([1, 1, 3], -10)),
    ("max, repeated tie", lambda v: fg.at(ZEROS)[[1, 1]].max(v), (np.ones(2),), [0, 1, 0], ([1, 1],)),
    ("max, tie with what is there", lambda x, v: fg.at(x)[0].max(v), (X, np.array(10.0)), X, ([0.5, 2, 3], 0.5)),
    ("min", lambda x, v: fg.at(x)[:2].min(v), (X, np.array(15.0)), [10, 15, 30], ([1, 0, 3], 2)),
    ("get", lambda x: fg.at(x)[[2, 2]].get(), (X,), [30, 30], ([0, 0, 3],)),
    ("set with broadcasting", lambda v: fg.at(np.zeros((2, 3)))[:, 1:].set(v), (X[:2],), [[0, 10, 20]] * 2, ([7, 9],)),
    ("set all", lambda x, v: fg.at(x)[...].set(v), (X, np.array(1.0)), [1, 1, 1], ([0, 0, 0], 6)),
    ("set nothing", lambda x: fg.at(x)[x > 99].set(7.0), (X,), X, ([1, 2, 3],)),
    ("set by mask", lambda x, v: fg.at(x)[x > 15].set(v), (X, np.array(7.0)), [10, 7, 7], ([1, 0, 0], 5)),
    ("take", lambda x: np.take(x, [[0, 2], [2, 2]]), (X,), [[10, 30], [30, 30]], ([1, 0, 9],)),
    ("take_along_axis", lambda x: np.take_along_axis(x[None], np.array([[2, 2]]), 1), (X,), [[30, 30]], ([0, 0, 3],)),
    ("iteration", lambda x: np.stack([z * z for z in x]), (X,), X**2, ([20, 80, 180],)),
    ("unpacking", lambda x: np.stack([*x][::-2]), (X,), [30, 10], ([2, 0, 1],)),
)
def test_the_value_and_the_gradient_are(row: Row) -> None:
    f = lambda *xs: weighted(row.f(*xs))
    gradient = fg.grad(f, tuple(range(len(row.point))))
    value, _ = fg.vjp(row.f, *row.point)
    for got in (value, row.f(*row.point)):
        np.testing.assert_array_equal(got, row.value)
        assert np.shape(got) == np.shape(row.value)
    ways = [gradient(*row.point)]
    with contextlib.suppress(fg.errors.TracedShapeError):  # how much a mask selects is not known without values
        ways.append(evaluate(fg.make_jaxpr(gradient)(*row.point), row.point))
    for got in ways:
        for g, expected in zip(got, row.gradient, strict=True):
            np.testing.assert_allclose(g, np.asarray(expected, float), rtol=1e-12)
            assert np.shape(g) == np.shape(expected)


@rows(
    (
        "a slope of infinity where nothing is taken",
        lambda x: (x**0.5)[x > 0],
        (np.array([0.0, 4.0]),),
        [2],
        ([0, 0.25],),
    ),
    ("the same with where", lambda x: np.where(x > 0, x**0.5, 0), (np.array([0.0, 4.0]),), [0, 2], ([0, 0.5],)),
    ("overwritten by set", lambda x: (x**0.5).at[0].set(1.0), (np.array([0.0, 4.0]),), [1, 2], ([0, 0.5],)),
    ("overwritten by a mask", lambda x: np.log(x).at[x <= 0].set(0.0), (np.array([0.0, 1.0]),), [0, 0], ([0, 2],)),
    ("twice the same mask", lambda x: (x**0.5)[x > 0] * np.log(x)[x > 0], (np.array([0.0, 1.0]),), [0], ([0, 1],)),
)
def test_what_is_not_selected_has_no_part_in_the_gradient(row: Row) -> None:
    with np.errstate(all="ignore"):
        value, _ = fg.vjp(row.f, *row.point)
        np.testing.assert_array_equal(value, row.value)
        for g, expected in zip(fg.grad(lambda *xs: weighted(row.f(*xs)), (0,))(*row.point), row.gradient, strict=True):
            np.testing.assert_allclose(g, expected, rtol=1e-12)


OUTSIDE: dict[str, Callable[[Any], Any]] = {
    "x[3]": lambda x: x[3],
    "x[-4]": lambda x: x[-4],
    "x[[0, 3]]": lambda x: x[[0, 3]],
    "x[[-4]]": lambda x: x[[-4]],
    "x[None, 3]": lambda x: x[None, 3][0, 0],
    "x.at[3].set": lambda x: fg.at(x)[3].set(1.0),
    "x.at[[3]].add": lambda x: fg.at(x)[[3]].add(1.0),
    "x.at[-4].max": lambda x: fg.at(x)[-4].max(1.0),
    "take": lambda x: np.take(x, 3),
    "take_along_axis": lambda x: np.take_along_axis(x, np.array([3]), 0),
    "too many": lambda x: x[0, 0],
    "two ellipses": lambda x: x[..., ...],
    "a float": lambda x: x[1.0],
    "an array of floats": lambda x: x[np.array([1.0])],
    "a string": lambda x: x["a"],
    "a mask of another length": lambda x: x[np.array([True, False])],
    "positions that do not broadcast": lambda x: x[:, None][[0, 1], [0, 0, 0]],
    "a mask of more axes": lambda x: x[np.ones((3, 1), bool)],
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_an_index_that_does_not_fit_is_an_index_error_as_in_numpy(name: str) -> None:
    f = OUTSIDE[name]
    with pytest.raises(IndexError):
        f(X)
    with pytest.raises(fg.errors.OutOfBoundsError):
        fg.grad(lambda x: f(x).sum())(X)


@pytest.mark.parametrize("name", ["x[3]", "x[-4]", "x[None, 3]", "x.at[3].set", "x.at[-4].max", "too many", "a float"])
def test_an_index_that_does_not_fit_is_found_without_values(name: str) -> None:
    with pytest.raises(fg.errors.OutOfBoundsError):
        fg.make_jaxpr(OUTSIDE[name])(X)


def test_positions_outside_are_found_when_a_program_runs() -> None:
    jaxpr = fg.make_jaxpr(lambda x, i: x[i])(X, 0)
    assert evaluate(jaxpr, [X, 2]) == [30.0]
    with pytest.raises(IndexError):
        evaluate(jaxpr, [X, 3])


def test_multiplying_at_repeated_positions_has_no_derivative_with_respect_to_the_factors() -> None:
    f = lambda x, v: fg.at(x)[[0, 0]].multiply(v)
    np.testing.assert_array_equal(f(X, 2.0), [40, 20, 30])
    assert fg.grad(lambda x: f(x, 2.0).sum())(X).tolist() == [4, 1, 1]
    with pytest.raises(fg.errors.NotDifferentiableError, match="repeats a position"):
        fg.grad(lambda v: f(X, v).sum())(2.0)
    assert fg.grad(lambda x: fg.at(x)[[0, 2]].multiply(2.0).sum())(X).tolist() == [2, 1, 2]


def test_an_update_changes_neither_its_array_nor_its_dtype() -> None:
    x = np.array([1, 2, 3], np.int16)
    for mode in ("set", "add", "subtract", "multiply", "min", "max"):
        y = getattr(fg.at(x)[1], mode)(5)
        assert y.dtype == np.int16
        assert not np.shares_memory(x, y)
    np.testing.assert_array_equal(x, [1, 2, 3])
    assert fg.at(np.ones(2, np.float32))[0].set(2.0).dtype == np.float32
    for mode in ("set", "add", "multiply", "divide"):
        with pytest.raises(fg.errors.DTypeError):
            getattr(fg.at(x)[1], mode)(1.5)


# ── every index that NumPy takes


@st.composite
def indices(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """Basic indices, position arrays that broadcast, masks, and mixtures of them."""
    if draw(st.integers(0, 3)) == 3:
        return draw(hnp.basic_indices(shape, allow_newaxis=True))
    ndim = draw(st.integers(1, len(shape)))
    common = draw(hnp.array_shapes(min_dims=0, max_dims=2, max_side=3))
    items: list[Any] = []
    axis = 0
    while axis < ndim:
        kind = draw(st.sampled_from(["positions", "list", "slice", "int", "mask", "newaxis"]))
        n = shape[axis]
        if kind == "newaxis":
            items.append(None)
            continue
        if kind == "slice":
            items.append(draw(st.slices(n)))
        elif kind == "int":
            items.append(draw(st.integers(-n, n - 1)))
        elif kind == "mask" and not any(isinstance(i, np.ndarray | list) for i in items):
            items.append(draw(hnp.arrays(bool, (n,))))
            if items[-1].sum() > 1:
                common = (int(items[-1].sum()),)
        else:
            places = draw(hnp.arrays(np.int64, common, elements=st.integers(-n, n - 1)))
            items.append(places.tolist() if kind == "list" else places)
        axis += 1
    if draw(st.booleans()):
        items.append(Ellipsis)
    return tuple(items)


@settings(max_examples=300)
@given(data=st.data())
def test_reading_and_writing_by_any_index_is_numpys_with_the_adjoint_as_gradient(data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=3))
    index = data.draw(indices(shape))
    x = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
    try:
        expected = x[index]
    except IndexError:
        with pytest.raises(IndexError):
            fg.vjp(lambda x: x[index], x)
        return

    # reading: its adjoint adds each cotangent at the position it was read from
    y, pullback = fg.vjp(lambda x: x[index], x)
    np.testing.assert_array_equal(y, expected)
    assert np.shape(y) == np.shape(expected)
    g = np.random.default_rng(0).normal(size=np.shape(y))
    scattered = np.zeros(shape)
    np.add.at(scattered, index, g)
    np.testing.assert_allclose(pullback(g)[0], scattered, atol=1e-12)
    jaxpr = fg.make_jaxpr(lambda x: x[index])(x)
    np.testing.assert_array_equal(evaluate(jaxpr, [x])[0], expected)

    # writing: plain and traced alike, and <g, df> = <pullback g, dx>
    v = np.random.default_rng(1).normal(size=np.shape(y))
    for mode, ufunc in (("set", None), ("add", np.add), ("max", np.maximum)):
        written = x.copy()
        if ufunc is None:
            written[index] = v
        else:
            ufunc.at(written, index, v)
        put = lambda x, v, mode=mode: getattr(fg.at(x)[index], mode)(v)
        np.testing.assert_allclose(put(x, v), written)
        out, _ = fg.vjp(put, x, v)
        np.testing.assert_allclose(out, written)
        fg.testing.check_grads(put, (x, v), order=1, atol=1e-5)


def test_indexing_agrees_at_second_order() -> None:
    def f(x: Any) -> Any:
        picked = x[[0, 2, 0]] * x[1:][np.array([True, True, False])].sum()
        return (fnp.take(picked, [1, 1]) ** 2).sum() + fg.at(x)[[1, 1]].add(x[:2] ** 2).prod()

    fg.testing.check_grads(f, (np.array([0.5, 1.5, -0.7, 0.3]),), order=3, rtol=1e-5)


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x[:, [0, 1], ..., [0, 1]],
        lambda x: x[[0, 1], ..., [0, 1], [1, 1]],
        lambda x: x[None, [0, 1], ..., 0, [1, 0]],
        lambda x: x[True],
        lambda x: x[np.array(False)],
    ],
)
def test_an_ellipsis_for_no_axis_and_a_single_bool_mean_what_they_mean_to_numpy(read: Any) -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    y, _ = fg.vjp(read, x)
    assert y.shape == read(x).shape
    np.testing.assert_array_equal(y, read(x))
    fg.testing.check_grads(read, (x,), order=2)
