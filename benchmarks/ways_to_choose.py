"""Ways to choose texts to label, of which `benchmarks.choosing` compares what they gain."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans

from tunediff.use.choosing import EACH, LEAST, SEED, choose
from tunediff.use.classification_answers import uncertainty

CLUSTERS = 500  # of typical texts, at most
NEIGHBOURS = 20  # whose mean distance tells how typical a text is: both as published


@dataclass(frozen=True)
class Pool:
    """Texts of which some have a label, and what a method that was fitted to these says of all."""

    texts: list[str]
    states: np.ndarray
    """Mean states of length 1, shape [texts, hidden]."""
    labelled: np.ndarray
    """Numbers of the texts that have a label."""
    probabilities: np.ndarray
    """Shape [texts, labels]."""
    random: np.random.Generator

    @property
    def rest(self) -> np.ndarray:
        """Numbers of the texts without a label."""
        return np.setdiff1d(np.arange(len(self.texts)), self.labelled)

    def least_sure(self, rows: int) -> np.ndarray:
        rest = self.rest
        return rest[np.argsort(-uncertainty(self.probabilities[rest]), kind="stable")[:rows]]


def at_random(pool: Pool, rows: int) -> np.ndarray:
    return pool.random.permutation(pool.rest)[:rows]


def by_words(pool: Pool, rows: int) -> np.ndarray:
    """What `stages.choose` does: the least sure text of each cluster of the least sure texts, by their words."""
    best = pool.least_sure(max(EACH * rows, LEAST))
    return best[choose([pool.texts[row] for row in best], uncertainty(pool.probabilities[best]), rows)]


def by_states(pool: Pool, rows: int) -> np.ndarray:
    """The same by the encoder's states."""
    best = pool.least_sure(max(EACH * rows, LEAST))
    unsure = uncertainty(pool.probabilities[best])
    clusters = KMeans(rows, n_init=1, random_state=SEED).fit_predict(pool.states[best], sample_weight=unsure + 1e-6)
    _, first = np.unique(clusters, return_index=True)  # of texts in the order of their uncertainty
    return best[np.concatenate([first, np.setdiff1d(np.arange(len(best)), first)])[:rows]]


def typical(pool: Pool, rows: int) -> np.ndarray:
    """TypiClust (Hacohen et al. 2022, arXiv:2202.02794): the densest text of each largest cluster without labels."""
    number = min(len(pool.labelled) + rows, CLUSTERS)
    clusters = KMeans(number, n_init=1, random_state=SEED).fit_predict(pool.states)
    sizes = np.bincount(clusters, minlength=number)
    labels = np.bincount(clusters[pool.labelled], minlength=number)
    left = {cluster: _densest_first(pool, np.flatnonzero(clusters == cluster)) for cluster in range(number)}
    new: list[int] = []
    while len(new) < rows:
        cluster = min((one for one in left if left[one]), key=lambda one: (labels[one], -sizes[one]))
        new.append(left[cluster].pop(0))
        labels[cluster] += 1
    return np.array(new)


def _densest_first(pool: Pool, rows: np.ndarray) -> list[int]:
    """Those of a cluster's `rows` that have no label."""
    states, labelled = pool.states[rows], set(pool.labelled.tolist())
    apart = np.sqrt(np.maximum(2 - 2 * states @ states.T, 0))
    order = np.argsort(np.sort(apart)[:, 1 : NEIGHBOURS + 1].mean(1)) if len(rows) > 1 else [0]
    return [int(row) for row in rows[order] if row not in labelled]


def badge(pool: Pool, rows: int) -> np.ndarray:
    """BADGE (Ash et al. 2020, arXiv:1906.03671): k-means++ on the last layer's gradients, were the answers right."""
    rest = pool.rest
    errors = pool.probabilities[rest].copy()
    errors[np.arange(len(rest)), errors.argmax(1)] -= 1
    states = pool.states[rest]
    lengths = np.square(errors).sum(1) * np.square(states).sum(1)
    new, nearest = [int(lengths.argmax())], np.full(len(rest), np.inf)
    while len(new) < rows:
        last = new[-1]  # a gradient is the outer product of errors and states
        apart = lengths + lengths[last] - 2 * (errors @ errors[last]) * (states @ states[last])
        nearest = np.minimum(nearest, np.maximum(apart, 0))
        nearest[new] = 0
        new.append(int(pool.random.choice(len(rest), p=nearest / nearest.sum())))
    return rest[new]


WAYS: dict[str, Callable[[Pool, int], np.ndarray]] = {
    "random": at_random,
    "least sure": Pool.least_sure,
    "stages.choose": by_words,
    "by states": by_states,
    "typical": typical,
    "badge": badge,
}
"""By name: from a pool and how many texts are wanted to their numbers."""
