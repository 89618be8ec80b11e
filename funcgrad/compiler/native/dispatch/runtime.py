"""From a program in LLVM's language to a Python callable.

`make_entry` gives the builtin: it takes arguments exactly as the program wants them, and says `MISS` for all others.
`bind` gives a callable that takes every array of the right shape and dtype, however it lies in memory.

The builtin reads the objects of CPython and NumPy directly. Where these do not have the layout that it knows (another
Python, a build without the global lock), a function in Python does the same through ctypes.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

import numpy as np

from funcgrad.compiler.native.dispatch import layout, recycle
from funcgrad.compiler.native.dispatch.entry import entry_text
from funcgrad.compiler.native.dispatch.gate import gate_text
from funcgrad.compiler.native.scalars import shared
from funcgrad.compiler.segment import StoppedError
from funcgrad.core.errors import InternalError
from funcgrad.core.types import Array, ArrayType, DType, beyond_int64, refuse_beyond

if TYPE_CHECKING:
    from funcgrad.compiler.native.machine.llvm import Library

Entry: TypeAlias = Callable[..., Any]
_PYTHON: Final = {"f": float, "i": int, "c": complex}
_KINDS: Final = {"f": layout.FLOAT, "i": layout.INTEGER, "c": layout.COMPLEX}
_FASTCALL_WITH_KEYWORDS = 0x80 | 0x02


@final
class _Miss:
    """What an entry returns, and does nothing else, when an argument is not as the program wants it."""

    def __repr__(self) -> str:
        return "MISS"


MISS: Final = _Miss()


def unexplained(code: int, *numbers: int) -> Any:
    """What is called for an error record if the program does not say."""
    raise InternalError(f"a compiled program stopped with code {code} {numbers}")


@final
@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A compiled program, and how it is called.

    Its text defines `i32 @main(ptr %frame)`, which returns 0 unless it has failed. The frame is an array of pointers:
    to the data of the constants, the inputs and the outputs in this order; to the arena, which is aligned to 64 bytes;
    to the table of `externals`; and to the error record, four `i64` that the program sets before it fails.
    Arrays are C-contiguous, aligned to their dtype, and in native byte order; results of `recycle.SMALLEST` bytes or
    more that are not the array of an argument begin at a line of the cache.

    Attributes:
        text: The module.
        inputs: The types of the arguments. A weak one is a Python scalar: float64, int64 or complex128 in memory.
        outputs: The types of the results. A weak one is returned as a Python scalar, another 0-d one as a NumPy scalar.
        arena: How many bytes of memory the program works with.
        long: True if other threads of Python may run meanwhile, which takes some 50 ns.
        lone: True if the one result is returned bare, not in a tuple.
        constants: Arrays that the program reads besides its arguments.
        externals: What the program finds in its table of externals: addresses.
        reused: Which outputs, by position, are written into the memory of an input and are that very array.
        level: 2 for good code; 0 for a program that is not worth the time of making it.
        fail: Called with the four integers of the error record if the program fails. What it returns is returned.
    """

    text: str
    inputs: tuple[ArrayType, ...]
    outputs: tuple[ArrayType, ...]
    arena: int = 0
    long: bool = False
    lone: bool = False
    constants: Sequence[Array] = ()
    externals: Sequence[int] = ()
    reused: Mapping[int, int] = field(default_factory=dict)
    level: int = 2
    fail: Callable[..., Any] = unexplained


@cache
def available() -> bool:
    """True if programs can be compiled here; if not, the user is told once."""
    problem = "llvmlite is not installed"
    if importlib.util.find_spec("llvmlite") is not None:
        try:
            from funcgrad.compiler.native.machine import llvm

            llvm.initialize()
        except (ImportError, OSError, RuntimeError) as error:
            problem = f"llvmlite does not work: {error}"
        else:
            return True
    warnings.warn(f"{problem}; jitted functions run through NumPy, and slower", RuntimeWarning, stacklevel=2)
    return False


def load(program: Program) -> Library:
    """The machine code of a program, in memory."""
    from funcgrad.compiler.native.machine import llvm

    return llvm.load_text(program.text, "main", program.level, shared.addresses(program.text))


def make_entry(program: Program, miss: Callable[..., Any] | None = None) -> Entry:
    """The program as a builtin.

    Args:
        program: What is called.
        miss: Called with the arguments, whatever they are, if they are not what the program wants: if one of them is
            no exact ndarray, or is not aligned and C-contiguous, or has another dtype or shape, and if their number
            is another one or there are keywords. Without it, `MISS` is returned.
    """
    library = load(program)
    return _builtin(program, library, miss) if layout.layout_is_known() else _by_ctypes(program, library, miss)


def bind(program: Program, library: Library | None = None) -> Entry:
    """The program as a function of any arrays and scalars that have its types, however they lie in memory.

    Args:
        program: What is called.
        library: Its machine code, if that is in memory already.
    """
    library = library or load(program)
    make = _builtin if layout.layout_is_known() else _by_ctypes
    exact = make(program, library, None)
    convert = [_converter(t, i in program.reused.values()) for i, t in enumerate(program.inputs)]

    def converted(*args: Any) -> Any:
        ready = [f(x) for f, x in zip(convert, args, strict=True)]
        result = exact(*ready)
        if result is MISS:
            raise InternalError(f"a program of {program.inputs} was called with {args}")
        return result

    return make(program, library, converted)


def _converter(t: ArrayType, owned: bool) -> Callable[[Any], Any]:
    if t.weak:
        python = _PYTHON[t.dtype.kind]

        def number(x: Any) -> Any:
            if beyond_int64(x):
                refuse_beyond(x, "an operand of a compiled program")
            return python(t.dtype.type(x))

        return number
    dtype = _singleton(t.dtype)

    def converted(x: Any) -> Any:
        array = np.require(x, dtype, ("C", "A", "E", "W") if owned else ("C", "A", "E"))
        # an equal descriptor is not the same one: NumPy keeps the object that the array came with
        return array if array.dtype is dtype else array.view(dtype)

    return converted


def _singleton(dtype: DType) -> DType:
    """The dtype as the object that NumPy's own arrays have."""
    return np.dtype(dtype.type)


# ── the builtin


class Context(np.ndarray[Any, Any]):
    """The words of a context, and everything that they point to.

    Attributes:
        kept: What has to stay as long as there is the context.
    """

    kept: tuple[Any, ...]


class _Method(ctypes.Structure):
    """PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


def _builtin(program: Program, library: Library, miss: Callable[..., Any] | None) -> Entry:
    code = entry_code()
    return code.builtin(context_of(program, library, code, miss))


def context_of(program: Program, library: Library, code: Code, miss: Callable[..., Any] | None) -> Context:
    """All that the entry has to know of a program."""
    constants = [np.require(x, None, ("C", "A")) for x in program.constants]
    dtypes = [_singleton(t.dtype) for t in (*program.inputs, *program.outputs)]
    n, m, bound = len(program.inputs), len(program.outputs), len(constants)
    lengths = [
        len(layout.CONTEXT), bound, len(program.externals), n * len(layout.INPUT), m * len(layout.OUTPUT),
        sum(t.ndim for t in (*program.inputs, *program.outputs)),
    ]  # fmt: skip
    context = np.zeros(sum(lengths), np.int64).view(Context)
    # where each table begins, as an index and as an address
    starts = np.cumsum([0, *lengths[:-1]]).tolist()
    head, pointers, externals, inputs, outputs, shapes = starts
    address = context.ctypes.data
    at = [address + 8 * start for start in starts]
    places = _Places(program, bound)
    words = {
        "main": library.address, "arguments": n, "results": m, "bound": bound,
        "constants": at[1], "externals": at[2], "inputs": at[3], "outputs": at[4],
        "size": places.size, "objects": places.objects, "places": places.last, "record": places.record,
        "arena": places.arena, "long": program.long, "lone": program.lone,
        "miss": 0 if miss is None else id(miss), "fail": id(program.fail), "table": code.table.ctypes.data,
    }  # fmt: skip
    context[head:pointers] = [words[name] for name in layout.CONTEXT]
    context[pointers:externals] = [x.ctypes.data for x in constants]
    context[externals:inputs] = program.externals
    for i, t in enumerate(program.inputs):
        context[shapes : shapes + t.ndim] = t.shape
        row = _input_row(t, dtypes[i], address + 8 * shapes, places.inputs[i], i in program.reused.values())
        context[inputs : inputs + len(row)] = row
        inputs, shapes = inputs + len(row), shapes + t.ndim
    for j, t in enumerate(program.outputs):
        context[shapes : shapes + t.ndim] = t.shape
        row = _output_row(t, dtypes[n + j], address + 8 * shapes, places.outputs[j], program.reused.get(j))
        context[outputs : outputs + len(row)] = row
        outputs, shapes = outputs + len(row), shapes + t.ndim
    context.kept = (library, constants, dtypes, miss, program.fail)
    return context


@final
class _Places:
    """Where everything of a call is, in bytes from the beginning of its block of memory."""

    def __init__(self, program: Program, bound: int) -> None:
        self.last = 8 * (bound + len(program.inputs) + len(program.outputs))
        self.record = self.last + 8 * 3
        self.objects = self.record + 8 * 4
        end = self.objects + 8 * len(program.outputs)
        self.inputs = []
        for t in program.inputs:
            self.inputs.append(end)
            end += 8 * (t.weak and t.dtype.kind == "i")
        end = -(-end // 16) * 16
        self.outputs = []
        for t in program.outputs:
            self.outputs.append(end)
            end += 16 * (t.ndim == 0)
        self.arena = -(-end // layout.ALIGNMENT) * layout.ALIGNMENT
        self.size = self.arena + program.arena


def _input_row(t: ArrayType, dtype: DType, shape: int, slot: int, owned: bool) -> list[int]:
    if t.weak:
        kind = t.dtype.kind
        return [0, -1, shape, 0, id(_PYTHON[kind]), slot if kind == "i" else -1, 0]
    flags = layout.CONTIGUOUS | layout.ALIGNED | (layout.WRITEABLE if owned else 0)
    scalar = id(dtype.type) if t.ndim == 0 and not owned and layout.value_is_known(dtype) else 0
    return [id(dtype), t.ndim, shape, flags, scalar, -1, int(scalar and dtype == np.bool_)]


def _output_row(t: ArrayType, dtype: DType, shape: int, slot: int, reused: int | None) -> list[int]:
    if reused is not None:
        return [layout.REUSED, 0, 0, 0, reused, 0]
    large = math.prod(t.shape) * dtype.itemsize >= recycle.SMALLEST
    kind = layout.ARRAY if t.ndim else _KINDS[t.dtype.kind] if t.weak else layout.NUMPY_SCALAR
    return [kind, id(dtype), t.ndim, shape, slot, id(recycle.handler()) if large else 0]


@final
@dataclass(frozen=True, slots=True)
class Code:
    """The code of the entry, or of the gate, and the table of what it refers to: as long as the process lives."""

    table: np.ndarray[Any, np.dtype[np.int64]]
    method: _Method
    kept: tuple[Any, ...]

    def builtin(self, context: Context) -> Entry:
        """The code as a function of Python, whose `self` is the context."""
        # a prototype of its own: those of `pythonapi` are shared with everybody else
        new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
        made: Entry = new(("PyCFunction_NewEx", ctypes.pythonapi))(ctypes.addressof(self.method), context, None)
        return made


def entry_code() -> Code:
    """The code of the entries."""
    from funcgrad.compiler.native.machine import llvm

    # a second one would be freed while the first contexts point to it
    with llvm.lock:
        return _make_code()


@cache
def _make_code() -> Code:
    from funcgrad.compiler.native.machine import llvm

    api = ctypes.pythonapi
    truths = ctypes.create_string_buffer(b"\0\1", 2)
    places = {name: ctypes.cast(getattr(api, name), ctypes.c_void_p).value for name in layout.PYTHON}
    functions = _numpy_functions()
    places.update({name: functions[place] for name, place in layout.NUMPY_PLACES.items()})
    ours = {"ndarray": np.ndarray, "bool": bool, "True": True, "MISS": MISS}
    ours |= {"dict": dict, "list": list, "StoppedError": StoppedError}
    places.update({name: id(thing) for name, thing in ours.items()})
    places.update(truths=ctypes.addressof(truths), spare=0)
    table = np.array([places[name] for name in layout.TABLE], np.int64)
    # better code would be 5 ns faster, and take as long to make as that of a model
    library = llvm.load_text(entry_text(), "entry", level=0)
    method = _Method(b"program", library.address, _FASTCALL_WITH_KEYWORDS, b"A compiled program.")
    return Code(table, method, (library, truths))


def gate_code(objects: int) -> Code:
    """The code of the gates that handle so many objects, on the same table."""
    from funcgrad.compiler.native.machine import llvm

    with llvm.lock:
        return _make_gate_code(2 if objects >= _MANY else 0)


# for so many arguments and results, what better code saves in a call is a microsecond, and worth the time to make it
_MANY = 100


@cache
def _make_gate_code(level: int) -> Code:
    from funcgrad.compiler.native.machine import llvm

    entry = entry_code()
    library = llvm.load_text(gate_text(), "gate", level)
    method = _Method(b"jitted", library.address, _FASTCALL_WITH_KEYWORDS, b"A jitted function.")
    return Code(entry.table, method, (library, entry))


def _numpy_functions() -> Sequence[int]:
    """NumPy's table of functions, which it publishes for extension modules."""
    capsule = importlib.import_module("numpy._core._multiarray_umath")._ARRAY_API
    pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
    address = pointer(("PyCapsule_GetPointer", ctypes.pythonapi))(capsule, None)
    return list((ctypes.c_size_t * (max(layout.NUMPY_PLACES.values()) + 1)).from_address(address))


# ── the same through ctypes


def _by_ctypes(program: Program, library: Library, miss: Callable[..., Any] | None) -> Entry:
    """What the builtin is, as a function in Python."""
    main = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(library.address)
    constants = [np.require(x, None, ("C", "A")) for x in program.constants]
    externals = np.array(program.externals, np.int64)
    owned = set(program.reused.values())
    tests = [(t, _singleton(t.dtype), i in owned) for i, t in enumerate(program.inputs)]

    def call(*args: Any, **named: Any) -> Any:
        inputs = [y for x, test in zip(args, tests, strict=False) if (y := _as_expected(x, *test)) is not None]
        if named or len(args) != len(tests) or len(inputs) != len(tests):
            return MISS if miss is None else miss(*args, **named)
        outputs = [
            inputs[program.reused[j]] if j in program.reused else np.empty(t.shape, _singleton(t.dtype))
            for j, t in enumerate(program.outputs)
        ]
        arena = np.empty(program.arena + layout.ALIGNMENT, np.uint8)
        record = np.zeros(4, np.int64)
        frame = [x.ctypes.data for x in (*constants, *inputs, *outputs)]
        start = -(-arena.ctypes.data // layout.ALIGNMENT) * layout.ALIGNMENT
        frame += [start, externals.ctypes.data, record.ctypes.data]
        if main((ctypes.c_void_p * len(frame))(*frame)):
            return program.fail(*record.tolist())
        results = [
            y.item() if t.weak else y if y.ndim else y[()] for y, t in zip(outputs, program.outputs, strict=True)
        ]
        return results[0] if program.lone else tuple(results)

    # the code has to stay as long as there is a way to call it
    call.library = library  # type: ignore[attr-defined]
    return call


def _as_expected(x: Any, t: ArrayType, dtype: DType, owned: bool) -> np.ndarray[Any, Any] | None:
    """An argument as an array, if it is what the program wants."""
    if t.weak:
        if type(x) is not _PYTHON[t.dtype.kind] or (type(x) is int and not -(2**63) <= x < 2**63):
            return None
        return np.array(x, dtype)
    if type(x) is np.ndarray:
        flags = x.flags
        laid_out = flags.c_contiguous and flags.aligned and (flags.writeable or not owned)
        return x if x.dtype is dtype and x.shape == t.shape and laid_out else None
    scalar = t.ndim == 0 and not owned and (type(x) is dtype.type or (type(x) is bool and dtype == np.bool_))
    return np.array(x, dtype) if scalar else None
