"""How a jaxpr is printed: in jaxpr notation, with names that depend only on the order of the variables."""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterator
from typing import TYPE_CHECKING

from funcgrad.core.trace import Var
from funcgrad.core.types import show

if TYPE_CHECKING:
    from funcgrad.core.ir import Atom, Equation, Jaxpr


def _names() -> Iterator[str]:
    """The names a, b, …, z, ba, bb, … without end."""
    letters = string.ascii_lowercase
    for length in itertools.count(1):
        for word in itertools.product(letters, repeat=length):
            if length == 1 or word[0] != "a":
                yield "".join(word)


class Namer:
    """Names variables in the order in which it is asked."""

    def __init__(self) -> None:
        self._fresh = _names()
        self._known: dict[Var, str] = {}

    def __call__(self, atom: Atom) -> str:
        """The name of a variable, or a literal's value."""
        if not isinstance(atom, Var):
            return repr(atom.value) if atom.weak else f"{atom.value}:{show(atom)[:-2]}"
        if atom not in self._known:
            self._known[atom] = next(self._fresh)
        return self._known[atom]

    def typed(self, var: Var) -> str:
        """`a:f64[3]`."""
        return f"{self(var)}:{show(var)}"


def render_equation(equation: Equation, name: Namer, source: bool = False) -> str:
    """One line: `c:f64[] = multiply a b`."""
    inputs = " ".join(map(name, equation.inputs))
    outputs = " ".join(map(name.typed, equation.outputs))
    line = f"{outputs} = {equation.primitive.show()} {inputs}".rstrip()
    return f"{line}    # {equation.source}" if source and equation.source else line


def render(jaxpr: Jaxpr, source: bool = False) -> str:
    """The whole program; with `source`, each equation is followed by the line of user code it comes from."""
    name = Namer()
    constants = "".join(f"{name.typed(var)} " for var, _ in jaxpr.constants)
    inputs = "".join(f" {name.typed(var)}" for var in jaxpr.inputs)
    lines = [f"    {render_equation(equation, name, source)}" for equation in jaxpr.equations]
    outputs = [name(atom) for atom in jaxpr.outputs]
    result = outputs[0] if len(outputs) == 1 else f"({', '.join(outputs)})"
    head = f"{{ lambda {constants};{inputs}."
    if not lines:
        return f"{head} in {result} }}"
    return "\n".join([f"{head} let", *lines, f"  in {result} }}"])
