"""Eigenvalues, singular values and what rests on them: their gradients, where values are equal too, or none exist."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.numpy import linalg
from funcgrad.testing import check_grads
from tests.matrices import agrees, complex_normal, normal, start_again

few = settings(max_examples=20)
kinds = pytest.mark.parametrize("kind", [normal, complex_normal])
shapes = pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 2), (2, 3), (4, 4), (2, 3, 2)])
I2, I3 = np.eye(2), np.eye(3)


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    start_again()


def adjoint(x: Any) -> Any:
    return fnp.conj(fnp.swapaxes(x, -1, -2))


def hermitian(x: Any) -> Any:
    return (x + adjoint(x)) / 2


def rotated(*values: float) -> np.ndarray:
    """A symmetric matrix with these eigenvalues and no zeros."""
    q = np.linalg.qr(normal(len(values), len(values)))[0]
    return hermitian((q * values) @ q.T)


def differences(f: Callable[[np.ndarray], Any], x: np.ndarray, symmetric: bool = False) -> np.ndarray:
    """The gradient by central differences, element by element, or along symmetric matrices."""
    y, step = np.empty(x.shape), 1e-5
    for place in np.ndindex(x.shape):
        d = np.zeros(x.shape)
        d[place] = step
        d = hermitian(d) if symmetric else d
        y[place] = (f(x + d) - f(x - d)) / (2 * step)
    return y


# ── Hermitian matrices
@kinds
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 3), (2, 3, 3), (0, 2, 2), (0, 0)])
def test_derivatives_of_eigenvalues_and_of_what_no_basis_changes(kind: Any, shape: tuple[int, ...]) -> None:
    def f(a: Any) -> Any:
        w, v = linalg.eigh(hermitian(a))
        top = v[..., -1:]
        return w, top @ adjoint(top), (v * (w**3)[..., None, :]) @ adjoint(v)

    check_grads(f, (kind(*shape),), order=2, rtol=1e-5)
    for uplo in ("L", "U"):
        agrees(
            lambda a, uplo=uplo: linalg.eigvalsh(hermitian(a), uplo),
            lambda a, uplo=uplo: np.linalg.eigvalsh(hermitian(a), uplo),
            kind(*shape),
        )


def test_the_vectors_of_real_symmetric_matrices_have_derivatives_up_to_their_sign() -> None:
    a = rotated(1.0, 2.0, 4.0)
    check_grads(lambda a: linalg.eigh(hermitian(a)).eigenvectors, (a,), order=3, rtol=1e-5)


@pytest.mark.parametrize("uplo", ["L", "U", "l"])
def test_one_triangle_is_read_and_the_gradient_is_symmetric(uplo: Any) -> None:
    symmetric = rotated(1.0, 2.0, 4.0)
    a = np.where(np.tri(3) if uplo != "U" else np.tri(3).T, symmetric, 99)
    for f in (
        lambda a: linalg.eigvalsh(a, uplo)[1],
        lambda a: linalg.eigh(a, UPLO=uplo).eigenvalues[1],
        lambda a: (linalg.eigh(a, uplo)[1][:, 0] ** 4).sum(),
    ):
        value, g = fg.value_and_grad(f)(a)
        np.testing.assert_allclose(value, f(symmetric), rtol=1e-12)
        np.testing.assert_array_equal(g, g.T)
        np.testing.assert_allclose(g, differences(f, symmetric, symmetric=True), rtol=1e-6, atol=1e-8)


def test_the_gradient_is_symmetric_to_the_last_digit() -> None:
    a = hermitian(normal(30, 30))
    for f in (lambda a: (linalg.eigvalsh(a) ** 3).sum(), lambda a: (linalg.eigh(a)[1] ** 4).sum()):
        g = fg.grad(f)(a)
        np.testing.assert_array_equal(g, g.T)


@pytest.mark.parametrize("f", [linalg.eigvalsh, lambda a: linalg.eigh(a).eigenvalues])
def test_equal_eigenvalues_take_the_vectors_that_were_computed(f: Callable[..., Any]) -> None:
    np.testing.assert_array_equal(fg.grad(lambda a: (f(a) * np.array([1.0, 2.0])).sum())(I2), np.diag([1.0, 2.0]))
    np.testing.assert_allclose(fg.grad(lambda a: (f(a) ** 3).sum())(2 * I3), 12 * I3)


@pytest.mark.parametrize(
    "a", [np.diag([1.0, 1.0, 2.0]), rotated(1.0, 1.0, 2.0), 1e6 * rotated(1.0, 1.0, 3.0), rotated(-1, 0, 0)]
)
def test_a_space_of_equal_eigenvalues_has_a_derivative(a: np.ndarray) -> None:
    weights = normal(3, 3)
    pair = slice(0, 2) if abs(np.diff(np.linalg.eigvalsh(a)))[0] < 1e-6 else slice(1, 3)

    def f(a: Any) -> Any:
        v = linalg.eigh(a).eigenvectors[:, pair]
        return (v @ v.T * weights).sum()

    scale = np.abs(a).max()
    expected = differences(lambda x: f(scale * x), a / scale, symmetric=True) / scale
    np.testing.assert_allclose(fg.grad(f)(a), expected, rtol=1e-6, atol=1e-8 / scale)


@few
@given(n=st.integers(2, 40), seed=st.integers(0, 2**32 - 1))
def test_rounding_does_not_part_equal_eigenvalues(n: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    q, half = np.linalg.qr(random.standard_normal((n, n)))[0], n // 2
    values = np.where(np.arange(n) < half, 1.0, 2.0)
    weights = random.standard_normal((n, n))

    def f(a: Any) -> Any:
        v = linalg.eigh(a).eigenvectors[:, :half]
        return (v @ v.T * weights).sum()

    # the derivative of the projector: in the basis q, elements between the two spaces over the gap of 1
    inside = hermitian(q.T @ weights @ q)
    expected = q @ np.where(values[:, None] == values, 0, -inside) @ q.T
    np.testing.assert_allclose(fg.grad(f)((q * values) @ q.T), expected, atol=1e-9 * n)


@pytest.mark.parametrize(
    "loss",
    {
        "the basis": lambda w, v: (v[:, :2] * np.array([[1.0, 2.0], [0.0, 0.0], [3.0, 0.0]])).sum(),
        "a matrix function": lambda w, v: ((v * fnp.exp(w)) @ v.T * np.arange(9.0).reshape(3, 3)).sum(),
        "a matrix function with one equal slope": lambda w, v: ((v * w) @ v.T).sum(),
        "a matrix function that is zero here": lambda w, v: ((v * fnp.log(w)) @ v.T * np.diag([1.0, 2.0, 4.0])).sum(),
    }.items(),
    ids=lambda item: item[0],
)
def test_what_equal_eigenvalues_leave_undetermined_is_nan_and_not_zero(loss: Any) -> None:
    assert np.isnan(fg.grad(lambda a: loss[1](*linalg.eigh(a)))(I3)).all()


def test_vectors_that_take_no_part_may_be_any() -> None:
    def loss(a: Any) -> Any:
        w, v = linalg.eigh(a)
        return w[-1] * (v[:, -1] @ np.array([1.0, 2.0, 3.0])) ** 2

    for a in (np.diag([0.0, 0.0, 5.0]), rotated(0.0, 0.0, 5.0)):
        np.testing.assert_allclose(fg.grad(loss)(a), differences(loss, a, symmetric=True), rtol=1e-6, atol=1e-8)


def test_a_loss_that_depends_on_a_complex_phase_has_no_derivative() -> None:
    a = hermitian(complex_normal(3, 3))
    assert np.isnan(fg.grad(lambda a: linalg.eigh(a)[1].real.sum())(a)).all()
    assert np.isnan(fg.grad(lambda a: linalg.svd(a)[0].imag.sum())(a)).all()
    assert np.isfinite(fg.grad(lambda a: (fnp.abs(linalg.eigh(a)[1]) ** 4).sum())(a)).all()


def test_a_projection_on_positive_matrices_is_differentiated_at_low_rank() -> None:
    b, weights = normal(4, 1), normal(4, 4)

    def loss(a: Any) -> Any:
        w, v = linalg.eigh(hermitian(a))
        return ((v * w**2) @ v.T * weights).sum()

    a = b @ b.T
    np.testing.assert_allclose(fg.grad(loss)(a), hermitian(a @ weights + weights @ a), rtol=1e-9, atol=1e-9)


# ── singular values and vectors
@kinds
@shapes
def test_derivatives_of_singular_values_and_of_what_no_basis_changes(kind: Any, shape: tuple[int, ...]) -> None:
    def f(a: Any) -> Any:
        u, s, vh = linalg.svd(a, full_matrices=False)
        return s, u @ vh, (u * (s**3)[..., None, :]) @ vh, u[..., :1] @ vh[..., :1, :], u @ adjoint(u), adjoint(vh) @ vh

    a = kind(*shape)
    check_grads(f, (a,), order=2, rtol=1e-4)
    agrees(linalg.svdvals, np.linalg.svdvals, a)
    agrees(lambda a: linalg.svd(a, compute_uv=False), lambda a: np.linalg.svd(a, compute_uv=False), a)
    check_grads(lambda a: linalg.svd(a)[1], (a,), order=3, rtol=1e-5)


@shapes
@pytest.mark.parametrize("full", [False, True])
def test_svd_is_numpys(shape: tuple[int, ...], full: bool) -> None:
    a = normal(*shape)
    for y, part, expected in zip(
        linalg.svd(a, full), fg.vjp(lambda a: linalg.svd(a, full), a)[0], np.linalg.svd(a, full), strict=True
    ):
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(part, expected)
    assert fg.eval_shape(lambda a: linalg.svd(a, full).U, a).shape == np.linalg.svd(a, full).U.shape


def test_equal_singular_values_take_the_vectors_that_were_computed() -> None:
    weights = np.array([1.0, 2.0])
    for f in (linalg.svdvals, lambda a: linalg.svd(a).S):
        np.testing.assert_array_equal(fg.grad(lambda a, f=f: (f(a) * weights).sum())(I2), np.diag(weights))


@pytest.mark.parametrize("a", [I3, 2 * np.linalg.qr(normal(3, 3))[0], np.diag([3.0, 1.0, 1.0])])
def test_the_orthogonal_factor_of_a_matrix_has_a_derivative_at_equal_singular_values(a: np.ndarray) -> None:
    weights = normal(3, 3)

    def loss(a: Any) -> Any:
        u, _, vh = linalg.svd(a)
        return (u @ vh * weights).sum()

    np.testing.assert_allclose(fg.grad(loss)(a), differences(loss, a), rtol=1e-6, atol=1e-8)


def test_singular_vectors_of_equal_values_have_a_safe_inverse() -> None:
    # at this basis the sum of all elements is stationary under rotations, so nothing depends on the choice
    np.testing.assert_array_equal(fg.grad(lambda a: linalg.svd(a).U.sum())(I2), 0)
    assert np.isnan(fg.grad(lambda a: (linalg.svd(a).U * normal(2, 2)).sum())(I2)).all()


@pytest.mark.parametrize("shape", [(2, 2), (3, 3), (4, 3), (3, 4)])
def test_matrices_of_rank_one_have_finite_gradients(shape: tuple[int, int]) -> None:
    m, n = shape
    a, weights = normal(m, 1) @ normal(1, n), normal(m, n)
    assert np.isfinite(fg.grad(lambda a: linalg.svdvals(a).sum())(a)).all()

    def first(a: Any) -> Any:
        u, _, vh = linalg.svd(a, full_matrices=False)
        return (u[:, :1] @ vh[:1] * weights).sum()

    np.testing.assert_allclose(fg.grad(first)(a), differences(first, a), rtol=1e-6, atol=1e-7)

    def again(a: Any) -> Any:
        u, s, vh = linalg.svd(a, full_matrices=False)
        return ((u * s) @ vh * weights).sum()

    np.testing.assert_allclose(fg.grad(again)(a), weights, rtol=1e-8)


def test_the_left_vectors_of_a_square_matrix_of_rank_one_are_as_numbers_say() -> None:
    a = np.array([[1.0, 2.0], [2.0, 4.0]])
    f = lambda a: linalg.svd(a).U.sum()
    np.testing.assert_allclose(fg.grad(f)(a), differences(f, a), rtol=1e-6, atol=1e-9)


def test_exact_zeros_are_no_exception() -> None:
    a = np.diag([2.0, 0.0, 0.0])

    def first(a: Any) -> Any:
        u, s, vh = linalg.svd(a)
        return ((u[:, :1] * s[:1]) @ vh[:1]).sum()

    np.testing.assert_allclose(fg.grad(first)(a), differences(first, a), rtol=1e-6, atol=1e-8)
    assert np.isnan(fg.grad(lambda a: linalg.svd(a).U[:, 1] @ np.array([0.0, 1.0, 2.0]))(a)).all()

    def again(a: Any) -> Any:
        u, s, vh = linalg.svd(a)
        return ((u * s) @ vh * (1 + 1j)).real.sum()

    # the phase between two vectors is lost where their singular value is zero
    assert np.isnan(fg.grad(again)(np.diag([2.0 + 0j, 0.0]))).all()
    tall = np.array([[2.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    assert np.isnan(fg.grad(lambda a: linalg.svd(a, False).U[2, 1])(tall)).any()


@pytest.mark.parametrize(("shape", "factor"), [((3, 2), 0), ((2, 3), 2)])
def test_a_factor_that_was_completed_has_no_derivative(shape: tuple[int, int], factor: int) -> None:
    a = normal(*shape)
    with pytest.raises(fg.errors.NotDifferentiableError, match=r"completed to a square .*\n.*\n.*full_matrices=False"):
        fg.grad(lambda a: linalg.svd(a)[factor].sum())(a)
    check_grads(lambda a: linalg.svd(a)[2 - factor], (a,), order=2, rtol=1e-5)


def test_that_a_matrix_is_hermitian_is_an_option_for_speed() -> None:
    a, weights = rotated(-3.0, 1.0, 2.0), normal(3, 3)
    u, s, vh = linalg.svd(a, hermitian=True)
    np.testing.assert_array_equal(s, np.linalg.svd(a, hermitian=True)[1])
    np.testing.assert_allclose(linalg.svd(a, compute_uv=False, hermitian=True), s, rtol=1e-14)
    np.testing.assert_allclose((u * s) @ vh, a)
    loss = lambda a: (linalg.pinv(a, hermitian=True) * weights).sum() + linalg.svd(a, hermitian=True)[1] @ weights[0]
    np.testing.assert_allclose(fg.value_and_grad(loss)(a)[0], loss(a))
    np.testing.assert_allclose(fg.grad(loss)(a), differences(loss, a, symmetric=True), rtol=1e-6)
    assert linalg.matrix_rank(a, hermitian=True) == 3


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_single_precision_stays_single(dtype: Any) -> None:
    a = complex_normal(3, 3).astype(dtype) if dtype == np.complex64 else normal(3, 3).astype(dtype)
    losses = {
        "eigh": lambda a: (fnp.abs(linalg.eigh(a)[1]) ** 4 * linalg.eigh(a)[0]).sum(),
        "svd": lambda a: fnp.abs(linalg.svd(a)[0] @ linalg.svd(a)[2]).sum(),
        "pinv": lambda a: fnp.abs(linalg.pinv(a)).sum(),
        "qr": lambda a: fnp.abs(linalg.qr(a).R).sum(),
        "cond": linalg.cond,
        "nuc": lambda a: linalg.norm(a, "nuc"),
    }
    for name, loss in losses.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value, g = fg.value_and_grad(loss)(a)
        assert value.dtype == np.float32, name
        assert g.dtype == dtype, name
        if name != "svd" or dtype == np.float32:
            assert np.isfinite(g).all(), name


# ── QR
@kinds
@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (4, 2), (2, 4), (2, 3, 2), (3, 0), (0, 3), (2, 2, 3)])
def test_derivatives_of_qr(kind: Any, shape: tuple[int, ...]) -> None:
    a = kind(*shape)
    for mode in ("reduced", "complete", "r"):
        for y, expected in zip(
            fg.vjp(lambda a, mode=mode: linalg.qr(a, mode), a)[0], np.linalg.qr(a, mode), strict=True
        ):
            np.testing.assert_allclose(y, expected, atol=1e-12)
    check_grads(linalg.qr, (a,), order=2, rtol=1e-5)
    check_grads(lambda a: linalg.qr(a, "complete")[1], (a,), order=2, rtol=1e-5)
    check_grads(lambda a: linalg.qr(a, "r"), (a,), order=2, rtol=1e-5)


def test_qr_refuses_what_has_no_derivative() -> None:
    with pytest.raises(fg.errors.NotDifferentiableError, match=r'Q of a matrix of shape \(3, 2\)[^$]*mode="reduced"'):
        fg.grad(lambda a: linalg.qr(a, "complete").Q.sum())(normal(3, 2))
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        fg.grad(lambda a: linalg.qr(a).R.sum())(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="no mode='raw'"):
        fg.grad(lambda a: linalg.qr(a, "raw")[0].sum())(I2)
    for y, expected in zip(linalg.qr(I2, "raw"), np.linalg.qr(I2, "raw"), strict=True):
        np.testing.assert_array_equal(y, expected)


# ── the pseudoinverse, least squares, rank and condition
@kinds
@shapes
def test_derivatives_of_the_pseudoinverse(kind: Any, shape: tuple[int, ...]) -> None:
    agrees(linalg.pinv, np.linalg.pinv, kind(*shape))


@kinds
@pytest.mark.parametrize(
    "options", [{}, {"rtol": None}, {"rtol": 1e-9}, {"rcond": 1e-9}, {"rcond": np.array([1e-9] * 2)}]
)
def test_a_pseudoinverse_is_differentiated_along_its_rank(kind: Any, options: dict[str, Any]) -> None:
    b, c = kind(2, 4, 2), kind(2, 2, 3)
    options = options or {"rcond": 1e-12}
    agrees(lambda b, c: linalg.pinv(b @ c, **options), lambda b, c: np.linalg.pinv(b @ c, **options), b, c)
    assert np.isfinite(fg.grad(lambda a: fnp.abs(linalg.pinv(a)).sum())(np.ones((3, 2)))).all()
    np.testing.assert_array_equal(fg.grad(lambda a: linalg.pinv(a).sum())(np.zeros((3, 2))), 0)


def test_least_squares_are_numpys_and_differentiated() -> None:
    systems = [((4, 2), (4,)), ((4, 2), (4, 3)), ((2, 3), (2,)), ((3, 3), (3, 1))]
    for a, b in [(normal(*m), normal(*n)) for m, n in systems] + [(np.ones((3, 2)), normal(3))]:
        got, expected = fg.vjp(lambda a, b: linalg.lstsq(a, b), a, b)[0], np.linalg.lstsq(a, b)
        for y, e in zip(got, expected, strict=True):
            np.testing.assert_allclose(y, e, atol=1e-12)
        if np.linalg.matrix_rank(a) == min(a.shape):
            check_grads(lambda a, b: linalg.lstsq(a, b)[:2], (a, b), order=2)
    with pytest.raises(ValueError, match=r"a of shape \(3, 2\) and b of shape \(2,\) do not fit"):
        fg.grad(lambda a: linalg.lstsq(a, np.ones(2))[0].sum())(np.ones((3, 2)))
    with pytest.raises(fg.errors.TracedShapeError, match=r"rank of a[^$]*pinv\(a\) @ b"):
        fg.make_jaxpr(linalg.lstsq)(normal(4, 2), normal(4))


def test_the_rank_is_a_constant() -> None:
    stack = np.stack([I3, np.ones((3, 3))])
    for a in (np.zeros((2, 3)), np.ones((2, 3)), I3, stack, np.zeros((3, 0)), np.zeros(3), np.ones(2)):
        for options in ({}, {"tol": 0.5}, {"rtol": 1e-3}):
            y = fg.vjp(lambda a, options=options: (a.sum(), linalg.matrix_rank(a, **options)), a, has_aux=True)[2]
            np.testing.assert_array_equal(y, np.linalg.matrix_rank(a, **options))
    np.testing.assert_array_equal(fg.grad(lambda a: a.sum() * linalg.matrix_rank(a))(np.ones((2, 2))), np.ones((2, 2)))
    assert fg.eval_shape(linalg.matrix_rank, np.ones((2, 3, 3))).shape == (2,)


@pytest.mark.parametrize("p", [None, 1, -1, 2, -2, np.inf, -np.inf, "fro", "nuc"])
def test_condition_numbers_are_numpys(p: Any) -> None:
    for a in (normal(3, 3), complex_normal(2, 2), normal(2, 3, 3)):
        agrees(lambda a: linalg.cond(a, p), lambda a: np.linalg.cond(a, p), a)
    singular = np.array([[1.0, 0.0], [0.0, 0.0]])
    assert fg.value_and_grad(lambda a: linalg.cond(a, p))(singular)[0] == (0 if p == -2 else np.inf)
    assert linalg.cond(I2, p) == np.linalg.cond(I2, p)


# ── norms from singular values
def test_the_largest_singular_value_shares_its_gradient() -> None:
    np.testing.assert_array_equal(fg.grad(lambda a: linalg.norm(a, 2))(I2), 0.5 * I2)
    np.testing.assert_array_equal(fg.grad(lambda a: linalg.matrix_norm(a, ord=2))(I2), 0.5 * I2)
    np.testing.assert_allclose(fg.grad(lambda a: linalg.norm(a, "nuc"))(I2), I2)


@pytest.mark.parametrize("ord", [2, "nuc"])
def test_the_gradient_of_a_spectral_norm_at_zero_is_zero(ord: Any) -> None:
    np.testing.assert_array_equal(fg.grad(lambda a: linalg.norm(a, ord))(np.zeros((2, 3))), 0)
    np.testing.assert_array_equal(fg.vjp(lambda a: linalg.norm(a, ord), np.zeros((0, 3)))[0], 0)


# ── what has no result
@pytest.mark.parametrize("name", ["eigh", "eigvalsh", "svd", "svdvals", "pinv", "matrix_rank"])
def test_a_matrix_with_nan_is_refused_by_its_place(name: str) -> None:
    a = np.stack([I3, np.full((3, 3), np.nan)])
    f = getattr(linalg, name)
    with pytest.raises(fg.errors.SingularMatrixError, match=r"matrix \[1\] of the stack has elements that are inf"):
        fg.vjp(lambda a: f(a), a)


@pytest.mark.parametrize("name", ["eigh", "eigvalsh", "svd", "svdvals", "pinv", "qr"])
def test_what_is_no_matrix_of_a_known_dtype_is_refused(name: str) -> None:
    f = getattr(linalg, name)
    with pytest.raises(ValueError, match=r"shape \(2,\) is not a matrix"):
        fg.vjp(f, np.ones(2))
    with pytest.raises(TypeError, match="not defined for float16"):
        fg.vjp(f, np.eye(2, dtype=np.float16))
    if name.startswith("eig"):
        with pytest.raises(ValueError, match="2 rows and 3 columns"):
            f(np.ones((2, 3)))
        with pytest.raises(ValueError, match="UPLO='X' names no triangle"):
            f(I2, "X")


def test_contradictory_tolerances_are_refused() -> None:
    with pytest.raises(ValueError, match=r"pinv: rcond=0\.1 and rtol=0\.2"):
        linalg.pinv(I2, 0.1, rtol=0.2)
    with pytest.raises(ValueError, match=r"matrix_rank: both tol=0\.1 and rtol=0\.2"):
        linalg.matrix_rank(I2, 0.1, rtol=0.2)


# ── NumPy's side
@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("eigvalsh", ([[2, 1], [1, 2]],)),
        ("svdvals", (np.ones((2, 3)),)),
        ("pinv", ([[2, 0], [0, 4]],)),
        ("matrix_rank", ([[2, 0], [0, 4]],)),
        ("matrix_rank", ([0.0, 1.0],)),
        ("cond", ([[2, 0], [0, 4]],)),
        ("norm", (np.ones((2, 3)), 2)),
        ("norm", (np.ones((2, 3)), "nuc")),
    ],
)
def test_on_plain_arguments_the_result_is_exactly_numpys(name: str, args: tuple[Any, ...]) -> None:
    y, expected = getattr(linalg, name)(*args), getattr(np.linalg, name)(*args)
    assert type(y) is type(expected)
    np.testing.assert_array_equal(y, expected)


def test_numpys_own_functions_are_differentiated() -> None:
    a, b = normal(3, 2), normal(3)
    check_grads(lambda a: np.linalg.svd(a, full_matrices=False).S * np.linalg.cond(a), (a,))
    check_grads(lambda a: np.linalg.eigh(a.T @ a).eigenvalues @ np.linalg.eigvalsh(a.T @ a), (a,))
    check_grads(lambda a: np.linalg.pinv(a) @ np.linalg.qr(a).Q + np.linalg.norm(a, 2), (a,))
    check_grads(lambda a: np.linalg.lstsq(a, b, rcond=None)[0] * np.linalg.matrix_rank(a), (a,))
