"""The elementwise functions of `funcgrad.numpy` are NumPy's, on plain, traced and staged values, with derivatives."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.numpy import _arithmetic, _elementwise, _logic, _transcendental
from tests.cases.elementwise import BINARY, UNARY, off_axes

MODULES = (_arithmetic, _elementwise, _logic, _transcendental)
NAMES = sorted(name for module in MODULES for name in module.__all__)

# Arguments beyond the arrays, where a call needs some.
CALLS: dict[str, Callable[[Any], Callable[..., Any]]] = {
    "clip": lambda f: lambda x: f(x, -0.5, 0.5),
    "where": lambda f: lambda x: f(x > 0, x, 2 * x),
    "nan_to_num": lambda f: lambda x: f(x, nan=3.0),
    "round": lambda f: lambda x: f(x, 1),
    "around": lambda f: lambda x: f(x, -1),
    "array_equal": lambda f: lambda x: f(x, x),
    "allclose": lambda f: lambda x: f(x, x),
    "isclose": lambda f: lambda x: f(x, x),
}
BOOL_RESULT = {"array_equal", "allclose"}


def caller(name: str, f: Callable[..., Any]) -> Callable[..., Any]:
    return CALLS[name](f) if name in CALLS else f


def arity(name: str) -> int:
    if name in CALLS:
        return 1
    parameters = inspect.signature(getattr(fnp, name)).parameters.values()
    return sum(p.default is p.empty and p.kind is not p.KEYWORD_ONLY for p in parameters)


def values(dtype: Any, n: int) -> list[Any]:
    """An argument list of small numbers of a dtype, infinities and NaN among them where it has some."""
    base = np.array([1, 0, 2, 3, 1, 2])
    special = np.array([-1.5, np.inf, np.nan, -0.0, 0.0, 0.25])
    dtype = np.dtype(dtype)
    first = special.astype(dtype) if dtype.kind in "fc" else base.astype(dtype)
    return [first, base[::-1].astype(dtype)][:n]


def same(a: Any, b: Any) -> None:
    """The same type, dtype, shape and elements, NaN included."""
    if isinstance(b, tuple):
        assert isinstance(a, tuple)
        for one, other in zip(a, b, strict=True):
            same(one, other)
        return
    assert type(a) is type(b)
    if isinstance(b, np.ndarray | np.generic):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
    np.testing.assert_array_equal(a, b)


def either(f: Callable[..., Any], *args: Any) -> Any:
    """The result, or the kind of error."""
    try:
        with np.errstate(all="ignore"):
            return f(*args)
    except (TypeError, ValueError, OverflowError) as error:
        return TypeError if isinstance(error, TypeError) else ValueError


DTYPES = [np.float64, np.float32, np.float16, np.int64, np.int8, np.uint8, np.bool_, np.complex128, np.complex64]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: np.dtype(t).name)
def test_a_function_gives_what_numpy_gives(name: str, dtype: Any) -> None:
    args = values(dtype, arity(name))
    ours, theirs = either(caller(name, getattr(fnp, name)), *args), either(caller(name, getattr(np, name)), *args)
    if isinstance(theirs, type):
        assert ours is theirs
    else:
        same(ours, theirs)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in CALLS])
@pytest.mark.parametrize("scalar", [2.0, 3, True, 1j, np.float32(0.5)], ids=repr)
def test_a_scalar_gives_what_numpy_gives(name: str, scalar: Any) -> None:
    args = [scalar] * arity(name)
    ours, theirs = either(getattr(fnp, name), *args), either(getattr(np, name), *args)
    if isinstance(theirs, type):
        assert ours is theirs
    else:
        same(ours, theirs)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in BOOL_RESULT])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.complex128], ids=lambda t: np.dtype(t).name)
def test_a_traced_value_gives_what_numpy_gives(name: str, dtype: Any) -> None:
    args = values(dtype, arity(name))
    if np.dtype(dtype).kind == "c" and name in ("nan_to_num", "sinc"):
        args = [np.array([0.5 + 1j, -0.25 + 0j])]
    theirs = either(caller(name, getattr(np, name)), *args)
    ours = either(lambda *xs: fg.vjp(caller(name, getattr(fnp, name)), *xs)[0], *args)
    if isinstance(theirs, type):
        assert ours is theirs
        return
    for a, b in zip(fg.tree.leaves(ours), fg.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-3 if dtype == np.float16 else 1e-6)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in BOOL_RESULT])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.bool_, np.complex64], ids=lambda t: t.__name__)
def test_a_staged_call_has_the_type_of_numpys_result(name: str, dtype: Any) -> None:
    args = values(dtype, arity(name))
    theirs = either(caller(name, getattr(np, name)), *args)
    if isinstance(theirs, type):
        with pytest.raises((TypeError, ValueError)):
            fg.eval_shape(caller(name, getattr(fnp, name)), *args)
        return
    ours = fg.eval_shape(caller(name, getattr(fnp, name)), *args)
    for a, b in zip(fg.tree.leaves(ours), fg.tree.leaves(theirs), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)


SMOOTH = {
    **UNARY,
    "clip": UNARY["absolute"],
    "where": UNARY["absolute"],
    "nan_to_num": UNARY["exp"],
    "sinc": UNARY["exp"],
    "angle": off_axes,
}
UNARY_NAMES = [n for n in NAMES if arity(n) == 1 and getattr(fnp, n).__name__ in SMOOTH]


def numbers(domain: Callable[..., Any], shape: tuple[int, ...], seed: int) -> Any:
    return domain(np.random.default_rng(seed), shape)


@pytest.mark.parametrize("name", [n for n in UNARY_NAMES if UNARY.get(n) is not UNARY["logical_not"]])
def test_a_function_of_one_argument_has_its_derivatives(name: str) -> None:
    f = caller(name, getattr(fnp, name))
    x = numbers(SMOOTH[getattr(fnp, name).__name__], (2, 3), 0)
    y = f(x)
    if y.dtype.kind in "fc":
        fg.testing.check_grads(f, (x,), order=2, rtol=1e-5)


@pytest.mark.parametrize(
    "name", [n for n in NAMES if getattr(fnp, n).__name__ in {*BINARY, "logaddexp2", "float_power"}]
)
def test_a_function_of_two_arguments_has_its_derivatives(name: str) -> None:
    f = getattr(fnp, name)
    domains = {**BINARY, "logaddexp2": BINARY["logaddexp"], "float_power": BINARY["power"]}[f.__name__]
    x1, x2 = numbers(domains[0], (2, 1), 1), numbers(domains[1], (3,), 2)
    if f(x1, x2).dtype.kind == "f":
        fg.testing.check_grads(f, (x1, x2), order=2, rtol=1e-5)


def test_the_pair_that_divmod_returns_has_derivatives() -> None:
    fg.testing.check_grads(fnp.divmod, (np.array([5.5, -5.5]), np.array([2.0, 2.0])), order=2)


DECLARED = [n for n in NAMES if hasattr(getattr(fnp, n), "__wrapped__")]


@pytest.mark.parametrize("name", DECLARED)
def test_a_declared_function_looks_like_any_other(name: str) -> None:
    f = getattr(fnp, name)
    assert f.__module__.startswith("funcgrad.numpy._")
    assert f.__doc__ and ">>>" in f.__doc__
    assert getattr(fnp, f.__name__) is f
    parameters = inspect.signature(f).parameters
    assert list(parameters)[getattr(np, name).nin :] == [
        "out",
        "where",
        "casting",
        "order",
        "dtype",
        "subok",
        "signature",
    ]
    assert sum(p.kind is p.POSITIONAL_ONLY for p in parameters.values()) == getattr(np, name).nin


@pytest.mark.parametrize("name", [n for n in DECLARED if n != "divmod"])
def test_dtype_asks_for_the_loop_of_that_dtype(name: str) -> None:
    f, ufunc = getattr(fnp, name), getattr(np, name)
    args = [np.array([0.5, 1.0]), np.array([1.0, 0.25])][: ufunc.nin]
    theirs = either(lambda *xs: ufunc(*xs, dtype=np.float32), *args)
    for ours in (
        either(lambda *xs: f(*xs, dtype=np.float32), *args),
        either(lambda *xs: fg.vjp(lambda *ys: f(*ys, dtype=np.float32), *xs)[0], *args),
    ):
        if isinstance(theirs, type):
            assert ours is theirs
        else:
            assert ours.dtype == theirs.dtype
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize(("argument", "value"), [("out", np.zeros(2)), ("where", np.array([True, False]))])
@pytest.mark.parametrize("name", ["sin", "add"])
def test_out_and_where_are_refused_with_the_way_out(name: str, argument: str, value: Any) -> None:
    args = [np.ones(2)] * getattr(np, name).nin
    with pytest.raises(fg.errors.UnsupportedError, match=f"{argument}=.*\n.*\n?.*{name}\\(") as raised:
        getattr(fnp, name)(*args, **{argument: value})
    assert "Fix" in str(raised.value)


@pytest.mark.parametrize("f", [fnp.add, fnp.multiply, fnp.power, fnp.negative, fnp.absolute, fnp.positive, fnp.real])
def test_a_function_of_python_numbers_has_a_dtype_of_its_own_where_an_operator_has_none(f: Any) -> None:
    n = 1 if f in (fnp.negative, fnp.absolute, fnp.positive, fnp.real) else 2

    def dtypes(x: Any) -> Any:
        operator = x * x
        y = f(*[x] * n)
        seen.append(((operator * np.float32(1)).dtype, (y * np.float32(1)).dtype))
        return y

    seen: list[Any] = []
    fg.grad(dtypes)(2.0)
    assert seen == [(np.float32, np.float64)]


def test_a_list_may_hold_traced_values() -> None:
    def f(x: Any) -> Any:
        return fnp.sum(fnp.multiply([x, 1.0], [2.0, 3.0])) + fnp.exp([x, x]).sum() + fnp.maximum(x, [1.0, 5.0]).sum()

    value, gradient = fg.value_and_grad(f)(2.0)
    assert value == pytest.approx(2 * 2 + 3 + 2 * np.exp(2) + 2 + 5)
    assert gradient == pytest.approx(2 + 2 * np.exp(2) + 1)


def test_shapes_that_do_not_broadcast_are_named() -> None:
    for args in itertools.permutations([np.ones(3), np.ones(4)]):
        with pytest.raises(fg.errors.ShapeError, match=r"add: shapes .* and .* do not broadcast"):
            fnp.add(*args)


def test_where_with_one_argument_is_nonzero() -> None:
    c = np.array([[True, False], [True, True]])
    for ours, theirs in zip(fnp.where(c), np.where(c), strict=True):
        same(ours, theirs)
    with pytest.raises(fg.errors.ArgumentError, match="one argument or three"):
        fnp.where(c, 1.0)


def test_where_takes_numbers_for_truth() -> None:
    def f(c: Any, x: Any) -> Any:
        return fnp.where(c, x, 10 * x)

    c, x = np.array([0.0, 2.0, np.nan]), np.array([1.0, 2.0, 3.0])
    y, pullback = fg.vjp(f, c, x)
    np.testing.assert_array_equal(y, np.where(c, x, 10 * x))
    np.testing.assert_array_equal(pullback(np.ones(3))[0], 0)
    np.testing.assert_array_equal(pullback(np.ones(3))[1], [10, 1, 1])
    gradient = fg.grad(lambda x: fnp.where(c, fnp.where([1, 0, 1], x, 2 * x), 0).sum() + fnp.where(1, x, 0).sum())(x)
    np.testing.assert_array_equal(gradient, [1, 3, 2])


def test_where_differentiates_only_the_branch_that_it_takes() -> None:
    x = np.array([-1.0, 0.0, 4.0])
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(fg.grad(lambda x: fnp.where(x > 0, fnp.sqrt(x), 0).sum())(x), [0, 0, 0.25])


@pytest.mark.parametrize(("low", "high"), [(None, 1.0), (0.0, None), (0.0, 1.0), (2.0, 1.0), (None, None)])
def test_clip_takes_either_bound_by_either_name(low: Any, high: Any) -> None:
    x = np.array([-1.0, 0.0, 0.5, 1.0, 3.0])
    same(fnp.clip(x, low, high), np.clip(x, low, high))
    same(fg.vjp(lambda x: fnp.clip(x, min=low, max=high), x)[0], np.clip(x, low, high))


def test_the_bounds_of_clip_have_derivatives() -> None:
    gradients = fg.grad(lambda x, a, b: fnp.clip(x, a, b).sum(), (0, 1, 2))(np.array([-1.0, 0.5, 3.0, 4.0]), 0.0, 1.0)
    np.testing.assert_array_equal(gradients[0], [0, 1, 0, 0])
    assert (gradients[1], gradients[2]) == (1, 2)
    with pytest.raises(fg.errors.ArgumentError, match="twice"):
        fnp.clip(1.0, 0.0, min=0.5)


@pytest.mark.parametrize("decimals", [0, 1, 3, -1])
@pytest.mark.parametrize("x", [np.array([2.675, -0.5, 15.0, 25.0]), np.array([12, 25, 35]), 1.25], ids=repr)
def test_round_is_numpys_and_piecewise_constant(decimals: int, x: Any) -> None:
    same(fnp.round(x, decimals), np.round(x, decimals))
    if np.asarray(x).dtype.kind == "f":
        same(fg.vjp(lambda x: fnp.round(x, decimals), x)[0], np.round(x, decimals))
        np.testing.assert_array_equal(fg.grad(lambda x: fnp.round(x, decimals).sum())(x), np.zeros_like(x))


def test_sinc_is_smooth_at_zero_to_any_order() -> None:
    f = fnp.sinc
    for expected in (1, 0, -(np.pi**2) / 3, 0, np.pi**4 / 5, 0, -(np.pi**6) / 7):
        assert f(0.0) == pytest.approx(expected, abs=1e-12)
        assert f(1e-6) == pytest.approx(expected, abs=1e-2)
        f = fg.grad(f)


def test_the_slope_of_sinc_keeps_its_digits_near_zero() -> None:
    x = np.array([1e-12, 1e-8, 1e-4])
    np.testing.assert_allclose(fg.grad(lambda x: fnp.sinc(x).sum())(x), -(np.pi**2) * x / 3, rtol=1e-7)


def test_the_complex_sign_has_a_derivative() -> None:
    fg.testing.check_grads(lambda z: fnp.sign(z).imag, (np.array([1 + 2j, -0.5 + 0.1j]),), order=2)


def test_nan_to_num_keeps_the_slope_where_it_keeps_the_value() -> None:
    x = np.array([np.nan, 1.0, np.inf, -np.inf])
    np.testing.assert_array_equal(fg.grad(lambda x: fnp.nan_to_num(x, posinf=1, neginf=2).sum())(x), [0, 1, 0, 0])
    z = np.array([1 + np.nan * 1j, 1 + 2j])
    same(fg.vjp(fnp.nan_to_num, z)[0], np.nan_to_num(z))


def test_the_slope_of_a_remainder_is_that_of_the_branch_numpy_takes() -> None:
    # 1 / 0.1 is 10 in floating point, but 1 % 0.1 is 0.1, not 0: the quotient is 9
    assert fg.grad(fnp.mod, 1)(1.0, 0.1) == -9
    assert fg.grad(fnp.fmod, 1)(1.0, 0.1) == -9
