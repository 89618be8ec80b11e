"""What the code between Python and a program knows of memory: its own tables, and the objects of CPython and NumPy.

Sources: Python/C API Reference Manual, "Common Object Structures"; NumPy C-API, "Python types and C-structures".
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

import numpy as np

from funcgrad.core.types import DType

# The words of a context. `main` is the program. Then come how many arguments, results and constants (`bound`) there are
# and where their tables are; the size of the block of memory of a call, and where in it there are the objects of the
# results, the frame's last entries, the error record and the arena.
CONTEXT = (
    "main", "arguments", "results", "inputs", "outputs", "constants", "bound",
    "size", "objects", "places", "record", "arena", "externals", "long", "lone", "miss", "fail", "table",
)  # fmt: skip
# What is expected of an argument: its descriptor, number of axes, shape and flags, if it is an array; the type of a
# scalar; where the value of an integer goes (−1: the value is used where it stands in the object); and whether True and
# False will do.
INPUT = ("descriptor", "axes", "shape", "flags", "scalar", "slot", "truth")
# What is made for a result, and how; the slot is where a number is left, or which argument is handed back. The handler
# is what allocates the memory of a large array; it is null for others.
OUTPUT = ("kind", "descriptor", "axes", "shape", "slot", "handler")
ARRAY, NUMPY_SCALAR, FLOAT, INTEGER, COMPLEX, REUSED = range(6)

# The words of a gate: the context of its program; how many arguments come by position and which by name; the context
# variables that have to have certain values; the steps that read the arguments, and how many leaves and slots there are
# for what they find; the number of results, which come behind the slots, and of words in all: behind the results is how
# far each dict has been read; the parts of the result, whether it is a lone one, and what else makes it; the two counts
# of the clock and when the gate was last used; and what is called when arguments do not fit.
GATE = (
    "program", "positional", "named", "names", "guards", "guarded",
    "steps", "reads", "leaves", "slots", "results", "words",
    "parts", "builds", "lone", "finish", "clock", "used", "miss", "table",
)  # fmt: skip
# A step looks at the object in the slot `source`, with the help of `thing` and `index`, and may fill the slot `target`.
# For a key, `index` is the number of the dict.
STEP = ("kind", "source", "thing", "index", "target")
# The code asks for one kind after the other, so those that there are many of come first.
KEY, GIVEN, ITEM, ENTRY, HELD, ATTRIBUTE, IS_DICT, IS_TUPLE, IS_LIST, IS_INSTANCE, SAME, EQUAL = range(12)
# A part is made and put into an earlier one, of the slot `parent`, at `place`: a position or a key. A dict is made as a
# copy of `thing`, which has its keys.
PART = ("make", "thing", "size", "into", "parent", "place", "slot")
LEAF, NEW_DICT, NEW_TUPLE, NEW_LIST, KNOWN = range(5)
INTO_DICT, INTO_TUPLE, INTO_LIST, INTO_NOTHING = range(4)

# What the code calls and compares with, in the order of the table of its addresses. From Python, from NumPy, and ours.
PYTHON = (
    "Py_IncRef", "Py_DecRef", "PyObject_Vectorcall", "PyTuple_New", "PyTuple_SetItem", "PyFloat_FromDouble",
    "PyLong_FromLongLong", "PyLong_AsLongLongAndOverflow", "PyComplex_FromDoubles", "PyErr_NoMemory",
    "PyEval_SaveThread", "PyEval_RestoreThread", "PyMem_RawMalloc", "PyMem_RawFree",
    "PyContextVar_Get", "PyErr_Clear", "PyErr_ExceptionMatches", "PyObject_GetAttr", "PyObject_RichCompareBool",
    "PyTuple_Size", "PyTuple_GetItem", "PyList_New", "PyList_Size", "PyList_GetItem", "PyList_SetItem",
    "PyDict_Copy", "PyDict_Size", "PyDict_GetItemWithError", "PyDict_Next", "PyDict_SetItem",
)  # fmt: skip
NUMPY = ("PyArray_NewFromDescr", "PyArray_Scalar", "PyDataMem_SetHandler")
OURS = ("ndarray", "bool", "True", "dict", "list", "MISS", "StoppedError", "truths", "spare")
TABLE = PYTHON + NUMPY + OURS

# how the arena of a program is aligned
ALIGNMENT = 64
# the places of the functions in NumPy's own table, which is a part of its binary interface
NUMPY_PLACES = {"PyArray_NewFromDescr": 94, "PyArray_Scalar": 60, "PyDataMem_SetHandler": 304}

# Where in an object the fields stand: in any object, in an array, in a float, a complex and a NumPy scalar.
TYPE_OF_OBJECT = 8
ARRAY_FIELDS = {"data": 16, "nd": 24, "dimensions": 32, "descr": 56, "flags": 64}
VALUE_OF_SCALAR = 16
# flags of an array
CONTIGUOUS, ALIGNED, WRITEABLE = 0x1, 0x100, 0x400


@cache
def layout_is_known() -> bool:
    """True if objects look as the entry takes them to, which is tried out on some."""
    if sys.implementation.name != "cpython" or sys.byteorder != "little" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    x = np.arange(24.0).reshape(2, 3, 4)[:, ::2]
    if any(_word(y, TYPE_OF_OBJECT) != id(type(y)) for y in (x, 1.5, 1.5j, 1, True)):
        return False
    at = ARRAY_FIELDS
    flags = CONTIGUOUS * x.flags.c_contiguous | ALIGNED * x.flags.aligned | WRITEABLE * x.flags.writeable
    words = [_word(x, at[name]) for name in ("data", "descr")]
    halves = [_word(x, at[name]) & 0xFFFFFFFF for name in ("nd", "flags")]
    known = flags | (halves[1] & ~(CONTIGUOUS | ALIGNED | WRITEABLE))
    if words != [x.ctypes.data, id(x.dtype)] or halves != [x.ndim, known]:
        return False
    shape = (ctypes.c_int64 * x.ndim).from_address(_word(x, at["dimensions"]))
    return tuple(shape) == x.shape and _value(1.5, np.dtype(float)) and _value(1.5j, np.dtype(complex))


def _word(x: Any, offset: int) -> int:
    return int.from_bytes(ctypes.string_at(id(x) + offset, 8), "little")


def _value(x: Any, dtype: DType) -> bool:
    there = ctypes.string_at(id(x) + VALUE_OF_SCALAR, dtype.itemsize)
    return x.__sizeof__() >= VALUE_OF_SCALAR + dtype.itemsize and there == np.array(x, dtype).tobytes()


@cache
def value_is_known(dtype: DType) -> bool:
    """True if the value of a scalar of this dtype stands in the object where the entry looks for it."""
    return _value(dtype.type(1), dtype) and _value(dtype.type(0), dtype)
