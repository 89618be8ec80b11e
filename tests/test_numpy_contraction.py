"""Products that sum: NumPy's values, gradients by central differences, and errors that name the shapes."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.ops.contract import contraction
from funcgrad.ops.einsum import einsum
from funcgrad.testing import check_grads
from tests.cases.contract import specs

few = settings(max_examples=50)
random = np.random.default_rng(0)
sizes = st.integers(0, 3)


def normal(*shape: int) -> np.ndarray:
    return random.standard_normal(shape)


def traced(f: Callable[..., Any], *xs: Any) -> Any:
    """What `f` gives on traced values: the value that `vjp` returns."""
    return fg.vjp(f, *xs)[0]


def agrees(f: Callable[..., Any], reference: Callable[..., Any], *xs: Any) -> None:
    """The traced value is NumPy's in shape, dtype and value; derivatives match central differences."""
    y, expected = traced(f, *xs), reference(*xs)
    assert np.shape(y) == np.shape(expected)
    assert y.dtype == expected.dtype
    assert fg.eval_shape(f, *xs) == fg.ShapeDtypeStruct(expected.shape, expected.dtype)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    check_grads(f, xs, order=2)


# ── the primitive
@few
@given(spec=specs(6), data=st.data())
def test_a_contraction_is_an_einstein_sum_for_any_layout_of_its_operands(spec: str, data: st.DataObject) -> None:
    primitive = contraction(spec)
    lengths = {c: data.draw(st.integers(0, 4)) for c in sorted(set(spec))}
    xs = []
    for term in primitive.terms[:2]:
        x = normal(*(2 * lengths[c] for c in term))[tuple(slice(None, None, 2) for _ in term)]
        xs.append(data.draw(st.sampled_from([x, x.copy("C"), x.copy("F")])))
    np.testing.assert_allclose(primitive(*xs), np.einsum(spec, *xs), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("spec", ["abij,jk->abik", "abij,cjk->abcik", "jabi,jk->abik", "abi,ci->abc", "jk,abij->kabi"])
def test_a_large_stack_is_folded_into_one_matrix(spec: str) -> None:
    lengths = {"a": 9, "b": 7, "c": 2, "i": 2, "j": 3, "k": 2}
    x1, x2 = (normal(*(lengths[c] for c in term)) for term in contraction(spec).terms[:2])
    np.testing.assert_allclose(contraction(spec)(x1, x2), np.einsum(spec, x1, x2), rtol=1e-12, atol=1e-12)


def test_the_pullback_of_a_matrix_product_is_two_matrix_products() -> None:
    x, w, g = normal(2, 3), normal(3, 4), normal(2, 4)
    _, pullback = fg.vjp(fnp.matmul, x, w)
    ct_x, ct_w = pullback(g)
    np.testing.assert_allclose(ct_x, g @ w.T)
    np.testing.assert_allclose(ct_w, x.T @ g)
    assert ct_x.flags.c_contiguous
    assert ct_w.flags.c_contiguous


def test_only_the_other_operand_is_kept_for_the_backward_pass() -> None:
    x, w = normal(2, 3), normal(3, 4)
    primitive = contraction("ij,jk->ik")
    assert tuple(primitive.unread((None, w))) == (0, 2)
    assert tuple(primitive.unread((x, None))) == (0, 1)


def test_a_contraction_is_made_once_and_survives_pickling() -> None:
    primitive = contraction("ij,jk->ik")
    assert contraction("ij,jk->ik") is primitive
    assert pickle.loads(pickle.dumps(primitive)) is primitive
    assert "ij,jk->ik" in repr(primitive)


@pytest.mark.parametrize("spec", ["ij,jk->k", "ii,ij->j", "i,j->iij", "ij,jk->ikl"])
def test_letters_without_a_partner_or_repeated_ones_are_no_contraction(spec: str) -> None:
    with pytest.raises(ValueError, match="contraction"):
        contraction(spec)


# ── matmul
STACKS = [
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((3,), (3, 2)),
    ((2, 3), (3, 4)),
    ((5, 2, 3), (5, 3, 4)),
    ((5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)),
    ((5, 1, 2, 3), (4, 3, 2)),
    ((1, 2, 3), (4, 3, 2)),
    ((1, 2, 3), (1, 3, 2)),
    ((4, 2, 3), (3,)),
    ((3,), (4, 3, 2)),
    ((2, 0), (0, 3)),
    ((0, 2, 3), (1, 3, 2)),
    ((0, 3), (3, 2)),
]


@pytest.mark.parametrize(("shape1", "shape2"), STACKS)
def test_matmul_broadcasts_stacks_and_its_cotangents_have_the_shapes_of_the_operands(shape1: Any, shape2: Any) -> None:
    x1, x2 = normal(*shape1), normal(*shape2)
    agrees(fnp.matmul, np.matmul, x1, x2)
    agrees(lambda a, b: a @ b, np.matmul, x1, x2)
    np.testing.assert_array_equal(fnp.matmul(x1, x2), x1 @ x2)
    ct1, ct2 = fg.grad(lambda a, b: (a @ b).sum(), argnums=(0, 1))(x1, x2)
    assert ct1.shape == shape1
    assert ct2.shape == shape2


def test_numpy_code_and_plain_left_operands_are_differentiated() -> None:
    x, w = normal(2, 3), normal(3, 4)
    expected = x.T @ np.ones((2, 4))
    for f in (lambda w: (x @ w).sum(), lambda w: np.matmul(x, w).sum(), lambda w: np.dot(x, w).sum()):
        np.testing.assert_allclose(fg.grad(f)(w), expected)


@pytest.mark.parametrize("dtype1", [np.float16, np.float32, np.float64, np.complex64, np.int32, bool])
@pytest.mark.parametrize("dtype2", [np.float32, np.float64, np.complex128, np.int8])
def test_mixed_dtypes_promote_and_each_gradient_keeps_its_own(dtype1: Any, dtype2: Any) -> None:
    x1, x2 = np.arange(6).reshape(2, 3).astype(dtype1), np.arange(12).reshape(3, 4).astype(dtype2)
    inexact = tuple(i for i, x in enumerate((x1, x2)) if x.dtype.kind in "fc")
    if not inexact:
        return
    gradients = fg.grad(lambda a, b: fnp.real((a @ b).sum()), argnums=inexact)(x1, x2)
    for i, g in zip(inexact, gradients, strict=True):
        assert g.dtype == (x1, x2)[i].dtype
        assert g.shape == (x1, x2)[i].shape


def test_the_gradient_of_a_complex_product_is_not_conjugated() -> None:
    a = normal(2, 2) + 1j * normal(2, 2)
    x = normal(2) + 1j * normal(2)
    g = normal(2) + 1j * normal(2)
    _, pullback = fg.vjp(lambda x: a @ x, x)
    np.testing.assert_allclose(pullback(g)[0], g @ a)
    check_grads(lambda a, x: a @ x, (a, x), order=2)


def test_a_real_operand_of_a_complex_product_has_a_real_gradient() -> None:
    a, x = normal(2, 2) + 1j * normal(2, 2), normal(2)
    check_grads(lambda x: a @ x, (x,), order=2)
    assert fg.grad(lambda x: fnp.abs((a @ x).sum()))(x).dtype == np.float64


@pytest.mark.parametrize(
    ("shape1", "shape2", "message", "fix"),
    [
        ((2, 3), (2, 3), r"matmul: \(2, 3\) @ \(2, 3\): inner 3 != 2", "did you mean a @ b.T?"),
        ((3, 2), (3, 4), r"inner 2 != 3", "did you mean a.T @ b?"),
        ((3, 4), (2, 3), r"inner 4 != 2", "did you mean b @ a?"),
        ((3,), (2,), r"matmul: \(3,\) @ \(2,\): inner 3 != 2", "the last axis of a"),
        ((5, 2, 3), (5, 2, 3), r"inner 3 != 2", "the last axis of a"),
        ((5, 2, 3), (4, 3, 2), r"stacks of shapes \(5,\) and \(4,\) do not broadcast", "equal or 1"),
        ((), (2,), r"a scalar is not a matrix", r"a \* b"),
    ],
)
def test_matmul_of_shapes_that_do_not_fit_names_them_and_guesses(
    shape1: Any, shape2: Any, message: str, fix: str
) -> None:
    x1, x2 = np.ones(shape1), np.ones(shape2)
    with pytest.raises(ValueError, match=message) as caught:
        fg.grad(lambda a: (a @ x2).sum())(x1)
    assert fix.replace("\\", "") in str(caught.value)
    assert isinstance(caught.value, fg.errors.ShapeError)


# ── the others
@few
@given(data=st.data())
def test_dot_and_inner_are_numpys(data: st.DataObject) -> None:
    n = data.draw(sizes)
    lead1, lead2 = (data.draw(st.lists(sizes, max_size=2)) for _ in range(2))
    tail = data.draw(st.lists(sizes, max_size=1)) if lead2 else []
    x1 = normal(*lead1, n)
    agrees(fnp.dot, np.dot, x1, normal(*lead2, n, *tail) if tail else normal(n))
    agrees(fnp.inner, np.inner, x1, normal(*lead2, n))


@pytest.mark.parametrize(("f", "reference"), [(fnp.dot, np.dot), (fnp.inner, np.inner)])
def test_with_a_scalar_dot_and_inner_multiply(f: Callable[..., Any], reference: Callable[..., Any]) -> None:
    agrees(f, reference, normal(2, 3), normal())
    agrees(f, reference, normal(), normal(2))
    x = np.float32([1, 2])
    assert traced(lambda x: f(x, 2.0), x).dtype == reference(x, 2.0).dtype


@few
@given(data=st.data())
def test_tensordot_is_numpys(data: st.DataObject) -> None:
    shared = data.draw(st.lists(sizes, max_size=2))
    free1, free2 = (data.draw(st.lists(sizes, max_size=2)) for _ in range(2))
    n = len(shared)
    agrees(
        lambda a, b: fnp.tensordot(a, b, n),
        lambda a, b: np.tensordot(a, b, n),
        normal(*free1, *shared),
        normal(*shared, *free2),
    )
    order1 = data.draw(st.permutations(range(len(free1) + n)))
    order2 = data.draw(st.permutations(range(len(free2) + n)))
    a, b = normal(*free1, *shared).transpose(order1), normal(*free2, *shared).transpose(order2)
    axes = [
        [order1.index(len(free1) + i) for i in range(n)],
        [order2.index(len(free2) + i) - len(order2) for i in range(n)],
    ]
    agrees(lambda a, b: fnp.tensordot(a, b, axes), lambda a, b: np.tensordot(a, b, axes), a, b)


def test_tensordot_takes_single_axes_and_names_those_that_differ() -> None:
    a, b = normal(2, 3), normal(4, 3)
    agrees(lambda a, b: fnp.tensordot(a, b, (1, -1)), lambda a, b: np.tensordot(a, b, (1, -1)), a, b)
    with pytest.raises(ValueError, match=r"axis 1 of a with shape \(2, 3\) has length 3, but axis 0 of b"):
        fg.vjp(lambda a: fnp.tensordot(a, b, 1), a)
    with pytest.raises(ValueError, match="pairs 2 axes of a with 1 of b"):
        fg.vjp(lambda a: fnp.tensordot(a, b, ([0, 1], [1])), a)


EINSUMS = [
    ("ii->", [(3, 3)]),
    ("ii->i", [(3, 3)]),
    ("ij,ij->", [(2, 3), (2, 3)]),
    ("iij->j", [(3, 3, 2)]),
    ("iii", [(2, 2, 2)]),
    ("iijj->ji", [(2, 2, 3, 3)]),
    ("ij,jk", [(2, 3), (3, 4)]),
    ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 2)]),
    ("i,i,i->i", [(3,), (3,), (3,)]),
    ("i,i,i->", [(3,), (3,), (3,)]),
    ("...ij,...jk->...ik", [(5, 1, 2, 3), (4, 3, 2)]),
    ("...i,i", [(2, 3), (3,)]),
    ("ij->ji", [(2, 3)]),
    ("ji", [(2, 3)]),
    ("ij->", [(2, 3)]),
    ("ij->j", [(0, 3)]),
    ("ij,jk->ik", [(2, 1), (3, 4)]),
    ("i,j,k->kij", [(2,), (3,), (4,)]),
    ("ij,kl->", [(2, 3), (4, 2)]),
    (",->", [(), ()]),
    ("ij , jk -> ik", [(2, 3), (3, 4)]),
    ("a,ab,abc->abc", [(2,), (2, 3), (2, 3, 4)]),
    ("BA", [(2, 3)]),
    ("i...->...", [(2, 3, 4)]),
    ("ea,fb,abcd,gc,hd->efgh", [(2, 2), (2, 2), (2, 2, 2, 2), (2, 2), (2, 2)]),
]


@pytest.mark.parametrize(("spec", "shapes"), EINSUMS, ids=[spec for spec, _ in EINSUMS])
def test_einsum_is_numpys(spec: str, shapes: list[tuple[int, ...]]) -> None:
    xs = [normal(*shape) for shape in shapes]
    agrees(lambda *xs: fnp.einsum(spec, *xs), lambda *xs: np.einsum(spec, *xs), *xs)


def test_einsum_of_a_diagonal_and_of_the_same_operand_twice() -> None:
    m, g = normal(3, 3), normal(3)
    np.testing.assert_allclose(fg.grad(lambda m: fnp.einsum("ii->", m))(m), np.eye(3))
    np.testing.assert_allclose(fg.vjp(lambda m: fnp.einsum("ii->i", m), m)[1](g)[0], np.diag(g))
    np.testing.assert_allclose(fg.grad(lambda m: fnp.einsum("ij,ij->", m, m))(m), 2 * m)


def test_einsum_takes_axis_numbers_in_place_of_letters() -> None:
    a, b = normal(2, 3), normal(3, 4)
    agrees(lambda a, b: fnp.einsum(a, [0, 1], b, [1, 2], [2, 0]), lambda a, b: (a @ b).T, a, b)
    agrees(lambda a, b: fnp.einsum(a, [0, 1], b, [1, 2]), np.matmul, a, b)
    agrees(lambda a: np.einsum(a, [Ellipsis, 0], [0, Ellipsis]), np.transpose, a)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.float16])
@pytest.mark.parametrize("spec", ["ij->i", "ij,ij->i", "ij,ij,ij->"])
def test_einsum_keeps_small_dtypes(dtype: Any, spec: str) -> None:
    xs = [random.integers(0, 2, (2, 3)).astype(dtype)] * (spec.count(",") + 1)
    y, expected = einsum(spec, xs), np.einsum(spec, *xs)
    assert y.dtype == expected.dtype
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("ij,jk", "'j' has length 2 in operand 1 of shape \\(2, 3\\), but 3 before it"),
        ("i,j->k", "'i' does not name the 2 axes of operand 0"),
        ("ij,ij->k", "the result has the letter 'k', which no operand has"),
        ("ij,ji->ii", "the result repeats the letter 'i'"),
        ("i1,j", "'1' is not a letter"),
        ("ij", "1 terms for 2 operands"),
        ("...i,ij->j", "must appear in the result"),
    ],
)
def test_einsum_says_what_is_wrong_with_the_subscripts(spec: str, message: str) -> None:
    x = np.ones((2, 3))
    with pytest.raises(ValueError, match=message):
        fg.vjp(lambda a: fnp.einsum(spec, a, x), x)


@few
@given(n=sizes, m=sizes)
def test_outer_vdot_vecdot_matvec_vecmat_and_kron_are_numpys(n: int, m: int) -> None:
    agrees(fnp.outer, np.outer, normal(n, 2), normal(m))
    agrees(fnp.vdot, np.vdot, normal(n, m), normal(n * m))
    agrees(fnp.vecdot, np.vecdot, normal(n, 1, m), normal(2, m))
    agrees(fnp.kron, np.kron, normal(n, 2), normal(2, m, 1))
    agrees(fnp.matvec, lambda a, x: (a @ x[..., None])[..., 0], normal(2, n, m), normal(m))
    agrees(fnp.vecmat, lambda x, a: (x[..., None, :] @ a)[..., 0, :], normal(n), normal(2, n, m))


def test_vdot_vecdot_and_vecmat_conjugate_their_first_operand() -> None:
    a, b = normal(3) + 1j * normal(3), normal(3) + 1j * normal(3)
    agrees(fnp.vdot, np.vdot, a, b)
    agrees(fnp.vecdot, np.vecdot, a, b)
    agrees(fnp.vecmat, lambda x, m: x.conj() @ m, a, normal(3, 2) + 0j)
    agrees(lambda a, b: fnp.vecdot(a, b, axis=0), lambda a, b: np.vecdot(a, b, axis=0), normal(3, 2), normal(3, 2))


# ── diagonals and triangles
@few
@given(m=sizes, n=sizes, k=st.integers(-4, 4))
def test_diagonals_and_triangles_are_numpys(m: int, n: int, k: int) -> None:
    x = normal(m, n)
    agrees(lambda x: fnp.diag(x, k), lambda x: np.diag(x, k), x)
    agrees(lambda x: fnp.diag(x, k), lambda x: np.diag(x, k), normal(n))
    agrees(lambda x: fnp.diagonal(x, k), lambda x: np.diagonal(x, k), x)
    agrees(lambda x: fnp.trace(x, k), lambda x: np.trace(x, k), x)
    agrees(lambda x: fnp.tril(x, k), lambda x: np.tril(x, k), x)
    agrees(lambda x: fnp.triu(x, k), lambda x: np.triu(x, k), normal(2, m, n))
    agrees(lambda x: fnp.tril(x, k), lambda x: np.tril(x, k), normal(n))


@pytest.mark.parametrize("axes", [(0, 1), (1, 0), (0, 2), (-1, 0), (1, 2)])
@pytest.mark.parametrize("offset", [0, 1, -2])
def test_a_diagonal_of_a_stack_may_span_any_two_axes(axes: tuple[int, int], offset: int) -> None:
    x = normal(2, 3, 4)
    agrees(lambda x: fnp.diagonal(x, offset, *axes), lambda x: np.diagonal(x, offset, *axes), x)
    agrees(lambda x: fnp.trace(x, offset, *axes), lambda x: np.trace(x, offset, *axes), x)
    agrees(lambda x: x.diagonal(offset, *axes), lambda x: x.diagonal(offset, *axes), x)
    agrees(lambda x: np.trace(x, offset, *axes), lambda x: np.trace(x, offset, *axes), x)


def test_what_is_not_in_the_triangle_has_no_part_in_the_gradient() -> None:
    x = np.array([[1.0, 0.0], [1.0, 1.0]])
    with np.errstate(divide="ignore"):
        g = fg.grad(lambda x: fnp.tril(fnp.log(x)).sum())(x)
    np.testing.assert_array_equal(g, [[1.0, 0.0], [1.0, 1.0]])


def test_diagonals_of_what_is_no_matrix_are_refused() -> None:
    x = np.ones(3)
    for f in (fnp.diagonal, fnp.trace):
        with pytest.raises(ValueError, match=r"shape \(3,\) is not a matrix"):
            fg.vjp(f, x)
    with pytest.raises(ValueError, match="neither a vector nor a matrix"):
        fg.vjp(fnp.diag, np.ones((2, 2, 2)))
    with pytest.raises(ValueError, match="both 0"):
        fg.vjp(lambda x: fnp.diagonal(x, 0, 0, -2), np.ones((2, 2)))


# ── plain arguments
@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("dot", ([1, 2], [3.0, 4.0])),
        ("matmul", ([[1, 2]], [3, 4])),
        ("inner", (2, [1.0])),
        ("outer", ([1, 2], [3])),
        ("vdot", ([1j], [1j])),
        ("vecdot", ([1.0, 2.0], [1.0, 2.0])),
        ("tensordot", (np.ones((2, 2)), np.ones((2, 2)))),
        ("einsum", ("i,i->", np.ones(2), np.ones(2))),
        ("kron", ([1, 2], [[3]])),
        ("trace", (np.ones((2, 2), np.int8),)),
        ("diag", ([1, 2],)),
        ("tril", ([[1, 2], [3, 4]],)),
    ],
)
def test_on_plain_arguments_the_result_is_exactly_numpys(name: str, args: tuple[Any, ...]) -> None:
    y, expected = getattr(fnp, name)(*args), getattr(np, name)(*args)
    assert type(y) is type(expected)
    assert y.dtype == expected.dtype
    np.testing.assert_array_equal(y, expected)


def test_numpys_own_functions_are_differentiated() -> None:
    a, b = normal(3, 3), normal(3)
    for name in ("dot", "matmul", "inner", "outer", "vecdot", "kron", "matvec"):
        if hasattr(np, name):
            agrees(getattr(np, name), getattr(np, name), a, b)
    agrees(
        lambda a: np.einsum("ij,ij->i", a, np.tril(a)) + np.diag(a) + np.trace(a),
        lambda a: (a * np.tril(a)).sum(1) + np.diag(a) + np.trace(a),
        a,
    )


def test_lists_with_traced_values_are_stacked() -> None:
    assert float(fg.grad(lambda x: fnp.dot([x, 2.0], [3.0, x]))(1.0)) == 5.0
