"""The peak memory of a gradient, beside what the values that it has to save need.

A chain of 200 steps is differentiated in a process of its own, twice, so that garbage of the first call that
only the cyclic collector would free shows up in the second. NumPy reports its arrays to tracemalloc, which
counts them exactly.
"""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.libraries import load

STEPS = 200

# Each step has to save one array: the argument of sin. A product with a constant needs nothing.
CHAINS: Mapping[str, Callable[[Any, Any], Any]] = {
    "sin(x)": lambda xp, x: xp.sin(x),
    "sin(x) * 1.01": lambda xp, x: xp.sin(x) * 1.01,
}


def peak_ratio(library: str, chain: str, n: int) -> float:
    """Peak memory of the gradient of `chain` on `n` values, over that of the saved values."""
    command = [sys.executable, "-m", "benchmarks.memory", library, chain, str(n)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout) / (STEPS * n * np.dtype(np.float64).itemsize)


def _peak(library: str, chain: str, n: int) -> int:
    """Bytes at the peak; the input, which is the first saved value, counts."""
    chosen, step = load(library), CHAINS[chain]

    def f(x: Any) -> Any:
        for _ in range(STEPS):
            x = step(chosen.xp, x)
        return chosen.xp.sum(x)

    gradient = chosen.grad(f)
    gradient(np.ones(1))  # caches fill now
    tracemalloc.start()
    x = np.linspace(0.1, 0.9, n)
    tracemalloc.reset_peak()
    gradient(x)
    gradient(x)
    return tracemalloc.get_traced_memory()[1]


if __name__ == "__main__":
    print(_peak(sys.argv[1], sys.argv[2], int(sys.argv[3])))
