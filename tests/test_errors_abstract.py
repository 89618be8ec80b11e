"""Where only types are known: what needs a value is quoted in the user's words, and the message says what to write.

Each row is a function, arguments of which only the types count, and words of the message: of the line that says what
happened, and of the line that says the way out.
"""

from __future__ import annotations

import linecache
import math
import operator
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.linalg

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import errors
from funcgrad.core.ir import evaluate
from tests.test_errors import INTERNAL

VECTOR = np.array([1.0, 2.0, 3.0])
MATRIX = np.ones((2, 3))
FUNCTIONS = [np.sin, np.cos]
NUMBERS = [1, 2, 3]


def refusal(f: Callable[..., Any], *args: Any) -> Exception:
    """What `f` raises when it is traced without values."""
    with pytest.raises((errors.FuncgradError, TypeError)) as caught:
        fg.make_jaxpr(f)(*args)
    return caught.value


def from_source(text: str, known: bool = True) -> Any:
    """The function `f` of a program; as if it had been typed, or with a source that is not to be had."""
    name = f"<input {len(linecache.cache)}>"
    names: dict[str, Any] = {"np": np}
    exec(compile(text, name, "exec"), names)
    if known:
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    return names["f"]


def early_return(x: Any) -> Any:
    if x > 0:
        return x
    return -x


def both_branches_return(x: Any) -> Any:
    if x > 0:
        return 2 * x
    else:
        return x**2


def assigns_in_both_branches(x: Any) -> Any:
    if x > 0:  # noqa: SIM108
        y = x
    else:
        y = -x
    return y


def assigns_in_one_branch(x: Any) -> Any:
    y = x
    if not x > 0:
        y = 2 * x
    return y


def two_conditions(x: Any) -> Any:
    if x > 0 and (x < 1 or x == 2):
        return x
    return 0


def does_more(x: Any) -> Any:
    y = x
    if x > 0:
        y = x + 1
        y = y * 2
    return y


def elif_branch(x: Any, mode: int = 1) -> Any:
    if mode == 0:
        return 0
    elif x < 3:
        return x
    return 1


def loops(x: Any) -> Any:
    while x < 100:
        x = 2 * x
    return x


def guarded(x: Any) -> Any:
    match 3:
        case _ if x > 0:
            return x
    return 0


def counts(n: Any) -> Any:
    total = 0
    for i in range(2, n):
        total += i
    return total


def spread_over_lines(x: Any) -> Any:
    return (
        math
        .sin(
            x
        )
    )  # fmt: skip


def writes(x: Any) -> Any:
    a = np.zeros(3)
    a[:2] = x[:2]
    return a


def a_long_condition(x: Any) -> Any:
    first_quantity = second_quantity = x
    if first_quantity * second_quantity > 1234567 and second_quantity * first_quantity < 7654321:
        return x
    return 0


def checks(x: Any) -> None:
    raise_unless_positive(x)


def raise_unless_positive(amount: Any) -> None:
    if amount <= 0:
        raise ValueError


Row = tuple[Callable[..., Any], tuple[Any, ...], str, str]

BRANCHES: dict[str, Row] = {
    "if else": (
        lambda x: x if x > 0 else -x,
        (2.0,),
        "`if x > 0` | bool[]",
        "where(x > 0, x, -x) | cond(x > 0, f, g, x)",
    ),
    "return": (early_return, (2.0,), "`if x > 0` | make_jaxpr(early_return)", "where(x > 0, x, -x)"),
    "else: return": (both_branches_return, (2.0,), "`if x > 0`", "where(x > 0, 2 * x, x ** 2)"),
    "assignments": (assigns_in_both_branches, (2.0,), "`if x > 0`", "y = where(x > 0, x, -x)"),
    "one assignment": (assigns_in_one_branch, (2.0,), "`if not x > 0`", "y = where(logical_not(x > 0), 2 * x, y)"),
    "a block": (does_more, (2.0,), "`if x > 0`", "Fix: where(x > 0, x, y), or funcgrad.lax.cond(x > 0, f, g, x)"),
    "elif": (elif_branch, (2.0,), "`if x < 3`", "where(x < 3, x, 1)"),
    "a setting": (elif_branch, (2.0,), "argument 'x'", "jit(elif_branch, static_argnames='x')"),
    "two conditions": (
        two_conditions,
        (2.0,),
        "`if x > 0 and (x < 1 or x == 2)`",
        "where(logical_and(x > 0, logical_or(x < 1, x == 2)), x, 0)",
    ),
    "while": (
        loops,
        (2.0,),
        "`while x < 100`",
        "lax.while_loop(condition, body, init), where condition(state) returns x < 100",
    ),
    "case": (guarded, (2.0,), "`case ... if x > 0`", "where(x > 0, x, y)"),
    "a long one": (
        a_long_condition,
        (2.0,),
        "`if condition`",
        "where(condition, x, 0), or funcgrad.lax.cond(condition, f, g,",
    ),
    "a vector": (lambda x: x if x > 0 else -x, (VECTOR,), "bool[3]", ".any() or .all()"),
    "comprehension": (
        lambda x: [v for v in x if v > 0],
        (VECTOR,),
        "`if v > 0` in a comprehension",
        "where(v > 0, v, 0)",
    ),
    "and": (lambda x, y: x > 0 and y > 0, (1.0, 2.0), "`x > 0 and y > 0`", "Fix: logical_and(x > 0, y > 0)"),
    "and of three": (
        lambda x: bool(x > 0 and x < 3 and x != 1) or None,
        (1.0,),
        "`x > 0 and x < 3 and (x != 1)`",
        "logical_and(logical_and(x > 0, x < 3), x != 1)",
    ),
    "or": (lambda x, y: x or y, (1.0, 2.0), "`x or y` | float64[]", "logical_or(x, y)"),
    "not": (lambda x: not x, (1.0,), "`not x`", "logical_not(x)"),
    "chain": (lambda x: 0 < x < 1, (1.0,), "`0 < x < 1`", "(0 < x) & (x < 1)"),
    "in": (lambda x: x in [1.0, 2.0], (1.0,), "`x in [1.0, 2.0]`", "any(asarray([1.0, 2.0]) == x)"),
    "not in": (lambda x: 2.0 not in x, (VECTOR,), "`2.0 not in x`", "logical_not(any(asarray(x) == 2.0))"),
    "max": (lambda x: max(x, 0), (1.0,), "`max(x, 0)`", "maximum(x, 0)"),
    "min of three": (
        lambda x, y: min(x, 0, y),
        (1.0, 2.0),
        "`min(x, 0, y)` | argument 'x'",
        "minimum(minimum(x, 0), y)",
    ),
    "max of a sequence": (lambda x: max([x, 1.0]), (1.0,), "`max([x, 1.0])`", "funcgrad.numpy.max([x, 1.0])"),
    "sorted": (lambda x, y: sorted([x, y]), (1.0, 2.0), "`sorted([x, y])`", "funcgrad.numpy.sort([x, y])"),
    "any": (
        lambda x: any(v > 0 for v in x),
        (VECTOR,),
        "`any((v > 0 for v in x))`",
        "funcgrad.numpy.any([v > 0 for v in x])",
    ),
    "bool": (lambda x: bool(x), (1.0,), "`bool(x)`", "where(x, x, y) takes it as it is"),
    "another function": (lambda x: NUMBERS.index(x), (1,), "`NUMBERS.index(x)`", "where(condition, x, y)"),
    "a leaf": (
        lambda p: p["w"] if p["w"][0] > 0 else 0,
        ({"w": VECTOR},),
        "argument 'p' leaf ['w']",
        "where(p['w'][0] > 0, p['w'], 0)",
    ),
    "a function that is called": (
        checks,
        (1.0,),
        "`if amount <= 0` | make_jaxpr(checks) | argument 'x'",
        "cond(amount <= 0, f, g, amount)",
    ),
    "grad inside": (
        fg.grad(lambda x: x if x > 0 else -x),
        (2.0,),
        "make_jaxpr(<lambda>) | argument 'x'",
        "where(x > 0, x, -x)",
    ),
}

NUMBERS_NEEDED: dict[str, Row] = {
    "float": (lambda x: float(x), (1.0,), "`float(x)` | float64[]", "take x as it is | jit(f, static_argnames='x')"),
    "int": (lambda x: int(x), (1.0,), "`int(x)`", "x.astype(int) | static_argnames='x'"),
    "complex": (lambda x: complex(x), (1.0,), "`complex(x)`", "take x as it is"),
    "item": (lambda x: x[0].item(), (VECTOR,), "`x[0].item()`", "x[0], without .item()"),
    "tolist": (lambda x: x.tolist(), (VECTOR,), "`x.tolist()` | float64[3]", "without .tolist()"),
    "math": (lambda x: math.sin(x), (1.0,), "`math.sin(x)`", "funcgrad.numpy.sin(x)"),
    "math over lines": (spread_over_lines, (1.0,), "`math.sin(x)`", "funcgrad.numpy.sin(x)"),
    "floor": (lambda x: math.floor(x), (1.0,), "`math.floor(x)`", "funcgrad.numpy.floor(x)"),
    "round": (lambda x: round(x), (1.0,), "`round(x)`", "funcgrad.numpy.round(x)"),
    "percent": (lambda x: "%.3f" % x, (1.0,), "`'%.3f' % x`", "funcgrad.debug.print"),  # noqa: UP031
    "asarray": (lambda x: np.asarray(x), (VECTOR,), "`np.asarray(x)`", "Fix: funcgrad.numpy.asarray(x)"),
    "array": (lambda x: np.array([x, 1.0]), (1.0,), "`np.array([x, 1.0])`", "funcgrad.numpy.array([x, 1.0])"),
    "another library": (
        lambda x: scipy.linalg.expm(x),
        (np.eye(2),),
        "`scipy.linalg.expm(x)` | float64[2,2]",
        "pure_callback(scipy.linalg.expm, ShapeDtypeStruct((2, 2), 'float64'), x)",
    ),
    "an array at an index": (lambda i: VECTOR[i], (1,), "`VECTOR[i]`", "take(VECTOR, i, axis=0)"),
    "an array at indices": (lambda i: MATRIX[i, 0], (1,), "`MATRIX[i, 0]`", "funcgrad.at(MATRIX)[i, 0].get()"),
    "writing": (writes, (VECTOR,), "`a[:2] = ...` | float64[2]", "a = funcgrad.at(a)[:2].set(x)"),
    "a key": (lambda n: {1: 2}[n], (1,), "dict key | argument 'n'", "take(values, i) | jit(f, static_argnames='n')"),
    "a member": (lambda n: {n}, (1,), "a member of a set | int64[] | argument 'n'", "a Python value as the key"),
}

SHAPES: dict[str, Row] = {
    "zeros": (
        lambda n: fnp.zeros(n),
        (3,),
        "a shape | `fnp.zeros(n)` | argument 'n'",
        "mask | jit(f, static_argnames='n')",
    ),
    "zeros of NumPy": (lambda n: np.zeros((n, 2)), (3,), "a shape | `np.zeros((n, 2))`", "static_argnames='n'"),
    "reshape": (lambda n, x: x.reshape(n, -1), (3, VECTOR), "`x.reshape(n, -1)`", "static_argnames='n'"),
    "arange": (lambda n: fnp.arange(n), (3,), "`fnp.arange(n)`", "arange(size) < n | static_argnames='n'"),
    "arange of NumPy": (lambda n: np.arange(n), (3,), "`np.arange(n)`", "arange(size) < n | static_argnames='n'"),
    "repeat": (lambda n, x: np.repeat(x, n), (3, VECTOR), "a count, in `np.repeat(x, n)`", "static"),
    "axis": (
        lambda a, x: x.sum(axis=a),
        (0, VECTOR),
        "axis, in `x.sum(axis=a)`",
        "axis=0 | jit(f, static_argnames='a')",
    ),
    "axis by position": (lambda a, x: np.moveaxis(x, a, 0), (0, MATRIX), "axis, in `np.moveaxis(x, a, 0)`", "axis=0"),
    "slice": (
        lambda n, x: x[:n],
        (2, VECTOR),
        "a bound of a slice, `x[:n]` | argument 'n'",
        "lax.dynamic_slice(x, (0,), (size,)) | where(arange(len(x)) < n, x, 0)",
    ),
    "a window": (lambda i, x: x[i : i + 2], (1, VECTOR), "`x[i:i + 2]`", "lax.dynamic_slice_in_dim(x, i, 2)"),
    "from a start": (lambda i, x: x[i:], (1, VECTOR), "`x[i:]`", "dynamic_slice(x, (i,), (size,)) with a fixed size"),
    "slice of an array": (lambda n: VECTOR[:n], (2,), "`VECTOR[:n]`", "dynamic_slice(VECTOR, (0,), (size,))"),
    "slice of two axes": (lambda n, x: x[:, :n], (2, MATRIX), "`x[:, :n]`", "dynamic_slice(x, starts, sizes)"),
    "range": (lambda n: list(range(n)), (3,), "`range(n)`", "lax.fori_loop(0, n, body, init) | must be static"),
    "a loop": (counts, (3,), "`range(2, n)`", "fori_loop(2, n, body, init) | jit(counts, static_argnames='n')"),
    "list": (lambda n: [1, 2, 3][n], (1,), "`[1, 2, 3][n]`", "take([1, 2, 3], n)"),
    "list by name": (lambda n: NUMBERS[n], (1,), "`NUMBERS[n]`", "take(NUMBERS, n)"),
    "functions": (lambda n, x: FUNCTIONS[n](x), (1, 2.0), "`FUNCTIONS[n]`", "lax.switch(n, FUNCTIONS, x)"),
    "position": (lambda n: operator.index(n), (1,), "`operator.index(n)`", "must be static"),
    "mask": (
        lambda x: x[x > 0],
        (VECTOR,),
        "`x[x > 0]` has as many elements as the mask has True | argument 'x'",
        "sum(where(x > 0, x, 0)) | where(x > 0, new, x) | outside of make_jaxpr(<lambda>)",
    ),
    "a mask beside other indices": (
        lambda m: MATRIX[0, m],
        (np.ones(3, bool),),
        "`MATRIX[0, m]` has as many elements as the mask has True | argument 'm'",
        "sum(where(mask, MATRIX, 0)) | where(mask, new, MATRIX)",
    ),
    "a single bool": (
        lambda x, b: x[b],
        (VECTOR, True),
        "`x[b]` | a single traced bool | one more axis, of length 1 if | argument 'b'",
        "where(b, x, 0) | take(x, b.astype(int), axis=0) | cond(b, f, g, x) | jit(f, static_argnames='b')",
    ),
    "a comparison as an index": (
        lambda x: x[x[0] > 0],
        (VECTOR,),
        "`x[x[0] > 0]` | a single traced bool | argument 'x'",
        "where(x[0] > 0, x, 0) | take(x, (x[0] > 0).astype(int), axis=0)",
    ),
    "a plain array at a bool": (lambda b: VECTOR[b], (True,), "`VECTOR[b]` | a single traced bool", "where(b, VECTOR"),
    "a plain array at a mask": (
        lambda x: VECTOR[x > 0],
        (VECTOR,),
        "`VECTOR[x > 0]` has as many elements as the mask has True",
        "sum(where(x > 0, VECTOR, 0))",
    ),
    "a bool beside other indices": (
        lambda x, b: x[b, 0],
        (VECTOR, True),
        "`x[b, 0]` | a single traced bool",
        "where(b",
    ),
    "a list at a bool": (lambda b: NUMBERS[b], (True,), "`NUMBERS[b]`", "where(b, NUMBERS[1], NUMBERS[0])"),
    "values for a mask": (
        lambda x: x.at[x > 0].set(np.ones(2)),
        (VECTOR,),
        "x.at[mask].set(v): v of shape (2,) | argument 'x'",
        "where(mask, values, x)",
    ),
    "nonzero": (
        lambda x: np.nonzero(x),
        (VECTOR,),
        "how many elements nonzero(x) returns | argument 'x'",
        "where(x != 0, y, z)",
    ),
    "unique": (lambda x: np.unique(x), (VECTOR,), "unique(x)", "sort(x) has as many elements as x"),
    "where": (lambda x: np.where(x > 0), (VECTOR,), "nonzero(x) | bool[3]", "where(x != 0, y, z) | outside of"),
    "extract": (lambda x: np.extract(x > 0, x), (VECTOR,), "extract(x)", "where(condition, arr, 0)"),
    "compress": (lambda x: np.compress(x > 0, x), (VECTOR,), "compress(x)", "where(condition, a, 0)"),
}

ROWS = [
    pytest.param(error, *row, id=name)
    for error, rows in [
        (errors.TracedBoolError, BRANCHES),
        (errors.TracedValueError, NUMBERS_NEEDED),
        (errors.TracedShapeError, SHAPES),
    ]
    for name, row in rows.items()
]


@pytest.mark.parametrize(("error", "f", "args", "said", "way_out"), ROWS)
def test_the_message_quotes_the_construct_and_says_what_to_write(
    error: Any, f: Any, args: Any, said: str, way_out: str
) -> None:
    caught = refusal(f, *args)
    assert type(caught) is error
    what, line, fix = str(caught).split("\n")
    for part in said.split(" | "):
        assert part in what
    for part in way_out.split(" | "):
        assert part in fix
    assert what.startswith(f"[{error.code}] ")
    assert re.match(r"  at test_errors_abstract\.py:\d+ in \S+: .", line)
    assert "inside make_jaxpr(" in what
    assert not INTERNAL.search(what + fix)


def test_what_was_wrong_is_repaired_by_the_message() -> None:
    where, logical_and = fnp.where, fnp.logical_and
    fixed = [
        lambda x: where(x > 0, x, -x),
        lambda x: logical_and(x > 0, x < 1),
        lambda x: fnp.any(fnp.asarray([1.0, 2.0]) == x),
        lambda x: fnp.sort([x, 1.0]),
        lambda x: fnp.take(NUMBERS, x.astype(int)),
        lambda x: fg.at(MATRIX)[x.astype(int), 0].get(),
        lambda x: fnp.max([x, 1.0]),
    ]
    for f in fixed:
        (y,) = evaluate(fg.make_jaxpr(f)(0.5), (0.5,))
        np.testing.assert_array_equal(y, f(np.float64(0.5)))


# ── where the construct is not to be seen


def test_an_assert_is_told_from_an_if() -> None:
    caught = refusal(from_source("def f(x):\n    assert x > 0, 'positive'\n    return x\n"), 1.0)
    assert type(caught) is errors.TracedBoolError
    assert "`assert x > 0` needs the value of bool[]" in str(caught)
    assert "funcgrad.debug.callback(check, x), where check asserts x > 0" in str(caught)


@pytest.mark.parametrize(
    ("text", "args", "words"),
    [
        (
            "def f(x): return x if x > 0 else -x",
            (1.0,),
            "control flow (if, while, and, or, not, assert, min, max) | where",
        ),
        (
            "def f(n): return np.zeros((n, 2))",
            (1,),
            "a shape, a bound of a slice, range(n) or values[n] | must be static",
        ),
        ("def f(x): return float(x)", (1.0,), "float(x) needs the value | leave it an array"),
        ("def f(x): return x[x > 0]", (VECTOR,), "`x[mask]` | sum(where(mask, x, 0))"),
        ("def f(x): return {x}", (1,), "a member of a set | as the key"),
    ],
)
def test_without_source_the_message_speaks_of_the_construct_in_general(text: str, args: Any, words: str) -> None:
    message = str(refusal(from_source(text, known=False), *args))
    for part in words.split(" | "):
        assert part in message


def test_a_source_that_no_longer_parses_is_no_obstacle() -> None:
    f = from_source("def f(x):\n    return x if x > 0 else -x\n")
    linecache.cache[f.__code__.co_filename] = (1, None, ["def f(x:\n"], f.__code__.co_filename)
    assert "Python control flow" in str(refusal(f, 1.0))


# ── static arguments


@pytest.mark.parametrize(
    ("f", "args", "static"),
    [
        (lambda n, m: fnp.zeros((n + m, 2)), (1, 2), "static_argnames=('n', 'm')"),
        (lambda x: fnp.zeros(x.sum()), (np.arange(3),), None),
        (lambda p: fnp.zeros(p[0]), ([3],), None),
        (lambda n, x: fnp.zeros(n + x[0]), (3, np.arange(2)), None),
    ],
)
def test_static_arguments_are_proposed_where_they_can_be(f: Any, args: Any, static: str | None) -> None:
    message = str(refusal(f, *args))
    assert "must be static" in message
    assert (static or "static_argnames") in message if static else "static_argnames" not in message


def test_under_jit_the_function_is_named() -> None:
    with pytest.raises(errors.TracedBoolError, match=r"(?s)inside jit\(loops\).*jit\(loops, static_argnames='x'\)"):
        fg.jit(loops)(1.0)
    assert fg.jit(loops, static_argnames="x")(1.0) == 128


# ── vmap


def test_under_vmap_the_reason_is_the_batch() -> None:
    with pytest.raises(errors.TracedBoolError) as caught:
        fg.vmap(lambda x: x if x > 0 else -x)(VECTOR)
    message = str(caught.value)
    assert "`if x > 0` needs the value of bool[]" in message
    assert "vmap gives every element of the batch its own answer" in message
    assert "it depends on argument 'x'" in message
    assert "where(x > 0, x, -x)" in message
    assert "static" not in message


def test_under_vmap_a_shape_cannot_depend_on_the_example() -> None:
    with pytest.raises(errors.TracedShapeError, match=r"(?s)`x\[:n\]`.*vmap gives every element.*dynamic_slice"):
        fg.vmap(lambda n, x: x[:n], (0, None))(np.arange(3), VECTOR)


# ── what is not an error


MASKED_WRITES = {
    "set": lambda x, mask: x.at[mask].set(0.0),
    "set of a row": lambda x, mask: x.at[mask].set([[1.0], [2.0]][0]),
    "add": lambda x, mask: x.at[mask].add(5.0),
    "subtract": lambda x, mask: x.at[mask].subtract(5.0),
    "multiply": lambda x, mask: x.at[mask].multiply(3.0),
    "divide": lambda x, mask: x.at[mask].divide(4.0),
    "min": lambda x, mask: x.at[mask].min(0.0),
    "max": lambda x, mask: x.at[mask].max(0.0),
    "a traced value": lambda x, mask: x.at[mask].set(x.sum()),
    "a tuple": lambda x, mask: x.at[mask, ...].set(0.0),
    "a plain array": lambda x, mask: fg.at(np.ones(x.shape))[mask].set(x.sum()),
}


@pytest.mark.parametrize("write", MASKED_WRITES.values(), ids=MASKED_WRITES)
def test_writing_one_value_at_a_mask_needs_no_count(write: Any) -> None:
    random = np.random.default_rng(0)
    x, mask = random.standard_normal((2, 3)), random.random((2, 3)) < 0.5
    expected = fg.vjp(lambda x: write(x, mask), x)[0]
    (y,) = evaluate(fg.make_jaxpr(write)(fg.ShapeDtypeStruct(x.shape, x.dtype), mask), (x, mask))
    np.testing.assert_array_equal(y, expected)
    gradient = fg.grad(lambda x, mask: (write(x, mask) ** 3).sum())
    (g,) = evaluate(fg.make_jaxpr(gradient)(x, mask), (x, mask))
    np.testing.assert_allclose(g, gradient(x, mask))
    rows = fg.vmap(write)(x, mask)
    np.testing.assert_array_equal(
        rows, [fg.vjp(lambda x, m=m: write(x, m), row)[0] for row, m in zip(x, mask, strict=True)]
    )


MASK = np.array([[True, False, True], [False, False, True]])


@pytest.mark.parametrize(
    ("shape", "mask", "index", "v"),
    [
        ((2, 3, 4), MASK, lambda m: m, np.arange(4.0).reshape(1, 4)),
        ((2, 3, 4), MASK, lambda m: (m, slice(None)), np.arange(4.0)),
        ((4, 2, 3), MASK, lambda m: (..., m), np.arange(4.0)[:, None]),
        ((2, 3, 4), MASK[0], lambda m: (slice(None), m), 7.0),
        ((2, 3, 4), MASK[0], lambda m: (slice(None), m, ...), np.arange(2.0)[:, None, None]),
        ((3, 2, 4), MASK[:, 0], lambda m: (..., m, slice(None)), np.arange(4.0)),
        ((2, 3), np.array(True), lambda m: m, np.arange(3.0)),
        ((2, 3), np.array(False), lambda m: (..., m), 7.0),
        ((), np.array(True), lambda m: m, 7.0),
    ],
)
def test_a_mask_of_some_axes(shape: Any, mask: Any, index: Any, v: Any) -> None:
    x = np.arange(float(np.prod(shape))).reshape(shape)
    f = lambda m: fg.at(x)[index(m)].set(v)
    expected = x.copy()
    expected[index(mask)] = v
    np.testing.assert_array_equal(f(mask), expected)
    np.testing.assert_array_equal(evaluate(fg.make_jaxpr(f)(mask), (mask,))[0], expected)


def test_a_mask_of_another_shape_is_refused_as_ever() -> None:
    caught = refusal(lambda x, m: x.at[m].set(0.0), VECTOR, np.ones(2, bool))
    assert type(caught) is errors.OutOfBoundsError
    assert "the boolean index has shape (2,)" in str(caught)


def test_a_value_that_the_array_cannot_hold_is_refused_as_ever() -> None:
    assert type(refusal(lambda x: x.at[x > 0].set(0.5), np.arange(3))) is errors.DTypeError


def test_formatting_shows_the_type() -> None:
    texts: list[str] = []
    fg.make_jaxpr(lambda x: texts.append(f"{x:.3f} {x!s} {x * VECTOR:>9}") or x)(1.0)
    assert texts == ["~f64[] traced ~f64[] f64[3]"]


def test_a_scalar_has_no_length_and_cannot_be_iterated() -> None:
    assert str(refusal(lambda x: len(x), 1.0)) == "len() of a 0-d array"
    assert str(refusal(lambda x: [*x], 1.0)) == "iteration over a 0-d array"


def test_assignment_is_answered_with_at() -> None:
    caught = refusal(lambda x: x.__setitem__(0, 1.0), VECTOR)
    assert type(caught) is errors.MutationError
    assert "x = x.at[0].set(value)" in str(caught)
    assert "x.at[index].set(v)" in str(refusal(lambda x: x.at.set(1.0), VECTOR))


# ── leaks


@pytest.mark.parametrize(
    ("use", "name"),
    [
        (lambda x: x + 1, "add"),
        (lambda x: float(x), "float(x)"),
        (lambda x: 1 if x else 0, "Python control flow"),
        (lambda x: fg.grad(lambda y: y * x)(2.0), "multiply"),
        (lambda x: np.asarray(x), "numpy.asarray(x)"),
    ],
)
def test_a_leak_names_the_line_that_made_it(use: Any, name: str) -> None:
    kept: list[Any] = []

    def leaky(x: Any) -> Any:
        kept.append(x * 2)
        return x

    fg.make_jaxpr(leaky)(1.0)
    with pytest.raises(errors.LeakedTracerError) as caught:
        use(kept[0])
    message = str(caught.value)
    assert re.search(r"at test_errors_abstract.py:\d+ in leaky: kept.append\(x \* 2\), is used in", message)
    assert name in message
    assert "make_jaxpr(leaky)" in message


def test_nothing_is_left_behind() -> None:
    for _, rows in (("", BRANCHES), ("", SHAPES)):
        for f, args, *_ in rows.values():
            refusal(f, *args)
    assert fg.grad(lambda x: x**2)(3.0) == 6.0
    assert repr(fg.make_jaxpr(lambda x: x + 1)(1.0)).endswith("in b }")
