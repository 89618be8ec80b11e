"""Integers that meet where no dtype holds both: Python's beside arrays of small ones, and int64 beside uint64.

NumPy takes an integer of Python for one of the array's dtype, and refuses it if that cannot hold it; but comparisons
are right for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from funcgrad.compiler.native.machine.builder import Builder, Value
from funcgrad.compiler.native.scalars.convert import INT64, UINT64, convert
from funcgrad.core.ir import Atom, Literal
from funcgrad.core.trace import Var
from funcgrad.core.types import DType, Typed, beyond_int64

COMPARISONS = {
    np.equal: "eq",
    np.not_equal: "ne",
    np.less: "lt",
    np.less_equal: "le",
    np.greater: "gt",
    np.greater_equal: "ge",
}
_MIRRORED = {"eq": "eq", "ne": "ne", "lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}


def fits(x: Typed, dtype: DType) -> bool:
    """True unless `x` is a Python integer in the program that this dtype does not hold."""
    if not isinstance(x, Literal) or not x.weak or x.dtype.kind != "i":
        return True
    if dtype.kind not in "iu":
        # a double has 1,024 bits in front of the point
        return not beyond_int64(x.value) or (dtype.kind == "f" and x.value.bit_length() < 1024)
    info = np.iinfo(dtype)
    return bool(info.min <= x.value <= info.max)


def narrowed(x: Typed, dtype: DType) -> bool:
    """True if `x` is a Python integer whose value is known when the program runs, and this dtype may not hold it."""
    return isinstance(x, Var) and x.weak and x.dtype.kind == "i" and dtype.kind in "iu" and dtype != INT64


def is_lost(b: Builder, x: Value, dtype: DType) -> Value:
    """Whether the dtype does not hold an int64."""
    if dtype == UINT64:
        return b.compare("slt", x, b.like(x, 0))
    back = convert(b, convert(b, x, INT64, dtype), dtype, INT64)
    return b.compare("ne", back, x)


def compared_apart(atoms: Sequence[Atom]) -> bool:
    """True if two integers have to be compared by `compare`, since no dtype of NumPy holds both."""
    x1, x2 = atoms
    if x1.dtype.kind not in "iu" or x2.dtype.kind not in "iu":
        return False
    for x, y in ((x1, x2), (x2, x1)):
        if x.weak and not y.weak and (not fits(x, y.dtype) or narrowed(x, y.dtype)):
            return True
    return not x1.weak and not x2.weak and {x1.dtype.kind, x2.dtype.kind} == {"i", "u"} and UINT64 in _dtypes(atoms)


def compare(b: Builder, how: str, xs: Sequence[Value], atoms: Sequence[Atom]) -> Value:
    """The comparison of two integers as numbers."""
    x, y = xs
    if UINT64 not in _dtypes(atoms):
        x, y = (convert(b, z, a.dtype, INT64) for z, a in zip(xs, atoms, strict=True))
        return b.compare(how if how in ("eq", "ne") else f"s{how}", x, y)
    if atoms[0].dtype == UINT64:
        return compare(b, _MIRRORED[how], xs[::-1], atoms[::-1])
    x = convert(b, x, atoms[0].dtype, INT64)
    same = b.compare(how if how in ("eq", "ne") else f"u{how}", x, y)
    negative = b.compare("slt", x, b.like(x, 0))
    if how in ("ne", "lt", "le"):
        return b.op("or", negative, same)
    return b.op("and", b.op("xor", negative, b.like(negative, True)), same)


def _dtypes(atoms: Sequence[Atom]) -> set[DType]:
    return {x.dtype for x in atoms}
