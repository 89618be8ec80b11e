"""Random programs of loops, branches, rules and transformations: staged or batched, they are what Python makes of them.

A program is a list of steps, each from earlier vectors to a new one. The body of a loop, a branch, or a function under
a transformation is again a program, which closes over all the values around it. Called eagerly, loops and branches run
as Python would; that is the reference, and its derivative agrees with central differences.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import lax

Array = Any
Values = tuple[Array, ...]
Program = tuple[Any, ...]

SIZE = 3
MATRIX = np.array([[0.3, -0.8, 0.5], [0.9, 0.2, -0.4], [-0.6, 0.7, 0.1]])


def run(program: Program, values: Values) -> Array:
    """The last value of a program in this environment; bounded, so that nothing grows without end."""
    for kind, i, j, inner in program:
        a, b = values[-1 - i % len(values)], values[-1 - j % len(values)]
        y = STEPS[kind](a, b, i, inner, values)
        values = (*values, np.tanh(y) + 0.1 * y)
    return values[-1]


def _scan(a: Array, b: Array, i: int, inner: Any, values: Values) -> Array:
    def step(carry: Any, x: Array) -> Any:
        n, c = carry
        c = run(inner, (*values, c, x * c + fnp.take(a, n)))
        return (n + 1, c), c * x

    (n, last), ys = lax.scan(step, (0, b), a[i % 3 :], reverse=i % 2 == 1)
    return last + ys.sum(axis=0) * n


def _while(a: Array, b: Array, i: int, inner: Any, values: Values) -> Array:
    def cond(s: Any) -> Array:
        return (s[0] < 3) & (s[1].sum() < a.sum() + 0.5)

    return lax.while_loop(cond, lambda s: (s[0] + 1, run(inner, (*values, s[1])) + fnp.take(b, s[0])), (i % 3, b))[1]


def _fori(a: Array, b: Array, i: int, inner: Any, values: Values) -> Array:
    n = np.floor(np.clip(a[0] * 2 + 1, 0.0, 3.0)).astype(int)
    return lax.fori_loop(0, n, lambda k, c: run(inner, (*values, c)) * fnp.take(b, k), b)


def _cond(a: Array, b: Array, i: int, inner: Any, values: Values) -> Array:
    return lax.cond(a[i % 3] > 0.1, lambda x: run(inner, (*values, x)), lambda x: x * a, b)


def _log(a: Array, b: Array, i: int, inner: Any, values: Values) -> Array:
    """A branch that may not run where it is not taken."""
    return lax.cond(a[i % 3] > 0.1, lambda: np.log(a[i % 3]) * run(inner, values), lambda: b)


def _switch(a: Array, b: Array, i: int, inner: Any, values: Values) -> Array:
    number = np.floor(np.clip(a[i % 3] * 2 + 1, 0.0, 2.5)).astype(int)
    return lax.switch(number, [lambda x: run(inner, (*values, x)), np.sin, lambda x: x * b], b)


def _jit(a: Array, b: Array, i: int, inner: Any, values: Values) -> Array:
    return fg.jit(lambda x: run(inner, (*values, x)))(a) * b


def _checkpoint(a: Array, b: Array, i: int, inner: Any, values: Values) -> Array:
    policies = [None, fg.checkpoint_policies.dots_saveable, fg.checkpoint_policies.everything_saveable]
    return fg.checkpoint(lambda x: run(inner, (*values, x)), policy=policies[i % 3])(a) * b


def _custom(a: Array, b: Array, i: int, inner: Any, values: Values) -> Array:
    @fg.custom_vjp
    def f(x: Array, y: Array) -> Array:
        return run(inner, (x, y))

    f.defvjp(lambda x, y: fg.vjp(lambda *xs: run(inner, xs), x, y), lambda pullback, g: pullback(g))
    return f(a, b)


def _vmap(a: Array, b: Array, i: int, inner: Any, values: Values) -> Array:
    return fg.vmap(lambda x: run(inner, (*values, a * x)))(b).sum(axis=i % 2)


def _grad(a: Array, b: Array, i: int, inner: Any, values: Values) -> Array:
    return fg.grad(lambda x: (run(inner, (*values, x)) * b).sum())(a)


def _map(a: Array, b: Array, i: int, inner: Any, values: Values) -> Array:
    return lax.map(lambda x: run(inner, (*values, x * b)).sum(), a, batch_size=[None, 2][i % 2])


STEPS: dict[str, Callable[[Array, Array, int, Any, Values], Array]] = {
    "scan": _scan,
    "while": _while,
    "fori": _fori,
    "cond": _cond,
    "log": _log,
    "switch": _switch,
    "jit": _jit,
    "checkpoint": _checkpoint,
    "custom": _custom,
    "vmap": _vmap,
    "grad": _grad,
    "map": _map,
    "sin": lambda a, b, i, inner, values: np.sin(a) * b,
    "add": lambda a, b, i, inner, values: a + b[::-1] * 0.5,
    "matmul": lambda a, b, i, inner, values: MATRIX @ a + b,
    "take": lambda a, b, i, inner, values: a[np.array([i % 3, 0, 0])] * b,
    "set": lambda a, b, i, inner, values: fg.at(a)[i % 3].set(b[0] * a[1]),
    "where": lambda a, b, i, inner, values: np.where(a > 0.1, np.log(fnp.abs(a) + 1e-3), b),
    "prefixes": lambda a, b, i, inner, values: lax.associative_scan(np.multiply, a) + b,
}
NESTED = ["scan", "while", "fori", "cond", "log", "switch", "jit", "checkpoint", "custom", "vmap", "grad", "map"]


def steps(inner: st.SearchStrategy[Program]) -> st.SearchStrategy[Any]:
    small = st.integers(0, 5)
    flat = st.sampled_from([kind for kind in STEPS if kind not in NESTED])
    return st.tuples(flat, small, small, st.just(())) | st.tuples(st.sampled_from(NESTED), small, small, inner)


one = st.tuples(
    st.tuples(st.sampled_from(["sin", "add", "matmul", "take", "where"]), st.just(0), st.just(1), st.just(()))
)
inner = steps(one).map(lambda step: (step,)) | st.lists(steps(one), min_size=1, max_size=2).map(tuple)
random_programs = st.lists(steps(inner), min_size=1, max_size=3).map(tuple)


def close(a: Any, b: Any) -> None:
    np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-8)


def as_function(program: Program) -> Callable[[Array], Array]:
    return lambda x: (run(program, (x, x * x + 0.3)) * np.arange(1.0, 4.0)).sum()


def points(seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal((4, SIZE))


@settings(max_examples=60)
@given(program=random_programs, seed=st.integers(0, 100))
def test_a_staged_or_batched_program_is_what_python_makes_of_it(program: Program, seed: int) -> None:
    f, xs = as_function(program), points(seed)
    values = [f(x) for x in xs]
    close(fg.jit(f)(xs[0]), values[0])
    close(fg.vmap(f)(xs), values)
    close(fg.jit(fg.vmap(f))(xs), values)
    close(fg.vmap(fg.jit(f))(xs), values)


@settings(max_examples=60)
@given(program=random_programs, seed=st.integers(0, 100))
def test_its_gradient_does_not_depend_on_what_is_staged_or_batched(program: Program, seed: int) -> None:
    f, xs = as_function(program), points(seed)
    gradients = [fg.grad(f)(x) for x in xs]
    close(fg.jit(fg.grad(f))(xs[0]), gradients[0])
    close(fg.grad(fg.jit(f))(xs[0]), gradients[0])
    close(fg.vmap(fg.grad(f))(xs), gradients)
    close(fg.vmap(fg.grad(fg.jit(f)))(xs), gradients)
    close(fg.grad(lambda x: fg.vmap(f)(x).sum())(xs), gradients)
    close(fg.jit(fg.grad(lambda x: fg.vmap(fg.jit(f))(x).sum()))(xs), gradients)


@settings(max_examples=40)
@given(program=random_programs, seed=st.integers(0, 100))
def test_its_gradient_agrees_with_central_differences(program: Program, seed: int) -> None:
    f, xs = as_function(program), points(seed)
    fg.testing.check_grads(f, (xs[0],), rtol=1e-4, atol=1e-5)


@settings(max_examples=40)
@given(program=random_programs, seed=st.integers(0, 100))
def test_nor_do_its_second_derivatives(program: Program, seed: int) -> None:
    f, xs = as_function(program), points(seed)
    products = [fg.hvp(f)(xs[3], x) for x in xs]
    close(fg.jit(fg.hvp(f))(xs[3], xs[0]), products[0])
    close(fg.hvp(fg.jit(f))(xs[3], xs[0]), products[0])
    close(fg.grad(lambda x: fg.jit(fg.grad(f))(x) @ xs[3])(xs[0]), products[0])
    close(fg.vmap(fg.hvp(f), (None, 0))(xs[3], xs), products)
    close(fg.jit(fg.grad(lambda x: (fg.vmap(fg.grad(f))(x) * xs[3]).sum()))(xs), products)
