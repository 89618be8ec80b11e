"""Vector math: transcendental functions as code for the lanes of a vector, for float and double.

Functions that are not here run through NumPy or SciPy.
"""

from __future__ import annotations

from collections.abc import Callable

from funcgrad.compiler.native.builder import Value
from funcgrad.compiler.native.vectormath import exponential, trigonometric

FUNCTIONS: dict[str, Callable[..., Value]] = {
    "exp": exponential.exp,
    "exp2": exponential.exp2,
    "expm1": exponential.expm1,
    "log": exponential.log,
    "log1p": exponential.log1p,
    "logaddexp": exponential.logaddexp,
    "sigmoid": exponential.sigmoid,
    "tanh": exponential.tanh,
    "sin": trigonometric.sin,
    "cos": trigonometric.cos,
}
"""By name, from a builder and operands to the result."""
