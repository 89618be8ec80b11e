"""Custom rules: a derivative that the user writes stands in place of the function's own, wherever it is differentiated.

The rules here are wrong on purpose, so that it can be seen which one was used. Misuse is in test_control_errors.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import lax

Function = Callable[..., Any]
X = np.array([0.5, -1.0, 2.0])
ONE = np.float64(3.0)

# ways to take a gradient with respect to the first argument that must not matter
WAYS: dict[str, Callable[[Function], Function]] = {
    "grad": fg.grad,
    "jit grad": lambda f: fg.jit(fg.grad(f)),
    "grad jit": lambda f: fg.grad(fg.jit(f)),
    "vjp": lambda f: lambda *args: fg.vjp(f, *args)[1](1.0)[0],
    "vmap grad": lambda f: (
        lambda x, *rest: fg.tree.map(
            lambda g: g[1],
            fg.vmap(fg.grad(f), (0, *[None] * len(rest)))(fg.tree.map(lambda a: np.stack([a, a]), x), *rest),
        )
    ),
    "grad in a scan": lambda f: fg.jit(
        lambda *args: fg.tree.map(lambda g: g[0], lax.scan(lambda c, _: (c, fg.grad(f)(*args)), 0, None, 1)[1])
    ),
}
ways = pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))


def close(a: Any, b: Any) -> None:
    fg.tree.map(lambda x, y: np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=1e-12), a, b)


def ruled(f: Function, fwd: Function, bwd: Function, **options: Any) -> Any:
    f = fg.custom_vjp(f, **options)
    f.defvjp(fwd, bwd)
    return f


# ── what is called, and with what


@ways
def test_the_rule_is_used_and_gets_residuals_and_cotangent(way: Any) -> None:
    f = ruled(lambda x, y: x * y, lambda x, y: (x * y, (x, y)), lambda saved, g: (10 * g * saved[1], 100 * g))
    close(way(lambda x: 2 * f(x, 5.0))(ONE), 2 * 10 * 5.0)
    close(way(lambda x: f(2.0, x))(ONE), 100.0)
    close(way(lambda x: f(x, x))(ONE), 10 * ONE + 100)
    close(way(lambda x, y: f(x, y).sum())(X, X[::-1]), 10 * X[::-1])


def test_without_differentiation_only_the_function_is_called() -> None:
    calls: list[str] = []

    def called(name: str, result: Any) -> Any:
        calls.append(name)
        return result

    f = ruled(
        lambda x: called("f", x * 2), lambda x: called("fwd", (x * 2, None)), lambda _, g: called("bwd", (g * 3,))
    )
    assert f(ONE) == 6.0
    assert calls == ["f"]
    calls.clear()
    assert fg.grad(f)(ONE) == 3.0
    assert calls == ["fwd", "bwd"]
    calls.clear()
    value, pullback = fg.vjp(f, ONE)
    assert (value, calls) == (6.0, ["fwd"])
    assert pullback(np.float64(2.0))[0] == pullback(2.0)[0] == 6.0
    assert calls == ["fwd", "bwd", "bwd"]
    gradient = fg.jit(fg.grad(f))
    gradient(ONE)
    calls.clear()
    assert gradient(ONE) == 3.0
    assert calls == []


@ways
def test_default_and_keyword_arguments(way: Any) -> None:
    @fg.custom_vjp
    def f(x: Any, y: Any = 2.0, z: Any = 3.0) -> Any:
        return x * y * z

    f.defvjp(lambda x, y, z: (x * y * z, (x, y, z)), lambda saved, g: (g * saved[1], g * saved[2], g * saved[0]))
    assert f(1.0, z=5.0) == 10.0
    close(way(lambda x: f(x))(ONE), 2.0)
    close(way(lambda x: f(1.0, z=x))(ONE), 1.0)
    close(way(lambda x: f(y=x, x=7.0))(ONE), 3.0)
    close(way(lambda x: f(z=x, y=x, x=x))(ONE), ONE + ONE + ONE)


@ways
def test_pytrees_go_in_and_come_out(way: Any) -> None:
    @fg.custom_vjp
    def f(p: Any, pair: Any) -> Any:
        return {"y": p["w"] * pair[0] + p["b"], "unused": pair[1], "n": 3}

    def backward(saved: Any, g: Any) -> Any:
        _, pair = saved
        assert g["n"] is None  # an integer has no cotangent
        return {"w": 7 * g["y"] * pair[0], "b": None}, None

    f.defvjp(lambda p, pair: (f(p, pair), (p, pair)), backward)
    p = {"w": X, "b": X + 1}
    got = way(lambda p: f(p, [X, X * 2])["y"].sum())(p)
    close(got, {"w": 7 * X, "b": 0 * X})


@ways
def test_none_is_a_zero_cotangent(way: Any) -> None:
    f = ruled(lambda x, y: x * y, lambda x, y: (x * y, y), lambda y, g: (None, g))
    close(way(lambda x: f(x, x * 4) + x)(ONE), 5.0)
    close(way(lambda x: f(x, 2.0))(ONE), 0.0)


@ways
def test_a_single_argument_needs_no_tuple(way: Any) -> None:
    f = ruled(lambda x: x * 2, lambda x: (x * 2, None), lambda _, g: 5 * g)
    close(way(f)(ONE), 5.0)


@ways
def test_integer_arguments_pass_through(way: Any) -> None:
    f = ruled(lambda x, n: x * n, lambda x, n: (x * n, n), lambda n, g: (g * n * 10, None))
    close(way(lambda x: f(x, 4))(ONE), 40.0)
    close(way(lambda x: f(x, np.array([1, 2, 3])).sum())(X), [10.0, 20.0, 30.0])
    close(way(lambda x, n: f(x, n))(ONE, np.int64(4)), 40.0)


@ways
def test_a_forward_rule_may_call_the_function_itself(way: Any) -> None:
    @fg.custom_vjp
    def f(x: Any) -> Any:
        return np.sin(x)

    f.defvjp(lambda x: (f(x), f(x) + x), lambda s, g: (g * s,))
    close(way(f)(ONE), np.sin(ONE) + ONE)


@ways
def test_a_backward_rule_may_call_the_function_itself(way: Any) -> None:
    @fg.custom_vjp
    def exp(x: Any) -> Any:
        return np.exp(x)

    exp.defvjp(lambda x: (exp(x), x), lambda x, g: (2 * g * exp(x),))
    close(way(exp)(ONE), 2 * np.exp(ONE))
    close(way(fg.grad(exp))(ONE), 4 * np.exp(ONE))
    close(way(fg.grad(fg.grad(exp)))(ONE), 8 * np.exp(ONE))


# ── higher derivatives are those of the rule


@ways
@pytest.mark.parametrize("order", [2, 3])
def test_the_second_derivative_is_the_derivative_of_the_rule(way: Any, order: int) -> None:
    # the rule says that the derivative of f is x⁴
    f: Function = ruled(lambda x: x * 0, lambda x: (x * 0, x), lambda x, g: (g * x**4,))
    for _ in range(order - 1):
        f = fg.grad(f)
    close(way(f)(ONE), 4 * ONE**3 if order == 2 else 12 * ONE**2)


@ways
def test_the_rule_may_use_other_transformations(way: Any) -> None:
    def backward(x: Any, g: Any) -> Any:
        slopes = fg.vmap(fg.grad(np.sin))(x)
        total = lax.fori_loop(0, 3, lambda i, c: c + slopes[i], 0.0)
        return (lax.cond(total > 0, lambda: g * slopes, lambda: g * total),)

    f = ruled(np.sin, lambda x: (np.sin(x), x), backward)
    close(way(lambda x: f(x).sum())(X), np.cos(X))


# ── what is not differentiated


@ways
def test_nondiff_arguments_come_first_in_the_backward_rule(way: Any) -> None:
    @functools.partial(fg.custom_vjp, nondiff_argnums=(0, 2))
    def apply(fn: Any, x: Any, k: Any) -> Any:
        return fn(x) * k

    def backward(fn: Any, k: Any, saved: Any, g: Any) -> Any:
        (x,) = saved
        return (g * fn(x) * k * 7,)

    apply.defvjp(lambda fn, x, k: (fn(x) * k, (x,)), backward)
    close(way(lambda x: apply(np.sin, x, 2))(ONE), np.sin(ONE) * 14)
    close(way(lambda x: apply(k=2, fn=np.cos, x=x))(ONE), np.cos(ONE) * 14)


@ways
def test_nondiff_arguments_by_name(way: Any) -> None:
    @functools.partial(fg.custom_vjp, nondiff_argnames=("mode", "k"))
    def power(x: Any, mode: str, k: int = 2) -> Any:
        return x**k if mode == "power" else x

    power.defvjp(lambda x, mode, k: (power(x, mode, k), x), lambda mode, k, x, g: (g * k * len(mode),))
    close(way(lambda x: power(x, "power"))(ONE), 10.0)
    close(way(lambda x: power(x, mode="id", k=3))(ONE), 6.0)


def test_nondiff_arguments_may_be_arrays_and_tracers_of_other_transformations() -> None:
    f = ruled(lambda x, a: x * a, lambda x, a: (x * a, None), lambda a, _, g: (g * a * 10,), nondiff_argnums=1)
    close(fg.grad(f)(ONE, 2.0), 20.0)
    close(fg.grad(lambda x: f(x, X).sum())(X), 10 * X)
    close(fg.vmap(fg.grad(f))(X, X + 1), 10 * (X + 1))
    close(fg.jit(fg.grad(f))(ONE, 2.0), 20.0)
    close(fg.jit(fg.vmap(fg.grad(f), (None, 0)))(ONE, X), 10 * X)


@ways
def test_rules_close_over_plain_arrays(way: Any) -> None:
    table = np.array([10.0, 20.0, 30.0])
    f = ruled(lambda x: x * table, lambda x: (x * table, None), lambda _, g: (g * table * 2,))
    close(way(lambda x: f(x).sum())(X), 2 * table)


def closing_over(c: Any) -> Function:
    return ruled(lambda x: x * c, lambda x: (x * c, None), lambda _, g: (10 * g * c,))


def test_rules_close_over_tracers_of_the_transformations_around_them() -> None:
    inner = lambda c: fg.grad(lambda x: closing_over(c)(x))(ONE)
    close(fg.jit(inner)(2.0), 20.0)
    close(fg.vmap(inner)(X), 10 * X)
    close(fg.jit(fg.vmap(inner))(X), 10 * X)
    close(fg.vmap(fg.jit(inner))(X), 10 * X)
    # the gradient of 10 c with respect to c: it flows through what the rule closes over
    close(fg.grad(inner)(2.0), 10.0)
    close(fg.jit(fg.grad(inner))(2.0), 10.0)
    close(fg.grad(lambda c: lax.scan(lambda s, x: (s + fg.grad(closing_over(c))(x), None), 0.0, X)[0])(2.0), 30.0)


# ── where functions live


@dataclass(frozen=True)
class Layer:
    scale: float

    @functools.partial(fg.custom_vjp, nondiff_argnums=(0,))
    def __call__(self, x: Any) -> Any:
        return self.scale * x

    def forward(self, x: Any) -> Any:
        return self.scale * x, x

    def backward(self, x: Any, g: Any) -> Any:
        return (g * self.scale * x,)


Layer.__call__.defvjp(Layer.forward, Layer.backward)  # type: ignore[attr-defined]


@ways
def test_methods(way: Any) -> None:
    layer = Layer(5.0)
    assert layer(2.0) == 10.0
    close(way(lambda x: layer(x))(ONE), 5 * ONE)
    close(way(layer.__call__)(ONE), 5 * ONE)


def test_the_function_keeps_its_name_and_its_docstring() -> None:
    @fg.custom_vjp
    def f(x: Any) -> Any:
        """What f does."""
        return x

    assert f.__name__ == "f"
    assert f.__doc__ == "What f does."


def test_a_staged_rule_is_one_operation_of_the_jaxpr() -> None:
    f = ruled(np.sin, lambda x: (np.sin(x), x), lambda x, g: (g,))
    jaxpr = fg.make_jaxpr(lambda x: f(x) + f(2 * x))(1.0)
    assert [e.primitive.name for e in jaxpr.equations] == ["custom_vjp", "multiply", "custom_vjp", "add"]
    # differentiated, the rule stands in its place
    assert "custom_vjp" not in str(fg.make_jaxpr(fg.grad(f))(1.0))


def test_a_batch_is_differentiated_example_by_example() -> None:
    f = ruled(lambda x, w: x @ w, lambda x, w: (x @ w, (x, w)), lambda saved, g: (2 * g * saved[1], 3 * g * saved[0]))
    xs, w = np.arange(6.0).reshape(2, 3), X
    gx, gw = fg.grad(lambda xs, w: fg.vmap(f, (0, None))(xs, w).sum(), (0, 1))(xs, w)
    close((gx, gw), (2 * np.stack([w, w]), 3 * xs.sum(axis=0)))
    gx, gw = fg.vmap(fg.grad(f, (0, 1)), (0, None))(xs, w)
    close((gx, gw), (2 * np.stack([w, w]), 3 * xs))
    gx, gw = fg.jit(fg.grad(lambda xs, w: fg.vmap(fg.jit(f), (0, None))(xs, w).sum(), (0, 1)))(xs, w)
    close((gx, gw), (2 * np.stack([w, w]), 3 * xs.sum(axis=0)))


def test_in_a_loop_the_rule_is_used_in_every_step() -> None:
    f = ruled(lambda x: x, lambda x: (x, None), lambda _, g: (2 * g,))
    doubled = lambda x: lax.fori_loop(0, 5, lambda i, c: f(c), x)
    for g in (fg.grad(doubled), fg.jit(fg.grad(doubled)), fg.grad(fg.jit(doubled))):
        assert g(1.0) == 32.0
    dynamic = lambda x, n: lax.fori_loop(0, n, lambda i, c: f(c), x)
    assert fg.jit(fg.grad(dynamic))(1.0, 5) == 32.0
    close(fg.vmap(fg.grad(fg.jit(dynamic)))(np.ones(3), np.array([0, 2, 5])), [1.0, 4.0, 32.0])


# ── custom_gradient


@ways
def test_custom_gradient_returns_its_pullback(way: Any) -> None:
    @fg.custom_gradient
    def f(x: Any, y: Any = 2.0) -> Any:
        return x * y, lambda g: (10 * g * y, 100 * g * x)

    assert f(3.0) == 6.0
    close(way(lambda x: f(x))(ONE), 20.0)
    close(way(lambda x: f(x, x))(ONE), 10 * ONE + 100 * ONE)
    close(way(lambda x: fg.grad(f)(x, x))(ONE), 10.0)


@ways
def test_a_stable_gradient(way: Any) -> None:
    @fg.custom_gradient
    def softplus(x: Any) -> Any:
        e = np.exp(-abs(x))
        return np.maximum(x, 0) + np.log1p(e), lambda g: g * np.where(x > 0, 1 / (1 + e), e / (1 + e))

    for x in (-800.0, 800.0):
        close(way(softplus)(np.float64(x)), float(x > 0))


# ── solvers


MATRIX = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 5.0]])


def conjugate_gradients(matvec: Any, b: Any) -> Any:
    def step(s: Any) -> Any:
        x, r, p, rr = s
        ap = matvec(p)
        a = rr / (p @ ap)
        r_new = r - a * ap
        return x + a * p, r_new, r_new + (r_new @ r_new) / rr * p, r_new @ r_new

    return lax.while_loop(lambda s: s[3] > 1e-24, step, (0 * b, b, b, b @ b))[0]


@pytest.mark.parametrize("outer", [lambda f: f, fg.jit], ids=["eager", "jit"])
def test_a_linear_solve_is_differentiated_by_a_second_one(outer: Any) -> None:
    def solution(a: Any, b: Any) -> Any:
        return lax.custom_linear_solve(lambda x: a @ x, b, conjugate_gradients, symmetric=True)

    def reference(a: Any, b: Any) -> Any:
        return fnp.linalg.solve(a, b)

    for g in (lambda f: fg.grad(lambda a, b: (f(a, b) ** 2).sum(), (0, 1)), lambda f: lambda a, b: f(a, b)):
        fg.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-8),
            outer(g(solution))(MATRIX, X),
            g(reference)(MATRIX, X),
        )
    second = lambda f: fg.grad(lambda s: fg.grad(lambda b: (f(MATRIX * s, b) ** 3).sum())(X).sum())
    np.testing.assert_allclose(outer(second(solution))(1.0), second(reference)(1.0), rtol=1e-8)
    rows = np.stack([X, X + 1])
    batched = lambda f: fg.vmap(fg.grad(lambda b: f(MATRIX, b).sum()))
    np.testing.assert_allclose(outer(batched(solution))(rows), batched(reference)(rows), rtol=1e-8)


def test_a_linear_solve_of_a_system_that_is_not_symmetric() -> None:
    a = MATRIX + np.triu(np.ones((3, 3)))
    solve, transposed = (lambda f, b, m=m: (fnp.linalg.solve(m, b), 7) for m in (a, a.T))
    f = lambda s, b: lax.custom_linear_solve(
        lambda x: s * (a @ x), b, lambda f, b: solve(f, b / s), lambda f, b: transposed(f, b / s), has_aux=True
    )
    assert f(1.0, X)[1] == 7
    got = fg.grad(lambda s, b: (f(fg.stop_gradient(s), b)[0] ** 2).sum(), 1)(2.0, X)
    np.testing.assert_allclose(got, fg.grad(lambda b: (fnp.linalg.solve(2 * a, b) ** 2).sum())(X), rtol=1e-10)


@ways
def test_a_root_is_differentiated_by_the_implicit_function_theorem(way: Any) -> None:
    calls: list[int] = []

    def bisect(f: Any, x: Any) -> Any:
        calls.append(1)
        low, high = lax.fori_loop(
            0,
            60,
            lambda _, s: lax.cond(
                f((s[0] + s[1]) / 2) > 0, lambda s: (s[0], (s[0] + s[1]) / 2), lambda s: ((s[0] + s[1]) / 2, s[1]), s
            ),
            (0.0 * x, 0 * x + 10.0),
        )
        return (low + high) / 2

    cube_root = lambda a: lax.custom_root(lambda x: x**3 - a, np.float64(1.0), bisect, lambda g, y: y / g(1.0))
    np.testing.assert_allclose(cube_root(27.0), 3.0)
    np.testing.assert_allclose(way(cube_root)(np.float64(27.0)), 1 / 27, rtol=1e-8)
    np.testing.assert_allclose(way(fg.grad(cube_root))(np.float64(27.0)), -2 / 9 * 27.0 ** (-5 / 3), rtol=1e-8)


def test_a_guess_may_be_traced() -> None:
    def root(a: Any) -> Any:
        newton = lambda f, y: lax.fori_loop(0, 40, lambda _, y: y - f(y) / (3 * y**2 + 1), y)
        return lax.custom_root(lambda y: y**3 + y - a, a, newton, lambda g, y: y / g(1.0))

    second = fg.grad(fg.grad(root))
    xs = np.array([0.3, 1.2, 2.0])
    ys = np.array([root(x) for x in xs])
    expected = -6 * ys / (3 * ys**2 + 1) ** 3
    for f in (fg.vmap(second), fg.jit(fg.vmap(second)), lambda xs: np.array([fg.jit(second)(x) for x in xs])):
        np.testing.assert_allclose(f(xs), expected, rtol=1e-8)


@pytest.mark.parametrize("way", [lambda f: f, fg.jit])
def test_no_derivative_of_a_root_goes_through_a_solver(way: Any) -> None:
    def root(a: Any) -> Any:
        newton = lambda f, y: lax.fori_loop(0, 40, lambda _, y: y - f(y) / (3 * y**2 + 1), y)
        return lax.custom_root(lambda y: y**3 + y - a, 1.0, newton, lambda g, y: y / fg.stop_gradient(g(1.0)))

    np.testing.assert_allclose(way(fg.grad(root))(2.0), 1 / 4)
    np.testing.assert_allclose(way(fg.grad(fg.grad(root)))(2.0), -6 / 4**3)


def test_a_rule_may_call_its_own_function_and_both_close_over_a_traced_value() -> None:
    def third(k: Any, x: Any) -> Any:
        @fg.custom_vjp
        def f(x: Any) -> Any:
            return np.exp(k * x)

        f.defvjp(lambda x: (f(x), x), lambda x, g: (g * 2 * k * f(x) / 2,))
        return fg.grad(fg.grad(fg.grad(f)))(x)

    k, x = np.array([2.0, 3.0]), np.array([0.3, 0.2])
    expected = k**3 * np.exp(k * x)
    np.testing.assert_allclose(fg.vmap(third)(k, x), expected)
    np.testing.assert_allclose(fg.vmap(third, (None, 0))(2.0, x), 8 * np.exp(2 * x))
    np.testing.assert_allclose(fg.jit(third)(2.0, 0.3), expected[0])
    np.testing.assert_allclose(fg.grad(fg.jit(third), 1)(2.0, 0.3), 2 * expected[0])


@pytest.mark.parametrize("way", [lambda f: f, fg.jit, lambda f: lambda a: fg.vmap(f)(a[None])[0]])
def test_no_derivative_goes_through_the_solver_of_a_linear_system(way: Any) -> None:
    b = np.array([1.0, 2.0])

    def lapack(matvec: Any, b: Any) -> Any:
        matrix = fg.vmap(matvec)(np.eye(2)).T
        result = fg.ShapeDtypeStruct((2,), float)
        return fg.pure_callback(np.linalg.solve, result, fg.stop_gradient(matrix), fg.stop_gradient(b))

    ours = lambda a: np.sin(lax.custom_linear_solve(lambda x: a @ x, b, lapack, lapack)).sum()
    plain = lambda a: np.sin(np.linalg.solve(a, b)).sum()
    second = lambda f: fg.grad(lambda a: (fg.grad(f)(a) ** 2).sum())
    third = lambda f: fg.grad(lambda a: (second(f)(a) ** 2).sum())
    a = np.array([[3.0, 1.0], [0.5, 2.0]])
    for order in (fg.grad, second, third):
        np.testing.assert_allclose(way(order(ours))(a), order(plain)(a), rtol=1e-9)


def test_a_root_of_several_equations_with_aux() -> None:
    def solve(f: Any, s: Any) -> Any:
        def newton(s: Any, _: Any) -> Any:
            rows = fg.vmap(fg.vjp(f, s)[1])(np.eye(2))[0]
            return s - fnp.linalg.solve(rows, f(s)), None

        return lax.scan(newton, s, None, 20)[0], {"steps": 20}

    def root(p: Any) -> Any:
        equations = lambda s: np.stack([s[0] ** 2 + s[1] - p["a"], s[1] - p["b"] * s[0]])
        tangent = lambda g, y: fnp.linalg.solve(fg.vmap(g)(np.eye(2)).T, y)
        return lax.custom_root(equations, np.array([1.0, 1.0]), solve, tangent, has_aux=True)

    p = {"a": np.float64(3.0), "b": np.float64(0.5)}
    (x, y), aux = root(p)
    assert aux == {"steps": 20}
    closed_form = lambda p: (-p["b"] + (p["b"] ** 2 + 4 * p["a"]) ** 0.5) / 2
    np.testing.assert_allclose([x, y], [closed_form(p), p["b"] * closed_form(p)])
    for g in (fg.grad(lambda p: root(p)[0][0]), fg.jit(fg.grad(lambda p: root(p)[0][0]))):
        fg.tree.map(np.testing.assert_allclose, g(p), fg.grad(closed_form)(p))
