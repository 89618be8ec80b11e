"""The sine's argument reduction for large numbers: what is left of x beyond whole half turns.

x = M·2ᵉ with a whole number M, so x / 2π is M times the digits of 1 / 2π from the e-th on: those before make whole
turns. 192 of them, times M, modulo 2¹⁹², give the part of a turn to 128 digits, and no double comes closer to a
multiple of π/2 than 2⁻⁶² or so (M. H. Payne and R. N. Hanek, Radian Reduction for Trigonometric Functions, SIGNUM
Newsletter 18, 1983). This takes some 40 instructions for each lane, in a function that is called when it is needed.
"""

from __future__ import annotations

import math
from itertools import pairwise

from funcgrad.compiler.native.builder import I64, PTR, Builder, Type, Value

# 64 digits of 0, then those of 1 / 2π
_DIGITS = (
    0,
    0x28BE60DB9391054A, 0x7F09D5F47D4D3770, 0x36D8A5664F10E410, 0x7F9458EAF7AEF158, 0x6DC91B8E909374B8,
    0x01924BBA82746487, 0x3F877AC72C4A69CF, 0xBA208D7D4BAED121, 0x3A671C09AD17DF90, 0x4E64758E60D4CE7D,
    0x272117E2EF7E4A0E, 0xC7FE25FFF7816603, 0xFBCBC462D6829B47, 0xDB4D9FB3C9F2C26D, 0xD3D18FD9A797FA8B,
    0x5D49EEB1FAF97C5E, 0xCF41CE7DE294A4BA, 0x9AFED7EC47E35742, 0x1580CC11BF1EDAEA,
)  # fmt: skip
_I128 = Type("i128")


def far(b: Builder, x: Value, cosine: bool) -> Value:
    """What has the sine of x, or the sine that is the cosine of x, between −π/2 and π/2.

    Right for lanes with |x| ≥ 2¹⁰; in others the result is any number. NaN for infinities and NaN.
    """
    name = f"{'cos' if cosine else 'sin'}_far_{x.type.suffix}"
    b.module.once(name, lambda: _write(Builder(b.module), name, x.type, cosine))
    # not declared: the function stands in this module
    return b.emit(f"call {x.type} @{name}({x})", x.type)


def _write(b: Builder, name: str, type: Type, cosine: bool) -> None:
    lane = Type(type.lane)
    with b.function(name, str(type), [(str(type), "x")], "internal"):
        x = Value("%x", type)
        table = b.module.table("turns", "i64", [d - (d >> 63 << 64) for d in _DIGITS])
        place = b.emit(f"alloca {type}, align 64", PTR)
        b.store(x, place, 64)

        def body(i: Value, carried: list[Value]) -> list[Value]:
            there = b.offset(place, i, type.lane)
            b.store(_reduced(b, b.load(lane, there, 4), table, cosine), there, 4)
            return []

        b.loop(0, type.lanes, 1, [], body)
        # adds NaN if x is infinite or NaN
        b.ret(b.op("fadd", b.load(type, place, 64), b.op("fsub", x, x)))


def _reduced(b: Builder, x: Value, table: Value, cosine: bool) -> Value:
    double = b.cast("fpext", x, "double") if x.type.lane == "float" else x
    whole = b.cast("bitcast", double, "i64")
    turn = _part_of_turn(b, b.cast("bitcast", b.intrinsic("fabs", double), "i64"), table)
    # a quarter of a half turn on, so that the nearest multiple is the one below; the cosine is a quarter turn further
    turn = b.op("add", turn, b.like(turn, 1 << (127 if cosine else 126)))
    sign = b.op("and", b.cast("trunc", b.op("lshr", turn, b.like(turn, 64)), "i64"), b.like(whole, -(1 << 63)))
    if not cosine:
        sign = b.op("xor", sign, b.op("and", whole, b.like(whole, -(1 << 63))))
    half = b.op("xor", b.op("shl", turn, b.like(turn, 1)), b.like(turn, -(1 << 127)))
    high = b.cast("sitofp", b.cast("trunc", b.op("lshr", half, b.like(half, 64)), "i64"), "double")
    low = b.cast("uitofp", b.cast("trunc", half, "i64"), "double")
    r = b.op("fmul", b.fma(high, b.like(high, 2.0**64), low), b.like(high, math.pi / 2.0**128))
    r = b.cast("bitcast", b.op("xor", b.cast("bitcast", r, "i64"), sign), "double")
    return b.cast("fptrunc", r, "float") if x.type.lane == "float" else r


def _part_of_turn(b: Builder, whole: Value, table: Value) -> Value:
    """The digits behind the point of x / 2π, as an integer of 128 bits, from the bits of |x|."""
    first = b.op("sub", b.op("lshr", whole, b.like(whole, 52)), b.like(whole, 1023 + 52 - 64))
    first = b.call("llvm.smax.i64", I64, first, b.like(first, 0))
    row = b.offset(table, b.op("lshr", first, b.like(first, 6)), "i64")
    words = [b.load(I64, b.offset(row, i, "i64"), 8) for i in range(4)]
    rest = b.op("and", first, b.like(first, 63))
    digits = [b.call("llvm.fshl.i64", I64, *pair, rest) for pair in pairwise(words)]
    m = b.op("or", b.op("and", whole, b.like(whole, (1 << 52) - 1)), b.like(whole, 1 << 52))
    wide = b.cast("zext", m, "i128")
    top = b.op("shl", b.cast("zext", b.op("mul", m, digits[0]), "i128"), b.like(wide, 64))
    middle = b.op("mul", wide, b.cast("zext", digits[1], "i128"))
    bottom = b.op("lshr", b.op("mul", wide, b.cast("zext", digits[2], "i128")), b.like(wide, 64))
    return b.op("add", top, b.op("add", middle, bottom))
