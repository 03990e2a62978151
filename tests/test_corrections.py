"""Labels that people have read again: applied, counted, and refused with the row."""

from collections.abc import Callable

import pandas as pd
import pytest
from conftest import Project

from tunediff.core.csv_cells import harmless
from tunediff.core.errors import UserError

Correct = Callable[..., pd.DataFrame]


@pytest.fixture
def correct(project: Project, run_prepare: Callable[..., pd.DataFrame]) -> Correct:
    """Prepare with corrections of these rows; return the prepared rows."""

    def correct(rows: list[dict[str, object]]) -> pd.DataFrame:
        pd.DataFrame(rows).to_csv(project.folder / "data/raw/corrections.csv", index=False)
        return run_prepare(corrections="corrections.csv")

    return correct


def test_corrected_labels_are_those_of_the_file_and_the_profile_keeps_who_said_what(
    project: Project, run_prepare: Callable[..., pd.DataFrame], correct: Correct
):
    before = run_prepare().set_index("row")
    assert "corrections" not in project.profile()
    assert "corrections" not in project.read_json("data/settings/prepare.json")["data"]
    one, other = before.index[0], before.index[1]
    wrong = next(name for name in before.name.unique() if name != before.name[one])
    rows = [
        {"row": one, "text": before.text[one], "label": wrong, "by": "ann"},
        {"row": one, "text": before.text[one], "label": wrong, "by": "bob"},
        {"row": other, "text": before.text[other], "label": before.name[other], "by": "ann"},
        {"row": before.index[2], "text": "", "label": "", "by": "bob"},  # not read yet
    ]
    after = correct(rows).set_index("row")
    assert after.name[one] == wrong and after.name[other] == before.name[other]
    rest = before.index.difference([one])
    assert (after.name[rest] == before.name[rest]).all()
    told = project.profile()["corrections"]
    change = {"split": "all", "row": one, "before": before.name[one], "after": wrong, "by": ["ann", "bob"]}
    assert told == {
        "file": "corrections.csv",
        "read_again": 2,
        "by": {"ann": 2, "bob": 1},
        "changed": 1,
        "equal_rows": 0,
        "changes": [change],
    }


def test_a_correction_is_for_equal_rows_too_of_which_the_list_shows_the_first(project: Project, correct: Correct):
    source = project.folder / "data/raw/tiny.csv"
    table = pd.read_csv(source)
    old, new = table.label.unique()
    table.loc[[4, 30, 60], ["text", "label"]] = ["shares fell twice", old]
    table.to_csv(source, index=False)
    after = correct([{"row": 5, "label": new}]).set_index("row")
    assert after[after.text == "shares fell twice"].name.to_dict() == {5: new}
    assert project.profile()["corrections"]["equal_rows"] == 2
    # A row that was read itself keeps what its readers said; of the third nobody knows which of the two it is.
    after = correct([{"row": 5, "label": new}, {"row": 31, "label": old}]).set_index("row")
    assert after[after.text == "shares fell twice"].name.to_dict() == {5: new, 31: old}
    assert project.profile()["corrections"]["equal_rows"] == 0


@pytest.mark.parametrize("own", ["\nshares fell", "\tshares fell", "=shares fell", "shares fell"])
def test_a_text_is_known_as_the_list_has_it_and_a_blank_one_says_nothing(project: Project, correct: Correct, own: str):
    source = project.folder / "data/raw/tiny.csv"
    table = pd.read_csv(source)
    table.loc[4, "text"] = own
    table.to_csv(source, index=False)
    for text in (harmless(own), own, "", " "):
        correct([{"row": 5, "text": text, "label": table.label[4]}])
        assert project.profile()["corrections"]["read_again"] == 1


def test_the_list_of_likely_wrong_labels_is_a_file_of_corrections(project: Project, correct: Correct):
    """As `label_noise` writes it, with other columns: nothing changes until a label is."""
    rows = [{"rank": 1, "suspected": True, "split": "all", "row": 5, "label": "LABEL", "suggested": "x"}]
    names = correct([{"row": 5, "label": ""}]).set_index("row").name
    correct([row | {"label": names[5]} for row in rows])
    assert (project.profile()["corrections"]["read_again"], project.profile()["corrections"]["changed"]) == (1, 0)


def test_the_label_that_rare_ones_become_is_no_change_for_them_and_a_label_for_others(
    project: Project, run_prepare: Callable[..., pd.DataFrame], correct: Correct
):
    source = project.folder / "data/raw/tiny.csv"
    table = pd.read_csv(source)
    table.loc[[1, 2, 3, 4], "label"] = ["fund", "fund", "bond", "bond"]
    table.to_csv(source, index=False)
    before = run_prepare(rare={"merge": "other"}).set_index("row")
    assert before.name[[2, 3, 4, 5]].tolist() == ["other"] * 4
    after = correct([{"row": 2, "label": "other", "by": "ann"}, {"row": 2, "label": "fund", "by": "bob"}])
    assert after.set_index("row").name.equals(before.name)
    assert project.profile()["corrections"]["changed"] == 0
    after = correct([{"row": row, "label": "other"} for row in (2, 7)]).set_index("row")
    assert (after.name == "other").sum() == 5 and after.name[7] == "other"
    assert project.profile()["corrections"]["changed"] == 1
    # All rare rows have another label now, so that `other` has those alone that people gave it.
    rows = [{"row": row, "label": "bullish"} for row in (2, 3, 4, 5)]
    after = correct([*rows, *({"row": row, "label": "other"} for row in range(11, 31))]).set_index("row")
    assert (after.name == "other").sum() == 20
    with pytest.raises(UserError, match="there is no label 'othr'; did you mean other"):
        correct([{"row": 2, "label": "othr"}])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"row": 9999, "label": "bullish"}], "row 1: there is no row '9999' of 'all', or it was dropped"),
        ([{"row": "x", "label": "bullish"}], "row 1: there is no row 'x' of 'all'"),
        ([{"row": 5, "label": "bulish"}], "row 1: there is no label 'bulish'; did you mean bullish"),
        ([{"row": 5, "label": "bullish", "text": "another"}], "row 1: row 5 has another text now"),
        ([{"row": 5, "text": "t"}], "no column 'label'; it has: row, text; expected row and label"),
        (
            [{"row": 5, "label": "bullish", "by": "ann"}, {"row": 5, "label": "bearish", "by": "bob"}],
            "row 5 is given several labels .ann: bullish, bob: bearish.; agree on one",
        ),
    ],
)
def test_a_correction_that_cannot_be_is_named(correct: Correct, rows: list[dict], message: str):
    with pytest.raises(UserError, match=f"data/raw/corrections.csv: {message}"):
        correct(rows)


def test_a_file_that_is_not_there_is_named_by_its_key(run_prepare: Callable[..., pd.DataFrame]):
    with pytest.raises(UserError, match=r"corrections: there is no file data/raw/none.csv"):
        run_prepare(corrections="none.csv")
