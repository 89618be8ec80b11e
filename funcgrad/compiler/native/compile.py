"""From a simplified jaxpr to machine code, as far as there is code for it.

jaxpr ──expand──▶ jaxpr ──partition──▶ segments ──fuse──▶ kernels ──plan_memory──▶ ──write──▶ LLVM ──▶ builtin
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, final

from funcgrad.compiler.native import partition, runtime
from funcgrad.compiler.native.expand import expand
from funcgrad.compiler.native.fuse import Schedule, fuse
from funcgrad.compiler.native.kernel import Kernel, check_kernel
from funcgrad.compiler.native.program import ProgramWriter, addresses
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
        run: The builtin.
    """

    jaxpr: Jaxpr
    schedule: Schedule
    text: str
    run: Callable[..., Any]

    def show(self, stage: str) -> str:
        """One stage of it as text: `kernels`, `llvm` or `asm`."""
        if stage == "kernels":
            name = Namer()
            return "\n".join(step.show(name) for step in self.schedule.steps)
        if stage == "llvm":
            return self.text
        from funcgrad.compiler.native import llvm  # heavy: imported when first needed

        return llvm.assembly(self.text)


def usable() -> bool:
    """True if programs are to be compiled to machine code here."""
    return config.NATIVE and runtime.available()


def with_segments(jaxpr: Jaxpr) -> tuple[Jaxpr, list[Native]]:
    """The program with its segments as operations, each of which is compiled."""
    expanded = simplify(expand(jaxpr, partition.stays))
    natives: list[Native] = []
    equations: list[Equation] = []
    for part in partition.partition(expanded):
        if isinstance(part, Equation):
            equations.append(part)
            continue
        native = compile_segment(part)
        natives.append(native)
        operation = Segment(part, native.run)
        outputs = tuple(v for v in part.outputs if isinstance(v, Var))
        equations.append(Equation(operation, part.inputs, outputs, part.equations[-1].source))
    if not natives:
        return jaxpr, []
    return Jaxpr(expanded.inputs, expanded.constants, tuple(equations), expanded.outputs), natives


def compile_segment(jaxpr: Jaxpr) -> Native:
    """The machine code of a jaxpr all of whose equations have code."""
    from funcgrad.compiler.native import llvm  # heavy: imported when first needed

    outputs = [v for v in jaxpr.outputs if isinstance(v, Var)]
    schedule = fuse(jaxpr.inputs, jaxpr.equations, outputs)
    if config.CHECK:
        for step in schedule.steps:
            if isinstance(step, Kernel):
                check_kernel(step)
    writer = ProgramWriter(jaxpr.inputs, schedule, llvm.host().vector_bytes)
    text = writer.write()

    program = runtime.Program(
        text=text,
        inputs=jaxpr.in_types,
        outputs=jaxpr.out_types,
        arena=writer.memory.total,
        long=writer.long,
        externals=addresses(writer.externals),
        fail=_stop,
    )
    return Native(jaxpr, schedule, text, runtime.bind(program))


def _stop(code: int, *numbers: int) -> NoReturn:
    raise StoppedError
