"""The errors of funcgrad, for `except` clauses: `from funcgrad.errors import FuncgradError`.

The tree, with the codes, stands in `funcgrad.core.errors`, where the classes live.
"""

from __future__ import annotations

from funcgrad.core.errors import (
    ArgumentError,
    AxisError,
    CotangentError,
    DifferentiationError,
    DTypeError,
    FuncgradError,
    HeldArrayError,
    InternalError,
    LeakedTracerError,
    MutationError,
    NaNError,
    NotDifferentiableError,
    OutOfBoundsError,
    RangeError,
    RetraceWarning,
    ShapeError,
    SingularMatrixError,
    TracedBoolError,
    TracedShapeError,
    TracedValueError,
    TreeError,
    UnsupportedError,
)

__all__ = [
    "ArgumentError",
    "AxisError",
    "CotangentError",
    "DTypeError",
    "DifferentiationError",
    "FuncgradError",
    "HeldArrayError",
    "InternalError",
    "LeakedTracerError",
    "MutationError",
    "NaNError",
    "NotDifferentiableError",
    "OutOfBoundsError",
    "RangeError",
    "RetraceWarning",
    "ShapeError",
    "SingularMatrixError",
    "TracedBoolError",
    "TracedShapeError",
    "TracedValueError",
    "TreeError",
    "UnsupportedError",
]
