"""NumPy's names, differentiable: `import funcgrad.numpy as fnp`.

Each function is called as NumPy's function of the same name and gives what that gives. On traced values it is made of
primitives, so it has derivatives of every order; and NumPy's own function of that name does the same with them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy
from numpy import (
    bool_,
    can_cast,
    complex64,
    complex128,
    complexfloating,
    dtype,
    e,
    euler_gamma,
    finfo,
    float16,
    float32,
    float64,
    floating,
    generic,
    iinfo,
    inexact,
    inf,
    int8,
    int16,
    int32,
    int64,
    int_,
    integer,
    intp,
    isscalar,
    issubdtype,
    nan,
    ndarray,
    newaxis,
    number,
    pi,
    promote_types,
    signedinteger,
    uint8,
    uint16,
    uint32,
    uint64,
    unsignedinteger,
)

from funcgrad.numpy import (
    _arithmetic,
    _contraction,
    _creation,
    _cumulative,
    _diagonal,
    _dispatch,
    _elementwise,
    _indexing,
    _joining,
    _logic,
    _nan,
    _ranges,
    _reductions,
    _shape,
    _sorting,
    _special,
    _statistics,
    _transcendental,
    _types,
    _vectorize,
    linalg,
)

# Which names a module gives is said there, in its `__all__`.
from funcgrad.numpy._arithmetic import *
from funcgrad.numpy._contraction import *
from funcgrad.numpy._creation import *
from funcgrad.numpy._cumulative import *
from funcgrad.numpy._diagonal import *
from funcgrad.numpy._elementwise import *
from funcgrad.numpy._indexing import *
from funcgrad.numpy._joining import *
from funcgrad.numpy._logic import *
from funcgrad.numpy._nan import *
from funcgrad.numpy._ranges import *
from funcgrad.numpy._reductions import *
from funcgrad.numpy._shape import *
from funcgrad.numpy._sorting import *
from funcgrad.numpy._statistics import *
from funcgrad.numpy._transcendental import *
from funcgrad.numpy._types import *
from funcgrad.numpy._vectorize import *
from funcgrad.ops.array import offers_namespace

bool = bool_

__all__ = [
    "bool",
    "bool_",
    "can_cast",
    "complex64",
    "complex128",
    "complexfloating",
    "dtype",
    "e",
    "euler_gamma",
    "finfo",
    "float16",
    "float32",
    "float64",
    "floating",
    "generic",
    "iinfo",
    "inexact",
    "inf",
    "int8",
    "int16",
    "int32",
    "int64",
    "int_",
    "integer",
    "intp",
    "isscalar",
    "issubdtype",
    "linalg",
    "nan",
    "ndarray",
    "newaxis",
    "number",
    "pi",
    "promote_types",
    "signedinteger",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "unsignedinteger",
]
__all__ += _arithmetic.__all__
__all__ += _contraction.__all__
__all__ += _creation.__all__
__all__ += _cumulative.__all__
__all__ += _diagonal.__all__
__all__ += _elementwise.__all__
__all__ += _indexing.__all__
__all__ += _joining.__all__
__all__ += _logic.__all__
__all__ += _nan.__all__
__all__ += _ranges.__all__
__all__ += _reductions.__all__
__all__ += _shape.__all__
__all__ += _sorting.__all__
__all__ += _statistics.__all__
__all__ += _transcendental.__all__
__all__ += _types.__all__
__all__ += _vectorize.__all__


_dispatch.register(sys.modules[__name__], numpy)
_dispatch.register(linalg, numpy.linalg)
_dispatch.register_methods()
_special.register()
offers_namespace(sys.modules[__name__])


if not TYPE_CHECKING:  # a type checker knows what there is

    def __getattr__(name: str) -> object:
        if not name.startswith("_") and hasattr(numpy, name):
            raise AttributeError(
                f"module 'funcgrad.numpy' has no attribute {name!r}: numpy.{name} has no implementation for traced "
                "values; compute it from functions that are here, or call NumPy's outside of what is differentiated, "
                "or by funcgrad.pure_callback"
            )
        raise AttributeError(f"module 'funcgrad.numpy' has no attribute {name!r}")
