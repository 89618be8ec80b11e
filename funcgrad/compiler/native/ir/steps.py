"""A schedule: what a native function does, step by step.

    Kernel   a loop nest (see `kernel`), or several that are Repeated
    Product  a contraction
    Lines    an operation along one axis, such as a cumulative sum or a sort
    Call     another function, once
    Branch   one of several functions
    Loop     a function again and again

The last three hold a `Routine` each: a function of its own, with a schedule of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, final

from funcgrad.compiler.native.ir.kernel import Kernel, Load, Repeated, Store
from funcgrad.core.ir import Equation, Jaxpr, Namer
from funcgrad.core.trace import Var
from funcgrad.core.views import View


@final
@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """A contraction, of two views of buffers."""

    equation: Equation
    operands: tuple[tuple[Var, View], tuple[Var, View]]

    @property
    def out(self) -> Var:
        """The result, which is a buffer of its own."""
        return self.equation.outputs[0]

    def show(self, name: Namer) -> str:
        """As text."""
        factors = " ".join(f"{name(root)}{list(view.shape)}" for root, view in self.operands)
        return f"{name(self.out)} = {self.equation.primitive.show()} {factors}"


@final
@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """An operation along one axis, on views of buffers."""

    equation: Equation
    operands: tuple[tuple[Var, View], ...]

    @property
    def out(self) -> Var:
        """The result, which is a buffer of its own."""
        return self.equation.outputs[0]

    def show(self, name: Namer) -> str:
        """As text."""
        operands = " ".join(f"{name(root)}{list(view.shape)}" for root, view in self.operands)
        return f"{name(self.out)} = {self.equation.primitive.show()} {operands}"


@final
@dataclass(frozen=True, slots=True, eq=False)
class Routine:
    """A function that a step calls.

    Attributes:
        jaxpr: What it computes. Its inputs are whole buffers.
        schedule: What it does.
        pairs: Arguments and results, by position, that may be one buffer: the carry of a loop, before and after a step.
    """

    jaxpr: Jaxpr
    schedule: Schedule
    pairs: tuple[tuple[int, int], ...] = ()

    @property
    def inputs(self) -> tuple[Var, ...]:
        """The arguments."""
        return self.jaxpr.inputs

    def show(self, name: Namer) -> str:
        """As text."""
        steps = [step.show(name) for step in self.schedule.steps]
        out = ", ".join(map(name, self.schedule.outputs))
        return "\n".join([f"({', '.join(map(name, self.inputs))}) →", *map(_indented, steps), f"  → ({out})"])


@final
@dataclass(frozen=True, slots=True)
class Block:
    """An operand of a routine: consecutive elements of a buffer, from an offset on."""

    root: Var
    offset: int = 0


@final
@dataclass(frozen=True, slots=True)
class Slices:
    """An operand of which each step of a loop reads one: consecutive elements, from `offset + i·stride` on."""

    root: Var
    offset: int
    stride: int


@final
@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A routine, called once."""

    routine: Routine
    operands: tuple[Block, ...]
    outputs: tuple[Var, ...]

    def show(self, name: Namer) -> str:
        """As text."""
        return (
            f"({', '.join(map(name, self.outputs))}) = call {_blocks(self.operands, name)}: {self.routine.show(name)}"
        )


@final
@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """One of several routines of the same operands and outputs: the one whose number stands in a buffer."""

    number: Block
    routines: tuple[Routine, ...]
    operands: tuple[Block, ...]
    outputs: tuple[Var, ...]

    def show(self, name: Namer) -> str:
        """As text."""
        head = f"({', '.join(map(name, self.outputs))}) = branch {name(self.number.root)} of "
        branches = "".join(f"\n  {_indented(r.show(name))}" for r in self.routines)
        return f"{head}{_blocks(self.operands, name)}:{branches}"


@final
@dataclass(frozen=True, slots=True, eq=False)
class Loop:
    """A routine that is called for each step.

    It takes the constants, the carry and the slices, and gives the next carry and what is stacked.

    Attributes:
        body: The routine.
        consts, init: Its operands, and those that the carry begins with.
        scanned: The operands of which each step reads a slice.
        carried: Where the carry is in the end.
        stacked: Where the other results of the steps are; of unknown length if there is a condition.
        reverse: True if the last slice is the first one to be read, and the last one that is written.
        length: The number of steps, if it is known.
        steps: Where it stands, if it is known when the loop begins.
        condition: A routine of its constants and the carry that says whether there is another step.
        condition_consts: Its constants.
    """

    body: Routine
    consts: tuple[Block, ...]
    init: tuple[Block, ...]
    scanned: tuple[Slices, ...]
    carried: tuple[Var, ...]
    stacked: tuple[Var, ...]
    reverse: bool
    length: int | None
    steps: Block | None = None
    condition: Routine | None = None
    condition_consts: tuple[Block, ...] = ()

    @property
    def outputs(self) -> tuple[Var, ...]:
        """All results."""
        return self.carried + self.stacked

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All that is read but the slices."""
        return (*self.consts, *self.init, *self.condition_consts, *([self.steps] if self.steps else []))

    @property
    def roots(self) -> list[Var]:
        """The buffers of all that is read."""
        return [*(x.root for x in self.blocks), *(x.root for x in self.scanned)]

    def show(self, name: Namer) -> str:
        """As text."""
        outputs = f"({', '.join(map(name, self.outputs))})"
        slices = ", ".join(f"{name(s.root)}[{s.stride}·step]" for s in self.scanned)
        read = f"{_blocks(self.consts, name)} {_blocks(self.init, name)} ({slices})"
        if self.condition is not None:
            how = f"while {_blocks(self.condition_consts, name)} {self.condition.show(name)}\n  do"
        else:
            count = name(self.steps.root) if self.steps else str(self.length)
            how = f"repeat {count}{' from the end' if self.reverse else ''}"
        return f"{outputs} = {how} {read}: {self.body.show(name)}"


Flow: TypeAlias = Call | Branch | Loop
Step: TypeAlias = Kernel | Repeated | Product | Lines | Flow


@final
@dataclass(frozen=True, slots=True)
class Schedule:
    """Steps in the order in which they run.

    Attributes:
        steps: The steps.
        outputs: For each output the buffer that it is all of.
        successors: For some buffers the later one that has the same memory from then on, since it is the same array
            with some elements overwritten.
    """

    steps: list[Step]
    outputs: list[Var]
    successors: dict[Var, Var] = field(default_factory=dict)


def routines_of(step: Step) -> tuple[Routine, ...]:
    """What a step calls."""
    match step:
        case Call():
            return (step.routine,)
        case Branch():
            return step.routines
        case Loop():
            return (step.body,) if step.condition is None else (step.body, step.condition)
    return ()


def _blocks(blocks: Sequence[Block], name: Namer) -> str:
    return f"({', '.join(name(x.root) + (f'+{x.offset}' if x.offset else '') for x in blocks)})"


def _indented(text: str) -> str:
    return "  " + text.replace("\n", "\n  ")


def buffers_of(step: Step) -> tuple[Sequence[Var], Sequence[Var]]:
    """The buffers that a step reads, and those it writes."""
    reads: list[Var]
    writes: Sequence[Var]
    match step:
        case Product() | Lines():
            reads, writes = [root for root, _ in step.operands], [step.out]
        case Call():
            reads, writes = [x.root for x in step.operands], step.outputs
        case Branch():
            reads, writes = [x.root for x in (step.number, *step.operands)], step.outputs
        case Loop():
            reads, writes = step.roots, step.outputs
        case Kernel():
            reads = [s.buffer for s in step.body if isinstance(s, Load)]
            writes = [s.buffer for s in step.body if isinstance(s, Store)]
        case Repeated():
            both = [buffers_of(kernel) for kernel in step.kernels]
            reads, writes = [v for read, _ in both for v in read], [v for _, written in both for v in written]
    return tuple(dict.fromkeys(reads)), tuple(dict.fromkeys(writes))
