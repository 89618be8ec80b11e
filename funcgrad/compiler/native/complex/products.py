"""Contractions of complex arrays, as one contraction of reals on the memory in which the larger operand stands.

Real and imaginary parts lie beside each other: a letter z of length 2 at the end. There are two ways to read an operand
so, and the other operand is written out in the form that fits it. For the larger one x and the smaller one e:

    along the sum    y[…n w] = sum over k, z of x[…k z] · E[k z n w],  E = (re e, im e) for z = 0, (−im e, re e) for 1
    along the rest   r[w …n z] = sum over k of E[w …k] · x[k n z],     E = re e for w = 0, im e for 1,
                     y = (r[0…0] − r[1…1], r[0…1] + r[1…0])

Each does as many multiplications as four products of parts, in one call of BLAS if it can read x; that is where z and
the axis before it are one dim: the axis of the sum in the first case, another one in the second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np

from funcgrad.compiler.native.complex.moves import Arrange, Lay, Pick, Repeat
from funcgrad.compiler.native.complex.scalars import Pair, Reals, multiply
from funcgrad.compiler.native.ir.own_primitives import Multiplied, Terms, Total
from funcgrad.core.ir import Atom
from funcgrad.core.trace import Var
from funcgrad.core.types import Shape
from funcgrad.core.views import View, contiguous, size

# letters that no contraction of a user has
_Z, _W = "ζω"
Way: TypeAlias = tuple[int, bool, bool]
"""How much it writes, whether it reads the first operand where that stands, and whether along the sum."""


@final
@dataclass(frozen=True, slots=True)
class Factor:
    """An operand.

    Attributes:
        shape: Its shape.
        layout: Which complex elements of its buffer it consists of.
        parts: Gives its parts, which may be broadcast.
        buffer: Gives its buffer.
        real: True if its imaginary part is 0 throughout.
    """

    shape: Shape
    layout: View
    parts: Callable[[], Pair]
    buffer: Callable[[], Var]
    real: bool


def multiplied(c: Reals, terms: Terms, x1: Factor, x2: Factor) -> Pair | Var:
    """The product of two factors, as parts or as a buffer."""
    letters1, letters2, out = terms
    lengths = dict(zip(letters1 + letters2, (*x1.shape, *x2.shape), strict=True))
    if 0 in lengths.values():
        return _by_parts(c, terms, x1, x2)
    if x1.real or x2.real:
        return _by_real(c, terms, x1, x2)
    if not out or set(out) >= set(letters1 + letters2):
        return _elementwise(c, terms, x1, x2, lengths)
    # the least that is written to memory
    ways = [way for first in (True, False) for way in _ways(terms, x1, x2, lengths, first)]
    if not ways:
        return _by_parts(c, terms, x1, x2)
    _, first, along_sum = min(ways, key=lambda way: way[0])
    return _along_sum(c, terms, x1, x2, first) if along_sum else _along_rest(c, terms, x1, x2, first)


def _ways(
    terms: Terms, x1: Factor, x2: Factor, lengths: dict[str, int], first: bool
) -> Iterator[tuple[int, bool, bool]]:
    """How an operand, the first or the second one, may be read where it stands, and how much is written for that."""
    x, other, letters = (x1, x2, terms[0]) if first else (x2, x1, terms[1])
    lines = [c for c, stride in zip(letters, x.layout.canonical, strict=True) if stride == 1]
    shared = set(terms[0]) & set(terms[1])
    for line in lines:
        if line not in terms[2]:
            yield 4 * size(other.shape), first, True
        elif line not in shared:
            yield 2 * size(other.shape) + 4 * size(tuple(lengths[c] for c in terms[2])), first, False


def _along_sum(c: Reals, terms: Terms, x1: Factor, x2: Factor, first: bool) -> Var:
    letters, rest, out = terms if first else (terms[1], terms[0], terms[2])
    x, e = (x1, x2) if first else (x2, x1)
    summed = [k for k in rest if k not in out]
    shared = [k for k in rest if k in out and k in letters]
    own = [k for k in rest if k in out and k not in letters]
    order = "".join((*shared, *summed, _Z, *own, _W))
    spread = _laid(c, e, rest, order, {_Z: 2, _W: 2})
    real, imag = e.parts()
    places = [spread({_Z: i, _W: j}) for i, j in ((0, 0), (0, 1), (1, 0), (1, 1))]
    shape = _shape(order, rest, e.shape, {_Z: 2, _W: 2})
    expanded = c.write(Lay(shape, tuple(places)), real, imag, c(np.negative, imag), real)
    both = (letters + _Z, order) if first else (order, letters + _Z)
    factors = (x.buffer(), expanded) if first else (expanded, x.buffer())
    return c.write(Multiplied((*both, out + _W)), *factors)


def _along_rest(c: Reals, terms: Terms, x1: Factor, x2: Factor, first: bool) -> Pair:
    letters, rest, out = terms if first else (terms[1], terms[0], terms[2])
    x, e = (x1, x2) if first else (x2, x1)
    order = _W + rest
    spread = _laid(c, e, rest, order, {_W: 2})
    parts = c.write(Lay(_shape(order, rest, e.shape, {_W: 2}), (spread({_W: 0}), spread({_W: 1}))), *e.parts())
    both = (letters + _Z, order) if first else (order, letters + _Z)
    factors = (x.buffer(), parts) if first else (parts, x.buffer())
    r = c.write(Multiplied((*both, _W + out + _Z)), *factors)
    picked = [c.write(Pick(i, j), r) for i, j in ((0, 0), (1, 1), (0, 1), (1, 0))]
    return c(np.subtract, picked[0], picked[1]), c(np.add, picked[2], picked[3])


def _shape(order: str, letters: str, shape: Shape, more: dict[str, int]) -> Shape:
    lengths = {**dict(zip(letters, shape, strict=True)), **more}
    return tuple(lengths[k] for k in order)


def _laid(c: Reals, e: Factor, letters: str, order: str, more: dict[str, int]) -> Callable[[dict[str, int]], View]:
    """Where the elements of a factor go in an array with these axes, at fixed indices of those that are more."""
    strides = dict(zip(order, contiguous(_shape(order, letters, e.shape, more)).strides, strict=True))
    own = tuple(strides[k] for k in letters)
    return lambda at: View(e.shape, own, sum(i * strides[k] for k, i in at.items()))


def _elementwise(c: Reals, terms: Terms, x1: Factor, x2: Factor, lengths: dict[str, int]) -> Pair:
    """A product without a sum, or one that is all summed up, in one loop."""
    letters = terms[2] or terms[0]
    shape = tuple(lengths[k] for k in letters)

    def arranged(x: Factor, own: str) -> Pair:
        axes = tuple(own.index(k) if k in own else None for k in letters)
        real, imag = (c.write(Arrange(axes, shape), _full(c, part, x.shape)) for part in x.parts())
        return real, imag

    real, imag = multiply(c, arranged(x1, terms[0]), arranged(x2, terms[1]))
    if terms[2]:
        return real, imag
    total = Total(tuple(range(len(shape))))
    return c.write(total, _full(c, real, shape)), c.write(total, _full(c, imag, shape))


def _by_real(c: Reals, terms: Terms, x1: Factor, x2: Factor) -> Pair | Var:
    """A product with a real factor: one for both parts of the other, if that is read along the rest."""
    first = x2.real
    x, letters, other = (x1, *terms[:2]) if first else (x2, terms[1], terms[0])
    lines = {k for k, stride in zip(letters, x.layout.canonical, strict=True) if stride == 1}
    if x.real or not any(k in terms[2] and k not in other for k in lines):
        return _by_parts(c, terms, x1, x2)
    e = x2 if first else x1
    real = _full(c, e.parts()[0], e.shape)
    both, factors = (
        ((letters + _Z, other), (x.buffer(), real)) if first else ((other, letters + _Z), (real, x.buffer()))
    )
    return c.write(Multiplied((*both, terms[2] + _Z)), *factors)


def _by_parts(c: Reals, terms: Terms, x1: Factor, x2: Factor) -> Pair:
    """Four products of parts, without those of imaginary parts that are 0 throughout."""
    primitive = Multiplied(terms)
    (a1, b1), (a2, b2) = (tuple(_full(c, part, x.shape) for part in x.parts()) for x in (x1, x2))
    real: Atom = c.write(primitive, a1, a2)
    if x1.real and x2.real:
        return real, c.number(0.0)
    if not x1.real and not x2.real:
        real = c(np.subtract, real, c.write(primitive, b1, b2))
        return real, c(np.add, c.write(primitive, a1, b2), c.write(primitive, b1, a2))
    return real, c.write(primitive, a1, b2) if x1.real else c.write(primitive, b1, a2)


def _full(c: Reals, x: Atom, shape: Shape) -> Atom:
    return x if isinstance(x, Var) and x.shape == shape else c.write(Repeat(shape), x)
