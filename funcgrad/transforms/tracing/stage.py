"""Staging: run a function on types alone, and get its jaxpr."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import FunctionType
from typing import Any

import numpy as np

from funcgrad import tree as pytree
from funcgrad.core import config
from funcgrad.core.errors import ArgumentError, DTypeError, SourceLine, shown, user_line
from funcgrad.core.ir import Atom, Equation, Jaxpr, Literal, check, evaluate, interned
from funcgrad.core.kinds import Elementwise
from funcgrad.core.primitive import Primitive, out_types
from funcgrad.core.trace import Trace, Tracer, Var, staging, taken_over
from funcgrad.core.types import (
    PYTHON_SCALARS,
    Array,
    ArrayType,
    DType,
    beyond_int64,
    is_inexact,
    refuse_beyond,
    show_long,
    type_of,
)
from funcgrad.ops.array import TracedArray
from funcgrad.ops.broadcast import BroadcastTo
from funcgrad.ops.flow import Given
from funcgrad.ops.refusals import refuse_leak
from funcgrad.transforms.tracing.arguments import Selection, function_name, parameter_names
from funcgrad.transforms.tracing.leaks import check_leaks


class Stage(Trace):
    """A trace without values: each operation becomes an equation.

    Args:
        name: What error messages call it, such as `jit(f)`.
        derived: True if it runs rules over a jaxpr, not a user's function. What arrays there are then come from the
            rules: they become part of the program.
    """

    __slots__ = ("_constants", "_derived", "_finished", "equations", "names", "source")

    def __init__(self, name: str, derived: bool = False) -> None:
        super().__init__(name)
        self.equations: list[Equation] = []
        # the line of user code that the next equations come from, where it is not the one that is running
        self.source: SourceLine | None = None
        self._derived = derived
        self.names: dict[Var, Callable[[], str]] = {}
        self._constants: dict[int, tuple[Var, Array]] = {}
        self._finished = False

    def enter(self, t: ArrayType, name: Callable[[], str]) -> TracedArray:
        """A tracer for an input of type `t`, which error messages call `name()`."""
        var = Var(t.shape, t.dtype, t.weak)
        self.names[var] = name
        return TracedArray(self, var, None)

    def atom(self, x: Array) -> Atom:
        """The variable of a tracer; a literal for a scalar; the variable of a constant for anything else."""
        if isinstance(x, Tracer) and x.tracing is self:
            return x.variable
        if x.__class__ in PYTHON_SCALARS or isinstance(x, np.generic):
            return Literal(x)
        if not isinstance(x, Tracer):
            x = np.asarray(x)
            if self._derived:
                return Literal(x[()]) if x.shape == () else self._constant(x)
        known = self._constants.get(id(x))
        if known is None:
            t = type_of(x)
            known = self._constants[id(x)] = (Var(t.shape, t.dtype, t.weak), x)
        return known[0]

    def lift(self, x: Array) -> Array:
        """A tracer whose variable is a literal: what is made of it becomes equations, and no arrays."""
        return TracedArray(self, Literal(x), None)  # type: ignore[arg-type]  # an atom does all that is asked for here

    def apply(self, primitive: Primitive, args: tuple[Array, ...]) -> Any:
        """Write an equation."""
        if self._finished:
            refuse_leak(next(x for x in args if isinstance(x, Tracer) and x.tracing is self), primitive.name)
        beyond: int | None = None
        for x in args:
            if isinstance(x, Tracer) and x.tracing.level > self.level:
                return x.tracing.apply(primitive, args)
            if x.__class__ is int and beyond_int64(x):
                beyond = x
        branch = taken_over(self, primitive)
        if branch is not None:
            return branch.apply(primitive, args)
        inputs = tuple(map(self.atom, args))
        outputs = tuple(Var(t.shape, t.dtype, t.weak) for t in out_types(primitive, inputs))
        if beyond is not None and not _holds(primitive, outputs[0].dtype, beyond):
            refuse_beyond(beyond, f"{self.name}: an operand of {primitive.name}")
        self.equations.append(Equation(primitive, inputs, outputs, self.source or user_line()))
        tracers = tuple(TracedArray(self, var, None) for var in outputs)
        return tracers if primitive.multiple else tracers[0]

    def _constant(self, x: Array) -> Var:
        known = self._constants.get(id(x))
        if known is None:
            var = Var(x.shape, x.dtype)
            # the table keeps the array alive, so that its id stays its own
            known = self._constants[id(x)] = (var, x)
            uniform = x.size and not any(x.strides)
            primitive = BroadcastTo(x.shape) if uniform else Given.of(x)
            inputs = (Literal(x[(0,) * x.ndim]),) if uniform else ()
            self.equations.append(Equation(primitive, inputs, (var,), self.source))
        return known[0]

    def replay(self, jaxpr: Jaxpr, args: Sequence[Array]) -> list[Array]:
        """`evaluate`, with each new equation at the line of the one that it comes from."""

        def locate(equation: Equation) -> None:
            self.source = equation.source

        with staging(self):
            outputs = evaluate(jaxpr, args, locate)
        self.source = None
        return outputs

    @property
    def finished(self) -> bool:
        """True once the traced function has returned."""
        return self._finished

    def line(self, var: Var) -> SourceLine | None:
        """The line of user code that made `var`; None for an input."""
        return next((equation.source for equation in self.equations if var in equation.outputs), None)

    def origin(self, var: Var) -> str:
        """The inputs that `var` depends on, as error messages call them."""
        return ", ".join(self.names[v]() for v in self._reached(var))

    def settings(self, var: Var) -> Sequence[str]:
        """The same, if all of them are scalars."""
        reached = self._reached(var)
        return () if any(v.shape for v in reached) else [self.names[v]() for v in reached]

    def _reached(self, var: Var) -> list[Var]:
        """The inputs that `var` depends on."""
        reached = {var}
        for equation in reversed(self.equations):
            if not reached.isdisjoint(equation.outputs):
                reached.update(atom for atom in equation.inputs if isinstance(atom, Var))
        return [v for v in self.names if v in reached]

    def made(self, var: Var) -> SourceLine | None:
        """The line of the equation that gives `var`; None for an input."""
        return next((equation.source for equation in self.equations if var in equation.outputs), None)

    def finish(self, inputs: Sequence[Tracer], outputs: Sequence[Array]) -> Jaxpr:
        """End the trace: the jaxpr from these inputs to these outputs."""
        for x in outputs:
            if beyond_int64(x):
                refuse_beyond(x, f"{self.name}: a result")
        atoms = tuple(map(self.atom, outputs))
        self._finished = True
        constants = () if self._derived else tuple(self._constants.values())
        jaxpr = Jaxpr(tuple(x.variable for x in inputs), constants, tuple(self.equations), atoms)
        if config.CHECK:
            check(jaxpr)
        return jaxpr


def _holds(primitive: Primitive, dtype: DType, x: int) -> bool:
    """True if an integer beyond int64 is an operand that NumPy computes with as it is: in float, or in uint64."""
    return isinstance(primitive, Elementwise) and (dtype.kind not in "iu" or (dtype.kind == "u" and 0 <= x < 2**64))


def closed(jaxpr: Jaxpr) -> tuple[Jaxpr, list[Array]]:
    """The jaxpr with its constants as leading inputs, and their values."""
    lifted = tuple(var for var, _ in jaxpr.constants)
    body = Jaxpr((*lifted, *jaxpr.inputs), (), jaxpr.equations, jaxpr.outputs)
    return interned(body), [value for _, value in jaxpr.constants]


def _is_numeric(x: Any) -> bool:
    """True for a number, and for an array of numbers."""
    if x.__class__ in PYTHON_SCALARS:
        return True
    if not (hasattr(x, "dtype") and hasattr(x, "shape")):
        return False
    return getattr(x.dtype, "kind", "") in "biufc" or is_inexact(x.dtype)


class _Arguments:
    """The arguments of a function that is staged: what messages call them, and what they have to be."""

    def __init__(self, transformation: str, f: Callable[..., Any], structure: pytree.Structure) -> None:
        self._transformation = transformation
        self._f = f
        self._selection = Selection(transformation, f, None, None)
        self._structure = structure

    def _place(self, i: int) -> tuple[int | str, str]:
        """The argument that leaf `i` belongs to, and where in there it is."""
        place = self._structure.accessors()[i]
        return place[1].entry, place[2:].codify("")

    def name(self, i: int) -> str:
        """What messages call leaf `i`: `argument 'p' leaf ['w']`."""
        entry, path = self._place(i)
        argument = self._selection.describe(entry)
        return argument + (f" leaf {path}" if path else "")

    def type_of(self, i: int, x: Any) -> ArrayType:
        """The type of leaf `i`.

        Raises:
            DTypeError: It is neither an array nor a number.
            RangeError: It is a Python int that int64 does not hold.
        """
        if isinstance(x, ArrayType):
            return x
        if beyond_int64(x):
            static = self._marked(i) if self._transformation == "jit" and not self._place(i)[1] else ""
            refuse_beyond(x, f"{self._transformation}({function_name(self._f)}): {self.name(i)}", static)
        if _is_numeric(x):
            return type_of(x)
        array = isinstance(x, np.ndarray)
        what = f"{show_long(type_of(x))}, not an array of numbers" if array else f"{shown(x)}, not an array"
        name = f"{self._transformation}({function_name(self._f)})"
        raise DTypeError(f"{name}: {self.name(i)} is {what}", self._way_out(i, x))

    def _marked(self, i: int) -> str:
        """How to make the argument that leaf `i` belongs to static."""
        entry = self._place(i)[0]
        if isinstance(entry, int) and self._transformation == "jit":
            names = parameter_names(self._f)
            entry = names[entry] if names[entry : entry + 1] not in ([], ["self"]) else entry
        option = f"static_argnames={entry!r}" if isinstance(entry, str) else f"static_argnums={entry}"
        return f"{self._transformation}({function_name(self._f)}, {option})"

    def _way_out(self, i: int, x: Any) -> str:
        path = self._place(i)[1]
        if isinstance(x, np.ndarray):
            return "pass an array of numbers: x.astype(float)"
        if path:
            return "take it out of the pytree, or mark the field of a dataclass: field(metadata={'static': True})"
        if self._transformation == "eval_shape":
            return "close over it: eval_shape(lambda x: f(x, 'fast'), x)"
        mark = f"mark it: {self._marked(i)}"
        if isinstance(x, str | bytes | enum.Enum | FunctionType):
            return mark
        return f"{mark}; an object with arrays in it: make its class a dataclass, or tree.register_pytree_node"


def _check_result(name: str, leaves: Sequence[Any], structure: pytree.Structure) -> None:
    """What is staged returns arrays, numbers and None."""
    for i, x in enumerate(leaves):
        if not (isinstance(x, Tracer) or _is_numeric(x)):
            path = pytree.paths(structure)[i]
            raise DTypeError(
                f"{name}: the function returned {shown(x)}{f' at {path}' if path else ''}, not an array or a number",
                "return arrays, numbers and None, in tuples, lists, dicts and dataclasses; add the rest outside",
            )


def stage(
    f: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    transformation: str = "make_jaxpr",
    static: Sequence[int] = (),
    during: Callable[[Trace], AbstractContextManager[Any]] = nullcontext,
) -> tuple[Jaxpr, pytree.Structure]:
    """The jaxpr of `f` on arguments of these types, and the structure of its result.

    The arguments at the places `static` are passed to `f` as they are. `f` is called in the context `during(trace)`.
    """
    trace = Stage(f"{transformation}({function_name(f)})")
    with staging(trace), during(trace):
        staged = _staged(trace, f, args, kwargs, transformation, static)
    check_leaks(trace)
    return staged


def _staged(
    trace: Stage,
    f: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    transformation: str,
    static: Sequence[int],
) -> tuple[Jaxpr, pytree.Structure]:
    leaves, structure = pytree.flatten(({i: x for i, x in enumerate(args) if i not in static}, kwargs))
    arguments = _Arguments(transformation, f, structure)
    tracers = [trace.enter(arguments.type_of(i, x), functools.partial(arguments.name, i)) for i, x in enumerate(leaves)]
    traced_args, traced_kwargs = pytree.unflatten(structure, tracers)
    out = f(*(traced_args.get(i, x) for i, x in enumerate(args)), **traced_kwargs)
    out_leaves, out_structure = pytree.flatten(out)
    _check_result(trace.name, out_leaves, out_structure)
    return trace.finish(tracers, out_leaves), out_structure


def make_jaxpr(
    f: Callable[..., Any], static_argnums: int | Sequence[int] = (), return_shape: bool = False
) -> Callable[..., Any]:
    """The function that returns the jaxpr of `f` for arguments like these.

    Args:
        f: Any function of pytrees of arrays.
        static_argnums: The positions of arguments that are passed to `f` as they are, such as flags.
        return_shape: True to get `(jaxpr, types)`, where `types` is the result of `f` with types for arrays.

    Returns:
        A function with the arguments of `f`. Only their types matter; `ShapeDtypeStruct`s will do.

    Raises:
        DTypeError: An argument is not made of arrays and numbers.
        ArgumentError: The call has no argument at a position of `static_argnums`.
        TracedBoolError: `f` branches on a value.

    Examples:
        >>> import numpy as np
        >>> import funcgrad as fg
        >>> fg.make_jaxpr(fg.grad(lambda x: x**2))(3.0)
        { lambda ; a:~f64[]. let
            b:~f64[] = power a 2
            c:~f64[] = multiply 2 a
            d:f64[] = multiply 1.0:f64 c
          in d }
    """
    static = (static_argnums,) if isinstance(static_argnums, int) else tuple(static_argnums)

    def jaxpr_of(*args: Any, **kwargs: Any) -> Any:
        jaxpr, structure = stage(f, args, kwargs, static=_places(static, len(args)))
        return (jaxpr, pytree.unflatten(structure, jaxpr.out_types)) if return_shape else jaxpr

    return jaxpr_of


def _places(static: tuple[Any, ...], count: int) -> list[int]:
    """`static_argnums`, counted from the front."""
    for i in static:
        if not isinstance(i, int) or not -count <= i < count:
            raise ArgumentError(
                f"make_jaxpr: static_argnums={i!r} in a call with {count} positional arguments",
                "give the position of an argument that is passed by position: static_argnums=0",
            )
    return [i % count for i in static]


def eval_shape(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The shapes and dtypes of `f(*args, **kwargs)`, without computing anything.

    Args:
        f: Any function of pytrees of arrays.
        args: Arrays, numbers, or `ShapeDtypeStruct`s.
        kwargs: The same, by keyword.

    Returns:
        The result of `f` with a `ShapeDtypeStruct` in place of each array.

    Examples:
        >>> import numpy as np
        >>> import funcgrad as fg
        >>> fg.eval_shape(np.matmul, fg.ShapeDtypeStruct((3, 4), np.float32), np.ones((4, 5)))
        f64[3,5]
    """
    jaxpr, structure = stage(f, args, kwargs, "eval_shape")
    return pytree.unflatten(structure, jaxpr.out_types)
