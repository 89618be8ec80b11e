"""The joint jaxpr: a jaxpr and its backward pass, staged as one program of the inputs and of the cotangents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from funcgrad.compiler.simplify import simplify
from funcgrad.core.errors import SourceLine
from funcgrad.core.ir import Equation, Jaxpr, evaluate
from funcgrad.core.primitive import Cotangent, Masked, Structured, plain
from funcgrad.core.trace import Tracer, staging
from funcgrad.core.types import Array, ArrayType, is_inexact
from funcgrad.ops.array import TracedArray
from funcgrad.transforms.tracing.stage import Stage
from funcgrad.transforms.tracing.tape import Cotangents, Record, Tape

# what is known of the cotangent of an output: there is none, it is an array, or an array and the mask of its zeros
ABSENT, PLAIN, MASKED = 0, 1, 2
Pattern: TypeAlias = tuple[int, ...]


class Joint(NamedTuple):
    """A joint jaxpr, and where in it things are.

    Attributes:
        jaxpr: Its inputs are those of the forward pass, then for each walk back the cotangents and the sums it starts
            from. Its outputs are those of the forward pass, then the cotangents that each walk back arrives at.
        inputs: How many inputs the forward pass has.
        outputs: How many outputs it has.
        sums: How many sums each walk back adds to.
        patterns: For each walk back the pattern of the cotangents it starts from.
        results: For each walk back the pattern of those it arrives at.
    """

    jaxpr: Jaxpr
    inputs: int
    outputs: int
    sums: int
    patterns: list[Pattern]
    results: list[Pattern]


def stage_joint(
    jaxpr: Jaxpr, wanted: Sequence[bool], summed: Sequence[int], patterns: Sequence[Pattern] | None
) -> Joint:
    """Stage the forward pass of `jaxpr`, and the walk back for each of these patterns.

    Without patterns, there is one walk back, with a cotangent for each output that depends on what is wanted.
    """
    forward = _Forward(jaxpr, wanted)
    try:
        forward.run(jaxpr)
        patterns = [forward.full] if patterns is None else list(patterns)
        walks = [forward.walk_back(pattern, summed) for pattern in patterns]
    finally:
        forward.tape.held.release()
    inputs = [*forward.xs, *(g for walk in walks for g in walk.start)]
    outputs = [*forward.values, *(ct for walk in walks for ct in walk.arrays)]
    joint = simplify(forward.stage.finish(inputs, outputs))
    results = [walk.results for walk in walks]
    return Joint(joint, len(forward.xs), len(forward.values), len(summed), patterns, results)


class _Walk(NamedTuple):
    """A walk back: what it starts from, and the cotangents it arrives at."""

    start: list[Tracer]
    results: Pattern
    arrays: list[Array]


class _Forward:
    """The forward pass of a jaxpr, on a tape over a stage."""

    def __init__(self, jaxpr: Jaxpr, wanted: Sequence[bool]) -> None:
        self.stage = Stage("a backward pass", derived=True)
        self.xs = [self.stage.enter(t, lambda: "an input") for t in jaxpr.in_types]
        # made after the stage, so that its tracers are the inner ones
        self.tape = Tape(self.stage.name, TracedArray, lambda number: "an input")
        self._entered = [self.tape.enter(x) if w else None for x, w in zip(self.xs, wanted, strict=True)]
        self._outs: list[Array] = []
        self._records: list[Record] = []
        # for each record the line of user code that it comes from
        self._sources: list[SourceLine | None] = []

    def run(self, jaxpr: Jaxpr) -> None:
        """Evaluate the jaxpr on the tape."""
        args = [x if e is None else e for x, e in zip(self.xs, self._entered, strict=True)]
        with staging(self.stage):
            self._outs = evaluate(jaxpr, args, self._locate)
        self._locate(None)
        self._records = self.tape.finish()

    def _locate(self, equation: Equation | None) -> None:
        """The records since the last equation come from its line; what follows, from that of the next."""
        self._sources += [self.stage.source] * (len(self.tape.records) - len(self._sources))
        self.stage.source = None if equation is None else equation.source

    def _is_traced(self, y: Array) -> bool:
        return isinstance(y, Tracer) and y.tracing is self.tape

    @property
    def full(self) -> Pattern:
        """A cotangent for each output that depends on what is wanted."""
        return tuple(PLAIN if self._is_traced(y) and is_inexact(y.dtype) else ABSENT for y in self._outs)

    @property
    def values(self) -> list[Array]:
        """The outputs, as the stage has them."""
        return [y.value if self._is_traced(y) else y for y in self._outs]

    def walk_back(self, pattern: Pattern, summed: Sequence[int]) -> _Walk:
        """Walk back from cotangents of this pattern, and from sums for these inputs."""
        cotangents = Cotangents()
        sums = []
        for i in summed:
            x = self._entered[i]
            assert x is not None
            sums.append(self.stage.enter(ArrayType(x.shape, x.dtype), lambda: "a sum"))
            cotangents.add(x.variable, sums[-1])
        start: list[Tracer] = []
        for kind, y in zip(pattern, self._outs, strict=True):
            if kind:
                types = [ArrayType(y.shape, y.dtype), ArrayType(y.shape, np.dtype(bool))][:kind]
                parts = [self.stage.enter(t, lambda: "a cotangent") for t in types]
                cotangents.add(y.variable, parts[0] if kind == PLAIN else Masked(*parts))
                start += parts
        cotangents.walk_back(self._backwards())
        self.stage.source = None
        cts = [None if x is None else cotangents.table.get(x.variable) for x in self._entered]
        return _Walk([*start, *sums], *kinds_and_arrays(cts))

    def _backwards(self) -> Iterator[Record]:
        for record, source in zip(reversed(self._records), reversed(self._sources), strict=True):
            self.stage.source = None if source is None else source.pulled_back(record[0].name)
            yield record


def kinds_and_arrays(cts: Sequence[Cotangent | None]) -> tuple[Pattern, list[Array]]:
    """What kind each cotangent is, and the arrays they consist of."""
    kinds: list[int] = []
    arrays: list[Array] = []
    for ct in cts:
        if isinstance(ct, Structured):
            ct = ct.dense()
        kinds.append(ABSENT if ct is None else MASKED if isinstance(ct, Masked) else PLAIN)
        arrays += [] if ct is None else [ct.value, ct.mask] if isinstance(ct, Masked) else [ct]
    return tuple(kinds), arrays


def gathered(results: Pattern, arrays: Sequence[Array]) -> tuple[Cotangent | None, ...]:
    """The cotangents that consist of these arrays."""
    rest = iter(arrays)
    return tuple(
        None if kind == ABSENT else next(rest) if kind == PLAIN else Masked(next(rest), next(rest)) for kind in results
    )


def as_kind(ct: Cotangent | None, kind: int, t: ArrayType) -> list[Array]:
    """The arrays of a cotangent, as one of this kind."""
    if kind == ABSENT:
        return []
    value = np.broadcast_to(np.zeros((), t.dtype), t.shape) if ct is None else plain(ct)
    if kind == PLAIN:
        return [value]
    if isinstance(ct, Masked):
        return [value, ct.mask]
    return [value, np.broadcast_to(np.array(ct is not None), t.shape)]
