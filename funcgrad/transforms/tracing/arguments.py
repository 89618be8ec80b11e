"""Which arguments a transformation works on, and what they are called in messages."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from funcgrad.core.errors import ArgumentError, shown


def function_name(f: Callable[..., Any]) -> str:
    """What messages call a function."""
    while isinstance(f, functools.partial):
        f = f.func
    return getattr(f, "__name__", None) or type(f).__name__


class Selection:
    """The arguments named by `argnums` or `argnames`, resolved against each call.

    Args:
        transformation: What messages call the transformation, such as `grad`.
        f: The function that is transformed.
        argnums: Positions, negative ones counted from the last.
        argnames: Names, for arguments passed by position or by keyword.

    Raises:
        ArgumentError: A position or a name is repeated, is of the wrong type, or both kinds are given.
    """

    __slots__ = ("_f", "_first", "_keys", "_transformation", "by_name", "single")

    def __init__(
        self,
        transformation: str,
        f: Callable[..., Any],
        argnums: int | Sequence[int] | None,
        argnames: str | Sequence[str] | None,
    ) -> None:
        if not callable(f):
            raise ArgumentError(
                f"{transformation} takes a function, got {shown(f)}",
                "call it with the function, not with its value: grad(f)(x), vjp(f, x), make_jaxpr(f)(x)",
            )
        if argnums is not None and argnames is not None:
            raise ArgumentError(
                f"{transformation} got argnums={argnums!r} and argnames={argnames!r}", "give one of them"
            )
        self._f = f
        self._transformation = transformation
        self.by_name = argnames is not None
        chosen: Any = argnames if argnames is not None else 0 if argnums is None else argnums
        self.single = isinstance(chosen, str) or not isinstance(chosen, Sequence)
        keys = (chosen,) if self.single else tuple(chosen)
        self._check(keys)
        self._keys: tuple[Any, ...] = keys
        self._first = keys == (0,)

    def _check(self, keys: tuple[Any, ...]) -> None:
        option, kind = ("argnames", str) if self.by_name else ("argnums", int)
        for key in keys:
            if not isinstance(key, kind) or isinstance(key, bool):
                raise ArgumentError(
                    f"{self._transformation}: {option} must be {kind.__name__} or a tuple of {kind.__name__}, "
                    f"got {key!r}",
                    f"{option}=0" if kind is int else f"{option}='x'",
                )
        if len(set(keys)) < len(keys):
            repeated = next(key for key in keys if keys.count(key) > 1)
            raise ArgumentError(
                f"{self._transformation}: {option}={keys} repeats {repeated!r}", "name each argument once"
            )
        if not keys:
            raise ArgumentError(f"{self._transformation}: {option} is empty", f"{option}=0 or (0, 1)")

    def resolve(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[int | str]:
        """For each selected argument, its position in `args` or its key in `kwargs`.

        Raises:
            ArgumentError: The call has no such argument.
        """
        if self._first and args:
            return [0]
        found = [self._place(key, args, kwargs) for key in self._keys]
        if len(found) > 1 and len(set(found)) < len(found):
            raise ArgumentError(
                f"{self._transformation}: argnums={self._keys} names one argument twice in a call with "
                f"{len(args)} arguments",
                "name each argument once",
            )
        return found

    def _place(self, key: int | str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | str:
        if isinstance(key, str):
            if key in kwargs:
                return key
            names = parameter_names(self._f)
            if key in names and names.index(key) < len(args):
                return names.index(key)
        else:
            if -len(args) <= key < len(args):
                return key % len(args)
            names = parameter_names(self._f)
            if -len(names) <= key < len(names) and names[key] in kwargs:
                return names[key]
        raise ArgumentError(
            f"{self._transformation} differentiates with respect to argument {key!r}, but {function_name(self._f)} "
            f"was called with {len(args)} positional arguments"
            + (f" and the keywords {', '.join(kwargs)}" if kwargs else ""),
            f"pass the argument, or choose another: {self._transformation}(f, argnums=0) or argnames='x'",
        )

    def pack(self, results: list[Any]) -> Any:
        """One result for a single argument; else a tuple, or a dict by name."""
        if self.single:
            return results[0]
        return dict(zip(self._keys, results, strict=True)) if self.by_name else tuple(results)

    def describe(self, place: int | str) -> str:
        """What messages call the argument at this place: `argument 'x'`."""
        if isinstance(place, int):
            names = parameter_names(self._f)
            if place >= len(names):
                return f"argument {place}"
            place = names[place]
        return f"argument '{place}'"


def parameter_names(f: Callable[..., Any]) -> list[str]:
    """The names of the parameters that can be passed by position; none where there is no signature."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
