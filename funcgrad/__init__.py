"""funcgrad: composable function transformations for NumPy.

    import funcgrad as fg
    import funcgrad.numpy as fnp

Functions of plain NumPy arrays go in, functions of plain NumPy arrays come out: `grad(f)` is the gradient of `f`,
`vjp` its pullback, `vmap(f)` applies it to a batch, `jit(f)` compiles it, and they nest in any order.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from funcgrad import errors, extend, nn, numpy, testing, tree
from funcgrad.core.types import ArrayType as ShapeDtypeStruct
from funcgrad.ops.flow import stop_gradient
from funcgrad.ops.scatter import at
from funcgrad.transforms.tracing.stage import eval_shape, make_jaxpr
from funcgrad.transforms.vjp import grad, hvp, value_and_grad, vjp
from funcgrad.transforms.vmap import vmap

if TYPE_CHECKING:
    from funcgrad import debug, lax, special
    from funcgrad.compiler.native.machine.pool import get_num_threads, set_num_threads
    from funcgrad.transforms.callback import pure_callback
    from funcgrad.transforms.checkpoint import checkpoint, checkpoint_name, checkpoint_policies
    from funcgrad.transforms.checkpoint import checkpoint as remat
    from funcgrad.transforms.closure import closure_convert
    from funcgrad.transforms.custom import custom_gradient, custom_vjp
    from funcgrad.transforms.debugging import checking_leaks, debug_infs, debug_nans
    from funcgrad.transforms.jit import clear_caches, disable_jit, jit
    from funcgrad.transforms.jit_cache import log_compiles
    from funcgrad.transforms.residuals import print_saved_residuals, saved_residuals

__all__ = [
    "ShapeDtypeStruct",
    "at",
    "checking_leaks",
    "checkpoint",
    "checkpoint_name",
    "checkpoint_policies",
    "clear_caches",
    "closure_convert",
    "custom_gradient",
    "custom_vjp",
    "debug",
    "debug_infs",
    "debug_nans",
    "disable_jit",
    "errors",
    "eval_shape",
    "extend",
    "get_num_threads",
    "grad",
    "hvp",
    "jit",
    "lax",
    "log_compiles",
    "make_jaxpr",
    "nn",
    "numpy",
    "print_saved_residuals",
    "pure_callback",
    "remat",
    "saved_residuals",
    "set_num_threads",
    "special",
    "stop_gradient",
    "testing",
    "tree",
    "value_and_grad",
    "vjp",
    "vmap",
]

# What is imported when it is first asked for, so that `import funcgrad` stays fast: the module of each name.
_LATER = {
    "checking_leaks": "transforms.debugging",
    "checkpoint": "transforms.checkpoint",
    "checkpoint_name": "transforms.checkpoint",
    "checkpoint_policies": "transforms.checkpoint",
    "clear_caches": "transforms.jit",
    "closure_convert": "transforms.closure",
    "custom_gradient": "transforms.custom",
    "custom_vjp": "transforms.custom",
    "debug": "debug",
    "debug_infs": "transforms.debugging",
    "debug_nans": "transforms.debugging",
    "disable_jit": "transforms.jit",
    "get_num_threads": "compiler.native.machine.pool",
    "jit": "transforms.jit",
    "lax": "lax",
    "log_compiles": "transforms.jit_cache",
    "print_saved_residuals": "transforms.residuals",
    "pure_callback": "transforms.callback",
    "remat": "transforms.checkpoint",
    "saved_residuals": "transforms.residuals",
    "set_num_threads": "compiler.native.machine.pool",
    "special": "special",
}
_REVERSE_ONLY = "funcgrad is reverse mode only and builds no Jacobians"
_ABSENT = {
    "jvp": f"{_REVERSE_ONLY}: use vjp; a JVP is the pullback of a pullback",
    "linearize": f"{_REVERSE_ONLY}: use vjp",
    "jacfwd": f"{_REVERSE_ONLY}: the pullback of a unit vector, by vjp, is a row of the Jacobian",
    "jacrev": f"{_REVERSE_ONLY}: vmap of the pullback over the rows of numpy.eye(n) gives all rows",
    "hessian": f"{_REVERSE_ONLY}: hvp gives the product of the Hessian with a vector",
    "jacobian": f"{_REVERSE_ONLY}: vmap of the pullback over the rows of numpy.eye(n) gives all rows",
    "custom_jvp": f"{_REVERSE_ONLY}: use custom_vjp",
    "tree_util": "it is funcgrad.tree here: tree.map, tree.leaves, tree.register_pytree_node",
    "scipy": "functions of scipy.special take traced values as they are; polygamma is in funcgrad.special, "
    "logsumexp and softmax are in funcgrad.nn",
    "block_until_ready": "results are NumPy arrays, and there when a call returns",
    "device_put": "arrays are NumPy's, in main memory",
    "config": "dtypes are NumPy's: float64 stays float64, and there is nothing to switch on",
    "random": "it is not written yet: use numpy.random outside what you differentiate",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        module = importlib.import_module(f"funcgrad.{_LATER[name]}")
        value = module if name == _LATER[name] else getattr(module, "checkpoint" if name == "remat" else name)
        globals()[name] = value
        return value
    if name == "__version__":
        from importlib.metadata import version  # slow, and rarely asked for

        return version("funcgrad")
    if name in _ABSENT:
        raise AttributeError(f"module 'funcgrad' has no attribute {name!r}: {_ABSENT[name]}")
    raise AttributeError(f"module 'funcgrad' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
