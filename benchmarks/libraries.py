"""The contenders, each reduced to what a benchmark needs: a namespace, arrays, `grad`.

A library that is not installed is left out, so the benchmarks run with funcgrad and NumPy alone.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Tree = Any  # an array, or a dict of arrays; of whichever library
Function = Callable[[Tree], Any]


def unchanged(x: Any) -> Any:
    return x


@dataclass(frozen=True, slots=True)
class Library:
    """One way to take a gradient.

    `xp` is its namespace of NumPy functions, `array` makes its array from one of NumPy's, `compile` is applied
    to the derivative, and `wait` returns when a result has been computed (None: a call returns only then).
    """

    name: str
    xp: Any
    grad: Callable[[Function], Function]
    array: Callable[[Array], Any] = unchanged
    compile: Callable[[Function], Function] = unchanged
    wait: Callable[[Any], Any] | None = None


def map_tree(function: Callable[[Any], Any], tree: Tree) -> Tree:
    """Apply `function` to an array, or to each array of a dict."""
    if isinstance(tree, dict):
        return {name: function(leaf) for name, leaf in tree.items()}
    return function(tree)


def leaves(tree: Tree) -> list[Any]:
    """The arrays of a tree, in the order of `map_tree`."""
    return list(tree.values()) if isinstance(tree, dict) else [tree]


def is_installed(package: str) -> bool:
    """Whether `package` can be imported; a bare directory of that name does not count."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None


def _funcgrad() -> Library:
    return Library(
        "funcgrad",
        xp=importlib.import_module("funcgrad.numpy"),
        grad=importlib.import_module("funcgrad").grad,
    )


def _autograd() -> Library:
    return Library(
        "autograd",
        xp=importlib.import_module("autograd.numpy"),
        grad=importlib.import_module("autograd").grad,
    )


def _jax(name: str, *, compiled: bool) -> Library:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    jax = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)
    xp = importlib.import_module("jax.numpy")
    compile = jax.jit if compiled else unchanged
    return Library(name, xp, jax.grad, array=xp.asarray, compile=compile, wait=jax.block_until_ready)


def _torch() -> Library:
    # Threads of OpenMP that spin for more work would slow down the contender that comes next.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    torch = importlib.import_module("torch")

    def traced(x: Any) -> Any:
        return x if x.requires_grad else x.detach().requires_grad_()

    def grad(f: Function) -> Function:
        def gradient(x: Tree) -> Tree:
            nested = any(leaf.requires_grad for leaf in leaves(x))  # an outer gradient will differentiate this one
            tree = map_tree(traced, x)
            cotangents = iter(torch.autograd.grad(f(tree), leaves(tree), create_graph=nested))
            return map_tree(lambda leaf: next(cotangents), tree)

        return gradient

    return Library("torch", torch, grad, array=torch.from_numpy)


_LOADERS: dict[str, tuple[str, Callable[[], Library]]] = {
    "funcgrad": ("funcgrad", _funcgrad),
    "autograd": ("autograd", _autograd),
    "jax eager": ("jax", lambda: _jax("jax eager", compiled=False)),
    "jax jit": ("jax", lambda: _jax("jax jit", compiled=True)),
    "torch": ("torch", _torch),
}

NAMES = tuple(_LOADERS)
PEERS = NAMES[1:]


def load(name: str) -> Library:
    """Import the library that is called `name` in the tables."""
    return _LOADERS[name][1]()


def load_installed() -> list[Library]:
    """Import every library that is installed, funcgrad first."""
    return [loader() for package, loader in _LOADERS.values() if is_installed(package)]
