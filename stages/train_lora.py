"""Train one LoRA variant: low-rank updates of chosen layers, and the classification head.

dvc repro train_lora@v1
"""

from peft import LoraConfig, TaskType, get_peft_model

from stages.common import training
from stages.common.data import label_names, load_split
from stages.common.errors import UserError, run
from stages.common.models import load_classifier, load_tokenizer
from stages.common.params import Lora, ModelConf, load


def main() -> None:
    args = training.arguments(__doc__)
    settings = load()
    method = args.model.name
    variant = settings.params.train_lora[method.removeprefix("lora-")]
    learning_rate = settings.model.learning_rate_of(method, settings.model_path)
    config = lora_config(variant, settings.model, f"{settings.model_path}: targets")

    train, validation = (load_split(args.splits, name) for name in ("train", "validation"))

    tokenizer = load_tokenizer(settings.model, settings.model_path)
    model = load_classifier(settings.model, settings.model_path, tokenizer, label_names(train), settings.params.seed)
    model = get_peft_model(model, config)

    fitted = training.fit(model, tokenizer, train, validation, settings.params, learning_rate, args.curves)
    training.save(fitted, tokenizer, args)


def lora_config(variant: Lora, model: ModelConf, where: str) -> LoraConfig:
    """PEFT's settings for one variant. Raises UserError if the model's file does not name the variant's targets."""
    if variant.targets not in model.targets:
        raise UserError(f"{where}: no set of layers named '{variant.targets}'; there are: {', '.join(model.targets)}")
    return LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=variant.rank,
        lora_alpha=variant.alpha,
        lora_dropout=variant.dropout,
        target_modules=model.targets[variant.targets],
        # Trained whole, not through an update: a new head, and what else the model's file counts to it.
        modules_to_save=model.head or None,
    )


if __name__ == "__main__":
    run(main)
