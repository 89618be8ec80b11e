"""Closure conversion: what a function closes over becomes an argument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from funcgrad import tree as pytree
from funcgrad.core.errors import ArgumentError, TreeError
from funcgrad.core.ir import evaluate
from funcgrad.core.trace import Tracer
from funcgrad.core.types import Array, is_inexact, show_long, type_of
from funcgrad.transforms.tracing.arguments import function_name
from funcgrad.transforms.tracing.stage import stage


def closure_convert(fun: Callable[..., Any], *example_args: Any) -> tuple[Callable[..., Any], list[Array]]:
    """A function without hidden inputs: the arrays that `fun` closes over become its last arguments.

    This is for code that gives a function a derivative of its own, such as a solver: a `custom_vjp` has a cotangent for
    each argument, and sees nothing of what a function among them closes over.

    Args:
        fun: A function of pytrees of arrays. It is traced on types.
        example_args: Arguments like those that it will be called with, or their types.

    Returns:
        `(converted, consts)`, with `converted(*args, *consts)` equal to `fun(*args)`. The constants are the traced
        values and the floating-point and complex arrays that `fun` closes over. Python numbers, integers and bools stay
        where they are.

    Raises:
        ArgumentError: `converted` is called with other shapes or dtypes than those of the examples.
        TreeError: It is called with other structures.

    Examples:
        >>> import numpy as np
        >>> import funcgrad as fg
        >>> w = np.array([1.0, 2.0])
        >>> converted, consts = fg.closure_convert(lambda x: np.sum(w * x), 3.0)
        >>> float(converted(3.0, *consts)), float(converted(3.0, 2 * w))
        (9.0, 18.0)
    """
    name = function_name(fun)
    jaxpr, out = stage(fun, example_args, {}, "closure_convert")
    structure = pytree.structure(example_args)
    hoisted = [(var, x) for var, x in jaxpr.constants if isinstance(x, Tracer) or is_inexact(var.dtype)]
    variables = {var for var, _ in hoisted}
    others = tuple([(var, x) for var, x in jaxpr.constants if var not in variables])
    explicit = replace(jaxpr, inputs=(*jaxpr.inputs, *(var for var, _ in hoisted)), constants=others)

    def converted(*args: Any) -> Any:
        """The function, with what it closed over as its last arguments."""
        count = len(args) - len(hoisted)
        if count != len(example_args):
            raise ArgumentError(
                f"the converted {name} takes {len(example_args)} arguments and {len(hoisted)} constants, "
                f"got {len(args)} in all",
                "converted(*args, *consts)",
            )
        leaves, got = pytree.flatten(args[:count])
        if got != structure:
            expected = pytree.unflatten(structure, list(jaxpr.in_types))
            raise TreeError(
                f"the converted {name} is called with another structure than in the examples: "
                f"{pytree.difference(expected, args[:count])}",
                "convert it with arguments like those that it is called with",
            )
        operands = [*leaves, *args[count:]]
        for i, (var, x) in enumerate(zip(explicit.inputs, operands, strict=True)):
            t = type_of(x)
            if t.shape != var.shape or (t.dtype != var.dtype and not t.weak):
                place = pytree.paths(structure)[i] if i < len(leaves) else f"[{i - len(leaves) + count}]"
                raise ArgumentError(
                    f"the converted {name} takes {show_long(var)} at {place} of its arguments, got {show_long(t)}",
                    "convert it with arguments like those that it is called with",
                )
        return pytree.unflatten(out, evaluate(explicit, operands))

    converted.__name__ = converted.__qualname__ = name
    return converted, [x for _, x in hoisted]
