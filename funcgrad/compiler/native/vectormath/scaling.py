"""The exponent of a float: 2ᵏ times a number, and a number as 2ᵏ m.

With AVX-512 there are instructions for both; elsewhere the bits are moved. Both ways give the same result, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from funcgrad.compiler.native.machine.builder import Builder, Type, Value, constant
from funcgrad.compiler.native.vectormath.arithmetic import BIAS, DIGITS, LARGE, bits, instead

_WIDE = 512
# of the instruction that takes the exponent away: 3 leaves a number from ¾ to 3/2; with 4 the sign goes too, and with
# 12 a negative number gives NaN
_FRACTION, _ABSOLUTE, _POSITIVE = 3, 4, 12


def scaled(b: Builder, y: Value, k: Value) -> Value:
    """2ᵏ y, rounded once, for an integer `k` with |k| < 2000, and < 250 in single precision."""
    if _is_wide(b, y.type):
        return _each(b, lambda y, k: _masked(b, "scalef", y, [y, k, b.like(y, 0)], []), y, k)
    # in two steps, since 2ᵏ itself may be no normal number
    large = b.like(k, LARGE[k.type.lane])
    half = b.op("fsub", b.fma(k, b.like(k, 0.5), large), large)
    y = b.op("fmul", y, power_of_two(b, half))
    return b.op("fmul", y, power_of_two(b, b.op("fsub", k, half)))


def power_of_two(b: Builder, k: Value, less: int = 0) -> Value:
    """2 to the power of `k − less`, where that is a normal number."""
    lane = k.type.lane
    whole = bits(b, b.op("fadd", k, b.like(k, LARGE[lane] + BIAS[lane] - less)))
    return b.cast("bitcast", b.op("shl", whole, b.like(whole, DIGITS[lane])), lane)


def split(b: Builder, x: Value, signed: bool = False) -> tuple[Value, Value]:
    """`m` and `−k` of |x| = 2ᵏ m with ¾ ≤ m < 3/2.

    The exponent of 0 is −∞, and m is 1; that of an infinity is ∞. For NaN, and for a negative number unless `signed`,
    one of them is NaN.
    """
    if _is_wide(b, x.type):
        how = constant(Type("i32"), _FRACTION + (_ABSOLUTE if signed else _POSITIVE))
        m = _each(b, lambda x: _masked(b, "getmant", x, [x], [how, b.like(x, 0)]), x)
        of_m = _each(b, lambda m: _masked(b, "getexp", m, [m, b.like(m, 0)], []), m)
        of_x = _each(b, lambda x: _masked(b, "getexp", x, [x, b.like(x, 0)], []), x)
        return m, b.op("fsub", of_m, of_x)
    a = b.intrinsic("fabs", x) if signed else x
    m, minus_k = _split_positive(b, a)
    minus_k = instead(b, a, math.inf, instead(b, a, 0, minus_k, math.inf), -math.inf)
    bad = b.compare("uno", x, x) if signed else b.compare("ult", x, b.like(x, 0))
    return m, b.select(bad, b.like(x, math.nan), minus_k)


def _split_positive(b: Builder, x: Value) -> tuple[Value, Value]:
    lane = x.type.lane
    digits, bias = DIGITS[lane], BIAS[lane]
    small = b.compare("olt", x, b.like(x, 2.0 ** (1 - bias)))
    whole = bits(b, b.select(small, b.op("fmul", x, b.like(x, 2.0 ** (digits + 2))), x))
    place = b.like(whole, digits)
    one = bias << digits
    # with the bias, so that it is not negative: the exponent of x / ¾, rounded down
    exponent = b.op("lshr", b.op("add", whole, b.like(whole, 1 << (digits - 1))), place)
    m = b.op("sub", whole, b.op("sub", b.op("shl", exponent, place), b.like(whole, one)))
    # as the last digits of a large float
    large = (bias + digits) << digits
    k = b.cast("bitcast", b.op("or", exponent, b.like(exponent, large)), lane)
    minus_k = b.op("fsub", b.like(x, 2.0**digits + bias), k)
    minus_k = b.select(small, b.op("fadd", minus_k, b.like(x, digits + 2)), minus_k)
    return b.cast("bitcast", m, lane), minus_k


def _is_wide(b: Builder, type: Type) -> bool:
    """True if the machine has AVX-512 and its vectors are full."""
    return b.module.vector_bytes == _WIDE // 8 and type.lanes * type.bits % _WIDE == 0


def _each(b: Builder, f: Callable[..., Value], *xs: Value) -> Value:
    """`f` of vectors of 512 bits, for operands that may be of more."""
    lanes = _WIDE // xs[0].type.bits
    if xs[0].type.lanes == lanes:
        return f(*xs)
    parts = [
        f(*[b.shuffle(x, x, range(first, first + lanes)) for x in xs]) for first in range(0, xs[0].type.lanes, lanes)
    ]
    while len(parts) > 1:
        parts = [b.shuffle(x, y, range(2 * x.type.lanes)) for x, y in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def _masked(b: Builder, name: str, x: Value, before: Sequence[Value], after: Sequence[Value]) -> Value:
    """An instruction of AVX-512, for all lanes, with the usual rounding."""
    suffix = {"double": "pd", "float": "ps"}[x.type.lane]
    everywhere = constant(Type(f"i{x.type.lanes}"), -1)
    usual = constant(Type("i32"), 4)
    return b.call(f"llvm.x86.avx512.mask.{name}.{suffix}.512", x.type, *before, *after, everywhere, usual)
