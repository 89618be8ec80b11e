"""The loops of a contraction that is computed here, not by BLAS: tile after tile.

Where a length is not a multiple of the size of its blocks, the last block begins earlier and overlaps the one before:
the elements in both are computed twice, to the same value, and no other code is needed for what is left over. Only
where the result is added to does a smaller block follow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, final

from funcgrad.compiler.native.contraction.dims import Dim
from funcgrad.compiler.native.contraction.tiles import Block, Lane, Tiling
from funcgrad.compiler.native.machine.builder import I32, Builder, Type, Value, constant

Pointers: TypeAlias = tuple[Value, Value, Value]
Sums: TypeAlias = list[Value]

# Longer sums are sums of sums of so many products each, whose errors grow with the length of one, not of all.
_PART = 256


@final
class TileWriter:
    """Writes the loops of one product.

    Args:
        b: Where to.
        tiling: What to write.
        lane: The type of the elements.
        add: True to add to what is in the result; else it is overwritten.
    """

    def __init__(self, b: Builder, tiling: Tiling, lane: Lane, add: bool) -> None:
        self._b = b
        self._t = tiling
        self._lane = lane
        self._add = add
        self._size = Type(lane.memory).bits // 8

    def write(self, x1: Value, x2: Value, y: Value) -> None:
        """Write the code, given the addresses of the buffers."""
        t = self._t
        buffers = (x2, x1, y) if t.product.exchanged else (x1, x2, y)
        pointers = [self._b.offset(p, o, self._lane.memory) for p, o in zip(buffers, t.product.offsets, strict=True)]
        self._outer((pointers[0], pointers[1], pointers[2]), t.outer)

    # ── loops over the result

    def _outer(self, at: Pointers, dims: Sequence[Dim]) -> None:
        if dims:
            self._blocks(at, dims[0], 1, lambda there, _: self._outer(there, dims[1:]))
            return
        t = self._t
        if t.kind == "batch":
            self._blocks(at, t.vector, t.lanes, self._rows_and_columns)
        elif t.kind == "columns":
            self._blocks(
                at,
                t.vector,
                t.step,
                lambda there, n: self._blocks(
                    there, t.row, t.rows, lambda here, _: self._tile(here, t.lanes, self._columns(n))
                ),
            )
        else:
            self._rows_and_columns(at, t.lanes)

    def _rows_and_columns(self, at: Pointers, lanes: int) -> None:
        t = self._t
        self._blocks(
            at,
            t.row,
            t.rows,
            lambda there, _: self._blocks(
                there, t.column, len(t.columns), lambda here, _: self._tile(here, lanes, t.columns)
            ),
        )

    def _columns(self, length: int) -> Sequence[Block]:
        """The vectors of a tile of so many columns."""
        t = self._t
        if length == t.step:
            return t.columns
        return [(start, min(t.lanes, length - start)) for start in range(0, length, t.lanes)]

    def _blocks(self, at: Pointers, d: Dim, size: int, body: Callable[[Pointers, int], None]) -> None:
        """Run `body` for blocks of a dim, with pointers to where the block begins, and its size."""
        if size >= d.length:
            body(at, d.length)
            return
        b = self._b
        left = d.length % size
        overlap = bool(left) and not self._add
        stop = d.length if overlap else d.length - left

        def run(i: Value, _: Sums) -> Sums:
            if overlap:
                i = b.intrinsic("smin", i, constant(i.type, d.length - size))
            body(self._advance(at, d, i), size)
            return []

        if stop > size:
            b.loop(0, stop, size, [], run)
        else:
            body(at, size)
        if left and not overlap:
            body(self._advance(at, d, stop), left)

    def _advance(self, at: Pointers, d: Dim, index: Value | int) -> Pointers:
        p1, p2, py = (self._move(p, index, stride) for p, stride in zip(at, d.strides, strict=True))
        return p1, p2, py

    def _move(self, pointer: Value, index: Value | int, stride: int) -> Value:
        if not stride:
            return pointer
        if isinstance(index, int):
            return self._b.offset(pointer, index * stride, self._lane.memory)
        if stride != 1:
            index = self._b.op("mul", index, constant(index.type, stride))
        return self._b.offset(pointer, index, self._lane.memory)

    # ── one tile

    def _tile(self, at: Pointers, lanes: int, columns: Sequence[Block]) -> None:
        t = self._t
        widths = [n if t.kind == "columns" else lanes for _, n in columns]
        if not t.product.inner:
            self._finish(at, columns, self._products(at, columns, widths))
            return
        zeros = [constant(Type(self._lane.register, n), 0) for n in widths] * (t.rows * t.chains)
        sums = self._sum(at, columns, widths, t.looped, zeros)
        if t.kind == "inner":
            sums = self._folded(sums)
        self._finish(at, columns, sums)

    def _sum(self, at: Pointers, columns: Sequence[Block], widths: list[int], dims: Sequence[Dim], sums: Sums) -> Sums:
        """The sums, with the products along these dims of the sum, and along the vectors, added."""
        if not dims:
            if self._t.kind == "inner":
                return self._along(at, columns, sums)
            return self._step(at, columns, widths, sums)
        d = dims[0]

        def body(i: Value, there: Sums) -> Sums:
            return self._sum(self._advance(at, d, i), columns, widths, dims[1:], there)

        def part(start: Value, there: Sums) -> Sums:
            b = self._b
            stop = b.op("add", start, constant(start.type, _PART))
            if d.length % _PART:
                stop = b.intrinsic("smin", stop, constant(stop.type, d.length))
            zeros = [constant(x.type, 0) for x in there]
            return list(map(self._plus, there, b.loop(start, stop, 1, zeros, body)))

        if d.length >= 2 * _PART and sums[0].type.is_float:
            return self._b.loop(0, d.length, _PART, sums, part)
        return self._b.loop(0, d.length, 1, sums, body)

    def _along(self, at: Pointers, columns: Sequence[Block], sums: Sums) -> Sums:
        """Add the products along a dim that the lanes go along."""
        t, v = self._t, self._t.vector
        count = len(sums) // t.chains
        widths = [t.lanes] * len(columns)

        def part(chains: int) -> Callable[[Value | int, Sums], Sums]:
            def run(i: Value | int, there: Sums) -> Sums:
                there = list(there)
                for c in range(chains):
                    start = self._advance(self._advance(at, v, i), v, c * t.lanes)
                    own = slice(c * count, (c + 1) * count)
                    there[own] = self._step(start, columns, widths, there[own])
                return there

            return run

        done = 0
        for chains in (t.chains, 1) if t.chains > 1 else (1,):
            step = chains * t.lanes
            stop = v.length - (v.length - done) % step
            if stop - done > step:
                sums = self._b.loop(done, stop, step, sums, part(chains))
            elif stop > done:
                sums = part(chains)(done, sums)
            done = stop
        if done < v.length:
            start = self._advance(at, v, v.length - t.lanes)
            own = self._step(start, columns, widths, sums[:count], counted=v.length - done)
            sums = own + sums[count:]
        return sums

    def _step(
        self, at: Pointers, columns: Sequence[Block], widths: list[int], sums: Sums, counted: int | None = None
    ) -> Sums:
        """Add the products of a tile for one index of the dims of the sum that are looped over.

        Args:
            at: Where it begins.
            columns: Its columns.
            widths: How many lanes the vectors of each column have.
            sums: What to add to: rows by columns.
            counted: Of the lanes, how many of the last ones count; None if all do.
        """
        for index in _indices(self._t.written):
            read = _Reads(self, at, index, columns, widths, counted)
            sums = [
                self._multiply_add(read.first(i, j), read.second(j), sums[i * len(columns) + j])
                for i in range(self._t.rows)
                for j in range(len(columns))
            ]
        return sums

    def _products(self, at: Pointers, columns: Sequence[Block], widths: list[int]) -> Sums:
        """The products of a tile where nothing is summed."""
        factors = self._t.product.factors
        read = _Reads(self, at, (), columns, widths, None)
        out = []
        for i in range(self._t.rows):
            for j, n in enumerate(widths):
                if not factors:
                    x = constant(Type(self._lane.register, n), 0)
                elif factors == (0,):
                    x = read.first(i, j)
                else:
                    x = self._multiply(read.first(i, j), read.second(j))
                out.append(x)
        return out

    def _finish(self, at: Pointers, columns: Sequence[Block], sums: Sums) -> None:
        """Write the sums of a tile to the result."""
        t = self._t
        grouped = t.groups(2) if t.kind == "batch" and sums[0].type.lanes > 1 else {}
        pending: dict[int, Value] = {}
        for i in range(t.rows):
            for j, (start, _) in enumerate(columns):
                place = i * t.row.strides[2] + start * t.column.strides[2]
                x = sums[i * len(columns) + j]
                if place in grouped:
                    pending[place] = x
                else:
                    self._put(self._b.offset(at[2], place, self._lane.memory), x)
        for place in sorted(set(grouped.values())):
            group = [pending[place + k] for k in range(t.vector.strides[2])]
            self._put(self._b.offset(at[2], place, self._lane.memory), _interleaved(self._b, group), grouped=True)

    # ── arithmetic

    def _multiply(self, x: Value, y: Value) -> Value:
        return self._b.op("fmul" if x.type.is_float else "and" if self._lane.logical else "mul", x, y)

    def _multiply_add(self, x: Value, y: Value, total: Value) -> Value:
        if x.type.is_float:
            # one rounding where the machine has an instruction for it
            return self._b.intrinsic("fmuladd", x, y, total)
        return self._b.op("or" if self._lane.logical else "add", total, self._multiply(x, y))

    def _plus(self, x: Value, y: Value) -> Value:
        return self._b.op("fadd" if x.type.is_float else "or" if self._lane.logical else "add", x, y)

    def _folded(self, sums: Sums) -> Sums:
        """The sums of the chains and the lanes, pairwise."""
        b = self._b
        count = len(sums) // self._t.chains
        chains = [sums[k : k + count] for k in range(0, len(sums), count)]
        while len(chains) > 1:
            pairs = [list(map(self._plus, x, y)) for x, y in zip(chains[::2], chains[1::2], strict=False)]
            chains = pairs + chains[len(pairs) * 2 :]
        return [self._across(b, x) for x in chains[0]]

    def _across(self, b: Builder, x: Value) -> Value:
        lane = Type(x.type.lane)
        if x.type.lanes == 1:
            return x
        if x.type.is_float:
            name = f"llvm.vector.reduce.fadd.{x.type.suffix}"
            b.module.declare(name, lane, [lane, x.type])
            # the order is free, so LLVM chooses a tree
            return b.emit(f"call reassoc {lane} @{name}({constant(lane, -0.0)}, {x})", lane)
        name = "or" if self._lane.logical else "add"
        return b.call(f"llvm.vector.reduce.{name}.{x.type.suffix}", lane, x)

    # ── memory

    def _registers(self, x: Value) -> Value:
        return x if x.type.lane == self._lane.register else self._b.cast("fpext", x, self._lane.register)

    def read(self, operand: int, pointer: Value, lanes: int) -> Value:
        """Elements of an operand along the vectors."""
        b, memory = self._b, self._lane.memory
        access = self._t.access(operand)
        if access == "one" or lanes == 1:
            return b.splat(self._registers(b.load(Type(memory), pointer, self._size)), lanes)
        if access == "line":
            return self._registers(b.load(Type(memory, lanes), pointer, self._size))
        return self._registers(self._gather(self._spread(operand, pointer, lanes)))

    def read_group(self, operand: int, pointer: Value, lanes: int) -> list[Value]:
        """Neighbouring elements, each along the vectors."""
        stride = self._t.vector.strides[operand]
        x = self._b.load(Type(self._lane.memory, lanes * stride), pointer, self._size)
        parts = [self._b.shuffle(x, x, range(k, lanes * stride, stride)) for k in range(stride)]
        return [self._registers(part) for part in parts]

    def _put(self, pointer: Value, x: Value, grouped: bool = False) -> None:
        b, lane = self._b, self._lane
        type = x.type.of(lane.memory)
        spread = x.type.lanes > 1 and not grouped and self._t.access(2) == "spread"
        place = self._spread(2, pointer, x.type.lanes) if spread else pointer
        if self._add:
            there = self._gather(place) if spread else b.load(type, place, self._size)
            x = self._plus(self._registers(there), x)
        if x.type != type:
            x = b.cast("fptrunc", x, lane.memory)
        if not spread:
            b.store(x, place, self._size)
            return
        mask = constant(Type("i1", type.lanes), True)
        name = f"llvm.masked.scatter.{type.suffix}.{place.type.suffix}"
        b.module.declare_text(name, f"declare void @{name}({type}, {place.type}, {mask.type})")
        b.do(f"call void @{name}({x}, {place.type} align {self._size} {place.text}, {mask})")

    def _spread(self, operand: int, pointer: Value, lanes: int) -> Value:
        """The addresses of elements along the vectors."""
        stride = self._t.vector.strides[operand]
        lane = I32.lane if abs(stride) * lanes < 2**31 else "i64"
        places = ", ".join(f"{lane} {i * stride}" for i in range(lanes))
        return self._b.offset(pointer, Value(f"<{places}>", Type(lane, lanes)), self._lane.memory)

    def _gather(self, places: Value) -> Value:
        type = Type(self._lane.memory, places.type.lanes)
        mask = constant(Type("i1", type.lanes), True)
        name = f"llvm.masked.gather.{type.suffix}.{places.type.suffix}"
        self._b.module.declare_text(name, f"declare {type} @{name}({places.type}, {mask.type}, {type})")
        at = f"{places.type} align {self._size} {places.text}"
        return self._b.emit(f"call {type} @{name}({at}, {mask}, {type} zeroinitializer)", type)

    def counted(self, x: Value, lanes: int) -> Value:
        """The last lanes of `x`, and zero in the others, which were counted before."""
        type = Type("i1", x.type.lanes)
        flags = ", ".join(f"i1 {'true' if i >= x.type.lanes - lanes else 'false'}" for i in range(x.type.lanes))
        return self._b.select(Value(f"<{flags}>", type), x, constant(x.type, 0))

    def place(self, pointer: Value, offset: int) -> Value:
        """The address some elements behind another."""
        return self._b.offset(pointer, offset, self._lane.memory)

    @property
    def tiling(self) -> Tiling:
        """What is written."""
        return self._t


@final
class _Reads:
    """What a tile reads for one index of the sum; each element once."""

    def __init__(
        self,
        writer: TileWriter,
        at: Pointers,
        index: Sequence[int],
        columns: Sequence[Block],
        widths: Sequence[int],
        counted: int | None,
    ) -> None:
        t = writer.tiling
        self._writer = writer
        self._at = at
        self._columns = columns
        self._widths = widths
        self._counted = counted
        self._base = [sum(i * d.strides[k] for i, d in zip(index, t.written, strict=True)) for k in (0, 1)]
        self._known: dict[tuple[int, int, int], Value] = {}

    def first(self, i: int, j: int) -> Value:
        """The element of x1 in row i, as wide as column j."""
        return self._read(0, self._base[0] + i * self._writer.tiling.row.strides[0], self._widths[j])

    def second(self, j: int) -> Value:
        """The elements of x2 in column j."""
        t = self._writer.tiling
        return self._read(1, self._base[1] + self._columns[j][0] * t.column.strides[1], self._widths[j])

    def _read(self, operand: int, place: int, lanes: int) -> Value:
        key = (operand, place, lanes)
        if key not in self._known:
            writer = self._writer
            t = writer.tiling
            group = t.groups(operand) if lanes > 1 else {}
            start = group.get(place, place)
            pointer = writer.place(self._at[operand], start)
            xs = writer.read_group(operand, pointer, lanes) if group else [writer.read(operand, pointer, lanes)]
            if self._counted is not None:
                xs = [writer.counted(x, self._counted) for x in xs]
            self._known |= {(operand, start + k, lanes): x for k, x in enumerate(xs)}
        return self._known[key]


def _indices(dims: Sequence[Dim]) -> list[tuple[int, ...]]:
    """All indices of some dims."""
    found: list[tuple[int, ...]] = [()]
    for d in dims:
        found = [(*index, i) for index in found for i in range(d.length)]
    return found


def _interleaved(b: Builder, xs: Sequence[Value]) -> Value:
    """The first lanes of all, then the second lanes of all, and so on."""
    lanes, count = xs[0].type.lanes, len(xs)
    if count == 2:
        return b.shuffle(xs[0], xs[1], [k * lanes + i for i in range(lanes) for k in range(2)])
    left = b.shuffle(xs[0], xs[1], range(2 * lanes))
    right = b.shuffle(xs[2], xs[-1], range(2 * lanes))
    return b.shuffle(left, right, [k * lanes + i for i in range(lanes) for k in range(count)])
