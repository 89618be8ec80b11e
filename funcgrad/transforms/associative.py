"""`associative_scan`: all prefixes of an associative operation, in a logarithmic number of steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad import tree as pytree
from funcgrad.core.errors import ArgumentError, ControlFlowError
from funcgrad.core.types import Array, normalize_axis, show_long, type_of
from funcgrad.ops.shape import move_axis

Leaves = list[Any]


def associative_scan(fn: Callable[[Any, Any], Any], elems: Any, reverse: bool = False, axis: int = 0) -> Any:
    """The prefixes of an associative operation: `elems[0]`, `fn(elems[0], elems[1])`, and so on.

    Each of about 2 log2(n) rounds applies `fn` once, to many elements side by side.

    Args:
        fn: Associative, and elementwise along `axis`: it takes two pytrees like `elems`, of some common length.
        elems: A pytree of arrays of one length along `axis`.
        reverse: True for the suffixes instead.
        axis: The axis to scan along.

    Returns:
        A pytree like `elems`.

    Raises:
        ControlFlowError: The arrays differ in length, or `fn` returns another structure.

    Source:
        Blelloch, "Prefix sums and their applications" (1990).

    Examples:
        >>> import numpy as np
        >>> from funcgrad import lax
        >>> lax.associative_scan(np.maximum, np.array([1.0, 3.0, 2.0, 5.0]))
        array([1., 3., 3., 5.])
    """
    if not callable(fn):
        raise ArgumentError(f"associative_scan takes a function first, got {fn!r}", "associative_scan(np.add, x)")
    leaves, structure = pytree.flatten(elems)
    leaves = [x if hasattr(x, "shape") else np.asarray(x) for x in leaves]
    axes = [normalize_axis(axis, len(x.shape)) for x in leaves]
    rows = [move_axis(x, a, 0) for x, a in zip(leaves, axes, strict=True)]
    lengths = sorted({x.shape[0] for x in rows})
    if len(lengths) > 1:
        raise ControlFlowError(
            f"associative_scan: the arrays have the lengths {lengths} along axis {axis}", "give them one length"
        )

    def combine(a: Leaves, b: Leaves) -> Leaves:
        out = fn(pytree.unflatten(structure, a), pytree.unflatten(structure, b))
        found, got = pytree.flatten(out)
        if got != structure:
            raise ControlFlowError(
                f"associative_scan: the function returns another structure, {pytree.difference(elems, out)}",
                "return a pytree like each of its arguments",
            )
        for x, y in zip(a, found, strict=True):
            if type_of(y).shape != x.shape:
                raise ControlFlowError(
                    f"associative_scan: the function returns {show_long(type_of(y))} for two of {show_long(x)}",
                    "let it work element by element along the axis: it is called with many elements at once",
                )
        return [y.astype(x.dtype) if type_of(y).dtype != x.dtype else y for x, y in zip(a, found, strict=True)]

    if reverse:
        rows = [x[::-1] for x in rows]
    out = _prefixes(combine, rows)
    if reverse:
        out = [y[::-1] for y in out]
    return pytree.unflatten(structure, [move_axis(y, 0, a) for y, a in zip(out, axes, strict=True)])


def _prefixes(combine: Callable[[Leaves, Leaves], Leaves], xs: Leaves) -> Leaves:
    """Combine neighbours, scan the half as many results, and fill in between."""
    n = xs[0].shape[0] if xs else 0
    if n < 2:
        return xs
    pairs = combine([x[0:-1:2] for x in xs], [x[1::2] for x in xs])
    odd = _prefixes(combine, pairs)
    head = [x[:1] for x in xs]
    if n == 2:
        return [np.concatenate([a, b]) for a, b in zip(head, odd, strict=True)]
    even = combine([y[: (n - 1) // 2] for y in odd], [x[2::2] for x in xs])
    return [_interleaved(np.concatenate([a, e]), o) for a, e, o in zip(head, even, odd, strict=True)]


def _interleaved(even: Array, odd: Array) -> Array:
    n = odd.shape[0]
    both = np.stack([even[:n], odd], axis=1).reshape((2 * n, *odd.shape[1:]))
    return both if even.shape[0] == n else np.concatenate([both, even[n:]])
