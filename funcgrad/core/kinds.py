"""The kinds: what the members of a family share, and all that a compiler needs to know of a primitive.

An `Elementwise` maps scalars to scalars; an `IndexMap` moves elements and computes none; a `Scatter` writes values at
positions; a `Reduction` folds axes; a `Contraction` multiplies and sums; a `Library` call leaves the loop nest for
NumPy or SciPy, unless it is `Running` or `Sorting`; a `Program` holds jaxprs and decides which of them runs, and how
often. Each primitive is of one kind.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from funcgrad.core.flow import Flow
from funcgrad.core.primitive import Cotangent, Masked, Primitive, Wanted, masked_linear
from funcgrad.core.types import Array, Shape
from funcgrad.core.views import Places, View, Written

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

    The result may be a view of the first operand, unless the primitive is `fresh`. A compiler that knows where the
    elements come from moves none of them. The place is known beforehand (`view`), or once other operands are (`taken`);
    or it is known where the elements of the operands go (`written`).
    """

    __slots__ = ()

    def view(self, x: View) -> View | None:
        """The result as a view of the buffer of which the first operand is the view `x`; None if it is none."""
        return None

    def taken(self, *shapes: Shape) -> Places | None:
        """The places of the result's elements in the first operand, of which the other operands hold positions.

        Args:
            shapes: Those of the operands; the first one is a whole buffer.

        Returns:
            The places, over the axes of the result. None if the result is nothing of this kind.
        """
        return None

    def written(self, *shapes: Shape) -> Written | None:
        """The result as what is written, for operands of these shapes; None if it is nothing of this kind."""
        return None

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

    def written(self, *shapes: Shape) -> Written | None:
        """The result as what is written, for operands of these shapes; None if the primitive does not say."""
        return None


class Reduction(Primitive):
    """Axes are folded into one value each, and disappear.

    Attributes:
        fold: The function of two values that is applied again and again, on values of the result's dtype. "argmax" and
            "argmin" give the first place of the largest and of the smallest value, in row-major order of the axes,
            where NaN counts as larger and as smaller than every number. None if the result is more than that.
        axes: The axes.
    """

    __slots__ = ()
    fold: ClassVar[np.ufunc | str | None] = None
    axes: tuple[int, ...]

    def folded(self, ndim: int) -> tuple[int, ...]:
        """The axes that disappear, of an operand with `ndim` axes; asked for only where there is a `fold`."""
        return self.axes


class Contraction(Primitive):
    """Products of two arrays, summed over their common axes."""

    __slots__ = ()

    @property
    @abstractmethod
    def terms(self) -> tuple[str, str, str]:
        """A letter for each axis of the two operands and of the result.

        Each letter stands in two of the three terms, or in all. It is summed over where the result lacks it.
        """


class Library(Primitive):
    """An algorithm on whole arrays (a factorization, a sort): a call, not a loop nest."""

    __slots__ = ()


class Running(Library):
    """Along an axis, each element of the result is made of the one before it: y[i] = fold(y[i−1], x[i]).

    The line starts from the neutral element of `fold`.

    Attributes:
        fold: The function, on values of the result's dtype.
        axis: The axis.
        reverse: True to run from the end to the beginning.
        exclusive: True if the result is y[i−1]: it begins with the neutral element, and the last y[i] is dropped.
        scaled: True if there is one more operand `a` in front of `x`, and y[i] = fold(a[i]·y[i−1], x[i]).
    """

    __slots__ = ()
    fold: ClassVar[np.ufunc]
    axis: int
    reverse: bool
    exclusive: bool = False
    scaled: ClassVar[bool] = False


class Sorting(Library):
    """Along an axis, the elements in ascending order; NaN comes last.

    Attributes:
        axis: The axis.
        places: True if the result is where the elements in this order stand in the operand, not what they are. Then
            equal elements, such as 0 and −0, keep their order.
    """

    __slots__ = ()
    axis: int
    places: ClassVar[bool] = False


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

    @property
    def flow(self) -> Flow | None:
        """Which jaxprs run, when, and on which operands; None if a compiler is to leave the operation as it is."""
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
