"""Products that sum: matrix products, inner and outer products, Einstein sums.

All are one primitive, the contraction, whose pullback is a contraction again: for y = a @ b, the cotangents are
g @ b.T and a.T @ g. Without a traced argument they are NumPy's own functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from funcgrad.core.errors import ArgumentError, ShapeError
from funcgrad.core.types import Array, normalize_axis
from funcgrad.numpy._arguments import no_options, no_out, traced
from funcgrad.numpy._creation import asarray
from funcgrad.numpy._ufunc import generalized
from funcgrad.ops import contract
from funcgrad.ops import einsum as einstein
from funcgrad.ops.array import TracedArray
from funcgrad.ops.elementwise import conjugate, is_complex, multiply
from funcgrad.ops.shape import move_axis, reshape

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = [
    "dot",
    "einsum",
    "inner",
    "kron",
    "matmul",
    "matvec",
    "outer",
    "tensordot",
    "vdot",
    "vecdot",
    "vecmat",
]

AxisPairs = int | tuple[int | Sequence[int], int | Sequence[int]]


@generalized
def matmul(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None, **options: Any) -> Array:
    """The matrix product `x1 @ x2` of the last two axes; the axes before them broadcast.

    Args:
        x1: A vector `(n,)`, a matrix `(m, n)`, or a stack of matrices `(..., m, n)`.
        x2: A vector `(n,)`, a matrix `(n, k)`, or a stack of matrices `(..., n, k)`.
        out: Not supported.
        dtype: The dtype to compute in, and of the result.
        options: What NumPy takes besides; refused for traced values, but for the defaults.

    Raises:
        ShapeError: The inner lengths differ, or the stacks do not broadcast.

    Examples:
        >>> x, w = np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]])
        >>> fg.grad(lambda w: fnp.matmul(x, w).sum())(w)
        array([[1.],
               [2.]])
    """
    no_out("matmul", out)
    if not traced(x1, x2):
        return np.matmul(x1, x2, dtype=dtype, **options)
    if options:
        no_options("matmul", options)
    if dtype is not None:
        x1, x2 = asarray(x1, dtype), asarray(x2, dtype)
    return contract.matmul(_array(x1), _array(x2))


def dot(a: Array, b: Array, out: None = None) -> Array:
    """The products of the last axis of `a` with the last but one of `b`, summed; a plain product for a scalar.

    Args:
        a: An array; with one axis a vector.
        b: An array; with one axis a vector.
        out: Not supported.

    Raises:
        ShapeError: The two axes differ in length.

    Examples:
        >>> fg.grad(fnp.dot)(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
        array([3., 4.])
    """
    no_out("dot", out)
    if not traced(a, b):
        return np.dot(a, b)
    return contract.dot(_array(a), _array(b))


def inner(a: Array, b: Array, /) -> Array:
    """The products of the last axes of `a` and `b`, summed; a plain product for a scalar.

    Raises:
        ShapeError: The last axes differ in length.

    Examples:
        >>> fg.grad(fnp.inner)(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
        array([3., 4.])
    """
    if not traced(a, b):
        return np.inner(a, b)
    a, b = _array(a), _array(b)
    if not (a.shape and b.shape):
        return multiply(a, b)
    return _summed("inner", a, b, (a.ndim - 1,), (b.ndim - 1,))


def outer(a: Array, b: Array, out: None = None) -> Array:
    """The matrix of all products of an element of `a` with one of `b`, both flattened.

    Examples:
        >>> fg.grad(lambda a, b: fnp.outer(a, b).sum())(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
        array([7., 7.])
    """
    no_out("outer", out)
    if not traced(a, b):
        return np.outer(a, b)
    return contract.tensordot(_flat(a), _flat(b), (), ())


def vdot(a: Array, b: Array, /) -> Array:
    """The sum of conj(a) · b over all elements.

    Raises:
        ShapeError: The numbers of elements differ.

    Examples:
        >>> fg.grad(fnp.vdot)(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
        array([3., 4.])
    """
    if not traced(a, b):
        return np.vdot(a, b)
    return _summed("vdot", _conjugated(_flat(a)), _flat(b), (0,), (0,))


@generalized
def vecdot(
    x1: Array, x2: Array, /, out: None = None, *, axis: int = -1, dtype: DTypeLike | None = None, **options: Any
) -> Array:
    """The sum of conj(x1) · x2 over `axis`; the other axes broadcast.

    Examples:
        >>> fnp.vecdot(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, 10.0]))
        array([21., 43.])
    """
    no_out("vecdot", out)
    if not traced(x1, x2):
        return np.vecdot(x1, x2, axis=axis, dtype=dtype, **options)  # type: ignore[call-overload]  # `axis` is unknown there
    no_options("vecdot", options)
    x1, x2 = (_axis_last(asarray(x, dtype), axis) for x in (x1, x2))
    return einstein.einsum("...i,...i->...", [_conjugated(x1), x2])


@generalized
def matvec(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None, **options: Any) -> Array:
    """The products of matrices `(..., m, n)` and vectors `(..., n)`; the axes before broadcast.

    Examples:
        >>> fnp.matvec(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 0.0], [0.0, 1.0]]))
        array([[1., 3.],
               [2., 4.]])
    """
    no_out("matvec", out)
    no_options("matvec", options)
    return einstein.einsum("...ij,...j->...i", [asarray(x1, dtype), asarray(x2, dtype)])


@generalized
def vecmat(x1: Array, x2: Array, /, out: None = None, *, dtype: DTypeLike | None = None, **options: Any) -> Array:
    """The products of conjugated vectors `(..., n)` and matrices `(..., n, m)`; the axes before broadcast.

    Examples:
        >>> fnp.vecmat(np.array([1.0, 10.0]), np.array([[1.0, 2.0], [3.0, 4.0]]))
        array([31., 42.])
    """
    no_out("vecmat", out)
    no_options("vecmat", options)
    return einstein.einsum("...i,...ij->...j", [_conjugated(asarray(x1, dtype)), asarray(x2, dtype)])


def tensordot(a: Array, b: Array, axes: AxisPairs = 2) -> Array:
    """The products of `a` and `b`, summed over pairs of axes.

    Args:
        a: An array.
        b: An array.
        axes: A number n, for the last n axes of `a` and the first n of `b` in order; or a pair: axes of `a`, and
            axes of `b` that they meet.

    Returns:
        The other axes of `a`, then the other axes of `b`.

    Raises:
        ShapeError: Axes that meet differ in length.

    Examples:
        >>> a, b = np.ones((2, 3, 4)), np.ones((4, 3, 5))
        >>> fnp.tensordot(a, b, axes=([1, 2], [1, 0])).shape
        (2, 5)
    """
    if not traced(a, b):
        return np.tensordot(a, b, axes)
    a, b = asarray(a), asarray(b)
    axes1: Any
    axes2: Any
    if isinstance(axes, int | np.integer):
        axes1, axes2 = range(a.ndim - axes, a.ndim), range(axes)
    else:
        axes1, axes2 = axes
    axes1, axes2 = _axes(axes1, a), _axes(axes2, b)
    if len(axes1) != len(axes2):
        raise ArgumentError(f"tensordot: axes={axes} pairs {len(axes1)} axes of a with {len(axes2)} of b")
    return _summed("tensordot", a, b, axes1, axes2)


def einsum(
    *operands: Any,
    out: None = None,
    dtype: DTypeLike | None = None,
    order: str = "K",
    casting: str = "safe",
    optimize: Any = False,
) -> Array:
    """The Einstein sum of any number of operands: `einsum("ij,jk->ik", a, b)`.

    Args:
        operands: The subscripts and the arrays; or arrays and lists of axis numbers in turn, as in
            `einsum(a, [0, 1], b, [1, 2], [0, 2])`.
        out: Not supported.
        dtype: The dtype to compute in, and of the result.
        order: The memory layout, of plain operands only.
        casting: How operands may be converted, of plain operands only.
        optimize: Accepted as NumPy does. Traced operands are always contracted in pairs, in an economical order.

    Raises:
        ArgumentError: The subscripts do not fit the operands.
        ShapeError: Axes with the same letter differ in length.

    Examples:
        >>> fg.grad(lambda m: fnp.einsum("ii->", m))(np.ones((2, 2)))
        array([[1., 0.],
               [0., 1.]])
    """
    no_out("einsum", out)
    if not traced(*operands):
        options: dict[str, Any] = {"dtype": dtype, "order": order, "casting": casting, "optimize": optimize}
        return np.einsum(*operands, **options)
    spec, arrays = (operands[0], operands[1:]) if isinstance(operands[0], str) else _spelled_out(operands)
    return einstein.einsum(spec, [_array(x) if dtype is None else asarray(x, dtype) for x in arrays])


def kron(a: Array, b: Array) -> Array:
    """The Kronecker product: `b`, multiplied by each element of `a`, as blocks of one array.

    Examples:
        >>> fnp.kron(np.array([1.0, 10.0]), np.array([1.0, 2.0]))
        array([ 1.,  2., 10., 20.])
    """
    if not traced(a, b):
        return np.kron(a, b)
    a, b = asarray(a), asarray(b)
    ndim = max(a.ndim, b.ndim)
    shape1, shape2 = ((1,) * (ndim - x.ndim) + x.shape for x in (a, b))
    blocks = reshape(a, tuple(n for m in shape1 for n in (m, 1))) * reshape(b, tuple(n for m in shape2 for n in (1, m)))
    return reshape(blocks, tuple(m * n for m, n in zip(shape1, shape2, strict=True)))


def _array(x: Array) -> Array:
    """`asarray`, which has nothing to do for most."""
    return x if x.__class__ in _ARRAYS and x.shape else asarray(x)


_ARRAYS: frozenset[Any] = frozenset({np.ndarray, TracedArray})


def _flat(a: Array) -> Array:
    a = asarray(a)
    return reshape(a, (a.size,))


def _conjugated(x: Array) -> Array:
    return conjugate(x) if is_complex(x) else x


def _axis_last(x: Array, axis: int) -> Array:
    return move_axis(x, normalize_axis(axis, x.ndim), x.ndim - 1)


def _axes(axes: Any, x: Array) -> tuple[int, ...]:
    return tuple(normalize_axis(axis, x.ndim) for axis in (axes if np.iterable(axes) else (axes,)))


def _summed(name: str, a: Array, b: Array, axes1: tuple[int, ...], axes2: tuple[int, ...]) -> Array:
    for i, j in zip(axes1, axes2, strict=True):
        if a.shape[i] != b.shape[j]:
            raise ShapeError(
                f"{name}: axis {i} of a with shape {a.shape} has length {a.shape[i]}, "
                f"but axis {j} of b with shape {b.shape} has length {b.shape[j]}",
                "axes that are summed over must be equally long",
            )
    return contract.tensordot(a, b, axes1, axes2)


def _spelled_out(operands: tuple[Any, ...]) -> tuple[str, tuple[Array, ...]]:
    """Arrays and lists of axis numbers, in turn, as subscripts and arrays."""
    names = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    pairs = len(operands) // 2

    def term(axes: Sequence[Any]) -> str:
        return "".join("..." if i is Ellipsis else names[i] for i in axes)

    spec = ",".join(term(axes) for axes in operands[1 : 2 * pairs : 2])
    if len(operands) % 2:
        spec += "->" + term(operands[-1])
    return spec, operands[0 : 2 * pairs : 2]
