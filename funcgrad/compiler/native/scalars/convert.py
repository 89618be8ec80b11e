"""Lanes and dtypes: what a number of each dtype is in memory and in a register, and `astype` between them.

A bool is a byte in memory and one bit in a register. Where NumPy's answer is that of the C compiler, for a float that
no integer holds, it is what an x86-64 gives: the least integer of 32 or 64 bits, cut off to the width that is asked
for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad.compiler.native.machine.builder import Builder, Type, Value, constant
from funcgrad.core.ir import Atom, Literal
from funcgrad.core.types import DType, beyond_int64

BOOL, INT32, INT64, UINT64 = (np.dtype(t) for t in (np.bool_, np.int32, np.int64, np.uint64))
FLOAT16, FLOAT32, FLOAT64 = (np.dtype(t) for t in (np.float16, np.float32, np.float64))
_LANES: dict[DType, str] = {
    BOOL: "i1",
    **{np.dtype(f"{kind}{size}"): f"i{8 * size}" for kind in "iu" for size in (1, 2, 4, 8)},
    FLOAT16: "half",
    FLOAT32: "float",
    FLOAT64: "double",
}


def lane_of(dtype: DType) -> str | None:
    """The lane type of a dtype in a register; None if there is no native code for it."""
    lane = _LANES.get(dtype)
    return None if lane == "half" and not _has_half() else lane


def _has_half() -> bool:
    from funcgrad.compiler.native.machine import llvm  # heavy: imported when first needed

    return llvm.host().has_half


def memory_lane(dtype: DType) -> str:
    """The lane type of a dtype in memory."""
    return "i8" if dtype.kind == "b" else _LANES[dtype]


def from_memory(b: Builder, x: Value, dtype: DType) -> Value:
    """What was loaded, as it is computed with."""
    return b.compare("ne", x, b.like(x, 0)) if dtype.kind == "b" else x


def to_memory(b: Builder, x: Value, dtype: DType) -> Value:
    """What was computed, as it is stored."""
    return b.cast("zext", x, "i8") if dtype.kind == "b" else x


def scalar_constant(value: Any, dtype: DType, lanes: int = 1) -> Value:
    """A NumPy scalar of this dtype as a constant, the same in each lane."""
    item = value.item()
    # as a signed number, which fits the lane
    if dtype.kind == "u" and item >> (8 * dtype.itemsize - 1):
        item -= 1 << (8 * dtype.itemsize)
    return constant(Type(_LANES[dtype], lanes), item)


def constant_of(x: Literal) -> Value:
    """A literal as a constant; a Python integer modulo 2⁶⁴."""
    value = x.value
    if type(value) is int:
        value = (value + 2**63) % 2**64 - 2**63
    return scalar_constant(np.asarray(value)[()], x.dtype)


def operand(b: Builder, x: Value, atom: Atom, dtype: DType) -> Value:
    """An operand as the dtype in which is computed: a Python integer beyond int64, which `x` is not, as a float."""
    if isinstance(atom, Literal) and beyond_int64(atom.value) and dtype.kind == "f":
        with np.errstate(over="ignore"):
            return scalar_constant(dtype.type(float(atom.value)), dtype, x.type.lanes)
    return convert(b, x, atom.dtype, dtype)


def truth(b: Builder, x: Value) -> Value:
    """Whether it is not 0; a NaN is true."""
    if x.type.lane == "i1":
        return x
    if x.type.lane == "half":
        x = b.cast("fpext", x, "float")
    return b.compare("une" if x.type.is_float else "ne", x, b.like(x, 0))


def convert(b: Builder, x: Value, source: DType, target: DType) -> Value:
    """`x.astype(target)`."""
    if source == target:
        return x
    lane = _LANES[target]
    if target.kind == "b":
        return truth(b, x)
    if source.kind == "b":
        if target.kind == "f":
            return b.select(x, constant(x.type.of(lane), 1), constant(x.type.of(lane), 0))
        return b.cast("zext", x, lane)
    if source.kind == "f":
        return _to_float(b, x, lane) if target.kind == "f" else _to_integer(b, x, target)
    signed = source.kind == "i"
    if target.kind == "f":
        # an integer that float does not hold exactly is infinite in half precision
        y = b.cast("sitofp" if signed else "uitofp", x, "float" if lane == "half" else lane)
        return _to_float(b, y, lane)
    bits = 8 * target.itemsize
    if bits == x.type.bits:
        return x
    return b.cast("trunc" if bits < x.type.bits else "sext" if signed else "zext", x, lane)


def _to_float(b: Builder, x: Value, lane: str) -> Value:
    source = x.type.lane
    if lane == source:
        return x
    if source == "half":
        x = b.cast("fpext", x, "float")
        return x if lane == "float" else b.cast("fpext", x, lane)
    if lane == "half" and source == "double":
        x = b.cast("fptrunc", _round_to_odd(b, x), "float")
    return b.cast("fpext" if lane == "double" else "fptrunc", x, lane)


def _round_to_odd(b: Builder, x: Value) -> Value:
    """A double with the 24 digits of a float, the last one set if any digit behind it was: rounding that is right.

    Processors round float to half, but few round double to half. Rounding twice goes wrong where the first rounding
    makes a tie for the second, which it never does if it is to odd (Boldo and Melquiond, Emulation of FMA and correctly
    rounded sums, IEEE Transactions on Computers 57, 2008).
    """
    low = (1 << 29) - 1
    bits = b.cast("bitcast", x, "i64")
    any_low = b.op("add", b.op("and", bits, b.like(bits, low)), b.like(bits, low))
    bits = b.op("and", b.op("or", any_low, bits), b.like(bits, ~low))
    return b.cast("bitcast", bits, "double")


def _to_integer(b: Builder, x: Value, target: DType) -> Value:
    if x.type.lane == "half":
        x = b.cast("fpext", x, "float")
    bits = 8 * target.itemsize
    if target == UINT64:
        half = b.like(x, 2.0**63)
        large = b.compare("oge", x, half)
        y = _to_signed(b, b.select(large, b.op("fsub", x, half), x), 64)
        return b.op("xor", y, b.select(large, b.like(y, -(2**63)), b.like(y, 0)))
    if bits == 64:
        return _to_signed(b, x, 64)
    if bits == 32:
        return _to_signed(b, x, 32) if target.kind == "i" else b.cast("trunc", _to_signed(b, x, 64), "i32")
    return b.cast("trunc", _to_signed(b, x, 32), _LANES[target])


def _to_signed(b: Builder, x: Value, bits: int) -> Value:
    """The integer part; the least integer where that does not fit, and for NaN."""
    fits = b.compare("olt", b.intrinsic("fabs", x), b.like(x, 2.0 ** (bits - 1)))
    y = b.cast("fptosi", x, f"i{bits}")
    return b.select(fits, y, b.like(y, -(2 ** (bits - 1))))
