"""fnp.vectorize: what numpy.vectorize does, without a loop over the elements, and with derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import funcgrad as fg
import funcgrad.numpy as fnp

Function = Callable[..., Any]
RANDOM = np.random.default_rng(0)

CORES: dict[str, tuple[Function, list[tuple[int, ...]]]] = {
    "(),()->()": (lambda a, b: a * b + 1, [(), ()]),
    "(n),(n)->()": (lambda a, b: (a * b).sum(), [(3,), (3,)]),
    "(m,n),(n)->(m)": (lambda a, b: a @ b, [(2, 3), (3,)]),
    "(m,n),(n,p)->(m,p)": (lambda a, b: a @ b, [(2, 3), (3, 2)]),
    "(n),()->(n),()": (lambda a, b: (a * b, a.sum() - b), [(3,), ()]),
    "(n),(m)->(n,m)": (lambda a, b: a[:, None] * b, [(3,), (2,)]),
}


@pytest.mark.parametrize("signature", CORES)
@settings(max_examples=20)
@given(data=st.data())
def test_it_gives_what_numpy_gives(signature: str, data: st.DataObject) -> None:
    f, cores = CORES[signature]
    loops = data.draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3)).input_shapes
    xs = [RANDOM.standard_normal(loop + core) for loop, core in zip(loops, cores, strict=True)]
    got, expected = fnp.vectorize(f, signature=signature)(*xs), np.vectorize(f, signature=signature)(*xs)
    assert isinstance(got, tuple) == isinstance(expected, tuple)
    for y, e in zip(*((out if isinstance(out, tuple) else (out,)) for out in (got, expected)), strict=True):
        assert type(y) is np.ndarray
        assert y.dtype == e.dtype
        np.testing.assert_allclose(y, e, rtol=1e-12)


@pytest.mark.parametrize("signature", CORES)
def test_it_is_differentiable(signature: str) -> None:
    f, cores = CORES[signature]
    xs = [RANDOM.standard_normal((*loop, *core)) for loop, core in zip([(2, 1), (3,)], cores, strict=True)]
    fg.testing.check_grads(fnp.vectorize(f, signature=signature), xs, order=2)


def test_a_function_of_numbers_needs_no_signature() -> None:
    f = fnp.vectorize(lambda a, b: fnp.where(a > b, a - b, a + b))
    np.testing.assert_array_equal(f([1, 2, 3, 4], 2), [3, 4, 1, 2])
    y = f(1.0, 2.0)
    assert type(y) is np.ndarray
    assert y.shape == ()


def test_the_function_is_called_once() -> None:
    calls: list[Any] = []

    @fnp.vectorize
    def f(x: Any, y: Any) -> Any:
        calls.append((x.shape, y.shape))
        return x * y

    f(np.ones((4, 1)), np.ones((2, 4, 5)))
    assert calls == [((), ())]


def test_as_a_decorator_with_options() -> None:
    @fnp.vectorize(signature="(n)->()")
    def norm(x: Any) -> Any:
        """The length."""
        return fnp.sqrt((x**2).sum())

    assert (norm.__name__, norm.__doc__) == ("norm", "The length.")
    assert norm([3.0, 4.0]) == 5.0
    assert norm(np.ones((2, 1, 4))).shape == (2, 1)
    assert fnp.vectorize(lambda x: x, doc="Other.").__doc__ == "Other."


def test_excluded_arguments_and_keywords_arrive_as_they_are() -> None:
    def f(p: Any, x: Any, *, flag: bool, shift: Any = 0.0) -> Any:
        assert p == [1.0, 2.0]
        assert flag is True
        return p[0] + p[1] * x + shift

    vectorized = fnp.vectorize(f, excluded={0, "flag"})
    np.testing.assert_array_equal(vectorized([1.0, 2.0], np.arange(3.0), flag=True), [1, 3, 5])
    np.testing.assert_array_equal(vectorized([1.0, 2.0], 1.0, flag=True, shift=np.arange(3.0)), [3, 4, 5])


def test_nothing_to_run_over() -> None:
    assert fnp.vectorize(lambda x: x * 2)(np.ones((0, 3))).shape == (0, 3)
    assert fnp.vectorize(lambda a, b: a @ b, signature="(m,n),(n)->(m)")(np.ones((0, 2, 3)), np.ones(3)).shape == (0, 2)
    assert fnp.vectorize(lambda: 1.0, signature="->()")() == 1.0


def test_traced_values_and_lists_of_them() -> None:
    f = fnp.vectorize(lambda a, b: (a * b).sum(), signature="(n),(n)->()")
    assert fg.grad(lambda x: f([x, 2 * x], np.ones((3, 2))).sum())(2.0) == 9.0
    rows = fnp.vectorize(fg.grad(lambda x: (x**3).sum()), signature="(n)->(n)")
    np.testing.assert_allclose(rows(np.ones((2, 3))), 3 * np.ones((2, 3)))


@pytest.mark.parametrize(
    ("call", "error", "expected"),
    [
        (
            lambda f: fnp.vectorize(f, "d"),  # type: ignore[arg-type]  # that is the point
            fg.errors.UnsupportedError,
            "(?s)otypes='d'.*astype",
        ),
        (
            lambda f: fnp.vectorize(3),  # type: ignore[arg-type]  # that is the point
            fg.errors.ArgumentError,
            r"vectorize takes a function, got a int \(3\)",
        ),
        (lambda f: fnp.vectorize(f, signature="(n->(n)"), fg.errors.ArgumentError, "is not a signature"),
        (lambda f: fnp.vectorize(f, signature="(n)"), fg.errors.ArgumentError, "is not a signature"),
        (lambda f: fnp.vectorize(f, signature="(n)->"), fg.errors.ArgumentError, "is not a signature"),
        (lambda f: fnp.vectorize(f, excluded={-1}), fg.errors.ArgumentError, r"excluded .* there is a int \(-1\)"),
        (
            lambda f: fnp.vectorize(f, signature="(n),(n)->()")(np.ones(2)),
            fg.errors.ArgumentError,
            "has 2 arguments, but the call 1",
        ),
        (
            lambda f: fnp.vectorize(f, signature="(n),(n)->()")(np.ones(2), np.ones(3)),
            fg.errors.ShapeError,
            "argument 1 has length 3 along 'n' of the signature .* which is 2 elsewhere",
        ),
        (
            lambda f: fnp.vectorize(f, signature="(m,n)->()")(np.ones(2)),
            fg.errors.ShapeError,
            r"argument 0 has shape \(2,\), .* 2 axes",
        ),
        (
            lambda f: fnp.vectorize(f)(np.ones((2, 3)), np.ones(2)),
            fg.errors.ShapeError,
            r"the shapes \(2, 3\), \(2,\) that it runs over do not broadcast",
        ),
        (
            lambda f: fnp.vectorize(f, signature="(n)->()")(np.ones((4, 3))),
            fg.errors.ShapeError,
            r"result 0 has shape \(3,\), .* 0 axes",
        ),
        (
            lambda f: fnp.vectorize(f, signature="(n)->(m),(m)")(np.ones((4, 3))),
            fg.errors.ArgumentError,
            "has 2 results, but the function returned 1",
        ),
        (
            lambda f: fnp.vectorize(lambda x, y: x[:2], signature="(n),(m)->(m)")(np.ones((4, 3)), np.ones(3)),
            fg.errors.ShapeError,
            "result 0 has length 2 along 'm'",
        ),
        (
            lambda f: fnp.vectorize(lambda x, limit: x if x < limit else limit)(np.ones(3), np.ones(3)),
            fg.errors.TracedBoolError,
            "(?s)argument 'x', argument 'limit'.*where",
        ),
    ],
)
def test_what_does_not_fit_is_named(call: Function, error: Any, expected: str) -> None:
    with pytest.raises(error, match=expected):
        call(lambda x, y=1: x)
