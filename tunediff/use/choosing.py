"""Which texts to label next: those of which a model is unsure, and which are unlike each other.

The least sure texts are divided by k-means into as many clusters as texts are wanted, by the words in them; the least
sure text of each cluster comes first. What nearly repeats a chosen text is not chosen.
"""

import hashlib
import heapq
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

EACH = 10  # candidates for each text that is wanted
LEAST = 1000  # candidates, however few texts are wanted
NEAR = 0.8  # cosine of two texts' TF-IDF, from which on one repeats the other
MANY = 1000  # clusters, of more of which k-means sees some texts at a time: its time grows with their square
DIMENSIONS = 100  # in which clusters are looked for
SEED = 17


def digest(text: str) -> bytes:
    """Alike for texts that differ in case and spaces alone, empty for a blank one; short, since many may be held."""
    plain = " ".join(text.casefold().split())
    return hashlib.blake2b(plain.encode(errors="surrogatepass"), digest_size=8).digest() if plain else b""


class Candidates:
    """The least sure of any number of texts, each once; only as many as are asked for are held."""

    def __init__(self, most: int, labelled: Iterable[str] = ()):
        """`labelled`: texts that have a label already, of which the digests are held."""
        self.most = most
        self.labelled = {digest(text) for text in labelled}
        self._held: set[bytes] = set()
        self._heap: list[tuple[float, int, str, Any]] = []
        self._number = 0

    def add(self, texts: Sequence[str], uncertainty: np.ndarray, rows: Sequence[Any]) -> None:
        """Texts with how unsure they are, and whatever is to be kept of each."""
        for text, unsure, row in zip(texts, uncertainty, rows, strict=True):
            self._number -= 1  # of texts that are equally unsure, the first ones are kept
            key = digest(text)
            if not key or key in self.labelled or key in self._held:
                continue
            self._held.add(key)
            entry = (float(unsure), self._number, text, row)
            if len(self._heap) < self.most:
                heapq.heappush(self._heap, entry)
            else:
                _, _, gone, _ = heapq.heappushpop(self._heap, entry)
                self._held.discard(digest(gone))

    def chosen(self, wanted: int) -> list[tuple[float, Any]]:
        """How unsure they are and what was kept of the `wanted` texts to label, the first ones first."""
        best = [one for one in sorted(self._heap, reverse=True) if digest(one[2]) not in self.labelled]
        places = choose([text for _, _, text, _ in best], np.array([unsure for unsure, *_ in best]), wanted)
        return [(best[place][0], best[place][3]) for place in places]


def choose(texts: Sequence[str], uncertainty: np.ndarray, wanted: int) -> list[int]:
    """Places of the texts to label, of which there may be fewer than `wanted` where the others are repetitions."""
    if not len(texts):
        return []
    terms = words(texts)
    order = np.lexsort((-uncertainty, rank_in_cluster(terms, uncertainty, wanted)))
    chosen: list[int] = []
    for place in order:
        if len(chosen) == wanted:
            break
        if not chosen or (terms[chosen] @ terms[place].T).max() < NEAR:
            chosen.append(int(place))
    return chosen


def words(texts: Sequence[str]) -> "csr_matrix":
    """TF-IDF, rows of length 1; of characters where texts have no words between spaces."""
    from tunediff.baselines.linear import on_tfidf
    from tunediff.baselines.settings import Baseline

    return on_tfidf(Baseline(ngrams=1, tfidf_C=1, probe_C=1), "none", texts)[0].fit_transform(texts)


def rank_in_cluster(terms: "csr_matrix", uncertainty: np.ndarray, wanted: int) -> np.ndarray:
    """How many texts of a text's cluster are less sure than it is; 0 for all, if no more than `wanted` are there."""
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.decomposition import TruncatedSVD

    rows, kinds = terms.shape
    if rows <= wanted or kinds < 3:
        return np.zeros(rows, int)
    states = TruncatedSVD(min(DIMENSIONS, kinds - 1), random_state=SEED).fit_transform(terms)
    few = {"n_init": 1, "random_state": SEED}
    means = KMeans(wanted, **few) if wanted <= MANY else MiniBatchKMeans(wanted, batch_size=2 * wanted, **few)
    clusters = means.fit_predict(states, sample_weight=uncertainty + 1e-6)
    ranks = np.empty(rows, int)
    for cluster in np.unique(clusters):
        own = np.flatnonzero(clusters == cluster)
        ranks[own[np.argsort(-uncertainty[own], kind="stable")]] = np.arange(len(own))
    return ranks
