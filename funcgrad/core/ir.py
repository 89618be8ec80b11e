"""The intermediate representation: a jaxpr is a list of equations, each variable assigned once.

    Jaxpr     inputs, constants, equations, outputs
    Equation  outputs = primitive(inputs)
    Atom      a Var (a name for an array) or a Literal (a scalar written into the program)

`check` is the typing rule of this language: every variable is assigned before it is used, once, and every equation's
outputs have the types that its primitive's type rule gives.

A jaxpr is printed with names that depend only on the order of its variables, so that equal programs print alike.

Source: the name and the notation are those of JAX's jaxpr, https://docs.jax.dev/en/latest/jaxpr.html.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Hashable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final
from weakref import WeakValueDictionary

import numpy as np

from funcgrad.core.errors import InternalError, SourceLine
from funcgrad.core.kinds import Program
from funcgrad.core.primitive import Primitive, out_types
from funcgrad.core.trace import Tracer, Var
from funcgrad.core.types import PYTHON_SCALARS, Array, ArrayType, DType, Shape, show, type_of


@final
@dataclass(frozen=True, slots=True, eq=False)
class Literal:
    """A scalar that is part of the program."""

    value: Any

    @property
    def type(self) -> ArrayType:
        return type_of(self.value)

    @property
    def shape(self) -> Shape:
        return ()

    @property
    def dtype(self) -> DType:
        known = PYTHON_SCALARS.get(self.value.__class__)
        return self.type.dtype if known is None else known.dtype

    @property
    def weak(self) -> bool:
        known = PYTHON_SCALARS.get(self.value.__class__)
        return self.type.weak if known is None else known.weak


Atom: TypeAlias = Var | Literal


@final
@dataclass(frozen=True, slots=True, eq=False)
class Equation:
    """`outputs = primitive(inputs)`, and the line of user code it comes from."""

    primitive: Primitive
    inputs: tuple[Atom, ...]
    outputs: tuple[Var, ...]
    source: SourceLine | None = None


@final
@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Jaxpr:
    """A first-order, typed, single-assignment program.

    Attributes:
        inputs: The variables for the arguments.
        constants: The variables for closed-over arrays, each with its value.
        equations: In an order in which they can be evaluated.
        outputs: Variables or literals.
        effect: True if running it does something besides giving a result.

    Examples:
        >>> import numpy as np
        >>> import funcgrad as fg
        >>> fg.make_jaxpr(lambda x: np.sin(x) * 2.0)(3.0)
        { lambda ; a:~f64[]. let
            b:f64[] = sin a
            c:f64[] = multiply b 2.0
          in c }
    """

    inputs: tuple[Var, ...]
    constants: tuple[tuple[Var, Array], ...]
    equations: tuple[Equation, ...]
    outputs: tuple[Atom, ...]
    effect: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "effect", any(equation.primitive.effect for equation in self.equations))

    @property
    def in_types(self) -> tuple[ArrayType, ...]:
        """The types of the inputs."""
        return tuple(v.type for v in self.inputs)

    @property
    def out_types(self) -> tuple[ArrayType, ...]:
        """The types of the outputs."""
        return tuple(atom.type for atom in self.outputs)

    def show(self, source: bool = False) -> str:
        """The program as text; with `source`, each equation is followed by the line of user code it comes from."""
        name = Namer()
        constants = "".join(f"{name.typed(var)} " for var, _ in self.constants)
        inputs = "".join(f" {name.typed(var)}" for var in self.inputs)
        lines = [
            "    " + render_equation(equation, name, source).replace("\n", "\n    ") for equation in self.equations
        ]
        outputs = [name(atom) for atom in self.outputs]
        result = outputs[0] if len(outputs) == 1 else f"({', '.join(outputs)})"
        head = f"{{ lambda {constants};{inputs}."
        if not lines:
            return f"{head} in {result} }}"
        return "\n".join([f"{head} let", *lines, f"  in {result} }}"])

    def __repr__(self) -> str:
        return self.show()


@final
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


def _names() -> Iterator[str]:
    """The names a, b, …, z, ba, bb, … without end."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    for length in itertools.count(1):
        for word in itertools.product(letters, repeat=length):
            if length == 1 or word[0] != "a":
                yield "".join(word)


def render_equation(equation: Equation, name: Namer, source: bool = False) -> str:
    """One line: `c:f64[] = multiply a b`."""
    inputs = " ".join(map(name, equation.inputs))
    outputs = " ".join(map(name.typed, equation.outputs))
    line = f"{outputs} = {equation.primitive.show()} {inputs}".removeprefix(" = ").rstrip()
    return f"{line}    # {equation.source}" if source and equation.source else line


def evaluate(jaxpr: Jaxpr, args: Sequence[Array], before: Callable[[Equation], None] | None = None) -> list[Array]:
    """The outputs of a jaxpr for these inputs. Applies the primitives, so the inputs may be tracers.

    `before`, if given, is called with each equation before it is applied.
    """
    env: dict[Var, Array] = dict(zip(jaxpr.inputs, args, strict=True))
    env.update(jaxpr.constants)

    def read(atom: Atom) -> Array:
        return atom.value if isinstance(atom, Literal) else env[atom]

    for equation in jaxpr.equations:
        if before is not None:
            before(equation)
        y = equation.primitive(*map(read, equation.inputs))
        env.update(zip(equation.outputs, y if equation.primitive.multiple else (y,), strict=True))
    return [read(atom) for atom in jaxpr.outputs]


def check(jaxpr: Jaxpr) -> None:
    """Prove that a jaxpr is well formed.

    Raises:
        InternalError: A variable is used before it is assigned or assigned twice, a constant does not have its
            variable's type, or an equation's inputs or outputs do not have the types that its primitive takes and
            gives.
    """
    known: set[Var] = set()

    def assign(var: Var, where: str) -> None:
        if var in known:
            raise InternalError(f"a variable of type {show(var)} is assigned twice, {where}\n{jaxpr!r}")
        known.add(var)

    def use(atom: Atom, where: str) -> None:
        if isinstance(atom, Var) and atom not in known:
            raise InternalError(f"a variable of type {show(atom)} is used before it is assigned, {where}\n{jaxpr!r}")

    for var in jaxpr.inputs:
        assign(var, "as an input")
    for var, value in jaxpr.constants:
        assign(var, "as a constant")
        actual = value.variable.type if isinstance(value, Tracer) else type_of(value)
        if actual != var.type:
            raise InternalError(f"a constant of type {actual} is bound to a variable of type {var.type}\n{jaxpr!r}")
    for equation in jaxpr.equations:
        where = f"in the equation of {equation.primitive.show()}"
        for atom in equation.inputs:
            use(atom, where)
        try:
            expected = out_types(equation.primitive, equation.inputs)
        except (TypeError, ValueError, IndexError) as error:
            raise InternalError(f"{where} the type rule refuses the inputs: {error}\n{jaxpr!r}") from error
        actual_types = tuple(var.type for var in equation.outputs)
        if expected != actual_types:
            raise InternalError(f"{where} the outputs have types {actual_types}, not {expected}\n{jaxpr!r}")
        for var in equation.outputs:
            assign(var, where)
    for atom in jaxpr.outputs:
        use(atom, "as an output")


def live(equations: Sequence[Equation], outputs: Sequence[Atom], have: Set[Var] = frozenset()) -> list[Equation]:
    """The equations that the outputs depend on, in order; what is in `have` needs none. Effects are kept."""
    needed = {atom for atom in outputs if isinstance(atom, Var)} - have
    kept = []
    for equation in reversed(equations):
        used = [var in needed for var in equation.outputs]
        if any(used) or equation.primitive.effect:
            if isinstance(equation.primitive, Program) and not all(used):
                primitive, there = equation.primitive.pruned(tuple(used))
                outs = tuple(var for var, flag in zip(equation.outputs, there, strict=True) if flag)
                equation = Equation(primitive, equation.inputs, outs, equation.source)
            kept.append(equation)
            needed.update(a for a in equation.inputs if isinstance(a, Var) and a not in have)
    return kept[::-1]


def last_reads(jaxpr: Jaxpr) -> dict[Var, float]:
    """The number of the equation that reads a variable last; infinity for outputs."""
    last: dict[Var, float] = {}
    for number, equation in enumerate(jaxpr.equations):
        last.update(dict.fromkeys((x for x in equation.inputs if isinstance(x, Var)), number))
    last.update(dict.fromkeys((x for x in jaxpr.outputs if isinstance(x, Var)), math.inf))
    return last


@functools.lru_cache(maxsize=4096)
def with_outputs(jaxpr: Jaxpr, used: tuple[bool, ...]) -> Jaxpr:
    """The jaxpr with only those outputs that are used, and the equations for them. The same object when asked again."""
    outputs = tuple(atom for atom, flag in zip(jaxpr.outputs, used, strict=True) if flag)
    return Jaxpr(jaxpr.inputs, (), tuple(live(jaxpr.equations, outputs)), outputs)


_interned: WeakValueDictionary[Hashable, Jaxpr] = WeakValueDictionary()


def interned(jaxpr: Jaxpr) -> Jaxpr:
    """The first jaxpr that says what this one says, on the same lines of user code; perhaps itself.

    What was derived or compiled from a jaxpr belongs to the object, so equal programs should be one.
    """
    return _interned.setdefault(_content(jaxpr), jaxpr)


def _content(jaxpr: Jaxpr) -> Hashable:
    """All that a jaxpr without constants says, with variables by their number."""
    numbers: dict[Var, int] = {}

    def number(var: Var) -> tuple[int, Shape, DType, bool]:
        return numbers.setdefault(var, len(numbers)), var.shape, var.dtype, var.weak

    def read(atom: Atom) -> Hashable:
        if isinstance(atom, Literal):
            return atom.value.__class__, atom.dtype, np.asarray(atom.value).tobytes()
        return numbers[atom]

    inputs = tuple(map(number, jaxpr.inputs))
    body = tuple(
        (e.primitive, tuple(map(read, e.inputs)), tuple(map(number, e.outputs)), e.source) for e in jaxpr.equations
    )
    return inputs, body, tuple(map(read, jaxpr.outputs))
