"""A routine as one module of LLVM code: `main`, which runs it, and a function for each routine that it calls.

The steps of a routine are cut into functions of limited size, so that the time LLVM takes grows with the program and
not faster. All of them find their buffers in a frame (see `part`).
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from typing import final

from funcgrad.compiler.native.contraction import code as products
from funcgrad.compiler.native.ir.kernel import Compute, Kernel, Load, Repeated, Store
from funcgrad.compiler.native.ir.steps import Branch, Call, Lines, Loop, Product, Routine, Step, buffers_of, routines_of
from funcgrad.compiler.native.lines import running, sorting
from funcgrad.compiler.native.machine import blas, pool
from funcgrad.compiler.native.machine.builder import I64, Builder, Module, Value
from funcgrad.compiler.native.nests import repeated
from funcgrad.compiler.native.nests.threads import runs_on_threads, write_kernel
from funcgrad.compiler.native.routine import flow
from funcgrad.compiler.native.routine.memory import Memory, plan_memory
from funcgrad.compiler.native.routine.part import FRAME, Function, Part
from funcgrad.core.errors import InternalError
from funcgrad.core.kinds import Contraction, Running, Sorting
from funcgrad.core.trace import Var
from funcgrad.core.views import contiguous, size

# in instructions; a function is closed when it has more
_LARGEST = 1500
# in elements and multiplications: from here on, other threads of Python may run meanwhile
_LONG = 50_000
_MAIN = "main"
# in characters: longer code is worth some time
_BRIEF = 6000
# what is called besides BLAS
_MEMORY = ("PyMem_RawRealloc", "PyMem_RawFree")


@final
class ProgramWriter:
    """Writes the module of one routine.

    Args:
        routine: What `main` does.
        vector_bytes: The size of the machine's vectors.
        own: True if all results are in memory that was allocated for them: large ones begin at a line of the cache.

    Attributes:
        externals: The routines that the code finds in its table, by name.
    """

    def __init__(self, routine: Routine, vector_bytes: int, own: bool) -> None:
        self._routine = routine
        self._own = own
        self._bytes = vector_bytes
        self.externals: list[str] = []
        self._module = Module(vector_bytes)
        self._functions: dict[Routine, Function] = {}
        self._common = repeated.Common(self._module, self._loops)
        self._main = self._function(routine)

    @property
    def memory(self) -> Memory:
        """The places of the buffers of the whole."""
        return self._main.memory

    @property
    def can_fail(self) -> bool:
        """True if it may turn out that something is wrong with the values."""
        return _can_fail(self._routine)

    @property
    def long(self) -> bool:
        """True if the program takes so long that it pays to let other threads run."""
        return self._main.work > _LONG

    def write(self) -> str:
        """The text of the module."""
        return self._module.text()

    @property
    def brief(self) -> bool:
        """True if the code has no loops and is short, so that better code would take longer to make than it saves."""
        text = self._module.text()
        return " phi " not in text and len(text) < _BRIEF

    def _function(self, routine: Routine) -> Function:
        """The function of a routine, which is written once."""
        known = self._functions.get(routine)
        if known is not None:
            return known
        steps = routine.schedule.steps
        for step in steps:
            if not flow.is_tiny(step):
                for called in routines_of(step):
                    self._function(called)
        kept = {step.body: self._kept(step) for step in steps if isinstance(step, Loop)}
        scratch = {i: n for i, step in enumerate(steps) if (n := self._scratch(step))}
        function = Function(
            _MAIN if routine is self._routine else f"f{len(self._functions)}",
            plan_memory(routine, scratch, kept),
            len(routine.inputs),
            len(routine.schedule.outputs),
            sum(map(self._work, steps)),
        )
        self._write(function, steps)
        self._functions[routine] = function
        return function

    def _kept(self, loop: Loop) -> frozenset[int]:
        """The carries of a loop that can stay where they are."""
        # a tiny one is done with what it begins with before it writes
        return frozenset(range(len(loop.carried))) if flow.is_tiny(loop) else self._functions[loop.body].memory.kept

    def _write(self, function: Function, steps: Sequence[Step]) -> None:
        names: list[str] = []
        waiting = list(enumerate(steps))[::-1]
        cells = function.memory.cells
        while waiting or not names:
            b = Builder(self._module)
            names.append(f"{function.name}_{len(names)}")
            with b.function(names[-1], "void", [("ptr", "frame")], "internal"):
                part = self._part(b, function)
                if len(names) == 1:
                    flow.clear(part, cells)
                simple = not cells
                while waiting and b.count < _LARGEST:
                    simple = self._step(part, *waiting.pop()) and simple
                if not waiting:
                    flow.free(part, cells)
                if waiting or len(names) > 1:
                    b.ret()
                else:
                    # each function takes LLVM some time, however short it is: one part needs none around it
                    self._end(part, function, cold=simple)
        if len(names) > 1:
            b = Builder(self._module)
            with b.function("whole", "void", [("ptr", "frame")], "internal"):
                part = self._part(b, function)
                for name in names:
                    b.do(f"call void @{name}({FRAME})")
                self._end(part, function, cold=True)

    def _end(self, part: Part, function: Function, cold: bool = False) -> None:
        """The end of a routine: that of the whole says what was noted. A `cold` one is quickly done in any code."""
        b = part.b
        if function.name == _MAIN:
            b.rename(_MAIN, "i32", cold=cold)
            b.ret(b.cast("trunc", b.load(I64, part.record, 8), "i32"))
        else:
            b.rename(function.name, "void", "internal", cold)
            b.ret()

    def _part(self, b: Builder, function: Function) -> Part:
        own = self._own and function.name == _MAIN
        return Part(b, function.memory, function.inputs, function.outputs, self.external, self._bytes, own)

    def _step(self, part: Part, number: int, step: Step) -> bool:
        """Write the code of a step; true if all that it does here is to call functions."""
        match step:
            case Kernel():
                reads, writes = buffers_of(step)
                buffers = sorted(dict.fromkeys((*reads, *writes)), key=part.place)
                pointers = {v: part.pointer(v) for v in buffers}
                if runs_on_threads(step, self._bytes):
                    aligned = frozenset(v for v in writes if part.is_aligned(v))
                    return write_kernel(part.b, step, pointers, part.record, self._bytes, part.external, aligned)
                self._common.write(part.b, step, pointers, part.record)
            case Repeated():
                self._repeated(part, step)
            case Product():
                self._product(part, number, step)
            case Lines():
                self._lines(part, number, step)
            case Call() | Branch() | Loop():
                flow.emit(part, number, step, self._functions)
        return False

    def _loops(self, b: Builder, kernel: Kernel, pointers: Mapping[Var, Value], failed: Value) -> None:
        write_kernel(b, kernel, pointers, failed, self._bytes, _serial)

    def _repeated(self, part: Part, step: Repeated) -> None:
        def place(v: Var) -> tuple[bool, int]:
            kind, at = part.place(v)
            return kind == 2, at + (kind == 1) * part.inputs

        def write(kernel: Kernel, pointers: Mapping[Var, Value]) -> None:
            write_kernel(part.b, kernel, pointers, part.record, self._bytes, part.external)

        repeated.emit(part.b, step, place, FRAME, part.arena, write)

    def _lines(self, part: Part, number: int, step: Lines) -> None:
        primitive = step.equation.primitive
        operands = [(part.pointer(root), root.dtype, view) for root, view in step.operands]
        out = (part.pointer(step.out), step.out.dtype)
        if isinstance(primitive, Sorting):
            scratch = part.scratch(number)
            assert scratch is not None
            sorting.emit(part.b, primitive, operands[0], out, scratch, self._bytes)
            return
        assert isinstance(primitive, Running)
        running.emit(part.b, primitive, operands, out, self._bytes)

    def _product(self, part: Part, number: int, step: Product) -> None:
        lane = products.lane_of_dtype(step.out.dtype)
        x1, x2 = (products.Operand(part.pointer(root), lane, view) for root, view in step.operands)
        y = products.Operand(part.pointer(step.out), lane, contiguous(step.out.shape))
        scratch = part.scratch(number)
        products.emit(part.b, terms_of(step), x1, x2, y, part.external, self._bytes, scratch=scratch)

    def external(self, name: str) -> int:
        """The place of a routine in the table."""
        if name not in self.externals:
            self.externals.append(name)
        return self.externals.index(name)

    def _scratch(self, step: Step) -> int:
        if isinstance(step, Kernel | Repeated):
            return 0
        if isinstance(step, Lines):
            ((root, view), *_), primitive = step.operands, step.equation.primitive
            return sorting.scratch_bytes(primitive, root.dtype, view) if isinstance(primitive, Sorting) else 0
        if not isinstance(step, Product):
            return flow.scratch_bytes(step, self._functions)
        (_, v1), (_, v2) = step.operands
        lane = products.lane_of_dtype(step.out.dtype)
        return products.scratch_bytes(terms_of(step), lane, v1, v2, contiguous(step.out.shape), self._bytes)

    def _work(self, step: Step) -> float:
        match step:
            case Kernel():
                return size(step.domain)
            case Repeated():
                return sum(map(self._work, step.kernels))
            case Lines():
                return size(step.out.shape) * (20 if isinstance(step.equation.primitive, Sorting) else 1)
            case Product():
                shapes = (*step.operands[0][1].shape, *step.operands[1][1].shape)
                lengths = dict(zip("".join(terms_of(step)[:2]), shapes, strict=True))
                return math.prod(lengths.values()) // 8
            case Call():
                return self._functions[step.routine].work
            case Branch():
                return max(self._functions[r].work for r in step.routines)
            case Loop():
                # a step is a call, whatever it does
                if step.length is None:
                    return math.inf
                return step.length * (10 + (0 if flow.is_tiny(step) else self._functions[step.body].work))


def _serial(name: str) -> Value:
    raise InternalError(f"a kernel that runs on one thread asks for {name}")


def _can_fail(routine: Routine) -> bool:
    """True if something may turn out to be wrong with the values; also where that is just not known."""
    for step in routine.schedule.steps:
        kernels = step.kernels if isinstance(step, Repeated) else (step,) if isinstance(step, Kernel) else ()
        for s in (s for kernel in kernels for s in kernel.body):
            # a Python integer may not fit the dtype that it meets
            weak = isinstance(s, Compute) and any(
                isinstance(x, Var) and x.weak and x.dtype.kind == "i" for x in s.inputs
            )
            if weak or (isinstance(s, Load | Store) and not all(o.clamped for o in s.offsets)):
                return True
        if isinstance(step, Branch | Loop) or any(map(_can_fail, routines_of(step))):
            return True
    return False


def terms_of(step: Product) -> tuple[str, str, str]:
    """The letters of a contraction."""
    primitive = step.equation.primitive
    assert isinstance(primitive, Contraction)
    return primitive.terms


def addresses(names: Sequence[str]) -> list[int]:
    """Where the routines are, in this process."""
    known = pool.addresses() if any(name in pool.NAMES for name in names) else {}
    if any(name not in _MEMORY and name not in pool.NAMES for name in names):
        known |= blas.addresses()
    for name in _MEMORY:
        known[name] = ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0
    return [known[name] for name in names]
