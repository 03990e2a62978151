"""Logistic regression on what is not trained: TF-IDF of words or characters, or the model's mean-pooled states."""

import re
import unicodedata
from collections.abc import Iterable
from itertools import islice

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from tunediff.baselines.settings import Baseline
from tunediff.core.values import UNSPACED

SAMPLE = 1000  # texts, and characters of each, that tell whether words can be counted
CHARACTERS = (1, 3)  # counted runs of characters: chosen on reviews in Chinese, see docs/data.md


def on_tfidf(baseline: Baseline, class_weights: str, texts: Iterable[str], several: bool = False) -> Pipeline:
    """Logistic regression to be fitted to texts such as these; `class_weights` as in `training.settings.Train`.

    Where a text may have `several` labels, there is one for each label, and targets have shape [rows, labels].
    """
    if has_words(texts):
        terms = TfidfVectorizer(ngram_range=(1, baseline.ngrams))
    else:
        terms = TfidfVectorizer(analyzer="char", ngram_range=CHARACTERS)
    return make_pipeline(terms, regression(baseline.tfidf_C, class_weights, several))


def has_words(texts: Iterable[str]) -> bool:
    """Whether scikit-learn finds the words of texts: most texts have one, and most characters are of a script with
    spaces between words and without vowel signs, at which it ends a word.
    """
    sample = [text[:SAMPLE] for text in islice(texts, SAMPLE)]
    characters = "".join(sample)
    letters = sum(character.isalpha() for character in characters)
    signs = sum(unicodedata.category(character) in ("Mc", "Mn") for character in characters)
    others = len(re.findall(f"[{UNSPACED}]", characters)) + signs
    with_word = sum(bool(re.search(r"\w\w", text)) for text in sample)
    return 2 * with_word > len(sample) and others < (letters + signs) / 5


def on_states(baseline: Baseline, class_weights: str, several: bool = False) -> Pipeline:
    """Logistic regression to be fitted to what `inference.embed` gives, shape [rows, hidden]."""
    return make_pipeline(StandardScaler(), regression(baseline.probe_C, class_weights, several))


def parameters(model: Pipeline) -> int:
    """How many numbers a fitted one has; none for a label that no row has, or that all have."""
    last = model[-1]
    each = last.estimators_ if isinstance(last, OneVsRestClassifier) else [last]
    return sum(one.coef_.size + one.intercept_.size for one in each if isinstance(one, LogisticRegression))


def regression(C: float, class_weights: str, several: bool) -> LogisticRegression | OneVsRestClassifier:
    """To be fitted to numbers of any kind; `C` is the inverse regularisation."""
    weight = None if class_weights == "none" else class_weights
    regression = LogisticRegression(C=C, class_weight=weight, max_iter=1000)
    return OneVsRestClassifier(regression) if several else regression
