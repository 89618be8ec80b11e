"""Fair times: the contenders take turns in one process, and each keeps its best sample.

A sample repeats a call often enough to last some milliseconds, with the garbage collector off; the garbage is
collected between the samples. The best sample is the one that other programs disturbed least.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import repeat
from time import perf_counter
from typing import Any


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard to try: rounds, seconds of a sample at least, and of all samples of one contender at most."""

    rounds: int
    sample: float
    limit: float


FULL = Effort(rounds=60, sample=0.005, limit=2.0)
QUICK = Effort(rounds=10, sample=0.003, limit=0.3)


def best_times(calls: Mapping[str, Callable[[], Any]], effort: Effort) -> dict[str, float]:
    """Seconds per call of each contender."""
    names = list(calls)
    repeats = {name: _repeats(calls[name], effort.sample) for name in names}
    best = dict.fromkeys(names, math.inf)
    spent = dict.fromkeys(names, 0.0)
    for turn in range(effort.rounds):
        for name in _order(names, turn):
            if spent[name] < effort.limit:
                seconds = _sample(calls[name], repeats[name])
                spent[name] += seconds
                best[name] = min(best[name], seconds / repeats[name])
    return best


def _order(names: list[str], turn: int) -> list[str]:
    """Another beginning and another direction each turn, so that nobody always follows the same one."""
    first = turn % len(names)
    order = names[first:] + names[:first]
    return order[::-1] if turn % 2 else order


def _repeats(call: Callable[[], Any], least: float) -> int:
    """How many calls take at least `least` seconds, after two that make what later ones use."""
    call()
    call()
    count = 1
    while (seconds := _sample(call, count)) < least / 2:
        count *= 2
    return math.ceil(count * max(1.0, least / seconds))


def _sample(call: Callable[[], Any], count: int) -> float:
    gc.collect()
    gc.disable()
    try:
        start = perf_counter()
        for _ in repeat(None, count):
            call()
        return perf_counter() - start
    finally:
        gc.enable()
