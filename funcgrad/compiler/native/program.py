"""A schedule as one module of LLVM code: `main`, which runs the steps one after the other.

The steps are cut into functions of limited size, so that the time LLVM takes grows with the program and not faster.
Each of them finds its buffers in the frame: the addresses of the arguments, of the results and of the arena.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

from funcgrad.compiler.native import blas, pool
from funcgrad.compiler.native import contraction as products
from funcgrad.compiler.native.builder import I64, PTR, Builder, Module, Value
from funcgrad.compiler.native.fuse import Product, Schedule, Step
from funcgrad.compiler.native.kernel import Kernel
from funcgrad.compiler.native.memory import Memory, buffers_of, plan_memory
from funcgrad.compiler.native.threads import write_kernel
from funcgrad.core.kinds import Contraction
from funcgrad.core.trace import Var
from funcgrad.core.views import contiguous, size

# in instructions; a function is closed when it has more
_LARGEST = 1500
# in elements and multiplications: from here on, other threads of Python may run meanwhile
_LONG = 50_000


@final
class ProgramWriter:
    """Writes the module of one schedule.

    Args:
        inputs: The arguments.
        schedule: What is done.
        vector_bytes: The size of the machine's vectors.

    Attributes:
        memory: The places of the buffers.
        externals: The routines that the code finds in its table, by name.
        long: True if the program takes so long that it pays to let other threads run.
    """

    def __init__(self, inputs: Sequence[Var], schedule: Schedule, vector_bytes: int) -> None:
        self._schedule = schedule
        self._bytes = vector_bytes
        self._count = len(inputs)
        self.externals: list[str] = []
        self.long = sum(map(_work, schedule.steps)) > _LONG
        scratch = {i: n for i, step in enumerate(schedule.steps) if (n := self._scratch(step))}
        self.memory: Memory = plan_memory(inputs, schedule, scratch)
        self._module = Module()

    def write(self) -> str:
        """The text of the module."""
        functions: list[str] = []
        steps = list(enumerate(self._schedule.steps))
        while steps or not functions:
            b = Builder(self._module)
            name = f"part{len(functions)}"
            with b.function(name, "internal void", [("ptr", "frame")]):
                part = _Part(b, self, self._count, len(self._schedule.outputs))
                while steps and b.count < _LARGEST:
                    part.write(*steps.pop(0))
                b.ret()
            functions.append(name)
        b = Builder(self._module)
        with b.function("main", "i32", [("ptr", "frame")]):
            frame = Value("%frame", PTR)
            record = b.load(PTR, b.offset(frame, self._error, "ptr"), 8)
            b.store(Value("0", I64), record, 8)
            for name in functions:
                b.do(f"call void @{name}(ptr %frame)")
            failed = b.load(I64, record, 8)
            b.ret(b.cast("trunc", failed, "i32"))
        return self._module.text()

    @property
    def _error(self) -> int:
        return self._count + len(self._schedule.outputs) + 2

    @property
    def vector_bytes(self) -> int:
        """The size of a vector."""
        return self._bytes

    def external(self, name: str) -> int:
        """The place of a routine in the table."""
        if name not in self.externals:
            self.externals.append(name)
        return self.externals.index(name)

    def _scratch(self, step: Step) -> int:
        if not isinstance(step, Product):
            return 0
        (_, v1), (_, v2) = step.operands
        lane = products.lane_of_dtype(step.out.dtype)
        return products.scratch_bytes(terms_of(step), lane, v1, v2, contiguous(step.out.shape), self._bytes)

    def scratch_of(self, number: int) -> int | None:
        """Where in the arena a step has memory for itself."""
        return self.memory.scratch.get(number)


def terms_of(step: Product) -> tuple[str, str, str]:
    """The letters of a contraction."""
    primitive = step.equation.primitive
    assert isinstance(primitive, Contraction)
    return primitive.terms


def _work(step: Step) -> int:
    if isinstance(step, Kernel):
        return size(step.domain)
    shapes = (*step.operands[0][1].shape, *step.operands[1][1].shape)
    lengths = dict(zip("".join(terms_of(step)[:2]), shapes, strict=True))
    return math.prod(lengths.values()) // 8


@final
class _Part:
    """Writes steps into one function."""

    def __init__(self, b: Builder, program: ProgramWriter, inputs: int, outputs: int) -> None:
        self._b = b
        self._program = program
        self._frame = Value("%frame", PTR)
        self._inputs = inputs
        self._outputs = outputs
        self._pointers: dict[int, Value] = {}

    def write(self, number: int, step: Step) -> None:
        """Write the code of a step."""
        if isinstance(step, Kernel):
            reads, writes = buffers_of(step)
            pointers = {v: self._pointer(v) for v in sorted(reads | writes, key=self._place)}
            failed = self._slot(self._inputs + self._outputs + 2)
            write_kernel(self._b, step, pointers, failed, self._bytes, self._external)
        else:
            self._product(number, step)

    @property
    def _bytes(self) -> int:
        return self._program.vector_bytes

    def _place(self, v: Var) -> tuple[int, int]:
        memory = self._program.memory
        if v in memory.inputs:
            return 0, memory.inputs[v]
        return (1, memory.outputs[v]) if v in memory.outputs else (2, memory.arena[v])

    def _slot(self, i: int) -> Value:
        """A pointer of the frame."""
        if i not in self._pointers:
            self._pointers[i] = self._b.load(PTR, self._b.offset(self._frame, i, "ptr"), 8)
        return self._pointers[i]

    def _pointer(self, v: Var) -> Value:
        kind, at = self._place(v)
        if kind < 2:
            return self._slot(at + kind * self._inputs)
        return self._b.offset(self._slot(self._inputs + self._outputs), at, "i8")

    def _product(self, number: int, step: Product) -> None:
        b = self._b
        lane = products.lane_of_dtype(step.out.dtype)
        # loaded here, so that it is there wherever the code branches to
        self._slot(self._inputs + self._outputs + 1)
        x1, x2 = (products.Operand(self._pointer(root), lane, view) for root, view in step.operands)
        y = products.Operand(self._pointer(step.out), lane, contiguous(step.out.shape))
        at = self._program.scratch_of(number)
        scratch = None if at is None else b.offset(self._slot(self._inputs + self._outputs), at, "i8")
        products.emit(b, terms_of(step), x1, x2, y, self._external, self._bytes, scratch=scratch)

    def _external(self, name: str) -> Value:
        b = self._b
        table = self._slot(self._inputs + self._outputs + 1)
        return b.load(PTR, b.offset(table, self._program.external(name), "ptr"), 8)


def addresses(names: Sequence[str]) -> list[int]:
    """Where the routines are, in this process."""
    known: dict[str, int] = {}
    if any(name in pool.NAMES for name in names):
        known |= pool.addresses()
    if any(name not in pool.NAMES for name in names):
        known |= blas.addresses()
    return [known[name] for name in names]
