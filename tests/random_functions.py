"""Random functions of a few arrays: they move, compute, fold, multiply, write, loop and branch.

A program is a list of steps, each from earlier values to a new one; the body of a loop, a branch or a function under
`jit` is again a program, which closes over the values around it. Where two operands do not fit, one is made to.

There are two kinds. The *whole* ones compute with whole numbers that stay small, so that every sum is exact, in
whatever order it is computed, and everything may depend on every digit: comparisons, positions, numbers of steps. The
*smooth* ones have functions whose values are rounded, and nothing in them jumps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import lax

Array = Any
Values = tuple[Array, ...]
Steps = tuple[Any, ...]

_LARGEST = 2000
_MOST = 9


def shape_of(x: Array) -> tuple[int, ...]:
    """The shape, of numbers too."""
    return tuple(np.shape(x))


def dtype_of(x: Array) -> np.dtype[Any]:
    """The dtype, of tracers too, in the byte order of this machine."""
    return np.dtype(x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype).newbyteorder("=")


def kind(x: Array) -> str:
    """The kind of the dtype."""
    return dtype_of(x).kind


def number(x: Array) -> Array:
    """An array that is no array of truth values."""
    x = fnp.asarray(x)
    return x.astype(np.int32) if kind(x) == "b" else x


def summable(x: Array) -> Array:
    """An array whose sums are exact."""
    x = number(x)
    return x.astype(np.float32) if dtype_of(x) == np.float16 else x


def floating(x: Array) -> Array:
    """An array of floats."""
    x = fnp.asarray(x)
    return x if kind(x) == "f" else x.astype(np.float64)


def bounded(x: Array) -> Array:
    """Small again, and whole if it was."""
    return fnp.minimum(x, _MOST) if kind(x) == "u" else fnp.clip(x, -_MOST, _MOST)


def small(x: Array) -> Array:
    """A part of the array that is not too large."""
    while math.prod(shape_of(x)) > _LARGEST:
        x = x[tuple(slice(0, (n + 1) // 2) for n in shape_of(x))]
    return x


def fitted(a: Array, b: Array, n: int) -> Array:
    """`b`, or some of its elements in the shape of `a`, so that both broadcast."""
    sa, sb = shape_of(a), shape_of(b)
    try:
        if math.prod(np.broadcast_shapes(sa, sb)) <= _LARGEST:
            return b
    except ValueError:
        pass
    size = math.prod(sa)
    flat = fnp.ravel(b)
    if math.prod(sb) == 0:
        return fnp.zeros(sa, dtype_of(b))
    if n % 2:
        flat = flat[::-1]
    if math.prod(sb) < size:
        flat = fnp.tile(flat, -(-size // math.prod(sb)))
    return fnp.reshape(flat[:size], sa)


def axis_of(a: Array, n: int) -> int | None:
    """One of the axes; None if there is none."""
    ndim = len(shape_of(a))
    return n % ndim if ndim else None


def filled(a: Array) -> bool:
    """True if there is something to fold."""
    return 0 not in shape_of(a)


# ── moves


def _slice(a: Array, b: Array, n: int) -> Array:
    choice = [
        (slice(None, None, -1),), (slice(1, None, 2),), (..., slice(None, None, -2)), (..., slice(0, -1)),
        (None, ...), (..., None), (slice(2),), (..., slice(None, None, 3)),
    ]  # fmt: skip
    index = choice[n % len(choice)]
    return a[index] if shape_of(a) or index in ((None, ...), (..., None)) else a


def _permute(a: Array, b: Array, n: int) -> Array:
    ndim = len(shape_of(a))
    return fnp.moveaxis(a, n % ndim, (n // 2) % ndim) if ndim else a


def _reshape(a: Array, b: Array, n: int) -> Array:
    shape = shape_of(a)
    return fnp.reshape(a, [(-1,) if 0 not in shape else shape, shape[::-1], (1, *shape), (*shape, 1)][n % 4])


def _broadcast(a: Array, b: Array, n: int) -> Array:
    shape = shape_of(a)
    return fnp.broadcast_to(a, (2 + n % 2, *shape)) if n % 2 else fnp.broadcast_to(a[..., None], (*shape, 2 + n % 3))


def _concatenate(a: Array, b: Array, n: int) -> Array:
    axis = axis_of(a, n)
    if axis is None:
        return fnp.stack([a, fitted(a, b, n) if shape_of(b) == () else a])
    b = fnp.broadcast_to(fitted(a, b, n), np.broadcast_shapes(shape_of(a), shape_of(fitted(a, b, n))))
    if shape_of(b) != shape_of(a):
        b = a
    return fnp.concatenate([a, b[::-1], a[:1]] if axis == 0 else [b, a], axis=axis)


def _triangle(a: Array, b: Array, n: int) -> Array:
    return fnp.tril(a, n % 3 - 1) if len(shape_of(a)) >= 2 else a


def _roll(a: Array, b: Array, n: int) -> Array:
    return fnp.roll(a, n - 3, axis_of(a, n)) if shape_of(a) else a


def _take(a: Array, b: Array, n: int) -> Array:
    axis = axis_of(a, n)
    if axis is None or not shape_of(a)[axis]:
        return a
    length = shape_of(a)[axis]
    rows = np.array([0, -1, n % length, 0])
    return fnp.take(a, rows if n % 2 else n % length, axis=axis)


def _take_drawn(a: Array, b: Array, n: int) -> Array:
    """At positions that are themselves computed; negative ones count from the end."""
    axis = axis_of(a, n)
    if axis is None or not shape_of(a)[axis] or kind(b) not in "if":
        return a
    length = shape_of(a)[axis]
    index = fnp.remainder(fnp.ravel(b)[:7], length).astype(
        [np.int64, np.int8, np.int32][n % 3] if length < 100 else int
    )
    return fnp.take(a, index - length if n % 2 else index, axis=axis)


def _sort(a: Array, b: Array, n: int) -> Array:
    return fnp.sort(a, axis=axis_of(a, n)) if shape_of(a) else a


# ── elementwise


def _where(a: Array, b: Array, n: int) -> Array:
    b = fitted(a, b, n)
    return fnp.where(b > 0 if n % 2 else a == b, a, b)


def _arithmetic(f: Callable[[Array, Array], Array]) -> Callable[[Array, Array, int], Array]:
    return lambda a, b, n: bounded(f(number(a), fitted(a, number(b), n)))


def _literal(a: Array, b: Array, n: int) -> Array:
    a = number(a)
    return bounded([a + 1, 2 * a, a - 3, 1 - a, a * 0, -a, abs(a), a**2][n % 8])


def _compare(a: Array, b: Array, n: int) -> Array:
    b = fitted(a, b, n)
    return [a < b, a >= b, (a != b) | (a > 0), fnp.logical_not(a), fnp.logical_xor(a, b)][n % 5]


def _cast(a: Array, b: Array, n: int) -> Array:
    return fnp.asarray(a).astype(["f8", "f4", "i8", "i4", "i2", "i1", "?", "f2", "u1", "u4"][n % 10])


def _divide(a: Array, b: Array, n: int) -> Array:
    """A quotient that is whole, and what is left."""
    a = number(a)
    return a // 3 if n % 2 else a % [2, 3, 4, 5][n % 4]


# ── folds and products


def _fold(a: Array, b: Array, n: int) -> Array:
    axis = axis_of(a, n)
    a = a if kind(a) == "b" else summable(a)
    names = ["sum", "max", "min", "sum", "any", "all", "argmax", "argmin"]
    name = names[n % len(names)] if filled(a) else "sum"
    if name == "argmin" and kind(a) == "b":
        name = "any"
    f = getattr(fnp, name)
    keep = {} if name in ("argmax", "argmin") else {"keepdims": n % 3 == 0}
    return bounded(f(a, axis=None if n % 5 == 0 else axis, **keep))


def _fold_smooth(a: Array, b: Array, n: int) -> Array:
    if not filled(a):
        return a
    axis = None if n % 5 == 0 else axis_of(a, n)
    return [fnp.mean, fnp.sum, fg.nn.logsumexp, fnp.mean][n % 4](a, axis=axis, keepdims=n % 3 == 0)


def _normalize(a: Array, b: Array, n: int) -> Array:
    """Folds whose results are read by what runs over the same elements again."""
    axis = axis_of(a, n)
    if axis is None or not filled(a):
        return a
    centred = a - a.mean(axis=axis, keepdims=True)
    return fg.nn.softmax(a, axis=axis) if n % 2 else centred / fnp.sqrt((centred**2).mean(axis=axis, keepdims=True) + 1)


def _centre(a: Array, b: Array, n: int) -> Array:
    axis = axis_of(a, n)
    a = number(a)
    if axis is None or not filled(a):
        return a
    return bounded(a - a.max(axis=axis, keepdims=True) + (a == a.min(axis=axis, keepdims=True)))


def _running(a: Array, b: Array, n: int) -> Array:
    return bounded(fnp.cumsum(summable(a), axis=axis_of(a, n))) if shape_of(a) else a


def _matmul(a: Array, b: Array, n: int) -> Array:
    a, b = summable(a), summable(b)
    sa, sb = shape_of(a), shape_of(b)
    if not sa or not sb:
        return bounded(a * b)
    b = fnp.reshape(b, (-1, sb[-1])) if 0 not in sb else fnp.zeros((1, 1), dtype_of(b))
    k = min(sa[-1], b.shape[0])
    return bounded(a[..., :k] @ b[:k])


def _einsum(a: Array, b: Array, n: int) -> Array:
    a = summable(a)
    if len(shape_of(a)) < 2:
        return bounded(fnp.outer(a, a)) if math.prod(shape_of(a)) < 40 else a
    spec = ["...ij,...ij->...j", "...ij,...ij->ji...", "...ij,...kj->...ik", "...ij,...ij->...", "...ij,...ik->...kj"][
        n % 5
    ]
    return bounded(fnp.einsum(spec, a, a))


# ── writes


def _write(a: Array, b: Array, n: int) -> Array:
    shape = shape_of(a)
    if not shape or not shape[0]:
        return a
    index: Any = [0, slice(None, None, 2), np.array([0, -1, 0]), slice(1, None), -1][n % 5]
    value = a[index] if n % 2 else a[0]
    at = fg.at(a)[index]
    if kind(a) == "b":
        return at.set(value)
    return bounded([at.set, at.add, at.max, at.add, at.min][n % 5](value * 2))


def _write_drawn(a: Array, b: Array, n: int) -> Array:
    """At positions that are computed, some of them more than once."""
    shape = shape_of(a)
    if not shape or not shape[0] or kind(b) not in "if" or kind(a) == "b":
        return a
    index = fnp.remainder(fnp.ravel(b)[:5], shape[0]).astype(int)
    at = fg.at(a)[index]
    value = a[:1] if n % 2 else fnp.take(a, index, axis=0) + 1
    return bounded([at.add, at.max, at.add, at.min][n % 4](value))


def _segment(a: Array, b: Array, n: int) -> Array:
    """A slice at a place that is computed."""
    shape = shape_of(a)
    if not shape or not shape[0]:
        return a
    length = 1 + n % shape[0]
    start = fnp.max(number(b)).astype(int) if filled(b) else 0
    part = lax.dynamic_slice_in_dim(a, start, length)
    return lax.dynamic_update_slice_in_dim(a, part[::-1], start + 1, 0) if n % 2 else part


# ── loops and branches: the number of steps is whole, or does not depend on the values


def _whole_number(b: Array, top: int) -> Array:
    return fnp.clip(fnp.max(number(b)), 0, top).astype(int) if filled(b) and shape_of(b) else 1


def _like(y: Array, a: Array) -> Array:
    """A value of the shape and the dtype of a carry."""
    y = fitted(a, fnp.asarray(y), 0)
    try:
        if np.broadcast_shapes(shape_of(a), shape_of(y)) != shape_of(a):
            y = fnp.reshape(fnp.ravel(y)[: math.prod(shape_of(a))], shape_of(a))
    except ValueError:
        y = a
    return fnp.broadcast_to(y, shape_of(a)).astype(dtype_of(a))


Run = Callable[..., Array]


def _scan(a: Array, b: Array, n: int, run: Run) -> Array:
    """A carry that is an array, another that counts, elements of what is scanned, results that are stacked."""
    xs = b if shape_of(b) and shape_of(b)[0] <= 6 else fnp.stack([b, b])
    a = fnp.asarray(a)

    def step(carry: Any, x: Array) -> Any:
        i, c = carry
        c = _like(run(c, x), c)
        return (i + 1, c), (number(c).sum() + i if n % 2 else x)

    (_, last), ys = lax.scan(step, (0, a), xs, reverse=n % 3 == 0, unroll=1 + n % 2)
    return last if n % 4 < 2 else bounded(ys)


def _fori(a: Array, b: Array, n: int, run: Run) -> Array:
    """Two carries that change places, and a number of steps that may be known."""
    a = fnp.asarray(a)
    count = _whole_number(b, 4) if n % 2 else n % 4
    first, second = lax.fori_loop(0, count, lambda i, c: (c[1], _like(run(c[0], b), c[0])), (a, a))
    return first if n % 3 else second


def _while(a: Array, b: Array, n: int, run: Run) -> Array:
    """The condition reads a constant, a counter, and what is carried; nothing may be left to do from the start."""
    a = fnp.asarray(a)
    top = _whole_number(b, 3)
    return lax.while_loop(lambda s: s[0] < top, lambda s: (s[0] + 1, _like(run(s[1], b), a)), (n % 3, a))[1]


def _place(a: Array, b: Array, n: int, run: Run) -> Array:
    """A carry that is written to in one place at each step, and read from in another."""
    a = fnp.asarray(a)
    shape = shape_of(a)
    if not shape or not shape[0] or kind(a) == "b":
        return a

    def step(i: Array, c: Array) -> Array:
        row = fnp.take(c, i % shape[0], axis=0)
        return bounded(fg.at(c)[(i + n) % shape[0]].add(_like(run(row, c), row)))

    return lax.fori_loop(0, 3 + n % 3, step, a)


def _cond(a: Array, b: Array, n: int, run: Run) -> Array:
    a = fnp.asarray(a)
    if n % 3 == 2:
        branches = [lambda x: _like(run(x, b), a), lambda x: x, lambda x: x[::-1] if shape_of(x) else x]
        return lax.switch(_whole_number(b, 2), branches, a)
    return lax.cond(_whole_number(b, 3) > n % 2, lambda x: _like(run(x, b), a), lambda x: x, a)


def _jit(a: Array, b: Array, n: int, run: Run) -> Array:
    return fg.jit(run)(a, b)


def _vmap(a: Array, b: Array, n: int, run: Run) -> Array:
    if not shape_of(a) or not 0 < shape_of(a)[0] <= 20:
        return run(a, b)
    return fg.vmap(lambda row: run(row, b))(a)


def _checkpoint(a: Array, b: Array, n: int, run: Run) -> Array:
    return fg.checkpoint(run)(a, b)


# ── programs

MOVES = [_slice, _permute, _reshape, _broadcast, _concatenate, _triangle, _roll, _take, _write]
WHOLE: list[Callable[..., Array]] = [
    *MOVES, _take_drawn, _where, _literal, _compare, _cast, _divide, _fold, _centre, _running, _matmul, _einsum,
    _write_drawn, _segment, _sort, _arithmetic(lambda a, b: a + b), _arithmetic(lambda a, b: a - b),
    _arithmetic(lambda a, b: a * b), _arithmetic(fnp.maximum),
]  # fmt: skip
_SMOOTH_FUNCTIONS: list[Callable[[Array, Array], Array]] = [
    lambda a, b: fnp.sin(a) + b, lambda a, b: fnp.exp(-a * a) * b, lambda a, b: fnp.tanh(a) - b * 0.5,
    lambda a, b: fnp.log1p(a * a) * b, lambda a, b: a / (1 + b * b), lambda a, b: fg.nn.sigmoid(a) * b,
    lambda a, b: fnp.sqrt(1 + a * a) - fnp.sqrt(1 + b * b), lambda a, b: a * b + 1.5,
]  # fmt: skip


def _smooth(f: Callable[[Array, Array], Array]) -> Callable[[Array, Array, int], Array]:
    return lambda a, b, n: f(a, fitted(a, b, n))


SMOOTH: list[Callable[..., Array]] = [
    *MOVES, _fold_smooth, _normalize, _matmul, _einsum, _running, *map(_smooth, _SMOOTH_FUNCTIONS),
]  # fmt: skip
NESTED: list[Callable[..., Array]] = [_scan, _fori, _while, _place, _cond, _jit, _vmap, _checkpoint]


@dataclass(frozen=True)
class RandomFunction:
    """A program.

    Attributes:
        whole: Which kind it is.
        steps: Each an operation, its operands counted from the last value, a number, and the steps within it.
        outputs: Which values are returned.
    """

    whole: bool
    steps: Steps
    outputs: tuple[int, ...]

    def __call__(self, *xs: Array) -> list[Array]:
        values = self._run(self.steps, xs)
        return [values[-1 - i % len(values)] for i in self.outputs]

    def _run(self, steps: Steps, values: Values) -> Values:
        operations = WHOLE if self.whole else SMOOTH
        for nested, kind_, i, j, n, inner in steps:
            a, b = values[-1 - i % len(values)], values[-1 - j % len(values)]
            if not self.whole:
                a, b = floating(a), floating(b)
            if nested:
                y = NESTED[kind_ % len(NESTED)](a, b, n, self._last(inner, values))
            else:
                y = operations[kind_ % len(operations)](a, b, n)
            y = small(y)
            values = (*values, y if self.whole else fnp.tanh(floating(y)) * 2)
        return values

    def _last(self, steps: Steps, values: Values) -> Run:
        return lambda *xs: self._run(steps, (*values, *xs))[-1]

    def loss(self, *xs: Array) -> Array:
        """A number that depends on everything that is returned."""
        parts = [floating(y) for y in self(*xs)]
        return sum(((p * (1 + np.arange(math.prod(p.shape)).reshape(p.shape) % 3)).sum() for p in parts), 0.0)

    def __repr__(self) -> str:
        return f"{'Whole' if self.whole else 'Smooth'}({self._show(self.steps, '')}\n outputs={self.outputs})"

    def _show(self, steps: Steps, indent: str) -> str:
        operations = WHOLE if self.whole else SMOOTH
        lines = []
        for nested, kind_, i, j, n, inner in steps:
            f = NESTED[kind_ % len(NESTED)] if nested else operations[kind_ % len(operations)]
            place = f"{f.__name__}@{f.__code__.co_firstlineno}" if "lambda" in f.__name__ else f.__name__
            lines.append(f"\n{indent}  {place}(-{i}, -{j}, {n}){self._show(inner, indent + '  ')}")
        return "".join(lines)


def _steps(inner: st.SearchStrategy[Steps] | None, most: int) -> st.SearchStrategy[Steps]:
    flat = st.tuples(
        st.just(False), st.integers(0, 59), st.integers(0, 3), st.integers(0, 5), st.integers(0, 29), st.just(())
    )
    if inner is not None:
        nested = st.tuples(
            st.just(True),
            st.integers(0, len(NESTED) - 1),
            st.integers(0, 2),
            st.integers(0, 5),
            st.integers(0, 11),
            inner,
        )
        flat = st.one_of(flat, flat, nested)
    return st.lists(flat, min_size=1, max_size=most).map(tuple)


def functions(whole: bool, steps: int = 8, depth: int = 2) -> st.SearchStrategy[RandomFunction]:
    """Programs of at most so many steps, with programs within them to a depth."""
    inner: st.SearchStrategy[Steps] | None = None
    for _ in range(depth):
        inner = _steps(inner, 3)
    outputs = st.lists(st.integers(0, 4), min_size=1, max_size=3).map(tuple)
    return st.builds(RandomFunction, st.just(whole), _steps(inner, steps), outputs)


def whole_numbers(seed: int, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Whole numbers, small ones."""
    rng = np.random.default_rng(seed)
    if dtype == "?":
        return np.asarray(rng.random(shape) < 0.5)
    return np.asarray(rng.integers(-4, 5, shape)).astype(dtype)
