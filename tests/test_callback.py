"""Python functions called from programs: `pure_callback` computes, `debug.callback` and `debug.print` act."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from funcgrad import debug, errors, lax
from funcgrad.core.errors import CustomRuleError
from funcgrad.transforms.callback import pure_callback

X = np.array([0.5, 1.0, 1.5])


def wave(x: Any, y: Any, method: str = "sequential") -> Any:
    """sin(x) y, by NumPy alone."""

    def slopes(ct: Any, x: Any, y: Any) -> tuple[Any, Any]:
        assert all(type(z) is np.ndarray for z in (ct, x, y))
        return ct * np.cos(x) * y, ct * np.sin(x)

    return pure_callback(lambda x, y: np.sin(x) * y, np.float64(0), x, y, vmap_method=method, vjp=slopes)


def traced_wave(x: Any, y: Any) -> Any:
    return np.sin(x) * y


def same(a: Any, b: Any) -> None:
    fg.tree.map(lambda p, q: np.testing.assert_allclose(p, q, rtol=1e-12), a, b)


# ── pure_callback


PROGRAMS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda f: f(0.5, 2.0),
    "jit": lambda f: fg.jit(f)(0.5, 2.0),
    "grad": lambda f: fg.grad(f, (0, 1))(0.5, 2.0),
    "jit(grad)": lambda f: fg.jit(fg.grad(f, (0, 1)))(0.5, 2.0),
    "grad(jit)": lambda f: fg.grad(fg.jit(f), (0, 1))(0.5, 2.0),
    "vmap": lambda f: fg.vmap(f)(X, X),
    "vmap, one argument shared": lambda f: fg.vmap(f, (None, 0))(0.5, X),
    "vmap of vmap": lambda f: fg.vmap(fg.vmap(f, (0, None)), (None, 0))(X, X[:2]),
    "vmap(grad)": lambda f: fg.vmap(fg.grad(f, (0, 1)), (0, None))(X, 2.0),
    "grad(vmap), one argument shared": lambda f: fg.grad(
        lambda x, y: (fg.vmap(f, (0, None))(x, y) * X).sum(), argnums=(0, 1)
    )(X, 2.0),
    "grad(vmap(vmap)), shared crosswise": lambda f: fg.grad(
        lambda x, y: (fg.vmap(fg.vmap(f, (0, None)), (None, 0))(x, y) * np.outer(X[:2], X)).sum(), argnums=(0, 1)
    )(X, X[:2]),
    "jit(vmap(grad))": lambda f: fg.jit(fg.vmap(fg.grad(f, 0)))(X, X),
    "vmap of no example": lambda f: fg.vmap(f)(X[:0], X[:0]),
    "scan": lambda f: fg.jit(fg.grad(lambda x: lax.scan(lambda c, y: (f(c, y), c), x, X)[0]))(0.5),
    "while_loop": lambda f: fg.jit(lambda x: lax.while_loop(lambda c: c > 0.1, lambda c: f(c, 0.9), x))(0.5),
    "cond": lambda f: fg.jit(fg.grad(lambda x: lax.cond(x > 0, lambda x: f(x, 2.0), lambda x: x, x)))(0.5),
    "checkpoint": lambda f: fg.grad(fg.checkpoint(f), (0, 1))(0.5, 2.0),
    "a pullback": lambda f: fg.vjp(f, 0.5, 2.0)[1](3.0),
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("method", ["sequential", "expand_dims", "broadcast_all"])
def test_a_callback_is_the_function_that_it_calls(name: str, method: str) -> None:
    same(PROGRAMS[name](lambda x, y: wave(x, y, method)), PROGRAMS[name](traced_wave))


def test_the_pullback_of_a_callback_is_the_derivative() -> None:
    fg.testing.check_grads(wave, (0.7, 2.0))


def test_arguments_and_results_are_pytrees() -> None:
    def total(p: Any, *, scale: float) -> Any:
        return {"sum": (p["a"] + p["b"][0]) * scale, "count": np.int64(2)}

    def slopes(ct: Any, p: Any, *, scale: float) -> Any:
        assert ct["count"] is None
        return ({"a": ct["sum"] * scale, "b": (None,)},)

    def f(p: Any) -> Any:
        types = {"sum": np.float64(0), "count": np.int64(0)}
        return pure_callback(total, types, p, scale=3.0, vjp=slopes)

    p = {"a": 1.0, "b": (2.0,)}
    for run in (f, fg.jit(f)):
        assert run(p) == {"sum": 9.0, "count": 2}
        assert fg.grad(lambda p, run=run: run(p)["sum"])(p) == {"a": 3.0, "b": (0.0,)}


def test_what_is_not_a_float_has_no_derivative_and_needs_none() -> None:
    def f(x: Any, n: Any) -> Any:
        steps = pure_callback(lambda x: np.int64(np.ceil(x)), np.int64(0), x)
        return x * steps + pure_callback(
            lambda x, n: x**n, 0.0, x, n, vjp=lambda ct, x, n: (ct * n * x ** (n - 1), None)
        )

    for gradient in (fg.grad(f), fg.jit(fg.grad(f)), fg.grad(fg.jit(f))):
        assert gradient(1.5, 2) == 2.0 + 3.0


def test_a_result_without_a_cotangent_counts_as_zero() -> None:
    def f(x: Any) -> Any:
        y, _ = pure_callback(lambda x: (2 * x, 3 * x), (x, x), x, vjp=lambda ct, x: (2 * ct[0] + 3 * ct[1],))
        return y.sum()

    same(fg.grad(f)(X), np.full(3, 2.0))
    same(fg.grad(fg.jit(f))(X), np.full(3, 2.0))


@pytest.mark.parametrize(
    ("method", "shapes"),
    [
        ("sequential", [((), (2,))] * 3),
        ("expand_dims", [((3,), (1, 2))]),
        ("broadcast_all", [((3,), (3, 2))]),
    ],
)
def test_a_batch_is_computed_as_its_method_says(method: str, shapes: list[Any]) -> None:
    seen = []

    def f(x: Any, y: Any) -> Any:
        seen.append((x.shape, y.shape))
        return (x[..., None] * y).sum(-1)

    def row(x: Any) -> Any:
        return pure_callback(f, np.float64(0), x, np.ones(2), vmap_method=method)

    same(fg.vmap(row)(X), 2 * X)
    assert seen == shapes


def test_what_the_callback_gets_cannot_be_written_into_and_what_it_returns_is_copied() -> None:
    def careless(x: Any) -> Any:
        x[0] = 1.0

    with pytest.raises(ValueError, match="read-only"):
        pure_callback(careless, X, X)

    buffer = np.zeros(3)

    def reuses(x: Any) -> Any:
        np.multiply(x, 2, out=buffer)
        return buffer

    first, second = pure_callback(reuses, X, X), pure_callback(reuses, X, 2 * X)
    same(first, 2 * X)
    assert second.flags.writeable


def test_a_program_calls_it_in_each_run_and_not_while_it_is_staged() -> None:
    calls = []

    def f(x: Any) -> Any:
        calls.append(x.shape)
        return x

    program = fg.jit(lambda x: pure_callback(f, x, x) + 1)
    fg.make_jaxpr(program)(X)
    assert calls == []
    program(X), program(X)
    assert calls == [(3,), (3,)]


def test_a_jaxpr_names_the_function() -> None:
    assert "pure_callback[hypot] a 1.0" in repr(fg.make_jaxpr(lambda x: pure_callback(np.hypot, x, x, 1.0))(2.0))


def test_python_numbers_take_the_declared_dtype() -> None:
    y = pure_callback(lambda x: 0.5, fg.ShapeDtypeStruct((), np.float32), 1.0)
    assert type(y) is np.ndarray
    assert y.dtype == np.float32


MISTAKES: dict[str, tuple[type[Exception], str, Callable[[Any], Any]]] = {
    "shape": (
        errors.ShapeError,
        r"callback <lambda> returned float32\[3\], declared float32\[\]",
        lambda x: pure_callback(lambda x: np.ones(3, np.float32), np.float32(0), x),
    ),
    "dtype": (
        errors.DTypeError,
        r"returned complex128\[\] at \['a'\], declared float64\[\]",
        lambda x: pure_callback(lambda x: {"a": 1j}, {"a": 0.0}, x),
    ),
    "structure": (
        errors.TreeError,
        "does not return what was declared: at the root: a tuple vs a list",
        lambda x: pure_callback(lambda x: [x], (0.0,), x),
    ),
    "method": (
        errors.ArgumentError,
        "vmap_method='vectorized' is none of 'sequential', 'expand_dims', 'broadcast_all'",
        lambda x: pure_callback(np.sin, 0.0, x, vmap_method="vectorized"),
    ),
    "no function": (errors.ArgumentError, r"takes a function, got a int", lambda x: pure_callback(3, 0.0, x)),
    "no type": (errors.DTypeError, "declared as a result of sin", lambda x: pure_callback(np.sin, float, x)),
    "no array": (
        errors.DTypeError,
        r"argument 'mode' of sin is a str \('fast'\)",
        lambda x: pure_callback(np.sin, 0.0, x, mode="fast"),
    ),
    "no derivative": (
        errors.NotDifferentiableError,
        r"callback sin has no derivative(.|\n)*vjp=",
        lambda x: fg.grad(lambda x: pure_callback(np.sin, x, x))(x),
    ),
    "no second derivative": (
        errors.NotDifferentiableError,
        r"the vjp= of the callback <lambda> has no derivative of its own(.|\n)*custom_vjp",
        lambda x: fg.grad(fg.grad(lambda x: wave(x, 2.0)))(x),
    ),
    "no derivative by keyword": (
        errors.NotDifferentiableError,
        r"with respect to a keyword argument(.|\n)*by position",
        lambda x: fg.grad(lambda x: pure_callback(lambda y, x: x, 0.0, 1.0, x=x, vjp=lambda ct, y, x: (y,)))(x),
    ),
    "too few cotangents": (
        CustomRuleError,
        "returned a tuple of 1, not one cotangent for each of its 2 arguments",
        lambda x: fg.grad(lambda x: pure_callback(np.multiply, x, x, x, vjp=lambda ct, x, y: (ct,)))(x),
    ),
    "no tuple of cotangents": (
        CustomRuleError,
        "not one cotangent for each of its 1 arguments",
        lambda x: fg.grad(lambda x: pure_callback(np.sin, x, x, vjp=lambda ct, x: ct))(x),
    ),
    "a cotangent of another shape": (
        CustomRuleError,
        r"returned float64\[1\] for argument 0, which is float64\[\]",
        lambda x: fg.grad(lambda x: pure_callback(np.sin, x, x, vjp=lambda ct, x: (ct[None],)))(x),
    ),
    "a cotangent of another structure": (
        CustomRuleError,
        "cotangent for argument 0 with another structure",
        lambda x: fg.grad(lambda x: pure_callback(lambda p: p[0], x, (x,), vjp=lambda ct, p: ((ct, ct),)))(x),
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
@pytest.mark.parametrize("jit", [False, True])
def test_a_mistake_is_answered_with_the_line_of_the_call(name: str, jit: bool) -> None:
    error, message, f = MISTAKES[name]
    with pytest.raises(error, match=message) as caught:
        (fg.jit(f) if jit else f)(1.0)
    assert type(caught.value) is error
    assert "at test_callback.py:" in str(caught.value)
    assert fg.grad(wave)(0.0, 2.0) == 2.0


class MyError(Exception):
    pass


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("batched", [False, True])
def test_the_users_exception_comes_out_as_it_is_with_a_note(jit: bool, batched: bool) -> None:
    failing = [True]

    def fragile(x: Any) -> Any:
        if failing[0]:
            raise MyError("my own")
        return x

    def f(x: Any) -> Any:
        return pure_callback(fragile, x, x) * 2

    program = fg.vmap(f) if batched else f
    program = fg.jit(program) if jit else program
    with pytest.raises(MyError) as caught:
        program(X)
    assert str(caught.value) == "my own"
    (note,) = caught.value.__notes__
    assert note.startswith("in the callback fragile, called at test_callback.py:")
    assert "return pure_callback(fragile, x, x) * 2" in note
    failing[0] = False
    same(program(X), 2 * X)


def test_threads_run_one_program_with_a_callback() -> None:
    program = fg.jit(fg.grad(lambda x: wave(x, 2.0) * x))
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(program, np.linspace(0, 1, 64)))
    same(got, list(map(fg.grad(lambda x: np.sin(x) * 2.0 * x), np.linspace(0, 1, 64))))


# ── effects


def square(x: Any) -> Any:
    debug.print("x = {x}", x=x)
    return x**2


def reports(f: Callable[..., Any], count: int) -> Callable[[Any], Any]:
    """A function whose steps print what they carry."""

    def step(c: Any, i: Any) -> Any:
        debug.print("{} {}", i, c)
        return f(c), c

    return lambda x: lax.scan(step, x, np.arange(count))[0]


PRINTED: dict[str, tuple[Callable[[], Any], str]] = {
    "plain": (lambda: square(2.0), "x = 2.0"),
    "grad": (lambda: fg.grad(square)(2.0), "x = 2.0"),
    "vjp, pulled back twice": (lambda: list(map(fg.vjp(square, 2.0)[1], [1.0, 2.0])), "x = 2.0"),
    "grad(grad)": (lambda: fg.grad(fg.grad(square))(2.0), "x = 2.0"),
    "jit, run twice": (lambda: [fg.jit(square)(2.0) for _ in range(2)], "x = 2.0\nx = 2.0"),
    "jit(grad)": (lambda: fg.jit(fg.grad(square))(2.0), "x = 2.0"),
    "grad(jit)": (lambda: fg.grad(fg.jit(square))(2.0), "x = 2.0"),
    "jit(grad(jit))": (lambda: fg.jit(fg.grad(fg.jit(square)))(2.0), "x = 2.0"),
    "vmap": (lambda: fg.vmap(square)(np.array([1.0, 2.0])), "x = 1.0\nx = 2.0"),
    "jit(vmap(grad))": (lambda: fg.jit(fg.vmap(fg.grad(square)))(np.array([1.0, 2.0])), "x = 1.0\nx = 2.0"),
    "vmap of vmap": (
        lambda: fg.vmap(fg.vmap(lambda x, y: debug.print("{} {}", x, y), (0, None)), (None, 0))(
            np.array([1, 2]), np.array([3, 4])
        ),
        "1 3\n2 3\n1 4\n2 4",
    ),
    "vmap of what is shared": (lambda: fg.vmap(lambda x, y: square(y) * x, (0, None))(X, 2.0), "x = 2.0"),
    "make_jaxpr": (lambda: fg.make_jaxpr(square)(2.0), ""),
    "scan": (lambda: fg.jit(reports(square, 2))(2.0), "0 2.0\nx = 2.0\n1 4.0\nx = 4.0"),
    "grad of scan": (lambda: fg.jit(fg.grad(reports(square, 2)))(2.0), "0 2.0\nx = 2.0\n1 4.0\nx = 4.0"),
    "while_loop": (
        lambda: fg.jit(fg.grad(lambda x: lax.while_loop(lambda c: c < 10, square, x)))(2.0),
        "x = 2.0\nx = 4.0",
    ),
    "the branch of cond that runs": (
        lambda: fg.jit(fg.grad(lambda x: lax.cond(x > 0, square, lambda x: square(-x), x)))(-2.0),
        "x = 2.0",
    ),
    "vmap of a branch": (
        lambda: fg.jit(fg.vmap(fg.grad(lambda x: lax.cond(x > 2, square, lambda x: x, x))))(np.array([1.0, 3.0, 4.0])),
        "x = 3.0\nx = 4.0",
    ),
    "vmap of a while_loop": (
        lambda: fg.vmap(lambda x: lax.while_loop(lambda c: c < 10, square, x))(np.array([2.0, 5.0])),
        "x = 2.0\nx = 5.0\nx = 4.0",
    ),
    "a branch that closes over what it prints": (
        lambda: fg.jit(lambda x: lax.cond(x > 5, lambda: square(x), lambda: square(x + 1)))(2.0),
        "x = 3.0",
    ),
    "checkpoint": (lambda: fg.grad(fg.checkpoint(square))(2.0), "x = 2.0"),
    "jit(grad(checkpoint))": (lambda: fg.jit(fg.grad(fg.checkpoint(square)))(2.0), "x = 2.0"),
    "what nobody needs": (lambda: fg.jit(lambda x: (square(x), 3.0)[1])(2.0), "x = 2.0"),
    "before an error": (lambda: refused(fg.jit(lambda x: (square(x), fails(x)))), "x = 2.0"),
    "without a traced value": (lambda: fg.jit(lambda x: debug.print("call {}", 1))(2.0), "call 1"),
    "what a loop does not change": (
        lambda: fg.jit(lambda x: lax.scan(lambda c, _: (debug.print("{}", 2 * x), (c, None))[1], x, None, 2)[0])(1.0),
        "2.0\n2.0",
    ),
    "without a traced value in a loop of length 0": (
        lambda: fg.jit(lambda x: lax.scan(lambda c, _: (debug.print("step"), (c, None))[1], x, None, 0)[0])(1.0),
        "",
    ),
}


def fails(x: Any) -> None:
    def fail(x: Any) -> None:
        raise MyError(str(x))

    debug.callback(fail, x)


def refused(f: Callable[[Any], Any]) -> None:
    with pytest.raises(MyError):
        f(2.0)


@pytest.mark.parametrize("name", PRINTED)
def test_a_program_prints_in_the_forward_pass_once_for_each_example_and_step(name: str, capsys: Any) -> None:
    run, lines = PRINTED[name]
    run()
    assert capsys.readouterr().out == (lines and lines + "\n")


def test_a_program_prints_in_each_call(capsys: Any) -> None:
    f = fg.jit(lambda x: (debug.print("called"), square(x))[1])
    for _ in range(3):
        f(2.0)
    assert capsys.readouterr().out == "called\nx = 2.0\n" * 3


@pytest.mark.parametrize("jit", [False, True])
def test_formats_are_those_of_str_format(jit: bool, capsys: Any) -> None:
    def f(x: Any) -> Any:
        debug.print("{0:.2f} {y:>6.1e} {0} {p[a]} {y.shape} {n:d} {s}", x[1], y=x, p={"a": x[0]}, n=3, s="text")
        debug.print("{}", {"x": x[0], "n": 3}, ordered=True)
        return x

    (fg.jit(f) if jit else f)(X)
    assert capsys.readouterr().out == (
        "1.00 [5.0e-01 1.0e+00 1.5e+00] 1.0 0.5 (3,) 3 text\n" + f"{ {'x': np.float64(0.5), 'n': 3} }\n"
    )


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda x: debug.print("{} {}", x), "there is no argument 1"),
        (lambda x: debug.print("{y}", x=x), "there is no argument 'y'"),
        (lambda x: debug.print("x", x), "nothing refers to argument 0"),
        (lambda x: debug.print("{x:q}", x=x), "Unknown format code 'q'"),
        (lambda x: debug.print("{", x), "Single '{'"),
        (lambda x: debug.print("{x.foo}", x=x), "no attribute 'foo'"),
        (lambda x: debug.print(x), "takes a format string first"),
        (lambda x: debug.callback(x), "takes a function"),
    ],
)
def test_a_format_that_does_not_fit_is_found_while_tracing(call: Callable[[Any], Any], reason: str) -> None:
    for run in (lambda: call(2.0), lambda: fg.make_jaxpr(call)(2.0), lambda: fg.vmap(call)(X)):
        with pytest.raises(errors.ArgumentError) as caught:
            run()
        assert reason in str(caught.value)
        assert "at test_callback.py:" in str(caught.value)
        assert "__notes__" not in vars(caught.value)


def test_a_callback_may_keep_what_it_gets() -> None:
    kept: list[Any] = []

    def f(x: Any) -> Any:
        y = np.sin(x)
        debug.callback(kept.append, y)
        y = y * 2 + 1  # a program may do this in place
        debug.callback(lambda y, n, note: kept.append((y, n, note)), y, 3, note="twice")
        return y

    for run in (f, fg.jit(f), lambda x: fg.vjp(f, x)[0]):
        kept.clear()
        run(X)
        same(kept[0], np.sin(X))
        same(kept[1][0], 2 * np.sin(X) + 1)
        assert kept[1][1:] == (3, "twice")
        kept[0][:] = 0.0  # an array of its own


def test_a_cotangent_can_be_printed_by_a_custom_rule(capsys: Any) -> None:
    @fg.custom_vjp
    def shown(x: Any) -> Any:
        return x

    def back(_: None, g: Any) -> Any:
        debug.print("g = {}", g)
        return (g,)

    shown.defvjp(lambda x: (x, None), back)
    gradient = fg.grad(lambda x: np.sin(2 * shown(x)))
    for run in (gradient, fg.jit(gradient)):
        run(0.0)
        assert capsys.readouterr().out == "g = 2.0\n"


@pytest.mark.parametrize("jit", [False, True])
def test_an_exception_of_an_effect_comes_out_as_it_is(jit: bool) -> None:
    with pytest.raises(MyError) as caught:
        (fg.jit(fails) if jit else fails)(2.0)
    assert str(caught.value) == "2.0"
    assert caught.value.__notes__[0].startswith("in the callback fail, called at test_callback.py:")


def test_a_jaxpr_shows_an_effect_as_an_equation_without_results() -> None:
    assert "\n    effect['x = {x}'] a\n" in repr(fg.make_jaxpr(square)(2.0))


def test_threads_print_whole_lines(capsys: Any) -> None:
    program = fg.jit(square)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(program, range(64)))
    lines = capsys.readouterr().out.split()
    assert sorted(lines) == sorted(w for i in range(64) for w in ("x", "=", str(i)))
