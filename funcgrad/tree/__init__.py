"""Pytrees: arrays in nested containers, on optree.

Containers are tuples, lists, dicts, `OrderedDict`, `defaultdict`, `deque`, namedtuples and dataclasses; `None` is an
empty container; everything else is a leaf. The leaves of a dict come in the order of its sorted keys (where keys do not
compare, by the name of their type first), and the dict comes back in its own order. Dataclasses need no registration:
their fields are the children, except those with `field(metadata={"static": True})`, which belong to the structure.

Source: the pytree design of JAX, https://docs.jax.dev/en/latest/pytrees.html; optree implements it in C++.
"""

from funcgrad.tree._functions import (
    all,
    broadcast,
    flatten_with_path,
    leaves_with_path,
    map,
    map_with_path,
    ravel_pytree,
    reduce,
    transpose,
)
from funcgrad.tree._nodes import (
    Partial,
    register_dataclass,
    register_pytree_node,
    register_pytree_node_class,
    register_static,
)
from funcgrad.tree._nodes import fields_of as fields_of
from funcgrad.tree._structure import Structure as Structure
from funcgrad.tree._structure import difference as difference
from funcgrad.tree._structure import flatten, keystr, leaves, structure, unflatten
from funcgrad.tree._structure import paths as paths

__all__ = [
    "Partial",
    "all",
    "broadcast",
    "flatten",
    "flatten_with_path",
    "keystr",
    "leaves",
    "leaves_with_path",
    "map",
    "map_with_path",
    "ravel_pytree",
    "reduce",
    "register_dataclass",
    "register_pytree_node",
    "register_pytree_node_class",
    "register_static",
    "structure",
    "transpose",
    "unflatten",
]
