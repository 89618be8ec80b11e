"""What goes into a differentiated function: the leaves of its arguments, and their variables on the tape."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad import tree as pytree
from funcgrad.core.errors import DifferentiationError, shown
from funcgrad.core.trace import Tracer, Var
from funcgrad.core.types import is_inexact, show_long, type_of
from funcgrad.ops.array import TracedArray
from funcgrad.transforms.tracing.arguments import Selection
from funcgrad.transforms.tracing.tape import Tape

_FLOATS = (float, np.float64)
_LEAF_TYPES = (np.ndarray, float, np.float64, TracedArray)


class Input:
    """One differentiated argument: its leaves, and their variables on the tape (None for an integer leaf)."""

    __slots__ = ("_structure", "leaves", "place", "vars")

    def __init__(self, place: int | str, x: Any) -> None:
        self.place = place
        if type(x) in _LEAF_TYPES:
            self.leaves, self._structure = [x], None
        else:
            self.leaves, self._structure = pytree.flatten(x)
        self.vars: list[Var | None] = []

    def enter(self, tape: Tape) -> Any:
        """The argument with tracers for its floating-point and complex leaves."""
        traced = []
        for leaf in self.leaves:
            if leaf.__class__ in _FLOATS or is_inexact(_dtype_of(leaf)):
                tracer = tape.enter(leaf)
                self.vars.append(tracer.variable)
                traced.append(tracer)
            else:
                tape.skip()
                self.vars.append(None)
                traced.append(leaf)
        return self.rebuild(traced)

    def rebuild(self, leaves: list[Any]) -> Any:
        """A tree like the argument, with other leaves."""
        return leaves[0] if self._structure is None else pytree.unflatten(self._structure, leaves)

    def path(self, i: int) -> str:
        """Where in the argument leaf `i` is."""
        path = "" if self._structure is None else pytree.paths(self._structure)[i]
        return f" leaf {path}" if path else ""


def refuse_integers(name: str, entered: Input, selection: Selection) -> None:
    """`grad`, unlike `vjp`, has no answer for an integer leaf."""
    for i, (leaf, var) in enumerate(zip(entered.leaves, entered.vars, strict=True)):
        if var is None:
            kind = show_long(type_of(leaf)) if is_array(leaf) else shown(leaf)
            raise DifferentiationError(
                f"{name} differentiates with respect to floating-point or complex arrays, "
                f"but {selection.describe(entered.place)}{entered.path(i)} is {kind}",
                "pass a float (3.0, x.astype(float)), or leave it out: close over it, choose arguments with argnums, "
                "mark the field of a dataclass: field(metadata={'static': True}); or take None for its gradient: "
                "allow_int=True",
            )


def describe_input(inputs: list[Input], selection: Selection, number: int) -> str:
    """What messages call the leaf of this number, counted over all inputs: `argument 'params' leaf ['w']`."""
    for entered in inputs:
        if number < len(entered.leaves):
            return selection.describe(entered.place) + entered.path(number)
        number -= len(entered.leaves)
    raise IndexError(number)


def is_array(x: Any) -> bool:
    """True for arrays, traced ones included, and for numbers."""
    return isinstance(x, np.ndarray | np.generic | Tracer | bool | int | float | complex)


def _dtype_of(leaf: Any) -> Any:
    return leaf.dtype if hasattr(leaf, "dtype") else np.dtype(type(leaf) if is_array(leaf) else object)
