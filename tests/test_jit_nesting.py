"""jit among the other transformations, its program looked at, and jit as a function like any other."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.core.ir import Jaxpr, check
from tests.jitted import MATRIX, VECTOR, Counted, Layer, Model, W, loss, power, same

# ── nesting


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


# ── looking inside


def test_lower_shows_the_program_and_compile_makes_it_ahead_of_time() -> None:
    f = Counted(lambda p, n: {"y": p["x"] ** n, "z": (1, None)})
    jitted = fg.jit(f.jitted.__wrapped__, static_argnums=1)
    lowered = jitted.lower({"x": fg.ShapeDtypeStruct((3,), float)}, 2)
    assert isinstance(lowered.jaxpr, Jaxpr)
    assert repr(lowered) == lowered.as_text() == repr(lowered.jaxpr)
    assert "test_jit_nesting.py" in lowered.as_text(source=True)
    assert repr(lowered.in_types) == "(({'x': f64[3]},), {})"
    assert repr(lowered.out_info) == "{'y': f64[3], 'z': (~i64[], None)}"
    compiled = lowered.compile()
    assert "power" in lowered.as_text("kernels")
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
