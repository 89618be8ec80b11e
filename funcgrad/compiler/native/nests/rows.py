"""Rows: what lanes read that stand apart in memory, while the elements beside them are read soon, too.

Take points, of three numbers each, with a point in each lane. The first numbers of all points are three apart, and the
second and third ones stand between them. So the rows of the lanes are read as they lie in memory, as whole vectors, and
shuffles put the first, the second and the third numbers together:

    x0 y0 z0 x1 | y1 z1 x2 y2 | z2 x3 y3 z3     →     x0 x1 x2 x3 | y0 y1 y2 y3 | z0 z1 z2 z3

The same is done with a block of a matrix whose rows are read along its columns: there, the rows do not follow each
other, and each is a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import final

from funcgrad.compiler.native.ir.kernel import Access, Fold, Kernel, Load, Statement, Store, operands, result
from funcgrad.compiler.native.nests.axis import Axis
from funcgrad.core.ir import Atom
from funcgrad.core.views import View, size

# rows up to this length are taken apart, if it takes so many shuffles for each vector
_LONGEST, _SHUFFLES = 16, 6
TILE = 8
"""How many rows a block of a matrix has, at most.

n rows take n·log n shuffles, for each of which LLVM takes some 0.1 ms. Memory is the limit of what such a kernel does,
and not how long its vectors are.
"""

# a kernel of more statements is not written out for each element of a block
_SMALL = 12


@final
@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of an access.

    Attributes:
        length: How many elements there are in a row.
        pitch: How far apart the rows of neighbouring lanes begin.
        within: The axes that number the elements of a row.
    """

    length: int
    pitch: int
    within: tuple[Axis, ...]

    @property
    def cost(self) -> int:
        """How many shuffles there are for each vector: p − 1 for each prime factor p of the length."""
        return _shuffles(self.length)


def rows_of(
    kernel: Kernel, s: Access, along: Axis, lanes: int, outer: Sequence[Axis], inner: Sequence[Axis]
) -> Rows | None:
    """The rows that an access goes along, if these are short, and whole ones can be read or written.

    Along the axis of lanes it goes from one row to the next, and along short ones from one element of a row to the
    next. What a nest both reads and writes has to be read and written in order.
    """
    pitch = along.strides[s]
    if pitch < 2 or s.offsets:
        return None
    within = sorted(_within(s, along, pitch, outer, inner), key=lambda a: a.strides[s])
    reach = 1
    for a in within:
        # the axes number the elements of a row through
        if a.strides[s] != reach or not a.short:
            return None
        reach *= a.length
    together = pitch <= _LONGEST and not size(s.buffer.shape) % pitch and reach <= pitch
    if not together and (reach != lanes or along in inner):
        return None
    rows = Rows(pitch if together else reach, pitch, tuple(within))
    others = [t for t in kernel.accesses if t.buffer is s.buffer]
    if isinstance(s, Load):
        return rows if rows.cost <= _SHUFFLES and all(isinstance(t, Load) for t in others) else None
    if s.combine or rows.cost > _SHUFFLES:
        return None
    inside = any(a.strides[s] for a in inner)
    if len(others) > 1:
        # they have to be in one run over the folded axes
        near = not inside or not _after_folds(kernel, others)
        return rows if together and reach == 1 and near and _complete(s, others, pitch) else None
    # the loops over a row have to be within that over the rows, and no other loop within them
    whole = reach == rows.length and (not together or not s.view.offset % pitch)
    return rows if whole and not inside and along in outer else None


def _complete(s: Store, others: Sequence[Access], pitch: int) -> bool:
    """True if stores write one element of each row each, and all of it together."""
    first = min(t.view.offset for t in others)
    alike = all(isinstance(t, Store) and not t.combine and t.view.strides == s.view.strides for t in others)
    return alike and not first % pitch and sorted(t.view.offset - first for t in others) == list(range(pitch))


def _after_folds(kernel: Kernel, accesses: Sequence[Access]) -> bool:
    """True if something that is stored is computed from what a fold gives."""
    after: set[Atom] = set()
    for s in kernel.body:
        out = result(s)
        if out is not None and (isinstance(s, Fold) or any(x in after for x in operands(s))):
            after.add(out)
    return any(x in after for s in accesses for x in operands(s))


def _within(s: Access, along: Axis, pitch: int, outer: Sequence[Axis], inner: Sequence[Axis]) -> list[Axis]:
    """The axes along which an access stays in a row."""
    if pitch > _LONGEST:
        return [a for a in (*outer, *inner) if a.tile and a.strides[s]]
    return [a for a in (*outer, *inner) if a is not along and a.strides[s] % pitch]


def _shuffles(length: int) -> int:
    for p in range(2, length + 1):
        if length % p == 0:
            return p - 1 + _shuffles(length // p)
    return 0


# ── blocks of matrices


def in_blocks(kernel: Kernel, vector_bytes: int) -> list[Kernel]:
    """A kernel that reads one array along its rows and another along its columns, cut into blocks of as many rows.

    Returns:
        The kernel with an axis more, of the rows in a block, and the kernel for the rows that are left, if there are.
        Only the kernel itself if it is not of this kind.
    """
    found = _across(kernel)
    if found is None:
        return [kernel]
    row, column = found
    lanes = min(TILE, vector_bytes // max(int(s.buffer.dtype.itemsize) for s in kernel.accesses))
    length = kernel.domain[row]
    if lanes < 4 or min(length, kernel.domain[column]) < 2 * lanes:
        return [kernel]
    whole = length - length % lanes
    domain = [*kernel.domain, lanes]
    domain[row] = whole // lanes

    def block(v: View) -> View:
        strides = [*v.strides, v.strides[row]]
        strides[row] *= lanes
        return View(tuple(domain), tuple(strides), v.offset)

    def left(v: View) -> View:
        shape = (*v.shape[:row], length - whole, *v.shape[row + 1 :])
        return View(shape, v.strides, v.offset + whole * v.strides[row])

    tile = len(kernel.domain)
    blocks = Kernel(tuple(domain), (), tuple(_over(s, block) for s in kernel.body), tile)
    if whole == length:
        return [blocks]
    rest = tuple(length - whole if i == row else n for i, n in enumerate(kernel.domain))
    return [blocks, Kernel(rest, (), tuple(_over(s, left) for s in kernel.body))]


def _across(kernel: Kernel) -> tuple[int, int] | None:
    """The axis of the rows in a block, along which something is read in order, and that along which all is written."""
    plain = not kernel.folded and len(kernel.body) <= _SMALL
    if not plain or any(s.offsets or (isinstance(s, Store) and s.combine) for s in kernel.accesses):
        return None
    stores = [s.view.strides for s in kernel.body if isinstance(s, Store)]
    loads = [s.view.strides for s in kernel.body if isinstance(s, Load)]
    axes = range(len(kernel.domain))
    for column in axes:
        if all(strides[column] == 1 for strides in stores):
            for row in axes:
                if any(strides[row] == 1 and strides[column] > _LONGEST for strides in loads):
                    return row, column
    return None


def _over(s: Statement, change: Callable[[View], View]) -> Statement:
    return replace(s, view=change(s.view)) if isinstance(s, Load | Store) else s
