"""The recommendation and the page that it heads: right for known figures, and safe for any text."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages import report
from stages.common import page, plots
from stages.common.recommendation import by_cost, recommend
from stages.common.uncertainty import Interval

ORDER = ["majority", "tfidf", "baseline", "probe", "lora-v1", "full"]
# Far below the best, and sure to be.
POOR = Interval(-0.3, -0.35, -0.25)


def advice(values: dict[str, float], to_best: dict[str, Interval], margin: float = 0.02) -> tuple[str, str]:
    intervals = {method: Interval(values.get(method, 0.4), 0.35, 0.45) for method in ORDER}
    best = max(ORDER, key=lambda method: intervals[method].value)
    differences = {method: POOR for method in ORDER if method != best} | to_best
    return recommend(ORDER, intervals, differences, "f1", margin, 300)


def test_the_cheapest_comes_first_whatever_the_seconds():
    table = pd.DataFrame(
        {
            "method": ["full", "probe", "lora-v1", "tfidf", "majority", "baseline"],
            "trainable_parameters": [22_000_000, 1_155, 200_000, 77_000, 0, 0],
        }
    )
    assert by_cost(table) == ORDER


def test_the_best_is_recommended_if_all_cheaper_ones_are_worse():
    choice, text = advice({"full": 0.9}, {})
    assert choice == "full"
    assert "Use `full`" in text and "the best of all" in text
    assert (
        "`majority`, `tfidf`, `baseline`, `probe` and `lora-v1` would be cheaper and are worse by more than 2 po"
        in text
    )
    assert "cannot tell" not in text


def test_a_cheaper_one_is_recommended_if_the_margin_is_ruled_out():
    choice, text = advice({"full": 0.9, "lora-v1": 0.895}, {"lora-v1": Interval(-0.005, -0.015, 0.004)})
    assert choice == "lora-v1"
    assert "the best, `full`, has 90.0%" in text and "is ruled out (difference -1.5 to +0.4)" in text
    # A smaller margin is not ruled out.
    choice, text = advice({"full": 0.9, "lora-v1": 0.895}, {"lora-v1": Interval(-0.005, -0.015, 0.004)}, margin=0.01)
    assert choice == "full" and "cannot tell whether the cheaper `lora-v1` would do" in text


def test_it_says_when_the_data_cannot_tell_and_how_many_texts_could():
    choice, text = advice({"full": 0.9, "lora-v1": 0.89}, {"lora-v1": Interval(-0.01, -0.05, 0.03)})
    assert choice == "full"
    assert (
        "The data cannot tell whether the cheaper `lora-v1` would do: `lora-v1` differs by -5.0 to +3.0 points" in text
    )
    # The interval reaches 4 points down where 1 would do: 16 times the 300 texts.
    assert "about 4,800 test texts" in text


def test_no_number_of_texts_is_promised_for_a_difference_beyond_the_margin():
    _, text = advice({"full": 0.9}, {"lora-v1": Interval(-0.03, -0.07, 0.01)})
    assert "cannot tell" in text and "would settle" not in text


def test_tfidf_is_enough():
    choice, text = advice({"full": 0.9, "tfidf": 0.899}, {"tfidf": Interval(-0.001, -0.01, 0.01)})
    assert choice == "tfidf" and text.startswith("TF-IDF is enough, no pretrained model is needed")


def test_no_method_is_worth_its_cost():
    choice, text = advice({"majority": 0.4, "full": 0.4}, {})
    assert choice == "majority" and text.startswith("No method is worth its cost")


# --- what it rests on


def answered(predicted: list[int], actual: list[int], sure: float = 0.8) -> pd.DataFrame:
    names = ["a", "b"]
    chances = np.where(np.eye(2)[predicted] == 1, sure, 1 - sure)
    return pd.DataFrame(
        {
            "text": [f"text {i}" for i in range(len(actual))],
            "actual": pd.Categorical.from_codes(actual, names),
            "predicted": pd.Categorical.from_codes(predicted, names),
            "p_a": chances[:, 0],
            "p_b": chances[:, 1],
        }
    )


ACTUAL = [0, 0, 0, 0, 1, 1, 1, 1] * 5
PREDICTIONS = {
    "tfidf": answered([0, 0, 1, 1, 1, 1, 0, 0] * 5, ACTUAL),
    "full": answered([0, 0, 0, 1, 1, 1, 1, 0] * 5, ACTUAL),
    "lora-v1": answered([0, 0, 0, 1, 1, 1, 1, 1] * 5, ACTUAL),
}


def test_each_pair_is_compared_once_and_corrected_for_all():
    found = report.differences_to(["lora-v1", "full", "tfidf"], PREDICTIONS, 17)
    assert list(zip(found.method, found.other, strict=True)) == [
        ("tfidf", "lora-v1"),
        ("full", "lora-v1"),
        ("tfidf", "full"),
    ]
    assert found.accuracy.tolist() == pytest.approx([-3 / 8, -1 / 8, -2 / 8])
    # 15, 5 and 10 texts that only the second gets right, and none that only the first does.
    assert found.p.tolist() == pytest.approx([2 / 2**15, 2 / 2**5, 2 / 2**10])
    assert found.p_holm.tolist() == pytest.approx([3 * 2 / 2**15, 2 / 2**5, 2 * 2 / 2**10])


def test_the_best_may_be_a_baseline():
    found = report.differences_to(["tfidf", "full", "tfidf"], PREDICTIONS, 17)
    assert len(found) == 3 and not found.duplicated(["method", "other"]).any()


def test_texts_that_all_get_wrong_alike():
    section = report.wrong_for_all([PREDICTIONS["full"], PREDICTIONS["lora-v1"]])
    assert section.text.startswith("5 of 40 test texts")
    assert [row[0] for row in section.table[1:]] == [f"text {i}" for i in range(3, 40, 8)]
    assert section.table[1][1:] == ["a", "b", "0.80"]


def test_surest_errors_come_first():
    table = PREDICTIONS["full"].copy()
    table.loc[7, ["p_a", "p_b"]] = [0.99, 0.01]
    section = report.surest_errors("full", table)
    assert section.text == "Of `full`, which errs on 10 of 40 test texts."
    assert section.table[1] == ["text 7", "b", "a", "0.99"]
    assert len(section.table) == 1 + 10


def test_a_method_without_errors_has_none_to_read():
    right = answered(ACTUAL, ACTUAL)
    assert report.surest_errors("full", right).table[1:] == []
    assert report.wrong_for_all([right, PREDICTIONS["full"]]).table[1:] == []


# --- the page


def test_a_page_holds_any_text_as_text(tmp_path: Path):
    hostile = "<script>alert(1)</script> | [x](http://example.com) `&amp;` *b*\n# no heading"
    picture = tmp_path / "one.png"
    plots.intervals(report.intervals_of(PREDICTIONS, 17).reset_index(), picture)
    section = page.Section("Errors", "Of `full`.", [["text", "label"], [hostile, "<b>"]], [picture])
    page.write("A title", "Use `full`.", [section], tmp_path / "page.html", tmp_path / "page.md")

    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script" not in html and "<b>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; | [x]" in html
    assert "Use <code>full</code>." in html
    # Nothing is fetched: the only sources are in the page.
    assert re.findall(r'(?:src|href)="(.{10})', html) == ["data:image"]

    lines = (tmp_path / "page.md").read_text(encoding="utf-8").splitlines()
    row = next(line for line in lines if "script" in line)
    assert (
        row == r"| \<script\>alert(1)\</script\> \| \[x\](http://example.com) \`\&amp;\` \*b\* \# no heading | \<b\> |"
    )
    assert lines[0] == "# A title" and "## Errors" in lines
