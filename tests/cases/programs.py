"""Calls, branches, loops and custom rules: what a user's function puts into a jaxpr, with its operands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import lax
from funcgrad.core.ir import Atom, Literal
from funcgrad.transforms.programs.loops import Scan
from tests.cases.base import Case, normal

Array = Any
Function = Callable[..., Any]
policies = fg.checkpoint_policies


def application(name: str, f: Function, *args: Any) -> Case:
    """The first operation of this name in the jaxpr of `f`, and its operands."""
    jaxpr = fg.make_jaxpr(f)(*args)
    values = {**dict(zip(jaxpr.inputs, args, strict=True)), **dict(jaxpr.constants)}

    def read(atom: Atom) -> Array:
        return atom.value if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.equations:
        operands = tuple(map(read, equation.inputs))
        if equation.primitive.name == name:
            return Case(equation.primitive, operands)
        y = equation.primitive(*operands)
        values.update(zip(equation.outputs, y if equation.primitive.multiple else (y,), strict=True))
    raise AssertionError(f"there is no {name} in\n{jaxpr}")


# ── calls


def mixed(x: Array, k: Array) -> Any:
    """Several results, of which one is an integer, one an input, and one depends on nothing."""
    return np.sin(x) * k, k + 1, x, fnp.ones(2)


def nested(x: Array, k: Array) -> Any:
    inner = fg.jit(lambda y: np.tanh(y) * x)
    return inner(inner(x)), fg.checkpoint(lambda y: np.exp(-y * y))(x * k)


def updated(x: Array, k: Array) -> Any:
    return fg.at(x)[0].multiply(x[k]), np.where(x > 0, x, x * x)


@st.composite
def calls(draw: st.DrawFn) -> Case:
    f = draw(st.sampled_from([mixed, nested, updated]))
    policy = draw(st.sampled_from([None, policies.everything_saveable, policies.dots_saveable]))
    wrap = draw(st.sampled_from([fg.jit, fg.checkpoint(policy=policy)]))
    return application("call", wrap(f), draw(normal((2,))), np.int64(1))


# ── branches


def switched(number: Array, x: Array, k: Array, w: Array, v: Array) -> Any:
    """Three branches that close over different values."""
    branches = [
        lambda x, k: (w @ x, k, 2.0),
        lambda x, k: (np.exp(-x) * v[k], k + 1, x[0]),
        lambda x, k: (x[::-1] * lax.fori_loop(0, k, lambda i, y: y * x[i], 1.0), -k, v.sum()),
    ]
    return lax.switch(number, branches, x, k)


@st.composite
def conds(draw: st.DrawFn) -> Case:
    number = draw(st.integers(0, 2))
    arrays = draw(normal((2,))), np.int64(1), draw(normal((2, 2), stream=1)), draw(normal((2,), stream=2))
    case = application("cond", switched, np.int64(number), *arrays)
    return replace(case, others={0: [np.int64(n % 3) for n in range(number, number + 3)]})


# ── scans


def recurrent(xs: Array, length: int, **options: Any) -> Any:
    """Constants, a carry that is an array, results that are stacked."""
    w, b = xs[0, :2] * np.eye(2) + 0.5, xs[1, :2]

    def step(h: Array, x: Array) -> Any:
        h = np.tanh(w @ h + b + x)
        return h, {"h": h, "sum": (h * x).sum()}

    return lax.scan(step, b, xs[2 : 2 + length, :2], **options)


def counters(xs: Array, length: int, **options: Any) -> Any:
    """A counter that is carried indexes a constant; some results are integers, one depends on nothing."""

    def step(carry: Any, x: Array) -> Any:
        i, total = carry
        total = total + xs[i % 2, 0] * x
        return (i + 1, total), (2 * i, total > 0, fnp.ones(2), total)

    return lax.scan(step, (0, xs[0, 1]), xs[1, :length], **options)


def nothing_scanned(xs: Array, length: int, **options: Any) -> Any:
    """No arrays to scan over, and a carry that is never differentiated."""
    return lax.scan(lambda c, _: ((np.cos(c[0]) * xs[0, 0], c[1]), c[0]), (xs[1, 1], 7), None, length, **options)


def mapped(xs: Array, length: int, **options: Any) -> Any:
    """Nothing is carried."""
    return lax.scan(lambda c, x: (c, np.where(x > 0, np.sin(x), x * xs[0, 0])), None, xs[:length], **options)


def with_loops(xs: Array, length: int, **options: Any) -> Any:
    """A loop in a branch in a loop."""

    def step(c: Array, x: Array) -> Any:
        n = (x.sum() > 0).astype(int) + 1
        grown = lax.cond(x[0] > 0, lambda: lax.fori_loop(0, n, lambda i, y: np.sin(y) + x[1], c), lambda: c * xs[0])
        return grown, grown * x

    return lax.scan(step, xs[1], xs[:length], **options)


def buffered(xs: Array, length: int, **options: Any) -> Any:
    """A carry that is written to, and read from, in places."""

    def step(carry: Any, x: Array) -> Any:
        i, buffer = carry
        buffer = fg.at(buffer)[i].set(x * buffer[i - 1])
        return (i + 1, buffer), None

    return lax.scan(step, (0, xs[0]), xs[1, :length], **options)


@st.composite
def scans(draw: st.DrawFn) -> Case:
    f = draw(st.sampled_from([recurrent, counters, nothing_scanned, mapped, with_loops, buffered]))
    length = draw(st.integers(0, 3))
    options = {"reverse": draw(st.booleans()), "unroll": draw(st.integers(1, 2))}
    return application("scan", lambda xs: f(xs, length, **options), draw(normal((5, 3))))


@st.composite
def dynamic_scans(draw: st.DrawFn) -> Case:
    """Scans that learn from an operand how many steps to take."""
    length = draw(st.integers(1, 3))
    reverse = draw(st.booleans())
    case = application("scan", lambda xs: buffered(xs, length, reverse=reverse), draw(normal((5, 3))))
    assert isinstance(case.primitive, Scan)
    dynamic = replace(case.primitive, length=None)
    return Case(dynamic, (np.int64(length), *case.args), others={0: [np.int64(n) for n in (length, 0, 1)]})


# ── while loops


def growing(x: Array, k: Array) -> Any:
    """The number of steps depends on the values."""
    return lax.while_loop(lambda c: (c["x"] ** 2).sum() < 9, lambda c: {"x": 1.5 * c["x"] + x * x / 9}, {"x": x + 0.5})


def counting(x: Array, k: Array) -> Any:
    """Constants of the condition and of the body, one of them indexed by a counter."""
    return lax.while_loop(lambda c: c[0] < k, lambda c: (c[0] + 1, c[1] * x[c[0]] + np.sin(x)), (0, x))


def never(x: Array, k: Array) -> Any:
    return lax.while_loop(lambda c: c[1] < 0, lambda c: (c[0] * x, c[1] + 1), (x, k))


def nested_loops(x: Array, k: Array) -> Any:
    """A loop in a loop, each with a number of steps that depends on values."""

    def body(c: Array) -> Array:
        return lax.while_loop(lambda y: abs(y[0]) < 1, lambda y: 1.7 * y + x, c * 0.9) + 0.3

    return lax.while_loop(lambda c: (c * c).sum() < 4, body, x)


@st.composite
def whiles(draw: st.DrawFn) -> Case:
    f = draw(st.sampled_from([growing, counting, never, nested_loops]))
    k = draw(st.integers(0, 2))
    # of one sign, so that the loops that grow come to an end
    case = application("while", f, abs(draw(normal((2,)))) + 0.1, np.int64(k))
    bounds = [i for i, x in enumerate(case.args) if f is counting and isinstance(x, np.integer)]
    return replace(case, others={i: [np.int64(n) for n in (k, 0, 2)] for i in bounds})


# ── custom rules, of which the derivative is the true one


@fg.custom_vjp
def product(p: Any, k: Array) -> Any:
    return {"y": p["a"] * p["b"] * k, "k": k}


def _product_forward(p: Any, k: Array) -> Any:
    return product(p, k), (p, k)


def _product_backward(saved: Any, g: Any) -> Any:
    p, k = saved
    return {"a": g["y"] * p["b"] * k, "b": (g["y"] * p["a"] * k).sum()}, None


product.defvjp(_product_forward, _product_backward)


def closing_over(x: Array, k: Array) -> Any:
    """The function and its rules close over arrays, some of them traced."""
    order = np.array([1, 0])

    @fg.custom_gradient
    def f(y: Array) -> Any:
        return np.sin(y)[order] * (k + order), lambda g: np.cos(y) * (g * (k + order))[order]

    return f(x)


@st.composite
def customs(draw: st.DrawFn) -> Case:
    f = draw(st.sampled_from([lambda x, k: product({"a": x, "b": x[0]}, k), closing_over]))
    return application("custom_vjp", f, draw(normal((2,))), np.int64(2))


CASES = {
    "call": calls(),
    "cond": conds(),
    "scan": st.one_of(scans(), dynamic_scans()),
    "while": whiles(),
    "custom_vjp": customs(),
}
