"""What a tracer offers to code written for NumPy: operators, methods, and NumPy's two dispatch protocols.

Methods and NumPy's own functions find their implementation in one table, which `funcgrad.numpy` fills when it is
imported; so this file knows the primitives that operators stand for, and nothing of NumPy's many signatures.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NoReturn, TypeVar, final

import numpy as np

from funcgrad.core.errors import (
    ArgumentError,
    DTypeError,
    LeakedTracerError,
    MutationError,
    TracedValueError,
    UnsupportedError,
)
from funcgrad.core.primitive import Primitive
from funcgrad.core.trace import Tracer, concrete
from funcgrad.core.types import Array, DType, Shape, show, show_long
from funcgrad.ops import elementwise as ew
from funcgrad.ops import refusals
from funcgrad.ops.contract import matmul
from funcgrad.ops.index import getitem
from funcgrad.ops.pointwise import convert, table
from funcgrad.ops.scatter import At
from funcgrad.ops.shape import transpose

F = TypeVar("F", bound=Callable[..., Any])

# an operator with an ndarray on the left arrives here as a ufunc; the table of primitives is what there is at first
_implementations: dict[Callable[..., Any], Callable[..., Any]] = {
    getattr(np, name): primitive for name, primitive in table().items() if hasattr(np, name)
}
_ufunc_methods: dict[tuple[Callable[..., Any], str], Callable[..., Any]] = {}
_scipy_ufuncs: dict[str, Callable[[np.ufunc], Callable[..., Any]]] = {}
_namespaces: list[ModuleType] = []


def implements(numpy_function: Callable[..., Any], method: str = "__call__") -> Callable[[F], F]:
    """Decorator: this function is what `numpy_function` (or a method of a ufunc) does on traced values."""

    def register(implementation: F) -> F:
        if method == "__call__":
            _implementations[numpy_function] = implementation
        else:
            _ufunc_methods[numpy_function, method] = implementation
        return implementation

    return register


def implements_scipy(name: str, make: Callable[[np.ufunc], Callable[..., Any]]) -> None:
    """Say what makes the implementation of `scipy.special.<name>`, given that ufunc. SciPy is not imported for it."""
    _scipy_ufuncs[name] = make


def offers_namespace(module: ModuleType) -> None:
    """Say which module `x.__array_namespace__()` gives for a traced value `x`."""
    _namespaces[:] = [module]


def _implementation(ufunc: np.ufunc) -> Callable[..., Any] | None:
    known = _implementations.get(ufunc)
    if known is None and getattr(sys.modules.get("scipy.special"), ufunc.__name__, None) is ufunc:
        make = _scipy_ufuncs.get(ufunc.__name__)
        # a line of the elementwise table with the name of SciPy's function stands for it
        known = table().get(ufunc.__name__) if make is None else implements(ufunc)(make(ufunc))
    return known


def as_dtype(dtype: Any) -> DType:
    """The dtype that `dtype` names.

    Raises:
        DTypeError: It names none.
    """
    try:
        known: DType = np.dtype(dtype)
    except TypeError as error:
        raise DTypeError(f"dtype={dtype!r} is not a dtype", "dtype=numpy.float64, or 'float32', int") from error
    return known


def cast(x: Array, dtype: Any, casting: Any = "unsafe") -> Array:
    """`x` as `dtype`, if NumPy's `casting` rule allows that.

    Raises:
        ArgumentError: There is no such rule, or it depends on values.
        DTypeError: The rule forbids it.
    """
    if casting not in ("unsafe", "same_kind", "safe", "equiv", "no"):
        raise ArgumentError(
            f"casting={casting!r} is no rule for dtypes",
            "casting='unsafe', or 'same_kind', 'safe', 'equiv', 'no'",
        )
    to = as_dtype(dtype)
    if not np.can_cast(x.dtype, to, casting):
        raise DTypeError(
            f"cannot convert {show_long(x)} to {to} with casting={casting!r}",
            f"x.astype({to.name!r}, casting='unsafe'), if the loss is intended",
        )
    return convert(x, to)


def _operator(primitive: Primitive) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The methods for `self ∘ other` and `other ∘ self`. They go to the trace directly: this is the hot path."""

    def forward(self: TracedArray, other: Array) -> Any:
        return self.tracing.apply(primitive, (self, other))

    def reflected(self: TracedArray, other: Array) -> Any:
        return self.tracing.apply(primitive, (other, self))

    return forward, reflected


def _method(numpy_function: Callable[..., Any]) -> Callable[..., Any]:
    """A method that does what `numpy_function` does."""

    def method(self: TracedArray, *args: Any, **kwargs: Any) -> Any:
        return _implementations[numpy_function](self, *args, **kwargs)

    method.__name__ = numpy_function.__name__
    method.__doc__ = f"The same as `numpy.{numpy_function.__name__}`."
    return method


def _in_place(name: str, instead: str) -> Callable[..., NoReturn]:
    def method(self: TracedArray, *args: Any, **kwargs: Any) -> NoReturn:
        raise MutationError(f"x.{name}(...) would change the traced value {self.describe()} in place", instead)

    return method


@final
class TracedArray(Tracer):
    """A traced array, to be used like an `ndarray`; it cannot be changed in place."""

    __slots__ = ()
    __array_priority__ = 1000

    __add__, __radd__ = _operator(ew.add)
    __sub__, __rsub__ = _operator(ew.subtract)
    __mul__, __rmul__ = _operator(ew.multiply)
    __truediv__, __rtruediv__ = _operator(ew.divide)
    __floordiv__, __rfloordiv__ = _operator(ew.floor_divide)
    __mod__, __rmod__ = _operator(ew.remainder)
    __pow__, __rpow__ = _operator(ew.power)
    __and__, __rand__ = _operator(ew.bitwise_and)
    __or__, __ror__ = _operator(ew.bitwise_or)
    __xor__, __rxor__ = _operator(ew.bitwise_xor)
    __lshift__, __rlshift__ = _operator(ew.left_shift)
    __rshift__, __rrshift__ = _operator(ew.right_shift)
    __lt__, __gt__ = _operator(ew.less)[0], _operator(ew.greater)[0]
    __le__, __ge__ = _operator(ew.less_equal)[0], _operator(ew.greater_equal)[0]
    __eq__, __ne__ = _operator(ew.equal)[0], _operator(ew.not_equal)[0]

    def __matmul__(self, other: Array) -> Array:
        return matmul(self, other)

    def __rmatmul__(self, other: Array) -> Array:
        return matmul(other, self)

    def __divmod__(self, other: Array) -> tuple[Array, Array]:
        return self // other, self % other

    def __rdivmod__(self, other: Array) -> tuple[Array, Array]:
        return other // self, other % self

    def __neg__(self) -> Array:
        return ew.negative(self)

    def __pos__(self) -> Array:
        return ew.positive(self)

    def __abs__(self) -> Array:
        return ew.absolute(self)

    def __invert__(self) -> Array:
        return ew.bitwise_not(self)

    def __getitem__(self, index: Any) -> Array:
        return getitem(self, index)

    def __setitem__(self, index: Any, value: Array) -> NoReturn:
        raise MutationError(
            f"x[{index!r}] = ... would change the traced value {self.describe()} in place",
            f"x = x.at[{index!r}].set(value), or .add, .multiply, .min, .max; on plain arrays too: funcgrad.at(x)[...]",
        )

    def __delitem__(self, index: Any) -> NoReturn:
        raise MutationError(
            f"del x[{index!r}] would change the traced value {self.describe()} in place", "numpy.delete(x, index)"
        )

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d array")
        return self.shape[0]

    def __iter__(self) -> Iterator[Array]:
        if not self.shape:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(self.shape[0]))

    def __contains__(self, item: Array) -> bool:
        return bool(_implementations[np.any](self == item))

    def __bool__(self) -> bool:
        value = concrete(self)
        return refusals.refuse_truth(self) if value is None else bool(value)

    def __int__(self) -> int:
        # piecewise constant: the derivative that this drops is zero
        return int(self._number("int(x)"))

    def __floor__(self) -> int:
        value: float = self._number("math.floor(x)")
        return math.floor(value)

    def __ceil__(self) -> int:
        value: float = self._number("math.ceil(x)")
        return math.ceil(value)

    def __trunc__(self) -> int:
        value: float = self._number("math.trunc(x)")
        return math.trunc(value)

    def __round__(self, ndigits: int | None = None) -> Any:
        return round(self._number("round(x)")) if ndigits is None else _implementations[np.round](self, ndigits)

    def __index__(self) -> int:
        value = concrete(self)
        unknown = self.dtype.kind == "b" and value is None
        if not (self.dtype.kind in "iu" or unknown) or self.shape:
            raise DTypeError(
                f"a position, a length or a bound of a slice must be an integer scalar; this is {self.describe()}",
                "int(x), if a constant is intended",
            )
        return refusals.refuse_index(self) if value is None else int(value)

    def __float__(self) -> float:
        self._refuse_number("float(x)")

    def __complex__(self) -> complex:
        self._refuse_number("complex(x)")

    def item(self, *args: int) -> Any:
        """Refused: a Python number would lose the derivative."""
        self._refuse_number("x.item()")

    def tolist(self) -> Any:
        """Refused: Python numbers would lose the derivative."""
        self._refuse_number("x.tolist()")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        self._refuse_number("numpy.asarray(x), numpy.array([x, ...]) or an assignment a[i] = x")

    def _number(self, construct: str) -> Any:
        """The value, for a conversion that drops no derivative."""
        value = concrete(self)
        return refusals.refuse_number(self, construct) if value is None else value

    def _refuse_number(self, construct: str) -> NoReturn:
        self._number(construct)
        if self.tracing.finished:
            raise LeakedTracerError(
                f"{construct}: a {self.describe()} that was created while {self.tracing.name} was being traced is used "
                "after the tracing has ended",
                "return it with has_aux=True instead of storing it, or store stop_gradient(x)",
            )
        scipy, instead = refusals.instead_of_scipy()
        origin = self.tracing.origin(self.variable)
        of = f" with respect to {origin}" if origin else ""
        raise TracedValueError(
            f"{scipy or construct} would turn {self.describe()} into plain numbers and lose its derivative{of}",
            instead
            or "keep it an array: funcgrad.numpy.sin(x) for math.sin(x), funcgrad.numpy.array([x, y]) for a list, "
            "a = funcgrad.at(a)[i].set(x) for a[i] = x; or write stop_gradient(x).item() if a constant is intended",
        )

    def __hash__(self) -> int:
        if concrete(self) is None:
            refusals.refuse_key(self)
        raise TracedValueError(
            f"the traced value {self.describe()} cannot be a dict key or a member of a set: it is an array",
            "use a Python value as the key",
        )

    # a traced value can't change, and a copied trace would lose the derivative
    def __copy__(self) -> TracedArray:
        return self

    def __deepcopy__(self, memo: Any) -> TracedArray:
        return self

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        self._refuse_number("pickle")

    def __getattr__(self, name: str) -> NoReturn:
        instead = f"; use a function of funcgrad.numpy instead of x.{name}" if hasattr(np.ndarray, name) else ""
        raise AttributeError(f"a traced value has no attribute {name!r}{instead}")

    def describe(self) -> str:
        """How error messages call it: `x: float64[3]`."""
        return show_long(self)

    def __repr__(self) -> str:
        value = concrete(self)
        return f"traced {show(self)}" + ("" if value is None else f" = {value!r}")

    def __format__(self, spec: str) -> str:
        value = concrete(self)
        return show(self) if value is None else format(value, spec)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method == "__call__" and not kwargs and ufunc in _implementations:
            return _implementations[ufunc](*inputs)
        if kwargs.get("out") is not None:
            raise MutationError(
                f"numpy.{ufunc.__name__} would write a traced value into a NumPy array in place",
                "write out = f(x) instead of f(x, out=out), and a = a + x instead of a += x",
            )
        implementation = _implementation(ufunc) if method == "__call__" else _ufunc_methods.get((ufunc, method))
        if implementation is None:
            name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
            _refuse(f"numpy.{name}" if getattr(np, ufunc.__name__, None) is ufunc else name, self)
        return implementation(*inputs, **{k: v for k, v in kwargs.items() if k != "out"})

    def __array_function__(self, func: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> Any:
        implementation = _implementations.get(func)
        if implementation is None:
            _refuse(f"{getattr(func, '__module__', None) or 'numpy'}.{func.__name__}", self)
        return implementation(*args, **kwargs)

    def __array_namespace__(self, *, api_version: Any = None) -> Any:
        np.empty(0).__array_namespace__(api_version=api_version)  # NumPy knows which versions there are
        return _namespaces[0]

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.variable.type.size

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.itemsize

    @property
    def T(self) -> Array:
        """The axes in reverse order."""
        return transpose(self)

    @property
    def mT(self) -> Array:
        """The last two axes exchanged."""
        return _implementations[np.matrix_transpose](self)

    @property
    def real(self) -> Array:
        """The real part."""
        return _implementations[np.real](self)

    @property
    def imag(self) -> Array:
        """The imaginary part."""
        return _implementations[np.imag](self)

    @property
    def at(self) -> At:
        """`x.at[index].set(value)`: a copy of `x` with elements changed; see `funcgrad.at`."""
        return At(self)

    def astype(
        self, dtype: Any, order: str = "K", casting: str = "unsafe", subok: bool = True, copy: bool = True
    ) -> Array:
        """The array with another dtype. A traced value has no memory layout, and no need of copies."""
        return cast(self, dtype, casting)

    def reshape(self, *shape: int | Shape, **kwargs: Any) -> Array:
        """The same elements in another shape: `x.reshape(2, 3)` or `x.reshape((2, 3))`."""
        return _implementations[np.reshape](self, shape[0] if len(shape) == 1 else shape, **kwargs)

    def transpose(self, *axes: Any) -> Array:
        """The axes in another order: `x.transpose(1, 0)` or `x.transpose((1, 0))`."""
        return _implementations[np.transpose](self, axes[0] if len(axes) == 1 else (axes or None))

    def flatten(self, order: str = "C") -> Array:
        """The elements in one axis."""
        return _implementations[np.ravel](self, order)

    def conj(self) -> Array:
        """The complex conjugate."""
        return _implementations[np.conjugate](self)

    all = _method(np.all)
    any = _method(np.any)
    argmax = _method(np.argmax)
    argmin = _method(np.argmin)
    argsort = _method(np.argsort)
    clip = _method(np.clip)
    conjugate = _method(np.conjugate)
    copy = _method(np.copy)
    cumprod = _method(np.cumprod)
    cumsum = _method(np.cumsum)
    diagonal = _method(np.diagonal)
    dot = _method(np.dot)
    max = _method(np.max)
    mean = _method(np.mean)
    min = _method(np.min)
    nonzero = _method(np.nonzero)
    prod = _method(np.prod)
    ravel = _method(np.ravel)
    repeat = _method(np.repeat)
    round = _method(np.round)
    squeeze = _method(np.squeeze)
    std = _method(np.std)
    sum = _method(np.sum)
    swapaxes = _method(np.swapaxes)
    take = _method(np.take)
    trace = _method(np.trace)
    var = _method(np.var)

    fill = _in_place("fill", "funcgrad.numpy.full_like(x, value)")
    sort = _in_place("sort", "x = funcgrad.numpy.sort(x)")
    partition = _in_place("partition", "x = funcgrad.numpy.sort(x)")
    put = _in_place("put", "x = x.at[index].set(value)")
    resize = _in_place("resize", "x = x.reshape(shape)")


_WRITERS = ("copyto", "fill_diagonal", "place", "put", "put_along_axis", "putmask")


def _refuse(name: str, x: TracedArray) -> NoReturn:
    if name.endswith(".at") or name.rpartition(".")[2] in _WRITERS:
        raise MutationError(
            f"{name} would write the traced value {x.describe()} into a NumPy array in place",
            "a = funcgrad.at(a)[index].set(x), or .add, .multiply, .min, .max",
        )
    known = concrete(x) is not None
    raise UnsupportedError(
        f"{name} has no implementation for traced values; it was called on {x.describe()} in {x.tracing.name}",
        "compute it from functions in funcgrad.numpy, "
        + (f"or call {name}(stop_gradient(x)) if its result may count as a constant" if known else "")
        + ("" if known else f"or let NumPy do it: pure_callback({name}, ShapeDtypeStruct(shape, dtype), x)"),
    )
