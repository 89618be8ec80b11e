"""Every order of the transformations: each function below goes through all sequences of grad, vjp, jit and vmap.

A transformation takes a function of a vector with a number as result to another one, so that they compose in any order:

    grad   x ↦ w · ∇f(x)
    vjp    x ↦ w · pullback(sin f(x)), the cotangent being a function of x too
    jit    f itself
    vmap   x ↦ Σ cᵢ f(sᵢ x), the examples sᵢ x side by side

What it must give is computed with plain NumPy and Python alone: each function is written a second time without `lax`,
and derivatives along w are central differences of eighth order.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import lax

Function = Callable[[Any], Any]

X = np.array([0.62, 0.35, 0.48])
W = np.array([0.5, -0.25, 0.4])
# examples that take different branches and different numbers of steps
SCALES = np.array([1.0, 0.55, 1.7])
WEIGHTS = np.array([0.7, -0.3, 0.2])

# ── the transformations, and what they mean


def by_grad(f: Function) -> Function:
    return lambda x: W @ fg.grad(f)(x)


def by_vjp(f: Function) -> Function:
    def transformed(x: Any) -> Any:
        y, pullback = fg.vjp(f, x)
        (ct,) = pullback(np.sin(y))
        return W @ ct

    return transformed


def by_vmap(f: Function) -> Function:
    def transformed(x: Any) -> Any:
        examples = fnp.asarray(SCALES)[:, None] * x
        return WEIGHTS @ fg.vmap(f)(examples)

    return transformed


# of the derivative at 0 from values at ±1 … ±4: eighth order
STENCIL = np.array([4 / 5, -1 / 5, 4 / 105, -1 / 280])
STEP = 0.004


def derivative(f: Function) -> Function:
    def along(x: Any) -> Any:
        return sum(c / STEP * (f(x + k * STEP * W) - f(x - k * STEP * W)) for k, c in enumerate(STENCIL, 1))

    return along


MEANINGS: dict[str, Callable[[Function], Function]] = {
    "grad": derivative,
    "vjp": lambda f: lambda x: np.sin(f(x)) * derivative(f)(x),
    "jit": lambda f: f,
    "vmap": lambda f: lambda x: sum(c * f(s * x) for s, c in zip(SCALES, WEIGHTS, strict=True)),
}
TRANSFORMATIONS: dict[str, Callable[[Function], Function]] = {
    "grad": by_grad,
    "vjp": by_vjp,
    "jit": fg.jit,
    "vmap": by_vmap,
}
ORDERS = [order for depth in (1, 2, 3) for order in itertools.product(TRANSFORMATIONS, repeat=depth)]

# ── the functions


class Pair(NamedTuple):
    """A function, and the same in plain NumPy and Python."""

    function: Function
    plain: Function


def pair(function: Function) -> Pair:
    return Pair(function, function)


A = np.array([[0.3, -0.8, 0.5], [0.9, 0.2, -0.4], [-0.6, 0.7, 0.1]])


def reductions(x: Any) -> Any:
    return x.max() * x.prod() + np.log(np.sum(np.exp(x))) + x.var() * x.min() + (x * x).mean() ** 0.5


def indexing(x: Any) -> Any:
    picked = x[np.array([2, 0, 0])] * x[::-1] + x[1]
    return (picked[1:] * picked[:-1]).sum() + np.sort(x)[1] * x[-1]


def updates(x: Any) -> Any:
    y = fg.at(x)[np.array([0, 0, 2])].add(x * x)
    y = fg.at(y)[1].set(x[0] * x[2])
    return (y * y * x).sum()


def plain_updates(x: Any) -> Any:
    y = x.copy()
    np.add.at(y, np.array([0, 0, 2]), x * x)
    y[1] = x[0] * x[2]
    return (y * y * x).sum()


def scanned(x: Any) -> Any:
    def step(carry: Any, row: Any) -> Any:
        total, (state, count) = carry
        state = np.tanh(row["a"] * state + x)
        total = total + state @ row["b"]
        return (total, (state, count + 1)), {"y": total * state[0]}

    (total, (state, count)), ys = lax.scan(step, (0.0, (x, 0)), {"a": A, "b": A.T}, reverse=True)
    return total + (ys["y"] * np.arange(3.0)).sum() + state[0] * count


def plain_scanned(x: Any) -> Any:
    total, state, ys = 0.0, x, np.zeros(3)
    for i in (2, 1, 0):
        state = np.tanh(A[i] * state + x)
        total = total + state @ A.T[i]
        ys[i] = total * state[0]
    return total + (ys * np.arange(3.0)).sum() + state[0] * 3


def scanned_over(x: Any) -> Any:
    """The gradient flows to what is scanned over, to a constant of the loop that is indexed, and to the stack."""

    def step(carry: Any, xi: Any) -> Any:
        i, c = carry
        c = c * x[i] + xi * xi
        return (i + 1, c), np.sin(c) * xi

    (_, c), ys = lax.scan(step, (0, x[1]), x)
    return c * ys.sum() + ys[1] * x[0]


def plain_scanned_over(x: Any) -> Any:
    c, ys = x[1], []
    for xi in x:
        c = c * xi + xi * xi
        ys.append(np.sin(c) * xi)
    return c * sum(ys) + ys[1] * x[0]


def until(x: Any) -> Any:
    """A loop whose number of steps depends on the values."""
    _, y = lax.while_loop(lambda s: s[0].sum() < 3.0, lambda s: (s[0] * 1.5, s[1] * x[0] + np.sin(s[0])), (x, x * x))
    return y.sum()


def plain_until(x: Any) -> Any:
    s, y = x, x * x
    while s.sum() < 3.0:
        s, y = s * 1.5, y * x[0] + np.sin(s)
    return y.sum()


def newton(x: Any) -> Any:
    a = x.sum()
    return lax.while_loop(lambda y: abs(y * y - a) > 1e-12, lambda y: (y + a / y) / 2, a) * x[0]


def plain_newton(x: Any) -> Any:
    return np.sqrt(x.sum()) * x[0]


def branches(x: Any) -> Any:
    return lax.cond(x[0] > 0.5, lambda v: np.sin(v).sum() * v[0], lambda v: (v**3).sum() + x[1], x)


def plain_branches(x: Any) -> Any:
    return np.sin(x).sum() * x[0] if x[0] > 0.5 else (x**3).sum() + x[1]


def switched(x: Any) -> Any:
    number = np.clip(np.floor(2 * x[0] + 0.1), 0, 2).astype(int)
    return lax.switch(number, [lambda v: v.prod(), lambda v: np.exp(v).sum(), lambda v: x[2] * v[0] ** 2], x * x)


def plain_switched(x: Any) -> Any:
    v = x * x
    return [v.prod(), np.exp(v).sum(), x[2] * v[0] ** 2][min(int(np.floor(2 * x[0] + 0.1)), 2)]


def counted(x: Any) -> Any:
    return lax.fori_loop(0, 3, lambda i, y: np.sin(y) * x[i] + y, x).sum()


def plain_counted(x: Any) -> Any:
    y = x
    for i in range(3):
        y = np.sin(y) * x[i] + y
    return y.sum()


def counted_by_value(x: Any) -> Any:
    n = np.floor(3 * x[0] + 0.5).astype(int)
    return lax.fori_loop(0, n, lambda i, y: np.sin(y) * x[i % 3] + y, x).sum()


def plain_counted_by_value(x: Any) -> Any:
    y = x
    for i in range(int(np.floor(3 * x[0] + 0.5))):
        y = np.sin(y) * x[i % 3] + y
    return y.sum()


@fg.custom_vjp
def cubed(x: Any, n: Any) -> Any:
    return {"y": x**3 * n}


cubed.defvjp(lambda x, n: (cubed(x, n), (x, n)), lambda saved, g: (3 * saved[1] * saved[0] ** 2 * g["y"], None))


@fg.custom_gradient
def logistic(x: Any) -> Any:
    y = 1 / (1 + np.exp(-x))
    return y, lambda g: g * y * (1 - y)


@fg.checkpoint
def block(x: Any, scale: Any) -> Any:
    return lax.fori_loop(0, 2, lambda i, y: np.tanh(A @ y * scale), np.exp(x) * x)


def plain_block(x: Any, scale: Any) -> Any:
    return np.tanh(A @ np.tanh(A @ (np.exp(x) * x) * scale) * scale)


def prefixes(x: Any) -> Any:
    a, b = lax.associative_scan(lambda p, q: (p[0] * q[0], p[1] * q[0] + q[1]), (x, np.sin(x)))
    return (a * b).sum() * b[1]


def plain_prefixes(x: Any) -> Any:
    a, b = [x[0]], [np.sin(x[0])]
    for xi in x[1:]:
        a.append(a[-1] * xi)
        b.append(b[-1] * xi + np.sin(xi))
    return sum(p * q for p, q in zip(a, b, strict=True)) * b[1]


def loops_in_loops(x: Any) -> Any:
    """A while loop with another number of steps in each step of a scan, and a branch in there."""

    def step(carry: Any, xi: Any) -> Any:
        y = lax.while_loop(lambda y: y < 1.9, lambda y: y * (1.2 + xi) + 0.1, carry)
        y = lax.cond(y > 3.0, lambda y: np.sqrt(y), lambda y: np.log(y) + xi, y)
        return y, y * x[0]

    last, ys = lax.scan(step, x.sum(), x)
    return last * ys.sum()


def plain_loops_in_loops(x: Any) -> Any:
    carry, ys = x.sum(), []
    for xi in x:
        while carry < 1.9:
            carry = carry * (1.2 + xi) + 0.1
        carry = np.sqrt(carry) if carry > 3.0 else np.log(carry) + xi
        ys.append(carry * x[0])
    return carry * sum(ys)


def root(x: Any) -> Any:
    """The root of y³ + y = Σ x, by the implicit function theorem."""
    a = x.sum()

    def solve(f: Any, y: Any) -> Any:
        return lax.fori_loop(0, 30, lambda _, y: y - f(y) / (3 * y * y + 1), y)

    return lax.custom_root(lambda y: y**3 + y - a, 1.0, solve, lambda g, y: y / g(1.0)) * x[0]


def plain_root(x: Any) -> Any:
    a = x.sum() / 2
    d = np.sqrt(a * a + 1 / 27)
    return (np.cbrt(a + d) + np.cbrt(a - d)) * x[0]


FUNCTIONS = {
    "elementwise": pair(lambda x: np.sum(np.sin(x) * np.exp(-x * x) / (2 + np.tanh(x)) + x**3)),
    "reductions": pair(reductions),
    "matmul": pair(lambda x: np.tanh(A @ x) @ A @ (x * x)),
    "indexing": pair(indexing),
    "updates": Pair(updates, plain_updates),
    "scan": Pair(scanned, plain_scanned),
    "scan over": Pair(scanned_over, plain_scanned_over),
    "while": Pair(until, plain_until),
    "newton": Pair(newton, plain_newton),
    "cond": Pair(branches, plain_branches),
    "switch": Pair(switched, plain_switched),
    "fori": Pair(counted, plain_counted),
    "dynamic fori": Pair(counted_by_value, plain_counted_by_value),
    "custom_vjp": Pair(lambda x: (cubed(x, 2)["y"] * x).sum(), lambda x: (2 * x**4).sum()),
    "custom_gradient": Pair(lambda x: (logistic(x) * x).sum(), lambda x: (x / (1 + np.exp(-x))).sum()),
    "checkpoint": Pair(lambda x: (block(x, x[0]) * x).sum(), lambda x: (plain_block(x, x[0]) * x).sum()),
    "associative_scan": Pair(prefixes, plain_prefixes),
    "jit inside": Pair(lambda x: fg.jit(lambda y: np.sin(y * x).sum())(x * x), lambda x: np.sin(x**3).sum()),
    "loops in loops": Pair(loops_in_loops, plain_loops_in_loops),
    "custom_root": Pair(root, plain_root),
}


@functools.cache
def expected(name: str, order: tuple[str, ...]) -> float:
    """What a function must give behind these transformations; `jit` changes nothing."""
    f = FUNCTIONS[name].plain
    for step in order:
        f = MEANINGS[step](f)
    return float(f(X))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_what_it_is_in_plain_python(name: str) -> None:
    np.testing.assert_allclose(FUNCTIONS[name].function(X), FUNCTIONS[name].plain(X), rtol=1e-12)


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_transformations_compose_in_every_order(name: str, order: tuple[str, ...]) -> None:
    f = FUNCTIONS[name].function
    for step in order:
        f = TRANSFORMATIONS[step](f)
    want = expected(name, tuple(step for step in order if step != "jit"))
    np.testing.assert_allclose(float(f(X)), want, rtol=1e-6, atol=1e-7)
