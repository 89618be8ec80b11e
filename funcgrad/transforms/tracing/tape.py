"""The tape: the trace with values that `vjp` and `grad` record, and the walk back over it.

Going forward, each operation on tracers computes its value at once and appends one record, which keeps just the
values that the operation's rule will read. Going backward, each record turns the cotangent of its result into
cotangents of its inputs, and those of one variable are summed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn, cast

import numpy as np

from funcgrad.core import config
from funcgrad.core.errors import HeldArrayError, LeakedTracerError, SourceLine, user_line
from funcgrad.core.primitive import (
    Cotangent,
    Differentiable,
    LazyCotangent,
    Masked,
    Primitive,
    Structured,
    plain,
)
from funcgrad.core.trace import Trace, Tracer, Var, concrete, taken_over
from funcgrad.core.types import Array, is_inexact, plain_array, show_long, type_of
from funcgrad.core.watch import watching
from funcgrad.transforms.tracing.hold import Holder
from funcgrad.transforms.tracing.located import Located

_NUMBERS = frozenset({bool, int, float, complex, *np.sctypeDict.values()})
# The hot path makes its objects without a call of their initializer: an eighth of what an operation costs.
_new = object.__new__
# what stands where the records of a finished trace were: it has no append, and so a late tracer is noticed for free
_FINISHED = cast(list[Any], None)


class Record(NamedTuple):
    """One application of a primitive, as its pullback needs it: `primitive.vjp(inputs, g, *saved)`."""

    primitive: Primitive | Differentiable
    inputs: list[Var | None]
    saved: list[Array]
    out: Any


class Tape(Trace):
    """A trace that computes values and records how.

    Args:
        name: What error messages call it, such as `grad(loss)`.
        tracer: The class of its tracers.
        describe: What error messages call the input of this number.
    """

    __slots__ = ("_describe", "_inputs", "held", "lines", "nested", "records", "tracer", "watch")

    def __init__(self, name: str, tracer: type[Tracer], describe: Callable[[int], str]) -> None:
        super().__init__(name)
        self.tracer = tracer
        self.records: list[Record] = []
        self._inputs: list[Var | None] = []
        self._describe = describe
        self.held = Holder()
        # True once a value on this tape is a tracer of an outer transformation
        self.nested = False
        self.watch = watching()
        self.lines: dict[Var, SourceLine | None] | None = {} if config.CHECK or self.watch is not None else None

    def enter(self, x: Array) -> Tracer:
        """A tracer for the next input."""
        if x.__class__ is np.ndarray:
            var = Var(x.shape, x.dtype)
        else:
            x = x if x.__class__ in _NUMBERS or isinstance(x, Tracer) else plain_array(x)
            t = type_of(x)
            var = Var(t.shape, t.dtype, t.weak)
            if isinstance(x, Tracer):
                self.nested = True
                if self.lines is None and concrete(x) is None:
                    # what is staged is written down with its lines, the walk back too
                    self.lines = {}
        self._inputs.append(var)
        return self.tracer(self, var, x)

    def skip(self) -> None:
        """Count an input that is not traced."""
        self._inputs.append(None)

    def apply(self, primitive: Primitive, args: tuple[Array, ...]) -> Any:
        """Compute, and record how."""
        inputs: list[Var | None] = []
        saved: list[Array] = []
        constant = False
        for x in args:
            if isinstance(x, Tracer):
                if x.tracing is self:
                    inputs.append(x.variable)
                    saved.append(x.value)
                    continue
                if x.tracing.level > self.level:
                    return x.tracing.apply(primitive, args)
                self.nested = True
            elif x.__class__ is np.ndarray:
                constant = True
            elif x.__class__ not in _NUMBERS:
                x = plain_array(x)
                constant = True
            inputs.append(None)
            saved.append(x)
        if self.nested:
            branch = taken_over(self, primitive)
            if branch is not None and any(isinstance(x, Tracer) and concrete(x) is None for x in saved):
                return branch.apply(primitive, args)
        if primitive.residuals:
            return self.record(primitive, inputs, saved)
        if self.nested:
            y = primitive(*saved)
        else:
            try:
                y = primitive.impl(*saved)
            except (ValueError, TypeError, IndexError) as error:
                primitive.explain(error, saved)
        if primitive.constant:
            return y
        if primitive.multiple:
            return self._record_multiple(primitive, inputs, saved, y)
        out = _new(Var)
        try:
            out.shape = y.shape
            out.dtype = y.dtype
            out.weak = self.nested and isinstance(y, Tracer) and y.weak
        except AttributeError:  # a Python number
            out = Var((), type_of(y).dtype, True)
        if self.lines is not None:
            self._note(primitive, (out,), (y,), saved)
        saved.insert(0, y)
        for place in primitive.unread(inputs):
            saved[place] = None
        if constant:
            self._hold(inputs, saved)
        try:
            self.records.append((primitive, inputs, saved, out))  # type: ignore[arg-type]  # a plain tuple is made faster
        except AttributeError:
            self._refuse_leak(primitive, inputs)
        tracer = _new(self.tracer)
        tracer.tracing = self
        tracer.variable = out
        tracer.value = y
        return tracer

    def _record_multiple(
        self, primitive: Primitive, inputs: list[Var | None], saved: list[Array], ys: tuple[Array, ...]
    ) -> tuple[Tracer, ...]:
        args = list(saved)
        saved.insert(0, ys)
        for place in primitive.unread(inputs):
            saved[place] = None
        self._hold(inputs, saved)
        outs = tuple(Var(y.shape, y.dtype) for y in ys)
        if self.lines is not None:
            self._note(primitive, outs, ys, args)
        if self.records is _FINISHED:
            self._refuse_leak(primitive, inputs)
        self.records.append(Record(primitive, inputs, saved, outs))
        return tuple(self.tracer(self, out, y) for out, y in zip(outs, ys, strict=True))

    def record(self, primitive: Differentiable, inputs: list[Var | None], args: list[Array]) -> tuple[Array, ...]:
        """Compute by the forward rule, and record. Results that carry no derivative stay untraced.

        `inputs` are the variables of the arguments that this tape traces, `args` the values of all.
        """
        wanted = [None if v is None or not is_inexact(v.dtype) else v for v in inputs]
        if all(w is None for w in wanted):
            return primitive(*args)
        ys, residuals = primitive.forward(wanted, *args)
        if self.records is _FINISHED:
            self._refuse_leak(primitive, inputs)
        kept = {id(r) for r in residuals}
        for var, x in zip(inputs, args, strict=True):
            if var is None and isinstance(x, np.ndarray) and id(x) in kept:
                self.held.hold(x)
        variables = tuple(Var(t.shape, t.dtype, t.weak) for t in map(type_of, ys))
        if self.lines is not None:
            self._note(primitive, variables, ys, args)
        self.records.append(Record(primitive, wanted, list(residuals), variables))
        return tuple(
            self.tracer(self, var, y) if is_inexact(var.dtype) else y for var, y in zip(variables, ys, strict=True)
        )

    def _note(
        self, primitive: Differentiable | Primitive, outs: Sequence[Var], ys: Sequence[Array], args: Sequence[Array]
    ) -> None:
        """Remember the line of an operation, and look at what it gives."""
        assert self.lines is not None
        line = user_line()
        self.lines.update(dict.fromkeys(outs, line))
        # within a pullback, a NaN may be masked before it is done
        if self.watch is not None and line is not None and not line.pulled:
            self.watch.check(primitive, ys, args, line)

    def backwards(self, records: Iterable[Record], cotangents: Cotangents) -> Iterable[Record]:
        """The records in the order of the walk back, with pullbacks that know their lines if the tape does."""
        watch = watching()
        if self.lines is None and watch is None:
            return records
        return Located(self.lines or {}, watch, cotangents.table, self.origin).back(records)

    def _hold(self, inputs: list[Var | None], saved: list[Array]) -> None:
        """Hold the constants that the backward pass will read."""
        for var, x in zip(inputs, saved[1:], strict=True):
            if var is None and isinstance(x, np.ndarray):
                self.held.hold(x)

    def detach(self, records: list[Record]) -> None:
        """Replace the constants that are held by copies, so that the records outlive the call."""
        if not self.held:
            return
        copies: dict[int, Array] = {}
        for _, _, saved, _ in records:
            for place, x in enumerate(saved):
                if self.held.holds(x):
                    saved[place] = copies.setdefault(id(x), x.copy())

    def explain(self, error: ValueError) -> None:
        """Raise the user's error, if NumPy has refused to write into an array that is held."""
        at = error.__traceback__
        if not self.held or "read-only" not in str(error) or at is None:
            return
        while at.tb_next is not None:
            at = at.tb_next
        raise HeldArrayError(
            f"{self.name}: the function writes into an array that it has used before: "
            "the backward pass still needs what was in it",
            "make a new array: buffer = buffer + 1 instead of buffer += 1, or use a copy: x * buffer.copy()",
            SourceLine(at.tb_frame.f_code, at.tb_lasti),
        ) from error

    @property
    def finished(self) -> bool:
        """True once the traced function has returned."""
        return self.records is _FINISHED

    def finish(self) -> list[Record]:
        """End the trace and hand over what it recorded; a tracer that is used from now on has leaked."""
        records = self.records
        self.records = _FINISHED
        return records

    def _refuse_leak(self, primitive: Primitive | Differentiable, inputs: list[Var | None]) -> NoReturn:
        leaked = next(var for var in inputs if var is not None)
        made = "" if self.lines is None else f", at {self.lines.get(leaked) or 'its entry'}"
        raise LeakedTracerError(
            f"a {show_long(leaked)} that was created while {self.name} was being traced{made}, "
            f"is used in {primitive.name} after the tracing has ended",
            "return the value from the function instead of storing it elsewhere: has_aux=True passes extra results out"
            + ("; FUNCGRAD_CHECK=1 in the environment shows the line that made it" if self.lines is None else ""),
        )

    def line(self, var: Var) -> SourceLine | None:
        """The line of user code that made `var`, as far as the trace remembers."""
        return None if self.lines is None else self.lines.get(var)

    def origin(self, var: Var) -> str:
        """The inputs that `var` depends on, as error messages call them."""
        reached = {var}
        for _, inputs, _, out in reversed(self.records or []):
            if not reached.isdisjoint(out if isinstance(out, tuple) else (out,)):
                reached.update(v for v in inputs if v is not None)
        return ", ".join(self._describe(i) for i, v in enumerate(self._inputs) if v in reached)


class Cotangents:
    """The cotangents of a backward pass, by variable; those of one variable are summed as they arrive.

    The sum of two goes into a fresh buffer, which belongs to the pass: whatever arrives later is added in place.
    """

    __slots__ = ("_owned", "table")

    def __init__(self) -> None:
        self.table: dict[Var, Cotangent] = {}
        self._owned: set[Var] = set()

    def add(self, var: Var, g: Cotangent) -> None:
        """Add `g` to the cotangent of `var`."""
        before = self.table.get(var)
        if before is None:
            self.table[var] = g
        elif isinstance(before, Structured) or isinstance(g, Structured):
            self.table[var] = _sum(before, g)
            self._owned.discard(var)
        elif var in self._owned and type(before) is np.ndarray and not isinstance(g, Tracer):
            np.add(before, g, out=before)
        else:
            self.table[var] = before + g
            self._owned.add(var)

    def take(self, var: Var) -> tuple[Array | None, bool]:
        """The finished cotangent of an input, and whether its buffer belongs to this pass alone."""
        g = self.table.pop(var, None)
        return (plain(g) if isinstance(g, Structured) else g), var in self._owned

    def walk_back(self, records: Iterable[Record]) -> None:
        """Carry the cotangents of the outputs back through `records`, which come in reverse order."""
        table = self.table
        for primitive, inputs, saved, out in records:
            if out.__class__ is tuple:
                take = _dense if primitive.residuals else plain
                g: Any = tuple([take(table.pop(v, None)) for v in out])
                if all(part is None for part in g):
                    continue
            else:
                g = table.pop(out, None)
                if g is None:
                    continue
            if g.__class__ is not np.ndarray and isinstance(g, Structured):
                g = g.dense()
                rule: Any = primitive.vjp_masked if type(g) is Masked else primitive.vjp  # type: ignore[union-attr]  # what has several results takes a tuple of cotangents
                cts = rule(inputs, g, *saved)
            else:
                cts = primitive.vjp(inputs, g, *saved)
            for var, ct in zip(inputs, cts):  # noqa: B905  # `strict` costs, and there is one for each
                if ct is not None:
                    if var in table:
                        self.add(var, ct)
                    else:
                        table[var] = ct  # type: ignore[index]  # there is no cotangent where there is no variable


def _dense(g: Cotangent | None) -> Cotangent | None:
    return g.dense() if isinstance(g, Structured) else g


def _sum(a: Cotangent, b: Cotangent) -> Cotangent:
    lazy, other = (a, b) if isinstance(a, LazyCotangent) else (b, a)
    if isinstance(lazy, LazyCotangent):
        total = lazy.plus(other)
        if total is not None:
            return total
    a = a.dense() if isinstance(a, Structured) else a
    b = b.dense() if isinstance(b, Structured) else b
    if isinstance(a, Masked) and isinstance(b, Masked):
        return Masked(a.value + b.value, a.mask | b.mask)
    return plain(a) + plain(b)


def released(records: list[Record]) -> Iterator[Record]:
    """The records in reverse order, each let go of as soon as it has been used."""
    last = cast(Record, None)
    records.insert(0, last)
    return iter(records.pop, last)
