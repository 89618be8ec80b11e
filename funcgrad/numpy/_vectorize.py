"""vectorize: a function of numbers, or of small arrays, made to broadcast as NumPy's own functions do."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any, final

from funcgrad.core.errors import ArgumentError, ShapeError, UnsupportedError, shown
from funcgrad.core.types import PYTHON_SCALARS, Array, Shape, broadcast_shapes
from funcgrad.numpy._creation import asarray
from funcgrad.ops.shape import reshape
from funcgrad.transforms.tracing.arguments import function_name
from funcgrad.transforms.vmap import vmap

__all__ = ["vectorize"]


def vectorize(
    pyfunc: Callable[..., Any] | None = None,
    otypes: None = None,
    doc: str | None = None,
    excluded: Any = None,
    cache: bool = False,
    signature: str | None = None,
) -> Callable[..., Any]:
    """A function of one element, applied to all elements of arrays that broadcast.

    It is `funcgrad.vmap` along each axis of the broadcast shape: `pyfunc` is called once, not once per element, and
    Python cannot branch on what it gets. The result has derivatives. It serves as a decorator, too.

    Args:
        pyfunc: The function. What it returns is an array, or a tuple of arrays.
        otypes: Not supported: the results have the dtype that `pyfunc` gives them.
        doc: The docstring of the new function, in place of that of `pyfunc`.
        excluded: The positions and keywords of arguments that are passed to `pyfunc` as they are.
        cache: Without effect: NumPy's avoids a second call of `pyfunc` for the first element.
        signature: The axes that one call of `pyfunc` takes and gives, such as `"(m,n),(n)->(m)"`; all further axes, in
            front of those, are broadcast. Without it, `pyfunc` takes numbers.

    Raises:
        ArgumentError: `signature` or `excluded` is malformed, or the call does not have the arguments of the signature.
        ShapeError: The shapes do not broadcast, or do not fit the signature.
        UnsupportedError: `otypes` is given.

    Examples:
        >>> distance = fnp.vectorize(lambda a, b: fnp.sqrt(((a - b) ** 2).sum()), signature="(n),(n)->()")
        >>> points = np.array([[0.0, 0.0], [3.0, 4.0]])
        >>> distance(points[:, None], points)
        array([[0., 5.],
               [5., 0.]])
    """
    if otypes is not None:
        raise UnsupportedError(
            f"vectorize: otypes={otypes!r}: the results have the dtype that the function gives them",
            "vectorize(f)(x).astype(dtype), or convert in the function",
        )
    if pyfunc is None:
        return functools.partial(vectorize, doc=doc, excluded=excluded, cache=cache, signature=signature)
    if not callable(pyfunc):
        raise ArgumentError(f"vectorize takes a function, got {shown(pyfunc)}", "vectorize(f)(x)")
    name = f"vectorize({function_name(pyfunc)})"
    skipped = _excluded(name, excluded)
    core = None if signature is None else _Signature(name, signature)

    @functools.wraps(pyfunc)
    def vectorized(*args: Any, **kwargs: Any) -> Any:
        places: list[int | str] = [i for i in range(len(args)) if i not in skipped]
        places += [key for key in kwargs if key not in skipped]

        def of_mapped(*xs: Array) -> Any:
            given, named = list(args), dict(kwargs)
            for place, x in zip(places, xs, strict=True):
                if isinstance(place, int):
                    given[place] = x
                else:
                    named[place] = x
            return pyfunc(*given, **named)

        of_mapped.__name__ = function_name(pyfunc)
        if places == list(range(len(args))):
            functools.update_wrapper(of_mapped, pyfunc)  # messages then know the names of the arguments
        xs = [args[place] if isinstance(place, int) else kwargs[place] for place in places]
        return _broadcast(name, of_mapped, [x if type(x) in PYTHON_SCALARS else asarray(x) for x in xs], core)

    if doc is not None:
        vectorized.__doc__ = doc
    return vectorized


def _excluded(name: str, excluded: Any) -> frozenset[int | str]:
    given = frozenset(() if excluded is None else excluded)
    for place in given:
        if not isinstance(place, int | str) or (isinstance(place, int) and place < 0):
            raise ArgumentError(
                f"{name}: excluded is made of positions and keywords, but there is {shown(place)} in it",
                "excluded={0, 'p'}",
            )
    return given


def _broadcast(name: str, f: Callable[..., Any], xs: list[Array], core: _Signature | None) -> Any:
    """`f` for all elements of the broadcast `xs`, with one vmap for each axis that is not of length 1."""
    ranks = [0] * len(xs) if core is None else core.ranks(xs)
    shapes: list[Shape] = [getattr(x, "shape", ()) for x in xs]
    loops = [shape[: len(shape) - rank] for shape, rank in zip(shapes, ranks, strict=True)]
    try:
        loop = broadcast_shapes(*loops)
    except ValueError:
        raise ShapeError(
            f"{name}: the shapes {', '.join(map(str, loops))} that it runs over do not broadcast",
            "each axis, counted from the last, must be equal or 1: add axes with x[:, None]",
        ) from None
    lengths = {} if core is None else core.lengths(shapes)
    call = f if core is None else core.checked(f, lengths)
    aligned = [(1,) * (len(loop) - len(shape)) + shape for shape in loops]
    for axis in reversed(range(len(loop))):
        if loop[axis] != 1:
            call = vmap(call, tuple([None if shape[axis] == 1 else 0 for shape in aligned]))
    mapped = sum(n != 1 for n in loop)
    given = []
    for x, shape, inner in zip(xs, shapes, loops, strict=True):
        long = tuple([n for n in inner if n != 1])
        given.append(x if len(long) == len(inner) else reshape(x, long + shape[len(inner) :]))
    out = call(*given)
    parts = [asarray(part) for part in (out if isinstance(out, tuple) else (out,))]
    parts = [reshape(part, loop + part.shape[mapped:]) for part in parts]
    return tuple(parts) if isinstance(out, tuple) else parts[0]


_AXES = r"\(\s*(?:\w+\s*(?:,\s*\w+\s*)*,?\s*)?\)"
_TERMS = re.compile(rf"\s*(?:{_AXES}\s*(?:,\s*{_AXES}\s*)*)?")


@final
class _Signature:
    """`(m,n),(n)->(m)`: for each argument and each result the names of its last axes."""

    __slots__ = ("_inputs", "_name", "_outputs", "_text")

    def __init__(self, name: str, text: str) -> None:
        inputs, arrow, outputs = text.partition("->")
        if not arrow or not outputs.strip() or not all(_TERMS.fullmatch(side) for side in (inputs, outputs)):
            raise ArgumentError(
                f"{name}: signature={text!r} is not a signature",
                "signature='(m,n),(n)->(m)': the axes of each argument, an arrow, those of each result",
            )
        self._name = name
        self._text = text
        self._inputs, self._outputs = (
            [tuple(re.findall(r"\w+", axes)) for axes in re.findall(_AXES, side)] for side in (inputs, outputs)
        )

    def ranks(self, xs: Sequence[Array]) -> list[int]:
        """How many axes of each argument go to the function."""
        if len(xs) != len(self._inputs):
            raise ArgumentError(
                f"{self._name}: the signature {self._text!r} has {len(self._inputs)} arguments, but the call {len(xs)}",
                "excluded={...} names what is passed as it is",
            )
        return [len(axes) for axes in self._inputs]

    def lengths(self, shapes: Sequence[Shape]) -> dict[str, int]:
        """The length of each axis that the arguments name."""
        known: dict[str, int] = {}
        for i, (axes, shape) in enumerate(zip(self._inputs, shapes, strict=True)):
            if len(shape) < len(axes):
                raise ShapeError(
                    f"{self._name}: argument {i} has shape {shape}, but the signature {self._text!r} gives it "
                    f"{len(axes)} axes",
                    "add axes with x[None]",
                )
            self._match(f"argument {i}", axes, shape[len(shape) - len(axes) :], known)
        return known

    def checked(self, f: Callable[..., Any], lengths: dict[str, int]) -> Callable[..., Any]:
        """`f`, whose results must have the axes of the signature."""

        @functools.wraps(f)
        def call(*xs: Array) -> Any:
            out = f(*xs)
            parts = out if isinstance(out, tuple) else (out,)
            if len(parts) != len(self._outputs):
                raise ArgumentError(
                    f"{self._name}: the signature {self._text!r} has {len(self._outputs)} results, but the function "
                    f"returned {len(parts)}",
                    "return a tuple with one array for each",
                )
            known = dict(lengths)
            for i, (axes, part) in enumerate(zip(self._outputs, parts, strict=True)):
                shape = asarray(part).shape
                if len(shape) != len(axes):
                    raise ShapeError(
                        f"{self._name}: result {i} has shape {shape}, but the signature {self._text!r} gives it "
                        f"{len(axes)} axes",
                        "the signature says what one call returns",
                    )
                self._match(f"result {i}", axes, shape, known)
            return out

        return call

    def _match(self, what: str, axes: tuple[str, ...], shape: Shape, known: dict[str, int]) -> None:
        for axis, n in zip(axes, shape, strict=True):
            if known.setdefault(axis, n) != n:
                raise ShapeError(
                    f"{self._name}: {what} has length {n} along {axis!r} of the signature {self._text!r}, "
                    f"which is {known[axis]} elsewhere",
                    "axes of one name have one length",
                )
