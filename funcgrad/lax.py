"""Control flow and slices for traced values, under JAX's names.

Python's own `if`, `for` and `while` work wherever values are known: eagerly, and under `grad` and `vjp`. Inside `jit`
and `vmap` only types are known; there these functions take their place.
"""

from __future__ import annotations

from funcgrad.ops.dynamic import (
    dynamic_index_in_dim,
    dynamic_slice,
    dynamic_slice_in_dim,
    dynamic_update_index_in_dim,
    dynamic_update_slice,
    dynamic_update_slice_in_dim,
)
from funcgrad.ops.flow import stop_gradient
from funcgrad.ops.pointwise import select
from funcgrad.transforms.associative import associative_scan
from funcgrad.transforms.control import cond, fori_loop, map, scan, switch, while_loop
from funcgrad.transforms.custom import custom_linear_solve, custom_root

__all__ = [
    "associative_scan",
    "cond",
    "custom_linear_solve",
    "custom_root",
    "dynamic_index_in_dim",
    "dynamic_slice",
    "dynamic_slice_in_dim",
    "dynamic_update_index_in_dim",
    "dynamic_update_slice",
    "dynamic_update_slice_in_dim",
    "fori_loop",
    "map",
    "scan",
    "select",
    "stop_gradient",
    "switch",
    "while_loop",
]
