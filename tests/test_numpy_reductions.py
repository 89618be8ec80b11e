"""Reductions, statistics and running sums are NumPy's, and their gradients are the derivatives of them."""

from __future__ import annotations

import warnings
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
from funcgrad.transforms.tracing.stage import stage

NAN, INF = np.nan, np.inf

# What of axis, keepdims, dtype, where, initial and ddof each function is drawn with.
OPTIONS = {
    "sum": "akdwi",
    "prod": "akdwi",
    "max": "akm",
    "min": "akm",
    "amax": "akm",
    "amin": "akm",
    "ptp": "ak",
    "any": "akw",
    "all": "akw",
    "mean": "akdw",
    "var": "akdwf",
    "std": "akdwf",
    "median": "ak",
    "argmax": "1k",
    "argmin": "1k",
    "count_nonzero": "ak",
    "nansum": "akdwi",
    "nanprod": "akdwi",
    "nanmax": "akm",
    "nanmin": "akm",
    "nanmean": "akdw",
    "nanvar": "akdwf",
    "nanstd": "akdwf",
    "cumsum": "1d",
    "cumprod": "1d",
}
SMOOTH = sorted(set(OPTIONS) - {"any", "all", "argmax", "argmin", "count_nonzero"})
REAL = ("median", "ptp")
DTYPES = st.sampled_from(["b1", "i1", "u2", "i8", "f2", "f4", "f8", "c8", "c16"])

functions = pytest.mark.parametrize("name", sorted(OPTIONS))
smooth = pytest.mark.parametrize("name", SMOOTH)


def numbers(shape: tuple[int, ...], dtype: str, seed: int) -> Any:
    random = np.random.default_rng(seed)
    if np.dtype(dtype).kind in "biu":
        return random.integers(0, 4, shape).astype(dtype)
    x = random.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * random.standard_normal(shape)
    return np.asarray(x).astype(dtype)


@st.composite
def options(draw: st.DrawFn, letters: str, shape: tuple[int, ...]) -> dict[str, Any]:
    ndim = len(shape)
    out: dict[str, Any] = {}
    axes = st.none() | (st.sampled_from(range(-ndim, ndim)) if ndim else st.none())
    if "a" in letters and ndim:
        axes |= st.lists(st.sampled_from(range(ndim)), unique=True).map(tuple)
    out["axis"] = draw(axes)
    if "k" in letters:
        out["keepdims"] = draw(st.booleans())
    if "d" in letters and draw(st.booleans()):
        out["dtype"] = draw(st.sampled_from([np.float32, np.float64]))
    masked = ("w" in letters or "m" in letters) and draw(st.booleans())
    if masked:
        out["where"] = draw(hnp.arrays(bool, shape[draw(st.integers(0, ndim)) :] if ndim else ()))
    if ("i" in letters and draw(st.booleans())) or ("m" in letters and (masked or draw(st.booleans()))):
        out["initial"] = draw(st.sampled_from([1, 2.0]))
    if "f" in letters:
        out["ddof"] = draw(st.sampled_from([0, 1, 0.5]))
    return out


@st.composite
def calls(draw: st.DrawFn, name: str, dtypes: st.SearchStrategy[str] = DTYPES, least: int = 1) -> tuple[Any, Any]:
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=least, max_side=3))
    x = numbers(shape, draw(dtypes), draw(st.integers(0, 10**6)))
    if name.startswith("nan") and x.dtype.kind in "fc":
        x = np.where(draw(hnp.arrays(bool, shape)), x.dtype.type(NAN), x)
    return x, draw(options(OPTIONS[name], shape))


def numpys(name: str, x: Any, kwargs: dict[str, Any]) -> Any:
    """NumPy's result, or None where NumPy has none."""
    try:
        return getattr(np, name)(x, **kwargs)
    except (TypeError, ValueError, np.exceptions.AxisError):
        return None


def staged_all(f: Callable[..., Any], *args: Any) -> Any:
    return evaluate(stage(f, args, {})[0], args)


def staged(f: Callable[..., Any], *args: Any) -> Any:
    return staged_all(f, *args)[0]


def agree(got: Any, expected: Any) -> None:
    assert np.shape(got) == np.shape(expected)
    assert np.asarray(got).dtype == np.asarray(expected).dtype
    dtype = np.asarray(expected).dtype
    rtol = 4 * float(np.finfo(dtype).eps) if dtype.kind in "fc" else 0
    np.testing.assert_allclose(got, expected, rtol=10 * rtol, atol=rtol)


@functions
@settings(max_examples=50)
@given(data=st.data())
def test_a_traced_array_gives_what_numpy_gives(name: str, data: st.DataObject) -> None:
    x, kwargs = data.draw(calls(name, least=0 if name in ("sum", "prod", "any", "all") else 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = numpys(name, x, kwargs)
        if expected is not None and not (name in REAL and x.dtype.kind == "c"):
            agree(staged(lambda x: getattr(fnp, name)(x, **kwargs), x), expected)
            if x.dtype.kind in "fc":
                agree(fg.vjp(lambda x: getattr(fnp, name)(x, **kwargs), x)[0], expected)
                agree(fg.vjp(lambda x: getattr(np, name)(x, **kwargs), x)[0], expected)


@functions
@settings(max_examples=20)
@given(data=st.data())
def test_a_plain_array_gives_numpys_own_result(name: str, data: st.DataObject) -> None:
    x, kwargs = data.draw(calls(name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = numpys(name, x, kwargs)
        if expected is not None:
            got = getattr(fnp, name)(x, **kwargs)
            assert type(got) is type(expected)
            assert got.dtype == expected.dtype if hasattr(got, "dtype") else True
            np.testing.assert_array_equal(got, expected)


@smooth
@settings(max_examples=40)
@given(data=st.data())
def test_the_pullback_agrees_with_central_differences_at_two_orders(name: str, data: st.DataObject) -> None:
    dtypes = st.just("f8") if name in REAL or "m" in OPTIONS[name] else st.sampled_from(["f8", "c16"])
    x, kwargs = data.draw(calls(name, dtypes))
    kwargs.pop("dtype", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        y = numpys(name, x, kwargs)
        if y is None or not np.isfinite(y).all() or (name.endswith(("std", "var")) and np.any(np.abs(y) < 1e-2)):
            return
        # NaN elements have gradient zero, which differences of NaN can't say: only the others are varied
        present = ~np.isnan(x)

        def f(part: Any) -> Any:
            return getattr(fnp, name)(fnp.where(present, part, x), **kwargs)

        fg.testing.check_grads(f, (np.where(present, x, 0.0),), order=2, rtol=1e-5)


@smooth
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "c8", "c16"])
def test_a_gradient_has_the_dtype_and_the_shape_of_its_input(name: str, dtype: str) -> None:
    if name in REAL and dtype[0] == "c":
        return
    x = numbers((2, 3), dtype, 0)
    y, pullback = fg.vjp(lambda x: getattr(fnp, name)(x, axis=1), x)
    (g,) = pullback(np.ones_like(y))
    assert g.shape == x.shape
    assert g.dtype == x.dtype


A = np.array


def weighted(f: Callable[..., Any], *weights: float) -> Callable[..., Any]:
    return lambda x: f(x) @ A(weights)


ROWS: list[tuple[str, Callable[..., Any], Any, Any]] = [
    ("max shares", fnp.max, [1, 3, 3, 2], [0, 0.5, 0.5, 0]),
    ("amax shares", fnp.amax, [1, 3, 3, 2], [0, 0.5, 0.5, 0]),
    ("min shares", fnp.min, [3, 1, 1, 2], [0, 0.5, 0.5, 0]),
    ("amin shares", fnp.amin, [3, 1, 1, 2], [0, 0.5, 0.5, 0]),
    ("max along an axis shares", lambda x: fnp.max(x, 1).sum(), [[1, 3, 3], [2, 0, 1]], [[0, 0.5, 0.5], [1, 0, 0]]),
    ("NumPy's max shares", np.max, [1, 3, 3, 2], [0, 0.5, 0.5, 0]),
    ("the method shares", lambda x: x.max(), [1, 3, 3, 2], [0, 0.5, 0.5, 0]),
    ("std of equal elements", fnp.std, [2, 2, 2], [0, 0, 0]),
    ("std of a single element", fnp.std, [2], [0]),
    ("std of equal rows", lambda x: fnp.std(x, 1).sum(), [[2, 2], [1, 3]], [[0, 0], [-0.5, 0.5]]),
    ("var of equal elements", fnp.var, [2, 2, 2], [0, 0, 0]),
    ("var of a single element", fnp.var, [2], [0]),
    ("unbiased var", lambda x: fnp.var(x, ddof=1), [1, 2, 4], [-4 / 3, -1 / 3, 5 / 3]),
    ("prod with a zero", fnp.prod, [0, 2, 3], [6, 0, 0]),
    ("prod with two zeros", fnp.prod, [0, 0, 3], [0, 0, 0]),
    ("prod of nothing", fnp.prod, [], []),
    ("cumprod with a zero", lambda x: fnp.cumprod(x).sum(), [2, 0, 3], [1, 8, 0]),
    ("cumprod with two zeros", lambda x: fnp.cumprod(x).sum(), [0, 0, 3], [1, 0, 0]),
    ("cumsum", weighted(fnp.cumsum, 1, 2, 3), [5, 6, 7], [6, 5, 3]),
    ("nansum", fnp.nansum, [1, NAN, 2], [1, 0, 1]),
    ("nanprod", fnp.nanprod, [3, NAN, 2], [2, 0, 3]),
    ("nanmean", fnp.nanmean, [1, NAN, 2], [0.5, 0, 0.5]),
    ("nanvar", fnp.nanvar, [1, NAN, 3], [-1, 0, 1]),
    ("nanstd", fnp.nanstd, [1, NAN, 3], [-0.5, 0, 0.5]),
    ("nanmax", fnp.nanmax, [1, NAN, 2], [0, 0, 1]),
    ("nanmin", fnp.nanmin, [1, NAN, 2], [1, 0, 0]),
    ("masked mean", lambda x: fnp.mean(x, where=[True, False, True]), [1, NAN, 2], [0.5, 0, 0.5]),
    ("masked var", lambda x: fnp.var(x, where=[True, False, True]), [1, NAN, 3], [-1, 0, 1]),
    ("masked sum", lambda x: fnp.sum(x, where=[True, False, True]), [1, NAN, 2], [1, 0, 1]),
    ("masked prod", lambda x: fnp.prod(x, where=[True, False, True]), [5, NAN, 2], [2, 0, 5]),
    ("masked max", lambda x: fnp.max(x, where=[True, False, True], initial=-INF), [1, NAN, 2], [0, 0, 1]),
    ("median, odd", fnp.median, [1, 2, 2, 2, 3], [0, 0, 1, 0, 0]),
    ("median, even", fnp.median, [1, 2, 2, 3], [0, 0.5, 0.5, 0]),
    ("median with NaN", fnp.median, [1, NAN], [NAN, NAN]),
    ("median with NaN, odd", fnp.median, [1, NAN, 2], [NAN, NAN, NAN]),
    (
        "median with NaN in one row",
        lambda x: fnp.median(x, 1).sum(),
        [[1, NAN, INF], [3, 1, 2]],
        [[NAN, NAN, NAN], [0, 0, 1]],
    ),
    ("quantile", lambda x: fnp.quantile(x, 0.3), [1, 2, 3, 4], [0.1, 0.9, 0, 0]),
    ("max with NaN", fnp.max, [1, NAN, 3], [NAN, NAN, NAN]),
    ("max with NaN in one row", lambda x: fnp.max(x, 1).sum(), [[1, NAN], [1, 2]], [[NAN, NAN], [0, 1]]),
    ("sum of nothing", fnp.sum, [], []),
    ("argmax, then that element", lambda x: x[fnp.argmax(x)] ** 2, [1, 3, 2], [0, 6, 0]),
    ("argmax with NaN", lambda x: x[fnp.argmax(x)], [1, NAN, 2], [0, 1, 0]),
    ("max of square roots at 0", lambda x: fnp.max(fnp.sqrt(x)), [0, 4], [0, 0.25]),
    ("the maximum not taken", lambda x: fnp.where(x[0] > 1, fnp.max(fnp.sqrt(x)), 0.0), [0, 0], [0, 0]),
    ("the product not taken", lambda x: fnp.where(x[0] > 1, fnp.prod(fnp.sqrt(x)), 0.0), [0, 4], [0, 0]),
    (
        "the running product not taken",
        lambda x: fnp.where(A([True, False]), fnp.cumprod(fnp.sqrt(x)), 0.0).sum(),
        [4, 0],
        [0.25, 0],
    ),
    (
        "the running sum not taken",
        lambda x: fnp.where(A([True, False]), fnp.cumsum(fnp.sqrt(x)), 0.0).sum(),
        [4, 0],
        [0.25, 0],
    ),
    ("max of no rows", lambda x: fnp.max(x, 1).sum(), np.zeros((0, 3)), np.zeros((0, 3))),
]


@pytest.mark.parametrize(("f", "x", "expected"), [pytest.param(*row, id=name) for name, *row in ROWS])
def test_the_gradient_at_a_corner_case_is(f: Callable[..., Any], x: Any, expected: Any) -> None:
    x = A(x, float)
    np.testing.assert_allclose(fg.grad(f)(x), A(expected, float), rtol=1e-14)


def hessian(f: Callable[..., Any], x: Any) -> Any:
    _, pullback = fg.vjp(fg.grad(f), x)
    return np.stack([pullback(v)[0] for v in np.eye(len(x))])


@pytest.mark.parametrize("x", [[0, 2, 3], [0, 0, 3], [0, 0, 0], [1, 2, 3]])
def test_the_hessian_of_a_product_is_the_product_of_the_others(x: list[float]) -> None:
    a, b, c = x
    np.testing.assert_allclose(hessian(fnp.prod, A(x, float)), [[0, c, b], [c, 0, a], [b, a, 0]])


def test_the_third_derivative_of_a_product_is_right_at_zeros() -> None:
    x = np.zeros(3)
    third = fg.grad(lambda x: fg.grad(lambda x: fg.grad(fnp.prod)(x)[0])(x)[1])(x)
    np.testing.assert_array_equal(third, [0, 0, 1])


def test_a_running_product_of_huge_and_zero_elements_has_a_finite_gradient() -> None:
    np.testing.assert_allclose(fg.grad(lambda x: fnp.cumprod(x)[2])(A([1e200, 1e-200, 0.0])), [0, 0, 1], rtol=1e-14)


def test_the_quantile_is_differentiable_in_its_fraction() -> None:
    x = A([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0], [4.0, 8.0]])
    assert np.isclose(fg.grad(lambda q: fnp.quantile(x[:, 0], q))(0.3), 3.0)
    y, pullback = fg.vjp(lambda q: fnp.quantile(x, q, axis=0), A([0.3, 0.5]))
    np.testing.assert_allclose(y, np.quantile(x, [0.3, 0.5], axis=0))
    np.testing.assert_allclose(pullback(np.ones((2, 2)))[0], [9, 9])


METHODS = [
    "linear",
    "lower",
    "higher",
    "nearest",
    "midpoint",
    "hazen",
    "weibull",
    "median_unbiased",
    "normal_unbiased",
    "interpolated_inverted_cdf",
]


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=30)
@given(data=st.data())
def test_a_quantile_is_numpys(method: str, data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(max_dims=3, max_side=4))
    x = numbers(shape, data.draw(st.sampled_from(["f4", "f8", "i8"])), data.draw(st.integers(0, 10**6)))
    if x.dtype.kind == "f" and data.draw(st.booleans()):
        x.flat[0] = NAN
    fractions = st.sampled_from([0.0, 0.25, 0.3, 0.5, 0.9, 1.0])
    q = data.draw(fractions | st.lists(fractions, max_size=3).map(np.array) | st.just(A([[0.1], [0.7]])))
    kwargs: dict[str, Any] = data.draw(options("ak", shape))
    kwargs["method"] = method
    expected = np.quantile(x, q, **kwargs)
    agree(staged(lambda x: fnp.quantile(x, q, **kwargs), x), expected)
    agree(staged(lambda x: fnp.percentile(x, 100 * q, **kwargs), x), np.percentile(x, 100 * q, **kwargs))
    if x.dtype.kind == "f":
        agree(fg.vjp(lambda x: fnp.quantile(x, q, **kwargs), x)[0], expected)
    if x.dtype == np.float64 and not np.isnan(x).any():
        fg.testing.check_grads(lambda x: fnp.quantile(x, q, **kwargs), (x,), order=2)


@settings(max_examples=50)
@given(data=st.data())
def test_an_average_is_numpys_and_differentiable_in_elements_and_weights(data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(max_dims=3, max_side=3))
    kwargs = data.draw(options("ak", shape))
    axis = kwargs["axis"]
    x = numbers(shape, data.draw(st.sampled_from(["f4", "f8", "i8"])), data.draw(st.integers(0, 10**6)))
    axes = () if axis is None else axis if isinstance(axis, tuple) else (axis,)
    wide = data.draw(st.booleans()) or not axes
    weights = np.random.default_rng(0).uniform(1, 2, shape if wide else tuple(shape[i] for i in axes))
    for got, expected in zip(
        staged_all(lambda x, w: fnp.average(x, weights=w, returned=True, **kwargs), x, weights),
        np.average(x, weights=weights, returned=True, **kwargs),
        strict=True,
    ):
        agree(got, expected)
    for got, expected in zip(
        staged_all(lambda x: fnp.average(x, returned=True, **kwargs), x),
        np.average(x, returned=True, **kwargs),
        strict=True,
    ):
        agree(got, expected)
    agree(staged(lambda x: fnp.average(x, weights=weights, **kwargs), x), np.average(x, weights=weights, **kwargs))
    fg.testing.check_grads(lambda x, w: fnp.average(x, weights=w, **kwargs), (x.astype(float), weights), order=2)


@pytest.mark.parametrize("name", ["cumulative_sum", "cumulative_prod"])
@settings(max_examples=30)
@given(data=st.data())
def test_an_array_api_running_sum_is_numpys(name: str, data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(max_dims=2, max_side=3))
    x = numbers(shape, data.draw(DTYPES), 0)
    axis = data.draw(st.sampled_from(range(-len(shape), len(shape))) | (st.none() if len(shape) == 1 else st.just(0)))
    initial = data.draw(st.booleans())
    expected = getattr(np, name)(x, axis=axis, include_initial=initial)
    agree(staged(lambda x: getattr(fnp, name)(x, axis=axis, include_initial=initial), x), expected)
    agree(getattr(fnp, name)(x, axis=axis, include_initial=initial), expected)


def test_the_known_mean_of_a_variance_is_differentiated_on_its_own() -> None:
    x, m = A([1.0, 2.0, 4.0]), A([2.0])
    gx, gm = fg.grad(lambda x, m: fnp.var(x, mean=m), argnums=(0, 1))(x, m)
    np.testing.assert_allclose(gx, 2 * (x - m) / 3)
    np.testing.assert_allclose(gm, [-2 / 3])


def test_where_and_initial_may_be_traced() -> None:
    x = A([1.0, 2.0])
    assert fg.grad(lambda c: fnp.sum(x, initial=c))(3.0) == 1.0
    assert fg.grad(lambda c: fnp.max(x, initial=c))(3.0) == 1.0
    assert fg.grad(lambda c: fnp.prod(x, initial=c))(3.0) == 2.0
    mask = A([True, False])
    assert staged(lambda x, m: fnp.mean(x, where=m), x, mask) == 1.0


@pytest.mark.parametrize(
    ("name", "slope"),
    [("sum", 1), ("prod", 1), ("max", 1), ("mean", 1), ("median", 1), ("nansum", 1), ("std", 0), ("ptp", 0)],
)
def test_a_python_number_is_reduced_like_an_array_without_axes(name: str, slope: int) -> None:
    f = getattr(fnp, name)
    assert fg.grad(f)(3.0) == slope
    assert fg.grad(lambda x: f(x, keepdims=True))(3.0) == slope
    assert fg.grad(lambda x: fg.grad(lambda x: f(x) ** 2)(x))(3.0) == 2 * slope
    assert fg.grad(lambda x: fnp.cumsum(x)[0] * fnp.cumprod(x)[0])(3.0) == 6


def test_a_list_of_traced_values_is_an_array() -> None:
    np.testing.assert_array_equal(fg.grad(lambda x: fnp.sum([x[0], 2 * x[1]]))(A([1.0, 1.0])), [1, 2])
    np.testing.assert_array_equal(fg.grad(lambda x: fnp.max([x[0], [x[1]][0]]))(A([1.0, 2.0])), [0, 1])


def test_half_precision_means_are_added_up_in_single_precision() -> None:
    x = np.full(2, 60000, np.float16)
    with np.errstate(over="ignore"):
        assert fg.vjp(fnp.sum, x)[0] == INF
    assert fg.vjp(fnp.mean, x)[0] == 60000
    assert fg.grad(fnp.mean)(x).dtype == np.float16


def test_a_single_precision_sum_of_many_is_pairwise() -> None:
    x = np.full(10**7, 0.1, np.float32)
    assert fg.vjp(fnp.sum, x)[0] == np.sum(x)
    assert abs(float(fg.vjp(fnp.sum, x)[0]) - 1e6) < 1


def test_the_mean_of_nothing_is_nan_with_numpys_warning() -> None:
    with pytest.warns(RuntimeWarning, match="Mean of empty slice"), np.errstate(invalid="ignore"):
        y, pullback = fg.vjp(fnp.mean, A([]))
    assert np.isnan(y)
    assert pullback(np.float64(1.0))[0].shape == (0,)


def test_too_few_degrees_of_freedom_warn_as_numpy_does() -> None:
    with pytest.warns(RuntimeWarning, match="Degrees of freedom <= 0"), np.errstate(invalid="ignore"):
        assert np.isnan(fg.vjp(lambda x: fnp.var(x, ddof=1), A([1.0]))[0])


def test_a_slice_of_only_nan_gives_nan_with_gradient_zero_and_numpys_warning() -> None:
    x = A([[NAN, NAN], [1.0, NAN]])
    with pytest.warns(RuntimeWarning, match="All-NaN slice encountered"):
        y, pullback = fg.vjp(lambda x: fnp.nanmax(x, axis=1), x)
    np.testing.assert_array_equal(y, [NAN, 1.0])
    np.testing.assert_array_equal(pullback(np.ones(2))[0], [[0, 0], [1, 0]])


@pytest.mark.parametrize("name", ["max", "min", "argmax", "argmin"])
def test_an_extremum_of_nothing_says_what_to_do(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} of no elements: an array of shape \\(0, 3\\).*\n.*\n  Fix:"):
        fg.vjp(lambda x: getattr(fnp, name)(x, axis=0), np.zeros((0, 3)))
    with pytest.raises(ValueError, match=f"{name} of no elements"):
        staged(lambda x: getattr(fnp, name)(x, axis=0), np.zeros((0, 3)))


def test_a_start_value_stands_in_for_no_elements() -> None:
    np.testing.assert_array_equal(fg.vjp(lambda x: fnp.max(x, axis=0, initial=7), np.zeros((0, 2)))[0], [7, 7])


def test_a_masked_maximum_needs_a_start_value() -> None:
    with pytest.raises(ValueError, match=r"max with where= needs a value.*\n.*\n  Fix: max\(x, where=mask, initial="):
        fg.grad(lambda x: fnp.max(x, where=[True, False]))(A([1.0, 2.0]))


def test_out_is_refused_with_the_way_out() -> None:
    with pytest.raises(TypeError, match=r"sum\(\.\.\., out=\.\.\.\).*\n.*\n  Fix: .*y = sum\(x\)"):
        fnp.sum(A([1.0]), out=np.zeros(()))


def test_weights_that_do_not_fit_or_cancel_are_refused() -> None:
    x = A([[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(ValueError, match=r"weights of shape \(3,\)"):
        fg.grad(lambda x: fnp.average(x, axis=0, weights=np.ones(3)).sum())(x)
    with pytest.raises(ZeroDivisionError, match="sum to zero"):
        fg.grad(lambda x: fnp.average(x, weights=np.zeros((2, 2))))(x)


def test_a_quantile_outside_of_0_to_1_is_refused() -> None:
    with pytest.raises(ValueError, match=r"range \[0, 1\], got 50"):
        fg.grad(lambda x: fnp.quantile(x, 50))(A([1.0, 2.0]))


@pytest.mark.parametrize("axis", [2, -3, (0, 0), (0, 5)])
def test_an_axis_that_is_not_there_is_refused_as_numpy_does(axis: Any) -> None:
    with pytest.raises(ValueError, match=r"axis|axes"):
        fg.grad(lambda x: fnp.sum(x, axis).sum())(np.ones((2, 2)))


@pytest.mark.parametrize(
    ("ufunc", "name"),
    [
        (np.add, "sum"),
        (np.multiply, "prod"),
        (np.maximum, "max"),
        (np.minimum, "min"),
        (np.logical_or, "any"),
        (np.logical_and, "all"),
    ],
)
def test_the_reduce_method_of_a_ufunc_is_the_reduction_along_the_first_axis(ufunc: np.ufunc, name: str) -> None:
    x = numbers((2, 3), "f8", 0)
    agree(fg.vjp(lambda x: ufunc.reduce(x), x)[0], ufunc.reduce(x))
    agree(fg.vjp(lambda x: ufunc.reduce(x, axis=None, keepdims=True), x)[0], ufunc.reduce(x, axis=None, keepdims=True))
    agree(fg.vjp(lambda x: getattr(x, name)(1), x)[0], getattr(x, name)(1))


def test_an_operation_without_a_derivative_returns_plain_arrays_under_grad() -> None:
    def f(x: Any) -> Any:
        assert isinstance(fnp.argmax(x), np.integer)
        assert isinstance(fnp.any(x > 0), np.bool_)
        assert fnp.count_nonzero(x) == 2
        return x.sum()

    fg.grad(f)(A([1.0, 2.0, 0.0]))
