"""Random programs: functions of a few arrays that apply elementwise, shape and index operations one after another.

What they compute does not depend on the order in which anything is summed, so two ways to run one agree bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as fnp

Array = Any
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.25, 1e-300, 1e300, np.inf, -np.inf, np.nan]
SMALL = 64


def inputs(seed: int) -> list[Array]:
    """Arguments of several shapes and dtypes, special values among them. Programs prefer the last ones."""
    rng = np.random.default_rng(seed)
    return [
        float(rng.choice(SPECIAL)),
        np.float64(rng.choice(SPECIAL)),
        rng.integers(-3, 4, (2, 1)),
        rng.choice([True, False], (2, 3)),
        rng.choice(SPECIAL[:7], 3).astype(np.float32),
        rng.choice(SPECIAL, (2, 3)),
        rng.standard_normal((2, 3)),
    ]


def _fits(x1: Array, x2: Array) -> bool:
    try:
        shape = np.broadcast_shapes(np.shape(x1), np.shape(x2))
    except ValueError:
        return False
    return int(np.prod(shape)) <= SMALL


def _binary(f: Callable[..., Array]) -> Callable[..., Array]:
    return lambda x1, x2, n: f(x1, x2) if _fits(x1, x2) else f(x1, x1)


def _unary(f: Callable[..., Array]) -> Callable[..., Array]:
    return lambda x1, x2, n: f(x1)


def _number(x: Array) -> Array:
    """A bool as an int, since NumPy has no arithmetic of bools."""
    return x + 0 if fnp.asarray(x).dtype == bool else x


def _where(x1: Array, x2: Array, n: int) -> Array:
    c = x1 != 0
    return fnp.where(c if n % 2 else fnp.logical_not(c), x1, x2 if _fits(x1, x2) else x1)


def _reshape(x1: Array, x2: Array, n: int) -> Array:
    shape = np.shape(x1)
    return fnp.reshape(x1, [(-1,), shape[::-1], (1, *shape), shape][n % 4])


def _broadcast(x1: Array, x2: Array, n: int) -> Array:
    shape = np.shape(x1)
    return fnp.broadcast_to(x1, (2, *shape)) if np.prod(shape) * 2 <= SMALL else x1


def _index(x1: Array, x2: Array, n: int) -> Array:
    if not np.shape(x1) or not np.shape(x1)[0]:
        return x1
    return x1[[0, slice(None, None, -1), slice(1, None), np.array([0, -1, 0]), None, ...][n % 6]]


def _write(x1: Array, x2: Array, n: int) -> Array:
    if not np.shape(x1) or not np.shape(x1)[0]:
        return x1
    place = fg.at(x1)[[0, slice(None, None, 2), np.array([0, -1, 0]), -1][n % 4]]
    value = x1[0]
    return [place.set, place.add, place.max][n % 3](value) if fnp.asarray(x1).dtype != bool else place.set(value)


def _concatenate(x1: Array, x2: Array, n: int) -> Array:
    x1 = fnp.atleast_1d(x1)
    x2 = fnp.atleast_1d(x2)
    x2 = x2 if np.shape(x1)[1:] == np.shape(x2)[1:] and fnp.size(x1) + fnp.size(x2) <= SMALL else x1[:0]
    return fnp.concatenate([x1, x2])


def _convert(x1: Array, x2: Array, n: int) -> Array:
    x1 = fnp.asarray(x1)
    return x1.astype([np.float64, np.float32, x1.dtype][n % 3])


def _literal(x1: Array, x2: Array, n: int) -> Array:
    x1 = _number(x1)
    return [x1 * 1, 1 * x1, x1 + (-0.0), x1 - 0, x1**1, x1 / 1, x1 + 0.0, x1 * 0, x1 - (-0.0), x1 * 2.0][n % 10]


OPERATIONS: list[Callable[..., Array]] = [
    _unary(lambda x: -_number(x)),
    _unary(lambda x: np.negative(-_number(x))),
    _unary(lambda x: abs(_number(x))),
    _unary(np.sin),
    _unary(np.tanh),
    _unary(np.floor),
    _unary(lambda x: np.sign(_number(x))),
    _unary(np.logical_not),
    _unary(lambda x: np.conjugate(_number(x))),
    _unary(fg.stop_gradient),
    _unary(fnp.transpose),
    _unary(lambda x: fnp.flip(x)),
    _unary(fnp.ravel),
    _binary(lambda a, b: _number(a) + _number(b)),
    _binary(lambda a, b: _number(a) - _number(b)),
    _binary(lambda a, b: _number(a) * _number(b)),
    _binary(lambda a, b: _number(a) / _number(b)),
    _binary(np.maximum),
    _binary(np.fmin),
    _binary(np.less),
    _binary(np.not_equal),
    _binary(np.logical_and),
    _binary(lambda a, b: (a > 0) & (b > 0)),
    _where,
    _reshape,
    _broadcast,
    _index,
    _write,
    _concatenate,
    _convert,
    _literal,
]


@dataclass(frozen=True)
class RandomProgram:
    """Steps, each an operation on earlier values, and the values that are returned."""

    steps: tuple[tuple[int, int, int, int], ...]
    outputs: tuple[int, ...]

    def __call__(self, *xs: Array) -> list[Array]:
        values = list(xs)
        for operation, i, j, n in self.steps:
            # the latest values are the likeliest operands
            values.append(OPERATIONS[operation](values[-1 - i % len(values)], values[-1 - j % len(values)], n))
        return [values[-1 - i % len(values)] for i in self.outputs]


def programs(steps: int = 12) -> st.SearchStrategy[RandomProgram]:
    """Programs of at most so many steps."""
    operation = st.integers(0, len(OPERATIONS) - 1)
    step = st.tuples(operation, st.integers(0, 2), st.integers(0, 9), st.integers(0, 59))
    outputs = st.lists(st.integers(0, 3), min_size=1, max_size=4)
    return st.builds(RandomProgram, st.lists(step, min_size=2, max_size=steps).map(tuple), outputs.map(tuple))


def assert_same_bits(a: Array, b: Array) -> None:
    """Equal in kind, type and value: −0.0 is not 0.0, and one NaN is any other."""
    assert isinstance(a, np.ndarray | np.generic) == isinstance(b, np.ndarray | np.generic)
    x, y = np.asarray(a), np.asarray(b)
    assert (x.shape, x.dtype) == (y.shape, y.dtype)
    np.testing.assert_array_equal(x, y)
    if x.dtype.kind in "fc":
        np.testing.assert_array_equal(np.signbit(x.real) & (x.real == 0), np.signbit(y.real) & (y.real == 0))
        np.testing.assert_array_equal(np.signbit(x.imag) & (x.imag == 0), np.signbit(y.imag) & (y.imag == 0))
