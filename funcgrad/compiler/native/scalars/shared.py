"""Functions that all programs share: each is compiled once in a process, and a program calls it by name.

The code of a transcendental function is longer than most loops that it is called in, and making it would take most of
the time of a first call. So a program has no copy of its own: its text declares `fg.sin.v8f64`, operands and result are
in registers, and the function is there, or is made, when the program is linked.

The name says it all: a function of `vectormath`, and the type of its operands and of its result.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from funcgrad.compiler.native.machine.builder import Builder, Module, Type, Value
from funcgrad.compiler.native.vectormath import FUNCTIONS

if TYPE_CHECKING:
    from funcgrad.compiler.native.machine.llvm import Library

_DECLARED = re.compile(r"^declare \S.* @(fg\.\w+\.\w+)\((.*)\)", re.MULTILINE)
_LANES = {"64": "double", "32": "float"}
# the result depends on the operands and on nothing else, so that a call may be moved
_ATTRIBUTES = "nounwind willreturn memory(none)"


def call(b: Builder, name: str, xs: Sequence[Value]) -> Value:
    """The result of a function of `vectormath`, by a call of the one that all programs share."""
    type = xs[0].type
    symbol = f"fg.{name}.{type.suffix}"
    types = ", ".join(str(x.type) for x in xs)
    b.module.declare_text(symbol, f"declare {type} @{symbol}({types}) {_ATTRIBUTES}")
    return b.emit(f"call {type} @{symbol}({', '.join(map(str, xs))})", type)


def addresses(text: str) -> dict[str, int]:
    """Where the shared functions are that a module declares."""
    from funcgrad.compiler.native.machine import llvm  # heavy: imported when first needed

    with llvm.lock:
        return {symbol: _made(symbol, types.count(",") + 1).address for symbol, types in _DECLARED.findall(text)}


def text_of(symbol: str, operands: int) -> str:
    """The module of one shared function."""
    from funcgrad.compiler.native.machine import llvm

    _, name, suffix = symbol.split(".")
    lanes, _, bits = suffix.rpartition("f")
    type = Type(_LANES[bits], int(lanes[1:] or 1))
    module = Module(llvm.host().vector_bytes)
    b = Builder(module)
    xs = [Value(f"%x{i}", type) for i in range(operands)]
    with b.function(symbol, str(type), [(str(type), x.text[1:]) for x in xs]):
        b.ret(FUNCTIONS[name](b, *xs))
    return module.text()


# without a bound, since there are but some dozens of functions, in few types
@cache
def _made(symbol: str, operands: int) -> Library:
    from funcgrad.compiler.native.machine import llvm

    return llvm.load_text(text_of(symbol, operands), symbol)
