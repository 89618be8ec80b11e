"""The machine code between a call in Python and the entry of a program: one function, which serves all gates.

A gate takes the arguments of a jitted function as they are written in the call: by position and by name, static ones
among them, arrays in nested containers. It finds the leaves, hands them to the entry of one program, and puts the
results into the containers that the function returns.

    args ──steps──▶ slots: leaves, containers ──entry──▶ results ──parts──▶ result
      └─ one does not fit: the next gate, or Python, is called with the same arguments

How arguments are taken apart is data, as in the entry: a list of steps, each of which looks at one object and may fill
one slot. Each slot holds a reference, since another thread may change a container while the program runs.
"""

from __future__ import annotations

from funcgrad.compiler.native.dispatch import layout
from funcgrad.compiler.native.dispatch.entry import ON_STACK, write_entry
from funcgrad.compiler.native.dispatch.layout import ARRAY_FIELDS, GATE, PART, STEP, TYPE_OF_OBJECT
from funcgrad.compiler.native.dispatch.writer import NULL, Writer, integer
from funcgrad.compiler.native.machine.builder import I32, I64, PTR, Builder, Module, Type, Value

_CONTEXT, _BLOCK, _ARGS, _NAMES = (Value(f"%{name}", PTR) for name in ("context", "block", "args", "names"))
_NARGS, _OUT = Value("%nargs", I64), Value("%out", PTR)
_ON_STACK = ON_STACK // 8
_KINDS = {
    "given": layout.GIVEN, "held": layout.HELD, "dict": layout.IS_DICT, "tuple": layout.IS_TUPLE,
    "list": layout.IS_LIST, "instance": layout.IS_INSTANCE, "key": layout.KEY, "item": layout.ITEM,
    "entry": layout.ENTRY, "attribute": layout.ATTRIBUTE, "same": layout.SAME, "equal": layout.EQUAL,
}  # fmt: skip
_MAKES = {"new.tuple": layout.NEW_TUPLE, "new.list": layout.NEW_LIST, "new.dict": layout.NEW_DICT, "leaf": layout.LEAF}
_PUTS = {"into.tuple": layout.INTO_TUPLE, "into.list": layout.INTO_LIST, "into.dict": layout.INTO_DICT}


def gate_text() -> str:
    """The module that defines `@gate`."""
    module = Module()
    write_entry(module, inside=True)
    for write in (_drop, _take_apart, _put_together, _gate):
        write(Writer(Builder(module)))
    return module.text()


def _word(w: Writer, name: str, type: Type = I64) -> Value:
    return w.word(GATE, _CONTEXT, name, type)


def _switch(w: Writer, kind: Value, cases: dict[str, int], otherwise: str, prefix: str) -> None:
    listed = " ".join(f"i64 {n}, label %{prefix}{name}" for name, n in cases.items())
    w.b.do(f"switch {kind}, label %{otherwise} [ {listed} ]")


def _drop(w: Writer) -> None:
    """Let go of what is in the slots."""
    b = w.b
    with b.function("drop", "void", [("ptr", "table"), ("ptr", "block"), ("i64", "count")], "internal"):
        w.b.jump("slot")
        with w.each("slot", Value("%count", I64), "entry", "dropped") as i:
            w.do("Py_DecRef", b.load(PTR, w.entry_of(_BLOCK, i), 8))
            w.b.jump("slot.next")
        w.b.label("dropped")
        b.ret()


def _take_apart(w: Writer) -> None:
    """Run the steps; false if one finds what is not expected."""
    b = w.b
    arguments = [("ptr", "context"), ("ptr", "table"), ("ptr", "block"), ("ptr", "args")]
    with b.function("take_apart", "i1", arguments, "internal"):
        b.do("%found.key = alloca ptr, align 8")
        b.do("%found.value = alloca ptr, align 8")
        read = w.entry_of(w.entry_of(_BLOCK, _word(w, "slots")), _word(w, "results"))
        steps, count = _word(w, "steps", PTR), _word(w, "reads")
        w.b.jump("step")
        with w.each("step", count, "entry", "all") as i:
            step = w.entry_of(steps, i, len(STEP))
            _switch(w, w.word(STEP, step, "kind"), _KINDS, "misfit", "is.")
            _find(w, step, read)
            _hold(w, step)
            _compare(w, step)
        w.b.label("all")
        b.ret(Value("true", Type("i1")))
        w.b.label("failed")
        w.do("PyErr_Clear")
        w.b.jump("misfit")
        w.b.label("misfit")
        b.ret(Value("false", Type("i1")))


def _source(w: Writer, step: Value) -> Value:
    return w.b.load(PTR, w.entry_of(_BLOCK, w.word(STEP, step, "source")), 8)


def _find(w: Writer, step: Value, read: Value) -> None:
    """The steps that find an object, and go on at `found` with one that somebody else holds, or at `fresh`."""
    b = w.b
    w.b.label("is.given")
    given = b.load(PTR, w.entry_of(_ARGS, w.word(STEP, step, "index")), 8)
    w.b.jump("found")
    w.b.label("is.held")
    held = w.word(STEP, step, "thing", PTR)
    w.b.jump("found")
    w.b.label("is.key")
    # dicts mostly have their keys in the same order in each call: then there is nothing to look up
    there, known = Value("%found.key", PTR), w.word(STEP, step, "thing", PTR)
    place = w.entry_of(read, w.word(STEP, step, "index"))
    more = w.call("PyDict_Next", I32, _source(w, step), place, there, Value("%found.value", PTR))
    w.b.split(b.compare("ne", more, integer(0, I32)), "next", "lookup")
    w.b.label("next")
    following = b.load(PTR, Value("%found.value", PTR), 8)
    w.b.split(b.compare("eq", b.load(PTR, there, 8), known), "found", "lookup")
    w.b.label("lookup")
    value = w.call("PyDict_GetItemWithError", PTR, _source(w, step), known)
    w.b.split(w.b.is_null(value), "failed", "found")
    w.b.label("is.item")
    item = w.call("PyTuple_GetItem", PTR, _source(w, step), w.word(STEP, step, "index"))
    w.b.split(w.b.is_null(item), "failed", "found")
    w.b.label("is.entry")
    entry = w.call("PyList_GetItem", PTR, _source(w, step), w.word(STEP, step, "index"))
    w.b.split(w.b.is_null(entry), "failed", "found")
    w.b.label("is.attribute")
    attribute = w.call("PyObject_GetAttr", PTR, _source(w, step), w.word(STEP, step, "thing", PTR))
    w.b.split(w.b.is_null(attribute), "failed", "fresh")
    w.b.label("found")
    places = {
        "is.given": given,
        "is.held": held,
        "next": following,
        "lookup": value,
        "is.item": item,
        "is.entry": entry,
    }
    found = w.phi(PTR, **places)
    w.do("Py_IncRef", found)
    b.do("br label %hold")
    w.b.label("fresh")
    b.do("br label %hold")
    w.b.label("hold")
    b.do(f"%holding = phi ptr [ {found.text}, %found ], [ {attribute.text}, %fresh ]")


def _hold(w: Writer, step: Value) -> None:
    w.b.store(Value("%holding", PTR), w.entry_of(_BLOCK, w.word(STEP, step, "target")), 8)
    w.b.jump("step.next")


def _compare(w: Writer, step: Value) -> None:
    """The steps that ask what an object is."""
    b = w.b
    sizes = {"dict": "PyDict_Size", "tuple": "PyTuple_Size", "list": "PyList_Size"}
    for name, size in sizes.items():
        w.b.label(f"is.{name}")
        x = _source(w, step)
        expected = w.word(STEP, step, "thing", PTR) if name == "tuple" else w.known(name)
        w.b.split(b.compare("eq", w.at(x, TYPE_OF_OBJECT, PTR), expected), f"{name}.sized", "misfit")
        w.b.label(f"{name}.sized")
        as_large = b.compare("eq", w.call(size, I64, x), w.word(STEP, step, "index"))
        w.b.split(as_large, "step.next", "misfit")
    w.b.label("is.instance")
    is_one = b.compare("eq", w.at(_source(w, step), TYPE_OF_OBJECT, PTR), w.word(STEP, step, "thing", PTR))
    w.b.split(is_one, "step.next", "misfit")
    w.b.label("is.same")
    w.b.split(b.compare("eq", _source(w, step), w.word(STEP, step, "thing", PTR)), "step.next", "misfit")
    w.b.label("is.equal")
    x, thing = _source(w, step), w.word(STEP, step, "thing", PTR)
    w.b.split(b.compare("eq", x, thing), "step.next", "other")
    w.b.label("other")
    alike = b.compare("eq", w.at(x, TYPE_OF_OBJECT, PTR), w.at(thing, TYPE_OF_OBJECT, PTR))
    w.b.split(alike, "alike", "misfit")
    w.b.label("alike")
    answer = w.call("PyObject_RichCompareBool", I32, x, thing, integer(2, I32))
    w.b.split(b.compare("eq", answer, integer(1, I32)), "step.next", "failed")


def _put_together(w: Writer) -> None:
    """The result of the function, of those of the program, which are given away; null if there is no memory."""
    b = w.b
    arguments = [("ptr", "context"), ("ptr", "table"), ("ptr", "block"), ("ptr", "out")]
    with b.function("put_together", "ptr", arguments, "internal"):
        parts, count = _word(w, "parts", PTR), _word(w, "builds")
        b.store(NULL, _BLOCK, 8)
        w.b.split(b.compare("eq", count, integer(0)), "flat", "nested")
        _pack(w)
        w.b.label("nested")
        w.b.jump("part")
        with w.each("part", count, "nested", "built") as i:
            part = w.entry_of(parts, i, len(PART))
            made = _make(w, part)
            _put(w, part, made)
        w.b.label("broken")
        w.do("Py_DecRef", b.load(PTR, _BLOCK, 8))
        # those that are not in a container yet
        b.do(f"call void @drop(ptr %table, ptr %out, {_word(w, 'results')})")
        b.ret(NULL)
        w.b.label("built")
        b.ret(b.load(PTR, _BLOCK, 8))


def _pack(w: Writer) -> None:
    """All results in one tuple."""
    b = w.b
    w.b.label("flat")
    results = _word(w, "results")
    packed = w.call("PyTuple_New", PTR, results)
    b.store(packed, _BLOCK, 8)
    w.b.split(w.b.is_null(packed), "broken", "fill")
    w.b.label("fill")
    w.b.jump("item")
    with w.each("item", results, "fill", "built") as i:
        w.call("PyTuple_SetItem", I32, packed, i, b.load(PTR, w.entry_of(_OUT, i), 8))
        w.b.jump("item.next")


def _make(w: Writer, part: Value) -> Value:
    b = w.b
    size = w.word(PART, part, "size")
    _switch(w, w.word(PART, part, "make"), _MAKES, "known", "")
    made = {}
    w.b.label("new.tuple")
    made["new.tuple"] = w.call("PyTuple_New", PTR, size)
    w.b.jump("made")
    w.b.label("new.list")
    made["new.list"] = w.call("PyList_New", PTR, size)
    w.b.jump("made")
    w.b.label("new.dict")
    # a copy has room for all, and need not grow
    made["new.dict"] = w.call("PyDict_Copy", PTR, w.word(PART, part, "thing", PTR))
    w.b.jump("made")
    w.b.label("leaf")
    made["leaf"] = b.load(PTR, w.entry_of(_OUT, size), 8)
    b.store(NULL, w.entry_of(_OUT, size), 8)
    w.b.jump("made")
    w.b.label("known")
    made["known"] = w.word(PART, part, "thing", PTR)
    w.do("Py_IncRef", made["known"])
    w.b.jump("made")
    w.b.label("made")
    new = w.phi(PTR, **made)
    w.b.split(w.b.is_null(new), "broken", "keep")
    w.b.label("keep")
    b.store(new, w.entry_of(_BLOCK, w.word(PART, part, "slot")), 8)
    return new


def _put(w: Writer, part: Value, made: Value) -> None:
    b = w.b
    parent = b.load(PTR, w.entry_of(_BLOCK, w.word(PART, part, "parent")), 8)
    place = w.word(PART, part, "place")
    _switch(w, w.word(PART, part, "into"), _PUTS, "part.next", "")
    for name, put in (("into.tuple", "PyTuple_SetItem"), ("into.list", "PyList_SetItem")):
        w.b.label(name)
        # takes over the reference, also where it fails
        status = w.call(put, I32, parent, place, made)
        w.b.split(b.compare("eq", status, integer(0, I32)), "part.next", "broken")
    w.b.label("into.dict")
    status = w.call("PyDict_SetItem", I32, parent, w.word(PART, part, "place", PTR), made)
    w.do("Py_DecRef", made)
    w.b.split(b.compare("eq", status, integer(0, I32)), "part.next", "broken")


def _gate(w: Writer) -> None:
    b = w.b
    with b.function("gate", "ptr", [("ptr", "self"), ("ptr", "args"), ("i64", "nargs"), ("ptr", "names")]):
        b.do(f"%local = alloca [{ON_STACK} x i8], align 8")
        b.do("%value = alloca ptr, align 8")
        b.do(f"%context = load ptr, {b.offset(Value('%self', PTR), ARRAY_FIELDS['data'], 'i8')}, align 8")
        b.do(f"%table = load ptr, {b.offset(_CONTEXT, GATE.index('table'), 'i64')}, align 8")
        _check_guards(w)
        _check_names(w)
        _open(w)
        _enter(w)
        _finish(w)
        _turn_away(w)


def _check_guards(w: Writer) -> None:
    """Nobody wants calls to be anything but ordinary here."""
    b = w.b
    guards, count = _word(w, "guards", PTR), _word(w, "guarded")
    w.b.jump("guard")
    with w.each("guard", count, "entry", "unwatched") as i:
        pair = w.entry_of(guards, i, 2)
        there = Value("%value", PTR)
        status = w.call("PyContextVar_Get", I32, b.load(PTR, pair, 8), NULL, there)
        w.b.split(b.compare("eq", status, integer(0, I32)), "guard.read", "guard.failed")
        w.b.label("guard.read")
        value = b.load(PTR, there, 8)
        w.do("Py_DecRef", value)
        expected = b.load(PTR, b.offset(pair, 1, "ptr"), 8)
        w.b.split(b.compare("eq", value, expected), "guard.next", "miss")
    w.b.label("guard.failed")
    w.do("PyErr_Clear")
    w.b.jump("miss")


def _check_names(w: Writer) -> None:
    """As many arguments by position, and the same by name: a name in a call is one object wherever it is written."""
    b = w.b
    w.b.label("unwatched")
    w.b.split(b.compare("eq", _NARGS, _word(w, "positional")), "positional", "miss")
    w.b.label("positional")
    w.b.split(w.b.is_null(_NAMES), "unnamed", "named")
    w.b.label("named")
    size = w.call("PyTuple_Size", I64, _NAMES)
    w.b.jump("unnamed")
    w.b.label("unnamed")
    count = w.phi(I64, positional=integer(0), named=size)
    expected = _word(w, "names", PTR)
    w.b.split(b.compare("eq", count, _word(w, "named")), "counted", "miss")
    w.b.label("counted")
    w.b.jump("name")
    with w.each("name", count, "counted", "open") as i:
        name = w.call("PyTuple_GetItem", PTR, _NAMES, i)
        w.b.split(b.compare("eq", name, b.load(PTR, w.entry_of(expected, i), 8)), "name.next", "miss")


def _open(w: Writer) -> None:
    """Slots, with nothing in them."""
    b = w.b
    w.b.label("open")
    count = _word(w, "words")
    size = b.op("mul", count, integer(8))
    w.b.split(b.compare("sle", count, integer(_ON_STACK)), "small", "large")
    w.b.label("small")
    w.b.jump("ready")
    w.b.label("large")
    new = w.call("PyMem_RawMalloc", PTR, size)
    w.b.split(w.b.is_null(new), "full", "ready")
    w.b.label("full")
    b.ret(w.call("PyErr_NoMemory", PTR))
    w.b.label("ready")
    b.do(f"%block = phi ptr [ %local, %small ], [ {new.text}, %large ]")
    b.module.declare("llvm.memset.p0.i64", "void", [PTR, Type("i8"), I64, Type("i1")])
    b.do(f"call void @llvm.memset.p0.i64({_BLOCK}, i8 0, {size}, i1 false)")
    fits = b.emit("call i1 @take_apart(ptr %context, ptr %table, ptr %block, ptr %args)", Type("i1"))
    w.b.split(fits, "enter", "misfit")


def _enter(w: Writer) -> None:
    b = w.b
    w.b.label("enter")
    program, leaves, slots = _word(w, "program", PTR), _word(w, "leaves"), _word(w, "slots")
    b.do(f"%out = getelementptr i64, {_BLOCK}, {slots}")
    ran = b.emit(f"call ptr @entry({program}, {_BLOCK}, {leaves}, ptr null, {_OUT})", PTR)
    b.do(f"call void @drop(ptr %table, ptr %block, {slots})")
    w.b.split(w.b.is_null(ran), "raised", "returned")
    w.b.label("raised")
    stopped = w.call("PyErr_ExceptionMatches", I32, w.known("StoppedError"))
    w.b.split(b.compare("ne", stopped, integer(0, I32)), "stopped", "leave")
    w.b.label("stopped")
    w.do("PyErr_Clear")
    w.b.jump("close")
    w.b.label("returned")
    w.b.split(b.compare("eq", ran, w.known("MISS")), "missed", "count")
    w.b.label("missed")
    w.do("Py_DecRef", ran)
    w.b.jump("close")


def _finish(w: Writer) -> None:
    b = w.b
    w.b.label("count")
    clock = _word(w, "clock", PTR)
    calls = b.op("add", b.load(I64, clock, 8), integer(1))
    b.store(calls, clock, 8)
    now = b.op("add", calls, b.load(I64, b.offset(clock, 1, "i64"), 8))
    b.store(now, b.offset(_CONTEXT, GATE.index("used"), "i64"), 8)
    w.b.split(b.compare("eq", _word(w, "lone"), integer(0)), "several", "lone")
    w.b.label("lone")
    only = b.load(PTR, _OUT, 8)
    w.b.jump("leave")
    w.b.label("several")
    built = b.emit("call ptr @put_together(ptr %context, ptr %table, ptr %block, ptr %out)", PTR)
    finish = _word(w, "finish", PTR)
    w.b.split(b.op("or", w.b.is_null(finish), w.b.is_null(built)), "leave", "ask")
    w.b.label("ask")
    b.store(built, Value("%value", PTR), 8)
    answer = w.call("PyObject_Vectorcall", PTR, finish, Value("%value", PTR), integer(1), NULL)
    w.do("Py_DecRef", built)
    w.b.jump("leave")
    w.b.label("leave")
    returned = w.phi(PTR, **{"raised": NULL, "lone": only, "several": built, "ask": answer})
    w.b.split(b.compare("eq", _BLOCK, Value("%local", PTR)), "done", "free")
    w.b.label("free")
    w.do("PyMem_RawFree", _BLOCK)
    w.b.jump("done")
    w.b.label("done")
    b.ret(returned)


def _turn_away(w: Writer) -> None:
    b = w.b
    w.b.label("misfit")
    b.do(f"call void @drop(ptr %table, ptr %block, {_word(w, 'slots')})")
    w.b.jump("close")
    w.b.label("close")
    w.b.split(b.compare("eq", _BLOCK, Value("%local", PTR)), "miss", "free.missed")
    w.b.label("free.missed")
    w.do("PyMem_RawFree", _BLOCK)
    w.b.jump("miss")
    w.b.label("miss")
    # held, because the gates may be put into another order meanwhile
    instead = _word(w, "miss", PTR)
    w.do("Py_IncRef", instead)
    passed = (_ARGS, _NARGS, _NAMES)
    other = w.call("PyObject_Vectorcall", PTR, instead, *passed)
    w.do("Py_DecRef", instead)
    b.ret(other)
