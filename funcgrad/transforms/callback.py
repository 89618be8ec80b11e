"""`pure_callback`: a function that is not traced, called from within functions that are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, final

from funcgrad import tree as pytree
from funcgrad.core.errors import (
    ArgumentError,
    CustomRuleError,
    DTypeError,
    ShapeError,
    SourceLine,
    TreeError,
    shown,
    user_line,
)
from funcgrad.core.types import Array, ArrayType, is_inexact, show_long, type_of
from funcgrad.ops.callback import PureCallback, Target
from funcgrad.transforms.inputs import is_array
from funcgrad.transforms.tracing.arguments import function_name

_METHODS = ("sequential", "expand_dims", "broadcast_all")


def pure_callback(
    callback: Callable[..., Any],
    result_shape_dtypes: Any,
    *args: Any,
    vmap_method: str = "sequential",
    vjp: Callable[..., Sequence[Any]] | None = None,
    **kwargs: Any,
) -> Any:
    """Call a Python function on plain arrays from within a traced function: SciPy, a simulator, a file.

    With known values, as under `grad`, it is called at once; a program of `jit` or of a loop calls it in each run. It
    must be pure: it depends on its arguments alone, and does nothing besides. A program may leave out a call whose
    result nobody needs.

    Args:
        callback: Called with the arguments, with a read-only ndarray in place of each array and number.
        result_shape_dtypes: What it returns: a pytree of `ShapeDtypeStruct`s, or of arrays like the results.
        args: Pytrees of arrays.
        vmap_method: What `vmap` does. "sequential" calls it once for each example. The others call it once, with a
            batch axis in front of every argument and of the results: where an argument is the same for all examples,
            that axis has length 1 for "expand_dims", and the argument is repeated along it for "broadcast_all".
        vjp: The pullback, called as `vjp(ct, *args, **kwargs)` with plain arrays. `ct` is the cotangent of the result,
            with None in place of integers. It returns a tuple with a cotangent for each of `args`: a pytree like
            the argument, or None, for all of it or for a leaf, where that is zero. It has no derivative itself.
        kwargs: More arguments; these cannot be differentiated.

    Returns:
        What `callback` returns, as arrays of their own.

    Raises:
        ShapeError: The callback returns another shape than declared.
        DTypeError: It returns another dtype, or an argument is not made of arrays and numbers.
        TreeError: It returns another structure.
        CustomRuleError: `vjp` does not return a cotangent for each argument, of its shape and dtype.
        NotDifferentiableError: The result is differentiated, and there is no `vjp`.

    Examples:
        >>> import numpy as np
        >>> import scipy.special
        >>> import funcgrad as fg
        >>> def j0(x):
        ...     slope = lambda ct, x: (-ct * scipy.special.j1(x),)
        ...     return fg.pure_callback(scipy.special.j0, x, x, vjp=slope)
        >>> round(float(fg.grad(j0)(1.0)), 6)
        -0.440051
    """
    label = _checked_call(callback, vmap_method, vjp)
    site = user_line()
    types, out_structure = pytree.flatten(result_shape_dtypes)
    declared = tuple([_declared_type(label, t) for t in types])
    leaves, structure = pytree.flatten((args, kwargs))
    for i, x in enumerate(leaves):
        if not is_array(x) and not (hasattr(x, "shape") and hasattr(x, "dtype")):
            place = structure.accessors()[i]
            name = f"argument {place[1].entry!r}" + place[2:].codify("")
            raise DTypeError(
                f"pure_callback: {name} of {label} is {shown(x)}, not an array or a number",
                "bind it to the function: functools.partial(callback, mode='fast')",
            )
    primitive = PureCallback(
        label,
        _Function(label, _Same(callback), structure, out_structure, site),
        declared,
        vmap_method,
        None if vjp is None else _Pullback(label, _Same(vjp), structure, out_structure, declared, site),
        len(pytree.leaves(args)),
        site=site,
    )
    return pytree.unflatten(out_structure, list(primitive(*leaves)))


def _checked_call(callback: Any, vmap_method: Any, vjp: Any) -> str:
    """The name of the function, if it is one and the options are options."""
    for f in (callback,) if vjp is None else (callback, vjp):
        if not callable(f):
            raise ArgumentError(f"pure_callback takes a function, got {shown(f)}", "pure_callback(f, types, x)")
    if vmap_method not in _METHODS:
        raise ArgumentError(
            f"pure_callback: vmap_method={vmap_method!r} is none of {', '.join(map(repr, _METHODS))}",
            "vmap_method='sequential' calls the function once for each example",
        )
    return function_name(callback)


def _declared_type(label: str, t: Any) -> ArrayType:
    if not is_array(t) and not (hasattr(t, "shape") and hasattr(t, "dtype")):
        raise DTypeError(
            f"pure_callback: {shown(t)} is declared as a result of {label}, which is not the type of an array",
            "ShapeDtypeStruct((3,), numpy.float64), or an array like the result",
        )
    t = type_of(t)
    return ArrayType(t.shape, t.dtype)


@final
class _Same:
    """A function, equal to itself alone, whatever its class thinks of that."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.call is other.call

    def __hash__(self) -> int:
        return id(self.call)


@final
@dataclass(frozen=True, slots=True)
class _Function(Target):
    """The callback: from the leaves of its arguments to the leaves of its result."""

    label: str
    function: _Same
    inputs: pytree.Structure
    outputs: pytree.Structure
    site: SourceLine | None = field(compare=False)

    def call(self, xs: Sequence[Array]) -> Any:
        args, kwargs = pytree.unflatten(self.inputs, xs)
        return self.function.call(*args, **kwargs)

    def unpack(self, result: Any) -> Sequence[Any]:
        leaves, structure = pytree.flatten(result)
        if structure != self.outputs:
            expected = pytree.unflatten(self.outputs, [0.0] * self.outputs.num_leaves)
            raise TreeError(
                f"the callback {self.label} does not return what was declared: {pytree.difference(expected, result)}",
                "declare a pytree like the result, with a ShapeDtypeStruct for each array",
                self.site,
            )
        return leaves

    def refuse(self, i: int, got: ArrayType, declared: ArrayType) -> NoReturn:
        path = pytree.paths(self.outputs)[i]
        error = DTypeError if got.shape == declared.shape else ShapeError
        raise error(
            f"the callback {self.label} returned {show_long(got)}{path and f' at {path}'}, "
            f"declared {show_long(declared)}",
            f"return x.astype({declared.dtype.name!r})" if error is DTypeError else "declare the shape that it returns",
            self.site,
        )


@final
@dataclass(frozen=True, slots=True)
class _Pullback(Target):
    """The pullback: from the cotangents of the inexact results and the leaves of the arguments to cotangents."""

    label: str
    function: _Same
    inputs: pytree.Structure
    outputs: pytree.Structure
    types: tuple[ArrayType, ...]
    site: SourceLine | None = field(compare=False)

    def call(self, xs: Sequence[Array]) -> Any:
        rest = iter(xs)
        ct = [next(rest) if is_inexact(t.dtype) else None for t in self.types]
        args, kwargs = pytree.unflatten(self.inputs, rest)
        return self.function.call(pytree.unflatten(self.outputs, ct), *args, **kwargs)

    def unpack(self, result: Any) -> Sequence[Any]:
        args = self.inputs.child(0).children()
        if not isinstance(result, tuple | list) or len(result) != len(args):
            what = f"a {type(result).__name__} of {len(result)}" if isinstance(result, tuple | list) else shown(result)
            raise CustomRuleError(
                f"the vjp= of the callback {self.label} returned {what}, not one cotangent for each of its "
                f"{len(args)} arguments",
                "return a tuple, with None for an argument whose cotangent is zero: (ct * y, None)",
                self.site,
            )
        cts: list[Any] = []
        for i, (ct, argument) in enumerate(zip(result, args, strict=True)):
            try:
                cts += [None] * argument.num_leaves if ct is None else argument.flatten_up_to(ct)
            except ValueError:
                expected = pytree.unflatten(argument, [0.0] * argument.num_leaves)
                raise CustomRuleError(
                    f"the vjp= of the callback {self.label} returned a cotangent for argument {i} with another "
                    f"structure: {pytree.difference(expected, ct)}",
                    "return a pytree like the argument",
                    self.site,
                ) from None
        return cts

    def refuse(self, i: int, got: ArrayType, declared: ArrayType) -> NoReturn:
        place = self.inputs.accessors()[i][1:]
        raise CustomRuleError(
            f"the vjp= of the callback {self.label} returned {show_long(got)} for argument "
            f"{place[0].entry}{place[1:].codify('')}, which is {show_long(declared)}",
            "return a cotangent with the shape and the dtype of the argument",
            self.site,
        )
