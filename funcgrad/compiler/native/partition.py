"""Which parts of a program become machine code: all that the compiler has code for, in as few segments as may be.

The equations are put in layers. Those with code run in the layer of their operands; an equation that NumPy runs comes
after that, and what reads its results is in the next layer. So between two segments stand only calls of NumPy that the
second one waits for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from funcgrad.compiler.native import contraction as products
from funcgrad.compiler.native import scalars
from funcgrad.compiler.native.scalars_convert import lane_of
from funcgrad.core.ir import Equation, Jaxpr
from funcgrad.core.kinds import Contraction, Elementwise, IndexMap, Reduction, Scatter
from funcgrad.core.trace import Var
from funcgrad.core.views import Places, contiguous, size

# sums of so many products, of which there are many, are computed in loop nests
_SHORT, _MANY = 4, 1000


def partition(jaxpr: Jaxpr) -> list[Equation | Jaxpr]:
    """The program in the order in which it runs: jaxprs that have native code, and equations for NumPy between them."""
    layers: dict[Var, int] = {}
    native: list[list[Equation]] = [[]]
    others: list[list[Equation]] = [[]]
    effects = 0
    for equation in jaxpr.equations:
        layer = max((layers[x] for x in equation.inputs if isinstance(x, Var) and x in layers), default=0)
        code = has_code(equation)
        if equation.primitive.effect:
            effects = layer = max(layer, effects)
        (native if code else others)[layer].append(equation)
        if not code and layer + 1 == len(native):
            native.append([])
            others.append([])
        layers.update(dict.fromkeys(equation.outputs, layer + (not code)))
    out: list[Equation | Jaxpr] = []
    needed = _needed(jaxpr, native, others)
    for inside, outside, wanted in zip(native, others, needed, strict=True):
        if inside:
            out.append(_segment(inside, wanted))
        out += outside
    return out


def _needed(jaxpr: Jaxpr, native: Sequence[list[Equation]], others: Sequence[list[Equation]]) -> list[set[Var]]:
    """For each layer the variables that are read after its segment."""
    later = {x for x in jaxpr.outputs if isinstance(x, Var)}
    needed: list[set[Var]] = []
    for inside, outside in zip(reversed(native), reversed(others), strict=True):
        later |= {x for e in outside for x in e.inputs if isinstance(x, Var)}
        needed.append(set(later))
        later |= {x for e in inside for x in e.inputs if isinstance(x, Var)}
    return needed[::-1]


def _segment(equations: Sequence[Equation], needed: set[Var]) -> Jaxpr:
    made = {v for e in equations for v in e.outputs}
    read = dict.fromkeys(x for e in equations for x in e.inputs if isinstance(x, Var) and x not in made)
    outputs = tuple(v for e in equations for v in e.outputs if v in needed)
    return Jaxpr(tuple(read), (), tuple(equations), outputs)


def stays(equation: Equation) -> bool:
    """True if an equation has code, and that is better than the code of what it expands to."""
    return has_code(equation) and not _is_short(equation)


def _is_short(equation: Equation) -> bool:
    """True for many short sums of products, which run in the loop nests of what is computed before and after."""
    primitive = equation.primitive
    if not isinstance(primitive, Contraction) or equation.outputs[0].dtype.kind != "f":
        return False
    letters1, letters2, out = primitive.terms
    lengths = dict(zip(letters1 + letters2, (n for x in equation.inputs for n in x.shape), strict=True))
    terms = math.prod(n for c, n in lengths.items() if c not in out)
    rows, columns = (
        math.prod(lengths[c] for c in out if c in letters and c not in others)
        for letters, others in ((letters1, letters2), (letters2, letters1))
    )
    short = 0 < terms <= _SHORT and min(rows, columns) <= _SHORT
    return short and size(equation.outputs[0].shape) >= _MANY


def has_code(equation: Equation) -> bool:
    """True if an equation can be a part of a native segment."""
    primitive = equation.primitive
    values = (*equation.inputs, *equation.outputs)
    if primitive.multiple or primitive.effect or any(lane_of(x.dtype) is None for x in values):
        return False
    if any(n < 0 for x in values for n in x.shape):
        return False
    match primitive:
        case Elementwise():
            return scalars.has_code(equation)
        case Reduction():
            return _reduces(equation, primitive)
        case Contraction():
            return len({x.dtype for x in values}) == 1 and products.has_code(*(x.dtype for x in values))
        case IndexMap() | Scatter():
            return _moves(equation, primitive)
    return False


def _reduces(equation: Equation, primitive: Reduction) -> bool:
    (x,), (y,) = equation.inputs, equation.outputs
    if primitive.fold is None or (0 in x.shape and 0 not in y.shape):
        return False
    return not isinstance(primitive.fold, str) or x.dtype.kind in "iuf"


def _moves(equation: Equation, primitive: IndexMap | Scatter) -> bool:
    shapes = [x.shape for x in equation.inputs]
    if isinstance(primitive, IndexMap):
        if not shapes:
            return False
        if primitive.view(contiguous(shapes[0])) is not None:
            return True
        places = primitive.taken(*shapes)
        if places is not None:
            return _within(places)
    written = primitive.written(*shapes)
    if written is None:
        return False
    ordinary = all(w.combine is None or equation.outputs[0].dtype.kind != "b" for w in written.writings)
    return ordinary and all(_within(w.places) for w in written.writings)


def _within(places: Places) -> bool:
    """True if there is some place that an index which is out of bounds can be replaced by."""
    return all(p.length > 0 and p.size <= p.length for p in places.positions)
