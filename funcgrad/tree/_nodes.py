"""What is a container: dataclasses of their own accord, other classes when they are registered."""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar, cast, final

import optree

from funcgrad.core.errors import ArgumentError
from funcgrad.core.types import exactly

T = TypeVar("T")
C = TypeVar("C", bound=type)

NAMESPACE = "funcgrad"
_lock = threading.Lock()
# the fields of each dataclass that are children, and those that belong to the structure
_dataclasses: dict[type, tuple[tuple[str, ...], tuple[str, ...]]] = {}


def register_pytree_node(
    cls: type[T], flatten: Callable[[T], tuple[Iterable[Any], Any]], unflatten: Callable[[Any, Iterable[Any]], T]
) -> None:
    """Make a class of your own a container.

    Args:
        cls: The class.
        flatten: Maps an instance to its children and to hashable auxiliary data.
        unflatten: Maps the auxiliary data and the children to an instance.

    Raises:
        ValueError: The class is registered already.

    Examples:
        >>> from funcgrad import tree
        >>> class Pair:
        ...     def __init__(self, a, b):
        ...         self.a, self.b = a, b
        >>> tree.register_pytree_node(Pair, lambda p: ((p.a, p.b), None), lambda _, children: Pair(*children))
        >>> tree.leaves(Pair(1.0, 2.0))
        [1.0, 2.0]
    """

    def split(node: Any) -> tuple[tuple[Any, ...], Any]:
        children, data = flatten(node)
        return tuple(children), data

    optree.register_pytree_node(cast(Any, cls), split, cast(Any, unflatten), namespace=NAMESPACE)


def register_pytree_node_class(cls: C) -> C:
    """Decorator: make a class a container by two methods of it.

    Args:
        cls: A class with a method `tree_flatten(self)` that returns the children and hashable auxiliary data, and a
            class method `tree_unflatten(cls, data, children)` that makes an instance of them.

    Returns:
        The class.

    Raises:
        ArgumentError: It lacks one of the methods.
        ValueError: The class is registered already.

    Examples:
        >>> from funcgrad import tree
        >>> @tree.register_pytree_node_class
        ... class Interval:
        ...     def __init__(self, low, high):
        ...         self.low, self.high = low, high
        ...     def tree_flatten(self):
        ...         return (self.low, self.high), None
        ...     @classmethod
        ...     def tree_unflatten(cls, data, children):
        ...         return cls(*children)
        >>> tree.map(lambda x: -x, Interval(1.0, 2.0)).high
        -2.0
    """
    for method, result in ("tree_flatten(self)", "children, data"), ("tree_unflatten(cls, data, children)", "cls(...)"):
        if not callable(getattr(cls, method.partition("(")[0], None)):
            raise ArgumentError(f"register_pytree_node_class: {cls.__name__} lacks {method}", f"let it return {result}")
    known = cast(Any, cls)
    register_pytree_node(known, known.tree_flatten, known.tree_unflatten)
    return cls


def register_dataclass(cls: C, data_fields: Sequence[str] | None = None, meta_fields: Sequence[str] | None = None) -> C:
    """Say which fields of a class are children and which belong to the structure; also a decorator.

    A dataclass needs it only for fields that are not marked: by itself, each field is a child unless it is declared
    with `field(metadata={"static": True})`.

    Args:
        cls: A dataclass, or a class whose constructor takes the fields by keyword.
        data_fields: The names of the children; without it and `meta_fields`, the marks of the fields decide.
        meta_fields: The names of the fields that belong to the structure. Their values must be hashable.

    Returns:
        The class.

    Raises:
        ArgumentError: The names are not the fields of the class, one of the two lists is missing, or the class has
            been used with other fields before.

    Examples:
        >>> import dataclasses
        >>> from funcgrad import tree
        >>> @dataclasses.dataclass
        ... class Layer:
        ...     weight: float
        ...     name: str
        >>> tree.leaves(tree.register_dataclass(Layer, ["weight"], ["name"])(1.0, "first"))
        [1.0]
    """
    if data_fields is None and meta_fields is None:
        if not dataclasses.is_dataclass(cls):
            raise ArgumentError(
                f"register_dataclass: {cls.__name__} is not a dataclass, so its fields are not known",
                'register_dataclass(cls, ["weight"], ["name"])',
            )
        take_apart(cls)
        return cls
    if data_fields is None or meta_fields is None:
        raise ArgumentError("register_dataclass: data_fields and meta_fields go together", "pass [] for none")
    data, meta = tuple(data_fields), tuple(meta_fields)
    if dataclasses.is_dataclass(cls):
        names = [f.name for f in dataclasses.fields(cls) if f.init]
        if sorted((*data, *meta)) != sorted(names):
            raise ArgumentError(
                f"register_dataclass: {cls.__name__} has the fields {', '.join(names)}, not {', '.join(data + meta)}",
                "name each field once, in data_fields or in meta_fields",
            )
    _register_fields(cls, data, meta)
    return cls


def take_apart(cls: type) -> None:
    """Register a dataclass, by the marks of its fields."""
    fields = [f for f in dataclasses.fields(cls) if f.init]
    static = tuple(f.name for f in fields if f.metadata.get("static"))
    _register_fields(cls, tuple(f.name for f in fields if f.name not in static), static)


def child_fields(cls: type) -> tuple[str, ...]:
    """The names of the children of a dataclass."""
    return _dataclasses[cls][0] if cls in _dataclasses else ()


def fields_of(cls: type) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """The attributes of a class that are children, and those that belong to the structure; None if that is not known.

    It is known of dataclasses, and of classes that were registered like them.
    """
    return _dataclasses.get(cls)


@final
class _Static(tuple[Any, ...]):
    """The static fields of a dataclass. 1, 1.0 and True are equal, but differ as structures; so do 0.0 and −0.0."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash(exactly(self))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Static) and exactly(self) == exactly(other)

    def __ne__(self, other: object) -> bool:
        return not self == other


def _register_fields(cls: type, data: tuple[str, ...], meta: tuple[str, ...]) -> None:
    def split(node: Any) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[str, ...]]:
        return tuple(getattr(node, name) for name in data), _Static(getattr(node, name) for name in meta), data

    def join(static: tuple[Any, ...], children: tuple[Any, ...]) -> Any:
        return cls(**dict(zip(meta, static, strict=True)), **dict(zip(data, children, strict=True)))

    with _lock:
        known = _dataclasses.get(cls)
        if known is None:
            optree.register_pytree_node(
                cls, split, cast(Any, join), path_entry_type=optree.DataclassEntry, namespace=NAMESPACE
            )
            _dataclasses[cls] = (data, meta)
        elif known != (data, meta):
            raise ArgumentError(
                f"register_dataclass: {cls.__name__} is a container already, with the children {', '.join(known[0])}",
                "register a class where it is defined, before it is part of a pytree",
            )


def register_static(cls: C) -> C:
    """Make the instances of a class part of the structure of a tree: they have no leaves. Also a decorator.

    Args:
        cls: A class whose instances are compared and hashed by their content, such as a frozen dataclass: trees with
            equal ones have equal structures.

    Returns:
        The class.

    Raises:
        ArgumentError: Its instances cannot be hashed.
        ValueError: The class is registered already.

    Examples:
        >>> import dataclasses
        >>> from funcgrad import tree
        >>> @tree.register_static
        ... @dataclasses.dataclass(frozen=True)
        ... class Settings:
        ...     activation: str
        >>> tree.leaves({"settings": Settings("tanh"), "w": 1.0})
        [1.0]
        >>> tree.structure(Settings("tanh")) == tree.structure(Settings("relu"))
        False
    """
    if cls.__hash__ is None:
        raise ArgumentError(
            f"register_static: instances of {cls.__name__} have no hash, so structures with them cannot be compared",
            "@dataclass(frozen=True), or define __hash__ next to __eq__",
        )
    register_pytree_node(cls, lambda value: ((), value), lambda value, _: value)
    return cls


@final
class _Whole:
    """A `functools.partial` that is to stay one function: `Partial` would merge with it."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return self.function(*args, **keywords)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Whole) and self.function == other.function

    def __hash__(self) -> int:
        return hash(self.function)


@final
class Partial(functools.partial[T], Generic[T]):
    """`functools.partial` as a container: the arguments it binds are leaves, the function belongs to the structure.

    So a function together with its parameters can be an argument of a transformation, and its gradient is taken with
    respect to what it binds. What a plain `functools.partial` within it binds stays part of the function.

    Examples:
        >>> from funcgrad import tree
        >>> line = tree.Partial(lambda a, b, x: a * x + b, 2.0, 1.0)
        >>> line(10.0)
        21.0
        >>> fg.grad(lambda f: f(10.0))(line).args
        (array(10.), array(1.))
    """

    def __new__(cls, func: Callable[..., T], /, *args: Any, **keywords: Any) -> Partial[T]:
        if isinstance(func, functools.partial) and not isinstance(func, Partial):
            func = _Whole(func)
        return super().__new__(cls, func, *args, **keywords)


def _split_partial(node: Any) -> Any:
    return (node.args, node.keywords), node.func, ("args", "keywords")


def _join_partial(func: Any, children: Any) -> Any:
    args, keywords = children
    return Partial(func, *args, **keywords)


optree.register_pytree_node(
    cast(Any, Partial), _split_partial, _join_partial, path_entry_type=optree.GetAttrEntry, namespace=NAMESPACE
)
