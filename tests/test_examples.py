"""The examples do what they promise: the classifiers learn, and the lecture's numbers come out."""

from pathlib import Path

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from examples import digits, lecture

pytestmark = pytest.mark.usefixtures("uncompared")

TARGETS = {"linear, SVM loss": 0.94, "linear, softmax": 0.94, "two-layer network": 0.97}


def test_each_image_is_either_trained_on_or_tested() -> None:
    train, test = digits.load()
    assert (len(train.y), len(test.y)) == (1348, 449)
    assert {image.tobytes() for image in train.x}.isdisjoint(image.tobytes() for image in test.x)
    assert np.bincount(test.y).min() >= 30
    assert abs(train.x.mean()) < 1e-12
    assert abs(train.x.std() - 1) < 1e-12


def test_every_classifier_reaches_its_target_and_the_picture_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "out" / "digits.png"
    runs = digits.demo(picture, quiet=True)
    reached = {run.model.name: run.test[-1] for run in runs}
    assert reached.keys() == TARGETS.keys()
    assert all(reached[name] >= target for name, target in TARGETS.items()), reached
    assert sum(run.seconds for run in runs) < 30
    assert picture.read_bytes().startswith(b"\x89PNG")
    printed, progress = capsys.readouterr()
    assert all(f"{name:<17}  {accuracy:>13.1%}" in printed for name, accuracy in reached.items())
    assert progress == ""


def test_the_command_shows_progress_with_loss_and_accuracy_and_says_where_the_picture_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(digits, "PICTURE", tmp_path / "out" / "digits.png")
    monkeypatch.setattr("sys.argv", ["digits.py", "--epochs", "2"])
    digits.main()
    printed, progress = capsys.readouterr()
    assert "The picture is in out/digits.png" in printed.replace("\\", "/")
    for name in TARGETS:
        last = progress[progress.rindex(f"{name}: 100%") :]
        assert "loss=" in last
        assert "accuracy=9" in last


def test_training_for_no_epochs_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["digits.py", "--epochs", "0"])
    with pytest.raises(SystemExit):
        digits.main()
    assert "--epochs must be at least 1, not 0" in capsys.readouterr().err


def test_training_twice_gives_the_same_and_leaves_the_starting_point_alone() -> None:
    train, test = digits.load()
    network = digits.models()[-1]
    first, second = (digits.train(network, train, test, epochs=1, quiet=True) for _ in range(2))
    assert (first.loss, first.train, first.test) == (second.loss, second.train, second.test)
    assert first.test[-1] > 0.85
    for untouched, trained in zip(
        fg.tree.leaves(digits.models()[-1].start), fg.tree.leaves(network.start), strict=True
    ):
        np.testing.assert_array_equal(untouched, trained)


# The lecture's three images (a cat, a car, a frog) and their scores for cat, car and frog.
SCORES = np.array([[3.2, 5.1, -1.7], [1.3, 4.9, 2.0], [2.2, 2.5, -3.1]])


@pytest.mark.parametrize(("image", "loss"), [(0, 2.9), (1, 0.0), (2, 12.9)])
def test_the_svm_loss_of_the_lecture(image: int, loss: float) -> None:
    assert digits.hinge(SCORES[[image]], np.array([image])) == pytest.approx(loss)


def test_the_losses_of_the_lecture_are_means_over_the_images() -> None:
    assert digits.hinge(SCORES, np.arange(3)) == pytest.approx((2.9 + 0.0 + 12.9) / 3)
    assert digits.cross_entropy(SCORES[[0]], np.array([0])) == pytest.approx(2.04, abs=0.005)
    each = [digits.cross_entropy(SCORES[[i]], np.array([i])) for i in range(3)]
    assert digits.cross_entropy(SCORES, np.arange(3)) == pytest.approx(np.mean(each))


@pytest.mark.parametrize("model", digits.models(), ids=lambda model: model.name)
def test_the_gradients_that_the_classifiers_follow_are_right(model: digits.Model) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 64)), rng.integers(0, 10, 5)
    start = fg.tree.map(lambda w: w + 0.1 * rng.normal(size=w.shape), model.start)
    fg.testing.check_grads(lambda p: model.loss(model.scores(p, x), y) + digits.penalty(p), (start,), order=1)


# value and gradient of each row, as the lecture writes them
GRAPHS = {
    "f = (x + y)·z": "-2.00 -4.00, 5.00 -4.00, -4.00 3.00, 3.00 -4.00, -12.00 1.00",
    "f = 1 / (1 + exp(-(w0·x0 + w1·x1 + w2)))": (
        "2.00 -0.20, -3.00 -0.39, -3.00 0.20, -1.00 0.39, -2.00 -0.59, "
        "-2.00 0.20, 6.00 0.20, 4.00 0.20, 1.00 0.20, -1.00 -0.20, 0.37 -0.53, 1.37 -0.53, 0.73 1.00"
    ),
    "the add gate distributes": "3.00 2.00, 4.00 2.00, 7.00 2.00",
    "the multiply gate swaps": "2.00 15.00, 3.00 10.00, 6.00 5.00",
    "the copy gate adds": "7.00 6.00",
    "the max gate routes": "4.00 0.00, 5.00 9.00, 5.00 9.00",
}


@pytest.mark.parametrize("title", GRAPHS)
def test_the_graphs_of_the_lecture(title: str) -> None:
    rows = lecture.lecture()[title]
    assert ", ".join(f"{row.value:.2f} {row.gradient:.2f}" for row in rows) == GRAPHS[title]


def test_relu_and_the_matrix_product_of_the_lecture() -> None:
    *_, (_, relu), (_, product) = lecture.lecture().items()
    np.testing.assert_array_equal(relu[0].gradient, [4, 0, 5, 0])
    np.testing.assert_array_equal(relu[-1].value, [1, 0, 3, 0])
    X, W, Y = product
    np.testing.assert_array_equal(Y.value, [[-1, -1, 2, 6], [5, 2, 11, 7]])
    np.testing.assert_array_equal(X.gradient, Y.gradient @ W.value.T)
    np.testing.assert_array_equal(X.gradient, [[0, 16, -9], [-24, 9, -30]])
    np.testing.assert_array_equal(W.gradient, X.value.T @ Y.gradient)


def test_the_lecture_is_printed_equation_by_equation(capsys: pytest.CaptureFixture[str]) -> None:
    lecture.main()
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    for line in [
        "a:f64[] = x -2.00 -4.00",
        "d:f64[] = add a b 3.00 -4.00",
        "k:f64[] = exp j 0.37 -0.53",
        "m:f64[] = divide 1 l 0.73 1.00",
    ]:
        assert line.split() in printed


def test_the_table_of_any_function_ends_in_its_gradient_and_marks_what_has_none() -> None:
    def f(x: np.ndarray) -> np.ndarray:
        return fnp.sum(fnp.where(x > 0, x * fnp.sin(x), 0.0)) ** 2

    x = np.array([0.3, -2.0, 1.1])
    rows = lecture.table(f, x)
    np.testing.assert_allclose(rows[0].gradient, fg.grad(f)(x))
    assert rows[-1].value == pytest.approx(f(x))
    assert rows[-1].gradient == 1
    comparison = next(row for row in rows if "bool[3]" in row.equation)
    assert comparison.gradient is None
    assert lecture.number(comparison.gradient) == ["–"]
