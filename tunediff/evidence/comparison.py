"""What the test texts say of the methods: tables of figures with their intervals, from all methods' predictions."""

import sys
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from tunediff.core.methods import WITHOUT_LEARNING, WITHOUT_MODEL
from tunediff.evidence import costs, uncertainty
from tunediff.evidence.decision import Decision, by_cost, decide, nested
from tunediff.evidence.of_task import of_task
from tunediff.evidence.settings import Report
from tunediff.evidence.uncertainty import Figures, Interval
from tunediff.tasks.classification import Classification
from tunediff.tasks.interface import Figure, Task

FEW = 30  # fewer texts than this on one side are too few to compare
LABELS = 6  # shown of many


@dataclass(frozen=True)
class Predictions:
    """What one method answers on the test split."""

    table: pd.DataFrame
    """What `scoring.write` wrote of the first training: columns text, tokens, actual, predicted and so on."""
    task: Task
    actual: Any
    """Targets, as the task has them: an entry for each row."""
    predicted: Any
    """Answers of each training, of the same form."""

    @cached_property
    def counts(self) -> np.ndarray:
        """What the figures are computed from, shape [trainings, rows, counts]."""
        return np.stack([self.task.counts(self.actual, predicted) for predicted in self.predicted])

    @cached_property
    def groups(self) -> np.ndarray:
        """The number of each row's group, shape [rows]; as many as rows, if the data has no groups."""
        return uncertainty.numbered(self.table.group) if "group" in self.table else np.arange(len(self.table))

    def by_group(self, counts: np.ndarray, part: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Counts of all rows summed by group, and the part of each sum: see `uncertainty.by_group`.

        A part is a fold, or 0 where there are none, if `part` does not say another for each row.
        """
        if part is None:
            part = np.zeros(len(self.table)) if self.folds is None else self.folds
        return uncertainty.by_group(counts, self.groups, part)

    @cached_property
    def sums(self) -> np.ndarray:
        """`counts` by group, shape [trainings, groups, counts]: what intervals and tests take for independent."""
        return self.by_group(self.counts)[0]

    @property
    def grouped(self) -> bool:
        """Whether some rows belong together."""
        return self.sums.shape[1] < len(self.table)

    @property
    def folds(self) -> np.ndarray | None:
        """Which fold each row was tested by, shape [rows], if `folds.write` wrote the table."""
        return self.table.fold.to_numpy() if "fold" in self.table else None

    @property
    def confidence(self) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities of answers, and whether what they are of is so."""
        return of_task(self.task).confidence(self.table, self.task, self.actual)

    @property
    def confusion(self) -> pd.DataFrame:
        """How often a label (row) was answered with another (column), over all trainings.

        Labels are those of the task, and then what else it counts.
        """
        evidence = of_task(self.task)
        pairs = Counter(pair for one in self.predicted for pair in evidence.confused(self.task, self.actual, one))
        names = list(dict.fromkeys([*self.task.labels, *chain.from_iterable(pairs)]))
        return pd.DataFrame([[pairs[one, other] for other in names] for one in names], names, names)

    def figures(self, *names: str) -> Figures:
        """These figures of the task, or all of its headline."""
        return Figures(names or self.task.headline, self.task.figures_of)

    def mean(self, figure: str, part: np.ndarray) -> float:
        """A figure of the rows in `part` (true or false, shape [rows]), the mean over the trainings."""
        return self.figures(figure)(self.counts[:, part].sum(1, dtype=float)).item()

    @property
    def right(self) -> np.ndarray:
        """Whether each answer is completely right, shape [trainings, rows]."""
        return np.stack([self.task.right(self.actual, predicted) for predicted in self.predicted])


@dataclass(frozen=True)
class Deciding:
    """The figure that methods are compared by."""

    figure: Figure
    of: Figures
    counts: dict[str, np.ndarray]
    """What it is computed from, of each method, by group; shape [trainings, groups, counts]."""
    scale: float = 1.0
    """By which what `of` gives, a share, is multiplied to be what the figure means."""


@dataclass(frozen=True)
class Evidence:
    """All that the report shows, but for what is copied from other stages."""

    methods: pd.DataFrame
    """One row per method, the worst first by `main`: figures, cost, and whether it is on a Pareto front."""
    trained: list[str]
    predictions: dict[str, Predictions]
    intervals: pd.DataFrame
    """See `intervals_of`; the tables below as the functions of like names give them."""
    differences: pd.DataFrame
    slices: pd.DataFrame
    cutting: pd.DataFrame
    max_length: int
    task: Task
    report: Report
    decision: Decision
    nested: float | None = None
    """With folds: the deciding figure of the choice, on rows that did not choose it."""
    costs: np.ndarray | None = None
    """What each answer costs, see `costs.matrix`, if that decides: `cost` in `intervals`, of 1,000 texts."""

    @property
    def deciding(self) -> Figure:
        """The figure that methods are compared by."""
        return costs.COST if self.costs is not None else self.task.figures[self.report.figure]

    @property
    def best(self) -> str:
        """The method with the best figure."""
        return self.decision.best

    @property
    def choice(self) -> str:
        """The one that is recommended."""
        return self.decision.choice

    @property
    def simplest(self) -> str | None:
        """See `simplest`."""
        return simplest(self.intervals, self.deciding)

    def subject(self, table: pd.DataFrame) -> str:
        """The recommended method if `table` has it, or else the trained one with the highest `report.figure`."""
        if self.choice in table.method.values:
            return self.choice
        return max(self.trained, key=lambda method: self.intervals.loc[method, self.report.figure])

    @property
    def main(self) -> Figure:
        """The figure of slices, and of the picture of quality against cost."""
        return self.task.figures[self.task.headline[0]]

    @property
    def by_epoch(self) -> Figure:
        """The figure of learning curves: `report.figure`, or the last one that the task has after each epoch."""
        each = self.task.each_epoch
        return self.task.figures[self.report.figure if self.report.figure in each else each[-1]]

    @property
    def by_rows(self) -> Figure:
        """The figure of curves over training rows: `report.figure`, or the first of the headline on validation."""
        each = self.task.each_epoch
        names = [self.report.figure, *self.task.headline]
        return self.task.figures[next((name for name in names if name in each), self.report.figure)]

    @property
    def several(self) -> bool:
        """Whether a method was trained several times."""
        return self.decision.trainings > 1


def predictions_of(table: pd.DataFrame, task: type[Task] = Classification) -> Predictions:
    """The predictions in a table that `scoring.write` wrote; it repeats the rows for each training."""
    rows = len(table.drop_duplicates(["split", "row"]))
    return Predictions(table.head(rows), *of_task(task).read(table, rows))


def on_front(table: pd.DataFrame, quality: str, cost: str) -> np.ndarray:
    """Whether no other row has a higher `quality` at no more `cost`, or a lower cost at no less quality."""
    value, price = table[quality].to_numpy(), table[cost].to_numpy()
    as_good = (value >= value[:, None]) & (price <= price[:, None])
    better = (value > value[:, None]) | (price < price[:, None])
    return ~(as_good & better).any(axis=1)


def intervals_of(predictions: dict[str, Predictions], confidence: float) -> pd.DataFrame:
    """A table indexed by method: each headline figure of the task, and columns with `_low` and `_high`."""
    rows = {
        method: _flat(uncertainty.intervals(one.figures(), one.sums, confidence)) for method, one in predictions.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")


def simplest(intervals: pd.DataFrame, figure: Figure) -> str | None:
    """The best by `figure` of the methods that learn without a pretrained model, if there are any."""
    names = [name for name in intervals.index if name in WITHOUT_MODEL and name not in WITHOUT_LEARNING]
    return max(names, key=lambda name: figure.sign * intervals.loc[name, figure.name], default=None)


def by_figure(predictions: dict[str, Predictions], name: str) -> Deciding:
    """A figure of the task decides."""
    first = next(iter(predictions.values()))
    counts = {method: one.sums for method, one in predictions.items()}
    return Deciding(first.task.figures[name], first.figures(name), counts)


def by_errors(predictions: dict[str, Predictions], error_costs: np.ndarray) -> Deciding:
    """What the errors of 1,000 texts cost decides; `error_costs` as `costs.matrix` gives them."""
    counts = {
        method: one.by_group(costs.counts(error_costs, one.actual, one.predicted))[0]
        for method, one in predictions.items()
    }
    return Deciding(costs.COST, costs.figures(error_costs), counts, 1000 * error_costs.max())


def differences_to(
    others: list[str], predictions: dict[str, Predictions], deciding: Deciding, confidence: float, seed: int
) -> pd.DataFrame:
    """Each method against each of `others`, once for a pair: columns method, other, figures as above, p and p_holm.

    The deciding figure has columns of its own, if it is not of the headline. p is that of this figure: exact by McNemar
    if it is of right answers, of one training each and without groups, and else of a permutation test.
    """
    pairs = []
    for other in others:
        pairs += [(method, other) for method in predictions if method != other and (other, method) not in pairs]
    rows, figure = [], deciding.figure
    for method, other in tqdm(dict.fromkeys(pairs), desc="differences"):
        one, two = predictions[method], predictions[other]
        compared = _flat(uncertainty.differences(one.figures(), one.sums, two.sums, confidence))
        deciders = deciding.counts[method], deciding.counts[other]
        if figure.name not in compared:
            own = _flat(uncertainty.differences(deciding.of, *deciders, confidence))
            compared |= {name: deciding.scale * value for name, value in own.items()}
        if figure.of_right and len(one.predicted) == len(two.predicted) == 1 and not one.grouped:
            p = uncertainty.mcnemar(one.right[0], two.right[0])
        else:
            p = uncertainty.permuted(deciding.of, *deciders, seed)[figure.name]
        rows.append({"method": method, "other": other, **compared, "p": p})
    return pd.DataFrame(rows).assign(p_holm=uncertainty.holm([row["p"] for row in rows]))


def slices_of(predictions: dict[str, Predictions], max_length: int, confidence: float) -> pd.DataFrame:
    """The first headline figure of each method that learns, on parts of the test texts.

    Columns kind (`all`, `length`, `cut` or `label`), slice, rows, method, and the figure, with `_low` and `_high`.
    p is that the figure is the same on the other texts; p_holm is corrected for all parts of the method. A group with
    texts in a part and outside of it is taken for two.
    """
    rows = []
    for kind, name, part in tqdm(_parts(predictions["tfidf"], max_length), desc="slices"):
        for method in (method for method in predictions if method not in WITHOUT_LEARNING):
            one = predictions[method]
            main, (counts, inside) = one.figures(one.task.headline[0]), one.by_group(one.counts, part)
            figure = uncertainty.intervals(main, counts[:, inside], confidence)
            p = np.nan if part.all() else uncertainty.differs_on_part(main, counts, inside)
            rows.append({"kind": kind, "slice": name, "rows": part.sum(), "method": method, **_flat(figure), "p": p})
    table = pd.DataFrame(rows)
    corrected = table[table.p.notna()].groupby("method").p.transform(lambda p: uncertainty.holm(p.tolist()))
    return table.assign(p_holm=corrected)


def _parts(one: Predictions, max_length: int) -> list[tuple[str, str, np.ndarray]]:
    """Kind, name and rows (true or false, shape [rows]) of each part that has a row; quarters by length first."""
    table = one.table
    parts = [("all", "all texts", np.ones(len(table), bool))]
    quarter = pd.qcut(table.tokens, 4, labels=False, duplicates="drop")
    for number in sorted(quarter.dropna().unique()):
        tokens = table.tokens[quarter == number]
        parts.append(("length", f"{tokens.min()} to {tokens.max()} tokens", (quarter == number).to_numpy()))
    cut = (table.tokens > max_length).to_numpy()
    if 0 < cut.sum() < len(cut):
        parts += [("cut", "whole texts", ~cut), ("cut", "cut texts", cut)]
    parts += [("label", label, part) for label, part in one.task.parts(one.actual) if part.any()]
    return parts


def worst_labels(slices: pd.DataFrame, figure: str) -> pd.DataFrame:
    """The rows of `slices`, but of many labels only those on which the methods' `figure` is lowest."""
    by_label = slices[slices.kind == "label"].groupby("slice")[figure].mean()
    worst = by_label.nsmallest(LABELS).index
    return slices[(slices.kind != "label") | slices.slice.isin(worst)]


def cutting_costs(predictions: dict[str, Predictions], max_length: int, confidence: float) -> pd.DataFrame:
    """The main figure on texts longer than `max_length` tokens beside that on the others, of methods that cut them.

    Longer texts may be harder to all, so the change from the others is set beside that of TF-IDF, which reads whole
    texts. Columns method, whole, cut, change, tfidf_change; beyond, beyond_low, beyond_high: change less tfidf_change.
    No rows where fewer than FEW texts are cut, or whole.
    """
    tfidf = predictions["tfidf"]
    cut = (tfidf.table.tokens > max_length).to_numpy()
    enough = FEW <= cut.sum() <= len(cut) - FEW
    rows = []
    for method in (method for method in predictions if method not in (*WITHOUT_LEARNING, "tfidf") and enough):
        one = predictions[method]
        main = one.task.headline[0]
        (own, part), (others, _) = (each.by_group(each.counts, cut) for each in (one, tfidf))
        beyond = uncertainty.differences_of_parts(one.figures(main), own, others, part, confidence)
        on_whole, on_cut = one.mean(main, ~cut), one.mean(main, cut)
        tfidf_change = tfidf.mean(main, cut) - tfidf.mean(main, ~cut)
        changes = {"whole": on_whole, "cut": on_cut, "change": on_cut - on_whole, "tfidf_change": tfidf_change}
        rows.append({"method": method, **changes, **_flat({"beyond": beyond[main]})})
    columns = ["method", "whole", "cut", "change", "tfidf_change", "beyond", "beyond_low", "beyond_high"]
    return pd.DataFrame(rows, columns=columns)


def _flat(intervals: dict[str, Interval]) -> dict[str, float]:
    return {
        f"{figure}{suffix}": value
        for figure, interval in intervals.items()
        for suffix, value in (("", interval.value), ("_low", interval.low), ("_high", interval.high))
    }


def weigh(
    methods: pd.DataFrame,
    trained: list[str],
    predictions: dict[str, Predictions],
    report: Report,
    max_length: int,
    seed: int,
    error_costs: np.ndarray | None = None,
) -> Evidence:
    """All that the test texts say of the methods, and which one to use.

    `methods` has a row for each, with the costs that `report.cost_order` names. `error_costs` are those of
    `costs.matrix`; if there are any, the cost of errors decides in the place of `report.figure`. Texts longer than
    `max_length` are cut, if the task cuts any.
    """
    first = next(iter(predictions.values()))
    max_length = max_length if first.task.cuts else sys.maxsize
    deciding = by_figure(predictions, report.figure) if error_costs is None else by_errors(predictions, error_costs)
    intervals, margin = intervals_of(predictions, report.confidence), report.margin
    if deciding.figure.name not in intervals:
        own = {
            method: _flat(uncertainty.intervals(deciding.of, counts, report.confidence))
            for method, counts in deciding.counts.items()
        }
        intervals = intervals.join(deciding.scale * pd.DataFrame.from_dict(own, orient="index"))
    if error_costs is not None:
        margin = 1000 * report.margin / deciding.scale
    parts = (
        *(deciding.of, deciding.counts, by_cost(methods, report.cost_order)),
        *(report.model_copy(update={"margin": margin}), seed, deciding.figure.sign),
        None if first.folds is None else first.by_group(first.counts)[1],
    )
    decision = decide(*parts, texts=len(first.table))
    others = [decision.best, "full", "tfidf", simplest(intervals, deciding.figure)]
    return Evidence(
        methods=methods,
        trained=trained,
        predictions=predictions,
        intervals=intervals,
        differences=differences_to(
            [name for name in others if name in predictions], predictions, deciding, report.confidence, seed
        ),
        slices=slices_of(predictions, max_length, report.confidence),
        cutting=cutting_costs(predictions, max_length, report.confidence),
        max_length=max_length,
        task=first.task,
        report=report,
        decision=decision,
        nested=None if first.folds is None else deciding.scale * nested(*parts),
        costs=error_costs,
    )
