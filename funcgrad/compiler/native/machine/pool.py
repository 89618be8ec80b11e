"""The threads that the loops of compiled programs share: one pool for the process.

A kernel that is worth it is a function of a range of indices. `parallel`, which programs find among their externals,
cuts the range into chunks, and the calling thread and those of the pool take one after the other:

    parallel(pool, function, closure, count, grain)      calls function(closure, start, stop) for ranges of 0 … count

Threads are made by the first call that needs them. One that has nothing to do spins for some microseconds, since the
next kernel often follows at once, and then sleeps. The caller never waits for a thread that has not begun: it does
the work itself, closes the gate, and waits only for those that are at work. A second caller at the same time finds the
pool taken, and does all of its work itself. What a chunk computes must not depend on who computes it, nor on where the
other chunks begin: then results are the same for any number of threads.

The *gate* says whether there is work: its lowest bit is 1 while there is, the bits above count the threads at work, and
the upper half numbers the jobs, so that a thread does not take a job twice.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import sys
from functools import cache
from typing import TYPE_CHECKING, Final

from funcgrad.compiler.native.machine import blas
from funcgrad.compiler.native.machine.builder import I1, I32, I64, PTR, Builder, Module, Type, Value
from funcgrad.core import config
from funcgrad.core.errors import ArgumentError

if TYPE_CHECKING:
    from funcgrad.compiler.native.machine.llvm import Library

# Where in the pool's memory things are, in words of 8 bytes. What different threads write is on lines of its own.
_LINE = 16
_LOCK, _GATE, _NEXT, _SLEEPING, _JOB, _SETTINGS = (_LINE * i for i in range(6))
_FUNCTION, _CLOSURE, _COUNT, _CHUNK = range(_JOB, _JOB + 4)
_WANTED, _STARTED, _NUMBERED, _HOW, _THREAD = range(_SETTINGS, _SETTINGS + 5)
_SYSTEM = (
    "pthread_create", "pthread_sigmask", "pthread_mutex_lock", "pthread_mutex_unlock", "pthread_cond_wait",
    "pthread_cond_broadcast", "sched_yield",
)  # fmt: skip
_FUNCTIONS = _SETTINGS + _LINE
# more room than any system needs
_MUTEX, _CONDITION, _SIGNALS, _BEFORE, _END = (_FUNCTIONS + _LINE * i for i in range(1, 6))

# how often a thread looks for work before it sleeps, which takes 10 to 50 µs
_SPINS = 1000
# chunks for each thread: more than one, since threads do not run equally fast
_CHUNKS = 4

# the functions that are called are those of POSIX
_HAS_THREADS = sys.platform != "win32"

NAMES: Final = ("parallel", "pool")
"""What programs find among their externals: the function, and its first argument."""


def count_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _default() -> int:
    """What the user says for funcgrad or for all libraries; else the number of cores."""
    if config.NUM_THREADS:
        return _checked(config.NUM_THREADS, "FUNCGRAD_NUM_THREADS")
    general = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    cores = count_cores()
    return min(int(general), cores) if general.isdecimal() and int(general) > 0 else cores


def _checked(n: str | int, name: str) -> int:
    text = str(n)
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise ArgumentError(f"{name} is {n!r}, and not a number of threads", fix="a whole number from 1 to 1024")
    return int(text)


@cache
def _wanted() -> list[int]:
    """The number of threads, in a list that holds the current one."""
    return [_default()]


def set_num_threads(n: int) -> None:
    """Let jitted functions use this many threads, in all of this process.

    The loops of a jitted function run side by side on this many threads when they take long enough, and so do the
    matrix products of BLAS, those of NumPy included where it is the same BLAS. Results do not depend on the number,
    save those of BLAS in the last digits.

    Args:
        n: How many threads work at the same time, the calling one included; 1 for none but that. The default is
            the number of cores that the process may use, or what the environment variables `FUNCGRAD_NUM_THREADS`
            or `OMP_NUM_THREADS` say; `FUNCGRAD_NUM_THREADS` counts for loops only.

    Raises:
        ArgumentError: `n` is no positive integer.

    Examples:
        >>> import funcgrad as fg
        >>> before = fg.get_num_threads()
        >>> fg.set_num_threads(1)
        >>> fg.get_num_threads()
        1
        >>> fg.set_num_threads(before)
    """
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise ArgumentError(f"set_num_threads: n is {n!r}, and not a number of threads", fix="set_num_threads(4)")
    threads = _checked(n.__index__(), "set_num_threads: n")
    _wanted()[0] = threads
    blas.set_threads(threads)
    if _memory.cache_info().currsize and _HAS_THREADS:
        _memory()[_WANTED] = threads


def get_num_threads() -> int:
    """How many threads the loops of jitted functions use; see `set_num_threads`.

    Returns:
        The number of threads, the calling one included.

    Examples:
        >>> import funcgrad as fg
        >>> fg.get_num_threads() >= 1
        True
    """
    return _wanted()[0]


def started() -> int:
    """How many threads the pool has made."""
    return _memory()[_STARTED] if _memory.cache_info().currsize else 0


def addresses() -> dict[str, int]:
    """Where `parallel` is, and the memory of the pool."""
    return {"parallel": _code().address, "pool": ctypes.addressof(_memory())}


@cache
def _code() -> Library:
    from funcgrad.compiler.native.machine import llvm  # heavy: imported when first needed

    return llvm.load_text(pool_text(), "parallel")


@cache
def _memory() -> ctypes.Array[ctypes.c_int64]:
    """The memory of the pool, which is never freed: its threads outlive the interpreter."""
    allocate = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)(
        ("PyMem_RawCalloc", ctypes.pythonapi)
    )
    address = allocate(8 * (_END + _LINE), 1)
    if not address:
        raise MemoryError
    aligned = -(-address // (8 * _LINE)) * 8 * _LINE
    memory = (ctypes.c_int64 * _END).from_address(aligned)
    _make_ready(memory)
    if hasattr(os, "register_at_fork"):
        # no thread but the one that forks lives in the child
        os.register_at_fork(after_in_child=lambda: _make_ready(memory))
    return memory


def _make_ready(memory: ctypes.Array[ctypes.c_int64]) -> None:
    """An empty pool. Where threads cannot be had, its size is 1 for good: nobody starts a second one."""
    ctypes.memset(memory, 0, ctypes.sizeof(memory))
    if not _HAS_THREADS:
        memory[_WANTED] = 1
        return
    system = ctypes.CDLL(None)
    for i, name in enumerate(_SYSTEM):
        memory[_FUNCTIONS + i] = ctypes.cast(getattr(system, name), ctypes.c_void_p).value or 0
    start = ctypes.addressof(memory)
    system.pthread_mutex_init(ctypes.c_void_p(start + 8 * _MUTEX), None)
    system.pthread_cond_init(ctypes.c_void_p(start + 8 * _CONDITION), None)
    # signals are the business of the threads that are Python's
    memory[_SIGNALS:_BEFORE] = [-1] * _LINE
    memory[_HOW] = int(signal.SIG_SETMASK)
    memory[_WANTED] = _wanted()[0]


# ── the code


def pool_text() -> str:
    """The module that defines `@parallel`."""
    module = Module()
    for write in (_work, _worker, _start, _parallel):
        write(_Writer(Builder(module)))
    return module.text()


_POOL = Value("%pool", PTR)
_ZERO, _ONE = Value("0", I64), Value("1", I64)
# all of the gate but the number of the job
_STATE = Value(str((1 << 32) - 1), I64)


class _Writer:
    """A builder that knows the pool's memory, and names the places that it jumps to."""

    def __init__(self, b: Builder) -> None:
        self.b = b

    def at(self, place: int) -> Value:
        """The address of a word."""
        return self.b.offset(_POOL, place, "i64")

    def get(self, place: int, type: Type = I64) -> Value:
        """A word that nobody writes meanwhile."""
        return self.b.load(type, self.at(place), 8)

    def see(self, place: int) -> Value:
        """A word that others may write, and what they wrote before it."""
        return self.b.emit(f"load atomic i64, {self.at(place)} seq_cst, align 8", I64)

    def put(self, x: Value, place: int) -> None:
        """Write a word for others to see."""
        self.b.do(f"store atomic {x}, {self.at(place)} seq_cst, align 8")

    def change(self, how: str, place: int, x: Value) -> Value:
        """Combine a word with a value in one go; what it was."""
        return self.b.emit(f"atomicrmw {how} {self.at(place)}, {x} seq_cst", I64)

    def swap(self, place: int, old: Value, new: Value) -> Value:
        """Replace a word if it is the old one; whether it was."""
        pair = self.b.emit(f"cmpxchg {self.at(place)}, {old}, {new} seq_cst seq_cst", Type("{ i64, i1 }"))
        return self.b.emit(f"extractvalue {pair}, 1", I1)

    def call(self, name: str, *xs: Value) -> Value:
        """Call a function of the system."""
        function = self.get(_FUNCTIONS + _SYSTEM.index(name), PTR)
        return self.b.emit(f"call i32 {function.text}({', '.join(map(str, xs))})", I32)

    def pause(self) -> None:
        """Let the other half of the core run, and the time pass."""
        machine = platform.machine().lower()
        if machine in ("x86_64", "amd64"):
            self.b.module.declare("llvm.x86.sse2.pause", "void", [])
            self.b.do("call void @llvm.x86.sse2.pause()")
        elif machine in ("arm64", "aarch64"):
            self.b.module.declare("llvm.aarch64.isb", "void", [I32])
            self.b.do("call void @llvm.aarch64.isb(i32 15)")

    def is_new(self, gate: Value, seen: Value) -> Value:
        """True if the gate is open, for a job that has not been seen."""
        b = self.b
        there = b.compare("ne", b.op("and", gate, _ONE), _ZERO)
        return b.op("and", there, b.compare("ne", b.op("lshr", gate, Value("32", I64)), seen))


def _work(w: _Writer) -> None:
    """Take one chunk after the other."""
    b = w.b
    with b.function("work", "void", [("ptr", "pool")], "internal"):
        function, closure, count, chunk = (
            w.get(place, type) for place, type in ((_FUNCTION, PTR), (_CLOSURE, PTR), (_COUNT, I64), (_CHUNK, I64))
        )
        w.b.jump("next")
        w.b.label("next")
        start = b.op("mul", w.change("add", _NEXT, _ONE), chunk)
        w.b.split(b.compare("slt", start, count), "run", "done")
        w.b.label("run")
        stop = b.intrinsic("smin", b.op("add", start, chunk), count)
        b.do(f"call void {function.text}({closure}, {start}, {stop})")
        w.b.jump("next")
        w.b.label("done")
        b.ret()


def _worker(w: _Writer) -> None:
    """A thread: it looks for work, and sleeps if there is none for long."""
    b = w.b
    seen, number = Value("%seen", I64), Value("%number", I64)
    with b.function("worker", "ptr", [("ptr", "pool")], "internal"):
        b.do(f"%number = atomicrmw add {w.at(_NUMBERED)}, {_ONE} seq_cst")
        w.b.jump("look")
        w.b.label("look")
        b.do("%seen = phi i64 [ 0, %entry ], [ %job, %after ]")
        w.b.jump("spin")
        w.b.label("spin")
        b.do(f"%turn = phi i64 [ {_SPINS}, %look ], [ {_SPINS}, %retry ], [ %left, %idle ]")
        gate = w.see(_GATE)
        w.b.split(w.is_new(gate, seen), "enter", "idle")
        w.b.label("idle")
        w.pause()
        b.do("%left = sub i64 %turn, 1")
        w.b.split(b.compare("sgt", Value("%left", I64), _ZERO), "spin", "lie")
        w.b.label("lie")
        w.call("pthread_mutex_lock", w.at(_MUTEX))
        w.change("add", _SLEEPING, _ONE)
        w.b.jump("sleep")
        w.b.label("sleep")
        w.b.split(w.is_new(w.see(_GATE), seen), "rise", "wait")
        w.b.label("wait")
        w.call("pthread_cond_wait", w.at(_CONDITION), w.at(_MUTEX))
        w.b.jump("sleep")
        w.b.label("rise")
        w.change("sub", _SLEEPING, _ONE)
        w.call("pthread_mutex_unlock", w.at(_MUTEX))
        w.b.jump("retry")
        w.b.label("retry")
        w.b.jump("spin")
        _join(w, gate, number)


def _join(w: _Writer, gate: Value, number: Value) -> None:
    b = w.b
    w.b.label("enter")
    b.do(f"%job = lshr {gate}, 32")
    # when fewer threads are wanted than there are, the last ones pass
    others = b.op("sub", w.see(_WANTED), _ONE)
    w.b.split(b.compare("slt", number, others), "try", "after")
    w.b.label("try")
    w.b.split(w.swap(_GATE, gate, b.op("add", gate, Value("2", I64))), "in", "retry")
    w.b.label("in")
    b.do("call void @work(ptr %pool)")
    w.change("sub", _GATE, Value("2", I64))
    w.b.jump("after")
    w.b.label("after")
    w.b.jump("look")


def _start(w: _Writer) -> None:
    """Make the threads that are missing, which take no signals. If the system refuses, there are fewer."""
    b = w.b
    with b.function("start", "void", [("ptr", "pool"), ("i64", "others")], "internal"):
        how = b.cast("trunc", w.get(_HOW), "i32")
        w.call("pthread_sigmask", how, w.at(_SIGNALS), w.at(_BEFORE))
        w.b.jump("more")
        w.b.label("more")
        started = w.get(_STARTED)
        w.b.split(b.compare("slt", started, Value("%others", I64)), "make", "done")
        w.b.label("make")
        refused = w.call("pthread_create", w.at(_THREAD), Value("null", PTR), Value("@worker", PTR), _POOL)
        w.b.split(b.compare("eq", refused, Value("0", I32)), "made", "done")
        w.b.label("made")
        b.store(b.op("add", started, _ONE), w.at(_STARTED), 8)
        w.b.jump("more")
        w.b.label("done")
        w.call("pthread_sigmask", how, w.at(_BEFORE), Value("null", PTR))
        b.ret()


def _parallel(w: _Writer) -> None:
    b = w.b
    count, grain, others = Value("%count", I64), Value("%grain", I64), Value("%others", I64)
    arguments = [("ptr", "pool"), ("ptr", "function"), ("ptr", "closure"), ("i64", "count"), ("i64", "grain")]
    with b.function("parallel", "void", arguments):
        b.do(f"%others = sub {w.see(_WANTED)}, 1")
        several = b.op("and", b.compare("sgt", others, _ZERO), b.compare("sgt", count, grain))
        w.b.split(several, "claim", "alone")
        w.b.label("claim")
        w.b.split(w.swap(_LOCK, _ZERO, _ONE), "mine", "alone")
        w.b.label("alone")
        b.do("call void %function(ptr %closure, i64 0, i64 %count)")
        b.ret()
        w.b.label("mine")
        w.b.split(b.compare("slt", w.get(_STARTED), others), "hire", "ready")
        w.b.label("hire")
        b.do("call void @start(ptr %pool, i64 %others)")
        w.b.jump("ready")
        w.b.label("ready")
        _publish(w, count, grain, others)
        b.do("call void @work(ptr %pool)")
        w.change("and", _GATE, Value("-2", I64))
        w.b.jump("settle")
        w.b.label("settle")
        b.do("%waited = phi i64 [ 0, %told ], [ %again, %busy ], [ %again, %yield ]")
        w.b.split(b.compare("eq", b.op("and", w.see(_GATE), _STATE), _ZERO), "done", "busy.first")
        w.b.label("busy.first")
        b.do("%again = add i64 %waited, 1")
        w.b.split(b.compare("slt", Value("%waited", I64), Value(str(_SPINS), I64)), "busy", "yield")
        w.b.label("busy")
        w.pause()
        w.b.jump("settle")
        w.b.label("yield")
        # the thread that is waited for may be in need of this core
        w.call("sched_yield")
        w.b.jump("settle")
        w.b.label("done")
        w.put(_ZERO, _LOCK)
        b.ret()


def _publish(w: _Writer, count: Value, grain: Value, others: Value) -> None:
    """Say what is to be done, open the gate, and wake who sleeps."""
    b = w.b
    b.store(Value("%function", PTR), w.at(_FUNCTION), 8)
    b.store(Value("%closure", PTR), w.at(_CLOSURE), 8)
    b.store(count, w.at(_COUNT), 8)
    parts = b.op("mul", b.op("mul", b.op("add", others, _ONE), Value(str(_CHUNKS), I64)), grain)
    grains = b.op("sdiv", b.op("sub", b.op("add", count, parts), _ONE), parts)
    b.store(b.op("mul", grains, grain), w.at(_CHUNK), 8)
    w.put(_ZERO, _NEXT)
    job = b.op("lshr", w.see(_GATE), Value("32", I64))
    following = b.op("shl", b.op("add", job, _ONE), Value("32", I64))
    w.put(b.op("or", following, _ONE), _GATE)
    w.b.split(b.compare("sgt", w.see(_SLEEPING), _ZERO), "wake", "told.quietly")
    w.b.label("told.quietly")
    w.b.jump("told")
    w.b.label("wake")
    w.call("pthread_mutex_lock", w.at(_MUTEX))
    w.call("pthread_cond_broadcast", w.at(_CONDITION))
    w.call("pthread_mutex_unlock", w.at(_MUTEX))
    w.b.jump("told")
    w.b.label("told")
