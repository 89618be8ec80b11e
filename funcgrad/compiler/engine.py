"""The engine: a jaxpr goes in, something that runs comes out.

    jaxpr ──simplify──▶ jaxpr ──compile──▶ machine code, where there is code for every operation
                          │                   │
                          └──plan_buffers──▶ plan ──write──▶ a Python function over NumPy and segments of machine code

Whatever is behind this seam keeps the contract of `Executable`: what it returns belongs to the caller, and what it may
not write to it leaves alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from traceback import walk_tb
from types import FrameType
from typing import TYPE_CHECKING, final
from weakref import WeakKeyDictionary

import numpy as np

from funcgrad.compiler.buffers import Plan, plan_buffers
from funcgrad.compiler.checked import Reference, evaluate_with, reference
from funcgrad.compiler.segment import Segment, StoppedError
from funcgrad.compiler.simplify import simplify
from funcgrad.compiler.source import FIRST_LINE, Writer
from funcgrad.compiler.watched import run_watched
from funcgrad.core import config
from funcgrad.core.errors import FuncgradError, InternalError, is_internal
from funcgrad.core.ir import Jaxpr, Literal
from funcgrad.core.kinds import Program
from funcgrad.core.trace import Var
from funcgrad.core.types import Array
from funcgrad.core.watch import watching

if TYPE_CHECKING:
    from funcgrad.compiler.native.compile import Native

# within the package, so that the user's line is looked for further out
_FILE = f"{__file__}:program"


@final
class Executable:
    """A compiled jaxpr.

    Each output is an array that belongs to the caller: it shares memory with no input, save those that were given
    away, and with no other output. Numbers are returned as they are.

    Args:
        jaxpr: A program without constants.
        owned: The positions of the inputs that are given away: their memory may be written to and handed on.

    Attributes:
        jaxpr: The program that runs: the given one, simplified.
        reused: The positions of those `owned` inputs whose memory is really written to or handed on. Who does not
            own one of these has to pass a copy.
        run: The compiled function of the inputs. A call of the executable is a call of it, unless somebody watches.
        native: The machine code, if there is nothing else to do than to run that.
    """

    __slots__ = ("_lines", "_natives", "_source", "jaxpr", "native", "reused", "run")

    def __init__(self, jaxpr: Jaxpr, owned: Sequence[int] = ()) -> None:
        if jaxpr.constants:
            raise InternalError(f"a program to compile has no constants, they are inputs\n{jaxpr!r}")
        self.jaxpr = simplify(jaxpr)
        program, self._natives = _with_segments(self.jaxpr, owned)
        self._source: str | None = None
        self.reused: frozenset[int] = frozenset()
        self.native: Native | None = None
        if _is_one_segment(program):
            self.native = self._natives[0]
            self.reused = frozenset(self.native.program.reused.values())
            self.run: Callable[..., tuple[Array, ...]] = self._natives[0].run
            return
        plan = plan_buffers(program, owned)
        self.reused = plan.reused
        self._source, self.run = _function(program, plan)
        self._lines = program

    def __call__(self, *args: Array) -> tuple[Array, ...]:
        """The outputs for these inputs, which have the types of the jaxpr's."""
        watch = watching()
        if watch is not None and watch.numbers:
            return run_watched(self.jaxpr, _typed(args), watch)
        if config.CHECK and (noise := reference()) is not None:
            return evaluate_with(noise, self.jaxpr, _typed(args))
        try:
            return self.run(*(args if self.native is not None else _typed(args)))
        except StoppedError:
            return _rerun(self.jaxpr, args)

    def as_text(self) -> str:
        """The program as it runs: its loop nests, or Python, with each equation's primitive beside it."""
        if self._source is None:
            return self.stage("kernels")
        lines = self._source.splitlines()
        equations = self._lines.equations
        body = lines[FIRST_LINE - 1 : FIRST_LINE - 1 + len(equations)]
        shown = [f"{line[2:]}  # {e.primitive.show()}" for line, e in zip(body, equations, strict=True)]
        return "\n".join([lines[0], *shown, lines[FIRST_LINE - 1 + len(body)][2:]])

    @property
    def temporary(self) -> int:
        """The bytes that machine code works with, besides inputs and outputs."""
        return max((native.program.arena for native in self._natives), default=0)

    def stage(self, name: str) -> str:
        """One stage of what was compiled, as text: `kernels`, `llvm` or `asm`, of each segment."""
        return "\n\n".join(native.show(name) for native in self._natives)


def _with_segments(jaxpr: Jaxpr, owned: Sequence[int]) -> tuple[Jaxpr, list[Native]]:
    from funcgrad.compiler.native.compile import usable, with_segments  # heavy: imported when first needed

    return with_segments(jaxpr, owned) if usable() else (jaxpr, [])


def _is_one_segment(program: Jaxpr) -> bool:
    """True if a call of a segment is all that there is to do."""
    if len(program.equations) != 1:
        return False
    (equation,) = program.equations
    return (
        isinstance(equation.primitive, Segment)
        and equation.inputs == program.inputs
        and equation.outputs == program.outputs
    )


def _function(program: Jaxpr, plan: Plan) -> tuple[str, Callable[..., tuple[Array, ...]]]:
    """The text of the function that runs a program, and the function."""
    writer = Writer(program, plan)
    source = writer.write()
    names = {**writer.names, "explain": partial(_explain, program, writer.local), "__name__": __name__}
    exec(compile(source, _FILE, "exec"), names)
    # the function knows its names; they need not know it
    return source, names.pop("program")


def _typed(args: Sequence[Array]) -> Sequence[Array]:
    """The arguments, with a NumPy bool for Python's, which is an int to Python's operators: True + True is 2."""
    return [np.bool_(x) if x.__class__ is bool else x for x in args]


def _rerun(jaxpr: Jaxpr, args: Sequence[Array]) -> tuple[Array, ...]:
    """Run by NumPy what machine code has stopped at, for the error."""
    with np.errstate(all="ignore"):
        return _function(jaxpr, plan_buffers(jaxpr, ()))[1](*_typed(args))


def _explain(jaxpr: Jaxpr, variables: Mapping[Var, str], error: Exception) -> None:
    """Raise the user's error for what an equation has raised, with the line of user code that it comes from.

    What comes from user code that the equation has called passes unchanged, and so does what ran within a program:
    it has been explained there.
    """
    frames: list[FrameType] = [frame for frame, _ in walk_tb(error.__traceback__)]
    place = (error.__traceback__.tb_lineno if error.__traceback__ else 0) - FIRST_LINE
    if not 0 <= place < len(jaxpr.equations) or not all(map(is_internal, frames)):
        return
    equation = jaxpr.equations[place]
    if isinstance(error, StoppedError) and isinstance(equation.primitive, Segment):
        there = frames[0].f_locals
        _rerun(equation.primitive.jaxpr, [there[variables[x]] for x in equation.inputs if isinstance(x, Var)])
    if isinstance(equation.primitive, Program):
        return
    try:
        if isinstance(error, ValueError | TypeError | IndexError | FuncgradError):
            values = frames[0].f_locals
            args = [x.value if isinstance(x, Literal) else values[variables[x]] for x in equation.inputs]
            equation.primitive.explain(error, args)
    except FuncgradError as better:
        if equation.source is not None:
            better.relocate(equation.source)
        raise
    finally:
        if equation.source is not None and not isinstance(error, FuncgradError):
            error.add_note(f"  at {equation.source}")


_cache: WeakKeyDictionary[Jaxpr, dict[tuple[int, ...], Executable]] = WeakKeyDictionary()
_lock = threading.RLock()


def executable(jaxpr: Jaxpr, owned: Sequence[int] = ()) -> Executable:
    """Compile a jaxpr; see `Executable`."""
    return Executable(jaxpr, owned)


def runner(jaxpr: Jaxpr, owned: Sequence[int] = ()) -> Executable | Reference:
    """What runs a jaxpr that an operation holds: it is compiled, unless NumPy computes what is compared with code."""
    if config.CHECK and (noise := reference()) is not None:
        return Reference(jaxpr, noise)
    return cached_executable(jaxpr, owned)


def cached_executable(jaxpr: Jaxpr, owned: Sequence[int] = ()) -> Executable:
    """Compile a jaxpr once, however often and from however many threads it is asked for.

    What was compiled is kept as long as the jaxpr.
    """
    key = tuple(sorted(owned))
    found = _cache.get(jaxpr, {}).get(key)
    if found is None:
        with _lock:
            compiled = _cache.setdefault(jaxpr, {})
            found = compiled.get(key)
            if found is None:
                found = compiled[key] = Executable(jaxpr, key)
    return found


def return_memory() -> None:
    """Return to the system the memory that is kept for later results."""
    from funcgrad.compiler.native.dispatch import recycle  # heavy: imported when first needed

    recycle.forget()
