"""What vector math is made of: polynomials, sums and products with the digits that rounding takes away, integers.

A float is rounded to an integer by adding a number so large that its last digit is a one. What is left in the last bits
of that sum is the integer, which saves the conversion that not every processor has for the lanes of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from funcgrad.compiler.native.machine.builder import I1, Builder, Value

DIGITS = {"double": 52, "float": 23}
BIAS = {"double": 1023, "float": 127}
LARGE = {"double": 1.5 * 2.0**52, "float": 1.5 * 2.0**23}
"""What is added to round to an integer, whose bits are then the last ones."""


def polynomial(b: Builder, x: Value, coefficients: Sequence[float]) -> Value:
    """The polynomial c₀ + c₁ x + c₂ x² + … at x."""
    y = b.like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        y = b.fma(y, x, b.like(x, c))
    return y


def clamped(b: Builder, x: Value, low: float, high: float) -> Value:
    """`x`, but no less than `low` and no more than `high`; NaN stays."""
    return at_most(b, b.select(b.compare("olt", x, b.like(x, low)), b.like(x, low), x), high)


def at_most(b: Builder, x: Value, high: float) -> Value:
    """`x`, but no more than `high`; NaN stays."""
    return b.select(b.compare("ogt", x, b.like(x, high)), b.like(x, high), x)


def instead(b: Builder, x: Value, number: float, y: Value, z: Value | float) -> Value:
    """`z` where `x` is this number, else `y`."""
    return b.select(b.compare("oeq", x, b.like(x, number)), z if isinstance(z, Value) else b.like(y, z), y)


def where_some(b: Builder, c: Value, some: Callable[[], list[Value]], others: list[Value]) -> list[Value]:
    """What `some` gives for lanes in which `c` is true, and `others` in the rest; its code runs if there are any."""
    found = b.call(f"llvm.vector.reduce.or.{c.type.suffix}", I1, c) if c.type.lanes > 1 else c
    return b.branch(found, lambda: [b.select(c, y, z) for y, z in zip(some(), others, strict=True)], lambda: others)


def rounded(b: Builder, x: Value, factor: float) -> tuple[Value, Value]:
    """The integer next to `factor · x`, and a number that has its last digits as its last bits."""
    shifted = b.fma(x, b.like(x, factor), b.like(x, LARGE[x.type.lane]))
    return b.op("fsub", shifted, b.like(x, LARGE[x.type.lane])), shifted


def bits(b: Builder, x: Value) -> Value:
    """The bits of a float, as an integer."""
    return b.cast("bitcast", x, f"i{x.type.bits}")


def parity_as_sign(b: Builder, shifted: Value) -> Value:
    """The last bit of a number moved to where the sign is, as an integer."""
    whole = bits(b, shifted)
    return b.op("shl", whole, b.like(whole, shifted.type.bits - 1))


def with_sign_flipped(b: Builder, x: Value, sign: Value) -> Value:
    """`x`, negated where the first bit of an integer is set."""
    return b.cast("bitcast", b.op("xor", bits(b, x), sign), x.type.lane)


def sum_of_ordered(b: Builder, x: Value, y: Value) -> tuple[Value, Value]:
    """The sum and what rounding has taken from it, for |x| ≥ |y|."""
    total = b.op("fadd", x, y)
    return total, b.op("fsub", y, b.op("fsub", total, x))


def product(b: Builder, x: Value, y: Value) -> tuple[Value, Value]:
    """The product and what rounding has taken from it."""
    z = b.op("fmul", x, y)
    return z, b.fma(x, y, b.negative(z))


def in_double(b: Builder, x: Value) -> Value:
    """A float as a double."""
    return b.cast("fpext", x, "double")
