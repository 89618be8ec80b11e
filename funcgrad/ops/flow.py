"""Operations that steer the flow of derivatives and leave values alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from funcgrad import tree as pytree
from funcgrad.core.kinds import IndexMap
from funcgrad.core.primitive import Wanted
from funcgrad.core.trace import Tracer
from funcgrad.core.types import Array, ArrayType, Typed


@final
@dataclass(frozen=True, slots=True)
class StopGradient(IndexMap):
    """The identity with derivative zero, in every transformation around it."""

    name: ClassVar[str] = "stop_gradient"
    constant = True

    def out_type(self, x: Typed) -> ArrayType:
        return ArrayType(x.shape, x.dtype, x.weak)

    def impl(self, x: Array) -> Array:
        if x.__class__ is np.ndarray:
            # the backward pass may read this array, so the caller must not write into it
            x = x.view()
            x.flags.writeable = False
        return x

    def vjp(self, wanted: Wanted, g: Array, y: None, x: None) -> tuple[None]:
        return (None,)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return self(x)


_stop = StopGradient()


def stop_gradient(x: Any) -> Any:
    """The identity with derivative zero: what is inside counts as a constant, in every transformation around it.

    Args:
        x: An array, or any pytree of arrays.

    Returns:
        The same values. A plain array is returned as it is. Of a traced array whose values are known, the result is a
        plain array that cannot be written into, since the backward pass may read the same memory.

    Examples:
        >>> import funcgrad as fg
        >>> float(fg.grad(lambda x: x * fg.stop_gradient(x))(3.0))
        3.0
    """
    return _constant(x) if isinstance(x, Tracer | np.ndarray) else pytree.map(_constant, x)


def _constant(x: Array) -> Array:
    return _stop(x) if isinstance(x, Tracer) else x
