"""`checkpoint`: what a function computes on the way is not saved for the backward pass, but computed again there.

It costs one more forward pass of the function, and saves the memory of all it computes in between. A policy may save
some of it all the same: what is dear to compute, or what is called by name.

Source: Chen, Xu, Zhang, Guestrin, "Training deep nets with sublinear memory cost" (2016).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

from funcgrad import tree as pytree
from funcgrad.core.errors import ArgumentError, shown
from funcgrad.core.kinds import Contraction
from funcgrad.core.primitive import Primitive
from funcgrad.core.trace import Tracer
from funcgrad.core.types import ArrayType
from funcgrad.ops.contract import Contract
from funcgrad.ops.flow import Named, named
from funcgrad.transforms.programs.call import Call
from funcgrad.transforms.programs.split import Policy, save_everything, save_nothing
from funcgrad.transforms.tracing.arguments import function_name
from funcgrad.transforms.tracing.stage import closed, stage


def checkpoint(
    fun: Callable[..., Any] | None = None,
    *,
    policy: Policy | None = None,
    static_argnums: int | Sequence[int] = (),
) -> Callable[..., Any]:
    """`fun`, whose intermediate results are computed again in the backward pass instead of being saved.

    It changes no value and no derivative. The function is traced on types: Python control flow on values belongs into
    `lax.cond` and its relatives, or on static arguments.

    Args:
        fun: Any function of pytrees of arrays. Without it, the result is a decorator.
        policy: What to save all the same: one of `checkpoint_policies`. Nothing but the inputs, if nothing is said.
        static_argnums: The positions of arguments that are passed to `fun` as they are, such as flags.

    Returns:
        A function with the arguments and the result of `fun`.

    Raises:
        ArgumentError: The call has no argument at a position of `static_argnums`.
        DTypeError: An argument that is not static is not made of arrays and numbers.

    Examples:
        >>> import numpy as np
        >>> import funcgrad as fg
        >>> block = fg.checkpoint(lambda x: np.sin(np.exp(x)))
        >>> fg.print_saved_residuals(block, 1.0)
        float64[]  8 bytes  argument 'x'
        total: 8 bytes
    """
    if fun is None:
        return functools.partial(checkpoint, policy=policy, static_argnums=static_argnums)
    if not callable(fun):
        raise ArgumentError(f"checkpoint takes a function, got {shown(fun)}", "checkpoint(f)(x)")
    static = (static_argnums,) if isinstance(static_argnums, int) else tuple(static_argnums)
    saves = save_nothing if policy is None else policy
    label = function_name(fun)

    @functools.wraps(fun)
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        places = {i % len(args) for i in static if -len(args) <= i < len(args)}
        if len(places) < len(static):
            raise ArgumentError(
                f"checkpoint: static_argnums={static} in a call with {len(args)} positional arguments",
                "give the positions of arguments that are passed by position, each once: static_argnums=1",
            )
        dynamic = ({i: x for i, x in enumerate(args) if i not in places}, kwargs)
        if not any(isinstance(x, Tracer) for x in (*pytree.leaves(dynamic), *_closure(fun))):
            return fun(*args, **kwargs)
        jaxpr, structure = stage(fun, args, kwargs, "checkpoint", sorted(places))
        body, consts = closed(jaxpr)
        ys = Call(label, body, saves)(*consts, *pytree.leaves(dynamic))
        return pytree.unflatten(structure, list(ys))

    return checkpointed


def _closure(f: Any) -> list[Any]:
    """The leaves of what a function closes over, as far as that can be seen without calling it."""
    if isinstance(f, functools.partial):
        return [*pytree.leaves((f.args, f.keywords)), *_closure(f.func)]
    cells = []
    for cell in getattr(f, "__closure__", None) or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:  # not yet assigned
            continue
    return pytree.leaves([c for c in cells if isinstance(c, Tracer | tuple | list | dict)])


def checkpoint_name(x: Any, name: str) -> Any:
    """The identity, under a name by which a policy may save it.

    Args:
        x: Any pytree of arrays.
        name: What `save_only_these_names` and its relatives call it.

    Examples:
        >>> import numpy as np
        >>> import funcgrad as fg
        >>> policy = fg.checkpoint_policies.save_only_these_names("hidden")
        >>> f = fg.checkpoint(lambda x: np.sin(fg.checkpoint_name(np.exp(x), "hidden")), policy=policy)
        >>> round(float(fg.grad(f)(1.0)), 3)
        -2.478
    """
    return named(x, name)


@final
@dataclass(frozen=True, slots=True)
class _ByName:
    """Save what has one of these names; or, of what has a name, all else; or all else, name or not."""

    names: tuple[str, ...]
    listed: bool
    nameless: bool

    def __call__(self, primitive: Primitive, t: ArrayType) -> bool:
        if isinstance(primitive, Named):
            return (primitive.label in self.names) == self.listed
        return self.nameless


@final
@dataclass(frozen=True, slots=True)
class _Either:
    policies: tuple[Policy, ...]

    def __call__(self, primitive: Primitive, t: ArrayType) -> bool:
        return any(policy(primitive, t) for policy in self.policies)


def _save_contractions(primitive: Primitive, t: ArrayType) -> bool:
    return isinstance(primitive, Contraction)


def _save_contractions_without_batch(primitive: Primitive, t: ArrayType) -> bool:
    return isinstance(primitive, Contract) and not set.intersection(*map(set, primitive.terms))


@final
class CheckpointPolicies:
    """What `checkpoint` saves for the backward pass; the names are JAX's.

    Examples:
        >>> import funcgrad as fg
        >>> dots = fg.checkpoint_policies.dots_saveable
        >>> layer = fg.checkpoint(lambda w, x: (x @ w).sum(), policy=dots)
        >>> float(layer(2.0 * fg.numpy.eye(2), fg.numpy.ones(2)))
        4.0
    """

    everything_saveable = staticmethod(save_everything)
    nothing_saveable = staticmethod(save_nothing)
    dots_saveable = staticmethod(_save_contractions)
    dots_with_no_batch_dims_saveable = staticmethod(_save_contractions_without_batch)

    @staticmethod
    def save_only_these_names(*names: str) -> Policy:
        """Save what `checkpoint_name` has given one of these names."""
        return _ByName(names, listed=True, nameless=False)

    @staticmethod
    def save_any_names_but_these(*names: str) -> Policy:
        """Save what has a name, but not one of these."""
        return _ByName(names, listed=False, nameless=False)

    @staticmethod
    def save_anything_except_these_names(*names: str) -> Policy:
        """Save all but what has one of these names."""
        return _ByName(names, listed=False, nameless=True)

    @staticmethod
    def save_from_both_policies(first: Policy, second: Policy) -> Policy:
        """Save what one of the two would save."""
        return _Either((first, second))


checkpoint_policies = CheckpointPolicies()
