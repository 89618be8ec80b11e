"""Linear algebra: NumPy's values, gradients by central differences, and what happens where a matrix has no result."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.numpy import linalg
from funcgrad.ops.linalg import solve_triangular
from funcgrad.testing import check_grads
from tests.matrices import agrees, complex_normal, normal, regular, start_again

few = settings(max_examples=30)
SINGULAR = np.array([[1.0, 2.0], [2.0, 4.0]])


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    start_again()


# ── inverse and linear systems
@few
@given(n=st.integers(0, 3), k=st.integers(0, 2), stack=st.lists(st.integers(0, 2), max_size=2))
def test_inv_and_solve_are_numpys(n: int, k: int, stack: list[int]) -> None:
    agrees(linalg.inv, np.linalg.inv, regular(*stack, n, n))
    agrees(linalg.solve, np.linalg.solve, regular(*stack, n, n), normal(n))
    agrees(linalg.solve, np.linalg.solve, regular(*stack, n, n), normal(*stack, n, k))
    agrees(linalg.solve, np.linalg.solve, regular(2, 1, n, n), normal(3, n, k))


def test_numpys_own_functions_are_differentiated() -> None:
    a, b = regular(3, 3), normal(3)
    check_grads(lambda a, b: np.linalg.solve(a, b) @ np.linalg.inv(a) * np.linalg.det(a), (a, b))
    check_grads(lambda a: np.linalg.norm(np.linalg.cholesky(a @ a.T)) + np.linalg.slogdet(a)[1], (a,))


def test_the_gradient_of_a_system_keeps_the_dtype_of_each_operand() -> None:
    a, b = regular(2, 2).astype(np.float32), normal(2)
    assert [g.dtype for g in fg.grad(lambda a, b: linalg.solve(a, b).sum(), (0, 1))(a, b)] == [np.float32, np.float64]
    assert fg.grad(lambda b: linalg.solve(np.array([[2, 0], [0, 3]]), b).sum())(b).dtype == np.float64


def test_complex_systems_are_differentiated_without_conjugation() -> None:
    a, b, g = complex_normal(3, 3), complex_normal(3), complex_normal(3)
    ct_a, ct_b = fg.vjp(linalg.solve, a, b)[1](g)
    np.testing.assert_allclose(ct_b, np.linalg.solve(a.T, g))
    np.testing.assert_allclose(ct_a, -np.outer(ct_b, np.linalg.solve(a, b)))
    check_grads(linalg.solve, (a, b), order=2)
    check_grads(linalg.solve, (a, b.real), order=2)
    check_grads(linalg.inv, (a,), order=2)


@pytest.mark.parametrize("f", [linalg.inv, lambda a: linalg.solve(a, np.ones((2, 1)))])
def test_a_singular_matrix_has_no_inverse(f: Callable[..., Any]) -> None:
    for a in (SINGULAR, np.zeros((2, 2))):
        with pytest.raises(np.linalg.LinAlgError, match="the matrix is singular"):
            f(a)
        with pytest.raises(np.linalg.LinAlgError, match="the matrix is singular"):
            fg.grad(lambda a: f(a).sum())(a)
    with pytest.raises(np.linalg.LinAlgError, match=r"matrix \[1\] of the stack is singular"):
        f(np.stack([np.eye(2), SINGULAR]))


@pytest.mark.parametrize("name", ["inv", "det", "slogdet", "cholesky"])
def test_what_is_no_square_matrix_of_a_known_dtype_is_refused(name: str) -> None:
    f = getattr(linalg, name)
    with pytest.raises(ValueError, match=r"shape \(2, 3\) has 2 rows and 3 columns"):
        f(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"shape \(2,\) is not a matrix"):
        f(np.ones(2))
    with pytest.raises(TypeError, match="not defined for float16"):
        f(np.eye(2, dtype=np.float16))


def test_systems_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a of shape \(2, 2\) has 2 rows, but b has 3"):
        linalg.solve(np.eye(2), np.ones(3))
    with pytest.raises(ValueError, match=r"stacks of a, \(2,\), and of b, \(3,\), do not broadcast"):
        linalg.solve(np.stack([np.eye(2)] * 2), np.ones((3, 2, 1)))


# ── triangular systems
@few
@given(
    n=st.integers(0, 3),
    flags=st.fixed_dictionaries({name: st.booleans() for name in ("lower", "transposed", "unit_diagonal")}),
    stack=st.sampled_from([(), (2,)]),
    kind=st.sampled_from([normal, complex_normal]),
)
def test_a_triangular_system_reads_one_triangle(n: int, flags: dict[str, bool], stack: Any, kind: Any) -> None:
    a, b = kind(*stack, n, n) / 2 + 3 * np.eye(n), kind(*stack, n, 2)
    triangle = np.tril(a) if flags["lower"] else np.triu(a)
    if flags["unit_diagonal"]:
        triangle[..., range(n), range(n)] = 1
    matrix = triangle.swapaxes(-1, -2) if flags["transposed"] else triangle
    agrees(lambda a, b: solve_triangular(a, b, **flags), lambda a, b: np.linalg.solve(matrix, b), a, b)
    g = fg.grad(lambda a: fnp.abs(solve_triangular(a, b, **flags)).sum())(a)
    unused = np.triu(g, 1) if flags["lower"] else np.tril(g, -1)
    np.testing.assert_array_equal(unused, 0)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_triangular_system_takes_a_vector_and_any_layout(order: Any) -> None:
    a, b = np.array(regular(3, 3), order=order), normal(3)
    agrees(solve_triangular, lambda a, b: np.linalg.solve(np.triu(a), b), a, b)


def test_a_zero_on_the_diagonal_makes_a_triangular_matrix_singular() -> None:
    a = np.array([[1.0, 1.0], [0.0, 0.0]])
    for stacked in (a, a[None]):
        with pytest.raises(np.linalg.LinAlgError, match="diagonal element 1 is zero"):
            solve_triangular(stacked, np.ones((2, 1)))


# ── determinants
@few
@given(n=st.integers(0, 4), rank=st.integers(0, 4), stack=st.sampled_from([(), (2,), (0,)]))
def test_derivatives_of_the_determinant_are_right_at_any_rank(n: int, rank: int, stack: tuple[int, ...]) -> None:
    a = normal(*stack, n, min(rank, n)) @ normal(*stack, min(rank, n), n)
    agrees(linalg.det, np.linalg.det, a, order=3)


def adjugate(a: np.ndarray) -> np.ndarray:
    """By its definition: the signed determinants of what is left without one row and one column."""
    n = len(a)
    minor = lambda i, j: np.linalg.det(np.delete(np.delete(a, i, 0), j, 1))
    return np.array([[(-1) ** (i + j) * minor(j, i) for j in range(n)] for i in range(n)])


@pytest.mark.parametrize(
    "a",
    [
        SINGULAR,
        np.arange(9.0).reshape(3, 3),
        np.ones((3, 3)),
        np.zeros((2, 2)),
        np.zeros((3, 3)),
        np.diag([1e-200, 1.0, 2.0]),
        np.diag([1e-320, 1.0, 2.0]),
        np.diag([1.0, 1e-9, 1e-12]),
        np.eye(3) * 1e5,
    ],
)
def test_the_gradient_of_the_determinant_is_the_adjugate_transposed(a: np.ndarray) -> None:
    expected = adjugate(a).T
    scale = np.abs(a).max() ** (len(a) - 1)
    np.testing.assert_allclose(fg.grad(linalg.det)(a), expected, rtol=1e-12, atol=1e-15 * scale)


def test_the_determinant_of_singular_matrices_has_second_derivatives() -> None:
    # det [[a, b], [c, d]] = ad - bc, whose Hessian is constant
    hessian = lambda v: fg.grad(lambda a: (fg.grad(linalg.det)(a) * v).sum())
    for a in (SINGULAR, np.zeros((2, 2)), np.eye(2)):
        np.testing.assert_allclose(hessian(np.array([[1.0, 0], [0, 0]]))(a), [[0, 0], [0, 1]], atol=1e-14)
        np.testing.assert_allclose(hessian(np.array([[0, 1.0], [0, 0]]))(a), [[0, 0], [-1, 0]], atol=1e-14)


def test_determinants_of_complex_and_of_float32_matrices() -> None:
    agrees(linalg.det, np.linalg.det, complex_normal(3, 3), order=3)
    a = complex_normal(3, 1) @ complex_normal(1, 3)
    check_grads(linalg.det, (a,), order=3)
    g = fg.grad(linalg.det)(np.float32([[1, 2], [2, 4]]))
    assert g.dtype == np.float32
    np.testing.assert_allclose(g, [[4, -2], [-2, 1]], rtol=1e-5)


def test_a_nan_in_one_matrix_of_a_stack_stays_there() -> None:
    a = np.stack([np.full((2, 2), np.nan), SINGULAR])
    with np.errstate(invalid="ignore"):
        g = fg.vjp(linalg.det, a)[1](np.ones(2))[0]
    np.testing.assert_allclose(g[1], [[4, -2], [-2, 1]])
    assert np.isnan(g[0]).all()


def test_slogdet_is_numpys_with_names() -> None:
    for a in (regular(3, 3), regular(2, 2, 2), np.zeros((0, 0))):
        agrees(lambda a: linalg.slogdet(a).logabsdet, lambda a: np.linalg.slogdet(a)[1], a)
        np.testing.assert_array_equal(linalg.slogdet(a).sign, np.linalg.slogdet(a)[0])
    np.testing.assert_array_equal(fg.grad(lambda a: linalg.slogdet(a).sign * 1.0)(regular(2, 2)), 0)


def test_the_sign_of_a_complex_determinant_has_a_derivative() -> None:
    a = complex_normal(3, 3)
    for part in (0, 1):
        agrees(lambda a, part=part: linalg.slogdet(a)[part], lambda a, part=part: np.linalg.slogdet(a)[part], a)
    check_grads(linalg.slogdet, (a,), order=2)


def test_the_gradient_of_slogdet_is_infinite_at_a_singular_matrix() -> None:
    logdet = lambda a: linalg.slogdet(a).logabsdet
    np.testing.assert_array_equal(fg.grad(logdet)(SINGULAR), np.array([[1, -1], [-1, 1]]) * np.inf)
    g = fg.grad(lambda a: logdet(a)[1])(np.stack([SINGULAR, np.eye(2)]))
    np.testing.assert_array_equal(g[1], np.eye(2))
    single = fg.grad(logdet)(SINGULAR.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single, fg.grad(logdet)(SINGULAR))


# ── Cholesky
def test_the_gradient_of_cholesky_is_symmetric() -> None:
    a = np.array([[2.0, 0.5], [0.5, 1.0]])
    g = fg.grad(lambda a: linalg.cholesky(a).sum())(a)
    np.testing.assert_allclose(g, g.T, rtol=1e-14)
    step = 1e-6
    for v in (np.array([[1.0, 0], [0, 0]]), np.array([[0, 1.0], [1, 0]]), np.array([[0, 0], [0, 1.0]])):
        difference = (np.linalg.cholesky(a + step * v) - np.linalg.cholesky(a - step * v)).sum() / (2 * step)
        np.testing.assert_allclose((g * v).sum(), difference, rtol=1e-8)


@few
@given(n=st.integers(0, 3), stack=st.sampled_from([(), (2,), (0,)]), upper=st.booleans())
def test_cholesky_of_symmetric_matrices_is_numpys(n: int, stack: tuple[int, ...], upper: bool) -> None:
    a = regular(*stack, n, n)
    gram = lambda a: a @ fnp.swapaxes(a, -1, -2)
    f = lambda a: linalg.cholesky(gram(a), upper=upper)
    agrees(f, lambda a: np.linalg.cholesky(gram(a), upper=upper), a, order=3 if n < 3 else 2)


def test_cholesky_of_hermitian_matrices() -> None:
    for upper in (False, True):
        f = lambda a, upper=upper: linalg.cholesky(a @ fnp.conj(a).T, upper=upper)
        check_grads(f, (regular(3, 3) + 1j * normal(3, 3),), order=2)


def test_cholesky_reads_one_triangle() -> None:
    a = np.array([[4.0, 99.0], [2.0, 5.0]])
    np.testing.assert_array_equal(linalg.cholesky(a), np.linalg.cholesky(a))
    np.testing.assert_allclose(linalg.cholesky(a.T, upper=True), np.linalg.cholesky(a).T)
    symmetric = np.array([[4.0, 2.0], [2.0, 5.0]])
    f = fg.grad(lambda a: linalg.cholesky(a).sum())
    np.testing.assert_array_equal(f(a), f(symmetric))


def test_an_indefinite_matrix_has_no_cholesky_factor() -> None:
    with pytest.raises(np.linalg.LinAlgError, match=r"matrix is not positive definite \(leading minor 2\)"):
        linalg.cholesky(np.diag([1.0, -1.0, 1.0]))
    with pytest.raises(np.linalg.LinAlgError, match=r"matrix \[1\] of the stack is not positive definite"):
        fg.grad(lambda a: linalg.cholesky(a).sum())(np.stack([np.eye(2), -np.eye(2)]))


# ── norms
VECTOR_ORDERS = [None, 1, 2, 3, 2.5, 0.5, -1, -2, np.inf, -np.inf, 0]
MATRIX_ORDERS = [None, "fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf]


@pytest.mark.parametrize("ord", VECTOR_ORDERS)
@pytest.mark.parametrize("keepdims", [False, True])
def test_vector_norms_are_numpys(ord: Any, keepdims: bool) -> None:
    x = normal(2, 3)
    x += np.sign(x) / 2
    order = 0 if ord == 0 else 2
    for axis in (0, -1):
        f, reference = (lambda x, m=m, axis=axis: m.norm(x, ord, axis, keepdims) for m in (linalg, np.linalg))
        check_value(f, reference, x)
        if order:
            check_grads(f, (x,), order=order)
    check_value(lambda x: linalg.norm(x, ord), lambda x: np.linalg.norm(x, ord), x[0])
    check_value(lambda x: linalg.norm(x, ord), lambda x: np.linalg.norm(x, ord), x[0].astype(np.float32))
    check_value(lambda x: linalg.norm(x, ord), lambda x: np.linalg.norm(x, ord), complex_normal(3))


def check_value(f: Callable[..., Any], reference: Callable[..., Any], x: np.ndarray) -> None:
    y, expected = fg.vjp(f, x)[0], reference(x)
    assert y.shape == expected.shape
    assert y.dtype == expected.dtype
    np.testing.assert_allclose(y, expected, rtol=1e-6 if x.dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("ord", MATRIX_ORDERS)
@pytest.mark.parametrize("axis", [None, (0, 1), (1, 0), (-1, -2)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_matrix_norms_are_numpys(ord: Any, axis: Any, keepdims: bool) -> None:
    norm = lambda x, m: m.norm(x, ord, axis, keepdims)
    agrees(lambda x: norm(x, linalg), lambda x: norm(x, np.linalg), normal(2, 3))
    stacked = normal(2, 3, 2)
    if axis is not None:
        agrees(lambda x: norm(x, linalg), lambda x: norm(x, np.linalg), stacked)
    matrix = lambda x, m: m.matrix_norm(x, ord=ord or "fro")
    agrees(lambda x: matrix(x, linalg), lambda x: matrix(x, np.linalg), stacked)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 2, 2), (0,), (2, 0)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_without_order_and_axis_all_elements_are_one_vector(shape: tuple[int, ...], keepdims: bool) -> None:
    norm = lambda x, m: m.norm(x, keepdims=keepdims)
    agrees(lambda x: norm(x, linalg), lambda x: norm(x, np.linalg), normal(*shape))


@pytest.mark.parametrize("axis", [None, 0, (0, 2), (2, 1, 0)])
@pytest.mark.parametrize("ord", [1, 2, 3, np.inf])
def test_a_vector_may_extend_over_several_axes(axis: Any, ord: Any) -> None:
    norm = lambda x, m: m.vector_norm(x, axis=axis, ord=ord, keepdims=True)
    agrees(lambda x: norm(x, linalg), lambda x: norm(x, np.linalg), normal(2, 3, 2))


@pytest.mark.parametrize("ord", [None, 1, 2, 3, 2.5, 0.5, np.inf, 0])
def test_the_gradient_of_a_norm_at_zero_is_zero(ord: Any) -> None:
    norm = lambda x: linalg.norm(x, ord) * 1.0
    for x in (np.zeros(3), np.zeros(3, complex)):
        np.testing.assert_array_equal(fg.grad(norm)(x), np.zeros(3))
    two = lambda x: linalg.norm(x, ord, axis=1).sum() * 1.0
    np.testing.assert_array_equal(fg.grad(two)(np.array([[0.0, 0.0], [3.0, 4.0]]))[0], 0)
    np.testing.assert_array_equal(fg.grad(norm)(np.zeros(0)), np.zeros(0))


@pytest.mark.parametrize("ord", MATRIX_ORDERS)
def test_the_gradient_of_a_matrix_norm_at_zero_is_zero(ord: Any) -> None:
    np.testing.assert_array_equal(fg.grad(lambda x: linalg.norm(x, ord, axis=(0, 1)))(np.zeros((2, 3))), 0)


def test_the_second_derivative_of_the_norm_is_right_elsewhere_and_finite_at_zero() -> None:
    x, v = np.array([3.0, 4.0]), np.array([1.0, 2.0])
    direction = lambda x: (fg.grad(linalg.norm)(x) * v).sum()
    unit = x / 5
    np.testing.assert_allclose(fg.grad(direction)(x), (v - unit * (unit @ v)) / 5, rtol=1e-12)
    assert np.isfinite(fg.grad(direction)(np.zeros(2))).all()


def test_equal_largest_elements_share_the_gradient_of_the_infinity_norm() -> None:
    f = fg.grad(lambda x: linalg.norm(x, np.inf))
    np.testing.assert_array_equal(f(np.array([1.0, -2.0, 2.0])), [0, -0.5, 0.5])
    np.testing.assert_array_equal(f(np.zeros(3)), np.zeros(3))


def test_norms_of_integers_are_floating_point() -> None:
    assert linalg.norm(np.array([3, 4])) == 5.0
    assert "f64[]" in str(fg.make_jaxpr(linalg.norm)(np.array([3, 4])))


def test_the_norm_of_nan_is_nan() -> None:
    assert np.isnan(fg.value_and_grad(linalg.norm)(np.array([1.0, np.nan]))[0])


@pytest.mark.parametrize("p", [1.2, 1.5, 1.9])
def test_a_norm_below_two_has_an_infinite_second_derivative_at_a_zero_element(p: float) -> None:
    x, v = np.array([0.0, 2.0, -1.0]), np.array([1.0, 0.5, 0.5])
    f = lambda x: linalg.norm(x, p)
    assert fg.grad(f)(x)[0] == 0
    got = fg.hvp(f)(v, x)
    assert got[0] == np.inf
    np.testing.assert_allclose(got[1:], fg.hvp(f)(v[1:], x[1:]), rtol=1e-12)


def test_norms_that_do_not_exist_are_refused() -> None:
    x = np.eye(2)
    for f, message in [
        (lambda x: linalg.norm(x, 3), "matrices have no norm of order 3"),
        (lambda x: linalg.norm(x[0], "fro"), "vectors have no norm of order 'fro'"),
        (lambda x: linalg.norm(x[None], 1), "ord=1 of 3 axes"),
        (lambda x: linalg.norm(x, axis=(0, 0)), "names an axis twice"),
    ]:
        with pytest.raises(ValueError, match=message):
            fg.grad(f)(x)


# ── products
@few
@given(n=st.integers(0, 3), power=st.integers(-5, 9), stack=st.sampled_from([(), (2,)]))
def test_a_power_of_a_matrix_is_numpys(n: int, power: int, stack: tuple[int, ...]) -> None:
    a = regular(*stack, n, n) / 3
    agrees(lambda a: linalg.matrix_power(a, power), lambda a: np.linalg.matrix_power(a, power), a)
    np.testing.assert_array_equal(linalg.matrix_power(a, power), np.linalg.matrix_power(a, power))


def test_what_has_no_power_is_refused() -> None:
    with pytest.raises(TypeError, match=r"exponent 1\.5 is not an integer"):
        linalg.matrix_power(np.eye(2), 1.5)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(fg.errors.SingularMatrixError, match="singular"):
        fg.grad(lambda a: linalg.matrix_power(a, -1).sum())(SINGULAR)
    with pytest.raises(ValueError, match="2 rows and 3 columns"):
        linalg.matrix_power(np.ones((2, 3)), 2)


@few
@given(data=st.data(), count=st.integers(2, 6))
def test_a_product_of_several_matrices_is_numpys(data: st.DataObject, count: int) -> None:
    lengths = data.draw(st.lists(st.integers(1, 4), min_size=count + 1, max_size=count + 1))
    xs = [normal(m, n) for m, n in itertools.pairwise(lengths)]
    xs[0] = xs[0][0] if data.draw(st.booleans()) else xs[0]
    xs[-1] = xs[-1][:, 0] if data.draw(st.booleans()) else xs[-1]
    agrees(lambda *xs: linalg.multi_dot(xs), lambda *xs: np.linalg.multi_dot(xs), *xs)


def test_several_matrices_are_multiplied_in_the_cheapest_order() -> None:
    jaxpr = str(fg.make_jaxpr(lambda *xs: linalg.multi_dot(xs))(np.ones((50, 50)), np.ones((50, 50)), np.ones(50)))
    assert "f64[50,50] = " not in jaxpr
    assert jaxpr.count("f64[50] = ") == 2
    with pytest.raises(ValueError, match="two arrays or more, got 1"):
        linalg.multi_dot([np.eye(2)])
    with pytest.raises(ValueError, match=r"array 1 of 3 has shape \(2,\)"):
        linalg.multi_dot([np.eye(2), np.ones(2), np.eye(2)])


def test_an_empty_sum_in_a_product_has_gradients_of_no_elements() -> None:
    ct1, ct2 = fg.vjp(linalg.matmul, np.ones((2, 0)), np.ones((0, 3)))[1](np.ones((2, 3)))
    assert ct1.shape == (2, 0)
    assert ct2.shape == (0, 3)
    np.testing.assert_array_equal(linalg.matmul(np.ones((2, 0)), np.ones((0, 3))), 0)


# ── the rest of the namespace
def test_names_that_numpy_linalg_shares_take_the_last_two_axes() -> None:
    x, y = normal(2, 3, 4), normal(2, 4, 3)
    agrees(linalg.trace, np.linalg.trace, x)
    agrees(lambda x: linalg.diagonal(x, offset=1), lambda x: np.linalg.diagonal(x, offset=1), x)
    agrees(linalg.matrix_transpose, np.linalg.matrix_transpose, x)
    agrees(linalg.matmul, np.linalg.matmul, x, y)
    agrees(linalg.vecdot, np.linalg.vecdot, x, x)
    agrees(lambda x, y: linalg.tensordot(x, y, axes=([1], [2])), lambda x, y: np.tensordot(x, y, ([1], [2])), x, y)
    agrees(linalg.outer, np.linalg.outer, x[0, 0], y[0, 0])
    with pytest.raises(ValueError, match="not those of vectors"):
        linalg.outer(x, y)
    assert linalg.LinAlgError is np.linalg.LinAlgError


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("inv", ([[2, 0], [0, 4]],)),
        ("det", ([[2, 0], [0, 4]],)),
        ("solve", ([[2, 0], [0, 4]], [1, 2])),
        ("cholesky", ([[2, 0], [0, 4]],)),
        ("norm", ([3, 4],)),
        ("vector_norm", (np.ones((2, 2)),)),
        ("matrix_norm", (np.ones((2, 2)),)),
    ],
)
def test_on_plain_arguments_the_result_is_exactly_numpys(name: str, args: tuple[Any, ...]) -> None:
    y, expected = getattr(linalg, name)(*args), getattr(np.linalg, name)(*args)
    assert type(y) is type(expected)
    assert y.dtype == expected.dtype
    np.testing.assert_array_equal(y, expected)
