"""The examples that solve: Newton's method with conjugate gradients, and an equation with adaptive steps, fitted."""

from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import funcgrad as fg
import funcgrad.numpy as fnp
from examples import newton_cg, ode_fit

pytestmark = pytest.mark.usefixtures("uncompared")

FEW = newton_cg.Digits(*(part[:100] for part in newton_cg.load()[0]))


# Newton's method


def matrix(n: int) -> np.ndarray:
    """Symmetric and positive definite."""
    a = np.random.default_rng(n).normal(size=(n, n))
    return a @ a.T + np.eye(n)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-6, 1e-10])
def test_conjugate_gradients_leave_a_residual_within_the_tolerance(tolerance: float) -> None:
    A, b = matrix(12), np.random.default_rng(0).normal(size=12)
    d, steps = fg.jit(lambda b: newton_cg.conjugate_gradients(lambda v: A @ v, b, tolerance))(b)
    assert np.linalg.norm(b - A @ d) <= 1.1 * tolerance
    assert 1 <= steps <= 16


def test_conjugate_gradients_solve_for_a_pytree_in_as_many_steps_as_it_has_numbers() -> None:
    A, b = matrix(5), {"u": np.array([1.0, -2.0]), "v": np.array([[0.5], [3.0], [1.0]])}
    flat, unravel = fg.tree.ravel_pytree(b)

    def product(v: newton_cg.Params) -> newton_cg.Params:
        return unravel(A @ fg.tree.ravel_pytree(v)[0])

    d, steps = newton_cg.conjugate_gradients(product, b, 1e-9)
    assert steps <= 6
    np.testing.assert_allclose(fg.tree.ravel_pytree(d)[0], np.linalg.solve(A, flat), rtol=1e-8)


def test_nothing_is_left_to_do_where_the_right_hand_side_is_zero() -> None:
    d, steps = newton_cg.conjugate_gradients(lambda v: 2 * v, np.zeros(3), 1e-9)
    np.testing.assert_array_equal(d, np.zeros(3))
    assert steps == 0


def test_the_line_search_takes_the_first_length_that_pays() -> None:
    def f(x: np.ndarray) -> np.ndarray:
        return fnp.sum(fnp.sqrt(1 + x**2))  # from afar, Newton steps for it go too far

    x = np.array([2.0])
    slope = fg.grad(f)(x)
    d = -slope / fg.hvp(f)(np.ones(1), x)
    t = newton_cg.backtrack(f, x, d, f(x), slope @ d)
    assert t < 1
    assert f(x + t * d) <= f(x) + 1e-4 * t * slope @ d
    assert f(x + 2 * t * d) > f(x) + 1e-4 * 2 * t * slope @ d


def test_the_gradient_and_the_hessian_of_the_softmax_loss_are_right() -> None:
    loss = newton_cg.softmax_loss(newton_cg.Digits(FEW.x[:4], FEW.y[:4]))
    rng = np.random.default_rng(0)
    params = fg.tree.map(lambda w: rng.normal(size=w.shape), newton_cg.zeros())
    fg.testing.check_grads(loss, (params,), order=2)


def test_newton_converges_quadratically_to_the_minimum_that_lbfgs_finds() -> None:
    loss = newton_cg.softmax_loss(FEW)
    run, other = newton_cg.newton(loss, newton_cg.zeros()), newton_cg.lbfgs(loss, newton_cg.zeros())
    assert run.gradient[-1] < 1e-12
    assert len(run.gradient) < 15
    near = [(g, after) for g, after in zip(run.gradient, run.gradient[1:], strict=False) if 1e-7 < g < 1e-2]
    assert len(near) >= 2
    assert all(after < 50 * g**2 for g, after in near), run.gradient
    assert run.loss[-1] == pytest.approx(other.loss[-1], rel=1e-12)
    for found, expected in zip(fg.tree.leaves(run.params), fg.tree.leaves(other.params), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert newton_cg.accuracy(run.params, FEW) == 1.0


def test_a_newton_step_is_one_program_and_computes_what_it_does_without_jit() -> None:
    step = fg.jit(partial(newton_cg.newton_step, newton_cg.softmax_loss(FEW)))
    params = newton_cg.zeros()
    for _ in range(3):
        with fg.disable_jit():
            expected, plain = step(params)
        params, at = step(params)
        np.testing.assert_allclose(params["W"], expected["W"], rtol=1e-9, atol=1e-12)
        assert (at.products, at.length) == (plain.products, plain.length)
    assert step.cache_info().misses == 1


def test_newton_prints_its_steps_and_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(newton_cg, "load", lambda: (FEW, FEW))
    runs = newton_cg.demo(tmp_path / "out" / "newton_cg.png")
    printed = capsys.readouterr().out
    assert f"{runs[0].loss[-1]:.15f}  {runs[0].gradient[-1]:8.1e}" in printed
    assert (tmp_path / "out" / "newton_cg.png").read_bytes().startswith(b"\x89PNG")


# Adaptive steps


def fractions(row: list[float]) -> list[Fraction]:
    return [Fraction(x).limit_denominator(400_000) for x in row]


def test_the_coefficients_fulfil_the_conditions_of_order_five_and_four() -> None:
    c = fractions(ode_fit.NODES)
    a = [fractions(row) + [Fraction(0)] * (7 - len(row)) for row in ode_fit.STAGES]
    five = a[-1]
    four = [b - e for b, e in zip(five, fractions(ode_fit.ERROR), strict=True)]
    assert [sum(row) for row in a] == c

    def apply(v: list[Fraction]) -> list[Fraction]:
        return [sum((x * y for x, y in zip(row, v, strict=True)), Fraction(0)) for row in a]

    for order, weights in (5, five), (4, four):
        for k in range(order):  # quadrature: the sum of b c^k is 1 / (k + 1)
            assert sum(w * x**k for w, x in zip(weights, c, strict=True)) == Fraction(1, k + 1)
        for k in range(1, order - 1):  # and the tall trees: the sum of b A c^k is 1 / ((k + 1)(k + 2))
            powers = apply([x**k for x in c])
            assert sum(w * x for w, x in zip(weights, powers, strict=True)) == Fraction(1, (k + 1) * (k + 2))
    assert sum(w * x**4 for w, x in zip(four, c, strict=True)) != Fraction(1, 5)


@pytest.mark.parametrize("tolerance", [1e-4, 1e-7, 1e-10])
def test_the_error_of_the_solver_follows_its_tolerance(tolerance: float) -> None:
    times = np.array([0.0, 0.5, 3.0])
    y, steps = ode_fit.solve(lambda t, y, p: p * y + fnp.cos(t), np.array([1.0]), times, -0.5, tolerance)
    exact = solve_ivp(lambda t, y: -0.5 * y + np.cos(t), (0, 3), [1.0], t_eval=times, rtol=1e-12, atol=1e-13).y.T
    assert np.abs(y - exact).max() < 10 * tolerance
    assert steps < 400


def test_the_solver_keeps_what_the_equation_keeps() -> None:
    params = ode_fit.guess()
    a, b, c, d = np.exp(params[:4])
    y, _ = ode_fit.populations(params, np.linspace(0, 30, 7), 1e-9)
    hares, lynxes = np.exp(y.T)
    kept = d * hares - c * np.log(hares) + b * lynxes - a * np.log(lynxes)
    np.testing.assert_allclose(kept, kept[0], rtol=1e-6)


def test_the_solver_goes_on_from_a_time_that_it_has_reached() -> None:
    params = ode_fit.guess()
    fine, _ = ode_fit.populations(params, np.linspace(0, 6, 25), 1e-9)
    coarse, _ = ode_fit.populations(params, np.array([0.0, 3.0, 3.0, 6.0]), 1e-9)
    np.testing.assert_allclose(coarse, fine[[0, 12, 12, 24]], atol=1e-7)


def test_the_gradient_through_the_steps_is_the_central_difference() -> None:
    params = ode_fit.guess()
    gradient = fg.jit(fg.grad(ode_fit.mismatch))(params)
    numeric = ode_fit.central_differences(fg.jit(ode_fit.mismatch), params)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-6)
    np.testing.assert_allclose(gradient, fg.grad(ode_fit.mismatch)(params), rtol=1e-9)  # without jit


def test_the_best_parameters_are_those_in_the_literature_within_their_errors() -> None:
    found = ode_fit.fit(ode_fit.guess())
    assert np.abs(fg.jit(fg.grad(ode_fit.mismatch))(found.params)).max() < 1e-3
    for published in ode_fit.PUBLISHED.values():
        off = np.log(np.array(published[:4], float)) - found.params[:4]
        assert (np.abs(off) < found.errors[:4]).all()
    hessian = fg.jit(fg.vmap(fg.hvp(ode_fit.mismatch), (0, None)))(np.eye(6), found.params)
    gradient = fg.jit(fg.grad(ode_fit.mismatch))
    numeric = [(gradient(found.params + 1e-5 * e) - gradient(found.params - 1e-5 * e)) / 2e-5 for e in np.eye(6)]
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-6)
    np.testing.assert_allclose(hessian, numeric, atol=1e-4)


def test_checkpoints_change_no_gradient_and_save_memory() -> None:
    params, times = ode_fit.guess(), np.array([0.0, 25.0])

    def end(params: np.ndarray, every: int | None) -> np.ndarray:
        return fnp.sum(ode_fit.populations(params, times, 1e-7, every)[0][-1])

    plain, sparse = (fg.jit(fg.grad(partial(end, every=every)))(params) for every in (None, 10))
    np.testing.assert_allclose(sparse, plain, rtol=1e-10)
    plain, sparse = ode_fit.cost(params, 30.0), ode_fit.cost(params, 30.0, 10)
    assert sparse.memory < 0.75 * plain.memory


def test_the_fit_is_reported_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    best = ode_fit.Fit(ode_fit.guess(), np.full(6, 0.1), 0.25, 1.0, [19.9, 2.0])
    monkeypatch.setattr(ode_fit, "fit", lambda start: best)
    ode_fit.demo(tmp_path / "out" / "ode_fit.png", spans=[1.0, 2.0])
    printed = capsys.readouterr().out
    assert "The mismatch fell from 19.90 to" in printed
    assert "checkpoint_every=25" in printed
    assert (tmp_path / "out" / "ode_fit.png").read_bytes().startswith(b"\x89PNG")
