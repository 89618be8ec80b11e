"""New arrays are NumPy's; what depends on a traced value is traced, and has derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp

X = np.arange(6.0).reshape(2, 3)
F32 = np.ones(2, np.float32)

PLAIN: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("zeros", (3,), {}),
    ("zeros", ((2, 3), np.float32), {}),
    ("ones", ((2, 0),), {"dtype": int}),
    ("full", ((2, 3), 7), {}),
    ("full", ((2, 3), [1.0, 2.0, 3.0]), {}),
    ("full", (2, 1.5, np.float32), {}),
    ("zeros_like", (X,), {}),
    ("zeros_like", ([1, 2],), {"dtype": float}),
    ("ones_like", (X, np.float32), {}),
    ("ones_like", (X,), {"shape": (4,)}),
    ("full_like", (X, 3), {}),
    ("full_like", (F32, 0.5), {"shape": 3}),
    ("eye", (3,), {}),
    ("eye", (2, 4, 1), {"dtype": np.float32}),
    ("identity", (3,), {}),
    ("arange", (5,), {}),
    ("arange", (5.0,), {}),
    ("arange", (2, 11, 3), {}),
    ("arange", (3, 0, -1), {"dtype": np.float32}),
    ("linspace", (0, 1, 5), {}),
    ("linspace", (0.0, [1.0, 2.0], 4), {"axis": -1}),
    ("linspace", (0, 10, 5), {"dtype": int}),
    ("linspace", (np.float32(0), np.float32(1), 3), {"endpoint": False, "retstep": True}),
    ("logspace", (0, 2, 3), {"base": 2.0}),
    ("geomspace", (-1.0, -8.0, 4), {}),
    ("array", ([[1, 2], [3, 4]],), {}),
    ("array", ([1, 2.5],), {"dtype": np.float32, "ndmin": 2}),
    ("array", (X,), {}),
    ("asarray", ([1, 2, 3],), {}),
    ("asarray", (3.0,), {}),
    ("asarray", (X, np.float32), {}),
    ("copy", (X,), {}),
    ("astype", (X, np.float32), {}),
    ("meshgrid", (np.arange(3), np.arange(2.0)), {}),
    ("meshgrid", (np.arange(3), np.arange(2), np.arange(4)), {"indexing": "ij", "sparse": True}),
    ("shape", ([[1, 2]],), {}),
    ("ndim", (X,), {}),
    ("size", (X,), {}),
    ("size", (X, 1), {}),
    ("result_type", (F32, 1.0, np.float64), {}),
    ("iscomplexobj", ([1j],), {}),
    ("isrealobj", ([1j],), {}),
]


def leaves(y: Any) -> list[Any]:
    return list(y) if isinstance(y, tuple) else [y]


@pytest.mark.parametrize(("name", "args", "kwargs"), PLAIN, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(PLAIN)])
def test_without_a_traced_value_a_function_gives_what_numpy_gives(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    ours, theirs = getattr(fnp, name)(*args, **kwargs), getattr(np, name)(*args, **kwargs)
    for a, b in zip(leaves(ours), leaves(theirs), strict=True):
        assert type(a) is type(b)
        if isinstance(b, np.ndarray):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            assert a.flags.writeable == b.flags.writeable
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["empty", "empty_like"])
def test_an_empty_array_has_shape_and_dtype(name: str) -> None:
    y = fnp.empty((2, 3), np.float32) if name == "empty" else fnp.empty_like(np.ones((2, 3), np.float32))
    assert (y.shape, y.dtype) == ((2, 3), np.float32)


def test_a_copy_is_a_new_array_and_asarray_is_not() -> None:
    assert fnp.asarray(X) is X
    assert not np.shares_memory(fnp.array(X), X)
    assert not np.shares_memory(fnp.copy(X), X)
    with pytest.raises(ValueError, match="copy"):
        fnp.asarray([1.0], copy=False)


S, T = np.array(0.5), np.array(2.0)

TRACED: dict[str, tuple[Callable[[Any], Callable[..., Any]], tuple[Any, ...]]] = {
    "linspace": (lambda np: lambda a, b: np.linspace(a, b, 5), (S, T)),
    "linspace one": (lambda np: lambda a, b: np.linspace(a, b, 1), (S, T)),
    "linspace none": (lambda np: lambda a, b: np.linspace(a, b, 0), (S, T)),
    "linspace open": (lambda np: lambda a, b: np.linspace(a, b, 4, endpoint=False), (S, T)),
    "linspace arrays": (lambda np: lambda a, b: np.linspace(a, b, 4, axis=-1), (X, np.array([1.0, 5.0, 7.0]))),
    "linspace step": (lambda np: lambda a, b: np.linspace(a, b, 4, retstep=True), (S, T)),
    "logspace": (lambda np: lambda a, b: np.logspace(a, b, 4), (S, T)),
    "logspace base": (lambda np: lambda a, c: np.logspace(a, 2.0, 4, base=c), (S, T)),
    "geomspace": (lambda np: lambda a, b: np.geomspace(a, b, 4), (S, T)),
    "geomspace down": (lambda np: lambda a, b: np.geomspace(-a, -b, 4, endpoint=False), (T, S)),
    "meshgrid": (lambda np: lambda a, b: np.meshgrid(a, b), (X[0], X[:, 1])),
    "meshgrid ij": (lambda np: lambda a, b: np.meshgrid(a, b, 3.0, indexing="ij"), (X[0], X[:, 1])),
    "meshgrid sparse": (lambda np: lambda a, b: np.meshgrid(a, b, sparse=True), (X[0], X[:, 1])),
    "copy": (lambda np: lambda a: np.copy(a), (X,)),
    "astype": (lambda np: lambda a: np.astype(a, complex), (X,)),
}


@pytest.mark.parametrize("name", TRACED)
def test_a_function_of_traced_values_is_numpys_and_has_derivatives(name: str) -> None:
    make, args = TRACED[name]
    values, _ = fg.vjp(make(fnp), *args)
    for a, b in zip(leaves(values), leaves(make(np)(*args)), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=1e-14)
    fg.testing.check_grads(make(fnp), args, order=2, rtol=1e-5)


@pytest.mark.parametrize("name", TRACED)
def test_a_staged_function_has_the_type_of_numpys_result(name: str) -> None:
    make, args = TRACED[name]
    for a, b in zip(leaves(fg.eval_shape(make(fnp), *args)), leaves(make(np)(*args)), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)


def test_the_ends_of_a_linspace_are_exact() -> None:
    y, pullback = fg.vjp(lambda a, b: fnp.linspace(a, b, 7), 0.1, 0.7)
    assert (y[0], y[-1]) == (0.1, 0.7)
    np.testing.assert_array_equal(pullback(np.eye(7)[-1]), (0.0, 1.0))


@pytest.mark.parametrize(
    "nested",
    [
        lambda x, y: [x, y],
        lambda x, y: (x, 2, y),
        lambda x, y: [[x, 1.0], [2.0, y]],
        lambda x, y: [[[x]], [[y]]],
        lambda x, y: [x],
        lambda x, y: [x * np.ones(3), [1, 2, 3]],
    ],
)
def test_a_list_of_traced_values_is_stacked(nested: Callable[[Any, Any], Any]) -> None:
    args = (np.array(2.0), np.array(3.0))
    expected = np.array(nested(*args))
    for f in (fnp.array, fnp.asarray):
        y, _ = fg.vjp(lambda a, b, f=f: f(nested(a, b)), *args)
        assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_array_equal(y, expected)
        fg.testing.check_grads(lambda a, b, f=f: f(nested(a, b)), args, order=2)


@pytest.mark.parametrize("x", [np.float32(1), 1.0, np.float64(1)], ids=repr)
@pytest.mark.parametrize("other", [1, 1.0, np.float32(1), np.int64(1), True], ids=repr)
def test_a_list_gets_the_dtype_that_numpy_gives(x: Any, other: Any) -> None:
    y, _ = fg.vjp(lambda x: fnp.asarray([x, other]), x)
    assert y.dtype == np.asarray([x, other]).dtype


def test_a_list_whose_parts_differ_in_shape_is_refused() -> None:
    with pytest.raises(fg.errors.ShapeError, match=r"\(\) and \(2,\)"):
        fg.grad(lambda x: fnp.asarray([x, [1.0, 2.0]]).sum())(1.0)


def test_array_takes_dtype_and_ndmin_of_traced_values() -> None:
    y, _ = fg.vjp(lambda x: fnp.array(x, dtype=np.float32, ndmin=3), np.ones(2))
    assert (y.shape, y.dtype) == ((1, 1, 2), np.float32)
    y, _ = fg.vjp(lambda x: fnp.array([x, x], ndmin=2), 1.0)
    assert y.shape == (1, 2)


def test_asarray_gives_a_python_number_a_dtype_of_its_own() -> None:
    y, _ = fg.vjp(lambda x: fnp.asarray(x) * np.float32(1), 2.0)
    assert y.dtype == np.float64


def test_a_filled_array_sums_its_cotangent() -> None:
    assert fg.grad(lambda x: fnp.full((2, 3), x).sum())(1.0) == 6
    assert fg.grad(lambda x: fnp.full(4, x).sum())(1.0) == 4
    np.testing.assert_array_equal(fg.grad(lambda x: fnp.full((2, 3), x).sum())(np.ones(3)), [2, 2, 2])
    np.testing.assert_array_equal(fg.grad(lambda x: fnp.full((2, 2), [x[0], 1.0]).sum())(np.ones(1)), [2])
    assert fg.grad(lambda x: fnp.full_like(np.ones(3), x).sum())(1.0) == 3


@pytest.mark.parametrize("name", ["zeros_like", "ones_like", "empty_like"])
def test_an_array_like_a_traced_one_is_plain(name: str) -> None:
    def f(x: Any) -> Any:
        for y in (getattr(fnp, name)(x), getattr(np, name)(x), getattr(fnp, name)([x, x])[0]):
            assert type(y) is np.ndarray
            assert (y.shape, y.dtype) == ((2,), np.float32)
        assert getattr(fnp, name)(x, float, shape=3).shape == (3,)
        return x.sum()

    fg.grad(f)(F32)


def test_what_is_known_of_a_traced_value_without_its_numbers() -> None:
    def f(x: Any) -> Any:
        assert (fnp.shape(x), fnp.ndim(x), fnp.size(x), fnp.size(x, 1)) == ((2, 3), 2, 6, 3)
        assert (np.shape(x), np.ndim(x), np.size(x)) == ((2, 3), 2, 6)
        assert fnp.result_type(x, np.float32) == np.result_type(x, np.float32) == np.float64
        assert not fnp.iscomplexobj(x)
        return x.sum()

    fg.grad(f)(X)
    fg.make_jaxpr(f)(X)


def test_the_bounds_of_arange_must_be_static() -> None:
    with pytest.raises(fg.errors.TracedShapeError, match="linspace"):
        fg.grad(lambda x: fnp.arange(x).sum())(3.0)


def test_a_shape_must_be_static() -> None:
    for f in (fnp.zeros, fnp.ones, fnp.empty, lambda n: fnp.full(n, 1.0), lambda n: fnp.zeros((2, n))):
        with pytest.raises(fg.errors.TracedShapeError):
            fg.make_jaxpr(lambda n, f=f: f(n) * n)(3)


def test_a_complex_traced_geomspace_is_refused() -> None:
    with pytest.raises(fg.errors.UnsupportedError, match="exp"):
        fg.vjp(lambda z: fnp.geomspace(z, 2 * z, 3), 1 + 1j)


@pytest.mark.parametrize("name", ["pi", "e", "inf", "euler_gamma", "newaxis", "float32", "int64", "ndarray", "dtype"])
def test_constants_and_types_are_numpys(name: str) -> None:
    assert getattr(fnp, name) is getattr(np, name) or getattr(fnp, name) == getattr(np, name)
    assert name in fnp.__all__
