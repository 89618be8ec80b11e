"""jit: the same function, staged once for each signature, compiled, and run by its program from then on."""

from __future__ import annotations

import copy
import dataclasses
import functools
import gc
import inspect
import logging
import os
import pickle
import re
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.core.ir import Jaxpr, check

Function = Callable[..., Any]
VECTOR = np.array([1.0, 2.0, 3.0])
MATRIX = np.arange(6.0).reshape(2, 3)


class Counted:
    """A function that counts how often it runs."""

    def __init__(self, f: Function) -> None:
        self.calls = 0
        self.f = f

    @property
    def jitted(self) -> Any:
        def f(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return self.f(*args, **kwargs)

        return fg.jit(functools.wraps(self.f)(f))


class Pair(NamedTuple):
    a: Any
    b: Any


@dataclasses.dataclass
class Layer:
    weight: Any
    activation: str = dataclasses.field(default="tanh", metadata={"static": True})


def same(got: Any, expected: Any) -> None:
    """Equal in structure, in type, in dtype and in value."""
    leaves, structure = fg.tree.flatten(got)
    others, other_structure = fg.tree.flatten(expected)
    assert structure == other_structure
    for x, y in zip(leaves, others, strict=True):
        assert type(x) is type(y)
        np.testing.assert_allclose(x, y, rtol=1e-13, atol=1e-13, equal_nan=True)
        if isinstance(x, np.ndarray):
            assert x.dtype == y.dtype


# ── what it computes

FUNCTIONS: dict[str, Function] = {
    "polynomial": lambda x: 3 * x**2 - x + 1,
    "python numbers": lambda x: (x * 2, 3, 2.5, True, None, 1j),
    "elementwise": lambda x: fnp.sin(x) * fnp.exp(-fnp.abs(x)) / (1 + x**2),
    "comparison": lambda x: (x > 0, fnp.where(x > 0, x, -x)),
    "reductions": lambda x: (fnp.sum(x), fnp.max(x, initial=0), fnp.mean(x, axis=-1, keepdims=True)),
    "shapes": lambda x: fnp.concatenate([x.T.ravel(), x.reshape(-1)[::-1]]),
    "indices": lambda x: fg.at(x)[0].add(1),
    "casts": lambda x: (x.astype(np.float32) + 1, x.astype(int), x.astype(complex)),
    "containers": lambda x: {"a": [x, (x, x)], "b": Pair(x + 1, Layer(x, "relu"))},
    "an argument": lambda x: x,
    "numpy functions": lambda x: np.cumsum(np.tanh(x)) @ np.ones(np.size(x)),
    "nothing": lambda x: (),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=15)
@given(
    x=hnp.arrays(
        st.sampled_from([np.float64, np.float32, np.int64, np.int8, np.bool_]),
        hnp.array_shapes(min_dims=1, max_dims=2, max_side=3),
        elements=st.integers(0, 1),
    )
)
def test_a_jitted_function_is_the_function(name: str, x: Any) -> None:
    f = FUNCTIONS[name]
    if name in ("polynomial", "elementwise", "comparison") and x.dtype == bool:
        return  # NumPy has no minus for truth values
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.errors.RetraceWarning)
        same(fg.jit(f)(x), f(x))


@pytest.mark.parametrize(
    "name", [name for name in FUNCTIONS if name not in ("shapes", "casts", "indices", "reductions")]
)
@pytest.mark.parametrize("x", [2.0, 3, np.float32(0.5), np.float64(-1.5), np.array(2.0)])
def test_a_jitted_function_of_a_number_is_the_function(name: str, x: Any) -> None:
    f = FUNCTIONS[name]
    expected = f(x)
    if name == "comparison" and type(x) in (int, float):
        expected = (np.bool_(expected[0]), expected[1])  # Python's own comparison of Python numbers gives a bool
    same(fg.jit(f)(x), expected)


def test_arguments_come_in_any_way_that_python_passes_them() -> None:
    @fg.jit
    def f(a: Any, /, b: Any, *rest: Any, c: Any = 10.0, **more: Any) -> Any:
        return a + 2 * b + sum(rest) + c + sum(more.values())

    assert f(1.0, 2.0) == 15
    assert f(1.0, b=2.0) == 15
    assert f(1.0, 2.0, 3.0, 4.0, c=0.0, d=100.0) == 112
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'b'"):
        f(1.0)


def test_arguments_and_results_are_pytrees() -> None:
    f = fg.jit(lambda p, q: {"sum": p["w"] @ p["b"][0] + q.a, "layer": dataclasses.replace(q.b, weight=2 * q.b.weight)})
    out = f({"w": MATRIX, "b": (VECTOR, None)}, Pair(1.0, Layer(VECTOR, "relu")))
    np.testing.assert_array_equal(out["sum"], MATRIX @ VECTOR + 1)
    np.testing.assert_array_equal(out["layer"].weight, 2 * VECTOR)
    assert out["layer"].activation == "relu"


def test_what_numpy_takes_for_an_array_is_one() -> None:
    class Foreign:
        def __init__(self, x: Any) -> None:
            self.shape, self.dtype, self.x = x.shape, x.dtype, x

        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return self.x

    f = fg.jit(np.sin)
    np.testing.assert_array_equal(f(Foreign(VECTOR)), np.sin(VECTOR))
    np.testing.assert_array_equal(f(VECTOR), np.sin(VECTOR))
    assert f.cache_info().misses == 1
    with pytest.raises(fg.errors.UnsupportedError, match="a MaskedArray meets a traced value"):
        f(np.ma.array(VECTOR))


def test_a_program_does_not_warn() -> None:
    # a backward pass divides by zero where a mask says that it does not matter; warnings are errors in this test
    assert fg.jit(np.log)(np.zeros(2))[0] == -np.inf
    np.testing.assert_array_equal(fg.jit(fg.grad(lambda x: np.where(x > 0, np.log(x), 0.0).sum()))(np.zeros(2)), 0.0)
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        np.log(np.zeros(2))


# ── memory


@pytest.mark.parametrize(
    "f", [lambda x, w: x, lambda x, w: x[1:], lambda x, w: x.T, lambda x, w: w, lambda x, w: np.broadcast_to(x, (2, 3))]
)
def test_results_are_new_arrays_that_may_be_written_to(f: Function) -> None:
    x, w = VECTOR.copy(), VECTOR.copy()
    jitted = fg.jit(lambda x: f(x, w))
    for _ in range(2):
        y = jitted(x)
        assert not np.shares_memory(x, y)
        assert not np.shares_memory(w, y)
        y[...] = 0
    np.testing.assert_array_equal([x, w], [VECTOR, VECTOR])


def test_results_share_no_memory_with_each_other() -> None:
    a, b = fg.jit(lambda x: (x + 1,) * 2)(VECTOR)
    a[0] = 100
    assert b[0] == 2


def test_arguments_stay_as_they_are() -> None:
    x = VECTOR.copy()
    x.flags.writeable = False
    np.testing.assert_array_equal(fg.jit(lambda x: x.at[0].set(9.0) * x)(x), [9, 4, 9])
    np.testing.assert_array_equal(x, VECTOR)


# ── when a function is staged


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((VECTOR,), (VECTOR + 1,)),
        ((1.0,), (2.0,)),
        ((1,), (2,)),
        ((np.float64(1),), (np.array(1.0),)),
        ((True,), (np.True_,)),
        ((np.ones((3, 3)),), (np.ones((3, 6))[:, ::2].T,)),
        (([VECTOR, 1.0],), ([VECTOR, 2.0],)),
        (({"a": 1.0, "b": 2.0},), ({"b": 1.0, "a": 2.0},)),
        ((Layer(VECTOR),), (Layer(2 * VECTOR),)),
        ((None,), (None,)),
    ],
)
def test_a_call_with_arguments_like_earlier_ones_does_not_run_the_function(first: Any, second: Any) -> None:
    f = Counted(lambda x: fg.tree.map(lambda leaf: leaf + 0, x))
    jitted = f.jitted
    for args in (first, second, first):
        same(jitted(*args), f.f(*args))
    assert f.calls == 1
    assert jitted.cache_info()[:2] == (2, 1)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (VECTOR, np.ones(4)),
        (VECTOR, VECTOR.astype(np.float32)),
        (1.0, 1),
        (1, True),
        (1.0, np.float64(1)),
        (VECTOR, [VECTOR]),
        ([1.0], (1.0,)),
        ({"a": 1.0}, {"b": 1.0}),
        (Layer(1.0, "tanh"), Layer(1.0, "relu")),
        (Layer(1.0, 1), Layer(1.0, True)),  # type: ignore[arg-type]
        (1.0, None),
        (np.ones(2), np.ones(2, ">f8")),
    ],
)
def test_each_structure_shape_and_dtype_is_staged_once(first: Any, second: Any) -> None:
    f = Counted(lambda x: fg.tree.map(lambda leaf: leaf * 2, x))
    jitted = f.jitted
    for x in (first, second, first, second):
        same(jitted(x), f.f(x))
    assert f.calls == 2
    assert jitted.cache_info()[:2] == (2, 2)


def test_python_code_runs_while_staging_only() -> None:
    seen: list[Any] = []
    f = fg.jit(lambda x: (seen.append(x), x + 1)[1])
    assert f(1.0) == 2.0
    assert f(2.0) == 3.0
    assert len(seen) == 1
    with pytest.raises(fg.errors.LeakedTracerError, match=r"jit\(<lambda>\)"):
        seen[0] + 1


def test_an_exception_leaves_nothing_behind() -> None:
    fail = [True]

    @fg.jit
    def f(x: Any) -> Any:
        if fail[0]:
            raise KeyError("broken")
        return x + 1

    for _ in range(2):
        with pytest.raises(KeyError):
            f(1.0)
    assert f.cache_info() == (0, 0, 256, 0)
    fail[0] = False
    assert f(1.0) == 2.0
    assert f(1.0) == 2.0
    assert f.cache_info() == (1, 1, 256, 1)


# ── static arguments


def power(x: Any, n: int = 2, *, flip: bool = False) -> Any:
    """x to the n, by n multiplications."""
    y = x
    for _ in range(n - 1):
        y = y * x
    return -y if flip else y


@pytest.mark.parametrize(
    "options",
    [
        {"static_argnums": 1, "static_argnames": "flip"},
        {"static_argnums": (1,), "static_argnames": ["flip"]},
        {"static_argnums": -1, "static_argnames": ("flip",)},
        {"static_argnames": ("n", "flip")},
        {"static_argnums": 1, "static_argnames": ("n", "flip")},
    ],
)
def test_a_static_argument_may_be_chosen_and_passed_by_position_or_by_name(options: Any) -> None:
    f = Counted(power)
    jitted = fg.jit(f.jitted.__wrapped__, **options)
    assert jitted(2.0, 3) == 8
    assert jitted(2.0, n=3) == 8
    assert jitted(2.0, 3, flip=False) == 8
    assert jitted(3.0, flip=False, n=3) == 27
    assert f.calls == 1
    assert jitted(2.0, 2) == jitted(2.0) == jitted(2.0, n=2) == 4
    assert f.calls == 2
    assert jitted(2.0, 3, flip=True) == -8
    assert f.calls == 3


def test_static_values_are_told_apart_by_type() -> None:
    f = fg.jit(lambda x, c: x * c, static_argnums=1)
    x = np.arange(3)
    values = [1, True, 1.0, np.float32(1), np.int8(1), 1 + 0j, 0.0, -0.0]
    for _ in range(2):
        for c in values:
            same(f(x, c), x * c)
            assert (np.signbit(f(x, c)) == np.signbit(x * c)).all() if np.isrealobj(x * c) else True
    assert f.cache_info().misses == len(values)
    nested = fg.jit(lambda x, c: x * c[0][0], static_argnums=1)
    same(nested(x, ((1,),)), x)
    same(nested(x, ((1.0,),)), x * 1.0)
    f(x, float("nan"))
    f(x, float("nan"))
    assert f.cache_info().misses == len(values) + 1


def test_a_static_argument_may_be_any_hashable_value() -> None:
    f = fg.jit(lambda g, x, s: g(x) if s == "go" else x, static_argnums=(0, 2))
    assert f(np.sin, 0.5, "go") == np.sin(0.5)
    assert f(np.cos, 0.5, "go") == np.cos(0.5)
    assert f(np.cos, 0.5, None) == 0.5


def test_a_static_argument_does_not_move_the_names_of_the_others() -> None:
    f = fg.jit(lambda kind, x, y: float(y), static_argnums=0)
    with pytest.raises(fg.errors.TracedValueError, match=r"inside jit\(<lambda>\).*argument 'y'"):
        f("a", 1.0, 2.0)
    g = fg.jit(lambda kind, x, y: float(y), static_argnames="kind")
    with pytest.raises(fg.errors.TracedValueError, match="argument 'y'"):
        g(kind="a", x=1.0, y=2.0)
    with pytest.raises(TypeError, match="multiple values"):
        g("a", 1.0, 2.0, kind="b")


def test_recursion_on_a_static_argument() -> None:
    calls = []

    @fg.jit(static_argnums=1)
    def f(x: Any, n: int) -> Any:
        calls.append(n)
        return x if n == 0 else x * f(x, n - 1)

    assert f(2.0, 5) == 64
    assert f(2.0, 3) == 16
    assert f(2.0, 6) == 128
    assert sorted(calls) == list(range(7))


def test_varargs_may_be_static() -> None:
    f = fg.jit(lambda *args: args[0] * args[1], static_argnums=1)
    assert f(2.0, 3) == 6
    g = fg.jit(lambda **kw: kw["x"] if kw["mode"] == "a" else 0.0, static_argnames="mode")
    assert g(x=2.0, mode="a") == 2


# ── closures


def test_arrays_that_are_closed_over_are_read_in_each_call() -> None:
    w = VECTOR.copy()
    f = fg.jit(lambda x: x * w)
    np.testing.assert_array_equal(f(2.0), 2 * VECTOR)
    w[0] = 100.0
    np.testing.assert_array_equal(f(2.0), [200, 4, 6])
    (constant,) = f.lower(2.0).jaxpr.constants
    assert constant[1] is w


def test_a_jitted_function_closes_over_the_values_of_an_outer_gradient() -> None:
    def f(x: Any) -> Any:
        return fg.jit(lambda y: y**2 * x)(3.0) + fg.jit(lambda y: y * x**2)(x)  # 9x + x³

    assert fg.grad(f)(2.0) == 9 + 12
    assert fg.grad(fg.grad(f))(2.0) == 12
    assert fg.jit(fg.grad(f))(2.0) == 21
    assert fg.grad(fg.jit(f))(2.0) == 21
    np.testing.assert_array_equal(fg.vmap(f)(np.array([2.0, 1.0])), [26, 10])


def test_what_closes_over_a_traced_value_is_not_kept() -> None:
    held: list[Any] = [2.0]
    f = fg.jit(lambda x: x * held[0])

    def outer(w: Any) -> Any:
        held[0] = w
        return f(3.0)

    for w in (5.0, 7.0):
        assert fg.value_and_grad(outer)(w) == (3 * w, 3)
    assert f.cache_info() == (0, 2, 256, 0)
    held[0] = 4.0
    assert f(3.0) == 12
    assert f.cache_info() == (0, 3, 256, 1)


# ── nesting


def loss(w: Any, x: Any) -> Any:
    return fnp.sum(fnp.tanh(x @ w) ** 2)


W = np.array([0.5, -0.3, 0.1])


@pytest.mark.parametrize(
    "way",
    [
        lambda f: fg.grad(fg.jit(f)),
        lambda f: fg.jit(fg.grad(f)),
        lambda f: fg.jit(fg.grad(fg.jit(f))),
        lambda f: fg.grad(fg.jit(fg.jit(f))),
        lambda f: fg.jit(lambda w, x: fg.vjp(fg.jit(f), w, x)[1](1.0)[0]),
        lambda f: lambda w, x: fg.vjp(fg.jit(f), w, x)[1](1.0)[0],
        lambda f: fg.grad(fg.jit(f, inline=True)),
        lambda f: fg.jit(fg.grad(fg.jit(f, inline=True))),
        lambda f: lambda w, x: fg.jit(fg.vmap(fg.grad(f), (None, 0)))(w, x[:, None]).sum(0),
        lambda f: lambda w, x: fg.vmap(fg.jit(fg.grad(f)), (None, 0))(w, x[:, None]).sum(0),
        lambda f: lambda w, x: fg.vmap(fg.grad(fg.jit(f)), (None, 0))(w, x[:, None]).sum(0),
    ],
)
def test_jit_composes_with_the_other_transformations(way: Any) -> None:
    gradient = way(loss)
    for _ in range(2):
        np.testing.assert_allclose(gradient(W, MATRIX), fg.grad(loss)(W, MATRIX), rtol=1e-12)
    v = np.array([1.0, 2.0, -1.0])
    np.testing.assert_allclose(fg.grad(lambda w: gradient(w, MATRIX) @ v)(W), fg.hvp(loss)(v, W, MATRIX), rtol=1e-10)


def test_the_fourth_derivative() -> None:
    f: Any = fg.jit(np.sin)
    for _ in range(4):
        f = fg.jit(fg.grad(f))
    np.testing.assert_allclose(f(0.5), np.sin(0.5), rtol=1e-12)


def test_differentiating_with_respect_to_some_arguments_in_pytrees() -> None:
    f = fg.jit(lambda p, x, n: (p["a"] * x**n).sum() + p["b"].weight, static_argnames="n")
    p = {"a": VECTOR, "b": Layer(2.0)}
    g = fg.grad(f)(p, 2.0, n=3)
    np.testing.assert_array_equal(g["a"], [8, 8, 8])
    assert g["b"].weight == 1.0
    assert fg.grad(f, argnames="x")(p, 2.0, 3) == 12 * VECTOR.sum()


def test_integer_results_of_a_differentiated_call_are_plain() -> None:
    f = fg.jit(lambda x: (x**2, fnp.argmax(x)))

    def largest(x: Any) -> Any:
        squares, i = f(x)
        return squares[i], i

    (value, i), g = fg.value_and_grad(largest, has_aux=True)(VECTOR)
    assert (value, i) == (9, 2)
    np.testing.assert_array_equal(g, [0, 0, 6])


def test_a_jitted_call_is_one_equation() -> None:
    inner = fg.jit(lambda x: np.sin(x) * 2)
    jaxpr = fg.make_jaxpr(lambda x: inner(x) + inner(x))(1.0)
    check(jaxpr)
    assert [e.primitive.name for e in jaxpr.equations] == ["call", "call", "add"]
    a, b = (e.primitive for e in jaxpr.equations[:2])
    assert a == b
    inline = fg.jit(lambda x: np.sin(x) * 2, inline=True)
    assert [e.primitive.name for e in fg.make_jaxpr(inline)(1.0).equations] == ["sin", "multiply"]


def test_the_gradient_of_a_jitted_function_runs_it_once_and_never_again() -> None:
    f = Counted(loss)
    jitted = f.jitted
    for _ in range(3):
        fg.grad(jitted)(W, MATRIX)
    assert f.calls == 1
    g = Counted(loss)
    gradient = fg.jit(fg.grad(g.jitted.__wrapped__))
    for _ in range(3):
        gradient(W, MATRIX)
    assert g.calls == 1
    h = Counted(loss)
    outer = fg.jit(lambda w, x: fg.grad(inner)(w, x) + inner(w, x))
    inner = h.jitted
    outer(W, MATRIX)
    inner(W, MATRIX)
    assert h.calls == 1


def test_the_two_halves_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    original = fg.transforms.programs.split.Halves.__init__

    def counting(self: Any, *args: Any) -> None:
        made.append(args)
        original(self, *args)

    monkeypatch.setattr(fg.transforms.programs.split.Halves, "__init__", counting)
    fg.clear_caches()
    f = fg.jit(loss)
    for scale in (1.0, 2.0, 3.0):
        fg.grad(f)(scale * W, MATRIX)
    assert len(made) == 1


# ── the cache


def test_the_cache_is_bounded_and_forgets_what_was_not_used_for_the_longest_time() -> None:
    f = Counted(lambda x: x + 1)
    jitted = fg.jit(f.jitted.__wrapped__, cache_size=2)
    jitted(np.ones(1))
    jitted(np.ones(2))
    jitted(np.ones(1))
    jitted(np.ones(3))  # forgets the program for two elements
    assert jitted.cache_info() == (1, 3, 2, 2)
    jitted(np.ones(1))
    assert f.calls == 3
    np.testing.assert_array_equal(jitted(np.ones(2)), [2, 2])
    assert f.calls == 4
    assert jitted.cache_info() == (2, 4, 2, 2)


def test_clear_cache_forgets() -> None:
    f = Counted(lambda x, s: x + s)
    jitted = f.jitted
    jitted(1.0, 2.0)
    jitted.clear_cache()
    assert jitted.cache_info() == (0, 0, 256, 0)
    assert jitted(1.0, 2.0) == 3
    fg.clear_caches()
    assert jitted(1.0, 2.0) == 3
    assert f.calls == 3


def test_a_jitted_function_that_nobody_refers_to_goes_away_with_what_it_closes_over() -> None:
    def use() -> weakref.ref[Any]:
        w = np.ones(1000)
        f = fg.jit(lambda x: x * w)
        f(1.0)
        fg.make_jaxpr(fg.grad(lambda x: f(x).sum()))(1.0)
        return weakref.ref(w)

    alive = use()
    gc.collect()
    assert alive() is None


# ── retraces

RETRACES: dict[str, tuple[Callable[[], Any], Callable[[int], tuple[Any, ...]], str]] = {
    "shape": (
        lambda: fg.jit(lambda p, x: x),
        lambda i: ({"w": [1.0, np.ones(i)]}, 2.0),
        "the shape of argument 'p' leaf ['w'][1] keeps changing, as from (18,) to (19,) | pad it | mask",
    ),
    "static value": (
        lambda: fg.jit(lambda x, n: x, static_argnames="n"),
        lambda i: (1.0, i),
        "the static value of argument 'n' keeps changing, as from 18 to 19 | make it a normal argument",
    ),
    "static function": (
        lambda: fg.jit(lambda g, x: g(x), static_argnums=0),
        lambda i: (lambda x: x, 1.0),
        "the static value of argument 'g' keeps changing | define it once, outside of the loop",
    ),
    "structure": (
        lambda: fg.jit(lambda p: p),
        lambda i: ({f"w{j}": 1.0 for j in range(i + 1)},),
        "the structure of argument 'p' keeps changing | same keys",
    ),
}


@pytest.mark.parametrize(("make", "args", "words"), RETRACES.values(), ids=RETRACES)
def test_what_keeps_changing_is_named_once(make: Any, args: Any, words: str) -> None:
    f = make()
    for i in range(19):
        f(*args(i))
    with pytest.warns(fg.errors.RetraceWarning) as caught:
        f(*args(19))
    message = str(caught[0].message)
    assert message.startswith("jit(<lambda>) has been traced 20 times: ")
    for part in words.split(" | "):
        assert part in message
    assert caught[0].filename == __file__
    for i in range(30):
        f(*args(20 + i))


def test_a_function_that_closes_over_traced_values_again_and_again_is_warned_of() -> None:
    held: list[Any] = [None]
    f = fg.jit(lambda x: x * held[0])

    def outer(w: Any) -> Any:
        held[0] = w
        return f(3.0)

    with pytest.warns(fg.errors.RetraceWarning, match="closes over a traced value"):
        for _ in range(20):
            fg.grad(outer)(1.0)


def test_compiles_are_logged_with_their_reason(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    f = fg.jit(lambda x, y, n=1: np.sin(x), static_argnames="n")
    with fg.log_compiles():
        f(VECTOR, {"a": 1.0})
        f(VECTOR, {"a": 2.0})
        f(np.ones(4), {"a": 1.0})
        f(VECTOR, {"b": 1.0})
        f(VECTOR, {"a": 1.0}, 2)
        f(VECTOR, {"a": 1})
        f(VECTOR, y={"a": 1})
    lines = capsys.readouterr().out.splitlines()
    times = re.compile(r"jit\(<lambda>\): 1 equation staged in \d+\.\d ms, compiled in \d+\.\d ms; .+")
    assert all(times.fullmatch(line) for line in lines)
    assert [line.partition("; ")[2] for line in lines] == [
        "this is the first call",
        "the shape of argument 'x' is (4,), was (3,)",
        "the structure of argument 'y' is {'b': *}, was {'a': *}",
        "the static value of argument 'n' is 2, was 1",
        "the dtype of argument 'y' leaf ['a'] is that of a Python int, was that of a Python float",
        "the way of passing argument 'y' is by name, was by position",
    ]
    with caplog.at_level(logging.INFO, "funcgrad"):
        f(np.ones(5), {"a": 1.0})
    assert "the shape of argument 'x' is (5,), was (3,)" in caplog.text
    assert capsys.readouterr().out == ""
    lines = []
    with fg.log_compiles(lines.append):
        f(np.ones(6), {"a": 1.0})
    assert len(lines) == 1


# ── looking inside


def test_lower_shows_the_program_and_compile_makes_it_ahead_of_time() -> None:
    f = Counted(lambda p, n: {"y": p["x"] ** n, "z": (1, None)})
    jitted = fg.jit(f.jitted.__wrapped__, static_argnums=1)
    lowered = jitted.lower({"x": fg.ShapeDtypeStruct((3,), float)}, 2)
    assert isinstance(lowered.jaxpr, Jaxpr)
    assert repr(lowered) == lowered.as_text() == repr(lowered.jaxpr)
    assert "test_jit.py" in lowered.as_text(source=True)
    assert repr(lowered.in_types) == "(({'x': f64[3]},), {})"
    assert repr(lowered.out_info) == "{'y': f64[3], 'z': (~i64[], None)}"
    compiled = lowered.compile()
    assert "power" in compiled.as_text()
    same(compiled({"x": VECTOR}, 2), {"y": VECTOR**2, "z": (1, None)})
    same(compiled({"x": VECTOR}, n=2), {"y": VECTOR**2, "z": (1, None)})
    same(jitted({"x": VECTOR}, 2), {"y": VECTOR**2, "z": (1, None)})
    assert f.calls == 1
    assert repr(jitted.trace({"x": VECTOR}, 2).jaxpr) == repr(lowered.jaxpr)
    assert jitted.eval_shape({"x": VECTOR}, 2)["y"] == fg.ShapeDtypeStruct((3,), float)
    assert f.calls == 1


def test_a_compiled_program_may_be_differentiated_and_refuses_other_types() -> None:
    compiled = fg.jit(lambda x, n: (x**n).sum(), static_argnums=1).lower(VECTOR, 2).compile()
    np.testing.assert_array_equal(fg.grad(compiled)(VECTOR, 2), 2 * VECTOR)
    with pytest.raises(fg.errors.DTypeError, match=r"the shape of argument 'x' is \(4,\), was \(3,\)"):
        compiled(np.ones(4), 2)
    with pytest.raises(fg.errors.DTypeError, match="the static value of argument 'n' is 3, was 2"):
        compiled(VECTOR, 3)


def test_the_program_of_a_lowered_function_outlives_the_cache() -> None:
    f = fg.jit(lambda x: x + 1)
    compiled = f.lower(1.0).compile()
    fg.clear_caches()
    assert compiled(1.0) == 2.0


# ── without jit


def test_disable_jit_calls_the_function_itself() -> None:
    seen: list[Any] = []
    f = fg.jit(lambda x, n: (seen.append(x), x if x > 0 else n)[1], static_argnums=1)
    with fg.disable_jit():
        assert f(-2.0, "n") == "n"
        with fg.disable_jit(False), pytest.raises(fg.errors.TracedBoolError):
            f(-2.0, 1)
        assert fg.grad(f)(2.0, 1) == 1.0
    assert seen[0] == -2.0
    with pytest.raises(fg.errors.TracedBoolError):
        f(-2.0, 1)


def test_disable_jit_is_for_this_thread_alone() -> None:
    f = Counted(lambda x: x + 1)
    jitted = f.jitted
    jitted(1.0)
    with fg.disable_jit(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(jitted, 1.0).result() == 2.0
        assert f.calls == 1
        assert jitted(1.0) == 2.0
        assert f.calls == 2


def test_the_environment_disables_jit() -> None:
    program = "import funcgrad as fg; print(fg.jit(lambda x: x if x > 0 else -x)(-2.0))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "FUNCGRAD_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "2.0\n"


# ── a function like any other


@fg.jit
def module_level(x: Any, *, scale: float = 2.0) -> Any:
    """Scale."""
    return scale * x


class Model:
    def __init__(self, w: Any) -> None:
        self.w = w

    @fg.jit
    def by_tree(self, x: Any) -> Any:
        return self.w * x

    @fg.jit(static_argnums=0)
    def by_identity(self, x: Any) -> Any:
        return self.w * x

    @staticmethod
    @fg.jit
    def static(x: Any) -> Any:
        return x + 1

    @classmethod
    @fg.jit(static_argnums=0)
    def of_class(cls, x: Any) -> Any:
        return x + len(cls.__name__)

    def __call__(self, x: Any) -> Any:
        return self.w * x


@dataclasses.dataclass
class TreeModel:
    w: Any

    @fg.jit
    def predict(self, x: Any) -> Any:
        return self.w * x


def test_a_jitted_function_looks_like_the_function() -> None:
    assert (module_level.__name__, module_level.__doc__, module_level.__module__) == (
        "module_level",
        "Scale.",
        __name__,
    )
    assert repr(module_level) == "jit(module_level)"
    assert list(inspect.signature(module_level).parameters) == ["x", "scale"]
    assert module_level.__wrapped__(3.0) == module_level(3.0) == 6.0
    assert repr(fg.jit(functools.partial(power, n=3))) == "jit(power)"


def test_partials_objects_and_ufuncs_are_functions() -> None:
    assert fg.jit(functools.partial(power, n=3))(2.0) == 8
    np.testing.assert_array_equal(fg.jit(Model(VECTOR))(2.0), 2 * VECTOR)
    np.testing.assert_array_equal(fg.jit(Model(VECTOR).__call__)(2.0), 2 * VECTOR)
    assert fg.jit(np.add)(1.0, 2.0) == 3
    assert fg.jit(fg.jit(np.sin))(1.0) == np.sin(1.0)


def test_methods() -> None:
    model = Model(VECTOR)
    for _ in range(2):
        np.testing.assert_array_equal(model.by_identity(2.0), 2 * VECTOR)
    assert Model.by_identity.cache_info().misses == 1
    np.testing.assert_array_equal(Model.by_identity(model, 2.0), 2 * VECTOR)
    np.testing.assert_array_equal(Model(2 * VECTOR).by_identity(2.0), 4 * VECTOR)
    assert model.static(1.0) == Model.static(1.0) == 2.0
    assert Model.of_class(1.0) == 6.0
    tree = TreeModel(VECTOR)
    np.testing.assert_array_equal(tree.predict(2.0), 2 * VECTOR)
    np.testing.assert_array_equal(TreeModel(3 * VECTOR).predict(2.0), 6 * VECTOR)
    assert TreeModel.predict.cache_info() == (1, 1, 256, 1)
    np.testing.assert_array_equal(fg.grad(lambda m: m.predict(2.0).sum())(tree).w, [2, 2, 2])
    np.testing.assert_array_equal(fg.grad(lambda w: TreeModel(w).predict(2.0).sum())(VECTOR), [2, 2, 2])


def test_a_bound_method_can_do_what_the_function_can() -> None:
    tree = TreeModel(VECTOR)
    bound = tree.predict
    assert bound.lower(2.0).compile()(tree, 2.0)[0] == 2.0
    assert bound.trace(2.0).out_info == bound.eval_shape(2.0) == fg.ShapeDtypeStruct((3,), float)
    assert list(inspect.signature(bound).parameters) == ["x"]
    assert bound.__name__ == "predict"
    assert bound.cache_info() == TreeModel.predict.cache_info()
    model = Model(VECTOR)
    assert model.by_identity == model.by_identity != Model(VECTOR).by_identity
    assert hash(model.by_identity) == hash(model.by_identity)
    assert "jit(predict) of a TreeModel" in repr(bound)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(bound))(2.0), 2 * VECTOR)


def test_a_jitted_function_can_be_pickled_where_the_function_can() -> None:
    assert pickle.loads(pickle.dumps(module_level)) is module_level
    assert copy.deepcopy(module_level) is module_level
    f = pickle.loads(pickle.dumps(fg.jit(power, static_argnames="n")))
    assert f(2.0, 3) == 8
    assert pickle.loads(pickle.dumps(fg.jit(functools.partial(power, n=3))))(2.0) == 8
    assert copy.copy(fg.jit(lambda x: x + 1))(1.0) == 2
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(fg.jit(lambda x: x))


def test_donated_arguments_stay_usable() -> None:
    f = fg.jit(lambda x, y: x + y, donate_argnums=0, donate_argnames="y")
    x = VECTOR.copy()
    np.testing.assert_array_equal(f(x, x), 2 * VECTOR)
    np.testing.assert_array_equal(x, VECTOR)


# ── threads


def together(tasks: list[Callable[[], Any]]) -> list[Any]:
    """The results of the tasks, which start at the same moment in threads of their own."""
    barrier = threading.Barrier(len(tasks))

    def run(task: Callable[[], Any]) -> Any:
        barrier.wait()
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return [future.result() for future in [pool.submit(run, task) for task in tasks]]


@pytest.mark.parametrize("nested", [False, True])
def test_first_calls_from_many_threads_stage_once(nested: bool) -> None:
    def long(x: Any) -> Any:
        for _ in range(50):
            x = np.sin(x) * 1.5
        return x

    expected = long(VECTOR)
    for _ in range(5):
        counted = Counted(long)
        inner = counted.jitted
        jitted = fg.jit(lambda x, inner=inner: inner(x), static_argnames="inner") if nested else inner
        tasks = [functools.partial(f, VECTOR) for f in (jitted, inner) * 4]
        for y in together(tasks):
            np.testing.assert_array_equal(y, expected)
        assert counted.calls == 1


def test_threads_with_different_signatures_stage_each_once() -> None:
    counted = Counted(lambda x: x * 2)
    jitted = counted.jitted
    results = together([lambda i=i: jitted(np.ones(i % 4)) for i in range(8)])
    assert [y.shape for y in results] == [(i % 4,) for i in range(8)]
    assert counted.calls == 4
    assert jitted.cache_info() == (4, 4, 256, 4)


def test_if_staging_fails_in_one_thread_the_others_try_themselves() -> None:
    lock = threading.Lock()
    calls = []

    @fg.jit
    def f(x: Any) -> Any:
        with lock:
            calls.append(None)
            first = len(calls) <= 3
        if first:
            raise KeyError("broken")
        return x + 1

    def attempt() -> Any:
        try:
            return f(1.0)
        except KeyError:
            return "failed"

    results = together([attempt] * 8)
    assert results.count("failed") == 3
    assert results.count(2.0) == 5
    assert len(calls) == 4


def test_threads_that_stage_functions_which_call_each_other_do_not_wait_for_ever() -> None:
    @fg.jit(static_argnums=1)
    def even(x: Any, n: int) -> Any:
        return x if n == 0 else 2 * odd(x, n - 1)

    @fg.jit(static_argnums=1)
    def odd(x: Any, n: int) -> Any:
        return x if n == 0 else 3 * even(x, n - 1)

    results = together([functools.partial(f, 1.0, n) for f in (even, odd) for n in (6, 5, 4, 3)])
    assert results == [216, 72, 36, 12, 216, 108, 36, 18]
    assert even.cache_info().misses + odd.cache_info().misses == 14


def test_gradients_of_one_jitted_function_in_many_threads() -> None:
    f = fg.jit(loss)
    expected = fg.grad(loss)(W, MATRIX)
    for g in together([lambda: fg.grad(f)(W, MATRIX)] * 8):
        np.testing.assert_allclose(g, expected, rtol=1e-12)


# ── misuse


class Opaque:
    pass


class Unhashable:
    __hash__ = None  # type: ignore[assignment]


def traced_as_static(x: Any) -> Any:
    return fg.jit(power, static_argnames="n")(x, x)


MISUSE: dict[str, tuple[type[Exception], Callable[[], Any], str]] = {
    "a string": (
        fg.errors.DTypeError,
        lambda: fg.jit(power)("abc"),
        "jit(power): argument 'x' is a str ('abc') | mark it: jit(power, static_argnames='x')",
    ),
    "a string by name": (
        fg.errors.DTypeError,
        lambda: fg.jit(lambda x, *, mode: x)(1.0, mode="fast"),
        "argument 'mode' is a str ('fast') | static_argnames='mode'",
    ),
    "an object": (
        fg.errors.DTypeError,
        lambda: fg.jit(lambda x, model: x)(1.0, Opaque()),
        "argument 'model' is a Opaque | static_argnames='model' | dataclass | register_pytree_node",
    ),
    "a string in a pytree": (
        fg.errors.DTypeError,
        lambda: fg.jit(lambda p: p["w"])({"w": 1.0, "act": "tanh"}),
        "argument 'p' leaf ['act'] is a str ('tanh') | take it out | field(metadata={'static': True})",
    ),
    "an array of objects": (fg.errors.DTypeError, lambda: fg.jit(power)(np.array([None])), "'x' is object[1]"),
    "a NumPy string": (fg.errors.DTypeError, lambda: fg.jit(power)(np.str_("a")), "argument 'x' is a str_"),
    "a date": (fg.errors.DTypeError, lambda: fg.jit(power)(np.array("2020", "M8[Y]")), "'x' is datetime64[Y]"),
    "a type": (
        fg.errors.DTypeError,
        lambda: fg.jit(power)(fg.ShapeDtypeStruct((3,), float)),
        "argument 'x' is a type, float64[3], not an array | jit(power).lower(...)",
    ),
    "self": (
        fg.errors.DTypeError,
        lambda: Model(2.0).by_tree(1.0),
        "argument 'self' is a Model | static_argnums=0 | dataclass",
    ),
    "a set": (fg.errors.TreeError, lambda: fg.jit(lambda p: 1.0)({1.0, 2.0}), "a set | sorted(values)"),
    "a string returned": (
        fg.errors.DTypeError,
        lambda: fg.jit(lambda x: {"y": x, "mode": "abc"})(1.0),
        "jit(<lambda>): the function returned a str ('abc') at ['mode'] | arrays, numbers and None",
    ),
    "a function returned": (fg.errors.DTypeError, lambda: fg.jit(lambda x: lambda: x)(1.0), "returned a function"),
    "a static list": (
        fg.errors.ArgumentError,
        lambda: fg.jit(lambda x, n: x, static_argnums=1)(1.0, [1]),
        "jit(<lambda>): the static argument 'n' is a list ([1]), which is not hashable | pass a tuple: (1,)",
    ),
    "a static array": (
        fg.errors.ArgumentError,
        lambda: fg.jit(lambda x, n: x, static_argnames="n")(1.0, n=np.ones(2)),
        "the static argument 'n' is a ndarray | arrays: make it a normal argument",
    ),
    "a static dict": (
        fg.errors.ArgumentError,
        lambda: fg.jit(lambda x, n: x, static_argnames="n")(1.0, {"a": 1}),
        "is a dict | tuple(values.items())",
    ),
    "a static set": (fg.errors.ArgumentError, lambda: fg.jit(power, static_argnums=1)(1.0, {1}), "frozenset(values)"),
    "a list in a static tuple": (
        fg.errors.ArgumentError,
        lambda: fg.jit(power, static_argnums=1)(1.0, (1, [2])),
        "is a tuple ((1, [2])) | tuples instead of lists",
    ),
    "a static object": (
        fg.errors.ArgumentError,
        lambda: fg.jit(power, static_argnums=1)(1.0, Unhashable()),
        "is a Unhashable | make Unhashable hashable: @dataclass(frozen=True)",
    ),
    "a traced static value": (
        fg.errors.ArgumentError,
        lambda: fg.jit(traced_as_static)(1.0),
        "jit(power): the static argument 'n' is a traced value | make it a normal argument | static in the jit around",
    ),
    "a static field that is a list": (
        fg.errors.ArgumentError,
        lambda: fg.jit(lambda p: p.weight)(Layer(1.0, [1])),  # type: ignore[arg-type]
        "a static part of a Layer is not hashable: ([1],) | a tuple instead of a list",
    ),
    "a static field that is an array": (
        fg.errors.ArgumentError,
        lambda: (f := fg.jit(lambda p: p.weight), f(Layer(1.0, "tanh")), f(Layer(1.0, VECTOR)))[0],  # type: ignore[arg-type]
        "a static part of a Layer is not hashable | for an array a normal field",
    ),
    "static_argnames misspelt": (
        fg.errors.ArgumentError,
        lambda: fg.jit(power, static_argnames="flop"),
        "jit: static_argnames='flop' names no parameter of power, which has x, n, flip | static_argnames='flip'?",
    ),
    "static_argnums out of range": (
        fg.errors.ArgumentError,
        lambda: fg.jit(power, static_argnums=2),
        "jit: static_argnums=2, but power has 2 positional parameters: x, n | from 0 to 1",
    ),
    "static_argnums a name": (fg.errors.ArgumentError, lambda: fg.jit(power, static_argnums="n"), "must be int | 'n'"),
    "static_argnames a number": (fg.errors.ArgumentError, lambda: fg.jit(power, static_argnames=1), "must be str"),
    "donate_argnames misspelt": (
        fg.errors.ArgumentError,
        lambda: fg.jit(power, donate_argnames="y"),
        "jit: donate_argnames='y' names no parameter",
    ),
    "static and donated": (
        fg.errors.ArgumentError,
        lambda: fg.jit(power, static_argnums=1, donate_argnames="n"),
        "argument 'n' is static and donated",
    ),
    "no function": (fg.errors.ArgumentError, lambda: fg.jit(3.0), "jit takes a function, got a float (3.0)"),
    "no cache": (fg.errors.ArgumentError, lambda: fg.jit(power, cache_size=0), "cache_size=0"),
    "a branch": (
        fg.errors.TracedBoolError,
        lambda: fg.jit(lambda x: x if x > 0 else -x)(1.0),
        "`if x > 0` | inside jit(<lambda>) only its type is known | argument 'x' | where(x > 0, x, -x)",
    ),
    "a shape": (
        fg.errors.TracedShapeError,
        lambda: fg.jit(lambda x, n: x[:n])(VECTOR, 2),
        "inside jit(<lambda>) | argument 'n' | static",
    ),
    "a length": (fg.errors.TracedShapeError, lambda: fg.jit(fnp.zeros)(3), "inside jit(zeros) | argument 'shape'"),
    "a float": (fg.errors.TracedValueError, lambda: fg.jit(lambda x: float(x))(1.0), "float(x) | inside jit(<lambda>)"),
}


@pytest.mark.parametrize(("error", "do", "words"), MISUSE.values(), ids=MISUSE)
def test_misuse_is_answered_in_the_users_terms(error: Any, do: Callable[[], Any], words: str) -> None:
    for _ in range(2):
        with pytest.raises(error) as caught:
            do()
        assert type(caught.value) is error
        what, line, fix = str(caught.value).split("\n")
        assert "  at test_jit.py:" in line
        assert fix.startswith("  Fix: ")
        for part in words.split(" | "):
            assert part in what + fix
