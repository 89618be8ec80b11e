"""Corner cases of arguments, structure, dtypes, empty arrays, NaN and aliasing, each with the value it must have.

Every row is checked eagerly and through the jaxpr of the gradient.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.core.ir import evaluate

INF, NAN = np.inf, np.nan
F16, F32, F64 = np.float16, np.float32, np.float64


class Row(NamedTuple):
    """A function to a number, a point, and the gradient in each argument, with its shape and dtype."""

    name: str
    f: Callable[..., Any]
    point: tuple[Any, ...]
    gradient: tuple[Any, ...]


def rows(*table: tuple[Any, ...]) -> Any:
    return pytest.mark.parametrize("row", [pytest.param(Row(*row), id=row[0]) for row in table])


def same(a: Any, b: Any, rtol: float = 1e-12) -> None:
    a, b = np.asarray(a), np.asarray(b)
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    np.testing.assert_allclose(a, b, rtol=rtol)


def check(row: Row) -> None:
    gradient = fg.grad(row.f, tuple(range(len(row.point))))
    with np.errstate(all="ignore"):
        eager = gradient(*row.point)
        staged = evaluate(fg.make_jaxpr(gradient)(*row.point), fg.tree.leaves(row.point))
    for got in (fg.tree.leaves(eager), staged):
        for g, expected in zip(got, fg.tree.leaves(row.gradient), strict=True):
            same(g, expected)


COLUMN, LINE = np.array([[1.0], [2.0], [3.0]]), np.array([1.0, 10.0, 100.0, 1000.0])
ONES, TWO, THREE = np.ones(2), np.array(2.0), np.array(3.0)


@rows(
    (
        "(3, 1) times (4,)",
        lambda x, y: (x * y).sum(),
        (COLUMN, LINE),
        (np.full((3, 1), 1111.0), np.full(4, 6.0)),
    ),
    (
        "broadcast_to",
        lambda x: (np.broadcast_to(x, (2, 3)) * np.arange(1.0, 7).reshape(2, 3)).sum(),
        (np.ones((1, 3)),),
        (np.array([[5.0, 7.0, 9.0]]),),
    ),
    (
        "broadcast_to new leading axes",
        lambda x: (np.broadcast_to(x, (2, 4, 3))).sum(),
        (np.ones(3),),
        (np.full(3, 8.0),),
    ),
    ("a scalar plus a vector", lambda x, y: (x + y).sum(), (2.0, np.ones(5)), (np.array(5.0), np.ones(5))),
    (
        "an unused argument",
        lambda x, y: y**2,
        (np.ones((2, 3), F32), 3.0),
        (np.zeros((2, 3), F32), np.array(6.0)),
    ),
    ("an argument twice", lambda x, y: x * y, (THREE, THREE), (THREE, THREE)),
    ("an array twice in a pytree", lambda p: (p[0] * p[1]).sum(), ((ONES, ONES),), ((ONES, ONES),)),
    ("a constant", lambda x: 3.0, (2.0,), (np.array(0.0),)),
    ("the identity", lambda x: x, (2.0,), (np.array(1.0),)),
    ("a None leaf", lambda p: p["a"] ** 2, ({"a": 3.0, "b": None},), ({"a": np.array(6.0), "b": None},)),
    ("perturbation", lambda x: x * fg.grad(lambda y: x + y)(1.0), (3.0,), (np.array(1.0),)),
    ("stop_gradient", lambda x: x * fg.stop_gradient(x), (3.0,), (np.array(3.0),)),
    (
        "stop_gradient at second order",
        fg.grad(lambda x: x**2 * fg.stop_gradient(x)),
        (3.0,),
        (np.array(6.0),),
    ),
    ("sum of an empty array", lambda x: x.sum(), (np.ones((0, 3)),), (np.zeros((0, 3)),)),
    ("prod of an empty array", lambda x: x.prod(), (np.ones(0),), (np.zeros(0),)),
    (
        "concatenation with an empty array",
        lambda x, y: np.concatenate([x, y]).sum(),
        (np.ones(0), ONES),
        (np.ones(0), ONES),
    ),
    (
        "max over the full axis of an empty array",
        lambda x: x.max(axis=1).sum(),
        (np.ones((0, 3)),),
        (np.zeros((0, 3)),),
    ),
    ("an empty slice", lambda x: x[:0].sum(), (ONES,), (np.zeros(2),)),
    ("max with NaN", lambda x: x.max(), (np.array([1.0, NAN, 2.0]),), (np.array([NAN, NAN, NAN]),)),
    ("nanmax with NaN", lambda x: np.nanmax(x), (np.array([1.0, NAN, 2.0]),), (np.array([0.0, 0.0, 1.0]),)),
    ("maximum with NaN", lambda x, y: np.maximum(x, y), (np.array(NAN), TWO), (np.array(0.0), np.array(0.0))),
)
def test_the_gradient_is(row: Row) -> None:
    check(row)


@pytest.mark.parametrize("dtype", [F16, F32, F64])
@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.mean(),
        lambda x: x.astype(F32).sum(),
        lambda x: x.astype(F64).sum(),
        lambda x: (x * np.ones(3)).sum(),
        lambda x: (x * F64(2)).sum(),
        lambda x: np.linalg.norm(x.astype(F64)),
        lambda x: np.std(x),
    ],
)
def test_the_gradient_has_the_dtype_of_the_input(f: Callable[..., Any], dtype: Any) -> None:
    x = np.array([1.0, 2.0, 4.0], dtype)
    assert fg.grad(f)(x).dtype == dtype
    assert fg.eval_shape(fg.grad(f), x) == fg.ShapeDtypeStruct((3,), dtype)


# ── values that are not gradients


def test_repeated_argnums_are_refused() -> None:
    with pytest.raises(ValueError, match="repeats 0"):
        fg.grad(lambda x: x, (0, 0))


def test_a_constant_integer_has_no_gradient() -> None:
    with pytest.raises(TypeError, match="piecewise constant"):
        fg.grad(lambda x: 3)(2.0)


def test_an_integer_argument_of_vjp_gets_none() -> None:
    _, pullback = fg.vjp(lambda x, n: x * n, 2.0, 3)
    assert pullback(1.0) == (3.0, None)


def test_a_pullback_can_be_called_twice() -> None:
    _, pullback = fg.vjp(np.sin, TWO)
    assert pullback(1.0) == pullback(1.0)


def test_the_identity_returns_no_alias() -> None:
    x = np.ones(3)
    y, pullback = fg.vjp(lambda x: x, x)
    assert not np.shares_memory(y, x)
    ct = np.ones(3)
    assert not np.shares_memory(pullback(ct)[0], ct)


def test_int_of_a_traced_value_is_a_constant_and_item_is_refused() -> None:
    assert fg.grad(lambda x: x * int(x))(3.7) == 3.0
    with pytest.raises(TypeError, match=r"x.item\(\) would"):
        fg.grad(lambda x: x * x.item())(3.7)


def test_python_scalars_are_weak_and_numpy_scalars_are_not() -> None:
    x = np.ones(2, F32)
    assert fg.vjp(lambda x: x * 2.0, x)[0].dtype == F32
    assert fg.vjp(lambda x: x * F64(2), x)[0].dtype == F64
    assert fg.eval_shape(lambda x, c: x * c, x, 2.0).dtype == F32
    assert fg.eval_shape(lambda x, c: x * c, x, F64(2)).dtype == F64


def test_the_gradient_of_a_number_is_an_array_without_axes() -> None:
    for x in (2.0, F64(2), np.array(2.0)):
        gradient = fg.grad(np.sin)(x)
        assert type(gradient) is np.ndarray
        assert gradient.shape == ()


def test_half_precision_overflows_where_numpy_does() -> None:
    x = np.array([60000, 60000], F16)
    with np.errstate(over="ignore"):
        total, _ = fg.vjp(lambda x: x.sum(), x)
        same(total, x.sum())
    assert np.isinf(total)
    same(fg.vjp(lambda x: x.mean(), x)[0], F16(60000))


def test_a_long_sum_in_single_precision_is_exact_to_rounding() -> None:
    x = np.full(10**6, 0.1, F32)
    value, gradient = fg.value_and_grad(lambda x: x.sum())(x)
    assert abs(value - 1e5) < 0.01
    same(gradient, np.ones(10**6, F32))


@pytest.mark.parametrize("f", [fnp.floor_divide, fnp.remainder])
def test_integers_divided_by_zero_give_zero_and_a_warning(f: Callable[..., Any]) -> None:
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        same(f(np.array([-5, 3]), 0), np.array([0, 0]))


def test_a_python_number_that_does_not_fit_is_refused_and_an_array_wraps() -> None:
    with pytest.raises(OverflowError):
        fnp.add(np.ones(3, np.int8), 300)
    with pytest.raises(OverflowError):
        fg.grad(lambda x: (x * (np.ones(3, np.int8) + 300)).sum())(1.0)
    same(fnp.asarray(np.array([300]), dtype="int8"), np.array([44], np.int8))


def test_a_cast_of_nan_to_int_is_numpys() -> None:
    x = np.array([NAN, INF, 1.5])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        same(fnp.astype(x, int), x.astype(int))
        same(fg.grad(lambda z: (z.astype(int) * z).astype(float)[2])(x), np.array([0.0, 0.0, 1.0]))


def test_the_largest_of_nothing_is_refused() -> None:
    for do in (lambda x: x.max(), lambda x: x.max(axis=0).sum()):
        with pytest.raises(ValueError, match="no neutral element"):
            fg.grad(do)(np.ones((0, 3)))
        with pytest.raises(ValueError, match="no neutral element"):
            fg.make_jaxpr(do)(np.ones((0, 3)))


def test_the_mean_of_nothing_is_nan_with_an_empty_gradient() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value, gradient = fg.value_and_grad(lambda x: x.mean())(np.ones(0))
    assert np.isnan(value)
    same(gradient, np.zeros(0))


def test_nanmax_of_nan_alone_has_gradient_zero() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value, gradient = fg.value_and_grad(lambda x: np.nanmax(x))(np.array([NAN, NAN]))
    assert np.isnan(value)
    same(gradient, np.zeros(2))


def test_argmax_finds_the_first_nan() -> None:
    assert fnp.argmax(np.array([1.0, NAN, 2.0])) == 1
    assert fg.vjp(lambda x: (np.argmax(x), x), np.array([1.0, NAN, 2.0]))[0][0] == 1


def test_changing_an_input_after_vjp_does_not_change_the_pullback() -> None:
    x = np.array([1.0, 2.0])
    _, pullback = fg.vjp(lambda x: x**2, x)
    x[:] = 99
    same(pullback(ONES)[0], np.array([2.0, 4.0]))


def test_results_are_plain_arrays_that_may_be_written() -> None:
    for gradient in (fg.grad(lambda x: x.sum())(np.ones(9999)), fg.vjp(lambda x: x, ONES)[1](ONES)[0]):
        assert type(gradient) is np.ndarray
        assert gradient.flags.writeable
        assert gradient.flags.owndata
