"""Code that calls `scipy.special` differentiates: SciPy's ufuncs find funcgrad's primitives by name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special

import funcgrad as fg

X = np.array([0.25, 0.5, 0.8])
FUNCTIONS = ["cbrt", "erf", "erfc", "exp2", "expit", "expm1", "log1p", "log_expit", "logit"]


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


def test_the_library_starts_without_scipy() -> None:
    code = "import sys, funcgrad; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
