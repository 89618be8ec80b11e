"""Reverse-mode differentiation: `vjp`, `grad`, `value_and_grad`, `hvp`.

`vjp` traces the function with values and hands out the walk back as a function of the output's cotangent; `grad` is
that walk from cotangent 1. Nesting needs nothing special: the walk back is made of the library's own operations, so an
outer trace records it like anything else.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import tree as pytree
from funcgrad.core.errors import ArgumentError, TreeError
from funcgrad.core.trace import Tracer, Var
from funcgrad.core.types import Array, plain_array, type_of
from funcgrad.ops.array import TracedArray
from funcgrad.transforms.checks import check_scalar, checked_cotangent, split_aux
from funcgrad.transforms.inputs import Input, describe_input, is_array, refuse_integers
from funcgrad.transforms.tracing.arguments import Selection, function_name
from funcgrad.transforms.tracing.leaks import check_leaks
from funcgrad.transforms.tracing.tape import Cotangents, Record, Tape, released


def _untraced(tape: Tape, tree: Any) -> Any:
    """`tree` with the values of this tape's tracers in their place."""
    leaves, structure = pytree.flatten(tree)
    return pytree.unflatten(structure, [x.value if isinstance(x, Tracer) and x.tracing is tape else x for x in leaves])


def _gradient_leaf(cotangents: Cotangents, var: Var, seen: set[int]) -> Array:
    """The cotangent of an input as an array of its own: a fresh, writeable ndarray, or a tracer of an outer trace."""
    g, owned = cotangents.take(var)
    if g.__class__ is not np.ndarray:
        if g is None:
            return np.zeros(var.shape, var.dtype)
        return g if isinstance(g, Tracer) else np.asarray(g)
    if not owned and (g.base is not None or id(g) in seen):
        g = g.copy()
    seen.add(id(g))
    return g


def _gradients(inputs: list[Input], cotangents: Cotangents, seen: set[int]) -> list[Any]:
    return [i.rebuild([None if v is None else _gradient_leaf(cotangents, v, seen) for v in i.vars]) for i in inputs]


def value_and_grad(
    f: Callable[..., Any],
    argnums: int | Sequence[int] | None = None,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    argnames: str | Sequence[str] | None = None,
) -> Callable[..., Any]:
    """The function that computes `f` and its gradient together.

    Args:
        f: A function that returns a real floating-point scalar.
        argnums: The positions of the arguments to differentiate; 0 if nothing is said. Negative ones count from the
            last. Each argument may be any pytree of floating-point or complex arrays.
        has_aux: True if `f` returns `(value, aux)`: `aux` is passed through.
        holomorphic: Not supported: `vjp` gives the derivative of a holomorphic function.
        allow_int: True if differentiated arguments may have integer leaves; their gradient is None.
        argnames: The names of the arguments to differentiate, instead of `argnums`.

    Returns:
        A function with the arguments of `f` that returns `(value, gradient)`, or `((value, aux), gradient)`. The
        gradient has the structure, shapes and dtypes of the argument; for a tuple of `argnums` it is a tuple, for
        several `argnames` a dict. Its leaves are fresh ndarrays.

    Raises:
        DifferentiationError: `f` does not return a real scalar, or a differentiated leaf is not floating-point.
        ArgumentError: The call lacks an argument that was chosen.

    Examples:
        >>> import funcgrad as fg
        >>> value, gradient = fg.value_and_grad(lambda w: (w["a"] * w["b"]).sum())({"a": 3.0, "b": 4.0})
        >>> float(value), float(gradient["a"])
        (12.0, 4.0)
    """
    run = _differentiator("value_and_grad", f, argnums, argnames, has_aux, holomorphic, allow_int)

    @functools.wraps(f)
    def value_and_gradient(*args: Any, **kwargs: Any) -> Any:
        value, aux, gradient = run(args, kwargs)
        return ((value, aux), gradient) if has_aux else (value, gradient)

    return value_and_gradient


def _one(y: Tracer) -> Array:
    """The cotangent 1 of the result."""
    one = y.variable.dtype.type(1)
    inner = y.value
    while isinstance(inner, Tracer):
        y, inner = inner, inner.value
    return y.tracing.lift(one) if inner is None else one


def _differentiator(
    transformation: str,
    f: Callable[..., Any],
    argnums: int | Sequence[int] | None,
    argnames: str | Sequence[str] | None,
    has_aux: bool,
    holomorphic: bool,
    allow_int: bool,
) -> Callable[[tuple[Any, ...], dict[str, Any]], tuple[Any, Any, Any]]:
    """The function of (args, kwargs) that returns (value, aux, gradient)."""
    selection = Selection(transformation, f, argnums, argnames)
    if holomorphic:
        raise NotImplementedError(
            f"{transformation}: holomorphic=True is not supported; the pullback of a holomorphic function multiplies "
            "by its derivative: vjp(f, z)[1](1 + 0j)[0]"
        )
    name = f"{transformation}({function_name(f)})"

    def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any, Any]:
        inputs: list[Input] = []
        tape = Tape(name, TracedArray, lambda number: describe_input(inputs, selection, number))
        try:
            result = differentiate(tape, inputs, args, kwargs)
            if tape.watch is not None:
                check_leaks(tape)
            return result
        except ValueError as error:
            tape.explain(error)
            raise
        finally:
            tape.held.release()

    def differentiate(
        tape: Tape, inputs: list[Input], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, Any, Any]:
        traced_args = list(args)
        for place in selection.resolve(args, kwargs):
            if place.__class__ is str:
                # the caller's dict must not hold a tracer longer than the trace
                kwargs = {**kwargs}
            target: Any = traced_args if place.__class__ is int else kwargs
            entered = Input(place, target[place])
            target[place] = entered.enter(tape)
            if not allow_int and None in entered.vars:
                refuse_integers(name, entered, selection)
            inputs.append(entered)
        out = f(*traced_args, **kwargs)
        aux = None
        if has_aux:
            out, aux = split_aux(name, out)
        if out.__class__ is not TracedArray or out.variable.shape or out.variable.dtype.kind != "f":
            check_scalar(name, f, out)
        records = tape.finish()
        cotangents = Cotangents()
        value = out
        if isinstance(out, Tracer) and out.tracing is tape:
            value = out.value
            cotangents.table[out.variable] = _one(out)
        with np.errstate(all="ignore"):
            cotangents.walk_back(tape.backwards(released(records), cotangents))
            gradient = selection.pack(_gradients(inputs, cotangents, set()))
        if value.__class__ is np.ndarray:
            value = value.copy()  # a 0-d array here is an input or a view of one
        return value, None if aux is None else _untraced(tape, aux), gradient

    return run


def grad(
    f: Callable[..., Any],
    argnums: int | Sequence[int] | None = None,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    argnames: str | Sequence[str] | None = None,
) -> Callable[..., Any]:
    """The gradient of `f`, as a function of the same arguments.

    Args:
        f: A function that returns a real floating-point scalar.
        argnums: The positions of the arguments to differentiate; 0 if nothing is said.
        has_aux: True if `f` returns `(value, aux)`.
        holomorphic: Not supported; see `value_and_grad`.
        allow_int: True if differentiated arguments may have integer leaves; their gradient is None.
        argnames: The names of the arguments to differentiate, instead of `argnums`.

    Returns:
        A function that returns the gradient, or `(gradient, aux)`; see `value_and_grad`.

    Raises:
        DifferentiationError: `f` does not return a real scalar, or a differentiated leaf is not floating-point.
        ArgumentError: The call lacks an argument that was chosen.

    Examples:
        >>> import funcgrad as fg
        >>> float(fg.grad(lambda x: x**3)(2.0))
        12.0
        >>> float(fg.grad(fg.grad(lambda x: x**3))(2.0))
        12.0
    """
    run = _differentiator("grad", f, argnums, argnames, has_aux, holomorphic, allow_int)

    @functools.wraps(f)
    def gradient_of(*args: Any, **kwargs: Any) -> Any:
        _, aux, gradient = run(args, kwargs)
        return (gradient, aux) if has_aux else gradient

    return gradient_of


def vjp(f: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """Evaluate `f`, and get the function that pulls cotangents of its output back to its inputs.

    Args:
        f: A function of the primals that returns any pytree of arrays.
        primals: The arguments, pytrees of arrays. Integer and bool leaves are passed through; their cotangent is None.
        has_aux: True if `f` returns `(out, aux)`.

    Returns:
        `(out, pullback)`, or `(out, pullback, aux)`. `pullback(ct)` takes a cotangent with the structure, shapes and
        dtypes of `out` (None for integer leaves) and returns a tuple with one cotangent for each primal. It can be
        called any number of times; changing an input or an output in place in the meantime does not matter.

    Raises:
        CotangentError: `pullback` got a cotangent that does not match `out`.
        TreeError: The cotangent has another structure than `out`.

    Examples:
        >>> import numpy as np
        >>> import funcgrad as fg
        >>> y, pullback = fg.vjp(np.sin, np.array([0.0, np.pi]))
        >>> pullback(np.array([1.0, 1.0]))
        (array([ 1., -1.]),)
    """
    selection = Selection("vjp", f, tuple(range(len(primals))) or 0, None)
    name = f"vjp({function_name(f)})"
    inputs = [Input(place, x) for place, x in enumerate(primals)]
    for entered in inputs:
        entered.leaves = [_protected(leaf) for leaf in entered.leaves]
    tape = Tape(name, TracedArray, lambda number: describe_input(inputs, selection, number))
    result = _evaluated(tape, f, inputs, has_aux)
    if tape.watch is not None:
        check_leaks(tape)
    return result


def _evaluated(tape: Tape, f: Callable[..., Any], inputs: list[Input], has_aux: bool) -> tuple[Any, ...]:
    """What `vjp` returns."""
    try:
        out = f(*(entered.enter(tape) for entered in inputs))
        aux = None
        if has_aux:
            out, aux = split_aux(tape.name, out)
        leaves, structure = pytree.flatten(out)
        records = tape.finish()
        tape.detach(records)
    except ValueError as error:
        tape.explain(error)
        raise
    finally:
        tape.held.release()
    out_vars = [x.variable if isinstance(x, Tracer) and x.tracing is tape else None for x in leaves]
    kept = _memory_of(inputs, records)
    values = [_detached(x.value if v is not None else x, kept) for x, v in zip(leaves, out_vars, strict=True)]
    pullback = _pullback(tape, inputs, records, structure, values, out_vars)
    result = (pytree.unflatten(structure, values), pullback)
    if not has_aux:
        return result
    return (*result, pytree.map(lambda x: _detached(x, kept), _untraced(tape, aux)))


def _protected(x: Any) -> Any:
    """An input as an array that nobody else can change: a read-only view has a base that may be writeable."""
    if isinstance(x, np.ndarray) and (x.flags.writeable or x.base is not None):
        return np.array(plain_array(x))
    return x


def _memory_of(inputs: list[Input], records: list[Record]) -> set[int]:
    """The ids of the arrays that a pullback will read, and of those that they are views of."""
    kept: set[int] = set()
    for arrays in ([leaf for i in inputs for leaf in i.leaves], *(saved for _, _, saved, _ in records)):
        for x in arrays:
            for part in x if x.__class__ is tuple else (x,):
                if type(part) is np.ndarray:
                    kept.update((id(part), id(part.base)))
    return kept


def _detached(x: Any, kept: set[int]) -> Any:
    """An output as an array of its own, so that the user may write into it."""
    return x.copy() if type(x) is np.ndarray and (x.base is not None or id(x) in kept) else x


def _pullback(
    tape: Tape,
    inputs: list[Input],
    records: list[Record],
    structure: pytree.Structure,
    values: list[Any],
    out_vars: list[Var | None],
) -> Callable[[Any], tuple[Any, ...]]:
    name = tape.name
    types = [type_of(v) if is_array(v) else None for v in values]

    def pullback(ct: Any) -> tuple[Any, ...]:
        """Pull a cotangent of the output back to the inputs."""
        try:
            parts = structure.flatten_up_to(ct)
        except ValueError:
            expected = pytree.unflatten(structure, list(values))
            raise TreeError(
                f"the cotangent for {name} does not have the structure of the output: "
                f"{pytree.difference(expected, ct)}",
                "pass a pytree like the output, with an array for each array",
            ) from None
        cotangents = Cotangents()
        seen = set()
        paths = pytree.paths(structure) if len(parts) > 1 else [""] * len(parts)
        for g, t, var, path in zip(parts, types, out_vars, paths, strict=True):
            g = checked_cotangent(name, g, t, path)
            if g is not None and var is not None:
                seen.add(id(g))
                cotangents.add(var, g)
        with np.errstate(all="ignore"):
            cotangents.walk_back(tape.backwards(reversed(records), cotangents))
            return tuple(_gradients(inputs, cotangents, seen))

    pullback.__qualname__ = "pullback"
    return pullback


def hvp(f: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """The product of the Hessian of `f` with a vector: the pullback of the gradient. No Hessian is built.

    Args:
        f: A function that returns a real floating-point scalar.
        argnums: The position of the argument to differentiate, any pytree.

    Returns:
        A function of `(v, *args, **kwargs)`: `v` has the structure, shapes and dtypes of the argument, and so has the
        product.

    Raises:
        CotangentError: `v` does not match the argument.

    Source:
        Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6 (1994); since the Hessian is
        symmetric, the pullback of the gradient serves for its differential.

    Examples:
        >>> import numpy as np
        >>> import funcgrad as fg
        >>> fg.hvp(lambda x: (x**3).sum())(np.array([1.0, 0.0]), np.array([2.0, 5.0]))
        array([12.,  0.])
    """
    selection = Selection("hvp", f, argnums, None)
    if not selection.single:
        raise ArgumentError(f"hvp: argnums must be one int, got {argnums!r}", "hvp(lambda pair: f(*pair))(v, (x, y))")

    def product(v: Any, *args: Any, **kwargs: Any) -> Any:
        (place,) = selection.resolve(args, kwargs)

        def gradient_at(x: Any) -> Any:
            if isinstance(place, str):
                return grad(f, argnames=place)(*args, **{**kwargs, place: x})
            return grad(f, place)(*args[:place], x, *args[place + 1 :], **kwargs)

        gradient_at.__name__ = f"grad({function_name(f)})"
        _, pullback = vjp(gradient_at, kwargs[place] if isinstance(place, str) else args[place])
        return pullback(v)[0]

    return product
