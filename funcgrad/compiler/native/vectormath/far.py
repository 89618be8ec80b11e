"""The sine's argument reduction for large numbers: what is left of x beyond whole half turns.

x = M·2ᵉ with a whole number M, so x / 2π is M times the digits of 1 / 2π from the e-th on: those before make whole
turns. 192 of them, times M, modulo 2¹⁹², give the part of a turn to 128 digits, and no double comes closer to a
multiple of π/2 than 2⁻⁶² or so (M. H. Payne and R. N. Hanek, Radian Reduction for Trigonometric Functions, SIGNUM
Newsletter 18, 1983). This takes some 40 instructions for each lane, in a function that is called when it is needed.
"""

from __future__ import annotations

import math

from funcgrad.compiler.native.machine.builder import I64, PTR, Builder, Type, Value, constant

# 64 digits of 0, then those of 1 / 2π
_DIGITS = (
    0,
    0x28BE60DB9391054A, 0x7F09D5F47D4D3770, 0x36D8A5664F10E410, 0x7F9458EAF7AEF158, 0x6DC91B8E909374B8,
    0x01924BBA82746487, 0x3F877AC72C4A69CF, 0xBA208D7D4BAED121, 0x3A671C09AD17DF90, 0x4E64758E60D4CE7D,
    0x272117E2EF7E4A0E, 0xC7FE25FFF7816603, 0xFBCBC462D6829B47, 0xDB4D9FB3C9F2C26D, 0xD3D18FD9A797FA8B,
    0x5D49EEB1FAF97C5E, 0xCF41CE7DE294A4BA, 0x9AFED7EC47E35742, 0x1580CC11BF1EDAEA,
)  # fmt: skip
# π, and what is left of it when it is rounded
_PI = (math.pi, 1.2246467991473532e-16)
_I128 = Type("i128")
_SIGN = -(1 << 63)


def far(b: Builder, x: Value, cosine: bool) -> Value:
    """What has the sine of x, or the sine that is the cosine of x, between −π/2 and π/2.

    Right for lanes with |x| ≥ 2¹⁰; in others the result is any number. NaN for infinities and NaN.
    """
    name = f"far_{x.type.suffix}"
    b.module.once(name, lambda: _write(Builder(b.module), name, x.type))
    # a quarter of a half turn, so that the nearest multiple is the one below; the cosine is a quarter turn further on,
    # and the sine has the sign of x
    start, odd = (constant(I64, n) for n in ((_SIGN, 0) if cosine else (1 << 62, _SIGN)))
    # not declared: the function stands in this module
    return b.emit(f"call {x.type} @{name}({x}, {start}, {odd})", x.type)


def _write(b: Builder, name: str, type: Type) -> None:
    arguments = [(str(type), "x"), ("i64", "start"), ("i64", "odd")]
    with b.function(name, str(type), arguments, "internal", cold=True):
        x, start, odd = Value("%x", type), Value("%start", I64), Value("%odd", I64)
        # in the order of a large number in memory, the last digits first
        table = b.module.table("turns", "i64", [d - (d >> 63 << 64) for d in reversed(_DIGITS)])
        place = b.emit(f"alloca {type}, align 64", PTR)
        b.store(x, place, 64)

        def body(i: Value, carried: list[Value]) -> list[Value]:
            there = b.offset(place, i, type.lane)
            b.store(_reduced(b, b.load(Type(type.lane), there, 4), table, start, odd), there, 4)
            return []

        b.loop(0, type.lanes, 1, [], body)
        # adds NaN if x is infinite or NaN
        b.ret(b.op("fadd", b.load(type, place, 64), b.op("fsub", x, x)))


def _reduced(b: Builder, x: Value, table: Value, start: Value, odd: Value) -> Value:
    double = b.cast("fpext", x, "double") if x.type.lane == "float" else x
    whole = b.cast("bitcast", double, "i64")
    turn = _part_of_turn(b, b.op("and", whole, b.like(whole, ~_SIGN)), table)
    turn = b.op("add", turn, b.op("shl", b.cast("zext", start, "i128"), b.like(turn, 64)))
    # the number of half turns is the first digit, and what is left is the rest of them, less ½
    sign = b.op("xor", _top(b, turn), b.op("and", whole, odd))
    rest = b.op("shl", turn, b.like(turn, 1))
    r = _times_pi(b, b.op("xor", _top(b, rest), b.like(whole, _SIGN)), b.cast("trunc", rest, "i64"))
    r = b.cast("bitcast", b.op("xor", b.cast("bitcast", r, "i64"), b.op("and", sign, b.like(sign, _SIGN))), "double")
    return b.cast("fptrunc", r, "float") if x.type.lane == "float" else r


def _times_pi(b: Builder, high: Value, low: Value) -> Value:
    """π times a fraction whose digits, with a sign, are these two integers of 64 bits; rounded once but for little."""
    # as many digits as a double holds, and those that follow; all of a small number, lest the two parts cancel
    small = b.compare("ult", b.op("add", high, b.like(high, 1 << 52)), b.like(high, 1 << 53))
    first = b.select(small, high, b.op("and", high, b.like(high, ~0x7FF)))
    last = b.op("shl", b.op("sub", high, first), b.like(high, 52))
    last = b.cast("sitofp", b.op("or", last, b.op("lshr", low, b.like(low, 12))), "double")
    first = b.cast("sitofp", first, "double")
    pi, rest = _PI
    r = b.fma(first, b.like(first, rest / 2.0**64), b.op("fmul", last, b.like(last, pi / 2.0**116)))
    return b.fma(first, b.like(first, pi / 2.0**64), r)


def _top(b: Builder, x: Value) -> Value:
    return b.cast("trunc", b.op("lshr", x, b.like(x, 64)), "i64")


def _part_of_turn(b: Builder, whole: Value, table: Value) -> Value:
    """The digits behind the point of x / 2π, as an integer of 128 bits, from the bits of |x|."""
    first = b.op("sub", b.op("lshr", whole, b.like(whole, 52)), b.like(whole, 1023 + 52 - 64))
    first = b.call("llvm.smax.i64", I64, first, b.like(first, 0))
    # from a whole byte on; M makes up for the digits before
    end = b.op("sub", b.like(first, 8 * len(_DIGITS) - 24), b.op("lshr", first, b.like(first, 3)))
    last = b.offset(table, end, "i8")
    m = b.op("or", b.op("and", whole, b.like(whole, (1 << 52) - 1)), b.like(whole, 1 << 52))
    m = b.cast("zext", b.op("shl", m, b.op("and", first, b.like(first, 7))), "i128")
    top = b.op("mul", m, b.load(_I128, b.offset(last, 8, "i8"), 1))
    bottom = b.op("mul", m, b.cast("zext", b.load(I64, last, 1), "i128"))
    return b.op("add", top, b.op("lshr", bottom, b.like(bottom, 64)))
