"""Calls that go to machine code directly: they do what the function does, and step back where they cannot."""

from __future__ import annotations

import contextvars
import dataclasses
import enum
import functools
import gc
import os
import sys
import threading
import tracemalloc
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.compiler.native.dispatch import runtime
from funcgrad.compiler.native.dispatch.layout import layout_is_known
from funcgrad.core import config
from tests.jitted import MATRIX, VECTOR, Counted, Function, Layer, Model, Pair, W, loss, same

pytestmark = pytest.mark.skipif(not layout_is_known(), reason="there are no gates on this Python")


@pytest.fixture(autouse=True)
def calls_are_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that is to be checked does not go through a gate."""
    monkeypatch.setattr(config, "CHECK", False)


def passed(f: Any) -> int:
    """How many calls went through gates."""
    count: int = f._cache.gates.clock[0]
    return count


def opened(f: Function, *args: Any, **kwargs: Any) -> Any:
    """The function, jitted, with a gate for calls like this one."""
    jitted = fg.jit(f)
    for _ in range(2):
        jitted(*args, **kwargs)
    assert passed(jitted) == 0
    jitted(*args, **kwargs)
    assert passed(jitted) == 1
    return jitted


@dataclasses.dataclass
class Net:
    layers: Any
    scale: Any = 1.0
    name: str = dataclasses.field(default="tanh", metadata={"static": True})
    size: Any = dataclasses.field(default=3, metadata={"static": True})


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


# ── what is called

CALLS: dict[str, tuple[Function, tuple[Any, ...], dict[str, Any]]] = {
    "array": (lambda x: x + 1, (VECTOR,), {}),
    "number": (lambda x: x * 2 + 1, (1.5,), {}),
    "whole number": (lambda n: n * 2, (2**40,), {}),
    "truth": (lambda b, x: np.where(b, x, -x), (np.True_, VECTOR), {}),
    "no axes": (lambda x: x * 2, (np.array(1.5),), {}),
    "scalar of NumPy": (lambda x: x * 2, (np.float32(1.5),), {}),
    "several": (lambda a, b, c, d: a + b * c - d, (VECTOR, 2.0, VECTOR, np.float64(3)), {}),
    "by name": (lambda a, b: a - b, (), {"a": VECTOR, "b": 2.0}),
    "by name, the other way round": (lambda a, b: a - b, (), {"b": 2.0, "a": VECTOR}),
    "by position and by name": (lambda a, b, c: a - b + c, (VECTOR,), {"c": 2.0, "b": 1.0}),
    "dict": (lambda p: p["b"] - p["a"], ({"b": VECTOR, "a": 2.0},), {}),
    "keys of two types": (lambda p: p[1] - p["a"], ({"a": VECTOR, 1: 2.0},), {}),
    "nested": (lambda p, x: p[0]["w"] @ x + p[1][0][0], (({"w": MATRIX}, [(1.0,)]), VECTOR), {}),
    "nothing": (lambda p, x: x + p["a"], ({"a": 1.0, "b": None, "c": [], "d": {}, "e": ()}, VECTOR), {}),
    "namedtuple": (lambda p: p.a - p.b, (Pair(VECTOR, 2.0),), {}),
    "dataclass": (lambda m, x: m.scale * (m.layers[0] @ x), (Net([MATRIX], 2.0), VECTOR), {}),
    "gradient": (fg.grad(loss), (W, MATRIX), {}),
    "many": (lambda *xs: sum(xs), (VECTOR,) * 300, {}),
    "large": (lambda x: fnp.sum(x * x), (np.ones((300, 300)),), {}),
    "to a tuple": (lambda x: (-x, 2 * x), (VECTOR,), {}),
    "to a list": (lambda x: [2 * x, [x + 1]], (VECTOR,), {}),
    "to a dict": (lambda x: {"b": 2 * x, "a": (x + 1, None, {}), 3: [x.sum()]}, (VECTOR,), {}),
    "to a namedtuple": (lambda x: Pair(x + 1, x * 2), (VECTOR,), {}),
    "to a dataclass": (lambda x: Layer(x + 1, "relu"), (VECTOR,), {}),
    "to an ordered dict": (lambda x: OrderedDict(b=x + 1, a=x * 2), (VECTOR,), {}),
    "to numbers": (lambda x, n, y: (x * 2, n + 1, y > 1.0), (1.5, 3, np.float32(2)), {}),
    "from dict to dict": (
        lambda p: {k: 2 * x for k, x in p.items()},
        ({f"k{i}": np.full(3, float(i)) for i in range(100)},),
        {},
    ),
}


@pytest.mark.parametrize(("f", "args", "kwargs"), CALLS.values(), ids=CALLS)
def test_a_gate_does_what_the_function_does(f: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    jitted = opened(f, *args, **kwargs)
    for _ in range(3):
        same(jitted(*args, **kwargs), f(*args, **kwargs))
    assert passed(jitted) == 4
    assert jitted.cache_info() == (5, 1, 256, 1)


def test_a_dict_comes_back_in_its_own_order() -> None:
    f = opened(lambda x: {"z": x + 1, "a": x * 2, "m": {"y": x - 1, "b": -x}}, VECTOR)
    assert list(f(VECTOR)) == ["z", "a", "m"] and list(f(VECTOR)["m"]) == ["y", "b"]


def test_results_are_arrays_of_their_own_in_containers_of_their_own() -> None:
    f = opened(lambda x: {"a": [x + 1], "b": x * 2}, VECTOR)
    first, second = f(VECTOR), f(VECTOR)
    first["a"].append(None)
    first["b"][:] = 0
    first["c"] = 1
    same(second, {"a": [VECTOR + 1], "b": VECTOR * 2})
    same(f(VECTOR), second)


def test_a_program_that_needs_python_has_no_gate() -> None:
    f = fg.jit(lambda x: (np.linalg.svd(x, compute_uv=False), x))
    for _ in range(4):
        same(f(MATRIX), (np.linalg.svd(MATRIX, compute_uv=False), MATRIX))
    assert passed(f) == 0 and f.cache_info() == (3, 1, 256, 1)


# ── arguments that are not as they were


class Sub(np.ndarray[Any, Any]):
    pass


def strange(x: Any, folder: Path) -> Iterator[tuple[str, Any]]:
    """The same numbers in other guises."""
    yield "number of an array", x.tolist()[0]
    kept = np.memmap(folder / "x", x.dtype, "w+", shape=x.shape)
    kept[:] = x
    yield "memmap", kept
    yield "strided", np.repeat(x, 2)[::2]
    yield "reversed", x[::-1].copy()[::-1]
    yield "byte-swapped", x.astype(x.dtype.newbyteorder())
    raw = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype)
    raw[:] = x
    yield "unaligned", raw
    fixed = x.copy()
    fixed.flags.writeable = False
    yield "read-only", fixed
    yield "broadcast", np.broadcast_to(x[:1], x.shape)
    yield "narrow", x.astype(np.float32)
    yield "whole", x.astype(np.int64)
    yield "truths", x > 1
    yield "complex", x + 1j
    yield "empty", x[:0]
    yield "longer", np.concatenate([x, x])
    yield "two axes", x[None]
    yield "number", 2.0
    yield "whole number", 2
    yield "large number", 2**60
    yield "scalar", x[0]
    yield "truth", True
    yield "not a number", np.full(3, np.nan)


def test_arguments_of_every_kind_find_their_way(tmp_path: Path) -> None:
    def f(x: Any) -> Any:
        return x * 2 + x

    jitted = opened(f, VECTOR)
    in_dict = opened(lambda p: f(p["x"]), {"x": VECTOR})
    by_name = opened(f, x=VECTOR)
    for name, x in [*strange(VECTOR, tmp_path), ("array", VECTOR)]:
        for _ in range(2):
            for y in jitted(x), in_dict({"x": x}), by_name(x=x):
                expected = f(np.asarray(x) if isinstance(x, np.ndarray) else x)
                np.testing.assert_allclose(y, expected, 1e-6, err_msg=name)
                assert np.asarray(y).dtype == np.asarray(expected).dtype.newbyteorder("="), name
    assert jitted.cache_info().hits == in_dict.cache_info().hits == by_name.cache_info().hits


def test_numbers_that_are_too_large_are_refused_as_before() -> None:
    f = opened(lambda n: n + 1, 5)
    assert f(2**63 - 2) == 2**63 - 1
    for _ in range(2):
        with pytest.raises(OverflowError):
            f(2**63)


def test_what_is_no_array_is_refused_as_before() -> None:
    f = opened(lambda x: x + 1, VECTOR)
    for wrong in ("text", object(), {1, 2}, None):
        with pytest.raises((fg.errors.DTypeError, fg.errors.TreeError, TypeError)):
            f(wrong)
    with pytest.raises(TypeError):
        f()
    with pytest.raises(TypeError):
        f(VECTOR, y=2)


def test_a_subclass_of_arrays_is_refused_as_before() -> None:
    f = opened(lambda x: x + 1, VECTOR)
    for _ in range(2):
        with pytest.raises(fg.errors.UnsupportedError, match="Sub"):
            f(VECTOR.view(Sub))


def test_traced_arguments_find_their_way() -> None:
    f = opened(lambda x: fnp.sum(x * x), VECTOR)
    np.testing.assert_allclose(fg.grad(f)(VECTOR), 2 * VECTOR)
    np.testing.assert_allclose(fg.vmap(f)(MATRIX), (MATRIX**2).sum(1))
    np.testing.assert_allclose(fg.jit(lambda x: f(x) + f(2 * x))(VECTOR), 5 * (VECTOR**2).sum())
    assert f(VECTOR) == (VECTOR**2).sum()


def test_containers_that_are_not_as_they_were() -> None:
    def f(p: Any) -> Any:
        return sum(np.sum(x) for x in fg.tree.leaves(p))

    first = {"a": VECTOR, "b": [1.0, (2.0, None)]}
    jitted = opened(f, first)
    others: list[Any] = [
        {"b": [1.0, (2.0, None)], "a": VECTOR},
        {"a": VECTOR},
        {"a": VECTOR, "c": [1.0, (2.0, None)]},
        {**first, "c": 1.0},
        {"a": VECTOR, "b": (1.0, (2.0, None))},
        {"a": VECTOR, "b": [1.0, [2.0, None]]},
        {"a": VECTOR, "b": [1.0, (2.0, 3.0)]},
        {"a": VECTOR, "b": [1.0, (2.0,)]},
        {"a": VECTOR, "b": [1.0, Pair(2.0, None)]},
        {"a": VECTOR, "b": [1.0, (2.0, None), 1.0]},
        {"a": None, "b": [1.0, (2.0, None)]},
        OrderedDict(first),
        [VECTOR],
        VECTOR,
    ]
    for p in others * 2:
        assert jitted(p) == f(p)
    assert jitted(first) == f(first)
    assert jitted.cache_info() == (2 + 1 + len(others) + 1, len(others), 256, len(others))


def test_attributes_are_looked_up_as_python_does() -> None:
    @dataclasses.dataclass
    class Odd:
        x: Any

        def __getattribute__(self, name: str) -> Any:
            value = object.__getattribute__(self, name)
            if name == "x" and broken:
                raise KeyError("broken")
            return value

    broken: list[int] = []
    f = opened(lambda m: m.x + 1, Odd(VECTOR))
    broken.append(1)
    with pytest.raises(KeyError, match="broken"):
        f(Odd(VECTOR))
    broken.clear()
    same(f(Odd(VECTOR)), VECTOR + 1)


# ── static values


@pytest.mark.parametrize(
    ("first", "others"),
    [
        (3, [4, 3.0, 1000, np.int64(3)]),
        (1000, [int("1000"), 1001, 1000.0]),
        (1, [True, 1.0, np.True_]),
        (0.0, [-0.0, 0, False]),
        (0.5, [float("0.5"), -0.5, np.float64(0.5)]),
        ("tanh", ["".join(["ta", "nh"]), "sin", None]),
        ((1, "a"), [(1, "".join("a")), (1.0, "a"), (True, "a"), (1,)]),
        (None, [False, 0]),
        (Colour.RED, [Colour.BLUE, 1]),
        (np.sin, [np.cos]),
        (float, [int, np.float64]),
    ],
    ids=str,
)
def test_static_values_are_told_apart(first: Any, others: list[Any]) -> None:
    seen = Counted(lambda x, s: x + len(repr(s)))
    f = fg.jit(seen.jitted.__wrapped__, static_argnums=1)
    by_name = fg.jit(lambda x, *, s: x + len(repr(s)), static_argnames="s")
    values = [first, first, first, *others, first, *others]
    for value in values:
        same(f(VECTOR, value), VECTOR + len(repr(value)))
        same(by_name(VECTOR, s=value), VECTOR + len(repr(value)))
    assert passed(f) >= 2 and passed(by_name) >= 2
    kinds = {(v.__class__, repr(v)) for v in values}
    assert seen.calls == len(kinds)
    assert f.cache_info()[:2] == by_name.cache_info()[:2] == (len(values) - len(kinds), len(kinds))


def test_a_static_value_that_changes_is_looked_at_each_time() -> None:
    class Setting:
        def __init__(self, n: int) -> None:
            self.n = n

        def __hash__(self) -> int:
            return hash(self.n)

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Setting) and self.n == other.n

    f = fg.jit(lambda x, s: x * s.n, static_argnums=1)
    s = Setting(2)
    for _ in range(3):
        same(f(VECTOR, s), VECTOR * 2)
    s.n = 5
    same(f(VECTOR, s), VECTOR * 5)


def test_static_fields_are_told_apart() -> None:
    def f(m: Any, x: Any) -> Any:
        return getattr(np, m.name)(x) * m.size

    jitted = opened(f, Net([], 1.0, "tanh", 2000), VECTOR)
    for net in (Net([], 1.0, "sin", 2000), Net([], 1.0, "tanh", int("2000")), Net([], 1.0, "tanh", 2.0)):
        same(jitted(net, VECTOR), f(net, VECTOR))
    assert jitted.cache_info().misses == 3


def test_static_arguments_in_any_form() -> None:
    def f(x: Any, n: int = 2, *, flip: bool = False) -> Any:
        return (-x if flip else x) * n

    jitted = fg.jit(f, static_argnames=("n", "flip"))
    for _ in range(4):
        for args, kwargs in [
            ((VECTOR,), {}),
            ((VECTOR, 2), {}),
            ((VECTOR, 3), {"flip": True}),
            ((VECTOR,), {"flip": True, "n": 3}),
            ((), {"n": 3, "x": VECTOR, "flip": True}),
        ]:
            same(jitted(*args, **kwargs), f(*args, **kwargs))
    assert jitted.cache_info() == (17, 3, 256, 3)
    assert passed(jitted) >= 8


# ── methods


def test_methods_go_through_gates() -> None:
    one, two = Model(VECTOR), Model(2 * VECTOR)
    Model.by_identity.clear_cache()
    for _ in range(4):
        same(one.by_identity(VECTOR), VECTOR**2)
        same(two.by_identity(VECTOR), 2 * VECTOR**2)
    assert passed(Model.by_identity) == 4
    layer = Net([MATRIX], 2.0)
    bound = fg.jit(lambda self, x: self.layers[0] @ x * self.scale).__get__(layer, Net)
    for _ in range(4):
        same(bound(VECTOR), MATRIX @ VECTOR * 2)
    assert bound.cache_info() == (3, 1, 256, 1) and passed(bound.__func__) == 2


# ── what it closes over


def test_closed_over_arrays_are_read_in_each_call() -> None:
    table, number = VECTOR.copy(), np.float64(2)
    f = opened(lambda x: x * number + table, VECTOR)
    table[0] = 500
    same(f(VECTOR), VECTOR * 2 + table)
    table.flags.writeable = False
    same(f(VECTOR), VECTOR * 2 + table)


def test_closed_over_arrays_of_another_layout_are_read_in_each_call() -> None:
    whole = np.arange(6.0)
    table = whole[::2]
    f = fg.jit(lambda x: x + table)
    for i in range(4):
        whole[:] += i
        same(f(VECTOR), VECTOR + whole[::2])


# ── being watched


def test_a_gate_is_closed_where_jit_is_disabled_and_where_somebody_watches() -> None:
    counted = Counted(lambda x: x / x)
    f = counted.jitted
    for _ in range(3):
        f(VECTOR)
    with fg.disable_jit():
        f(VECTOR)
        assert counted.calls == 2
        later = contextvars.copy_context()
    f(VECTOR)
    assert counted.calls == 2
    later.run(f, VECTOR)
    assert counted.calls == 3
    with fg.debug_nans(), pytest.raises(fg.errors.NaNError):
        f(np.zeros(3))
    assert np.isnan(f(np.zeros(3))).all()
    assert f.cache_info() == (5, 1, 256, 1)


# ── errors


def test_an_index_out_of_bounds_is_the_error_that_it_was() -> None:
    def f(x: Any, i: Any) -> Any:
        return x[i] * 2

    inside, outside = np.array([0, 2]), np.array([0, 3])
    jitted = opened(f, VECTOR, inside)
    fresh = fg.jit(f)
    for _ in range(3):
        messages = []
        for g in (jitted, fresh):
            with pytest.raises(IndexError) as caught:
                g(VECTOR, outside)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]
        same(jitted(VECTOR, inside), f(VECTOR, inside))


# ── the cache


def test_an_index_that_nobody_reads_raises_nothing() -> None:
    def f(x: Any, i: Any, read: bool) -> Any:
        y = x[i]
        return x + y if read else x + 1

    jitted = fg.jit(f, static_argnames="read")
    for _ in range(3):
        same(jitted(VECTOR, 7, False), VECTOR + 1)
        with pytest.raises(IndexError):
            jitted(VECTOR, 7, True)
    with pytest.raises(IndexError):
        f(VECTOR, 7, False)


def test_calls_through_gates_are_counted_and_keep_a_program_alive() -> None:
    counted = Counted(lambda x: x + 1)
    f = fg.jit(counted.jitted.__wrapped__, cache_size=2)
    x, y, z = np.ones(1), np.ones(2), np.ones(3)
    for _ in range(3):
        f(x)
    f(y)
    f(y)
    for _ in range(5):
        f(x)  # the last use of x is through its gate
    f(z)
    calls = counted.calls
    f(x)
    assert counted.calls == calls == 3
    f(y)
    assert counted.calls == 4
    assert f.cache_info() == (9, 4, 2, 2)


def test_a_program_that_was_forgotten_has_no_gate() -> None:
    counted = Counted(lambda x: x + 1)
    f = counted.jitted
    for _ in range(3):
        f(VECTOR)
    f.clear_cache()
    assert f.cache_info() == (0, 0, 256, 0) and passed(f) == 0
    for _ in range(3):
        same(f(VECTOR), VECTOR + 1)
    assert counted.calls == 2 and f.cache_info() == (2, 1, 256, 1) and passed(f) == 1


@pytest.mark.parametrize("count", [3, 8, 9, 18])
def test_any_number_of_signatures(count: int) -> None:
    f = fg.jit(lambda x: x + 1)
    for _ in range(6):
        for n in range(1, count + 1):
            same(f(np.ones(n)), np.full(n, 2.0))
    for _ in range(100):
        same(f(np.ones(1)), np.full(1, 2.0))
    assert f.cache_info().hits == 5 * count + 100
    assert passed(f) >= 80


def test_what_is_called_may_be_kept() -> None:
    f = opened(lambda x: x + 1, VECTOR)
    call, part = f.__call__, functools.partial(f, VECTOR)
    del f
    gc.collect()
    same(call(VECTOR), VECTOR + 1)
    same(call(np.ones(2)), np.ones(2) + 1)
    same(part(), VECTOR + 1)
    assert callable(part.func) and isinstance(part.func, type(fg.jit(loss)))


# ── memory


def test_a_function_with_gates_goes_away_with_what_it_closes_over() -> None:
    def use() -> list[weakref.ref[Any]]:
        w = np.ones(3)
        f = opened(lambda x, n: x * w, VECTOR, 2.0)
        f(np.ones((2, 3)), 2.0)
        f(np.ones((2, 3)), 2.0)
        return [weakref.ref(w), weakref.ref(f)]

    alive = use()
    gc.collect()
    assert [ref() for ref in alive] == [None, None]


def calls_leave_nothing(f: Callable[..., Any], *args: Any) -> None:
    things = [*fg.tree.leaves(args), *args, None, np.dtype(float), fg.jit, f]

    def counts(n: int) -> list[int]:
        for _ in range(n):
            f(*args)
        return [sys.getrefcount(x) for x in things]

    counts(200)
    gc.collect()
    tracemalloc.start()
    before, memory = counts(20), tracemalloc.get_traced_memory()[0]
    after, grown = counts(5_000), tracemalloc.get_traced_memory()[0] - memory
    tracemalloc.stop()
    assert max(abs(m - n) for m, n in zip(before, after, strict=True)) <= 5
    # less than any object for each call
    assert grown < 5_000 * 8


@pytest.mark.parametrize("name", ["nested", "dataclass", "to a dict", "to a list", "to a dataclass", "by name"])
def test_calls_leave_no_references(name: str) -> None:
    f, args, kwargs = CALLS[name]
    calls_leave_nothing(functools.partial(opened(f, *args, **kwargs), **kwargs), *args)


def test_calls_that_do_not_fit_leave_no_references() -> None:
    f = opened(lambda p, x: p["a"] + x, {"a": VECTOR, "b": [1.0]}, VECTOR)
    for args in (({"a": VECTOR, "b": [1]}, VECTOR), ({"a": VECTOR, "b": [1.0, 2.0]}, VECTOR)):
        f(*args)
        calls_leave_nothing(f, *args)


def test_large_pytrees_have_better_code_which_does_the_same() -> None:
    random = np.random.default_rng(0)
    p = {f"w{i}": random.standard_normal((3, 1 + i % 4)) for i in range(60)} | {"n": [2, {"x": 0.5}], "none": None}
    halved = lambda p: fg.tree.map(lambda x: x / 2, p)
    f = opened(halved, p)
    same(f(p), halved(p))
    calls_leave_nothing(f, p)
    for other in (p | {"w7": np.ones(7)}, p | {"n": [2.0, {"x": 0.5}]}, p | {"more": 1.0}):
        before = passed(f)
        same(f(other), halved(other))
        assert passed(f) == before
    calls_leave_nothing(f, {**p, "w7": p["w7"].T})
    assert runtime.gate_code(122) is not runtime.gate_code(2)


def test_errors_leave_no_references() -> None:
    f = opened(lambda p: p["x"][p["i"]], {"x": VECTOR, "i": 1})

    def fails(p: Any) -> None:
        with pytest.raises(IndexError):
            f(p)

    p = {"x": VECTOR.copy(), "i": 7}
    for _ in range(20):
        fails(p)
    gc.collect()
    before = sys.getrefcount(p["x"]), sys.getrefcount(p)
    for _ in range(100):
        fails(p)
    gc.collect()
    assert (sys.getrefcount(p["x"]), sys.getrefcount(p)) == before


# ── threads and processes


def test_threads_with_many_signatures_and_exact_counts() -> None:
    f = fg.jit(lambda p: {"y": p["x"] + 1})
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:

        def work(seed: int) -> bool:
            sizes = np.random.default_rng(seed).integers(1, 13, 300).tolist()
            return all(np.array_equal(f({"x": np.zeros(n)})["y"], np.ones(n)) for n in sizes)

        with ThreadPoolExecutor(6) as pool:
            assert all(pool.map(work, range(6)))
    finally:
        sys.setswitchinterval(before)
    info = f.cache_info()
    assert info.hits + info.misses == 1800 and info.misses == 12 and passed(f) > 300


@pytest.mark.filterwarnings("ignore::funcgrad.errors.RetraceWarning")
def test_programs_come_and_go_while_threads_call() -> None:
    f = fg.jit(lambda p: {"y": p["x"] + 1}, cache_size=3)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:

        def work(seed: int) -> bool:
            sizes = np.random.default_rng(seed).integers(1, 6, 60).tolist()
            for k, n in enumerate(sizes):
                if seed == 0 and k % 20 == 19:
                    f.clear_cache()
                for _ in range(5):
                    if not np.array_equal(f({"x": np.zeros(n)})["y"], np.ones(n)):
                        return False
            return True

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(work, range(4)))
    finally:
        sys.setswitchinterval(before)
    f.clear_cache()
    for n in (1, 2, 3) * 4:
        f({"x": np.zeros(n)})
    assert f.cache_info() == (9, 3, 3, 3) and passed(f) == 6


def test_arguments_stay_alive_while_another_thread_empties_the_container() -> None:
    n = 400
    f = opened(lambda p: fnp.sum(fnp.tanh(p["x"]) * p["x"], 1), {"x": np.ones((n, n))})
    expected = f({"x": np.ones((n, n))})
    p: dict[str, Any] = {}
    stop = threading.Event()

    def disturb() -> None:
        while not stop.is_set():
            p["x"] = np.ones((n, n))

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for _ in range(100):
            p["x"] = np.ones((n, n))
            np.testing.assert_array_equal(f(p), expected)
    finally:
        stop.set()
        thread.join()


def test_a_long_program_lets_other_threads_run() -> None:
    x = np.full((500, 500), 0.5)

    def long(x: Any) -> Any:
        for _ in range(60):
            x = fnp.sin(x) + x
        return x

    f = opened(long, x)
    # a thread that waits for the lock gets it in time only if it is given away
    before = sys.getswitchinterval()
    sys.setswitchinterval(100)
    ticks: list[bool] = []
    running, begin, done = threading.Event(), threading.Event(), threading.Event()

    def tick() -> None:
        running.set()
        begin.wait()
        ticks.append(done.is_set())

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        running.wait()
        begin.set()
        y = f(x)
        done.set()
    finally:
        sys.setswitchinterval(before)
        thread.join()
    assert ticks == [False]
    np.testing.assert_array_equal(y, f(x))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_process_calls_and_compiles() -> None:
    f = opened(lambda p, x: {"y": p["w"] * x}, {"w": VECTOR}, 2.0)
    large = opened(lambda x: fnp.tanh(x @ x).sum(), np.ones((100, 100)))
    expected = large(np.ones((100, 100)))
    for _ in range(3):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                same(f({"w": VECTOR}, 3.0), {"y": VECTOR * 3})
                same(f({"w": MATRIX}, 3.0), {"y": MATRIX * 3})
                np.testing.assert_allclose(large(np.ones((100, 100))), expected)
                same(opened(lambda x: x - 1, VECTOR)(VECTOR), VECTOR - 1)
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
