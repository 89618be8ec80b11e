"""Vector math is within 4 units in the last place of the true value, over the whole domain, in single and in double.

The true value is NumPy's in extended precision, so these tests need a platform that has it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from funcgrad.compiler.native.vectormath import FUNCTIONS
from funcgrad.ops import elementwise as ew

EXTENDED = np.longdouble
pytestmark = pytest.mark.skipif(np.finfo(EXTENDED).nmant < 60, reason="long double is double here")
# thresholds, and what has values of its own
SPECIAL = [
    *(0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, -0.5, 1e-8, -1e-17, 1e-30, 5e-324, -5e-324, 1e-310),
    *(709.78, 709.79, -708.5, -745.1, -745.2, 88.7, 88.8, -87.5, -103.9, -104.1, 1e-45, 22.5, 1023.9, 1024.0, -1075.5),
    *(2.0**20, 2.0**20 + 1, 3.3e6, 1e22, 1e300, np.pi / 2, np.pi, 1e5 * np.pi),
]


def sigmoid(x: Any) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


TRUE: dict[str, Callable[..., Any]] = {
    **{name: getattr(np, name) for name in ("exp", "exp2", "expm1", "log", "log1p", "tanh", "sin", "cos")},
    "sigmoid": sigmoid,
}


def sample(dtype: Any) -> Any:
    rng = np.random.default_rng(0)
    unsigned = np.dtype(f"u{np.dtype(dtype).itemsize}")
    everywhere = rng.integers(0, 2 ** (8 * unsigned.itemsize), 50_000, dtype=unsigned).view(dtype)
    dense = [rng.uniform(-800, 800, 20_000), rng.uniform(-4, 4, 50_000), np.exp(rng.uniform(-40, 5, 20_000))]
    quarters = np.pi / 2 * np.arange(1, 20_000)
    return np.concatenate([everywhere, *(x.astype(dtype) for x in (*dense, quarters, np.array(SPECIAL)))])


def units_off(y: Any, true: Any) -> Any:
    """How far off `y` is, in units of the last place; infinite where a special value is another one."""
    rounded = true.astype(y.dtype)
    finite = np.isfinite(rounded)
    unit = np.spacing(np.abs(np.where(finite, rounded, 1))).astype(EXTENDED)
    off = np.abs(y.astype(EXTENDED) - true) / unit
    alike = (y == rounded) | (np.isnan(y) & np.isnan(rounded))
    return np.where(finite, np.where(np.isnan(y), np.inf, off), np.where(alike, 0, np.inf))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", TRUE)
def test_a_function_is_within_four_units_in_the_last_place(name: str, dtype: Any) -> None:
    function = getattr(ew, name)
    with np.errstate(all="ignore"):
        x = sample(dtype)
        compiled = fg.jit(lambda x: function(x))
        y, true = compiled(x), TRUE[name](x.astype(EXTENDED))
        off = units_off(y, true)
    assert name in compiled.lower(x).as_text("kernels")
    assert off.max() <= 4, f"{name}({x[off.argmax()]!r}) is {y[off.argmax()]!r}, {off.max()} units off"
    np.testing.assert_array_equal(np.signbit(y[y == 0]), np.signbit(true[y == 0]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logaddexp_is_within_four_units_of_the_larger_term(dtype: Any) -> None:
    rng = np.random.default_rng(1)
    x, y = (rng.uniform(-50, 50, 20_000).astype(dtype) for _ in range(2))
    special = np.array([0.0, np.inf, -np.inf, np.nan, 1.0, -1e3], dtype)
    x, y = (np.concatenate([z, s]) for z, s in ((x, np.repeat(special, 6)), (y, np.tile(special, 6))))
    with np.errstate(all="ignore"):
        z, true = fg.jit(np.logaddexp)(x, y), np.logaddexp(x.astype(EXTENDED), y.astype(EXTENDED))
        unit = np.spacing(np.maximum(1, np.maximum(np.abs(x), np.abs(y))))
        finite = np.isfinite(true) & np.isfinite(unit)
        assert (np.abs(z - true)[finite] <= 4 * unit[finite]).all()
    np.testing.assert_array_equal(z[~np.isfinite(true)], true[~np.isfinite(true)].astype(dtype))


def test_every_function_is_tested() -> None:
    assert set(FUNCTIONS) == {*TRUE, "logaddexp"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_half_precision_is_that_of_single_rounded(name: str) -> None:
    function = getattr(ew, name)
    x = np.arange(2**16, dtype=np.uint16).view(np.float16)[::17]
    args = [x, x[::-1].copy()] if name == "logaddexp" else [x]
    with np.errstate(all="ignore"):
        y = fg.jit(lambda *args: function(*args))(*args)
        expected = fg.jit(lambda *args: function(*args))(*[a.astype(np.float32) for a in args]).astype(np.float16)
    np.testing.assert_array_equal(y, expected)
