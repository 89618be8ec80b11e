"""Each function is called as NumPy's: the same arguments, by position and by name, with the same defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp

Function = Callable[..., Any]

OMITTED = {
    "like": "another library's array, which decides whose function runs: here it is this one",
    "device": "NumPy has one device, the CPU",
}
NO_VALUE = np._NoValue  # NumPy's mark of a missing argument, where None is a value; any default will do
X = np.array([[1.0, -2.0], [3.0, 4.0]])


def functions() -> list[Any]:
    found = []
    for ours, theirs, prefix in ((fnp, np, ""), (fnp.linalg, np.linalg, "linalg.")):
        for name in ours.__all__:
            function, numpy_function = getattr(ours, name), getattr(theirs, name, None)
            if isinstance(function, FunctionType) and callable(numpy_function):
                found.append(pytest.param(function, numpy_function, id=prefix + name))
    return found


def signature(numpy_function: Function) -> inspect.Signature:
    try:
        return inspect.signature(numpy_function)
    except ValueError:
        pytest.skip("this version of NumPy does not say")


@pytest.mark.parametrize(("function", "numpy_function"), functions())
def test_the_arguments_are_those_of_numpy(function: Function, numpy_function: Function) -> None:
    ours = inspect.signature(function).parameters
    for place, theirs in enumerate(signature(numpy_function).parameters.values()):
        if theirs.name in OMITTED or theirs.kind in (theirs.VAR_KEYWORD, theirs.VAR_POSITIONAL):
            continue
        assert theirs.name in ours
        mine = ours[theirs.name]
        if theirs.kind is not theirs.KEYWORD_ONLY:
            assert mine.kind is not mine.KEYWORD_ONLY
            assert list(ours).index(theirs.name) == place
        if theirs.kind is not theirs.POSITIONAL_ONLY:
            assert mine.kind is not mine.POSITIONAL_ONLY
        if theirs.default is NO_VALUE:
            assert mine.default is not mine.empty
        else:
            assert mine.default == theirs.default


@pytest.mark.parametrize(("function", "numpy_function"), functions())
def test_what_takes_no_other_arguments_has_none_in_its_signature_either(
    function: Function, numpy_function: Function
) -> None:
    theirs = signature(numpy_function).parameters.values()
    further = set(inspect.signature(function).parameters) - {p.name for p in theirs}
    assert not further or any(p.kind is p.VAR_KEYWORD for p in theirs)


CALLS: dict[str, Function] = {
    "zeros_like(subok)": lambda x: np.zeros_like(x, subok=False) + x,
    "ones_like by position": lambda x: np.ones_like(x, None, "K", True, (2, 2)) * x,
    "empty_like(prototype)": lambda x: x[: len(fnp.empty_like(prototype=x))],
    "full_like by position": lambda x: np.full_like(x, x[0, 0], None, "K", True, (3,)),
    "add(casting)": lambda x: np.add(x, x, casting="same_kind", order="K", subok=True, where=True),
    "sign(dtype)": lambda x: np.sign(x, dtype=np.float64) * x,
    "sin(dtype)": lambda x: np.sin(x, dtype=np.float32).astype(np.float64),
    "divmod(out)": lambda x: np.divmod(x, 3.3, out=(None, None))[1],
    "float_power(dtype)": lambda x: np.float_power(x, 3, dtype=np.float64),
    "matmul(order)": lambda x: fnp.matmul(x, x, order="K", subok=True),
    "clip(casting)": lambda x: np.clip(x, -1, 3, casting="same_kind"),
    "concat": lambda x: np.concat([x, x], dtype=np.float64, casting="safe"),
    "permute_dims": lambda x: np.permute_dims(x, (1, 0)) * x,
    "copy(subok)": lambda x: np.copy(x, "K", False),
    "array(ndmin, ndmax)": lambda x: fnp.array(x, ndmin=3, subok=False, ndmax=0),
    "astype by position": lambda x: x.astype(np.float32, "K", "same_kind", True, False).astype(float),
}


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("name", CALLS)
def test_a_call_with_every_kind_of_argument_differentiates(name: str) -> None:
    f = CALLS[name]
    value, _ = fg.vjp(f, X)
    if name != "full_like by position":
        np.testing.assert_array_equal(value, f(X))
    if "float32" not in name and name not in ("sin(dtype)", "astype by position", "full_like by position"):
        fg.testing.check_grads(f, (X,), order=1)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: np.add(x, x, casting="unsafe"),
        lambda x: np.add(x, x, order="F"),
        lambda x: np.add(x, x, subok=False),
        lambda x: np.sin(x, signature="f->f"),
        lambda x: np.sin(x, where=x > 0),
        lambda x: np.sign(x, where=x > 0),
        lambda x: fnp.sin(x, bogus=3),
        lambda x: np.matmul(x, x, axes=[(0, 1), (0, 1), (0, 1)]),
        lambda x: np.clip(x, 0, 1, dtype=np.float32),
        lambda x: fnp.add(x, 1, out=np.zeros(3)),
        lambda x: fnp.logaddexp2(x, 1, np.zeros(3)),
    ],
)
def test_an_argument_without_a_meaning_is_refused(call: Function) -> None:
    with pytest.raises(fg.errors.UnsupportedError, match="Fix: "):
        fg.grad(lambda x: call(x).sum())(X)


def test_plain_arrays_have_all_of_numpys_arguments() -> None:
    assert fnp.add(X, X, order="F").flags.f_contiguous
    assert fnp.add(1.5, 1, dtype=int, casting="unsafe") == 2
    assert fnp.clip(X, 0, 1, dtype=np.float32).dtype == np.float32
    assert fnp.matmul(X, X, order="F").flags.f_contiguous
    assert fnp.unique([2, 1], sorted=True).tolist() == [1, 2]


@pytest.mark.parametrize("casting", ["no", "equiv", "safe", "same_kind", "unsafe"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.complex128, bool])
def test_astype_allows_what_numpy_allows(dtype: Any, casting: Any) -> None:
    def allowed(x: Any) -> bool:
        try:
            x.astype(dtype, casting=casting)
        except TypeError:
            return False
        return True

    traced = []
    fg.make_jaxpr(lambda x: traced.append(allowed(x)))(X)
    assert traced == [allowed(X)]


def test_astype_refuses_what_is_no_argument_of_it() -> None:
    for options in ({"bogus": 3}, {"casting": "sometimes"}):
        with pytest.raises((TypeError, ValueError)):
            fg.grad(lambda x, options=options: x.astype(float, **options).sum())(X)


RAGGED = [[1.0], [2.0, 3.0]]
MISUSES: dict[str, tuple[Function, type[Exception]]] = {
    "a dtype that is none": (lambda m, x: m.sum(x, dtype="nonsense"), TypeError),
    "a dtype of a ufunc that is none": (lambda m, x: m.sin(x, dtype=3.5), TypeError),
    "a dtype without a loop": (lambda m, x: m.hypot(x, x, dtype=int), TypeError),
    "mean of a dtype that is none": (lambda m, x: m.mean(x, dtype="nonsense"), TypeError),
    "None as an operand": (lambda m, x: m.add(x, None), TypeError),
    "a dict as an operand": (lambda m, x: m.multiply({"a": 1}, x), TypeError),
    "text as an operand": (lambda m, x: m.maximum(x, "abc"), TypeError),
    "a ragged list as an operand": (lambda m, x: m.add(x, RAGGED), ValueError),
    "a ragged list as a matrix": (lambda m, x: m.matmul(x, RAGGED), ValueError),
    "operands that do not broadcast": (lambda m, x: m.divmod(x, np.ones(5)), ValueError),
    "closeness of what does not broadcast": (lambda m, x: m.isclose(x, np.ones(5)), ValueError),
    "bounds that do not broadcast": (lambda m, x: m.linspace(x, np.ones(5)), ValueError),
    "an indexing of meshgrid": (lambda m, x: fnp.meshgrid(x[0], x[1], indexing="a"), ValueError),
    "a lossy join": (lambda m, x: m.concatenate([x, x], dtype=int, casting="safe"), TypeError),
}


@pytest.mark.parametrize("name", MISUSES)
def test_a_misuse_raises_the_class_of_numpy_and_says_what_to_do(name: str) -> None:
    call, error = MISUSES[name]
    with pytest.raises(error):
        call(np, X)
    with pytest.raises(error, match="Fix: ") as raised:
        fg.grad(lambda x: call(np, x) and x.sum())(X)
    assert isinstance(raised.value, fg.errors.FuncgradError)
    with pytest.raises(error, match="Fix: "):
        fg.make_jaxpr(lambda x: call(fnp, x))(X)
