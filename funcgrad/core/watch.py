"""Watching a computation: for the first NaN, for the first infinity, for traced values that outlive their trace.

A trace asks once, when it begins, whether somebody watches; a compiled program, each time it is run. Nobody else
pays for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from funcgrad.core import config
from funcgrad.core.errors import NaNError, SourceLine
from funcgrad.core.kinds import IndexMap, Program
from funcgrad.core.primitive import Cotangent, plain
from funcgrad.core.trace import Tracer
from funcgrad.core.types import Array, is_inexact


@final
@dataclass(frozen=True, slots=True)
class Watch:
    """What is watched for."""

    nans: bool = False
    infs: bool = False
    leaks: bool = False

    def check(self, primitive: Any, ys: Sequence[Any], xs: Sequence[Array], line: SourceLine | None) -> None:
        """Raise if an operation has made a NaN, or an infinity, of numbers that are neither.

        Args:
            primitive: The operation.
            ys: All its results.
            xs: Its operands.
            line: The line of user code that it comes from.
        """
        # a program has watched its own operations; what moves elements and what only holds an array makes none
        if not self.numbers or not xs or isinstance(primitive, IndexMap | Program):
            return
        pulled = line.pulled if line is not None else ()
        inputs = dict(zip(_letters(len(xs)), xs, strict=True))
        for y in ys:
            self._look(primitive.name + _within(pulled), y, inputs, line, bool(pulled))

    def check_pullback(
        self, name: str, cts: Sequence[Cotangent | None], g: Any, saved: Sequence[Array], line: SourceLine | None
    ) -> None:
        """The same for a pullback, which has made these cotangents of `g` and of what was saved for it."""
        if not self.numbers:
            return
        letters = ("g", "y", *_letters(len(saved) - 1))
        inputs: dict[str, Array] = {}
        for letter, x in zip(letters, (g, *saved), strict=False):
            parts = x if isinstance(x, tuple) else (x,)
            inputs.update({f"{letter}[{i}]" if isinstance(x, tuple) else letter: plain(p) for i, p in enumerate(parts)})
        what = f"the pullback of {name}{_within(line.pulled[:-1] if line is not None else ())}"
        for ct in cts:
            self._look(what, plain(ct), inputs, line, True)

    @property
    def numbers(self) -> bool:
        """True if it watches for numbers."""
        return self.nans or self.infs

    def spoils(self, x: Cotangent) -> str | None:
        """What there is among the numbers of `x` that is watched for; None if there is nothing."""
        numbers = _numbers(plain(x))
        return (
            None if numbers is None else next((name for name, bad, _ in self._sought() if np.any(bad(numbers))), None)
        )

    def _sought(self) -> Iterator[tuple[str, Callable[[Any], Any], Callable[[Any], Any]]]:
        """What is sought: its name, where it is, and where an operand excuses it."""
        if self.nans:
            yield "NaN", np.isnan, np.isnan
        if self.infs:
            yield "an infinity", np.isinf, _not_finite

    def _look(self, what: str, y: Any, inputs: dict[str, Array], line: SourceLine | None, backward: bool) -> None:
        y = _numbers(y)
        if y is None:
            return
        for found, bad, excused in self._sought():
            where = np.asarray(bad(y))
            if where.any():
                numbers = [x for x in map(_numbers, inputs.values()) if x is not None]
                if not any(np.any(excused(x)) for x in numbers):
                    infinite = any(np.any(np.isinf(x)) for x in numbers)
                    raise NaNError(
                        f"{what} gives {found}{_place(where, inputs, backward)}",
                        "debug_infs() finds where the infinity comes from"
                        if infinite
                        else "keep such points out before the operation: x = where(x > 0, x, 1.0)",
                        line,
                    )


def _not_finite(x: Any) -> Any:
    return ~np.isfinite(x)


def _letters(count: int) -> list[str]:
    return ["x"] if count == 1 else [f"x{i}" for i in range(1, count + 1)]


def _within(pulled: Sequence[str]) -> str:
    return "".join(f", in the pullback of {name}" for name in reversed(pulled)) + ("," if pulled else "")


def _value(x: Any) -> Any:
    """The plain value behind `x`, of a whole batch where `x` is one example; None if only its type is known."""
    while isinstance(x, Tracer):
        x = x.tracing.numbers(x.variable) if x.value is None else x.value
    return x


def _numbers(x: Any) -> Any:
    """The plain array of inexact numbers that is behind `x`; None if there is none."""
    x = _value(x)
    if isinstance(x, float | complex):
        return x
    return x if isinstance(x, np.ndarray | np.generic) and is_inexact(x.dtype) else None


def _place(where: Any, inputs: dict[str, Array], backward: bool) -> str:
    """Where the first bad number is, in which pass, and of what it was made."""
    count = np.count_nonzero(where)
    place = tuple(map(int, np.argwhere(where)[0]))
    text = f" in {count} of {where.size} elements" if where.size > 1 else ""
    text += f" in the {'backward' if backward else 'forward'} pass"
    if place:
        text += f", first at {list(place)}" if count > 1 else f", at {list(place)}"
    operands = {letter: np.asarray(_value(x)) for letter, x in inputs.items() if _value(x) is not None}
    values = [
        f"{letter} = {x[place] if x.shape else x}" for letter, x in operands.items() if x.shape in ((), where.shape)
    ]
    return text + (f", where {', '.join(values)}" if values else "")


_all = Watch(config.DEBUG_NANS, config.DEBUG_INFS, config.CHECK_TRACER_LEAKS)
WATCH: ContextVar[Watch | None] = ContextVar("funcgrad_watch", default=None if _all == Watch() else _all)
"""What is watched for here; None for nothing."""


watching = WATCH.get
"""Ask for that."""


@contextmanager
def also_watching(**what: bool) -> Iterator[None]:
    """Watch for something more within the block, in this thread."""
    token = WATCH.set(replace(WATCH.get() or Watch(), **what))
    try:
        yield
    finally:
        WATCH.reset(token)
