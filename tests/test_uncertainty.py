"""Are the intervals right? Against simulations with a known truth, worked examples and other libraries."""

import itertools
import time

import numpy as np
import pytest
from scipy.stats import binomtest, fisher_exact
from sklearn.metrics import accuracy_score, f1_score

from benchmarks.intervals import Study
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
    actual: np.ndarray, guesses: np.ndarray, confidence: float, task: Classification = TASK
) -> dict[str, Interval]:
    figures = Figures(task.headline, task.figures_of)
    return uncertainty.intervals(figures, counts_of(actual, guesses, task), confidence)


def differences(
    actual: np.ndarray,
    guesses: np.ndarray,
    others: np.ndarray,
    confidence: float,
    task: Classification = TASK,
) -> dict[str, Interval]:
    figures = Figures(task.headline, task.figures_of)
    return uncertainty.differences(
        figures, counts_of(actual, guesses, task), counts_of(actual, others, task), confidence
    )


def erfinv(x: float) -> float:
    from scipy.special import erfinv

    return float(erfinv(x))


def true_figures(right: float) -> tuple[float, float]:
    """Accuracy and macro F1 of such a method on endless rows: its errors go to the other two labels alike."""
    confusion = np.diag(SHARES * right) + (1 - right) / 2 * (SHARES[:, None] * (1 - np.eye(3)))
    return right, float(np.mean(2 * np.diag(confusion) / (confusion.sum(0) + confusion.sum(1))))


@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_the_true_figures_lie_in_as_many_intervals_as_promised(confidence):
    random = np.random.default_rng(1)
    draws = 1000
    truth = dict(zip(TASK.headline, true_figures(0.75), strict=True))
    covered = dict.fromkeys(truth, 0)
    for _ in range(draws):
        actual, guesses = draw(random, 300, (0.75,))
        for name, found in intervals(actual, guesses, confidence).items():
            covered[name] += found.low <= truth[name] <= found.high
    for name, count in covered.items():
        assert confidence - 0.025 < count / draws < confidence + 0.025, (name, count / draws)


def test_the_true_difference_lies_in_95_of_100_intervals():
    random = np.random.default_rng(2)
    draws = 1000
    better, worse = true_figures(0.78), true_figures(0.74)
    truth = {name: b - w for name, b, w in zip(TASK.headline, better, worse, strict=True)}
    covered = dict.fromkeys(truth, 0)
    for _ in range(draws):
        actual, guesses = draw(random, 300, (0.78, 0.74))
        for name, found in differences(actual, guesses[:1], guesses[1:], 0.95).items():
            covered[name] += found.low <= truth[name] <= found.high
    for name, count in covered.items():
        assert 0.93 < count / draws < 0.97, (name, count / draws)


def test_pairing_makes_the_interval_of_a_difference_narrower():
    actual, guesses = draw(np.random.default_rng(3), 300, (0.78, 0.74))
    paired = differences(actual, guesses[:1], guesses[1:], 0.95)["accuracy"]
    alone = [intervals(actual, guesses[i : i + 1], 0.95)["accuracy"] for i in range(2)]
    unpaired = np.hypot(*(one.high - one.low for one in alone))
    assert paired.high - paired.low < 0.9 * unpaired


def test_values_are_sklearns_and_the_mean_over_trainings():
    actual, guesses = draw(np.random.default_rng(4), 200, (0.8, 0.7, 0.6))
    four = Classification([*TASK.labels, "d"])
    found = intervals(actual, guesses, 0.95, four)  # the fourth label has no row
    assert found["accuracy"].value == pytest.approx(np.mean([accuracy_score(actual, guess) for guess in guesses]))
    f1 = [f1_score(actual, guess, labels=range(4), average="macro", zero_division=0) for guess in guesses]
    assert found["f1"].value == pytest.approx(np.mean(f1))
    less = differences(actual, guesses[:1], guesses[1:], 0.95, four)
    assert less["f1"].value == pytest.approx(f1[0] - np.mean(f1[1:]))


def test_the_interval_of_accuracy_is_wilsons():
    actual, guesses = draw(np.random.default_rng(5), 250, (0.75,))
    found = intervals(actual, guesses, 0.95)["accuracy"]
    expected = binomtest(round(250 * found.value), 250).proportion_ci(0.95, method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def newcombe(both: int, first: int, second: int, neither: int) -> tuple[float, float]:
    """Newcombe's paired interval of a difference (1998, method 10), from how many texts both methods get right, ..."""
    rows = both + first + second + neither
    one, two = ((both + each) / rows for each in (first, second))
    limits = [binomtest(both + each, rows).proportion_ci(0.95, method="wilson") for each in (first, second)]
    marginal = (both + first) * (second + neither) * (both + second) * (first + neither)
    phi = (both * neither - first * second) / np.sqrt(marginal)

    def reach(down: float, up: float) -> float:
        return float(np.sqrt(down**2 - 2 * phi * down * up + up**2))

    return (
        one - two - reach(one - limits[0].low, limits[1].high - two),
        one - two + reach(limits[0].high - one, two - limits[1].low),
    )


@pytest.mark.parametrize("table", [(200, 30, 12, 58), (120, 9, 21, 10), (36, 12, 12, 40)])
def test_the_interval_of_a_difference_of_accuracies_is_newcombes(table):
    actual = np.zeros(sum(table), dtype=int)
    one, two = (np.repeat(wrong, table) for wrong in ([0, 0, 1, 1], [0, 1, 0, 1]))
    found = differences(actual, one[None], two[None], 0.95)["accuracy"]
    assert (found.low, found.high) == pytest.approx(newcombe(*table))


@pytest.mark.slow
@pytest.mark.parametrize(("labels", "ratio", "rows"), [(10, 0.8, 200), (3, 0.3, 100)])
def test_the_truth_is_covered_where_labels_are_rare(labels, ratio, rows):
    """The whole grid is that of benchmarks/intervals.py; with the percentile bootstrap some of it are below 90%."""
    for accuracy in (0.6, 0.9):
        study = Study(labels, ratio, rows, accuracy)
        *shares, _ = np.mean([study.covered(np.random.default_rng(seed)) for seed in range(600)], axis=0)
        assert all(0.92 < share < 0.99 for share in shares), shares


# --- what did not happen: errors, differences that no row shows


@pytest.mark.parametrize(("right", "other"), [(0.98, 0.999), (0.99, 0.98), (0.999, 0.99)])
def test_the_truth_is_covered_where_errors_are_few_or_none(right, other):
    random = np.random.default_rng(3)
    draws, truth, others = 500, true_figures(right), true_figures(other)
    covered = dict.fromkeys([*TASK.headline, "accuracy less", "f1 less"], 0)
    for _ in range(draws):
        actual, guesses = draw(random, 100, (right, other))
        found = intervals(actual, guesses[:1], 0.95)
        less = differences(actual, guesses[:1], guesses[1:], 0.95)
        for name, value, other_value in zip(TASK.headline, truth, others, strict=True):
            covered[name] += found[name].low <= value <= found[name].high
            covered[f"{name} less"] += less[name].low <= value - other_value <= less[name].high
    assert min(covered.values()) / draws > 0.9, covered


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_no_error_and_nothing_else_have_clopper_and_pearsons_interval(confidence):
    actual = np.arange(60) % 3
    reach = 1 - ((1 - confidence) / 2) ** (1 / 60)
    for predicted, value, low, high in ((actual, 1, 1 - reach, 1), ((actual + 1) % 3, 0, 0, reach)):
        for found in intervals(actual, predicted[None], confidence).values():
            assert (found.value, found.low, found.high) == pytest.approx((value, low, high))


def test_an_error_more_never_raises_the_lower_limit():
    actual = np.arange(60) % 3
    lows = []
    for errors in range(6):
        predicted = actual.copy()
        predicted[:errors] = (actual[:errors] + 1) % 3
        lows.append(intervals(actual, predicted[None], 0.95)["accuracy"].low)
    assert lows == sorted(lows, reverse=True)


def test_equal_predictions_may_still_differ_on_rows_that_are_not_there():
    actual, guesses = draw(np.random.default_rng(6), 100, (0.75,))
    reach = 1 - 0.025 ** (1 / 100)
    for found in differences(actual, guesses, guesses, 0.95).values():
        assert (found.value, found.low, found.high) == pytest.approx((0, -reach, reach))
    assert uncertainty.mcnemar(guesses[0] == actual, guesses[0] == actual) == 1


# --- parts


def test_a_difference_of_differences_covers_the_truth():
    """One of two methods is as good on both parts, the other worse on one; what is true on all rows does not matter."""
    random = np.random.default_rng(9)
    draws, covered = 400, 0
    part = np.arange(300) < 100
    truth = (0.7 - 0.8) - (0.85 - 0.8)
    for _ in range(draws):
        (actual, on_part), (actual_rest, on_rest) = draw(random, 100, (0.7, 0.8)), draw(random, 200, (0.85, 0.8))
        actual, guesses = np.append(actual, actual_rest), np.append(on_part, on_rest, axis=1)
        counts = counts_of(actual, guesses)
        found = uncertainty.differences_of_parts(ACCURACY, counts[:1], counts[1:], part, 0.95)["accuracy"]
        covered += found.low <= truth <= found.high
    assert 0.92 < covered / draws < 0.98
    right = guesses == actual
    changes = [right[i, part].mean() - right[i, ~part].mean() for i in range(2)]
    assert found.value == pytest.approx(changes[0] - changes[1])


# --- rows that belong together


def summed(counts: np.ndarray, groups: np.ndarray) -> np.ndarray:
    return uncertainty.by_group(counts, groups, np.zeros(len(groups)))[0]


def test_rows_that_stand_several_times_say_no_more_than_once():
    actual, guesses = draw(np.random.default_rng(21), 120, (0.8, 0.75))
    counts, figures = counts_of(actual, guesses), Figures(TASK.headline, TASK.figures_of)
    groups = np.random.default_rng(22).permutation(np.repeat(np.arange(120), 4))
    repeated = counts[:, groups]
    together = summed(repeated, groups)
    for once, often, rows in (
        (uncertainty.intervals(figures, each, 0.95) for each in (counts[:1], together[:1], repeated[:1])),
        (uncertainty.differences(figures, each[:1], each[1:], 0.95) for each in (counts, together, repeated)),
    ):
        for name in TASK.headline:
            own, same, narrow = (each[name] for each in (once, often, rows))
            assert (same.value, same.low, same.high) == pytest.approx((own.value, own.low, own.high))
            assert 0.4 < (narrow.high - narrow.low) / (own.high - own.low) < 0.65  # half of it, and some at edges
    once, often, rows = (
        uncertainty.permuted(ACCURACY, each[:1], each[1:], 17) for each in (counts, together, repeated)
    )
    assert often["accuracy"] == pytest.approx(once["accuracy"], abs=0.02) and rows["accuracy"] < once["accuracy"] / 2


def test_the_truth_is_covered_where_rows_of_a_group_are_alike():
    """60 groups of 1 to 9 rows. A method is right on a row with a chance that is its group's."""
    random = np.random.default_rng(23)
    covered = {"rows": 0, "groups": 0}
    for _ in range(400):
        groups = np.repeat(np.arange(60), random.integers(1, 10, 60))
        right = random.random(len(groups)) < random.beta(0.75, 0.25, 60)[groups]
        counts = np.stack([TASK.counts(np.zeros(len(groups), int), np.where(right, 0, 1))])
        for name, each in (("rows", counts), ("groups", summed(counts, groups))):
            found = uncertainty.intervals(ACCURACY, each, 0.95)["accuracy"]
            covered[name] += found.low <= 0.75 <= found.high
    assert 0.92 < covered["groups"] / 400 < 0.98 and covered["rows"] / 400 < 0.8, covered


def test_rows_without_a_group_stay_as_they_are():
    counts = counts_of(*draw(np.random.default_rng(24), 6, (0.8,)))
    alone = uncertainty.numbered(["", "", "a", "", "b", ""])
    found, part = uncertainty.by_group(counts, alone, parts := np.arange(6) % 2)
    assert found is counts and part is parts
    pairs = uncertainty.numbered(["b", "", "a", "b", "", "b"])
    found, part = uncertainty.by_group(counts, pairs, parts)
    # Those of b are on both sides of the part: row 1 on one, rows 4 and 6 on the other.
    assert sorted(map(tuple, found[0])) == sorted(map(tuple, [*counts[0, [0, 1, 2, 4]], counts[0, 3] + counts[0, 5]]))
    assert part.tolist().count(0) == 3 and found.shape == (1, 5, counts.shape[-1])


def test_25_000_rows_take_seconds():
    actual, guesses = draw(np.random.default_rng(8), 25_000, (0.9, 0.88))
    started = time.process_time()
    differences(actual, guesses[:1], guesses[1:], 0.95)
    assert time.process_time() - started < 10


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


# --- tests


def test_several_trainings_are_compared_by_their_means():
    """p is that of all ways to swap the methods on rows; here they are few enough to go through."""
    actual = np.array([0, 1, 2, 0, 1, 2])
    one = counts_of(actual, np.array([[0, 1, 2, 0, 1, 1], [0, 2, 2, 0, 1, 2]]))
    other = counts_of(actual, np.array([[1, 1, 0, 1, 0, 2]]))
    figures = Figures(TASK.headline, TASK.figures_of)
    found = uncertainty.permuted(figures, one, other, 17)
    both = np.stack([one, np.repeat(other, 2, axis=0)])

    def differences_of(swapped: tuple[int, ...]) -> np.ndarray:
        rows = np.arange(6)
        sides = [both[np.array(swapped) ^ side, :, rows].sum(0, dtype=float) for side in (0, 1)]
        return np.abs(figures(sides[0]) - figures(sides[1]))

    ways = np.array([differences_of(way) for way in itertools.product([0, 1], repeat=6)])
    exact = (ways >= ways[0] - 1e-9).mean(0)
    assert [found["accuracy"], found["f1"]] == pytest.approx(exact, abs=0.02)
    assert uncertainty.permuted(figures, one, one, 17) == {"accuracy": 1, "f1": 1}
    three = np.concatenate([other, one])
    assert uncertainty.permuted(figures, one, three, 17) == uncertainty.permuted(
        figures, np.repeat(one, 3, axis=0), np.repeat(three, 2, axis=0), 17
    )


def test_the_permutation_test_of_accuracies_is_mcnemars():
    actual, guesses = draw(np.random.default_rng(11), 200, (0.8, 0.72))
    right = guesses == actual
    one, two = counts_of(actual, guesses)[:, None]
    assert uncertainty.permuted(ACCURACY, one, two, 17)["accuracy"] == pytest.approx(
        uncertainty.mcnemar(right[0], right[1]), abs=0.02
    )


def test_alike_methods_seldom_differ_by_any_figure(monkeypatch):
    """Of methods that are alike, 5 in 100 have a p below 5%, also by macro F1."""
    monkeypatch.setattr(uncertainty, "RESAMPLES", 500)
    random = np.random.default_rng(12)
    low = 0
    for seed in range(300):
        actual, guesses = draw(random, 100, (0.7, 0.7))
        one, two = counts_of(actual, guesses)[:, None]
        low += uncertainty.permuted(Figures(["f1"], TASK.figures_of), one, two, seed)["f1"] < 0.05
    assert 0.02 < low / 300 < 0.085


def test_a_part_differs_if_it_is_worse_and_not_if_it_is_small():
    actual, guesses = draw(np.random.default_rng(13), 300, (0.75,))
    part = np.arange(300) < 60
    guesses[0, :14] = (actual[:14] + 1) % 3
    counts = counts_of(actual, guesses)
    # Fisher's exact test of the same table, which is more careful.
    right = guesses[0] == actual
    table = [[(right & side).sum(), (~right & side).sum()] for side in (part, ~part)]
    exact = fisher_exact(table).pvalue
    assert 0.3 * exact < uncertainty.differs_on_part(ACCURACY, counts, part) < exact < 0.05
    # Two texts, both wrong, are no proof.
    few = np.zeros(300, bool)
    few[:2] = True
    assert uncertainty.differs_on_part(ACCURACY, counts, few) > 0.02
    assert uncertainty.differs_on_part(ACCURACY, counts_of(actual, actual[None]), part) == 1
