"""The engine: a compiled program computes what its jaxpr says, and keeps the contract of memory.

Inputs that were not given away stay as they are, outputs belong to the caller, buffers that nobody needs are written
into, and what fails names the user's line.
"""

from __future__ import annotations

import gc
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.compiler.engine import Executable, cached_executable, executable
from funcgrad.core import config
from funcgrad.core.errors import InternalError
from funcgrad.core.ir import Equation, Jaxpr, Literal, evaluate
from funcgrad.core.kinds import IndexMap, Library
from funcgrad.core.trace import Var
from funcgrad.core.types import ArrayType, Typed
from funcgrad.extend import unary
from tests.cases import CASES
from tests.programs import RandomProgram, assert_same_bits, inputs, programs

F64 = np.dtype(float)


@pytest.fixture(autouse=True, scope="module")
def _without_machine_code() -> Iterator[None]:
    """What holds of programs that NumPy runs; those that are machine code have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "NATIVE", False)
        yield


X = np.array([1.0, 2.0, 3.0])


def lifted(f: Callable[..., Any], *args: Any) -> tuple[Jaxpr, list[Any]]:
    """The program of `f` with its constants as further inputs, and their values."""
    jaxpr = fg.make_jaxpr(f)(*args)
    variables = tuple(v for v, _ in jaxpr.constants)
    return Jaxpr((*jaxpr.inputs, *variables), (), jaxpr.equations, jaxpr.outputs), [x for _, x in jaxpr.constants]


def compiled(f: Callable[..., Any], *args: Any, owned: Sequence[int] = ()) -> Executable:
    jaxpr, constants = lifted(f, *args)
    assert not constants
    return executable(jaxpr, owned)


# ── laws


@settings(max_examples=150)
@given(program=programs(), seed=st.integers(0, 1000))
def test_a_compiled_program_computes_what_evaluation_does_bit_for_bit(program: RandomProgram, seed: int) -> None:
    args = inputs(seed)
    with np.errstate(all="ignore"):
        jaxpr, constants = lifted(program, *args)
        args += constants
        ys = executable(jaxpr)(*args)
        assert isinstance(ys, tuple)
        for a, b in zip(evaluate(jaxpr, args), ys, strict=True):
            assert_same_bits(a, b)


@settings(max_examples=150)
@given(program=programs(), seed=st.integers(0, 1000), owned=st.sets(st.integers(1, 6)))
def test_outputs_belong_to_the_caller_and_inputs_stay_as_they_are(
    program: RandomProgram, seed: int, owned: set[int]
) -> None:
    args = inputs(seed)
    with np.errstate(all="ignore"):
        jaxpr, constants = lifted(program, *args)
        args += constants
        expected = [np.array(y) for y in evaluate(jaxpr, args)]
        compiled = executable(jaxpr, sorted(owned))
        given_args = [x.copy() if isinstance(x, np.ndarray) else x for x in args]
        ys = compiled(*given_args)
    assert compiled.reused <= owned
    kept = [x for i, x in enumerate(given_args) if i not in compiled.reused and isinstance(x, np.ndarray)]
    arrays = [y for y in ys if isinstance(y, np.ndarray)]
    for place, y in enumerate(arrays):
        assert y.flags.writeable
        assert not any(np.may_share_memory(y, other) for other in [*kept, *arrays[:place]])
    for i, (before, after) in enumerate(zip(args, given_args, strict=True)):
        if i not in compiled.reused:
            assert_same_bits(before, after)
    for a, b in zip(expected, ys, strict=True):
        assert_same_bits(a, np.asarray(b))


@pytest.mark.parametrize("name", sorted(CASES))
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_primitive_that_says_its_results_are_fresh_shares_no_memory(name: str, data: st.DataObject) -> None:
    case = data.draw(CASES[name])
    primitive = case.primitive
    with np.errstate(all="ignore"):
        y = primitive.impl(*case.args)
    if not primitive.fresh:
        return
    for result in y if primitive.multiple else (y,):
        if isinstance(result, np.ndarray):
            assert result.flags.writeable
            assert not any(np.shares_memory(x, result) for x in case.args if isinstance(x, np.ndarray))


@pytest.mark.parametrize("name", sorted(CASES))
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_each_primitive_runs_compiled_and_leaves_its_inputs_alone(name: str, data: st.DataObject) -> None:
    case = data.draw(CASES[name])
    with np.errstate(all="ignore"):
        jaxpr, constants = lifted(case.primitive, *case.args)
        before = [np.array(x) for x in case.args]
        ys = executable(jaxpr)(*case.args, *constants)
        expected = evaluate(jaxpr, [*case.args, *constants])
        mine = [x.copy() if isinstance(x, np.ndarray) else x for x in case.args]
        in_place = executable(jaxpr, range(len(mine)))(*mine, *constants)
    for a, b, c in zip(expected, ys, in_place, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
        assert np.asarray(a).dtype == np.asarray(b).dtype == np.asarray(c).dtype
    for x, kept in zip(case.args, before, strict=True):
        np.testing.assert_array_equal(x, kept)
        assert not any(np.may_share_memory(x, y) for y in ys if isinstance(y, np.ndarray))


# ── the contract of memory


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x,
        lambda x: (x, x),
        lambda x: x.reshape(3, 1),
        lambda x: (x[1:], x[:-1]),
        lambda x: x[None].T,
        lambda x: np.flip(x),
        lambda x: fg.stop_gradient(x),
        lambda x: fnp.broadcast_to(x, (2000, 3)),
        lambda x: np.real(x),
        lambda x: (x + 1, x + 1),
        lambda x: [(y, y.reshape(3, 1), y[::-1]) for y in [x + 1]],
        lambda x: [(y[:1], y) for y in [x + 1]],
        lambda x: [(y.reshape(3, 1), y.reshape(1, 3)) for y in [x + 1]],
        lambda x: fg.stop_gradient(x + 1),
        lambda x: fnp.broadcast_to(x + 1, (2000, 3)),
    ],
)
def test_views_and_repeated_outputs_become_arrays_of_their_own(f: Callable[..., Any]) -> None:
    run = compiled(f, X)
    x = X.copy()
    ys = run(x)
    for i, y in enumerate(ys):
        assert y.flags.writeable
        assert not any(np.may_share_memory(y, other) for other in (x, *ys[:i]))
    expected = evaluate(run.jaxpr, [X])
    x[:] = 7
    for y, z in zip(ys, expected, strict=True):
        np.testing.assert_array_equal(y, z)


def test_a_small_view_does_not_keep_a_large_buffer() -> None:
    (y,) = compiled(lambda x: (x + 1)[:2], np.ones(1000))(np.ones(1000))
    assert y.base is None or y.base.size == 2


def test_an_output_that_is_a_whole_buffer_is_not_copied() -> None:
    run = compiled(lambda x: (x + 1).reshape(3, 1), X)
    (y,) = run(X)
    assert y.base is not None
    assert y.base.nbytes == y.nbytes


def test_numbers_are_returned_as_they_are() -> None:
    jaxpr = Jaxpr((), (), (), (Literal(2.0), Literal(np.float32(3)), Literal(True)))
    assert [type(y) for y in executable(jaxpr)()] == [float, np.float32, bool]
    (n,) = compiled(lambda n: n * 2, 3)(3)
    assert type(n) is int
    (y,) = compiled(lambda x: x * 2, np.float32(3))(np.float32(3))
    assert type(y) is np.float32


def test_python_numbers_stay_weak() -> None:
    run = compiled(lambda x: x * 2.5 + np.float32(1), np.float32([1, 2]))
    (y,) = run(np.float32([1, 2]))
    assert y.dtype == np.float32


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e400, 10**30, 1 + 2j, -0.0, np.float16(2), True])
def test_any_literal_can_be_written(value: Any) -> None:
    jaxpr = Jaxpr((), (), (), (Literal(value),))
    (y,) = executable(jaxpr)()
    assert type(y) is type(value)
    np.testing.assert_equal(y, value)
    if type(value) is not int:
        np.testing.assert_array_equal(compiled(lambda x: x + value, X)(X)[0], X + value)


def test_an_array_that_belongs_to_a_primitive_is_copied() -> None:
    @final
    @dataclass(frozen=True, eq=False)
    class Held(IndexMap):
        name: ClassVar[str] = "held"

        def out_type(self) -> ArrayType:
            return ArrayType((3,), F64)

        def impl(self) -> Any:
            return X

        vjp = batch = None  # type: ignore[assignment]

    y = Var((3,), F64)
    (value,) = executable(Jaxpr((), (), (Equation(Held(), (), (y,)),), (y,)))()
    assert not np.shares_memory(value, X)
    z = Var((3,), F64)
    negative = fg.make_jaxpr(lambda x: -x)(X).equations[0].primitive
    program = Jaxpr((), (), (Equation(Held(), (), (y,)), Equation(negative, (y,), (z,))), (z,))
    np.testing.assert_array_equal(executable(program)()[0], -X)
    write = fg.make_jaxpr(lambda x, v: x.at[0].set(v))(X, np.float64(1)).equations[0].primitive
    program = Jaxpr((), (), (Equation(Held(), (), (y,)), Equation(write, (y, Literal(np.float64(9))), (z,))), (z,))
    np.testing.assert_array_equal(executable(program)()[0], [9.0, 2.0, 3.0])
    np.testing.assert_array_equal(X, [1.0, 2.0, 3.0])


def test_an_operation_may_return_its_operand() -> None:
    @final
    @dataclass(frozen=True)
    class Itself(IndexMap):
        name: ClassVar[str] = "itself"

        def out_type(self, x: Typed) -> ArrayType:
            return ArrayType(x.shape, x.dtype)

        def impl(self, x: Any) -> Any:
            return x

        vjp = batch = None  # type: ignore[assignment]

    x = X.copy()
    y, z = compiled(lambda x: [Itself()(x), -Itself()(x + 1)], X)(x)
    np.testing.assert_array_equal(z, -X - 1)
    assert not np.shares_memory(x, y)


def test_an_operation_may_be_a_view_of_any_operand() -> None:
    @final
    @dataclass(frozen=True)
    class Second(IndexMap):
        name: ClassVar[str] = "second"

        def out_type(self, x1: Typed, x2: Typed) -> ArrayType:
            return ArrayType(x2.shape, x2.dtype)

        def impl(self, x1: Any, x2: Any) -> Any:
            return x2

        vjp = batch = None  # type: ignore[assignment]

    def f(x: Any) -> Any:
        y = x + 1
        z = Second()(x, y)
        return -y, z * 1.5

    for y, z in zip(compiled(f, X)(X), f(X), strict=True):
        np.testing.assert_array_equal(y, z)


def test_what_a_foreign_primitive_returns_is_not_taken_for_its_own() -> None:
    @final
    @dataclass(frozen=True)
    class Same(Library):
        name: ClassVar[str] = "same"

        def out_type(self, x: Typed) -> ArrayType:
            return ArrayType(x.shape, x.dtype)

        def impl(self, x: Any) -> Any:
            return x

        vjp = batch = None  # type: ignore[assignment]

    @final
    @dataclass(frozen=True)
    class Twins(Library):
        name: ClassVar[str] = "twins"
        multiple: ClassVar[bool] = True

        def out_type(self, x: Typed) -> tuple[ArrayType, ...]:
            return (ArrayType(x.shape, x.dtype),) * 2

        def impl(self, x: Any) -> Any:
            y = np.broadcast_to(np.float64(1), x.shape)
            z = x + 1
            return (y, y) if x[0] < 0 else (z, z)

        vjp = batch = None  # type: ignore[assignment]

    identity = unary("reversal", lambda x: x, lambda g: -g, dtype=lambda t: t.dtype)

    def f(x: Any) -> Any:
        a = Same()(x) + 1
        b = identity(x) * 2
        c, d = Twins()(x)
        e, h = Twins()(-x)
        p, q = Twins()(x - 9)
        return a, b, Same()(x), c * 2, d + 3, e + 1, h * 2, p, q

    x = X.copy()
    ys = compiled(f, X)(x)
    np.testing.assert_array_equal(x, X)
    one = np.ones(3)
    expected = [X + 1, X * 2, X, X * 2 + 2, X + 4, one * 2, one * 2, one, one]
    for i, (y, z) in enumerate(zip(ys, expected, strict=True)):
        np.testing.assert_array_equal(y, z)
        assert y.flags.writeable
        assert not any(np.shares_memory(y, other) for other in (x, *ys[:i]))


# ── reuse


def test_a_loop_of_writes_copies_once() -> None:
    n = 50

    def f(x: Any) -> Any:
        for i in range(n):
            x = x.at[i].set(2.0 * i)
        return x

    x = np.zeros(1_000_000)
    jaxpr, constants = lifted(f, x)
    run = executable(jaxpr)
    tracemalloc.start()
    (y,) = run(x, *constants)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * x.nbytes
    assert (x == 0).all()
    np.testing.assert_array_equal(y[:n], 2.0 * np.arange(n))
    assert run.as_text().count("scatter_set_into") == n - 1


def test_a_buffer_that_was_given_away_is_written_into() -> None:
    run = compiled(lambda x, i, v: x.at[i].set(v), X, 0, np.float64(1), owned=[0])
    assert run.reused == {0}
    x = X.copy()
    (y,) = run(x, 1, np.float64(9))
    assert y is x
    assert x[1] == 9


@pytest.mark.parametrize("method", ["set", "add", "multiply", "min", "max"])
@pytest.mark.parametrize("place", [0, slice(0, 2), [0, 0, 2]], ids=str)
def test_every_write_can_be_done_in_place(method: str, place: Any) -> None:
    def f(x: Any) -> Any:
        return getattr(fg.at(x)[place], method)(2.5)

    jaxpr, constants = lifted(f, X)
    run = executable(jaxpr, [0])
    x = X.copy()
    (y,) = run(x, *constants)
    assert y is x
    np.testing.assert_array_equal(y, f(X))


def test_an_input_that_was_given_away_may_be_handed_on() -> None:
    run = compiled(lambda x, y: (x, y), X, X, owned=[0])
    assert run.reused == {0}
    a, b = X.copy(), X.copy()
    y, z = run(a, b)
    assert y is a
    assert not np.shares_memory(z, b)


def test_an_input_that_was_given_away_but_is_only_read_is_not_reused() -> None:
    run = compiled(lambda x: (x @ x, x[:, None] * x), X, owned=[0])
    assert run.reused == frozenset()


@pytest.mark.parametrize(
    "f",
    [
        lambda x: [(y.at[0].set(9.0), y) for y in [x + 1]],
        lambda x: [(y.at[0].set(9.0), y.reshape(3, 1)) for y in [x + 1]],
        lambda x: [(z.at[0].set(9.0), y[1:]) for y in [x + 1] for z in [y[::-1]]],
        lambda x: [y.at[1:].set(y[:-1]) for y in [x + 1]],
        lambda x: [y.at[:-1].set(y[1:]) for y in [x + 1]],
        lambda x: [y.at[1:].add(y[:-1]) for y in [x + 1]],
        lambda x: [y.at[::-1].max(y) for y in [x + 1]],
        lambda x: [fg.at(y)[y.astype(int) - 2].set(y[::-1]) for y in [x + 1]],
        lambda x: [n.at[n].set(n[::-1]) for n in [x.astype(int) - 1]],
        lambda x: [n.at[n[:2]].add(n[1:]) for n in [x.astype(int) - 1]],
        lambda x: [fnp.broadcast_to(y, (3,)).at[0].set(9.0) for y in [(x + 1)[0]]],
        lambda x: [fnp.broadcast_to(y, (2000, 3)).at[0].set(9.0)[:2] for y in [x + 1]],
        lambda x: [fnp.broadcast_to(y, (2000, 3)) + 1.5 for y in [x + 1]],
        lambda x: [y + y[::-1] for y in [x + 1]],
        lambda x: [y * y for y in [x + 1]],
        lambda x: [y + fnp.sum(y) - y[::-1] * y for y in [x + 1]],
        lambda x: [fnp.outer(y, y) + y for y in [x + 1]],
        lambda x: [y > 2 for y in [x + 1]],
        lambda x: [np.where(y > 2, y, -y) for y in [x + 1]],
        lambda x: [fg.stop_gradient(y).at[0].set(9.0) for y in [x + 1]],
        lambda x: [fg.stop_gradient(y) + 1 for y in [x + 1]],
        lambda x: [m + m.T for m in [fnp.outer(x, x + 1)]],
        lambda x: [m.T.at[0].set(0.0) for m in [fnp.outer(x, x + 1)]],
        lambda x: [m.at[0].set(m[:, 0]) for m in [fnp.outer(x, x + 1)]],
        lambda x: [fg.stop_gradient(y)[:2] + (-y)[1:] for y in [x + 1]],
    ],
)
def test_what_is_still_needed_is_not_written_into(f: Callable[..., Any]) -> None:
    jaxpr, constants = lifted(f, X)
    expected = [np.array(y) for y in evaluate(jaxpr, [X, *constants])]
    for owned in ([], [0]):
        x = X.copy()
        ys = executable(jaxpr, owned)(x, *constants)
        for y, z in zip(ys, expected, strict=True):
            np.testing.assert_array_equal(y, z)
        if not owned:
            np.testing.assert_array_equal(x, X)


def test_an_operation_that_numpy_rounds_otherwise_is_not_done_in_place() -> None:
    assert "_into" not in compiled(lambda x: np.where(x > 0, x, 0.0) ** 2, X).as_text()


def test_a_write_into_a_read_only_buffer_is_a_copy() -> None:
    run = compiled(lambda x: x.at[0].set(x[1] * 9), X, owned=[0])
    x = X.copy()
    x.flags.writeable = False
    (y,) = run(x)
    assert x[0] == 1
    assert y[0] == 18


def test_a_length_that_is_not_known_is_not_reused() -> None:
    sin = fg.make_jaxpr(np.sin)(X).equations[0].primitive
    a, b, c = (Var((-1, 3), F64) for _ in range(3))
    jaxpr = Jaxpr((a,), (), (Equation(sin, (a,), (b,)), Equation(sin, (b,), (c,))), (c,))
    run = executable(jaxpr, [0])
    assert not run.reused
    assert "into" not in run.as_text()
    np.testing.assert_array_equal(run(np.ones((5, 3)))[0], np.sin(np.sin(np.ones((5, 3)))))


def test_a_chain_needs_the_memory_of_few_buffers() -> None:
    def f(x: Any) -> Any:
        for _ in range(20):
            x = np.tanh(x * 1.5 + 0.25) ** 2
        return x.sum()

    x = np.ones(500_000)
    run = compiled(f, x)
    tracemalloc.start()
    run(x)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.5 * x.nbytes


def test_values_that_nobody_reads_are_let_go_of_at_once() -> None:
    def f(x: Any) -> Any:
        for _ in range(20):
            q, _ = np.linalg.qr(x)
            x = fnp.reshape(q, x.shape) @ x
        return x

    x = np.eye(300)
    run = compiled(f, x)
    tracemalloc.start()
    run(x)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # LAPACK's own work is part of it
    assert peak < 10 * x.nbytes


# ── errors


def message_of(run: Executable, *args: Any, error: type[Exception]) -> str:
    with pytest.raises(error) as caught:
        run(*args)
    return "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])


def test_an_index_outside_its_axis_names_the_line_of_the_index() -> None:
    def f(x: Any, i: Any) -> Any:
        y = x * 2
        z = y[i]  # here
        return np.sin(z)

    text = message_of(compiled(f, X, 0), X, 5, error=fg.errors.OutOfBoundsError)
    assert "index 5 is out of bounds" in text
    assert "z = y[i]  # here" in text
    assert text.count("  at ") == 1
    assert "Fix:" in text


def test_a_write_outside_its_axis_names_its_line_even_in_place() -> None:
    run = compiled(lambda x, i: (x + 1).at[i].set(x[1]), X, 0)
    assert "_into" in run.as_text()
    assert ".at[i].set(x[1])" in message_of(run, X, 7, error=IndexError)


def test_a_singular_matrix_names_the_line_of_its_inverse() -> None:
    run = compiled(lambda a: np.linalg.inv(a) + 1, np.eye(2))
    text = message_of(run, np.ones((2, 2)), error=np.linalg.LinAlgError)
    assert "np.linalg.inv(a) + 1" in text


@final
@dataclass(frozen=True, slots=True)
class Callback(Library):
    """A function of the user's, called."""

    name: ClassVar[str] = "callback"
    f: Callable[..., Any]

    def out_type(self, x: Typed) -> ArrayType:
        return ArrayType(x.shape, x.dtype)

    def impl(self, x: Any) -> Any:
        return self.f(x)

    vjp = batch = None  # type: ignore[assignment]


@pytest.mark.parametrize("error", [ValueError("mine"), KeyError("mine"), fg.errors.ShapeError("mine", "none")])
def test_what_a_callback_raises_passes_unchanged(error: Exception) -> None:
    def fail(x: Any) -> Any:
        raise error

    before = str(error)
    with pytest.raises(type(error)) as caught:
        compiled(lambda x: Callback(fail)(x), X)(X)
    assert caught.value is error
    assert str(error) == before
    assert not hasattr(error, "__notes__")


def test_an_error_of_numpy_gets_a_note_with_the_line() -> None:
    run = compiled(lambda x: x / (x - 1), X)
    with np.errstate(divide="raise"):
        text = message_of(run, X, error=FloatingPointError)
    assert "at test_engine.py" in text
    assert "x / (x - 1)" in text


def test_an_error_within_a_program_is_explained_there() -> None:
    def inner(x: Any, i: Any) -> Any:
        return x[i]

    def outer(x: Any, i: Any) -> Any:
        return fg.lax.cond(i > 0, inner, lambda x, i: x[0], x, i)

    run = compiled(outer, X, 0)
    assert [equation.primitive.name for equation in run.jaxpr.equations][-1] == "cond"
    text = message_of(run, X, 9, error=IndexError)
    assert "return x[i]" in text
    assert text.count("  at ") == 1


def test_after_an_error_the_next_call_works() -> None:
    run = compiled(lambda x, i: x[i], X, 0)
    with pytest.raises(IndexError):
        run(X, 5)
    assert run(X, 1) == (2.0,)


def test_constants_are_refused() -> None:
    with pytest.raises(InternalError, match="no constants"):
        executable(fg.make_jaxpr(lambda x: x + X)(X))


# ── compiling


def test_a_program_is_compiled_once_for_all_threads() -> None:
    jaxpr, _ = lifted(lambda x: np.sin(x) + 1, X)
    found = []
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        found.append(cached_executable(jaxpr))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    assert cached_executable(jaxpr, [0]) is not found[0]
    assert cached_executable(jaxpr, [0]) is cached_executable(jaxpr, (0,))


def test_an_executable_lives_as_long_as_its_jaxpr() -> None:
    jaxpr, _ = lifted(lambda x: x, X)
    run = weakref.ref(cached_executable(jaxpr).run)
    assert run() is not None
    del jaxpr
    assert run() is None


def test_an_executable_is_no_cycle() -> None:
    gc.collect()
    gc.disable()
    try:
        run = compiled(lambda x: np.sin(x), X)
        function = weakref.ref(run.run)
        del run
        assert function() is None
    finally:
        gc.enable()


def test_equal_operations_share_a_name_and_others_do_not() -> None:
    text = compiled(lambda x: x.sum(axis=0) + np.sin(np.sin(x)).sum(axis=1), np.ones((3, 3))).as_text()
    assert "sum_1(" in text
    assert "sum_2(" in text
    assert "sin_1(" in text
    assert "sin_2(" not in text


def test_the_text_shows_each_equation() -> None:
    assert compiled(lambda x: np.sin(x + 1).T, np.ones((2, 3))).as_text() == "\n".join(
        [
            "def program(a):",
            "  b = add_1(a, 1); del a  # add",
            "  c = sin_into_1(b, b); del b  # sin",
            "  d = transpose_1(c); del c  # transpose[axes=(1, 0)]",
            "  return (tidy(d), )",
        ]
    )


def test_a_program_may_have_many_variables_whatever_their_names() -> None:
    def f(x: Any) -> Any:
        xs = [x * i for i in range(2, 1200)]
        return sum(xs)

    (y,) = compiled(f, X)(X)
    np.testing.assert_allclose(y, X * sum(range(2, 1200)))


def test_a_program_without_inputs_and_one_without_outputs() -> None:
    assert executable(Jaxpr((), (), (), ()))() == ()
    assert compiled(lambda x: [], X)(X) == ()


@pytest.mark.parametrize("native", [True, False])
def test_a_python_bool_computes_like_one_of_numpy(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    monkeypatch.setattr(config, "NATIVE", native)
    f = fg.jit(lambda b, x: (b + b, 2 * b, b / 2, x * (2 * b), ~b, b, b.real, b.imag))
    expected = (np.True_, np.int64(2), np.float64(0.5), np.full(2, 2.0), np.False_, *[np.True_] * 2, np.False_)
    for b in (True, np.True_):
        for y, z in zip(f(b, np.ones(2, np.float32)), expected, strict=True):
            assert type(y) is type(z) and y.dtype == z.dtype
            np.testing.assert_array_equal(y, z)
