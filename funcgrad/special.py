"""Special functions that SciPy writes in Python. All others of `scipy.special` take traced values as they are."""

from __future__ import annotations

import operator
from reprlib import repr
from typing import Any

from funcgrad.core.errors import ArgumentError
from funcgrad.core.trace import Tracer
from funcgrad.core.types import Array, show_long
from funcgrad.numpy._creation import operands
from funcgrad.numpy._ufunc import strong
from funcgrad.ops import gamma as gm

__all__ = ["polygamma"]

# the factorial of a higher one leaves no room for what it is multiplied by
_HIGHEST = 100


def polygamma(n: int, x: Array) -> Array:
    """The derivative of order `n` of digamma, as `scipy.special.polygamma` gives it.

    Its derivative is polygamma(n + 1, x). For n = 0 and 1 there is machine code; higher ones run through SciPy.

    Args:
        n: The order, a Python integer from 0 to 100.
        x: Real numbers.

    Returns:
        An array of the shape of `x`, and of its dtype if that is a float. (SciPy's result is always float64.)

    Raises:
        ArgumentError: `n` is no such integer.
        DTypeError: `x` is complex.

    Source:
        NIST Digital Library of Mathematical Functions, 5.15.

    Examples:
        >>> fg.special.polygamma(1, np.array([1.0, 2.0]))
        array([1.64493407, 0.64493407])
        >>> fg.grad(lambda x: fg.special.polygamma(1, x))(1.0) == fg.special.polygamma(2, 1.0)
        np.True_
    """
    order = _order(n)
    (x,) = operands(x)
    primitive = gm.digamma if order == 0 else gm.trigamma if order == 1 else gm.Polygamma(order)
    return strong(primitive(x))


def _order(n: Any) -> int:
    if isinstance(n, Tracer):
        raise ArgumentError(
            f"the order of polygamma is {show_long(n)}, but it is a part of the program and must be known",
            "polygamma(1, x) with a number; for several orders, stack([polygamma(k, x) for k in orders])",
        )
    try:
        order = operator.index(n)
    except TypeError:
        order = -1
    if not 0 <= order <= _HIGHEST:
        raise ArgumentError(
            f"the order of polygamma is {repr(n)}, which is not an integer from 0 to {_HIGHEST}",
            "polygamma(1, x); for several orders, stack([polygamma(k, x) for k in orders])",
        )
    return order
