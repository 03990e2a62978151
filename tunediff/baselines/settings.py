"""The section `baseline` of params.yaml."""

from tunediff.core.settings import Count, Positive, Section

BASELINES = ("majority", "tfidf", "probe", "baseline")
UNTRAINED = ("majority", "baseline")


class Baseline(Section):
    ngrams: Count
    """TF-IDF counts runs of 1 to this many words."""
    tfidf_C: Positive
    """Inverse regularisation of logistic regression on TF-IDF."""
    probe_C: Positive
    """Inverse regularisation of logistic regression on frozen embeddings."""
