"""Which parts of a program become machine code: all that the compiler has code for, in as few segments as may be.

The equations are put in layers. Those with code run in the layer of their operands; an equation that NumPy runs comes
after that, and what reads its results is in the next layer. So between two segments stand only calls of NumPy that the
second one waits for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from funcgrad.compiler.native.complex.parts import has_rule, is_complex, part_dtype
from funcgrad.compiler.native.contraction import code as products
from funcgrad.compiler.native.ir.own_primitives import Lowered
from funcgrad.compiler.native.lines import running, sorting
from funcgrad.compiler.native.passes import placement
from funcgrad.compiler.native.scalars import operations as scalars
from funcgrad.compiler.native.scalars.convert import lane_of
from funcgrad.core.flow import Looped
from funcgrad.core.ir import Equation, Jaxpr
from funcgrad.core.kinds import Contraction, Elementwise, IndexMap, Reduction, Running, Scatter, Sorting
from funcgrad.core.trace import Var
from funcgrad.core.types import DType, Shape
from funcgrad.core.views import Places, contiguous, size

# sums of so many products, of which there are many, are computed in loop nests
_SHORT, _MANY = 4, 1000


def partition(jaxpr: Jaxpr) -> list[Equation | Jaxpr]:
    """The program in the order in which it runs: jaxprs that have native code, and equations for NumPy between them."""
    code = [has_code(equation) for equation in jaxpr.equations]
    layers = _layers(jaxpr, code)
    while torn := _torn(jaxpr, code, layers):
        code = [flag and i not in torn for i, flag in enumerate(code)]
        layers = _layers(jaxpr, code)
    views = placement.views_for_numpy(jaxpr, code)
    layers = placement.delayed(jaxpr, code, views, layers)
    count = max(layers, default=0) + 1
    native: list[list[Equation]] = [[] for _ in range(count)]
    others: list[list[Equation]] = [[] for _ in range(count)]
    for i, equation in enumerate(jaxpr.equations):
        compiled = code[i] and i not in views
        (native if compiled else others)[layers[i]].append(equation if compiled else _as_it_was(equation))
    makers = {jaxpr.equations[i].outputs[0]: jaxpr.equations[i] for i in sorted(views)}
    native = [placement.with_views(equations, makers) for equations in native]
    out: list[Equation | Jaxpr] = []
    needed = [wanted - makers.keys() for wanted in _needed(jaxpr, native, others)]
    for inside, outside, wanted in zip(native, others, needed, strict=True):
        if inside:
            out.append(_segment(inside, wanted))
        out += outside
    if len(out) == 1 and isinstance(out[0], Jaxpr):
        return [_whole(jaxpr, out[0])]
    return out


def _layers(jaxpr: Jaxpr, code: Sequence[bool]) -> list[int]:
    """The layer of each equation."""
    known: dict[Var, int] = {}
    layers = []
    effects = 0
    for i, equation in enumerate(jaxpr.equations):
        layer = max((known[x] for x in equation.inputs if isinstance(x, Var) and x in known), default=0)
        if equation.primitive.effect:
            effects = layer = max(layer, effects)
        layers.append(layer)
        known.update(dict.fromkeys(equation.outputs, layer + (not code[i])))
    return layers


def _whole(jaxpr: Jaxpr, segment: Jaxpr) -> Jaxpr:
    """The only segment of a program, with the program's inputs and outputs: a call of it is all there is to do."""
    made = {x for x in segment.outputs if isinstance(x, Var)}
    outputs = [x for x in jaxpr.outputs if isinstance(x, Var)]
    if made != set(outputs) or not len(made) == len(outputs) == len(jaxpr.outputs):
        return segment
    if not all(_has_lanes(x.dtype) for x in jaxpr.inputs):
        return segment
    return Jaxpr(jaxpr.inputs, (), segment.equations, jaxpr.outputs)


def _torn(jaxpr: Jaxpr, code: Sequence[bool], layers: Sequence[int]) -> set[int]:
    """The equations that pass an array of unknown length out of a segment, or into one: there it cannot be so."""
    makers = {v: i for i, e in enumerate(jaxpr.equations) for v in e.outputs if min(v.shape, default=0) < 0}
    if not makers and all(min(v.shape, default=0) >= 0 for v in jaxpr.inputs):
        return set()
    torn = {makers[v] for v in jaxpr.outputs if isinstance(v, Var) and v in makers}
    for i, equation in enumerate(jaxpr.equations):
        for x in equation.inputs:
            if min(x.shape, default=0) < 0:
                made = makers.get(x) if isinstance(x, Var) else None
                if made is None or not (code[made] and code[i] and layers[made] == layers[i]):
                    torn |= {i} if made is None else {i, made}
    return {i for i in torn if code[i]}


def _as_it_was(equation: Equation) -> Equation:
    """An equation for NumPy."""
    primitive = equation.primitive
    if not isinstance(primitive, Lowered):
        return equation
    return Equation(primitive.original, equation.inputs[: primitive.operands], equation.outputs, equation.source)


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
    if isinstance(primitive, Lowered):
        return _flows(equation, primitive)
    if primitive.multiple or primitive.effect or any(n < 0 for x in values for n in x.shape):
        return False
    if is_complex(equation):
        if isinstance(primitive, IndexMap | Scatter) and not _moves(equation, primitive):
            return False
        return has_rule(equation)
    if any(lane_of(x.dtype) is None for x in values):
        return False
    match primitive:
        case Elementwise():
            return scalars.has_code(equation)
        case Reduction():
            return _reduces(equation, primitive)
        case Contraction():
            return len({x.dtype for x in values}) == 1 and products.has_code(*(x.dtype for x in values))
        case Running():
            return running.has_code(equation)
        case Sorting():
            return sorting.has_code(equation)
        case IndexMap() | Scatter():
            return _moves(equation, primitive)
    return False


def _flows(equation: Equation, primitive: Lowered) -> bool:
    """True for a program on arrays that have code; only loops know arrays of unknown length."""
    flow = primitive.flow
    scanned = flow.scanned if isinstance(flow, Looped) else ()
    stacks = {*scanned, *range(len(equation.inputs), len(equation.inputs) + len(equation.outputs))}
    values = (*equation.inputs, *equation.outputs)
    return all(
        _has_lanes(x.dtype) and (min(x.shape, default=0) >= 0 or (isinstance(flow, Looped) and i in stacks))
        for i, x in enumerate(values)
    )


def _has_lanes(dtype: DType) -> bool:
    """True if numbers of a dtype, or the parts of such, can be in lanes."""
    return lane_of(dtype) is not None or part_dtype(dtype) is not None


def _reduces(equation: Equation, primitive: Reduction) -> bool:
    (x,), (y,) = equation.inputs, equation.outputs
    if primitive.fold is None or (0 in x.shape and 0 not in y.shape):
        return False
    return not isinstance(primitive.fold, str) or x.dtype.kind in "biuf"


def _moves(equation: Equation, primitive: IndexMap | Scatter) -> bool:
    shapes = [x.shape for x in equation.inputs]
    if isinstance(primitive, IndexMap):
        if not shapes:
            return False
        if primitive.view(contiguous(shapes[0])) is not None:
            return True
        places = primitive.taken(*shapes)
        if places is not None:
            return _within(places, shapes)
    written = primitive.written(*shapes)
    if written is None:
        return False
    ordinary = all(w.combine is None or equation.outputs[0].dtype.kind != "b" for w in written.writings)
    return ordinary and all(_within(w.places, shapes) for w in written.writings)


def _within(places: Places, shapes: Sequence[Shape]) -> bool:
    """True if there is some place that an index which is out of bounds can be replaced by, and a loop that sees it."""
    if 0 in places.view.shape and any(not p.clamped and 0 not in shapes[p.operand] for p in places.positions):
        return False
    return all(p.length > 0 and p.size <= p.length for p in places.positions)
