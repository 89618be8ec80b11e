"""What a primitive says of itself to a compiler: where its elements come from, where they go, how it is made of others.

Each description is followed literally, with plain NumPy on flat buffers, and must give what the primitive gives.
"""

from __future__ import annotations

import itertools
import math
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.compiler.native.passes.expand import expand
from funcgrad.core.errors import InternalError
from funcgrad.core.ir import Jaxpr, check, evaluate
from funcgrad.core.kinds import Contraction, IndexMap, Reduction, Running, Scatter
from funcgrad.core.primitive import Primitive, registered
from funcgrad.core.types import type_of
from funcgrad.core.views import Places, View, Written, contiguous
from funcgrad.ops.dynamic import DynamicSlice
from funcgrad.ops.elementwise import add, equal
from funcgrad.ops.index import GetItem, IndexAdd, parse
from funcgrad.ops.pointwise import table
from funcgrad.ops.softmax import LogSoftmax, LogSumExp, Softmax
from funcgrad.ops.special import Sinc
from funcgrad.transforms.tracing.stage import stage
from tests.cases import CASES

# why a primitive that moves elements does not say where from or where to
UNDESCRIBED = {"given": "it has no operand: its result is a part of the program"}


def of_kind(*kinds: type[Primitive]) -> list[str]:
    """The names of the primitives of these kinds that have cases."""
    return sorted({cls.name for cls in registered() if issubclass(cls, kinds)} & set(CASES))


def places_of(view: View) -> np.ndarray:
    """The place of each element of a view in its buffer."""
    place = np.full(view.shape, view.offset)
    for axis, (n, stride) in enumerate(zip(view.shape, view.strides, strict=True)):
        place = place + (np.arange(n) * stride).reshape((n, *(1,) * (len(view.shape) - axis - 1)))
    return place


def read(buffer: np.ndarray, place: np.ndarray) -> np.ndarray:
    assert not place.size or (place.min() >= 0 and place.max() < buffer.size)
    return buffer.ravel()[place] if place.size else np.empty(place.shape, buffer.dtype)


def located(places: Places, operands: tuple[Any, ...]) -> np.ndarray:
    """The places, with the positions that the operands hold."""
    place = places_of(places.view)
    for p in places.positions:
        assert p.view.shape == places.view.shape
        index = read(np.asarray(operands[p.operand]), places_of(p.view)).astype(np.int64)
        index = np.where(index < 0, index + p.length, index)
        if p.clamped:
            index = np.clip(index, 0, p.length - p.size)
        assert not index.size or (index.min() >= 0 and index.max() < p.length)
        place = place + index * p.stride
    return place


def follow(written: Written, operands: tuple[Any, ...], t: Any) -> np.ndarray:
    """What is described as written, by writing."""
    y = np.zeros(math.prod(t.shape), t.dtype)
    if written.base is not None:
        assert np.shape(operands[written.base]) == t.shape
        y[:] = np.ravel(operands[written.base]).astype(t.dtype)
    for w in written.writings:
        place, v = located(w.places, operands), np.asarray(operands[w.operand]).astype(t.dtype)
        assert place.shape == v.shape
        assert not place.size or (place.min() >= 0 and place.max() < y.size)
        if w.combine is None:
            y[place.ravel()] = v.ravel()
        else:
            w.combine.at(y, place.ravel(), v.ravel())
    return y.reshape(t.shape)


@st.composite
def views(draw: st.DrawFn, shape: tuple[int, ...]) -> View:
    """Any elements of a buffer: axes in any order, with gaps, backwards, repeated."""
    strides = [0] * len(shape)
    step = 1
    offset = draw(st.integers(0, 2))
    for axis in draw(st.permutations(range(len(shape)))):
        factor = draw(st.sampled_from([1, 1, 1, 2, -1, 0]))
        strides[axis] = step * factor
        if factor < 0:
            offset += step * max(shape[axis] - 1, 0)
        step *= max(shape[axis], 1) * max(abs(factor), 1)
    return View(shape, tuple(strides), offset)


def buffer_for(view: View) -> np.ndarray:
    place = places_of(view)
    return np.arange(1.0, 2.0 + max(place.max(initial=0), 0))


@pytest.mark.parametrize("name", of_kind(IndexMap))
@given(data=st.data())
def test_a_view_says_where_the_elements_come_from(name: str, data: st.DataObject) -> None:
    case = data.draw(CASES[name])
    if not case.args:
        return
    whole = contiguous(np.shape(case.args[0]))
    start = data.draw(views(whole.shape) | st.just(whole))
    view = case.primitive.view(start)
    if view is None:
        return
    buffer = buffer_for(start)
    x = read(buffer, places_of(start))
    y = case.primitive.impl(x, *case.args[1:])
    np.testing.assert_array_equal(read(buffer, places_of(view)), y, strict=np.ndim(y) > 0)


@pytest.mark.parametrize("name", of_kind(IndexMap))
@given(data=st.data())
def test_taken_elements_stand_where_the_positions_say(name: str, data: st.DataObject) -> None:
    case = data.draw(CASES[name])
    places = case.primitive.taken(*map(np.shape, case.args)) if case.args else None
    if places is not None:
        y = read(np.asarray(case.args[0]), located(places, case.args))
        np.testing.assert_array_equal(y, case.primitive(*case.args))
        assert y.shape == np.shape(case.primitive(*case.args))


@pytest.mark.parametrize("name", of_kind(IndexMap, Scatter))
@given(data=st.data())
def test_what_is_written_makes_up_the_result(name: str, data: st.DataObject) -> None:
    case = data.draw(CASES[name])
    narrow = data.draw(st.booleans())
    args = tuple(x.astype(np.float32) if narrow and np.asarray(x).dtype == np.float64 else x for x in case.args)
    written = case.primitive.written(*map(np.shape, args)) if args else None
    if written is not None:
        t = case.primitive.out_type(*map(type_of, args))
        np.testing.assert_array_equal(follow(written, args, t), case.primitive(*args), strict=bool(t.shape))


def test_values_of_all_dtypes_are_written_as_values_of_the_result() -> None:
    index = (np.array([0, 2, 2, -1]),)
    sums = IndexAdd((4,), (parse((4,), index)[0],), (1,))
    for dtype in (bool, np.int8, np.uint16, np.float16, np.float32):
        operands = (*index, np.array([1, 1, 3, 1], dtype))
        written = sums.written(*map(np.shape, operands))
        y = follow(written, operands, sums.out_type(*map(type_of, operands)))
        np.testing.assert_array_equal(y, sums(*operands), strict=True)


def test_every_primitive_that_moves_elements_says_where() -> None:
    names = set()
    for cls in registered():
        if cls.__module__.startswith("funcgrad.") and issubclass(cls, IndexMap | Scatter):
            says = [getattr(cls, method, None) for method in ("view", "taken", "written")]
            default = (IndexMap.view, IndexMap.taken, IndexMap.written, Scatter.written, None)
            if all(method in default for method in says):
                names.add(cls.name)
    assert names == set(UNDESCRIBED)


INDICES: list[Any] = [
    (np.array([0, -1]), slice(None), np.array([[1], [0]])),
    (slice(None), np.array([0, -1]), np.array([[1], [2]])),
    (slice(None), 1, np.array([0, -1])),
    (0, slice(None), np.array([0, -1])),
    (None, 1, slice(None, None, -2), np.array(2)),
    (np.array(1), np.array(-1)),
    (slice(3, 0, -1), None, np.array([1], np.uint8)),
    (np.array([1, 1], np.int8), None, np.array([0, 2])),
    (np.array([0, 1]), np.array([0, 1]), Ellipsis, np.array([3, 3])),
    (np.zeros((0, 2), int), Ellipsis),
    (slice(1, 1), np.array([0])),
    (np.ones((2, 3), bool),),
    (slice(None), np.zeros((3, 4), bool)),
]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_index_arrays_combine_as_numpy_combines_them(index: Any) -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    entries, arrays, selects = parse(x.shape, index)
    getitem = GetItem(entries, selects)
    y = read(x, located(getitem.taken(x.shape, *map(np.shape, arrays)), (x, *arrays)))
    np.testing.assert_array_equal(y, x[index], strict=True)


def test_the_start_of_a_slice_is_clamped() -> None:
    x = np.arange(5.0)
    for size, start in itertools.product((0, 1, 3, 5), range(-12, 12)):
        take = DynamicSlice((size,))
        y = read(x, located(take.taken((5,), ()), (x, np.int64(start))))
        np.testing.assert_array_equal(y, take(x, np.int64(start)))


@given(data=st.data())
def test_a_view_is_reshaped_wherever_numpy_need_not_copy(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.sampled_from([1, 1, 2, 3, 4]), max_size=4))
    view = data.draw(views(tuple(lengths)))
    total = math.prod(lengths)
    factors = [d for d in range(1, total + 1) if total % d == 0]
    shape: tuple[int, ...] = ()
    while (rest := total // math.prod(shape)) > 1:
        shape += (data.draw(st.sampled_from([d for d in factors if rest % d == 0])),)
    buffer = buffer_for(view)
    strides = [8 * stride for stride in view.strides]
    x = np.lib.stride_tricks.as_strided(buffer[view.offset :], view.shape, strides)
    reshaped = view.reshape(shape)
    if reshaped is None:
        assert not np.may_share_memory(x.reshape(shape), buffer)
    else:
        np.testing.assert_array_equal(read(buffer, places_of(reshaped)), x.reshape(shape))


def test_an_empty_view_has_any_shape_of_no_elements() -> None:
    assert places_of(View((2, 0), (5, -1), 3).reshape((0, 3, 1))).shape == (0, 3, 1)


@pytest.mark.parametrize("name", of_kind(Reduction))
@given(data=st.data())
def test_a_fold_is_repeated_along_the_axes(name: str, data: st.DataObject) -> None:
    case = data.draw(CASES[name])
    (x,) = case.args
    fold = case.primitive.fold
    if fold is None:
        assert type(case.primitive).expand is not Primitive.expand
        return
    axes = case.primitive.folded(x.ndim)
    last = x.transpose(*(i for i in range(x.ndim) if i not in axes), *axes)
    rows = last.reshape((*last.shape[: x.ndim - len(axes)], math.prod(last.shape[x.ndim - len(axes) :])))
    if isinstance(fold, str):
        expected = getattr(np, fold)(rows, -1)
    else:
        dtype = case.primitive.out_type(type_of(x)).dtype
        expected = fold.reduce(rows.astype(dtype), -1)
        assert np.asarray(expected).dtype == dtype
    np.testing.assert_allclose(case.primitive(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", of_kind(Contraction))
@given(data=st.data())
def test_the_terms_of_a_contraction_are_einsteins(name: str, data: st.DataObject) -> None:
    case = data.draw(CASES[name])
    letters1, letters2, out = case.primitive.terms
    expected = np.einsum(f"{letters1},{letters2}->{out}", *case.args)
    np.testing.assert_allclose(case.primitive(*case.args), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", of_kind(Running))
@given(data=st.data())
def test_a_running_fold_goes_from_element_to_element(name: str, data: st.DataObject) -> None:
    case = data.draw(CASES[name])
    p = case.primitive
    assert isinstance(p, Running)
    dtype = p.out_type(*map(type_of, case.args)).dtype
    turned = [np.moveaxis(x, p.axis, 0)[:: -1 if p.reverse else 1] for x in case.args]
    y = np.full(turned[-1].shape[1:], p.fold.identity, dtype)
    ys = [y]
    for i, x in enumerate(turned[-1]):
        y = p.fold(turned[0][i] * y if p.scaled else y, x)
        ys.append(y)
    line = np.stack(ys[:-1] if p.exclusive else ys[1:]) if len(ys) > 1 else turned[-1].astype(dtype)
    got = np.moveaxis(p(*case.args), p.axis, 0)[:: -1 if p.reverse else 1]
    np.testing.assert_allclose(got, line, rtol=1e-10, atol=1e-10)


SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, math.inf, -math.inf, math.nan, 1e-30, -30.0, 200.0, -3e4]
EXPANDED: list[Primitive] = [
    LogSumExp((0,)),
    LogSumExp((0, 1)),
    LogSumExp(()),
    *(Softmax((1,), nothing) for nothing in (0.0, math.nan)),
    Softmax((0, 1), 0.0),
    LogSoftmax((1,)),
    LogSoftmax((0, 1)),
    Sinc(0),
    *(table()[name] for name in ("gelu", "relu", "softplus", "logit", "logaddexp", "xlogy", "deg2rad", "rad2deg")),
]
few_ulp = {np.dtype(np.float64): 2e-14, np.dtype(np.float32): 4e-6, np.dtype(np.float16): 8e-3}


def arity(primitive: Primitive) -> int:
    return 2 if primitive.name in ("logaddexp", "xlogy") else 1


def same(a: Any, b: Any) -> None:
    """Equal up to rounding, infinities and NaN exactly."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape and a.dtype == b.dtype
    rtol = few_ulp.get(a.dtype, 0)
    np.testing.assert_allclose(a.astype(float), b.astype(float), rtol=rtol, atol=rtol * 1e-2)


@st.composite
def matrices(draw: st.DrawFn) -> np.ndarray:
    dtype = draw(st.sampled_from([np.float64, np.float32, np.float16]))
    shape = (draw(st.integers(0, 3)), draw(st.integers(0, 3)))
    numbers = st.floats(-10, 10) | st.sampled_from(SPECIAL) | st.just(-math.inf)
    return draw(hnp.arrays(float, shape, elements=numbers)).astype(dtype)


@pytest.mark.parametrize("primitive", EXPANDED, ids=Primitive.show)
@settings(max_examples=200)
@given(data=st.data())
def test_an_expansion_is_the_operation(primitive: Primitive, data: st.DataObject) -> None:
    x = data.draw(matrices())
    args = [x, *(x[::-1, ::-1] for _ in range(arity(primitive) - 1))]
    with np.errstate(all="ignore"):
        same(primitive.expand(*args), primitive(*args))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_an_expansion_keeps_the_digits_where_a_formula_loses_them(dtype: type) -> None:
    tiny = np.finfo(dtype).tiny / 8
    x = np.array([tiny, 1e-7, 0.1, 0.2499, 0.25, 0.3, 0.4999, 0.5, 0.500001, 0.75, 0.999999, 1 - 2.0**-20], dtype)
    four_ulp = 4 * np.finfo(dtype).eps
    with np.errstate(all="ignore"):
        exact = [float((p / (1 - p)).ln()) for p in map(Decimal, map(float, x))]
        np.testing.assert_allclose(table()["logit"].expand(x), exact, rtol=four_ulp)
        z = np.array([0, tiny, 1e-9, 0.5], dtype)
        np.testing.assert_allclose(Sinc(0).expand(z), np.sinc(z), rtol=four_ulp)
    log = LogSoftmax((0,))
    y = np.array([-1000, 0, 1e-3], dtype)
    np.testing.assert_array_equal(log.expand(y), log(y))


@pytest.mark.parametrize("name", ["deg2rad", "rad2deg"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_angles_are_converted_bit_by_bit(name: str, dtype: type) -> None:
    x = np.random.default_rng(0).standard_normal(1000).astype(dtype)
    np.testing.assert_array_equal(table()[name].expand(x), table()[name](x), strict=True)


def expanded(jaxpr: Jaxpr) -> Jaxpr:
    """With everything expanded that can be."""
    result = expand(jaxpr, lambda equation: False)
    check(result)
    assert result.in_types == jaxpr.in_types and result.out_types == jaxpr.out_types
    return result


def names_in(jaxpr: Jaxpr) -> list[str]:
    return [equation.primitive.name for equation in jaxpr.equations]


@pytest.mark.parametrize("primitive", EXPANDED, ids=Primitive.show)
@settings(max_examples=30)
@given(data=st.data())
def test_an_expanded_jaxpr_computes_the_same(primitive: Primitive, data: st.DataObject) -> None:
    x = data.draw(matrices())
    args = [x] * arity(primitive)
    jaxpr = expanded(stage(lambda *args: primitive(*args), args, {})[0])
    assert primitive.name not in names_in(jaxpr)
    with np.errstate(all="ignore"):
        (y,) = evaluate(jaxpr, args)
        same(y, primitive(*args))


@pytest.mark.parametrize("name", sorted(CASES))
@settings(max_examples=10)
@given(data=st.data())
def test_every_primitive_can_be_offered_for_expansion(name: str, data: st.DataObject) -> None:
    case = data.draw(CASES[name])
    jaxpr = stage(lambda *args: case.primitive(*args), case.args, {})[0]
    whole = expanded(jaxpr)
    if names_in(whole) == names_in(jaxpr):
        return
    with np.errstate(all="ignore"):
        for a, b in zip(evaluate(whole, case.args), evaluate(jaxpr, case.args), strict=True):
            same(a, b)


@pytest.mark.parametrize("name", ["relu", "softplus", "deg2rad", "logit"])
@pytest.mark.parametrize("x", [2, 0.25, np.int32(1), np.int8(1), True, np.uint16([1, 0])], ids=repr)
def test_an_expansion_keeps_the_type_whatever_it_is_given(name: str, x: Any) -> None:
    jaxpr = stage(lambda x: table()[name](x), [x], {})[0]
    with np.errstate(all="ignore"):
        (a,), (b,) = evaluate(expanded(jaxpr), [x]), evaluate(jaxpr, [x])
    np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), rtol=4e-3)


def test_only_what_has_no_code_is_expanded_and_at_its_line() -> None:
    def loss(x: Any) -> Any:
        y = fg.nn.softplus(x)
        z = fg.nn.softmax(y)
        return fnp.sum(z * y), z

    jaxpr = stage(loss, [np.ones((2, 3))], {})[0]
    whole = expand(jaxpr, lambda equation: equation.primitive.name == "logaddexp")
    check(whole)
    names = names_in(whole)
    assert names[0] == "logaddexp" and "softmax" not in names and "max" in names
    lines = {equation.primitive.name: equation.source for equation in jaxpr.equations}
    kept = [equation.source for equation in whole.equations]
    assert kept[0] == lines["softplus"]
    assert set(kept[1:-2]) == {lines["softmax"]}
    assert expand(jaxpr, lambda equation: True).equations == jaxpr.equations


def test_the_gradient_of_what_is_expanded_agrees() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4))
    jaxpr = stage(fg.grad(lambda x: fnp.sum(fg.nn.logsumexp(fg.nn.gelu(x), axis=1) ** 2)), [x], {})[0]
    (a,), (b,) = evaluate(expanded(jaxpr), [x]), evaluate(jaxpr, [x])
    np.testing.assert_allclose(a, b, rtol=1e-12)


def test_an_input_may_stand_for_the_result() -> None:
    jaxpr = expanded(stage(lambda x: fg.nn.softmax(x), [np.ones((0, 3))], {})[0])
    assert not jaxpr.equations and jaxpr.outputs == jaxpr.inputs


def test_an_expansion_makes_no_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    jaxpr = stage(fg.nn.softmax, [np.ones(2)], {})[0]
    monkeypatch.setattr(Softmax, "expand", lambda self, x: add(x, np.ones(2)))
    with pytest.raises(InternalError, match="made an array"):
        expanded(jaxpr)


def test_what_an_expansion_gets_wrong_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    jaxpr = stage(fg.nn.softmax, [np.ones(2)], {})[0]
    monkeypatch.setattr(Softmax, "expand", lambda self, x: equal(add(x, x), x))
    assert expanded(jaxpr).equations == jaxpr.equations
