"""Code that calls `scipy.special` differentiates: SciPy's ufuncs find funcgrad's primitives by name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special

import funcgrad as fg
from funcgrad.numpy import _special

X = np.array([0.25, 0.5, 0.8])
FUNCTIONS = [
    *("cbrt", "erf", "erfc", "exp2", "expit", "expm1", "log1p", "log_expit", "logit"),
    *("gamma", "gammaln", "loggamma", "psi"),
]


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int8])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_scipy_gives_its_value_and_dtype(name: str, dtype: Any) -> None:
    f: Callable[..., Any] = getattr(scipy.special, name)
    x = X.astype(dtype)
    with np.errstate(divide="ignore"):
        results = []
        fg.make_jaxpr(lambda x: results.append(f(x)))(x)
        value = fg.vjp(lambda c, x: f(x) * c, np.ones((), np.float16), x)[0] if dtype != np.int8 else f(x)
        assert results[0].dtype == f(x).dtype
        np.testing.assert_allclose(value, f(x), rtol=1e-6 if dtype == np.float64 else 1e-3)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_scipy_has_derivatives(name: str) -> None:
    f = getattr(scipy.special, name)
    fg.testing.check_grads(f, (X,), order=2, rtol=1e-5)
    np.testing.assert_array_equal(fg.eval_shape(f, X).shape, X.shape)


def test_xlogy_differentiates_in_both_arguments() -> None:
    fg.testing.check_grads(scipy.special.xlogy, (X, X[::-1] + 1), order=2, rtol=1e-5)
    fg.testing.check_grads(lambda x: scipy.special.xlogy(X, x), (X,), order=2, rtol=1e-5)


def test_xlogy_at_the_origin_has_the_slopes_minus_infinity_and_zero() -> None:
    with np.errstate(divide="ignore"):
        assert fg.grad(scipy.special.xlogy, argnums=(0, 1))(0.0, 0.0) == (-np.inf, 0)


def test_an_entropy_of_probabilities_that_may_be_zero_is_differentiable() -> None:
    p = np.array([0.0, 0.25, 0.75])
    gradient = fg.grad(lambda q: scipy.special.xlogy(p, q).sum())(p)
    np.testing.assert_array_equal(gradient, [0, 1, 1])


def test_a_function_of_scipy_without_an_implementation_names_the_way_out() -> None:
    with pytest.raises(fg.errors.UnsupportedError, match="stop_gradient"):
        fg.grad(lambda x: scipy.special.jv(1, x).sum())(X)


def test_every_function_has_a_place_in_the_documentation() -> None:
    page = (Path(__file__).parent.parent / "docs" / "api" / "special.md").read_text(encoding="utf-8")
    assert {name for name in _special._FUNCTIONS if f"`{name}`" not in page} == set()


def test_the_library_starts_without_scipy() -> None:
    code = "import sys, funcgrad; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


GAMMA = {
    # each function at 0, −0, −1, −∞, ∞ and NaN, and its slope there
    "gammaln": ([np.inf, np.inf, np.inf, -np.inf, np.inf, np.nan], [-np.inf, np.inf, np.nan, np.nan, np.inf, np.nan]),
    "psi": ([-np.inf, np.inf, np.nan, np.nan, np.inf, np.nan], [np.inf, np.inf, np.inf, np.inf, 0, np.nan]),
    "gamma": ([np.inf, -np.inf, np.nan, np.nan, np.inf, np.nan], [-np.inf, -np.inf, np.nan, np.nan, np.inf, np.nan]),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("jitted", [False, True])
@pytest.mark.parametrize("name", GAMMA)
def test_the_gamma_functions_at_poles_and_infinities(name: str, jitted: bool, dtype: Any) -> None:
    x = np.array([0.0, -0.0, -1.0, -np.inf, np.inf, np.nan], dtype)
    f: Callable[..., Any] = fg.value_and_grad(lambda x: getattr(scipy.special, name)(x))
    with np.errstate(all="ignore"):
        f = fg.vmap(fg.jit(f) if jitted else f)
        y, slope = (fg.jit(f) if jitted else f)(x)
    np.testing.assert_array_equal(y, np.array(GAMMA[name][0], dtype))
    np.testing.assert_array_equal(slope, np.array(GAMMA[name][1], dtype))
    assert y.dtype == slope.dtype == dtype


def test_the_derivatives_of_gammaln_are_polygamma_functions_on_both_sides_of_zero() -> None:
    x = np.array([0.4, 1.0, 7.5, -0.3, -1.6, -20.7])
    f: Any = scipy.special.gammaln
    for n in range(5):
        f = fg.grad(lambda x, f=f: f(x).sum())
        np.testing.assert_allclose(f(x), scipy.special.polygamma(n, x), rtol=1e-12)
        np.testing.assert_allclose(fg.jit(f)(x), scipy.special.polygamma(n, x), rtol=1e-12)


def test_digamma_and_betaln_are_differentiable_under_their_names_in_scipy() -> None:
    fg.testing.check_grads(scipy.special.digamma, (X,), order=3, rtol=1e-5)
    fg.testing.check_grads(scipy.special.betaln, (X, X[::-1] + 1), order=2, rtol=1e-5)
    np.testing.assert_array_equal(fg.grad(lambda x: scipy.special.gammasgn(x).sum())(X - 1), [0, 0, 0])


@pytest.mark.parametrize("x", [-1e6 - 0.25, -1e12 - 0.25])
def test_trigamma_of_a_large_negative_number_takes_no_time_that_grows_with_it(x: float) -> None:
    # π² / sin²(π/4), since the rest is small
    assert abs(fg.special.polygamma(1, x) - 2 * np.pi**2) < 2e-6
    assert abs(fg.jit(lambda x: fg.special.polygamma(1, x))(x) - 2 * np.pi**2) < 2e-6


def test_the_principal_logarithm_of_gamma_is_no_real_number_for_negative_ones() -> None:
    y = fg.jit(scipy.special.loggamma)(np.array([2.5, -0.5]))
    np.testing.assert_allclose(y, [scipy.special.gammaln(2.5), np.nan])


def test_gamma_functions_of_complex_numbers_are_refused() -> None:
    for f in (scipy.special.gamma, scipy.special.psi, scipy.special.loggamma, lambda z: fg.special.polygamma(2, z)):
        with pytest.raises(fg.errors.DTypeError, match="complex128"):
            fg.grad(lambda z, f=f: f(z).real)(1 + 1j)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 8])
def test_polygamma_gives_the_values_of_scipy(n: int) -> None:
    x = np.array([0.3, 1.0, 2.5, 40.0, -0.25, -3.7])
    true = scipy.special.polygamma(n, x)
    np.testing.assert_allclose(fg.special.polygamma(n, x), true, rtol=1e-13)
    np.testing.assert_allclose(fg.jit(lambda x: fg.special.polygamma(n, x))(x), true, rtol=1e-13)
    np.testing.assert_allclose(fg.vmap(lambda x: fg.special.polygamma(n, x))(x), true, rtol=1e-13)
    y = fg.grad(lambda x: fg.special.polygamma(n, x).sum())(x.astype(np.float32))
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, scipy.special.polygamma(n + 1, x.astype(np.float32).astype(float)), rtol=1e-5)


def test_polygamma_takes_numbers_lists_and_integers() -> None:
    np.testing.assert_allclose(fg.special.polygamma(1, [1, 2]), scipy.special.polygamma(1, [1, 2]))
    assert fg.special.polygamma(2, 3) == scipy.special.polygamma(2, 3)


@pytest.mark.parametrize("n", [-1, 101, 1.5, [1, 2], "1"])
def test_polygamma_of_another_order_is_refused(n: Any) -> None:
    with pytest.raises(fg.errors.ArgumentError, match="from 0 to 100"):
        fg.special.polygamma(n, X)


def test_polygamma_has_no_traced_order() -> None:
    with pytest.raises(fg.errors.ArgumentError, match="order of polygamma"):
        fg.jit(fg.special.polygamma)(1, X)


@pytest.mark.parametrize(
    ("name", "args", "instead"),
    [
        ("polygamma", (2,), r"funcgrad\.special\.polygamma\(n, x\)"),
        ("logsumexp", (), r"funcgrad\.nn\.logsumexp"),
        ("softmax", (), r"funcgrad\.nn\.softmax"),
        ("log_softmax", (), r"funcgrad\.nn\.log_softmax"),
    ],
)
def test_a_function_that_scipy_writes_in_python_names_its_counterpart(
    name: str, args: tuple[Any, ...], instead: str
) -> None:
    f = getattr(scipy.special, name)
    for transformed in (fg.grad(lambda x: f(*args, x).sum()), fg.jit(lambda x: f(*args, x))):
        with pytest.raises(fg.errors.TracedValueError, match=f"scipy.special.{name}`[\\s\\S]*{instead}"):
            transformed(X)
