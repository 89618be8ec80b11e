"""The functions that the compilers compile, each written once for every library.

A function is called as `f(lib, *args)`, where `lib` is a `Compiler`; a gradient is taken by the first argument.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.problems import LEAVES, link, mlp, mlp_loss

Tree = Any
DType = Any
Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Compiler:
    """What a library offers: its namespaces of NumPy, loops and networks, and its transformations.

    `at` makes of an array what is indexed to write to it, `array` an array of the library of one of NumPy's; `wait`
    returns when a result is there; `forget` empties the caches of what was compiled.
    """

    name: str
    np: Any
    lax: Any
    nn: Any
    jit: Callable[[Function], Function]
    grad: Callable[[Function], Function]
    at: Callable[[Any], Any]
    array: Callable[[Any], Any]
    wait: Callable[[Any], Any]
    forget: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Work:
    """A function and its arguments, pytrees of NumPy arrays and Python numbers.

    Attributes:
        moved: The bytes that have to be read and written, where that and nothing else takes the time.
        products: The matrix products `(m, k, n)` of the function, where they take the time.
    """

    f: Function
    args: tuple[Tree, ...]
    moved: int = 0
    products: tuple[tuple[int, int, int], ...] = ()


def numbers(dtype: DType, *shape: int, seed: int = 0) -> Any:
    """Reproducible values between 0.1 and 0.9."""
    return np.random.default_rng(seed).uniform(0.1, 0.9, shape).astype(dtype)


def normals(dtype: DType, *shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


# Elementwise


def chain(dtype: DType, n: int) -> Work:
    return Work(lambda lib, x: link(lib.np, x), (numbers(dtype, n),))


def chain_sum(dtype: DType, n: int) -> Work:
    return Work(lambda lib, x: lib.np.sum(link(lib.np, x)), (numbers(dtype, n),))


def unrolled(dtype: DType, steps: int) -> Work:
    def f(lib: Compiler, x: Any) -> Any:
        for _ in range(steps):
            x = x + 0.001 * lib.np.sin(x)
        return lib.np.sum(x)

    return Work(f, (numbers(dtype, 16),))


# Limited by memory


def add(dtype: DType, n: int) -> Work:
    x, y = numbers(dtype, n), numbers(dtype, n, seed=1)
    return Work(lambda lib, x, y: x + y, (x, y), moved=3 * x.nbytes)


def scale(dtype: DType, n: int) -> Work:
    x = numbers(dtype, n)
    return Work(lambda lib, x: 1.5 * x + 2.0, (x,), moved=2 * x.nbytes)


def squares(dtype: DType, n: int) -> Work:
    x = numbers(dtype, n)
    return Work(lambda lib, x: lib.np.sum(x * x), (x,), moved=x.nbytes)


def transpose_add(dtype: DType, n: int) -> Work:
    x, y = numbers(dtype, n, n), numbers(dtype, n, n, seed=1)
    return Work(lambda lib, x, y: x + y.T, (x, y), moved=3 * x.nbytes)


# Reductions


def moments(dtype: DType, axis: int) -> Work:
    x = normals(dtype, 100, 128, 160)
    return Work(lambda lib, x: (lib.np.mean(x, axis=axis), lib.np.var(x, axis=axis)), (x,))


def logsumexp(dtype: DType, n: int) -> Work:
    return Work(lambda lib, x: lib.np.sum(lib.nn.logsumexp(x, axis=1)), (normals(dtype, n, n),))


def cross_entropy(dtype: DType, batch: int, classes: int) -> Work:
    def f(lib: Compiler, z: Any, labels: Any) -> Any:
        return -lib.np.mean(lib.np.sum(labels * lib.nn.log_softmax(z, axis=1), axis=1))

    labels = np.eye(classes, dtype=dtype)[np.random.default_rng(0).integers(0, classes, batch)]
    return Work(f, (normals(dtype, batch, classes), labels))


def _normalized(lib: Compiler, x: Any, scale: Any, shift: Any) -> Any:
    centered = x - lib.np.mean(x, axis=-1, keepdims=True)
    variance = lib.np.mean(centered * centered, axis=-1, keepdims=True)
    return centered / lib.np.sqrt(variance + 1e-5) * scale + shift


def layer_norm(dtype: DType, batch: int, width: int) -> Work:
    args = normals(dtype, batch, width), numbers(dtype, width), numbers(dtype, width, seed=1)
    return Work(_normalized, args)


def layer_norm_loss(dtype: DType, batch: int, width: int) -> Work:
    def f(lib: Compiler, w: Any, target: Any) -> Any:
        return lib.np.mean((_normalized(lib, w["x"], w["scale"], w["shift"]) - target) ** 2)

    x, scale, shift = layer_norm(dtype, batch, width).args
    return Work(f, ({"x": x, "scale": scale, "shift": shift}, normals(dtype, batch, width, seed=1)))


# Matrices


def product(dtype: DType, n: int) -> Work:
    args = normals(dtype, n, n), normals(dtype, n, n, seed=1)
    return Work(lambda lib, a, b: a @ b, args, products=((n, n, n),))


def dense(dtype: DType, n: int) -> Work:
    args = normals(dtype, n, n), normals(dtype, n, n, seed=1) / math.sqrt(n), normals(dtype, n, seed=2)
    args = tuple(x.astype(dtype) for x in args)
    return Work(lambda lib, x, w, b: lib.np.tanh(x @ w + b), args, products=((n, n, n),))


def network(dtype: DType, batch: int, width: int) -> Work:
    problem = mlp(batch, width)
    w, data = ({name: x.astype(dtype) for name, x in tree.items()} for tree in (problem.x, problem.data))
    products = []
    for place, (inputs, outputs) in enumerate(pairwise((width, width, width, 10))):
        products += [(batch, inputs, outputs), (inputs, batch, outputs)]
        if place:  # nobody asks for the gradient by the images
            products.append((batch, outputs, inputs))
    return Work(lambda lib, w, data: mlp_loss(lib.np, w, data), (w, data), products=tuple(products))


def logistic_regression(dtype: DType, n: int, features: int) -> Work:
    def f(lib: Compiler, w: Any, x: Any, y: Any) -> Any:
        z = x @ w["w"] + w["b"]
        return lib.np.mean(lib.nn.softplus(z) - y * z) + 0.01 * lib.np.sum(w["w"] * w["w"])

    x = normals(dtype, n, features)
    y = (normals(dtype, n, seed=1) > 0).astype(dtype)
    return Work(f, ({"w": normals(dtype, features, seed=2), "b": np.zeros((), dtype)}, x, y))


def least_squares(dtype: DType, n: int, features: int) -> Work:
    def f(lib: Compiler, w: Any, x: Any, y: Any) -> Any:
        r = x @ w - y
        return 0.5 * lib.np.sum(r * r) / n

    return Work(f, (normals(dtype, features), normals(dtype, n, features, seed=1), normals(dtype, n, seed=2)))


def k_means(dtype: DType, n: int, k: int, dims: int) -> Work:
    def f(lib: Compiler, centers: Any, x: Any) -> Any:
        d = x[:, None, :] - centers[None, :, :]
        return lib.np.sum(lib.np.min(lib.np.sum(d * d, axis=2), axis=1)) / n

    return Work(f, (normals(dtype, k, dims), normals(dtype, n, dims, seed=1)))


def gaussian_mixture(dtype: DType, n: int, k: int, dims: int) -> Work:
    """The log-likelihood of a mixture with full covariances, by the Cholesky factors of their inverses."""

    def f(lib: Compiler, w: Any, x: Any) -> Any:
        xp = lib.np
        factor = xp.exp(w["log_diagonal"])[:, :, None] * xp.eye(dims, dtype=dtype) + xp.tril(w["lower"], -1)
        z = xp.einsum("kij,nkj->nki", factor, x[:, None, :] - w["means"])
        inner = w["alphas"] + xp.sum(w["log_diagonal"], axis=1) - 0.5 * xp.sum(z * z, axis=2)
        return xp.mean(lib.nn.logsumexp(inner, axis=1)) - lib.nn.logsumexp(w["alphas"])

    w = {
        "alphas": normals(dtype, k),
        "means": normals(dtype, k, dims, seed=1),
        "log_diagonal": numbers(dtype, k, dims, seed=2),
        "lower": normals(dtype, k, dims, dims, seed=3),
    }
    return Work(f, (w, normals(dtype, n, dims, seed=4)))


# Loops


def lstm(dtype: DType, steps: int, batch: int = 16, inputs: int = 32, width: int = 64) -> Work:
    def f(lib: Compiler, w: Any, xs: Any) -> Any:
        xp, sigmoid = lib.np, lib.nn.sigmoid

        def step(carry: Any, x: Any) -> Any:
            h, c = carry
            gates = x @ w["x"] + h @ w["h"] + w["b"]
            i, forget, o, g = (gates[:, j * width : (j + 1) * width] for j in range(4))
            c = sigmoid(forget) * c + sigmoid(i) * xp.tanh(g)
            return (sigmoid(o) * xp.tanh(c), c), None

        nothing = xp.zeros((batch, width), dtype)
        (h, _), _ = lib.lax.scan(step, (nothing, nothing), xs)
        return xp.sum(h * h)

    w = {
        "x": normals(dtype, inputs, 4 * width) * dtype(inputs**-0.5),
        "h": normals(dtype, width, 4 * width, seed=1) * dtype(width**-0.5),
        "b": np.zeros(4 * width, dtype),
    }
    return Work(f, (w, normals(dtype, steps, batch, inputs, seed=2)))


def runge_kutta(dtype: DType, steps: int) -> Work:
    """Predators and prey, followed by the classical Runge–Kutta method."""

    def f(lib: Compiler, w: Any, y: Any) -> Any:
        dt = 0.01

        def field(y: Any) -> Any:
            a, b = y[0], y[1]
            return lib.np.stack([w[0] * a - w[1] * a * b, w[3] * a * b - w[2] * b])

        def step(y: Any, _: Any) -> Any:
            k1 = field(y)
            k2 = field(y + 0.5 * dt * k1)
            k3 = field(y + 0.5 * dt * k2)
            k4 = field(y + dt * k3)
            return y + dt / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4), None

        y, _ = lib.lax.scan(step, y, None, length=steps)
        return lib.np.sum(y * y)

    return Work(f, (np.array([1.1, 0.4, 0.4, 0.1], dtype), np.array([2.0, 1.0], dtype)))


def writing_loop(dtype: DType, n: int) -> Work:
    def f(lib: Compiler, x: Any) -> Any:
        return lib.lax.fori_loop(1, n, lambda i, x: lib.at(x)[i].set(0.5 * x[i - 1] + x[i]), x)

    return Work(f, (numbers(dtype, n),))


# Geometry and particles


def n_body(dtype: DType, n: int) -> Work:
    """The accelerations of bodies that attract each other."""

    def f(lib: Compiler, x: Any, m: Any) -> Any:
        d = x[None, :, :] - x[:, None, :]
        r2 = lib.np.sum(d * d, axis=2) + 0.01
        return lib.np.sum((m / (r2 * lib.np.sqrt(r2)))[:, :, None] * d, axis=1)

    return Work(f, (normals(dtype, n, 3), numbers(dtype, n)))


def potential(dtype: DType, n: int) -> Work:
    def f(lib: Compiler, x: Any, m: Any) -> Any:
        d = x[None, :, :] - x[:, None, :]
        r2 = lib.np.sum(d * d, axis=2) + 0.01
        return -0.5 * lib.np.sum(m[:, None] * m[None, :] / lib.np.sqrt(r2))

    return Work(f, (normals(dtype, n, 3), numbers(dtype, n)))


def _rotation(xp: Any, angles: Any) -> Any:
    (a, b, c), (p, q, r) = (xp.cos(angles[i]) for i in range(3)), (xp.sin(angles[i]) for i in range(3))
    rows = [
        [a * b, a * q * r - p * c, a * q * c + p * r],
        [p * b, p * q * r + a * c, p * q * c - a * r],
        [-q, b * r, b * c],
    ]
    return xp.stack([xp.stack(row) for row in rows])


def rotation(dtype: DType, n: int) -> Work:
    args = np.array([0.3, -0.5, 1.1], dtype), normals(dtype, n, 3)
    return Work(lambda lib, angles, x: x @ _rotation(lib.np, angles).T, args)


def rotation_fit(dtype: DType, n: int) -> Work:
    def f(lib: Compiler, angles: Any, x: Any, y: Any) -> Any:
        return lib.np.sum((x @ _rotation(lib.np, angles).T - y) ** 2) / n

    angles, x = rotation(dtype, n).args
    return Work(f, (angles, x, normals(dtype, n, 3, seed=1)))


def rotations(dtype: DType, n: int) -> Work:
    """A matrix for each point."""

    def f(lib: Compiler, matrices: Any, x: Any, y: Any) -> Any:
        return lib.np.sum((lib.np.einsum("nij,nj->ni", matrices, x) - y) ** 2) / n

    return Work(f, (normals(dtype, n, 3, 3), normals(dtype, n, 3, seed=1), normals(dtype, n, 3, seed=2)))


# Algorithms on whole arrays


def sort(dtype: DType, n: int) -> Work:
    return Work(lambda lib, x: lib.np.sort(x), (normals(dtype, n),))


def median(dtype: DType, n: int) -> Work:
    return Work(lambda lib, x: lib.np.median(x), (normals(dtype, n),))


def cumsum(dtype: DType, n: int) -> Work:
    return Work(lambda lib, x: lib.np.cumsum(x), (normals(dtype, n),))


def histogram(dtype: DType, n: int, bins: int) -> Work:
    def f(lib: Compiler, weights: Any, places: Any) -> Any:
        return lib.at(lib.np.zeros(bins, dtype))[places].add(weights)

    return Work(f, (numbers(dtype, n), np.random.default_rng(0).integers(0, bins, n)))


# Calls


def scalar(dtype: DType) -> Work:
    def f(lib: Compiler, x: Any) -> Any:
        return lib.np.sin(x) * x + 2.0

    return Work(f, (0.5,))


def tiny(dtype: DType) -> Work:
    return Work(lambda lib, x: x + 1, (np.ones(3, dtype),))


def no_axes(dtype: DType) -> Work:
    return Work(lambda lib, x: x * 2, (np.array(0.5, dtype),))


def four(dtype: DType) -> Work:
    return Work(lambda lib, a, b, c, d: a + b + c + d, tuple(numbers(dtype, 3, seed=i) for i in range(4)))


def small_dict(dtype: DType) -> Work:
    w = {"w": numbers(dtype, 3, 3), "b": numbers(dtype, 3)}
    return Work(lambda lib, w: {"w": w["w"] * 0.9, "b": w["b"] * 0.9}, (w,))


def leaves(dtype: DType) -> Work:
    w = {name: numbers(dtype, 3, 4, seed=i) for i, name in enumerate(LEAVES)}
    return Work(lambda lib, w: {name: x * 0.9 for name, x in w.items()}, (w,))


def leaves_norm(dtype: DType) -> Work:
    def f(lib: Compiler, w: Any) -> Any:
        return sum(lib.np.sum(x * x) for x in w.values())

    return Work(f, leaves(dtype).args)
