"""Operations that steer the flow of derivatives and leave values alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from funcgrad.core.kinds import IndexMap
from funcgrad.core.primitive import Wanted
from funcgrad.core.types import Array, ArrayType, Typed


@final
@dataclass(frozen=True, slots=True)
class StopGradient(IndexMap):
    """The identity with derivative zero, in every transformation around it."""

    name: ClassVar[str] = "stop_gradient"
    constant: ClassVar[bool] = True

    def out_type(self, x: Typed) -> ArrayType:
        return ArrayType(x.shape, x.dtype, x.weak)

    def impl(self, x: Array) -> Array:
        return x

    def vjp(self, wanted: Wanted, g: Array, y: None, x: None) -> tuple[None]:
        return (None,)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return self(x)


stop_gradient = StopGradient()
