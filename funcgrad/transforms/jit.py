"""`jit`: a function is staged once for each signature, and from then on its program runs instead.

    call ──▶ gate ──▶ result
              │ does not fit
              └──key──▶ cache ──▶ program ──▶ result
                          │ none yet
                          └──▶ stage ──▶ jaxpr ──▶ compile ──▶ program

A gate is machine code in front of one program: see `jit_gates`. It is made when a program is called again.

In a trace of another transformation, the call is one operation of that trace, whose jaxpr is the program.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, NoReturn, final

import numpy as np

from funcgrad import tree as pytree
from funcgrad.compiler.engine import return_memory
from funcgrad.core import config
from funcgrad.core.errors import ArgumentError, DTypeError, shown
from funcgrad.core.types import PYTHON_SCALARS, ArrayType, beyond_int64, show_long
from funcgrad.core.watch import WATCH
from funcgrad.transforms.ahead import Found, Lowered
from funcgrad.transforms.jit_cache import Cache, CacheInfo, Program
from funcgrad.transforms.jit_gates import CallOf, Form, Gates
from funcgrad.transforms.signature import Key, Signature, Split, chosen, leaf_types
from funcgrad.transforms.tracing.arguments import function_name
from funcgrad.transforms.tracing.derived import forget_derived
from funcgrad.transforms.tracing.stage import stage

_disabled: ContextVar[bool] = ContextVar("funcgrad_disable_jit", default=config.DISABLE_JIT)
_functions: weakref.WeakSet[JitFunction] = weakref.WeakSet()
_functions_lock = threading.Lock()
# a function is called in so many ways that there are gates for: by position, by name in one order or another
_FORMS = 8


@final
class JitFunction:
    """A function whose program is compiled; `jit` makes it.

    It is called as the function is. `__wrapped__` is the function itself.

    Attributes:
        __call__: What a call of it is a call of: the first gate, or what runs where there is none. Since Python looks
            for it in the class, it is in a slot, and no function stands between the call and the gate.
    """

    # apart from `__dict__`, where names and attributes of the function go
    __slots__ = (
        *("__call__", "__dict__", "__weakref__"),
        *("_cache", "_donated", "_inline", "_name", "_options", "_plain", "_signature"),
    )
    __wrapped__: Callable[..., Any]
    __call__: Callable[..., Any]

    def __init__(self, f: Callable[..., Any], options: dict[str, Any]) -> None:
        self._options = options
        static = chosen(f, "static", options["static_argnums"], options["static_argnames"])
        donated = chosen(f, "donate", options["donate_argnums"], options["donate_argnames"])
        if both := set(map(str, static)) & set(map(str, donated)):
            raise ArgumentError(
                f"jit({function_name(f)}): {both.pop()} is static and donated",
                "donate arguments that are arrays: a static one has no memory to give away",
            )
        functools.update_wrapper(self, f, updated=("__dict__",) if isinstance(f, types.FunctionType) else ())
        self._name = f"jit({function_name(f)})"
        self._signature = Signature(f, static)
        self._donated = donated
        guards = ((_disabled, False), (WATCH, None))
        self._cache = Cache(self._name, self._signature, options["cache_size"], Gates(self, self._call, guards))
        self._inline = options["inline"]
        self._plain = not static
        with _functions_lock:
            _functions.add(self)

    def _call(self, /, *args: Any, **kwargs: Any) -> Any:
        """The result of the function, by its program for arguments like these."""
        if _disabled.get():
            return self.__wrapped__(*args, **kwargs)
        key = None if kwargs or not self._plain else _plain_key(args)
        if key is None:
            found = self._find(args, kwargs)
            if found.again and not found.traced:
                self._open_gate(found.program, args, kwargs)
            return found.result()
        cache = self._cache
        program = cache.fast.get(key)
        if program is None:
            found = self._find(args, kwargs)
            if not found.program.traced:
                cache.fast[key] = found.program
            return found.result()
        program.used = cache.tick()
        self._open_gate(program, args, kwargs)
        return program.compute(args)

    def _open_gate(self, program: Program, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """See to it that the next call like this one finds a gate for it."""
        form: Form = (len(args), *kwargs)
        if form in program.gates:
            self._cache.gates.ask(program, form)
        elif len(program.gates) < _FORMS:
            split = self._signature.split(args, kwargs)
            structure = pytree.structure((split.args, split.kwargs))
            call = CallOf(args, kwargs, self._signature.static, structure)
            self._cache.gates.open(program, form, call)

    def _find(self, args: tuple[Any, ...], kwargs: dict[str, Any], types_allowed: bool = False) -> Found:
        """The program for these arguments, and their leaves."""
        split = self._signature.split(args, kwargs)
        leaves, structure = pytree.flatten((split.args, split.kwargs))
        types, traced = leaf_types(leaves, types_allowed)
        key = (structure, types, split.static)
        program = self._cache.get(key)
        again = program is not None
        if program is None:

            def build() -> Program:
                if ArrayType in types:
                    self._refuse_type(key, leaves)
                program = self._stage(key, args, kwargs, split)
                if not (traced or types_allowed or program.traced):
                    program.compile()
                return program

            program = self._cache.make(key, split.values, build)
        return Found(program, key, split.values, leaves, traced or program.traced, again)

    def _stage(self, key: Key, args: tuple[Any, ...], kwargs: dict[str, Any], split: Split) -> Program:
        self._signature.check_structure(key)
        # a static argument that came by name goes on by name
        static = {name: x for name, x in kwargs.items() if name not in split.kwargs}
        f = functools.partial(self.__wrapped__, **static) if static else self.__wrapped__
        jaxpr, out = stage(f, args, split.kwargs, "jit", self._signature.places(len(args)))
        donated = self._signature.leaves_of(self._donated, key)
        return Program(function_name(self.__wrapped__), jaxpr, out, self._inline, donated)

    def _refuse_type(self, key: Key, leaves: list[Any]) -> NoReturn:
        i = next(i for i, x in enumerate(leaves) if x.__class__ is ArrayType)
        raise DTypeError(
            f"{self._name}: {''.join(self._signature.names(key)[i])} is a type, {show_long(leaves[i])}, not an array",
            f"pass an array; {self._name}.lower(...) and .eval_shape(...) take types",
        )

    def lower(self, /, *args: Any, **kwargs: Any) -> Lowered:
        """The program for arguments like these, which may be types, to look at and to compile ahead of time.

        A later call with such arguments finds it.

        Examples:
            >>> f = fg.jit(lambda x: 2 * x + 1)
            >>> f.lower(fg.ShapeDtypeStruct((3,), float))
            { lambda ; a:f64[3]. let
                b:f64[3] = multiply 2 a
                c:f64[3] = add b 1
              in c }
        """
        return Lowered(self._signature, self._find(args, kwargs, types_allowed=True))

    def trace(self, /, *args: Any, **kwargs: Any) -> Lowered:
        """The same as `lower`: `f.trace(x).jaxpr` is the jaxpr."""
        return self.lower(*args, **kwargs)

    def eval_shape(self, /, *args: Any, **kwargs: Any) -> Any:
        """The shapes and dtypes of the result, for arguments like these, which may be types."""
        return self.lower(*args, **kwargs).out_info

    def cache_info(self) -> CacheInfo:
        """How many calls found a program (hits), how many did not, and how many programs there are.

        Examples:
            >>> f = fg.jit(np.sin)
            >>> y = f(1.0), f(2.0), f(np.ones(3))
            >>> f.cache_info()
            CacheInfo(hits=1, misses=2, maxsize=256, currsize=2)
        """
        return self._cache.info()

    def clear_cache(self) -> None:
        """Forget all programs."""
        self._cache.clear()

    def __get__(self, instance: Any, owner: type | None = None) -> JitFunction | BoundJit:
        return self if instance is None else BoundJit(self, instance)

    def __repr__(self) -> str:
        return self._name

    def __reduce__(self) -> str | tuple[Any, ...]:
        path = getattr(self, "__qualname__", "")
        there: Any = sys.modules.get(self.__module__)
        for name in path.split("."):
            there = getattr(there, name, None)
        # a decorated function is found under its name; its `__wrapped__` no longer is
        return path if there is self else (JitFunction, (self.__wrapped__, self._options))


@final
class BoundJit:
    """A jitted method of an object: a call passes the object as first argument."""

    # what a call is a call of is in a slot, as in the function
    __slots__ = ("__call__", "__func__", "__self__")
    __call__: Callable[..., Any]

    def __init__(self, function: JitFunction, instance: Any) -> None:
        self.__func__ = function
        self.__self__ = instance
        self.__call__ = types.MethodType(function, instance)

    def lower(self, /, *args: Any, **kwargs: Any) -> Lowered:
        """As for a jitted function."""
        return self.__func__.lower(self.__self__, *args, **kwargs)

    def trace(self, /, *args: Any, **kwargs: Any) -> Lowered:
        """As for a jitted function."""
        return self.lower(*args, **kwargs)

    def eval_shape(self, /, *args: Any, **kwargs: Any) -> Any:
        """As for a jitted function."""
        return self.lower(*args, **kwargs).out_info

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return types.MethodType(self.__func__.__wrapped__, self.__self__)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__func__, name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BoundJit):
            return NotImplemented
        return other.__self__ is self.__self__ and other.__func__ is self.__func__

    def __hash__(self) -> int:
        return hash((id(self.__self__), self.__func__))

    def __repr__(self) -> str:
        return f"{self.__func__!r} of {shown(self.__self__)}"

    def __reduce__(self) -> tuple[Any, ...]:
        return BoundJit, (self.__func__, self.__self__)


def _plain_key(args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """What the program depends on, if the arguments are arrays and numbers; None if there are others."""
    key: list[Any] = []
    for x in args:
        cls = x.__class__
        if cls is np.ndarray:
            key.append(x.shape)
            key.append(x.dtype)
        elif cls in PYTHON_SCALARS:
            if cls is int and beyond_int64(x):
                return None
            key.append(cls)
        elif issubclass(cls, np.generic):
            key.append(())
            key.append(x.dtype)
        else:
            return None
    return tuple(key)


def jit(
    fun: Callable[..., Any] | None = None,
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    donate_argnums: int | Sequence[int] = (),
    donate_argnames: str | Sequence[str] = (),
    inline: bool = False,
    cache_size: int = 256,
) -> Any:
    """A function that does what `fun` does, by a program that is made once for each signature of its arguments.

    The first call with arguments of certain structures, shapes and dtypes runs `fun` on types, to see what it does.
    Calls with such arguments run what came of that. Python code in `fun` (prints, appends, counters) runs in the
    first call only; values of array arguments are unknown there, so they cannot decide an `if`, a shape or a loop.

    Args:
        fun: A function of pytrees of arrays and numbers, which returns such a pytree. Arrays that it closes over are
            read in each call. Without it, the result is a decorator: `@jit(static_argnames="n")`.
        static_argnums: The positions of arguments that are Python values to `fun`, and hashable: flags, sizes,
            functions. For each new value the program is made anew.
        static_argnames: The same by name. Either way, the argument may be passed by position or by keyword.
        donate_argnums: The positions of arguments whose memory may be reused: instead of a new array, a result may be
            the very array that was passed, overwritten. Do not use what you have donated, but what is returned.
        donate_argnames: The same by name.
        inline: True if the operations of `fun`, and not one call, are to stand in the jaxpr of a function around it.
        cache_size: How many programs are kept.

    Returns:
        A function with the arguments and the result of `fun`, and with `lower`, `eval_shape`, `cache_info` and
        `clear_cache`. Results are new arrays, even where `fun` returns an argument.

    Raises:
        ArgumentError: `fun` has no such parameter, or a static value is not hashable.
        DTypeError: An argument, or something in the result, is not an array or a number.
        TracedBoolError: `fun` branches on a value.

    Examples:
        >>> import numpy as np
        >>> import funcgrad as fg
        >>> @fg.jit
        ... def f(x):
        ...     print("tracing")
        ...     return np.sin(x) ** 2
        >>> y = f(np.ones(3))
        tracing
        >>> y = f(np.zeros(3))
        >>> float(fg.grad(f)(0.0))
        tracing
        0.0
    """
    options: dict[str, Any] = {
        "static_argnums": static_argnums,
        "static_argnames": static_argnames,
        "donate_argnums": donate_argnums,
        "donate_argnames": donate_argnames,
        "inline": inline,
        "cache_size": cache_size,
    }
    if fun is None:
        return functools.partial(jit, **options)
    if not callable(fun):
        raise ArgumentError(f"jit takes a function, got {shown(fun)}", "jit(f)(x), or @jit(static_argnums=1)")
    if cache_size < 1:
        raise ArgumentError(f"jit: cache_size={cache_size!r} is no number of programs", "cache_size=256")
    return JitFunction(fun, options)


@contextlib.contextmanager
def disable_jit(disable: bool = True) -> Iterator[None]:
    """Within the block, in this thread, jitted functions are the functions themselves: for prints and debuggers.

    `FUNCGRAD_DISABLE_JIT=1` in the environment does the same for the whole program.

    Args:
        disable: False to switch `jit` on again within such a block.

    Examples:
        >>> import funcgrad as fg
        >>> @fg.jit
        ... def f(x):
        ...     print("x is", x)
        ...     return x if x > 0 else -x
        >>> with fg.disable_jit():
        ...     f(-2.0)
        x is -2.0
        2.0
    """
    token = _disabled.set(disable)
    try:
        yield
    finally:
        _disabled.reset(token)


def clear_caches() -> None:
    """Forget the programs of all jitted functions, and what was derived from them; return the memory that is kept.

    Examples:
        >>> import funcgrad as fg
        >>> f = fg.jit(lambda x: 2 * x)
        >>> f(3.0)
        6.0
        >>> fg.clear_caches()
        >>> f.cache_info().currsize
        0
    """
    with _functions_lock:
        functions = list(_functions)
    for function in functions:
        function.clear_cache()
    forget_derived()
    return_memory()
