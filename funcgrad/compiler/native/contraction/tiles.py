"""How a small contraction is cut into tiles of registers.

A tile is a block of rows and columns of the result whose sums are in registers. The lanes of its vectors go along one
dim, of which there are three kinds:

    columns   y[m, n:n+W] += x1[m, k] · x2[k, n:n+W]            an element of x1 in each lane
    batch     y[b:b+W]    += x1[b:b+W, m, k] · x2[b:b+W, k, n]  W products side by side
    inner     y[m, n]     += x1[m, k:k+W] · x2[k:k+W, n]        the lanes are added up at the end

Rows are columns of the product with its operands exchanged. Which dim is best is estimated in cycles.

Lanes along columns want these side by side in x2. Where they are not, x2 is copied first, if each of its elements is
read often.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

from funcgrad.compiler.native.contraction.dims import Dim, Dims, Product, pack, volume

Kind: TypeAlias = Literal["columns", "batch", "inner", "none"]
Block: TypeAlias = tuple[int, int]

# a dim of the sum is written out, not looped over, up to this length
_UNROLLED = 4
# products in a tile that are written out; each costs compile time
_WRITTEN = 48
# an operand each of whose elements is read so often is worth copying
_OFTEN = 16
# strides up to which neighbouring vectors are loaded together and sorted by shuffles
_GROUPED = 4
NO_DIM = Dim(1, (0, 0, 0))


@final
@dataclass(frozen=True, slots=True)
class Lane:
    """What the elements are in registers.

    Attributes:
        memory: The type in memory.
        register: The type in registers, in which sums are formed.
        logical: True for bool, whose sum is "or".
        width: How many fit into a vector.
    """

    memory: str
    register: str
    logical: bool
    width: int


def lane_of(lane: str, host_bytes: int) -> Lane:
    """The lane of a memory type; `i1` stands for a bool, which takes a byte."""
    if lane == "i1":
        return Lane("i8", "i8", True, host_bytes)
    # NumPy adds up halves in single precision
    register = "float" if lane == "half" else lane
    size = {"float": 4, "double": 8}.get(register) or int(register[1:]) // 8
    return Lane(lane, register, False, max(1, host_bytes // size))


@final
@dataclass(frozen=True, slots=True)
class Tiling:
    """A product, cut into tiles.

    Attributes:
        product: The product; its operands may have been exchanged.
        kind: What the vectors go along.
        vector: The dim that they go along.
        lanes: How many there are in a vector.
        row, column: The dims that a tile has several indices of.
        rows: How many rows.
        columns: The columns: where each begins and how many lanes it has, relative to the tile.
        step: How many columns there are to the next tile.
        chains: For "inner": how many sums there are for each element.
        written, looped: The other dims of the sum: written out, and looped over.
        outer: The other dims of the result.
    """

    product: Product
    kind: Kind
    vector: Dim
    lanes: int
    row: Dim
    column: Dim
    rows: int
    columns: tuple[Block, ...]
    step: int
    chains: int
    written: Dims
    looped: Dims
    outer: Dims

    def access(self, operand: int) -> str:
        """How an operand is read or written along the vectors: "one", "line", "group" or "spread"."""
        stride = self.vector.strides[operand]
        if self.lanes == 1 or stride == 0:
            return "one"
        if stride == 1:
            return "line"
        return "group" if self.groups(operand) else "spread"

    def groups(self, operand: int) -> dict[int, int]:
        """The places of a tile, each with the first of the neighbours that it is loaded with; none if it is alone."""
        stride = self.vector.strides[operand]
        if self.kind == "columns" or not 2 <= stride <= _GROUPED:
            return {}
        places = sorted(self.places(operand))
        first = {}
        for start in range(0, len(places), stride):
            group = places[start : start + stride]
            if group != list(range(group[0], group[0] + stride)):
                return {}
            first.update(dict.fromkeys(group, group[0]))
        return first

    def places(self, operand: int) -> set[int]:
        """Where a tile reads an operand, or writes the result, relative to its beginning."""
        dims = [(self.row, self.rows)]
        if self.kind != "columns":
            dims.append((self.column, len(self.columns)))
        dims += [(d, d.length) for d in self.written]
        found = {0}
        for d, n in dims:
            found = {p + i * d.strides[operand] for p in found for i in range(n)}
        return found


def best_tiling(product: Product, lane: Lane, registers: int, exact: bool = False) -> tuple[Tiling, float]:
    """The tiling that should take the fewest cycles, and how many.

    Args:
        product: What to compute.
        lane: The type of the elements.
        registers: How many vectors the machine has.
        exact: True if no element of the result may be computed twice, as where it is added to.
    """
    found = [(cycles(t, lane), k, t) for k, t in enumerate(_tilings(product, lane, registers, exact))]
    estimate, _, tiling = min(found, key=lambda f: f[:2])
    return tiling, estimate


@final
@dataclass(frozen=True, slots=True)
class Copied:
    """An operand that is copied before the tiles are computed: which one, x1 or x2, and how."""

    operand: int
    moves: Product


def best_packed(
    product: Product, lane: Lane, registers: int, exact: bool = False
) -> tuple[Tiling, Copied, float] | None:
    """The best tiling with a copy of an operand, in which lanes are side by side, and the cycles of both.

    None if no operand is worth copying.
    """
    found: list[tuple[float, int, Tiling, Copied]] = []
    for k, p in enumerate((product, product.swapped())):
        askew = any(d.strides[1] != 1 and d.strides[2] == 1 and d.length > 1 for d in p.columns)
        if not askew or p.multiplications < _OFTEN * p.size(1) or p.factors != (0, 1):
            continue
        packed, copies = pack(p, (False, True, False))
        moved = copies[1]
        assert moved is not None
        tiling, estimate = best_tiling(packed, lane, registers, exact)
        _, copying = best_tiling(moved, lane, registers)
        found.append((estimate + copying, k, tiling, Copied(1 - k, moved)))
    if not found:
        return None
    estimate, _, tiling, copied = min(found, key=lambda f: f[:2])
    return tiling, copied, estimate


def _tilings(product: Product, lane: Lane, registers: int, exact: bool) -> Iterator[Tiling]:
    for p in (product, product.swapped()) if product.factors == (0, 1) else (product,):
        for v in p.columns:
            yield from _along_columns(p, v, lane, registers, exact)
    for v in product.batch + (product.rows if product.factors != (0, 1) else ()):
        yield _along_batch(product, v, lane, exact)
    for v in product.inner:
        yield _along_inner(product, v, lane, registers, exact)
    if not product.dims:
        yield _tiling(product, "none", NO_DIM, 1, 1, ((0, 1),), 1)


def _along_columns(p: Product, v: Dim, lane: Lane, registers: int, exact: bool) -> Iterator[Tiling]:
    most = 4 if p.inner else 2
    if not p.rows and p.inner:
        most = min(8, registers // 2)
    lanes = min(lane.width, v.length)
    columns, step = _blocks(v.length, lanes, most, exact)
    rows = max(1, min(8, registers // 2 // len(columns))) if p.inner else 2
    yield _tiling(p, "columns", v, lanes, rows, columns, step, exact)


def _along_batch(p: Product, v: Dim, lane: Lane, exact: bool) -> Tiling:
    return _tiling(p, "batch", v, min(lane.width, v.length), 4, None, 4, exact)


def _along_inner(p: Product, v: Dim, lane: Lane, registers: int, exact: bool) -> Tiling:
    most = 2 if p.rows and p.columns and registers <= 16 else 4
    return _tiling(p, "inner", v, min(lane.width, v.length), most, None, most, exact)


def _tiling(
    p: Product,
    kind: Kind,
    v: Dim,
    lanes: int,
    rows: int,
    columns: tuple[Block, ...] | None,
    most: int,
    exact: bool = False,
) -> Tiling:
    """A tiling along `v`, with at most so many rows, and the columns given or at most so many."""
    inner = sorted((d for d in p.inner if d is not v), key=lambda d: -d.length)
    written: list[Dim] = []
    row = _blocked([d for d in p.rows if d is not v])
    rows = even_block(row.length, rows, exact)
    column = v
    if columns is None:
        column = _blocked([d for d in p.columns if d is not v])
        most = even_block(column.length, most, exact)
        columns = tuple((j, 1) for j in range(most))
    while inner and inner[-1].length <= _UNROLLED:
        if volume([*written, inner[-1]]) * rows * len(columns) > _WRITTEN:
            break
        written.insert(0, inner.pop())
    used = (v, row, column)
    outer = tuple(d for d in p.kept if d not in used)
    tile = rows * len(columns)
    chains = _chains(v, lanes, tile) if kind == "inner" else 1
    return Tiling(p, kind, v, lanes, row, column, rows, columns, most, chains, tuple(written), tuple(inner), outer)


def _blocked(dims: Sequence[Dim]) -> Dim:
    """Of the dims of a role, the one to have several indices of in a tile: the last one that is long enough."""
    return max(reversed(dims), key=lambda d: min(d.length, 4), default=NO_DIM)


def _chains(v: Dim, lanes: int, tile: int) -> int:
    """Sums side by side hide the latency of an addition: 4 cycles, 2 at a time."""
    return max(1, min(8 // tile, v.length // lanes))


def even_block(length: int, most: int, exact: bool = False) -> int:
    """The size of blocks that overlap least, and of these the largest; if `exact`, of those that do not overlap."""
    if exact:
        return max(n for n in range(1, min(length, most) + 1) if length % n == 0)
    return max(range(1, min(length, most) + 1), key=lambda n: (-math.ceil(length / n) * n, n))


def _blocks(length: int, lanes: int, most: int, exact: bool) -> tuple[tuple[Block, ...], int]:
    """The vectors of a tile along its columns, and how many columns it is to the next tile."""
    vectors = math.ceil(length / lanes)
    if vectors <= most:
        if exact:
            return tuple((j * lanes, min(lanes, length - j * lanes)) for j in range(vectors)), length
        return tuple((min(j * lanes, length - lanes), lanes) for j in range(vectors)), length
    count = max(range(1, most + 1), key=lambda n: (-math.ceil(length / (n * lanes)) * n, n))
    return tuple((j * lanes, lanes) for j in range(count)), count * lanes


# ── estimates, in cycles of a core with two units for vectors


def cycles(t: Tiling, lane: Lane) -> float:
    """About how many cycles a tiling takes if its operands are in the cache."""
    rows, columns = t.rows, len(t.columns)
    blocks = math.ceil(t.row.length / rows) * math.ceil(t.column.length / (t.step if t.column is t.vector else columns))
    if t.kind == "batch":
        blocks *= math.ceil(t.vector.length / t.lanes)
    steps = volume(t.looped)
    if t.kind == "inner":
        steps *= math.ceil(t.vector.length / t.lanes)
    written = volume(t.written)
    times = 0.5 if lane.register in ("float", "double") else 1.5
    work = times * rows * columns * written
    if steps > 1:
        work = max(work, 4.0 * written / t.chains) + 0.5
    reads1 = rows * written if t.row.strides[0] or any(d.strides[0] for d in t.written) else 1
    reads2 = columns * written if t.column.strides[1] or any(d.strides[1] for d in t.written) else 1
    if 0 in t.product.factors:
        work += reads1 * _read(t, 0)
    if 1 in t.product.factors:
        work += reads2 * _read(t, 1)
    end = rows * columns * (2 * math.log2(max(2, t.lanes)) + 2 if t.kind == "inner" else _write(t))
    return volume(t.outer) * blocks * (steps * work + end + 4)


def _read(t: Tiling, operand: int) -> float:
    odd = 1.0 if t.lanes & (t.lanes - 1) else 0.0
    return {"one": 0.5, "line": 0.5 + odd, "group": 1.5 + odd, "spread": 0.7 * t.lanes + odd}[t.access(operand)]


def _write(t: Tiling) -> float:
    odd = 1.0 if t.lanes & (t.lanes - 1) else 0.0
    return {"one": 1.0, "line": 1.0 + odd, "group": 2.5 + odd, "spread": 1.2 * t.lanes + odd}[t.access(2)]
