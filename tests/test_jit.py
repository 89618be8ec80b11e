"""jit: the same function, staged once for each signature, compiled, and run by its program from then on."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import funcgrad as fg
import funcgrad.numpy as fnp
from tests.jitted import MATRIX, VECTOR, Counted, Function, Layer, Pair, power, same

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
        same(fg.jit(f)(x), f(x), x.dtype)


@pytest.mark.parametrize(
    "name", [name for name in FUNCTIONS if name not in ("shapes", "casts", "indices", "reductions")]
)
@pytest.mark.parametrize("x", [2.0, 3, np.float32(0.5), np.float64(-1.5), np.array(2.0)])
def test_a_jitted_function_of_a_number_is_the_function(name: str, x: Any) -> None:
    f = FUNCTIONS[name]
    expected = f(x)
    if name == "comparison" and type(x) in (int, float):
        expected = (np.bool_(expected[0]), expected[1])  # Python's own comparison of Python numbers gives a bool
    same(fg.jit(f)(x), expected, x.dtype if isinstance(x, np.generic) else float)


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
    assert f(np.cos, 0.5, "go") == pytest.approx(np.cos(0.5), rel=1e-15)
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
