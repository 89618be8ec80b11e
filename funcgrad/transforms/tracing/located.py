"""The walk back, line by line: where in the forward pass each pullback belongs, and whether it makes a NaN."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, final

from funcgrad.core.errors import NaNError, SourceLine, pulling_back
from funcgrad.core.primitive import Cotangent, Masked, Wanted
from funcgrad.core.trace import Var
from funcgrad.core.types import Array
from funcgrad.core.watch import Watch


@final
class Located:
    """A walk back through records whose lines are known.

    Args:
        lines: The line of each variable.
        watch: What is watched for, if anything.
        table: The cotangents as they come to be, by variable.
        origin: What messages call a variable that is an argument.
    """

    def __init__(
        self,
        lines: Mapping[Var, SourceLine | None],
        watch: Watch | None,
        table: Mapping[Var, Cotangent],
        origin: Callable[[Var], str],
    ) -> None:
        self._lines = lines
        self._origin = origin
        self._table = table
        self.watch = watch if watch is not None and watch.numbers else None
        # as long as no cotangent was spoiled by what it was made of, one that is spoiled is so by summation
        self.clean = not any(self._spoiled(g) for g in table.values())

    def back(self, records: Iterable[Any]) -> Iterator[Any]:
        """The records, each with a primitive whose pullback runs at its line."""
        for primitive, inputs, saved, out in records:
            outs = out if out.__class__ is tuple else (out,)
            line = self._lines.get(outs[0]) if outs else None
            for var in outs:
                self._check_sum(var, line, f"the result of {primitive.name}")
            yield _Step(self, primitive, None if line is None else line.pulled_back(primitive.name)), inputs, saved, out
        for var in self._table:
            self._check_sum(var, None, "")

    def _spoiled(self, g: Cotangent | None) -> str | None:
        return None if self.watch is None or g is None else self.watch.spoils(g)

    def _check_sum(self, var: Var, line: SourceLine | None, of: str) -> None:
        if self.clean and (found := self._spoiled(self._table.get(var))):
            raise NaNError(
                f"the sum of the cotangents of {of or self._origin(var)} gives {found} in the backward pass",
                "debug_infs() finds the infinities that it is a sum of",
                line,
            )

    def checked(
        self, name: str, cts: tuple[Cotangent | None, ...], g: Any, saved: tuple[Array, ...], line: SourceLine | None
    ) -> tuple[Cotangent | None, ...]:
        """The cotangents that a pullback has made, once they have been looked at."""
        if self.watch is not None:
            self.watch.check_pullback(name, cts, g, saved, line)
            self.clean = self.clean and not any(map(self._spoiled, cts))
        return cts


@final
class _Step:
    """A primitive of a record, with a pullback that knows its line."""

    __slots__ = ("_line", "_primitive", "_walk", "residuals")

    def __init__(self, walk: Located, primitive: Any, line: SourceLine | None) -> None:
        self._walk = walk
        self._primitive = primitive
        self._line = line
        self.residuals = primitive.residuals

    def vjp(self, wanted: Wanted, g: Any, *saved: Array) -> tuple[Cotangent | None, ...]:
        """The pullback."""
        return self._run(self._primitive.vjp, wanted, g, saved)

    def vjp_masked(self, wanted: Wanted, g: Masked, *saved: Array) -> tuple[Cotangent | None, ...]:
        """The pullback of a masked cotangent."""
        return self._run(self._primitive.vjp_masked, wanted, g, saved)

    def _run(self, rule: Any, wanted: Wanted, g: Any, saved: tuple[Array, ...]) -> tuple[Cotangent | None, ...]:
        line = self._line
        cts = rule(wanted, g, *saved) if line is None else pulling_back(line, rule, wanted, g, *saved)
        return self._walk.checked(self._primitive.name, cts, g, saved, line)
