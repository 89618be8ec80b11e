"""Operations that only the compiler puts into a program, when it has been transformed and differentiated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, TypeAlias, final

import numpy as np

from funcgrad.compiler.untraced import Untraced
from funcgrad.core.flow import Flow
from funcgrad.core.kinds import Contraction, Elementwise, Program, Reduction
from funcgrad.core.types import Array, ArrayType, DType, Typed, broadcast_shapes, promotable, promote

Terms: TypeAlias = tuple[str, str, str]


@cache
def _dtype(ufunc: np.ufunc, *dtypes: Any) -> DType:
    dtype: DType = ufunc.resolve_dtypes((*dtypes, None))[-1]
    return dtype


@final
class Scalar(Untraced, Elementwise):
    """A function of numbers, by its NumPy function; or `select`, or `fma`."""

    __slots__ = ("name", "ufunc")

    def __init__(self, name: str, ufunc: np.ufunc | None = None) -> None:
        self.name = name  # type: ignore[misc]  # each function is an instance
        self.ufunc = ufunc

    def out_type(self, *xs: Typed) -> ArrayType:
        shape = broadcast_shapes(*(x.shape for x in xs))
        if self.ufunc is None:
            return ArrayType(shape, promote(*xs[1:]))
        return ArrayType(shape, _dtype(self.ufunc, *map(promotable, xs)))

    def impl(self, *xs: Array) -> Any:
        if self.ufunc is not None:
            return self.ufunc(*xs)
        # rounded twice: for a look at what a program computes
        return np.where(*xs) if self is SELECT else xs[0] * xs[1] + xs[2]

    def show(self) -> str:
        return self.name


SELECT, FMA = Scalar("select"), Scalar("fma")
_scalars: dict[np.ufunc, Scalar] = {}


def scalar(f: np.ufunc) -> Scalar:
    """The operation that is a NumPy function."""
    known = _scalars.get(f)
    if known is None:
        known = _scalars[f] = Scalar(f.__name__, f)
    return known


@final
@dataclass(frozen=True, slots=True)
class Converted(Untraced, Elementwise):
    """Numbers of another dtype."""

    name: ClassVar[str] = "convert"
    dtype: DType

    def out_type(self, *xs: Typed) -> ArrayType:
        return ArrayType(xs[0].shape, self.dtype)

    def impl(self, *xs: Array) -> Any:
        return np.asarray(xs[0]).astype(self.dtype)


@final
@dataclass(frozen=True, slots=True)
class Multiplied(Untraced, Contraction):
    """A contraction."""

    name: ClassVar[str] = "multiplied"
    terms: Terms

    def out_type(self, *xs: Typed) -> ArrayType:
        lengths = dict(zip("".join(self.terms[:2]), (*xs[0].shape, *xs[1].shape), strict=True))
        return ArrayType(tuple(lengths[c] for c in self.terms[2]), xs[0].dtype)

    def impl(self, *xs: Array) -> Any:
        letters = "".join(self.terms)
        letters1, letters2, out = ([letters.index(c) for c in term] for term in self.terms)
        return np.einsum(xs[0], letters1, xs[1], letters2, out)


@final
@dataclass(frozen=True, slots=True)
class Total(Untraced, Reduction):
    """The sum of all elements."""

    name: ClassVar[str] = "total"
    fold: ClassVar[np.ufunc] = np.add
    axes: tuple[int, ...]

    def out_type(self, *xs: Typed) -> ArrayType:
        return ArrayType((), xs[0].dtype)

    def impl(self, *xs: Array) -> Any:
        return np.sum(xs[0])


@final
@dataclass(frozen=True, slots=True, eq=False)
class Lowered(Untraced, Program):
    """A program all of which there is code for.

    Args:
        original: The operation itself.
        lowered: What it does, in jaxprs that have code. Its operands are those of the operation, then some arrays.
        operands: How many there are of the former.
        types: Its results.
    """

    name: ClassVar[str] = "lowered"
    original: Program
    lowered: Flow
    operands: int
    types: tuple[ArrayType, ...]

    @property
    def flow(self) -> Flow:
        return self.lowered

    def out_type(self, *xs: Typed) -> tuple[ArrayType, ...]:
        return self.types

    def impl(self, *xs: Array) -> tuple[Array, ...]:
        y: tuple[Array, ...] = self.original.impl(*xs[: self.operands])
        return y

    def show(self) -> str:
        return self.original.show()
