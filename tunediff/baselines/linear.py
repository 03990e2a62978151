"""Logistic regression on what is not trained: TF-IDF of words, or the frozen model's mean-pooled states."""

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from tunediff.baselines.settings import Baseline


def on_tfidf(baseline: Baseline, class_weights: str) -> Pipeline:
    """Logistic regression to be fitted to texts; `class_weights` as in `training.settings.Train`."""
    words = TfidfVectorizer(ngram_range=(1, baseline.ngrams))
    return make_pipeline(words, _regression(baseline.tfidf_C, class_weights))


def on_states(baseline: Baseline, class_weights: str) -> Pipeline:
    """Logistic regression to be fitted to what `inference.embed` gives, shape [rows, hidden]."""
    return make_pipeline(StandardScaler(), _regression(baseline.probe_C, class_weights))


def _regression(C: float, class_weights: str) -> LogisticRegression:
    return LogisticRegression(C=C, class_weight=None if class_weights == "none" else class_weights, max_iter=1000)
