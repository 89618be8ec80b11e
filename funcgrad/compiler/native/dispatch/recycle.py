"""The memory of large results: it is used again for later ones when the arrays are gone.

Memory that is new to a process costs more than what is written to it: the system clears each page when it is first
touched. So results from some size on are allocated by a handler of NumPy's own kind (NEP 49), which keeps the blocks
that it gets back, up to a limit, and hands them out again. They begin at whole lines of the cache, so that code may
write whole vectors past it.

Each block has a header with the address that it was allocated at, and its size. Slots for free blocks are exchanged
atomically, so any thread may allocate and free.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any, Final, final

from funcgrad.compiler.native.dispatch.layout import ALIGNMENT
from funcgrad.compiler.native.machine.builder import I1, I32, I64, PTR, Builder, Module, Type, Value

SMALLEST: Final = 256 << 10
"""Results of so many bytes are allocated here."""

# bytes that are kept, and of blocks that the system should give large pages for
_KEPT, _HUGE = 256 << 20, 4 << 20
_SLOTS = 16
# where things are in the memory of the handler, in words
_HELD, _TURN, _MALLOC, _FREE, _ADVISE = range(5)
_FIRST = 8
# MADV_HUGEPAGE
_LARGE_PAGES = 14
_PAGE = 4096
# PyDataMem_Handler: where the version and the allocator stand behind the name
_VERSION, _ALLOCATOR, _BYTES = 127, 128, 168
_FUNCTIONS = ("allocate", "allocate_zeros", "reallocate", "release", "drop")


@cache
def handler() -> Any:
    """The handler, in the capsule that NumPy takes; it lives as long as the process, as its arrays may."""
    from funcgrad.compiler.native.machine import llvm  # heavy: imported when first needed

    memory = (ctypes.c_int64 * (_FIRST + _SLOTS)).from_address(_forever(8 * (_FIRST + _SLOTS)))
    api = ctypes.pythonapi
    memory[_MALLOC], memory[_FREE] = (_address(api, name) for name in ("PyMem_RawMalloc", "PyMem_RawFree"))
    if sys.platform == "linux":
        memory[_ADVISE] = _address(ctypes.CDLL(None), "madvise")
    library = llvm.load_text(recycle_text(), "functions")
    functions = list((ctypes.c_int64 * len(_FUNCTIONS)).from_address(library.address))
    drop = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(functions.pop())
    _made.append((library, memory, drop))
    record = _forever(_BYTES)
    ctypes.memmove(record, b"funcgrad", 9)
    ctypes.c_uint8.from_address(record + _VERSION).value = 1
    (ctypes.c_int64 * 5).from_address(record + _ALLOCATOR)[:] = [ctypes.addressof(memory), *functions]
    new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    return new(("PyCapsule_New", api))(record, _NAME, None)


# the capsule points to its name
_NAME: Final = b"mem_handler"
# the code, which stays as long as the process, the memory of the handler, and a function
_made: list[tuple[Any, Any, Any]] = []


def forget() -> None:
    """Return to the system what is kept."""
    for _, memory, drop in _made:
        drop(ctypes.addressof(memory))


def held() -> int:
    """How many bytes are kept for later results."""
    return sum(memory[_HELD] for _, memory, _ in _made)


def _address(library: Any, name: str) -> int:
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0


def _forever(size: int) -> int:
    """Memory that is never freed: arrays may be when the interpreter is long gone."""
    allocate = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)
    address: int | None = allocate(("PyMem_RawCalloc", ctypes.pythonapi))(size, 1)
    if not address:
        raise MemoryError
    return address


# ── the code


def recycle_text() -> str:
    """The module that defines `@functions`, a table of functions."""
    module = Module()
    for write in (_obtain, _discard, _allocate, _allocate_zeros, _reallocate, _release, _drop):
        write(_Writer(Builder(module)))
    entries = ", ".join(f"ptr @{name}" for name in _FUNCTIONS)
    module.globals.append(f"@functions = constant [{len(_FUNCTIONS)} x ptr] [{entries}]")
    return module.text()


_MEMORY, _BLOCK, _SIZE = Value("%memory", PTR), Value("%block", PTR), Value("%size", I64)
_NULL, _ZERO, _ONE = Value("null", PTR), Value("0", I64), Value("1", I64)


@final
class _Writer:
    """A builder that knows the memory of the handler, and names the places that it jumps to."""

    def __init__(self, b: Builder) -> None:
        self.b = b

    def at(self, place: int) -> Value:
        """The address of a word."""
        return self.b.offset(_MEMORY, place, "i64")

    def change(self, how: str, place: int, x: Value) -> Value:
        """Combine a word with a value in one go; what it was."""
        return self.b.emit(f"atomicrmw {how} {self.at(place)}, {x} seq_cst", I64)

    def slot(self, i: Value) -> Value:
        """The address of a slot."""
        return self.b.offset(self.at(_FIRST), i, "i64")

    def taken(self, slot: Value, new: Value = _NULL) -> Value:
        """What was in a slot."""
        return self.b.emit(f"atomicrmw xchg {slot}, {new} seq_cst", PTR)

    def placed(self, slot: Value, block: Value) -> Value:
        """Whether a block could be put into a slot, which was empty."""
        pair = self.b.emit(f"cmpxchg {slot}, {_NULL}, {block} seq_cst seq_cst", Type("{ ptr, i1 }"))
        return self.b.emit(f"extractvalue {pair}, 1", I1)

    def header(self, block: Value, word: int, type: Type = I64) -> Value:
        """A word in front of a block: the address that it was allocated at, and its size."""
        return self.b.load(type, self.b.offset(block, word * 8 - ALIGNMENT, "i8"), 8)

    def system(self, place: int) -> str:
        """A function of the system."""
        return self.b.load(PTR, self.at(place), 8).text


def _obtain(w: _Writer) -> None:
    """A block from the system; null if there is none."""
    b = w.b
    with b.function("obtain", "ptr", [("ptr", "memory"), ("i64", "size")], "internal"):
        room = b.op("add", _SIZE, Value(str(2 * ALIGNMENT), I64))
        raw = b.emit(f"call ptr {w.system(_MALLOC)}({room})", PTR)
        w.b.split(w.b.is_null(raw), "none", "made")
        w.b.label("made")
        behind = b.offset(raw, 2 * ALIGNMENT - 1, "i8")
        b.module.declare("llvm.ptrmask.p0.i64", PTR, [PTR, I64])
        block = b.emit(f"call ptr @llvm.ptrmask.p0.i64({behind}, i64 -{ALIGNMENT})", PTR)
        b.store(raw, b.offset(block, -ALIGNMENT, "i8"), 8)
        b.store(_SIZE, b.offset(block, 8 - ALIGNMENT, "i8"), 8)
        advise = b.load(PTR, w.at(_ADVISE), 8)
        large = b.compare("sge", _SIZE, Value(str(_HUGE), I64))
        w.b.split(b.op("and", large, b.compare("ne", advise, _NULL)), "advise", "done")
        w.b.label("advise")
        first = b.offset(block, _PAGE - 1, "i8")
        page = b.emit(f"call ptr @llvm.ptrmask.p0.i64({first}, i64 -{_PAGE})", PTR)
        whole = b.op("sub", _SIZE, Value(str(_PAGE), I64))
        b.emit(f"call i32 {advise.text}({page}, {whole}, i32 {_LARGE_PAGES})", I32)
        w.b.jump("done")
        w.b.label("done")
        b.ret(block)
        w.b.label("none")
        b.ret(_NULL)


def _discard(w: _Writer) -> None:
    """Return a block to the system."""
    with w.b.function("discard", "void", [("ptr", "memory"), ("ptr", "block")], "internal"):
        w.b.do(f"call void {w.system(_FREE)}({w.header(_BLOCK, 0, PTR)})")
        w.b.ret()


def _allocate(w: _Writer) -> None:
    """A block: one that is kept, if it has the size or little more; else a new one."""
    b = w.b
    i = Value("%i", I64)
    with b.function("allocate", "ptr", [("ptr", "memory"), ("i64", "size")], "internal"):
        w.b.jump("look")
        w.b.label("look")
        b.do("%i = phi i64 [ 0, %entry ], [ %j, %next ]")
        slot = w.slot(i)
        found = w.taken(slot)
        w.b.split(w.b.is_null(found), "next", "there")
        w.b.label("there")
        size = w.header(found, 1)
        most = b.op("add", _SIZE, b.op("lshr", _SIZE, Value("2", I64)))
        fits = b.op("and", b.compare("sge", size, _SIZE), b.compare("sle", size, most))
        w.b.split(fits, "take", "leave")
        w.b.label("take")
        w.change("sub", _HELD, size)
        b.ret(found)
        w.b.label("leave")
        w.b.split(w.placed(slot, found), "next", "lost")
        w.b.label("lost")
        w.change("sub", _HELD, size)
        b.do(f"call void @discard(ptr %memory, {found})")
        w.b.jump("next")
        w.b.label("next")
        b.do("%j = add i64 %i, 1")
        w.b.split(b.compare("slt", Value("%j", I64), Value(str(_SLOTS), I64)), "look", "new")
        w.b.label("new")
        b.ret(b.emit("call ptr @obtain(ptr %memory, i64 %size)", PTR))


def _allocate_zeros(w: _Writer) -> None:
    b = w.b
    with b.function("allocate_zeros", "ptr", [("ptr", "memory"), ("i64", "count"), ("i64", "each")], "internal"):
        size = b.op("mul", Value("%count", I64), Value("%each", I64))
        block = b.emit(f"call ptr @allocate(ptr %memory, {size})", PTR)
        w.b.split(w.b.is_null(block), "done", "clear")
        w.b.label("clear")
        b.module.declare_text("llvm.memset.p0.i64", "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
        b.do(f"call void @llvm.memset.p0.i64({block}, i8 0, {size}, i1 false)")
        w.b.jump("done")
        w.b.label("done")
        b.ret(block)


def _reallocate(w: _Writer) -> None:
    b = w.b
    with b.function("reallocate", "ptr", [("ptr", "memory"), ("ptr", "block"), ("i64", "size")], "internal"):
        new = b.emit("call ptr @allocate(ptr %memory, i64 %size)", PTR)
        ready = b.op("or", w.b.is_null(new), w.b.is_null(_BLOCK))
        w.b.split(ready, "done", "move")
        w.b.label("move")
        size = b.intrinsic("smin", w.header(_BLOCK, 1), _SIZE)
        b.module.declare_text("llvm.memcpy.p0.p0.i64", "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
        b.do(f"call void @llvm.memcpy.p0.p0.i64({new}, {_BLOCK}, {size}, i1 false)")
        b.do("call void @release(ptr %memory, ptr %block, i64 0)")
        w.b.jump("done")
        w.b.label("done")
        b.ret(new)


def _release(w: _Writer) -> None:
    """Keep a block; what was kept before makes room for it."""
    b = w.b
    with b.function("release", "void", [("ptr", "memory"), ("ptr", "block"), ("i64", "unused")], "internal"):
        w.b.split(w.b.is_null(_BLOCK), "done", "some")
        w.b.label("some")
        size = w.header(_BLOCK, 1)
        w.b.split(b.compare("sgt", size, Value(str(_KEPT), I64)), "free", "room")
        w.b.label("free")
        b.do("call void @discard(ptr %memory, ptr %block)")
        w.b.jump("done")
        w.b.label("room")
        before = w.change("add", _HELD, size)
        full = b.compare("sgt", b.op("add", before, size), Value(str(_KEPT), I64))
        w.b.split(full, "evict", "keep")
        w.b.label("evict")
        b.do("call void @drop(ptr %memory)")
        w.b.jump("keep")
        w.b.label("keep")
        turn = b.op("and", w.change("add", _TURN, _ONE), Value(str(_SLOTS - 1), I64))
        old = w.taken(w.slot(turn), _BLOCK)
        w.b.split(w.b.is_null(old), "done", "replace")
        w.b.label("replace")
        w.change("sub", _HELD, w.header(old, 1))
        b.do(f"call void @discard(ptr %memory, {old})")
        w.b.jump("done")
        w.b.label("done")
        b.ret()


def _drop(w: _Writer) -> None:
    """Return all that is kept."""
    b = w.b
    with b.function("drop", "void", [("ptr", "memory")], "internal"):

        def one(i: Value, _: list[Value]) -> list[Value]:
            found = w.taken(w.slot(i))

            def free() -> None:
                w.change("sub", _HELD, w.header(found, 1))
                b.do(f"call void @discard(ptr %memory, {found})")

            b.when(b.compare("ne", found, _NULL), free)
            return []

        b.loop(0, _SLOTS, 1, [], one)
        b.ret()
