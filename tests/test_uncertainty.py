"""Are the intervals right? Against simulations with a known truth, worked examples and other libraries."""

import itertools
import time

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import accuracy_score, f1_score

from tunediff.evidence import uncertainty
from tunediff.evidence.uncertainty import Figures, Interval
from tunediff.tasks.classification import Classification

TASK = Classification(["a", "b", "c"])
ACCURACY = Figures(["accuracy"], TASK.figures_of)
SHARES = np.array([0.2, 0.3, 0.5])


def draw(random: np.random.Generator, rows: int, rights: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Actual labels and the predictions of methods that are right with these chances, more often on the same rows."""
    actual = random.choice(3, size=rows, p=SHARES)
    difficulty = random.normal(size=rows)  # common to all methods, so that their errors go together
    guesses = []
    for right in rights:
        noise = 0.7 * difficulty + np.sqrt(1 - 0.7**2) * random.normal(size=rows)
        correct = noise < np.sqrt(2) * erfinv(2 * right - 1)
        wrong = (actual + random.integers(1, 3, size=rows)) % 3
        guesses.append(np.where(correct, actual, wrong))
    return actual, np.array(guesses)


def counts_of(actual: np.ndarray, guesses: np.ndarray, task: Classification = TASK) -> np.ndarray:
    """What the figures are computed from, shape [guesses, rows, counts]."""
    return np.stack([task.counts(actual, guess) for guess in guesses])


def intervals(
    actual: np.ndarray, guesses: np.ndarray, confidence: float, seed: int, task: Classification = TASK
) -> dict[str, Interval]:
    figures = Figures(task.headline, task.figures_of)
    return uncertainty.intervals(figures, counts_of(actual, guesses, task), confidence, seed)


def differences(
    actual: np.ndarray,
    guesses: np.ndarray,
    others: np.ndarray,
    confidence: float,
    seed: int,
    task: Classification = TASK,
) -> dict[str, Interval]:
    figures = Figures(task.headline, task.figures_of)
    return uncertainty.differences(
        figures, counts_of(actual, guesses, task), counts_of(actual, others, task), confidence, seed
    )


def erfinv(x: float) -> float:
    from scipy.special import erfinv

    return float(erfinv(x))


def true_figures(right: float) -> tuple[float, float]:
    """Accuracy and macro F1 of such a method on endless rows: its errors go to the other two labels alike."""
    confusion = np.diag(SHARES * right) + (1 - right) / 2 * (SHARES[:, None] * (1 - np.eye(3)))
    return right, float(np.mean(2 * np.diag(confusion) / (confusion.sum(0) + confusion.sum(1))))


@pytest.fixture
def fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uncertainty, "RESAMPLES", 400)


@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_the_true_figures_lie_in_as_many_intervals_as_promised(fewer_resamples, confidence):
    random = np.random.default_rng(1)
    draws = 1000
    truth = dict(zip(TASK.headline, true_figures(0.75), strict=True))
    covered = dict.fromkeys(truth, 0)
    for seed in range(draws):
        actual, guesses = draw(random, 300, (0.75,))
        for name, found in intervals(actual, guesses, confidence, seed).items():
            covered[name] += found.low <= truth[name] <= found.high
    for name, count in covered.items():
        assert confidence - 0.025 < count / draws < confidence + 0.025, (name, count / draws)


def test_the_true_difference_lies_in_95_of_100_intervals(fewer_resamples):
    random = np.random.default_rng(2)
    draws = 1000
    better, worse = true_figures(0.78), true_figures(0.74)
    truth = {name: b - w for name, b, w in zip(TASK.headline, better, worse, strict=True)}
    covered = dict.fromkeys(truth, 0)
    for seed in range(draws):
        actual, guesses = draw(random, 300, (0.78, 0.74))
        for name, found in differences(actual, guesses[:1], guesses[1:], 0.95, seed).items():
            covered[name] += found.low <= truth[name] <= found.high
    for name, count in covered.items():
        assert 0.93 < count / draws < 0.97, (name, count / draws)


def test_pairing_makes_the_interval_of_a_difference_narrower():
    actual, guesses = draw(np.random.default_rng(3), 300, (0.78, 0.74))
    paired = differences(actual, guesses[:1], guesses[1:], 0.95, 0)["accuracy"]
    alone = [intervals(actual, guesses[i : i + 1], 0.95, 0)["accuracy"] for i in range(2)]
    unpaired = np.hypot(*(one.high - one.low for one in alone))
    assert paired.high - paired.low < 0.9 * unpaired


def test_values_are_sklearns_and_the_mean_over_trainings():
    actual, guesses = draw(np.random.default_rng(4), 200, (0.8, 0.7, 0.6))
    four = Classification([*TASK.labels, "d"])
    found = intervals(actual, guesses, 0.95, 0, four)  # the fourth label has no row
    assert found["accuracy"].value == pytest.approx(np.mean([accuracy_score(actual, guess) for guess in guesses]))
    f1 = [f1_score(actual, guess, labels=range(4), average="macro", zero_division=0) for guess in guesses]
    assert found["f1"].value == pytest.approx(np.mean(f1))
    less = differences(actual, guesses[:1], guesses[1:], 0.95, 0, four)
    assert less["f1"].value == pytest.approx(f1[0] - np.mean(f1[1:]))


def test_the_interval_of_accuracy_is_that_of_resampled_rows():
    """The number of right answers in a resampled split is binomial."""
    actual, guesses = draw(np.random.default_rng(5), 250, (0.75,))
    found = intervals(actual, guesses, 0.95, 0)["accuracy"]
    expected = binom(250, found.value).ppf([0.025, 0.975]) / 250
    assert [found.low, found.high] == pytest.approx(expected, abs=1 / 250)


# --- where a bootstrap sees too little: errors that did not happen, differences that no row shows


@pytest.mark.parametrize(("right", "other"), [(0.98, 0.999), (0.99, 0.98), (0.999, 0.99)])
def test_the_truth_is_covered_where_errors_are_few_or_none(fewer_resamples, right, other):
    random = np.random.default_rng(3)
    draws, truth, others = 500, true_figures(right), true_figures(other)
    covered = dict.fromkeys([*TASK.headline, "accuracy less", "f1 less"], 0)
    for seed in range(draws):
        actual, guesses = draw(random, 100, (right, other))
        found = intervals(actual, guesses[:1], 0.95, seed)
        less = differences(actual, guesses[:1], guesses[1:], 0.95, seed)
        for name, value, other_value in zip(TASK.headline, truth, others, strict=True):
            covered[name] += found[name].low <= value <= found[name].high
            covered[f"{name} less"] += less[name].low <= value - other_value <= less[name].high
    assert min(covered.values()) / draws > 0.9, covered


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_no_error_and_nothing_else_have_clopper_and_pearsons_interval(fewer_resamples, confidence):
    actual = np.arange(60) % 3
    reach = 1 - ((1 - confidence) / 2) ** (1 / 60)
    for predicted, value, low, high in ((actual, 1, 1 - reach, 1), ((actual + 1) % 3, 0, 0, reach)):
        for found in intervals(actual, predicted[None], confidence, 0).values():
            assert (found.value, found.low, found.high) == pytest.approx((value, low, high))


def test_an_error_more_never_raises_the_lower_limit():
    actual = np.arange(60) % 3
    lows = []
    for errors in range(6):
        predicted = actual.copy()
        predicted[:errors] = (actual[:errors] + 1) % 3
        lows.append(intervals(actual, predicted[None], 0.95, 0)["accuracy"].low)
    assert lows == sorted(lows, reverse=True)


def test_equal_predictions_may_still_differ_on_rows_that_are_not_there():
    actual, guesses = draw(np.random.default_rng(6), 100, (0.75,))
    reach = 1 - 0.025 ** (1 / 100)
    for found in differences(actual, guesses, guesses, 0.95, 0).values():
        assert (found.value, found.low, found.high) == pytest.approx((0, -reach, reach))
    assert uncertainty.mcnemar(guesses[0] == actual, guesses[0] == actual) == 1


# --- parts


def test_a_difference_of_differences_covers_the_truth(fewer_resamples):
    """One of two methods is as good on both parts, the other worse on one; what is true on all rows does not matter."""
    random = np.random.default_rng(9)
    draws, covered = 400, 0
    part = np.arange(300) < 100
    truth = (0.7 - 0.8) - (0.85 - 0.8)
    for seed in range(draws):
        (actual, on_part), (actual_rest, on_rest) = draw(random, 100, (0.7, 0.8)), draw(random, 200, (0.85, 0.8))
        actual, guesses = np.append(actual, actual_rest), np.append(on_part, on_rest, axis=1)
        counts = counts_of(actual, guesses)
        found = uncertainty.differences_of_parts(ACCURACY, counts[:1], counts[1:], part, 0.95, seed)["accuracy"]
        covered += found.low <= truth <= found.high
    assert 0.92 < covered / draws < 0.98
    right = guesses == actual
    changes = [right[i, part].mean() - right[i, ~part].mean() for i in range(2)]
    assert found.value == pytest.approx(changes[0] - changes[1])


def test_same_seed_same_interval():
    actual, guesses = draw(np.random.default_rng(7), 100, (0.75,))
    assert intervals(actual, guesses, 0.95, 1) == intervals(actual, guesses, 0.95, 1)
    assert intervals(actual, guesses, 0.95, 1) != intervals(actual, guesses, 0.95, 2)


def test_25_000_rows_take_seconds():
    actual, guesses = draw(np.random.default_rng(8), 25_000, (0.9, 0.88))
    started = time.perf_counter()
    differences(actual, guesses[:1], guesses[1:], 0.95, 0)
    assert time.perf_counter() - started < 10


def test_mcnemar_by_hand():
    """With 7 rows that only one method gets right and 1 that only the other does, p = 2 (1 + 8) / 2**8."""
    actual = np.zeros(20, dtype=int)
    first, second = actual.copy(), actual.copy()
    second[:7], first[7] = 1, 1
    first[8:10] = second[8:10] = 1
    assert uncertainty.mcnemar(first == actual, second == actual) == pytest.approx(2 * (1 + 8) / 2**8)
    assert uncertainty.mcnemar(second == actual, first == actual) == pytest.approx(2 * (1 + 8) / 2**8)


def test_holm_by_hand():
    """The smallest of three times 3, the next times 2, the largest as it is, and never less than one before it."""
    assert uncertainty.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert uncertainty.holm([]) == []


def test_several_trainings_are_compared_by_their_means():
    """p is that of all ways to swap the methods on rows; here they are few enough to go through."""
    right = np.array([[1, 1, 1, 0, 1, 1], [1, 0, 1, 1, 1, 1]], bool)
    other = np.array([[0, 1, 0, 0, 0, 1], [0, 1, 1, 0, 0, 0]], bool)
    difference = right.mean(0) - other.mean(0)
    swaps = np.array(list(itertools.product([-1, 1], repeat=6)))
    exact = np.mean(np.abs(swaps @ difference) >= abs(difference.sum()) - 1e-9)
    assert uncertainty.equally_often_right(right, other, 17) == pytest.approx(exact, abs=0.02)
    assert uncertainty.equally_often_right(right, right, 17) == 1
