"""Evenly spaced numbers, and the grids they span: differentiable in their bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from funcgrad.core.errors import ArgumentError, ShapeError, TracedShapeError, UnsupportedError
from funcgrad.core.trace import Tracer
from funcgrad.core.types import PYTHON_SCALARS, Array, Shape, broadcast_shapes, is_inexact
from funcgrad.numpy._arguments import traced
from funcgrad.numpy._creation import asarray, length
from funcgrad.ops import elementwise as ew
from funcgrad.ops.array import as_dtype
from funcgrad.ops.broadcast import broadcast_to
from funcgrad.ops.pointwise import convert, select
from funcgrad.ops.shape import move_axis, reshape

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["arange", "geomspace", "linspace", "logspace", "meshgrid"]


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
    start, *rest = map(length, bounds)
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
    if not traced(start, stop):
        return np.linspace(start, stop, num, endpoint, retstep, dtype, axis)  # type: ignore[call-overload]  # `retstep` is a Literal there
    inexact = np.linspace(_standin(start), _standin(stop), 1).dtype
    start, stop = asarray(start, inexact), asarray(stop, inexact)
    shape = _common_shape(start, stop)
    gaps = num - 1 if endpoint else num
    step = (stop - start) / gaps if gaps > 0 else (stop - start) * np.nan
    i = np.arange(num).reshape(-1, *(1,) * len(shape))
    y = i.astype(inexact) * (step if gaps > 0 else 0) + broadcast_to(start, shape)
    if endpoint and num > 1:
        y = select(i == gaps, stop, y)
    y = _along(y, dtype, axis)
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
    if not traced(start, stop, base):
        return np.logspace(start, stop, num, endpoint, base, dtype, axis)
    # a Python number has no part in the dtype
    base = base if type(base) in PYTHON_SCALARS or isinstance(base, Tracer) else asarray(base)
    shape = _common_shape(asarray(start), asarray(stop), asarray(base))
    exponents = linspace(start, stop, num, endpoint)
    count, *rest = exponents.shape
    exponents = reshape(exponents, (count, *(1,) * (len(shape) - len(rest)), *rest))
    return _along(ew.power(base, exponents), dtype, axis)


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
    if not traced(start, stop):
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
    return _along(y, dtype, axis)


def _common_shape(*bounds: Array) -> Shape:
    try:
        return broadcast_shapes(*(x.shape for x in bounds))
    except ValueError:
        raise ShapeError(
            f"the bounds have shapes {' and '.join(str(x.shape) for x in bounds)}, which do not broadcast",
            "each axis, counted from the last, must be equal or 1: add axes with x[:, None] or x[None, :]",
        ) from None


def _standin(x: Array) -> Array:
    """What has the same part in NumPy's promotion as `x`."""
    x = asarray(x) if type(x) in (list, tuple) else x
    return (0.0 if x.weak else np.zeros((), x.dtype)) if isinstance(x, Tracer) else x


def _along(y: Array, dtype: DTypeLike | None, axis: int) -> Array:
    """The numbers along axis 0 of `y`, put along `axis`, as `dtype`."""
    if dtype is not None:
        dtype = as_dtype(dtype)
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
    if not traced(*xi):
        return np.meshgrid(*xi, copy=copy, sparse=sparse, indexing=indexing)  # type: ignore[call-overload, no-any-return]  # NumPy checks `indexing`
    if indexing not in ("xy", "ij"):
        raise ArgumentError(f"meshgrid: indexing={indexing!r} is neither 'xy' nor 'ij'", "indexing='ij'")
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
