"""Staging: run a function on types alone, and get its jaxpr."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import tree as pytree
from funcgrad.core import config
from funcgrad.core.errors import ArgumentError, DTypeError, LeakedTracerError, shown, user_line
from funcgrad.core.ir import Atom, Equation, Jaxpr, Literal, check
from funcgrad.core.primitive import Primitive, out_types
from funcgrad.core.trace import Trace, Tracer, Var
from funcgrad.core.types import PYTHON_SCALARS, Array, ArrayType, type_of
from funcgrad.ops.array import TracedArray
from funcgrad.transforms.arguments import Selection, function_name


class Stage(Trace):
    """A trace without values: each operation becomes an equation."""

    __slots__ = ("_constants", "_finished", "_kept", "equations", "names")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.equations: list[Equation] = []
        self.names: dict[Var, Callable[[], str]] = {}
        self._constants: dict[int, tuple[Var, Array]] = {}
        self._finished = False

    def enter(self, t: ArrayType, name: Callable[[], str]) -> Tracer:
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
        known = self._constants.get(id(x))
        if known is None:
            t = type_of(x)
            known = self._constants[id(x)] = (Var(t.shape, t.dtype, t.weak), x)
        return known[0]

    def apply(self, primitive: Primitive, args: tuple[Array, ...]) -> Any:
        """Write an equation."""
        if self._finished:
            raise LeakedTracerError(
                f"a value that was created while {self.name} was being traced is used in {primitive.name} "
                "after the tracing has ended",
                "return the value from the function instead of storing it elsewhere",
            )
        for x in args:
            if isinstance(x, Tracer) and x.tracing.level > self.level:
                return x.tracing.apply(primitive, args)
        inputs = tuple(map(self.atom, args))
        outputs = tuple(Var(t.shape, t.dtype, t.weak) for t in out_types(primitive, inputs))
        self.equations.append(Equation(primitive, inputs, outputs, user_line()))
        tracers = tuple(TracedArray(self, var, None) for var in outputs)
        return tracers if primitive.multiple else tracers[0]

    @property
    def finished(self) -> bool:
        """True once the traced function has returned."""
        return self._finished

    def origin(self, var: Var) -> str:
        """The inputs that `var` depends on, as error messages call them."""
        reached = {var}
        for equation in reversed(self.equations):
            if not reached.isdisjoint(equation.outputs):
                reached.update(atom for atom in equation.inputs if isinstance(atom, Var))
        return ", ".join(name() for v, name in self.names.items() if v in reached)

    def finish(self, inputs: Sequence[Tracer], outputs: Sequence[Array]) -> Jaxpr:
        """End the trace: the jaxpr from these inputs to these outputs."""
        atoms = tuple(map(self.atom, outputs))
        self._finished = True
        jaxpr = Jaxpr(tuple(x.variable for x in inputs), tuple(self._constants.values()), tuple(self.equations), atoms)
        if config.CHECK:
            check(jaxpr)
        return jaxpr


def _leaf_type(x: Any, name: Callable[[], str]) -> ArrayType:
    if isinstance(x, ArrayType):
        return x
    if x.__class__ in PYTHON_SCALARS or (hasattr(x, "dtype") and hasattr(x, "shape")):
        return type_of(x)
    raise DTypeError(
        f"{name()} is {shown(x)}, not an array or a number",
        "mark the argument static (static_argnums) or close over it",
    )


def stage(
    f: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    transformation: str = "make_jaxpr",
    static: Sequence[int] = (),
) -> tuple[Jaxpr, Any]:
    """The jaxpr of `f` on arguments of these types, and the structure of its result.

    The arguments at the places `static` are passed to `f` as they are.
    """
    trace = Stage(f"{transformation}({function_name(f)})")
    leaves, structure = pytree.flatten(({i: x for i, x in enumerate(args) if i not in static}, kwargs))
    selection = Selection(transformation, f, None, None)

    def name_of(i: int) -> str:
        place = structure.accessors()[i]
        argument = selection.describe(place[1].entry)
        path = place[2:].codify("")
        return argument + (f" leaf {path}" if path else "")

    tracers = []
    for i, leaf in enumerate(leaves):
        name = functools.partial(name_of, i)
        tracers.append(trace.enter(_leaf_type(leaf, name), name))
    traced_args, traced_kwargs = pytree.unflatten(structure, tracers)
    out = f(*(traced_args.get(i, x) for i, x in enumerate(args)), **traced_kwargs)
    out_leaves, out_structure = pytree.flatten(out)
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
