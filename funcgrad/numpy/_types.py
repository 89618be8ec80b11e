"""What can be asked of an array without its numbers: shape, size and dtype."""

from __future__ import annotations

import math

import numpy as np

from funcgrad.core.trace import Tracer
from funcgrad.core.types import Array, DType, Shape, promotable
from funcgrad.numpy._creation import asarray

__all__ = ["iscomplexobj", "isrealobj", "ndim", "result_type", "shape", "size"]


def shape(a: Array) -> Shape:
    """The length of each axis.

    Examples:
        >>> fnp.shape([[1, 2, 3], [4, 5, 6]])
        (2, 3)
    """
    return a.shape if isinstance(a, Tracer) else np.shape(a)


def ndim(a: Array) -> int:
    """The number of axes.

    Examples:
        >>> fnp.ndim([[1, 2, 3], [4, 5, 6]])
        2
    """
    return len(shape(a))


def size(a: Array, axis: int | tuple[int, ...] | None = None) -> int:
    """The number of elements, or the length of one axis.

    Examples:
        >>> fnp.size([[1, 2, 3], [4, 5, 6]])
        6
    """
    lengths = shape(a)
    if axis is None:
        return math.prod(lengths)
    return math.prod(lengths[i] for i in (axis if isinstance(axis, tuple) else (axis,)))


def result_type(*arrays_and_dtypes: Array) -> DType:
    """The dtype that NumPy's promotion gives to an operation on these arrays, numbers and dtypes.

    Examples:
        >>> fnp.result_type(np.ones(2, np.float32), 1.0)
        dtype('float32')
    """
    return np.result_type(*(_promotable(x) if isinstance(x, Tracer) else x for x in arrays_and_dtypes))


def _promotable(x: Tracer) -> Array:
    t = promotable(x)
    return t(0) if x.weak else t


def iscomplexobj(x: Array) -> bool:
    """Whether the dtype of `x` is complex.

    Examples:
        >>> fnp.iscomplexobj([1, 2j])
        True
    """
    return bool(asarray(x).dtype.kind == "c")


def isrealobj(x: Array) -> bool:
    """Whether the dtype of `x` is not complex.

    Examples:
        >>> fnp.isrealobj([1, 2])
        True
    """
    return not iscomplexobj(x)
