"""What each stage's settings resolve to: one JSON file for each stage and each trained method.

A stage depends on its own file alone, so a value that one method uses trains that method alone.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tunediff.baselines.settings import WithoutFineTuning
from tunediff.core.settings import Section
from tunediff.evidence.few_labels import FewLabels
from tunediff.evidence.fold_training import FoldTraining
from tunediff.evidence.growth import Growth
from tunediff.evidence.settings import Evaluation
from tunediff.models.pretrained import weights_hash
from tunediff.models.settings import Adapted, ModelConf, Pretrained
from tunediff.prompting.forms import FORMS, Writing
from tunediff.prompting.settings import Prompting
from tunediff.report.settings import Reporting
from tunediff.settings.params import Params
from tunediff.settings.study import Study, foldable
from tunediff.tasks.settings import Generate
from tunediff.training.settings import Training
from tunediff.use.settings import Exporting


def resolve(study: Study) -> dict[str, dict[str, Any]]:
    """The content of each file, by its path in the folder of resolved settings."""
    study = pinned(study)
    params = study.params
    trainings = {method: training(study, method) for method in params.trained}
    rows, more = params.training_rows, params.baseline.more
    growing = growth(study, trainings)
    resolved: dict[str, Section] = {
        "baseline": without_fine_tuning(study, params.seeds[0]),
        **({"baseline_more": without_fine_tuning(study, params.seeds[0], more)} if more else {}),
        "label_noise": without_fine_tuning(study, params.seed),
        **{f"training/{method}": each.model_copy(update=written(study)) for method, each in trainings.items()},
        **{f"prompt/{method}": prompting(study, method) for method in params.prompts.methods},
        "training_rows": growing,
        **({"few_labels": FewLabels(growth=growing, draws=rows.draws, steps=rows.steps)} if rows.per_label else {}),
        "evaluate": evaluation(study),
        **{
            f"folds/{method}": FoldTraining(training=each, evaluation=evaluation(study))
            for method, each in trainings.items()
            if params.folds
        },
        "export": Exporting(seed=params.seed, confidence=params.report.confidence),
        "report": Reporting(
            data=params.data,
            model=params.model,
            task=study.data.task,
            seed=params.seed,
            trained=params.trained,
            more=more or None,
            prompted={method: asked(study, method) for method in params.prompts.methods},
            folds=next(iter(params.folds), None),
            foldable=foldable(study.data),
            adapters=adapters(params),
            costs=getattr(study.data, "costs", {}),  # a key that not every task has, as the next one
            rules=getattr(study.data, "rules", None) or None,
            shares=sorted(rows.shares),
            growing=rows.methods,
            per_label=sorted(rows.per_label) or None,
            setfit_texts=params.baseline.setfit.texts if rows.per_label and "setfit" in rows.methods else None,
            max_length=study.model.max_length,
            report=params.report,
        ),
    }
    files = {path: section.model_dump(mode="json", exclude_none=True) for path, section in resolved.items()}
    return {"prepare": preparation(study), **folding(study), **files}


def pinned(study: Study) -> Study:
    """The study with the hash of each model's weights on this machine: weights that change train again."""

    def with_hash(model: ModelConf, path: Path) -> ModelConf:
        return model if model.sha256 else model.model_copy(update={"sha256": weights_hash(model, path)})

    asked = {method: (with_hash(model, path), path) for method, (model, path) in study.language_models.items()}
    update = {"model": with_hash(study.model, study.model_path), "language_models": asked}
    return study.model_copy(update=update)


def growth(study: Study, trainings: dict[str, Training]) -> Growth:
    params, methods = study.params, study.params.training_rows.methods
    return Growth(
        task=study.data.task,
        seed=params.seed,
        methods=methods,
        class_weights=params.train.class_weights,
        baseline=params.baseline,
        probe=without_fine_tuning(study, params.seeds[0], methods) if {"probe", "setfit"} & set(methods) else None,
        trainings={method: trainings[method] for method in methods if method in trainings},
    )


def preparation(study: Study) -> dict[str, Any]:
    """What `prepare` reads: three rooms that know nothing of each other have a part in it."""
    # Without what other stages alone read, and without what is not there.
    left_out = {"costs", "prompt", "rules", *(() if getattr(study.data, "corrections", None) else ("corrections",))}
    return {
        "name": study.params.data,
        "seed": study.params.seed,
        "data": study.data.model_dump(mode="json", exclude=left_out),
        "data_path": study.data_path.as_posix(),
        "model": _only(study.model, Pretrained),
        "model_path": study.model_path.as_posix(),
        **({"max_new_tokens": study.params.generate.max_new_tokens} if study.task.writes else {}),
    }


def folding(study: Study) -> dict[str, dict[str, Any]]:
    """What `folds` reads, by the file's name; nothing if there are none."""
    if not study.params.folds:
        return {}
    return {"folds": {"number": study.params.folds[0], "seed": study.params.seed, "task": study.data.task}}


def evaluation(study: Study) -> Evaluation:
    return Evaluation(
        task=study.data.task,
        seeds=study.params.seeds,
        precision=study.params.precision,
        batch_size=study.params.evaluate.batch_size,
        generate=generate(study),
    )


def without_fine_tuning(study: Study, seed: int, methods: Iterable[str] = ()) -> WithoutFineTuning:
    """`methods` are those that it is for, if one of them may be `setfit`."""
    params = study.params
    return WithoutFineTuning(
        task=study.data.task,
        seed=seed,
        precision=params.precision,
        batch_size=params.evaluate.batch_size,
        class_weights=params.train.class_weights,
        baseline=params.baseline,
        model=_only(study.model, Pretrained),
        model_path=study.model_path,
        setfit=params.baseline.setfit if "setfit" in methods else None,
        generate=generate(study),
    )


def generate(study: Study) -> Generate | None:
    """The section `generate`, if the task is to write texts: of nothing else does it change a result."""
    return study.params.generate if study.task.writes else None


def written(study: Study) -> dict[str, int]:
    """How many rows of validation a method's own training writes for, where the task is to write; folds write none."""
    rows = study.params.generate.validation_rows
    return {"validation_rows": rows} if study.task.writes and rows else {}


def training(study: Study, method: str) -> Training:
    """Raises UserError if the model's file has no learning rate for the method, or PEFT has no such method."""
    params = study.params
    entry = params.train_peft.entries.get(method)
    if entry is not None:
        # Here: PEFT takes seconds to import, and by default none of its methods is chosen.
        from tunediff.models.peft_fields import check_entry

        check_entry(entry.peft_type, entry.model_extra, f"params.yaml: train_peft.entries.{method}")
    lora = params.train_lora.get(method.removeprefix("lora-")) if entry is None else None
    return Training(
        method=method,
        task=study.data.task,
        seeds=params.seeds,
        precision=params.precision,
        train=params.train,
        batch_size=params.evaluate.batch_size,
        learning_rate=entry.learning_rate if entry else study.model.learning_rate_of(method, study.model_path),
        # What only adapters read is no part of full fine-tuning.
        model=_only(study.model, Adapted if lora or entry else Pretrained),
        model_path=study.model_path,
        lora=lora,
        entry=entry,
    )


def prompting(study: Study, method: str) -> Prompting:
    params = study.params
    entry = params.prompts.entries[method]
    nearest = entry.shots > 0 and entry.examples == "nearest"
    model, path = study.language_models.get(method, (None, None))
    writing = params.generate if isinstance(FORMS[study.data.task], Writing) else None
    if writing and entry.endpoint and "options" not in entry.endpoint.model_fields_set:
        endpoint = entry.endpoint.model_copy(update={"options": options(writing)})
        entry = entry.model_copy(update={"endpoint": endpoint})
    return Prompting(
        method=method,
        task=study.data.task,
        seed=params.seed,
        precision=params.precision,
        batch_size=params.evaluate.batch_size,
        select_by=params.train.select_by,
        validation_rows=params.prompts.validation_rows,
        instruction=study.data.prompt,
        generate=writing,
        entry=entry,
        model=_only(model, Pretrained) if model else None,
        model_path=path,
        embedder=_only(study.model, Pretrained) if nearest else None,
        embedder_path=study.model_path if nearest else None,
    )


def asked(study: Study, method: str) -> str:
    """The name of the language model, as its file or its server has it."""
    endpoint = study.params.prompts.entries[method].endpoint
    if endpoint:
        return endpoint.model
    _, name = study.params.prompts.model_of(method)
    return name


def options(generate: Generate) -> dict[str, Any]:
    """The section `generate` as a server with OpenAI's interface takes it; it has no beams."""
    drawn = {"top_p": generate.top_p, "seed": generate.seed} if generate.temperature else {}
    stop = {"stop": generate.stop} if generate.stop else {}
    return {"temperature": generate.temperature, "max_tokens": generate.max_new_tokens, **drawn, **stop}


def adapters(params: Params) -> dict[str, str]:
    """Each trained adapter in a few words."""
    loras = {
        f"lora-{name}": f"LoRA of rank {one.rank}, layers: {one.targets}" for name, one in params.train_lora.items()
    }
    others = {name: params.train_peft.entries[name].peft_type for name in params.train_peft.methods}
    return loras | others


def _only(model: Pretrained, kind: type[Pretrained]) -> dict[str, Any]:
    """The keys of the model's file that `kind` has."""
    return model.model_dump(include=set(kind.model_fields), exclude_none=True)
