"""What operations have in common that only the compiler makes, when tracing is over."""

from __future__ import annotations

from typing import Any, NoReturn

from funcgrad.core.errors import InternalError
from funcgrad.core.primitive import Primitive
from funcgrad.core.types import Array


class Untraced(Primitive):
    """An operation for the time after tracing: it comes into a program that is transformed and differentiated."""

    __slots__ = ()

    def vjp(self, wanted: Any, g: Any, y: Any, *xs: Array) -> NoReturn:
        raise InternalError("compiled code is not differentiated; the program it was made of is")

    def batch(self, batched: tuple[bool, ...], *xs: Array) -> NoReturn:
        raise InternalError("compiled code is not batched; the program it was made of is")
