"""The functions to differentiate, each written once for every library, and their gradients by hand.

Letters: `x` is what the gradient is taken by, `data` the constants, `xp` a namespace of NumPy functions.

A gradient `..._by_hand` is what a careful person writes in NumPy: the forward pass, then the same arithmetic
backwards. It is timed, too. Where no such thing exists, an `..._exactly` gives the true answer by a formula.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.libraries import Array, Function, Library, Tree

Derivative = Callable[[Library, Function, Tree], Function]


def gradient(library: Library, f: Function, data: Tree) -> Function:
    return library.grad(f)


@dataclass(frozen=True, slots=True)
class Problem:
    """`f(xp, x, data)` and its `derivative` at `x`; `by_hand` is timed, `exactly` is only compared with."""

    f: Callable[[Any, Tree, Tree], Any]
    x: Tree
    data: Tree = field(default_factory=dict)
    derivative: Derivative = gradient
    by_hand: Callable[[Tree, Tree], Tree] | None = None
    exactly: Callable[[Tree, Tree], Tree] | None = None


def points(*shape: int) -> Array:
    """Reproducible values between 0.1 and 0.9."""
    return np.random.default_rng(0).uniform(0.1, 0.9, shape)


# Rosenbrock's function


def rosenbrock(xp: Any, x: Any, data: Tree) -> Any:
    return xp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def rosenbrock_by_hand(x: Array, data: Tree) -> Array:
    head, tail = x[:-1], x[1:]
    a = tail - head**2
    b = 1.0 - head
    np.sum(100.0 * a**2 + b**2)
    ga = 200.0 * a
    gx = np.zeros_like(x)
    gx[1:] += ga
    gx[:-1] -= ga * (2.0 * head)
    gx[:-1] -= 2.0 * b
    return gx


def rosenbrock_gradient() -> Problem:
    return Problem(rosenbrock, points(10), by_hand=rosenbrock_by_hand)


def rosenbrock_hvp_exactly(x: Array, data: Tree) -> Array:
    head, tail, v = x[:-1], x[1:], data["v"]
    dga = 200.0 * (v[1:] - 2.0 * head * v[:-1])
    hv = np.zeros_like(x)
    hv[1:] = dga
    hv[:-1] += 2.0 * v[:-1] - 2.0 * head * dga - 400.0 * (tail - head**2) * v[:-1]
    return hv


def rosenbrock_hvp() -> Problem:
    def hvp(library: Library, f: Function, data: Tree) -> Function:
        df = library.grad(f)
        return library.grad(lambda x: library.xp.sum(df(x) * data["v"]))

    data = {"v": np.linspace(-1.0, 1.0, 10)}
    return Problem(rosenbrock, points(10), data, derivative=hvp, exactly=rosenbrock_hvp_exactly)


# A chain of elementwise operations

LINK = 12  # operations


def link(xp: Any, x: Any) -> Any:
    """Twelve elementwise operations whose values stay where all of them are smooth."""
    x = xp.tanh(xp.sin(x) * 1.5)
    x = xp.square(xp.log(x + 2.0))
    x = xp.cos(-xp.sqrt(xp.exp(x)))
    return 1.0 - x / 3.0


def chain(links: int, n: int) -> Problem:
    """The sum of `links` times 12 operations on `n` values."""

    def f(xp: Any, x: Any, data: Tree) -> Any:
        for _ in range(links):
            x = link(xp, x)
        return xp.sum(x)

    def by_hand(x: Array, data: Tree) -> Array:
        tape = []
        for _ in range(links):
            x, saved = link_forward(x)
            tape.append(saved)
        np.sum(x)
        g = np.ones_like(x)
        while tape:
            g = link_backward(g, *tape.pop())
        return g

    return Problem(f, points(n), by_hand=by_hand)


def link_forward(x: Array) -> tuple[Array, tuple[Array, ...]]:
    a = np.sin(x)
    b = a * 1.5
    c = np.tanh(b)
    d = c + 2.0
    e = np.log(d)
    f = np.square(e)
    h = np.exp(f)
    i = np.sqrt(h)
    j = -i
    k = np.cos(j)
    l = k / 3.0
    return 1.0 - l, (x, c, d, e, h, i, j)


def link_backward(g: Array, x: Array, c: Array, d: Array, e: Array, h: Array, i: Array, j: Array) -> Array:
    g = -g
    g = g / 3.0
    g = g * -np.sin(j)
    g = -g
    g = g * (0.5 / i)
    g = g * h
    g = g * (2.0 * e)
    g = g / d
    g = g * (1.0 - c * c)
    g = g * 1.5
    return g * np.cos(x)


# A network with two hidden layers and the softmax loss


def mlp_loss(xp: Any, w: Any, data: Tree) -> Any:
    h = xp.tanh(data["images"] @ w["w1"] + w["b1"])
    h = xp.tanh(h @ w["w2"] + w["b2"])
    z = h @ w["w3"] + w["b3"]
    normalizer = xp.log(xp.sum(xp.exp(z), axis=1))
    return xp.mean(normalizer - xp.sum(data["labels"] * z, axis=1))


def mlp_by_hand(w: dict[str, Array], data: Tree) -> dict[str, Array]:
    images, labels = data["images"], data["labels"]
    h1 = np.tanh(images @ w["w1"] + w["b1"])
    h2 = np.tanh(h1 @ w["w2"] + w["b2"])
    z = h2 @ w["w3"] + w["b3"]
    e = np.exp(z)
    s = np.sum(e, axis=1)
    np.mean(np.log(s) - np.sum(labels * z, axis=1))
    g = 1.0 / len(images)
    gz = (g / s)[:, None] * e - g * labels
    g2 = (gz @ w["w3"].T) * (1.0 - h2 * h2)
    g1 = (g2 @ w["w2"].T) * (1.0 - h1 * h1)
    return {
        "w1": images.T @ g1,
        "b1": np.sum(g1, axis=0),
        "w2": h1.T @ g2,
        "b2": np.sum(g2, axis=0),
        "w3": h2.T @ gz,
        "b3": np.sum(gz, axis=0),
    }


def mlp(batch: int, width: int, classes: int = 10) -> Problem:
    rng = np.random.default_rng(0)
    sizes = (width, width, width, classes)
    w: dict[str, Array] = {}
    for layer, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
        w[f"w{layer}"] = rng.normal(0.0, inputs**-0.5, (inputs, outputs))
        w[f"b{layer}"] = np.zeros(outputs)
    labels = np.eye(classes)[rng.integers(0, classes, batch)]
    return Problem(mlp_loss, w, {"images": rng.normal(size=(batch, width)), "labels": labels}, by_hand=mlp_by_hand)


# Indexing in a Python loop


def sum_of_squares(xp: Any, x: Any, data: Tree) -> Any:
    total = 0.0
    for i in range(x.shape[0]):
        total = total + x[i] ** 2
    return total


def sum_of_squares_by_hand(x: Array, data: Tree) -> Array:
    sum_of_squares(np, x, data)
    gx = np.zeros_like(x)
    for i in reversed(range(len(x))):
        gx[i] += 2.0 * x[i]
    return gx


def indexing_loop(n: int) -> Problem:
    return Problem(sum_of_squares, points(n), by_hand=sum_of_squares_by_hand)


# Many small arrays in one pytree

LEAVES = tuple(f"w{i:02}" for i in range(100))


def norm_of_tree(xp: Any, w: Any, data: Tree) -> Any:
    total = 0.0
    for name in LEAVES:
        total = total + xp.sum(w[name] * w[name])
    return total


def norm_of_tree_by_hand(w: dict[str, Array], data: Tree) -> dict[str, Array]:
    norm_of_tree(np, w, data)
    gradients = {}
    for name in LEAVES:
        gradients[name] = 1.0 * w[name]
        gradients[name] += 1.0 * w[name]
    return gradients


def pytree() -> Problem:
    return Problem(norm_of_tree, dict(zip(LEAVES, points(100, 3, 4), strict=True)), by_hand=norm_of_tree_by_hand)


# Derivatives of derivatives


def damped_wave() -> Problem:
    """The gradient of the sum of the gradient of ``sum(sin(x) exp(-x))``."""

    def twice(library: Library, f: Function, data: Tree) -> Function:
        df = library.grad(f)
        return library.grad(lambda x: library.xp.sum(df(x)))

    return Problem(
        lambda xp, x, data: xp.sum(xp.sin(x) * xp.exp(-x)),
        points(100),
        derivative=twice,
        exactly=lambda x, data: -2.0 * np.cos(x) * np.exp(-x),
    )


def tanh_thrice() -> Problem:
    """The third derivative of tanh at a number."""

    def thrice(library: Library, f: Function, data: Tree) -> Function:
        return library.grad(library.grad(library.grad(f)))

    def exactly(x: Array, data: Tree) -> Array:
        t = np.tanh(x)
        third: Array = (1.0 - t**2) * (6.0 * t**2 - 2.0)
        return third

    return Problem(lambda xp, x, data: xp.tanh(x), np.array(0.3), derivative=thrice, exactly=exactly)
