"""New arrays, and arrays from what is not one yet.

A list may hold traced values at any depth: `asarray` stacks them. What does not depend on a traced value is plain
NumPy, `zeros_like(x)` of a traced `x` included.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from funcgrad.core.errors import ShapeError
from funcgrad.core.trace import Tracer
from funcgrad.core.types import Array, Shape
from funcgrad.numpy._arguments import traced
from funcgrad.ops.array import TracedArray, as_dtype
from funcgrad.ops.broadcast import broadcast_to
from funcgrad.ops.join import concatenate
from funcgrad.ops.pointwise import convert
from funcgrad.ops.shape import reshape

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = [
    "array",
    "asarray",
    "astype",
    "copy",
    "empty",
    "empty_like",
    "eye",
    "full",
    "full_like",
    "identity",
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
    if type(a) in (list, tuple) and traced(*a):
        a = _stack(a)
    elif not isinstance(a, Tracer):
        try:
            return np.asarray(a, dtype, order, copy=copy)
        except ValueError as error:
            if "inhomogeneous" not in str(error):
                raise
            raise ShapeError(
                "the parts of a list have different shapes: they do not form an array",
                "give all parts the same shape, or join them with concatenate([...])",
            ) from error
    return convert(a, a.dtype if dtype is None else as_dtype(dtype))


def array(
    object: Array,
    dtype: DTypeLike | None = None,
    *,
    copy: bool | None = True,
    order: Any = "K",
    subok: bool = False,
    ndmin: int = 0,
    ndmax: int = 0,
) -> Array:
    """A new array with the values of `object`. A list may hold traced values: they are stacked.

    Args:
        object: An array, a number, or nested lists of them.
        dtype: The dtype of the result; by default the one that NumPy gives.
        copy: False to raise where a copy is needed, None to copy only then.
        order: The memory layout, of a plain array only.
        subok: True to keep a subclass of `ndarray`.
        ndmin: The least number of axes; axes of length 1 are put in front.
        ndmax: How deep lists are taken apart, where there is no traced value in them; 0 for no limit.

    Raises:
        ShapeError: The parts of a list differ in shape.

    Examples:
        >>> fnp.array([[1, 2], [3, 4]])
        array([[1, 2],
               [3, 4]])
    """
    y = asarray(object) if type(object) in (list, tuple) and traced(*object) else object
    if not isinstance(y, Tracer):
        limit: dict[str, Any] = {"ndmax": ndmax} if ndmax else {}  # not every NumPy has it
        return np.array(y, dtype, copy=copy, order=order, subok=subok, ndmin=ndmin, **limit)
    y = asarray(y, dtype)
    return reshape(y, (1,) * (ndmin - len(y.shape)) + y.shape)


# The classes of what a primitive takes as it is; anything else goes through `operand`.
READY = frozenset({TracedArray, np.ndarray, bool, int, float, complex, *np.sctypeDict.values()})


def operand(x: Array) -> Array:
    """`x` as an elementwise primitive takes it: a list as an array, an array or a Python number as it is."""
    return x if type(x) in READY or isinstance(x, np.ndarray | np.generic) else asarray(x)


def operands(*xs: Array) -> Sequence[Array]:
    """Each of `xs` as an elementwise primitive takes it."""
    return [operand(x) for x in xs]


def as_array(a: Array) -> Array:
    """`a` as a primitive takes it that needs an array: a traced value as it is, anything else by `asarray`."""
    return a if isinstance(a, Tracer) else asarray(a)


def _stack(items: Sequence[Any]) -> Array:
    parts = [asarray(x) for x in items]
    shapes = list(dict.fromkeys(part.shape for part in parts))
    if len(shapes) > 1:
        raise ShapeError(
            f"the parts of a list have different shapes, {' and '.join(map(str, shapes))}: they do not form an array",
            "give all parts the same shape, or join them with concatenate([...])",
        )
    return concatenate([reshape(part, (1, *shapes[0])) for part in parts], 0)


def copy(a: Array, order: Any = "K", subok: bool = False) -> Array:
    """A copy of `a`. A traced value can't change, and is its own copy.

    Examples:
        >>> x = np.array([1.0, 2.0])
        >>> fnp.copy(x) is x
        False
    """
    return (
        asarray(a)
        if isinstance(a, Tracer)
        else np.array(a if subok else asarray(a), order=order, subok=subok, copy=True)
    )


def astype(x: Array, dtype: DTypeLike, /, *, copy: bool = True) -> Array:
    """`x` with another dtype. Its cotangent is converted back; an integer dtype has derivative zero.

    Examples:
        >>> fnp.astype(np.array([1.5, 2.5]), np.float32)
        array([1.5, 2.5], dtype=float32)
    """
    if isinstance(x, Tracer):
        return convert(x, as_dtype(dtype))
    return np.asarray(x).astype(dtype, copy=copy)


def length(n: Any) -> Any:
    """A traced integer as a Python one, where its value is known."""
    return n.__index__() if isinstance(n, TracedArray) else n


def zeros(shape: int | Shape, dtype: DTypeLike | None = None, order: Any = "C") -> Array:
    """An array of zeros.

    Examples:
        >>> fnp.zeros((2, 3))
        array([[0., 0., 0.],
               [0., 0., 0.]])
    """
    return np.zeros(length(shape), dtype, order)


def ones(shape: int | Shape, dtype: DTypeLike | None = None, order: Any = "C") -> Array:
    """An array of ones.

    Examples:
        >>> fnp.ones(3)
        array([1., 1., 1.])
    """
    return np.ones(length(shape), dtype, order)


def empty(shape: int | Shape, dtype: DTypeLike | None = None, order: Any = "C") -> Array:
    """An array with arbitrary content, to be filled in place.

    Examples:
        >>> fnp.empty((2, 3)).shape
        (2, 3)
    """
    return np.empty(length(shape), dtype, order)


def full(shape: int | Shape, fill_value: Array, dtype: DTypeLike | None = None, order: Any = "C") -> Array:
    """An array that repeats `fill_value`, which may be traced, and may be an array that broadcasts to `shape`.

    Examples:
        >>> fg.grad(lambda x: fnp.full((2, 3), x).sum())(1.0)
        array(6.)
    """
    fill_value = asarray(fill_value) if type(fill_value) in (list, tuple) else fill_value
    if not isinstance(fill_value, Tracer):
        return np.full(length(shape), fill_value, dtype, order)
    lengths = tuple(map(operator.index, shape)) if isinstance(shape, tuple | list) else (operator.index(shape),)
    return broadcast_to(asarray(fill_value, dtype), lengths)


def _like(a: Array, dtype: DTypeLike | None, shape: int | Shape | None) -> tuple[Any, Any]:
    a = asarray(a)
    return (a.shape if shape is None else length(shape)), (a.dtype if dtype is None else dtype)


def zeros_like(
    a: Array, dtype: DTypeLike | None = None, order: Any = "K", subok: bool = True, shape: int | Shape | None = None
) -> Array:
    """An array of zeros with the shape and dtype of `a`; a plain array, also where `a` is traced.

    Examples:
        >>> fnp.zeros_like(np.array([1, 2]))
        array([0, 0])
    """
    return np.zeros(*_like(a, dtype, shape)) if traced(a) else np.zeros_like(a, dtype, order, subok, shape)


def ones_like(
    a: Array, dtype: DTypeLike | None = None, order: Any = "K", subok: bool = True, shape: int | Shape | None = None
) -> Array:
    """An array of ones with the shape and dtype of `a`; a plain array, also where `a` is traced.

    Examples:
        >>> fnp.ones_like(np.array([1.5, 2.5]))
        array([1., 1.])
    """
    return np.ones(*_like(a, dtype, shape)) if traced(a) else np.ones_like(a, dtype, order, subok, shape)


def empty_like(
    prototype: Array,
    dtype: DTypeLike | None = None,
    order: Any = "K",
    subok: bool = True,
    shape: int | Shape | None = None,
) -> Array:
    """An array with arbitrary content, to be filled in place, with the shape and dtype of `a`.

    Examples:
        >>> fnp.empty_like(np.array([1.5, 2.5])).shape
        (2,)
    """
    return (
        np.empty(*_like(prototype, dtype, shape))
        if traced(prototype)
        else np.empty_like(prototype, dtype, order, subok, shape)
    )


def full_like(
    a: Array,
    fill_value: Array,
    dtype: DTypeLike | None = None,
    order: Any = "K",
    subok: bool = True,
    shape: int | Shape | None = None,
) -> Array:
    """An array with the shape and dtype of `a` that repeats `fill_value`, which may be traced.

    Examples:
        >>> fnp.full_like(np.array([1.5, 2.5]), 7)
        array([7., 7.])
    """
    if traced(a, fill_value):
        shape, dtype = _like(a, dtype, shape)
        return full(shape, fill_value, dtype)
    return np.full_like(a, fill_value, dtype, order, subok, shape)


def eye(N: int, M: int | None = None, k: int = 0, dtype: DTypeLike = float, order: Any = "C") -> Array:
    """A matrix with ones on the `k`-th diagonal and zeros elsewhere.

    Examples:
        >>> fnp.eye(2, 3, k=1)
        array([[0., 1., 0.],
               [0., 0., 1.]])
    """
    return np.eye(N, M, k, dtype, order)


def identity(n: int, dtype: DTypeLike | None = None) -> Array:
    """The identity matrix.

    Examples:
        >>> fnp.identity(2)
        array([[1., 0.],
               [0., 1.]])
    """
    return np.identity(n, dtype)
