"""The signature of a call: all that the program of a jitted function may depend on.

    key = (structure of the arguments, type of each leaf, static values)

Calls with equal keys run the same program. Static arguments are told apart by type as well as by value, since `1`,
`1.0` and `True` are equal and mean different programs.
"""

from __future__ import annotations

import difflib
import inspect
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, NoReturn, TypeAlias, final

import numpy as np

from funcgrad import tree as pytree
from funcgrad.core.errors import ArgumentError, DTypeError, shown
from funcgrad.core.trace import Tracer
from funcgrad.core.types import PYTHON_SCALARS, ArrayType, Shape, beyond_int64, exactly, plain_array
from funcgrad.transforms.tracing.arguments import function_name

Leaf: TypeAlias = tuple[Shape, "np.dtype[Any]", bool]
"""The type of a leaf: shape, dtype, and whether the dtype is weak."""
Key: TypeAlias = tuple[pytree.Structure, tuple[Leaf, ...], tuple[Any, ...]]

_NUMBERS: dict[type, Leaf] = {cls: (t.shape, t.dtype, t.weak) for cls, t in PYTHON_SCALARS.items()}
_WEAK = {"i": "int", "f": "float", "c": "complex"}
_ABSENT = inspect.Parameter.empty


class Parameter(NamedTuple):
    """One parameter of a function, as far as it is known: its name, its position, its default."""

    name: str | None
    position: int | None
    default: Any = _ABSENT

    def __str__(self) -> str:
        return f"argument {self.position if self.name is None else repr(self.name)}"


def _parameters(f: Callable[..., Any]) -> tuple[list[Parameter], set[inspect._ParameterKind]]:
    """The named parameters of `f`, and which kinds of parameters it has; neither where there is no signature."""
    try:
        signature = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return [], {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    found = []
    for i, p in enumerate(signature):
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            name = None if p.kind is p.POSITIONAL_ONLY else p.name
            found.append(Parameter(name, None if p.kind is p.KEYWORD_ONLY else i, p.default))
    return found, {p.kind for p in signature}


def chosen(
    f: Callable[..., Any], option: str, nums: int | Sequence[int], names: str | Sequence[str]
) -> list[Parameter]:
    """The parameters that `<option>_argnums` and `<option>_argnames` choose, each once, in the order of `f`.

    Raises:
        ArgumentError: `f` has no such parameter.
    """
    parameters, kinds = _parameters(f)
    found = [_numbered(f, f"{option}_argnums", i, parameters, kinds) for i in _listed(option, "nums", nums, int)]
    found += [_named(f, f"{option}_argnames", s, parameters, kinds) for s in _listed(option, "names", names, str)]
    return sorted(dict.fromkeys(found), key=lambda p: (p.position is None, p.position or 0, p.name or ""))


def _listed(option: str, suffix: str, given: Any, kind: type) -> list[Any]:
    keys = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    for key in keys:
        if not isinstance(key, kind) or isinstance(key, bool):
            raise ArgumentError(
                f"jit: {option}_arg{suffix} must be {kind.__name__} or a tuple of {kind.__name__}, got {key!r}",
                f"{option}_argnums=0" if kind is int else f"{option}_argnames='n'",
            )
    return keys


def _numbered(
    f: Callable[..., Any], option: str, i: int, parameters: list[Parameter], kinds: set[inspect._ParameterKind]
) -> Parameter:
    positional = [p for p in parameters if p.position is not None]
    if -len(positional) <= i < len(positional):
        return positional[i]
    if i >= 0 and inspect.Parameter.VAR_POSITIONAL in kinds:
        return Parameter(None, i)
    raise ArgumentError(
        f"jit: {option}={i}, but {function_name(f)} has {len(positional)} positional parameters"
        + (f": {', '.join(str(p.name or p.position) for p in positional)}" if positional else ""),
        f"positions run from 0 to {len(positional) - 1}" if positional else f"leave {option} out",
    )


def _named(
    f: Callable[..., Any], option: str, name: str, parameters: list[Parameter], kinds: set[inspect._ParameterKind]
) -> Parameter:
    for p in parameters:
        if p.name == name:
            return p
    if inspect.Parameter.VAR_KEYWORD in kinds:
        return Parameter(name, None)
    names = [p.name for p in parameters if p.name is not None]
    close = difflib.get_close_matches(name, names, 1, 0.5)
    raise ArgumentError(
        f"jit: {option}={name!r} names no parameter of {function_name(f)}"
        + (f", which has {', '.join(names)}" if names else ""),
        f"did you mean {option}={close[0]!r}?" if close else f"leave {option} out, or name one of its parameters",
    )


class Split(NamedTuple):
    """The arguments of a call, with the static ones apart.

    Attributes:
        args: Those that are traced, by position.
        kwargs: Those that are traced, by name.
        values: The static values, one for each static parameter.
        static: The same as part of a key.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    values: tuple[Any, ...]
    static: tuple[Any, ...]


@final
class Signature:
    """How the calls of one function are told apart.

    Args:
        f: The function.
        static: Its static parameters.
    """

    __slots__ = ("_f", "_name", "_positions", "static")

    def __init__(self, f: Callable[..., Any], static: list[Parameter]) -> None:
        self._f = f
        self._name = f"jit({function_name(f)})"
        self.static = static
        self._positions = {p.position for p in static if p.position is not None}

    def places(self, count: int) -> list[int]:
        """The positions of the static arguments in a call with so many positional arguments."""
        return [i for i in range(count) if i in self._positions]

    def split(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Split:
        """Set the static arguments apart, whether they are passed by position, by name or not at all.

        Raises:
            ArgumentError: A static argument is not hashable.
        """
        if not self.static:
            return Split(args, kwargs, (), ())
        named = kwargs
        kwargs = dict(kwargs)
        values = []
        for p in self.static:
            if p.position is not None and p.position < len(args):
                if p.name in kwargs:
                    inspect.signature(self._f).bind(*args, **named)  # raises what Python raises
                values.append(args[p.position])
            else:
                values.append(kwargs.pop(p.name, p.default) if p.name is not None else p.default)
        static = tuple(map(exactly, values))
        try:
            hash(static)
        except TypeError:
            self._refuse(values)
        dynamic = tuple([x for i, x in enumerate(args) if i not in self._positions])
        return Split(dynamic, kwargs, tuple(values), static)

    def _refuse(self, values: Sequence[Any]) -> NoReturn:
        for p, x in zip(self.static, values, strict=True):
            try:
                hash(exactly(x))
            except TypeError as error:
                what, fix = _unhashable(x, p)
                raise ArgumentError(f"{self._name}: the static {p} is {what}", fix) from error
        raise AssertionError("one of them is not hashable")

    def check_structure(self, key: Key) -> None:
        """Refuse arguments with a static part that can change: the program would not notice.

        Raises:
            ArgumentError: A static field of a dataclass, or the auxiliary data of a registered class, has no hash.
        """

        def check_node(cls: type, data: Any, children: Any) -> None:
            try:
                if cls not in (dict, OrderedDict, defaultdict):  # which keep a list of their keys there
                    hash(data)
            except TypeError as error:
                raise ArgumentError(
                    f"{self._name}: a static part of a {cls.__name__} is not hashable: {_shown_value(data)}",
                    "a tuple instead of a list; for an array a normal field, one that is not static",
                ) from error

        # optree compares that data, but does not hash it
        key[0].walk(key[1], check_node)

    def names(self, key: Key) -> list[tuple[str, str]]:
        """For each leaf, what messages call its argument, and the path in there."""
        found = []
        for accessor in key[0].accessors():
            path = accessor[2:].codify("")
            found.append((self._argument(accessor[1].entry), f" leaf {path}" if path else ""))
        return found

    def _argument(self, entry: int | str) -> str:
        if isinstance(entry, str):
            return str(Parameter(entry, None))
        position = self._position(entry)
        known = [p for p in _parameters(self._f)[0] if p.position == position]
        return str(known[0] if known else Parameter(None, position))

    def _position(self, entry: int) -> int:
        """The position in a call of an argument whose position among those that are not static is known."""
        free = (i for i in range(entry + len(self._positions) + 1) if i not in self._positions)
        return next(i for n, i in enumerate(free) if n == entry)

    def leaves_of(self, chosen: Sequence[Parameter], key: Key) -> list[int]:
        """The leaves that the arguments for some parameters consist of."""
        wanted = {at for p in chosen for at in (p.name, p.position) if at is not None}
        entries = [accessor[1].entry for accessor in key[0].accessors()] if chosen else []
        return [i for i, at in enumerate(entries) if (at if isinstance(at, str) else self._position(at)) in wanted]

    def describe(self, key: Key, values: Sequence[Any]) -> dict[tuple[str, str], str]:
        """All that a key consists of: by what it is (`the shape of`, `argument 'x'`) how it is shown."""
        facets: dict[tuple[str, str], str] = {}
        for p, x in zip(self.static, values, strict=True):
            facets["the static value of", str(p)] = "not passed" if x is _ABSENT else _shown_value(x)
        for part, way in zip(key[0].children(), ("by position", "by name"), strict=True):
            for entry, child in zip(part.entries(), part.children(), strict=True):
                facets["the way of passing", self._argument(entry)] = way
                facets["the structure of", self._argument(entry)] = _shown_structure(child)
        leaves: tuple[Any, ...] = key[1]
        for (argument, path), leaf in zip(self.names(key), leaves, strict=True):
            if isinstance(leaf, type):
                facets["the shape of", argument + path] = "()" if leaf is int else "none"
                facets["the dtype of", argument + path] = _shown_class(leaf)
                continue
            shape, dtype, weak = leaf
            facets["the shape of", argument + path] = str(shape)
            facets["the dtype of", argument + path] = f"that of a Python {_WEAK[dtype.kind]}" if weak else dtype.name
        return facets

    def check_equal(self, got: Key, expected: Key, values: Sequence[Any], expected_values: Sequence[Any]) -> None:
        """Refuse a call that a program, compiled ahead of time for other types, cannot serve.

        Raises:
            DTypeError: The keys differ; the message says where.
        """
        if got == expected:
            return
        raise DTypeError(
            f"{self._name} was compiled for other arguments: "
            + "; ".join(differences(self.describe(expected, expected_values), self.describe(got, values))),
            "call the jitted function, which compiles for any arguments, or lower it for these ones",
        )


def differences(old: dict[tuple[str, str], str], new: dict[tuple[str, str], str]) -> list[str]:
    """In words, what of a call is not as it was: `the shape of argument 'x' is (4,), was (3,)`."""
    other = {what for what in {**old, **new} if old.get(what) != new.get(what)}
    structures = tuple(label for kind, label in other if kind == "the structure of")
    found = []
    for kind, label in [*new, *(what for what in old if what not in new)]:
        within = kind in ("the shape of", "the dtype of") and label.startswith(structures)
        if (kind, label) in other and not within:
            was, now = old.get((kind, label), "not passed"), new.get((kind, label), "not passed")
            found.append(f"{kind} {label} is {now}, was {was}")
    return found


def leaf_types(leaves: list[Any], types_allowed: bool = False) -> tuple[tuple[Any, ...], bool]:
    """The part of a key that the leaves make up, and whether a tracer is among them.

    What is not an ndarray, a number or a tracer, but can be taken for an array, is replaced by one in `leaves`.
    What cannot gets a key of its own, which no program will have.
    """
    types: list[Any] = []
    traced = False
    for i, x in enumerate(leaves):
        cls = x.__class__
        if cls is np.ndarray:
            types.append((x.shape, x.dtype, False))
        elif cls in _NUMBERS:
            # an int that is too large for int64 is refused where a program would be made for it
            types.append(cls if beyond_int64(x) else _NUMBERS[cls])
        elif isinstance(x, Tracer):
            traced = True
            var = x.variable
            types.append((var.shape, var.dtype, var.weak))
        elif isinstance(x, np.generic):
            types.append(((), x.dtype, False))
        elif types_allowed and cls is ArrayType:
            types.append((x.shape, x.dtype, x.weak))
        elif hasattr(x, "dtype") and hasattr(x, "shape") and cls is not ArrayType:
            leaves[i] = x = plain_array(x)
            types.append((x.shape, x.dtype, False))
        else:
            types.append(cls)
    return tuple(types), traced


def _unhashable(x: Any, p: Parameter) -> tuple[str, str]:
    """What a static value that is not hashable is, and the way out."""
    if isinstance(x, Tracer):
        return "a traced value", "arrays: make it a normal argument; or make it static in the jit around this one, too"
    what = f"{shown(x)}, which is not hashable"
    if isinstance(x, list):
        return what, f"pass a tuple: {tuple(x)!r}" if len(repr(x)) < 80 else "pass a tuple: tuple(values)"
    if isinstance(x, set):
        return what, "pass a frozenset: frozenset(values)"
    if isinstance(x, dict):
        return what, "pass a tuple: tuple(values.items()); with arrays in it: make it a normal argument"
    if isinstance(x, np.ndarray) or hasattr(x, "__array__"):
        return what, f"arrays: make it a normal argument, not a static one ({p})"
    if isinstance(x, tuple | frozenset):
        return what, "make its elements hashable: tuples instead of lists; arrays: make it a normal argument"
    return what, f"make {type(x).__name__} hashable: @dataclass(frozen=True), or __hash__ and __eq__"


def _shown_class(cls: type) -> str:
    """What a leaf of this class, which is no array that a program takes, has for a dtype."""
    return "that of a Python int beyond int64" if cls is int else f"none: it is a {cls.__name__}"


def _shown_value(x: Any) -> str:
    text = repr(x)
    return text if len(text) < 60 and "\n" not in text else shown(x)


def _shown_structure(structure: pytree.Structure) -> str:
    text = str(structure).removeprefix("PyTreeSpec(").removesuffix(")")
    return text.removesuffix(", namespace='funcgrad'").replace("NoneIsLeaf, ", "")
