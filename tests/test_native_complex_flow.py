"""Loops, branches and calls on complex numbers as machine code: the same as step by step, in one native function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import lax
from funcgrad.compiler.native import compile as native
from funcgrad.compiler.native.ir.steps import Branch, Call, Loop
from funcgrad.compiler.native.routine.flow import is_tiny
from tests.test_native_flow import agrees, compiled_steps

pytestmark = pytest.mark.skipif(not native.usable(), reason="no machine code here")
DTYPES = [np.complex64, np.complex128]
RTOL = {np.complex64: 2e-5, np.complex128: 1e-12}


def random(*shape: int, dtype: Any = np.complex128, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)


Z = random(12)
U = np.linalg.qr(random(12, 12))[0]


def energy(z: Any) -> Any:
    """A real function of complex numbers."""
    return fnp.sum(z.real**2 + z.imag * 0.5)


# ── what is carried


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 2, 3, 8])
@pytest.mark.parametrize("size", [1, 3, 40])
def test_carries_may_change_places(dtype: Any, size: int, n: int) -> None:
    x = random(size, dtype=dtype)

    def f(x: Any) -> Any:
        return lax.fori_loop(0, n, lambda i, c: (c[1], c[2], c[0] + c[1]), (x, x + 1, x * 2j))

    agrees(f, x, rtol=RTOL[dtype])


@pytest.mark.parametrize("size", [2, 40])
def test_a_carry_may_stay_as_it_is_become_a_number_or_begin_as_one(size: int) -> None:
    x = random(size)

    def f(x: Any) -> Any:
        step = lambda c, _: ((c[0], fnp.zeros_like(c[1]), c[0] + c[2], 2j, c[3] + c[4]), c[1])
        return lax.scan(step, (x, x + 1, x, 1 + 1j, 0.5j), None, 5)

    agrees(f, x)


def test_complex_and_real_carries_go_side_by_side() -> None:
    def step(c: Any, x: Any) -> Any:
        z, r, n = c
        return (z * np.exp(1j * r) + x.imag, abs(z), n + 1), (z.real, z * n)

    agrees(lambda z, xs: lax.scan(step, (z, fnp.ones(12), 0), xs), Z, random(5, 12))
    agrees(lambda z, xs: lax.scan(step, (z, 1.0, 0), xs), 1 + 1j, random(5))


def test_parts_may_be_all_that_a_loop_gives_or_gets() -> None:
    def from_parts(x: Any) -> Any:
        return lax.fori_loop(0, 4, lambda i, c: ((c[0] + 1j * c[1]) ** 2).imag * c, x)

    agrees(from_parts, np.linspace(0.1, 1.0, 12).reshape(2, 6))
    agrees(lambda z: lax.fori_loop(0, 4, lambda i, r: r + abs(z), fnp.zeros(12)), Z)
    agrees(lambda r: lax.fori_loop(0, 4, lambda i, z: z * 1j + r, 0j * r), Z.real.copy())


@pytest.mark.parametrize("dtype", DTYPES)
def test_elements_of_a_carry_are_written_in_place(dtype: Any) -> None:
    z = random(12, dtype=dtype)

    def f(x: Any) -> Any:
        return lax.fori_loop(1, 12, lambda i, c: fg.at(c)[i].set(0.5j * c[i - 1] + c[i]), x)

    before = z.copy()
    (loop,) = (s for s in compiled_steps(f, z) if isinstance(s, Loop))
    assert all(0 in s.domain or np.prod(s.domain) == 1 for s in loop.body.schedule.steps if hasattr(s, "domain"))
    agrees(f, z, rtol=RTOL[dtype])
    np.testing.assert_array_equal(z, before)


def test_what_is_read_after_an_element_was_written_is_what_was_there_before() -> None:
    def both(i: Any, c: Any) -> Any:
        new = fg.at(c)[i].set(10j)
        return new + c[i] + c

    def shifted(i: Any, c: Any) -> Any:
        return fg.at(c)[1:].set(c[:-1] * 1.5j)

    def twice(i: Any, c: Any) -> Any:
        return fg.at(fg.at(c)[i].add(1j))[0].set(c[i].imag)

    for step in (both, shifted, twice):
        agrees(lambda x, step=step: lax.fori_loop(0, 6, step, x), Z)
        # the gradient has arrays of its own, which stand between two segments
        agrees(fg.grad(lambda x, step=step: energy(lax.fori_loop(0, 6, step, x))), Z, kind=None)


def test_a_few_numbers_stay_in_registers() -> None:
    def escapes(c: Any) -> Any:
        more = lambda s: (s[0] < 200) & (abs(s[1]) < 2)
        return lax.while_loop(more, lambda s: (s[0] + 1, s[1] * s[1] + c), (0, 0j))

    (loop,) = (s for s in compiled_steps(escapes, 1j) if isinstance(s, Loop))
    assert is_tiny(loop)
    for c in (1j, 1 + 1j, -0.75 + 0.1j, 0.25 + 0j, np.complex64(0.3 + 0.5j)):
        agrees(escapes, c, rtol=1e-5)
    agrees(fg.vmap(escapes), random(30) / 2, rtol=1e-9)


def test_a_loop_may_hold_complex_arrays_of_its_own() -> None:
    a = np.array([1j, 2.0, 3.0 - 1j])
    agrees(lambda x: lax.fori_loop(0, 4, lambda i, c: c * a / 3 + a[::-1], x), Z[:3])
    agrees(fg.grad(lambda x: energy(lax.fori_loop(0, 4, lambda i, c: c * a / 3 + a[::-1], x))), Z[:3])


# ── how often, and on which slices


@pytest.mark.parametrize("n", [0, 1, 5])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("width", [2, 30])
def test_slices_are_read_and_results_are_stacked(n: int, reverse: bool, width: int) -> None:
    xs = random(n, width)

    def f(c: Any, xs: Any) -> Any:
        return lax.scan(lambda c, x: (c + x, c * x), c, xs, reverse=reverse)

    agrees(f, np.ones(width, complex), xs)
    agrees(lambda c, xs: f(c, np.conj(xs[::-1])), np.ones(width, complex), xs)
    agrees(lambda c, xs: f(c, xs.T), np.ones(width, complex), np.ascontiguousarray(xs.T))


@pytest.mark.parametrize("size", [1, 20])
@pytest.mark.parametrize("steps", [0, 1, 8, 9, 100])
def test_what_a_loop_of_unknown_length_saves_grows(size: int, steps: int) -> None:
    x = random(size)

    def f(x: Any, n: Any) -> Any:
        step = lambda c: (c[0] + 1, np.exp(-1j * abs(c[1])) + 0.1 * c[1] * c[1])
        return energy(lax.while_loop(lambda c: c[0] < n, step, (0, x))[1])

    agrees(fg.grad(f), x, steps, rtol=1e-9)


def test_a_condition_ends_a_loop() -> None:
    def f(x: Any, limit: Any) -> Any:
        return lax.while_loop(lambda c: abs(c[1]).sum() < limit, lambda c: (c[0] + 1, c[1] * 1.5j), (0, x))

    for limit in (-1.0, 10.0, 1e6):
        agrees(f, Z, limit)
        agrees(f, Z[:1], limit)


def test_loops_nest() -> None:
    def f(x: Any) -> Any:
        def outer(i: Any, c: Any) -> Any:
            inner = lax.fori_loop(0, i, lambda j, d: fg.at(d)[j].add(1j * c[i]), c)
            return lax.while_loop(lambda d: abs(d).sum() < 50.0, lambda d: d * (1 + 0.5j), inner)

        return lax.fori_loop(0, 5, outer, x)

    agrees(f, Z)
    agrees(fg.grad(lambda x: energy(f(x))), Z, rtol=1e-10)


# ── products


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [2, 12])
def test_a_state_evolves(dtype: Any, size: int) -> None:
    u, psi = (U[:size, :size] / 2).astype(dtype), Z[:size].astype(dtype)

    def f(u: Any, psi: Any) -> Any:
        return lax.scan(lambda p, _: (u @ p, abs(p[0]) ** 2), psi, None, 10)

    def loss(u: Any, psi: Any) -> Any:
        last, seen = f(u, psi)
        return energy(last) + seen.sum()

    agrees(f, u, psi, rtol=RTOL[dtype])
    agrees(lambda u, p: lax.fori_loop(0, 5, lambda i, p: np.conj(u.T) @ p, p), u, psi, rtol=RTOL[dtype])
    agrees(lambda u, p: lax.fori_loop(0, 5, lambda i, p: u @ p @ np.conj(u.T), p), u, u, rtol=10 * RTOL[dtype])
    agrees(fg.value_and_grad(loss, (0, 1)), u, psi, rtol=10 * RTOL[dtype])


# ── branches and calls


@pytest.mark.parametrize("size", [1, 20])
def test_one_of_several_branches_runs(size: int) -> None:
    x = random(size)
    branches = [np.exp, lambda x: x, lambda x: x * np.arange(1.0, size + 1), lambda x: fnp.full(size, 2j), np.conj]

    def f(i: Any, x: Any) -> Any:
        return lax.switch(i, branches, x)

    for i in range(5):
        agrees(f, i, x, kind=Branch)
        agrees(fg.grad(lambda x, i: energy(f(i, x))), x, i, kind=Branch)
        agrees(lambda x, i: lax.fori_loop(0, 3, lambda k, c: f((i + k) % 5, c) / 2, x), x, i)


def test_a_branch_may_give_a_number() -> None:
    f = lambda b, z: lax.cond(b > 0, lambda z: (z * 1j, 1j), lambda z: (2j, z), z)
    agrees(f, 1.0, 1 + 2j, kind=Branch)
    agrees(f, -1.0, 1 + 2j, kind=Branch)


def test_a_checkpoint_is_called() -> None:
    f = fg.checkpoint(lambda z: np.exp(z * 1j) / (1 + abs(z)))
    agrees(fg.grad(lambda z: energy(f(f(z)))), Z, kind=Call)
    agrees(fg.grad(lambda z: energy(lax.fori_loop(0, 3, lambda i, c: f(c), z))), Z)


def test_what_two_calls_share_is_written_once() -> None:
    f = fg.checkpoint(lambda z: np.exp(z * 1j))
    steps = compiled_steps(fg.grad(lambda z: energy(f(f(f(z))))), Z)
    routines = [step.routine for step in steps if isinstance(step, Call)]
    assert len(set(routines)) < len(routines)


def test_a_batch_of_loops_is_machine_code_in_its_gradient_too() -> None:
    def root(a: Any) -> Any:
        more = lambda c: abs(c[0] * c[0] - c[1]) > 1e-10
        return lax.while_loop(more, lambda c: (0.5 * (c[0] + c[1] / c[0]), c[1]), (a, a))[0]

    a = np.array([0.5 + 1j, 2.0, 3.0 - 1j, 9j])
    agrees(fg.vmap(root), a)
    agrees(fg.vmap(fg.grad(lambda a: energy(root(a)))), a, rtol=1e-9)
    agrees(lambda x, y: fg.vmap(lambda a: lax.scan(lambda c, b: (c * b, c + b), a, y))(x), a, random(6))


def test_a_body_that_has_no_code_is_left_to_numpy() -> None:
    def f(z: Any) -> Any:
        return lax.fori_loop(0, 3, lambda i, c: fnp.cumprod(c * 0.5j) + 1, z)

    with fg.disable_jit():
        expected = f(Z)
    np.testing.assert_allclose(fg.jit(f)(Z), expected, rtol=1e-12)


def test_an_index_out_of_bounds_in_a_loop_is_told() -> None:
    f = fg.jit(lambda z, n: lax.fori_loop(0, n, lambda i, c: c + z[i], z))
    np.testing.assert_allclose(f(Z, 12), Z + Z.sum(), rtol=1e-13)
    with pytest.raises(IndexError, match="index 12 is out of bounds for axis 0 with size 12"):
        f(Z, 13)


# ── programs

STEPS: list[Callable[..., Any]] = [
    lambda z, r, i: z * z / (1 + abs(z)),
    lambda z, r, i: z[::-1] + 1j * r,
    lambda z, r, i: np.exp(1j * z.real) * r,
    lambda z, r, i: np.conj(z) / (2 + r * r),
    lambda z, r, i: U[:4, :4] @ z,
    lambda z, r, i: fg.at(z)[i % 4].set(z[0] * r[i % 4]),
    lambda z, r, i: fg.at(z)[1:3].add(z[i % 4]),
    lambda z, r, i: np.where(r > z.imag, z, 1j),
    lambda z, r, i: z.sum() / 4 + z,
    lambda z, r, i: np.concatenate([z[2:], z[:2] * 1j]),
]
Step = tuple[str, int, Any]


def run(program: Any, z: Any, r: Any, i: Any) -> Any:
    """A program's last value: each step is one of the above, or runs a program."""
    for kind, k, inner in program:
        z = NESTED[kind](z, r, i, k, inner) if inner else STEPS[k % len(STEPS)](z, r, i)
        r = z.real * 0.5 + z.imag * r * 0.1
    return z


def _scan(z: Any, r: Any, i: Any, k: int, inner: Any) -> Any:
    xs = fnp.stack([z, 1j * z, z + 1])
    c, ys = lax.scan(lambda c, x: (run(inner, c + x, x.imag, i), c * x), z, xs[: k % 4], reverse=k % 2 == 1)
    return (c + ys.sum(axis=0)) / (1 + abs(c))


def _while(z: Any, r: Any, i: Any, k: int, inner: Any) -> Any:
    more = lambda s: (s[0] < 3) & (abs(s[1]).sum() < 20 + k)
    return lax.while_loop(more, lambda s: (s[0] + 1, run(inner, s[1], r, s[0])), (k % 3, z))[1]


NESTED: dict[str, Callable[..., Any]] = {
    "scan": _scan,
    "while": _while,
    "fori": lambda z, r, i, k, inner: lax.fori_loop(0, k % 4, lambda n, c: run(inner, c, r, n), z),
    "cond": lambda z, r, i, k, inner: lax.cond(r[k % 4] > 0.2, lambda c: run(inner, c, r, i), lambda c: c * 1j, z),
    "checkpoint": lambda z, r, i, k, inner: fg.checkpoint(lambda c: run(inner, c, r, k))(z),
    "jit": lambda z, r, i, k, inner: fg.jit(lambda c, r: run(inner, c, r, k))(z, r),
    "vmap": lambda z, r, i, k, inner: fg.vmap(lambda c: run(inner, c * z, r, k))(r).sum(axis=k % 2) / 4,
    "grad": lambda z, r, i, k, inner: fg.grad(lambda c: energy(run(inner, c, r, k)))(z) / 4,
}
numbers = st.integers(0, 40)
flat = st.tuples(st.just(""), numbers, st.just(()))
nested = flat | st.tuples(st.sampled_from(sorted(NESTED)), numbers, st.lists(flat, min_size=1, max_size=2))
programs = st.lists(
    flat | st.tuples(st.sampled_from(sorted(NESTED)), numbers, st.lists(nested, min_size=1, max_size=2)),
    min_size=1,
    max_size=3,
)


@settings(max_examples=40, deadline=None)
@given(program=programs, seed=st.integers(0, 100))
def test_a_program_and_its_gradient_are_what_python_makes_of_them(program: Any, seed: int) -> None:
    z, r = random(4, seed=seed), np.linspace(-0.5, 1.0, 4)

    def f(z: Any, r: Any) -> Any:
        y = run(program, z, r, 1)
        return energy(y / (1 + abs(y)))

    g = fg.value_and_grad(f, (0, 1))
    with fg.disable_jit():
        expected = g(z, r)
    for transformed in (fg.jit(g), fg.value_and_grad(fg.jit(f), (0, 1))):
        for x, y in zip(fg.tree.leaves(transformed(z, r)), fg.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-7, atol=1e-8)
    batch = np.stack([z, 1j * z, z - 1])
    for x, y in zip(fg.jit(fg.vmap(f, (0, None)))(batch, r), [f(z, r) for z in batch], strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-7, atol=1e-8)
