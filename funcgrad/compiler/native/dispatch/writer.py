"""How the entry and the gate are written: a builder that knows the tables in memory and the functions of Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import final

from funcgrad.compiler.native.dispatch.layout import ARRAY_FIELDS, TABLE
from funcgrad.compiler.native.machine.builder import I64, PTR, Builder, Type, Value

NULL = Value("null", PTR)
# the table of what the code calls and compares with
TABLE_AT = Value("%table", PTR)


def integer(n: int, type: Type = I64) -> Value:
    """A number in the code."""
    return Value(str(n), type)


def _listed(xs: Sequence[Value]) -> str:
    return ", ".join(map(str, xs))


@final
class Writer:
    """A builder that knows the tables, and names the places that it jumps to."""

    def __init__(self, builder: Builder) -> None:
        self.b = builder

    def word(self, fields: Sequence[str], base: Value, name: str, type: Type = I64) -> Value:
        """A field of a table of words."""
        return self.b.load(type, self.b.offset(base, fields.index(name), "i64"), 8)

    def at(self, base: Value, offset: int, type: Type) -> Value:
        """What stands some bytes behind an address."""
        return self.b.load(type, self.b.offset(base, offset, "i8"), type.bits // 8)

    def field(self, array: Value, name: str, type: Type = PTR) -> Value:
        """A field of an array object."""
        return self.at(array, ARRAY_FIELDS[name], type)

    def known(self, name: str) -> Value:
        """What the code calls or compares with."""
        return self.word(TABLE, TABLE_AT, name, PTR)

    def call(self, name: str, type: Type, *xs: Value) -> Value:
        """Call a function of Python or NumPy."""
        return self.b.emit(f"call {type} {self.known(name).text}({_listed(xs)})", type)

    def do(self, name: str, *xs: Value) -> None:
        """Call a function of Python or NumPy that returns nothing."""
        self.b.do(f"call void {self.known(name).text}({_listed(xs)})")

    def phi(self, type: Type, **values: Value) -> Value:
        """The value that belongs to the place from which one has come."""
        listed = ", ".join(f"[ {x.text}, %{block} ]" for block, x in values.items())
        return self.b.emit(f"phi {type} {listed}", type)

    @contextmanager
    def each(self, name: str, count: Value, before: str, after: str) -> Iterator[Value]:
        """For each number below `count`, which may be 0: at the end of the body one jumps to `<name>.next`.

        Args:
            name: Where the loop begins.
            count: How often it runs.
            before: The block that jumps to it.
            after: Where to jump in the end.
        """
        i, following = Value(f"%{name}.i", I64), Value(f"%{name}.following", I64)
        self.b.label(name)
        self.b.do(f"{i.text} = phi i64 [ 0, %{before} ], [ {following.text}, %{name}.next ]")
        self.b.split(self.b.compare("slt", i, count), f"{name}.body", after)
        self.b.label(f"{name}.body")
        yield i
        self.b.label(f"{name}.next")
        self.b.do(f"{following.text} = add i64 {i.text}, 1")
        self.b.jump(name)

    def entry_of(self, base: Value, i: Value, size: int = 1) -> Value:
        """The address of one of several entries, of so many words each."""
        return self.b.offset(base, i if size == 1 else self.b.op("mul", i, integer(size)), "i64")
