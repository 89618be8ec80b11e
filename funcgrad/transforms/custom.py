"""Custom derivatives: a function with a pullback of the user's own.

Source: the interface is JAX's, https://docs.jax.dev/en/latest/notebooks/Custom_derivative_rules_for_Python_code.html.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, final

import numpy as np

from funcgrad import tree as pytree
from funcgrad.core.errors import ArgumentError, CustomRuleError, shown
from funcgrad.core.types import Array, kind_of, type_of
from funcgrad.ops.flow import stop_gradient
from funcgrad.ops.pointwise import convert
from funcgrad.transforms.body import Staged, staged
from funcgrad.transforms.programs.call import Call
from funcgrad.transforms.programs.custom_rule import Pullback, Rule
from funcgrad.transforms.tracing.arguments import function_name, parameter_names
from funcgrad.transforms.vjp import vjp


@final
class custom_vjp:  # noqa: N801  # a decorator, by JAX's name
    """Decorator: a function whose pullback you write yourself.

    Args:
        fun: The function.
        nondiff_argnums: The positions of arguments that are no arrays, or have no derivative: they are passed to all
            three functions as they are, to the backward rule first.
        nondiff_argnames: The same, by name.

    Raises:
        CustomRuleError: It is called without rules, or they do not fit the function.

    Examples:
        >>> import numpy as np
        >>> import funcgrad as fg
        >>> @fg.custom_vjp
        ... def clipped(x):  # the identity, with a clipped gradient
        ...     return x
        >>> clipped.defvjp(lambda x: (x, None), lambda _, g: (np.clip(g, -1.0, 1.0),))
        >>> float(fg.grad(lambda x: 10.0 * clipped(x))(3.0))
        1.0
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        nondiff_argnums: Sequence[int] = (),
        nondiff_argnames: Sequence[str] = (),
    ) -> None:
        if not callable(fun):
            raise ArgumentError(f"custom_vjp takes a function, got {shown(fun)}", "@custom_vjp above def f(x): ...")
        self._fun = fun
        self._names = parameter_names(fun)
        self._nondiff = _positions(fun, self._names, nondiff_argnums, nondiff_argnames)
        self._fwd: Callable[..., Any] | None = None
        self._bwd: Callable[..., Any] | None = None
        functools.update_wrapper(self, fun)

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Say how the function is differentiated.

        Args:
            fwd: Takes the arguments of the function, and returns `(result, residuals)`.
            bwd: Takes the non-differentiable arguments, the residuals, and the cotangent of the result; returns a
                tuple with a cotangent for each other argument, or None where it is zero.
        """
        for rule in (fwd, bwd):
            if not callable(rule):
                raise ArgumentError(f"defvjp takes two functions, got {shown(rule)}", "f.defvjp(fwd, bwd)")
        self._fwd, self._bwd = fwd, bwd

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function, with its own derivative."""
        if self._fwd is None or self._bwd is None:
            raise CustomRuleError(
                f"{function_name(self._fun)} is a custom_vjp without rules",
                "f.defvjp(fwd, bwd), with fwd: args -> (result, residuals) and bwd: residuals, ct -> cotangents",
            )
        args = _positional(self._fun, args, kwargs)
        nondiff = {i: args[i] for i in self._nondiff if i < len(args)}
        places = [i for i in range(len(args)) if i not in nondiff]
        names = [self._names[i] if i < len(self._names) else str(i) for i in places]
        rule = _DefinedRule(self, function_name(self._fun), names, tuple(args[i] for i in places))
        rule.functions = self._fun, self._fwd, self._bwd
        rule.nondiff = nondiff
        return rule.apply()


@final
class _DefinedRule(Rule):
    """A call of a `custom_vjp`."""

    functions: tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]
    nondiff: dict[int, Any]

    def _with_nondiff(self, args: tuple[Any, ...]) -> list[Any]:
        rest = iter(args)
        return [self.nondiff[i] if i in self.nondiff else next(rest) for i in range(len(args) + len(self.nondiff))]

    def run(self, args: tuple[Any, ...]) -> Any:
        return self.functions[0](*self._with_nondiff(args))

    def _same_call(self, other: Rule) -> bool:
        mine, others = self.nondiff, getattr(other, "nondiff", {})
        return mine.keys() == others.keys() and all(mine[i] is others[i] for i in mine) and super()._same_call(other)

    def differentiate(self, args: tuple[Any, ...]) -> tuple[Any, Pullback]:
        _, fwd, bwd = self.functions
        pair: Any = fwd(*self._with_nondiff(args))
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise CustomRuleError(
                f"the forward rule of {self.name} returned {kind_of(pair)}, not a pair of the result and the residuals",
                "return f(x), (x,); the residuals are any pytree, or None",
            )
        out, residuals = pair
        return out, lambda ct: bwd(*self.nondiff.values(), residuals, ct)


def _positions(
    fun: Callable[..., Any], names: Sequence[str], argnums: Sequence[Any], argnames: Sequence[str]
) -> tuple[int, ...]:
    argnums = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    argnames = (argnames,) if isinstance(argnames, str) else tuple(argnames)
    for name in argnames:
        if name not in names:
            raise ArgumentError(
                f"custom_vjp: nondiff_argnames={argnames} names {name!r}, but {function_name(fun)} "
                f"has the parameters {', '.join(names)}",
                f"nondiff_argnames={names[0]!r}" if names else "leave it out",
            )
    for i in argnums:
        if not isinstance(i, int) or isinstance(i, bool) or (names and not -len(names) <= i < len(names)):
            raise ArgumentError(
                f"custom_vjp: nondiff_argnums={argnums} names position {i!r}, but {function_name(fun)} "
                f"has {len(names)} parameters",
                "nondiff_argnums=(0,)",
            )
    return tuple(sorted({*(i % len(names) if names else i for i in argnums), *map(list(names).index, argnames)}))


def _positional(fun: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """The arguments by position, with the defaults of those that are not passed."""
    if isinstance(fun, np.ufunc) and not kwargs:
        return args  # without `out`
    try:
        bound = inspect.signature(fun).bind(*args, **kwargs)
    except ValueError:  # no signature
        if kwargs:
            raise ArgumentError(
                f"{function_name(fun)} has no signature, so its arguments are passed by position", "f(x, y)"
            ) from None
        return args
    kinds = {name: parameter.kind for name, parameter in bound.signature.parameters.items()}
    by_name = [
        name
        for name in bound.arguments
        if kinds[name] in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    ]
    if by_name:
        raise ArgumentError(
            f"custom_vjp: {function_name(fun)} has the keyword-only parameters {', '.join(by_name)}",
            "let a custom_vjp take its arguments by position: def f(x, y), or bind them: functools.partial",
        )
    bound.apply_defaults()
    return bound.args


def custom_gradient(fun: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: a function that returns its result and its own pullback.

    Args:
        fun: Returns `(result, pullback)`; the pullback takes a cotangent of the result, and returns one for each
            argument, as a tuple if there are several.

    Returns:
        The function that returns the result.

    Raises:
        CustomRuleError: The function does not return a pair, or the pullback does not fit it.

    Examples:
        >>> import numpy as np
        >>> import funcgrad as fg
        >>> @fg.custom_gradient
        ... def log1pexp(x):
        ...     e = np.exp(x)
        ...     return np.log(1 + e), lambda g: g * (1 - 1 / (1 + e))
        >>> with np.errstate(over="ignore"):
        ...     float(fg.grad(log1pexp)(1000.0))
        1.0
    """
    if not callable(fun):
        raise ArgumentError(
            f"custom_gradient takes a function, got {shown(fun)}", "@custom_gradient above def f(x): ..."
        )
    names = parameter_names(fun)

    @functools.wraps(fun)
    def function(*args: Any, **kwargs: Any) -> Any:
        args = _positional(fun, args, kwargs)
        labels = [names[i] if i < len(names) else str(i) for i in range(len(args))]
        rule = _GradientRule(function, function_name(fun), labels, args)
        rule.function = fun
        return rule.apply()

    return function


@final
class _GradientRule(Rule):
    """A call of a `custom_gradient`."""

    function: Callable[..., Any]

    def run(self, args: tuple[Any, ...]) -> Any:
        return self.differentiate(args)[0]

    def differentiate(self, args: tuple[Any, ...]) -> tuple[Any, Pullback]:
        pair: Any = self.function(*args)
        if not isinstance(pair, tuple) or len(pair) != 2 or not callable(pair[1]):
            raise CustomRuleError(
                f"{self.name} is a custom_gradient, so it must return a pair of its result and its pullback",
                "return y, lambda g: g * slope",
            )
        return pair


def custom_root(
    f: Callable[[Any], Any],
    initial_guess: Any,
    solve: Callable[[Callable[[Any], Any], Any], Any],
    tangent_solve: Callable[[Callable[[Any], Any], Any], Any],
    has_aux: bool = False,
) -> Any:
    """A root of `f`, differentiated by the implicit function theorem instead of through the solver.

    `f` closes over the parameters on which the root depends; the gradient flows to them.

    Args:
        f: From `x` to a pytree like it, zero at the root.
        initial_guess: Where the solver starts; the root does not depend on it.
        solve: `solve(f, initial_guess)` finds the root. It is not differentiated.
        tangent_solve: `tangent_solve(g, y)` solves `g(x) = y` for a linear function `g`: the pullback of `f`, or for
            higher derivatives the transposed of that. It is not differentiated.
        has_aux: True if `solve` returns `(root, aux)`.

    Returns:
        The root, or `(root, aux)`.

    Source:
        Griewank and Walther, "Evaluating Derivatives", 2nd ed. (2008), chapter 15: with f(x, p) = 0, the cotangent of p
        is −u · ∂f/∂p, where u solves u · ∂f/∂x = ct.

    Examples:
        >>> import funcgrad as fg
        >>> from funcgrad import lax
        >>> def newton(f, x):
        ...     return lax.while_loop(lambda x: abs(f(x)) > 1e-10, lambda x: x - f(x) / fg.grad(f)(x), x)
        >>> def sqrt(a):
        ...     return lax.custom_root(lambda x: x * x - a, 1.0, newton, lambda g, y: y / g(1.0))
        >>> round(float(fg.grad(sqrt)(4.0)), 6)
        0.25
    """
    guess = pytree.map(_strong, stop_gradient(initial_guess))
    part = staged("custom_root", f, guess)
    # the pullback gets the values of the constants, and must not hold on to tracers of a trace that has ended
    at = functools.partial(_evaluated, "root", part._replace(consts=[]))

    @custom_vjp
    def root(consts: list[Any], guess: Any) -> Any:
        found = solve(lambda x: at(consts, x), guess)
        return found if has_aux else (found, None)

    def forward(consts: list[Any], guess: Any) -> tuple[Any, Any]:
        # the root as it is found by the rule: a second derivative does not go through the solver either
        found = root(consts, guess)
        return found, (found[0], consts)

    def backward(saved: Any, ct: Any) -> tuple[Any, None]:
        x, consts = saved
        # a solution by its own rule: a second derivative does not go through this solver either
        u, _ = slope(saved, ct[0])
        _, pull_consts = vjp(lambda c: at(c, x), consts)
        return pull_consts(pytree.map(lambda leaf: -leaf, u))[0], None

    pulled = lambda saved, v: vjp(lambda x: at(saved[1], x), saved[0])[1](v)[0]
    slope = _solution(pulled, tangent_solve, False, lambda: of_transposed)
    of_transposed = _solution(functools.partial(_transposed, pulled), tangent_solve, False, lambda: slope)
    root.defvjp(forward, backward)
    x, aux = root(part.consts, guess)
    return (x, aux) if has_aux else x


def custom_linear_solve(
    matvec: Callable[[Any], Any],
    b: Any,
    solve: Callable[[Callable[[Any], Any], Any], Any],
    transpose_solve: Callable[[Callable[[Any], Any], Any], Any] | None = None,
    symmetric: bool = False,
    has_aux: bool = False,
) -> Any:
    """The solution of `matvec(x) = b`, differentiated by a second solution instead of through the solver.

    `matvec` closes over what the matrix depends on; the gradient flows there and to `b`.

    Args:
        matvec: A linear function of a pytree like `b`.
        b: The right-hand side.
        solve: `solve(matvec, b)` finds the solution. It is not differentiated.
        transpose_solve: `transpose_solve(vecmat, ct)` solves the transposed system.
        symmetric: True if `matvec` is symmetric: then `solve` serves for both.
        has_aux: True if the solvers return `(solution, aux)`.

    Returns:
        The solution, or `(solution, aux)`.

    Raises:
        ArgumentError: It is differentiated, and nothing says how to solve the transposed system.

    Examples:
        >>> import numpy as np
        >>> import funcgrad as fg
        >>> from funcgrad import lax
        >>> def solution(d):  # of diag(d) x = 1
        ...     solve = lambda matvec, b: b / matvec(np.ones(2))
        ...     return lax.custom_linear_solve(lambda x: d * x, np.ones(2), solve, symmetric=True)
        >>> fg.grad(lambda d: solution(d).sum())(np.array([1.0, 2.0]))
        array([-1.  , -0.25])
    """
    b = pytree.map(_strong, b)
    part = staged("custom_linear_solve", matvec, b)
    at = functools.partial(_evaluated, "matvec", part._replace(consts=[]))
    transposed = solve if symmetric and transpose_solve is None else transpose_solve
    solution = _solution(at, solve, has_aux, lambda: of_transposed)
    of_transposed = _solution(functools.partial(_transposed, at), transposed or _no_solve, has_aux, lambda: solution)
    x, aux = solution(part.consts, b)
    return (x, aux) if has_aux else x


def _solution(
    apply: Callable[[Any, Any], Any], solve: Callable[..., Any], has_aux: bool, transposed: Callable[[], custom_vjp]
) -> custom_vjp:
    """The function `(consts, b) -> (x, aux)` with `apply(consts, x) = b`; `transposed()` is that of the transposed."""

    @custom_vjp
    def solution(consts: Any, b: Any) -> Any:
        found = solve(lambda x: apply(consts, x), b)
        return found if has_aux else (found, None)

    def forward(consts: Any, b: Any) -> tuple[Any, Any]:
        found = solution(consts, b)
        return found, (found[0], consts)

    def backward(saved: Any, ct: Any) -> tuple[Any, Any]:
        x, consts = saved
        # a solution by its rule again: a second derivative does not go through this solver either
        u, _ = transposed()(consts, ct[0])
        _, pull_consts = vjp(lambda c: apply(c, x), consts)
        return pull_consts(pytree.map(lambda leaf: -leaf, u))[0], u

    solution.defvjp(forward, backward)
    return solution


def _transposed(apply: Callable[[Any, Any], Any], consts: Any, ct: Any) -> Any:
    """The transposed of a linear function of a pytree like `ct`."""
    zeros = pytree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), pytree.map(type_of, ct))
    return vjp(lambda x: apply(consts, x), zeros)[1](ct)[0]


def _no_solve(_: Any, __: Any) -> NoReturn:
    raise ArgumentError(
        "custom_linear_solve: the derivative solves the transposed system, and nothing says how",
        "give transpose_solve, or symmetric=True where matvec is symmetric",
    )


def _strong(x: Array) -> Array:
    return convert(x, type_of(x).dtype)


def _evaluated(label: str, part: Staged, consts: list[Any], x: Any) -> Any:
    """A staged function of one pytree at `x`."""
    types = part.jaxpr.in_types[len(consts) :]
    leaves = [convert(leaf, t.dtype) for leaf, t in zip(pytree.leaves(x), types, strict=True)]
    return pytree.unflatten(part.structure, list(Call(label, part.jaxpr)(*consts, *leaves)))
