"""A function with its own pullback, at one call: how it is recorded, and how it is staged.

Where values are known, the rule's Python functions are called: the forward rule in the forward pass, the backward rule
in the backward pass. Where only types are known, the function and its rules are staged, and the whole becomes one
operation, `CustomVjp`.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, NoReturn, cast, final

import numpy as np

from funcgrad import tree as pytree
from funcgrad.compiler.engine import runner
from funcgrad.core.errors import CustomRuleError
from funcgrad.core.flow import Called
from funcgrad.core.ir import Equation, Jaxpr
from funcgrad.core.kinds import Program
from funcgrad.core.primitive import Cotangent, Wanted, plain
from funcgrad.core.trace import Tracer, is_abstract
from funcgrad.core.types import Array, ArrayType, Typed, is_inexact, kind_of, show_long, type_of
from funcgrad.ops.broadcast import Sum, batch_length
from funcgrad.transforms.programs.call import Call, check_inputs, quiet
from funcgrad.transforms.programs.split import CustomHalves, cut_custom
from funcgrad.transforms.tracing.batch import batch_jaxpr
from funcgrad.transforms.tracing.derived import derived
from funcgrad.transforms.tracing.stage import Stage, closed
from funcgrad.transforms.tracing.tape import Tape

Pullback = Callable[[Any], Any]

# a forward rule may call its own function, whose rule is then the one that is being staged: it must wait
_being_staged: ContextVar[Mapping[int, Callable[[Rule, LazyHalves], None]]] = ContextVar(
    "_being_staged", default=MappingProxyType({})
)


class Rule(ABC):
    """A function with its own pullback, at one call.

    Args:
        owner: What the rule belongs to, the same object in all calls.
        name: What messages call the function.
        arguments: What they call its arguments.
        args: The arguments that may be differentiated, pytrees of arrays.
    """

    residuals: ClassVar[bool] = True

    def __init__(self, owner: object, name: str, arguments: Sequence[str], args: tuple[Any, ...]) -> None:
        self._owner = owner
        self.name = name
        self._arguments = arguments
        self._leaves, self._structure = pytree.flatten(args)
        self._out: pytree.Structure = pytree.structure(None)
        self._out_types: list[ArrayType] = []
        self._tape: Tape | None = None

    @abstractmethod
    def run(self, args: tuple[Any, ...]) -> Any:
        """The function."""

    @abstractmethod
    def differentiate(self, args: tuple[Any, ...]) -> tuple[Any, Pullback]:
        """Its result, and its pullback: from a cotangent of the result to a tuple with one for each argument."""

    def apply(self) -> Any:
        """The result, by whatever traces the arguments."""
        tracers = [x for x in self._leaves if isinstance(x, Tracer)]
        if not tracers:
            return self.run(self._args(self._leaves))
        if is_abstract(tracers):
            return self._apply_staged()
        # only tapes trace with values
        tape = self._tape = cast(Tape, max((x.tracing for x in tracers), key=lambda trace: trace.level))
        mine = [isinstance(x, Tracer) and x.tracing is tape for x in self._leaves]
        inputs = [x.variable if m else None for x, m in zip(self._leaves, mine, strict=True)]
        ys = tape.record(self, inputs, [x.value if m else x for x, m in zip(self._leaves, mine, strict=True)])
        # what is recorded outlives the trace, whose tracers must not; of the arguments their types will do
        self._leaves, self._tape = list(map(type_of, self._leaves)), None
        return pytree.unflatten(self._out, list(ys))

    def __call__(self, *leaves: Array) -> tuple[Array, ...]:
        found, self._out = pytree.flatten(self.run(self._args(leaves)))
        return tuple(found)

    def forward(self, wanted: Wanted, *leaves: Array) -> tuple[tuple[Array, ...], Sequence[Any]]:
        """The results, and the pullback as the one residual."""
        out, pullback = self.differentiate(self._args(leaves))
        ys, self._out = pytree.flatten(out)
        self._out_types = list(map(type_of, ys))
        if any(isinstance(y, Tracer) and y.tracing is self._tape for y in ys):
            self.refuse_closure(cast(Tape, self._tape).name)
        return tuple(ys), [pullback]

    def vjp(self, wanted: Wanted, g: Any, pullback: Pullback) -> tuple[Cotangent | None, ...]:
        """The cotangents of the leaves of the arguments."""
        parts = [
            None if not is_inexact(t.dtype) else np.zeros(t.shape, t.dtype) if part is None else plain(part)
            for part, t in zip(g, self._out_types, strict=True)
        ]
        cts = self._checked(pullback(pytree.unflatten(self._out, parts)))
        return tuple(
            None if w is None else np.zeros(w.shape, w.dtype) if ct is None else ct
            for w, ct in zip(wanted, cts, strict=True)
        )

    def _args(self, leaves: Sequence[Array]) -> tuple[Any, ...]:
        return cast(tuple[Any, ...], pytree.unflatten(self._structure, list(leaves)))

    def refuse_closure(self, trace: str) -> None:
        """The rule says nothing of what the function closes over."""
        raise CustomRuleError(
            f"{self.name} closes over a value that {trace} differentiates, of which its custom rule says nothing",
            "pass the value as an argument, and return its cotangent from the backward rule",
        )

    def _checked(self, cts: Any) -> list[Any]:
        """What the backward rule returned, leaf by leaf; None where it is zero."""
        args = self._args(self._leaves)
        count = len(args)
        names = ", ".join(self._arguments)
        if count == 1 and not isinstance(cts, tuple):
            cts = (cts,)
        if not isinstance(cts, tuple | list) or len(cts) != count:
            many = "" if isinstance(cts, tuple | list) and len(cts) == 1 else "s"
            got = f"{len(cts)} cotangent{many}" if isinstance(cts, tuple | list) else kind_of(cts)
            raise CustomRuleError(
                f"the backward rule of {self.name} returned {got}, but {self.name} has {count} inputs ({names})",
                "return a tuple with one cotangent for each input, None where it is zero",
            )
        out: list[Any] = []
        for name, arg, ct in zip(self._arguments, args, cts, strict=True):
            leaves, structure = pytree.flatten(arg)
            if ct is None:
                out += [None] * len(leaves)
                continue
            try:
                parts = structure.flatten_up_to(ct)
            except ValueError:
                raise CustomRuleError(
                    f"the backward rule of {self.name} returned a cotangent for '{name}' of another structure, "
                    f"{pytree.difference(arg, ct)}",
                    "return a pytree like the input",
                ) from None
            paths = pytree.paths(structure)
            out += [self._checked_leaf(name + p, x, part) for p, x, part in zip(paths, leaves, parts, strict=True)]
        return out

    def _checked_leaf(self, name: str, x: Array, ct: Any) -> Any:
        t = type_of(x)
        if ct is None or not is_inexact(t.dtype):
            return None
        if type(ct) in (int, float, complex) and t.shape == ():
            ct = t.dtype.type(ct)
        if type_of(ct).dtype.kind in "OUS":
            raise CustomRuleError(
                f"the backward rule of {self.name} returned {kind_of(ct)} for '{name}', which is {show_long(t)}",
                "a cotangent is an array like its input, or None where it is zero",
            )
        got = type_of(ct)
        if got.shape != t.shape or got.dtype != t.dtype:
            raise CustomRuleError(
                f"the backward rule of {self.name} returned {show_long(got)} for '{name}', which is {show_long(t)}",
                "a cotangent has the shape and the dtype of its input: ct.astype(x.dtype).reshape(x.shape)",
            )
        return ct

    def _apply_staged(self) -> Any:
        jaxpr, consts = self._stage_primal()
        out = self._out
        rule = LazyHalves(lambda: self._halves(jaxpr.out_types, out))
        operands: list[Array] = []
        if meet := _being_staged.get().get(id(self._owner)):
            meet(self, rule)
        else:
            # now, while what the rules close over can be lifted; but what they raise is for those who differentiate
            try:
                halves, operands = rule.get()
                rule = LazyHalves(lambda: (halves, []))
            except Exception as error:
                rule = LazyHalves(functools.partial(_raise, error))
        operation = CustomVjp(self.name, len(consts), len(operands), jaxpr, rule)
        return pytree.unflatten(out, list(operation(*consts, *operands, *self._leaves)))

    def _halves(self, types: Sequence[ArrayType], out: pytree.Structure) -> tuple[CustomHalves, list[Array]]:
        """The halves that the rules give for a function with these results, and what they close over."""
        inner: list[LazyHalves] = []

        def meet(other: Rule, rule: LazyHalves) -> None:
            if other._same_call(self):
                inner.append(rule)

        token = _being_staged.set({**_being_staged.get(), id(self._owner): meet})
        try:
            joint, consts, outputs = self._stage_rule(types, out)
        finally:
            _being_staged.reset(token)
        mine = LazyHalves(lambda: (halves, []))
        joint = _with_rule(joint, len(consts), inner, mine)
        halves = cut_custom(joint, len(consts) + len(self._leaves), outputs)
        return halves, consts

    def _same_call(self, other: Rule) -> bool:
        """True if two calls have one rule."""
        return self._structure == other._structure and [*map(type_of, self._leaves)] == [*map(type_of, other._leaves)]

    def _enter(self, stage: Stage) -> list[Any]:
        names = [
            f"argument '{name}'{path}"
            for name, arg in zip(self._arguments, self._args(self._leaves), strict=True)
            for path in pytree.paths(pytree.structure(arg))
        ]
        return [
            stage.enter(type_of(x), functools.partial(str, name)) for x, name in zip(self._leaves, names, strict=True)
        ]

    def _stage_primal(self) -> tuple[Jaxpr, list[Array]]:
        stage = Stage(f"custom_vjp({self.name})")
        entered = self._enter(stage)
        ys, self._out = pytree.flatten(self.run(self._args(entered)))
        return closed(stage.finish(entered, ys))

    def _check_forward(self, types: Sequence[ArrayType], out: pytree.Structure) -> None:
        """The forward rule has returned what the function returns."""
        strong = [[ArrayType(t.shape, t.dtype) for t in group] for group in (types, self._out_types)]
        if self._out != out or strong[0] != strong[1]:
            a, b = pytree.unflatten(out, strong[0]), pytree.unflatten(self._out, strong[1])
            raise CustomRuleError(
                f"the forward rule of {self.name} returns {b}, but {self.name} itself returns {a}",
                "return (f(x), residuals) from the forward rule",
            )

    def _stage_rule(self, types: Sequence[ArrayType], out: pytree.Structure) -> tuple[Jaxpr, list[Array], int]:
        """The joint jaxpr of the forward and the backward rule, its constants, and how many outputs come first."""
        stage = Stage(f"custom_vjp({self.name})")
        entered = self._enter(stage)
        result, pullback = self.differentiate(self._args(entered))
        ys, self._out = pytree.flatten(result)
        self._out_types = list(map(type_of, ys))
        self._check_forward(types, out)
        gs = [
            stage.enter(ArrayType(t.shape, t.dtype), lambda: "a cotangent") if is_inexact(t.dtype) else None
            for t in self._out_types
        ]
        cts = self._checked(pullback(pytree.unflatten(self._out, gs)))
        found = [
            np.zeros(type_of(x).shape, type_of(x).dtype) if ct is None else ct
            for x, ct in zip(self._leaves, cts, strict=True)
            if is_inexact(type_of(x).dtype)
        ]
        inputs = [*entered, *(g for g in gs if g is not None)]
        return (*closed(stage.finish(inputs, [*ys, *found])), len(ys))


def _with_rule(joint: Jaxpr, count: int, calls: Sequence[LazyHalves], rule: LazyHalves) -> Jaxpr:
    """The joint jaxpr with `rule` for these calls of its own function: they share the `count` constants it closes over.

    A rule that is staged later could not take hold of them: by then their trace may have ended.
    """

    def shared(e: Equation) -> Equation:
        p = e.primitive
        if not (isinstance(p, CustomVjp) and any(p.rule is call for call in calls)):
            return e
        n = p.primal_consts
        operands = (*e.inputs[:n], *joint.inputs[:count], *e.inputs[n:])
        return Equation(CustomVjp(p.label, n, count, p.jaxpr, rule), operands, e.outputs, e.source)

    return Jaxpr(joint.inputs, (), tuple(map(shared, joint.equations)), joint.outputs) if calls else joint


def _raise(error: Exception) -> NoReturn:
    raise error


@final
class LazyHalves:
    """The halves of a custom rule, made when they are first needed, and what they close over."""

    def __init__(self, make: Callable[[], tuple[CustomHalves, list[Array]]]) -> None:
        self._make = make
        self._made: tuple[CustomHalves, list[Array]] | None = None

    def get(self) -> tuple[CustomHalves, list[Array]]:
        """The halves; what they close over comes first among their inputs."""
        if self._made is None:
            self._made = self._make()
        return self._made


@final
@dataclass(frozen=True, slots=True)
class CustomVjp(Program):
    """A function with the two halves of its own differentiation.

    The operands are what the function closes over, what its rules close over, and its arguments.

    Args:
        label: The name of the user's function.
        primal_consts: How many operands the function closes over.
        rule_consts: How many its rules close over.
        jaxpr: The function.
        rule: Its forward and its backward rule.
    """

    name: ClassVar[str] = "custom_vjp"
    label: str
    primal_consts: int = field(repr=False)
    rule_consts: int = field(repr=False)
    jaxpr: Jaxpr
    rule: LazyHalves = field(repr=False)

    @property
    def effect(self) -> bool:  # type: ignore[override]  # follows from the jaxpr here
        return self.jaxpr.effect

    @property
    def flow(self) -> Called:
        consts, _, xs = self.parts(range(self.primal_consts + self.rule_consts + self._arguments))
        return Called(self.jaxpr, (*consts, *xs))

    @property
    def _arguments(self) -> int:
        return len(self.jaxpr.inputs) - self.primal_consts

    def parts(self, operands: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
        """The operands by role."""
        a, b = self.primal_consts, self.primal_consts + self.rule_consts
        return operands[:a], operands[a:b], operands[b:]

    def out_type(self, *operands: Typed) -> tuple[ArrayType, ...]:
        consts, _, xs = self.parts(operands)
        check_inputs(self.label, self.jaxpr, [*consts, *xs])
        return self.jaxpr.out_types

    @quiet
    def impl(self, *operands: Array) -> tuple[Array, ...]:
        consts, _, xs = self.parts(operands)
        return tuple(runner(self.jaxpr)(*consts, *xs))

    def forward(self, wanted: Wanted, *operands: Array) -> tuple[tuple[Array, ...], Sequence[Array]]:
        _, rule_consts, xs = self.parts(operands)
        if any(w is not None for w in wanted[: self.primal_consts + self.rule_consts]):
            raise CustomRuleError(
                f"{self.label} closes over a value that is differentiated, of which its custom rule says nothing",
                "pass the value as an argument, and return its cotangent from the backward rule",
            )
        halves, consts = self.rule.get()
        inputs = [*consts, *rule_consts, *xs]
        ys = Call(self.label, halves.forward)(*inputs)
        n = len(self.jaxpr.outputs)
        return ys[:n], [*(inputs[i] for i in halves.passed), *ys[n:]]

    def vjp(self, wanted: Wanted, g: Any, *residuals: Array) -> tuple[Cotangent | None, ...]:
        gs = [
            np.broadcast_to(np.zeros((), t.dtype), t.shape) if part is None else plain(part)
            for part, t in zip(g, self.jaxpr.out_types, strict=True)
            if is_inexact(t.dtype)
        ]
        halves, _ = self.rule.get()
        cts = iter(Call(f"{self.label}′", halves.backward)(*residuals, *gs))
        types = self.jaxpr.in_types[self.primal_consts :]
        found = [next(cts) if is_inexact(t.dtype) else None for t in types]
        mine = wanted[self.primal_consts + self.rule_consts :]
        return (
            *[None] * (self.primal_consts + self.rule_consts),
            *(None if w is None else ct for w, ct in zip(mine, found, strict=True)),
        )

    def batch(self, batched: tuple[bool, ...], *operands: Array) -> tuple[Any, ...]:
        n = batch_length(batched, operands)
        jaxpr, rule = _batched(self, batched, n)
        ys: tuple[Any, ...] = CustomVjp(self.label, self.primal_consts, self.rule_consts, jaxpr, rule)(*operands)
        return ys


@derived
def _batched(custom: CustomVjp, batched: tuple[bool, ...], n: int) -> tuple[Jaxpr, LazyHalves]:
    """The function and its rule on stacks."""
    consts, _, xs = custom.parts(batched)
    jaxpr, _ = batch_jaxpr(custom.jaxpr, (*consts, *xs), n, everything=True)
    return jaxpr, LazyHalves(lambda: _batched_halves(custom, batched, n))


def _batched_halves(custom: CustomVjp, batched: tuple[bool, ...], n: int) -> tuple[CustomHalves, list[Array]]:
    """The halves on stacks. The cotangent of an argument that is no stack is a sum over the batch."""
    _, rule_consts, xs = custom.parts(batched)
    (forward, passed, backward), closed_over = custom.rule.get()
    inputs = (*[False] * len(closed_over), *rule_consts, *xs)
    forward, _ = batch_jaxpr(forward, inputs, n, everything=True)
    entering = len(backward.inputs) - len(passed)
    backward, _ = batch_jaxpr(backward, (*(inputs[i] for i in passed), *[True] * entering), n, everything=True)
    stage = Stage("vmap", derived=True)
    entered = [stage.enter(t, lambda: "an operand") for t in backward.in_types]
    types = custom.jaxpr.in_types[custom.primal_consts :]
    stacks = [b for b, t in zip(xs, types, strict=True) if is_inexact(t.dtype)]
    cts = [ct if b else Sum((0,))(ct) for ct, b in zip(stage.replay(backward, entered), stacks, strict=True)]
    return CustomHalves(forward, passed, stage.finish(entered, cts)), closed_over
