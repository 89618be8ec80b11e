"""A part of a program that is machine code, as one operation of the program around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, final

from funcgrad.compiler.untraced import Untraced
from funcgrad.core.ir import Jaxpr
from funcgrad.core.kinds import Program
from funcgrad.core.types import Array, ArrayType, Typed


class StoppedError(Exception):
    """Machine code found something wrong with the values; NumPy is to say what."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Segment(Untraced, Program):
    """A part of a program as one operation, for the time after tracing."""

    name: ClassVar[str] = "native"
    jaxpr: Jaxpr
    run: Callable[..., tuple[Array, ...]]

    def out_type(self, *xs: Typed) -> tuple[ArrayType, ...]:
        return self.jaxpr.out_types

    def impl(self, *xs: Array) -> tuple[Array, ...]:
        return self.run(*xs)

    def show(self) -> str:
        return f"native[{len(self.jaxpr.equations)}]"
