"""The kinds: what the members of a family share, and all that a compiler needs to know of a primitive.

An `Elementwise` maps scalars to scalars; an `IndexMap` moves elements and computes none; a `Scatter` writes values at
positions; a `Reduction` folds axes; a `Contraction` multiplies and sums; a `Library` call leaves the loop nest for
NumPy or SciPy; a `Program` holds jaxprs and decides which of them runs, and how often. Each primitive is of one kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from funcgrad.core.primitive import Cotangent, Masked, Primitive, Wanted, masked_linear
from funcgrad.core.types import Array

if TYPE_CHECKING:
    from funcgrad.core.ir import Jaxpr


class Elementwise(Primitive):
    """One scalar function, applied to each element of its broadcast arguments.

    Attributes:
        ufunc: The NumPy function that it is; None if there is none.
        in_place: True if `ufunc` computes the same as `impl` bit for bit, so that a program may call it and say where
            the result goes.
    """

    __slots__ = ()
    ufunc: np.ufunc | None = None
    in_place: bool = False


class IndexMap(Primitive):
    """Elements move, none is computed: each element of the result is one element of the input, or a constant.

    The result may be a view of the first operand, unless the primitive is `fresh`.
    """

    __slots__ = ()

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return range(len(wanted) + 1)

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Any, *xs: Array) -> tuple[Cotangent | None, ...]:
        return masked_linear(self, wanted, g, y, xs)


class Scatter(Primitive):
    """Values are written to positions of an array, or combined with what is there; all other elements stay."""

    __slots__ = ()

    def overwrite(self, x: Array, *rest: Array) -> Any:
        """`impl`, if need be into the memory of `x`, which nobody else needs any more."""
        return self.impl(x, *rest)


class Reduction(Primitive):
    """Axes are folded into one value each, and disappear."""

    __slots__ = ()


class Contraction(Primitive):
    """Products of two arrays, summed over their common axes."""

    __slots__ = ()


class Library(Primitive):
    """An algorithm on whole arrays (a factorization, a sort): a call, not a loop nest."""

    __slots__ = ()


class Program(Primitive):
    """Jaxprs that run as one operation: a call, a branch, a loop. They have no constants: those are operands."""

    __slots__ = ()
    multiple: ClassVar[bool] = True
    residuals: ClassVar[bool] = True
    fresh: ClassVar[bool] = True  # type: ignore[misc]  # a class attribute of this kind

    @property
    def inlined(self) -> Jaxpr | None:
        """The jaxpr that may stand in place of the operation, with the same inputs and outputs; None for most."""
        return None

    def pruned(self, used: tuple[bool, ...]) -> tuple[Program, tuple[bool, ...]]:
        """The operation without those results that are not used, as far as it can do without them; and which it has."""
        return self, (True,) * len(used)

    def show(self) -> str:
        this: Any = self
        lines = []
        for f in fields(this):
            if f.repr:
                text = str(getattr(self, f.name)).replace("\n", "\n  ")
                lines.append(f"{f.name}={text}")
        return f"{self.name}[" + "\n  ".join(lines) + "]"
