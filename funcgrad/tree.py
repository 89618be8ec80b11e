"""Pytrees: arrays in nested containers, on optree.

Containers are tuples, lists, dicts, `OrderedDict`, `defaultdict`, `deque`, namedtuples and dataclasses; `None` is an
empty container; everything else is a leaf. The leaves of a dict come in the order of its sorted keys (where keys do not
compare, by the name of their type first), and the dict comes back in its own order. Dataclasses need no registration:
their fields are the children, except those with `field(metadata={"static": True})`, which belong to the structure.

Source: the pytree design of JAX, https://docs.jax.dev/en/latest/pytrees.html; optree implements it in C++.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import numpy as np
import optree

from funcgrad.core.errors import ShapeError, TreeError

__all__ = [
    "all",
    "flatten",
    "flatten_with_path",
    "leaves",
    "map",
    "map_with_path",
    "ravel_pytree",
    "reduce",
    "register_pytree_node",
    "structure",
    "transpose",
    "unflatten",
]

Tree = Any
Structure = optree.PyTreeSpec
T = TypeVar("T")

_NAMESPACE = "funcgrad"
_register_lock = threading.Lock()


def flatten(tree: Tree, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], Structure]:
    """The leaves of a pytree, in order, and its structure.

    Args:
        tree: Any nesting of containers.
        is_leaf: Says of a node whether to stop there and take it as a leaf.

    Returns:
        The leaves, and a structure for `unflatten`.

    Raises:
        TreeError: A leaf is a set or an iterator, which are containers without an order or without a length.

    Examples:
        >>> from funcgrad import tree
        >>> leaves, structure = tree.flatten({"w": 1.0, "b": [2.0, None]})
        >>> leaves
        [2.0, 1.0]
        >>> tree.unflatten(structure, leaves)
        {'w': 1.0, 'b': [2.0, None]}
    """
    found, spec = optree.tree_flatten(tree, is_leaf, namespace=_NAMESPACE)
    if _settle(found, spec, is_leaf):
        return flatten(tree, is_leaf)
    return found, spec


def _settle(found: Iterable[Any], spec: Structure, is_leaf: Callable[[Any], bool] | None) -> bool:
    """Register dataclasses that were taken for leaves (True: flatten once more) and refuse what cannot be a leaf."""
    fresh = False
    for i, leaf in enumerate(found):
        cls = type(leaf)
        if cls is float or hasattr(leaf, "dtype") or (is_leaf is not None and is_leaf(leaf)):
            continue
        if dataclasses.is_dataclass(cls):
            _register_dataclass(cls)
            fresh = True
        elif isinstance(leaf, set | frozenset) or hasattr(leaf, "__next__"):
            path = paths(spec)[i]
            raise TreeError(
                f"a {cls.__name__} cannot be part of a pytree" + (f", but there is one at {path}" if path else ""),
                "pass a list or a tuple: sorted(values), list(values)",
            )
    return fresh


def _register_dataclass(cls: type) -> None:
    fields = [f for f in dataclasses.fields(cls) if f.init]
    children = tuple(f.name for f in fields if not f.metadata.get("static"))
    static = tuple(f.name for f in fields if f.metadata.get("static"))

    def split(node: Any) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[str, ...]]:
        return (
            tuple(getattr(node, name) for name in children),
            tuple(getattr(node, name) for name in static),
            children,
        )

    def join(static_values: tuple[Any, ...], values: tuple[Any, ...]) -> Any:
        return cls(**dict(zip(static, static_values, strict=True)), **dict(zip(children, values, strict=True)))

    with _register_lock:
        try:
            optree.register_pytree_node(
                cls, split, cast(Any, join), path_entry_type=optree.DataclassEntry, namespace=_NAMESPACE
            )
        except ValueError:
            return  # another thread was first


def register_pytree_node(
    cls: type[T], flatten: Callable[[T], tuple[Iterable[Any], Any]], unflatten: Callable[[Any, Iterable[Any]], T]
) -> None:
    """Make a class of your own a container.

    Args:
        cls: The class.
        flatten: Maps an instance to its children and to hashable auxiliary data.
        unflatten: Maps the auxiliary data and the children to an instance.

    Raises:
        ValueError: The class is registered already.

    Examples:
        >>> from funcgrad import tree
        >>> class Pair:
        ...     def __init__(self, a, b):
        ...         self.a, self.b = a, b
        >>> tree.register_pytree_node(Pair, lambda p: ((p.a, p.b), None), lambda _, children: Pair(*children))
        >>> tree.leaves(Pair(1.0, 2.0))
        [1.0, 2.0]
    """

    def split(node: Any) -> tuple[tuple[Any, ...], Any]:
        children, data = flatten(node)
        return tuple(children), data

    optree.register_pytree_node(cast(Any, cls), split, cast(Any, unflatten), namespace=_NAMESPACE)


def unflatten(structure: Structure, leaves: Iterable[Any]) -> Tree:
    """The pytree of a structure with new leaves; see `flatten`.

    Examples:
        >>> from funcgrad import tree
        >>> tree.unflatten(tree.structure((0, [0])), [1, 2])
        (1, [2])
    """
    leaves = leaves if isinstance(leaves, list) else list(leaves)
    if len(leaves) != structure.num_leaves:
        raise TreeError(
            f"tree.unflatten: the structure has {structure.num_leaves} leaves, but {len(leaves)} were given",
            "pass one leaf for each leaf of the tree that the structure was taken from",
        )
    return optree.tree_unflatten(structure, leaves)


def leaves(tree: Tree, is_leaf: Callable[[Any], bool] | None = None) -> list[Any]:
    """The leaves of a pytree, in order; `is_leaf` is as for `flatten`.

    Examples:
        >>> from funcgrad import tree
        >>> tree.leaves({"b": 2, "a": (1, None)})
        [1, 2]
    """
    return flatten(tree, is_leaf)[0]


def structure(tree: Tree, is_leaf: Callable[[Any], bool] | None = None) -> Structure:
    """The structure of a pytree: its containers, with a mark for each leaf; `is_leaf` is as for `flatten`.

    Examples:
        >>> from funcgrad import tree
        >>> tree.structure((1, {"a": 2})) == tree.structure((3, {"a": 4}))
        True
    """
    return flatten(tree, is_leaf)[1]


def map(f: Callable[..., Any], tree: Tree, *rest: Tree, is_leaf: Callable[[Any], bool] | None = None) -> Tree:
    """Apply `f` to each leaf of `tree`, with the leaves of `rest` at the same place.

    Args:
        f: Takes one leaf of each tree.
        tree: Decides the structure of the result.
        rest: Trees of the same structure; where `tree` has a leaf they may have a subtree.
        is_leaf: Says of a node of `tree` whether to stop there and take it as a leaf.

    Returns:
        A tree like `tree`.

    Raises:
        TreeError: The structures differ; the message names the first place where they do.

    Examples:
        >>> from funcgrad import tree
        >>> tree.map(lambda w, g: w - 0.5 * g, {"w": 1.0, "b": 0.0}, {"w": 2.0, "b": 4.0})
        {'w': 0.0, 'b': -2.0}
    """
    first, spec = flatten(tree, is_leaf)
    columns = [first]
    for number, other in enumerate(rest, 1):
        structure(other, is_leaf)  # registers dataclasses
        try:
            columns.append(spec.flatten_up_to(other))
        except ValueError:
            raise TreeError(
                f"tree.map: tree {number + 1} differs from the first {difference(tree, other)}",
                "pass trees of one structure; tree.structure(t) shows it",
            ) from None
    return optree.tree_unflatten(spec, [f(*args) for args in zip(*columns, strict=True)])


def reduce(f: Callable[[Any, Any], Any], tree: Tree, initial: Any = None) -> Any:
    """Combine the leaves of a pytree with `f`, from the left.

    Args:
        f: Takes what has been combined so far, and a leaf.
        tree: Any pytree.
        initial: What to start from; without it, the first leaf.

    Raises:
        TypeError: There is no leaf and no `initial`.

    Examples:
        >>> from funcgrad import tree
        >>> tree.reduce(lambda total, x: total + x, {"a": 1, "b": [2, 3]}, 0)
        6
    """
    items = iter(leaves(tree))
    if initial is None:
        try:
            initial = next(items)
        except StopIteration:
            raise TypeError("tree.reduce of a tree without leaves needs an initial value") from None
    for leaf in items:
        initial = f(initial, leaf)
    return initial


def all(tree: Tree) -> bool:
    """True if all leaves are true.

    Examples:
        >>> from funcgrad import tree
        >>> tree.all({"a": True, "b": [1, 0]})
        False
    """
    return not any(not leaf for leaf in leaves(tree))


def transpose(outer: Structure, inner: Structure, tree: Tree) -> Tree:
    """Turn a tree of trees inside out.

    Args:
        outer: The structure of the outer tree.
        inner: The structure of each inner tree.
        tree: An `outer` tree whose leaves are `inner` trees.

    Examples:
        >>> from funcgrad import tree
        >>> tree.transpose(tree.structure([0, 0]), tree.structure({"a": 0}), [{"a": 1}, {"a": 2}])
        {'a': [1, 2]}
    """
    try:
        rows = [inner.flatten_up_to(subtree) for subtree in outer.flatten_up_to(tree)]
    except ValueError:
        raise TreeError(
            f"tree.transpose: the tree is not an outer tree of inner trees: {structure(tree)}",
            "tree.transpose(structure([0, 0]), structure({'a': 0}), [{'a': 1}, {'a': 2}])",
        ) from None
    return unflatten(inner, [unflatten(outer, column) for column in zip(*rows, strict=True)])


def flatten_with_path(tree: Tree) -> tuple[list[tuple[str, Any]], Structure]:
    """The leaves with their paths, and the structure.

    Examples:
        >>> from funcgrad import tree
        >>> tree.flatten_with_path({"w": [1.0, 2.0]})[0]
        [("['w'][0]", 1.0), ("['w'][1]", 2.0)]
    """
    found, spec = flatten(tree)
    return list(zip(paths(spec), found, strict=True)), spec


def map_with_path(f: Callable[[str, Any], Any], tree: Tree) -> Tree:
    """Apply `f(path, leaf)` to each leaf.

    Examples:
        >>> from funcgrad import tree
        >>> tree.map_with_path(lambda path, x: f"{path} = {x}", {"w": 1.0})
        {'w': "['w'] = 1.0"}
    """
    found, spec = flatten_with_path(tree)
    return unflatten(spec, [f(path, leaf) for path, leaf in found])


def ravel_pytree(tree: Tree) -> tuple[Any, Callable[[Any], Tree]]:
    """All leaves in one vector, and the way back: for optimizers that want a vector, such as `scipy.optimize`.

    Args:
        tree: Any pytree of arrays and numbers.

    Returns:
        The vector, of the common dtype of the leaves, and the function that makes a tree like `tree` of such a vector.
        Both are differentiable.

    Raises:
        TreeError: A leaf is neither an array nor a number.

    Examples:
        >>> from funcgrad import tree
        >>> vector, unravel = tree.ravel_pytree({"w": [1.0, 2.0], "b": 3.0})
        >>> vector
        array([3., 1., 2.])
        >>> unravel(2 * vector)
        {'w': [array(2.), array(4.)], 'b': array(6.)}
    """
    found, spec = flatten(tree)
    arrays = [x if hasattr(x, "dtype") else np.asarray(x) for x in found]
    for x, path in zip(arrays, paths(spec), strict=True):
        if x.dtype.kind in "OSUMm":
            raise TreeError(f"ravel_pytree: the leaf {path or 'at the root'} is {x!r}, not a number", "leave it out")
    cuts = np.cumsum([x.size for x in arrays])
    vector = np.concatenate([x.reshape(-1) for x in arrays]) if arrays else np.zeros(0)
    kinds = [(x.shape, x.dtype) for x in arrays]

    def unravel(vector: Any) -> Tree:
        if vector.shape != (sum(x.size for x in arrays),):
            raise ShapeError(
                f"unravel takes a vector of {sum(x.size for x in arrays)} numbers, got shape {vector.shape}",
                "ravel_pytree(t)[0] of a tree with the same shapes",
            )
        parts = []
        for part, (shape, dtype) in zip(np.split(vector, cuts[:-1]), kinds, strict=False):
            real = part.real if part.dtype.kind == "c" != dtype.kind else part
            parts.append(real.reshape(shape).astype(dtype))
        return unflatten(spec, parts)

    return vector, unravel


def paths(spec: Structure) -> list[str]:
    """The path of each leaf, as Python would index it: `['layers'][0].weight`; empty for a lone leaf."""
    return [accessor.codify("") for accessor in spec.accessors()]


def difference(expected: Tree, got: Tree, where: str = "") -> str:
    """In words, the first place where two trees differ."""
    place = where or "the root"
    if type(expected) is not type(got):
        return f"at {place}: {_kind(expected)} vs {_kind(got)}"
    if isinstance(expected, dict):
        if expected.keys() != got.keys():
            return f"at {place}: keys {_keys(expected)} vs {_keys(got)}"
        pairs = [(f"{where}[{key!r}]", expected[key], got[key]) for key in expected]
    elif dataclasses.is_dataclass(expected):
        names = [f.name for f in dataclasses.fields(expected) if f.init and not f.metadata.get("static")]
        pairs = [(f"{where}.{name}", getattr(expected, name), getattr(got, name)) for name in names]
    elif isinstance(expected, tuple | list):
        if len(expected) != len(got):
            return f"at {place}: {len(expected)} elements vs {len(got)}"
        places = [f".{name}" for name in getattr(expected, "_fields", ())] or [f"[{i}]" for i in range(len(expected))]
        pairs = [(where + place, a, b) for place, a, b in zip(places, expected, got, strict=True)]
    else:
        pairs = []
    for path, a, b in pairs:
        try:
            structure(a).flatten_up_to(b)
        except ValueError:
            return difference(a, b, path)
    return f"at {place}: {structure(expected)} vs {structure(got)}"


def _keys(tree: dict[Any, Any]) -> str:
    return f"{{{', '.join([repr(key) for key in tree])}}}"


def _kind(node: Any) -> str:
    return "None" if node is None else f"a {type(node).__name__}"
