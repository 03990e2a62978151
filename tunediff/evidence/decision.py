"""Which method to use: the cheapest that is near the best, and how sure that is.

A method is near the best if its figure is not worse than the best one's by more than a margin. The best is whichever
has the highest figure in a resample of rows and trainings (multiple comparisons with the best, Hsu 1981), so nothing is
compared with a method that was lucky on these rows. `benchmarks/decision.py` shows that the probabilities hold.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtr

from tunediff.evidence.settings import Report
from tunediff.evidence.uncertainty import Figures, resampled

NEARLY = 0.05  # of probabilities: where none suffices, one that is so much less than the largest is as good
ALIKE = 1.5  # of costs: up to so many times the least are the same, because times differ from run to run


@dataclass(frozen=True)
class Decision:
    """What the test texts say for a choice."""

    order: list[str]
    """Methods, the cheapest first."""
    probabilities: dict[str, float]
    """How probable it is that a method is not worse than the best by more than the margin."""
    best: str
    """The one with the best figure."""
    choice: str
    """The best bet: the cheapest that is near the best with the probability `report.assurance`.

    If there is none, the cheapest that is about as likely to be near the best as the likeliest.
    """
    assured: bool
    """Whether `choice` has that probability."""
    proven: str | None
    """The cheapest that is near the best with the probability `to_prove`, if any is."""
    to_prove: float
    """`report.confidence`; more where several methods may be near the best, see `corrected`."""
    rows: int
    """Test texts."""
    rows_to_prove: int | None
    """Test texts that would about prove `choice`, if it is as it looks.

    None if it lacks more than the margin, or if no number would do, because trainings differ too much.
    """
    trainings: int
    """The most that any method has, of each fold if there are any."""
    folds: int | None = None
    """How many, if every row is a test row. Without, and with one training, what another one would change is not in
    the probabilities."""


def by_cost(table: pd.DataFrame, costs: list[str]) -> list[str]:
    """Methods, the cheapest first by the first of `costs`; those that are alike in it by the next, and so on.

    `table` has columns method, trainable_parameters and `costs`. Costs up to ALIKE times a group's least are alike.
    """
    ranks = pd.DataFrame({cost: _ranks(table[cost].to_numpy()) for cost in costs})
    ranks = ranks.assign(parameters=table.trainable_parameters.to_numpy(), method=table.method.to_numpy())
    return ranks.sort_values(list(ranks)).method.tolist()


def _ranks(costs: np.ndarray) -> np.ndarray:
    ranks = np.empty(len(costs), dtype=int)
    least, rank = -1.0, -1
    for place in np.argsort(costs, kind="stable"):
        if costs[place] > ALIKE * least:
            least, rank = costs[place], rank + 1
        ranks[place] = rank
    return ranks


def decide(
    figure: Figures,
    counts: dict[str, np.ndarray],
    order: list[str],
    report: Report,
    seed: int,
    sign: int = 1,
    folds: np.ndarray | None = None,
    texts: int | None = None,
) -> Decision:
    """The decision by one figure; `counts` has each method's, shape [trainings, rows, counts].

    `sign` is -1 if a lower figure is better. `folds` says which fold each row was tested by, shape [rows], if there are
    any: trainings of different folds are different ones. `texts` is how many there are, if rows are sums over groups.
    """
    values = {method: figure(each.sum(1, dtype=float)).item() for method, each in counts.items()}
    by_rows, drawn = (sign * each for each in _drawn(figure, counts, seed))
    if folds is not None:
        drawn = drawn + _between_folds(figure, counts, folds, drawn, seed)
    lead = _lead(drawn)
    probabilities = dict(zip(counts, map(float, (lead >= -report.margin - 1e-12).mean(0)), strict=True))

    def cheapest(sure: float) -> str | None:
        return next((method for method in order if probabilities[method] >= sure), None)

    likely = np.array([*probabilities.values()]) >= 1 - report.confidence
    to_prove = corrected(drawn, likely, report.confidence)
    best = max(order, key=lambda method: sign * values[method])
    bet = cheapest(report.assurance)
    choice = bet or cheapest(max(probabilities.values()) - NEARLY)
    place, rows = list(counts).index(choice), texts or next(iter(counts.values())).shape[1]
    lead_by_rows = _lead(by_rows)[:, place]
    return Decision(
        order=order,
        probabilities=probabilities,
        best=best,
        choice=choice,
        assured=bet is not None,
        proven=cheapest(to_prove),
        to_prove=to_prove,
        rows=rows,
        rows_to_prove=_rows_to_prove(lead[:, place], lead_by_rows, report.margin, to_prove, rows),
        trainings=max(len(each) for each in counts.values()),
        folds=None if folds is None else len(np.unique(folds)),
    )


def corrected(drawn: np.ndarray, likely: np.ndarray, confidence: float) -> float:
    """The probability that proves: `confidence`, corrected for how many methods may be proven wrongly.

    These are the `likely` ones beside the best; what is surely worse by more than the margin is not proven by chance.
    How many standard errors is the largest error of their leads over the best? Its quantile at `confidence` is what a
    lead needs (max-t, in Dunnett's test and Hsu's). `drawn` has shape [resamples, methods], `likely` is true or false.
    """
    best = drawn.mean(0).argmax()
    others = [method for method in np.flatnonzero(likely) if method != best]
    if len(others) < 2:
        return confidence
    leads = drawn[:, others] - drawn[:, [best]]
    errors = (leads - leads.mean(0)) / np.maximum(leads.std(0), 1e-12)  # of equal answers there are none
    return max(confidence, float(ndtr(np.quantile(errors.max(1), confidence))))


def _lead(drawn: np.ndarray) -> np.ndarray:
    """How far each method is below the best one of its resample; both of shape [resamples, methods]."""
    return drawn - drawn.max(1, keepdims=True)


def _drawn(figure: Figures, counts: dict[str, np.ndarray], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Figures of resampled rows, and of resampled rows and trainings: the same rows for all methods.

    Both have shape [resamples, methods].

    Of few trainings, drawing with replacement would show too little of what another one changes: of n, all but a share
    of 1/n of the variance. What is drawn is therefore stretched about their mean.
    """
    ends = np.cumsum([len(each) for each in counts.values()])[:-1]
    parts = [figure.each(sums)[..., 0] for sums in resampled(np.concatenate([*counts.values()]), seed)]
    random = np.random.default_rng([seed, 1])
    by_rows, drawn = [], []
    for each in np.split(np.concatenate(parts), ends, axis=1):
        trainings = each.shape[1]
        often = random.multinomial(trainings, np.full(trainings, 1 / trainings), size=len(each)) / trainings
        stretch = np.sqrt(trainings / max(1, trainings - 1))
        by_rows.append(each.mean(1))
        drawn.append(by_rows[-1] + stretch * ((often - 1 / trainings) * each).sum(1))
    return np.stack(by_rows, axis=1), np.stack(drawn, axis=1)


def _between_folds(
    figure: Figures, counts: dict[str, np.ndarray], folds: np.ndarray, drawn: np.ndarray, seed: int
) -> np.ndarray:
    """Noise that `drawn`, figures of resampled rows and trainings, does not show; both of shape [resamples, methods].

    Each fold has trainings of its own. So what a figure differs by from fold to fold has the variance of its mean in
    it, that of rows and of trainings. What is more than the resamples' is added.
    """
    of_folds = [
        [figure(each[:, folds == fold].sum(1, dtype=float)).item() for each in counts.values()]
        for fold in np.unique(folds)
    ]
    more = np.maximum(0, np.var(of_folds, axis=0, ddof=1) / len(of_folds) - drawn.var(0))
    return np.sqrt(more) * np.random.default_rng([seed, 2]).normal(size=drawn.shape)


def nested(
    figure: Figures,
    counts: dict[str, np.ndarray],
    order: list[str],
    report: Report,
    seed: int,
    sign: int,
    folds: np.ndarray,
) -> float:
    """The figure of what `decide` chooses, on rows that did not choose: each fold's are answered by the choice of the
    others.
    """
    chosen = []
    for fold in np.unique(folds):
        rest = folds != fold
        others = {method: each[:, rest] for method, each in counts.items()}
        several = folds[rest] if len(np.unique(folds)) > 2 else None  # one fold alone does not differ from others
        own = counts[decide(figure, others, order, report, seed, sign, several).choice][:, ~rest]
        chosen.append(own.sum(1, dtype=float).mean(0))
    return figure(np.sum(chosen, axis=0)[None]).item()


def _rows_to_prove(lead: np.ndarray, lead_by_rows: np.ndarray, margin: float, to_prove: float, rows: int) -> int | None:
    """Rows with which so large a part of `lead`, shape [resamples], would be above -margin, if its middle stays.

    `lead_by_rows` is that without what trainings differ by, which more rows do not take away.
    """
    middle, low = np.quantile(lead, [0.5, 1 - to_prove])
    share = min(1.0, lead_by_rows.var() / lead.var()) if lead.var() > 0 else 1.0
    reach, room = (middle - low) ** 2, (middle + margin) ** 2
    left = room - (1 - share) * reach  # for rows
    if middle <= -margin or left <= 0:
        return None
    return int(np.ceil(max(1.0, share * reach / left) * rows / 100) * 100)
