"""An axis of a kernel, as a loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from funcgrad.compiler.native.ir.kernel import Access

# the longest axis whose loop is written out
_SHORT = 8


@final
class Axis:
    """A loop.

    Attributes:
        length: How often it runs.
        strides: For each access the distance from one index to the next.
        rank: For a folded axis, the distance between two of its indices when all folded elements are numbered through.
        tile: True for the axis of the rows in a block of a matrix.
    """

    __slots__ = ("length", "rank", "strides", "tile")

    def __init__(self, length: int, strides: Mapping[Access, int], rank: int, tile: bool = False) -> None:
        self.length = length
        self.strides = strides
        self.rank = rank
        self.tile = tile

    @property
    def short(self) -> bool:
        """True if the body is written out for each index, so that the index is known there."""
        return self.length <= _SHORT or self.tile

    def merges(self, inner: Axis) -> bool:
        """True if this axis and the next one can be one loop."""
        # what is written out stays so
        if self.tile or inner.tile or (self.short and inner.short and self.length * inner.length > _SHORT):
            return False
        return all(stride == inner.strides[a] * inner.length for a, stride in self.strides.items())
