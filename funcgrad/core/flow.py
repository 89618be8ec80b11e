"""How programs flow: what a compiler has to know of a branch, a loop or a call, and no more.

    Called    one jaxpr runs, once
    Branched  of several jaxprs, the one that a number chooses
    Looped    a body, again and again, on what it carries from step to step

Each says which operands of the operation go where, by their positions. The outputs of the operation are those of the
jaxpr that ran, or of the loop: the last carry, then the results of the steps, stacked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias, final

if TYPE_CHECKING:
    from funcgrad.core.ir import Jaxpr

Positions: TypeAlias = tuple[int, ...]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Called:
    """A jaxpr, and the operands that it is applied to.

    Attributes:
        jaxpr: What is called.
        operands: Its inputs.
    """

    jaxpr: Jaxpr
    operands: Positions


@final
@dataclass(frozen=True, slots=True, eq=False)
class Branched:
    """Jaxprs of equal types, of which one is applied to all operands but the first, which is its number, from 0."""

    branches: tuple[Jaxpr, ...]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Looped:
    """A body that runs for a number of steps, or as long as a condition holds.

    Attributes:
        body: From the constants, the carry and a slice of each scanned array, to the carry and what is stacked.
        consts: The operands that are the same in each step.
        init: The operands that the carry begins with.
        scanned: The operands that each step reads a slice of, along their first axis.
        reverse: True if the last slice is the first one that is read, and the last one that is written.
        length: How many steps there are; None if that is not known beforehand.
        steps: The operand that says how many there are, if it is not known beforehand and there is no condition.
        condition: From its constants and the carry to one bool; None if the steps are counted.
        condition_consts: The operands that are the constants of the condition.
    """

    body: Jaxpr
    consts: Positions
    init: Positions
    scanned: Positions = ()
    reverse: bool = False
    length: int | None = None
    steps: int | None = None
    condition: Jaxpr | None = None
    condition_consts: Positions = ()


Flow: TypeAlias = Called | Branched | Looped


def jaxprs_of(flow: Flow) -> tuple[Jaxpr, ...]:
    """The jaxprs that may run."""
    match flow:
        case Called():
            return (flow.jaxpr,)
        case Branched():
            return flow.branches
        case Looped():
            return (flow.body,) if flow.condition is None else (flow.body, flow.condition)


def with_jaxprs(flow: Flow, f: Callable[[Jaxpr], Jaxpr]) -> Flow:
    """The flow with others in place of its jaxprs, which take the same operands."""
    match flow:
        case Called():
            return replace(flow, jaxpr=f(flow.jaxpr))
        case Branched():
            return Branched(tuple(map(f, flow.branches)))
        case Looped():
            condition = None if flow.condition is None else f(flow.condition)
            return replace(flow, body=f(flow.body), condition=condition)
