"""The recommendation: the cheapest method that is near the best, how sure that is, and what is said of it."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from benchmarks import decision as benchmark
from tunediff.core.errors import UserError
from tunediff.evidence import costs, coverage, decision, uncertainty
from tunediff.evidence.decision import ALIKE, Decision, by_cost, corrected, decide, nested
from tunediff.evidence.settings import Report
from tunediff.evidence.uncertainty import Figures
from tunediff.tasks.classification import Classification

TASK = Classification(["a", "b"])
ACCURACY = Figures(["accuracy"], TASK.figures_of)
ORDER = ["majority", "tfidf", "lora-v1", "full"]
ACTUAL = np.arange(300) % 2


def right_on(*rows: slice) -> np.ndarray:
    """The counts of trainings that are right on these rows, shape [trainings, rows, counts]."""
    answers = np.tile(1 - ACTUAL, (len(rows), 1))
    for each, some in zip(answers, rows, strict=True):
        each[some] = ACTUAL[some]
    return np.stack([TASK.counts(ACTUAL, each) for each in answers])


def decided(counts: dict[str, np.ndarray], **given: float) -> Decision:
    report = Report(**{"figure": "accuracy", "margin": 0.02, "confidence": 0.95, "assurance": 0.7, **given})
    return decide(ACCURACY, counts, ORDER, report, seed=17)


FAR = {"majority": right_on(slice(150)), "tfidf": right_on(slice(200))}


def test_a_cheaper_method_that_is_about_as_good_is_chosen():
    found = decided({**FAR, "lora-v1": right_on(slice(20, 260)), "full": right_on(slice(241))})
    assert (found.best, found.choice, found.assured, found.proven) == ("full", "lora-v1", True, None)
    assert 0.7 < found.probabilities["lora-v1"] < found.probabilities["full"] < 0.95
    assert found.probabilities["tfidf"] == 0
    # With a larger margin it is proven; with a smaller one nothing is assured, and the likeliest is taken,
    assert decided({**FAR, "lora-v1": right_on(slice(20, 260)), "full": right_on(slice(241))}, margin=0.08).proven
    # and of two that are about as likely, the cheaper.
    least = decided({**FAR, "lora-v1": right_on(slice(30, 268)), "full": right_on(slice(241))}, margin=0.0)
    assert (least.choice, least.assured) == ("full", False)
    least = decided({**FAR, "lora-v1": right_on(slice(40, 280)), "full": right_on(slice(240))}, margin=0.0)
    assert (least.choice, least.assured) == ("lora-v1", False)


def test_the_probability_is_that_of_drawn_rows():
    """Two methods that differ on 24 rows, 12 against 12: the difference of a resample is known."""
    found = decided({**FAR, "lora-v1": right_on(slice(12, 250)), "full": right_on(slice(238))})
    drawn = np.random.default_rng(1).multinomial(300, [12 / 300, 12 / 300, 276 / 300], size=20_000)
    expected = np.mean(drawn[:, 1] - drawn[:, 0] >= -6)
    assert found.probabilities["lora-v1"] == pytest.approx(expected, abs=0.02)


def test_trainings_that_differ_make_it_less_sure():
    alike = {**FAR, "lora-v1": right_on(slice(240), slice(240), slice(240)), "full": right_on(slice(220))}
    apart = {**FAR, "lora-v1": right_on(slice(200), slice(240), slice(280)), "full": right_on(slice(220))}
    sure, unsure = (decided(counts).probabilities["full"] for counts in (alike, apart))
    assert sure < 0.01 and unsure > 0.1


def test_two_drawn_trainings_vary_as_much_as_their_deviation_says(monkeypatch: pytest.MonkeyPatch):
    """With rows that say nothing: what is left is the mean of two trainings, whose variance is half of theirs."""
    monkeypatch.setattr(uncertainty, "RESAMPLES", 50_000)
    from tunediff.evidence.decision import _drawn

    always = np.ones((2, 1, 2))
    always[0, 0, 0], always[1, 0, 0] = 0.6, 0.8
    share = Figures(["share"], lambda sums: {"share": sums[..., 0] / sums[..., 1]})
    by_rows, drawn = _drawn(share, {"one": always}, 17)
    assert not by_rows.std()
    assert drawn.mean() == pytest.approx(0.7, abs=0.002)
    assert drawn.std() == pytest.approx(np.std([0.6, 0.8], ddof=1) / np.sqrt(2), abs=0.002)


FOLDS = np.repeat(np.arange(5), 60)
REPORT = Report(figure="accuracy", margin=0.02, confidence=0.95, assurance=0.7)


def test_folds_that_differ_by_more_than_their_rows_make_it_less_sure():
    """Each fold has a training of its own: one that learned little is no chance of rows."""
    even = {**FAR, "lora-v1": right_on(slice(240)), "full": right_on(slice(220))}
    rows = np.random.default_rng(4).permutation(300)  # which fold a row is in says nothing of it
    without = decide(ACCURACY, even, ORDER, REPORT, 17)
    spread = decide(ACCURACY, even, ORDER, REPORT, 17, folds=FOLDS[rows])
    lumped = decide(ACCURACY, even, ORDER, REPORT, 17, folds=FOLDS)  # `lora-v1` is right on all of four, and on none
    assert without.folds is None and spread.folds == lumped.folds == 5
    assert without.probabilities["full"] < 0.01
    assert spread.probabilities["full"] < 0.1 < lumped.probabilities["full"]


def test_the_noise_between_folds_is_what_rows_leave(monkeypatch: pytest.MonkeyPatch):
    """Two methods whose folds differ as much as a training's deviation says, on rows that say nothing."""
    monkeypatch.setattr(uncertainty, "RESAMPLES", 50_000)
    from tunediff.evidence.decision import _between_folds

    share = Figures(["share"], lambda sums: {"share": sums[..., 0] / sums[..., 1]})
    folds = np.arange(4)
    one = np.stack([[0.5, 0.6, 0.7, 0.8], np.ones(4)], axis=-1)[None]
    alike = np.stack([np.full(4, 0.7), np.ones(4)], axis=-1)[None]
    noise = _between_folds(share, {"one": one, "alike": alike}, folds, np.zeros((50_000, 2)), 17)
    assert noise.std(0) == pytest.approx([np.std([0.5, 0.6, 0.7, 0.8], ddof=1) / 2, 0], abs=0.002)
    explained = np.random.default_rng(1).normal(scale=0.1, size=(50_000, 2))
    assert not _between_folds(share, {"one": one, "alike": alike}, folds, explained, 17).any()


def test_the_choice_is_judged_on_folds_that_did_not_choose_it():
    """`lora-v1` is right on all folds but the first: without it, it is chosen, and is wrong there."""
    most = np.where(np.arange(300) % 60 < 57, ACTUAL, 1 - ACTUAL)
    counts = {**FAR, "lora-v1": right_on(slice(60, 300)), "full": TASK.counts(ACTUAL, most)[None]}
    assert decide(ACCURACY, counts, ORDER, REPORT, 17, folds=FOLDS).choice == "full"
    assert nested(ACCURACY, counts, ORDER, REPORT, 17, 1, FOLDS) == pytest.approx((0 + 4 * 57) / 300)


def test_how_many_rows_would_prove_it():
    counts = {**FAR, "lora-v1": right_on(slice(20, 260)), "full": right_on(slice(241))}
    found = decided(counts)
    more = {method: np.tile(each, (1, -(-found.rows_to_prove // 300), 1)) for method, each in counts.items()}
    assert found.rows_to_prove > 300 and decided(more).proven == "lora-v1"
    worse = decided({**FAR, "lora-v1": right_on(slice(228)), "full": right_on(slice(240))}, assurance=0.51)
    assert worse.choice == "full"


def test_more_rows_do_not_take_away_what_trainings_differ_by():
    """Alike in the mean; with a training that differs it takes more rows, and where it differs too much, none do."""
    full = right_on(slice(241), slice(241))
    alike, little, much = (
        decided({**FAR, "lora-v1": right_on(*trainings), "full": full}).rows_to_prove
        for trainings in [
            (slice(20, 260), slice(20, 260)),
            (slice(20, 260), slice(19, 259)),
            (slice(20, 245), slice(20, 275)),
        ]
    )
    assert alike is not None and little is not None and little >= alike and much is None


def test_lower_is_better_where_the_figure_says_so():
    table = costs.matrix(TASK, {"a": {"b": 4}}, "data.yaml")
    answers = {"majority": ACTUAL * 0, "tfidf": ACTUAL * 0 + 1, "lora-v1": ACTUAL * 0 + 1, "full": ACTUAL}
    counts = {method: costs.counts(table, ACTUAL, each[None]) for method, each in answers.items()}
    report = Report(figure="accuracy", margin=0.02, confidence=0.95)
    found = decide(costs.figures(table), counts, ORDER, report, 17, costs.COST.sign)
    assert found.choice == found.best == "full"
    del counts["full"]
    found = decide(costs.figures(table), counts, ORDER[:3], report, 17, costs.COST.sign)
    assert found.choice == found.best == "majority"  # as often wrong as the others, at a fourth of the cost


# --- cost


COSTS = pd.DataFrame(
    [
        ("full", 22_000_000, 5.0, 91e6, 169),
        ("lora-v1", 220_000, 5.2, 1.6e6, 126),
        ("lora-v2", 810_000, 5.9, 4e6, 173),
        ("tfidf", 77_000, 0.03, 0.6e6, 1),
        ("majority", 0, 0.0, 0, 0),
    ],
    columns=["method", "trainable_parameters", "answer_seconds", "artifact_bytes", "train_seconds"],
)


@pytest.mark.parametrize(
    ("costs_named", "order"),
    [
        # The pretrained model answers as fast with an adapter as without: what is stored decides.
        (["answer_seconds", "artifact_bytes"], ["majority", "tfidf", "lora-v1", "lora-v2", "full"]),
        # Alike in both: the fewest trained weights.
        (["train_seconds"], ["majority", "tfidf", "lora-v1", "lora-v2", "full"]),
        (["train_seconds", "artifact_bytes"], ["majority", "tfidf", "lora-v1", "lora-v2", "full"]),
    ],
)
def test_the_cheapest_comes_first(costs_named, order):
    assert by_cost(COSTS, costs_named) == order


def test_an_endpoint_with_a_price_comes_last_however_fast_it_answers():
    table = pd.concat(
        [COSTS.assign(answer_money=0.0), COSTS[:1].assign(method="asked", answer_money=0.4, answer_seconds=0)]
    )
    assert by_cost(table, ["answer_money", "answer_seconds", "artifact_bytes"])[-1] == "asked"


def test_a_few_seconds_more_or_less_change_no_order():
    random = np.random.default_rng(3)
    for _ in range(50):
        noisy = COSTS.assign(answer_seconds=COSTS.answer_seconds * random.uniform(0.9, 1.1, len(COSTS)))
        assert by_cost(noisy, ["answer_seconds", "artifact_bytes"])[2:] == ["lora-v1", "lora-v2", "full"]
    slow = COSTS.assign(answer_seconds=COSTS.answer_seconds.where(COSTS.method != "lora-v1", 5 * ALIKE * 1.1))
    assert by_cost(slow, ["answer_seconds", "artifact_bytes"])[-1] == "lora-v1"


# --- costs of errors


def test_errors_that_are_not_named_cost_1():
    table = costs.matrix(Classification(["a", "b", "c"]), {"a": {"b": 5}, "c": {"a": 0}}, "data.yaml")
    assert table.tolist() == [[0, 5, 1], [1, 0, 1], [0, 1, 0]]
    assert costs.matrix(TASK, {}, "data.yaml") is None
    counts = costs.counts(table, np.array([0, 0, 1, 2]), np.array([[1, 0, 2, 0]]))
    assert costs.figures(table)(counts.sum(1)) * table.max() == pytest.approx([6 / 4])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"d": {"a": 1}}, "conf/data/x.yaml: costs.d: no text has this label; expected one of a, b"),
        ({"a": {"e": 1}}, "conf/data/x.yaml: costs.a.e: no text has this label; expected one of a, b"),
        ({"a": {"b": 0}, "b": {"a": 0}}, "conf/data/x.yaml: costs: every error costs 0"),
    ],
)
def test_costs_that_make_no_sense_are_refused(given, said):
    with pytest.raises(UserError) as refused:
        costs.matrix(TASK, given, "conf/data/x.yaml")
    assert refused.value.lines[0].startswith(said)


# --- what a choice can bear


def test_the_surest_answers_come_first():
    counts = right_on(slice(0, 240))
    confidence = np.linspace(1, 0, 300)  # the 60 wrong ones are the least sure
    table = coverage.by_coverage(ACCURACY, counts, confidence, 0.95, np.arange(300)).set_index("coverage")
    assert table.value[1.0] == 0.8 and table.value[0.8] == 1
    assert table.rows.tolist() == [300, 270, 240, 210, 180, 150, 120, 90, 60, 30]
    assert table.least[0.5] == confidence[149]
    assert (table.low <= table.value).all() and table.low[0.1] < table.low[0.8] < 1


def test_the_surest_answers_of_a_group_count_once():
    once, confidence = right_on(slice(0, 240)), np.linspace(1, 0, 300)
    groups = np.repeat(np.arange(300), 2)
    tables = [
        coverage.by_coverage(ACCURACY, once, confidence, 0.95, np.arange(300)),
        coverage.by_coverage(ACCURACY, once[:, groups], confidence[groups], 0.95, groups),
    ]
    assert tables[1].rows.tolist() == [2 * rows for rows in tables[0].rows]
    pd.testing.assert_frame_equal(*(table.drop(columns="rows") for table in tables))


def test_precision_and_recall_of_each_label():
    counts = TASK.counts(np.array([0] * 60 + [1] * 40), np.array([0] * 50 + [1] * 10 + [1] * 30 + [0] * 10))[None]
    table = coverage.by_label(TASK, counts, 0.95).set_index("label")
    assert table.texts.tolist() == [60, 40]
    assert table.loc["a", ["precision", "recall", "f1"]].tolist() == pytest.approx([50 / 60, 50 / 60, 50 / 60])
    assert table.loc["b", ["precision", "recall"]].tolist() == pytest.approx([30 / 40, 30 / 40])
    assert (table.recall_low < table.recall).all() and (table.recall < table.recall_high).all()


def test_each_threshold_has_its_errors_and_their_cost():
    actual = np.array([True, True, False, False])
    table = coverage.by_threshold(np.array([0.95, 0.35, 0.6, 0.05]), actual, 0.32, np.array([5.0, 1.0]))
    assert table.threshold.tolist() == [0.1, 0.2, 0.3, 0.32, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert table.fitted.tolist() == [False] * 3 + [True] + [False] * 6
    fitted, last = table[table.fitted].iloc[0], table.iloc[-1]
    assert (fitted.precision, fitted.recall, fitted.cost) == (pytest.approx(2 / 3), 1, 1000 * 1 / 4)
    assert (last.precision, last.recall, last.cost, last.answered) == (1, 0.5, 1000 * 5 / 4, 0.25)


# --- does it hold? The whole table is that of benchmarks/decision.py.


@pytest.mark.slow
def test_what_is_called_proven_is_good_enough(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(uncertainty, "RESAMPLES", 500)
    random = np.random.default_rng(5)
    said = [benchmark.study(random, benchmark.drawn_methods(random), 314, 1) for _ in range(150)]
    proven = [enough[benchmark.METHODS.index(one.proven)] for one, enough in said if one.proven]
    assert len(proven) > 20 and np.mean(proven) > 0.93
    chances = np.array([list(one.probabilities.values()) for one, _ in said]).ravel()
    enough = np.array([enough for _, enough in said]).ravel()
    for low, high in ((0.05, 0.5), (0.5, 0.95)):
        some = (chances > low) & (chances < high)
        assert enough[some].mean() > chances[some].mean() - 0.07


def test_a_method_beyond_the_margin_is_seldom_called_proven(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(uncertainty, "RESAMPLES", 300)
    random = np.random.default_rng(6)
    said = [benchmark.study(random, benchmark.methods_beyond(1), 314, 1)[0] for _ in range(100)]
    assert np.mean([one.probabilities["method 0"] >= 0.95 for one in said]) < 0.1


@pytest.mark.parametrize(("others", "dunnett"), [(1, 1.645), (2, 1.92), (3, 2.06), (5, 2.23)])
def test_of_several_that_may_be_good_enough_each_must_be_surer(others: int, dunnett: float):
    """By Dunnett's table for one side, at 5% and with endless degrees of freedom."""
    drawn = np.random.default_rng(1).normal(size=(50_000, 8))
    drawn[:, 0] += 1
    likely = np.arange(8) <= others
    assert norm.ppf(corrected(drawn, likely, 0.95)) == pytest.approx(dunnett, abs=0.03)
    # Those that err together are as one.
    drawn[:, 1:] = drawn[:, [1]]
    assert norm.ppf(corrected(drawn, likely, 0.95)) == pytest.approx(1.645, abs=0.03)


def test_what_proves_is_that_probability(monkeypatch: pytest.MonkeyPatch):
    counts = {**FAR, "lora-v1": right_on(slice(240)), "full": right_on(slice(6, 246))}
    for needed, proven in ((0.9, "lora-v1"), (0.9999, None)):
        monkeypatch.setattr(decision, "corrected", lambda *_, needed=needed: needed)
        assert (decided(counts).proven, decided(counts).to_prove) == (proven, needed)


@pytest.mark.slow
def test_of_many_methods_beyond_the_margin_any_is_seldom_called_proven(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(uncertainty, "RESAMPLES", 1000)
    random = np.random.default_rng(8)
    said = [benchmark.study(random, benchmark.methods_beyond(5), 2099, 1)[0] for _ in range(80)]
    worse = benchmark.METHODS[:5]
    alone, together = (
        np.mean([any(one.probabilities[method] >= sure(one) for method in worse) for one in said])
        for sure in (lambda _: 0.95, lambda one: one.to_prove)
    )
    assert together < 0.08 <= alone
