"""Every setting, typed and frozen: `params.yaml`, `conf/data/NAME.yaml` and `conf/model/NAME.yaml`.

`load` reads the three files, checks every key before any work starts, and reports all that is wrong at once. Numbers
are coerced, because `dvc exp run -S x=1e-5` writes `1e-05`, which YAML 1.1 reads as a string.
"""

import re
import reprlib
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from stages.common.errors import UserError, reason

SPLITS = ("train", "validation", "test")
BASELINES = ("majority", "tfidf", "probe", "baseline")
UNTRAINED = ("majority", "baseline")


def number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("expected a number, found a yes/no value")
    if isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    return value


Count = Annotated[int, BeforeValidator(number), Field(ge=1)]
Positive = Annotated[float, BeforeValidator(number), Field(gt=0, allow_inf_nan=False)]
Seed = Annotated[int, BeforeValidator(number), Field(ge=0, lt=2**32)]
Fraction = Annotated[float, BeforeValidator(number), Field(ge=0, lt=1)]
Split = Literal["train", "validation", "test"]
# A string here is the name of a split, even if it looks like a number: pydantic prefers the type that fits as it is.
Share = Annotated[float, BeforeValidator(number), Field(gt=0, lt=1)] | str
Scalar = str | bool | int | float


def _folder_name(name: str) -> str:
    if not re.fullmatch("[a-z0-9]+([-_][a-z0-9]+)*", name):
        raise ValueError(
            f"'{name}' is no name for a method: expected small letters and digits, with single hyphens or underscores "
            "between"
        )
    return name


MethodName = Annotated[str, AfterValidator(_folder_name)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


T = TypeVar("T", bound=Section)


# --- params.yaml: one section per stage


class Baseline(Section):
    ngrams: Count
    """TF-IDF counts runs of 1 to this many words."""
    tfidf_C: Positive
    """Inverse regularisation of logistic regression on TF-IDF."""
    probe_C: Positive
    """Inverse regularisation of logistic regression on frozen embeddings."""


class Train(Section):
    """What every trained method shares, so that only the trained parameters differ."""

    epochs: Count
    batch_size: Count
    """Texts per optimizer step, over all processes of the launcher."""
    accumulation: Count
    """Parts in which a process computes its share of a step, one after the other, where memory is short."""
    weight_decay: Fraction
    warmup: Fraction
    """Share of all steps in which the learning rate rises; afterwards it falls linearly to 0."""
    patience: Annotated[int, BeforeValidator(number), Field(ge=0)]
    """Stop after this many epochs without a better validation figure; 0 never stops early."""
    select_by: Literal["loss", "accuracy", "f1"]
    """Validation figure that chooses the best epoch."""
    class_weights: Literal["none", "balanced"]
    """`balanced`: a text counts in the loss by the inverse frequency of its label, for labels that are rare."""


class Lora(Section):
    """One variant of LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685)."""

    rank: Count
    alpha: Positive
    """The update is scaled by alpha / rank."""
    dropout: Fraction
    targets: str
    """A name under `targets` in conf/model/NAME.yaml: which layers get an adapter."""


class PeftMethod(Section):
    """A method of PEFT, or one of `adapters.OWN`: what is not named here is a field of that method's config class."""

    model_config = ConfigDict(extra="allow")

    peft_type: str
    learning_rate: Positive
    """Peak learning rate."""
    optimizer: Literal["adamw", "loraplus", "lorafa"] = "adamw"
    """LoRA+ (https://arxiv.org/abs/2402.12354) and LoRA-FA (https://arxiv.org/abs/2308.03303) are ways to step."""
    loraplus_lr_ratio: Positive = 16
    """LoRA+: learning rate of the B matrices by that of the others."""


class TrainPeft(Section):
    methods: list[str]
    """Which of the entries are trained."""
    entries: dict[MethodName, PeftMethod]

    @model_validator(mode="after")
    def _methods_are_entries(self) -> "TrainPeft":
        if unknown := [name for name in self.methods if name not in self.entries]:
            raise ValueError(
                f"train_peft.methods: no entry for {', '.join(unknown)}; there are: {', '.join(self.entries)}"
            )
        if twice := [name for name in self.entries if self.methods.count(name) > 1]:
            raise ValueError(f"train_peft.methods: {twice[0]} is there twice")
        return self


class TrainingRows(Section):
    """Whether more labels would help: the same methods with fewer of them."""

    shares: list[Annotated[float, BeforeValidator(number), Field(gt=0, lt=1)]]
    """Of the training rows; all of them is what the methods' own stages train on."""
    methods: list[str] = Field(min_length=1)
    """`tfidf`, and any that is trained."""


class Export(Section):
    methods: list[str]
    """Which trained methods are exported to ONNX."""


class Evaluate(Section):
    methods: list[str] = Field(min_length=1)
    """`full`, and `lora-NAME` for each NAME under `train_lora`; what `train_peft` trains is evaluated without it."""
    batch_size: Count
    """Texts per forward pass wherever nothing is trained."""


class Report(Section):
    figure: Literal["accuracy", "f1"]
    """Test figure by which the recommendation compares methods."""
    margin: Fraction
    """How much less of it than the best method has is good enough, if it comes cheaper."""
    confidence: Annotated[float, BeforeValidator(number), Field(gt=0.5, lt=1)]
    """Of all intervals, and so of what the report says is so."""


class Params(Section):
    data: str
    """conf/data/NAME.yaml"""
    model: str
    """conf/model/NAME.yaml"""
    seed: Seed
    """Of splits, subsets and resampling."""
    seeds: list[Seed] = Field(min_length=1)
    """Every method is trained once with each; models/METHOD is the first one's."""
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    """Number format of matrix products; `auto` is the fastest one that the machine computes in hardware."""
    launcher: str
    """What dvc.yaml starts the training stages by: `python`, `torchrun ...` or `accelerate launch ...`."""
    baseline: Baseline
    train: Train
    train_lora: dict[MethodName, Lora]
    train_peft: TrainPeft
    training_rows: TrainingRows
    export: Export
    evaluate: Evaluate
    report: Report

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        if twice := [seed for seed in seeds if seeds.count(seed) > 1]:
            raise ValueError(f"{twice[0]} is there twice; the second training would be the first one again")
        return seeds

    @staticmethod
    def _without_entry(info: ValidationInfo) -> list[str]:
        """Methods that are trained whether or not `train_peft` names any."""
        return ["full", *(f"lora-{name}" for name in info.data.get("train_lora", {}))]

    @field_validator("train_peft")
    @classmethod
    def _no_two_methods_of_one_name(cls, train_peft: TrainPeft, info: ValidationInfo) -> TrainPeft:
        others = (*BASELINES, *cls._without_entry(info))
        if twice := [name for name in train_peft.entries if name in others]:
            raise ValueError(f"train_peft.entries: '{twice[0]}' is the name of another method; choose another")
        return train_peft

    @field_validator("training_rows", "export")
    @classmethod
    def _methods_are_trained(cls, section: TrainingRows | Export, info: ValidationInfo) -> TrainingRows | Export:
        if {"train_lora", "train_peft"} <= set(info.data):  # else wrong themselves, which is reported
            there = [*cls._without_entry(info), *info.data["train_peft"].methods]
            if info.field_name == "training_rows":
                there.insert(0, "tfidf")
            if unknown := [method for method in section.methods if method not in there]:
                raise ValueError(
                    f"{info.field_name}.methods: nothing trains {', '.join(unknown)}; trained are {', '.join(there)}"
                )
        return section

    @field_validator("evaluate")
    @classmethod
    def _methods_are_those_trained(cls, evaluate: Evaluate, info: ValidationInfo) -> Evaluate:
        if "train_lora" not in info.data:  # itself wrong, which is reported
            return evaluate
        trained = cls._without_entry(info)
        problems = []
        if unknown := [method for method in evaluate.methods if method not in trained]:
            problems.append(f"nothing trains {', '.join(unknown)}; trained are {', '.join(trained)}")
        if missing := [method for method in trained if method not in evaluate.methods]:
            problems.append(f"{', '.join(missing)} would be trained but not evaluated; add it to the list")
        if problems:
            raise ValueError("evaluate.methods: " + "; ".join(problems))
        return evaluate


# --- conf/data/NAME.yaml


class DataConf(Section):
    """Where texts and labels come from."""

    source: str | dict[str, str]
    """A file under data/raw/ (csv, tsv, json, jsonl, parquet), one file per split, or a Hub data set id."""
    revision: str = "main"
    """Commit, tag or branch of a Hub data set."""
    encoding: str = "utf-8"
    text: str | Annotated[list[str], Field(min_length=1)]
    """Column, or columns joined by a blank line."""
    label: str
    labels: list[Scalar] | dict[Scalar, str] | None = None
    """Order of the labels, or {value in the source: name}; sorted if left out."""
    splits: dict[Split, Share] = {"train": 0.7, "validation": 0.15, "test": 0.15}
    """For each of train, validation, test: the name of a split of the source, or a share of the rows."""
    rows: Count | dict[Split, Count] | None = None
    """Keep a stratified sample of this many rows: of all, or of each split."""
    clean: list[Literal["lowercase", "strip_special"]] = []
    group: str | None = None
    """Column whose equal values stay on one side of a split; empty values are rows of their own."""

    @field_validator("splits")
    @classmethod
    def _splits_make_sense(cls, splits: dict[Split, Share]) -> dict[Split, Share]:
        if set(splits) != set(SPLITS):
            raise ValueError(f"expected the keys train, validation and test, found {', '.join(splits) or 'none'}")
        shares = [share for share in splits.values() if isinstance(share, float)]
        if len(shares) == 3 and abs(sum(shares) - 1) > 1e-6:
            raise ValueError(f"the shares add up to {sum(shares):g}, expected 1")
        if isinstance(splits["train"], float) and len(shares) < 3:
            raise ValueError("where one is the name of a split of the source, `train` must be one too")
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


# --- conf/model/NAME.yaml


class ModelConf(Section):
    """Which pretrained model, pinned, and what depends on it."""

    name: str
    """Hub id, a local folder, or package:MODULE/FOLDER for one that comes inside an installed Python package."""
    revision: str = "main"
    """Commit, tag or branch of a Hub model."""
    sha256: str | None = None
    """Of model.safetensors; checked at every load."""
    max_length: Count = 256
    """Longer texts are cut to this many tokens."""
    learning_rate: dict[str, Positive] = {"full": 3e-5, "lora": 3e-4}
    """Peak learning rate per method (`full`, `lora-v1`); `lora` serves the variants that have no line of their own."""
    head: list[str] = []
    """Modules of the pretrained model that every adapter trains whole, as it does the new classification head."""
    targets: dict[str, str | list[str]] = {}
    """Named sets of layers for adapters: module names, or `all-linear`. `adapters.layers` knows common ones."""

    def learning_rate_of(self, method: str, path: Path) -> float:
        family = method.partition("-")[0]
        keys = list(dict.fromkeys((method, family)))
        for key in keys:
            if key in self.learning_rate:
                return self.learning_rate[key]
        lines = " or ".join(f"`{key}: ...`" for key in keys)
        raise UserError(f"{path}: learning_rate: no value for '{method}'; add a line {lines}")


class Settings(Section):
    """All three files, checked."""

    params: Params
    data: DataConf
    model: ModelConf
    data_path: Path
    model_path: Path


def load(root: Path = Path()) -> Settings:
    """Read params.yaml in `root` and the two files that it names. Raises UserError naming file and key."""
    params = read(root / "params.yaml", Params)
    paths, problems = {}, []
    for kind in ("data", "model"):
        name = getattr(params, kind)
        paths[kind] = root / "conf" / kind / f"{name}.yaml"
        if not paths[kind].is_file() or Path(name).name != name:
            present = ", ".join(sorted(path.stem for path in (root / "conf" / kind).glob("*.yaml")))
            problems.append(f"{kind}: there is no conf/{kind}/{name}.yaml; present are: {present}")
    if problems:
        raise _mistakes(root / "params.yaml", problems)
    return Settings(
        params=params,
        data=read(paths["data"], DataConf),
        model=read(paths["model"], ModelConf),
        data_path=paths["data"],
        model_path=paths["model"],
    )


def read(path: Path, section: type[T]) -> T:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the project's top folder") from None
    # Of a date, a number or a tag that is none, and of very deep nesting, PyYAML says what Python says.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML: {reason(error)}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected `key: value` lines, found {type(values).__name__}")
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise _mistakes(path, _explain(error, values)) from None


def _mistakes(path: Path, lines: list[str]) -> UserError:
    return UserError(*(f"{path}: {line}" for line in lines))


def _explain(error: ValidationError, values: dict) -> list[str]:
    """A line per key. A value that fits none of several types has a message for each of them."""
    messages: dict[str, list[str]] = {}
    for problem in error.errors():
        match problem["type"]:
            case "extra_forbidden":
                message = "unknown key; check its spelling against the README"
            case "missing":
                message = "missing key"
            case "value_error":
                message = str(problem["ctx"]["error"])
            case _:
                message = f"{problem['msg']}, found {reprlib.repr(problem['input'])}"
        messages.setdefault(_key(problem, values), []).append(message)
    return [
        # Some messages name a key further down themselves.
        "; or: ".join(found) if found[0].startswith(f"{key}.") else f"{key}: {'; or: '.join(found)}"
        for key, found in messages.items()
        # What is wrong with an entry says more than that the whole could have been of another type.
        if not any(other.startswith(f"{key}.") for other in messages)
    ]


def _key(problem: ErrorDetails, values: object) -> str:
    """The place in the file. Pydantic's own also has the names of the types that it tried; those are no keys there."""
    parts = []
    for part in problem["loc"]:
        entries = values if isinstance(values, dict) else dict(enumerate(values)) if isinstance(values, list) else {}
        for name, value in entries.items():
            if str(name) == str(part):
                parts.append(str(part))
                values = value
    if problem["type"] == "missing":
        parts.append(str(problem["loc"][-1]))
    return ".".join(parts)
