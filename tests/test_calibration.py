"""Calibration error, Brier score and temperature: by hand, and against simulations with a known truth."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics import f1_score
from torchmetrics.functional.classification import multiclass_calibration_error

from tunediff.evidence import calibration, classification


def answers(labels: int, rows: int = 500, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Actual labels, and logits whose softmax at `temperature` is the chance of each label."""
    random = np.random.default_rng(labels)
    logits = random.normal(scale=2, size=(rows, labels))
    chances = softmax(logits, axis=1)
    actual = np.array([random.choice(labels, p=chance) for chance in chances])
    return actual, logits * temperature


def test_calibration_error_by_hand():
    """Ten answers of 0.72, of which 6 are right, and ten of 0.95, of which 9 are: off by 0.12 and by 0.05."""
    probabilities = np.array([[0.72, 0.28]] * 10 + [[0.95, 0.05]] * 10)
    actual = np.array([0] * 6 + [1] * 4 + [0] * 9 + [1])
    assert calibration.calibration_error(actual, probabilities) == pytest.approx((0.12 + 0.05) / 2)
    bins = calibration.reliability(probabilities.max(1), probabilities.argmax(1) == actual)
    assert bins.rows.tolist() == [10, 10]
    assert bins.accuracy.tolist() == [0.6, 0.9]
    assert bins.confidence.tolist() == pytest.approx([0.72, 0.95])
    assert bins.low.tolist() == pytest.approx([10 / 15, 14 / 15])


@pytest.mark.parametrize("labels", [2, 3, 20])
def test_calibration_error_is_that_of_the_bins_in_the_picture(labels: int):
    actual, logits = answers(labels, temperature=3.0)
    probabilities = softmax(logits, axis=1)
    bins = calibration.reliability(probabilities.max(1), probabilities.argmax(1) == actual)
    expected = np.average((bins.confidence - bins.accuracy).abs(), weights=bins.rows)
    assert calibration.calibration_error(actual, probabilities) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("labels", [2, 3, 20])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_calibration_error_is_that_of_torchmetrics(labels: int, kind: type):
    for temperature in (0.3, 1.0, 30.0):  # of the last, some are 1
        actual, logits = answers(labels, temperature=temperature)
        probabilities = softmax(logits, axis=1).astype(kind)
        inputs = torch.from_numpy(probabilities), torch.from_numpy(actual)
        expected = multiclass_calibration_error(*inputs, num_classes=labels, n_bins=calibration.BINS)
        assert calibration.calibration_error(actual, probabilities) == float(expected)


def test_certainty_is_in_a_bin():
    for actual, error in (([0, 0], 0), ([0, 1], 0.5), ([1], 1)):
        certain = np.array([[1.0, 0.0]] * len(actual))
        assert calibration.calibration_error(np.array(actual), certain) == error
        assert calibration.reliability(certain.max(1), certain.argmax(1) == np.array(actual)).rows.tolist() == [
            len(actual)
        ]


def test_brier_by_hand():
    probabilities = np.array([[0.8, 0.2, 0.0], [0.5, 0.25, 0.25]])
    expected = ((0.2**2 + 0.2**2) + (0.5**2 + 0.25**2 + 0.75**2)) / 2
    assert classification.calibrated(np.array([0, 2]), probabilities)["brier"] == pytest.approx(expected)


@pytest.mark.filterwarnings("error")
def test_rounded_probabilities_are_no_reason_for_a_warning():
    probabilities = np.array([[0.33333, 0.33333, 0.33333], [0.5, 0.2, 0.3]])  # as TF-IDF's are kept
    assert classification.calibrated(np.array([0, 1]), probabilities)["log_loss"] == pytest.approx(1.354, abs=1e-3)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_temperature_is_found_again_and_mends_the_error(temperature: float):
    actual, logits = answers(3, rows=4000, temperature=temperature)
    found = calibration.fit_temperature(logits.astype(np.float32), actual)
    assert found == pytest.approx(temperature, rel=0.1)
    mended = calibration.calibration_error(actual, softmax(logits / found, axis=1))
    assert mended < 0.03
    if temperature != 1:
        assert mended < calibration.calibration_error(actual, softmax(logits, axis=1))


def test_temperature_stays_in_bounds_where_all_answers_are_right():
    actual = np.array([0, 1, 2])
    assert calibration.fit_temperature(np.eye(3, dtype=np.float32), actual) == pytest.approx(0.05, abs=1e-3)


def test_the_threshold_is_the_one_of_the_highest_f1():
    random = np.random.default_rng(0)
    actual = random.random(1000) < 0.02
    positive = np.clip(0.1 + 0.2 * actual + random.normal(0, 0.07, 1000), 0, 1)
    found = calibration.fit_threshold(positive, actual)
    best = f1_score(actual, positive >= found)
    assert best == max(f1_score(actual, positive >= value) for value in np.unique(positive))
    assert best > f1_score(actual, positive >= 0.5) + 0.2


def test_the_threshold_is_halfway_to_the_next_row():
    assert calibration.fit_threshold(np.array([0.1, 0.2, 0.6, 0.8]), np.array([0, 0, 1, 1])) == pytest.approx(0.4)
    assert calibration.fit_threshold(np.array([0.2, 0.6]), np.array([1, 1])) == pytest.approx(0.1)


def test_the_confidence_for_an_accuracy_is_the_least_that_gives_it():
    """Ten sure answers, of which one is wrong; after them one wrong for each right one."""
    confidence = np.concatenate([np.linspace(0.99, 0.9, 10), np.linspace(0.8, 0.6, 10)])
    actual = np.array([0] * 9 + [1] + [1, 0] * 5)
    found = calibration.fit_confidences(np.column_stack([confidence, 1 - confidence]), actual)
    # 9 of 10 are right, 10 of 12, and then at most 11 of 14. All of the first 9 are: too few to tell that from 95%.
    assert found == {
        "0.8": pytest.approx((confidence[11] + confidence[12]) / 2, abs=1e-6),
        "0.9": pytest.approx((0.9 + 0.8) / 2),
    }


def test_answers_of_one_confidence_are_unsure_together():
    probabilities = np.array([[0.9, 0.1]] * 20)
    assert calibration.fit_confidences(probabilities, np.array([0] * 19 + [1])) == {
        "0.8": 0.45,
        "0.9": 0.45,
        "0.95": 0.45,
    }
    assert calibration.fit_confidences(probabilities, np.array([0] * 15 + [1] * 5)) == {}
