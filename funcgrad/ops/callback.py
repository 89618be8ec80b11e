"""Calls of Python functions as operations: `PureCallback` computes something, `Effect` does something.

A program keeps such a call as an equation, and every run of the program calls the function, with plain arrays.
Batching does not batch the function: it adds a *level*, a loop over the examples around the call.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, NoReturn, final

import numpy as np

from funcgrad.core.errors import NotDifferentiableError, SourceLine
from funcgrad.core.kinds import Library
from funcgrad.core.primitive import Cotangent, Wanted
from funcgrad.core.types import Array, ArrayType, Shape, Typed, is_inexact, promote, type_of
from funcgrad.ops.broadcast import Sum, batch_length, broadcast_to


class Level(NamedTuple):
    """A batch axis: its length, and for each operand whether it has that axis."""

    size: int
    batched: tuple[bool, ...]


class Target(ABC):
    """What a pure callback calls: a user's function, as one of operands in a row."""

    @abstractmethod
    def call(self, xs: Sequence[Array]) -> Any:
        """What the user's function returns for these operands."""

    @abstractmethod
    def unpack(self, result: Any) -> Sequence[Any]:
        """The leaves of what it returned; the user's error where that has another structure than was declared."""

    @abstractmethod
    def refuse(self, i: int, got: ArrayType, declared: ArrayType) -> NoReturn:
        """Raise the user's error: leaf `i` of the result has another type than was declared."""


@final
@dataclass(frozen=True, slots=True)
class PureCallback(Library):
    """A function of the user that computes with plain arrays, outside of every transformation.

    Args:
        label: The name of the function.
        target: What is called.
        types: The declared types of the results, of one example.
        method: How a batch is computed: "sequential", "expand_dims" or "broadcast_all".
        pullback: From the cotangents of the inexact results and the operands to the cotangents of the operands.
        positional: How many operands have a cotangent in what the pullback returns; they come first.
        levels: The batch axes, the outermost first.
        site: The line of user code that calls it.
    """

    name: ClassVar[str] = "pure_callback"
    multiple: ClassVar[bool] = True
    fresh = True
    label: str
    target: Target
    types: tuple[ArrayType, ...]
    method: str
    pullback: Target | None = None
    positional: int = 0
    levels: tuple[Level, ...] = ()
    site: SourceLine | None = field(default=None, compare=False)

    @property
    def constant(self) -> bool:  # type: ignore[override]  # follows from the types here
        return not any(is_inexact(t.dtype) for t in self.types)

    @property
    def _sizes(self) -> Shape:
        return tuple([level.size for level in self.levels])

    def out_type(self, *xs: Typed) -> tuple[ArrayType, ...]:
        return tuple([ArrayType((*self._sizes, *t.shape), t.dtype) for t in self.types])

    def impl(self, *xs: Array) -> tuple[Array, ...]:
        xs = tuple([_read_only(x) for x in xs])
        if not self.levels:
            return self._call(xs, self.types)
        if self.method != "sequential":
            return self._call([self._spread(i, x) for i, x in enumerate(xs)], self.out_type())
        out = tuple([np.empty(t.shape, t.dtype) for t in self.out_type()])
        for place, example in _examples(self.levels, xs):
            for stack, y in zip(out, self._call([np.asarray(x) for x in example], self.types), strict=True):
                stack[place] = y
        return out

    def _call(self, xs: Sequence[Array], types: Sequence[ArrayType]) -> tuple[Array, ...]:
        result = _noted(self.label, self.site, self.target.call, xs)
        leaves = self.target.unpack(result)
        return tuple([self._checked(i, y, t) for i, (y, t) in enumerate(zip(leaves, types, strict=True))])

    def _checked(self, i: int, y: Any, declared: ArrayType) -> Array:
        if y is None:  # a cotangent that is zero
            return np.zeros(declared.shape, declared.dtype)
        got = type_of(y)
        fits = got.dtype == declared.dtype or (got.weak and promote(got, declared) == declared.dtype)
        if got.shape != declared.shape or not fits:
            self.target.refuse(i, got, declared)
        # whoever returned it may keep it, and write into it
        return np.array(y, declared.dtype)

    def _spread(self, i: int, x: Array) -> Array:
        """Operand `i` with an axis for each level."""
        spread = x[tuple([slice(None) if level.batched[i] else None for level in self.levels])]
        if self.method == "expand_dims":
            return spread
        return np.broadcast_to(spread, (*self._sizes, *spread.shape[len(self.levels) :]))

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return (0,) if self.pullback is not None else range(len(wanted) + 1)

    def vjp(self, wanted: Wanted, g: Any, y: Any, *xs: Array) -> tuple[Cotangent | None, ...]:
        places = [i for i, w in enumerate(wanted) if w is not None]
        if self.pullback is None:
            self._refuse_derivative()
        if any(i >= self.positional for i in places):
            raise NotDifferentiableError(
                f"the callback {self.label} is differentiated with respect to a keyword argument, but its vjp= returns "
                "cotangents for the positional ones",
                "pass that argument by position, or wrap it in stop_gradient(...)",
                self.site,
            )
        results = [(part, t) for part, t in zip(g, self.out_type(), strict=True) if is_inexact(t.dtype)]
        gs = [broadcast_to(np.zeros((), t.dtype), t.shape) if part is None else part for part, t in results]
        types = []
        for i in places:
            w: Any = wanted[i]
            types.append(ArrayType(w.shape[sum(level.batched[i] for level in self.levels) :], w.dtype))
        levels = [Level(level.size, (*[True] * len(gs), *level.batched)) for level in self.levels]
        target = _Chosen(self.pullback, tuple(places))
        back = PureCallback(f"{self.label}′", target, tuple(types), self.method, levels=tuple(levels), site=self.site)
        cts: list[Cotangent | None] = [None] * len(wanted)
        for i, ct in zip(places, back(*gs, *xs), strict=True):
            shared = tuple([axis for axis, level in enumerate(self.levels) if not level.batched[i]])
            cts[i] = Sum(shared)(ct) if shared else ct
        return tuple(cts)

    def _refuse_derivative(self) -> NoReturn:
        if isinstance(self.target, _Chosen):
            raise NotDifferentiableError(
                f"the vjp= of the callback {self.label[:-1]} has no derivative of its own, which a second derivative "
                "would need",
                "write the function with custom_vjp, whose rules are traced",
                self.site,
            )
        raise NotDifferentiableError(
            f"the callback {self.label} has no derivative: it is not traced",
            "give the pullback, pure_callback(f, types, x, vjp=lambda ct, x: (ct * slope(x),)), "
            "or wrap the arguments in stop_gradient(...)",
            self.site,
        )

    def batch(self, batched: tuple[bool, ...], *xs: Array) -> Any:
        level = Level(batch_length(batched, xs), batched)
        return replace(self, levels=(level, *self.levels))(*xs)

    def explain(self, error: Exception, args: Sequence[Array]) -> NoReturn:
        raise error

    def show(self) -> str:
        return f"{self.name}[{self.label}]"


@final
@dataclass(frozen=True, slots=True)
class _Chosen(Target):
    """A pullback, of which some cotangents are wanted."""

    pullback: Target
    places: tuple[int, ...]

    def call(self, xs: Sequence[Array]) -> Any:
        return self.pullback.call(xs)

    def unpack(self, result: Any) -> Sequence[Any]:
        cts = self.pullback.unpack(result)
        return [cts[i] for i in self.places]

    def refuse(self, i: int, got: ArrayType, declared: ArrayType) -> NoReturn:
        self.pullback.refuse(self.places[i], got, declared)


@final
@dataclass(frozen=True, slots=True)
class Effect(Library):
    """A function of the user that does something with the values, such as printing them.

    It acts once, in the forward pass, and once for each example of a batch.

    Args:
        label: The name of the function.
        act: Takes the operands, as arrays of its own.
        levels: The batch axes, the outermost first.
        masks: How many operands come before those of `act`: bools, all of which must be true for it to act.
        site: The line of user code that calls it.
    """

    name: ClassVar[str] = "effect"
    multiple: ClassVar[bool] = True
    effect: ClassVar[bool] = True
    constant = True
    fresh = True
    label: str
    act: Callable[..., None]
    levels: tuple[Level, ...] = ()
    masks: int = 0
    site: SourceLine | None = field(default=None, compare=False)

    @property
    def masked(self) -> Effect:
        """The same with one more operand, in front: whether to act."""
        levels = [Level(level.size, (False, *level.batched)) for level in self.levels]
        return replace(self, levels=tuple(levels), masks=self.masks + 1)

    def out_type(self, *xs: Typed) -> tuple[()]:
        return ()

    def impl(self, *xs: Array) -> tuple[()]:
        for _, example in _examples(self.levels, [np.asarray(x) for x in xs]):
            # copies: the function may keep them, and a program may go on to write into its memory
            if all(example[: self.masks]):
                _noted(self.label, self.site, self.act, *map(np.array, example[self.masks :]))
        return ()

    def vjp(self, wanted: Wanted, g: Any, y: Any, *xs: Array) -> tuple[None, ...]:
        return (None,) * len(xs)

    def batch(self, batched: tuple[bool, ...], *xs: Array) -> Any:
        return replace(self, levels=(Level(batch_length(batched, xs), batched), *self.levels))(*xs)

    def explain(self, error: Exception, args: Sequence[Array]) -> NoReturn:
        raise error

    def show(self) -> str:
        return f"{self.name}[{self.label}]"


def _examples(levels: Sequence[Level], xs: Sequence[Array]) -> Iterator[tuple[tuple[int, ...], list[Array]]]:
    """Each example of a batch: its place, and its operands."""
    for place in np.ndindex(*[level.size for level in levels]):
        at = [tuple([p for p, level in zip(place, levels, strict=True) if level.batched[i]]) for i in range(len(xs))]
        yield place, [x[i] for x, i in zip(xs, at, strict=True)]


def _read_only(x: Array) -> Array:
    """A view that the user's function cannot write into."""
    x = np.asarray(x).view()
    x.flags.writeable = False
    return x


def _noted(label: str, site: SourceLine | None, f: Callable[..., Any], *args: Any) -> Any:
    """`f(*args)`; an error of the user's comes out as it is, with a note of where the call was written."""
    try:
        return f(*args)
    except Exception as error:
        error.add_note(f"in the callback {label}, called at {site}")
        raise
