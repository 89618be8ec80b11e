"""Integers of Python have no bounds, and an int64 has: where a result does not fit, the program stops.

NumPy runs it again then, with Python's own integers. Results of operators on Python integers alone are meant. What an
array or a NumPy integer is part of wraps around.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from funcgrad.compiler.native.machine.builder import Builder, Type, Value
from funcgrad.core.ir import Atom, Literal
from funcgrad.core.types import Typed

# the code that says whether an operation on two int64, or on one, has a result beyond that
_Question: TypeAlias = Callable[[Builder, Sequence[Value]], Value]


def is_exact(key: Any, atoms: Sequence[Typed]) -> bool:
    """True for an operation on integers of Python alone whose result may be larger than they are."""
    return (key in _QUESTIONS or key is np.power) and all(x.weak and x.dtype.kind == "i" for x in atoms)


def too_large(b: Builder, key: Any, xs: Sequence[Value], atoms: Sequence[Atom]) -> Iterator[Value]:
    """Whether the result of an operation that `is_exact` is no int64, in one or several parts."""
    lanes = max(x.type.lanes for x in xs)
    xs = [b.splat(x, lanes) for x in xs]
    if key is np.power:
        number = atoms[1].value if isinstance(atoms[1], Literal) else 0
        yield from _powers(b, xs[0], int(number))
    else:
        yield _QUESTIONS[key](b, xs)


def _computed(how: str) -> _Question:
    def question(b: Builder, xs: Sequence[Value]) -> Value:
        return _checked(b, how, *xs)[1]

    return question


def _checked(b: Builder, how: str, x: Value, y: Value) -> tuple[Value, Value]:
    """A sum, difference or product, and whether it has wrapped around."""
    name, pair = f"llvm.s{how}.with.overflow.{x.type.suffix}", f"{{ {x.type}, {x.type.of('i1')} }}"
    b.module.declare_text(name, f"declare {pair} @{name}({x.type}, {x.type})")
    both = b.emit(f"call {pair} @{name}({x}, {y})", Type(pair))
    result = b.emit(f"extractvalue {both}, 0", x.type)
    return result, b.emit(f"extractvalue {both}, 1", x.type.of("i1"))


def _is_least(b: Builder, xs: Sequence[Value]) -> Value:
    return b.compare("eq", xs[0], b.like(xs[0], -(2**63)))


def _quotient(b: Builder, xs: Sequence[Value]) -> Value:
    y = xs[1]
    return b.op("and", _is_least(b, xs), b.compare("eq", y, b.like(y, -1)))


def _shifted(b: Builder, xs: Sequence[Value]) -> Value:
    x, n = xs
    inside = b.compare("ult", n, b.like(n, 64))
    n = b.select(inside, n, b.like(n, 0))
    lost = b.compare("ne", b.op("ashr", b.op("shl", x, n), n), x)
    beyond = b.op("and", b.op("xor", inside, b.like(inside, True)), b.compare("ne", x, b.like(x, 0)))
    return b.op("or", lost, beyond)


def _powers(b: Builder, x: Value, n: int) -> Iterator[Value]:
    """For each product that a power is made of."""
    y = None
    while n:
        if n & 1:
            if y is None:
                y = x
            else:
                y, wrong = _checked(b, "mul", y, x)
                yield wrong
        n >>= 1
        if n:
            x, wrong = _checked(b, "mul", x, x)
            yield wrong


_QUESTIONS: dict[Any, _Question] = {
    np.add: _computed("add"),
    np.subtract: _computed("sub"),
    np.multiply: _computed("mul"),
    np.negative: _is_least,
    np.absolute: _is_least,
    np.floor_divide: _quotient,
    np.left_shift: _shifted,
}
