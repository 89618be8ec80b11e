"""How a rule of the elementwise table says what it reads: by the names of its parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

Rule: TypeAlias = Callable[..., Any]

# A rule with some of the letters, as a function of all of them. Written out, since each call is on the hot path.
_UNARY: dict[tuple[str, ...], Callable[[Rule], Rule]] = {
    (): lambda rule: lambda g, y, x: rule(g),
    ("x",): lambda rule: lambda g, y, x: rule(g, x),
    ("y",): lambda rule: lambda g, y, x: rule(g, y),
    ("x", "y"): lambda rule: lambda g, y, x: rule(g, x=x, y=y),
}
_BINARY: dict[tuple[str, ...], Callable[[Rule], Rule]] = {
    (): lambda rule: lambda g, y, x1, x2: rule(g),
    ("x1",): lambda rule: lambda g, y, x1, x2: rule(g, x1),
    ("x2",): lambda rule: lambda g, y, x1, x2: rule(g, x2),
    ("y",): lambda rule: lambda g, y, x1, x2: rule(g, y),
    ("x1", "x2"): lambda rule: lambda g, y, x1, x2: rule(g, x1=x1, x2=x2),
    ("x1", "y"): lambda rule: lambda g, y, x1, x2: rule(g, x1=x1, y=y),
    ("x2", "y"): lambda rule: lambda g, y, x1, x2: rule(g, x2=x2, y=y),
    ("x1", "x2", "y"): lambda rule: lambda g, y, x1, x2: rule(g, x1=x1, x2=x2, y=y),
}


def adapt(rule: Rule | None, *letters: str) -> tuple[Rule, tuple[str, ...]]:
    """`rule` as a function of (g, y, *letters), and the letters that it reads.

    Raises:
        TypeError: The rule names something else than g, y and the letters of its arguments.
    """
    if rule is None:
        return _no_rule, ()
    code = rule.__code__
    names = tuple(sorted(code.co_varnames[: code.co_argcount]))
    adapters = _UNARY if len(letters) == 1 else _BINARY
    reads = tuple(name for name in names if name != "g")
    if "g" not in names or reads not in adapters:
        raise TypeError(f"a rule takes g and any of {', '.join((*letters, 'y'))}; this one takes {', '.join(names)}")
    return adapters[reads](rule), reads


def _no_rule(*args: Any) -> Any:
    raise AssertionError("a constant operation is never recorded, so its pullback is never asked for")
