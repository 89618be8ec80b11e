"""Contractions in native code: `y[out] = sum of x1·x2`, by calls of BLAS or in loops of our own.

BLAS computes whatever it can read, or what is worth copying for it: a call is a few instructions, so it costs next to
no time to compile, and few programs have products so small that it costs much to run. Our own loops compute the rest:
stacks of tiny matrices, products of many rows by very few columns, sums of integers, bools and halves, products without
a sum.

    terms, views ──dims──▶ Product ──┬─tiles─▶ Tiling ──loops─▶ code
                                     └─calls─▶ Call ──────────▶ code
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import final

import numpy as np

from funcgrad.compiler.native.contraction.calls import Call, CallWriter, Externals, best_call
from funcgrad.compiler.native.contraction.dims import Product, Terms, product, seconds_of_memory
from funcgrad.compiler.native.contraction.loops import TileWriter
from funcgrad.compiler.native.contraction.tiles import Copied, Lane, Tiling, best_packed, best_tiling, lane_of
from funcgrad.compiler.native.machine import blas
from funcgrad.compiler.native.machine.blas import Blas
from funcgrad.compiler.native.machine.builder import Builder, Type, Value, constant
from funcgrad.core.errors import InternalError
from funcgrad.core.views import View

_LANES = ("half", "float", "double", "i1", "i8", "i16", "i32", "i64")
# seconds: of a cycle, and of the time of all calls that loops of our own have to save to be worth compiling
_CYCLE = 0.25e-9
_WORTH = 1e-6
# matrices of this width, whose product takes so many multiplications, are left to BLAS without comparison
_WIDE, _LARGE = 16, 1 << 16
_CACHE = 1 << 22
# products of one call from which on OpenBLAS may use several threads
_THREADED = {"gemm": 1 << 18, "gemv": 9216, "dot": 10000}


@final
@dataclass(frozen=True, slots=True)
class Operand:
    """An array in memory.

    Attributes:
        pointer: The address of its buffer.
        lane: `half`, `float`, `double`, `i8` … `i64`, signed or not; `i1` for bools, each of which takes a byte.
        view: Which elements, over the letters of the term.
    """

    pointer: Value
    lane: str
    view: View


@final
@dataclass(frozen=True, slots=True)
class Cost:
    """What a contraction takes.

    Attributes:
        flops: Multiplications and additions.
        bytes: How much is read and written.
        seconds: About how long it takes on one core.
        threaded: True if BLAS uses its own threads for it.
        calls: How many calls of BLAS there are; 0 if there is a loop.
    """

    flops: int
    bytes: int
    seconds: float
    threaded: bool
    calls: int


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """How a contraction is computed: by a tiling or by calls, or not at all if the result has no elements.

    Attributes:
        product: What to compute.
        lane: The type of the elements.
        tiling: The tiles, if loops of our own compute it.
        call: The calls, if BLAS does.
        library: The BLAS.
        seconds: About how long it takes on one core.
        copied: Which operand the tiles read a copy of.
    """

    product: Product | None
    lane: Lane
    tiling: Tiling | None
    call: Call | None
    library: Blas
    seconds: float
    copied: Copied | None = None

    @property
    def scratch(self) -> int:
        """How many bytes of memory it needs for copies."""
        if self.call is not None:
            return self.call.scratch
        return 0 if self.copied is None else Type(self.lane.memory).bits // 8 * self.copied.moves.size(2)


def has_code(*dtypes: np.dtype) -> bool:
    """True if there is code for a contraction of arrays of these dtypes, which must be equal: convert others before."""
    first = dtypes[0]
    return first.kind in "biuf" and first.itemsize <= 8 and first.isnative and all(d == first for d in dtypes)


def lane_of_dtype(dtype: np.dtype) -> str:
    """The lane of an `Operand` of this dtype."""
    if dtype.kind == "b":
        return "i1"
    return {2: "half", 4: "float", 8: "double"}[dtype.itemsize] if dtype.kind == "f" else f"i{8 * dtype.itemsize}"


def scratch_bytes(
    terms: Terms, lane: str, x1: View, x2: View, y: View, host_bytes: int, accumulate: bool = False
) -> int:
    """How much scratch memory `emit` needs for operands of these views, aligned to 64 bytes."""
    return plan(terms, lane, x1, x2, y, host_bytes, accumulate).scratch


def cost(terms: Terms, lane: str, x1: View, x2: View, y: View, host_bytes: int, accumulate: bool = False) -> Cost:
    """What a contraction of operands of these views takes."""
    made = plan(terms, lane, x1, x2, y, host_bytes, accumulate)
    p = made.product
    if p is None:
        return Cost(0, 0, 0.0, False, 0)
    call = made.call
    moved = _size(lane) * sum(p.size(k) for k in (*p.factors, 2))
    threaded = call is not None and p.multiplications // call.calls >= _THREADED[call.routine]
    return Cost(2 * p.multiplications, moved, made.seconds, threaded, 0 if call is None else call.calls)


def emit(
    b: Builder,
    terms: Terms,
    x1: Operand,
    x2: Operand,
    y: Operand,
    externals: Externals,
    host_bytes: int,
    accumulate: bool = False,
    scratch: Value | None = None,
    library: Blas | None = None,
) -> None:
    """Write the code of a contraction.

    Args:
        b: Where to.
        terms: The letters of x1, x2 and y, as `ops.contract` reads them.
        x1: The first operand.
        x2: The second one, of the same lane.
        y: Where the result goes; it shares no memory with the operands.
        externals: Gives the address of a routine of BLAS, such as `dgemm`, within the function that is being written.
        host_bytes: The size of a vector of the machine.
        accumulate: True to add to what is in `y`; else it is overwritten, and need not hold numbers.
        scratch: The address of `scratch_bytes(…)` bytes, which hold nothing before and after.
        library: The library that is called; the one that was found if it is not given.
    """
    made = plan(terms, y.lane, x1.view, x2.view, y.view, host_bytes, accumulate, library)
    pointers = (x1.pointer, x2.pointer, y.pointer)
    if made.call is not None:
        _emit_call(b, made, made.call, pointers, externals, host_bytes, accumulate, scratch)
    elif made.tiling is not None:
        if made.copied is not None:
            pointers = _copied(b, made.copied, made.lane, pointers, host_bytes, scratch)
        _emit_tiling(b, made.tiling, made.lane, pointers, accumulate)


def split_letter(terms: Terms, y: View) -> str | None:
    """The letter along which to cut a contraction into parts that run side by side; None for a scalar result."""
    lengths = dict(zip(terms[2], y.shape, strict=True))
    return max(lengths, key=lambda c: lengths[c], default=None)


def part(b: Builder, letters: str, x: Operand, letter: str, start: Value, length: int) -> Operand:
    """The part of an operand, or of the result, that belongs to some indices of a letter.

    With the parts of all three, `emit` writes the code of a part of the contraction. Where there is no call of BLAS
    and nothing is accumulated, parts may overlap: what belongs to both is computed twice, to the same value, so parts
    of one length do for any number of indices.

    Args:
        b: Where to compute the address.
        letters: The term of the operand.
        x: The operand.
        letter: What `split_letter` says.
        start: The first index, known when the program runs.
        length: How many indices there are.
    """
    if letter not in letters:
        return x
    axis = letters.index(letter)
    view, memory = x.view, "i8" if x.lane == "i1" else x.lane
    distance = b.op("mul", start, constant(start.type, view.strides[axis]))
    shape = (*view.shape[:axis], length, *view.shape[axis + 1 :])
    return Operand(b.offset(x.pointer, distance, memory), x.lane, View(shape, view.strides, view.offset))


@lru_cache(maxsize=4096)
def plan(
    terms: Terms,
    lane: str,
    x1: View,
    x2: View,
    y: View,
    host_bytes: int,
    accumulate: bool = False,
    library: Blas | None = None,
) -> Plan:
    """Decide how to compute a contraction.

    Args:
        terms: The letters of the operands and of the result.
        lane: The type of the elements.
        x1: The elements of the first operand.
        x2: The elements of the second one.
        y: The places of the result.
        host_bytes: The size of a vector of the machine.
        accumulate: True if the result is added to.
        library: The library to use; the one that was found if it is not given.
    """
    p = product(terms, x1, x2, y)
    used = library or blas.find()
    elements = lane_of(lane, host_bytes)
    if p is None:
        return Plan(None, elements, None, None, used, 0.0)
    found = best_call(p, lane, used)
    if found is not None and (found[1] < _WORTH or found[0].inner.length * _area(found[0]) >= _LARGE):
        return Plan(p, elements, None, found[0], used, found[1])
    registers = _registers(host_bytes)
    tiling, cycles = best_tiling(p, elements, registers, accumulate)
    copied = None
    packed = best_packed(p, elements, registers, accumulate)
    if packed is not None and packed[2] < cycles:
        tiling, copied, cycles = packed
    loops = max(cycles * _CYCLE, seconds_of_memory(_traffic(tiling, _size(lane))))
    if found is not None and not (loops < 0.8 * found[1] and found[1] - loops > _WORTH):
        return Plan(p, elements, None, found[0], used, found[1])
    return Plan(p, elements, tiling, None, used, loops, copied)


def _registers(host_bytes: int) -> int:
    """How many vector registers the machine has."""
    return 32 if host_bytes >= 64 else 16


def _area(call: Call) -> int:
    """The size of the matrix that a call computes; 0 if it computes none of a size that BLAS is made for."""
    row, column = call.row, call.column
    return row.length * column.length if row and column and min(row.length, column.length) >= _WIDE else 0


def _size(lane: str) -> int:
    return {"half": 2, "float": 4, "double": 8, "i1": 1}.get(lane) or int(lane[1:]) // 8


def _traffic(t: Tiling, size: int) -> float:
    """How many bytes the loops move: operands that the cache does not hold are read again for each block."""
    sizes = {k: size * t.product.size(k) for k in (*t.product.factors, 2)}
    # how often an operand is read: once for each block of the other one's dim
    again = {0: t.column.length / t.step, 1: t.row.length / t.rows}
    return sum(n * max(1.0, again.get(k, 1.0) if n > _CACHE else 1.0) for k, n in sizes.items())


def _emit_tiling(b: Builder, t: Tiling, lane: Lane, pointers: tuple[Value, Value, Value], add: bool) -> None:
    """Call a function that is written once, however often a program has this contraction."""
    name = "contraction_" + blake2b(repr((t, lane, add)).encode(), digest_size=10).hexdigest()

    def make() -> None:
        inside = Builder(b.module)
        names = ("x1", "x2", "y")
        with inside.function(name, "void", [("ptr", n) for n in names], "internal"):
            x1, x2, y = (Value(f"%{n}", pointers[0].type) for n in names)
            TileWriter(inside, t, lane, add).write(x1, x2, y)
            inside.ret()

    b.module.once(name, make)
    b.do(f"call void @{name}({', '.join(map(str, pointers))})")


def _emit_call(
    b: Builder,
    made: Plan,
    call: Call,
    pointers: tuple[Value, Value, Value],
    externals: Externals,
    host_bytes: int,
    accumulate: bool,
    scratch: Value | None,
) -> None:
    """Copy what is to be packed, call BLAS, and copy the result back."""
    order = (1, 0, 2) if call.product.exchanged else (0, 1, 2)
    buffers = [pointers[k] for k in order]

    def copy(p: Product, source: Value, target: Value, add: bool) -> None:
        _emit_copy(b, p, made.lane, source, target, host_bytes, add)

    original = list(buffers)
    for k, moved in enumerate(call.packed):
        if moved is not None:
            buffers[k] = b.offset(_given(scratch), call.places[k], "i8")
            if k < 2:
                copy(moved, original[k], buffers[k], False)
    add = accumulate and call.packed[2] is None
    CallWriter(b, call, made.lane.memory, made.library, externals, add).write(*buffers)
    if call.packed[2] is not None:
        copy(call.packed[2], buffers[2], original[2], accumulate)


def _copied(
    b: Builder,
    copied: Copied,
    lane: Lane,
    pointers: tuple[Value, Value, Value],
    host_bytes: int,
    scratch: Value | None,
) -> tuple[Value, Value, Value]:
    """Copy an operand; the addresses with that of the copy."""
    target = _given(scratch)
    _emit_copy(b, copied.moves, lane, pointers[copied.operand], target, host_bytes)
    x1, x2, y = pointers
    return (x1, target, y) if copied.operand else (target, x2, y)


def _emit_copy(
    b: Builder, p: Product, lane: Lane, source: Value, target: Value, host_bytes: int, add: bool = False
) -> None:
    tiling, _ = best_tiling(p, lane, _registers(host_bytes), add)
    _emit_tiling(b, tiling, lane, (source, source, target), add)


def _given(scratch: Value | None) -> Value:
    if scratch is None:
        raise InternalError("contraction: no scratch memory was given, but operands are to be packed")
    return scratch
