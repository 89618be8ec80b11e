"""Control flow on traced values: `cond`, `switch`, `scan`, `fori_loop`, `while_loop` and `map`.

Where values are known, these functions run as Python would: they call the chosen branch, or the body once for each
step. As soon as something is known by its type only, the branches or the body are staged, and what is left to do
becomes one operation. In a function for `jit`, loops are staged from the start.
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import tree as pytree
from funcgrad.core.errors import ArgumentError, ControlFlowError
from funcgrad.core.ir import Jaxpr
from funcgrad.core.trace import Tracer, Var, concrete, is_abstract, staged_by
from funcgrad.core.types import Array, ArrayType, kind_of, promote, show_long, type_of
from funcgrad.ops.flow import BranchIndex
from funcgrad.ops.pointwise import convert
from funcgrad.transforms.body import Carry, Staged, agreed, staged, staged_branch, staged_step, strengthened
from funcgrad.transforms.checkpoint import checkpoint
from funcgrad.transforms.programs.branch import Cond
from funcgrad.transforms.programs.loops import Scan, While
from funcgrad.transforms.tracing.arguments import function_name, parameter_names
from funcgrad.transforms.vmap import vmap

_COUNTER = np.dtype(np.int64)


def cond(pred: Array, true_fun: Callable[..., Any], false_fun: Callable[..., Any], *operands: Any) -> Any:
    """`true_fun(*operands)` if `pred` holds, else `false_fun(*operands)`.

    Only the chosen branch runs. Under `vmap` with a condition for each example both run, and each example takes the
    result of its own.

    Args:
        pred: A scalar; a number counts as true unless it is 0.
        true_fun: Called with the operands. It may close over other values.
        false_fun: The same. Where the condition is not known while tracing, both must return the same structure,
            shapes and dtypes.
        operands: Pytrees of arrays.

    Raises:
        ControlFlowError: The branches return different types, or `pred` is not a scalar.

    Examples:
        >>> import funcgrad as fg
        >>> from funcgrad import lax
        >>> f = lambda x: lax.cond(x > 0, lambda x: x**2, lambda x: -x, x)
        >>> float(fg.grad(f)(3.0)), float(fg.grad(f)(-3.0))
        (6.0, -1.0)
    """
    for branch in (true_fun, false_fun):
        if not callable(branch):
            raise ArgumentError(
                f"cond: a branch is {branch!r}, not a function", "cond(pred, lambda x: ..., lambda x: ..., x)"
            )
    shape = type_of(pred).shape
    if shape != ():
        raise ControlFlowError(
            f"cond: the condition has shape {shape}, but one branch runs for all",
            "where(pred, x, y) chooses by element; pred.all() or pred.any() is one condition",
        )
    if not is_abstract([pred]):
        return (true_fun if concrete(pred) else false_fun)(*pytree.map(strengthened, operands))
    return _branch("cond", convert(pred != 0, _COUNTER), (false_fun, true_fun), operands)


def switch(index: Array, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """`branches[index](*operands)`.

    Args:
        index: An integer scalar from 0 to `len(branches) - 1`.
        branches: Functions as for `cond`.
        operands: What they are called with.

    Raises:
        OutOfBoundsError: There is no such branch.
        ControlFlowError: The branches return different types, or the index is not an integer scalar.

    Examples:
        >>> from funcgrad import lax
        >>> lax.switch(1, [lambda x: x + 1, lambda x: x * 10], 5.0)
        50.0
    """
    if not branches:
        raise ArgumentError("switch: there is no branch", "switch(index, [f, g], x)")
    t = type_of(index)
    if t.shape != () or t.dtype.kind not in "iu":
        raise ControlFlowError(
            f"switch: the index is {show_long(t)}, not an integer scalar", "switch(i.astype(int), branches, x)"
        )
    number = BranchIndex(len(branches))(concrete(index) if not is_abstract([index]) else convert(index, _COUNTER))
    if not isinstance(number, Tracer):
        return branches[int(number)](*pytree.map(strengthened, operands))
    return _branch("switch", number, branches, operands)


def _branch(name: str, index: Array, branches: Sequence[Callable[..., Any]], operands: Sequence[Any]) -> Any:
    parts = [staged_branch(name, branch, *operands) for branch in branches]
    # the user writes the branch that is taken first
    order = -1 if name == "cond" else 1
    jaxprs = agreed(name, branches[::order], parts[::order])[::order]
    together = tuple(_among(jaxpr, number, parts) for number, jaxpr in enumerate(jaxprs))
    consts = [x for part in parts for x in part.consts]
    return pytree.unflatten(parts[0].structure, list(Cond(together)(index, *consts, *pytree.leaves(tuple(operands)))))


def _among(jaxpr: Jaxpr, number: int, parts: Sequence[Staged]) -> Jaxpr:
    """A branch that takes the constants of all branches, and leaves those of the others alone."""
    # variables of their own: branches that say the same are one jaxpr
    places = [[Var(v.shape, v.dtype, v.weak) for v in part.jaxpr.inputs[: len(part.consts)]] for part in parts]
    own = len(places[number])
    places[number] = list(jaxpr.inputs[:own])
    return Jaxpr((*(v for group in places for v in group), *jaxpr.inputs[own:]), (), jaxpr.equations, jaxpr.outputs)


def scan(
    f: Callable[[Any, Any], Any],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    *,
    checkpoint_every: int | None = None,
) -> tuple[Any, Any]:
    """Carry a value over the leading axis of arrays: `carry, y = f(carry, x)` for each `x`, the `y`s stacked.

    Args:
        f: From the carry and a slice of `xs` to the next carry, of the same structure, shapes and dtypes, and a result.
        init: The first carry, any pytree of arrays.
        xs: A pytree of arrays with one common leading axis, or None.
        length: The number of steps, needed where `xs` is None.
        reverse: True to go from the last element to the first; the results stand at the places of their elements.
        unroll: How many steps a compiler may write out in a row; it changes no result.
        checkpoint_every: Save only the carry of every so many steps for the backward pass, which computes the steps in
            between again.

    Returns:
        The last carry, and the results with a new leading axis.

    Raises:
        ControlFlowError: The carry changes its structure or its types; `xs` have no common length.

    Examples:
        >>> import numpy as np
        >>> from funcgrad import lax
        >>> lax.scan(lambda total, x: (total + x, total), 0.0, np.array([1.0, 2.0, 3.0]))
        (np.float64(6.0), array([0., 1., 3.]))
    """
    n = _length(xs, length)
    if unroll is not True and unroll < 1:
        raise ArgumentError(f"scan: unroll={unroll!r} is no number of steps", "unroll=4")
    if checkpoint_every is not None:
        return _scan_in_segments(f, init, xs, n, reverse, unroll, _every("scan: checkpoint_every", checkpoint_every))
    name = f"scan({function_name(f)})"
    carry = Carry(name, init)
    leaves, structure = pytree.flatten(xs)
    places = range(n)[::-1] if reverse else range(n)
    ys: list[Any] = []
    # in a program, a loop is a part of it from its first step on
    abstract = staged_by() is not None or is_abstract(leaves) or is_abstract(carry.leaves)
    while len(ys) < n and not abstract:
        i = places[len(ys)]
        out = f(carry.tree, pytree.unflatten(structure, [x[i] for x in leaves]))
        _check_pair(name, out)
        carry.step(out[0])
        ys.append(out[1])
        abstract = is_abstract(carry.leaves) or is_abstract(pytree.leaves(out[1]))
    done = len(ys)
    stacked = _stacked(ys[::-1] if reverse else ys) if done else None
    if done == n and n:
        return carry.tree, stacked
    rest = [x[: n - done] if reverse else x[done:] for x in leaves] if done else leaves
    more = _staged_scan(name, f, carry, rest, structure, n - done, reverse, n - done if unroll is True else int(unroll))
    if done:
        more = pytree.map(_concatenated, *((more, stacked) if reverse else (stacked, more)))
    return carry.tree, more


def _staged_scan(
    name: str,
    f: Callable[..., Any],
    carry: Carry,
    xs: list[Array],
    structure: pytree.Structure,
    n: int,
    reverse: bool,
    unroll: int,
) -> Any:
    """What is left to do as one operation: it leaves the last carry in `carry`, and returns the results."""

    @functools.wraps(f)
    def step(before: Any, x: Any) -> Any:
        out = f(before, x)
        _check_pair(name, out)
        return out

    step.__name__ = function_name(f)
    slices = pytree.unflatten(structure, [ArrayType(x.shape[1:], x.dtype) for x in xs])
    part = staged_step("scan", step, carry, slices)
    count = len(carry.leaves)
    out = Scan(n, len(part.consts), count, reverse, unroll, part.jaxpr)(*part.consts, *carry.leaves, *xs)
    result = pytree.unflatten(part.structure, list(out))
    carry.leaves = list(out[:count])
    return result[1]


def _check_pair(name: str, out: Any) -> None:
    if not isinstance(out, tuple) or len(out) != 2:
        raise ControlFlowError(
            f"{name}: the function returned {kind_of(out)}, not a pair of the next carry and a result",
            "return carry, y; return carry, None if there is nothing to stack",
        )


def _length(xs: Any, length: int | None) -> int:
    found: dict[int, str] = {}
    for path, x in pytree.flatten_with_path(xs)[0]:
        shape = type_of(x).shape
        if not shape:
            raise ControlFlowError(
                f"scan: xs{path} is a scalar, it has no axis to scan over", "close over it, or carry it"
            )
        found.setdefault(shape[0], path)
    if length is not None:
        if operator.index(length) < 0:
            raise ArgumentError(f"scan: length={length} is negative", "length=0 takes no step")
        found.setdefault(operator.index(length), "length")
    if len(found) > 1:
        (a, p), (b, q) = list(found.items())[:2]
        raise ControlFlowError(
            f"scan: the lengths differ: {_lengths_of(p)} is {a}, {_lengths_of(q)} is {b}",
            "give all arrays of xs the same leading axis; length is needed only where xs is None",
        )
    if not found:
        raise ControlFlowError("scan: neither xs nor length says how many steps to take", "scan(f, init, length=10)")
    return next(iter(found))


def _lengths_of(path: str) -> str:
    return path if path == "length" else f"the leading axis of xs{path}"


def _stacked(ys: list[Any]) -> Any:
    first, structure = pytree.flatten(ys[0])
    columns: Any = zip(*(structure.flatten_up_to(y) for y in ys), strict=True) if first else ()
    return pytree.unflatten(structure, [_stack(column) for column in columns])


def _stack(xs: Sequence[Array]) -> Array:
    """The elements as one array; a Python number gives way to the dtype of the others, as it does when staged."""
    types = [type_of(x) for x in xs]
    dtype = promote(*types)
    return np.stack([x if t.dtype == dtype else convert(x, dtype) for x, t in zip(xs, types, strict=True)])


def _concatenated(a: Array, b: Array) -> Array:
    return np.concatenate([a, b])


def _every(name: str, count: Any) -> int:
    if not isinstance(count, int) or count < 1:
        raise ArgumentError(f"{name}={count!r} is no number of steps", f"{name.rsplit(maxsplit=1)[-1]}=100")
    return count


def _scan_in_segments(
    f: Callable[..., Any], init: Any, xs: Any, n: int, reverse: bool, unroll: int | bool, every: int
) -> tuple[Any, Any]:
    def segment(carry: Any, part: Any, steps: int) -> Any:
        return scan(f, carry, part, steps, reverse, unroll)

    whole = n // every
    cut = whole * every
    leaves, structure = pytree.flatten(xs)
    rows = pytree.unflatten(structure, [x[:cut].reshape((whole, every, *x.shape[1:])) for x in leaves])
    tail = pytree.unflatten(structure, [x[cut:] for x in leaves])
    saved = checkpoint(segment, static_argnums=2)

    def many(carry: Any) -> tuple[Any, Any]:
        carry, ys = scan(lambda c, part: saved(c, part, every), carry, rows, whole, reverse)
        return carry, pytree.map(lambda y: y.reshape((cut, *y.shape[2:])), ys)

    if cut == n:
        return many(init)
    if not whole:
        return scan(f, init, tail, n, reverse, unroll)
    if reverse:
        carry, last = saved(init, tail, n - cut)
        carry, first = many(carry)
    else:
        carry, first = many(init)
        carry, last = saved(carry, tail, n - cut)
    return carry, pytree.map(_concatenated, first, last)


def while_loop(
    cond_fun: Callable[[Any], Any],
    body_fun: Callable[[Any], Any],
    init_val: Any,
    *,
    checkpoint_every: int | None = None,
) -> Any:
    """Apply `body_fun` as long as `cond_fun` holds.

    It can be differentiated, to any order and with no bound on the number of steps: a step saves what its pullback
    needs onto a stack that grows.

    Args:
        cond_fun: From the carry to a scalar bool.
        body_fun: From the carry to the next one, of the same structure, shapes and dtypes.
        init_val: The first carry, any pytree of arrays.
        checkpoint_every: Save only the carry of every so many steps for the backward pass, which computes the steps in
            between again.

    Returns:
        The first carry for which the condition does not hold.

    Raises:
        ControlFlowError: The carry changes its structure or its types; the condition is not a scalar bool.

    Examples:
        >>> import funcgrad as fg
        >>> from funcgrad import lax
        >>> def root(a):  # Newton's iteration
        ...     return lax.while_loop(lambda x: abs(x * x - a) > 1e-12, lambda x: (x + a / x) / 2, a)
        >>> float(root(2.0)), float(fg.grad(fg.jit(root))(2.0))
        (1.414213562373095, 0.35355339059327373)
    """
    if checkpoint_every is not None:
        return _while_in_segments(
            cond_fun, body_fun, init_val, _every("while_loop: checkpoint_every", checkpoint_every)
        )
    carry = Carry(f"while_loop({function_name(body_fun)})", init_val)
    while staged_by() is None and not is_abstract(carry.leaves):
        going = cond_fun(carry.tree)
        _check_condition(carry.name, going)
        if is_abstract([going]):
            break
        if not concrete(going):
            return carry.tree
        carry.step(body_fun(carry.tree))
    return _staged_while(cond_fun, body_fun, carry)


def _staged_while(cond_fun: Callable[..., Any], body_fun: Callable[..., Any], carry: Carry) -> Any:
    @functools.wraps(body_fun)
    def step(before: Any) -> Any:
        return (body_fun(before),)

    step.__name__ = function_name(body_fun)
    body = staged_step("while_loop", step, carry)
    cond = staged("while_loop", cond_fun, carry.typed_tree)
    out = pytree.unflatten(cond.structure, list(cond.jaxpr.out_types))
    _check_condition(carry.name, out)
    loop = While(len(cond.consts), len(body.consts), cond.jaxpr, body.jaxpr)
    return pytree.unflatten(carry.structure, list(loop(*cond.consts, *body.consts, *carry.leaves)))


def _check_condition(name: str, out: Any) -> None:
    t = type_of(out) if hasattr(out, "dtype") or isinstance(out, bool | int | float) else None
    if t is None or t.shape != () or t.dtype.kind != "b":
        raise ControlFlowError(
            f"{name}: the condition returned {kind_of(out) if t is None else show_long(t)}, not one bool",
            "compare, and reduce an array: (x > 0).any(), or .all()",
        )


def _while_in_segments(cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], init: Any, every: int) -> Any:
    checked = Carry(f"while_loop({function_name(body_fun)})", init).checked

    def segment(carry: Any) -> Any:
        _, carry = while_loop(
            lambda state: (state[0] < every) & cond_fun(state[1]),
            lambda state: (state[0] + 1, checked(body_fun(state[1]))),
            (0, carry),
        )
        return carry

    segment.__name__ = function_name(body_fun)
    return while_loop(cond_fun, checkpoint(segment), init)


def fori_loop(
    lower: Array,
    upper: Array,
    body_fun: Callable[[Any, Any], Any],
    init_val: Any,
    *,
    unroll: int | bool = 1,
    checkpoint_every: int | None = None,
) -> Any:
    """`for i in range(lower, upper): val = body_fun(i, val)`.

    It can be differentiated whether or not the bounds are known while tracing.

    Args:
        lower: An integer scalar.
        upper: An integer scalar; no step is taken where it does not exceed `lower`.
        body_fun: From the number of the step and the carry to the next carry.
        init_val: The first carry, any pytree of arrays.
        unroll: How many steps a compiler may write out in a row.
        checkpoint_every: As for `scan`.

    Raises:
        ControlFlowError: The carry changes its structure or its types; a bound is not an integer scalar.

    Examples:
        >>> import funcgrad as fg
        >>> from funcgrad import lax
        >>> power = lambda x, n: lax.fori_loop(0, n, lambda i, y: y * x, 1.0)
        >>> float(fg.jit(fg.grad(power))(3.0, 4))
        108.0
    """
    name = f"fori_loop({function_name(body_fun)})"
    for bound in (lower, upper):
        t = type_of(bound)
        if t.shape != () or t.dtype.kind not in "iu":
            raise ControlFlowError(
                f"{name}: a bound is {show_long(t)}, not an integer scalar", "fori_loop(0, 10, f, x)"
            )
    checked = Carry(name, init_val).checked
    if is_abstract([lower, upper]):
        dtype = promote(type_of(lower), type_of(upper))
        start, stop = convert(lower, dtype), convert(upper, dtype)
        state = while_loop(
            lambda state: state[0] < stop,
            lambda state: (state[0] + 1, checked(body_fun(*state))),
            (start, init_val),
            checkpoint_every=checkpoint_every,
        )
        return state[1]
    first, last = operator.index(lower), operator.index(upper)

    def step(state: Any, _: None) -> Any:
        i, carry = state
        return (i + 1, checked(body_fun(i, carry))), None

    step.__name__ = function_name(body_fun)
    # what messages call the carry is what the user calls it
    names = [*parameter_names(body_fun)[1:2], "state"]
    parameter = inspect.Parameter(names[0], inspect.Parameter.POSITIONAL_ONLY)
    step.__signature__ = inspect.Signature([parameter])  # type: ignore[attr-defined]  # `inspect.signature` reads it
    n = max(0, last - first)
    if not n and not is_abstract(pytree.leaves(init_val)):
        return init_val
    return scan(step, (first, init_val), None, n, unroll=unroll, checkpoint_every=checkpoint_every)[0][1]


def map(f: Callable[[Any], Any], xs: Any, *, batch_size: int | None = None) -> Any:
    """Apply `f` to each element along the leading axis of `xs`, one after another, and stack the results.

    Args:
        f: From a slice of `xs` to any pytree of arrays.
        xs: A pytree of arrays with one common leading axis.
        batch_size: Compute so many elements at a time, by `vmap`.

    Examples:
        >>> import numpy as np
        >>> from funcgrad import lax
        >>> lax.map(lambda x: x**2, np.array([1.0, 2.0, 3.0]))
        array([1., 4., 9.])
    """
    if batch_size is None:
        return scan(lambda _, x: (None, f(x)), None, xs)[1]
    n = _length(xs, None)
    size = min(_every("map: batch_size", batch_size), n)
    if not n:
        return map(f, xs)
    cut = n // size * size
    many = vmap(f)
    first = pytree.map(lambda x: x[:cut].reshape((n // size, size, *x.shape[1:])), xs)
    rows = scan(lambda _, x: (None, many(x)), None, first)[1]
    out = pytree.map(lambda y: y.reshape((cut, *y.shape[2:])), rows)
    if cut == n:
        return out
    return pytree.map(_concatenated, out, many(pytree.map(lambda x: x[cut:], xs)))
