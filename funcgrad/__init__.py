"""funcgrad: composable function transformations for NumPy.

    import funcgrad as fg
    import funcgrad.numpy as fnp

Functions of plain NumPy arrays go in, functions of plain NumPy arrays come out: `grad(f)` is the gradient of `f`,
`vjp` its pullback, and they nest in any order.
"""

from __future__ import annotations

from typing import Any

from funcgrad import extend, nn, numpy, testing, tree
from funcgrad.core import errors
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

_ABSENT = {
    "jvp": "vjp, or vjp of a pullback: reverse mode only",
    "linearize": "vjp",
    "jacfwd": "rows of a Jacobian by the pullback of each unit vector: vjp",
    "jacrev": "rows of a Jacobian by the pullback of each unit vector: vjp",
    "jacobian": "rows of a Jacobian by the pullback of each unit vector: vjp",
    "hessian": "hvp, the product of the Hessian with a vector",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # slow, and rarely asked for

        return version("funcgrad")
    if name in _ABSENT:
        raise AttributeError(f"funcgrad has no {name}: it is reverse-mode and builds no Jacobians; use {_ABSENT[name]}")
    raise AttributeError(f"module 'funcgrad' has no attribute {name!r}")
