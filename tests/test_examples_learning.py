"""The examples that learn: recurrent networks that write, and private training by per-example gradients."""

from pathlib import Path

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from examples import char_rnn, private_sgd

pytestmark = pytest.mark.usefixtures("uncompared")

TEXT = char_rnn.load()
CELLS = pytest.mark.parametrize("model", char_rnn.models(hidden=5), ids=lambda model: model.name)


def doubles(params: char_rnn.Params) -> char_rnn.Params:
    return fg.tree.map(lambda w: w.astype(np.float64), params)


# The recurrent networks


def test_the_text_is_learned_from_and_tested_on_chapter_by_chapter() -> None:
    train, test = ("".join(TEXT.alphabet[i] for i in part) for part in (TEXT.train, TEXT.test))
    assert train.startswith("CHAPTER I. Down the Rabbit-Hole\nAlice was beginning to get very tired of sitting by her")
    assert test.startswith("CHAPTER V. Advice from a Caterpillar\nThe Caterpillar and Alice looked at each other")
    assert train.count("CHAPTER") == 4
    assert len(TEXT.alphabet) == len(set(train + test)) == 66
    pieces = char_rnn.windows(TEXT.train, 10, [0, 100])
    assert "".join(TEXT.alphabet[i] for i in pieces[:, 1]) == train[100:111]


@CELLS
def test_the_scan_reads_what_a_loop_over_the_characters_reads(model: char_rnn.Model) -> None:
    params = doubles(model.start(7, np.random.default_rng(0)))
    text = np.random.default_rng(1).integers(0, 7, (6, 2))
    state, scores = fg.jit(lambda p, x: char_rnn.read(model, p, model.empty(p, 2), x))(params, text)
    expected = model.empty(params, 2)
    for x, score in zip(text, scores, strict=True):
        expected = model.cell(params, expected, params["U"][x] + params["b"])
        np.testing.assert_allclose(score, expected[0] @ params["V"] + params["c"], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(state, expected, rtol=1e-12, atol=1e-12)


@CELLS
def test_the_gradient_through_the_scan_is_right(model: char_rnn.Model) -> None:
    params = doubles(model.start(4, np.random.default_rng(0)))
    text = np.random.default_rng(1).integers(0, 4, (6, 2))
    loss = fg.jit(lambda p: char_rnn.cross_entropy(model, p, text))
    fg.testing.check_grads(loss, (params,), order=1)


@CELLS
def test_a_network_without_weights_finds_all_characters_equally_likely(model: char_rnn.Model) -> None:
    params = fg.tree.map(np.zeros_like, model.start(66, np.random.default_rng(0)))
    loss = char_rnn.cross_entropy(model, params, char_rnn.windows(TEXT.train, 8, [0, 50]))
    assert loss == pytest.approx(np.log(66), rel=1e-6)
    assert loss.dtype == np.float32


@CELLS
def test_the_loss_is_that_of_each_next_character(model: char_rnn.Model) -> None:
    params = fg.tree.map(np.zeros_like, doubles(model.start(2, np.random.default_rng(0))))
    params["c"] = np.log([0.25, 0.75])
    loss = char_rnn.cross_entropy(model, params, np.array([[0, 0], [1, 1], [1, 1]]))
    assert loss == pytest.approx(-np.log(0.75))


def test_clipping_shortens_what_is_too_long_and_keeps_its_direction() -> None:
    gradient = {"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])}
    clipped = char_rnn.clip(gradient, 1.0)
    np.testing.assert_allclose(clipped["a"], [0.6, 0.0])
    np.testing.assert_allclose(clipped["b"], [[0.8]])
    np.testing.assert_array_equal(char_rnn.clip(gradient, 5.0)["a"], gradient["a"])


def test_the_first_step_of_adam_moves_every_parameter_by_the_rate() -> None:
    params, gradient = {"w": np.array([1.0, 2.0, 3.0])}, {"w": np.array([1e-3, -5.0, 1e4])}
    zero = {"w": np.zeros(3)}
    moved, moments = char_rnn.adam(params, char_rnn.Moments(zero, zero, 0.0), gradient, 0.1)
    np.testing.assert_allclose(moved["w"] - params["w"], [-0.1, 0.1, -0.1], rtol=1e-3)
    assert moments.count == 1


def test_adam_finds_the_minimum_of_a_bowl() -> None:
    params, zero = np.array([3.0, -2.0]), np.zeros(2)
    moments = char_rnn.Moments(zero, zero, 0.0)
    step = fg.jit(char_rnn.adam)
    for k in range(300):
        params, moments = step(params, moments, 2 * (params - np.array([1.0, 1.0])), 0.2 * (1 - k / 300))
    np.testing.assert_allclose(params, 1.0, atol=1e-3)


@pytest.mark.parametrize("model", char_rnn.models(hidden=32), ids=lambda model: model.name)
def test_training_lowers_the_loss_and_stays_in_single_precision(model: char_rnn.Model) -> None:
    run = char_rnn.train(model, TEXT, steps=60, batch=8, length=16, quiet=True)
    assert run.train[0] == pytest.approx(np.log(66), abs=0.5)
    assert np.mean(run.train[-10:]) < 3.3
    assert run.test[60] < 3.3
    assert {w.dtype for w in fg.tree.leaves(run.params)} == {np.dtype(np.float32)}
    again = char_rnn.train(model, TEXT, steps=5, batch=8, length=16, quiet=True)
    assert again.train[0] == run.train[0]


def test_the_network_writes_characters_as_often_as_it_finds_them_likely() -> None:
    model = char_rnn.models(hidden=2)[0]
    params = fg.tree.map(np.zeros_like, model.start(3, np.random.default_rng(0)))
    params["c"] = np.log(np.array([0.2, 0.5, 0.3], np.float32))
    noise = np.random.default_rng(0).gumbel(size=(2000, 3)).astype(np.float32)
    written = fg.jit(lambda t: char_rnn.write(model, params, np.array([0]), noise, t))
    frequencies = np.bincount(written(np.float32(1.0)), minlength=3) / 2000
    np.testing.assert_allclose(frequencies, [0.2, 0.5, 0.3], atol=0.03)
    cold = np.bincount(written(np.float32(0.5)), minlength=3) / 2000
    np.testing.assert_allclose(cold, np.array([4, 25, 9]) / 38, atol=0.03)


@CELLS
def test_without_noise_the_network_writes_what_it_finds_most_likely(model: char_rnn.Model) -> None:
    params = model.start(7, np.random.default_rng(3))
    written = char_rnn.write(model, params, np.array([1, 4]), np.zeros((5, 7), np.float32), np.float32(1.0))
    text = [1, 4]
    for chosen in written:
        _, scores = char_rnn.read(model, params, model.empty(params, 1), np.array(text)[:, None])
        assert chosen == np.argmax(scores[-1, 0])
        text.append(int(chosen))


def test_both_networks_are_trained_shown_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = char_rnn.models(hidden=4)
    monkeypatch.setattr(char_rnn, "models", lambda: small)
    runs = char_rnn.demo(tmp_path / "out" / "char_rnn.png", steps=3, quiet=True)
    printed = capsys.readouterr().out
    for run in runs:
        assert f"The {run.model.name} writes:\n\n    Alice" in printed
    assert (tmp_path / "out" / "char_rnn.png").read_bytes().startswith(b"\x89PNG")


# Private training


DATA = private_sgd.Digits(*(part[:40] for part in private_sgd.load()[0]))
PARAMS = private_sgd.start(np.random.default_rng(5), hidden=3)


def batch(n: int, padding: int = 0) -> private_sgd.Batch:
    rows = np.r_[:n, np.zeros(padding, int)]
    return private_sgd.Batch(DATA.x[rows], DATA.y[rows], np.r_[np.ones(n), np.zeros(padding)])


def test_vmap_of_the_gradient_is_the_gradient_for_each_image() -> None:
    many = fg.jit(private_sgd.per_example_gradients)(PARAMS, DATA.x, DATA.y)
    for i in range(len(DATA.y)):
        one = fg.grad(private_sgd.loss)(PARAMS, DATA.x[i], DATA.y[i])
        for name, gradient in one.items():
            np.testing.assert_allclose(many[name][i], gradient, rtol=1e-12, atol=1e-12)


def test_the_gradients_for_each_image_have_the_gradient_of_the_mean_as_their_mean() -> None:
    def mean(params: private_sgd.Params) -> np.ndarray:
        log_p = fg.nn.log_softmax(private_sgd.scores(params, DATA.x))
        return -fnp.mean(log_p[fnp.arange(len(DATA.y)), DATA.y])

    many = private_sgd.per_example_gradients(PARAMS, DATA.x, DATA.y)
    for name, gradient in fg.grad(mean)(PARAMS).items():
        np.testing.assert_allclose(many[name].mean(axis=0), gradient, rtol=1e-10, atol=1e-12)


def test_clipping_keeps_each_direction_and_bounds_each_length() -> None:
    whole = private_sgd.per_example_gradients(PARAMS, DATA.x, DATA.y)
    lengths = fg.vmap(private_sgd.length)(whole)
    bound = float(np.median(lengths))
    clipped = private_sgd.clipped_gradients(PARAMS, DATA.x, DATA.y, bound)
    np.testing.assert_allclose(fg.vmap(private_sgd.length)(clipped), np.minimum(lengths, bound), rtol=1e-12)
    for name, gradient in clipped.items():
        scale = np.minimum(1.0, bound / lengths).reshape(-1, *(1,) * (gradient.ndim - 1))
        np.testing.assert_allclose(gradient, scale * whole[name], rtol=1e-12)


def test_no_image_moves_a_step_by_more_than_the_bound() -> None:
    noise = fg.tree.map(np.zeros_like, PARAMS)
    whole = private_sgd.private_step(PARAMS, batch(9), noise, 0.5, 1.0)
    for i in range(9):
        rows = np.delete(np.arange(9), i)
        rest = private_sgd.Batch(DATA.x[rows], DATA.y[rows], np.ones(8))
        without = private_sgd.private_step(PARAMS, rest, noise, 0.5, 1.0)
        assert private_sgd.length(fg.tree.map(lambda a, b: a - b, whole, without)) <= 0.5 * (1 + 1e-12)


def test_what_fills_a_batch_up_and_the_noise_enter_as_they_should() -> None:
    noise = fg.tree.map(np.ones_like, PARAMS)
    step = fg.jit(private_sgd.private_step)
    silent = step(PARAMS, batch(5), fg.tree.map(np.zeros_like, PARAMS), 0.5, 0.1)
    for padding in (0, 3):
        moved = step(PARAMS, batch(5, padding), noise, 0.5, 0.1)
        for name, w in moved.items():
            np.testing.assert_allclose(w, silent[name] - 0.1, rtol=1e-12)


def test_each_image_is_in_a_batch_with_the_same_probability() -> None:
    rng = np.random.default_rng(0)
    batches = [private_sgd.draw_batch(DATA, 0.3, rng, multiple=8) for _ in range(500)]
    assert all(len(b.y) % 8 == 0 and (b.present[int(b.present.sum()) :] == 0).all() for b in batches)
    counts = np.array([b.present.sum() for b in batches])
    assert counts.mean() == pytest.approx(12, abs=0.4)
    assert counts.var() == pytest.approx(40 * 0.3 * 0.7, rel=0.25)


# noise, epochs of 60,000 examples in batches of 256, and ε at δ = 1e-5: the tutorial of TensorFlow Privacy
@pytest.mark.parametrize(("sigma", "epochs", "published"), [(1.12, 60, 2.92), (0.6, 30, 9.74), (1.2, 10, 1.20)])
def test_the_accountant_finds_what_others_publish(sigma: float, epochs: int, published: float) -> None:
    found = private_sgd.epsilon(epochs * 60_000 // 256, 256 / 60_000, sigma, 1e-5)
    assert found == pytest.approx(published, rel=0.005)


def test_who_is_in_every_batch_is_as_exposed_as_by_the_noise_alone() -> None:
    for order in (2, 10, 64):
        assert private_sgd.renyi_divergence(order, 1 - 1e-12, 3.0) == pytest.approx(order / (2 * 3.0**2))
        assert private_sgd.renyi_divergence(order, 1e-9, 3.0) == pytest.approx(0, abs=1e-9)


def test_privacy_is_lost_with_every_step_and_gained_by_noise() -> None:
    assert private_sgd.epsilon(100, 0.1, 1.0) < private_sgd.epsilon(200, 0.1, 1.0)
    assert private_sgd.epsilon(100, 0.1, 2.0) < private_sgd.epsilon(100, 0.1, 1.0)
    assert private_sgd.epsilon(100, 0.05, 1.0) < private_sgd.epsilon(100, 0.1, 1.0)
    assert private_sgd.epsilon(100, 0.1, 0.0) == np.inf


def test_private_training_learns_and_repeats_itself() -> None:
    settings = private_sgd.Settings("", sigma=1.0, bound=1.0)
    run, again = (private_sgd.train(settings, *private_sgd.load(), epochs=4, quiet=True) for _ in range(2))
    assert run.test[-1] > 0.7 > run.test[0]
    assert run.test == again.test
    assert run.epsilon < 6


def test_batches_of_any_size_need_few_programs() -> None:
    rng, noise = np.random.default_rng(0), fg.tree.map(np.zeros_like, PARAMS)
    step = fg.jit(private_sgd.private_step)
    for _ in range(40):
        step(PARAMS, private_sgd.draw_batch(DATA, 0.5, rng, multiple=16), noise, 1.0, 0.1)
    assert step.cache_info().misses <= 3


def test_private_training_is_reported_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(private_sgd, "timings", lambda data: {"a loop": 30.0, "vmap": 2.0})
    runs = private_sgd.demo(tmp_path / "out" / "private_sgd.png", epochs=1, quiet=True)
    printed = capsys.readouterr().out
    assert [run.settings for run in runs] == private_sgd.ALL
    assert "vmap                             2.00            15.0" in printed
    assert (tmp_path / "out" / "private_sgd.png").read_bytes().startswith(b"\x89PNG")


def test_vmap_beats_a_loop_over_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("funcgrad.core.config.CHECK", False)  # what is checked is computed twice
    times = private_sgd.timings(DATA, size=32, repeats=3)
    assert times["vmap, compiled"] < times["the same, compiled gradient"] < times["a loop over the images"]


@pytest.mark.parametrize(("module", "option"), [(char_rnn, "--steps"), (private_sgd, "--epochs")])
def test_training_for_no_time_is_refused(
    module: object, option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["example.py", option, "0"])
    with pytest.raises(SystemExit):
        module.main()
    assert f"{option} must be at least 1, not 0" in capsys.readouterr().err
