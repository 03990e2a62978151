"""conf/data/NAME.yaml: where texts and labels come from."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from tunediff.core.settings import Column, Count, Scalar, Section, number

SPLITS = ("train", "validation", "test")
Split = Literal["train", "validation", "test"]
# A string here is the name of a split, even if it looks like a number: pydantic prefers the type that fits as it is.
Share = Annotated[float, BeforeValidator(number), Field(gt=0, lt=1)] | str


SEPARATORS = {"comma": ",", "tab": "\t", "semicolon": ";", "pipe": "|", "space": " "}


def _separator(value: str) -> str:
    value = SEPARATORS.get(value, value)
    if len(value) != 1 or value in "\"'\r\n\0" or "\ud800" <= value <= "\udfff":
        raise ValueError(f"expected one character, or one of {', '.join(SEPARATORS)}")
    return value


class FileKeys(Section):
    """How files are written. What is left out is decided by reading them, and data/profile.json says how."""

    encoding: str | None = Field(
        None, description="Of text files; UTF-8 if left out, or UTF-16 in a file that begins with its mark."
    )
    separator: Annotated[str, AfterValidator(_separator)] | None = Field(
        None, description="Of separated values: a character, or its name: comma, tab, semicolon, pipe, space."
    )
    quoting: Literal["double", "single", "none"] | None = Field(
        None, description="Quotes around separated values, or `none`: a quote is then a character as any other."
    )
    columns: Annotated[list[Scalar], Field(min_length=1)] | None = Field(
        None, description="Names of the columns, in their order, of files whose first row is not column names."
    )
    sheet: str | None = Field(None, description="Sheet of a workbook; its only one with values if left out.")
    field: str | None = Field(
        None, description="Key of a json file that the rows are under; its only list of objects if left out."
    )

    @field_validator("columns")
    @classmethod
    def _columns_differ(cls, columns: list[Scalar] | None) -> list[str] | None:
        names = [str(name) for name in columns or []]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"'{twice}' is there twice; each column needs a name of its own")
        return names or None


class Merge(Section):
    merge: str
    """Name of the label that rare labels become."""


Files = Annotated[list[str], Field(min_length=1)]
"""Files whose rows are read one after the other."""


class DataConf(FileKeys):
    """The keys that every task's data file has; `tasks.TASKS` has those that a task adds."""

    task: str = "classification"
    """What the texts are labelled with: a name in `tasks.TASKS`."""
    source: str | Files | dict[str, str | Files]
    """A file or saved data set under data/raw/, one per split, or a Hub data set id; several files are one."""
    revision: str = "main"
    """Commit, tag or branch of a Hub data set."""
    config: str | None = None
    """Which of a Hub data set's configurations, such as a pair of languages."""
    text: Column | Annotated[list[Column], Field(min_length=1)]
    """Column, or columns joined by a blank line."""
    splits: dict[Split, Share] = {"train": 0.7, "validation": 0.15, "test": 0.15}
    """For each of train, validation, test: the name of a split of the source, or a share of the rows."""
    rows: Count | dict[Split, Count] | None = None
    """Keep a stratified sample of this many rows: of all, or of each split."""
    clean: list[Literal["lowercase", "strip_special"]] = []
    prompt: Annotated[str, Field(min_length=1)] | None = None
    """What a language model is told to do; made from the labels' names if left out."""
    group: Column | None = None
    """Column whose equal values stay on one side of a split; empty values are rows of their own."""
    rare: Literal["drop", "keep"] | Merge = "drop"
    """Labels with too few rows to be in each split: drop them, keep them in train, or merge them into one."""
    overlap: Literal["keep", "drop_from_train", "drop_from_test"] = "keep"
    """Texts and groups of the source's own test or validation split that train has too."""

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

    @property
    def complete_splits(self) -> list[Split]:
        """Those in which every label must be: those that are cut, unless rare labels are kept in train."""
        return [] if self.rare == "keep" else list(self.cut_splits)
