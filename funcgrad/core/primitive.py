"""The contract of a primitive, and what a cotangent can be besides an array.

A primitive is an immutable value: its parameters are its fields, its rules are its methods. Calling it is the one
way to apply it; with tracers among the arguments the innermost transformation takes over, else NumPy computes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, ClassVar, NoReturn, Protocol, TypeAlias, cast, final

from funcgrad.core.errors import FuncgradError, NotDifferentiableError
from funcgrad.core.trace import Tracer, staged_by
from funcgrad.core.types import Array, ArrayType, DType, Shape, Typed, type_of

_registry: list[type[Primitive]] = []

Wanted: TypeAlias = Sequence[Typed | None]


class Primitive(ABC):
    """One operation with all its rules.

    A subclass is final, usually a frozen dataclass whose fields are the operation's static parameters. In its rules
    `x` is an input, `y` the result, `g` the cotangent of `y`.

    Attributes:
        name: How the operation is printed.
        multiple: True if the result is a tuple of arrays.
        constant: True if the derivative is zero wherever it exists (comparisons, `floor`, `argmax`): a differentiating
            trace then leaves the result untraced.
        keeps_weak: True if an operation on Python scalars alone gives a Python scalar again, as Python's operators do.
        effect: True if applying it does something besides giving a result (printing): it is never dropped as unused.
        fresh: True if each result is always writeable memory of its own, never shared with an input or with another
            result. A compiled program then neither looks nor copies.
        residuals: True if the backward pass needs more than the inputs and the result. A differentiating trace then
            calls `forward` instead of `impl`, and `vjp` gets what that saved: `vjp(wanted, g, *residuals)`.
    """

    __slots__ = ()

    name: ClassVar[str]
    multiple: ClassVar[bool] = False
    constant: bool = False
    keeps_weak: bool = False
    fresh: bool = False
    effect: ClassVar[bool] = False
    residuals: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _registry.append(cls)

    def __call__(self, *args: Array) -> Any:
        """Apply the primitive: by the innermost trace among the arguments, or by NumPy."""
        for x in args:
            if isinstance(x, Tracer):
                return x.tracing.apply(self, args)
        if self.effect:
            trace = staged_by()
            if trace is not None:
                return trace.apply(self, args)
        try:
            return self.impl(*args)
        except (ValueError, TypeError, IndexError) as error:
            self.explain(error, args)

    @abstractmethod
    def out_type(self, *xs: Any) -> Any:
        """The type of the result for inputs of these types; a tuple of types if `multiple`.

        It raises the user's error, with the values.
        """

    @abstractmethod
    def impl(self, *xs: Array) -> Any:
        """The operation on plain arrays, with NumPy."""

    @abstractmethod
    def vjp(self, wanted: Wanted, g: Any, y: Any, *xs: Array) -> tuple[Cotangent | None, ...]:
        """The cotangents of the inputs.

        Args:
            wanted: For each input the type that its cotangent must have, or None where none is wanted.
            g: The cotangent of `y`. If `multiple`, a tuple with None where a part has no cotangent.
            y: The result; a tuple if `multiple`, None if `unread` names it.
            xs: The inputs; None for each that `unread` names.

        Returns:
            One cotangent, or None, for each input. The rule is written with differentiable operations.
        """

    @abstractmethod
    def batch(self, batched: tuple[bool, ...], *xs: Array) -> Any:
        """The operation on a stack of inputs: each batched `x`, and the result, has the batch axis in front.

        Of several results, those that do not depend on the batched inputs may be given as `Unbatched`.
        """

    def expand(self, *xs: Any) -> Any:
        """The same result by simpler operations, for a compiler that has no code for this one; None if there is none.

        The rule calls primitives and functions of such, like `multiply(x, y)`: what it gets knows its type, but has no
        operators. It reads no values and makes no arrays, only scalars. It says the same up to rounding.
        """
        return None

    def forward(self, wanted: Wanted, *xs: Array) -> tuple[Any, Sequence[Array]]:
        """The results and the residuals, for a primitive that has `residuals`; `wanted` is as for `vjp`."""
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def unread(self, wanted: Wanted) -> Sequence[int]:
        """The places in `(y, *xs)` of the values that `vjp` does not read when these inputs are wanted.

        What is not read is not kept until the backward pass; `vjp` then gets None in its place. The default keeps
        everything.
        """
        return ()

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Any, *xs: Array) -> tuple[Cotangent | None, ...]:
        """`vjp` for a cotangent that is structurally zero in places. The default forgets where."""
        return self.vjp(wanted, g.value, y, *xs)

    def explain(self, error: Exception, args: Sequence[Array]) -> NoReturn:
        """Raise the user's error for what NumPy raised: the type rule's, if it finds something to say."""
        if isinstance(error, FuncgradError):
            raise error
        try:
            self.out_type(*map(type_of, args))
        except FuncgradError as better:
            raise better from None
        raise error

    def show(self) -> str:
        """How a jaxpr prints it: the name, with the parameters in brackets."""
        this: Any = self
        described = fields(this) if is_dataclass(this) else ()
        parameters = ", ".join(f"{f.name}={getattr(self, f.name)}" for f in described if f.repr)
        return f"{self.name}[{parameters}]" if parameters else self.name


class Differentiable(Protocol):
    """What a tape records with residuals: a primitive that has them, or a user's custom rule."""

    @property
    def name(self) -> str: ...
    @property
    def residuals(self) -> bool: ...
    def __call__(self, *args: Array) -> tuple[Array, ...]: ...
    def forward(self, wanted: Wanted, *xs: Array) -> tuple[tuple[Array, ...], Sequence[Array]]: ...
    def vjp(self, wanted: Wanted, g: Any, *residuals: Array) -> tuple[Cotangent | None, ...]: ...


def registered() -> tuple[type[Primitive], ...]:
    """Every concrete primitive class, in order of definition."""
    # dataclass(slots=True) makes a class a second time; the second one is the one that counts
    latest = {(cls.__module__, cls.__qualname__): cls for cls in _registry}
    return tuple(cls for cls in latest.values() if not cls.__abstractmethods__)


def not_differentiable(primitive: Primitive, why: str) -> NoReturn:
    """Say in a `vjp` rule that there is no derivative: raises `NotDifferentiableError` with the reason."""
    raise NotDifferentiableError(
        f"{primitive.name} has no derivative: {why}",
        "wrap the argument in stop_gradient(...) if it is meant as a constant",
    )


class Structured:
    """A cotangent that is more than an array. Not abstract, since `isinstance` of an ABC is slow."""

    __slots__ = ()

    @property
    def shape(self) -> Shape:
        """The shape of the array."""
        raise NotImplementedError(f"{type(self).__name__}.shape")

    @property
    def dtype(self) -> DType:
        """The dtype of the array."""
        raise NotImplementedError(f"{type(self).__name__}.dtype")

    def dense(self) -> Array | Masked:
        """The cotangent as an array, perhaps with the mask of its structural zeros."""
        raise NotImplementedError(f"{type(self).__name__}.dense")


class LazyCotangent(Structured):
    """A cotangent that is not yet an array."""

    __slots__ = ()

    def plus(self, other: Cotangent) -> LazyCotangent | None:
        """The sum with another cotangent, if it can stay lazy."""
        return None


@final
class Masked(Structured):
    """A cotangent that is zero by structure wherever `mask` is False: the operation did not select that element.

    `where(x > 0, log(x), 0)` has no dependence on `log(x)` at x = 0, so the infinite slope there must not meet the
    zero cotangent: 0 · inf is NaN. The mask says which zeros are of this kind. It follows from the selection, not
    from the value of the cotangent, so that the pullback stays linear and second derivatives stay right.
    """

    __slots__ = ("mask", "value")

    def __init__(self, value: Array, mask: Array) -> None:
        self.value = value
        self.mask = mask

    @property
    def shape(self) -> Shape:
        """The shape of the array."""
        return cast(Shape, self.value.shape)

    @property
    def dtype(self) -> DType:
        """The dtype of the array."""
        return cast(DType, self.value.dtype)

    def dense(self) -> Masked:
        return self


Cotangent: TypeAlias = Array | Structured


@final
class Unbatched:
    """One of several results of a batching rule: the same for the whole batch, and without a batch axis."""

    __slots__ = ("value",)

    def __init__(self, value: Array) -> None:
        self.value = value


def plain(g: Cotangent | None) -> Array:
    """The cotangent as an array alone, without the mask of its structural zeros; None stays None."""
    if isinstance(g, Structured):
        g = g.dense()
        return g.value if isinstance(g, Masked) else g
    return g


def masked_linear(
    primitive: Primitive, wanted: Wanted, g: Masked, y: Any, xs: Sequence[Array]
) -> tuple[Cotangent | None, ...]:
    """`vjp_masked` of an operation whose pullback only moves and adds elements: the mask goes where they go."""
    values = primitive.vjp(wanted, g.value, y, *xs)
    masks = primitive.vjp(wanted, g.mask, y, *xs)
    return tuple(None if v is None else Masked(plain(v), plain(m) != 0) for v, m in zip(values, masks, strict=True))


def out_types(primitive: Primitive, types: Sequence[Typed]) -> tuple[ArrayType, ...]:
    """The types of all results, as a tuple whether or not the primitive has several."""
    out = primitive.out_type(*types)
    return out if primitive.multiple else (out,)
