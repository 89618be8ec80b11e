"""vmap: a function of one example, applied to a whole batch at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, final

import numpy as np

from funcgrad import tree as pytree
from funcgrad.core.errors import ArgumentError, DTypeError, TreeError, UnsupportedError, shown
from funcgrad.core.trace import Tracer
from funcgrad.core.types import Array, is_inexact, plain_array, show_long, type_of
from funcgrad.ops.array import TracedArray
from funcgrad.ops.shape import move_axis
from funcgrad.transforms.inputs import is_array
from funcgrad.transforms.tracing.arguments import Selection, function_name
from funcgrad.transforms.tracing.batch import BatchTrace, repeated
from funcgrad.transforms.tracing.leaks import check_leaks

# how many arguments a message lists for each length of the batch axis
_LISTED = 4


def vmap(
    f: Callable[..., Any],
    in_axes: Any = 0,
    out_axes: Any = 0,
    axis_name: None = None,
    axis_size: int | None = None,
) -> Callable[..., Any]:
    """The function that applies `f` to every element of a batch, in one run.

    `f` is written for one example and called once, with tracers that stand for one example; each operation is computed
    for all examples together. It may be any function that `grad` takes, but Python cannot branch on a mapped value.

    Args:
        f: A function of pytrees of arrays.
        in_axes: Which axis of the arguments is the batch axis: an int for all of them, or a tuple with an entry for
            each positional argument. An entry is an int (negative ones count from the last), None for an argument that
            is the same for every example, or a pytree of these with the structure of the argument or of the top of it.
            What is not mapped is passed to `f` as it is. Keyword arguments are mapped along axis 0.
        out_axes: Where the batch axis goes in the results: an int, or a pytree of ints with the structure of the
            result or of the top of it. What does not depend on the batch is repeated, or returned once where it says
            None.
        axis_name: Not supported: there are no collective operations.
        axis_size: The length of the batch, needed where no argument is mapped.

    Returns:
        A function with the arguments of `f`, each mapped one with the batch axis, whose results have it too. Of plain
        arrays its results are plain arrays of their own.

    Raises:
        ArgumentError: `in_axes`, `out_axes` or `axis_size` do not fit the call, or the batch axes differ in length.
        TreeError: `in_axes` or `out_axes` does not have the structure of what it belongs to.
        TracedBoolError: `f` branches on a mapped value.

    Examples:
        >>> import numpy as np
        >>> import funcgrad as fg
        >>> fg.vmap(np.dot, in_axes=(0, None))(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, 10.0]))
        array([21., 43.])
        >>> fg.vmap(fg.grad(lambda x: x**3))(np.array([1.0, 2.0]))
        array([ 3., 12.])
    """
    selection = Selection("vmap", f, None, None)
    name = f"vmap({function_name(f)})"
    if axis_name is not None:
        raise UnsupportedError(
            f"{name}: axis_name={axis_name!r} names the batch axis for collective operations, which do not exist here",
            "leave it out, and reduce over the batch axis of the result: vmap(f)(x).sum(axis=0)",
        )
    if axis_size is not None and (not _is_int(axis_size) or axis_size < 0):
        raise ArgumentError(f"{name}: axis_size must be an int that is not negative, got {axis_size!r}", "axis_size=3")
    places = _places(name, in_axes)
    out_places = _Places(name, "out_axes", out_axes)

    @functools.wraps(f)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        arguments = _arguments(name, selection, places, args, kwargs)
        trace = BatchTrace(name, _batch_size(name, arguments, axis_size))
        out = run(trace, arguments, len(args), kwargs)
        check_leaks(trace)
        return out

    def run(trace: BatchTrace, arguments: list[_Argument], count: int, names: Iterable[str]) -> Any:
        entered = [a.enter(trace) for a in arguments]
        try:
            out = f(*entered[:count], **dict(zip(names, entered[count:], strict=True)))
        finally:
            trace.finish()
        leaves, structure = ([out], None) if isinstance(out, Tracer) else pytree.flatten(out)
        axes = out_places.spread(lambda: "the result", out, len(leaves))
        foreign = {id(_root(x)) for a in arguments for x in a.stacks if isinstance(x, np.ndarray)}
        results = []
        for i, (x, axis) in enumerate(zip(leaves, axes, strict=True)):
            path = "" if structure is None else pytree.paths(structure)[i]
            results.append(_result(trace, x, axis, f"the result{path and ' at ' + path}", foreign))
        return results[0] if structure is None else pytree.unflatten(structure, results)

    return mapped


def _is_int(x: Any) -> bool:
    return isinstance(x, int | np.integer) and not isinstance(x, bool)


@final
class _Places:
    """A pytree of axes that is the top of another: what it has at a leaf holds for the subtree there."""

    __slots__ = ("_name", "_option", "_structure", "axes")

    def __init__(self, name: str, option: str, tree: Any) -> None:
        self._name = name
        self._option = option
        self.axes, self._structure = pytree.flatten(tree, is_leaf=lambda node: node is None)
        for axis in self.axes:
            if axis is not None and not _is_int(axis):
                raise ArgumentError(
                    f"{name}: {option} is made of ints and None, but there is {shown(axis)} in it",
                    f"{option}=0, {option}=(0, None), or a pytree of these",
                )

    def spread(self, what: Callable[[], str], tree: Any, count: int) -> list[int | None]:
        """The axis of each of the `count` leaves of `tree`, which messages call `what()`."""
        if self._structure.is_leaf():
            return self.axes * count
        try:
            subtrees = self._structure.flatten_up_to(tree)
        except ValueError:
            expected = pytree.unflatten(self._structure, [0] * len(self.axes))
            raise TreeError(
                f"{self._name}: {self._option} does not have the structure of {what()}: "
                f"{pytree.difference(expected, tree)}",
                "give an axis for each leaf, or one for a whole subtree; None is for what is not mapped",
            ) from None
        return [axis for axis, sub in zip(self.axes, subtrees, strict=True) for _ in pytree.leaves(sub)]


def _places(name: str, in_axes: Any) -> _Places | list[_Places]:
    """One for all arguments, or one for each."""
    if in_axes is None or _is_int(in_axes):
        return _Places(name, "in_axes", in_axes)
    if not isinstance(in_axes, tuple | list):
        raise ArgumentError(
            f"{name}: in_axes must be an int, None, or a tuple with an entry for each positional argument, "
            f"got {shown(in_axes)}",
            "in_axes=({'w': 0, 'b': None},) for one argument that is a dict",
        )
    return [_Places(name, "in_axes", axes) for axes in in_axes]


_FIRST = _Places("vmap", "in_axes", 0)


@final
class _Argument:
    """An argument: its leaves, the axis of each that is mapped, and the stacks that are made of these."""

    __slots__ = ("_place", "_selection", "_structure", "axes", "leaves", "lengths", "name", "stacks")

    def __init__(self, name: str, selection: Selection, place: int | str, x: Any, places: _Places) -> None:
        self.name = name
        self._selection = selection
        self._place = place
        if places.axes == [None] or x.__class__ is np.ndarray or x.__class__ is TracedArray:
            self.leaves, self._structure = [x], None
        else:
            self.leaves, self._structure = pytree.flatten(x)
        self.axes = places.spread(lambda: selection.describe(place), x, len(self.leaves))
        self.stacks: list[Array] = []
        self.lengths: list[tuple[int, int]] = []
        for i, (leaf, axis) in enumerate(zip(self.leaves, self.axes, strict=True)):
            if axis is not None:
                leaf, axis = self._checked(i, leaf, axis)
                self.lengths.append((leaf.shape[axis], i))
                leaf = move_axis(leaf, axis, 0) if axis else leaf
            self.stacks.append(leaf)

    def describe(self, i: int) -> str:
        """What messages call leaf `i`: `argument 'p' leaf ['w']`."""
        path = "" if self._structure is None else pytree.paths(self._structure)[i]
        return self._selection.describe(self._place) + (f" leaf {path}" if path else "")

    def _checked(self, i: int, leaf: Any, axis: int) -> tuple[Array, int]:
        """The leaf as an array, and its axis counted from the front."""
        if leaf.__class__ is not np.ndarray and not isinstance(leaf, Tracer):
            array = is_array(leaf) or hasattr(leaf, "__array__")
            leaf = plain_array(leaf) if array and np.ndim(leaf) else leaf
        if not isinstance(leaf, np.ndarray | Tracer) or not leaf.shape:
            what = show_long(type_of(leaf)) if isinstance(leaf, np.ndarray | np.generic | Tracer) else shown(leaf)
            raise ArgumentError(
                f"{self.name}: {self.describe(i)} is {what}, which has no axis to map over", self._unmapped()
            )
        if leaf.dtype.kind not in "biufc" and not is_inexact(leaf.dtype):
            raise DTypeError(
                f"{self.name}: {self.describe(i)} is an array of {leaf.dtype.name}, not of numbers", self._unmapped()
            )
        place = int(axis)
        if not -leaf.ndim <= place < leaf.ndim:
            raise ArgumentError(
                f"{self.name}: {self.describe(i)} is {show_long(type_of(leaf))}, which has no axis {place}",
                f"in_axes={leaf.ndim - 1} is the last one, in_axes=0 the first",
            )
        return leaf, place % leaf.ndim

    def _unmapped(self) -> str:
        if isinstance(self._place, str):
            return f"keyword arguments are mapped: functools.partial(f, {self._place}=...) binds one that is not"
        entries = ["..."] * self._place + ["None"]
        return (
            f"in_axes=({', '.join(entries)}{',' if len(entries) == 1 else ''}) for what is the same for every example"
        )

    def enter(self, trace: BatchTrace) -> Any:
        """The argument with tracers for its mapped leaves; the very argument if there are none."""
        if not self.lengths:
            return self.leaves[0] if self._structure is None else pytree.unflatten(self._structure, self.leaves)
        entered = [
            x if axis is None else trace.enter(x, functools.partial(self.describe, i))
            for i, (x, axis) in enumerate(zip(self.stacks, self.axes, strict=True))
        ]
        return entered[0] if self._structure is None else pytree.unflatten(self._structure, entered)


def _arguments(
    name: str,
    selection: Selection,
    places: _Places | list[_Places],
    args: Sequence[Any],
    kwargs: dict[str, Any],
) -> list[_Argument]:
    """All arguments of a call, those by keyword last."""
    if isinstance(places, _Places):
        places = [places] * len(args)
    elif len(places) != len(args):
        raise ArgumentError(
            f"{name}: in_axes has {len(places)} entries, but the call has {len(args)} positional arguments",
            "give an entry for each positional argument; keyword arguments are mapped along axis 0",
        )
    found = [_Argument(name, selection, i, x, p) for i, (x, p) in enumerate(zip(args, places, strict=True))]
    return found + [_Argument(name, selection, key, x, _FIRST) for key, x in kwargs.items()]


def _batch_size(name: str, arguments: Iterable[_Argument], axis_size: int | None) -> int:
    """The length that all mapped axes have."""
    found: dict[int, list[tuple[_Argument, int]]] = {}
    for argument in arguments:
        for length, i in argument.lengths:
            found.setdefault(length, []).append((argument, i))
    if not found:
        if axis_size is None:
            raise ArgumentError(
                f"{name}: no argument is mapped, so the length of the batch is unknown",
                "in_axes=0 for an argument that has a batch axis, or axis_size=3",
            )
        return axis_size
    if len(found) == 1 and axis_size in (None, *found):
        return next(iter(found))
    lengths = "".join(f"\n    {length}: {_listed(where)}" for length, where in found.items())
    said = "" if axis_size is None else f"; axis_size is {axis_size}"
    raise ArgumentError(
        f"{name}: the axes to map over must have one length, but they have{lengths}{said}",
        "in_axes chooses another axis, or None for an argument that is the same for every example",
    )


def _listed(where: list[tuple[_Argument, int]]) -> str:
    listed = []
    for argument, i in where[:_LISTED]:
        axis = argument.axes[i]
        listed.append(f"axis {axis} of {argument.describe(i)}, {show_long(type_of(argument.leaves[i]))}")
    return "; ".join(listed) + (f"; and {len(where) - _LISTED} more" if len(where) > _LISTED else "")


def _result(trace: BatchTrace, x: Any, axis: int | None, what: str, foreign: set[int]) -> Any:
    """What `f` returned in one place, for the whole batch, as an array that nobody else refers to."""
    y, batched = trace.leave(x)
    if axis is None:
        if batched:
            raise ArgumentError(
                f"{trace.name}: out_axes=None says that {what} is the same for every element of the batch, "
                f"but it depends on {trace.origin(x.variable)}",
                "out_axes=0 stacks the results; reduce over the batch outside: vmap(f)(x).sum(axis=0)",
            )
        return y.copy() if isinstance(y, np.ndarray) else y
    if not batched:
        if not is_array(y) and not hasattr(y, "__array__"):
            raise ArgumentError(
                f"{trace.name}: {what} is {shown(y)}, which cannot be stacked",
                "return arrays and numbers, or say in out_axes that it is returned once: out_axes=(0, None)",
            )
        y = repeated(y, trace.size)
    place = int(axis)
    if not -len(y.shape) <= place < len(y.shape):
        raise ArgumentError(
            f"{trace.name}: out_axes={place} for {what}, which with the batch axis is {show_long(type_of(y))}",
            f"out_axes={len(y.shape) - 1} makes it the last axis, out_axes=0 the first",
        )
    return _own(move_axis(y, 0, place % len(y.shape)) if place else y, foreign)


def _root(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array whose memory `x` is a view of."""
    while isinstance(x.base, np.ndarray):
        x = x.base
    return x


def _own(y: Array, foreign: set[int]) -> Array:
    """`y` with memory of its own: not that of an argument or of another result, nor a part of something larger."""
    if not isinstance(y, np.ndarray):
        return y
    root = _root(y)
    if not y.flags.writeable or id(root) in foreign or root.nbytes != y.nbytes:
        return y.copy()
    foreign.add(id(root))
    return y
