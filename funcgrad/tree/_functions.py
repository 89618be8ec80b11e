"""What is done with all leaves of a tree at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import optree

from funcgrad.core.errors import ShapeError, TreeError
from funcgrad.tree._structure import Structure, Tree, difference, flatten, leaves, paths, structure, unflatten


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
                f"tree.map: tree {number + 1} differs from the first {difference(tree, other, is_leaf)}",
                "pass trees of one structure; tree.structure(t) shows it",
            ) from None
    return optree.tree_unflatten(spec, [f(*args) for args in zip(*columns, strict=True)])


def reduce(
    f: Callable[[Any, Any], Any], tree: Tree, initial: Any = None, is_leaf: Callable[[Any], bool] | None = None
) -> Any:
    """Combine the leaves of a pytree with `f`, from the left.

    Args:
        f: Takes what has been combined so far, and a leaf.
        tree: Any pytree.
        initial: What to start from; without it, the first leaf.
        is_leaf: As for `flatten`.

    Raises:
        TypeError: There is no leaf and no `initial`.

    Examples:
        >>> from funcgrad import tree
        >>> tree.reduce(lambda total, x: total + x, {"a": 1, "b": [2, 3]}, 0)
        6
    """
    items = iter(leaves(tree, is_leaf))
    if initial is None:
        try:
            initial = next(items)
        except StopIteration:
            raise TypeError("tree.reduce of a tree without leaves needs an initial value") from None
    for leaf in items:
        initial = f(initial, leaf)
    return initial


def all(tree: Tree, is_leaf: Callable[[Any], bool] | None = None) -> bool:
    """True if all leaves are true; `is_leaf` is as for `flatten`.

    Examples:
        >>> from funcgrad import tree
        >>> tree.all({"a": True, "b": [1, 0]})
        False
    """
    return not any(not leaf for leaf in leaves(tree, is_leaf))


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


def broadcast(prefix: Tree, full: Tree, is_leaf: Callable[[Any], bool] | None = None) -> Tree:
    """A tree like `full`, in which each leaf of `prefix` stands for all leaves that `full` has in its place.

    Args:
        prefix: A tree that is like `full` at the top, but may end earlier.
        full: Decides the structure of the result.
        is_leaf: Says of a node of `prefix` whether to stop there and take it as a leaf.

    Raises:
        TreeError: `prefix` is no such tree; the message names the first place where they differ.

    Examples:
        >>> from funcgrad import tree
        >>> tree.broadcast({"w": 0.1, "b": 0.2}, {"w": [1.0, 2.0], "b": 3.0})
        {'w': [0.1, 0.1], 'b': 0.2}
        >>> tree.broadcast(None, (1.0, 2.0), is_leaf=lambda node: node is None)
        (None, None)
    """
    tops, spec = flatten(prefix, is_leaf)
    whole = structure(full)
    try:
        parts = spec.flatten_up_to(full)
    except ValueError:
        raise TreeError(
            f"tree.broadcast: the prefix differs from the full tree {difference(prefix, full, is_leaf)}",
            "a prefix has the containers of the full tree, from the root down to its leaves",
        ) from None
    return unflatten(whole, [top for top, part in zip(tops, parts, strict=True) for _ in leaves(part)])


def flatten_with_path(
    tree: Tree, is_leaf: Callable[[Any], bool] | None = None
) -> tuple[list[tuple[str, Any]], Structure]:
    """The leaves with their paths, and the structure; `is_leaf` is as for `flatten`.

    A path is the Python expression that leads to the leaf, written behind the name of the tree.

    Examples:
        >>> from funcgrad import tree
        >>> tree.flatten_with_path({"w": [1.0, 2.0]})[0]
        [("['w'][0]", 1.0), ("['w'][1]", 2.0)]
    """
    found, spec = flatten(tree, is_leaf)
    return list(zip(paths(spec), found, strict=True)), spec


def leaves_with_path(tree: Tree, is_leaf: Callable[[Any], bool] | None = None) -> list[tuple[str, Any]]:
    """The leaves with their paths; `is_leaf` is as for `flatten`.

    Examples:
        >>> from funcgrad import tree
        >>> tree.leaves_with_path((1.0, {"a": 2.0}))
        [('[0]', 1.0), ("[1]['a']", 2.0)]
    """
    return flatten_with_path(tree, is_leaf)[0]


def map_with_path(f: Callable[..., Any], tree: Tree, *rest: Tree, is_leaf: Callable[[Any], bool] | None = None) -> Tree:
    """Apply `f(path, leaf)` to each leaf, or `f(path, leaf, ...)` with the leaves of further trees, as `map` does.

    Examples:
        >>> from funcgrad import tree
        >>> tree.map_with_path(lambda path, x: f"{path} = {x}", {"w": 1.0})
        {'w': "['w'] = 1.0"}
    """
    found = iter(paths(structure(tree, is_leaf)))
    return map(lambda *args: f(next(found), *args), tree, *rest, is_leaf=is_leaf)


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
