"""conf/data/NAME.yaml: where texts and labels come from."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from tunediff.core.settings import Count, Scalar, Section, number

SPLITS = ("train", "validation", "test")
Split = Literal["train", "validation", "test"]
# A string here is the name of a split, even if it looks like a number: pydantic prefers the type that fits as it is.
Share = Annotated[float, BeforeValidator(number), Field(gt=0, lt=1)] | str
Cost = Annotated[float, BeforeValidator(number), Field(ge=0, allow_inf_nan=False)]


class DataConf(Section):
    """The keys that every task's data file has; `tasks.TASKS` has those that a task adds."""

    task: str = "classification"
    """What the texts are labelled with: a name in `tasks.TASKS`."""
    source: str | dict[str, str]
    """A file under data/raw/ (csv, tsv, json, jsonl, parquet), one file per split, or a Hub data set id."""
    revision: str = "main"
    """Commit, tag or branch of a Hub data set."""
    encoding: str = "utf-8"
    text: str | Annotated[list[str], Field(min_length=1)]
    """Column, or columns joined by a blank line."""
    splits: dict[Split, Share] = {"train": 0.7, "validation": 0.15, "test": 0.15}
    """For each of train, validation, test: the name of a split of the source, or a share of the rows."""
    rows: Count | dict[Split, Count] | None = None
    """Keep a stratified sample of this many rows: of all, or of each split."""
    clean: list[Literal["lowercase", "strip_special"]] = []
    group: str | None = None
    """Column whose equal values stay on one side of a split; empty values are rows of their own."""
    costs: dict[Scalar, dict[Scalar, Cost]] = {}
    """{label: {wrong answer: its cost}}, for the report of a classification; an error that is not named costs 1."""

    @field_validator("costs")
    @classmethod
    def _labels_are_text(cls, costs: dict[Scalar, dict[Scalar, float]]) -> dict[str, dict[str, float]]:
        """As every value of a source is. A right answer has no cost."""
        if wrong := [label for label, answers in costs.items() if answers.get(label)]:
            raise ValueError(f"{wrong[0]}.{wrong[0]}: a right answer costs nothing; leave it out")
        return {str(label): {str(answer): cost for answer, cost in each.items()} for label, each in costs.items()}

    @field_validator("splits")
    @classmethod
    def _splits_make_sense(cls, splits: dict[Split, Share]) -> dict[Split, Share]:
        if set(splits) != set(SPLITS):
            raise ValueError(f"expected the keys train, validation and test, found {', '.join(splits) or 'none'}")
        shares = [share for share in splits.values() if isinstance(share, float)]
        if len(shares) == 3 and abs(sum(shares) - 1) > 1e-6:
            raise ValueError(f"the shares add up to {sum(shares):g}, expected 1")
        if isinstance(splits["train"], float) and len(shares) < 3:
            raise ValueError("if one is the name of a split of the source, `train` must be one too")
        if sum(shares) >= 1 and len(shares) < 3:
            raise ValueError("the shares leave nothing for `train`")
        return splits

    @property
    def named_splits(self) -> dict[Split, str]:
        """Those that are splits of the source, by its names for them."""
        return {side: name for side, name in self.splits.items() if isinstance(name, str)}

    @property
    def cut_splits(self) -> dict[Split, float]:
        """Those that are cut from the rows, by their shares."""
        return {side: share for side, share in self.splits.items() if isinstance(share, float)}
