"""Contractions by calls of BLAS: matrix products, matrix-vector products, dot products.

    for each dim that the routine does not run through itself
        y = x1 · x2, or y += x1 · x2 after the first along a dim of the sum

A transposition is a flag of the call, and any distance between rows is an argument. What BLAS can't read, because
neither of the two strides of a matrix is 1, is copied to scratch memory first; so is a result that it can't write.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias, final

from funcgrad.compiler.native.contraction.dims import Dim, Dims, Product, pack, seconds_of_memory, volume
from funcgrad.compiler.native.machine.blas import Blas
from funcgrad.compiler.native.machine.builder import I32, I64, PTR, Builder, Type, Value, constant

Externals: TypeAlias = Callable[[str], Value]

_BYTES = {"float": 4, "double": 8}
_ALIGN = 64
# which of x1, x2 and y are packed: few first
_PACKS = sorted(itertools.product((False, True), repeat=3), key=sum)
# measured with OpenBLAS on one core: seconds of a call, of an element that is copied, and of one that it copies itself
# for a matrix product; products per second in a lane of a vector, in matrix products and in others; products up to
# which matrix products have code of their own
_CALL = 25e-9
_COPY = 1e-9
_OWN_COPY = 1e-10
_RATE = 6e9
_RATE_OF_VECTORS = 1.6e9
_LARGE = 1 << 18


@final
@dataclass(frozen=True, slots=True)
class Call:
    """A call of BLAS for each index of some dims.

    Attributes:
        product: The product; its operands may have been exchanged.
        routine: gemm, gemv or dot.
        row, column, inner: The dims that the routine runs through; None where there is none.
        outer: The other dims of the result.
        repeated: The other dims of the sum.
        packed: For x1, x2 and y of `product`: the copy to or from scratch memory, or None.
        places: For each, where its scratch memory begins, in bytes.
        scratch: How many bytes there are in all.
    """

    product: Product
    routine: str
    row: Dim | None
    column: Dim | None
    inner: Dim
    outer: Dims
    repeated: Dims
    packed: tuple[Product | None, Product | None, Product | None]
    places: tuple[int, int, int]
    scratch: int

    @property
    def calls(self) -> int:
        """How many calls there are."""
        return volume(self.outer) * volume(self.repeated)


def best_call(product: Product, lane: str, blas: Blas) -> tuple[Call, float] | None:
    """The way to compute a product by BLAS that should take the least time, and that time; None if there is none."""
    if lane not in _BYTES or not product.inner or not blas.addresses:
        return None
    found: list[tuple[float, int, Call]] = []
    for k, packs in enumerate(_PACKS):
        if any(call.calls == 1 for _, _, call in found):
            break
        found += [(seconds(call, lane), k, call) for call in _packed_calls(product, packs, lane, blas)]
    if not found:
        return None
    time, _, call = min(found, key=lambda f: f[:2])
    return call, time


def _packed_calls(product: Product, packs: tuple[bool, ...], lane: str, blas: Blas) -> Iterator[Call]:
    """The calls that are possible if some of x1, x2 and y are packed."""
    packed, copies = pack(product, packs)
    places, scratch = [], 0
    for k, made in enumerate(copies):
        places.append(scratch)
        if made is not None:
            bytes_ = _BYTES[lane] * product.size(k)
            scratch += math.ceil(bytes_ / _ALIGN) * _ALIGN
    for exchanged in (False, True):
        p = packed.swapped() if exchanged else packed
        order = (1, 0, 2) if exchanged else (0, 1, 2)
        c1, c2, cy = (copies[k] for k in order)
        q1, q2, qy = (places[k] for k in order)
        for row, column, inner in itertools.product((*p.rows, None), (*p.columns, None), p.inner):
            routine = _routine(row, column, inner, blas.integers)
            if routine is not None:
                outer = tuple(d for d in p.kept if d not in (row, column))
                repeated = tuple(d for d in p.inner if d is not inner)
                call = (p, routine, row, column, inner, outer, repeated, (c1, c2, cy), (q1, q2, qy), scratch)
                yield Call(*call)


def _routine(row: Dim | None, column: Dim | None, inner: Dim, integers: int) -> str | None:
    """The routine that runs through these dims; None if no routine does."""
    if any(s >= 2 ** (integers - 1) for d in (row, column, inner) if d for s in (d.length, *d.strides)):
        return None
    if row and column:
        fits = _matrix(row, inner, 0) is not None and _matrix(inner, column, 1) is not None
        return "gemm" if fits and column.strides[2] == 1 and row.strides[2] >= column.length else None
    if column:
        # the same with the operands exchanged
        return None
    if row:
        fits = _matrix(row, inner, 0) is not None and inner.strides[1] > 0 and row.strides[2] > 0
        return "gemv" if fits else None
    return "dot" if inner.strides[0] > 0 and inner.strides[1] > 0 else None


def _matrix(row: Dim, column: Dim, operand: int) -> tuple[bool, int] | None:
    """Whether a matrix is transposed, and how far apart its rows in memory are; None if BLAS can't read it."""
    down, right = row.strides[operand], column.strides[operand]
    if right == 1 and down >= column.length:
        return False, down
    if down == 1 and right >= row.length:
        return True, right
    return None


def seconds(call: Call, lane: str) -> float:
    """About how long the calls take on one core."""
    m, n, k = (1 if d is None else d.length for d in (call.row, call.column, call.inner))
    size = _BYTES[lane]
    lanes = 64 // size
    memory = seconds_of_memory(size * sum(call.product.size(i) for i in range(3)))
    copies = [c.multiplications for c in call.packed if c is not None]
    copying = sum(copies) * _COPY + len(copies) * 1e-7
    if call.routine == "gemm":
        # short dims leave parts of the registers unused, and so does the last vector of a row
        filled = min(1.0, m / 8) * min(1.0, k / 16) * n / (math.ceil(n / lanes) * lanes)
        rate = _RATE * lanes * filled * (0.5 if _is_slow(call) and m * n * k < _LARGE else 1.0)
        return call.calls * (_CALL + m * n * k / rate + (m + n) * k * _OWN_COPY) + memory + copying
    return max(call.calls * (_CALL + m * k / _rate_of_vectors(call, lanes)), memory) + copying


def _rate_of_vectors(call: Call, lanes: int) -> float:
    """Products per second, of a matrix with a vector, or of vectors."""
    row, inner = call.row, call.inner
    if row is None:
        return _RATE_OF_VECTORS * (lanes if inner.strides[:2] == (1, 1) else 1)
    line = inner.length if inner.strides[0] == 1 else row.length
    full = inner.strides[1] == 1 and row.strides[2] == 1
    return _RATE_OF_VECTORS * (lanes * line / (line + 16) if full else 1)


def _is_slow(call: Call) -> bool:
    """True if both operands have the dim of the sum last: OpenBLAS has no good code for small ones of them."""
    return call.column is not None and call.inner.strides[0] == 1 and call.inner.strides[1] == 1


# ── code


@final
class CallWriter:
    """Writes the calls.

    Args:
        b: Where to.
        call: What to write.
        lane: `float` or `double`.
        blas: The library.
        externals: Gives the address of a routine.
        add: True to add to what is in the result.
    """

    def __init__(self, b: Builder, call: Call, lane: str, blas: Blas, externals: Externals, add: bool) -> None:
        self._b = b
        self._call = call
        self._lane = lane
        self._blas = blas
        self._add = add
        self._function = externals(("s" if lane == "float" else "d") + call.routine)

    def write(self, x1: Value, x2: Value, y: Value) -> None:
        """Write the code, given where x1, x2 and y of the call's product begin."""
        at = [self._b.offset(p, o, self._lane) for p, o in zip((x1, x2, y), self._call.product.offsets, strict=True)]
        self._outer(at, self._call.outer)

    def _outer(self, at: list[Value], dims: Dims) -> None:
        if not dims:
            self._repeat(at, self._call.repeated, None)
            return

        def body(i: Value, _: list[Value]) -> list[Value]:
            self._outer(self._advance(at, dims[0], i), dims[1:])
            return []

        self._b.loop(0, dims[0].length, 1, [], body)

    def _repeat(self, at: list[Value], dims: Dims, place: Value | None) -> None:
        """Loops over the dims of the sum; the first call of all overwrites, the others add."""
        if not dims:
            self._once(at, place)
            return

        def body(i: Value, _: list[Value]) -> list[Value]:
            now = i if place is None else self._b.op("or", place, i)
            self._repeat(self._advance(at, dims[0], i), dims[1:], now)
            return []

        self._b.loop(0, dims[0].length, 1, [], body)

    def _advance(self, at: list[Value], d: Dim, i: Value) -> list[Value]:
        b = self._b
        moved = []
        for p, stride in zip(at, d.strides, strict=True):
            if stride:
                step = i if stride == 1 else b.op("mul", i, constant(I64, stride))
                p = b.offset(p, step, self._lane)
            moved.append(p)
        return moved

    def _number(self, value: float) -> Value:
        return constant(Type(self._lane), value)

    def _once(self, at: list[Value], place: Value | None) -> None:
        beta = self._number(1.0 if self._add else 0.0)
        first = None
        if place is not None and not self._add:
            first = self._b.compare("eq", place, constant(I64, 0))
            beta = self._b.select(first, beta, self._number(1.0))
        {"gemm": self._gemm, "gemv": self._gemv, "dot": self._dot}[self._call.routine](at, beta, first)

    def _gemm(self, at: list[Value], beta: Value, _: Value | None) -> None:
        row, column, inner = self._call.row, self._call.column, self._call.inner
        assert row is not None and column is not None
        first, second = _matrix(row, inner, 0), _matrix(inner, column, 1)
        assert first is not None and second is not None
        (t1, ld1), (t2, ld2) = first, second
        m, n, k, ldy = row.length, column.length, inner.length, row.strides[2]
        one = self._number(1.0)
        if self._blas.interface == "cblas":
            self._invoke(
                101,
                112 if t1 else 111,
                112 if t2 else 111,
                m,
                n,
                k,
                one,
                at[0],
                ld1,
                at[1],
                ld2,
                beta,
                at[2],
                ldy,
                enums=3,
            )
        else:
            # by columns, the transposed product has the same places
            self._invoke("NT"[t2], "NT"[t1], n, m, k, one, at[1], ld2, at[0], ld1, beta, at[2], ldy)

    def _gemv(self, at: list[Value], beta: Value, _: Value | None) -> None:
        row, inner = self._call.row, self._call.inner
        assert row is not None
        matrix = _matrix(row, inner, 0)
        assert matrix is not None
        transposed, ld = matrix
        down, right = (inner.length, row.length) if transposed else (row.length, inner.length)
        tail = (self._number(1.0), at[0], ld, at[1], inner.strides[1], beta, at[2], row.strides[2])
        if self._blas.interface == "cblas":
            self._invoke(101, 112 if transposed else 111, down, right, *tail, enums=2)
        else:
            self._invoke("TN"[transposed], right, down, *tail)

    def _dot(self, at: list[Value], beta: Value, first: Value | None) -> None:
        b, inner = self._b, self._call.inner
        lane = Type(self._lane)
        s1, s2, _ = inner.strides
        x = self._invoke(inner.length, at[0], s1, at[1], s2, result=lane)
        size = _BYTES[self._lane]
        if self._add or first is not None:
            there = b.load(lane, at[2], size)
            if first is not None:
                there = b.select(first, self._number(0.0), there)
            x = b.op("fadd", there, x)
        b.store(x, at[2], size)

    def _invoke(self, *arguments: Value | int | str, enums: int = 0, result: Type | None = None) -> Value:
        """Call the routine; of integers, the first `enums` are C enumerations."""
        wide = Type(f"i{self._blas.integers}")
        passed = []
        for k, x in enumerate(arguments):
            if isinstance(x, int):
                x = constant(I32 if k < enums else wide, x)
            passed.append(self._by_reference(x) if self._blas.interface == "fortran" else str(x))
        text = f"call {result or 'void'} {self._function.text}({', '.join(passed)})"
        if result is None:
            self._b.do(text)
            return self._function
        return self._b.emit(text, result)

    def _by_reference(self, x: Value | str) -> str:
        """Numbers and letters as Fortran takes them: the address of a constant."""
        module = self._b.module
        if isinstance(x, str):
            return str(module.table(f"letter{x}", "i8", [ord(x)]))
        if x.type == PTR:
            return str(x)
        if x.text.startswith("%"):
            # one of two constants
            zero, one = (module.table(f"{self._lane}{n}", self._lane, [n]) for n in (0, 1))
            is_one = self._b.compare("one", x, self._number(0.0))
            return str(self._b.select(is_one, one, zero))
        if x.type.is_float:
            n = int(x == self._number(1.0))
            return str(module.table(f"{self._lane}{n}", self._lane, [n]))
        return str(module.table(f"integer{x.text}", x.type.lane, [int(x.text)]))
