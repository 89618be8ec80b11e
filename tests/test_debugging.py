"""Tools that watch a computation: for a NaN, for an infinity, for leaks; what is saved; what is closed over."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import errors, lax
from funcgrad.core.watch import watching
from funcgrad.transforms.callback import pure_callback
from funcgrad.transforms.closure import closure_convert
from funcgrad.transforms.debugging import checking_leaks, debug_infs, debug_nans
from funcgrad.transforms.residuals import print_saved_residuals, saved_residuals
from tests.test_nesting import FUNCTIONS, TRANSFORMATIONS, X

# ── NaNs and infinities


def log(x: Any) -> Any:
    return np.log(x - 1.0)


def safe_looking(x: Any) -> Any:
    root = np.sqrt(x)
    return np.sum(root**2)


def difference_of_roots(x: Any) -> Any:
    return np.sqrt(x) - np.sqrt(x)


def steps(x: Any) -> Any:
    return lax.scan(lambda c, _: (np.log(c), c), x, None, length=4)[0]


def looped(x: Any) -> Any:
    return lax.while_loop(lambda c: c[1] < 4, lambda c: (np.log(c[0]), c[1] + 1), (x, 0))[0]


def branched(x: Any) -> Any:
    return lax.cond(x > 0, lambda x: np.log(x - 1), lambda x: x, x)


@fg.custom_vjp
def custom(x: Any) -> Any:
    return x


custom.defvjp(lambda x: (x, x), lambda x, g: (g / x - g / x,))

NAN = np.array([1.0, np.nan])

# what runs; the first line of the message; the line of this file
FOUND: dict[str, tuple[Callable[[], Any], str, str]] = {
    "forward": (lambda: fg.grad(log)(0.5), "log gives NaN in the forward pass, where x = -0.5", "np.log(x - 1.0)"),
    "forward, of vjp": (
        lambda: fg.vjp(log, 0.5),
        "log gives NaN in the forward pass, where x = -0.5",
        "np.log(x - 1.0)",
    ),
    "forward, of jit": (
        lambda: fg.jit(log)(0.5),
        "log gives NaN in the forward pass, where x = -0.5",
        "np.log(x - 1.0)",
    ),
    "forward, of vmap": (
        lambda: fg.vmap(log)(np.array([3.0, 2.0, 0.5, 0.0])),
        "log gives NaN in 2 of 4 elements in the forward pass, first at [2], where x = -0.5",
        "np.log(x - 1.0)",
    ),
    "forward, of a scan": (
        lambda: fg.jit(steps)(1.5),
        "log gives NaN in the forward pass, where x = -0.90272",
        "lax.scan(lambda c, _: (np.log(c), c)",
    ),
    "forward, of a while loop": (
        lambda: fg.jit(looped)(1.5),
        "log gives NaN in the forward pass, where x = -0.90272",
        "(np.log(c[0]), c[1] + 1)",
    ),
    "forward, of a branch": (
        lambda: fg.jit(branched)(0.5),
        "log gives NaN in the forward pass, where x = -0.5",
        "lambda x: np.log(x - 1)",
    ),
    "forward, of a callback": (
        lambda: fg.jit(lambda x: x * pure_callback(lambda x: x * np.nan, x, x))(1.0),
        "pure_callback gives NaN in the forward pass, where x = 1.0",
        "pure_callback(lambda",
    ),
    "several operands": (
        lambda: fg.grad(lambda x: np.sum(x - np.array([0.0, np.inf])))(np.array([1.0, np.inf])),
        "subtract gives NaN in 1 of 2 elements in the forward pass, at [1], where x1 = inf, x2 = inf",
        "np.array([0.0, np.inf])",
    ),
    "complex": (
        lambda: fg.grad(lambda z: abs(z * complex(np.inf, 0)))(1j),
        "multiply gives NaN in the forward pass, where x1 = 1j, x2 = (inf+0j)",
        "complex(np.inf, 0)",
    ),
    "backward": (
        lambda: fg.grad(safe_looking)(np.array([4.0, 0.0])),
        "the pullback of sqrt gives NaN in 1 of 2 elements in the backward pass, at [1], where g = 0.0, y = 0.0",
        "root = np.sqrt(x)",
    ),
    "backward, of vjp": (
        lambda: fg.vjp(safe_looking, 0.0)[1](1.0),
        "the pullback of sqrt gives NaN in the backward pass, where g = 0.0, y = 0.0",
        "root = np.sqrt(x)",
    ),
    "backward, of grad(jit)": (
        lambda: fg.grad(fg.jit(safe_looking))(0.0),
        "divide, in the pullback of sqrt, gives NaN in the backward pass, where x1 = 0.0, x2 = 0.0",
        "root = np.sqrt(x)",
    ),
    "backward, of jit(grad)": (
        lambda: fg.jit(fg.grad(safe_looking))(0.0),
        "divide, in the pullback of sqrt, gives NaN in the backward pass, where x1 = 0.0, x2 = 0.0",
        "root = np.sqrt(x)",
    ),
    "backward, of vmap(grad)": (
        lambda: fg.vmap(fg.grad(safe_looking))(np.array([1.0, 0.0])),
        "the pullback of sqrt gives NaN in 1 of 2 elements in the backward pass, at [1], where g = 0.0, y = 0.0",
        "root = np.sqrt(x)",
    ),
    "backward, of a scan": (
        lambda: fg.jit(fg.grad(lambda x: lax.scan(lambda c, _: (safe_looking(c), None), x, None, length=2)[0]))(0.0),
        "divide, in the pullback of sqrt, gives NaN in the backward pass",
        "root = np.sqrt(x)",
    ),
    "backward, of a checkpoint": (
        lambda: fg.grad(fg.checkpoint(safe_looking))(0.0),
        "divide, in the pullback of sqrt, gives NaN in the backward pass",
        "root = np.sqrt(x)",
    ),
    "backward, of a custom rule": (
        lambda: fg.grad(lambda x: 3 * custom(2 * x))(0.0),
        "the pullback of custom gives NaN in the backward pass",
        "3 * custom(2 * x)",
    ),
    "backward, of the inner gradient": (
        lambda: fg.grad(fg.grad(lambda x: np.sum(np.sqrt(x) ** 4)))(0.0),
        "the pullback of sqrt gives NaN in the backward pass, where g = 0.0, y = 0.0",
        "np.sqrt(x) ** 4",
    ),
    "a sum of cotangents": (
        lambda: fg.grad(difference_of_roots)(0.0),
        "the sum of the cotangents of argument 'x' gives NaN in the backward pass",
        "fg.grad(difference_of_roots)",
    ),
    "a sum of cotangents on the way": (
        lambda: fg.grad(lambda x: difference_of_roots(2 * x))(0.0),
        "the sum of the cotangents of the result of multiply gives NaN in the backward pass",
        "(2 * x)",
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_the_operation_that_makes_a_nan_is_named_with_its_pass_and_its_line(name: str) -> None:
    run, message, line = FOUND[name]
    with debug_nans(), pytest.raises(errors.NaNError) as caught:
        run()
    assert isinstance(caught.value, FloatingPointError)
    what, at, fix = str(caught.value).split("\n")
    assert what.startswith(f"[FG020] {message}")
    assert re.match(r"  at test_debugging\.py:\d+ in ", at)
    assert line in at
    assert fix.startswith("  Fix: ")
    with np.errstate(all="ignore"):
        run()
    assert watching() is None


UNREMARKABLE: dict[str, Callable[[], Any]] = {
    "a NaN that comes in": lambda: fg.grad(lambda x: np.nansum(x**2))(NAN),
    "a NaN that is closed over": lambda: fg.grad(lambda x: np.sum(x * NAN))(np.ones(2)),
    "a NaN that is closed over, before the rest of the walk back": lambda: fg.grad(
        lambda x, y: np.sum(np.sin(y)) + np.sum(x * NAN), (0, 1)
    )(np.ones(2), np.ones(2)),
    "a NaN that is written": lambda: fg.jit(lambda x: np.where(x > 0, x, np.nan))(np.array([-1.0, 1.0])),
    "a NaN that is moved": lambda: fg.grad(lambda x: fnp.concatenate([x, [np.nan]])[0])(np.ones(1)),
    "an infinity": lambda: fg.grad(lambda x: 1 / x)(0.0),
    "integers": lambda: fg.jit(lambda x: x // 2 + np.argmax(np.ones(3)))(5),
}


@pytest.mark.parametrize(
    "transform",
    [
        fg.grad,
        lambda f: fg.grad(fg.jit(f)),
        lambda f: fg.jit(fg.grad(f)),
        lambda f: fg.grad(lambda x: fg.grad(f)(x).sum()),
        lambda f: fg.jit(fg.grad(lambda x: fg.grad(f)(x).sum())),
        lambda f: lambda x: fg.vmap(fg.grad(f))(np.stack([x, x])),
        lambda f: lambda x: fg.jit(fg.vmap(fg.grad(f)))(np.stack([x, x])),
        lambda f: fg.grad(fg.checkpoint(f)),
    ],
    ids=lambda transform: "",
)
def test_the_slope_of_a_branch_that_is_not_taken_is_not_looked_at(transform: Any) -> None:
    def f(x: Any) -> Any:
        return np.where(x > 0, np.sqrt(x), 0.0).sum() + np.where(x > 0, x * np.sqrt(x), 0.0).sum()

    with debug_nans(), debug_infs():
        assert np.all(np.isfinite(transform(f)(np.array([0.0, 1.0]))))


@pytest.mark.parametrize("name", UNREMARKABLE)
def test_what_makes_no_nan_passes(name: str) -> None:
    with debug_nans(), np.errstate(divide="ignore"):
        UNREMARKABLE[name]()


@pytest.mark.parametrize("transform", [lambda f: f, fg.jit], ids=["plain", "jit"])
def test_an_infinity_is_found_where_it_is_made(transform: Any) -> None:
    with debug_infs():
        with pytest.raises(errors.NaNError, match=r"sqrt(,| )(.|\n)*an infinity in the backward pass(.|\n)*sqrt\(x\)"):
            transform(fg.grad(lambda x: np.sqrt(x)))(0.0)
        with pytest.raises(errors.NaNError, match="divide gives an infinity in the forward pass, where x1 = 1, x2 = 0"):
            transform(fg.grad(lambda x: 1 / x))(0.0)
        with pytest.raises(errors.NaNError, match="exp gives an infinity in the forward pass, where x = 1000"):
            fg.jit(np.exp)(1000.0)
        with pytest.raises(
            errors.NaNError, match=r"power, in the pullback of power,( in the pullback of power,)? gives"
        ):
            transform(fg.grad(fg.grad(lambda x: x**1.5)))(0.0)
        assert transform(fg.grad(lambda x: x * 2))(np.inf) == 2.0


def test_a_nan_of_an_infinity_leads_to_debug_infs() -> None:
    with debug_nans(), pytest.raises(errors.NaNError, match=r"Fix: debug_infs\(\) finds where the infinity comes from"):
        fg.grad(lambda x: x - x)(np.inf)


def test_the_watch_ends_with_the_block_and_may_be_interrupted() -> None:
    program = fg.jit(log)
    with np.errstate(invalid="ignore"):
        assert np.isnan(program(0.5))
        with debug_nans():
            with pytest.raises(errors.NaNError):
                program(0.5)
            with debug_nans(False):
                assert np.isnan(program(0.5))
            with pytest.raises(errors.NaNError), debug_infs():
                program(0.5)
        assert np.isnan(program(0.5))


def test_a_pullback_is_watched_where_it_is_called() -> None:
    _, pullback = fg.vjp(safe_looking, 0.0)
    with debug_nans():
        with pytest.raises(errors.NaNError, match="the pullback of sqrt gives NaN in the backward pass"):
            pullback(1.0)
        _, pullback = fg.vjp(safe_looking, 0.0)
    assert np.isnan(pullback(1.0)[0])


def test_a_watch_holds_for_its_thread() -> None:
    def elsewhere() -> Any:
        with np.errstate(invalid="ignore"):
            return fg.jit(fg.grad(safe_looking))(0.0)

    with ThreadPoolExecutor(1) as pool, debug_nans():
        assert np.isnan(pool.submit(elsewhere).result())
        with pytest.raises(errors.NaNError):
            elsewhere()


def test_a_watched_program_gives_arrays_of_its_own() -> None:
    program = fg.jit(lambda x: (x, x.T, x + 0))
    x = np.ones((2, 2))
    with debug_nans():
        for y in program(x):
            assert y.flags.writeable
            assert not np.shares_memory(x, y)


def test_an_error_of_a_watched_program_names_its_line() -> None:
    program = fg.jit(lambda x, i: x[i])
    program(np.ones(3), 1)
    with debug_nans(), pytest.raises(errors.OutOfBoundsError, match=r"at test_debugging\.py:\d+ in <lambda>: .*x\[i\]"):
        program(np.ones(3), 5)


PAIRS = [(t1, t2) for t1 in TRANSFORMATIONS for t2 in TRANSFORMATIONS]


@pytest.mark.parametrize("order", PAIRS, ids=" ".join)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_watching_changes_nothing_and_finds_nothing_where_nothing_is(name: str, order: tuple[str, str]) -> None:
    f = FUNCTIONS[name][0]
    for transformation in reversed(order):
        f = TRANSFORMATIONS[transformation](f)
    with debug_nans(), debug_infs():
        watched = f(X)
    np.testing.assert_allclose(watched, f(X), rtol=1e-9)


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_nothing_leaks_from_any_transformation(name: str, transformation: str) -> None:
    fg.clear_caches()
    with checking_leaks():
        TRANSFORMATIONS[transformation](FUNCTIONS[name][0])(X)


def test_the_lines_of_a_staged_gradient_are_those_of_the_forward_pass() -> None:
    jaxpr = fg.make_jaxpr(fg.grad(safe_looking))(2.0)
    sources = {e.primitive.name: e.source for e in jaxpr.equations if e.source is not None}
    assert "np.sqrt(x)" in str(sources["divide"])
    assert sources["divide"].pulled == ("sqrt",)
    assert sources["sqrt"].pulled == ()


# ── leaks

kept: list[Any] = []
cache: dict[str, Any] = {}
last: Any = None


class Model:
    def __call__(self, x: Any) -> Any:
        self.hidden = np.sin(x)
        return self.hidden


class Slotted:
    __slots__ = ("hidden",)

    def __call__(self, x: Any) -> Any:
        self.hidden = np.sin(x)
        return self.hidden


def keeps(x: Any) -> Any:
    kept.append(x * 2)
    return x


def caches(x: Any) -> Any:
    cache["rows"] = ({"x": x},)
    return x


def remembers(x: Any) -> Any:
    global last
    last = x + 1
    return last


def with_closure() -> Callable[[Any], Any]:
    y = None

    def inner(x: Any) -> Any:
        nonlocal y
        y = x + 1
        return x

    return inner


def with_generator() -> Callable[[Any], Any]:
    def count(x: Any) -> Any:
        while True:
            yield (x := x + 1)

    running = []

    def f(x: Any) -> Any:
        running.append(count(x))
        return next(running[0])

    return f


LEAKS: dict[str, tuple[Callable[[], Any], str]] = {
    "list": (lambda: keeps, "a list in global variable 'kept'"),
    "containers": (lambda: caches, "a dict in a tuple in a dict in global variable 'cache'"),
    "global": (lambda: remembers, "global variable 'last'"),
    "attribute": (Model, "attribute 'hidden' of a Model"),
    "slot": (Slotted, "attribute 'hidden' of a Slotted"),
    "closure": (with_closure, "variable 'y' in the closure of inner"),
    "generator": (with_generator, "generator count"),
}
STARTS: dict[str, Callable[[Callable[[Any], Any]], Any]] = {
    "grad": lambda f: fg.grad(f)(1.0),
    "vjp": lambda f: fg.vjp(f, 1.0),
    "vmap": lambda f: fg.vmap(f)(np.ones(3)),
    "jit": lambda f: fg.jit(f)(1.0),
    "make_jaxpr": lambda f: fg.make_jaxpr(f)(1.0),
}


@pytest.mark.parametrize("name", LEAKS)
@pytest.mark.parametrize("start", STARTS)
def test_a_leak_is_reported_with_who_holds_it_and_the_line_that_made_it(name: str, start: str) -> None:
    global last
    make, holder = LEAKS[name]
    f = make()
    try:
        with checking_leaks(), pytest.raises(errors.LeakedTracerError) as caught:
            STARTS[start](f)
    finally:
        kept.clear()
        cache.clear()
        last = None
    what, at, fix = str(caught.value).split("\n")
    assert what.startswith("[FG008] ")
    assert f"{start}(" in what
    assert "is still referred to after the tracing has ended" in what
    assert what.endswith(f": by {holder}")
    assert re.match(r"  at test_debugging\.py:\d+ in ", at)
    if name not in ("containers", "generator"):
        assert re.search(r"x \* 2|x \+ 1|np\.sin\(x\)", at)
    assert "has_aux=True" in fix
    assert watching() is None


def test_a_leaked_argument_is_called_by_its_name() -> None:
    with checking_leaks(), pytest.raises(errors.LeakedTracerError, match=r"the traced argument 'x' of grad\(caches\)"):
        fg.grad(caches)(1.0)
    cache.clear()


def test_a_local_variable_that_holds_a_leak_is_named() -> None:
    values: list[Any] = []
    append = values.append
    with checking_leaks(), pytest.raises(errors.LeakedTracerError, match="a list in variable 'values' of test_a_local"):
        fg.grad(lambda x: append(x * 2) or x)(1.0)


def test_a_pullback_that_leaves_its_batch_is_a_leak() -> None:
    def f(x: Any) -> Any:
        cache["pullback"] = fg.vjp(np.sin, x)[1]
        return x

    with checking_leaks(), pytest.raises(errors.LeakedTracerError, match="pullback"):
        fg.vmap(f)(np.ones(3))
    cache.clear()


def test_what_is_left_over_in_a_cycle_is_no_leak() -> None:
    def f(x: Any) -> Any:
        cycle: list[Any] = [x]
        cycle.append(cycle)
        return x

    with checking_leaks():
        assert fg.grad(f)(1.0) == 1.0


def test_threads_that_look_for_leaks_do_not_disturb_each_other() -> None:
    def run(x: float) -> Any:
        with checking_leaks():
            return fg.vmap(fg.grad(lambda x: np.sin(x) ** 2))(np.full(3, x))

    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(run, np.linspace(0, 1, 16)))
    np.testing.assert_allclose(np.stack(got)[:, 0], np.sin(2 * np.linspace(0, 1, 16)))


def test_an_error_within_the_function_comes_out_as_it_is_also_where_something_leaks() -> None:
    def f(x: Any) -> Any:
        kept.append(x)
        raise KeyError("mine")

    with checking_leaks(), pytest.raises(KeyError, match="mine"):
        fg.grad(f)(1.0)
    kept.clear()


# ── settings in the environment


def in_environment(variable: str, code: str) -> str:
    environment = {**os.environ, variable: "1"}
    code = f"import threading, numpy as np, funcgrad as fg\n{code}"
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    return run.stderr


def test_the_environment_switches_a_watch_on_everywhere() -> None:
    there = in_environment("FUNCGRAD_DEBUG_NANS", "fg.jit(lambda x: np.log(x))(-1.0)")
    assert "NaNError: [FG020] log gives NaN" in there
    threaded = "threading.Thread(target=fg.grad(lambda x: np.sqrt(x)), args=(0.0,)).start()"
    assert "sqrt gives an infinity in the backward pass" in in_environment("FUNCGRAD_DEBUG_INFS", threaded)
    leak = "kept = []\nfg.grad(lambda x: kept.append(x) or x)(1.0)"
    assert "a list in global variable 'kept'" in in_environment("FUNCGRAD_CHECK_TRACER_LEAKS", leak)


# ── what is saved


def sized(f: Callable[..., Any], *args: Any) -> list[tuple[str, int, str]]:
    return [(repr(r.type), r.nbytes, r.origin.partition(", at")[0]) for r in saved_residuals(f, *args)]


V = np.ones(3)


def test_residuals_are_listed_with_their_origin() -> None:
    assert sized(lambda x, y: np.sum(np.sin(x) * y), V, V + 0) == [
        ("f64[3]", 24, "argument 'x'"),
        ("f64[3]", 24, "output of sin"),
        ("f64[3]", 24, "argument 'y'"),
    ]
    assert sized(lambda p, n: p["w"] * n * V, {"w": 2.0, "b": V}, 3) == [("f64[3]", 24, "a constant")]
    assert sized(lambda p: p["w"] * p["b"][0], {"w": 2.0, "b": [V]}) == [
        ("f64[]", 8, "argument 'p' leaf ['w']"),
        ("f64[3]", 24, "argument 'p' leaf ['b'][0]"),
    ]
    assert sized(lambda x: x * 2.0 + 1.0, V) == []
    assert sized(lambda m: np.linalg.eigh(m)[1], np.diag([1.0, 2.0])) == [
        ("f64[2]", 16, "output of eigh"),
        ("f64[2,2]", 32, "output of eigh"),
    ]


def test_the_line_of_a_residual_is_that_which_computes_it() -> None:
    (exp,) = saved_residuals(lambda x: np.exp(x), V)
    assert re.fullmatch(r"output of exp, at test_debugging\.py:\d+ in <lambda>: .*np\.exp\(x\).*", exp.origin)


def test_a_view_takes_no_memory_of_its_own() -> None:
    residuals = sized(lambda x: np.sum(x.T * np.exp(x)), np.ones((2, 2)))
    assert sum(nbytes for _, nbytes, _ in residuals) == 2 * 32
    (repeated,) = sized(lambda x: x * np.broadcast_to(V, (1000, 3)), np.ones(3))
    assert repeated == ("f64[1000,3]", 24, "a constant")


def test_what_programs_save_is_found_within_them() -> None:
    def block(x: Any) -> Any:
        return np.sin(np.exp(x))

    assert {origin for _, _, origin in sized(fg.jit(block), V)} == {"output of exp", "output of cos"}
    assert sized(fg.checkpoint(block), V) == [("f64[3]", 24, "argument 'x'")]

    def loop(x: Any) -> Any:
        return fg.jit(lambda x: lax.scan(lambda c, _: (np.exp(c) * x, None), x, None, length=5)[0])(x)

    scanned = saved_residuals(loop, 0.1)
    assert ("f64[]", 8, "argument 'x'") in sized(loop, 0.1)
    assert any(r.type.shape == (5,) and "output of exp" in r.origin and "for each step" in r.origin for r in scanned)
    assert "output of sin" in {
        origin for *_, origin in sized(fg.jit(lambda x: lax.cond(x > 0, lambda x: x * np.sin(x), lambda x: x, x)), 1.0)
    }


def test_what_a_custom_rule_saves_is_listed() -> None:
    @fg.custom_vjp
    def f(x: Any) -> Any:
        return np.sin(x)

    f.defvjp(lambda x: (np.sin(x), {"slope": np.cos(x)}), lambda saved, g: (g * saved["slope"],))
    assert sized(f, V) == [("f64[3]", 24, "saved by the rule of f")]


def test_printed_residuals_are_a_table_with_a_sum(capsys: Any) -> None:
    print_saved_residuals(
        lambda x: np.sum(np.sin(x) * x),
        np.ones((1000, 3)),
    )
    first, second, total = capsys.readouterr().out.splitlines()
    assert first == "float64[1000,3]  24,000 bytes  argument 'x'"
    assert second.startswith("float64[1000,3]  24,000 bytes  output of sin, at test_debugging.py:")
    assert total == "total: 48,000 bytes"
    print_saved_residuals(lambda x: 2 * x, 1.0)
    assert capsys.readouterr().out == "total: 0 bytes\n"


# ── closures


def test_a_converted_function_has_no_hidden_inputs() -> None:
    w, n = np.array([1.0, 2.0]), np.array([1, 2])

    def f(p: Any, x: Any) -> Any:
        return {"y": p["k"] * 5.0 * w * n * x}

    converted, consts = closure_convert(f, {"k": 1.0}, 1.0)
    assert converted.__name__ == "f"
    assert [id(c) for c in consts] == [id(w)]
    np.testing.assert_array_equal(converted({"k": 2.0}, 3.0, *consts)["y"], f({"k": 2.0}, 3.0)["y"])
    gradient = fg.grad(lambda w: np.sum(converted({"k": 2.0}, 3.0, w)["y"]))(w)
    np.testing.assert_array_equal(gradient, 30.0 * n)


def test_a_traced_value_in_the_closure_becomes_an_argument() -> None:
    def solve(f: Callable[[Any], Any], x: Any) -> Any:
        converted, consts = closure_convert(f, x)

        @fg.custom_vjp
        def run(x: Any, consts: Any) -> Any:
            return converted(x, *consts)

        def back(saved: Any, g: Any) -> Any:
            x, consts = saved
            _, pullback = fg.vjp(lambda consts: converted(x, *consts), consts)
            return None, pullback(g)[0]

        run.defvjp(lambda x, consts: (converted(x, *consts), (x, consts)), back)
        return run(x, consts)

    gradient = fg.grad(lambda a: solve(lambda x: np.sin(a * x), 2.0))
    for run in (gradient, fg.jit(gradient)):
        np.testing.assert_allclose(run(0.3), 2 * np.cos(0.6))


def test_a_converted_function_takes_what_the_examples_were_like() -> None:
    converted, consts = closure_convert(lambda x: x["a"] * V, {"a": 1.0})
    np.testing.assert_array_equal(converted({"a": np.float64(2.0)}, *consts), 2 * V)
    with pytest.raises(errors.ArgumentError, match="takes 1 arguments and 1 constants, got 1 in all"):
        converted({"a": 2.0})
    with pytest.raises(errors.TreeError, match="another structure than in the examples"):
        converted({"b": 2.0}, *consts)
    with pytest.raises(errors.ArgumentError, match=r"takes float64\[\] at \[0\]\['a'\] of its .* got float64\[3\]"):
        converted({"a": V}, *consts)
    with pytest.raises(errors.ArgumentError, match=r"takes float64\[3\] at \[1\] of its arguments, got float64\[\]"):
        converted({"a": 2.0}, np.float64(1.0))
