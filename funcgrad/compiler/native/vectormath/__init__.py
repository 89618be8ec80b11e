"""Vector math: transcendental functions as code for the lanes of a vector, for float and double.

Functions that are not here run through NumPy or SciPy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from funcgrad.compiler.native.machine.builder import Value
from funcgrad.compiler.native.vectormath import (
    error_function,
    exponential,
    gamma,
    hyperbolic,
    inverse,
    logarithm,
    power,
    roots,
    trigonometric,
)
from funcgrad.core.ir import Atom, Literal

FUNCTIONS: dict[str, Callable[..., Value]] = {
    "exp": exponential.exp,
    "exp2": exponential.exp2,
    "expm1": exponential.expm1,
    "sigmoid": exponential.sigmoid,
    "log": logarithm.log,
    "log2": logarithm.log2,
    "log10": logarithm.log10,
    "log1p": logarithm.log1p,
    "logaddexp": logarithm.logaddexp,
    "sin": trigonometric.sin,
    "cos": trigonometric.cos,
    "tan": trigonometric.tan,
    "arcsin": inverse.arcsin,
    "arccos": inverse.arccos,
    "arctan": inverse.arctan,
    "arctan2": inverse.arctan2,
    "tanh": hyperbolic.tanh,
    "sinh": hyperbolic.sinh,
    "cosh": hyperbolic.cosh,
    "arcsinh": hyperbolic.arcsinh,
    "arccosh": hyperbolic.arccosh,
    "arctanh": hyperbolic.arctanh,
    "cbrt": roots.cbrt,
    "hypot": roots.hypot,
    "power": power.power,
    "erf": error_function.erf,
    "erfc": error_function.erfc,
    "lgamma": gamma.lgamma,
    "digamma": gamma.digamma,
    "trigamma": gamma.trigamma,
}
"""By name, from a builder and operands to the result."""

COSTS: Mapping[str, int] = {
    **{"exp": 20, "exp2": 20, "expm1": 29, "sigmoid": 28, "tanh": 24, "sinh": 31, "cosh": 22},
    **{"log": 22, "log2": 22, "log10": 24, "log1p": 31, "logaddexp": 53, "arcsinh": 44, "arccosh": 43, "arctanh": 37},
    **{"sin": 30, "cos": 33, "tan": 53, "arcsin": 26, "arccos": 41, "arctan": 31, "arctan2": 47},
    **{"cbrt": 48, "hypot": 20, "power": 104, "erf": 71, "erfc": 60},
    **{"lgamma": 150, "digamma": 113, "trigamma": 60},
}
"""How many instructions a function is, in double precision; in single there are about two thirds of them."""
_SHORT_POWER = 8


def cost(name: str, inputs: Sequence[Atom]) -> int:
    """About how many instructions an elementwise operation is."""
    if name == "power" and isinstance(n := inputs[1], Literal) and power.is_short(float(n.value)):
        return _SHORT_POWER
    return COSTS.get(name, 1)
