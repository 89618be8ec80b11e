"""The kinds: what the members of a family share, and all that a compiler needs to know of a primitive.

An `Elementwise` maps scalars to scalars; an `IndexMap` moves elements and computes none; a `Scatter` writes values at
positions; a `Reduction` folds axes; a `Contraction` multiplies and sums; a `Library` call leaves the loop nest for
NumPy or SciPy. Each primitive is of one kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcgrad.core.primitive import Cotangent, Masked, Primitive, Wanted, masked_linear
from funcgrad.core.types import Array


class Elementwise(Primitive):
    """One scalar function, applied to each element of its broadcast arguments."""

    __slots__ = ()


class IndexMap(Primitive):
    """Elements move, none is computed: each element of the result is one element of the input, or a constant."""

    __slots__ = ()

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return range(len(wanted) + 1)

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Any, *xs: Array) -> tuple[Cotangent | None, ...]:
        return masked_linear(self, wanted, g, y, xs)


class Scatter(Primitive):
    """Values are written to positions of an array, or combined with what is there; all other elements stay."""

    __slots__ = ()


class Reduction(Primitive):
    """Axes are folded into one value each, and disappear."""

    __slots__ = ()


class Contraction(Primitive):
    """Products of two arrays, summed over their common axes."""

    __slots__ = ()


class Library(Primitive):
    """An algorithm on whole arrays (a factorization, a sort): a call, not a loop nest."""

    __slots__ = ()
