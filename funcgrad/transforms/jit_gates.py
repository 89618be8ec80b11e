"""Gates of jitted functions: calls that need no Python.

    f(x, {"w": w}) ──▶ gate 1 ──▶ gate 2 ──▶ ... ──▶ what Python does
                         │ fits
                         └──▶ program ──▶ result

A gate is machine code that takes the arguments of one way of calling the function, with the containers, types and
static values that one program is for. Where they are others it calls the next gate with them, and the last one calls
Python. It also counts its calls, and notes when it was used.
"""

from __future__ import annotations

import dataclasses
import enum
import threading
from array import array
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, final

from funcgrad import tree as pytree
from funcgrad.core import config
from funcgrad.transforms.signature import Parameter

if TYPE_CHECKING:
    from funcgrad.compiler.native.dispatch.gates import Building, Gate, Reading
    from funcgrad.transforms.jit_cache import Program

Form: TypeAlias = tuple[int | str, ...]
"""How a call is written: the number of arguments by position, and the names of the others in their order."""
Guards: TypeAlias = Sequence[tuple[ContextVar[Any], Any]]

# A call passes so many gates before Python looks: each takes some 30 ns, and Python 2 µs.
_MOST = 8
# what is asked for so often and is not among them comes to the front
_PATIENCE = 16


class CallOf(NamedTuple):
    """A call of a jitted function.

    Attributes:
        args: Its arguments by position.
        kwargs: Those by name.
        static: The static parameters.
        structure: The structure of the arguments that are not static.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    static: Sequence[Parameter]
    structure: pytree.Structure


@final
class Gates:
    """Those gates of one jitted function that a call of it tries, one after the other.

    Args:
        function: Its `__call__` is set to the first.
        python: What is called after the last.
        guards: Context variables, and the values that they have where calls may go through gates.

    Attributes:
        clock: How many calls went through gates, and how many found a program in another way.
    """

    def __init__(self, function: Any, python: Callable[..., Any], guards: Guards) -> None:
        self._function = function
        self._python = python
        self._guards = guards
        self._lock = threading.RLock()
        self._order: list[Gate] = []
        self._asked = 0
        self.clock = array("q", (0, 0))
        function.__call__ = python

    def open(self, program: Program, form: Form, call: CallOf) -> None:
        """Let calls like this one go through a gate from now on, if they can."""
        gate = self._made(program, call)
        with self._lock:
            if form not in program.gates and not program.forgotten:
                program.gates[form] = gate
                if gate is not None:
                    self._set([gate, *self._order])

    def _made(self, program: Program, call: CallOf) -> Gate | None:
        """A gate for calls like this one; None if Python is needed for such calls."""
        executable = program.compile()
        native = executable.native
        # whether an argument may be overwritten, Python finds out
        if native is None or executable.reused or (config.CHECK and not config.CHECK_FIRST):
            return None
        from funcgrad.compiler.native.dispatch import gates  # heavy: imported when first needed

        if not gates.can_be_made():
            return None
        try:
            reading = _reading(call, program.constants)
        except _NotPlainError:
            return None
        building = _building(program.structure)
        return gates.make_gate(
            native.program, native.library, reading, building, self._guards, self.clock, self._python
        )

    def ask(self, program: Program, form: Form) -> None:
        """A call has come to Python though there may be a gate for it."""
        gate = program.gates[form]
        if gate is None or gate in self._order:
            return
        with self._lock:
            self._asked += 1
            if self._asked % _PATIENCE == 0 and gate not in self._order and not program.forgotten:
                self._set([gate, *self._order])

    def forget(self, programs: Iterable[Program]) -> None:
        """Take out the gates of programs, which will not be asked for again."""
        with self._lock:
            gone: set[Gate | None] = set()
            for program in programs:
                program.forgotten = True
                gone.update(program.gates.values())
            self._set([gate for gate in self._order if gate not in gone])

    def clear(self) -> None:
        """Take all out, and count anew."""
        with self._lock:
            self.clock = array("q", (0, 0))
            self._set([])

    def _set(self, order: Sequence[Gate]) -> None:
        self._order = list(order[:_MOST])
        following = self._python
        # from the back: at no moment does the way lead in a circle, from wherever a thread is at
        for gate in reversed(self._order):
            gate.divert(following)
            following = gate.call
        self._function.__call__ = following


class _NotPlainError(Exception):
    """Something in the arguments has to be looked at by Python."""


@final
class _Reader:
    """Writes down how arguments are taken apart."""

    def __init__(self, reading: Reading, leaf: int) -> None:
        from funcgrad.compiler.native.dispatch import layout

        self._layout = layout
        self._reading = reading
        self._leaf = leaf

    def look(self, spec: pytree.Structure, x: Any, kind: int, source: int = 0, thing: Any = None, i: int = 0) -> None:
        """One step finds a node of the arguments, others what is in there; `x` is what was there this time."""
        if spec.is_leaf():
            self._reading.find(kind, source, thing, i, self._leaf)
            self._leaf += 1
            return
        slot, cls = self._reading.find(kind, source, thing, i), x.__class__
        if spec.kind.name == "CUSTOM":
            self._look_at_fields(slot, spec.children(), x)
        elif x is None:
            self._reading.test(self._layout.SAME, slot, None)
        elif cls is dict:
            self._look_at_values(slot, spec, x)
        elif cls is list or issubclass(cls, tuple):
            self._look_at_items(slot, spec.children(), x)
        else:
            raise _NotPlainError

    def _look_at_values(self, slot: int, spec: pytree.Structure, x: dict[Any, Any]) -> None:
        self._reading.test(self._layout.IS_DICT, slot, None, len(x))
        number, self._reading.dicts = self._reading.dicts, self._reading.dicts + 1
        first, children = {}, {}
        for key, child in zip(spec.entries(), spec.children(), strict=True):
            # other keys may have a comparison of their own
            if key.__class__ not in (str, int):
                raise _NotPlainError
            first[key], children[key] = self._leaf, child
            self._leaf += child.num_leaves
        after = self._leaf
        # the leaves are in the order of the sorted keys, but they are found in that of the dict
        for key, value in x.items():
            self._leaf = first[key]
            self.look(children[key], value, self._layout.KEY, slot, key, number)
        self._leaf = after

    def _look_at_items(self, slot: int, children: Sequence[pytree.Structure], x: Sequence[Any]) -> None:
        at, listed = self._layout, x.__class__ is list
        self._reading.test(at.IS_LIST if listed else at.IS_TUPLE, slot, x.__class__, len(children))
        for i, child in enumerate(children):
            self.look(child, x[i], at.ENTRY if listed else at.ITEM, slot, None, i)

    def _look_at_fields(self, slot: int, children: Sequence[pytree.Structure], x: Any) -> None:
        at = self._layout
        fields = pytree.fields_of(x.__class__)
        if fields is None:
            raise _NotPlainError
        self._reading.test(at.IS_INSTANCE, slot, x.__class__)
        for name, child in zip(fields[0], children, strict=True):
            self.look(child, getattr(x, name), at.ATTRIBUTE, slot, name)
        for name in fields[1]:
            self.compare(getattr(x, name), at.ATTRIBUTE, slot, name)

    def compare(self, x: Any, kind: int, source: int = 0, thing: Any = None, i: int = 0) -> None:
        """One step finds a static value, another one compares it with what it is this time."""
        slot = self._reading.find(kind, source, thing, i)
        # of what equal values can be told by their being one object, others may be equal, too: then Python looks
        by_value = x.__class__ in (int, str, bytes) or (x.__class__ is float and x != 0)
        if not (by_value or _is_one_value(x)):
            raise _NotPlainError
        self._reading.test(self._layout.EQUAL if by_value else self._layout.SAME, slot, x)


def _is_one_value(x: Any) -> bool:
    """True if `x` can't be another value later, as far as equality is concerned."""
    cls = x.__class__
    if cls in (bool, type(None), int, str, bytes, float, complex) or isinstance(x, enum.Enum):
        return True
    if cls in (tuple, frozenset):
        return all(map(_is_one_value, x))
    if dataclasses.is_dataclass(cls) and getattr(cls, "__dataclass_params__").frozen:  # noqa: B009  # not in its type
        return all(_is_one_value(getattr(x, field.name)) for field in dataclasses.fields(x))
    return cls.__eq__ is object.__eq__ and cls.__hash__ is object.__hash__


def _reading(call: CallOf, constants: Sequence[Any]) -> Reading:
    from funcgrad.compiler.native.dispatch import layout
    from funcgrad.compiler.native.dispatch.gates import Reading

    leaves = len(constants) + call.structure.num_leaves
    reading = Reading(leaves, len(call.args), tuple(call.kwargs))
    for i, x in enumerate(constants):
        reading.find(layout.HELD, 0, x, 0, i)
    reader = _Reader(reading, len(constants))
    index = {name: len(call.args) + k for k, name in enumerate(call.kwargs)}
    given = dict(call.kwargs)
    static = set()
    for p in call.static:
        if p.position is not None and p.position < len(call.args):
            reader.compare(call.args[p.position], layout.GIVEN, i=p.position)
            static.add(p.position)
        elif p.name in given:
            reader.compare(given.pop(p.name), layout.GIVEN, i=index[p.name])
    by_position, by_name = call.structure.children()
    dynamic = [i for i in range(len(call.args)) if i not in static]
    for i, child in zip(dynamic, by_position.children(), strict=True):
        reader.look(child, call.args[i], layout.GIVEN, i=i)
    for name, child in zip(by_name.entries(), by_name.children(), strict=True):
        reader.look(child, given[name], layout.GIVEN, i=index[name])
    return reading


def _building(structure: pytree.Structure) -> Building:
    from funcgrad.compiler.native.dispatch.gates import Building

    building = Building(lone=structure.is_leaf())
    flat = structure.type is tuple and structure.num_leaves == structure.num_children
    if building.lone or flat:
        return building
    if _is_made_of_plain_containers(structure):
        _Builder(building).build(structure.unflatten(range(structure.num_leaves)))
    else:
        building.finish = structure.unflatten
    return building


def _is_made_of_plain_containers(structure: pytree.Structure) -> bool:
    plain = structure.is_leaf() or structure.type in (dict, list, tuple, type(None))
    return plain and all(map(_is_made_of_plain_containers, structure.children()))


@final
class _Builder:
    """Writes down how the result is put together: `tree` has the numbers of the program's results for leaves."""

    def __init__(self, building: Building) -> None:
        from funcgrad.compiler.native.dispatch import layout

        self._layout = layout
        self._parts = building.parts

    def build(self, tree: Any) -> None:
        """The parts that all of it is made of."""
        self._add(tree, self._layout.INTO_NOTHING)

    def _add(self, tree: Any, into: int, parent: int = 0, place: Any = 0) -> None:
        """The parts that make this node and put it into its parent, and those that fill it."""
        at, slot = self._layout, len(self._parts)
        known = {dict: at.NEW_DICT, list: at.NEW_LIST, tuple: at.NEW_TUPLE, int: at.LEAF}
        kind = known.get(tree.__class__, at.KNOWN)
        size = tree if kind == at.LEAF else 0 if tree is None else len(tree)
        thing = dict.fromkeys(tree) if kind == at.NEW_DICT else None
        self._parts.append((kind, thing, size, into, parent, place, slot))
        if tree.__class__ is dict:
            for key, child in tree.items():
                self._add(child, at.INTO_DICT, slot, key)
        elif kind != at.LEAF and tree is not None:
            inside = at.INTO_LIST if kind == at.NEW_LIST else at.INTO_TUPLE
            for i, child in enumerate(tree):
                self._add(child, inside, slot, i)
