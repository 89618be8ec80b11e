"""What comes out of a differentiated function, and the cotangents that go in there: are they what they must be?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad.core.errors import CotangentError, DifferentiationError
from funcgrad.core.trace import Tracer
from funcgrad.core.types import is_inexact, show_long, type_of
from funcgrad.transforms.inputs import is_array
from funcgrad.transforms.tracing.arguments import function_name


def split_aux(name: str, out: Any) -> tuple[Any, Any]:
    """What a function with `has_aux=True` returned, as value and aux."""
    if not isinstance(out, tuple) or len(out) != 2:
        raise DifferentiationError(
            f"{name}: has_aux=True needs a function that returns (value, aux); it returned {what(out)}",
            "return loss, aux from the function, or leave has_aux out",
        )
    return out


def what(out: Any) -> str:
    """What messages call a result: `a tuple of 2`, `a single float64[3]`."""
    if isinstance(out, tuple | list | dict):
        return f"a {type(out).__name__} of {len(out)}"
    if out is None or not is_array(out):
        return "None" if out is None else f"a {type(out).__name__}"
    return f"a single {show_long(type_of(out))}"


def check_scalar(name: str, f: Callable[..., Any], out: Any) -> None:
    """`grad` needs a real floating-point scalar."""
    returned = f"{name}: {function_name(f)} returned"
    if out is None:
        raise DifferentiationError(f"{returned} None", "return the loss at the end of the function")
    if isinstance(out, tuple | list | dict) or not is_array(out):
        raise DifferentiationError(
            f"{returned} {what(out)}, but grad needs a single scalar",
            "has_aux=True if it returns (loss, something else); for several outputs use vjp",
        )
    t = type_of(out)
    if t.shape != ():
        raise DifferentiationError(
            f"{returned} {show_long(t)}, but grad needs a scalar of shape ()",
            "sum or mean it: .sum()"
            + (" or [0]" if t.size == 1 else "")
            + "; for a weighted sum of the elements use vjp",
        )
    if t.dtype.kind == "c":
        raise DifferentiationError(
            f"{returned} {show_long(t)}, but grad needs a real scalar",
            "take abs(z)**2 or z.real of it; for the derivative of a holomorphic function use vjp(f, z)[1](1 + 0j)",
        )
    if not is_inexact(t.dtype):
        raise DifferentiationError(
            f"{returned} {show_long(t)}: a result of this type is piecewise constant, it has no derivative",
            "return a floating-point loss; argmax, comparisons and casts to int end the flow of derivatives",
        )


def checked_cotangent(name: str, g: Any, expected: Any, path: str) -> Any:
    """`g` as an array of the type of the output it belongs to; None for an output without a derivative."""
    where = f" at {path}" if path else ""
    if expected is None or not is_inexact(expected.dtype):
        if g is not None and not (is_array(g) and not isinstance(g, Tracer) and not np.any(g)):
            raise CotangentError(
                f"{name}: the output{where} is {'no array' if expected is None else show_long(expected)}, "
                "which carries no derivative, but it got a cotangent",
                "pass None for it",
            )
        return None
    if type(g) in (float, int, complex) and not expected.shape and np.result_type(g, expected.dtype) == expected.dtype:
        return expected.dtype.type(g)
    got = type_of(g) if is_array(g) else None
    if got is not None and isinstance(g, np.generic) and got.dtype.kind == expected.dtype.kind and not expected.shape:
        return g.astype(expected.dtype)
    # a difference in byte order alone is none
    if got is None or got.shape != expected.shape or got.dtype.newbyteorder("=") != expected.dtype.newbyteorder("="):
        raise CotangentError(
            f"{name}: the cotangent{where} is {what(g) if got is None else show_long(got)}, "
            f"but the output it belongs to is {show_long(expected)}",
            "a cotangent has the shape and the dtype of its output: ct.astype(y.dtype).reshape(y.shape)",
        )
    return g if got.dtype == expected.dtype else g.astype(expected.dtype)
