"""The IR as a language: what `check` accepts and refuses, what a program computes, and how it is printed."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.core.errors import InternalError
from funcgrad.core.ir import Equation, Jaxpr, Literal, Namer, check, evaluate
from funcgrad.core.trace import Var
from funcgrad.core.types import ArrayType, promote, show, show_long
from funcgrad.ops.elementwise import add, maximum, multiply, sin
from funcgrad.transforms.tracing.stage import stage

F64, F32, I64 = (np.dtype(name) for name in ("float64", "float32", "int64"))

VECTOR = np.array([1.0, 2.0, 3.0])
MATRIX = np.arange(6.0).reshape(2, 3) / 10


def vector() -> Var:
    return Var((3,), F64)


def program(**changes: Any) -> Jaxpr:
    """{ lambda c ; x. let y = sin x; z = multiply y c in (z, 2.0) }, with some parts exchanged."""
    x, c, y, z = (vector() for _ in range(4))
    parts = {
        "inputs": (x,),
        "constants": ((c, VECTOR),),
        "equations": (Equation(sin, (x,), (y,)), Equation(multiply, (y, c), (z,))),
        "outputs": (z, Literal(2.0)),
    }
    return Jaxpr(**(parts | {key: change(x, c, y, z) for key, change in changes.items()}))


# ── check


def test_check_accepts_a_well_formed_program() -> None:
    check(program())
    check(Jaxpr((), (), (), ()))


PAIR = Var((2,), F64)

MALFORMED: dict[str, tuple[str, Jaxpr]] = {
    "an equation reads what is assigned later": (
        "used before it is assigned, in the equation of multiply",
        program(
            equations=lambda x, c, y, z: (Equation(multiply, (y, c), (z,)), Equation(sin, (x,), (y,))),
        ),
    ),
    "an equation reads its own result": (
        "used before it is assigned, in the equation of multiply",
        program(equations=lambda x, c, y, z: (Equation(sin, (x,), (y,)), Equation(multiply, (z, c), (z,)))),
    ),
    "an equation reads an unknown variable": (
        "used before it is assigned, in the equation of multiply",
        program(equations=lambda x, c, y, z: (Equation(multiply, (vector(), c), (z,)),)),
    ),
    "an unknown variable is returned": (
        "used before it is assigned, as an output",
        program(outputs=lambda x, c, y, z: (vector(),)),
    ),
    "the same result twice": (
        "assigned twice, in the equation of sin",
        program(equations=lambda x, c, y, z: (Equation(sin, (x,), (z,)), Equation(sin, (x,), (z,)))),
    ),
    "a result that is an input": (
        "assigned twice, in the equation of sin",
        program(equations=lambda x, c, y, z: (Equation(sin, (x,), (x,)), Equation(sin, (x,), (z,)))),
    ),
    "the same input twice": ("assigned twice, as an input", program(inputs=lambda x, c, y, z: (x, x))),
    "an input that is a constant": (
        "assigned twice, as a constant",
        program(constants=lambda x, c, y, z: ((c, VECTOR), (x, VECTOR))),
    ),
    "a constant of another shape": (
        r"a constant of type f64\[2\] is bound to a variable of type f64\[3\]",
        program(constants=lambda x, c, y, z: ((c, VECTOR[:2]),)),
    ),
    "a constant of another dtype": (
        r"a constant of type f32\[3\] is bound to a variable of type f64\[3\]",
        program(constants=lambda x, c, y, z: ((c, VECTOR.astype(np.float32)),)),
    ),
    "a result of another shape": (
        r"have types \(f64\[2\],\), not \(f64\[3\],\)",
        program(equations=lambda x, c, y, z: (Equation(sin, (x,), (Var((2,), F64),)), Equation(sin, (x,), (z,)))),
    ),
    "a result of another dtype": (
        r"have types \(f32\[3\],\), not \(f64\[3\],\)",
        program(equations=lambda x, c, y, z: (Equation(sin, (x,), (Var((3,), F32),)), Equation(sin, (x,), (z,)))),
    ),
    "a weak result of a strong operation": (
        r"have types \(~f64\[\],\), not \(f64\[\],\)",
        program(
            equations=lambda x, c, y, z: (
                Equation(sin, (Literal(2.0),), (Var((), F64, True),)),
                Equation(sin, (x,), (z,)),
            )
        ),
    ),
    "too many results": (
        "the outputs have types",
        program(equations=lambda x, c, y, z: (Equation(sin, (x,), (y, z)),)),
    ),
    "no result": ("the outputs have types", program(equations=lambda x, c, y, z: (Equation(sin, (x,), ()),))),
    "operands that do not fit": (
        "the type rule refuses the inputs: .*do not broadcast",
        program(inputs=lambda x, c, y, z: (x, PAIR), equations=lambda x, c, y, z: (Equation(add, (x, PAIR), (z,)),)),
    ),
    "too few operands": (
        "the type rule refuses the inputs",
        program(equations=lambda x, c, y, z: (Equation(multiply, (x,), (z,)),)),
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_check_refuses_a_malformed_program(name: str) -> None:
    message, jaxpr = MALFORMED[name]
    with pytest.raises(InternalError, match=message) as caught:
        check(jaxpr)
    assert isinstance(caught.value, AssertionError)
    assert "[FG099]" in str(caught.value)
    assert "{ lambda" in str(caught.value)


FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "arithmetic": (lambda x, y: (x + y) * x - y / 2, (VECTOR, 2.0)),
    "closure": (lambda x: x @ MATRIX.T + MATRIX[:, 0], (VECTOR,)),
    "several results": (lambda x: (fnp.linalg.slogdet(x), x.T), (np.array([[2.0, 1.0], [0.0, 3.0]]),)),
    "indexing": (lambda x, i: (x[i], x[1:], x[[0, 0]], fg.at(x)[i].add(1.0)), (VECTOR, np.array([2, 0]))),
    "constants only": (lambda x: (3.0, VECTOR, np.float32(2)), (1.0,)),
    "gradient": (fg.grad(lambda x: np.sum(np.where(x > 1, np.log(x), x[0])) ** 2), (VECTOR,)),
    "second derivative": (fg.grad(fg.grad(lambda x: np.sin(x) * x**2)), (0.5,)),
    "pullback": (lambda x: fg.vjp(np.tanh, x)[1](x)[0], (VECTOR,)),
    "hvp": (lambda x: fg.hvp(lambda z: (z**3).sum())(x, x), (VECTOR,)),
    "loop": (lambda x: [x := x * 0.5 + np.sin(x) for _ in range(5)], (VECTOR,)),
    "pytree": (lambda p: {"out": p["a"] * p["b"][0]}, ({"a": VECTOR, "b": [2.0, None]},)),
    "int": (lambda n: (n // 2, n % 2, n.astype(float)), (np.arange(4),)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_staging_produces_is_well_formed_and_computes_the_function(name: str) -> None:
    f, args = FUNCTIONS[name]
    jaxpr, structure = stage(f, args, {})
    check(jaxpr)
    got = evaluate(jaxpr, fg.tree.leaves(args))
    expected, expected_structure = fg.tree.flatten(f(*args))
    assert structure == expected_structure
    for a, b, t in zip(got, expected, jaxpr.out_types, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)
        assert np.asarray(a).dtype == np.asarray(b).dtype == t.dtype
        assert np.shape(a) == np.shape(b) == t.shape


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_program_is_printed_the_same_each_time(name: str) -> None:
    f, args = FUNCTIONS[name]
    assert repr(fg.make_jaxpr(f)(*args)) == repr(fg.make_jaxpr(f)(*args)) == fg.make_jaxpr(f)(*args).show()


def test_evaluate_differentiates_and_stages_like_the_function() -> None:
    f = lambda x: (np.sin(x) * VECTOR).sum()
    jaxpr = fg.make_jaxpr(f)(VECTOR)
    again = lambda x: evaluate(jaxpr, [x])[0]
    np.testing.assert_array_equal(fg.grad(again)(VECTOR), fg.grad(f)(VECTOR))
    assert repr(fg.make_jaxpr(again)(VECTOR)) == repr(jaxpr)


def test_a_program_knows_its_types() -> None:
    jaxpr = fg.make_jaxpr(lambda x, y: (x * y, 3))(np.ones(2, np.float32), 2.0)
    assert jaxpr.in_types == (ArrayType((2,), F32), ArrayType((), F64, True))
    assert jaxpr.out_types == (ArrayType((2,), F32), ArrayType((), I64, True))


def test_programs_and_variables_are_immutable_or_equal_by_identity_alone() -> None:
    jaxpr = program()
    with pytest.raises(dataclasses.FrozenInstanceError):
        jaxpr.outputs = ()  # type: ignore[misc]
    assert Var((3,), F64) != Var((3,), F64)
    assert jaxpr.inputs[0].type == Var((3,), F64).type


# ── printing

PRINTED: dict[str, tuple[Any, tuple[Any, ...], str]] = {
    "the graph of the lecture": (
        lambda x, y, z: (x + y) * z,
        (-2.0, 5.0, -4.0),
        """\
{ lambda ; a:~f64[] b:~f64[] c:~f64[]. let
    d:~f64[] = add a b
    e:~f64[] = multiply d c
  in e }""",
    ),
    "a layer": (
        lambda x: np.sum(np.tanh(x @ MATRIX.T)) * 2,
        (VECTOR,),
        """\
{ lambda a:f64[3,2] ; b:f64[3]. let
    c:f64[2] = contract[spec=i,ij->j] b a
    d:f64[2] = tanh c
    e:f64[] = sum[axes=(0,)] d
    f:f64[] = multiply e 2
  in f }""",
    ),
    "the identity": (lambda x: x, (VECTOR,), "{ lambda ; a:f64[3]. in a }"),
    "a constant": (lambda: 1.0, (), "{ lambda ;. in 1.0 }"),
    "several outputs": (lambda x: {"b": x, "a": 3.0}, (np.float32(1),), "{ lambda ; a:f32[]. in (3.0, a) }"),
    "literals": (
        lambda x: np.float32(2) * x + np.int8(3) + True + 2j,
        (VECTOR,),
        """\
{ lambda ; a:f64[3]. let
    b:f64[3] = multiply 2.0:f32 a
    c:f64[3] = add b 3:i8
    d:f64[3] = add c True:bool
    e:c128[3] = add d 2j
  in e }""",
    ),
    "indexing": (
        lambda x, i: (x[0], x[1:, ::-1], x[None, i], x[..., 1]),
        (MATRIX, np.array([0, 1])),
        """\
{ lambda ; a:f64[2,3] b:i64[2]. let
    c:f64[3] = getitem[0] a
    d:f64[1,3] = getitem[1:, ::-1] a
    e:f64[1,2,3] = getitem[None, array] a b
    f:f64[2] = getitem[:, 1] a
  in (c, d, e, f) }""",
    ),
    "several results": (
        lambda x: np.linalg.slogdet(x)[1],
        (np.eye(2),),
        """\
{ lambda ; a:f64[2,2]. let
    b:f64[] c:f64[] = slogdet a
  in c }""",
    ),
    "a gradient": (
        fg.grad(lambda x: x**2),
        (3.0,),
        """\
{ lambda ; a:~f64[]. let
    b:~f64[] = power a 2
    c:~f64[] = multiply 2 a
    d:f64[] = multiply 1.0:f64 c
  in d }""",
    ),
    "dtypes": (
        lambda x, y: np.maximum(x, y).astype(np.float32),
        (np.ones(2, np.float16), 2.0),
        """\
{ lambda ; a:f16[2] b:~f64[]. let
    c:f16[2] = maximum a b
    d:f32[2] = convert[dtype=float32] c
  in d }""",
    ),
}


@pytest.mark.parametrize("name", PRINTED)
def test_a_program_is_printed_in_the_notation_of_jaxprs(name: str) -> None:
    f, args, text = PRINTED[name]
    assert repr(fg.make_jaxpr(f)(*args)) == text


def test_the_source_is_shown_on_request() -> None:
    def model(x: Any) -> Any:
        y = np.sin(x)
        return y * 2

    first = model.__code__.co_firstlineno
    jaxpr = fg.make_jaxpr(model)(VECTOR)
    assert jaxpr.show(source=True) == (
        "{ lambda ; a:f64[3]. let\n"
        f"    b:f64[3] = sin a    # test_ir.py:{first + 1} in model: y = np.sin(x)\n"
        f"    c:f64[3] = multiply b 2    # test_ir.py:{first + 2} in model: return y * 2\n"
        "  in c }"
    )
    assert "#" not in jaxpr.show()
    assert "#" not in program().show(source=True)


def test_names_run_through_the_alphabet_and_on() -> None:
    name = Namer()
    variables = [vector() for _ in range(26 * 27 + 1)]
    names = [name(v) for v in variables]
    assert names[:3] + names[24:29] == ["a", "b", "c", "y", "z", "ba", "bb", "bc"]
    assert len(set(names)) == len(names)
    assert [name(v) for v in variables] == names


# ── types


@pytest.mark.parametrize(
    ("t", "short", "long"),
    [
        (ArrayType((), F64), "f64[]", "float64[]"),
        (ArrayType((3, 2), F32), "f32[3,2]", "float32[3,2]"),
        (ArrayType((), F64, True), "~f64[]", "float64[]"),
        (ArrayType((0,), np.dtype(bool)), "bool[0]", "bool[0]"),
        (ArrayType((1,), np.dtype(np.complex64)), "c64[1]", "complex64[1]"),
        (ArrayType((1,), np.dtype(np.uint8)), "u8[1]", "uint8[1]"),
        (ArrayType((1,), np.dtype(np.float16)), "f16[1]", "float16[1]"),
    ],
)
def test_types_are_short_in_programs_and_long_in_messages(t: ArrayType, short: str, long: str) -> None:
    assert (show(t), repr(t), show_long(t)) == (short, short, long)


def test_an_array_type_takes_what_numpy_takes() -> None:
    assert ArrayType([np.int64(3), 2], "float32") == ArrayType((3, 2), F32)  # type: ignore[arg-type]
    assert ArrayType((3, 2), float).size == 6  # type: ignore[arg-type]
    assert ArrayType((3, 2), F32).ndim == 2
    assert hash(ArrayType((3,), F32)) == hash(ArrayType([3], np.float32))  # type: ignore[arg-type]


DTYPES = ["bool", "int8", "uint8", "int64", "float16", "float32", "float64", "complex64", "complex128"]
PYTHON = [2, 2.0, 2j]


@settings(max_examples=50)
@given(
    x=st.sampled_from(PYTHON) | st.sampled_from(DTYPES).map(lambda d: np.ones((), d)),
    y=st.sampled_from(PYTHON) | st.sampled_from(DTYPES).map(lambda d: np.ones(2, d)),
)
def test_promotion_is_that_of_numpy(x: Any, y: Any) -> None:
    jaxpr = fg.make_jaxpr(lambda a, b: (a * b, a + 1, np.maximum(a, b)))(x, y)
    for t, value in zip(jaxpr.out_types, (x * y, x + 1, np.maximum(x, y)), strict=True):
        assert t.dtype == np.asarray(value).dtype
        assert t.shape == np.shape(value)
    assert promote(*jaxpr.in_types) == np.result_type(x, y)


def test_weak_types_survive_operators_but_not_functions() -> None:
    jaxpr = fg.make_jaxpr(lambda a, b: (a * b, -a, a**2, np.multiply(a, b), np.sin(a), a > b, a * np.float64(1)))(
        1.0, 2
    )
    assert [t.weak for t in jaxpr.out_types] == [True, True, True, False, False, False, False]


def test_maximum_of_every_pair_of_dtypes_has_the_dtype_of_numpy() -> None:
    for a, b in itertools.product(DTYPES, repeat=2):
        x, y = np.ones((), a), np.ones((), b)
        assert maximum.out_type(ArrayType((), x.dtype), ArrayType((), y.dtype)).dtype == np.maximum(x, y).dtype
