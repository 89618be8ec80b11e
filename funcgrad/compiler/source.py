"""A jaxpr as the source of a Python function: one line for each equation, local variables for its variables.

The function calls what each primitive has for NumPy, lets go of each value as soon as nothing reads it any more, and
hands over outputs that belong to the caller.
"""

from __future__ import annotations

import builtins
import itertools
import keyword
import math
from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np

from funcgrad.compiler.buffers import Handover, Plan, in_place
from funcgrad.core.ir import Atom, Equation, Jaxpr, Namer
from funcgrad.core.kinds import Elementwise, IndexMap, Scatter
from funcgrad.core.primitive import Primitive
from funcgrad.core.trace import Var
from funcgrad.core.types import Array

_HELPERS = ("explain", "tidy", "unshare", "copy", "number")
_RESERVED = frozenset({*keyword.kwlist, *keyword.softkwlist, *dir(builtins), *_HELPERS})
_OUT_BY_NAME = frozenset({np.maximum, np.minimum})
# equations begin behind the line of `def` and that of `try`
FIRST_LINE = 3


@final
class Writer:
    """Writes the function of one jaxpr.

    Attributes:
        names: What the function's text refers to: primitives, constants, helpers.
        local: The name of each variable.
    """

    def __init__(self, jaxpr: Jaxpr, plan: Plan) -> None:
        self.jaxpr = jaxpr
        self.plan = plan
        self.names: dict[str, Any] = {"tidy": tidy, "unshare": unshare, "copy": copy, "number": number}
        self.local: dict[Var, str] = {}
        self._namer = Namer()
        self._known: dict[Any, str] = {}
        self._numbers: dict[str, itertools.count[int]] = {}

    def write(self) -> str:
        """The text of the function `program`."""
        parameters = ", ".join(map(self._variable, self.jaxpr.inputs))
        kept = {self.plan.roots[x] for x in self.jaxpr.outputs if isinstance(x, Var)}.intersection(self.jaxpr.inputs)
        lines = [
            self._line(*each, kept)
            for each in zip(self.jaxpr.equations, self.plan.targets, self.plan.dead, strict=True)
        ]
        results = "".join(map(self._handed, self.jaxpr.outputs, self.plan.handovers))
        return "\n".join(
            [
                f"def program({parameters}):",
                "  try:",
                *(f"    {line}" for line in lines),
                f"    return ({results})",
                "  except Exception as error:",
                "    explain(error)",
                "    raise",
            ]
        )

    def _variable(self, v: Var) -> str:
        known = self.local.get(v)
        if known is None:
            name = self._namer(v)
            known = self.local[v] = name + "_" if name in _RESERVED else name
        return known

    def _atom(self, x: Atom) -> str:
        if isinstance(x, Var):
            return self._variable(x)
        return _inline(x.value) or self._named("constant", x.value, x)

    def _named(self, stem: str, value: Any, key: Any) -> str:
        """A name for something that the function refers to."""
        known = self._known.get(key)
        if known is None:
            stem = stem if stem.isidentifier() else "operation"
            number = next(self._numbers.setdefault(stem, itertools.count(1)))
            # a variable has letters only
            known = self._known[key] = f"{stem}_{number}"
            self.names[known] = value
        return known

    def _line(self, equation: Equation, target: int | None, dead: list[Var], kept: set[Var]) -> str:
        primitive = equation.primitive
        operands = [self._atom(x) for x in equation.inputs]
        call = _callable(primitive)
        if target is not None:
            call = _overwriting(primitive) if isinstance(primitive, Scatter) else in_place(primitive) or call
            if isinstance(primitive, Elementwise):
                # by position, which is faster, where NumPy does not warn of it
                operands.append(f"out={operands[target]}" if call in _OUT_BY_NAME else operands[target])
        stem = primitive.name if target is None else f"{primitive.name}_into"
        name = self._named(stem, call, (id(primitive), target is not None))
        read = set(dead).difference(equation.outputs)
        unread = set(dead).intersection(equation.outputs)
        results = ["_" if v in unread else self._variable(v) for v in equation.outputs]
        line = f"{name}({', '.join(operands)})"
        if primitive.multiple:
            line = f"{''.join(f'{r}, ' for r in results)}= {line}" if results else line
        elif not unread:
            line = f"{results[0]} = {line}"
        gone = [self._variable(v) for v in dead if v in read and v not in kept]
        if unread and primitive.multiple:
            gone.append("_")
        return f"{line}; del {', '.join(gone)}" if gone else line

    def _handed(self, x: Atom, handover: Handover) -> str:
        name = self._atom(x)
        if isinstance(x, Var) and not x.shape:
            return f"number({name}), "
        match handover:
            case Handover.AS_IS:
                return f"{name}, "
            case Handover.UNSHARE:
                root = self._variable(self.plan.roots[x])  # type: ignore[index]  # a literal is no view
                return f"unshare({name}, {root}), "
            case _:
                return f"{handover.name.lower()}({name}), "


def _inline(value: Any) -> str | None:
    """A number as it is written; None if it has to be referred to."""
    if value.__class__ is bool or (value.__class__ is int and abs(value) < 10**18):
        return repr(value)
    return repr(value) if value.__class__ is float and math.isfinite(value) else None


def _callable(primitive: Primitive) -> Callable[..., Any]:
    if primitive.fresh or isinstance(primitive, IndexMap):
        return primitive.impl
    return _checked_results(primitive) if primitive.multiple else _checked_result(primitive.impl)


def _overwriting(primitive: Scatter) -> Callable[..., Any]:
    def call(x: Array, *rest: Array) -> Array:
        possible = x.__class__ is np.ndarray and x.flags.writeable
        return primitive.overwrite(x, *rest) if possible else primitive.impl(x, *rest)

    return call


def _checked_result(impl: Callable[..., Any]) -> Callable[..., Any]:
    def call(*xs: Array) -> Array:
        y = impl(*xs)
        return y if y.__class__ is not np.ndarray else _apart(y, xs)

    return call


def _checked_results(primitive: Primitive) -> Callable[..., Any]:
    def call(*xs: Array) -> tuple[Array, ...]:
        out: list[Array] = []
        for y in primitive.impl(*xs):
            out.append(y if y.__class__ is not np.ndarray else _apart(y, (*xs, *out)))
        return tuple(out)

    return call


def _apart(y: Array, others: Sequence[Array]) -> Array:
    """`y`, or a copy where it is not memory of its own."""
    if not y.flags.writeable:
        return y.copy()
    for x in others:
        if x.__class__ is np.ndarray and (x is y or np.may_share_memory(x, y)):
            return y.copy()
    return y


def tidy(y: Array) -> Array:
    """`y`, or a copy where it is only a part of its buffer, is not contiguous, or cannot be written into."""
    if y.__class__ is not np.ndarray or y.base is None:
        return y
    whole = y.base.__class__ is np.ndarray and y.base.nbytes == y.nbytes
    return y if whole and y.flags.forc and y.flags.writeable else y.copy()


def unshare(y: Array, x: Array) -> Array:
    """`y`, or a copy where it may be a view of `x` or `x` itself."""
    return y.copy() if y.__class__ is np.ndarray and (y.base is not None or y is x) else y


def number(y: Array) -> Array:
    """What has no axes, as a number, as machine code returns it."""
    return y[()] if y.__class__ is np.ndarray else y


def copy(y: Array) -> Array:
    """An array of its own; a number is one."""
    return y.copy() if isinstance(y, np.ndarray) else y
