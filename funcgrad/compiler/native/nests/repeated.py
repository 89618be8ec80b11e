"""The same computation on many arrays: kernels that differ in their buffers only run as one loop over these.

An update of the parameters of a network is such a computation, on each array of a pytree. The fuser puts what runs over
one domain into one kernel; here, the parts of it that have nothing to do with each other are taken apart again where
enough of them are alike. Their code is written once, and so its length does not grow with the number of arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias, final

from funcgrad.compiler.identities import literal_key, parameters_key
from funcgrad.compiler.native.ir.kernel import Compute, Fold, Kernel, Load, Repeated, Statement, Store, operands, result
from funcgrad.compiler.native.machine.builder import I64, PTR, Builder, Module, Value
from funcgrad.core.ir import Atom, Literal
from funcgrad.core.trace import Var

Pointers: TypeAlias = Callable[[Value], Mapping[Var, Value]]
# so many have to be alike
_FEWEST = 4
# in instructions: such a kernel takes no longer to compile than a call
_SHORT = 16


def append(steps: list[Any], step: Any) -> None:
    """Put a step after other ones; a kernel with parts of it that are alike as one step."""
    for part in _gathered(step) if isinstance(step, Kernel) else [step]:
        last = steps[-1] if steps else None
        both = _joined(last, part) if isinstance(part, Repeated) and isinstance(last, Repeated) else None
        if both is not None:
            steps[-1] = both
        else:
            steps.append(part)


def _gathered(kernel: Kernel) -> list[Kernel | Repeated]:
    """The kernel, with parts of it that are alike as one step."""
    if sum(isinstance(s, Store) for s in kernel.body) < _FEWEST:
        return [kernel]
    alike: dict[Hashable, list[Kernel]] = {}
    for body in _independent(kernel.body):
        part = _part(kernel, body)
        alike.setdefault(_pattern(part), []).append(part)
    found = [Repeated(tuple(parts)) for parts in alike.values() if len(parts) >= _FEWEST]
    taken = {id(s) for repeated in found for part in repeated.kernels for s in part.body}
    rest = [s for s in kernel.body if id(s) not in taken]
    return [*found, _part(kernel, rest)] if rest else [*found]


def _joined(first: Repeated, second: Repeated) -> Repeated | None:
    """Both as one step, if they are alike and it does not matter which one runs first."""
    if _pattern(first.kernels[0]) != _pattern(second.kernels[0]):
        return None
    read, written = _touched(first)
    read_next, written_next = _touched(second)
    if written & (read_next | written_next) or read & written_next:
        return None
    return Repeated((*first.kernels, *second.kernels))


def _touched(step: Repeated) -> tuple[set[Var], set[Var]]:
    accesses = [s for kernel in step.kernels for s in kernel.accesses]
    return {s.buffer for s in accesses if isinstance(s, Load)}, {s.buffer for s in accesses if isinstance(s, Store)}


def _part(kernel: Kernel, body: Sequence[Statement]) -> Kernel:
    folds = any(isinstance(s, Fold) for s in body)
    return Kernel(kernel.domain, kernel.folded if folds else (), tuple(body))


def emit(
    b: Builder,
    step: Repeated,
    place: Callable[[Var], tuple[bool, int]],
    frame: Value,
    arena: Value,
    write: Callable[[Kernel, Mapping[Var, Value]], None],
) -> None:
    """A loop over kernels that are alike, with a table of where the buffers of each of them are.

    Args:
        b: Where to write it.
        step: The kernels.
        place: Whether a buffer is in the arena, and at which byte of it; or the place of its address in the frame.
        frame: The frame.
        arena: The arena.
        write: Writes the code of a kernel, for these addresses of its buffers.
    """
    alike: dict[tuple[bool, ...], list[tuple[Kernel, list[int]]]] = {}
    for kernel in step.kernels:
        places = [place(v) for v in _buffers(kernel)]
        alike.setdefault(tuple(inside for inside, _ in places), []).append((kernel, [at for _, at in places]))
    for insides, rows in alike.items():
        kernel = rows[0][0]
        numbers = [at for _, row in rows for at in row]
        table = b.module.table(f"places{len(b.module.globals)}", "i64", numbers)
        pointers = partial(_pointers, b, table, dict(zip(_buffers(kernel), insides, strict=True)), frame, arena)

        def run(i: Value, _: list[Value], kernel: Kernel = kernel, pointers: Pointers = pointers) -> Sequence[Value]:
            write(kernel, pointers(i))
            return ()

        b.loop(0, len(rows), 1, (), run)


@final
class Common:
    """Kernels of one module, each pattern of which is written at most twice.

    In a loop that was unrolled, or a network of equal layers, the same kernels come again. The first one stands where
    it is; the second one becomes a function, which all later ones call, unless it is as short as a call.
    """

    def __init__(self, module: Module, write: Callable[[Builder, Kernel, Mapping[Var, Value], Value], None]) -> None:
        self._module = module
        self._write = write
        # how many instructions the first one has, then the name of the function
        self._known: dict[Hashable, int | str] = {}

    def write(self, b: Builder, kernel: Kernel, pointers: Mapping[Var, Value], failed: Value) -> None:
        """Write the code of a kernel, or a call.

        Args:
            b: Where to write it.
            kernel: The kernel.
            pointers: The addresses of its buffers.
            failed: Where to note an error.
        """
        pattern = _pattern(kernel)
        known = self._known.get(pattern)
        if known is None or (isinstance(known, int) and known <= _SHORT):
            before = b.count
            self._write(b, kernel, pointers, failed)
            self._known[pattern] = b.count - before
            return
        if isinstance(known, int):
            known = self._known[pattern] = self._function(kernel)
        b.do(f"call void @{known}({', '.join(map(str, (*(pointers[v] for v in _buffers(kernel)), failed)))})")

    def _function(self, kernel: Kernel) -> str:
        name = f"kernel{len(self._module.functions)}"
        b = Builder(self._module)
        buffers = _buffers(kernel)
        arguments = [f"p{i}" for i in range(len(buffers) + 1)]
        *pointers, failed = [Value(f"%{argument}", PTR) for argument in arguments]
        with b.function(name, "internal void", [("ptr", argument) for argument in arguments]):
            self._write(b, kernel, dict(zip(buffers, pointers, strict=True)), failed)
            b.ret()
        return name


def _pointers(
    b: Builder, table: Value, inside: Mapping[Var, bool], frame: Value, arena: Value, i: Value
) -> Mapping[Var, Value]:
    """The addresses of the buffers in a row of the table."""
    row = b.offset(table, b.op("mul", i, Value(str(len(inside)), I64)), "i64")
    pointers = {}
    for k, v in enumerate(inside):
        at = b.load(I64, b.offset(row, k, "i64"), 8)
        pointers[v] = b.offset(arena, at, "i8") if inside[v] else b.load(PTR, b.offset(frame, at, "ptr"), 8)
    return pointers


def _buffers(kernel: Kernel) -> list[Var]:
    """In the order in which they occur, in which those of kernels that are alike correspond."""
    return list(dict.fromkeys(s.buffer for s in kernel.accesses))


def _independent(body: Sequence[Statement]) -> list[list[Statement]]:
    """The statements in groups that share no value and no buffer."""
    leader: dict[Any, Any] = {}

    def find(x: Any) -> Any:
        while (above := leader.setdefault(x, x)) is not x:
            leader[x] = x = leader[above]
        return x

    for s in body:
        leader[find(s)] = s
        for x in (*operands(s), result(s), s.buffer if isinstance(s, Load | Store) else None):
            if isinstance(x, Var):
                leader[find(x)] = find(s)
    groups: dict[Any, list[Statement]] = {}
    for s in body:
        groups.setdefault(find(s), []).append(s)
    return list(groups.values())


def _pattern(kernel: Kernel) -> Hashable:
    """All that the code of a kernel depends on, with values and buffers by their numbers."""
    numbers: dict[Var, int] = {}

    def read(x: Atom) -> Hashable:
        if isinstance(x, Literal):
            literal: Hashable = literal_key(x)
            return literal
        return numbers.setdefault(x, len(numbers)), x.shape, x.dtype, x.weak

    def access(s: Load | Store) -> Hashable:
        offsets = tuple((read(o.index), o.length, o.stride, o.clamped, o.size) for o in s.offsets)
        return read(s.buffer), s.view.strides, s.view.offset, offsets

    def key(s: Statement) -> Hashable:
        match s:
            case Load():
                return "load", read(s.out), access(s)
            case Compute():
                return "compute", read(s.out), parameters_key(s.primitive), tuple(map(read, s.inputs))
            case Fold():
                return "fold", read(s.out), s.how, read(s.x)
            case Store():
                return "store", read(s.x), access(s), s.combine

    pattern = kernel.domain, kernel.folded, tuple(map(key, kernel.body))
    try:
        hash(pattern)
    except TypeError:
        # a primitive that can't be compared is like no other
        return id(kernel)
    return pattern
