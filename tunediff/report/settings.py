"""What the stage `report` resolved to."""

from tunediff.core.settings import Section, Seed
from tunediff.evidence.settings import Report
from tunediff.tasks.settings import Rule


class Reporting(Section):
    """Which results are set side by side, and how they are compared."""

    data: str
    model: str
    """Names of the files in conf/data/ and conf/model/."""
    task: str
    seed: Seed
    """Seed of the resampling."""
    trained: list[str]
    """Methods that were trained and evaluated."""
    more: list[str] | None = None
    """Baselines of `baseline.more`."""
    prompted: dict[str, str]
    """The language model of each method that asked one."""
    folds: int | None = None
    """How many folds make every row a test row, if they were asked for."""
    foldable: bool = False
    """Whether they could be."""
    adapters: dict[str, str]
    """Those of them that are adapters, in a few words: type, size, place."""
    costs: dict[str, dict[str, float]] = {}
    """By label: what each wrong answer costs; 1 if it is not named, and everything if there are none."""
    rules: dict[str, Rule] | None = None
    """What written texts should be like."""
    shares: list[float]
    """Shares of the training rows that `training_rows` trained on."""
    growing: list[str]
    """The methods that it trained."""
    per_label: list[int] | None = None
    """Numbers of training rows for each label that `few_labels` drew, if any."""
    setfit_texts: int | None = None
    """Texts from which on more of them give SetFit no more pairs, if it is among what `few_labels` trained."""
    max_length: int
    """Longer texts were cut to this many tokens."""
    report: Report
