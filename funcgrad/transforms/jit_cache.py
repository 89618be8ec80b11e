"""The programs of one jitted function: staged and compiled once for each key, from however many threads.

A short lock guards the table; each entry has a lock of its own, under which its program is made. Where that fails, the
entry goes, and whoever waited for it tries again. The table is bounded: the program that was not used for the
longest time makes room.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, final

from funcgrad.compiler.buffers import may_overwrite
from funcgrad.compiler.engine import Executable, cached_executable
from funcgrad.core.errors import RetraceWarning, user_frame
from funcgrad.core.ir import Jaxpr, evaluate
from funcgrad.core.trace import Tracer
from funcgrad.core.types import Array
from funcgrad.core.watch import watching
from funcgrad.transforms.jit_gates import Form, Gates
from funcgrad.transforms.programs.call import Call, quiet
from funcgrad.transforms.signature import Key, Signature, differences
from funcgrad.transforms.tracing.stage import closed
from funcgrad.tree import Structure

if TYPE_CHECKING:
    from funcgrad.compiler.native.dispatch.gates import Gate

# so many programs of one function, and something keeps changing that should not
_MANY = 20

_logger = logging.getLogger("funcgrad")
_write: ContextVar[Callable[[str], Any] | None] = ContextVar("funcgrad_log_compiles", default=None)


class CacheInfo(NamedTuple):
    """What `cache_info` tells: the calls that found a program, those that did not, and how many there are."""

    hits: int
    misses: int
    maxsize: int
    currsize: int


@final
class Program:
    """What a function does for one key.

    Args:
        name: The name of the function.
        jaxpr: Its jaxpr; the constants are what the function closes over.
        structure: That of its result.
        inline: True if in an outer trace its equations stand for it, and not one call.
        donated: The leaves of the arguments, by number, that results may be written over.

    Attributes:
        constants: The values of the constants.
        traced: True if it closes over a tracer: then it is of use for this one call only.
        gates: By the form of a call, the gate for such calls; None where there cannot be one.
        forgotten: True once it is no longer in the cache.
        seconds: How long it took to compile; None as long as it is not compiled.
    """

    __slots__ = (
        *("_closed", "_donated", "_inline", "_lone", "_name", "_run", "_used"),
        *("constants", "forgotten", "gates", "jaxpr", "seconds", "structure", "traced"),
    )

    def __init__(
        self, name: str, jaxpr: Jaxpr, structure: Structure, inline: bool, donated: Sequence[int] = ()
    ) -> None:
        self._name = name
        self.jaxpr = jaxpr
        self.structure = structure
        self._lone = structure.is_leaf()
        self._inline = inline
        # what the function closes over is an operand like its arguments
        self._closed, self.constants = closed(jaxpr)
        self.traced = any(isinstance(x, Tracer) for x in self.constants)
        self._donated = [len(self.constants) + i for i in donated]
        self._run: Executable | None = None
        self._used = 0
        self.gates: dict[Form, Gate | None] = {}
        self.forgotten = False
        self.seconds: float | None = None

    def compile(self) -> Executable:
        """The compiled program, which takes the constants and the leaves of the arguments."""
        started = time.perf_counter()
        executable = cached_executable(self._closed, self._donated)
        if executable.native is None and executable.reused:
            # what NumPy runs may raise an error when it has overwritten something already
            executable = cached_executable(self._closed)
        if self._run is None:
            self._run = executable
            self.seconds = time.perf_counter() - started
        return executable

    def compute(self, leaves: Sequence[Array]) -> Any:
        """The result for leaves that are no tracers, in a program that closes over none."""
        run = self._run
        if run is None or watching() is not None:
            run = self.compile()
        operands = (*self.constants, *leaves)
        if run.reused and not may_overwrite(operands, run.reused):
            run = cached_executable(self._closed)
        # machine code does not warn
        ys = (_quietly if run.native is None else _plainly)(run, *operands)
        return ys[0] if self._lone else self.structure.unflatten(ys)

    @property
    def used(self) -> int:
        """Grows with each use, over all programs of the function."""
        gates = list(self.gates.values())  # at once: another thread may add one
        return max([self._used, *(gate.used for gate in gates if gate is not None)])

    @used.setter
    def used(self, now: int) -> None:
        self._used = now

    def apply(self, leaves: Sequence[Array]) -> Any:
        """The result, in a trace of which a leaf or a constant is a tracer."""
        operands = [*self.constants, *leaves]
        ys = evaluate(self._closed, operands) if self._inline else Call(self._name, self._closed)(*operands)
        return self.structure.unflatten(ys)


def _plainly(run: Executable, *args: Array) -> tuple[Array, ...]:
    return run(*args)


_quietly = quiet(_plainly)


@final
class _Entry:
    __slots__ = ("abandoned", "lock", "program", "values")

    def __init__(self, values: tuple[Any, ...]) -> None:
        self.lock = threading.RLock()
        self.program: Program | None = None
        self.values = values
        self.abandoned = False


@final
class Cache:
    """The programs of one jitted function.

    Args:
        name: What messages call the function, such as `jit(f)`.
        signature: How its calls are told apart.
        maxsize: How many programs are kept.

    Attributes:
        fast: Compiled programs by what is quickly looked at: the types of arguments that are plain arrays.
        gates: Those of its programs that are tried by a call.
    """

    def __init__(self, name: str, signature: Signature, maxsize: int, gates: Gates) -> None:
        self._name = name
        self._signature = signature
        self._maxsize = maxsize
        self._lock = threading.RLock()
        self._entries: dict[Key, _Entry] = {}
        self.fast: dict[tuple[Any, ...], Program] = {}
        self.gates = gates
        # counting on is atomic: no call from any thread is lost
        self._count = itertools.count(1).__next__
        self._looks = 0
        self._misses = 0
        self._warned = False

    def tick(self) -> int:
        """Count a call that finds a program, and say what time it is: later than at any other use."""
        clock = self.gates.clock
        # gates count their calls themselves, in the first place
        clock[1] = n = self._count()
        return clock[0] + n

    def get(self, key: Key) -> Program | None:
        """The program for a key, if there is one."""
        try:
            entry = self._entries.get(key)
        except Exception:
            self._signature.check_structure(key)
            raise
        program = None if entry is None else entry.program
        if program is not None:
            program.used = self.tick()
        return program

    def make(self, key: Key, values: tuple[Any, ...], build: Callable[[], Program]) -> Program:
        """The program for a key: made by `build`, or by another thread that is at it."""
        while True:
            with self._lock:
                entry = self._entries.setdefault(key, _Entry(values))
            with entry.lock:
                program = entry.program
                if program is not None:
                    program.used = self.tick()
                    return program
                if not entry.abandoned:
                    program = self._build(key, entry, build)
                    break
        program.used = self.tick()
        self._make_room()
        self._warn_of_retraces(program)
        return program

    def _build(self, key: Key, entry: _Entry, build: Callable[[], Program]) -> Program:
        started = time.perf_counter()
        program = None
        try:
            program = build()
        finally:
            if program is None or program.traced:
                entry.abandoned = True
                with self._lock:
                    if self._entries.get(key) is entry:
                        del self._entries[key]
            else:
                entry.program = program
        with self._lock:
            self._misses += 1
        if _write.get() or _logger.isEnabledFor(logging.INFO):
            self._report(key, entry, program, time.perf_counter() - started)
        return program

    def _make_room(self) -> None:
        with self._lock:
            while len(self._entries) > self._maxsize:
                done = [(entry.program.used, key) for key, entry in self._entries.items() if entry.program is not None]
                if not done:
                    return
                entry = self._entries.pop(min(done, key=lambda each: each[0])[1])
                self.fast.clear()
                if entry.program is not None:
                    self.gates.forget([entry.program])

    def clear(self) -> None:
        """Forget all programs, and the counts."""
        with self._lock:
            programs = [entry.program for entry in self._entries.values() if entry.program is not None]
            self._entries = {}
            self.fast.clear()
            self.gates.forget(programs)
            self.gates.clear()
            self._count = itertools.count(1).__next__
            self._looks = self._misses = 0

    def info(self) -> CacheInfo:
        """The counts."""
        with self._lock:
            self._looks += 1
            calls = self._count() - self._looks + self.gates.clock[0]
            return CacheInfo(calls - self._misses, self._misses, self._maxsize, len(self._entries))

    def _others(self, entry: _Entry | None = None) -> list[tuple[Key, _Entry]]:
        with self._lock:
            return [(k, e) for k, e in self._entries.items() if e is not entry and e.program is not None]

    def _report(self, key: Key, entry: _Entry, program: Program, seconds: float) -> None:
        """Log what was staged, and why: the difference to the closest call that there was."""
        describe = self._signature.describe
        this = describe(key, entry.values)
        found = [differences(describe(k, e.values), this) for k, e in self._others(entry)]
        if found:
            closest: list[str] = min(found, key=len)
            because = "; ".join(closest) or "a static part looks as it did, but is not equal"
        else:
            because = "this is the first call" if self._misses == 1 else "no program is there any more"
        n = len(program.jaxpr.equations)
        times = f"{n} equation{'s' * (n != 1)} staged in {(seconds - (program.seconds or 0)) * 1e3:.1f} ms"
        if program.seconds is not None:
            times += f", compiled in {program.seconds * 1e3:.1f} ms"
        message = f"{self._name}: {times}; {because}"
        _logger.info(message)
        if write := _write.get():
            write(message)

    def _warn_of_retraces(self, program: Program) -> None:
        """Say once what keeps changing."""
        if self._misses < _MANY or self._warned:
            return
        self._warned = True
        if program.traced:
            what = "it closes over a traced value, so its program cannot be kept"
            fix = "pass that value as an argument"
        else:
            what, fix = self._what_changes()
        frame = user_frame()
        message = f"{self._name} has been traced {self._misses} times: {what}\n  Fix: {fix}"
        if frame is None:
            warnings.warn(message, RetraceWarning, stacklevel=2)
        else:
            registry = frame.f_globals.setdefault("__warningregistry__", {})
            code = frame.f_code
            warnings.warn_explicit(
                message, RetraceWarning, code.co_filename, frame.f_lineno, frame.f_globals.get("__name__"), registry
            )

    def _what_changes(self) -> tuple[str, str]:
        shown: dict[tuple[str, str], dict[str, Any]] = {}
        for key, entry in self._others():
            for what, text in self._signature.describe(key, entry.values).items():
                shown.setdefault(what, {})[text] = None
        if not shown:
            return "its programs do not stay in the cache", "a larger cache_size"
        (kind, label), texts = max(shown.items(), key=lambda item: len(item[1]))
        a, b = list(texts)[-2:] if len(texts) > 1 else [*texts, "the same"]
        return f"{kind} {label} keeps changing, as from {a} to {b}", _WAYS_OUT[kind]


_WAYS_OUT = {
    "the static value of": "make it a normal argument if it is a number or an array; if it is a function or an object, "
    "define it once, outside of the loop, or give its class __eq__ and __hash__",
    "the structure of": "pass the same containers with the same keys each time",
    "the way of passing": "pass the same arguments each time, in the same order",
    "the shape of": "pad it to one of a few fixed sizes, and mask what is not there: where(mask, x, 0)",
    "the dtype of": "convert it before the call: x.astype(float), numpy.float64(x)",
}


@contextlib.contextmanager
def log_compiles(write: Callable[[str], Any] = print) -> Iterator[None]:
    """Print what jitted functions stage within the block: how long it took, and how the call differs from earlier ones.

    The same lines always go to the logger `funcgrad` of Python's `logging`, at level INFO.

    Args:
        write: What is done with each line.

    Examples:
        >>> import funcgrad as fg
        >>> f = fg.jit(lambda x, n: x[:n], static_argnames="n")
        >>> with fg.log_compiles():
        ...     y = f(np.ones(5), 2)
        ...     y = f(np.ones(5), 3)
        jit(<lambda>): 1 equation staged in ... ms, compiled in ... ms; this is the first call
        jit(<lambda>): 1 equation staged in ... ms, compiled in ... ms; the static value of argument 'n' is 3, was 2
    """
    token = _write.set(write)
    try:
        yield
    finally:
        _write.reset(token)
