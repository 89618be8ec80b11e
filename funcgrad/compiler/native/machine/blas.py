"""BLAS by address, for native code to call.

The library that NumPy has loaded comes first: it costs no import, and its threads are the same that NumPy's products
use. SciPy publishes the addresses of its own, which is the second choice, because importing it takes long.

Source: BLAS Technical Forum Standard (2001), section 2.8 (Fortran interface) and appendix D (C interface).
"""

from __future__ import annotations

import ctypes
import glob
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import final

import numpy as np

ROUTINES = tuple(kind + routine for routine in ("gemm", "gemv", "dot") for kind in "sd")

# what builds of OpenBLAS and others put before and after the names; 64 tells of the width of integers
_SPELLINGS = (("scipy_", "64_"), ("", "64_"), ("", "_64"), ("scipy_", ""), ("", ""))


@final
@dataclass(frozen=True, slots=True, eq=False)
class Blas:
    """A BLAS library.

    Attributes:
        interface: `cblas` (C: row-major possible, sizes by value) or `fortran` (column-major, all by reference).
        integers: The number of bits of its integers.
        addresses: The routines that it has, such as `dgemm`, by address.
        name: How its symbols are spelled, for code that is kept beyond this process.
    """

    interface: str
    integers: int
    addresses: dict[str, int] = field(default_factory=dict)
    name: str = ""
    _get_threads: Callable[[], int] | None = None
    _set_threads: Callable[[int], None] | None = None

    @property
    def key(self) -> str:
        """What code that was written for this library depends on."""
        return f"{self.interface}{self.integers}:{','.join(sorted(self.addresses))}"

    @property
    def threads(self) -> int | None:
        """How many threads it uses; None if it does not say."""
        return None if self._get_threads is None else int(self._get_threads())

    def set_threads(self, n: int) -> bool:
        """Let it use `n` threads, for NumPy too if it is NumPy's; False if it can't be told."""
        if self._set_threads is None:
            return False
        self._set_threads(n)
        return True


@cache
def find() -> Blas:
    """The library to use; one without routines if there is none."""
    for library in _loaded():
        found = _c_interface(library)
        if found is not None:
            return found
    return scipys() or Blas("none", 64)


def addresses() -> dict[str, int]:
    """The routines by address: `dgemm`, `sgemv`, `ddot` and so on."""
    return find().addresses


def threads() -> int | None:
    """How many threads BLAS uses; None if it does not say."""
    return find().threads


def set_threads(n: int) -> bool:
    """Let BLAS use `n` threads; False if it can't be told."""
    return find().set_threads(n)


def _loaded() -> Iterator[ctypes.CDLL]:
    """NumPy's extension module, through which the libraries that it needs are seen, then the libraries beside NumPy."""
    modules = map(sys.modules.get, ("numpy._core._multiarray_umath", "numpy.linalg._umath_linalg"))
    paths = [str(module.__file__) for module in modules if module is not None]
    root = os.path.dirname(os.path.dirname(np.__file__))
    for folder in ("numpy.libs", "numpy/.dylibs"):
        paths += sorted(glob.glob(os.path.join(root, folder, "*blas*")))
    for path in paths:
        try:
            yield ctypes.CDLL(path)
        except (OSError, TypeError):
            continue


def _c_interface(library: ctypes.CDLL) -> Blas | None:
    for before, after in _SPELLINGS:
        found = {name: _address(library, f"{before}cblas_{name}{after}") for name in ROUTINES}
        addresses = {name: address for name, address in found.items() if address is not None}
        if len(addresses) == len(ROUTINES):
            get, put = _thread_functions(library, before, after)
            name = f"{before}cblas_*{after}"
            return Blas("cblas", _integers(addresses["ddot"], False), addresses, name, get, put)
    return None


def _integers(ddot: int, by_reference: bool) -> int:
    """The width of a library's integers: in 32 bits the length given here is 2, in 64 bits it is negative."""
    xs = (ctypes.c_double * 2)(1.0, 1.0)
    integer = ctypes.POINTER(ctypes.c_int64) if by_reference else ctypes.c_int64
    length, step = ctypes.c_int64(2 - 2**32), ctypes.c_int64(1)
    types = (integer, ctypes.c_void_p, integer, ctypes.c_void_p, integer)
    dot = ctypes.CFUNCTYPE(ctypes.c_double, *types)(ddot)
    return 32 if dot(length, ctypes.addressof(xs), step, ctypes.addressof(xs), step) == 2.0 else 64


def _address(library: ctypes.CDLL, symbol: str) -> int | None:
    try:
        return ctypes.cast(getattr(library, symbol), ctypes.c_void_p).value
    except AttributeError:
        return None


def _thread_functions(
    library: ctypes.CDLL, before: str, after: str
) -> tuple[Callable[[], int] | None, Callable[[int], None] | None]:
    if _address(library, f"{before}openblas_set_num_threads{after}") is None:
        return None, None
    get = getattr(library, f"{before}openblas_get_num_threads{after}")
    put = getattr(library, f"{before}openblas_set_num_threads{after}")
    get.restype, get.argtypes = ctypes.c_int, ()
    put.restype, put.argtypes = None, (ctypes.c_int,)
    return get, put


def scipys() -> Blas | None:
    """The library that SciPy was built with, by the addresses that it publishes for Cython."""
    if sys.byteorder != "little":
        # the width of its integers can't be told
        return None
    try:
        from scipy.linalg import cython_blas
    except ImportError:
        return None
    capsules = cython_blas.__pyx_capi__
    api = ctypes.pythonapi
    name_of, pointer_of = api.PyCapsule_GetName, api.PyCapsule_GetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, (ctypes.py_object,)
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    found = {}
    for name in ROUTINES:
        capsule = capsules.get(name)
        if capsule is None:
            return None
        found[name] = pointer_of(capsule, name_of(capsule))
    return Blas("fortran", _integers(found["ddot"], True), found, "cython_blas")
