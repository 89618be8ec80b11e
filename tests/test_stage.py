"""make_jaxpr and eval_shape: a function is run on types alone."""

from __future__ import annotations

import dataclasses
import tracemalloc
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.core.ir import evaluate
from funcgrad.core.trace import Var

S = fg.ShapeDtypeStruct
VECTOR = np.array([1.0, 2.0, 3.0])


@dataclasses.dataclass
class Layer:
    weight: Any
    activation: str = dataclasses.field(default="tanh", metadata={"static": True})


# ── make_jaxpr


def test_only_the_types_of_the_arguments_matter() -> None:
    f = lambda p, x: (x @ p["w"] + p["b"]).sum()
    by_value = fg.make_jaxpr(f)({"w": np.ones((3, 2)), "b": np.zeros(2)}, VECTOR)
    by_type = fg.make_jaxpr(f)({"w": S((3, 2), float), "b": S((2,), float)}, S((3,), np.float64))
    assert repr(by_value) == repr(by_type)
    assert repr(fg.make_jaxpr(f)({"w": np.ones((3, 4)), "b": np.zeros(4)}, VECTOR)) != repr(by_value)


def test_arguments_may_be_passed_by_keyword_and_in_pytrees() -> None:
    def f(p: Any, *, scale: Any) -> Any:
        return p[0] * scale["s"], None, p[1].weight

    jaxpr, types = fg.make_jaxpr(f, return_shape=True)((VECTOR, Layer(2.0)), scale={"s": np.float32(2)})
    assert [repr(t) for t in jaxpr.in_types] == ["f64[3]", "~f64[]", "f32[]"]
    assert repr(types) == "(f64[3], None, ~f64[])"


def test_the_shape_of_the_result_has_its_structure() -> None:
    _, types = fg.make_jaxpr(lambda x: {"y": x[1:], "n": (x.sum(), 3)}, return_shape=True)(VECTOR)
    assert types == {"y": S((2,), float), "n": (S((), float), S((), int, True))}


def test_static_arguments_are_passed_as_they_are() -> None:
    def f(kind: str, x: Any, n: int) -> Any:
        assert (type(kind), type(n)) == (str, int)
        return (np.sin(x) if kind == "sin" else x) * n

    jaxpr = fg.make_jaxpr(f, static_argnums=(0, 2))("sin", VECTOR, 3)
    assert len(jaxpr.inputs) == 1
    np.testing.assert_array_equal(evaluate(jaxpr, [VECTOR])[0], 3 * np.sin(VECTOR))
    assert repr(fg.make_jaxpr(f, static_argnums=(0, -1))("sin", VECTOR, 3)) == repr(jaxpr)
    assert fg.make_jaxpr(lambda x, flag: x if flag else -x, static_argnums=1)(1.0, True).equations == ()


def test_the_names_of_arguments_in_messages_skip_no_static_one() -> None:
    with pytest.raises(fg.errors.TracedBoolError, match="depends on argument 'x'"):
        fg.make_jaxpr(lambda kind, x: x if x > 0 else -x, static_argnums=0)("a", 1.0)
    with pytest.raises(fg.errors.TracedBoolError, match="depends on argument 'scale'"):
        fg.make_jaxpr(lambda x, scale: x if scale > 0 else -x)(1.0, scale=2.0)
    with pytest.raises(fg.errors.TracedBoolError, match=r"depends on argument 'p' leaf \['a'\]\[1\]"):
        fg.make_jaxpr(lambda p: 1.0 if p["a"][1] * 2 > 0 else p["a"][0])({"a": [1.0, 2.0]})


def test_a_closed_over_array_is_one_constant_however_often_it_is_used() -> None:
    w = np.ones((3, 3))
    jaxpr = fg.make_jaxpr(lambda x: (w @ (w @ x)) * w[0] * VECTOR)(VECTOR)
    # w[0] is an array of its own: NumPy indexes it before funcgrad sees it
    assert [value is w for _, value in jaxpr.constants] == [True, False, False]
    assert jaxpr.constants[2][1] is VECTOR


def test_scalars_are_literals() -> None:
    jaxpr = fg.make_jaxpr(lambda x: x * 2 + np.float32(3) - 1j)(VECTOR)
    assert jaxpr.constants == ()
    literals = [atom.value for e in jaxpr.equations for atom in e.inputs if not isinstance(atom, Var)]
    assert literals == [2, np.float32(3), 1j]
    assert [type(v) for v in literals] == [int, np.float32, complex]


def test_what_does_not_depend_on_the_arguments_is_computed_while_staging() -> None:
    jaxpr = fg.make_jaxpr(lambda x: x * np.exp(VECTOR).sum())(VECTOR)
    assert [e.primitive.name for e in jaxpr.equations] == ["multiply"]
    assert fg.make_jaxpr(lambda x: np.zeros(x.shape) + len(x))(VECTOR).equations == ()


def test_python_loops_are_unrolled_and_metadata_is_known() -> None:
    def f(x: Any) -> Any:
        y = 0.0
        for row in x:
            y = y + row[: x.ndim].sum() * x.shape[1]
        return y

    jaxpr = fg.make_jaxpr(f)(np.ones((4, 3)))
    assert sum(e.primitive.name == "sum" for e in jaxpr.equations) == 4
    assert evaluate(jaxpr, [np.ones((4, 3))]) == [24.0]


def test_the_operations_of_a_gradient_are_staged() -> None:
    jaxpr = fg.make_jaxpr(fg.value_and_grad(lambda x: np.sin(x).sum()))(VECTOR)
    value, gradient = evaluate(jaxpr, [VECTOR])
    assert value == np.sin(VECTOR).sum()
    np.testing.assert_array_equal(gradient, np.cos(VECTOR))
    assert "cos" in repr(jaxpr)


def test_staging_inside_a_gradient_closes_over_the_outer_value() -> None:
    def f(x: Any) -> Any:
        jaxpr = fg.make_jaxpr(lambda y: x * y**2)(2.0)
        return evaluate(jaxpr, [x])[0] + evaluate(jaxpr, [3.0])[0]  # x³ + 9x

    assert fg.grad(f)(2.0) == 3 * 4 + 9
    assert fg.grad(fg.grad(f))(2.0) == 12


def test_staging_inside_staging_leaves_nothing_behind() -> None:
    def f(x: Any) -> Any:
        inner = fg.make_jaxpr(lambda y: np.cos(y) * x)(x)
        assert [e.primitive.name for e in inner.equations] == ["cos", "multiply"]
        return x + 1

    assert [e.primitive.name for e in fg.make_jaxpr(f)(1.0).equations] == ["add"]


def test_the_jaxpr_of_a_function_of_nothing() -> None:
    jaxpr = fg.make_jaxpr(lambda: VECTOR * 2)()
    assert (jaxpr.inputs, jaxpr.equations) == ((), ())
    np.testing.assert_array_equal(evaluate(jaxpr, [])[0], VECTOR * 2)


# ── eval_shape


@pytest.mark.parametrize(
    ("f", "args", "expected"),
    [
        (lambda x: x, (S((2, 3), np.float32),), "f32[2,3]"),
        (np.matmul, (S((3, 4), np.float32), np.ones((4, 5))), "f64[3,5]"),
        (lambda x: (x.T, x.sum(axis=0), x > 0), (S((2, 3), np.float32),), "(f32[3,2], f32[3], bool[2,3])"),
        (lambda p: {"y": p["a"] @ p["b"], "none": None}, ({"a": S((2, 3), float), "b": S((3,), float)},), None),
        (fg.grad(lambda w: np.tanh(w).sum()), (S((4,), np.float16),), "f16[4]"),
        (lambda x: fnp.concatenate([x, x.astype(np.float64)]), (S((2,), np.float32),), "f64[4]"),
        (lambda x: x * 2, (3,), "~i64[]"),
        (lambda x: np.argmax(x), (S((3,), float),), "i64[]"),
    ],
)
def test_eval_shape_gives_types(f: Any, args: Any, expected: str | None) -> None:
    got = fg.eval_shape(f, *args)
    assert repr(got) == (expected or "{'y': f64[2], 'none': None}")


def test_eval_shape_takes_keywords() -> None:
    assert fg.eval_shape(lambda x, *, y: x * y, 2.0, y=S((2,), np.float32)) == S((2,), np.float32)


def test_eval_shape_computes_nothing() -> None:
    tracemalloc.start()
    try:
        huge = S((10**6, 10**6), float)
        assert fg.eval_shape(fg.grad(lambda x, y: (np.sin(x @ y) * x).sum()), huge, huge).shape == (10**6, 10**6)
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


def test_shape_errors_are_found_without_values() -> None:
    with pytest.raises(fg.errors.ShapeError, match="inner 4 != 5"):
        fg.eval_shape(np.matmul, S((3, 4), float), S((5, 6), float))
    with pytest.raises(fg.errors.OutOfBoundsError):
        fg.eval_shape(lambda x: x[4], S((3,), float))


def test_an_array_type_says_what_it_is() -> None:
    t = S((3, 2), np.float32)
    assert (t.shape, t.dtype, t.ndim, t.size) == ((3, 2), np.float32, 2, 6)
    assert S((3,), float) == S((3,), "float64") != S((3,), np.float32)
