"""The engine: a jaxpr goes in, something that runs comes out.

    jaxpr ──simplify──▶ jaxpr ──plan_buffers──▶ plan ──write──▶ a Python function over NumPy

This is the seam behind which machine code takes the place of NumPy. Whatever is behind it keeps the contract of
`Executable`: what it returns belongs to the caller, and what it may not write to it leaves alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from traceback import walk_tb
from types import FrameType
from typing import final
from weakref import WeakKeyDictionary

from funcgrad.compiler.buffers import plan_buffers
from funcgrad.compiler.simplify import simplify
from funcgrad.compiler.source import FIRST_LINE, Writer
from funcgrad.compiler.watched import run_watched
from funcgrad.core.errors import FuncgradError, InternalError, is_internal
from funcgrad.core.ir import Jaxpr, Literal
from funcgrad.core.kinds import Program
from funcgrad.core.trace import Var
from funcgrad.core.types import Array
from funcgrad.core.watch import watching

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
    """

    __slots__ = ("_source", "jaxpr", "reused", "run")

    def __init__(self, jaxpr: Jaxpr, owned: Sequence[int] = ()) -> None:
        if jaxpr.constants:
            raise InternalError(f"a program to compile has no constants, they are inputs\n{jaxpr!r}")
        self.jaxpr = simplify(jaxpr)
        plan = plan_buffers(self.jaxpr, owned)
        self.reused = plan.reused
        writer = Writer(self.jaxpr, plan)
        self._source = writer.write()
        names = {**writer.names, "explain": partial(_explain, self.jaxpr, writer.local), "__name__": __name__}
        exec(compile(self._source, _FILE, "exec"), names)
        # the function knows its names; they need not know it
        self.run: Callable[..., tuple[Array, ...]] = names.pop("program")

    def __call__(self, *args: Array) -> tuple[Array, ...]:
        """The outputs for these inputs, which have the types of the jaxpr's."""
        watch = watching()
        return self.run(*args) if watch is None or not watch.numbers else run_watched(self.jaxpr, args, watch)

    def as_text(self) -> str:
        """The program as it runs: Python, with each equation's primitive beside it."""
        lines = self._source.splitlines()
        body = lines[FIRST_LINE - 1 : FIRST_LINE - 1 + len(self.jaxpr.equations)]
        shown = [f"{line[2:]}  # {e.primitive.show()}" for line, e in zip(body, self.jaxpr.equations, strict=True)]
        return "\n".join([lines[0], *shown, lines[FIRST_LINE - 1 + len(body)][2:]])


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
