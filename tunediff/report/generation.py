"""What a page says of texts that models wrote; `of_task.TaskReport` says what each part is for."""

import re
import textwrap

import numpy as np
import pandas as pd

from tunediff.core.methods import TARGETS
from tunediff.evidence import uncertainty
from tunediff.evidence.comparison import Evidence, Predictions
from tunediff.evidence.generation import references
from tunediff.report.page import Section
from tunediff.report.results import About
from tunediff.report.words import of_rows
from tunediff.tasks.turns import turns_of

SHOWN = 8  # texts in each table
TURNS = 4  # of a chat: the last ones
CONFIDENCE = ""
OFTEN = ""
PROBABILITIES = ""
HABITS = {
    "a number": r"\d",
    "a per cent sign": "%",
    "a semicolon": ";",
    "a question mark": r"\?",
    "a dash": r"\s[-–—]\s",
    "quotes": '["“”]',
    "a full stop at the end": r"[.]$",
    "more than ten words": r"^\s*(\S+\s+){10}\S",
}
"""What a target may have, as a regular expression."""
CONSTANT = "answer every text alike"
UNANSWERED = "the text counts as empty"
METHODS = {
    "majority": "Answers every text with one training target: the one most like the others.",
    "tfidf": "Answers with the target of the nearest training text, by TF-IDF.",
    "probe": "Answers with the target of the nearest training text, by the frozen model's states.",
    "copy": "Answers with the source itself.",
    "lead": "Answers with the source's first sentence.",
    "textrank": "Answers with the source's sentence that is most like its others, by TextRank.",
    "untrained": "The pretrained model as it is, which is only asked.",
    "full": "Every weight of the pretrained model is fine-tuned. Each version is a whole model.",
    "adapter": "An adapter ({}) is trained; the pretrained model stays as it is.",
}
ERRORS = {"text": "has", "target": "has", "method": "one", "answer": "has", "error": "least"}


def errors(one: Predictions) -> pd.DataFrame:
    """None: no text is simply wrong."""
    return pd.DataFrame(columns=[*(name for name in ERRORS if name != "method"), "split", "row"])


def choice(evidence: Evidence, about: About) -> list[Section]:
    return [
        without_training(evidence),
        written(evidence, about),
        *elsewhere(about),
        *learnt(evidence, about),
        *habits(evidence),
    ]


def answers(evidence: Evidence, about: About) -> list[Section]:
    return [examples(evidence, about.prompted), *ends(evidence)]


def label_noise(noise: pd.DataFrame, all_rows: bool) -> Section | None:
    suspected = noise[noise.suspected]
    if suspected.empty:
        return None
    said = (
        f"{len(suspected):,} of {of_rows(len(noise), all_rows)} targets have numbers that their sources have not, "
        "rounded neither: reckoned, in words there, or wrong. A model learns from them to make numbers up: read these."
    )
    rows = [[source(row.text), row.label, row.unread] for row in suspected.head(SHOWN).itertuples()]
    return Section("Numbers that no source has", said, [["source", "target", "numbers"], *rows], prose=True)


def without_training(evidence: Evidence) -> Section:
    """What copying gives, beside the recommended method, with intervals."""
    one = evidence.predictions[evidence.choice]
    figures = one.figures()
    sure = f"({100 * evidence.report.confidence:g}% interval)"
    head = ["answer", *(f"{evidence.task.figures[name].words} {sure}" for name in figures.names)]
    rows = []
    for name, texts in references(one.actual).items():
        counts, _ = one.by_group(evidence.task.counts(one.actual, texts)[None])
        found = uncertainty.intervals(figures, counts, evidence.report.confidence)
        rows.append([name, *(f"{f.value:.1%} ({100 * f.low:.1f} to {100 * f.high:.1f})" for f in found.values())])
    said = (
        "These need no training either: the source itself (`copy`), its first sentence (`lead`), the one that is most "
        "like the others (`textrank`), and the one most like the target (`oracle`), which looks at the target: what "
        "copies one sentence has no more."
    )
    return Section("Without training", said, [head, *rows])


def written(evidence: Evidence, about: About) -> Section:
    """How long the answers are and how much of them is copied, of all methods."""
    names = ("rouge1", "rouge2", "rougeLsum", "bleu", "token_f1", "length_ratio", "copied")
    head = ["method", *(evidence.task.figures[name].words for name in names), "empty answers", "perplexity"]
    known = evidence.methods.get("perplexity", pd.Series(np.nan, evidence.methods.index))  # of what gives likelihoods
    rows = []
    for method, perplexity in zip(evidence.methods.method[::-1], known[::-1], strict=True):
        one = evidence.predictions[method]
        values = one.figures(*names)(one.counts.sum(1, dtype=float))
        shown = [evidence.task.figures[name].show(value) for name, value in zip(names, values, strict=True)]
        empty = sum(not text.strip() for text in one.predicted[0])
        rows.append([method, *shown, f"{empty:,}", "" if np.isnan(perplexity) else f"{perplexity:,.2f}"])
    said = (
        "The length ratio is that of all answers' words to all targets' words. Copied are the runs of three words that "
        "stand in the source as well."
    )
    here = {name: detail for name, detail in about.details.items() if name not in about.prompted}
    if cut := [f"`{name}` {n:,}" for name, detail in here.items() if (n := detail.get("cut_answers"))]:
        said += f" Cut at `generate.max_new_tokens` of params.yaml: {', '.join(cut)} of the answers; raise it."
    return Section("What is written", said, [head, *rows], chosen=evidence.choice)


def elsewhere(about: About) -> list[Section]:
    """What training cost the model on other texts; no section where that has no figure."""
    known = {name: detail["elsewhere"] for name, detail in about.details.items() if "elsewhere" in detail}
    if "untrained" not in known:
        return []
    before = known.pop("untrained")
    after = ", ".join(f"`{name}` {value:,.2f} ({value / before - 1:+.1%})" for name, value in known.items())
    said = (
        "Perplexity on a few texts of this project about other things, which no method was trained on: "
        f"{before:,.2f} before training; after it {after}. What is higher has been forgotten."
    )
    return [Section("Forgetting", said)]


def learnt(evidence: Evidence, about: About) -> list[Section]:
    """How often answers keep to the rules of the data file; no section where it has none."""
    if about.kept is None:
        return []
    rates = about.kept.assign(
        shown=[f"{r.value:.0%} ({100 * r.low:.0f} to {100 * r.high:.0f})" for r in about.kept.itertuples()]
    )
    table = rates.pivot(index="method", columns="rule", values="shown")[rates.rule.unique()]
    rows = rates.drop_duplicates("rule").set_index("rule").rows
    head = ["method", *(f"{rule} ({rows[rule]:,} texts)" for rule in table)]
    shown = [[method, *table.loc[method]] for method in [TARGETS, *evidence.methods.method[::-1]]]
    said = (
        f"How many answers keep to the `rules` of the data file ({100 * evidence.report.confidence:g}% intervals). "
        "A rule with a condition has two columns: on the texts that are not due, what does not match it is right."
    )
    return [Section("What it learnt", said, [head, *shown], chosen=evidence.choice)]


def habits(evidence: Evidence) -> list[Section]:
    """How often answers keep to countable habits of the targets: those that some targets have and some have not, too.

    No section where there is no such habit.
    """
    targets = [target for _, target, *_ in next(iter(evidence.predictions.values())).actual]
    wanted = {name: np.array([bool(re.search(pattern, text)) for text in targets]) for name, pattern in HABITS.items()}
    wanted = {name: has for name, has in wanted.items() if has.any()}
    if not wanted:
        return []
    rows = [["targets that have it", *(f"{has.mean():.0%}" for has in wanted.values())]]
    for method in evidence.methods.method[::-1]:
        texts = evidence.predictions[method].predicted[0]
        kept = [
            np.mean([bool(re.search(HABITS[name], text)) == true for text, true in zip(texts, has, strict=True)])
            for name, has in wanted.items()
        ]
        rows.append([method, *(f"{share:.0%}" for share in kept)])
    said = "On how many test texts the answer has what its target has, or lacks what its target lacks."
    return [Section("Habits of the targets", said, [["method", *wanted], *rows], chosen=evidence.choice)]


def examples(evidence: Evidence, prompted: list[str]) -> Section:
    """The first test texts, with every method's answer."""
    named = dict.fromkeys([evidence.choice, *evidence.trained, *prompted, "untrained"])
    shown = [method for method in named if method in evidence.predictions]
    tables = {method: evidence.predictions[method].table for method in shown}
    first = tables[shown[0]].head(SHOWN)
    rows = [
        [source(row.text), row.actual, *(short(table.predicted.iloc[place]) for table in tables.values())]
        for place, row in enumerate(first.itertuples())
    ]
    said = "The first test texts, as they come."
    return Section("Answers side by side", said, [["source", "target", *shown], *rows], prose=True)


def ends(evidence: Evidence) -> list[Section]:
    """The recommended method's worst and best answers, by the figure that decides, and of equal ones by ROUGE-L."""
    one = evidence.predictions[evidence.choice]
    figure = evidence.task.figures[evidence.report.figure]
    values = evidence.task.figures_of(one.counts[0])[figure.name]
    order = np.lexsort((one.right[0], values))

    def table_of(rows: np.ndarray) -> list[list[str]]:
        shown = [
            [source(row.text), row.actual, short(row.predicted), f"{values[place]:.2f}"]
            for place, row in zip(rows, one.table.iloc[rows].itertuples(), strict=True)
        ]
        return [["source", "target", "answer", figure.words], *shown]

    said = f"Of `{evidence.choice}`, by {figure.words}."
    return [
        Section("Worst answers", said, table_of(order[:SHOWN]), prose=True),
        Section("Best answers", said, table_of(order[::-1][:SHOWN]), prose=True),
    ]


def source(text: str) -> str:
    """A source in one line; of a chat the last turns, the last one longest, with bars between."""
    turns = turns_of(text)
    if len(turns) == 1 and turns[0] == ("user", text):
        return short(text)
    *before, (role, said) = turns[-TURNS:]
    more = [f"({len(turns) - TURNS} earlier turns)"] if len(turns) > TURNS else []
    shown = [f"{other}: {textwrap.shorten(what, 150)}" for other, what in before]
    return " | ".join([*more, *shown, f"{role}: {short(said)}"])


def short(text: str) -> str:
    return textwrap.shorten(text, 400)
