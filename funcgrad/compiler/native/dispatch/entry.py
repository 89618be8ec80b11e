"""The machine code between Python and a compiled program: one function, which serves all programs.

Python calls it as it calls any builtin, with an array of argument objects. It reads from a *context* what the program
expects, holds each argument to that, writes the addresses of the data into a *frame*, makes the arrays of the results,
runs the program on the frame, and returns the results.

    args ──check──▶ frame: inputs, outputs, arena, externals, error record ──main──▶ results
      └─ one does not fit: what the context says for that case is called instead

What a program expects is data, not code, so there is nothing to compile for a new signature.

The context is an array of 64-bit words (see `layout`). It is `self` of the builtin: the data of an array, whose other
attributes keep alive all that is pointed to.
"""

from __future__ import annotations

from funcgrad.compiler.native.dispatch.layout import (
    ALIGNMENT,
    ARRAY,
    ARRAY_FIELDS,
    CONTEXT,
    FLOAT,
    INPUT,
    INTEGER,
    NUMPY_SCALAR,
    OUTPUT,
    REUSED,
    TABLE,
    TYPE_OF_OBJECT,
    VALUE_OF_SCALAR,
)
from funcgrad.compiler.native.dispatch.writer import NULL, TABLE_AT, Writer, integer
from funcgrad.compiler.native.machine.builder import DOUBLE, I32, I64, PTR, Builder, Module, Value

# Blocks up to this size are on the stack. With all else there it is less than a page, so that the guard page behind the
# stack cannot be jumped over.
ON_STACK = 2048
# A block of memory that is no longer used is kept for the next call of any program, unless it is larger than this.
KEPT = 256 << 20
# In front of a block: the address that it was allocated at, and its size.
_HEADER = 64


def entry_text() -> str:
    """The module that defines `@entry`."""
    module = Module()
    write_entry(module)
    return module.text()


def write_entry(module: Module, *, inside: bool = False) -> None:
    """Write `@entry`.

    Args:
        module: Where to.
        inside: True if code of the module calls it: then it has one argument more, the place of as many pointers as
            there are results, where it leaves these. It returns what is not null, if nothing has failed.
    """
    for write in (_take, _give_back, _result, _raise):
        write(Writer(Builder(module)))
    _entry(Writer(Builder(module)), inside)


_CONTEXT, _BLOCK, _RECORD, _OBJECTS = (Value(f"%{name}", PTR) for name in ("context", "block", "record", "objects"))
_OUT = Value("%out", PTR)
_SIZE, _RESULTS = Value("%size", I64), Value("%results", I64)
_CALL = (Value("%args", PTR), Value("%nargs", I64), Value("%names", PTR))
_GIVE_BACK = "call void @give_back(ptr %table, ptr %block, i64 %size)"


def _take(w: Writer) -> None:
    """A block of at least `size` bytes: the given one on the stack, the spare one, or a new one; null if there is none.

    Memory that was just used is in the cache, and its pages are mapped.
    """
    b = w.b
    with b.function("take", "ptr", [("ptr", "table"), ("i64", "size"), ("ptr", "local")], "internal"):
        w.b.split(b.compare("sle", _SIZE, integer(ON_STACK)), "small", "large")
        w.b.label("small")
        b.ret(Value("%local", PTR))
        w.b.label("large")
        cell = b.offset(TABLE_AT, TABLE.index("spare"), "i64")
        spare = b.emit(f"atomicrmw xchg {cell}, ptr null acq_rel", PTR)
        w.b.split(w.b.is_null(spare), "new", "found")
        w.b.label("found")
        w.b.split(b.compare("sge", w.at(spare, 8 - _HEADER, I64), _SIZE), "enough", "short")
        w.b.label("enough")
        b.ret(spare)
        w.b.label("short")
        w.do("PyMem_RawFree", w.at(spare, -_HEADER, PTR))
        w.b.jump("new")
        w.b.label("new")
        raw = w.call("PyMem_RawMalloc", PTR, b.op("add", _SIZE, integer(_HEADER + ALIGNMENT)))
        w.b.split(w.b.is_null(raw), "none", "made")
        w.b.label("made")
        behind = b.offset(raw, _HEADER + ALIGNMENT - 1, "i8")
        block = b.emit(f"call ptr @llvm.ptrmask.p0.i64({behind}, i64 -{ALIGNMENT})", PTR)
        b.module.declare("llvm.ptrmask.p0.i64", PTR, [PTR, I64])
        b.store(raw, b.offset(block, -_HEADER, "i8"), 8)
        b.store(_SIZE, b.offset(block, 8 - _HEADER, "i8"), 8)
        b.ret(block)
        w.b.label("none")
        b.ret(NULL)


def _give_back(w: Writer) -> None:
    """A block is not needed any more."""
    b = w.b
    with b.function("give_back", "void", [("ptr", "table"), ("ptr", "block"), ("i64", "size")], "internal"):
        w.b.split(b.compare("sle", _SIZE, integer(ON_STACK)), "done", "large")
        w.b.label("large")
        huge = b.compare("sgt", w.at(_BLOCK, 8 - _HEADER, I64), integer(KEPT))
        w.b.split(huge, "free", "keep")
        w.b.label("keep")
        cell = b.offset(TABLE_AT, TABLE.index("spare"), "i64")
        other = b.emit(f"atomicrmw xchg {cell}, ptr %block acq_rel", PTR)
        w.b.split(w.b.is_null(other), "done", "free")
        w.b.label("free")
        extra = w.phi(PTR, large=_BLOCK, keep=other)
        w.do("PyMem_RawFree", w.at(extra, -_HEADER, PTR))
        w.b.jump("done")
        w.b.label("done")
        b.ret()


def _result(w: Writer) -> None:
    """The object for a result that is a number, from where the program left it; null if that fails."""
    b = w.b
    with b.function("result", "ptr", [("ptr", "table"), ("ptr", "made"), ("ptr", "slot")], "internal"):
        slot, made = Value("%slot", PTR), Value("%made", PTR)
        w.b.split(b.compare("eq", w.word(OUTPUT, made, "kind"), integer(NUMPY_SCALAR)), "numpy", "python")
        w.b.label("numpy")
        b.ret(w.call("PyArray_Scalar", PTR, slot, w.word(OUTPUT, made, "descriptor", PTR), NULL))
        w.b.label("python")
        w.b.split(b.compare("eq", w.word(OUTPUT, made, "kind"), integer(INTEGER)), "integer", "real")
        w.b.label("integer")
        b.ret(w.call("PyLong_FromLongLong", PTR, b.load(I64, slot, 8)))
        w.b.label("real")
        real = b.load(DOUBLE, slot, 8)
        w.b.split(b.compare("eq", w.word(OUTPUT, made, "kind"), integer(FLOAT)), "float", "complex")
        w.b.label("float")
        b.ret(w.call("PyFloat_FromDouble", PTR, real))
        w.b.label("complex")
        b.ret(w.call("PyComplex_FromDoubles", PTR, real, w.at(slot, 8, DOUBLE)))


def _raise(w: Writer) -> None:
    """Hand the four integers of an error record to the context's `fail`, and return what that returns."""
    b = w.b
    with b.function("raise", "ptr", [("ptr", "context"), ("ptr", "table"), ("ptr", "record")], "internal"):
        numbers = Value("%numbers", PTR)
        b.do("%numbers = alloca [4 x ptr], align 8")
        made = [w.call("PyLong_FromLongLong", PTR, w.at(_RECORD, 8 * k, I64)) for k in range(4)]
        missing = w.b.is_null(made[0])
        for k, x in enumerate(made):
            b.store(x, b.offset(numbers, k, "ptr"), 8)
            missing = b.op("or", missing, w.b.is_null(x)) if k else missing
        w.b.split(missing, "after", "ask")
        w.b.label("ask")
        fail = w.word(CONTEXT, _CONTEXT, "fail", PTR)
        answer = w.call("PyObject_Vectorcall", PTR, fail, numbers, integer(4), NULL)
        w.b.jump("after")
        w.b.label("after")
        returned = w.phi(PTR, entry=NULL, ask=answer)
        for x in made:
            w.do("Py_DecRef", x)
        b.ret(returned)


def _entry(w: Writer, inside: bool) -> None:
    b = w.b
    arguments = [("ptr", "self"), ("ptr", "args"), ("i64", "nargs"), ("ptr", "names")]
    arguments += [("ptr", "out")] * inside
    with b.function("entry", "ptr", arguments, "internal" if inside else ""):
        b.do(f"%local = alloca [{ON_STACK} x i8], align {ALIGNMENT}")
        b.do("%overflow = alloca i32, align 4")
        b.do(f"%context = load ptr, {b.offset(Value('%self', PTR), ARRAY_FIELDS['data'], 'i8')}, align 8")
        b.do(f"%table = load ptr, {b.offset(_CONTEXT, CONTEXT.index('table'), 'i64')}, align 8")
        b.do(f"%size = load i64, {b.offset(_CONTEXT, CONTEXT.index('size'), 'i64')}, align 8")
        count = w.word(CONTEXT, _CONTEXT, "arguments")
        positional = w.b.is_null(Value("%names", PTR))
        fits = b.op("and", positional, b.compare("eq", Value("%nargs", I64), count))
        w.b.split(fits, "begin", "miss")
        w.b.label("begin")
        b.do("%block = call ptr @take(ptr %table, i64 %size, ptr %local)")
        w.b.split(w.b.is_null(_BLOCK), "full", "bind")
        w.b.label("bind")
        bound = w.word(CONTEXT, _CONTEXT, "bound")
        inputs = b.offset(_BLOCK, bound, "ptr")
        outputs = b.offset(inputs, count, "ptr")
        _bind_constants(w, bound)
        _read_arguments(w, count, inputs)
        _make_results(w, outputs)
        _run(w)
        _return(w, inside)
        _leave(w)


def _bind_constants(w: Writer, bound: Value) -> None:
    b = w.b
    constants = w.word(CONTEXT, _CONTEXT, "constants", PTR)
    w.b.jump("constant")
    with w.each("constant", bound, "bind", "read") as i:
        b.store(b.load(PTR, w.entry_of(constants, i), 8), w.entry_of(_BLOCK, i), 8)
        w.b.jump("constant.next")


def _read_arguments(w: Writer, count: Value, frame: Value) -> None:
    """The address of each argument's data, into the frame."""
    b = w.b
    w.b.label("read")
    args, inputs = Value("%args", PTR), w.word(CONTEXT, _CONTEXT, "inputs", PTR)
    ndarray = w.known("ndarray")
    w.b.jump("argument")
    with w.each("argument", count, "read", "make") as i:
        x = b.load(PTR, w.entry_of(args, i), 8)
        expected = w.entry_of(inputs, i, len(INPUT))
        kind = w.at(x, TYPE_OF_OBJECT, PTR)
        w.b.split(b.compare("eq", kind, ndarray), "array", "scalar")
        data = _read_array(w, x, expected)
        there, slot, truth = _read_scalar(w, x, expected, kind)
        w.b.label("read.done")
        address = w.phi(PTR, **{"array.same": data, "scalar.there": there, "integer.fits": slot, "truth": truth})
        b.store(address, w.entry_of(frame, i), 8)
        w.b.jump("argument.next")


def _read_array(w: Writer, x: Value, expected: Value) -> Value:
    b = w.b
    w.b.label("array")
    flags, axes = w.word(INPUT, expected, "flags"), w.word(INPUT, expected, "axes")
    found = b.cast("zext", w.field(x, "flags", I32), "i64")
    descriptor = b.compare("eq", w.field(x, "descr"), w.word(INPUT, expected, "descriptor", PTR))
    laid_out = b.compare("eq", b.op("and", found, flags), flags)
    as_many = b.compare("eq", b.cast("zext", w.field(x, "nd", I32), "i64"), axes)
    w.b.split(b.op("and", b.op("and", descriptor, laid_out), as_many), "array.fits", "misfit")
    w.b.label("array.fits")
    lengths, shape = w.field(x, "dimensions"), w.word(INPUT, expected, "shape", PTR)
    w.b.jump("axis")
    with w.each("axis", axes, "array.fits", "array.same") as k:
        length, other = (b.load(I64, w.entry_of(base, k), 8) for base in (lengths, shape))
        w.b.split(b.compare("eq", length, other), "axis.next", "misfit")
    w.b.label("array.same")
    data = w.field(x, "data")
    w.b.jump("read.done")
    return data


def _read_scalar(w: Writer, x: Value, expected: Value, kind: Value) -> tuple[Value, Value, Value]:
    b = w.b
    w.b.label("scalar")
    slot = w.word(INPUT, expected, "slot")
    w.b.split(b.compare("eq", kind, w.word(INPUT, expected, "scalar", PTR)), "scalar.fits", "scalar.other")
    w.b.label("scalar.fits")
    w.b.split(b.compare("slt", slot, integer(0)), "scalar.there", "integer")
    w.b.label("scalar.there")
    there = b.offset(x, VALUE_OF_SCALAR, "i8")
    w.b.jump("read.done")
    w.b.label("integer")
    number = w.call("PyLong_AsLongLongAndOverflow", I64, x, Value("%overflow", PTR))
    overflow = b.load(I32, Value("%overflow", PTR), 4)
    w.b.split(b.compare("eq", overflow, integer(0, I32)), "integer.fits", "misfit")
    w.b.label("integer.fits")
    place = b.offset(_BLOCK, slot, "i8")
    b.store(number, place, 8)
    w.b.jump("read.done")
    w.b.label("scalar.other")
    is_bool = b.compare("eq", kind, w.known("bool"))
    wanted = b.compare("ne", w.word(INPUT, expected, "truth"), integer(0))
    w.b.split(b.op("and", is_bool, wanted), "truth", "misfit")
    w.b.label("truth")
    which = b.cast("zext", b.compare("eq", x, w.known("True")), "i64")
    truth = b.offset(w.known("truths"), which, "i8")
    w.b.jump("read.done")
    return there, place, truth


def _make_results(w: Writer, frame: Value) -> None:
    """An array for each result that is one, and where its data, or a number, goes."""
    b = w.b
    w.b.label("make")
    outputs = w.word(CONTEXT, _CONTEXT, "outputs", PTR)
    b.do(f"%objects = getelementptr i8, ptr %block, {w.word(CONTEXT, _CONTEXT, 'objects')}")
    b.do(f"%results = load i64, {b.offset(_CONTEXT, CONTEXT.index('results'), 'i64')}, align 8")
    w.b.jump("output")
    with w.each("output", _RESULTS, "make", "run") as i:
        made = w.entry_of(outputs, i, len(OUTPUT))
        kind = w.word(OUTPUT, made, "kind")
        slot = w.word(OUTPUT, made, "slot")
        w.b.split(b.compare("eq", kind, integer(ARRAY)), "new", "old")
        array, data = _new_array(w, made)
        w.b.label("old")
        w.b.split(b.compare("eq", kind, integer(REUSED)), "reused", "number")
        w.b.label("reused")
        given = b.load(PTR, w.entry_of(Value("%args", PTR), slot), 8)
        w.do("Py_IncRef", given)
        kept = w.field(given, "data")
        w.b.jump("output.done")
        w.b.label("number")
        place = b.offset(_BLOCK, slot, "i8")
        w.b.jump("output.done")
        w.b.label("output.done")
        thing = w.phi(PTR, **{"new.made": array, "reused": given, "number": NULL})
        address = w.phi(PTR, **{"new.made": data, "reused": kept, "number": place})
        b.store(thing, w.entry_of(_OBJECTS, i), 8)
        b.store(address, w.entry_of(frame, i), 8)
        w.b.jump("output.next")


def _new_array(w: Writer, made: Value) -> tuple[Value, Value]:
    b = w.b
    w.b.label("new")
    descriptor = w.word(OUTPUT, made, "descriptor", PTR)
    axes = b.cast("trunc", w.word(OUTPUT, made, "axes"), "i32")
    # the array takes over a reference to its descriptor, also where there will be no array
    w.do("Py_IncRef", descriptor)
    like = (w.known("ndarray"), descriptor, axes, w.word(OUTPUT, made, "shape", PTR))
    handler = w.word(OUTPUT, made, "handler", PTR)
    w.b.split(w.b.is_null(handler), "new.small", "new.large")
    w.b.label("new.small")
    small = w.call("PyArray_NewFromDescr", PTR, *like, NULL, NULL, integer(0, I32), NULL)
    w.b.jump("new.done")
    w.b.label("new.large")
    usual = w.call("PyDataMem_SetHandler", PTR, handler)
    w.b.split(w.b.is_null(usual), "new.refused", "new.handled")
    w.b.label("new.refused")
    w.do("Py_DecRef", descriptor)
    w.b.jump("new.failed")
    w.b.label("new.handled")
    large = w.call("PyArray_NewFromDescr", PTR, *like, NULL, NULL, integer(0, I32), NULL)
    replaced = w.call("PyDataMem_SetHandler", PTR, usual)
    w.do("Py_DecRef", usual)
    w.do("Py_DecRef", replaced)
    w.b.jump("new.done")
    w.b.label("new.done")
    array = w.phi(PTR, **{"new.small": small, "new.handled": large})
    w.b.split(w.b.is_null(array), "new.failed", "new.made")
    w.b.label("new.made")
    data = w.field(array, "data")
    w.b.jump("output.done")
    return array, data


def _run(w: Writer) -> None:
    """Run the program, without the lock of the interpreter if that takes long."""
    b = w.b
    w.b.label("run")
    places = b.offset(_BLOCK, w.word(CONTEXT, _CONTEXT, "places"), "i8")
    b.store(b.offset(_BLOCK, w.word(CONTEXT, _CONTEXT, "arena"), "i8"), places, 8)
    b.store(w.word(CONTEXT, _CONTEXT, "externals", PTR), b.offset(places, 1, "ptr"), 8)
    b.do(f"%record = getelementptr i8, ptr %block, {w.word(CONTEXT, _CONTEXT, 'record')}")
    b.store(_RECORD, b.offset(places, 2, "ptr"), 8)
    for k in range(4):
        b.store(integer(0), b.offset(_RECORD, k, "i64"), 8)
    main = w.word(CONTEXT, _CONTEXT, "main", PTR)
    w.b.split(b.compare("ne", w.word(CONTEXT, _CONTEXT, "long"), integer(0)), "released", "held")
    w.b.label("released")
    state = w.call("PyEval_SaveThread", PTR)
    status = b.emit(f"call i32 {main.text}(ptr %block)", I32)
    w.do("PyEval_RestoreThread", state)
    w.b.jump("ran")
    w.b.label("held")
    other = b.emit(f"call i32 {main.text}(ptr %block)", I32)
    w.b.jump("ran")
    w.b.label("ran")
    w.b.split(b.compare("eq", w.phi(I32, released=status, held=other), integer(0, I32)), "finish", "failed")


def _return(w: Writer, inside: bool) -> None:
    """Hand out the results."""
    b = w.b
    w.b.label("finish")
    outputs = w.word(CONTEXT, _CONTEXT, "outputs", PTR)
    w.b.jump("result")
    with w.each("result", _RESULTS, "finish", "pack") as i:
        place = w.entry_of(_OBJECTS, i)
        w.b.split(w.b.is_null(b.load(PTR, place, 8)), "convert", "result.next")
        w.b.label("convert")
        made = w.entry_of(outputs, i, len(OUTPUT))
        slot = b.offset(_BLOCK, w.word(OUTPUT, made, "slot"), "i8")
        number = b.emit(f"call ptr @result(ptr %table, {made}, {slot})", PTR)
        b.store(number, place, 8)
        w.b.split(w.b.is_null(number), "undo.all", "result.next")
    w.b.label("pack")
    if inside:
        w.b.jump("handed")
        with w.each("handed", _RESULTS, "pack", "leave") as i:
            b.store(b.load(PTR, w.entry_of(_OBJECTS, i), 8), w.entry_of(_OUT, i), 8)
            w.b.jump("handed.next")
        w.b.label("leave")
        b.do(_GIVE_BACK)
        b.ret(_OUT)
        return
    w.b.split(b.compare("ne", w.word(CONTEXT, _CONTEXT, "lone"), integer(0)), "bare", "several")
    w.b.label("bare")
    only = b.load(PTR, _OBJECTS, 8)
    w.b.jump("leave")
    w.b.label("several")
    pair = w.call("PyTuple_New", PTR, _RESULTS)
    w.b.split(w.b.is_null(pair), "undo.all", "fill")
    w.b.label("fill")
    w.b.jump("item")
    with w.each("item", _RESULTS, "fill", "leave") as i:
        w.call("PyTuple_SetItem", I32, pair, i, b.load(PTR, w.entry_of(_OBJECTS, i), 8))
        w.b.jump("item.next")
    w.b.label("leave")
    returned = w.phi(PTR, bare=only, item=pair)
    b.do(_GIVE_BACK)
    b.ret(returned)


def _leave(w: Writer) -> None:
    """The ways out when something has failed, or did not fit."""
    b = w.b
    w.b.label("failed")
    answer = b.emit("call ptr @raise(ptr %context, ptr %table, ptr %record)", PTR)
    w.b.jump("undo")
    w.b.label("undo.all")
    w.b.jump("undo")
    w.b.label("new.failed")
    w.b.jump("undo")
    w.b.label("undo")
    i = Value("%output.i", I64)
    count = w.phi(I64, **{"failed": _RESULTS, "undo.all": _RESULTS, "new.failed": i})
    returned = w.phi(PTR, **{"failed": answer, "undo.all": NULL, "new.failed": NULL})
    w.b.jump("drop")
    with w.each("drop", count, "undo", "dropped") as k:
        w.do("Py_DecRef", b.load(PTR, w.entry_of(_OBJECTS, k), 8))
        w.b.jump("drop.next")
    w.b.label("dropped")
    b.do(_GIVE_BACK)
    b.ret(returned)
    w.b.label("full")
    b.ret(w.call("PyErr_NoMemory", PTR))
    w.b.label("misfit")
    b.do(_GIVE_BACK)
    w.b.jump("miss")
    w.b.label("miss")
    instead = w.word(CONTEXT, _CONTEXT, "miss", PTR)
    w.b.split(w.b.is_null(instead), "tell", "ask")
    w.b.label("tell")
    w.do("Py_IncRef", w.known("MISS"))
    b.ret(w.known("MISS"))
    w.b.label("ask")
    b.ret(w.call("PyObject_Vectorcall", PTR, instead, *_CALL))
