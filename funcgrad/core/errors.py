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
    └── FG099 InternalError          AssertionError the IR is malformed: a bug in funcgrad, never in user code

The first line of a message says what happened, in the user's terms and with the values; then comes the line of the
user's code; the last line is the way out, as code.
"""

from __future__ import annotations

import linecache
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import ClassVar

import numpy as np

# libraries that call back into funcgrad: what they were called from is the user's line
_FOREIGN = ("numpy", "scipy", "optree", "contextlib", "functools")
_PACKAGE = str(Path(__file__).resolve().parent.parent)


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
        at = at or user_line()
        lines = [f"[{self.code}] {what}"]
        if at is not None:
            lines.append(f"  at {at}")
        if fix:
            lines.append(f"  Fix: {fix}")
        super().__init__("\n".join(lines))


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


class InternalError(FuncgradError, AssertionError):
    """The IR is malformed. This is a bug in funcgrad: please report it with the message."""

    code = "FG099"


def shown(x: object) -> str:
    """A value as messages show it: `a str ('abc')`, without an address in memory, on one line."""
    kind, text = f"a {type(x).__name__}", repr(x)
    return f"{kind} ({text})" if len(text) < 80 and "\n" not in text and " at 0x" not in text else kind


class SourceLine:
    """A line of user code: file, line number, function, and its text when it is asked for."""

    __slots__ = ("_code", "_instruction")

    def __init__(self, code: CodeType, instruction: int) -> None:
        self._code = code
        self._instruction = instruction

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
        where = f"{Path(self._code.co_filename).name}:{self.line} in {self._code.co_name}"
        return f"{where}: {self.text}" if self.text else where


def user_frame() -> FrameType | None:
    """The innermost frame that lies outside funcgrad and NumPy."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_internal(frame):
        frame = frame.f_back
    return frame


def user_line() -> SourceLine | None:
    """The line of user code that is running now."""
    frame = user_frame()
    return None if frame is None else SourceLine(frame.f_code, frame.f_lasti)


def _is_internal(frame: FrameType) -> bool:
    package = frame.f_globals.get("__name__", "").partition(".")[0]
    return package in _FOREIGN or frame.f_code.co_filename.startswith(_PACKAGE)
