"""Logistic regression on what is not trained: TF-IDF of words, or the frozen model's mean-pooled states."""

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from stages.common.params import Baseline


def on_tfidf(baseline: Baseline) -> Pipeline:
    """Fitted to texts."""
    return make_pipeline(
        TfidfVectorizer(ngram_range=(1, baseline.ngrams)), LogisticRegression(C=baseline.tfidf_C, max_iter=1000)
    )


def on_states(baseline: Baseline) -> Pipeline:
    """Fitted to what `inference.embed` gives."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=baseline.probe_C, max_iter=1000))
