"""What the tests of jit share."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import funcgrad as fg
import funcgrad.numpy as fnp

Function = Callable[..., Any]
VECTOR = np.array([1.0, 2.0, 3.0])
MATRIX = np.arange(6.0).reshape(2, 3)


class Counted:
    """A function that counts how often it runs."""

    def __init__(self, f: Function) -> None:
        self.calls = 0
        self.f = f

    @property
    def jitted(self) -> Any:
        def f(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return self.f(*args, **kwargs)

        return fg.jit(functools.wraps(self.f)(f))


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "Fortran": np.asfortranarray,
    "strided": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "reversed": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder()),
    "unaligned": lambda x: np.frombuffer(b"." + x.tobytes(), x.dtype, offset=1).reshape(x.shape),
    "read-only": lambda x: np.broadcast_to(x, x.shape),
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape),
}


class Pair(NamedTuple):
    a: Any
    b: Any


@dataclasses.dataclass
class Layer:
    weight: Any
    activation: str = dataclasses.field(default="tanh", metadata={"static": True})


def same(got: Any, expected: Any, narrowest: Any = float) -> None:
    """Equal in structure, type, dtype and value, as far as what is computed in the `narrowest` dtype allows."""
    leaves, structure = fg.tree.flatten(got)
    others, other_structure = fg.tree.flatten(expected)
    assert structure == other_structure
    for x, y in zip(leaves, others, strict=True):
        assert type(x) is type(y) or _are_scalars(x, y)
        few = max([1e-13, *(16 * np.finfo(t).eps for t in (np.asarray(y).dtype, narrowest) if np.dtype(t).kind == "f")])
        np.testing.assert_allclose(x, y, rtol=few, atol=few, equal_nan=True)
        if isinstance(x, np.ndarray):
            assert x.dtype == y.dtype


def native(f: Callable[..., Any], *args: Any) -> Any:
    """The jitted function, which is machine code and nothing else."""
    jitted = fg.jit(f)
    text = jitted.lower(*args).compile().as_text()
    assert not text.startswith("def"), text
    return jitted


def working_memory(f: Any, *args: Any) -> int:
    """The bytes that the machine code of a jitted function works with."""
    size: int = f.lower(*args).compile().memory_analysis().temp_size_in_bytes
    return size


def _are_scalars(x: Any, y: Any) -> bool:
    """True if both are numbers of NumPy, which some of its functions return as arrays without axes.

    For a truth value plus a Python number, Python itself gives one of its own, where the type rule says int64.
    """
    return isinstance(x, np.generic) and np.ndim(y) == 0 and (isinstance(y, np.ndarray) or type(y) is int)


W = np.array([0.5, -0.3, 0.1])


def power(x: Any, n: int = 2, *, flip: bool = False) -> Any:
    """x to the n, by n multiplications."""
    y = x
    for _ in range(n - 1):
        y = y * x
    return -y if flip else y


def loss(w: Any, x: Any) -> Any:
    return fnp.sum(fnp.tanh(x @ w) ** 2)


class Model:
    def __init__(self, w: Any) -> None:
        self.w = w

    @fg.jit
    def by_tree(self, x: Any) -> Any:
        return self.w * x

    @fg.jit(static_argnums=0)
    def by_identity(self, x: Any) -> Any:
        return self.w * x

    @staticmethod
    @fg.jit
    def static(x: Any) -> Any:
        return x + 1

    @classmethod
    @fg.jit(static_argnums=0)
    def of_class(cls, x: Any) -> Any:
        return x + len(cls.__name__)

    def __call__(self, x: Any) -> Any:
        return self.w * x
