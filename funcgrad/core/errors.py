"""The errors of funcgrad, and the one place where their messages are built.

Every class is a `FuncgradError` and also the builtin exception that a NumPy user would catch:

    FuncgradError
    ├── FG001 DifferentiationError   TypeError      grad or vjp was asked for something that has no derivative
    ├── FG002 ArgumentError          ValueError     argnums, argnames, in_axes … do not fit the call
    ├── FG003 CotangentError         ValueError     a cotangent does not match the output it belongs to
    ├── FG004 TracedValueError       TypeError      float(x), x.item(), np.asarray(x) of a traced value
    ├── FG005 TracedBoolError        TypeError      `if x > 0` where only the type of x is known
    ├── FG006 TracedShapeError       TypeError      a shape, axis or slice that depends on a traced value
    ├── FG007 MutationError          TypeError      x[0] = 1 on a traced value
    ├── FG008 LeakedTracerError      RuntimeError   a traced value used after its trace has ended
    ├── FG009 UnsupportedError       TypeError      a NumPy function without an implementation here
    ├── FG010 NotDifferentiableError TypeError      a primitive that has no derivative, with the reason
    ├── FG011 ShapeError             ValueError     shapes that do not broadcast, multiply or concatenate
    ├── FG012 OutOfBoundsError       IndexError     an index outside its axis, or of the wrong kind
    ├── FG013 TreeError              ValueError     pytrees that do not match, leaves that cannot be leaves
    ├── FG014 DTypeError             TypeError      dtypes that an operation does not take
    ├── FG015 SingularMatrixError    LinAlgError    a matrix without an inverse, or without a factorization
    ├── FG016 HeldArrayError         ValueError     a write into a plain array that the backward pass still needs
    ├── FG017 AxisError              AxisError      an axis that the array does not have
    ├── FG018 ControlFlowError       TypeError      branches or carries whose types do not fit each other
    ├── FG019 CustomRuleError        TypeError      a custom pullback that does not fit its function
    ├── FG020 NaNError               FloatingPointError  a NaN that was computed, under debug_nans
    ├── FG021 RangeError             OverflowError  a Python int that int64 does not hold, in a program
    └── FG099 InternalError          AssertionError the IR is malformed: a bug in funcgrad, never in user code

`RetraceWarning`, a UserWarning, says that a jitted function is compiled again and again.

The first line of a message says what happened, in the user's terms and with the values; then comes the line of the
user's code; the last line is the way out, as code.
"""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Callable
from contextvars import ContextVar
from types import CodeType, FrameType
from typing import ClassVar, TypeVar

import numpy as np

# libraries that call back into funcgrad: what they were called from is the user's line
_FOREIGN = ("numpy", "scipy", "optree", "contextlib", "functools")
# `pathlib` would take a seventh of the time that `import funcgrad` does
_PACKAGE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
T = TypeVar("T")


class FuncgradError(Exception):
    """The base of all errors of funcgrad.

    Args:
        what: What happened, in the user's terms, with the values.
        fix: The way out, as code.
        at: The user's source line, where it is not the line that is running now.

    Examples:
        >>> import funcgrad as fg
        >>> try:
        ...     fg.grad(lambda x: x)([1.0, 2.0])
        ... except fg.errors.FuncgradError as error:
        ...     print(error.code)
        FG001
    """

    code: ClassVar[str] = "FG000"

    def __init__(self, what: str, fix: str = "", at: SourceLine | None = None) -> None:
        self._what = what
        self._fix = fix
        super().__init__(self._message(at or user_line()))

    def relocate(self, at: SourceLine) -> None:
        """Name another source line than the one that was running: the one that a compiled operation comes from."""
        super().__init__(self._message(at))

    def _message(self, at: SourceLine | None) -> str:
        lines = [f"[{self.code}] {self._what}"]
        if at is not None:
            lines.append(f"  at {at}")
        if self._fix:
            lines.append(f"  Fix: {self._fix}")
        return "\n".join(lines)


class DifferentiationError(FuncgradError, TypeError):
    """`grad` or `vjp` was asked for something that has no derivative."""

    code = "FG001"


class ArgumentError(FuncgradError, ValueError):
    """An argument of a transformation (argnums, argnames, in_axes …) does not fit the call."""

    code = "FG002"


class CotangentError(FuncgradError, ValueError):
    """A cotangent does not match the output it belongs to."""

    code = "FG003"


class TracedValueError(FuncgradError, TypeError):
    """A traced value was about to become plain numbers, which would lose its derivative."""

    code = "FG004"


class TracedBoolError(FuncgradError, TypeError):
    """Python control flow needs a value where only its type is known."""

    code = "FG005"


class TracedShapeError(FuncgradError, TypeError):
    """A shape, an axis or a slice depends on a value of which only the type is known."""

    code = "FG006"


class MutationError(FuncgradError, TypeError):
    """A traced value was assigned to in place."""

    code = "FG007"


class LeakedTracerError(FuncgradError, RuntimeError):
    """A traced value was used after its trace had ended."""

    code = "FG008"


class UnsupportedError(FuncgradError, TypeError):
    """A NumPy function, or an argument of one, has no implementation for traced values."""

    code = "FG009"


class NotDifferentiableError(FuncgradError, TypeError):
    """A primitive has no derivative; the message says why."""

    code = "FG010"


class ShapeError(FuncgradError, ValueError):
    """Shapes do not fit each other."""

    code = "FG011"


class OutOfBoundsError(FuncgradError, IndexError):
    """An index lies outside its axis, or is of the wrong kind."""

    code = "FG012"


class TreeError(FuncgradError, ValueError):
    """Pytrees do not match, or something cannot be a leaf."""

    code = "FG013"


class DTypeError(FuncgradError, TypeError):
    """An operation does not take these dtypes."""

    code = "FG014"


class SingularMatrixError(FuncgradError, np.linalg.LinAlgError):
    """A matrix has no inverse or no such factorization: it is singular, or not positive definite, or not finite."""

    code = "FG015"


class HeldArrayError(FuncgradError, ValueError):
    """The function wrote into a plain array that it had used before, and whose contents the backward pass needs."""

    code = "FG016"


class AxisError(FuncgradError, np.exceptions.AxisError):
    """The array has no such axis."""

    code = "FG017"


class ControlFlowError(FuncgradError, TypeError):
    """Branches return different types, a loop's carry changes its type, or a condition is not one bool."""

    code = "FG018"


class CustomRuleError(FuncgradError, TypeError):
    """A custom rule does not fit its function: it returns too few cotangents, or such of another type."""

    code = "FG019"


class NaNError(FuncgradError, FloatingPointError):
    """A NaN was computed under `debug_nans`, or an infinity under `debug_infs`, from numbers that are neither."""

    code = "FG020"


class RangeError(FuncgradError, OverflowError):
    """A Python int is used in a program, where it is an int64, and is too large for that."""

    code = "FG021"


class InternalError(FuncgradError, AssertionError):
    """The IR is malformed. This is a bug in funcgrad: please report it with the message."""

    code = "FG099"


class RetraceWarning(UserWarning):
    """A jitted function is staged and compiled again and again; the message says what keeps changing."""


def shown(x: object) -> str:
    """A value as messages show it: `a str ('abc')`, without an address in memory, on one line."""
    kind, text = f"a {type(x).__name__}", repr(x)
    return f"{kind} ({text})" if len(text) < 80 and "\n" not in text and " at 0x" not in text else kind


class SourceLine:
    """A line of user code: file, line number, function, and its text when it is asked for.

    Attributes:
        pulled: The names of the primitives whose pullbacks run for this line, the last one innermost; none in a forward
            pass.
    """

    __slots__ = ("_code", "_instruction", "pulled")

    def __init__(self, code: CodeType, instruction: int, pulled: tuple[str, ...] = ()) -> None:
        self._code = code
        self._instruction = instruction
        self.pulled = pulled

    def pulled_back(self, name: str) -> SourceLine:
        """The same line, where it is pulled back: `name` is the primitive."""
        return SourceLine(self._code, self._instruction, (*self.pulled, name))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SourceLine):
            return NotImplemented
        same = self._code is other._code and self._instruction == other._instruction
        return same and self.pulled == other.pulled

    def __hash__(self) -> int:
        return hash((id(self._code), self._instruction))

    @property
    def line(self) -> int:
        """The line number of the instruction."""
        for start, end, line in self._code.co_lines():
            if start <= self._instruction < end and line is not None:
                return line
        return self._code.co_firstlineno

    @property
    def text(self) -> str:
        """The source line, stripped; empty where there is no source."""
        return linecache.getline(self._code.co_filename, self.line).strip()

    def __str__(self) -> str:
        where = f"{os.path.basename(self._code.co_filename)}:{self.line} in {self._code.co_name}"
        return f"{where}: {self.text}" if self.text else where


def user_frame() -> FrameType | None:
    """The innermost frame that lies outside funcgrad and NumPy."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and is_internal(frame):
        frame = frame.f_back
    return frame


# in a backward pass, the line of the forward pass that is being pulled back, and the frame that does so
_pulled: ContextVar[tuple[FrameType, SourceLine] | None] = ContextVar("funcgrad_pulled", default=None)


def user_line() -> SourceLine | None:
    """The line of user code that is running now, or that is being pulled back."""
    pulled = _pulled.get()
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and is_internal(frame):
        if pulled is not None and frame is pulled[0]:
            return pulled[1]
        frame = frame.f_back
    return None if frame is None else SourceLine(frame.f_code, frame.f_lasti)


def pulling_back(line: SourceLine, f: Callable[..., T], *args: object) -> T:
    """`f(*args)`, which pulls this line back: where no other user code runs, it is the line that messages name."""
    token = _pulled.set((sys._getframe(), line))
    try:
        return f(*args)
    finally:
        _pulled.reset(token)


def is_internal(frame: FrameType) -> bool:
    """True for a frame of this package or of a library that calls back into it."""
    # this is asked of every frame between an operation and its user, and most of them are ours
    if frame.f_code.co_filename.startswith(_PACKAGE):
        return True
    package: str = frame.f_globals.get("__name__", "").partition(".")[0]
    return package in _FOREIGN
