"""The default run's methods as people write them: scripts around scikit-learn, the Trainer and PEFT, and an evaluation.

python -m benchmarks.peer_study full --out FOLDER    # tfidf, full, lora-NAME of params.yaml; then `evaluation`

Each reads the splits in data/prepared and the settings of params.yaml, which `benchmarks.study` runs them on. A table
of accuracy and macro F1 comes of them; they check, keep and explain nothing else.
"""

import argparse
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from datasets import Dataset
from peft import AutoPeftModelForSequenceClassification, LoraConfig, get_peft_model
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import make_pipeline
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    EvalPrediction,
    Trainer,
    TrainingArguments,
    set_seed,
)

from tunediff.core.splits import load_split
from tunediff.models.pretrained import locate
from tunediff.settings import resolve
from tunediff.settings.study import load
from tunediff.training.settings import Training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("script", help="tfidf, full, lora-NAME or evaluation")
    parser.add_argument("--out", type=Path, required=True, help="folder for all models and the table")
    parser.add_argument("--bf16", action="store_true")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.script == "tfidf":
        train = load_split(Path("data/prepared"), "train")
        words = TfidfVectorizer(ngram_range=(1, 2))
        fitted = make_pipeline(words, LogisticRegression(C=10, max_iter=1000)).fit(train["text"][:], train["label"][:])
        joblib.dump(fitted, args.out / "tfidf.joblib")
    elif args.script == "evaluation":
        evaluate(args.out, args.bf16)
    else:
        fine_tune(resolve.training(load(), args.script), args.out / args.script, args.bf16)


def fine_tune(training: Training, folder: Path, bf16: bool) -> None:
    """Train as the Trainer's documentation shows it; the best epoch's model is saved to `folder`."""
    splits = {name: load_split(Path("data/prepared"), name) for name in ("train", "validation")}
    place = locate(training.model, training.model_path)
    tokenizer = AutoTokenizer.from_pretrained(place)
    labels = splits["train"].features["label"].num_classes
    set_seed(training.seeds[0])  # of the new head
    model = AutoModelForSequenceClassification.from_pretrained(place, num_labels=labels)
    if variant := training.lora:
        options = {"r": variant.rank, "lora_alpha": variant.alpha, "lora_dropout": variant.dropout}
        targets = training.model.targets.get(variant.targets, variant.targets)
        model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", target_modules=targets, **options))
    values = training.train
    trainer = Trainer(
        model,
        TrainingArguments(
            str(folder / "checkpoints"),
            num_train_epochs=values.epochs,
            per_device_train_batch_size=values.batch_size,
            per_device_eval_batch_size=training.batch_size,
            learning_rate=training.learning_rate,
            weight_decay=values.weight_decay,
            warmup_steps=values.warmup,
            bf16=bf16,
            use_cpu=True,  # bf16 is refused without
            eval_strategy="epoch",
            save_strategy="epoch",
            load_best_model_at_end=True,
            metric_for_best_model="f1",
            dataloader_pin_memory=False,
            seed=training.seeds[0],
            report_to="none",
        ),
        train_dataset=encoded(tokenizer, splits["train"]),
        eval_dataset=encoded(tokenizer, splits["validation"]),
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=figures,
        callbacks=[EarlyStoppingCallback(values.patience)] if values.patience else [],
    )
    trainer.train()
    trainer.save_model(str(folder))


def encoded(tokenizer: AutoTokenizer, split: Dataset) -> Dataset:
    ids = tokenizer(split["text"][:], truncation=True, return_token_type_ids=False)
    return Dataset.from_dict({**ids, "labels": split["label"][:]})


def figures(prediction: EvalPrediction) -> dict[str, float]:
    return scores(prediction.label_ids, prediction.predictions.argmax(1))


def scores(actual: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    return {
        "accuracy": accuracy_score(actual, predicted),
        "f1": f1_score(actual, predicted, average="macro", zero_division=0),
    }


def evaluate(out: Path, bf16: bool) -> None:
    """Write table.csv with a row for each model in `out`: its figures on test."""
    test = load_split(Path("data/prepared"), "test")
    rows = [{"method": "tfidf", **scores(test["label"][:], joblib.load(out / "tfidf.joblib").predict(test["text"][:]))}]
    for folder in sorted(path for path in out.iterdir() if path.is_dir()):
        adapter = (folder / "adapter_config.json").exists()
        kind = AutoPeftModelForSequenceClassification if adapter else AutoModelForSequenceClassification
        options = {"num_labels": test.features["label"].num_classes} if adapter else {}
        tokenizer = AutoTokenizer.from_pretrained(folder)
        arguments = TrainingArguments(
            str(folder), per_device_eval_batch_size=64, bf16=bf16, use_cpu=True, report_to="none"
        )
        trainer = Trainer(
            kind.from_pretrained(folder, **options), arguments, data_collator=DataCollatorWithPadding(tokenizer)
        )
        rows.append({"method": folder.name, **figures(trainer.predict(encoded(tokenizer, test)))})
    pd.DataFrame(rows).to_csv(out / "table.csv", index=False)
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
