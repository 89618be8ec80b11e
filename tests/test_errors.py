"""Misuse is answered in the user's terms: what happened, with the values; the user's line; the way out, as code.

One row for each misuse. Every message is also held to the house rules: a code, the line of this file, a fix, no name of
an internal class, no address in memory; and when it has been caught the library works as before.
"""

from __future__ import annotations

import copy
import math
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.special

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import errors
from funcgrad.core import errors as core_errors
from funcgrad.transforms.callback import pure_callback
from funcgrad.transforms.debugging import debug_nans

VECTOR = np.array([1.0, 2.0, 3.0])
MATRIX = np.ones((2, 3))


def at(f: Callable[..., Any], *args: Any) -> Any:
    """The gradient of `f` at `args`."""
    return fg.grad(f)(*args)


def watched(f: Callable[..., Any], *args: Any) -> Any:
    with debug_nans():
        return fg.grad(f)(*args)


def staged(f: Callable[..., Any], *args: Any) -> Any:
    return fg.make_jaxpr(f)(*args)


def pulled(ct: Any) -> Any:
    def model(x: Any) -> Any:
        return {"a": x, "b": (x.sum(), 3)}

    return fg.vjp(model, VECTOR)[1](ct)


def loss(w: Any, b: Any) -> Any:
    return (w * b).sum()


LEAKED: list[Any] = []


def leaky(x: Any) -> Any:
    LEAKED.append(x * 2)
    return x


def added_in_place(x: Any) -> Any:
    a = np.zeros(3)
    a += x
    return a.sum()


def reuses_a_buffer(x: Any) -> Any:
    buffer = np.ones(3)
    y = (x * buffer).sum()
    buffer *= 2
    return y


class Opaque:
    pass


BUILTIN = {
    errors.DifferentiationError: TypeError,
    errors.ArgumentError: ValueError,
    errors.CotangentError: ValueError,
    errors.TracedValueError: TypeError,
    errors.TracedBoolError: TypeError,
    errors.TracedShapeError: TypeError,
    errors.MutationError: TypeError,
    errors.LeakedTracerError: RuntimeError,
    errors.UnsupportedError: TypeError,
    errors.NotDifferentiableError: TypeError,
    errors.ShapeError: ValueError,
    errors.OutOfBoundsError: IndexError,
    errors.TreeError: ValueError,
    errors.DTypeError: TypeError,
    errors.SingularMatrixError: np.linalg.LinAlgError,
    errors.HeldArrayError: ValueError,
    errors.AxisError: np.exceptions.AxisError,
    errors.NaNError: FloatingPointError,
    errors.RangeError: OverflowError,
    errors.InternalError: AssertionError,
}

# For each error what provokes it, and words of the message, separated by bars.
MISUSE: dict[type[errors.FuncgradError], dict[str, tuple[Callable[[], Any], str]]] = {
    errors.DifferentiationError: {
        "vector output": (
            lambda: at(lambda x: x * 2, VECTOR),
            "grad(<lambda>) | returned float64[3] | scalar of shape () | .sum() | vjp",
        ),
        "output of one element": (lambda: at(lambda x: x[:1], VECTOR), "returned float64[1] | .sum() or [0]"),
        "complex output": (
            lambda: at(lambda x: x * 1j, 2.0),
            "returned complex128[] | real scalar | abs(z)**2 | holomorphic",
        ),
        "integer output": (lambda: at(lambda x: 3, 2.0), "returned int64[] | piecewise constant"),
        "argmax": (lambda: at(lambda x: np.argmax(x), VECTOR), "returned int64[] | piecewise constant | argmax"),
        "comparison": (lambda: at(lambda x: x > 1, 2.0), "returned bool[] | comparisons"),
        "nothing returned": (lambda: at(lambda x: None, 2.0), "returned None | return the loss"),
        "tuple returned": (lambda: at(lambda x: (x, x), 2.0), "returned a tuple of 2 | has_aux=True"),
        "dict returned": (lambda: at(lambda x: {"loss": x}, 2.0), "returned a dict of 1 | scalar"),
        "string returned": (lambda: at(lambda x: "nan", 2.0), "returned a str | scalar"),
        "aux missing": (
            lambda: fg.grad(lambda x: x, has_aux=True)(2.0),
            "has_aux=True | (value, aux) | a single float64[] | return loss, aux",
        ),
        "aux with three parts": (
            lambda: fg.value_and_grad(lambda x: (x, 1, 2), has_aux=True)(2.0),
            "value_and_grad(<lambda>) | (value, aux) | a tuple of 3",
        ),
        "aux of vjp missing": (lambda: fg.vjp(lambda x: [x, x], 2.0, has_aux=True), "vjp(<lambda>) | a list of 2"),
        "integer argument": (
            lambda: fg.grad(loss, 1)(2.0, 3),
            "grad(loss) | argument 'b' is int64[] | 3.0, x.astype(float) | argnums",
        ),
        "boolean argument": (lambda: at(lambda x: x, True), "argument 'x' is bool[]"),
        "integer array": (lambda: at(loss, np.arange(3), VECTOR), "argument 'w' is int64[3]"),
        "integer leaf": (
            lambda: at(lambda p: p["layers"][1]["n"] * 1.0, {"layers": [{"n": 1.0}, {"n": 3}]}),
            "argument 'p' leaf ['layers'][1]['n'] is int64[]",
        ),
        "integer leaf by name": (
            lambda: fg.grad(loss, argnames="b")(2.0, b=[1.0, 2]),
            "argument 'b' leaf [1] is int64[]",
        ),
        "string argument": (lambda: at(lambda x: 1.0, "abc"), "argument 'x' is a str ('abc')"),
        "object argument": (lambda: at(lambda x: 1.0, [Opaque()]), "argument 'x' leaf [0] is a Opaque"),
        "array of objects": (lambda: at(lambda x: 1.0, np.array([None, 1])), "argument 'x' is object[2]"),
    },
    errors.NotDifferentiableError: {
        "repeated multiplication": (
            lambda: at(lambda x: x.at[[0, 0]].multiply(x[0]).sum(), VECTOR),
            "repeats a position | distinct",
        ),
    },
    errors.ArgumentError: {
        "argnums repeated": (lambda: fg.grad(loss, (0, 0)), "grad: argnums=(0, 0) repeats 0 | once"),
        "argnums repeated in the call": (
            lambda: fg.grad(loss, (1, -1))(1.0, 2.0),
            "argnums=(1, -1) names one argument twice | 2 arguments",
        ),
        "argnums a float": (lambda: fg.grad(loss, 1.0), "argnums must be int | got 1.0 | argnums=0"),
        "argnums a string": (lambda: fg.value_and_grad(loss, "w"), "value_and_grad: argnums | got 'w'"),
        "argnums a bool": (lambda: fg.grad(loss, True), "got True"),
        "argnums empty": (lambda: fg.grad(loss, ()), "argnums is empty | argnums=0"),
        "argnums out of range": (
            lambda: fg.grad(loss, 2)(1.0, 2.0),
            "argument 2 | loss was called with 2 positional arguments | argnums=0",
        ),
        "argnums negative out of range": (lambda: fg.grad(loss, -3)(1.0, 2.0), "argument -3 | 2 positional arguments"),
        "chosen argument not passed": (lambda: fg.grad(loss, 1)(1.0, c=2.0), "argument 1 | the keywords c"),
        "argnames unknown": (lambda: fg.grad(loss, argnames="bias")(1.0, b=2.0), "argument 'bias' | keywords b"),
        "argnames repeated": (lambda: fg.grad(loss, argnames=("w", "w")), "argnames=('w', 'w') repeats 'w'"),
        "argnames a number": (lambda: fg.grad(loss, argnames=0), "argnames must be str | got 0 | argnames='x'"),
        "argnums and argnames": (lambda: fg.grad(loss, 0, argnames="w"), "argnums=0 | argnames='w' | one of them"),
        "a value instead of a function": (
            lambda: fg.grad(loss(VECTOR, 2.0)),
            "grad takes a function | 12.0 | grad(f)(x)",
        ),
        "an object instead of a function": (
            lambda: fg.vjp(Opaque(), 1.0),
            "vjp takes a function, got a Opaque | vjp(f, x)",
        ),
        "an array instead of a function": (lambda: fg.make_jaxpr(np.ones((9, 9)))(1.0), "make_jaxpr | got a ndarray\n"),
        "hvp of two arguments": (lambda: fg.hvp(loss, (0, 1)), "hvp: argnums must be one int, got (0, 1)"),
        "hvp without the point": (lambda: fg.hvp(loss)(VECTOR), "hvp | argument 0 | 0 positional arguments"),
        "static argument out of range": (
            lambda: fg.make_jaxpr(loss, static_argnums=2)(1.0, 2.0),
            "make_jaxpr: static_argnums=2 | 2 positional arguments | static_argnums=0",
        ),
        "static argument not an int": (lambda: fg.make_jaxpr(loss, static_argnums="w")(1.0, 2.0), "static_argnums='w'"),
    },
    errors.CotangentError: {
        "wrong shape": (
            lambda: pulled({"a": np.ones(2), "b": (1.0, None)}),
            "vjp(model) | at ['a'] is float64[2] | belongs to is float64[3] | reshape(y.shape)",
        ),
        "wrong dtype": (
            lambda: pulled({"a": np.ones(3, np.float32), "b": (1.0, None)}),
            "at ['a'] is float32[3] | is float64[3] | astype(y.dtype)",
        ),
        "complex for real": (lambda: pulled({"a": VECTOR, "b": (1j, None)}), "['b'][0] is complex128[]"),
        "a list for an array": (
            lambda: pulled({"a": [1.0, 1.0, 1.0], "b": (1.0, None)}),
            "at ['a'] is a list of 3 | float64[3]",
        ),
        "None for an array": (lambda: pulled({"a": None, "b": (1.0, None)}), "at ['a'] is None | float64[3]"),
        "a cotangent for an integer": (
            lambda: pulled({"a": VECTOR, "b": (1.0, 1)}),
            "at ['b'][1] is int64[] | carries no derivative | pass None",
        ),
        "a number for a vector": (lambda: fg.vjp(lambda x: x, VECTOR)[1](1.0), "is float64[], | is float64[3]"),
        "hvp with a vector of another shape": (
            lambda: fg.hvp(lambda x: (x**2).sum())(np.ones(2), VECTOR),
            "vjp(grad(<lambda>)) | is float64[2] | is float64[3]",
        ),
    },
    errors.TreeError: {
        "set argument": (lambda: at(lambda p: 1.0, {"a": {1.0, 2.0}}), "a set | ['a'] | sorted(values)"),
        "keys missing": (lambda: pulled({"a": VECTOR}), "vjp(model) | at the root: keys {'a', 'b'} vs {'a'}"),
        "element missing": (lambda: pulled({"a": VECTOR, "b": (1.0,)}), "at ['b']: 2 elements vs 1 | like the output"),
        "other container": (lambda: pulled((VECTOR, 1.0)), "at the root: a dict vs a tuple"),
    },
    errors.TracedValueError: {
        "float": (
            lambda: at(lambda x: x * float(x), 2.0),
            "float(x) | float64[] | derivative with respect to argument 'x' | stop_gradient(x).item()",
        ),
        "float of a leaf": (
            lambda: at(lambda p: float(p["w"][1] * 2), {"w": [1.0, 2.0]}),
            "with respect to argument 'p' leaf ['w'][1]",
        ),
        "float of two arguments": (
            lambda: fg.grad(lambda x, y: float(x * y), (0, 1))(1.0, 2.0),
            "with respect to argument 'x', argument 'y'",
        ),
        "math": (lambda: at(lambda x: math.sin(x), 2.0), "float(x) | funcgrad.numpy.sin(x)"),
        "item": (lambda: at(lambda x: x * x.item(), 2.0), "x.item() | stop_gradient"),
        "tolist": (lambda: at(lambda x: x.tolist()[0], VECTOR), "x.tolist() | float64[3]"),
        "complex": (lambda: at(lambda x: complex(x).real, 2.0), "complex(x)"),
        "numpy.asarray": (lambda: at(lambda x: np.asarray(x).sum(), VECTOR), "numpy.asarray(x) | float64[3]"),
        "numpy.array of a list": (
            lambda: at(lambda x: np.array([x, x]).sum(), 2.0),
            "numpy.array([x, ...]) | funcgrad.numpy.array([x, y])",
        ),
        "a foreign library": (lambda: at(lambda x: scipy.linalg.expm(x).sum(), np.eye(2)), "float64[2,2]"),
        "assignment to a slice of an array": (
            lambda: at(lambda x: np.zeros(3).__setitem__(slice(0, 2), x[:2]), VECTOR),
            "a[i] = x | funcgrad.at(a)[i].set(x)",
        ),
        "pickle": (lambda: at(lambda x: pickle.dumps(x), 2.0), "pickle | argument 'x'"),
        "a key": (lambda: at(lambda x: {x: 1}[x], 2.0), "dict key or a member of a set"),
        "float of a type": (
            lambda: staged(lambda x: float(x), 2.0),
            "make_jaxpr(<lambda>) | only its type is known | argument 'x' | funcgrad.numpy",
        ),
        "int of a type": (lambda: staged(lambda x: int(x), 2.0), "int(x) | argument 'x' | x.astype(int)"),
        "array indexed by a type": (
            lambda: staged(lambda i: VECTOR[i], 1),
            "`VECTOR[i]` | argument 'i' | take(VECTOR, i, axis=0)",
        ),
    },
    errors.TracedBoolError: {
        "if": (
            lambda: staged(lambda x: x if x > 0 else -x, 2.0),
            "`if x > 0` | bool[] | make_jaxpr(<lambda>) | argument 'x' | where(x > 0, x, -x)",
        ),
        "and": (
            lambda: staged(lambda x, y: (x > 0) and (y > 0), 1.0, 2.0),
            "`x > 0 and y > 0` | logical_and(x > 0, y > 0)",
        ),
        "max": (
            lambda: staged(lambda x, y: max(x, y), 1.0, 2.0),
            "`max(x, y)` | argument 'x', argument 'y' | maximum(x, y)",
        ),
        "sorted": (lambda: staged(lambda x, y: sorted([x, y]), 1.0, 2.0), "`sorted([x, y])` | sort([x, y])"),
        "if inside grad inside staging": (
            lambda: staged(fg.grad(lambda x: x if x > 0 else -x), 2.0),
            "only its type is known",
        ),
    },
    errors.TracedShapeError: {
        "range": (
            lambda: staged(lambda n, x: [x for _ in range(n)], 3, 1.0),
            "range(n) | argument 'n' | must be static",
        ),
        "list index": (lambda: staged(lambda n: [1, 2, 3][n], 1), "`[1, 2, 3][n]` | take([1, 2, 3], n)"),
        "slice": (
            lambda: staged(lambda n, x: x[:n], 2, VECTOR),
            "a bound of a slice | argument 'n' | where(arange(len(x)) < n, x, 0)",
        ),
        "reshape": (lambda: staged(lambda n, x: x.reshape(n, -1), 3, VECTOR), "argument 'n' | static"),
        "zeros": (lambda: staged(lambda n: fnp.zeros(n), 3), "argument 'n' | static"),
        "arange": (lambda: staged(lambda n: fnp.arange(n), 3), "argument 'n' | static"),
        "axis": (lambda: staged(lambda n, x: x.sum(axis=n), 0, VECTOR), "argument 'n' | static"),
        "mask": (
            lambda: staged(lambda x: x[x > 0], VECTOR),
            "`x[x > 0]` | make_jaxpr(<lambda>) | sum(where(x > 0, x, 0)) | where(x > 0, new, x)",
        ),
        "nonzero": (lambda: staged(lambda x: np.nonzero(x), VECTOR), "nonzero | where("),
        "where with one argument": (lambda: staged(lambda x: np.where(x > 0), VECTOR), "nonzero(x) | where(x != 0"),
    },
    errors.MutationError: {
        "assignment": (
            lambda: at(lambda x: x.__setitem__(0, 1.0), VECTOR),
            "x[0] = ... | float64[3] in place | x = x.at[0].set(value) | funcgrad.at(x)",
        ),
        "deletion": (lambda: at(lambda x: x.__delitem__(0), VECTOR), "del x[0] | delete"),
        "sort": (lambda: at(lambda x: x.sort(), VECTOR), "x.sort(...) | numpy.sort(x)"),
        "fill": (lambda: at(lambda x: x.fill(0.0), VECTOR), "x.fill(...) | full_like"),
        "array += traced": (lambda: at(added_in_place, VECTOR), "numpy.add | in place | a = a + x"),
        "out": (lambda: at(lambda x: np.sin(x, out=np.zeros(3)).sum(), VECTOR), "numpy.sin | out = f(x)"),
        "at without an index": (lambda: at(lambda x: x.at.set(1.0), VECTOR), "lacks the index | x.at[index].set(v)"),
    },
    errors.HeldArrayError: {
        "reused buffer": (
            lambda: at(reuses_a_buffer, VECTOR),
            "grad(reuses_a_buffer) | writes into an array | backward pass | buffer = buffer + 1",
        ),
    },
    errors.LeakedTracerError: {
        "leak": (lambda: (fg.grad(leaky)(3.0), LEAKED[-1] * 2), "grad(leaky) | multiply | has ended | has_aux=True"),
        "leak into another trace": (lambda: (fg.grad(leaky)(3.0), at(lambda x: x * LEAKED[-1], 2.0)), "grad(leaky)"),
        "leak out of staging": (
            lambda: (fg.make_jaxpr(leaky)(3.0), np.sin(LEAKED[-1])),
            "make_jaxpr(leaky) | sin | return the value",
        ),
    },
    errors.UnsupportedError: {
        "unknown function": (
            lambda: at(lambda x: np.unwrap(x).sum(), VECTOR),
            "numpy.unwrap has no implementation | float64[3] | numpy.unwrap(stop_gradient(x))",
        ),
        "unknown function of a submodule": (
            lambda: at(lambda x: np.linalg.eig(x)[0].sum(), np.eye(2)),
            "numpy.linalg.eig",
        ),
        "unknown ufunc": (lambda: at(lambda x: np.nextafter(x, 1.0).sum(), VECTOR), "numpy.nextafter"),
        "unknown method of a ufunc": (
            lambda: at(lambda x: np.add.reduceat(x, [0, 1]).sum(), VECTOR),
            "numpy.add.reduceat",
        ),
        "ufunc of another library": (
            lambda: at(lambda x: scipy.special.spence(x).sum(), VECTOR),
            "] spence has no implementation | spence(stop_gradient(x))",
        ),
        "where of a ufunc": (lambda: at(lambda x: np.sin(x, where=x > 0).sum(), VECTOR), "where= | where(condition"),
        "out of a reduction": (lambda: at(lambda x: np.sum(x, out=np.zeros(())), VECTOR), "out= | y = sum(x)"),
    },
    errors.ShapeError: {
        "addition": (
            lambda: at(lambda x: (x + np.ones(4)).sum(), VECTOR),
            "add: shapes (3,) and (4,) do not broadcast | x[:, None]",
        ),
        "addition of types": (lambda: staged(lambda x, y: x + y, VECTOR, np.ones(4)), "add: shapes (3,) and (4,)"),
        "matmul": (lambda: at(lambda x: (x @ x).sum(), MATRIX), "matmul: (2, 3) @ (2, 3): inner 3 != 2 | a @ b.T"),
        "where": (lambda: at(lambda x: np.where(x > 0, x, np.ones(2)).sum(), VECTOR), "(3,) | (2,)"),
        "concatenate": (lambda: at(lambda x: np.concatenate([x, MATRIX]).sum(), VECTOR), "(3,), (2, 3) | stack"),
        "reshape": (lambda: at(lambda x: x.reshape(2, 2).sum(), VECTOR), "(3,) | (2, 2) | -1"),
        "broadcast_to": (lambda: at(lambda x: np.broadcast_to(x, (2, 2)).sum(), VECTOR), "(3,) | (2, 2)"),
        "transpose": (lambda: at(lambda x: x.transpose(0, 0).sum(), MATRIX), "(0, 0) | each axis once"),
        "update": (lambda: at(lambda x: x.at[0].set(x).sum(), VECTOR), "(3,) does not broadcast to ()"),
    },
    errors.OutOfBoundsError: {
        "out of range": (
            lambda: at(lambda x: x[3], VECTOR),
            "x[3] | index 3 is out of bounds for axis 0 with size 3 | from -3 to 2",
        ),
        "out of range, staged": (
            lambda: staged(lambda x: x[0, -4], MATRIX),
            "x[0, -4] | index -4 | axis 1 with size 3",
        ),
        "position out of range": (
            lambda: at(lambda x: x[[0, 3]].sum(), VECTOR),
            "shape (3,) | index 3 is out of bounds | numpy.clip(i, 0, n - 1)",
        ),
        "take": (lambda: at(lambda x: np.take(x, [7]).sum(), VECTOR), "index 7"),
        "at": (lambda: at(lambda x: x.at[3].set(0.0).sum(), VECTOR), "index 3"),
        "at of a plain array": (lambda: fg.at(VECTOR)[[5]].add(1.0), "index 5 is out of bounds"),
        "too many indices": (
            lambda: at(lambda x: x[0, 0], VECTOR),
            "x[0, 0] has 2 indices | shape (3,) | at most one index for each axis",
        ),
        "positions that do not broadcast": (
            lambda: at(lambda x: x[[0, 1], [0, 1, 2]].sum(), MATRIX),
            "index arrays do not fit | (2,), (3,) | ix_",
        ),
        "two ellipses": (lambda: at(lambda x: x[..., 0, ...].sum(), VECTOR), "single ellipsis"),
        "a float": (lambda: at(lambda x: x[1.0], VECTOR), "1.0 cannot be an index | integers"),
        "a string": (lambda: at(lambda x: x["a"], VECTOR), "'a' cannot be an index"),
        "a mask of another length": (
            lambda: at(lambda x: x[np.array([True, False])].sum(), VECTOR),
            "shape (2,) | (3,) | x[x > 0]",
        ),
    },
    errors.SingularMatrixError: {
        "no inverse": (
            lambda: at(lambda a: np.linalg.inv(a).sum(), np.ones((2, 2))),
            "inv: the matrix is singular | eye(2)",
        ),
        "no inverse in a stack": (
            lambda: fnp.linalg.solve(np.stack([np.eye(2), np.ones((2, 2))]), np.ones(2)),
            "solve: matrix [1] of the stack is singular | pinv(a)",
        ),
        "no Cholesky factor": (
            lambda: at(lambda a: np.linalg.cholesky(a).sum(), np.diag([1.0, -1.0])),
            "cholesky: the matrix is not positive definite (leading minor 2) | eye(2)",
        ),
    },
    errors.AxisError: {
        "sum": (lambda: at(lambda x: x.sum(axis=2).sum(), MATRIX), "axis 2 | 2 axes | from -2 to 1 | x[..., None]"),
        "swapaxes of types": (lambda: staged(lambda x: np.swapaxes(x, 0, -3), MATRIX), "axis -3"),
    },
    errors.DTypeError: {
        "string staged": (
            lambda: staged(lambda x, mode: x, 1.0, {"mode": "fast"}),
            "argument 'mode' leaf ['mode'] is a str ('fast') | static",
        ),
        "object staged": (lambda: fg.eval_shape(lambda x: x, Opaque()), "argument 'x' is a Opaque | close over it"),
        "a float as a position": (lambda: at(lambda x: [1.0, 2.0][x], 1.0), "integer scalar | float64[] | int(x)"),
        "a float as a bound": (lambda: at(lambda x: VECTOR[: x[0]].sum(), VECTOR), "bound of a slice | int(x)"),
        "floats into integers": (
            lambda: fg.at(np.arange(3))[0].set(1.5),
            ".set(v): v is float64[] | int64 | x.astype(float64).at[index].set(v)",
        ),
        "bits of a float": (lambda: at(lambda x: x & 1, 2.0), "bitwise_and | float64[]"),
        "dtype of a callback": (
            lambda: pure_callback(np.float32, 1.0, 2.0),
            "float32 returned float32[], declared float64[] | x.astype('float64')",
        ),
        "string for a callback": (
            lambda: pure_callback(len, 1, "abc"),
            "argument 0 of len is a str ('abc') | functools.partial",
        ),
    },
    errors.RangeError: {
        "an int for a program": (
            lambda: staged(lambda n: n + 1, 2**64),
            "make_jaxpr(<lambda>): argument 'n' is 18446744073709551616 | int64 in a program | "
            "Fix: float(18446744073709551616)",
        ),
    },
    errors.NaNError: {
        "forward": (
            lambda: watched(lambda x: np.log(x - 2), 1.0),
            "log gives NaN in the forward pass, where x = -1.0 | where(x > 0, x, 1.0)",
        ),
        "backward": (
            lambda: watched(lambda x: (np.sqrt(x) * x).sum(), np.array([1.0, 0.0, 0.0])),
            "the pullback of sqrt gives NaN in 2 of 3 elements in the backward pass, first at [1], where g = 0.0, "
            "y = 0.0",
        ),
        "of an infinity": (
            lambda: watched(lambda x: x - x, np.inf),
            "subtract gives NaN in the forward pass, where x1 = inf, x2 = inf | debug_infs()",
        ),
    },
}
ROWS = [
    pytest.param(error, do, words, id=f"{error.__name__}: {name}")
    for error, rows in MISUSE.items()
    for name, (do, words) in rows.items()
]

# Names that a user never wrote. `Tracer` alone would also match "LeakedTracerError", which is a public name.
INTERNAL = re.compile(
    r"TracedArray|\bTracer\b|\bTape\b|\bVar\b|\bStage\b|Literal|Scattered|Masked|_Input|GetItem|<locals>|PyTreeSpec|0x[0-9a-f]{6}"
)


@pytest.mark.parametrize(("error", "do", "words"), ROWS)
def test_misuse_is_answered_in_the_users_terms(error: Any, do: Callable[[], Any], words: str) -> None:
    with pytest.raises(error) as caught:
        do()
    assert type(caught.value) is error
    message = str(caught.value)
    what, line, fix = message.split("\n")
    for part in words.split(" | "):
        assert part in f"{what}\n{fix}"

    assert what.startswith(f"[{error.code}] ")
    assert fix.startswith("  Fix: ")
    assert not INTERNAL.search(message.replace(line, ""))
    place = re.match(r"  at test_errors\.py:(\d+) in \S+: (.+)", line)
    assert place
    first = do.__code__.co_firstlineno
    helpers = (at, watched, staged, pulled, leaky, added_in_place, reuses_a_buffer)
    starts = [first, *(f.__code__.co_firstlineno for f in helpers)]
    assert any(start <= int(place[1]) <= start + 6 for start in starts)

    assert fg.grad(lambda x: x**2)(3.0) == 6.0


def test_every_error_has_a_code_and_a_builtin_base_and_stands_in_the_tree() -> None:
    classes = {c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.FuncgradError)}
    assert classes == {errors.FuncgradError, *BUILTIN}
    assert sorted(c.code for c in classes) == sorted({c.code for c in classes})
    for error, builtin in BUILTIN.items():
        assert issubclass(error, builtin)
        assert re.search(rf"{error.code} {error.__name__} +{builtin.__name__} ", core_errors.__doc__ or "")


def test_every_error_is_provoked_above() -> None:
    assert set(BUILTIN) - set(MISUSE) == {errors.InternalError}


# ── what is answered with a plain builtin error, and what is allowed


def test_an_element_of_an_array_refuses_a_traced_value_with_the_reason() -> None:
    with pytest.raises(ValueError, match="setting an array element") as caught:
        at(lambda x: np.zeros(3).__setitem__(0, x), 2.0)
    assert isinstance(caught.value.__cause__, errors.TracedValueError)


def test_an_unknown_attribute_is_named_without_internals() -> None:
    with pytest.raises(AttributeError, match=r"^a traced value has no attribute 'foo'$"):
        at(lambda x: x.foo, 2.0)
    with pytest.raises(AttributeError, match=r"'byteswap'; use a function of funcgrad.numpy"):
        at(lambda x: x.byteswap(), VECTOR)
    with pytest.raises(AttributeError, match=r"x.at\[index\].set"):
        at(lambda x: x.at.foo, VECTOR)


def test_a_scalar_has_no_length_and_cannot_be_iterated() -> None:
    with pytest.raises(TypeError, match=r"len\(\) of a 0-d array"):
        at(lambda x: len(x), 2.0)
    with pytest.raises(TypeError, match="iteration over a 0-d array"):
        at(lambda x: [*x], 2.0)


def test_the_truth_of_a_vector_is_ambiguous_as_in_numpy() -> None:
    with pytest.raises(ValueError, match="ambiguous"):
        at(lambda x: x[0] if x > 0 else x[1], VECTOR)


def test_numbers_that_do_not_fit_are_refused_as_in_numpy() -> None:
    with pytest.raises(OverflowError):
        fnp.add(np.ones(3, np.int8), 300)
    with pytest.raises(ValueError, match="negative integer powers"):
        fnp.power(np.arange(3), -1)


def test_formatting_shows_the_value_or_the_type() -> None:
    texts = []
    fg.grad(lambda x: (texts.append(f"{x:.2f} {x}"), x)[1])(2.0)
    fg.make_jaxpr(lambda x: (texts.append(f"{x:.2f} {x * np.ones(2)!r}"), x)[1])(2.0)
    fg.grad(lambda x: (texts.append(repr(x)), x.sum())[1])(VECTOR)
    assert texts == ["2.00 2.0", "~f64[] traced f64[2]", "traced f64[3] = array([1., 2., 3.])"]


def test_int_of_a_traced_value_is_allowed_since_its_derivative_is_zero() -> None:
    assert at(lambda x: x * int(x), 3.7) == 3.0


def test_a_copy_of_a_traced_value_keeps_its_derivative() -> None:
    assert at(lambda x: copy.copy(x) * copy.deepcopy({"x": x})["x"], 3.0) == 6.0


def test_the_error_of_the_user_passes_through_unchanged() -> None:
    class MyError(Exception):
        pass

    def f(x: Any) -> Any:
        raise MyError("my own")

    with pytest.raises(MyError, match=r"^my own$"):
        fg.grad(fg.grad(f))(2.0)


def test_the_line_is_that_of_the_user_also_in_the_backward_pass() -> None:
    _, pullback = fg.vjp(lambda x: x * 2, VECTOR)
    with pytest.raises(
        errors.CotangentError, match=r"at test_errors.py:\d+ in test_the_line.*: pullback\(VECTOR\[:2\]\)"
    ):
        pullback(VECTOR[:2])


def test_a_leaked_value_is_called_a_leak_also_where_it_is_to_become_a_number() -> None:
    kept: list[Any] = []
    fg.grad(lambda x: kept.append(x * 2) or x)(1.0)
    for use in (float, np.asarray, lambda x: x.item()):
        with pytest.raises(errors.LeakedTracerError, match="has_aux=True"):
            use(kept[0])


def test_writing_a_traced_value_into_an_array_by_function_is_answered_with_at() -> None:
    target = np.zeros(3)
    for write in (lambda x: np.copyto(target, x), lambda x: np.add.at(target, [0, 0, 1], x)):
        with pytest.raises(errors.MutationError, match=r"funcgrad\.at"):
            fg.grad(lambda x, write=write: write(x) or x.sum())(np.ones(3))


def test_assigning_to_at_is_answered_with_set() -> None:
    with pytest.raises(errors.MutationError, match=r"x\.at\[index\]\.set\(v\)"):
        fg.at(np.zeros(3))[0] = 1.0
