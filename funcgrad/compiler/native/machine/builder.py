"""LLVM code as text, written instruction by instruction.

A `Value` is the result of an instruction, or a constant. Its type has a lane (`double`, `i64`, `ptr`) and a number of
lanes: one for a scalar, more for a vector. What is written for a scalar holds for a vector: each instruction works lane
by lane. Text is written, not objects, because LLVM reads a line of text in less time than it takes to make an object.

Source: the LLVM Language Reference Manual, https://llvm.org/docs/LangRef.html.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

FLOAT_BITS = {"half": 16, "float": 32, "double": 64}


@final
@dataclass(frozen=True, slots=True)
class Type:
    """The type of a value: that of a lane, and how many there are."""

    lane: str
    lanes: int = 1

    @property
    def is_float(self) -> bool:
        """True for half, float and double."""
        return self.lane in FLOAT_BITS

    @property
    def bits(self) -> int:
        """The number of bits of a lane."""
        return FLOAT_BITS.get(self.lane) or (64 if self.lane == "ptr" else int(self.lane[1:]))

    def of(self, lane: str) -> Type:
        """As many lanes of another type."""
        return Type(lane, self.lanes)

    @property
    def suffix(self) -> str:
        """What the names of intrinsics end with: `f64`, `v8f64`."""
        lane = f"f{self.bits}" if self.is_float else "p0" if self.lane == "ptr" else self.lane
        return lane if self.lanes == 1 else f"v{self.lanes}{lane}"

    def __str__(self) -> str:
        return self.lane if self.lanes == 1 else f"<{self.lanes} x {self.lane}>"


I1, I8, I32, I64, PTR, DOUBLE, FLOAT = map(Type, ("i1", "i8", "i32", "i64", "ptr", "double", "float"))


@final
@dataclass(frozen=True, slots=True)
class Value:
    """The result of an instruction (`%7`) or a constant, with its type."""

    text: str
    type: Type

    def __str__(self) -> str:
        return f"{self.type} {self.text}"


def constant(type: Type, value: float | int | bool) -> Value:
    """A constant, the same in each lane."""
    lane = number(type.lane, value)
    return Value(lane if type.lanes == 1 else f"splat ({type.lane} {lane})", type)


def _least_factor(n: int) -> int:
    return next(p for p in range(2, n + 1) if n % p == 0)


def number(lane: str, value: float | int | bool) -> str:
    """A number as LLVM writes it: floats by their bits."""
    if lane == "double":
        return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
    if lane == "float":
        # by the bits of the double of the same value
        (narrow,) = struct.unpack("<f", struct.pack("<f", value))
        return f"0x{struct.unpack('<Q', struct.pack('<d', narrow))[0]:016X}"
    if lane == "half":
        return f"0xH{struct.unpack('<H', struct.pack('<e', value))[0]:04X}"
    if lane == "i1":
        return "true" if value else "false"
    return "null" if lane == "ptr" else str(int(value))


@final
class Module:
    """The text of one module: its functions, and what they refer to.

    Args:
        vector_bytes: The size of the machine's vectors, 64 if it has AVX-512. With less than there is, code runs too.
    """

    def __init__(self, vector_bytes: int = 16) -> None:
        self.vector_bytes = vector_bytes
        self.functions: list[str] = []
        self.globals: list[str] = []
        self._declared: dict[str, str] = {}
        self._made: dict[str, str] = {}
        self._metadata: list[str] = []
        self._names = 0

    def declare(self, name: str, result: Type | str, arguments: Sequence[Type]) -> None:
        """Refer to a function that is defined elsewhere, or to an intrinsic."""
        self._declared.setdefault(name, f"declare {result} @{name}({', '.join(map(str, arguments))})")

    def declare_text(self, name: str, text: str) -> None:
        """Refer to a function whose declaration is given."""
        self._declared.setdefault(name, text)

    def once(self, name: str, make: Callable[[], None]) -> None:
        """Make a function of this name unless that was done."""
        if name not in self._made:
            self._made[name] = name
            make()

    def fresh(self, stem: str) -> str:
        """A name that no other function has."""
        self._names += 1
        return f"{stem}{self._names}"

    @property
    def streamed(self) -> str:
        """The note of a store that is to go past the cache."""
        self._metadata = ["!0 = !{i32 1}"]
        return ", !nontemporal !0"

    def table(self, name: str, lane: str, values: Sequence[float | int]) -> Value:
        """A constant array of numbers, by a pointer to it."""
        if name not in self._made:
            self._made[name] = name
            entries = ", ".join(f"{lane} {number(lane, v)}" for v in values)
            self.globals.append(
                f"@{name} = private unnamed_addr constant [{len(values)} x {lane}] [{entries}], align 64"
            )
        return Value(f"@{name}", PTR)

    def text(self) -> str:
        """All of it."""
        return "\n".join([*self.globals, *self._declared.values(), *self.functions, *self._metadata, ""])


@final
class Builder:
    """Writes one function.

    Args:
        module: The module that it is a part of.

    Attributes:
        count: How many instructions there are so far.
    """

    def __init__(self, module: Module) -> None:
        self.module = module
        self.count = 0
        self._lines: list[str] = []
        self._arguments = ""
        self._blocks = 0
        self._block = "entry"
        self._room = 0

    @contextmanager
    def function(
        self, name: str, result: str, arguments: Sequence[tuple[str, str]], how: str = "", cold: bool = False
    ) -> Iterator[None]:
        """Within, the function's body is written; `arguments` are pairs of a type, with attributes, and a name.

        A `cold` one hardly ever runs: it is compiled in less time to code that is less good.
        """
        listed = ", ".join(f"{type} %{argument}" for type, argument in arguments)
        self._arguments = listed
        self._lines.append("")
        self.rename(name, result, how, cold)
        self._lines.append("entry:")
        begin = len(self._lines)
        yield
        if self._room:
            self._lines.insert(begin, f"  %room = alloca [{self._room} x i8], align 64")
            self._room = 0
        self._lines.append("}")
        self.module.functions.append("\n".join(self._lines))
        self._lines = []
        self._block = "entry"

    def rename(self, name: str, result: str, how: str = "", cold: bool = False) -> None:
        """Give the function that is being written another name, and another type of result."""
        attributes = "nounwind noinline optnone" if cold else "#0"
        self._lines[0] = f"define {how} {result} @{name}({self._arguments}) {attributes} {{".replace("  ", " ")

    def emit(self, text: str, type: Type) -> Value:
        """An instruction that has a result."""
        self.count += 1
        name = f"%_{self.count}"
        self._lines.append(f"  {name} = {text}")
        return Value(name, type)

    def do(self, text: str) -> None:
        """An instruction without a result."""
        self.count += 1
        self._lines.append(f"  {text}")

    def room(self, size: int) -> Value:
        """Memory on the stack, of so many bytes; whoever asks next in this function is given the same."""
        self._room = max(self._room, size)
        return Value("%room", PTR)

    # ── arithmetic

    def op(self, opcode: str, x: Value, y: Value) -> Value:
        """`fadd`, `mul`, `and`, `shl` …: two operands and a result of one type."""
        return self.emit(f"{opcode} {x}, {y.text}", x.type)

    def negative(self, x: Value) -> Value:
        """`-x` of a float: its sign bit is flipped."""
        return self.emit(f"fneg {x}", x.type)

    def compare(self, how: str, x: Value, y: Value) -> Value:
        """`olt`, `une`, `uno` … for floats, `slt`, `ult`, `eq` … for integers: an `i1` in each lane."""
        kind = "fcmp" if x.type.is_float else "icmp"
        return self.emit(f"{kind} {how} {x}, {y.text}", x.type.of("i1"))

    def select(self, c: Value, x: Value, y: Value) -> Value:
        """`x` where `c` is true, else `y`."""
        return self.emit(f"select {c}, {x}, {y}", x.type)

    def cast(self, opcode: str, x: Value, lane: str) -> Value:
        """`sext`, `zext`, `trunc`, `fpext`, `fptrunc`, `sitofp`, `fptosi`, `bitcast` … to another lane type."""
        type = x.type.of(lane)
        return self.emit(f"{opcode} {x} to {type}", type)

    def intrinsic(self, name: str, *xs: Value) -> Value:
        """`llvm.<name>` of operands and a result of one type: `fma`, `fabs`, `copysign`, `rint`, `sqrt` and others."""
        type = xs[0].type
        return self.call(f"llvm.{name}.{type.suffix}", type, *xs)

    def call(self, name: str, result: Type, *xs: Value) -> Value:
        """A call of a function of the module, of an intrinsic, or of an external function."""
        self.module.declare(name, result, [x.type for x in xs])
        return self.emit(f"call {result} @{name}({', '.join(map(str, xs))})", result)

    def fma(self, x: Value, y: Value, z: Value) -> Value:
        """`x·y + z`, rounded once."""
        return self.intrinsic("fma", x, y, z)

    def like(self, x: Value, value: float | int | bool) -> Value:
        """A constant of the type of `x`."""
        return constant(x.type, value)

    # ── lanes

    def splat(self, x: Value, lanes: int) -> Value:
        """A scalar in each lane."""
        if lanes == x.type.lanes:
            return x
        type = Type(x.type.lane, lanes)
        if not x.text.startswith("%"):
            return Value(f"splat ({x})", type)
        one = self.emit(f"insertelement {type} poison, {x}, i64 0", type)
        return self.shuffle(one, one, [0] * lanes)

    def shuffle(self, x: Value, y: Value, order: Sequence[int]) -> Value:
        """Lanes of `x` and `y`, numbered through, in another order."""
        mask = ", ".join(f"i32 {i}" for i in order)
        return self.emit(f"shufflevector {x}, {y}, <{len(order)} x i32> <{mask}>", Type(x.type.lane, len(order)))

    def unzip(self, parts: Sequence[Value]) -> list[Value]:
        """Of n vectors that follow each other the lanes 0, n, 2n …, then the lanes 1, n + 1 …, and so on.

        One factor of n after the other, since that takes few instructions.
        """
        n, lanes = len(parts), parts[0].type.lanes
        if n == 1:
            return list(parts)
        p = _least_factor(n)
        wanted = [[divmod(r + i * p, lanes) for i in range(lanes)] for r in range(p)]
        rows = [[self._pick(parts[k : k + p], order) for k in range(0, n, p)] for order in wanted]
        deeper = [self.unzip(row) for row in rows]
        return [deeper[k % p][k // p] for k in range(n)]

    def zip(self, parts: Sequence[Value]) -> list[Value]:
        """The inverse of `unzip`."""
        n, lanes = len(parts), parts[0].type.lanes
        if n == 1:
            return list(parts)
        p = _least_factor(n)
        rows = [self.zip(parts[r::p]) for r in range(p)]
        orders = [[divmod(k * lanes + i, p)[::-1] for i in range(lanes)] for k in range(p)]
        return [self._pick([row[g] for row in rows], order) for g in range(n // p) for order in orders]

    def _pick(self, parts: Sequence[Value], wanted: Sequence[tuple[int, int]]) -> Value:
        """A vector of lanes of several vectors: for each of its lanes which vector, and which lane of that."""
        lanes = parts[0].type.lanes
        out, order = parts[0], [i for _, i in wanted]
        for k, part in enumerate(parts[1:], 1):
            if any(which == k for which, _ in wanted):
                order = [lanes + i if which == k else place for (which, i), place in zip(wanted, order, strict=True)]
                out = self.shuffle(out, part, order)
                order = list(range(lanes))
        return out

    def lane(self, x: Value, i: int) -> Value:
        """One lane of a vector."""
        return x if x.type.lanes == 1 else self.emit(f"extractelement {x}, i64 {i}", Type(x.type.lane))

    def iota(self, type: Type) -> Value:
        """0, 1, 2 … in the lanes of an integer type."""
        if type.lanes == 1:
            return Value("0", type)
        return Value("<" + ", ".join(f"{type.lane} {i}" for i in range(type.lanes)) + ">", type)

    # ── memory

    def offset(self, pointer: Value, index: Value | int, size: str) -> Value:
        """The address `index` elements of type `size` behind `pointer`; a vector of them for a vector of indices."""
        if isinstance(index, int):
            if index == 0:
                return pointer
            index = Value(str(index), I64)
        return self.emit(f"getelementptr {size}, {pointer}, {index}", Type("ptr", index.type.lanes))

    def load(self, type: Type, pointer: Value, align: int, note: str = "") -> Value:
        """What stands in memory at `pointer`."""
        return self.emit(f"load {type}, {pointer}, align {align}{note}", type)

    def store(self, x: Value, pointer: Value, align: int, note: str = "") -> None:
        """Write to memory at `pointer`."""
        self.do(f"store {x}, {pointer}, align {align}{note}")

    # ── control

    def label(self, name: str) -> None:
        """What follows can be jumped to."""
        self.do(f"{name}:")

    def jump(self, name: str) -> None:
        """Go on there."""
        self.do(f"br label %{name}")

    def split(self, condition: Value, yes: str, no: str) -> None:
        """Go on at one of two places."""
        self.do(f"br {condition}, label %{yes}, label %{no}")

    def is_null(self, x: Value) -> Value:
        """True for the null pointer."""
        return self.compare("eq", x, Value("null", PTR))

    def loop(
        self,
        start: Value | int,
        stop: Value | int,
        step: int,
        carried: Sequence[Value],
        body: Callable[[Value, list[Value]], Sequence[Value]],
    ) -> list[Value]:
        """Run `body(i, carried)`, which returns what is carried on, for i from `start` in steps of `step` up to `stop`.

        The body runs at least once: `start` is less than `stop`.
        """
        first, last = (Value(str(n), I64) if isinstance(n, int) else n for n in (start, stop))
        before, head, after = self._block, self._name("loop"), self._name("done")
        i = Value(f"%i.{head}", I64)
        there = [Value(f"%{head}.{k}", x.type) for k, x in enumerate(carried)]
        self.do(f"br label %{head}")
        self._begin(head)
        place = len(self._lines)
        out = list(body(i, there))
        latch = self._block
        following = self.op("add", i, Value(str(step), I64))
        phis = [f"  {i.text} = phi i64 [ {first.text}, %{before} ], [ {following.text}, %{latch} ]"]
        phis += [
            f"  {x.text} = phi {x.type} [ {old.text}, %{before} ], [ {new.text}, %{latch} ]"
            for x, old, new in zip(there, carried, out, strict=True)
        ]
        self._lines[place:place] = phis
        more = self.compare("slt", following, last)
        self.do(f"br {more}, label %{head}, label %{after}")
        self._begin(after)
        return out

    def loop_while(
        self,
        carried: Sequence[Value],
        condition: Callable[[list[Value]], Value],
        body: Callable[[list[Value]], Sequence[Value]],
    ) -> list[Value]:
        """As long as `condition(carried)` holds, run `body(carried)`, which returns what is carried on."""
        before, head, inside, after = self._block, self._name("while"), self._name("body"), self._name("done")
        there = [Value(f"%{head}.{k}", x.type) for k, x in enumerate(carried)]
        self.do(f"br label %{head}")
        self._begin(head)
        place = len(self._lines)
        more = condition(there)
        self.do(f"br {more}, label %{inside}, label %{after}")
        self._begin(inside)
        out = list(body(there))
        latch = self._block
        self.do(f"br label %{head}")
        self._lines[place:place] = [
            f"  {x.text} = phi {x.type} [ {old.text}, %{before} ], [ {new.text}, %{latch} ]"
            for x, old, new in zip(there, carried, out, strict=True)
        ]
        self._begin(after)
        return there

    def branch(
        self, condition: Value, yes: Callable[[], Sequence[Value]], no: Callable[[], Sequence[Value]]
    ) -> list[Value]:
        """Run `yes()` if a scalar condition holds, else `no()`; the values that it returned."""
        names = [self._name("yes"), self._name("no")]
        after = self._name("joined")
        self.do(f"br {condition}, label %{names[0]}, label %{names[1]}")
        ends = []
        for name, run in zip(names, (yes, no), strict=True):
            self._begin(name)
            out = list(run())
            ends.append((self._block, out))
            self.do(f"br label %{after}")
        self._begin(after)
        (block1, out1), (block2, out2) = ends
        return [
            self.emit(f"phi {x.type} [ {x.text}, %{block1} ], [ {y.text}, %{block2} ]", x.type)
            for x, y in zip(out1, out2, strict=True)
        ]

    def either(self, condition: Value, yes: Callable[[], Any], no: Callable[[], Any]) -> None:
        """Run `yes()` if a scalar condition holds, else `no()`, for what they do."""

        def run(then: Callable[[], Any]) -> list[Value]:
            then()
            return []

        self.branch(condition, lambda: run(yes), lambda: run(no))

    def when(self, condition: Value, then: Callable[[], Any]) -> None:
        """Run `then()` if a scalar condition holds."""
        name, after = self._name("then"), self._name("joined")
        self.do(f"br {condition}, label %{name}, label %{after}")
        self._begin(name)
        then()
        self.do(f"br label %{after}")
        self._begin(after)

    def ret(self, x: Value | None = None) -> None:
        """Return from the function."""
        self.do("ret void" if x is None else f"ret {x}")

    def _name(self, stem: str) -> str:
        self._blocks += 1
        return f"{stem}{self._blocks}"

    def _begin(self, name: str) -> None:
        self._lines.append(f"{name}:")
        self._block = name
