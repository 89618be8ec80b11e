"""The door for people who add a primitive or read a jaxpr: everything such a file needs, and nothing else.

A function of one or two arguments is one line, `unary` or `binary`; anything else is a class with four rules, a
subclass of one of the kinds. CONTRIBUTING.md walks through both.
"""

from __future__ import annotations

from funcgrad.core.errors import (
    ArgumentError,
    DTypeError,
    FuncgradError,
    NotDifferentiableError,
    OutOfBoundsError,
    ShapeError,
)
from funcgrad.core.ir import Atom, Equation, Jaxpr, Literal, Namer, check, render_equation
from funcgrad.core.kinds import Contraction, Elementwise, IndexMap, Library, Reduction, Scatter
from funcgrad.core.primitive import Cotangent, Masked, Primitive, Wanted, masked_linear, not_differentiable, registered
from funcgrad.core.trace import Var
from funcgrad.core.types import Array, ArrayType, Typed, promote
from funcgrad.ops.array import implements
from funcgrad.ops.broadcast import BroadcastTo, Sum, broadcast_to, unbroadcast
from funcgrad.ops.index import getitem
from funcgrad.ops.pointwise import Binary, Unary, convert, fit, select
from funcgrad.ops.shape import move_axis, reshape, transpose

unary = Unary
"""A line of the elementwise table for a function of one argument."""
binary = Binary
"""A line of the elementwise table for a function of two arguments."""

__all__ = [
    "ArgumentError",
    "Array",
    "ArrayType",
    "Atom",
    "BroadcastTo",
    "Contraction",
    "Cotangent",
    "DTypeError",
    "Elementwise",
    "Equation",
    "FuncgradError",
    "IndexMap",
    "Jaxpr",
    "Library",
    "Literal",
    "Masked",
    "Namer",
    "NotDifferentiableError",
    "OutOfBoundsError",
    "Primitive",
    "Reduction",
    "Scatter",
    "ShapeError",
    "Sum",
    "Typed",
    "Var",
    "Wanted",
    "binary",
    "broadcast_to",
    "check",
    "convert",
    "fit",
    "getitem",
    "implements",
    "masked_linear",
    "move_axis",
    "not_differentiable",
    "promote",
    "registered",
    "render_equation",
    "reshape",
    "select",
    "transpose",
    "unary",
    "unbroadcast",
]
