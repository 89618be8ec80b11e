"""Holding arrays: what a backward pass will read is read-only until it is over.

The tape refers to the user's plain arrays instead of copying them, so writing into one of them in the meantime would
give a wrong gradient without a word. While an array is held, NumPy refuses the write. Several tapes, in one thread or
in many, may hold one array, or views of it: it is given back when the last of them lets go. That count is the one
thing that tapes share.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

NDArray = np.ndarray[Any, Any]

_lock = threading.Lock()
# by id: the array, and how many tapes hold it
_held: dict[int, tuple[NDArray, int]] = {}


class Holder:
    """The arrays that one tape holds."""

    __slots__ = ("_mine",)

    def __init__(self) -> None:
        self._mine: dict[int, NDArray] = {}

    def __bool__(self) -> bool:
        return bool(self._mine)

    def hold(self, x: NDArray) -> None:
        """Make `x` and what it is a view of read-only, as far as they are not."""
        if id(x) in self._mine:
            return
        with _lock:
            part: Any = x
            while isinstance(part, np.ndarray) and id(part) not in self._mine:
                _, count = _held.get(id(part), (part, 0))
                if count or part.flags.writeable:
                    part.flags.writeable = False
                    _held[id(part)] = (part, count + 1)
                    self._mine[id(part)] = part
                part = part.base

    def holds(self, x: Any) -> bool:
        """True if `x`, or what it is a view of, is held here."""
        while isinstance(x, np.ndarray):
            if id(x) in self._mine:
                return True
            x = x.base
        return False

    def release(self) -> None:
        """Let go. What nobody holds any more becomes writeable again, a base before its views."""
        if not self._mine:
            return
        with _lock:
            for key in self._mine:
                x, count = _held[key]
                _held[key] = (x, count - 1)
            self._mine.clear()
            for key in [key for key, (_, count) in _held.items() if not count]:
                _give_back(key)


def _give_back(key: int) -> None:
    x, count = _held.get(key, (None, 1))
    if x is None or count:
        return
    base = x.base
    if isinstance(base, np.ndarray):
        _give_back(id(base))
        if id(base) in _held:
            return  # a view stays read-only until its base is given back
    x.flags.writeable = True
    del _held[key]
