"""A jaxpr that is called as one operation: what `jit` and `checkpoint` put into the program around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, final

import numpy as np

from funcgrad.compiler.engine import runner
from funcgrad.core.errors import InternalError
from funcgrad.core.flow import Called
from funcgrad.core.ir import Jaxpr, with_outputs
from funcgrad.core.kinds import Program
from funcgrad.core.primitive import Cotangent, Unbatched, Wanted
from funcgrad.core.types import Array, ArrayType, Typed
from funcgrad.ops.broadcast import batch_length
from funcgrad.transforms.programs.joint import gathered
from funcgrad.transforms.programs.split import Halves, Policy, halves, save_everything
from funcgrad.transforms.tracing.batch import batch_jaxpr

quiet = np.errstate(all="ignore")
"""Decorator of what runs a program: it does not warn. A backward pass divides by zero where a mask says that it does
not matter, and machine code has no warnings at all; `debug_nans` finds what a warning would tell."""


def check_inputs(label: str, jaxpr: Jaxpr, xs: Sequence[Typed]) -> None:
    """The type rule of every program: its jaxpr was made for operands of these types."""
    got = [(x.shape, x.dtype, x.weak) for x in xs]
    expected = [(t.shape, t.dtype, t.weak) for t in jaxpr.in_types]
    if got != expected and not (len(got) == len(expected) and all(map(_fits, got, expected))):
        raise InternalError(f"{label} takes {jaxpr.in_types}, got {[ArrayType(*t) for t in got]}")


def _fits(got: tuple[Any, ...], expected: tuple[Any, ...]) -> bool:
    """True if the one may stand for the other, where a length of -1 is any."""
    a, b = got[0], expected[0]
    return got[1:] == expected[1:] and len(a) == len(b) and all(m == n or n == -1 for m, n in zip(a, b, strict=True))


def marked(ys: Sequence[Array], batched: Sequence[bool]) -> tuple[Any, ...]:
    """The results of a batching rule, of which only some are batched."""
    return tuple(y if b else Unbatched(y) for y, b in zip(ys, batched, strict=True))


@final
@dataclass(frozen=True, slots=True)
class Call(Program):
    """A jaxpr, called.

    Args:
        label: What it is called in print: the name of the user's function.
        jaxpr: Without constants.
        policy: What its forward half saves for its backward half.
        apart: True if it must not become part of the program around it: there, what a checkpoint computes again would
            be found to be there already.
    """

    name: ClassVar[str] = "call"
    label: str
    jaxpr: Jaxpr
    policy: Policy = field(default=save_everything, repr=False)
    apart: bool = field(default=False, repr=False)

    @property
    def effect(self) -> bool:  # type: ignore[override]  # follows from the jaxpr here
        return self.jaxpr.effect

    @property
    def inlined(self) -> Jaxpr | None:
        return self.jaxpr if self.policy is save_everything and not self.apart else None

    @property
    def flow(self) -> Called:
        return Called(self.jaxpr, tuple(range(len(self.jaxpr.inputs))))

    def pruned(self, used: tuple[bool, ...]) -> tuple[Call, tuple[bool, ...]]:
        return replace(self, jaxpr=with_outputs(self.jaxpr, used)), used

    def out_type(self, *xs: Typed) -> tuple[ArrayType, ...]:
        check_inputs(self.label, self.jaxpr, xs)
        return self.jaxpr.out_types

    @quiet
    def impl(self, *xs: Array) -> tuple[Array, ...]:
        return tuple(runner(self.jaxpr)(*xs))

    def forward(self, wanted: Wanted, *xs: Array) -> tuple[tuple[Array, ...], Sequence[Array]]:
        cut = self._halves(wanted)
        ys = Call(self.label, cut.forward)(*xs)
        n = len(self.jaxpr.outputs)
        return ys[:n], [*(xs[i] for i in cut.passed), *ys[n:]]

    def vjp(self, wanted: Wanted, g: Any, *residuals: Array) -> tuple[Cotangent | None, ...]:
        cut = self._halves(wanted)
        pattern, gs = cut.entering(g)
        backward = cut.backward(pattern)
        apart = self.policy is not save_everything
        cts = Call(f"{self.label}′", backward.jaxpr, apart=apart)(*residuals, *gs)
        return gathered(backward.results, cts)

    def batch(self, batched: tuple[bool, ...], *xs: Array) -> tuple[Any, ...]:
        jaxpr, out = batch_jaxpr(self.jaxpr, batched, batch_length(batched, xs))
        return marked(Call(self.label, jaxpr, self.policy, self.apart)(*xs), out)

    def _halves(self, wanted: Wanted) -> Halves:
        return halves(self.jaxpr, tuple(w is not None for w in wanted), self.policy)
