"""The IR of loop nests: a kernel runs a body for each index of a domain.

    Kernel   a domain, the axes of it that are folded, a body
    Load     a value from a buffer, at the place that a view gives for the index
    Compute  an elementwise operation on values
    Fold     a value, combined over the folded axes
    Store    a value to a buffer

A value depends on those axes of the domain that its loads have a stride along; a fold depends on no folded axis. So a
body needs no order of loops: what depends on few axes is computed outside of the loops over the others, and what
follows a fold is computed when the loops over the folded axes have ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, final

import numpy as np

from funcgrad.core.errors import InternalError
from funcgrad.core.ir import Atom, Literal, Namer
from funcgrad.core.kinds import Elementwise
from funcgrad.core.trace import Var
from funcgrad.core.types import Shape, show
from funcgrad.core.views import View


@final
@dataclass(frozen=True, slots=True, eq=False)
class Offset:
    """An index that the program computes: it adds `index · stride` to a place.

    Attributes:
        index: A value of the kernel.
        length: How many places there are along the axis; a negative index counts from their end.
        stride: How far apart they are.
        clamped: True if an index outside is taken to the nearest place; else it is an error.
        size: How many places are meant, from the index on, for which a clamped one leaves room.
    """

    index: Atom
    length: int
    stride: int
    clamped: bool
    size: int = 1


@final
@dataclass(frozen=True, slots=True, eq=False)
class Load:
    """`out = buffer[view + offsets]`."""

    out: Var
    buffer: Var
    view: View
    offsets: tuple[Offset, ...] = ()


@final
@dataclass(frozen=True, slots=True, eq=False)
class Compute:
    """`out = primitive(inputs)`, on scalars."""

    out: Var
    primitive: Elementwise
    inputs: tuple[Atom, ...]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """`out = x`, combined over the folded axes by a ufunc, or "argmax" or "argmin"."""

    out: Var
    how: np.ufunc | str
    x: Atom


@final
@dataclass(frozen=True, slots=True, eq=False)
class Store:
    """`buffer[view + offsets] = x`, or combined with what is there."""

    buffer: Var
    view: View
    x: Atom
    offsets: tuple[Offset, ...] = ()
    combine: np.ufunc | None = None


Access: TypeAlias = Load | Store
Statement: TypeAlias = Load | Compute | Fold | Store


@final
@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """A loop nest.

    Attributes:
        domain: The length of each axis.
        folded: The axes that folds combine over, in order.
        body: In an order in which it can be computed.
        tile: The axis of the rows in a block, where there are blocks (see `rows`); else −1.
    """

    domain: Shape
    folded: tuple[int, ...]
    body: tuple[Statement, ...]
    tile: int = -1

    @property
    def accesses(self) -> list[Load | Store]:
        """What touches memory."""
        return [s for s in self.body if isinstance(s, Load | Store)]

    @property
    def buffers(self) -> list[Var]:
        """What it reads or writes."""
        return list(dict.fromkeys(s.buffer for s in self.accesses))

    def show(self, name: Namer) -> str:
        """As text."""
        axes = ", ".join(f"{n}{'↓' if i in self.folded else ''}" for i, n in enumerate(self.domain))
        return "\n".join([f"for each of [{axes}]:", *(f"  {_show(s, name)}" for s in self.body)])


@final
@dataclass(frozen=True, slots=True, eq=False)
class Repeated:
    """Kernels that differ in their buffers only, none of which reads what another one writes."""

    kernels: tuple[Kernel, ...]

    def show(self, name: Namer) -> str:
        """As text."""
        return "\n".join([f"as one, {len(self.kernels)} times:", *(kernel.show(name) for kernel in self.kernels)])


def _show(s: Statement, name: Namer) -> str:
    match s:
        case Load():
            return f"{name(s.out)} = load {_place(s, name)}"
        case Compute():
            return f"{name(s.out)}:{show(s.out)[: show(s.out).index('[')]} = {s.primitive.show()} " + " ".join(
                map(name, s.inputs)
            )
        case Fold():
            how = s.how if isinstance(s.how, str) else s.how.__name__
            return f"{name(s.out)} = fold {how} {name(s.x)}"
        case Store():
            how = f" by {s.combine.__name__}" if s.combine else ""
            return f"store {name(s.x)} {_place(s, name)}{how}"


def _place(s: Load | Store, name: Namer) -> str:
    terms = [f"{'' if n == 1 else n}{chr(ord('i') + k)}" for k, n in enumerate(s.view.strides) if n]
    terms += [f"{o.stride}·{name(o.index)}" for o in s.offsets]
    if s.view.offset or not terms:
        terms.append(str(s.view.offset))
    return f"{name(s.buffer)}[{' + '.join(terms).replace('+ -', '- ')}]"


def operands(s: Statement) -> Iterator[Atom]:
    """The values that a statement reads."""
    match s:
        case Compute():
            yield from s.inputs
        case Fold():
            yield s.x
        case Store():
            yield s.x
    if isinstance(s, Load | Store):
        for offset in s.offsets:
            yield offset.index


def reading(s: Statement, new: Mapping[Var, Atom]) -> Statement:
    """The statement, with other operands in place of some values."""
    if not any(x in new for x in operands(s)):
        return s

    def swap(x: Atom) -> Atom:
        return new.get(x, x) if isinstance(x, Var) else x

    match s:
        case Load():
            return replace(s, offsets=tuple(replace(o, index=swap(o.index)) for o in s.offsets))
        case Compute():
            return replace(s, inputs=tuple(map(swap, s.inputs)))
        case Fold():
            return replace(s, x=swap(s.x))
        case Store():
            offsets = tuple(replace(o, index=swap(o.index)) for o in s.offsets)
            return replace(s, x=swap(s.x), offsets=offsets)


def result(s: Statement) -> Var | None:
    """The value that a statement defines."""
    return None if isinstance(s, Store) else s.out


def check_kernel(kernel: Kernel) -> None:
    """Prove that each value is defined before it is read, once, and that each view goes over the domain.

    Raises:
        InternalError: That is not so.
    """
    known: set[Var] = set()
    for s in kernel.body:
        missing = [x for x in operands(s) if isinstance(x, Var) and x not in known]
        again = result(s) in known
        askew = isinstance(s, Load | Store) and len(s.view.strides) != len(kernel.domain)
        if missing or again or askew:
            raise InternalError(f"a kernel is not well formed in\n  {_show(s, Namer())}\nof\n{kernel.show(Namer())}")
        out = result(s)
        if out is not None:
            known.add(out)


def literal(x: Atom) -> bool:
    """True for a number that is part of the program."""
    return isinstance(x, Literal)


def reads(body: Sequence[Statement], wanted: set[Var]) -> list[Statement]:
    """The statements that compute these values, in order."""
    needed = set(wanted)
    found = []
    for s in reversed(body):
        if result(s) in needed:
            found.append(s)
            needed.update(x for x in operands(s) if isinstance(x, Var))
    return found[::-1]
