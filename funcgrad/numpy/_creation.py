"""New arrays, and arrays from what is not one yet.

A list may hold traced values at any depth: `asarray` stacks them. What does not depend on a traced value is plain
NumPy, `zeros_like(x)` of a traced `x` included.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from funcgrad.core.errors import ShapeError, TracedShapeError, UnsupportedError
from funcgrad.core.trace import Tracer
from funcgrad.core.types import Array, Shape, broadcast_shapes, is_inexact
from funcgrad.ops import elementwise as ew
from funcgrad.ops.array import TracedArray
from funcgrad.ops.broadcast import broadcast_to, reshape
from funcgrad.ops.join import concatenate
from funcgrad.ops.pointwise import convert, select
from funcgrad.ops.shape import move_axis

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = [
    "arange",
    "array",
    "asarray",
    "astype",
    "copy",
    "empty",
    "empty_like",
    "eye",
    "full",
    "full_like",
    "geomspace",
    "identity",
    "linspace",
    "logspace",
    "meshgrid",
    "ones",
    "ones_like",
    "zeros",
    "zeros_like",
]


def asarray(a: Array, dtype: DTypeLike | None = None, order: Any = None, *, copy: bool | None = None) -> Array:
    """`a` as an array; `a` itself where it is one already. A list may hold traced values: they are stacked.

    Args:
        a: An array, a number, or nested lists of them.
        dtype: The dtype of the result; by default the one that NumPy gives.
        order: The memory layout, of a plain array only.
        copy: True for a new array; False to raise where one would be needed.

    Raises:
        ShapeError: The parts of a list differ in shape.

    Examples:
        >>> fg.grad(lambda x: fnp.asarray([x, 2 * x]) @ fnp.asarray([1.0, 10.0]))(3.0)
        array(21.)
    """
    if type(a) in (list, tuple) and _holds_tracer(a):
        a = _stack(a)
    elif not isinstance(a, Tracer):
        return np.asarray(a, dtype, order, copy=copy)
    return convert(a, a.dtype if dtype is None else np.dtype(dtype))


def array(
    object: Array, dtype: DTypeLike | None = None, *, copy: bool | None = True, order: Any = "K", ndmin: int = 0
) -> Array:
    """A new array with the values of `object`. A list may hold traced values: they are stacked.

    Args:
        object: An array, a number, or nested lists of them.
        dtype: The dtype of the result; by default the one that NumPy gives.
        copy: False to raise where a copy is needed, None to copy only then.
        order: The memory layout, of a plain array only.
        ndmin: The least number of axes; axes of length 1 are put in front.

    Raises:
        ShapeError: The parts of a list differ in shape.

    Examples:
        >>> fnp.array([[1, 2], [3, 4]])
        array([[1, 2],
               [3, 4]])
    """
    y = asarray(object) if type(object) in (list, tuple) and _holds_tracer(object) else object
    if not isinstance(y, Tracer):
        return np.array(y, dtype, copy=copy, order=order, ndmin=ndmin)
    y = asarray(y, dtype)
    return reshape(y, (1,) * (ndmin - len(y.shape)) + y.shape)


def _holds_tracer(items: Sequence[Any]) -> bool:
    return any(isinstance(x, Tracer) or (type(x) in (list, tuple) and _holds_tracer(x)) for x in items)


def _stack(items: Sequence[Any]) -> Array:
    parts = [asarray(x) for x in items]
    shapes = list(dict.fromkeys(part.shape for part in parts))
    if len(shapes) > 1:
        raise ShapeError(
            f"the parts of a list have different shapes, {' and '.join(map(str, shapes))}: they do not form an array",
            "give all parts the same shape, or join them with concatenate([...])",
        )
    return concatenate([reshape(part, (1, *shapes[0])) for part in parts], 0)


def copy(a: Array, order: Any = "K") -> Array:
    """A copy of `a`. A traced value can't change, and is its own copy.

    Examples:
        >>> x = np.array([1.0, 2.0])
        >>> fnp.copy(x) is x
        False
    """
    return asarray(a) if isinstance(a, Tracer) else np.array(asarray(a), order=order, copy=True)


def astype(x: Array, dtype: DTypeLike, /, *, copy: bool = True) -> Array:
    """`x` with another dtype. Its cotangent is converted back; an integer dtype has derivative zero.

    Examples:
        >>> fnp.astype(np.array([1.5, 2.5]), np.float32)
        array([1.5, 2.5], dtype=float32)
    """
    if isinstance(x, Tracer):
        return convert(x, np.dtype(dtype))
    return np.asarray(x).astype(dtype, copy=copy)


def _length(n: Any) -> Any:
    """A traced integer as a Python one, where its value is known."""
    return n.__index__() if isinstance(n, TracedArray) else n


def zeros(shape: int | Shape, dtype: DTypeLike = float, order: Any = "C") -> Array:
    """An array of zeros.

    Examples:
        >>> fnp.zeros((2, 3))
        array([[0., 0., 0.],
               [0., 0., 0.]])
    """
    return np.zeros(_length(shape), dtype, order)


def ones(shape: int | Shape, dtype: DTypeLike = float, order: Any = "C") -> Array:
    """An array of ones.

    Examples:
        >>> fnp.ones(3)
        array([1., 1., 1.])
    """
    return np.ones(_length(shape), dtype, order)


def empty(shape: int | Shape, dtype: DTypeLike = float, order: Any = "C") -> Array:
    """An array with arbitrary content, to be filled in place.

    Examples:
        >>> fnp.empty((2, 3)).shape
        (2, 3)
    """
    return np.empty(_length(shape), dtype, order)


def full(shape: int | Shape, fill_value: Array, dtype: DTypeLike | None = None, order: Any = "C") -> Array:
    """An array that repeats `fill_value`, which may be traced, and may be an array that broadcasts to `shape`.

    Examples:
        >>> fg.grad(lambda x: fnp.full((2, 3), x).sum())(1.0)
        array(6.)
    """
    fill_value = asarray(fill_value) if type(fill_value) in (list, tuple) else fill_value
    if not isinstance(fill_value, Tracer):
        return np.full(_length(shape), fill_value, dtype, order)
    lengths = tuple(map(operator.index, shape)) if isinstance(shape, tuple | list) else (operator.index(shape),)
    return broadcast_to(asarray(fill_value, dtype), lengths)


def _like(a: Array, dtype: DTypeLike | None, shape: int | Shape | None) -> tuple[Any, Any]:
    a = asarray(a)
    return (a.shape if shape is None else _length(shape)), (a.dtype if dtype is None else dtype)


def zeros_like(
    a: Array, dtype: DTypeLike | None = None, order: Any = "K", *, shape: int | Shape | None = None
) -> Array:
    """An array of zeros with the shape and dtype of `a`; a plain array, also where `a` is traced.

    Examples:
        >>> fnp.zeros_like(np.array([1, 2]))
        array([0, 0])
    """
    return np.zeros(*_like(a, dtype, shape)) if _traced(a) else np.zeros_like(a, dtype, order, shape=shape)


def ones_like(a: Array, dtype: DTypeLike | None = None, order: Any = "K", *, shape: int | Shape | None = None) -> Array:
    """An array of ones with the shape and dtype of `a`; a plain array, also where `a` is traced.

    Examples:
        >>> fnp.ones_like(np.array([1.5, 2.5]))
        array([1., 1.])
    """
    return np.ones(*_like(a, dtype, shape)) if _traced(a) else np.ones_like(a, dtype, order, shape=shape)


def empty_like(
    a: Array, dtype: DTypeLike | None = None, order: Any = "K", *, shape: int | Shape | None = None
) -> Array:
    """An array with arbitrary content, to be filled in place, with the shape and dtype of `a`.

    Examples:
        >>> fnp.empty_like(np.array([1.5, 2.5])).shape
        (2,)
    """
    return np.empty(*_like(a, dtype, shape)) if _traced(a) else np.empty_like(a, dtype, order, shape=shape)


def full_like(
    a: Array,
    fill_value: Array,
    dtype: DTypeLike | None = None,
    order: Any = "K",
    *,
    shape: int | Shape | None = None,
) -> Array:
    """An array with the shape and dtype of `a` that repeats `fill_value`, which may be traced.

    Examples:
        >>> fnp.full_like(np.array([1.5, 2.5]), 7)
        array([7., 7.])
    """
    if _traced(a) or _traced(fill_value):
        shape, dtype = _like(a, dtype, shape)
        return full(shape, fill_value, dtype)
    return np.full_like(a, fill_value, dtype, order, shape=shape)


def eye(N: int, M: int | None = None, k: int = 0, dtype: DTypeLike = float, order: Any = "C") -> Array:
    """A matrix with ones on the `k`-th diagonal and zeros elsewhere.

    Examples:
        >>> fnp.eye(2, 3, k=1)
        array([[0., 1., 0.],
               [0., 0., 1.]])
    """
    return np.eye(N, M, k, dtype, order)


def identity(n: int, dtype: DTypeLike = float) -> Array:
    """The identity matrix.

    Examples:
        >>> fnp.identity(2)
        array([[1., 0.],
               [0., 1.]])
    """
    return np.identity(n, dtype)


def arange(
    start_or_stop: Array, /, stop: Array | None = None, step: Array = 1, *, dtype: DTypeLike | None = None
) -> Array:
    """The numbers from start (0 by default) up to but not including `stop`, `step` apart.

    Raises:
        TracedShapeError: A bound is a traced floating-point number: how many there are would depend on it.

    Examples:
        >>> fnp.arange(2, 8, 2)
        array([2, 4, 6])
    """
    bounds = (start_or_stop, step) if stop is None else (start_or_stop, stop, step)
    for x in bounds:
        if isinstance(x, Tracer) and is_inexact(x.dtype):
            raise TracedShapeError(
                "arange: how many numbers there are would depend on a traced bound",
                "linspace(start, stop, num) has a fixed length and is differentiable in start and stop; "
                "or start + step * arange(n)",
            )
    start, *rest = map(_length, bounds)
    return np.arange(0, start, *rest, dtype=dtype) if stop is None else np.arange(start, *rest, dtype=dtype)


def linspace(
    start: Array,
    stop: Array,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: DTypeLike | None = None,
    axis: int = 0,
) -> Array:
    """`num` evenly spaced numbers from `start` to `stop`, differentiable in both.

    Args:
        start: The first number, or an array of them.
        stop: The last number, or an array of them.
        num: How many.
        endpoint: False to leave `stop` out.
        retstep: True to return the spacing, too.
        dtype: The dtype of the result.
        axis: Where the numbers lie in the result, if the bounds are arrays.

    Returns:
        The numbers; with `retstep` a pair of them and their spacing.

    Examples:
        >>> fnp.linspace(0.0, 1.0, 5)
        array([0.  , 0.25, 0.5 , 0.75, 1.  ])
        >>> fg.grad(lambda x: fnp.linspace(0.0, x, 5).sum())(1.0)
        array(2.5)
    """
    if not (_traced(start) or _traced(stop)):
        return np.linspace(start, stop, num, endpoint, retstep, dtype, axis)  # type: ignore[call-overload]  # `retstep` is a Literal there
    inexact = np.linspace(_standin(start), _standin(stop), 1).dtype
    start, stop = asarray(start, inexact), asarray(stop, inexact)
    shape = broadcast_shapes(start.shape, stop.shape)
    gaps = num - 1 if endpoint else num
    step = (stop - start) / gaps if gaps > 0 else (stop - start) * np.nan
    i = np.arange(num).reshape(-1, *(1,) * len(shape))
    y = i.astype(inexact) * (step if gaps > 0 else 0) + broadcast_to(start, shape)
    if endpoint and num > 1:
        y = select(i == gaps, stop, y)
    y = _in_place(y, dtype, axis)
    return (y, step) if retstep else y


def logspace(
    start: Array,
    stop: Array,
    num: int = 50,
    endpoint: bool = True,
    base: Array = 10.0,
    dtype: DTypeLike | None = None,
    axis: int = 0,
) -> Array:
    """`num` numbers from `base**start` to `base**stop`, evenly spaced on a logarithmic scale.

    Args:
        start: The first exponent, or an array of them.
        stop: The last exponent, or an array of them.
        num: How many.
        endpoint: False to leave the last one out.
        base: The base.
        dtype: The dtype of the result.
        axis: Where the numbers lie in the result, if the exponents are arrays.

    Examples:
        >>> fnp.logspace(0.0, 2.0, 3)
        array([  1.,  10., 100.])
    """
    if not (_traced(start) or _traced(stop) or _traced(base)):
        return np.logspace(start, stop, num, endpoint, base, dtype, axis)
    base = asarray(base)
    shape = broadcast_shapes(*(asarray(x).shape for x in (start, stop)), base.shape)
    start, stop = (broadcast_to(asarray(x), shape) for x in (start, stop))
    exponents = linspace(start, stop, num, endpoint)
    return _in_place(ew.power(base, exponents), dtype, axis)


def geomspace(
    start: Array, stop: Array, num: int = 50, endpoint: bool = True, dtype: DTypeLike | None = None, axis: int = 0
) -> Array:
    """`num` numbers from `start` to `stop`, each the same multiple of the one before.

    Args:
        start: The first number, or an array of them.
        stop: The last number, of the same sign.
        num: How many.
        endpoint: False to leave `stop` out.
        dtype: The dtype of the result.
        axis: Where the numbers lie in the result, if the bounds are arrays.

    Raises:
        UnsupportedError: A traced bound is complex.

    Examples:
        >>> fnp.geomspace(1.0, 8.0, 4)
        array([1., 2., 4., 8.])
    """
    if not (_traced(start) or _traced(stop)):
        return np.geomspace(start, stop, num, endpoint, dtype, axis)
    start, stop = asarray(start), asarray(stop)
    if ew.is_complex(start) or ew.is_complex(stop):
        raise UnsupportedError(
            "geomspace is not implemented for traced complex bounds", "exp(linspace(log(start), log(stop), num))"
        )
    inexact = np.linspace(_standin(start), _standin(stop), 1).dtype
    start, stop = asarray(start, inexact), asarray(stop, inexact)
    sign = ew.sign(start)
    y = sign * logspace(ew.log10(sign * start), ew.log10(sign * stop), num, endpoint)
    i = np.arange(num).reshape(-1, *(1,) * (len(y.shape) - 1))
    y = select(i == 0, start, y)
    if endpoint and num > 1:
        y = select(i == num - 1, stop, y)
    return _in_place(y, dtype, axis)


def _traced(x: Array) -> bool:
    return isinstance(x, Tracer) or (type(x) in (list, tuple) and _holds_tracer(x))


def _standin(x: Array) -> Array:
    """What has the same part in NumPy's promotion as `x`."""
    x = asarray(x) if type(x) in (list, tuple) else x
    return (0.0 if x.weak else np.zeros((), x.dtype)) if isinstance(x, Tracer) else x


def _in_place(y: Array, dtype: DTypeLike | None, axis: int) -> Array:
    """The numbers along axis 0 of `y`, put along `axis`, as `dtype`."""
    if dtype is not None:
        dtype = np.dtype(dtype)
        y = convert(y if is_inexact(dtype) else ew.floor(y), dtype)
    return move_axis(y, 0, axis % len(y.shape))


def meshgrid(*xi: Array, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> tuple[Array, ...]:
    """Coordinate grids from coordinate vectors: the i-th grid varies with `xi[i]` along its own axis.

    Args:
        xi: The coordinates along each axis, vectors or scalars.
        copy: False for views of plain arrays.
        sparse: True for grids of length 1 along all but their own axis, to be broadcast.
        indexing: "xy" exchanges the first two axes, as in a picture; "ij" keeps the order.

    Examples:
        >>> fnp.meshgrid(np.array([1, 2, 3]), np.array([10, 20]))
        (array([[1, 2, 3],
               [1, 2, 3]]), array([[10, 10, 10],
               [20, 20, 20]]))
    """
    if not any(_traced(x) for x in xi):
        return np.meshgrid(*xi, copy=copy, sparse=sparse, indexing=indexing)  # type: ignore[call-overload, no-any-return]  # NumPy checks `indexing`
    if indexing not in ("xy", "ij"):
        raise ValueError(f'indexing must be "xy" or "ij", got {indexing!r}')
    order = list(range(len(xi)))
    if indexing == "xy" and len(xi) > 1:
        order[:2] = 1, 0
    vectors = [asarray(x) for x in xi]
    sizes = [int(np.prod(x.shape)) for x in vectors]
    shape = tuple(sizes[axis] for axis in order)
    grids = (
        reshape(x, tuple(n if order[place] == axis else 1 for place in range(len(xi))))
        for axis, (x, n) in enumerate(zip(vectors, sizes, strict=True))
    )
    return tuple(grid if sparse else broadcast_to(grid, shape) for grid in grids)
