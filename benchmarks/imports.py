"""How long it takes to import each library, beyond NumPy, in fresh processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

from benchmarks.libraries import is_installed

STATEMENTS: Mapping[str, str] = {
    "funcgrad": "import funcgrad, funcgrad.numpy",
    "autograd": "import autograd, autograd.numpy",
    "jax": "import jax, jax.numpy",
    "torch": "import torch",
}

_PROGRAM = """
from time import perf_counter
import numpy
start = perf_counter()
{statement}
print(perf_counter() - start)
"""


def import_times(rounds: int) -> dict[str, float]:
    """The best of some alternating imports, in seconds; one more, which is not counted, fills the caches."""
    installed = [name for name in STATEMENTS if is_installed(name)]
    samples: dict[str, list[float]] = {name: [] for name in installed}
    for _ in range(1 + rounds):
        for name in installed:
            samples[name].append(_import_time(STATEMENTS[name]))
    return {name: min(seconds[1:]) for name, seconds in samples.items()}


def _import_time(statement: str) -> float:
    command = [sys.executable, "-c", _PROGRAM.format(statement=statement)]
    # as on a user's machine, where the bytecode is cached
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return float(result.stdout)
