"""What the page says first, to someone with one minute: what to use, why, how sure that is, at what price."""

from collections.abc import Mapping

import pandas as pd

from tunediff.core.methods import WITHOUT_LEARNING, WITHOUT_MODEL
from tunediff.evidence.comparison import Evidence
from tunediff.evidence.decision import ALIKE
from tunediff.report.of_task import of_task
from tunediff.report.page import Tile, Verdict
from tunediff.report.results import About
from tunediff.report.words import duration, names, percent, size

MORE_SEEDS = 3  # trainings of each method, where there was one
FOLDS = 5  # that make every text a test text


def verdict(evidence: Evidence, about: About | None = None) -> Verdict:
    """Without `about`, folds are not spoken of."""
    costs = evidence.methods.set_index("method")
    return Verdict(
        headline=headline(evidence),
        reason=reason(evidence, costs, about),
        tiles=tiles(evidence, costs.loc[evidence.choice]),
        sure=sure(evidence),
        next=what_next(evidence, costs, about),
    )


def headline(evidence: Evidence) -> str:
    choice = evidence.choice
    if not evidence.decision.assured:
        return f"No clear choice yet: `{choice}` is the best bet"
    special = {
        **{method: f"Use `{method}`: no pretrained model is needed" for method in WITHOUT_MODEL},
        "majority": f"No method is worth its cost: {of_task(evidence.task).CONSTANT}",
        "untrained": "Use `untrained`: the model needs no training",
    }
    return special.get(choice, f"Use `{choice}`")


def reason(evidence: Evidence, costs: pd.DataFrame, about: About | None) -> str:
    """What it is; it beside the best one; then beside the simplest."""
    kind = what_it_is(evidence.choice, evidence, about) if about and evidence.choice not in WITHOUT_LEARNING else ""
    return " ".join(filter(None, [kind, beside_best(evidence, costs), beside_simplest(evidence)]))


def what_it_is(method: str, evidence: Evidence, about: About) -> str:
    """The method in a sentence or two."""
    kinds = of_task(evidence.task).METHODS
    if method in about.prompted:
        return f"A language model ({about.prompted[method]}) is asked for the answer. Nothing is trained."
    return kinds["adapter"].format(about.adapters[method]) if method in about.adapters else kinds.get(method, "")


def beside_best(evidence: Evidence, costs: pd.DataFrame) -> str:
    choice, best, figure = evidence.choice, evidence.best, evidence.deciding
    own, other = (quality(evidence, method) for method in (choice, best))
    if choice == best:
        cheaper = evidence.decision.order[: evidence.decision.order.index(choice)]
        probabilities = evidence.decision.probabilities
        rival = max(cheaper, key=probabilities.get, default=choice)
        if rival != choice and probabilities[rival] >= 1 - evidence.report.assurance:
            return (
                f"Its {figure.words} is the best ({own}). Of what is cheaper, `{rival}` has the best chance to be "
                f"{within(evidence)}: {percent(probabilities[rival])}, too little."
            )
        return f"Its {figure.words} is the best ({own}), and nothing cheaper is likely to be as good."
    mine, theirs = costs.loc[choice], costs.loc[best]
    gains = [
        f"1,000 answers take {duration(mine.answer_seconds)} instead of {duration(theirs.answer_seconds)}"
        if mine.answer_seconds * ALIKE < theirs.answer_seconds
        else "",
        f"training took {duration(mine.train_seconds)} instead of {duration(theirs.train_seconds)}"
        if mine.train_seconds * 1.1 < theirs.train_seconds
        else "",
        a_version(mine, size(theirs.artifact_bytes)) if mine.artifact_bytes * ALIKE < theirs.artifact_bytes else "",
    ]
    gained = ", ".join(filter(None, gains))
    near = "is about as good as" if evidence.decision.assured else "stands beside"
    tied = f"Its {figure.words} ({own}) {near} the best one, that of `{best}` ({other})"
    return f"{tied}, and it is cheaper: {gained}." if gained else f"{tied}."


def a_version(cost: pd.Series, otherwise: str) -> str:
    """What is stored of one; where others share a part, of each further one."""
    stored, shared = size(cost.artifact_bytes), cost.loaded_bytes - cost.artifact_bytes
    if shared > 0 and cost.artifact_bytes:
        return f"each further version takes {stored} instead of {otherwise} (the first {size(cost.loaded_bytes)})"
    return f"a version takes {stored} instead of {otherwise}"


def beside_simplest(evidence: Evidence) -> str:
    """What the best one lacks that learns without a pretrained model, with its interval, if it is not the choice."""
    choice, figure, table, other = evidence.choice, evidence.deciding, evidence.differences, evidence.simplest
    if choice in (*WITHOUT_MODEL, *WITHOUT_LEARNING) or other is None:
        return ""
    [(_, pair)] = table[table.method.isin([choice, other]) & table.other.isin([choice, other])].iterrows()
    times = figure.sign * (1 if evidence.costs is not None else 100) * (1 if pair.method == choice else -1)
    lead, *ends = (times * pair[f"{figure.name}{end}"] for end in ("", "_low", "_high"))
    said = f"`{other}`, which needs no pretrained model, reaches {quality(evidence, other)}"
    if min(ends) <= 0 <= max(ends):
        return f"{said}; these texts do not tell them apart."
    worse, better, show = ("less", "more", "{:.1f}") if evidence.costs is None else ("dearer", "cheaper", "{:.0f}")
    points = f"{show.format(abs(lead))}{' points' if evidence.costs is None else ''} {worse if lead > 0 else better}"
    between = " to ".join(show.format(end) for end in sorted(map(abs, ends)))
    return f"{said}: {points} ({100 * evidence.report.confidence:g}% interval of this pair alone {between})."


def tiles(evidence: Evidence, cost: Mapping[str, float]) -> list[Tile]:
    interval, figure = evidence.intervals.loc[evidence.choice], evidence.deciding
    low, high = (interval[f"{figure.name}{end}"] for end in ("_low", "_high"))
    limits = f"{low:.0f} to {high:.0f}" if evidence.costs is not None else f"{100 * low:.1f} to {100 * high:.1f}"
    stored, loaded = size(cost["artifact_bytes"]), size(cost["loaded_bytes"])
    shared = "a further version takes as much again"
    if not cost["loaded_bytes"]:
        shared = "it is on a server"
    elif stored != loaded:
        shared = f"a further version adds {stored}: the rest is the pretrained model"
    sure = f"{limits} at {100 * evidence.report.confidence:g}% confidence, on {evidence.decision.rows:,} texts"
    others = [one for one in evidence.task.figures.values() if one.of_right and one is not figure]
    title = f"{figure.title} ({figure.meaning})" if figure.meaning else figure.title
    title = title if evidence.costs is None else f"{figure.title}, 1,000 texts"
    also = [f"{one.words} {one.show(interval[one.name])}" for one in others if one.name in evidence.task.headline]
    return [
        Tile(title, quality(evidence, evidence.choice), "; ".join([sure, *also])),
        Tile("Size", loaded, shared),
        Tile(
            "Time for 1,000 answers", duration(cost["answer_seconds"]), f"trained in {duration(cost['train_seconds'])}"
        ),
    ]


def sure(evidence: Evidence) -> str:
    """One line: how probable it is that the choice is near the best, and what is proven."""
    decision, confidence = evidence.decision, f"{100 * evidence.report.confidence:g}%"
    share, near = percent(decision.probabilities[decision.choice]).capitalize(), f"that it is {within(evidence)}"
    if decision.proven == decision.choice:
        return f"{share} sure {near}, which counts as proven (from {confidence} on)."
    chance = f"{share} sure (the bar: {100 * evidence.report.assurance:g}%) {near}"
    if decision.proven:
        return f"{chance}. Proven at {confidence} is the dearer `{decision.proven}`."
    if decision.probabilities[decision.choice] >= evidence.report.confidence:
        needed = f"{100 * decision.to_prove:.4g}%"
        return f"{chance}. Proof at {confidence} takes {needed}, because several methods may be near the best."
    return f"{chance}. {undecided(evidence, confidence)}"


def undecided(evidence: Evidence, confidence: str) -> str:
    """Of which methods the texts do not show whether they are near the best, and how many are not."""
    decision = evidence.decision
    likeliest = sorted(decision.order, key=lambda method: -decision.probabilities[method])
    others = [method for method in likeliest if method != decision.choice]
    rivals = [method for method in others if decision.probabilities[method] >= 1 - evidence.report.confidence]
    if not rivals:
        return f"{decision.rows:,} test texts are too few for {confidence}."
    tied = names([decision.choice, *rivals])
    said = f"At {confidence}, {decision.rows:,} test texts leave open which of {tied} are that near"
    worse = len(others) - len(rivals)
    return f"{said}; the other {worse} are not." if worse > 1 else f"{said}."


def what_next(evidence: Evidence, costs: pd.DataFrame, about: About | None) -> str:
    decision, steps = evidence.decision, []
    folds = about is not None and about.texts > 0 and decision.folds is None and decision.proven != decision.choice
    if folds:
        steps.append(with_folds(evidence, costs, about))
    elif decision.proven != decision.choice:
        steps.append(more_texts(evidence))
    if decision.trainings == 1 and not folds and decision.folds is None:
        seconds = MORE_SEEDS * costs.train_seconds[evidence.trained].sum()
        steps.append(
            "So far the luck of the test texts alone is counted; another training may change it. To count that too: "
            f"`dvc exp run -S 'seeds=[17,18,19]'`, about {duration(seconds)} of training."
        )
    if not steps:
        steps.append("Nothing more to run for this choice.")
    usable = decision.assured and decision.choice not in WITHOUT_LEARNING
    start = "You can use it now, if this quality is enough for you." if usable else ""
    return " ".join(filter(None, [start, *steps]))


def with_folds(evidence: Evidence, costs: pd.DataFrame, about: About) -> str:
    """All texts as test texts, and the time of it by what trainings and answers took."""
    decision, confidence = evidence.decision, f"{100 * evidence.report.confidence:g}%"
    each = FOLDS * costs.train_seconds + about.texts / 1000 * costs.answer_seconds
    again = each[evidence.trained].sum() * (decision.trainings - 1)
    shares = "" if about.growth.empty else ", `training_rows.shares` not counted"
    luck = ", which the figures above do not" if decision.trainings == 1 else ""
    money = about.texts / 1000 * costs.answer_money.sum()
    paid = f", and at least {money:,.2g} in the currency of `price`" if money else ""
    said = (
        f"To know more, let all {about.texts:,} texts be answered "
        f"by trainings that did not see them: `dvc exp run -S 'folds=[{FOLDS}]'`, about "
        f"{duration(each.sum() + again)} on the machine that trained ({about.machine}){shares}{paid}. That counts "
        f"the luck of a training, too{luck}."
    )
    if (needed := decision.rows_to_prove) is None or needed <= decision.rows:
        return said
    enough = "as many as there are" if needed <= about.texts else "more than there are"
    so = "if the figures stay as they are"
    return f"{said} To prove it at {confidence} takes about {needed:,} test texts, {enough}, {so}."


def more_texts(evidence: Evidence) -> str:
    decision, confidence = evidence.decision, f"{100 * evidence.report.confidence:g}%"
    split = "in all" if decision.folds else "in the test split"
    if decision.rows_to_prove is None:
        seeds = ""
        if decision.folds and decision.trainings == 1:
            seeds = " Several trainings of each fold would tell luck apart: `dvc exp run -S 'seeds=[17,18,19]'`."
        return f"More test texts alone would not prove it, if the figures stay as they are.{seeds}"
    needed = max(decision.rows_to_prove, decision.rows + 100)  # it is rounded to hundreds
    return (
        f"To prove it at {confidence}, label more texts: if the figures stay as they are, about {needed:,} {split} "
        f"would do, instead of {decision.rows:,}."
    )


# --- words


def within(evidence: Evidence) -> str:
    margin = evidence.report.margin
    if evidence.costs is not None:
        return f"at most {1000 * margin:g} dearer than the best, in costs of errors of 1,000 texts"
    return f"within {100 * margin:g} points of the best"


def quality(evidence: Evidence, method: str) -> str:
    value = evidence.intervals.loc[method, evidence.deciding.name]
    return f"{value:.0f}" if evidence.costs is not None else evidence.deciding.show(value)
