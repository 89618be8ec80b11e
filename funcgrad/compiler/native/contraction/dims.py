"""A contraction as numbers: which lengths and strides the loops of a sum of products have.

Each letter becomes a `Dim`: its length, and its strides in both operands and in the result. The dims have four roles.
With rows m, columns n and inner k, the product is a matrix product for each index of the batch:

    y[b, m, n] = sum over k of x1[b, m, k] · x2[b, k, n]

Dims of one role that can be run through as one are merged, so that few are left: mostly one of each role.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, final

from funcgrad.core.views import View

Terms: TypeAlias = tuple[str, str, str]

# bytes, and bytes per second
_FIRST_CACHE, _CACHE = 1 << 15, 1 << 22
_CACHE_BANDWIDTH, _BANDWIDTH = 100e9, 25e9


@final
@dataclass(frozen=True, slots=True, eq=False)
class Dim:
    """An axis: its length, and how far apart its elements stand in x1, x2 and y; 0 where it does not occur."""

    length: int
    strides: tuple[int, int, int]

    def swapped(self) -> Dim:
        """The same with the operands exchanged."""
        s1, s2, sy = self.strides
        return Dim(self.length, (s2, s1, sy))

    def joins(self, inner: Dim) -> bool:
        """True if this and `inner`, which runs faster, are one dim."""
        return all(s == inner.length * t for s, t in zip(self.strides, inner.strides, strict=True))


Dims: TypeAlias = tuple[Dim, ...]


@final
@dataclass(frozen=True, slots=True)
class Product:
    """A contraction, as the dims of each role. None of them has length 1.

    Attributes:
        batch: In all three.
        rows: In x1 and y.
        columns: In x2 and y.
        inner: In x1 and x2: summed over.
        offsets: The place of the first element of x1, x2 and y.
        factors: Which operands are multiplied: both, or x1 alone (a copy), or none (zeros).
        exchanged: True if x1 here is the second operand and x2 the first one.
    """

    batch: Dims
    rows: Dims
    columns: Dims
    inner: Dims
    offsets: tuple[int, int, int]
    factors: tuple[int, ...] = (0, 1)
    exchanged: bool = False

    @property
    def kept(self) -> Dims:
        """The dims of the result."""
        return self.batch + self.rows + self.columns

    @property
    def dims(self) -> Dims:
        """All of them."""
        return self.kept + self.inner

    @property
    def multiplications(self) -> int:
        """How many products are added up."""
        return volume(self.dims)

    def size(self, operand: int) -> int:
        """How many different elements of x1, x2 or y there are."""
        return math.prod(d.length for d in self.dims if d.strides[operand])

    def swapped(self) -> Product:
        """The same product with the operands, and so rows and columns, exchanged."""
        batch, rows, columns, inner = (
            tuple(d.swapped() for d in dims) for dims in (self.batch, self.rows, self.columns, self.inner)
        )
        o1, o2, oy = self.offsets
        return Product(batch, columns, rows, inner, (o2, o1, oy), self.factors, not self.exchanged)

    def merged(self) -> Product:
        """The same with as few dims as there can be."""
        return replace(
            self,
            batch=_merge(self.batch),
            rows=_merge(self.rows),
            columns=_merge(self.columns),
            inner=_merge(self.inner),
        )


def volume(dims: Sequence[Dim]) -> int:
    """The number of their indices."""
    return math.prod(d.length for d in dims)


def seconds_of_memory(moved: float) -> float:
    """About how long it takes one core to read and write so many bytes in all, which are used several times."""
    return 0.0 if moved <= _FIRST_CACHE else moved / (_BANDWIDTH if moved > _CACHE else _CACHE_BANDWIDTH)


def product(terms: Terms, x1: View, x2: View, y: View) -> Product | None:
    """The dims of a contraction; None if the result has no elements."""
    lengths: dict[str, int] = {}
    for letters, view in zip(terms, (x1, x2, y), strict=True):
        lengths.update(zip(letters, view.shape, strict=True))
    if any(lengths[c] == 0 for c in terms[2]):
        return None
    roles: dict[str, list[Dim]] = {"batch": [], "rows": [], "columns": [], "inner": []}
    for c, n in lengths.items():
        if n != 1:
            dim = Dim(n, _strides(c, terms, (x1, x2, y)))
            roles[_role(c, terms, dim)].append(dim)
    offsets = (x1.offset, x2.offset, y.offset)
    if 0 in lengths.values():
        kept = (*roles["batch"], *roles["rows"], *roles["columns"])
        return zeros(kept, y.offset)
    batch, rows, columns, inner = map(tuple, roles.values())
    return Product(batch, rows, columns, inner, offsets).merged()


def zeros(kept: Dims, offset: int) -> Product:
    """The product of which nothing is left but zeros at the places of the result."""
    dims = tuple(Dim(d.length, (0, 0, d.strides[2])) for d in kept)
    return Product(dims, (), (), (), (0, 0, offset), ()).merged()


def copy(dims: Sequence[tuple[int, int, int]], source: int = 0, target: int = 0) -> Product:
    """The product that only copies: dims are given as length, stride in the source, stride in the target."""
    rows = tuple(Dim(n, (s, 0, t)) for n, s, t in dims if n != 1)
    return Product((), rows, (), (), (source, 0, target), (0,)).merged()


def pack(product: Product, packs: Sequence[bool]) -> tuple[Product, list[Product | None]]:
    """The product with some operands contiguous, in the order of the roles, and the copies that make them so."""
    if not any(packs):
        return product, [None, None, None]
    dims = {
        "batch": list(product.batch),
        "rows": list(product.rows),
        "columns": list(product.columns),
        "inner": sorted(product.inner, key=lambda d: (-d.strides[1 if packs[0] else 0], -d.strides[0])),
    }
    if packs[2]:
        dims["rows"].sort(key=lambda d: -d.strides[0])
        dims["columns"].sort(key=lambda d: -d.strides[1])
    strides = {d: list(d.strides) for role in dims.values() for d in role}
    copies: list[Product | None] = [None, None, None]
    offsets = list(product.offsets)
    orders = (("batch", "rows", "inner"), ("batch", "inner", "columns"), ("batch", "rows", "columns"))
    for k, order in enumerate(orders):
        if packs[k]:
            copies[k] = _contiguous([d for role in order for d in dims[role]], k, offsets[k], strides)
            offsets[k] = 0
    batch, rows, columns, inner = (
        tuple(Dim(d.length, (strides[d][0], strides[d][1], strides[d][2])) for d in role) for role in dims.values()
    )
    o1, o2, oy = offsets
    packed = Product(batch, rows, columns, inner, (o1, o2, oy), exchanged=product.exchanged).merged()
    return packed, copies


def _contiguous(dims: Sequence[Dim], k: int, offset: int, strides: dict[Dim, list[int]]) -> Product:
    """Make operand `k` contiguous over `dims`; the copy to it, or for the result, from it."""
    step = 1
    moved = []
    for d in reversed(dims):
        if d.strides[k]:
            strides[d][k] = step
            moved.append((d.length, d.strides[k], step))
            step *= d.length
    if k == 2:
        return copy([(n, t, s) for n, s, t in moved], target=offset)
    return copy(moved, source=offset)


def _strides(c: str, terms: Terms, views: tuple[View, View, View]) -> tuple[int, int, int]:
    first, second, out = (
        view.strides[letters.index(c)] if c in letters else 0 for letters, view in zip(terms, views, strict=True)
    )
    return first, second, out


def _role(c: str, terms: Terms, dim: Dim) -> str:
    """A batch axis along which an operand is repeated is free in the other one."""
    if c not in terms[2]:
        return "inner"
    if c in terms[0] and c in terms[1]:
        s1, s2, _ = dim.strides
        return "batch" if (s1 and s2) or not (s1 or s2) else "rows" if s1 else "columns"
    return "rows" if c in terms[0] else "columns"


def _merge(dims: Dims) -> Dims:
    """Merge what can be, and order the rest by the strides in the result, or else in the operands: widest first."""
    rest = sorted(dims, key=lambda d: [-abs(d.strides[i]) for i in (2, 0, 1)])
    i = 0
    while i < len(rest):
        k = next((k for k, d in enumerate(rest) if d is not rest[i] and rest[i].joins(d)), None)
        if k is None:
            i += 1
            continue
        outer, inner = rest[i], rest[k]
        rest[i] = Dim(outer.length * inner.length, inner.strides)
        del rest[k]
        i = 0
    return tuple(rest)
