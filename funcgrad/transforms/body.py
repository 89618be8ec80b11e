"""Branches and loop bodies as jaxprs: staged on types, and checked that what goes in and out fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from funcgrad import tree as pytree
from funcgrad.core.errors import ControlFlowError
from funcgrad.core.ir import Jaxpr
from funcgrad.core.trace import branch
from funcgrad.core.types import Array, ArrayType, Typed, promote, show_long, type_of
from funcgrad.ops.pointwise import convert
from funcgrad.transforms.tracing.arguments import function_name
from funcgrad.transforms.tracing.stage import Stage, closed, stage


class Staged(NamedTuple):
    """A staged function.

    Attributes:
        jaxpr: From the constants and the leaves of the arguments to the leaves of the result.
        consts: What the function closes over.
        structure: The structure of the result.
    """

    jaxpr: Jaxpr
    consts: list[Array]
    structure: pytree.Structure


def staged(name: str, f: Callable[..., Any], *args: Any) -> Staged:
    """`f`, staged on the types of these pytrees of arrays or types."""
    jaxpr, structure = stage(f, args, {}, name)
    return Staged(*closed(jaxpr), structure)


def staged_branch(name: str, f: Callable[..., Any], *args: Any) -> Staged:
    """The same for a branch: what it does with values from outside is done only where it is taken."""
    jaxpr, structure = stage(f, args, {}, name, during=branch)
    return Staged(*closed(jaxpr), structure)


def strengthened(x: Any) -> Any:
    """A Python bool as NumPy's, on which `~` is the negation; anything else as it is."""
    return np.bool_(x) if x.__class__ is bool else x


def join(a: Typed, b: Typed) -> ArrayType | None:
    """The type that values of both types can have: a weak one gives way. None where they differ."""
    if a.shape != b.shape:
        return None
    both = promote(a, b)
    if any(not t.weak and t.dtype != both for t in (a, b)):
        return None
    return ArrayType(a.shape, both, a.weak and b.weak and a.dtype == b.dtype)


def retyped(jaxpr: Jaxpr, types: Sequence[ArrayType]) -> Jaxpr:
    """The jaxpr with its outputs converted to these types."""
    if list(jaxpr.out_types) == list(types):
        return jaxpr
    trace = Stage("a branch", derived=True)
    inputs = [trace.enter(t, lambda: "an operand") for t in jaxpr.in_types]
    out = trace.replay(jaxpr, inputs)
    return trace.finish(
        inputs, [y if type_of(y) == t else convert(y, t.dtype) for y, t in zip(out, types, strict=True)]
    )


def agreed(name: str, functions: Sequence[Callable[..., Any]], parts: Sequence[Staged]) -> list[Jaxpr]:
    """The jaxprs of branches, with results of the same types.

    Raises:
        ControlFlowError: The branches return different structures or types; the message names the first place.
    """
    first = parts[0]
    types = list(first.jaxpr.out_types)
    for f, part in zip(functions[1:], parts[1:], strict=True):
        between = f"{name}: the branches {_called(functions[0])} and {_called(f)}"
        if part.structure != first.structure:
            a, b = (pytree.unflatten(p.structure, list(p.jaxpr.out_types)) for p in (first, part))
            raise ControlFlowError(
                f"{between} return different structures, {pytree.difference(a, b)}",
                "return the same containers from each branch",
            )
        for i, (a, b) in enumerate(zip(types, part.jaxpr.out_types, strict=True)):
            both = join(a, b)
            if both is None:
                raise ControlFlowError(
                    f"{between} return different types{_at(first.structure, i)}: {show_long(a)} and {show_long(b)}",
                    "convert one of them: x.astype(y.dtype), broadcast_to(x, y.shape), zeros_like(y)",
                )
            types[i] = both
    return [retyped(part.jaxpr, types) for part in parts]


def _called(f: Callable[..., Any]) -> str:
    return function_name(f)


def _at(structure: pytree.Structure, i: int) -> str:
    path = pytree.paths(structure)[i]
    return f" at {path}" if path else ""


class Carry:
    """What a loop carries: its structure, and the types that its leaves must keep.

    Args:
        name: What messages call the loop.
        init: The initial carry.
    """

    def __init__(self, name: str, init: Any) -> None:
        self.name = name
        leaves, self.structure = pytree.flatten(init)
        self.leaves = list(map(strengthened, leaves))
        self.types = [type_of(x) for x in self.leaves]

    @property
    def tree(self) -> Any:
        """The carry as the body takes it."""
        return pytree.unflatten(self.structure, self.leaves)

    @property
    def typed_tree(self) -> Any:
        """The types of the carry, in its structure."""
        return pytree.unflatten(self.structure, self.types)

    def step(self, tree: Any) -> None:
        """Take the result of a step, which must have the types of the carry before it."""
        self.leaves = self._check(tree)

    def checked(self, tree: Any) -> Any:
        """The result of a step, if it may be one."""
        return pytree.unflatten(self.structure, self._check(tree))

    def _check(self, tree: Any) -> list[Any]:
        leaves, structure = pytree.flatten(tree)
        if structure != self.structure:
            raise ControlFlowError(
                f"{self.name}: the carry changes its structure, {pytree.difference(self.tree, tree)}",
                "return the carry in the structure that it came in",
            )
        for i, (x, t) in enumerate(zip(leaves, self.types, strict=True)):
            if x.__class__ is np.ndarray and x.shape == t.shape and x.dtype == t.dtype:
                continue
            got = type_of(x)
            both = self.types[i] = self._joined(i, t, got)
            leaves[i] = strengthened(x) if got == both else convert(x, both.dtype)
        return leaves

    def settle(self, types: Sequence[ArrayType]) -> bool:
        """Give way to the types that a staged body returns; True if that changed nothing."""
        joined = [self._joined(i, a, b) for i, (a, b) in enumerate(zip(self.types, types, strict=True))]
        same = joined == self.types
        self.leaves = [
            x if a == b else convert(x, b.dtype) for x, a, b in zip(self.leaves, self.types, joined, strict=True)
        ]
        self.types = joined
        return same

    def _joined(self, i: int, before: ArrayType, after: ArrayType) -> ArrayType:
        both = join(before, after)
        if both is None or (not before.weak and both.dtype != before.dtype):
            raise ControlFlowError(
                f"{self.name}: the carry changes its type{_at(self.structure, i)}: "
                f"it goes in as {show_long(before)} and comes out as {show_long(after)}",
                "start with the type that the body returns: "
                + (
                    f"init.astype({after.dtype.name!r})"
                    if before.shape == after.shape
                    else f"an init of shape {after.shape}, or a body that keeps the shape {before.shape}"
                ),
            )
        return both


def staged_step(name: str, f: Callable[..., Any], carry: Carry, *others: Any) -> Staged:
    """A loop's body, staged: `f(carry, *others)`, which returns a pytree whose first part is the carry.

    The carry may become strongly typed on the way.

    Raises:
        ControlFlowError: The carry does not keep its structure and types.
    """
    count = len(carry.leaves)
    while True:
        part = staged(name, f, carry.typed_tree, *others)
        out = pytree.unflatten(part.structure, list(part.jaxpr.out_types))
        types, structure = pytree.flatten(out[0])
        if structure != carry.structure:
            raise ControlFlowError(
                f"{carry.name}: the carry changes its structure, {pytree.difference(carry.typed_tree, out[0])}",
                "return the carry in the structure that it came in",
            )
        if carry.settle(types):
            rest = part.jaxpr.out_types[count:]
            return part._replace(jaxpr=retyped(part.jaxpr, [*carry.types, *rest]))
