"""Code for processors that the tests do not run on: LLVM takes it, and makes object code of it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import llvmlite.binding as binding
import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.compiler.native import compile as native
from funcgrad.compiler.native.dispatch import recycle
from funcgrad.compiler.native.dispatch.entry import entry_text
from funcgrad.compiler.native.dispatch.gate import gate_text
from funcgrad.compiler.native.ir.steps import Routine
from funcgrad.compiler.native.machine import llvm
from funcgrad.compiler.native.machine.pool import pool_text
from funcgrad.compiler.native.passes.fuse import fuse
from funcgrad.compiler.native.routine.program import ProgramWriter
from funcgrad.compiler.native.scalars import shared
from funcgrad.compiler.native.vectormath import FUNCTIONS
from funcgrad.core.ir import Jaxpr

# by architecture: a processor, and the bytes of its vectors
PROCESSORS = {
    "x86_64 before AVX": ("x86_64-unknown-linux-gnu", "x86-64", 16),
    "x86_64 with AVX2": ("x86_64-unknown-linux-gnu", "haswell", 32),
    "x86_64 with AVX-512": ("x86_64-unknown-linux-gnu", "skylake-avx512", 64),
    "64-bit ARM": ("aarch64-unknown-linux-gnu", "generic", 16),
    "Apple silicon": ("arm64-apple-macosx", "apple-m1", 16),
}
X, V = np.ones((40, 50)), np.ones(40)


def loop(x: Any) -> Any:
    """A loop with a branch, and its gradient."""
    step = lambda c, x: (fg.lax.cond(c[0] > 0, fnp.sin, fnp.tanh, c * x), c.sum())
    return fg.grad(lambda x: fg.lax.scan(step, x[0], x)[0].sum())(x)


PROGRAMS = {
    "elementwise": (lambda x: fnp.exp(x) * fnp.arctan2(x, 2 * x) + x**2.5, (X,)),
    "half precision": (lambda x: fnp.sqrt(x) * x, (X.astype("f2"),)),
    "integers": (lambda x: (x // 7, x % 3, abs(x), x * x, x.sum()), (X.astype("i1"),)),
    "folds": (lambda x: (fg.nn.softmax(x, axis=0), x.var(axis=1), x.argmax(axis=0)), (X,)),
    "large": (lambda x: (fnp.sum(x * x), x + x.T), (np.ones((2000, 2000)),)),
    "points": (lambda x: fnp.sum((x[:, None] - x[None]) ** 2, axis=2).sum(axis=0), (np.ones((30, 3)),)),
    "products": (lambda x, v: (x.T @ v, x @ x.T, fnp.einsum("ij,kj->ik", x[:5, :7], x[:3, :7])), (X, V)),
    "indices": (lambda x, v: fg.at(x)[v.astype(int)].add(x[v.astype(int) - 1]), (X, V)),
    "lines": (lambda x: (fnp.cumsum(x, axis=1), fnp.sort(x.ravel())), (np.ones((40, 100)),)),
    "complex": (lambda x: (x * x.conj() + 1j * x).sum(axis=0), (X.astype(complex),)),
    "loop": (loop, (X,)),
}


@contextmanager
def target(name: str) -> Iterator[tuple[Any, int]]:
    """A target machine, and the bytes of its vectors."""
    triple, cpu, vector_bytes = PROCESSORS[name]
    llvm.initialize()
    with llvm.lock:
        binding.initialize_all_targets()
        binding.initialize_all_asmprinters()
        try:
            found = binding.Target.from_triple(triple)
        except RuntimeError:
            pytest.skip(f"this LLVM has no {triple}")
        yield found.create_target_machine(cpu=cpu, opt=2, reloc="pic", codemodel="small"), vector_bytes


def check(machine: Any, text: str) -> None:
    """Prove that LLVM makes object code of a module."""
    context = binding.create_context()
    module = binding.parse_assembly(text + llvm.ATTRIBUTES, context)
    module.triple = machine.triple
    module.verify()
    assert len(machine.emit_object(module)) > 100
    module.close()
    context.close()


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_programs(program: str, processor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    f, args = PROGRAMS[program]
    segments: list[Jaxpr] = []

    def noted(jaxpr: Jaxpr) -> Any:
        segments.append(jaxpr)
        return fuse(jaxpr)

    monkeypatch.setattr(native, "fuse", noted)
    native.with_segments(fg.jit(f).trace(*args).jaxpr)
    assert segments
    with target(processor) as (machine, vector_bytes):
        for jaxpr in segments:
            check(machine, ProgramWriter(Routine(jaxpr, fuse(jaxpr)), vector_bytes, own=True).write())


@pytest.mark.parametrize("processor", PROCESSORS)
def test_what_all_programs_share(processor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: PROCESSORS[processor][0].partition("-")[0])
    with target(processor) as (machine, _):
        for text in (entry_text(), gate_text(), pool_text(), recycle.recycle_text()):
            check(machine, text)


@pytest.mark.parametrize("lanes", ["v4f32", "v2f64", "f32"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_elementary_functions(function: str, lanes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    operands = len(inspect.signature(FUNCTIONS[function]).parameters) - 1
    with target("64-bit ARM") as (machine, vector_bytes):
        monkeypatch.setattr(llvm, "host", lambda: llvm.Host("generic", "", vector_bytes, True, True))
        check(machine, shared.text_of(f"fg.{function}.{lanes}", operands))
