"""funcgrad: composable function transformations for NumPy.

    import funcgrad as fg
    import funcgrad.numpy as fnp

Functions of plain NumPy arrays go in, functions of plain NumPy arrays come out: `grad(f)` is the gradient of `f`,
`vjp` its pullback, and they nest in any order.
"""

from __future__ import annotations

from typing import Any

from funcgrad import errors, extend, nn, numpy, testing, tree
from funcgrad.core.types import ArrayType as ShapeDtypeStruct
from funcgrad.ops.flow import stop_gradient
from funcgrad.ops.scatter import at
from funcgrad.transforms.stage import eval_shape, make_jaxpr
from funcgrad.transforms.vjp import grad, hvp, value_and_grad, vjp

__all__ = [
    "ShapeDtypeStruct",
    "at",
    "errors",
    "eval_shape",
    "extend",
    "grad",
    "hvp",
    "make_jaxpr",
    "nn",
    "numpy",
    "stop_gradient",
    "testing",
    "tree",
    "value_and_grad",
    "vjp",
]

_REVERSE_ONLY = "funcgrad is reverse mode only and builds no Jacobians"
_NOT_YET = "it is not written yet"
_ABSENT = {
    "jvp": f"{_REVERSE_ONLY}: use vjp; a JVP is the pullback of a pullback",
    "linearize": f"{_REVERSE_ONLY}: use vjp",
    "jacfwd": f"{_REVERSE_ONLY}: the pullback of a unit vector, by vjp, is a row of the Jacobian",
    "jacrev": f"{_REVERSE_ONLY}: the pullback of a unit vector, by vjp, is a row of the Jacobian",
    "hessian": f"{_REVERSE_ONLY}: hvp gives the product of the Hessian with a vector",
    "custom_jvp": f"{_REVERSE_ONLY}: there will be custom_vjp",
    "jit": f"{_NOT_YET}: the function itself gives the same values",
    "vmap": f"{_NOT_YET}: write the batch axis out, or loop and stack",
    "lax": f"{_NOT_YET}: Python's if, for and while work under grad",
    "random": f"{_NOT_YET}: use numpy.random outside what you differentiate",
    "custom_vjp": f"{_NOT_YET}: funcgrad.extend adds a primitive with a pullback of your own",
    "checkpoint": _NOT_YET,
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # slow, and rarely asked for

        return version("funcgrad")
    if name in _ABSENT:
        raise AttributeError(f"module 'funcgrad' has no attribute {name!r}: {_ABSENT[name]}")
    raise AttributeError(f"module 'funcgrad' has no attribute {name!r}")
