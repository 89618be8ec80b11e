"""Leaks: traced values that are still referred to when their trace has ended, and by whom.

Python's garbage collector knows all objects and what refers to what. So the search needs nothing from the traces, and
costs nothing where nobody asks for it.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections import deque
from types import CellType, FrameType, FunctionType, GeneratorType, MethodType
from typing import Any, NoReturn

from funcgrad.core.errors import LeakedTracerError, is_internal
from funcgrad.core.trace import Trace
from funcgrad.core.types import show_long
from funcgrad.core.watch import watching
from funcgrad.ops.array import TracedArray

_CONTAINERS = (list, tuple, dict, set, frozenset, deque)
# so many containers around a value are named
_DEPTH = 4
_lock = threading.RLock()


def check_leaks(trace: Trace) -> None:
    """Look for tracers of a trace that has ended, if somebody watches for them.

    Raises:
        LeakedTracerError: There is one; the message names what refers to it, and the line that made it.
    """
    watch = watching()
    if watch is not None and watch.leaks:
        # the list of all objects that another thread is looking through would refer to these, too
        with _lock:
            if _count(trace):
                gc.collect()  # what is left over in a cycle is no leak
                if count := _count(trace):
                    _refuse(trace, count)


def _refuse(trace: Trace, count: int) -> NoReturn:
    leaked = next(x for x in gc.get_objects() if _is_of(trace, x))
    line = trace.line(leaked.variable)
    what = f"a {show_long(leaked.variable)} that was created while {trace.name} was being traced"
    others = f", and {count - 1} more" if count > 1 else ""
    raise LeakedTracerError(
        f"{what if line else f'the traced {trace.origin(leaked.variable)} of {trace.name}'} is still referred to after "
        f"the tracing has ended{others}: by {_holder(leaked, set(), 0) or 'something that Python does not show'}",
        "return the value from the function instead of storing it elsewhere: has_aux=True passes extra results out; "
        "stop_gradient(x) stores a plain array where the value is known",
        line,
    )


def _is_of(trace: Trace, x: Any) -> bool:
    return type(x) is TracedArray and getattr(x, "tracing", None) is trace


def _count(trace: Trace) -> int:
    return sum(_is_of(trace, x) for x in gc.get_objects())


def _holder(thing: Any, seen: set[int], depth: int) -> str | None:
    """In words, what refers to `thing`: `a list in global variable 'kept'`."""
    seen.add(id(thing))
    referrers = [r for r in gc.get_referrers(thing) if id(r) not in seen]
    seen.update(map(id, referrers), [id(referrers)])
    for referrer in referrers:
        if name := _named(referrer, thing):
            return name
    if name := _local(thing):
        return name
    for referrer in referrers:
        if isinstance(referrer, _CONTAINERS) and depth < _DEPTH:
            kind = f"a {type(referrer).__name__}"
            outer = _holder(referrer, seen, depth + 1)
            return f"{kind} in {outer}" if outer else kind
    others = [r for r in referrers if not isinstance(r, FrameType | list)]
    return f"a {type(others[0]).__name__}" if others else None


def _named(referrer: Any, thing: Any) -> str | None:
    """What a referrer is called, if it has a name, or if what it has of `thing` does."""
    if isinstance(referrer, dict):
        return _entry(referrer, thing)
    if isinstance(referrer, CellType):
        return _closure(referrer)
    if isinstance(referrer, FunctionType):
        return f"a default of function {referrer.__name__}"
    if isinstance(referrer, GeneratorType):
        return f"generator {referrer.__name__}"
    if isinstance(referrer, FrameType):
        return None if is_internal(referrer) else _variable(referrer, thing)
    if isinstance(referrer, (MethodType, TracedArray, *_CONTAINERS)):
        return None
    names = [*getattr(referrer, "__dict__", ()), *(s for cls in type(referrer).__mro__ for s in _slots(cls))]
    name = next((name for name in names if getattr(referrer, name, None) is thing), None)
    return f"attribute {name!r} of a {type(referrer).__name__}" if name else None


def _slots(cls: type) -> tuple[str, ...]:
    slots = vars(cls).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _entry(entries: dict[Any, Any], thing: Any) -> str | None:
    """What an entry of a dict is called, if the dict holds the variables of a module or the attributes of an object."""
    key = next((key for key, value in list(entries.items()) if value is thing), None)
    if "__builtins__" in entries or any(getattr(m, "__dict__", None) is entries for m in list(sys.modules.values())):
        return f"global variable {key!r}"
    for owner in gc.get_referrers(entries):
        if getattr(owner, "__dict__", None) is entries:
            return f"attribute {key!r} of a {type(owner).__name__}"
    return None


def _closure(cell: CellType) -> str | None:
    for closure in gc.get_referrers(cell):
        if isinstance(closure, tuple):
            for function in gc.get_referrers(closure):
                if isinstance(function, FunctionType) and function.__closure__ is closure:
                    place = next(i for i, other in enumerate(closure) if other is cell)
                    name = function.__code__.co_freevars[place]
                    return f"variable {name!r} in the closure of {function.__name__}"
    return None


def _local(thing: Any) -> str | None:
    """What a running function calls `thing`; the garbage collector does not see those."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not is_internal(frame) and (name := _variable(frame, thing)):
            return name
        frame = frame.f_back
    return None


def _variable(frame: FrameType, thing: Any) -> str | None:
    name = next((name for name, value in list(frame.f_locals.items()) if value is thing), None)
    return f"variable {name!r} of {frame.f_code.co_name}" if name else None
