"""Derivatives of derivatives: transformations compose in any order, and each sees the others as constants.

Where a law exists (chain rule, product rule, symmetry of second derivatives) it is the test; closed forms anchor it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcgrad as fg
from funcgrad.core.ir import check, evaluate

Function = Callable[..., Any]

numbers = st.floats(-2, 2).map(lambda x: round(x, 3))
few = settings(max_examples=30)


def close(a: Any, b: Any, rtol: float = 1e-9, atol: float = 1e-9) -> None:
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=atol)


def iterate(transform: Callable[[Function], Function], f: Function, times: int) -> Function:
    for _ in range(times):
        f = transform(f)
    return f


# Ways to differentiate a function of one number. Each must be the derivative, whatever stands inside and around it.


def by_grad(f: Function) -> Function:
    return fg.grad(f)


def by_value_and_grad(f: Function) -> Function:
    return lambda x: fg.value_and_grad(f)(x)[1]


def by_vjp(f: Function) -> Function:
    def derivative(x: Any) -> Any:
        y, pullback = fg.vjp(f, x)
        return pullback(np.ones(y.shape, y.dtype)[()])[0]

    return derivative


def by_hvp(f: Function) -> Function:
    """By a second derivative: (t · f(x + t))″ = 2 f′(x) at t = 0."""
    return lambda x: fg.hvp(lambda t: t * f(x + t))(np.float64(0.5), np.float64(0.0))


def by_staging(f: Function) -> Function:
    """Through the jaxpr of the gradient."""
    return lambda x: evaluate(fg.make_jaxpr(fg.grad(f))(x), [x])[0]


def by_grad_of_staged(f: Function) -> Function:
    """The gradient of the jaxpr."""
    return lambda x: fg.grad(lambda z: evaluate(fg.make_jaxpr(f)(z), [z])[0])(x)


def by_product_trick(f: Function) -> Function:
    """With another variable in between: f′(x) = d/dx of (d/dt of t · f(x))."""
    return lambda x: fg.grad(lambda z: fg.grad(lambda t: t * f(z))(1.0))(x)


WAYS = [by_grad, by_value_and_grad, by_vjp, by_hvp, by_staging, by_grad_of_staged, by_product_trick]


def g(x: Any) -> Any:
    return np.sin(2 * x) * np.exp(x)


def g_third(x: float) -> float:
    # (sin 2x · e^x)‴ = Im (1 + 2i)³ e^((1 + 2i) x)
    z = 1 + 2j
    return float((z**3 * np.exp(z * x)).imag)


@pytest.mark.parametrize(
    "ways", list(itertools.product(WAYS, repeat=3)), ids=lambda ways: " ".join(way.__name__[3:] for way in ways)
)
def test_the_third_derivative_does_not_depend_on_the_way(ways: tuple[Callable[[Function], Function], ...]) -> None:
    f: Function = g
    for way in ways:
        f = way(f)
    close(f(np.float64(0.3)), g_third(0.3))


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_fourth_derivative(way: Callable[[Function], Function]) -> None:
    close(fg.grad(way(fg.grad(way(np.sin))))(np.float64(0.3)), math.sin(0.3))


@pytest.mark.parametrize("order", range(6))
@pytest.mark.parametrize("x", [0.3, np.float64(-1.2), np.array(2.0)])
def test_the_nth_derivative_of_the_sine_turns_by_a_right_angle(order: int, x: Any) -> None:
    close(iterate(fg.grad, np.sin, order)(x), math.sin(float(x) + order * math.pi / 2))


@few
@given(n=st.integers(0, 6), order=st.integers(1, 4), x=numbers)
def test_the_nth_derivative_of_a_power(n: int, order: int, x: float) -> None:
    expected = math.perm(n, order) * x ** (n - order) if order <= n else 0.0
    close(iterate(fg.grad, lambda z: z**n, order)(x), expected)


# ── perturbation confusion


def test_an_inner_derivative_does_not_see_the_outer_variable() -> None:
    # d/dx [x · d/dy (x + y)] = d/dx [x · 1] = 1
    assert fg.grad(lambda x: x * fg.grad(lambda y: x + y)(1.0))(3.0) == 1.0
    # d/dx [x · d/dy (x · y)] = d/dx [x · x] = 2x
    assert fg.grad(lambda x: x * fg.grad(lambda y: x * y)(1.0))(3.0) == 6.0


def test_two_variables_with_the_same_value_are_two_variables() -> None:
    # d/dx [x · d/dy (x² y³) at y = x] = d/dx [3 x⁵] = 15 x⁴
    assert fg.grad(lambda x: x * fg.grad(lambda y: x**2 * y**3)(x))(2.0) == 15 * 2.0**4


def test_three_levels_each_know_their_own_variable() -> None:
    # f = d/dy of [y · d/dz (x y² z³) at z = y] = d/dy of [3 x y⁵] = 15 x y⁴, at y = x: 15 x⁵; its derivative is 75 x⁴
    def f(x: Any) -> Any:
        return fg.grad(lambda y: y * fg.grad(lambda z: x * y**2 * z**3)(y))(x)

    close(f(1.5), 15 * 1.5**5)
    close(fg.grad(f)(1.5), 75 * 1.5**4)


def test_an_inner_function_that_ignores_its_variable_has_derivative_zero() -> None:
    assert fg.grad(lambda x: fg.grad(lambda y: x**2)(x) + x)(3.0) == 1.0


def test_a_closure_over_several_outer_levels() -> None:
    def f(x: Any, y: Any) -> Any:
        inner = fg.grad(lambda z: (x * y * z).sum() + (x * z**2).sum())(x)  # x y + 2 x²
        return (inner * y).sum()  # x y² + 2 x² y

    x, y = np.array([1.0, 2.0]), np.array([3.0, 5.0])
    gx, gy = fg.grad(f, (0, 1))(x, y)
    close(gx, y**2 + 4 * x * y)
    close(gy, 2 * x * y + 2 * x**2)


# ── laws of calculus

SMOOTH: dict[str, Function] = {
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "exp(-x²)": lambda x: np.exp(-x * x),
    "1 / (1 + x²)": lambda x: 1 / (1 + x**2),
    "√(2 + x²)": lambda x: (2.0 + x * x) ** 0.5,
    "log(3 + x²)": lambda x: np.log(3 + x * x),
    "x³ − x": lambda x: x**3 - x,
    "d/dx of x² sin x": fg.grad(lambda x: x**2 * np.sin(x)),
}
functions = st.sampled_from(sorted(SMOOTH)).map(SMOOTH.__getitem__)


@few
@given(f=functions, h=functions, x=numbers)
def test_the_derivative_of_a_composite_is_the_product_of_the_derivatives(f: Function, h: Function, x: float) -> None:
    close(fg.grad(lambda z: f(h(z)))(x), fg.grad(f)(h(x)) * fg.grad(h)(x))


@few
@given(f=functions, h=functions, x=numbers)
def test_the_second_derivative_of_a_composite_is_faa_di_brunos(f: Function, h: Function, x: float) -> None:
    d = fg.grad
    second = d(d(f))(h(x)) * d(h)(x) ** 2 + d(f)(h(x)) * d(d(h))(x)
    close(d(d(lambda z: f(h(z))))(x), second, atol=1e-7)


@few
@given(f=functions, h=functions, x=numbers, n=st.integers(1, 3))
def test_the_derivatives_of_a_product_are_leibnizs(f: Function, h: Function, x: float, n: int) -> None:
    total = sum(
        math.comb(n, k) * np.asarray(iterate(fg.grad, f, k)(x)) * np.asarray(iterate(fg.grad, h, n - k)(x))
        for k in range(n + 1)
    )
    close(iterate(fg.grad, lambda z: f(z) * h(z), n)(x), total, atol=1e-7)


@few
@given(f=functions, h=functions, x=numbers, y=numbers)
def test_partial_derivatives_commute(f: Function, h: Function, x: float, y: float) -> None:
    def both(u: Any, v: Any) -> Any:
        return f(u * h(v)) + u**2 * v

    close(fg.grad(fg.grad(both, 0), 1)(x, y), fg.grad(fg.grad(both, 1), 0)(x, y))


@st.composite
def programs(draw: st.DrawFn) -> Function:
    """A random straight-line program on a vector of three; each step reads earlier values, and some differentiate."""
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["add", "multiply", "sin", "tanh", "index", "sum", "inner grad", "stack", "matmul"]),
                st.integers(0, 99),
                st.integers(0, 99),
            ),
            min_size=2,
            max_size=6,
        )
    )
    m = np.random.default_rng(len(steps)).normal(size=(3, 3)) / 2
    rules: dict[str, Function] = {
        "add": lambda a, b: a + b,
        "multiply": lambda a, b: a * b,
        "sin": lambda a, b: np.sin(a),
        "tanh": lambda a, b: np.tanh(b),
        "index": lambda a, b: a[::-1] * b[1],
        "sum": lambda a, b: a.sum() * b,
        "inner grad": lambda a, b: fg.grad(lambda z: (np.sin(z * a) * b).sum())(b),
        "stack": lambda a, b: np.stack([a, b]).mean(axis=0) * a[0],
        "matmul": lambda a, b: m @ a,
    }

    def program(x: Any) -> Any:
        values = [x]
        for name, i, j in steps:
            values.append(rules[name](values[i % len(values)], values[j % len(values)]))
        return np.tanh(values[-1])

    return program


@settings(max_examples=40)
@given(f=programs(), seed=st.integers(0, 1000))
def test_random_programs_agree_with_central_differences_to_second_order(f: Function, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=3) / 2
    fg.testing.check_grads(f, (x,), order=2, rtol=1e-5, atol=1e-5)


@settings(max_examples=20)
@given(f=programs(), seed=st.integers(0, 1000))
def test_the_hessian_is_symmetric(f: Function, seed: int) -> None:
    random = np.random.default_rng(seed)
    x, u, v = random.normal(size=(3, 3)) / 2
    along = fg.hvp(lambda z: f(z).sum())
    close(u @ along(v, x), v @ along(u, x), rtol=1e-8)


# ── vjp and grad inside each other


def test_a_pullback_inside_a_gradient() -> None:
    def f(x: Any) -> Any:
        y, pullback = fg.vjp(np.sin, x)
        (ct,) = pullback(y)  # sin x cos x
        return ct.sum()

    x = np.array([0.3, 1.2])
    close(fg.grad(f)(x), np.cos(2 * x))


def test_a_gradient_inside_a_pullback() -> None:
    x = np.array([0.3, 1.2])
    y, pullback = fg.vjp(fg.grad(lambda z: (z**3).sum()), x)
    close(y, 3 * x**2)
    close(pullback(np.array([1.0, 10.0]))[0], 6 * x * [1, 10])


def test_a_pullback_is_a_function_like_any_other() -> None:
    # the pullback of a linear function of ct is its transpose: of ct ↦ cos(x) ct it is the same again
    x = np.array([0.3, 1.2])
    _, pullback = fg.vjp(np.sin, x)
    close(fg.grad(lambda ct: (pullback(ct)[0] ** 2).sum())(np.array([1.0, 2.0])), 2 * np.cos(x) ** 2 * [1, 2])
    # the pullback of the pullback pushes forward: a Jacobian times a vector, without a rule for it
    _, transposed = fg.vjp(pullback, np.zeros(2))
    close(transposed((np.array([1.0, 10.0]),))[0], np.cos(x) * [1, 10])


def test_a_pullback_carries_its_outer_variables_into_another_trace() -> None:
    def f(x: Any) -> Any:
        _, pullback = fg.vjp(np.sin, x)
        return fg.grad(lambda ct: pullback(ct)[0] * ct)(2.0)  # 2 · 2 · cos x

    close(f(0.3), 4 * math.cos(0.3))
    close(fg.grad(f)(0.3), -4 * math.sin(0.3))
    close(fg.grad(fg.grad(f))(0.3), -4 * math.cos(0.3))


def test_a_pullback_that_was_made_outside_counts_as_constant_inside() -> None:
    _, pullback = fg.vjp(lambda z: z**3, np.float64(2.0))
    close(fg.grad(lambda x: pullback(x)[0] * x)(5.0), 2 * 12.0 * 5.0)


def test_a_pullback_outlives_the_trace_around_it_only_as_an_error() -> None:
    kept: list[Any] = []

    def f(x: Any) -> Any:
        y, pullback = fg.vjp(lambda z: x * z**2, x)
        kept.append(pullback)
        return y

    fg.grad(f)(2.0)
    with pytest.raises(fg.errors.LeakedTracerError):
        kept[0](1.0)


# ── Hessian-vector products


def test_hvp_is_the_hessian_times_the_vector() -> None:
    random = np.random.default_rng(0)
    a = random.normal(size=(4, 4))
    x, v = random.normal(size=(2, 4))

    def f(z: Any) -> Any:
        return (z**4).sum() / 12 + z @ a @ z

    close(fg.hvp(f)(v, x), (np.diag(x**2) + a + a.T) @ v)


def test_hvp_is_the_second_derivative_along_the_line() -> None:
    random = np.random.default_rng(1)
    x, v = random.normal(size=(2, 5))

    def f(z: Any) -> Any:
        return np.tanh(z * z[::-1]).sum() + np.exp(z[0] * z[4])

    second = fg.grad(fg.grad(lambda t: f(x + t * v)))(0.0)
    close(v @ fg.hvp(f)(v, x), second)


def test_hvp_of_a_chosen_argument_and_of_a_pytree() -> None:
    def f(scale: Any, p: Any) -> Any:
        return scale * (p["a"] ** 3).sum() + scale * p["a"].sum() * p["b"] ** 2

    p = {"a": np.array([1.0, 2.0]), "b": np.float64(3.0)}
    v = {"a": np.array([1.0, 0.0]), "b": np.float64(1.0)}
    product = fg.hvp(f, argnums=1)(v, 2.0, p)
    close(product["a"], 2.0 * (6 * p["a"] * v["a"] + 2 * 3.0))
    close(product["b"], 2.0 * (2 * 3.0 * 1.0 + 2 * 3.0))
    assert fg.hvp(f, argnums=-1)(v, 2.0, p)["b"] == product["b"]


def test_a_gradient_of_an_hvp_is_a_third_derivative() -> None:
    x, v = np.array([1.0, 2.0]), np.array([3.0, 5.0])
    third = fg.grad(lambda z: v @ fg.hvp(lambda w: (w**4).sum())(v, z))(x)
    close(third, 24 * x * v**2)


# ── Python control flow on values


def newton_sqrt(x: Any) -> Any:
    y = x
    while abs(y * y - x) > 1e-13:
        y = (y + x / y) / 2
    return y


@pytest.mark.parametrize("order", range(4))
def test_while_on_values(order: int) -> None:
    expected = [3**0.5, 0.5 * 3**-0.5, -0.25 * 3**-1.5, 0.375 * 3**-2.5][order]
    close(iterate(fg.grad, newton_sqrt, order)(3.0), expected, rtol=1e-6)


@pytest.mark.parametrize(("x", "value"), [(2.0, 12.0), (-2.0, 2.0)])
def test_if_on_values_at_second_order(x: float, value: float) -> None:
    f = lambda z: z**3 if z > 0 else z**2
    assert fg.grad(fg.grad(f))(x) == value


def test_an_inner_branch_may_depend_on_an_outer_value() -> None:
    def f(x: Any) -> Any:
        return fg.grad(lambda y: y**3 if x > 1 else x * y**2)(x)

    assert fg.grad(f)(2.0) == 6 * 2.0  # (3 x²)′
    assert fg.grad(f)(0.5) == 4 * 0.5  # (2 x²)′


def test_for_over_a_traced_array() -> None:
    def horner(x: Any, coefficients: Any) -> Any:
        y = 0.0
        for c in coefficients:
            y = y * x + c
        return y

    c = np.array([1.0, -2.0, 0.0, 3.0])
    close(fg.grad(fg.grad(horner))(2.0, c), 6 * 2.0 - 4)
    close(fg.grad(horner, 1)(2.0, c), [8, 4, 2, 1])
    close(fg.grad(lambda x: fg.grad(horner, 1)(x, c).sum())(2.0), 3 * 4 + 2 * 2 + 1)


def test_recursion() -> None:
    def power(x: Any, n: int) -> Any:
        return 1.0 if n == 0 else x * power(x, n - 1)

    assert fg.grad(fg.grad(power))(2.0, 5) == 5 * 4 * 8.0


# ── stop_gradient


def test_stop_gradient_stops_every_level() -> None:
    sg = fg.stop_gradient
    assert fg.grad(lambda x: x * sg(x))(3.0) == 3.0
    assert fg.grad(fg.grad(lambda x: x**2 * sg(x)))(3.0) == 6.0
    assert fg.grad(fg.grad(sg))(3.0) == 0.0
    # an inner stop holds for the outer derivative of the inner result, too
    assert fg.grad(lambda x: fg.grad(lambda y: sg(x) * y**2)(x))(3.0) == 6.0
    assert fg.grad(lambda x: sg(fg.grad(lambda y: x * y**2)(x)) + x)(3.0) == 1.0


def test_stop_gradient_of_a_pytree_stops_every_leaf() -> None:
    p = {"a": np.array([1.0, 2.0]), "b": (np.float64(3.0), 4)}

    def f(q: Any) -> Any:
        stopped = fg.stop_gradient({"p": q, "n": 7})
        assert stopped["n"] == 7
        return (stopped["p"]["a"] * q["a"]).sum() * stopped["p"]["b"]

    close(fg.grad(lambda a, b: f({"a": a, "b": b}), (0, 1))(p["a"], p["b"][0])[0], 3.0 * p["a"])
    close(fg.grad(lambda a, b: f({"a": a, "b": b}), (0, 1))(p["a"], p["b"][0])[1], 0.0)


# ── staging and dtypes


def test_the_jaxpr_of_a_second_derivative_is_the_second_derivative() -> None:
    d2 = fg.grad(fg.grad(g))
    jaxpr = fg.make_jaxpr(d2)(1.0)
    check(jaxpr)
    for x in (-1.0, 0.3, 2.0):
        close(evaluate(jaxpr, [x])[0], d2(x))
    close(fg.grad(lambda x: evaluate(jaxpr, [x])[0])(0.3), g_third(0.3))


def test_each_level_keeps_the_dtypes_of_its_inputs() -> None:
    def f(x: Any, y: Any) -> Any:
        return (np.sin(x) * y).sum() + (x**2).sum()

    x, y = np.array([0.5, 1.5], np.float32), np.array([2.0, 3.0])
    gx = fg.grad(f)(x, y)
    assert gx.dtype == np.float32
    mixed = fg.grad(lambda u: fg.grad(f)(x, u).sum())(y)
    assert mixed.dtype == np.float64
    close(mixed, np.cos(x), rtol=1e-6)
    back = fg.grad(lambda u: fg.grad(f, 1)(u, y).sum())(x)
    assert back.dtype == np.float32
    close(back, np.cos(x), rtol=1e-6)
    third = fg.grad(lambda u: fg.hvp(lambda v: f(v, y))(np.ones(2, np.float32), u).sum())(x)
    assert third.dtype == np.float32
    close(third, -np.cos(x) * y, rtol=1e-6)


def test_an_exception_inside_leaves_nothing_behind() -> None:
    def broken(x: Any) -> Any:
        return fg.grad(lambda y: {}["missing"] if x > 1 else y * x)(x)

    with pytest.raises(KeyError):
        fg.grad(broken)(2.0)
    assert fg.grad(broken)(0.5) == 1.0
    assert fg.grad(fg.grad(lambda x: x**3))(2.0) == 12.0


def test_rounding_to_a_python_int_is_piecewise_constant() -> None:
    for to_int in (int, round, math.floor, math.ceil, math.trunc):
        assert float(fg.grad(lambda x, to_int=to_int: x * to_int(x))(3.7)) == to_int(3.7)
    assert float(fg.grad(lambda x: x * round(x, 1))(3.72)) == 3.7
