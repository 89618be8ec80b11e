"""From a compiled program to a builtin that takes the arguments of a call as they are written: the Python side of it.

Who knows what arguments look like writes the steps that take them apart, and the parts that the result is put together
from; see `layout` for what there is. `make_gate` turns them into a builtin.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from funcgrad.compiler.native.dispatch import layout, runtime


@final
@dataclass(slots=True)
class Reading:
    """How the arguments of a call are taken apart.

    The leaves, in their order, are found in the first slots.

    Attributes:
        leaves: How many there are.
        dicts: How many dicts.
        positional: How many arguments come by position.
        names: The names of the others, in their order.
    """

    leaves: int
    positional: int
    names: tuple[str, ...]
    steps: list[tuple[int, int, Any, int, int]] = field(default_factory=list)
    slots: int = 0
    dicts: int = 0

    def __post_init__(self) -> None:
        self.slots = self.leaves

    def find(self, kind: int, source: int = 0, thing: Any = None, index: int = 0, target: int | None = None) -> int:
        """A step that finds an object; returns its slot, which is a new one by default."""
        if target is None:
            target = self.slots
            self.slots += 1
        self.steps.append((kind, source, thing, index, target))
        return target

    def test(self, kind: int, source: int, thing: Any = None, index: int = 0) -> None:
        """A step that asks what the object in a slot is."""
        self.steps.append((kind, source, thing, index, 0))


@final
@dataclass(slots=True)
class Building:
    """How the result of a call is put together from what the program returns; without parts it is a tuple of that.

    Attributes:
        lone: True if it is the one result of the program.
        finish: Called with what was put together, if not None.
    """

    lone: bool = False
    finish: Callable[[Any], Any] | None = None
    parts: list[tuple[int, Any, int, int, int, Any, int]] = field(default_factory=list)


@final
class Gate:
    """A builtin that runs one program, and calls something else where arguments are not what the program takes.

    Attributes:
        call: The builtin.
        used: When it was used last, by the clock that it was made with.
    """

    __slots__ = ("_context", "_kept", "call")

    def __init__(self, context: runtime.Context, miss: Callable[..., Any], code: runtime.Code) -> None:
        self._context = context
        self._kept = context.kept
        self.divert(miss)
        self.call = code.builtin(context)

    @property
    def used(self) -> int:
        return int(self._context[layout.GATE.index("used")])

    def divert(self, miss: Callable[..., Any]) -> None:
        """Say what is called instead from now on."""
        self._context[layout.GATE.index("miss")] = id(miss)
        self._context.kept = (*self._kept, miss)


def can_be_made() -> bool:
    """True if there can be gates here."""
    return layout.layout_is_known()


def make_gate(
    program: runtime.Program,
    library: Any,
    reading: Reading,
    building: Building,
    guards: Iterable[tuple[ContextVar[Any], Any]],
    clock: array[int],
    miss: Callable[..., Any],
) -> Gate:
    """A gate in front of a program.

    Args:
        program: What is run.
        library: Its machine code.
        reading: How arguments are taken apart.
        building: How the result is put together.
        guards: Context variables, and the objects that they must be for the gate to be open.
        clock: Two counts. The first grows with each use of a gate; their sum is when it was used.
        miss: Called with the arguments if the gate is not open to them, and if the program has stopped.
    """
    code = runtime.gate_code(reading.leaves + len(program.outputs))
    inner = runtime.context_of(program, library, code, None)
    pairs = list(guards)
    tables = [
        [id(name) for name in reading.names],
        [id(x) for pair in pairs for x in pair],
        [word for kind, source, thing, *rest in reading.steps for word in (kind, source, id(thing), *rest)],
        [word for part in building.parts for word in _part_row(*part)],
    ]
    sizes = [len(layout.GATE), *map(len, tables)]
    context = np.zeros(sum(sizes), np.int64).view(runtime.Context)
    starts = np.cumsum([0, *sizes]).tolist()
    names, guarded, steps, parts = (context.ctypes.data + 8 * start for start in starts[1:5])
    slots, results = max(reading.slots, len(building.parts)), len(program.outputs)
    words = {
        "program": id(inner), "positional": reading.positional, "named": len(reading.names), "names": names,
        "guards": guarded, "guarded": len(pairs), "steps": steps, "reads": len(reading.steps),
        "leaves": reading.leaves, "slots": slots, "results": results, "words": slots + results + reading.dicts,
        "parts": parts, "builds": len(building.parts), "lone": building.lone,
        "finish": 0 if building.finish is None else id(building.finish), "clock": clock.buffer_info()[0],
        "used": sum(clock), "miss": 0, "table": code.table.ctypes.data,
    }  # fmt: skip
    context[: len(layout.GATE)] = [words[name] for name in layout.GATE]
    for start, row in zip(starts[1:], tables, strict=False):
        context[start : start + len(row)] = row
    context.kept = (inner, clock, pairs, reading, building)
    return Gate(context, miss, code)


def _part_row(make: int, thing: Any, size: int, into: int, parent: int, place: Any, slot: int) -> list[int]:
    where = id(place) if into == layout.INTO_DICT else place
    return [make, id(thing), size, into, parent, where, slot]
