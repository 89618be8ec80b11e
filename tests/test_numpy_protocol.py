"""Code written for NumPy differentiates unchanged: the value is NumPy's, the gradient that of central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp

Function = Callable[..., Any]

M = np.array([[1.5, -0.25, 2.0], [0.75, -1.25, 0.5]])
N = np.array([[0.3, 1.7], [-0.6, 0.9], [2.2, -1.1]])
SQUARE = np.array([[2.0, 0.5], [-0.25, 1.5]])
V = np.array([0.5, -1.5, 2.5])


def network(x: Any) -> Any:
    """A layer, a softmax and a cross entropy, as one writes them with NumPy."""
    hidden = np.tanh(x @ N + np.array([0.1, -0.2]))
    logits = hidden - np.max(hidden, axis=1, keepdims=True)
    log_p = logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))
    return -np.mean(log_p[np.arange(2), [0, 1]])


def newton(x: Any) -> Any:
    """The square root by a loop that looks at the values."""
    y = x
    while np.max(np.abs(y * y - x)) > 1e-10:
        y = 0.5 * (y + x / y)
    return y


FUNCTIONS: dict[str, tuple[Function, tuple[Any, ...]]] = {
    "sin": (np.sin, (M,)),
    "exp of a scalar": (np.exp, (0.5,)),
    "logaddexp": (np.logaddexp, (M, V)),
    "sum": (lambda x: np.sum(x, axis=1), (M,)),
    "mean keepdims": (lambda x: np.mean(x, axis=0, keepdims=True), (M,)),
    "max": (lambda x: np.max(x, axis=-1), (M,)),
    "amin": (np.amin, (M,)),
    "prod": (np.prod, (M,)),
    "std": (lambda x: np.std(x, ddof=1), (M,)),
    "var": (lambda x: np.var(x, axis=(0, 1)), (M,)),
    "cumsum": (lambda x: np.cumsum(x, axis=1), (M,)),
    "sort": (lambda x: np.sort(x, axis=None), (M,)),
    "concatenate": (lambda x, y: np.concatenate([x, y], axis=1), (M, M + 1)),
    "stack with plain arrays": (lambda x: np.stack([x, V, 2 * x]), (V,)),
    "vstack": (lambda x, y: np.vstack((x, y)), (M, V)),
    "hstack": (lambda x: np.hstack([x, x]), (V,)),
    "split": (lambda x: np.split(x, 3, axis=1), (M,)),
    "where": (lambda x: np.where(x > 0, x**2, -x), (M,)),
    "where of plain arrays": (lambda x: np.where(M > 0, M, x), (V,)),
    "clip": (lambda x: np.clip(x, -1.0, 1.0), (M,)),
    "maximum": (lambda x: np.maximum(x, 0.1), (M,)),
    "reshape": (lambda x: np.reshape(x, (3, 2)), (M,)),
    "transpose": (lambda x: np.transpose(x) * N, (M,)),
    "expand_dims and squeeze": (lambda x: np.squeeze(np.expand_dims(x, 1) * V), (M,)),
    "broadcast_to": (lambda x: np.broadcast_to(x, (2, 3)) * M, (V,)),
    "tile and repeat": (lambda x: np.tile(x, 2) * np.repeat(x, 2), (V,)),
    "flip and roll": (lambda x: np.flip(x) * np.roll(x, 1), (V,)),
    "take": (lambda x: np.take(x, [0, 2, 2], axis=1), (M,)),
    "dot": (np.dot, (M, N)),
    "matmul": (np.matmul, (M, N)),
    "inner": (np.inner, (M, V)),
    "outer": (np.outer, (V, V)),
    "tensordot": (lambda x, y: np.tensordot(x, y, 1), (M, N)),
    "einsum": (lambda x, y: np.einsum("ij,jk->ik", x, y), (M, N)),
    "einsum trace": (lambda x: np.einsum("ii", x), (SQUARE,)),
    "trace and diag": (lambda x: np.trace(x) * np.diag(x), (SQUARE,)),
    "tril": (np.tril, (SQUARE,)),
    "norm": (np.linalg.norm, (M,)),
    "norm along an axis": (lambda x: np.linalg.norm(x, axis=1), (M,)),
    "inv": (np.linalg.inv, (SQUARE,)),
    "solve": (np.linalg.solve, (SQUARE, np.array([1.0, 2.0]))),
    "det": (np.linalg.det, (SQUARE,)),
    "add.reduce": (np.add.reduce, (M,)),
    "add.reduce over all": (lambda x: np.add.reduce(x, axis=None), (M,)),
    "multiply.reduce": (lambda x: np.multiply.reduce(x, axis=1), (M,)),
    "maximum.reduce": (lambda x: np.maximum.reduce(x, axis=1, keepdims=True), (M,)),
    "minimum.reduce": (np.minimum.reduce, (M,)),
    "add.accumulate": (lambda x: np.add.accumulate(x, axis=1), (M,)),
    "multiply.accumulate": (np.multiply.accumulate, (M,)),
    "multiply.outer": (np.multiply.outer, (M, V)),
    "subtract.outer with a list": (lambda x: np.subtract.outer([1.0, 2.0], x), (M,)),
    "array on the left": (lambda x: M + x, (V,)),
    "minus": (lambda x: M - x, (V,)),
    "times": (lambda x: M * x, (V,)),
    "over": (lambda x: M / x, (V,)),
    "power": (lambda x: np.abs(M) ** x, (V,)),
    "modulo": (lambda x: M % x, (V + 0.2,)),
    "matrix product": (lambda x: M @ x, (V,)),
    "NumPy scalar on the left": (lambda x: np.float64(3) * x - np.float32(2) / x, (V,)),
    "list on the left": (lambda x: [1.0, 2.0, 3.0] * x, (V,)),
    "in place on a name": (lambda x: [y := 2 * x, y := y + x * x][-1], (V,)),
    "method sum": (lambda x: x.sum(axis=0), (M,)),
    "method mean": (lambda x: x.mean(), (M,)),
    "method reshape": (lambda x: x.reshape(-1, 2), (M,)),
    "method dot": (lambda x: x.dot(N), (M,)),
    "method T": (lambda x: x.T @ x, (M,)),
    "method clip": (lambda x: x.clip(-1, 1), (M,)),
    "method astype": (lambda x: x.astype(np.complex128).real, (M,)),
    "method std": (lambda x: x.std(axis=1), (M,)),
    "method cumsum": (lambda x: x.cumsum(0), (M,)),
    "method ravel": (lambda x: x.ravel()[1:-1], (M,)),
    "indexing": (lambda x: x[0, ::-1] * x[[1, 1, 0], [0, 1, 2]] + x[:, 1][..., None].sum(), (M,)),
    "boolean indexing": (lambda x: x[x > 0], (M,)),
    "iteration": (lambda x: sum(row @ row for row in x), (M,)),
    "unpacking": (lambda x: x[0] * np.add(*x[1:]), (V,)),
    "a network": (network, (M,)),
    "Newton's method": (newton, (np.abs(V),)),
}


def leaves(y: Any) -> list[Any]:
    return list(y) if isinstance(y, list | tuple) else [y]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_unchanged_numpy_code_differentiates(name: str) -> None:
    f, args = FUNCTIONS[name]
    value, _ = fg.vjp(f, *args)
    for ours, theirs in zip(leaves(value), leaves(f(*args)), strict=True):
        assert np.shape(ours) == np.shape(theirs)
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    fg.testing.check_grads(f, args, order=2, rtol=1e-5)


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n not in ("boolean indexing", "Newton's method")])
def test_unchanged_numpy_code_is_staged(name: str) -> None:
    f, args = FUNCTIONS[name]
    types = fg.eval_shape(f, *args)
    for t, theirs in zip(leaves(types), leaves(f(*args)), strict=True):
        assert (t.shape, t.dtype) == (np.shape(theirs), theirs.dtype)


def test_what_is_piecewise_constant_is_plain() -> None:
    def f(x: Any) -> Any:
        for y in (np.argmax(x), np.sign(x), x > 0, np.floor(x), np.any(x > 0), np.argsort(x), np.count_nonzero(x)):
            assert isinstance(y, np.ndarray | np.generic | int)
        assert np.allclose(x, x)
        assert np.array_equal(x, V)
        assert np.logical_and.reduce(x < 9)
        assert not np.logical_or.reduce(x > 9)
        return x[np.argmax(x)]

    np.testing.assert_array_equal(fg.grad(f)(V), [0, 0, 1])


def test_every_name_that_numpy_has_too_is_what_numpys_function_does() -> None:
    """`numpy.f(x)` of a traced x reaches `fnp.f`: by a dispatch, or because it takes no array at all."""
    dispatched = [name for name in fnp.__all__ if isinstance(getattr(np, name, None), np.ufunc)]
    assert len(dispatched) > 70
    for name in dispatched:
        ufunc = getattr(np, name)
        calls: list[str] = []

        def f(x: Any, ufunc: Any = ufunc, calls: list[str] = calls) -> Any:
            try:
                ufunc(*[x] * ufunc.nin)
            except fg.errors.UnsupportedError:
                calls.append("unsupported")
            except (TypeError, ValueError):
                pass
            return x.sum()

        fg.make_jaxpr(f)(np.ones((2, 2)))
        assert not calls, name


def test_an_unknown_function_names_the_way_out() -> None:
    for f, name in ((np.interp, "interp"), (np.add.reduceat, "add.reduceat"), (np.nextafter, "nextafter")):
        with pytest.raises(fg.errors.UnsupportedError, match=name) as raised:
            fg.grad(lambda x, f=f: f(x, [0, 1], [0, 1]) if f is np.interp else f(x, [0, 1, 1]))(V)
        assert "stop_gradient" in str(raised.value)


@pytest.mark.parametrize(
    "write",
    [
        lambda x: np.add(x, 1, out=np.zeros(3)),
        lambda x: np.zeros(3).__iadd__(x),
        lambda x: np.sum(x, out=np.zeros(())),
        lambda x: np.add.at(np.zeros(3), [0], x[0]),
    ],
    ids=["out", "+=", "sum out", "add.at"],
)
def test_writing_a_traced_value_into_an_array_is_refused(write: Function) -> None:
    with pytest.raises(TypeError, match=r"FG\d\d\d"):
        fg.grad(lambda x: write(x).sum())(V)


def test_the_array_namespace_of_a_traced_value_is_funcgrad_numpy() -> None:
    def f(x: Any) -> Any:
        xp = x.__array_namespace__()
        assert xp is fnp
        return xp.sum(xp.sin(x))

    np.testing.assert_allclose(fg.grad(f)(V), np.cos(V))


def test_every_public_name_exists_once() -> None:
    assert len(fnp.__all__) == len(set(fnp.__all__))
    for name in fnp.__all__:
        assert hasattr(fnp, name)
