"""All settings together: `params.yaml`, `conf/data/NAME.yaml` and `conf/model/NAME.yaml`, checked as one."""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from tunediff.baselines.settings import BASELINES, Baseline
from tunediff.core.settings import MethodName, Section, Seed, mistakes, read
from tunediff.evidence.settings import Evaluate, Report
from tunediff.models.settings import ModelConf
from tunediff.sources.settings import DataConf
from tunediff.training.settings import Lora, Train, TrainingRows, TrainPeft
from tunediff.use.settings import Export


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
        raise mistakes(root / "params.yaml", problems)
    return Settings(
        params=params,
        data=read(paths["data"], DataConf),
        model=read(paths["model"], ModelConf),
        data_path=paths["data"],
        model_path=paths["model"],
    )
