"""LLVM: text goes in, machine code comes out. No other module imports llvmlite; importing this one takes some 25 ms.

    text ──parse, emit──▶ object code ──link──▶ an address in this process
                              │
                        kept on disk (object_cache)

No pass over the text runs before code is generated from it, so the text has to be good as it stands.

Object code refers to nothing by address and may run in any process on the same kind of CPU. Each piece is linked into
a library of its own, and its memory is returned when the `Library` is no longer referred to.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, final

import llvmlite
import llvmlite.binding as binding

from funcgrad.compiler.native.machine import object_cache
from funcgrad.core import config

# Reentrant: a finalizer that unloads code may run at any time, also while this thread compiles.
lock = threading.RLock()
"""Held by whoever makes or loads code."""

# LLVM keeps some kilobytes of each library that a linker has made, and looks through all of them for each new one. So
# a linker makes so many, and goes with the last of them.
_LIBRARIES_PER_LINKER = 64
_numbers = itertools.count()
_current: list[Any] = []
_unloaded: deque[tuple[Any, Any]] = deque()

# A child process is left with the locks that other threads of its parent held, so none may be held then.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)

# Code may refer to its constants as near ones where the linker puts both into one block of memory. The linker that does
# so is not complete for Windows.
_NEAR = sys.platform != "win32"

# the first version that writes vectors of one number as `splat`
_OLDEST = 20
# Vectors that wait on the stack while a function is called are read back much more slowly if they are not aligned, and
# without a frame pointer LLVM does not align them.
ATTRIBUTES = '\nattributes #0 = { nounwind "frame-pointer"="all" }\n'
"""What functions have in common; it stands at the end of each module."""

# What LLVM does with good code that takes time and makes it no faster: look for better addresses within a loop, where
# a place in memory is written as x86 addresses it; order instructions a second time, which the processor does itself;
# look for repeated ones in other blocks.
_IN_VAIN = ("disable-lsr", "disable-post-ra", "disable-machine-cse")
# in characters; to set an option takes some 15 µs, which is saved only where there is more code than that
_SHORT = 2000
# Loops with more constants than there are registers gain nothing from loading them all before the loop, and it takes
# most of the time of a compilation, as it does in long programs. So it is left out where there are many different
# constants, or many uses of them.
_MANY_CONSTANTS, _MANY_USES = 40, 400
# The options are known to exist in these versions; LLVM ends the process at an option that it does not know.
_WITH_OPTIONS = range(20, 23)
_CONSTANT = re.compile(r"splat \([^)]*\)")


@final
@dataclass(frozen=True, slots=True)
class Host:
    """The machine that code is generated for.

    Attributes:
        cpu: Its name, as LLVM calls it.
        features: What its instruction set has and lacks, as LLVM writes it.
        vector_bytes: The size of a vector register.
        has_fma: True if `x·y + z` rounded once is one instruction.
        has_half: True if there are instructions that convert half precision; LLVM would call functions of its own.
    """

    cpu: str
    features: str
    vector_bytes: int
    has_fma: bool
    has_half: bool


@final
class Library:
    """Machine code in memory, until nobody refers to it.

    Attributes:
        address: Where the function begins.
    """

    __slots__ = ("_code", "address")

    def __init__(self, address: int, code: tuple[Any, Any]) -> None:
        self.address = address
        self._code = code

    def __del__(self, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # at the end of the process, globals are gone, and memory goes anyway
        if finalizing():
            return
        _unloaded.append(self._code)
        del self._code
        # A finalizer must not wait for a compilation in another thread, which may wait for what this thread holds.
        if lock.acquire(blocking=False):
            try:
                _unload()
            finally:
                lock.release()


def _unload() -> None:
    while _unloaded:
        # the code first, then perhaps the linker that made it
        tracker, linker = _unloaded.popleft()
        tracker.close()
        del linker


@cache
def host() -> Host:
    """The machine that this process runs on."""
    known = binding.get_host_cpu_features()
    # 64-bit ARM has 128-bit vectors and fused multiplication from the start, and no names for them here
    arm = binding.get_process_triple().startswith(("aarch64", "arm64"))
    wide = all(known.get(name, False) for name in ("avx512f", "avx512vl", "avx512bw", "avx512dq"))
    vector_bytes = 64 if wide else 32 if known.get("avx2", False) else 16
    has_fma, has_half = (arm or known.get(name, False) for name in ("fma", "f16c"))
    return Host(binding.get_host_cpu_name(), known.flatten(), vector_bytes, has_fma, has_half)


def initialize() -> None:
    """Make ready.

    Raises:
        OSError: The system does not allow a process to make code, or LLVM is too old.
    """
    with lock:
        _machine(2)


def object_code(text: str, level: int = 2) -> bytes:
    """The machine code of a module: from the cache on disk if that has it, else compiled."""
    if not config.CACHE:
        return compile_text(text, level)
    key = object_cache.key(text, str(level), _fingerprint())
    found = object_cache.load(key)
    if found is None:
        found = compile_text(text, level)
        object_cache.store(key, found)
    return found


def compile_text(text: str, level: int = 2) -> bytes:
    """Compile a module to position-independent object code.

    Args:
        text: The module.
        level: 2 to generate good code; 0 to generate it in a small part of the time.
    """
    with lock:
        machine = _machine(level)
        with _parsed(text) as module, _briefly(text):
            code: bytes = machine.emit_object(module)
    return code


def load(code: bytes, symbol: str, imports: Mapping[str, int] | None = None) -> Library:
    """Put object code into memory, ready to run.

    Args:
        code: What `compile_text` returned, in this process or in another one.
        symbol: The function whose address is wanted.
        imports: Functions that the code calls by name, by address.
    """
    with lock:
        _unload()
        number = next(_numbers)
        if number % _LIBRARIES_PER_LINKER == 0:
            _current[:] = [binding.create_lljit_compiler(_machine(2), use_jit_link=_NEAR)]
        (linker,) = _current
        builder = binding.JITLibraryBuilder()
        builder.add_object_img(code).add_current_process().export_symbol(symbol)
        for name, address in (imports or {}).items():
            builder.import_symbol(name, address)
        tracker = builder.link(linker, f"funcgrad{number}")
        return Library(tracker[symbol], (tracker, linker))


def load_text(text: str, symbol: str, level: int = 2, imports: Mapping[str, int] | None = None) -> Library:
    """Compile a module, or find it compiled, and put it into memory."""
    try:
        return load(object_code(text, level), symbol, imports)
    except RuntimeError:
        # what was found on disk can't be linked; an error in the text itself is raised again here
        return load(compile_text(text, level), symbol, imports)


def assembly(text: str) -> str:
    """The machine code of a module, as assembly language."""
    with lock:
        machine = _machine(2)
        with _parsed(text) as module, _briefly(text):
            return str(machine.emit_assembly(module))


@cache
def _fingerprint() -> str:
    """What object code depends on besides the text."""
    at = host()
    llvm = ".".join(map(str, binding.llvm_version_info))
    how = " ".join([ATTRIBUTES, *_always(), "near" if _NEAR else ""])
    return "\n".join([binding.get_process_triple(), at.cpu, at.features, llvmlite.__version__, llvm, how])


@cache
def _target() -> Any:
    if binding.llvm_version_info[0] < _OLDEST:
        raise OSError(f"version {llvmlite.__version__} has LLVM {binding.llvm_version_info[0]}, {_OLDEST} is needed")
    binding.check_jit_execution()
    # newer versions initialize themselves, and say so by an error
    with suppress(RuntimeError):
        binding.initialize()
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding.Target.from_default_triple()


@cache
def _machine(level: int) -> Any:
    at = host()
    model = "small" if _NEAR else "jitdefault"
    return _target().create_target_machine(cpu=at.cpu, features=at.features, opt=level, reloc="pic", codemodel=model)


@contextmanager
def _parsed(text: str) -> Iterator[Any]:
    # The module is in a context of its own: what is left of it, types and constants, goes when the context does. Both
    # are closed here, while the lock is held, and not when the last reference happens to go.
    context = binding.create_context()
    try:
        module = binding.parse_assembly(text + ATTRIBUTES, context)
        try:
            if config.CHECK:
                module.verify()
            yield module
        finally:
            module.close()
    finally:
        context.close()


@cache
def _always() -> tuple[str, ...]:
    x86 = binding.get_process_triple().startswith("x86_64")
    return _IN_VAIN if x86 and binding.llvm_version_info[0] in _WITH_OPTIONS else ()


@contextmanager
def _briefly(text: str) -> Iterator[None]:
    """Within, code is generated without what would not pay. Options are those of the process, so they are put back."""
    options = [*_always()] if len(text) > _SHORT else []
    uses = _CONSTANT.findall(text)
    many = len(uses) > _MANY_USES or len(set(uses)) > _MANY_CONSTANTS
    if many and binding.llvm_version_info[0] in _WITH_OPTIONS:
        options.append("disable-machine-licm")
    for name in options:
        binding.set_option("", f"-{name}=true")
    try:
        yield
    finally:
        for name in options:
            binding.set_option("", f"-{name}=false")
