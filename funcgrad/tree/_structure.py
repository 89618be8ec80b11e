"""Taking trees apart and putting them together again, and where two of them differ."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Callable, Iterable
from typing import Any

import optree

from funcgrad.core.errors import TreeError
from funcgrad.tree._nodes import NAMESPACE, child_fields, take_apart

Tree = Any
Structure = optree.PyTreeSpec


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
    found, spec = optree.tree_flatten(tree, is_leaf, namespace=NAMESPACE)
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
            take_apart(cls)
            fresh = True
        elif isinstance(leaf, set | frozenset) or hasattr(leaf, "__next__"):
            path = paths(spec)[i]
            raise TreeError(
                f"a {cls.__name__} cannot be part of a pytree" + (f", but there is one at {path}" if path else ""),
                "pass a list or a tuple: sorted(values), list(values)",
            )
    return fresh


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


def paths(spec: Structure) -> list[str]:
    """The path of each leaf, as Python would index it: `['layers'][0].weight`; empty for a lone leaf."""
    return [accessor.codify("") for accessor in spec.accessors()]


def keystr(path: str, *, simple: bool = False, separator: str = "") -> str:
    """A path in the form in which it is to be shown. Paths are strings already, so by default it is `path` itself.

    Args:
        path: What `flatten_with_path` gives for a leaf.
        simple: True for the keys, indices and names alone, without brackets and dots.
        separator: What stands between them, if `simple`.

    Examples:
        >>> from funcgrad import tree
        >>> [(path, _)], _ = tree.flatten_with_path({"layers": [{"w": 1.0}]})
        >>> tree.keystr(path)
        "['layers'][0]['w']"
        >>> tree.keystr(path, simple=True, separator="/")
        'layers/0/w'
    """
    if not simple:
        return path
    parts: list[str] = []
    node = ast.parse(re.sub(r"<flat index (\d+)>", r"\1", f"_{path}"), mode="eval").body
    while isinstance(node, ast.Attribute | ast.Subscript):
        if isinstance(node, ast.Attribute):
            parts.insert(0, node.attr)
        else:
            key = node.slice
            parts.insert(0, str(key.value) if isinstance(key, ast.Constant) else ast.unparse(key))
        node = node.value
    return separator.join(parts)


def difference(expected: Tree, got: Tree, is_leaf: Callable[[Any], bool] | None = None, where: str = "") -> str:
    """In words, the first place where two trees differ; `is_leaf` is as for `flatten` of the expected one."""
    place = where or "the root"
    if type(expected) is not type(got):
        return f"at {place}: {_kind(expected)} vs {_kind(got)}"
    if isinstance(expected, dict):
        if expected.keys() != got.keys():
            return f"at {place}: keys {_keys(expected)} vs {_keys(got)}"
        pairs = [(f"{where}[{key!r}]", expected[key], got[key]) for key in expected]
    elif names := child_fields(type(expected)):
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
            structure(a, is_leaf).flatten_up_to(b)
        except ValueError:
            return difference(a, b, is_leaf, path)
    for path, a, b in pairs:
        if structure(a, is_leaf) != structure(b, is_leaf):
            return difference(a, b, is_leaf, path)
    return f"at {place}: {structure(expected, is_leaf)} vs {structure(got, is_leaf)}"


def _keys(tree: dict[Any, Any]) -> str:
    return f"{{{', '.join([repr(key) for key in tree])}}}"


def _kind(node: Any) -> str:
    if hasattr(node, "dtype") and hasattr(node, "shape"):
        return "an array"
    name = type(node).__name__
    return "None" if node is None else f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
