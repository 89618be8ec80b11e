"""From a simplified jaxpr to machine code, as far as there is code for it.

jaxpr ──expand──▶ jaxpr ──partition──▶ segments ──without_complex──▶ segments of reals
segment ──fuse──▶ kernels ──plan_memory──▶ ──write──▶ LLVM ──▶ builtin
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, final

from funcgrad.compiler.checked import Checked
from funcgrad.compiler.native.complex.parts import without_complex
from funcgrad.compiler.native.dispatch import runtime
from funcgrad.compiler.native.ir.kernel import Kernel, Repeated, check_kernel
from funcgrad.compiler.native.ir.steps import Routine, Schedule, routines_of
from funcgrad.compiler.native.passes import partition
from funcgrad.compiler.native.passes.expand import expand
from funcgrad.compiler.native.passes.fuse import fuse
from funcgrad.compiler.native.passes.lower import lower
from funcgrad.compiler.native.routine.flow import OUT_OF_MEMORY
from funcgrad.compiler.native.routine.memory import reusable
from funcgrad.compiler.native.routine.program import ProgramWriter, addresses
from funcgrad.compiler.segment import Segment, StoppedError
from funcgrad.compiler.simplify import simplify
from funcgrad.core import config
from funcgrad.core.ir import Equation, Jaxpr, Namer
from funcgrad.core.trace import Var


@final
@dataclass(frozen=True, slots=True, eq=False)
class Native:
    """The machine code of a program that is all of one segment.

    Attributes:
        jaxpr: What it computes.
        schedule: Its loop nests.
        text: The LLVM code.
        run: The builtin; with `FUNCGRAD_CHECK=1`, what compares its results with those of NumPy.
        program: How the code is called.
        library: The code in memory.
    """

    jaxpr: Jaxpr
    schedule: Schedule
    text: str
    run: Callable[..., Any]
    program: runtime.Program
    library: Any

    def show(self, stage: str) -> str:
        """One stage of it as text: `kernels`, `llvm` or `asm`."""
        if stage == "kernels":
            name = Namer()
            return "\n".join(step.show(name) for step in self.schedule.steps)
        if stage == "llvm":
            return self.text
        from funcgrad.compiler.native.machine import llvm  # heavy: imported when first needed

        return llvm.assembly(self.text)


def usable() -> bool:
    """True if programs are to be compiled to machine code here."""
    return config.NATIVE and runtime.available()


def with_segments(jaxpr: Jaxpr, owned: Sequence[int] = ()) -> tuple[Jaxpr, list[Native]]:
    """The program with its segments as operations, each of which is compiled.

    Args:
        jaxpr: The program.
        owned: The positions of the inputs that it may overwrite, which it does if it is all of one segment.
    """
    has_code = partition.has_code
    expanded = lower(expand(jaxpr, partition.stays), has_code)
    if expanded is not jaxpr:
        expanded = simplify(expanded)
    natives: list[Native] = []
    equations: list[Equation] = []
    for part in partition.partition(expanded):
        if isinstance(part, Equation):
            equations.append(part)
            continue
        native = compile_segment(part, owned if part.inputs is expanded.inputs else ())
        natives.append(native)
        operation = Segment(part, native.run)
        outputs = tuple(v for v in part.outputs if isinstance(v, Var))
        equations.append(Equation(operation, part.inputs, outputs, part.equations[-1].source))
    if not natives:
        return jaxpr, []
    return Jaxpr(expanded.inputs, expanded.constants, tuple(equations), expanded.outputs), natives


def compile_segment(jaxpr: Jaxpr, owned: Sequence[int] = ()) -> Native:
    """The machine code of a jaxpr all of whose equations have code, and which may overwrite some of its inputs."""
    from funcgrad.compiler.native.machine import llvm  # heavy: imported when first needed

    real = without_complex(jaxpr)
    schedule = fuse(real)
    if config.CHECK:
        _check(schedule)
    routine = Routine(real, schedule)
    writer = ProgramWriter(routine, llvm.host().vector_bytes, own=not owned)
    text = writer.write()
    # a program that may stop half-way overwrites nothing: it is run again by NumPy
    owned = owned if real is jaxpr and not writer.can_fail else ()
    program = runtime.Program(
        text=text,
        inputs=jaxpr.in_types,
        outputs=jaxpr.out_types,
        arena=writer.memory.total,
        long=writer.long,
        externals=addresses(writer.externals),
        reused=reusable(owned, routine, writer.memory),
        level=0 if writer.brief else 2,
        fail=_stop,
    )
    library = runtime.load(program)
    run = runtime.bind(program, library)
    if config.CHECK and config.COMPARE:
        run = Checked(jaxpr, run, frozenset(program.reused.values()))
    return Native(jaxpr, schedule, text, run, program, library)


def _check(schedule: Schedule) -> None:
    """Prove that all kernels are well formed."""
    for step in schedule.steps:
        kernels = step.kernels if isinstance(step, Repeated) else (step,) if isinstance(step, Kernel) else ()
        for kernel in kernels:
            check_kernel(kernel)
        for routine in routines_of(step):
            _check(routine.schedule)


def _stop(code: int, *numbers: int) -> NoReturn:
    if code == OUT_OF_MEMORY:
        raise MemoryError("there is no memory for the results of all steps of a loop")
    raise StoppedError
