"""What misuse of jit prints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from tests.jitted import VECTOR, Layer, Model, power

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
    "an int that is too large": (
        fg.errors.RangeError,
        lambda: fg.jit(power)(2.0, 2**63),
        "jit(power): argument 'n' is 9223372036854775808, a Python int, which is an int64 in a program, from -922337"
        " | float(9223372036854775808) | numpy.uint64(9223372036854775808) | jit(power, static_argnames='n')",
    ),
    "such an int by name": (
        fg.errors.RangeError,
        lambda: fg.jit(lambda x, *, n: x * n)(VECTOR, n=-(2**63) - 1),
        "argument 'n' is -9223372036854775809"
        " | Fix: float(-9223372036854775809), or jit(<lambda>, static_argnames='n')",
    ),
    "such an int in a pytree": (
        fg.errors.RangeError,
        lambda: fg.jit(lambda p: p["n"])({"n": 2**10_000}),
        "argument 'p' leaf ['n'] is an int of 10001 bits | a smaller number",
    ),
    "such an int in a jit under grad": (
        fg.errors.RangeError,
        lambda: fg.grad(lambda x: fg.jit(lambda x, n: x * n)(x, 2**63))(2.0),
        "jit(<lambda>): argument 'n' is 9223372036854775808",
    ),
    "such an int in the program": (
        fg.errors.RangeError,
        lambda: fg.jit(lambda n: n + 2**63)(1),
        "jit(<lambda>): an operand of add is 9223372036854775808",
    ),
    "such an int beside integers": (
        fg.errors.RangeError,
        lambda: fg.jit(lambda x: fnp.where(x > 0, x, 2**64))(np.arange(3, dtype=np.uint64)),
        "an operand of select is 18446744073709551616 | Fix: float(18446744073709551616)",
    ),
    "such an int as a result": (
        fg.errors.RangeError,
        lambda: fg.jit(lambda x: fg.lax.cond(x > 0, lambda: 2**63, lambda: 0))(1.0),
        "cond(<lambda>): a result is 9223372036854775808",
    ),
    "such an int for what was compiled": (
        fg.errors.DTypeError,
        lambda: fg.jit(lambda n: n + 1).lower(1).compile()(2**63),
        "compiled for other arguments: the dtype of argument 'n' is that of a Python int beyond int64, was that of a"
        " Python int",
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
        assert "  at test_jit_errors.py:" in line
        assert fix.startswith("  Fix: ")
        for part in words.split(" | "):
            assert part in what + fix
