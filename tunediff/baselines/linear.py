"""Logistic regression on what is not trained: TF-IDF of words, or the frozen model's mean-pooled states."""

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from tunediff.baselines.settings import Baseline


def on_tfidf(baseline: Baseline, class_weights: str, several: bool = False) -> Pipeline:
    """Logistic regression to be fitted to texts; `class_weights` as in `training.settings.Train`.

    Where a text may have `several` labels, there is one for each label, and targets have shape [rows, labels].
    """
    words = TfidfVectorizer(ngram_range=(1, baseline.ngrams))
    return make_pipeline(words, _regression(baseline.tfidf_C, class_weights, several))


def on_states(baseline: Baseline, class_weights: str, several: bool = False) -> Pipeline:
    """Logistic regression to be fitted to what `inference.embed` gives, shape [rows, hidden]."""
    return make_pipeline(StandardScaler(), _regression(baseline.probe_C, class_weights, several))


def parameters(model: Pipeline) -> int:
    """How many numbers a fitted one has; none for a label that no row has, or that all have."""
    last = model[-1]
    each = last.estimators_ if isinstance(last, OneVsRestClassifier) else [last]
    return sum(one.coef_.size + one.intercept_.size for one in each if isinstance(one, LogisticRegression))


def _regression(C: float, class_weights: str, several: bool) -> LogisticRegression | OneVsRestClassifier:
    weight = None if class_weights == "none" else class_weights
    regression = LogisticRegression(C=C, class_weight=weight, max_iter=1000)
    return OneVsRestClassifier(regression) if several else regression
