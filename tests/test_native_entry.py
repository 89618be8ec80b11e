"""A compiled program is called as a builtin is: what fits is read in place, all else is converted or refused."""

from __future__ import annotations

import gc
import os
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcgrad.compiler.native.dispatch import layout, runtime
from funcgrad.compiler.native.dispatch.runtime import MISS, Program, bind, make_entry
from funcgrad.compiler.native.machine import llvm
from funcgrad.compiler.native.machine.builder import DOUBLE, I8, I32, I64, PTR, Builder, Module, Type, Value, constant
from funcgrad.core.types import ArrayType

DTYPES = "?bhilBHILefdFD"
FLOAT, INT, COMPLEX = (ArrayType((), np.dtype(kind), True) for kind in "dlD")
layout_is_known = layout.layout_is_known
ZERO, ONE = Value("0", I32), Value("1", I32)


@pytest.fixture(autouse=True, params=["builtin", "ctypes"])
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.setattr("funcgrad.core.config.CACHE_DIR", str(tmp_path / "cache"))
    if request.param == "ctypes":
        monkeypatch.setattr(layout, "layout_is_known", lambda: False)
    return str(request.param)


def array(*shape: int, dtype: Any = float) -> ArrayType:
    return ArrayType(shape, np.dtype(dtype))


def program(
    write: Callable[[Builder, list[Value]], Value | None],
    inputs: Sequence[ArrayType],
    outputs: Sequence[ArrayType],
    **settings: Any,
) -> Program:
    """`write` gets the pointers of the frame; what it returns is the status."""
    module = Module()
    b = Builder(module)
    with b.function("main", "i32", [("ptr", "frame")]):
        n = len(settings.get("constants", ())) + len(inputs) + len(outputs) + 3
        frame = [b.load(PTR, b.offset(Value("%frame", PTR), i, "ptr"), 8) for i in range(n)]
        b.ret(write(b, frame) or ZERO)
    return Program(module.text(), tuple(inputs), tuple(outputs), **settings)


def copying(n: int) -> Callable[[Builder, list[Value]], None]:
    """Copy `n` bytes from the first pointer to the second one."""

    def write(b: Builder, frame: list[Value]) -> None:
        def body(i: Value, carried: list[Value]) -> list[Value]:
            b.store(b.load(I8, b.offset(frame[0], i, "i8"), 1), b.offset(frame[1], i, "i8"), 1)
            return []

        if n:
            b.loop(0, n, 1, [], body)

    return write


def adding(count: int, n: int = 4) -> Callable[[Builder, list[Value]], None]:
    """The sum of the first `count` arrays of `n` doubles, plus 1."""

    def write(b: Builder, frame: list[Value]) -> None:
        def body(i: Value, carried: list[Value]) -> list[Value]:
            total = constant(DOUBLE, 1.0)
            for x in frame[:count]:
                total = b.op("fadd", total, b.load(DOUBLE, b.offset(x, i, "double"), 8))
            b.store(total, b.offset(frame[count], i, "double"), 8)
            return []

        b.loop(0, n, 1, [], body)

    return write


def add_one(n: int = 4, **settings: Any) -> Program:
    return program(adding(1, n), [array(n)], [array(n)], lone=True, **settings)


def failing(**settings: Any) -> Program:
    def write(b: Builder, frame: list[Value]) -> Value:
        for k in range(4):
            b.store(Value(str(10 + k), I64), b.offset(frame[-1], k, "i64"), 8)
        return ONE

    return program(write, [array(4)], [array(4), ArrayType((), np.dtype(float))], **settings)


class Sub(np.ndarray[Any, Any]):
    pass


def layouts(x: np.ndarray[Any, Any], folder: Path) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """The same numbers, however they can lie in memory."""
    yield "plain", x.copy()
    yield "negative strides", x[::-1, ::-1].copy()[::-1, ::-1]
    yield "every other", np.repeat(x, 2, 1)[:, ::2]
    yield "columns first", np.asfortranarray(x)
    yield "swapped bytes", x.astype(x.dtype.newbyteorder())
    buffer = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    buffer[...] = x
    yield "unaligned", buffer
    fixed = x.copy()
    fixed.flags.writeable = False
    yield "read-only", fixed
    yield "subclass", x.copy().view(Sub)
    mapped = np.memmap(folder / "mapped", x.dtype, "w+", shape=x.shape)
    mapped[...] = x
    yield "mapped", mapped
    noted = np.dtype(x.dtype, metadata={"note": 1})
    yield "a dtype object of its own", x.astype(noted)


# ── what fits


def test_an_array_that_fits_is_read_in_place() -> None:
    f = make_entry(add_one())
    x = np.arange(4.0)
    y = f(x)
    assert type(y) is np.ndarray and y.flags.owndata and y.flags.writeable and y.flags.aligned
    assert y.tolist() == [1, 2, 3, 4] and x.tolist() == [0, 1, 2, 3]
    assert f(x) is not y


@pytest.mark.parametrize(
    "args",
    [
        (), (np.ones(4), np.ones(4)), (1.0,), (None,), ([1.0, 2.0, 3.0, 4.0],), (np.ones(5),), (np.ones((4, 1)),),
        (np.ones((1, 4)),), (np.ones((), float),), (np.float64(1),), (np.ones(4, np.float32),), (np.ones(4, int),),
        (np.ones(4, ">f8"),), (np.ones(8)[::2],), (np.ones(4)[::-1],), (np.ones(4).view(Sub),),
        (np.ones(33, np.uint8)[1:].view(float),), (np.broadcast_to(1.0, 4),), (np.ones(4, object),), (True,),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_a_miss(args: tuple[Any, ...]) -> None:
    p = add_one()
    assert make_entry(p)(*args) is MISS
    seen: list[Any] = []
    assert make_entry(p, lambda *xs, **named: seen.append((xs, named)) or "instead")(*args) == "instead"
    assert len(seen) == 1 and seen[0][1] == {} and all(a is b for a, b in zip(seen[0][0], args, strict=True))


def test_keywords_are_a_miss_and_are_handed_on() -> None:
    x = np.ones(4)
    assert make_entry(add_one())(x=x) is MISS
    assert make_entry(add_one(), lambda *xs, **named: (xs, named))(1, x=2) == ((1,), {"x": 2})
    with pytest.raises(TypeError):
        bind(add_one())(x=x)


def test_what_a_miss_raises_is_raised() -> None:
    def refuse(*args: Any) -> None:
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        make_entry(add_one(), refuse)(1)


@pytest.mark.parametrize("code", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (0,), (2, 0, 3), (2, 3), (1, 2, 1, 2, 1)])
def test_every_dtype_and_shape(code: str, shape: tuple[int, ...]) -> None:
    dtype = np.dtype(code)
    x = (np.arange(1.0, 1.0 + np.prod(shape)) % 2).reshape(shape).astype(dtype)
    f = make_entry(program(copying(x.nbytes), [array(*shape, dtype=dtype)], [array(*shape, dtype=dtype)], lone=True))
    for arg in (x, x[()]):
        y = f(arg)
        assert type(y) is (dtype.type if shape == () else np.ndarray)
        assert y.dtype == dtype and y.shape == shape
        np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize("code", DTYPES)
def test_every_layout_after_conversion(code: str, tmp_path: Path) -> None:
    x = np.arange(6).reshape(2, 3).astype(code)
    f = bind(program(copying(x.nbytes), [array(2, 3, dtype=code)], [array(2, 3, dtype=code)], lone=True))
    for name, view in layouts(x, tmp_path):
        y = f(view)
        assert type(y) is np.ndarray and y.dtype == x.dtype and y.flags.writeable, name
        np.testing.assert_array_equal(y, x, name)
        np.testing.assert_array_equal(view, x, name)
        assert not np.shares_memory(y, view)


def test_zero_strides_and_nothing_at_all() -> None:
    f = bind(program(copying(32), [array(4)], [array(4)], lone=True))
    assert f(np.broadcast_to(2.5, 4)).tolist() == [2.5] * 4
    empty = bind(program(copying(0), [array(0, 3)], [array(0, 3)], lone=True))
    for x in (np.ones((0, 3)), np.ones((5, 3))[5:], np.ones((3, 0)).T, np.ones((0, 6))[:, ::-2]):
        assert empty(x).shape == (0, 3)


# ── scalars


def test_numbers_of_python() -> None:
    f = make_entry(program(copying(8), [FLOAT], [FLOAT], lone=True))
    assert f(2.5) == 2.5 and type(f(2.5)) is float
    i = make_entry(program(copying(8), [INT], [INT], lone=True))
    for n in (0, 1, -1, 2**31, -(2**63), 2**63 - 1):
        assert i(n) == n and type(i(n)) is int
    c = make_entry(program(copying(16), [COMPLEX], [COMPLEX], lone=True))
    assert c(1 - 2j) == 1 - 2j and type(c(1 - 2j)) is complex
    assert [f(1), f(True), f(np.float64(1)), f(np.ones(())), i(1.0), i(True), i(2**63), c(1.0)] == [MISS] * 8


def test_numbers_of_python_after_conversion() -> None:
    f = bind(program(copying(8), [FLOAT], [FLOAT], lone=True))
    i = bind(program(copying(8), [INT], [INT], lone=True))
    assert f(1) == 1.0 and f(np.float32(0.5)) == 0.5 and i(True) == 1
    with pytest.raises(OverflowError, match="an operand of a compiled program is 9223372036854775808"):
        i(2**63)


def test_a_scalar_may_be_an_array_or_a_scalar_of_numpy() -> None:
    f = make_entry(program(copying(8), [array()], [array()], lone=True))
    assert f(np.float64(2.5)) == f(np.array(2.5)) == 2.5
    assert [f(2.5), f(np.float32(2.5)), f(np.ones(1)), f(np.array(1))] == [MISS] * 4
    assert bind(program(copying(8), [array()], [array()], lone=True))(2.5) == 2.5


def test_truth_has_three_forms() -> None:
    f = make_entry(program(copying(1), [array(dtype=bool)], [array(dtype=bool)], lone=True))
    for value in (True, False):
        for x in (value, np.bool_(value), np.array(value)):
            assert f(x) is np.bool_(value)
    assert f(1) is MISS


# ── arguments and results, many and none


def test_results_are_a_tuple_or_bare() -> None:
    def write(b: Builder, frame: list[Value]) -> None:
        for y, x in ((frame[2], frame[1]), (frame[3], frame[0])):
            b.store(b.load(DOUBLE, x, 8), y, 8)

    swap = make_entry(program(write, [array(1), FLOAT], [array(1), FLOAT]))
    x, y = swap(np.ones(1), 2.0)
    assert x.tolist() == [2.0] and y == 1.0
    assert make_entry(program(lambda b, frame: None, [], []))() == ()
    assert make_entry(program(adding(1), [array(4)], [array(4)]))(np.ones(4))[0].tolist() == [2] * 4


@pytest.mark.parametrize("count", [1, 2, 100, 1000])
def test_many_arguments(count: int) -> None:
    f = make_entry(program(adding(count), [array(4)] * count, [array(4)], lone=True))
    args = [np.full(4, float(i)) for i in range(count)]
    assert f(*args).tolist() == [1 + count * (count - 1) / 2] * 4
    assert f(*args[:-1], np.ones(5)) is MISS and f(*args[:-1]) is MISS


def test_constants_come_first_and_are_kept() -> None:
    constants = [np.full(4, 10.0), np.arange(8.0)[::-2]]
    f = make_entry(program(adding(3), [array(4)], [array(4)], constants=constants, lone=True))
    constants.clear()
    gc.collect()
    assert f(np.zeros(4)).tolist() == [18, 16, 14, 12]


def test_an_output_may_be_an_input() -> None:
    p = program(adding(1), [array(4)], [array(4)], reused={0: 0}, lone=True)
    x = np.zeros(4)
    assert make_entry(p)(x) is x and x.tolist() == [1] * 4
    x.flags.writeable = False
    assert make_entry(p)(x) is MISS
    y = bind(p)(x)
    assert y.tolist() == [2] * 4 and y.flags.writeable and x.tolist() == [1] * 4


@pytest.mark.parametrize("size", [0, 1, 1000, 5000, 1 << 20])
def test_the_arena_is_aligned_and_writeable(size: int) -> None:
    def write(b: Builder, frame: list[Value]) -> None:
        arena = frame[2]
        if size:
            b.loop(0, size, 1, [], lambda i, _: b.store(Value("7", I8), b.offset(arena, i, "i8"), 1) or [])
        b.store(b.cast("ptrtoint", arena, "i64"), frame[1], 8)

    f = make_entry(program(write, [array(1)], [INT], arena=size, lone=True))
    for _ in range(5):
        assert f(np.ones(1)) % 64 == 0


def test_programs_of_different_sizes_take_turns() -> None:
    small, large = (make_entry(add_one(arena=size)) for size in (10_000, 1 << 20))
    for f in (small, large, small, small, large, large, small):
        assert f(np.zeros(4)).tolist() == [1] * 4


def test_externals_are_in_a_table() -> None:
    def write(b: Builder, frame: list[Value]) -> None:
        for k in range(2):
            text = f"load i64, {b.offset(frame[-2], k, 'i64')}, align 8"
            b.store(b.emit(text, I64), frame[k], 8)

    assert make_entry(program(write, [], [INT, INT], externals=[11, 22]))() == (11, 22)


# ── failures


def test_a_failure_is_handed_to_the_program_s_handler() -> None:
    def fail(*numbers: int) -> None:
        raise IndexError(numbers)

    f = make_entry(failing(fail=fail))
    for _ in range(3):
        with pytest.raises(IndexError, match=r"\(10, 11, 12, 13\)"):
            f(np.ones(4))
    assert make_entry(failing(fail=lambda *numbers: numbers))(np.ones(4)) == (10, 11, 12, 13)
    with pytest.raises(AssertionError, match="code 10"):
        make_entry(failing())(np.ones(4))


def test_a_handler_may_call_the_program_again() -> None:
    depth = []

    def fail(*numbers: int) -> Any:
        depth.append(1)
        return f(np.ones(4)) if len(depth) < 20 else "enough"

    f = make_entry(failing(fail=fail, arena=10_000))
    assert f(np.ones(4)) == "enough"


@pytest.mark.parametrize("settings", [{"arena": 1 << 60}, {}])
def test_without_memory_there_is_an_error(settings: dict[str, Any]) -> None:
    huge = [array(4), array(1 << 57)] if not settings else [array(4)]
    f = make_entry(program(lambda b, frame: None, [array(4)], huge, **settings))
    for _ in range(3):
        with pytest.raises(MemoryError):
            f(np.ones(4))


# ── references, memory


def counted(p: Program, call: Callable[[Any], Any], *args: Any) -> None:
    f = bind(p)
    things = [*args, None, np.dtype(float), np.ndarray, MISS, f, p.fail, np.dtype(bool), np.float64]

    def calls(n: int) -> list[int]:
        for _ in range(n):
            call(f)
        return [sys.getrefcount(x) for x in things]

    calls(100)
    gc.collect()
    tracemalloc.start()
    before, memory = calls(10), tracemalloc.get_traced_memory()[0]
    after, grown = calls(10_000), tracemalloc.get_traced_memory()[0] - memory
    tracemalloc.stop()
    assert max(abs(m - n) for m, n in zip(before, after, strict=True)) <= 5
    assert grown < 5_000


def test_calls_leave_no_references() -> None:
    def write(b: Builder, frame: list[Value]) -> None:
        for y in frame[4:8]:
            b.store(b.load(DOUBLE, frame[0], 8), y, 8)

    inputs = [array(1), FLOAT, INT, array()]
    p = program(write, inputs, [array(1), FLOAT, array(), array(1)], arena=9000, long=True)
    x, y, n, z = np.ones(1), 1.5e300, 2**61, np.float64(2.5)
    counted(p, lambda f: f(x, y, n, z), x, y, n, z)


def test_conversions_leave_no_references() -> None:
    x = np.arange(8.0)[::2]
    counted(add_one(), lambda f: f(x), x)


def test_failures_leave_no_references() -> None:
    def fail(*numbers: int) -> None:
        raise IndexError

    def call(f: Any) -> None:
        with pytest.raises(IndexError):
            f(x)

    x = np.ones(4)
    p = failing(fail=fail)
    f = bind(p)
    for _ in range(10):
        call(f)
    before = sys.getrefcount(x), sys.getrefcount(np.dtype(float)), sys.getrefcount(fail)
    for _ in range(1000):
        call(f)
    after = sys.getrefcount(x), sys.getrefcount(np.dtype(float)), sys.getrefcount(fail)
    assert max(abs(m - n) for m, n in zip(before, after, strict=True)) <= 5


def test_an_entry_keeps_all_that_it_needs_and_no_more() -> None:
    constant_ = np.full(4, 5.0)
    before = sys.getrefcount(constant_)

    def fail(*numbers: int) -> None: ...

    f = bind(program(adding(2), [array(4)], [array(4)], constants=[constant_], lone=True, fail=fail))
    gc.collect()
    assert f(np.zeros(4)[::-1]).tolist() == [6] * 4
    assert sys.getrefcount(constant_) > before
    del f
    gc.collect()
    assert sys.getrefcount(constant_) == before and sys.getrefcount(fail) == 2


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="the memory of a process is seen on Linux only")
def test_code_goes_when_its_entry_does() -> None:
    def pieces() -> int:
        return sum("x" in line.split()[1] for line in Path("/proc/self/maps").read_text().splitlines())

    code = llvm.compile_text(add_one().text)
    libraries = [llvm.load(code, "main") for _ in range(5)]
    assert len({library.address for library in libraries}) == 5
    libraries.clear()
    before = pieces()
    libraries = [llvm.load(code, "main") for _ in range(200)]
    libraries.clear()
    llvm.load(code, "main")
    assert pieces() <= before + 4


# ── threads and processes


def test_a_long_program_lets_others_run() -> None:
    flag = np.zeros(1, np.int64)
    limit = 1 << 33

    def write(b: Builder, frame: list[Value]) -> Value:
        def waiting(carried: list[Value]) -> Value:
            seen = b.emit(f"load volatile i64, {frame[0]}, align 8", I64)
            unset = b.compare("eq", seen, Value("0", I64))
            return b.op("and", unset, b.compare("slt", carried[0], Value(str(limit), I64)))

        (count,) = b.loop_while([Value("0", I64)], waiting, lambda c: [b.op("add", c[0], Value("1", I64))])
        return b.cast("zext", b.compare("sge", count, Value(str(limit), I64)), "i32")

    f = make_entry(program(write, [array(1, dtype=np.int64)], [], long=True))
    threading.Timer(0.05, flag.fill, [1]).start()
    assert f(flag) == ()


def test_one_program_in_many_threads() -> None:
    n = 20_000

    def write(b: Builder, frame: list[Value]) -> None:
        x, y, arena = frame[0], frame[1], frame[2]
        for source, target in ((x, arena), (arena, y)):

            def body(i: Value, _: list[Value], source: Value = source, target: Value = target) -> list[Value]:
                b.store(b.load(DOUBLE, b.offset(source, i, "double"), 8), b.offset(target, i, "double"), 8)
                return []

            b.loop(0, n, 1, [], body)

    f = bind(program(write, [array(n)], [array(n)], arena=8 * n, long=True, lone=True))

    def check(k: int) -> bool:
        x = np.full(n, float(k))
        return all(np.array_equal(f(x if i % 2 else x[::-1]), x) for i in range(50))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(check, range(16)))


def test_programs_are_made_in_many_threads() -> None:
    def check(k: int) -> bool:
        f = bind(program(adding(1, k + 1), [array(k + 1)], [array(k + 1)], lone=True))
        return bool(np.array_equal(f(np.zeros(k + 1)), np.ones(k + 1)))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(check, range(40)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_process_goes_on() -> None:
    f = bind(add_one(arena=10_000, long=True))
    assert f(np.zeros(4)).tolist() == [1] * 4
    stop = threading.Event()

    def busy() -> None:
        k = 5
        while not stop.is_set():
            bind(program(adding(1, k), [array(k)], [array(k)]))
            k += 1

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                good = f(np.zeros(4)).tolist() == [1] * 4 and bind(add_one(3))(np.zeros(3)).tolist() == [1] * 3
                os._exit(0 if good else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        thread.join()


# ── LLVM


def test_the_host_is_described() -> None:
    at = llvm.host()
    assert at.cpu and at.vector_bytes in (16, 32, 64)
    assert ("+avx512f" in at.features) >= (at.vector_bytes == 64)


def test_text_that_is_wrong_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="parsing"):
        make_entry(Program("define i32 @main(", (), ()))


def test_assembly_is_shown() -> None:
    assert "main" in llvm.assembly(add_one().text)


def test_wide_vectors_and_many_constants() -> None:
    wide = Type("double", max(1, llvm.host().vector_bytes // 8))

    def write(b: Builder, frame: list[Value]) -> None:
        def body(i: Value, carried: list[Value]) -> list[Value]:
            x = b.load(wide, b.offset(frame[0], i, "double"), 8)
            for k in range(100):
                x = b.op("fadd", x, constant(wide, float(k)))
            b.store(x, b.offset(frame[1], i, "double"), 8)
            return []

        b.loop(0, 64, wide.lanes, [], body)

    f = make_entry(program(write, [array(64)], [array(64)], lone=True))
    assert f(np.arange(64.0)).tolist() == [i + 4950 for i in range(64)]


def test_functions_that_llvm_calls_are_found() -> None:
    def write(b: Builder, frame: list[Value]) -> None:
        b.module.declare("llvm.memcpy.p0.p0.i64", "void", [PTR, PTR, I64, Type("i1")])
        b.do(f"call void @llvm.memcpy.p0.p0.i64({frame[1]}, {frame[0]}, i64 8000, i1 false)")

    f = make_entry(program(write, [array(1000)], [array(1000)], lone=True))
    assert np.array_equal(f(np.arange(1000.0)), np.arange(1000.0))


def test_without_llvm_there_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runtime.available()
    runtime.available.cache_clear()
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    with pytest.warns(RuntimeWarning, match="llvmlite is not installed"):
        assert not runtime.available()
    assert not runtime.available()
    runtime.available.cache_clear()


def test_the_layout_of_objects_is_known_here() -> None:
    assert (
        layout_is_known() or sys.implementation.name != "cpython" or not getattr(sys, "_is_gil_enabled", lambda: True)()
    )
