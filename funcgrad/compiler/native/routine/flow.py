"""Calls, branches and loops as code.

What is called finds its buffers in a frame, which the caller keeps in its own arena: for a loop it is made once, and
each step changes only the addresses that go on.

    loop:  frame ← constants; carry ← init
           for each step:  frame ← slices, carry, next carry, results of the step;  call body;  exchange the carries

A carry has two places that take turns, and the initial one is read where it is; but a body that can do with one place
(`Memory.kept`) gets one, so that what it overwrites a few elements of is not copied. The carry of a loop over a few
numbers is in registers (see `tiny`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import final

from funcgrad.compiler.native.ir.steps import Block, Branch, Call, Flow, Loop, Routine, Slices, Step
from funcgrad.compiler.native.machine.builder import I1, I64, PTR, Builder, Type, Value, constant
from funcgrad.compiler.native.routine import tiny
from funcgrad.compiler.native.routine.memory import bytes_of, is_cell
from funcgrad.compiler.native.routine.part import Function, Part
from funcgrad.compiler.native.scalars.convert import memory_lane
from funcgrad.core.ir import Jaxpr
from funcgrad.core.trace import Var
from funcgrad.core.views import contiguous, size

Functions = Mapping[Routine, Function]
_ALIGN = 64
# the elements that a growing array has room for at first
_ROOM = 8
_MOST_BYTES = 1 << 47
OUT_OF_BOUNDS, OUT_OF_MEMORY = 1, 2
"""What the error record says."""


def scratch_bytes(step: Flow, functions: Functions) -> int:
    """The memory that a step needs for itself: frames, arenas, the second places of what is carried."""
    return 0 if is_tiny(step) else _layout(step, functions).total


def emit(part: Part, number: int, step: Flow, functions: Functions) -> None:
    """Write the code of a step."""
    blocks = step.blocks if isinstance(step, Loop) else step.operands
    part.prepare(*(x.root for x in blocks), *step.outputs)
    if isinstance(step, Loop):
        part.prepare(*(x.root for x in step.scanned))
        if is_tiny(step):
            _TinyLoop(part, step).write()
            return
    scratch = part.scratch(number)
    assert scratch is not None
    match step:
        case Call():
            _emit_call(part, step, functions, scratch)
        case Branch():
            _emit_branch(part, step, functions, scratch)
        case Loop():
            _CalledLoop(part, step, functions, scratch).write()


@final
@dataclass(frozen=True, slots=True)
class _Layout:
    """Where in the memory of a step all is: frame and arena of each routine, the places of carries and of an answer."""

    frames: tuple[int, ...]
    arenas: tuple[int, ...]
    carries: Mapping[int, int]
    answer: int
    total: int


def _layout(step: Flow, functions: Functions) -> _Layout:
    made: list[Function]
    match step:
        case Call():
            made = [functions[step.routine]]
        case Branch():
            # one runs, so they share a frame and an arena
            made = [max((functions[r] for r in step.routines), key=lambda f: f.memory.total)]
        case Loop():
            made = [functions[r] for r in (step.body, step.condition) if r is not None]
    total = 0
    frames, arenas = [], []
    for function in made:
        frames.append(total)
        total += _aligned(function.frame)
        arenas.append(total)
        total += _aligned(function.memory.total)
    carries = {}
    if isinstance(step, Loop):
        kept = functions[step.body].memory.kept
        for k, v in enumerate(step.carried):
            if k not in kept:
                carries[k] = total
                total += _aligned(bytes_of(v))
    return _Layout(tuple(frames), tuple(arenas), carries, total, total + _ALIGN)


def _aligned(n: int) -> int:
    return -(-max(1, n) // _ALIGN) * _ALIGN


def _address(part: Part, x: Block | Slices) -> Value:
    return part.b.offset(part.pointer(x.root), x.offset, memory_lane(x.root.dtype))


@final
class _Frame:
    """A frame that is being filled."""

    def __init__(self, part: Part, function: Function, at: Value, arena: Value) -> None:
        self._b = part.b
        self._function = function
        self.at = at
        last = function.inputs + function.outputs
        for i, x in enumerate((arena, part.externals, part.record)):
            self._set(last + i, x)

    def input(self, i: int, x: Value) -> None:
        """Say where an input is."""
        self._set(i, x)

    def output(self, k: int, x: Value) -> None:
        """Say where an output goes."""
        self._set(self._function.inputs + k, x)

    def _set(self, i: int, x: Value) -> None:
        self._b.store(x, self._b.offset(self.at, i, "ptr"), 8)

    def call(self, name: str = "") -> None:
        """Call the function, or another one that takes the same."""
        self._b.do(f"call void @{name or self._function.name}({self.at})")


def _emit_call(part: Part, step: Call, functions: Functions, scratch: Value) -> None:
    _called_frame(part, step, functions[step.routine], functions, scratch).call()


def _called_frame(part: Part, step: Call | Branch, function: Function, functions: Functions, scratch: Value) -> _Frame:
    layout, b = _layout(step, functions), part.b
    frame = _Frame(part, function, b.offset(scratch, layout.frames[0], "i8"), b.offset(scratch, layout.arenas[0], "i8"))
    for i, x in enumerate(step.operands):
        frame.input(i, _address(part, x))
    for k, v in enumerate(step.outputs):
        frame.output(k, part.pointer(v))
    return frame


def _emit_branch(part: Part, step: Branch, functions: Functions, scratch: Value) -> None:
    b = part.b
    frame = _called_frame(part, step, functions[step.routines[0]], functions, scratch)
    number = _integer(part, step.number)
    names = [functions[r].name for r in step.routines]

    def choose(k: int) -> None:
        if k == len(names):
            part.fail(OUT_OF_BOUNDS)
            return
        b.either(b.compare("eq", number, b.like(number, k)), lambda: frame.call(names[k]), lambda: choose(k + 1))

    choose(0)


def _integer(part: Part, x: Block) -> Value:
    """The integer or bool that stands in a buffer."""
    b, dtype = part.b, x.root.dtype
    lane = memory_lane(dtype)
    value = b.load(Type(lane), _address(part, x), dtype.itemsize)
    return value if lane == "i64" else b.cast("sext" if dtype.kind == "i" else "zext", value, "i64")


def copy(b: Builder, target: Value, source: Value, count: int) -> None:
    """Copy so many bytes."""
    if count:
        b.module.declare_text(
            "llvm.memcpy.p0.p0.i64", "declare void @llvm.memcpy.p0.p0.i64(ptr noalias, ptr noalias, i64, i1 immarg)"
        )
        b.do(f"call void @llvm.memcpy.p0.p0.i64({target}, {source}, i64 {count}, i1 false)")


class _LoopWriter(ABC):
    """Writes one loop: how often it runs, the growing arrays, the slices."""

    def __init__(self, part: Part, step: Loop) -> None:
        self._part = part
        self._b = part.b
        self._step = step

    @abstractmethod
    def _begin(self) -> list[Value]:
        """What the code carries from step to step, at first."""

    @abstractmethod
    def _run(self, i: Value, state: list[Value]) -> list[Value]:
        """Take the step that reads the slices `i`."""

    @abstractmethod
    def _ask(self, state: list[Value]) -> Value:
        """Whether the condition holds."""

    @abstractmethod
    def _end(self, state: list[Value]) -> None:
        """Have the carries where they are to be in the end."""

    def write(self) -> None:
        """All of it."""
        b, step = self._b, self._step
        state = self._begin()
        if step.length == 0:
            self._end(state)
        elif step.length is not None:
            count = Value(str(step.length), I64)
            self._end(b.loop(0, step.length, 1, state, lambda i, there: self._run(self._place(i, count), there)))
        else:
            self._unknown(state)

    def _unknown(self, state: list[Value]) -> None:
        """A loop of which only the run tells how many steps it takes."""
        b, step = self._b, self._step
        count = None
        if step.steps is not None:
            # after an error it may be anything
            count = _integer(self._part, step.steps)
            count = b.select(self._goes_well(), count, b.like(count, 0))
            for v in step.stacked:
                (room,) = self._allocate(v, b.intrinsic("smax", count, b.like(count, 1)))
                count = b.select(room, count, b.like(count, 0))

        def goes_on(there: list[Value]) -> Value:
            i, *state = there
            more = self._another(i, state) if count is None else b.compare("slt", i, count)
            # what follows an error, of this loop or of what came before it, may never end
            return b.op("and", more, self._goes_well())

        def run(there: list[Value]) -> list[Value]:
            i, *state = there
            return [b.op("add", i, Value("1", I64)), *self._run(self._place(i, count or i), state)]

        _, *state = b.loop_while([Value("0", I64), *state], goes_on, run)
        self._end(state)

    def _goes_well(self) -> Value:
        """Whether no error has been noted."""
        return self._b.compare("eq", self._b.load(I64, self._part.record, 8), Value("0", I64))

    def _place(self, i: Value, count: Value) -> Value:
        """Which slices a step reads."""
        b = self._b
        return b.op("sub", b.op("sub", count, Value("1", I64)), i) if self._step.reverse else i

    def _slice(self, v: Var, offset: int, stride: int, i: Value) -> Value:
        b, lane = self._b, memory_lane(v.dtype)
        base = self._part.pointer(v)
        if is_cell(v):
            base = b.load(PTR, base, 8)
        return b.offset(b.offset(base, offset, lane), b.op("mul", i, Value(str(stride), I64)), lane)

    # ── growing arrays

    def _another(self, i: Value, state: list[Value]) -> Value:
        """Whether there is another step, and room for its results."""
        b = self._b
        more = self._ask(state)
        for v in self._step.stacked:
            (more,) = b.branch(more, partial(self._room, v, i), lambda: [constant(I1, False)])
        return more

    def _room(self, v: Var, i: Value) -> list[Value]:
        """Make room for one more element of a growing array; False if there is no memory left."""
        b = self._b
        room = b.load(I64, b.offset(self._part.pointer(v), 8, "i8"), 8)

        def grow() -> list[Value]:
            twice = b.op("shl", room, Value("1", I64))
            return self._allocate(v, b.select(b.compare("eq", room, b.like(room, 0)), b.like(room, _ROOM), twice))

        return b.branch(b.compare("eq", i, room), grow, lambda: [constant(I1, True)])

    def _allocate(self, v: Var, room: Value) -> list[Value]:
        """Have a growing array have room for so many elements; False if there is no memory left."""
        b, cell = self._b, self._part.pointer(v)
        slice_bytes = size(v.shape[1:]) * v.dtype.itemsize
        length = b.op("mul", room, Value(str(slice_bytes), I64))
        # of what is more than any machine has, the number of bytes may not be a number of 64 bits
        huge = b.compare("sgt", room, Value(str(_MOST_BYTES // max(1, slice_bytes)), I64))
        length = b.select(huge, b.like(length, -1), length)
        old = b.load(PTR, cell, 8)
        new = b.emit(f"call ptr {self._part.external('PyMem_RawRealloc').text}({old}, {length})", PTR)

        def failed() -> list[Value]:
            self._part.fail(OUT_OF_MEMORY)
            return [constant(I1, False)]

        def allocated() -> list[Value]:
            b.store(new, cell, 8)
            b.store(room, b.offset(cell, 8, "i8"), 8)
            return [constant(I1, True)]

        return b.branch(b.compare("eq", new, Value("null", PTR)), failed, allocated)


@final
@dataclass(frozen=True, slots=True)
class _Turn:
    """Where a carry is, where the next one goes, and where the one after that."""

    now: Value
    next: Value
    after: Value

    def turned(self) -> tuple[Value, Value, Value]:
        """The same after a step."""
        return self.next, self.after, self.next


@final
class _CalledLoop(_LoopWriter):
    """A loop whose body is a function."""

    def __init__(self, part: Part, step: Loop, functions: Functions, scratch: Value) -> None:
        super().__init__(part, step)
        self._layout = _layout(step, functions)
        self._scratch = scratch
        self._body = functions[step.body]
        self._frame = self._new_frame(self._body, 0)
        self._condition: _Frame | None = None
        self._answer = part.b.offset(scratch, self._layout.answer, "i8")
        if step.condition is not None:
            self._condition = self._new_frame(functions[step.condition], 1)
            self._condition.output(0, self._answer)
        # the carries that have two places
        self._turning = sorted(self._layout.carries)

    def _new_frame(self, function: Function, i: int) -> _Frame:
        b = self._b
        at, arena = (b.offset(self._scratch, n[i], "i8") for n in (self._layout.frames, self._layout.arenas))
        return _Frame(self._part, function, at, arena)

    def _begin(self) -> list[Value]:
        step = self._step
        for i, x in enumerate(step.consts):
            self._frame.input(i, _address(self._part, x))
        if self._condition is not None:
            for i, x in enumerate(step.condition_consts):
                self._condition.input(i, _address(self._part, x))
        turns = [self._first(k) for k in range(len(step.carried))]
        return [x for turn in turns if turn is not None for x in (turn.now, turn.next, turn.after)]

    def _first(self, k: int) -> _Turn | None:
        """The places of a carry at first; None if it has one place for good."""
        part, step = self._part, self._step
        init, out = _address(part, step.init[k]), part.pointer(step.carried[k])
        if k not in self._layout.carries:
            if part.place(step.init[k].root) != part.place(step.carried[k]):
                copy(self._b, out, init, bytes_of(step.carried[k]))
            self._carry(k, out)
            self._frame.output(k, out)
            return None
        second = self._b.offset(self._scratch, self._layout.carries[k], "i8")
        # where the number of steps is known, the last one writes to where the result is to be
        odd = step.length is None or step.length % 2 == 1
        first, other = (out, second) if odd else (second, out)
        if len(step.consts) + k not in self._body.memory.overwritten:
            return _Turn(init, first, other)
        copy(self._b, other, init, bytes_of(step.carried[k]))
        return _Turn(other, first, other)

    def _carry(self, k: int, x: Value) -> None:
        """Say where a carry is."""
        self._frame.input(len(self._step.consts) + k, x)
        if self._condition is not None:
            self._condition.input(len(self._step.condition_consts) + k, x)

    def _end(self, state: list[Value]) -> None:
        """Have the carries where they are to be in the end."""
        b, step = self._b, self._step
        for place, k in enumerate(self._turning):
            now, out = state[3 * place], self._part.pointer(step.carried[k])
            if step.length is None:
                b.when(b.compare("ne", now, out), partial(copy, b, out, now, bytes_of(step.carried[k])))
            elif step.length == 0:
                copy(b, out, now, bytes_of(step.carried[k]))

    def _run(self, i: Value, state: list[Value]) -> list[Value]:
        step, frame = self._step, self._frame
        carry = len(step.consts)
        after: list[Value] = []
        for place, k in enumerate(self._turning):
            turn = _Turn(*state[3 * place : 3 * place + 3])
            frame.input(carry + k, turn.now)
            frame.output(k, turn.next)
            after += turn.turned()
        for j, s in enumerate(step.scanned):
            frame.input(carry + len(step.carried) + j, self._slice(s.root, s.offset, s.stride, i))
        for j, v in enumerate(step.stacked):
            frame.output(len(step.carried) + j, self._slice(v, 0, size(v.shape[1:]), i))
        frame.call()
        return after

    def _ask(self, state: list[Value]) -> Value:
        b = self._b
        assert self._condition is not None
        for place, k in enumerate(self._turning):
            self._condition.input(len(self._step.condition_consts) + k, state[3 * place])
        self._condition.call()
        answer = b.load(Type("i8"), self._answer, 1)
        return b.compare("ne", answer, b.like(answer, 0))


@final
class _TinyLoop(_LoopWriter):
    """A loop whose carry is in registers."""

    def __init__(self, part: Part, step: Loop) -> None:
        super().__init__(part, step)
        self._body = step.body.jaxpr
        self._consts = self._constants(self._body, step.consts)
        condition = step.condition.jaxpr if step.condition is not None else None
        self._condition = condition
        self._condition_consts = [] if condition is None else self._constants(condition, step.condition_consts)
        self._counts = [size(v.shape) for v in step.carried]

    def _constants(self, jaxpr: Jaxpr, blocks: Sequence[Block]) -> list[tiny.Elements]:
        """The constants, in registers if that can be."""
        in_memory = tiny.tables(jaxpr)
        found: list[tiny.Elements] = []
        for x, v in zip(blocks, jaxpr.inputs, strict=False):
            array = self._array(x, v)
            found.append(array if v in in_memory else tiny.load(self._b, array))
        return found

    def _array(self, x: Block, v: Var) -> tiny.InMemory:
        return tiny.InMemory(_address(self._part, x), contiguous(v.shape), v.dtype)

    def _begin(self) -> list[Value]:
        inits = zip(self._step.init, self._step.carried, strict=True)
        return [value for x, v in inits for value in tiny.load(self._b, self._array(x, v))]

    def _carry(self, state: list[Value]) -> list[tiny.Elements]:
        rest = iter(state)
        return [[next(rest) for _ in range(n)] for n in self._counts]

    def _run(self, i: Value, state: list[Value]) -> list[Value]:
        step = self._step
        slices: list[tiny.Elements] = []
        for s, v in zip(step.scanned, self._body.inputs[len(step.consts) + len(step.carried) :], strict=True):
            slices.append(tiny.InMemory(self._slice(s.root, s.offset, s.stride, i), contiguous(v.shape), v.dtype))
        out = tiny.write(self._part, self._body, [*self._consts, *self._carry(state), *slices])
        for xs, v in zip(out[len(step.carried) :], step.stacked, strict=True):
            tiny.store(self._b, self._slice(v, 0, size(v.shape[1:]), i), xs, v.dtype)
        return [value for xs in out[: len(step.carried)] for value in xs]

    def _ask(self, state: list[Value]) -> Value:
        assert self._condition is not None
        ((answer,),) = tiny.write(self._part, self._condition, [*self._condition_consts, *self._carry(state)])
        return answer

    def _end(self, state: list[Value]) -> None:
        for xs, v in zip(self._carry(state), self._step.carried, strict=True):
            assert isinstance(xs, list)
            tiny.store(self._b, self._part.pointer(v), xs, v.dtype)


def is_tiny(step: Step) -> bool:
    """True for a loop whose carry is kept in registers."""
    if not isinstance(step, Loop):
        return False
    consts, carried = len(step.consts), len(step.carried)
    inputs = range(len(step.body.inputs))
    in_memory = frozenset(i for i in inputs if not consts <= i < consts + carried)
    if tiny.operations(step.body.jaxpr, in_memory) is None:
        return False
    if step.condition is None:
        return True
    asked = frozenset(range(len(step.condition_consts)))
    return tiny.operations(step.condition.jaxpr, asked) is not None


def free(part: Part, cells: Sequence[Var]) -> None:
    """Give back the memory of growing arrays."""
    for v in cells:
        old = part.b.load(PTR, part.pointer(v), 8)
        part.b.do(f"call void {part.external('PyMem_RawFree').text}({old})")


def clear(part: Part, cells: Sequence[Var]) -> None:
    """Begin with growing arrays that have no memory."""
    for v in cells:
        cell = part.pointer(v)
        part.b.store(Value("null", PTR), cell, 8)
        part.b.store(Value("0", I64), part.b.offset(cell, 8, "i8"), 8)
