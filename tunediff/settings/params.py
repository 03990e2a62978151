"""params.yaml: its sections, each of which is a class of the room that it belongs to, checked against each other."""

from itertools import chain
from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from tunediff.baselines.settings import Baseline
from tunediff.core.errors import suggestion
from tunediff.core.methods import BASELINES, MORE_BASELINES, TARGETS
from tunediff.core.settings import MethodName, Precision, Section, Seed, number
from tunediff.evidence.settings import Evaluate, Report
from tunediff.prompting.settings import Prompts
from tunediff.tasks.settings import Generate
from tunediff.training.settings import Lora, Train, TrainingRows, TrainPeft
from tunediff.use.settings import Export

AS_IT_IS = {
    "tfidf": "tfidf is no network that ONNX Runtime would make faster, and runs without PyTorch: use models/tfidf",
    "probe": "probe is not exported to ONNX: use models/probe, or train and export linear-probe, which is a probe too "
    "(train_peft.methods)",
    "setfit": "setfit is not exported to ONNX: use models/setfit",
}
"""Methods that have a folder in models/ and are not exported, and why."""


class Params(Section):
    data: str
    """conf/data/NAME.yaml"""
    model: str
    """conf/model/NAME.yaml"""
    seed: Seed
    """Seed of splits, subsets and resampling."""
    seeds: list[Seed] = Field(min_length=1)
    """Every method is trained once with each; models/METHOD is the first one's."""
    folds: list[Annotated[int, BeforeValidator(number), Field(ge=2)]] = Field(default=[], max_length=1)
    """How many folds make every row a test row; a list, because DVC makes a stage for each entry of one."""
    precision: Precision
    launcher: str
    """What dvc.yaml starts the training stages by: `python`, `torchrun ...` or `accelerate launch ...`. It is code."""
    baseline: Baseline
    train: Train
    train_lora: dict[MethodName, Lora]
    train_peft: TrainPeft
    prompts: Prompts
    training_rows: TrainingRows
    export: Export
    generate: Generate = Generate()
    evaluate: Evaluate
    report: Report

    @property
    def trained(self) -> list[str]:
        """Methods that are trained and evaluated."""
        return [*self.evaluate.methods, *self.train_peft.methods]

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

    @field_validator("train_peft", "prompts")
    @classmethod
    def _no_two_methods_of_one_name(cls, section: TrainPeft | Prompts, info: ValidationInfo) -> TrainPeft | Prompts:
        others = [*BASELINES, *chain(*MORE_BASELINES.values()), *cls._without_entry(info), TARGETS]
        if info.field_name == "prompts" and "train_peft" in info.data:
            others += info.data["train_peft"].entries
        if twice := [name for name in section.entries if name in others]:
            raise ValueError(f"{info.field_name}.entries: '{twice[0]}' is the name of another method; choose another")
        return section

    @field_validator("training_rows", "export")
    @classmethod
    def _methods_are_trained(cls, section: TrainingRows | Export, info: ValidationInfo) -> TrainingRows | Export:
        if {"train_lora", "train_peft"} <= set(info.data):  # else wrong themselves, which is reported
            if info.field_name == "export" and (
                why := [AS_IT_IS[name] for name in section.methods if name in AS_IT_IS]
            ):
                raise ValueError(f"export.methods: {why[0]}")
            trained = [*cls._without_entry(info), *info.data["train_peft"].methods]
            if info.field_name == "training_rows":
                trained = ["tfidf", *trained, "probe", "setfit"]
            if problem := _nothing_trains(section.methods, trained):
                raise ValueError(f"{info.field_name}.methods: {problem}")
        return section

    @field_validator("evaluate")
    @classmethod
    def _methods_are_those_trained(cls, evaluate: Evaluate, info: ValidationInfo) -> Evaluate:
        if "train_lora" not in info.data:  # itself wrong, which is reported
            return evaluate
        trained = cls._without_entry(info)
        problems = [problem] if (problem := _nothing_trains(evaluate.methods, trained)) else []
        # Whether `full` may be missing depends on the model.
        if missing := [method for method in trained if method not in (*evaluate.methods, "full")]:
            problems.append(f"{', '.join(missing)} would be trained but not evaluated; add it to the list")
        if problems:
            raise ValueError("evaluate.methods: " + "; ".join(problems))
        return evaluate


def _nothing_trains(methods: list[str], trained: list[str]) -> str:
    """What is wrong with a list of methods of which some are not trained; empty if nothing is."""
    if unknown := [method for method in methods if method not in trained]:
        return f"nothing trains {', '.join(unknown)}; trained are {', '.join(trained)}{suggestion(unknown[0], trained)}"
    return ""
