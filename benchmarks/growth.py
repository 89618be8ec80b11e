"""What the gradient of a loop costs as the loop gets longer, and what `checkpoint` saves and costs.

Memory is counted by tracemalloc, in a process of its own for each figure; see `memory.py`.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks.problems import link
from benchmarks.programs import JIT, installed_tools, rnn
from benchmarks.timing import Effort, best_times

SHORT, LONG = 1_000, 4_000  # steps
BLOCKS, VALUES = 64, 50_000


@dataclass(frozen=True, slots=True)
class LoopGrowth:
    """Of the gradient of a scan: ratios of 4,000 steps to 1,000, and the equations of its jaxpr at both."""

    time: float
    memory: float
    equations: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Checkpointing:
    """Of a chain of 64 blocks: how many times less memory its gradient needs, and how many more forward passes."""

    memory: float
    forward_passes: float


def loop_growth(effort: Effort) -> LoopGrowth:
    """The growth of the gradient of a recurrent network by scan, as a jitted function."""
    calls = {str(steps): _rnn(steps) for steps in (SHORT, LONG)}
    times = best_times(calls, effort)
    return LoopGrowth(
        times[str(LONG)] / times[str(SHORT)],
        _peak_in_process("scan", LONG) / _peak_in_process("scan", SHORT),
        (_equations(SHORT), _equations(LONG)),
    )


def checkpointing(effort: Effort, *, jit: bool) -> Checkpointing:
    """The memory, and the time, of the chain's gradient, with `checkpoint` for each block and without."""
    effort = replace(effort, limit=2 * effort.limit)  # few calls are as slow as these
    times = best_times({kind: _chain(kind, jit, VALUES) for kind in ("forward", "plain", "checkpoint")}, effort)
    peaks = [_peak_in_process(f"{kind} jit" if jit else kind, VALUES) for kind in ("plain", "checkpoint")]
    return Checkpointing(peaks[0] / peaks[1], (times["checkpoint"] - times["plain"]) / times["forward"])


def _rnn(steps: int) -> partial[Any]:
    problem, tools = rnn(steps), installed_tools()[JIT]
    gradient = tools.compile(partial(problem.f, tools))
    return partial(gradient, *problem.args)


def _equations(steps: int) -> int:
    """The equations of the gradient's jaxpr, with those of the jaxprs within."""
    problem, tools = rnn(steps), installed_tools()[JIT]
    jaxpr = importlib.import_module("funcgrad").make_jaxpr(partial(problem.f, tools))(*problem.args)
    return str(jaxpr).count(" = ")


def _chain(kind: str, jit: bool, n: int) -> partial[Any]:
    """A chain of 64 blocks of 12 operations, or its gradient, as it is or with `checkpoint` for each block."""
    fg, xp = importlib.import_module("funcgrad"), importlib.import_module("funcgrad.numpy")
    block: Callable[[Any], Any] = partial(link, xp)
    if kind == "checkpoint":
        block = fg.checkpoint(block)

    def chain(x: Any) -> Any:
        for _ in range(BLOCKS):
            x = block(x)
        return xp.sum(x)

    f = chain if kind == "forward" else fg.grad(chain)
    return partial(fg.jit(f) if jit else f, np.linspace(0.1, 0.9, n))


def _peak_in_process(what: str, n: int) -> int:
    command = [sys.executable, "-m", "benchmarks.growth", *what.split(), str(n)]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _peak(what: list[str], n: int) -> int:
    """Bytes at the peak of the second call, and those that machine code works in, which are there from the first."""
    call = _rnn(n) if what == ["scan"] else _chain(what[0], "jit" in what, n)
    call()
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    if not hasattr(call.func, "lower"):
        return peak
    return peak + int(call.func.lower(*call.args).compile().memory_analysis().temp_size_in_bytes)


if __name__ == "__main__":
    print(_peak(sys.argv[1:-1], int(sys.argv[-1])))
