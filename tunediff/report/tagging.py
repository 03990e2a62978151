"""What a page says of spans; `of_task.TaskReport` says what each part is for."""

import math
import textwrap
from collections import Counter
from collections.abc import Iterable

import pandas as pd
from markupsafe import Markup, escape

from tunediff.core.methods import WITHOUT_LEARNING
from tunediff.evidence.comparison import Evidence, Predictions
from tunediff.evidence.tagging import KINDS, error
from tunediff.evidence.tagging import errors as kinds
from tunediff.report import classification
from tunediff.report.page import Section
from tunediff.report.results import About
from tunediff.tasks.spans import pairs

SHOWN = 10  # texts in a table
LENGTH = 300  # characters of a text that are shown
CONFIDENCE = "score of a span: the least probability of its words"
OFTEN = "share of spans that are right"
PROBABILITIES = classification.PROBABILITIES
CONSTANT = "mark no span at all"
UNANSWERED = "no span is marked"
METHODS = {
    **classification.METHODS,
    "majority": "Marks no span. What it reaches needs no model.",
    "tfidf": "Weighs each word, its shape and its neighbours by logistic regression. It knows no pretrained model.",
    "dictionary": "Marks the spans of train again wherever their words stand.",
    "crf": "A conditional random field on each word, its shape and its neighbours. It knows no pretrained model.",
    "probe": "The pretrained model reads the text as it is. Its words' states get a logistic regression.",
}
ERRORS = {"text": "has", "spans": "has", "method": "one", "answer": "has", "kinds": "has", "errors": "least"}
MACRO = ("macro_f1", "macro_precision", "macro_recall")
OFTEN_IN_TRAIN = {"not in train": 0, "once": 1, "2 to 5 times": 5, "more often": math.inf}
"""How often at most."""
# Two shades that both a light and a dark page bear, for what should be marked and for what was.
COLOURS = {"there": "#0072b244", "answered": "#e69f0055"}


def errors(one: Predictions) -> pd.DataFrame:
    """A row for each text with an error; `errors` is how many it has."""
    table = one.table.assign(errors=error_counts(one)).query("errors > 0")
    columns = {
        "spans": table.actual.map(listed),
        "answer": table.predicted.map(listed),
        "kinds": [reasons(one, place) for place in table.index],
    }
    return table[["text", "split", "row", "errors"]].assign(**columns)


def listed(spans: Iterable[dict]) -> str:
    return ", ".join(f"[{span['text']}]{span['label']}" for span in spans)


def choice(evidence: Evidence, about: About) -> list[Section | None]:
    shown = [method for method in evidence.methods.method[::-1] if method not in WITHOUT_LEARNING]
    own = classification.by_label(evidence, "spans")
    return [types(evidence, shown), own, kinds_of_errors(evidence, shown), seen(evidence, shown)]


def answers(evidence: Evidence, about: About) -> list[Section | None]:
    return [wrong_texts(evidence.choice, evidence.predictions[evidence.choice])]


def types(evidence: Evidence, shown: list[str]) -> Section:
    """The span F1 of each type, the rarest first, and then what is of all types alike."""
    figures = {method: per_type(evidence.predictions[method]) for method in shown}
    actual = Counter(kind for one in evidence.predictions[shown[0]].actual for *_, kind in one.spans)
    rows = [
        [label, f"{actual[label]:,}", *(f"{figures[method][label]:.1%}" for method in shown)]
        for label in sorted(evidence.task.labels, key=lambda label: actual[label])
    ]
    means = {method: macro(evidence.predictions[method]) for method in shown}
    for place, name in enumerate(MACRO):
        words = evidence.task.figures[name].words
        rows.append([words, f"{actual.total():,}", *(f"{means[method][place]:.1%}" for method in shown)])
    said = "The span F1 of each type on test, the rarest first. Macro figures are means over the types."
    return Section("Types", said, [["type", "spans", *shown], *rows])


def per_type(one: Predictions) -> dict[str, float]:
    """The mean over the trainings."""
    count = len(one.task.labels)
    sums = one.counts[..., : 3 * count].sum(1)
    actual, answered, hits = (sums[:, start : start + count] for start in (0, count, 2 * count))
    f1 = (2 * hits / (actual + answered).clip(1)).mean(0)
    return dict(zip(one.task.labels, f1.tolist(), strict=True))


def macro(one: Predictions) -> list[float]:
    return one.figures(*MACRO)(one.counts.sum(1)).tolist()


def kinds_of_errors(evidence: Evidence, shown: list[str]) -> Section:
    rows = []
    for method in shown:
        one = evidence.predictions[method]
        counts = Counter(kind for both in zip(one.actual, one.predicted[0], strict=True) for kind in kinds(*both))
        rows.append([method, *(f"{counts[kind]:,}" for kind in KINDS), *other_readings(one)])
    said = (
        "A span is wrong in its edge if it overlaps one that is there. The last columns are kinder readings of the "
        "same answers: with broken tags repaired as conlleval does it, with half a point for an overlap whatever the "
        "type, and for the type whatever the edge."
    )
    head = ["method", *KINDS, "F1", "repaired", "overlap", "type"]
    return Section("Errors by kind", said, [head, *rows], chosen=evidence.choice)


def other_readings(one: Predictions) -> list[str]:
    figures = one.figures("f1", "repaired_f1", "partial_f1", "type_f1")(one.counts.sum(1))
    return [f"{value:.1%}" for value in figures]


def seen(evidence: Evidence, shown: list[str]) -> Section:
    """The recall of spans by how often train has their text as a span of that type."""
    rows = []
    for method in shown:
        one = evidence.predictions[method]
        times = [span["seen"] for row in one.table.actual for span in row]
        found = [
            (span["start"], span["end"], span["label"]) in {(s["start"], s["end"], s["label"]) for s in answered}
            for row, answered in zip(one.table.actual, one.table.predicted, strict=True)
            for span in row
        ]
        table = pd.DataFrame({"often": pd.cut(times, [-1, *OFTEN_IN_TRAIN.values()]), "found": found})
        rows.append([method, *(_share(table.found[table.often == part]) for part in table.often.cat.categories)])
    said = (
        f"How many of the {len(times):,} spans of test a method finds, by how often train has their text as a span of "
        "that type: whether it reads or remembers."
    )
    return Section("Seen or unseen in train", said, [["method, found of those", *OFTEN_IN_TRAIN], *rows])


def _share(found: pd.Series) -> str:
    return f"{found.mean():.1%} of {len(found):,}" if len(found) else "none"


# --- texts to read


def wrong_texts(name: str, one: Predictions) -> Section | None:
    """The texts with the most errors of one method, marked."""
    table = one.table.assign(errors=error_counts(one))
    wrong = table[table.errors > 0].sort_values("errors", ascending=False, kind="stable")
    if wrong.empty:
        return None
    worst = wrong.head(SHOWN)
    said = (
        f"`{name}` marks {len(wrong):,} of {len(table):,} test texts wrongly. Those with the most errors: in the first "
        "column what should be marked, in the second what was, with the type behind it."
    )
    rows = [
        [
            marked(row.text, row.actual, "there", begin := first_error(row.actual, row.predicted)),
            marked(row.text, row.predicted, "answered", begin),
            reasons(one, place),
        ]
        for place, row in zip(worst.index, worst.itertuples(), strict=True)
    ]
    return Section("Texts marked wrongly", said, [["marked", "answered", "errors"], *rows], prose=True)


def first_error(actual: Iterable[dict], answered: Iterable[dict]) -> int:
    """Where an excerpt of the text begins that shows the first error: at 0, if the text's beginning does."""
    there, given = ({(span["start"], span["end"], span["label"]) for span in spans} for spans in (actual, answered))
    start, end, _ = min(there ^ given)
    return 0 if end <= LENGTH else max(0, start - LENGTH // 3)


def error_counts(one: Predictions) -> list[int]:
    """How many errors each text has."""
    return [sum(1 for _ in kinds(*both)) for both in zip(one.actual, one.predicted[0], strict=True)]


def reasons(one: Predictions, place: int) -> str:
    both = pairs(one.actual[place].spans, one.predicted[0][place].spans)
    counts = Counter(filter(None, (error(*pair) for pair in both)))
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


class Marked(str):
    """A text with spans: in brackets as text, coloured in HTML."""

    html = Markup()

    def __html__(self) -> str:
        return self.html


def marked(text: str, spans: Iterable[dict], colour: str, begin: int = 0) -> Marked:
    """An excerpt of a text from a place on, with those of its spans that it holds."""
    words, html, place, stop = "…" * (begin > 0), Markup("…" * (begin > 0)), begin, begin + LENGTH
    for span in sorted(spans, key=lambda span: span["start"]):
        if span["start"] < begin or span["end"] > stop:
            continue
        before, own = text[place : span["start"]], text[span["start"] : span["end"]]
        words += f"{before}[{own}]{span['label']}"
        style = f"background: {COLOURS[colour]}; border-radius: 3px"
        html += Markup('{}<span style="{}">{} <small>{}</small></span>').format(before, style, own, span["label"])
        place = span["end"]
    rest = text[place:stop] + ("…" if len(text) > stop else "")
    made = Marked(words + rest)
    made.html = html + escape(rest)
    return made


def label_noise(noise: pd.DataFrame, all_rows: bool) -> Section | None:
    suspected = noise[noise.suspected]
    if suspected.empty:
        return None
    said = (
        f"{len(suspected):,} words of training texts have a tag that looks wrong to a simple model that did not see "
        "their text. How many are, a reader has to say; these come first."
    )
    rows = [
        [row.word, row.label, row.suggested, f"{row.p_label:.2f}", textwrap.shorten(row.text, LENGTH)]
        for row in suspected.head(SHOWN).itertuples()
    ]
    head = ["word", "tag", "suggested", "probability of the tag", "text"]
    return Section("Likely label noise", said, [head, *rows])
