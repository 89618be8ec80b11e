"""What is derived from jaxprs (halves, batched programs) is kept for the next time, until `clear_caches`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

from funcgrad.core.ir import with_outputs

P = ParamSpec("P")
R = TypeVar("R")

_clears: list[Callable[[], None]] = [with_outputs.cache_clear]


def derived(f: Callable[P, R]) -> Callable[P, R]:
    """Decorator: the same arguments give the same object again."""
    cached = functools.lru_cache(maxsize=4096)(f)
    _clears.append(cached.cache_clear)
    return cast(Callable[P, R], cached)


def forget_derived() -> None:
    """Empty all these caches."""
    for clear in _clears:
        clear()
