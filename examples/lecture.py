"""The graphs of the lecture: every intermediate value, and beside it the gradient that flows back to it.

Forwards, a function is a list of equations. Backwards, each equation hands the gradient of its output on to its
inputs. Both are read off the jaxpr, so `table` does this for any function.

Source: backpropagation as taught in Stanford CS231n and Michigan EECS 498-007, with their numbers.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.extend import Array, Atom, Jaxpr, Literal, Namer, render_equation


class Row(NamedTuple):
    """A variable of the jaxpr: the equation that gives it its value, that value, and the gradient of the output."""

    equation: str
    value: Array
    gradient: Array


def table(f: Callable[..., Any], *args: Any, upstream: Any = None) -> list[Row]:
    """One row for each input and each intermediate of `f(*args)`.

    The gradient with respect to an intermediate is the gradient with respect to a shift of it, at shift zero: one
    pullback gives all of them.

    Args:
        f: A function of arrays.
        args: Its arguments.
        upstream: The gradient that arrives at the output, a pytree of arrays like the output; ones if nothing is said.
    """
    arrays = [np.asarray(x, float) for x in args]
    jaxpr = fg.make_jaxpr(f)(*arrays)
    variables = [*jaxpr.inputs, *(var for equation in jaxpr.equations for var in equation.outputs)]
    shifts = [np.zeros(var.shape, var.dtype) for var in variables]
    outputs, pullback, values = fg.vjp(lambda s: evaluate_shifted(jaxpr, arrays, s), shifts, has_aux=True)
    seeds = [np.ones_like(y) for y in outputs] if upstream is None else fg.tree.leaves(upstream)
    (gradients,) = pullback([np.asarray(g, float) for g in seeds])
    return [Row(*row) for row in zip(equations(f, jaxpr), values, gradients, strict=True)]


def evaluate_shifted(jaxpr: Jaxpr, args: Sequence[Array], shifts: Sequence[Array]) -> tuple[list[Array], list[Array]]:
    """The outputs of the jaxpr and the values of all its variables, with a shift added to each as it is computed."""
    shift = iter(shifts)
    values = {var: x + next(shift) for var, x in zip(jaxpr.inputs, args, strict=True)}
    known = dict(jaxpr.constants) | values

    def read(atom: Atom) -> Array:
        return atom.value if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.equations:
        y = equation.primitive(*map(read, equation.inputs))
        for var, part in zip(equation.outputs, y if equation.primitive.multiple else (y,), strict=True):
            known[var] = values[var] = part + next(shift)
    return [read(atom) for atom in jaxpr.outputs], list(values.values())


def equations(f: Callable[..., Any], jaxpr: Jaxpr) -> Iterator[str]:
    """The inputs by the names of their parameters, then the equations, in jaxpr notation."""
    name = Namer()
    for var, parameter in zip(jaxpr.inputs, inspect.signature(f).parameters, strict=True):
        yield f"{name.typed(var)} = {parameter}"
    for equation in jaxpr.equations:
        yield render_equation(equation, name)


def show(title: str, rows: Sequence[Row]) -> None:
    """Print a table; a matrix takes several lines."""
    head = [["equation"], ["value"], ["gradient"]]
    body = [[[row.equation], number(row.value), number(row.gradient)] for row in rows]
    left, middle, right = (max(len(line) for row in [head, *body] for line in row[column]) for column in range(3))
    rule = [["─" * left], ["─" * middle], ["─" * right]]
    print(f"\n{title}\n")
    for row in [head, rule, *body]:
        for a, b, c in itertools.zip_longest(*row, fillvalue=""):
            print(f"  {a:<{left}}   {b:>{middle}}   {c:>{right}}".rstrip())


def number(x: Array) -> list[str]:
    """Lines of one length with two decimals, as the lecture writes them; a dash where there is no gradient."""
    if x is None:
        return ["–"]
    lines = np.array2string(np.asarray(x) + 0, precision=2, floatmode="fixed").split("\n")
    return [line.ljust(len(lines[-1])) for line in lines]


def product_of_sum(x: Array, y: Array, z: Array) -> Array:
    return (x + y) * z


def neuron(w0: Array, w1: Array, w2: Array, x0: Array, x1: Array) -> Array:
    return 1 / (1 + fnp.exp(-(w0 * x0 + w1 * x1 + w2)))


X = np.array([[2, 1, -3], [-3, 4, 2]])
W = np.array([[3, 2, 1, -1], [2, 1, 3, 2], [3, 2, 1, -2]])
DL_DY = np.array([[2, 3, -3, 9], [-8, 1, 4, 6]])


def lecture() -> dict[str, list[Row]]:
    """The graphs of the lecture, by title."""
    return {
        "f = (x + y)·z": table(product_of_sum, -2, 5, -4),
        "f = 1 / (1 + exp(-(w0·x0 + w1·x1 + w2)))": table(neuron, 2, -3, -3, -1, -2),
        "the add gate distributes": table(lambda x, y: x + y, 3, 4, upstream=2),
        "the multiply gate swaps": table(lambda x, y: x * y, 2, 3, upstream=5),
        "the copy gate adds": table(lambda x: (x, x), 7, upstream=(4, 2)),
        "the max gate routes": table(lambda x, y: fnp.maximum(x, y), 4, 5, upstream=9),
        "ReLU lets the gradient of positive inputs through": table(
            lambda x: fg.nn.relu(x), np.array([1, -2, 3, -1]), upstream=np.array([4, -1, 5, 9])
        ),
        "Y = X @ W: dL/dX = dL/dY @ W.T, dL/dW = X.T @ dL/dY": table(lambda X, W: X @ W, X, W, upstream=DL_DY),
    }


def main() -> None:
    for title, rows in lecture().items():
        show(title, rows)


if __name__ == "__main__":
    main()
