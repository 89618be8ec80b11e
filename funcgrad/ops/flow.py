"""Operations that steer the flow of derivatives and leave values alone, and arrays that are part of a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from funcgrad import tree as pytree
from funcgrad.core.errors import OutOfBoundsError
from funcgrad.core.kinds import Elementwise, IndexMap
from funcgrad.core.primitive import Wanted
from funcgrad.core.trace import Tracer
from funcgrad.core.types import Array, ArrayType, Typed
from funcgrad.core.views import View


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

    def view(self, x: View) -> View:
        return x

    def vjp(self, wanted: Wanted, g: Array, y: None, x: None) -> tuple[None]:
        return (None,)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return self(x)


_stop = StopGradient()


@final
@dataclass(frozen=True, slots=True, eq=False)
class Given(IndexMap):
    """An array that a rule brought into a program, such as the row numbers of a batch; it cannot be written into."""

    name: ClassVar[str] = "given"
    constant = True
    value: Array

    @staticmethod
    def of(x: Array) -> Given:
        """The primitive for the array `x` as it is now."""
        x = np.array(x)
        x.flags.writeable = False
        return Given(x)

    def out_type(self) -> ArrayType:
        return ArrayType(self.value.shape, self.value.dtype)

    def impl(self) -> Array:
        return self.value

    def vjp(self, wanted: Wanted, g: Array, y: None) -> tuple[()]:
        return ()

    def batch(self, batched: tuple[bool, ...]) -> Array:
        raise AssertionError("without inputs, there is no batch")

    def show(self) -> str:
        text = np.array2string(self.value, threshold=6, edgeitems=2, separator=", ").replace("\n", "")
        return f"given[{text}]"


@final
@dataclass(frozen=True, slots=True)
class Named(IndexMap):
    """The identity, with a name that a policy of `checkpoint` may ask for."""

    name: ClassVar[str] = "named"
    label: str

    def out_type(self, x: Typed) -> ArrayType:
        return ArrayType(x.shape, x.dtype, x.weak)

    def impl(self, x: Array) -> Array:
        return x

    def view(self, x: View) -> View:
        return x

    def vjp(self, wanted: Wanted, g: Array, y: None, x: None) -> tuple[Array | None]:
        return (g if wanted[0] else None,)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return self(x)


def named(x: Any, label: str) -> Any:
    """Each traced array of a pytree under this name."""
    return pytree.map(lambda leaf: Named(label)(leaf) if isinstance(leaf, Tracer) else leaf, x)


@final
@dataclass(frozen=True, slots=True)
class Weaken(IndexMap):
    """A scalar as a Python scalar, whose dtype gives way to that of an array (NEP 50)."""

    name: ClassVar[str] = "weaken"

    def out_type(self, x: Typed) -> ArrayType:
        return ArrayType(x.shape, x.dtype, x.shape == ())

    def impl(self, x: Array) -> Array:
        return x.item() if np.shape(x) == () and hasattr(x, "item") else x

    def view(self, x: View) -> View:
        return x

    def vjp(self, wanted: Wanted, g: Array, y: None, x: None) -> tuple[Array | None]:
        return (g if wanted[0] else None,)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return x


@final
@dataclass(frozen=True, slots=True)
class BranchIndex(Elementwise):
    """The number of a branch, checked: there are `count`."""

    name: ClassVar[str] = "branch_index"
    constant = True
    count: int

    def out_type(self, x: Typed) -> ArrayType:
        return ArrayType(x.shape, x.dtype)

    def expand(self, x: Any) -> Any:
        # a branch asks for itself whether there is one of this number; a stack of numbers is asked for nowhere else
        return None if x.shape else x

    def impl(self, x: Array) -> Array:
        x = np.array(x)
        if x.size and (x.min() < 0 or x.max() >= self.count):
            raise OutOfBoundsError(
                f"switch: there is no branch {x.max() if x.max() >= self.count else x.min()} among {self.count}",
                f"numpy.clip(index, 0, {self.count - 1}) takes the nearest one",
            )
        return x[()]

    def vjp(self, wanted: Wanted, g: Array, y: None, x: None) -> tuple[None]:
        return (None,)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return self(x)


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
