"""Measures the rows in one process, for `compiled.py`, which has bound it to some cores.

A first call is that of a function that is new to both libraries, after other functions have been compiled. Then the
compiled functions take turns; of several rounds of turns the best times are taken, and of these the median. What is
measured goes to the standard output, one line of JSON for each row.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.compiled_problems import Compiler, Work, chain_sum
from benchmarks.compiled_rows import F32, CompiledRow, chosen
from benchmarks.libraries import is_installed, load, unchanged
from benchmarks.timing import Effort, best_times

FUNCGRAD, JAX, FUNCTION, BLAS, COPY = "funcgrad", "jax", "function", "blas", "copy"
LARGE = 4_000_000  # bytes of arguments from which on memory is measured

Call = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Rounds:
    """How hard to try: rounds of turns, the effort of each, first calls, and the seconds that they may take."""

    count: int
    effort: Effort
    first: int
    seconds: float


FULL = Rounds(3, Effort(rounds=8, sample=0.004, limit=0.08), first=3, seconds=0.6)
QUICK = Rounds(1, Effort(rounds=5, sample=0.003, limit=0.05), first=1, seconds=0.1)


@dataclass(slots=True)
class Figures:
    """Of one row: seconds of the first call and of later ones, bytes at the peak of a call, and what is wrong."""

    first: dict[str, float] = field(default_factory=dict)
    warm: dict[str, float] = field(default_factory=dict)
    peak: dict[str, int] = field(default_factory=dict)
    wrong: str = ""


def main(text: str, quick: bool) -> None:
    libraries = compilers()
    for lib in libraries.values():
        for gradient in (False, True):  # what is imported late is imported now
            Contender(lib, chain_sum(np.float64, 5), gradient).first_call()
    for row in chosen(text):
        figures = measure(row, libraries, QUICK if quick else FULL)
        print(json.dumps({"row": row.name, **asdict(figures)}), flush=True)


def compilers() -> dict[str, Compiler]:
    """The libraries that are installed, by name."""
    loaders = {FUNCGRAD: _funcgrad, JAX: _jax}
    return {name: loader() for name, loader in loaders.items() if is_installed(name)}


def _funcgrad() -> Compiler:
    fg, lax = importlib.import_module("funcgrad"), importlib.import_module("funcgrad.lax")
    xp, nn = importlib.import_module("funcgrad.numpy"), importlib.import_module("funcgrad.nn")
    return Compiler(FUNCGRAD, xp, lax, nn, fg.jit, fg.grad, fg.at, unchanged, unchanged, fg.clear_caches)


def _jax() -> Compiler:
    library = load("jax jit")  # set up for 64 bits
    jax = importlib.import_module("jax")
    assert library.wait is not None
    # its caches are those of each jitted function; the rest, what its NumPy is made of, may stay
    forget = partial(unchanged, None)
    return Compiler(
        JAX, jax.numpy, jax.lax, jax.nn, jax.jit, jax.grad, lambda x: x.at, library.array, library.wait, forget
    )


def map_leaves(f: Callable[[Any], Any], tree: Any) -> Any:
    """Apply `f` to each array of dicts, tuples and lists; numbers stay."""
    if isinstance(tree, dict):
        return {name: map_leaves(f, part) for name, part in tree.items()}
    if isinstance(tree, tuple | list):
        return [map_leaves(f, part) for part in tree]
    return tree if isinstance(tree, int | float) else f(tree)


def leaves(tree: Any) -> Iterator[Any]:
    """The arrays and numbers of a tree."""
    if isinstance(tree, dict):
        tree = [tree[name] for name in sorted(tree)]
    if isinstance(tree, tuple | list):
        for part in tree:
            yield from leaves(part)
    else:
        yield tree


class Contender:
    """A function in a library, or its gradient, and its arguments as arrays of the library."""

    def __init__(self, lib: Compiler, work: Work, gradient: bool) -> None:
        self.lib = lib
        self.args = map_leaves(lib.array, work.args)
        self._work = work
        self._gradient = gradient
        self._jitted = self.new()

    def new(self) -> Any:
        """The jitted function, which the library has never seen."""
        work, lib = self._work, self.lib

        def f(*args: Any) -> Any:
            return work.f(lib, *args)

        return lib.jit(lib.grad(f) if self._gradient else f)

    def first_call(self) -> float:
        """The seconds of a first call."""
        self.lib.forget()
        self._jitted = self.new()
        start = perf_counter()
        self()
        return perf_counter() - start

    def __call__(self) -> Any:
        return self.lib.wait(self._jitted(*self.args))

    def call(self) -> Call:
        """The same with as little around it as can be."""
        jitted, args, wait = self._jitted, self.args, self.lib.wait
        return partial(jitted, *args) if wait is unchanged else lambda: wait(jitted(*args))

    def peak(self) -> int | None:
        """The bytes that a call adds at its peak to what the process has; None where the system does not tell."""
        compiled = self.new().lower(*self.args).compile()
        before = _reset_peak()
        if before is None:
            return None
        y = self.lib.wait(compiled(*self.args))
        after = _memory("VmHWM")
        del y
        return max(0, after - before)


def _memory(name: str) -> int:
    found = re.search(rf"{name}:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    return int(found[1]) * 1024 if found else 0


def _reset_peak() -> int | None:
    """Give back what is free, forget the peak, and say what is in use; None where that cannot be done."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except (OSError, AttributeError):
        return None
    return _memory("VmRSS")


def measure(row: CompiledRow, libraries: Mapping[str, Compiler], how: Rounds) -> Figures:
    """The figures of a row; of a library whose result is wrong there is none."""
    work, figures = row.work(row.dtype), Figures()
    contenders = {name: Contender(lib, work, row.gradient) for name, lib in libraries.items()}
    gc.unfreeze()
    gc.collect()
    gc.freeze()  # what is there now is no garbage of any contender
    for name in list(contenders):
        try:
            contenders[name]()
        except Exception as error:
            figures.wrong = f"{name} raises {type(error).__name__}: {error}"
            del contenders[name]
    if len(contenders) == 2 and (what := _difference(row, *(c() for c in contenders.values()))):
        figures.wrong = f"funcgrad and jax differ {what}"
        return figures
    figures.first = _first_calls(contenders, how)
    calls: dict[str, Call] = {name: c.call() for name, c in contenders.items()}
    calls |= _yardsticks(row, work, libraries)
    rounds = [best_times(calls, how.effort) for _ in range(how.count)]
    figures.warm = {name: median(times[name] for times in rounds) for name in calls}
    if sum(np.asarray(x).nbytes for x in leaves(work.args)) >= LARGE:
        peaks = {name: c.peak() for name, c in contenders.items()}
        figures.peak = {name: n for name, n in peaks.items() if n is not None}
    return figures


def _difference(row: CompiledRow, ours: Any, theirs: Any) -> str:
    """How the results of two libraries differ; "" where they agree."""
    rtol = row.rtol or (2e-4 if row.dtype is F32 else 1e-9)
    for i, (a, b) in enumerate(zip(map(np.asarray, leaves(ours)), map(np.asarray, leaves(theirs)), strict=True)):
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            return f"at {i}: {a.dtype}{list(a.shape)} and {b.dtype}{list(b.shape)}"
        scale = float(np.max(np.abs(b), initial=0.0))
        error = float(np.max(np.abs(a - b), initial=0.0))
        if not error <= rtol * scale:
            return f"at {i} by {error:.2g} of {scale:.2g}"
    return ""


def _first_calls(contenders: Mapping[str, Contender], how: Rounds) -> dict[str, float]:
    """The best first call of each."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(how.first):
        for name in list(contenders)[:: -1 if turn % 2 else 1]:
            if sum(seconds[name]) < how.seconds:
                seconds[name].append(contenders[name].first_call())
    return {name: min(found) for name, found in seconds.items()}


def _yardsticks(row: CompiledRow, work: Work, libraries: Mapping[str, Compiler]) -> dict[str, Call]:
    """What funcgrad's time is compared with: its function, where this is the gradient, a copy, matrix products."""
    calls: dict[str, Call] = {}
    if row.gradient and FUNCGRAD in libraries:
        function = Contender(libraries[FUNCGRAD], work, gradient=False)
        function()
        calls[FUNCTION] = function.call()
    if work.moved:
        calls[COPY] = _copy(work.moved // 2)
    if work.products:
        calls[BLAS] = _products(work.products, row.dtype)
    return calls


def _copy(size: int) -> Call:
    """Copy so many bytes, on all cores."""
    source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)
    cores = available_cores()
    if cores == 1:
        return partial(np.copyto, target, source)
    pool = ThreadPoolExecutor(cores)
    parts = list(zip(np.array_split(target, cores), np.array_split(source, cores), strict=True))

    def copy() -> None:
        wait([pool.submit(np.copyto, *part) for part in parts])

    return copy


def _products(sizes: Sequence[tuple[int, int, int]], dtype: Any) -> Call:
    """The matrix products alone, into memory that is there."""
    operands = [(np.ones((m, k), dtype), np.ones((k, n), dtype), np.empty((m, n), dtype)) for m, k, n in sizes]

    def multiply() -> None:
        for a, b, out in operands:
            np.dot(a, b, out=out)

    return multiply


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] == "quick")
