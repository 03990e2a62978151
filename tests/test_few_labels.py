"""Few labels: which rows are drawn, what the curves say, where they cross, and when nothing is said of 100 more."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset

from tunediff.core.errors import UserError
from tunediff.evidence import growth_curve
from tunediff.evidence.few_labels import draw, of_all, to_the_end
from tunediff.evidence.growth_curve import Crossing, NextLabels, crossings, curves, error, last_change, next_labels
from tunediff.evidence.uncertainty import Figures
from tunediff.report import few_labels as page
from tunediff.tasks.classification import Classification
from tunediff.tasks.tagging import Tagging
from tunediff.training.settings import Train

TASK = Classification(["a", "b"])
ACCURACY = Figures(["accuracy"], TASK.figures_of)
TEXTS, DRAWS = 400, 4


# --- the rows


@pytest.fixture(scope="module")
def rows() -> Dataset:
    return Dataset.from_dict({"label": np.random.default_rng(3).permutation([0] * 30 + [1] * 10).tolist()})


def test_a_draw_has_as_many_rows_of_each_label_and_those_of_a_smaller_one(rows: Dataset):
    labels = np.array(rows["label"][:])
    small, large = draw(rows, 3, 17, TASK), draw(rows, 8, 17, TASK)
    assert np.bincount(labels[small]).tolist() == [3, 3] and np.bincount(labels[large]).tolist() == [8, 8]
    assert set(small) < set(large)
    assert set(draw(rows, 3, 18, TASK)) != set(small)


def test_a_label_with_too_few_rows_is_named(rows: Dataset):
    message = "params.yaml: training_rows.per_label: train has 10 rows of label 'b', not 11; take a smaller number"
    with pytest.raises(UserError, match=message):
        draw(rows, 11, 17, TASK)


def test_all_rows_are_as_many_of_a_label_as_have_it(rows: Dataset):
    assert of_all(rows, TASK) == 20
    # Three texts, of which two have both kinds of spans, and one of which no text has any: not 3 texts for 3 labels.
    spans = [[[0, 1, "a"], [2, 3, "b"], [4, 5, "a"]], [[0, 1, "a"], [2, 3, "b"]], [[0, 1, "a"]]]
    texts = Tagging(["a", "b", "none"])
    targets = [SimpleNamespace(spans=each) for each in spans]
    found = SimpleNamespace(parts=texts.parts, targets=lambda _: targets)
    assert of_all(None, found) == 2.5


@pytest.mark.parametrize(("rows", "epochs"), [(24, 50), (16, 100), (1600, 6)])
def test_few_rows_are_trained_on_as_long_as_the_steps_say(rows: int, epochs: int):
    train = Train(
        epochs=6, batch_size=16, accumulation=1, weight_decay=0, warmup=0, patience=2, select_by="f1",
        class_weights="none",
    )  # fmt: skip

    class Training(SimpleNamespace):
        def model_copy(self, update: dict) -> "Training":
            return Training(**vars(self) | update)

    changed = to_the_end(Training(train=train), rows, steps=100).train
    assert (changed.epochs, changed.patience, changed.select_by) == (epochs, 0, "loss")


# --- the curves


def answered(accuracies: list[float], seed: int, spread: float = 0.01) -> list[np.ndarray]:
    """Counts of a method that is right on such shares of the texts; the last number has one training."""
    random = np.random.default_rng(seed)
    actual = np.arange(TEXTS) % 2
    hardness = np.random.default_rng(0).random(TEXTS)  # the same texts are hard for all
    numbers = []
    for place, accuracy in enumerate(accuracies):
        draws = 1 if place == len(accuracies) - 1 else DRAWS
        right = [hardness < accuracy + random.normal(0, spread) for _ in range(draws)]
        numbers.append(np.stack([TASK.counts(actual, np.where(one, actual, 1 - actual)) for one in right]))
    return numbers


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth_curve, "RESAMPLES", 200)
    monkeypatch.setattr(growth_curve, "FITTED", 30)


PER_LABEL = [8, 16, 32, 64, 512]
ROWS = [16, 32, 64, 128, 1024]


def test_curves_cross_where_they_do():
    counts = {"flat": answered([0.7] * 5, 1), "steep": answered([0.5, 0.6, 0.66, 0.76, 0.9], 2)}
    found = curves(ACCURACY, PER_LABEL, ROWS, counts, 0.95, seed=17)
    assert list(found.points.method.unique()) == ["flat", "steep"] and found.points.per_label.tolist() == 2 * PER_LABEL
    assert ((found.points.low < found.points.value) & (found.points.value < found.points.high)).all()
    assert found.points[found.points.per_label == 512].deviation.isna().all()
    (crossing,) = found.crossings
    assert (crossing.before, crossing.after) == ("flat", "steep")
    assert 32 < crossing.low <= crossing.value <= crossing.high < 64


def test_a_crossing_may_lie_beyond_all_numbers():
    values = np.array([[0.51, 0.4, 0.4], [0.5, 0.6, 0.7]])
    again = np.tile(values, (100, 1, 1))
    again[:10, 0, 0] = 0.45  # in a tenth of the resamples the second is best from the beginning on
    again[90:, 1, 2] = 0.3  # and in another it is not at the end
    numbers = np.array([8.0, 16, 32])
    (found,) = crossings(["one", "two"], numbers, values, again, 0.95)
    assert (found.before, found.after, found.low, found.high) == ("one", "two", 0, math.inf) and 8 < found.value < 9
    (found,) = crossings(["one", "two"], numbers, values, again, 0.5)
    assert 8 < found.low == found.high < 9


def test_a_crossing_is_judged_up_to_the_next_one():
    """The second is best in the middle only: that it is not at the end says nothing of where it began to be."""
    values = np.array([[0.5, 0.5, 0.5, 0.5, 0.9], [0.4, 0.6, 0.7, 0.8, 0.8]])
    again = values + np.random.default_rng(5).normal(0, 0.01, (200, *values.shape))
    first, second = crossings(["one", "two"], np.array(PER_LABEL, float), values, again, 0.95)
    assert (first.before, first.after, second.before, second.after) == ("one", "two", "two", "one")
    assert 8 < first.low < first.value < first.high < 16 and 64 < second.low < second.value < second.high < 512


def test_draws_that_differ_more_make_a_wider_band():
    same, other = (
        curves(ACCURACY, PER_LABEL, ROWS, {"one": answered([0.7] * 5, 1, spread)}, 0.95, 17).points
        for spread in (0.0, 0.1)
    )
    assert (other.high - other.low).iloc[0] > 2 * (same.high - same.low).iloc[0]
    assert same.deviation.iloc[0] == 0


def test_draws_that_share_rows_do_not_make_a_figure_surer():
    """Many sets of 100 rows, of each 5 draws; a figure is the mean of the rows drawn, so that its variance is known."""
    random, draws = np.random.default_rng(5), 5
    numbers = np.array([10, 50, 80, 95, 100])
    values = random.normal(size=(2000, 1, 100))
    order = random.random((2000, draws, 100)).argsort(-1)
    drawn = np.take_along_axis(np.repeat(values, draws, axis=1), order, axis=2).cumsum(2)[..., numbers - 1] / numbers
    deviations, fractions = drawn.std(1, ddof=1)[:, :-1], numbers / 100
    true = drawn.mean(1).var(0)  # between the sets
    said = (growth_curve.of_mean(growth_curve.on_other_rows(deviations, fractions), fractions, draws) ** 2).mean(0)
    np.testing.assert_allclose(said[:3] / true[:3], 1, atol=0.12)
    # The last two have what 80 rows say: more than is true, by 100 / 80 at most.
    assert (said[3:] / true[3:] > 0.95).all() and (said[3:] / true[3:] < 1.4).all()
    assert ((deviations**2 / draws).mean(0)[2:] < true[2:4] / 10).all()


def test_resamples_and_bands_know_that_draws_share_rows():
    def numbers(spread: float) -> list[np.ndarray]:
        """Draws of half of the rows differ by so much, and those of nearly all do not."""
        return [answered([0.7, 0.7], 1, spread)[0], answered([0.7, 0.7], 1, 0.0)[0], answered([0.7], 1, 0.0)[0]]

    rows = [100, 190, 200]
    wide, narrow = (
        next(growth_curve.resampled(ACCURACY, [numbers(spread)], np.array(rows) / 200, 17)).std(0)[0]
        for spread in (0.1, 0.0)
    )
    assert (wide > 2 * narrow).all()
    wide, narrow = (
        curves(ACCURACY, [50, 95, 100], rows, {"one": numbers(spread)}, 0.95, 17).points for spread in (0.1, 0.0)
    )
    assert (wide.high - wide.low > 1.5 * (narrow.high - narrow.low)).all()


def test_a_difference_turns_for_good_or_never():
    places = np.array([3.0, 4.0, 5.0])
    assert last_change(places, np.array([-1.0, 1.0, 2.0])) == 3.5
    assert last_change(places, np.array([1.0, -1.0, 1.0])) == 4.5
    assert last_change(places, np.array([1.0, 1.0, 1.0])) == -math.inf
    assert last_change(places, np.array([-1.0, 1.0, -1.0])) == math.inf


# --- what the next labels bring


def law(last: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Values by a power law, the last one off by so much, and resamples with a little noise."""
    values = 1 - error(np.array(ROWS, float), 0.1, 2.0, 0.5)
    values[-1] += last
    return values, values + np.random.default_rng(5).normal(0, 0.005, (growth_curve.FITTED, len(ROWS)))


def test_a_power_law_tells_what_the_next_labels_bring():
    values, again = law()
    found = next_labels("full", np.array(ROWS, float), values, again, 0.95)
    truth = error(1024, 0.1, 2.0, 0.5) - error(1124, 0.1, 2.0, 0.5)
    assert found.gain == pytest.approx(truth, abs=2e-4) and found.low < truth < found.high


@pytest.mark.parametrize("points", [4, 5])
def test_nothing_is_said_of_too_few_points_or_of_a_curve_that_bends_otherwise(points: int):
    values, again = law(last=0.15 if points == 5 else 0.0)
    assert next_labels("full", np.array(ROWS, float)[-points:], values[-points:], again[:, -points:], 0.95) is None


def test_nothing_is_said_of_a_curve_that_does_not_level_off():
    values = np.array([0.39, 0.42, 0.46, 0.51, 0.65])  # of `tfidf` on headlines, about: each doubling gives more
    again = values + np.random.default_rng(5).normal(0, 0.005, (growth_curve.FITTED, len(ROWS)))
    assert next_labels("tfidf", np.array(ROWS, float), values, again, 0.95) is None


# --- in words


def test_a_crossing_is_said_with_what_is_not_known_of_it():
    said = [page._range(Crossing("a", "b", 40, *ends)) for ends in ((20, 90), (0, 90), (20, math.inf), (0, math.inf))]
    assert said == ["20 to 90", "up to 90", "above 20, or never", "anywhere, or never"]


def test_the_page_says_who_leads_where_and_what_more_labels_bring(monkeypatch: pytest.MonkeyPatch):
    counts = {"tfidf": answered([0.7] * 5, 1), "full": answered([0.5, 0.6, 0.66, 0.76, 0.9], 2)}
    found = curves(ACCURACY, PER_LABEL, ROWS, counts, 0.95, seed=17)
    monkeypatch.setattr(page.model_sections, "by_rows", lambda *_: "")
    evidence = SimpleNamespace(task=TASK, report=SimpleNamespace(figure="accuracy", confidence=0.95))

    def text(few: growth_curve.Curves) -> str:
        return page.section(evidence, few).text

    without = growth_curve.Curves(found.points, found.crossings, None)
    assert text(without).startswith("`tfidf` is best with 8 training texts for each label, from about ")
    assert "on `full` is (95% interval: " in text(without) and "a power law through the points is not" in text(without)
    more = growth_curve.Curves(found.points, [], NextLabels("full", 0.012, 0.003, 0.02))
    assert "for each label, and stays so. By a power law through the points of `full`, the next 100" in text(more)
    assert "bring +1.2 points of accuracy (0.3 to 2.0)" in text(more)
    capped = "With more than 125 texts `setfit` had no more pairs (`baseline.setfit.pairs`)."
    assert page.section(evidence, more, 125).text.endswith(capped)
    assert "setfit" not in text(more) and "setfit" not in page.section(evidence, more, ROWS[-1]).text
    assert page.section(evidence, more).table[0] == ["accuracy on test", *(f"{n} a label" for n in PER_LABEL)]


def test_a_number_that_is_all_rows_of_balanced_labels_has_a_column_of_its_own(monkeypatch: pytest.MonkeyPatch):
    counts = {"one": answered([0.7, 0.8, 0.8], 1), "two": answered([0.8, 0.8, 0.7], 2)}
    found = curves(ACCURACY, [8, 16, 16.0], [16, 32, 32], counts, 0.95, seed=17)
    assert np.isfinite(found.points[["value", "low", "high"]]).all(axis=None)
    evidence = SimpleNamespace(
        task=TASK,
        report=SimpleNamespace(figure="accuracy", confidence=0.95),
        methods=SimpleNamespace(method=SimpleNamespace(tolist=lambda: ["one", "two"])),
    )
    monkeypatch.setattr(page.model_sections, "palette", lambda names: dict.fromkeys(names, "black"))
    head, *rows = page.section(evidence, found).table
    assert [len(row) for row in rows] == [len(head)] * 2 and head[2:] == ["16 a label", "16 a label"]
