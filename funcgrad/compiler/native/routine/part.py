"""A native function in the making: where it finds its buffers.

Every function has one argument, its *frame*: the addresses of its inputs and of its outputs, of its arena, of the table
of externals, and of the error record. The last two are the same in all functions of a program.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from funcgrad.compiler.native.machine.builder import I64, PTR, Builder, Value
from funcgrad.compiler.native.routine.memory import Memory
from funcgrad.core.trace import Var

FRAME = Value("%frame", PTR)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """A routine as code.

    Attributes:
        name: What the module calls it.
        memory: Where its buffers are.
        inputs, outputs: How many it has.
        work: How long it takes, roughly, in elements; infinite if that is not known.
    """

    name: str
    memory: Memory
    inputs: int
    outputs: int
    work: float

    @property
    def frame(self) -> int:
        """The bytes of its frame."""
        return 8 * (self.inputs + self.outputs + 3)


@final
class Part:
    """The code of some steps of a function.

    Args:
        b: Where it is written.
        memory: Where the buffers are.
        inputs: How many inputs the function has.
        outputs: How many outputs.
        external: Gives the place of a routine in the table of externals.
        vector_bytes: The size of a vector of the machine.
        own: True if its outputs are in memory that was allocated for them: large ones begin at a line of the cache.

    Attributes:
        inputs: How many inputs the function has.
    """

    def __init__(
        self,
        b: Builder,
        memory: Memory,
        inputs: int,
        outputs: int,
        external: Callable[[str], int],
        vector_bytes: int,
        own: bool,
    ) -> None:
        self.b = b
        self.memory = memory
        self.vector_bytes = vector_bytes
        self.inputs = inputs
        self._arena = inputs + outputs
        self._external = external
        self._own = own
        self._slots: dict[int, Value] = {}
        # loaded here, so that they are there wherever the code branches to
        for i in range(self._arena, self._arena + 3):
            self._slot(i)

    @property
    def arena(self) -> Value:
        """The memory that the function works with."""
        return self._slot(self._arena)

    @property
    def externals(self) -> Value:
        """The table of routines that are called by address."""
        return self._slot(self._arena + 1)

    @property
    def record(self) -> Value:
        """Where an error is noted."""
        return self._slot(self._arena + 2)

    def place(self, v: Var) -> tuple[int, int]:
        """Where a buffer is: 0 and the number of an input, 1 and that of an output, 2 and an offset in the arena."""
        memory = self.memory
        if v in memory.inputs:
            return 0, memory.inputs[v]
        return (1, memory.outputs[v]) if v in memory.outputs else (2, memory.arena[v])

    def is_aligned(self, v: Var) -> bool:
        """True if a large buffer is known to begin at a line of the cache."""
        kind, _ = self.place(v)
        return kind == 2 or (kind == 1 and self._own)

    def pointer(self, v: Var) -> Value:
        """The address of a buffer, or of the cell of one."""
        kind, at = self.place(v)
        return self.b.offset(self.arena, at, "i8") if kind == 2 else self._slot(at + kind * self.inputs)

    def prepare(self, *buffers: Var) -> None:
        """Load the addresses of buffers here, for code that branches."""
        for v in buffers:
            self.pointer(v)

    def scratch(self, number: int) -> Value | None:
        """The memory that a step has for itself."""
        at = self.memory.scratch.get(number)
        return None if at is None else self.b.offset(self.arena, at, "i8")

    def external(self, name: str) -> Value:
        """The address of a routine."""
        return self.b.load(PTR, self.b.offset(self.externals, self._external(name), "ptr"), 8)

    def fail(self, code: int) -> None:
        """Note an error."""
        self.b.store(Value(str(code), I64), self.record, 8)

    def _slot(self, i: int) -> Value:
        if i not in self._slots:
            self._slots[i] = self.b.load(PTR, self.b.offset(FRAME, i, "ptr"), 8)
        return self._slots[i]
