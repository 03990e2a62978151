"""Rules of a house style: which of them answers keep, and that no expression of a user takes for ever."""

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import regex
from conftest import ROOT

from tunediff.core.errors import UserError
from tunediff.core.settings import check
from tunediff.evidence import rules
from tunediff.evidence.comparison import Predictions
from tunediff.evidence.uncertainty import Figures, intervals
from tunediff.settings import study
from tunediff.tasks.generation import Generation, Keys
from tunediff.tasks.settings import Rule

PAIRS = [
    ("Acme rose. Its shares gained 4%.", "Acme up; shares +4%"),
    ("Zeta cut jobs.", "Zeta cuts jobs"),
    ("The mill said its shares fell.", "Mill says no more; shares -2%"),
    ("Oslo closed.", "Oslo closes"),
]
GIVEN = {
    "full": [
        ["Acme up; shares +4%", "Zeta; shares +1%", "Mill", "Oslo."],
        ["Acme", "Zeta", "Mill; shares -1%", "Oslo"],
    ],
    "copy": [[source for source, _ in PAIRS]] * 2,
}
PREDICTIONS = {
    name: Predictions(pd.DataFrame(index=range(4)), Generation(), PAIRS, given) for name, given in GIVEN.items()
}
SHARES = "; shares [+-]\\d+%$"


def kept(**wanted: object) -> dict[tuple[str, str], tuple[int, float]]:
    table = rules.kept(
        PREDICTIONS, {name: Rule.model_validate(rule) for name, rule in wanted.items()}, 0.95, "briefs.yaml"
    )
    return {(row.method, row.rule): (row.rows, row.value) for row in table.itertuples()}


def test_the_texts_of_a_group_count_once():
    lows = []
    for table in (pd.DataFrame(index=range(4)), pd.DataFrame({"group": ["a", "", "a", "a"]})):
        given = {"copy": Predictions(table, Generation(), PAIRS, GIVEN["copy"])}
        found = rules.kept(given, {"full stop": Rule(answer="[.]$")}, 0.95, "briefs.yaml")
        lows.append(found.set_index("method").low["copy"])
    assert 0 < lows[1] < lows[0] < 1


@pytest.mark.parametrize("condition", [{"target": "; shares"}, {"source": r"\bshares (gained|fell)"}])
def test_a_rule_with_a_condition_holds_there_and_not_elsewhere(condition: dict):
    found = kept(ending={"answer": SHARES, **condition})
    assert found == {
        ("targets", "ending"): (2, 1.0),
        ("targets", "ending, not due"): (2, 1.0),
        ("full", "ending"): (2, 0.5),  # the mean of both trainings
        ("full", "ending, not due"): (2, 0.75),
        ("copy", "ending"): (2, 0.0),
        ("copy", "ending, not due"): (2, 1.0),
    }


def test_a_rule_alone_holds_everywhere_with_the_common_intervals():
    table = rules.kept(PREDICTIONS, {"no full stop": Rule.model_validate("[^.]$")}, 0.9, "briefs.yaml")
    assert table.groupby("method").value.first().to_dict() == {"copy": 0, "full": 7 / 8, "targets": 1}
    right = np.array([[[one[-1] != "."] for one in texts] for texts in GIVEN["full"]], dtype=float)
    counts = np.concatenate([right, np.ones_like(right)], axis=-1)
    share = intervals(Figures(["x"], lambda sums: {"x": sums[..., 0] / sums[..., 1]}), counts, 0.9)["x"]
    row = table[table.method == "full"].iloc[0]
    assert (row.low, row.high) == (share.low, share.high) and row.low < row.value < row.high


def test_what_is_due_nowhere_has_no_column():
    assert set(kept(never={"answer": "x", "source": "nothing"})) == {
        (who, "never, not due") for who in ("targets", "full", "copy")
    }


def test_an_expression_that_takes_for_ever_ends_in_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rules, "SECONDS", 0.2)
    slow = {
        "full": Predictions(pd.DataFrame(index=range(20)), Generation(), [("a", "b")] * 20, [["a" * 200 + "b"] * 20])
    }
    started = time.monotonic()
    with pytest.raises(
        UserError, match=r"^briefs.yaml: rules.slow: takes more than 0.2 seconds on targets and answers; write"
    ):
        rules.kept(slow, {"slow": Rule(answer="^(a|aa)+$")}, 0.95, "briefs.yaml")
    assert time.monotonic() - started < 5
    with pytest.raises(TimeoutError):
        rules.matches("a", ["a"], deadline=time.monotonic() - 1)  # each text is quick


def test_a_name_that_the_report_makes_itself_is_refused():
    with pytest.raises(UserError, match=r"rules.stop, not due.*take another name"):
        check({"target": "headline", "rules": {"stop, not due": "a"}}, Keys, Path("tiny.yaml"))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("(", r"rules.x: not a regular expression: missing \)"),
        ({"answer": "a", "source": "a", "target": "a"}, "rules.x: source and target both say where the rule holds"),
        ({"source": "a"}, "rules.x.answer: missing key"),
        ("a" * 1001, "rules.x"),
        ({"answer": "a", "where": "b"}, "rules.x.where: unknown key"),
    ],
)
def test_a_wrong_rule_is_named_in_one_line(rule: object, message: str):
    with pytest.raises(UserError, match=rf"^tiny.yaml: {message}"):
        check({"target": "headline", "rules": {"x": rule}}, Keys, Path("tiny.yaml"))


def test_the_rules_of_briefs_are_those_of_its_headlines(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    wanted = study.read_data(Path("conf/data/briefs.yaml")).rules
    lines = Path("data/raw/briefs.jsonl").read_text(encoding="utf-8").splitlines()
    headlines = [json.loads(line)["headline"] for line in lines]
    matched = {name: [bool(regex.search(rule.answer, text)) for text in headlines] for name, rule in wanted.items()}
    for name, rule in wanted.items():  # the numbers of data/raw/briefs.md
        due = [bool(regex.search(rule.target, text)) for text in headlines] if rule.target else [True] * len(headlines)
        assert matched[name] == due
        assert sum(due) == {"share move": 210, "sources": 53}.get(name, 520)
    words = wanted["4 to 12 words"].answer
    for end in ("", "; shares +4%", " - sources", " - sources; shares flat"):
        assert [bool(regex.search(words, " ".join(["w"] * n) + end)) for n in (3, 4, 12, 13)] == [0, 1, 1, 0]
