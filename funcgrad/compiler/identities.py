"""Algebraic identities: a table from an operation to the equations that it satisfies.

Each one is exact, for every bit of every float: x + 0 is not x, since −0 + 0 is 0, but x + (−0) is. An identity that
would change a shape, a dtype or its weakness is not applied; so the rules below need not look.

A rule gets an operation that is about to be written, as a `Term`, and answers with a variable or a literal that has its
value, with another term, or with None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from typing import Any, TypeAlias, final

import numpy as np

from funcgrad.core.ir import Atom, Equation, Literal
from funcgrad.core.kinds import Elementwise
from funcgrad.core.primitive import Primitive
from funcgrad.core.trace import Var
from funcgrad.core.types import ArrayType, DType, Typed, broadcast_shapes

Key: TypeAlias = "np.ufunc | str | None"
_OUR_NAMES: dict[Key, str] = {np.invert: "bitwise_not"}
_LIBRARY = __name__.partition(".")[0]


@final
@dataclass(frozen=True, slots=True)
class Term:
    """`primitive(inputs)`, with the equations that have made the inputs."""

    primitive: Primitive
    inputs: tuple[Atom, ...]
    type: ArrayType
    made: Mapping[Var, Equation]

    def origin(self, x: Atom, *keys: Key) -> Equation | None:
        """The equation that has made `x`, if it is one of these operations."""
        equation = self.made.get(x) if isinstance(x, Var) else None
        return equation if equation is not None and key_of(equation.primitive) in keys else None

    def become(self, *inputs: Atom, **parameters: Any) -> Term:
        """The same operation on other inputs, with other parameters."""
        this: Any = self.primitive
        return Term(replace(this, **parameters) if parameters else this, inputs, self.type, self.made)

    def like(self, equation: Equation, *inputs: Atom, **parameters: Any) -> Term:
        """The operation of `equation` on other inputs, with other parameters."""
        this: Any = equation.primitive
        return Term(replace(this, **parameters) if parameters else this, inputs, self.type, self.made)


Rule: TypeAlias = Callable[[Term], "Atom | Term | None"]


def key_of(primitive: Primitive) -> Key:
    """What the table knows an operation by: its NumPy function, or its name where it has none; None if it is foreign.

    A primitive from outside the library may have the same name as one of ours, or the same function, but a pullback
    of its own, which would be lost.
    """
    if isinstance(primitive, Elementwise) and primitive.ufunc is not None:
        ufunc = primitive.ufunc
        return ufunc if primitive.name == _OUR_NAMES.get(ufunc, ufunc.__name__) else None
    return primitive.name if type(primitive).__module__.partition(".")[0] == _LIBRARY else None


def same_type(a: Typed, b: Typed) -> bool:
    """True if two types are equal, of whatever class they are."""
    return a.shape == b.shape and a.dtype == b.dtype and a.weak == b.weak


def same(a: Atom, b: Atom) -> bool:
    """True if two atoms are known to have the same value."""
    return a is b or (isinstance(a, Literal) and isinstance(b, Literal) and literal_key(a) == literal_key(b))


def literal_key(x: Literal) -> Any:
    """What tells a literal from any other one: 0.0 from −0.0, and 1 from 1.0 and True."""
    value = x.value
    if isinstance(value, np.generic):
        return (value.dtype, value.tobytes())
    return (type(value), np.asarray(value).tobytes() if isinstance(value, float | complex) else value)


def parameters_key(primitive: Primitive) -> Any:
    """What tells a primitive from any other one: floats as text, too, since 0.0 equals −0.0."""
    names = _parameters(type(primitive))
    if not names:
        return primitive
    floats = tuple([repr(x) for name in names if isinstance(x := getattr(primitive, name), float | complex)])
    return (primitive, floats) if floats else primitive


def application_key(primitive: Primitive, inputs: Sequence[Atom], outputs: Sequence[Var]) -> Any:
    """What equal applications have in common; None if the primitive cannot be compared."""
    key = (
        parameters_key(primitive),
        tuple([literal_key(x) if isinstance(x, Literal) else x for x in inputs]),
        tuple([(v.shape, v.dtype, v.weak) for v in outputs]),
    )
    try:
        hash(key)
    except TypeError:
        return None
    return key


@cache
def _parameters(kind: Any) -> tuple[str, ...]:
    return tuple(f.name for f in fields(kind)) if is_dataclass(kind) else ()


# ── numbers


def _number(x: Atom) -> Any:
    return x.value if isinstance(x, Literal) else math.nan


def _one(x: Atom, dtype: DType) -> bool:
    # a complex 1 has an imaginary part, which turns inf into nan
    return dtype.kind != "c" and bool(_number(x) == 1)


def _zero(x: Atom, dtype: DType) -> bool:
    """0, and not −0, unless the two are the same."""
    z = _number(x)
    return bool(z == 0) and (dtype.kind in "iu" or not (np.signbit(z.real) or np.signbit(z.imag)))


def _minus_zero(x: Atom, dtype: DType) -> bool:
    """−0, or any 0 if the two are the same."""
    z = _number(x)
    return dtype.kind != "c" and bool(z == 0) and (dtype.kind in "iu" or bool(np.signbit(z)))


def _all_ones(x: Atom, dtype: DType) -> bool:
    return bool(_number(x) == -1) and dtype.kind == "i"


def _true(x: Atom, dtype: DType) -> bool:
    return dtype.kind == "b" and bool(_number(x) == 1)


def _false(x: Atom, dtype: DType) -> bool:
    return dtype.kind == "b" and bool(_number(x) == 0)


Test: TypeAlias = Callable[[Atom, DType], bool]


def _right(*tests: Test) -> Rule:
    """X ∘ e = x."""

    def rule(t: Term) -> Atom | None:
        x1, x2 = t.inputs
        return x1 if any(test(x2, t.type.dtype) for test in tests) else None

    return rule


def _left(*tests: Test) -> Rule:
    """E ∘ x = x."""

    def rule(t: Term) -> Atom | None:
        x1, x2 = t.inputs
        return x2 if any(test(x1, t.type.dtype) for test in tests) else None

    return rule


def _idempotent(t: Term) -> Atom | None:
    """X ∘ x = x."""
    x1, x2 = t.inputs
    return x1 if same(x1, x2) else None


# ── functions of one argument


def _same(t: Term) -> Atom:
    """f(x) = x, where the type says so."""
    return t.inputs[0]


def _self_inverse(t: Term) -> Atom | None:
    """f(f(x)) = x."""
    inner = t.origin(t.inputs[0], key_of(t.primitive))
    return inner.inputs[0] if inner else None


def _after(*keys: Key) -> Rule:
    """f(g(x)) = g(x)."""
    return lambda t: t.inputs[0] if t.origin(t.inputs[0], *keys) else None


def _ignores(*keys: Key) -> Rule:
    """f(g(x)) = f(x)."""

    def rule(t: Term) -> Term | None:
        inner = t.origin(t.inputs[0], *keys)
        return t.become(inner.inputs[0]) if inner else None

    return rule


def _real_only(rule: Rule) -> Rule:
    return lambda t: None if t.inputs[0].dtype.kind == "c" else rule(t)


def _signed_only(rule: Rule) -> Rule:
    return lambda t: None if t.inputs[0].dtype.kind == "u" else rule(t)


def _bool_only(rule: Rule) -> Rule:
    return lambda t: rule(t) if t.inputs[0].dtype.kind == "b" else None


# ── truth: an array of bools compared with a literal


def _compared(to: Test, of_negation: Test) -> Rule:
    """(c == True) = (c != False) = c, and (not c == False) = … = c."""

    def rule(t: Term) -> Atom | None:
        for c, literal in (t.inputs, t.inputs[::-1]):
            if c.dtype.kind != "b" or not isinstance(literal, Literal):
                continue
            if to(literal, c.dtype):
                return c
            negated = _negated(t, c) if of_negation(literal, c.dtype) else None
            if negated is not None:
                return negated
        return None

    return rule


def _negated(t: Term, c: Atom) -> Atom | None:
    """The bool whose negation `c` is, however that is written."""
    equation = t.origin(c, np.logical_not, np.invert, np.equal)
    if equation is None or equation.inputs[0].dtype.kind != "b":
        return None
    if key_of(equation.primitive) is not np.equal:
        return equation.inputs[0]
    return equation.inputs[0] if _false(equation.inputs[1], np.dtype(bool)) else None


# ── choices


def _select(t: Term) -> Atom | Term | None:
    c, x1, x2 = t.inputs
    if isinstance(c, Literal):
        return x1 if c.value else x2
    if same(x1, x2):
        return x1
    negated = _negated(t, c)
    if negated is not None:
        return t.become(negated, x2, x1)
    # within a branch, the condition is known
    first, second = t.origin(x1, "select"), t.origin(x2, "select")
    if first and first.inputs[0] is c:
        return t.become(c, first.inputs[1], x2)
    if second and second.inputs[0] is c:
        return t.become(c, x1, second.inputs[2])
    return None


# ── shapes


def _reshape(t: Term) -> Term | None:
    inner = t.origin(t.inputs[0], "reshape")
    return t.become(inner.inputs[0]) if inner else None


def _transpose(t: Term) -> Atom | Term | None:
    outer: Any = t.primitive
    if outer.axes == tuple(range(len(outer.axes))):
        return t.inputs[0]
    inner: Any = t.origin(t.inputs[0], "transpose")
    return t.become(inner.inputs[0], axes=tuple(inner.primitive.axes[i] for i in outer.axes)) if inner else None


def _flip(t: Term) -> Atom | Term | None:
    outer: Any = t.primitive
    inner: Any = t.origin(t.inputs[0], "flip")
    if not inner:
        return None if outer.axes else t.inputs[0]
    axes = set(outer.axes).symmetric_difference(inner.primitive.axes)
    return t.become(inner.inputs[0], axes=tuple(sorted(axes)))


def _broadcast(t: Term) -> Term | None:
    inner = t.origin(t.inputs[0], "broadcast_to")
    return t.become(inner.inputs[0]) if inner else None


def _rearranged(t: Term) -> Term | None:
    """A rearrangement of equal elements is an array of them."""
    inner = t.origin(t.inputs[0], "broadcast_to")
    return t.like(inner, inner.inputs[0], shape=t.type.shape) if inner and not inner.inputs[0].shape else None


def _getitem(t: Term) -> Atom | None:
    primitive: Any = t.primitive
    every = all(entry is Ellipsis or entry == slice(None) for entry in primitive.entries)
    return t.inputs[0] if every else None


def _pad(t: Term) -> Atom | None:
    primitive: Any = t.primitive
    return None if any(map(any, primitive.padding)) else t.inputs[0]


def _concatenate(t: Term) -> Atom | None:
    return t.inputs[0] if len(t.inputs) == 1 else None


def _over_no_axes(t: Term) -> Atom | None:
    primitive: Any = t.primitive
    return None if primitive.axes else t.inputs[0]


# ── dtypes


def _convert(t: Term) -> Atom | Term | None:
    x = t.inputs[0]
    inner = t.origin(x, "convert")
    if inner and not inner.inputs[0].weak and _exact(inner.inputs[0].dtype, x.dtype):
        return t.become(inner.inputs[0])
    return x


def _exact(narrow: DType, wide: DType) -> bool:
    """True if every number of the one is a number of the other. `numpy.can_cast` takes int64 into float64 too."""
    families = ("b", "i"), ("b", "u"), ("u", "i"), ("f", "c"), ("i", "i"), ("u", "u"), ("f", "f"), ("c", "c")
    return (narrow.kind, wide.kind) in families and np.can_cast(narrow, wide)


# fmt: off
TABLE: dict[Key, tuple[Rule, ...]] = {
    # arithmetic
    np.add:          (_right(_minus_zero), _left(_minus_zero)),         # x + (−0) = x
    np.subtract:     (_right(_zero),),                                  # x − 0 = x
    np.multiply:     (_right(_one), _left(_one)),                       # x · 1 = x
    np.divide:       (_right(_one),),                                   # x / 1 = x
    np.power:        (_right(_one),),                                   # x¹ = x
    np.negative:     (_self_inverse,),                                  # −(−x) = x
    np.positive:     (_same,),                                          # +x = x
    np.absolute:     (_after(np.absolute), _signed_only(_ignores(np.negative))),  # | |x| | = |x|, |−x| = |x|
    np.conjugate:    (_self_inverse, _real_only(_same)),                # conj(conj(x)) = x, conj(real) = real
    # rounding what is rounded
    np.floor:        (_after(np.floor, np.ceil, np.trunc, np.rint),),
    np.ceil:         (_after(np.floor, np.ceil, np.trunc, np.rint),),
    np.trunc:        (_after(np.floor, np.ceil, np.trunc, np.rint),),
    np.rint:         (_after(np.floor, np.ceil, np.trunc, np.rint),),
    # choices
    np.maximum:      (_idempotent,),                                    # max(x, x) = x
    np.minimum:      (_idempotent,),
    np.fmax:         (_idempotent,),
    np.fmin:         (_idempotent,),
    "select":        (_select,),
    # bits and truth
    np.bitwise_and:  (_idempotent, _right(_true, _all_ones), _left(_true, _all_ones)),
    np.bitwise_or:   (_idempotent, _right(_false, _zero), _left(_false, _zero)),
    np.bitwise_xor:  (_right(_false, _zero), _left(_false, _zero)),
    np.invert:       (_self_inverse,),
    np.left_shift:   (_right(_zero),),
    np.right_shift:  (_right(_zero),),
    np.logical_and:  (_bool_only(_idempotent), _right(_true), _left(_true)),
    np.logical_or:   (_bool_only(_idempotent), _right(_false), _left(_false)),
    np.logical_xor:  (_right(_false), _left(_false)),
    np.logical_not:  (_self_inverse,),
    np.equal:        (_compared(_true, of_negation=_false),),
    np.not_equal:    (_compared(_false, of_negation=_true),),
    # moving elements
    "reshape":       (_same, _reshape, _rearranged),
    "transpose":     (_transpose, _rearranged),
    "flip":          (_flip, _rearranged),
    "broadcast_to":  (_same, _broadcast),
    "getitem":       (_getitem,),
    "pad":           (_pad,),
    "concatenate":   (_concatenate,),
    "stop_gradient": (_after("stop_gradient"),),
    # reductions of nothing
    "sum":           (_over_no_axes,),
    "prod":          (_over_no_axes,),
    "max":           (_over_no_axes,),
    "min":           (_over_no_axes,),
    "any":           (_over_no_axes,),
    "all":           (_over_no_axes,),
    # dtypes
    "convert":       (_convert,),
}

# These hold for arrays of unknown length, too: they look at the order of axes, and not at how long these are.
OF_ANY_LENGTH: dict[Key, tuple[Rule, ...]] = {"transpose": (_transpose,)}

# What is rounded correctly, if at all: an operand may be repeated while it is computed, and gives the same bits.
READS_THROUGH: frozenset[Key] = frozenset({
    np.add, np.subtract, np.multiply, np.divide, np.maximum, np.minimum, np.fmax, np.fmin, "select",
    np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal,
    np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.logical_and, np.logical_or, np.logical_xor,
})
# fmt: on


def unrepeated(t: Term) -> Term | None:
    """The term without the `broadcast_to` of an operand that it would broadcast itself; for READS_THROUGH only."""
    for place, x in enumerate(t.inputs):
        repeated = t.origin(x, "broadcast_to")
        if repeated is None:
            continue
        inputs = (*t.inputs[:place], repeated.inputs[0], *t.inputs[place + 1 :])
        if broadcast_shapes(*(atom.shape for atom in inputs)) == t.type.shape:
            return t.become(*inputs)
    return None
