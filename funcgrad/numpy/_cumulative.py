"""Running sums and products."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from funcgrad.core.errors import ArgumentError
from funcgrad.core.primitive import Primitive
from funcgrad.core.types import Array, normalize_axis
from funcgrad.numpy._arguments import no_out, traced
from funcgrad.numpy._creation import as_array, asarray
from funcgrad.ops.array import as_dtype
from funcgrad.ops.cumulative import CumProd, CumSum
from funcgrad.ops.join import concatenate
from funcgrad.ops.pointwise import convert
from funcgrad.ops.shape import reshape

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["cumprod", "cumsum", "cumulative_prod", "cumulative_sum"]


def cumsum(a: Array, axis: int | None = None, dtype: DTypeLike | None = None, out: None = None) -> Array:
    """The sums of the first one, two, three … elements along an axis.

    Args:
        a: The array.
        axis: The axis; by default all elements, in row-major order.
        dtype: The dtype to add up in, and of the result.
        out: Not supported.

    Examples:
        >>> fnp.cumsum(np.array([1.0, 2.0, 3.0]))
        array([1., 3., 6.])
    """
    no_out("cumsum", out)
    return _running(CumSum, a, axis, dtype) if traced(a) else np.cumsum(a, axis, dtype)


def cumprod(a: Array, axis: int | None = None, dtype: DTypeLike | None = None, out: None = None) -> Array:
    """The products of the first one, two, three … elements along an axis. The gradient is right at zeros, too.

    Args:
        a: The array.
        axis: The axis; by default all elements, in row-major order.
        dtype: The dtype to multiply in, and of the result.
        out: Not supported.

    Examples:
        >>> fg.grad(lambda x: fnp.cumprod(x).sum())(np.array([2.0, 0.0, 3.0]))
        array([1., 8., 0.])
    """
    no_out("cumprod", out)
    return _running(CumProd, a, axis, dtype) if traced(a) else np.cumprod(a, axis, dtype)


def _running(primitive: Callable[[int], Primitive], a: Array, axis: int | None, dtype: DTypeLike | None) -> Array:
    x = as_array(a)
    if axis is None or not x.shape:
        # NumPy's running sums take axis 0 and -1 of a 0-d array
        axis = 0 if axis is None else normalize_axis(axis, 1)
        x = reshape(x, (x.size,))
    x = x if dtype is None else convert(x, as_dtype(dtype))
    return primitive(normalize_axis(axis, len(x.shape)))(x)


def cumulative_sum(
    x: Array,
    /,
    *,
    axis: int | None = None,
    dtype: DTypeLike | None = None,
    out: None = None,
    include_initial: bool = False,
) -> Array:
    """The running sum, under the name of the array API standard.

    Args:
        x: The array.
        axis: The axis; it may be left away if there is only one.
        dtype: The dtype to add up in, and of the result.
        out: Not supported.
        include_initial: True to begin with 0.

    Examples:
        >>> fnp.cumulative_sum(np.array([1.0, 2.0, 3.0]), include_initial=True)
        array([0., 1., 3., 6.])
    """
    no_out("cumulative_sum", out)
    return _cumulative("cumulative_sum", cumsum, 0, x, axis, dtype, include_initial)


def cumulative_prod(
    x: Array,
    /,
    *,
    axis: int | None = None,
    dtype: DTypeLike | None = None,
    out: None = None,
    include_initial: bool = False,
) -> Array:
    """The running product, under the name of the array API standard.

    Args:
        x: The array.
        axis: The axis; it may be left away if there is only one.
        dtype: The dtype to multiply in, and of the result.
        out: Not supported.
        include_initial: True to begin with 1.

    Examples:
        >>> fnp.cumulative_prod(np.array([1.0, 2.0, 3.0]), include_initial=True)
        array([1., 1., 2., 6.])
    """
    no_out("cumulative_prod", out)
    return _cumulative("cumulative_prod", cumprod, 1, x, axis, dtype, include_initial)


def _cumulative(
    name: str,
    running: Callable[..., Array],
    start: int,
    x: Array,
    axis: int | None,
    dtype: DTypeLike | None,
    include_initial: bool,
) -> Array:
    x = asarray(x)
    if axis is None:
        if len(x.shape) != 1:
            raise ArgumentError(f"{name} of an array of shape {x.shape} needs an axis", f"{name}(x, axis=0)")
        axis = 0
    y = running(x, axis, dtype)
    if not include_initial:
        return y
    axis = normalize_axis(axis, len(y.shape))
    first: Any = np.full((*y.shape[:axis], 1, *y.shape[axis + 1 :]), start, y.dtype)
    return concatenate([first, y], axis)
