"""What the reductions do with their arguments: NumPy's `axis`, `dtype`, `where`, `initial`, `keepdims` and `out`."""

from __future__ import annotations

import functools
from typing import Any

from funcgrad.core.errors import UnsupportedError
from funcgrad.core.trace import Tracer
from funcgrad.core.types import Array, Shape, normalize_axes
from funcgrad.numpy._creation import asarray
from funcgrad.ops.broadcast import Reshape, broadcast_to
from funcgrad.ops.pointwise import convert, select
from funcgrad.ops.reduce import kept


def traced(*xs: Any) -> bool:
    """Whether one of the arguments is traced, or a list that holds a traced value."""
    for x in xs:  # noqa: SIM110  # a generator costs more than all of this
        if isinstance(x, Tracer) or (type(x) in (list, tuple) and traced(*x)):
            return True
    return False


def operand(a: Array) -> Array:
    """`a` as a primitive takes it."""
    return a if isinstance(a, Tracer) else asarray(a)


def no_out(function: str, out: Any) -> None:
    """Refuse an `out` argument."""
    if out is not None:
        raise UnsupportedError(
            f"{function}(..., out=...) would write its result into an array in place, where its derivative is lost",
            f"leave `out` away and use the result: y = {function}(x)",
        )


def reduced_axes(axis: Any, x: Array) -> tuple[int, ...]:
    """The axes that a reduction of `x` folds."""
    return (_known_axes if type(axis) in _HASHABLE else _axes)(axis, len(x.shape))


def _axes(axis: Any, ndim: int) -> tuple[int, ...]:
    # NumPy's reductions take axis 0 and -1 of a 0-d array
    return () if ndim == 0 and axis in (0, -1) else normalize_axes(axis, ndim)


_HASHABLE = (type(None), int, tuple)
_known_axes = functools.lru_cache(_axes)


def only_where(x: Array, where: Array, fill: Any) -> Array:
    """`x` with `fill` in the places that do not take part. What stands there has no part in the gradient either."""
    if where is True:
        return x
    return select(broadcast_to(asarray(where), x.shape), x, convert(fill, x.dtype))


def restore(y: Array, shape: Shape, axes: tuple[int, ...], keepdims: bool) -> Array:
    """The result of folding `axes`, which stay with length 1 if `keepdims`."""
    return _unfold(shape, axes)(y) if keepdims else y


@functools.lru_cache(maxsize=1024)
def _unfold(shape: Shape, axes: tuple[int, ...]) -> Reshape:
    return Reshape(kept(shape, axes))


def given(name: str, value: Any) -> dict[str, Any]:
    """An argument to be passed on to a NumPy function, which marks a missing one differently than by None."""
    return {} if value is None else {name: value}
