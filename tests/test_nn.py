"""The functions of `funcgrad.nn` against their definitions, far from where the definitions overflow, and beyond."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import funcgrad as fg
from funcgrad import nn

Function = Callable[..., Any]


def expit(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


DEFINITIONS: dict[str, Function] = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: np.where(x >= 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.exp(x) - 1),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (np.exp(x) - 1)),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x * expit(x),
    "swish": lambda x: x * expit(x),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "glu": lambda x: x[..., :2] * expit(x[..., 2:]),
    "sigmoid": expit,
    "log_sigmoid": lambda x: np.log(expit(x)),
    "softplus": lambda x: np.log(1 + np.exp(x)),
    "tanh": np.tanh,
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "soft_sign": lambda x: x / (1 + np.abs(x)),
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
    "log_softmax": lambda x: np.log(np.exp(x) / np.exp(x).sum(-1, keepdims=True)),
    "logsumexp": lambda x: np.log(np.exp(x).sum()),
}
x = np.array([[-7.5, -2.4, -0.7, -0.2], [0.3, 0.8, 2.2, 6.6]])


def test_every_function_has_its_definition_here() -> None:
    assert set(nn.__all__) == {*DEFINITIONS, "one_hot"}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_function_is_what_its_definition_says(name: str) -> None:
    np.testing.assert_allclose(getattr(nn, name)(x), DEFINITIONS[name](x), rtol=1e-12, atol=1e-16)
    np.testing.assert_allclose(fg.vjp(getattr(nn, name), x)[0], getattr(nn, name)(x), rtol=1e-15)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_function_has_its_derivatives(name: str) -> None:
    fg.testing.check_grads(getattr(nn, name), (x,), order=2, rtol=1e-5)


@pytest.mark.parametrize("name", DEFINITIONS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_value_and_gradient_keep_the_dtype(name: str, dtype: Any) -> None:
    f = getattr(nn, name)
    assert f(x.astype(dtype)).dtype == dtype
    value, pullback = fg.vjp(f, x.astype(dtype))
    assert value.dtype == dtype
    assert pullback(np.ones_like(value))[0].dtype == dtype
    assert fg.eval_shape(f, x.astype(dtype)).dtype == dtype


@pytest.mark.parametrize("name", DEFINITIONS)
@pytest.mark.parametrize("far", [1000.0, 1e4, 1e300, np.float32(1e4), np.float32(1e38), np.float16(1e4)], ids=repr)
def test_nothing_overflows_far_away(name: str, far: Any) -> None:
    """Value and gradient are finite, and there is no warning, which would be an error here."""
    point = np.array([-far, far, 0.5, -far], np.asarray(far).dtype)
    value, pullback = fg.vjp(getattr(nn, name), point)
    (gradient,) = pullback(np.ones_like(value))
    for part in (value, gradient, getattr(nn, name)(point)):
        assert np.isfinite(part).all()
    if name not in ("softmax", "log_softmax", "logsumexp", "glu"):
        slope, pullback = fg.vjp(fg.grad(lambda x: getattr(nn, name)(x).sum()), point)
        (second,) = pullback(np.ones_like(slope))
        assert np.isfinite(second).all()


@pytest.mark.parametrize("name", DEFINITIONS)
@pytest.mark.parametrize("argument", [[[1, 2, 3, 4]], np.array([[1, 2, 3, 4]])], ids=["list", "int array"])
def test_a_list_or_an_integer_array_is_taken(name: str, argument: Any) -> None:
    f = getattr(nn, name)
    np.testing.assert_allclose(f(argument), f(np.asarray(argument, float)), rtol=1e-12)


def test_approximate_gelu_is_close_to_gelu() -> None:
    np.testing.assert_allclose(nn.gelu(x), nn.gelu(x, approximate=False), atol=1e-3)
    np.testing.assert_allclose(nn.gelu(x, approximate=False), x * scipy.special.ndtr(x), rtol=1e-13)
    fg.testing.check_grads(lambda x: nn.gelu(x, approximate=False), (x,), order=2, rtol=1e-5)


def test_the_slopes_of_elu_and_leaky_relu_are_differentiable() -> None:
    fg.testing.check_grads(nn.elu, (x, 1.5), order=2, rtol=1e-5)
    fg.testing.check_grads(nn.leaky_relu, (x, 0.2), order=2, rtol=1e-5)


def test_glu_needs_an_even_length() -> None:
    np.testing.assert_allclose(nn.glu(x, axis=0), x[:1] * expit(x[1:]))
    with pytest.raises(fg.errors.ShapeError, match="odd"):
        nn.glu(np.ones(3))


ELEMENTS = st.one_of(st.floats(-50, 50), st.sampled_from([-np.inf, np.inf, 1e30, -1e30]))
ARRAYS = hnp.arrays(float, hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4), elements=ELEMENTS)
AXES: list[Any] = [None, 0, -1, (0,)]


@given(ARRAYS, st.sampled_from(AXES))
def test_a_softmax_is_a_distribution(x: Any, axis: Any) -> None:
    y = nn.softmax(x, axis)
    total = np.broadcast_to(y.sum(axis, keepdims=True), x.shape)
    nothing = np.broadcast_to(np.max(x, axis, keepdims=True) == -np.inf, x.shape)
    np.testing.assert_allclose(total[~nothing], 1)
    assert np.isnan(y[nothing]).all()
    assert (y[~nothing] >= 0).all()


@given(ARRAYS, st.sampled_from(AXES))
def test_log_softmax_is_the_logarithm_of_softmax(x: Any, axis: Any) -> None:
    y = nn.log_softmax(x, axis)
    np.testing.assert_allclose(np.exp(y), nn.softmax(x, axis), rtol=1e-12, atol=1e-300)


@given(ARRAYS, st.sampled_from(AXES), st.booleans())
def test_the_gradient_of_logsumexp_is_the_softmax_and_zero_where_there_is_none(
    x: Any, axis: Any, keepdims: bool
) -> None:
    y, pullback = fg.vjp(lambda x: nn.logsumexp(x, axis, keepdims=keepdims), x)
    assert np.shape(y) == np.max(x, axis, keepdims=keepdims).shape
    np.testing.assert_allclose(pullback(np.ones_like(y))[0], np.nan_to_num(nn.softmax(x, axis)), rtol=1e-12)


@given(hnp.arrays(float, (3, 4), elements=st.floats(-50, 50)), st.sampled_from(AXES), st.booleans())
def test_logsumexp_is_that_of_scipy(x: Any, axis: Any, keepdims: bool) -> None:
    b = np.linspace(-1.0, 2.0, 4)
    for factors in (None, b):
        ours = nn.logsumexp(x, axis, factors, keepdims, return_sign=True)
        theirs = scipy.special.logsumexp(x, axis, factors, keepdims, return_sign=True)
        # terms of both signs cancel, so what both must agree on is the sum, relative to its largest term
        one, other = (sign * np.exp(log - np.max(x)) for log, sign in (ours, theirs))
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_the_factors_of_logsumexp_are_differentiable() -> None:
    b = np.array([0.5, -0.25, 2.0, 0.0])
    fg.testing.check_grads(
        lambda x, b: nn.logsumexp(x, axis=-1, b=b), (x[:, ::-1], np.array([0.5, -0.25, 2.0, 1.0])), order=2
    )
    np.testing.assert_allclose(fg.grad(lambda x: nn.logsumexp(x, b=b, return_sign=True)[0])(x[0])[3], 0)
    assert np.isnan(nn.logsumexp(np.zeros(2), b=np.array([1.0, -2.0])))
    assert nn.logsumexp(np.zeros(2), b=np.array([1.0, -1.0])) == -np.inf


def test_what_where_leaves_out_has_no_part_in_value_or_gradient() -> None:
    point, mask = np.array([1.0, np.nan, 2.0, np.inf]), np.array([True, False, True, False])
    small = point[mask]
    for f, left_out in ((nn.softmax, 0.0), (nn.log_softmax, -np.inf)):
        y, pullback = fg.vjp(lambda x, f=f: f(x, where=mask), point)
        np.testing.assert_allclose(y[mask], f(small))
        np.testing.assert_array_equal(y[~mask], left_out)
        (gradient,) = pullback(np.array([1.0, 3.0, 0.0, 5.0]))
        np.testing.assert_array_equal(gradient[~mask], 0)
        np.testing.assert_allclose(gradient[mask], fg.vjp(f, small)[1](np.array([1.0, 0.0]))[0])
    assert nn.logsumexp(point, where=mask) == pytest.approx(nn.logsumexp(small))
    np.testing.assert_array_equal(fg.grad(lambda x: nn.logsumexp(x, where=mask))(point)[~mask], 0)


def test_where_nothing_takes_part_softmax_is_zero() -> None:
    none = np.zeros(3, bool)
    np.testing.assert_array_equal(nn.softmax(np.ones(3), where=none), 0)
    np.testing.assert_array_equal(nn.log_softmax(np.ones(3), where=none), -np.inf)
    np.testing.assert_array_equal(fg.grad(lambda x: nn.logsumexp(x, where=none))(np.ones(3)), 0)


def test_large_logits_in_single_precision_keep_their_digits() -> None:
    logits = np.array([10000.0, 10001.0], np.float32)
    np.testing.assert_allclose(nn.log_softmax(logits), nn.log_softmax(logits - 10000), rtol=1e-6)


def test_complex_numbers_have_no_softmax() -> None:
    for f in (nn.softmax, nn.log_softmax, nn.logsumexp):
        with pytest.raises(fg.errors.DTypeError, match=f.__name__):
            f(np.array([1j]))


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_one_hot_marks_the_class_along_a_new_axis(axis: int) -> None:
    classes = np.array([0, 2, 5, -1])
    expected = (classes[:, None] == np.arange(3)).astype(np.float32)
    y = nn.one_hot(classes, 3, dtype=np.float32, axis=axis)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, expected if axis else expected.T)
    assert nn.one_hot(1, 3).shape == (3,)
    assert nn.one_hot([[1, 2]], 4, axis=1).shape == (1, 4, 2)


def test_one_hot_is_piecewise_constant() -> None:
    np.testing.assert_array_equal(fg.grad(lambda x: nn.one_hot(x, 3).sum())(np.array([0.0, 1.0])), 0)


@pytest.mark.parametrize("name", sorted({*DEFINITIONS} - {"glu", "softmax", "log_softmax", "logsumexp"}))
def test_a_structural_zero_passes_through_an_activation(name: str) -> None:
    """`where` takes the other branch at 0, so the infinite slope of the logarithm has no part in the gradient."""
    with np.errstate(all="ignore"):
        gradient = fg.grad(lambda x: np.where(x > 0, getattr(nn, name)(np.log(x)), 0.0).sum())(np.arange(3.0))
    assert gradient[0] == 0
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("f", [nn.softmax, nn.log_softmax, lambda x: nn.logsumexp(x, -1, keepdims=True)])
def test_a_structural_zero_passes_through_a_row_of_a_softmax(f: Function) -> None:
    point, weights = np.array([[0.0, 0.0], [1.0, 2.0]]), np.array([1.0, -2.0])
    with np.errstate(all="ignore"):
        gradient = fg.grad(lambda x: (np.where(x[:, :1] > 0, f(np.log(x)), 0.0) * weights).sum())(point)
    np.testing.assert_array_equal(gradient[0], 0)
    np.testing.assert_allclose(gradient[1], fg.grad(lambda x: (f(np.log(x)) * weights).sum())(point[1:])[0])
