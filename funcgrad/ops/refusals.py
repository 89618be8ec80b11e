"""What is answered where code needs the value of a traced array of which only the type is known.

Each message quotes the user's construct and writes down what to say in its place: `where` for a branch, `maximum` for
`max`, `fori_loop` for `range`, `dynamic_slice` for a slice, and so on. Where the source is not to be had, it speaks of
the construct in general.
"""

from __future__ import annotations

import ast
import functools
import math
import re
import sys
from types import FrameType, ModuleType
from typing import Any, NoReturn, TypeAlias

import numpy as np

from funcgrad.core.errors import (
    FuncgradError,
    LeakedTracerError,
    TracedBoolError,
    TracedShapeError,
    TracedValueError,
    is_internal,
)
from funcgrad.core.site import Site, code_of, running_site
from funcgrad.core.trace import Tracer
from funcgrad.core.types import show_long

# the construct, and what to write in its place
Answer: TypeAlias = tuple[str, str]

_SETTLED = ("jit", "make_jaxpr", "eval_shape")
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_CHOICE = "where(condition, x, y) chooses by element, maximum(x, y) the larger, c1 & c2 is both"
_BRANCH = ("Python control flow (if, while, and, or, not, assert, min, max)", _CHOICE, True)
_OF_SCIPY = {
    "polygamma": "funcgrad.special.polygamma(n, x)",
    "logsumexp": "funcgrad.nn.logsumexp(x)",
    "softmax": "funcgrad.nn.softmax(x)",
    "log_softmax": "funcgrad.nn.log_softmax(x)",
}
_MASKED = "arrays of the largest size, and a mask: where(arange(size) < n, x, 0)"
_MAKERS = ("array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray")
_EXTREMA: dict[Any, str] = {max: "maximum", min: "minimum"}
_REDUCERS: dict[Any, str] = {max: "max", min: "min", any: "any", all: "all"}


def refuse_truth(x: Tracer) -> NoReturn:
    """Answer `bool(x)`: the construct that asks for it, and what chooses by element instead."""
    x = _unknown(x, "Python control flow")
    site = running_site()
    construct, fix, branches = _BRANCH if site is None else _asked_by(site)
    if math.prod(x.shape) != 1:
        fix = f"{fix}; for one answer from all elements: .any() or .all()"
    raise _needs(TracedBoolError, construct, x, _or_static(x, fix) if branches else fix)


def refuse_index(x: Tracer) -> NoReturn:
    """Answer the use of `x` as a shape, an axis, a bound of a slice, a position or a count."""
    x = _unknown(x, "a shape, an axis or a position")
    site = running_site()
    construct, fix = _counted_by(site, x) if site is not None else ("", "")
    raise _needs(
        TracedShapeError,
        construct or "a shape, a bound of a slice, range(n) or values[n]",
        x,
        f"{fix or _MASKED}; otherwise it must be static"
        + (f": {static}, which compiles once for each value" if (static := _static(x)) else ""),
    )


def instead_of_scipy() -> Answer:
    """If a function that `scipy.special` writes in Python converts its argument now: it, and its counterpart here."""
    frame: FrameType | None = sys._getframe()
    name = ""
    while frame is not None:
        package, _, module = frame.f_globals.get("__name__", "").partition(".")
        if package == "scipy" and module.startswith("special"):
            name = frame.f_code.co_name
        elif package not in ("scipy", "numpy", "funcgrad"):
            break
        frame = frame.f_back
    return (f"`scipy.special.{name}`", _OF_SCIPY[name]) if name in _OF_SCIPY else ("", "")


def refuse_number(x: Tracer, construct: str) -> NoReturn:
    """Answer the conversion of `x` to a Python number or a NumPy array, which is `construct` in general."""
    x = _unknown(x, construct)
    site = running_site()
    if site is not None and _is_numpy(site):
        refuse_index(x)
    found, fix = instead_of_scipy()
    if site is not None and not found:
        if x.dtype.kind == "b" and _is_read(site):
            refuse_mask(x)
        found, fix = _converted_by(site, x)
    fix = fix or "leave it an array: funcgrad.numpy.sin(x) for math.sin(x), .array([x, y]) for a list"
    scalar = construct in ("int(x)", "float(x)")
    raise _needs(TracedValueError, found or construct, x, _or_static(x, fix) if scalar else fix)


def refuse_mask(x: Tracer) -> NoReturn:
    """Answer `y[x]` with a boolean `x`."""
    x = _unknown(x, "an index")
    site = running_site()
    node = None if site is None else site.node
    taken, index, mask = "x", "mask" if x.shape else "b", "mask" if x.shape else "b"
    if isinstance(node, ast.Subscript):
        taken, index = code_of(node.value, "x"), index_code(node)
        # of several entries, nobody says here which one it is
        mask = mask if isinstance(node.slice, ast.Tuple) else index
    if not x.shape:
        position = f"{mask if mask.isidentifier() else f'({mask})'}.astype(int)"
        fix = (
            f"to choose: where({mask}, {taken}, 0), or funcgrad.lax.cond({mask}, f, g, {taken}); "
            f"to take entry 0 or 1: take({taken}, {position}, axis=0)"
        )
        raise TracedShapeError(
            f"`{taken}[{index}]`, with a single traced bool as index, has one more axis, of length 1 if the bool is "
            f"True and of length 0 if it is False, but {_inside(x)}",
            _or_static(x, fix) if mask.isidentifier() else fix,
        )
    raise TracedShapeError(
        f"`{taken}[{index}]` has as many elements as the mask has True, but {_inside(x)}",
        f"to reduce: sum(where({mask}, {taken}, 0)); to assign: where({mask}, new, {taken}); "
        f"else index outside of {x.tracing.name}",
    )


def refuse_values(mask: Tracer, call: str, v: Tracer) -> NoReturn:
    """Answer `x.at[mask].set(v)` with a `v` that has a value for each element that the mask selects."""
    mask = _unknown(mask, "an index")
    raise TracedShapeError(
        f"{call}: v of shape {v.shape} has a value for each element that the mask selects, whose number is unknown: "
        f"{_inside(mask)}",
        "give one value for all of them, or one for every element: where(mask, values, x)",
    )


def refuse_count(x: Tracer, function: str, instead: str) -> NoReturn:
    """Answer a function of NumPy whose result has a length that depends on the elements of `x`."""
    x = _unknown(x, function)
    raise TracedShapeError(
        f"how many elements {function}(x) returns depends on the values of x, which is {show_long(x)}, "
        f"but {_inside(x)}",
        f"{instead}; else call it outside of {x.tracing.name}",
    )


def refuse_key(x: Tracer) -> NoReturn:
    """Answer `hash(x)`."""
    x = _unknown(x, "hash(x)")
    site = running_site()
    looked_up = site is not None and isinstance(site.node, ast.Subscript)
    fix = "number the entries, and use take(values, i)" if looked_up else "use a Python value as the key"
    raise TracedValueError(
        f"the traced value {show_long(x)} cannot be a dict key or a member of a set: it is an array, and {_inside(x)}",
        _or_static(x, fix),
    )


def refuse_leak(x: Tracer, use: str) -> NoReturn:
    """Answer the use of a tracer after its trace has ended."""
    made = x.tracing.made(x.variable)
    raise LeakedTracerError(
        f"a {show_long(x)} that was created while {x.tracing.name} was being traced"
        + (f", at {made}, " if made else " ")
        + f"is used in {use} after the tracing has ended",
        "return the value from the function instead of storing it elsewhere",
    )


def _unknown(x: Tracer, use: str) -> Tracer:
    """The tracer at the bottom, of which only the type is known."""
    while True:
        if x.tracing.finished:
            refuse_leak(x, use)
        if x.value is None:
            return x
        x = x.value


def _inside(x: Tracer) -> str:
    origin = x.tracing.origin(x.variable)
    return f"inside {x.tracing.name} {x.tracing.because}" + (f"; it depends on {origin}" if origin else "")


def _needs(error: type[FuncgradError], construct: str, x: Tracer, fix: str) -> FuncgradError:
    return error(f"{construct} needs the value of {show_long(x)}, but {_inside(x)}", fix)


def _static(x: Tracer) -> str:
    """How to make the arguments that `x` depends on static, if they can be."""
    transformation, _, function = x.tracing.name.partition("(")
    described = x.tracing.settings(x.variable)
    names = [found[1] for text in described if (found := re.fullmatch(r"argument '(\w+)'", text))]
    if transformation not in _SETTLED or not names or len(names) < len(described):
        return ""
    function = function.removesuffix(")")
    chosen = repr(names[0]) if len(names) == 1 else repr(tuple(names))
    return f"jit({function if function.isidentifier() else 'f'}, static_argnames={chosen})"


def _or_static(x: Tracer, fix: str) -> str:
    static = _static(x)
    return f"{fix}; for a setting rather than data: {static}" if static else fix


# ── who asks for a truth value


def _asked_by(site: Site) -> tuple[str, str, bool]:
    """The construct, what to write in its place, and whether it is a branch of the program."""
    node = site.node
    if isinstance(node, ast.Call) and site.calls:
        return (*_compared_by(site, node), False)
    top: Any = node
    while isinstance(site.parent(top), ast.BoolOp) or _is_not(site.parent(top)):
        top = site.parent(top)
    around: Any = top if hasattr(top, "test") or isinstance(top, _COMPREHENSIONS) else site.parent(top)
    if isinstance(around, ast.comprehension):
        around = site.parent(around)
    if getattr(around, "test", None) is not None and (around is top or around.test is top):
        return (*_condition(site, around), not isinstance(around, ast.Assert))
    if isinstance(around, ast.match_case) and around.guard is not None:
        return f"`case ... if {code_of(around.guard, 'condition')}`", _chosen(_by_element(around.guard), "x", "y"), True
    if isinstance(around, _COMPREHENSIONS) and (tests := [test for g in around.generators for test in g.ifs]):
        kept = "x" if isinstance(around, ast.DictComp) else code_of(around.elt, "x")
        fix = f"{_chosen(_by_element(tests[0]), kept, '0')}, which keeps the length"
        return f"`if {code_of(tests[0], 'condition')}` in a comprehension", fix, False
    membership = isinstance(top, ast.Compare) and isinstance(top.ops[0], ast.In | ast.NotIn)
    chain = isinstance(top, ast.Compare) and len(top.ops) > 1
    if membership or chain or isinstance(top, ast.BoolOp) or _is_not(top):
        return f"`{code_of(top, 'x and y')}`", _by_element(top), False
    return _BRANCH


def _is_not(node: ast.AST | None) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)


def index_code(node: ast.Subscript) -> str:
    """What stands between the brackets."""
    text = code_of(node.slice, "i")
    return text[1:-1] if isinstance(node.slice, ast.Tuple) and node.slice.elts else text


def _chosen(condition: str, a: str, b: str) -> str:
    return f"where({condition}, {a}, {b})"


def _by_element(node: ast.expr) -> str:
    """A condition with functions of arrays in place of `and`, `or`, `not`, `in` and chains of comparisons."""
    text = _translated(node)
    return text if len(text) <= 80 else "condition"


def _translated(node: ast.expr) -> str:
    if isinstance(node, ast.BoolOp):
        name = "logical_and" if isinstance(node.op, ast.And) else "logical_or"
        return functools.reduce(lambda a, b: f"{name}({a}, {b})", map(_translated, node.values))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return f"logical_not({_translated(node.operand)})"
    if isinstance(node, ast.Compare):
        left = code_of(node.left, "x")
        if isinstance(node.ops[0], ast.In | ast.NotIn):
            found = f"any(asarray({code_of(node.comparators[0], 'values')}) == {left})"
            return found if isinstance(node.ops[0], ast.In) else f"logical_not({found})"
        pairs = zip([node.left, *node.comparators], node.ops, node.comparators, strict=False)
        links = [ast.Compare(a, [op], [b]) for a, op, b in pairs]
        if len(links) > 1:
            return " & ".join(f"({code_of(link, 'x < y')})" for link in links)
    return code_of(node, "condition")


def _condition(site: Site, construct: Any) -> Answer:
    """An `if`, `while` or `assert`, or `x if condition else y`."""
    text, condition = code_of(construct.test, "condition"), _by_element(construct.test)
    if isinstance(construct, ast.While):
        return (
            f"`while {text}`",
            f"funcgrad.lax.while_loop(condition, body, init), where condition(state) returns {condition}",
        )
    if isinstance(construct, ast.Assert):
        return (
            f"`assert {text}`",
            "check the values before the call, or inside it by funcgrad.debug.callback(check, x), "
            f"where check asserts {text}",
        )
    a, b, prefix = _branches(site, construct)
    operand = next((name for name in _names(site, construct.test)), "x")
    return (
        f"`if {text}`",
        f"{prefix}{_chosen(condition, a, b)}, or funcgrad.lax.cond({condition}, f, g, {operand})",
    )


def _branches(site: Site, construct: ast.If | ast.IfExp) -> tuple[str, str, str]:
    """The two values to choose between, and the assignment in front of them, if there is one."""
    if isinstance(construct, ast.IfExp):
        return code_of(construct.body, "x"), code_of(construct.orelse, "y"), ""
    first = construct.body[0]
    second = construct.orelse[0] if construct.orelse else None
    if len(construct.body) == 1 and len(construct.orelse) <= 1:
        if isinstance(first, ast.Return) and first.value is not None:
            other = second or site.following(construct)
            if isinstance(other, ast.Return) and other.value is not None:
                return code_of(first.value, "x"), code_of(other.value, "y"), ""
        if isinstance(first, ast.Assign) and isinstance(first.targets[0], ast.Name):
            target = first.targets[0].id
            before: Any = ast.Assign([first.targets[0]], ast.Name(target))
            other = second or before
            if isinstance(other, ast.Assign) and ast.unparse(other.targets[0]) == target:
                return code_of(first.value, "x"), code_of(other.value, "y"), f"{target} = "
    return "x", "y", ""


def _names(site: Site, node: ast.expr) -> list[str]:
    """The names in an expression that stand for data."""
    names = [part.id for part in ast.walk(node) if isinstance(part, ast.Name)]
    return [n for n in names if not isinstance(v := site.value(ast.Name(n)), ModuleType) and not callable(v)]


def _compared_by(site: Site, call: ast.Call) -> Answer:
    """A function that asks for the truth of comparisons, or of its arguments."""
    function, text = site.value(call.func), f"`{code_of(call, f'{ast.unparse(call.func)}(...)')}`"
    args = [code_of(_listed(arg), letter) for arg, letter in zip(call.args, "xyzuvw", strict=False)]
    if not callable(function) or function not in (*_REDUCERS, sorted, bool) or not args:
        return text, _CHOICE
    if function is bool:
        return text, f"leave it an array: where({args[0]}, x, y) takes it as it is"
    if function is sorted:
        return text, f"funcgrad.numpy.sort({args[0]})"
    if function in _EXTREMA and len(args) > 1:
        name = _EXTREMA[function]
        nested = functools.reduce(lambda a, b: f"{name}({a}, {b})", args)
        return text, f"{nested}, which compares by element"
    return text, f"funcgrad.numpy.{_REDUCERS[function]}({args[0]})"


def _listed(node: ast.expr) -> ast.expr:
    return ast.ListComp(node.elt, node.generators) if isinstance(node, ast.GeneratorExp) else node


# ── who asks for a Python int


def _counted_by(site: Site, x: Tracer) -> Answer:
    node = site.node
    if isinstance(node, ast.Subscript):
        sliced = any(isinstance(part, ast.Slice) for part in ast.walk(node.slice))
        return _sliced(node) if sliced else _picked(site, node, x)
    if not (isinstance(node, ast.Call) and site.calls):
        return "", ""
    text = code_of(node, f"{ast.unparse(node.func)}(...)")
    args = [code_of(arg, letter) for arg, letter in zip(node.args, "nmk", strict=False)]
    if site.value(node.func) is range:
        bounds = ", ".join(["0", *args][-2:])
        return f"`{text}`", f"funcgrad.lax.fori_loop({bounds}, body, init)"
    if _checks_axis():
        return f"axis, in `{text}`,", "a Python int, such as axis=0"
    return f"a shape, a length or a count, in `{text}`,", ""


def _checks_axis() -> bool:
    frame = sys._getframe(1)
    while frame.f_back is not None and is_internal(frame):
        if frame.f_code.co_name in ("normalize_axis", "normalize_axes", "normalize_axis_tuple"):
            return True
        frame = frame.f_back
    return False


def _sliced(node: ast.Subscript) -> Answer:
    """A slice whose bounds are traced."""
    taken, text = code_of(node.value, "x"), code_of(node, "x[:n]")
    construct = f"a bound of a slice, `{text}`,"
    if not isinstance(node.slice, ast.Slice):
        return construct, f"funcgrad.lax.dynamic_slice({taken}, starts, sizes) with fixed sizes"
    lower, upper = node.slice.lower, node.slice.upper
    start = "0" if lower is None else code_of(lower, "start")
    if isinstance(upper, ast.BinOp) and isinstance(upper.op, ast.Add) and ast.unparse(upper.left) == start:
        size = code_of(upper.right, "size")
        return construct, f"funcgrad.lax.dynamic_slice_in_dim({taken}, {start}, {size})"
    fix = f"funcgrad.lax.dynamic_slice({taken}, ({start},), (size,)) with a fixed size"
    if lower is None and upper is not None and node.slice.step is None:
        fix += f", or all of it with a mask: where(arange(len({taken})) < {code_of(upper, 'n')}, {taken}, 0)"
    return construct, fix


def _picked(site: Site, node: ast.Subscript, x: Tracer) -> Answer:
    """An element of a list or a tuple."""
    values, i = code_of(node.value, "values"), code_of(node.slice, "i")
    if x.dtype.kind == "b":
        return f"`{code_of(node, 'values[b]')}`", f"where({i}, {values}[1], {values}[0])"
    entries: Any = node.value.elts if isinstance(node.value, ast.List | ast.Tuple) else ()
    known = site.value(node.value)
    if any(isinstance(e, ast.Lambda) or callable(site.value(e)) for e in entries) or (
        isinstance(known, list | tuple) and any(map(callable, known))
    ):
        return f"`{code_of(node, 'values[i]')}`", f"funcgrad.lax.switch({i}, {values}, x)"
    return f"`{code_of(node, 'values[i]')}`", f"take({values}, {i})"


# ── who asks for a number


def _converted_by(site: Site, x: Tracer) -> Answer:
    node: Any = site.node
    if isinstance(node, ast.Subscript):
        taken, index = code_of(node.value, "a"), index_code(node)
        if isinstance(node.ctx, ast.Store):
            return f"`{taken}[{index}] = ...`", f"{taken} = funcgrad.at({taken})[{index}].set(x)"
        if isinstance(node.slice, ast.Tuple):
            return f"`{taken}[{index}]`", f"funcgrad.at({taken})[{index}].get(): NumPy cannot take a traced index"
        return f"`{taken}[{index}]`", f"take({taken}, {index}, axis=0): NumPy cannot take a traced index"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        return (
            f"`{code_of(node, 'text % x')}`",
            "funcgrad.debug.print('{}', x) shows the value once it is known",
        )
    if isinstance(node, ast.Call) and site.calls:
        return _called(site, node, x)
    return "", ""


def _called(site: Site, call: ast.Call, x: Tracer) -> Answer:
    function, name = site.value(call.func), ast.unparse(call.func)
    args = ", ".join(map(ast.unparse, (*call.args, *call.keywords)))
    text = f"`{code_of(call, f'{name}(...)')}`"
    if isinstance(call.func, ast.Attribute) and call.func.attr in ("item", "tolist"):
        return text, f"leave it an array: {code_of(call.func.value, 'x')}, without .{call.func.attr}()"
    if function is int:
        return text, f"leave it an array: {args}.astype(int)"
    if function in (float, complex):
        return text, f"leave it an array: functions of funcgrad.numpy take {args} as it is"
    own = getattr(function, "__name__", "")
    shared = getattr(function, "__module__", None) == "math" or function is round or own in _MAKERS
    if shared and callable(getattr(np, own, None)):
        return text, f"funcgrad.numpy.{own}({args})"
    result = f"ShapeDtypeStruct({x.shape}, {x.dtype.name!r})"
    return (
        text,
        f"functions of funcgrad.numpy, or funcgrad.pure_callback({name}, {result}, {args}) with the type of its result",
    )


def _is_read(site: Site) -> bool:
    """True in `a[i]` that is not written to."""
    return isinstance(site.node, ast.Subscript) and isinstance(site.node.ctx, ast.Load)


def _is_numpy(site: Site) -> bool:
    """True in a call of a function of NumPy that does not just make an array of `x`: it counts by it."""
    function = site.value(site.node.func) if isinstance(site.node, ast.Call) and site.calls else None
    module, name = getattr(function, "__module__", None) or "", getattr(function, "__name__", "")
    return module.partition(".")[0] == "numpy" and name not in _MAKERS
